"""Streams of the Messages wire made by hand, for the tests of its dialect.

Knows: the wire (providers.md 2.4). Must not know: the dialect.
"""

from __future__ import annotations

import json
from typing import Any


def frame(kind: str, **fields: Any) -> bytes:
    """One event. Inside a block: `index=`; inside a delta: `delta=`."""
    data = json.dumps({"type": kind, **fields}, separators=(",", ":"), ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def start(**usage: Any) -> bytes:
    counts = {"input_tokens": 9, "output_tokens": 1, **usage}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "up", "content": [], "usage": counts}
    return frame("message_start", message=message)


def opened(index: int, **block: Any) -> bytes:
    return frame("content_block_start", index=index, content_block=block)


def delta(index: int, **piece: Any) -> bytes:
    return frame("content_block_delta", index=index, delta=piece)


def closed(index: int) -> bytes:
    return frame("content_block_stop", index=index)


def said(*pieces: str, index: int = 0) -> bytes:
    """A whole block of text."""
    deltas = b"".join(delta(index, type="text_delta", text=piece) for piece in pieces)
    return opened(index, type="text", text="") + deltas + closed(index)


def thought(*pieces: str, index: int = 0, signature: str = "sig") -> bytes:
    deltas = b"".join(delta(index, type="thinking_delta", thinking=piece) for piece in pieces)
    signed = delta(index, type="signature_delta", signature=signature) if signature else b""
    return opened(index, type="thinking", thinking="", signature="") + deltas + signed + closed(index)


def called(name: str, *pieces: str, index: int = 0, call_id: str = "toolu_1", **block: Any) -> bytes:
    deltas = b"".join(delta(index, type="input_json_delta", partial_json=piece) for piece in pieces)
    return (
        opened(index, **{"type": "tool_use", "id": call_id, "name": name, "input": {}, **block})
        + deltas
        + closed(index)
    )


def ended(reason: str | None = "end_turn", usage: dict[str, Any] | None = None, **more: Any) -> bytes:
    """The stop reason, with its counts."""
    counts = {"output_tokens": 4} if usage is None else usage
    return frame("message_delta", delta={"stop_reason": reason, "stop_sequence": None, **more}, usage=counts)


PING = frame("ping")
STOP = frame("message_stop")
END = ended() + STOP


def error(kind: str, message: str) -> bytes:
    return frame("error", error={"type": kind, "message": message})


def message(*content: dict[str, Any], reason: str | None = "end_turn", **more: Any) -> bytes:
    """A whole reply."""
    value = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "up",
        "content": list(content),
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 4},
        **more,
    }
    return json.dumps(value, indent=1).encode()
