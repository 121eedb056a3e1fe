"""Ollama's own /v1 layer: the OpenAI endpoints exactly as Ollama 0.33 answers them.

Knows: ollama-protocol.md 4.1 to 4.4: what the layer maps, ignores, refuses, and in which words. Must not know:
providers, policy. Nothing is relayed and nothing is asked of a provider in this dialect: see openai.py for that.

    {"model":"m","messages":[{"role":"user","content":"Hi"}],"max_tokens":9,"reasoning_effort":"minimal"}
    {"id":"chatcmpl-417","object":"chat.completion","created":1790000000,"model":"m","system_fingerprint":"fp_ollama",
     "choices":[{"index":0,"message":{"role":"assistant","content":"Hi","reasoning":"hm"},"finish_reason":"stop"}],
     "usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}
    {"error":{"message":"model 'x' not found","type":"not_found_error","param":null,"code":null}}

A request passes two stages there: the layer translates it, then the native handler serves it. Each has its own form of
error (4.1), and what the layer finds wrong comes before the model is looked for.
"""

from __future__ import annotations

import base64
import math
from typing import Any, cast

import msgspec

from ..errors import MODEL_REQUIRED, NO_EMBEDDING, GatewayError, Scope, refuse
from ..framing import BadJSON, dumps, go_dumps, go_escape, json_string, loads
from ..values import (
    Block,
    ChatRequest,
    EmbedReply,
    EmbedRequest,
    Format,
    Media,
    Message,
    Reply,
    Text,
    Think,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Vendor,
)
from . import ollama_answers, ollama_errors, ollama_requests
from .base import CHAT, EMBED, GENERATE, Answer, ModelView, Moment, Request, StreamWriter
from .floats import float32
from .gojson import ANY, BOOL, FLOAT, FLOAT32, INT, STRING, Array, Checked, Kind, Struct
from .gojson import decode as decode_body
from .goscan import base64_error, quote
from .inbound_only import InboundOnly
from .media import media_of
from .ollama_types import TOOLS, provider_of
from .openai_compat_stream import EVENT_STREAM, Writer, answer_id, finish_word, written_call

JSON = "application/json"
JSON_UTF8 = "application/json; charset=utf-8"
EMPTY = "EOF"

Fields = dict[str, Any]


class LayerError(GatewayError):
    """Refused by the layer itself, before the native handler."""


def _refused(message: str) -> LayerError:
    return LayerError(message, status=400, scope=Scope.CALLER, early=True)


# -- request types -----------------------------------------------------------------------------------------------------

_OURS: dict[str, Kind] = {"privacy_mode": STRING, "task": STRING, "provider": ANY}
_STREAM_OPTIONS = Struct("openai.StreamOptions", {"include_usage": BOOL}, pointer=True)
_CALLED = Struct(
    'struct { Name string "json:\\"name\\""; Arguments string "json:\\"arguments\\"" }',
    {"name": STRING, "arguments": STRING},
)
_CALLED.name = ""  # it has none, and errors below it show that
_CALL = Struct("openai.ToolCall", {"id": STRING, "index": INT, "type": STRING, "function": _CALLED})
_MESSAGE = Struct(
    "openai.Message",
    {
        "role": STRING,
        "content": ANY,
        "reasoning": STRING,
        "tool_calls": Array("[]openai.ToolCall", _CALL),
        "name": STRING,
        "tool_call_id": STRING,
    },
)
_SCHEMA = Struct("openai.JsonSchema", {"schema": ANY}, pointer=True)
_CHAT = Struct(
    "openai.ChatCompletionRequest",
    {
        "model": STRING,
        "messages": Array("[]openai.Message", _MESSAGE),
        "stream": BOOL,
        "stream_options": _STREAM_OPTIONS,
        "max_tokens": INT,
        "seed": INT,
        "stop": ANY,
        "temperature": FLOAT,
        "frequency_penalty": FLOAT,
        "presence_penalty": FLOAT,
        "top_p": FLOAT,
        "response_format": Struct("openai.ResponseFormat", {"type": STRING, "json_schema": _SCHEMA}, pointer=True),
        "tools": Checked(Array("[]api.Tool", cast(Array, TOOLS.kind).item)),
        "reasoning": Struct("openai.Reasoning", {"effort": STRING}, pointer=True),
        "reasoning_effort": STRING,
        "logprobs": BOOL,
        "top_logprobs": INT,
        "_debug_render_only": BOOL,
        **_OURS,
    },
)
_COMPLETION = Struct(
    "openai.CompletionRequest",
    {
        "model": STRING,
        "prompt": STRING,
        "frequency_penalty": FLOAT32,
        "max_tokens": INT,
        "presence_penalty": FLOAT32,
        "seed": INT,
        "stop": ANY,
        "stream": BOOL,
        "stream_options": _STREAM_OPTIONS,
        "temperature": FLOAT32,
        "top_p": FLOAT32,
        "suffix": STRING,
        "logprobs": INT,
        "_debug_render_only": BOOL,
        **_OURS,
    },
)
_EMBEDDING = Struct(
    "openai.EmbedRequest",
    {"input": ANY, "model": STRING, "dimensions": INT, "encoding_format": STRING, **_OURS},
)


