"""The operating doors: is it alive, and what has it done.

Knows: /health, /ready and /metrics. Must not know: keys, models, providers.
"""

from __future__ import annotations

import asyncio

from ..dialects.base import Answer
from ..errors import refuse
from ..framing import dumps
from .ports import Metrics, State


def health() -> Answer:
    """That this was answered at all is the answer: the loop that everything runs in goes round."""
    return Answer(200, "application/json; charset=utf-8", b'{"status":"ok"}')


def state(source: State, admitted: bool) -> Answer:
    """All that is known, for whoever may know it: names of providers are nobody else's business."""
    if not admitted:
        raise refuse("unauthorized", status=401)
    return Answer(200, "application/json; charset=utf-8", dumps({"status": "ok", **source()}))


def ready(is_ready: bool) -> Answer:
    """Whether new requests are welcome: not while the gateway comes to its end. A store that is away is no reason."""
    if is_ready:
        return Answer(200, "application/json; charset=utf-8", b'{"status":"ready"}')
    return Answer(503, "application/json; charset=utf-8", b'{"status":"draining"}')


async def metrics(source: Metrics) -> Answer:
    """The page that Prometheus scrapes. It may have thousands of lines: it is made beside the loop."""
    page, content_type = await asyncio.to_thread(source.exposition)
    return Answer(200, content_type, page)
