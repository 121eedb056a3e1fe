"""The end of a gateway with answers under way (product.md 5, row 19): they may end, then they are told to, and say so.
None ends silently.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp import web
from doors import CHAT, GENERATE, V1, Ask, Door, Heard, Turn, ask_door
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import FakeOpenAI
from fakes.script import Script, Trouble
from gateway import Gateway, alias, ollama_provider, openai_provider, running, warm
from watch import until

ROOT = Path(__file__).resolve().parent.parent
DOORS = (CHAT, GENERATE, V1)
TEXT = ("one ", "two ", "three")
ASK = Ask((Turn("user", "Count."),))
WORDS = "the gateway is shutting down: ask again"
STALLED = Script(text=TEXT, trouble=Trouble.STALL, after=2)


@asynccontextmanager
async def before(folder: Path, *scripts: Script) -> AsyncIterator[tuple[Gateway, list[str]]]:
    """A gateway with the models `wire-N` and `real-N` that play `scripts`."""
    async with FakeOpenAI() as wire, FakeOllama() as real:
        upstreams = {"wire": wire, "real": real}
        names = [f"{provider}-{number}" for provider in upstreams for number in range(len(scripts))]
        config = {
            "providers": {"wire": openai_provider(wire.url), "real": ollama_provider(real.url)},
            "models": {name: alias(name[:4], name) for name in names},
        }
        async with running(folder, config) as gateway:
            for provider, upstream in upstreams.items():
                await warm(gateway, upstream, provider)
                for number, script in enumerate(scripts):
                    upstream.play(f"{provider}-{number}", script)
            yield gateway, names


async def begun(gateway: Gateway, count: int) -> None:
    """Returns once `count` streams have given their client something, as the gauge tells."""
    while True:
        async with gateway.http.get(f"{gateway.url}/metrics") as response:
            found = re.search(r"^active_streams (\S+)$", await response.text(), re.M)
        if found and float(found[1]) == count:
            return
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
async def test_a_stream_that_cannot_end_says_so(tmp_path: Path, door: Door) -> None:
    async with before(tmp_path, STALLED) as (gateway, names):
        asking = [asyncio.ensure_future(gateway.ask(door, ASK, name, True)) for name in names]
        await begun(gateway, len(names))
        await gateway.running.stop()
        for heard in await asyncio.gather(*asking):
            assert heard.status == (200 if heard.text else 503)
            assert "one two ".startswith(heard.text)
            assert (heard.error, heard.finished, heard.cut) == (WORDS, False, False)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
async def test_who_has_got_nothing_yet_gets_a_status(tmp_path: Path, door: Door, stream: bool) -> None:
    async with before(tmp_path, Script(text=TEXT, hold=asyncio.Event())) as (gateway, names):
        asking = [asyncio.ensure_future(gateway.ask(door, ASK, name, stream)) for name in names]
        await until(lambda: gateway.running._doors.open >= len(names))
        await gateway.running.stop()
        for heard in await asyncio.gather(*asking):
            assert (heard.status, heard.error, heard.cut) == (503, WORDS, False)
            assert heard.headers["retry-after"] == "1"


async def test_answers_may_end_first(tmp_path: Path) -> None:
    go_on = asyncio.Event()
    async with before(tmp_path, Script(text=TEXT, hold_content=go_on)) as (gateway, names):
        asking = [asyncio.ensure_future(gateway.ask(CHAT, ASK, name, True)) for name in names]
        await begun(gateway, len(names))
        stopping = asyncio.ensure_future(gateway.running.stop(drain=30))
        await until(lambda: not gateway.running._runner.sites)
        with pytest.raises(aiohttp.ClientConnectionError):  # nobody new comes in
            await gateway.ask(CHAT, ASK, names[0], True)
        go_on.set()
        for heard in await asyncio.gather(*asking):
            assert (heard.text, heard.error, heard.finished) == ("".join(TEXT), None, True)
            assert heard.headers.get("connection") != "keep-alive"
        await stopping


async def test_ready_no_longer(tmp_path: Path) -> None:
    """On a connection that is still open."""
    async with before(tmp_path) as (gateway, _):
        async with gateway.http.get(f"{gateway.url}/ready") as response:
            assert (response.status, await response.json()) == (200, {"status": "ready"})
        gateway.running._doors.close()
        for path in ("/ready", "/health", "/v1/health"):
            async with gateway.http.get(gateway.url + path) as response:
                assert response.status == (503 if path == "/ready" else 200)
                assert response.headers["Connection"] == "close"


# -- requests that no provider is asked for yet ------------------------------------------------------------------------
BODY = b'{"model":"wire-0","messages":[{"role":"user","content":"Count."}],"stream":false}'


class Half:
    """A request of which the head and the first bytes of the body are sent."""

    def __init__(self, gateway: Gateway, path: str) -> None:
        self.port = int(gateway.url.rpartition(":")[2])
        self.path = path

    async def __aenter__(self) -> Half:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n\r\n"
        self.writer.write(head.encode() + BODY[:10])
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def answer(self) -> tuple[int, bytes, dict[str, object]]:
        """-> (status, head, body)"""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
        assert length is not None
        return int(head.split()[1]), head, json.loads(await self.reader.readexactly(int(length[1])))


async def test_a_body_that_is_still_coming_may_come(tmp_path: Path) -> None:
    async with before(tmp_path, Script(text=TEXT)) as (gateway, _), Half(gateway, "/api/chat") as half:
        await until(lambda: gateway.running._doors.open == 1)
        stopping = asyncio.ensure_future(gateway.running.stop(drain=30))
        await until(lambda: not gateway.running._runner.sites)
        await asyncio.sleep(0.05)
        half.writer.write(BODY[10:] + b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n")  # the last is not read
        async with asyncio.timeout(10):
            status, _, body = await half.answer()
            await stopping
    assert (status, body["message"]) == (200, {"role": "assistant", "content": "".join(TEXT)})


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/api/chat", WORDS),
        ("/api/show", WORDS),
        ("/v1/chat/completions", {"message": WORDS, "type": "api_error", "param": None, "code": None}),
    ],
)
async def test_whose_body_does_not_come_in_time_is_told(tmp_path: Path, path: str, error: object) -> None:
    async with before(tmp_path, Script(text=TEXT)) as (gateway, _), Half(gateway, path) as half:
        await until(lambda: gateway.running._doors.open == 1)
        stopping = asyncio.ensure_future(gateway.running.stop())
        async with asyncio.timeout(10):
            status, head, body = await half.answer()
            half.writer.close()
            await stopping
    assert (status, body) == (503, {"error": error})
    assert b"\r\nConnection: close\r\n" in head and b"\r\nRetry-After: 1\r\n" in head


async def test_who_waits_for_a_real_ollamas_words_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def hold(self: FakeOllama, request: web.Request) -> web.Response:
        asked.set()
        await go_on.wait()
        return web.json_response({})

    monkeypatch.setattr(FakeOllama, "show", hold)
    async with FakeOllama({"tiny": ("completion",)}) as real:
        async with running(tmp_path, {"providers": {"real": ollama_provider(real.url)}}) as gateway:
            asking = asyncio.ensure_future(gateway.http.post(f"{gateway.url}/api/show", json={"model": "tiny"}))
            await asyncio.wait_for(asked.wait(), 10)
            await gateway.running.stop()
            async with await asking as response:
                assert (response.status, await response.json()) == (503, {"error": WORDS})
        go_on.set()


async def test_a_request_that_has_just_come_in_is_answered(tmp_path: Path) -> None:
    """Nothing of the gateway but aiohttp's parser has seen it."""
    async with before(tmp_path) as (gateway, _):
        server = gateway.running._runner.server
        known = set(server.connections)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        await until(lambda: len(server.connections) > len(known))
        [connection] = set(server.connections) - known
        connection.data_received(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(10):
            await gateway.running.stop()
            said = await reader.read()
        writer.close()
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")


STREAMS = 200


async def test_two_hundred_streams_and_a_signal(tmp_path: Path) -> None:
    """A real process that gets SIGTERM: half of the streams can end in time, half cannot."""
    go_on = asyncio.Event()
    async with FakeOpenAI() as wire, FakeOllama() as real:
        for provider, upstream in (("wire", wire), ("real", real)):
            upstream.play(f"{provider}-ends", Script(text=TEXT, hold_content=go_on))
            upstream.play(f"{provider}-stalls", STALLED)
        names = ("wire-ends", "wire-stalls", "real-ends", "real-stalls")
        config = {
            "server": {"listen": "127.0.0.1:0", "drain": "6s", "log_level": "warning"},
            "providers": {"wire": openai_provider(wire.url), "real": ollama_provider(real.url)},
            "models": {name: alias(name[:4], name) for name in names},
            "state_dir": str(tmp_path / "state"),
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        program = await asyncio.create_subprocess_exec(
            sys.executable, str(ROOT / "start_gateway.py"), "--config", str(path),
            stderr=asyncio.subprocess.PIPE, env={**os.environ, "HOME": str(tmp_path)},
        )  # fmt: skip
        try:
            assert program.stderr is not None
            screen = b""
            while b"ollama run" not in screen:
                screen += await program.stderr.readline()
            found = re.search(rb"OLLAMA_HOST=(\S+)", screen)
            assert found, screen
            url = found[1].decode()
            timeout = aiohttp.ClientTimeout(total=None)
            async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
                asking = [
                    asyncio.ensure_future(
                        ask_door(http, url, DOORS[n % 3], DOORS[n % 3].body(ASK, names[n % 4], True), names[n % 4])
                    )
                    for n in range(STREAMS)
                ]
                await begun(Gateway(url, http), STREAMS)
                program.send_signal(signal.SIGTERM)
                await closed(url)
                go_on.set()
                heard = await asyncio.gather(*asking)
            assert await program.wait() == 0
            rest = await program.stderr.read()
        finally:
            if program.returncode is None:
                program.kill()
                await program.wait()
    ended = [one for one in heard if one.finished]
    told = [one for one in heard if one.error == WORDS]
    silent = [one for one in heard if one not in ended and one not in told]
    print(f"{len(ended)} streams ended whole, {len(told)} with an error, {len(silent)} silently")
    assert (len(ended), len(told), len(silent)) == (STREAMS // 2, STREAMS // 2, 0)
    assert all(whole(one) for one in ended)
    assert b"Traceback" not in rest


def whole(heard: Heard) -> bool:
    return heard.text == "".join(TEXT) and heard.error is None and not heard.cut


async def closed(url: str) -> None:
    """Returns once nobody is let in any more."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        except ConnectionRefusedError:
            return
        writer.close()
        await asyncio.sleep(0.01)
