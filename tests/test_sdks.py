"""Our contract with the openai SDK, over real sockets: raw bytes in and out, our key and address only, typed errors,
prompt closing. It fails when a new version of the SDK moves."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from ollama_bridge.dialects.base import CHAT, EMBED, GENERATE, Profile
from ollama_bridge.errors import GatewayError, Scope, UpstreamRefused
from ollama_bridge.providers.base import Call, Timeouts
from ollama_bridge.providers.heads import LIFETIME
from ollama_bridge.providers.openai import OpenAIProvider
from ollama_bridge.providers.transport import AiohttpUpstream, cause, http_client, open_session

KEY = "sk-marker-1234"
QUICK = Timeouts(connect=5, first_byte=0.05, first_token=0.05, idle=0.05, total=0.05)
PATIENT = Timeouts()
Step = Callable[[], None]


class Server:
    """A tiny upstream: `answer` is what the next requests get; what came in is kept."""

    def __init__(self) -> None:
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = self.plain
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.connections: set[object] = set()
        self.arrived = asyncio.Event()
        self.left = asyncio.Event()  # the other side has closed its connection
        self.base_url = ""

    def forget(self) -> None:
        """What has come in so far."""
        self.requests.clear()
        self.bodies.clear()
        self.arrived.clear()

    async def plain(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"ok": True})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.connections.add(request.transport)
        self.bodies.append(await request.read())
        self.arrived.set()
        try:
            return await self.answer(request)
        except asyncio.CancelledError:
            self.left.set()
            raise

    async def stall(self, request: web.Request) -> web.StreamResponse:
        """No answer at all, until the other side leaves."""
        await asyncio.Event().wait()
        raise AssertionError

    async def drip(self, request: web.Request) -> web.StreamResponse:
        """One frame, then silence, until the other side leaves."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: one\n\n")
        await asyncio.Event().wait()
        raise AssertionError


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    held = Server()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", held.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    held.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield held
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
        "local": True,
        "off": None,
        "timeouts": PATIENT,
    }
    return OpenAIProvider("lab", **settings | changes)


@pytest.fixture(params=["by the SDK", "repeated"])
async def provider(
    request: pytest.FixtureRequest, server: Server, session: aiohttp.ClientSession
) -> AsyncIterator[OpenAIProvider]:
    """Each test that takes it runs twice: with heads that the SDK writes, and with heads that it has written before."""
    made = provider_at(server.base_url, session)
    if request.param == "repeated":
        for kind in (CHAT, GENERATE, EMBED):
            for stream in (True, False):
                await (await made.open(call(stream=stream, kind=kind))).body(100)
        server.forget()
    yield made
    await made.close()


def call(body: dict[str, Any] | bytes = b"{}", *, stream: bool = False, kind: str = CHAT) -> Call:
    return Call(kind, body, stream, PATIENT)


# -- what goes out -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "path"),
    [(CHAT, "/v1/chat/completions"), (GENERATE, "/v1/completions"), (EMBED, "/v1/embeddings")],
)
async def test_each_kind_has_its_path(server: Server, provider: OpenAIProvider, kind: str, path: str) -> None:
    (await provider.open(call(kind=kind))).close()
    assert [(r.method, r.path) for r in server.requests] == [("POST", path)]


async def test_bytes_go_out_unchanged(server: Server, provider: OpenAIProvider) -> None:
    body = b'{ "model":"m",  "x": 1.50, "odd\\u00e9": [ ] }'
    (await provider.open(call(body))).close()
    assert server.bodies == [body]
    assert server.requests[0].headers["Content-Type"] == "application/json"
    assert "Transfer-Encoding" not in server.requests[0].headers


async def test_a_value_goes_out_as_json(server: Server, provider: OpenAIProvider) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "é🙂"}], "vendor": {"x": None}}
    (await provider.open(call(body))).close()
    assert json.loads(server.bodies[0]) == body


async def test_a_body_of_tens_of_megabytes_goes_out(server: Server, provider: OpenAIProvider) -> None:
    body = b'{"x":"' + b"a" * (20 << 20) + b'"}'
    (await provider.open(call(body))).close()
    assert server.bodies == [body]


