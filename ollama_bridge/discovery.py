"""Keeps the catalog's knowledge of what providers list up to date, beside the answers and never in their way.

Knows: when to ask again, and that a provider may be down. Must not know: wires; how a list is read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from .errors import GatewayError, UpstreamRefused
from .policy.catalog import Catalog, Model
from .policy.ports import Log
from .providers.base import Provider

EVERY = 600.0  # seconds between two looks at a cloud catalogue
RETRY = 30.0  # seconds until a provider that did not answer is looked at again, doubled each time
FRESH = 2.0  # seconds a real Ollama's list is taken for current
PATIENCE = 1.0  # seconds a listing waits for a real Ollama (Raycast gives 1.8 s for all: clients.md 4.4)
LIMIT = 20.0  # seconds one catalogue may take


class Discovery:
    """One for the process. A provider that is off is not asked. Start it in the loop, `stop` it at the end."""

    def __init__(self, catalog: Catalog, providers: Iterable[Provider], log: Log) -> None:
        self._catalog = catalog
        self._providers = list(providers)
        self._log = log
        self._background: list[asyncio.Task[None]] = []
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._asked: dict[str, float] = {}
        self._down: set[str] = set()
        self._mute: set[str] = set()  # those that were waited for in vain

    def start(self) -> None:
        self._background = [asyncio.create_task(self._keep_asking(provider)) for provider in self._providers]

    async def stop(self) -> None:
        tasks = [*self._background, *self._asking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_asking(self, provider: Provider) -> None:
        retry = RETRY
        while provider.off is None:
            await self._ask(provider)
            if provider.name in self._down:
                await asyncio.sleep(retry)
                retry = min(2 * retry, EVERY)
            else:
                await asyncio.sleep(EVERY)
                retry = RETRY

    async def refresh(self) -> None:
        """Brings the lists of real Ollamas up to date, waiting PATIENCE seconds at most. One that has been waited for
        in vain is asked too, but waited for only once it has answered again. Never raises."""
        now = asyncio.get_running_loop().time()
        ollamas = [provider for provider in self._providers if provider.kind == "ollama" and provider.off is None]
        due = {one.name: self._ask(one) for one in ollamas if now - self._asked.get(one.name, -FRESH) >= FRESH}
        awaited = {name: task for name, task in due.items() if name not in self._mute}
        if awaited:
            await asyncio.wait(awaited.values(), timeout=PATIENCE)
            self._mute |= {name for name, task in awaited.items() if not task.done()}

    async def find(self, name: str) -> Model:
        """The catalog's model; an unknown name may be one that a real Ollama has got a moment ago. Raises
        GatewayError."""
        try:
            model = self._catalog.find(name)
            if all(target.remote is not None for target in model.targets):
                return model
        except GatewayError:
            pass
        await self.refresh()
        return self._catalog.find(name)

    def _ask(self, provider: Provider) -> asyncio.Task[None]:
        """The running look at this provider, or a new one: two at a time would tell the same."""
        task = self._asking.get(provider.name)
        if task is None or task.done():
            task = self._asking[provider.name] = asyncio.create_task(self._learn(provider))
        return task

    async def _learn(self, provider: Provider) -> None:
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(LIMIT):
                listed = await provider.models()
        except (GatewayError, UpstreamRefused, TimeoutError) as error:
            self._asked[provider.name] = clock()
            if provider.name not in self._down:
                self._down.add(provider.name)
                why = error.message if isinstance(error, GatewayError) else str(error) or "no answer in time"
                self._log.warning("models not listed", provider=provider.name, why=why)
            if provider.kind == "ollama":
                self._catalog.learn(provider, [], time.time())
            return
        self._asked[provider.name] = clock()
        self._down.discard(provider.name)
        self._mute.discard(provider.name)
        self._catalog.learn(provider, listed, time.time())
