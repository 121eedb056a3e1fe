"""What a provider is: one configured account, reached through one SDK or client. An authenticated transport only.

Knows: how a call goes out and bytes come back. Must not know: policy, translation, which client asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol

from ..dialects.base import Profile


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. connect: to open a connection. first_byte: until the answer's headers. first_token: until the first
    content of a stream. idle: longest silence inside a stream. total: the whole call. The middle three hold for
    streams only. 0 switches one off. `thinking`: what holds for models that think, where that is something else."""

    connect: float = 5.0
    first_byte: float = 60.0
    first_token: float = 120.0
    idle: float = 120.0
    total: float = 600.0
    thinking: Timeouts | None = field(default=None, compare=False)


@dataclass(slots=True)
class Call:
    """One attempt. `kind` is an Endpoint kind of `dialect`, "" for the provider's own; `body` either the value to
    encode or bytes to send as they are. `model` is the upstream name, for wires that have it in the path.
    `request_id` is ours, for the log."""

    kind: str
    body: dict[str, Any] | bytes
    stream: bool
    timeouts: Timeouts
    request_id: str = ""
    model: str = ""
    dialect: str = ""


class Upstream(Protocol):
    """An answer with a status below 400, body not yet read."""

    status: int
    headers: Mapping[str, str]  # to be asked for lower-case names

    async def read(self) -> bytes:
        """All that has arrived, at least one byte; b"" at the end. Safe to cancel: nothing is lost. Raises GatewayError
        when the connection breaks."""
        ...

    async def body(self, limit: int) -> bytes:
        """The rest, whole. Raises GatewayError when it is longer than `limit` bytes or breaks off."""
        ...

    def close(self) -> None:
        """Done with it. Mid-stream this closes the connection at once, so that the provider stops. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens. `cached`: prompt tokens that the provider found in its cache, `written`: those it
    put there; None where nothing is said, and they cost what any prompt token costs."""

    input: float
    output: float
    cached: float | None = None
    written: float | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What one source tells of a model; None is "not told". Lengths in tokens, of prompt and answer together for
    `context_length`; numbers in a vector for `embedding_length`. `retires`: the day from which on it is gone."""

    context_length: int | None = None
    embedding_length: int | None = None
    max_output: int | None = None
    capabilities: frozenset[str] | None = None
    price: Price | None = None
    retires: date | None = None


@dataclass(slots=True)
class ListedModel:
    """A model in a provider's own catalogue, with the facts of Known as far as it tells them. `raw` are the provider's
    own words for it."""

    id: str
    context_length: int | None = None
    max_output: int | None = None
    capabilities: frozenset[str] | None = None
    created: int | None = None
    embedding_length: int | None = None
    price: Price | None = None
    retires: date | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)


class Provider(Protocol):
    """`name` is the configured name, `kind` the word of the config, `dialect` its own wire; what else it speaks, its
    `profile` says (`responses`, `embeds_by`). `local`: requests to it do not leave our machines. `off` is None, or the
    sentence that says why it cannot be used and what to do."""

    name: str
    kind: str
    dialect: str
    local: bool
    off: str | None
    base_url: str
    profile: Profile

    async def ready(self) -> None:
        """Loads what the first call needs (an SDK takes half a second), so that it is not counted against the
        provider's limits. Raises GatewayError (no key) when the provider is off or its SDK is not installed."""
        ...

    async def open(self, call: Call) -> Upstream:
        """Raises UpstreamRefused for a status of 400 or above, GatewayError when nothing came back. Cancelling it
        closes the connection."""
        ...

    async def models(self) -> list[ListedModel]:
        """The provider's own catalogue. Raises as `open` does."""
        ...

    async def close(self) -> None: ...
