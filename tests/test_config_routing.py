"""The table of privacy and task, targets and their strategies, several keys: what is made of them, and what is refused,
above all what could let a strict request out."""

from __future__ import annotations

from pathlib import Path

import pytest
from configs import configured, refused

from ollama_bridge.config.settings import RoutingConfig, Target

PROVIDERS = """
providers:
  near: {kind: openai, base_url: "http://127.0.0.1:9/v1", local: true}
  named: {kind: openai, base_url: "http://llm.lan/v1", local: true}
  far: {kind: openai, base_url: "https://llm.example.com/v1"}
  free: {kind: ollamafree}
models:
  here: near/a
  there: far/a
  both: {targets: [near/a, far/b]}
"""


def targets(found: tuple[Target, ...]) -> list[tuple[str, float]]:
    return [(str(target), target.weight) for target in found]


def test_targets_with_and_without_a_weight(tmp_path: Path) -> None:
    text = """
models:
  it:
    targets: [groq/a, {target: "ollama:b:7b", weight: 2.5}, {target: openai/c}]
    strategy: weighted
  other: [groq/a]
"""
    model = configured(tmp_path, text.replace("  other: [groq/a]\n", "")).models["it"]
    assert targets(model.targets) == [("groq/a", 1.0), ("ollama/b:7b", 2.5), ("openai/c", 1.0)]
    assert (model.strategy, model.strict) == ("weighted", False)


def test_the_table(tmp_path: Path) -> None:
    text = (
        PROVIDERS
        + """
routing:
  default: strict
  strict: {chat: here, vision: "near/v, named/v"}
  flexible: {chat: [there, far/b], embedding: ollama/nomic-embed-text}
"""
    )
    config = configured(tmp_path, text)
    assert config.routing == RoutingConfig(
        "strict",
        {"chat": ("here",), "vision": ("near/v", "named/v")},
        {"chat": ("there", "far/b"), "embedding": ("ollama/nomic-embed-text",)},
    )
    assert configured(tmp_path, "").routing == RoutingConfig()


def test_a_provider_that_only_the_table_names_is_there(tmp_path: Path) -> None:
    assert "lmstudio" not in configured(tmp_path, "").providers
    config = configured(tmp_path, "routing: {strict: {chat: lmstudio/qwen3}}")
    assert config.providers["lmstudio"].local


def test_a_model_may_be_strict(tmp_path: Path) -> None:
    config = configured(tmp_path, "models: {mine: {targets: [ollama/a, echo/echo], privacy: strict}}")
    assert config.models["mine"].strict


def test_several_keys(tmp_path: Path) -> None:
    text = "providers: {groq: {api_keys: [one-key-one, two-key-two]}, openai: {api_keys: '${KEYS}'}}"
    config = configured(tmp_path, text, {"KEYS": "a-key, b-key,c-key", "GROQ_API_KEY": "not-this"})
    found = {
        name: [key.get_secret_value() for key in (p.api_key, *p.further_keys) if key]
        for name, p in config.providers.items()
        if name in ("groq", "openai")
    }
    assert found == {"groq": ["one-key-one", "two-key-two"], "openai": ["a-key", "b-key", "c-key"]}
    assert config.providers["groq"].off is None and config.providers["groq"].key_source == "the file"
    assert "one-key" not in repr(config)


LEAKS = {
    "strict-cell": ("strict: {chat: far/a}", "routing.strict.chat: strict requests would leave your machines: provider "
                    "'far' is not local"),
    "strict-cell-in-a-list": ("strict: {vision: [near/a, 'far:a']}", "routing.strict.vision[1]: strict requests would "
                              "leave your machines: provider 'far' is not local"),
    "strict-alias": ("strict: {ocr: there}", "routing.strict.ocr: strict requests would leave your machines: 'there' "
                     "leads to far/a, and provider 'far' is not local"),
    "strict-alias-with-one-that-leaves": ("strict: {chat: both}", "routing.strict.chat: strict requests would leave "
                                          "your machines: 'both' leads to far/b, and provider 'far' is not local"),
    "strict-preset": ("strict: {chat: openai/gpt-6}", "routing.strict.chat: strict requests would leave your machines: "
                      "provider 'openai' is not local"),
    "strict-cloud-model": ("strict: {chat: 'ollama/kimi-k2:cloud'}", "routing.strict.chat: strict requests would leave "
                           "your machines: 'kimi-k2:cloud' is a cloud model of Ollama"),
    "strict-cloud-tag": ("strict: {chat: 'ollama/gpt-oss:20b-cloud'}", "routing.strict.chat: strict requests would "
                         "leave your machines: 'gpt-oss:20b-cloud' is a cloud model of Ollama"),
    "strict-free": ("strict: {chat: free/llama}", "routing.strict.chat: strict requests would leave your machines: "
                    "provider 'free' is not local"),
}  # fmt: skip


