"""Junk at every door (product.md 5, row 21): a 4xx in the door's own shape, never a 5xx that no upstream caused, the
memory bounded, the worker alive.

Tables where every case must be hit, hypothesis where none can be named. After every blow the gateway must have logged
no bug and must answer.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from junk import BODIES, WRONG, Request, places, written
from lab import MODELS, Lab, laboratory

from ollama_bridge.dialects.ollama import OllamaDialect
from ollama_bridge.values import ChatRequest


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with laboratory(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


def hurt(examples: int) -> Any:
    """hypothesis settings: so many examples, the same on every run."""
    return settings(
        max_examples=examples,
        phases=(Phase.explicit, Phase.generate),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


EMBEDS = ("embed", "embeddings", "v1-embed")
ENDPOINTS = st.sampled_from(list(BODIES))


def models_of(endpoint: str) -> tuple[str, ...]:
    return ("vectors",) if endpoint in EMBEDS else MODELS


def post(endpoint: str, body: bytes, what: str, *headers: tuple[bytes, bytes]) -> Request:
    return Request("POST", BODIES[endpoint][0], body, headers, what)


# -- bodies ----------------------------------------------------------------------------------------------------------
def spoilt(endpoint: str) -> Iterator[Request]:
    """Each place of the endpoint's body replaced by each wrong value; the models take turns."""
    models = cycle(models_of(endpoint))
    for at in places(BODIES[endpoint][1]):
        for name, wrong in WRONG.items():
            body = {**BODIES[endpoint][1], "model": next(models)}
            yield post(endpoint, written(body, at, wrong), f"{at} = {name}")


