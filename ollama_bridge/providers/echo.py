"""The built-in echo: a model without a network or a key that gives back what it is told.

Knows: what the echo says to a chat, a completion, an embedding, so that each path of a client can be tried. Must not
know: how that goes onto the wire (echo_wire), who asks.

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
from .echo_wire import (
    CONTEXT,
    Chat,
    Completion,
    Said,
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
        return [ListedModel("echo", context_length=CONTEXT, capabilities=CAPABILITIES, raw=raw)]

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
        top=(top if isinstance(top, int) else 0) if body.get("logprobs") is True else None,
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
        said.call = (str(tool.get("name", "")), _compact(value_for(tool.get("parameters") or _NO_PARAMETERS, text)))
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
    functions = [
        tool["function"] for tool in given if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    ]
    choice = body.get("tool_choice")
    if not functions or choice == "none":
        return None
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        name = choice["function"].get("name")
        demanded = next((function for function in functions if function.get("name") == name), None)
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


# -- what fits a JSON schema -------------------------------------------------------------------------------------------

_NO_PARAMETERS: Mapping[str, Any] = {"type": "object"}
_DEEPEST = 24  # levels; a schema that demands more of itself cannot be satisfied
_FORMATS = {
    "date": "2000-01-01", "time": "00:00:00Z", "date-time": "2000-01-01T00:00:00Z", "duration": "PT1S",
    "email": "echo@example.com", "hostname": "example.com", "uri": "https://example.com/", "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1", "uuid": "00000000-0000-4000-8000-000000000000",
}  # fmt: skip


def value_for(schema: Any, text: str, root: Any = None, depth: int = 0) -> Any:
    """A small value that fits a JSON schema, with `text` wherever a string may stand: the first of an enumeration or
    of alternatives, 1 for a number, true, one item of a list; of an object what is required, or all of it when nothing
    is. A `pattern` is beyond it."""
    root = schema if root is None else root
    if not isinstance(schema, dict) or not schema:
        return text
    if depth > _DEEPEST:
        return None
    if isinstance(schema.get("$ref"), str):
        return value_for(_resolved(root, schema["$ref"]), text, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    for word in ("anyOf", "oneOf"):
        options = schema.get(word)
        if isinstance(options, list) and options:
            chosen = next((option for option in options if option != {"type": "null"}), options[0])
            return value_for(_joined(schema, word, [chosen]), text, root, depth + 1)
    if isinstance(schema.get("allOf"), list):
        return value_for(_joined(schema, "allOf", schema["allOf"], root), text, root, depth + 1)
    match _type(schema):
        case "object":
            properties = schema.get("properties")
            known = properties if isinstance(properties, dict) else {}
            required = schema.get("required")
            names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else list(known)
            return {name: value_for(known.get(name), text, root, depth + 1) for name in names}
        case "array":
            return _array(schema, text, root, depth)
        case "integer":
            return math.ceil(_number(schema, 1))
        case "number":
            return _number(schema, 0)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _string(schema, text)


def _type(schema: Mapping[str, Any]) -> str:
    stated = schema.get("type")
    if isinstance(stated, list):
        stated = next((word for word in stated if word != "null"), "null")
    if isinstance(stated, str):
        return stated
    return "object" if "properties" in schema else "array" if "items" in schema or "prefixItems" in schema else "string"


def _resolved(root: Any, reference: str) -> Any:
    """`#/$defs/Name` within the same schema; what cannot be found may be anything."""
    found = root
    for name in reference.removeprefix("#").split("/")[1:]:
        found = found.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found


def _joined(schema: Mapping[str, Any], word: str, parts: Sequence[Any], root: Any = None) -> dict[str, Any]:
    """The schema with parts of it written into it instead of beside it."""
    joined = {name: value for name, value in schema.items() if name != word}
    for part in parts:
        if isinstance(part, dict) and root is not None and isinstance(part.get("$ref"), str):
            part = _resolved(root, part["$ref"])
        if not isinstance(part, dict):
            continue
        properties = {**joined.get("properties", {}), **part.get("properties", {})}
        required = [*joined.get("required", []), *part.get("required", [])]
        joined.update(part)
        if properties:
            joined["properties"] = properties
        if required:
            joined["required"] = list(dict.fromkeys(required))
    return joined


def _array(schema: Mapping[str, Any], text: str, root: Any, depth: int) -> list[Any]:
    fixed = schema.get("prefixItems")
    items = [value_for(item, text, root, depth + 1) for item in fixed] if isinstance(fixed, list) else []
    least, most = _bound(schema, "minItems"), _bound(schema, "maxItems")
    wanted = max(1 if least is None else int(least), 1)
    if most is not None:
        wanted = min(wanted, int(most))
    if len(items) < wanted:
        items += [value_for(schema.get("items"), text, root, depth + 1)] * min(wanted - len(items), CONTEXT)
    return items


def _bound(schema: Mapping[str, Any], name: str) -> float | None:
    value = schema.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _number(schema: Mapping[str, Any], step: int) -> float:
    """1, or the nearest number within the bounds. `step`: 1 for whole numbers."""
    value: float = 1
    low, above = _bound(schema, "minimum"), _bound(schema, "exclusiveMinimum")
    high, below = _bound(schema, "maximum"), _bound(schema, "exclusiveMaximum")
    gap = step or (below - above) / 2 if above is not None and below is not None else 1
    for bound in (low, None if above is None else above + gap):
        value = value if bound is None else max(value, bound)
    for bound in (high, None if below is None else below - gap):
        value = value if bound is None else min(value, bound)
    multiple = _bound(schema, "multipleOf")
    return math.ceil(value / multiple) * multiple if multiple and multiple > 0 else value


def _string(schema: Mapping[str, Any], text: str) -> str:
    named = _FORMATS.get(schema.get("format") or "")
    if named is not None:
        return named
    most, least = _bound(schema, "maxLength"), _bound(schema, "minLength")
    fitted = text if most is None else text[: max(int(most), 0)]
    return fitted if least is None else fitted.ljust(min(int(least), CONTEXT), ".")


# -- completions and embeddings ----------------------------------------------------------------------------------------


def _complete(body: Mapping[str, Any]) -> Completion:
    prompts = _texts(body.get("prompt"), "prompt")
    stops, limit = limits(body)
    again = body.get("echo") is True
    choices = [speak(Said(prompt + prompt if again else prompt), stops, limit) for prompt in prompts]
    top = body.get("logprobs")
    return Completion(
        model_of(body), choices * copies(body), sum(map(count, prompts)),
        top=top if isinstance(top, int) and not isinstance(top, bool) else None,
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
    many = value if isinstance(value, list) and value and not isinstance(value[0], int) else [value]
    texts = [" ".join(map(str, one)) if isinstance(one, list) else one for one in many]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise _refused(f"'{param}' must be a text or a list of texts", param)
    return texts
