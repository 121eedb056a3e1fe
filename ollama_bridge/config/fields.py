"""What a value of the file may be: the types of the schema's keys, and what every section has in common.

Knows: spellings of numbers, texts, lists, addresses, keys. Must not know: which sections there are, what a key is for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, SecretStr, model_validator

from .units import parse_duration, parse_keep_alive, parse_size

Kind = Literal["openai", "anthropic", "google", "ollama", "huggingface", "ollamafree", "echo"]
Level = Literal["minimal", "low", "medium", "high", "xhigh", "max"]
Capability = Literal["completion", "tools", "insert", "vision", "embedding", "thinking", "audio"]


def _no_flag(value: object) -> object:
    # Pydantic takes true for 1.
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


def word_list(value: object) -> object:
    """A comma-separated text as a list, so that one variable can hold several words."""
    if isinstance(value, str):
        return [word for word in (part.strip() for part in value.split(",")) if word]
    return [item for item in value if item is not None] if isinstance(value, list) else value


def _key(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("expected text: put it in quotes")
    return clean_key(value)


def clean_key(value: str) -> SecretStr | None:
    """A key without the blanks around it, None for an empty one. Raises ValueError for one no header can carry."""
    key = value.strip()
    if not all("!" <= char <= "~" for char in key):
        raise ValueError("holds a blank or a character that no HTTP header can carry")
    return SecretStr(key) if key else None


def _keys(value: object) -> tuple[SecretStr, ...]:
    words = word_list(value)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("expected a list of keys, or a text with commas between them")
    keys = tuple(key for word in words if (key := clean_key(word)) is not None)
    if len({key.get_secret_value() for key in keys}) < len(keys):
        raise ValueError("one key stands there twice")
    return keys


def _path(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(/[\w.~-]+)+", value, re.ASCII):
        raise ValueError("expected a path such as /v1/fim/completions")
    return value


def clean_url(value: object) -> str:
    """An http(s) address without user, query or trailing slash. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("expected an address such as http://127.0.0.1:8080/v1")
    try:
        parts = urlsplit(value.strip())
        port_is_odd = parts.port == 0
    except ValueError:
        raise ValueError("expected an address such as http://127.0.0.1:8080/v1") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port_is_odd or re.search(r"\s", value.strip()):
        raise ValueError("expected an address such as http://127.0.0.1:8080/v1")
    if "@" in parts.netloc:
        raise ValueError("no user or password here: use api_key or headers")
    if parts.query or parts.fragment:
        raise ValueError("no ? or # here")
    return value.strip().rstrip("/")


def _think(value: object) -> object:
    flags = {"true": True, "false": False, "on": True, "off": False}
    value = flags.get(value.lower(), value) if isinstance(value, str) else value
    if not isinstance(value, bool) and value not in ("minimal", "low", "medium", "high", "xhigh", "max"):
        raise ValueError("expected true, false, minimal, low, medium, high, xhigh or max")
    return value


def _version(value: object) -> str:
    # Text editors compare it number by number (product.md 6).
    if not isinstance(value, str) or not re.fullmatch(r"\d+(\.\d+)+", value):
        raise ValueError('expected a version in quotes, such as "0.33.0"')
    return value


def _api_version(value: object) -> str:
    version = str(value)  # YAML takes one without quotes for a date
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}(-preview)?", version):
        raise ValueError("expected the date of a version, such as 2024-10-21")
    return version


def _origins(value: object) -> tuple[str, ...]:
    words = word_list(value)
    if not isinstance(words, list):
        raise ValueError("expected a list of origins, or a text with commas between them")
    for word in words:
        if not isinstance(word, str) or not is_origin(word):
            raise ValueError("expected origins such as https://chat.example.com, with one * at most, or * alone")
    return tuple(words)


def is_origin(word: str) -> bool:
    """Whether `word` can be allowed as a browser origin (ollama-protocol.md 0.4)."""
    return word == "*" or ("://" in word and word.count("*") <= 1 and not re.search(r"\s", word))


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _headers(value: object) -> dict[str, SecretStr]:
    if not isinstance(value, Mapping):
        raise ValueError("expected a mapping (Header-Name: value)")
    headers = {}
    for name, content in value.items():
        if content is None:
            continue
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError("holds a name that no HTTP header can have")
        if not isinstance(content, str):
            raise ValueError(f"expected text for {name}: put it in quotes")
        if not content.isprintable() or not content.isascii():
            raise ValueError(f"the value of {name} holds a character that no HTTP header can carry")
        headers[name] = SecretStr(content)
    return headers


Whole = Annotated[int, BeforeValidator(_no_flag)]
Natural = Annotated[int, BeforeValidator(_no_flag), Field(ge=0)]
Count = Annotated[int, BeforeValidator(_no_flag), Field(ge=1)]
Number = Annotated[float, BeforeValidator(_no_flag), Field(allow_inf_nan=False)]
Heat = Annotated[float, BeforeValidator(_no_flag), Field(ge=0, allow_inf_nan=False)]
Weight = Annotated[float, BeforeValidator(_no_flag), Field(gt=0, allow_inf_nan=False)]
Duration = Annotated[float, BeforeValidator(parse_duration)]  # seconds
KeepAlive = Annotated[float, BeforeValidator(parse_keep_alive)]  # seconds, negative for ever
Size = Annotated[int, BeforeValidator(parse_size)]  # bytes
Key = Annotated[SecretStr | None, PlainValidator(_key)]
Keys = Annotated[tuple[SecretStr, ...], PlainValidator(_keys)]
Url = Annotated[str, PlainValidator(clean_url)]
UrlPath = Annotated[str, PlainValidator(_path)]
Version = Annotated[str, PlainValidator(_version)]
ApiVersion = Annotated[str, PlainValidator(_api_version)]
Origins = Annotated[tuple[str, ...], PlainValidator(_origins)]
Headers = Annotated[dict[str, SecretStr], PlainValidator(_headers)]
Think = Annotated[bool | Level, PlainValidator(_think)]
Words = Annotated[tuple[str, ...], BeforeValidator(word_list)]
WordSet = Annotated[frozenset[str], BeforeValidator(word_list)]
Stops = Annotated[tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
Capabilities = Annotated[frozenset[Capability], BeforeValidator(word_list)]
Formats = Annotated[frozenset[Literal["json", "schema"]], BeforeValidator(word_list)]
Reasoning = Literal[
    "effort", "openrouter", "deepseek", "template", "adaptive", "between_tools", "budget", "thinking_level",
    "thinking_budget", "summary", "none",
]  # fmt: skip
ResponsesWhen = Annotated[frozenset[Literal["think", "tools", "reasoning_tools", "always"]], BeforeValidator(word_list)]


class Section(BaseModel):
    """A mapping of the file: no key but its own, and null is "not there"."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_unset(cls, value: Any) -> Any:
        return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value
