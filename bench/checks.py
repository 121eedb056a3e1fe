"""Measurements that need a gateway of their own, fresh and alone: memory, start, connections, the collector, leavers.

Knows: what each needs started and how it is read. Must not know: goals.

Each takes a Bench and the number of the round, and puts figures of the target "bridge" (or of references) there.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import doors
import gateways
import msgspec
from figures import Figures
from gateways import Cores, Gateway, NotStarted
from load import Load, get, leave
from scenarios import LARGE_PROMPT, PROMPT, Target, measure
from upstream import Stats

ALIVE = "bench-n1000-d1000000"  # a token a second: open, and as good as idle


@dataclass(frozen=True)
class Mode:
    """How much is done. `rounds` unless others are asked for; `effort`: 1 is a full scenario; `holders`: streams of
    `hold`; `requests` and `pause` (seconds) of `reuse`; `limit`: seconds it all may take, of which `kept` for checks.
    """

    rounds: int
    effort: float
    holders: int
    requests: int
    pause: float
    limit: float
    kept: float


@dataclass
class Bench:
    """What all measurements share. `unavailable`: check -> why it cannot be done."""

    runner: asyncio.Runner
    cores: Cores
    folder: Path
    upstream: Gateway
    mode: Mode
    figures: Figures = field(default_factory=Figures)
    unavailable: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def fresh_bridge(
        self, upstream: Gateway | None = None, *, config: str = "config.yaml", probed: bool = False
    ) -> Iterator[Target]:
        port = (upstream or self.upstream).port
        program = gateways.bridge(port, self.folder, config=config, probed=probed)
        with Gateway(program, {self.cores.gateway}, self.folder) as gateway:
            yield Target("bridge", gateway, doors.CHAT, "lab/")

    @contextmanager
    def fresh_upstream(self) -> Iterator[Gateway]:
        """One that nothing else has connected to."""
        with Gateway(gateways.upstream(), {self.cores.tools}, self.folder) as gateway:
            yield gateway

    def stats(self, upstream: Gateway) -> Stats:
        return msgspec.json.decode(self.runner.run(get(upstream.port, "/__stats")), type=Stats)


def hold(bench: Bench, turn: int) -> None:
    """hold.mib: memory of streams held open, scaled to 1,000 of them; hold_large.mib: the same with long prompts."""
    for kind, prompt in (("floor", PROMPT), ("bridge", PROMPT), ("bridge", "x" * LARGE_PROMPT)):
        program = (
            gateways.bridge(bench.upstream.port, bench.folder)
            if kind == "bridge"
            else gateways.reference(kind, bench.upstream.port)
        )
        with Gateway(program, {bench.cores.gateway}, bench.folder) as gateway:
            target = Target(kind, gateway, *((doors.COMPLETIONS,) if kind == "floor" else (doors.CHAT, "lab/")))
            name = "hold" if prompt is PROMPT else "hold_large"
            opened, grown, faults = bench.runner.run(_hold(target, bench.mode.holders, prompt))
            if faults or opened < bench.mode.holders:
                faults[f"{opened} of {bench.mode.holders} streams opened"] += 1
                bench.figures.fault(kind, name, faults)
                continue
            bench.figures.put(kind, f"{name}.mib", turn, 1000 * grown / opened)


async def _hold(target: Target, streams: int, prompt: str) -> tuple[int, float, Counter[str]]:
    """Streams opened, MiB grown by, faults."""
    warm = Load(target.gateway.port, lambda _: target.order("bench-n32", 32))
    await warm.connect(8)
    await warm.run(requests=100)
    warm.close()
    await asyncio.sleep(0.2)
    before = target.gateway.memory()
    order = target.order(ALIVE, 1000, prompt=prompt)
    load = Load(target.gateway.port, lambda _: order)
    try:
        await load.connect(streams)
        opened = await load.hold(stagger=0.008)  # opened faster, what is in work at once would be counted
        await asyncio.sleep(0.7)
        return opened, target.gateway.memory() - before, load.outcome.faults
    finally:
        load.close()


def idle(bench: Bench, turn: int) -> None:
    """idle.mib: memory with nothing asked and no SDK loaded; idle.sdks: how many are."""
    with bench.fresh_bridge(config="idle.yaml", probed=True) as target:
        time.sleep(0.5)
        loaded = target.gateway.ask_probe("sdks")
        bench.figures.put("bridge", "idle.sdks", turn, len(loaded.split(",")) if loaded else 0)
        bench.figures.put("bridge", "idle.mib", turn, target.gateway.memory())


def crowd(bench: Bench, turn: int) -> None:
    """crowd.first: how many of 1,000 streams at once have a token; crowd.faults: how many broke; crowd.off: how many
    upstream connections there are more or less than streams."""
    with bench.fresh_upstream() as upstream, bench.fresh_bridge(upstream) as target:
        order = target.order(ALIVE, 1000)

        async def run() -> tuple[int, Counter[str]]:
            load = Load(target.gateway.port, lambda _: order)
            try:
                await load.connect(1000)
                first = await load.hold(stagger=0.002)
                stats.append(msgspec.json.decode(await get(upstream.port, "/__stats"), type=Stats))
                return first, load.outcome.faults
            finally:
                load.close()

        stats: list[Stats] = []
        first, faults = bench.runner.run(run())
        bench.figures.put("bridge", "crowd.first", turn, first)
        bench.figures.put("bridge", "crowd.faults", turn, faults.total())
        bench.figures.put("bridge", "crowd.off", turn, abs(stats[0].open - 1000))


def reuse(bench: Bench, turn: int) -> None:
    """reuse.opened: upstream connections after many requests, 16 at a time; reuse.again: new ones after a pause."""
    connections = 16
    with bench.fresh_upstream() as upstream, bench.fresh_bridge(upstream) as target:
        kinds = (target.order("bench", 0), target.order("bench-n8", 8))

        async def run(count: int) -> Counter[str]:
            load = Load(target.gateway.port, lambda number: kinds[number % 2])
            try:
                await load.connect(connections)
                return (await load.run(requests=count)).faults
            finally:
                load.close()

        faults = bench.runner.run(run(bench.mode.requests))
        opened = bench.stats(upstream).connections
        time.sleep(bench.mode.pause)
        faults += bench.runner.run(run(10 * connections))
        if faults:
            bench.figures.fault("bridge", "reuse", faults)
            return
        bench.figures.put("bridge", "reuse.opened", turn, opened)
        bench.figures.put("bridge", "reuse.again", turn, bench.stats(upstream).connections - opened)


def workers(bench: Bench, turn: int) -> None:
    """workers.requests, workers.tokens: rates of two workers on both cores, over those of one that has its own core."""
    if bench.cores.gateway == bench.cores.tools:
        bench.unavailable["workers"] = "one core only"
        return
    program = gateways.bridge(bench.upstream.port, bench.folder, options=("--workers", "2"), name="workers")
    rates: dict[str, dict[str, float | None]] = {}
    scratch = Figures()
    try:
        with (
            Gateway(program, {bench.cores.gateway, bench.cores.tools}, bench.folder) as two,
            bench.fresh_bridge() as one,
        ):
            for target in (one, Target("workers", two, doors.CHAT, "lab/")):
                for name in ("nonstream", "flood"):
                    measure(bench.runner, target, name, bench.mode.effort, scratch, turn)
                    rates.setdefault(name, {})[target.name] = scratch.median(target.name, f"{name}.rate")
    except NotStarted as error:
        if error.code != 2:  # 2: an option it does not know
            raise
        bench.unavailable["workers"] = "start_gateway.py takes no --workers"
        return
    for (target_name, _), faults in scratch.faults.items():
        bench.figures.fault("bridge", "workers", Counter({f"{target_name}: {what}": n for what, n in faults.items()}))
    for name, what in (("nonstream", "requests"), ("flood", "tokens")):
        single, double = rates[name]["bridge"], rates[name]["workers"]
        if single and double:
            bench.figures.put("bridge", f"workers.{what}", turn, double / single)


def collector(bench: Bench, turn: int) -> None:
    """collector.started: ms of a full collection after the start."""
    with bench.fresh_bridge(probed=True) as target:
        bench.runner.run(_chat_once(target))  # what is loaded with the first chat belongs to the start
        bench.figures.put("bridge", "collector.started", turn, float(target.gateway.ask_probe("collect")))


def leavers(bench: Bench, turn: int) -> None:
    """leavers.ms: the longest time from a client's leaving to the upstream's noticing, leavers.left: how many it did
    not notice within a second, leavers.tracebacks: how many the gateway printed."""
    chance = random.Random(7)
    count = 2 * round(100 * bench.mode.effort)
    with bench.fresh_upstream() as upstream, bench.fresh_bridge(upstream) as ndjson:
        sse = Target("relay", ndjson.gateway, doors.COMPLETIONS, ndjson.prefix)
        bench.runner.run(_chat_once(ndjson))
        orders = [
            ((ndjson, sse)[n % 2].order(f"bench-n1000-d20000-i{n}", 1000), chance.randint(1, 20)) for n in range(count)
        ]
        left, outcome = bench.runner.run(leave(ndjson.gateway.port, orders))
        if outcome.faults or None in left:
            outcome.faults["streams without tokens"] += left.count(None)
            bench.figures.fault("bridge", "leavers", outcome.faults)
            return
        deadline = time.monotonic() + 1.0
        while (stats := bench.stats(upstream)).aborted < count and time.monotonic() < deadline:
            time.sleep(0.05)
        delays = [(stats.left[n] - at) / 1e6 for n, at in enumerate(left) if at is not None and n in stats.left]
        bench.figures.put("bridge", "leavers.left", turn, count - len(delays))
        bench.figures.put("bridge", "leavers.tracebacks", turn, ndjson.gateway.tracebacks())
        if delays:
            bench.figures.put("bridge", "leavers.ms", turn, max(delays))


def start(bench: Bench, turn: int) -> None:
    """start.cpu, start.wall: seconds until the first chat is answered; start.mib: memory then."""
    port = bench.upstream.port
    for program, prefix in ((gateways.bridge(port, bench.folder), "lab/"), (gateways.reference("typed", port), "")):
        with Gateway(program, {bench.cores.gateway}, bench.folder) as gateway:
            bench.runner.run(_chat_once(Target(program.name, gateway, doors.CHAT, prefix)))
            bench.figures.put(program.name, "start.wall", turn, time.monotonic() - gateway.started_at)
            bench.figures.put(program.name, "start.cpu", turn, gateway.cpu())
            bench.figures.put(program.name, "start.mib", turn, gateway.memory())


async def _chat_once(target: Target) -> None:
    """Raises OSError when it is not answered."""
    load = Load(target.gateway.port, lambda _: target.order("bench-n4", 4))
    try:
        await load.connect(1)
        outcome = await load.run(requests=1)
    finally:
        load.close()
    if outcome.faults:
        raise OSError(f"{target.name}: {', '.join(outcome.faults)}")


# In this order: when time runs out, the last are left out.
CHECKS: dict[str, Callable[[Bench, int], None]] = {
    "hold": hold,
    "start": start,
    "leavers": leavers,
    "collector": collector,
    "idle": idle,
    "crowd": crowd,
    "workers": workers,
    "reuse": reuse,
}

# Done before anything else: a limit in seconds, and minutes of load make many a virtual machine slower by half.
RESTED = frozenset({"start"})

# Checks whose figures are compared between targets or scatter: done in several rounds.
REPEATED = {"hold": 3, "workers": 3, "start": 5}
