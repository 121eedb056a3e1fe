"""The OpenAI dialect: what goes out to providers, and what comes in from clients."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_bridge.dialects.base import CHAT, EMBED, GENERATE, ModelView, Profile
from ollama_bridge.dialects.openai import OpenAIDialect
from ollama_bridge.errors import MODEL_REQUIRED, NO_CHAT, NO_TOOLS, GatewayError, Scope
from ollama_bridge.policy.adapt import adapt, adapt_embedding
from ollama_bridge.values import (
    ChatRequest,
    EmbedRequest,
    Format,
    Media,
    Message,
    Opaque,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)

DIALECT = OpenAIDialect()
PNG = "iVBORw0KGgo="


def ask(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=list(messages) or [Message("user", [Text("Hi")])], **fields)


def fitted(request: Any, profile: Profile) -> tuple[Any, list[str]]:
    """-> (the request as the pipeline hands it to the codec, what is lost before)."""
    if isinstance(request, EmbedRequest):
        request, losses, _ = adapt_embedding(request, profile)
    else:
        request, losses, _ = adapt(request, profile)
    return request, [loss.name for loss in losses]


def encoded(request: ChatRequest | EmbedRequest, **profile: Any) -> dict[str, Any]:
    return DIALECT.encode(fitted(request, Profile(**profile))[0], "up", Profile(**profile))[1]


def lost(request: ChatRequest | EmbedRequest, **profile: Any) -> list[str]:
    """Before the codec and by it."""
    request, losses = fitted(request, Profile(**profile))
    return losses + [loss.name for loss in DIALECT.encode(request, "up", Profile(**profile))[2]]


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
    temperature=0.5,
    top_p=0.9,
    top_k=40,
    min_p=0.1,
    seed=7,
    max_tokens=9,
    stop=["a", "b", "c"],
    presence_penalty=0.1,
    frequency_penalty=0.2,
    repeat_penalty=1.1,
    num_ctx=4096,
    extra={"typical_p": 0.7, "num_gpu": 1, "mirostat": 2, "repeat_last_n": 64},
)

PARAMETERS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], list[str]]] = {
    # id: request fields, profile, members of the body, losses
    "nothing set, nothing sent": ({}, {}, {}, []),
    "OpenAI's own": (
        {"sampling": FULL},
        {},
        {
            "temperature": 0.5,
            "top_p": 0.9,
            "presence_penalty": 0.1,
            "frequency_penalty": 0.2,
            "seed": 7,
            "max_tokens": 9,
            "stop": ["a", "b", "c"],
        },
        ["top_k", "min_p", "repeat_penalty", "typical_p", "mirostat", "repeat_last_n"],
    ),
    "an engine's own": (
        {"sampling": FULL},
        {
            "accepts": frozenset({"top_k", "min_p", "repetition_penalty", "typical_p", "repeat_last_n", "mirostat"}),
            "max_tokens_field": "max_completion_tokens",
            "seed_field": "random_seed",
            "max_stops": 2,
        },
        {
            "temperature": 0.5,
            "top_p": 0.9,
            "presence_penalty": 0.1,
            "frequency_penalty": 0.2,
            "random_seed": 7,
            "max_completion_tokens": 9,
            "stop": ["a", "b"],
            "top_k": 40,
            "min_p": 0.1,
            "repetition_penalty": 1.1,
            "typical_p": 0.7,
            "repeat_last_n": 64,
            "mirostat": 2,
        },
        [],  # the gateway finds the third stop string itself
    ),
    "llama.cpp's spelling": (
        {"sampling": Sampling(repeat_penalty=1.2)},
        {"accepts": frozenset({"repeat_penalty"})},
        {"repeat_penalty": 1.2},
        [],
    ),
    "rejected": (
        {"sampling": FULL, "logprobs": True, "top_logprobs": 2},
        {
            "rejects": frozenset({"temperature", "stop", "logprobs", "seed"}),
            "accepts": frozenset({"top_k", "min_p", "repeat_penalty", "typical_p", "repeat_last_n"}),
        },
        {
            "top_p": 0.9,
            "presence_penalty": 0.1,
            "frequency_penalty": 0.2,
            "max_tokens": 9,
            "top_k": 40,
            "min_p": 0.1,
            "repeat_penalty": 1.1,
            "typical_p": 0.7,
            "repeat_last_n": 64,
        },
        ["temperature", "seed", "mirostat", "logprobs"],
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
        {"raw": True, "template": "{{ .Prompt }}", "suffix": "x"},
        {},
        {},
        ["raw", "template", "suffix"],
    ),
    "stream": ({"stream": True}, {}, {"stream": True, "stream_options": {"include_usage": True}}, []),
    "stream, usage unasked": ({"stream": True}, {"stream_usage": False}, {"stream": True}, []),
    "stream, options rejected": (
        {"stream": True},
        {"rejects": frozenset({"stream_options"})},
        {"stream": True},
        [],
    ),
    "vendor and preset members": (
        {"vendor": {"openai": {"user": "u", "logit_bias": {"1": 2}, "model": "no"}}},
        {"rejects": frozenset({"logit_bias"}), "extra_body": {"provider": {"sort": "price"}, "user": "no"}},
        {"user": "u", "provider": {"sort": "price"}},
        ["logit_bias"],
    ),
}


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
    "effort: nearest, the stronger of two": ("medium", {"efforts": EFFORTS}, {"reasoning_effort": "high"}, []),
    "effort: nearest above": ("minimal", {"efforts": EFFORTS}, {"reasoning_effort": "low"}, []),
    "effort: max is the strongest": ("max", {"efforts": ("low", "xhigh")}, {"reasoning_effort": "xhigh"}, []),
    "effort: words of its own": ("high", {"efforts": ("default",)}, {"reasoning_effort": "default"}, ["think"]),
    "effort: on": (True, {}, {"reasoning_effort": "medium"}, []),
    "effort: on anyway": (True, {"reasons_by_default": True}, {}, []),
    "effort: off anyway": (False, {}, {}, []),
    "effort: off": (False, {"reasons_by_default": True}, {"reasoning_effort": "none"}, []),
    "effort: cannot be off": (
        False,
        {"reasons_by_default": True, "think_off": False, "efforts": EFFORTS},
        {"reasoning_effort": "low"},
        ["think"],
    ),
    "effort: learnt that it is refused": ("high", {"rejects": frozenset({"think"})}, {}, ["think"]),
    "unset": (None, {"reasons_by_default": True}, {}, []),
    "openrouter: on": (True, {"reasoning": "openrouter"}, {"reasoning": {"enabled": True}}, []),
    "openrouter: off": (False, {"reasoning": "openrouter"}, {"reasoning": {"enabled": False}}, []),
    "openrouter: level": ("high", {"reasoning": "openrouter"}, {"reasoning": {"effort": "high"}}, []),
    "deepseek: on": (True, {"reasoning": "deepseek"}, {"thinking": {"type": "enabled"}}, []),
    "deepseek: off": (False, {"reasoning": "deepseek"}, {"thinking": {"type": "disabled"}}, []),
    "deepseek: level": (
        "medium",
        {"reasoning": "deepseek", "efforts": EFFORTS},
        {"thinking": {"type": "enabled"}, "reasoning_effort": "high"},
        [],
    ),
    "template: off": (False, {"reasoning": "template"}, {"chat_template_kwargs": {"enable_thinking": False}}, []),
    "template: level": (
        "high",
        {"reasoning": "template"},
        {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "high"}},
        [],
    ),
    "template: beside the preset's": (
        True,
        {"reasoning": "template", "extra_body": {"chat_template_kwargs": {"x": 1}}},
        {"chat_template_kwargs": {"x": 1, "enable_thinking": True}},
        [],
    ),
    "none: on": (True, {"reasoning": "none"}, {}, ["think"]),
    "none: off": (False, {"reasoning": "none"}, {}, []),
    "none: always on": (True, {"reasoning": "none", "reasons_by_default": True}, {}, []),
    "none: always on, off": (
        False,
        {"reasoning": "none", "reasons_by_default": True, "think_off": False},
        {},
        ["think"],
    ),
}


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
    assert len(encoded(request, **profile)["messages"]) == 1 + bool(losses)  # what is lost is asked for in words


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
    rejects = frozenset({"dimensions", "encoding_format"})
    assert encoded(request, rejects=rejects) == {"user": "u", "model": "up", "input": ["a", "b"]}
    assert lost(request, rejects=rejects) == ["dimensions"]


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
    "null is absent": (
        {"stop": None, "tools": None, "temperature": None},
        lambda r: (r.sampling, r.tools),
        (Sampling(), []),
    ),
    "repetition_penalty": (
        {"repetition_penalty": 1.2, "top_k": 3},
        lambda r: r.sampling,
        Sampling(top_k=3, repeat_penalty=1.2),
    ),
    "Goose's options": (
        {"options": {"num_ctx": 9, "mirostat": 1}},
        lambda r: (r.sampling.num_ctx, r.sampling.extra),
        (9, {"mirostat": 1}),
    ),
    "effort none": ({"reasoning_effort": "none"}, lambda r: r.think, False),
    "effort object": ({"reasoning": {"effort": "low"}, "reasoning_effort": "high"}, lambda r: r.think, "low"),
    "reasoning switch": ({"reasoning": {"enabled": False}}, lambda r: r.think, False),
    "deepseek switch": ({"thinking": {"type": "enabled"}}, lambda r: r.think, True),
    "think": ({"think": "max"}, lambda r: r.think, "max"),
    "json": ({"response_format": {"type": "json_object"}}, lambda r: r.format, Format()),
    "text format": ({"response_format": {"type": "text"}}, lambda r: r.format, None),
    "named tool": (
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        lambda r: r.tool_choice,
        {"name": "f"},
    ),
    "any is required": ({"tool_choice": "any"}, lambda r: r.tool_choice, "required"),
    "a hosted tool is a loss": (
        {"tools": [{"type": "web_search"}]},
        lambda r: (r.tools, r.losses),
        ([], ["tools[0] (web_search)"]),
    ),
    "usage asked": ({"stream": True, "stream_options": {"include_usage": True}}, lambda r: r.include_usage, True),
    "usage not asked": ({"stream": True}, lambda r: r.include_usage, False),
    "n": ({"n": 2}, lambda r: r.n, 2),
    "privacy and task": (
        {"privacy_mode": "strict", "task": "chat"},
        lambda r: (r.privacy, r.task, r.vendor),
        ("strict", "chat", {}),
    ),
    "provider": ({"provider": "groq"}, lambda r: (r.provider, r.vendor), ("groq", {})),
    "provider of OpenRouter": (
        {"provider": {"order": ["x"]}},
        lambda r: (r.provider, r.vendor),
        (None, {"openai": {"provider": {"order": ["x"]}}}),
    ),
    "no model": ({"model": None}, lambda r: r.model, ""),
    "unknown members": ({"verbosity": "low"}, lambda r: r.vendor, {"openai": {"verbosity": "low"}}),
}


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
    "no model": (GENERATE, b'{"prompt":"Hi"}', "model is required", "model"),
    "neither model nor messages": (CHAT, b'{"messages":[]}', "[] is too short - 'messages'", "messages"),
    "empty model": (EMBED, b'{"model":""}', "model is required", "model"),
    "model a number": (
        CHAT,
        b'{"model":1}',
        "Invalid type for 'model': expected a string, but got an integer instead.",
        "model",
    ),
    "no messages": (CHAT, b'{"model":"m"}', "Missing required parameter: 'messages'.", "messages"),
    "empty messages": (CHAT, b'{"model":"m","messages":[]}', "[] is too short - 'messages'", "messages"),
    "message a text": (
        CHAT,
        b'{"model":"m","messages":["x"]}',
        "Invalid type for 'messages[0]': expected an object, but got a string instead.",
        "messages[0]",
    ),
    "no role": (
        CHAT,
        b'{"model":"m","messages":[{"content":"x"}]}',
        "Missing required parameter: 'messages[0].role'.",
        "messages[0].role",
    ),
    "content a number": (
        CHAT,
        b'{"model":"m","messages":[{"role":"user","content":5}]}',
        "Invalid type for 'messages[0].content': expected a string or an array of objects, but got an integer instead.",
        "messages[0].content",
    ),
    "picture on disk": (
        CHAT,
        b'{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///x"}}]}]}',
        "an image must be an http(s) address or a data URL with base64 data",
        "messages[0].content[0].image_url.url",
    ),
    "call without name": (
        CHAT,
        b'{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{}}]}]}',
        "Missing required parameter: 'messages[0].tool_calls[0].function.name'.",
        "messages[0].tool_calls[0].function.name",
    ),
    "too many alternatives": (
        CHAT,
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"top_logprobs":30}',
        "top_logprobs must be between 0 and 20",
        "top_logprobs",
    ),
    "privacy": (
        CHAT,
        b'{"model":"m","privacy_mode":"secret","messages":[]}',
        "Invalid value for 'privacy_mode': 'secret'. Supported: 'strict' and 'flexible'.",
        "privacy_mode",
    ),
    "two prompts": (GENERATE, b'{"model":"m","prompt":["a","b"]}', "only one prompt at a time is supported", "prompt"),
    "token prompt": (
        GENERATE,
        b'{"model":"m","prompt":[1,2]}',
        "token ids are not supported as a prompt, send text",
        "prompt",
    ),
    "token lists": (
        GENERATE,
        b'{"model":"m","prompt":[[1,2]]}',
        "token ids are not supported as a prompt, send text",
        "prompt",
    ),
    "no prompt": (GENERATE, b'{"model":"m"}', "Missing required parameter: 'prompt'.", "prompt"),
    "token input": (EMBED, b'{"model":"m","input":[1]}', "token ids are not supported as input, send text", "input"),
    "empty input": (EMBED, b'{"model":"m","input":[]}', "[] is too short - 'input'", "input"),
    "encoding": (
        EMBED,
        b'{"model":"m","input":"a","encoding_format":"hex"}',
        "Invalid value for 'encoding_format': 'hex'. Supported: 'float' and 'base64'.",
        "encoding_format",
    ),
}


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
CHAT_MEMBERS = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "n",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repeat_penalty",
    "repetition_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "response_format",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning_effort",
    "reasoning",
    "thinking",
    "think",
    "options",
    "user",
    "privacy_mode",
    "task",
]
MESSAGE_MEMBERS = [
    "role",
    "content",
    "tool_calls",
    "tool_call_id",
    "name",
    "reasoning",
    "reasoning_content",
    "refusal",
    "function_call",
]
PART_MEMBERS = ["type", "text", "image_url", "input_audio", "refusal"]


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
