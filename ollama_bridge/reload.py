"""A changed configuration takes effect without a restart: on SIGHUP, and when one of its files has changed.

Knows: when to read the configuration anew, what is said of it. Must not know: how it is read, what is made of it.

All or nothing: a configuration that is wrong changes nothing, and the log names file, line and path.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

from .config import Config, ConfigError
from .errors import GatewayError
from .policy.ports import Log

SETTLE_MS = 200  # an editor writes a file in several steps: they are taken for one change
LOOK_MS = 2000  # how often files are looked at that no event has told of: a folder far up was exchanged
REST = 2.0  # seconds until folders are watched again that could not be


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
        self._moved = asyncio.Event()  # other files are to be watched
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._work()), asyncio.create_task(self._watch())]

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
            self._refuse(error.lines())
            return
        except Exception as error:
            self._refuse([_told(error, OSError)])
            return
        before = self._running.config
        try:
            self._running.change(config)
        except Exception as error:
            self._refuse([_told(error, ValueError, OSError, GatewayError)])
            return
        if config.files != before.files:
            self._moved.set()
        if config.server.listen != before.server.listen:
            self._log.warning("another address needs a restart", listen=str(before.server.listen))
        self._log.info("configuration reloaded", providers=len(config.providers), models=len(config.models))

    def _refuse(self, problems: list[str]) -> None:
        self._log.error("configuration not reloaded, the old one stays", problems=problems)

    async def _watch(self) -> None:
        """Folders are watched, not files: most editors put a new file in the place of the old one. Both the folder that
        a path names and the one that its links lead to: a mounted ConfigMap exchanges the links."""
        from watchfiles import awatch  # not before it is needed: it brings a library of its own

        seen: dict[Path, Look] = {}
        while True:
            self._moved.clear()
            files = self._running.config.files
            seen = {path: seen.get(path) or _look(path) for path in files}
            paths = _spellings(files)
            folders = {path.parent for path in paths if path.parent.is_dir()}
            if not folders:
                await self._moved.wait()
                continue
            watching = awatch(
                *folders,
                recursive=False,
                step=SETTLE_MS,
                debounce=4 * SETTLE_MS,
                stop_event=self._moved,
                rust_timeout=LOOK_MS,
                yield_on_timeout=True,
            )
            try:
                async with aclosing(watching):
                    async for changes in watching:
                        before, seen = seen, {path: _look(path) for path in files}
                        if seen != before or paths & {Path(path) for _, path in changes}:
                            self.ask()
                        if _spellings(files) != paths:
                            break
            except (OSError, RuntimeError):  # a folder went while it was about to be watched
                await asyncio.sleep(REST)


Look = tuple[str, int, int, int]  # where a path leads, and what tells one content from another


def _look(path: Path) -> Look:
    real = os.path.realpath(path)
    try:
        found = os.stat(real)
    except OSError:
        return real, 0, 0, 0
    return real, found.st_ino, found.st_mtime_ns, found.st_size


def _spellings(files: Iterable[Path]) -> set[Path]:
    """Each path as it is named, and as its links lead now."""
    return {spelled for path in files for spelled in (path.absolute(), Path(os.path.realpath(path)))}


def _told(error: Exception, *known: type[Exception]) -> str:
    """Words for the log. Those of an error that nobody expected may quote anything: its type must do."""
    return str(error) if isinstance(error, known) else type(error).__name__
