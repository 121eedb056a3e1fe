"""The providers beside the SDK's: the echo and what it says, a real Ollama's transport, the rows of presets, addresses,
catalogues."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any, get_args

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.config.schema import Kind
from ollama_bridge.dialects.base import CHAT, EMBED, EMBED_ONE, GENERATE, Profile
from ollama_bridge.errors import GatewayError, Scope, UpstreamRefused
from ollama_bridge.framing import ServerSentEvents
from ollama_bridge.providers.addresses import is_private, is_public, stays_here
from ollama_bridge.providers.base import Call, Timeouts
from ollama_bridge.providers.echo import EchoProvider
from ollama_bridge.providers.echo_schema import value_for
from ollama_bridge.providers.echo_wire import count, tokens
from ollama_bridge.providers.ollama import OllamaProvider, read_tags
from ollama_bridge.providers.openai import read_models
from ollama_bridge.providers.presets import PRESETS, Preset
from ollama_bridge.providers.transport import open_session

# -- the echo: asking it -----------------------------------------------------------------------------------------------


async def ask(body: dict[str, Any], kind: str = CHAT) -> dict[str, Any]:
    upstream = await EchoProvider().open(Call(kind, body, False, Timeouts()))
    assert (upstream.status, upstream.headers) == (200, {"content-type": "application/json"})
    answer: dict[str, Any] = json.loads(await upstream.body(1 << 24))
    return answer


async def frames(body: dict[str, Any], kind: str = CHAT) -> list[dict[str, Any]]:
    """Each read is one frame; the last is [DONE]."""
    upstream = await EchoProvider().open(Call(kind, body, True, Timeouts()))
    assert (upstream.status, upstream.headers) == (200, {"content-type": "text/event-stream"})
    read: list[bytes] = []
    while data := await upstream.read():
        events = ServerSentEvents().feed(data)
        assert len(events) == 1
        read.append(events[0][1])
    assert read.pop() == b"[DONE]"
    return [json.loads(data) for data in read]


def says(text: Any, **more: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": text}], **more}


def message(answer: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = answer["choices"][0]["message"]
    return found


def deltas(read: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [frame["choices"][0]["delta"] for frame in read if frame["choices"]]


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"enum": ["celsius", "kelvin"]},
                "days": {"type": "integer"},
                "exact": {"type": "boolean"},
                "left_out": {"type": "string"},
            },
            "required": ["city", "unit", "days", "exact"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
PNG = base64.b64encode(b"\x89PNG" + bytes(64)).decode()  # 68 bytes


# -- the echo: what it says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (says("Hello there"), "Hello there"),
        (says("  a\n\n b\t"), "  a\n\n b\t"),
        (says("a\u0085b 👩‍👩‍👧🏽 é"), "a\u0085b 👩‍👩‍👧🏽 é"),
        (says(""), ""),
        (says([{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]), "one two"),
        ({"messages": [{"role": "system", "content": "be brief"}]}, ""),
        (
            {
                "messages": [
                    {"role": "user", "content": "first"},
                    {"role": "assistant", "content": "first"},
                    {"role": "user", "content": "second"},
                ]
            },
            "second",
        ),
        (
            says(
                [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                ]
            ),
            "see [1 image: png, 68 bytes]",
        ),
        (
            says(
                [
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                ]
            ),
            "[2 images: png, 68 bytes; by address]",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "weather?"},
                    {"role": "assistant", "tool_calls": []},
                    {"role": "tool", "tool_call_id": "a", "content": "sunny"},
                    {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "noon"}]},
                ],
                "tools": [WEATHER],
            },
            "sunny\nnoon",
        ),
        (says("hi", tools=[WEATHER], tool_choice="none"), "hi"),
        (says("hi", response_format={"type": "text"}), "hi"),
        (says('a "b"', response_format={"type": "json_object"}), '{"echo": "a \\"b\\""}'),
        (
            says(
                "hi",
                response_format={
                    "type": "json_schema",
                    "json_schema": {"schema": {"type": "object", "properties": {"answer": {"type": "string"}}}},
                },
            ),
            '{"answer": "hi"}',
        ),
    ],
    ids=[
        "words", "spaces", "unicode", "nothing", "parts", "no user", "many turns", "image", "images", "tool results",
        "no tool wanted", "text format", "json", "schema",
    ],
)  # fmt: skip
async def test_echo_says(body: dict[str, Any], text: str) -> None:
    answer = await ask(body)
    assert (message(answer)["content"], answer["choices"][0]["finish_reason"]) == (text, "stop")
    read = await frames(body)
    assert "".join(delta.get("content", "") for delta in deltas(read)) == text
    assert read[-1]["choices"][0]["finish_reason"] == "stop"


async def test_echo_streams_token_by_token() -> None:
    read = await frames(says("Hello, big world 👩‍👩‍👧🏽"))
    assert [delta.get("content") for delta in deltas(read)] == [
        "", "Hello", ",", " big", " world", " 👩‍👩‍👧🏽", None,
    ]  # fmt: skip
    assert deltas(read)[0]["role"] == "assistant"
    assert len({frame["id"] for frame in read}) == 1
    assert {frame["model"] for frame in read} == {"echo"}
    assert all(frame["object"] == "chat.completion.chunk" for frame in read)


async def test_echo_lets_others_run_between_two_tokens() -> None:
    upstream = await EchoProvider().open(Call(CHAT, says("a b c d"), True, Timeouts()))
    order: list[str] = []

    async def reads() -> None:
        while await upstream.read():
            order.append("echo")

    async def other() -> None:
        for _ in range(4):
            order.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(reads(), other())
    assert "echo,echo" not in ",".join(order[:8])


async def test_echo_can_be_closed() -> None:
    upstream = await EchoProvider().open(Call(CHAT, says("a b c d"), True, Timeouts()))
    assert await upstream.read()
    upstream.close()
    upstream.close()
    assert await upstream.read() == b""


async def test_echo_keeps_the_limit_of_a_body() -> None:
    upstream = await EchoProvider().open(Call(CHAT, says("a" * 1000), False, Timeouts()))
    with pytest.raises(GatewayError, match="longer than 1000 bytes"):
        await upstream.body(1000)


ARGUMENTS = {"city": "Rome", "unit": "celsius", "days": 1, "exact": True}


@pytest.mark.parametrize(
    ("choice", "name", "arguments"),
    [
        (None, "weather", ARGUMENTS),
        ("auto", "weather", ARGUMENTS),
        ("required", "weather", ARGUMENTS),
        ({"type": "function", "function": {"name": "clock"}}, "clock", {}),
    ],
    ids=["unsaid", "auto", "required", "named"],
)
async def test_echo_calls_a_tool(choice: Any, name: str, arguments: dict[str, Any]) -> None:
    body = says("Rome", tools=[WEATHER, CLOCK], **({} if choice is None else {"tool_choice": choice}))
    answer = await ask(body)
    (call,) = message(answer)["tool_calls"]
    assert (message(answer)["content"], answer["choices"][0]["finish_reason"]) == (None, "tool_calls")
    assert (call["type"], call["function"]["name"]) == ("function", name)
    assert json.loads(call["function"]["arguments"]) == arguments

    read = await frames(body)
    pieces = [delta["tool_calls"][0] for delta in deltas(read) if "tool_calls" in delta]
    assert pieces[0]["function"]["name"] == name
    assert pieces[0]["id"].startswith("call_")
    assert all(piece["index"] == 0 for piece in pieces)
    assert json.loads("".join(piece["function"]["arguments"] for piece in pieces)) == arguments
    assert read[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_each_call_has_an_id_of_its_own() -> None:
    ids = {message(await ask(says("x", tools=[CLOCK])))["tool_calls"][0]["id"] for _ in range(2)}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("effort", "thinks"), [("high", True), ("minimal", True), ("none", False), (None, False)], ids=str
)
async def test_echo_thinks_when_asked(effort: str | None, thinks: bool) -> None:
    body = says("Hello", reasoning_effort=effort)
    thought = "The user said: Hello" if thinks else None
    assert message(await ask(body)).get("reasoning_content") == thought
    read = deltas(await frames(body))
    assert "".join(delta.get("reasoning_content", "") for delta in read) == (thought or "")
    kinds = [next(iter(delta)) for delta in read if delta and "role" not in delta]
    assert kinds == sorted(kinds, reverse=True)  # all of the thought comes before the text


async def test_echo_thinks_of_a_tool_result() -> None:
    body = {"messages": [{"role": "tool", "content": "sunny"}], "reasoning_effort": "low"}
    assert message(await ask(body))["reasoning_content"] == "The tool said: sunny"


@pytest.mark.parametrize(
    ("more", "text", "finish"),
    [
        ({"stop": "three"}, "one two ", "stop"),
        ({"stop": ["four", "two", ""]}, "one ", "stop"),
        ({"stop": ["absent"]}, "one two three four", "stop"),
        ({"max_tokens": 2}, "one two", "length"),
        ({"max_completion_tokens": 3, "max_tokens": 1}, "one two three", "length"),
        ({"max_tokens": 4}, "one two three four", "stop"),
        ({"max_tokens": 0}, "", "length"),
        ({"max_tokens": -1}, "one two three four", "stop"),
        ({"max_tokens": 1, "stop": "two"}, "one", "length"),
        ({"max_tokens": None, "stop": None}, "one two three four", "stop"),
    ],
    ids=[
        "stop", "stops", "no stop found", "limit", "newer limit wins", "just enough", "zero", "no limit", "both",
        "null",
    ],
)  # fmt: skip
async def test_echo_keeps_to_limits(more: dict[str, Any], text: str, finish: str) -> None:
    body = says("one two three four", **more)
    answer = await ask(body)
    assert (message(answer)["content"], answer["choices"][0]["finish_reason"]) == (text, finish)
    read = await frames(body)
    assert "".join(delta.get("content", "") for delta in deltas(read)) == text
    assert read[-1]["choices"][0]["finish_reason"] == finish


async def test_thoughts_count_against_the_limit() -> None:
    answer = await ask(says("one two", reasoning_effort="low", max_tokens=3))
    assert message(answer)["reasoning_content"] == "The user said"
    assert (message(answer)["content"], answer["choices"][0]["finish_reason"]) == ("", "length")
    assert answer["usage"]["completion_tokens"] == 3


async def test_echo_counts_tokens() -> None:
    body = says("one two three", reasoning_effort="low")
    body["messages"].insert(0, {"role": "system", "content": "be brief"})
    expected = {
        "prompt_tokens": 5,
        "completion_tokens": 10,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 7},
    }
    assert (await ask(body))["usage"] == expected
    assert not any("usage" in frame for frame in await frames(body))
    last = (await frames({**body, "stream_options": {"include_usage": True}}))[-1]
    assert (last["choices"], last["usage"]) == ([], expected)


async def test_echo_gives_log_probabilities() -> None:
    body = says("ab é", logprobs=True, top_logprobs=2)
    items = (await ask(body))["choices"][0]["logprobs"]["content"]
    assert [(item["token"], item["bytes"]) for item in items] == [("ab", [97, 98]), (" é", [32, 195, 169])]
    for item in items:
        first, second = item["top_logprobs"]
        assert (first["token"], first["logprob"]) == (item["token"], item["logprob"])
        assert second["logprob"] < first["logprob"] <= 0
    again = [frame["choices"][0].get("logprobs") for frame in await frames(body)]
    assert [item for held in again if held for item in held["content"]] == items


@pytest.mark.parametrize(
    ("more", "tops"),
    [({"logprobs": True}, 0), ({"logprobs": True, "top_logprobs": 10**9}, 20), ({"top_logprobs": 3}, None)],
    ids=["none beside", "at most twenty", "not asked"],
)
async def test_how_many_log_probabilities(more: dict[str, Any], tops: int | None) -> None:
    held = (await ask(says("hi", **more)))["choices"][0]["logprobs"]
    assert (held and len(held["content"][0]["top_logprobs"])) == tops


async def test_echo_gives_several_choices() -> None:
    assert [c["index"] for c in (await ask(says("hi", n=3)))["choices"]] == [0, 1, 2]
    read = await frames(says("hi", n=2))
    ends = [f["choices"][0]["index"] for f in read if f["choices"][0]["finish_reason"]]
    assert ends == [0, 1]


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        (CHAT, b"{", "not JSON"),
        (CHAT, b"[]", "not a JSON object"),
        (CHAT, b'{"messages": []}', "'messages'"),
        (CHAT, b'{"messages": ["hi"]}', "'messages'"),
        (CHAT, b"{}", "'messages'"),
        (
            CHAT,
            json.dumps(
                says("x", tools=[CLOCK], tool_choice={"type": "function", "function": {"name": "nope"}})
            ).encode(),
            "'nope', which is not among the tools",
        ),
        (GENERATE, b"{}", "'prompt'"),
        (EMBED, b'{"input": []}', "'input'"),
        (EMBED, b'{"input": "a", "dimensions": 0}', "'dimensions'"),
        (EMBED, b'{"input": "a", "dimensions": 1e9}', "'dimensions'"),
    ],
    ids=[
        "broken", "array", "no message", "odd message", "nothing", "unknown tool", "no prompt", "no input",
        "no dimension", "too many dimensions",
    ],
)  # fmt: skip
async def test_echo_refuses_as_a_server_would(kind: str, body: bytes, words: str) -> None:
    with pytest.raises(UpstreamRefused) as caught:
        await EchoProvider().open(Call(kind, body, False, Timeouts()))
    assert caught.value.status == 400
    error = json.loads(caught.value.body)["error"]
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": 5}, {"content": None}]},
        {"messages": [{"role": "user", "content": [None, {"type": "text"}, {"type": "image_url"}]}]},
        says("x", tools="no", tool_choice=5, response_format=[], n="many", stop=5, max_tokens="no", logprobs="no"),
        says("x", tools=[None, {"function": None}], stream_options=[], reasoning_effort=5, model=None),
        says("x", response_format={"type": "json_schema"}),
        says("x", tools=[{"function": {"parameters": 5}}]),
    ],
    ids=lambda body: json.dumps(body)[:60],
)
async def test_odd_values_do_no_harm(body: dict[str, Any]) -> None:
    assert (await ask(body))["object"] == "chat.completion"
    assert await frames(body)


async def test_a_very_long_answer_ends_at_the_context() -> None:
    answer = await ask(says("word " * 100_000))
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 32768


async def test_the_echo_is_a_local_model_that_needs_nothing() -> None:
    provider = EchoProvider("echo")
    (model,) = await provider.models()
    assert (provider.local, provider.off, provider.kind, provider.dialect) == (True, None, "echo", "openai")
    assert (model.id, model.context_length) == ("echo", 32768)
    assert model.capabilities == {"completion", "tools", "vision", "thinking"}
    await provider.close()


# -- the echo: completions and embeddings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "texts", "finish"),
    [
        ({"prompt": "one two"}, ["one two"], "stop"),
        ({"prompt": ["one", "two"]}, ["one", "two"], "stop"),
        ({"prompt": [1, 2]}, ["1 2"], "stop"),
        ({"prompt": [[1, 2], [3]]}, ["1 2", "3"], "stop"),
        ({"prompt": "one two", "max_tokens": 1}, ["one"], "length"),
        ({"prompt": "one", "echo": True}, ["oneone"], "stop"),
        ({"prompt": ""}, [""], "stop"),
    ],
    ids=["text", "texts", "tokens", "lists of tokens", "limit", "with the prompt", "nothing"],
)
async def test_echo_completes(more: dict[str, Any], texts: list[str], finish: str) -> None:
    answer = await ask(more, GENERATE)
    assert [choice["text"] for choice in answer["choices"]] == texts
    assert {choice["finish_reason"] for choice in answer["choices"]} == {finish}
    said = [""] * len(texts)
    for frame in await frames(more, GENERATE):
        assert frame["object"] == "text_completion"
        said[frame["choices"][0]["index"]] += frame["choices"][0]["text"]
    assert said == texts


async def test_echo_completes_with_log_probabilities() -> None:
    held = (await ask({"prompt": "one two", "logprobs": 2}, GENERATE))["choices"][0]["logprobs"]
    assert (held["tokens"], held["text_offset"]) == (["one", " two"], [0, 3])
    assert [top[token] for top, token in zip(held["top_logprobs"], held["tokens"], strict=True)] == held[
        "token_logprobs"
    ]
    read = await frames({"prompt": "one two", "logprobs": 2, "stream_options": {"include_usage": True}}, GENERATE)
    assert [frame["choices"][0]["logprobs"]["text_offset"] for frame in read[:2]] == [[0], [3]]
    assert read[-1]["usage"]["completion_tokens"] == 2


async def vectors(**body: Any) -> list[list[float]]:
    answer = await ask(body, EMBED)
    assert [row["index"] for row in answer["data"]] == list(range(len(answer["data"])))
    return [row["embedding"] for row in answer["data"]]


async def test_echo_embeds() -> None:
    first, again, near, far, nothing = await vectors(
        input=["the cat sat", "the cat sat", "the cat stood", "quite other words", ""]
    )
    for vector in (first, near, far, nothing):
        assert len(vector) == 64
        assert math.isclose(math.hypot(*vector), 1)

    def likeness(other: list[float]) -> float:
        return sum(a * b for a, b in zip(first, other, strict=True))

    assert first == again
    assert likeness(near) > 0.4 > likeness(far)


async def test_echo_embeds_to_size_and_packed() -> None:
    (plain,) = await vectors(input="hi", dimensions=10)
    answer = await ask({"input": "hi", "dimensions": 10, "encoding_format": "base64"}, EMBED)
    packed = struct.unpack("<10f", base64.b64decode(answer["data"][0]["embedding"]))
    assert packed == pytest.approx(plain, abs=1e-6)
    assert answer["usage"] == {"prompt_tokens": 1, "total_tokens": 1}


# -- the echo: tokens and schemas --------------------------------------------------------------------------------------


@given(st.text())
def test_tokens_are_the_text_in_pieces(text: str) -> None:
    pieces = tokens(text)
    assert "".join(pieces) == text
    assert all(pieces)
    assert count(text) == len(pieces)


@pytest.mark.parametrize("emoji", ["👩‍👩‍👧", "👍🏽", "🇩🇪", "❤️", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "1️⃣"], ids=str)
def test_no_emoji_is_cut(emoji: str) -> None:
    assert tokens(f"{emoji * 3} {emoji}") == [*[emoji] * 3, f" {emoji}"]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "hello"),
        ({}, "hello"),
        (True, "hello"),
        (None, "hello"),
        ({"type": "string", "maxLength": 3}, "hel"),
        ({"type": "string", "minLength": 7}, "hello.."),
        ({"type": "string", "format": "date"}, "2000-01-01"),
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "integer", "exclusiveMinimum": 5}, 6),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "integer", "multipleOf": 4}, 4),
        ({"type": "number", "exclusiveMinimum": 2, "exclusiveMaximum": 3}, 2.5),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["null", "integer"]}, 1),
        ({"const": {"a": 1}}, {"a": 1}),
        ({"enum": ["x", "y"]}, "x"),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 1),
        ({"oneOf": [{"type": "boolean"}, {"type": "integer"}]}, True),
        ({"type": "array", "items": {"type": "integer"}}, [1]),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 3}, [1, 1, 1]),
        ({"type": "array", "maxItems": 0}, []),
        ({"prefixItems": [{"type": "integer"}, {"type": "string"}]}, [1, "hello"]),
        ({"type": "object", "properties": {"a": {}, "b": {"type": "integer"}}, "required": ["b"]}, {"b": 1}),
        ({"properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}, {"a": "hello", "b": 1}),
        ({"type": "object"}, {}),
        (
            {
                "allOf": [
                    {"properties": {"a": {"type": "string"}}, "required": ["a"]},
                    {"properties": {"b": {"type": "integer"}}, "required": ["b"]},
                ]
            },
            {"a": "hello", "b": 1},
        ),
        (
            {"$defs": {"city": {"type": "object", "properties": {"name": {"type": "string"}}}}, "$ref": "#/$defs/city"},
            {"name": "hello"},
        ),
        (
            {
                "definitions": {"node": {"type": "object", "properties": {"next": {"$ref": "#/definitions/node"}}}},
                "type": "object",
                "properties": {"n": {"type": "integer"}, "node": {"$ref": "#/definitions/node"}},
                "required": ["n"],
            },
            {"n": 1},
        ),
    ],
    ids=lambda value: json.dumps(value, default=str)[:50],
)
def test_a_value_for_a_schema(schema: Any, value: Any) -> None:
    assert value_for(schema, "hello") == value


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}},
        {"type": "array", "minItems": 10**9, "items": {"$ref": "#"}},
        {"type": "string", "minLength": 10**12},
        {"type": "array", "minItems": 10**6, "items": {"type": "string", "minLength": 10**6}},
    ],
    ids=["itself", "two of itself", "lists of itself", "endless text", "endless texts"],
)
def test_a_schema_cannot_ask_for_too_much(schema: Any) -> None:
    assert len(json.dumps(value_for(schema, "hello"))) < 2 << 20


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "items", "required", "enum", "anyOf", "allOf", "$ref", "minItems", "maximum",
                 "multipleOf", "maxLength", "minLength", "prefixItems", "format", "exclusiveMinimum"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@given(json_values)
def test_any_schema_gives_some_json(schema: Any) -> None:
    json.dumps(value_for(schema, "hello"))


# -- a real Ollama -----------------------------------------------------------------------------------------------------


class FakeHost:
    """Answers each request with `status`, `headers` and `body`, and keeps what came in."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b"{}"
        self.headers: Mapping[str, str] = {"Content-Type": "application/json; charset=utf-8"}
        self.seen: list[tuple[str, str, bytes]] = []
        self.authorization: str | None = None
        self.base_url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path, await request.read()))
        self.authorization = request.headers.get("Authorization")
        return web.Response(status=self.status, body=self.body, headers=self.headers)


