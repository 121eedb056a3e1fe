"""JSON log lines on standard error: timestamp, level, logger, message, and what the event carries (product.md 4).

Knows: structlog. Must not know: prompts, answers, keys; callers never pass them.

    {"timestamp":"2026-11-21T11:34:17.480213Z","level":"info","message":"attempt","logger":"ollama_bridge",…}
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import msgspec
import structlog

_encode = msgspec.json.Encoder(enc_hook=repr).encode
_second: tuple[int, str] = (0, "")  # the last one a line was written in, and its time stamp up to the second


def set_up(level: str) -> None:
    """`level` is one of debug, info, warning, error. The libraries below us log warnings only."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, _line],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def logger(name: str) -> structlog.typing.FilteringBoundLogger:
    found: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind(logger=name)
    return found


def _line(_: Any, level: str, fields: structlog.typing.EventDict) -> str:
    """The last processor. One a request is written, so it is made as cheaply as a line can be."""
    return _encode({"timestamp": _now(), "level": level, "message": fields.pop("event"), **fields}).decode()


def _now() -> str:
    """UTC, to the microsecond."""
    global _second
    second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    if _second[0] != second:
        _second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
    return f"{_second[1]}.{nanoseconds // 1000:06d}Z"
