"""The Gemini dialect: requests written, refusals read and learnt from.

Whatever is written must also pass the eyes of the fake service, which refuses what the real one does.
"""

from __future__ import annotations

from typing import Any

import pytest
from fakes.gemini_wire import PLACEHOLDER, check_body, demands_signatures
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.dialects.base import CHAT, EMBED, Profile
from ollama_bridge.dialects.gemini import GeminiDialect
from ollama_bridge.errors import CONTEXT_LENGTH, Scope, WireError, classify
from ollama_bridge.framing import dumps
from ollama_bridge.policy.adapt import adapt
from ollama_bridge.policy.families import family_profile, reasons
from ollama_bridge.policy.pairing import pair
from ollama_bridge.policy.repair import learn
from ollama_bridge.values import (
    Block,
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

DIALECT = GeminiDialect()
# What holds for the whole service; rows per family refine it.
GOOGLE = Profile(
    accepts=frozenset({"top_k"}),
    rejects=frozenset({"parallel_tool_calls"}),
    max_stops=5,
    image_urls=False,
    reasoning="thinking_level",
    keeps=True,
)
NEW, OLD = "gemini-3.5-flash", "gemini-2.5-flash"
HI = Message("user", [Text("Hi")])
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
WEATHER = Tool("get_weather", "of a city", {"type": "object", "properties": {"city": {"type": "string"}}})
PIXEL = "iVBORw0KGgo="


def profile_of(model: str) -> Profile:
    return family_profile(GOOGLE, "google", model)


def ask(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(model="public", messages=list(messages) or [HI], **fields)


def encoded(request: ChatRequest, model: str = NEW, signatures: set[str] | None = None) -> dict[str, Any]:
    """The body as the pipeline would send it, judged as the service would."""
    body, _ = bound(request, model, signatures)
    return body


def bound(
    request: ChatRequest, model: str = NEW, signatures: set[str] | None = None
) -> tuple[dict[str, Any], list[str]]:
    profile = profile_of(model)
    fitted, losses, _ = adapt(request, profile)
    fitted.messages = pair(fitted.messages, profile.tool_ids)
    kind, body, more = DIALECT.encode(fitted, model, profile)
    assert kind == CHAT
    dumps(body)
    check_body(body, {PLACEHOLDER, *(signatures or ())} if demands_signatures(model) else None)
    return body, [loss.name for loss in [*losses, *more]]


def config(request: ChatRequest, model: str = NEW) -> dict[str, Any]:
    written: dict[str, Any] = encoded(request, model).get("generationConfig", {})
    return written


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "parts": list(parts)}


def model(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "model", "parts": list(parts)}


def say(text: str) -> dict[str, Any]:
    return {"text": text}


# -- the conversation --------------------------------------------------------------------------------------------------


def assistant(*blocks: Block) -> Message:
    return Message("assistant", list(blocks))


def result(text: str, call_id: str | None = None, **more: Any) -> Message:
    return Message("tool", [ToolResult([Text(text)], call_id, **more)])


def called(name: str, args: dict[str, Any], call_id: str, signature: str | None = PLACEHOLDER) -> dict[str, Any]:
    part: dict[str, Any] = {"functionCall": {"name": name, "args": args, "id": call_id}}
    return part | ({"thoughtSignature": signature} if signature else {})


def answered(name: str, call_id: str, text: str, key: str = "output") -> dict[str, Any]:
    return {"functionResponse": {"name": name, "response": {key: text}, "id": call_id}}


def signed(signature: str) -> dict[str, Any]:
    return {"gemini": {"thoughtSignature": signature}}


OSLO = ToolCall("get_weather", '{"city": "Oslo"}', "c1")
ROME = ToolCall("get_weather", '{"city": "Rome"}', "c2")
IMAGE = {"inlineData": {"mimeType": "image/png", "data": PIXEL}}
SIGNED_TEXT = {"text": "", "thoughtSignature": "s"}

# id: messages, system parts, contents
CONVERSATIONS: dict[str, tuple[list[Message], list[Any] | None, list[Any]]] = {
    "one turn": ([HI], None, [user(say("Hi"))]),
    "turns": (
        [HI, assistant(Text("Hello")), Message("user", [Text("Who?")])], None,
        [user(say("Hi")), model(say("Hello")), user(say("Who?"))],
    ),
    "system": ([Message("system", [Text("Be brief.")]), HI], [say("Be brief.")], [user(say("Hi"))]),
    "system words anywhere": (
        [Message("system", [Text("a")]), HI, Message("developer", [Text("b")])], [say("a"), say("b")],
        [user(say("Hi"))],
    ),
    "only system words": ([Message("system", [Text("a")])], None, [user(say("a"))]),
    "nothing": ([Message("user", [Text("")])], None, [user(say(""))]),
    "empty turns are left out": (
        [HI, assistant(Text("")), Message("user", [Text("Still there?")])], None,
        [user(say("Hi"), say("Still there?"))],
    ),
    "neighbours of one role": (
        [HI, Message("user", [Text("there")]), assistant(Text("a")), assistant(Text("b"))], None,
        [user(say("Hi"), say("there")), model(say("a"), say("b"))],
    ),
    "an unknown role speaks as the user": ([Message("robot", [Text("beep")])], None, [user(say("beep"))]),
    "a picture": (
        [Message("user", [Text("What?"), Media(mime="image/png", data=PIXEL)])], None, [user(say("What?"), IMAGE)],
    ),
    "a picture of no known kind": ([Message("user", [Media(data=PIXEL)])], None, [user(IMAGE)]),
    "a sound": (
        [Message("user", [Media("audio", "audio/mpeg", PIXEL)])], None,
        [user({"inlineData": {"mimeType": "audio/mpeg", "data": PIXEL}})],
    ),
    "a picture's address": (
        [Message("user", [Media(url="https://x.example/a.png")])], None,
        [user({"fileData": {"fileUri": "https://x.example/a.png"}})],
    ),
    "a system picture": (
        [Message("system", [Text("a"), Media(mime="image/png", data=PIXEL)]), HI], [say("a")], [user(IMAGE, say("Hi"))],
    ),
    "thoughts stay behind": ([HI, assistant(Thinking("hm"), Text("a"))], None, [user(say("Hi")), model(say("a"))]),
    "signed thoughts and text go back": (
        [HI, assistant(Thinking("hm", vendor=signed("s")), Text("a"), Opaque("gemini", SIGNED_TEXT))], None,
        [user(say("Hi")), model({"text": "hm", "thought": True, "thoughtSignature": "s"}, say("a"), SIGNED_TEXT)],
    ),
    "another service's signature does not": (
        [HI, assistant(Thinking("hm", vendor={"anthropic": {"signature": "s"}}), Text("a"))], None,
        [user(say("Hi")), model(say("a"))],
    ),
    "a call and its result": (
        [HI, assistant(OSLO), result("3 degrees", "c1")], None,
        [
            user(say("Hi")), model(called("get_weather", {"city": "Oslo"}, "c1")),
            user(answered("get_weather", "c1", "3 degrees")),
        ],
    ),
    "signatures go back": (
        [HI, assistant(ToolCall("f", "{}", "c1", signed("s")), ToolCall("g", "{}", "c2")), result("a"), result("b")],
        None,
        [
            user(say("Hi")), model(called("f", {}, "c1", "s"), called("g", {}, "c2", None)),
            user(answered("f", "c1", "a"), answered("g", "c2", "b")),
        ],
    ),
    "of lost signatures the first is made up for": (
        [HI, assistant(Text("Well."), OSLO, ROME), result("b", "c2"), result("a", "c1")], None,
        [
            user(say("Hi")),
            model(
                say("Well."), called("get_weather", {"city": "Oslo"}, "c1"),
                called("get_weather", {"city": "Rome"}, "c2", None),
            ),
            user(answered("get_weather", "c1", "a"), answered("get_weather", "c2", "b")),
        ],
    ),
    "in each step": (
        [HI, assistant(OSLO), result("a", "c1"), assistant(ROME), result("b", "c2")], None,
        [
            user(say("Hi")), model(called("get_weather", {"city": "Oslo"}, "c1")),
            user(answered("get_weather", "c1", "a")), model(called("get_weather", {"city": "Rome"}, "c2")),
            user(answered("get_weather", "c2", "b")),
        ],
    ),
    "neither id nor name": (
        [HI, assistant(ToolCall("f", '{"a": 1}')), Message("tool", [Text("r")])], None,
        [user(say("Hi")), model(called("f", {"a": 1}, "call_0_0")), user(answered("f", "call_0_0", "r"))],
    ),
    "another name than the call's": (
        [HI, assistant(ToolCall("f", "", "c1")), result("r", "c1", name="functions.f")], None,
        [user(say("Hi")), model(called("f", {}, "c1")), user(answered("f", "c1", "r"))],
    ),
    "no result": (
        [HI, assistant(OSLO), Message("user", [Text("So?")])], None,
        [
            user(say("Hi")), model(called("get_weather", {"city": "Oslo"}, "c1")),
            user(answered("get_weather", "c1", ""), say("So?")),
        ],
    ),
    "a failed call": (
        [HI, assistant(OSLO), result("no such city", "c1", is_error=True)], None,
        [
            user(say("Hi")), model(called("get_weather", {"city": "Oslo"}, "c1")),
            user(answered("get_weather", "c1", "no such city", "error")),
        ],
    ),
    "pictures of results follow all of them": (
        [
            HI, assistant(OSLO, ROME),
            Message("tool", [ToolResult([Text("a"), Media(mime="image/png", data=PIXEL)], "c1")]), result("b", "c2"),
            Message("user", [Text("So?")]),
        ],
        None,
        [
            user(say("Hi")),
            model(
                called("get_weather", {"city": "Oslo"}, "c1"), called("get_weather", {"city": "Rome"}, "c2", None),
            ),
            user(answered("get_weather", "c1", "a"), answered("get_weather", "c2", "b"), IMAGE, say("So?")),
        ],
    ),
    "arguments that are no object": (
        [HI, assistant(ToolCall("f", '"Oslo"', "c1")), result("r", "c1")], None,
        [user(say("Hi")), model(called("f", {"arguments": "Oslo"}, "c1")), user(answered("f", "c1", "r"))],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("messages", "system", "contents"), CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_conversations(messages: list[Message], system: list[Any] | None, contents: list[Any]) -> None:
    body, losses = bound(ask(*messages), signatures={"s"})
    assert body["contents"] == contents
    assert body.get("systemInstruction") == ({"parts": system} if system else None)
    assert losses == []


def test_models_before_3_get_no_signature() -> None:
    body = encoded(ask(HI, assistant(OSLO), result("3", "c1")), OLD)
    assert body["contents"][1] == model(called("get_weather", {"city": "Oslo"}, "c1", None))


def test_what_only_another_dialect_can_read_is_a_loss() -> None:
    _, losses = bound(ask(HI, assistant(Opaque("openai", {"type": "custom"}), Text("a"))))
    assert losses == ["openai content"]


def test_the_request_is_not_changed() -> None:
    request = ask(HI, assistant(ToolCall("f", "{}", "c1", signed("s")), OSLO), result("r", "c1"), tools=[WEATHER])
    before = dumps(request)
    DIALECT.encode(request, NEW, profile_of(NEW))
    assert dumps(request) == before


# -- parameters --------------------------------------------------------------------------------------------------------

# id: request fields, generationConfig, losses
PARAMETERS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "none": ({}, {}, []),
    "sampling": (
        {
            "sampling": Sampling(
                temperature=0.5, top_p=0.25, top_k=40, seed=7, max_tokens=9, stop=["a", "b"], presence_penalty=0.5,
                frequency_penalty=-0.5,
            )
        },
        {
            "temperature": 0.5, "topP": 0.25, "topK": 40, "seed": 7, "maxOutputTokens": 9, "stopSequences": ["a", "b"],
            "presencePenalty": 0.5, "frequencyPenalty": -0.5,
        },
        [],
    ),
    "zeros": ({"sampling": Sampling(temperature=0, top_p=0)}, {"temperature": 0, "topP": 0}, []),
    "no limit": ({"sampling": Sampling(max_tokens=-1)}, {}, []),
    "no limit at all": ({"sampling": Sampling(max_tokens=-2)}, {}, []),
    "a limit of nothing": ({"sampling": Sampling(max_tokens=0)}, {}, []),
    "any seed": ({"sampling": Sampling(seed=-1)}, {}, []),
    "the other word for it": ({"sampling": Sampling(seed=0)}, {}, []),
    "five stops": ({"sampling": Sampling(stop=list("abcde"))}, {"stopSequences": list("abcde")}, []),
    "six stops": ({"sampling": Sampling(stop=list("abcdef"))}, {"stopSequences": list("abcde")}, ["stop"]),
    "empty stops": ({"sampling": Sampling(stop=["", "a"])}, {"stopSequences": ["a"]}, []),
    "what it does not know": (
        {"sampling": Sampling(min_p=0.1, repeat_penalty=1.1, num_ctx=9, extra={"typical_p": 0.5})}, {},
        ["min_p", "repeat_penalty", "typical_p"],
    ),
    "json": ({"format": Format()}, {"responseMimeType": "application/json"}, []),
    "a schema": (
        {"format": Format(schema=SCHEMA, name="n", strict=True)},
        {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}, [],
    ),
    "logprobs": ({"logprobs": True}, {"responseLogprobs": True}, []),
    "top logprobs": ({"logprobs": True, "top_logprobs": 3}, {"responseLogprobs": True, "logprobs": 3}, []),
    "top without logprobs": ({"top_logprobs": 3}, {}, []),
    "one answer": ({"n": 1}, {}, []),
    "several answers": ({"n": 2}, {}, ["n"]),
    "one call at a time": ({"parallel_tool_calls": False}, {}, ["parallel_tool_calls"]),
    "of completions": ({"raw": True, "suffix": "x", "template": "y"}, {}, ["raw", "template", "suffix"]),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "wanted", "lost"), PARAMETERS.values(), ids=PARAMETERS)
def test_parameters(fields: dict[str, Any], wanted: dict[str, Any], lost: list[str]) -> None:
    body, losses = bound(ask(**fields))
    assert body.get("generationConfig", {}) == wanted
    assert losses == lost


def test_a_model_may_refuse_the_temperature() -> None:
    body, losses = bound(ask(sampling=Sampling(temperature=0.5)), "gemini-4-argon")
    assert ("generationConfig" in body, losses) == (False, ["temperature"])


# id: think, model, thinkingConfig, losses
THINK: dict[str, tuple[Any, str, dict[str, Any] | None, list[str]]] = {
    "unsaid": (None, "gemini-3-pro", None, []),
    "unsaid to a budget": (None, OLD, None, []),
    "on": (True, "gemini-3-pro", {"includeThoughts": True}, []),
    "on, by budget": (True, OLD, {"includeThoughts": True}, []),
    "on, where it is off": (
        True, "gemini-2.5-flash-lite", {"includeThoughts": True, "thinkingBudget": -1}, [],
    ),
    "low": ("low", NEW, {"includeThoughts": True, "thinkingLevel": "LOW"}, []),
    "high": ("high", NEW, {"includeThoughts": True, "thinkingLevel": "HIGH"}, []),
    "most": ("max", NEW, {"includeThoughts": True, "thinkingLevel": "HIGH"}, []),
    "least": ("minimal", NEW, {"includeThoughts": True, "thinkingLevel": "MINIMAL"}, []),
    "least, where there is no such level": (
        "minimal", "gemini-3.8-flash", {"includeThoughts": True, "thinkingLevel": "LOW"}, [],
    ),
    "between two levels": ("medium", "gemini-3-pro-preview", {"includeThoughts": True, "thinkingLevel": "HIGH"}, []),
    "low by budget": ("low", OLD, {"includeThoughts": True, "thinkingBudget": 1024}, []),
    "most by budget": ("max", "gemini-2.5-pro", {"includeThoughts": True, "thinkingBudget": 24576}, []),
    "off": (False, NEW, {"thinkingLevel": "MINIMAL"}, ["think"]),
    "off a pro": (False, "gemini-3-pro", {"thinkingLevel": "LOW"}, ["think"]),
    "off by budget": (False, OLD, {"thinkingBudget": 0}, []),
    "off a pro by budget": (False, "gemini-2.5-pro", {"thinkingBudget": 128}, ["think"]),
    "off where it is off": (False, "gemini-2.5-flash-lite", {"thinkingBudget": 0}, []),
    "on, where there is none": (True, "gemma-3-27b-it", None, ["think"]),
    "off, where there is none": (False, "gemini-2.0-flash", None, []),
    "a picture model": ("high", "gemini-2.5-flash-image", None, ["think"]),
    "the newest": ("xhigh", "gemini-9-neon", {"includeThoughts": True, "thinkingLevel": "HIGH"}, []),
    "latest": (True, "gemini-flash-latest", {"includeThoughts": True}, []),
    "with a prefix": (False, "models/gemini-2.5-flash", {"thinkingBudget": 0}, []),
}  # fmt: skip


@pytest.mark.parametrize(("think", "name", "wanted", "lost"), THINK.values(), ids=THINK)
def test_thinking(think: Any, name: str, wanted: dict[str, Any] | None, lost: list[str]) -> None:
    body, losses = bound(ask(think=think), name)
    assert body.get("generationConfig", {}).get("thinkingConfig") == wanted
    assert losses == lost


@pytest.mark.parametrize(
    ("name", "thinks"),
    [(NEW, True), ("gemini-2.5-pro", True), ("gemini-2.0-flash", False), ("gemini-embedding-001", False)],
)
def test_which_think(name: str, thinks: bool) -> None:
    assert reasons(name, "google") is thinks


# -- tools -------------------------------------------------------------------------------------------------------------


def test_tools() -> None:
    bare, empty = Tool("now"), Tool("later", "x", {})
    (tools,) = encoded(ask(tools=[WEATHER, bare, empty]))["tools"]
    assert tools == {
        "functionDeclarations": [
            {"name": "get_weather", "description": "of a city", "parametersJsonSchema": WEATHER.parameters},
            {"name": "now", "description": ""},
            {"name": "later", "description": "x", "parametersJsonSchema": {"type": "object", "properties": {}}},
        ]
    }


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        (None, None),
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"name": "get_weather"}, {"mode": "ANY", "allowedFunctionNames": ["get_weather"]}),
    ],
)
def test_tool_choice(choice: Any, wanted: Any) -> None:
    body = encoded(ask(tools=[WEATHER], tool_choice=choice))
    assert body.get("toolConfig") == ({"functionCallingConfig": wanted} if wanted else None)
    assert "toolConfig" not in encoded(ask(tool_choice=choice))


