"""Filling in the middle of a text (`suffix`): to services that have an endpoint for it, through the real SDK, and
Ollama's own refusal where there is none (ollama-protocol.md 2.3, providers.md 3.1)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from conftest import Start
from fakes.openai_wire import FakeOpenAI, chat_frames, chat_whole, content_type, model_item
from fakes.script import Frame, Refusal, Script, Tokens, dumps
from gateway import Gateway, openai_provider
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.dialects.base import Profile
from ollama_bridge.dialects.fim import FimDialect
from ollama_bridge.dialects.infill import InfillDialect, Reader
from ollama_bridge.events import Failed, Finish, fold
from ollama_bridge.values import ChatRequest, EmbedRequest, Format, Media, Message, Sampling, Text, Tool

BEFORE, AFTER, MIDDLE = "def add(", "    return c", ("a, ", "b):\n", "    c = a + b\n")

# What Mistral's endpoint knows; it answers 422 to any other name.
MISTRAL = frozenset(
    {"model", "prompt", "suffix", "stream", "temperature", "top_p", "max_tokens", "min_tokens", "stop", "random_seed"}
)


class Codestral(FakeOpenAI):
    """Mistral's side: the answer has the form of a chat's, and the catalogue says which model fills in."""

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/fim/completions", self.fill)
        super().routes(app)

    async def fill(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        try:
            body = self._judged(seen)
            unknown = sorted(body.keys() - MISTRAL)
            if unknown:
                raise Refusal(f"Extra inputs are not permitted: {unknown[0]}", status=422)
            script = self._script(body)
        except Refusal as refusal:
            return self.refused(refusal)
        # Usage comes unasked.
        told = {**body, "stream_options": {"include_usage": True}}
        frames = list(chat_frames(script, told)) if body.get("stream") else None
        return await self.perform(request, seen, script, frames, dumps(chat_whole(script, body)), content_type(body))

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        await self.note(request)
        able = {"completion_chat": True, "completion_fim": True, "function_calling": True}
        return web.json_response({"data": [{**model_item("codestral-latest"), "capabilities": able}]})


class LlamaServer(FakeOpenAI):
    """llama.cpp's side."""

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/infill", self.infill)
        super().routes(app)

    async def infill(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        try:
            body = self._judged(seen)
            script = self._script(body)
        except Refusal as refusal:
            return self.refused(refusal)
        last = {
            "content": "", "stop": True, "model": body["model"], "stop_type": "eos",
            "timings": {"prompt_n": 9, "prompt_ms": 3.0, "predicted_n": 4, "predicted_ms": 8.0},
        }  # fmt: skip
        pieces = [{"index": 0, "content": text, "stop": False} for text in script.text]
        frames = [Frame(b"data: " + dumps(frame) + b"\n\n", "content" in frame) for frame in [*pieces, last]]
        whole = dumps({**last, "content": "".join(script.text)})
        steps = frames if body.get("stream") else None
        return await self.perform(request, seen, script, steps, whole, content_type(body))


SERVICES: dict[str, tuple[type[FakeOpenAI], str, dict[str, Any]]] = {
    # name -> (the fake, the path it is asked at, its quirks)
    "mistral": (
        Codestral,
        "/v1/fim/completions",
        {"fills_by": "fim", "fills_at": "/v1/fim/completions", "seed_field": "random_seed", "stream_usage": False},
    ),
    "deepseek": (FakeOpenAI, "/beta/completions", {"fills_by": "fim", "fills_at": "/beta/completions"}),
    "llamacpp": (LlamaServer, "/infill", {"fills_by": "infill", "fills_at": "/infill"}),
}


@pytest.fixture(params=list(SERVICES))
def service(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def upstream(service: str) -> AsyncIterator[FakeOpenAI]:
    async with SERVICES[service][0](("codestral-latest",)) as fake:
        fake.play("codestral-latest", Script(text=MIDDLE, usage=Tokens(9, 4)))
        yield fake


def config(service: str, url: str) -> dict[str, Any]:
    return {
        "providers": {"lab": openai_provider(url, quirks=SERVICES[service][2])},
        "models": {"coder": {"targets": ["lab/codestral-latest"], "system": "Be brief."}},
    }


async def generate(gateway: Gateway, **more: Any) -> tuple[int, list[dict[str, Any]], Any]:
    body = {"model": "coder", "prompt": BEFORE, "suffix": AFTER, **more}
    async with gateway.http.post(f"{gateway.url}/api/generate", json=body) as response:
        text = await response.text()
        return response.status, [json.loads(line) for line in text.splitlines()], response.headers


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_the_middle_is_filled_in(gateway_of: Start, service: str, upstream: FakeOpenAI, stream: bool) -> None:
    async with gateway_of(config(service, upstream.url)) as gateway:
        options = {"temperature": 0.5, "num_predict": 40, "seed": 7, "stop": ["\n\n"]}
        status, lines, headers = await generate(gateway, stream=stream, options=options)
    assert status == 200, lines
    assert "".join(line["response"] for line in lines) == "".join(MIDDLE)
    assert (len(lines) > 2) is stream
    assert lines[-1]["done"] is True and lines[-1]["done_reason"] == "stop"
    assert (lines[-1]["prompt_eval_count"], lines[-1]["eval_count"]) == (9, 4)
    (seen,) = [seen for seen in upstream.seen if seen.method == "POST"]
    assert seen.path == SERVICES[service][1]
    named = ("input_prefix", "input_suffix") if service == "llamacpp" else ("prompt", "suffix")
    assert (seen.json[named[0]], seen.json[named[1]]) == (BEFORE, AFTER)
    assert seen.json["temperature"] == 0.5 and seen.json["stop"] == ["\n\n"]
    assert seen.json["n_predict" if service == "llamacpp" else "max_tokens"] == 40
    assert seen.json["random_seed" if service == "mistral" else "seed"] == 7
    assert "messages" not in seen.json
    assert "X-Bridge-Dropped" not in headers, "a default that has no place is no loss"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_over_v1(gateway_of: Start, service: str, upstream: FakeOpenAI, stream: bool) -> None:
    async with gateway_of(config(service, upstream.url)) as gateway:
        body = {"model": "coder", "prompt": BEFORE, "suffix": AFTER, "stream": stream, "max_tokens": 40}
        async with gateway.http.post(f"{gateway.url}/v1/completions", json=body) as response:
            text = await response.text()
            assert response.status == 200, text
    (seen,) = [seen for seen in upstream.seen if seen.method == "POST"]
    assert seen.path == SERVICES[service][1]
    if not stream:
        answer = json.loads(text)
        assert answer["object"] == "text_completion" and answer["choices"][0]["text"] == "".join(MIDDLE)
        assert {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}.items() <= answer["usage"].items()
        return
    frames = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert frames[-1] == "[DONE]"
    chunks = [json.loads(frame) for frame in frames[:-1]]
    said = [choice["text"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(said) == "".join(MIDDLE)


async def test_the_model_says_that_it_can(gateway_of: Start, service: str, upstream: FakeOpenAI) -> None:
    async with (
        gateway_of(config(service, upstream.url)) as gateway,
        gateway.http.post(f"{gateway.url}/api/show", json={"model": "coder"}) as response,
    ):
        answer = await response.json()
    assert "insert" in answer["capabilities"] and ".Suffix" in answer["template"]


@pytest.mark.parametrize("name", ["coder", "lab/codestral-latest"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_where_nobody_fills_in_the_refusal_is_ollamas(
    gateway_of: Start, fake_openai: FakeOpenAI, stream: bool, name: str
) -> None:
    """Though the model could: its service has no way to ask it."""
    fake_openai.play("codestral-latest", Script(text=MIDDLE))
    settings = {
        "providers": {"lab": openai_provider(fake_openai.url)},
        "models": {"coder": {"targets": ["lab/codestral-latest"]}},
    }
    async with gateway_of(settings) as gateway:
        status, lines, _ = await generate(gateway, stream=stream, model=name)
        assert status == 400
        full = "registry.ollama.ai/library/coder:latest" if name == "coder" else f"registry.ollama.ai/{name}:latest"
        assert lines == [{"error": f"{full} does not support insert"}]
        async with gateway.http.post(f"{gateway.url}/api/show", json={"model": name}) as response:
            assert "insert" not in (await response.json())["capabilities"]
    assert [seen.path for seen in fake_openai.seen if seen.method == "POST"] == []


async def test_without_a_suffix_it_is_a_chat(gateway_of: Start, service: str, upstream: FakeOpenAI) -> None:
    async with gateway_of(config(service, upstream.url)) as gateway:
        for suffix in ("", None):
            status, lines, _ = await generate(gateway, suffix=suffix, stream=False)
            assert status == 200 and lines[0]["response"] == "".join(MIDDLE)
    assert {seen.path for seen in upstream.seen if seen.method == "POST"} == {"/v1/chat/completions"}


async def test_a_refusal_comes_through_in_its_own_words(gateway_of: Start, service: str, upstream: FakeOpenAI) -> None:
    upstream.play("codestral-latest", Script(status=400, error="Infill is not supported by this model"))
    async with gateway_of(config(service, upstream.url)) as gateway:
        status, lines, _ = await generate(gateway)
    assert status == 400 and "Infill is not supported by this model" in lines[0]["error"]


async def test_a_parameter_that_is_refused_is_learnt_for_here_alone(gateway_of: Start) -> None:
    async with FakeOpenAI() as fake:
        fake.play("codestral-latest", Script(text=MIDDLE, rejects=frozenset({"seed"})))
        async with gateway_of(config("deepseek", fake.url)) as gateway:
            for _ in range(2):
                status, _, headers = await generate(gateway, stream=False, options={"seed": 7})
                assert status == 200 and headers["X-Bridge-Dropped"] == "seed"
            fake.play("codestral-latest", Script(text=MIDDLE))
            status, _, headers = await generate(gateway, stream=False, suffix="", options={"seed": 7})
            assert status == 200 and "X-Bridge-Dropped" not in headers
    asked = [seen.json for seen in fake.seen if seen.method == "POST"]
    assert ["seed" in body for body in asked] == [True, False, False, True]


# -- what has no place beside a gap --------------------------------------------------------------------------------
ASK = ChatRequest("m", [Message("user", [Text(BEFORE)])], suffix=AFTER)

LOST: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, []),
    "raw": ({"raw": True}, []),
    "no-thoughts": ({"think": False}, []),
    "thoughts": ({"think": True}, ["think"]),
    "template": ({"template": "{{ .Prompt }}"}, ["template"]),
    "system": ({"messages": [Message("system", [Text("Be brief.")]), *ASK.messages]}, ["system"]),
    "turns": (
        {"messages": [Message("user", [Text("Hi")]), Message("assistant", [Text("Ho")]), *ASK.messages]},
        ["context"],
    ),
    "picture": ({"messages": [Message("user", [Text(BEFORE), Media(data="AA==")])]}, ["images"]),
    "format": ({"format": Format()}, ["format"]),
    "tools": ({"tools": [Tool("f")]}, ["tools"]),
    "names": ({"vendor": {"openai": {"user": "u", "best_of": 2}}}, ["best_of", "user"]),
}


@pytest.mark.parametrize("dialect", [FimDialect(), InfillDialect()], ids=["fim", "infill"])
@pytest.mark.parametrize(("asked", "lost"), list(LOST.values()), ids=list(LOST))
def test_losses_are_named(dialect: FimDialect | InfillDialect, asked: dict[str, Any], lost: list[str]) -> None:
    request = ChatRequest("m", **{"messages": ASK.messages, "suffix": AFTER, **asked})
    _, body, losses = dialect.encode(request, "m", Profile(reasoning="none"))
    assert [loss.name for loss in losses] == lost
    assert {"model": "m", "stream": False}.items() <= body.items()
    assert [value for name, value in body.items() if name not in ("model", "stream")] == [BEFORE, AFTER]


@pytest.mark.parametrize("dialect", [FimDialect(), InfillDialect()], ids=["fim", "infill"])
def test_a_text_without_a_prompt(dialect: FimDialect | InfillDialect) -> None:
    _, body, losses = dialect.encode(ChatRequest("m", suffix=AFTER), "m", Profile())
    assert not losses and "" in body.values()
    with pytest.raises(TypeError):
        dialect.encode(EmbedRequest("m", ["a"]), "m", Profile())


def test_the_server_of_llama_cpp_has_names_of_its_own() -> None:
    sampling = Sampling(max_tokens=9, top_k=4, min_p=0.1, repeat_penalty=1.1, extra={"typical_p": 0.5})
    request = ChatRequest("m", ASK.messages, stream=True, suffix=AFTER, sampling=sampling)
    profile = Profile(accepts=frozenset({"top_k", "min_p", "repeat_penalty", "typical_p"}))
    _, body, losses = InfillDialect().encode(request, "m", profile)
    assert not losses
    assert body == {
        "model": "m", "stream": True, "top_k": 4, "min_p": 0.1, "repeat_penalty": 1.1, "typical_p": 0.5,
        "n_predict": 9, "input_prefix": BEFORE, "input_suffix": AFTER,
    }  # fmt: skip


# -- llama.cpp's frames ----------------------------------------------------------------------------------------------
STREAM = (
    'data: {"index":0,"content":"a, ","tokens":[64],"stop":false,"id_slot":0,"tokens_predicted":1}\n\n'
    'data: {"index":0,"content":"\u00e9\u0085\U0001f600","stop":false}\n\n'
    'data: {"index":0,"content":"","stop":true,"model":"m","stop_type":"limit",'
    '"timings":{"prompt_n":9,"cache_n":3,"predicted_n":4,"predicted_ms":8.0}}\n\n'
).encode()
TEXT = "a, \u00e9\u0085\U0001f600"


@given(st.lists(st.integers(0, len(STREAM)), max_size=4).map(sorted))
def test_cut_anywhere_the_stream_means_the_same(cuts: list[int]) -> None:
    reader = Reader()
    events = []
    for start, end in zip([0, *cuts], [*cuts, len(STREAM)], strict=True):
        events += reader.feed(STREAM[start:end])
    assert reader.ending
    events += reader.end()
    reply = fold(events)
    assert [block.text for block in reply.blocks if isinstance(block, Text)] == [TEXT]
    assert (reply.reason, reply.usage.prompt, reply.usage.completion, reply.usage.cached) == ("length", 12, 4, 3)
    assert reader.feed(b"data: {}\n\n") == reader.end() == []


WHOLE = (
    b'{"index":0,"content":"a, b","stop":true,"model":"m","stop_type":"eos","timings":{"prompt_n":9,"predicted_n":4}}'
)


def test_a_whole_answer_says_the_same_either_way() -> None:
    reply = InfillDialect().read_reply("generate", WHOLE, Profile())
    reader = Reader()
    assert fold([*reader.feed(b"\n" + WHOLE[:9]), *reader.feed(WHOLE[9:]), *reader.end()]) == reply
    assert reply.usage.completion == 4  # type: ignore[union-attr]


BROKEN = {
    "nothing": (b"", "sent no answer"),
    "cut": (b'data: {"content":"a","stop":false}\n\n', "broke off in the middle of its answer"),
    "half-frame": (b'data: {"content":"a"', "not a JSON object"),
    "no-object": (b"data: [1]\n\n", "not a JSON object"),
    "error": (b'data: {"error":{"code":500,"message":"out of slots","type":"server_error"}}\n\n', "out of slots"),
    "whole-error": (b'{"error":{"code":501,"message":"Infill is not supported"}}', "Infill is not supported"),
    "no-answer": (b'{"index":0}', "without an answer"),
}


@pytest.mark.parametrize(("data", "words"), list(BROKEN.values()), ids=list(BROKEN))
def test_a_broken_answer_is_never_a_clean_end(data: bytes, words: str) -> None:
    reader = Reader()
    events = [*reader.feed(data), *reader.end()]
    assert not any(isinstance(event, Finish) for event in events)
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert words in failed.error.message
