"""What whole replies and stream frames of the OpenAI wire have in common: usage, spoken pieces, finish reasons, errors.

Knows: the spellings of every compatible service (providers.md 2.2, 3.5, 6.2, section 8). Must not know: requests,
frames, the order of events.

    {"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":8}}   -> Usage
    {"content":"Hi","reasoning_content":"hm"}                          -> [("thinking", "hm"), ("text", "Hi")]
    {"error":{"message":"no","type":"invalid_request_error","param":null,"code":"x"}}       -> WireError
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ...errors import GatewayError, WireError, reported
from ...framing import dumps
from ...values import Usage, Vendor

NAME = "openai"
DONE = b"[DONE]"

# Finish reasons as services spell them; what is not here means "stop".
REASONS = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def reason_of(word: str) -> str:
    """A finish reason of the wire in our own words."""
    return REASONS.get(word, "stop")


def finish_word(reason: str, calls: bool) -> str:
    """Our reason as OpenAI says it. Some services end a turn of calls with "stop", OpenAI never does."""
    if reason in ("length", "content_filter"):
        return reason
    return "tool_calls" if calls else "stop"


# -- usage -------------------------------------------------------------------------------------------------------------


def usage_of(frame: Mapping[str, Any], before: Usage) -> Usage:
    """What a reply or a frame says of tokens and times, on top of what earlier frames said (the last one wins).

    Tokens: `usage`, or Groq's `x_groq.usage`. Times: Groq's `prompt_time` and `completion_time` (seconds), Cerebras'
    `time_info`, llama.cpp's `timings` (milliseconds). The total stays with the gateway: its clock includes the way.
    """
    usage, timings = _object(frame, "usage") or _object(_object(frame, "x_groq"), "usage"), _object(frame, "timings")
    times = _object(frame, "time_info") or usage
    if not (usage or timings or times):
        return before
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    reasoning = _count(_object(usage, "completion_tokens_details"), "reasoning_tokens")
    cached = _first(
        _count(_object(usage, "prompt_tokens_details"), "cached_tokens"),
        _count(usage, "prompt_cache_hit_tokens"),
        _count(usage, "cached_tokens"),
        _count(timings, "cache_n"),
    )
    total = _count(usage, "total_tokens")
    if reasoning and completion is not None and total == (prompt or 0) + completion + reasoning:
        completion += reasoning  # xAI counts it apart (providers.md 3.5)
    if prompt is None and "prompt_n" in timings:
        prompt = (_count(timings, "prompt_n") or 0) + (_count(timings, "cache_n") or 0)
    return Usage(
        prompt=_first(prompt, before.prompt),
        completion=_first(completion, _count(timings, "predicted_n"), before.completion),
        cached=_first(cached, before.cached),
        reasoning=_first(reasoning, before.reasoning),
        prompt_ns=_first(
            _nanoseconds(times, "prompt_time", 1e9), _nanoseconds(timings, "prompt_ms", 1e6), before.prompt_ns
        ),
        completion_ns=_first(
            _nanoseconds(times, "completion_time", 1e9),
            _nanoseconds(timings, "predicted_ms", 1e6),
            before.completion_ns,
        ),
    )


def estimated(usage: Usage, prompt_bytes: int, answer_bytes: int) -> Usage:
    """Usage with the counts that nobody told put at four bytes of UTF-8 a token (providers.md 3.3)."""
    if usage.prompt is not None and usage.completion is not None:
        return usage
    return msgspec.structs.replace(
        usage,
        prompt=_first(usage.prompt, -(-prompt_bytes // 4)),
        completion=_first(usage.completion, -(-answer_bytes // 4)),
        estimated=True,
    )


def usage_object(usage: Usage) -> dict[str, Any]:
    """Usage as OpenAI writes it, details only where they are known."""
    prompt, completion = usage.prompt or 0, usage.completion or 0
    written: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if usage.cached is not None:
        written["prompt_tokens_details"] = {"cached_tokens": usage.cached}
    if usage.reasoning is not None:
        written["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning}
    return written


def _object(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def _count(holder: Mapping[str, Any], name: str) -> int | None:
    value = holder.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return None
    return int(value)


def _nanoseconds(holder: Mapping[str, Any], name: str, factor: float) -> int | None:
    value = holder.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return None
    return round(value * factor)


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


# -- what is said ------------------------------------------------------------------------------------------------------


def spoken(message: Mapping[str, Any]) -> list[tuple[Literal["thinking", "text"], str]]:
    """The thought and the text of a message or a delta, in the order they are to be shown (providers.md section 8).

    The first field that holds a thought counts: services repeat the same words in several. A refusal is text.
    """
    pieces: list[tuple[Literal["thinking", "text"], str]] = []
    thought = thought_of(message)
    if thought:
        pieces.append(("thinking", thought))
    content = message.get("content")
    if isinstance(content, str):
        if content:
            pieces.append(("text", content))
    elif isinstance(content, list):
        for part in content:
            pieces += _part(part)
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        pieces.append(("text", refusal))
    return pieces


def thought_of(message: Mapping[str, Any]) -> str:
    """The thought that stands in a field of its own, "" when there is none."""
    for name in ("reasoning_content", "reasoning", "thinking"):
        value = message.get(name)
        if isinstance(value, str) and value:
            return value
    details = message.get("reasoning_details")
    if not isinstance(details, list):
        return ""
    return "".join(
        _text(detail.get("text")) or _text(detail.get("summary")) for detail in details if isinstance(detail, dict)
    )


def _part(part: Any) -> list[tuple[Literal["thinking", "text"], str]]:
    """A part of list-typed content; Mistral puts its thoughts there."""
    if isinstance(part, str):
        return [("text", part)] if part else []
    if not isinstance(part, dict):
        return []
    if part.get("type") == "thinking":
        inner = part.get("thinking")
        pieces = inner if isinstance(inner, list) else [inner]
        thought = "".join(_text(each.get("text")) if isinstance(each, dict) else _text(each) for each in pieces)
        return [("thinking", thought)] if thought else []
    text = _text(part.get("text")) or _text(part.get("refusal"))
    return [("text", text)] if text else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def logprobs_of(choice: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The items of a choice's logprobs: {token, logprob, bytes, top_logprobs}. The parallel lists of /v1/completions
    are another form and are left out."""
    content = _object(choice, "logprobs").get("content")
    if not isinstance(content, list):
        return None
    return [item for item in content if isinstance(item, dict) and "token" in item and "logprob" in item] or None


