"""Ollama's request types as tables for go.json.

Knows: names, members and Go types of the native requests (ollama-protocol.md 2), and the values that have a syntax of
their own: think, keep_alive, images, tool definitions and arguments. Must not know: what a request means.

Members that only this gateway knows (`privacy_mode`, `task`, `provider`) are in the tables too, so that they are read
by the same rules.
"""

from __future__ import annotations

import re
from typing import Any

from ..go.json import ANY, BOOL, INT, OBJECT, STRING, STRINGS, Array, Bytes, Checked, Kind, Own, Run, Struct, members
from ..go.scan import Refusal, base64_error, quote

FOR_EVER = -1.0  # seconds of keep_alive: any negative value means it

_THINK_LEVELS = ("high", "medium", "low", "max")
_THINK_WORDS = '"high", "medium", "low", "max", true, or false'
_UNIT_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")
_LONGEST_NS = 2**63 - 1  # what a Go duration can hold


def think_value(value: Any) -> bool | str:
    """Raises ValueError with Ollama's text."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError(f"think must be a boolean or string ({_THINK_WORDS})")
    if value not in _THINK_LEVELS:
        raise ValueError(f"invalid think value: {quote(value)} (must be {_THINK_WORDS})")
    return value


def keep_alive_seconds(value: Any) -> float:
    """A number of seconds or a Go duration -> seconds in whole nanoseconds, or FOR_EVER. Raises ValueError with Go's
    text (ollama-protocol.md 2.1)."""
    if isinstance(value, bool | list | dict):
        kind = "bool" if isinstance(value, bool) else "[]interface {}" if isinstance(value, list) else OBJECT.go
        raise ValueError(f"Unsupported type: '{kind}'")
    ns = _duration_ns(value) if isinstance(value, str) else min(float(value) * 1e9, float(_LONGEST_NS))
    return FOR_EVER if ns < 0 or ns >= _LONGEST_NS else int(ns) / 1e9


def _duration_ns(text: str) -> int:
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    bad = f"time: invalid duration {_time_quote(text)}"
    total = 0
    at = 0
    while at < len(rest) or not rest:
        part = _DURATION_PART.match(rest, at)
        assert part is not None
        whole, fraction, unit = part[1], part[2] or "", part[3]
        if not (whole or fraction) or len(whole) > 19:
            raise ValueError(bad)
        if not unit:
            raise ValueError(f"time: missing unit in duration {_time_quote(text)}")
        if unit not in _UNIT_NS:
            raise ValueError(f"time: unknown unit {_time_quote(unit)} in duration {_time_quote(text)}")
        total += int(whole or "0") * _UNIT_NS[unit]
        if fraction:
            total += int(float(f"0.{fraction[:18]}") * _UNIT_NS[unit])
        if total > _LONGEST_NS:
            raise ValueError(bad)
        at = part.end()
    return -total if text.startswith("-") else total


def _time_quote(text: str) -> str:
    """Quoted as Go's package time does it: every byte that is not printable ASCII in hex."""
    shown = (
        f"\\{c}" if c in '"\\' else c if " " <= c <= "\x7f" else "".join(f"\\x{b:02x}" for b in c.encode())
        for c in text
    )
    return f'"{"".join(shown)}"'


class _Image(Bytes):
    """Base64 as Ollama takes it, and what some clients send instead: a data URL, or an address (clients.md 4.6)."""

    def read(self, value: Any, run: Run) -> str:
        if isinstance(value, str):
            if value.startswith(("http://", "https://")):
                return value
            head, mark, _ = value[:128].partition(";base64,")
            if mark and head.startswith("data:"):
                start = len(head) + len(mark)
                at = base64_error(value[start:])
                if at is not None:
                    run.save(Refusal(f"illegal base64 data at input byte {start + at}"))
                return value
        return super().read(value, run)


