"""The sections backoff, limits and redis and a provider's queue: what they mean, what they refuse; and what is made of
them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from configs import configured, refused
from redis_server import redis_server

from ollama_bridge.config.limits import Rates
from ollama_bridge.errors import GatewayError
from ollama_bridge.limiting import Limiting
from ollama_bridge.policy.metrics import Metrics


def test_nothing_is_limited_unless_something_is_said(tmp_path: Path) -> None:
    config = configured(tmp_path, "")
    assert (config.limits.everyone, config.limits.providers, config.limits.models) == (Rates(), {}, {})
    assert (config.backoff.base, config.backoff.max, config.redis) == (5.0, 300.0, None)
    assert not any(provider.queue for provider in config.providers.values())


def test_a_provider_without_its_own_number_takes_the_gateway_s(tmp_path: Path) -> None:
    text = """
    limits:
      requests_per_minute: 60
      concurrent_streams: 10
      providers:
        groq: {requests_per_minute: 30, tokens_per_minute: 900}
        openai: {requests_per_minute: 0, concurrent_streams: 0}
      models: {fast: {requests_per_minute: 5}, "qwen3:8b": {tokens_per_minute: 9}}
    models: {fast: groq/llama}
    """
    limits = configured(tmp_path, text).limits
    assert limits.everyone == Rates(60, 0, 10)
    assert limits.providers["groq"] == Rates(30, 900, 10)
    assert limits.providers["mistral"] == Rates(60, 0, 10)
    assert "openai" not in limits.providers
    assert limits.models == {"fast": Rates(5, 0, 0), "qwen3:8b": Rates(0, 9, 0)}


@pytest.mark.parametrize(
    "text, words",
    [
        pytest.param("limits: {requests_per_minute: -1}", "expected 0 or more", id="negative"),
        pytest.param(
            "limits: {request_per_minute: 1}", "unknown key; did you mean 'requests_per_minute'?", id="unknown-key"
        ),
        pytest.param(
            "limits: {providers: {grok: {requests_per_minute: 1}}}", "no provider 'grok'; did you mean 'groq'?",
            id="unknown-provider",
        ),
        pytest.param(
            "limits: {models: {fats: {}}}\nmodels: {fast: groq/llama}",
            "no model 'fats' in this file; did you mean 'fast'?; others are written provider/model or name:tag",
            id="unknown-model",
        ),
        pytest.param("backoff: {base: 10s, max: 5s}", "max must not be shorter than base", id="max-below-base"),
        pytest.param("providers: {ollama: {queue: {waiting: 1}}}", "at_once: is missing", id="queue-of-nobody"),
        pytest.param("providers: {ollama: {queue: {at_once: 0}}}", "expected 1 or more", id="queue-of-none"),
        pytest.param("redis: localhost:6379", "expected an address such as redis://", id="no-scheme"),
        pytest.param("redis: http://localhost", "expected an address such as redis://", id="other-scheme"),
        pytest.param("redis: redis://localhost/one", "expected an address such as redis://", id="no-database"),
        pytest.param("redis: 6379", "expected an address such as redis://", id="a-number"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(tmp_path: Path, text: str, words: str) -> None:
    lines = refused(tmp_path, text)
    assert any(words in line for line in lines), lines


def test_a_password_of_redis_is_never_shown(tmp_path: Path) -> None:
    assert "hunter2" not in repr(configured(tmp_path, "redis: redis://:hunter2@localhost:6379/1"))
    assert "hunter2" not in str(refused(tmp_path, "redis: rediss//:hunter2@localhost"))


class Silent:
    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, event: str, **values: object) -> None:
        self.said.append(event)

    warning = error = info


async def test_another_configuration_changes_numbers_and_keeps_counts(tmp_path: Path) -> None:
    limiting = Limiting(Metrics(), Silent())
    before = configured(
        tmp_path, "limits: {requests_per_minute: 2}\nproviders: {ollama: {queue: {at_once: 1, waiting: 0}}}"
    )
    await limiting.start(before)
    limits = limiting.limits(before)
    for _ in range(2):
        await limits.admit_request("m", 0, False)
    place = await limiting.queues.enter("ollama", "a")
    with pytest.raises(GatewayError):
        await limiting.queues.enter("ollama", "b")
    after = configured(tmp_path, "limits: {requests_per_minute: 3}\nbackoff: {base: 0}")
    limiting.change(after)
    limits = limiting.limits(after)
    await limits.admit_request("m", 0, False)
    with pytest.raises(GatewayError):
        await limits.admit_request("m", 0, False)
    await limiting.queues.enter("ollama", "b")
    for _ in range(9):
        with await limiting.breakers.enter("lab/m") or pytest.fail("it opened") as entered:
            entered.bad("throttle")
    place.leave()
    await limiting.stop()


async def test_another_redis_is_taken_and_let_go_in_work(tmp_path: Path) -> None:
    metrics = Metrics()

    def up() -> float | None:
        return metrics.registry.get_sample_value("redis_up")

    with redis_server() as one, redis_server() as other:
        limiting = Limiting(metrics, Silent())
        configs = [
            configured(tmp_path, f"limits: {{concurrent_streams: 1}}\nredis: {url}") for url in (one.url, other.url)
        ]
        alone = configured(tmp_path, "limits: {concurrent_streams: 1}")
        await limiting.start(configs[0])
        assert up() == 1
        permit = await limiting.limits(configs[0]).admit_request("m", 0, True)
        with one.client() as client:
            assert client.exists("{ollama-bridge}:streams:everyone")
        limiting.change(configs[1])
        await asyncio.gather(*limiting._tasks)
        assert up() == 1
        with one.client() as client:
            assert not client.exists("{ollama-bridge}:streams:everyone")  # given back on the way out
        permit.release()
        with await limiting.limits(configs[1]).admit_request("m", 0, True), other.client() as client:
            assert client.exists("{ollama-bridge}:streams:everyone")
        limiting.change(alone)
        await asyncio.gather(*limiting._tasks)
        assert up() == 0
        with await limiting.limits(alone).admit_request("m", 0, True):
            pass
        await limiting.stop()
