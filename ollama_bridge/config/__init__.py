"""The configuration: `config.yaml`, `.env` and the environment -> one frozen Config, or a ConfigError that names what
to mend. No other module reads the environment.

Knows: the order of the steps. Must not know: keys, presets, YAML (its own modules do).

    source (text, variables) -> schema (what may stand there) -> assemble (presets, keys, targets) -> settings (Config)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from .assemble import Assembly
from .problems import ConfigError, Problem, explain
from .schema import UNSUPPORTED_SECTIONS, Defaults, File, Server
from .settings import Config, ModelConfig, ProviderConfig, Target
from .source import Document, Environment, read, read_environment
from .units import Address

__all__ = [
    "PACKAGED",
    "Address",
    "Config",
    "ConfigError",
    "Defaults",
    "ModelConfig",
    "Problem",
    "ProviderConfig",
    "Server",
    "Target",
    "find",
    "load",
]

# What holds without a file: the same variables as in the shipped config.yaml, so that API_KEY is never overlooked.
PACKAGED = """
server:
  listen: ${LISTEN:-}
  api_key: ${API_KEY:-}
  log_level: ${LOG_LEVEL:-}
defaults:
  temperature: ${DEFAULT_TEMPERATURE:-}
  max_tokens: ${DEFAULT_MAX_TOKENS:-}
timeouts:
  first_byte: ${PROVIDER_TIMEOUT:-}
  first_token: ${FIRST_CHUNK_TIMEOUT:-}
  total: ${MAX_OPERATION_TIMEOUT:-}
state_dir: ${STATE_DIR:-}
"""


def find(folder: Path) -> Path | None:
    """The configuration file of a folder, if it has one."""
    path = folder / "config.yaml"
    return path if path.is_file() else None


def load(
    path: Path | None,
    env: Mapping[str, str] | None = None,
    listen: str | None = None,
    capture: Path | None = None,
) -> Config:
    """The Config of the file `path`, or of the packaged defaults when None. Raises ConfigError.

    env: the variables; None takes those of the process and of `.env` (beside the file, then in the working directory).
    listen, capture: what the command line says; it wins over the file.
    """
    variables = read_environment(path) if env is None else env
    environment = Environment(variables)
    document = read(_text(path), environment, path)
    problems = [*document.problems, *_refuse_sections(document)]
    try:
        file = File.model_validate(document.tree)
    except ValidationError as error:
        raise ConfigError([*problems, *explain(error, File, document.marks)], path) from None
    folder = path.resolve().parent if path else Path.cwd()
    assembly = Assembly(file, document.marks, environment, folder)
    config = assembly.config(path, listen, capture)
    problems += assembly.problems
    if problems:
        raise ConfigError(problems, path)
    return config


def _text(path: Path | None) -> str:
    if path is None:
        return PACKAGED
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError([Problem("", f"cannot be read: {why}")], path) from None


def _refuse_sections(document: Document) -> list[Problem]:
    """Takes the sections of UNSUPPORTED_SECTIONS out of the tree; those that hold something are problems."""
    problems = []
    for name, meaning in UNSUPPORTED_SECTIONS.items():
        if document.tree.pop(name, None) not in (None, "", {}, []):
            words = f"section '{name}' is not supported by this version: {meaning}; remove it"
            problems.append(document.marks.problem((name,), words))
    return problems
