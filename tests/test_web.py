"""The web layer by itself: keys, bodies, streams, ids, bugs, junk."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import re
import threading
from collections.abc import Awaitable, Callable
from unittest import mock

import pytest
import zstandard
from aiohttp.base_protocol import BaseProtocol
from golden import Answer, answer_of, send
from hypothesis import given, settings
from hypothesis import strategies as st
from web_stubs import JSON, KEY, Front, front

from ollama_bridge.dialects.base import Answer as WholeAnswer
from ollama_bridge.policy.ports import ClientGone, Exchange, Sink

Script = Callable[[Exchange, Sink], Awaitable[None]]
Headers = tuple[tuple[str, str], ...]


def text(answer: Answer) -> str:
    return f"{answer.status} {answer.body.decode()}"


async def connect(gateway: Front) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", gateway.port, limit=2**16)


async def raw(gateway: Front, request: bytes) -> bytes:
    """Everything that comes back until the gateway closes the connection."""
    reader, writer = await connect(gateway)
    writer.write(request)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


# -- keys ------------------------------------------------------------------------------------------------------------

BASIC = base64.b64encode(f"anyone:{KEY}".encode()).decode()
RIGHT: dict[str, tuple[str, Headers]] = {
    "bearer": ("/api/version", (("Authorization", f"Bearer {KEY}"),)),
    "bearer in capitals": ("/api/version", (("authorization", f"BEARER  {KEY}"),)),
    "x-api-key": ("/api/version", (("x-api-key", KEY),)),
    "X-API-Key": ("/api/version", (("X-API-Key", KEY),)),
    "basic": ("/api/version", (("Authorization", f"Basic {BASIC}"),)),
    "path": (f"/k/{KEY}/api/version", ()),
    "path, escaped": (f"/k/{KEY.replace('-', '%2D')}/api/version", ()),
    "path beside a dummy": (f"/k/{KEY}/api/version", (("Authorization", "Bearer ollama"),)),
    "header beside a dummy": ("/api/version", (("Authorization", "Bearer ollama"), ("X-API-Key", KEY))),
}
WRONG: dict[str, tuple[str, Headers]] = {
    "none": ("/api/version", ()),
    "empty bearer": ("/api/version", (("Authorization", "Bearer "),)),
    "wrong bearer": ("/api/version", (("Authorization", f"Bearer {KEY}x"),)),
    "no scheme": ("/api/version", (("Authorization", KEY),)),
    "wrong x-api-key": ("/api/version", (("X-API-Key", "x"),)),
    "no base64": ("/api/version", (("Authorization", "Basic %%%"),)),
    "basic user": ("/api/version", (("Authorization", f"Basic {base64.b64encode(f'{KEY}:'.encode()).decode()}"),)),
    "wrong path": ("/k/other/api/version", ()),
    "no path key": ("/k//api/version", ()),
    "beyond ASCII": ("/k/%C3%BC/api/version", (("X-API-Key", "ü"),)),
}


@pytest.mark.parametrize(("path", "headers"), RIGHT.values(), ids=RIGHT)
async def test_a_key_is_taken_in_every_form(path: str, headers: Headers) -> None:
    async with front(api_key=KEY) as gateway:
        assert text(await send(gateway.url, "GET", path, headers)) == '200 {"version":"0.33.0"}'


@pytest.mark.parametrize(("path", "headers"), WRONG.values(), ids=WRONG)
async def test_no_or_another_key_is_refused(path: str, headers: Headers) -> None:
    async with front(api_key=KEY) as gateway:
        answer = await send(gateway.url, "GET", path, headers)
        # "/k//…" is no key but a path that gets cleaned, and then is unknown.
        assert answer.status == (307 if "//" in path else 401)
        if answer.status == 401:
            assert answer.body == b'{"error":"unauthorized"}'
            assert KEY not in str(gateway.log.lines)


async def test_a_refused_key_is_told_in_the_shape_of_the_door() -> None:
    async with front(api_key=KEY) as gateway:
        native = await send(gateway.url, "POST", "/api/chat", body=b"{}")
        openai = await send(gateway.url, "POST", "/v1/chat/completions", body=b"{}")
        assert gateway.pipeline.seen == []
        assert gateway.metrics.requests == [("/api/chat", "POST", 401), ("/v1/chat/completions", "POST", 401)]
    assert text(native) == '401 {"error":"unauthorized"}'
    assert text(openai) == '401 {"error":{"message":"unauthorized","type":"stub"}}'


async def test_what_needs_no_key() -> None:
    async with front(api_key=KEY) as gateway:
        for method, path, status in (
            ("GET", "/", 200), ("HEAD", "/", 200), ("GET", "/health", 200), ("HEAD", "/health", 200),
            ("GET", "/nope", 404), ("GET", "/api/chat", 405), ("GET", "/api/tags/", 301),
            ("GET", "/metrics", 401), ("GET", "/api/tags", 401), ("POST", "/api/pull", 401),
        ):  # fmt: skip
            assert (await send(gateway.url, method, path)).status == status, (method, path)
        preflight = (("Origin", "http://localhost:3"), ("Access-Control-Request-Method", "POST"))
        assert (await send(gateway.url, "OPTIONS", "/api/chat", preflight)).status == 204


@pytest.mark.parametrize("path", ["/k/any/api/version", "/api/version"])
async def test_without_a_key_of_ours_any_key_is_ignored(path: str) -> None:
    async with front() as gateway:
        assert (await send(gateway.url, "GET", path, (("Authorization", "Bearer ollama"),))).status == 200


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/k/KEY/", 200, []),
        ("/k/KEY", 200, []),
        ("/k/KEY/api/tags/?a=1", 301, ["/k/KEY/api/tags?a=1"]),
        ("/k/KEY//api/tags", 307, ["/k/KEY/api/tags"]),
        ("/k/KEY/../api/tags", 307, ["/k/KEY/api/tags"]),
        ("/k/../api/tags", 307, ["/api/tags"]),
    ],
)
async def test_a_key_in_the_path_is_cut_off_before_routing(path: str, status: int, location: list[str]) -> None:
    async with front(api_key="KEY") as gateway:
        answer = await send(gateway.url, "GET", path)
        assert (answer.status, answer.header("location")) == (status, location)
        assert "KEY" not in str(gateway.metrics.requests)


# -- bodies ----------------------------------------------------------------------------------------------------------


async def test_a_body_reaches_the_pipeline_whole_and_is_let_go() -> None:
    body = os.urandom(24 * 1024 * 1024)
    lengths = []

    async def script(exchange: Exchange, sink: Sink) -> None:
        lengths.append((len(exchange.body), exchange.body == body))
        exchange.body = b""
        await sink.answer(WholeAnswer(200, JSON, b"{}"))

    async with front(script) as gateway:
        assert (await send(gateway.url, "POST", "/api/chat", body=body)).status == 200
    assert lengths == [(len(body), True)]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_a_content_type_is_never_asked_for(content_type: str) -> None:
    async with front() as gateway:
        answer = await send(gateway.url, "POST", "/api/chat", (("Content-Type", content_type),), b"a=b&c")
        assert json.loads(answer.body)["body"] == "a=b&c"


async def test_the_exchange_says_what_the_pipeline_needs() -> None:
    async with front() as gateway:
        await send(gateway.url, "POST", "/k/x/v1/chat/completions?beta=true", (("User-Agent", "Me"),), b"{}")
        [seen] = gateway.pipeline.seen
    assert (seen.dialect.name, seen.kind, seen.path) == ("openai", "chat", "/v1/chat/completions")
    assert seen.headers["user-agent"] == "Me"
    assert seen.started_ns > 0


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/api/chat", '{"error":"the request body is longer than 1000 bytes"}'),
        ("/v1/embeddings", '{"error":{"message":"the request body is longer than 1000 bytes","type":"stub"}}'),
    ],
)
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_too_long_a_body_is_refused_without_being_awaited(path: str, shape: str, framing: str) -> None:
    async with front(max_body=1000) as gateway:
        assert (await send(gateway.url, "POST", path, body=b"x" * 1000)).status == 200
        if framing == "length":
            head, sent = "Content-Length: 1000000", b"x"
        else:
            head, sent = "Transfer-Encoding: chunked", b"3e9\r\n" + b"x" * 1001
        reader, writer = await connect(gateway)
        writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode() + sent)
        answer = await reader.readuntil(b"}" if path == "/api/chat" else b"}}")
        writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(shape.encode())


async def test_a_sender_that_stops_is_not_awaited_for_ever() -> None:
    async with front(sender_idle=0.05) as gateway:
        reader, writer = await connect(gateway)
        writer.write(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{")
        answer = await reader.readuntil(b"}")
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b'{"error":"no byte of the request body came for 0.05 s"}')


async def test_broken_chunks_of_a_body_are_the_clients_mistake() -> None:
    async with front(sender_idle=0.05) as gateway:
        reader, writer = await connect(gateway)
        writer.write(
            b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"zz\r\n\r\n")
        answer = await reader.readuntil(b"}")
        writer.close()
        # aiohttp's parser in C keeps the mistake to itself, its twin in Python tells it at once.
        assert answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 "))
        assert b"\r\nConnection: close\r\n" in answer
        assert b'{"error":"' in answer
        assert gateway.pipeline.seen == []
        assert (await send(gateway.url, "GET", "/health")).status == 200


ZSTD = zstandard.compress(b'{"a":1}')
FLOOD = zstandard.compress(b"a" * (20 * 1024 * 1024 + 1))
SKIPPED = b"\x5f\x2a\x4d\x18\x02\0\0\0ab"
PATHS_ZSTD = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]


@pytest.mark.parametrize("path", PATHS_ZSTD)
@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (ZSTD, b'{"a":1}'),
        (ZSTD + ZSTD, b'{"a":1}{"a":1}'),
        (SKIPPED + ZSTD + SKIPPED, b'{"a":1}'),
        (zstandard.compress(b"x" * 5_000_000), b"x" * 5_000_000),
        (zstandard.compress(b""), b""),
        (b"", b""),
    ],
    ids=["one frame", "two frames", "skippable frames", "long", "empty frame", "nothing"],
)
async def test_a_zstd_body_is_decompressed(path: str, sent: bytes, expected: bytes) -> None:
    async with front() as gateway:
        answer = await send(gateway.url, "POST", path, (("Content-Encoding", "zstd"),), sent)
        assert json.loads(answer.body)["body"] == expected.decode()


@pytest.mark.parametrize("path", PATHS_ZSTD)
@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b'{"model":"m"}', "invalid input: magic number mismatch"),
        (ZSTD + b"junk", "invalid input: magic number mismatch"),
        (ZSTD[:-2], "unexpected EOF"),
        (b"{}", "unexpected EOF"),
        (ZSTD[:5] + b"\xff" * 40, "invalid input: the zstd frame is corrupt"),
        (FLOOD, "http: request body too large"),
    ],
    ids=["json", "junk after it", "cut", "two bytes", "corrupt", "flood"],
)
async def test_a_body_that_is_no_zstd_is_refused_natively(path: str, sent: bytes, words: str) -> None:
    async with front() as gateway:
        answer = await send(gateway.url, "POST", path, (("Content-Encoding", "zstd"),), sent)
        assert text(answer) == f'400 {{"error":"{words}"}}'
        assert gateway.pipeline.seen == []


@pytest.mark.parametrize(
    ("path", "encoding", "body"),
    [
        ("/api/chat", "zstd", ZSTD),
        ("/api/chat", "gzip", gzip.compress(b"x", mtime=0)),
        ("/v1/embeddings", "gzip", b"\x1f\x8b"),
    ],
)
async def test_other_encodings_are_read_as_they_are(path: str, encoding: str, body: bytes) -> None:
    async with front() as gateway:
        answer = await send(gateway.url, "POST", path, (("Content-Encoding", encoding),), body)
        assert json.loads(answer.body)["body"].encode("latin-1") == body


async def test_an_offer_of_h2c_does_not_disturb_the_body() -> None:
    """Java's HttpClient offers it on every first request."""
    headers = (("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAEAAEAA"))
    async with front() as gateway:
        answer = await send(gateway.url, "POST", "/api/chat", headers, b"{}")
        assert json.loads(answer.body)["body"] == "{}"


