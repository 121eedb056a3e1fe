"""JSON log lines on standard error: timestamp, level, logger, message, and what the event carries (product.md 4).

Knows: structlog. Must not know: prompts, answers, keys; callers never pass them.
"""

from __future__ import annotations

import logging
import sys

import structlog


def set_up(level: str) -> None:
    """`level` is one of debug, info, warning, error. The libraries below us log warnings only."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def logger(name: str) -> structlog.typing.FilteringBoundLogger:
    found: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind(logger=name)
    return found
