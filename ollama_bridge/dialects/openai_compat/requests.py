"""Bodies for Ollama's /v1 layer -> values, as the layer itself translates them (ollama-protocol.md 4.2 to 4.4).

Knows: what the layer maps, ignores and refuses. Must not know: answers, providers, policy.
"""

from __future__ import annotations

from typing import Any

from ...errors import MODEL_REQUIRED, refuse
from ...framing import BadJSON, dumps, loads
from ...values import (
    Block,
    ChatRequest,
    EmbedRequest,
    Format,
    Media,
    Message,
    Text,
    Think,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Vendor,
)
from ..base import CHAT, EMBED, GENERATE
from ..go.scan import base64_error, quote
from ..media import media_of
from ..ollama import requests as ollama_requests
from ..ollama.types import provider_of
from .types import CHAT_REQUEST, COMPLETION_REQUEST, EMBEDDING_REQUEST, Fields, fields_of, go_type, refused


def decode_chat(body: bytes) -> ChatRequest:
    fields = fields_of(body, CHAT_REQUEST)
    if not fields.get("messages"):
        raise refused("[] is too short - 'messages'")
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


def decode_completion(body: bytes) -> ChatRequest:
    fields = fields_of(body, COMPLETION_REQUEST)
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
                raise refused(f"invalid type for 'stop' field: {go_type(each)}")
    asked = max(0, fields.get("logprobs", 0))
    request = _common(GENERATE, fields, options, asked)
    request.logprobs = asked > 0
    request.suffix = fields.get("suffix") or None
    prompt = fields.get("prompt", "")
    if prompt:
        request.messages = [Message("user", [Text(prompt)])]
    request.intent = "run" if prompt else "load"
    return request


def decode_embedding(body: bytes) -> EmbedRequest:
    fields = fields_of(body, EMBEDDING_REQUEST)
    encoding = fields.get("encoding_format", "")
    if encoding.lower() not in ("", "float", "base64"):
        raise refused(f"Invalid value for 'encoding_format' = {encoding}. Supported values: ['float', 'base64'].")
    inputs = fields.get("input")
    if inputs is None or inputs == []:
        raise refused("invalid input")
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
        raise refused(
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
            raise refused(f"invalid message content type: {go_type(content)}")
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
        raise refused("invalid message format")
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
    raise refused("invalid message format")


_IMAGE_PREFIXES = ("data:;base64,", *(f"data:image/{kind};base64," for kind in ("jpeg", "jpg", "png", "webp")))


def _image(url: str) -> Media:
    if url.startswith(("http://", "https://")):
        raise refused("image URLs are not currently supported, please use base64 encoded data instead")
    prefix = next((prefix for prefix in _IMAGE_PREFIXES if url.startswith(prefix)), None)
    if prefix is None or base64_error(url[len(prefix) :]) is not None:
        raise refused("invalid image input")
    return media_of(url[len(prefix) :])


def _audio(audio: Any) -> Media:
    if not isinstance(audio, dict):
        raise refused("invalid input_audio format")
    data = audio.get("data")
    if not isinstance(data, str):
        raise refused("invalid input_audio format: missing data")
    at = base64_error(data)
    if at is not None:
        raise refused(f"invalid input_audio base64 data: illegal base64 data at input byte {at}")
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
            raise refused("invalid tool call arguments")
        found.append(ToolCall(function.get("name", ""), dumps(arguments or {}).decode(), call.get("id") or None))
    return found
