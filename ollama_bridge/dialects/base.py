"""What a wire dialect is, seen from both of its sides.

Knows: the seams between a dialect, the pipeline and a provider. Must not know: any concrete dialect or provider,
aiohttp, an SDK.

A dialect is pure and sans-IO: bytes and dicts in, values and events out, and back. It serves a client (an inbound
"door") and a provider (outbound) with the same codec and does not know which of the two asks.

    client --bytes--> decode --values--> [policy] --values--> encode --dict--> provider
    client <--bytes-- write  <--events-- [policy] <--events-- read   <--bytes-- provider
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import msgspec

from ..errors import GatewayError, WireError
from ..events import Event
from ..values import ChatRequest, EmbedReply, EmbedRequest, Reply, Usage

# Kinds of endpoint, the same words in every dialect.
CHAT = "chat"
GENERATE = "generate"  # one prompt, completed
EMBED = "embed"
EMBED_ONE = "embeddings"  # Ollama's legacy single-vector endpoint


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route of a dialect. `kind` is one of the words above."""

    dialect: str
    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class Loss:
    """Something the client asked for that the target cannot be told. `name` as the client would search for it."""

    name: str
    why: str = ""


@dataclass(slots=True)
class Facts:
    """All that policy knows of a request. `privacy` and `task` are what it says itself until policy/selection has
    decided on them. `prefill`: it ends with words of the assistant's, to be continued.
    `provider`: the one that the client wants asked, None for any."""

    model: str
    kind: str
    stream: bool
    tools: bool = False
    images: bool = False
    image_urls: bool = False
    audio: bool = False
    prefill: bool = False
    thinking: bool = False
    format: bool = False
    logprobs: bool = False
    suffix: bool = False
    privacy: str | None = None
    task: str | None = None
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """What one target accepts and how its wire spells it: data, not code. Presets give it, rules per model family
    refine it, refusals teach it (policy/adapt). Sources: providers.md sections 2.6 and 8.

    rejects: sampling names (as in values.Sampling), or "logprobs", "tool_choice", "parallel_tool_calls",
        "think", "stream_options", never to be sent. accepts: names beyond OpenAI's own that may be sent.
    max_tokens_field: how the limit is called. max_stops: longest stop list; more are emulated by the gateway.
    max_output: most tokens of an answer, None unknown; wires that demand a limit send it when the client sets none.
    cache_from: bytes of a prompt's beginning from which on a wire with marks asks for it to be cached; 0 never.
    reasoning: how thinking is switched: "effort" (reasoning_effort), "openrouter" (reasoning: {...}), "deepseek"
        (thinking: {type}), "template" (chat_template_kwargs.enable_thinking), "adaptive" (Claude's thinking: {type:
        adaptive|disabled}, with an effort), "between_tools" (the same, where that word stands for off), "budget"
        (Claude's thinking: {type: enabled, budget_tokens}), "thinking_level" and "thinking_budget" (Gemini's
        thinkingConfig from 3 on, and before), "summary" (Responses: reasoning: {effort, summary}), "none" (cannot be
        told).
    efforts: words the target takes, weakest first; () is any. think_off: whether reasoning can be switched off.
    reasons_by_default: reasons when nothing is said. drop_while_reasoning: names not to be sent while it reasons.
    thinking_in_history: field that carries earlier thoughts back ("reasoning_content", "reasoning"), or None.
    think_tags: the model writes <think> tags into its text.
    formats: which of "json", "schema" the wire can carry. image_urls: whether it fetches pictures itself.
    tool_ids: "any", or "nine" for nine alphanumerics (Mistral). system_role: the word for system messages.
    keeps: whether the target wants back what clients drop (signatures, its reasoning, ids of calls: policy/continuity).
    responses: when OpenAI's Responses API carries a chat instead, any of "think" (thoughts are asked for), "tools",
        "reasoning_tools" (tools, and it reasons), "always"; empty is never (policy/carrier).
    max_inputs: most texts of one request for embeddings; 0 is any. More go out in several (policy/batches).
    embeds_by: the dialect of embeddings where it is another one than the provider's own.
    fills_by: the dialect in which the middle of a text is filled in, "fim" or "infill", "" where there is no way to ask
        for it. fills_at: its path from the provider's address without the "/v1" at its end.
    seed_field: "seed" or "random_seed". stream_usage: whether stream_options.include_usage must be sent for usage.
    """

    rejects: frozenset[str] = frozenset()
    accepts: frozenset[str] = frozenset()
    max_tokens_field: str = "max_tokens"
    max_stops: int = 4
    max_output: int | None = None
    cache_from: int = 0
    reasoning: str = "effort"
    efforts: tuple[str, ...] = ()
    think_off: bool = True
    reasons_by_default: bool = False
    drop_while_reasoning: frozenset[str] = frozenset()
    thinking_in_history: str | None = None
    think_tags: bool = False
    formats: frozenset[str] = frozenset({"json", "schema"})
    image_urls: bool = True
    tool_ids: str = "any"
    system_role: str = "system"
    seed_field: str = "seed"
    stream_usage: bool = True
    keeps: bool = False
    responses: frozenset[str] = frozenset()
    embeds_by: str = ""
    fills_by: str = ""
    fills_at: str = ""
    max_inputs: int = 0
    extra_body: Mapping[str, Any] = field(default_factory=dict, hash=False)  # so that a profile can be looked up by

    def with_(self, **changes: Any) -> Profile:
        return replace(self, **changes)


