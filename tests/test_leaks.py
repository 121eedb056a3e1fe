"""Hundreds of short streams through every transport: what they leave behind is nothing. The long form, ten thousand
each in a process of its own with its memory measured, is `make scale` (tests/soak/streams.py).

Memory is counted in objects: one of a kind that stays for each stream is a leak, however small. Bytes would tell less,
since the allocator keeps some.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from functools import reduce
from itertools import pairwise
from operator import and_
from pathlib import Path

import pytest
from doors import CHAT, V1, Ask, Door, Turn
from fakes.script import Call, Script, Upstream
from gateway import Gateway, running
from transports import TRANSPORTS
from watch import open_files, tasks, watching

ROUND = 120  # streams; what each of three rounds adds again is a leak, what one of them adds is a cache that fills
AT_ONCE = 6
LEAKED = ROUND // 4  # objects of one kind; each of the answers below is given in a third of a round

ASK = Ask((Turn("user", "Count."),))
ANSWERS = (
    Script(text=("one ", "two ", "three")),
    Script(text=("so: ",), calls=(Call("look", ('{"where"', ': "here"}')),)),
    Script(text=("one",), thinking=("Hm. ",), reason="length"),
)


async def streams(gateway: Gateway, upstream: Upstream, account: str, count: int) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        door: Door = (CHAT, V1)[number % 2]
        async with gate:
            heard = await gateway.ask(door, ASK, f"{account}/{number % len(ANSWERS)}", True)
        assert heard.finished and heard.error is None, heard

    await asyncio.gather(*map(one, range(count)))
    upstream.seen.clear()
    await asyncio.sleep(0)  # a turn, after which the loop has forgotten what just ended


def objects() -> Counter[str]:
    """How many there are of each kind that the collector knows."""
    gc.collect()
    return Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())


@pytest.mark.parametrize("kind", TRANSPORTS)
async def test_short_streams_leave_nothing(tmp_path: Path, kind: str) -> None:
    transport = TRANSPORTS[kind]
    async with transport.fake() as upstream:
        for number, script in enumerate(ANSWERS):
            upstream.play(str(number), script)
        config = {"providers": {kind: transport.entry(upstream.url)}}
        with watching() as watch:
            async with running(tmp_path, config) as gateway:
                await streams(gateway, upstream, kind, ROUND)
                files, at_work, counts = open_files(), tasks(), [objects()]
                for _ in range(3):
                    await streams(gateway, upstream, kind, ROUND)
                    counts.append(objects())
                grown = reduce(and_, (after - before for before, after in pairwise(counts)))
                assert {name: more for name, more in grown.items() if more >= LEAKED} == {}
                assert open_files() <= files + AT_ONCE
                assert tasks() - at_work == Counter()
            watch.assert_quiet(kind)
