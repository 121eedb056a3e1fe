"""Every connection that this process opens, seen at the socket itself.

Knows: Python's audit events. Must not know: who opens connections, or why.

Whatever opens one (aiohttp, an SDK's own client, a library nobody thought of) asks a socket to connect, and the
interpreter tells of it before it happens. uvloop has sockets of its own: not for tests that run on it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_listening: list[list[tuple[str, int]]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _listening and isinstance(arguments[1], tuple):
        for heard in _listening:
            heard.append((str(arguments[1][0]), int(arguments[1][1])))


sys.addaudithook(_hear)  # for good: a hook cannot be taken away


@contextmanager
def connections() -> Iterator[list[tuple[str, int]]]:
    """(host, port) of every connection opened inside, tried ones included."""
    heard: list[tuple[str, int]] = []
    _listening.append(heard)
    try:
        yield heard
    finally:
        _listening.remove(heard)
