"""What may stand in the file: every key, its type and its default. Documented key by key in the shipped config.yaml.

Knows: keys, types, ranges, and which sections and words this version refuses by name. Must not know: presets, the
environment, what is made of the values.

A key whose value is null, or one `${…}` that came out empty, is as if it were not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, SecretStr, model_validator

from .units import Address, parse_address, parse_duration, parse_keep_alive, parse_size

# Sections that product pages name and this version does not have -> what that means. A value in one is an error.
UNSUPPORTED_SECTIONS = {
    "routing": "requests are not routed by privacy or task",
    "backoff": "a request is tried once",
    "limits": "nothing is limited",
    "redis": "nothing is shared between processes",
    "store": "nothing is kept in a database",
    "tenants": "there is one key for everybody, server.api_key",
    "tracing": "no traces are exported",
    "metrics": "/metrics is always there and takes no settings",
}

Kind = Literal["openai", "anthropic", "google", "ollama", "huggingface", "ollamafree", "echo"]
Level = Literal["minimal", "low", "medium", "high", "xhigh", "max"]
Capability = Literal["completion", "tools", "insert", "vision", "embedding", "thinking", "audio"]


def _no_flag(value: object) -> object:
    # Pydantic takes true for 1.
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


def _words(value: object) -> object:
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
    words = _words(value)
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
Count = Annotated[int, BeforeValidator(_no_flag), Field(ge=1)]
Number = Annotated[float, BeforeValidator(_no_flag), Field(allow_inf_nan=False)]
Heat = Annotated[float, BeforeValidator(_no_flag), Field(ge=0, allow_inf_nan=False)]
Duration = Annotated[float, BeforeValidator(parse_duration)]  # seconds
KeepAlive = Annotated[float, BeforeValidator(parse_keep_alive)]  # seconds, negative for ever
Size = Annotated[int, BeforeValidator(parse_size)]  # bytes
Key = Annotated[SecretStr | None, PlainValidator(_key)]
Url = Annotated[str, PlainValidator(clean_url)]
Headers = Annotated[dict[str, SecretStr], PlainValidator(_headers)]
Think = Annotated[bool | Level, PlainValidator(_think)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
WordSet = Annotated[frozenset[str], BeforeValidator(_words)]
Stops = Annotated[tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
Capabilities = Annotated[frozenset[Capability], BeforeValidator(_words)]
Reasoning = Literal[
    "effort", "openrouter", "deepseek", "template", "adaptive", "between_tools", "budget", "thinking_level",
    "thinking_budget", "summary", "none",
]  # fmt: skip
ResponsesWhen = Annotated[frozenset[Literal["think", "tools", "reasoning_tools", "always"]], BeforeValidator(_words)]


class Section(BaseModel):
    """A mapping of the file: no key but its own, and null is "not there"."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_unset(cls, value: Any) -> Any:
        return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


class Server(Section):
    """The doors. `heartbeat` in seconds (0: none), `max_body` in bytes after decompression."""

    listen: Annotated[Address, PlainValidator(parse_address)] = Address()
    api_key: Key = None
    open: bool = False
    origins: Annotated[tuple[str, ...], PlainValidator(_origins)] = ()
    heartbeat: Duration = 20.0
    openai_compat: Literal["rich", "ollama"] = "rich"
    version: Annotated[str, PlainValidator(_version)] = "0.33.0"
    max_body: Size = 256 * 1024 * 1024
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Defaults(Section):
    """For every model, unless the model or the request says otherwise. None is "not sent"."""

    temperature: Heat | None = None
    max_tokens: Count | None = None
    system: str | None = None
    think: Think | None = None
    keep_alive: KeepAlive | None = None


class TimeoutsEntry(Section):
    """Seconds, 0 for "no limit"; None leaves what stands one level up. Meanings: providers.base.Timeouts."""

    connect: Duration | None = None
    first_byte: Duration | None = None
    first_token: Duration | None = None
    idle: Duration | None = None
    total: Duration | None = None


