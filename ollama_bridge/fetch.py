"""Images by URL, fetched without letting a client reach into our own network; and types seen from bytes.

Knows: aiohttp, addresses, the first bytes of image and audio formats. Must not know: dialects, providers, requests.

Whoever may send a prompt may name an address. So the address is judged where the connection is made, by the resolver
that gives it: a name that means something else a moment later is judged again, and so is every redirect.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from .errors import refuse
from .values import Media

LIMIT = 20 * 1024 * 1024  # bytes; what the large providers take at most
SECONDS = 20.0  # for all of a fetch, redirects included
REDIRECTS = 3
FETCHABLE = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})

_REDIRECTED = frozenset({301, 302, 303, 307, 308})
_NOT_PUBLIC = "image URL: the address is not a public one"
# Ranges that carry IPv4 addresses inside them, or that the standard library takes for global.
_CARRIERS = tuple(map(ipaddress.ip_network, ("2002::/16", "2001::/32", "fec0::/10", "::/96")))
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class ImageFetcher:
    """One for the process. `limit` bytes an image, `seconds` a fetch. `resolver` answers for names (the system's by
    default). `allow_private` lifts the rule on addresses; it is for tests against a server on this machine."""

    def __init__(
        self,
        *,
        limit: int = LIMIT,
        seconds: float = SECONDS,
        redirects: int = REDIRECTS,
        resolver: AbstractResolver | None = None,
        allow_private: bool = False,
    ) -> None:
        self._limit = limit
        self._seconds = seconds
        self._redirects = redirects
        self._resolver = resolver
        self._allow_private = allow_private
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, url: str) -> Media:
        """The image as data with the type its bytes show. Raises GatewayError (400, the client's) in words that name
        neither our network's addresses nor anything the other server said."""
        try:
            async with asyncio.timeout(self._seconds):
                content = await self._follow(_parsed(url))
        except TimeoutError:
            raise refuse(f"image URL: no answer within {self._seconds:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise refuse("image URL: cannot be fetched") from None
        mime = sniff(content)
        if mime not in FETCHABLE:
            raise refuse("image URL: not a PNG, JPEG, GIF or WebP image")
        return Media("image", mime, base64.b64encode(content).decode())

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _follow(self, url: URL) -> bytes:
        for _ in range(self._redirects + 1):
            self._check_literal(url)
            async with self._opened().get(url, allow_redirects=False) as response:
                if response.status not in _REDIRECTED:
                    return await self._content(response)
                location = response.headers.get("Location", "")
            url = _checked(url.join(URL(location)))
        raise refuse(f"image URL: more than {self._redirects} redirects")

    async def _content(self, response: aiohttp.ClientResponse) -> bytes:
        if response.status != 200:
            raise refuse(f"image URL: the server answered {response.status}")
        too_large = refuse(f"image URL: larger than {self._limit} bytes")
        if (response.content_length or 0) > self._limit:
            raise too_large
        content = bytearray()
        async for piece in response.content.iter_any():
            content += piece
            if len(content) > self._limit:
                raise too_large
        return bytes(content)

    def _check_literal(self, url: URL) -> None:
        """A host that is an address never reaches the resolver."""
        try:
            address = ipaddress.ip_address(url.host or "")
        except ValueError:
            return
        if not self._allow_private and not is_public(address):
            raise refuse(_NOT_PUBLIC)

    def _opened(self) -> aiohttp.ClientSession:
        """No cookies, no proxy of the environment, no connection kept, nothing unpacked (a small archive can hold a
        large image)."""
        if self._session is None:
            resolver = self._resolver or aiohttp.ThreadedResolver()
            connector = aiohttp.TCPConnector(
                resolver=resolver if self._allow_private else PublicResolver(resolver),
                use_dns_cache=False,
                force_close=True,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "ollama-bridge"},
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


class PublicResolver(AbstractResolver):
    """Resolves as `inner` does and refuses a name if any of its addresses is not public. The connection goes to the
    addresses returned here and nowhere else."""

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for result in found:
            if not is_public(ipaddress.ip_address(result["host"])):
                raise refuse(_NOT_PUBLIC)
        return found

    async def close(self) -> None:
        await self._inner.close()


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address belongs to the public internet: not private, loopback, link-local, shared (100.64/10),
    multicast, reserved or unspecified, neither itself nor as an IPv6 address that stands for an IPv4 one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.scope_id is not None or any(address in carrier for carrier in _CARRIERS):
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _parsed(url: str) -> URL:
    try:
        return _checked(URL(url.strip()))
    except ValueError:
        raise refuse("image URL: not a valid address") from None


def _checked(url: URL) -> URL:
    if url.scheme not in ("http", "https") or not url.host:
        raise refuse("image URL: only http and https addresses are fetched")
    if url.user is not None or url.password is not None:
        raise refuse("image URL: credentials in the address are not used")
    return url


# -- types from bytes ------------------------------------------------------------------------------------------------

_LEADS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_FTYP = {b"avif": "image/avif", b"heic": "image/heic", b"mif1": "image/heic", b"M4A ": "audio/mp4"}
_HEAD = 12  # bytes that tell every type above


def sniff(content: bytes) -> str | None:
    """The MIME type that the first bytes of an image or a sound show; None for anything else."""
    head = content[:_HEAD]
    for lead, mime in _LEADS:
        if head.startswith(lead):
            return mime
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _FTYP.get(head[8:12])
    return None


def sniff_base64(data: str) -> str | None:
    """`sniff` for standard base64 text, of which only the beginning is decoded."""
    head = data[: _HEAD // 3 * 4]
    try:
        return sniff(base64.b64decode(head + "=" * (-len(head) % 4)))
    except (binascii.Error, ValueError):
        return None
