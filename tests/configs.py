"""A configuration from a text, for the tests of the configuration: with the environment a test gives and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ollama_bridge.config import Config, ConfigError, load


def configured(folder: Path, text: str, env: dict[str, str] | None = None, **more: Any) -> Config:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, env=env or {}, **more)


def refused(folder: Path, text: str, env: dict[str, str] | None = None, **more: Any) -> list[str]:
    """The problems' lines, the folder taken off."""
    with pytest.raises(ConfigError) as caught:
        configured(folder, text, env, **more)
    return [line.replace(f"{folder}/", "") for line in caught.value.lines()]
