"""`make scale`: ten thousand short streams through every transport, and what each of them leaves behind.

    cd tests; python -m soak.streams [--streams N] [--page docs/evidence/streams.md]

For each transport a gateway of its own, told of that provider alone. Memory is read at ten points on the way, with
nothing in flight. In the first half caches fill; slopes are those of the line through the points of the second. Whether
something stays of each stream is seen in the blocks that Python has given out: the memory of the process grows by steps
of 1 MiB, and one such step must not be taken for a slope. Of a few hundred streams the figures mean little.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from doors import CHAT, V1, Ask, Turn
from transports import TRANSPORTS

from soak.figures import ARENA, BLOCKS_AT_MOST, PER, SLOPE_AT_MOST, Figure, bugs, left_over, page, publish, slope, table
from soak.upstreams import GOOD
from soak.world import Sample, World, world

POINTS = 10
AT_ONCE = 8
ASK = Ask((Turn("user", "Count."),))


@dataclass
class Run:
    """One transport. `points`: (streams so far, how the process did then)."""

    kind: str
    seconds: float
    idle: Sample
    points: list[tuple[int, Sample]]
    after: Sample
    active: float
    bugs: list[str]

    def figures(self) -> list[Figure]:
        settled = self.points[POINTS // 2 :]
        grown = slope([(count, sample.rss) for count, sample in settled])
        blocks = slope([(count, sample.blocks) for count, sample in settled])
        (first, begun), (last, ended) = self.points[0], self.points[-1]
        more, limit = ended.rss - begun.rss, ARENA + SLOPE_AT_MOST * (last - first) / PER
        return [
            Figure("streams", f"{last - first:,} in {self.seconds:.0f} s"),
            Figure("memory, MB", f"{begun.rss:.1f}, then {ended.rss:.1f}", f"< {limit:.2f} more", more < limit),
            Figure("memory slope, MB for 10,000", f"{grown:+.2f}"),
            Figure("blocks slope, for 10,000", f"{blocks:+,.0f}", f"< {BLOCKS_AT_MOST:,}", blocks < BLOCKS_AT_MOST),
            *left_over(self.idle, self.after),
            Figure("streams in the gauge", f"{self.active:g}", "0", self.active == 0),
            Figure("tracebacks and errors in the log", str(len(self.bugs)), "0", not self.bugs),
        ]


async def stream(here: World, kind: str, count: int) -> None:
    """So many, AT_ONCE at a time, each read to its end. Raises AssertionError for one that is not whole."""
    gate = asyncio.Semaphore(AT_ONCE)
    models = list(GOOD)

    async def one(number: int) -> None:
        model = models[number % len(models)]
        async with gate:
            heard = await here.ask((CHAT, V1)[number % 2], ASK, f"{kind}/{model}", True)
        assert heard.finished and heard.error is None, heard

    await asyncio.gather(*map(one, range(count)))


async def run(kind: str, streams: int) -> Run:
    transport = TRANSPORTS[kind]
    with tempfile.TemporaryDirectory() as folder:
        async with world(Path(folder), [kind], lambda urls: {kind: transport.entry(urls[kind])}) as here:
            idle = await here.next_sample()
            await stream(here, kind, streams // POINTS)
            began, points = time.monotonic(), [(0, await here.next_sample())]
            for point in range(1, POINTS + 1):
                await stream(here, kind, streams // POINTS)
                points.append((point * (streams // POINTS), await here.next_sample()))
            seconds = time.monotonic() - began
            active = await here.figure("active_streams")
            await here.hang_up()
            await here.close_upstreams()
            after = await here.settled(lambda now: now.sockets <= idle.sockets and now.tasks <= idle.tasks)
            return Run(kind, seconds, idle, points, after, active, bugs(here.log()))


def part(done: Run) -> str:
    """Its section of the page."""
    memory = "".join(
        f"| {count:,} | {now.rss:.1f} | {now.blocks:,} | {now.sockets} | {now.tasks} |\n" for count, now in done.points
    )
    way = "| streams | MB | blocks | sockets | tasks |\n| ---: | ---: | ---: | ---: | ---: |\n" + memory
    return f"## {done.kind}\n\n{table(done.figures())}\n{way}"


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=10_000, help="for each transport, after the first tenth")
    parser.add_argument("--transport", action="append", choices=list(TRANSPORTS), help="only this one; may be repeated")
    parser.add_argument("--page", help="where the page is written, from the project's folder")
    options = parser.parse_args()
    runs = [await run(kind, options.streams) for kind in options.transport or TRANSPORTS]
    told = f"{__doc__.partition('For each')[1]}{__doc__.partition('For each')[2]}"
    text = page("Ten thousand short streams through every transport", "make scale", [told, *map(part, runs)])
    publish(text, options.page)
    return int(any(figure.good is False for done in runs for figure in done.figures()))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
