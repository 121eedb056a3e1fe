"""A real Ollama over its own HTTP API: requests and answers pass as they are.

Knows: Ollama's paths and its list of models. Must not know: what a body says, which client asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import aiohttp

from ..dialects.base import CHAT, EMBED, EMBED_ONE, GENERATE, Profile
from ..errors import GatewayError, Scope, broken
from ..framing import BadJSON, dumps, loads
from .base import Call, ListedModel, Timeouts
from .transport import AiohttpUpstream, redirected, send

PATHS = {CHAT: "/api/chat", GENERATE: "/api/generate", EMBED: "/api/embed", EMBED_ONE: "/api/embeddings"}
FORWARD_LIMIT = 64 * 1024 * 1024  # bytes; `show` with `verbose` carries a whole tokenizer


class Forwarded(NamedTuple):
    """A whole answer of the real Ollama, whatever its status. `content_type` is "" when it sent none."""

    status: int
    content_type: str
    body: bytes


class OllamaProvider:
    """One Ollama host. `api_key` is needed by Ollama's cloud and by hosts behind a guard. `headers` are added to each
    request. `timeouts` are those of `models`, `get` and `post`; a call brings its own."""

    kind = "ollama"
    dialect = "ollama"

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
    ) -> None:
        self.name = name
        self.base_url = base_url.rstrip("/")
        self.profile = profile
        self.local = local
        self.off = off
        self._session = session
        self._timeouts = timeouts
        self._headers = dict(headers or {})
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    async def ready(self) -> None:
        """Needs no SDK."""

    async def open(self, call: Call) -> AiohttpUpstream:
        body = call.body if isinstance(call.body, bytes) else dumps(call.body)
        upstream = await self._send("POST", PATHS[call.kind], body, call.timeouts, call.stream)
        if upstream.status >= 400:
            raise await upstream.refusal()
        return upstream

    async def models(self) -> list[ListedModel]:
        """GET /api/tags. `raw` is the entry as it came, `remote_host` and `remote_model` of cloud models included.
        Raises as `open` does, and GatewayError (provider) when the answer is no list."""
        upstream = await self._send("GET", "/api/tags", b"", self._timeouts, stream=False)
        if upstream.status >= 400:
            raise await upstream.refusal()
        try:
            body = await upstream.body(FORWARD_LIMIT)
        finally:
            upstream.close()
        return read_tags(self.name, body)

    async def get(self, path: str) -> Forwarded:
        """A question such as /api/ps or /api/version, forwarded. Raises GatewayError when no whole answer came."""
        return await self._forward("GET", path, b"")

    async def post(self, path: str, body: bytes) -> Forwarded:
        """A question such as /api/show, forwarded. Raises as `get` does."""
        return await self._forward("POST", path, body)

    async def close(self) -> None:
        """The session is shared: whoever opened it closes it."""

    async def _forward(self, method: str, path: str, body: bytes) -> Forwarded:
        upstream = await self._send(method, path, body, self._timeouts, stream=False)
        try:
            return Forwarded(
                upstream.status, upstream.headers.get("content-type", ""), await upstream.body(FORWARD_LIMIT)
            )
        finally:
            upstream.close()

    async def _send(self, method: str, path: str, body: bytes, timeouts: Timeouts, stream: bool) -> AiohttpUpstream:
        if self.off is not None:
            raise GatewayError(self.off, status=500, scope=Scope.NO_KEY, provider=self.name)
        headers = dict(self._headers)
        if body:
            headers["Content-Type"] = "application/json"
        if stream:
            headers["Accept-Encoding"] = "identity"
        upstream = await send(
            self._session, self.name, method, self.base_url + path,
            headers=headers, body=body, timeouts=timeouts, stream=stream,
        )  # fmt: skip
        if 300 <= upstream.status < 400:
            upstream.close()
            raise redirected(self.name, upstream.status)
        return upstream


def read_tags(provider: str, body: bytes) -> list[ListedModel]:
    """The answer of /api/tags (ollama-protocol.md 3). Entries without a name are left out. Raises GatewayError
    (provider) when it is no such answer."""
    try:
        value = loads(body)
    except BadJSON:
        value = None
    entries = value.get("models") if isinstance(value, dict) else None
    if not isinstance(entries, list):
        raise broken(provider, "answered something that is not a list of models")
    return [listed(entry) for entry in entries if isinstance(entry, dict) and isinstance(_name(entry), str)]


def _name(entry: Mapping[str, Any]) -> Any:
    return entry.get("model") or entry.get("name")


def listed(entry: dict[str, Any]) -> ListedModel:
    """One entry; what an older Ollama does not tell stays None."""
    details = entry.get("details")
    details = details if isinstance(details, dict) else {}
    capabilities = entry.get("capabilities")
    return ListedModel(
        _name(entry),
        context_length=_length(details.get("context_length")),
        capabilities=frozenset(capabilities) if isinstance(capabilities, list) else None,
        created=_seconds(entry.get("modified_at")),
        embedding_length=_length(details.get("embedding_length")),
        raw=entry,
    )


def _length(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _seconds(value: Any) -> int | None:
    """RFC 3339 -> unix seconds."""
    try:
        return int(datetime.fromisoformat(value).timestamp())
    except (TypeError, ValueError):
        return None
