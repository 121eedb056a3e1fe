"""What may stand in the file: every key, its type and its default. Documented key by key in the shipped config.yaml.

Knows: keys, types, ranges, and which sections and words this version refuses by name. Must not know: presets, the
environment, what is made of the values.

A key whose value is null, or one `${…}` that came out empty, is as if it were not there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from .facts import Day, FactsEntry, PriceEntry
from .fields import (
    ApiVersion,
    Capabilities,
    Count,
    Duration,
    Formats,
    Headers,
    Heat,
    KeepAlive,
    Key,
    Keys,
    Kind,
    Natural,
    Number,
    Origins,
    Reasoning,
    ResponsesWhen,
    Section,
    Size,
    Stops,
    Think,
    Url,
    UrlPath,
    Version,
    Whole,
    Words,
    WordSet,
)
from .limits import BackoffEntry, LimitsEntry, QueueEntry, RedisUrl
from .routing import RoutingEntry, Targets
from .units import Address, parse_address

# Sections that product pages name and this version does not have -> what that means. A value in one is an error.
UNSUPPORTED_SECTIONS = {
    "store": "nothing is kept in a database",
    "tenants": "there is one key for everybody, server.api_key",
    "tracing": "no traces are exported",
    "metrics": "/metrics is always there and takes no settings",
}


class Server(Section):
    """The doors. `heartbeat` and `drain` in seconds (0: none), `max_body` in bytes after decompression."""

    listen: Annotated[Address, PlainValidator(parse_address)] = Address()
    api_key: Key = None
    open: bool = False
    origins: Origins = ()
    heartbeat: Duration = 20.0
    drain: Duration = 30.0
    openai_compat: Literal["rich", "ollama"] = "rich"
    version: Version = "0.33.0"
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


class GeneralTimeouts(TimeoutsEntry):
    """Those of all providers. `thinking`: of models that think, unless a provider or a model says otherwise."""

    thinking: TimeoutsEntry = TimeoutsEntry()


class Quirks(Section):
    """Changes to what a preset says of an OpenAI-compatible service; the fields are those of dialects.base.Profile.
    `thinking_in_history` "none" sends no earlier thoughts back."""

    rejects: WordSet | None = None
    accepts: WordSet | None = None
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    max_stops: Natural | None = None
    reasoning: Reasoning | None = None
    efforts: Words | None = None
    think_off: bool | None = None
    reasons_by_default: bool | None = None
    drop_while_reasoning: WordSet | None = None
    thinking_in_history: Literal["reasoning_content", "reasoning", "none"] | None = None
    think_tags: bool | None = None
    formats: Formats | None = None
    image_urls: bool | None = None
    tool_ids: Literal["any", "nine"] | None = None
    system_role: Literal["system", "developer", "user"] | None = None
    seed_field: Literal["seed", "random_seed"] | None = None
    stream_usage: bool | None = None
    responses: ResponsesWhen | None = None
    keeps: bool | None = None
    fills_by: Literal["fim", "infill"] | None = None
    fills_at: UrlPath | None = None
    extra_body: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _filled(self) -> Self:
        if (self.fills_by is None) != (self.fills_at is None):
            raise ValueError("fills_by and fills_at are said together")
        return self


class ProviderEntry(Section):
    """How to reach a provider. A preset needs none of it."""

    kind: Kind | None = None
    base_url: Url | None = None
    api_key: Key = None
    api_keys: Keys = ()
    local: bool | None = None
    headers: Headers = {}
    api_version: ApiVersion | None = None
    hub_url: Url | None = None
    timeouts: TimeoutsEntry = TimeoutsEntry()
    queue: QueueEntry | None = None
    patterns: Words | None = Field(default=None, alias="list")
    drop_tools: bool = False
    models: dict[str, FactsEntry] = {}
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
    """An alias: where it leads and what holds for it alone."""

    provider: str | None = None
    model: str | None = None
    targets: Targets | None = None
    strategy: Literal["ordered", "weighted", "least_busy", "cheapest"] = "ordered"
    privacy: Literal["strict"] | None = None
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
    price: PriceEntry | None = None
    retires: Day | None = None
    timeouts: TimeoutsEntry = TimeoutsEntry()
    drop_tools: bool | None = None
    strict_parameters: bool | None = None
    resume: bool = False
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
    routing: RoutingEntry = RoutingEntry()
    timeouts: GeneralTimeouts = GeneralTimeouts()
    backoff: BackoffEntry = BackoffEntry()
    limits: LimitsEntry = LimitsEntry()
    redis: RedisUrl | None = None
    debug: Debug = Debug()
    state_dir: Path | None = None
    strict_parameters: bool = False