def test_a_form_beside_tools_is_asked_for_in_words_of_older_models() -> None:
    request = ask(tools=[WEATHER], format=Format(schema=SCHEMA))
    body, losses = bound(request, OLD)
    assert ("generationConfig" in body, losses) == (False, ["format"])
    assert '{"type":"object"' in body["systemInstruction"]["parts"][0]["text"]
    body, losses = bound(request, NEW)
    assert (body["generationConfig"]["responseJsonSchema"], losses) == (SCHEMA, [])


# -- what the operator adds, and what a profile refuses ----------------------------------------------------------------


def test_extra_body_is_added_under_what_is_said() -> None:
    safety = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}]
    extra = {"safetySettings": safety, "generationConfig": {"temperature": 1, "mediaResolution": "LOW"}}
    profile = profile_of(NEW).with_(extra_body=extra)
    _, body, _ = DIALECT.encode(ask(sampling=Sampling(temperature=0)), NEW, profile)
    assert body["safetySettings"] is safety
    assert body["generationConfig"] == {"temperature": 0, "mediaResolution": "LOW"}
    _, body, _ = DIALECT.encode(ask(), NEW, profile)
    assert body["generationConfig"] == extra["generationConfig"]
    assert "safetySettings" not in encoded(ask())


def test_safety_is_left_to_the_service() -> None:
    assert encoded(ask()).keys() == {"contents"}


