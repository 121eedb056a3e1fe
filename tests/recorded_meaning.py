"""What a recorded answer says, read from its bytes by hand.

Knows: the wires as their specifications tell them (providers.md 2 to 4, 6.2; ollama-protocol.md 2). Must not know: the
gateway and its dialects, which are what the reading is compared with.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from dataclasses import dataclass, field
from typing import Any

from recordings import Recording


@dataclass
class Meaning:
    """`calls`: (name, arguments). `reason`: in OpenAI's words. `prompt` includes `cached`, `completion` includes
    thoughts. `error`: every word that must arrive of it. `wait`: seconds after which one may ask again."""

    text: str = ""
    refusal: str = ""
    thinking: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    reason: str | None = None
    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    logprobs: int = 0
    error: tuple[str, ...] = ()
    wait: float | None = None


def read_recording(recording: Recording, relayed: bool = False) -> Meaning:
    """`relayed`: as a client of OpenAI's wire reads it to which such a provider's own words are passed on: no thoughts
    within the text are set apart, and usage is what stands under `usage`."""
    meaning = Meaning()
    if recording.status >= 400:
        value = json.loads(recording.body)
        meaning.error = error_words(value)
        meaning.wait = wait_of(value, recording.headers)
    elif recording.wire == "ollama":
        for line in recording.body.splitlines():
            read_ollama_object(meaning, json.loads(line))
    elif recording.wire == "anthropic":
        read_anthropic(meaning, values_of(recording))
    elif recording.wire == "gemini":
        for value in values_of(recording):
            read_gemini_chunk(meaning, value)
    else:
        read_openai(meaning, values_of(recording), relayed)
    return meaning


def values_of(recording: Recording) -> list[dict[str, Any]]:
    """The frames of a stream that are JSON, or the one body."""
    if not recording.stream:
        return [json.loads(recording.body)]
    return [json.loads(text) for text in re.findall(rb"^data: ?(\{.*\})\s*$", recording.body, re.M)]


# -- errors ----------------------------------------------------------------------------------------------------------
def error_words(value: Any) -> tuple[str, ...]:
    """Its sentence; OpenRouter adds the words of the provider behind it."""
    error = value.get("error", value)
    if not isinstance(error, dict):
        return (str(error),)
    words = error.get("message") or error.get("detail")
    behind = (error.get("metadata") or {}).get("raw")
    return (str(words), str(behind)) if behind else (str(words),)


def wait_of(value: Any, headers: dict[str, str]) -> float | None:
    """Google says it in the body (providers.md 6.1), the others in a header."""
    error = value.get("error")
    for detail in error.get("details", ()) if isinstance(error, dict) else ():
        if detail["@type"].endswith(".RetryInfo"):
            return float(detail["retryDelay"].removesuffix("s"))
    return float(headers["retry-after"]) if "retry-after" in headers else None


# -- Ollama ----------------------------------------------------------------------------------------------------------
def read_ollama_object(meaning: Meaning, value: dict[str, Any]) -> None:
    said = value.get("message", {"content": value.get("response", ""), "thinking": value.get("thinking", "")})
    meaning.text += said.get("content") or ""
    meaning.thinking += said.get("thinking") or ""
    meaning.calls += [(c["function"]["name"], c["function"]["arguments"]) for c in said.get("tool_calls") or []]
    if value["done"]:
        meaning.reason = "tool_calls" if meaning.calls else value["done_reason"]
        meaning.prompt, meaning.completion = value["prompt_eval_count"], value["eval_count"]


# -- OpenAI and what is compatible -----------------------------------------------------------------------------------
def read_openai(meaning: Meaning, values: list[dict[str, Any]], relayed: bool) -> None:
    calls: dict[int, list[str]] = {}
    for value in values:
        read_openai_object(meaning, value, calls, relayed)
    meaning.calls = [(name, json.loads("".join(parts) or "{}")) for name, *parts in calls.values()]
    tagged = re.match(r"\s*<think>\s*(.*?)</think>\s*(.*)", meaning.text, re.S)
    if tagged and not relayed:
        meaning.thinking, meaning.text = tagged.groups()


def read_openai_object(meaning: Meaning, value: dict[str, Any], calls: dict[int, list[str]], relayed: bool) -> None:
    if value.get("error"):
        meaning.error = error_words(value)
    for choice in value.get("choices") or []:
        said = choice.get("delta") or choice.get("message") or {}
        content = said.get("content") or ""
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "thinking":
                meaning.thinking += "".join(piece["text"] for piece in part["thinking"])
            else:
                meaning.text += part["text"]
        meaning.refusal += said.get("refusal") or ""
        meaning.thinking += said.get("reasoning_content") or said.get("reasoning") or ""
        for at, call in enumerate(said.get("tool_calls") or []):
            parts = calls.setdefault(call.get("index", at), [])
            if not parts:
                parts.append(call["function"]["name"])
            parts.append(call["function"].get("arguments") or "")
        meaning.logprobs += len((choice.get("logprobs") or {}).get("content") or [])
        meaning.reason = choice.get("finish_reason") or meaning.reason
    usage = value.get("usage") or (None if relayed else (value.get("x_groq") or {}).get("usage"))
    if usage:
        meaning.prompt, meaning.completion = usage["prompt_tokens"], usage["completion_tokens"]
        meaning.cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
        if not relayed and usage["total_tokens"] == meaning.prompt + meaning.completion + reasoning:
            meaning.completion += reasoning  # xAI tells them apart (providers.md 3.5)


# -- Anthropic -------------------------------------------------------------------------------------------------------
ANTHROPIC_REASONS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}


def read_anthropic(meaning: Meaning, values: list[dict[str, Any]]) -> None:
    """A whole message, or the events of one. Signatures and what is redacted have no place in a client's answer."""
    usage: dict[str, Any] = {}
    inputs: dict[int, str] = {}
    names: dict[int, str] = {}
    for value in values:
        kind = value["type"]
        if kind == "message":
            for block in value["content"]:
                read_anthropic_block(meaning, block)
                if block["type"] == "tool_use":
                    meaning.calls.append((block["name"], block["input"]))
        elif kind == "content_block_start":
            read_anthropic_block(meaning, value["content_block"])
            if value["content_block"]["type"] == "tool_use":
                names[value["index"]] = value["content_block"]["name"]
        elif kind == "content_block_delta":
            delta = value["delta"]
            meaning.text += delta.get("text", "")
            meaning.thinking += delta.get("thinking", "")
            inputs[value["index"]] = inputs.get(value["index"], "") + delta.get("partial_json", "")
        usage |= (value.get("message") or value).get("usage") or {}
        stop = value.get("stop_reason") or (value.get("delta") or {}).get("stop_reason")
        if stop:
            meaning.reason = ANTHROPIC_REASONS[stop]
    meaning.calls += [(name, json.loads(inputs[index] or "{}")) for index, name in names.items()]
    meaning.cached = usage["cache_read_input_tokens"]
    meaning.prompt = usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"]
    meaning.completion = usage["output_tokens"]


