"""Our contract with the google-genai SDK, over real sockets: the tap takes its responses, our key and address only, one
attempt, prompt closing. It fails when a new version of the SDK moves."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from ollama_bridge.dialects.base import CHAT, EMBED, Profile
from ollama_bridge.errors import GatewayError, Scope, UpstreamRefused
from ollama_bridge.providers.base import Call, Timeouts
from ollama_bridge.providers.google import GoogleProvider, _Taken, _tapped, read_models
from ollama_bridge.providers.heads import LIFETIME
from ollama_bridge.providers.transport import AiohttpUpstream, open_session

KEY = "AIza-marker-1234"
PATIENT = Timeouts()
QUICK = Timeouts(connect=5, first_byte=0.05, first_token=0.05, idle=0.05, total=0.05)
BODY: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], "generationConfig": {"topK": 1}}
ODD = b': comment\r\n\r\ndata: {"candidates": [{"x": 1.50, "t": "\xc2\x85\xf0\x9f\x99\x82"}]}\n\ndata:no json'
VERB = {(CHAT, False): "generateContent", (CHAT, True): "streamGenerateContent", (EMBED, False): "batchEmbedContents"}
KINDS = pytest.mark.parametrize(("kind", "stream"), list(VERB), ids=["whole", "stream", "embed"])
STREAM = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
GUARD = 5.0  # seconds after which a test gives up waiting for what must come
CLOSED_WITHIN = 0.25  # seconds (providers.md 11.3)


class Server:
    """A tiny upstream: `answer` is what the next requests get; what came in is kept."""

    def __init__(self) -> None:
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = self.plain
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.connections: set[object] = set()
        self.arrived = asyncio.Event()
        self.left = asyncio.Event()  # the other side has closed its connection
        self.url = ""

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
        await response.write(b"data: one\r\n\r\n")
        await asyncio.Event().wait()
        raise AssertionError

    def says(self, body: bytes, status: int = 200, **headers: str) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

        self.answer = answer


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    held = Server()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", held.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    held.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield held
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    opened = await open_session()
    yield opened
    await opened.close()


def provider_at(base_url: str, session: aiohttp.ClientSession, **changes: Any) -> GoogleProvider:
    settings: dict[str, Any] = {
        "base_url": base_url,
        "api_key": KEY,
        "session": session,
        "profile": Profile(),
        "local": True,
        "off": None,
        "timeouts": PATIENT,
    }
    return GoogleProvider("lab", **settings | changes)


@pytest.fixture(params=["by the SDK", "repeated"])
async def provider(
    request: pytest.FixtureRequest, server: Server, session: aiohttp.ClientSession
) -> AsyncIterator[GoogleProvider]:
    """Each test that takes it runs twice: with heads that the SDK writes, and with heads that it has written before."""
    made = provider_at(server.url, session)
    if request.param == "repeated":
        for kind, stream in VERB:
            await (await made.open(call(kind=kind, stream=stream))).body(100)
        for seen in (server.requests, server.bodies, server.connections):
            seen.clear()
        server.arrived.clear()
    yield made
    await made.close()


def call(
    body: dict[str, Any] | bytes = BODY,
    *,
    stream: bool = False,
    kind: str = CHAT,
    model: str = "m",
    timeouts: Timeouts = PATIENT,
) -> Call:
    return Call(kind, body, stream, timeouts, model=model)


# -- what goes out -----------------------------------------------------------------------------------------------------


@KINDS
async def test_each_kind_has_its_path(server: Server, provider: GoogleProvider, kind: str, stream: bool) -> None:
    (await provider.open(call(kind=kind, stream=stream))).close()
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", f"/v1beta/models/m:{VERB[kind, stream]}")
    assert dict(request.query) == ({"alt": "sse"} if stream else {})


@pytest.mark.parametrize("model", ["models/m", "m"])
async def test_a_models_prefix_may_be_there(server: Server, session: aiohttp.ClientSession, model: str) -> None:
    (await provider_at(server.url, session).open(call(model=model))).close()
    assert server.requests[0].path == "/v1beta/models/m:generateContent"


@pytest.mark.parametrize(
    ("suffix", "path"),
    [
        ("", "/v1beta/models/m"),
        ("/v1beta", "/v1beta/models/m"),
        ("/v1", "/v1/models/m"),
        ("/v1alpha/", "/v1alpha/models/m"),
        ("/proxy/gemini", "/proxy/gemini/v1beta/models/m"),
        ("/proxy/v2x", "/proxy/v2x/models/m"),
    ],
)
async def test_an_address_may_name_its_version(
    server: Server, session: aiohttp.ClientSession, suffix: str, path: str
) -> None:
    (await provider_at(server.url + suffix, session).open(call())).close()
    assert server.requests[0].path == f"{path}:generateContent"


@pytest.mark.parametrize("model", ["", "a?b", "a#b", "../../x", "a b", "a%2fb", "ä"])
async def test_a_name_that_no_path_can_hold_is_no_model(
    server: Server, session: aiohttp.ClientSession, model: str
) -> None:
    with pytest.raises(UpstreamRefused) as caught:
        await provider_at(server.url, session).open(call(model=model))
    assert caught.value.status == 404
    assert server.requests == []


@KINDS
async def test_our_body_takes_the_place_of_the_sdks(
    server: Server, provider: GoogleProvider, kind: str, stream: bool
) -> None:
    """Names, cases, nulls and numbers are ours, wherever they stand."""
    deep = {"type": "object", "properties": {"top_k": {"default": None}, "topK": {"const": 1.5}, "é🙂": {}}}
    body = {
        "contents": [{"role": "model", "parts": [{"functionCall": {"name": "f", "args": deep}}]}],
        "generationConfig": {"responseJsonSchema": deep, "maxOutputTokens": 2**40},
        "requests": [{"model": "models/m", "content": {"parts": [{"text": "\x85"}]}}],
        "new_field": [None, {"generationConfig": {}}],
    }
    (await provider.open(call(body, kind=kind, stream=stream))).close()
    assert json.loads(server.bodies[0]) == body
    (await provider.open(call(json.dumps(body).encode(), kind=kind, stream=stream))).close()
    assert json.loads(server.bodies[1]) == body


async def test_a_body_of_tens_of_megabytes_goes_out(server: Server, provider: GoogleProvider) -> None:
    body = {"contents": [{"parts": [{"inlineData": {"data": "A" * (20 << 20)}}]}], "generationConfig": {}}
    (await provider.open(call(body))).close()
    assert json.loads(server.bodies[0]) == body


@KINDS
async def test_only_our_key_goes_out(server: Server, provider: GoogleProvider, kind: str, stream: bool) -> None:
    (await provider.open(call(kind=kind, stream=stream))).close()
    headers = server.requests[0].headers
    assert headers.getall("x-goog-api-key") == [KEY]
    assert not {"Authorization", "Cookie", "X-Server-Timeout", "x-goog-user-project"} & headers.keys()


async def test_a_service_without_a_key_gets_a_dummy(
    server: Server, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "stray")
    (await provider_at(server.url, session, api_key=None).open(call())).close()
    assert server.requests[0].headers["x-goog-api-key"] == "none"


async def test_configured_headers_go_out(server: Server, session: aiohttp.ClientSession) -> None:
    provider = provider_at(server.url, session, headers={"X-Title": "bridge"})
    for _ in range(2):
        (await provider.open(call())).close()
    assert [request.headers["X-Title"] for request in server.requests] == ["bridge", "bridge"]


async def test_the_environment_does_not_speak(
    server: Server, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {
        "GOOGLE_API_KEY": "stray-1",
        "GEMINI_API_KEY": "stray-2",
        "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9/",
        "GOOGLE_VERTEX_BASE_URL": "http://127.0.0.1:9/",
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
        "GOOGLE_GENAI_USE_ENTERPRISE": "true",
        "GOOGLE_CLOUD_PROJECT": "stray-3",
        "GOOGLE_CLOUD_LOCATION": "stray-4",
        "GOOGLE_GENAI_API_VERSION": "v9stray",
        "GOOGLE_GENAI_CLIENT_MODE": "replay",
        "GOOGLE_GENAI_REPLAYS_DIRECTORY": "/stray",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    (await provider_at(server.url, session).open(call())).close()
    (request,) = server.requests
    assert request.path == "/v1beta/models/m:generateContent"
    assert request.headers.getall("x-goog-api-key") == [KEY]
    assert not [value for value in request.headers.values() if "stray" in value]
    assert caplog.records == []


async def test_streams_are_asked_for_unpacked(server: Server, provider: GoogleProvider) -> None:
    (await provider.open(call(stream=True))).close()
    (await provider.open(call(stream=False))).close()
    assert [r.headers.getall("Accept-Encoding") for r in server.requests] == [["identity"], ["gzip, deflate"]]


def head_of(request: web.Request) -> list[tuple[bytes, bytes]]:
    """The request line and the headers as they came, in their order; all but the length of the body."""
    line = (request.method.encode(), request.raw_path.encode())
    return [line, *((name, b"" if name.lower() == b"content-length" else value) for name, value in request.raw_headers)]


@KINDS
async def test_the_sdk_writes_the_same_head_each_time(
    server: Server, session: aiohttp.ClientSession, kind: str, stream: bool
) -> None:
    """What repeating heads rests on: should the SDK begin to put anything of its own into each request, this fails."""
    clock = iter(range(0, 100 * int(LIFETIME), int(LIFETIME)))  # all heads are too old at once
    provider = provider_at(server.url, session, clock=lambda: next(clock))
    for number in range(3):
        (await provider.open(call({**BODY, "n": "x" * number}, kind=kind, stream=stream))).close()
    first, second, third = map(head_of, server.requests)
    assert first == second == third


@KINDS
async def test_a_repeated_head_is_the_one_the_sdk_wrote(
    server: Server, session: aiohttp.ClientSession, kind: str, stream: bool
) -> None:
    provider = provider_at(server.url, session)
    for body in (b"{}", b'{"a":  1.50}', b'{"b":"' + b"x" * (2 << 20) + b'"}'):
        (await provider.open(call(body, kind=kind, stream=stream))).close()
    first, second, third = map(head_of, server.requests)
    assert first == second == third
    assert server.bodies[1] == b'{"a":  1.50}'
    assert [int(r.headers["Content-Length"]) for r in server.requests] == list(map(len, server.bodies))


async def test_each_model_has_a_head_of_its_own(server: Server, session: aiohttp.ClientSession) -> None:
    provider = provider_at(server.url, session)
    for model in ("a", "b", "a", "b"):
        (await provider.open(call(model=model))).close()
    assert [request.path for request in server.requests] == [f"/v1beta/models/{m}:generateContent" for m in "abab"]


# -- what comes back ---------------------------------------------------------------------------------------------------


@KINDS
async def test_bytes_come_back_unchanged(server: Server, provider: GoogleProvider, kind: str, stream: bool) -> None:
    server.says(ODD, Content_Type="text/event-stream", X_Thing="up-1")
    upstream = await provider.open(call(kind=kind, stream=stream))
    assert type(upstream) is AiohttpUpstream
    assert (upstream.status, upstream.headers["x-thing"]) == (200, "up-1")
    assert await upstream.body(1 << 20) == ODD
    assert await upstream.read() == b""


async def test_each_read_is_what_has_arrived(server: Server, provider: GoogleProvider) -> None:
    more = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"data: one\r\n\r\n")
        await more.wait()
        await response.write(b"data: two\r\n\r\n")
        return response

    server.answer = answer
    upstream = await provider.open(call(stream=True))
    assert await upstream.read() == b"data: one\r\n\r\n"  # although the second has not been sent
    more.set()
    assert await upstream.read() == b"data: two\r\n\r\n"
    assert await upstream.read() == b""


@STREAM
async def test_a_packed_body_arrives_unpacked(server: Server, provider: GoogleProvider, stream: bool) -> None:
    server.says(gzip.compress(ODD), Content_Encoding="gzip")
    upstream = await provider.open(call(stream=stream))
    assert await upstream.body(1 << 20) == ODD


async def test_the_tap_itself(server: Server, session: aiohttp.ClientSession) -> None:
    """The public calls send one request each through the client they were given, and see nothing of its answer."""
    provider = provider_at(server.url, session)
    await provider.ready()
    client = provider._client
    assert client is not None
    server.says(b'data: {"candidates": [{"content": {"parts": [{"text": "Hi"}]}}]}\r\n\r\n')
    taken = _Taken(PATIENT, stream=True)
    with _tapped(taken):
        chunks = await client.aio.models.generate_content_stream(model="m", contents="Hi")
        seen = [chunk async for chunk in chunks]
    assert taken.response is not None
    body = await taken.response.extensions["raw"].read()
    assert (seen, body[:5], len(server.requests)) == ([], b"data:", 1)
    taken = _Taken(PATIENT, stream=False)
    with _tapped(taken):
        answer = await client.aio.models.generate_content(model="m", contents="Hi")
    assert taken.response is not None
    assert (answer.candidates, len(server.requests)) == (None, 2)
    taken.response.extensions["raw"].close()
    # Untapped, it reads for itself over our transport.
    chunks = await client.aio.models.generate_content_stream(model="m", contents="Hi")
    assert [chunk.text async for chunk in chunks] == ["Hi"]
    await provider.close()


async def test_two_calls_at_once_take_their_own_answers(server: Server, provider: GoogleProvider) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=request.path.encode())

    server.answer = answer
    names = [f"m{number}" for number in range(50)]
    upstreams = await asyncio.gather(*(provider.open(call(model=name, stream=True)) for name in names))
    bodies = [await upstream.body(1000) for upstream in upstreams]
    assert bodies == [f"/v1beta/models/{name}:streamGenerateContent".encode() for name in names]


# -- refusals and failures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 529])
@STREAM
async def test_a_refusal_keeps_status_headers_and_body(
    server: Server, provider: GoogleProvider, status: int, stream: bool
) -> None:
    body = b'[{"error":{"code":1,"message":"no","details":[{"retryDelay":"7s"}]}, "odd": 1.50}]'
    server.says(body, status, Retry_After="7", X_Request_ID="up-1")
    with pytest.raises(UpstreamRefused) as caught:
        await provider.open(call(stream=stream))
    refused = caught.value
    assert (refused.status, refused.body) == (status, body)
    assert (refused.headers["retry-after"], refused.headers["x-request-id"]) == ("7", "up-1")
    assert len(server.requests) == 1  # retries are the gateway's


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>\xff</html>", b"null", b"[]", b'"no"', b"[" * 100_000, b'{"error": "no"}', b'{"error": [1]}'],
    ids=["empty", "html", "null", "list", "string", "deep", "text", "odd"],
)
@STREAM
async def test_a_refusal_may_have_any_body(server: Server, provider: GoogleProvider, body: bytes, stream: bool) -> None:
    server.says(body, 500, Content_Type="application/json")
    with pytest.raises(UpstreamRefused) as caught:
        await provider.open(call(stream=stream))
    assert (caught.value.status, caught.value.body) == (500, body)


async def test_of_a_refusal_one_mebibyte_is_kept(server: Server, provider: GoogleProvider) -> None:
    server.says(b"x" * (3 << 20), 500)
    with pytest.raises(UpstreamRefused) as caught:
        await provider.open(call())
    assert caught.value.body == b"x" * (1 << 20)


@pytest.mark.parametrize(
    ("status", "words"), [(307, "a redirect"), (302, "a redirect"), (201, "answered 201"), (204, "answered 204")]
)
@STREAM
async def test_anything_but_200_is_no_answer(
    server: Server, provider: GoogleProvider, status: int, words: str, stream: bool
) -> None:
    server.says(b"", status, Location="/elsewhere")
    with pytest.raises(GatewayError, match=words) as caught:
        await provider.open(call(stream=stream))
    assert (caught.value.status, caught.value.scope) == (502, Scope.PROVIDER)
    assert len(server.requests) == 1


@pytest.fixture
def unused_url() -> Iterator[str]:
    """An address where nobody listens, and nobody can begin to."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