class Quirks(Section):
    """Changes to what a preset says of an OpenAI-compatible service; the fields are those of dialects.base.Profile.
    `thinking_in_history` "none" sends no earlier thoughts back."""

    rejects: WordSet | None = None
    accepts: WordSet | None = None
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    max_stops: Annotated[int, BeforeValidator(_no_flag), Field(ge=0)] | None = None
    reasoning: Reasoning | None = None
    efforts: Words | None = None
    think_off: bool | None = None
    reasons_by_default: bool | None = None
    drop_while_reasoning: WordSet | None = None
    thinking_in_history: Literal["reasoning_content", "reasoning", "none"] | None = None
    think_tags: bool | None = None
    formats: Annotated[frozenset[Literal["json", "schema"]], BeforeValidator(_words)] | None = None
    image_urls: bool | None = None
    tool_ids: Literal["any", "nine"] | None = None
    system_role: Literal["system", "developer", "user"] | None = None
    seed_field: Literal["seed", "random_seed"] | None = None
    stream_usage: bool | None = None
    responses: ResponsesWhen | None = None
    keeps: bool | None = None
    extra_body: dict[str, Any] | None = None


class ProviderEntry(Section):
    """How to reach a provider. A preset needs none of it."""

    kind: Kind | None = None
    base_url: Url | None = None
    api_key: Key = None
    local: bool | None = None
    headers: Headers = {}
    api_version: Annotated[str | None, PlainValidator(_api_version)] = None
    timeouts: TimeoutsEntry = TimeoutsEntry()
    patterns: Words | None = Field(default=None, alias="list")
    drop_tools: bool = False
    quirks: Quirks = Quirks()


class Options(Section):
    """Ollama's options under Ollama's names (ollama-protocol.md 2.2)."""

    temperature: Heat | None = None
    top_p: Number | None = None
    top_k: Whole | None = None
    min_p: Number | None = None
    typical_p: Number | None = None
    seed: Whole | None = None
    stop: Stops | None = None
    num_predict: Whole | None = None
    num_ctx: Count | None = None
    num_keep: Whole | None = None
    num_batch: Count | None = None
    num_gpu: Whole | None = None
    main_gpu: Whole | None = None
    num_thread: Whole | None = None
    use_mmap: bool | None = None
    draft_num_predict: Whole | None = None
    repeat_last_n: Whole | None = None
    repeat_penalty: Number | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None


class ModelEntry(Section):
    """An alias: where it leads and what holds for it alone. `targets` are `provider/model` texts."""

    provider: str | None = None
    model: str | None = None
    targets: Annotated[tuple[str, ...], BeforeValidator(_words)] | None = None
    system: str | None = None
    temperature: Heat | None = None
    max_tokens: Count | None = None
    think: Think | None = None
    keep_alive: KeepAlive | None = None
    options: Options = Options()
    capabilities: Capabilities | None = None
    context_length: Count | None = None
    max_output: Count | None = None
    embedding_length: Count | None = None
    timeouts: TimeoutsEntry = TimeoutsEntry()
    drop_tools: bool | None = None
    strict_parameters: bool | None = None
    api: Literal["auto", "chat", "responses"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, value: Any) -> Any:
        return {"targets": [value]} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.targets is None and not (self.provider and self.model):
            raise ValueError("expected provider/model, or provider: and model:, or targets:")
        if self.targets is not None and (self.provider or self.model):
            raise ValueError("either provider: and model:, or targets:, not both")
        if self.targets == ():
            raise ValueError("expected one target at least")
        if self.temperature is not None and self.options.temperature is not None:
            raise ValueError("temperature stands here and under options; say it once")
        if self.max_tokens is not None and self.options.num_predict is not None:
            raise ValueError("max_tokens and options.num_predict are the same; say it once")
        return self


class Debug(Section):
    """What one switches on to look for a fault. `capture`: a folder for what came in, went up and came back."""

    capture: Path | None = None


def _providers(value: object) -> object:
    # `groq:` with nothing after it is the preset as it is.
    return {name: {} if entry is None else entry for name, entry in value.items()} if isinstance(value, dict) else value


def _models(value: object) -> object:
    return {name: entry for name, entry in value.items() if entry is not None} if isinstance(value, dict) else value


class File(Section):
    """The whole file."""

    server: Server = Server()
    defaults: Defaults = Defaults()
    providers: Annotated[dict[str, ProviderEntry], BeforeValidator(_providers)] = {}
    models: Annotated[dict[str, ModelEntry], BeforeValidator(_models)] = {}
    timeouts: TimeoutsEntry = TimeoutsEntry()
    debug: Debug = Debug()
    state_dir: Path | None = None
    strict_parameters: bool = False
