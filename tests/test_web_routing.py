"""Routes, origins and hosts beyond what the golden cases cover."""

from __future__ import annotations

import re

import pytest
from golden import send
from hypothesis import given
from hypothesis import strategies as st
from web_stubs import Front, front

from ollama_bridge.policy.ports import Exchange, Sink
from ollama_bridge.web import hosts
from ollama_bridge.web.origins import Origins
from ollama_bridge.web.ports import Services, WebSettings
from ollama_bridge.web.router import Found, Malformed, NotAllowed, NotFound, Redirect, Router, clean, split_target
from ollama_bridge.web.routes import Route, table

# -- routing, alone --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def router() -> Router[Route]:
    stubs = Front()
    return Router(
        table(Services(stubs.pipeline, stubs.library, {}, stubs.metrics, stubs.log, dict), WebSettings(), lambda: True)
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/"), ("//", "/"), ("/a//b", "/a/b"), ("///a/", "/a/"), ("/a/./b", "/a/b"), ("/a/../b", "/b"),
        ("/..", "/"), ("/a/..", "/"), ("/a/.", "/a"), ("/a/../", "/"), ("/.hidden", "/.hidden"), ("/a/", "/a/"),
        ("/a/%2e%2e/b", "/a/%2e%2e/b"), ("/a/...", "/a/..."),
    ],
)  # fmt: skip
def test_paths_are_cleaned_as_go_does(path: str, expected: str) -> None:
    assert clean(path) == expected


@given(st.text(st.sampled_from("/.ab%2f"), max_size=20))
def test_a_clean_path_is_clean_and_never_leaves_the_server(path: str) -> None:
    cleaned = clean("/" + path)
    assert clean(cleaned) == cleaned
    assert re.match("/(?!/)", cleaned)
    assert not {"..", "."} & set(cleaned.split("/"))


@given(st.sampled_from(["GET", "HEAD", "POST", "CONNECT", "BREW"]), st.text(max_size=60))
def test_any_target_gets_a_decision(router: Router[Route], method: str, raw_path: str) -> None:
    try:
        match = router.resolve(method, split_target(raw_path))
    except Malformed:
        return
    assert isinstance(match, Found | NotAllowed | NotFound | Redirect)
    if isinstance(match, Redirect):
        assert re.fullmatch(r"/(?!/)[!-~]*", match.location)


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/a/../api/tags?x=%20<", Redirect("/api/tags?x=%20<", 307)),
        ("DELETE", "//nope", Redirect("/nope", 307)),
        ("HEAD", "/api/tags/", Redirect("/api/tags", 307)),
        ("GET", "/api/version%2F", Redirect("/api/version", 301)),
        ("GET", "/v1/models/a/b/", Redirect("/v1/models/a/b", 301)),
        ("GET", "/v1/models/a b/".replace(" ", "%20"), Redirect("/v1/models/a%20b", 301)),
        ("CONNECT", "/api/tags/", NotFound()),
        ("GET", "http://other.example/nope?x", NotFound()),
        ("HEAD", "/api/ps", NotAllowed("GET")),
        ("GET", "/api/blobs/sha256:1", NotAllowed("HEAD, POST")),
        ("GET", "/v1/messages/count_tokens", NotFound()),
    ],
)
def test_routes_are_resolved_as_ollama_does(
    router: Router[Route], method: str, target: str, expected: Redirect | NotAllowed | NotFound
) -> None:
    assert router.resolve(method, split_target(target)) == expected


# -- origins and hosts, alone ----------------------------------------------------------------------------------------


def test_origins_can_be_added() -> None:
    origins = Origins(["https://Chat.example ", "chrome-extension://*", "https://*.lab", ""])
    for origin in ("https://chat.example", "chrome-extension://abc", "https://a.b.lab", "http://localhost"):
        assert origins.allows(origin), origin
    for origin in ("https://chat.example.evil", "http://a.lab", "null"):
        assert not origins.allows(origin), origin


