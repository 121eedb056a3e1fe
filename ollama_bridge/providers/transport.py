"""The one way out: a shared aiohttp session, what providers read of it, and the plug that SDKs take.

Knows: aiohttp, and httpx2 as far as an SDK accepts a transport of its caller's. Must not know: any SDK, any wire, keys.

httpx2 is imported with the first SDK client, not with this module: a gateway that uses no SDK does not pay for it.
Why aiohttp below the SDKs, and each setting here: performance.md 8 and 9, providers.md 1.2.
"""

from __future__ import annotations

import asyncio
import functools
import io
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from ..errors import GatewayError, UpstreamRefused, broken, timed_out, unreachable
from . import connections
from .addresses import is_private
from .base import Timeouts
from .heads import Head

if TYPE_CHECKING:
    import httpx2

ERROR_LIMIT = 1024 * 1024  # bytes kept of a refusal's body
LARGE_BODY = 1024 * 1024  # bytes; aiohttp warns when it is given more in one piece, and would block on sending it

# What aiohttp raises when no connection can be made, and when one breaks (RuntimeError: there is none any more). Its
# time-outs are TimeoutErrors.
_FAILURES = (aiohttp.ClientError, TimeoutError, OSError)
_BREAKS = (*_FAILURES, RuntimeError)


async def open_session(guarded: bool = False) -> aiohttp.ClientSession:
    """A session of a running gateway: made inside its event loop at start, closed at shutdown by `close()`.

    No limit on connections (aiohttp's own is 100), connections kept for 75 s, no cookies, no proxy or netrc from the
    environment, no time-outs of its own: each request brings them. `guarded`: it opens connections to private
    addresses alone, whatever a name resolves to, and asks anew each time; for what must not leave our machines.
    """
    connector = aiohttp.TCPConnector(
        limit=0,
        keepalive_timeout=75,
        ttl_dns_cache=300,
        use_dns_cache=not guarded,
        socket_factory=private_socket if guarded else None,
    )
    connections.use(connector)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        trust_env=False,
    )


class NotPrivate(OSError):
    """The address is the world's, and what is sent there must stay here."""


def private_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """The socket for a connection that aiohttp is about to open, after any name has been resolved. Raises NotPrivate:
    so every connection is judged by the address that it goes to, and at the moment when it is opened."""
    family, kind, protocol, _, where = address
    if is_private(str(where[0])) is not True:
        raise NotPrivate("not a private address")
    return socket.socket(family=family, type=kind, proto=protocol)


def longest_silence(timeouts: Timeouts, stream: bool) -> float | None:
    """Seconds without a byte after which a connection is given up, None for never. It is the net below the finer
    limits of whoever reads, so it is the longest of them."""
    limits = (timeouts.first_byte, timeouts.first_token, timeouts.idle) if stream else (timeouts.total,)
    return None if 0 in limits else max(limits)


