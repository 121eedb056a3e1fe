"""A request fitted to what one target takes: values in, values out.

Knows: profiles, and how to say the same thing in fewer words. Must not know: wire spellings (a dialect's `encode`
spells by the same profile), which model or provider a profile came from, clocks.

Nothing is lost silently: what a target cannot be told becomes a Loss under the name of the field. Two kinds of dropping
are none: a value that says what holds anyway (a penalty of 0), and the knobs of a local engine that do not change what
is answered (providers.md 3.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from ..dialects.base import Loss, Profile
from ..framing import dumps
from ..values import ChatRequest, EmbedRequest, Format, Message, Sampling, Text, ToolCall, Vendor
from .families import (
    BLANK_STOPS,
    DEVELOPER_ROLE,
    FORCED_TOOL,
    FORMAT_WITH_TOOLS,
    JSON_UNSAID,
    OTHER_LIMIT,
    PREFILL,
    REPEATED_ROLES,
)
from .schemas import filled_tools
from .thinking import can_think, fit_think, nearest

if TYPE_CHECKING:
    from .catalog import Defaults

_BEYOND_OPENAI = frozenset({"top_k", "min_p", "repeat_penalty", "num_ctx"})
_SAMPLING = tuple(name for name in Sampling.__struct_fields__ if name != "extra")
# What a field means when it is not sent, so that leaving it out changes nothing.
_NEUTRAL: dict[str, Any] = {
    "temperature": 1, "top_p": 1, "top_k": 0, "min_p": 0, "repeat_penalty": 1, "presence_penalty": 0,
    "frequency_penalty": 0, "typical_p": 1, "tfs_z": 1, "mirostat": 0,
}  # fmt: skip
_RANGES = {"temperature": (0.0, 2.0), "presence_penalty": (-2.0, 2.0), "frequency_penalty": (-2.0, 2.0)}
# How a local engine is run, not what it answers (providers.md 3.2). num_ctx serves the gateway's own trimming.
_ENGINE_KNOBS = frozenset(
    {
        "num_ctx", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "use_mmap", "use_mlock", "numa",
        "low_vram", "f16_kv", "vocab_only", "logits_all", "embedding_only", "draft_num_predict",
    }
)  # fmt: skip
_GO_ON = "Continue."
_JSON_WORDS = "Answer with JSON only: no code fence, no text before or after it."
_SCHEMA_WORDS = "Answer with JSON only: no code fence, no text before or after it. It must match this JSON schema:\n"


def adapt(request: ChatRequest, profile: Profile) -> tuple[ChatRequest, list[Loss], bool]:
    """-> (the request as the target takes it, what is lost, whether it differs from what the client said).

    When the last is False, the client's own body may go out as it is. It is also True where the values fit but the
    target spells them in another way than a client may have (`encode` does that by the profile), and where stop strings
    must be found by the gateway: those stay in the request (`stops_to_cut`). The input is not changed; what stays the
    same is shared with it.
    Sources: providers.md 2.6, 3.1-3.3.
    """
    if reads_ollama_options(profile):
        return _fit_engine(request, profile)
    losses: list[Loss] = []
    think, reasoning = fit_think(request, profile, losses)
    form, instruction = _fit_format(request, profile, losses)
    fitted: dict[str, Any] = {
        "think": think,
        "sampling": _fit_sampling(request.sampling, profile, reasoning, losses),
        "format": form,
        "messages": _fit_messages(request.messages, profile, instruction, losses),
        "tools": filled_tools(request.tools),
        "vendor": _fit_vendor(request.vendor, profile, reasoning, losses),
        **_fit_extras(request, profile, reasoning, losses),
    }
    changes = {name: value for name, value in fitted.items() if not _same(value, getattr(request, name))}
    changed = bool(changes) or bool(stops_to_cut(request.sampling.stop, profile)) or _respelled(request, profile)
    return (msgspec.structs.replace(request, **changes) if changes else request), losses, changed


def adapt_embedding(request: EmbedRequest, profile: Profile) -> tuple[EmbedRequest, list[Loss], bool]:
    """As `adapt`, for texts to be embedded."""
    losses: list[Loss] = []
    changes: dict[str, Any] = {}
    if request.dimensions is not None and "dimensions" in profile.rejects:
        changes["dimensions"] = None
        losses.append(Loss("dimensions", "not taken by this model"))
    vendor = _fit_vendor(request.vendor, profile, False, losses)
    if vendor is not request.vendor:
        changes["vendor"] = vendor
    changed = bool(changes) or "encoding_format" in profile.rejects
    return (msgspec.structs.replace(request, **changes) if changes else request), losses, changed


def _same(new: Any, old: Any) -> bool:
    """What was not touched is the very object, so that long conversations are not compared."""
    return new is old or new == old


def drop_tools(request: ChatRequest) -> tuple[ChatRequest, list[Loss]]:
    """For a model without tools whose operator wants them left out instead of refused (product.md 3)."""
    if not request.tools:
        return request, []
    fitted = msgspec.structs.replace(request, tools=[], tool_choice=None, parallel_tool_calls=None)
    return fitted, [Loss("tools", "the model has none")]


def apply_defaults(request: ChatRequest, defaults: Defaults, profile: Profile | None = None) -> ChatRequest:
    """What the request leaves open, as the operator wants it for the model; `defaults` are the model's over the global
    ones already. With a profile, what the target would refuse is left out, so that it is never a loss. Returns the
    request itself when nothing is added."""
    profile = profile or Profile()
    changes: dict[str, Any] = {}
    if defaults.think is not None and request.think is None and can_think(profile):
        changes["think"] = defaults.think
    opened = bool(request.messages) and request.messages[0].role == "system"
    if defaults.system and not opened and not request.suffix:  # nothing is said to who fills a gap
        changes["messages"] = [Message("system", [Text(defaults.system)]), *request.messages]
    if defaults.keep_alive is not None and request.keep_alive is None and reads_ollama_options(profile):
        changes["keep_alive"] = defaults.keep_alive
    probe = msgspec.structs.replace(request, **changes)
    _, reasoning = fit_think(probe, profile, [])
    sampling = _default_sampling(request.sampling, defaults, profile, reasoning)
    if sampling is not request.sampling:
        changes["sampling"] = sampling
    return msgspec.structs.replace(request, **changes) if changes else request


def stops_to_cut(stop: list[str] | None, profile: Profile) -> list[str]:
    """The stop strings that the gateway must find itself (policy/stops); [] when the target finds them all."""
    stop = [text for text in stop or [] if text]
    refused = "stop" in profile.rejects or "stop" in profile.drop_while_reasoning
    refused = refused or (BLANK_STOPS in profile.rejects and any(map(str.isspace, stop)))
    return stop if refused or len(stop) > profile.max_stops else []


def reads_ollama_options(profile: Profile) -> bool:
    """A target that takes `num_ctx` is a real Ollama: it reads the client's options as they were meant, and judges them
    itself."""
    return "num_ctx" in profile.accepts


def _fit_engine(request: ChatRequest, profile: Profile) -> tuple[ChatRequest, list[Loss], bool]:
    """Only levels of thinking that other dialects have and Ollama has not."""
    think = request.think
    if not isinstance(think, str) or not profile.efforts or think in profile.efforts:
        return request, [], False
    return msgspec.structs.replace(request, think=nearest(think, profile.efforts) or True), [], True


# -- sampling ------------------------------------------------------------------------------------------------------


def _refusal(name: str, profile: Profile, reasoning: bool) -> str | None:
    """Why a sampling name must not be sent; None when it may. Stop strings are cut here instead of refused."""
    if name == "stop":
        return None
    if name in profile.rejects:
        return "not taken by this model"
    if reasoning and name in profile.drop_while_reasoning:
        return "not taken while the model reasons"
    beyond = name in _BEYOND_OPENAI or name not in _SAMPLING
    known = name in profile.accepts or (name == "repeat_penalty" and "repetition_penalty" in profile.accepts)
    return "not known to this provider" if beyond and not known else None


def _fit_sampling(sampling: Sampling, profile: Profile, reasoning: bool, losses: list[Loss]) -> Sampling:
    changes: dict[str, Any] = {}
    for name in _SAMPLING:
        value = getattr(sampling, name)
        if value is not None and (fitted := _fit_value(name, value, profile, reasoning, losses)) != value:
            changes[name] = fitted
    extra = {
        name: value
        for name, value in sampling.extra.items()
        if value is not None and _fit_value(name, value, profile, reasoning, losses) is not None
    }
    if len(extra) != len(sampling.extra):
        changes["extra"] = extra
    return msgspec.structs.replace(sampling, **changes) if changes else sampling


def _fit_value(name: str, value: Any, profile: Profile, reasoning: bool, losses: list[Loss]) -> Any:
    """The value as it may be sent, or None."""
    if name == "stop":
        return [text for text in value if text] or None
    if (name == "seed" and value in (-1, 0)) or (name == "max_tokens" and value < 0):
        return None  # Ollama's words for "any seed" and "no limit"
    why = _refusal(name, profile, reasoning)
    if why is not None:
        if name not in _ENGINE_KNOBS and _NEUTRAL.get(name) != value:
            losses.append(Loss(name, why))
        return None
    if name in _RANGES:
        low, high = _RANGES[name]
        if not low <= value <= high:
            losses.append(Loss(name, f"limited to {low:g}-{high:g}" if low >= 0 else f"limited to {low:g} to {high:g}"))
            return min(max(value, low), high)
    return value


def _default_sampling(sampling: Sampling, defaults: Defaults, profile: Profile, reasoning: bool) -> Sampling:
    """A model's own `options` are nearer to it than a global temperature: they win."""
    wanted = {"temperature": defaults.temperature, "max_tokens": defaults.max_tokens, **defaults.options}
    if "num_predict" in wanted:
        wanted["max_tokens"] = wanted.pop("num_predict")
    changes: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    whole = reads_ollama_options(profile)
    for name, value in wanted.items():
        if name == "stop" and isinstance(value, str):
            value = [value]
        known = name in _SAMPLING
        if value is None or (getattr(sampling, name) is not None if known else name in sampling.extra):
            continue
        if not whole:
            value = _fit_value(name, value, profile, reasoning, [])
        if value is not None:
            (changes if known else extra)[name] = value
    if extra:
        changes["extra"] = {**sampling.extra, **extra}
    return msgspec.structs.replace(sampling, **changes) if changes else sampling


