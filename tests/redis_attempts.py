"""One of several processes that share a limit: `python redis_attempts.py URL ATTEMPTS LIMIT` prints how many passed.

With the word `hold` for ATTEMPTS it takes streams until none is left, says how many it has, and waits to be killed.
"""

from __future__ import annotations

import asyncio
import sys
import time

from ollama_bridge.errors import GatewayError
from ollama_bridge.policy.limits import Counts, Limits, Rate
from ollama_bridge.store.redis import RedisStore

AT_ONCE = 50


class Silent:
    def info(self, event: str, **values: object) -> None:
        pass

    def warning(self, event: str, **values: object) -> None:
        raise AssertionError(f"{event}: {values}")


async def passes(limits: Limits, attempts: int, stream: bool) -> int:
    passed = 0

    async def work(share: int) -> None:
        nonlocal passed
        for _ in range(share):
            try:
                await limits.admit_request("fast", 10, stream)
            except GatewayError:
                continue
            passed += 1

    await asyncio.gather(*(work(attempts // AT_ONCE) for _ in range(AT_ONCE)))
    return passed


async def main(url: str, attempts: str, limit: int, lease: float) -> None:
    # Four busy processes on two cores: a pause of the machine is no loss of Redis here.
    store = RedisStore(url, Silent(), timeout=10.0, lease=lease)
    await store.start()
    assert store.link.up
    if attempts == "hold":
        limits = Limits(Counts(time.monotonic, store), Rate(streams=limit))
        print(await passes(limits, 2 * AT_ONCE, True), flush=True)
        await asyncio.Event().wait()
    # The second limit is wider: what it counts of a request that the first refuses is a mistake.
    limits = Limits(Counts(time.monotonic, store), Rate(requests=limit), models={"fast": Rate(tokens=10 * limit)})
    print(await passes(limits, int(attempts), False), flush=True)
    await store.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