class Moment(msgspec.Struct, gc=False):
    """When something is written: `wall_ns` unix nanoseconds, `elapsed_ns` since the request came in, `first_ns` the
    same for the first content (None before it). Dialects take the time from here: they have no clock."""

    wall_ns: int
    elapsed_ns: int
    first_ns: int | None = None


@dataclass(slots=True)
class Answer:
    """A whole HTTP answer. `chunked`: sent without Content-Length, as one chunk."""

    status: int
    content_type: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False


class StreamReader(Protocol):
    """Provider's stream -> events. `feed` never raises on bad input: it returns a Failed event, and words it as "the
    provider …" (whoever knows the name puts it in). `ending`: a finish reason has passed, only counts can follow."""

    @property
    def ending(self) -> bool: ...

    def feed(self, data: bytes) -> list[Event]: ...

    def end(self) -> list[Event]:
        """The connection ended. Returns what was held back: Finish if a finish reason was seen, else Failed (cut)."""
        ...


class StreamWriter(Protocol):
    """Events -> client's stream. `content_type`, `headers` and `heartbeat` hold for the whole stream."""

    content_type: str
    headers: Mapping[str, str]
    heartbeat: bytes

    def write(self, events: list[Event], now: Moment) -> bytes:
        """May return b"" while something is held back (half a tool call)."""
        ...

    def fail(self, error: GatewayError, now: Moment) -> bytes:
        """The dialect's in-stream error; the stream ends after it. Never looks like a clean end."""
        ...


class Tap(Protocol):
    """Relay of a stream whose dialect is the client's own: bytes through with the model name put back, and metering
    beside it. A metering bug must never break the stream."""

    content_type: str
    headers: Mapping[str, str]
    heartbeat: bytes
    usage: Usage
    finished: bool  # a finish reason (or done line) has passed
    content: bool  # something a client can show has passed
    error: GatewayError | None  # the provider reported an error inside the stream

    def feed(self, data: bytes) -> bytes:
        """Whole frames only: half a frame is held back until the rest has come."""
        ...

    def end(self) -> bytes: ...

    def fail(self, error: GatewayError, now: Moment) -> bytes: ...


Request = ChatRequest | EmbedRequest


class Dialect(Protocol):
    """The codec of one wire. All methods are pure. `kind` is an Endpoint kind."""

    name: str

    # -- requests -----------------------------------------------------------------------------------------------
    def decode(self, kind: str, body: bytes) -> Request:
        """Raises GatewayError (early, caller) in this dialect's own words."""
        ...

    def check(self, kind: str, request: Request, model: ModelView) -> None:
        """What can only be judged once the model is known (capabilities, option types), in this dialect's order and
        words. Not called for an unload. Raises GatewayError."""
        ...

    def encode(self, request: Request, model: str, profile: Profile) -> tuple[str, dict[str, Any], list[Loss]]:
        """-> (endpoint kind at the provider, body, losses). `model` is the upstream name. The request has been
        fitted to the profile already (policy/adapt)."""
        ...

    def relay(self, body: bytes, model: str, request: Request) -> bytes | None:
        """The client's own body with only the permitted edits (model name, usage request); None: not possible."""
        ...

    # -- whole replies -------------------------------------------------------------------------------------------
    def read_reply(self, kind: str, body: bytes, profile: Profile) -> Reply | EmbedReply:
        """Raises GatewayError (provider) when the body is no reply; a body that holds an error raises that."""
        ...

    def write_reply(self, kind: str, request: Request, reply: Reply | EmbedReply, now: Moment) -> Answer: ...

    def relay_reply(self, kind: str, body: bytes, request: Request) -> tuple[bytes, Usage]:
        """A reply in the client's own dialect: bytes with the model name put back, and its usage."""
        ...

    # -- streams -------------------------------------------------------------------------------------------------
    def reader(self, kind: str, profile: Profile) -> StreamReader: ...

    def writer(self, kind: str, request: ChatRequest) -> StreamWriter:
        """Takes from the request what the stream needs and keeps no reference to it."""
        ...

    def tap(self, kind: str, request: ChatRequest) -> Tap: ...

    # -- errors --------------------------------------------------------------------------------------------------
    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> WireError: ...

    def write_error(self, kind: str, error: GatewayError, stream: bool) -> Answer:
        """`stream`: whether the client had asked for a stream (some wires answer with another content type)."""
        ...


@dataclass(frozen=True, slots=True)
class ModelView:
    """The public face of a model that a dialect may need to judge or describe a request: the name as displayed
    (with tag) and its capability words (completion, tools, insert, vision, embedding, thinking, audio).
    drop_tools: tools are left out for it instead of refused."""

    name: str
    capabilities: frozenset[str]
    drop_tools: bool = False