@pytest.fixture
async def host() -> AsyncIterator[FakeHost]:
    fake = FakeHost()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield fake
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    opened = await open_session()
    yield opened
    await opened.close()


def ollama_at(base_url: str, session: aiohttp.ClientSession, **changes: Any) -> OllamaProvider:
    settings: dict[str, Any] = {
        "base_url": base_url,
        "api_key": None,
        "session": session,
        "profile": Profile(),
        "local": True,
        "off": None,
        "timeouts": Timeouts(),
    }
    return OllamaProvider("home", **settings | changes)


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (CHAT, "/api/chat"),
        (GENERATE, "/api/generate"),
        (EMBED, "/api/embed"),
        (EMBED_ONE, "/api/embeddings"),
    ],
)
@pytest.mark.parametrize("slash", ["", "/"], ids=["", "slash"])
async def test_ollama_passes_bytes(
    host: FakeHost, session: aiohttp.ClientSession, kind: str, path: str, slash: str
) -> None:
    host.body, host.headers = b'{"a" : 1}\n', {"Content-Type": "application/x-ndjson"}
    upstream = await ollama_at(host.base_url + slash, session).open(Call(kind, b'{ "b":2 }', True, Timeouts()))
    assert upstream.headers["content-type"] == "application/x-ndjson"
    assert await upstream.body(100) == b'{"a" : 1}\n'
    assert host.seen == [("POST", path, b'{ "b":2 }')]


