"""What one configuration makes: providers, catalog, pipeline, services. A new configuration makes a new engine; what
must outlive it is in Lasting.

Knows: which class stands behind which port. Must not know: how any of them works, sockets we listen on, signals.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from . import __version__
from .capture import DirectoryCapture
from .config import Config, ModelConfig, ProviderConfig
from .dialects.anthropic import AnthropicDialect
from .dialects.base import Dialect
from .dialects.feature_extraction import FeatureExtractionDialect
from .dialects.fim import FimDialect
from .dialects.gemini import GeminiDialect
from .dialects.infill import InfillDialect
from .dialects.ollama import OllamaDialect
from .dialects.openai import OpenAIDialect
from .dialects.openai_compat import OpenAICompatDialect
from .dialects.plain import PlainDialect
from .dialects.responses import ResponsesDialect
from .fetch import ImageFetcher
from .library.library import Library
from .library.loaded import LoadedModels
from .limiting import Limiting
from .lists.discovery import Discovery
from .lists.pricebook import PriceBook
from .lists.shelf import Shelf
from .policy.attempts import Attempts
from .policy.catalog import Defaults, Model, Target
from .policy.continuity import Continuity
from .policy.gates import Gates
from .policy.marks import Marks
from .policy.metrics import Metrics
from .policy.opening import Opening
from .policy.pipeline import Pipeline
from .policy.planning import Planner
from .policy.ports import Log
from .policy.repair import Learned
from .policy.retries import Retries
from .policy.routed import RoutedCatalog
from .policy.router import is_here
from .policy.selection import Selection
from .policy.sticky import Sticky
from .policy.tasks import Table
from .providers.anthropic import AnthropicProvider
from .providers.base import Provider
from .providers.echo import EchoProvider
from .providers.google import GoogleProvider
from .providers.huggingface import HuggingFaceProvider
from .providers.ollama import OllamaProvider
from .providers.ollamafree import OllamaFreeProvider
from .providers.openai import OpenAIProvider
from .providers.transport import open_session
from .pulse import Pulse
from .web.ports import Services, WebSettings


def account(config: ProviderConfig, session: aiohttp.ClientSession) -> dict[str, Any]:
    """What every provider with a network is made of."""
    return {
        "base_url": config.base_url,
        "api_key": config.api_key.get_secret_value() if config.api_key else None,
        "session": session,
        "profile": config.profile,
        "local": config.local,
        "off": config.off,
        "headers": {name: value.get_secret_value() for name, value in config.headers.items()},
        "timeouts": config.timeouts,
    }


# One line a provider kind.
PROVIDERS: dict[str, Callable[[ProviderConfig, aiohttp.ClientSession], Provider]] = {
    "openai": lambda config, session: OpenAIProvider(
        config.name, **account(config, session), api_version=config.api_version
    ),
    "huggingface": lambda config, session: HuggingFaceProvider(
        config.name, **account(config, session), hub=config.hub_url
    ),
    "anthropic": lambda config, session: AnthropicProvider(
        config.name, **account(config, session), compatible=config.preset != "anthropic"
    ),
    "google": lambda config, session: GoogleProvider(config.name, **account(config, session)),
    "ollama": lambda config, session: OllamaProvider(config.name, **account(config, session)),
    "ollamafree": lambda config, session: OllamaFreeProvider(
        config.name, session=session, profile=config.profile, timeouts=config.timeouts
    ),
    "echo": lambda config, session: EchoProvider(config.name),
}


def accounts_of(config: ProviderConfig, lasting: Lasting) -> tuple[Provider, ...]:
    """One for each key. What counts as local is reached by connections that end at private addresses alone."""
    session = lasting.guarded if config.local else lasting.session
    others = (dataclasses.replace(config, api_key=key) for key in config.further_keys)
    return tuple(PROVIDERS[config.kind](each, session) for each in (config, *others))


# One line a dialect that providers speak.
DIALECTS: tuple[Dialect, ...] = (
    OllamaDialect(),
    OpenAIDialect(),
    AnthropicDialect(),
    GeminiDialect(),
    ResponsesDialect(),
    FeatureExtractionDialect(),
    FimDialect(),
    InfillDialect(),
)

MAX_REPLY = 64 * 1024 * 1024  # bytes of a provider's whole answer


@dataclass
class Lasting:
    """What outlives a configuration: connections, counts, what has been learnt of models and kept for clients."""

    session: aiohttp.ClientSession
    guarded: aiohttp.ClientSession
    fetcher: ImageFetcher
    metrics: Metrics
    log: Log
    learned: Learned
    continuity: Continuity
    loaded: LoadedModels
    limiting: Limiting
    sticky: Sticky
    book: PriceBook
    pulse: Pulse
    since: float  # time.monotonic()

    @classmethod
    async def open(cls, log: Log, exit_stack: contextlib.AsyncExitStack, strict: Marks | None = None) -> Lasting:
        """To be closed by `exit_stack`. `strict`: conversations that were, known to all processes of the gateway."""
        session, guarded = await open_session(), await open_session(guarded=True)
        exit_stack.push_async_callback(session.close)
        exit_stack.push_async_callback(guarded.close)
        fetcher = ImageFetcher()
        exit_stack.push_async_callback(fetcher.close)
        pulse = Pulse()
        pulse.start()
        exit_stack.callback(pulse.stop)
        metrics = Metrics()
        limiting = Limiting(metrics, log)
        exit_stack.push_async_callback(limiting.stop)
        return cls(
            session,
            guarded,
            fetcher,
            metrics,
            log,
            Learned(time.monotonic),
            Continuity(time.monotonic),
            LoadedModels(),
            limiting,
            Sticky(time.monotonic, strict=strict),
            PriceBook(),
            pulse,
            time.monotonic(),
        )


class Engine:
    """Everything behind the doors for one configuration. `before`: the engine whose place it takes; providers that did
    not change are taken over with their connections and lists. `start` it in the loop, `close` it when its last request
    has ended."""

    def __init__(self, config: Config, lasting: Lasting, before: Engine | None = None) -> None:
        self.config = config
        self.accounts: dict[str, tuple[Provider, ...]] = {}
        for name, made_of in config.providers.items():
            same = before is not None and before.config.providers.get(name) == made_of
            self.accounts[name] = (
                before.accounts[name] if before is not None and same else accounts_of(made_of, lasting)
            )
        # What is asked of a provider beside answers is asked with its first key.
        self.providers: dict[str, Provider] = {name: accounts[0] for name, accounts in self.accounts.items()}
        self.catalog = RoutedCatalog(
            self.providers,
            [alias(model, config) for model in config.models.values()],
            Defaults(**config.defaults.model_dump()),
            patterns={name: list(p.patterns) for name, p in config.providers.items() if p.patterns},
            drop_tools={name for name, p in config.providers.items() if p.drop_tools},
            presets={name: p.preset for name, p in config.providers.items()},
            configured={name: p.models for name, p in config.providers.items()},
        )
        self.catalog.table = Table(config.routing.default, config.routing.strict, config.routing.flexible)
        if before is not None:
            self.catalog.take_over(before.catalog)
        self.discovery = Discovery(
            self.catalog, self.providers.values(), lasting.log, Shelf(config.state_dir / "models"), lasting.book
        )
        self._log = lasting.log
        limiting = lasting.limiting
        keys = secrets(config)
        capture = DirectoryCapture(config.capture, keys) if config.capture else None
        dialects = {dialect.name: dialect for dialect in DIALECTS}
        opening = Opening(
            dialects=dialects,
            timeouts={name: p.timeouts for name, p in config.providers.items()},
            presets={name: p.preset for name, p in config.providers.items()},
            fetch=lasting.fetcher.fetch,
            learned=lasting.learned,
            continuity=lasting.continuity,
            metrics=lasting.metrics,
            log=lasting.log,
            strict_parameters=config.strict_parameters,
            capture=capture,
        )
        attempts = Attempts(
            opening,
            gates=Gates(limiting.breakers, limiting.limits(config), limiting.queues),
            retries=lambda: Retries(time.monotonic, random.random),
            metrics=lasting.metrics,
            log=lasting.log,
            hide=lambda words: without(keys, words),
            max_reply=MAX_REPLY,
        )
        self.selection = Selection(
            self.discovery.find,
            self.catalog.table,
            lasting.sticky,
            listed=self.catalog.listed,
            is_here=lambda model: is_here(model, self.accounts),
            providers=self.providers,
        )
        self.planner = Planner(
            self.selection,
            self.accounts,
            {name: p.preset for name, p in config.providers.items()},
            limiting.breakers,
            lasting.sticky,
            random.random,
        )
        self.pipeline = Pipeline(
            selection=self.selection,
            planner=self.planner,
            attempts=attempts,
            residency=lasting.loaded,
            metrics=lasting.metrics,
            log=lasting.log,
            heartbeat=config.server.heartbeat,
            capture=capture,
        )
        self._ollamas = {name: p for name, p in self.providers.items() if isinstance(p, OllamaProvider)}
        compat = config.server.openai_compat == "ollama"
        self.services = Services(
            pipeline=self.pipeline,
            library=Library(
                self.catalog, lasting.loaded, dict(self._ollamas), self.discovery.refresh, self.discovery.find
            ),
            dialects={
                "ollama": dialects["ollama"],
                "openai": OpenAICompatDialect() if compat else dialects["openai"],
                "plain": PlainDialect(),
            },
            metrics=lasting.metrics,
            log=lasting.log,
            state=lambda: self._state(lasting),
        )
        key = config.server.api_key
        self.settings = WebSettings(
            version=config.server.version,
            origins=config.server.origins,
            bound_host=config.server.listen.host,
            api_key=key.get_secret_value() if key else None,
            max_body=config.server.max_body,
        )

    def _state(self, lasting: Lasting) -> dict[str, object]:
        """What /health tells whoever asks for more: names and figures, no addresses, no keys."""
        return {
            "version": __version__,
            "uptime_seconds": round(time.monotonic() - lasting.since, 1),
            "loop_lag_seconds": round(lasting.pulse.lag, 4),
            "providers": {name: provider.off or "on" for name, provider in self.providers.items()},
            "breakers": {
                name: {"state": shown.state, "seconds": round(shown.seconds, 1), "reason": str(shown.reason)}
                for name, shown in lasting.limiting.breakers.states().items()
            },
            "redis": lasting.limiting.redis,
        }

    def start(self, port: int) -> None:
        """`port`: the one we listen on, so that no provider is asked that is ourselves."""
        for name, ollama in self._ollamas.items():
            if is_us(ollama.base_url, port):
                for each in self.accounts[name]:
                    each.off = f"provider '{name}' points at this gateway itself: set OLLAMA_BASE_URL"
                self._log.warning("provider points at this gateway itself", provider=name)
        self.discovery.start()

    async def close(self, others: Collection[Engine] = ()) -> None:
        """`others`: the engines that still answer; providers that did not change are theirs too."""
        await self.discovery.stop()
        for name, accounts in self.accounts.items():
            if not any(other.accounts.get(name) is accounts for other in others):
                for provider in accounts:
                    await provider.close()


def alias(model: ModelConfig, config: Config) -> Model:
    """The catalog's entry of a configured alias. Its date is the file's: it changes when the map does."""
    return Model(
        name=model.name,
        targets=tuple(Target(t.provider, t.model, t.timeouts, api=t.api, weight=t.weight) for t in model.targets),
        strategy=model.strategy,
        strict=model.strict,
        capabilities=model.capabilities or frozenset(),
        context_length=model.context_length,
        embedding_length=model.embedding_length,
        max_output=model.max_output,
        price=model.price,
        retires=model.retires,
        defaults=Defaults(
            model.temperature, model.max_tokens, model.system, model.think, model.keep_alive, model.options
        ),
        drop_tools=model.drop_tools,
        strict_parameters=model.strict_parameters,
        resume=model.resume,
        modified=config.source.stat().st_mtime if config.source else 0.0,
    )


def secrets(config: Config) -> list[str]:
    """What must appear neither in a capture nor in an error, longest first: one may be a part of another. Less than
    eight characters are no key, and would be found in ordinary words."""
    found = [key for p in config.providers.values() for key in (p.api_key, *p.further_keys)]
    found += [value for p in config.providers.values() for value in p.headers.values()]
    words = {s.get_secret_value() for s in [*found, config.server.api_key] if s is not None}
    return sorted((word for word in words if len(word) >= 8), key=len, reverse=True)


def without(keys: list[str], words: str) -> str:
    """Some providers quote the key they refuse."""
    for key in keys:
        words = words.replace(key, "[redacted]")
    return words


def is_us(base_url: str, port: int) -> bool:
    """Whether a provider's address is this gateway: it would ask itself for ever."""
    url = URL(base_url)
    return url.port == port and (url.host or "") in ("localhost", "127.0.0.1", "::1", "0.0.0.0")  # noqa: S104
