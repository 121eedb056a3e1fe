"""Durations, sizes and addresses as people write them in a configuration.

Knows: those three notations. Must not know: where a value stands in the file, pydantic, the environment.

Every function raises ValueError with a sentence that says what was expected and never repeats the value: whether it may
be shown is judged by `problems`.
"""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass

DEFAULT_PORT = 8000

_PART = r"(\d+(?:\.\d+)?)"
_DURATION = re.compile(rf"(?:{_PART}h)?(?:{_PART}m(?!s))?(?:{_PART}s)?(?:{_PART}ms)?", re.ASCII)
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?", re.ASCII)
_SIZE = re.compile(r"(\d+)\s*([kmg]i?b|b)?", re.IGNORECASE | re.ASCII)
_SIZE_UNITS = {
    "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3,
}  # fmt: skip


def parse_duration(value: object) -> float:
    """`5s`, `1m30s`, `300ms`, `2h`, or a number of seconds -> seconds, not negative."""
    seconds = _seconds(value)
    if seconds is None or seconds < 0:
        raise ValueError("expected a duration such as 20s, 1m30s or 300ms, or a number of seconds")
    return seconds


def parse_keep_alive(value: object) -> float:
    """As parse_duration; a negative number or duration means for ever (ollama-protocol.md 2.1)."""
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError("expected a duration such as 5m, a number of seconds, or -1 for ever")
    return seconds


def _seconds(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    sign = -1.0 if text.startswith("-") else 1.0
    text = text.removeprefix("-")
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        return None
    hours, minutes, seconds, millis = (float(part or 0) for part in match.groups())
    return sign * (hours * 3600 + minutes * 60 + seconds + millis / 1000)


def parse_size(value: object) -> int:
    """`256MiB`, `10MB`, `64KiB` or a number of bytes -> bytes, at least one."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        size = int(match[1]) * _SIZE_UNITS[(match[2] or "b").lower()] if match else 0
    if size < 1:
        raise ValueError("expected a size such as 256MiB or 10MB, or a number of bytes")
    return size


@dataclass(frozen=True, slots=True)
class Address:
    """Where the gateway listens. `host` is a name or an IP address without brackets; port 0 takes any free one."""

    host: str = "localhost"
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it. A name other than `localhost` counts as reachable from outside."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")


def parse_address(value: object) -> Address:
    """`HOST:PORT`, `HOST`, `PORT`, `:PORT`, `[::1]:8000`. Without a host it is localhost (as in OLLAMA_HOST, where
    `:11434` is loopback too), without a port 8000."""
    wrong = ValueError("expected HOST:PORT, such as localhost:8000, 11434 or [::1]:8000")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise wrong
    host, port = _split_host(value.strip())
    if port and not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError("expected a port between 0 and 65535")
    try:
        host = str(ipaddress.ip_address(host)) if host else "localhost"
    except ValueError:
        # Only digits and dots, yet no address: 300.1.1.1 or 127.1, which resolvers read in surprising ways.
        if not _HOST_NAME.fullmatch(host) or re.fullmatch(r"[0-9.]+", host):
            raise wrong from None
        host = host.lower()
    return Address(host, int(port) if port else DEFAULT_PORT)


def _split_host(text: str) -> tuple[str, str]:
    """-> (host, port), either may be empty. A bare number is a port; a bare IPv6 address has no port."""
    if text.isdigit():
        return "", text
    bracketed = re.fullmatch(r"\[([^\]]*:[^\]]*)\](?::(.*))?", text)
    if bracketed:
        return bracketed[1], bracketed[2] or ""
    if text.count(":") > 1:
        return text, ""
    host, _, port = text.partition(":")
    return host, port