def _fields(body: bytes, struct: Struct) -> Fields:
    try:
        return decode_body(body, struct, EMPTY)
    except GatewayError as error:
        raise _refused(error.message) from None


def _go_type(value: Any) -> str:
    """What Go's %T prints for a JSON value."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "float64"
    return "[]interface {}" if isinstance(value, list) else "map[string]interface {}"


# -- the dialect -------------------------------------------------------------------------------------------------------


class OpenAICompatDialect(InboundOnly):
    """See dialects.base.Dialect; only a door."""

    name = "openai-compat"

    def decode(self, kind: str, body: bytes) -> Request:
        if kind == CHAT:
            return _decode_chat(body)
        return _decode_completion(body) if kind == GENERATE else _decode_embedding(body)

    def check(self, kind: str, request: Request, model: ModelView) -> None:
        ollama_requests.check(kind, request, model)
        if isinstance(request, EmbedRequest) and "embedding" not in model.capabilities:
            raise refuse("This server does not support embeddings. Start it with `--embeddings`", code=NO_EMBEDDING)

    def write_reply(self, kind: str, request: Request, reply: Reply | EmbedReply, now: Moment) -> Answer:
        if isinstance(request, EmbedRequest):
            assert isinstance(reply, EmbedReply)
            return _embeddings(request, reply, now)
        assert isinstance(reply, Reply)
        if request.stream:  # a load: the frames of a stream, but at once
            writer = Writer(kind, request)
            return Answer(200, EVENT_STREAM, writer.whole(reply, now))
        native = loads(ollama_answers.write_reply(kind, request, reply, now).body)
        written = _chat_object(native, now) if kind == CHAT else _completion_object(native, now)
        return Answer(200, JSON, go_dumps(written) + b"\n")

    def writer(self, kind: str, request: ChatRequest) -> StreamWriter:
        return Writer(kind, request)

    def write_error(self, kind: str, error: GatewayError, stream: bool) -> Answer:
        types = {400: "invalid_request_error", 404: "not_found_error"}
        words = ollama_errors.words(kind, error)
        written = {"message": words, "type": types.get(error.status, "api_error"), "param": None, "code": None}
        body = go_dumps({"error": written})
        headers = {} if error.retry_after is None else {"Retry-After": str(math.ceil(error.retry_after))}
        if isinstance(error, LayerError):
            return Answer(error.status, JSON_UTF8, body, headers)
        return Answer(error.status, JSON, body + b"\n", headers)


# -- requests ----------------------------------------------------------------------------------------------------------


def _decode_chat(body: bytes) -> ChatRequest:
    fields = _fields(body, _CHAT)
    if not fields.get("messages"):
        raise _refused("[] is too short - 'messages'")
    vendor: Vendor = {}
    messages = _messages(fields["messages"])
    options: Fields = {"temperature": 1.0, "top_p": 1.0}
    for name in ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty"):
        if name in fields:
            options[name] = fields[name]
    stop = fields.get("stop")
    if isinstance(stop, str | list):
        options["stop"] = [stop] if isinstance(stop, str) else [each for each in stop if isinstance(each, str)]
    format_ = _format(fields.get("response_format", {}), vendor)
    effort = fields["reasoning"].get("effort", "") if "reasoning" in fields else fields.get("reasoning_effort", "")
    think = _think(effort)
    request = _common(CHAT, fields, options, fields.get("top_logprobs", 0))
    request.messages = messages
    request.tools = [_tool(item) for item in fields.get("tools", ())]
    request.format, request.think, request.vendor = format_, think, vendor
    request.logprobs = fields.get("logprobs", False)
    request.intent = "run" if messages else "load"
    return request


def _decode_completion(body: bytes) -> ChatRequest:
    fields = _fields(body, _COMPLETION)
    options: Fields = {"temperature": 1.0, "frequency_penalty": 0, "presence_penalty": 0}
    for name in ("temperature", "seed", "frequency_penalty", "presence_penalty"):
        if name in fields:
            options[name] = fields[name]
    options["top_p"] = fields.get("top_p") or 1.0
    stop = fields.get("stop")
    if isinstance(stop, str | list):
        options["stop"] = [stop] if isinstance(stop, str) else stop
        for each in options["stop"]:
            if not isinstance(each, str):
                raise _refused(f"invalid type for 'stop' field: {_go_type(each)}")
    asked = max(0, fields.get("logprobs", 0))
    request = _common(GENERATE, fields, options, asked)
    request.logprobs = asked > 0
    request.suffix = fields.get("suffix") or None
    prompt = fields.get("prompt", "")
    if prompt:
        request.messages = [Message("user", [Text(prompt)])]
    request.intent = "run" if prompt else "load"
    return request


def _decode_embedding(body: bytes) -> EmbedRequest:
    fields = _fields(body, _EMBEDDING)
    encoding = fields.get("encoding_format", "")
    if encoding.lower() not in ("", "float", "base64"):
        raise _refused(f"Invalid value for 'encoding_format' = {encoding}. Supported values: ['float', 'base64'].")
    inputs = fields.get("input")
    if inputs is None or inputs == []:
        raise _refused("invalid input")
    model = _model(EMBED, fields)
    inputs = [inputs] if isinstance(inputs, str) else inputs
    if not isinstance(inputs, list) or not all(isinstance(each, str) for each in inputs):
        raise refuse("invalid input type")
    dimensions = fields.get("dimensions", 0)
    return EmbedRequest(
        truncate=True,
        model=model,
        inputs=inputs,
        dimensions=dimensions if dimensions > 0 else None,
        encoding="base64" if encoding.lower() == "base64" else "float",
        privacy=fields.get("privacy_mode"),
        task=fields.get("task") or None,
        provider=provider_of(fields),
    )


def _common(kind: str, fields: Fields, options: Fields, top_logprobs: int) -> ChatRequest:
    """What the native handler looks at first: top_logprobs, then the model's name."""
    if not 0 <= top_logprobs <= 20:
        raise refuse("top_logprobs must be between 0 and 20")
    if "max_tokens" in fields:
        options["num_predict"] = fields["max_tokens"]
    sampling, _ = ollama_requests.read_options(options)
    return ChatRequest(
        truncate=True,
        model=_model(kind, fields),
        stream=fields.get("stream", False),
        sampling=sampling,
        include_usage=fields.get("stream_options", {}).get("include_usage", False),
        top_logprobs=top_logprobs or None,
        privacy=fields.get("privacy_mode"),
        task=fields.get("task") or None,
        provider=provider_of(fields),
    )


