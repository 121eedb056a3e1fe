"""Ollama servers of other people, from the public catalogue of OllamaFreeAPI.

Knows: the ollamafreeapi package (no other module imports it), and which of a model's hosts to ask. Must not know: what
a body says, how Ollama is spoken to (providers/ollama.py does).

Nobody vouches for these hosts: whoever runs one reads what it is asked. So this provider is there only where the
operator names it, it is never local, and a catalogue that names an address which is not one of the open internet is not
followed there. A host that gave no answer is not asked again for a while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from ..dialects.base import Profile
from ..errors import GatewayError, Scope, UpstreamRefused, broken
from .addresses import is_public
from .base import Call, ListedModel, Timeouts
from .ollama import OllamaProvider
from .transport import AiohttpUpstream

HOSTS_AT_MOST = 3  # asked for one request, before any of them has answered
REST_SECONDS = 300.0

Hosts = Mapping[str, tuple[str, ...]]  # model -> addresses, the fastest first


class OllamaFreeProvider:
    """All hosts of the catalogue as one account. `read` gives the catalogue; it may block and raise ImportError.
    `allowed`: whether an address may be asked. `clock` in seconds."""

    kind = "ollamafree"
    dialect = "ollama"
    local = False
    off: str | None = None
    base_url = ""

    def __init__(
        self,
        name: str,
        *,
        session: aiohttp.ClientSession,
        profile: Profile,
        timeouts: Timeouts,
        read: Callable[[], Hosts] | None = None,
        allowed: Callable[[str], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.profile = profile
        self._session = session
        self._timeouts = timeouts
        self._read = read or catalogue
        self._allowed = allowed or on_the_internet
        self._clock = clock
        self._hosts: Hosts | None = None
        self._reading = asyncio.Lock()
        self._servers: dict[str, OllamaProvider] = {}
        self._resting: dict[str, float] = {}  # address -> until when it is not asked

    async def ready(self) -> None:
        await self._known()

    async def open(self, call: Call) -> AiohttpUpstream:
        """Asks the model's hosts one after the other, until one answers. A host that refuses the request itself (a 400)
        has answered. Raises as the last one did, UpstreamRefused (404) for a model that no host has."""
        failure: Exception = UpstreamRefused(404, {}, b'{"error":"model not found on any free host"}')
        for address in self._turn((await self._known()).get(call.model, ())):
            try:
                upstream = await self._server(address).open(call)
            except UpstreamRefused as refused:
                if refused.status < 500 and refused.status not in (401, 403, 404, 429):
                    raise
                failure = refused
                if refused.status == 404:
                    continue  # it has let this model go, and may well have others
            except GatewayError as error:
                failure = error
            else:
                self._resting.pop(address, None)
                return upstream
            self._resting[address] = self._clock() + REST_SECONDS
        raise failure

    async def models(self) -> list[ListedModel]:
        """The catalogue's models. Raises GatewayError when it cannot be read."""
        return [ListedModel(model, raw={"hosts": len(hosts)}) for model, hosts in (await self._known()).items()]

    async def close(self) -> None:
        self._servers.clear()
        self._hosts = None

    def _turn(self, addresses: Iterable[str]) -> list[str]:
        """Whom to ask, in order: those that rest come last."""
        now = self._clock()
        return sorted(addresses, key=lambda address: self._resting.get(address, 0.0) > now)[:HOSTS_AT_MOST]

    def _server(self, address: str) -> OllamaProvider:
        server = self._servers.get(address)
        if server is None:
            server = self._servers[address] = OllamaProvider(
                self.name, base_url=address, api_key=None, session=self._session, profile=self.profile, local=False,
                off=None, timeouts=self._timeouts,
            )  # fmt: skip
        return server

    async def _known(self) -> Hosts:
        async with self._reading:
            if self._hosts is None:
                self._hosts = await self._load()
        return self._hosts

    async def _load(self) -> Hosts:
        try:
            read = await asyncio.to_thread(self._read)
        except ImportError:
            raise GatewayError(
                f"provider '{self.name}' needs its catalogue: pip install ollamafreeapi",
                status=500, scope=Scope.NO_KEY, provider=self.name,
            ) from None  # fmt: skip
        except (OSError, ValueError, LookupError, TypeError):
            raise broken(self.name, "has a catalogue that cannot be read") from None
        allowed = {model: tuple(filter(self._allowed, hosts)) for model, hosts in read.items()}
        return {model: hosts for model, hosts in allowed.items() if hosts}


def on_the_internet(address: str) -> bool:
    """Whether an address of the catalogue leads where a free host may be: http(s), and an IP literal of the open
    internet, since what a name resolves to may change."""
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and "@" not in parts.netloc and is_public(parts.hostname or "")
    except ValueError:
        return False


def catalogue() -> Hosts:
    """The package's catalogue. Blocks. Raises ImportError when it is not installed."""
    import ollamafreeapi  # type: ignore[import-not-found,unused-ignore]

    client = ollamafreeapi.OllamaFreeAPI()
    return {model: by_speed(client.get_model_servers(model)) for model in client.list_models()}


def by_speed(servers: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Addresses of a model's servers, each once, the fastest first."""
    ranked = sorted(servers, key=_speed, reverse=True)
    return tuple(dict.fromkeys(str(server["url"]).rstrip("/") for server in ranked))


def _speed(server: Mapping[str, Any]) -> float:
    """Tokens a second as the catalogue measured them, 0 when it says nothing."""
    told = server.get("performance")
    try:
        return float(told["tokens_per_second"]) if isinstance(told, dict) else 0.0
    except (KeyError, TypeError, ValueError):
        return 0.0
