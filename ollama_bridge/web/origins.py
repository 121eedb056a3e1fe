"""Which web pages may call: Ollama's CORS rules (ollama-protocol.md 0.4).

Knows: origins and the headers browsers want. Must not know: routes, keys, aiohttp.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_LOCAL = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - origins of pages, nothing is bound here
DEFAULTS = (
    *(f"{scheme}://{host}{port}" for host in _LOCAL for scheme in ("http", "https") for port in ("", ":*")),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)

_ALLOW_HEADERS = (
    "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,X-Stainless-Async,"
    "X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,"
    "X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
    "X-Stainless-Runtime-Version,X-Stainless-Timeout"
)
_PREFLIGHT = (
    ("Access-Control-Allow-Headers", _ALLOW_HEADERS),
    ("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
    ("Access-Control-Max-Age", "43200"),
)
_PREFLIGHT_VARY = (
    ("Vary", "Origin"),
    ("Vary", "Access-Control-Request-Method"),
    ("Vary", "Access-Control-Request-Headers"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """refused: 403. preflight: 204. `headers` go with whatever is answered."""

    refused: bool = False
    preflight: bool = False
    headers: tuple[tuple[str, str], ...] = ()


_NO_PAGE = Verdict()
_REFUSED = Verdict(refused=True)


class Origins:
    """The allow list. Patterns are compared as they are, with at most one `*`; a bare `*` allows every page."""

    def __init__(self, extra: Iterable[str] = ()) -> None:
        """Raises ValueError for a pattern with more than one `*`."""
        self._any = False
        self._exact: set[str] = set()
        self._wild: list[tuple[str, str]] = []
        for pattern in (*DEFAULTS, *(text.strip().lower() for text in extra)):
            if pattern.count("*") > 1:
                raise ValueError(f"origin {pattern!r} has more than one *")
            if pattern == "*":
                self._any = True
            elif "*" in pattern:
                start, _, end = pattern.partition("*")
                self._wild.append((start, end))
            elif pattern:
                self._exact.add(pattern)

    def allows(self, origin: str) -> bool:
        return (
            self._any
            or origin in self._exact
            or any(origin.startswith(start) and origin.endswith(end) for start, end in self._wild)
        )

    def judge(self, method: str, origin: str, host: str) -> Verdict:
        """`origin` and `host` are header values, "" when absent."""
        if not origin or origin in (f"http://{host}", f"https://{host}"):
            return _NO_PAGE
        if not self.allows(origin):
            return _REFUSED
        echo = (("Access-Control-Allow-Origin", "*" if self._any else origin),)
        if method == "OPTIONS":
            return Verdict(preflight=True, headers=_PREFLIGHT + echo + (() if self._any else _PREFLIGHT_VARY))
        return Verdict(headers=echo + (() if self._any else (("Vary", "Origin"),)))