def _model(kind: str, fields: Fields) -> str:
    name: str = fields.get("model", "")
    if name.strip():
        return name
    if kind == CHAT:
        raise refuse("model is required", code=MODEL_REQUIRED)
    raise refuse(f"model '{name}' not found", status=404, code=MODEL_REQUIRED)


_EFFORTS: dict[str, Think] = {
    "": None, "none": False, "minimal": "low", "low": "low", "medium": "medium", "high": "high", "max": "max",
    "xhigh": "max", "ultra": "max",
}  # fmt: skip


def _think(effort: str) -> Think:
    if effort not in _EFFORTS:
        raise _refused(
            f'invalid reasoning value: {quote(effort)} (must be "minimal", "low", "medium", "high", "xhigh", "ultra", '
            '"max", or "none")'
        )
    return _EFFORTS[effort]


def _format(wanted: Fields, vendor: Vendor) -> Format | None:
    """The native `format` that the layer makes of it; what the native handler does not take is told by `check`."""
    kind = wanted.get("type", "").strip().lower()
    if kind == "json_object":
        return Format()
    schema = wanted.get("json_schema", {}).get("schema") if kind == "json_schema" else None
    if schema is None or schema == "":
        return None
    if isinstance(schema, dict):
        return Format(schema or None)
    if schema == "json":
        return Format()
    words = f'invalid format: {quote(dumps(schema).decode())}; expected "json" or a valid JSON Schema object'
    vendor["ollama"] = {"late": {"format": words}}
    return None


