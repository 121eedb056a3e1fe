"""The built-in echo: a model without a network or a key that gives back what it is told.

Knows: what the echo says to a chat, a completion, an embedding, so that each path of a client can be tried. Must not
know: how that goes onto the wire (echo_wire), how a schema is satisfied (echo_schema), who asks.

It repeats the last user message; it calls the first tool it is offered and then repeats the result; it names the
pictures it was shown, thinks aloud when asked to think, and keeps to a JSON schema.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..dialects.base import CHAT, EMBED, Profile
from ..errors import UpstreamRefused, broken
from ..framing import BadJSON, dumps, loads
from .base import Call, ListedModel
from .echo_schema import value_for
from .echo_wire import (
    CONTEXT,
    Chat,
    Completion,
    Said,
    alternatives,
    copies,
    count,
    embeddings,
    limits,
    model_of,
    speak,
    tokens,
    wants_usage,
)
from .presets import PRESETS

CAPABILITIES = frozenset({"completion", "tools", "thinking", "vision"})
DIMENSIONS = 64  # of an embedding, unless asked for more or fewer
_MOST_DIMENSIONS = 4096


class EchoProvider:
    """Speaks OpenAI's wire as a provider would, within the process."""

    kind = "echo"
    dialect = "openai"

    def __init__(self, name: str = "echo", *, profile: Profile = PRESETS["echo"].profile) -> None:
        self.name = name
        self.base_url = ""
        self.profile = profile
        self.local = True
        self.off: str | None = None

    async def ready(self) -> None:
        """Needs no SDK."""

    async def open(self, call: Call) -> EchoUpstream:
        """Raises UpstreamRefused (400) for a body that no OpenAI server would take."""
        body = _read(call.body)
        if call.kind == EMBED:
            return EchoUpstream(self.name, iter([_embed(body)]), stream=False)
        answer = _chat(body) if call.kind == CHAT else _complete(body)
        frames = answer.frames() if call.stream else iter([answer.whole()])
        return EchoUpstream(self.name, frames, stream=call.stream)

    async def models(self) -> list[ListedModel]:
        raw = {"id": "echo", "object": "model", "created": 0, "owned_by": "ollama_bridge"}
        return [
            ListedModel("echo", context_length=CONTEXT, capabilities=CAPABILITIES, embedding_length=DIMENSIONS, raw=raw)
        ]

    async def close(self) -> None:
        """Holds nothing."""


class EchoUpstream:
    """`providers.base.Upstream`: each read is one frame, and other tasks get their turn between two."""

    __slots__ = ("_frames", "_name", "headers", "status")

    def __init__(self, name: str, frames: Iterator[bytes], *, stream: bool) -> None:
        self.status = 200
        self.headers: Mapping[str, str] = {"content-type": "text/event-stream" if stream else "application/json"}
        self._name = name
        self._frames = frames

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        return next(self._frames, b"")

    async def body(self, limit: int) -> bytes:
        body = b"".join(self._frames)
        if len(body) > limit:
            raise broken(self._name, f"sent an answer longer than {limit} bytes")
        return body

    def close(self) -> None:
        self._frames = iter(())


def _refused(message: str, param: str | None = None) -> UpstreamRefused:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return UpstreamRefused(400, {"content-type": "application/json"}, dumps({"error": error}))


def _read(body: dict[str, Any] | bytes) -> dict[str, Any]:
    try:
        value = loads(body) if isinstance(body, bytes) else body
    except BadJSON:
        raise _refused("the body is not JSON") from None
    if not isinstance(value, dict):
        raise _refused("the body is not a JSON object")
    return value


# -- chat --------------------------------------------------------------------------------------------------------------


def _chat(body: Mapping[str, Any]) -> Chat:
    messages = _messages(body)
    said = reply_to(body, messages)
    stops, limit = limits(body)
    choices = [speak(said, stops, limit)] * copies(body)
    top = body.get("top_logprobs")
    return Chat(
        model_of(body), choices, sum(count(_text(message)) for message in messages),
        top=alternatives(top) or 0 if body.get("logprobs") is True else None,
        include_usage=wants_usage(body),
    )  # fmt: skip


