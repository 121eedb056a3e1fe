"""The operating doors: is it alive, and what has it done.

Knows: /health and /metrics. Must not know: keys, models, providers.
"""

from __future__ import annotations

from ..dialects.base import Answer
from .ports import Metrics


def health() -> Answer:
    return Answer(200, "application/json; charset=utf-8", b'{"status":"ok"}')


def metrics(source: Metrics) -> Answer:
    """The page that Prometheus scrapes."""
    page, content_type = source.exposition()
    return Answer(200, content_type, page)
