"""Values -> request bodies for OpenAI-compatible providers.

Knows: how a Profile spells a request on this wire (providers.md 2.2, 3.1 to 3.4, section 8). Must not know: names of
providers, clients, how a profile came about. The request has been fitted to the profile and its tool results paired
before.

    ChatRequest(think="high", sampling=Sampling(max_tokens=9), …)
        -> {"model":"o4","messages":[…],"stream":false,"max_completion_tokens":9,"reasoning_effort":"high"}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..values import (
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
from .base import Loss, Profile
from .openai_fields import NAME

_LEVELS = ("minimal", "low", "medium", "high", "xhigh", "max")  # weakest first
_SYSTEM = ("system", "developer")
_SAYS_JSON = "Answer with JSON."

# Fields of Sampling. The first every service knows; the others go out under the name that the profile accepts.
_OWN = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
_OTHERS = {
    "top_k": ("top_k",),
    "min_p": ("min_p",),
    "repeat_penalty": ("repetition_penalty", "repeat_penalty"),
}
# Of the options that only local engines know, those that change what is said. Dropping the others (threads, GPU layers,
# mirostat of old clients) is no loss (providers.md 3.2).
_FELT = frozenset({"typical_p", "repeat_last_n"})


def encode_chat(request: ChatRequest, model: str, profile: Profile) -> tuple[dict[str, Any], list[Loss]]:
    losses = [Loss(name) for name in ("raw", "template", "suffix") if getattr(request, name)]
    body: dict[str, Any] = {"model": model, "messages": _messages(request, profile, losses), "stream": request.stream}
    if request.stream and profile.stream_usage and "stream_options" not in profile.rejects:
        body["stream_options"] = {"include_usage": True}
    parameters = _Parameters(request, profile, body, losses)
    parameters.write()
    for name, value in request.vendor.get(NAME, {}).items():
        if name in parameters.refused:
            losses.append(Loss(name))
        elif name not in body:
            body[name] = value
    for name, value in profile.extra_body.items():
        given = body.get(name)
        if isinstance(given, dict) and isinstance(value, Mapping):
            body[name] = {**value, **given}
        elif name not in body:
            body[name] = value
    return body, losses


def encode_embedding(request: EmbedRequest, model: str, profile: Profile) -> tuple[dict[str, Any], list[Loss]]:
    body: dict[str, Any] = {"model": model, "input": request.inputs}
    losses: list[Loss] = []
    if request.dimensions is not None and request.dimensions > 0:
        if "dimensions" in profile.rejects:
            losses.append(Loss("dimensions"))
        else:
            body["dimensions"] = request.dimensions
    if "encoding_format" not in profile.rejects:
        body["encoding_format"] = "base64"
    return {**request.vendor.get(NAME, {}), **body}, losses


# -- parameters --------------------------------------------------------------------------------------------------------


class _Parameters:
    """Everything of a body but the conversation."""

    def __init__(self, request: ChatRequest, profile: Profile, body: dict[str, Any], losses: list[Loss]) -> None:
        self.request = request
        self.profile = profile
        self.body = body
        self.losses = losses
        self.refused = profile.rejects | (profile.drop_while_reasoning if self._reasons() else frozenset())

    def write(self) -> None:
        self._tools()
        self._format()
        self._thinking()
        self._sampling()
        self._logprobs()
        if self.request.n is not None and self.request.n > 1:
            self._lose("n", "one answer is translated")

    def _lose(self, name: str, why: str = "") -> None:
        self.losses.append(Loss(name, why))

    def _reasons(self) -> bool:
        """Whether the target will reason: asked to, or of itself."""
        think, profile = self.request.think, self.profile
        if think is False:
            return profile.reasons_by_default and not profile.think_off
        return profile.reasons_by_default or (think is not None and profile.reasoning != "none")

    def _send(self, name: str, value: Any, field: str | None = None) -> None:
        """`name` as in a profile's rejects and in losses, `field` as the wire calls it."""
        if value is None:
            return
        if name in self.refused:
            self._lose(name)
        else:
            self.body[field or name] = value

    def _tools(self) -> None:
        request = self.request
        if not request.tools:
            return
        self.body["tools"] = [_tool(tool) for tool in request.tools]
        choice = request.tool_choice
        if isinstance(choice, dict):
            choice = {"type": "function", "function": {"name": choice["name"]}}
        if choice != "auto" or "tool_choice" not in self.refused:  # "auto" is what not saying anything means
            self._send("tool_choice", choice)
        self._send("parallel_tool_calls", request.parallel_tool_calls)

    def _format(self) -> None:
        wanted = self.request.format
        if wanted is None:
            return
        formats = self.profile.formats
        if wanted.schema is not None and "schema" in formats:
            self.body["response_format"] = {"type": "json_schema", "json_schema": _schema(wanted)}
            return
        if wanted.schema is not None or "json" not in formats:
            self._lose("format", "the target does not hold its answer to it")
        if "json" in formats:
            self.body["response_format"] = {"type": "json_object"}
            _say_json(self.body["messages"], self.profile.system_role)

    # -- reasoning ---------------------------------------------------------------------------------------------------
    def _thinking(self) -> None:
        think, profile = self.request.think, self.profile
        if think is None:
            return
        if profile.reasoning == "none" or "think" in profile.rejects:
            if think is not profile.reasons_by_default:  # a level cannot be told either
                self._lose("think")
            return
        if think is False and not profile.think_off:
            if profile.reasons_by_default:
                self._lose("think", "reasoning cannot be switched off")
                self._effort(profile.efforts[0] if profile.efforts else "low")
            return
        level = None if isinstance(think, bool) else _nearest(think, profile.efforts)
        if profile.reasoning == "deepseek":
            self.body["thinking"] = {"type": "enabled" if think else "disabled"}
            self._effort(level)
        elif profile.reasoning == "template":
            switches: dict[str, Any] = {"enable_thinking": bool(think)}
            if level is not None:
                switches["reasoning_effort"] = level
            given = self.request.vendor.get(NAME, {}).get("chat_template_kwargs")
            self.body["chat_template_kwargs"] = {**(given if isinstance(given, dict) else {}), **switches}
        elif profile.reasoning == "openrouter":
            self.body["reasoning"] = {"enabled": bool(think)} if level is None else {"effort": level}
        elif think is False:
            self._effort("none" if profile.reasons_by_default else None)
        else:
            self._effort(level or (None if profile.reasons_by_default else _nearest("medium", profile.efforts)))

    def _effort(self, level: str | None) -> None:
        if level is None:
            return
        if self.profile.reasoning == "openrouter":
            self.body["reasoning"] = {"effort": level}
        elif self.profile.reasoning == "template":
            self.body["chat_template_kwargs"] = {"reasoning_effort": level}
        else:
            self._send("think", level, "reasoning_effort")

    # -- sampling ----------------------------------------------------------------------------------------------------
    def _sampling(self) -> None:
        sampling, profile = self.request.sampling, self.profile
        for name in _OWN:
            self._send(name, getattr(sampling, name))
        if sampling.seed is not None and sampling.seed > 0:  # Ollama's clients say "any" by 0 and -1 (providers.md 3.2)
            self._send("seed", sampling.seed, profile.seed_field)
        if sampling.max_tokens is not None and sampling.max_tokens > 0:  # -1 and -2: no limit
            self._send("max_tokens", sampling.max_tokens, profile.max_tokens_field)
        for name, spellings in _OTHERS.items():
            self._send_if_accepted(name, getattr(sampling, name), spellings)
        for name, value in sampling.extra.items():
            if name in profile.accepts or name in _FELT:
                self._send_if_accepted(name, value, (name,))
        self._stop(sampling.stop or [])

    def _send_if_accepted(self, name: str, value: Any, spellings: Iterable[str]) -> None:
        if value is None:
            return
        field = next((spelling for spelling in spellings if spelling in self.profile.accepts), None)
        if field is None:
            self._lose(name)
        else:
            self._send(name, value, field)

    def _stop(self, stops: list[str]) -> None:
        taken = [] if "stop" in self.refused else stops[: self.profile.max_stops]
        if taken:
            self.body["stop"] = taken
        if len(taken) < len(stops):
            self._lose("stop", f"the target takes {len(taken)}")

    def _logprobs(self) -> None:
        if not self.request.logprobs:
            return
        self._send("logprobs", True)
        if self.request.top_logprobs and "logprobs" in self.body:
            self._send("top_logprobs", self.request.top_logprobs)


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = {"type": "object", "properties": {}} if tool.parameters is None else tool.parameters
    return {"type": "function", "function": {**tool.vendor.get(NAME, {}), **function}}


def _schema(wanted: Format) -> dict[str, Any]:
    """`strict` stays false unless asked for: most schemas of clients do not meet its conditions (providers.md 2.2)."""
    return {"name": wanted.name or "answer", "schema": wanted.schema, "strict": bool(wanted.strict)}


def _nearest(level: str, efforts: tuple[str, ...]) -> str:
    """The strongest effort that is not above `level`, else the weakest. No efforts known: the level itself."""
    if not efforts or level in efforts:
        return level
    ranked = [effort for effort in efforts if effort in _LEVELS]
    below = [effort for effort in ranked if _LEVELS.index(effort) <= _LEVELS.index(level)]
    return below[-1] if below else (ranked or efforts)[0]


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
