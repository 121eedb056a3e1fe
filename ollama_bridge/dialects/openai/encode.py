"""Values -> request bodies for OpenAI-compatible providers.

Knows: how a Profile spells a request on this wire (providers.md 2.2, 3.1 to 3.4, section 8). Must not know: names of
providers, clients, how a profile came about, what a target refuses: the request has been fitted to the profile and its
tool results paired before (policy/adapt, policy/pairing). What is lost here is what no request of this wire can say.

    ChatRequest(think="high", sampling=Sampling(max_tokens=9), …)
        -> {"model":"o4","messages":[…],"stream":false,"max_completion_tokens":9,"reasoning_effort":"high"}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...values import (
    Block,
    ChatRequest,
    EmbedRequest,
    Format,
    Media,
    Message,
    Opaque,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from ..base import Loss, Profile
from .fields import NAME

_SYSTEM = ("system", "developer")
_SAYS_JSON = "Answer with JSON."

_OWN = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "top_k", "min_p")  # called so everywhere


def encode_chat(request: ChatRequest, model: str, profile: Profile) -> tuple[dict[str, Any], list[Loss]]:
    losses = [Loss(name) for name in ("raw", "template", "suffix") if getattr(request, name)]
    body: dict[str, Any] = {"model": model, "messages": _messages(request, profile, losses), "stream": request.stream}
    if request.stream and profile.stream_usage and "stream_options" not in profile.rejects:
        body["stream_options"] = {"include_usage": True}
    _write_tools(request, body)
    _write_format(request.format, profile, body)
    _write_thinking(request, profile, body)
    _write_sampling(request, profile, body)
    if request.n is not None and request.n > 1:
        losses.append(Loss("n", "one answer is translated"))
    for name, value in request.vendor.get(NAME, {}).items():
        body.setdefault(name, value)
    for name, value in profile.extra_body.items():
        given = body.get(name)
        if isinstance(given, dict) and isinstance(value, Mapping):
            body[name] = {**value, **given}
        elif name not in body:
            body[name] = value
    return body, losses


def encode_embedding(request: EmbedRequest, model: str, profile: Profile) -> tuple[dict[str, Any], list[Loss]]:
    body: dict[str, Any] = {"model": model, "input": request.inputs}
    if request.dimensions is not None and request.dimensions > 0:
        body["dimensions"] = request.dimensions
    if "encoding_format" not in profile.rejects:
        body["encoding_format"] = "base64"
    return {**request.vendor.get(NAME, {}), **body}, []


# -- parameters --------------------------------------------------------------------------------------------------------


def _write_tools(request: ChatRequest, body: dict[str, Any]) -> None:
    if not request.tools:
        return
    body["tools"] = [_tool(tool) for tool in request.tools]
    choice = request.tool_choice
    if isinstance(choice, dict):
        choice = {"type": "function", "function": {"name": choice["name"]}}
    if choice is not None:
        body["tool_choice"] = choice
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls


def _write_format(wanted: Format | None, profile: Profile, body: dict[str, Any]) -> None:
    if wanted is None:
        return
    if wanted.schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": _schema(wanted)}
        return
    body["response_format"] = {"type": "json_object"}
    _say_json(body["messages"], profile.system_role)


def _write_thinking(request: ChatRequest, profile: Profile, body: dict[str, Any]) -> None:
    """`think` is False, True, or a level that the target has."""
    think = request.think
    if think is None:
        return
    level: str | None = think if isinstance(think, str) else None
    if profile.reasoning == "deepseek":
        body["thinking"] = {"type": "enabled" if think else "disabled"}
    elif profile.reasoning == "template":
        switches: dict[str, Any] = {"enable_thinking": bool(think)}
        if level is not None:
            switches["reasoning_effort"] = level
        given = request.vendor.get(NAME, {}).get("chat_template_kwargs")
        body["chat_template_kwargs"] = {**(given if isinstance(given, dict) else {}), **switches}
        return
    elif profile.reasoning == "openrouter":
        body["reasoning"] = {"enabled": bool(think)} if level is None else {"effort": level}
        return
    elif think is False:
        level = "none" if profile.reasons_by_default else None  # else not saying anything means the same
    elif think is True:
        level = profile.efforts[0] if profile.efforts else "medium"  # none of its words is a level
    if level is not None:
        body["reasoning_effort"] = level


def _write_sampling(request: ChatRequest, profile: Profile, body: dict[str, Any]) -> None:
    sampling = request.sampling
    spelled = {name: getattr(sampling, name) for name in _OWN} | sampling.extra
    spelled[profile.seed_field] = sampling.seed
    spelled[profile.max_tokens_field] = sampling.max_tokens or None
    repeat = "repetition_penalty" if "repetition_penalty" in profile.accepts else "repeat_penalty"
    spelled[repeat] = sampling.repeat_penalty
    if "stop" not in profile.rejects | profile.drop_while_reasoning:
        spelled["stop"] = (sampling.stop or [])[: profile.max_stops] or None  # the gateway finds the others
    if request.logprobs:
        spelled |= {"logprobs": True, "top_logprobs": request.top_logprobs or None}
    body |= {name: value for name, value in spelled.items() if value is not None}


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = {"type": "object", "properties": {}} if tool.parameters is None else tool.parameters
    return {"type": "function", "function": {**tool.vendor.get(NAME, {}), **function}}


def _schema(wanted: Format) -> dict[str, Any]:
    """`strict` stays false unless asked for: most schemas of clients do not meet its conditions (providers.md 2.2)."""
    return {"name": wanted.name or "answer", "schema": wanted.schema, "strict": bool(wanted.strict)}


def _say_json(messages: list[dict[str, Any]], system_role: str) -> None:
    """OpenAI refuses JSON mode when the conversation never says JSON (providers.md 2.2)."""
    if any("json" in text.lower() for message in messages for text in _texts(message.get("content"))):
        return
    first = messages[0] if messages else {}
    if first.get("role") == system_role and isinstance(first.get("content"), str):
        messages[0] = {**first, "content": f"{first['content']}\n\n{_SAYS_JSON}"}
    else:
        messages.insert(0, {"role": system_role, "content": _SAYS_JSON})


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    return [part["text"] for part in parts if isinstance(part.get("text"), str)]


# -- the conversation --------------------------------------------------------------------------------------------------


def _messages(request: ChatRequest, profile: Profile, losses: list[Loss]) -> list[dict[str, Any]]:
    """The wire's messages. Pictures in tool results, which the wire has no place for, follow the results as a message
    of the user: nothing may stand between the results of one turn."""
    written: list[dict[str, Any]] = []
    shown: list[Media] = []
    for message in request.messages:
        results = [block for block in message.blocks if isinstance(block, ToolResult)]
        if shown and not results:
            written.append({"role": "user", "content": [_media_part(media) for media in shown]})
            shown = []
        for result in results:
            written.append(_result(result, message))
            shown += [part for part in result.content if isinstance(part, Media)]
        if not results or len(results) < len(message.blocks):
            written.append(_message(message, profile, losses))
    if shown:
        written.append({"role": "user", "content": [_media_part(media) for media in shown]})
    return written


def _result(result: ToolResult, message: Message) -> dict[str, Any]:
    text = "\n".join(part.text for part in result.content if isinstance(part, Text))
    written: dict[str, Any] = {"role": "tool", "tool_call_id": result.call_id or "", "content": text}
    return {**message.vendor.get(NAME, {}), **written}


def _message(message: Message, profile: Profile, losses: list[Loss]) -> dict[str, Any]:
    written: dict[str, Any] = {"role": profile.system_role if message.role in _SYSTEM else message.role}
    calls: list[dict[str, Any]] = []
    thoughts: list[str] = []
    parts: list[Block] = []
    for block in message.blocks:
        if isinstance(block, ToolCall):
            calls.append(_call(block))
        elif isinstance(block, Opaque) and block.dialect == NAME and block.payload.get("type") == "custom":
            calls.append(block.payload)
        elif isinstance(block, Thinking):
            thoughts.append(block.text)
        elif isinstance(block, Opaque) and block.dialect != NAME:
            losses.append(Loss(f"{block.dialect} content"))
        elif not isinstance(block, ToolResult):
            parts.append(block)
    written["content"] = _content(parts, calls)
    if calls:
        written["tool_calls"] = calls
    # DeepSeek refuses a turn with calls that lacks the field, even an empty one (providers.md section 8).
    wanted = thoughts or (calls and profile.reasoning == "deepseek")
    if profile.thinking_in_history and message.role == "assistant" and wanted:
        written[profile.thinking_in_history] = "".join(thoughts)
    return {**message.vendor.get(NAME, {}), **written}


def _content(parts: list[Block], calls: list[dict[str, Any]]) -> str | list[dict[str, Any]] | None:
    """A bare string where one says it all: some services read nothing else."""
    said = [part for part in parts if not (isinstance(part, Text) and not part.text)]
    if not said:
        return None if calls else ""
    if len(said) == 1 and isinstance(said[0], Text):
        return said[0].text
    return [_part(part) for part in said]


def _part(block: Block) -> dict[str, Any]:
    if isinstance(block, Text):
        return {"type": "text", "text": block.text}
    if isinstance(block, Media):
        return _media_part(block)
    assert isinstance(block, Opaque)
    payload: dict[str, Any] = block.payload
    return payload


_AUDIO_FORMATS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav"}


def _media_part(media: Media) -> dict[str, Any]:
    if media.kind == "audio":
        name = media.mime.partition("/")[2] or "wav"
        return {"type": "input_audio", "input_audio": {"data": media.data, "format": _AUDIO_FORMATS.get(name, name)}}
    image: dict[str, Any] = {"url": media.url or f"data:{media.mime or 'image/png'};base64,{media.data or ''}"}
    if media.detail is not None:
        image["detail"] = media.detail
    return {"type": "image_url", "image_url": image}


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    return {**call.vendor.get(NAME, {}), "id": call.id or "", "type": "function", "function": function}
