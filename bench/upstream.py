"""A fake provider that costs almost nothing, for measuring what a gateway costs.

    python bench/upstream.py PORT

    POST   streams and whole answers, at the path of each wire (wires.py)
    GET    /__stats: counters, Stats as JSON; one model where a wire lists its models

Knows: HTTP/1.1 as gateways send it (bodies with a content-length), and time. Must not know: gateways.

The model name, in the body or in the path, says what to answer: `bench`, then any of

    -n512     tokens of a stream (64 unless said)
    -d20000   microseconds between two tokens (0: no pauses, the stream is written in one piece)
    -f5000    microseconds before the first byte of a stream
    -s        each token's text ends with a time stamp: "~<CLOCK_MONOTONIC, ns>;"
    -i7       a number under which the stream is remembered when its reader leaves (Stats.left)

so `bench-n50-d20000-s` is a stream of a second, 50 stamped tokens. Tokens of different streams fall due to the
microsecond, by a timer of the kernel: an event loop's own timers tick in milliseconds, would bunch the tokens of many
streams together and so flatter every gateway.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import heapq
import os
import re
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import msgspec
import wires
from loops import new_event_loop

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Stats(msgspec.Struct):
    """What `/__stats` answers. Only connections that carried a chat are counted, so that asking does not change them.

    `aborted`: streams whose reader left. `left`: number of such a stream (-i) -> CLOCK_MONOTONIC, ns, when it was seen.
    """

    connections: int = 0
    open: int = 0
    requests: int = 0
    streams: int = 0
    aborted: int = 0
    cpu_s: float = 0.0
    left: dict[int, int] = msgspec.field(default_factory=dict)


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class Ask(msgspec.Struct):
    """What matters of a request's body. A path that says the same has the last word."""

    model: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class Shape(msgspec.Struct, frozen=True):
    """What a model name asks for; times in microseconds."""

    tokens: int = 64
    pause: int = 0
    first: int = 0
    stamped: bool = False
    number: int | None = None


LETTERS = {"n": "tokens", "d": "pause", "f": "first", "s": "stamped", "i": "number"}


@lru_cache(maxsize=4096)
def shape_of(model: str) -> Shape:
    """Raises ValueError for a letter that means nothing."""
    asked: dict[str, Any] = {}
    for part in model.partition("bench")[2].split("-")[1:]:
        if part[:1] not in LETTERS:
            raise ValueError(f"no such letter in a model name: {part!r}")
        asked[LETTERS[part[0]]] = True if part == "s" else int(part[1:])
    return Shape(**asked)


class _TimerSpec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


class Clockwork:
    """Calls back at given moments of CLOCK_MONOTONIC. One kernel timer, set to the earliest of them."""

    ABSOLUTE = 1  # TFD_TIMER_ABSTIME

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._timer < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._due: list[tuple[int, int, Callable[[int], None]]] = []
        self._count = 0
        self._set = 0
        loop.add_reader(self._timer, self._ring)

    def at(self, moment: int, call: Callable[[int], None]) -> None:
        """Calls `call(moment)` at `moment` (ns)."""
        self._count += 1
        heapq.heappush(self._due, (moment, self._count, call))
        self._wind()

    def _wind(self) -> None:
        if self._due and self._due[0][0] != self._set:
            self._set = self._due[0][0]
            spec = _TimerSpec(0, 0, *divmod(self._set, 10**9))
            self._libc.timerfd_settime(self._timer, self.ABSOLUTE, ctypes.byref(spec), None)

    def _ring(self) -> None:
        try:
            os.read(self._timer, 8)
        except BlockingIOError:
            return
        self._set = 0
        now = time.monotonic_ns()
        while self._due and self._due[0][0] <= now:
            moment, _, call = heapq.heappop(self._due)
            call(moment)
        self._wind()


