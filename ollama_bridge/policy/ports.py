"""What the pipeline needs of the layers around it, named by the pipeline and put in by `app`.

Knows: the shapes of those ports. Must not know: aiohttp, sockets, files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..dialects.base import Answer, Dialect
from ..providers.base import Upstream


@dataclass(slots=True)
class Exchange:
    """One request of a client, whole. `body` is the decoded (un-zstd-ed) HTTP body; the pipeline sets it to b"" once
    it has been read, so that it does not live while the answer streams. `headers` have lower-case names; the values of
    one that came several times stand together, with commas. `caller`: whose conversations these are, "" for everybody
    who may ask."""

    dialect: Dialect
    kind: str  # Endpoint kind
    path: str
    body: bytes
    headers: Mapping[str, str]
    request_id: str
    started_ns: int  # time.perf_counter_ns() when the request had come in
    notes: dict[str, str] = field(default_factory=dict)  # X-Bridge-* headers of the answer
    caller: str = ""


class ClientGone(Exception):
    """The client closed the connection; writing is pointless."""


class Sink(Protocol):
    """Where an answer goes. Exactly one of `answer` or `start … finish` is used. Headers of Exchange.notes and the
    X-Request-ID are added by the sink. `answer`, `start`, `write` and `finish` raise ClientGone."""

    started: bool  # status and headers are out

    async def answer(self, answer: Answer) -> None: ...

    async def start(self, content_type: str, headers: Mapping[str, str]) -> None:
        """Status 200 and headers of a stream."""
        ...

    async def write(self, data: bytes) -> None:
        """Bytes of the stream as one chunk; waits while the client reads slowly, within a limit."""
        ...

    def beat(self, data: bytes) -> None:
        """A heart-beat: a few bytes, dropped when the client is not reading. Never waits, never raises."""
        ...

    async def finish(self) -> None:
        """Clean end of the stream (the terminating chunk)."""
        ...

    def abort(self) -> None:
        """Unclean end: the connection is closed without the terminating chunk."""
        ...


class Residency(Protocol):
    """Which models count as loaded: what /api/ps shows. Seconds; a negative keep_alive is for ever, None leaves the
    current one of a loaded model and is `default` for a new load (None: the residency's own)."""

    def touch(self, name: str, keep_alive: float | None, num_ctx: int | None, default: float | None = None) -> None: ...

    def unload(self, name: str) -> None: ...


class Log(Protocol):
    """A structured logger. Keyword values are never prompts, keys or answers."""

    def info(self, event: str, **values: object) -> object: ...

    def warning(self, event: str, **values: object) -> object: ...

    def error(self, event: str, **values: object) -> object: ...


class Capture(Protocol):
    """Keeps what came in, what was sent upstream and what came back, per request id. For finding out why an answer
    is odd; off unless asked for."""

    def inbound(self, request_id: str, path: str, body: bytes) -> None: ...

    def sent(self, request_id: str, attempt: int, provider: str, kind: str, body: bytes) -> None: ...

    def received(self, request_id: str, attempt: int, data: bytes) -> None: ...

    def watch(self, request_id: str, attempt: int, upstream: Upstream) -> Upstream:
        """The same answer, each byte of it kept as it is read."""
        ...
