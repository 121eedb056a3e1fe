"""Which network addresses are ours and which are the world's.

Knows: IP ranges and the names of the local host. Must not know: providers, requests, aiohttp.

Two questions that are not each other's opposite: may a strict request go there (`is_private`, `stays_here`), and may
a picture be fetched from there on a client's word (`is_public`). An address in doubt (shared address space,
documentation ranges) is neither.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

_OURS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8",  # loopback
        "10.0.0.0/8",  # RFC 1918
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",  # link-local
        "0.0.0.0/32",  # "this host": connecting to it reaches loopback
        "::1/128",
        "::/128",
        "fc00::/7",  # unique local
        "fe80::/10",  # link-local
    )
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def literal(host: str) -> Address | None:
    """The address that `host` spells out (brackets and a zone are allowed), None for a name. Shortened forms such as
    `127.1` count as names: only resolving shows where they lead."""
    address = _spelled(host)
    if isinstance(address, ipaddress.IPv6Address):
        # ::ffff:a.b.c.d, 6to4 and Teredo carry an IPv4 address, and that is where they lead.
        teredo = address.teredo
        return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None) or address
    return address


def _spelled(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def is_private(host: str) -> bool | None:
    """Whether `host` is this machine or a private network: True or False for an IP literal, True for the names of the
    local host, None for any other name. A tunnel (6to4, Teredo) to a private address is none: packets to it set out for
    the internet."""
    address = _spelled(host)
    if address is not None:
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in _OURS)
    name = host.rstrip(".").lower()
    return True if name == "localhost" or name.endswith(".localhost") else None


def is_public(address: str) -> bool:
    """Whether an IP literal is an ordinary address of the internet; False for a name."""
    found = literal(address)
    return found is not None and found.is_global and not found.is_multicast


def stays_here(url: str) -> bool:
    """Whether a base URL leads to loopback or a private network without asking a resolver. False for a name other
    than localhost: what it resolves to may change."""
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return False
    return bool(host) and is_private(host or "") is True
