"""What is known of model families: which take a thinking effort, which refuse sampling, which always reason.

Knows: names of models and presets, as data (providers.md 2.6 and section 8). Must not know: requests, wires, how a
profile is applied (policy/adapt does that).

A row refines the profile of the provider's preset; the first row whose pattern matches the start of the model's name
wins. Facts that hold for a whole service belong to its preset, not here. What no row knows is left as it is, and a
refusal teaches the rest (policy/repair).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..dialects.base import Profile

# Words for Profile.rejects beside names of parameters: combinations that a target refuses.
EFFORT_WITH_TOOLS = "effort_with_tools"  # beside tools no effort may be named; the model may reason all the same
REASONING_WITH_TOOLS = "reasoning_with_tools"  # beside tools reasoning must be off, and said to be off
JSON_UNSAID = "json_unsaid"  # JSON mode without the word JSON in the prompt
REPEATED_ROLES = "repeated_roles"  # two messages of the same role in a row
DEVELOPER_ROLE = "developer_role"  # the word developer for system messages
OTHER_LIMIT = "other_limit"  # the token limit under another name than Profile.max_tokens_field
FORCED_TOOL = "forced_tool"  # a choice that leaves no way but to call a tool
PREFILL = "prefill"  # a conversation that ends with the assistant's own words, to be continued
BLANK_STOPS = "blank_stops"  # stop strings of nothing but white space
FORMAT_WITH_TOOLS = "format_with_tools"  # a form for the answer beside tools
UNSIGNED_CALLS = "unsigned_calls"  # a call of an earlier turn without its signature (Gemini)

# Efforts, weakest first. "none" is never among a profile's efforts: Profile.think_off says whether it is taken.
SCALE = ("minimal", "low", "medium", "high", "xhigh", "max")
_LOW_HIGH = ("low", "medium", "high")
_LOW_XHIGH = ("low", "medium", "high", "xhigh")  # OpenAI's Chat Completions knows no "max"

_NOT_WHILE_REASONING = frozenset(
    {"temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs"}
)
# A row adds to these; everything else it replaces.
_UNITED = ("rejects", "accepts", "drop_while_reasoning", "responses")


@dataclass(frozen=True, slots=True)
class Row:
    """`pattern` is tried at the start of the model's last path segment, in lower case. `changes` are Profile fields."""

    pattern: re.Pattern[str]
    changes: Mapping[str, Any]

    @property
    def reasons(self) -> bool:
        return self.changes.get("reasoning") != "none" or bool(self.changes.get("reasons_by_default"))


def _row(pattern: str, **changes: Any) -> Row:
    return Row(re.compile(pattern), changes)


def _never(pattern: str) -> Row:
    """A family that does not reason: an effort, even `none`, is an unknown parameter to it."""
    return _row(pattern, reasoning="none", reasons_by_default=False)


def _always(pattern: str, **changes: Any) -> Row:
    """A family that always reasons and cannot be told how much."""
    return _row(pattern, reasoning="none", reasons_by_default=True, think_off=False, **changes)


def _effort(pattern: str, efforts: tuple[str, ...], *, off: bool, default: bool, **changes: Any) -> Row:
    """A family with efforts. `off`: takes "none". `default`: reasons when nothing is said."""
    return _row(pattern, reasoning="effort", efforts=efforts, think_off=off, reasons_by_default=default, **changes)


def _openai(pattern: str, efforts: tuple[str, ...], *, off: bool, default: bool, rejects: tuple[str, ...] = ()) -> Row:
    """OpenAI's reasoning models: no sampling while they reason, and stop strings are refused by most, so that the
    gateway cuts at them itself for all (providers.md 2.2, 2.6)."""
    return _effort(
        pattern,
        efforts,
        off=off,
        default=default,
        drop_while_reasoning=_NOT_WHILE_REASONING,
        max_stops=0,
        rejects=frozenset({JSON_UNSAID, OTHER_LIMIT, *rejects}),
    )


def _claude(pattern: str, *, off: bool, default: bool, rejects: tuple[str, ...] = (), **changes: Any) -> Row:
    """Claude from Opus 4.7 on: no sampling, and as much thought as the effort says. `off` and `default` as above."""
    return _row(
        pattern,
        # They cache from 512 or 1,024 tokens on; those before need up to 4,096, as the preset has it.
        **{"reasoning": "adaptive", "efforts": _LOW_MAX, "max_output": 128_000, "cache_from": 4096, **changes},
        think_off=off,
        reasons_by_default=default,
        rejects=frozenset({BLANK_STOPS, *_CLAUDE_SAMPLING, *rejects}),
    )


