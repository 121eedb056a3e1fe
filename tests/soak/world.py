"""The processes of a long run: fake services, the gateway before them, and a client of it.

Knows: how they are started, watched and ended. Must not know: what is asked, what is concluded.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from doors import Ask, Door, Heard, ask_door

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
PATIENCE = 30.0  # seconds for whatever must come in the end


@dataclass(frozen=True)
class Sample:
    """The gateway's process in one second: see inside.py."""

    at: float
    rss: float
    blocks: int
    sockets: int
    tasks: int
    lag: float


@dataclass
class World:
    """`http` is a bare client of the gateway. `folder` holds its log and samples."""

    url: str
    http: aiohttp.ClientSession
    folder: Path
    _upstreams: asyncio.subprocess.Process

    async def hang_up(self) -> None:
        """Closes all connections to the gateway; the next request opens one anew."""
        await self.http.close()
        self.http = client()

    async def ask(self, door: Door, ask: Ask, model: str, stream: bool) -> Heard:
        return await ask_door(self.http, self.url, door, door.body(ask, model, stream))

    def samples(self) -> list[Sample]:
        """All so far, one a second."""
        try:
            lines = (self.folder / "samples").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [Sample(**json.loads(line)) for line in lines if line.endswith("}")]

    async def next_sample(self) -> Sample:
        """One that was taken from now on."""
        known = len(self.samples())
        while len(found := self.samples()) < known + 2:  # noqa: ASYNC110 - another process writes them
            await asyncio.sleep(0.1)
        return found[-1]

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    async def figure(self, name: str) -> float:
        """A number of the page of metrics, summed over its labels."""
        async with self.http.get(f"{self.url}/metrics") as response:
            page = await response.text()
        return sum(float(number) for number in re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", page, re.M))

    async def close_upstreams(self) -> None:
        """Ends the fakes, and with them every connection that the gateway keeps for the next request."""
        if self._upstreams.returncode is None and self._upstreams.stdin is not None:
            self._upstreams.stdin.close()
            await self._upstreams.wait()

    async def settled(self, calm: Callable[[Sample], bool]) -> Sample:
        """The first sample that is calm, or the last one when none is for long."""
        last = await self.next_sample()
        try:
            async with asyncio.timeout(PATIENCE):
                while not calm(last):
                    last = await self.next_sample()
        except TimeoutError:
            pass
        return last


@asynccontextmanager
async def upstreams_of(kinds: list[str]) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, str]]]:
    """-> the process, and kind -> address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "soak.upstreams", *kinds, cwd=TESTS,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stdin is not None
    try:
        yield process, json.loads(await process.stdout.readline())
    finally:
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def world(
    folder: Path, kinds: list[str], providers: Callable[[Mapping[str, str]], dict[str, Any]]
) -> AsyncIterator[World]:
    """`providers` makes the configuration's providers of the addresses of the fakes."""
    async with upstreams_of(kinds) as (upstreams, urls):
        nobody = {"ollama": {"base_url": "http://127.0.0.1:9"}}  # or it would ask an Ollama of this machine
        config = {"state_dir": str(folder / "state"), "providers": nobody | providers(urls)}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        log = (folder / "log").open("wb")
        gateway = await asyncio.create_subprocess_exec(
            sys.executable, TESTS / "soak" / "inside.py", folder / "samples",
            ROOT / "start_gateway.py", "127.0.0.1:0", "--config", folder / "config.yaml",
            env={"PATH": os.environ["PATH"], "HOME": str(folder)}, cwd=folder, stderr=log,
        )  # fmt: skip
        try:
            url = await address(folder / "log", gateway)
            made = World(url, client(), folder, upstreams)
            try:
                yield made
            finally:
                await made.http.close()
        finally:
            if gateway.returncode is None:
                gateway.terminate()
            await gateway.wait()
            log.close()


def client() -> aiohttp.ClientSession:
    """Without time-outs, and with as many connections as there are requests."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), connector=aiohttp.TCPConnector(limit=0))


async def address(log: Path, gateway: asyncio.subprocess.Process) -> str:
    """Where the gateway answers, as its start-up screen says."""
    async with asyncio.timeout(PATIENCE):
        while gateway.returncode is None:
            if told := re.search(r"OLLAMA_HOST=(http://\S+)\n.*ollama run echo", log.read_text()):  # noqa: ASYNC240
                return told[1]
            await asyncio.sleep(0.05)
    raise RuntimeError(f"the gateway does not start: see {log}")
