"""The OpenAI dialect: whole replies read, answers written, errors, and the recorded traffic.

What a recorded answer must come to is read from the recording by a walker of its own (`said`) and from a table written
by hand; neither uses the dialect. Requests, streams and relay: test_dialect_openai_requests, _stream and _relay.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_chunks import (
    USAGE,
    json_frames,
    relayed,
    whole_reply,
)
from recordings import FOLDER

from ollama_bridge.dialects.base import CHAT, EMBED, GENERATE, Moment, Profile
from ollama_bridge.dialects.openai import OpenAIDialect
from ollama_bridge.errors import CONTEXT_LENGTH, GatewayError, Scope
from ollama_bridge.events import Event, Failed, Start, fold, unfold
from ollama_bridge.values import (
    ChatRequest,
    EmbedReply,
    EmbedRequest,
    Message,
    Reply,
    Text,
    Thinking,
    ToolCall,
    Usage,
)

DIALECT = OpenAIDialect()
NOW = Moment(wall_ns=1_790_000_000_500_000_000, elapsed_ns=5_000_000, first_ns=1_000_000)


def ask(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=list(messages) or [Message("user", [Text("Hi")])], **fields)


def read(stream: bytes, parts: Iterable[bytes] | None = None, **profile: Any) -> list[Event]:
    reader = DIALECT.reader(CHAT, Profile(**profile))
    events = [event for part in parts or [stream] for event in reader.feed(part)]
    return events + reader.end()


def failure(events: list[Event]) -> GatewayError:
    assert isinstance(events[-1], Failed), events
    return events[-1].error


def calls(reply: Reply) -> list[tuple[str, str, str | None]]:
    return [(block.name, block.arguments, block.id) for block in reply.blocks if isinstance(block, ToolCall)]


def shown(reply: Reply) -> str:
    return "".join(block.text for block in reply.blocks if isinstance(block, Text))


def thought(reply: Reply) -> str:
    return "".join(block.text for block in reply.blocks if isinstance(block, Thinking))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


LOGPROB = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1, "bytes": [98]}]}


# -- whole replies -----------------------------------------------------------------------------------------------------
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
REPLIES: dict[str, tuple[bytes, Reply]] = {
    "text": (whole_reply({"content": "Hi"}, usage=USAGE), Reply([Text("Hi")], usage=Usage(9, 4))),
    "thought": (whole_reply({"content": "4", "reasoning": "hm"}), Reply([Thinking("hm"), Text("4")])),
    "tags": (whole_reply({"content": "<think>hm</think>\n4"}), Reply([Thinking("hm"), Text("4")])),
    "calls": (
        whole_reply({"content": None, "tool_calls": [CALL]}, "stop"),
        Reply([ToolCall("f", "{}", "c1")], "tool_calls"),
    ),
    "refusal": (whole_reply({"content": None, "refusal": "No."}), Reply([Text("No.")])),
    "parts": (
        whole_reply(
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "4"},
                ]
            }
        ),
        Reply([Thinking("hm"), Text("4")]),
    ),
    "former call": (
        whole_reply({"function_call": {"name": "f", "arguments": "{}"}}, "function_call"),
        Reply([ToolCall("f", "{}")], "tool_calls"),
    ),
    "text completion": (
        json.dumps(
            {"id": "chatcmpl-1", "created": 1, "model": "up", "choices": [{"text": "Hi", "finish_reason": "length"}]}
        ).encode(),
        Reply([Text("Hi")], "length"),
    ),
    "empty": (whole_reply({"content": ""}), Reply([])),
}


@pytest.mark.parametrize(("body", "wanted"), REPLIES.values(), ids=REPLIES)
def test_read_reply(body: bytes, wanted: Reply) -> None:
    wanted.id, wanted.model, wanted.created = "chatcmpl-1", "up", 1
    assert DIALECT.read_reply(CHAT, body, Profile()) == wanted
    assert fold(read(body)) == wanted  # the same body in place of a stream


BAD_REPLIES = {
    "error": (b'{"error":{"message":"boom","code":500}}', "boom"),
    "error in a list": (b'[{"error":{"message":"boom"}}]', "boom"),
    "error without choices": (b'{"choices":null,"error":{"message":"boom"}}', "boom"),
    "no choices": (b'{"choices":[]}', "the provider sent a reply without an answer"),
    "page": (b"<html>", "the provider sent a reply that is not JSON"),
    "number": (b"5", "the provider sent a reply that is not a JSON object"),
}


@pytest.mark.parametrize(("body", "words"), BAD_REPLIES.values(), ids=BAD_REPLIES)
def test_read_reply_refuses(body: bytes, words: str) -> None:
    with pytest.raises(GatewayError) as refused:
        DIALECT.read_reply(CHAT, body, Profile())
    assert (refused.value.message, refused.value.status) == (words, 502)


def packed(*floats: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(floats)}f", *floats)).decode()


def test_read_embeddings() -> None:
    data = [{"index": 1, "embedding": packed(0.5, -2.0)}, {"index": 0, "embedding": [0.1, 1]}]
    body = json.dumps({"data": data, "model": "up", "usage": {"prompt_tokens": 3}}).encode()
    assert DIALECT.read_reply(EMBED, body, Profile()) == EmbedReply([[0.1, 1], [0.5, -2.0]], Usage(3), "up")


@pytest.mark.parametrize("vector", ["AAA", "AAAA", "%%%%", [1, "x"], None, [[1.0]], [True]])
def test_read_embeddings_refuses(vector: Any) -> None:
    with pytest.raises(GatewayError) as refused:
        DIALECT.read_reply(EMBED, json.dumps({"data": [{"embedding": vector}]}).encode(), Profile())
    assert refused.value.scope is Scope.PROVIDER


# -- writing -----------------------------------------------------------------------------------------------------------
ANSWERS: dict[str, Reply] = {
    "text": Reply([Text("Hello <b>")], usage=Usage(9, 4)),
    "thought": Reply([Thinking("hm"), Text("4")], usage=Usage(9, 4, 8, 2)),
    "calls": Reply([ToolCall("f", '{"a":"é"}', "c1"), ToolCall("g", "{}", "c2")], "tool_calls", Usage(9, 4)),
    "text and call": Reply([Text("a"), ToolCall("f", "{}", "c1")], "tool_calls", Usage(9, 4)),
    "length": Reply([Text("a")], "length", Usage(9, 4)),
    "logprobs": Reply([Text("a")], usage=Usage(9, 4), logprobs=[LOGPROB]),
    "empty": Reply([], usage=Usage(9, 0)),
}


@pytest.mark.parametrize("reply", ANSWERS.values(), ids=ANSWERS)
def test_what_is_written_reads_back(reply: Reply) -> None:
    reply.id, reply.model, reply.created = "chatcmpl-9", "m", 7
    answer = DIALECT.write_reply(CHAT, ask(), reply, NOW)
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert DIALECT.read_reply(CHAT, answer.body, Profile()) == reply
    writer = DIALECT.writer(CHAT, ask(stream=True, include_usage=True))
    events = unfold(reply)
    whole = writer.write(events, NOW)
    assert fold(read(whole)) == reply
    single = DIALECT.writer(CHAT, ask(stream=True, include_usage=True))
    assert b"".join(single.write([event], NOW) for event in events) == whole


def test_write_reply_is_OpenAIs_shape() -> None:
    reply = Reply([Thinking("hm"), Text("Hi")], usage=Usage(5, 2, 1, 1), id="gen-1")
    written = json.loads(DIALECT.write_reply(CHAT, ask(), reply, NOW).body)
    assert written == {
        "id": "chatcmpl-gen-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi", "reasoning": "hm", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 2,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
    }
    called = json.loads(DIALECT.write_reply(CHAT, ask(), Reply([ToolCall("f")], "stop"), NOW).body)
    assert called["choices"][0]["finish_reason"] == "tool_calls"
    assert called["choices"][0]["message"]["content"] is None
    assert called["choices"][0]["message"]["tool_calls"][0]["id"]


def test_counts_nobody_told_are_estimated() -> None:
    request = ask(Message("user", [Text("x" * 40)]), stream=True, include_usage=True)
    reply = Reply([Text("y" * 20)])
    wanted = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    assert json.loads(DIALECT.write_reply(CHAT, request, reply, NOW).body)["usage"] == wanted
    stream = DIALECT.writer(CHAT, request).write(unfold(reply), NOW)
    assert json.loads(stream.split(b"\n\n")[-3][6:])["usage"] == wanted


def test_write_completion() -> None:
    written = json.loads(
        DIALECT.write_reply(GENERATE, ask(), Reply([Thinking("x"), Text("Hi")], usage=Usage(5, 2)), NOW).body
    )
    assert written["object"] == "text_completion"
    assert written["choices"] == [{"index": 0, "text": "Hi", "logprobs": None, "finish_reason": "stop"}]
    writer = DIALECT.writer(GENERATE, ask(stream=True))
    chunks = json_frames(writer.write(unfold(Reply([Thinking("x"), Text("Hi")], usage=Usage(5, 2))), NOW))
    assert [each["choices"][0]["text"] for each in chunks] == ["Hi", ""]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert {each["object"] for each in chunks} == {"text_completion"}
    assert all(each["id"].startswith("cmpl-") for each in chunks)


def test_write_stream_frames() -> None:
    writer = DIALECT.writer(CHAT, ask(stream=True, include_usage=True))
    assert (writer.content_type, dict(writer.headers), writer.heartbeat) == ("text/event-stream", {}, b": \n\n")
    stream = writer.write(unfold(Reply([Text("Hi")], usage=Usage(5, 2), id="chatcmpl-1")), NOW)
    assert stream.endswith(b"data: [DONE]\n\n")
    first, said, finish, usage = json_frames(stream)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert said["choices"] == [{"index": 0, "delta": {"content": "Hi"}, "logprobs": None, "finish_reason": None}]
    assert (finish["choices"][0]["delta"], finish["choices"][0]["finish_reason"]) == ({}, "stop")
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 7)
    assert [each["usage"] for each in (first, said, finish)] == [None] * 3
    assert {(each["id"], each["created"], each["model"]) for each in (first, said, finish, usage)} == {
        ("chatcmpl-1", 1_790_000_000, "m")
    }
    unasked = json_frames(DIALECT.writer(CHAT, ask(stream=True)).write(unfold(Reply([Text("Hi")])), NOW))
    assert len(unasked) == 3 and all("usage" not in each for each in unasked)


def test_write_escapes_what_breaks_line_readers() -> None:
    stream = DIALECT.writer(CHAT, ask(stream=True)).write(unfold(Reply([Text("a\u0085\u2028b")])), NOW)
    assert "\u0085".encode() not in stream and "\u2028".encode() not in stream
    assert shown(fold(read(stream))) == "a\u0085\u2028b"


def test_a_failed_stream_never_looks_whole() -> None:
    error = GatewayError("boom", status=502, scope=Scope.PROVIDER, code="x")
    wanted = {"error": {"message": "boom", "type": "api_error", "param": None, "code": "x"}}
    for tail in (
        DIALECT.writer(CHAT, ask(stream=True)).fail(error, NOW),
        DIALECT.tap(CHAT, ask(stream=True)).fail(error, NOW),
        DIALECT.writer(CHAT, ask(stream=True)).write([Start(), Failed(error)], NOW),
    ):
        assert json_frames(tail)[-1] == wanted
        assert b"[DONE]" not in tail and tail.endswith(b"}\n\n")


def test_write_embeddings() -> None:
    reply = EmbedReply([[0.5, -2.0]], Usage(3))
    floats = json.loads(DIALECT.write_reply(EMBED, EmbedRequest("m", ["a"]), reply, NOW).body)
    assert floats == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -2.0]}],
        "model": "m",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    packed_ = json.loads(DIALECT.write_reply(EMBED, EmbedRequest("m", ["a"], encoding="base64"), reply, NOW).body)
    assert packed_["data"][0]["embedding"] == packed(0.5, -2.0)


# -- errors ------------------------------------------------------------------------------------------------------------
ERRORS: dict[str, tuple[dict[str, str], bytes, tuple[Any, ...]]] = {
    # id: headers, body, (message, type, code, param, retry_after)
    "OpenAI": (
        {},
        b'{"error":{"message":"no","type":"invalid_request_error","param":"seed","code":"unsupported_parameter"}}',
        ("no", "invalid_request_error", "unsupported_parameter", "seed", None),
    ),
    "xAI": ({}, b'{"code":"invalid-argument","error":"bad key"}', ("bad key", None, "invalid-argument", None, None)),
    "Hugging Face": ({}, b'{"error":"no such model"}', ("no such model", None, None, None, None)),
    "Mistral": (
        {},
        b'{"object":"error","message":"Extra inputs","type":"invalid_request","param":null,"code":3051}',
        ("Extra inputs", "invalid_request", "3051", None, None),
    ),
    "Mistral, nested": (
        {},
        b'{"object":"error","message":{"detail":[{"loc":["body","top_k"],"msg":"extra"}]}}',
        ("body.top_k: extra", None, None, None, None),
    ),
    "FastAPI": (
        {},
        b'{"detail":[{"loc":["body","n"],"msg":"bad"},{"msg":"worse"}]}',
        ("body.n: bad; worse", None, None, None, None),
    ),
    "detail": ({}, b'{"detail":"Invalid API Key"}', ("Invalid API Key", None, None, None, None)),
    "list": ({}, b'[{"error":{"code":429,"message":"slow","status":"X"}}]', ("slow", None, "429", None, None)),
    "OpenRouter": (
        {},
        b'{"error":{"code":429,"message":"Provider returned error","metadata":{"raw":"busy"}}}',
        ("Provider returned error: busy", None, "429", None, None),
    ),
    "OpenRouter, page behind": (
        {},
        b'{"error":{"message":"Provider returned error","metadata":{"raw":"<html>"}}}',
        ("Provider returned error", None, None, None, None),
    ),
    "plain text": ({"content-type": "text/plain"}, b"upstream is down\n", ("upstream is down", None, None, None, None)),
    "page": ({"content-type": "text/html"}, b"<html><h1>502</h1>", ("", None, None, None, None)),
    "page as text": ({"content-type": "text/plain"}, b"  <html>", ("", None, None, None, None)),
    "long text": ({"content-type": "text/plain"}, b"x" * 300, ("", None, None, None, None)),
    "nothing": ({}, b"", ("", None, None, None, None)),
    "seconds": ({"retry-after": "17"}, b"{}", ("", None, None, None, 17.0)),
    "milliseconds": ({"retry-after-ms": "1500", "retry-after": "2"}, b"{}", ("", None, None, None, 1.5)),
    "date": (
        {"retry-after": "Sat, 21 Nov 2026 07:00:30 GMT", "date": "Sat, 21 Nov 2026 07:00:00 GMT"},
        b"{}",
        ("", None, None, None, 30.0),
    ),
    "date alone": ({"retry-after": "Sat, 21 Nov 2026 07:00:30 GMT"}, b"{}", ("", None, None, None, None)),
    "nonsense": ({"retry-after": "soon", "retry-after-ms": "nan"}, b"{}", ("", None, None, None, None)),
}


@pytest.mark.parametrize(("headers", "body", "wanted"), ERRORS.values(), ids=ERRORS)
def test_read_error(headers: dict[str, str], body: bytes, wanted: tuple[Any, ...]) -> None:
    error = DIALECT.read_error(400, headers, body)
    assert (error.message, error.type, error.code, error.param, error.retry_after) == wanted


@settings(deadline=None)
@given(JUNK)
def test_read_error_never_raises(value: Any) -> None:
    for body in (
        value,
        {"error": value},
        {"message": value},
        {"detail": value},
        [value],
        {"error": {"metadata": value}},
    ):
        DIALECT.read_error(500, {}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "invalid_request_error"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
    ],
)
def test_write_error(status: int, kind: str) -> None:
    error = GatewayError("words", status=status, scope=Scope.CALLER, code=CONTEXT_LENGTH, param="messages")
    answer = DIALECT.write_error(CHAT, error, False)
    assert (answer.status, answer.content_type) == (status, "application/json")
    assert json.loads(answer.body) == {
        "error": {"message": "words", "type": kind, "param": "messages", "code": CONTEXT_LENGTH}
    }


def test_write_error_says_when_to_come_back() -> None:
    error = GatewayError("slow", status=429, scope=Scope.THROTTLE, retry_after=1.2)
    assert DIALECT.write_error(CHAT, error, False).headers == {"Retry-After": "2"}


# -- recorded answers --------------------------------------------------------------------------------------------------
SERVICES = ("openai", "groq", "openrouter", "deepseek", "mistral", "xai", "huggingface")

# What each recording says, read by eye. Calls as (name, arguments); usage as (prompt, completion, cached, reasoning).
ANSWERED: dict[str, tuple[str, list[tuple[str, dict[str, Any]]], tuple[int | None, ...]]] = {
    "openai/chat-image": ("stop", [], (22, 719, 0, 704)),
    "openai/chat-plain": ("stop", [], (8, 377, 0, 320)),
    "openai/chat-stream-json-schema": ("stop", [], (172, 29, 0, 0)),
    "openai/chat-stream-length-no-content": ("length", [], (12, 100, 0, 100)),
    "openai/chat-stream-logprobs": ("stop", [], (7, 10, 0, 0)),
    "openai/chat-stream-parallel-tools": (
        "tool_calls",
        [("get_weather", {"location": "New York City"}), ("get_weather", {"location": "London"})],
        (None, None, None, None),
    ),
    "openai/chat-stream-refusal": ("stop", [], (64, 13, 0, 0)),
    "openai/chat-stream-tool": ("tool_calls", [("multiply", {"a": 1231, "b": 2331})], (54, 20, 0, 0)),
    "openai/chat-stream-tool-no-args": ("tool_calls", [("get_date", {})], (147, 13, 0, 0)),
    "openai/chat-stream-usage": ("stop", [], (26, 4, 0, 0)),
    "groq/stream-reasoning-tool": ("tool_calls", [("get_something_by_name", {"name": "example"})], (304, 49, None, 23)),
    "groq/stream-text": ("stop", [], (12, 26, None, None)),
    "openrouter/stream-reasoning": ("stop", [], (43, 36, 0, 13)),
    "openrouter/stream-tool": (
        "tool_calls",
        [("weather", {"latitude": "52.5200", "longitude": "13.4050"})],
        (633, 75, 0, 0),
    ),
    "openrouter/stream-tool-no-arguments-key": ("tool_calls", [("llm_version", {})], (56, 12, 0, 0)),
    "deepseek/stream-reasoning-tool": ("tool_calls", [("get_date", {})], (297, 35, 0, 7)),
    "deepseek/stream-tool": (
        "tool_calls",
        [("weather", {"latitude": "52.5200", "longitude": "13.4050"})],
        (348, 65, 0, None),
    ),
    "mistral/stream-thinking": ("stop", [], (31, 66, 0, None)),
    "mistral/stream-tool": ("tool_calls", [("get_weather", {"location": "New York City"})], (72, 14, 0, None)),
    "xai/chat-stream-reasoning-tool": (
        "tool_calls",
        [("weather", {"location": "San Francisco"})],
        (307, 253, 306, 227),
    ),
    "huggingface/json-schema": ("stop", [], (209, 19, 0, None)),
    "huggingface/parallel-tools": (
        "tool_calls",
        [("get_weather", {"city": "Paris"}), ("final_result", {"city": "Paris", "summary": "Weather in Paris"})],
        (720, 65, None, None),
    ),
    "huggingface/stream-image": ("stop", [], (33, 16, None, None)),
    "huggingface/stream-text": ("stop", [], (51, 2, 0, None)),
    "huggingface/think-tags": ("stop", [], (4, 197, 0, None)),
    "huggingface/tools-required": ("tool_calls", [("get_weather", {"city": "Paris"})], (608, 30, None, None)),
}

FAILED_IN_STREAM = {
    "groq/stream-error-midway": "Tool call validation failed: tool call validation failed",
    "openrouter/stream-error-midway": "Token limit reached",
}
REFUSED_ANSWERS = {
    "openai/chat-error-400": ("unsupported_parameter", "max_tokens", "Unsupported parameter: 'max_tokens'"),
    "openai/chat-error-401": ("invalid_api_key", None, "Incorrect API key provided"),
    "openai/chat-stream-error-404": ("model_not_found", None, "The model `this-model-does-not-exist-12345`"),
    "groq/error-400-tool-use-failed": ("tool_use_failed", None, "Tool call validation failed"),
    "openrouter/error-429": ("429", None, "Provider returned error: google/gemini-2.0-flash-exp:free is temporarily"),
    "mistral/error-401": (None, None, "Invalid API Key"),
    "xai/error-400-key": ("invalid-argument", None, "Incorrect API key provided."),
}
EMBEDDINGS = {"openai/embeddings-base64": (1536, 9), "openai/embeddings-float": (512, 8)}
NOT_OF_THIS_WIRE = {
    "huggingface/feature-extraction": "the Hub's own task, not /v1/embeddings",
    **{
        f"{service}/models": "a list of models: the provider's work"
        for service in ("openai", "openrouter", "deepseek", "huggingface")
    },
}


def recording(name: str) -> dict[str, Any]:
    path = FOLDER / f"{name}.json"
    if not path.exists():
        pytest.skip(f"no recorded traffic at {FOLDER}")
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def said(recorded: dict[str, Any]) -> tuple[str, str]:
    """(text, thought) of a recorded answer, by walking its JSON."""
    body = recorded["response_text"]
    if recorded["stream"]:
        parsed = [
            json.loads(line.split(":", 1)[1])
            for line in body.splitlines()
            if line.strip().startswith("data:") and "[DONE]" not in line
        ]
        messages = [choice["delta"] for each in parsed for choice in each["choices"]]
    else:
        messages = [json.loads(body)["choices"][0]["message"]]
    words, thoughts = "", ""
    for message in messages:
        content = message.get("content") or ""
        if isinstance(content, list):
            thoughts += "".join(t["text"] for part in content if part["type"] == "thinking" for t in part["thinking"])
            content = "".join(part["text"] for part in content if part["type"] == "text")
        words += content + (message.get("refusal") or "")
        thoughts += message.get("reasoning_content") or message.get("reasoning") or ""
    tagged = re.fullmatch(r"<think>\s*(.*?)</think>\s*(.*)", words, re.S)
    return (tagged[2], tagged[1]) if tagged else (words, thoughts)


def answer_of(recorded: dict[str, Any]) -> Reply:
    body = recorded["response_text"].encode()
    reply = fold(read(body)) if recorded["stream"] else DIALECT.read_reply(CHAT, body, Profile())
    assert isinstance(reply, Reply)
    return reply


@pytest.mark.parametrize("name", ANSWERED)
def test_recorded_answer(name: str) -> None:
    recorded = recording(name)
    reason, wanted_calls, usage = ANSWERED[name]
    reply = answer_of(recorded)
    assert (shown(reply), thought(reply)) == said(recorded)
    assert reply.reason == reason
    assert [(call, json.loads(arguments)) for call, arguments, _ in calls(reply)] == wanted_calls
    assert all(call_id for _, _, call_id in calls(reply))
    assert (reply.usage.prompt, reply.usage.completion, reply.usage.cached, reply.usage.reasoning) == usage
    if name == "openai/chat-stream-logprobs":
        assert "".join(item["token"] for item in reply.logprobs or ()) == shown(reply)


@pytest.mark.parametrize("name", [name for name in ANSWERED if "stream" in name])
def test_recorded_stream_cut_into_reads(name: str) -> None:
    stream = recording(name)["response_text"].encode()
    whole = read(stream)
    step = max(1, len(stream) // 400)  # long ones at 400 places
    for at in range(0, len(stream), step):
        assert read(stream, (stream[:at], stream[at:])) == whole
    assert read(stream, [stream[at : at + 1] for at in range(len(stream))]) == whole


@pytest.mark.parametrize("name", [name for name in ANSWERED if "stream" in name])
def test_recorded_stream_relayed(name: str) -> None:
    """Nothing but the model's name and the comments' place changes: what is relayed reads as the same answer. Only a
    `[DONE]` that was left out is given."""
    recorded = recording(name)
    stream = recorded["response_text"].lstrip().encode()
    tap = DIALECT.tap(CHAT, ChatRequest(model="mine", stream=True, include_usage=True))
    pieces = [stream[at : at + 700] for at in range(0, len(stream), 700)]
    out = relayed(tap, pieces)
    assert tap.finished and tap.error is None
    assert {each["model"] for each in json_frames(out)} == {"mine"}
    if b"[DONE]" not in stream:
        out = out.removesuffix(b"data: [DONE]\n\n")
    assert re.sub(rb'"model":"[^"]*"', b"", out) == re.sub(rb'"model":"[^"]*"', b"", stream)
    assert tap.usage == answer_of(recorded).usage


@pytest.mark.parametrize("name", FAILED_IN_STREAM)
def test_recorded_failure_in_a_stream(name: str) -> None:
    recorded = recording(name)
    error = failure(read(recorded["response_text"].encode()))
    assert error.message.startswith(FAILED_IN_STREAM[name])
    tap = DIALECT.tap(CHAT, ask(stream=True))
    out = relayed(tap, [recorded["response_text"].encode()])
    assert tap.error is not None and tap.error.message == error.message
    assert b'"error":' not in out and b"[DONE]" not in out


@pytest.mark.parametrize("name", REFUSED_ANSWERS)
def test_recorded_refusal(name: str) -> None:
    recorded = recording(name)
    code, param, words = REFUSED_ANSWERS[name]
    error = DIALECT.read_error(recorded["status"], recorded["response_headers"], recorded["response_text"].encode())
    assert (error.code, error.param) == (code, param)
    assert error.message.startswith(words)


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_recorded_embedding(name: str) -> None:
    recorded = recording(name)
    size, prompt = EMBEDDINGS[name]
    reply = DIALECT.read_reply(EMBED, recorded["response_text"].encode(), Profile())
    assert isinstance(reply, EmbedReply)
    sent = json.loads(recorded["response_text"])["data"][0]["embedding"]
    wanted = list(struct.unpack(f"<{size}f", base64.b64decode(sent))) if isinstance(sent, str) else sent
    assert (reply.vectors, reply.usage.prompt, len(wanted)) == ([wanted], prompt, size)


def test_every_recording_of_the_wire_is_in_a_table() -> None:
    if not FOLDER.exists():
        pytest.skip(f"no recorded traffic at {FOLDER}")
    found = {f"{path.parent.name}/{path.stem}" for service in SERVICES for path in (FOLDER / service).glob("*.json")}
    tables = (ANSWERED, FAILED_IN_STREAM, REFUSED_ANSWERS, EMBEDDINGS, NOT_OF_THIS_WIRE)
    assert found == {name for table in tables for name in table}
    compared = sum(map(len, tables)) - len(NOT_OF_THIS_WIRE)
    print(f"{compared} recordings compared, {len(NOT_OF_THIS_WIRE)} of another wire")
    assert compared >= 37
