"""Ollama servers of other people: which are asked, in which order, and what of the catalogue is not believed."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from fakes.ollama_wire import FakeOllama
from fakes.script import Script

from ollama_bridge.dialects.base import CHAT, Profile
from ollama_bridge.errors import GatewayError, Scope, UpstreamRefused
from ollama_bridge.providers.base import Call, Timeouts
from ollama_bridge.providers.ollamafree import (
    HOSTS_AT_MOST,
    REST_SECONDS,
    OllamaFreeProvider,
    by_speed,
    catalogue,
    on_the_internet,
)
from ollama_bridge.providers.transport import open_session

NOWHERE = "http://127.0.0.1:9"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def hosts() -> AsyncIterator[list[FakeOllama]]:
    async with AsyncExitStack() as stack:
        made = [FakeOllama() for _ in range(4)]
        for host in made:
            await stack.enter_async_context(host)
        yield made


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    opened = await open_session()
    yield opened
    await opened.close()


def provider_of(
    session: aiohttp.ClientSession, listed: Mapping[str, tuple[str, ...]], clock: Clock | None = None, **changes: Any
) -> OllamaFreeProvider:
    settings: dict[str, Any] = {
        "session": session,
        "profile": Profile(),
        "timeouts": Timeouts(),
        "read": lambda: listed,
        "allowed": lambda address: True,
        "clock": clock or Clock(),
    }
    return OllamaFreeProvider("free", **settings | changes)


async def said(provider: OllamaFreeProvider, model: str = "tiny") -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": False}
    upstream = await provider.open(Call(CHAT, body, False, Timeouts(), model=model))
    return await upstream.body(1 << 20)


def asked(hosts: list[FakeOllama]) -> list[int]:
    return [len(host.seen) for host in hosts]


async def test_the_fastest_host_answers(hosts: list[FakeOllama], session: aiohttp.ClientSession) -> None:
    for number, host in enumerate(hosts):
        host.play("tiny", Script(text=(f"host {number}",)))
    provider = provider_of(session, {"tiny": (hosts[1].url, hosts[0].url)})
    assert b"host 1" in await said(provider)
    assert asked(hosts) == [0, 1, 0, 0]
    assert "authorization" not in hosts[1].seen[0].headers


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_the_next_host_is_asked(hosts: list[FakeOllama], session: aiohttp.ClientSession, status: int) -> None:
    hosts[0].play("tiny", Script(status=status, error="no"))
    hosts[1].play("tiny", Script(text=("host 1",)))
    provider = provider_of(session, {"tiny": (NOWHERE, hosts[0].url, hosts[1].url)})
    assert b"host 1" in await said(provider)


async def test_a_host_that_refuses_the_request_has_answered(
    hosts: list[FakeOllama], session: aiohttp.ClientSession
) -> None:
    hosts[0].play("tiny", Script(status=400, error="bad request"))
    provider = provider_of(session, {"tiny": (hosts[0].url, hosts[1].url)})
    with pytest.raises(UpstreamRefused) as caught:
        await said(provider)
    assert caught.value.status == 400
    assert asked(hosts) == [1, 0, 0, 0]


async def test_no_more_than_a_few_hosts_are_asked(hosts: list[FakeOllama], session: aiohttp.ClientSession) -> None:
    for host in hosts:
        host.play("tiny", Script(status=500, error="no"))
    provider = provider_of(session, {"tiny": tuple(host.url for host in hosts)})
    with pytest.raises(UpstreamRefused):
        await said(provider)
    assert sum(asked(hosts)) == HOSTS_AT_MOST


async def test_a_host_that_failed_rests(hosts: list[FakeOllama], session: aiohttp.ClientSession) -> None:
    clock = Clock()
    hosts[0].play("tiny", Script(status=500, error="no"), Script(text=("host 0",)))
    hosts[1].play("tiny", Script(text=("host 1",)))
    provider = provider_of(session, {"tiny": (hosts[0].url, hosts[1].url)}, clock)
    assert b"host 1" in await said(provider)
    clock.now = REST_SECONDS - 1
    assert b"host 1" in await said(provider)
    assert asked(hosts)[0] == 1
    clock.now = REST_SECONDS + 1
    assert b"host 0" in await said(provider)


async def test_hosts_that_rest_are_better_than_none(hosts: list[FakeOllama], session: aiohttp.ClientSession) -> None:
    hosts[0].play("tiny", Script(status=500, error="no"), Script(text=("host 0",)))
    provider = provider_of(session, {"tiny": (hosts[0].url,)})
    with pytest.raises(UpstreamRefused):
        await said(provider)
    assert b"host 0" in await said(provider)


async def test_nobody_is_there(session: aiohttp.ClientSession) -> None:
    provider = provider_of(session, {"tiny": (NOWHERE,)})
    with pytest.raises(GatewayError) as caught:
        await said(provider)
    assert (caught.value.scope, caught.value.message) == (
        Scope.PROVIDER,
        "cannot reach provider 'free': connection refused",
    )


async def test_a_model_that_no_host_has(session: aiohttp.ClientSession) -> None:
    with pytest.raises(UpstreamRefused) as caught:
        await said(provider_of(session, {"tiny": (NOWHERE,)}), "other")
    assert caught.value.status == 404


async def test_the_catalogue_is_listed(session: aiohttp.ClientSession) -> None:
    provider = provider_of(session, {"tiny": (NOWHERE,), "qwen3:8b": (NOWHERE, "http://127.0.0.1:10")})
    assert [(model.id, model.raw) for model in await provider.models()] == [
        ("tiny", {"hosts": 1}),
        ("qwen3:8b", {"hosts": 2}),
    ]


def test_it_is_never_local() -> None:
    assert OllamaFreeProvider.local is False


# -- a catalogue that is wrong, or not there ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("http://5.149.249.212:11434", True),
        ("https://8.8.8.8", True),
        ("http://[2a00:1450:4001:82f::200e]:11434", True),
        ("http://127.0.0.1:11434", False),
        ("http://169.254.169.254", False),
        ("http://10.0.0.7:11434", False),
        ("http://[::1]:11434", False),
        ("http://localhost:11434", False),
        ("http://ollama.example.com:11434", False),
        ("http://user@8.8.8.8", False),
        ("ftp://8.8.8.8", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_only_the_open_internet_is_asked(address: str, allowed: bool) -> None:
    assert on_the_internet(address) is allowed


async def test_an_address_inside_is_not_asked(hosts: list[FakeOllama], session: aiohttp.ClientSession) -> None:
    hosts[0].play("tiny", Script(text=("host 0",)))
    provider = provider_of(session, {"tiny": (hosts[0].url,)}, allowed=None)
    assert await provider.models() == []
    with pytest.raises(UpstreamRefused):
        await said(provider)
    assert asked(hosts)[0] == 0


@pytest.mark.parametrize("error", [ValueError(), OSError(), KeyError("model_name")], ids=["value", "file", "key"])
async def test_a_catalogue_that_cannot_be_read(session: aiohttp.ClientSession, error: Exception) -> None:
    def broken() -> Any:
        raise error

    with pytest.raises(GatewayError, match="a catalogue that cannot be read") as caught:
        await provider_of(session, {}, read=broken).models()
    assert caught.value.scope is Scope.PROVIDER


async def test_without_the_package(session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ollamafreeapi", None)
    with pytest.raises(GatewayError, match="pip install ollamafreeapi") as caught:
        await provider_of(session, {}, read=None).ready()
    assert (caught.value.status, caught.value.scope) == (500, Scope.NO_KEY)


SERVERS = {
    "tiny": [
        {"url": "http://1.1.1.1:11434/", "performance": {"tokens_per_second": "13.01"}},
        {"url": "http://2.2.2.2:11434", "performance": {"tokens_per_second": "78.1"}},
        {"url": "http://1.1.1.1:11434", "performance": {"tokens_per_second": None}},
        {"url": "http://3.3.3.3:11434", "performance": None},
    ]
}


def test_the_packages_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the package's own words (0.1.4): `list_models`, and `get_model_servers` with what it measured as text."""
    package = ModuleType("ollamafreeapi")

    class OllamaFreeAPI:
        def list_models(self) -> list[str]:
            return list(SERVERS)

        def get_model_servers(self, model: str) -> list[dict[str, Any]]:
            return SERVERS[model]

    package.OllamaFreeAPI = OllamaFreeAPI  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ollamafreeapi", package)
    assert catalogue() == {"tiny": ("http://2.2.2.2:11434", "http://1.1.1.1:11434", "http://3.3.3.3:11434")}
    assert by_speed([]) == ()