# -- format and messages ---------------------------------------------------------------------------------------------


def _fit_format(request: ChatRequest, profile: Profile, losses: list[Loss]) -> tuple[Format | None, str | None]:
    """-> (what the wire carries, what the model must be told in words)."""
    wanted = request.format
    if wanted is None:
        return None, None
    carried = frozenset[str]() if request.tools and FORMAT_WITH_TOOLS in profile.rejects else profile.formats
    if wanted.schema is not None:
        if "schema" in carried:
            return wanted, None
        losses.append(Loss("format", "the schema is only asked for in words"))
        return (Format() if "json" in carried else None), _SCHEMA_WORDS + dumps(wanted.schema).decode()
    if "json" in carried:
        return wanted, None
    if "schema" in carried:
        return Format(schema={"type": "object"}), None
    losses.append(Loss("format", "JSON is only asked for in words"))
    return None, _JSON_WORDS


def _fit_messages(
    messages: list[Message], profile: Profile, instruction: str | None, losses: list[Loss]
) -> list[Message]:
    if DEVELOPER_ROLE in profile.rejects and any(message.role == "developer" for message in messages):
        messages = [
            msgspec.structs.replace(message, role="system") if message.role == "developer" else message
            for message in messages
        ]
    if instruction is not None:
        messages = _with_instruction(messages, instruction)
    if PREFILL in profile.rejects and messages and messages[-1].role == "assistant" and not _calls(messages[-1]):
        losses.append(Loss("messages", "the model cannot go on in the middle of its own words"))
        messages = [*messages, Message("user", [Text(_GO_ON)])]
    if REPEATED_ROLES in profile.rejects:
        messages = _merged(messages)
    return messages


