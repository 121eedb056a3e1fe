"""Gaps in the schemas of tools are filled, whole ones are left alone (clients.md 4.6)."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ollama_bridge.policy.schemas import filled_tools
from ollama_bridge.values import Tool

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("schema", "filled"),
    [
        (None, None),
        ({}, {"type": "object", "properties": {}}),
        ({"type": "object"}, {"type": "object", "properties": {}}),
        ({"type": None, "properties": None}, {"type": "object", "properties": {}}),
        (
            {"properties": {"a": {}, "b": {"type": "array"}}},
            {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "string"}}},
            },
        ),
        (
            {
                "type": "object",
                "properties": {"a": {"type": ["array", "null"]}, "c": {"anyOf": [{"type": "array"}, {}]}},
            },
            {
                "type": "object",
                "properties": {
                    "a": {"type": ["array", "null"], "items": {"type": "string"}},
                    "c": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {}]},
                },
            },
        ),
        (
            {"type": "object", "properties": {"a": {"type": "array", "items": {}}}, "$defs": {"d": {}}},
            {
                "type": "object",
                "properties": {"a": {"type": "array", "items": {"type": "string"}}},
                "$defs": {"d": {"type": "string"}},
            },
        ),
    ],
)
def test_gaps_in_schemas_are_filled(schema: dict[str, Any] | None, filled: dict[str, Any] | None) -> None:
    before = copy.deepcopy(schema)
    (tool,) = filled_tools([Tool("f", None, schema)])
    assert tool.parameters == filled and schema == before


@pytest.mark.parametrize(
    "schema",
    [
        SCHEMA,
        {"type": "object", "properties": {"a": {"type": "array", "prefixItems": [{"type": "string"}]}}},
        {"type": "object", "properties": {"a": True, "b": {"$ref": "#/$defs/d"}}},
        {"type": "object", "properties": {}, "required": []},
    ],
)
def test_whole_schemas_stay_the_very_same(schema: dict[str, Any]) -> None:
    tools = [Tool("f", None, schema)]
    assert filled_tools(tools) is tools


def test_strict_schemas_are_left_alone() -> None:
    tools = [Tool("f", None, {}, {"openai": {"strict": True}})]
    assert filled_tools(tools) is tools


def test_a_bottomless_schema_exhausts_nothing() -> None:
    schema: dict[str, Any] = {"type": "array"}
    for _ in range(5000):
        schema = {"type": "object", "properties": {"a": schema}}
    tools = [Tool("f", None, schema)]
    assert filled_tools(tools) is tools
