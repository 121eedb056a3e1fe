"""The words in which an endpoint is described: what it takes, what it answers.

Knows: what an OpenAPI operation has, the failures that endpoints share. Must not know: any endpoint, how the page is
written (document).

Schemas are types, which msgspec makes JSON Schema of. They stand here for the page alone: the codecs do not use them,
and tests hold them against real answers. A member that may be left out is `Maybe[...] = UNSET`; one without a default
is required.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, UnsetType

T = TypeVar("T")
Maybe: TypeAlias = T | UnsetType

JSON = "application/json"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
TEXT = "text/plain"

Name = tuple[str, str]  # method, path of the route table


def said(text: str, **more: Any) -> Meta:
    """What a member means: `Annotated[str, said("…")]`. `more`: limits, as msgspec.Meta takes them."""
    return Meta(description=text, **more)


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of server-sent event. `data`: the type of its JSON, or `str` for text as it is; `name`: of the event,
    where it has one; `only`: the one text that the data can be."""

    data: Any
    name: str | None = None
    only: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """A body of one media type. `schemas`: the types it can have; of NDJSON those of a line, of SSE its Events."""

    media: str
    schemas: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """What comes with one status. No contents: no body."""

    description: str
    contents: tuple[Content, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `body`: the type of its JSON request, `example` one that works with the echo model.
    `asks`: a provider may be asked, so that the answer has the headers that tell of it. `path`: what the variable of
    the path stands for, and the values it can have if they are known; `query` likewise of what stands behind it."""

    summary: str
    replies: Mapping[int, Reply]
    description: str = ""
    body: Any = None
    example: Mapping[str, Any] | None = None
    asks: bool = False
    path: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    query: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)


def whole(*schemas: Any, description: str = "The answer.") -> Reply:
    """One JSON value, of one of these types."""
    return Reply(description, (Content(JSON, schemas),))


EMPTY = Reply("The headers alone.")
REFUSED = Reply("The `Origin` or the `Host` is not allowed. No body.")

_OF_BODY = {
    400: "The request cannot be served: wrong JSON or types, an ability the model lacks, a context too long, a loss "
    "with `strict_parameters`.",
    408: "The body came too slowly.",
    413: "The body is too long, or the provider says so.",
}
_OF_PROVIDERS = {
    403: "`privacy_mode` is strict and nothing local can answer; or, with no body, the `Origin` or the `Host` is not "
    "allowed.",
    422: "The provider's, for the request.",
    429: "Rates: the provider's or the gateway's. `Retry-After` says when to come again.",
    502: "The provider failed, could not be reached, cut its answer, or refused our key or account.",
    503: "The provider is unavailable or overloaded, or the gateway is going down.",
    504: "The provider did not answer in time.",
}
_NOT_FOUND = "No such model."
_OWN = "The provider is off (the text says what to set), or a fault of the gateway."


def failures(error: Any, *, body: bool = False, model: bool = False, asks: bool = False) -> dict[int, Reply]:
    """The statuses above 400 of an endpoint whose door words them as `error`. It reads a `body`, looks for a `model`,
    `asks` providers. 401 is put in where a key is needed (document)."""
    words = {**(_OF_BODY if body else {}), **(_OF_PROVIDERS if asks else {}), 500: _OWN}
    if model:
        words[404] = _NOT_FOUND
    found = {status: whole(error, description=text) for status, text in words.items()}
    if not asks:
        found[403] = REFUSED
    return found


def schemas_of(types: list[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """-> (the schema of each, the components they refer to)."""
    made, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    return list(made), components