def cause(error: BaseException) -> str:
    """Why a connection failed, in a few words without addresses, keys or paths."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name does not resolve"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its TLS certificate is not trusted"
    if isinstance(error, aiohttp.ClientSSLError):
        return "the TLS handshake failed"
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, NotPrivate):
        return "it is said to be local, and its address is not a private one"
    if isinstance(error, aiohttp.InvalidURL):
        return "its address is not valid"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection without an answer"
    if isinstance(error, aiohttp.ClientResponseError):
        return "what it answered is not HTTP"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return "the connection broke"


class AiohttpUpstream:
    """An answer whose body has not been read: `providers.base.Upstream`, for any status. The body arrives inflated,
    so `headers` say nothing of an encoding. `silence`: seconds, for the words of a time-out."""

    __slots__ = ("_content", "_provider", "_response", "_silence", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, provider: str, silence: float | None) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers  # names in any case, lower case among them
        if "content-encoding" in response.headers:
            kept = {name.lower(): value for name, value in response.headers.items()}
            del kept["content-encoding"]
            self.headers = kept
        self._response = response
        self._content = response.content
        self._provider = provider
        self._silence = silence

    async def read(self) -> bytes:
        try:
            return await self._content.readany()
        except _BREAKS as error:
            rest = _arrived(self._content, error)
            if rest:
                return rest
            raise self._failed(error) from None

    def _failed(self, error: BaseException) -> GatewayError:
        if isinstance(error, TimeoutError):
            return timed_out(self._provider, "further bytes", self._silence or 0)
        return broken(self._provider, "broke off its answer")

    async def body(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while part := await self.read():
            size += len(part)
            if size > limit:
                self.close()
                raise broken(self._provider, f"sent an answer longer than {limit} bytes")
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def refusal(self) -> UpstreamRefused:
        """The answer as an error, with the first ERROR_LIMIT bytes of its body, and the connection let go. What a
        broken connection leaves of the body is kept: the status says more than the break."""
        kept = b""
        try:
            while len(kept) < ERROR_LIMIT and (part := await self.read()):
                kept += part
        except GatewayError:
            pass
        finally:
            self.close()
        return UpstreamRefused(self.status, self.headers, kept[:ERROR_LIMIT])

    def close(self) -> None:
        if not self._response.closed:  # at the end of the body the connection is back in the pool already
            self._response.close()


def _arrived(content: aiohttp.StreamReader, error: BaseException) -> bytes:
    """What came in before the connection broke: aiohttp reports the break first and would drop it."""
    content.set_exception(None)  # type: ignore[arg-type]  # lifts it, so that the rest can be read
    try:
        return content.read_nowait()
    finally:
        content.set_exception(error)


def _tell_of_loss(response: aiohttp.ClientResponse) -> None:
    """Makes every loss of the connection reach whoever waits for the body. aiohttp (3.14) tells of most, but when
    garbage stands where a chunk should begin it hangs up, stops its own time-out, and lets the reader wait for ever."""
    connection, content = response.connection, response.content
    closed = connection.protocol.closed if connection is not None and connection.protocol is not None else None
    if closed is None:
        return

    def lost(_: asyncio.Future[None]) -> None:
        if content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("connection lost"))

    def whole() -> None:  # the connection lives on in the pool
        closed.remove_done_callback(lost)

    closed.remove_done_callback(_heed)
    closed.add_done_callback(_heed)
    closed.add_done_callback(lost)
    content.on_eof(whole)


def _heed(closed: asyncio.Future[None]) -> None:
    """Takes note of how a connection ended, or asyncio would log that no one did."""
    if not closed.cancelled():
        closed.exception()


async def _request(
    session: aiohttp.ClientSession,
    method: str,
    url: str | URL,
    headers: Mapping[str, str],
    body: bytes | None,
    connect: float | None,
    silence: float | None,
) -> aiohttp.ClientResponse:
    """Raises one of _FAILURES. `connect` and `silence` in seconds, None for no limit."""
    response = await session.request(
        method,
        url,
        headers=headers,
        data=io.BytesIO(body) if body and len(body) > LARGE_BODY else body or None,
        allow_redirects=False,
        timeout=aiohttp.ClientTimeout(total=None, connect=connect, sock_read=silence),
    )
    _tell_of_loss(response)
    return response


async def send(
    session: aiohttp.ClientSession,
    provider: str,
    method: str,
    url: str | URL,
    *,
    headers: Mapping[str, str],
    body: bytes | None,
    timeouts: Timeouts,
    stream: bool,
) -> AiohttpUpstream:
    """One request that no SDK has a part in -> its answer, whatever the status, redirects not followed. Raises
    GatewayError when nothing came back. Cancelling it closes the connection."""
    silence = longest_silence(timeouts, stream)
    try:
        response = await _request(session, method, url, headers, body, timeouts.connect or None, silence)
    except aiohttp.ConnectionTimeoutError:
        raise no_connection(provider, timeouts) from None
    except TimeoutError:
        raise timed_out(provider, "answer", silence or 0) from None
    except _FAILURES as error:
        raise unreachable(provider, cause(error)) from None
    return AiohttpUpstream(response, provider, silence)


def no_connection(provider: str, timeouts: Timeouts) -> GatewayError:
    return timed_out(provider, "answer to a connection", timeouts.connect)


def redirected(provider: str, status: int) -> GatewayError:
    """A redirect is not followed: a key or a prompt would go where no one configured it to go."""
    return broken(provider, f"answered with a redirect ({status}), which is not followed")


_answer: ContextVar[aiohttp.ClientResponse | None] = ContextVar("answer", default=None)


@contextmanager
def answered_with(upstream: AiohttpUpstream) -> Iterator[None]:
    """What an SDK sends within it goes nowhere: this is the answer to it already. So an SDK judges, by its own error
    classes, answers to requests that went out without it."""
    token = _answer.set(upstream._response)
    try:
        yield
    finally:
        _answer.reset(token)


def http_client(session: aiohttp.ClientSession) -> httpx2.AsyncClient:
    """What an SDK takes as its `http_client`: no connections, cookies, proxies or redirects of its own. Closing it
    leaves the session open. A response's `extensions["raw"]` is the aiohttp.ClientResponse, its body not yet read
    when the SDK was asked for a raw stream; `extensions["head"]` is the Head that the SDK has written for it."""
    from http.cookiejar import CookieJar, DefaultCookiePolicy

    import httpx2

    return httpx2.AsyncClient(
        transport=_transport_class()(session),
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        headers={"accept-encoding": "gzip, deflate"},  # what aiohttp inflates whatever else is installed
        trust_env=False,
        timeout=None,
    )


@functools.cache
def _transport_class() -> Callable[[aiohttp.ClientSession], httpx2.AsyncBaseTransport]:
    """The httpx2 transport, defined once httpx2 is wanted."""
    import httpx2

    def mapped(error: BaseException) -> httpx2.TransportError:
        kind: type[httpx2.TransportError] = httpx2.ReadError
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            kind = httpx2.ConnectTimeout
        elif isinstance(error, TimeoutError):
            kind = httpx2.ReadTimeout
        elif isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL):
            kind = httpx2.ConnectError
        elif isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientResponseError):
            kind = httpx2.RemoteProtocolError
        return kind(cause(error))

    class Body(httpx2.AsyncByteStream):
        """The body for an SDK that reads it itself: whole answers, and refusals up to ERROR_LIMIT."""

        def __init__(self, response: aiohttp.ClientResponse) -> None:
            self._response = response

        async def __aiter__(self) -> AsyncIterator[bytes]:
            refused = self._response.status >= 300
            left = ERROR_LIMIT
            try:
                while part := await self._read():
                    yield part[:left] if refused else part
                    left -= len(part)
                    if refused and left <= 0:
                        return
            except _BREAKS as error:
                if not refused:  # of a refusal the status says more than the break
                    raise mapped(error) from error

        async def _read(self) -> bytes:
            try:
                return await self._response.content.readany()
            except _BREAKS as error:
                if rest := _arrived(self._response.content, error):
                    return rest
                raise

        async def aclose(self) -> None:
            self._response.close()

    class Transport(httpx2.AsyncBaseTransport):
        def __init__(self, session: aiohttp.ClientSession) -> None:
            self._session = session

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            # As the SDK wrote it.
            url = URL(str(request.url), encoded=True)
            head = Head(request.method, url, CIMultiDict(request.headers.multi_items()))
            response = _answer.get() or await self._ask(request, head)
            # aiohttp has inflated the body; an SDK that saw the header would do it again and fail.
            headers = [(name, value) for name, value in response.raw_headers if name.lower() != b"content-encoding"]
            return httpx2.Response(
                response.status,
                headers=headers,
                stream=Body(response),
                extensions={"http_version": b"HTTP/1.1", "raw": response, "head": head},
            )

        async def _ask(self, request: httpx2.Request, head: Head) -> aiohttp.ClientResponse:
            limits = request.extensions.get("timeout", {})
            connect, silence = limits.get("connect"), limits.get("read")
            body = await request.aread()
            try:
                return await _request(self._session, head.method, head.url, head.headers, body, connect, silence)
            except _FAILURES as error:
                raise mapped(error) from error

        async def aclose(self) -> None:
            """The session is shared: whoever opened it closes it."""

    return Transport
