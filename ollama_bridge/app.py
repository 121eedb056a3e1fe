"""The composition root: a Config becomes a running gateway. The only module that imports everything.

Knows: which class stands behind which port. Must not know: how any of them works.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from . import collector, screen, workers
from .capture import DirectoryCapture
from .config import Config, ModelConfig, ProviderConfig
from .dialects.anthropic import AnthropicDialect
from .dialects.base import Dialect
from .dialects.feature_extraction import FeatureExtractionDialect
from .dialects.gemini import GeminiDialect
from .dialects.ollama import OllamaDialect
from .dialects.openai import OpenAIDialect
from .dialects.openai_compat import OpenAICompatDialect
from .dialects.responses import ResponsesDialect
from .discovery import Discovery
from .fetch import ImageFetcher
from .library.library import Library
from .library.loaded import LoadedModels
from .logs import logger, set_up
from .policy.attempts import Attempts
from .policy.catalog import Catalog, Defaults, Model, Target
from .policy.continuity import Continuity
from .policy.metrics import Metrics, forget, share
from .policy.opening import Opening
from .policy.pipeline import Pipeline
from .policy.repair import Learned
from .providers.anthropic import AnthropicProvider
from .providers.base import Provider
from .providers.echo import EchoProvider
from .providers.google import GoogleProvider
from .providers.huggingface import HuggingFaceProvider
from .providers.ollama import OllamaProvider
from .providers.ollamafree import OllamaFreeProvider
from .providers.openai import OpenAIProvider
from .providers.transport import open_session
from .web.ports import Services, WebSettings
from .web.server import build


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
    "huggingface": lambda config, session: HuggingFaceProvider(config.name, **account(config, session)),
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

# One line a dialect that providers speak.
DIALECTS: tuple[Dialect, ...] = (
    OllamaDialect(),
    OpenAIDialect(),
    AnthropicDialect(),
    GeminiDialect(),
    ResponsesDialect(),
    FeatureExtractionDialect(),
)

MAX_REPLY = 64 * 1024 * 1024  # bytes of a provider's whole answer


@dataclass
class Running:
    """A gateway that answers. `url` is its address as a client would type it."""

    url: str
    address: str
    _runner: web.ServerRunner
    _exit: contextlib.AsyncExitStack = field(repr=False)

    async def stop(self) -> None:
        """Closes the doors, then what is behind them. Streams still open are cancelled."""
        await self._runner.cleanup()
        await self._exit.aclose()


async def start(config: Config, sockets: Sequence[socket.socket] = ()) -> Running:
    """Answers at the configured address, or on `sockets` that are bound to it; returns at once. Raises OSError when the
    address is taken."""
    set_up(config.server.log_level)
    log = logger("ollama_bridge")
    exit_stack = contextlib.AsyncExitStack()
    try:
        session = await open_session()
        exit_stack.push_async_callback(session.close)
        providers: dict[str, Provider] = {}
        for name, provider_config in config.providers.items():
            provider = PROVIDERS[provider_config.kind](provider_config, session)
            providers[name] = provider
            exit_stack.push_async_callback(provider.close)
        catalog = Catalog(
            providers,
            [alias(model, config) for model in config.models.values()],
            Defaults(**config.defaults.model_dump()),
            patterns={name: list(p.patterns) for name, p in config.providers.items() if p.patterns},
            drop_tools={name for name, p in config.providers.items() if p.drop_tools},
        )
        discovery = Discovery(catalog, providers.values(), log)
        loaded = LoadedModels()
        metrics = Metrics()
        fetcher = ImageFetcher()
        exit_stack.push_async_callback(fetcher.close)
        keys = secrets(config)
        capture = DirectoryCapture(config.capture, keys) if config.capture else None
        dialects = {dialect.name: dialect for dialect in DIALECTS}
        compat = config.server.openai_compat == "ollama"
        opening = Opening(
            dialects=dialects,
            timeouts={name: p.timeouts for name, p in config.providers.items()},
            presets={name: p.preset for name, p in config.providers.items()},
            fetch=fetcher.fetch,
            learned=Learned(time.monotonic),
            continuity=Continuity(time.monotonic),
            metrics=metrics,
            log=log,
            strict_parameters=config.strict_parameters,
            capture=capture,
        )
        attempts = Attempts(
            opening, metrics=metrics, log=log, hide=lambda words: without(keys, words), max_reply=MAX_REPLY
        )
        pipeline = Pipeline(
            find=discovery.find,
            providers=providers,
            attempts=attempts,
            residency=loaded,
            metrics=metrics,
            log=log,
            heartbeat=config.server.heartbeat,
            capture=capture,
        )
        ollamas = {name: p for name, p in providers.items() if isinstance(p, OllamaProvider)}
        services = Services(
            pipeline=pipeline,
            library=Library(catalog, loaded, dict(ollamas), discovery.refresh, discovery.find),
            dialects={"ollama": dialects["ollama"], "openai": OpenAICompatDialect() if compat else dialects["openai"]},
            metrics=metrics,
            log=log,
        )
        key = config.server.api_key
        settings = WebSettings(
            version=config.server.version,
            origins=config.server.origins,
            bound_host=config.server.listen.host,
            api_key=key.get_secret_value() if key else None,
            max_body=config.server.max_body,
        )
        runner = web.ServerRunner(build(services, settings))
        exit_stack.push_async_callback(runner.cleanup)
        await runner.setup()
        listen = config.server.listen
        sites: list[web.BaseSite] = [web.SockSite(runner, sock) for sock in sockets]
        for site in sites or [web.TCPSite(runner, listen.host, listen.port)]:
            await site.start()
        port = runner.addresses[0][1]
        address = str(type(listen)(listen.host, port))
        for name, ollama in ollamas.items():
            if is_us(ollama.base_url, port):
                providers[name].off = f"provider '{name}' points at this gateway itself: set OLLAMA_BASE_URL"
                log.warning("provider points at this gateway itself", provider=name)
        discovery.start()
        exit_stack.push_async_callback(discovery.stop)
    except BaseException:
        await exit_stack.aclose()
        raise
    return Running(f"http://{client_host(listen.host)}:{port}", address, runner, exit_stack)


def alias(model: ModelConfig, config: Config) -> Model:
    """The catalog's entry of a configured alias. Its date is the file's: it changes when the map does."""
    return Model(
        name=model.name,
        targets=tuple(Target(t.provider, t.model, t.timeouts, api=t.api) for t in model.targets),
        capabilities=model.capabilities or frozenset(),
        context_length=model.context_length,
        embedding_length=model.embedding_length,
        max_output=model.max_output,
        defaults=Defaults(
            model.temperature, model.max_tokens, model.system, model.think, model.keep_alive, model.options
        ),
        drop_tools=model.drop_tools,
        strict_parameters=model.strict_parameters,
        modified=config.source.stat().st_mtime if config.source else 0.0,
    )


def secrets(config: Config) -> list[str]:
    """What must appear neither in a capture nor in an error, longest first: one may be a part of another. Less than
    eight characters are no key, and would be found in ordinary words."""
    found = [p.api_key for p in config.providers.values()]
    found += [value for p in config.providers.values() for value in p.headers.values()]
    words = {s.get_secret_value() for s in [*found, config.server.api_key] if s is not None}
    return sorted((word for word in words if len(word) >= 8), key=len, reverse=True)


def without(keys: list[str], words: str) -> str:
    """Some providers quote the key they refuse."""
    for key in keys:
        words = words.replace(key, "[redacted]")
    return words


def client_host(host: str) -> str:
    """Where a client on this machine reaches a gateway bound to `host`."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host


