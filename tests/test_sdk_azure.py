"""Azure's two APIs through the openai SDK, over real sockets: paths, keys, and where the deployment stands
(providers.md 8, 10.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from ollama_bridge.dialects.base import CHAT, EMBED, GENERATE, Profile
from ollama_bridge.errors import UpstreamRefused
from ollama_bridge.providers.base import Call, Timeouts
from ollama_bridge.providers.openai import OpenAIProvider
from ollama_bridge.providers.transport import open_session

KEY = "azure-marker-1234"
VERSION = "2024-10-21"


class Resource:
    """Keeps what came in; refuses with `status` when that is not 200."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.status = 200
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        return web.json_response({"data": [{"id": "gpt-6-sol"}]}, status=self.status)


@pytest.fixture
async def resource() -> AsyncIterator[Resource]:
    made = Resource()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    opened = await open_session()
    yield opened
    await opened.close()


def provider_at(base_url: str, session: aiohttp.ClientSession, **changes: Any) -> OpenAIProvider:
    settings: dict[str, Any] = {
        "base_url": base_url,
        "api_key": KEY,
        "session": session,
        "profile": Profile(),
        "local": False,
        "off": None,
        "timeouts": Timeouts(),
    }
    return OpenAIProvider("azure", **settings | changes)


def call(kind: str = CHAT, model: str = "my-deployment", dialect: str = "openai") -> Call:
    return Call(kind, b'{"model":"my-deployment"}', False, Timeouts(), model=model, dialect=dialect)


CLASSIC = "/openai/deployments/my-deployment"


@pytest.mark.parametrize(
    ("kind", "path"),
    [(CHAT, "/chat/completions"), (GENERATE, "/completions"), (EMBED, "/embeddings")],
)
async def test_the_first_api(resource: Resource, session: aiohttp.ClientSession, kind: str, path: str) -> None:
    provider = provider_at(resource.url, session, api_version=VERSION)
    for _ in range(2):  # by the SDK, and with the head that it wrote
        await (await provider.open(call(kind))).body(100)
    for request in resource.requests:
        assert (request.method, request.raw_path) == ("POST", f"{CLASSIC}{path}?api-version={VERSION}")
        assert request.headers.getall("api-key") == [KEY]
        assert "Authorization" not in request.headers
    assert resource.bodies == [b'{"model":"my-deployment"}'] * 2
    await provider.close()


async def test_each_deployment_has_its_path(resource: Resource, session: aiohttp.ClientSession) -> None:
    provider = provider_at(resource.url, session, api_version=VERSION)
    for name in ("one", "two", "../three?x", "one"):
        await (await provider.open(call(model=name))).body(100)
    assert [request.raw_path.partition("/chat")[0].rpartition("/")[2] for request in resource.requests] == [
        "one", "two", "..%2Fthree%3Fx", "one",
    ]  # fmt: skip


async def test_the_first_api_lists_its_models(resource: Resource, session: aiohttp.ClientSession) -> None:
    provider = provider_at(resource.url, session, api_version=VERSION)
    assert [model.id for model in await provider.models()] == ["gpt-6-sol"]
    assert resource.requests[0].raw_path == f"/openai/models?api-version={VERSION}"


async def test_the_newer_api_is_openais_own(resource: Resource, session: aiohttp.ClientSession) -> None:
    provider = provider_at(f"{resource.url}/openai/v1", session)
    for dialect in ("openai", "responses"):
        await (await provider.open(call(dialect=dialect))).body(100)
    assert [request.raw_path for request in resource.requests] == [
        "/openai/v1/chat/completions",
        "/openai/v1/responses",
    ]
    assert resource.requests[0].headers.getall("Authorization") == [f"Bearer {KEY}"]


async def test_the_environment_does_not_speak(
    resource: Resource, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AZURE_OPENAI_API_KEY": "stray",
        "AZURE_OPENAI_AD_TOKEN": "stray",
        "AZURE_OPENAI_ENDPOINT": "http://127.0.0.1:9",
        "OPENAI_API_VERSION": "2000-01-01",
        "OPENAI_ORG_ID": "stray",
        "OPENAI_CUSTOM_HEADERS": "X-Stray: stray",
    }.items():
        monkeypatch.setenv(name, value)
    provider = provider_at(resource.url, session, api_version=VERSION)
    await (await provider.open(call())).body(100)
    request = resource.requests[0]
    assert request.raw_path.endswith(f"api-version={VERSION}")
    assert not [value for value in request.headers.values() if "stray" in value]


@pytest.mark.parametrize("status", [401, 404, 429])
async def test_a_refusal_keeps_its_status(resource: Resource, session: aiohttp.ClientSession, status: int) -> None:
    resource.status = status
    provider = provider_at(resource.url, session, api_version=VERSION)
    with pytest.raises(UpstreamRefused) as caught:
        await provider.open(call())
    assert caught.value.status == status
    assert len(resource.requests) == 1