async def test_only_our_key_goes_out(server: Server, provider: OpenAIProvider) -> None:
    (await provider.open(call())).close()
    headers = server.requests[0].headers
    assert headers.getall("Authorization") == [f"Bearer {KEY}"]
    assert "OpenAI-Organization" not in headers
    assert "Cookie" not in headers


async def test_a_service_without_a_key_gets_a_dummy(server: Server, session: aiohttp.ClientSession) -> None:
    keyless = provider_at(server.base_url, session, api_key=None)
    (await keyless.open(call())).close()
    assert server.requests[0].headers["Authorization"] == "Bearer none"


async def test_configured_headers_go_out(server: Server, session: aiohttp.ClientSession) -> None:
    with_headers = provider_at(server.base_url, session, headers={"X-Title": "bridge"})
    (await with_headers.open(call())).close()
    assert server.requests[0].headers["X-Title"] == "bridge"


async def test_the_environment_does_not_speak(
    server: Server, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "OPENAI_API_KEY": "sk-stray",
        "OPENAI_ADMIN_KEY": "sk-admin",
        "OPENAI_ORG_ID": "org-stray",
        "OPENAI_PROJECT_ID": "proj-stray",
        "OPENAI_CUSTOM_HEADERS": "X-Stray: stray\nAuthorization: Bearer stray",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    provider = provider_at(server.base_url, session)
    (await provider.open(call())).close()
    headers = server.requests[0].headers
    assert headers.getall("Authorization") == [f"Bearer {KEY}"]
    assert not [value for value in headers.values() if "stray" in value or "admin" in value]


async def test_streams_are_asked_for_unpacked(server: Server, provider: OpenAIProvider) -> None:
    (await provider.open(call(stream=True))).close()
    (await provider.open(call(stream=False))).close()
    assert [r.headers.getall("Accept-Encoding") for r in server.requests] == [["identity"], ["gzip, deflate"]]


# -- heads that go out again (performance.md 9.9) ----------------------------------------------------------------------

KINDS = pytest.mark.parametrize("kind", [CHAT, GENERATE, EMBED])
STREAM = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


class Clock:
    """Stands still unless told; `step` seconds pass with each reading."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def head_of(request: web.Request) -> list[tuple[bytes, bytes]]:
    """The request line and the headers as they came, in their order; all but the length of the body."""
    line = (request.method.encode(), request.raw_path.encode())
    return [line, *((name, b"" if name.lower() == b"content-length" else value) for name, value in request.raw_headers)]


@KINDS
@STREAM
async def test_the_sdk_writes_the_same_head_each_time(
    server: Server, session: aiohttp.ClientSession, kind: str, stream: bool
) -> None:
    """What repeating heads rests on: should the SDK begin to put anything of its own into each request (an idempotency
    key, a signature, a time), this fails, and heads of that kind may not be repeated any more."""
    provider = provider_at(server.base_url, session, clock=Clock(step=LIFETIME))  # all heads are too old at once
    for body in (b"{}", b'{"a":1}', b'{"b":[2]}'):
        (await provider.open(call(body, kind=kind, stream=stream))).close()
    first, second, third = map(head_of, server.requests)
    assert first == second == third
    assert [r.headers["Content-Length"] for r in server.requests] == ["2", "7", "9"]


@KINDS
@STREAM
async def test_a_repeated_head_is_the_one_the_sdk_wrote(
    server: Server, session: aiohttp.ClientSession, kind: str, stream: bool
) -> None:
    provider = provider_at(server.base_url, session)
    bodies = [b"{}", b'{"a":1}', b'{"b":"' + b"x" * (2 << 20) + b'"}']
    for body in bodies:
        (await provider.open(call(body, kind=kind, stream=stream))).close()
    first, second, third = map(head_of, server.requests)
    assert first == second == third
    assert [r.headers.getall("Content-Length") for r in server.requests] == [[str(len(body))] for body in bodies]
    assert server.bodies == bodies


async def keys_sent(server: Server, provider: OpenAIProvider, *calls: Call) -> list[str]:
    """Makes the calls; tells which key each of them brought."""
    server.forget()
    for one in calls:
        try:
            (await provider.open(one)).close()
        except UpstreamRefused:
            pass
    return [request.headers["Authorization"].removeprefix("Bearer ") for request in server.requests]


def renew(provider: OpenAIProvider, key: str) -> None:
    """As an SDK does that fetches its credentials itself."""
    assert provider._calls is not None
    provider._calls._client.api_key = key


@pytest.fixture
async def renewed(server: Server, session: aiohttp.ClientSession) -> AsyncIterator[tuple[OpenAIProvider, Clock]]:
    """A provider that has heads for streams and whole answers, and whose SDK client has got another key since: whoever
    sends the new key has asked the SDK."""
    clock = Clock()
    provider = provider_at(server.base_url, session, clock=clock)
    assert await keys_sent(server, provider, call(stream=True), call()) == [KEY, KEY]
    renew(provider, "sk-new")
    yield provider, clock
    await provider.close()


async def test_a_head_is_repeated_for_an_hour(server: Server, renewed: tuple[OpenAIProvider, Clock]) -> None:
    provider, clock = renewed
    clock.now = LIFETIME - 1
    assert await keys_sent(server, provider, call(), call(stream=True)) == [KEY, KEY]
    clock.now = LIFETIME
    assert await keys_sent(server, provider, call(), call()) == ["sk-new", "sk-new"]


@pytest.mark.parametrize(
    "other",
    [call(kind=EMBED), Call(CHAT, b"{}", False, Timeouts(total=99)), Call(CHAT, b"{}", True, Timeouts(idle=999))],
    ids=["path", "limit of a whole answer", "limit of a stream"],
)
async def test_each_kind_of_request_has_a_head_of_its_own(
    server: Server, renewed: tuple[OpenAIProvider, Clock], other: Call
) -> None:
    provider, _ = renewed
    assert await keys_sent(server, provider, other, call(), call(stream=True)) == ["sk-new", KEY, KEY]


async def test_streams_and_whole_answers_have_heads_of_their_own(server: Server, provider: OpenAIProvider) -> None:
    for stream in (True, False, True, False):
        same_limit = Timeouts(idle=600, total=600)
        (await provider.open(Call(CHAT, b"{}", stream, same_limit))).close()
    assert [r.headers["Accept-Encoding"] for r in server.requests] == ["identity", "gzip, deflate"] * 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_refused_is_not_repeated(
    server: Server, renewed: tuple[OpenAIProvider, Clock], status: int
) -> None:
    provider, _ = renewed

    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    server.answer = refuse
    assert await keys_sent(server, provider, call(), call(), call(stream=True)) == [KEY, "sk-new", "sk-new"]
    server.answer = server.plain
    assert await keys_sent(server, provider, call(), call()) == ["sk-new", "sk-new"]


@pytest.mark.parametrize("status", [307, 400, 404, 429, 500])
async def test_other_refusals_leave_the_heads(
    server: Server, renewed: tuple[OpenAIProvider, Clock], status: int
) -> None:
    provider, _ = renewed

    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": "/v1/elsewhere"})

    server.answer = refuse
    with pytest.raises(GatewayError if status < 400 else UpstreamRefused):
        await provider.open(call())
    server.answer = server.plain
    assert await keys_sent(server, provider, call()) == [KEY]


async def test_a_head_that_was_refused_is_not_kept(server: Server, session: aiohttp.ClientSession) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=400)

    provider = provider_at(server.base_url, session)
    server.answer = refuse
    assert await keys_sent(server, provider, call()) == [KEY]
    renew(provider, "sk-new")
    assert await keys_sent(server, provider, call()) == ["sk-new"]


async def test_closing_forgets_the_heads(server: Server, renewed: tuple[OpenAIProvider, Clock]) -> None:
    provider, _ = renewed
    await provider.close()
    await provider.ready()
    renew(provider, "sk-newest")
    assert await keys_sent(server, provider, call(), call()) == ["sk-newest", "sk-newest"]


async def test_a_repeated_request_has_the_limits_too(server: Server, session: aiohttp.ClientSession) -> None:
    short = Timeouts(first_byte=0.5, first_token=0.5, idle=0.5)
    provider = provider_at(server.base_url, session)
    await (await provider.open(Call(CHAT, b"{}", True, short))).body(100)
    server.answer = server.stall
    with pytest.raises(GatewayError, match=r"provider 'lab' sent no answer within 0.5 s"):
        await provider.open(Call(CHAT, b"{}", True, short))
    await asyncio.wait_for(server.left.wait(), 5)


async def test_a_repeated_request_that_reaches_nobody(session: aiohttp.ClientSession) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    provider = provider_at(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1", session)
    await (await provider.open(call())).body(100)
    listener.close()
    await listener.wait_closed()
    with pytest.raises(GatewayError) as caught:
        await provider.open(call())
    assert (caught.value.status, caught.value.scope) == (502, Scope.PROVIDER)
    assert caught.value.message == "cannot reach provider 'lab': connection refused"


# -- what comes back ---------------------------------------------------------------------------------------------------

ODD = b': comment\r\n\r\ndata: {"choices":[{"delta":{"content":"\xc2\x85\xf0\x9f\x99\x82"}}],"x":1.50}\n\ndata:[DONE]'


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_bytes_come_back_unchanged(server: Server, provider: OpenAIProvider, stream: bool) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=ODD, content_type="text/event-stream", headers={"X-Request-ID": "up-1"})

    server.answer = answer
    upstream = await provider.open(call(stream=stream))
    assert type(upstream) is AiohttpUpstream
    assert (upstream.status, upstream.headers["x-request-id"]) == (200, "up-1")
    assert upstream.headers["content-type"].startswith("text/event-stream")
    assert await upstream.body(1 << 20) == ODD
    assert await upstream.read() == b""


async def test_each_read_is_what_has_arrived(server: Server, provider: OpenAIProvider) -> None:
    more = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"data: one\n\n")
        await more.wait()
        await response.write(b"data: two\n\n")
        return response

    server.answer = answer
    upstream = await provider.open(call(stream=True))
    assert await upstream.read() == b"data: one\n\n"  # although the second has not been sent
    more.set()
    assert await upstream.read() == b"data: two\n\n"
    assert await upstream.read() == b""


async def test_nothing_is_parsed_on_the_way(server: Server, provider: OpenAIProvider) -> None:
    """What is no JSON passes both ways: the SDK builds no object of a request or an answer."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"\x00 no json", content_type="application/json")

    server.answer = answer
    upstream = await provider.open(call(b"\xff no json either"))
    assert await upstream.body(100) == b"\x00 no json"
    assert server.bodies == [b"\xff no json either"]


async def test_a_packed_body_arrives_unpacked(server: Server, provider: OpenAIProvider) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=gzip.compress(ODD), headers={"Content-Encoding": "gzip"})

    server.answer = answer
    upstream = await provider.open(call())
    assert await upstream.body(1 << 20) == ODD
    assert "content-encoding" not in upstream.headers


