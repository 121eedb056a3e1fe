"""What policy does to a request: losses, repairs, defaults, dropped tools, trimmed conversations, stops, pictures.

Seen from outside: each test starts a gateway of its own before fakes that speak the real wires; what they were asked
is what counts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from asked import asked_ollama, asked_openai
from conftest import Start
from doors import CHAT, GENERATE, V1, Ask, Door, Turn
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import FakeOpenAI
from fakes.script import Script, Trouble
from gateway import alias, ask_least, ollama_provider, openai_provider

GUARD = 10.0  # seconds after which a test gives up waiting for what must come
ASK = Ask((Turn("user", "Hi."),))
SAID = Script(text=("Hel", "lo"))
DOORS: tuple[Door, ...] = (CHAT, GENERATE, V1)
every_door = pytest.mark.parametrize("door", DOORS, ids=[door.name for door in DOORS])
both_ways = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def lab_config(lab: FakeOpenAI, entry: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """One model, `it`, at one OpenAI-wire provider. `entry`: more of the model's own keys."""
    config = {"providers": {"lab": openai_provider(lab.url)}, "models": {"it": alias("lab", "up", **(entry or {}))}}
    return {**config, **more}


# -- strict_parameters and losses ------------------------------------------------------------------------------------
ODD = {"top_k": 7, "mirostat": 2}  # OpenAI's wire has neither


@both_ways
async def test_what_is_lost_is_named(gateway_of: Start, fake_openai: FakeOpenAI, stream: bool) -> None:
    fake_openai.play("up", SAID)
    async with gateway_of(lab_config(fake_openai)) as gateway:
        options = {**ODD, "num_ctx": 4096, "num_gpu": 1, "repeat_penalty": 1.0, "seed": 5}
        heard = await gateway.ask(CHAT, ASK, "it", stream, options=options)
        assert heard.status == 200 and heard.text == "Hello"
        assert set(heard.headers["x-bridge-dropped"].split(", ")) == set(ODD)
        plain = await gateway.ask(CHAT, ASK, "it", stream, options={"seed": 5})
        assert "x-bridge-dropped" not in plain.headers


STRICT = {
    "global": ({"strict_parameters": True}, {}, True),
    "model": ({}, {"strict_parameters": True}, True),
    "model-against-global": ({"strict_parameters": True}, {"strict_parameters": False}, False),
    "neither": ({}, {}, False),
}


@pytest.mark.parametrize(("whole", "own", "is_strict"), list(STRICT.values()), ids=list(STRICT))
async def test_strict_parameters(
    gateway_of: Start, fake_openai: FakeOpenAI, whole: dict[str, Any], own: dict[str, Any], is_strict: bool
) -> None:
    fake_openai.play("up", SAID)
    async with gateway_of(lab_config(fake_openai, own, **whole)) as gateway:
        for door in (CHAT, GENERATE):
            for stream in (True, False):
                heard = await gateway.ask(door, ASK, "it", stream, options=ODD)
                if is_strict:
                    assert heard.status == 400
                    assert heard.error == "model 'it' cannot take: top_k, mirostat (strict_parameters is on)"
                else:
                    assert heard.status == 200
        assert len(fake_openai.about("up")) == (0 if is_strict else 4)
        heard = await gateway.ask(CHAT, ASK, "it", False, options={"seed": 5, "num_ctx": 512, "top_p": 0.5})
        assert heard.status == 200, "nothing is lost of these"


async def test_strict_parameters_hold_for_listed_models_and_embeddings(
    gateway_of: Start, fake_openai: FakeOpenAI
) -> None:
    provider = openai_provider(fake_openai.url, quirks={"rejects": ["dimensions"]})
    config = {
        "providers": {"lab": provider},
        "models": {"vectors": alias("lab", "up", capabilities=["embedding"])},
    }
    fake_openai.play("up", SAID)
    for strict in (True, False):
        async with gateway_of({**config, "strict_parameters": strict}) as gateway:
            heard = await gateway.ask(CHAT, ASK, "lab/up", False, options=ODD)
            assert heard.status == (400 if strict else 200)
            status, words, headers = await ask_least(gateway, "/api/embed", "vectors", dimensions=3)
            if strict:
                assert (status, words) == (400, "model 'vectors' cannot take: dimensions (strict_parameters is on)")
            else:
                assert (status, headers["X-Bridge-Dropped"]) == (200, "dimensions")


