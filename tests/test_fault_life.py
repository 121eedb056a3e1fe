"""The rest of product.md 5 with every provider's wire, at both doors: what happens over many requests, and to all of
them at once.

    15  a provider is down, then well again       here
    16  who answered after a fallback, and is billed
    17  the client leaves                         and test_aborts
    18  Redis is gone                             test_redis, chaos/redis_faults
    19  the end of the process                    and test_drain
    20  a bad configuration on reload             and test_reload
    21  junk                                      and test_junk, test_junk_heads, test_junk_pace
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
import yaml
from doors import Door
from evidence import record
from fakes.script import Script, Seen, Trouble
from fault_world import (
    COUNT,
    DOORS,
    GUARD,
    SECOND,
    World,
    account,
    entries,
    everywhere,
    fakes,
    leave,
    model,
    spoken,
    warmed,
)
from faults import ANSWER, SAID, TEXT, WIRES, failed, trouble
from gateway import hardly_any_pause, running
from watch import watching

from ollama_bridge.config import load
from ollama_bridge.logs import logger
from ollama_bridge.reload import Reloading

# Seconds within which an upstream must be closed (row 17). It is 0.25 where clients leave one after the other
# (test_faults, test_aborts); here they all do at once, in one loop with all that they leave.
BRIEF = 1.0
BASE = 0.15  # seconds that a breaker is open at first
SHUTTING_DOWN = "the gateway is shutting down: ask again"

Setup = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def world_of(tmp_path: Path) -> Setup:
    """`async with world_of(names) as world`: for each wire and name the model `WIRE-NAME`, its second target behind
    it."""

    @asynccontextmanager
    async def made(*names: str, **more: Any) -> AsyncIterator[World]:
        with watching() as watch, hardly_any_pause():
            async with fakes() as upstreams:
                models = {f"{wire}-{name}": model(wire, f"{wire}-{name}") for wire in WIRES for name in names}
                config = {"providers": entries(upstreams), "models": models, **more}
                async with running(tmp_path, config) as gateway:
                    await warmed(gateway, upstreams)
                    world = World(gateway, upstreams, watch)
                    yield world

    return made


def about(world: World, wire: str, name: str) -> tuple[list[Seen], list[Seen]]:
    """What the two targets of a model have seen."""
    return world.upstreams[wire].about(f"up-{wire}-{name}"), world.upstreams[SECOND[wire]].about(f"up-{wire}-{name}")


def play(world: World, wire: str, name: str, *first: Script) -> None:
    world.upstreams[wire].play(f"up-{wire}-{name}", *first)
    world.upstreams[SECOND[wire]].play(f"up-{wire}-{name}", SAID)


# -- row 15: down, then well again -------------------------------------------------------------------------------------
async def test_who_is_down_rests_and_comes_back(world_of: Setup) -> None:
    async with world_of("rests", backoff={"base": f"{BASE}s", "max": f"{4 * BASE}s"}) as world:
        await everywhere((wire, down_then_well(world, wire)) for wire in WIRES)
        await world.well()


async def down_then_well(world: World, wire: str) -> None:
    name = f"{wire}-rests"
    target = f"{account(wire)}/up-{name}"

    async def ask(number: int) -> str:
        """-> the target that answered."""
        door = DOORS[number % 2]
        heard = await world.gateway.ask(spoken(door, wire), COUNT, name, number % 4 < 2)
        assert (heard.status, heard.text, heard.finished) == (200, ANSWER, True), heard
        return heard.headers["x-bridge-target"]

    play(world, wire, "rests", failed(503))
    for number in range(3):
        assert await ask(number) != target
    first, second = about(world, wire, "rests")
    assert (len(first), len(second)) == (6, 3), "each asked twice, then taken over"
    assert await world.gauge(f'breaker_state{{name="{target}"}}') == 2

    # Open: who takes over answers at once, and of many that come in each period one alone is let through.
    number = 0
    while len(about(world, wire, "rests")[0]) < 6 + 3:
        number += 4
        assert target not in await asyncio.gather(*(ask(number + more) for more in range(4)))
    *_, opened = (each.came_at for each in first[:6])
    probes = [each.came_at for each in about(world, wire, "rests")[0][6:]]
    periods = chain((BASE, 2 * BASE), repeat(4 * BASE))
    for earlier, later, period in zip((opened, *probes), probes, periods, strict=False):
        assert later - earlier >= period - 0.05, "more than one probe a period"
    record(15, "down for a while", "both", "both", wire, "fallback, one probe a period")

    # Well: the next probe closes it, and everybody comes back.
    play(world, wire, "rests", SAID)
    while await ask(number) != target:
        number += 1
    before = len(about(world, wire, "rests")[1])
    for _ in range(5):
        number += 1
        assert await ask(number) == target
    assert len(about(world, wire, "rests")[1]) == before
    assert await world.gauge(f'breaker_state{{name="{target}"}}') == 0
    record(15, "well again", "both", "both", wire, "answer")


# -- row 16: who is named, who is billed -------------------------------------------------------------------------------
async def test_who_answered_is_named_and_alone_is_billed(world_of: Setup) -> None:
    async with world_of("billed") as world:
        for wire in WIRES:
            play(world, wire, "billed", failed(500))
            before = await figures(world)
            for door in DOORS:
                heard = await world.gateway.ask(spoken(door, wire), COUNT, f"{wire}-billed", True)
                target = f"{SECOND[wire]}/up-{wire}-billed"
                assert heard.headers["x-bridge-target"] == target
                assert f'"model":"{target}"'.encode() in heard.raw and f"{wire}-billed".encode() in heard.raw
                assert f'"model":"{wire}-billed"'.encode() not in heard.raw
            grown = {name: value - before.get(name, 0) for name, value in (await figures(world)).items()}
            one, other = account(wire), SECOND[wire]
            assert {name: value for name, value in grown.items() if value} == {
                f'provider_failures_total{{provider="{one}",reason="provider"}}': 4,
                f'fallbacks_total{{provider="{one}"}}': 2,
                f'provider_success_total{{provider="{other}"}}': 2,
                f'tokens_total{{kind="prompt",provider="{other}"}}': 22,
                f'tokens_total{{kind="completion",provider="{other}"}}': 14,
            }
            record(16, "after a fallback", "stream", "both", wire, "names and bills the second target")
        await world.well()


async def figures(world: World) -> dict[str, float]:
    """What is counted of providers."""
    async with world.gateway.http.get(f"{world.gateway.url}/metrics") as response:
        found = re.findall(
            r"^((?:provider_failures|provider_success|fallbacks|tokens)_total\S*) (\S+)$", await response.text(), re.M
        )
    return {re.sub(r"\{(.*)\}", lambda m: "{" + ",".join(sorted(m[1].split(","))) + "}", n): float(v) for n, v in found}


# -- row 17: the client leaves -----------------------------------------------------------------------------------------
LEAVES = {  # when; what the upstream does; whether it is asked for a stream; what has come before
    "before-headers": (trouble(Trouble.SILENT), True, b""),
    "before-content": (trouble(Trouble.STALL, 0), True, b""),
    "midway": (trouble(Trouble.STALL), True, b"one "),
    "whole": (trouble(Trouble.SILENT), False, b""),
}


async def test_the_client_leaves(world_of: Setup) -> None:
    names = [f"{phase}-{door.name}" for phase in LEAVES for door in DOORS]
    async with world_of(*names) as world:
        for phase in LEAVES:
            await everywhere((f"{wire} {phase}", leaves(world, wire, door, phase)) for wire in WIRES for door in DOORS)
        while await world.gauge("active_streams"):  # noqa: ASYNC110 - asked from outside
            await asyncio.sleep(0)
        for wire in WIRES:
            cancelled = f'provider_failures_total{{provider="{account(wire)}",reason="cancelled"}}'
            assert await world.gauge(cancelled) == len(names)
            for name in names:
                first, second = about(world, wire, name)
                assert (len(first), len(second)) == (1, 0), "somebody was asked for a client that had left"
        await world.well()


async def leaves(world: World, wire: str, door: Door, phase: str) -> None:
    script, stream, after = LEAVES[phase]
    name = f"{phase}-{door.name}"
    play(world, wire, name, script)
    models = f"{wire}-{name}", f"up-{wire}-{name}"
    gone = await leave(world.gateway, world.upstreams[wire], door, models, stream, after)
    assert gone < BRIEF
    way = "stream" if stream else "whole"
    record(17, f"the client leaves, {phase}", way, door.name, wire, f"closed within {1000 * BRIEF:.0f} ms")


# -- row 19: the end ---------------------------------------------------------------------------------------------------
async def test_the_end_is_told_in_every_stream(world_of: Setup) -> None:
    async with world_of(*(door.name for door in DOORS)) as world:
        asking = {}
        for wire in WIRES:
            for door in DOORS:
                play(world, wire, door.name, trouble(Trouble.STALL))
                request = world.gateway.ask(spoken(door, wire), COUNT, f"{wire}-{door.name}", True)
                asking[wire, door.name] = asyncio.ensure_future(request)
        for wire in WIRES:
            for door in DOORS:
                await world.upstreams[wire].request_about(f"up-{wire}-{door.name}")
        await world.gateway.running.stop()
        for (wire, door_name), answer in asking.items():
            heard = await asyncio.wait_for(answer, GUARD)
            assert heard.status == (200 if heard.text else 503)
            assert heard.text in ("", TEXT[0])
            assert (heard.error, heard.finished, heard.cut) == (SHUTTING_DOWN, False, False)
            assert len(about(world, wire, door_name)[1]) == 0
            record(19, "the gateway ends", "stream", door_name, wire, "in-stream error")


# -- row 20: reload ----------------------------------------------------------------------------------------------------
async def test_streams_outlive_a_reload_good_or_bad(world_of: Setup, tmp_path: Path) -> None:
    async with world_of("stays") as world:
        go_on = asyncio.Event()
        asking = {}
        for wire in WIRES:
            play(world, wire, "stays", Script(text=TEXT, hold_content=go_on))
            for door in DOORS:
                request = world.gateway.ask(spoken(door, wire), COUNT, f"{wire}-stays", True)
                asking[wire, door.name] = asyncio.ensure_future(request)
        for wire in WIRES:
            while len(about(world, wire, "stays")[0]) < len(DOORS):  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0)
        path = tmp_path / "config.yaml"
        good = yaml.safe_load(path.read_text())
        reloading = Reloading(world.gateway.running, lambda: load(path, env={}), logger("test"))
        path.write_text("models: [")
        await reloading._reload()
        for wire in WIRES:
            good["providers"][account(wire)]["headers"] = {"X-Changed": "1"}
        path.write_text(yaml.safe_dump(good))
        await reloading._reload()
        go_on.set()
        for (wire, door_name), answer in asking.items():
            heard = await asyncio.wait_for(answer, GUARD)
            assert (heard.text, heard.error, heard.finished) == (ANSWER, None, True)
            record(20, "a bad file, then another", "stream", door_name, wire, "answer")
        [line] = world.watch.lines.bugs
        assert "the old one stays" in line and "config.yaml:1" in line
        world.watch.lines.bugs.clear()
        for wire in WIRES:
            play(world, wire, "stays", SAID)
            assert (await world.gateway.ask(DOORS[1], COUNT, f"{wire}-stays", False)).text == ANSWER
            assert about(world, wire, "stays")[0][-1].headers["x-changed"] == "1"


# -- row 21: junk ------------------------------------------------------------------------------------------------------
JUNK = {
    "broken JSON": b'{"model": "MODEL", "messages": [',
    "no object": b'["MODEL"]',
    "messages of a wrong type": b'{"model": "MODEL", "messages": "hello"}',
    "a role of a wrong type": b'{"model": "MODEL", "messages": [{"role": 7, "content": "x"}]}',
    "a picture at a private address": b'{"model": "MODEL", "messages": [{"role": "user", "content": [{"type": "text", '
    b'"text": "x"}, {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}}]}]}',
}


async def test_junk_is_refused_in_the_door_s_own_shape(world_of: Setup) -> None:
    async with world_of("junk") as world:
        await everywhere((wire, junk(world, wire)) for wire in WIRES)
        await world.well()


async def junk(world: World, wire: str) -> None:
    play(world, wire, "junk", SAID)
    for door in DOORS:
        for what, body in JUNK.items():
            before = len(world.upstreams[wire].seen)
            sent = body.replace(b"MODEL", f"{wire}-junk".encode())
            async with world.gateway.http.post(world.gateway.url + door.path, data=sent) as response:
                answer = await response.json(content_type=None)
                status = response.status
            asked = len(world.upstreams[wire].seen) - before
            record(21, what, "whole", door.name, wire, f"{status} after {asked}" if status >= 400 else "answer")
            assert 400 <= status < 500 or "picture" in what, (what, status, answer)
            assert status < 500
            if status >= 400:
                error = answer["error"]
                assert isinstance(error, str if door is DOORS[0] else dict) and error