EVERYTHING = ask(
    sampling=Sampling(
        temperature=0.5, top_p=0.5, top_k=1, seed=1, max_tokens=9, presence_penalty=1, frequency_penalty=1
    ),
    logprobs=True,
    think="low",
)


@pytest.mark.parametrize(
    ("word", "field"),
    [
        ("temperature", "temperature"),
        ("top_p", "topP"),
        ("top_k", "topK"),
        ("seed", "seed"),
        ("max_tokens", "maxOutputTokens"),
        ("presence_penalty", "presencePenalty"),
        ("frequency_penalty", "frequencyPenalty"),
        ("logprobs", "responseLogprobs"),
        ("think", "thinkingConfig"),
    ],
)
@pytest.mark.parametrize("adapted", [True, False])
def test_what_a_profile_refuses_is_not_sent(word: str, field: str, adapted: bool) -> None:
    profile = profile_of(NEW)
    _, full, _ = DIALECT.encode(EVERYTHING, NEW, profile)
    refusing = profile.with_(rejects=profile.rejects | {word})
    request = adapt(EVERYTHING, refusing)[0] if adapted else EVERYTHING
    _, body, losses = DIALECT.encode(request, NEW, refusing)
    assert full["generationConfig"].keys() - body["generationConfig"].keys() == {field}
    if not adapted and word != "think":
        assert [loss.name for loss in losses] == [word]