def reply_to(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> Said:
    """What the echo says to a conversation. Raises UpstreamRefused when a tool is demanded that was not given."""
    last = messages[-1]
    if last.get("role") == "tool":
        who, text = "tool", "\n".join(_text(message) for message in _trailing_results(messages))
    else:
        asked: Mapping[str, Any] = next((one for one in reversed(messages) if one.get("role") == "user"), {})
        who, text = "user", " ".join(filter(None, (_text(asked), _shown(asked))))
    effort = body.get("reasoning_effort")
    thinks = isinstance(effort, str) and effort != "none"
    said = Said(thinking=f"The {who} said: {text}" if thinks else "")
    tool = _chosen_tool(body) if last.get("role") == "user" else None
    if tool is not None:
        said.call = (str(tool.get("name", "")), _compact(value_for(tool.get("parameters") or {"type": "object"}, text)))
    else:
        said.text = _formatted(body.get("response_format"), text)
    return said


def _messages(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise _refused("'messages' must be a list of messages", "messages")
    return messages


def _trailing_results(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The results at the end: several when calls were made side by side."""
    start = len(messages)
    while start and messages[start - 1].get("role") == "tool":
        start -= 1
    return list(messages[start:])


def _parts(message: Mapping[str, Any], kind: str) -> list[Any]:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return [part.get(kind) for part in parts if isinstance(part, dict) and part.get("type") == kind]


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(text for text in _parts(message, "text") if isinstance(text, str))


def _shown(message: Mapping[str, Any]) -> str:
    """`[2 images: png, 68 bytes; jpeg, 1200 bytes]`, or nothing."""
    images = [_image(value) for value in _parts(message, "image_url")]
    return f"[{len(images)} image{'s' * (len(images) > 1)}: {'; '.join(images)}]" if images else ""


def _image(value: Any) -> str:
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str) or not url.startswith("data:"):
        return "by address"
    head, _, payload = url.partition(",")
    mime = head[len("data:") :].partition(";")[0]
    size = len(payload) * 3 // 4 - payload[-2:].count("=")
    return f"{mime.rpartition('/')[2] or 'unknown'}, {size} bytes"


def _chosen_tool(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The function to call: the one that is demanded, else the first."""
    tools = body.get("tools")
    given = tools if isinstance(tools, list) else []
    functions: list[dict[str, Any]] = [
        tool["function"] for tool in given if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    ]
    choice = body.get("tool_choice")
    if not functions or choice == "none":
        return None
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        name = choice["function"].get("name")
        demanded = next((one for one in functions if one.get("name") == name), None)
        if demanded is None:
            raise _refused(f"tool_choice names '{name}', which is not among the tools", "tool_choice")
        return demanded
    return functions[0]


def _formatted(wanted: Any, text: str) -> str:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_object":
        return _compact({"echo": text})
    if kind == "json_schema":
        holder = wanted.get("json_schema")
        return _compact(value_for(holder.get("schema") if isinstance(holder, dict) else None, text))
    return text


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# -- completions and embeddings ----------------------------------------------------------------------------------------


def _complete(body: Mapping[str, Any]) -> Completion:
    prompts = _texts(body.get("prompt"), "prompt")
    stops, limit = limits(body)
    again = body.get("echo") is True
    choices = [speak(Said(prompt + prompt if again else prompt), stops, limit) for prompt in prompts]
    top = body.get("logprobs")
    return Completion(
        model_of(body), choices * copies(body), sum(map(count, prompts)),
        top=alternatives(top),
        include_usage=wants_usage(body),
    )  # fmt: skip


def _embed(body: Mapping[str, Any]) -> bytes:
    texts = _texts(body.get("input"), "input")
    wanted = body.get("dimensions")
    size = DIMENSIONS if wanted is None else wanted
    if not isinstance(size, int) or not 1 <= size <= _MOST_DIMENSIONS:
        raise _refused(f"'dimensions' must be between 1 and {_MOST_DIMENSIONS}", "dimensions")
    vectors = [vector(text, size) for text in texts]
    return embeddings(model_of(body), vectors, sum(map(count, texts)), body.get("encoding_format") == "base64")


def vector(text: str, size: int) -> list[float]:
    """A unit vector: the same for the same text, and near that of a text which shares words with it."""
    words = Counter(word.strip().lower() for word in tokens(text)) or Counter([""])
    total = [0.0] * size
    for word, times in words.items():
        for index, byte in enumerate(hashlib.shake_128(word.encode("utf-8", "replace")).digest(size)):
            total[index] += times * (byte - 127.5)
    length = math.sqrt(sum(value * value for value in total))
    return [value / length for value in total]


def _texts(value: Any, param: str) -> list[str]:
    """A text, texts, token numbers, or lists of token numbers -> texts."""
    many = value if isinstance(value, list) and not (value and isinstance(value[0], int)) else [value]
    texts = [" ".join(map(str, one)) if isinstance(one, list) else one for one in many]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise _refused(f"'{param}' must be a text or a list of texts", param)
    return texts
