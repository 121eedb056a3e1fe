"""Requests of OpenAI clients -> values.

Knows: the bodies of /v1/chat/completions, /v1/completions and /v1/embeddings, and what their clients send beyond the
specification (clients.md 4.6). Must not know: models, providers, how a request goes on.

    {"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"What is this?"},
     {"type":"image_url","image_url":{"url":"data:image/png;base64,iVBO…"}}]}],"max_completion_tokens":9}

A member that is null counts as absent. What this gateway has no value for stays in the vendor bag `openai` and comes
back when the request is encoded for an OpenAI provider. Wrong types are refused with a 400 that names the member.
"""

from __future__ import annotations

import re
from typing import Any

from ...errors import MODEL_REQUIRED, GatewayError, refuse
from ...values import (
    Block,
    ChatRequest,
    EmbedRequest,
    Format,
    Media,
    Message,
    Opaque,
    Sampling,
    Text,
    Think,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from ..go.json import parse
from .fields import NAME, arguments_text, call_vendor

EMPTY = "the request has no body"
_TOP_LOGPROBS = 20
_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]+)*;base64,", re.I)
_EFFORTS: dict[str, Think] = {
    "none": False,
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}
_JSON_TYPES = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def invalid(path: str, expected: str, value: Any) -> GatewayError:
    """The 400 for a value of the wrong type. `path` as in `messages[0].content`."""
    found = _JSON_TYPES[type(value)]
    return refuse(
        f"Invalid type for '{path}': expected {expected}, but got {found} instead.", code="invalid_type", param=path
    )


def missing(path: str) -> GatewayError:
    return refuse(f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path)


def unsupported(path: str, value: Any, supported: str) -> GatewayError:
    return refuse(
        f"Invalid value for '{path}': {str(value)[:100]!r}. Supported: {supported}.", code="invalid_value", param=path
    )