def arguments_text(value: Any) -> str:
    """Arguments of a call as JSON text. Some services send an object instead of a string."""
    if isinstance(value, str):
        return value
    return dumps(value).decode() if isinstance(value, dict) else ""


_CALL_FIELDS = frozenset({"index", "id", "type", "function"})


def call_vendor(call: Mapping[str, Any]) -> Vendor:
    """What a call carries beside OpenAI's own fields, e.g. Gemini's signature in `extra_content`."""
    extra = {name: value for name, value in call.items() if name not in _CALL_FIELDS}
    return {NAME: extra} if extra else {}


# -- errors ------------------------------------------------------------------------------------------------------------

_LONGEST = 2000  # characters of a provider's words that are passed on
_MARKUP = re.compile(r"^\s*<")


def error_of(body: Any) -> WireError:
    """An error body of any compatible service (providers.md 6.2): OpenAI's object, a bare string (xAI, Hugging Face),
    `message` (Mistral), `detail` (text, or FastAPI's list), a list around one of these."""
    if isinstance(body, list):
        return error_of(body[0]) if body and isinstance(body[0], dict) else WireError()
    if not isinstance(body, dict):
        return WireError(_words(body))
    inner = body.get("error")
    if isinstance(inner, dict):
        error = _from_object(inner)
    else:
        error = _from_object(body)
        error.message = _words(inner) or error.message
    error.message = error.message[:_LONGEST]
    return error


def _from_object(value: dict[str, Any]) -> WireError:
    message = _words(value.get("message")) or _words(value.get("detail"))
    # OpenRouter puts the words of the provider behind it beside a general sentence of its own.
    raw = _object(value, "metadata").get("raw")
    if isinstance(raw, str) and raw and not _MARKUP.match(raw):
        message = f"{message}: {raw}" if message else raw
    return WireError(
        message=message,
        type=_word(value.get("type")),
        code=_word(value.get("code")),
        param=_word(value.get("param")),
        detail=value,
    )


def _words(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, dict):
        return _words(value.get("message")) or _words(value.get("detail")) or _words(value.get("msg"))
    if not isinstance(value, list):
        return ""
    said = []
    for item in value:
        where = item.get("loc") if isinstance(item, dict) else None
        words = _words(item)
        if words and isinstance(where, list):
            words = f"{'.'.join(map(str, where))}: {words}"
        if words:
            said.append(words)
    return "; ".join(said)


def _word(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) or None


def failure_of(body: Any) -> GatewayError:
    """The error that a provider reports in a reply or a stream it had begun with status 200. Which provider it is the
    caller knows; `provider` is left open."""
    error = error_of(body)
    status = _status_of(error)
    return reported(error, status)


def _status_of(error: WireError) -> int:
    """The HTTP status that an error names inside its body (OpenRouter's `code`, Groq's `status_code`), else 0."""
    for value in (error.detail.get("status_code"), error.detail.get("status"), error.code):
        text = str(value)
        if len(text) == 3 and text.isascii() and text.isdigit() and text >= "400":
            return int(text)
    return 0
