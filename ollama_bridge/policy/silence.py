"""Silence on a stream: the heart-beat that keeps a client waiting, and the limit after which a provider is given up.

Knows: one timer a stream, armed lazily, so that a token costs one clock reading. Must not know: wires, providers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from .ports import ClientGone, Sink


class Silence:
    """Watches one stream. `beat_every` seconds without content: status and headers go out and a heart-beat follows
    each such interval (house rules, section 3). After `arm_idle`, `idle` seconds without a byte call `on_stall` once,
    but not while `writing`: set before a write to the client, taken back by `heard`. Zero switches either off. `early`
    is called before headers go out without content."""

    def __init__(
        self,
        sink: Sink,
        beat_every: float,
        beat: bytes,
        content_type: str,
        headers: Mapping[str, str],
        early: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sink = sink
        self._beat_every = beat_every
        self._beat = beat
        self._content_type = content_type
        self._headers = headers
        self._early = early
        self._last = self._loop.time()
        self._heard = self._last
        self._idle = 0.0
        self._on_stall: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._starting: asyncio.Task[None] | None = None
        self.stalled = False
        self.writing = False  # a client that reads slowly is no silence of the provider's
        if beat_every:
            self._timer = self._loop.call_later(beat_every, self._tick)

    def heard(self) -> None:
        """Bytes came from upstream and content went to the client."""
        self._heard = self._last = self._loop.time()
        self.writing = False

    def heard_only(self) -> None:
        """Bytes came from upstream, nothing went to the client: the idle limit starts anew, the heart-beat does not."""
        self._heard = self._loop.time()

    def arm_idle(self, seconds: float, on_stall: Callable[[], None]) -> None:
        self._idle, self._on_stall = seconds, on_stall
        self._heard = self._loop.time()
        if seconds:
            self._arm()

    def disarm_idle(self) -> None:
        """Another provider is to be heard."""
        self._idle, self._on_stall, self.stalled, self.writing = 0.0, None, False, False

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = [self._last + self._beat_every] if self._beat_every else []
        if self._idle and not self.stalled:
            due.append(self._heard + self._idle)
        self._timer = self._loop.call_at(min(due), self._tick) if due else None

    def _tick(self) -> None:
        now = self._loop.time()
        if self.writing:
            self._heard = now
        if self._idle and not self.stalled and now >= self._heard + self._idle:
            self.stalled = True
            if self._on_stall is not None:
                self._on_stall()
        if self._beat_every and now >= self._last + self._beat_every:
            self._last = now
            if self._sink.started:
                self._sink.beat(self._beat)
            elif self._starting is None:
                self._starting = self._loop.create_task(self._start())
        self._arm()

    async def _start(self) -> None:
        self._early()
        try:
            await self._sink.start(self._content_type, self._headers)
            self._sink.beat(self._beat)
        except ClientGone:
            pass  # the handler is being cancelled for the same reason

    async def settled(self) -> None:
        """Returns once no heart-beat is in the middle of sending the headers. Call before writing."""
        if self._starting is not None:
            await self._starting

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._beat_every = self._idle = 0.0
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
