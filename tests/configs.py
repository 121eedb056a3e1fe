"""For the tests of the configuration: one made from a text, with the environment a test gives and no other; and every
key that may stand in one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from ollama_bridge.config import Config, ConfigError, load
from ollama_bridge.config.problems import fields_of


def configured(folder: Path, text: str, env: dict[str, str] | None = None, **more: Any) -> Config:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, env=env or {}, **more)


def refused(folder: Path, text: str, env: dict[str, str] | None = None, **more: Any) -> list[str]:
    """The problems' lines, the folder taken off."""
    with pytest.raises(ConfigError) as caught:
        configured(folder, text, env, **more)
    return [line.replace(f"{folder}/", "") for line in caught.value.lines()]


def schema_keys(model: Any, path: str = "") -> set[str]:
    """Every key of the schema as a dotted path, `*` for names that users choose."""
    keys: set[str] = set()
    for name, annotation in fields_of(model).items():
        keys.add(f"{path}{name}")
        for inner, star in sections_in(annotation):
            keys |= schema_keys(inner, f"{path}{name}{star}.")
    return keys


def sections_in(annotation: Any) -> list[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(annotation, "")]
    if get_origin(annotation) is dict:
        return [(inner, ".*") for inner, _ in sections_in(get_args(annotation)[1])]
    return [found for argument in get_args(annotation) for found in sections_in(argument)]
