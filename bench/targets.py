"""By which names gateways are measured: which program each is, which door of it is asked, how often.

Knows: programs and doors. Must not know: loads, figures, goals.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import doors
import gateways
from checks import Bench
from doors import Door
from gateways import Gateway, Program
from scenarios import Target


@dataclass(frozen=True)
class Place:
    """`prefix` goes before the model name. `aside`: asked in no scenario but those that a goal of its own needs.
    `rounds`: in no more of them than these, `effort`: each so much shorter (1: not at all)."""

    program: str
    door: Door
    prefix: str = ""
    aside: bool = False
    rounds: int | None = None
    effort: float = 1.0


def _wire(program: str, door: Door, prefix: str = "") -> Place:
    return Place(program, door, prefix, aside=True, rounds=3, effort=0.5)


PLACES: dict[str, Place] = {
    "direct": Place("upstream", doors.COMPLETIONS, aside=True),
    "floor": Place("floor", doors.COMPLETIONS),
    "translate": Place("translate", doors.CHAT),
    "typed": Place("typed", doors.CHAT),
    "bridge": Place("bridge", doors.CHAT, "lab/"),
    "relay": Place("bridge", doors.COMPLETIONS, "lab/"),
    "plain": Place("plain", doors.CHAT, "lab/", aside=True),
    "guarded": Place("guarded", doors.CHAT, aside=True),
    "anthropic floor": _wire("floor", doors.MESSAGES),
    "anthropic": _wire("wires", doors.CHAT, "anthropic/"),
    "gemini floor": _wire("floor", doors.CONTENT),
    "gemini": _wire("wires", doors.CHAT, "google/"),
    "huggingface floor": _wire("floor", doors.ROUTER),
    "huggingface": _wire("wires", doors.CHAT, "huggingface/"),
}


def start(bench: Bench, names: set[str], running: ExitStack) -> dict[str, Target]:
    """Starts the programs of these places, each once, until `running` is left."""
    programs: dict[str, Gateway] = {"upstream": bench.upstream}
    targets = {}
    for name, place in PLACES.items():
        if name not in names:
            continue
        if place.program not in programs:
            program = _program(place.program, bench)
            programs[place.program] = running.enter_context(Gateway(program, {bench.cores.gateway}, bench.folder))
        targets[name] = Target(name, programs[place.program], place.door, place.prefix)
    return targets


def _program(name: str, bench: Bench) -> Program:
    port = bench.upstream.port
    match name:
        case "bridge":
            return gateways.bridge(port, bench.folder)
        case "wires" | "plain" | "guarded":
            return gateways.bridge(port, bench.folder, config=f"{name}.yaml", name=name)
        case _:
            return gateways.reference(name, port)
