"""The Host guard: a page of another site cannot reach a loopback gateway by rebinding its DNS name to it
(ollama-protocol.md 0.5).

Knows: which names and addresses are this machine's or a private network's. Must not know: routes, aiohttp.
"""

from __future__ import annotations

import socket
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_PRIVATE = tuple(ip_network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
_LOCAL_ENDS = (".localhost", ".local", ".internal")


class Standing(Enum):
    ADDRESS = "address"  # passes
    NAME = "name"  # passes, and an OPTIONS is answered 204 right away
    REFUSED = "refused"


def is_loopback(host: str) -> bool:
    """Whether listening on `host` is listening to this machine only."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def judge(header: str) -> Standing:
    """`header` is the Host header, "" when absent."""
    standing = _judge_alone(header)
    if isinstance(standing, Standing):
        return standing
    return Standing.ADDRESS if _is_own(standing) else Standing.REFUSED


@lru_cache(maxsize=64)
def _judge_alone(header: str) -> Standing | IPv4Address | IPv6Address:
    """The verdict, or the address on which it depends whether this machine has it now. The machine's name is taken for
    one that does not change."""
    host = _without_port(header)
    address = _address(host)
    if address is not None:
        if address.is_loopback or address.is_unspecified or any(address in net for net in _PRIVATE):
            return Standing.ADDRESS
        return Standing.REFUSED if address.is_multicast else address
    host = host.lower()
    if host in ("", "localhost", socket.gethostname().lower()) or host.endswith(_LOCAL_ENDS):
        return Standing.NAME
    return Standing.REFUSED


def _without_port(header: str) -> str:
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0] if header.count(":") == 1 else header


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_own(address: IPv4Address | IPv6Address) -> bool:
    """Only an address of this machine can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
