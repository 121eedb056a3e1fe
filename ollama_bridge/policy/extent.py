"""How much one request may hold. No model goes as far, and the work on it would hold up everyone else.

Knows: requests as values. Must not know: models, wires, bytes (the web layer bounds those).
"""

from __future__ import annotations

from typing import Any

from ..errors import refuse
from ..values import ChatRequest, EmbedRequest

PARTS_AT_MOST = 20_000  # messages, their blocks, tools and settings together


def check_extent(request: ChatRequest | EmbedRequest) -> None:
    """Raises GatewayError (400) for a request of too many parts. The texts of an embedding are no parts: each is short
    work."""
    if isinstance(request, EmbedRequest):
        return
    settings: list[Any] = [request.sampling.extra, request.sampling.stop or [], request.losses]
    for bag in request.vendor.values():
        settings += [bag, *(value for value in bag.values() if isinstance(value, dict | list))]
    parts = len(request.messages) + len(request.tools) + sum(map(len, settings))
    if parts <= PARTS_AT_MOST:
        parts += sum(len(message.blocks) for message in request.messages)
    if parts > PARTS_AT_MOST:
        raise refuse(f"the request has more than {PARTS_AT_MOST} messages, blocks, tools and settings")