class _Ordered(Kind):
    """An object whose order of members counts. What is none gets the words of the library that Ollama reads it with."""

    def __init__(self, item: Kind) -> None:
        super().__init__("map")
        self.item = Own(item)

    def read(self, value: Any, run: Run) -> dict[str, Any]:
        pairs = members(value)
        if pairs is None:
            raise Refusal("Value looks like object, but can't find closing '}' symbol")
        return {key: self.item.zero() if each is None else self.item.read(each, run) for key, each in pairs}


class _Words(Kind):
    """A text or a list of texts; the error is about the list."""

    def read(self, value: Any, run: Run) -> Any:
        return value if isinstance(value, str) else STRINGS.read(value, run)


_PROPERTY = Struct(
    "api.ToolProperty",
    {
        "type": Own(_Words("[]string")),
        "items": ANY,
        "description": STRING,
        "enum": Array("[]interface {}", ANY),
        "required": STRINGS,
    },
)
_PROPERTIES = Own(_Ordered(_PROPERTY), pointer=True)
_PROPERTY.fields["anyOf"] = Array("[]api.ToolProperty", _PROPERTY)
_PROPERTY.fields["properties"] = _PROPERTIES

_PARAMETERS = {"type": STRING, "$defs": ANY, "items": ANY, "required": STRINGS, "properties": _PROPERTIES}
_FUNCTION = {"name": STRING, "description": STRING, "parameters": Struct("api.ToolFunctionParameters", _PARAMETERS)}
TOOLS = Checked(
    Array(
        "api.Tools",
        Struct("api.Tool", {"type": STRING, "items": ANY, "function": Struct("api.ToolFunction", _FUNCTION)}),
    )
)
"""Tool definitions, kept whole: providers understand more of a JSON schema than Ollama's own type does."""

_IMAGES = Array("[]api.ImageData", _Image("api.ImageData"))
_CALL = {"index": INT, "name": STRING, "arguments": Own(_Ordered(ANY))}
_MESSAGE = Own(
    Struct(
        "api.Alias",
        {
            "role": STRING,
            "content": STRING,
            "thinking": STRING,
            "images": _IMAGES,
            "tool_calls": Array(
                "[]api.ToolCall",
                Struct("api.ToolCall", {"id": STRING, "function": Struct("api.ToolCallFunction", _CALL)}),
            ),
            "tool_name": STRING,
            "tool_call_id": STRING,
        },
    )
)

_OURS = {"privacy_mode": STRING, "task": STRING, "provider": ANY}
_KEEP_ALIVE = Own(ANY, keep_alive_seconds, pointer=True)
_RUN: dict[str, Kind] = {
    "model": STRING,
    "stream": BOOL,
    "format": ANY,
    "keep_alive": _KEEP_ALIVE,
    "options": OBJECT,
    "think": Own(ANY, think_value, pointer=True),
    "truncate": BOOL,
    "shift": BOOL,
    "_debug_render_only": BOOL,
    "logprobs": BOOL,
    "top_logprobs": INT,
    **_OURS,
}

CHAT_REQUEST = Struct("api.ChatRequest", {**_RUN, "messages": Array("[]api.Message", _MESSAGE), "tools": TOOLS})
GENERATE_REQUEST = Struct(
    "api.GenerateRequest",
    {
        **_RUN,
        "prompt": STRING,
        "suffix": STRING,
        "system": STRING,
        "template": STRING,
        "context": Array("[]int", INT),
        "raw": BOOL,
        "images": _IMAGES,
    },
)
EMBED_REQUEST = Struct(
    "api.EmbedRequest",
    {
        "model": STRING,
        "input": ANY,
        "keep_alive": _KEEP_ALIVE,
        "truncate": BOOL,
        "dimensions": INT,
        "options": OBJECT,
        **_OURS,
    },
)
EMBEDDING_REQUEST = Struct(
    "api.EmbeddingRequest",
    {"model": STRING, "prompt": STRING, "keep_alive": _KEEP_ALIVE, "options": OBJECT, **_OURS},
)


def provider_of(fields: dict[str, Any]) -> str | None:
    """The provider that a request names. What is no text is none of ours, and Ollama would not look at it either."""
    provider = fields.get("provider")
    return provider if isinstance(provider, str) and provider else None
