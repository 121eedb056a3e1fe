"""Native Ollama requests: bodies -> values, what only the known model can judge, and values -> bodies.

Knows: ollama-protocol.md 2.1 to 2.8, in Ollama's order and words. Must not know: answers, streams, who serves whom.

    {"model":"llama3.2","messages":[{"role":"user","content":"Hi"}],"options":{"num_predict":9},"think":false}
    {"model":"llama3.2","prompt":"Hi","system":"Be brief.","context":[11893617,41,7908907],"keep_alive":"5m"}
    {"model":"nomic-embed-text","input":["a","b"],"dimensions":256}

What Ollama finds only after it has looked the model up (option types, `format`, raw conflicts) is found when decoding
and kept in `vendor["ollama"]["late"]` until `check`; a 5xx that it gives for a client's mistake is a 400 here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ...errors import MODEL_REQUIRED, NO_CHAT, NO_INSERT, NO_THINKING, NO_TOOLS, GatewayError, Scope, refuse
from ...framing import BadJSON, dumps, loads
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
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Vendor,
)
from ..arguments import as_object
from ..base import CHAT, EMBED, EMBED_ONE, GENERATE, Loss, ModelView, Profile
from ..go.json import decode as decode_body
from ..go.scan import quote
from ..media import media_of
from . import context as conversation
from .errors import incapable
from .types import CHAT_REQUEST, EMBED_REQUEST, EMBEDDING_REQUEST, GENERATE_REQUEST, provider_of

NAME = "ollama"

Fields = dict[str, Any]

# -- options -----------------------------------------------------------------------------------------------------------

_INTEGERS = (
    "num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict", "num_keep", "seed", "num_predict",
    "top_k", "repeat_last_n",
)  # fmt: skip
_FLOATS = ("top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty")
_SAME = (
    "temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "repeat_penalty",
    "num_ctx",
)  # fmt: skip
_INT64 = 2**63 - 1


def read_options(options: Fields) -> tuple[Sampling, str | None]:
    """Options -> sampling, and the first type error in Ollama's words (ollama-protocol.md 2.2). Names that are not
    Ollama's, or that only local engines know, go to `extra` as they came."""
    sampling = Sampling()
    extra: Fields = {}
    error: str | None = None
    for name, value in options.items():
        if value is None:
            continue
        bad = _type_error(name, value)
        if bad is not None:
            error = error or f'option "{name}" must be of {bad}'
            continue
        if name in _INTEGERS:
            value = max(-_INT64, min(_INT64, int(value)))
        if name == "num_predict":
            sampling.max_tokens = value if value > 0 else None  # -1, -2 and 0 are all "open end"
        elif name == "seed":
            sampling.seed = value if value >= 0 else None  # -1 is "a new one each time"
        elif name == "stop":
            sampling.stop = value or None
        elif name in _SAME:
            setattr(sampling, name, value)
        else:
            extra[name] = value
    if extra:
        sampling.extra = extra
    return sampling, error


def _type_error(name: str, value: Any) -> str | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in _INTEGERS:
        return None if number else "type integer"
    if name in _FLOATS:
        return None if number else "type float32"
    if name == "use_mmap":
        return None if isinstance(value, bool) else "type boolean"
    if name == "stop":
        if not isinstance(value, list):
            return "type array"
        return None if all(isinstance(each, str) for each in value) else "an array of strings"
    return None


def write_options(sampling: Sampling) -> Fields:
    options: Fields = {}
    for name in _SAME:
        value = getattr(sampling, name)
        if value is not None:
            options[name] = value
    if sampling.max_tokens is not None:
        options["num_predict"] = sampling.max_tokens
    if sampling.stop is not None:
        options["stop"] = sampling.stop
    return {**options, **sampling.extra}


# -- bodies -> values --------------------------------------------------------------------------------------------------


def decode(kind: str, body: bytes) -> ChatRequest | EmbedRequest:
    """Raises GatewayError (400 or 404, early)."""
    if kind == CHAT:
        return _decode_chat(body)
    if kind == GENERATE:
        return _decode_generate(body)
    return _decode_embed(body) if kind == EMBED else _decode_embedding(body)


def _decode_chat(body: bytes) -> ChatRequest:
    fields = decode_body(body, CHAT_REQUEST)
    request = _common(CHAT, fields, body)
    request.messages = [_message(item) for item in fields.get("messages", ())]
    request.tools = [_tool(item) for item in fields.get("tools", ())]
    request.intent = _intent(not request.messages, request.keep_alive)
    if any(_ours(image) for item in fields.get("messages", ()) for image in item.get("images", ())):
        _no_relay(request.vendor)
    return request


