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
from typing import Any

from ..dialects.base import Profile

# Words for Profile.rejects beside names of parameters: combinations that a target refuses.
EFFORT_WITH_TOOLS = "effort_with_tools"  # beside tools no effort may be named; the model may reason all the same
REASONING_WITH_TOOLS = "reasoning_with_tools"  # beside tools reasoning must be off, and said to be off
JSON_UNSAID = "json_unsaid"  # JSON mode without the word JSON in the prompt
REPEATED_ROLES = "repeated_roles"  # two messages of the same role in a row
DEVELOPER_ROLE = "developer_role"  # the word developer for system messages
OTHER_LIMIT = "other_limit"  # the token limit under another name than Profile.max_tokens_field

# Efforts, weakest first. "none" is never among a profile's efforts: Profile.think_off says whether it is taken.
SCALE = ("minimal", "low", "medium", "high", "xhigh", "max")
_LOW_HIGH = ("low", "medium", "high")
_LOW_XHIGH = ("low", "medium", "high", "xhigh")  # OpenAI's Chat Completions knows no "max"

_NOT_WHILE_REASONING = frozenset(
    {"temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs"}
)
_UNITED = ("rejects", "accepts", "drop_while_reasoning")  # a row adds to these; everything else it replaces


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
    "perplexity": (
        _always(r"sonar-reasoning", think_tags=True),
        _effort(r"sonar-deep-research", _LOW_HIGH, off=False, default=True, think_tags=True),
        _never(r"sonar"),
    ),
}

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


def family_profile(base: Profile, provider_preset: str, model: str) -> Profile:
    """The preset's profile refined for one of its models. `model` is the upstream name, `provider_preset` the name of
    the preset row ("" for none)."""
    segment = _segment(model)
    row = _find(_ROWS.get(provider_preset, ()), segment)
    if row is None and base.reasoning in _TAKES_EFFORTS:
        row = _find(_ANYWHERE, segment)
    if row is None:
        return base
    changes = dict(row.changes)
    for name in _UNITED:
        if name in changes:
            changes[name] = getattr(base, name) | changes[name]
    return base.with_(**changes)


def reasons(model: str, preset: str) -> bool | None:
    """Whether the model can think; None: its name does not tell."""
    segment = _segment(model)
    row = _find(_ROWS.get(preset, ()), segment) or _find(_OPENAI, segment)
    if row is not None:
        return row.reasons
    if _THINKS_NOT.match(segment):
        return False
    return True if _THINKS.match(segment) else None
