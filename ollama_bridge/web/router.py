"""Which route a request line names.

Knows: methods and paths, decided as Ollama's two routers decide them (ollama-protocol.md 0.3): a Go ServeMux, which
cleans paths, in front of gin, which knows the routes. Must not know: aiohttp, what a route does.

    GET  //api/tags   -> Redirect("/api/tags", 307)        whether or not it is registered
    GET  /api/tags/   -> Redirect("/api/tags", 301)        307 for other methods; only if that method is registered
    GET  /api/chat    -> NotAllowed("POST")
    GET  /%61pi/tags  -> Found(the route of /api/tags)
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar
from urllib.parse import quote, unquote_to_bytes, urlsplit

ALLOW_ORDER = ("HEAD", "GET", "POST", "DELETE")  # the order in which Ollama lists them in `Allow`

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PATH_SAFE = "/$&+,:;=@"  # what Go leaves unescaped in a path, beside letters, digits and -_.~
_VISIBLE = "".join(map(chr, range(0x21, 0x7F)))


class Malformed(ValueError):
    """The request target is none: answered 400 before any routing."""


@dataclass(frozen=True, slots=True)
class Target:
    """A request target, split. `path` is still percent-encoded and starts with "/"; `query` starts with "?" or is
    empty; `host` is that of an absolute target (it then replaces the Host header)."""

    path: str
    query: str = ""
    host: str | None = None


def split_target(raw: str) -> Target:
    """Raises Malformed for `*`, an authority, a bad percent escape in the path."""
    host = None
    if not raw.startswith("/"):
        try:
            parts = urlsplit(raw)
        except ValueError:
            raise Malformed(raw) from None
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise Malformed(raw)
        host = parts.netloc.rpartition("@")[2]
        raw = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    path, mark, query = raw.partition("?")
    if _BAD_ESCAPE.search(path):
        raise Malformed(raw)
    return Target(path, mark + query, host)


class Registered(Protocol):
    """What the router must know of a route. `path` is literal, or ends in `{name}` (one segment) or `{name...}`
    (the rest, slashes included)."""

    @property
    def methods(self) -> Sequence[str]: ...

    @property
    def path(self) -> str: ...


R = TypeVar("R", bound=Registered)


@dataclass(frozen=True, slots=True)
class Found(Generic[R]):
    """`tail` is what the open end of the path stands for, decoded."""

    route: R
    tail: str = ""


@dataclass(frozen=True, slots=True)
class Redirect:
    location: str
    status: int


@dataclass(frozen=True, slots=True)
class NotAllowed:
    """The path exists for other methods: `allow` names them."""

    allow: str


@dataclass(frozen=True, slots=True)
class NotFound:
    pass


class Router(Generic[R]):
    def __init__(self, routes: Iterable[R]) -> None:
        self._literal: dict[str, dict[str, R]] = {}
        self._open: dict[tuple[str, bool], dict[str, R]] = {}  # (path before the open end, one segment only)
        for route in routes:
            start, brace, name = route.path.partition("{")
            if brace:
                by_method = self._open.setdefault((start, "..." not in name), {})
            else:
                by_method = self._literal.setdefault(start, {})
            by_method.update(dict.fromkeys(route.methods, route))

    def resolve(self, method: str, target: Target, prefix: str = "") -> Found[R] | Redirect | NotAllowed | NotFound:
        """`prefix` is what stood before the path and was cut off; redirects put it back."""
        path = clean(target.path)
        if path != target.path and method != "CONNECT":
            return Redirect(prefix + _visible(path) + _visible(target.query), 307)
        decoded = decode(path)
        by_method, tail = self._lookup(decoded)
        if method in by_method:
            return Found(by_method[method], tail)
        if decoded.endswith("/") and method in self._lookup(decoded[:-1])[0]:
            location = prefix + quote(decoded[:-1], safe=_PATH_SAFE) + _visible(target.query)
            return Redirect(location, 301 if method == "GET" else 307)
        if by_method:
            return NotAllowed(", ".join(known for known in ALLOW_ORDER if known in by_method))
        return NotFound()

    def _lookup(self, path: str) -> tuple[dict[str, R], str]:
        if path in self._literal:
            return self._literal[path], ""
        for (start, one_segment), by_method in self._open.items():
            tail = path.removeprefix(start)
            if tail != path and tail and not tail.endswith("/") and not (one_segment and "/" in tail):
                return by_method, tail
        return {}, ""


def clean(path: str) -> str:
    """A path without `//`, `/./` and `/../`, as Go's ServeMux redirects to it; a last slash stays."""
    if "//" not in path and "/." not in path:
        return path
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


def decode(path: str) -> str:
    """Percent escapes decoded; what is no UTF-8 becomes U+FFFD."""
    if "%" not in path and path.isascii():
        return path
    return unquote_to_bytes(path.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")


def _visible(text: str) -> str:
    """Fit for a header: everything beyond visible ASCII percent-encoded, escapes left as they are."""
    return quote(text.encode("utf-8", "surrogateescape"), safe=_VISIBLE)
