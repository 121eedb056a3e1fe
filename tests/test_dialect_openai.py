"""The OpenAI dialect: requests, replies, streams, relay and errors, on both sides.

What a recorded answer must come to is read from the recording by a walker of its own (`said`) and from a table written
by hand; neither uses the dialect.
"""

from __future__ import annotations

import base64
import json
import os
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_bridge.dialects.base import CHAT, EMBED, GENERATE, Loss, ModelView, Moment, Profile
from ollama_bridge.dialects.openai import OpenAIDialect
from ollama_bridge.dialects.thinktags import split
from ollama_bridge.errors import CONTEXT_LENGTH, MODEL_REQUIRED, NO_CHAT, NO_TOOLS, GatewayError, Scope
from ollama_bridge.events import BlockStart, Delta, Event, Failed, Finish, Start, fold, unfold
from ollama_bridge.values import (
    ChatRequest,
    EmbedReply,
    EmbedRequest,
    Format,
    Media,
    Message,
    Opaque,
    Reply,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)

RECORDED = Path(os.environ.get("OLLAMA_BRIDGE_RECORDED", Path(__file__).parents[2] / "shared" / "recorded"))
DIALECT = OpenAIDialect()
NOW = Moment(wall_ns=1_790_000_000_500_000_000, elapsed_ns=5_000_000, first_ns=1_000_000)
PNG = "iVBORw0KGgo="


# -- building blocks ---------------------------------------------------------------------------------------------------
def ask(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=list(messages) or [Message("user", [Text("Hi")])], **fields)


def encoded(request: ChatRequest | EmbedRequest, **profile: Any) -> dict[str, Any]:
    return DIALECT.encode(request, "up", Profile(**profile))[1]


