"""The HTTP server: what happens to a request before and after its handler.

Knows: aiohttp, and the order of things: redirects, CORS, Host guard, 404 and 405, key, handler (a real Ollama's own
order, ollama-protocol.md 0.3-0.5). Must not know: wire bodies, providers, policy.

aiohttp's Application is not used: its router answers 404, 405 and redirects in ways of its own, its responses add
headers that Ollama does not send, and its error pages are not ours. Used are its parser, its connections, its runner.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
import traceback
from collections.abc import Awaitable
from html import escape
from typing import Any

from aiohttp import web

from ..dialects.base import Answer
from ..errors import MODEL_NOT_FOUND, GatewayError, refuse, shutting_down
from ..policy.ports import ClientGone
from . import bodies, hosts, routes
from .credentials import SharedKey, split_key
from .origins import Origins
from .ports import Services, WebSettings
from .router import Found, Malformed, NotAllowed, Redirect, Router, decode, split_target
from .sink import CLOSED, HttpSink, Written

__all__ = ["Doors", "Services", "WebSettings", "build"]

_CLIENT_LEFT = 499  # the status metrics know a request by that nobody waited for
_METHODS = frozenset(("HEAD", "GET", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"))
_UNMATCHED = "unmatched"
_LOGGED = 200  # characters of a name that a client made up
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9._-]")

_BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"
)

_CONNECTION: dict[str, Any] = {
    "access_log": None,
    "auto_decompress": False,  # gzip bodies are read as they are, as Ollama does; zstd has its own place
    "max_line_size": 64 * 1024,  # bytes: paths carry keys,
    "max_field_size": 64 * 1024,  # and keys may be long tokens
}


def build(doors: Doors, settings: WebSettings) -> web.Server:
    """For `web.ServerRunner(build(...))`; to be called inside the running loop."""
    return _Server(doors, settings)


class Doors:
    """The front that answers now; `change` puts another in its place. Requests under way end with the front they began
    with."""

    def __init__(self, services: Services, settings: WebSettings) -> None:
        """Raises ValueError for an origin pattern that cannot be."""
        self._front = Front(services, settings)
        self._fronts = {self._front}
        self._closing = False

    def __call__(self, request: web.BaseRequest) -> Awaitable[Written]:
        # No coroutine of its own: each one around a stream costs something at every token.
        return self._front(request, self._closing)

    def change(self, services: Services, settings: WebSettings) -> Front:
        """-> the front that answered until now. Raises ValueError as making it does."""
        before, self._front = self._front, Front(services, settings)
        self._fronts = {self._front, *(front for front in self._fronts if front.open)}
        return before

    @property
    def open(self) -> int:
        """Requests under way."""
        return sum(front.open for front in self._fronts)

    def close(self) -> None:
        """Connections end after the answer that they wait for, and we are no longer ready for more."""
        self._closing = True
        for front in self._fronts:
            front.ready = False

    def end(self) -> None:
        """Tells requests under way to end, and their clients so."""
        for front in self._fronts:
            front.end()

    async def idle_within(self, seconds: float) -> bool:
        """Whether all requests ended within that time."""
        try:
            async with asyncio.timeout(seconds):
                for front in list(self._fronts):
                    await front.idle()
        except TimeoutError:
            pass
        return self.open == 0


class Front:
    """Serves one request after the other of every connection. `open`: requests under way. `ready`: /ready says so."""

    def __init__(self, services: Services, settings: WebSettings) -> None:
        self.open = 0
        self.ready = True
        self._idle = asyncio.Event()
        self._visits: dict[asyncio.Task[Any], routes.Visit] = {}  # those whose handler is at work
        self._told: set[asyncio.Task[Any]] = set()  # to end
        self._services = services
        self._settings = settings
        self._router = Router(routes.table(services, settings, lambda: self.ready))
        self._origins = Origins(settings.origins)
        self._key = SharedKey(settings.api_key)
        self._guarded = hosts.is_loopback(settings.bound_host)

    async def idle(self) -> None:
        """Returns once no request is under way."""
        while self.open:
            self._idle.clear()
            await self._idle.wait()

    def end(self) -> None:
        """Tells requests under way to end: the pipeline those that it has, the front all others. A second call tells
        those that have come since."""
        self._services.pipeline.end()
        for task, visit in self._visits.items():
            if not visit.piped and task not in self._told:
                self._told.add(task)
                task.cancel()

    async def __call__(self, request: web.BaseRequest, closing: bool) -> Written:
        self.open += 1
        started_ns = time.perf_counter_ns()
        sink = HttpSink(request, _request_id(request.headers.get("X-Request-ID", "")), self._settings.write_deadline)
        sink.closing |= closing
        label = _UNMATCHED
        try:
            visit = self._route(request, sink, started_ns)
            if isinstance(visit, routes.Visit):
                label = visit.route.path
                await self._serve(visit)
            else:
                await sink.answer(visit)
        except ClientGone:
            sink.abort()
        finally:
            self._services.metrics.observe_request(
                label,
                request.method if request.method in _METHODS else "OTHER",
                sink.status or _CLIENT_LEFT,
                (time.perf_counter_ns() - started_ns) / 1e9,
            )
            self.open -= 1
            if not self.open:
                self._idle.set()
        return sink.result()

    def _route(self, request: web.BaseRequest, sink: HttpSink, started_ns: int) -> routes.Visit | Answer:
        """All that can be said without a handler; headers that go with every answer are left in the sink."""
        try:
            target = split_target(request.raw_path)
        except Malformed:
            sink.closing = True
            return Answer(400, "text/plain; charset=utf-8", b"400 Bad Request")
        host = request.headers.get("Host", "") if target.host is None else target.host
        prefix, path_key, target = split_key(target)
        match = self._router.resolve(request.method, target, prefix)
        if isinstance(match, Redirect):
            return _redirect(request.method, match)
        # From here on the order is CORS, Host guard, routing; `Allow` stands on whatever they say.
        allow = {"Allow": match.allow} if isinstance(match, NotAllowed) else {}
        verdict = self._origins.judge(request.method, request.headers.get("Origin", ""), host)
        if verdict.refused:
            return Answer(403, "", b"", allow)
        sink.extra = verdict.headers
        if verdict.preflight:
            return Answer(204, "", b"", allow)
        if self._guarded:
            standing = hosts.judge(host)
            if standing is hosts.Standing.REFUSED:
                return Answer(403, "", b"", allow)
            if standing is hosts.Standing.NAME and request.method == "OPTIONS":
                return Answer(204, "", b"", allow)
        if not isinstance(match, Found):
            return _text(405, "405 method not allowed", allow) if allow else _text(404, "404 page not found")
        admitted = self._key.admits(request.headers, path_key)
        return routes.Visit(request, sink, match.route, decode(target.path), match.tail, started_ns, admitted)

    async def _serve(self, visit: routes.Visit) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if visit.route.needs_key and not visit.admitted:
                raise refuse("unauthorized", status=401)
            self._visits[task] = visit
            try:
                answer = await visit.route.handler(visit)
            except asyncio.CancelledError:
                # `end` cancels, and the client is told. A client that leaves cancels too: nobody is to be told then.
                if task not in self._told or task.uncancel() > 0:
                    raise
                visit.sink.closing = True
                raise shutting_down() from None
            finally:
                del self._visits[task]
                self._told.discard(task)
            if answer is None and not visit.sink.started:
                raise RuntimeError("the handler has not answered")
        except GatewayError as error:
            answer = self._refusal(visit, error)
        except ClientGone:
            raise
        except Exception as error:  # the last line: a bug must cost one request, and must not show itself
            # The exception's own text may quote a prompt: type and place are enough to find the bug.
            self._services.log.error(
                "handler failed",
                request_id=visit.sink.request_id,
                route=visit.route.path,
                error=type(error).__name__,
                traceback="".join(traceback.format_tb(error.__traceback__)),
            )
            answer = self._worded(visit, GatewayError(f"internal error (request {visit.sink.request_id})"))
        if answer is not None:
            if visit.sink.started:
                visit.sink.abort()
            else:
                await visit.sink.answer(answer)

    def _refusal(self, visit: routes.Visit, error: GatewayError) -> Answer:
        """The answer to a request that no pipeline has seen."""
        self._services.log.info(
            "refused",
            request_id=visit.sink.request_id,
            route=visit.route.path,
            method=visit.request.method,
            status=error.status,
            model=error.model[:_LOGGED] if error.model and error.code == MODEL_NOT_FOUND else None,
            near=error.near,
        )
        if isinstance(error, bodies.Unreadable):
            visit.sink.closing = True
        if error.near:
            visit.sink.notes["X-Bridge-Near"] = ", ".join(error.near)
        return self._worded(visit, error)

    def _worded(self, visit: routes.Visit, error: GatewayError) -> Answer:
        door = routes.NATIVE if isinstance(error, bodies.NotInflated) else visit.route.door
        return self._services.dialects[door].write_error(visit.route.kind, error, stream=False)


def _request_id(given: str) -> str:
    """The client's own, as far as it is fit for headers and logs, else a new one."""
    return _NOT_IN_ID.sub("", given)[:128] or secrets.token_hex(12)