def _claude_4(pattern: str, output: int, reasoning: str = "budget", **changes: Any) -> Row:
    """Claude up to 4.6: sampling, as far as the API version takes it, but neither that nor a forced tool while it
    thinks. A budget takes every level."""
    return _row(
        pattern,
        reasoning=reasoning,
        max_output=output,
        rejects=frozenset({BLANK_STOPS}),
        drop_while_reasoning=frozenset({*_CLAUDE_SAMPLING, FORCED_TOOL}),
        **changes,
    )


_CLAUDE_SAMPLING = ("temperature", "top_p", "top_k")
_LOW_MAX = (*_LOW_XHIGH, "max")
_WORDS_ONLY: frozenset[str] = frozenset()  # no schema: a form is asked for in words

_CLAUDE = (
    _claude(r"claude-opus-5[-.]5(?!\d)", off=False, default=True, rejects=(FORCED_TOOL, PREFILL)),
    _claude(
        r"claude-sonnet-5[-.]5(?!\d)", off=True, default=True, rejects=(FORCED_TOOL, PREFILL), reasoning="between_tools"
    ),
    _claude(r"claude-haiku-5[-.]5(?!\d)", off=True, default=True, rejects=(PREFILL,)),
    _claude(r"claude-(opus|sonnet)-5(?![-.]\d(?!\d))", off=True, default=True, rejects=(PREFILL,)),
    _claude(r"claude-(fable|mythos)-5(?![-.][1-9](?!\d))", off=False, default=True, rejects=(PREFILL,)),
    _claude(r"claude-(fable|mythos)", off=False, default=True, rejects=(FORCED_TOOL, PREFILL)),
    _claude(r"claude-opus-4[-.][78](?!\d)", off=True, default=False),
    _claude_4(r"claude-(opus|sonnet)-4[-.]6(?!\d)", 128_000, "adaptive", efforts=("low", "medium", "high", "max")),
    _claude_4(r"claude-(opus|sonnet|haiku)-4[-.]5(?!\d)", 64_000),
    _claude_4(r"claude-opus-4", 32_000, formats=_WORDS_ONLY),
    _claude_4(r"claude-sonnet-4|claude-3[-.]7", 64_000, formats=_WORDS_ONLY),
    _claude_4(r"claude-3[-.]5", 8192, "none", formats=_WORDS_ONLY),
    _claude_4(r"claude-(3|2|instant)", 4096, "none", formats=_WORDS_ONLY),
    # A newer one: it will refuse what the newest do.
    _claude(r"claude", off=True, default=True, rejects=(FORCED_TOOL, PREFILL)),
)

_MINIMAL_HIGH = ("minimal", "low", "medium", "high")


def _gemini(pattern: str, efforts: tuple[str, ...], rejects: tuple[str, ...] = ()) -> Row:
    """Gemini from 3 on: levels, none of which is off."""
    return _row(
        pattern,
        reasoning="thinking_level",
        efforts=efforts,
        think_off=False,
        reasons_by_default=True,
        rejects=frozenset({UNSIGNED_CALLS, *rejects}),
    )


def _gemini_2(pattern: str, *, off: bool, default: bool) -> Row:
    """Gemini 2.5: a budget of tokens; a form for the answer does not go together with tools."""
    return _row(
        pattern,
        reasoning="thinking_budget",
        efforts=_MINIMAL_HIGH,
        think_off=off,
        reasons_by_default=default,
        rejects=frozenset({FORMAT_WITH_TOOLS}),
    )


_GEMINI = (
    _row(
        r"gemma|learnlm|gemini-(1|2\.0|2\.5-flash-image)|.*(embedding|-tts)",
        reasoning="none",
        reasons_by_default=False,
        rejects=frozenset({FORMAT_WITH_TOOLS}),
    ),
    _gemini_2(r"gemini-2\.5-pro", off=False, default=True),
    _gemini_2(r"gemini-2\.5-flash-lite", off=True, default=False),
    _gemini_2(r"gemini-2", off=True, default=True),
    _gemini(r"gemini-3-pro", ("low", "high")),
    _gemini(r"gemini-3\.[78]-flash", _LOW_HIGH),
    _gemini(r"gemini-3(\.\d+)?-flash", _MINIMAL_HIGH),
    _gemini(r"gemini-4-argon", _LOW_HIGH, rejects=("temperature",)),
    _gemini(r"", _LOW_HIGH),  # the newest, and what is only called "latest"
)

