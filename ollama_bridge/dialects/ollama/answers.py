"""Native Ollama answers as whole objects: what a line or a body holds, in Ollama's order and with its omissions.

Knows: ollama-protocol.md 2.3 to 2.8: key order, metrics, logprobs, vectors. Must not know: framing of a stream, errors.

    {"model":"m","created_at":"2026-11-21T07:00:00.5Z","message":{"role":"assistant","content":"Hi"},"done":true,
     "done_reason":"stop","total_duration":9,"load_duration":1,"prompt_eval_count":5,"prompt_eval_duration":2,
     "eval_count":2,"eval_duration":6}
    {"model":"m","embeddings":[[0.6,0.8]],"total_duration":9,"load_duration":1,"prompt_eval_count":5}
"""

from __future__ import annotations

import functools
import hashlib
import math
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from ...errors import GatewayError, Scope
from ...framing import go_dumps, go_escape, json_string
from ...values import ChatRequest, EmbedReply, EmbedRequest, Reply, Text, Thinking, ToolCall, ToolResult, Usage
from ..arguments import as_object
from ..base import CHAT, EMBED, Answer, Moment
from ..go.floats import float32, float32_texts, float64_text
from . import context as conversation
from .errors import JSON_UTF8

Fields = dict[str, Any]

_REASONS = frozenset({"stop", "length", "load", "unload"})
_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_NORMAL = 1e-6  # a vector whose length is this near to one is left as it came


# -- times and counts --------------------------------------------------------------------------------------------------


def stamp(wall_ns: int) -> str:
    """Unix nanoseconds -> RFC 3339 in UTC, trailing zeros of the fraction trimmed."""
    seconds, ns = divmod(wall_ns, 1_000_000_000)
    fraction = f".{ns:09d}".rstrip("0") if ns else ""
    return f"{_second(seconds)}{fraction}Z"


@functools.lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def size(text: str) -> int:
    """UTF-8 bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def prompt_size(request: ChatRequest) -> int:
    """UTF-8 bytes of all text of a conversation, for an estimate of its tokens."""
    total = size(request.suffix or "")
    for message in request.messages:
        for block in message.blocks:
            if isinstance(block, Text | Thinking):
                total += size(block.text)
            elif isinstance(block, ToolCall):
                total += size(block.arguments)
            elif isinstance(block, ToolResult):
                total += sum(size(part.text) for part in block.content if isinstance(part, Text))
    return total


def metrics(usage: Usage, now: Moment, prompt_bytes: int, answer_bytes: int) -> Fields:
    """The six metrics, in order; what the provider did not tell is measured, or estimated at four bytes a token. Zeros
    are left out, as Go does; durations are never zero (clients divide by them)."""
    total = usage.total_ns or now.elapsed_ns
    load = usage.load_ns or total // 1000
    # Without a first token of its own a whole answer cannot be split: a tenth is a usual share of the prompt.
    first = now.first_ns if now.first_ns is not None and now.first_ns < now.elapsed_ns else total // 10
    prompt_ns = usage.prompt_ns or first - load
    answer_ns = usage.completion_ns or total - load - prompt_ns
    found = {
        "total_duration": max(1, total),
        "load_duration": max(1, load),
        "prompt_eval_count": usage.prompt if usage.prompt is not None else _tokens(prompt_bytes),
        "prompt_eval_duration": max(1, prompt_ns),
        "eval_count": usage.completion if usage.completion is not None else _tokens(answer_bytes),
        "eval_duration": max(1, answer_ns),
    }
    return {name: value for name, value in found.items() if value}


def _tokens(size_in_bytes: int) -> int:
    return max(1, -(-size_in_bytes // 4))


# -- parts of an answer ------------------------------------------------------------------------------------------------


def native_call(index: int, call_id: str | None, name: str, arguments: str, now: Moment) -> Fields:
    """Arguments are always an object. Providers without ids get one in Ollama's form."""
    function = {"index": index, "name": name, "arguments": as_object(arguments)}
    return {"id": call_id or _made_id(index, now), "function": function}


def _made_id(index: int, now: Moment) -> str:
    digest = hashlib.blake2b(f"{now.wall_ns}.{now.elapsed_ns}.{index}".encode(), digest_size=8).digest()
    return "call_" + "".join(_ID_LETTERS[byte % 36] for byte in digest)


def native_logprobs(items: Iterable[Fields], top: int) -> list[Fields]:
    """{token, logprob, bytes?, top_logprobs?}; at most `top` alternatives, none when 0."""
    found = []
    for item in items:
        entry = _token(item)
        others = item.get("top_logprobs")
        if top and others:
            entry["top_logprobs"] = [_token(other) for other in others[:top]]
        found.append(entry)
    return found