# -- parameters a provider refuses -----------------------------------------------------------------------------------
def sent(lab: FakeOpenAI, model: str = "up") -> list[dict[str, Any]]:
    return [seen.json for seen in lab.about(model)]


@both_ways
@pytest.mark.parametrize("door", [CHAT, V1], ids=["chat", "v1"])
async def test_a_refused_parameter_is_dropped_and_remembered(
    gateway_of: Start, fake_openai: FakeOpenAI, door: Door, stream: bool
) -> None:
    fake_openai.play("up", Script(text=("Hel", "lo"), rejects=frozenset({"seed"})))
    fake_openai.play("other", SAID)
    more = {"options": {"seed": 7, "top_p": 0.5}} if door is CHAT else {"seed": 7, "top_p": 0.5}
    async with gateway_of(lab_config(fake_openai)) as gateway:
        for _ in range(2):
            heard = await gateway.ask(door, ASK, "it", stream, **more)
            assert (heard.status, heard.text) == (200, "Hello")
            assert heard.headers["x-bridge-dropped"] == "seed"
            assert "x-bridge-attempts" not in heard.headers, "a repair is no further target"
        first, second, third = sent(fake_openai)
        assert first["seed"] == 7 and "seed" not in second and "seed" not in third
        assert second["top_p"] == third["top_p"] == 0.5
        await gateway.ask(door, ASK, "lab/other", stream, **more)
        assert sent(fake_openai, "other")[0]["seed"] == 7, "a lesson is about one model"


@pytest.mark.parametrize(
    ("known", "other"),
    [("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens")],
)
@pytest.mark.parametrize("door", [CHAT, V1], ids=["chat", "v1"])
async def test_a_limit_is_sent_under_its_other_name(
    gateway_of: Start, fake_openai: FakeOpenAI, door: Door, known: str, other: str
) -> None:
    fake_openai.play("up", Script(text=("Hello",), rejects=frozenset({known})))
    config = lab_config(fake_openai)
    config["providers"]["lab"]["quirks"] = {"max_tokens_field": known}
    more = {"options": {"num_predict": 9}} if door is CHAT else {known: 9}
    async with gateway_of(config) as gateway:
        for _ in range(2):
            heard = await gateway.ask(door, ASK, "it", False, **more)
            assert heard.text == "Hello" and "x-bridge-dropped" not in heard.headers, "nothing is lost"
    first, second, third = sent(fake_openai)
    assert first[known] == 9
    assert second[other] == third[other] == 9 and known not in second and known not in third


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


async def test_a_refused_schema_is_asked_for_in_words(gateway_of: Start, fake_openai: FakeOpenAI) -> None:
    refusal = Script(
        status=400, error="Invalid parameter: 'response_format' of type 'json_schema' is not supported here.",
        error_param="response_format",
    )  # fmt: skip
    fake_openai.play("up", refusal, Script(text=('{"n":1}',)))
    async with gateway_of(lab_config(fake_openai)) as gateway:
        for _ in range(2):
            heard = await gateway.ask(CHAT, Ask(ASK.turns, format=SCHEMA), "it", False)
            assert heard.text == '{"n":1}'
    first, second, third = sent(fake_openai)
    assert first["response_format"]["type"] == "json_schema"
    for body in (second, third):
        assert body["response_format"] == {"type": "json_object"}
        assert '"required"' in body["messages"][0]["content"], "the schema is not told"


MANY = {"seed": 7, "top_p": 0.5, "presence_penalty": 0.5, "frequency_penalty": 0.5}


@both_ways
async def test_three_repairs_at_most_and_a_failed_guess_teaches_nothing(
    gateway_of: Start, fake_openai: FakeOpenAI, stream: bool
) -> None:
    fake_openai.play("up", Script(text=("Hello",), rejects=frozenset(MANY)))
    async with gateway_of(lab_config(fake_openai)) as gateway:
        for _ in range(2):
            heard = await gateway.ask(CHAT, ASK, "it", stream, options=MANY)
            assert heard.status == 400
            assert heard.error is not None and "is not supported with this model" in heard.error
        bodies = sent(fake_openai)
        assert len(bodies) == 8
        assert MANY.keys() <= bodies[0].keys() and MANY.keys() <= bodies[4].keys(), "learnt from a failed guess"
        three = dict(list(MANY.items())[:3])
        assert (await gateway.ask(CHAT, ASK, "it", stream, options=three)).status == 200
        assert len(sent(fake_openai)) == 12


