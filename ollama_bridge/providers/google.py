"""Gemini, through Google's official SDK.

Knows: the google-genai SDK (no other module imports it), and how Google describes its models. Must not know: what a
body says: bytes go out and come back as they are.

The SDK has no raw streaming, so its client is tapped (performance.md 9.4): a public method is called, writes address,
key and headers, and raises its typed errors; the response is taken on its way back, and what the SDK sees of it is
empty. The body goes along as the method's `extra_body`, which takes the place of all that the SDK would make of typed
contents. The head that it wrote for the first call of a kind goes out again with the next ones, and only answers that
are none are handed to it (performance.md 9.9). Closing an answer closes the connection itself: the SDK's own generator
would leave it open (providers.md 7.3).
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import aiohttp

from ..dialects.base import EMBED, Profile
from ..errors import GatewayError, Scope, UpstreamRefused, broken, timed_out, unreachable
from ..framing import BadJSON, dumps, loads
from .base import Call, ListedModel, Timeouts
from .heads import Heads
from .loading import load
from .transport import AiohttpUpstream, answered_with, http_client, longest_silence, no_connection, redirected, send

if TYPE_CHECKING:
    import httpx2
    from google import genai

# Beside what v1 has, this version knows the `-latest` names and previews (providers.md 0.2). An address may end with
# another one.
API_VERSION = "v1beta"
LIST_LIMIT = 32 * 1024 * 1024  # bytes of a page of the catalogue
PAGE_SIZE = 1000  # models; the most that a page can have
PAGES_AT_MOST = 50

_VERSION = re.compile(r"/(v\d\w*)/?$")
_MODEL = re.compile(r"(?!.*\.\.)[\w.:@/-]+", re.ASCII)  # what can stand in a path; the SDK refuses a part of the rest


@dataclass(slots=True)
class _Taken:
    """A call on its way through the SDK, and the response once there is one."""

    timeouts: Timeouts
    stream: bool
    response: httpx2.Response | None = None

    @property
    def silence(self) -> float | None:
        return longest_silence(self.timeouts, self.stream)


_tap: ContextVar[_Taken | None] = ContextVar("tap", default=None)


class GoogleProvider:
    """One account at Google's Gemini API, or at something that speaks like it. `api_key` None: the service takes none.
    `headers` are added to each request. `timeouts` are those of `models()`; a call brings its own. `clock` in
    seconds."""

    kind = "google"
    dialect = "gemini"

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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.base_url = base_url
        self.profile = profile
        self.local = local
        self.off = off
        self._api_key = api_key
        self._session = session
        self._timeouts = timeouts
        self._headers = dict(headers or {})
        self._client: genai.Client | None = None
        self._http: httpx2.AsyncClient | None = None
        self._heads = Heads(clock)
        self._building = asyncio.Lock()

    async def ready(self) -> None:
        if self.off is None and self._client is None:
            await self._build()

    async def open(self, call: Call) -> AiohttpUpstream:
        client = await self._ready_client()
        if not _MODEL.fullmatch(call.model):
            raise UpstreamRefused(404, {}, b'{"error":{"message":"no model can have such a name"}}')
        kind = (call.kind, call.model, call.stream)
        head = self._heads.get(kind)
        if head is None:
            taken = _Taken(call.timeouts, call.stream)
            response = await self._ask(client, call, taken)
            self._heads.keep(kind, response.extensions["head"])
            return AiohttpUpstream(response.extensions["raw"], self.name, taken.silence)
        body = call.body if isinstance(call.body, bytes) else dumps(call.body)
        upstream = await send(
            self._session, self.name, head.method, head.url,
            headers=head.for_body(body), body=body, timeouts=call.timeouts, stream=call.stream,
        )  # fmt: skip
        if upstream.status != 200:
            try:
                with answered_with(upstream):
                    await self._ask(client, call, _Taken(call.timeouts, call.stream))
            except BaseException:
                upstream.close()
                raise
        return upstream

    async def models(self) -> list[ListedModel]:
        """GET /models, all pages. Raises as `open` does, and GatewayError (provider) when an answer is no list."""
        client = await self._ready_client()
        found: list[ListedModel] = []
        page_token = ""
        for _ in range(PAGES_AT_MOST):
            config: Any = {"page_size": PAGE_SIZE, **({"page_token": page_token} if page_token else {})}
            taken = _Taken(self._timeouts, stream=False)
            response = await self._through(taken, partial(client.aio.models.list, config=config))
            upstream = AiohttpUpstream(response.extensions["raw"], self.name, taken.silence)
            try:
                body = await upstream.body(LIST_LIMIT)
            finally:
                upstream.close()
            page, page_token = read_models(self.name, body)
            found += page
            if not page_token:
                break
        return found

    async def close(self) -> None:
        client, self._client = self._client, None
        http, self._http = self._http, None
        self._heads.forget()
        if client is not None:
            await client.aio.aclose()
        if http is not None:
            await http.aclose()

    # -- through the SDK ---------------------------------------------------------------------------------------------
    async def _ask(self, client: genai.Client, call: Call, taken: _Taken) -> httpx2.Response:
        """Raises as `open` does, for a redirect too."""
        body = loads(call.body) if isinstance(call.body, bytes) else call.body
        options: Any = {"http_options": {"extra_body": body}}
        models = client.aio.models
        contents = "-"  # the SDK insists on some; the body has its own

        async def embed() -> None:
            await models.embed_content(model=call.model, contents=contents, config=options)

        async def whole() -> None:
            await models.generate_content(model=call.model, contents=contents, config=options | _ALONE)

        async def stream() -> None:
            chunks = await models.generate_content_stream(model=call.model, contents=contents, config=options | _ALONE)
            await anext(chunks, None)

        send_it = embed if call.kind == EMBED else stream if call.stream else whole
        return await self._through(taken, send_it)

    async def _through(self, taken: _Taken, send_it: Callable[[], Awaitable[object]]) -> httpx2.Response:
        """-> the response to what the SDK sends in `send_it`, its body not yet read."""
        import httpx2
        from google.genai import errors

        try:
            with _tapped(taken):
                await send_it()
        except httpx2.ConnectTimeout:
            raise no_connection(self.name, taken.timeouts) from None
        except httpx2.TimeoutException:
            raise timed_out(self.name, "answer", taken.silence or 0) from None
        except httpx2.TransportError as error:
            raise unreachable(self.name, str(error)) from None
        except (errors.APIError, ValueError, RecursionError):
            # The latter two where the body of a refusal is more than the SDK can read.
            if taken.response is None or taken.response.status_code == 200:
                raise
            raise self._refused(taken.response) from None
        assert taken.response is not None
        return taken.response

    def _refused(self, response: httpx2.Response) -> Exception:
        """The SDK takes anything but 200 for an error."""
        status = response.status_code
        if status >= 400:
            if status in (401, 403):
                self._heads.forget()
            return UpstreamRefused(status, dict(response.headers.items()), response.content)
        return redirected(self.name, status) if status >= 300 else broken(self.name, f"answered {status}")

    async def _ready_client(self) -> genai.Client:
        if self.off is not None:
            raise GatewayError(self.off, status=500, scope=Scope.NO_KEY, provider=self.name)
        return self._client or await self._build()

    async def _build(self) -> genai.Client:
        async with self._building:
            if self._client is None:
                try:
                    self._client = await load(self._new_client)
                except ImportError:
                    raise GatewayError(
                        f"provider '{self.name}' needs the google-genai SDK: pip install google-genai",
                        status=500, scope=Scope.NO_KEY, provider=self.name,
                    ) from None  # fmt: skip
            return self._client

    def _new_client(self) -> genai.Client:
        """Everything that the SDK would take from the environment is given: only our own configuration may speak."""
        import httpx2
        from google import genai
        from google.genai import client, types

        # It warns of keys in the environment that are not used, and of parts that nobody reads through it.
        logging.getLogger("google_genai").setLevel(logging.ERROR)
        self._http = http_client(self._session)
        self._http.event_hooks = {"request": [_send_with_limits], "response": [_take]}
        version = _VERSION.search(self.base_url)
        return genai.Client(
            vertexai=False,
            api_key=self._api_key or "none",  # the SDK insists on one
            debug_config=client.DebugConfig(client_mode=None, replays_directory=None, replay_id=None),
            http_options=types.HttpOptions(
                base_url=self.base_url[: version.start()] if version else self.base_url,
                api_version=version[1] if version else API_VERSION,
                headers=self._headers,
                httpx_async_client=self._http,
                # For calls that block and for web sockets, which nobody makes, it would load all certificates twice.
                httpx_client=httpx2.Client(transport=httpx2.BaseTransport()),
                async_client_args={"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
                # Retries are the gateway's; without these words a failed connection is tried again after 1 to 10 s.
                retry_options=types.HttpRetryOptions(attempts=1),
            ),
        )


# The SDK neither calls functions nor asks for the rest of an answer by itself.
_ALONE: dict[str, Any] = {"automatic_function_calling": {"disable": True}, "automatic_continuation": False}


@contextmanager
def _tapped(taken: _Taken) -> Iterator[None]:
    """What fails or is cancelled after its response has come leaves no connection open."""
    token = _tap.set(taken)
    try:
        yield
    except BaseException:
        if taken.response is not None:
            taken.response.extensions["raw"].close()
        raise
    finally:
        _tap.reset(token)


async def _send_with_limits(request: httpx2.Request) -> None:
    """The SDK knows one limit for a whole request, and tells it to the server; ours hold for its parts. Streams are
    asked for unpacked, so that no proxy on the way gathers tokens into blocks worth packing."""
    taken = _tap.get()
    if taken is not None:
        request.extensions["timeout"] = {"connect": taken.timeouts.connect or None, "read": taken.silence}
        if taken.stream:
            request.headers["accept-encoding"] = "identity"


async def _take(response: httpx2.Response) -> None:
    """Keeps the response; of one that is an answer the SDK sees nothing."""
    taken = _tap.get()
    if taken is not None:
        taken.response = response
        if response.status_code == 200:
            response.stream = _empty_stream()()


@cache
def _empty_stream() -> Callable[[], httpx2.AsyncByteStream]:
    """The class, defined once httpx2 is wanted."""
    import httpx2

    class Nothing(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            return
            yield b""

    return Nothing


# -- the catalogue: providers.md 5.1 -----------------------------------------------------------------------------------

_ACTIONS = {"generateContent": "completion", "embedContent": "embedding", "batchEmbedContents": "embedding"}
_SEES = re.compile(r"gemini-(?!embedding)")
_NO_TOOLS = re.compile(r".*(-image|-tts|gemma-[123]|learnlm|aqa)")


def read_models(provider: str, body: bytes) -> tuple[list[ListedModel], str]:
    """A page of the catalogue -> its models, and the token of the next page ("" for none). Raises GatewayError
    (provider) when it is none."""
    try:
        value = loads(body)
    except BadJSON:
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("models", []), list):
        raise broken(provider, "answered something that is not a list of models")
    token = value.get("nextPageToken")
    entries = [entry for entry in value.get("models", []) if isinstance(entry, dict)]
    models = [listed(entry) for entry in entries if isinstance(entry.get("name"), str)]
    return models, token if isinstance(token, str) else ""


def listed(entry: Mapping[str, Any]) -> ListedModel:
    name = entry["name"].removeprefix("models/")
    return ListedModel(
        name,
        context_length=_number(entry.get("inputTokenLimit")),
        max_output=_number(entry.get("outputTokenLimit")),
        capabilities=_capabilities(name, entry),
        raw=entry,
    )


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _capabilities(name: str, entry: Mapping[str, Any]) -> frozenset[str] | None:
    """What can be asked of it, and whether it thinks, are told; what it sees and whether it calls tools is in its name.
    None when nothing is told."""
    actions = entry.get("supportedGenerationMethods")
    if not isinstance(actions, list):
        return None
    words = {_ACTIONS[action] for action in actions if action in _ACTIONS}
    if "completion" in words:
        if entry.get("thinking") is True:
            words.add("thinking")
        if _SEES.match(name):
            words.add("vision")
        if not _NO_TOOLS.match(name):
            words.add("tools")
    return frozenset(words)
