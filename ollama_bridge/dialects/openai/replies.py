"""Whole replies of OpenAI's wire, read and written: chats, completions, embeddings.

Knows: their JSON, and what services put into it beside OpenAI's own. Must not know: streams, requests, which service
answers.

    {"id":"chatcmpl-1","object":"chat.completion","created":1790000000,"model":"m","choices":[{"index":0,
     "message":{"role":"assistant","content":"Hi","refusal":null},"logprobs":null,"finish_reason":"stop"}],
     "usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}
"""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from typing import Any

from ...errors import unusable
from ...framing import BadJSON, loads
from ...values import Block, ChatRequest, EmbedReply, EmbedRequest, Reply, Text, Thinking, ToolCall, Usage
from ..base import GENERATE, Moment
from ..ollama.answers import prompt_size, size
from ..thinktags import split
from .fields import (
    NAME,
    arguments_text,
    call_vendor,
    estimated,
    failure_of,
    finish_word,
    logprobs_of,
    reason_of,
    spoken,
    usage_object,
    usage_of,
)
from .stream import answer_id

# -- reading -----------------------------------------------------------------------------------------------------------


def reply_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a whole reply. Some services put errors into it under status 200 (providers.md 6.4)."""
    try:
        found = loads(body)
    except BadJSON:
        raise unusable("sent a reply that is not JSON") from None
    if isinstance(found, list) and found and isinstance(found[0], dict) and found[0].get("error"):
        raise failure_of(found)
    if not isinstance(found, dict):
        raise unusable("sent a reply that is not a JSON object")
    if found.get("error"):
        raise failure_of(found)
    return found


def read_chat(found: dict[str, Any], think_tags: bool) -> Reply:
    choices = found.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        raise unusable("sent a reply without an answer")
    message = choice.get("message")
    if not isinstance(message, dict):
        message = {"content": choice.get("text")}
    calls = message.get("tool_calls")
    blocks: list[Block] = _said(message, think_tags)
    blocks += [_read_call(call) for call in (calls if isinstance(calls, list) else []) if isinstance(call, dict)]
    if isinstance(message.get("function_call"), dict):  # the form before tool_calls
        blocks.append(_read_call({"function": message["function_call"]}))
    finish = choice.get("finish_reason")
    if finish == "error":
        raise failure_of(choice)
    reason = reason_of(finish) if isinstance(finish, str) else "stop"
    if reason == "stop" and any(isinstance(block, ToolCall) for block in blocks):
        reason = "tool_calls"  # several services say "stop" after calls
    return Reply(
        blocks=blocks,
        reason=reason,
        usage=usage_of(found, Usage()),
        id=_text(found.get("id")),
        model=_text(found.get("model")),
        created=int(found["created"]) if isinstance(found.get("created"), int | float) else None,
        logprobs=logprobs_of(choice),
    )


def _said(message: dict[str, Any], think_tags: bool) -> list[Block]:
    """Thought and text as blocks, neighbours of one kind in one; thoughts in <think> tags taken out of the text."""
    pieces = spoken(message)
    if pieces and pieces[0][0] == "text":  # a service with a field for thoughts writes no tags
        pieces = [*split(pieces[0][1], think_tags), *pieces[1:]]
    blocks: list[Block] = []
    for kind, piece in pieces:
        last = blocks[-1] if blocks else None
        if kind == "thinking":
            if isinstance(last, Thinking):
                last.text += piece
            else:
                blocks.append(Thinking(piece))
        elif isinstance(last, Text):
            last.text += piece
        else:
            blocks.append(Text(piece))
    return blocks


def _read_call(call: dict[str, Any]) -> ToolCall:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    arguments = arguments_text(function.get("arguments"))
    return ToolCall(_text(function.get("name")) or "", arguments or "{}", _text(call.get("id")), call_vendor(call))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def read_embedding(found: dict[str, Any]) -> EmbedReply:
    items = found.get("data")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise unusable("sent a reply without embeddings")
    if all(type(item.get("index")) is int for item in items):
        items = sorted(items, key=lambda item: int(item["index"]))
    return EmbedReply(
        [_vector(item.get("embedding")) for item in items], usage_of(found, Usage()), _text(found.get("model"))
    )


def _vector(value: Any) -> list[float]:
    """Floats, or base64 of little-endian float32, whichever the service sends (providers.md 4)."""
    if isinstance(value, str):
        try:
            return _float32(base64.b64decode(value, validate=True)).tolist()
        except (binascii.Error, ValueError):
            raise unusable("sent an embedding that is not base64 of float32") from None
    if isinstance(value, list) and all(type(each) in (float, int) for each in value):
        return value
    raise unusable("sent an embedding that is no list of numbers")


def _float32(data: bytes) -> array[float]:
    floats = array("f")
    floats.frombytes(data)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats


# -- writing -----------------------------------------------------------------------------------------------------------


def reply_written(kind: str, request: ChatRequest, reply: Reply, now: Moment) -> dict[str, Any]:
    text = "".join(block.text for block in reply.blocks if isinstance(block, Text))
    calls = [block for block in reply.blocks if isinstance(block, ToolCall)]
    thought = "".join(block.text for block in reply.blocks if isinstance(block, Thinking))
    said = size(text) + size(thought) + sum(size(call.arguments) for call in calls)
    choice: dict[str, Any] = {"index": 0}
    if kind == GENERATE:
        choice["text"] = text
    else:
        choice["message"] = _message_object(text, thought, calls)
    choice["logprobs"] = {"content": reply.logprobs, "refusal": None} if reply.logprobs else None
    choice["finish_reason"] = finish_word(reply.reason, bool(calls))
    return {
        "id": answer_id(kind, reply.id, now),
        "object": "text_completion" if kind == GENERATE else "chat.completion",
        "created": reply.created or now.wall_ns // 1_000_000_000,
        "model": request.model,
        "choices": [choice],
        "usage": usage_object(estimated(reply.usage, prompt_size(request), said)),
    }


def _message_object(text: str, thought: str, calls: list[ToolCall]) -> dict[str, Any]:
    """Thoughts go into `reasoning`, as Ollama's own /v1, vLLM and OpenRouter have it."""
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
    if thought:
        message["reasoning"] = thought
    message["refusal"] = None
    if calls:
        message["tool_calls"] = [
            {
                **call.vendor.get(NAME, {}),
                "id": call.id or f"call_{number}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments or "{}"},
            }
            for number, call in enumerate(calls)
        ]
    return message


def embedding_object(request: EmbedRequest, reply: EmbedReply) -> dict[str, Any]:
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64_vector(vector) if request.encoding == "base64" else vector,
        }
        for index, vector in enumerate(reply.vectors)
    ]
    prompt = estimated(reply.usage, sum(map(size, request.inputs)), 0).prompt
    usage = {"prompt_tokens": prompt, "total_tokens": prompt}
    return {"object": "list", "data": data, "model": request.model, "usage": usage}


def base64_vector(vector: list[float]) -> str:
    """Base64 of little-endian float32."""
    floats = array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()