@pytest.mark.parametrize(
    "script",
    [
        Script(status=400, error="This model's maximum context length is 10 tokens, you asked for 20: reduce "
               "max_tokens.", error_code="context_length_exceeded", error_param="max_tokens"),
        Script(status=400, error="The prompt was filtered by our content policy: 'seed' is not supported.",
               error_code="content_filter"),
        Script(status=400, error="Invalid 'temperature': 3 is above the maximum of 2.", error_param="temperature"),
        Script(status=400, error="Invalid messages: 'seed' of a story is not supported.", error_param="messages"),
        Script(status=401, error="'seed' is not supported with this key."),
        Script(status=500, error="Unsupported parameter: 'seed'."),
    ],
    ids=["context", "filter", "range", "messages", "key", "server"],
)  # fmt: skip
async def test_what_is_no_refused_parameter_is_not_tried_again(
    gateway_of: Start, fake_openai: FakeOpenAI, script: Script
) -> None:
    fake_openai.play("up", script)
    async with gateway_of(lab_config(fake_openai)) as gateway:
        options = {"seed": 7, "num_predict": 9, "temperature": 1.5}
        heard = await gateway.ask(CHAT, ASK, "it", False, options=options)
        assert heard.status == (400 if script.status == 400 else 502)
        assert heard.error is not None and script.error in heard.error
    assert len(sent(fake_openai)) == (2 if script.status == 500 else 1), "a failure of the server's is worth a retry"
    assert all(request["seed"] == 7 for request in sent(fake_openai))


@pytest.mark.parametrize("path", ["/api/embed", "/v1/embeddings"])
async def test_a_parameter_of_embeddings_is_dropped_and_remembered(
    gateway_of: Start, fake_openai: FakeOpenAI, path: str
) -> None:
    fake_openai.play("up", Script(rejects=frozenset({"dimensions", "user"})))
    more = {"dimensions": 3, **({"user": "me"} if path.startswith("/v1") else {})}
    async with gateway_of(lab_config(fake_openai, {"capabilities": ["embedding"]})) as gateway:
        for _ in range(2):
            status, words, headers = await ask_least(gateway, path, "it", **more)
            assert status == 200, words
            assert set(headers["X-Bridge-Dropped"].split(", ")) == more.keys()
    bodies = sent(fake_openai)
    assert len(bodies) == len(more) + 2 and not more.keys() & bodies[-1].keys()


async def test_a_parameter_refused_while_strict_is_told(gateway_of: Start, fake_openai: FakeOpenAI) -> None:
    fake_openai.play("up", Script(text=("Hello",), rejects=frozenset({"seed"})))
    async with gateway_of(lab_config(fake_openai, strict_parameters=True)) as gateway:
        heard = await gateway.ask(CHAT, ASK, "it", False, options={"seed": 7})
        assert (heard.status, heard.error) == (400, "model 'it' cannot take: seed (strict_parameters is on)")


# -- defaults of the configuration -----------------------------------------------------------------------------------
DEFAULTS = {"temperature": 0.25, "max_tokens": 50, "system": "Be kind.", "think": "low"}


@every_door
async def test_defaults_are_sent_when_the_request_does_not_say(
    gateway_of: Start, fake_openai: FakeOpenAI, door: Door
) -> None:
    fake_openai.play("up", SAID)
    config = lab_config(fake_openai, defaults=DEFAULTS)
    own = {"temperature": 0.75, "system": "Be brief.", "options": {"top_p": 0.5, "stop": ["END"]}}
    config["models"]["own"] = alias("lab", "up", **own)
    async with gateway_of(config) as gateway:
        for model in ("it", "lab/up", "own"):
            assert (await gateway.ask(door, ASK, model, True)).status == 200
    general, listed, mine = sent(fake_openai)
    for body in (general, listed):
        assert (body["temperature"], body["max_tokens"], body["reasoning_effort"]) == (0.25, 50, "low")
        assert [message["content"] for message in body["messages"]] == ["Be kind.", "Hi."]
    assert (mine["temperature"], mine["max_tokens"], mine["reasoning_effort"]) == (0.75, 50, "low")
    assert (mine["top_p"], mine["stop"]) == (0.5, ["END"])
    assert [message["content"] for message in mine["messages"]] == ["Be brief.", "Hi."]


