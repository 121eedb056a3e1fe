"""The configuration as the rest of the program gets it: complete, checked, frozen.

Knows: what was decided. Must not know: how the file spells it, where a value came from.

Secrets are SecretStr: their repr and str are stars, `.get_secret_value()` gives them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from ..dialects.base import Profile
from ..providers.base import Known, Price, Timeouts
from .limits import BackoffEntry, LimitsConfig, QueueEntry
from .schema import Defaults, Server


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """One provider. `off` is None, or the sentence that says why it cannot be used and what to do; `remedy` is its
    second half alone (`set GROQ_API_KEY`). `key_source`: the variable or `the file` the key came from. `patterns` are
    globs over upstream model names, for what is listed of a large catalogue; None: the provider's default. `preset`
    is the name of the row that tells what such a server accepts, "" for none. `api_version`: of Azure's first API.
    `hub_url`: of the Hub that names a router's models at the providers behind it, None where there is no such router.
    `further_keys`: of further accounts at the same service, beside `api_key`. `models`: what the file says of models,
    by the provider's own names."""

    name: str
    kind: str
    base_url: str
    api_key: SecretStr | None = None
    further_keys: tuple[SecretStr, ...] = ()
    key_source: str | None = None
    local: bool = False
    off: str | None = None
    remedy: str | None = None
    headers: Mapping[str, SecretStr] = field(default_factory=dict)
    api_version: str | None = None
    hub_url: str | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    preset: str = ""
    profile: Profile = field(default_factory=Profile)
    queue: QueueEntry | None = None
    patterns: tuple[str, ...] | None = None
    drop_tools: bool = False
    models: Mapping[str, Known] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """One model of one provider, and the limits a call to it has. `api`: which of OpenAI's APIs carries its chats,
    "auto", "chat" or "responses". `weight`: its share, where an alias is weighted."""

    provider: str
    model: str
    timeouts: Timeouts
    api: str = "auto"
    weight: float = 1.0

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """An alias. None is "the file does not say": the global default, discovery or the provider decides. `options` are
    Ollama's under Ollama's names, without those that are None; `keep_alive` is in seconds, negative for ever.
    `drop_tools` and `strict_parameters` are decided here (alias, else provider or file). `strategy`: how the first of
    its targets is chosen. `strict`: requests to it never leave our machines."""

    name: str
    targets: tuple[Target, ...]
    strategy: str = "ordered"
    strict: bool = False
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    think: bool | str | None = None
    keep_alive: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    capabilities: frozenset[str] | None = None
    context_length: int | None = None
    max_output: int | None = None
    embedding_length: int | None = None
    price: Price | None = None
    retires: date | None = None
    drop_tools: bool = False
    strict_parameters: bool = False
    resume: bool = False


@dataclass(frozen=True, slots=True)
class RoutingConfig:
    """The table of privacy and task: task -> names, aliases or provider/model, in the order in which they are asked.
    `default`: "strict" or "flexible", for requests that say neither."""

    default: str = "flexible"
    strict: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    flexible: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything. `source` is the file, None for the packaged defaults; `capture` the folder of the capture, None for
    none; `warnings` are sentences the operator must see at start; `files` all that it was read from, or would be if it
    were there."""

    server: Server
    defaults: Defaults
    providers: Mapping[str, ProviderConfig]
    models: Mapping[str, ModelConfig]
    timeouts: Timeouts
    state_dir: Path
    routing: RoutingConfig = RoutingConfig()
    backoff: BackoffEntry = field(default_factory=BackoffEntry)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    redis: SecretStr | None = None
    capture: Path | None = None
    strict_parameters: bool = False
    source: Path | None = None
    warnings: tuple[str, ...] = ()
    files: frozenset[Path] = field(default=frozenset(), compare=False)
