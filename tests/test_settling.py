"""What an attempt leaves behind in breakers, limits and counts, however it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from doors import CHAT, GENERATE, V1, Ask, Door, Turn
from fakes.openai_wire import FakeOpenAI
from fakes.script import Script
from gateway import Gateway, alias, hardly_any_pause, openai_provider, running, warm
from watch import until, watching

from ollama_bridge.policy.streaming import Translated

ASK = Ask((Turn("user", "Count."),))
every_door = pytest.mark.parametrize("door", (CHAT, GENERATE, V1), ids=lambda door: door.name)


@asynccontextmanager
async def before(folder: Path, **config: Any) -> AsyncIterator[tuple[Gateway, FakeOpenAI]]:
    async with FakeOpenAI() as wire:
        made = {"providers": {"wire": openai_provider(wire.url)}, "models": {"m": alias("wire", "m")}, **config}
        async with running(folder, made) as gateway:
            await warm(gateway, wire, "wire")
            with hardly_any_pause():
                yield gateway, wire


async def figure(gateway: Gateway, name: str) -> float:
    async with gateway.http.get(f"{gateway.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


async def test_nobody_waits_for_the_last_word_of_a_probe(tmp_path: Path) -> None:
    async with before(tmp_path, backoff={"base": "50ms"}) as (gateway, wire):
        wire.play("m", Script(status=500, error="It broke."))
        while (await gateway.ask(CHAT, ASK, "m", True)).status == 502:
            pass
        text = ("one ", *["two "] * 50)
        wire.play("m", Script(text=text, linger=True, done=False, reason=""))
        body = json.dumps(CHAT.body(ASK, "m", True))
        await asyncio.sleep(0.06)  # its period
        async with gateway.http.post(f"{gateway.url}/api/chat", data=body) as probe:
            assert probe.status == 200
            await probe.content.readany()
            wire.play("m", Script(text=("three",)))
            heard = await gateway.ask(CHAT, ASK, "m", True)
        assert (heard.status, heard.text) == (200, "three")


async def test_what_came_to_nothing_costs_no_tokens(tmp_path: Path) -> None:
    async with before(tmp_path, limits={"tokens_per_minute": 10_000}) as (gateway, wire):
        wire.play("m", Script(status=400, error="Odd."))
        options = {"options": {"num_predict": 4000}}
        heard = [(await gateway.ask(CHAT, ASK, "m", stream, **options)).status for stream in (True, False) * 3]
        assert heard == [400] * 6
        wire.play("m", Script(text=("Hi",)))
        assert (await gateway.ask(CHAT, ASK, "m", False, **options)).status == 200


async def test_a_limit_of_ours_does_not_hide_the_failure(tmp_path: Path) -> None:
    limits = {"providers": {"wire": {"requests_per_minute": 2}}}
    async with before(tmp_path, limits=limits) as (gateway, wire):
        wire.play("m", Script(status=500, error="It broke."))
        heard = await gateway.ask(CHAT, ASK, "m", False)
        assert heard.status == 502
        assert heard.error is not None and "It broke." in heard.error
        heard = await gateway.ask(CHAT, ASK, "m", False)
        assert heard.status == 429
        assert heard.error is not None and "the gateway's limit" in heard.error


@every_door
async def test_who_leaves_after_the_last_word_has_been_answered(tmp_path: Path, door: Door) -> None:
    """As curl does; the provider's connection is still open."""
    async with before(tmp_path) as (gateway, wire):
        wire.play("m", Script(text=("Hi",), linger=True))
        good, failed = await figure(gateway, "provider_success_total"), await figure(gateway, "provider_failures_total")
        port = int(gateway.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps(door.body(ASK, "m", True)).encode()
        head = f"POST {door.path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.transport.abort()
        await until(lambda: gateway.running._doors.open == 0)
        assert await figure(gateway, "provider_success_total") == good + 1
        assert await figure(gateway, "provider_failures_total") == failed


async def test_a_bug_in_the_middle_of_a_stream_is_told_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Translated.feed

    def breaks(flow: Translated, data: bytes, now: Any) -> bytes:
        if flow.content:
            raise KeyError("a bug")
        return feed(flow, data, now)

    monkeypatch.setattr(Translated, "feed", breaks)
    with watching() as watch:
        async with before(tmp_path) as (gateway, wire):
            wire.play("m", Script(text=("one ", "two")))
            heard = await gateway.ask(CHAT, ASK, "m", True)
        assert heard.text == "one "
        assert heard.error is not None and heard.error.startswith("internal error (request ")
        assert not heard.finished and not heard.cut
        [line] = map(json.loads, watch.lines.bugs)
        assert (line["message"], line["error"]) == ("handler failed", "KeyError")
        watch.lines.bugs.clear()
