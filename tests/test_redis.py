"""Limits and breakers over a real Redis: exact over several processes, given back by the dead, and never in the way."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_attempts import AT_ONCE
from redis_server import FAULTS, RedisServer, SlowRoad, redis_server

from ollama_bridge.errors import GatewayError
from ollama_bridge.policy.breaker import Breakers
from ollama_bridge.policy.limits import Counts, Limits, Rate
from ollama_bridge.store.link import SHORTEST_PAUSE, TIMEOUT, Lost
from ollama_bridge.store.redis import RedisStore

HERE = Path(__file__).parent
SOON = 5.0  # seconds in which things that take a moment must have happened


@pytest.fixture(scope="module")
def one_server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def server(one_server: RedisServer) -> Iterator[RedisServer]:
    """Empty, and for all tests that leave it alive."""
    with one_server.client() as client:
        client.flushall()
    yield one_server


class Said:
    """A log that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, **values: object) -> None:
        self.lines.append((event, values))

    warning = info

    @property
    def losses(self) -> list[object]:
        return [values["why"] for event, values in self.lines if event.startswith("redis is lost")]


Make = Callable[..., Awaitable[RedisStore]]


@pytest.fixture
async def store_of() -> AsyncIterator[Make]:
    """`await store_of(url, …)`: a store that is stopped with the test."""
    stores: list[RedisStore] = []

    async def make(url: str, said: Said | None = None, **more: Any) -> RedisStore:
        store = RedisStore(url, said or Said(), **more)
        stores.append(store)
        await store.start()
        return store

    yield make
    for store in stores:
        await store.stop()


async def soon(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not happened():  # noqa: ASYNC110 - what happens elsewhere sets no event here
            await asyncio.sleep(0.01)


def limited(store: RedisStore, rate: Rate) -> Limits:
    return Limits(Counts(time.monotonic, store), rate)


async def refused(limits: Limits, tokens: int = 0, stream: bool = False) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await limits.admit_request("m", tokens, stream)
    return caught.value


# ---- counting together -----------------------------------------------------------------------------------------------


async def attempt(server: RedisServer, what: str, limit: int, lease: float = 10.0) -> asyncio.subprocess.Process:
    arguments = [str(HERE / "redis_attempts.py"), server.url, what, str(limit), str(lease)]
    pipe = asyncio.subprocess.PIPE
    path = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    return await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=pipe, stderr=pipe, env=path)


