"""How late the event loop is: a loop that is held up answers nobody in time, whatever else is well.

Knows: one timer. Must not know: what holds the loop up.
"""

from __future__ import annotations

import asyncio

EVERY = 0.5  # seconds between two beats
KEPT = 120  # beats: one minute


class Pulse:
    """Beats once `start` is called in the loop, until `stop`. `lag`: seconds by which the worst beat of the last minute
    was late."""

    def __init__(self) -> None:
        self._late: list[float] = []
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._arm(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def lag(self) -> float:
        return max(self._late, default=0.0)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + EVERY
        self._timer = loop.call_at(self._due, self._beat, loop)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._late.append(max(loop.time() - self._due, 0.0))
        del self._late[:-KEPT]
        self._arm(loop)