def _decode_generate(body: bytes) -> ChatRequest:
    fields = decode_body(body, GENERATE_REQUEST)
    request = _common(GENERATE, fields, body)
    prompt, system, context = fields.get("prompt", ""), fields.get("system", ""), fields.get("context")
    request.raw = fields.get("raw", False)
    request.suffix = fields.get("suffix") or None
    request.template = fields.get("template") or None
    if request.raw and (request.template or system or context):
        _late(request.vendor)["raw"] = "raw mode does not support template, system, or context"
    turns = conversation.decode(context) if context else []
    if turns is None:
        request.losses = ["context"]
    request.messages = [Message(role, [Text(text)]) for role, text in turns or ()]
    if system:
        request.messages = [Message("system", [Text(system)]), *(m for m in request.messages if m.role != "system")]
    if prompt:
        blocks: list[Block] = [Text(prompt), *(media_of(text) for text in fields.get("images", ()))]
        request.messages.append(Message("user", blocks))
    request.intent = _intent(not prompt, request.keep_alive)
    if turns or any(_ours(text) for text in fields.get("images", ())):
        _no_relay(request.vendor)
    return request


def _common(kind: str, fields: Fields, body: bytes) -> ChatRequest:
    if not 0 <= fields.get("top_logprobs", 0) <= 20:
        raise refuse("top_logprobs must be between 0 and 20")
    sampling, bad_option = read_options(fields.get("options", {}))
    vendor: Vendor = {}
    if bad_option is not None:
        _late(vendor)["options"] = bad_option
    if "shift" in fields:
        vendor.setdefault(NAME, {})["shift"] = fields["shift"]
    return ChatRequest(
        model=_model(kind, fields),
        stream=fields.get("stream", True),
        sampling=sampling,
        format=_format(fields.get("format"), body, vendor),
        think=fields.get("think"),
        logprobs=fields.get("logprobs", False),
        top_logprobs=fields.get("top_logprobs") or None,
        keep_alive=fields.get("keep_alive"),
        truncate=fields.get("truncate", True),
        privacy=fields.get("privacy_mode"),
        task=fields.get("task") or None,
        provider=provider_of(fields),
        vendor=vendor,
    )


def _model(kind: str, fields: Fields) -> str:
    name: str = fields.get("model", "")
    if name.strip():
        return name
    if kind in (CHAT, EMBED_ONE):
        raise refuse("model is required", code=MODEL_REQUIRED)
    raise refuse(f"model '{name}' not found", status=404, code=MODEL_REQUIRED)


def _intent(empty: bool, keep_alive: float | None) -> Any:
    return "run" if not empty else "unload" if keep_alive == 0 else "load"


def _format(value: Any, body: bytes, vendor: Vendor) -> Format | None:
    """`"json"`, a schema, or a schema as text (clients.md 4.6); "" and null are unset, {} is any JSON."""
    if value is None or value == "":
        return None
    if value == "json":
        return Format()
    if isinstance(value, str):
        try:
            schema = loads(value)
        except BadJSON:
            schema = None
        if isinstance(schema, dict):
            _no_relay(vendor)
            return Format(schema or None)
    elif isinstance(value, dict):
        return Format(value or None)
    sent = _as_sent(body, "format", value)
    _late(vendor)["format"] = f'invalid format: {quote(sent)}; expected "json" or a valid JSON Schema object'
    return None


def _as_sent(body: bytes, name: str, value: Any) -> str:
    """The text of one member as it stands in the body."""
    try:
        return bytes(msgspec.json.decode(body, type=dict[str, msgspec.Raw])[name]).decode().strip()
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, RecursionError):
        return dumps(value).decode()


def _late(vendor: Vendor) -> dict[str, str]:
    late: dict[str, str] = vendor.setdefault(NAME, {}).setdefault("late", {})
    return late


def _no_relay(vendor: Vendor) -> None:
    """The body holds what a real Ollama would refuse or misread."""
    vendor.setdefault(NAME, {})["relay"] = False


def _ours(image: str) -> bool:
    return image.startswith(("data:", "http://", "https://"))


def _message(item: Fields) -> Message:
    role, content = item.get("role", "").lower(), item.get("content", "")
    media = [media_of(text) for text in item.get("images", ())]
    if role == "tool":
        parts: list[Text | Media] = [Text(content), *media]
        return Message(role, [ToolResult(parts, item.get("tool_call_id") or None, item.get("tool_name") or None)])
    blocks: list[Block] = []
    if item.get("thinking"):
        blocks.append(Thinking(item["thinking"]))
    if content:
        blocks.append(Text(content))
    blocks += media
    for call in item.get("tool_calls", ()):
        function = call.get("function", {})
        arguments = dumps(function.get("arguments", {})).decode()
        blocks.append(ToolCall(function.get("name", ""), arguments, call.get("id") or None))
    return Message(role, blocks)


