"""Ordered targets: who is asked again, who next, and what the client is told of it (house rules, section 3).

Before any content a failure that is not the request's own is asked once more where that may help, then it is the next
target's turn; after it nobody else is asked. Who has failed too often rests. Every number here is what the upstreams
have seen.
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
from gateway import NO_BREAKERS, NOBODY, alias, ask_least, ollama_provider, openai_provider, warm

pytestmark = pytest.mark.usefixtures("no_pause")

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
            "backoff": NO_BREAKERS,
            **more,
        }


@pytest.fixture
async def two() -> Any:
    world = Two()
    async with world.a, world.b, world.box:
        yield world


# What may pass is asked once more before the next target is: the second number of each.
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
    "reset": Script(trouble=Trouble.RESET),
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


ONCE = {"401", "402", "403", "404", "429"}  # nothing that passes, or not soon


def failures() -> Iterator[object]:
    for name, script in GOING_ON.items():
        for stream in (True, False):
            asked = 1 if name in ONCE else 2
            yield pytest.param(script, stream, asked, id=f"{name}-{'stream' if stream else 'whole'}")
    for name, script in STREAMED.items():
        yield pytest.param(script, True, 2, id=f"{name}-stream")
    for name, script in WHOLE.items():
        yield pytest.param(script, False, 2, id=f"{name}-whole")


def answered_by(heard: Heard, target: str, attempts: int) -> None:
    assert (heard.status, heard.text, heard.error) == (200, "Hello", None)
    assert heard.finished and heard.headers["x-bridge-target"] == target
    assert heard.headers.get("x-bridge-attempts") == (None if attempts == 1 else str(attempts))


@pytest.mark.parametrize(("script", "stream", "asked"), list(failures()))
async def test_the_next_target_is_asked_before_any_content(
    gateway_of: Start, two: Two, script: Script, stream: bool, asked: int
) -> None:
    two.a.play("up", script)
    async with gateway_of(two.config("a/up", "b/up")) as gateway:
        for door in DOORS:
            answered_by(await gateway.ask(door, ASK, "it", stream), "b/up", asked + 1)
    assert (len(two.a.about("up")), len(two.b.about("up"))) == (3 * asked, 3)


PASSING = {
    "500": Script(status=500, error="It broke."),
    "503-soon": Script(status=503, error="Later.", headers={"Retry-After": "0.05"}),
    "429-soon": Script(status=429, error="Slow down.", headers={"Retry-After": "0.05"}),
    "429": Script(status=429, error="Slow down."),
    "529": Script(status=529, error="Overloaded."),
    "reset": Script(trouble=Trouble.RESET),
    "garbage": Script(raw=b"\x00\x01garbage\n\n"),
}


@both_ways
@pytest.mark.parametrize("targets", [("a/up",), ("a/up", "b/up")], ids=["alone", "first-of-two"])
@pytest.mark.parametrize("script", list(PASSING.values()), ids=list(PASSING))
async def test_what_passes_is_answered_by_the_same_target(
    gateway_of: Start, two: Two, script: Script, targets: tuple[str, ...], stream: bool
) -> None:
    async with gateway_of(two.config(*targets)) as gateway:
        for door in DOORS:
            two.a.play("up", script, SAID)
            answered_by(await gateway.ask(door, ASK, "it", stream), "a/up", 2)
    assert (len(two.a.about("up")), len(two.b.about("up"))) == (6, 0)


async def test_a_time_to_wait_is_waited_for(gateway_of: Start, two: Two) -> None:
    two.a.play("up", Script(status=429, error="Slow down.", headers={"Retry-After": "1"}), SAID)
    async with gateway_of(two.config("a/up", "b/up")) as gateway:
        began = asyncio.get_running_loop().time()
        answered_by(await gateway.ask(CHAT, ASK, "it", True), "a/up", 2)
        assert 1.0 <= asyncio.get_running_loop().time() - began < 10.0


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
    assert heard.headers["x-bridge-target"] == names[1] and heard.headers["x-bridge-attempts"] == "3"
    assert len(two.upstreams[first].about("up")) == 2


@both_ways
@pytest.mark.parametrize(("missing", "attempts"), [("a/up", 2), ("nobody/up", 3)], ids=["silent", "refused"])
async def test_who_is_not_there_and_who_is_silent_is_passed_over(
    gateway_of: Start, two: Two, missing: str, attempts: int, stream: bool
) -> None:
    two.a.play("up", Script(trouble=Trouble.SILENT))
    config = two.config("groq/up", missing, "b/up")
    config["providers"]["a"]["timeouts"] = {"first_byte": "200ms"} if stream else {"total": "200ms"}
    async with gateway_of(config) as gateway:
        await warm(gateway, two.b, "b")
        heard = await gateway.ask(CHAT, ASK, "it", stream)
    answered_by(heard, "b/up", attempts)  # a provider that is off is not asked at all
    assert len(two.a.about("up")) == (missing == "a/up"), "the silent target was asked again"
    assert len(two.b.about("up")) == 1


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


ALONE = {  # what a target that is alone answers for ever; the status a client sees, how often it is asked
    "500": (Script(status=500, error="It broke."), 502, 2),
    "503": (Script(status=503, error="Later."), 503, 2),
    "503-soon": (Script(status=503, error="Later.", headers={"Retry-After": "0.05"}), 503, 3),
    "429": (Script(status=429, error="Slow down."), 429, 3),
    "429-soon": (Script(status=429, error="Slow down.", headers={"Retry-After": "0.05"}), 429, 3),
    "429-late": (Script(status=429, error="Slow down.", headers={"Retry-After": "20"}), 429, 1),
    "429-credit": (Script(status=429, error="Pay.", error_code="insufficient_quota"), 502, 1),
    "529": (Script(status=529, error="Overloaded."), 503, 3),
    "401": (Script(status=401, error="Who are you?"), 502, 1),
    "404": (Script(status=404, error="The model `up` does not exist."), 404, 1),
    "400": (Script(status=400, error="Odd."), 400, 1),
    "reset": (Script(trouble=Trouble.RESET), 502, 2),
    "garbage": (Script(raw=b"\x00\x01garbage\n\n"), 502, 2),
}


@both_ways
@pytest.mark.parametrize(("script", "status", "asked"), list(ALONE.values()), ids=list(ALONE))
async def test_a_single_target_is_asked_a_few_times_at_most(
    gateway_of: Start, two: Two, script: Script, status: int, asked: int, stream: bool
) -> None:
    two.a.play("up", script)
    async with gateway_of(two.config("a/up")) as gateway:
        heard = await gateway.ask(CHAT, ASK, "it", stream)
    assert heard.status == status and heard.error
    assert heard.headers.get("x-bridge-attempts") == (str(asked) if asked > 1 else None)
    assert len(two.a.about("up")) == asked


async def test_more_than_a_few_attempts_take_their_time(gateway_of: Start, two: Two) -> None:
    """Three in 3 s, over all targets together."""
    for upstream in (two.a, two.b):
        upstream.play("up", Script(status=503, error="Later."))
    async with gateway_of(two.config("a/up", "b/up")) as gateway:
        began = asyncio.get_running_loop().time()
        heard = await gateway.ask(CHAT, ASK, "it", True)
        assert 3.0 <= asyncio.get_running_loop().time() - began < 10.0
    assert (heard.status, heard.error) == (503, "provider 'b' failed (503): Later.")
    assert (heard.headers["x-bridge-target"], heard.headers["x-bridge-attempts"]) == ("b/up", "4")
    assert (len(two.a.about("up")), len(two.b.about("up"))) == (2, 2)


# -- who rests -------------------------------------------------------------------------------------------------------
RESTING = {"base": "60s", "max": "300s"}
RESTS = {  # a failure; how many requests it takes until the target rests; what is said then, with which status
    "500": (Script(status=500, error="It broke."), 3, 503, "'a/up' has failed several times in a row"),
    "silent": (Script(trouble=Trouble.SILENT), 3, 503, "'a/up' has failed several times in a row"),
    "reset": (Script(trouble=Trouble.RESET), 3, 503, "'a/up' has failed several times in a row"),
    "midway": (Script(text=("Hel", "lo"), trouble=Trouble.CUT), 3, 503, "'a/up' has failed several times in a row"),
    "429": (Script(status=429, error="Slow down."), 1, 429, "'a/up' has had too many requests"),
    "529": (Script(status=529, error="Overloaded."), 1, 503, "'a/up' is overloaded"),
    "401": (Script(status=401, error="Who?"), 3, 502, "provider 'a' has refused our key or account"),
    "404": (Script(status=404, error="The model `up` does not exist."), 3, 404, "model 'it' not found"),
}


def resting(two: Two, *targets: str) -> dict[str, Any]:
    config = two.config(*targets, backoff=RESTING)
    config["providers"]["a"]["timeouts"] = {"first_byte": "300ms"}
    return config


def told(heard: Heard) -> str:
    return heard.headers.get("x-bridge-reason") or heard.error or ""


@pytest.mark.parametrize(("script", "until", "status", "words"), list(RESTS.values()), ids=list(RESTS))
async def test_who_fails_too_often_rests_and_its_clients_are_told(
    gateway_of: Start, two: Two, script: Script, until: int, status: int, words: str
) -> None:
    async with gateway_of(resting(two, "a/up")) as gateway:
        await warm(gateway, two.a, "a")
        two.a.play("up", script)
        for _ in range(until):
            assert "asked again" not in told(await gateway.ask(CHAT, ASK, "it", True))
        asked = len(two.a.about("up"))
        for door in DOORS:
            heard = await gateway.ask(door, ASK, "it", True)
            assert heard.status == status and (heard.error or "").startswith(words)
            assert 55 <= int(told(heard).rpartition("it is asked again in ")[2].removesuffix(" s")) <= 60
            if status != 404:
                assert heard.headers["retry-after"] in told(heard)
        assert len(two.a.about("up")) == asked


@pytest.mark.parametrize(("script", "until"), [row[:2] for row in RESTS.values()], ids=list(RESTS))
async def test_while_one_rests_the_next_is_asked_first(gateway_of: Start, two: Two, script: Script, until: int) -> None:
    async with gateway_of(resting(two, "a/up", "b/up")) as gateway:
        await warm(gateway, two.a, "a")
        two.a.play("up", script)
        for _ in range(until):
            await gateway.ask(CHAT, ASK, "it", True)
        asked = len(two.a.about("up"))
        for door in DOORS:
            answered_by(await gateway.ask(door, ASK, "it", True), "b/up", 1)
        assert len(two.a.about("up")) == asked


async def test_a_mistake_of_the_client_makes_nobody_rest(gateway_of: Start, two: Two) -> None:
    two.a.play("up", Script(status=400, error="Odd."))
    async with gateway_of(resting(two, "a/up", "b/up")) as gateway:
        for _ in range(5):
            assert (await gateway.ask(CHAT, ASK, "it", True)).status == 400
    assert (len(two.a.about("up")), len(two.b.about("up"))) == (5, 0)


async def test_a_key_that_is_refused_shuts_all_its_models(gateway_of: Start, two: Two) -> None:
    config = resting(two, "a/up")
    config["models"]["other"] = alias("a", "other")
    async with gateway_of(config) as gateway:
        two.a.play("up", Script(status=401, error="Who?"))
        two.a.play("other", SAID)
        for _ in range(3):
            await gateway.ask(CHAT, ASK, "it", True)
        heard = await gateway.ask(CHAT, ASK, "other", True)
        assert heard.status == 502 and heard.error is not None
        assert heard.error.startswith("provider 'a' has refused our key or account")
        assert two.a.about("other") == []


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
        assert (headers["X-Bridge-Target"], headers["X-Bridge-Attempts"]) == ("b/up", "3")


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
        heard = door.read(heard, "b/up", True)
    assert "x-bridge-target" not in heard.headers, "nobody could know then who would answer"
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