class Connection(asyncio.Protocol):
    """One connection of a gateway. Requests on it are answered one after the other."""

    decode = msgspec.json.Decoder(Ask).decode
    transport: asyncio.Transport

    def __init__(self, stats: Stats, clockwork: Clockwork) -> None:
        self.stats = stats
        self.clockwork = clockwork
        self.received = bytearray()
        self.wanted = 0  # bytes until the request is whole, as far as known
        self.answering: Shape | None = None
        self.wire = wires.OPENAI
        self.usage = False
        self.next = 0  # index of the next token; -1 before the head
        self.closed = self.counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclasses

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.stats.open -= self.counted
        if self.answering is not None:
            self.stats.aborted += 1
            if self.answering.number is not None:
                self.stats.left[self.answering.number] = time.monotonic_ns()

    def data_received(self, data: bytes) -> None:
        self.received += data
        while len(self.received) >= self.wanted and self.answering is None and self._one_request():
            pass

    def _one_request(self) -> bool:
        """Answers the first request received. False when it is not whole yet."""
        end = self.received.find(b"\r\n\r\n") + 4
        if end < 4:
            return False
        head = bytes(self.received[:end])
        length = LENGTH.search(head)
        if length is None and head.startswith(b"POST"):
            self.transport.write(wires.whole(b"411 Length Required", b'{"error":{"message":"no content-length"}}'))
            self.transport.close()
            return False
        self.wanted = end + (int(length[1]) if length else 0)
        if len(self.received) < self.wanted:
            return False
        body = bytes(self.received[end : self.wanted])
        del self.received[: self.wanted]
        self.wanted = 0
        self.stats.requests += 1
        method, path = head.split(b" ", 2)[:2]
        if method == b"GET":
            self.transport.write(self._read_only(path))
        elif (asked := wires.asked_at(path)) is not None:
            self._chat(*asked, body)
        else:
            self.transport.write(wires.whole(b"404 Not Found", b'{"error":{"message":"no such path"}}'))
        return bool(self.received)

    def _read_only(self, path: bytes) -> bytes:
        if (models := wires.listed_at(path)) is not None:
            return wires.whole(b"200 OK", models)
        if path == b"/__stats":
            self.stats.cpu_s = time.process_time()
            return wires.whole(b"200 OK", msgspec.json.encode(self.stats))
        return wires.whole(b"404 Not Found", b'{"error":{"message":"no such path"}}')

    def _chat(self, wire: wires.Wire, path: re.Match[bytes], body: bytes) -> None:
        if not self.counted:
            self.counted = True
            self.stats.connections += 1
            self.stats.open += 1
        try:
            ask = self.decode(body)
            told = path.groupdict()
            shape = shape_of(told["model"].decode() if told else ask.model)
        except (msgspec.MsgspecError, ValueError) as error:
            why = msgspec.json.encode({"error": {"message": str(error), "type": "invalid_request_error"}})
            self.transport.write(wires.whole(b"400 Bad Request", why))
            return
        if not (told["stream"] if told else ask.stream):
            self.transport.write(wires.whole(b"200 OK", wire.reply))
            return
        self.stats.streams += 1
        usage = bool(ask.stream_options and ask.stream_options.include_usage)
        if not (shape.pause or shape.first or shape.stamped):
            self.transport.write(wires.STREAM_HEAD + wire.stream(shape.tokens, usage))
            return
        self.answering, self.wire, self.usage, self.next = shape, wire, usage, -1
        now = time.monotonic_ns()
        if shape.first:
            self.clockwork.at(now + 1000 * shape.first, self._tick)
        else:
            self._tick(now)

    def _tick(self, moment: int) -> None:
        """Writes what is due: a token, or all of them when there is no pause between."""
        shape = self.answering
        if self.closed or shape is None:
            return
        parts = []
        if self.next < 0:
            parts += [wires.STREAM_HEAD, self.wire.head()]
            self.next = 0
        while self.next < shape.tokens:
            text = wires.WORDS[self.next % len(wires.WORDS)]
            if shape.stamped:
                text += b"%d;" % time.monotonic_ns()
            parts.append(self.wire.token(text))
            self.next += 1
            if shape.pause:
                break
        if self.next == shape.tokens:
            parts.append(self.wire.tail(self.usage))
            self.answering = None
        self.transport.write(b"".join(parts))
        if self.answering is not None:
            self.clockwork.at(moment + 1000 * shape.pause, self._tick)


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    clockwork, stats = Clockwork(loop), Stats()
    server = await loop.create_server(lambda: Connection(stats, clockwork), "127.0.0.1", port, backlog=4096)
    gc.collect()
    gc.freeze()
    async with server:
        await server.serve_forever()


def main() -> None:
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit(__doc__)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
