"""Requests fitted to a profile, and what an operator wants where they are open (providers.md 2.6, 3.1-3.3)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.dialects.base import Profile
from ollama_bridge.policy.adapt import adapt, apply_defaults, drop_tools, reads_ollama_options, stops_to_cut
from ollama_bridge.policy.catalog import Defaults
from ollama_bridge.policy.families import (
    BLANK_STOPS,
    DEVELOPER_ROLE,
    EFFORT_WITH_TOOLS,
    FORCED_TOOL,
    JSON_UNSAID,
    OTHER_LIMIT,
    PREFILL,
    REASONING_WITH_TOOLS,
    REPEATED_ROLES,
    SCALE,
    family_profile,
)
from ollama_bridge.values import ChatRequest, Format, Message, Sampling, Text, Tool, ToolCall, ToolResult

USER = Message("user", [Text("hi")])
TOOL = Tool("f", "does", {"type": "object", "properties": {"a": {"type": "string"}}})
OPENAI = Profile(max_tokens_field="max_completion_tokens")
REASONER = family_profile(OPENAI, "openai", "gpt-6-luna")
ENGINE = Profile(accepts=frozenset({"num_ctx", "mirostat"}))


def request(**fields: Any) -> ChatRequest:
    return ChatRequest("m", **{"messages": [USER], **fields})


def rejecting(*names: str) -> Profile:
    return Profile(rejects=frozenset(names))


def accepting(*names: str) -> Profile:
    return Profile(accepts=frozenset(names))


def names(losses: list[Any]) -> list[str]:
    return [loss.name for loss in losses]


# -- thinking --------------------------------------------------------------------------------------------------------

LOW_HIGH = Profile(efforts=("low", "medium", "high"))
ALWAYS = LOW_HIGH.with_(think_off=False, reasons_by_default=True)
FIXED = Profile(reasoning="none", reasons_by_default=True, think_off=False)
NEVER = Profile(reasoning="none")


@pytest.mark.parametrize(
    ("profile", "think", "expected", "lost"),
    [
        (LOW_HIGH, None, None, False),
        (LOW_HIGH, "low", "low", False),
        (LOW_HIGH, "minimal", "low", False),
        (LOW_HIGH, "max", "high", False),
        (LOW_HIGH, True, "medium", False),
        (LOW_HIGH, False, False, False),
        (LOW_HIGH.with_(efforts=("low", "medium", "high", "xhigh")), "max", "xhigh", False),
        (Profile(efforts=("low", "high", "max")), "medium", "high", False),
        (Profile(efforts=("low", "high", "max")), "xhigh", "max", False),
        (Profile(efforts=("high",)), True, "high", False),
        (Profile(), "xhigh", "xhigh", False),
        (Profile(), True, "medium", False),
        (Profile(efforts=("default",), reasons_by_default=True), True, None, False),
        (Profile(efforts=("default",), reasons_by_default=True), "high", None, True),
        (Profile(efforts=("default",)), "high", True, True),
        (ALWAYS, True, None, False),
        (ALWAYS, False, "low", True),
        (ALWAYS.with_(efforts=()), False, "low", True),
        (Profile(think_off=False), False, None, False),
        (FIXED, True, None, False),
        (FIXED, False, None, True),
        (FIXED, "high", None, True),
        (NEVER, False, None, False),
        (NEVER, True, None, True),
        (NEVER, "low", None, True),
        (rejecting("think"), "low", None, True),
        (rejecting("think"), False, None, False),
        (Profile(reasoning="openrouter"), True, True, False),
        (Profile(reasoning="openrouter"), "low", "low", False),
        (Profile(reasoning="template"), False, False, False),
        (Profile(reasoning="deepseek", efforts=("low", "high", "max"), reasons_by_default=True), False, False, False),
        # Ways in which thoughts are shown only when asked for.
        (Profile(reasoning="adaptive", reasons_by_default=True), True, True, False),
        (Profile(reasoning="adaptive", efforts=("default",), reasons_by_default=True), "high", True, True),
        (Profile(reasoning="between_tools", efforts=("low", "high")), "max", "high", False),
        (Profile(reasoning="budget"), True, True, False),
        (Profile(reasoning="budget"), "max", "max", False),
        (Profile(reasoning="adaptive", reasons_by_default=True), None, None, False),
    ],
)
def test_think(profile: Profile, think: Any, expected: Any, lost: bool) -> None:
    fitted, losses, changed = adapt(request(think=think), profile)
    assert fitted.think is expected or fitted.think == expected
    assert names(losses) == (["think"] if lost else [])
    assert changed or fitted.think == think


@pytest.mark.parametrize(
    ("rule", "profile", "think", "expected", "lost"),
    [
        (REASONING_WITH_TOOLS, Profile(reasons_by_default=True), None, False, False),
        (REASONING_WITH_TOOLS, Profile(reasons_by_default=True), "high", False, True),
        (REASONING_WITH_TOOLS, Profile(reasons_by_default=True), False, False, False),
        (REASONING_WITH_TOOLS, Profile(), None, None, False),
        (REASONING_WITH_TOOLS, Profile(), "low", False, True),
        (REASONING_WITH_TOOLS, Profile(reasons_by_default=True, think_off=False), "low", "low", False),
        (EFFORT_WITH_TOOLS, Profile(reasons_by_default=True), "high", None, True),
        (EFFORT_WITH_TOOLS, Profile(reasons_by_default=True), True, None, False),
        (EFFORT_WITH_TOOLS, Profile(), "high", None, True),
        (EFFORT_WITH_TOOLS, Profile(), None, None, False),
        (EFFORT_WITH_TOOLS, Profile(), False, False, False),
    ],
)
def test_thinking_beside_tools(rule: str, profile: Profile, think: Any, expected: Any, lost: bool) -> None:
    profile = profile.with_(rejects=frozenset({rule}))
    fitted, losses, changed = adapt(request(think=think, tools=[TOOL]), profile)
    assert fitted.think is expected or fitted.think == expected
    assert names(losses) == (["think"] if lost else [])
    assert changed == (fitted.think != think or type(fitted.think) is not type(think))
    assert adapt(request(think="low"), profile)[0].think == "low", "without tools nothing is in the way"


# -- sampling --------------------------------------------------------------------------------------------------------

EVERYTHING = Sampling(
    temperature=0.5, top_p=0.9, presence_penalty=0.1, frequency_penalty=0.2, seed=3, max_tokens=9, stop=["x"]
)


@pytest.mark.parametrize(
    ("think", "dropped"),
    [
        (None, ["temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs"]),
        ("low", ["temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs"]),
        (False, []),
    ],
)
def test_sampling_goes_while_the_model_reasons(think: Any, dropped: list[str]) -> None:
    asked = request(sampling=EVERYTHING, think=think, logprobs=True, top_logprobs=2)
    fitted, losses, _ = adapt(asked, REASONER)
    assert names(losses) == dropped
    for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty"):
        assert (getattr(fitted.sampling, name) is None) == (name in dropped)
    assert (fitted.logprobs, fitted.top_logprobs) == ((False, None) if dropped else (True, 2))
    assert (fitted.sampling.seed, fitted.sampling.max_tokens, fitted.sampling.stop) == (3, 9, ["x"])


@pytest.mark.parametrize(
    ("sampling", "profile", "expected", "lost"),
    [
        (Sampling(top_k=5, min_p=0.1), Profile(), Sampling(), ["top_k", "min_p"]),
        (Sampling(top_k=5), accepting("top_k"), Sampling(top_k=5), []),
        (
            Sampling(repeat_penalty=1.3),
            Profile(accepts=frozenset({"repetition_penalty"})),
            Sampling(repeat_penalty=1.3),
            [],
        ),
        (Sampling(repeat_penalty=1.3), Profile(), Sampling(), ["repeat_penalty"]),
        (Sampling(temperature=0.3), rejecting("temperature"), Sampling(), ["temperature"]),
        (Sampling(temperature=1.0, top_p=1.0), rejecting("temperature", "top_p"), Sampling(), []),
        (Sampling(presence_penalty=0.0), rejecting("presence_penalty"), Sampling(), []),
        (Sampling(repeat_penalty=1.0, min_p=0.0), Profile(), Sampling(), []),
        (Sampling(num_ctx=4096), Profile(), Sampling(), []),
        (Sampling(temperature=3.0), Profile(), Sampling(temperature=2.0), ["temperature"]),
        (Sampling(temperature=-1.0), Profile(), Sampling(temperature=0.0), ["temperature"]),
        (Sampling(frequency_penalty=-9.0), Profile(), Sampling(frequency_penalty=-2.0), ["frequency_penalty"]),
        (Sampling(seed=0), Profile(), Sampling(), []),
        (Sampling(seed=-1), Profile(), Sampling(), []),
        (Sampling(seed=42), rejecting("seed"), Sampling(), ["seed"]),
        (Sampling(max_tokens=-1), Profile(), Sampling(), []),
        (Sampling(max_tokens=-2), Profile(), Sampling(), []),
        (Sampling(max_tokens=0), Profile(), Sampling(max_tokens=0), []),
        (Sampling(max_tokens=5), rejecting("max_tokens"), Sampling(), ["max_tokens"]),
        (Sampling(stop=[]), Profile(), Sampling(), []),
        (Sampling(stop=["", "a"]), Profile(), Sampling(stop=["a"]), []),
        (Sampling(extra={"num_gpu": 1, "low_vram": True, "numa": None}), Profile(), Sampling(), []),
        (Sampling(extra={"mirostat": 2, "typical_p": 0.5}), Profile(), Sampling(), ["mirostat", "typical_p"]),
        (Sampling(extra={"mirostat": 0, "tfs_z": 1}), Profile(), Sampling(), []),
        (
            Sampling(extra={"mirostat": 2}),
            Profile(accepts=frozenset({"mirostat"})),
            Sampling(extra={"mirostat": 2}),
            [],
        ),
    ],
)
def test_sampling(sampling: Sampling, profile: Profile, expected: Sampling, lost: list[str]) -> None:
    fitted, losses, changed = adapt(request(sampling=sampling), profile)
    assert fitted.sampling == expected
    assert names(losses) == lost
    assert changed == (expected != sampling)


@pytest.mark.parametrize(
    ("stop", "profile", "cut"),
    [
        (None, Profile(), False),
        (["a"] * 4, Profile(), False),
        (["a"] * 5, Profile(), True),
        (["a"], Profile(max_stops=0), True),
        (["a"], rejecting("stop"), True),
        (["a"], Profile(drop_while_reasoning=frozenset({"stop"})), True),
        (["a", "\n"], rejecting(BLANK_STOPS), True),
        (["a", "\n"], Profile(), False),
        (["a"], rejecting(BLANK_STOPS), False),
        ([], Profile(max_stops=0), False),
    ],
)
def test_stop_strings_stay_and_are_cut_by_the_gateway(stop: list[str] | None, profile: Profile, cut: bool) -> None:
    fitted, losses, changed = adapt(request(sampling=Sampling(stop=stop)), profile)
    assert (fitted.sampling.stop or []) == (stop or []) and losses == []
    assert stops_to_cut(fitted.sampling.stop, profile) == (stop if cut else [])
    assert changed == (cut or stop == [])


# -- format, messages, choices ---------------------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("form", "formats", "expected", "words", "lost"),
    [
        (Format(), {"json", "schema"}, Format(), None, False),
        (Format(SCHEMA, "x", True), {"json", "schema"}, Format(SCHEMA, "x", True), None, False),
        (Format(SCHEMA), {"json"}, Format(), '"integer"', True),
        (Format(SCHEMA), set(), None, '"integer"', True),
        (Format(), set(), None, "JSON", True),
        (Format(), {"schema"}, Format({"type": "object"}), None, False),
    ],
)
def test_format(form: Format, formats: set[str], expected: Format | None, words: str | None, lost: bool) -> None:
    fitted, losses, changed = adapt(request(format=form), Profile(formats=frozenset(formats)))
    assert fitted.format == expected
    assert names(losses) == (["format"] if lost else [])
    assert changed == (expected != form)
    if words is None:
        assert fitted.messages == [USER]
    else:
        assert [message.role for message in fitted.messages] == ["system", "user"]
        assert words in fitted.messages[0].text()


def test_an_instruction_follows_what_the_system_says() -> None:
    system = Message("system", [Text("be brief")], {"openai": {"name": "s"}})
    asked = request(messages=[system, USER], format=Format())
    fitted, _, _ = adapt(asked, Profile(formats=frozenset()))
    assert fitted.messages[0].text().startswith("be brief\n\nAnswer with JSON")
    assert fitted.messages[0].vendor == system.vendor
    assert fitted.messages[1] is USER
    assert system.text() == "be brief"


def test_json_mode_that_is_never_said_is_not_relayed() -> None:
    profile = rejecting(JSON_UNSAID)
    assert adapt(request(format=Format()), profile)[2]
    assert not adapt(request(format=Format(), messages=[Message("user", [Text("in Json")])]), profile)[2]
    assert not adapt(request(format=Format(SCHEMA)), profile)[2]
    assert not adapt(request(), profile)[2]


def test_repeated_roles_are_joined_where_they_must_be() -> None:
    call = Message("assistant", [ToolCall("f", "{}", "x")])
    answer = Message("tool", [ToolResult([Text("1")], "x")])
    conversation = [
        Message("user", [Text("a")]), Message("user", [Text("")]), Message("user", [Text("b")]), call, answer, answer,
        Message("assistant", [Text("c")]), Message("assistant", [Text("d")]),
    ]  # fmt: skip
    assert adapt(request(messages=conversation), Profile())[0].messages is conversation
    fitted, losses, changed = adapt(request(messages=conversation), rejecting(REPEATED_ROLES))
    assert changed and losses == []
    assert [(m.role, m.text()) for m in fitted.messages] == [
        ("user", "a\n\nb"), ("assistant", ""), ("tool", ""), ("tool", ""), ("assistant", "c\n\nd"),
    ]  # fmt: skip
    assert adapt(fitted, rejecting(REPEATED_ROLES))[0].messages is fitted.messages


def test_a_model_that_cannot_go_on_in_its_own_words_is_asked_to() -> None:
    begun = Message("assistant", [Text("One, ")])
    fitted, losses, changed = adapt(request(messages=[USER, begun]), rejecting(PREFILL))
    assert changed and fitted.messages == [USER, begun, Message("user", [Text("Continue.")])]
    assert names(losses) == ["messages"]
    calling = Message("assistant", [ToolCall("f")])
    for messages in ([USER], [], [begun, USER], [USER, calling]):
        assert not adapt(request(messages=messages), rejecting(PREFILL))[2]
    assert not adapt(request(messages=[USER, begun]), Profile())[2]


def test_developer_becomes_system_where_the_word_is_refused() -> None:
    asked = request(messages=[Message("developer", [Text("d")]), USER])
    assert not adapt(asked, Profile())[2]
    fitted, _, changed = adapt(asked, rejecting(DEVELOPER_ROLE))
    assert changed and [message.role for message in fitted.messages] == ["system", "user"]


@pytest.mark.parametrize(
    ("choice", "profile", "expected", "tools", "lost"),
    [
        ("required", Profile(), "required", 1, False),
        ("required", rejecting("tool_choice"), None, 1, True),
        ({"name": "f"}, rejecting("tool_choice"), None, 1, True),
        ("auto", rejecting("tool_choice"), None, 1, False),
        ("none", rejecting("tool_choice"), None, 0, False),
        ("required", Profile(reasons_by_default=True, drop_while_reasoning=frozenset({"tool_choice"})), None, 1, True),
        ("auto", Profile(reasons_by_default=True, drop_while_reasoning=frozenset({"tool_choice"})), "auto", 1, False),
        ("required", Profile(drop_while_reasoning=frozenset({"tool_choice"})), "required", 1, False),
        ("required", rejecting(FORCED_TOOL), None, 1, True),
        ({"name": "f"}, rejecting(FORCED_TOOL), None, 1, True),
        ("auto", rejecting(FORCED_TOOL), "auto", 1, False),
        ("none", rejecting(FORCED_TOOL), "none", 1, False),
    ],
)
def test_tool_choice(choice: Any, profile: Profile, expected: Any, tools: int, lost: bool) -> None:
    fitted, losses, changed = adapt(request(tools=[TOOL], tool_choice=choice), profile)
    assert (fitted.tool_choice, len(fitted.tools), names(losses)) == (expected, tools, ["tool_choice"] if lost else [])
    assert changed == (fitted.tool_choice != choice)


@pytest.mark.parametrize(
    ("fields", "rejects", "expected", "lost"),
    [
        ({"parallel_tool_calls": False}, "parallel_tool_calls", None, True),
        ({"parallel_tool_calls": True}, "parallel_tool_calls", None, False),
        ({"parallel_tool_calls": False}, "seed", False, False),
        ({"n": 2}, "n", None, True),
        ({"n": 1}, "n", None, False),
        ({"n": 2}, "seed", 2, False),
    ],
)
def test_flags(fields: dict[str, Any], rejects: str, expected: Any, lost: bool) -> None:
    fitted, losses, changed = adapt(request(**fields), rejecting(rejects))
    (name,) = fields
    assert (getattr(fitted, name), names(losses)) == (expected, [name] if lost else [])
    assert changed == (expected is None)


def test_fields_of_the_clients_own_dialect_can_be_refused() -> None:
    asked = request(vendor={"openai": {"logit_bias": {"1": 2}, "user": "u"}})
    fitted, losses, changed = adapt(asked, REASONER)
    assert fitted.vendor == {"openai": {"user": "u"}} and changed and names(losses) == ["logit_bias"]
    assert asked.vendor["openai"]["logit_bias"] == {"1": 2}
    assert not adapt(request(vendor=asked.vendor, think=False), REASONER)[1]


@pytest.mark.parametrize(
    ("fields", "profile"),
    [
        ({}, Profile(extra_body={"a": 1})),
        ({"sampling": Sampling(max_tokens=5)}, rejecting(OTHER_LIMIT)),
        ({"sampling": Sampling(seed=5)}, Profile(seed_field="random_seed")),
        ({"think": "low"}, Profile(reasoning="template")),
        ({"think": False}, Profile(reasoning="deepseek", reasons_by_default=True)),
        ({"stream": True}, rejecting("stream_options")),
        ({"messages": [Message("system", [Text("s")])]}, Profile(system_role="developer")),
    ],
)
def test_what_the_target_spells_otherwise_is_not_relayed(fields: dict[str, Any], profile: Profile) -> None:
    asked = request(**fields)
    fitted, losses, changed = adapt(asked, profile)
    assert changed and losses == [] and fitted is asked
    assert not adapt(asked, Profile())[2]


def test_a_real_ollama_gets_everything_as_it_was_sent() -> None:
    sampling = Sampling(temperature=9.0, seed=-1, num_ctx=5, stop=["a"] * 9, extra={"mirostat": 2, "zzz": 1})
    asked = request(sampling=sampling, think=True, format=Format(), tools=[Tool("f", None, {})])
    assert reads_ollama_options(ENGINE) and not reads_ollama_options(Profile())
    assert adapt(asked, ENGINE) == (asked, [], False)


def test_a_real_ollama_knows_fewer_levels() -> None:
    profile = ENGINE.with_(efforts=("low", "medium", "high", "max"))
    assert [adapt(request(think=think), profile)[0].think for think in ("minimal", "xhigh", "low", True)] == [
        "low", "max", "low", True,
    ]  # fmt: skip


def test_drop_tools() -> None:
    asked = request(tools=[TOOL], tool_choice="required", parallel_tool_calls=True)
    fitted, losses = drop_tools(asked)
    assert (fitted.tools, fitted.tool_choice, fitted.parallel_tool_calls) == ([], None, None)
    assert names(losses) == ["tools"] and asked.tools == [TOOL]
    assert drop_tools(request()) == (request(), [])


# -- defaults --------------------------------------------------------------------------------------------------------


def test_the_request_wins_over_the_defaults() -> None:
    defaults = Defaults(temperature=0.1, max_tokens=7, system="s", think="low", options={"top_k": 4, "num_predict": 8})
    asked = request(
        messages=[Message("system", [Text("mine")]), USER],
        sampling=Sampling(temperature=0.9, max_tokens=1, top_k=2),
        think=False,
    )
    assert apply_defaults(asked, defaults, Profile(accepts=frozenset({"top_k"}))) is asked


def test_defaults_fill_what_is_open() -> None:
    defaults = Defaults(
        temperature=0.7, max_tokens=7, system="s", think="low", keep_alive=60.0,
        options={"temperature": 0.1, "stop": "x", "top_k": 4, "mirostat": 2, "seed": 0},
    )  # fmt: skip
    asked = request()
    fitted = apply_defaults(asked, defaults, accepting("top_k"))
    assert fitted.sampling == Sampling(temperature=0.1, max_tokens=7, stop=["x"], top_k=4)
    assert fitted.messages == [Message("system", [Text("s")]), USER]
    assert (fitted.think, fitted.keep_alive) == ("low", None)
    assert asked == request()
    engine = apply_defaults(asked, defaults, ENGINE)
    assert engine.sampling == Sampling(
        temperature=0.1, max_tokens=7, stop=["x"], top_k=4, seed=0, extra={"mirostat": 2}
    )
    assert engine.keep_alive == 60.0


def test_a_default_that_the_model_cannot_take_is_no_loss() -> None:
    defaults = Defaults(temperature=0.7, max_tokens=7, options={"top_p": 0.5, "num_ctx": 9})
    fitted = apply_defaults(request(), defaults, REASONER)
    assert fitted.sampling == Sampling(max_tokens=7)
    assert adapt(fitted, REASONER)[1] == []
    # Where thinking is switched off, the same model takes them.
    assert apply_defaults(request(think=False), defaults, REASONER).sampling.temperature == 0.7
    assert apply_defaults(request(), Defaults(think=False, temperature=0.7), REASONER).sampling.temperature == 0.7
    assert apply_defaults(request(), Defaults(think="high"), NEVER).think is None
    assert apply_defaults(request(), Defaults(temperature=5.0), Profile()).sampling.temperature == 2.0


def test_no_defaults_leave_the_request_alone() -> None:
    asked = request()
    assert apply_defaults(asked, Defaults(keep_alive=5.0)) is asked


# -- always ----------------------------------------------------------------------------------------------------------

REJECTS = [
    "temperature", "seed", "stop", "think", "logprobs", "tool_choice", "n", REPEATED_ROLES, REASONING_WITH_TOOLS
]  # fmt: skip
PROFILES = st.builds(
    Profile,
    rejects=st.frozensets(
        st.sampled_from(
            [
                "temperature",
                "seed",
                "stop",
                "think",
                "logprobs",
                "tool_choice",
                "n",
                REPEATED_ROLES,
                REASONING_WITH_TOOLS,
            ]
        )
    ),
    accepts=st.frozensets(st.sampled_from(["top_k", "min_p", "mirostat"])),
    max_stops=st.integers(0, 4),
    reasoning=st.sampled_from(["effort", "openrouter", "deepseek", "template", "none"]),
    efforts=st.lists(st.sampled_from(SCALE), unique=True).map(lambda words: tuple(sorted(words, key=SCALE.index))),
    think_off=st.booleans(),
    reasons_by_default=st.booleans(),
    drop_while_reasoning=st.frozensets(st.sampled_from(["temperature", "top_p", "tool_choice", "logprobs"])),
    formats=st.frozensets(st.sampled_from(["json", "schema"])),
)
REQUESTS = st.builds(
    request,
    messages=st.lists(
        st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.just([Text("t")])), max_size=4
    ),
    tools=st.lists(st.builds(Tool, st.just("f"), st.none(), st.sampled_from([None, {}, SCHEMA])), max_size=2),
    tool_choice=st.sampled_from([None, "auto", "none", "required", {"name": "f"}]),
    sampling=st.builds(
        Sampling,
        temperature=st.sampled_from([None, 0, 1.0, 5]),
        top_p=st.sampled_from([None, 0.5]),
        top_k=st.sampled_from([None, 3]),
        seed=st.sampled_from([None, -1, 0, 7]),
        stop=st.sampled_from([None, [], ["a"], ["a"] * 6]),
        extra=st.sampled_from([{}, {"mirostat": 1}, {"num_gpu": 1}]),
    ),
    format=st.sampled_from([None, Format(), Format(SCHEMA)]),
    think=st.sampled_from([None, True, False, *SCALE]),
    logprobs=st.booleans(),
    n=st.sampled_from([None, 1, 2]),
)


@given(REQUESTS, PROFILES)
def test_fitting_twice_is_fitting_once_and_nothing_is_changed_in_place(asked: ChatRequest, profile: Profile) -> None:
    before = msgspec.json.encode(asked)
    fitted, losses, changed = adapt(asked, profile)
    assert msgspec.json.encode(asked) == before
    again, more, _ = adapt(fitted, profile)
    assert again == fitted and more == []
    assert changed or (fitted is asked and losses == [])
    if isinstance(fitted.think, str) and profile.efforts:
        assert fitted.think in profile.efforts
    if "temperature" in profile.rejects:
        assert fitted.sampling.temperature is None
    if profile.formats:
        assert fitted.format is None or ("schema" if fitted.format.schema is not None else "json") in profile.formats