async def test_a_gateway_in_between_may_pack_streams_all_the_same(server: Server, provider: OpenAIProvider) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Encoding": "gzip", "Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(gzip.compress(ODD))
        return response

    server.answer = answer
    upstream = await provider.open(call(stream=True))
    assert await upstream.body(1 << 20) == ODD


async def test_cookies_are_not_kept(server: Server, provider: OpenAIProvider) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({}, headers={"Set-Cookie": "session=1; Path=/"})

    server.answer = answer
    for _ in range(2):
        (await provider.open(call())).close()
    assert "Cookie" not in server.requests[1].headers


async def test_a_body_beyond_the_limit_is_refused(server: Server, provider: OpenAIProvider) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 1001)

    server.answer = answer
    assert len(await (await provider.open(call())).body(1001)) == 1001
    upstream = await provider.open(call())
    with pytest.raises(GatewayError, match="longer than 1000 bytes"):
        await upstream.body(1000)


# -- refusals and failures ---------------------------------------------------------------------------------------------


def assert_says_no_secret(error: GatewayError, server: Server) -> None:
    port = server.base_url.rpartition(":")[2].partition("/")[0]
    for secret in (KEY, "127.0.0.1", port):
        assert secret not in error.message


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 529])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_refusal_keeps_status_headers_and_body(
    server: Server, provider: OpenAIProvider, status: int, stream: bool
) -> None:
    body = b'{"error":{"message":"no","code":"x"}, "odd": 1.50}'

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={"Retry-After": "7", "X-Request-ID": "up-1"})

    server.answer = answer
    with pytest.raises(UpstreamRefused) as caught:
        await provider.open(call(stream=stream))
    refused = caught.value
    assert (refused.status, refused.body) == (status, body)
    assert (refused.headers["retry-after"], refused.headers["x-request-id"]) == ("7", "up-1")
    assert len(server.requests) == 1  # retries are the gateway's


