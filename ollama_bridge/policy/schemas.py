"""Gaps in the schemas of tools, filled: many providers refuse what some client libraries leave behind.

Knows: JSON schemas as plain objects. Must not know: providers, wires.

A library that strips what it takes for empty leaves `{"type": "array"}` without items and properties that are `{}`
(clients.md 4.6); a tool without arguments often has an object without properties.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..values import Tool

_DEEPEST = 32  # levels that are looked into: a schema is the client's, and may be built to exhaust a stack
_SCHEMA_MAPS = ("properties", "$defs", "definitions")
_SCHEMA_LISTS = ("anyOf", "oneOf", "allOf")


def filled_tools(tools: list[Tool]) -> list[Tool]:
    """The same tools with every schema complete; the list itself when nothing was missing. A tool that its client
    calls strict is left alone: it is judged word by word."""
    filled = [tool if _is_strict(tool) else _filled_tool(tool) for tool in tools]
    return tools if all(new is old for new, old in zip(filled, tools, strict=True)) else filled


def _is_strict(tool: Tool) -> bool:
    return any(bag.get("strict") for bag in tool.vendor.values())


def _filled_tool(tool: Tool) -> Tool:
    """No schema at all is a tool without arguments, to everyone."""
    parameters = tool.parameters
    if parameters is None:
        return tool
    if parameters.get("type") is None or parameters.get("properties") is None:
        given = {name: value for name, value in parameters.items() if value is not None}
        parameters = {"type": "object", "properties": {}, **given}
    filled = _filled(parameters, _DEEPEST)
    return tool if filled is tool.parameters else msgspec.structs.replace(tool, parameters=filled)


def _filled(schema: dict[str, Any], levels: int) -> dict[str, Any]:
    """The schema itself when nothing in it is missing. An empty one allows anything; text can carry that."""
    if not schema:
        return {"type": "string"}
    if not levels:
        return schema
    changes: dict[str, Any] = {}
    kind = schema.get("type")
    if (kind == "array" or (isinstance(kind, list) and "array" in kind)) and "items" not in schema:
        if "prefixItems" not in schema:
            changes["items"] = {"type": "string"}
    elif isinstance(schema.get("items"), dict):
        _note(changes, "items", schema["items"], _filled(schema["items"], levels - 1))
    for name in _SCHEMA_MAPS:
        inner = schema.get(name)
        if isinstance(inner, dict):
            new = {key: _filled(each, levels - 1) if isinstance(each, dict) else each for key, each in inner.items()}
            if any(new[key] is not inner[key] for key in inner):
                changes[name] = new
    for name in _SCHEMA_LISTS:
        inner = schema.get(name)
        if isinstance(inner, list):
            listed = [_filled(each, levels - 1) if isinstance(each, dict) and each else each for each in inner]
            if any(new is not old for new, old in zip(listed, inner, strict=True)):
                changes[name] = listed
    return {**schema, **changes} if changes else schema


def _note(changes: dict[str, Any], name: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    if new is not old:
        changes[name] = new