def _with_instruction(messages: list[Message], words: str) -> list[Message]:
    """Said by the system, after what it says already."""
    if messages and messages[0].role in ("system", "developer"):
        first = messages[0]
        said = msgspec.structs.replace(first, blocks=[*first.blocks, Text(f"\n\n{words}" if first.text() else words)])
        return [said, *messages[1:]]
    return [Message("system", [Text(words)]), *messages]


def _merged(messages: list[Message]) -> list[Message]:
    """No empty message, and no two in a row of one role (tool results aside: each answers a call of its own)."""
    merged: list[Message] = []
    for message in messages:
        if not any(not isinstance(block, Text) or block.text for block in message.blocks):
            continue
        last = merged[-1] if merged else None
        if last is None or last.role != message.role or message.role == "tool" or _calls(last):
            merged.append(message)
        else:
            merged[-1] = msgspec.structs.replace(last, blocks=[*last.blocks, Text("\n\n"), *message.blocks])
    unchanged = len(merged) == len(messages)
    return messages if unchanged else merged


def _calls(message: Message) -> bool:
    return any(isinstance(block, ToolCall) for block in message.blocks)


# -- everything else -------------------------------------------------------------------------------------------------


def _fit_extras(request: ChatRequest, profile: Profile, reasoning: bool, losses: list[Loss]) -> dict[str, Any]:
    refused = set(_refused(profile, reasoning))
    fitted: dict[str, Any] = {}
    if "logprobs" in refused and (request.logprobs or request.top_logprobs is not None):
        if request.logprobs:
            losses.append(Loss("logprobs", "not given by this model"))
        fitted |= {"logprobs": False, "top_logprobs": None}
    forced = request.tool_choice not in (None, "auto", "none")
    if request.tool_choice is not None and ("tool_choice" in refused or (forced and FORCED_TOOL in refused)):
        if request.tool_choice == "none":
            fitted["tools"] = []  # a tool that is not offered is not called
        if forced:
            losses.append(Loss("tool_choice", "a tool cannot be forced"))
        if forced or "tool_choice" in profile.rejects:
            fitted["tool_choice"] = None
    if request.parallel_tool_calls is not None and "parallel_tool_calls" in refused:
        if not request.parallel_tool_calls:
            losses.append(Loss("parallel_tool_calls", "not taken by this model"))
        fitted["parallel_tool_calls"] = None
    if request.n is not None and "n" in refused:
        if request.n != 1:
            losses.append(Loss("n", "this model gives one answer"))
        fitted["n"] = None
    return fitted