@pytest.mark.parametrize("door", [CHAT, V1], ids=["chat", "v1"])
async def test_the_request_wins_over_defaults(gateway_of: Start, fake_openai: FakeOpenAI, door: Door) -> None:
    fake_openai.play("up", SAID)
    entry = {"options": {"top_p": 0.5, "stop": ["END"]}, **DEFAULTS}
    ask = Ask((Turn("system", "Be wild."), Turn("user", "Hi.")), think="high", stop=("STOP",), max_tokens=7)
    more: dict[str, Any] = {"temperature": 0, "top_p": 0.9}
    if door is CHAT:
        more = {"options": {"temperature": 0.0, "top_p": 0.9, "num_predict": 7, "stop": ["STOP"]}}
    async with gateway_of(lab_config(fake_openai, entry)) as gateway:
        heard = await gateway.ask(door, ask, "it", False, **more)
        assert heard.status == 200
    (body,) = sent(fake_openai)
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["reasoning_effort"]) == (0, 0.9, 7, "high")
    assert body["stop"] == ["STOP"]
    assert [message["content"] for message in body["messages"]] == ["Be wild.", "Hi."]


async def test_defaults_for_a_real_ollama(gateway_of: Start, fake_ollama: FakeOllama) -> None:
    fake_ollama.play("up", SAID)
    config = {
        "defaults": DEFAULTS,
        "providers": {"box": ollama_provider(fake_ollama.url)},
        "models": {"it": alias("box", "up", keep_alive="10m", options={"num_ctx": 2048})},
    }
    async with gateway_of(config) as gateway:
        assert (await gateway.ask(CHAT, ASK, "it", False)).status == 200
        heard = await gateway.ask(CHAT, ASK, "it", False, think=False, keep_alive=5, options={"temperature": 0.5})
        assert heard.status == 200
    first, second = (seen.json for seen in fake_ollama.about("up"))
    assert first["options"] == {"temperature": 0.25, "num_predict": 50, "num_ctx": 2048}
    assert (first["think"], first["keep_alive"]) == ("low", 600)
    assert [message["content"] for message in first["messages"]] == ["Be kind.", "Hi."]
    assert second["options"] == {"temperature": 0.5, "num_predict": 50, "num_ctx": 2048}
    assert (second["think"], second["keep_alive"]) == (False, 5)


async def test_a_default_that_a_model_cannot_take_is_no_loss(gateway_of: Start, fake_openai: FakeOpenAI) -> None:
    fake_openai.play("up", SAID)
    config = lab_config(fake_openai, defaults=DEFAULTS, strict_parameters=True)
    config["providers"]["lab"]["quirks"] = {"rejects": ["temperature", "think"]}
    config["models"]["it"]["options"] = {"top_k": 5}
    async with gateway_of(config) as gateway:
        heard = await gateway.ask(CHAT, ASK, "it", False)
        assert heard.status == 200 and "x-bridge-dropped" not in heard.headers, heard.error
    (body,) = sent(fake_openai)
    assert body["max_tokens"] == 50 and not {"temperature", "top_k", "reasoning_effort"} & body.keys()


# -- tools a model has not -------------------------------------------------------------------------------------------
NO_TOOLS = {"capabilities": ["completion"]}


@pytest.mark.parametrize("where", ["model", "provider", "nowhere"])
@pytest.mark.parametrize("door", [CHAT, V1], ids=["chat", "v1"])
async def test_drop_tools(gateway_of: Start, fake_openai: FakeOpenAI, door: Door, where: str) -> None:
    fake_openai.play("up", SAID)
    config = lab_config(fake_openai, {**NO_TOOLS, **({"drop_tools": True} if where == "model" else {})})
    if where == "provider":
        config["providers"]["lab"]["drop_tools"] = True
    more = {"tool_choice": "auto"} if door is V1 else {}
    async with gateway_of(config) as gateway:
        heard = await gateway.ask(door, Ask(ASK.turns, tools=(WEATHER,)), "it", True, **more)
    if where == "nowhere" and door is CHAT:
        assert heard.status == 400
        assert heard.error == "registry.ollama.ai/library/it:latest does not support tools"
        assert sent(fake_openai) == []
    elif where != "nowhere":
        assert heard.text == "Hello" and heard.headers["x-bridge-dropped"] == "tools"
        assert not {"tools", "tool_choice"} & sent(fake_openai)[0].keys()