def _text(status: int, text: str, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, "text/plain", text.encode(), headers or {})


def _redirect(method: str, match: Redirect) -> Answer:
    headers = {"Location": match.location}
    if method not in ("GET", "HEAD"):
        return Answer(match.status, "", b"", headers)
    words = "Moved Permanently" if match.status == 301 else "Temporary Redirect"
    page = f'<a href="{escape(match.location)}">{words}</a>.\n\n' if method == "GET" else ""
    return Answer(match.status, "text/html; charset=utf-8", page.encode(), headers)


class _Connection(web.RequestHandler):
    """aiohttp's connection without its error pages and their log lines, and with a limit on how long a head may take:
    aiohttp waits an hour for the first one, and for the rest of any other."""

    __slots__ = ("_head_deadline", "_head_timer")

    def __init__(self, server: web.Server, settings: WebSettings) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), lingering_time=settings.linger, **_CONNECTION)
        self._head_deadline = settings.head_deadline
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        heads = self._request_count
        closing, self._close = self._close, False  # aiohttp would drop the rest of a body that is still coming
        try:
            super().data_received(data)
        finally:
            self._close |= closing
        if self._request_count > heads:
            self._forget_head()
        elif self._head_timer is None and self._waiter is not None:  # idle, so these are the first bytes of a head
            self._await_head()

    def close(self) -> None:
        """Ends with the request under way, or that has just come in; without one at once (aiohttp leaves it open, and
        would never answer)."""
        idle = self._waiter is not None and not self._waiter.done() and not self._messages
        super().close()
        if idle and self.transport is not None:
            self.transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_timer = self._loop.call_later(self._head_deadline, self.force_close)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP gets a plain 400. The front answers for its handlers: anything else is a bug of its own."""
        if status != 400:
            self.log_exception("request failed outside its handler", exc_info=exc)
        elif request.transport is not None:
            request.transport.write(_BAD_REQUEST)
        return CLOSED


class _Server(web.Server):
    """aiohttp's server of such connections. A client that leaves cancels its handler."""

    def __init__(self, doors: Doors, settings: WebSettings) -> None:
        super().__init__(doors, handler_cancellation=True)
        self._settings = settings

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._settings)
