"""Anthropic's API, and servers that speak it, through the official SDK.

Knows: the anthropic SDK (no other module imports it), API versions, and how a catalogue describes models. Must not
know: what a body says: bytes go out and come back as they are.

When the SDK is imported and its client built, sdk_calls says.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp

from ..dialects.base import CHAT, Profile
from ..errors import broken
from ..framing import BadJSON, dumps, loads
from .base import Call, ListedModel, Timeouts
from .listings import day
from .sdk_calls import SDKAccount, SDKCalls
from .transport import AiohttpUpstream, http_client

PATHS = {CHAT: "/v1/messages"}
LIST_LIMIT = 8 * 1024 * 1024  # bytes of one page of the catalogue
PAGE = 1000  # models
PAGES_AT_MOST = 20

VERSION = "anthropic-version"
FIRST_VERSION = "2023-06-01"  # the last that takes sampling, and the one that other makers' servers know
SAMPLING = frozenset({"temperature", "top_p", "top_k"})


class AnthropicProvider(SDKAccount):
    """One account. `headers` are added to each request. `version` is the API version to ask for, None the SDK's own;
    the first one lets models up to 4.6 have their sampling (providers.md 2.6). `compatible`: a server of another maker,
    which is asked in the first version and may look for the key in `x-api-key` (providers.md 8). `timeouts` are those
    of `models()`; a call brings its own. `clock` in seconds."""

    sdk = "anthropic"
    kind = "anthropic"
    dialect = "anthropic"

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
        version: str | None = None,
        compatible: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.name = name
        # The SDK's paths begin with the version of the API, which most people write into an address.
        self.base_url = base_url.removesuffix("/v1")
        self.local = local
        self.off = off
        self._api_key = api_key
        self._session = session
        self._timeouts = timeouts
        self._clock = clock
        self._headers = dict(headers or {})
        given = {name.lower(): value for name, value in self._headers.items()}
        if VERSION not in given and (version or compatible):
            self._headers[VERSION] = given[VERSION] = version or FIRST_VERSION
        if "x-api-key" not in given and compatible and api_key:
            self._headers["x-api-key"] = api_key
        if given.get(VERSION) == FIRST_VERSION:
            profile = profile.with_(rejects=profile.rejects - SAMPLING, accepts=profile.accepts | {"top_k"})
        self.profile = profile

    async def open(self, call: Call) -> AiohttpUpstream:
        body = call.body if isinstance(call.body, bytes) else dumps(call.body)
        return await self._send(PATHS[call.kind], body, call.timeouts, call.stream)

    async def models(self) -> list[ListedModel]:
        """GET /v1/models, page by page. Raises as `open` does, and GatewayError (provider) for what is no list."""
        found: list[ListedModel] = []
        path = f"/v1/models?limit={PAGE}"
        for _ in range(PAGES_AT_MOST):
            upstream = await self._send(path, None, self._timeouts, stream=False)
            try:
                body = await upstream.body(LIST_LIMIT)
            finally:
                upstream.close()
            listed, after = read_models(self.name, body)
            found += listed
            if after is None:
                break
            path = f"/v1/models?limit={PAGE}&after_id={quote(after, safe='')}"
        return found

    def _new_calls(self) -> SDKCalls:
        import anthropic

        client = anthropic.AsyncAnthropic(
            # Given, it keeps ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN and profile files on disk out.
            api_key=self._api_key or "none",
            base_url=self.base_url,
            max_retries=0,
            default_headers=self._headers,
            http_client=http_client(self._session),
            open_telemetry=False,
        )
        # The constructor adds ANTHROPIC_CUSTOM_HEADERS, and only our own configuration may speak here.
        client._custom_headers = self._headers
        return SDKCalls(self.name, anthropic, client, self._session, self._clock)


# -- catalogues: providers.md 5.1 ------------------------------------------------------------------------------------

_ABILITIES = {"image_input": "vision", "thinking": "thinking"}


def read_models(provider: str, body: bytes) -> tuple[list[ListedModel], str | None]:
    """A page of the catalogue -> its models, and the id after which the next page begins, None at the last. Retired
    models, and entries without an id, are left out. Raises GatewayError (provider) when it is no page."""
    try:
        page = loads(body)
    except BadJSON:
        page = None
    entries = page.get("data") if isinstance(page, dict) else None
    if not isinstance(page, dict) or not isinstance(entries, list):
        raise broken(provider, "answered something that is not a list of models")
    entries = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    after = page.get("last_id") if page.get("has_more") is True and entries else None
    models = [listed(entry) for entry in entries if entry.get("lifecycle") != "retired"]
    return models, after if isinstance(after, str) else None


def listed(entry: dict[str, Any]) -> ListedModel:
    """One entry. Every model of this wire takes tools; what else it can do stands in `capabilities`, which older
    servers do not send."""
    return ListedModel(
        entry["id"],
        context_length=_positive(entry.get("max_input_tokens")),
        max_output=_positive(entry.get("max_tokens")),
        capabilities=_capabilities(entry.get("capabilities")),
        created=_created(entry.get("created_at")),
        retires=day(entry.get("retires_at")),
        raw=entry,
    )


def _positive(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _capabilities(stated: Any) -> frozenset[str] | None:
    if not isinstance(stated, Mapping):
        return None
    able = {word for name, word in _ABILITIES.items() if _supported(stated.get(name))}
    return frozenset({"completion", "tools", *able})


def _supported(ability: Any) -> bool:
    return isinstance(ability, Mapping) and ability.get("supported") is True


def _created(text: Any) -> int | None:
    """RFC 3339 -> unix seconds. The epoch stands for an unknown date."""
    try:
        return int(datetime.datetime.fromisoformat(text).timestamp()) or None
    except (TypeError, ValueError, OverflowError):
        return None
