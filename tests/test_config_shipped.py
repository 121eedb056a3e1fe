"""The shipped files are true: config.yaml and .env.example work as they are and name all there is, and nothing else."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from configs import configured, schema_keys

from ollama_bridge.config import PACKAGED, load
from ollama_bridge.config.schema import File
from ollama_bridge.providers.presets import PRESETS

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "config.yaml"


def shipped_with_examples() -> str:
    """The shipped file with every example switched on, as its first lines tell the reader to."""
    return re.sub(r"^( *)#(?=[^# \n-])", r"\1", SHIPPED.read_text(encoding="utf-8"), flags=re.MULTILINE)


def file_keys(tree: dict[str, Any]) -> set[str]:
    """Every key of the file that stands where the schema has keys of its own, as dotted paths."""
    known = schema_keys(File)
    found: set[str] = set()

    def walk(value: object, path: str) -> None:
        for item in value if isinstance(value, list) else ():
            walk(item, path)
        if not isinstance(value, dict):
            return
        chosen = path in ("providers", "providers.*.models", "models", "limits.providers", "limits.models")
        for key, inner in value.items():
            inside = f"{path}.{'*' if chosen else key}" if path else key
            if not chosen:
                found.add(inside)
            if chosen or any(name.startswith(f"{inside}.") for name in known):
                walk(inner, inside)

    walk(tree, "")
    return found


def test_the_shipped_file_works_as_it_is() -> None:
    config = load(SHIPPED, env={})
    without = load(None, env={})
    assert dataclasses.replace(config, source=None, providers={}) == dataclasses.replace(without, providers={})
    assert config.providers == without.providers
    assert config.warnings == ()


def test_the_shipped_file_works_with_every_example_switched_on(tmp_path: Path) -> None:
    config = configured(tmp_path, shipped_with_examples().replace("  origins: []\n", ""))
    assert config.models["careful"].context_length == 200000
    assert config.providers["lab"].local and config.providers["lab"].headers
    assert set(config.providers) == {*(name for name, row in PRESETS.items() if not row.by_name), "lab"}


def test_the_shipped_file_documents_every_key_and_no_other() -> None:
    tree = yaml.safe_load(shipped_with_examples().replace("  origins: []\n", ""))
    documented = file_keys(tree)
    # The shorthand of one alias stands for the other way to name a target; options are listed in a comment.
    text = SHIPPED.read_text(encoding="utf-8")
    documented |= {f"models.*.options.{name}" for name in re.findall(r"\b[a-z_]+\b", text)} & schema_keys(File)
    assert documented == schema_keys(File)


def test_every_key_of_the_shipped_file_has_an_explanation() -> None:
    bare = []
    explained = False
    for line in SHIPPED.read_text(encoding="utf-8").splitlines():
        if re.match(r" *# ", line):
            explained = True
        elif re.match(r" *#?[\w<]", line) and not explained:
            bare.append(line.strip())
        elif not line.strip():
            explained = False
    assert bare == []


VARIABLES = {
    "LISTEN": "localhost:9", "API_KEY": "k", "LOG_LEVEL": "debug", "DEFAULT_TEMPERATURE": "0.1",
    "DEFAULT_MAX_TOKENS": "9", "PROVIDER_TIMEOUT": "1", "FIRST_CHUNK_TIMEOUT": "2", "MAX_OPERATION_TIMEOUT": "3",
    "STATE_DIR": "/s", "OLLAMA_BASE_URL": "http://b:1", "OLLAMA_ORIGINS": "https://a",
    "BACKOFF_BASE_SECONDS": "1", "BACKOFF_MAX_SECONDS": "9", "RATE_LIMIT_REQUESTS_PER_MINUTE": "60",
    "MAX_CONCURRENT_STREAMS": "10", "REDIS_URL": "redis://localhost",
    **{
        f"{name}_RATE_LIMIT": "30"
        for name in (
            "OPENAI", "ANTHROPIC", "GOOGLE", "HUGGINGFACE", "GROQ", "OPENROUTER", "DEEPSEEK", "MISTRAL", "XAI",
            "TOGETHER", "FIREWORKS", "CEREBRAS", "PERPLEXITY", "OLLAMA",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_means_the_same_with_and_without_the_shipped_file(name: str) -> None:
    env = {name: VARIABLES[name]}
    config = load(SHIPPED, env=env)
    assert dataclasses.replace(config, source=None) == load(None, env=env)
    assert dataclasses.replace(config, source=None) != load(None, env={})


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\$\{([A-Z_]+)", text))


def test_the_variables_of_the_shipped_file_are_those_of_the_packaged_defaults() -> None:
    direct = {"OLLAMA_BASE_URL", "OLLAMA_ORIGINS"}  # read whatever the file says
    shipped = names_in(SHIPPED.read_text(encoding="utf-8")) - {"LAB_KEY", "NAME"}
    assert shipped | direct == names_in(PACKAGED) | direct == set(VARIABLES)


def test_env_example_lists_every_variable_and_no_other() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    listed = re.findall(r"^([A-Z_]+)=$", text, re.MULTILINE)
    keys = [key for preset in PRESETS.values() for key in preset.keys]
    assert sorted(listed) == sorted({*VARIABLES, *keys})
    assert re.sub(r"^[A-Z_]+=$|^#.*$", "", text, flags=re.MULTILINE).strip() == ""


def test_env_example_as_env_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text((ROOT / ".env.example").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    for name in {*VARIABLES, *(key for preset in PRESETS.values() for key in preset.keys)}:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    assert load(None) == load(None, env={})