def test_a_star_allows_every_page_and_echoes_none() -> None:
    origins = Origins(["*"])
    assert origins.judge("GET", "null", "x").headers == (("Access-Control-Allow-Origin", "*"),)
    preflight = origins.judge("OPTIONS", "http://evil.example", "x")
    assert preflight.preflight
    assert ("Access-Control-Allow-Origin", "*") in preflight.headers
    assert "Vary" not in dict(preflight.headers)


def test_a_pattern_has_one_star_at_most() -> None:
    with pytest.raises(ValueError, match="more than one"):
        Origins(["http://*.example:*"])


def test_a_page_of_the_gateway_itself_is_no_stranger() -> None:
    assert Origins().judge("OPTIONS", "http://gateway.example:8000", "gateway.example:8000").headers == ()


@pytest.mark.parametrize(
    ("header", "standing"),
    [
        ("127.0.0.1:8000", "ADDRESS"), ("10.1.2.3", "ADDRESS"), ("192.168.0.9:1", "ADDRESS"), ("172.31.0.1", "ADDRESS"),
        ("0.0.0.0", "ADDRESS"), ("[::1]:8000", "ADDRESS"), ("[::1]", "ADDRESS"), ("[fd00::1]", "ADDRESS"),
        ("[::ffff:127.0.0.1]", "ADDRESS"), ("8.8.8.8", "REFUSED"), ("172.32.0.1", "REFUSED"), ("224.0.0.1", "REFUSED"),
        ("[2001:4860:4860::8888]", "REFUSED"), ("169.254.169.254", "REFUSED"), ("LOCALHOST:1", "NAME"), ("", "NAME"),
        ("a.local", "NAME"), ("x.Internal:3", "NAME"), ("localhost.", "REFUSED"), ("localhost.evil.com", "REFUSED"),
        ("internal", "REFUSED"), ("example.com", "REFUSED"),
    ],
)  # fmt: skip
def test_hosts(header: str, standing: str) -> None:
    assert hosts.judge(header).name == standing


@pytest.mark.parametrize(
    ("bound", "host", "status"),
    [
        ("localhost", "example.com", 403),
        ("::1", "example.com", 403),
        ("127.0.0.1", "localhost", 200),
        ("0.0.0.0", "example.com", 200),
        ("192.168.1.2", "example.com", 200),
    ],
)
async def test_the_host_guard_is_for_loopback(bound: str, host: str, status: int) -> None:
    async with front(bound_host=bound) as gateway:
        assert (await send(gateway.url, "GET", "/api/version", (("Host", host),))).status == status


async def test_an_absolute_target_names_the_host() -> None:
    async with front() as gateway:
        assert (await send(gateway.url, "GET", "http://localhost:1/api/version")).status == 200
        assert (await send(gateway.url, "GET", "http://example.com/api/version")).status == 403


async def test_redirects_come_before_cors_and_hosts() -> None:
    strange = (("Host", "example.com"), ("Origin", "http://evil.example"))
    async with front() as gateway:
        for path, status in (("//api/tags", 307), ("/api/tags/", 301), ("/api/tags", 403)):
            answer = await send(gateway.url, "GET", path, strange)
            assert (answer.status, answer.header("access-control-allow-origin")) == (status, [])


async def test_a_cors_header_stands_on_errors_and_streams_too() -> None:
    async def script(exchange: Exchange, sink: Sink) -> None:
        await sink.start("application/x-ndjson", {})
        await sink.finish()

    origin = (("Origin", "http://localhost:3000"),)
    async with front(script) as gateway:
        for method, path, status in (("GET", "/nope", 404), ("GET", "/api/chat", 405), ("POST", "/api/chat", 200)):
            answer = await send(gateway.url, method, path, origin)
            assert (answer.status, answer.header("vary")) == (status, ["Origin"])
            assert answer.header("access-control-allow-origin") == ["http://localhost:3000"]
