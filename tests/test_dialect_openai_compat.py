"""Ollama's own /v1 layer: requests, errors, answers and streams against the recorded answers of a real Ollama.

A recorded answer is taken apart into what the model said, and written again by the dialect: but for ids and times the
bytes must come out the same. Recorded refusals must come out of decode and check alone.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_chunks import json_frames

from ollama_bridge.dialects.base import CHAT, EMBED, GENERATE, Answer, ModelView, Moment, Profile
from ollama_bridge.dialects.openai_compat import OpenAICompatDialect
from ollama_bridge.errors import GatewayError, Scope, model_not_found
from ollama_bridge.events import BlockEnd, BlockStart, Delta, Event, Finish, Start
from ollama_bridge.values import (
    ChatRequest,
    EmbedReply,
    EmbedRequest,
    Format,
    Media,
    Message,
    Reply,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)

GOLDEN = Path(__file__).parent / "data" / "golden" / "openai"
DIALECT = OpenAICompatDialect()
NOW = Moment(wall_ns=1_790_000_000_500_000_000, elapsed_ns=5_000_000, first_ns=1_000_000)
KINDS = {"/v1/chat/completions": CHAT, "/v1/completions": GENERATE, "/v1/embeddings": EMBED}
PNG = "iVBORw0KGgo="

# The models behind the golden answers (their README).
CAN = {
    "gemma-tiny": {"completion"},
    "gemma-tools": {"completion", "tools"},
    "gemma-think": {"completion", "thinking"},
    "gemma-embed": {"embedding"},
}


def cases() -> dict[str, tuple[str, dict[str, Any]]]:
    """Case -> (compare, step), of the endpoints that this dialect is for."""
    found = {}
    for path in sorted(GOLDEN.glob("*.json")):
        for step in json.loads(path.read_text("utf-8"))["steps"]:
            if step["request"]["path"] in KINDS:
                found[path.stem] = (step["compare"], step)
    return found


CASES = cases()
REFUSED = {name: step for name, (compare, step) in CASES.items() if step["response"]["status"] >= 400}
ANSWERED = {name: step for name, (compare, step) in CASES.items() if step["response"]["status"] == 200}
# The engine refuses these, not the layer: whether a picture reaches a model that cannot see is the pipeline's question.
BY_THE_ENGINE = {"bad-image", "bad-image-string"}


def header(step: dict[str, Any], name: str) -> str | None:
    return next((line.split(": ", 1)[1] for line in step["response"]["headers"] if line.startswith(f"{name}: ")), None)


def judge(kind: str, body: bytes) -> ChatRequest | EmbedRequest:
    """What the pipeline does before it plans: decode, look the model up, check."""
    request = DIALECT.decode(kind, body)
    if request.model not in CAN:
        raise model_not_found(request.model)
    DIALECT.check(kind, request, ModelView(f"{request.model}:latest", frozenset(CAN[request.model])))
    return request


# -- golden ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(REFUSED.keys() - BY_THE_ENGINE))
def test_golden_refusal(name: str) -> None:
    step = REFUSED[name]
    kind = KINDS[step["request"]["path"]]
    with pytest.raises(GatewayError) as refused:
        judge(kind, (step["request"]["body"] or "").encode())
    answer = DIALECT.write_error(kind, refused.value, stream="true" in name)
    wanted = step["response"]
    if wanted["status"] >= 500:  # a client's mistake is a 400 here (golden README)
        assert answer.status == 400
        assert json.loads(answer.body)["error"]["message"] == json.loads(wanted["body"])["error"]["message"]
        return
    assert (answer.status, answer.body.decode()) == (wanted["status"], wanted["body"])
    assert answer.content_type == header(step, "Content-Type")


def scrubbed(body: str) -> str:
    return re.sub(r'"id":"((?:chat)?cmpl)-\d+"', r'"id":"\1-N"', re.sub(r'"created":\d+', '"created":0', body))


def usage_of(value: dict[str, Any]) -> Usage:
    counts = value.get("usage") or {}
    return Usage(counts.get("prompt_tokens"), counts.get("completion_tokens"))


def reply_in(value: dict[str, Any]) -> Reply:
    """What the model said in a recorded whole answer."""
    choice = value["choices"][0]
    message = choice.get("message") or {"content": choice["text"]}
    blocks: list[Any] = [Thinking(message["reasoning"])] if "reasoning" in message else []
    if message["content"]:
        blocks.append(Text(message["content"]))
    for call in message.get("tool_calls", ()):
        blocks.append(ToolCall(call["function"]["name"], call["function"]["arguments"], call["id"]))
    logprobs = choice.get("logprobs", {}).get("content")
    return Reply(blocks, choice["finish_reason"], usage_of(value), logprobs=logprobs)


def events_in(body: str) -> list[Event]:
    """What the model said in a recorded stream."""
    values = [json.loads(frame[6:]) for frame in body.split("\n\n") if frame.startswith("data: {")]
    events: list[Event] = [Start()]
    at = -1
    kind = ""
    for value in values:
        choice = value["choices"][0] if value["choices"] else {"finish_reason": None}
        delta = choice.get("delta") or {"content": choice.get("text", "")}
        for call in delta.get("tool_calls", ()):
            at += 1
            function = call["function"]
            events += [
                BlockStart(at, "tool_call", call["id"], function["name"]),
                Delta(at, "tool_call", function["arguments"]),
                BlockEnd(at),
            ]
        for field, name in (("reasoning", "thinking"), ("content", "text")):
            if delta.get(field):
                if kind != name:
                    at, kind = at + 1, name
                    events.append(BlockStart(at, name))  # type: ignore[arg-type]
                logprobs = choice.get("logprobs", {}).get("content")
                events.append(Delta(at, name, delta[field], logprobs))  # type: ignore[arg-type]
    reason = next(
        value["choices"][0]["finish_reason"]
        for value in values
        if value["choices"] and value["choices"][0]["finish_reason"]
    )
    return [*events, Finish(reason, usage_of(values[-1]))]


@pytest.mark.parametrize("name", [name for name in ANSWERED if not name.startswith("embedding")])
def test_golden_answer(name: str) -> None:
    step = ANSWERED[name]
    kind, body = KINDS[step["request"]["path"]], step["response"]["body"]
    request = judge(kind, step["request"]["body"].encode())
    assert isinstance(request, ChatRequest)
    if body.startswith("data: "):
        events = events_in(body)
        whole = DIALECT.writer(kind, request).write(events, NOW)
        writer = DIALECT.writer(kind, request)
        assert b"".join(writer.write([event], NOW) for event in events) == whole
        assert scrubbed(whole.decode()) == scrubbed(body)
        assert writer.content_type == header(step, "Content-Type")
        return
    answer = DIALECT.write_reply(kind, request, reply_in(json.loads(body)), NOW)
    assert scrubbed(answer.body.decode()) == scrubbed(body)
    assert (answer.status, answer.content_type) == (200, header(step, "Content-Type"))


@pytest.mark.parametrize("name", [name for name in ANSWERED if name.startswith("embedding")])
def test_golden_embedding(name: str) -> None:
    step = ANSWERED[name]
    request = judge(EMBED, step["request"]["body"].encode())
    assert isinstance(request, EmbedRequest)
    value = json.loads(step["response"]["body"])
    reply = EmbedReply([item["embedding"] for item in value["data"]], usage_of(value))
    answer = DIALECT.write_reply(EMBED, request, reply, NOW)
    assert answer.body.decode() == step["response"]["body"]
    assert answer.content_type == header(step, "Content-Type")


def test_the_golden_answers_are_all_compared() -> None:
    print(f"{len(REFUSED) - len(BY_THE_ENGINE)} refusals and {len(ANSWERED)} answers compared")
    assert REFUSED.keys() >= BY_THE_ENGINE
    assert len(REFUSED) - len(BY_THE_ENGINE) >= 24
    assert len(ANSWERED) >= 29


# -- requests ----------------------------------------------------------------------------------------------------------
def decode(kind: str = CHAT, **fields: Any) -> Any:
    base: dict[str, Any] = {"model": "m"}
    base |= {
        CHAT: {"messages": [{"role": "user", "content": "Hi"}]},
        GENERATE: {"prompt": "Hi"},
        EMBED: {"input": "a"},
    }[kind]
    return DIALECT.decode(kind, json.dumps(base | fields).encode())


def messages(*items: dict[str, Any]) -> list[Message]:
    found: list[Message] = decode(messages=list(items)).messages
    return found


ONE = Sampling(temperature=1.0, top_p=1.0)
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}

DECODED: dict[str, tuple[str, dict[str, Any], Any, Any]] = {
    # id: kind, members, how to look at the request, what is seen
    "temperature and top_p are 1": (CHAT, {}, lambda r: r.sampling, ONE),
    "given ones win": (
        CHAT,
        {"temperature": 0, "top_p": 0.5},
        lambda r: r.sampling,
        Sampling(temperature=0, top_p=0.5),
    ),
    "max_completion_tokens is ignored": (CHAT, {"max_completion_tokens": 5}, lambda r: r.sampling, ONE),
    "max_tokens": (CHAT, {"max_tokens": 5}, lambda r: r.sampling.max_tokens, 5),
    "stop text": (CHAT, {"stop": "x"}, lambda r: r.sampling.stop, ["x"]),
    "stop drops what is no text": (CHAT, {"stop": ["x", 5]}, lambda r: r.sampling.stop, ["x"]),
    "stop number is ignored": (CHAT, {"stop": 5}, lambda r: r.sampling.stop, None),
    "tool_choice, n and the rest are ignored": (
        CHAT,
        {"tool_choice": "required", "n": 3, "user": "u", "think": True},
        lambda r: (r.tool_choice, r.n, r.vendor, r.think),
        (None, None, {}, None),
    ),
    "effort none": (CHAT, {"reasoning_effort": "none"}, lambda r: r.think, False),
    "effort minimal": (CHAT, {"reasoning_effort": "minimal"}, lambda r: r.think, "low"),
    "effort ultra": (CHAT, {"reasoning_effort": "ultra"}, lambda r: r.think, "max"),
    "effort xhigh": (CHAT, {"reasoning_effort": "xhigh"}, lambda r: r.think, "max"),
    "reasoning wins": (CHAT, {"reasoning": {"effort": "low"}, "reasoning_effort": "high"}, lambda r: r.think, "low"),
    "reasoning without effort wins too": (CHAT, {"reasoning": {}, "reasoning_effort": "high"}, lambda r: r.think, None),
    "json": (CHAT, {"response_format": {"type": " JSON_object"}}, lambda r: r.format, Format()),
    "schema": (
        CHAT,
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}},
        lambda r: r.format,
        Format({"type": "object"}),
    ),
    "schema missing": (CHAT, {"response_format": {"type": "json_schema", "json_schema": {}}}, lambda r: r.format, None),
    "other format": (CHAT, {"response_format": {"type": "x"}}, lambda r: r.format, None),
    "keys in any case": (CHAT, {"MAX_TOKENS": 7}, lambda r: r.sampling.max_tokens, 7),
    "tools": (
        CHAT,
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
        lambda r: r.tools,
        [Tool("f", None, {"type": "object"})],
    ),
    "logprobs": (CHAT, {"logprobs": True, "top_logprobs": 2}, lambda r: (r.logprobs, r.top_logprobs), (True, 2)),
    "stream and usage": (
        CHAT,
        {"stream": True, "stream_options": {"include_usage": True}},
        lambda r: (r.stream, r.include_usage),
        (True, True),
    ),
    "no stream": (CHAT, {}, lambda r: r.stream, False),
    "privacy": (CHAT, {"privacy_mode": "strict"}, lambda r: r.privacy, "strict"),
    "completion": (
        GENERATE,
        {"suffix": "s", "seed": 3},
        lambda r: (r.messages, r.suffix, r.sampling),
        (
            [Message("user", [Text("Hi")])],
            "s",
            Sampling(temperature=1.0, top_p=1.0, seed=3, presence_penalty=0, frequency_penalty=0),
        ),
    ),
    "completion, top_p 0 is unset": (GENERATE, {"top_p": 0}, lambda r: r.sampling.top_p, 1.0),
    "completion, stop number": (GENERATE, {"stop": 5}, lambda r: r.sampling.stop, None),
    "completion, logprobs": (GENERATE, {"logprobs": 3}, lambda r: (r.logprobs, r.top_logprobs), (True, 3)),
    "completion, no logprobs": (GENERATE, {"logprobs": 0}, lambda r: (r.logprobs, r.top_logprobs), (False, None)),
    "completion, empty prompt loads": (GENERATE, {"prompt": ""}, lambda r: r.intent, "load"),
    "empty part list loads": (
        CHAT,
        {"messages": [{"role": "user", "content": []}]},
        lambda r: (r.intent, r.messages),
        ("load", []),
    ),
    "embedding text": (EMBED, {"input": "", "dimensions": 3}, lambda r: (r.inputs, r.dimensions), ([""], 3)),
    "embedding base64": (EMBED, {"encoding_format": "BASE64"}, lambda r: r.encoding, "base64"),
}


@pytest.mark.parametrize(("kind", "fields", "look", "seen"), DECODED.values(), ids=DECODED)
def test_decode(kind: str, fields: dict[str, Any], look: Any, seen: Any) -> None:
    assert look(decode(kind, **fields)) == seen


def test_one_message_for_each_part() -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "image_url", "image_url": f"data:;base64,{PNG}"},
        {"type": "input_audio", "input_audio": {"data": "UklGRgAAAABXQVZF", "format": "wav"}},
    ]
    image = Media(mime="image/png", data=PNG)
    assert messages({"role": "User", "content": parts}) == [
        Message("user", [Text("a")]),
        Message("user", [image]),
        Message("user", [image]),
        Message("user", [Media("audio", "audio/wav", "UklGRgAAAABXQVZF")]),
    ]


def test_calls_go_to_the_last_part() -> None:
    said = messages(
        {
            "role": "assistant",
            "reasoning": "hm",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            "tool_calls": [CALL],
        }
    )
    assert said == [
        Message("assistant", [Text("a")]),
        Message("assistant", [Thinking("hm"), Text("b"), ToolCall("f", '{"a":1}', "c1")]),
    ]


def test_content_may_be_missing_beside_calls() -> None:
    assert messages({"role": "assistant", "tool_calls": [CALL]}) == [
        Message("assistant", [ToolCall("f", '{"a":1}', "c1")])
    ]
    assert messages({"role": "assistant", "content": None, "tool_calls": []}) == [Message("assistant", [])]


def test_a_result_gets_the_name_of_its_call() -> None:
    other = {**CALL, "function": {"name": "g", "arguments": "{}"}}
    conversation = (
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "assistant", "content": "", "tool_calls": [other]},
    )
    by_id = messages(*conversation, {"role": "tool", "tool_call_id": "c1", "content": "5"})
    assert by_id[-1] == Message("tool", [ToolResult([Text("5")], "c1", "g")])
    named = messages(*conversation, {"role": "tool", "tool_call_id": "c1", "name": "x", "content": "5"})
    assert named[-1] == Message("tool", [ToolResult([Text("5")], "c1", "x")])
    in_parts = messages(
        *conversation, {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "5"}]}
    )
    assert in_parts[-1] == Message("tool", [ToolResult([Text("5")])])


def content(value: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": value}]}


def image(url: Any) -> dict[str, Any]:
    return content([{"type": "image_url", "image_url": {"url": url}}])


def audio(value: Any) -> dict[str, Any]:
    return content([{"type": "input_audio", "input_audio": value}])


def called(arguments: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    return {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"function": function}]}]}


# 400s of the layer itself: kind, members, text.
REFUSALS: dict[str, tuple[str, dict[str, Any], str]] = {
    "content number": (CHAT, content(5), "invalid message content type: float64"),
    "content flag": (CHAT, content(True), "invalid message content type: bool"),
    "part a text": (CHAT, content(["x"]), "invalid message format"),
    "part unknown": (CHAT, content([{"type": "video"}]), "invalid message format"),
    "part without text": (CHAT, content([{"type": "text"}]), "invalid message format"),
    "picture without url": (CHAT, image(None), "invalid message format"),
    "picture of another type": (CHAT, image(f"data:image/gif;base64,{PNG}"), "invalid image input"),
    "picture no base64": (CHAT, image("data:image/png;base64,%"), "invalid image input"),
    "picture bare": (CHAT, image(PNG), "invalid image input"),
    "picture by https": (
        CHAT,
        image("https://x/y.png"),
        "image URLs are not currently supported, please use base64 encoded data instead",
    ),
    "sound a text": (CHAT, audio("x"), "invalid input_audio format"),
    "sound without data": (CHAT, audio({}), "invalid input_audio format: missing data"),
    "sound no base64": (
        CHAT,
        audio({"data": "AA%A"}),
        "invalid input_audio base64 data: illegal base64 data at input byte 2",
    ),
    "arguments empty": (CHAT, called(""), "invalid tool call arguments"),
    "arguments a list": (CHAT, called("[]"), "invalid tool call arguments"),
    "effort": (
        CHAT,
        {"reasoning": {"effort": 'x"'}},
        'invalid reasoning value: "x\\"" (must be "minimal", "low", "medium", "high", "xhigh", "ultra", "max", or '
        '"none")',
    ),
    "message a text": (
        CHAT,
        {"messages": ["x"]},
        "json: cannot unmarshal string into Go struct field ChatCompletionRequest.messages of type openai.Message",
    ),
    "role a number": (
        CHAT,
        {"messages": [{"role": 1}]},
        "json: cannot unmarshal number into Go struct field Message.messages.role of type string",
    ),
    "arguments an object": (
        CHAT,
        called({}),
        "json: cannot unmarshal object into Go struct field .messages.tool_calls.function.arguments of type string",
    ),
    "response_format a text": (
        CHAT,
        {"response_format": "json"},
        "json: cannot unmarshal string into Go struct field ChatCompletionRequest.response_format of type "
        "openai.ResponseFormat",
    ),
    "fraction": (
        CHAT,
        {"max_tokens": 1.5},
        "json: cannot unmarshal number 1.5 into Go struct field ChatCompletionRequest.max_tokens of type int",
    ),
    "tools a text": (
        CHAT,
        {"tools": "x"},
        "json: cannot unmarshal string into Go struct field ChatCompletionRequest.tools of type []api.Tool",
    ),
    "tool name a number": (
        CHAT,
        {"tools": [{"function": {"name": 5}}]},
        "json: cannot unmarshal number into Go struct field ToolFunction.tools.function.name of type string",
    ),
    "prompt a list": (
        GENERATE,
        {"prompt": ["a"]},
        "json: cannot unmarshal array into Go struct field CompletionRequest.prompt of type string",
    ),
    "temperature a text": (
        GENERATE,
        {"temperature": "1"},
        "json: cannot unmarshal string into Go struct field CompletionRequest.temperature of type float32",
    ),
    "stop in a list a number": (GENERATE, {"stop": ["a", 5]}, "invalid type for 'stop' field: float64"),
    "no input": (EMBED, {"input": None}, "invalid input"),
}


@pytest.mark.parametrize(("kind", "fields", "words"), REFUSALS.values(), ids=REFUSALS)
def test_the_layer_refuses(kind: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(GatewayError) as refused:
        decode(kind, **fields)
    answer = DIALECT.write_error(kind, refused.value, False)
    assert (answer.status, answer.content_type) == (400, "application/json; charset=utf-8")
    written = json.dumps(
        {"error": {"message": words, "type": "invalid_request_error", "param": None, "code": None}},
        separators=(",", ":"),
    )
    assert answer.body.decode() == written


# What the native handler behind the layer refuses: kind, members, status, text.
INNER: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "chat without model": (CHAT, {"model": ""}, 400, "model is required"),
    "completion without model": (GENERATE, {"model": None}, 404, "model '' not found"),
    "embedding without model": (EMBED, {"model": " "}, 404, "model ' ' not found"),
    "alternatives before the model": (
        CHAT,
        {"model": "", "top_logprobs": 21},
        400,
        "top_logprobs must be between 0 and 20",
    ),
    "completion alternatives": (GENERATE, {"logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
    "input a number": (EMBED, {"input": 5}, 400, "invalid input type"),
    "input mixed": (EMBED, {"input": ["a", 5]}, 400, "invalid input type"),
    "unknown": (CHAT, {"model": "nope"}, 404, "model 'nope' not found"),
    "unknown for embedding": (EMBED, {"model": "nope"}, 404, 'model "nope" not found, try pulling it first'),
    "cannot think": (
        CHAT,
        {"model": "gemma-tiny", "reasoning_effort": "low"},
        400,
        '"gemma-tiny" does not support thinking',
    ),
    "cannot use tools": (
        CHAT,
        {"model": "gemma-tiny", "tools": [{"type": "function", "function": {"name": "f"}}]},
        400,
        "registry.ollama.ai/library/gemma-tiny:latest does not support tools",
    ),
    "cannot complete": (GENERATE, {"model": "gemma-embed"}, 400, '"gemma-embed" does not support generate'),
    "format of a number": (
        CHAT,
        {"model": "gemma-tiny", "response_format": {"type": "json_schema", "json_schema": {"schema": 5}}},
        400,
        'invalid format: "5"; expected "json" or a valid JSON Schema object',
    ),
}


@pytest.mark.parametrize(("kind", "fields", "status", "words"), INNER.values(), ids=INNER)
def test_the_native_handler_refuses(kind: str, fields: dict[str, Any], status: int, words: str) -> None:
    base = {"model": "m", "messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x"}
    with pytest.raises(GatewayError) as refused:
        judge(kind, json.dumps(base | fields).encode())
    answer = DIALECT.write_error(kind, refused.value, False)
    kind_word = "not_found_error" if status == 404 else "invalid_request_error"
    assert (answer.status, answer.content_type) == (status, "application/json")
    assert answer.body.endswith(b"}\n")
    assert json.loads(answer.body) == {"error": {"message": words, "type": kind_word, "param": None, "code": None}}


def test_other_statuses_are_api_errors() -> None:
    error = GatewayError("busy <now>", status=503, scope=Scope.THROTTLE, code="x", param="y", retry_after=3)
    answer = DIALECT.write_error(CHAT, error, True)
    assert answer == Answer(
        503,
        "application/json",
        b'{"error":{"message":"busy \\u003cnow\\u003e","type":"api_error","param":null,"code":null}}\n',
        {"Retry-After": "3"},
    )


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "seed",
    "stop",
    "temperature",
    "frequency_penalty",
    "presence_penalty",
    "top_p",
    "response_format",
    "tools",
    "reasoning",
    "reasoning_effort",
    "logprobs",
    "top_logprobs",
    "privacy_mode",
    "task",
    "prompt",
    "suffix",
    "input",
    "dimensions",
    "encoding_format",
]


def survives(kind: str, body: Any) -> None:
    """Either values, or a 4xx in the layer's shape: never anything else."""
    try:
        judge(kind, json.dumps(body).encode())
    except GatewayError as error:
        assert error.status in (400, 404)
        assert json.loads(DIALECT.write_error(kind, error, False).body)["error"]["param"] is None


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from([CHAT, GENERATE, EMBED]), name=st.sampled_from(MEMBERS), value=JUNK)
def test_junk_members(kind: str, name: str, value: Any) -> None:
    base = {"model": "gemma-tools", "messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x"}
    survives(kind, base | {name: value})


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(["role", "content", "reasoning", "tool_calls", "name", "tool_call_id"]),
    role=st.sampled_from(["user", "assistant", "tool"]),
    value=JUNK
    | st.lists(
        st.dictionaries(st.sampled_from(["type", "text", "image_url", "input_audio", "id", "function"]), JUNK),
        max_size=2,
    ),
)
def test_junk_messages(name: str, role: str, value: Any) -> None:
    survives(CHAT, {"model": "gemma-tools", "messages": [{"role": role, "content": "x", name: value}]})


