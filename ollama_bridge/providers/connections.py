"""aiohttp's connections to providers, made cheaper where tokens stream.

Knows: how aiohttp counts the seconds without a byte (`ClientTimeout.sock_read`) and keeps what has not been read. Must
not know: requests, providers.

- aiohttp takes its timer back and sets another with each read. Here one timer stands, looks at its end when the last
  byte came, and stands for the rest.
- aiohttp keeps what came as one piece for each HTTP chunk, and readers take them one by one. Here what came together is
  one piece.

What that brings, and what it costs to lean on aiohttp's inner side, is in docs/decisions/0009.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import cast

import aiohttp
from aiohttp.client_proto import ResponseHandler


class Connection(ResponseHandler):
    """What aiohttp keeps of a connection. `_heard`: when the last bytes came, by the loop's clock. `_resuming`: perhaps
    a reader is going through the pieces just now, and has counted them."""

    __slots__ = ("_heard", "_resuming")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._heard = 0.0
        self._resuming = False

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        payload = self._payload
        if payload is None or self._resuming:
            return
        pieces = payload._buffer
        if len(pieces) > 1 and not payload._buffer_offset:  # no piece is half read
            whole = b"".join(pieces)
            pieces.clear()
            pieces.append(whole)

    def resume_reading(self, resume_parser: bool = True) -> None:
        self._resuming = True  # what was held back comes in before this returns
        try:
            super().resume_reading(resume_parser)
        finally:
            self._resuming = False

    def start_timeout(self) -> None:
        self._drop_timeout()  # of the request before, which may have had another limit
        self._reschedule_timeout()

    def _reschedule_timeout(self) -> None:
        self._heard = self._loop.time()
        if self._read_timeout_handle is None and self._read_timeout:
            self._read_timeout_handle = self._loop.call_later(self._read_timeout, self._on_read_timeout)

    def _on_read_timeout(self) -> None:
        self._read_timeout_handle = None
        if not self._read_timeout:
            return
        left = self._heard + self._read_timeout - self._loop.time()
        if left > 0:
            self._read_timeout_handle = self._loop.call_later(left, self._on_read_timeout)
        else:
            super()._on_read_timeout()


def use(connector: aiohttp.BaseConnector) -> None:
    """The connector makes ours. aiohttp has no word for it; tests/test_connections.py sees that it holds."""
    connector._factory = cast("partial[ResponseHandler]", partial(Connection, loop=asyncio.get_running_loop()))
