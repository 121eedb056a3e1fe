"""The gateway's doors as a client sees them: requests written and answers read by hand.

Knows: the wires from their specifications (ollama-protocol.md 2 and 4, clients.md 4). Must not know: the gateway's own
dialects. Reading is strict: what would break a known client fails here, in whichever test it happens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
from fakes.script import Call


@dataclass(frozen=True)
class Turn:
    """One message. `images`: base64; `image_urls`: addresses. A result (`role` "tool") answers the call at position
    `answers`, counted over the whole conversation, and says so by "id", "name" or "neither" (`told`)."""

    role: str
    text: str = ""
    images: tuple[str, ...] = ()
    image_urls: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    thinking: str = ""
    answers: int | None = None
    told: str = "id"


@dataclass(frozen=True)
class Ask:
    """A request in nobody's wire. `tools` are function definitions; `format` is "json" or a schema; `top` is the number
    of alternatives to each logprob."""

    turns: tuple[Turn, ...]
    tools: tuple[dict[str, Any], ...] = ()
    think: bool | str | None = None
    format: str | dict[str, Any] | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    logprobs: bool = False
    top: int = 0

    @property
    def calls(self) -> list[Call]:
        return [call for turn in self.turns for call in turn.calls]


@dataclass
class Heard:
    """An answer as the client understood it. `calls` are (name, arguments). `error`: the text of an error, in the body
    or in the stream. `cut`: the connection ended without the end of the HTTP body. `finished`: the wire's last word was
    said. `pieces`: frames that carried content."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes = b""
    text: str = ""
    thinking: str = ""
    refusal: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    reason: str | None = None
    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    logprobs: list[tuple[str, float, int]] = field(default_factory=list)
    context: list[int] | None = None
    error: str | None = None
    cut: bool = False
    finished: bool = False
    pieces: int = 0


class Door(Protocol):
    name: str
    path: str

    def body(self, ask: Ask, model: str, stream: bool) -> dict[str, Any]: ...

    def read(self, heard: Heard, model: str | None, stream: bool) -> Heard:
        """Fills in `heard` from its status and raw bytes. `model`: the name that must be echoed, None for any. Raises
        AssertionError when the wire's laws are broken."""
        ...


async def ask_door(
    session: aiohttp.ClientSession, base: str, door: Door, body: Mapping[str, Any], echoed: str | None = None
) -> Heard:
    """One request through a door, read to its end."""
    stream = body.get("stream", door.path.startswith("/api/")) is not False
    async with session.post(base + door.path, json=body) as response:
        heard = Heard(response.status, {k.lower(): v for k, v in response.headers.items()})
        heard.raw, heard.cut = await drain(response)
    if echoed is None:
        # Where another target had to take over, the answer names it (product.md 5, row 16).
        target = heard.headers.get("x-bridge-target", "")
        took_over = target and json.dumps(target).encode() in heard.raw
        echoed = target if took_over else body.get("model")
    return door.read(heard, echoed, stream)


