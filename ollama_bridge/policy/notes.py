"""What the X-Bridge-* headers of an answer say of a failure or of the provider.

Knows: header names, and what may stand in a header. Must not know: wires, aiohttp.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import GatewayError
from .ports import Exchange


def note_error(exchange: Exchange, error: GatewayError) -> None:
    """What the X-Bridge-* headers say of a failure."""
    notes = exchange.notes
    if error.reason:
        notes["X-Bridge-Reason"] = header_text(error.reason)
    if error.upstream_id:
        notes["X-Bridge-Upstream-Id"] = header_text(error.upstream_id)
    if error.near:
        notes["X-Bridge-Near"] = header_text(", ".join(error.near))


def header_text(words: str, limit: int = 300) -> str:
    """Text that may stand in a header: printable ASCII, no line ends, not long."""
    return "".join(c if " " <= c <= "~" else "?" for c in words)[:limit]


def upstream_request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's own id of the request, for the log and X-Bridge-Upstream-Id (providers.md 6.1)."""
    found = headers.get("x-request-id") or headers.get("request-id")
    return header_text(found) if found else None


def name_provider(error: GatewayError, name: str) -> None:
    """A dialect does not know whose wire it reads: its words begin with "the provider", and the name is put in here."""
    if error.provider is None:
        error.provider = name
        if error.message.startswith("the provider"):
            error.message = f"provider '{name}'" + error.message.removeprefix("the provider")