_OPENAI = (
    _openai(r"gpt-6-astra|gpt-6\.1-sol", _LOW_XHIGH, off=False, default=True),
    _openai(r"gpt-5\.\d+-chat-latest", ("medium",), off=False, default=True),
    _openai(r"gpt-5\.[45]-pro", ("medium", "high", "xhigh"), off=False, default=True, rejects=(EFFORT_WITH_TOOLS,)),
    _openai(r"gpt-5\.5", _LOW_XHIGH, off=True, default=True, rejects=(EFFORT_WITH_TOOLS,)),
    _openai(r"gpt-5\.4", _LOW_XHIGH, off=True, default=False, rejects=(EFFORT_WITH_TOOLS,)),
    _openai(r"gpt-5\.[23]", _LOW_XHIGH, off=True, default=False),
    _openai(r"gpt-5\.1", _LOW_HIGH, off=True, default=False),
    _openai(r"gpt-5\.|gpt-6", _LOW_XHIGH, off=True, default=True, rejects=(REASONING_WITH_TOOLS,)),
    _never(r"gpt-5-chat"),
    _openai(r"gpt-5-pro", ("high",), off=False, default=True),
    _openai(r"gpt-5", ("minimal", "low", "medium", "high"), off=False, default=True),
    _openai(r"o[134](-|$)", _LOW_HIGH, off=False, default=True),
)
_OPENAI_OTHERS = _row(r"", reasoning="none", reasons_by_default=False, rejects=frozenset({JSON_UNSAID}))

_GPT_OSS = {"efforts": _LOW_HIGH, "think_off": False, "reasons_by_default": True}

_ROWS: Mapping[str, tuple[Row, ...]] = {
    "openai": (*_OPENAI, _OPENAI_OTHERS),
    "anthropic": _CLAUDE,
    "google": _GEMINI,
    "azure": _OPENAI,  # a deployment may have any name: what looks like no family stays open
    "groq": (
        _row(r"gpt-oss", **_GPT_OSS),
        # The one switch is none/default: no level can be told, and nothing said means default.
        _effort(r"qwen3|qwen-3", ("default",), off=True, default=True),
        _always(r"deepseek-r1|qwq"),
        _never(r"llama|meta-llama|gemma|mistral|compound|allam|kimi-k2-instruct"),
    ),
    "deepseek": (
        # It takes the other name of the limit and ignores it.
        _row(r"deepseek-chat", reasons_by_default=False, rejects=frozenset({OTHER_LIMIT, JSON_UNSAID})),
        _row(r"", rejects=frozenset({OTHER_LIMIT, JSON_UNSAID})),
    ),
    "mistral": (
        _always(r"magistral"),
        _never(r"codestral|devstral|ministral|pixtral|open-|mistral-embed|mistral-ocr|mistral-moderation|voxtral"),
        _effort(r"mistral-(small|medium|large)", ("high",), off=True, default=False),
    ),
    "xai": (
        _never(r"grok.*non-reasoning"),
        _effort(r"grok-3-mini", ("low", "high"), off=False, default=True, max_stops=0),
        _never(r"grok-[23]"),
        _effort(
            r"grok-4\.3",
            _LOW_HIGH,
            off=True,
            default=True,
            max_stops=0,
            drop_while_reasoning=frozenset({"presence_penalty", "frequency_penalty"}),
        ),
        _effort(
            r"grok-4\.[5-9]",
            _LOW_HIGH,
            off=False,
            default=True,
            max_stops=0,
            rejects=frozenset({"presence_penalty", "frequency_penalty"}),
        ),
        _always(
            r"grok-(4|code)", max_stops=0, rejects=frozenset({"presence_penalty", "frequency_penalty"})
        ),  # 4.20 and the older 4 refuse any effort
    ),
    "cerebras": (
        _row(r"gpt-oss", **_GPT_OSS),
        _effort(r"kimi|glm-5|zai-glm-5", ("low", "high", "max"), off=True, default=True),
        _never(r"llama|qwen-3-.*instruct|qwen-3-coder"),
    ),
    # These providers behind the router take OpenAI's wire for embeddings; the others are reached by a pipeline.
    "huggingface": (_row(r".*:(together|scaleway|deepinfra)$", embeds_by=""),),
    "perplexity": (
        _always(r"sonar-reasoning", think_tags=True),
        _effort(r"sonar-deep-research", _LOW_HIGH, off=False, default=True, think_tags=True),
        _never(r"sonar"),
    ),
    # Levels are gpt-oss's; DeepSeek's thoughts are switched in the template (sambanova-python, as the preset).
    "sambanova": (
        _row(r"gpt-oss", **_GPT_OSS),
        _row(r"deepseek-v3\.[1-9]", reasoning="template", reasons_by_default=False),
        _always(r"deepseek-r1|qwq"),
        _never(r"(meta-)?llama|deepseek-v3|allam"),
    ),
}

