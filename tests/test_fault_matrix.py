"""What a provider can do wrong (product.md 5, rows 1 to 14) x every provider's wire x both doors, scored from outside:
by what the fake upstreams saw and what the client got. The other rows are in test_fault_life.

The faults stand in faults.py. After each of them the gateway is asked whether it is well. With `--write-evidence` the
outcomes are kept in docs/evidence.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio
from doors import CHAT, V1, Ask, Door, Heard, Turn
from evidence import outcome, record
from fakes.openai_wire import KEY
from fakes.script import Seen, Upstream
from fault_world import COUNT, DOORS, SECOND, World, account, entries, everywhere, fakes, model, spoken, warmed
from faults import ANSWER, FAULTS, PATIENT, SAID, WIRES, Fault, Outcome, failed, runs
from gateway import NO_BREAKERS, hardly_any_pause, running
from scenarios import DOT, WEATHER
from watch import watching

in_module = pytest.mark.asyncio(loop_scope="module")

WINDOW, IN_WINDOW, JITTER = 3.0, 3, 1.0  # seconds, attempts (row 2); what a busy machine may add or take

ASKS = {
    "count": COUNT,
    "tools": replace(COUNT, tools=(WEATHER,)),
    "picture": Ask((Turn("user", "What is it?", images=(DOT,)),)),
}


@dataclass(frozen=True)
class Cell:
    """A fault behind one wire, under a public name of its own. `doors` are asked one after the other."""

    fault: Fault
    wire: str
    doors: tuple[Door, ...] = DOORS

    @property
    def name(self) -> str:
        parts = (self.wire, *(door.name for door in self.doors), *self.fault.ways, self.fault.name.lower())
        return re.sub("[^a-z0-9]+", "-", "-".join(parts))


CELLS = [Cell(fault, wire) for fault in FAULTS for wire in WIRES]
PATIENT_CELLS = [Cell(fault, wire, (door,)) for fault in PATIENT for wire in WIRES for door in DOORS]


def configuration(upstreams: dict[str, Upstream]) -> dict[str, Any]:
    providers = entries(upstreams)
    models = {}
    for cell in (*CELLS, *PATIENT_CELLS):
        name, wire, fault = cell.name, cell.wire, cell.fault
        models[name] = model(wire, name, fault.alone, timeouts=dict(fault.limits))
        if fault.known is not None:
            for provider, known in zip((account(wire), SECOND[wire]), fault.known, strict=True):
                providers[provider].setdefault("models", {})[f"up-{name}"] = dict(known)
            if "capabilities" in fault.known[0]:
                del models[name]["capabilities"]  # each target's own count
    for wire in WIRES:
        models[f"{wire}-window"] = model(wire, f"{wire}-window", alone=True, context_length=1000)
        models[f"{wire}-begun"] = model(wire, f"{wire}-begun")
        models[f"{wire}-begun"]["targets"][1] = f"{account('anthropic')}/{NO_PREFILL}"
    return {"providers": providers, "models": models, "backoff": NO_BREAKERS}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    with watching() as watch, hardly_any_pause():
        async with fakes() as upstreams:
            folder = tmp_path_factory.mktemp("faults")
            async with running(folder, configuration(upstreams)) as gateway:
                await warmed(gateway, upstreams)
                world = World(gateway, upstreams, watch)
                yield world
                await world.well()


def named(faults: tuple[Fault, ...]) -> list[object]:
    return [
        pytest.param(fault, way, id=f"{fault.row}-{fault.name.replace(' ', '-')}-{way}") for fault, way in runs(faults)
    ]


@pytest.mark.parametrize(("fault", "way"), named(FAULTS))
@in_module
async def test_fault(world: World, fault: Fault, way: str) -> None:
    await everywhere((cell.name, at_each_door(world, cell, way)) for cell in CELLS if cell.fault == fault)
    await world.well()


@pytest.mark.parametrize("way", ["stream", "whole"])
@in_module
async def test_faults_that_are_waited_for(world: World, way: str) -> None:
    await everywhere((cell.name, at_each_door(world, cell, way)) for cell in PATIENT_CELLS if way in cell.fault.ways)
    await world.well()


async def at_each_door(world: World, cell: Cell, way: str) -> None:
    fault, wire, model = cell.fault, cell.wire, f"up-{cell.name}"
    first, second = world.upstreams[wire], world.upstreams[SECOND[wire]]
    for door in cell.doors:
        first.play(model, *fault.first_of(wire))
        second.play(model, *fault.second)
        before = len(first.about(model)), len(second.about(model))
        heard = await world.gateway.ask(spoken(door, wire), ASKS[fault.ask], cell.name, way == "stream")
        asked = first.about(model)[before[0] :], second.about(model)[before[1] :]
        record(fault.row, fault.name, way, door.name, wire, outcome(heard, len(asked[0]), account(wire)))
        check(heard, fault.outcome_of(wire), cell, door)
        assert (len(asked[0]), len(asked[1])) == fault.outcome_of(wire).asked
        a_few_at_a_time([*asked[0], *asked[1]])
        waited_for(fault, asked[0])


def check(heard: Heard, expect: Outcome, cell: Cell, door: Door) -> None:
    wire = cell.wire
    attempts = heard.headers.get("x-bridge-attempts", "1")
    if expect.by is not None:
        target = f"{(account(wire), SECOND[wire])[expect.by]}/up-{cell.name}"
        assert (heard.status, heard.text, heard.error) == (200, ANSWER, None)
        assert heard.finished and not heard.cut
        assert heard.headers["x-bridge-target"] == target
        assert attempts == str(sum(expect.asked))
        assert (heard.prompt, heard.completion) == (11, 7), "not the usage of who answered"
        if door is V1:
            assert heard.reason == expect.reason
        return
    assert heard.status == expect.status
    assert heard.error is not None and expect.words_of(wire) in heard.error, heard.error
    assert KEY not in heard.error and "127.0.0.1" not in heard.error
    assert not heard.finished and heard.reason is None, "it looks complete"
    if expect.status == 200:
        assert heard.text == expect.text, "not what came before it broke off"
    else:
        assert attempts == str(sum(expect.asked))


def a_few_at_a_time(asked: list[Seen]) -> None:
    times = sorted(seen.came_at for seen in asked)
    for earlier, later in zip(times, times[IN_WINDOW:], strict=False):
        assert later - earlier > WINDOW - JITTER, "more than three attempts in three seconds"


def waited_for(fault: Fault, asked: list[Seen]) -> None:
    """A Retry-After that is not given up is never cut short."""
    after = float(fault.first_of(WIRES[0])[0].headers.get("Retry-After", 0))
    for earlier, later in pairwise(asked):
        assert later.came_at - earlier.came_at >= after - 0.01


# -- row 12: trimmed first ---------------------------------------------------------------------------------------------
LONG = Ask(
    (
        Turn("user", "Count. " * 300),
        Turn("assistant", "One. " * 300),
        Turn("user", "Go on. " * 300),
        Turn("assistant", "Two. " * 300),
        *COUNT.turns,
    )
)


@in_module
async def test_what_is_longer_than_a_known_window_is_trimmed(world: World) -> None:
    """At Ollama's door, as Ollama does; a real Ollama trims by itself. OpenAI's clients are told of it instead."""
    await everywhere((wire, longer_than_the_window(world, wire)) for wire in WIRES)


async def longer_than_the_window(world: World, wire: str) -> None:
    upstream, name = world.upstreams[wire], f"{wire}-window"
    upstream.play(f"up-{name}", SAID)
    for door in DOORS:
        for way in ("stream", "whole"):
            heard = await world.gateway.ask(spoken(door, wire), LONG, name, way == "stream")
            record(12, "longer than the known window", way, door.name, wire, outcome(heard, 1, account(wire)))
            trimmed = door is CHAT and wire != "ollama"
            assert (heard.text, heard.finished) == (ANSWER, True)
            assert heard.headers.get("x-bridge-trimmed") == ("2" if trimmed else None)
            assert (b"One." in upstream.about(f"up-{name}")[-1].body) != trimmed


# -- row 14: a fallback that does not continue an answer ---------------------------------------------------------------
BEGUN = Ask((*COUNT.turns, Turn("assistant", "one ")))
NO_PREFILL = "claude-haiku-5-5"


@in_module
async def test_who_continues_no_answer_is_not_asked_to(world: World) -> None:
    await everywhere((wire, begun_elsewhere(world, wire)) for wire in WIRES)
    assert world.upstreams["anthropic"].about(NO_PREFILL) == []


async def begun_elsewhere(world: World, wire: str) -> None:
    upstream, name = world.upstreams[wire], f"{wire}-begun"
    upstream.play(f"up-{name}", failed(503))
    for door in DOORS:
        for way in ("stream", "whole"):
            before = len(upstream.about(f"up-{name}"))
            heard = await world.gateway.ask(spoken(door, wire), BEGUN, name, way == "stream")
            asked = len(upstream.about(f"up-{name}")) - before
            record(14, "the next continues no answer", way, door.name, wire, outcome(heard, asked, account(wire)))
            assert (heard.status, asked) == (503, 2)