def _token(item: Fields) -> Fields:
    value = item.get("logprob")
    number = msgspec.Raw(float64_text(float(value)).encode()) if isinstance(value, int | float) else 0
    entry: Fields = {"token": item.get("token", ""), "logprob": number}
    octets = item.get("bytes")
    if octets is None:
        octets = list(entry["token"].encode("utf-8", "surrogatepass"))
    if octets:
        entry["bytes"] = octets
    return entry


def last_object(
    kind: str,
    model: str,
    now: Moment,
    reason: str,
    *,
    text: str = "",
    thinking: str = "",
    calls: list[Fields] | None = None,
    context: list[int] | None = None,
    figures: Fields | None = None,
    logprobs: list[Fields] | None = None,
) -> Fields:
    """The object that ends an answer. Chat has its logprobs before the metrics, generate after them."""
    body: Fields = {"model": model, "created_at": stamp(now.wall_ns)}
    if kind == CHAT:
        message: Fields = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = calls
        body["message"] = message
    else:
        body["response"] = text
        if thinking:
            body["thinking"] = thinking
    body["done"] = True
    body["done_reason"] = reason if reason in _REASONS else "stop"
    if kind == CHAT:
        return {**body, **({"logprobs": logprobs} if logprobs else {}), **(figures or {})}
    if context:
        body["context"] = context
    body.update(figures or {})
    if calls:
        body["tool_calls"] = calls
    if logprobs:
        body["logprobs"] = logprobs
    return body


def packed_turns(kind: str, request: ChatRequest) -> bytes | None:
    """What `context` must remember of a request; None where there is no context in the answer."""
    if kind == CHAT or request.raw or request.intent != "run":
        return None
    return conversation.pack([(message.role, message.text()) for message in request.messages])


# -- whole answers -----------------------------------------------------------------------------------------------------


def write_reply(kind: str, request: ChatRequest, reply: Reply, now: Moment) -> Answer:
    if reply.reason in ("load", "unload"):
        return Answer(200, JSON_UTF8, go_dumps(last_object(kind, request.model, now, reply.reason)))
    text = "".join(block.text for block in reply.blocks if isinstance(block, Text))
    thinking = "".join(block.text for block in reply.blocks if isinstance(block, Thinking))
    found = [block for block in reply.blocks if isinstance(block, ToolCall)]
    said = size(text) + size(thinking) + sum(size(call.arguments) for call in found)
    packed = packed_turns(kind, request)
    body = last_object(
        kind,
        request.model,
        now,
        reply.reason,
        text=text,
        thinking=thinking if request.think is not False else "",
        calls=[native_call(index, call.id, call.name, call.arguments, now) for index, call in enumerate(found)],
        context=conversation.encode(packed, text) if packed is not None else None,
        figures=metrics(reply.usage, now, prompt_size(request), said),
        logprobs=native_logprobs(reply.logprobs or (), request.top_logprobs or 0) if request.logprobs else None,
    )
    return Answer(200, JSON_UTF8, go_dumps(body))


def write_embeddings(kind: str, request: EmbedRequest, reply: EmbedReply, now: Moment) -> Answer:
    """Raises GatewayError (400) for a vector that is not finite, in Ollama's words."""
    if kind != EMBED:
        vector = float32(reply.vectors[0]) if reply.vectors else float32(())
        texts = [float64_text(value) for value in vector]
        return Answer(200, JSON_UTF8, f'{{"embedding":[{",".join(texts)}]}}'.encode())
    rows = ",".join(f"[{','.join(_unit(vector, request.dimensions))}]" for vector in reply.vectors)
    body = b'{"model":' + go_escape(json_string(request.model)) + f',"embeddings":[{rows}]'.encode()
    if reply.vectors:
        usage = reply.usage
        total = usage.total_ns or now.elapsed_ns
        count = usage.prompt if usage.prompt is not None else _tokens(sum(map(size, request.inputs)))
        figures = f',"total_duration":{max(1, total)},"load_duration":{max(1, usage.load_ns or total // 1000)}'
        body += figures.encode() + (f',"prompt_eval_count":{count}'.encode() if count else b"")
    return Answer(200, JSON_UTF8, body + b"}")


def _unit(vector: list[float], dimensions: int | None) -> list[str]:
    """Cut to `dimensions`, of length one, as texts. A provider that was told `dimensions` has cut it already."""
    if dimensions is not None and dimensions < len(vector):
        vector = vector[:dimensions]
    length = math.sqrt(math.fsum(value * value for value in vector))
    if not math.isfinite(length):
        raise GatewayError("embedding contains NaN or Inf values", status=400, scope=Scope.PROVIDER)
    if abs(length - 1.0) > _NORMAL:
        scale = 1.0 / max(length, 1e-12)
        vector = [value * scale for value in vector]
    return float32_texts(float32(vector))
