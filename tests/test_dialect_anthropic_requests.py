"""The Anthropic dialect: values as request bodies, fitted to what a model takes."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from fakes.anthropic_wire import VERSIONS, check_body, check_schema, signature_of
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.dialects.anthropic import AnthropicDialect
from ollama_bridge.dialects.anthropic.schemas import Inexpressible, tightened
from ollama_bridge.dialects.base import CHAT, Profile
from ollama_bridge.policy.adapt import adapt
from ollama_bridge.policy.families import family_profile
from ollama_bridge.policy.pairing import pair
from ollama_bridge.values import (
    ChatRequest,
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

DIALECT = AnthropicDialect()
SAMPLING = frozenset({"temperature", "top_p", "top_k"})
SERVICE = Profile(reasoning="adaptive", max_stops=1024, keeps=True)
NEWEST = SERVICE.with_(rejects=SAMPLING, accepts=frozenset({"top_k"}))  # as asked in the newest API version
FIRST = SERVICE.with_(accepts=frozenset({"top_k"}))
OPUS, HAIKU, OLD = "claude-opus-5-5", "claude-haiku-5-5", "claude-sonnet-4-5"

HI = Message("user", [Text("Hi")])
DOT = "iVBORw0KGgo="
WEATHER = Tool("get_weather", "of a city", {"type": "object", "properties": {"city": {"type": "string"}}})
CALL = ToolCall("get_weather", '{"city":"Oslo"}', "toolu_1")
RESULT = Message("tool", [ToolResult([Text("3")], "toolu_1")])


def ask(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest("alias", list(messages) or [HI], **fields)


def encode(request: ChatRequest, profile: Profile = SERVICE) -> tuple[dict[str, Any], list[str]]:
    """-> (body, names of losses)."""
    before = copy.deepcopy(request)
    kind, body, losses = DIALECT.encode(request, "up", profile)
    assert kind == CHAT and request == before  # what is given is not changed
    return body, [loss.name for loss in losses]


def fitted(request: ChatRequest, model: str = OPUS, base: Profile = NEWEST) -> tuple[dict[str, Any], list[str]]:
    """As the pipeline does it: fitted to the family, paired, encoded; and what the fake service would say of it."""
    profile = family_profile(base, "anthropic", model)
    request, losses, _ = adapt(request, profile)
    request.messages = pair(request.messages)
    body, names = encode(request, profile)
    check_body(body, VERSIONS[base is NEWEST], frozenset())
    return body, [loss.name for loss in losses] + names


def messages(*turns: Message, profile: Profile = SERVICE) -> list[dict[str, Any]]:
    body, losses = encode(ask(*turns), profile)
    assert losses == []
    written: list[dict[str, Any]] = body["messages"]
    return written


# -- conversations -----------------------------------------------------------------------------------------------------
def test_the_smallest_request() -> None:
    body, losses = encode(ask())
    assert body == {"model": "up", "max_tokens": 4096, "messages": [{"role": "user", "content": "Hi"}], "stream": False}
    assert losses == []
    assert encode(ask(stream=True))[0]["stream"] is True


def test_system_messages_are_one_text_at_the_top() -> None:
    body, losses = encode(
        ask(
            Message("system", [Text("Be brief.")]),
            HI,
            Message("developer", [Text("Be kind.")]),
            Message("system", [Text("  ")]),
        )
    )
    assert (body["system"], losses) == ("Be brief.\n\nBe kind.", [])
    assert body["messages"] == [{"role": "user", "content": "Hi"}]


def test_a_picture_said_by_the_system_is_lost() -> None:
    body, losses = encode(ask(Message("system", [Text("See"), Media(data=DOT)]), HI))
    assert (body["system"], losses) == ("See", ["system content"])


TEXT = {"type": "text", "text": "a"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}}
ANSWER = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "3"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DOT}}

# id: messages of the request, messages of the wire
CONVERSATIONS: dict[str, tuple[list[Message], list[dict[str, Any]]]] = {
    "turns of one role are one": (
        [Message("user", [Text("a")]), Message("user", [Text("b")])],
        [{"role": "user", "content": [TEXT, {"type": "text", "text": "b"}]}],
    ),
    "empty texts are left out": (
        [HI, Message("assistant", [Text(""), Text(" \n")]), Message("user", [Text("a"), Text("")])],
        [{"role": "user", "content": [{"type": "text", "text": "Hi"}, TEXT]}],
    ),
    "the first turn is the user's": (
        [Message("assistant", [Text("Welcome.")]), HI],
        [
            {"role": "user", "content": "(The conversation begins.)"},
            {"role": "assistant", "content": "Welcome."},
            {"role": "user", "content": "Hi"},
        ],
    ),
    "nothing but a system": (
        [Message("system", [Text("s")])], [{"role": "user", "content": "(The conversation begins.)"}],
    ),
    "an answer begun ends in a word": (
        [HI, Message("assistant", [Text("One, \n")])],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "One,"}],
    ),
    "a picture": ([Message("user", [Text("a"), Media(mime="image/png", data=DOT)])], [
        {"role": "user", "content": [TEXT, IMAGE]}
    ]),
    "a picture without a type": ([Message("user", [Media(data=DOT)])], [{"role": "user", "content": [IMAGE]}]),
    "a picture elsewhere": (
        [Message("user", [Media(url="https://x.example/a.png")])],
        [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}]}],
    ),
    "a call and its result": (
        [HI, Message("assistant", [Text("a"), CALL]), RESULT],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [TEXT, USE]},
         {"role": "user", "content": [ANSWER]}],
    ),
    "results stand before words": (
        [HI, Message("assistant", [CALL, ToolCall("f", "", "toolu_2")]), Message("user", [Text("a")]), RESULT,
         Message("tool", [ToolResult([], "toolu_2", is_error=True)])],
        [{"role": "user", "content": "Hi"},
         {"role": "assistant", "content": [USE, {"type": "tool_use", "id": "toolu_2", "name": "f", "input": {}}]},
         {"role": "user", "content": [
             ANSWER, {"type": "tool_result", "tool_use_id": "toolu_2", "content": "", "is_error": True}, TEXT]}],
    ),
    "a result with a picture": (
        [HI, Message("assistant", [CALL]),
         Message("tool", [ToolResult([Text("a"), Media(mime="image/png", data=DOT)], "toolu_1")])],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [USE]},
         {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [TEXT, IMAGE]}]}],
    ),
    "a signed thought goes back": (
        [HI, Message("assistant", [Thinking("hm", vendor={"anthropic": {"signature": "s"}}), CALL]), RESULT],
        [{"role": "user", "content": "Hi"},
         {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, USE]},
         {"role": "user", "content": [ANSWER]}],
    ),
    "an unsigned one does not": (
        [HI, Message("assistant", [Thinking("hm"), Thinking("ah", vendor={"gemini": {"signature": "s"}}), Text("a")])],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "a"}],
    ),
    "a redacted one goes back": (
        [HI, Message("assistant", [Opaque("anthropic", {"type": "redacted_thinking", "data": "Eq"}), Text("a")])],
        [{"role": "user", "content": "Hi"},
         {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "Eq"}, TEXT]}],
    ),
    "a document of this wire": (
        [Message("user", [Opaque("anthropic", {"type": "document", "source": {}}), Text("a")])],
        [{"role": "user", "content": [{"type": "document", "source": {}}, TEXT]}],
    ),
    "what a call carries besides": (
        [HI, Message("assistant", [ToolCall("get_weather", '{"city":"Oslo"}', "toolu_1",
                                            {"anthropic": {"caller": {"type": "direct"}}})]), RESULT],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [{"caller": {"type": "direct"}, **USE}]},
         {"role": "user", "content": [ANSWER]}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CONVERSATIONS))
def test_conversations(name: str) -> None:
    given, expected = CONVERSATIONS[name]
    assert messages(*given) == expected


def test_what_others_alone_can_read_is_lost() -> None:
    body, losses = encode(ask(Message("user", [Text("a"), Opaque("openai", {}), Media(kind="audio", data="UklG")])))
    assert (body["messages"], losses) == ([{"role": "user", "content": "a"}], ["openai content", "audio"])


def test_thoughts_stay_where_none_are_wanted_back() -> None:
    signed = Thinking("hm", vendor={"anthropic": {"signature": "s"}})
    redacted = Opaque("anthropic", {"type": "redacted_thinking", "data": "Eq"})
    turn = Message("assistant", [signed, redacted, Text("a")])
    assert messages(HI, turn, profile=SERVICE.with_(keeps=False))[1] == {"role": "assistant", "content": "a"}


@pytest.mark.parametrize("given", ["call:1/2", "", "x" * 200, "ü", "functions.get_weather:0"])
def test_ids_are_made_fit_on_both_sides(given: str) -> None:
    written = messages(HI, Message("assistant", [ToolCall("f", "{}", given)]), Message("tool", [ToolResult([], given)]))
    used, answered = written[1]["content"][0]["id"], written[2]["content"][0]["tool_use_id"]
    assert used == answered and re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", used)


def test_different_ids_stay_different() -> None:
    calls = [ToolCall("f", "{}", given) for given in ("a:1", "a.1", "a 1", "a1")]
    written = messages(HI, Message("assistant", [*calls]))
    assert len({block["id"] for block in written[1]["content"]}) == 4


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a":1}', {"a": 1}),
        ("", {}),
        ('{"a":', {"a": None}),
        ("[1]", {"arguments": [1]}),
        ("Oslo", {"arguments": "Oslo"}),
    ],
)
def test_arguments_are_an_object(arguments: str, expected: dict[str, Any]) -> None:
    assert messages(HI, Message("assistant", [ToolCall("f", arguments, "a")]))[1]["content"][0]["input"] == expected


# -- limits, sampling, stops -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("asked", "most", "sent"),
    [
        (None, None, 4096),
        (None, 64_000, 64_000),
        (9, None, 9),
        (9, 64_000, 9),
        (90_000, 64_000, 64_000),
        (-1, 8, 8),
        (0, 8, 8),
    ],
)
def test_there_is_always_a_limit(asked: int | None, most: int | None, sent: int) -> None:
    body, losses = encode(ask(sampling=Sampling(max_tokens=asked)), SERVICE.with_(max_output=most))
    assert (body["max_tokens"], losses) == (sent, [])


SAMPLED = Sampling(
    temperature=0.5, top_k=5, seed=7, min_p=0.1, repeat_penalty=1.2, presence_penalty=1, frequency_penalty=1
)


def test_sampling_in_the_newest_version_is_lost() -> None:
    body, losses = fitted(ask(sampling=SAMPLED), OLD)
    assert not SAMPLING & body.keys()
    assert sorted(losses) == sorted(
        ["temperature", "top_k", "seed", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty"]
    )


def test_sampling_in_the_first_version_is_old_models() -> None:
    body, losses = fitted(ask(sampling=Sampling(temperature=0.5, top_k=5)), OLD, FIRST)
    assert (body["temperature"], body["top_k"], losses) == (0.5, 5, [])
    body, losses = fitted(ask(sampling=Sampling(temperature=0.5, top_k=5)), OPUS, FIRST)
    assert not SAMPLING & body.keys() and losses == ["temperature", "top_k"]


def test_old_models_take_no_sampling_while_they_think() -> None:
    body, losses = fitted(ask(sampling=Sampling(temperature=0.5), think=True), OLD, FIRST)
    assert "temperature" not in body and losses == ["temperature"]


@pytest.mark.parametrize(
    ("sampling", "sent", "lost"),
    [
        (Sampling(temperature=0.5, top_p=0.9), {"temperature": 0.5}, ["top_p"]),
        (Sampling(top_p=0.9), {"top_p": 0.9}, []),
        (Sampling(temperature=1.5), {"temperature": 1}, ["temperature"]),
        (Sampling(temperature=1.0), {"temperature": 1.0}, []),
        (Sampling(seed=0, min_p=0, repeat_penalty=1, presence_penalty=0), {}, []),
        (Sampling(extra={"typical_p": 0.5, "num_thread": 4}), {}, ["typical_p"]),
    ],
)
def test_sampling_of_compatible_servers(sampling: Sampling, sent: dict[str, Any], lost: list[str]) -> None:
    body, losses = encode(ask(sampling=sampling), Profile())
    assert {name: body[name] for name in SAMPLING & body.keys()} == sent
    assert losses == lost


@pytest.mark.parametrize(
    ("request_", "lost"),
    [
        (ask(logprobs=True), "logprobs"),
        (ask(n=2), "n"),
        (ask(raw=True), "raw"),
        (ask(suffix="x"), "suffix"),
        (ask(template="x"), "template"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_wire_has_no_word_for(request_: ChatRequest, lost: str) -> None:
    body, losses = encode(request_)
    assert losses == [lost] and body == encode(ask())[0]
    assert encode(ask(n=1))[1] == []


@pytest.mark.parametrize(
    ("stop", "sent", "lost"),
    [(["END"], ["END"], []), (["END", "\n"], ["END"], ["stop"]), (["", " "], None, ["stop"]), (None, None, [])],
)
def test_stop_strings(stop: list[str] | None, sent: list[str] | None, lost: list[str]) -> None:
    body, losses = encode(ask(sampling=Sampling(stop=stop)))
    assert (body.get("stop_sequences"), losses) == (sent, lost)


# -- tools -------------------------------------------------------------------------------------------------------------
def test_tools() -> None:
    bare = Tool("now", vendor={"anthropic": {"strict": True}, "openai": {"strict": False}})
    body, losses = encode(ask(tools=[WEATHER, bare]))
    assert losses == [] and "tool_choice" not in body
    assert body["tools"] == [
        {"name": "get_weather", "description": "of a city", "input_schema": WEATHER.parameters},
        {"strict": True, "name": "now", "input_schema": {"type": "object", "properties": {}}},
    ]


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        (None, None, None),
        ("auto", True, None),
        ("none", False, {"type": "none"}),
        ("required", None, {"type": "any"}),
        ({"name": "get_weather"}, None, {"type": "tool", "name": "get_weather"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
    ],
)
def test_tool_choice(choice: Any, parallel: bool | None, sent: dict[str, Any] | None) -> None:
    body, losses = encode(ask(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=parallel))
    assert (body.get("tool_choice"), losses) == (sent, [])
    assert "tool_choice" not in encode(ask(tool_choice=choice))[0]


@pytest.mark.parametrize(
    ("model", "think", "sent"),
    [
        (OPUS, None, False),
        ("claude-sonnet-5-5", None, False),
        (HAIKU, None, True),
        (OLD, None, True),
        (OLD, True, False),
    ],
)
def test_some_models_cannot_be_forced_to_call(model: str, think: bool | None, sent: bool) -> None:
    body, losses = fitted(ask(tools=[WEATHER], tool_choice="required", think=think), model)
    assert body.get("tool_choice") == ({"type": "any"} if sent else None)
    assert losses == ([] if sent else ["tool_choice"]) and body["tools"]
    body, losses = fitted(ask(tools=[WEATHER], tool_choice="none", think=think), model)
    assert (body["tool_choice"], losses) == ({"type": "none"}, [])


# -- thinking ----------------------------------------------------------------------------------------------------------
ADAPTIVE = {"type": "adaptive", "display": "summarized"}
OFF = {"type": "disabled"}


def budget(tokens: int) -> dict[str, Any]:
    return {"type": "enabled", "budget_tokens": tokens, "display": "summarized"}


@pytest.mark.parametrize(
    ("model", "think", "thinking", "effort", "lost"),
    [
        (OPUS, None, None, None, []),
        (OPUS, True, ADAPTIVE, None, []),
        (OPUS, "high", ADAPTIVE, "high", []),
        (OPUS, "minimal", ADAPTIVE, "low", []),
        (OPUS, False, ADAPTIVE, "low", ["think"]),
        ("claude-fable-5-1", False, ADAPTIVE, "low", ["think"]),
        ("claude-sonnet-5-5", False, {"type": "between_tools"}, None, []),
        ("claude-sonnet-5-5", True, ADAPTIVE, None, []),
        (HAIKU, False, OFF, None, []),
        ("claude-opus-4-8", "max", ADAPTIVE, "max", []),
        ("claude-opus-4-7", False, OFF, None, []),
        ("claude-sonnet-4-6", "xhigh", ADAPTIVE, "max", []),
        ("claude-opus-4-6", True, ADAPTIVE, None, []),
        (OLD, True, budget(10_000), None, []),
        (OLD, "low", budget(2048), None, []),
        (OLD, "max", budget(32_000), None, []),
        (OLD, False, OFF, None, []),
        ("claude-3-5-haiku-20241022", True, None, None, ["think"]),
        ("claude-3-5-haiku-20241022", False, None, None, []),
        ("claude-titan-7", True, ADAPTIVE, None, []),
    ],
)
def test_thinking_by_family(
    model: str, think: Any, thinking: dict[str, Any] | None, effort: str | None, lost: list[str]
) -> None:
    body, losses = fitted(ask(think=think), model)
    assert body.get("thinking") == thinking
    assert body.get("output_config") == ({"effort": effort} if effort else None)
    assert losses == lost


@pytest.mark.parametrize(
    ("limit", "tokens"), [(1024, None), (1025, 1024), (2500, 1250), (30_000, 10_000), (None, 10_000)]
)
def test_half_of_a_limit_is_left_for_the_answer(limit: int | None, tokens: int | None) -> None:
    body, losses = fitted(ask(think=True, sampling=Sampling(max_tokens=limit)), OLD)
    assert body.get("thinking") == (budget(tokens) if tokens else None)
    assert losses == ([] if tokens else ["think"])


def test_compatible_servers_are_told_what_all_know() -> None:
    body, losses = encode(ask(think=True), Profile(max_output=32_000))
    assert (body["thinking"], losses) == ({"type": "enabled", "budget_tokens": 10_000}, [])
    assert encode(ask(think=False), Profile())[0]["thinking"] == OFF


@pytest.mark.parametrize("profile", [Profile(reasoning="none"), Profile(rejects=frozenset({"think"}))])
def test_a_model_that_cannot_be_told_to_think(profile: Profile) -> None:
    for think, lost in ((True, ["think"]), ("high", ["think"]), (False, []), (None, [])):
        body, losses = encode(ask(think=think), profile)
        assert "thinking" not in body and losses == lost


def test_thinking_that_is_always_on_cannot_be_denied() -> None:
    body, losses = encode(ask(think=False), SERVICE.with_(think_off=False, reasons_by_default=True))
    assert "thinking" not in body and losses == ["think"]


# -- formats -----------------------------------------------------------------------------------------------------------
NUMBER: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
CLOSED = {**NUMBER, "additionalProperties": False}


def test_a_schema_is_held_to() -> None:
    body, losses = fitted(ask(format=Format(NUMBER), think="high"), HAIKU)
    assert body["output_config"] == {"effort": "high", "format": {"type": "json_schema", "schema": CLOSED}}
    assert losses == [] and "system" not in body


def test_json_is_asked_for_in_words() -> None:
    body, losses = fitted(ask(Message("system", [Text("Be brief.")]), HI, format=Format()))
    assert body["system"].startswith("Be brief.\n\nAnswer with JSON only") and losses == ["format"]


@pytest.mark.parametrize(("model", "schema"), [(OPUS, {"type": "object"}), ("claude-sonnet-4-20250514", NUMBER)])
def test_a_schema_that_cannot_be_held_to_is_asked_for_in_words(model: str, schema: dict[str, Any]) -> None:
    body, losses = fitted(ask(format=Format(schema)), model)
    assert json.dumps(schema, separators=(",", ":")) in body["system"]
    assert losses == ["format"] and "output_config" not in body


def test_what_a_schema_loses_is_named() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
    _, _, losses = DIALECT.encode(ask(format=Format(schema)), "up", SERVICE)
    assert [(loss.name, loss.why) for loss in losses] == [("format", "not held to: minimum")]


# id: schema, narrowed, keywords that are only told
SCHEMAS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "closed": (NUMBER, CLOSED, []),
    "closed already": (CLOSED, CLOSED, []),
    "open beside its own": ({**NUMBER, "additionalProperties": True}, CLOSED, []),
    "empty on purpose": (
        {"type": "object", "additionalProperties": False}, {"type": "object", "additionalProperties": False}, [],
    ),
    "limits": (
        {"type": "integer", "minimum": 1, "maximum": 9},
        {"type": "integer", "description": "(minimum: 1, maximum: 9)"}, ["minimum", "maximum"],
    ),
    "limits beside a description": (
        {"type": "string", "description": "A name", "maxLength": 5},
        {"type": "string", "description": "A name\n\n(maxLength: 5)"}, ["maxLength"],
    ),
    "inside": (
        {"type": "array", "items": {"type": "string", "pattern": "a+"}, "minItems": 1, "maxItems": 3},
        {"type": "array", "items": {"type": "string", "description": '(pattern: "a+")'}, "minItems": 1,
         "description": "(maxItems: 3)"},
        ["pattern", "maxItems"],
    ),
    "one of": (
        {"oneOf": [{"type": "string"}, {"type": "null"}]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}, [],
    ),
    "formats": (
        {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "color"}]},
        {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "description": '(format: "color")'}]},
        ["format"],
    ),
    "too many at least": (
        {"type": "array", "items": {"type": "null"}, "minItems": 2},
        {"type": "array", "items": {"type": "null"}, "description": "(minItems: 2)"}, ["minItems"],
    ),
    "definitions": (
        {"$schema": "x", "$ref": "#/$defs/a", "$defs": {"a": NUMBER}},
        {"$ref": "#/$defs/a", "$defs": {"a": CLOSED}}, [],
    ),
    "several types": (
        {"type": ["object", "null"], "properties": {"a": {"enum": [1, 2]}}},
        {"type": ["object", "null"], "properties": {"a": {"enum": [1, 2]}}, "additionalProperties": False}, [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_schemas_are_narrowed(name: str) -> None:
    schema, narrow, told = SCHEMAS[name]
    before = copy.deepcopy(schema)
    assert tightened(schema) == (narrow, told)
    assert schema == before
    check_schema(narrow)
    assert tightened(narrow) == (narrow, [])


DEEP: dict[str, Any] = {"type": "string"}
for _ in range(40):
    DEEP = {"type": "array", "items": DEEP}
TREE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/t"}}}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"description": "anything"},
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {**NUMBER, "additionalProperties": {"type": "string"}},
        {"type": "array", "items": {}},
        {"type": "array", "items": [{"type": "string"}]},
        {"type": "object", "properties": {"a": True}},
        {"$ref": "#/$defs/t", "$defs": {"t": TREE}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/t"}, "t": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
        {"type": "object", "properties": {"self": {"$ref": "#"}}},
        DEEP,
    ],
)
def test_what_no_grammar_holds(schema: dict[str, Any]) -> None:
    with pytest.raises(Inexpressible):
        tightened(schema)


def test_a_reference_used_twice_is_no_recursion() -> None:
    both = {"a": {"$ref": "#/$defs/t"}, "b": {"$ref": "#/$defs/t"}}
    narrow, _ = tightened({"type": "object", "properties": both, "$defs": {"t": {"type": "string"}}})
    assert narrow["properties"] == both


# -- what rides along --------------------------------------------------------------------------------------------------
def test_the_wires_own_fields_go_through() -> None:
    vendor = {"anthropic": {"metadata": {"user_id": "u"}, "model": "x", "speed": "fast"}, "openai": {"user": "u"}}
    body, losses = encode(ask(vendor=vendor), SERVICE.with_(rejects=frozenset({"speed"})))
    assert body == {**encode(ask())[0], "metadata": {"user_id": "u"}} and losses == ["speed"]


def test_the_operators_fields_come_last() -> None:
    profile = SERVICE.with_(extra_body={"service_tier": "auto", "output_config": {"effort": "low", "x": 1}})
    body, _ = encode(ask(think="high"), profile)
    assert body["service_tier"] == "auto" and body["output_config"] == {"effort": "high", "x": 1}


@pytest.mark.parametrize(
    ("system", "tools", "marked"),
    [("s" * 60, [], "system"), ("s" * 60, [WEATHER], "system"), ("", [WEATHER, WEATHER], "tools"), ("s", [], None)],
)
def test_a_long_beginning_is_marked_to_be_cached(system: str, tools: list[Tool], marked: str | None) -> None:
    profile = SERVICE.with_(cache_from=60)
    body, _ = encode(ask(Message("system", [Text(system)]), HI, tools=tools), profile)
    mark = {"type": "ephemeral"}
    found = [name for name in ("system", "tools") if any("cache_control" in part for part in body.get(name, ()))]
    assert found == ([marked] if marked else [])
    if marked:
        assert body[marked][-1]["cache_control"] == mark and json.dumps(body).count("cache_control") == 1
    assert "cache_control" not in json.dumps(encode(ask(Message("system", [Text("s" * 999)]), HI))[0])


# -- whatever is asked -------------------------------------------------------------------------------------------------
WORDS = st.text("ab \n", max_size=4)
BLOCK = st.one_of(
    st.builds(Text, WORDS),
    st.builds(lambda text: Thinking(text, vendor={"anthropic": {"signature": signature_of(text)}}), WORDS),
    st.just(Media(mime="image/png", data=DOT)),
    st.builds(ToolCall, st.just("f"), st.just("{}"), st.sampled_from(["a", "b:1", None])),
)
RESULTS = st.builds(ToolResult, st.lists(st.builds(Text, WORDS), max_size=2), st.sampled_from(["a", "b:1", None]))


def said_by(role: str, blocks: list[Any]) -> Message:
    kinds: dict[str, tuple[type, ...]] = {"user": (Text, Media), "assistant": (Text, Thinking, ToolCall)}
    return Message(role, [block for block in blocks if isinstance(block, kinds.get(role, (Text,)))])


TURN = st.one_of(
    st.builds(said_by, st.sampled_from(["system", "user", "assistant"]), st.lists(BLOCK, max_size=3)),
    st.builds(lambda result: Message("tool", [result]), RESULTS),
)


@given(
    st.lists(TURN, max_size=6),
    st.sampled_from([None, True, False, "low", "max"]),
    st.sampled_from([OPUS, HAIKU, OLD, "claude-sonnet-5-5"]),
    st.sampled_from([NEWEST, FIRST]),
    st.builds(Sampling, temperature=st.sampled_from([None, 0, 2]), top_p=st.sampled_from([None, 0.5]),
              max_tokens=st.sampled_from([None, 5, 2000, 10**6]), stop=st.sampled_from([None, ["\n", "x"]])),
)  # fmt: skip
def test_the_service_takes_whatever_clients_say(
    turns: list[Message], think: Any, model: str, base: Profile, sampling: Sampling
) -> None:
    """The fake judges as the real service does; `fitted` raises what it refuses."""
    fitted(ask(*turns, think=think, sampling=sampling, tools=[Tool("f")], tool_choice="required"), model, base)
