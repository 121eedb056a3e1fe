"""The Responses dialect, outbound: what is asked of a provider, and how its refusals are read."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.responses_wire import check_responses
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.dialects.base import CHAT, Profile
from ollama_bridge.dialects.outbound_only import OutboundOnly
from ollama_bridge.dialects.responses import ResponsesDialect
from ollama_bridge.dialects.responses.encode import encode_chat
from ollama_bridge.policy.families import family_profile, on_responses
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

OFFERED = Profile(responses=frozenset({"think"}), max_tokens_field="max_completion_tokens")
SOL = on_responses(family_profile(OFFERED, "openai", "gpt-6-sol"), "gpt-6-sol")
ASTRA = on_responses(family_profile(OFFERED, "openai", "gpt-6-astra"), "gpt-6-astra")
OPT_IN = on_responses(family_profile(OFFERED, "openai", "gpt-5.4"), "gpt-5.4")
PLAIN = on_responses(family_profile(OFFERED, "openai", "gpt-4o"), "gpt-4o")

HI = Message("user", [Text("Hi")])
WEATHER = Tool("get_weather", "of a place", {"type": "object", "properties": {"city": {"type": "string"}}})
SEALED = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}


def asked(*messages: Message, **more: Any) -> ChatRequest:
    return ChatRequest("m", list(messages) or [HI], **more)


def encoded(request: ChatRequest, profile: Profile = SOL) -> dict[str, Any]:
    body, _ = encode_chat(request, "gpt-6-sol", profile)
    return body


def lost(request: ChatRequest, profile: Profile = SOL) -> list[str]:
    return [loss.name for loss in encode_chat(request, "gpt-6-sol", profile)[1]]


def test_the_least_that_is_said() -> None:
    assert encoded(asked(), PLAIN) == {
        "model": "gpt-6-sol",
        "stream": False,
        "store": False,
        "input": [{"role": "user", "content": "Hi"}],
    }


def test_it_is_sent_as_a_chat() -> None:
    assert ResponsesDialect().encode(asked(), "gpt-6-sol", SOL)[0] == CHAT


# -- the conversation --------------------------------------------------------------------------------------------------

CONVERSATIONS: dict[str, tuple[tuple[Message, ...], dict[str, Any]]] = {
    "system": (
        (Message("system", [Text("Be brief.")]), HI),
        {"instructions": "Be brief.", "input": [{"role": "user", "content": "Hi"}]},
    ),
    "two at the beginning": (
        (Message("system", [Text("Be brief.")]), Message("developer", [Text("Be kind.")]), HI),
        {"instructions": "Be brief.\n\nBe kind.", "input": [{"role": "user", "content": "Hi"}]},
    ),
    "system in the middle": (
        (HI, Message("developer", [Text("Now in French.")])),
        {"input": [{"role": "user", "content": "Hi"}, {"role": "system", "content": "Now in French."}]},
    ),
    "empty system": ((Message("system", [Text("")]), HI), {"input": [{"role": "user", "content": "Hi"}]}),
    "turns": (
        (HI, Message("assistant", [Text("Hel"), Text("lo")]), Message("user", [Text("Again")])),
        {
            "input": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": "Again"},
            ]
        },
    ),
    "pictures": (
        (
            Message(
                "user", [Text("What?"), Media(mime="image/jpeg", data="AAAA"), Media(url="http://x/y", detail="low")]
            ),
        ),
        {
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What?"},
                        {"type": "input_image", "image_url": "data:image/jpeg;base64,AAAA", "detail": "auto"},
                        {"type": "input_image", "image_url": "http://x/y", "detail": "low"},
                    ],
                }
            ]
        },
    ),
    "a call and its result": (
        (
            Message("assistant", [Text("Let me look."), ToolCall("get_weather", '{"city":"Oslo"}', "c1")]),
            Message("tool", [ToolResult([Text("3"), Text("degrees")], "c1")]),
        ),
        {
            "input": [
                {"role": "assistant", "content": "Let me look."},
                {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": '{"city":"Oslo"}'},
                {"type": "function_call_output", "call_id": "c1", "output": "3\ndegrees"},
            ]
        },
    ),
    "a call without arguments, a result with a picture": (
        (
            Message("assistant", [ToolCall("look", "", "c1")]),
            Message("tool", [ToolResult([Text("This:"), Media(mime="image/png", data="AAAA")], "c1")]),
        ),
        {
            "input": [
                {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
                {
                    "type": "function_call_output",
                    "call_id": "c1",
                    "output": [
                        {"type": "input_text", "text": "This:"},
                        {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
                    ],
                },
            ]
        },
    ),
    "reasoning that was sealed goes back before its call": (
        (
            Message("assistant", [Thinking("Hm.", vendor={"responses": SEALED}), ToolCall("look", "{}", "c1")]),
            Message("tool", [ToolResult([Text("ok")], "c1")]),
        ),
        {
            "input": [
                SEALED,
                {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "ok"},
            ]
        },
    ),
    "thoughts of others are not told": (
        (HI, Message("assistant", [Thinking("Hm.", vendor={"anthropic": {"signature": "s"}}), Text("Hello")]), HI),
        {
            "input": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": "Hi"},
            ]
        },
    ),
    "reasoning that nothing follows is left out": (
        (HI, Message("assistant", [Text("Hello"), Thinking("", vendor={"responses": SEALED})]), HI),
        {
            "input": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": "Hi"},
            ]
        },
    ),
    "an item of the wire's own": (
        (HI, Message("assistant", [Opaque("responses", {"type": "compaction", "id": "x"}), Text("Hello")])),
        {
            "input": [
                {"role": "user", "content": "Hi"},
                {"type": "compaction", "id": "x"},
                {"role": "assistant", "content": "Hello"},
            ]
        },
    ),
}


@pytest.mark.parametrize(("messages", "wanted"), CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_conversation(messages: tuple[Message, ...], wanted: dict[str, Any]) -> None:
    body, losses = encode_chat(asked(*messages), "gpt-6-sol", PLAIN)
    assert {name: body[name] for name in ("instructions", "input") if name in body} == wanted
    assert losses == []


def test_a_service_without_instructions_is_told_in_a_message() -> None:
    profile = PLAIN.with_(rejects=PLAIN.rejects | {"instructions"})
    body = encoded(asked(Message("system", [Text("Be brief.")]), HI), profile)
    assert "instructions" not in body
    assert body["input"][0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("block", "name"),
    [
        (Opaque("anthropic", {"type": "redacted_thinking"}), "anthropic content"),
        (Media("audio", "audio/wav", "AAAA"), "audio"),
    ],
    ids=["opaque", "audio"],
)
def test_what_only_others_know_is_a_loss(block: Any, name: str) -> None:
    request = asked(Message("user", [Text("Hi"), block]))
    assert lost(request) == [name]
    assert encoded(request)["input"] == [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]


# -- parameters --------------------------------------------------------------------------------------------------------


def test_tools_are_flat_and_not_strict() -> None:
    request = asked(tools=[WEATHER, Tool("now")], tool_choice={"name": "now"}, parallel_tool_calls=False)
    body = encoded(request)
    assert body["tools"] == [
        {
            "type": "function",
            "name": "get_weather",
            "description": "of a place",
            "parameters": WEATHER.parameters,
            "strict": False,
        },
        {"type": "function", "name": "now", "parameters": {"type": "object", "properties": {}}, "strict": False},
    ]
    assert body["tool_choice"] == {"type": "function", "name": "now"}
    assert body["parallel_tool_calls"] is False


def test_a_tool_that_was_meant_strictly_stays_so() -> None:
    strict = Tool("now", None, {"type": "object"}, {"openai": {"strict": True}})
    assert encoded(asked(tools=[strict]))["tools"][0]["strict"] is True


SEALS = {"include": ["reasoning.encrypted_content"]}
THOUGHT: dict[str, tuple[Profile, Any, dict[str, Any], list[str]]] = {
    "unsaid": (SOL, None, SEALS, []),
    "on": (SOL, True, {**SEALS, "reasoning": {"summary": "auto"}}, []),
    "off": (SOL, False, {**SEALS, "reasoning": {"effort": "none"}}, []),
    "high": (SOL, "high", {**SEALS, "reasoning": {"effort": "high", "summary": "auto"}}, []),
    "max": (SOL, "max", {**SEALS, "reasoning": {"effort": "max", "summary": "auto"}}, []),
    "minimal is low": (SOL, "minimal", {**SEALS, "reasoning": {"effort": "low", "summary": "auto"}}, []),
    "cannot be off": (ASTRA, False, {**SEALS, "reasoning": {"effort": "low"}}, []),
    "opt-in unsaid": (OPT_IN, None, SEALS, []),
    "opt-in on": (OPT_IN, True, {**SEALS, "reasoning": {"effort": "medium", "summary": "auto"}}, []),
    "opt-in off": (OPT_IN, False, SEALS, []),
    "cannot think": (PLAIN, True, {}, ["think"]),
    "cannot think, off": (PLAIN, False, {}, []),
    "no summaries": (
        SOL.with_(rejects=SOL.rejects | {"reasoning.summary"}),
        "high",
        {**SEALS, "reasoning": {"effort": "high"}},
        [],
    ),
    "not sealed": (SOL.with_(rejects=SOL.rejects | {"include"}), True, {"reasoning": {"summary": "auto"}}, []),
}


@pytest.mark.parametrize(("profile", "think", "wanted", "losses"), THOUGHT.values(), ids=THOUGHT)
def test_thinking(profile: Profile, think: Any, wanted: dict[str, Any], losses: list[str]) -> None:
    body = encoded(asked(think=think), profile)
    assert {name: body[name] for name in ("reasoning", "include") if name in body} == wanted
    assert lost(asked(think=think), profile) == losses


def test_a_schema_is_asked_for_flat() -> None:
    body = encoded(asked(format=Format({"type": "object"}, "point", True)))
    assert body["text"] == {
        "format": {"type": "json_schema", "name": "point", "schema": {"type": "object"}, "strict": True}
    }


@pytest.mark.parametrize("said", [True, False], ids=["said", "unsaid"])
def test_json_is_said_where_the_api_looks_for_it(said: bool) -> None:
    """It looks at the input alone: what the instructions say does not count."""
    user = Message("user", [Text("As JSON" if said else "Hi")])
    body = encoded(asked(Message("system", [Text("Answer with JSON.")]), user, format=Format()))
    assert body["text"] == {"format": {"type": "json_object"}}
    assert ("json" in body["input"][0]["content"].lower()) is True
    assert len(body["input"]) == (1 if said else 2)


def test_sampling() -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, max_tokens=99)
    body = encoded(asked(sampling=sampling), PLAIN)
    assert (body["temperature"], body["top_p"], body["max_output_tokens"]) == (0.5, 0.9, 99)


@pytest.mark.parametrize(("limit", "sent", "losses"), [(-1, None, []), (5, 16, ["max_tokens"]), (16, 16, [])])
def test_a_limit_below_the_least_is_raised_and_told(limit: int, sent: int | None, losses: list[str]) -> None:
    request = asked(sampling=Sampling(max_tokens=limit))
    assert encoded(request, PLAIN).get("max_output_tokens") == sent
    assert lost(request, PLAIN) == losses


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(seed=7),
        Sampling(presence_penalty=0.5),
        Sampling(frequency_penalty=0.5),
        Sampling(top_k=4),
        Sampling(min_p=0.1),
        Sampling(repeat_penalty=1.1),
        Sampling(stop=["END"]),
        Sampling(extra={"typical_p": 0.7}),
    ],
    ids=["seed", "presence_penalty", "frequency_penalty", "top_k", "min_p", "repeat_penalty", "stop", "typical_p"],
)
def test_what_the_api_does_not_have_is_a_loss(sampling: Sampling, request: pytest.FixtureRequest) -> None:
    assert lost(asked(sampling=sampling), PLAIN) == [request.node.callspec.id]
    assert encoded(asked(sampling=sampling), PLAIN).keys() == encoded(asked(), PLAIN).keys()


def test_sampling_is_not_sent_while_it_reasons() -> None:
    assert lost(asked(sampling=Sampling(temperature=0.5))) == ["temperature"]
    assert lost(asked(sampling=Sampling(temperature=0.5), think=False)) == []


def test_logprobs() -> None:
    body = encoded(asked(logprobs=True, top_logprobs=3), PLAIN)
    assert body["include"] == ["message.output_text.logprobs"]
    assert body["top_logprobs"] == 3
    assert lost(asked(logprobs=True)) == ["logprobs"]


def test_words_of_the_other_api() -> None:
    vendor = {"openai": {"user": "u", "verbosity": "low", "logit_bias": {"1": 2}, "metadata": {"a": "b"}}}
    request = asked(vendor=vendor, format=Format({"type": "object"}), n=2)
    body = encoded(request, PLAIN)
    assert (body["user"], body["metadata"], body["text"]["verbosity"]) == ("u", {"a": "b"}, "low")
    assert body["text"]["format"]["type"] == "json_schema"
    assert sorted(lost(request, PLAIN)) == ["logit_bias", "n"]


def test_extra_body() -> None:
    profile = PLAIN.with_(extra_body={"service_tier": "flex", "text": {"verbosity": "high"}, "model": "no"})
    body = encoded(asked(format=Format({"type": "object"})), profile)
    assert (body["service_tier"], body["model"]) == ("flex", "gpt-6-sol")
    assert body["text"].keys() == {"verbosity", "format"}


def test_what_a_completion_says_beside_is_lost() -> None:
    assert lost(asked(raw=True, template="x", suffix="y")) == ["raw", "template", "suffix"]


# -- anything at all ---------------------------------------------------------------------------------------------------

_texts = st.text("ab JSON\n🙂\x85", max_size=12)
_blocks = st.one_of(
    st.builds(Text, _texts),
    st.builds(Media, st.just("image"), st.just("image/png"), st.just("AAAA")),
    st.builds(Thinking, _texts, st.none(), st.sampled_from([{}, {"responses": SEALED}])),
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """As policy/pairing leaves them: every call answered right after its turn."""
    messages = []
    for turn in range(draw(st.integers(1, 4))):
        role = draw(st.sampled_from(["user", "system", "assistant"]))
        blocks = [b for b in draw(st.lists(_blocks, max_size=3)) if role == "user" or not isinstance(b, Media)]
        if role != "assistant":
            blocks = [b for b in blocks if not isinstance(b, Thinking)]
        calls = draw(st.integers(0, 2)) if role == "assistant" else 0
        messages.append(Message(role, [*blocks, *(ToolCall("f", "{}", f"c{turn}_{i}") for i in range(calls))]))
        messages += [Message("tool", [ToolResult([Text("r")], f"c{turn}_{i}")]) for i in range(calls)]
    return [*messages, HI]


@given(
    conversations(),
    st.sampled_from([None, True, False, "low", "max"]),
    st.sampled_from([None, Format(), Format({"type": "object"})]),
    st.sampled_from([SOL, ASTRA, OPT_IN, PLAIN]),
    st.lists(st.just(WEATHER), max_size=1),
    st.integers(-1, 40),
)
def test_the_service_takes_whatever_is_asked(
    messages: list[Message], think: Any, form: Format | None, profile: Profile, tools: list[Tool], limit: int
) -> None:
    request = asked(*messages, think=think, format=form, tools=tools, sampling=Sampling(max_tokens=limit, seed=3))
    check_responses(encoded(request, profile))


# -- refusals, and the half that it does not have ----------------------------------------------------------------------


def test_a_refusal_is_read_as_the_other_apis() -> None:
    body = b'{"error":{"message":"no","type":"invalid_request_error","param":"reasoning.summary","code":"x"}}'
    error = ResponsesDialect().read_error(400, {"retry-after": "3"}, body)
    assert (error.message, error.param, error.code, error.retry_after) == ("no", "reasoning.summary", "x", 3.0)


@pytest.mark.parametrize("name", [n for n in vars(OutboundOnly) if not n.startswith("_") and n != "name"])
def test_no_client_is_served(name: str) -> None:
    method = getattr(ResponsesDialect(), name)
    arguments = method.__code__.co_argcount - 1
    with pytest.raises(TypeError, match=r"'responses' is spoken .* providers only"):
        method(*[None] * arguments)
