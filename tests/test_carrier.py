"""Which of OpenAI's APIs carries a request (providers.md 2.1), and what refusals teach of each."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_bridge.dialects.base import Profile
from ollama_bridge.errors import WireError
from ollama_bridge.policy.carrier import Carriage, carrier
from ollama_bridge.policy.families import EFFORT_WITH_TOOLS, REASONING_WITH_TOOLS, family_profile, on_responses
from ollama_bridge.policy.repair import Learned, learn
from ollama_bridge.values import ChatRequest, EmbedRequest, Tool

OFFERED = Profile(responses=frozenset({"think"}))
TOOLS = [Tool("f")]


def chosen(model: str, spoken: str = "ollama", api: str = "auto", default: Any = None, **asked: Any) -> str:
    profile = family_profile(OFFERED, "openai", model)
    return carrier(spoken, "openai", ChatRequest("m", **asked), profile, api, default)


RULE: list[tuple[str, dict[str, Any], str]] = [
    # the thoughts of a model come only this way
    ("gpt-6-sol", {}, "openai"),
    ("gpt-6-sol", {"think": True}, "responses"),
    ("gpt-6-sol", {"think": "low"}, "responses"),
    ("gpt-6-sol", {"think": False}, "openai"),
    ("gpt-6-sol", {"default": True}, "responses"),
    ("gpt-6-sol", {"default": True, "think": False}, "openai"),
    ("gpt-4o", {"think": True}, "openai"),
    ("gpt-5-chat", {"think": True}, "openai"),
    # on its own wire a client gets the answer as it is
    ("gpt-6-sol", {"spoken": "openai", "think": True}, "openai"),
    ("gpt-6-sol", {"spoken": "openai", "tools": TOOLS}, "responses"),
    # tools beside reasoning
    ("gpt-6-sol", {"tools": TOOLS}, "responses"),
    ("gpt-6-sol", {"tools": TOOLS, "think": False}, "openai"),
    ("gpt-5.6-mini", {"tools": TOOLS}, "responses"),
    ("gpt-5.5", {"tools": TOOLS}, "responses"),
    ("gpt-5.4", {"tools": TOOLS}, "openai"),
    ("gpt-5.4", {"tools": TOOLS, "think": "high"}, "responses"),
    ("gpt-5.4", {"tools": TOOLS, "default": "high"}, "responses"),
    ("gpt-5.5-chat-latest", {"tools": TOOLS}, "openai"),
    ("gpt-5.1", {"tools": TOOLS}, "openai"),
    ("gpt-5", {"tools": TOOLS}, "openai"),
    ("o3", {"tools": TOOLS}, "openai"),
    ("gpt-4o", {"tools": TOOLS}, "openai"),
    # tools at all
    ("gpt-6-astra", {"tools": TOOLS, "think": False}, "responses"),
    ("gpt-6-astra-2026-09-01", {"tools": TOOLS}, "responses"),
    ("gpt-6.1-sol", {"tools": TOOLS, "think": False}, "responses"),
    ("gpt-6-astra", {}, "openai"),
    # always
    ("gpt-5-pro", {}, "responses"),
    ("gpt-5.4-pro-2026-03-01", {"think": False}, "responses"),
    ("o3-pro", {}, "responses"),
    ("gpt-5.3-codex", {}, "responses"),
    ("codex-mini-latest", {}, "responses"),
    # the operator's word
    ("gpt-4o", {"api": "responses"}, "responses"),
    ("gpt-5-pro", {"api": "chat", "tools": TOOLS, "think": True}, "openai"),
    # a client of that API itself, and one that wants the middle of a text
    ("gpt-4o", {"spoken": "responses"}, "responses"),
    ("gpt-4o", {"spoken": "responses", "api": "chat"}, "openai"),
    ("gpt-5-pro", {"suffix": "x"}, "openai"),
]


@pytest.mark.parametrize(("model", "asked", "wanted"), RULE, ids=[f"{m}-{'-'.join(a) or 'plain'}" for m, a, _ in RULE])
def test_the_rule(model: str, asked: dict[str, Any], wanted: str) -> None:
    assert chosen(model, **asked) == wanted


@pytest.mark.parametrize("model", ["gpt-6-sol", "gpt-6-astra", "gpt-5-pro", "gpt-5.3-codex"])
def test_a_service_that_does_not_offer_it_is_never_asked(model: str) -> None:
    profile = family_profile(Profile(), "openai", model)
    assert carrier("ollama", "openai", ChatRequest("m", tools=TOOLS, think=True), profile) == "openai"


def test_names_of_openais_models_mean_nothing_elsewhere() -> None:
    assert family_profile(OFFERED, "xai", "codex-pro").responses == OFFERED.responses


def test_embeddings() -> None:
    request = EmbedRequest("m", ["a"])
    assert carrier("ollama", "openai", request, OFFERED, "responses") == "openai"
    assert carrier("ollama", "openai", request, Profile(embeds_by="feature-extraction")) == "feature-extraction"


def test_the_profile_there() -> None:
    chat = family_profile(OFFERED, "openai", "gpt-5.6")
    there = on_responses(chat, "gpt-5.6")
    assert {EFFORT_WITH_TOOLS, REASONING_WITH_TOOLS}.isdisjoint(there.rejects)
    assert {"seed", "presence_penalty", "frequency_penalty"} <= there.rejects
    assert (there.efforts[-1], chat.efforts[-1], there.max_stops, there.keeps) == ("max", "xhigh", 0, True)
    assert on_responses(family_profile(OFFERED, "openai", "gpt-5.2"), "gpt-5.2").efforts[-1] == "xhigh"
    assert not on_responses(family_profile(OFFERED, "openai", "gpt-4o"), "gpt-4o").keeps


# -- lessons -----------------------------------------------------------------------------------------------------------

CHAT_BODY = {"model": "m", "messages": [], "tools": [{}], "stream": True}
RESPONSES_BODY = {
    "model": "m",
    "input": [],
    "stream": True,
    "text": {"format": {"type": "json_schema"}},
    "reasoning": {},
}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "This model is only supported in v1/responses and not in v1/chat/completions."),
        (400, "Function tools with reasoning_effort are not supported here. Use the Responses API instead."),
    ],
)
def test_a_model_may_send_us_to_the_other_api(status: int, words: str) -> None:
    repair = learn(OFFERED, WireError(words), status, CHAT_BODY)
    assert repair is not None
    assert (repair.name, "always" in repair.profile.responses) == ("api", True)
    assert learn(Profile(), WireError(words), status, {"model": "m", "messages": []}) is None


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_service_may_not_have_it_after_all(status: int) -> None:
    repair = learn(OFFERED, WireError("Not Found"), status, RESPONSES_BODY)
    assert repair is not None and repair.profile.responses == frozenset()


@pytest.mark.parametrize(
    ("error", "body"),
    [
        (WireError("The model `x` does not exist", code="model_not_found"), RESPONSES_BODY),
        (WireError("Not Found"), {"model": "m", "input": ["text to embed"]}),
        (WireError("Not Found"), CHAT_BODY),
    ],
    ids=["no such model", "embeddings", "chat"],
)
def test_other_things_may_be_missing(error: WireError, body: dict[str, Any]) -> None:
    assert learn(OFFERED, error, 404, body) is None


REFUSALS: dict[str, tuple[WireError, dict[str, Any], Any]] = {
    "summary": (
        WireError("Your organization must be verified.", param="reasoning.summary", code="unsupported_value"),
        {"reasoning": {"summary": "auto"}},
        lambda profile: "reasoning.summary" in profile.rejects and "think" not in profile.rejects,
    ),
    "effort": (
        WireError("Unsupported value: 'max'. Supported values are: 'low', 'high'.", param="reasoning.effort"),
        {"reasoning": {"effort": "max"}},
        lambda profile: profile.efforts == ("low", "high"),
    ),
    "sealed reasoning": (
        WireError("Encrypted content is not supported with this model.", param="include"),
        {"include": ["reasoning.encrypted_content"]},
        lambda profile: "include" in profile.rejects,
    ),
    "schema": (
        WireError("'text.format' of type 'json_schema' is not supported.", param="text.format"),
        {"text": {"format": {"type": "json_schema"}}},
        lambda profile: profile.formats == frozenset({"json"}),
    ),
    "limit": (
        WireError(
            "Unsupported parameter: 'max_output_tokens'", param="max_output_tokens", code="unsupported_parameter"
        ),
        {"max_output_tokens": 99},
        lambda profile: "max_tokens" in profile.rejects,
    ),
    "instructions": (
        WireError("Unsupported parameter: 'instructions'", param="instructions", code="unsupported_parameter"),
        {"instructions": "x"},
        lambda profile: "instructions" in profile.rejects,
    ),
}


@pytest.mark.parametrize(("error", "sent", "holds"), REFUSALS.values(), ids=REFUSALS)
def test_refusals_of_the_responses_api_teach(error: WireError, sent: dict[str, Any], holds: Any) -> None:
    repair = learn(OFFERED, error, 400, {"model": "m", "input": [], "stream": False, **sent})
    assert repair is not None and holds(repair.profile)


# -- both APIs of one target -------------------------------------------------------------------------------------------

TARGET = ("http://x/v1", "gpt-6-sol")


def going(learned: Learned, *wanted: str) -> Carriage:
    """A request that goes by Responses when its profile has any of these words."""

    def choose(profile: Profile) -> str:
        return "responses" if profile.responses & {"always", *wanted} else "openai"

    return Carriage(learned, TARGET, OFFERED, choose)


def test_what_one_api_refuses_the_other_may_take() -> None:
    learned = Learned(lambda: 0.0)
    way = going(learned, "think")
    assert way.dialect == "responses"
    way.repaired(way.profile.with_(rejects=way.profile.rejects | {"temperature"}))
    assert way.dialect == "responses" and way.remember()
    assert "temperature" in going(learned, "think").profile.rejects
    assert "temperature" not in going(learned).profile.rejects
    assert not way.remember(), "known already"


def test_the_way_to_the_other_api_is_remembered() -> None:
    learned = Learned(lambda: 0.0)
    way = going(learned)
    assert way.dialect == "openai"
    way.repaired(way.profile.with_(rejects=frozenset({"logprobs"})))
    assert way.dialect == "openai"
    way.repaired(way.profile.with_(responses=way.profile.responses | {"always"}))
    assert way.dialect == "responses" and "logprobs" in way.profile.rejects
    assert way.remember()
    assert going(learned).dialect == "responses"


def test_the_way_back_is_remembered() -> None:
    learned = Learned(lambda: 0.0)
    way = going(learned, "think")
    way.repaired(way.profile.with_(responses=frozenset()))
    assert way.dialect == "openai" and way.profile == OFFERED.with_(responses=frozenset())
    assert way.remember()
    assert going(learned, "think").dialect == "openai"


def test_nothing_is_remembered_of_a_request_that_was_not_answered() -> None:
    learned = Learned(lambda: 0.0)
    going(learned).repaired(OFFERED.with_(max_stops=0))
    assert len(learned) == 0
