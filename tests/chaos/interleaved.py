"""Two gateways under one load, of which only one has the fault: its successes beside those of the other.

Knows: a steady load, request by request to the one and to the other. Must not know: which fault there is.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

PATIENCE = 10.0  # seconds; whoever waits longer has failed
WITHIN = 0.9  # of the control's successes


@dataclass
class Tally:
    """What came of the requests to one gateway. `slowest` in seconds."""

    sent: int = 0
    good: int = 0
    slowest: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.sent + other.sent, self.good + other.good, max(self.slowest, other.slowest),
            self.failures + other.failures,
        )  # fmt: skip


async def request(http: aiohttp.ClientSession, url: str, tally: Tally) -> None:
    """One stream of the model `echo`, read to its end."""
    tally.sent += 1
    begun = time.monotonic()
    body = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}]}
    try:
        async with asyncio.timeout(PATIENCE), http.post(f"{url}/api/chat", json=body) as answer:
            lines = [json.loads(line) async for line in answer.content]
            if answer.status == 200 and lines and lines[-1].get("done"):
                tally.good += 1
            else:
                tally.failures[f"{answer.status} {lines[-1].get('error')}"] += 1
    except (aiohttp.ClientError, TimeoutError) as error:
        tally.failures[type(error).__name__] += 1
    tally.slowest = max(tally.slowest, time.monotonic() - begun)


async def load(http: aiohttp.ClientSession, urls: tuple[str, str], rate: float, seconds: float) -> tuple[Tally, Tally]:
    """`rate` requests a second to each of two gateways, in turns, whether or not earlier ones have ended."""
    tallies = Tally(), Tally()
    begun = time.monotonic()
    async with asyncio.TaskGroup() as requests:
        for number in range(int(2 * rate * seconds)):
            which = number % 2
            requests.create_task(request(http, urls[which], tallies[which]))
            await asyncio.sleep(max(begun + (number + 1) / (2 * rate) - time.monotonic(), 0))
    return tallies