def is_us(base_url: str, port: int) -> bool:
    """Whether a provider's address is this gateway: it would ask itself for ever."""
    url = URL(base_url)
    return url.port == port and (url.host or "") in ("localhost", "127.0.0.1", "::1", "0.0.0.0")  # noqa: S104


def serve(config: Config, processes: int = 1) -> None:
    """Runs until SIGINT or SIGTERM. Raises OSError when the address is taken."""
    if processes == 1:
        _run(_serve(config, partial(screen.startup, config)))
        return
    listen = config.server.listen
    with (
        workers.reserved(listen.host, listen.port) as kept,
        tempfile.TemporaryDirectory(prefix="ollama-bridge-") as counts,
    ):
        share(counts)
        address = str(type(listen)(listen.host, kept[0].getsockname()[1]))

        def work(tell: Callable[[], None], first: int) -> None:
            _run(_serve(config, lambda _: tell(), workers.listeners(kept), first))

        def lost(worker: int) -> None:
            forget(worker)
            logger("ollama_bridge").error("a worker has died, another takes its place", worker=worker)

        set_up(config.server.log_level)
        workers.supervise(processes, work, lambda: screen.startup(config, address), lost)


def _run(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


async def _serve(
    config: Config, started: Callable[[str], None], sockets: Sequence[socket.socket] = (), first: int | None = None
) -> None:
    """`started` is given the address. `first`: a file whose end is a reason to stop, as a signal is."""
    running = await start(config, sockets)
    started(running.address)
    collector.settle()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopping.set)
    if first is not None:
        loop.add_reader(first, stopping.set)
    await stopping.wait()
    if first is not None:
        loop.remove_reader(first)
    await running.stop()