@KINDS
async def test_nobody_listens(unused_url: str, session: aiohttp.ClientSession, kind: str, stream: bool) -> None:
    """At once: the SDK would sleep for 1 to 10 s and try again (providers.md 1.1)."""
    provider = provider_at(unused_url, session)
    await provider.ready()
    begun = time.monotonic()
    with pytest.raises(GatewayError) as caught:
        await provider.open(call(kind=kind, stream=stream))
    assert time.monotonic() - begun < 0.9
    assert (caught.value.status, caught.value.scope, caught.value.provider) == (502, Scope.PROVIDER, "lab")
    assert caught.value.message == "cannot reach provider 'lab': connection refused"


@STREAM
async def test_a_connection_closed_without_an_answer(server: Server, provider: GoogleProvider, stream: bool) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server.answer = answer
    with pytest.raises(GatewayError, match="cannot reach provider 'lab'") as caught:
        await provider.open(call(stream=stream))
    assert (caught.value.status, len(server.requests)) == (502, 1)
    for secret in (KEY, "127.0.0.1", server.url.rpartition(":")[2]):
        assert secret not in caught.value.message


@STREAM
async def test_silence_before_the_answer_times_out(server: Server, provider: GoogleProvider, stream: bool) -> None:
    server.answer = server.stall
    with pytest.raises(GatewayError) as caught:
        await provider.open(call(stream=stream, timeouts=QUICK))
    assert (caught.value.status, caught.value.scope) == (504, Scope.PROVIDER)
    assert caught.value.message == "provider 'lab' sent no answer within 0.05 s"
    await asyncio.wait_for(server.left.wait(), GUARD)