@pytest.mark.parametrize("endpoint", list(BODIES))
def test_every_member_with_every_wrong_value(lab: Lab, endpoint: str) -> None:
    requests = list(spoilt(endpoint))
    answers = lab.throw(requests)
    statuses = [answer.status for answer in answers]
    print(f"{endpoint}: {len(requests)} bodies, {statuses.count(400)} refused")
    assert statuses.count(400) > len(requests) // 6, "nothing is judged any more"
    if endpoint not in EMBEDS:
        assert 200 in statuses, "nothing is answered any more"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.sampled_from(["", "json", "user", "tool", "image_url", "data:image/png;base64,", "http://[::1", "5m", "-1"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=4) | st.sampled_from(["type", "text", "role", "content", "url", "function", "name", "id"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@hurt(500)
@given(ENDPOINTS, st.data())
def test_bodies_with_anything_anywhere(lab: Lab, endpoint: str, draw: st.DataObject) -> None:
    body: Any = {**BODIES[endpoint][1], "model": draw.draw(st.sampled_from(models_of(endpoint)))}
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.sampled_from(list(places(body))))
        body = json.loads(written(body, at, json.dumps(draw.draw(JSON)).encode()))
    lab.throw([post(endpoint, json.dumps(body).encode(), "anything")])


@hurt(500)
@given(ENDPOINTS, ENDPOINTS, st.data())
def test_bodies_cut_and_spliced(lab: Lab, endpoint: str, other: str, draw: st.DataObject) -> None:
    def text(of: str) -> bytes:
        return json.dumps({**BODIES[of][1], "model": draw.draw(st.sampled_from(models_of(endpoint)))}).encode()

    body = text(endpoint)
    for _ in range(draw.draw(st.integers(1, 3))):
        start = draw.draw(st.integers(0, len(body)))
        end = draw.draw(st.integers(start, min(len(body), start + 40)))
        way = draw.draw(st.sampled_from(["cut", "delete", "insert", "splice", "repeat"]))
        if way == "cut":
            body = body[:start]
        elif way == "delete":
            body = body[:start] + body[end:]
        elif way == "insert":
            body = body[:start] + draw.draw(st.binary(max_size=8)) + body[start:]
        elif way == "splice":
            body = body[:start] + text(other)[start:]
        else:
            body = body[:end] + body[start:]
    lab.throw([post(endpoint, body, "spliced")])


WHOLES = {
    "nothing": b"",
    "blanks": b" \r\n\t" * 9,
    "NUL": b"\0",
    "BOM": b"\xef\xbb\xbf{}",
    "UTF-16": json.dumps({"model": "wire"}).encode("utf-16"),
    "two": b"{}{}",
    "text": b'"model"',
    "number": b"1",
    "form": b"model=wire&prompt=hi",
    "multipart": b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwire\r\n--x--\r\n',
    "XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
    "many members": b"{" + b",".join(b'"k%d":%d' % (n, n) for n in range(20_000)) + b"}",
    "the same member": b"{" + b",".join([b'"model":"wire"'] * 20_000) + b"}",
    "a long key": b'{"' + b"k" * 1_000_000 + b'":1}',
    "many messages": b'{"model":"wire","messages":[' + b",".join([b"{}"] * 20_000) + b"]}",
    "deep and open": b'{"model":"wire","messages":' + b"[" * 200_000,
    "deep and closed": b'{"model":"wire","options":' + b'{"a":' * 9_000 + b"1" + b"}" * 9_001,
    "escapes": b'{"model":"wire","prompt":"' + b"\\u00e9" * 50_000,
    "quotes": b'{"model":"wire","prompt":"' + b'\\"' * 200_000,
    "no UTF-8": b'{"model":"wire","prompt":"' + b"\xff" * 200_000 + b'"}',
    "digits": b'{"model":' + b"9" * 1_000_000 + b"}",
}


def test_bodies_that_are_something_else(lab: Lab) -> None:
    lab.throw(post(endpoint, body, name) for endpoint in BODIES for name, body in WHOLES.items())


KINDS = (
    b"", b"text/plain", b"application/xml", b"multipart/form-data", b"multipart/form-data; boundary=x",
    b"application/x-www-form-urlencoded", b"application/json; charset=utf-16", b"application/json; charset=\xff",
    b"image/png", b";", b"application/octet-stream", b"text/event-stream", b"a/b; " + b"c=d; " * 900,
)  # fmt: skip


def test_content_types(lab: Lab) -> None:
    answers = lab.throw(
        post(endpoint, json.dumps({**BODIES[endpoint][1], "model": model}).encode(), "type", (b"Content-Type", kind))
        for endpoint in BODIES
        for model in models_of(endpoint)
        for kind in KINDS
    )
    assert {answer.status for answer in answers} == {200}


HONEST = b'{"model":"wire","prompt":"a","input":"a","messages":[{"role":"user","content":"a"}],"stream":false}'
BOMB = zstandard.compress(b"[" * (400 * 1024 * 1024))
BOMBS = zstandard.compress(b" " * (19 * 1024 * 1024))
PACKED = {
    "gzip": (b"gzip", gzip.compress(HONEST)),
    "gzip bomb": (b"gzip", gzip.compress(b"{" * 20_000_000)),
    "gzip of nothing": (b"gzip", b""),
    "deflate": (b"deflate", HONEST),
    "br": (b"br", b"\x8b\x02\x80" + HONEST),
    "zstd": (b"zstd", zstandard.compress(HONEST)),
    "zstd of nothing": (b"zstd", b""),
    "zstd that is none": (b"zstd", HONEST),
    "zstd, cut": (b"zstd", zstandard.compress(HONEST)[:-5]),
    "zstd, spoilt": (b"zstd", zstandard.compress(HONEST * 9)[:-20] + b"\xff" * 20),
    "zstd, of a huge window": (b"zstd", b"\x28\xb5\x2f\xfd\x00\xf8" + b"\x01\x00\x00" * 9),
    "zstd, tail": (b"zstd", zstandard.compress(HONEST) + b"tail"),
    "zstd bomb": (b"zstd", BOMB),
    "zstd bombs": (b"zstd", BOMBS * 40),
    "zstd twice": (b"zstd", zstandard.compress(zstandard.compress(HONEST))),
    "zstd, zstd": (b"zstd, zstd", zstandard.compress(HONEST)),
    "unknown": (b"rot13", HONEST),
    "junk": (b"\xff\xfe", HONEST),
}


def test_content_encodings(lab: Lab) -> None:
    lab.throw(
        post(endpoint, body, name, (b"Content-Encoding", encoding))
        for endpoint in BODIES
        for name, (encoding, body) in PACKED.items()
    )


@hurt(150)
@given(st.sampled_from(["v1-chat", "v1-text", "v1-embed"]), st.data())
def test_packed_bodies_cut_and_spoilt(lab: Lab, endpoint: str, draw: st.DataObject) -> None:
    body = bytearray(zstandard.compress(HONEST * draw.draw(st.integers(1, 50))))
    for _ in range(draw.draw(st.integers(1, 4))):
        body[draw.draw(st.integers(0, len(body) - 1))] = draw.draw(st.integers(0, 255))
    del body[draw.draw(st.integers(0, len(body))) :]
    lab.throw([post(endpoint, bytes(body), "spoilt zstd", (b"Content-Encoding", b"zstd"))])


# -- names and addresses ---------------------------------------------------------------------------------------------
NAMES = (
    "", " ", ".", "..", "/", "//", "a/b/c/d/e", "wire/", "/wire", "wire:", ":latest", "wire:latest:latest", "wire:x y",
    "../../etc/passwd", "..\\..\\x", "wire/../real", "%2e%2e", "wire%00", "\0", "wire\0", "\n", "a\r\nb: c", "\u202e",
    "wire@sha256:" + "0" * 64, "sha256:" + "0" * 64, "C:\\x", "http://127.0.0.1/x", "hf.co/a/b", "-", "--help", "~",
    "wіre", "WIRE", "ｗｉｒｅ", "😀", "é" * 300, "x" * 100_000, "a/" * 5_000, "wire:" + "t" * 5_000, "${HOME}",
    "{{7*7}}", "' OR 1=1 --", "<script>alert(1)</script>", "null", "undefined", "true", "0", "*", "?", "#", "wire/*",
    "echo/", "echo/\u0000", "real/" + "x" * 5_000, "wire/😀", "unknown-provider/x",
)  # fmt: skip
NAMES_AT = st.text(max_size=30) | st.lists(
    st.sampled_from(["wire", "real", "echo", "own", "/", ":", "..", "latest", "@", " ", "%", "\0"]), max_size=6
).map("".join)


def named(name: str) -> list[Request]:
    """A request for a model of this name at every endpoint that takes one."""
    return [
        post(endpoint, json.dumps({**body, "model": name, "name": name, "stream": False}).encode(), f"model {name!r}")
        for endpoint, (_, body) in BODIES.items()
    ]


def test_odd_model_names(lab: Lab) -> None:
    lab.throw(request for name in NAMES for request in named(name))


@hurt(100)
@given(NAMES_AT)
def test_any_model_name(lab: Lab, name: str) -> None:
    lab.throw(named(name))


PRIVATE = (
    "http://127.0.0.1/a.png", "http://127.1/a.png", "http://2130706433/a.png", "http://0x7f000001/a.png",
    "http://017700000001/a.png", "http://localhost/a.png", "http://localhost./a.png", "http://0.0.0.0/", "http://0/",
    "http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.0.1/", "http://169.254.169.254/latest/meta-data/",
    "http://100.64.0.1/", "http://224.0.0.1/", "http://255.255.255.255/", "http://[::1]/", "http://[::]/",
    "http://[::ffff:127.0.0.1]/", "http://[::ffff:a9fe:a9fe]/", "http://[64:ff9b::7f00:1]/", "http://[fe80::1]/",
    "http://[fe80::1%25lo]/", "http://[fc00::1]/", "http://[2002:7f00:1::]/", "http://①②⑦.⓪.⓪.①/",
)  # fmt: skip
NO_ADDRESS = (
    "http://", "http:///a.png", "http://[", "http://[::1", "http://a b/", "http://a:99999/", "http://a:x/", "https://\0/",
    "http://" + "a" * 300 + ".example/", "http://" + "a." * 5_000, "http://user:pass@127.0.0.1/", "http://%zz/",
    "http://\ud800/", "http://127.0.0.1:99999/", "http://xn--/", "http://" + "é" * 100 + "/", "file:///etc/passwd",
    "gopher://127.0.0.1/", "ftp://127.0.0.1/", "data:image/png;base64,!!!", "data:,x", "data:image/png;base64,",
    "javascript:alert(1)", "//127.0.0.1/a.png", "", "\r\n", "x" * 100_000,
)  # fmt: skip


def with_image(url: str, model: str) -> Iterator[Request]:
    """A picture at an address, for a model whose wire takes none: the gateway would have to fetch it."""
    parts = [{"type": "text", "text": "See."}, {"type": "image_url", "image_url": {"url": url}}]
    native = {"model": model, "messages": [{"role": "user", "content": "See.", "images": [url]}], "stream": False}
    v1 = {"model": model, "messages": [{"role": "user", "content": parts}]}
    yield post("chat", json.dumps(native).encode(), "image")
    yield post("v1-chat", json.dumps(v1).encode(), "image")


def test_images_at_private_addresses_are_not_fetched(lab: Lab) -> None:
    answers = lab.throw(request for url in PRIVATE for request in with_image(url, "real"))
    assert {answer.status for answer in answers} == {400}
    for answer in answers:
        assert b"not a public address" in answer.body or b"cannot be fetched" in answer.body, answer.body


def test_images_at_no_addresses(lab: Lab) -> None:
    lab.throw(request for url in NO_ADDRESS for model in ("real", "own") for request in with_image(url, model))


# -- the check itself ------------------------------------------------------------------------------------------------
class Crash(RuntimeError):
    pass


class CrashingDecode(OllamaDialect):
    def decode(self, kind: str, body: bytes) -> Any:
        raise Crash(body)


class CrashingWriter(OllamaDialect):
    def writer(self, kind: str, request: ChatRequest) -> Any:
        raise Crash


class CrashingCheck(OllamaDialect):
    def check(self, *_: Any) -> None:
        raise Crash


PLANTED = (CrashingDecode, CrashingWriter, CrashingCheck)


@pytest.mark.parametrize("planted", PLANTED)
def test_a_crash_in_a_handler_is_caught(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, planted: type[OllamaDialect]
) -> None:
    from ollama_bridge import engine

    monkeypatch.setattr(engine, "DIALECTS", (planted(), *engine.DIALECTS[1:]))
    body = json.dumps({"model": "wire", "messages": [{"role": "user", "content": "password: swordfish"}]}).encode()
    with laboratory(tmp_path_factory.mktemp("planted")) as lab:
        with pytest.raises(AssertionError, match="handler failed: Crash") as caught:
            lab.throw([post("chat", body, "harmless")])
        assert "swordfish" not in str(caught.value).partition("handler failed")[2], "the log quotes a prompt"
        lab.throw([Request("GET", "/api/tags")])  # and it cost that one request only


def test_a_bug_that_is_only_logged_is_caught(lab: Lab) -> None:
    async def careless() -> None:
        async def fail() -> None:
            raise Crash

        task = asyncio.ensure_future(fail())
        await asyncio.wait([task])
        del task

    lab.run(careless())
    with pytest.raises(AssertionError, match="never retrieved"):
        lab.throw([Request("GET", "/api/tags")])