def _tool(item: Fields | None) -> Tool:
    function = (item or {}).get("function") or {}
    return Tool(function.get("name") or "", function.get("description"), function.get("parameters"))


# -- messages ----------------------------------------------------------------------------------------------------------


def _messages(items: list[Fields]) -> list[Message]:
    """One message for each part of a list; calls go to the last message there is."""
    messages: list[Message] = []
    for item in items:
        content, calls = item.get("content"), item.get("tool_calls")
        if isinstance(content, str):
            messages.append(_message(item, content, _calls(calls), _tool_name(item, items)))
        elif isinstance(content, list):
            messages += [_part_message(item, part) for part in content]
            if messages and calls:
                thinking: list[Block] = [Thinking(item["reasoning"])] if item.get("reasoning") else []
                messages[-1].blocks = [*thinking, *messages[-1].blocks, *_calls(calls)]
        elif calls is None:
            raise _refused(f"invalid message content type: {_go_type(content)}")
        else:
            messages.append(_message(item, "", _calls(calls), ""))
    return messages


def _message(item: Fields, content: str, calls: list[ToolCall], tool_name: str) -> Message:
    role = item.get("role", "").lower()
    if role == "tool":
        return Message(role, [ToolResult([Text(content)], item.get("tool_call_id") or None, tool_name or None)])
    blocks: list[Block] = [Thinking(item["reasoning"])] if item.get("reasoning") else []
    if content:
        blocks.append(Text(content))
    return Message(role, [*blocks, *calls])


def _tool_name(item: Fields, items: list[Fields]) -> str:
    """The name given, else that of the last call with the id."""
    if item.get("role", "").lower() != "tool":
        return ""
    name: str = item.get("name", "")
    call_id = item.get("tool_call_id")
    if name or not call_id:
        return name
    for message in reversed(items):
        for call in message.get("tool_calls", ()):
            if call.get("id") == call_id:
                return str(call.get("function", {}).get("name", ""))
    return ""


def _part_message(item: Fields, part: Any) -> Message:
    block = _part(part)
    role = item.get("role", "").lower()
    return Message(role, [ToolResult([block])] if role == "tool" else [block])


def _part(part: Any) -> Text | Media:
    if not isinstance(part, dict):
        raise _refused("invalid message format")
    kind = part.get("type")
    if kind == "text" and isinstance(part.get("text"), str):
        return Text(part["text"])
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        if isinstance(url, str):
            return _image(url)
    if kind == "input_audio":
        return _audio(part.get("input_audio"))
    raise _refused("invalid message format")


_IMAGE_PREFIXES = ("data:;base64,", *(f"data:image/{kind};base64," for kind in ("jpeg", "jpg", "png", "webp")))


def _image(url: str) -> Media:
    if url.startswith(("http://", "https://")):
        raise _refused("image URLs are not currently supported, please use base64 encoded data instead")
    prefix = next((prefix for prefix in _IMAGE_PREFIXES if url.startswith(prefix)), None)
    if prefix is None or base64_error(url[len(prefix) :]) is not None:
        raise _refused("invalid image input")
    return media_of(url[len(prefix) :])


def _audio(audio: Any) -> Media:
    if not isinstance(audio, dict):
        raise _refused("invalid input_audio format")
    data = audio.get("data")
    if not isinstance(data, str):
        raise _refused("invalid input_audio format: missing data")
    at = base64_error(data)
    if at is not None:
        raise _refused(f"invalid input_audio base64 data: illegal base64 data at input byte {at}")
    media = media_of(data)
    media.kind = "audio"
    return media


def _calls(calls: list[Fields] | None) -> list[ToolCall]:
    found = []
    for call in calls or ():
        function = call.get("function", {})
        try:
            arguments = loads(function.get("arguments", ""))
        except BadJSON:
            arguments = ""
        if not isinstance(arguments, dict | None):
            raise _refused("invalid tool call arguments")
        found.append(ToolCall(function.get("name", ""), dumps(arguments or {}).decode(), call.get("id") or None))
    return found


# -- answers -----------------------------------------------------------------------------------------------------------


def _usage(native: Fields) -> Fields:
    prompt, completion = native.get("prompt_eval_count", 0), native.get("eval_count", 0)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _chat_object(native: Fields, now: Moment) -> Fields:
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


def _completion_object(native: Fields, now: Moment) -> Fields:
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


def _embeddings(request: EmbedRequest, reply: EmbedReply, now: Moment) -> Answer:
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
