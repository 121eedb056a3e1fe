"""The route table: every path the gateway answers, and what answers it.

Knows: paths, doors, who needs a key. Must not know: how a path is matched (router), what a body means (dialects).

Paths are written as the router reads them: `{name}` is one segment, `{name...}` the rest, since our model ids hold
slashes (a real Ollama answers 404 to them).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from ..dialects.base import CHAT, EMBED, EMBED_ONE, GENERATE, Answer
from ..dialects.plain import STREAM
from ..errors import GatewayError, Scope
from ..framing import dumps
from ..policy.ports import Exchange
from . import bodies, operating, pages
from .ports import Services, WebSettings
from .sink import HttpSink

SMALL_BODY = 1024 * 1024  # bytes, where no prompt and no picture is sent

NATIVE = "ollama"
OPENAI = "openai"
PLAIN = "plain"

_GET = ("GET",)
_READ = ("HEAD", "GET")
_POST = ("POST",)
_DELETE = ("DELETE",)


@dataclass(slots=True)
class Visit:
    """One request that has found its route. `path` is decoded and without a key; `started_ns` is a perf_counter_ns;
    `admitted`: it has the key that most routes need; `piped`: the pipeline has it, and ends it."""

    request: web.BaseRequest
    sink: HttpSink
    route: Route
    path: str
    tail: str
    started_ns: int
    admitted: bool
    piped: bool = False


Handler = Callable[[Visit], Awaitable[Answer | None]]  # None: the handler has answered through the sink


@dataclass(frozen=True, slots=True)
class Route:
    """`door` names the dialect that errors are written in, `kind` what it is told of the endpoint (an Endpoint kind,
    or for the listings its last word). `inflates`: a zstd body is decompressed."""

    methods: tuple[str, ...]
    path: str
    handler: Handler
    kind: str = ""
    door: str = NATIVE
    needs_key: bool = True
    inflates: bool = False


def named(headers: Mapping[str, str]) -> dict[str, str]:
    """By lower-case names; the values of a header that came several times stand together."""
    found = {name.lower(): value for name, value in headers.items()}
    if len(found) < len(headers):
        found = {}
        for name, value in headers.items():
            lower = name.lower()
            found[lower] = f"{found[lower]}, {value}" if lower in found else value
    return found


def table(services: Services, settings: WebSettings, is_ready: Callable[[], bool]) -> list[Route]:
    """All routes. Those of Ollama are in ollama-protocol.md 1, the rest in product.md 1. `is_ready`: whether new
    requests are welcome."""
    alive = Answer(200, "text/plain; charset=utf-8", b"Ollama is running")
    version = Answer(200, "application/json; charset=utf-8", dumps({"version": settings.version}))

    async def root(visit: Visit) -> Answer:
        return alive

    async def emulated(visit: Visit) -> Answer:
        return version

    async def health(visit: Visit) -> Answer:
        if visit.request.query.get("verbose", "0") not in ("", "0"):
            return operating.state(services.state, visit.admitted)
        return operating.health()

    async def ready(visit: Visit) -> Answer:
        return operating.ready(is_ready())

    async def metrics(visit: Visit) -> Answer:
        return await operating.metrics(services.metrics)

    async def openapi(visit: Visit) -> Answer:
        return await description.answer()

    async def docs(visit: Visit) -> Answer:
        return pages.docs()

    async def redoc(visit: Visit) -> Answer:
        return pages.redoc()

    async def asset(visit: Visit) -> Answer:
        return await pages.asset(visit.tail)

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
        whole = Exchange(
            dialect=services.dialects[visit.route.door],
            kind=visit.route.kind,
            path=visit.path,
            body=await body_of(visit),
            headers=named(visit.request.headers),
            caller=visit.request.remote or "",
            request_id=visit.sink.request_id,
            started_ns=visit.started_ns,
            notes=visit.sink.notes,
        )
        visit.piped = True
        await services.pipeline.run(whole, visit.sink)

    async def unavailable(visit: Visit) -> Answer:
        raise GatewayError(
            f"{visit.route.path} is not available on this gateway", status=501, scope=Scope.GATEWAY, early=True
        )

    found = [
        Route(_READ, "/", root, needs_key=False),
        Route(_READ, "/api/version", emulated),
        Route(_READ, "/api/tags", tags, kind="tags"),
        Route(_GET, "/api/ps", ps, kind="ps"),
        Route(_POST, "/api/show", show, kind="show"),
        Route(_POST, "/api/chat", exchange, kind=CHAT),
        Route(_POST, "/api/generate", exchange, kind=GENERATE),
        Route(_POST, "/api/embed", exchange, kind=EMBED),
        Route(_POST, "/api/embeddings", exchange, kind=EMBED_ONE),
        Route(_POST, "/v1/chat/completions", exchange, kind=CHAT, door=OPENAI, inflates=True),
        Route(_POST, "/v1/completions", exchange, kind=GENERATE, door=OPENAI, inflates=True),
        Route(_POST, "/v1/embeddings", exchange, kind=EMBED, door=OPENAI, inflates=True),
        Route(_GET, "/v1/models", models, kind="models", door=OPENAI),
        Route(_GET, "/v1/models/{id...}", model, kind="models", door=OPENAI),
        Route(_POST, "/chat", exchange, kind=CHAT, door=PLAIN),
        Route(_POST, "/v1/chat", exchange, kind=CHAT, door=PLAIN),
        Route(_POST, "/stream", exchange, kind=STREAM, door=PLAIN),
        Route(_POST, "/v1/chat/stream", exchange, kind=STREAM, door=PLAIN),
        Route(_READ, "/health", health, needs_key=False),
        Route(_READ, "/v1/health", health, needs_key=False),
        Route(_READ, "/ready", ready, needs_key=False),
        Route(_GET, "/metrics", metrics),
        Route(_GET, "/openapi.json", openapi, needs_key=False),
        Route(_GET, "/docs", docs, needs_key=False),
        Route(_GET, "/redoc", redoc, needs_key=False),
        Route(_GET, "/docs/assets/{name}", asset, needs_key=False),
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
        Route(_POST, "/v1/responses", unavailable, door=OPENAI),
        Route(_POST, "/v1/messages", unavailable, door=OPENAI),
        Route(_POST, "/v1/audio/transcriptions", unavailable, door=OPENAI),
    ]
    description = pages.Description(found, keyed=settings.api_key is not None)
    return found