@pytest.mark.parametrize(("key", "sent"), [("k", "Bearer k"), (None, None), ("", None)], ids=["key", "none", "empty"])
async def test_ollama_key_is_optional(
    host: FakeHost, session: aiohttp.ClientSession, key: str | None, sent: str | None
) -> None:
    (await ollama_at(host.base_url, session, api_key=key).open(Call(CHAT, {}, False, Timeouts()))).close()
    assert host.authorization == sent


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_ollama_refuses(host: FakeHost, session: aiohttp.ClientSession, status: int) -> None:
    host.status, host.body = status, b'{"error":"no"}'
    with pytest.raises(UpstreamRefused) as caught:
        await ollama_at(host.base_url, session).open(Call(CHAT, b"{}", True, Timeouts()))
    assert (caught.value.status, caught.value.body) == (status, b'{"error":"no"}')
    assert caught.value.headers["content-type"] == "application/json; charset=utf-8"


async def test_of_a_refusal_one_mebibyte_is_kept(host: FakeHost, session: aiohttp.ClientSession) -> None:
    host.status, host.body = 500, b"x" * (3 << 20)
    with pytest.raises(UpstreamRefused) as caught:
        await ollama_at(host.base_url, session).open(Call(CHAT, b"{}", False, Timeouts()))
    assert caught.value.body == b"x" * (1 << 20)