# -- whole answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "chunked", "framing"),
    [
        (0, False, "length"),
        (2048, False, "length"),
        (2049, False, "chunked"),
        (5, True, "chunked"),
        (9**7, 0, "chunked"),
    ],
)
async def test_a_long_whole_answer_is_one_chunk(size: int, chunked: bool, framing: str) -> None:
    async def script(exchange: Exchange, sink: Sink) -> None:
        await sink.answer(WholeAnswer(200, JSON, b"x" * size, chunked=chunked))

    async with front(script) as gateway:
        answer = await send(gateway.url, "POST", "/api/chat", body=b"{}")
    assert (answer.framing, len(answer.body), answer.whole) == (framing, size, True)
    assert answer.chunks == ((size,) if framing == "chunked" else None)


async def test_head_has_the_headers_and_no_body() -> None:
    async with front() as gateway:
        short = await send(gateway.url, "HEAD", "/api/version")
        long = await send(gateway.url, "HEAD", "/api/tags")
        unknown = await send(gateway.url, "HEAD", "/nope")
        refused = await send(gateway.url, "HEAD", "/api/version", (("Origin", "http://evil.example"),))
    assert all(answer.whole and not answer.body for answer in (short, long, unknown, refused))
    assert (short.status, short.header("content-length")) == (200, ["20"])
    assert (long.status, long.framing) == (200, "none")
    assert (unknown.status, unknown.header("content-length")) == (404, ["18"])
    assert (refused.status, refused.framing) == (403, "none")