async def test_silence_within_the_answer_times_out(server: Server, provider: GoogleProvider) -> None:
    server.answer = server.drip
    upstream = await provider.open(call(stream=True, timeouts=QUICK))
    assert await upstream.read() == b"data: one\r\n\r\n"
    with pytest.raises(GatewayError) as caught:
        await upstream.read()
    assert caught.value.status == 504
    upstream.close()
    await asyncio.wait_for(server.left.wait(), GUARD)


async def test_a_provider_that_is_off_says_so(server: Server, session: aiohttp.ClientSession) -> None:
    off = provider_at(server.url, session, off="provider 'lab' has no key: set LAB_KEY")
    await off.ready()
    for attempt in (off.open(call()), off.models()):
        with pytest.raises(GatewayError, match="has no key: set LAB_KEY") as caught:
            await attempt
        assert (caught.value.status, caught.value.scope) == (500, Scope.NO_KEY)
    assert server.requests == []


async def test_without_the_sdk_the_provider_says_what_to_install(
    server: Server, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("google", "google.genai"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(GatewayError, match="pip install google-genai") as caught:
        await provider_at(server.url, session).open(call())
    assert (caught.value.status, caught.value.scope) == (500, Scope.NO_KEY)


# -- connections -------------------------------------------------------------------------------------------------------


async def test_closing_in_mid_stream_closes_the_connection(server: Server, provider: GoogleProvider) -> None:
    """The SDK's own generator, closed, would leave it open until some collection of garbage (providers.md 7.3)."""
    server.answer = server.drip
    upstream = await provider.open(call(stream=True))
    assert await upstream.read() == b"data: one\r\n\r\n"
    begun = time.monotonic()
    upstream.close()
    upstream.close()
    await asyncio.wait_for(server.left.wait(), GUARD)
    assert time.monotonic() - begun < CLOSED_WITHIN


async def test_cancelling_a_read_leaves_the_answer_whole(server: Server, provider: GoogleProvider) -> None:
    server.answer = server.drip
    upstream = await provider.open(call(stream=True))
    assert await upstream.read() == b"data: one\r\n\r\n"
    reading = asyncio.create_task(upstream.read())
    await asyncio.sleep(0)
    begun = time.monotonic()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    upstream.close()
    await asyncio.wait_for(server.left.wait(), GUARD)
    assert time.monotonic() - begun < CLOSED_WITHIN


@KINDS
async def test_cancelling_open_closes_the_connection(
    server: Server, provider: GoogleProvider, kind: str, stream: bool
) -> None:
    server.answer = server.stall
    opening = asyncio.create_task(provider.open(call(kind=kind, stream=stream)))
    await asyncio.wait_for(server.arrived.wait(), GUARD)
    begun = time.monotonic()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await asyncio.wait_for(server.left.wait(), GUARD)
    assert time.monotonic() - begun < CLOSED_WITHIN


@STREAM
async def test_cancelling_open_within_a_refusal_closes_the_connection(
    server: Server, provider: GoogleProvider, stream: bool
) -> None:
    written = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        await response.write(b'{"error":')
        written.set()
        return await server.stall(request)

    server.answer = answer
    opening = asyncio.create_task(provider.open(call(stream=stream)))
    await asyncio.wait_for(written.wait(), GUARD)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await asyncio.wait_for(server.left.wait(), GUARD)


async def test_a_connection_is_used_again(server: Server, provider: GoogleProvider) -> None:
    for kind, stream in list(VERB) * 2:
        upstream = await provider.open(call(kind=kind, stream=stream))
        await upstream.body(100)
        upstream.close()
    assert len(server.connections) == 1


async def test_closing_a_provider_leaves_the_session_open(
    server: Server, provider: GoogleProvider, session: aiohttp.ClientSession
) -> None:
    await (await provider.open(call())).body(100)
    await provider.close()
    assert not session.closed
    await (await provider.open(call())).body(100)
    assert len(server.connections) == 1


async def test_a_hundred_streams_at_once(server: Server, provider: GoogleProvider) -> None:
    server.answer = server.drip
    upstreams = await asyncio.gather(*(provider.open(call(stream=True)) for _ in range(100)))
    assert {await upstream.read() for upstream in upstreams} == {b"data: one\r\n\r\n"}
    assert len(server.connections) == 100
    for upstream in upstreams:
        upstream.close()


# -- the catalogue -----------------------------------------------------------------------------------------------------

LISTED = {
    "name": "models/gemini-3.8-flash",
    "inputTokenLimit": 1_048_576,
    "outputTokenLimit": 65_536,
    "supportedGenerationMethods": ["generateContent", "countTokens"],
    "thinking": True,
    "new": [1],
}


async def test_models_come_from_all_pages(server: Server, session: aiohttp.ClientSession) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.query.get("pageToken") == "p 2&x":
            return web.json_response({"models": [{"name": "models/b"}]})
        return web.json_response({"models": [LISTED], "nextPageToken": "p 2&x"})

    server.answer = answer
    first, second = await provider_at(server.url, session).models()
    assert (first.id, first.context_length, first.max_output) == ("gemini-3.8-flash", 1_048_576, 65_536)
    assert first.capabilities == {"completion", "tools", "vision", "thinking"}
    assert first.raw["new"] == [1]
    assert (second.id, second.context_length, second.capabilities) == ("b", None, None)
    assert [(r.method, r.path, r.query["pageSize"]) for r in server.requests] == [("GET", "/v1beta/models", "1000")] * 2
    assert server.requests[0].headers["x-goog-api-key"] == KEY


async def test_a_list_that_never_ends_does(server: Server, session: aiohttp.ClientSession) -> None:
    server.says(b'{"models": [{"name": "models/a"}], "nextPageToken": "again"}')
    assert len(await provider_at(server.url, session).models()) == len(server.requests) == 50


async def test_a_catalogue_may_be_refused(server: Server, session: aiohttp.ClientSession) -> None:
    server.says(b"no", 401)
    with pytest.raises(UpstreamRefused) as caught:
        await provider_at(server.url, session).models()
    assert (caught.value.status, caught.value.body) == (401, b"no")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"models": 1}'])
async def test_a_catalogue_that_is_none(server: Server, session: aiohttp.ClientSession, body: bytes) -> None:
    server.says(body)
    with pytest.raises(GatewayError, match="'lab' answered something that is not a list"):
        await provider_at(server.url, session).models()


@pytest.mark.parametrize(
    ("name", "methods", "more", "words"),
    [
        ("gemini-2.5-flash", ["generateContent"], {"thinking": True}, {"completion", "vision", "tools", "thinking"}),
        ("gemini-2.0-flash", ["generateContent"], {}, {"completion", "vision", "tools"}),
        ("gemini-2.5-flash-image", ["generateContent"], {}, {"completion", "vision"}),
        ("gemma-3-27b-it", ["generateContent"], {}, {"completion"}),
        ("gemini-embedding-001", ["embedContent", "countTextTokens"], {}, {"embedding"}),
        ("veo-3.1", ["predictLongRunning"], {}, set()),
        ("gemini-live", ["bidiGenerateContent"], {"thinking": True}, set()),
        ("gemini-x", None, {}, None),
    ],
)
def test_what_a_model_can(name: str, methods: Any, more: dict[str, Any], words: set[str] | None) -> None:
    entry = {"name": f"models/{name}", "supportedGenerationMethods": methods, **more}
    ((model,), token) = read_models("lab", json.dumps({"models": [entry, {}, 1]}).encode())
    assert (model.capabilities, token) == (words, "")


def test_the_sdk_is_not_imported_with_the_provider() -> None:
    program = (
        "import sys, ollama_bridge.providers.google\n"
        "print([name for name in ('httpx2', 'pydantic', 'google.genai') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