def lost(request: ChatRequest, **profile: Any) -> list[str]:
    return [loss.name for loss in DIALECT.encode(request, "up", Profile(**profile))[2]]


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One chunk of a stream; `more` are members of the chunk."""
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "up",
        "choices": choices,
        **more,
    }


def frames(*chunks: dict[str, Any], done: bool = True) -> bytes:
    data = [json.dumps(each, separators=(",", ":"), ensure_ascii=False).encode() for each in chunks]
    return b"".join(b"data: " + each + b"\n\n" for each in data) + (b"data: [DONE]\n\n" if done else b"")


def text(*pieces: str, **last: Any) -> bytes:
    return frames(*(chunk({"content": piece}) for piece in pieces), chunk(finish="stop", **last))


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


def cuts(stream: bytes) -> Iterator[tuple[bytes, bytes]]:
    for at in range(len(stream) + 1):
        yield stream[:at], stream[at:]


# -- values -> bodies --------------------------------------------------------------------------------------------------
MESSAGES = {
    "text": (Message("user", [Text("Hi")]), {}, [{"role": "user", "content": "Hi"}]),
    "developer is system": (Message("developer", [Text("x")]), {}, [{"role": "system", "content": "x"}]),
    "system word": (
        Message("system", [Text("x")]),
        {"system_role": "developer"},
        [{"role": "developer", "content": "x"}],
    ),
    "image data": (
        Message("user", [Text("What?"), Media(mime="image/png", data=PNG)]),
        {},
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                ],
            }
        ],
    ),
    "image address, no words": (
        Message("user", [Text(""), Media(url="https://x/a.png", detail="low")]),
        {},
        [
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "https://x/a.png", "detail": "low"}}],
            }
        ],
    ),
    "sound": (
        Message("user", [Media("audio", "audio/mpeg", "AAAA")]),
        {},
        [
            {
                "role": "user",
                "content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}],
            }
        ],
    ),
    "call": (
        Message("assistant", [Thinking("hm"), ToolCall("f", '{"a":1}', "c1"), ToolCall("g", "", "c2")]),
        {},
        [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
                    {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ],
            }
        ],
    ),
    "thought goes back": (
        Message("assistant", [Thinking("hm"), Text("4")]),
        {"thinking_in_history": "reasoning"},
        [{"role": "assistant", "content": "4", "reasoning": "hm"}],
    ),
    "deepseek wants the field": (
        Message("assistant", [ToolCall("f", "{}", "c1")]),
        {"thinking_in_history": "reasoning_content", "reasoning": "deepseek"},
        [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                "reasoning_content": "",
            }
        ],
    ),
    "result": (
        Message("tool", [ToolResult([Text("5"), Text("C")], "c1", "f")]),
        {},
        [{"role": "tool", "tool_call_id": "c1", "content": "5\nC"}],
    ),
    "unknown part of our own": (
        Message("user", [Opaque("openai", {"type": "file", "file": {"file_id": "1"}})]),
        {},
        [{"role": "user", "content": [{"type": "file", "file": {"file_id": "1"}}]}],
    ),
}


@pytest.mark.parametrize(("message", "profile", "wanted"), MESSAGES.values(), ids=MESSAGES)
def test_encode_message(message: Message, profile: dict[str, Any], wanted: list[dict[str, Any]]) -> None:
    assert encoded(ask(message), **profile)["messages"] == wanted


def test_images_of_results_follow_all_results_of_the_turn() -> None:
    body = encoded(
        ask(
            Message("tool", [ToolResult([Text("one"), Media(mime="image/png", data=PNG)], "c1")]),
            Message("tool", [ToolResult([Text("two")], "c2")]),
            Message("user", [Text("And?")]),
        )
    )
    assert [message["role"] for message in body["messages"]] == ["tool", "tool", "user", "user"]
    assert body["messages"][2]["content"][0]["type"] == "image_url"


def test_blocks_of_another_dialect_are_a_loss() -> None:
    request = ask(Message("user", [Text("a"), Opaque("anthropic", {"type": "document"})]))
    assert lost(request) == ["anthropic content"]


FULL = Sampling(
    temperature=0.5, top_p=0.9, top_k=40, min_p=0.1, seed=7, max_tokens=9, stop=["a", "b", "c"], presence_penalty=0.1,
    frequency_penalty=0.2, repeat_penalty=1.1, num_ctx=4096,
    extra={"typical_p": 0.7, "num_gpu": 1, "mirostat": 2, "repeat_last_n": 64},
)  # fmt: skip

PARAMETERS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], list[str]]] = {
    # id: request fields, profile, members of the body, losses
    "nothing set, nothing sent": ({}, {}, {}, []),
    "OpenAI's own": (
        {"sampling": FULL},
        {},
        {
            "temperature": 0.5, "top_p": 0.9, "presence_penalty": 0.1, "frequency_penalty": 0.2, "seed": 7,
            "max_tokens": 9, "stop": ["a", "b", "c"],
        },
        ["top_k", "min_p", "repeat_penalty", "typical_p", "repeat_last_n"],
    ),
    "an engine's own": (
        {"sampling": FULL},
        {
            "accepts": frozenset({"top_k", "min_p", "repetition_penalty", "typical_p", "repeat_last_n", "mirostat"}),
            "max_tokens_field": "max_completion_tokens", "seed_field": "random_seed", "max_stops": 2,
        },
        {
            "temperature": 0.5, "top_p": 0.9, "presence_penalty": 0.1, "frequency_penalty": 0.2, "random_seed": 7,
            "max_completion_tokens": 9, "stop": ["a", "b"], "top_k": 40, "min_p": 0.1, "repetition_penalty": 1.1,
            "typical_p": 0.7, "repeat_last_n": 64, "mirostat": 2,
        },
        ["stop"],
    ),
    "llama.cpp's spelling": (
        {"sampling": Sampling(repeat_penalty=1.2)}, {"accepts": frozenset({"repeat_penalty"})}, {"repeat_penalty": 1.2}, [],
    ),
    "rejected": (
        {"sampling": FULL, "logprobs": True, "top_logprobs": 2},
        {
            "rejects": frozenset({"temperature", "stop", "logprobs", "seed"}),
            "accepts": frozenset({"top_k", "min_p", "repeat_penalty", "typical_p", "repeat_last_n"}),
        },
        {
            "top_p": 0.9, "presence_penalty": 0.1, "frequency_penalty": 0.2, "max_tokens": 9, "top_k": 40, "min_p": 0.1,
            "repeat_penalty": 1.1, "typical_p": 0.7, "repeat_last_n": 64,
        },
        ["temperature", "seed", "stop", "logprobs"],
    ),
    "dropped while it reasons": (
        {"sampling": Sampling(temperature=0.1), "think": "high"},
        {"drop_while_reasoning": frozenset({"temperature"})},
        {"reasoning_effort": "high"},
        ["temperature"],
    ),
    "kept while it does not": (
        {"sampling": Sampling(temperature=0.1), "think": False},
        {"drop_while_reasoning": frozenset({"temperature"}), "reasons_by_default": True},
        {"reasoning_effort": "none", "temperature": 0.1},
        [],
    ),
    "no limit, any seed, no stop": ({"sampling": Sampling(max_tokens=-1, seed=-1, stop=[])}, {}, {}, []),
    "logprobs": ({"logprobs": True, "top_logprobs": 3}, {}, {"logprobs": True, "top_logprobs": 3}, []),
    "logprobs without alternatives": ({"logprobs": True}, {}, {"logprobs": True}, []),
    "one answer of several": ({"n": 3}, {}, {}, ["n"]),
    "completion words": (
        {"raw": True, "template": "{{ .Prompt }}", "suffix": "x"}, {}, {}, ["raw", "template", "suffix"],
    ),
    "stream": ({"stream": True}, {}, {"stream": True, "stream_options": {"include_usage": True}}, []),
    "stream, usage unasked": ({"stream": True}, {"stream_usage": False}, {"stream": True}, []),
    "stream, options rejected": (
        {"stream": True}, {"rejects": frozenset({"stream_options"})}, {"stream": True}, [],
    ),
    "vendor and preset members": (
        {"vendor": {"openai": {"user": "u", "logit_bias": {"1": 2}, "model": "no"}}},
        {"rejects": frozenset({"logit_bias"}), "extra_body": {"provider": {"sort": "price"}, "user": "no"}},
        {"user": "u", "provider": {"sort": "price"}},
        ["logit_bias"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "profile", "wanted", "losses"), PARAMETERS.values(), ids=PARAMETERS)
def test_encode_parameters(
    fields: dict[str, Any], profile: dict[str, Any], wanted: dict[str, Any], losses: list[str]
) -> None:
    request = ask(**fields)
    plain = {"model": "up", "messages": [{"role": "user", "content": "Hi"}], "stream": False}
    assert encoded(request, **profile) == {**plain, **wanted}
    assert lost(request, **profile) == losses


EFFORTS = ("low", "high", "max")
REASONING: dict[str, tuple[Any, dict[str, Any], dict[str, Any], list[str]]] = {
    "effort: level": ("medium", {}, {"reasoning_effort": "medium"}, []),
    "effort: nearest below": ("medium", {"efforts": EFFORTS}, {"reasoning_effort": "low"}, []),
    "effort: nearest above": ("minimal", {"efforts": EFFORTS}, {"reasoning_effort": "low"}, []),
    "effort: max is the strongest": ("max", {"efforts": ("low", "xhigh")}, {"reasoning_effort": "xhigh"}, []),
    "effort: words of its own": ("high", {"efforts": ("default",)}, {"reasoning_effort": "default"}, []),
    "effort: on": (True, {}, {"reasoning_effort": "medium"}, []),
    "effort: on anyway": (True, {"reasons_by_default": True}, {}, []),
    "effort: off anyway": (False, {}, {}, []),
    "effort: off": (False, {"reasons_by_default": True}, {"reasoning_effort": "none"}, []),
    "effort: cannot be off": (
        False, {"reasons_by_default": True, "think_off": False, "efforts": EFFORTS}, {"reasoning_effort": "low"}, ["think"],
    ),
    "effort: learnt that it is refused": ("high", {"rejects": frozenset({"think"})}, {}, ["think"]),
    "unset": (None, {"reasons_by_default": True}, {}, []),
    "openrouter: on": (True, {"reasoning": "openrouter"}, {"reasoning": {"enabled": True}}, []),
    "openrouter: off": (False, {"reasoning": "openrouter"}, {"reasoning": {"enabled": False}}, []),
    "openrouter: level": ("high", {"reasoning": "openrouter"}, {"reasoning": {"effort": "high"}}, []),
    "deepseek: on": (True, {"reasoning": "deepseek"}, {"thinking": {"type": "enabled"}}, []),
    "deepseek: off": (False, {"reasoning": "deepseek"}, {"thinking": {"type": "disabled"}}, []),
    "deepseek: level": (
        "medium", {"reasoning": "deepseek", "efforts": EFFORTS},
        {"thinking": {"type": "enabled"}, "reasoning_effort": "low"}, [],
    ),
    "template: off": (False, {"reasoning": "template"}, {"chat_template_kwargs": {"enable_thinking": False}}, []),
    "template: level": (
        "high", {"reasoning": "template"},
        {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "high"}}, [],
    ),
    "template: beside the preset's": (
        True, {"reasoning": "template", "extra_body": {"chat_template_kwargs": {"x": 1}}},
        {"chat_template_kwargs": {"x": 1, "enable_thinking": True}}, [],
    ),
    "none: on": (True, {"reasoning": "none"}, {}, ["think"]),
    "none: off": (False, {"reasoning": "none"}, {}, []),
    "none: always on": (True, {"reasoning": "none", "reasons_by_default": True}, {}, []),
    "none: always on, off": (False, {"reasoning": "none", "reasons_by_default": True, "think_off": False}, {}, ["think"]),
}  # fmt: skip


@pytest.mark.parametrize(("think", "profile", "wanted", "losses"), REASONING.values(), ids=REASONING)
def test_encode_reasoning(think: Any, profile: dict[str, Any], wanted: dict[str, Any], losses: list[str]) -> None:
    body = encoded(ask(think=think), **profile)
    assert {name: body[name] for name in body.keys() - {"model", "messages", "stream"}} == wanted
    assert lost(ask(think=think), **profile) == losses


WEATHER = Tool("get_weather", "Weather", {"type": "object", "properties": {"city": {"type": "string"}}})


def test_encode_tools() -> None:
    request = ask(
        tools=[WEATHER, Tool("now", vendor={"openai": {"strict": True}})],
        tool_choice={"name": "now"},
        parallel_tool_calls=False,
    )
    body = encoded(request)
    assert body["tools"] == [
        {
            "type": "function",
            "function": {"name": "get_weather", "description": "Weather", "parameters": WEATHER.parameters},
        },
        {
            "type": "function",
            "function": {"strict": True, "name": "now", "parameters": {"type": "object", "properties": {}}},
        },
    ]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "now"}}
    assert body["parallel_tool_calls"] is False
    assert lost(request, rejects=frozenset({"tool_choice", "parallel_tool_calls"})) == [
        "tool_choice",
        "parallel_tool_calls",
    ]
    assert lost(ask(tools=[WEATHER], tool_choice="auto"), rejects=frozenset({"tool_choice"})) == []


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FORMATS: dict[str, tuple[Format, dict[str, Any], Any, list[str]]] = {
    "schema": (
        Format(SCHEMA),
        {},
        {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": False}},
        [],
    ),
    "strict schema": (
        Format(SCHEMA, "x", True),
        {},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}},
        [],
    ),
    "json": (Format(), {}, {"type": "json_object"}, []),
    "schema where only json is": (
        Format(SCHEMA),
        {"formats": frozenset({"json"})},
        {"type": "json_object"},
        ["format"],
    ),
    "nothing": (Format(), {"formats": frozenset()}, None, ["format"]),
}


@pytest.mark.parametrize(("wanted", "profile", "written", "losses"), FORMATS.values(), ids=FORMATS)
def test_encode_format(wanted: Format, profile: dict[str, Any], written: Any, losses: list[str]) -> None:
    request = ask(Message("user", [Text("Give me JSON")]), format=wanted)
    assert encoded(request, **profile).get("response_format") == written
    assert lost(request, **profile) == losses
    assert len(encoded(request, **profile)["messages"]) == 1


def test_json_mode_says_json() -> None:
    alone = encoded(ask(format=Format()))["messages"]
    assert [message["role"] for message in alone] == ["system", "user"]
    assert "JSON" in alone[0]["content"]
    with_system = encoded(ask(Message("system", [Text("Be brief.")]), Message("user", [Text("x")]), format=Format()))
    assert with_system["messages"][0]["content"].startswith("Be brief.")
    assert "JSON" in with_system["messages"][0]["content"]
    assert len(with_system["messages"]) == 2


def test_encode_embedding() -> None:
    request = EmbedRequest("m", ["a", "b"], dimensions=8, vendor={"openai": {"user": "u"}})
    assert DIALECT.encode(request, "up", Profile(extra_body={"x": 1})) == (
        EMBED,
        {"user": "u", "model": "up", "input": ["a", "b"], "dimensions": 8, "encoding_format": "base64"},
        [],
    )
    bare = DIALECT.encode(request, "up", Profile(rejects=frozenset({"dimensions", "encoding_format"})))
    assert bare == (EMBED, {"user": "u", "model": "up", "input": ["a", "b"]}, [Loss("dimensions")])


def test_a_completion_goes_out_as_a_chat() -> None:
    request = DIALECT.decode(GENERATE, b'{"model":"m","prompt":"Once"}')
    kind, body, losses = DIALECT.encode(request, "up", Profile())
    assert (kind, losses) == (CHAT, [])
    assert body["messages"] == [{"role": "user", "content": "Once"}]


# -- bodies -> values --------------------------------------------------------------------------------------------------
ROUND_TRIPS: dict[str, dict[str, Any]] = {
    "text": {},
    "conversation": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather?", "name": "ann"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "extra_content": {"google": {"thought_signature": "s"}},
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"a": 1}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "5 C"},
            {"role": "assistant", "content": "5 C", "prefix": True},
        ]
    },
    "parts": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "text", "text": "b"},
                    {"type": "image_url", "image_url": {"url": f"data:image/webp;base64,{PNG}", "detail": "high"}},
                    {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                    {"type": "file", "file": {"file_id": "1"}},
                ],
            }
        ]
    },
    "custom call": {
        "messages": [
            {
                "role": "assistant",
                "content": "x",
                "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "f", "input": "i"}}],
            }
        ]
    },
    "parameters": {
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [
            {
                "type": "function",
                "function": {"strict": True, "name": "f", "description": "d", "parameters": {"type": "object"}},
            }
        ],
        "tool_choice": "required",
        "parallel_tool_calls": True,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        "reasoning_effort": "xhigh",
        "temperature": 0,
        "top_p": 1,
        "presence_penalty": -1.5,
        "frequency_penalty": 0.5,
        "seed": 3,
        "max_tokens": 5,
        "stop": ["x"],
        "logprobs": True,
        "top_logprobs": 4,
        "user": "u",
        "metadata": {"a": [1, None]},
    },
    "an effort of tomorrow": {"reasoning_effort": "colossal"},
    "a format of another server": {"response_format": {"type": "gbnf", "grammar": "root ::= x"}},
}


@pytest.mark.parametrize("body", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
def test_encode_of_decode_is_the_same_body(body: dict[str, Any]) -> None:
    whole = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": False, **body}
    request = DIALECT.decode(CHAT, json.dumps(whole).encode())
    again = DIALECT.encode(request, "m", Profile())
    assert again == (CHAT, whole, [])


def decode(kind: str = CHAT, **fields: Any) -> Any:
    base: dict[str, Any] = {"model": "m"}
    base |= {
        CHAT: {"messages": [{"role": "user", "content": "Hi"}]},
        GENERATE: {"prompt": "Hi"},
        EMBED: {"input": "a"},
    }[kind]
    return DIALECT.decode(kind, json.dumps(base | fields).encode())


def message_of(**fields: Any) -> Message:
    return decode(messages=[fields]).messages[0]


DECODED: dict[str, tuple[dict[str, Any], Any, Any]] = {
    # id: members, how to look at the request, what is seen
    "max_completion_tokens wins": ({"max_tokens": 5, "max_completion_tokens": 9}, lambda r: r.sampling.max_tokens, 9),
    "max_tokens": ({"max_tokens": 5.0}, lambda r: r.sampling.max_tokens, 5),
    "stop text": ({"stop": "x"}, lambda r: r.sampling.stop, ["x"]),
    "null is absent": ({"stop": None, "tools": None, "temperature": None}, lambda r: (r.sampling, r.tools), (Sampling(), [])),
    "repetition_penalty": ({"repetition_penalty": 1.2, "top_k": 3}, lambda r: r.sampling, Sampling(top_k=3, repeat_penalty=1.2)),
    "Goose's options": (
        {"options": {"num_ctx": 9, "mirostat": 1}}, lambda r: (r.sampling.num_ctx, r.sampling.extra), (9, {"mirostat": 1}),
    ),
    "effort none": ({"reasoning_effort": "none"}, lambda r: r.think, False),
    "effort object": ({"reasoning": {"effort": "low"}, "reasoning_effort": "high"}, lambda r: r.think, "low"),
    "reasoning switch": ({"reasoning": {"enabled": False}}, lambda r: r.think, False),
    "deepseek switch": ({"thinking": {"type": "enabled"}}, lambda r: r.think, True),
    "think": ({"think": "max"}, lambda r: r.think, "max"),
    "json": ({"response_format": {"type": "json_object"}}, lambda r: r.format, Format()),
    "text format": ({"response_format": {"type": "text"}}, lambda r: r.format, None),
    "named tool": (
        {"tool_choice": {"type": "function", "function": {"name": "f"}}}, lambda r: r.tool_choice, {"name": "f"},
    ),
    "any is required": ({"tool_choice": "any"}, lambda r: r.tool_choice, "required"),
    "a hosted tool is a loss": (
        {"tools": [{"type": "web_search"}]}, lambda r: (r.tools, r.losses), ([], ["tools[0] (web_search)"]),
    ),
    "usage asked": ({"stream": True, "stream_options": {"include_usage": True}}, lambda r: r.include_usage, True),
    "usage not asked": ({"stream": True}, lambda r: r.include_usage, False),
    "n": ({"n": 2}, lambda r: r.n, 2),
    "privacy and task": ({"privacy_mode": "strict", "task": "chat"}, lambda r: (r.privacy, r.task, r.vendor), ("strict", "chat", {})),
    "unknown members": ({"verbosity": "low"}, lambda r: r.vendor, {"openai": {"verbosity": "low"}}),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "look", "seen"), DECODED.values(), ids=DECODED)
def test_decode_chat(fields: dict[str, Any], look: Any, seen: Any) -> None:
    assert look(decode(**fields)) == seen


def test_decode_messages() -> None:
    assert message_of(role="assistant", content="4", reasoning_content="hm").blocks == [Thinking("hm"), Text("4")]
    assert message_of(role="assistant", reasoning="hm").blocks == [Thinking("hm")]
    assert message_of(role="assistant", content=[{"type": "refusal", "refusal": "no"}]).blocks == [Text("no")]
    assert message_of(role="assistant", refusal="no").blocks == [Text("no")]
    assert message_of(role="user", content=[{"type": "image_url", "image_url": "https://x"}]).blocks == [
        Media(url="https://x")
    ]
    bare = f"data:image/png;base64,{PNG}"
    assert message_of(role="user", content=[{"type": "image_url", "image_url": bare}]).blocks == [
        Media(mime="image/png", data=PNG)
    ]
    assert message_of(role="tool", content=[{"type": "text", "text": "5"}], tool_call_id="c").blocks == [
        ToolResult([Text("5")], "c")
    ]
    assert message_of(role="tool", content="5", name="f").blocks == [ToolResult([Text("5")], None, "f")]
    assert message_of(role="function", content="5", name="f").blocks == [ToolResult([Text("5")], None, "f")]
    former = message_of(role="assistant", function_call={"name": "f", "arguments": "{}"})
    assert former.blocks == [ToolCall("f", "{}")]
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    assert message_of(role="assistant", tool_calls=[call]).blocks == [ToolCall("f", '{"a":1}', "c")]


def test_decode_completion() -> None:
    request = decode(GENERATE, prompt=["Once"], suffix="end", max_tokens=3, logprobs=2, echo=True, stop="x")
    assert (request.messages, request.suffix) == ([Message("user", [Text("Once")])], "end")
    assert (request.logprobs, request.top_logprobs, request.losses) == (True, 2, ["echo"])
    assert request.sampling == Sampling(max_tokens=3, stop=["x"])


def test_decode_embedding() -> None:
    request = decode(EMBED, input=["a", "b"], dimensions=4, encoding_format="base64", user="u", privacy_mode="flexible")
    assert request == EmbedRequest(
        "m", ["a", "b"], dimensions=4, encoding="base64", privacy="flexible", vendor={"openai": {"user": "u"}}
    )


REFUSED: dict[str, tuple[str, bytes, str, str | None]] = {
    "no body": (CHAT, b"", "the request has no body", None),
    "broken": (CHAT, b'{"model":', "unexpected EOF", None),
    "not an object": (CHAT, b"[]", "Invalid type for 'body': expected an object, but got an array instead.", "body"),
    "no model": (CHAT, b'{"messages":[]}', "model is required", "model"),
    "empty model": (EMBED, b'{"model":""}', "model is required", "model"),
    "model a number": (CHAT, b'{"model":1}', "Invalid type for 'model': expected a string, but got an integer instead.", "model"),
    "no messages": (CHAT, b'{"model":"m"}', "Missing required parameter: 'messages'.", "messages"),
    "empty messages": (CHAT, b'{"model":"m","messages":[]}', "[] is too short - 'messages'", "messages"),
    "message a text": (
        CHAT, b'{"model":"m","messages":["x"]}',
        "Invalid type for 'messages[0]': expected an object, but got a string instead.", "messages[0]",
    ),
    "no role": (CHAT, b'{"model":"m","messages":[{"content":"x"}]}', "Missing required parameter: 'messages[0].role'.", "messages[0].role"),
    "content a number": (
        CHAT, b'{"model":"m","messages":[{"role":"user","content":5}]}',
        "Invalid type for 'messages[0].content': expected a string or an array of objects, but got an integer instead.",
        "messages[0].content",
    ),
    "picture on disk": (
        CHAT, b'{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///x"}}]}]}',
        "an image must be an http(s) address or a data URL with base64 data", "messages[0].content[0].image_url.url",
    ),
    "call without name": (
        CHAT, b'{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{}}]}]}',
        "Missing required parameter: 'messages[0].tool_calls[0].function.name'.",
        "messages[0].tool_calls[0].function.name",
    ),
    "too many alternatives": (
        CHAT, b'{"model":"m","messages":[{"role":"user","content":"x"}],"top_logprobs":30}',
        "top_logprobs must be between 0 and 20", "top_logprobs",
    ),
    "privacy": (
        CHAT, b'{"model":"m","privacy_mode":"secret","messages":[]}',
        "Invalid value for 'privacy_mode': 'secret'. Supported: 'strict' and 'flexible'.", "privacy_mode",
    ),
    "two prompts": (GENERATE, b'{"model":"m","prompt":["a","b"]}', "only one prompt at a time is supported", "prompt"),
    "token prompt": (GENERATE, b'{"model":"m","prompt":[1,2]}', "token ids are not supported as a prompt, send text", "prompt"),
    "token lists": (GENERATE, b'{"model":"m","prompt":[[1,2]]}', "token ids are not supported as a prompt, send text", "prompt"),
    "no prompt": (GENERATE, b'{"model":"m"}', "Missing required parameter: 'prompt'.", "prompt"),
    "token input": (EMBED, b'{"model":"m","input":[1]}', "token ids are not supported as input, send text", "input"),
    "empty input": (EMBED, b'{"model":"m","input":[]}', "[] is too short - 'input'", "input"),
    "encoding": (
        EMBED, b'{"model":"m","input":"a","encoding_format":"hex"}',
        "Invalid value for 'encoding_format': 'hex'. Supported: 'float' and 'base64'.", "encoding_format",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "words", "param"), REFUSED.values(), ids=REFUSED)
def test_decode_refuses(kind: str, body: bytes, words: str, param: str | None) -> None:
    with pytest.raises(GatewayError) as refused:
        DIALECT.decode(kind, body)
    error = refused.value
    assert (error.status, error.scope, error.message, error.param) == (400, Scope.CALLER, words, param)
    if words == "model is required":
        assert error.code == MODEL_REQUIRED


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
CHAT_MEMBERS = (
    "model messages stream stream_options max_tokens max_completion_tokens temperature top_p top_k min_p n stop seed "
    "presence_penalty frequency_penalty repeat_penalty repetition_penalty logit_bias logprobs top_logprobs response_format "
    "tools tool_choice parallel_tool_calls reasoning_effort reasoning thinking think options user privacy_mode task"
).split()
MESSAGE_MEMBERS = "role content tool_calls tool_call_id name reasoning reasoning_content refusal function_call".split()
PART_MEMBERS = "type text image_url input_audio refusal".split()


def survives(kind: str, body: Any) -> None:
    """Either values that can be encoded again, or a 400: never anything else."""
    try:
        request = DIALECT.decode(kind, json.dumps(body).encode())
    except GatewayError as error:
        assert error.status == 400 and error.scope is Scope.CALLER
        assert DIALECT.write_error(kind, error, False).status == 400
        return
    json.dumps(DIALECT.encode(request, "up", Profile())[1])
    DIALECT.relay(json.dumps(body).encode(), "up", request)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(CHAT_MEMBERS), value=JUNK)
def test_junk_in_a_chat(name: str, value: Any) -> None:
    survives(CHAT, {"model": "m", "messages": [{"role": "user", "content": "x"}], name: value})


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(MESSAGE_MEMBERS), value=JUNK, role=st.sampled_from(["user", "assistant", "tool"]))
def test_junk_in_a_message(name: str, value: Any, role: str) -> None:
    survives(CHAT, {"model": "m", "messages": [{"role": role, "content": "x", name: value}]})


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(PART_MEMBERS), value=JUNK, kind=st.sampled_from(["text", "image_url", "input_audio", "x"]))
def test_junk_in_a_part(name: str, value: Any, kind: str) -> None:
    survives(CHAT, {"model": "m", "messages": [{"role": "user", "content": [{"type": kind, name: value}]}]})


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(["tools", "tool_calls", "response_format", "tool_choice"]),
    inner=st.sampled_from(["type", "function", "json_schema", "custom", "id"]),
    value=JUNK,
)
def test_junk_in_tools_and_formats(name: str, inner: str, value: Any) -> None:
    thing = {"type": "json_schema" if name == "response_format" else "function", inner: value}
    messages: list[Any] = [{"role": "user", "content": "x"}]
    if name == "tool_calls":
        survives(CHAT, {"model": "m", "messages": [{"role": "assistant", "tool_calls": [thing]}]})
    else:
        survives(CHAT, {"model": "m", "messages": messages, name: [thing] if name == "tools" else thing})


@settings(max_examples=100, deadline=None)
@given(kind=st.sampled_from([GENERATE, EMBED]), value=JUNK, data=st.data())
def test_junk_in_the_other_bodies(kind: str, value: Any, data: st.DataObject) -> None:
    names = (
        ("prompt", "suffix", "logprobs", "echo")
        if kind == GENERATE
        else ("input", "dimensions", "encoding_format", "user")
    )
    name = data.draw(st.sampled_from(names))
    survives(kind, {"model": "m", "prompt": "x", "input": "x", name: value})


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=40) | JUNK.map(lambda value: json.dumps(value).encode()))
def test_junk_bodies(body: bytes) -> None:
    for kind in (CHAT, GENERATE, EMBED):
        try:
            DIALECT.decode(kind, body)
        except GatewayError as error:
            assert error.status == 400


def test_check() -> None:
    able = ModelView("m:latest", frozenset({"completion", "tools"}))
    DIALECT.check(CHAT, ask(tools=[WEATHER], think="high"), able)
    with pytest.raises(GatewayError, match='"m" does not support chat') as refused:
        DIALECT.check(CHAT, ask(), ModelView("m:latest", frozenset({"embedding"})))
    assert refused.value.code == NO_CHAT
    with pytest.raises(GatewayError, match='"m" does not support embeddings'):
        DIALECT.check(EMBED, EmbedRequest("m", ["a"]), able)
    with pytest.raises(GatewayError, match='"m" does not support insert'):
        DIALECT.check(GENERATE, ask(suffix="x"), able)
    deaf = frozenset({"completion"})
    with pytest.raises(GatewayError, match='"m" does not support tools') as refused:
        DIALECT.check(CHAT, ask(tools=[WEATHER]), ModelView("m:latest", deaf))
    assert refused.value.code == NO_TOOLS
    lenient = ask(tools=[WEATHER])
    DIALECT.check(CHAT, lenient, ModelView("m:latest", deaf, drop_tools=True))
    assert (lenient.tools, lenient.losses) == ([], ["tools"])


# -- reading streams ---------------------------------------------------------------------------------------------------
def call_piece(index: int | None = 0, **fields: Any) -> dict[str, Any]:
    """A delta with one piece of a call; name and arguments go into `function`."""
    function = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
    piece = {**({} if index is None else {"index": index}), **fields, "function": function}
    return {"tool_calls": [piece]}


USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
STREAMS: dict[str, tuple[bytes, dict[str, Any], Reply]] = {
    # id: stream, profile, what it folds to (id, model and time left out)
    "text": (text("Hel", "lo"), {}, Reply([Text("Hello")])),
    "role first": (frames(chunk({"role": "assistant", "content": ""}), chunk({"content": "a"}), chunk(finish="stop")), {}, Reply([Text("a")])),
    "empty answer": (text(""), {}, Reply([])),
    "refusal": (frames(chunk({"content": None, "refusal": "No"}), chunk({"refusal": "."}), chunk(finish="stop")), {}, Reply([Text("No.")])),
    "reasoning_content": (
        frames(chunk({"reasoning_content": "h"}), chunk({"reasoning_content": "m"}), chunk({"content": "4"}), chunk(finish="stop")),
        {}, Reply([Thinking("hm"), Text("4")]),
    ),
    "reasoning": (frames(chunk({"reasoning": "hm", "content": ""}), chunk({"content": "4"}), chunk(finish="stop")), {}, Reply([Thinking("hm"), Text("4")])),
    "thinking": (frames(chunk({"thinking": "hm"}), chunk({"content": "4"}), chunk(finish="stop")), {}, Reply([Thinking("hm"), Text("4")])),
    "details beside reasoning count once": (
        frames(chunk({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}), chunk(finish="stop")),
        {}, Reply([Thinking("hm")]),
    ),
    "details alone": (
        frames(chunk({"content": "", "reasoning_details": [{"text": "h"}, {"summary": "m"}, {"data": "x"}]}), chunk({"content": "4"}), chunk(finish="stop")),
        {}, Reply([Thinking("hm"), Text("4")]),
    ),
    "thought and text in one chunk": (frames(chunk({"reasoning": "hm", "content": "4"}), chunk(finish="stop")), {}, Reply([Thinking("hm"), Text("4")])),
    "Mistral's parts": (
        frames(
            chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]}]}),
            chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "."}]}, {"type": "text", "text": "1"}]}),
            chunk({"content": "44"}, "stop"),
        ),
        {}, Reply([Thinking("hm."), Text("144")]),
    ),
    "tags": (text("<thi", "nk>\n hm", " </th", "ink>\n\n4"), {}, Reply([Thinking("hm "), Text("4")])),
    "tags later are text": (text("a <think>b", "</think>"), {}, Reply([Text("a <think>b</think>")])),
    "tags anywhere": (text("a <think>b", "</think>c"), {"think_tags": True}, Reply([Text("a "), Thinking("b"), Text("c")])),
    "half a tag": (text("<thin"), {}, Reply([Text("<thin")])),
    "tag never closed": (text("<think>hm"), {}, Reply([Thinking("hm")])),
    "a field for thoughts, then a tag": (
        frames(chunk({"reasoning": "hm"}), chunk({"content": "<think>"}), chunk(finish="stop")),
        {}, Reply([Thinking("hm"), Text("<think>")]),
    ),
    "call in pieces": (
        frames(
            chunk(call_piece(id="c1", name="f", arguments="")), chunk(call_piece(arguments='{"a"')),
            chunk(call_piece(arguments=":1}")), chunk(finish="tool_calls"),
        ),
        {}, Reply([ToolCall("f", '{"a":1}', "c1")], "tool_calls"),
    ),
    "parallel calls side by side": (
        frames(
            chunk(call_piece(0, id="c1", name="f", arguments="{")), chunk(call_piece(1, id="c2", name="g", arguments="[")),
            chunk(call_piece(0, arguments="}")), chunk(call_piece(1, arguments="]")), chunk(finish="tool_calls"),
        ),
        {}, Reply([ToolCall("f", "{}", "c1"), ToolCall("g", "[]", "c2")], "tool_calls"),
    ),
    "same index, new id": (
        frames(chunk(call_piece(id="c1", name="f", arguments="{}")), chunk(call_piece(id="c2", name="g", arguments="{}")), chunk(finish="stop")),
        {}, Reply([ToolCall("f", "{}", "c1"), ToolCall("g", "{}", "c2")], "tool_calls"),
    ),
    "same id repeated": (
        frames(chunk(call_piece(id="c1", name="f", arguments="{")), chunk(call_piece(id="c1", name="f", arguments="}")), chunk(finish="tool_calls")),
        {}, Reply([ToolCall("f", "{}", "c1")], "tool_calls"),
    ),
    "no index": (
        frames(
            chunk(call_piece(None, id="c1", name="f", arguments="{")), chunk(call_piece(None, arguments="}")),
            chunk(call_piece(None, id="c2", name="g", arguments="{}")), chunk(call_piece(None, name="h")), chunk(finish="tool_calls"),
        ),
        {}, Reply([ToolCall("f", "{}", "c1"), ToolCall("g", "{}", "c2"), ToolCall("h", "{}")], "tool_calls"),
    ),
    "no arguments": (frames(chunk(call_piece(id="c1", name="f")), chunk(finish="tool_calls")), {}, Reply([ToolCall("f", "{}", "c1")], "tool_calls")),
    "null arguments": (frames(chunk(call_piece(id="c1", name="f", arguments=None)), chunk(finish="tool_calls")), {}, Reply([ToolCall("f", "{}", "c1")], "tool_calls")),
    "object arguments": (frames(chunk(call_piece(id="c1", name="f", arguments={"a": 1})), chunk(finish="tool_calls")), {}, Reply([ToolCall("f", '{"a":1}', "c1")], "tool_calls")),
    "name after the arguments": (
        frames(chunk(call_piece(id="c1", arguments='{"a":')), chunk(call_piece(name="f", arguments="1}")), chunk(finish="tool_calls")),
        {}, Reply([ToolCall("f", '{"a":1}', "c1")], "tool_calls"),
    ),
    "never named": (frames(chunk(call_piece(id="c1", arguments="{}")), chunk(finish="tool_calls")), {}, Reply([ToolCall("", "{}", "c1")], "tool_calls")),
    "signature on a call": (
        frames(chunk(call_piece(id="c1", name="f", arguments="{}", extra_content={"s": 1})), chunk(finish="tool_calls")),
        {}, Reply([ToolCall("f", "{}", "c1", {"openai": {"extra_content": {"s": 1}}})], "tool_calls"),
    ),
    "function_call": (
        frames(chunk({"function_call": {"name": "f", "arguments": ""}}), chunk({"function_call": {"arguments": "{}"}}), chunk(finish="function_call")),
        {}, Reply([ToolCall("f", "{}")], "tool_calls"),
    ),
    "text, then a call": (
        frames(chunk({"content": "a"}), chunk(call_piece(id="c1", name="f", arguments="{}")), chunk(finish="tool_calls")),
        {}, Reply([Text("a"), ToolCall("f", "{}", "c1")], "tool_calls"),
    ),
    "length": (frames(chunk({"content": "a"}), chunk(finish="length")), {}, Reply([Text("a")], "length")),
    "filter": (frames(chunk({"content": "a"}), chunk(finish="content_filter")), {}, Reply([Text("a")], "content_filter")),
    "an unknown reason": (frames(chunk({"content": "a"}), chunk(finish="eos")), {}, Reply([Text("a")], "stop")),
    "reason twice": (frames(chunk({"content": "a"}, "length"), chunk({"content": ""}, "stop")), {}, Reply([Text("a")], "length")),
    "empty reason is none": (
        frames(*({**chunk({"content": c}), "choices": [{"index": 0, "delta": {"content": c}, "finish_reason": ""}]} for c in "ab"), chunk(finish="length")),
        {}, Reply([Text("ab")], "length"),
    ),
    "no reason, but done": (frames(chunk({"content": "a"})), {}, Reply([Text("a")], "stop")),
    "done missing": (frames(chunk({"content": "a"}), chunk(finish="stop"), done=False), {}, Reply([Text("a")])),
    "second answer is not ours": (
        frames(chunk({"content": "a"}), {**chunk(), "choices": [{"index": 1, "delta": {"content": "X"}, "finish_reason": "length"}]}, chunk(finish="stop")),
        {}, Reply([Text("a")]),
    ),
    "usage in its own chunk": (
        frames(chunk({"content": "a"}), chunk(finish="stop"), {**chunk(usage=USAGE), "choices": []}),
        {}, Reply([Text("a")], usage=Usage(9, 4)),
    ),
    "usage with details": (
        text("a", usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 8}, "completion_tokens_details": {"reasoning_tokens": 3}}),
        {}, Reply([Text("a")], usage=Usage(9, 4, 8, 3)),
    ),
    "usage in every chunk": (
        frames(chunk({"content": "a"}, usage={"prompt_tokens": 9, "completion_tokens": 1}), chunk({"content": "b"}, usage=USAGE), chunk(finish="stop")),
        {}, Reply([Text("ab")], usage=Usage(9, 4)),
    ),
    "xAI counts reasoning apart": (
        text("a", usage={"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 7}}),
        {}, Reply([Text("a")], usage=Usage(9, 11, None, 7)),
    ),
    "Groq": (
        text("a", x_groq={"usage": {**USAGE, "prompt_time": 0.5, "completion_time": 0.25, "queue_time": 9}}),
        {}, Reply([Text("a")], usage=Usage(9, 4, prompt_ns=500_000_000, completion_ns=250_000_000)),
    ),
    "llama.cpp": (
        text("a", timings={"prompt_n": 7, "cache_n": 2, "prompt_ms": 1.5, "predicted_n": 4, "predicted_ms": 2}),
        {}, Reply([Text("a")], usage=Usage(9, 4, 2, prompt_ns=1_500_000, completion_ns=2_000_000)),
    ),
    "counts of junk": (text("a", usage={"prompt_tokens": "x", "completion_tokens": -1, "total_tokens": True}), {}, Reply([Text("a")])),
    "comments": (b": PROCESSING\n\n" + text("a") + b": bye\n\n", {}, Reply([Text("a")])),
    "line ends": (text("a").replace(b"\n", b"\r\n"), {}, Reply([Text("a")])),
    "no blank after data": (text("a", "b").replace(b"data: ", b"data:"), {}, Reply([Text("ab")])),
    "no last blank line": (frames(chunk({"content": "a"}), chunk(finish="stop"), done=False).rstrip(), {}, Reply([Text("a")])),
    "byte order mark": (b"\xef\xbb\xbf" + text("a"), {}, Reply([Text("a")])),
    "blank lines first": (b"\n" * 200 + text("a"), {}, Reply([Text("a")])),
    "emoji and U+0085": (text("\U0001f600", "\u0085\u2028é"), {}, Reply([Text("\U0001f600\u0085\u2028é")])),
    "a chunk without choices": (frames({"object": "ping"}, {**chunk(), "choices": [], "prompt_filter_results": []}, chunk({"content": "a"}), chunk(finish="stop")), {}, Reply([Text("a")])),
    "garbage after the reason": (frames(chunk({"content": "a"}), chunk(finish="stop"), done=False) + b"data: bye\n\n", {}, Reply([Text("a")])),
    "events after done": (text("a") + text("b"), {}, Reply([Text("a")])),
    "whole reply instead": (
        json.dumps({"id": "chatcmpl-1", "created": 1, "model": "up", "choices": [{"message": {"content": "<think>hm</think>a"}, "finish_reason": "stop"}], "usage": USAGE}, indent=1).encode(),
        {}, Reply([Thinking("hm"), Text("a")], usage=Usage(9, 4)),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("stream", "profile", "wanted"), STREAMS.values(), ids=STREAMS)
def test_read_stream(stream: bytes, profile: dict[str, Any], wanted: Reply) -> None:
    events = read(stream, **profile)
    wanted.id, wanted.model, wanted.created = "chatcmpl-1", "up", 1
    assert fold(events) == wanted
    assert [type(event) for event in events].count(Finish) == 1
    assert isinstance(events[-1], Finish)
    assert isinstance(events[0], Start)


@pytest.mark.parametrize(("stream", "profile", "wanted"), STREAMS.values(), ids=STREAMS)
def test_read_stream_cut_anywhere_into_reads(stream: bytes, profile: dict[str, Any], wanted: Reply) -> None:
    whole = [event for event in read(stream, **profile)]
    for parts in cuts(stream):
        assert read(stream, parts, **profile) == whole


def test_read_stream_byte_by_byte() -> None:
    for stream, profile, _ in STREAMS.values():
        single = [stream[at : at + 1] for at in range(len(stream))]
        assert read(stream, single, **profile) == read(stream, **profile)


def test_plain_pieces_are_events_of_their_own() -> None:
    assert [event.text for event in read(text("a", "b", "c")) if isinstance(event, Delta)] == ["a", "b", "c"]


def test_the_first_read_commits_at_the_first_piece() -> None:
    reader = DIALECT.reader(CHAT, Profile())
    events = reader.feed(frames(chunk({"content": "a"}), done=False))
    assert Delta(0, "text", "a") in events
    assert reader.feed(frames(chunk(call_piece(id="c", name="f")), done=False))[-1] == BlockStart(
        1, "tool_call", "c", "f"
    )


LOGPROB = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1, "bytes": [98]}]}


def test_read_logprobs() -> None:
    def with_logprobs(piece: str, items: list[Any]) -> dict[str, Any]:
        choice = {"index": 0, "delta": {"content": piece}, "logprobs": {"content": items}, "finish_reason": None}
        return {**chunk(), "choices": [choice]}

    events = read(
        frames(
            with_logprobs("a", [LOGPROB]), with_logprobs("", [LOGPROB]), with_logprobs("b", []), chunk(finish="stop")
        )
    )
    assert [event for event in events if isinstance(event, Delta)] == [
        Delta(0, "text", "a", [LOGPROB]),
        Delta(0, "text", "", [LOGPROB]),
        Delta(0, "text", "b"),
    ]


FAILURES: dict[str, tuple[bytes, int, Scope, str]] = {
    "error object": (frames(chunk({"content": "a"}), {"error": {"message": "boom", "type": "server_error", "code": None}}), 502, Scope.PROVIDER, "boom"),
    "error text": (frames({"error": "boom"}), 502, Scope.PROVIDER, "boom"),
    "error with a status": (frames({"error": {"message": "slow down", "code": 429}}), 429, Scope.THROTTLE, "slow down"),
    "overloaded": (frames({"error": {"message": "busy", "code": 529}}), 503, Scope.THROTTLE, "busy"),
    "no credit": (frames({"error": {"message": "pay", "code": 402}}), 502, Scope.KEY, "pay"),
    "the caller's fault": (frames({"error": {"message": "too long", "status_code": 400}}), 400, Scope.CALLER, "too long"),
    "error beside choices": (frames(chunk({"content": "a"}, error={"message": "boom", "code": 500})), 502, Scope.PROVIDER, "boom"),
    "error after a reason": (frames(chunk({"content": "a"}, "length"), {"error": {"message": "boom"}}), 502, Scope.PROVIDER, "boom"),
    "event named error": (frames(chunk({"content": "a"}), done=False) + b'event: error\ndata: {"message":"boom"}\n\n', 502, Scope.PROVIDER, "boom"),
    "event named error, text": (b"event: error\ndata: boom\n\n", 502, Scope.PROVIDER, "boom"),
    "finish reason error": (frames(chunk({"content": "a"}, "error")), 502, Scope.PROVIDER, "the provider reported an error without any words"),
    "garbage frame": (frames(chunk({"content": "a"}), done=False) + b'data: {"choices":[{"del\n\n', 502, Scope.PROVIDER, "the provider sent a frame that is not JSON"),
    "a list for a frame": (b"data: [1]\n\n", 502, Scope.PROVIDER, "the provider sent a frame that is not JSON"),
    "cut": (frames(chunk({"content": "a"}), done=False), 502, Scope.PROVIDER, "the provider broke off in the middle of its answer"),
    "nothing": (b"", 502, Scope.PROVIDER, "the provider sent no answer"),
    "white space": (b"\n\n", 502, Scope.PROVIDER, "the provider sent no answer"),
    "comments only": (b": ping\n\n", 502, Scope.PROVIDER, "the provider sent no answer"),
    "done at once": (b"data: [DONE]\n\n", 502, Scope.PROVIDER, "the provider sent an empty answer"),
    "a page": (b"<html><body>Bad Gateway</body></html>", 502, Scope.PROVIDER, "the provider sent no answer"),
    "whole error instead": (b'{"error":{"message":"boom","code":"x"}}', 502, Scope.PROVIDER, "boom"),
    "whole nonsense instead": (b'{"hello":1}', 502, Scope.PROVIDER, "the provider sent a reply without an answer"),
    "half an object instead": (b'{"hello":', 502, Scope.PROVIDER, "the provider sent a reply that is not JSON"),
}  # fmt: skip


@pytest.mark.parametrize(("stream", "status", "scope", "words"), FAILURES.values(), ids=FAILURES)
def test_read_failure(stream: bytes, status: int, scope: Scope, words: str) -> None:
    events = read(stream)
    error = failure(events)
    assert (error.status, error.scope, error.message, error.provider) == (status, scope, words, None)
    assert not any(isinstance(event, Finish) for event in events)
    for parts in cuts(stream):
        assert failure(read(stream, parts)).message == words


def test_read_a_frame_without_end() -> None:
    reader = DIALECT.reader(CHAT, Profile())
    reader.feed(b"data: ")
    events: list[Event] = []
    for _ in range(40):
        events += reader.feed(b"x" * 1024 * 1024)
    assert "more than" in failure(events).message


@settings(deadline=None)
@given(pieces=st.lists(st.text(max_size=6), max_size=6), parts=st.integers(1, 7), tags=st.booleans())
def test_any_text_arrives(pieces: list[str], parts: int, tags: bool) -> None:
    stream = text(*pieces)
    fed = [stream[at : at + parts] for at in range(0, len(stream), parts)]
    reply = fold(read(stream, fed, think_tags=tags))
    assert shown(reply) == "".join(pieces)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<", "th", "ink>", " ", "\n", "a", "</"]), max_size=10),
    st.booleans(),
    st.integers(1, 5),
)
def test_tags_do_not_depend_on_the_cut(words: list[str], everywhere: bool, size: int) -> None:
    whole = "".join(words)
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    in_pieces = fold(read(text(*pieces), think_tags=everywhere))
    assert in_pieces.blocks == fold(read(text(whole), think_tags=everywhere)).blocks
    wanted: dict[str, str] = {"thinking": "", "text": ""}
    for kind, piece in split(whole, everywhere):
        wanted[kind] += piece
    assert (thought(in_pieces), shown(in_pieces)) == (wanted["thinking"], wanted["text"])


@settings(max_examples=300, deadline=None)
@given(
    delta=st.dictionaries(
        st.sampled_from(["content", "tool_calls", "reasoning", "reasoning_details", "refusal", "function_call"]), JUNK
    ),
    choice=JUNK,
    usage=JUNK,
)
def test_junk_frames_never_raise(delta: dict[str, Any], choice: Any, usage: Any) -> None:
    for junk in (chunk(delta, usage=usage), {**chunk(), "choices": choice}, {**chunk(), "choices": [choice]}):
        events = read(frames(chunk({"content": "a"}), junk, chunk(finish="stop")))
        assert isinstance(events[-1], Finish | Failed)
        tap = DIALECT.tap(CHAT, ask())
        tap.feed(frames(chunk({"content": "a"}), junk))


# -- whole replies -----------------------------------------------------------------------------------------------------
def whole_reply(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> bytes:
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "created": 1,
            "model": "up",
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            **more,
        }
    ).encode()


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
REPLIES: dict[str, tuple[bytes, Reply]] = {
    "text": (whole_reply({"content": "Hi"}, usage=USAGE), Reply([Text("Hi")], usage=Usage(9, 4))),
    "thought": (whole_reply({"content": "4", "reasoning": "hm"}), Reply([Thinking("hm"), Text("4")])),
    "tags": (whole_reply({"content": "<think>hm</think>\n4"}), Reply([Thinking("hm"), Text("4")])),
    "calls": (whole_reply({"content": None, "tool_calls": [CALL]}, "stop"), Reply([ToolCall("f", "{}", "c1")], "tool_calls")),
    "refusal": (whole_reply({"content": None, "refusal": "No."}), Reply([Text("No.")])),
    "parts": (whole_reply({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "4"}]}), Reply([Thinking("hm"), Text("4")])),
    "former call": (whole_reply({"function_call": {"name": "f", "arguments": "{}"}}, "function_call"), Reply([ToolCall("f", "{}")], "tool_calls")),
    "text completion": (json.dumps({"id": "chatcmpl-1", "created": 1, "model": "up", "choices": [{"text": "Hi", "finish_reason": "length"}]}).encode(), Reply([Text("Hi")], "length")),
    "empty": (whole_reply({"content": ""}), Reply([])),
}  # fmt: skip


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


def json_frames(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(frame[6:]) for frame in stream.split(b"\n\n") if frame.startswith(b"data: {")]


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


# -- relay -------------------------------------------------------------------------------------------------------------
def test_relay_changes_only_what_it_may() -> None:
    body = b'{"model":"fast", "messages": [ {"role":"user","content":"\\u00e9  "} ],"privacy_mode":"strict","task":"chat","x":1.50}'
    out = DIALECT.relay(body, "up", ask())
    assert out == b'{"model":"up","messages":[ {"role":"user","content":"\\u00e9  "} ],"x":1.50}'


def test_relay_asks_for_usage() -> None:
    body = b'{"model":"fast","stream":true,"stream_options":{"include_obfuscation":false}}'
    out = DIALECT.relay(body, "up", ask(stream=True))
    assert json.loads(out or b"") == {
        "model": "up",
        "stream": True,
        "stream_options": {"include_obfuscation": False, "include_usage": True},
    }


@pytest.mark.parametrize(
    "body", [b'{"model":"m"} x', b"[]", b'{"model":"m","options":{}}', b'{"model":"m","keep_alive":5}']
)
def test_what_cannot_be_relayed(body: bytes) -> None:
    assert DIALECT.relay(body, "up", ask()) is None


def test_relay_reply_keeps_every_other_byte() -> None:
    body = b'{\n  "id": "x", "choices": [{"message": {"content": "my \\"model\\": \\"up\\""}}],\n  "model" : "up",\n "usage":{"prompt_tokens":9,"completion_tokens":4}, "z": 1.0\n}'
    out, usage = DIALECT.relay_reply(CHAT, body, ask())
    assert out == body.replace(b'"model" : "up"', b'"model" : "m"')
    assert usage == Usage(9, 4)


def test_relay_reply_raises_the_error_inside() -> None:
    with pytest.raises(GatewayError, match="boom"):
        DIALECT.relay_reply(CHAT, b'{"error":{"message":"boom","code":500}}', ask())
    with pytest.raises(GatewayError, match="not a JSON object"):
        DIALECT.relay_reply(CHAT, b"<html>", ask())


RELAYED = frames(
    chunk({"role": "assistant", "content": ""}),
    *(
        chunk({"content": piece}, system_fingerprint=None)
        for piece in ("He", "l", 'lo "model":"up" data: {', "\u0085é")
    ),
    chunk(call_piece(id="c", name="f", arguments='{"model":"up","usage":1,"error":2}')),
    chunk(finish="tool_calls"),
    {**chunk(usage=USAGE), "choices": []},
)
RENAMED = RELAYED.replace(b'"created":1,"model":"up"', b'"created":1,"model":"my/\xc3\xa9"')


def relayed(tap: Any, parts: Iterable[bytes]) -> bytes:
    return b"".join(tap.feed(part) for part in parts) + tap.end()


@pytest.mark.parametrize("asked", [True, False], ids=["usage asked", "usage not asked"])
@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_tap_is_byte_exact_wherever_the_reads_end(asked: bool, ends: bytes) -> None:
    wanted = RENAMED if asked else b"\n\n".join(RENAMED.split(b"\n\n")[:-3]) + b"\n\ndata: [DONE]\n\n"
    stream, wanted = RELAYED.replace(b"\n", ends), wanted.replace(b"\n", ends)
    request = ChatRequest(model="my/é", stream=True, include_usage=asked)
    for parts in (*cuts(stream), [stream[at : at + 1] for at in range(len(stream))], [stream]):
        tap = DIALECT.tap(CHAT, request)
        assert relayed(tap, parts) == wanted
        assert (tap.finished, tap.content, tap.error, tap.usage) == (True, True, None, Usage(9, 4))


def test_tap_holds_half_a_frame_back() -> None:
    tap = DIALECT.tap(CHAT, ask(stream=True))
    stream = frames(chunk({"content": "a"}), chunk({"content": "b"}), done=False)
    assert tap.feed(stream[:-5]) == stream.split(b"\n\n")[0].replace(b'"up"', b'"m"') + b"\n\n"
    assert tap.feed(b"") == b""
    assert json_frames(tap.end()) == [] and tap.error is not None
    assert not tap.finished


def test_tap_gives_a_last_frame_its_blank_line() -> None:
    tap = DIALECT.tap(CHAT, ask(stream=True))
    stream = frames(chunk({"content": "a"}), chunk(finish="stop"), done=False)
    assert relayed(tap, [stream.rstrip()]) == stream.replace(b'"up"', b'"m"') + b"data: [DONE]\n\n"
    assert tap.finished


def test_tap_content_begins_with_something_to_show() -> None:
    tap = DIALECT.tap(CHAT, ask(stream=True))
    tap.feed(b": PROCESSING\n\n" + frames(chunk({"role": "assistant", "content": ""}), done=False))
    assert not tap.content
    tap.feed(frames(chunk({"reasoning": "hm"}), done=False))
    assert tap.content


TAP_FAILURES = {
    "error frame": frames({"error": {"message": "boom", "code": 500}}),
    "error event": b'event: error\ndata: {"error":{"message":"boom"}}\n\n',
    "error beside choices": frames(chunk({"content": "x"}, error={"message": "boom"})),
    "reason error": frames(chunk({}, "error")),
    "garbage": b'data: {"choices":[{"index":0,"delta":{"content":"ha\n\n',
    "half a frame that looks whole": frames(chunk({"content": "x"}), done=False)[:-3] + b"\n\n",
}


@pytest.mark.parametrize("bad", TAP_FAILURES.values(), ids=TAP_FAILURES)
def test_tap_tells_a_failure_and_does_not_pass_it_on(bad: bytes) -> None:
    good = frames(chunk({"content": "a"}), chunk({"content": "b"}), done=False)
    for parts in ([good + bad + good], [good, bad, good]):
        tap = DIALECT.tap(CHAT, ask(stream=True))
        assert relayed(tap, parts) == good.replace(b'"up"', b'"m"')
        assert tap.error is not None and not tap.finished


@pytest.mark.parametrize(
    ("body", "words"),
    [(b'{"error":{"message":"boom"}}', "boom"), (whole_reply({"content": "a"}), "a whole reply")],
    ids=["error", "reply"],
)
def test_tap_cannot_relay_a_whole_body(body: bytes, words: str) -> None:
    tap = DIALECT.tap(CHAT, ask(stream=True))
    assert relayed(tap, [body]) == b""
    assert tap.error is not None and words in tap.error.message


# -- errors ------------------------------------------------------------------------------------------------------------
ERRORS: dict[str, tuple[dict[str, str], bytes, tuple[Any, ...]]] = {
    # id: headers, body, (message, type, code, param, retry_after)
    "OpenAI": (
        {}, b'{"error":{"message":"no","type":"invalid_request_error","param":"seed","code":"unsupported_parameter"}}',
        ("no", "invalid_request_error", "unsupported_parameter", "seed", None),
    ),
    "xAI": ({}, b'{"code":"invalid-argument","error":"bad key"}', ("bad key", None, "invalid-argument", None, None)),
    "Hugging Face": ({}, b'{"error":"no such model"}', ("no such model", None, None, None, None)),
    "Mistral": (
        {}, b'{"object":"error","message":"Extra inputs","type":"invalid_request","param":null,"code":3051}',
        ("Extra inputs", "invalid_request", "3051", None, None),
    ),
    "Mistral, nested": (
        {}, b'{"object":"error","message":{"detail":[{"loc":["body","top_k"],"msg":"extra"}]}}',
        ("body.top_k: extra", None, None, None, None),
    ),
    "FastAPI": (
        {}, b'{"detail":[{"loc":["body","n"],"msg":"bad"},{"msg":"worse"}]}', ("body.n: bad; worse", None, None, None, None),
    ),
    "detail": ({}, b'{"detail":"Invalid API Key"}', ("Invalid API Key", None, None, None, None)),
    "list": ({}, b'[{"error":{"code":429,"message":"slow","status":"X"}}]', ("slow", None, "429", None, None)),
    "OpenRouter": (
        {}, b'{"error":{"code":429,"message":"Provider returned error","metadata":{"raw":"busy"}}}',
        ("Provider returned error: busy", None, "429", None, None),
    ),
    "OpenRouter, page behind": (
        {}, b'{"error":{"message":"Provider returned error","metadata":{"raw":"<html>"}}}',
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
        {"retry-after": "Sat, 21 Nov 2026 07:00:30 GMT", "date": "Sat, 21 Nov 2026 07:00:00 GMT"}, b"{}",
        ("", None, None, None, 30.0),
    ),
    "date alone": ({"retry-after": "Sat, 21 Nov 2026 07:00:30 GMT"}, b"{}", ("", None, None, None, None)),
    "nonsense": ({"retry-after": "soon", "retry-after-ms": "nan"}, b"{}", ("", None, None, None, None)),
}  # fmt: skip


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
        (400, "invalid_request_error"), (401, "authentication_error"), (403, "permission_error"), (404, "not_found_error"),
        (413, "invalid_request_error"), (422, "invalid_request_error"), (429, "rate_limit_error"), (500, "api_error"),
        (502, "api_error"), (503, "api_error"), (504, "timeout_error"),
    ],
)  # fmt: skip
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
    "openrouter/stream-tool": ("tool_calls", [("weather", {"latitude": "52.5200", "longitude": "13.4050"})], (633, 75, 0, 0)),
    "openrouter/stream-tool-no-arguments-key": ("tool_calls", [("llm_version", {})], (56, 12, 0, 0)),
    "deepseek/stream-reasoning-tool": ("tool_calls", [("get_date", {})], (297, 35, 0, 7)),
    "deepseek/stream-tool": ("tool_calls", [("weather", {"latitude": "52.5200", "longitude": "13.4050"})], (348, 65, 0, None)),
    "mistral/stream-thinking": ("stop", [], (31, 66, 0, None)),
    "mistral/stream-tool": ("tool_calls", [("get_weather", {"location": "New York City"})], (72, 14, 0, None)),
    "xai/chat-stream-reasoning-tool": ("tool_calls", [("weather", {"location": "San Francisco"})], (307, 253, 306, 227)),
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
}  # fmt: skip

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
    **{f"{service}/models": "a list of models: the provider's work" for service in ("openai", "openrouter", "deepseek", "huggingface")},
}  # fmt: skip


def recording(name: str) -> dict[str, Any]:
    path = RECORDED / f"{name}.json"
    if not path.exists():
        pytest.skip(f"no recorded traffic at {RECORDED}")
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
    if not RECORDED.exists():
        pytest.skip(f"no recorded traffic at {RECORDED}")
    found = {f"{path.parent.name}/{path.stem}" for service in SERVICES for path in (RECORDED / service).glob("*.json")}
    tables = (ANSWERED, FAILED_IN_STREAM, REFUSED_ANSWERS, EMBEDDINGS, NOT_OF_THIS_WIRE)
    assert found == {name for table in tables for name in table}
    compared = sum(map(len, tables)) - len(NOT_OF_THIS_WIRE)
    print(f"{compared} recordings compared, {len(NOT_OF_THIS_WIRE)} of another wire")
    assert compared >= 37