async def test_ollama_redirects_nowhere(host: FakeHost, session: aiohttp.ClientSession) -> None:
    host.status, host.headers = 301, {"Location": "/elsewhere"}
    with pytest.raises(GatewayError, match="redirect"):
        await ollama_at(host.base_url, session).open(Call(CHAT, b"{}", False, Timeouts()))
    assert len(host.seen) == 1


async def test_ollama_is_not_there(session: aiohttp.ClientSession) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = ollama_at(f"http://127.0.0.1:{unused.getsockname()[1]}", session)
        with pytest.raises(GatewayError) as caught:
            await nowhere.open(Call(CHAT, b"{}", False, Timeouts()))
    assert caught.value.message == "cannot reach provider 'home': connection refused"
    assert (caught.value.status, caught.value.scope) == (502, Scope.PROVIDER)


async def test_ollama_is_off(host: FakeHost, session: aiohttp.ClientSession) -> None:
    off = ollama_at(host.base_url, session, off="provider 'home' is off")
    for attempt in (off.open(Call(CHAT, b"{}", False, Timeouts())), off.models(), off.get("/api/ps")):
        with pytest.raises(GatewayError, match="is off") as caught:
            await attempt
        assert caught.value.scope is Scope.NO_KEY
    assert host.seen == []


async def test_ollama_forwards_questions(host: FakeHost, session: aiohttp.ClientSession) -> None:
    provider = ollama_at(host.base_url, session)
    host.body = b'{"models":[]}'
    assert await provider.get("/api/ps") == (200, "application/json; charset=utf-8", b'{"models":[]}')
    host.status, host.body = 404, b'{"error":"model \'x\' not found"}'
    answer = await provider.post("/api/show", b'{"model":"x"}')
    assert (answer.status, answer.body) == (404, b'{"error":"model \'x\' not found"}')
    assert host.seen == [("GET", "/api/ps", b""), ("POST", "/api/show", b'{"model":"x"}')]
    await provider.close()
    assert not session.closed


