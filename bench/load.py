"""The load generator: many requests over kept connections, their answers read, counted and timed.

Knows: HTTP/1.1 as servers answer it, lines, and the marks and stamps that the fake provider leaves in its tokens.
Must not know: which gateway answers, what is concluded.

An answer counts only when it is whole: status 200, its framing ended, its last line says that it is the last, and it
holds as many tokens as were asked for. Everything else is in `Outcome.faults`.
"""

from __future__ import annotations

import asyncio
import gc
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

from wires import MARK

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
STAMP = re.compile(re.escape(MARK) + rb"(\d+);")
ENDING = 2048  # bytes kept of an answer to look for its last line
SILENCE = 20.0  # seconds without any byte after which a load is given up


@dataclass(frozen=True)
class Order:
    """What to ask and what a good answer holds. `request` is all bytes of the HTTP request; `last` the answer's end."""

    request: bytes
    last: re.Pattern[bytes]
    tokens: int
    stamped: bool = False


@dataclass
class Outcome:
    """What came of a load. Times in microseconds; `wall` in seconds. `transit`: from a token's stamp to its arrival."""

    good: int = 0
    tokens: int = 0
    wall: float = 0.0
    latency: list[float] = field(default_factory=list)
    first_token: list[float] = field(default_factory=list)
    transit: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)


class Caller(asyncio.Protocol):
    """One connection: sends an order, reads the answer, tells `load` and waits for the next order."""

    transport: asyncio.Transport

    def __init__(self, load: Load) -> None:
        self.load = load
        self.order: Order | None = None
        self.pending = b""  # read, not yet understood
        self.in_body = False
        self.chunked = False
        self.left = 0  # bytes of the body, or of its present chunk, still to come
        self.line = b""  # beginning of a line whose end has not come
        self.ending = b""
        self.tokens = 0
        self.status = 0
        self.sent = self.first = 0
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclasses

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.order is not None:
            self._end(f"connection closed after {self.tokens} tokens")

    def send(self, order: Order) -> None:
        self.order = order
        self.in_body = False
        self.pending = self.line = self.ending = b""
        self.tokens = self.first = 0
        self.sent = time.monotonic_ns()
        self.transport.write(order.request)

    def data_received(self, data: bytes) -> None:
        now = self.load.heard = time.monotonic_ns()
        if self.order is None:
            self.load.outcome.faults["bytes after the end of an answer"] += 1
            self.transport.close()
            return
        if self.pending:
            data, self.pending = self.pending + data, b""
        if not self.in_body:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self.pending = data
                return
            head = data[: end + 2]
            self.status = int(head[9:12])
            self.in_body = True
            length = LENGTH.search(head)
            self.chunked = CHUNKED.search(head) is not None
            if not self.chunked and length is None:
                self._end("an answer without length and chunks")
                return
            # Each chunk's size then stands between two line ends, the first one's too.
            data = data[end + 2 :] if self.chunked else data[end + 4 :]
            self.left = int(length[1]) if length and not self.chunked else 0
        if self.chunked:
            self._read_chunks(data, now)
        else:
            self.left -= len(data)
            self._read_body(data, now)
            if self.left <= 0:
                self._finish(now)

    def _read_chunks(self, data: bytes, now: int) -> None:
        position, parts, ended = 0, [], False
        while position < len(data):
            if self.left:
                part = data[position : position + self.left]
                parts.append(part)
                position += len(part)
                self.left -= len(part)
                continue
            size_end = data.find(b"\r\n", position + 2)
            size = int(data[position + 2 : size_end], 16) if size_end > 0 else -1
            if size < 0 or (size == 0 and len(data) < size_end + 4):
                self.pending = data[position:]
                break
            position = size_end + 2
            self.left = size
            if size == 0:
                ended = True
                break
        if parts:
            self._read_body(parts[0] if len(parts) == 1 else b"".join(parts), now)
        if ended:
            self._finish(now)

    def _read_body(self, body: bytes, now: int) -> None:
        if self.line:
            body = self.line + body
        # A token cut by the end of a read waits for the rest of its line.
        cut = body.rfind(b"\n") + 1
        lines, self.line = (body, b"") if cut == len(body) else (body[:cut], body[cut:])
        self._read_lines(lines, now)

    def _read_lines(self, lines: bytes, now: int) -> None:
        assert self.order is not None
        count = lines.count(MARK)
        if count:
            self.tokens += count
            if not self.first:
                self.first = now
                self.load.first_seen()
            if self.order.stamped:
                self.load.outcome.transit += [(now - int(stamp)) / 1000 for stamp in STAMP.findall(lines)]
        self.ending = (self.ending + lines)[-ENDING:] if len(lines) < ENDING else lines[-ENDING:]

    def _finish(self, now: int) -> None:
        assert self.order is not None
        if self.line:
            self._read_lines(self.line, now)
            self.line = b""
        fault = None
        if self.status != 200:
            fault = f"status {self.status}: {self.ending[:200].decode(errors='replace').strip()}"
        elif not self.order.last.search(self.ending):
            fault = "an answer without its last line"
        elif self.tokens != self.order.tokens:
            fault = f"{self.tokens} tokens instead of {self.order.tokens}"
        else:
            outcome = self.load.outcome
            outcome.good += 1
            outcome.tokens += self.tokens
            outcome.latency.append((now - self.sent) / 1000)
            outcome.first_token.append((self.first - self.sent) / 1000)
        self._end(fault)

    def _end(self, fault: str | None) -> None:
        self.order = None
        if fault:
            self.load.outcome.faults[fault] += 1
            self.transport.close()
        self.load.ended(self)