async def test_a_connection_serves_one_request_after_the_other() -> None:
    async with front() as gateway:
        reader, writer = await connect(gateway)
        for method, path, end in (
            ("GET", "/api/version", b"}"),
            ("POST", "/nope", b"404 page not found"),  # with a body that nobody reads
            ("POST", "/api/chat", b"}"),
            ("GET", "/health", b"}"),
        ):
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc".encode())
            answer = await reader.readuntil(end)
            assert b"\r\nConnection:" not in answer
        writer.close()


async def test_headers_stand_in_ollamas_order_and_nothing_else_is_told() -> None:
    async with front() as gateway:
        answer = await send(gateway.url, "GET", "/api/version", (("Origin", "app://x"), ("X-Request-ID", "a")))
    assert [name for name, _ in answer.headers] == [
        "Access-Control-Allow-Origin", "Content-Type", "Vary", "X-Request-ID", "Date", "Content-Length", "Connection",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("GET", "/health", '200 {"status":"ok"}'),
        ("GET", "/metrics", "200 # stub\n"),
        ("GET", "/", "200 Ollama is running"),
        ("GET", "/api/ps", '200 {"models":[]}'),
        ("GET", "/v1/models", '200 {"object":"list","data":null}\n'),
        ("GET", "/v1/models/groq/llama-3:8b", '200 {"id": "groq/llama-3:8b"}'),
        ("GET", "/v1/models/ns%2Fname", '200 {"id": "ns/name"}'),
        ("GET", "/v1/models/%FF", '200 {"id": "\\ufffd"}'),
        ("GET", "/api/version/x", "404 404 page not found"),
        ("GET", "/api/blobs/a/b", "404 404 page not found"),
        ("POST", "/v1/models/a/b", "405 405 method not allowed"),
    ],
)
async def test_small_answers(method: str, path: str, answer: str) -> None:
    async with front() as gateway:
        assert text(await send(gateway.url, method, path)) == answer