async def test_tools_of_a_model_that_has_them_are_not_dropped(gateway_of: Start, fake_openai: FakeOpenAI) -> None:
    fake_openai.play("up", SAID)
    async with gateway_of(lab_config(fake_openai, {"drop_tools": True})) as gateway:
        heard = await gateway.ask(CHAT, Ask(ASK.turns, tools=(WEATHER,)), "it", True)
    assert "x-bridge-dropped" not in heard.headers and sent(fake_openai)[0]["tools"]


# -- too long a conversation -----------------------------------------------------------------------------------------
LONG = Ask((
    Turn("system", "Be kind."),
    *(Turn(role, f"{n} " + "word " * 60) for n in range(4) for role in ("user", "assistant")),
    Turn("user", "The last."),
))  # fmt: skip


@both_ways
async def test_oldest_turns_go_when_the_window_is_known(
    gateway_of: Start, fake_openai: FakeOpenAI, stream: bool
) -> None:
    fake_openai.play("up", SAID)
    async with gateway_of(lab_config(fake_openai, {"context_length": 400})) as gateway:
        heard = await gateway.ask(CHAT, LONG, "it", stream)
        assert heard.status == 200
    contents = [turn.text.split()[0] for turn in asked_openai(fake_openai.about("up")[0]).turns]
    assert contents[0] == "Be" and contents[-1] == "The"
    dropped = len(LONG.turns) - len(contents)
    assert dropped > 0 and heard.headers["x-bridge-trimmed"] == str(dropped)
    assert contents[1:-1] == ["2", "2", "3", "3"], "the oldest must go, in whole turns"


async def test_the_window_is_known_from_the_providers_own_list(gateway_of: Start, fake_openai: FakeOpenAI) -> None:
    fake_openai.listing = {"data": [{"id": "up", "context_length": 400}]}
    fake_openai.play("up", SAID)
    async with gateway_of(lab_config(fake_openai)) as gateway:
        async with asyncio.timeout(GUARD):
            while "x-bridge-trimmed" not in (await gateway.ask(CHAT, LONG, "it", False)).headers:
                pass


TOO_LONG = Script(status=400, error="This model's maximum context length is 400 tokens.",
                  error_code="context_length_exceeded")  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "more"),
    [({"context_length": 400}, {"truncate": False}), ({}, {}), ({"context_length": 100_000}, {})],
    ids=["truncate-false", "window-unknown", "window-wrong"],
)
async def test_else_the_providers_own_error_comes_through(
    gateway_of: Start, fake_openai: FakeOpenAI, entry: dict[str, Any], more: dict[str, Any]
) -> None:
    fake_openai.play("up", TOO_LONG)
    async with gateway_of(lab_config(fake_openai, entry)) as gateway:
        heard = await gateway.ask(CHAT, LONG, "it", True, **more)
    assert (heard.status, heard.error) == (400, TOO_LONG.error)
    assert "x-bridge-trimmed" not in heard.headers
    (seen,) = fake_openai.about("up")
    assert len(seen.json["messages"]) == len(LONG.turns)


async def test_num_ctx_is_the_limit_of_a_request_that_must_not_be_cut(
    gateway_of: Start, fake_openai: FakeOpenAI
) -> None:
    fake_openai.play("up", SAID)
    async with gateway_of(lab_config(fake_openai)) as gateway:
        small, large = {"options": {"num_ctx": 64}}, {"options": {"num_ctx": 4096}}
        heard = await gateway.ask(CHAT, LONG, "it", True, truncate=False, **small)
        assert heard.status == 400
        assert heard.error is not None and "exceeds the available context size (64 tokens)" in heard.error
        assert sent(fake_openai) == []
        for more in ({"truncate": False, **large}, small):
            assert (await gateway.ask(CHAT, LONG, "it", True, **more)).status == 200
    assert all("num_ctx" not in json.dumps(body) for body in sent(fake_openai))


