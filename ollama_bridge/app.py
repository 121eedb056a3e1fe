"""The composition root: a Config becomes a running gateway, which can be given another Config and comes to an orderly
end.

Knows: the doors and the engine behind them, the order in which both begin, change and end. Must not know: what an
engine is made of, how a configuration is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from aiohttp import web

from . import collector, workers
from .config import Address, Config
from .engine import Engine, Lasting
from .logs import logger, set_up
from .policy.marks import Marks
from .policy.metrics import forget, share
from .policy.ports import Log
from .reload import Reloading
from .terminal import screen
from .web.server import Doors, build

BACKLOG = 1024  # connections that wait to be taken in; more at a moment are reset
TURNS = 3  # of the loop, in which a request that has just come in reaches the doors
ENDING = 5.0  # seconds in which requests that are told to end can say so to their clients


@dataclass
class Running:
    """A gateway that answers. `url` is its address as a client would type it."""

    url: str
    address: str
    _bound: Address  # as configured at the start
    _port: int
    _engine: Engine
    _lasting: Lasting
    _doors: Doors
    _runner: web.ServerRunner
    _log: Log
    _exit: contextlib.AsyncExitStack = field(repr=False)
    _leaving: set[asyncio.Task[None]] = field(default_factory=set)
    _needed: set[Engine] = field(default_factory=set)  # engines of earlier configurations that still answer

    @property
    def config(self) -> Config:
        return self._engine.config

    def change(self, config: Config) -> None:
        """From the next request on `config` holds; requests under way end with what they began with. Where we listen
        does not change. Raises as making an engine does, and ValueError where it would take the key from what others
        can reach; then everything stays as it was."""
        self._check_reach(config)
        before, engine = self._engine, Engine(config, self._lasting, self._engine)
        set_up(config.server.log_level)
        engine.start(self._port)
        front = self._doors.change(engine.services, replace(engine.settings, bound_host=self._bound.host))
        self._lasting.limiting.change(config)
        self._engine = engine
        self._needed.add(before)
        task = asyncio.ensure_future(self._let_go(before, front.idle()))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _check_reach(self, config: Config) -> None:
        """A configuration is judged by the address it names, which need not be the one that we listen on."""
        bound, server = self._bound, config.server
        if server.listen.host != bound.host and not (bound.loopback or server.api_key or server.open):
            raise ValueError(
                f"it listens on {bound} without a key: another server.listen needs a restart, or set server.api_key"
            )

    async def _let_go(self, engine: Engine, idle: Coroutine[Any, Any, None]) -> None:
        await idle
        self._needed.discard(engine)
        await engine.close((self._engine, *self._needed))

    def hurry(self) -> None:
        """Requests under way are told to end now."""
        self._doors.end()

    async def stop(self, drain: float = 0.0) -> None:
        """Closes the doors; answers under way have `drain` seconds to end, then they are told to: a stream that cannot
        be ended as it should gets its error."""
        self._doors.close()
        for site in list(self._runner.sites):
            await site.stop()
        if self._runner.server is not None:
            self._runner.server.pre_shutdown()  # connections without a request end now, the others after theirs
            for _ in range(TURNS):
                await asyncio.sleep(0)
        if self._doors.open:
            self._log.info("ending", requests=self._doors.open, seconds=drain)
        if not await self._doors.idle_within(drain):
            self._log.warning("requests are cut off", requests=self._doors.open)
            self._doors.end()
            await self._doors.idle_within(ENDING)
        await self._runner.cleanup()
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        await self._exit.aclose()


async def start(config: Config, sockets: Sequence[socket.socket] = (), strict: Marks | None = None) -> Running:
    """Answers at the configured address, or on `sockets` that are bound to it; returns at once. `strict` as in
    Lasting.open. Raises OSError when the address is taken."""
    set_up(config.server.log_level)
    log = logger("ollama_bridge")
    exit_stack = contextlib.AsyncExitStack()
    try:
        lasting = await Lasting.open(log, exit_stack, strict)
        await lasting.limiting.start(config)
        engine = Engine(config, lasting)
        doors = Doors(engine.services, engine.settings)
        runner = web.ServerRunner(build(doors, engine.settings), shutdown_timeout=ENDING)
        await runner.setup()
        exit_stack.push_async_callback(runner.cleanup)
        listen = config.server.listen
        sites: list[web.BaseSite] = [web.SockSite(runner, sock, backlog=BACKLOG) for sock in sockets]
        for site in sites or [web.TCPSite(runner, listen.host, listen.port, backlog=BACKLOG)]:
            await site.start()
        port = runner.addresses[0][1]
        engine.start(port)
    except BaseException:
        await exit_stack.aclose()
        raise
    address = str(type(listen)(listen.host, port))
    running = Running(
        f"http://{client_host(listen.host)}:{port}",
        address,
        listen,
        port,
        engine,
        lasting,
        doors,
        runner,
        log,
        exit_stack,
    )
    exit_stack.push_async_callback(lambda: running._engine.close())
    return running


def client_host(host: str) -> str:
    """Where a client on this machine reaches a gateway bound to `host`."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host


def serve(config: Config, read: Callable[[], Config], processes: int = 1) -> None:
    """Runs until SIGINT or SIGTERM. `read` reads the configuration anew, on SIGHUP and when a file of it has changed,
    and raises ConfigError. Raises OSError when the address is taken."""
    if processes == 1:
        _run(_serve(config, read, partial(screen.startup, config)))
        return
    listen = config.server.listen
    with (
        workers.reserved(listen.host, listen.port) as kept,
        tempfile.TemporaryDirectory(prefix="ollama-bridge-") as counts,
    ):
        share(counts)
        address = str(type(listen)(listen.host, kept[0].getsockname()[1]))
        strict = Marks(time.monotonic)

        def work(tell: Callable[[], None], first: int) -> None:
            _run(_serve(config, read, lambda _: tell(), workers.listeners(kept), first, strict))

        set_up(config.server.log_level)
        log = logger("ollama_bridge")

        def lost(worker: int) -> None:
            forget(worker)
            log.error("a worker has died, another takes its place", worker=worker)

        workers.supervise(processes, work, lambda: screen.startup(config, address), lost)


def _run(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


async def _serve(
    config: Config,
    read: Callable[[], Config],
    started: Callable[[str], None],
    sockets: Sequence[socket.socket] = (),
    first: int | None = None,
    strict: Marks | None = None,
) -> None:
    """`started` is given the address. `first`: a file whose end is a reason to stop, as a signal is. A second signal
    ends at once."""
    running = await start(config, sockets, strict)
    started(running.address)
    collector.settle()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopping.is_set():
            running.hurry()
        stopping.set()

    loop.add_signal_handler(signal.SIGTERM, stop)
    if first is None:
        loop.add_signal_handler(signal.SIGINT, stop)
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's reaches all, and the first process passes it on
        loop.add_reader(first, stopping.set)
    reloading = Reloading(running, read, logger("ollama_bridge"))
    loop.add_signal_handler(signal.SIGHUP, reloading.ask)
    reloading.start()
    await stopping.wait()
    await reloading.stop()
    if first is not None:
        loop.remove_reader(first)
    await running.stop(running.config.server.drain)
