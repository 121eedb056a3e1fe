"""A small value that fits a JSON schema, filled with a given text.

Knows: JSON schema, as far as tools and structured answers use it. Must not know: tools, answers, any wire.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_DEEPEST = 24  # levels; a schema that demands more of itself cannot be satisfied
_MOST_VALUES = 4096  # in one answer: nested lists and references multiply
_MOST_TEXT = 1024 * 1024  # characters in one answer, for the same reason
_FORMATS = {
    "date": "2000-01-01", "time": "00:00:00Z", "date-time": "2000-01-01T00:00:00Z", "duration": "PT1S",
    "email": "echo@example.com", "hostname": "example.com", "uri": "https://example.com/", "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1", "uuid": "00000000-0000-4000-8000-000000000000",
}  # fmt: skip


def value_for(schema: Any, text: str) -> Any:
    """`text` wherever a string may stand, else the first of an enumeration or of alternatives, 1 for a number, true,
    one item of a list; of an object what is required, or all of it when nothing is. A `pattern` is not heeded, and
    what is too deep or too large is left empty."""
    return _Sample(schema, text).value(schema, 0)


class _Sample:
    def __init__(self, root: Any, text: str) -> None:
        self._root = root
        self._text = text
        self._values_left = _MOST_VALUES
        self._text_left = _MOST_TEXT

    def value(self, schema: Any, depth: int) -> Any:
        self._values_left -= 1
        if depth > _DEEPEST or self._values_left < 0:
            return None
        if not isinstance(schema, dict):
            return self._string({})
        if "$ref" in schema:
            return self.value(self._resolved(schema["$ref"]), depth + 1)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return schema["enum"][0]
        for word in ("anyOf", "oneOf"):
            options = schema.get(word)
            if isinstance(options, list) and options:
                chosen = next((option for option in options if option != {"type": "null"}), options[0])
                return self.value(self._joined(schema, word, [chosen]), depth + 1)
        if isinstance(schema.get("allOf"), list):
            return self.value(self._joined(schema, "allOf", schema["allOf"]), depth + 1)
        match _type(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "integer":
                return math.ceil(_number(schema, whole=True))
            case "number":
                return _number(schema, whole=False)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return self._string(schema)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties, required = _mapping(schema, "properties"), _list(schema, "required")
        names = [name for name in required if isinstance(name, str)] or list(properties)
        return {name: self.value(properties.get(name), depth + 1) for name in names}

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        least, most = _bound(schema, "minItems"), _bound(schema, "maxItems")
        wanted = max(1, math.ceil(least or 0))
        wanted = wanted if most is None else min(wanted, int(most))
        items: list[Any] = []
        for item in _list(schema, "prefixItems"):
            items.append(self.value(item, depth + 1))
        while len(items) < wanted and self._values_left > 0:
            items.append(self.value(schema.get("items"), depth + 1))
        return items

    def _string(self, schema: Mapping[str, Any]) -> str:
        named = _FORMATS.get(str(schema.get("format")))
        if named is not None:
            return named
        most, least = _bound(schema, "maxLength"), _bound(schema, "minLength")
        fitted = self._text[: max(0, self._text_left if most is None else min(int(most), self._text_left))]
        if least is not None:
            fitted = fitted.ljust(min(int(least), self._text_left), ".")
        self._text_left -= len(fitted)
        return fitted

    def _resolved(self, reference: Any) -> Any:
        """`#/$defs/Name` within the same schema; what cannot be found may be anything."""
        found = self._root
        for name in str(reference).removeprefix("#").split("/")[1:]:
            found = found.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        return found

    def _joined(self, schema: Mapping[str, Any], word: str, parts: Sequence[Any]) -> dict[str, Any]:
        """The schema with parts of it written into it instead of beside it."""
        joined: dict[str, Any] = {name: value for name, value in schema.items() if name != word}
        for part in parts:
            if isinstance(part, dict) and "$ref" in part:
                part = self._resolved(part["$ref"])
            if isinstance(part, dict):
                properties = {**_mapping(joined, "properties"), **_mapping(part, "properties")}
                required = [*_list(joined, "required"), *_list(part, "required")]
                joined |= part
                joined |= {"properties": properties} if properties else {}
                joined |= {"required": required} if required else {}
        return joined


def _mapping(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = schema.get(name)
    return value if isinstance(value, dict) else {}


def _list(schema: Mapping[str, Any], name: str) -> list[Any]:
    value = schema.get(name)
    return value if isinstance(value, list) else []


def _type(schema: Mapping[str, Any]) -> str:
    stated = schema.get("type")
    if isinstance(stated, list):
        stated = next((word for word in stated if word != "null"), "null")
    if isinstance(stated, str):
        return stated
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else "string"


def _bound(schema: Mapping[str, Any], name: str) -> float | None:
    """A number of ordinary size."""
    value = schema.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15 else None


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    """1, or the nearest number within the bounds."""
    value: float = 1
    low, above = _bound(schema, "minimum"), _bound(schema, "exclusiveMinimum")
    high, below = _bound(schema, "maximum"), _bound(schema, "exclusiveMaximum")
    gap: float = 1
    if not whole and above is not None and below is not None:
        gap = (below - above) / 2
    for bound in (low, None if above is None else above + gap):
        value = value if bound is None else max(value, bound)
    for bound in (high, None if below is None else below - gap):
        value = value if bound is None else min(value, bound)
    multiple = _bound(schema, "multipleOf")
    return math.ceil(value / multiple) * multiple if multiple and multiple > 0 else value
