"""What refusals teach, in the words of many services (providers.md 2.6)."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_bridge.dialects.base import Profile
from ollama_bridge.errors import WireError
from ollama_bridge.policy.adapt import adapt
from ollama_bridge.policy.families import (
    DEVELOPER_ROLE,
    JSON_UNSAID,
    OTHER_LIMIT,
    PREFILL,
    REASONING_WITH_TOOLS,
    REPEATED_ROLES,
)
from ollama_bridge.policy.repair import Learned, learn
from ollama_bridge.values import ChatRequest, Format, Message, Sampling, Text, Tool

MESSAGES = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
PLAIN = Profile()


def error(message: str, code: str | None = None, param: str | None = None) -> WireError:
    return WireError(message, "invalid_request_error", code, param)


REPAIRS: dict[str, tuple[WireError, dict[str, Any], Profile]] = {
    "max_tokens -> max_completion_tokens (OpenAI)": (
        error(
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "unsupported_parameter",
            "max_tokens",
        ),
        {"max_tokens": 5},
        PLAIN.with_(max_tokens_field="max_completion_tokens", rejects=frozenset({OTHER_LIMIT})),
    ),
    "max_completion_tokens -> max_tokens (an older server)": (
        error("body.max_completion_tokens: Extra inputs are not permitted"),
        {"max_completion_tokens": 5, "max_tokens": 5},
        PLAIN.with_(rejects=frozenset({OTHER_LIMIT})),
    ),
    "temperature fixed (OpenAI)": (
        error(
            "Unsupported value: 'temperature' does not support 0.5 with this model. "
            "Only the default (1) value is supported.",
            "unsupported_value",
            "temperature",
        ),
        {"temperature": 0.5},
        PLAIN.with_(rejects=frozenset({"temperature"})),
    ),
    "temperature fixed (Moonshot)": (
        error("invalid temperature: only 1 is allowed for this model"),
        {"temperature": 0.5},
        PLAIN.with_(rejects=frozenset({"temperature"})),
    ),
    "a name without quotes": (
        error("logprobs is not supported with this model"),
        {"logprobs": True, "top_logprobs": 2},
        PLAIN.with_(rejects=frozenset({"logprobs"})),
    ),
    "top_logprobs means logprobs": (
        error("`top_logprobs` is not supported"),
        {"logprobs": True, "top_logprobs": 2},
        PLAIN.with_(rejects=frozenset({"logprobs", "top_logprobs"})),
    ),
    "FastAPI's list (Mistral)": (
        error("body.random_seed: Extra inputs are not permitted"),
        {"random_seed": 1},
        PLAIN.with_(rejects=frozenset({"seed", "random_seed"})),
    ),
    "stop is found by the gateway": (
        error("Unsupported parameter: 'stop' is not supported with this model.", "unsupported_parameter", "stop"),
        {"stop": ["x"]},
        PLAIN.with_(max_stops=0),
    ),
    "stream_options": (
        error("Unrecognized request argument supplied: stream_options"),
        {"stream": True, "stream_options": {"include_usage": True}},
        PLAIN.with_(stream_usage=False, rejects=frozenset({"stream_options"})),
    ),
    "a schema becomes words": (
        error("Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."),
        {"response_format": SCHEMA},
        PLAIN.with_(formats=frozenset({"json"})),
    ),
    "json mode is not known": (
        error("'response_format.type' json_object is not supported", None, "response_format"),
        {"response_format": {"type": "json_object"}},
        PLAIN.with_(formats=frozenset({"schema"})),
    ),
    "the word JSON": (
        error("'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
              None, "messages"),
        {"response_format": {"type": "json_object"}},
        PLAIN.with_(rejects=frozenset({JSON_UNSAID})),
    ),
    "efforts listed (OpenAI)": (
        error(
            "Unsupported value: 'minimal' is not supported with the 'gpt-5.6' model. "
            "Supported values are: 'none', 'low', 'medium', 'high', and 'xhigh'.",
            "unsupported_value",
            "reasoning_effort",
        ),
        {"reasoning_effort": "minimal"},
        PLAIN.with_(efforts=("low", "medium", "high", "xhigh"), think_off=True),
    ),
    "efforts listed without none": (
        error("Invalid value: 'none'. Supported values are: 'low' and 'high'.", "invalid_value", "reasoning_effort"),
        {"reasoning_effort": "none"},
        PLAIN.with_(efforts=("low", "high"), think_off=False),
    ),
    "efforts listed (Groq)": (
        error("`reasoning_effort` must be one of `none` or `default`"),
        {"reasoning_effort": "medium"},
        PLAIN.with_(efforts=("default",), think_off=True),
    ),
    "efforts listed before the verb": (
        error("reasoning_effort: only low and high are supported"),
        {"reasoning_effort": "medium"},
        PLAIN.with_(efforts=("low", "high"), think_off=False),
    ),
    "effort none, nothing listed": (
        error("'none' is not supported with this model", "unsupported_value", "reasoning_effort"),
        {"reasoning_effort": "none"},
        PLAIN.with_(think_off=False),
    ),
    "an effort, nothing listed": (
        error("'max' is not supported", "unsupported_value", "reasoning_effort"),
        {"reasoning_effort": "max"},
        PLAIN.with_(efforts=("minimal", "low", "medium", "high", "xhigh")),
    ),
    "OpenRouter's reasoning": (
        error("reasoning.effort must be one of low, high"),
        {"reasoning": {"effort": "medium"}},
        PLAIN.with_(efforts=("low", "high"), think_off=False),
    ),
    "the model does not reason": (
        error("Unrecognized request argument supplied: reasoning_effort", "unknown_parameter", "reasoning_effort"),
        {"reasoning_effort": "none"},
        PLAIN.with_(rejects=frozenset({"think", "reasoning_effort"})),
    ),
    "tools beside an effort": (
        error(
            "Function tools with reasoning_effort are not supported for gpt-6-luna in /v1/chat/completions. "
            "To use function tools, use /v1/responses or set reasoning_effort to 'none'.",
            None,
            "reasoning_effort",
        ),
        {"reasoning_effort": "low", "tools": [{}]},
        PLAIN.with_(reasons_by_default=True, rejects=frozenset({REASONING_WITH_TOOLS})),
    ),
    "a forced tool (DeepSeek)": (
        error("deepseek-reasoner does not support this tool_choice"),
        {"tool_choice": "required", "tools": [{}]},
        PLAIN.with_(rejects=frozenset({"tool_choice"})),
    ),
    "the longer of two names": (
        error("parallel_tool_calls is not supported"),
        {"tool_choice": "auto", "parallel_tool_calls": False},
        PLAIN.with_(rejects=frozenset({"parallel_tool_calls"})),
    ),
    "a name of the client's own": (
        error("Unknown parameter: 'verbosity'.", "unknown_parameter", "verbosity"),
        {"verbosity": "low"},
        PLAIN.with_(rejects=frozenset({"verbosity"})),
    ),
    "system is called developer": (
        error("Unsupported value: 'messages[0].role' does not support 'system' with this model.", "unsupported_value",
              "messages[0].role"),
        {},
        PLAIN.with_(system_role="developer"),
    ),
    "roles must alternate": (
        error("Conversation roles must alternate user/assistant/user/assistant/..."),
        {},
        PLAIN.with_(rejects=frozenset({REPEATED_ROLES})),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("refused", "sent", "expected"), REPAIRS.values(), ids=REPAIRS.keys())
@pytest.mark.parametrize("status", [400, 422])
def test_learns(refused: WireError, sent: dict[str, Any], expected: Profile, status: int) -> None:
    repair = learn(PLAIN, refused, status, {"model": "m", "messages": MESSAGES, **sent})
    assert repair is not None
    assert repair.profile == expected
    assert repair.name and repair.words


CLAUDE = Profile(reasoning="adaptive", keeps=True, efforts=("low", "medium", "high", "xhigh", "max"))
CLAUDES: dict[str, tuple[WireError, dict[str, Any], Profile]] = {
    "sampling": (
        error("temperature: Extra inputs are not permitted", None, "temperature"),
        {"temperature": 0.5},
        CLAUDE.with_(rejects=frozenset({"temperature"})),
    ),
    "thinking cannot be off": (
        error('"thinking.type.disabled" is not supported for this model.'),
        {"thinking": {"type": "disabled"}},
        CLAUDE.with_(think_off=False, reasons_by_default=True),
    ),
    "nor off between tools": (
        error("thinking: 'between_tools' is not supported for this model."),
        {"thinking": {"type": "between_tools"}},
        CLAUDE.with_(think_off=False, reasons_by_default=True),
    ),
    "thoughts have a budget": (
        error('"thinking.type.adaptive" is not supported for this model.'),
        {"thinking": {"type": "adaptive"}},
        CLAUDE.with_(reasoning="budget"),
    ),
    "an effort that is not among those": (
        error("output_config.effort: 'max' is not supported. Supported values: low, medium, high.", None,
              "output_config.effort"),
        {"output_config": {"effort": "max", "format": {}}},
        CLAUDE.with_(efforts=("low", "medium", "high")),
    ),
    "no efforts": (
        error("output_config.effort: Extra inputs are not permitted", None, "output_config.effort"),
        {"output_config": {"effort": "max"}},
        CLAUDE.with_(rejects=frozenset({"think", "output_config"})),
    ),
    "no schemas": (
        error("output_config.format: Extra inputs are not permitted", None, "output_config.format"),
        {"output_config": {"effort": "max", "format": {}}},
        CLAUDE.with_(formats=frozenset({"json"})),
    ),
    "no forced tool": (
        error("tool_choice: forcing tool use is not supported for this model.", None, "tool_choice"),
        {"tool_choice": {"type": "any"}},
        CLAUDE.with_(rejects=frozenset({"tool_choice"})),
    ),
    "stop strings": (
        error("stop_sequences: Extra inputs are not permitted", None, "stop_sequences"),
        {"stop_sequences": ["x"]},
        CLAUDE.with_(max_stops=0),
    ),
    "a limit beyond the model's own": (
        error("max_tokens: 128000 > 64000, which is the maximum allowed number of output tokens for claude-x", None,
              "max_tokens"),
        {"max_tokens": 128000},
        CLAUDE.with_(max_output=64000),
    ),
    "words of its own": (
        error("This model does not support assistant message prefill. It must end with a user message."),
        {},
        CLAUDE.with_(rejects=frozenset({PREFILL})),
    ),
    "thoughts of another conversation": (
        error("messages.1.content.0: Invalid `signature` in `thinking` block", None, "messages.1.content.0"),
        {},
        CLAUDE.with_(keeps=False),
    ),
    "thoughts that were changed": (
        error("`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified."),
        {},
        CLAUDE.with_(keeps=False),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("refused", "sent", "expected"), CLAUDES.values(), ids=CLAUDES.keys())
def test_learns_of_claude(refused: WireError, sent: dict[str, Any], expected: Profile) -> None:
    body = {"model": "m", "messages": MESSAGES, "max_tokens": 9, "stream": True, **sent}
    repair = learn(CLAUDE, refused, 400, body)
    assert repair is not None and repair.profile == expected
    assert repair.name and repair.words


def test_thoughts_without_a_budget() -> None:
    refused = error('"thinking.type.enabled" is not supported for this model.')
    repair = learn(CLAUDE.with_(reasoning="budget"), refused, 400, {"thinking": {"type": "enabled"}})
    assert repair is not None and repair.profile == CLAUDE


def test_developer_is_called_system() -> None:
    refused = error("messages.0.role: Input should be 'system', 'user', 'assistant' or 'tool'")
    sent = {"messages": [{"role": "developer", "content": "s"}]}
    repair = learn(Profile(system_role="developer"), refused, 422, sent)
    assert repair is not None
    assert repair.profile == Profile(rejects=frozenset({DEVELOPER_ROLE}))
    # The word is not tried again when the other one is refused as well.
    again = error("messages.0.role does not support 'system'")
    assert learn(repair.profile, again, 422, {"messages": MESSAGES}) is None


def test_an_added_field_is_no_longer_added() -> None:
    profile = Profile(extra_body={"reasoning_format": "parsed", "x": 1})
    refused = error("reasoning_format is not supported with this model")
    repair = learn(profile, refused, 400, {"reasoning_format": "parsed", "x": 1})
    assert repair is not None and repair.profile == Profile(extra_body={"x": 1})


UNTOUCHED: dict[str, tuple[int, WireError, dict[str, Any]]] = {
    "another status": (404, error("Unknown parameter: 'seed'.", "unknown_parameter", "seed"), {"seed": 1}),
    "our own key": (400, error("Incorrect API key provided; 'seed' unsupported"), {"seed": 1}),
    "too long": (
        400,
        error("maximum context length is 8192; max_tokens is not supported", "context_length_exceeded", "messages"),
        {"max_tokens": 5},
    ),
    "content policy": (400, error("content_filter: 'stop' is not allowed"), {"stop": ["x"]}),
    "a value out of range": (
        400,
        error("Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead.",
              "decimal_above_max_value", "temperature"),
        {"temperature": 3},
    ),
    "too many tokens asked for": (
        400, error("max_tokens is too large: 1000. This model supports at most 16 tokens"), {"max_tokens": 1000},
    ),
    "the client's schema": (
        400,
        error("Invalid schema for response_format 'x': 'oneOf' is not permitted.", "invalid_json_schema"),
        {"response_format": SCHEMA},
    ),
    "no tools": (400, error("`tool calling` is not supported with this model"), {"tools": [{}], "temperature": 1}),
    "tools by name": (400, error("unsupported", "unsupported_parameter", "tools"), {"tools": [{}], "temperature": 1}),
    "messages by name": (400, error("no temperature", "unsupported_value", "messages[1].content"), {"temperature": 1}),
    "a name that was not sent": (400, error("Unknown: 'seed'.", "unknown_parameter", "seed"), {"temperature": 1}),
    "a word of the sentence": (400, error("this user is not allowed to do that"), {"user": "u", "n": 1}),
    "an odd place for a system message": (
        400, error("Unexpected role 'system' after role 'assistant'"), {"temperature": 1},
    ),
    "no words at all": (400, error(""), {"temperature": 1}),
}  # fmt: skip


@pytest.mark.parametrize(("status", "refused", "sent"), UNTOUCHED.values(), ids=UNTOUCHED.keys())
def test_leaves_the_rest_to_the_client(status: int, refused: WireError, sent: dict[str, Any]) -> None:
    assert learn(PLAIN, refused, status, {"model": "m", "messages": MESSAGES, **sent}) is None


@pytest.mark.parametrize("first", ["max_tokens", "max_completion_tokens"])
def test_a_limit_refused_under_both_names_is_given_up(first: str) -> None:
    """It must not go back and forth."""
    profile = Profile(max_tokens_field=first)
    for _ in range(2):
        name = profile.max_tokens_field
        repair = learn(profile, error(f"Unknown parameter: '{name}'.", None, name), 400, {name: 5})
        assert repair is not None
        profile = repair.profile
    assert "max_tokens" in profile.rejects
    assert learn(profile, error("Unknown parameter: 'seed'."), 400, {}) is None


def request_of(sent: dict[str, Any]) -> ChatRequest:
    """A client's request that holds something of everything, and the effort and the format that were sent."""
    effort = sent.get("reasoning_effort") or sent.get("reasoning", {}).get("effort")
    asked = sent.get("response_format")
    return ChatRequest(
        "m",
        [Message("system", [Text("s")]), Message("user", [Text("u")]), Message("user", [Text("v")])],
        stream=True,
        tools=[Tool("f", None, {"type": "object", "properties": {}})],
        tool_choice="required",
        sampling=Sampling(temperature=0.5, seed=7, max_tokens=5, stop=["x"]),
        format=None if asked is None else Format({"type": "object"} if asked is SCHEMA else None),
        think=False if effort == "none" else effort,
        logprobs=True,
        parallel_tool_calls=False,
        vendor={"openai": {"verbosity": "low"}},
    )


