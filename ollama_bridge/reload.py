"""A changed configuration takes effect without a restart: on SIGHUP, and when one of its files has changed.

Knows: when to read the configuration anew, what is said of it. Must not know: how it is read, what is made of it.

All or nothing: a configuration that is wrong changes nothing, and the log names file, line and path.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from .config import Config, ConfigError
from .policy.ports import Log

SETTLE_MS = 200  # an editor writes a file in several steps: they are taken for one change


class Changing(Protocol):
    """A gateway that runs."""

    @property
    def config(self) -> Config: ...

    def change(self, config: Config) -> None:
        """Raises ValueError, OSError and GatewayError when nothing can be made of it; everything stays then."""
        ...


class Reloading:
    """Started in the loop, stopped before the gateway is. `read` raises ConfigError."""

    def __init__(self, running: Changing, read: Callable[[], Config], log: Log) -> None:
        self._running = running
        self._read = read
        self._log = log
        self._asked = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._work())]
        if self._running.config.files:
            self._tasks.append(asyncio.create_task(self._watch(self._running.config.files)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def ask(self) -> None:
        """The configuration is read soon. Safe to call in a signal's handler; several calls in a row count as one."""
        self._asked.set()

    async def _work(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self._reload()

    async def _reload(self) -> None:
        try:
            config = await asyncio.to_thread(self._read)
        except ConfigError as error:
            self._log.error("configuration not reloaded, the old one stays", problems=error.lines())
            return
        before = self._running.config
        try:
            self._running.change(config)
        except (ValueError, OSError) as error:
            self._log.error("configuration not reloaded, the old one stays", problems=[str(error)])
            return
        if config.server.listen != before.server.listen:
            self._log.warning("another address needs a restart", listen=str(before.server.listen))
        self._log.info("configuration reloaded", providers=len(config.providers), models=len(config.models))

    async def _watch(self, files: Iterable[Path]) -> None:
        """Folders are watched, not files: most editors put a new file in the place of the old one."""
        from watchfiles import awatch  # not before it is needed: it brings a library of its own

        wanted = {path.resolve() for path in files}
        folders = {path.parent for path in wanted if path.parent.is_dir()}
        with contextlib.suppress(asyncio.CancelledError):
            async for changes in awatch(*folders, recursive=False, step=SETTLE_MS, debounce=4 * SETTLE_MS):
                if wanted & {Path(path) for _, path in changes}:
                    self.ask()