# -- embeddings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "named"),
    [("gemini-embedding-2", "models/gemini-embedding-2"), ("models/m", "models/m"), ("tunedModels/m", "tunedModels/m")],
)
def test_each_text_is_a_request_of_its_own(name: str, named: str) -> None:
    kind, body, losses = DIALECT.encode(EmbedRequest("public", ["a", "b"], dimensions=256), name, GOOGLE)
    assert (kind, losses) == (EMBED, [])
    assert body == {
        "requests": [
            {"model": named, "content": {"parts": [{"text": text}]}, "outputDimensionality": 256} for text in "ab"
        ]
    }


def test_dimensions_may_be_refused() -> None:
    profile = GOOGLE.with_(rejects=frozenset({"dimensions"}))
    _, body, losses = DIALECT.encode(EmbedRequest("public", ["a"], dimensions=256), "m", profile)
    assert "outputDimensionality" not in body["requests"][0]
    assert [loss.name for loss in losses] == ["dimensions"]


# -- refusals ----------------------------------------------------------------------------------------------------------


def refusal(message: str, status: str = "INVALID_ARGUMENT", *details: dict[str, Any]) -> bytes:
    return dumps({"error": {"code": 400, "message": message, "status": status, "details": list(details)}})


def detail(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/google.rpc.{kind}", **fields}


# id: status, body, status and scope for the client, words
REFUSALS: dict[str, tuple[int, bytes, int, Scope, str]] = {
    "a bad request": (400, refusal("odd"), 400, Scope.CALLER, "odd"),
    "a bad key": (400, refusal("API key not valid.", "", detail("ErrorInfo", reason="API_KEY_INVALID")), 502,
                  Scope.KEY, "API key not valid."),
    "an expired key": (400, refusal("API key expired.", "", detail("ErrorInfo", reason="API_KEY_INVALID")), 502,
                       Scope.KEY, "API key expired."),
    "a place": (400, refusal("User location is not supported for the API use.", "FAILED_PRECONDITION"), 502, Scope.KEY,
                "User location"),
    "no right": (403, refusal("denied", "PERMISSION_DENIED"), 502, Scope.KEY, "denied"),
    "no model": (404, refusal("models/x is not found for API version v1beta", "NOT_FOUND"), 404, Scope.MODEL,
                 "model 'mine' not found"),
    "a rate": (429, refusal("Resource has been exhausted (e.g. check quota).", "RESOURCE_EXHAUSTED"), 429,
               Scope.THROTTLE, "exhausted"),
    "too long": (400, refusal("The input token count (9) exceeds the maximum number of tokens allowed (8)."), 400,
                 Scope.CALLER, "exceeds"),
    "overload": (503, refusal("The model is overloaded.", "UNAVAILABLE"), 503, Scope.PROVIDER, "overloaded"),
    "a page": (502, b"<html>Bad gateway</html>", 502, Scope.PROVIDER, "provider 'up' failed (502)"),
    "a line": (500, b"upstream connect error", 502, Scope.PROVIDER, "upstream connect error"),
    "a list": (400, b"[" + refusal("odd") + b"]", 400, Scope.CALLER, "odd"),
    "a bare text": (400, b'{"error": "odd"}', 400, Scope.CALLER, "odd"),
    "nothing": (500, b"", 502, Scope.PROVIDER, "provider 'up' failed (500)"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "body", "to", "scope", "words"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(status: int, body: bytes, to: int, scope: Scope, words: str) -> None:
    error = classify("up", status, DIALECT.read_error(status, {}, body), "mine")
    assert (error.status, error.scope, words in error.message) == (to, scope, True), error.message


def test_a_context_that_is_too_long_is_told_as_such() -> None:
    body = refusal("The input token count (9) exceeds the maximum number of tokens allowed (8).")
    assert classify("up", 400, DIALECT.read_error(400, {}, body), "mine").code == CONTEXT_LENGTH


@pytest.mark.parametrize(
    ("delay", "header", "seconds"),
    [
        ("48s", None, 48.0),
        ("48.939935699s", "7", 48.939935699),
        ("0s", None, 0.0),
        (None, "7", 7.0),
        (None, None, None),
        ("soon", "7", 7.0),
        ("-1s", None, None),
        (None, "Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_when_to_come_again(delay: str | None, header: str | None, seconds: float | None) -> None:
    details = [] if delay is None else [detail("RetryInfo", retryDelay=delay)]
    headers = {} if header is None else {"retry-after": header}
    assert DIALECT.read_error(429, headers, refusal("later", "", *details)).retry_after == seconds


def test_the_first_field_at_fault() -> None:
    violations = [{"description": "x"}, {"field": "generation_config.top_k"}, {"field": "contents"}]
    error = DIALECT.read_error(400, {}, refusal("odd", "", detail("BadRequest", fieldViolations=violations)))
    assert error.param == "generation_config.top_k"


# id: the service's sentence, what is not sent from then on
LESSONS = {
    "logprobs": ("Logprobs is not enabled for models/gemini-2.5-flash", {"logprobs"}),
    "logprobs, in other words": ("Unable to submit request because Logprobs is not supported", {"logprobs"}),
    "penalties": ("Penalty is not enabled for models/x", {"presence_penalty", "frequency_penalty"}),
    "a form beside tools": (
        "Function calling with a response mime type: 'application/json' is unsupported", {"format_with_tools"},
    ),
    "a signature": (
        "Function call is missing a thought_signature in functionCall parts. This is required for tools to work.",
        {"unsigned_calls"},
    ),
    "no way off": ("Budget 0 is invalid. This model only works in thinking mode.", {"think_off"}),
    "no thinking": ("Thinking is not enabled for this model.", {"think"}),
    "no levels": ("Thinking level is not supported for this model.", {"think"}),
    "a level": ("Thinking level MINIMAL is not supported for this model.", {"think"}),
    "an unknown field": (
        "Invalid JSON payload received. Unknown name \"topK\" at 'generation_config': Cannot find field.", {"top_k"},
    ),
    "an unknown seed": ("Invalid JSON payload received. Unknown name \"seed\" at 'generation_config'", {"seed"}),
}  # fmt: skip


@pytest.mark.parametrize(("sentence", "words"), LESSONS.values(), ids=LESSONS)
def test_a_refusal_teaches(sentence: str, words: set[str]) -> None:
    error = DIALECT.read_error(400, {}, refusal(sentence))
    repair = learn(GOOGLE, error, 400, {"contents": [], "generationConfig": {}})
    assert repair is not None
    assert repair.profile == GOOGLE.with_(rejects=GOOGLE.rejects | words)
    assert learn(repair.profile, error, 400, {"contents": []}) is None  # nothing is learnt twice


@pytest.mark.parametrize(
    "sentence",
    [
        "* GenerateContentRequest.generation_config.temperature: temperature is out of range.",
        "Invalid JSON payload received. Unknown name \"newField\" at 'contents[0]': Cannot find field.",
        "The input token count (9) exceeds the maximum number of tokens allowed (8).",
        "Please ensure that function response turn comes immediately after a function call turn.",
        "Corrupted thought signature.",
    ],
)
def test_other_refusals_teach_nothing(sentence: str) -> None:
    assert learn(GOOGLE, DIALECT.read_error(400, {}, refusal(sentence)), 400, {"contents": []}) is None


def test_what_was_learnt_is_heeded() -> None:
    off = profile_of(OLD).with_(rejects=profile_of(OLD).rejects | {"think_off"})
    fitted, _, _ = adapt(ask(think=False), off)
    _, body, losses = DIALECT.encode(fitted, OLD, off)
    assert body["generationConfig"] == {"thinkingConfig": {"thinkingBudget": 128}}
    assert [loss.name for loss in losses] == ["think"]
    unsigned = profile_of(OLD).with_(rejects=frozenset({"unsigned_calls"}))
    _, body, _ = DIALECT.encode(ask(HI, assistant(OSLO), result("r", "c1")), OLD, unsigned)
    assert body["contents"][1]["parts"][0]["thoughtSignature"] == PLACEHOLDER


# -- both sides --------------------------------------------------------------------------------------------------------


def test_no_client_speaks_it() -> None:
    calls = (
        lambda: DIALECT.decode(CHAT, b"{}"),
        lambda: DIALECT.relay(b"{}", "m", ask()),
        lambda: DIALECT.writer(CHAT, ask()),
        lambda: DIALECT.tap(CHAT, ask()),
        lambda: DIALECT.relay_reply(CHAT, b"{}", ask()),
    )
    for each in calls:
        with pytest.raises(TypeError, match="'gemini' is spoken by providers only"):
            each()


TEXTS = st.text(max_size=8)
WORDS = st.builds(Text, TEXTS)
CALLS = st.builds(
    ToolCall, st.sampled_from(["f", "g"]), st.sampled_from(["{}", '{"a":1}', "", "[1"]), st.none() | TEXTS
)
RESULTS = st.builds(ToolResult, st.lists(WORDS, max_size=2), st.none() | TEXTS, st.none() | TEXTS)
PICTURES = st.builds(Media, mime=st.just("image/png"), data=st.just(PIXEL))
MESSAGES = st.one_of(
    st.builds(Message, st.just("assistant"), st.lists(WORDS | CALLS | st.builds(Thinking, TEXTS), max_size=3)),
    st.builds(Message, st.sampled_from(["user", "tool", "robot"]), st.lists(WORDS | RESULTS | PICTURES, max_size=3)),
    st.builds(Message, st.just("system"), st.lists(WORDS | PICTURES, max_size=2)),
)


@given(st.lists(MESSAGES, max_size=6))
def test_any_conversation_is_one_that_the_service_takes(messages: list[Message]) -> None:
    encoded(ask(*messages))


@given(st.lists(st.tuples(st.sampled_from(["f", "g"]), st.dictionaries(TEXTS, st.integers())), min_size=1, max_size=3))
def test_an_answer_that_is_sent_back_is_the_same(calls: list[tuple[str, dict[str, int]]]) -> None:
    """encode(read(x)) = x, signatures and all."""
    parts: list[dict[str, Any]] = [
        {"text": "hm", "thought": True, "thoughtSignature": "t"},
        {"text": "Well."},
        *({"functionCall": {"name": name, "args": args, "id": f"c{n}"}} for n, (name, args) in enumerate(calls)),
        {"text": "", "thoughtSignature": "e"},
    ]
    parts[2]["thoughtSignature"] = "s"
    body = dumps({"candidates": [{"content": model(*parts), "finishReason": "STOP"}]})
    reply: Any = DIALECT.read_reply(CHAT, body, GOOGLE)
    results = [result("r", f"c{n}") for n in range(len(calls))]
    written = encoded(ask(HI, assistant(*reply.blocks), *results), signatures={"t", "s", "e"})
    assert written["contents"][1] == model(*parts)


def test_errors_are_never_read_as_more_than_they_say() -> None:
    assert DIALECT.read_error(500, {"content-type": "text/html"}, b"<p>x</p>") == WireError()
    assert len(DIALECT.read_error(400, {}, refusal("x" * 9999)).message) == 2000