@pytest.mark.parametrize("body", [b"", b"<html>\xff</html>", b"null"], ids=["empty", "html", "null"])
async def test_a_refusal_may_have_any_body(server: Server, provider: OpenAIProvider, body: bytes) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=500, body=body, content_type="application/json")

    server.answer = answer
    with pytest.raises(UpstreamRefused) as caught:
        await provider.open(call())
    assert caught.value.body == body


async def test_a_packed_refusal_is_unpacked(server: Server, provider: OpenAIProvider) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=400, body=gzip.compress(b'{"error":"no"}'), headers={"Content-Encoding": "gzip"})

    server.answer = answer
    with pytest.raises(UpstreamRefused) as caught:
        await provider.open(call())
    assert caught.value.body == b'{"error":"no"}'


async def test_of_a_refusal_one_mebibyte_is_kept(server: Server, provider: OpenAIProvider) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=500, body=b"x" * (3 << 20))

    server.answer = answer
    with pytest.raises(UpstreamRefused) as caught:
        await provider.open(call())
    assert caught.value.body == b"x" * (1 << 20)


async def test_redirects_are_not_followed(server: Server, provider: OpenAIProvider) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": "/v1/elsewhere"})

    server.answer = answer
    with pytest.raises(GatewayError, match="'lab' answered with a redirect") as caught:
        await provider.open(call())
    assert (caught.value.status, caught.value.scope) == (502, Scope.PROVIDER)
    assert len(server.requests) == 1


