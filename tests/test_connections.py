"""Connections to providers on real sockets: one timer that watches silence, and what came together read together."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from ollama_bridge.providers.connections import use
from ollama_bridge.providers.transport import open_session

LONG = 20.0  # seconds: nothing here takes so long
SHORT = 0.1
PIECES = 40


class Speaker:
    """Says a piece whenever it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Queue[None]()
        self.connections: set[object] = set()
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.connections.add(request.transport)
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(int(request.query["pieces"])):
            await self.go.get()
            await response.write(b"piece")
        if "ends" not in request.query:
            await asyncio.Event().wait()
        return response


@pytest.fixture
async def speaker() -> AsyncIterator[Speaker]:
    made = Speaker()
    app = web.Application()
    app.router.add_get("/", made.answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    made = await open_session()
    yield made
    await made.close()


def ask(session: aiohttp.ClientSession, speaker: Speaker, pieces: int, limit: float, **more: str) -> Any:
    query = {"pieces": str(pieces), **more}
    return session.get(speaker.url, params=query, timeout=aiohttp.ClientTimeout(total=None, sock_read=limit))


async def hear(response: aiohttp.ClientResponse, speaker: Speaker, pieces: int) -> None:
    for _ in range(pieces):
        speaker.go.put_nowait(None)
        assert await response.content.readany() == b"piece"


def counted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The delays of all timers that are set from now on."""
    loop = asyncio.get_running_loop()
    delays: list[float] = []
    call_later = loop.call_later

    def noted(delay: float, callback: Callable[..., object], *arguments: Any, **more: Any) -> asyncio.TimerHandle:
        delays.append(delay)
        return call_later(delay, callback, *arguments, **more)

    monkeypatch.setattr(loop, "call_later", noted)
    return delays


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "aiohttp's own"])
async def test_a_piece_sets_no_timer(speaker: Speaker, monkeypatch: pytest.MonkeyPatch, ours: bool) -> None:
    """Without ours each piece does: when that changes there, ours has had its day."""
    async with aiohttp.ClientSession() as session:
        assert session.connector is not None
        if ours:
            use(session.connector)
        async with ask(session, speaker, PIECES, LONG) as response:
            delays = counted(monkeypatch)
            await hear(response, speaker, PIECES)
    assert (delays.count(LONG) >= PIECES) is not ours


async def test_the_sessions_of_a_gateway_use_it(
    speaker: Speaker, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ask(session, speaker, PIECES, LONG) as response:
        delays = counted(monkeypatch)
        await hear(response, speaker, PIECES)
    assert delays.count(LONG) == 0


async def test_silence_counts_from_the_last_byte(speaker: Speaker, session: aiohttp.ClientSession) -> None:
    clock = asyncio.get_running_loop().time
    async with ask(session, speaker, 1, SHORT) as response:
        await hear(response, speaker, 1)
        heard = clock()
        async with asyncio.timeout(LONG):
            with pytest.raises(aiohttp.SocketTimeoutError):
                await response.content.readany()
        assert clock() - heard >= SHORT - 0.02  # the byte has come a moment before we saw it


async def test_each_request_has_its_own_limit(speaker: Speaker, session: aiohttp.ClientSession) -> None:
    """Over one connection: a limit that is longer or shorter than that of the request before."""
    for limit in (LONG, SHORT):
        speaker.go.put_nowait(None)
        async with ask(session, speaker, 1, limit, ends="yes") as response:
            assert await response.read() == b"piece"
    async with asyncio.timeout(LONG):
        with pytest.raises(aiohttp.SocketTimeoutError):
            async with ask(session, speaker, 1, SHORT) as response:
                await response.content.readany()
    assert len(speaker.connections) == 1


async def test_without_a_limit_nothing_is_watched(
    speaker: Speaker, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays = counted(monkeypatch)
    async with ask(session, speaker, PIECES, 0) as response:
        await hear(response, speaker, PIECES)
    assert 0 not in delays


# -- pieces ------------------------------------------------------------------------------------------------------------
@asynccontextmanager
async def sending(parts: list[bytes]) -> AsyncIterator[str]:
    """A server that answers with these parts of an HTTP answer, each sent by itself."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):  # a reader that failed
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"


def chunked(pieces: list[bytes], head: bytes = b"") -> bytes:
    return HEAD + head + b"\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def cut(answer: bytes, chance: random.Random, most: int) -> list[bytes]:
    parts = []
    while answer:
        size = chance.randint(1, most)
        parts.append(answer[:size])
        answer = answer[size:]
    return parts


async def read_somehow(content: aiohttp.StreamReader, chance: random.Random) -> bytes:
    """By every way of reading there is, in turns."""
    got = []
    while not content.at_eof():
        ways = (content.readany, partial(content.read, chance.randint(1, 50)), content.readchunk)
        found = await chance.choice(ways)()
        got.append(found if isinstance(found, bytes) else found[0])
        await asyncio.sleep(0)
    return b"".join(got)


@pytest.mark.parametrize("seed", range(12))
async def test_no_byte_is_lost_or_moved(session: aiohttp.ClientSession, seed: int) -> None:
    chance = random.Random(seed)
    pieces = [bytes(chance.choices(range(256), k=chance.randint(1, 90))) for _ in range(chance.choice((1, 30, 3000)))]
    async with sending(cut(chunked(pieces), chance, chance.choice((5, 700, 100_000)))) as url, session.get(url) as got:
        assert await read_somehow(got.content, chance) == b"".join(pieces)


async def test_what_is_compressed_arrives_whole(session: aiohttp.ClientSession) -> None:
    chance = random.Random(5)
    text = bytes(chance.choices(b"abc \n", k=200_000))
    packed = cut(gzip.compress(text), chance, 60)
    parts = cut(chunked(packed, b"Content-Encoding: gzip\r\n"), chance, 9000)
    async with sending(parts) as url, session.get(url) as got:
        assert await read_somehow(got.content, chance) == text


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "aiohttp's own"])
async def test_what_came_together_is_one_piece(ours: bool) -> None:
    """Without ours it is one for each chunk: when that changes there, ours has had its day."""
    async with aiohttp.ClientSession() as session, sending([chunked([b"token "] * 40)]) as url:
        assert session.connector is not None
        if ours:
            use(session.connector)
        async with session.get(url) as got:
            while got.content.total_bytes < 240:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
            assert (len(got.content._buffer) == 1) is ours
            assert await got.read() == b"token " * 40
