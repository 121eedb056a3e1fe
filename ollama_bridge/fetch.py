"""Images by URL, fetched without letting a client reach into our own network.

Knows: aiohttp, addresses, the first bytes of four image formats. Must not know: dialects, providers, requests.

Whoever may send a prompt may name an address. So the address is judged where the connection is made, by the resolver
that gives it: a name that means something else a moment later is judged again, and so is every redirect.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
from collections.abc import Collection

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from .errors import refuse
from .providers.addresses import is_public, literal
from .values import Media

LIMIT = 20 * 1024 * 1024  # bytes; what the large providers take at most
SECONDS = 20.0  # for all of a fetch, redirects included
REDIRECTS = 3

_REDIRECTED = frozenset({301, 302, 303, 307, 308})
_NOT_PUBLIC = "image URL: not a public address"
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # stands for the IPv4 address in its last 32 bits
# 6to4, Teredo (tunnels to an IPv4 address), and protocol assignments that older standard libraries call global.
_NOT_ROUTED = tuple(map(ipaddress.ip_network, ("2002::/16", "2001::/32", "192.0.0.0/24", "192.88.99.0/24")))


class ImageFetcher:
    """One for the process. `limit` bytes an image, `seconds` a fetch. `resolver` answers for names (the system's by
    default). `trusted` hosts, as they stand in a URL, may lie inside: for a server of one's own."""

    def __init__(
        self,
        *,
        limit: int = LIMIT,
        seconds: float = SECONDS,
        redirects: int = REDIRECTS,
        resolver: AbstractResolver | None = None,
        trusted: Collection[str] = (),
    ) -> None:
        self._limit = limit
        self._seconds = seconds
        self._redirects = redirects
        self._resolver = resolver
        self._trusted = trusted
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
        mime = image_type(content)
        if mime is None:
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
        host = url.host or ""
        if host not in self._trusted and literal(host) is not None and not _is_public(host):
            raise refuse(_NOT_PUBLIC)

    def _opened(self) -> aiohttp.ClientSession:
        """No cookies, no proxy of the environment, no connection kept, nothing unpacked (a small archive can hold a
        large image)."""
        if self._session is None:
            resolver = PublicResolver(self._resolver or aiohttp.ThreadedResolver(), self._trusted)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "ollama-bridge"},
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


class PublicResolver(AbstractResolver):
    """Resolves as `inner` does and refuses a name that is not trusted if any of its addresses is not public. The
    connection goes to the addresses returned here and nowhere else."""

    def __init__(self, inner: AbstractResolver, trusted: Collection[str] = ()) -> None:
        self._inner = inner
        self._trusted = trusted

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if host not in self._trusted and not all(_is_public(result["host"]) for result in found):
            raise refuse(_NOT_PUBLIC)
        return found

    async def close(self) -> None:
        await self._inner.close()


def _is_public(host: str) -> bool:
    """Whether an address belongs to the public internet, neither itself nor as an IPv6 address that stands for an IPv4
    one. Of IPv6 only global unicast counts (2000::/3): around it lie ranges that some standard libraries call global
    although hosts route them inside."""
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _is_public(str(address.ipv4_mapped))
        if address in _NAT64:
            return _is_public(str(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)))
        if address not in _GLOBAL_UNICAST:
            return False
    return is_public(host) and not any(address in network for network in _NOT_ROUTED)


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


_LEADS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


def image_type(content: bytes) -> str | None:
    """The MIME type of an image that every provider with eyes takes, by its first bytes; None for anything else."""
    for lead, mime in _LEADS:
        if content.startswith(lead):
            return mime
    return "image/webp" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None
