"""Writes the generated tables of these pages: `make docs`, or `python -m docs.make_tables`.

Knows: the configuration's schema, the comments of the shipped config.yaml that explain its keys, the preset rows. Must
not know: what the pages say around their tables, what the tables of support.md hold (support_tables).

A table stands between two lines of its page, and only what is between them is written:

    <!-- table: server -->
    | key | type | default | meaning |
    <!-- end of table -->
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import BaseModel, SecretStr

from ollama_bridge.config import facts, fields, limits, routing, schema
from ollama_bridge.config.units import Address
from ollama_bridge.providers.presets import PRESETS

from . import support_tables

FOLDER = Path(__file__).resolve().parent
SHIPPED = FOLDER.parent / "config.yaml"
PAGES = ("configuration.md", "providers.md", "support.md")
NOTHING = "-"
# Sections whose keys are names.
CHOSEN = ("providers", "providers.NAME.models", "models", "limits.providers", "limits.models")

# The tables of configuration.md: where a section stands in the file, with NAME for a name that the user chooses.
SECTIONS: dict[str, type[BaseModel]] = {
    "server": schema.Server,
    "defaults": schema.Defaults,
    "providers.NAME": schema.ProviderEntry,
    "providers.NAME.models.NAME": facts.FactsEntry,
    "providers.NAME.models.NAME.price": facts.PriceEntry,
    "providers.NAME.queue": schema.QueueEntry,
    "providers.NAME.quirks": schema.Quirks,
    "models.NAME": schema.ModelEntry,
    "models.NAME.targets": routing.TargetEntry,
    "models.NAME.price": facts.PriceEntry,
    "routing": schema.RoutingEntry,
    "routing.strict": routing.Cells,
    "routing.flexible": routing.Cells,
    "timeouts": schema.GeneralTimeouts,
    "timeouts.thinking": schema.TimeoutsEntry,
    "backoff": schema.BackoffEntry,
    "limits": schema.LimitsEntry,
    "limits.providers.NAME": limits.RatesEntry,
    "limits.models.NAME": limits.RatesEntry,
    "debug": schema.Debug,
    "top": schema.File,
}

# Types with a name of their own in the schema, then plain ones.
_NAMED: tuple[tuple[Any, str], ...] = (
    (schema.Duration, "duration"),
    (schema.KeepAlive, "duration"),
    (schema.Size, "size"),
    (schema.Key, "text"),
    (fields.Keys, "list"),
    (fields.Weight, "number"),
    (schema.Url, "URL"),
    (limits.RedisUrl, "URL"),
    (schema.Headers, "mapping"),
    (schema.Think, "true, false or a level"),
)
_PLAIN: dict[Any, str] = {
    bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path", Address: "HOST:PORT",
    dict: "mapping", SecretStr: "text", date: "date",
}  # fmt: skip

_EXPLAINS = re.compile(r" *# (?!-)(.+)")
_HEADING = re.compile(r" *# -")
_EXAMPLE = re.compile(r"^( *)#(?=[^# \n-])", re.MULTILINE)
_VARIABLE = re.compile(r"\$\{(\w+):-(.*)\}")
_MARKED = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Shown:
    """How the shipped file shows a key. `value` is "" where it stands only in an example or is left empty."""

    meaning: str = ""
    value: str = ""
    variable: str = ""


def pages() -> dict[Path, str]:
    """Every page with generated tables -> its text as it should be."""
    tables = {**{name: section(name, model) for name, model in SECTIONS.items()}, "presets": presets(), **support()}
    found = {}
    for name in PAGES:
        path = FOLDER / name
        found[path] = _MARKED.sub(lambda part: part[1] + tables[part[2]] + part[3], path.read_text(encoding="utf-8"))
    return found


# -- the configuration -------------------------------------------------------------------------------------------------


def section(place: str, model: type[BaseModel]) -> str:
    """The table of one section: its own keys, not those of sections that have a table themselves."""
    known = shown_keys()
    start = "" if place == "top" else f"{place}."
    rows = []
    for name, hint in hints(model):
        path = start + name
        words = in_words(hint)
        inside = path in SECTIONS or any(other.startswith(f"{path}.") for other in SECTIONS)
        if inside and not words.startswith("list"):
            continue
        shown = known.get(path, Shown())
        default = f"`{shown.value}`" if shown.value else _default(model, name)
        if shown.variable:
            default += f" (variable `{shown.variable}`)"
        rows.append((f"`{name}`", words, default, shown.meaning))
    return table(("key", "type", "default", "meaning"), rows)


def hints(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """Key as written in the file, and its type with what the schema says beside it."""
    annotated = get_type_hints(model, include_extras=True)
    for name, field in model.model_fields.items():
        yield field.alias or name, annotated[name]


def in_words(hint: Any) -> str:
    """A type for people. Raises KeyError for one that has no words yet."""
    for named, word in _NAMED:
        if hint == named:
            return word
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return in_words(inner[0])
    if origin in (Union, UnionType):
        return in_words(next(each for each in inner if each is not type(None)))
    if origin is Literal:
        return _any_of(inner)
    if origin in (tuple, frozenset):
        item = in_words(inner[0])
        return "list" if item == "text" else f"list of {item}"
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return "mapping"
    return _PLAIN[origin or hint]


def _any_of(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def _default(model: type[BaseModel], name: str) -> str:
    field = next(f for key, f in model.model_fields.items() if (f.alias or key) == name)
    return f"`{str(field.default).lower()}`" if isinstance(field.default, bool | str) else NOTHING


@cache
def shown_keys() -> dict[str, Shown]:
    """Every key of the shipped file, examples included -> how it is shown. The last place that shows a key counts: the
    full examples come after the short ones."""
    text = SHIPPED.read_text(encoding="utf-8")
    set_there = {path: node for path, node, _ in _keys(text) if isinstance(node, yaml.ScalarNode)}
    with_examples = _EXAMPLE.sub(r"\1", text)
    meanings = _explanations(with_examples)
    found = {}
    for path, _, line in _keys(with_examples):
        node = set_there.get(path)
        value, variable = node.value if node is not None and ".NAME" not in path else "", ""
        if given := _VARIABLE.fullmatch(value):
            variable, value = given[1], given[2]
        found[path] = Shown(meanings.get(line, ""), value, variable)
    return found


def _keys(text: str) -> Iterator[tuple[str, yaml.Node, int]]:
    """Dotted path, value and line (from 0) of every key, names that users choose as NAME."""

    def walk(node: yaml.Node, path: str) -> Iterator[tuple[str, yaml.Node, int]]:
        if isinstance(node, yaml.SequenceNode):
            for item in node.value:
                yield from walk(item, path)
        if not isinstance(node, yaml.MappingNode):
            return
        for key, value in node.value:
            name = "NAME" if path in CHOSEN else key.value
            inside = f"{path}.{name}" if path else name
            yield inside, value, key.start_mark.line
            yield from walk(value, inside)

    yield from walk(yaml.compose(text, yaml.SafeLoader), "")


def _explanations(text: str) -> dict[int, str]:
    """Line of a key (from 0) -> the comment above it, which holds for all keys up to the next comment or empty line."""
    found = {}
    words: list[str] = []
    after_key = False
    for number, line in enumerate(text.splitlines()):
        if explains := _EXPLAINS.fullmatch(line):
            words = [explains[1]] if after_key else [*words, explains[1]]
            after_key = False
        elif not line.strip() or _HEADING.match(line):
            words = []
        else:
            found[number] = " ".join(words)
            after_key = True
    return found


# -- providers ---------------------------------------------------------------------------------------------------------


def presets() -> str:
    rows = []
    for preset in PRESETS.values():
        keys = " or ".join(f"`{key}`" for key in preset.keys)
        if keys and not preset.needs_key:
            keys += " (if it wants one)"
        address = f"`{preset.base_url}`" if preset.base_url else NOTHING
        local = "yes" if preset.local else ""
        rows.append((f"`{preset.name}`", preset.label, keys or NOTHING, address, local, preset.note))
    return table(("name", "service", "key", "address", "local", "note"), rows)


# -- what works with what ----------------------------------------------------------------------------------------------


def support() -> dict[str, str]:
    told = support_tables.support
    kinds = [f"`{provider}`" for provider in told.PROVIDERS]
    return {
        "columns": table(("column", "what it is", "presets"), support_tables.columns()),
        **{name: table(("", *kinds), support_tables.door(name)) for name in told.DOORS},
        "elsewhere": table(("endpoint", "scenarios", "why"), support_tables.elsewhere()),
        "notes": table(("note", "what", "source"), support_tables.notes()),
        "scenarios": table(("scenario", "what is asked, what has to come"), support_tables.scenarios()),
        "services": table(("preset", "never", "while it thinks", "form"), support_tables.services()),
    }


# -- Markdown ----------------------------------------------------------------------------------------------------------


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(map(_cell, line)) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("<", "&lt;").replace("|", "\\|").replace("*", "\\*").strip()


def main() -> None:
    for path, text in pages().items():
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
