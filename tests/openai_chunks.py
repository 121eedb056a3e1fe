"""Streams of the OpenAI wire made by hand, for the tests of its dialect.

Knows: the wire (providers.md 2.2). Must not know: the dialect.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One chunk of a stream; `more` are members of the chunk."""
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "up",
        "choices": choices,
        **more,
    }


def say(piece: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of text."""
    return chunk({"content": piece}, finish, **more)


def call(index: int | None = 0, call_id: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk with one piece of a call; name and arguments go into `function`."""
    function = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
    piece = {"index": index, "id": call_id, **fields, "function": function}
    return chunk({"tool_calls": [{name: value for name, value in piece.items() if value is not None}]})


END = chunk(finish="stop")
CALLED = chunk(finish="tool_calls")
COUNTED = {**chunk(usage=USAGE), "choices": []}


def frames(*chunks: dict[str, Any], done: bool = True) -> bytes:
    data = [json.dumps(each, separators=(",", ":"), ensure_ascii=False).encode() for each in chunks]
    return b"".join(b"data: " + each + b"\n\n" for each in data) + (b"data: [DONE]\n\n" if done else b"")


def text(*pieces: str, **last: Any) -> bytes:
    """A whole stream that says something; `last` are members of its last chunk."""
    return frames(*map(say, pieces), chunk(finish="stop", **last))


def whole_reply(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> bytes:
    """The body of a reply that is no stream."""
    choices = [{"index": 0, "message": message, "finish_reason": finish}]
    return json.dumps({"id": "chatcmpl-1", "created": 1, "model": "up", "choices": choices, **more}, indent=1).encode()


def cuts(stream: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The stream in two reads, cut at every byte."""
    for at in range(len(stream) + 1):
        yield stream[:at], stream[at:]


def single_bytes(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


def relayed(tap: Any, parts: Iterable[bytes]) -> bytes:
    """What a tap passes on of a stream."""
    return b"".join(tap.feed(part) for part in parts) + tap.end()


def json_frames(stream: bytes) -> list[dict[str, Any]]:
    """The JSON of every frame that holds any."""
    return [json.loads(frame[6:]) for frame in stream.split(b"\n\n") if frame.startswith(b"data: {")]
