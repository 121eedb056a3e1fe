"""The sections `backoff:`, `limits:` and `redis:`, and a provider's `queue:`: what may stand there, and what it means.

Knows: numbers of limits, how a provider without its own takes the gateway's, the spelling of a Redis address. Must not
know: how anything is counted, what a queue does.

    backoff: {base: 5s, max: 300s}
    limits:
      requests_per_minute: 60                          # of everybody together, and of each provider without its own
      providers: {groq: {requests_per_minute: 30}}
      models: {fast: {tokens_per_minute: 100000}}
    redis: ${REDIS_URL:-}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import PlainValidator, SecretStr, model_validator

from .fields import Count, Duration, Natural, Section
from .problems import Marks, Problem, nearest
from .routing import ROUTED_NAMES, split_target


def _redis(value: object) -> SecretStr:
    expected = "expected an address such as redis://:PASSWORD@localhost:6379/0, rediss://… or unix:///path/to/socket"
    if not isinstance(value, str):
        raise ValueError(expected)
    try:
        parts = urlsplit(value.strip())
        database = parts.path.strip("/")
        good = parts.scheme in ("redis", "rediss") and parts.hostname and parts.port != 0
        good = good and (not database or database.isdecimal())
    except ValueError:
        raise ValueError(expected) from None
    if not good and not (parts.scheme == "unix" and parts.path):
        raise ValueError(expected)
    return SecretStr(value.strip())


RedisUrl = Annotated[SecretStr, PlainValidator(_redis)]


class BackoffEntry(Section):
    """Seconds. `base` 0: breakers never open."""

    base: Duration = 5.0
    max: Duration = 300.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max < self.base:
            raise ValueError("max must not be shorter than base")
        return self


class RatesEntry(Section):
    """0 is no limit; None is what stands one level up."""

    requests_per_minute: Natural | None = None
    tokens_per_minute: Natural | None = None
    concurrent_streams: Natural | None = None


class LimitsEntry(RatesEntry):
    """Of everybody together, then by provider and by public name of a model."""

    providers: dict[str, RatesEntry] = {}
    models: dict[str, RatesEntry] = {}


class QueueEntry(Section):
    """In front of a provider that can do only so much at once. `wait` in seconds; 0: for as long as it takes."""

    at_once: Count
    waiting: Natural = 64
    wait: Duration = 60.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests and tokens a minute, streams at once; 0 is no limit."""

    requests: int = 0
    tokens: int = 0
    streams: int = 0


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """`providers` has every provider that is limited, with what it takes from `everyone` filled in."""

    everyone: Rates = Rates()
    providers: Mapping[str, Rates] = field(default_factory=dict)
    models: Mapping[str, Rates] = field(default_factory=dict)


def limits_of(
    entry: LimitsEntry, providers: Iterable[str], models: Iterable[str], marks: Marks
) -> tuple[LimitsConfig, list[Problem]]:
    """-> (the limits, what is wrong with them). `providers` and `models` are those of the configuration."""
    names, aliases = list(providers), list(models)
    problems = [
        marks.problem(("limits", "providers", name), f"no provider '{name}'{nearest(name, names)}")
        for name in entry.providers
        if name not in names
    ]
    problems += [
        marks.problem(
            ("limits", "models", name),
            f"no model '{name}' in this file{nearest(name, aliases)}; others are written provider/model or name:tag",
        )
        for name in entry.models
        if not _may_be_model(name, aliases)
    ]
    everyone = _rates(entry, Rates())
    found = LimitsConfig(
        everyone,
        {name: rates for name in names if (rates := _rates(entry.providers.get(name), everyone)) != Rates()},
        {name: _rates(own, Rates()) for name, own in entry.models.items()},
    )
    return found, problems


def _may_be_model(name: str, aliases: Iterable[str]) -> bool:
    """What a provider or a real Ollama has is not known before it is asked."""
    known = {alias.casefold() for alias in (*aliases, *ROUTED_NAMES)}
    return name.casefold().removesuffix(":latest") in known or split_target(name) is not None


def _rates(entry: RatesEntry | None, general: Rates) -> Rates:
    if entry is None:
        return general
    return Rates(
        _first(entry.requests_per_minute, general.requests),
        _first(entry.tokens_per_minute, general.tokens),
        _first(entry.concurrent_streams, general.streams),
    )


def _first(own: int | None, general: int) -> int:
    return general if own is None else own
