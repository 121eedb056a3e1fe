"""Eyes on a gateway that is being hurt: what it logged, what it left behind.

Knows: where structlog, logging and asyncio speak up; how Linux counts open files. Must not know: what hurts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_FILES = Path("/proc/self/fd")


class _Lines(io.TextIOBase):
    """Standard error of the gateway: keeps the lines that tell of a bug."""

    def __init__(self) -> None:
        self.bugs: list[str] = []

    def write(self, text: str) -> int:
        if '"level":"error"' in text or "Traceback" in text or '"traceback"' in text:
            self.bugs.append(text.strip())
        return len(text)


class Watch(logging.Handler):
    """Bugs that were logged, by the gateway itself (`handler failed`) or by the libraries below it: a traceback, an
    exception nobody fetched, a connection nobody closed. `with watching() as watch` before the gateway starts."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines = _Lines()
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "fakes":
            self.records.append(self.format(record))

    @property
    def bugs(self) -> list[str]:
        return self.lines.bugs + self.records

    def assert_quiet(self, after: object = "") -> None:
        """Raises AssertionError, once for each bug."""
        bugs, self.lines.bugs, self.records = self.bugs, [], []
        assert not bugs, f"logged after {after!r:.2000}:\n" + "\n".join(map(_readable, bugs))


def _readable(line: str) -> str:
    """A JSON line of the gateway's with its traceback as it would be printed."""
    try:
        fields: dict[str, Any] = json.loads(line)
    except ValueError:
        return line
    return f"{fields.get('message')}: {fields.get('error')}\n{fields.get('traceback', fields)}"


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
    watch = Watch()
    root = logging.getLogger()
    root.addHandler(watch)
    try:
        with contextlib.redirect_stderr(watch.lines):
            yield watch
    finally:
        root.removeHandler(watch)


def open_files() -> int:
    """Descriptors this process holds."""
    return len(os.listdir(_FILES))


def tasks() -> Counter[str]:
    """What runs in this loop, by the names of the coroutines."""
    running = (task.get_coro() for task in asyncio.all_tasks() if task is not asyncio.current_task())
    return Counter(getattr(coroutine, "__qualname__", repr(coroutine)) for coroutine in running)


async def until(true: Callable[[], bool]) -> None:
    """For what tells nobody that it has changed: one has to look."""
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
