"""Images by URL: what is fetched, and that no client reaches into our own network (product.md 5, row 21)."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from ollama_bridge.errors import GatewayError, Scope
from ollama_bridge.fetch import ImageFetcher, PublicResolver, image_type
from ollama_bridge.values import Media

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
IMAGES = {
    "image/png": PNG,
    "image/jpeg": b"\xff\xd8\xff\xe0" + bytes(40),
    "image/gif": b"GIF89a" + bytes(40),
    "image/webp": b"RIFF\x00\x00\x00\x00WEBP" + bytes(40),
}
PUBLIC = "203.0.114.7"  # of nobody's test range: an ordinary address


class Names(AbstractResolver):
    """A resolver whose answers are written down. Each name gives its answers one after the other, the last for ever."""

    def __init__(self, **answers: list[str]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        addresses = self.answers[host.replace(".", "_")]
        address = addresses.pop(0) if len(addresses) > 1 else addresses[0]
        return [
            ResolveResult(
                hostname=host, host=each, port=port, proto=0, flags=socket.AI_NUMERICHOST,
                family=socket.AF_INET6 if ":" in each else socket.AF_INET,
            )
            for each in address.split(",")
        ]  # fmt: skip

    async def close(self) -> None:
        pass


class Site:
    """A web server on loopback. `paths` are what it answers, `seen` the requests it got."""

    def __init__(self) -> None:
        self.paths: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {}
        self.seen: list[web.Request] = []
        self.port = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def serve(self, path: str, body: bytes, status: int = 200, **headers: str) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            return web.Response(body=body, status=status, headers=headers)

        self.paths[path] = answer

    def redirect(self, path: str, target: str, status: int = 302) -> None:
        self.serve(path, b"", status, Location=target)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        return await self.paths[request.path](request)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    app = web.Application()
    app.router.add_get("/{path:.*}", site.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    site.port = runner.addresses[0][1]
    yield site
    await runner.cleanup()


async def fetched(fetcher: ImageFetcher, url: str) -> Media:
    try:
        return await fetcher.fetch(url)
    finally:
        await fetcher.close()


async def refusal(fetcher: ImageFetcher, url: str) -> str:
    with pytest.raises(GatewayError) as caught:
        await fetched(fetcher, url)
    assert (caught.value.status, caught.value.scope, caught.value.early) == (400, Scope.CALLER, True)
    return caught.value.message


def near(**changes: object) -> ImageFetcher:
    """A fetcher that may reach the site of the test."""
    return ImageFetcher(trusted={"127.0.0.1"}, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("mime", IMAGES)
async def test_fetches_an_image_and_sees_its_type_from_its_bytes(site: Site, mime: str) -> None:
    site.serve("/a", IMAGES[mime], **{"Content-Type": "text/plain"})
    media = await fetched(near(), site.url("/a?x=1#y"))
    assert media == Media("image", mime, base64.b64encode(IMAGES[mime]).decode())


async def test_sends_neither_cookies_nor_what_the_client_sent(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    site.serve("/cookie", PNG, **{"Set-Cookie": "a=b"})
    fetcher = near()
    await fetcher.fetch(site.url("/cookie"))
    await fetched(fetcher, site.url("/cookie"))
    assert len(site.seen) == 2
    for request in site.seen:
        assert "Cookie" not in request.headers and "Authorization" not in request.headers
        assert request.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_follows_redirects(site: Site, status: int) -> None:
    site.redirect("/1", "/2", status)
    site.redirect("/2", "3", status)
    site.redirect("/3", site.url("/4"), status)
    site.serve("/4", PNG)
    assert (await fetched(near(), site.url("/1"))).mime == "image/png"


async def test_three_redirects_at_most(site: Site) -> None:
    for step in range(4):
        site.redirect(f"/{step}", f"/{step + 1}")
    site.serve("/4", PNG)
    assert await refusal(near(), site.url("/0")) == "image URL: more than 3 redirects"
    assert len(site.seen) == 4


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("ftp://h/a.png", "only http and https"),
        ("http://u:p@127.0.0.1/a.png", "credentials"),
        ("http://[::1", "cannot be fetched"),
        ("", "more than 3 redirects"),
    ],
)
async def test_a_redirect_is_judged_like_the_first_address(site: Site, target: str, words: str) -> None:
    site.redirect("/1", target)
    assert words in await refusal(near(), site.url("/1"))


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (PNG, 404, "the server answered 404"),
        (PNG, 206, "the server answered 206"),
        (PNG, 304, "the server answered 304"),
        (b"<html>secret</html>", 200, "not a PNG, JPEG, GIF or WebP image"),
        (b"", 200, "not a PNG, JPEG, GIF or WebP image"),
        (b"BM" + bytes(60), 200, "not a PNG, JPEG, GIF or WebP image"),
        (PNG + bytes(1000), 200, "larger than 100 bytes"),
    ],
)
async def test_what_is_no_usable_image_is_refused(site: Site, body: bytes, status: int, words: str) -> None:
    site.serve("/a", body, status)
    message = await refusal(near(limit=100), site.url("/a"))
    assert words in message and "secret" not in message


async def test_the_size_is_limited_without_a_stated_length(site: Site) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(PNG)
        except ConnectionError:
            return response

    site.paths["/a"] = endless
    assert "larger than 100000 bytes" in await refusal(near(limit=100_000), site.url("/a"))


async def test_packed_answers_are_not_unpacked(site: Site) -> None:
    site.serve("/a", b"\x1f\x8b" + bytes(50), **{"Content-Encoding": "gzip"})
    assert "not a PNG" in await refusal(near(), site.url("/a"))


async def test_the_time_is_limited(site: Site) -> None:
    release = asyncio.Event()

    async def silent(_: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    site.paths["/a"] = silent
    assert await refusal(near(seconds=0.05), site.url("/a")) == "image URL: no answer within 0.05 s"
    release.set()


async def test_a_server_that_is_not_there_is_named_by_no_address() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert await refusal(near(), f"http://127.0.0.1:{port}/a.png") == "image URL: cannot be fetched"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.org/a.png", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("data:image/png;base64,aGk=", "only http and https"),
        ("//example.org/a.png", "only http and https"),
        ("http:///a.png", "only http and https"),
        ("http://user@example.org/a.png", "credentials"),
        ("http://user:pass@example.org/a.png", "credentials"),
        ("http://example.org:99999/a.png", "not a valid address"),
        ("http://[::1/a.png", "not a valid address"),
        ("", "only http and https"),
    ],
)
async def test_odd_addresses_are_refused(url: str, words: str) -> None:
    assert words in await refusal(ImageFetcher(), url)


INSIDE = [
    "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "0.1.2.3", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::1", "::", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1", "fe80::1", "fec0::1",
    "fc00::1", "fd12::1", "ff02::1", "ff0e::1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1",
    "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1", "5f00::1", "100::1",
]  # fmt: skip
OUTSIDE = [PUBLIC, "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]


@pytest.mark.parametrize("address", INSIDE)
async def test_an_inside_address_is_refused_as_a_literal(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    for scheme in ("http", "https"):
        assert await refusal(ImageFetcher(), f"{scheme}://{host}:8000/a.png") == "image URL: not a public address"


@pytest.mark.parametrize("address", INSIDE)
async def test_an_inside_address_is_refused_behind_a_name(address: str) -> None:
    for answer in (address, f"{PUBLIC},{address}"):
        names = Names(pictures_example=[answer])
        url = "http://pictures.example/a.png"
        assert await refusal(ImageFetcher(resolver=names), url) == "image URL: not a public address"
        assert names.asked == ["pictures.example"]


@pytest.mark.parametrize("address", OUTSIDE)
async def test_a_public_address_is_returned_as_it_is(address: str) -> None:
    found = await PublicResolver(Names(h=[address])).resolve("h", 80)
    assert [each["host"] for each in found] == [address]


@pytest.mark.parametrize(
    "host", ["2130706433", "127.1", "0177.0.0.1", "0x7f000001", "0x7f.1", "127.0.0.1.", "localhost", "[fe80::1%25lo]"]
)
async def test_odd_spellings_of_an_inside_address_are_refused(host: str, site: Site) -> None:
    """With the system's own resolver: nothing is reached, whatever it makes of them."""
    await refusal(ImageFetcher(), f"http://{host}:{site.port}/a.png")
    assert site.seen == []