@pytest.mark.parametrize(("table", "line"), LEAKS.values(), ids=LEAKS)
def test_a_table_that_could_leak_is_refused(tmp_path: Path, table: str, line: str) -> None:
    text = PROVIDERS + f"routing:\n  {table}\n"
    at = text.count("\n")
    assert refused(tmp_path, text) == [f"config.yaml:{at}: {line}"]


ALIASES = {
    "one": ("{targets: [far/a], privacy: strict}", "models.x.targets[0]", "provider 'far' is not local"),
    "one-of-several": (
        "{targets: [near/a, {target: far/b}], privacy: strict}",
        "models.x.targets[1].target",
        "provider 'far' is not local",
    ),
    "spelled-out": ("{provider: far, model: a, privacy: strict}", "models.x.provider", "provider 'far' is not local"),
    "cloud-model": (
        "{targets: ['ollama/x:cloud'], privacy: strict}",
        "models.x.targets[0]",
        "'x:cloud' is a cloud model of Ollama",
    ),
    "free": ("{targets: [free/x], privacy: strict}", "models.x.targets[0]", "provider 'free' is not local"),
}


@pytest.mark.parametrize(("entry", "place", "why"), ALIASES.values(), ids=ALIASES)
def test_a_strict_model_that_could_leak_is_refused(tmp_path: Path, entry: str, place: str, why: str) -> None:
    [line] = refused(tmp_path, PROVIDERS + f"  x: {entry}\n")
    assert line.endswith(f": {place}: the alias has privacy: strict, and {why}")


LOCAL = {
    "public-ip": ("http://8.8.8.8/v1", "the address is public"),
    "public-ip6": ("http://[2606:4700::1]/v1", "the address is public"),
    "cloud-service": ("https://api.openai.com/v1", "the address is public"),
}


@pytest.mark.parametrize(("url", "why"), LOCAL.values(), ids=LOCAL)
def test_a_public_address_is_not_local(tmp_path: Path, url: str, why: str) -> None:
    [line] = refused(tmp_path, f'providers: {{x: {{kind: openai, base_url: "{url}", local: true}}}}')
    assert f"providers.x.local: {why}" in line


WRONG = {
    "unknown-default": ("routing: {default: open}", "routing.default: expected strict or flexible, not 'open'"),
    "unknown-task": ("routing: {strict: {speech: echo/echo}}", "routing.strict.speech: unknown key"),
    "no-such-name": (
        "models: {fast: echo/echo}\nrouting: {flexible: {chat: fats}}",
        "routing.flexible.chat: expected a name that stands under models, or provider/model; did you mean 'fast'?",
    ),
    "no-such-provider": (
        "routing: {flexible: {chat: nowhere/x}}",
        "routing.flexible.chat: expected a name that stands under models, or provider/model",
    ),
    "reserved-auto": (
        "models: {auto: echo/echo}\nrouting: {flexible: {chat: echo/echo}}",
        "models.auto: this name stands for the table of `routing`; take another",
    ),
    "reserved-private": (
        "models: {'Private:latest': echo/echo}\nrouting: {strict: {chat: echo/echo}}",
        "models.Private:latest: this name stands for the table of `routing`; take another",
    ),
    "strategy": ("models: {x: {targets: [echo/echo], strategy: best}}", "models.x.strategy: expected ordered, "
                 "weighted, least_busy or cheapest, not 'best'"),
    "privacy": ("models: {x: {targets: [echo/echo], privacy: flexible}}", "models.x.privacy: expected strict, not "
                "'flexible'"),
    "weight": ("models: {x: {targets: [{target: echo/echo, weight: 0}]}}", "models.x.targets[0].weight: expected more "
               "than 0"),
    "weight-flag": ("models: {x: {targets: [{target: echo/echo, weight: true}]}}", "expected a number"),
    "target-missing": ("models: {x: {targets: [{weight: 1}]}}", "models.x.targets[0].target: is missing"),
    "target-unknown-key": ("models: {x: {targets: [{target: echo/echo, wieght: 1}]}}", "unknown key; did you mean "
                           "'weight'?"),
    "both-keys": ("providers: {groq: {api_key: a, api_keys: [b]}}", "providers.groq.api_keys: either api_key or "
                  "api_keys, not both"),
    "key-twice": ("providers: {groq: {api_keys: [b, b]}}", "providers.groq.api_keys: one key stands there twice"),
    "key-no-text": ("providers: {groq: {api_keys: [1]}}", "providers.groq.api_keys: expected a list of keys"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, words: str) -> None:
    lines = refused(tmp_path, text)
    assert any(words in line for line in lines), lines


def test_auto_and_private_are_names_like_others_without_a_table(tmp_path: Path) -> None:
    assert set(configured(tmp_path, "models: {auto: echo/echo, private: echo/echo}").models) == {"auto", "private"}


def test_no_key_is_repeated(tmp_path: Path) -> None:
    lines = refused(tmp_path, "providers: {groq: {api_keys: [top-secret-key, 'two words']}}")
    assert lines and "top-secret" not in " ".join(lines) and "two words" not in " ".join(lines)
