"""Limits and breakers that several processes share, kept in Redis.

Knows: what is counted, leased and told, and under which keys (store/scripts). Must not know: how Redis is reached
(store/link), what the numbers limit.

Nothing here fails for Redis' sake: what cannot be asked is answered with "cannot be told", and the process goes on by
itself. Streams and probes are leases: a process renews what it holds every second, and what a killed process held is
free again after LEASE seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from secrets import token_hex

from .link import TIMEOUT, Link, Log, Lost
from .scripts import SCRIPTS

PREFIX = "{ollama-bridge}:"  # in braces: a cluster keeps all of it on one node, as scripts need it
LEASE = 10.0  # seconds
TICK = 1.0  # seconds between two looks at what others told, and between renewals
_TOGETHER = 500  # tickets renewed in one step
_BREAKERS = ("breakers",)

Claim = tuple[str, int, int, int]  # name; requests and tokens a minute, streams at once; 0 is no limit
Heard = Callable[[str, float, float, str], None]  # name, seconds it is open (0: closed), period in seconds, reason


class Taken:
    """What one take has brought. `full`: which claim, its kind, seconds to wait or None for never; None when all is
    counted."""

    __slots__ = ("_claims", "_second", "_store", "full", "ticket")

    def __init__(
        self,
        store: RedisStore,
        ticket: str,
        claims: Sequence[Claim],
        second: int,
        full: tuple[int, str, float | None] | None,
    ) -> None:
        self._store = store
        self._claims = claims
        self._second = second
        self.ticket = ticket
        self.full = full

    def correct(self, tokens: int) -> None:
        keys = tuple(f"count:{name}" for name, _, limit, _ in self._claims if limit)
        if keys:
            self._store.link.post("correct", keys, self._second, tokens)

    def release(self) -> None:
        self._store.release(self.ticket, self._claims)


class RedisStore:
    """`heard` is told what other processes' breakers did, `changed` when Redis is lost or back. In seconds: `timeout`
    of an answer, `lease` of streams and probes, `tick` between two looks. Start it in the loop, stop it before the loop
    ends."""

    def __init__(
        self,
        url: str,
        log: Log,
        *,
        heard: Heard = lambda name, seconds, period, reason: None,
        changed: Callable[[bool], None] = lambda up: None,
        timeout: float = TIMEOUT,
        lease: float = LEASE,
        tick: float = TICK,
    ) -> None:
        self.link = Link(url, SCRIPTS, log, prefix=PREFIX, timeout=timeout, changed=changed)
        self._lease = int(lease * 1000)
        self._tick = tick
        self._heard = heard
        self._me = token_hex(8)
        self._tickets = 0
        self._streams: dict[str, Sequence[Claim]] = {}  # ticket -> what it holds a stream of
        self._probes: set[str] = set()
        self._known: dict[str, int] = {}  # breaker -> when its last news was told, ms of Redis' clock
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.link.start()
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Streams and probes still held are given back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for ticket, claims in list(self._streams.items()):
            self.release(ticket, claims)
        for name in list(self._probes):
            self.free(name)
        with contextlib.suppress(Lost):
            await self.link.ask("hear", _BREAKERS)  # answered last: everything before it is done then
        await self.link.stop()

    # -- limits ------------------------------------------------------------------------------------------------------
    async def take(self, claims: Sequence[Claim], tokens: int, stream: bool) -> Taken | None:
        """All claims or none, in one step; None when Redis cannot tell."""
        if not self.link.up:
            return None
        self._tickets += 1
        ticket = f"{self._me}:{self._tickets}"
        keys = tuple([f"count:{claim[0]}" for claim in claims] + [f"streams:{claim[0]}" for claim in claims])
        numbers = [number for claim in claims for number in claim[1:]]
        try:
            which, *answer = await self.link.ask("take", keys, ticket, tokens, int(stream), self._lease, *numbers)
        except Lost:
            return None
        except asyncio.CancelledError:
            if stream:
                self.release(ticket, claims)  # it may have been granted
            raise
        if which >= 0:
            kind, wait = answer
            return Taken(self, ticket, claims, 0, (which, kind, None if wait < 0 else wait / 1000))
        if stream:
            self._streams[ticket] = claims
        return Taken(self, ticket, claims, answer[0], None)

    def release(self, ticket: str, claims: Sequence[Claim]) -> None:
        """A stream has ended."""
        self._streams.pop(ticket, None)
        keys = _streams(claims)
        if keys:
            self.link.post("release", keys, ticket)

    # -- breakers ----------------------------------------------------------------------------------------------------
    def tell(self, name: str, seconds: float, period: float, reason: str) -> None:
        self.link.post("tell", _BREAKERS, name, self._me, int(seconds * 1000), int(period * 1000), reason)

    async def claim(self, name: str) -> bool:
        try:
            ours = await self.link.ask("claim", (f"probe:{name}",), self._me, self._lease)
        except Lost:
            return True
        if ours:
            self._probes.add(name)
        return bool(ours)

    def free(self, name: str) -> None:
        self._probes.discard(name)
        self.link.post("free", (f"probe:{name}",), self._me)

    # -- every second ------------------------------------------------------------------------------------------------
    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._tick)
            self._renew()
            try:
                now, *news = await self.link.ask("hear", _BREAKERS)
            except Lost:
                continue
            self._hear(now, dict(zip(news[::2], news[1::2], strict=True)))

    def _renew(self) -> None:
        held = defaultdict(list)
        for ticket, claims in self._streams.items():
            for key in _streams(claims):
                held[key].append(ticket)
        for key, tickets in held.items():
            for start in range(0, len(tickets), _TOGETHER):
                self.link.post("renew", (key,), self._lease, *tickets[start : start + _TOGETHER])
        for name in self._probes:
            self.link.post("claim", (f"probe:{name}",), self._me, self._lease)

    def _hear(self, now: int, news: dict[str, str]) -> None:
        for name, record in news.items():
            at, until, period, writer, reason = record.split("\n")
            if writer != self._me and int(at) > self._known.get(name, 0):
                seconds = max(int(until) - now, 0) / 1000
                # What was opened and is due already needs no more telling than that it may be asked.
                if seconds or until == at:
                    self._heard(name, seconds, int(period) / 1000, reason)
        self._known = {name: int(record.partition("\n")[0]) for name, record in news.items()}


def _streams(claims: Sequence[Claim]) -> tuple[str, ...]:
    return tuple(f"streams:{claim[0]}" for claim in claims if claim[3])