TAGS = {
    "models": [
        {
            "name": "tiny:latest",
            "model": "tiny:latest",
            "modified_at": "2026-11-21T11:34:17.348163136Z",
            "size": 1,
            "details": {"family": "gemma3", "context_length": 32768, "embedding_length": 640},
            "capabilities": ["completion", "tools"],
        },
        {"name": "old:latest", "details": None, "modified_at": "2026-11-21T12:34:17+01:00"},
        {"model": "big:cloud", "remote_host": "https://ollama.com:443", "remote_model": "big"},
        {"size": 3},
        "odd",
    ]
}


async def test_ollama_lists_models(host: FakeHost, session: aiohttp.ClientSession) -> None:
    host.body = json.dumps(TAGS).encode()
    tiny, old, cloud = await ollama_at(host.base_url, session).models()
    assert (tiny.id, tiny.context_length, tiny.embedding_length) == ("tiny:latest", 32768, 640)
    assert (tiny.capabilities, tiny.created) == ({"completion", "tools"}, 1795260857)
    assert tiny.raw == TAGS["models"][0]
    assert (old.id, old.capabilities, old.context_length, old.created) == ("old:latest", None, None, 1795260857)
    assert (cloud.id, cloud.raw["remote_host"]) == ("big:cloud", "https://ollama.com:443")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"models":null}', b"<html>"], ids=repr)
