"""The one shared key, in every form a client can send it (product.md 4).

Knows: where keys stand in a request. Must not know: routes, shapes of refusals, aiohttp.

    Authorization: Bearer KEY · Authorization: Basic base64(anyone:KEY) · X-API-Key: KEY · /k/KEY/api/chat
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import replace

from .router import Target, decode


def split_key(target: Target) -> tuple[str, str, Target]:
    """`/k/KEY/rest` -> ("/k/KEY", KEY, target of /rest); without such a prefix ("", "", target)."""
    if not target.path.startswith("/k/"):
        return "", "", target
    raw, _, rest = target.path[3:].partition("/")
    key = decode(raw)
    if key in ("", ".", ".."):
        return "", "", target
    return f"/k/{raw}", key, replace(target, path="/" + rest)


class SharedKey:
    """Without a key everything is open, whatever a client sends: many send a dummy (clients.md 4.6)."""

    def __init__(self, key: str | None) -> None:
        self._key = key.encode() if key else None

    def admits(self, headers: Mapping[str, str], path_key: str) -> bool:
        """`headers` compare names without case. One right key among several is enough."""
        if self._key is None:
            return True
        admitted = False
        for given in _presented(headers, path_key):
            admitted |= hmac.compare_digest(given, self._key)
        return admitted


def _presented(headers: Mapping[str, str], path_key: str) -> Iterator[bytes]:
    scheme, _, credential = headers.get("Authorization", "").partition(" ")
    credential = credential.strip()
    if scheme.lower() == "bearer":
        yield _bytes(credential)
    elif scheme.lower() == "basic":
        try:
            yield base64.b64decode(_bytes(credential)).partition(b":")[2]
        except binascii.Error:
            pass
    if "X-API-Key" in headers:
        yield _bytes(headers["X-API-Key"].strip())
    if path_key:
        yield _bytes(path_key)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
