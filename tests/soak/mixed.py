"""`make soak`: ten minutes at half of what the gateway can do, with everything that goes wrong in its day mixed in.

    cd tests; python -m soak.mixed [--seconds N] [--rate N] [--page docs/evidence/soak.md]

First the capacity: as many good requests as AT_ONCE clients can bring in a while. Then, at half of that rate and in an
order drawn from a fixed seed: both doors, streamed and whole, two upstreams; clients that leave before the answer and
in it; upstreams that refuse, break, cut, stop short and send garbage. Every answer is read by the strict readers of
tests/doors.py; an honest one must be whole and a spoilt one must say so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from doors import CHAT, GENERATE, V1, Ask, Door, Heard, Turn
from transports import TRANSPORTS

from soak.figures import SLOPE_AT_MOST, Figure, bugs, left_over, page, percentile, publish, slope, table
from soak.upstreams import BAD, ENDLESS, GOOD
from soak.world import PATIENCE, Sample, World, world

MINUTES = 10
AT_ONCE = 16  # clients that find out the capacity
CALIBRATION = 10.0  # seconds
MOST = 400  # requests in flight, beyond which the gateway does not keep up
WARM_UP = 0.25  # share of the run after which memory counts
SEED = 4
MIX = {"good": 78, "leaves": 10, "bad": 12}
KINDS = ["openai", "ollama"]
ASK = Ask((Turn("user", "Count. " * 40),))


@dataclass(frozen=True)
class Plan:
    """One request. `account`: the upstream that behaves, or the one that does not: what is held against the one for
    its failures must not reach the other."""

    sort: str
    door: Door
    account: str
    model: str
    stream: bool
    leaves_after: int = 0  # bytes of the answer; 0: before it

    @property
    def name(self) -> str:
        return f"{self.account}/{self.model}"


def providers(urls: Mapping[str, str]) -> dict[str, Any]:
    entries = {kind: TRANSPORTS[kind].entry(url) for kind, url in urls.items()}
    return entries | {f"bad-{kind}": entry for kind, entry in entries.items()}


def planned(chance: random.Random, sorts: Mapping[str, int]) -> Plan:
    (sort,) = chance.choices(list(sorts), list(sorts.values()))
    door: Door = chance.choice((CHAT, GENERATE, V1))
    kind, stream = chance.choice(KINDS), chance.random() < 0.7
    if sort == "good":
        return Plan(sort, door, kind, chance.choice(list(GOOD)), stream)
    if sort == "leaves":
        # Whoever waits for a whole answer leaves before it, as does who waits for a mute model's stream.
        model = chance.choice(list(ENDLESS))
        return Plan(sort, door, kind, model, stream, chance.randrange(600) if stream and model != "mute" else 0)
    return Plan(sort, door, f"bad-{kind}", chance.choice(list(BAD)).replace(" ", "-"), stream)


@dataclass
class Load:
    """Requests on their way. `done` counts those that are over, by what they were."""

    here: World
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    at_work: set[asyncio.Task[None]] = field(default_factory=set)
    most: int = 0

    async def one(self, plan: Plan) -> None:
        try:
            if plan.sort == "leaves":
                await self.leave(plan)
            else:
                heard = await self.here.ask(plan.door, ASK, plan.name, plan.stream)
                if wrong := judged(plan, heard):
                    self.wrong.append(f"{plan}: {wrong}")
        except (AssertionError, aiohttp.ClientError, EOFError, ValueError) as error:
            self.wrong.append(f"{plan}: {error!r:.300}")
        self.done[plan.sort] += 1

    async def leave(self, plan: Plan) -> None:
        """Asks on a connection of its own and leaves."""
        body = plan.door.body(ASK, plan.name, plan.stream)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if plan.leaves_after else self.chance.random() / 5):
                    async with http.post(self.here.url + plan.door.path, json=body) as response:
                        await response.content.readexactly(plan.leaves_after)

    async def flat_out(self, seconds: float) -> float:
        """-> good requests a second that AT_ONCE clients can have."""
        began = time.monotonic()

        async def client() -> None:
            while time.monotonic() < began + seconds:
                await self.one(planned(self.chance, {"good": 1}))

        before = self.done.total()
        await asyncio.gather(*(client() for _ in range(AT_ONCE)))
        return (self.done.total() - before) / (time.monotonic() - began)

    async def steadily(self, rate: float, seconds: float) -> list[tuple[float, int]]:
        """Sends at this rate whatever comes back -> (time, requests over by then) each second."""
        began = told = time.monotonic()
        counts = [(began, self.done.total())]
        sent = 0
        while (now := time.monotonic()) < began + seconds:
            due = min(int((now - began) * rate) - sent, AT_ONCE, MOST - len(self.at_work))
            sent = int((now - began) * rate)  # what this process was too late for is not made up in one burst
            for _ in range(due):
                task = asyncio.create_task(self.one(planned(self.chance, MIX)))
                self.at_work.add(task)
                task.add_done_callback(self.at_work.discard)
            self.most = max(self.most, len(self.at_work))
            if now >= told + 1:
                told = now
                counts.append((now, self.done.total()))
            await asyncio.sleep(0.005)
        _, late = await asyncio.wait(self.at_work, timeout=PATIENCE) if self.at_work else (set(), set())
        self.wrong += ["a request that never ended"] * len(late)
        return counts


def judged(plan: Plan, heard: Heard) -> str:
    """What is wrong with an answer, "" for nothing."""
    if plan.sort == "good":
        fine = heard.status == 200 and heard.error is None and (heard.finished or not plan.stream) and not heard.cut
        return "" if fine else f"{heard.status} {heard.error} {heard.text[:80]!r}"
    told = heard.status >= 400 or heard.error is not None or heard.cut
    return "" if told else f"presented as whole: {heard.text[:80]!r}"


def after_warm_up(counts: list[tuple[float, int]], samples: list[Sample]) -> list[tuple[int, Sample]]:
    """(requests over, how the process did then), each second."""
    begin = counts[0][0] + WARM_UP * (counts[-1][0] - counts[0][0])
    return [(count, min(samples, key=lambda s: abs(s.at - at))) for at, count in counts if at >= begin]


async def soak(seconds: float, rate: float | None) -> tuple[list[Figure], list[str]]:
    """At half of the capacity, or at `rate` requests a second -> the figures, and what was wrong."""
    with tempfile.TemporaryDirectory() as folder:
        async with world(Path(folder), KINDS, providers) as here:
            idle = await here.next_sample()
            load = Load(here)
            await load.flat_out(CALIBRATION / 2)
            capacity = await load.flat_out(CALIBRATION)
            began, load.done = time.monotonic(), Counter()
            counts = await load.steadily(rate or capacity / 2, seconds)
            ended = time.monotonic()
            await here.hang_up()
            active = await here.figure("active_streams")
            await here.hang_up()
            await here.close_upstreams()
            after = await here.settled(lambda now: now.sockets <= idle.sockets and now.tasks <= idle.tasks)
            samples = [sample for sample in here.samples() if began <= sample.at <= ended]
            found = bugs(here.log())
    points = after_warm_up(counts, samples)
    grown = slope([(count, sample.rss) for count, sample in points])
    blocks = slope([(count, sample.blocks) for count, sample in points])
    done = load.done
    figures = [
        Figure("capacity, good requests a second", f"{capacity:.0f}"),
        Figure("rate, requests a second", f"{done.total() / (ended - began):.0f}"),
        Figure("requests", f"{done.total():,} in {ended - began:.0f} s"),
        *(Figure(f"of them {sort}", f"{count:,}") for sort, count in sorted(done.items())),
        Figure("most in flight", str(load.most), f"< {MOST}", load.most < MOST),
        Figure("answers that were wrong", str(len(load.wrong)), "0", not load.wrong),
        Figure("memory after the warm-up, MB", f"{points[0][1].rss:.1f}, then {points[-1][1].rss:.1f}"),
        Figure("memory slope, MB for 10,000 requests", f"{grown:+.2f}", f"< {SLOPE_AT_MOST:g}", grown < SLOPE_AT_MOST),
        Figure("blocks of Python's, slope for 10,000 requests", f"{blocks:+,.0f}"),
        Figure("loop late by, ms (median second, 99 %, worst)", lateness(samples)),
        Figure("streams in the gauge at the end", f"{active:g}", "0", active == 0),
        *left_over(idle, after),
        Figure("tracebacks and errors in the log", str(len(found)), "0", not found),
    ]
    return figures, load.wrong + found


def lateness(samples: list[Sample]) -> str:
    lags = [sample.lag for sample in samples]
    return ", ".join(f"{percentile(lags, share):.1f}" for share in (0.5, 0.99, 1.0))


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0 * MINUTES)
    parser.add_argument("--rate", type=float, help="requests a second, instead of half of the capacity")
    parser.add_argument("--page", help="where the page is written, from the project's folder")
    options = parser.parse_args()
    figures, wrong = await soak(options.seconds, options.rate)
    parts = [f"{__doc__.partition(chr(10) * 2)[2].partition(chr(10) * 2)[2].strip()}\n", table(figures)]
    if wrong:
        parts.append("## Wrong\n\n```\n" + "\n".join(wrong[:20]) + "\n```\n")
    publish(page("The gateway under a mixed load", "make soak", parts), options.page)
    return int(any(figure.good is False for figure in figures))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
