"""What whoever runs the gateway asks it, and the pages that describe it, described.

Knows: the answers of web.operating and web.pages, as types. Must not know: where they come from.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Struct

from .describe import EMPTY, JSON, TEXT, Content, Name, Operation, Reply, failures, said, whole
from .native import OllamaError

HTML, CSS, SCRIPT = "text/html", "text/css", "text/javascript"


class Health(Struct):
    status: Literal["ok"]


class Breaker(Struct):
    state: Literal["open", "half-open"]
    seconds: Annotated[float, said("Until it is asked again.")]
    reason: Annotated[str, said("What failed: a failure's scope.")]


class State(Struct):
    """With `verbose=1`."""

    status: Literal["ok"]
    version: str
    uptime_seconds: float
    loop_lag_seconds: Annotated[float, said("By how much the event loop was late at worst, in the last minute.")]
    providers: Annotated[dict[str, str], said('"on", or why it is off and what to do.')]
    breakers: Annotated[dict[str, Breaker], said("Those that are not closed, by target or key.")]
    redis: Literal["off", "up", "lost"]


class Ready(Struct):
    status: Literal["ready"]


class Draining(Struct):
    status: Literal["draining"]


class About(Struct):
    title: str
    version: str


class DescribedReply(Struct):
    description: str


class DescribedOperation(Struct):
    summary: str
    responses: dict[str, DescribedReply]


class Description(Struct):
    """An OpenAPI document, as far as every one has it."""

    openapi: Annotated[str, said("The version of OpenAPI.", pattern=r"^3\.1\.\d+$")]
    info: About
    paths: dict[str, dict[str, DescribedOperation]]


_OWN = failures(OllamaError)


def _page(summary: str) -> Operation:
    return Operation(summary, {200: Reply("The page.", (Content(HTML, (str,)),)), **_OWN})


def operations(assets: tuple[str, ...]) -> dict[Name, Operation]:
    """`assets`: the names of the files that the pages are made of."""
    file = Reply("The file.", (Content(SCRIPT, (str,)), Content(CSS, (str,))))
    alive = {200: whole(Health, State), **_OWN, 401: whole(OllamaError, description="More is told with a key.")}
    more = {"verbose": ("1: how things are, too. It needs the key, where there is one.", ("0", "1"))}
    return {
        ("HEAD", "/health"): Operation("Is it alive? The headers alone", {200: EMPTY, **_OWN}),
        ("GET", "/health"): Operation("Is it alive?", alive, query=more),
        ("HEAD", "/v1/health"): Operation("Is it alive? The headers alone", {200: EMPTY, **_OWN}),
        ("GET", "/v1/health"): Operation("Is it alive?", alive, query=more),
        ("HEAD", "/ready"): Operation(
            "Are new requests welcome? The headers alone", {200: EMPTY, **_OWN, 503: Reply("Not any more.")}
        ),
        ("GET", "/ready"): Operation(
            "Are new requests welcome?", {200: whole(Ready), **_OWN, 503: whole(Draining, description="Not any more.")}
        ),
        ("GET", "/metrics"): Operation(
            "What Prometheus scrapes", {200: Reply("The page.", (Content(TEXT, (str,)),)), **_OWN}
        ),
        ("GET", "/openapi.json"): Operation(
            "This description", {200: Reply("It.", (Content(JSON, (Description,)),)), **_OWN}
        ),
        ("GET", "/docs"): _page("This description, to be read and tried out (Swagger UI)"),
        ("GET", "/redoc"): _page("This description, to be read (Redoc)"),
        ("GET", "/docs/assets/{name}"): Operation(
            "What the two pages are made of",
            {200: file, **_OWN, 404: whole(OllamaError, description="No such file.")},
            path={"name": ("One of these.", assets)},
        ),
    }
