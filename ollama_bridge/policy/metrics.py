"""What is counted, in Prometheus' words (product.md 4). Touched once a request, never once a token.

Knows: prometheus_client. Must not know: prompts, keys, which wire a request came on beyond its route.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ..values import Usage

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


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
        self.active_streams = Gauge("active_streams", "Streams being answered now", registry=registry)
        self.first_token = Histogram(
            "time_to_first_token_seconds", "Seconds until the first content", ["provider"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.tokens = Counter("tokens", "Tokens as the provider reported them", ["provider", "kind"], registry=registry)
        self.losses = Counter("losses", "Settings a target could not be told", ["provider", "name"], registry=registry)
        self.repairs = Counter(
            "repairs", "Parameters changed after a provider refused them", ["provider", "name"], registry=registry
        )

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """`route` is the registered path, never the path as sent (labels must stay few)."""
        self.requests.labels(route, method, str(status)).inc()
        self.latency.labels(route).observe(seconds)

    def observe_usage(self, provider: str, usage: Usage) -> None:
        for kind in ("prompt", "completion", "cached", "reasoning"):
            count = getattr(usage, kind)
            if count:
                self.tokens.labels(provider, kind).inc(count)

    def exposition(self) -> tuple[bytes, str]:
        """The page of GET /metrics and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