UNAVAILABLE = [
    ("GET", "/api/status"), ("POST", "/api/pull"), ("POST", "/api/push"), ("POST", "/api/create"),
    ("POST", "/api/copy"), ("DELETE", "/api/delete"), ("POST", "/api/blobs/sha256:0"), ("POST", "/api/me"),
    ("POST", "/api/signout"), ("DELETE", "/api/user/keys/x"), ("POST", "/api/experimental/web_search"),
    ("POST", "/api/experimental/web_fetch"), ("GET", "/api/experimental/model-recommendations"),
    ("POST", "/v1/responses"), ("POST", "/v1/messages"), ("POST", "/v1/audio/transcriptions"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), UNAVAILABLE)
async def test_what_the_gateway_does_not_do_it_says(method: str, path: str) -> None:
    async with front() as gateway:
        answer = await send(gateway.url, method, path, body=b"{}")
        other = await send(gateway.url, "PUT", path)
    said = json.loads(answer.body)["error"]
    assert answer.status == 501
    assert "is not available on this gateway" in (said["message"] if path.startswith("/v1/") else said)
    assert (other.status, other.header("allow")) == (405, ["HEAD, POST" if "blobs" in path else method])


# -- request ids and notes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_id", "expected"),
    [
        ("abc.DEF_1-2", "abc.DEF_1-2"),
        ("a b/c<d>", "abcd"),
        ("x" * 200, "x" * 128),
        ("", "[0-9a-f]{24}"),
        ("§ !", "[0-9a-f]{24}"),
    ],
)
async def test_a_request_id_comes_back_fit_for_logs(given_id: str, expected: str) -> None:
    async with front() as gateway:
        answer = await send(gateway.url, "POST", "/api/chat", (("X-Request-ID", given_id),), b"{}")
        [returned] = answer.header("x-request-id")
        assert re.fullmatch(expected, returned)
        assert gateway.pipeline.seen[0].request_id == returned


