"""Limits, breakers and queues as a configuration wants them, and the Redis that they share.

Knows: which class stands behind which, what outlives a configuration (all but the numbers). Must not know: how anything
is counted, requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import SecretStr

from .config import Config, ProviderConfig
from .config.limits import Rates
from .policy.breaker import Breakers
from .policy.limits import Counts, Limits, Rate
from .policy.metrics import Metrics
from .policy.plans import gates_of
from .policy.ports import Log
from .policy.queue import Queues, Size

if TYPE_CHECKING:
    from .store.redis import RedisStore


class Limiting:
    """One for the process. `start` and `stop` it in the loop."""

    def __init__(self, metrics: Metrics, log: Log) -> None:
        self.breakers = Breakers(time.monotonic, changed=self._told)
        self.queues = Queues(time.monotonic)
        self._counts = Counts(time.monotonic)
        self._metrics = metrics
        self._log = log
        self._providers: Mapping[str, ProviderConfig] = {}
        self._url: SecretStr | None = None
        self._store: RedisStore | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, config: Config) -> None:
        """When Redis can be reached it is, before the first request comes."""
        self.change(config)
        await asyncio.gather(*self._tasks)

    def change(self, config: Config) -> None:
        """From now on the numbers of `config` hold; what is counted, open or waiting stays so. A provider that is
        another now is asked at once: its key may have been mended."""
        self.breakers.change(config.backoff.base, config.backoff.max)
        replaced = [name for name, provider in self._providers.items() if config.providers.get(name) != provider]
        self.breakers.forget(*(prefix for name in replaced for prefix in gates_of(name)))
        self._providers = config.providers
        self.queues.change(
            {name: Size(q.at_once, q.waiting, q.wait) for name, p in config.providers.items() if (q := p.queue)}
        )
        if config.redis != self._url:
            self._url = config.redis
            self._share(config.redis)

    def limits(self, config: Config) -> Limits:
        """Of one configuration."""
        limits = config.limits
        return Limits(
            self._counts,
            _rate(limits.everyone),
            {name: _rate(rates) for name, rates in limits.providers.items()},
            {name: _rate(rates) for name, rates in limits.models.items()},
            self._metrics.observe_limit,
        )

    @property
    def redis(self) -> str:
        """ "off", "up" or "lost"."""
        if self._store is None:
            return "off"
        return "up" if self._store.link.up else "lost"

    async def stop(self) -> None:
        self._share(None)
        await asyncio.gather(*self._tasks)

    def _share(self, url: SecretStr | None) -> None:
        before, self._store = self._store, None
        if url is not None:
            from .store.redis import RedisStore  # not before it is needed: it brings the client with it

            self._store = RedisStore(
                url.get_secret_value(), self._log, heard=self.breakers.heard, changed=self._metrics.observe_redis
            )
        self._counts.shared = self.breakers.board = self._store
        task = asyncio.ensure_future(_exchange(before, self._store))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _told(self, name: str, state: str, reason: str) -> None:
        self._metrics.observe_breaker(name, state)
        self._log.info("breaker", name=name, state=state, reason=reason)


async def _exchange(before: RedisStore | None, store: RedisStore | None) -> None:
    if before is not None:
        await before.stop()
    if store is not None:
        await store.start()


def _rate(rates: Rates) -> Rate:
    return Rate(rates.requests, rates.tokens, rates.streams)