def test_tags_that_are_no_list(body: bytes) -> None:
    with pytest.raises(GatewayError, match="'home' answered something that is not a list of models"):
        read_tags("home", body)


# -- catalogues of compatible services ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "facts"),
    [
        ({"created": 1754000000, "owned_by": "openai"}, (None, None, None, 1754000000, None)),
        ({"context_window": 131072, "max_completion_tokens": 8192}, (131072, 8192, None, None, None)),
        (
            {
                "context_length": 200000,
                "top_provider": {"max_completion_tokens": 64000, "context_length": 200000},
                "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
                "supported_parameters": ["tools", "reasoning", "temperature"],
            },
            (200000, 64000, {"completion", "tools", "thinking", "vision"}, None, None),
        ),
        ({"top_provider": None, "architecture": [], "context_length": "8k"}, (None, None, None, None, None)),
        ({"max_model_len": 4096}, (4096, None, None, None, None)),
        ({"meta": {"n_ctx_train": 32768, "n_embd": 640}}, (32768, None, None, None, 640)),
        ({"meta": {"n_ctx": 2048, "n_ctx_train": 32768}}, (2048, None, None, None, None)),
        (
            {
                "max_context_length": 131072,
                "capabilities": {"completion_chat": True, "function_calling": True, "vision": False},
            },
            (131072, None, {"completion", "tools"}, None, None),
        ),
        ({"capabilities": {"completion_chat": False, "vision": True}}, (None, None, {"vision"}, None, None)),
        ({"capabilities": ["completion", "multimodal"]}, (None, None, {"completion", "vision"}, None, None)),
        ({"type": "embedding", "context_length": 512}, (512, None, {"embedding"}, None, None)),
        ({"type": "image"}, (None, None, {"image"}, None, None)),
        ({"type": "model"}, (None, None, None, None, None)),
        ({"context_length": True, "max_model_len": -1, "created": None}, (None, None, None, None, None)),
    ],
    ids=[
        "openai", "groq", "openrouter", "odd types", "vllm", "llama.cpp", "llama.cpp window", "mistral", "mistral ocr",
        "llama.cpp vision", "together embedding", "together image", "type that says nothing", "odd numbers",
    ],
)  # fmt: skip
def test_a_catalogue_entry(entry: dict[str, Any], facts: tuple[Any, ...]) -> None:
    (model,) = read_models("lab", json.dumps({"object": "list", "data": [{"id": "m", **entry}]}).encode())
    found = (model.context_length, model.max_output, model.capabilities, model.created, model.embedding_length)
    assert found == facts
    assert model.raw == {"id": "m", **entry}