def read_anthropic_block(meaning: Meaning, block: dict[str, Any]) -> None:
    meaning.text += block.get("text", "")
    meaning.thinking += block.get("thinking", "")


# -- Gemini ----------------------------------------------------------------------------------------------------------
GEMINI_REASONS = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter"}


def read_gemini_chunk(meaning: Meaning, value: dict[str, Any]) -> None:
    (candidate,) = value["candidates"]
    for part in candidate["content"].get("parts", ()):
        if "functionCall" in part:
            meaning.calls.append((part["functionCall"]["name"], part["functionCall"]["args"]))
        elif part.get("thought"):
            meaning.thinking += part["text"]
        else:
            meaning.text += part["text"]
    if "finishReason" in candidate:
        meaning.reason = "tool_calls" if meaning.calls else GEMINI_REASONS[candidate["finishReason"]]
    counts = value["usageMetadata"]
    meaning.prompt = counts["promptTokenCount"]
    meaning.completion = counts.get("candidatesTokenCount", 0) + counts.get("thoughtsTokenCount", 0)
    meaning.cached = counts.get("cachedContentTokenCount")


# -- embeddings ------------------------------------------------------------------------------------------------------
def recorded_vector(recording: Recording) -> list[float]:
    """The one vector of the answer. The pipeline's are given unit length by the gateway, as other wires have them."""
    value = json.loads(recording.body)
    if isinstance(value, list):
        length = math.sqrt(sum(number * number for number in value))
        return [number / length for number in value]
    if recording.wire == "gemini":
        (found,) = value["embeddings"]
        return list(found["values"])
    if "embeddings" in value:
        (vector,) = value["embeddings"]
        return list(vector)
    (item,) = value["data"]
    return unpacked(item["embedding"])


def unpacked(vector: list[float] | str) -> list[float]:
    if isinstance(vector, list):
        return vector
    raw = base64.b64decode(vector)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))
