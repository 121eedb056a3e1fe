"""What is wrong with a configuration, said so that the reader can mend it: place, line, expectation, nearest word.

Knows: pydantic's error records and how to word them. Must not know: what the keys mean, YAML, the environment.

A value is repeated in a message only when it stands literally in the file and under a key that holds no secret; what
came out of a variable is named by the variable.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Place = tuple[str | int, ...]  # keys and list positions from the top of the file: ("models", "fast", "targets", 0)

# Keys whose values are never repeated.
_PRIVATE = frozenset({"api_key", "api_keys", "headers", "base_url", "extra_body", "redis"})
_SHOWN = 60  # characters: a longer value is not repeated


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend. `path` is dotted, as `models.fast.targets[0]`; "" is the file as a whole. `line` counts from
    1; None when nothing in the file stands for it."""

    path: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(Exception):
    """The configuration cannot be used. `problems` in the order of the file, `source` the file or None for the
    packaged defaults."""

    def __init__(self, problems: Iterable[Problem], source: Path | None = None) -> None:
        self.problems = tuple(sorted(dict.fromkeys(problems), key=lambda problem: problem.line or 0))
        self.source = source
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """One line a problem: `config.yaml:12: server.listen: …`, without file and line when there is none."""
        lines = []
        for problem in self.problems:
            where = str(self.source) if self.source else ""
            if where and problem.line:
                where += f":{problem.line}"
            lines.append(f"{where}: {problem}" if where else str(problem))
        return lines


@dataclass(slots=True)
class Marks:
    """Where each place stands in the file (lines from 1), and the variables its value was made from."""

    lines: dict[Place, int] = field(default_factory=dict)
    variables: dict[Place, tuple[str, ...]] = field(default_factory=dict)

    def problem(self, place: Place, message: str) -> Problem:
        """A problem at `place`; the line is that of the nearest enclosing place the file has."""
        line = next((self.lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in self.lines), None)
        return Problem(dotted(place), message, line)

    def written(self, place: Place) -> Place:
        """The nearest enclosing place that the file itself has: shorthands are spelled out before validation."""
        return next((place[:n] for n in range(len(place), 0, -1) if place[:n] in self.lines), place)

    def origin(self, place: Place) -> str:
        """` (the value comes from NAME)` when it came out of variables, else ""."""
        names = self.variables.get(place)
        return f" (the value comes from {' and '.join(names)})" if names else ""

    def shown(self, place: Place, value: object) -> str:
        """`, not 'VALUE'` when the value may be repeated; what came out of a variable is named by the variable."""
        if place in self.variables:
            return self.origin(place)
        if _PRIVATE.intersection(map(str, place)) or not isinstance(value, str | int | float):
            return ""
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return f", not '{text}'" if len(text) <= _SHOWN and text.isprintable() else ""


def dotted(place: Place) -> str:
    path = ""
    for part in place:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known word is close, else ""."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[close[0]]}'?" if close else ""


def explain(error: ValidationError, schema: type[BaseModel], marks: Marks) -> list[Problem]:
    """Pydantic's errors -> problems in our words. `schema` is the model that was validated."""
    return [_explain(detail, schema, marks) for detail in error.errors(include_url=False)]


def _explain(detail: ErrorDetails, schema: type[BaseModel], marks: Marks) -> Problem:
    place: Place = tuple(detail["loc"])
    if detail["type"] == "extra_forbidden":
        known = keys_at(schema, place[:-1])
        near = nearest(str(place[-1]), known) or f"; known here: {', '.join(sorted(known))}"
        return marks.problem(place, f"unknown key{near}")
    if detail["type"] == "missing":
        return marks.problem(place, "is missing")
    place = marks.written(place)
    words = _wording(detail)
    # A text where a mapping belongs may be a key put one level too high: not repeated.
    apt = words.startswith("expected") and not words.startswith("expected a mapping")
    return marks.problem(place, words + (marks.shown(place, detail["input"]) if apt else marks.origin(place)))


_EXPECTED = {
    "dict_type": "expected a mapping (key: value)",
    "model_type": "expected a mapping (key: value)",
    "model_attributes_type": "expected a mapping (key: value)",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
    "frozen_set_type": "expected a list",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "path_type": "expected a path",
}


def _wording(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"expected {context['expected']}".replace("'", "")
    if kind == "string_type":
        scalar = isinstance(detail["input"], int | float)
        return "expected text: put it in quotes" if scalar else "expected text"
    if kind == "greater_than_equal":
        return f"expected {context['ge']:g} or more"
    if kind == "greater_than":
        return f"expected more than {context['gt']:g}"
    return detail["msg"]


def keys_at(schema: type[BaseModel], place: Place) -> set[str]:
    """The keys that the mapping at `place` may hold; empty where any key may stand."""
    annotation: Any = schema
    for part in place:
        annotation = _inner(annotation, part)
    for model in _alternatives(annotation):
        if isinstance(model, type) and issubclass(model, BaseModel):
            return set(fields_of(model))
    return set()


def fields_of(model: type[BaseModel]) -> Mapping[str, Any]:
    """Key as written in the file -> type annotation."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _alternatives(annotation: Any) -> list[Any]:
    """The members of a union, and what an Annotated wraps; else the annotation alone."""
    origin = get_origin(annotation)
    if origin is None or origin in (dict, list, tuple, frozenset):
        return [annotation]
    return [inner for member in get_args(annotation) for inner in _alternatives(member)]


def _inner(annotation: Any, part: str | int) -> Any:
    for candidate in _alternatives(annotation):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return fields_of(candidate).get(str(part))
        if get_origin(candidate) is dict:
            return get_args(candidate)[1]
        if get_origin(candidate) is tuple:
            return get_args(candidate)[0]
    return None