@pytest.mark.parametrize(
    ("body", "ids"),
    [(b'[{"id":"a"}, {"id":"b"}]', ["a", "b"]), (b'{"data":[{"id":"a"}, {}, 5, {"id":7}]}', ["a"]), (b"[]", [])],
    ids=["bare array", "odd entries", "empty"],
)
def test_a_catalogue(body: bytes, ids: list[str]) -> None:
    assert [model.id for model in read_models("lab", body)] == ids


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data":{}}', b"null", b"<html>"], ids=repr)
def test_a_catalogue_that_is_none(body: bytes) -> None:
    with pytest.raises(GatewayError, match="'lab' answered something that is not a list of models"):
        read_models("lab", body)


# -- presets and addresses ---------------------------------------------------------------------------------------------

ROWS = pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)


def test_the_presets() -> None:
    assert list(PRESETS) == [
        "openai", "azure", "anthropic", "google", "groq", "openrouter", "deepseek", "mistral", "xai", "together",
        "fireworks", "cerebras", "perplexity", "sambanova", "huggingface", "vllm", "llamacpp", "lmstudio", "ollama",
        "ollama-cloud", "ollamafreeapi", "echo",
    ]  # fmt: skip


@ROWS
def test_a_preset_is_whole(preset: Preset) -> None:
    assert PRESETS[preset.name] is preset
    assert preset.kind in get_args(Kind)
    assert preset.label
    assert preset.keys or not preset.needs_key
    assert not preset.base_url.endswith("/")
    assert all(key.isupper() for key in preset.keys)


