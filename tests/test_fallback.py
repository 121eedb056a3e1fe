"""Ordered targets: who is asked next, when, and what the client is told of it (house rules, section 3).

Before any content a failure that is not the request's own is the next target's turn; after it nobody else is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from conftest import Start
from doors import CHAT, GENERATE, V1, Ask, Door, Heard, Turn
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import FakeOpenAI
from fakes.script import Script, Trouble
from gateway import NOBODY, alias, ask_least, ollama_provider, openai_provider, warm

GUARD = 10.0  # seconds after which a test gives up waiting for what must come
ASK = Ask((Turn("user", "Hi."),))
SAID = Script(text=("Hel", "lo"))
DOORS: tuple[Door, ...] = (CHAT, GENERATE, V1)
every_door = pytest.mark.parametrize("door", DOORS, ids=[door.name for door in DOORS])
both_ways = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


class Two:
    """Two providers, `a` and `b`, and a real Ollama `box`, each with a model `up`."""

    def __init__(self) -> None:
        self.a, self.b, self.box = FakeOpenAI(), FakeOpenAI(), FakeOllama()
        self.upstreams = {"a": self.a, "b": self.b, "box": self.box}
        for upstream in self.upstreams.values():
            upstream.play("up", SAID)

    def config(self, *targets: str, **more: Any) -> dict[str, Any]:
        words = ["completion", "tools", "vision", "thinking", "embedding"]
        return {
            "providers": {
                "a": openai_provider(self.a.url),
                "b": openai_provider(self.b.url),
                "box": ollama_provider(self.box.url),
                "off": {"kind": "openai", "base_url": "https://api.groq.com/openai/v1"},
                "groq": {},
                "nobody": openai_provider(NOBODY),
            },
            "models": {"it": {"targets": list(targets), "capabilities": words}},
            **more,
        }


@pytest.fixture
async def two() -> Any:
    world = Two()
    async with world.a, world.b, world.box:
        yield world


GOING_ON = {
    "500": Script(status=500, error="It broke."),
    "503": Script(status=503, error="Later."),
    "401": Script(status=401, error="Who are you?"),
    "402": Script(status=402, error="Pay."),
    "403": Script(status=403, error="No."),
    "404": Script(status=404, error="The model `up` does not exist."),
    "404-path": Script(status=404, error="Nothing here."),
    "409": Script(status=409, error="Busy."),
    "429": Script(status=429, error="Slow down.", headers={"Retry-After": "20"}),
    "529": Script(status=529, error="Overloaded."),
    "page": Script(status=502, body=b"<html>Bad gateway</html>", content_type="text/html"),
    "reset": Script(text=("Hel", "lo"), trouble=Trouble.CUT, after=0),
}
STREAMED = {
    "error-first": Script(text=("Hel", "lo"), trouble=Trouble.ERROR, error="It fell over.", after=0),
    "end-first": Script(text=("Hel", "lo"), trouble=Trouble.END, after=0),
    "garbage": Script(raw=b"\x00\x01garbage\n\n"),
}
WHOLE = {
    "error-inside": Script(text=("Hello",), trouble=Trouble.ERROR, error="It fell over."),
    "half": Script(text=("Hello",), trouble=Trouble.MALFORMED),
    "garbage": Script(raw=b"\x00\x01garbage"),
}


def failures() -> Iterator[object]:
    for name, script in GOING_ON.items():
        for stream in (True, False):
            yield pytest.param(script, stream, id=f"{name}-{'stream' if stream else 'whole'}")
    for name, script in STREAMED.items():
        yield pytest.param(script, True, id=f"{name}-stream")
    for name, script in WHOLE.items():
        yield pytest.param(script, False, id=f"{name}-whole")


def answered_by(heard: Heard, target: str, attempts: int) -> None:
    assert (heard.status, heard.text, heard.error) == (200, "Hello", None)
    assert heard.finished and heard.headers["x-bridge-target"] == target
    assert heard.headers.get("x-bridge-attempts") == (None if attempts == 1 else str(attempts))


@pytest.mark.parametrize(("script", "stream"), list(failures()))
async def test_the_next_target_is_asked_before_any_content(
    gateway_of: Start, two: Two, script: Script, stream: bool
) -> None:
    two.a.play("up", script)
    async with gateway_of(two.config("a/up", "b/up")) as gateway:
        for door in DOORS:
            answered_by(await gateway.ask(door, ASK, "it", stream), "b/up", 2)
    assert (len(two.a.about("up")), len(two.b.about("up"))) == (3, 3)


@both_ways
@pytest.mark.parametrize("targets", [("a", "box"), ("box", "a"), ("box", "echo"), ("a", "echo")], ids="-".join)
@every_door
async def test_the_next_target_may_speak_another_wire(
    gateway_of: Start, two: Two, door: Door, targets: tuple[str, str], stream: bool
) -> None:
    first, second = targets
    two.upstreams[first].play("up", Script(status=500, error="It broke."))
    names = [f"{name}/echo" if name == "echo" else f"{name}/up" for name in targets]
    async with gateway_of(two.config(*names)) as gateway:
        spoken: Any = door
        heard = await gateway.ask(spoken, ASK, "it", stream)
    assert heard.status == 200 and heard.text == ("Hi." if second == "echo" else "Hello")
    assert heard.headers["x-bridge-target"] == names[1] and heard.headers["x-bridge-attempts"] == "2"


@both_ways
async def test_who_is_not_there_and_who_is_silent_is_passed_over(gateway_of: Start, two: Two, stream: bool) -> None:
    two.a.play("warm", Script(text=("warm",)))
    two.a.play("up", Script(text=("Hello",), hold=asyncio.Event()))
    config = two.config("nobody/up", "groq/up", "a/up", "b/up")
    limit = {"first_byte": "200ms"} if stream else {"total": "200ms"}
    config["models"]["it"]["timeouts"] = {}
    config["providers"]["a"]["timeouts"] = limit
    async with gateway_of(config) as gateway:
        await warm(gateway, two.b, "b")
        heard = await gateway.ask(CHAT, ASK, "it", stream)
        assert heard.status == 200 and heard.text == "Hello"
        assert heard.headers["x-bridge-target"] == "b/up"
        assert heard.headers["x-bridge-attempts"] == "3", "a provider that is off is not asked at all"
        assert len(two.a.about("up")) == 1


CALLERS = {
    "400": Script(status=400, error="Odd."),
    "413": Script(status=413, error="Too large."),
    "422": Script(status=422, error="Odd."),
    "context": Script(status=400, error="maximum context length is 10 tokens", error_code="context_length_exceeded"),
    "filter": Script(status=400, error="Filtered.", error_code="content_filter"),
    "filter-403": Script(status=403, error="Blocked by our safety system.", error_code="content_policy_violation"),
}


@both_ways
@pytest.mark.parametrize("script", list(CALLERS.values()), ids=list(CALLERS))
async def test_a_mistake_of_the_client_is_not_taken_elsewhere(
    gateway_of: Start, two: Two, script: Script, stream: bool
) -> None:
    two.a.play("up", script)
    async with gateway_of(two.config("a/up", "b/up")) as gateway:
        for door in DOORS:
            heard = await gateway.ask(door, ASK, "it", stream)
            assert heard.status == (400 if script.status == 403 else script.status)
            assert heard.error == script.error
            assert heard.headers["x-bridge-target"] == "a/up" and "x-bridge-attempts" not in heard.headers
    assert two.b.about("up") == []


@every_door
@pytest.mark.parametrize("trouble", [Trouble.CUT, Trouble.ERROR, Trouble.MALFORMED, Trouble.END])
async def test_nobody_else_is_asked_after_content(gateway_of: Start, two: Two, door: Door, trouble: Trouble) -> None:
    two.a.play("up", Script(text=("Hel", "lo"), trouble=trouble, after=1, error="It fell over."))
    async with gateway_of(two.config("a/up", "b/up")) as gateway:
        heard = await gateway.ask(door, ASK, "it", True)
    assert heard.status == 200 and heard.text == "Hel" and heard.error and not heard.finished
    assert heard.headers["x-bridge-target"] == "a/up" and "x-bridge-attempts" not in heard.headers
    assert two.b.about("up") == []


@both_ways
async def test_the_last_error_stands_when_nobody_answers(gateway_of: Start, two: Two, stream: bool) -> None:
    two.a.play("up", Script(status=404, error="The model `up` does not exist."))
    two.b.play("up", Script(status=429, error="Slow down.", headers={"Retry-After": "20"}))
    async with gateway_of(two.config("a/up", "b/up")) as gateway:
        for door in DOORS:
            heard = await gateway.ask(door, ASK, "it", stream)
            assert (heard.status, heard.error) == (429, "Slow down.")
            assert heard.headers["retry-after"] == "20"
            assert (heard.headers["x-bridge-target"], heard.headers["x-bridge-attempts"]) == ("b/up", "2")


async def test_a_single_target_is_asked_once(gateway_of: Start, two: Two) -> None:
    two.a.play("up", Script(status=500, error="It broke."))
    async with gateway_of(two.config("a/up")) as gateway:
        heard = await gateway.ask(CHAT, ASK, "it", True)
        assert heard.status == 502 and "x-bridge-attempts" not in heard.headers
    assert len(two.a.about("up")) == 1


@pytest.mark.parametrize("identity", [{}, {"x-request-id": "b-1"}], ids=["without-id", "with-id"])
async def test_the_upstream_id_is_of_who_answered(gateway_of: Start, two: Two, identity: dict[str, str]) -> None:
    two.a.play("up", Script(text=("Hel",), trouble=Trouble.END, after=0, headers={"x-request-id": "a-1"}))
    two.b.play("up", Script(text=("Hel", "lo"), headers=identity))
    async with gateway_of(two.config("a/up", "b/up")) as gateway:
        heard = await gateway.ask(CHAT, ASK, "it", True)
    assert heard.text == "Hello"
    assert heard.headers.get("x-bridge-upstream-id") == identity.get("x-request-id")


async def test_a_loss_at_a_target_that_failed_is_not_told(gateway_of: Start, two: Two) -> None:
    two.a.play("up", Script(text=("Hel",), trouble=Trouble.END, after=0))
    config = two.config("a/up", "box/up")
    async with gateway_of(config) as gateway:
        heard = await gateway.ask(CHAT, ASK, "it", True, options={"top_k": 5})
        assert heard.text == "Hello" and heard.headers["x-bridge-target"] == "box/up"
        assert "x-bridge-dropped" not in heard.headers
        assert two.box.about("up")[0].json["options"] == {"top_k": 5}


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings", "/v1/embeddings"])
async def test_embeddings_have_a_next_target_too(gateway_of: Start, two: Two, path: str) -> None:
    two.a.play("up", Script(status=500, error="It broke."))
    async with gateway_of(two.config("a/up", "b/up")) as gateway:
        status, words, headers = await ask_least(gateway, path, "it")
        assert status == 200, words
        assert (headers["X-Bridge-Target"], headers["X-Bridge-Attempts"]) == ("b/up", "2")


@every_door
async def test_fallback_is_possible_after_a_heart_beat(gateway_of: Start, two: Two, door: Door) -> None:
    release = asyncio.Event()
    two.a.play("up", Script(status=500, error="It broke.", hold=release))
    async with gateway_of(two.config("a/up", "b/up", server={"heartbeat": "50ms"})) as gateway:
        await warm(gateway, two.b, "b")
        body = door.body(ASK, "it", True)
        async with gateway.http.post(gateway.url + door.path, json=body) as response:
            beats = await asyncio.wait_for(response.content.readany(), GUARD)
            release.set()
            heard = Heard(response.status, {k.lower(): v for k, v in response.headers.items()})
            heard.raw = beats + await asyncio.wait_for(response.content.read(), GUARD)
        heard = door.read(heard, "it", True)
    assert beats.strip(b" ") == b"" or beats.startswith(b":")
    assert (heard.status, heard.text, heard.error, heard.finished) == (200, "Hello", None, True)


async def test_a_load_asks_nobody_further(gateway_of: Start, two: Two) -> None:
    """Loads cost nothing: a plan with a cloud target in it is never asked for one."""
    two.box.play("up", Script(status=500, error="It broke."))
    async with gateway_of(two.config("box/up", "a/up")) as gateway:
        for path in ("/api/chat", "/api/generate"):
            async with gateway.http.post(gateway.url + path, json={"model": "it", "stream": False}) as response:
                await response.read()
    assert two.a.about("up") == []


async def test_a_real_ollama_is_asked_to_load(gateway_of: Start, two: Two) -> None:
    class Loading(FakeOllama):
        async def generate(self, request: web.Request) -> web.StreamResponse:
            await self.note(request)
            return web.json_response({"model": "up", "created_at": "x", "response": "", "done": True,
                                      "done_reason": "load"})  # fmt: skip

    async with Loading() as box:
        config = {"providers": {"box": ollama_provider(box.url)}, "models": {"it": alias("box", "up")}}
        async with gateway_of(config) as gateway:
            body = {"model": "it", "keep_alive": "5m"}
            async with gateway.http.post(f"{gateway.url}/api/generate", json=body) as response:
                answer = await response.json(content_type=None)
        assert (answer["model"], answer["done_reason"]) == ("it", "load")
        assert box.about("up")[0].json == {"model": "up", "keep_alive": "5m"}
