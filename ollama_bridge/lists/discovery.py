"""Keeps the catalog's knowledge of what providers list up to date, beside the answers and never in their way.

Knows: when to ask again, that a provider may be down, that lists are kept over a restart. Must not know: wires; how a
list is read, where it is kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from ..errors import MODEL_NOT_FOUND, GatewayError, UpstreamRefused
from ..policy.catalog import Catalog, Model, Target
from ..policy.ports import Log
from ..policy.sources import OWN_MODELS
from ..providers.base import Known, ListedModel, Provider

EVERY = 600.0  # seconds between two looks at a cloud catalogue
RETRY = 30.0  # seconds until a provider that did not answer is looked at again, doubled each time
FRESH = 2.0  # seconds a real Ollama's list is taken for current
PATIENCE = 1.0  # seconds a listing waits for a real Ollama (Raycast gives 1.8 s for all: clients.md 4.4)
LIMIT = 20.0  # seconds one catalogue may take
QUIET = 3.0  # seconds after the start in which no price is looked up: the first answers go before
HERE = ("ollama", "ollamafree", "echo")  # kinds without a catalogue of their own to be kept, and without prices


class Kept(Protocol):
    """A list of models, and what the book told of them."""

    @property
    def models(self) -> list[ListedModel]: ...

    @property
    def told(self) -> dict[str, Known]: ...


class Shelf(Protocol):
    """Where lists are kept over a restart."""

    def read(self, owner: Provider) -> Kept | None: ...

    def write(self, owner: Provider, models: list[ListedModel], told: dict[str, Known]) -> None: ...


class Book(Protocol):
    """What is known of prices beside catalogues. Raises OSError where it cannot be read."""

    async def look_up(self, base_url: str, models: Collection[str]) -> Mapping[str, Known]: ...


class Discovery:
    """One for a configuration. A provider that is off is not asked. Start it in the loop, `stop` it at the end."""

    def __init__(
        self,
        catalog: Catalog,
        providers: Iterable[Provider],
        log: Log,
        shelf: Shelf | None = None,
        book: Book | None = None,
    ) -> None:
        self._catalog = catalog
        self._providers = list(providers)
        self._log = log
        self._shelf = shelf
        self._book = book
        self._background: list[asyncio.Task[None]] = []
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._asked: dict[str, float] = {}
        self._down: set[str] = set()
        self._mute: set[str] = set()  # those that were waited for in vain
        self._said: set[object] = set()  # what the log has been told once

    def start(self) -> None:
        """Reads what was kept; asks for what is new beside."""
        for provider in self._providers:
            if self._shelf is None or provider.off is not None or provider.kind in HERE:
                continue
            kept = None if self._catalog.knows_list(provider.name) else self._shelf.read(provider)
            if kept is not None:
                self._catalog.learn(provider, kept.models, time.time())
                self._catalog.learn_packaged(provider.name, kept.told)
        self._background = [asyncio.create_task(self._keep_asking(provider)) for provider in self._providers]

    async def stop(self) -> None:
        tasks = [*self._background, *self._asking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_asking(self, provider: Provider) -> None:
        clock = asyncio.get_running_loop().time
        prices_from = clock() + QUIET
        retry = RETRY
        while provider.off is None:
            await self._ask(provider)
            down = provider.name in self._down
            again = clock() + (retry if down else EVERY)
            retry = min(2 * retry, EVERY) if down else RETRY
            if provider.kind not in HERE:
                await asyncio.sleep(max(0.0, prices_from - clock()))
                await self._look_up_prices(provider)
                await self._keep(provider)
                self._tell_of_ends(provider)
            await asyncio.sleep(max(0.0, again - clock()))

    async def refresh(self, local: bool = False) -> None:
        """Brings the lists of real Ollamas (and the echo) up to date, waiting PATIENCE seconds at most. One that has
        been waited for in vain is asked too, but waited for only once it has answered again. `local`: only those on our
        machines are asked. Never raises."""
        now = asyncio.get_running_loop().time()
        ollamas = [
            one for one in self._providers if one.kind in OWN_MODELS and one.off is None and (one.local or not local)
        ]
        due = {one.name: self._ask(one) for one in ollamas if now - self._asked.get(one.name, -FRESH) >= FRESH}
        awaited = {name: task for name, task in due.items() if name not in self._mute}
        if awaited:
            await asyncio.wait(awaited.values(), timeout=PATIENCE)
            self._mute |= {name for name, task in awaited.items() if not task.done()}

    async def find(self, name: str, current: bool = False) -> Model:
        """The catalog's model; an unknown name may be one that a real Ollama has got a moment ago. `current`: what a
        real Ollama said longer ago does not count, for a model may have come to be answered elsewhere since. So it is
        for strict requests, for which nobody is asked who is not on our machines. Raises GatewayError."""
        try:
            model = self._catalog.find(name)
            current = current or model.strict
            known = all(target.remote is not None for target in model.targets)
            if known and not (current and any(self._is_ollamas(target) for target in model.targets)):
                return model
        except GatewayError:
            pass
        await self.refresh(local=current)
        try:
            model = self._catalog.find(name)
        except GatewayError as error:
            if error.code == MODEL_NOT_FOUND:
                error.near = self._catalog.near(name)
            raise
        return self._in_doubt(model) if current else model

    def _is_ollamas(self, target: Target) -> bool:
        return any(one.name == target.provider and one.kind == "ollama" for one in self._providers)

    def _in_doubt(self, model: Model) -> Model:
        """Where a real Ollama did not answer in time, nobody knows where its models are answered now."""
        oldest = asyncio.get_running_loop().time() - FRESH - PATIENCE
        stale = [
            self._is_ollamas(target) and not target.remote and self._asked.get(target.provider, oldest) <= oldest
            for target in model.targets
        ]
        if not any(stale):
            return model
        doubted = zip(model.targets, stale, strict=True)
        return replace(model, targets=tuple(replace(t, remote=None) if old else t for t, old in doubted))

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
            self._catalog.learn(provider, listed, time.time())
        except Exception as error:  # whatever a service lists, or an SDK makes of it: it is asked again
            self._asked[provider.name] = clock()
            if provider.name not in self._down:
                self._down.add(provider.name)
                self._log.warning("models not listed", provider=provider.name, why=_why(error))
            if provider.kind == "ollama":
                self._catalog.learn(provider, [], time.time())
            return
        self._asked[provider.name] = clock()
        self._down.discard(provider.name)
        self._mute.discard(provider.name)

    # -- beside what a provider lists ------------------------------------------------------------------------------
    async def _look_up_prices(self, provider: Provider) -> None:
        models = self._catalog.unpriced(provider.name)
        if self._book is None or not models:
            return
        try:
            told = await self._book.look_up(provider.base_url, models)
            if told:
                self._catalog.learn_packaged(provider.name, told)
        except Exception as error:  # a package's own book
            if self._first("no prices"):
                self._log.warning("prices not looked up", why=_why(error))

    async def _keep(self, provider: Provider) -> None:
        if self._shelf is None or provider.name in self._down:
            return
        models, told = self._catalog.told_of(provider.name)
        try:
            await asyncio.to_thread(self._shelf.write, provider, models, told)
        except Exception as error:  # what a service listed may be nothing that can be written
            if self._first("not kept"):
                why = (isinstance(error, OSError) and error.strerror) or type(error).__name__
                self._log.warning("models not kept for the next start", why=why)

    def _tell_of_ends(self, provider: Provider) -> None:
        ends = self._catalog.ending(provider.name, datetime.now(UTC).date())
        new = [f"{model} on {day}" for model, day in ends if self._first((provider.name, model, day))]
        if new:
            self._log.warning("models retire soon", provider=provider.name, models=new)

    def _first(self, event: object) -> bool:
        """Whether the log has not been told of it yet."""
        if event in self._said:
            return False
        self._said.add(event)
        return True


def _why(error: Exception) -> str:
    """Words for the log. Those of an error that nobody expected may quote anything: its type must do."""
    if isinstance(error, TimeoutError):
        return str(error) or "no answer in time"
    if isinstance(error, GatewayError):
        return error.message
    return str(error) if isinstance(error, UpstreamRefused | OSError) else type(error).__name__
