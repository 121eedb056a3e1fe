"""aiohttp's connections to providers, with a cheaper watch over silence.

Knows: how aiohttp counts the seconds without a byte (`ClientTimeout.sock_read`). Must not know: requests, providers.

aiohttp takes its timer back and sets another with each read. Where tokens come one by one that is a tenth of what a
token costs. Here one timer stands, looks at its end when the last byte came, and stands for the rest.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import cast

import aiohttp
from aiohttp.client_proto import ResponseHandler


class Connection(ResponseHandler):
    """What aiohttp keeps of a connection. `_heard`: when the last bytes came, by the loop's clock."""

    __slots__ = ("_heard",)

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
