"""What /health and /ready tell, and whom."""

from __future__ import annotations

import json
import time
from pathlib import Path

from doors import CHAT, Ask, Turn
from fakes.openai_wire import FakeOpenAI
from fakes.script import Script
from gateway import alias, openai_provider, running, warm

from ollama_bridge import pulse
from ollama_bridge.pulse import Pulse

ASK = Ask((Turn("user", "Hi."),))


async def test_more_is_told_with_the_key_only(tmp_path: Path) -> None:
    async with running(tmp_path, {"server": {"api_key": "ours"}}) as gateway:
        for path in ("/health", "/v1/health"):
            async with gateway.http.get(f"{gateway.url}{path}") as response:
                assert (response.status, await response.json()) == (200, {"status": "ok"})
            async with gateway.http.get(f"{gateway.url}{path}?verbose=1") as response:
                assert response.status == 401
            async with gateway.http.get(f"{gateway.url}/k/ours{path}?verbose=1") as response:
                told = await response.json()
                assert response.status == 200
            assert told["status"] == "ok"
            assert told["providers"]["echo"] == "on"
            assert told["providers"]["openai"] == "provider 'openai' has no key: set OPENAI_API_KEY"
            assert (told["breakers"], told["redis"]) == ({}, "off")
            assert "ours" not in json.dumps(told)


async def test_an_open_breaker_is_told(tmp_path: Path) -> None:
    async with FakeOpenAI() as wire:
        config = {"providers": {"wire": openai_provider(wire.url)}, "models": {"m": alias("wire", "m")}}
        async with running(tmp_path, config) as gateway:
            await warm(gateway, wire, "wire")
            wire.play("m", Script(status=429, error="Slow down.", headers={"Retry-After": "120"}))
            assert (await gateway.ask(CHAT, ASK, "m", False)).status == 429
            async with gateway.http.get(f"{gateway.url}/health?verbose=1") as response:
                breaker = (await response.json())["breakers"]["wire/m"]
            assert (breaker["state"], breaker["reason"]) == ("open", "throttle")
            assert 100 < breaker["seconds"] <= 120
            async with gateway.http.get(f"{gateway.url}/ready") as response:
                assert response.status == 200, "one provider that rests is no reason"


async def test_a_loop_that_was_held_up_is_seen(tmp_path: Path) -> None:
    beats = Pulse()
    beats.start()
    assert beats.lag == 0
    time.sleep(2 * pulse.EVERY)  # noqa: ASYNC251 - this is what it is about
    async with running(tmp_path, {}):
        assert beats.lag > pulse.EVERY / 2
    beats.stop()