class Members:
    """One JSON object of a request, taken apart member by member. What is left in `rest` was not asked for."""

    def __init__(self, value: Any, path: str = "") -> None:
        if not isinstance(value, dict):
            raise invalid(path or "body", "an object", value)
        self.rest = {name: each for name, each in value.items() if each is not None}
        self._path = path

    def path(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def any(self, name: str) -> Any:
        return self.rest.pop(name, None)

    def _typed(self, name: str, kind: type) -> Any:
        value = self.rest.pop(name, None)
        if value is None or type(value) is kind:
            return value
        raise invalid(self.path(name), _JSON_TYPES[kind], value)

    def text(self, name: str) -> str | None:
        found: str | None = self._typed(name, str)
        return found

    def flag(self, name: str) -> bool | None:
        found: bool | None = self._typed(name, bool)
        return found

    def items(self, name: str) -> list[Any] | None:
        found: list[Any] | None = self._typed(name, list)
        return found

    def object(self, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._typed(name, dict)
        return found

    def whole(self, name: str) -> int | None:
        """An integer; a float without a fraction counts as one."""
        value = self.rest.pop(name, None)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None or (type(value) is int and abs(value) < 2**63):
            return value
        raise invalid(self.path(name), "an integer", value)

    def number(self, name: str) -> float | None:
        value = self.rest.pop(name, None)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise invalid(self.path(name), "a number", value)

    def texts(self, name: str) -> list[str] | None:
        """A string, or a list of strings."""
        value = self.rest.pop(name, None)
        if isinstance(value, str):
            return [value]
        if value is None or (isinstance(value, list) and all(isinstance(each, str) for each in value)):
            return value
        raise invalid(self.path(name), "a string or an array of strings", value)


# -- the three bodies --------------------------------------------------------------------------------------------------


def decode_chat(body: bytes) -> ChatRequest:
    members = Members(parse(body, EMPTY))
    request = _common(members, members.text("model") or "")  # without one the gateway chooses, if it knows how
    messages = members.items("messages")
    if messages is None:
        raise missing("messages")
    if not messages:
        raise refuse("[] is too short - 'messages'", param="messages")
    request.messages = [_message(each, f"messages[{at}]") for at, each in enumerate(messages)]
    request.sampling.max_tokens = members.whole("max_completion_tokens") or request.sampling.max_tokens
    request.logprobs = bool(members.flag("logprobs"))
    request.top_logprobs = members.whole("top_logprobs")
    _tooling(request, members)
    _response_format(request, members)
    request.think = _thinking(members)
    return _finished(request, members)


def decode_completion(body: bytes) -> ChatRequest:
    members = Members(parse(body, EMPTY))
    request = _common(members, _model(members))
    request.messages = [Message("user", [Text(_prompt(members.any("prompt")))])]
    request.suffix = members.text("suffix")
    alternatives = members.whole("logprobs")
    request.logprobs, request.top_logprobs = alternatives is not None, alternatives or None
    # Of this endpoint alone: a chat provider would refuse the names.
    echo, best_of = members.flag("echo"), members.whole("best_of")
    request.losses = [*(["echo"] if echo else []), *(["best_of"] if best_of not in (None, 1) else [])]
    return _finished(request, members)


def decode_embedding(body: bytes) -> EmbedRequest:
    members = Members(parse(body, EMPTY))
    model, privacy, task, provider = _model(members), _privacy(members), members.text("task"), _provider(members)
    encoding = members.text("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise unsupported("encoding_format", encoding, "'float' and 'base64'")
    request = EmbedRequest(
        model=model,
        inputs=_inputs(members.any("input")),
        dimensions=members.whole("dimensions"),
        encoding="base64" if encoding == "base64" else "float",
        privacy=privacy,
        task=task,
        provider=provider,
    )
    request.vendor = {NAME: members.rest} if members.rest else {}
    return request


def _common(members: Members, model: str) -> ChatRequest:
    options = members.object("stream_options") or {}
    request = ChatRequest(
        model=model,
        stream=bool(members.flag("stream")),
        sampling=_sampling(members),
        include_usage=options.get("include_usage") is True,
        n=members.whole("n"),
        privacy=_privacy(members),
        task=members.text("task"),
        provider=_provider(members),
        losses=[],
    )
    if request.n is not None and request.n < 1:
        raise unsupported("n", request.n, "1 and above")
    return request


def _finished(request: ChatRequest, members: Members) -> ChatRequest:
    if request.top_logprobs is not None and not 0 <= request.top_logprobs <= _TOP_LOGPROBS:
        raise refuse("top_logprobs must be between 0 and 20", code="invalid_value", param="top_logprobs")
    request.vendor = {NAME: members.rest} if members.rest else {}
    return request


def _model(members: Members) -> str:
    model = members.text("model")
    if not model:
        raise refuse("model is required", code=MODEL_REQUIRED, param="model")
    return model


def _privacy(members: Members) -> str | None:
    privacy = members.text("privacy_mode")
    if privacy not in (None, "strict", "flexible"):
        raise unsupported("privacy_mode", privacy, "'strict' and 'flexible'")
    return privacy


def _provider(members: Members) -> str | None:
    """The gateway's own member is a name; an object of the same name is OpenRouter's, and for it."""
    provider = members.any("provider")
    if isinstance(provider, str):
        return provider or None
    if provider is not None:
        members.rest["provider"] = provider
    return None


def _sampling(members: Members) -> Sampling:
    """OpenAI's own names, those that local engines take at the top level too (providers.md section 8), and Ollama's
    `options`, which some clients add (clients.md 2, Goose)."""
    sampling = Sampling(
        temperature=members.number("temperature"),
        top_p=members.number("top_p"),
        top_k=members.whole("top_k"),
        min_p=members.number("min_p"),
        seed=members.whole("seed"),
        max_tokens=members.whole("max_tokens"),
        stop=members.texts("stop"),
        presence_penalty=members.number("presence_penalty"),
        frequency_penalty=members.number("frequency_penalty"),
        repeat_penalty=members.number("repeat_penalty"),
    )
    repetition = members.number("repetition_penalty")
    sampling.repeat_penalty = repetition if sampling.repeat_penalty is None else sampling.repeat_penalty
    options = Members(members.object("options") or {}, "options")
    sampling.num_ctx = options.whole("num_ctx")
    sampling.extra = options.rest
    return sampling


def _prompt(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return value[0]
    if isinstance(value, str):
        return value
    if value is None:
        raise missing("prompt")
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        raise refuse("only one prompt at a time is supported", code="invalid_value", param="prompt")
    if isinstance(value, list) and value and all(type(each) is int or isinstance(each, list) for each in value):
        raise refuse("token ids are not supported as a prompt, send text", code="invalid_value", param="prompt")
    raise invalid("prompt", "a string", value)


def _inputs(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if value is None:
        raise missing("input")
    if not isinstance(value, list):
        raise invalid("input", "a string or an array of strings", value)
    if not value:
        raise refuse("[] is too short - 'input'", code="invalid_value", param="input")
    for at, each in enumerate(value):
        if type(each) is int or isinstance(each, list):
            raise refuse("token ids are not supported as input, send text", code="invalid_value", param="input")
        if not isinstance(each, str):
            raise invalid(f"input[{at}]", "a string", each)
    return value


# -- parameters with a shape of their own ------------------------------------------------------------------------------


def _tooling(request: ChatRequest, members: Members) -> None:
    for at, each in enumerate(members.items("tools") or []):
        tool = Members(each, f"tools[{at}]")
        kind = tool.text("type") or "function"
        if kind != "function":
            request.losses.append(f"tools[{at}] ({kind})")  # run by OpenAI itself; a relay carries it, nothing else can
            continue
        function = Members(tool.object("function") or {}, f"tools[{at}].function")
        name = function.text("name")
        if not name:
            raise missing(function.path("name"))
        request.tools.append(
            Tool(name, function.text("description"), function.object("parameters"), _bag(function.rest))
        )
    request.parallel_tool_calls = members.flag("parallel_tool_calls")
    choice = members.any("tool_choice")
    if isinstance(choice, str):
        request.tool_choice = "required" if choice == "any" else choice
        if request.tool_choice not in ("none", "auto", "required"):
            raise unsupported("tool_choice", choice, "'none', 'auto', 'required', or a function")
    elif choice is not None:
        named = Members(choice, "tool_choice")
        if named.text("type") != "function":
            request.losses.append("tool_choice")
            return
        name = Members(named.object("function") or {}, "tool_choice.function").text("name")
        if not name:
            raise missing("tool_choice.function.name")
        request.tool_choice = {"name": name}


def _response_format(request: ChatRequest, members: Members) -> None:
    value = members.object("response_format")
    if value is None:
        return
    wanted = Members(value, "response_format")
    kind = wanted.text("type")
    if kind == "json_object":
        request.format = Format()
    elif kind == "json_schema":
        schema = Members(wanted.object("json_schema") or {}, "response_format.json_schema")
        request.format = Format(schema.object("schema"), schema.text("name"), schema.flag("strict"))
    elif kind is None:
        raise missing("response_format.type")
    elif kind != "text":
        members.rest["response_format"] = value  # another server's own, e.g. a grammar


def _thinking(members: Members) -> Think:
    """`reasoning_effort`, OpenRouter's `reasoning`, DeepSeek's `thinking`, Ollama's `think`. A level that is not known
    here stays what it is and goes to the provider."""
    reasoning = Members(members.object("reasoning") or {}, "reasoning")
    effort, enabled = reasoning.text("effort"), reasoning.flag("enabled")
    if effort is None:
        effort = members.text("reasoning_effort")
    if effort is not None and effort not in _EFFORTS:
        members.rest["reasoning_effort"] = effort
        return None
    if effort is not None:
        return _EFFORTS[effort]
    if enabled is not None:
        return enabled
    switch = members.any("thinking")
    if isinstance(switch, dict) and switch.get("type") in ("enabled", "disabled"):
        return bool(switch["type"] == "enabled")
    think = members.any("think")
    return think if isinstance(think, bool) else _EFFORTS.get(str(think))


# -- messages ----------------------------------------------------------------------------------------------------------


def _message(value: Any, path: str) -> Message:
    members = Members(value, path)
    role = members.text("role")
    if not role:
        raise missing(members.path("role"))
    blocks: list[Block] = []
    thought = _first_text(members, "reasoning_content", "reasoning")
    if thought:
        blocks.append(Thinking(thought))
    blocks += content_blocks(members.any("content"), members.path("content"))
    refusal = members.text("refusal")
    if refusal:
        blocks.append(Text(refusal))
    for at, call in enumerate(members.items("tool_calls") or []):
        blocks.append(_call(call, f"{members.path('tool_calls')}[{at}]"))
    former = members.object("function_call")  # the form before tool_calls, like the role "function"
    if former is not None:
        blocks.append(_call({"function": former}, path))
    if role in ("tool", "function"):
        said = [block for block in blocks if isinstance(block, Text | Media)]
        result = ToolResult(said, members.text("tool_call_id"), members.text("name"))
        return Message("tool", [result], _bag(members.rest))
    return Message(role, blocks, _bag(members.rest))


def _first_text(members: Members, *names: str) -> str:
    found = [value for name in names if isinstance(value := members.any(name), str)]
    return next((value for value in found if value), "")


def content_blocks(value: Any, path: str) -> list[Block]:
    """A message's `content`: text, or a list of parts. Raises GatewayError (400) that names the wrong one."""
    if value is None:
        return []
    if isinstance(value, str):
        return [Text(value)]
    if not isinstance(value, list):
        raise invalid(path, "a string or an array of objects", value)
    return [_part(each, f"{path}[{at}]") for at, each in enumerate(value)]


def _part(value: Any, path: str) -> Block:
    if isinstance(value, str):
        return Text(value)
    part = Members(value, path)
    kind = part.text("type")
    if kind in ("text", "refusal"):
        text = part.text(kind)
        if text is None:
            raise missing(part.path(kind))
        return Text(text)
    if kind == "image_url":
        return _image(part.any("image_url"), part.path("image_url"))
    if kind == "input_audio":
        audio = Members(part.object("input_audio") or {}, part.path("input_audio"))
        data = audio.text("data")
        if data is None:
            raise missing(audio.path("data"))
        return Media("audio", f"audio/{audio.text('format') or 'wav'}", data)
    if kind is None:
        raise missing(part.path("type"))
    return Opaque(NAME, value)


def _image(value: Any, path: str) -> Media:
    """An address, or base64 data with its type. Both forms of the member occur: an object and a bare string."""
    detail = None
    if isinstance(value, dict):
        image = Members(value, path)
        detail, value, path = image.text("detail"), image.any("url"), image.path("url")
    if value is None:
        raise missing(path)
    if not isinstance(value, str):
        raise invalid(path, "a string", value)
    if value[:8].lower().startswith(("http://", "https://")):
        return Media(url=value, detail=detail)
    data_url = _DATA_URL.match(value)
    if data_url is None:
        raise refuse(
            "an image must be an http(s) address or a data URL with base64 data", code="invalid_image_url", param=path
        )
    return Media(mime=data_url[1].lower(), data=value[data_url.end() :], detail=detail)


def _call(value: Any, path: str) -> Block:
    call = Members(value, path)
    if (call.text("type") or "function") != "function":
        return Opaque(NAME, value)
    function = Members(call.object("function") or {}, f"{path}.function")
    name, arguments = function.text("name"), function.any("arguments")
    if not name:
        raise missing(function.path("name"))
    if not isinstance(arguments, str | dict | None):
        raise invalid(function.path("arguments"), "a string", arguments)
    return ToolCall(name, arguments_text(arguments), call.text("id"), call_vendor(value))


def _bag(rest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {NAME: rest} if rest else {}
