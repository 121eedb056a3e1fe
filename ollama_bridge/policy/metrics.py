"""What is counted, in Prometheus' words (product.md 4). Touched once a request, never once a token.

Knows: prometheus_client. Must not know: prompts, keys, which wire a request came on beyond its route.
"""

from __future__ import annotations

import os
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess, values
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ..values import Usage

LABELS_AT_MOST = 100  # names of parameters; clients can invent any number of them
OTHER = "other"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

_STATES = {"closed": 0, "half-open": 1, "open": 2}


_folder: str | None = None  # where several processes count together


def share(folder: str) -> None:
    """From now on all processes that come of this one count in files of `folder`, and any of them tells the sum. Call
    it before there are Metrics."""
    global _folder
    _folder = os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # the library cannot be told in another way
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]


def forget(process: int) -> None:
    """A process that shared has died: what it was at work on ends with it, what it counted stays."""
    multiprocess.mark_process_dead(process, _folder)  # type: ignore[no-untyped-call]


class Metrics:
    """One registry a process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("requests", "Requests answered", ["route", "method", "status"], registry=registry)
        self.latency = Histogram(
            "request_latency_seconds", "Seconds until the answer ended", ["route"], buckets=_SECONDS, registry=registry
        )
        self.provider_success = Counter(
            "provider_success", "Attempts that brought a whole answer", ["provider"], registry=registry
        )
        self.provider_failures = Counter(
            "provider_failures", "Attempts that failed, by failure scope", ["provider", "reason"], registry=registry
        )
        self.active_streams = Gauge(
            "active_streams", "Streams being answered now", registry=registry, multiprocess_mode="livesum"
        )
        self.first_token = Histogram(
            "time_to_first_token_seconds", "Seconds until the first content", ["provider"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.tokens = Counter("tokens", "Tokens as the provider reported them", ["provider", "kind"], registry=registry)
        self.losses = Counter("losses", "Settings a target could not be told", ["provider", "name"], registry=registry)
        self.repairs = Counter(
            "repairs", "Parameters changed after a provider refused them", ["provider", "name"], registry=registry
        )
        self.fallbacks = Counter(
            "fallbacks", "Attempts that failed and were followed by the next target's", ["provider"], registry=registry
        )
        self.breaker_state = Gauge(
            "breaker_state", "Who is left alone: 0 closed, 1 half-open, 2 open", ["name"], registry=registry,
            multiprocess_mode="livemax",
        )  # fmt: skip
        self.limits_hit = Counter("limits_hit", "Times that a limit was reached", ["limit", "kind"], registry=registry)
        self.redis_up = Gauge(
            "redis_up", "Whether limits are shared through Redis now", registry=registry, multiprocess_mode="livemin"
        )
        self._names: set[str] = set()
        self._breakers: set[str] = set()
        # Finding a series costs the library more than counting in it: those of each request are found once.
        self._requests, self._latency = cache(self.requests.labels), cache(self.latency.labels)
        self._success, self._first_token = cache(self.provider_success.labels), cache(self.first_token.labels)
        self._tokens = cache(self.tokens.labels)

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """`route` is the registered path, never the path as sent (labels must stay few)."""
        self._requests(route, method, status).inc()
        self._latency(route).observe(seconds)

    def observe_attempt(self, provider: str, outcome: str, first_token: float | None, usage: Usage) -> None:
        """`outcome`: "ok", "cancelled", or the failure's scope. `first_token` in seconds, None when there was none."""
        if outcome == "ok":
            self._success(provider).inc()
        else:
            self.provider_failures.labels(provider, outcome).inc()
        if first_token is not None:
            self._first_token(provider).observe(first_token)
        for kind in ("prompt", "completion", "cached", "reasoning"):
            count = getattr(usage, kind)
            if count:
                self._tokens(provider, kind).inc(count)

    def observe_loss(self, provider: str, name: str) -> None:
        self.losses.labels(provider, self._few(name)).inc()

    def observe_repair(self, provider: str, name: str) -> None:
        self.repairs.labels(provider, self._few(name)).inc()

    def observe_breaker(self, name: str, state: str) -> None:
        """`state`: "closed", "half-open" or "open". The names first seen are shown, as many as there may be."""
        if len(self._breakers) < LABELS_AT_MOST:
            self._breakers.add(name)
        if name in self._breakers:
            self.breaker_state.labels(name).set(_STATES[state])

    def observe_limit(self, limit: str, kind: str) -> None:
        """`limit`: "everyone", "provider:NAME" or "model:NAME"; `kind`: "requests", "tokens" or "streams"."""
        self.limits_hit.labels(limit, kind).inc()

    def observe_redis(self, up: bool) -> None:
        self.redis_up.set(up)

    def _few(self, name: str) -> str:
        if len(self._names) < LABELS_AT_MOST:
            self._names.add(name)
        return name if name in self._names else OTHER

    def exposition(self) -> tuple[bytes, str]:
        """The page of GET /metrics and its content type."""
        registry = self.registry
        if _folder is not None:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry, _folder)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST
