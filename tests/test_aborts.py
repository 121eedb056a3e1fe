"""Clients that leave (product.md 5, row 17), a thousand at random points and some at every point of every transport:
the upstream is closed within 250 ms each time, and nothing is left behind: no traceback, no task, no socket, no stream
in the gauge.

The points are drawn from a fixed seed, so every run is the same. Times are those of the event loop that all three
sides live in.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
from doors import CHAT, GENERATE, V1, Ask, Door, Turn
from fakes.script import Call, Script, Seen, Trouble, Upstream
from gateway import Gateway, running, warm
from transports import TRANSPORTS
from watch import Watch, open_files, tasks, watching

CLIENTS = 1000
AT_ONCE = 10
SEED = 4
BRIEF = 0.25  # seconds within which an upstream must be closed
GUARD = 30.0  # seconds after which a test gives up waiting for what must come

ASK = Ask((Turn("user", "Count. " * 40),))
TEXT = tuple(f"number {number} " for number in range(20))
THOUGHTS = ("Hm. ", "Well. ")
POINTS = {  # where the client is when it leaves, and how often
    "in its own head": 1,
    "in its own body": 1,
    "before the upstream's headers": 3,
    "before content": 3,
    "in the answer's head": 2,
    "between frames": 4,
    "within a frame": 4,
    "while frames come": 6,
    "in a held tool call": 2,
    "at the last frame": 2,
    "in a whole answer": 2,
}
BEFORE_UPSTREAM = ("in its own head", "in its own body")
DOORS = (CHAT, GENERATE, V1)
BY_CHANCE = ("openai", "ollama")  # where the thousand are sent; each of the others is left at every point
# Frames of content after which a call has begun and is not whole yet; where calls come in one piece, before it.
IN_A_CALL = {"openai": 4, "huggingface": 4, "anthropic": 4, "google": 2, "ollama": 2}


@dataclass
class Leaver:
    """One client: which door it came through, to which upstream, where and how it leaves. `reset`: without a
    good-bye (RST), as when a machine is switched off; else as a program that ends (FIN)."""

    number: int
    door: Door
    provider: str
    point: str
    reset: bool
    place: int  # frames or bytes, where the point is one of several

    @property
    def model(self) -> str:
        return f"up-{self.number}"

    @property
    def stream(self) -> bool:
        return self.point != "in a whole answer"

    @property
    def reaches_upstream(self) -> bool:
        return self.point not in BEFORE_UPSTREAM

    def script(self) -> Script:
        """What the upstream does: it never comes to an end by itself."""
        if self.point in ("before the upstream's headers", "in a whole answer"):
            return Script(text=TEXT, hold=asyncio.Event())
        if self.point == "before content":
            return Script(text=TEXT, hold_content=asyncio.Event())
        if self.point == "in a held tool call":
            call = Call("look", ('{"where"', ': "he', 're"}'))
            return Script(text=TEXT[:2], calls=(call,), trouble=Trouble.STALL, after=IN_A_CALL[self.provider])
        if self.point == "while frames come":
            return Script(text=TEXT * 10, trouble=Trouble.STALL, after=10 * len(TEXT))
        if self.point == "at the last frame":
            return Script(text=TEXT, done=False, reason="", linger=True)
        return Script(text=TEXT, thinking=THOUGHTS, trouble=Trouble.STALL, after=12 + self.place % 10)

    def wire(self, host: str) -> bytes:
        body = json.dumps(self.door.body(ASK, f"{self.provider}/{self.model}", self.stream)).encode()
        head = f"POST {self.door.path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        whole = head + body
        if self.point == "in its own head":
            return whole[: 1 + self.place % (len(head) - 1)]
        if self.point == "in its own body":
            return whole[: len(head) + self.place % len(body)]
        return whole

    async def read_up_to_here(self, reader: asyncio.StreamReader) -> None:
        """What the client still takes in before it leaves."""
        if self.point == "in the answer's head":
            await reader.readexactly(1 + self.place % 100)
        elif self.point == "between frames":
            await reader.readuntil(b"number 0 ")
        elif self.point == "within a frame":
            await reader.readexactly(400 + self.place % 100)
        elif self.point == "while frames come":
            await reader.readexactly(500 + self.place % 5_000)
        elif self.point == "in a held tool call":
            await reader.readuntil(b"number 1 ")
        elif self.point == "at the last frame":
            await reader.readuntil(b"number 19 ")


def leavers(seed: int) -> list[Leaver]:
    chance = random.Random(seed)
    points = random.Random(seed).choices(list(POINTS), list(POINTS.values()), k=CLIENTS)
    return [
        Leaver(
            number,
            chance.choice(DOORS),
            chance.choice(BY_CHANCE),
            point,
            chance.random() < 0.5,
            chance.randrange(1_000_000),
        )
        for number, point in enumerate(points)
    ]


class Lag:
    """How long the loop has been held up since this was started, in seconds: a busy machine is no late gateway."""

    TICK = 0.005

    def __init__(self) -> None:
        self.seconds = 0.0
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + self.TICK
        self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        self.seconds += now - self._due
        self._due = now + self.TICK
        self._timer = self._loop.call_at(self._due, self._tick)

    def stop(self) -> None:
        self._timer.cancel()


@dataclass
class World:
    gateway: Gateway
    upstreams: dict[str, Upstream]
    watch: Watch
    lag: Lag

    async def leave(self, leaver: Leaver) -> float | None:
        """Comes, leaves -> seconds until the upstream knew; None when it had not been asked."""
        upstream = self.upstreams[leaver.provider]
        upstream.play(leaver.model, leaver.script())
        host, port = self.gateway.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(leaver.wire(host))
        seen: Seen | None = None
        if leaver.reaches_upstream:
            seen = await upstream.request_about(leaver.model)
            await leaver.read_up_to_here(reader)
        left, lag = asyncio.get_running_loop().time(), self.lag.seconds
        if leaver.reset:
            writer.transport.abort()
        else:
            writer.close()
        if seen is None:
            return None
        await seen.gone.wait()
        assert seen.gone_at is not None
        return seen.gone_at - left - (self.lag.seconds - lag)

    async def figure(self, name: str) -> float:
        """A number of the page of metrics, summed over its labels."""
        async with self.gateway.http.get(f"{self.gateway.url}/metrics") as response:
            page = await response.text()
        return sum(float(number) for number in re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", page, re.M))


@asynccontextmanager
async def world(folder: Path, *kinds: str) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        upstreams = {kind: await stack.enter_async_context(TRANSPORTS[kind].fake()) for kind in kinds}
        config = {
            "providers": {kind: TRANSPORTS[kind].entry(upstream.url) for kind, upstream in upstreams.items()},
            "timeouts": {"first_byte": "60s", "first_token": "60s", "idle": "60s", "total": "90s"},
        }
        with watching() as watch:
            async with running(folder, config) as gateway:
                made = World(gateway, upstreams, watch, Lag())
                for kind, upstream in upstreams.items():
                    await warm(gateway, upstream, kind)
                yield made
                made.lag.stop()
            watch.assert_quiet("the end")


async def test_a_thousand_clients_leave(tmp_path: Path) -> None:
    everyone = leavers(SEED)
    async with world(tmp_path, *BY_CHANCE) as here:
        await all_leave(here, everyone)
    print("left:", dict(Counter(leaver.point for leaver in everyone)))


@pytest.mark.parametrize("kind", sorted(TRANSPORTS.keys() - set(BY_CHANCE)))
async def test_clients_leave_at_every_point(tmp_path: Path, kind: str) -> None:
    ways = enumerate(product(POINTS, DOORS, (False, True)))
    everyone = [Leaver(number, door, kind, point, reset, 7 * number) for number, (point, door, reset) in ways]
    async with world(tmp_path, kind) as here:
        await all_leave(here, everyone)


async def all_leave(here: World, everyone: list[Leaver]) -> None:
    before = tasks(), open_files(), await here.figure("provider_failures_total")
    gate = asyncio.Semaphore(AT_ONCE)
    late: list[str] = []

    async def one(leaver: Leaver) -> None:
        async with gate:
            try:
                seconds = await asyncio.wait_for(here.leave(leaver), GUARD)
            except (TimeoutError, asyncio.IncompleteReadError) as error:
                raise AssertionError(f"{leaver}: {error!r}") from None
            if seconds is not None and seconds >= BRIEF:
                late.append(f"{seconds:.3f} s: {leaver}")

    for start in range(0, len(everyone), 50):
        for upstream in here.upstreams.values():
            upstream.seen.clear()
        await asyncio.gather(*map(one, everyone[start : start + 50]))
        here.watch.assert_quiet(f"clients {start} and on")
    assert not late

    await settled(here, *before)
    gone = sum(leaver.reaches_upstream for leaver in everyone)
    assert await here.figure("provider_failures_total") - before[2] == gone, "an attempt is unaccounted for"


async def settled(here: World, running: Counter[str], files: int, _: float) -> None:
    """Waits until all that the clients left behind is gone: tasks, sockets, streams in the gauge."""
    left: object = None
    try:
        async with asyncio.timeout(GUARD):
            while True:
                left = tasks() - running, max(open_files() - files, 0), await here.figure("active_streams")
                if left == (Counter(), 0, 0):
                    return
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"left behind: {left}") from None


def test_every_point_at_every_pair_is_among_them() -> None:
    seen = {(leaver.point, leaver.door.name, leaver.provider) for leaver in leavers(SEED)}
    assert len(seen) == len(POINTS) * 3 * 2
