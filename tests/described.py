"""The gateway's own description of itself, and the judge of whether an answer keeps to it.

Knows: /openapi.json as far as answers go, bodies by their media type. Must not know: how the description is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from jsonschema import Draft202012Validator

from ollama_bridge.framing import ServerSentEvents
from ollama_bridge.web import routes
from ollama_bridge.web.openapi.document import document
from ollama_bridge.web.pages import ASSETS
from ollama_bridge.web.ports import Services, WebSettings

Schema = Mapping[str, Any]


def route_table() -> list[routes.Route]:
    """The routes alone: nothing behind them is asked."""
    return routes.table(cast(Services, None), WebSettings(), lambda: True)


def description(keyed: bool = False) -> dict[str, Any]:
    """As it comes out of JSON."""
    found: dict[str, Any] = json.loads(json.dumps(document(route_table(), keyed, tuple(ASSETS))))
    return found


class Described:
    """One description. `faults` of an answer are sentences; none: it is as described."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self._components = document["components"]

    def operation(self, method: str, path: str) -> Mapping[str, Any] | None:
        """`path`: of a request, without its query."""
        for known, methods in self.document["paths"].items():
            start, brace, _ = known.partition("{")
            fits = path.startswith(start) and len(path) > len(start) if brace else path == known
            if fits and method.lower() in methods:
                found: Mapping[str, Any] = methods[method.lower()]
                return found
        return None

    def faults(self, method: str, path: str, status: int, content_type: str, body: bytes) -> list[str]:
        operation = self.operation(method, path.partition("?")[0])
        if operation is None:
            return [f"{method} {path} is not described"]
        response = operation["responses"].get(str(status))
        if response is None:
            return [f"status {status} is not described"]
        media = content_type.partition(";")[0]
        contents = response.get("content", {})
        if method == "HEAD" or not body:
            return [f"no body, but {list(contents)} are described"] if contents and method != "HEAD" else []
        if media not in contents:
            return [f"{media} is not described, {list(contents)} are"]
        schema = contents[media]["schema"]
        looks = [self._compared, self._data] if media == "text/event-stream" else [self._compared]
        return [fault for item in items(media, body) for look in looks for fault in look(item, schema)]

    def _compared(self, value: Any, schema: Schema) -> Iterator[str]:
        whole = {**schema, "components": self._components}
        for error in Draft202012Validator(whole).iter_errors(value):
            yield f"{error.json_path}: {error.message[:300]}"

    def _data(self, event: dict[str, str], schema: Schema) -> Iterator[str]:
        """What the JSON inside an event's data has to be: no validator looks into a text. One of the kinds must fit."""
        tried = []
        for kind in schema["anyOf"]:
            told = kind["properties"]["data"]
            if (
                kind["properties"]["event"]["const"] != event["event"]
                or told.get("const", event["data"]) != event["data"]
            ):
                continue
            if "contentSchema" not in told:
                return
            try:
                faults = list(self._compared(json.loads(event["data"]), told["contentSchema"]))
            except ValueError:
                faults = [f"no JSON: {event['data'][:100]}"]
            if not faults:
                return
            tried.append(faults)
        yield from min(tried, key=len, default=[f"an event of no kind that is described: {event}"])


def items(media: str, body: bytes) -> list[Any]:
    """What the schema of a body is held against, one by one."""
    if media == "application/json":
        return [json.loads(body)]
    if media == "application/x-ndjson":
        return [json.loads(line) for line in body.splitlines() if line.strip()]
    if media == "text/event-stream":
        reader = ServerSentEvents()
        events = reader.feed(body) + reader.end()
        return [{"event": name or "message", "data": data.decode()} for name, data in events]
    return [body.decode()]
