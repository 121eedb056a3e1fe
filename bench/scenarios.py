"""Steady loads on running gateways: what is asked, how often, and which figures come of it.

Knows: how to ask each kind of target, and the clocks. Must not know: goals, rounds.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from doors import WHOLE_END, Door
from figures import LONG, SHORT, Figures, percentile
from gateways import Gateway
from load import Load, Order, Outcome, no_collector

PROMPT = "Why is the sky blue? Answer in a few sentences, for somebody who knows a little physics."
LARGE_PROMPT = 50_000  # characters


@dataclass(frozen=True)
class Target:
    """A gateway and the door of it that is asked. `prefix` goes before the model name."""

    name: str
    gateway: Gateway
    door: Door
    prefix: str = ""

    def order(self, model: str, tokens: int, *, stamped: bool = False, prompt: str = PROMPT) -> Order:
        """A request for a stream of so many tokens; for 0 of them, for a whole answer."""
        stream = tokens > 0
        content = json.dumps(self.door.body(self.prefix + model, prompt, stream)).encode()
        path = self.door.path_for(self.prefix + model, stream)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.gateway.port}\r\nAccept: */*\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        return Order(head.encode() + content, self.door.last if stream else WHOLE_END, tokens or 1, stamped)


@dataclass(frozen=True)
class Scenario:
    """`requests` or `seconds` bounds it. `stagger`: seconds between the first requests of two connections."""

    model: str
    tokens: int
    connections: int
    requests: int = 0
    seconds: float = 0.0
    stagger: float = 0.0
    stamped: bool = False


SCENARIOS: dict[str, Scenario] = {
    "nonstream": Scenario("bench", 0, 16, seconds=2.0),
    "latency": Scenario("bench", 0, 1, requests=300),
    "flood": Scenario(f"bench-n{LONG}", LONG, 8, seconds=2.0),
    "short": Scenario(f"bench-n{SHORT}", SHORT, 8, seconds=1.5),
    # 13.7 ms are no divisor of 20: the streams' tokens fall between each other.
    "paced": Scenario("bench-n50-d20000-s", 50, 40, requests=100, stagger=0.0137, stamped=True),
    "ttft": Scenario("bench-n4-f5000-s", 4, 1, requests=200, stamped=True),
}


def measure(runner: asyncio.Runner, target: Target, name: str, effort: float, figures: Figures, turn: int) -> None:
    """Runs a scenario, `effort` (0 to 1) as long as a full one, and keeps its figures or what was wrong with it."""
    scenario = SCENARIOS[name]
    try:
        with no_collector():
            outcome, cpu = runner.run(_run(target, scenario, effort))
    except OSError as error:
        figures.fault(target.name, name, Counter({str(error): 1}))
        return
    if outcome.faults or not outcome.good:
        figures.fault(target.name, name, outcome.faults or Counter({"no answer": 1}))
        return
    for what, value in _figures_of(name, scenario, outcome, cpu):
        figures.put(target.name, f"{name}.{what}", turn, value)


async def _run(target: Target, scenario: Scenario, effort: float) -> tuple[Outcome, float]:
    order = target.order(scenario.model, scenario.tokens, stamped=scenario.stamped)
    # Connections are opened, and everything is called once, before the clocks are read.
    warm = target.order(f"bench-n{scenario.tokens and 4}", scenario.tokens and 4)
    warming = True
    load = Load(target.gateway.port, lambda _: warm if warming else order)
    try:
        await load.connect(scenario.connections)
        outcome = await load.run(requests=2 * scenario.connections)
        if outcome.faults:
            return outcome, 0.0
        warming = False
        before = target.gateway.cpu()
        if scenario.requests:
            requests = max(round(scenario.requests * effort), scenario.connections)
            outcome = await load.run(requests=requests, stagger=scenario.stagger)
        else:
            outcome = await load.run(seconds=scenario.seconds * effort)
        return outcome, target.gateway.cpu() - before
    finally:
        load.close()


def _figures_of(name: str, scenario: Scenario, outcome: Outcome, cpu: float) -> Iterable[tuple[str, float]]:
    each = 1e6 * cpu / outcome.good
    if name in ("nonstream", "latency"):
        yield "rate", outcome.good / outcome.wall
        yield "cpu", each
        yield "p50", percentile(outcome.latency, 0.5)
        yield "p99", percentile(outcome.latency, 0.99)
    else:
        yield "rate", outcome.tokens / outcome.wall
        yield "cpu_stream", each
        yield "cpu", each / scenario.tokens
        yield "p50", percentile(outcome.first_token, 0.5)
        yield "p99", percentile(outcome.first_token, 0.99)
    if outcome.transit:
        yield "transit_p50", percentile(outcome.transit, 0.5)
        yield "transit_p99", percentile(outcome.transit, 0.99)
    yield "busy", cpu / outcome.wall