async def drain(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """All that comes, and whether the connection broke off before the end of the body."""
    received = bytearray()
    try:
        async for data in response.content.iter_any():
            received += data
    except (aiohttp.ClientPayloadError, ConnectionResetError):
        return bytes(received), True
    return bytes(received), False


def no_nulls(value: Any) -> None:
    """A null in a native answer breaks clients (clients.md 4.2)."""
    if isinstance(value, dict):
        for key, item in value.items():
            assert item is not None, f"null under {key!r}"
            no_nulls(item)
    elif isinstance(value, list):
        for item in value:
            no_nulls(item)


def read_logprobs(items: Any) -> list[tuple[str, float, int]]:
    """-> (token, logprob, number of alternatives) of each."""
    for item in items or []:
        assert bytes(item["bytes"]).decode() == item["token"]
    return [(item["token"], item["logprob"], len(item.get("top_logprobs") or ())) for item in items or []]


# -- Ollama's doors --------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Ollama:
    """/api/chat or /api/generate."""

    name: str
    path: str
    relayed: bool = False  # the answer is a real Ollama's own: its words are not judged

    def body(self, ask: Ask, model: str, stream: bool) -> dict[str, Any]:
        body: dict[str, Any] = {"model": model}
        if not stream:
            body["stream"] = False  # a stream is what comes when nothing is said
        if self.name == "generate":
            body |= generate_words(ask)
        else:
            body["messages"] = [chat_message(ask, turn) for turn in ask.turns]
            if ask.tools:
                body["tools"] = list(ask.tools)
        options: dict[str, Any] = {}
        if ask.stop:
            options["stop"] = list(ask.stop)
        if ask.max_tokens is not None:
            options["num_predict"] = ask.max_tokens
        if options:
            body["options"] = options
        if ask.think is not None:
            body["think"] = ask.think
        if ask.format is not None:
            body["format"] = ask.format
        if ask.logprobs:
            body |= {"logprobs": True, "top_logprobs": ask.top}
        return body

    def read(self, heard: Heard, model: str | None, stream: bool) -> Heard:
        kind = heard.headers.get("content-type", "")
        if heard.status >= 400 or not stream or not kind.startswith("application/x-ndjson"):
            assert kind.startswith("application/json"), kind
            value = json.loads(heard.raw)
            if heard.status >= 400:
                assert list(value) == ["error"] and isinstance(value["error"], str), value
                heard.error = value["error"]
            else:
                self._take(heard, value, model, whole=True)
            return heard
        assert kind == "application/x-ndjson", kind
        lines = heard.raw.split(b"\n")
        assert lines.pop().strip(b" ") == b"", "the last line has no line end"
        for line in lines:
            assert line.strip(), "a blank line breaks line readers (clients.md 4.1)"
            assert not heard.finished and heard.error is None, "something follows the last line"
            value = json.loads(line.lstrip(b" "))
            if "error" in value:
                assert list(value) == ["error"] and isinstance(value["error"], str), value
                heard.error = value["error"]
            else:
                self._take(heard, value, model, whole=False)
        return heard

    def _take(self, heard: Heard, value: dict[str, Any], model: str | None, whole: bool) -> None:
        no_nulls(value)
        assert list(value)[:2] == ["model", "created_at"], list(value)
        assert model is None or value["model"] == model
        said = value if self.name == "generate" else value["message"]
        text = said["response" if self.name == "generate" else "content"]
        if self.name != "generate":
            assert said["role"] == "assistant"
        thinking = said.get("thinking", "")
        calls = said.get("tool_calls", [])
        if not self.relayed:
            assert thinking or "thinking" not in said, "thinking is left out when empty (clients.md 4.2)"
            assert whole or not (text and (thinking or calls)), "two kinds of content in one line (clients.md 4.2)"
            assert "done_reason" not in value or value["done"], "done_reason before the end (clients.md 4.2)"
        heard.text += text
        heard.thinking += thinking
        for call in calls:
            assert isinstance(call["function"]["arguments"], dict)
            if not self.relayed:
                assert call["id"] and call["function"]["index"] == len(heard.calls)
            heard.calls.append((call["function"]["name"], call["function"]["arguments"]))
        heard.pieces += bool(text or thinking or calls)
        heard.logprobs += read_logprobs(value.get("logprobs"))
        if value["done"]:
            heard.finished = True
            heard.reason = value.get("done_reason")
            heard.prompt, heard.completion = value.get("prompt_eval_count"), value.get("eval_count")
            heard.context = value.get("context")
            if heard.reason in ("stop", "length") and not self.relayed:
                for name in ("total_duration", "prompt_eval_duration", "eval_duration"):
                    assert isinstance(value[name], int) and value[name] > 0, name


def generate_words(ask: Ask) -> dict[str, Any]:
    """The last turn as a prompt; earlier ones but the system's come back as a context (see test_matrix)."""
    last = ask.turns[-1]
    words: dict[str, Any] = {"prompt": last.text}
    if ask.turns[0].role == "system":
        words["system"] = ask.turns[0].text
    if last.images or last.image_urls:
        words["images"] = [*last.images, *last.image_urls]
    return words


def chat_message(ask: Ask, turn: Turn) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": turn.text}
    if turn.thinking:
        message["thinking"] = turn.thinking
    if turn.images or turn.image_urls:
        message["images"] = [*turn.images, *turn.image_urls]
    if turn.calls:
        message["tool_calls"] = [
            {**({"id": call.id} if call.id else {}), "function": {"name": call.name, "arguments": call.arguments}}
            for call in turn.calls
        ]
    if turn.answers is not None:
        call = ask.calls[turn.answers]
        if turn.told == "id":
            message["tool_call_id"] = call.id
        elif turn.told == "name":
            message["tool_name"] = call.name
    return message


# -- OpenAI's door ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class OpenAI:
    """/v1/chat/completions."""

    name: str = "v1"
    path: str = "/v1/chat/completions"
    relayed: bool = False  # the answer is a provider's own

    def body(self, ask: Ask, model: str, stream: bool) -> dict[str, Any]:
        body: dict[str, Any] = {"model": model, "messages": [openai_message(ask, turn) for turn in ask.turns]}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if ask.tools:
            body["tools"] = list(ask.tools)
        if ask.stop:
            body["stop"] = list(ask.stop)
        if ask.max_tokens is not None:
            body["max_tokens"] = ask.max_tokens
        if ask.think is not None:
            body["reasoning_effort"] = {True: "medium", False: "none"}.get(ask.think, ask.think)
        if ask.format == "json":
            body["response_format"] = {"type": "json_object"}
        elif ask.format is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ask.format}}
        if ask.logprobs:
            body |= {"logprobs": True, "top_logprobs": ask.top}
        return body

    def read(self, heard: Heard, model: str | None, stream: bool) -> Heard:
        kind = heard.headers.get("content-type", "")
        if heard.status >= 400 or not stream:
            assert kind.startswith("application/json"), kind
            value = json.loads(heard.raw)
            if heard.status >= 400:
                heard.error = openai_error(value)
            else:
                assert value["object"] == "chat.completion"
                self._take(heard, value, model, "message")
                heard.finished = heard.reason is not None
            return heard
        assert kind.startswith("text/event-stream"), kind
        calls: dict[int, list[str]] = {}
        for block in heard.raw.split(b"\n\n"):
            for line in block.splitlines():
                if not line or line.startswith((b":", b"event:")):
                    continue
                if self.relayed and not line.startswith(b"data:"):
                    continue  # a field that nobody knows is no field
                assert line.startswith(b"data: "), line
                assert not heard.finished and heard.error is None, "something follows the last frame"
                if line == b"data: [DONE]":
                    heard.finished = True
                    continue
                value = json.loads(line[6:])
                if value.get("error"):
                    heard.error = value["error"]["message"] if self.relayed else openai_error(value)
                    continue
                assert value["object"] == "chat.completion.chunk"
                self._take(heard, value, model, "delta", calls)
        heard.calls += [(name, json.loads("".join(parts) or "{}")) for name, *parts in calls.values()]
        return heard

    def _take(
        self,
        heard: Heard,
        value: dict[str, Any],
        model: str | None,
        where: str,
        calls: dict[int, list[str]] | None = None,
    ) -> None:
        assert model is None or value["model"] == model, value["model"]
        for choice in value["choices"]:
            said = choice.get(where) or {}
            text, thinking = openai_content(said.get("content") or "")
            refusal = said.get("refusal") or ""
            thinking += said.get("reasoning") or said.get("reasoning_content") or ""
            heard.text += text
            heard.refusal += refusal
            heard.thinking += thinking
            heard.pieces += bool(text or refusal or thinking or said.get("tool_calls"))
            for call in said.get("tool_calls") or []:
                if calls is None:
                    heard.calls.append((call["function"]["name"], json.loads(call["function"]["arguments"] or "{}")))
                    assert call["id"]
                else:
                    parts = calls.setdefault(call.get("index", 0), [])
                    if not parts:
                        assert call["id"] and call["function"]["name"]
                        parts.append(call["function"]["name"])
                    parts.append(call["function"].get("arguments") or "")
            heard.logprobs += read_logprobs((choice.get("logprobs") or {}).get("content"))
            heard.reason = choice.get("finish_reason") or heard.reason
        usage = value.get("usage")
        if usage:
            heard.prompt, heard.completion = usage["prompt_tokens"], usage["completion_tokens"]
            heard.cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")


