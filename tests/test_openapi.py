"""/openapi.json: every route and no other, no schema that says nothing, and true of the answers of a real Ollama."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from described import Described, description, route_table
from golden import Case, cases
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

DOCUMENT = description()
DESCRIBED = Described(DOCUMENT)
METHODS = ("get", "head", "post", "delete", "put", "patch", "options")
OPERATIONS = [
    (method, path, operation) for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
]
EACH = pytest.mark.parametrize(
    ("method", "path", "operation"), OPERATIONS, ids=[f"{method}-{path}" for method, path, _ in OPERATIONS]
)

# What a model or a tool makes up: any object is right.
ANY_OBJECT = {"CalledFunction.arguments"}


def test_it_is_openapi_3_1() -> None:
    faults = [error.message for error in OPENAPI_31_VALIDATOR.iter_errors(DOCUMENT)]
    assert faults == []
    assert DOCUMENT["openapi"] == "3.1.0"
    Draft202012Validator.check_schema({"components": DOCUMENT["components"]})


def test_the_operations_are_the_routes() -> None:
    routes = {(method, route.path.replace("...}", "}")) for route in route_table() for method in route.methods}
    assert {(method.upper(), path) for method, path, _ in OPERATIONS} == routes


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(ids)) == len(ids)


@EACH
def test_every_variable_of_a_path_is_described(method: str, path: str, operation: Mapping[str, Any]) -> None:
    told = {each["name"] for each in operation["parameters"] if each.get("in") == "path"}
    assert told == {part.strip("{}") for part in path.split("/") if part.startswith("{")}


@EACH
def test_keys_are_asked_for_where_they_are_needed(method: str, path: str, operation: Mapping[str, Any]) -> None:
    [route] = [each for each in route_table() if each.path.replace("...}", "}") == path]
    assert (operation.get("security") == []) is not route.needs_key
    tells_more = any(each.get("name") == "verbose" for each in operation["parameters"])  # with a key
    assert ("401" in operation["responses"]) is (route.needs_key or tells_more)


def test_a_gateway_with_a_key_demands_one() -> None:
    assert {} in DOCUMENT["security"] and {} not in description(keyed=True)["security"]
    ways = [way for each in DOCUMENT["security"] for way in each]
    assert set(ways) == set(DOCUMENT["components"]["securitySchemes"]) == {"bearer", "header", "basic"}
    assert [server["url"] for server in DOCUMENT["servers"]] == [".", "./k/{key}"]


# -- schemas that say something --------------------------------------------------------------------------------------


def vague(schema: Any, where: str, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """Where a schema lets anything pass, and objects that demand no member."""
    if not isinstance(schema, dict) or not schema:
        yield f"{where}: {schema}"
        return
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in seen:
            yield from vague(DOCUMENT["components"]["schemas"][name], name, seen | {name})
        return
    kinds = schema.get("anyOf") or schema.get("oneOf")
    if kinds:
        for kind in kinds:
            yield from vague(kind, where, seen)
        return
    if "enum" in schema or "const" in schema:
        return
    if "type" not in schema:
        yield f"{where}: no type"
    elif schema["type"] == "array":
        yield from vague(schema.get("items"), f"{where}[]", seen)
    elif schema["type"] == "object" and where not in ANY_OBJECT:
        yield from vague_object(schema, where, seen)
    if "contentMediaType" in schema:
        yield from vague(schema.get("contentSchema"), f"{where}.content", seen)


def vague_object(schema: Mapping[str, Any], where: str, seen: frozenset[str]) -> Iterator[str]:
    if "properties" in schema:
        for name, inner in schema["properties"].items():
            yield from vague(inner, f"{where}.{name}", seen)
    else:
        yield from vague(schema.get("additionalProperties"), f"{where}.*", seen)


@EACH
def test_no_answer_is_described_by_nothing(method: str, path: str, operation: Mapping[str, Any]) -> None:
    told = 0
    for status, response in operation["responses"].items():
        assert response["description"]
        for media, content in response.get("content", {}).items():
            schema, where = content["schema"], f"{status} {media}"
            assert list(vague(schema, where)) == []
            if media == "application/json" and status[0] in "24":
                assert all(each["required"] for each in objects(schema)), where
            told += 1
    assert told or method == "head", "no body is described at all"


def objects(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the value itself can be."""
    if "$ref" in schema:
        return objects(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return [found for each in schema["anyOf"] for found in objects(each)]
    return [schema]


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"description": "words"},
        {"type": "object"},
        {"type": "object", "additionalProperties": True},
        {"type": "object", "properties": {"a": {}}},
        {"type": "array"},
        {"type": "array", "items": {"type": "object"}},
        {"anyOf": [{"type": "string"}, {}]},
        {"type": "string", "contentMediaType": "application/json"},
    ],
    ids=str,
)
def test_a_vague_schema_is_noticed(schema: Any) -> None:
    assert list(vague(schema, "here")) != []


