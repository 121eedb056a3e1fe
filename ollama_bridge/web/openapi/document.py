"""The OpenAPI document: every route of the table with its description.

Knows: OpenAPI 3.1, how keys are presented, which headers answers have. Must not know: handlers, what any endpoint does.

OpenAPI 3.1 knows no streams. Where a body is one, its schema is that of each item: of NDJSON a line, of SSE an event,
as an object of its `event` (the name) and `data`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from ... import __version__
from ...policy import tasks
from . import native, operating, plain, unbuilt, v1
from .describe import Content, Event, Name, Operation, Reply, schemas_of, whole

_ERRORS: dict[str, Any] = {"ollama": native.OllamaError, "openai": v1.OpenAIError, "plain": plain.PlainError}

_ABOUT = (
    "Every model behind Ollama's API, OpenAI's, and plain doors for scripts: the same models at each of them.\n\n"
    "A key, where the gateway has one, goes into a header, or into the path: `/k/KEY` in front of any other.\n\n"
    "The schema of a stream is that of each of its items: a line of `application/x-ndjson`, an event of "
    "`text/event-stream`."
)

_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "basic": {"type": "http", "scheme": "basic", "description": "The key as password, any user."},
}
_SERVERS = [
    {"url": ".", "description": "Where this description comes from."},
    {
        "url": "./k/{key}",
        "description": "The key in the path, for clients that can send no header.",
        "variables": {"key": {"default": "KEY"}},
    },
]

_REQUEST_ID = "X-Request-ID"
_BRIDGE = {
    "X-Bridge-Target": "`provider/model` that answered, or that failed last.",
    "X-Bridge-Attempts": "How many attempts were made, repeats at the same target included, if more than one.",
    "X-Bridge-Upstream-Id": "The provider's own id of the request.",
    "X-Bridge-Dropped": "What could not be told to the model, with commas.",
    "X-Bridge-Trimmed": "How many messages were dropped to fit; for embeddings, how often the texts were halved.",
    "X-Bridge-Reason": "The provider's own words, where the client is told something else.",
    "X-Bridge-Near": "Similar names of models, or models that could answer.",
    "X-Bridge-Plan": "The plan, when it was asked for.",
}
_RETRY_AFTER = "Retry-After"
_WISHES = {
    tasks.PRIVACY_HEADER: ("As `privacy_mode` in the body; strict wins.", (tasks.STRICT, tasks.FLEXIBLE)),
    tasks.TASK_HEADER: ("As `task` in the body, which wins.", tasks.TASK_WORDS),
    tasks.EXPLAIN_HEADER: ("Shows the plan in `X-Bridge-Plan`.", ("1",)),
}
_UNNAMED = "message"  # what an event without a name is called, says the standard
_NOT_IN_ID = re.compile(r"\W+")
_VARIABLE = re.compile(r"\{(\w+)(?:\.\.\.)?\}")


class Routed(Protocol):
    """What of a route is told."""

    @property
    def methods(self) -> tuple[str, ...]: ...

    @property
    def path(self) -> str: ...

    @property
    def door(self) -> str: ...

    @property
    def needs_key(self) -> bool: ...


def groups(assets: tuple[str, ...]) -> dict[str, dict[Name, Operation]]:
    """All operations, under the names by which the pages group them. `assets`: the files of the pages."""
    return {
        "Ollama": native.OPERATIONS,
        "OpenAI": v1.OPERATIONS,
        "plain": plain.OPERATIONS,
        "operating": operating.operations(assets),
        "not in this version": unbuilt.OPERATIONS,
    }


def document(routes: Iterable[Routed], keyed: bool, assets: tuple[str, ...]) -> dict[str, Any]:
    """`keyed`: the gateway has a key. Raises KeyError for a route that nobody has described."""
    named = {name: (group, one) for group, found in groups(assets).items() for name, one in found.items()}
    told = [(route, method, *named[method, route.path]) for route in routes for method in route.methods]
    types = list({each: None for _, _, _, one in told for each in _types(one)} | dict.fromkeys(_ERRORS.values()))
    made, components = schemas_of(types)
    schemas = dict(zip(types, made, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route, method, group, one in told:
        path = _VARIABLE.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[method.lower()] = _operation(route, method, group, one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ollama_bridge",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": _SERVERS,
        "security": [*([] if keyed else [{}]), *({name: []} for name in _KEYS)],
        "tags": [{"name": group} for group in groups(assets)],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": _KEYS,
            "parameters": dict(_parameters()),
            "headers": dict(_headers()),
        },
    }


def _types(one: Operation) -> Iterator[Any]:
    if one.body is not None:
        yield one.body
    for reply in one.replies.values():
        for content in reply.contents:
            yield from (each.data if isinstance(each, Event) else each for each in content.schemas)


def _operation(route: Routed, method: str, group: str, one: Operation, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    replies = dict(one.replies)
    if route.needs_key:
        replies[401] = whole(_ERRORS[route.door], description="The gateway's own key is missing or wrong.")
    found: dict[str, Any] = {
        "operationId": method.lower() + _NOT_IN_ID.sub("_", route.path).rstrip("_"),
        "tags": [group],
        "summary": one.summary,
        **({"description": one.description} if one.description else {}),
        "parameters": [
            {"$ref": f"#/components/parameters/{name}"} for name in (_REQUEST_ID, *(_WISHES if one.asks else ()))
        ]
        + [*_path_parameters(route.path, one), *_query_parameters(one)],
        "responses": {
            str(status): _response(status, method, replies[status], one.asks, schemas) for status in sorted(replies)
        },
    }
    if one.body is not None:
        example = {"example": one.example} if one.example is not None else {}
        content = {"application/json": {"schema": schemas[one.body], **example}}
        found["requestBody"] = {"required": True, "content": content}
    if not route.needs_key:
        found["security"] = []
    return found


def _path_parameters(path: str, one: Operation) -> Iterator[dict[str, Any]]:
    for name in _VARIABLE.findall(path):
        words, known = one.path[name]
        schema = {"type": "string", "minLength": 1, **({"enum": list(known)} if known else {})}
        yield {"name": name, "in": "path", "required": True, "description": words, "schema": schema}


def _query_parameters(one: Operation) -> Iterator[dict[str, Any]]:
    for name, (words, known) in one.query.items():
        schema = {"type": "string", "enum": list(known)}
        yield {"name": name, "in": "query", "required": False, "description": words, "schema": schema}


def _response(status: int, method: str, reply: Reply, asks: bool, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    names = [_REQUEST_ID, *(_BRIDGE if asks else ()), *([_RETRY_AFTER] if status in (429, 503) else [])]
    found: dict[str, Any] = {
        "description": reply.description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
    }
    if reply.contents and method != "HEAD":
        found["content"] = {content.media: {"schema": _schema(content, schemas)} for content in reply.contents}
    return found


def _schema(content: Content, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    made = [_event(each, schemas[each.data]) if isinstance(each, Event) else schemas[each] for each in content.schemas]
    return made[0] if len(made) == 1 else {"anyOf": made}


def _event(event: Event, schema: dict[str, Any]) -> dict[str, Any]:
    if event.only is not None:
        told: dict[str, Any] = {"type": "string", "const": event.only}
    elif event.data is str:
        told = schema
    else:
        told = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
    properties = {"event": {"type": "string", "const": event.name or _UNNAMED}, "data": told}
    required = ["event", "data"] if event.name else ["data"]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _parameters() -> Iterator[tuple[str, dict[str, Any]]]:
    """Headers of requests."""
    words = "The id of the request in the answer and the log; a new one is made without it."
    known: dict[str, Any] = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}
    yield _REQUEST_ID, {"name": _REQUEST_ID, "in": "header", "description": words, "schema": known}
    for name, (words, values) in _WISHES.items():
        known = {"type": "string", "enum": list(values)}
        yield name, {"name": name, "in": "header", "description": words, "schema": known}


def _headers() -> Iterator[tuple[str, dict[str, Any]]]:
    yield _REQUEST_ID, {"description": "The id of the request.", "required": True, "schema": {"type": "string"}}
    for name, words in _BRIDGE.items():
        yield name, {"description": words, "schema": {"type": "string"}}
    yield _RETRY_AFTER, {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}