def _tool(item: Fields | None) -> Tool:
    """Members that only Ollama or only some provider knows stay in the vendor bag."""
    item = item or {}  # Go reads a null in a list as a value without members
    function = item.get("function") or {}
    beside = {name: value for name, value in item.items() if name not in ("type", "function")}
    inside = {n: value for n, value in function.items() if n not in ("name", "description", "parameters")}
    own = {**({"type": item["type"]} if item.get("type", "function") != "function" else {}), **beside}
    vendor: Vendor = {NAME: {"tool": own, "function": inside}} if own or inside else {}
    return Tool(function.get("name") or "", function.get("description"), function.get("parameters"), vendor)


def _decode_embed(body: bytes) -> EmbedRequest:
    fields = decode_body(body, EMBED_REQUEST)
    model = _model(EMBED, fields)
    sent = fields.get("input")
    if isinstance(sent, str):
        return _embed_request(model, [sent] if sent else [], fields)
    if sent is not None and not (isinstance(sent, list) and all(isinstance(text, str) for text in sent)):
        raise refuse("invalid input type")
    return _embed_request(model, sent or [], fields)


def _decode_embedding(body: bytes) -> EmbedRequest:
    fields = decode_body(body, EMBEDDING_REQUEST)
    model = _model(EMBED_ONE, fields)
    prompt = fields.get("prompt", "")
    return _embed_request(model, [prompt] if prompt else [], fields)


def _embed_request(model: str, inputs: list[str], fields: Fields) -> EmbedRequest:
    vendor: Vendor = {}
    options = fields.get("options", {})
    if options:
        vendor[NAME] = {"options": options}
    bad_option = read_options(options)[1]
    if bad_option is not None:
        _late(vendor)["options"] = bad_option
    dimensions = fields.get("dimensions", 0)
    return EmbedRequest(
        model=model,
        inputs=inputs,
        dimensions=dimensions if dimensions > 0 else None,
        truncate=fields.get("truncate", True),
        keep_alive=fields.get("keep_alive"),
        intent="run" if inputs else "load",
        privacy=fields.get("privacy_mode"),
        task=fields.get("task") or None,
        provider=provider_of(fields),
        vendor=vendor,
    )


# -- once the model is known -------------------------------------------------------------------------------------------


def check(kind: str, request: ChatRequest | EmbedRequest, model: ModelView) -> None:
    """Raises GatewayError (400). Order: raw conflict, thinking, completion, tools and insert, options, format
    (ollama-protocol.md 2.3 and 2.4). A load answers before the job starts, so its format is not looked at."""
    late: dict[str, str] = request.vendor.get(NAME, {}).get("late", {})
    if "raw" in late:
        raise refuse(late["raw"])
    if isinstance(request, ChatRequest):
        can = model.capabilities
        if request.think and "thinking" not in can:
            raise _cannot(NO_THINKING, request.model)
        if "completion" not in can:
            raise _cannot(NO_CHAT, request.model, kind)
        if request.tools and "tools" not in can:
            if not model.drop_tools:
                raise _cannot(NO_TOOLS, model.name)
            request.tools = []
            request.losses = [*request.losses, "tools"]
        if request.suffix is not None and "insert" not in can:
            raise _cannot(NO_INSERT, model.name)
    if "options" in late:
        raise refuse(late["options"])
    if "format" in late and request.intent == "run":
        raise GatewayError(late["format"], status=400, scope=Scope.CALLER)


def _cannot(code: str, name: str, kind: str = CHAT) -> GatewayError:
    error = refuse(incapable(kind, code, name), code=code)
    error.model = name
    return error


# -- values -> bodies --------------------------------------------------------------------------------------------------


def encode(request: ChatRequest | EmbedRequest, model: str, profile: Profile) -> tuple[str, Fields, list[Loss]]:
    """Raises GatewayError (400) for what decoding found and no one has told the client yet."""
    late: dict[str, str] = request.vendor.get(NAME, {}).get("late", {})
    for words in late.values():
        raise refuse(words)
    if isinstance(request, EmbedRequest):
        return _encode_embed(request, model)
    losses: list[Loss] = []
    if request.raw or request.suffix is not None or request.template is not None:
        kind, body = GENERATE, _generate_body(request, model, losses)
    else:
        kind, body = CHAT, _chat_body(request, model, losses)
    body["stream"] = request.stream
    if request.format is not None:
        body["format"] = "json" if request.format.schema is None else request.format.schema
    options = write_options(request.sampling)
    if options:
        body["options"] = options
    if request.keep_alive is not None:
        body["keep_alive"] = request.keep_alive
    if request.think is not None:
        body["think"] = _THINK.get(request.think, request.think) if isinstance(request.think, str) else request.think
    if request.truncate is False:  # true is what Ollama does unasked
        body["truncate"] = False
    if "shift" in request.vendor.get(NAME, {}):
        body["shift"] = request.vendor[NAME]["shift"]
    if request.logprobs:
        body["logprobs"] = True
        if request.top_logprobs:
            body["top_logprobs"] = request.top_logprobs
    if request.n not in (None, 1):
        losses.append(Loss("n", "Ollama gives one answer"))
    return kind, body, losses