@EACH
def test_every_post_that_is_there_has_a_body_and_an_example(
    method: str, path: str, operation: Mapping[str, Any]
) -> None:
    body = operation.get("requestBody")
    assert (body is not None) is (method == "post" and "501" not in operation["responses"])
    if body is not None:
        content = body["content"]["application/json"]
        assert list(vague_request(content["schema"])) == []
        faults = Draft202012Validator({**content["schema"], "components": DOCUMENT["components"]})
        assert list(faults.iter_errors(content["example"])) == []


def vague_request(schema: Mapping[str, Any]) -> Iterator[str]:
    free = ("Schema.*", ".format", ".parameters", ".schema", ".arguments")  # JSON schemas, and what models make up
    yield from (each for each in vague(schema, "body") if not any(word in each for word in free))


# -- true of what a real Ollama answers ------------------------------------------------------------------------------

GROUPS = ("chat", "generate", "think", "tools", "embed", "facts", "openai", "library")
COMPARED = 260  # answers, at least: fewer means that the files are not found


def of_a_real_ollama() -> Iterator[tuple[Case, int]]:
    for group in GROUPS:
        for case in cases(group):
            yield from ((case, number) for number, step in enumerate(case.steps) if step.answer is not None)


def test_the_answers_of_a_real_ollama_are_as_described() -> None:
    compared, faults = 0, []
    for case, number in of_a_real_ollama():
        step = case.steps[number]
        assert step.answer is not None
        path = step.path.partition("?")[0]
        operation = DESCRIBED.operation(step.method, path)
        if operation is None or "501" in operation["responses"]:
            continue
        status = 400 if step.answer.status >= 500 else step.answer.status  # docs/decisions/0002
        if status in (301, 307):
            continue
        media = step.answer.media_type
        compared += 1
        found = DESCRIBED.faults(step.method, path, status, media, step.answer.body)
        faults += [f"{case} step {number}: {fault}" for fault in found]
    print(f"{compared} answers compared")
    assert faults == []
    assert compared >= COMPARED


# -- the judge -------------------------------------------------------------------------------------------------------

CHUNK = b'{"id":"a","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}'
V1_ERROR = b'{"error":{"message":"no","type":"t","param":null,"code":null}}'
RIGHT = {
    "whole": ("GET", "/api/version", 200, "application/json; charset=utf-8", b'{"version":"1"}'),
    "error": ("POST", "/api/chat", 404, "application/json", b'{"error":"no"}'),
    "slashes": ("GET", "/v1/models/a/b", 404, "application/json", V1_ERROR),
    "error-line": ("POST", "/api/chat", 200, "application/x-ndjson", b'{"error":"no"}\n'),
    "frames": (
        "POST", "/v1/chat/completions", 200, "text/event-stream", b"data: %b\n\ndata: [DONE]\n\n" % CHUNK,
    ),
    "error-frame": ("POST", "/v1/chat/completions", 200, "text/event-stream", b"data: %b\n\n" % V1_ERROR),
    "text": ("POST", "/stream", 200, "text/event-stream", b"data: Hi\n\ndata: [DONE]\n\n"),
    "error-event": ("POST", "/stream", 200, "text/event-stream", b'event: error\ndata: {"error":"no"}\n\n'),
    "nothing": ("GET", "/api/tags", 403, "", b""),
}  # fmt: skip
WRONG = {
    "path": ("GET", "/nope", 404, "text/plain", b"404 page not found"),
    "method": ("PUT", "/api/version", 200, "application/json", b'{"version":"1"}'),
    "status": ("GET", "/api/version", 418, "application/json", b'{"version":"1"}'),
    "media": ("GET", "/api/version", 200, "text/plain", b"1"),
    "missing": ("GET", "/api/version", 200, "application/json", b"{}"),
    "type": ("GET", "/api/version", 200, "application/json", b'{"version":1}'),
    "no-body": ("GET", "/api/version", 200, "", b""),
    "error-of-another-door": ("POST", "/v1/chat/completions", 404, "application/json", b'{"error":"no"}'),
    "line": ("POST", "/api/chat", 200, "application/x-ndjson", b'{"error":"no"}\n{"done":true}\n'),
    "frame": ("POST", "/v1/chat/completions", 200, "text/event-stream", b'data: {"id":"a"}\n\n'),
    "frame-of-words": ("POST", "/v1/chat/completions", 200, "text/event-stream", b"data: words\n\n"),
    "event": ("POST", "/stream", 200, "text/event-stream", b'event: odd\ndata: {"error":"no"}\n\n'),
    "error-event-of-words": ("POST", "/stream", 200, "text/event-stream", b"event: error\ndata: words\n\n"),
}


@pytest.mark.parametrize("answer", RIGHT.values(), ids=RIGHT)
def test_an_answer_as_described_passes(answer: tuple[str, str, int, str, bytes]) -> None:
    assert DESCRIBED.faults(*answer) == []


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
def test_any_other_answer_does_not(answer: tuple[str, str, int, str, bytes]) -> None:
    assert DESCRIBED.faults(*answer) != []
