"""Runs the project's start script unchanged and writes down each second how its process does.

    python tests/soak/inside.py SAMPLES start_gateway.py ARGUMENTS

SAMPLES gets a JSON line a second: {"at": …, "rss": MB, "blocks": …, "sockets": …, "tasks": …, "lag": ms}. `at` is the
clock that all processes of a machine share; `blocks` are those that Python has given out, which tell a leak from memory
that the allocator took in one piece (1 MiB at a time); `lag` is the longest time in that second by which the loop was
late.

Knows: where the gateway is within its loop (when it shows its start-up screen), /proc. Must not know: the load.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any, TextIO

SECOND = 1.0
TICK = 0.02  # seconds between two looks at the clock
FILES = Path("/proc/self/fd")
MEMORY = Path("/proc/self/statm")


def sockets() -> int:
    found = 0
    for name in os.listdir(FILES):
        try:
            found += os.readlink(FILES / name).startswith("socket:")
        except FileNotFoundError:  # the directory that was listed
            pass
    return found


def sample(lag: float) -> dict[str, float]:
    resident = int(MEMORY.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    tasks = len(asyncio.all_tasks()) - 1  # but for the one that counts
    return {
        "at": time.monotonic(),
        "rss": resident / 1e6,
        "blocks": sys.getallocatedblocks(),
        "sockets": sockets(),
        "tasks": tasks,
        "lag": round(1000 * lag, 2),
    }


async def keep_sampling(lines: TextIO) -> None:
    loop = asyncio.get_running_loop()
    lag = 0.0
    due = loop.time() + SECOND
    while True:
        before = loop.time()
        await asyncio.sleep(TICK)
        now = loop.time()
        lag = max(lag, now - before - TICK)
        if now >= due:
            lines.write(json.dumps(sample(lag)) + "\n")
            lag, due = 0.0, due + SECOND


if __name__ == "__main__":
    samples, script, *sys.argv[1:] = sys.argv[1:]
    sys.argv[0] = script
    sys.path[0] = str(Path(script).resolve().parent)
    from ollama_bridge.terminal import screen

    shown = screen.startup
    kept: list[Any] = []

    def startup(*arguments: Any) -> None:
        lines = open(samples, "w", buffering=1)  # noqa: SIM115 - as long as the process
        kept.append(asyncio.get_running_loop().create_task(keep_sampling(lines)))
        shown(*arguments)

    screen.startup = startup
    runpy.run_path(script, run_name="__main__")
