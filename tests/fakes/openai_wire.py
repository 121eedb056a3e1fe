"""A fake service that speaks OpenAI's wire: chat/completions, completions, embeddings, models.

Knows: what the real service sends and what it refuses (providers.md 10; the texts of its refusals are its own). Must
not know: the gateway. Any path prefix will do, so one fake can stand for several vendors.

    data: {"id":"chatcmpl-1","object":"chat.completion.chunk",…,"choices":[{"index":0,"delta":{"content":"Hi"},…}]}

    data: [DONE]
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from fakes.script import Frame, Refusal, Script, Seen, Upstream, dumps, vector

KEY = "sk-fake-marker-key"  # tests look for it where it must not be

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
CREATED = 1_790_000_000

# Every name Chat Completions knows (providers.md 2.2); another one is refused, as the real service does.
CHAT_PARAMETERS = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "n",
    }
    | {"stop", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "seed", "tools"}
    | {"response_format", "tool_choice", "parallel_tool_calls", "reasoning_effort", "user", "metadata", "store"}
    | {"service_tier", "modalities", "audio", "prediction", "verbosity", "web_search_options", "functions"}
    | {"function_call", "safety_identifier", "prompt_cache_key"}
)


class FakeOpenAI(Upstream):
    """`models`: what its list names. `keys`: those it knows. A model without a script is answered 404."""

    def __init__(self, models: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.models = models
        self.keys = frozenset({KEY})
        self.listing: Any = None  # a recorded answer to be given instead

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/{prefix:.*}chat/completions", self.chat)
        app.router.add_post("/{prefix:.*}embeddings", self.embeddings)
        app.router.add_post("/{prefix:.*}completions", self.completions)
        app.router.add_get("/{prefix:.*}models", self.list_models)
        app.router.add_get("/{prefix:.*}models/{model:.+}", self.one_model)

    def error_body(self, refusal: Refusal) -> Any:
        return {
            "error": {
                "message": refusal.message,
                "type": refusal.type,
                "param": refusal.param,
                "code": refusal.code,
            }
        }

    def error_frame(self, error: Any) -> bytes:
        return b"data: " + dumps(error) + b"\n\n"

    def malformed_frame(self) -> bytes:
        return b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"ha\n\n'

    # -- handlers ----------------------------------------------------------------------------------------------------
    async def chat(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        try:
            body = self._judged(seen)
            check_chat(body)
            script = self._script(body)
        except Refusal as refusal:
            return self.refused(refusal)
        frames = list(chat_frames(script, body)) if body.get("stream") else None
        return await self.perform(request, seen, script, frames, dumps(chat_whole(script, body)), content_type(body))

    async def completions(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        try:
            body = self._judged(seen)
            if not isinstance(body.get("prompt"), str):
                raise Refusal("Missing required parameter: 'prompt'.", param="prompt")
            script = self._script(body)
        except Refusal as refusal:
            return self.refused(refusal)
        frames = list(text_frames(script, body)) if body.get("stream") else None
        return await self.perform(request, seen, script, frames, dumps(text_whole(script, body)), content_type(body))

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        try:
            body = self._judged(seen)
            given = body.get("input")
            texts = [given] if isinstance(given, str) else given
            if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
                raise Refusal("Invalid value for 'input'.", param="input")
            script = self._script(body)
        except Refusal as refusal:
            return self.refused(refusal)
        count = sum(len(text.split()) for text in texts)
        answer = {
            "object": "list",
            "data": [
                {"object": "embedding", "index": i, "embedding": packed(text, body)} for i, text in enumerate(texts)
            ],
            "model": body["model"],
            "usage": {"prompt_tokens": count, "total_tokens": count},
        }
        return await self.perform(request, seen, script, None, dumps(answer), "application/json")

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        await self.note(request)
        return web.json_response(self.listing or {"object": "list", "data": [model_item(name) for name in self.models]})

    async def one_model(self, request: web.Request) -> web.StreamResponse:
        await self.note(request)
        return web.json_response(model_item(request.match_info["model"]))

    def _judged(self, seen: Seen) -> dict[str, Any]:
        """The body, once key and outer form are right."""
        if seen.headers.get("authorization", "").removeprefix("Bearer ") not in self.keys:
            raise Refusal("Incorrect API key provided.", status=401, code="invalid_api_key")
        try:
            body = seen.json
        except ValueError:
            raise Refusal("We could not parse the JSON body of your request.") from None
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            raise Refusal("you must provide a model parameter")
        return body

    def _script(self, body: dict[str, Any]) -> Script:
        script = self.script_for(body["model"])
        if script is None:
            raise Refusal(
                f"The model `{body['model']}` does not exist or you do not have access to it.",
                status=404,
                code="model_not_found",
            )
        for name in sorted(script.rejects & body.keys()):
            raise Refusal(
                f"Unsupported parameter: '{name}' is not supported with this model.",
                code="unsupported_parameter",
                param=name,
            )
        return script


def content_type(body: dict[str, Any]) -> str:
    return "text/event-stream; charset=utf-8" if body.get("stream") else "application/json"


def model_item(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "fake"}


def packed(text: str, body: dict[str, Any]) -> list[float] | str:
    numbers = vector(text, body.get("dimensions") or 4)
    if body.get("encoding_format") == "base64":
        return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
    return numbers


# -- what the real service refuses -----------------------------------------------------------------------------------
def check_chat(body: dict[str, Any]) -> None:
    """Raises Refusal as Chat Completions would."""
    for name in body:
        if name not in CHAT_PARAMETERS:
            raise Refusal(f"Unrecognized request argument supplied: {name}")
    check_numbers(body)
    stop = body.get("stop")
    if isinstance(stop, list) and len(stop) > 4:
        raise Refusal(f"Invalid 'stop': array too long. Expected at most 4, but got {len(stop)}.", param="stop")
    if body.get("stream_options") is not None and not body.get("stream"):
        raise Refusal(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        raise Refusal("'top_logprobs' is only allowed when 'logprobs' is enabled.", param="top_logprobs")
    effort = body.get("reasoning_effort")
    if effort not in (None, "none", "minimal", "low", "medium", "high", "xhigh"):
        raise Refusal(
            f"Invalid value: '{effort}'. Supported values are: 'none', 'minimal', 'low', 'medium', 'high', 'xhigh'.",
            code="invalid_value",
            param="reasoning_effort",
        )
    check_tools(body)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal("[] is too short - 'messages'", param="messages")
    check_messages(messages)
    check_format(body)


def check_numbers(body: dict[str, Any]) -> None:
    for name, low, high in (
        ("temperature", 0, 2),
        ("top_p", 0, 1),
        ("n", 1, 128),
        ("max_tokens", 1, None),
        ("max_completion_tokens", 1, None),
        ("presence_penalty", -2, 2),
        ("frequency_penalty", -2, 2),
        ("top_logprobs", 0, 20),
    ):
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refusal(f"Invalid type for '{name}'.", param=name)
        if value < low or (high is not None and value > high):
            raise Refusal(f"Invalid '{name}': value out of range.", param=name)


def check_tools(body: dict[str, Any]) -> None:
    tools = body.get("tools")
    if tools is None:
        for name in ("tool_choice", "parallel_tool_calls"):
            if body.get(name) is not None:
                raise Refusal(f"'{name}' is only allowed when 'tools' are specified.", param=name)
        return
    if not isinstance(tools, list) or not tools:
        raise Refusal("Invalid 'tools': empty array.", param="tools")
    for at, tool in enumerate(tools):
        function = tool.get("function") or {}
        if tool.get("type") != "function" or not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", function.get("name") or ""):
            raise Refusal(f"Invalid 'tools[{at}].function.name'.", param=f"tools[{at}].function.name")
        if not isinstance(function.get("parameters", {}), dict):
            raise Refusal(f"Invalid type for 'tools[{at}].function.parameters'.", param="tools")


def check_messages(messages: list[Any]) -> None:
    """Roles, contents, and the rule that calls and results follow each other."""
    waiting: set[str] = set()
    for at, message in enumerate(messages):
        role = message.get("role")
        if role not in ROLES:
            raise Refusal(
                f"Invalid value: '{role}'. Supported values are: {', '.join(repr(r) for r in ROLES)}.",
                param=f"messages[{at}].role",
                code="invalid_value",
            )
        if role == "tool":
            answers = message.get("tool_call_id")
            if answers is None:
                raise Refusal(
                    f"Missing required parameter: 'messages[{at}].tool_call_id'.", param=f"messages[{at}].tool_call_id"
                )
            if answers not in waiting:
                raise Refusal(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                    "'tool_calls'.",
                    param=f"messages[{at}].role",
                )
            waiting.discard(answers)
        elif waiting:
            raise unanswered(waiting, at)
        check_content(message, at)
        for call in message.get("tool_calls") or []:
            if not isinstance(call.get("id"), str) or not isinstance(call["function"].get("arguments"), str):
                raise Refusal(f"Invalid type for 'messages[{at}].tool_calls'.", param=f"messages[{at}].tool_calls")
            waiting.add(call["id"])
    if waiting:
        raise unanswered(waiting, len(messages))


def unanswered(waiting: set[str], at: int) -> Refusal:
    return Refusal(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
        f"The following tool_call_ids did not have response messages: {', '.join(sorted(waiting))}",
        param=f"messages.[{at}].role",
    )


def check_content(message: dict[str, Any], at: int) -> None:
    content = message.get("content")
    where = f"messages[{at}].content"
    if content is None:
        if message["role"] != "assistant" or not message.get("tool_calls"):
            raise Refusal(f"Invalid value for 'content': expected a string, got null. ({where})", param=where)
    elif isinstance(content, list):
        for part in content:
            kind = part.get("type")
            if kind not in ("text", "image_url", "input_audio", "refusal", "file"):
                raise Refusal(f"Invalid value: '{kind}'.", param=where)
            if kind == "image_url" and message["role"] != "user":
                raise Refusal("Image URLs are only allowed for messages with role 'user'.", param=where)
            if kind == "image_url" and not re.match(r"https?://|data:image/[a-z]+;base64,", part["image_url"]["url"]):
                raise Refusal("Failed to download image: the URL is neither http(s) nor a data URL.", param=where)
    elif not isinstance(content, str):
        raise Refusal(f"Invalid type for '{where}'.", param=where)


def check_format(body: dict[str, Any]) -> None:
    wanted = body.get("response_format")
    if wanted is None:
        return
    kind = wanted.get("type")
    if kind == "json_schema":
        inner = wanted.get("json_schema") or {}
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", inner.get("name") or "") or not isinstance(
            inner.get("schema"), dict
        ):
            raise Refusal("Missing required parameter: 'response_format.json_schema'.", param="response_format")
    elif kind == "json_object":
        if "json" not in dumps(body["messages"]).decode().lower():
            raise Refusal(
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
                param="messages",
            )
    elif kind != "text":
        raise Refusal(f"Invalid value: '{kind}'.", param="response_format.type")


# -- what the real service sends -------------------------------------------------------------------------------------
def usage_of(script: Script) -> dict[str, Any] | None:
    tokens = script.usage
    if tokens is None:
        return None
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
        "prompt_tokens_details": {"cached_tokens": tokens.cached or 0},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning or 0},
    }


def finish_reason(script: Script) -> str:
    return "tool_calls" if script.calls and script.reason == "stop" else script.reason


def call_id(script: Script, index: int) -> str:
    return script.calls[index].id or f"call_fake{index}"


def chat_frames(script: Script, body: dict[str, Any]) -> Iterator[Frame]:
    wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))

    def chunk(
        delta: dict[str, Any] | None, finish: str | None = None, logprobs: Any = None, usage: Any = None
    ) -> bytes:
        value: dict[str, Any] = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": body["model"],
            "system_fingerprint": "fp_fake",
            "choices": [],
        }
        if delta is not None:
            value["choices"] = [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}]
        if wants_usage:
            value["usage"] = usage
        return b"data: " + dumps(value) + b"\n\n"

    yield Frame(chunk({"role": "assistant", "content": "", "refusal": None}))
    for piece in script.thinking:
        yield Frame(chunk({script.thinking_field: piece}), content=True)
    for at, piece in enumerate(script.text):
        logprobs = {"content": [script.logprobs[at]], "refusal": None} if script.logprobs else None
        yield Frame(chunk({"content": piece}, logprobs=logprobs), content=True)
    for piece in script.refusal:
        yield Frame(chunk({"refusal": piece}), content=True)
    for index, call in enumerate(script.calls):
        function = {"name": call.name, "arguments": ""}
        start = {"index": index, "id": call_id(script, index), "type": "function", "function": function}
        yield Frame(chunk({"tool_calls": [start]}), content=True)
        for piece in call.pieces:
            yield Frame(chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}), content=True)
    yield Frame(chunk({}, finish=finish_reason(script)))
    if wants_usage and script.usage is not None:
        yield Frame(chunk(None, usage=usage_of(script)))
    if script.done:
        yield Frame(b"data: [DONE]\n\n")


def chat_whole(script: Script, body: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(script.text), "refusal": None}
    if script.refusal:
        message["refusal"] = "".join(script.refusal)
    if script.thinking:
        message[script.thinking_field] = "".join(script.thinking)
    if script.calls:
        message["content"] = message["content"] or None
        message["tool_calls"] = [
            {
                "id": call_id(script, index),
                "type": "function",
                "function": {"name": call.name, "arguments": "".join(call.pieces)},
            }
            for index, call in enumerate(script.calls)
        ]
    logprobs = {"content": list(script.logprobs), "refusal": None} if script.logprobs else None
    answer: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": CREATED,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish_reason(script)}],
    }
    if script.usage is not None:
        answer["usage"] = usage_of(script)
    return answer


def text_frames(script: Script, body: dict[str, Any]) -> Iterator[Frame]:
    wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    head = {"id": "cmpl-1", "object": "text_completion", "created": CREATED, "model": body["model"]}
    for piece in script.text:
        choice = {"text": piece, "index": 0, "logprobs": None, "finish_reason": None}
        yield Frame(b"data: " + dumps({**head, "choices": [choice]}) + b"\n\n", content=True)
    last = {"text": "", "index": 0, "logprobs": None, "finish_reason": script.reason}
    yield Frame(b"data: " + dumps({**head, "choices": [last]}) + b"\n\n")
    if wants_usage and script.usage is not None:
        yield Frame(b"data: " + dumps({**head, "choices": [], "usage": usage_of(script)}) + b"\n\n")
    if script.done:
        yield Frame(b"data: [DONE]\n\n")


def text_whole(script: Script, body: dict[str, Any]) -> dict[str, Any]:
    choice = {"text": "".join(script.text), "index": 0, "logprobs": None, "finish_reason": script.reason}
    head = {"id": "cmpl-1", "object": "text_completion", "created": CREATED, "model": body["model"]}
    return {**head, "choices": [choice], "usage": usage_of(script)}
