"""Where a configuration comes from: the environment, `.env`, secrets in files, and the YAML text with its `${VAR}`.

Knows: the process environment (no other module reads it) and YAML. Must not know: which keys exist.

The YAML text becomes plain dicts, lists and scalars together with `Marks`, so that a later error can name the line.
Scalars are read by the rules of YAML 1.2's core schema, which hold no traps for a configuration: `on`, `12:30` and
`0123` stay text, a key is always text. Anchors, aliases and `<<` work.

    api_key: ${LAB_KEY}                 the variable, or an error when it is not set
    temperature: ${HEAT:-}              the variable, or unset
    base_url: http://${HOST:-lab}/v1    anywhere in a value; what follows :- may hold ${…} again
    system: costs 5 $$                  $$ is one $
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

from .problems import ConfigError, Marks, Place, Problem


class Environment:
    """Variables by name. A variable that is unset or empty is looked for in the file that `NAME_FILE` names. `files`:
    those that were."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.files: set[Path] = set()

    def get(self, name: str) -> str | None:
        """The value, "" when set but empty, None when unset. Raises ValueError (without the path, which may be a
        secret put into the wrong variable) when the file of `NAME_FILE` cannot be read."""
        value = self._variables.get(name)
        file = self._variables.get(f"{name}_FILE")
        if value or not file:
            return value
        self.files.add(Path(file))
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ValueError(f"the file that {name}_FILE names cannot be read: {why}") from None


def read_environment(config: Path | None) -> dict[str, str]:
    """The process environment over the `.env` beside the configuration file over that of the working directory.
    `os.environ` is left as it is. Raises ConfigError for a `.env` that cannot be read."""
    variables: dict[str, str] = {}
    for path in environment_files(config):
        if not path.is_file():
            continue
        try:
            values = dotenv_values(path, interpolate=False)
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigError([Problem("", f"cannot be read: {why}")], path) from None
        variables.update({name: value for name, value in values.items() if value is not None})
    variables.update(os.environ)
    return variables


def environment_files(config: Path | None) -> list[Path]:
    """Where a `.env` may be, the later over the earlier."""
    folders = [Path.cwd()] + ([config.resolve().parent] if config else [])
    return [folder / ".env" for folder in folders]


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def expand(text: str, lookup: Callable[[str], str | None]) -> tuple[str | None, tuple[str, ...]]:
    """`${…}` put in -> (value, names of the variables used). A text that is one `${…}` and comes out empty is None.

    Raises ValueError for a variable that is not set and has no default, and for a `${` that is none.
    """
    parts: list[str] = []
    used: list[str] = []
    position = 0
    while (dollar := text.find("$", position)) >= 0:
        parts.append(text[position:dollar])
        following = text[dollar + 1 : dollar + 2]
        if following != "{":
            parts.append("$")
            position = dollar + (2 if following == "$" else 1)
            continue
        end = _closing(text, dollar + 2)
        value, names = _reference(text[dollar + 2 : end], lookup)
        if dollar == 0 and end == len(text) - 1:
            return value or None, names
        parts.append(value)
        used.extend(names)
        position = end + 1
    parts.append(text[position:])
    return "".join(parts), tuple(used)


def _closing(text: str, position: int) -> int:
    """Index of the brace that ends the `${` whose inside begins at `position`."""
    depth = 1
    while position < len(text):
        if text.startswith("${", position):
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    raise ValueError("a ${ without its } (write $$ for a plain $)")


def _reference(inside: str, lookup: Callable[[str], str | None]) -> tuple[str, tuple[str, ...]]:
    name, separator, default = inside.partition(":-")
    if not _NAME.fullmatch(name):
        raise ValueError("expected ${NAME} or ${NAME:-default} (write $$ for a plain $)")
    value = lookup(name)
    if separator and not value:
        result, names = expand(default, lookup)
        return result or "", (name, *names)
    if value is None:
        raise ValueError(f"the variable {name} is not set; set it, or write ${{{name}:-default}}")
    return value, (name,)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalar rules of YAML 1.2's core schema (decimal numbers without a leading zero only)."""

    yaml_implicit_resolvers: dict[str, Any] = {}