# Which of OpenAI's models the Responses API has to carry, and when (providers.md 2.1, 2.6).
_RESPONSES_AT = frozenset({"openai", "azure"})
_RESPONSES = (
    _row(r".*(-pro(-\d{4}|$)|codex)", responses=frozenset({"always"})),
    _row(r"gpt-6-astra|gpt-6\.1-sol", responses=frozenset({"tools"})),
    _row(r"gpt-5\.([4-9]|\d\d)(?!\d*-chat)|gpt-6", responses=frozenset({"reasoning_tools"})),
)
_MAX_ON_RESPONSES = re.compile(r"gpt-5\.([6-9]|\d\d)|gpt-6")
# What of Chat Completions the Responses API does not have, and refusals that it does not share.
_NOT_ON_RESPONSES = frozenset({"seed", "presence_penalty", "frequency_penalty", "logit_bias", "n"})
_ONLY_ON_CHAT = frozenset({EFFORT_WITH_TOOLS, REASONING_WITH_TOOLS, OTHER_LIMIT})

# Mistral refuses names that it does not know, and knows few here.
_NOT_WHERE_FILLED = frozenset({"presence_penalty", "frequency_penalty", "logprobs", "logit_bias", "n"})

# True of the model wherever it runs, as long as the service takes efforts at all.
_ANYWHERE = (_row(r"gpt-oss", **_GPT_OSS),)
_TAKES_EFFORTS = frozenset({"effort", "openrouter"})

# Whether a model of an unlisted service can think: the name alone.
_THINKS = re.compile(
    r"gpt-oss|deepseek-(r1|reasoner|v4)|qwq|qwen-?3|magistral|grok-(3-mini|4)|claude-(opus|sonnet|haiku|fable|mythos)-[4-9]"
    r"|claude-3-7|gemini-(2\.5|[3-9])|kimi-k2-thinking|glm-(4\.[5-9]|[5-9])|minimax-m|.*(thinking|reasoner|reasoning)"
)
_THINKS_NOT = re.compile(
    r".*(non-reasoning|-instruct|-coder|embed)|gpt-(3|4)|llama-?[123]|gemma-?[123]|mixtral|codestral|phi-?3"
)


def _segment(model: str) -> str:
    """`accounts/fireworks/models/gpt-oss-120b` -> `gpt-oss-120b`; a fine-tuned name stands for its base."""
    return model.lower().rsplit("/", 1)[-1].removeprefix("ft:")


def _find(rows: tuple[Row, ...], segment: str) -> Row | None:
    return next((row for row in rows if row.pattern.match(segment)), None)


@lru_cache(maxsize=1024)
def family_profile(base: Profile, provider_preset: str, model: str) -> Profile:
    """The preset's profile refined for one of its models. `model` is the upstream name, `provider_preset` the name of
    the preset row ("" for none)."""
    segment = _segment(model)
    row = _find(_ROWS.get(provider_preset, ()), segment)
    if row is None and base.reasoning in _TAKES_EFFORTS:
        row = _find(_ANYWHERE, segment)
    changes = dict(row.changes) if row is not None else {}
    if base.responses and provider_preset in _RESPONSES_AT:
        needed = _find(_RESPONSES, segment)
        changes |= needed.changes if needed is not None else {}
    if not changes:
        return base
    for name in _UNITED:
        if name in changes:
            changes[name] = getattr(base, name) | changes[name]
    return base.with_(**changes)


def on_responses(profile: Profile, model: str) -> Profile:
    """The profile of a target of Chat Completions, as the Responses API takes it (providers.md 2.1, 2.3, 2.6)."""
    efforts = profile.efforts
    if "xhigh" in efforts and "max" not in efforts and _MAX_ON_RESPONSES.match(_segment(model)):
        efforts = (*efforts, "max")
    return profile.with_(
        rejects=(profile.rejects - _ONLY_ON_CHAT) | _NOT_ON_RESPONSES,
        accepts=frozenset(),
        max_stops=0,
        efforts=efforts,
        reasoning="none" if profile.reasoning == "none" else "summary",
        keeps=profile.reasoning != "none" or profile.reasons_by_default,
    )


def filling(profile: Profile) -> Profile:
    """The profile of a target of chats, where the middle of a text is filled in: nothing is thought over, and nothing
    is taken but the plain sampling (providers.md 3.1)."""
    return profile.with_(
        rejects=profile.rejects | _NOT_WHERE_FILLED,
        drop_while_reasoning=frozenset(),
        reasoning="none",
        reasons_by_default=False,
        think_tags=False,
        keeps=False,
    )


def reasons(model: str, preset: str) -> bool | None:
    """Whether the model can think; None: its name does not tell."""
    segment = _segment(model)
    row = _find(_ROWS.get(preset, ()), segment) or _find(_OPENAI, segment)
    if row is not None:
        return row.reasons
    if _THINKS_NOT.match(segment):
        return False
    return True if _THINKS.match(segment) else None