# -- answers -----------------------------------------------------------------------------------------------------------
def ask(**fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=[Message("user", [Text("Hi")])], **fields)


def test_a_load_is_answered_at_once() -> None:
    whole = DIALECT.write_reply(CHAT, ask(intent="load"), Reply(reason="load"), NOW)
    value = json.loads(whole.body)
    assert value["choices"] == [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "load"}]
    assert value["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    stream = DIALECT.write_reply(CHAT, ask(intent="load", stream=True, include_usage=True), Reply(reason="load"), NOW)
    assert stream.content_type == "text/event-stream"
    assert stream.body.endswith(b"data: [DONE]\n\n")
    first, finish, usage = json_frames(stream.body)
    assert first["choices"][0] == {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    assert finish["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "load"}
    assert usage["usage"] == value["usage"]
    completion = DIALECT.write_reply(GENERATE, ask(intent="load", stream=True), Reply(reason="load"), NOW)
    (only,) = json_frames(completion.body)
    assert only["choices"] == [{"text": "", "index": 0, "finish_reason": "load"}]


def test_usage_frames() -> None:
    events: list[Event] = [
        Start(),
        BlockStart(0, "text"),
        Delta(0, "text", "Hi"),
        BlockEnd(0),
        Finish("stop", Usage(5, 1)),
    ]
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    counts = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    completion = DIALECT.writer(GENERATE, ask(stream=True, include_usage=True)).write(events, NOW)
    values = json_frames(completion)
    assert [value["usage"] for value in values] == [zero, zero, counts]
    assert list(values[0]) == ["id", "object", "created", "choices", "model", "system_fingerprint", "usage"]
    chat = json_frames(DIALECT.writer(CHAT, ask(stream=True, include_usage=True)).write(events, NOW))
    assert [value.get("usage") for value in chat] == [None, None, counts]
    assert list(chat[-1]) == ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"]


def test_a_chat_has_one_time_and_a_completion_has_many() -> None:
    later = Moment(NOW.wall_ns + 5_000_000_000, 9)
    for kind, times in ((CHAT, {1_790_000_000}), (GENERATE, {1_790_000_000, 1_790_000_005})):
        writer = DIALECT.writer(kind, ask(stream=True))
        first = writer.write([Start(), BlockStart(0, "text"), Delta(0, "text", "a")], NOW)
        last = writer.write([Delta(0, "text", "b"), BlockEnd(0), Finish("stop", Usage(1, 1))], later)
        values = json_frames(first + last)
        assert {value["created"] for value in values} == times
        assert len({value["id"] for value in values}) == 1


def test_thoughts_are_hidden_when_switched_off_and_dropped_in_completions() -> None:
    events: list[Event] = [
        Start(),
        BlockStart(0, "thinking"),
        Delta(0, "thinking", "hm"),
        BlockEnd(0),
        Finish("stop", Usage(1, 1)),
    ]
    shown = json_frames(DIALECT.writer(CHAT, ask(stream=True)).write(events, NOW))
    assert shown[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "reasoning": "hm"}
    hidden = json_frames(DIALECT.writer(CHAT, ask(stream=True, think=False)).write(events, NOW))
    assert hidden[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    completion = json_frames(DIALECT.writer(GENERATE, ask(stream=True)).write(events, NOW))
    assert [value["choices"][0]["text"] for value in completion] == ["", ""]


def test_calls_come_whole() -> None:
    events: list[Event] = [Start()]
    for index, (name, pieces) in enumerate({"f": ['{"a"', ':"<é>"}'], "g": ["{}"]}.items()):
        events.append(BlockStart(index, "tool_call", None if index else "c1", name))
        events += [Delta(index, "tool_call", piece) for piece in pieces]
    stream = DIALECT.writer(CHAT, ask(stream=True)).write(
        [*events, BlockEnd(0), BlockEnd(1), Finish("tool_calls", Usage(1, 1))], NOW
    )
    first, second, finish = json_frames(stream)
    assert first["choices"][0]["delta"] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "c1",
                "index": 0,
                "type": "function",
                "function": {"name": "f", "arguments": '{"a":"\\u003cé\\u003e"}'},
            }
        ],
    }
    (call,) = second["choices"][0]["delta"]["tool_calls"]
    assert re.fullmatch(r"call_[a-z0-9]{8}", call["id"]) and call["index"] == 1
    assert finish["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("begun", [True, False])
def test_a_failed_stream_has_one_more_chunk_and_no_done(begun: bool) -> None:
    error = GatewayError("boom", status=502, scope=Scope.PROVIDER)
    writer = DIALECT.writer(CHAT, ask(stream=True))
    if begun:
        writer.write([Start(), BlockStart(0, "text"), Delta(0, "text", "a")], NOW)
    role = '"role":"assistant",' if not begun else ""
    assert scrubbed(writer.fail(error, NOW).decode()) == (
        'data: {"id":"chatcmpl-N","object":"chat.completion.chunk","created":0,"model":"",'
        '"system_fingerprint":"fp_ollama",'
        f'"choices":[{{"index":0,"delta":{{{role}"content":""}},"finish_reason":null}}]}}\n\n'
    )
    completion = DIALECT.writer(GENERATE, ask(stream=True)).fail(error, NOW)
    assert scrubbed(completion.decode()) == (
        'data: {"id":"cmpl-N","object":"text_completion","created":0,'
        '"choices":[{"text":"","index":0,"finish_reason":null}],'
        '"model":"","system_fingerprint":"fp_ollama"}\n\n'
    )


def test_embeddings_are_float32_of_length_one() -> None:
    reply = EmbedReply([[3.0, 4.0], [0.1, 0.0]], Usage(7))
    floats = DIALECT.write_reply(EMBED, EmbedRequest("m", ["a", "b"]), reply, NOW)
    assert floats.body == (
        b'{"object":"list","data":[{"object":"embedding","embedding":[0.6,0.8],"index":0},'
        b'{"object":"embedding","embedding":[1,0],"index":1}],"model":"m","usage":{"prompt_tokens":7,"total_tokens":7}}\n'
    )
    packed = DIALECT.write_reply(EMBED, EmbedRequest("m", ["a", "b"], encoding="base64"), reply, NOW)
    vector = base64.b64decode(json.loads(packed.body)["data"][0]["embedding"])
    assert struct.unpack("<2f", vector) == pytest.approx((0.6, 0.8))


@pytest.mark.parametrize(
    "call",
    [
        lambda: DIALECT.encode(ask(), "m", Profile()),
        lambda: DIALECT.relay(b"{}", "m", ask()),
        lambda: DIALECT.read_reply(CHAT, b"{}", Profile()),
        lambda: DIALECT.relay_reply(CHAT, b"{}", ask()),
        lambda: DIALECT.reader(CHAT, Profile()),
        lambda: DIALECT.tap(CHAT, ask()),
        lambda: DIALECT.read_error(400, {}, b""),
    ],
)
def test_no_provider_speaks_it(call: Any) -> None:
    with pytest.raises(TypeError, match="spoken by clients only"):
        call()
