"""Profiles refined by model family (providers.md 2.6, section 8)."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_bridge.dialects.base import Profile
from ollama_bridge.policy.families import (
    BLANK_STOPS,
    EFFORT_WITH_TOOLS,
    FORCED_TOOL,
    JSON_UNSAID,
    PREFILL,
    REASONING_WITH_TOOLS,
    family_profile,
    reasons,
)

OPENAI = Profile(max_tokens_field="max_completion_tokens")
XHIGH = ("low", "medium", "high", "xhigh")


@pytest.mark.parametrize(
    ("model", "efforts", "off", "default", "rule"),
    [
        ("gpt-6-astra", XHIGH, False, True, None),
        ("gpt-6.1-sol-2026-11-01", XHIGH, False, True, None),
        ("gpt-6.1-terra", XHIGH, True, True, REASONING_WITH_TOOLS),
        ("gpt-6-luna", XHIGH, True, True, REASONING_WITH_TOOLS),
        ("gpt-5.6-mini", XHIGH, True, True, REASONING_WITH_TOOLS),
        ("gpt-5.5", XHIGH, True, True, EFFORT_WITH_TOOLS),
        ("gpt-5.5-pro", ("medium", "high", "xhigh"), False, True, EFFORT_WITH_TOOLS),
        ("gpt-5.4", XHIGH, True, False, EFFORT_WITH_TOOLS),
        ("gpt-5.4-pro", ("medium", "high", "xhigh"), False, True, EFFORT_WITH_TOOLS),
        ("gpt-5.2", XHIGH, True, False, None),
        ("gpt-5.1-codex", ("low", "medium", "high"), True, False, None),
        ("gpt-5.3-chat-latest", ("medium",), False, True, None),
        ("gpt-5-mini", ("minimal", "low", "medium", "high"), False, True, None),
        ("o3", ("low", "medium", "high"), False, True, None),
        ("o4-mini-2025-04-16", ("low", "medium", "high"), False, True, None),
        ("ft:o4-mini:acme::1", ("low", "medium", "high"), False, True, None),
    ],
)
def test_openai_families(model: str, efforts: tuple[str, ...], off: bool, default: bool, rule: str | None) -> None:
    for preset in ("openai", "azure"):
        profile = family_profile(OPENAI, preset, model)
        assert (profile.efforts, profile.think_off, profile.reasons_by_default) == (efforts, off, default)
        assert profile.max_stops == 0 and "temperature" in profile.drop_while_reasoning
        assert profile.max_tokens_field == "max_completion_tokens"
        assert profile.rejects & {REASONING_WITH_TOOLS, EFFORT_WITH_TOOLS} == ({rule} if rule else set())
        assert reasons(model, preset) is True


@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4.1-mini", "gpt-5-chat-latest", "chatgpt-4o-latest", "o", "ft:gpt-4o:a::b"]
)
def test_openai_models_that_do_not_reason(model: str) -> None:
    profile = family_profile(OPENAI, "openai", model)
    assert (profile.reasoning, profile.reasons_by_default, profile.max_stops) == ("none", False, 4)
    assert reasons(model, "openai") is False


@pytest.mark.parametrize(
    ("preset", "model", "expected"),
    [
        ("groq", "qwen/qwen3-32b", {"efforts": ("default",), "think_off": True, "reasons_by_default": True}),
        ("groq", "openai/gpt-oss-120b", {"efforts": ("low", "medium", "high"), "think_off": False}),
        ("groq", "llama-3.3-70b-versatile", {"reasoning": "none", "reasons_by_default": False}),
        ("fireworks", "accounts/fireworks/models/gpt-oss-20b", {"think_off": False, "reasons_by_default": True}),
        ("deepseek", "deepseek-chat", {"reasons_by_default": False}),
        ("mistral", "magistral-medium-latest", {"reasoning": "none", "reasons_by_default": True}),
        ("mistral", "mistral-medium-latest", {"efforts": ("high",), "reasons_by_default": False}),
        ("mistral", "codestral-latest", {"reasoning": "none", "reasons_by_default": False}),
        ("xai", "grok-4.3", {"think_off": True, "reasons_by_default": True}),
        ("xai", "grok-4.7", {"think_off": False, "efforts": ("low", "medium", "high"), "max_stops": 0}),
        ("xai", "grok-4.20-0309-reasoning", {"reasoning": "none", "reasons_by_default": True}),
        ("xai", "grok-4.20-0309-non-reasoning", {"reasoning": "none", "reasons_by_default": False}),
        ("xai", "grok-3-mini", {"efforts": ("low", "high")}),
        ("xai", "grok-3", {"reasoning": "none", "reasons_by_default": False}),
        ("cerebras", "gpt-oss-120b", {"think_off": False}),
        ("cerebras", "zai-glm-5.3", {"efforts": ("low", "high", "max")}),
        ("perplexity", "sonar-reasoning-pro", {"think_tags": True, "reasons_by_default": True, "reasoning": "none"}),
        ("perplexity", "sonar-pro", {"reasoning": "none", "reasons_by_default": False}),
        ("sambanova", "gpt-oss-120b", {"efforts": ("low", "medium", "high"), "think_off": False}),
        ("sambanova", "DeepSeek-V3.1-Terminus", {"reasoning": "template", "reasons_by_default": False}),
        ("sambanova", "DeepSeek-V3-0324", {"reasoning": "none", "reasons_by_default": False}),
    ],
)
def test_vendor_families(preset: str, model: str, expected: dict[str, Any]) -> None:
    profile = family_profile(Profile(), preset, model)
    assert {name: getattr(profile, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("model", "reasoning", "off", "default", "output", "rules"),
    [
        ("claude-opus-5-5", "adaptive", False, True, 128_000, {FORCED_TOOL, PREFILL}),
        ("claude-opus-5.5-20261001", "adaptive", False, True, 128_000, {FORCED_TOOL, PREFILL}),
        ("claude-sonnet-5-5", "between_tools", True, True, 128_000, {FORCED_TOOL, PREFILL}),
        ("claude-haiku-5-5", "adaptive", True, True, 128_000, {PREFILL}),
        ("claude-opus-5", "adaptive", True, True, 128_000, {PREFILL}),
        ("claude-sonnet-5-20260701", "adaptive", True, True, 128_000, {PREFILL}),
        ("claude-fable-5", "adaptive", False, True, 128_000, {PREFILL}),
        ("claude-mythos-5-20260801", "adaptive", False, True, 128_000, {PREFILL}),
        ("claude-fable-5-1", "adaptive", False, True, 128_000, {FORCED_TOOL, PREFILL}),
        ("claude-mythos-5-2", "adaptive", False, True, 128_000, {FORCED_TOOL, PREFILL}),
        ("claude-opus-4-8", "adaptive", True, False, 128_000, set()),
        ("claude-opus-4-7-20260401", "adaptive", True, False, 128_000, set()),
        ("claude-opus-5-7", "adaptive", True, True, 128_000, {FORCED_TOOL, PREFILL}),
        ("claude-titan-1", "adaptive", True, True, 128_000, {FORCED_TOOL, PREFILL}),
    ],
)
def test_claude_without_sampling(
    model: str, reasoning: str, off: bool, default: bool, output: int, rules: set[str]
) -> None:
    """In every API version: the rows refuse it themselves."""
    profile = family_profile(Profile(reasoning="adaptive"), "anthropic", model)
    assert (profile.reasoning, profile.think_off, profile.reasons_by_default) == (reasoning, off, default)
    assert (profile.max_output, profile.efforts) == (output, (*XHIGH, "max"))
    assert profile.rejects == {"temperature", "top_p", "top_k", BLANK_STOPS, *rules}
    assert reasons(model, "anthropic") is True


@pytest.mark.parametrize(
    ("model", "reasoning", "output", "schema"),
    [
        ("claude-opus-4-6", "adaptive", 128_000, True),
        ("claude-sonnet-4-6-20260201", "adaptive", 128_000, True),
        ("claude-opus-4-5-20251101", "budget", 64_000, True),
        ("claude-haiku-4-5", "budget", 64_000, True),
        ("claude-opus-4-1-20250805", "budget", 32_000, False),
        ("claude-opus-4-20250514", "budget", 32_000, False),
        ("claude-sonnet-4-0", "budget", 64_000, False),
        ("claude-3-7-sonnet-20250219", "budget", 64_000, False),
        ("claude-3-5-haiku-20241022", "none", 8192, False),
        ("claude-3-haiku-20240307", "none", 4096, False),
    ],
)
def test_claude_with_sampling(model: str, reasoning: str, output: int, schema: bool) -> None:
    """As far as the API version takes it: that is the preset's, or the provider's, business."""
    profile = family_profile(Profile(reasoning="adaptive"), "anthropic", model)
    assert (profile.reasoning, profile.max_output, profile.reasons_by_default) == (reasoning, output, False)
    assert profile.rejects == {BLANK_STOPS}
    assert profile.drop_while_reasoning == {"temperature", "top_p", "top_k", FORCED_TOOL}
    assert ("schema" in profile.formats) is schema
    assert reasons(model, "anthropic") is (reasoning != "none")
    newest = family_profile(Profile(rejects=frozenset({"temperature"})), "anthropic", model)
    assert "temperature" in newest.rejects


@pytest.mark.parametrize(
    ("preset", "base", "model"),
    [
        ("openrouter", Profile(reasoning="openrouter"), "openai/gpt-6-luna"),
        ("", Profile(), "gpt-5"),
        ("lab", Profile(), "anything"),
        ("azure", OPENAI, "my-deployment"),
        ("vllm", Profile(reasoning="template"), "openai/gpt-oss-20b"),
        ("groq", Profile(), "new-model"),
    ],
)
def test_what_no_row_knows_keeps_the_presets_profile(preset: str, base: Profile, model: str) -> None:
    assert family_profile(base, preset, model) is base


def test_a_row_adds_to_what_the_preset_refuses() -> None:
    base = Profile(rejects=frozenset({"logit_bias"}), drop_while_reasoning=frozenset({"seed"}))
    profile = family_profile(base, "openai", "o3")
    assert profile.rejects >= {"logit_bias", JSON_UNSAID} and profile.drop_while_reasoning >= {"seed", "temperature"}


@pytest.mark.parametrize(
    ("model", "preset", "expected"),
    [
        ("openai/gpt-5-mini", "openrouter", True),
        ("openai/gpt-4o", "openrouter", False),
        ("deepseek-v4-pro", "deepseek", True),
        ("qwen/qwen3-32b", "groq", True),
        ("llama-3.3-70b-versatile", "groq", False),
        ("deepseek-ai/DeepSeek-R1", "huggingface", True),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507", "together", False),
        ("Qwen/Qwen3-235B-A22B-Thinking-2507", "together", True),
        ("anthropic/claude-haiku-4.5", "openrouter", True),
        ("google/gemini-2.5-flash", "openrouter", True),
        ("grok-4.20-non-reasoning", "xai", False),
        ("my-own-model", "", None),
    ],
)
def test_reasons(model: str, preset: str, expected: bool | None) -> None:
    assert reasons(model, preset) is expected
