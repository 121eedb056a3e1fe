"""Too slow, too much, without end: senders, readers and upstreams (product.md 5, row 21). Nobody else may feel them,
and memory stays bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.flood import Flood, head
from gateway import Gateway, alias, ollama_provider, openai_provider, running
from golden import answer_of
from junk import Request, judge
from lab import GUARD, Lab, laboratory, paced
from watch import resident, until, watching

MB = 1024 * 1024
TRIES = 2  # what a provider answers wrongly is asked for once more


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    # Short, but long beside what a busy machine may delay.
    paces = {"sender_idle": 0.3, "sender_rate": 4_000, "head_deadline": 0.3, "write_deadline": 0.3, "linger": 0.1}
    with laboratory(tmp_path_factory.mktemp("pace"), paces) as lab:
        yield lab


# -- slow senders ----------------------------------------------------------------------------------------------------
POST = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\n"
PAUSE = 0.02  # seconds between two pieces: more often than the limits on silence allow


def trickle(first: bytes, piece: bytes) -> Iterable[bytes]:
    return itertools.chain([first], itertools.repeat(piece))


SLOW: dict[str, tuple[Callable[[], Iterable[bytes]], int | None]] = {  # what is sent; the status it gets, None: closed
    "no head at all": (list, None),
    "half a head": (lambda: [b"GET /api/version HT"], None),
    "a head without end": (lambda: trickle(b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n"), None),
    "no method": (lambda: trickle(b"", b"G"), 400),
    "no body": (lambda: [POST + b"Content-Length: 9\r\n\r\n"], 408),
    "half a body": (lambda: [POST + b"Content-Length: 9000\r\n\r\n{"], 408),
    "a body byte by byte": (lambda: trickle(POST + b"Content-Length: 900000\r\n\r\n{", b" "), 408),
    "chunks byte by byte": (lambda: trickle(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"), 408),
    "half a chunk": (lambda: [POST + b"Transfer-Encoding: chunked\r\n\r\nff\r\n{"], 408),
    "a chunk's size without end": (lambda: trickle(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"0"), 408),
}


async def sent_slowly(lab: Lab, pieces: Iterable[bytes]) -> bytes:
    """What the gateway says to it, until it closes the connection."""
    reader, writer = await lab.connect()

    async def sending() -> None:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(PAUSE)

    task = asyncio.ensure_future(sending())
    try:
        async with asyncio.timeout(GUARD):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        task.cancel()
        writer.transport.abort()


@pytest.mark.parametrize("way", list(SLOW))
def test_slow_senders_are_given_up(lab: Lab, way: str) -> None:
    pieces, status = SLOW[way]
    answer: bytes = lab.run(sent_slowly(lab, pieces()))
    if status is None:
        assert answer == b""
    else:
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
        if status == 408:
            judge(Request("POST", "/api/chat"), answer_of("POST", *split(answer)))
    lab.run(lab.check(way))


def split(answer: bytes) -> tuple[bytes, bytes]:
    head, end, rest = answer.partition(b"\r\n\r\n")
    return head + end, rest


def test_a_half_head_on_a_used_connection_is_given_up_too(lab: Lab) -> None:
    async def send() -> bytes:
        reader, writer = await lab.connect()
        writer.write(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"}"), GUARD)
        writer.write(b"GET /api/version HT")
        rest = await asyncio.wait_for(reader.read(), GUARD)
        writer.close()
        return rest

    assert lab.run(send()) == b""


def test_a_slow_sender_that_keeps_up_is_heard(lab: Lab) -> None:
    """A large prompt over a bad line: slow, but on the whole faster than the limit."""
    body = json.dumps({"model": "own", "prompt": "x" * 20_000, "stream": False}).encode()
    head = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    pieces = (body[at : at + 700] for at in range(0, len(body), 700))
    assert lab.run(sent_slowly(lab, [head, *pieces])).startswith(b"HTTP/1.1 200 ")


def test_an_idle_connection_is_kept(lab: Lab) -> None:
    """Clients keep connections for their next request: between two of them there is no head to be late."""

    async def send() -> None:
        reader, writer = await lab.connect()
        for _ in range(2):
            writer.write(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await asyncio.wait_for(reader.readuntil(b"}"), GUARD)
            await asyncio.sleep(0.5)  # longer than the deadline of a head
        writer.close()

    lab.run(send())


# -- a gateway before an upstream without measure -------------------------------------------------------------------
@contextlib.asynccontextmanager
async def before(folder: Path, upstream: Flood, **paces: float) -> AsyncIterator[Gateway]:
    """A gateway whose models `wire` and `real` are both this upstream."""
    config = {
        "providers": {"wire": openai_provider(upstream.url), "real": ollama_provider(upstream.url)},
        "models": {"wire": alias("wire", "up"), "real": alias("real", "up")},
        "timeouts": {"first_byte": "20s", "first_token": "20s", "idle": "20s", "total": "30s"},
    }
    with watching() as watch, paced(paces):
        async with running(folder, config) as gateway:
            yield gateway
        watch.assert_quiet("a flood")


class Others:
    """Another client, which asks for the version all the while. `peak`: bytes by which the process grew. `slowest`:
    seconds of this process' CPU time in which the client had to wait: of a busy machine it feels nothing."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._before = resident()
        self.peak = 0
        self.slowest = 0.0
        self._over = False

    async def __aenter__(self) -> Others:
        await self._ask()
        self.slowest = 0.0
        self._asking = asyncio.ensure_future(self._ask_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        await self._asking  # the last question counts too

    async def _ask(self, after: float = 0.0) -> None:
        started = time.process_time()
        await asyncio.sleep(after)  # counts too: both sides live in one loop, and wait together
        async with self._gateway.http.get(f"{self._gateway.url}/api/version") as response:
            assert response.status == 200
            await response.read()
        self.slowest = max(self.slowest, time.process_time() - started)
        self.peak = max(self.peak, resident() - self._before)

    async def _ask_on(self) -> None:
        while not self._over:
            await self._ask(after=0.01)


SSE, NDJSON, JSON = "text/event-stream", "application/x-ndjson", "application/json"


def chunk(delta: dict[str, Any]) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    value = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [choice]}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def line(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({"model": "up", "created_at": "2026-11-21T10:00:00Z", "message": message, "done": False}).encode()


def call(function: dict[str, str]) -> bytes:
    return chunk({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": function}]})


def calls() -> Iterator[bytes]:
    for start in itertools.count(0, 100):
        yield b"".join(
            chunk({"tool_calls": [{"index": start + n, "id": f"c{start + n}", "function": {"name": "f"}}]})
            for n in range(100)
        )


HI = chunk({"role": "assistant", "content": "hi"})
PIECE = 64 * 1024
# model -> what its upstream sends for ever, and what the client is told of it
ENDLESS: dict[str, tuple[str, str, Callable[[], Iterable[bytes]], str]] = {
    "a frame": ("wire", SSE, lambda: trickle(b"data: ", b"x" * PIECE), "frame of more than"),
    "a frame after content": ("wire", SSE, lambda: trickle(HI + b"data: ", b"x" * PIECE), "frame of more than"),
    "a frame, in small pieces": ("wire", SSE, lambda: trickle(b"data: ", b"x" * 2000), "frame of more than"),
    "a frame of many lines": (
        "wire",
        SSE,
        lambda: trickle(HI, (b"data: " + b"x" * 500 + b"\n") * 100),
        "frame of more than",
    ),
    "a frame of empty lines": ("wire", SSE, lambda: trickle(HI, b"data:\n" * 40_000), "frame of more than"),
    "comments": ("wire", SSE, lambda: trickle(b"", (b": keep" + b"!" * 500 + b"\n\n") * 200), "without any content"),
    "blank lines": ("wire", SSE, lambda: trickle(b"", b"\n" * PIECE), "without any content"),
    "roles": (
        "wire",
        SSE,
        lambda: trickle(b"", chunk({"role": "assistant", "content": "", "refusal": None, "padding": "x" * 900}) * 60),
        "without any content",
    ),
    "arguments": (
        "wire",
        SSE,
        lambda: trickle(call({"name": "f"}), call({"arguments": "x" * 9000}) * 8),
        "tool calls of",
    ),
    "arguments of no one": (
        "wire",
        SSE,
        lambda: trickle(b"", call({"arguments": "x" * 9000}) * 8),
        "without any content",
    ),
    "tool calls": ("wire", SSE, calls, "tool calls at once"),
    "one body": ("wire", JSON, lambda: trickle(b'{"a":"', b"x" * PIECE), "of more than"),
    "a line": ("real", NDJSON, lambda: trickle(b'{"a":"', b"x" * PIECE), "line that is too long"),
    "a line after content": (
        "real",
        NDJSON,
        lambda: trickle(line("hi") + b"\n{", b"x" * PIECE),
        "line that is too long",
    ),
    "empty lines": ("real", NDJSON, lambda: trickle(b"", (line("") + b" " * 900 + b"\n") * 60), "without any content"),
    "line ends": ("real", NDJSON, lambda: trickle(b"", b"\n" * PIECE), "without any content"),
}
NATIVE, V1 = "/api/chat", "/v1/chat/completions"
# On the client's own wire these are content, and passed on; line ends are dropped by the million on the other.
NOTHING_TO_HOLD = {("arguments", V1), ("arguments of no one", V1), ("tool calls", V1), ("line ends", V1)}


@pytest.mark.parametrize(
    ("what", "door"),
    [(what, door) for what in ENDLESS for door in (NATIVE, V1) if (what, door) not in NOTHING_TO_HOLD],
)
async def test_streams_without_end(tmp_path: Path, what: str, door: str) -> None:
    model, kind, pieces, words = ENDLESS[what]
    body = {"model": model, "messages": [{"role": "user", "content": "a"}], "stream": True}
    async with (
        Flood(head(kind), pieces) as upstream,
        before(tmp_path, upstream) as gateway,
        Others(gateway) as others,
        asyncio.timeout(GUARD),
        gateway.http.post(gateway.url + door, json=body) as response,
    ):
        heard = await response.read()
        assert response.status in (200, 502)
        assert words.encode() in heard and b"provider" in heard
        await upstream.cut.wait()
        assert upstream.sent < TRIES * 90 * MB
    assert others.peak < 200 * MB
    assert others.slowest < 5.0


# -- whole answers, heads and refusals without measure --------------------------------------------------------------
def packed() -> Iterable[bytes]:
    """`{"a":"aaaa…` without end, as gzip: each of the further pieces unpacks to one MB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = packer.compress(b'{"a":"') + packer.flush(zlib.Z_FULL_FLUSH)
    return trickle(start, packer.compress(b"a" * MB) + packer.flush(zlib.Z_FULL_FLUSH))


GZIP = "Content-Encoding: gzip"
MANY = b"".join(b"X-%d: y\r\n" % number for number in range(200_000))
FORBIDDEN = head(JSON, status="400 Bad Request")
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
# What comes before the pieces, the pieces, and how much of them may be taken.
IMMENSE: dict[str, tuple[bytes, Callable[[], Iterable[bytes]], bool, int]] = {
    "a body": (head(JSON), lambda: trickle(b'{"a":"', b"x" * PIECE), True, 80 * MB),
    "a body that says so": (
        PLAIN + b"Content-Length: 99999999999\r\n\r\n",
        lambda: trickle(b"{", b"x" * PIECE),
        False,
        80 * MB,
    ),
    "a packed body": (head(JSON, GZIP), packed, True, 8 * MB),
    "a refusal": (FORBIDDEN, lambda: trickle(b'{"a":"', b"x" * PIECE), True, 8 * MB),
    "a packed refusal": (head(JSON, GZIP, status="400 Bad Request"), packed, True, 8 * MB),
    "a header": (PLAIN, lambda: trickle(b"X: ", b"y" * PIECE), False, 8 * MB),
    "headers": (PLAIN, lambda: trickle(b"X: y\r\n", MANY[:PIECE]), False, 8 * MB),
    "a status line": (b"HTTP/1.1 200 ", lambda: trickle(b"O", b"K" * PIECE), False, 8 * MB),
    "trailers": (head(JSON) + b"0\r\n", lambda: trickle(b"X: y\r\n", MANY[:PIECE]), False, 8 * MB),
    "no HTTP": (b"\x16\x03\x01", lambda: trickle(b"\0", b"\xff" * PIECE), False, 8 * MB),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", ["wire", "real"])
@pytest.mark.parametrize("what", list(IMMENSE))
async def test_answers_without_measure(tmp_path: Path, what: str, model: str, stream: bool) -> None:
    start, pieces, chunked, limit = IMMENSE[what]
    body = {"model": model, "messages": [{"role": "user", "content": "a"}], "stream": stream}
    async with (
        Flood(start, pieces, chunked) as upstream,
        before(tmp_path, upstream) as gateway,
        Others(gateway) as others,
        asyncio.timeout(GUARD),
        gateway.http.post(f"{gateway.url}/api/chat", json=body) as response,
    ):
        heard = await response.read()
        assert response.status == (400 if "refusal" in what else 502), heard
        assert list(json.loads(heard)) == ["error"]
        assert len(heard) < 4 * MB
        assert upstream.sent < TRIES * limit
    assert others.peak < 250 * MB
    assert others.slowest < 5.0


# -- slow readers ----------------------------------------------------------------------------------------------------
READERS = 40
WHOLE = 64 * MB - PIECE  # just what a whole answer may have


def stream() -> Iterable[bytes]:
    return trickle(HI, chunk({"content": "x" * 4000}) * 15)


def whole() -> Iterable[bytes]:
    yield b'{"id":"c","object":"chat.completion","created":1,"model":"up","choices":[{"index":0,"message":{"role":'
    yield b'"assistant","content":"'
    yield from itertools.repeat(b"x" * PIECE, WHOLE // PIECE)
    yield b'"},"finish_reason":"stop"}]}'


async def leave_unread(gateway: Gateway, path: str, model: str, stream: bool) -> asyncio.StreamWriter:
    """Asks, and never reads a byte of the answer."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "a"}], "stream": stream}).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]), limit=1)
    writer.write(
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)) + body
    )
    return writer


@pytest.mark.parametrize("door", [NATIVE, V1])
async def test_streams_that_nobody_reads(tmp_path: Path, door: str) -> None:
    """The upstream is slowed down to the client's pace; nothing gathers here. Then the client is given up."""
    async with (
        Flood(head(SSE), stream) as upstream,
        before(tmp_path, upstream, write_deadline=1.0) as gateway,
        Others(gateway) as others,
        asyncio.timeout(GUARD),
    ):
        clients = [await leave_unread(gateway, door, "wire", True) for _ in range(READERS)]
        await until(lambda: upstream.sent >= READERS * 2 * MB)
        await until(lambda: not upstream.live)
        for writer in clients:
            writer.transport.abort()
    assert others.peak < READERS * 2 * MB, "something gathers what is not read"
    assert others.slowest < 5.0


async def test_a_whole_answer_that_nobody_reads(tmp_path: Path) -> None:
    async with (
        Flood(head(JSON), whole) as upstream,
        before(tmp_path, upstream, write_deadline=0.5) as gateway,
        Others(gateway) as others,
        asyncio.timeout(GUARD),
    ):
        writer = await leave_unread(gateway, V1, "wire", False)
        await until(lambda: upstream.sent > WHOLE and not upstream.live)
        async with gateway.http.get(f"{gateway.url}/metrics") as response:
            assert response.status == 200
        writer.transport.abort()
    assert others.slowest < 5.0


# -- long requests ---------------------------------------------------------------------------------------------------
LONG = {
    "many messages, cut off": b'{"model":"own","messages":[' + b",".join([b'{"role":"user","content":"a"}'] * 120_000),
    "many messages": b'{"model":"own","messages":[' + b",".join([b'{"role":"user"}'] * 200_000) + b"]}",
    "many settings": b'{"model":"own","prompt":"a","options":{'
    + b",".join(b'"%d":1' % n for n in range(300_000))
    + b"}}",
    "many tools": b'{"model":"own","messages":[],"tools":[' + b",".join([b"{}"] * 300_000) + b"]}",
}


@pytest.mark.parametrize("what", list(LONG))
def test_long_requests_hold_up_nobody_else(lab: Lab, what: str) -> None:
    """A body that takes seconds to read is read beside the others' requests, and refused for its extent."""
    request = Request("POST", "/api/generate" if b"prompt" in LONG[what] else "/api/chat", LONG[what], what=what)

    async def ask() -> tuple[int, float, float]:
        async with Others(lab.gateway) as others:
            started = time.monotonic()
            answer = await lab.ask(request)
        return answer.status, others.slowest, time.monotonic() - started

    status, slowest, seconds = lab.run(ask())
    assert status == 400
    assert slowest < max(seconds / 2, 0.5)


def test_a_long_show_request_is_refused_unread(lab: Lab) -> None:
    [answer] = lab.throw([Request("POST", "/api/show", b'{"model":"own","template":"' + b"x" * 2 * MB + b'"}')])
    assert answer.status == 413