@pytest.fixture
def unused_url() -> Iterator[str]:
    """An address where nobody listens, and nobody can begin to."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}/v1"


async def test_nobody_listens(unused_url: str, session: aiohttp.ClientSession) -> None:
    with pytest.raises(GatewayError) as caught:
        await provider_at(unused_url, session).open(call())
    assert (caught.value.status, caught.value.scope, caught.value.provider) == (502, Scope.PROVIDER, "lab")
    assert caught.value.message == "cannot reach provider 'lab': connection refused"


PLACE: Any = SimpleNamespace(host="secret.example", port=4711, ssl=True, is_ssl=True)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (aiohttp.ClientConnectorDNSError(PLACE, OSError(-2, "secret.example")), "its host name does not resolve"),
        (aiohttp.ClientConnectorError(PLACE, OSError(111, "secret.example")), "connection refused"),
        (aiohttp.ClientConnectorError(PLACE, OSError("Multiple exceptions: secret.example")), "the connection broke"),
        (
            aiohttp.ClientConnectorCertificateError(PLACE, ssl.SSLCertVerificationError("secret.example")),
            "its TLS certificate is not trusted",
        ),
        (aiohttp.ClientConnectorSSLError(PLACE, ssl.SSLError(1, "secret.example")), "the TLS handshake failed"),
        (aiohttp.ServerDisconnectedError("secret.example"), "it closed the connection without an answer"),
        (aiohttp.InvalidURL("http://secret.example:x"), "its address is not valid"),
        (aiohttp.ClientOSError(104, "secret.example"), "connection reset by peer"),
        (aiohttp.ClientError("secret.example"), "the connection broke"),
    ],
    ids=["dns", "refused", "many", "certificate", "tls", "disconnected", "url", "reset", "other"],
)
def test_causes_are_short_and_name_no_address(error: Exception, words: str) -> None:
    assert cause(error) == words


async def test_tls_that_is_none(server: Server, session: aiohttp.ClientSession) -> None:
    wrong = provider_at(server.base_url.replace("http:", "https:"), session)
    with pytest.raises(GatewayError) as caught:
        await wrong.open(call())
    assert caught.value.message == "cannot reach provider 'lab': the TLS handshake failed"
    assert_says_no_secret(caught.value, server)


async def test_a_connection_that_is_not_taken_times_out(session: aiohttp.ClientSession) -> None:
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # until its queue is full, and the kernel lets further ones wait
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        slow = provider_at(f"http://127.0.0.1:{full.getsockname()[1]}/v1", session)
        with pytest.raises(GatewayError) as caught:
            await slow.open(Call(CHAT, b"{}", True, Timeouts(connect=0.05)))
    assert (caught.value.status, caught.value.scope) == (504, Scope.PROVIDER)
    assert caught.value.message == "provider 'lab' sent no answer to a connection within 0.05 s"


async def test_silence_before_the_answer_times_out(server: Server, provider: OpenAIProvider) -> None:
    server.answer = server.stall
    with pytest.raises(GatewayError) as caught:
        await provider.open(Call(CHAT, b"{}", True, QUICK))
    assert (caught.value.status, caught.value.scope) == (504, Scope.PROVIDER)
    assert caught.value.message == "provider 'lab' sent no answer within 0.05 s"
    await asyncio.wait_for(server.left.wait(), 5)


async def test_silence_within_the_answer_times_out(server: Server, provider: OpenAIProvider) -> None:
    server.answer = server.drip
    upstream = await provider.open(Call(CHAT, b"{}", True, QUICK))
    assert await upstream.read() == b"data: one\n\n"
    with pytest.raises(GatewayError) as caught:
        await upstream.read()
    assert caught.value.status == 504
    upstream.close()
    await asyncio.wait_for(server.left.wait(), 5)


async def test_limits_may_be_off(server: Server, provider: OpenAIProvider) -> None:
    upstream = await provider.open(Call(CHAT, b"{}", True, Timeouts(0, 0, 0, 0, 0)))
    assert json.loads(await upstream.body(100)) == {"ok": True}


async def test_a_connection_closed_without_an_answer(server: Server, provider: OpenAIProvider) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server.answer = answer
    with pytest.raises(GatewayError, match="cannot reach provider 'lab'") as caught:
        await provider.open(call())
    assert caught.value.status == 502
    assert_says_no_secret(caught.value, server)


@asynccontextmanager
async def chunks(session: aiohttp.ClientSession, *writes: bytes) -> AsyncIterator[tuple[AiohttpUpstream, Step]]:
    """A chunked stream, and `step()`, which lets its server send the next of these bytes, then hang up."""
    turns: asyncio.Queue[bytes] = asyncio.Queue()
    left = list(writes)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while data := await turns.get():
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        provider = provider_at(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1", session)
        upstream = await provider.open(call(stream=True))
        yield upstream, lambda: turns.put_nowait(left.pop(0) if left else b"")
        upstream.close()
        turns.put_nowait(b"")


ONE = b"b\r\ndata: one\n\n\r\n"
ENDINGS = pytest.mark.parametrize(
    "ending", [b"", b"5\r\nda", b"zz\r\nno chunk"], ids=["between chunks", "within a chunk", "garbage for a chunk"]
)


async def assert_broken(upstream: AiohttpUpstream) -> None:
    for _ in range(2):
        with pytest.raises(GatewayError, match="provider 'lab' broke off its answer") as caught:
            await asyncio.wait_for(upstream.read(), 5)
        assert (caught.value.status, caught.value.scope) == (502, Scope.PROVIDER)


@ENDINGS
async def test_what_came_before_a_cut_is_not_lost(session: aiohttp.ClientSession, ending: bytes) -> None:
    async with chunks(session, ONE + ending) as (upstream, step):
        connection = upstream._response.connection
        assert connection is not None and connection.protocol is not None
        lost = connection.protocol.closed
        step()
        step()
        assert lost is not None
        await asyncio.wait_for(asyncio.wait([lost]), 5)  # all of it is here, and nothing has been read
        assert (await upstream.read()).startswith(b"data: one\n\n")
        await assert_broken(upstream)


@ENDINGS
async def test_a_cut_reaches_who_is_waiting(session: aiohttp.ClientSession, ending: bytes) -> None:
    async with chunks(session, ONE, *filter(None, [ending])) as (upstream, step):
        step()
        assert await upstream.read() == b"data: one\n\n"
        waiting = asyncio.create_task(upstream.read())
        await asyncio.sleep(0)
        for _ in range(2):
            step()
        if ending.startswith(b"5"):
            assert await waiting == b"da"
        else:
            with pytest.raises(GatewayError, match="broke off"):
                await asyncio.wait_for(waiting, 5)
        await assert_broken(upstream)


async def test_a_whole_body_that_breaks_off_is_no_body(session: aiohttp.ClientSession) -> None:
    async with chunks(session, b'7\r\n{"a": 1\r\n') as (upstream, step):
        step()
        step()
        with pytest.raises(GatewayError, match="broke off its answer"):
            await upstream.body(100)


async def test_a_refusal_that_breaks_off_is_a_refusal(session: aiohttp.ClientSession) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b'HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 100\r\n\r\n{"error"')
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        provider = provider_at(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1", session)
        with pytest.raises(UpstreamRefused) as caught:
            await provider.open(call())
    assert (caught.value.status, caught.value.headers["retry-after"]) == (503, "7")
    assert caught.value.body == b'{"error"'


async def test_a_refusal_that_stalls_is_a_refusal(server: Server, provider: OpenAIProvider) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=503)
        await response.prepare(request)
        await response.write(b'{"error"')
        return await server.stall(request)

    server.answer = answer
    with pytest.raises(UpstreamRefused) as caught:
        await provider.open(Call(CHAT, b"{}", True, QUICK))
    assert (caught.value.status, caught.value.body) == (503, b'{"error"')
    await asyncio.wait_for(server.left.wait(), 5)


async def test_an_answer_that_is_not_http(session: aiohttp.ClientSession) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"hello\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        provider = provider_at(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1", session)
        with pytest.raises(GatewayError) as caught:
            await provider.open(call())
    assert caught.value.message == "cannot reach provider 'lab': what it answered is not HTTP"


async def test_a_provider_that_is_off_says_so(server: Server, session: aiohttp.ClientSession) -> None:
    off = provider_at(server.base_url, session, off="provider 'lab' has no key: set LAB_KEY")
    for attempt in (off.open(call()), off.models()):
        with pytest.raises(GatewayError, match="has no key: set LAB_KEY") as caught:
            await attempt
        assert (caught.value.status, caught.value.scope) == (500, Scope.NO_KEY)
    assert server.requests == []


async def test_without_the_sdk_the_provider_says_what_to_install(
    server: Server, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(GatewayError, match="pip install openai") as caught:
        await provider_at(server.base_url, session).open(call())
    assert (caught.value.status, caught.value.scope) == (500, Scope.NO_KEY)


# -- connections -------------------------------------------------------------------------------------------------------


async def test_closing_in_mid_stream_closes_the_connection(server: Server, provider: OpenAIProvider) -> None:
    server.answer = server.drip
    upstream = await provider.open(call(stream=True))
    assert await upstream.read() == b"data: one\n\n"
    upstream.close()
    upstream.close()
    await asyncio.wait_for(server.left.wait(), 5)


async def test_cancelling_a_read_loses_nothing(server: Server, provider: OpenAIProvider) -> None:
    more = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await more.wait()
        await response.write(b"data: one\n\n")
        return response

    server.answer = answer
    upstream = await provider.open(call(stream=True))
    reading = asyncio.create_task(upstream.read())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    more.set()
    assert await upstream.body(100) == b"data: one\n\n"


async def test_cancelling_open_closes_the_connection(server: Server, provider: OpenAIProvider) -> None:
    server.answer = server.stall
    opening = asyncio.create_task(provider.open(call(stream=True)))
    await asyncio.wait_for(server.arrived.wait(), 5)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await asyncio.wait_for(server.left.wait(), 5)


async def test_cancelling_open_within_a_refusal_closes_the_connection(server: Server, provider: OpenAIProvider) -> None:
    written = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        await response.write(b'{"error":')
        written.set()
        return await server.stall(request)

    server.answer = answer
    opening = asyncio.create_task(provider.open(call()))
    await asyncio.wait_for(written.wait(), 5)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await asyncio.wait_for(server.left.wait(), 5)


async def test_a_connection_is_used_again(server: Server, provider: OpenAIProvider) -> None:
    for stream in (True, False, True, False):
        upstream = await provider.open(call(stream=stream))
        await upstream.body(100)
        upstream.close()
    assert len(server.connections) == 1


async def test_closing_a_provider_leaves_the_session_open(
    server: Server, provider: OpenAIProvider, session: aiohttp.ClientSession
) -> None:
    await (await provider.open(call())).body(100)
    await provider.close()
    assert not session.closed
    await (await provider.open(call())).body(100)
    assert len(server.connections) == 1


async def test_two_hundred_streams_at_once(server: Server, provider: OpenAIProvider) -> None:
    server.answer = server.drip
    upstreams = await asyncio.gather(*(provider.open(call(stream=True)) for _ in range(200)))
    assert {await upstream.read() for upstream in upstreams} == {b"data: one\n\n"}
    assert len(server.connections) == 200
    for upstream in upstreams:
        upstream.close()


# -- the SDK's own reading over our transport --------------------------------------------------------------------------


async def test_the_sdk_can_read_for_itself(server: Server, session: aiohttp.ClientSession, unused_url: str) -> None:
    """Off the hot path an SDK may build its objects: bodies arrive whole, and its error classes stay true."""
    import openai

    async def answer(request: web.Request) -> web.StreamResponse:
        body = {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x"}]}
        packed = gzip.compress(json.dumps(body).encode())
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        return web.Response(body=packed, headers=headers)

    server.answer = answer
    http = http_client(session)
    client = openai.AsyncOpenAI(api_key=KEY, base_url=server.base_url, http_client=http, max_retries=0)
    assert [model.id async for model in client.models.list()] == ["m"]
    server.answer = server.stall
    with pytest.raises(openai.APITimeoutError):
        await client.models.list(timeout=0.05)
    with pytest.raises(openai.APIConnectionError, match="Connection error") as caught:
        await client.with_options(base_url=unused_url).models.list()
    assert not isinstance(caught.value, openai.APITimeoutError)
    await client.close()
    assert not session.closed


async def test_models_come_from_the_catalogue(server: Server, provider: OpenAIProvider) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": [{"id": "m", "context_length": 4096, "x": [1]}]})

    server.answer = answer
    (model,) = await provider.models()
    assert (model.id, model.context_length, model.raw["x"]) == ("m", 4096, [1])
    request = server.requests[0]
    assert (request.method, request.path) == ("GET", "/v1/models")
    assert request.headers["Authorization"] == f"Bearer {KEY}"


async def test_a_catalogue_may_be_refused(server: Server, provider: OpenAIProvider) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=401, body=b"no")

    server.answer = answer
    with pytest.raises(UpstreamRefused) as caught:
        await provider.models()
    assert (caught.value.status, caught.value.body) == (401, b"no")


# Asks the provider while somebody else's import of httpx has come to its middle and waits there.
WHILE_IMPORTING = """
import asyncio, sys, threading
from importlib.abc import MetaPathFinder
from ollama_bridge.dialects.base import CHAT, Profile
from ollama_bridge.providers.base import Call, Timeouts
from ollama_bridge.providers.openai import OpenAIProvider
from ollama_bridge.providers.transport import open_session