async def test_every_answer_has_an_id() -> None:
    evil, local = (("Origin", "http://evil.example"),), (("Origin", "http://localhost:1"),)
    async with front(api_key=KEY) as gateway:
        for method, path, headers, status in (
            ("GET", "/", (), 200), ("GET", "/nope", (), 404), ("GET", "/api/chat", (), 405), ("GET", "//", (), 307),
            ("GET", "/api/tags/", (), 301), ("GET", "/api/tags", (), 401), ("GET", "/", evil, 403),
            ("OPTIONS", "/", local, 204), ("GET", "/%zz", (), 400),
        ):  # fmt: skip
            answer = await send(gateway.url, method, path, headers)
            assert (answer.status, len(answer.header("x-request-id"))) == (status, 1), path


async def test_notes_become_headers_that_cannot_break_out() -> None:
    async def script(exchange: Exchange, sink: Sink) -> None:
        exchange.notes["X-Bridge-Target"] = "groq/llama"
        exchange.notes["X-Bridge-Reason"] = "naïve\r\nSet-Cookie: x\x00" + "y" * 5000
        await sink.start("application/x-ndjson", {"Cache-Control": "no-cache"})
        await sink.finish()

    async with front(script) as gateway:
        answer = await send(gateway.url, "POST", "/api/chat", body=b"{}")
    assert answer.header("x-bridge-target") == ["groq/llama"]
    assert answer.header("x-bridge-reason") == ["na?ve??Set-Cookie: x?" + "y" * 1979]
    assert answer.header("cache-control") == ["no-cache"]
    assert answer.header("set-cookie") == []


# -- streams ---------------------------------------------------------------------------------------------------------