_TAG = "tag:yaml.org,2002:"
for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf)|\.(?:nan|NaN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_pattern})$"), _first)

_SCALARS: dict[str, Callable[[str], Any]] = {
    _TAG + "null": lambda _: None,
    _TAG + "bool": lambda text: text.lower() == "true",
    _TAG + "int": int,
    _TAG + "float": lambda text: float(text.replace(".inf", "inf").replace(".Inf", "inf").replace(".nan", "nan")),
    _TAG + "str": str,
    _TAG + "merge": str,
}


@dataclass(slots=True)
class Document:
    """A YAML text with the variables put in. `tree` is its top mapping, {} for an empty text."""

    tree: dict[str, Any]
    marks: Marks
    problems: list[Problem] = field(default_factory=list)


def read(text: str, environment: Environment, source: Path | None = None) -> Document:
    """YAML text -> Document. Double keys, unset variables and the like are collected in `problems`; raises ConfigError
    (naming line and column) for a text that is no YAML."""
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_syntax(error, text)], source) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError([Problem("", "not YAML: a character that no YAML text may hold", line)], source) from None
    except RecursionError:
        raise ConfigError([Problem("", "not a configuration: nested too deeply")], source) from None
    finally:
        if loader is not None:
            loader.dispose()
    builder = _Builder(environment)
    tree = builder.build(root, ()) if root is not None else {}
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError([Problem("", "expected a mapping (key: value) at the top", 1)], source)
    return Document(tree, builder.marks, builder.problems)


def _syntax(error: yaml.MarkedYAMLError, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    words = error.problem or error.context or "cannot be read"
    if mark is None:
        return Problem("", f"not YAML: {words}")
    lines = text.splitlines()
    hint = ""
    if mark.line < len(lines) and "${" in lines[mark.line]:
        hint = "; between { } or [ ] a ${…} must stand in quotes"
    return Problem("", f"not YAML, column {mark.column + 1}: {words}{hint}", mark.line + 1)


class _Builder:
    """Nodes -> plain values, noting where each stands."""

    def __init__(self, environment: Environment) -> None:
        self.marks = Marks()
        self.problems: list[Problem] = []
        self._environment = environment
        self._open: list[yaml.Node] = []  # the nodes around the one being built: an alias may lead back to them

    def build(self, node: yaml.Node, place: Place) -> Any:
        self.marks.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        if any(node is outer for outer in self._open):
            self._wrong(node, place, "an alias that leads back to itself")
            return None
        if node.tag not in (_TAG + "map", _TAG + "seq"):
            self._wrong(node, place, f"the tag {node.tag} is not supported")
            return None
        self._open.append(node)
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.build(item, (*place, index)) for index, item in enumerate(node.value)]
            return self._mapping(node, place)
        finally:
            self._open.pop()

    def _wrong(self, node: yaml.Node, place: Place, message: str) -> None:
        self.marks.lines[place] = node.start_mark.line + 1
        self.problems.append(self.marks.problem(place, message))

    def _mapping(self, node: yaml.Node, place: Place) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._wrong(key, place, "expected a plain text as key")
            elif key.tag == _TAG + "merge":
                merged |= self._merge(value, place)
            elif key.value in own:
                first = self.marks.lines[(*place, key.value)]
                self._wrong(key, (*place, key.value), f"stands here twice, first in line {first}")
            else:
                self.marks.lines[(*place, key.value)] = key.start_mark.line + 1
                own[key.value] = self.build(value, (*place, key.value))
        return merged | own

    def _merge(self, node: yaml.Node, place: Place) -> dict[str, Any]:
        """The mappings that `<<` names; of several, the first has a key's say."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in reversed(sources):
            value = self.build(source, place)
            if isinstance(value, dict):
                merged |= value
            else:
                self._wrong(source, place, "<< expects a mapping")
        return merged

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        convert = _SCALARS.get(node.tag)
        if convert is None:
            self._wrong(node, place, f"the tag {node.tag} is not supported")
            return None
        try:
            value = convert(node.value)
            if not isinstance(value, str) or "$" not in value:
                return value
            text, used = expand(value, self._environment.get)
        except ValueError as error:
            self._wrong(node, place, str(error))
            return None
        if used:
            self.marks.variables[place] = used
        return text
