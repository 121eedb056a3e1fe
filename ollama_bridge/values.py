"""Requests and replies as every dialect understands them.

Knows: what at least three dialects have. Must not know: any wire spelling. What only one dialect has rides along in
the `vendor` bag of its value (keyed by dialect name), or as an `Opaque` block, so that a round trip through the same
dialect loses nothing.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Role = str  # "system", "user", "assistant", "tool"; other words travel as they came
Vendor = dict[str, dict[str, Any]]  # dialect name -> its own fields


class Text(msgspec.Struct, tag="text"):
    text: str


class Media(msgspec.Struct, tag="media"):
    """An image or a sound. `data` is standard base64 text (kept undecoded: bodies of tens of MB are normal), `mime`
    its sniffed or stated type; `url` an http(s) address instead of data. `detail`: OpenAI's image detail."""

    kind: Literal["image", "audio"] = "image"
    mime: str = ""
    data: str | None = None
    url: str | None = None
    detail: str | None = None


class Thinking(msgspec.Struct, tag="thinking"):
    text: str
    signature: str | None = None
    vendor: Vendor = {}


class ToolCall(msgspec.Struct, tag="tool_call"):
    """`arguments` is JSON text of an object, as the model wrote it; "" means none were given."""

    name: str
    arguments: str = "{}"
    id: str | None = None
    vendor: Vendor = {}


class ToolResult(msgspec.Struct, tag="tool_result"):
    """Answer to a call. Many clients send neither `call_id` nor `name`: pairing is policy/adapt's work."""

    content: list[Text | Media]
    call_id: str | None = None
    name: str | None = None
    is_error: bool = False


class Opaque(msgspec.Struct, tag="opaque"):
    """A block only `dialect` can read; another dialect counts it as a loss."""

    dialect: str
    payload: Any


Block = Text | Media | Thinking | ToolCall | ToolResult | Opaque


class Message(msgspec.Struct):
    role: Role
    blocks: list[Block]
    vendor: Vendor = {}

    def text(self) -> str:
        """All text of the message, joined."""
        return "".join(b.text for b in self.blocks if isinstance(b, Text))


class Tool(msgspec.Struct):
    """`parameters` is a JSON schema of an object. `vendor` holds e.g. OpenAI's `strict`."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    vendor: Vendor = {}


class Format(msgspec.Struct):
    """Wanted shape of the answer: `schema` None is "any JSON"."""

    schema: dict[str, Any] | None = None
    name: str | None = None
    strict: bool | None = None


class Sampling(msgspec.Struct):
    """What the client set; None is "not set, not sent". Counts are tokens. `extra` holds names that only local
    engines know (typical_p, repeat_last_n, mirostat …), as the client spelt them in Ollama's options."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None
    num_ctx: int | None = None
    extra: dict[str, Any] = {}


Think = bool | Literal["minimal", "low", "medium", "high", "xhigh", "max"] | None  # None: the client did not say


class ChatRequest(msgspec.Struct):
    """A conversation to continue. `model` is the public name exactly as sent (it is echoed). `intent` "load" and
    "unload" cost nothing and never reach a provider. `keep_alive` is in seconds, negative for ever, None unset.
    `truncate`: the oldest turns may be dropped to fit the model's window. `raw`, `suffix` and `template` belong to
    completion endpoints, whose prompt is the last user text. `losses`: what decoding itself had to leave out.
    """

    model: str
    messages: list[Message] = []
    stream: bool = False
    tools: list[Tool] = []
    tool_choice: Any = None  # None, "none", "auto", "required", or {"name": str}
    sampling: Sampling = msgspec.field(default_factory=Sampling)
    format: Format | None = None
    think: Think = None
    logprobs: bool = False
    top_logprobs: int | None = None
    include_usage: bool = False  # a stream's last frame should carry usage (OpenAI's stream_options)
    n: int | None = None
    parallel_tool_calls: bool | None = None
    intent: Literal["run", "load", "unload"] = "run"
    keep_alive: float | None = None
    truncate: bool | None = None
    raw: bool = False
    suffix: str | None = None
    template: str | None = None
    privacy: str | None = None  # "strict" or "flexible"
    task: str | None = None
    provider: str | None = None  # the configured provider to be asked, where the client names one beside the model
    vendor: Vendor = {}
    losses: list[str] = []


class EmbedRequest(msgspec.Struct):
    """`inputs` in the order the vectors must come back."""

    model: str
    inputs: list[str]
    dimensions: int | None = None
    truncate: bool | None = None
    keep_alive: float | None = None
    encoding: Literal["float", "base64"] = "float"  # of the answer to this client
    intent: Literal["run", "load", "unload"] = "run"
    privacy: str | None = None
    task: str | None = None
    provider: str | None = None
    vendor: Vendor = {}


class Usage(msgspec.Struct):
    """Tokens (None: the provider did not say) and durations in nanoseconds (None: not told, the gateway measures).
    `prompt` includes cached tokens, `completion` includes reasoning."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    reasoning: int | None = None
    total_ns: int | None = None
    load_ns: int | None = None
    prompt_ns: int | None = None
    completion_ns: int | None = None
    estimated: bool = False


Reason = str  # "stop", "length", "tool_calls", "content_filter", "load", "unload"


class Reply(msgspec.Struct):
    """A whole answer. `created` is unix seconds. `logprobs` items: {token, logprob, bytes, top_logprobs?}. `provider`:
    who really answered, which no wire tells; it is put in, with that target's `model`, when the answer is complete."""

    blocks: list[Block] = []
    reason: Reason = "stop"
    usage: Usage = msgspec.field(default_factory=Usage)
    id: str | None = None
    model: str | None = None
    created: int | None = None
    logprobs: list[dict[str, Any]] | None = None
    provider: str | None = None
    vendor: Vendor = {}


class EmbedReply(msgspec.Struct):
    """`vectors` in input order, each a list of floats as the provider sent them."""

    vectors: list[list[float]]
    usage: Usage = msgspec.field(default_factory=Usage)
    model: str | None = None