@ROWS
def test_a_preset_that_is_local_has_a_private_address_and_sends_no_picture_address(preset: Preset) -> None:
    assert stays_here(preset.base_url) == (preset.local and preset.kind != "echo")
    if preset.local:
        assert not preset.needs_key
        assert not preset.profile.image_urls
    elif preset.base_url:
        assert preset.base_url.startswith("https://")


def test_no_key_variable_serves_two_presets() -> None:
    """Beside those that are there only by name: a key set for one must not be sent to the other unasked."""
    keys = [key for preset in PRESETS.values() for key in preset.keys if not preset.by_name]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("host", "private", "public"),
    [
        ("localhost", True, False),
        ("LOCALHOST.", True, False),
        ("api.localhost", True, False),
        ("127.0.0.1", True, False),
        ("127.9.9.9", True, False),
        ("0.0.0.0", True, False),
        ("10.1.2.3", True, False),
        ("172.31.0.1", True, False),
        ("172.32.0.1", False, True),
        ("192.168.1.5", True, False),
        ("169.254.169.254", True, False),
        ("100.64.0.1", False, False),
        ("192.0.2.1", False, False),
        ("224.0.0.1", False, False),
        ("8.8.8.8", False, True),
        ("::1", True, False),
        ("[::1]", True, False),
        ("fe80::1%eth0", True, False),
        ("fd00::1", True, False),
        ("2606:4700::1", False, True),
        ("::ffff:10.0.0.1", True, False),
        ("::ffff:8.8.8.8", False, True),
        ("2002:7f00:1::", False, False),
        ("2002:a00:1::", False, False),
        ("example.com", None, False),
        ("127.1", None, False),
        ("localhost.evil.com", None, False),
        ("", None, False),
    ],
)
def test_addresses(host: str, private: bool | None, public: bool) -> None:
    assert (is_private(host), is_public(host)) == (private, public)


@pytest.mark.parametrize(
    ("url", "stays"),
    [
        ("http://localhost:11434", True),
        ("http://user:secret@127.0.0.1:8080/v1", True),
        ("http://[::1]:8080/v1", True),
        ("https://192.168.0.9/v1", True),
        ("https://api.openai.com/v1", False),
        ("http://ollama:11434", False),
        ("http://localhost@evil.com/v1", False),
        ("http://127.0.0.1.evil.com/v1", False),
        ("http://[::1", False),
        ("", False),
    ],
)
def test_what_stays_here(url: str, stays: bool) -> None:
    assert stays_here(url) is stays
