"""Heads of requests that an SDK has written, kept so that they can be sent again with other bodies.

Between two calls of one SDK client for the same path, stream flag and limits only the length of the body differs in
what the client sends (performance.md 9.9; tests/test_sdks.py watches it). So the SDK writes the first head of each
kind, and what it takes to write one, more than everything else of a request, is spent once.

Knows: what a head is, and how long it may be trusted. Must not know: any SDK, connections, what a body says.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from multidict import CIMultiDict
from yarl import URL

LIFETIME = 3600.0  # seconds; an SDK that renews a credential does so with the next head it writes


@dataclass(frozen=True, slots=True)
class Head:
    """Everything before the body. `headers` in the order in which they are sent."""

    method: str
    url: URL
    headers: CIMultiDict[str]  # what aiohttp makes of any other form, for each request anew

    def for_body(self, body: bytes | None) -> CIMultiDict[str]:
        """The headers with this body's length in the place of the first one's."""
        headers = self.headers.copy()
        if "content-length" in headers:
            headers["content-length"] = str(len(body or b""))
        return headers


class Heads:
    """The heads of one SDK client, by whatever they depend on. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: dict[Hashable, tuple[float, Head]] = {}

    def get(self, kind: Hashable) -> Head | None:
        kept = self._kept.get(kind)
        return kept[1] if kept is not None and self._clock() < kept[0] else None

    def keep(self, kind: Hashable, head: Head) -> None:
        self._kept[kind] = (self._clock() + LIFETIME, head)

    def forget(self) -> None:
        self._kept.clear()
