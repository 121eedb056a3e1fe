"""Every service that speaks OpenAI's wire, through the official SDK.

Knows: the openai SDK (no other module imports it). Must not know: what a body says (bytes go out and come back as they
are), how a catalogue describes models (listings does).

The SDK writes address, key and headers and raises its typed errors. When its client is built, sdk_calls says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp

from ..dialects.base import CHAT, EMBED, GENERATE, Profile
from ..framing import dumps
from .base import Call, ListedModel, Timeouts
from .listings import read_models
from .sdk_calls import SDKAccount, SDKCalls
from .transport import AiohttpUpstream, http_client

if TYPE_CHECKING:
    import openai

PATHS = {CHAT: "/chat/completions", GENERATE: "/completions", EMBED: "/embeddings"}
RESPONSES = "responses"  # the dialect of OpenAI's other API for chats
LIST_LIMIT = 32 * 1024 * 1024  # bytes of a catalogue; OpenRouter's, the longest, has about one million


class OpenAIProvider(SDKAccount):
    """One account at one OpenAI-compatible service. `api_key` None: the service takes none. `headers` are added to
    each request (an organization, a billing account …). `timeouts` are those of `models()`; a call brings its own.
    `clock` in seconds. `api_version`: of Azure's first API, which has the deployment in its paths and its key in a
    header of its own; `base_url` is then the resource's endpoint (providers.md 8)."""

    sdk = "openai"
    kind = "openai"
    dialect = "openai"

    def __init__(
        self,
        name: str,
        *,
        base_url: str,
        api_key: str | None,
        session: aiohttp.ClientSession,
        profile: Profile,
        local: bool,
        off: str | None,
        timeouts: Timeouts,
        headers: Mapping[str, str] | None = None,
        api_version: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.name = name
        self.base_url = base_url
        self.profile = profile if api_version is None else profile.with_(responses=frozenset())
        self.local = local
        self.off = off
        self._api_key = api_key
        self._api_version = api_version
        self._session = session
        self._timeouts = timeouts
        self._headers = dict(headers or {})
        self._clock = clock

    async def open(self, call: Call) -> AiohttpUpstream:
        body = call.body if isinstance(call.body, bytes) else dumps(call.body)
        return await self._send(self._path(call), body, call.timeouts, call.stream)

    def _path(self, call: Call) -> str:
        if call.dialect == RESPONSES:
            return "/responses"
        if call.dialect and call.dialect == self.profile.fills_by:
            return self.base_url.removesuffix("/v1") + self.profile.fills_at
        path = PATHS[call.kind]
        return f"/deployments/{quote(call.model, safe='')}{path}" if self._api_version else path

    async def models(self) -> list[ListedModel]:
        """GET /models. Raises as `open` does, and GatewayError (provider) when the answer is no list."""
        upstream = await self._send("/models", None, self._timeouts, stream=False)
        try:
            body = await upstream.body(LIST_LIMIT)
        finally:
            upstream.close()
        return read_models(self.name, body)

    def _new_calls(self) -> SDKCalls:
        # With each request the SDK looks whether this module is there, for clients that were made for it, and trips
        # over one that is only half there, as while another SDK is imported in a thread.
        with suppress(ImportError):
            import httpx  # noqa: F401
        import openai

        settings: Any = {
            "api_key": self._api_key or "none",  # the SDK insists on one
            "max_retries": 0,
            "default_headers": self._headers,
            "http_client": http_client(self._session),
        }
        client: openai.AsyncOpenAI
        if self._api_version is None:
            client = openai.AsyncOpenAI(base_url=self.base_url, **settings)
        else:
            client = openai.AsyncAzureOpenAI(azure_endpoint=self.base_url, api_version=self._api_version, **settings)
        # What the constructor took from OPENAI_ORG_ID, _PROJECT_ID, _ADMIN_KEY and _CUSTOM_HEADERS: it reads the
        # environment for each of them that is not given, and only our own configuration may speak here.
        client.organization = client.project = client.admin_api_key = None
        client._custom_headers = self._headers
        return SDKCalls(self.name, openai, client, self._session, self._clock)
