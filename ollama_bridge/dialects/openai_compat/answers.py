"""Whole answers of Ollama's /v1 layer, made of the native ones as the layer makes them.

Knows: both forms. Must not know: streams, requests' bodies, policy.
"""

from __future__ import annotations

import base64

import msgspec

from ...framing import go_escape, json_string, loads
from ...values import EmbedReply, EmbedRequest
from ..base import CHAT, EMBED, GENERATE, Answer, Moment
from ..go.floats import float32
from ..ollama import answers as ollama_answers
from .stream import answer_id, finish_word, written_call
from .types import Fields

JSON = "application/json"


def _usage(native: Fields) -> Fields:
    prompt, completion = native.get("prompt_eval_count", 0), native.get("eval_count", 0)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def chat_object(native: Fields, now: Moment) -> Fields:
    said = native["message"]
    message: Fields = {"role": "assistant", "content": said["content"]}
    if "thinking" in said:
        message["reasoning"] = said["thinking"]
    calls = said.get("tool_calls", ())
    if calls:
        message["tool_calls"] = [written_call(call) for call in calls]
    choice: Fields = {"index": 0, "message": message, "finish_reason": finish_word(native["done_reason"], bool(calls))}
    if "logprobs" in native:
        choice["logprobs"] = {"content": native["logprobs"]}
    head = {"id": answer_id(CHAT, now), "object": "chat.completion", "created": now.wall_ns // 1_000_000_000}
    return {
        **head,
        "model": native["model"],
        "system_fingerprint": "fp_ollama",
        "choices": [choice],
        "usage": _usage(native),
    }


def completion_object(native: Fields, now: Moment) -> Fields:
    head = {"id": answer_id(GENERATE, now), "object": "text_completion", "created": now.wall_ns // 1_000_000_000}
    return {
        **head,
        "model": native["model"],
        "system_fingerprint": "fp_ollama",
        "choices": [{"text": native["response"], "index": 0, "finish_reason": native["done_reason"]}],
        "usage": _usage(native),
    }


class _Native(msgspec.Struct):
    """An answer of /api/embed; the rows keep their digits."""

    embeddings: list[msgspec.Raw]
    prompt_eval_count: int = 0


def embeddings(request: EmbedRequest, reply: EmbedReply, now: Moment) -> Answer:
    native = msgspec.json.decode(ollama_answers.write_embeddings(EMBED, request, reply, now).body, type=_Native)
    rows = [bytes(row) for row in native.embeddings]
    if request.encoding == "base64":
        rows = [b'"' + base64.b64encode(float32(loads(row)).tobytes()) + b'"' for row in rows]
    written = (b'{"object":"embedding","embedding":' + row + b',"index":%d}' % index for index, row in enumerate(rows))
    counted = native.prompt_eval_count
    body = (
        b'{"object":"list","data":[' + b",".join(written) + b'],"model":' + go_escape(json_string(request.model))
        + b',"usage":{"prompt_tokens":%d,"total_tokens":%d}}\n' % (counted, counted)
    )  # fmt: skip
    return Answer(200, JSON, body)