def _refused(profile: Profile, reasoning: bool) -> Iterator[str]:
    yield from profile.rejects
    if reasoning:
        yield from profile.drop_while_reasoning


def _fit_vendor(vendor: Vendor, profile: Profile, reasoning: bool, losses: list[Loss]) -> Vendor:
    """Fields that only the client's own dialect knows can be refused as well (`logit_bias`, `verbosity`)."""
    refused = set(_refused(profile, reasoning))
    found = _names(vendor) & refused
    if not found:
        return vendor
    losses.extend(Loss(name, "not taken by this model") for name in sorted(found))
    return {
        dialect: {name: value for name, value in bag.items() if name not in found} for dialect, bag in vendor.items()
    }


def _names(vendor: Vendor) -> set[str]:
    bags: Iterable[dict[str, Any]] = vendor.values()
    return {name for bag in bags for name in bag}


def _says_json(request: ChatRequest) -> bool:
    return any("json" in message.text().lower() for message in request.messages)


def _respelled(request: ChatRequest, profile: Profile) -> bool:
    """Whether the client may have spelled something in a way that the target refuses, although the value fits."""
    sampling, form = request.sampling, request.format
    return (
        bool(profile.extra_body)
        or (form is not None and form.schema is None and JSON_UNSAID in profile.rejects and not _says_json(request))
        or (sampling.max_tokens is not None and OTHER_LIMIT in profile.rejects)
        or (sampling.seed is not None and profile.seed_field != "seed")
        or (request.think is not None and profile.reasoning == "template")
        or (request.think is False and profile.reasoning == "deepseek")
        or (request.stream and "stream_options" in profile.rejects)
        or (profile.system_role != "system" and any(message.role == "system" for message in request.messages))
    )