async def test_a_real_ollama_judges_the_length_itself(gateway_of: Start, fake_ollama: FakeOllama) -> None:
    fake_ollama.play("up", SAID)
    config = {
        "providers": {"box": ollama_provider(fake_ollama.url)},
        "models": {"it": alias("box", "up", context_length=100)},
    }
    async with gateway_of(config) as gateway:
        for more in ({"truncate": False, "options": {"num_ctx": 64}}, {}):
            heard = await gateway.ask(CHAT, LONG, "it", False, **more)
            assert heard.status == 200, heard.error
    for seen in fake_ollama.about("up"):
        assert len(seen.json["messages"]) == len(LONG.turns)


# -- stop strings ----------------------------------------------------------------------------------------------------
STOPS = ("one", "two", "three", "four", "END")


@every_door
async def test_more_stop_strings_than_the_provider_takes_are_found_here(
    gateway_of: Start, fake_openai: FakeOpenAI, door: Door
) -> None:
    fake_openai.play("up", Script(text=("Hello ", "there EN", "D and ", "more"), trouble=Trouble.STALL, after=3))
    async with gateway_of(lab_config(fake_openai)) as gateway:
        asking = gateway.ask(door, Ask(ASK.turns, stop=STOPS), "it", True)
        heard = await asyncio.wait_for(asking, GUARD)
        assert (heard.text, heard.reason, heard.error) == ("Hello there ", "stop", None)
        assert heard.finished and not heard.cut
        assert heard.prompt and heard.completion, "usage that never came is estimated"
        assert "x-bridge-dropped" not in heard.headers
        (seen,) = fake_openai.about("up")
        await asyncio.wait_for(seen.gone.wait(), GUARD)
        assert len(seen.json.get("stop", [])) <= 4


@every_door
async def test_stop_strings_of_a_whole_answer_are_found_here(
    gateway_of: Start, fake_openai: FakeOpenAI, door: Door
) -> None:
    fake_openai.play("up", Script(text=("Hello there END and more",)))
    async with gateway_of(lab_config(fake_openai)) as gateway:
        heard = await gateway.ask(door, Ask(ASK.turns, stop=STOPS), "it", False)
        assert (heard.text, heard.reason) == ("Hello there ", "stop")
        few = await gateway.ask(door, Ask(ASK.turns, stop=STOPS[:4]), "it", False)
        assert few.text == "Hello there END and more"
    first, second = sent(fake_openai)
    assert len(first.get("stop", [])) <= 4 and second["stop"] == list(STOPS[:4])


async def test_a_real_ollama_takes_any_number_of_stop_strings(gateway_of: Start, fake_ollama: FakeOllama) -> None:
    fake_ollama.play("up", SAID)
    config = {"providers": {"box": ollama_provider(fake_ollama.url)}, "models": {"it": alias("box", "up")}}
    async with gateway_of(config) as gateway:
        await gateway.ask(V1, Ask(ASK.turns, stop=STOPS), "it", False)
    assert asked_ollama(fake_ollama.about("up")[0]).stop == list(STOPS)


# -- pictures by address ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("model", ["echo", "box"])
@every_door
async def test_no_picture_is_fetched_from_inside(
    gateway_of: Start, fake_ollama: FakeOllama, door: Door, model: str
) -> None:
    fake_ollama.play("up", SAID)
    config = {
        "providers": {"box": ollama_provider(fake_ollama.url), "echo": {"kind": "echo"}},
        "models": {"box": alias("box", "up")},
    }
    inside = (f"{fake_ollama.url}/secret.png", "http://localhost/a.png", "http://169.254.169.254/latest/meta-data",
              "http://[::1]/a.png", "http://10.0.0.7/a.png")  # fmt: skip
    async with gateway_of(config) as gateway:
        for url in inside:
            ask = Ask((Turn("user", "What?", image_urls=(url,)),))
            heard = await gateway.ask(door, ask, model, True)
            assert (heard.status, heard.error) == (400, "image URL: not a public address")
    assert not fake_ollama.about("up") and not [seen for seen in fake_ollama.seen if "secret" in seen.path]
