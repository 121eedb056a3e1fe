"""JSON schemas of answers, made as narrow as the wire's grammar wants them.

Knows: which keywords the grammar can hold (providers.md 2.4: every object closed, no limits on numbers or lengths, no
recursion). Must not know: requests, models.

    {"type":"object","properties":{"n":{"type":"integer","minimum":1}}}
        -> {"type":"object","properties":{"n":{"type":"integer","description":"(minimum: 1)"}},
            "additionalProperties":false}, ["minimum"]
"""

from __future__ import annotations

from typing import Any

from ...framing import dumps

_DEEPEST = 32  # levels that are looked into: a schema is the client's, and may be built to exhaust a stack
_HELD = frozenset(
    {"type", "description", "title", "default", "enum", "const", "properties", "required", "additionalProperties",
     "items", "anyOf", "allOf", "$ref", "$defs", "definitions", "format", "minItems"}
)  # fmt: skip
_SAYS_WHAT = frozenset({"type", "enum", "const", "properties", "anyOf", "oneOf", "allOf", "$ref"})
_SAYS_NOTHING = frozenset({"$schema", "$id", "$comment", "examples", "readOnly", "writeOnly", "deprecated"})
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)  # fmt: skip
_MAPS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf")


class Inexpressible(ValueError):
    """The grammar cannot say it: an object with free keys, any value at all, or a schema that holds itself."""


def tightened(schema: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """-> (the schema as the wire takes it, keywords that it is not held to and that its descriptions tell instead).
    The input is not changed. Raises Inexpressible."""
    moved: list[str] = []
    narrow = _narrow(schema, moved, _DEEPEST)
    _refuse_recursion(schema)
    return narrow, list(dict.fromkeys(moved))


def _narrow(schema: Any, moved: list[str], levels: int) -> dict[str, Any]:
    if not isinstance(schema, dict) or not levels or _SAYS_WHAT.isdisjoint(schema):
        raise Inexpressible("a schema that allows anything")
    narrow: dict[str, Any] = {}
    told: list[str] = []
    for name, value in schema.items():
        if name == "oneOf" and "anyOf" not in schema:
            name = "anyOf"
        if name in _MAPS and isinstance(value, dict):
            narrow[name] = {key: _narrow(each, moved, levels - 1) for key, each in value.items()}
        elif name in _LISTS and isinstance(value, list):
            narrow[name] = [_narrow(each, moved, levels - 1) for each in value]
        elif name == "items":
            narrow[name] = _narrow(value, moved, levels - 1)
        elif (name == "format" and value not in _FORMATS) or (name == "minItems" and value not in (0, 1)):
            told.append(name)
        elif name in _HELD:
            narrow[name] = value
        elif name not in _SAYS_NOTHING:
            told.append(name)
    if told:
        words = ", ".join(f"{name}: {dumps(schema[name]).decode()}" for name in told)
        narrow["description"] = f"{schema['description']}\n\n({words})" if schema.get("description") else f"({words})"
        moved += told
    return _closed(narrow) if _is_object(narrow) else narrow


def _is_object(schema: dict[str, Any]) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    free = schema.get("additionalProperties")
    if not schema.get("properties") and free is not False:
        raise Inexpressible("an object with free keys")
    if isinstance(free, dict) and free:
        raise Inexpressible("an object with free keys beside its own")
    return {**schema, "additionalProperties": False}


def _refuse_recursion(schema: dict[str, Any]) -> None:
    """Raises Inexpressible when a definition leads back to itself, or a reference to the whole schema."""
    definitions = {f"#/{bag}/{name}": each for bag in _MAPS[1:] for name, each in (schema.get(bag) or {}).items()}
    leads = {name: _references(each) for name, each in definitions.items()}
    if "#" in _references(schema):
        raise Inexpressible("a schema that holds itself")
    for name in definitions:
        seen: set[str] = set()
        ahead = list(leads[name])
        while ahead:
            reference = ahead.pop()
            if reference == name:
                raise Inexpressible("a definition that holds itself")
            if reference not in seen:
                seen.add(reference)
                ahead += leads.get(reference, ())


def _references(value: Any) -> list[str]:
    found: list[str] = []
    ahead = [value]
    while ahead:
        each = ahead.pop()
        if isinstance(each, dict):
            if isinstance(each.get("$ref"), str):
                found.append(each["$ref"])
            ahead += each.values()
        elif isinstance(each, list):
            ahead += each
    return found
