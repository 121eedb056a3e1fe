"""Junk before the body: paths, methods, headers, and bytes that are no HTTP at all (product.md 5, row 21)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from junk import BODIES, Request
from lab import Lab, laboratory
from test_junk import hurt

from ollama_bridge.web.ports import Services, WebSettings
from ollama_bridge.web.routes import table


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with laboratory(tmp_path_factory.mktemp("heads")) as lab:
        yield lab


def routes() -> list[str]:
    """Every path of the table, its open ends filled."""
    paths = [route.path for route in table(cast(Services, SimpleNamespace()), WebSettings(), lambda: True)]
    return [path.replace("{id...}", "a/b").replace("{digest}", "sha256:0").replace("{key}", "k") for path in paths]


PATHS = routes()

# -- methods ---------------------------------------------------------------------------------------------------------
METHODS = (
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "LINK", "PURGE",
    "QUERY", "get", "G", "GETT", "PRI", "X-Y", "M" * 300,
)  # fmt: skip


def test_every_method_at_every_path(lab: Lab) -> None:
    requests = [
        Request(method, path, body, what="method") for method, path in product(METHODS, PATHS) for body in (b"", b"{")
    ]
    statuses = {answer.status for answer in lab.throw(requests)}
    assert statuses >= {200, 204, 400, 404, 405}


# -- paths -----------------------------------------------------------------------------------------------------------
TRICKS = (
    "/..", "/../", "/../../etc/passwd", "/api/../api/tags", "/api/./tags", "/api//tags", "//api/tags", "///", "/.",
    "/%2e%2e/", "/%2E%2E%2Fapi%2Ftags", "/api/%2e%2e/tags", "/api%2Ftags", "/%2fapi/tags", "/api/tags%2f", "/%00",
    "/api/tags%00", "/api/tags%0d%0aX:%20y", "/api/tags%20", "/api/tags;a=b", "/api/tags?", "/api/tags?a=%zz&&=",
    "/api/tags#x", "/API/TAGS", "/%61%70%69/tags", "/%ff", "/%c0%ae%c0%ae/", "/%ed%a0%80", "/%", "/%2", "/%zz", "/%u002e",
    "/api/tags/..;/", "/\\..\\", "/api\\tags", "*", "http://localhost/api/tags", "http://evil.example/api/tags",
    "http://[::1/api/tags", "http://[::1]:x/", "http://", "http:///api/tags", "http://a@b/api/tags", "ftp://localhost/",
    "localhost:80", "?", "#", "//evil.example/%2e%2e", "//evil.example//..", "/k/", "/k/..", "/k/../api/tags", "/k/a/..",
    "/k/%2e%2e/api/tags", "/k/%00/api/tags", "/k/" + "a" * 9000 + "/api/tags", "/k//k//", "/k/a/k/b/api/version",
    "/v1/models/", "/v1/models//", "/v1/models/..", "/v1/models/../..", "/v1/models/%2e%2e", "/v1/models/a%2fb",
    "/v1/models/%00", "/v1/models/a/", "/v1/models/ /", "/v1/models/%20", "/v1/models/:", "/v1/models/a:b:c",
    "/v1/models/%F0%9F%98%80", "/v1/models/%FF%FE", "/v1/models/" + "x" * 30_000, "/v1/models/" + "a/" * 10_000,
    "/v1/models/" + "%2e%2e%2f" * 3_000 + "etc", "/v1/models/?model=x", "/v1/models/wire?" + "a=b&" * 8_000,
    "/api/blobs/", "/api/blobs/sha256:../../x", "/api/user/keys/%2e%2e", "/" + "a" * 60_000, "/" + "../" * 15_000,
    "/" * 60_000, "/" + "a" * 70_000, "/?" + "a" * 60_000, "/" + "%41" * 20_000, "/" + "%e2%80%ae" * 5_000,
)  # fmt: skip
SEGMENTS = st.sampled_from(
    ["api", "v1", "k", "tags", "models", "chat", "..", ".", "", "%2e", "%2E%2e", "%2f", "%00", "%", "%zz", "a:b", "a@b",
     "ü", "\x80", "*", "~", ";", "a b", "\\", "?", "#", "%F0%9F", "blobs", "wire", "real", "echo", "x" * 300]
)  # fmt: skip
TARGETS = st.lists(SEGMENTS, max_size=8).map(lambda parts: "/" + "/".join(parts)) | st.text(
    st.characters(min_codepoint=1, max_codepoint=0xFF), min_size=1, max_size=40
)


def test_path_tricks(lab: Lab) -> None:
    lab.throw(Request(method, path, what="path") for path in TRICKS for method in ("GET", "HEAD", "POST", "DELETE"))


@hurt(400)
@given(st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "DELETE", "PATCH"]), TARGETS)
def test_any_path(lab: Lab, method: str, path: str) -> None:
    request = Request(method, path.encode("latin-1").decode("utf-8", "surrogateescape"), what="path")
    if any(end in path for end in "\r\n\0"):
        lab.survive([request.wire])  # these end the line: what comes is no request, or two
    else:
        lab.throw([request])


# -- headers ---------------------------------------------------------------------------------------------------------
NAMES = (
    b"Host", b"Origin", b"Authorization", b"X-API-Key", b"X-Request-ID", b"User-Agent", b"Accept", b"Accept-Encoding",
    b"Connection", b"Upgrade", b"Expect", b"Content-Type", b"Content-Encoding", b"Content-Length",
    b"Transfer-Encoding", b"Cookie", b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-Host", b"Range",
    b"If-None-Match", b"TE", b"Trailer", b"Date", b"Referer", b"Access-Control-Request-Method",
    b"Access-Control-Request-Headers", b"HTTP2-Settings", b"Sec-WebSocket-Key", b"Proxy-Connection", b"Keep-Alive",
)  # fmt: skip
VALUES = (
    b"", b" ", b"\t", b"\xff\xfe", b"\xc3\xbc", b"a" * 60_000, b"," * 9_000, b"=?utf-8?B?4pyT?=", b"0", b"-1", b"+5", b"1e9",
    b"99999999999999999999", b"0x10", b"1, 2", b"chunked", b"chunked, chunked", b"gzip, chunked", b"identity",
    b"100-continue", b"200-ok", b"close", b"keep-alive", b"upgrade", b"close, upgrade", b"h2c", b"websocket", b"null",
    b"*", b"http://", b"http://[", b"http://localhost", b"http://localhost:99999", b"https://evil.example", b"file://",
    b"[", b"[::1", b"[::1]", b"[::1]:x", b"[fe80::1%lo]", b"[fe80::1%" + b"x" * 80 + b"]", b"[fe80::1%\xc3\xa9]",
    b"127.0.0.1", b"127.0.0.1:80:80", b"0177.0.0.1", b"999.1.1.1", b"1.2.3.4", b"evil.example", b"localhost", b"a@b",
    b"xn--", b".", b"..", b".local", b"a..b", b"%00", b"localhost%00.evil.example", b"Bearer", b"Bearer ", b"Basic !!!",
    b"Basic 4pyT", b"Basic /w==", b"Basic " + b"QQ" * 9_000, b"Digest a=b", b"bytes=0-", b"W/\"x\"", b"a=b; c",
)  # fmt: skip
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(VALUES) | st.binary(max_size=20).filter(lambda value: not set(value) & set(b"\r\n\0")),
    ),
    min_size=1,
    max_size=6,
)


def body_of(path: str) -> bytes:
    return next((json.dumps({**body, "model": "wire"}).encode() for at, body in BODIES.values() if at == path), b"")


def test_every_header_with_every_value(lab: Lab) -> None:
    """At a door of each kind; a header that frames the body may end in silence, for there is no request then."""
    doors = [("GET", "/api/tags"), ("POST", "/api/chat"), ("POST", "/v1/embeddings"), ("OPTIONS", "/api/chat")]
    requests = [
        Request(*doors[number % len(doors)], body_of(doors[number % len(doors)][1]), ((name, value),), "header")
        for number, (name, value) in enumerate(product(NAMES, VALUES))
    ]
    framing = (b"Content-Length", b"Transfer-Encoding", b"Expect", b"Connection", b"Upgrade", b"Host")
    lab.throw(request for request in requests if request.headers[0][0] not in framing)
    lab.survive(request.wire for request in requests if request.headers[0][0] in framing)


@hurt(300)
@given(st.sampled_from(["GET", "POST", "HEAD", "OPTIONS"]), st.sampled_from(PATHS), HEADERS)
def test_any_headers(lab: Lab, method: str, path: str, headers: list[tuple[bytes, bytes]]) -> None:
    lab.survive([Request(method, path, body_of(path), tuple(headers)).wire])


FLOODS = {
    "many headers": b"".join(b"X-%d: y\r\n" % n for n in range(100_000)),
    "many of one": b"Cookie: a\r\n" * 5_000,
    "long value": b"X: " + b"y" * 10_000_000 + b"\r\n",
    "long name": b"X" * 10_000_000 + b": y\r\n",
    "many long": b"".join(b"X-%d: %b\r\n" % (n, b"y" * 60_000) for n in range(300)),
    "folded": b"X: y\r\n" + b" y\r\n" * 100_000,
    "no colon": b"X" * 1_000 + b"\r\n",
    "no end": b"X: y\r\n" * 100 + b"Z",
}


@pytest.mark.parametrize("flood", list(FLOODS))
def test_header_floods(lab: Lab, flood: str) -> None:
    head = b"GET /api/tags HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + FLOODS[flood] + b"\r\n"
    lab.survive([head])


# -- no HTTP ---------------------------------------------------------------------------------------------------------
LINES = st.lists(
    st.sampled_from(
        [b"GET / HTTP/1.1", b"GET /api/version HTTP/1.0", b"POST /api/chat HTTP/1.1", b"GET / HTTP/9.9", b"GET /",
         b"Host: localhost", b"Content-Length: 3", b"Content-Length: 0", b"Transfer-Encoding: chunked", b"3", b"abc", b"0",
         b"", b"", b"{}", b"zz", b"ffffffffffffffff", b"-1", b"1;a=b", b"Connection: Upgrade", b"Upgrade: websocket",
         b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0", b"SM", b"Expect: 100-continue", b"\0", b"\xff" * 9]
    ),
    max_size=14,
)  # fmt: skip


@hurt(300)
@given(LINES, st.sampled_from([b"\r\n", b"\n", b"\r"]), st.binary(max_size=30))
def test_lines_in_any_order(lab: Lab, lines: list[bytes], end: bytes, tail: bytes) -> None:
    lab.survive([end.join([*lines, tail])])


@hurt(200)
@given(st.binary(max_size=200))
def test_any_bytes(lab: Lab, junk: bytes) -> None:
    lab.survive([junk])


def test_a_hundred_requests_at_once_on_one_connection(lab: Lab) -> None:
    """Pipelined, good ones and bad ones, answered in order or cut off."""
    one = Request(
        "POST", "/api/chat", b'{"model":"own","messages":[{"role":"user","content":"a"}]}', ((b"Connection", b"x"),)
    )
    bad = Request("POST", "/api/chat", b"{", ((b"Connection", b"x"),))
    last = Request("GET", "/api/version")

    async def ask() -> bytes:
        reader, writer = await lab.connect()
        writer.write((one.wire + bad.wire) * 50 + last.wire)
        answer = await reader.read()
        writer.close()
        return answer

    answer: bytes = lab.run(ask())
    assert answer.count(b"HTTP/1.1 200 OK") == 51 and answer.count(b"HTTP/1.1 400 Bad Request") == 50
    lab.run(lab.check("pipelining"))
