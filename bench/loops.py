"""The event loop of every program here: uvloop's where it is installed, as the bridge itself does."""

from __future__ import annotations

__all__ = ["new_event_loop"]

try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop  # type: ignore[assignment]