halfway, asked = threading.Event(), threading.Event()

class Waits(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname == "httpx._client" and threading.current_thread() is other:
            halfway.set()
            asked.wait(20)

def import_it():
    import httpx
    halfway.set()  # it was there already

async def main():
    session = await open_session()
    provider = OpenAIProvider(
        "lab", base_url=sys.argv[1], api_key="k", session=session, profile=Profile(), local=False, off=None,
        timeouts=Timeouts(),
    )
    await provider.ready()
    other.start()
    await asyncio.to_thread(halfway.wait)
    try:
        upstream = await provider.open(Call(CHAT, {"model": "m"}, False, Timeouts(), model="m", dialect="openai"))
        print((await upstream.body(1000)).decode())
    finally:
        asked.set()
        await session.close()

other = threading.Thread(target=import_it)
sys.meta_path.insert(0, Waits())
asyncio.run(main())
"""


async def test_another_sdks_import_is_in_nobodys_way(server: Server) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WHILE_IMPORTING, server.base_url,
        cwd=Path(__file__).parents[1], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, complaints = await process.communicate()
    assert said.decode().strip() == '{"ok": true}', complaints.decode()


def test_no_sdk_is_imported_with_the_providers() -> None:
    modules = "addresses base echo echo_schema echo_wire heads ollama openai presets transport"
    program = (
        "import importlib, sys\n"
        f"for name in {modules.split()!r}: importlib.import_module('ollama_bridge.providers.' + name)\n"
        "print([name for name in ('openai', 'httpx2', 'pydantic', 'anthropic', 'google.genai') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