async def test_limits_are_exact_over_four_processes(server: RedisServer) -> None:
    attempts, limit = 10_000, 1_000
    begun = time.monotonic()
    processes = [await attempt(server, str(attempts // 4), limit) for _ in range(4)]
    said = [await process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, said
    passed = [int(out) for out, _ in said]
    assert sum(passed) == limit, passed
    assert time.monotonic() - begun < 60  # the window of the first one has not moved on
    with server.client() as client:
        tokens = [int(n) for key, n in client.hgetall("{ollama-bridge}:count:model:fast").items() if key[0] == "t"]
    assert sum(tokens) == 10 * limit


async def test_a_killed_process_gives_its_streams_back(server: RedisServer, store_of: Make) -> None:
    lease = 1.5
    process = await attempt(server, "hold", 5, lease)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"5\n" and AT_ONCE > 5
    limits = limited(await store_of(server.url, lease=lease), Rate(streams=5))
    for _ in range(20):  # it is alive, and renews what it holds
        await refused(limits, stream=True)
        await asyncio.sleep(0.1)
    process.kill()
    await process.wait()
    begun = time.monotonic()
    await refused(limits, stream=True)
    await asyncio.sleep(lease + 0.1)
    for _ in range(5):
        await limits.admit_request("m", 0, True)
    await refused(limits, stream=True)
    assert time.monotonic() - begun < SOON


async def test_two_processes_see_each_other(server: RedisServer, store_of: Make) -> None:
    one, other = [limited(await store_of(server.url), Rate(requests=3, streams=1)) for _ in range(2)]
    permit = await one.admit_request("m", 0, True)
    assert "1 concurrent streams" in (await refused(other, stream=True)).message
    permit.release()
    (await other.admit_request("m", 0, True)).release()
    await one.admit_request("m", 0, False)
    error = await refused(other)
    assert error.message.startswith("the gateway's limit of 3 requests per minute is reached; try again in 6")
    assert 58 < (error.retry_after or 0) <= 61


async def test_tokens_are_corrected(server: RedisServer, store_of: Make) -> None:
    one, other = [limited(await store_of(server.url), Rate(tokens=100)) for _ in range(2)]
    permit = await one.admit_request("m", 80, False)
    assert (await refused(other, tokens=101)).retry_after is None
    await refused(other, tokens=40)
    permit.correct(10)
    await one.admit_request("m", 50, False)  # sent after the correction on the same connection
    await other.admit_request("m", 40, False)
    await refused(other, tokens=1)


async def test_what_a_cancelled_request_may_have_taken_is_given_back(server: RedisServer, store_of: Make) -> None:
    limits = limited(await store_of(server.url), Rate(streams=3))
    for wait in range(12):
        asking = asyncio.ensure_future(limits.admit_request("m", 0, True))
        for _ in range(wait):
            await asyncio.sleep(0)
        asking.cancel()
        for done in await asyncio.gather(asking, return_exceptions=True):
            if not isinstance(done, BaseException):
                done.release()
    for _ in range(3):
        await limits.admit_request("m", 0, True)


async def test_every_key_expires(server: RedisServer, store_of: Make) -> None:
    store = await store_of(server.url)
    await limited(store, Rate(9, 9, 9)).admit_request("m", 1, True)
    store.tell("lab/m", 5.0, 5.0, "provider")
    assert await store.claim("lab/m")
    with server.client() as client:
        keys = list(client.scan_iter())
        assert len(keys) >= 5 and all(key.startswith("{ollama-bridge}:") for key in keys)
        assert [key for key in keys if client.pttl(key) <= 0] == []


async def test_a_redis_that_was_started_anew_is_taught_the_scripts_again(server: RedisServer, store_of: Make) -> None:
    limits = limited(await store_of(server.url), Rate(requests=2))
    await limits.admit_request("m", 0, False)
    with server.client() as client:
        client.script_flush()
    await limits.admit_request("m", 0, False)
    await refused(limits)


# ---- breakers --------------------------------------------------------------------------------------------------------


class Breaking:
    """The breakers of one process, on Redis."""

    def __init__(self) -> None:
        self.breakers = Breakers(time.monotonic, 0.3, 60.0)

    def heard(self, *news: Any) -> None:
        self.breakers.heard(*news)


async def breaking(store_of: Make, server: RedisServer) -> Breakers:
    process = Breaking()
    process.breakers.board = await store_of(server.url, heard=process.heard, tick=0.05)
    return process.breakers


async def fail(breakers: Breakers, name: str, reason: str = "throttle", cool: float | None = None) -> None:
    entered = await breakers.enter(name)
    assert entered is not None
    entered.bad(reason, cool)


async def test_breakers_tell_each_other(server: RedisServer, store_of: Make) -> None:
    one, other = [await breaking(store_of, server) for _ in range(2)]
    await fail(one, "lab/m", cool=30.0)
    await soon(lambda: other.shut_for("lab/m") > 0)
    assert 28 < other.shut_for("lab/m") <= 30
    assert other.states()["lab/m"].reason == "throttle"


async def test_one_process_alone_sends_a_probe(server: RedisServer, store_of: Make) -> None:
    processes = [await breaking(store_of, server) for _ in range(4)]
    await fail(processes[0], "lab/m")
    await soon(lambda: all(each.states() for each in processes))
    await soon(lambda: not any(each.shut_for("lab/m") for each in processes))
    probes = [probe for each in processes if (probe := await each.enter("lab/m")) is not None]
    assert len(probes) == 1
    probes[0].good()
    await soon(lambda: not any(each.states() for each in processes))
    assert all([await each.enter("lab/m") for each in processes])


async def test_a_probe_outlives_its_lease_while_its_process_lives(server: RedisServer, store_of: Make) -> None:
    one, other = [await store_of(server.url, lease=0.3, tick=0.05) for _ in range(2)]
    assert await one.claim("lab/m")
    for _ in range(8):
        assert not await other.claim("lab/m")
        await asyncio.sleep(0.1)
    one.free("lab/m")
    await one.link.ask("hear", ("breakers",))
    assert await other.claim("lab/m")


# ---- Redis is lost ---------------------------------------------------------------------------------------------------


async def test_without_a_redis_from_the_start(tmp_path: Path, store_of: Make) -> None:
    said, ups = Said(), []
    store = await store_of(f"unix://{tmp_path}/none", said, changed=ups.append)
    limits = limited(store, Rate(requests=2))
    for _ in range(2):
        await limits.admit_request("m", 0, False)
    await refused(limits)
    assert await store.claim("lab/m")
    with pytest.raises(Lost):
        await store.link.ask("hear", ("breakers",))
    assert ups == [False] and len(said.losses) == 1


async def test_an_address_or_a_password_is_never_logged(server: RedisServer, store_of: Make) -> None:
    said = Said()
    server.lock("right")
    try:
        await store_of(server.url.replace("unix://", "unix://:hunter2@"), said)
    finally:
        server.unlock("right")
    assert said.losses and "hunter2" not in str(said.lines) and "redis.sock" not in str(said.lines)


def streams_in(server: RedisServer) -> int:
    with server.client() as client:
        now = client.time()[0] * 1000
        return int(client.zcount("{ollama-bridge}:streams:everyone", now, "+inf"))


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_lost_redis_costs_nothing_but_its_counts(fault: str, store_of: Make) -> None:
    """A steady load goes on: nothing fails, nobody waits longer than the time limit, streams come back to where they
    were taken, and when Redis is back it is used again."""
    breaks, mends = FAULTS[fault]
    said, ups = Said(), []
    with redis_server() as server:
        async with SlowRoad(server) as road:
            store = await store_of(road.url, said, changed=ups.append, lease=1.0)
            counts = Counts(time.monotonic, store)
            limits = Limits(counts, Rate(requests=10**6, streams=1000))
            slowest: list[float] = []

            async def request() -> None:
                begun = time.monotonic()
                permit = await limits.admit_request("m", 5, True)
                slowest.append(time.monotonic() - begun)
                await asyncio.sleep(0.05)
                permit.correct(7)
                permit.release()

            async def load(seconds: float) -> None:
                async with asyncio.TaskGroup() as requests:
                    for _ in range(int(seconds * 100)):
                        requests.create_task(request())
                        await asyncio.sleep(0.01)

            before = await limits.admit_request("m", 5, True)
            await load(0.2)
            breaking_it = asyncio.create_task(load(0.7))
            await asyncio.sleep(0.1)
            await asyncio.to_thread(breaks, server, road)
            await breaking_it
            meanwhile = await limits.admit_request("m", 5, True)
            assert not store.link.up and ups == [True, False] and len(said.losses) == 1, (ups, said.lines)
            await asyncio.to_thread(mends, server, road)
            await soon(lambda: store.link.up)
            before.release()
            meanwhile.release()
            await load(0.2)
            assert counts._counts["everyone"].streams == 0
            await soon(lambda: streams_in(server) == 0)
            assert max(slowest) < TIMEOUT + 0.15, max(slowest)
            assert ups[-1] is True


async def test_a_redis_that_comes_and_goes_is_asked_less_and_less(store_of: Make) -> None:
    said = Said()
    with redis_server() as server:
        store = await store_of(server.url, said)
        limits = limited(store, Rate(requests=10**6))
        begun = time.monotonic()
        while time.monotonic() - begun < 6 * SHORTEST_PAUSE:
            await limits.admit_request("m", 0, False)
            if store.link.up:
                server.lock("x")
                await limits.admit_request("m", 0, False)
                server.unlock("x")
            await asyncio.sleep(0.01)
        assert 2 <= len(said.losses) <= 4, said.lines
