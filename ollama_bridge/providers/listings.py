"""How services that speak OpenAI's wire describe their models (providers.md 5.1).

Knows: the fields of catalogues, each service's own. Must not know: how a catalogue is asked for, what becomes of it.

    {"object":"list","data":[{"id":"m","created":1790000000,"context_length":131072,
     "pricing":{"prompt":"0.00000025","completion":"0.000002","input_cache_read":"0.000000025"}, …}]}
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from ..errors import broken
from ..framing import BadJSON, loads
from .base import ListedModel, Price

# llama.cpp tells with what window it runs (meta.n_ctx) and with what its model was trained.
_CONTEXT = (
    "context_length", "context_window", "max_model_len", "max_context_length", "meta.n_ctx", "meta.n_ctx_train",
)  # fmt: skip
_OUTPUT = ("top_provider.max_completion_tokens", "max_completion_tokens", "max_output_tokens")
_EMBEDDING = ("embedding_length", "meta.n_embd")
# OpenAI, OpenRouter, Anthropic's word, Mistral.
_RETIRES = ("shutdown_date", "expiration_date", "retires_at", "deprecation")

# Where prices stand: names for what is read, written, found in the cache and put there. OpenRouter and its likes give a
# token's price as text, Together and Hugging Face a million's as a number, DeepInfra so in its `metadata`.
_A_TOKEN = (("pricing.prompt", "pricing.completion", "pricing.input_cache_read", "pricing.input_cache_write"),)
_A_MILLION = (
    ("pricing.input", "pricing.output", "pricing.cached_input", ""),
    ("metadata.pricing.input_tokens", "metadata.pricing.output_tokens", "metadata.pricing.cache_read_tokens", ""),
)

# Words of services -> words of Ollama's capability list. Mistral and LM Studio state capabilities, OpenRouter the
# parameters and modalities a model takes, Together its type.
_SAID = {
    "completion": "completion", "completion_chat": "completion", "chat": "completion", "completion_fim": "insert",
    "function_calling": "tools", "tools": "tools", "tool_use": "tools", "vision": "vision", "image": "vision",
    "multimodal": "vision", "reasoning": "thinking", "thinking": "thinking", "audio": "audio",
    "embedding": "embedding", "embeddings": "embedding",
}  # fmt: skip
_PARAMETERS = {"tools": "tools", "reasoning": "thinking", "include_reasoning": "thinking"}
_INPUTS = {"image": "vision", "audio": "audio"}
_OUTPUTS = {"text": "completion", "embedding": "embedding", "embeddings": "embedding"}
_TYPES = {
    "chat": "completion", "language": "completion", "code": "completion", "llm": "completion", "vlm": "completion",
    "embedding": "embedding", "embeddings": "embedding", "image": "image", "audio": "audio",
}  # fmt: skip


def read_models(provider: str, body: bytes) -> list[ListedModel]:
    """A catalogue: `{"data": [...]}`, or the bare array that Together sends. Entries without an id are left out.
    Raises GatewayError (provider) when it is neither."""
    try:
        value = loads(body)
    except BadJSON:
        value = None
    entries = value.get("data") if isinstance(value, dict) else value
    if not isinstance(entries, list):
        raise broken(provider, "answered something that is not a list of models")
    return [listed(entry) for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


def listed(entry: dict[str, Any]) -> ListedModel:
    """One entry, read defensively: each service has fields of its own, and any of them may be absent or null."""
    return ListedModel(
        entry["id"],
        context_length=_first(entry, _CONTEXT),
        max_output=_first(entry, _OUTPUT),
        capabilities=_capabilities(entry),
        created=_first(entry, ("created",)),
        embedding_length=_first(entry, _EMBEDDING),
        price=price_of(entry),
        retires=next(filter(None, (day(_at(entry, path)) for path in _RETIRES)), None),
        raw=entry,
    )


def _at(entry: Mapping[str, Any], path: str) -> Any:
    value: Any = entry
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _first(entry: Mapping[str, Any], paths: Iterable[str]) -> int | None:
    """The first positive number."""
    for path in paths:
        value = _at(entry, path)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return int(value)
    return None


def _words(value: Any) -> list[str]:
    """`["a", "b"]` or `{"a": true, "b": false}` -> what is there."""
    if isinstance(value, Mapping):
        return [name for name, held in value.items() if held is True]
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def _capabilities(entry: Mapping[str, Any]) -> frozenset[str] | None:
    """None when the entry says nothing of use. Where it tells abilities but neither a type nor outputs, it is a chat
    model unless it says otherwise."""
    stated = entry.get("capabilities")
    kinds = {_OUTPUTS[word] for word in _words(_at(entry, "architecture.output_modalities")) if word in _OUTPUTS}
    kinds |= {_TYPES[word] for word in _words([entry.get("type")]) if word in _TYPES}
    abilities = {_SAID[word] for word in _words(stated) if word in _SAID}
    abilities |= {_PARAMETERS[word] for word in _words(entry.get("supported_parameters")) if word in _PARAMETERS}
    abilities |= {_INPUTS[word] for word in _words(_at(entry, "architecture.input_modalities")) if word in _INPUTS}
    denied = isinstance(stated, Mapping) and stated.get("completion_chat") is False
    if abilities and not kinds and not denied and "embedding" not in abilities:
        kinds = {"completion"}
    return frozenset(abilities | kinds) or None


def price_of(entry: Mapping[str, Any]) -> Price | None:
    """None where nothing is said, and where the price is that of another model, which a router chooses (-1)."""
    for names, factor, kinds in ((_A_TOKEN, 1e6, (str,)), (_A_MILLION, 1.0, (int, float))):
        for paths in names:
            given = [_dollars(_at(entry, path), factor, kinds) for path in paths]
            if given[0] is not None and given[1] is not None:
                return Price(given[0], given[1], given[2], given[3])
    return None


def _dollars(value: Any, factor: float, kinds: tuple[type, ...]) -> float | None:
    if type(value) not in kinds:
        return None
    try:
        amount = float(value)
    except ValueError:
        return None
    return round(amount * factor, 9) if math.isfinite(amount) and amount >= 0 else None


def day(value: Any) -> date | None:
    """A date or a moment, as ISO 8601 or in unix seconds."""
    try:
        if isinstance(value, str):
            return datetime.fromisoformat(value).date()
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC).date()
    except (ValueError, OverflowError, OSError):
        pass
    return None