_THINK = {"minimal": "low", "xhigh": "max"}


def _chat_body(request: ChatRequest, model: str, losses: list[Loss]) -> Fields:
    messages = [item for message in request.messages for item in _native_messages(message, losses)]
    body: Fields = {"model": model, "messages": messages}
    choice = request.tool_choice
    if request.tools and choice != "none":
        body["tools"] = [_native_tool(tool) for tool in request.tools]
        if choice not in (None, "auto"):
            losses.append(Loss("tool_choice", "Ollama's models choose for themselves"))
        if request.parallel_tool_calls is False:
            losses.append(Loss("parallel_tool_calls", "Ollama cannot be told"))
    return body


def _generate_body(request: ChatRequest, model: str, losses: list[Loss]) -> Fields:
    """The last user text is the prompt; a conversation before it has no place in a completion."""
    system = next((m.text() for m in request.messages if m.role == "system"), None)
    last = request.messages[-1] if request.messages else Message("user", [])
    if sum(1 for m in request.messages if m.role != "system") > 1:
        losses.append(Loss("messages", "a completion has one prompt"))
    if request.tools:
        losses.append(Loss("tools", "a completion takes none"))
    body: Fields = {"model": model, "prompt": last.text()}
    for name, value in (("suffix", request.suffix), ("system", system), ("template", request.template)):
        if value is not None:
            body[name] = value
    if request.raw:
        body["raw"] = True
    images = _images(last.blocks, losses)
    if images:
        body["images"] = images
    return body


def _native_messages(message: Message, losses: list[Loss]) -> list[Fields]:
    """One message, or one for each tool result in it."""
    results = [block for block in message.blocks if isinstance(block, ToolResult)]
    rest = [block for block in message.blocks if not isinstance(block, ToolResult)]
    native = [_native_result(result, losses) for result in results]
    if not rest and results:
        return native
    if any(isinstance(block, Opaque) for block in rest):
        losses.append(Loss("content", "a block that only another dialect can read"))
    item: Fields = {"role": message.role, "content": message.text()}
    thinking = "".join(block.text for block in rest if isinstance(block, Thinking))
    if thinking:
        item["thinking"] = thinking
    images = _images(rest, losses)
    if images:
        item["images"] = images
    calls = [block for block in rest if isinstance(block, ToolCall)]
    if calls:
        item["tool_calls"] = [_native_call(index, call) for index, call in enumerate(calls)]
    return [*native, item]


def _native_result(result: ToolResult, losses: list[Loss]) -> Fields:
    item: Fields = {"role": "tool", "content": "".join(part.text for part in result.content if isinstance(part, Text))}
    images = _images(result.content, losses)
    if images:
        item["images"] = images
    if result.name:
        item["tool_name"] = result.name
    if result.call_id:
        item["tool_call_id"] = result.call_id
    return item


def _native_call(index: int, call: ToolCall) -> Fields:
    function = {"index": index, "name": call.name, "arguments": as_object(call.arguments)}
    return {"id": call.id, "function": function} if call.id else {"function": function}


def _native_tool(tool: Tool) -> Fields:
    own = tool.vendor.get(NAME, {})
    function: Fields = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    return {"type": "function", **own.get("tool", {}), "function": {**function, **own.get("function", {})}}


def _images(blocks: Sequence[Block], losses: list[Loss]) -> list[str]:
    found = [block for block in blocks if isinstance(block, Media)]
    if any(media.data is None for media in found):
        losses.append(Loss("image_url", "Ollama does not fetch pictures"))
    return [media.data for media in found if media.data is not None]


def _encode_embed(request: EmbedRequest, model: str) -> tuple[str, Fields, list[Loss]]:
    body: Fields = {"model": model, "input": request.inputs}
    if request.truncate is False:  # true is what Ollama does unasked
        body["truncate"] = False
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    if request.keep_alive is not None:
        body["keep_alive"] = request.keep_alive
    options = request.vendor.get(NAME, {}).get("options")
    if options:
        body["options"] = options
    return EMBED, body, []
