"""The composition root: a Config becomes a running gateway. The only module that imports everything.

Knows: which class stands behind which port. Must not know: how any of them works.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from yarl import URL

from . import screen
from .capture import DirectoryCapture
from .config import Config, ModelConfig, ProviderConfig
from .dialects.base import Dialect
from .dialects.ollama import OllamaDialect
from .dialects.openai import OpenAIDialect
from .dialects.openai_compat import OpenAICompatDialect
from .discovery import Discovery
from .fetch import ImageFetcher
from .library.library import Library
from .library.loaded import LoadedModels
from .logs import logger, set_up
from .policy.catalog import Catalog, Defaults, Model, Target, guess_capabilities
from .policy.continuity import Continuity
from .policy.metrics import Metrics
from .policy.pipeline import Pipeline, Settings
from .policy.repair import Learned
from .providers.base import Provider
from .providers.echo import EchoProvider
from .providers.ollama import OllamaProvider
from .providers.openai import OpenAIProvider
from .providers.transport import open_session
from .web.ports import Services, WebSettings
from .web.server import build

# One line a provider kind.
PROVIDERS: dict[str, Callable[[ProviderConfig, aiohttp.ClientSession], Provider]] = {
    "openai": lambda config, session: OpenAIProvider(
        config.name,
        base_url=config.base_url,
        api_key=config.api_key.get_secret_value() if config.api_key else None,
        session=session,
        profile=config.profile,
        local=config.local,
        off=config.off,
        headers={name: value.get_secret_value() for name, value in config.headers.items()},
        timeouts=config.timeouts,
    ),
    "ollama": lambda config, session: OllamaProvider(
        config.name,
        base_url=config.base_url,
        api_key=config.api_key.get_secret_value() if config.api_key else None,
        session=session,
        profile=config.profile,
        local=config.local,
        off=config.off,
        headers={name: value.get_secret_value() for name, value in config.headers.items()},
        timeouts=config.timeouts,
    ),
    "echo": lambda config, session: EchoProvider(config.name),
}

# One line a dialect that providers speak.
DIALECTS: tuple[Dialect, ...] = (OllamaDialect(), OpenAIDialect())


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


async def start(config: Config) -> Running:
    """Binds and answers; returns at once. Raises OSError when the address is taken."""
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
        discovery = Discovery(catalog, [p for p in providers.values() if p.off is None], log)
        loaded = LoadedModels()
        metrics = Metrics()
        fetcher = ImageFetcher()
        exit_stack.push_async_callback(fetcher.close)
        capture = DirectoryCapture(config.capture, secrets(config)) if config.capture else None
        dialects = {dialect.name: dialect for dialect in DIALECTS}
        compat = config.server.openai_compat == "ollama"
        pipeline = Pipeline(
            find=discovery.find,
            providers=providers,
            presets={name: p.preset for name, p in config.providers.items()},
            timeouts={name: p.timeouts for name, p in config.providers.items()},
            dialects=dialects,
            residency=loaded,
            fetch=fetcher.fetch,
            learned=Learned(time.monotonic),
            continuity=Continuity(time.monotonic),
            metrics=metrics,
            log=log,
            settings=Settings(heartbeat=config.server.heartbeat, strict_parameters=config.strict_parameters),
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
        site = web.TCPSite(runner, listen.host, listen.port)
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
    first = model.targets[0]
    return Model(
        name=model.name,
        targets=tuple(Target(t.provider, t.model, t.timeouts) for t in model.targets),
        capabilities=model.capabilities or guess_capabilities(first.model),
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
    """Everything that must not appear in a capture."""
    found = [p.api_key for p in config.providers.values()]
    found += [value for p in config.providers.values() for value in p.headers.values()]
    return [s.get_secret_value() for s in [*found, config.server.api_key] if s is not None]


def client_host(host: str) -> str:
    """Where a client on this machine reaches a gateway bound to `host`."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host


def is_us(base_url: str, port: int) -> bool:
    """Whether a provider's address is this gateway: it would ask itself for ever."""
    url = URL(base_url)
    return url.port == port and (url.host or "") in ("localhost", "127.0.0.1", "::1", "0.0.0.0")  # noqa: S104


def serve(config: Config) -> None:
    """Runs until SIGINT or SIGTERM. Raises OSError when the address is taken."""
    try:
        import uvloop
    except ImportError:
        run: Callable[..., None] = asyncio.run
    else:
        run = uvloop.run
    run(_serve(config))


async def _serve(config: Config) -> None:
    running = await start(config)
    screen.startup(config, running.address)
    # Start-up objects live for ever: taken out of the collector's sight, a full collection no longer stops the loop
    # for 0.2 s (performance.md 1.6).
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopping.set)
    await stopping.wait()
    await running.stop()