def openai_content(content: str | list[dict[str, Any]]) -> tuple[str, str]:
    """-> (text, thinking). Mistral sends a list of both (providers.md 8)."""
    if isinstance(content, str):
        return content, ""
    text = "".join(part["text"] for part in content if part["type"] == "text")
    thoughts = [piece["text"] for part in content if part["type"] == "thinking" for piece in part["thinking"]]
    return text, "".join(thoughts)


def openai_error(value: Any) -> str:
    error = value["error"]
    assert isinstance(error, dict) and isinstance(error["message"], str), value
    assert {"type", "param", "code"} <= error.keys(), value
    return str(error["message"])


def openai_message(ask: Ask, turn: Turn) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": turn.text}
    if turn.images or turn.image_urls:
        urls = [*(f"data:image/png;base64,{data}" for data in turn.images), *turn.image_urls]
        message["content"] = [
            {"type": "text", "text": turn.text},
            *({"type": "image_url", "image_url": {"url": url}} for url in urls),
        ]
    if turn.thinking:
        message["reasoning_content"] = turn.thinking
    if turn.calls:
        message["tool_calls"] = [
            {
                **({"id": call.id} if call.id else {}),
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call in turn.calls
        ]
    if turn.answers is not None:
        call = ask.calls[turn.answers]
        if turn.told == "id":
            message["tool_call_id"] = call.id
        elif turn.told == "name":
            message["name"] = call.name
    return message


CHAT = Ollama("chat", "/api/chat")
GENERATE = Ollama("generate", "/api/generate")
V1 = OpenAI()
