"""The OpenAI dialect: /v1/chat/completions, /v1/completions, /v1/embeddings, on both sides.

Knows: whole replies and errors of this wire, and which module reads and writes the rest: requests of clients
(openai_requests), bodies for providers (openai_encode), streams (openai_stream), relay (openai_relay). Must not know:
policy, sockets, SDKs, which provider answers.

    {"id":"chatcmpl-1","object":"chat.completion","created":1790000000,"model":"m","choices":[{"index":0,
     "message":{"role":"assistant","content":"Hi","refusal":null},"logprobs":null,"finish_reason":"stop"}],
     "usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}
"""

from __future__ import annotations

import base64
import binascii
import email.utils
import math
import sys
from array import array
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import NO_CHAT, NO_EMBEDDING, NO_INSERT, NO_TOOLS, GatewayError, WireError, refuse
from ..framing import BadJSON, dumps, loads
from ..values import Block, ChatRequest, EmbedReply, EmbedRequest, Reply, Text, Thinking, ToolCall, Usage
from .base import (
    CHAT,
    EMBED,
    GENERATE,
    Answer,
    Loss,
    ModelView,
    Moment,
    Profile,
    Request,
    StreamReader,
    StreamWriter,
    Tap,
)
from .ollama_answers import prompt_size, size
from .openai_encode import encode_chat, encode_embedding
from .openai_fields import (
    NAME,
    arguments_text,
    call_vendor,
    error_of,
    estimated,
    failure_of,
    finish_word,
    logprobs_of,
    reason_of,
    spoken,
    unusable,
    usage_object,
    usage_of,
)
from .openai_relay import Tap as OpenAITap
from .openai_relay import relay_reply, relay_request
from .openai_requests import decode_chat, decode_completion, decode_embedding
from .openai_stream import Reader, Writer, answer_id, error_object
from .thinktags import split

JSON = "application/json"
_DECODERS: dict[str, Callable[[bytes], Request]] = {
    CHAT: decode_chat,
    GENERATE: decode_completion,
    EMBED: decode_embedding,
}


class OpenAIDialect:
    """Implements dialects.base.Dialect. As a provider's dialect it sends GENERATE as a chat: completion endpoints are
    reached by relay only."""

    name = NAME

    # -- requests ----------------------------------------------------------------------------------------------------
    def decode(self, kind: str, body: bytes) -> Request:
        return _DECODERS[kind](body)

    def check(self, kind: str, request: Request, model: ModelView) -> None:
        """An effort for a model that cannot think is not refused here: it becomes a loss."""
        can = model.capabilities
        if isinstance(request, EmbedRequest):
            if "embedding" not in can:
                raise refuse(f'"{request.model}" does not support embeddings', code=NO_EMBEDDING, param="model")
            return
        if "completion" not in can:
            what = "generate" if kind == GENERATE else "chat"
            raise refuse(f'"{request.model}" does not support {what}', code=NO_CHAT, param="model")
        if request.tools and "tools" not in can:
            if not model.drop_tools:
                raise refuse(f'"{request.model}" does not support tools', code=NO_TOOLS, param="tools")
            request.tools = []
            request.losses = [*request.losses, "tools"]
        if request.suffix and "insert" not in can:
            raise refuse(f'"{request.model}" does not support insert', code=NO_INSERT, param="suffix")

    def encode(self, request: Request, model: str, profile: Profile) -> tuple[str, dict[str, Any], list[Loss]]:
        if isinstance(request, EmbedRequest):
            return EMBED, *encode_embedding(request, model, profile)
        return CHAT, *encode_chat(request, model, profile)

    def relay(self, body: bytes, model: str, request: Request) -> bytes | None:
        return relay_request(body, model, request)

    # -- whole replies -----------------------------------------------------------------------------------------------
    def read_reply(self, kind: str, body: bytes, profile: Profile) -> Reply | EmbedReply:
        found = _reply_object(body)
        return _read_embedding(found) if kind == EMBED else _read_chat(found, profile.think_tags)

    def write_reply(self, kind: str, request: Request, reply: Reply | EmbedReply, now: Moment) -> Answer:
        if isinstance(request, EmbedRequest):
            assert isinstance(reply, EmbedReply)
            return Answer(200, JSON, dumps(_embedding_object(request, reply)))
        assert isinstance(reply, Reply)
        return Answer(200, JSON, dumps(_reply_written(kind, request, reply, now)))

    def relay_reply(self, kind: str, body: bytes, request: Request) -> tuple[bytes, Usage]:
        return relay_reply(body, request.model)

    # -- streams -----------------------------------------------------------------------------------------------------
    def reader(self, kind: str, profile: Profile) -> StreamReader:
        think_tags = profile.think_tags
        return Reader(lambda body: _read_chat(_reply_object(body), think_tags), think_tags)

    def writer(self, kind: str, request: ChatRequest) -> StreamWriter:
        return Writer(kind, request)

    def tap(self, kind: str, request: ChatRequest) -> Tap:
        return OpenAITap(request)

    # -- errors ------------------------------------------------------------------------------------------------------
    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> WireError:
        return read_error(headers, body)

    def write_error(self, kind: str, error: GatewayError, stream: bool) -> Answer:
        headers = {} if error.retry_after is None else {"Retry-After": str(math.ceil(error.retry_after))}
        return Answer(error.status, JSON, dumps(error_object(error)), headers)


# -- reading -----------------------------------------------------------------------------------------------------------


def _reply_object(body: bytes) -> dict[str, Any]:
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


def _read_chat(found: dict[str, Any], think_tags: bool) -> Reply:
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


def _read_embedding(found: dict[str, Any]) -> EmbedReply:
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


def read_error(headers: Mapping[str, str], body: bytes) -> WireError:
    """The body of an answer with a status of 400 or above. What is not JSON is kept when it is one short line of plain
    text, never as a page of HTML."""
    try:
        error = error_of(loads(body))
    except BadJSON:
        error = WireError(_short_line(headers, body))
    error.retry_after = _retry_after(headers)
    return error


def _short_line(headers: Mapping[str, str], body: bytes) -> str:
    text = body[:400].decode("utf-8", "replace").strip()
    plain = headers.get("content-type", "text/plain").startswith(("text/plain", JSON))
    return text if plain and len(text) <= 200 and "\n" not in text and not text.startswith("<") else ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds: `retry-after-ms`, or `retry-after` as a number or as a date (measured from the answer's own)."""
    milliseconds, seconds = _number(headers.get("retry-after-ms")), _number(headers.get("retry-after"))
    if milliseconds is not None:
        return milliseconds / 1000
    if seconds is not None or "retry-after" not in headers:
        return seconds
    try:
        until = email.utils.parsedate_to_datetime(headers["retry-after"])
        return max(0.0, (until - email.utils.parsedate_to_datetime(headers["date"])).total_seconds())
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


# -- writing -----------------------------------------------------------------------------------------------------------


def _reply_written(kind: str, request: ChatRequest, reply: Reply, now: Moment) -> dict[str, Any]:
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


def _embedding_object(request: EmbedRequest, reply: EmbedReply) -> dict[str, Any]:
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