@pytest.mark.parametrize(("refused", "sent", "expected"), REPAIRS.values(), ids=REPAIRS.keys())
def test_after_a_lesson_the_same_body_does_not_go_out_again(
    refused: WireError, sent: dict[str, Any], expected: Profile
) -> None:
    request = request_of(sent)
    assert not adapt(request, PLAIN)[2], "it could be relayed before"
    assert adapt(request, expected)[2]


def test_an_effort_that_no_dialect_knows_is_dropped_as_well() -> None:
    request = ChatRequest("m", vendor={"openai": {"reasoning_effort": "new", "user": "u"}})
    fitted, losses, changed = adapt(request, PLAIN.with_(rejects=frozenset({"think", "reasoning_effort"})))
    assert changed and fitted.vendor == {"openai": {"user": "u"}}
    assert [loss.name for loss in losses] == ["reasoning_effort"]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_lesson_holds_for_an_hour() -> None:
    clock = Clock()
    learned = Learned(clock)
    target, profile = ("https://x/v1", "m"), Profile(max_stops=0)
    assert learned.get(target) is None
    assert learned.put(target, profile)
    clock.now += 3599
    assert learned.get(target) == profile
    assert learned.get(("https://x/v1", "other")) is None
    clock.now += 1
    assert learned.get(target) is None
    assert len(learned) == 0


def test_the_same_lesson_is_news_only_once() -> None:
    clock = Clock()
    learned = Learned(clock)
    target = ("https://x/v1", "m")
    assert [learned.put(target, Profile(max_stops=n)) for n in (0, 0, 1)] == [True, False, True]
    clock.now += 3600
    assert learned.put(target, Profile(max_stops=1))


def test_the_memory_is_bounded_and_can_be_cleared() -> None:
    learned = Learned(Clock(), size=2)
    for model in "abc":
        learned.put(("u", model), PLAIN)
    assert [learned.get(("u", model)) for model in "abc"] == [None, PLAIN, PLAIN]
    learned.clear()
    assert len(learned) == 0