class Load:
    """Connections to one port and the rounds of requests sent over them.

    `order` is what to send as the n-th request, counted from 0 in each round.
    """

    def __init__(self, port: int, order: Callable[[int], Order]) -> None:
        self.port = port
        self.order = order
        self.outcome = Outcome()
        self.heard = 0
        self.callers: list[Caller] = []
        self._asked = self._active = self._waiting = self._firsts = 0
        self._requests: int | None = None
        self._until = 0
        self._done: asyncio.Future[None] | None = None

    async def connect(self, connections: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, caller = await loop.create_connection(lambda: Caller(self), "127.0.0.1", self.port)
            self.callers.append(caller)

    def close(self) -> None:
        for caller in self.callers:
            caller.order = None
            caller.transport.abort()

    async def run(self, *, requests: int | None = None, seconds: float = 0.0, stagger: float = 0.0) -> Outcome:
        """Keeps all connections busy until so many requests were sent or so much time is over, and reads every answer.

        `stagger`: seconds between the first requests of two connections.
        """
        self._start(requests, seconds, stagger)
        began = time.monotonic_ns()
        await self._patiently(self._finished)
        self.outcome.wall = (time.monotonic_ns() - began) / 1e9
        return self.outcome

    async def hold(self, stagger: float) -> int:
        """One request on each connection -> how many have their first token, once all have it or nothing moves."""
        self._start(len(self.callers), 0.0, stagger)
        await self._patiently(lambda: self._firsts + self.outcome.faults.total() >= len(self.callers))
        return self._firsts

    def _start(self, requests: int | None, seconds: float, stagger: float) -> None:
        loop = asyncio.get_running_loop()
        self.outcome = Outcome()
        self._requests = requests
        self.heard = time.monotonic_ns()
        self._until = self.heard + int(seconds * 1e9)
        self._asked = self._firsts = 0
        self._done = loop.create_future()
        self._waiting = len(self.callers)
        for i, caller in enumerate(self.callers):
            if stagger:
                loop.call_later(i * stagger, self._first_of, caller)
            else:
                self._first_of(caller)

    def _first_of(self, caller: Caller) -> None:
        self._waiting -= 1
        self._next(caller)

    def _next(self, caller: Caller) -> None:
        more = time.monotonic_ns() < self._until if self._requests is None else self._asked < self._requests
        if more and not caller.closed:
            self._active += 1
            self._asked += 1
            caller.send(self.order(self._asked - 1))
        elif not self._active and not self._waiting:
            self._wake()

    def ended(self, caller: Caller) -> None:
        # From the loop, not from here: the answer's last bytes are still being read.
        asyncio.get_running_loop().call_soon(self._after, caller)

    def _after(self, caller: Caller) -> None:
        self._active -= 1
        self._next(caller)

    def first_seen(self) -> None:
        self._firsts += 1
        if self._firsts == len(self.callers):
            self._wake()

    def _finished(self) -> bool:
        if self._active or self._waiting:
            return False
        return self._requests is None or self._asked >= self._requests or all(c.closed for c in self.callers)

    def _wake(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def _patiently(self, reached: Callable[[], bool]) -> None:
        """Waits until `reached`, or until nothing was heard for SILENCE seconds (a fault)."""
        loop = asyncio.get_running_loop()
        while not reached():
            if time.monotonic_ns() - self.heard > SILENCE * 1e9:
                self.outcome.faults[f"silent for {SILENCE:.0f} s"] += max(self._active, 1)
                return
            self._done = loop.create_future()
            await asyncio.wait([self._done], timeout=1.0)


@contextmanager
def no_collector() -> Iterator[None]:
    """The garbage collector off: its pauses would be taken for the gateway's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Leaver(Caller):
    """A caller that leaves in mid-answer, after `after` tokens. `left_at`: when that was, CLOCK_MONOTONIC in ns."""

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self.after = 0
        self.left_at: int | None = None
        self.gone = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.gone.set()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.order is not None and self.tokens >= self.after and self.left_at is None:
            self.left_at = time.monotonic_ns()
            self.order = None
            self.transport.abort()


async def leave(port: int, orders: list[tuple[Order, int]]) -> tuple[list[int | None], Outcome]:
    """Sends each order on a connection of its own and leaves after so many tokens -> when each left, and the faults."""
    loop = asyncio.get_running_loop()
    load = Load(port, lambda number: orders[number][0])
    leavers: list[Leaver] = []
    for order, after in orders:
        _, leaver = await loop.create_connection(lambda: Leaver(load), "127.0.0.1", port)
        leaver.after = after
        leavers.append(leaver)
        leaver.send(order)
        await asyncio.sleep(0.005)
    await asyncio.wait([loop.create_task(leaver.gone.wait()) for leaver in leavers], timeout=SILENCE)
    for leaver in leavers:
        leaver.order = None
        leaver.transport.abort()
    return [leaver.left_at for leaver in leavers], load.outcome


async def get(port: int, path: str) -> bytes:
    """The body of a small GET, over a connection of its own. Raises OSError, ValueError unless the status is 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        if head[9:12] != b"200" or length is None:
            raise ValueError(f"{path}: {head[:15].decode()}")
        return await reader.readexactly(int(length[1]))
    finally:
        writer.close()
