"""The route table: every path the gateway answers, and what answers it.

Knows: paths, doors, who needs a key. Must not know: how a path is matched (router), what a body means (dialects).

Paths are written as the router reads them: `{name}` is one segment, `{name...}` the rest, since our model ids hold
slashes (a real Ollama answers 404 to them).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from ..dialects.base import CHAT, EMBED, EMBED_ONE, GENERATE, Answer
from ..errors import GatewayError, Scope
from ..framing import dumps
from ..policy.ports import Exchange
from . import bodies, operating
from .ports import Services, WebSettings
from .sink import HttpSink

SMALL_BODY = 1024 * 1024  # bytes, where no prompt and no picture is sent

NATIVE = "ollama"
OPENAI = "openai"

_GET = ("GET",)
_READ = ("HEAD", "GET")
_POST = ("POST",)
_DELETE = ("DELETE",)


@dataclass(slots=True)
class Visit:
    """One request that has found its route. `path` is decoded and without a key; `started_ns` is a perf_counter_ns;
    `admitted`: it has the key that the route needs."""

    request: web.BaseRequest
    sink: HttpSink
    route: Route
    path: str
    tail: str
    started_ns: int
    admitted: bool


Handler = Callable[[Visit], Awaitable[Answer | None]]  # None: the handler has answered through the sink


@dataclass(frozen=True, slots=True)
class Route:
    """`door` names the dialect that errors are written in, `kind` what it is told of the endpoint (an Endpoint kind,
    or for the listings its last word). `inflates`: a zstd body is decompressed."""

    methods: tuple[str, ...]
    path: str
    handler: Handler
    kind: str = ""
    needs_key: bool = True
    inflates: bool = False

    @property
    def door(self) -> str:
        return OPENAI if self.path.startswith("/v1/") else NATIVE


def table(services: Services, settings: WebSettings) -> list[Route]:
    """All routes. Those of Ollama are in ollama-protocol.md 1, the rest in product.md 1."""
    alive = Answer(200, "text/plain; charset=utf-8", b"Ollama is running")
    version = Answer(200, "application/json; charset=utf-8", dumps({"version": settings.version}))

    async def root(visit: Visit) -> Answer:
        return alive

    async def emulated(visit: Visit) -> Answer:
        return version

    async def health(visit: Visit) -> Answer:
        return operating.health()

    async def metrics(visit: Visit) -> Answer:
        return operating.metrics(services.metrics)

    async def tags(visit: Visit) -> Answer:
        return await services.library.tags()

    async def ps(visit: Visit) -> Answer:
        return await services.library.ps()

    async def show(visit: Visit) -> Answer:
        agent = visit.request.headers.get("User-Agent", "")
        return await services.library.show(await body_of(visit, SMALL_BODY), agent)

    async def models(visit: Visit) -> Answer:
        return await services.library.openai_models()

    async def model(visit: Visit) -> Answer:
        return await services.library.openai_model(visit.tail)

    async def body_of(visit: Visit, limit: int = settings.max_body) -> bytes:
        body = await bodies.read(visit.request, limit, settings.sender_idle, settings.sender_rate)
        inflate = visit.route.inflates and visit.request.headers.get("Content-Encoding") == "zstd"
        return bodies.inflate(body) if inflate else body

    async def exchange(visit: Visit) -> None:
        await services.pipeline.run(
            Exchange(
                dialect=services.dialects[visit.route.door],
                kind=visit.route.kind,
                path=visit.path,
                body=await body_of(visit),
                headers={name.lower(): value for name, value in visit.request.headers.items()},
                request_id=visit.sink.request_id,
                started_ns=visit.started_ns,
                notes=visit.sink.notes,
            ),
            visit.sink,
        )

    async def unavailable(visit: Visit) -> Answer:
        raise GatewayError(
            f"{visit.route.path} is not available on this gateway", status=501, scope=Scope.GATEWAY, early=True
        )

    return [
        Route(_READ, "/", root, needs_key=False),
        Route(_READ, "/api/version", emulated),
        Route(_READ, "/api/tags", tags, kind="tags"),
        Route(_GET, "/api/ps", ps, kind="ps"),
        Route(_POST, "/api/show", show, kind="show"),
        Route(_POST, "/api/chat", exchange, kind=CHAT),
        Route(_POST, "/api/generate", exchange, kind=GENERATE),
        Route(_POST, "/api/embed", exchange, kind=EMBED),
        Route(_POST, "/api/embeddings", exchange, kind=EMBED_ONE),
        Route(_POST, "/v1/chat/completions", exchange, kind=CHAT, inflates=True),
        Route(_POST, "/v1/completions", exchange, kind=GENERATE, inflates=True),
        Route(_POST, "/v1/embeddings", exchange, kind=EMBED, inflates=True),
        Route(_GET, "/v1/models", models, kind="models"),
        Route(_GET, "/v1/models/{id...}", model, kind="models"),
        Route(_READ, "/health", health, needs_key=False),
        Route(_GET, "/metrics", metrics),
        Route(_GET, "/api/status", unavailable),
        Route(_POST, "/api/pull", unavailable),
        Route(_POST, "/api/push", unavailable),
        Route(_POST, "/api/create", unavailable),
        Route(_POST, "/api/copy", unavailable),
        Route(_DELETE, "/api/delete", unavailable),
        Route(("HEAD", "POST"), "/api/blobs/{digest}", unavailable),
        Route(_POST, "/api/me", unavailable),
        Route(_POST, "/api/signout", unavailable),
        Route(_DELETE, "/api/user/keys/{key}", unavailable),
        Route(_POST, "/api/experimental/web_search", unavailable),
        Route(_POST, "/api/experimental/web_fetch", unavailable),
        Route(_GET, "/api/experimental/model-recommendations", unavailable),
        Route(_POST, "/v1/responses", unavailable),
        Route(_POST, "/v1/messages", unavailable),
        Route(_POST, "/v1/audio/transcriptions", unavailable),
    ]