async def test_a_stream_is_written_chunk_by_chunk_with_heart_beats() -> None:
    async def script(exchange: Exchange, sink: Sink) -> None:
        sink.beat(b" ")  # before the start: dropped
        await sink.start("application/x-ndjson", {})
        sink.beat(b" ")
        await sink.write(b'{"a":1}\n')
        await sink.write(b"")  # nothing, above all not the end
        sink.beat(b" ")
        await sink.write(b'{"a":2}\n')
        await sink.finish()
        sink.beat(b" ")  # after the end: dropped

    async with front(script) as gateway:
        answer = await raw(gateway, b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nX-Request-ID: ")
    assert head.endswith(b"Connection: close\r\nTransfer-Encoding: chunked")
    assert body == b'1\r\n \r\n8\r\n{"a":1}\n\r\n1\r\n \r\n8\r\n{"a":2}\n\r\n0\r\n\r\n'


async def test_a_stream_for_http_1_0_ends_with_its_connection() -> None:
    async def script(exchange: Exchange, sink: Sink) -> None:
        await sink.start("text/event-stream", {})
        sink.beat(b": \n\n")
        await sink.write(b"data: 1\n\n")
        await sink.finish()

    async with front(script) as gateway:
        answer = await raw(gateway, b"POST /api/chat HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"Transfer-Encoding" not in head
    assert body == b": \n\ndata: 1\n\n"


async def test_an_aborted_stream_does_not_look_complete() -> None:
    async def script(exchange: Exchange, sink: Sink) -> None:
        await sink.start("application/x-ndjson", {})
        await sink.write(b"{}\n")
        sink.abort()

    async with front(script) as gateway:
        answer = await send(gateway.url, "POST", "/api/chat", body=b"{}")
    assert (answer.body, answer.whole) == (b"{}\n", False)


class Outcome:
    """How a script ended, told to the test."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.error: BaseException | None = None

    def watch(self, script: Script) -> Script:
        async def watched(exchange: Exchange, sink: Sink) -> None:
            try:
                await script(exchange, sink)
            except (ClientGone, asyncio.CancelledError) as error:
                self.error = error
                raise
            finally:
                self.ended.set()

        return watched

    async def wait(self) -> None:
        async with asyncio.timeout(10):
            await self.ended.wait()


POST = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("started", [False, True], ids=["before the answer", "inside a stream"])
async def test_a_client_that_leaves_cancels_the_pipeline(started: bool) -> None:
    outcome = Outcome()

    async def script(exchange: Exchange, sink: Sink) -> None:
        if started:
            await sink.start("application/x-ndjson", {})
        entered.set()
        await asyncio.Event().wait()

    entered = asyncio.Event()
    async with front(outcome.watch(script)) as gateway:
        _, writer = await connect(gateway)
        writer.write(POST)
        await entered.wait()
        writer.close()
        await outcome.wait()
        assert isinstance(outcome.error, asyncio.CancelledError)
        assert (await send(gateway.url, "GET", "/health")).status == 200
        assert gateway.metrics.requests[0] == ("/api/chat", "POST", 200 if started else 499)


async def test_a_client_that_does_not_read_is_given_up() -> None:
    outcome = Outcome()

    async def script(exchange: Exchange, sink: Sink) -> None:
        await sink.start("application/x-ndjson", {})
        while True:
            await sink.write(b"x" * 1_000_000)

    async with front(outcome.watch(script), write_deadline=0.05) as gateway:
        _, writer = await connect(gateway)
        writer.write(POST)
        await outcome.wait()
        assert isinstance(outcome.error, ClientGone)
        writer.close()


async def test_writing_waits_for_a_slow_reader_and_heart_beats_do_not() -> None:
    blocked = asyncio.Event()
    lines = [b"%d" % number + b"x" * 1_000_000 + b"\n" for number in range(20)]

    async def script(exchange: Exchange, sink: Sink) -> None:
        await sink.start("application/x-ndjson", {})
        for line in lines:
            writing = asyncio.ensure_future(sink.write(line))
            done, _ = await asyncio.wait([writing], timeout=0)
            if not done:
                sink.beat(b" ")  # the client is not reading: dropped
                blocked.set()
            await writing
        await sink.finish()

    async with front(script) as gateway:
        reader, writer = await connect(gateway)
        writer.write(POST.replace(b"localhost", b"localhost\r\nConnection: close"))
        await blocked.wait()
        head = await reader.readuntil(b"\r\n\r\n")
        answer = answer_of("POST", head, await reader.read())
        writer.close()
    assert answer.whole
    assert answer.body.replace(b" ", b"") == b"".join(lines)
    assert len(answer.chunks or ()) < 2 * len(lines)


async def test_a_heart_beat_does_not_come_between_the_parts_of_a_chunk() -> None:
    """Not even when the client reads again, and the rest of the chunk is not written yet."""
    line = b"x" * 8_000_000

    async def script(exchange: Exchange, sink: Sink) -> None:
        await sink.start("application/x-ndjson", {})
        writing = asyncio.ensure_future(sink.write(line))
        while not writing.done():
            await asyncio.sleep(0)
            with mock.patch.object(BaseProtocol, "writing_paused", False):
                sink.beat(b" ")
        await writing
        await sink.finish()

    async with front(script) as gateway:
        reader, writer = await connect(gateway)
        writer.write(POST.replace(b"localhost", b"localhost\r\nConnection: close"))
        head = await reader.readuntil(b"\r\n\r\n")
        answer = answer_of("POST", head, await reader.read())
        writer.close()
    assert answer.whole and answer.body.strip(b" ") == line


async def test_the_metrics_page_is_made_beside_the_loop() -> None:
    async with front() as gateway:
        made: list[int] = []

        def exposition() -> tuple[bytes, str]:
            made.append(threading.get_ident())
            return b"# page\n", "text/plain"

        with mock.patch.object(gateway.metrics, "exposition", exposition):
            assert text(await send(gateway.url, "GET", "/metrics")) == "200 # page\n"
        assert made and made[0] != threading.get_ident()


async def test_a_large_whole_answer_reaches_a_slow_reader() -> None:
    body = os.urandom(20_000_000)

    async def script(exchange: Exchange, sink: Sink) -> None:
        await sink.answer(WholeAnswer(200, "application/json", body))

    async with front(script) as gateway:
        answer = await send(gateway.url, "POST", "/api/embed", body=b"{}")
    assert answer.whole and answer.body == body


# -- what must not happen, and does --------------------------------------------------------------------------------


async def test_a_bug_costs_one_request_and_tells_no_prompt() -> None:
    async with front() as gateway:
        answer = await send(gateway.url, "POST", "/api/show", (("X-Request-ID", "r1"), ("User-Agent", "a prompt")))
        assert text(answer) == '500 {"error":"internal error (request r1)"}'
        [(event, fields)] = gateway.log.lines
        assert (event, fields["error"], fields["request_id"]) == ("handler failed", "ValueError", "r1")
        assert "web_stubs.py" in str(fields["traceback"])
        assert "a prompt" not in str(gateway.log.lines)
        assert (await send(gateway.url, "GET", "/health")).status == 200
        assert gateway.metrics.requests == [("/api/show", "POST", 500), ("/health", "GET", 200)]


async def test_a_bug_inside_a_stream_cuts_it() -> None:
    async def script(exchange: Exchange, sink: Sink) -> None:
        await sink.start("application/x-ndjson", {})
        raise KeyError("x")

    async with front(script) as gateway:
        answer = await send(gateway.url, "POST", "/v1/chat/completions", body=b"{}")
    assert (answer.status, answer.body, answer.whole) == (200, b"", False)


async def test_a_pipeline_that_does_not_answer_is_a_bug() -> None:
    async def script(exchange: Exchange, sink: Sink) -> None:
        return None

    async with front(script) as gateway:
        answer = await send(gateway.url, "POST", "/v1/chat/completions", (("X-Request-ID", "r"),), b"{}")
    assert text(answer) == '500 {"error":{"message":"internal error (request r)","type":"stub"}}'


async def test_an_error_of_the_library_is_told_with_near_names() -> None:
    async with front() as gateway:
        answer = await send(gateway.url, "POST", "/api/show", body=b"nope")
        assert text(answer) == '404 {"error":"model \'nope:latest\' not found"}'
        assert answer.header("x-bridge-near") == ["noble, pope"]
        assert [fields["status"] for _, fields in gateway.log.lines] == [404]


async def test_metrics_know_routes_and_no_paths() -> None:
    async with front() as gateway:
        for method, path in (("GET", "/secret-path"), ("GET", "/v1/models/a/b"), ("PROPFIND", "/"), ("PUT", "/api/ps")):
            await send(gateway.url, method, path)
        assert gateway.metrics.requests == [
            ("unmatched", "GET", 404),
            ("/v1/models/{id...}", "GET", 200),
            ("unmatched", "OTHER", 405),
            ("unmatched", "PUT", 405),
        ]


BAD_REQUESTS = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "bad header": b"GET / HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
    "bad length": b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    "two lengths": b"POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "bad escape": b"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "authority": b"CONNECT example.com:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
async def test_what_is_no_request_gets_a_plain_400(request_bytes: bytes) -> None:
    async with front() as gateway:
        answer = await raw(gateway, request_bytes)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.endswith(b"\r\n\r\n400 Bad Request")
        assert b"Server:" not in answer
        assert (await send(gateway.url, "GET", "/health")).status == 200


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "DELETE", "PATCH"]),
    st.one_of(
        st.text(
            st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), min_size=1, max_size=40
        ),
        st.lists(st.sampled_from(["api", "v1", "..", ".", "", "tags", "models", "k", "%2e%2e", "%2F", "%00", "ü"])).map(
            lambda parts: "/" + "/".join(parts)
        ),
    ),
    st.binary(max_size=40),
)
def test_junk_never_costs_more_than_its_own_request(method: str, path: str, header: bytes) -> None:
    junk = b"%b %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: %b\r\n\r\n"

    async def probe() -> None:
        async with front(api_key=KEY) as gateway:
            answer = await raw(gateway, junk % (method.encode(), path.encode("latin-1"), header))
            assert 200 <= int(answer.split(b" ")[1]) < 500
            assert (await send(gateway.url, "GET", "/health")).status == 200
            assert [event for event, _ in gateway.log.lines if event != "refused"] == []

    asyncio.run(probe())