async def test_a_name_that_changes_its_meaning_is_judged_at_the_connection(site: Site) -> None:
    """The name is public when someone asks first, and ours a moment later."""
    names = Names(rebind_example=[PUBLIC, "127.0.0.1"])
    assert (await names.resolve("rebind.example"))[0]["host"] == PUBLIC
    assert "not a public address" in await refusal(ImageFetcher(resolver=names), site.url("/a", "rebind.example"))
    assert site.seen == []


async def test_a_redirect_to_the_inside_is_refused(site: Site) -> None:
    """The first host is trusted; where it sends us is judged by the rule."""
    site.redirect("/literal", "http://127.0.0.1:1/a.png")
    site.redirect("/name", "http://inner.example/a.png")
    for path in ("/literal", "/name"):
        names = Names(friend_example=["127.0.0.1"], inner_example=["10.0.0.1"])
        fetcher = ImageFetcher(resolver=names, trusted={"friend.example"})
        assert "not a public address" in await refusal(fetcher, site.url(path, "friend.example"))
    assert [request.path for request in site.seen] == ["/literal", "/name"]


@pytest.mark.parametrize(
    ("content", "mime"),
    [
        *((content, mime) for mime, content in IMAGES.items()),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"RIFF", None),
        (b"", None),
        (b"GIF", None),
    ],
)
def test_image_type(content: bytes, mime: str | None) -> None:
    assert image_type(content) == mime
