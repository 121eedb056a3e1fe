"""`make chaos`: Redis is frozen, killed, slowed down, filled, locked, and comes and goes, under load.

    cd tests; python -m chaos.redis_faults [--seconds N] [--rate N] [--page docs/evidence/redis.md]

Two gateways of two processes each answer the same load in turns. Both count in Redis; that of the first has the fault.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml
from redis_server import FAULTS, RedisServer, SlowRoad, flapping, redis_server
from soak.figures import Figure, bugs, page, publish, table
from soak.world import ROOT, address

from chaos.interleaved import WITHIN, Tally, load

CALM = 3.0  # seconds before the fault
BACK = 12.0  # seconds after it, in which Redis must be in use again
WORKERS = 2
SLOWEST = 1.0  # seconds: the time limit of an answer of Redis, and the machine's own pauses


@dataclass
class Gateway:
    url: str
    log: Path


@asynccontextmanager
async def gateway(folder: Path, redis: str) -> AsyncIterator[Gateway]:
    """`folder` is there, and empty."""
    config = {
        "state_dir": str(folder / "state"),
        "providers": {"ollama": {"base_url": "http://127.0.0.1:9"}},
        "redis": redis,
        "limits": {"requests_per_minute": 10**6, "tokens_per_minute": 10**9, "concurrent_streams": 10**4},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    log = folder / "log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, ROOT / "start_gateway.py", "127.0.0.1:0", "--config", folder / "config.yaml",
            "--workers", str(WORKERS), env={"PATH": os.environ["PATH"], "HOME": str(folder)}, cwd=folder, stderr=file,
        )  # fmt: skip
        try:
            yield Gateway(await address(log, process), log)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


@dataclass
class Run:
    """One fault. `up`: redis_up before, at the end of the fault, and when Redis had had time to come back."""

    fault: str
    before: tuple[Tally, Tally]
    meanwhile: tuple[Tally, Tally]
    after: tuple[Tally, Tally]
    up: tuple[float, float, float]
    losses: int
    bugs: list[str]

    def figures(self) -> list[Figure]:
        hurt, control = self.meanwhile
        share = hurt.good / max(control.good, 1)
        everything = self.before[0] + hurt + self.after[0]
        failed = ", ".join(f"{count} {what}" for what, count in everything.failures.items()) or "none"
        ups = ("1", "any" if self.fault == "flapping" else "0", "1")
        return [
            Figure("requests, the control's beside them", f"{hurt.sent} and {control.sent}"),
            Figure("successes while it lasts", f"{hurt.good} and {control.good}", f">= {WITHIN:.0%}", share >= WITHIN),
            Figure("failures, before and after included", failed, "none", not everything.failures),
            Figure(
                "slowest, seconds", f"{hurt.slowest:.2f} and {control.slowest:.2f}", f"< {SLOWEST:g}",
                hurt.slowest < SLOWEST,
            ),
            Figure(
                "redis_up before, at the end of it, after it", " ".join(f"{up:g}" for up in self.up), " ".join(ups),
                all(want in ("any", f"{up:g}") for want, up in zip(ups, self.up, strict=True)),
            ),
            Figure("losses in the log, all workers", str(self.losses), f">= {WORKERS}", self.losses >= WORKERS),
            Figure("tracebacks and errors in the log", str(len(self.bugs)), "0", not self.bugs),
        ]  # fmt: skip


async def redis_up(http: aiohttp.ClientSession, url: str) -> float:
    async with http.get(f"{url}/metrics") as answer:
        found = re.search(r"^redis_up (\S+)$", await answer.text(), re.M)
    return float(found[1]) if found else -1.0


async def run(fault: str, rate: float, seconds: float) -> Run:
    with tempfile.TemporaryDirectory() as name, redis_server() as server, redis_server() as other:
        folders = [Path(name, which) for which in ("hurt", "control")]
        for folder in folders:
            os.mkdir(folder)
        async with (
            SlowRoad(server) as road,
            gateway(folders[0], road.url if fault == "slow" else server.url) as hurt,
            gateway(folders[1], other.url) as control,
            # A connection for each request: the kernel deals them out to the workers.
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as http,
        ):
            urls = hurt.url, control.url
            before, up = await load(http, urls, rate, CALM), await redis_up(http, hurt.url)
            async with during(fault, server, road):
                meanwhile, down = await load(http, urls, rate, seconds), await redis_up(http, hurt.url)
            after, back = await load(http, urls, rate, BACK), await redis_up(http, hurt.url)
            log = hurt.log.read_text(errors="replace")
    return Run(fault, before, meanwhile, after, (up, down, back), log.count('"redis is lost'), bugs(log))


@asynccontextmanager
async def during(fault: str, server: RedisServer, road: SlowRoad) -> AsyncIterator[None]:
    if fault == "flapping":
        task = asyncio.create_task(flapping(server))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            server.thaw()
        return
    breaks, mends = FAULTS[fault]
    await asyncio.to_thread(breaks, server, road)
    try:
        yield
    finally:
        await asyncio.to_thread(mends, server, road)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="that each fault lasts")
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second to each gateway")
    parser.add_argument(
        "--fault", action="append", choices=[*FAULTS, "flapping"], help="only this one; may be repeated"
    )
    parser.add_argument("--page", help="where the page is written, from the project's folder")
    options = parser.parse_args()
    runs = [await run(fault, options.rate, options.seconds) for fault in options.fault or [*FAULTS, "flapping"]]
    told = (
        f"Two gateways of {WORKERS} processes answer streams of the model echo in turns, {options.rate:g} a second\n"
        "each, with limits on that are never reached. Both count in a Redis; the first one's has the fault for\n"
        f"{options.seconds:g} s. Where two figures stand together, the second is the control's.\n"
    )
    parts = [f"## {done.fault}\n\n{table(done.figures())}" for done in runs]
    publish(page("Redis lost, frozen, slow, full, locked, flapping", "make chaos", [told, *parts]), options.page)
    return int(any(figure.good is False for done in runs for figure in done.figures()))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
