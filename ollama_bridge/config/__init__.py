"""The configuration: `config.yaml`, `.env` and the environment -> one frozen Config, or a ConfigError that names what
to mend. No other module reads the environment.

Knows: the order of the steps. Must not know: keys, presets, YAML (its own modules do).

    source (text, variables) -> schema (what may stand there) -> assemble (presets, keys, targets) -> settings (Config)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from .assemble import Assembly
from .problems import ConfigError, Problem, explain
from .schema import UNSUPPORTED_SECTIONS, Defaults, File, Server
from .settings import Config, ModelConfig, ProviderConfig, Target
from .source import Document, Environment, environment_files, read, read_environment
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
backoff:
  base: ${BACKOFF_BASE_SECONDS:-}
  max: ${BACKOFF_MAX_SECONDS:-}
limits:
  requests_per_minute: ${RATE_LIMIT_REQUESTS_PER_MINUTE:-}
  concurrent_streams: ${MAX_CONCURRENT_STREAMS:-}
  providers:
    openai: {requests_per_minute: "${OPENAI_RATE_LIMIT:-}"}
    anthropic: {requests_per_minute: "${ANTHROPIC_RATE_LIMIT:-}"}
    google: {requests_per_minute: "${GOOGLE_RATE_LIMIT:-}"}
    huggingface: {requests_per_minute: "${HUGGINGFACE_RATE_LIMIT:-}"}
    groq: {requests_per_minute: "${GROQ_RATE_LIMIT:-}"}
    openrouter: {requests_per_minute: "${OPENROUTER_RATE_LIMIT:-}"}
    deepseek: {requests_per_minute: "${DEEPSEEK_RATE_LIMIT:-}"}
    mistral: {requests_per_minute: "${MISTRAL_RATE_LIMIT:-}"}
    xai: {requests_per_minute: "${XAI_RATE_LIMIT:-}"}
    together: {requests_per_minute: "${TOGETHER_RATE_LIMIT:-}"}
    fireworks: {requests_per_minute: "${FIREWORKS_RATE_LIMIT:-}"}
    cerebras: {requests_per_minute: "${CEREBRAS_RATE_LIMIT:-}"}
    perplexity: {requests_per_minute: "${PERPLEXITY_RATE_LIMIT:-}"}
    ollama: {requests_per_minute: "${OLLAMA_RATE_LIMIT:-}"}
redis: ${REDIS_URL:-}
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
    files = {*environment.files, *(environment_files(path) if env is None else ()), *((path,) if path else ())}
    return dataclasses.replace(config, files=frozenset(files))


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
