"""What the web layer needs of the layers around it, and how it is set.

Knows: the shapes of those ports. Must not know: how the pipeline, the library or the metrics are made
(`app` puts them in).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..dialects.base import Answer, Dialect
from ..policy.ports import Exchange, Sink


class Pipeline(Protocol):
    async def run(self, exchange: Exchange, sink: Sink) -> None:
        """Answers through the sink. Raises nothing but CancelledError and ClientGone."""
        ...

    def end(self) -> None:
        """Requests under way end with an error that says that the gateway is going down."""
        ...


class Library(Protocol):
    """The model library behind the listing endpoints. All methods raise GatewayError."""

    async def tags(self) -> Answer: ...

    async def ps(self) -> Answer: ...

    async def show(self, body: bytes, user_agent: str) -> Answer: ...

    async def openai_models(self) -> Answer: ...

    async def openai_model(self, name: str) -> Answer: ...


class Metrics(Protocol):
    def exposition(self) -> tuple[bytes, str]:
        """-> (the page, its content type), as Prometheus reads it. Called in a thread of its own."""
        ...

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """`route` is the pattern of the table (never the client's own path). Status 499: the client left first."""
        ...


class Log(Protocol):
    """A structlog logger."""

    def info(self, event: str, **fields: object) -> object: ...

    def error(self, event: str, **fields: object) -> object: ...


State = Callable[[], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Services:
    """`dialects` holds "ollama", "openai" and "plain": the codecs of the doors. `state`: how things are, for
    /health?verbose=1, as members of a JSON object."""

    pipeline: Pipeline
    library: Library
    dialects: Mapping[str, Dialect]
    metrics: Metrics
    log: Log
    state: State


@dataclass(frozen=True, slots=True)
class WebSettings:
    """version: the Ollama API that is emulated. origins: browser origins beside Ollama's own, one `*` each at most.
    bound_host: the address listened on since the start (a loopback one switches the Host guard on). api_key: the one
    shared key, None for an open gateway. max_body: bytes of a request body. head_deadline: seconds for its head.
    sender_idle: seconds without a byte of the request body; sender_rate: bytes a second at which it must come after
    that. write_deadline: seconds in which a client must take what was written to it. linger: seconds in which a client
    may still send what nobody reads, so that it sees the answer."""

    version: str = "0.33.0"
    origins: Sequence[str] = ()
    bound_host: str = "localhost"
    api_key: str | None = None
    max_body: int = 256 * 1024 * 1024
    head_deadline: float = 60.0
    sender_idle: float = 60.0
    sender_rate: float = 1024.0
    write_deadline: float = 120.0
    linger: float = 5.0
