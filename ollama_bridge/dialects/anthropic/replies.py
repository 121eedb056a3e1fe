"""Whole replies of the Messages wire.

Knows: their blocks, reasons and counts (providers.md 2.4, 3.5). Must not know: streams, requests.

    {"id":"msg_1","type":"message","role":"assistant","model":"claude-opus-5","content":[{"type":"text","text":"Hi"}],
     "stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":5,"output_tokens":1}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import unusable
from ...framing import BadJSON, dumps, loads
from ...values import Block, Opaque, Reply, Text, Thinking, ToolCall
from .errors import failure_of
from .fields import NAME, Counts, reason_of, text_of, vendor_of


def read_reply(body: bytes) -> Reply:
    """Raises GatewayError when the body is no message, or is an error under status 200."""
    try:
        found = loads(body)
    except BadJSON:
        raise unusable("sent a reply that is not JSON") from None
    if not isinstance(found, dict):
        raise unusable("sent a reply that is not a JSON object")
    if found.get("type") == "error" or found.get("error"):
        raise failure_of(found)
    content = found.get("content")
    if isinstance(content, str):  # a compatible server's shorthand
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise unusable("sent a reply without an answer")
    blocks = [block for each in content if isinstance(each, dict) and (block := read_block(each)) is not None]
    said = any(isinstance(block, Text | ToolCall) for block in blocks)
    why = refusal_words(found)
    if why and not said:
        blocks.append(Text(why))
    counts = Counts()
    counts.add(found.get("usage"))
    return Reply(
        blocks=blocks,
        reason=reason_of(found.get("stop_reason"), any(isinstance(block, ToolCall) for block in blocks)),
        usage=counts.usage(),
        id=text_of(found, "id") or None,
        model=text_of(found, "model") or None,
    )


def read_block(block: dict[str, Any]) -> Block | None:
    """A block of an answer. What only this wire has stays as it is. None: it holds nothing."""
    kind = block.get("type")
    if kind == "text":
        return Text(text_of(block, "text")) if text_of(block, "text") else None
    if kind == "thinking":
        thought, signature = text_of(block, "thinking"), signed(text_of(block, "signature"))
        return Thinking(thought, vendor=signature) if thought or signature else None
    if kind == "tool_use":
        return ToolCall(
            text_of(block, "name"),
            dumps(block.get("input") or {}).decode(),
            text_of(block, "id") or None,
            vendor_of(block, "type", "id", "name", "input"),
        )
    return Opaque(NAME, block)


def signed(signature: str) -> dict[str, dict[str, Any]]:
    """A thought's signature as its vendor bag."""
    return {NAME: {"signature": signature}} if signature else {}


def refusal_words(holder: Mapping[str, Any]) -> str:
    """Why nothing more is said, where a stop reason comes with an explanation."""
    details = holder.get("stop_details")
    if holder.get("stop_reason") != "refusal" or not isinstance(details, dict):
        return ""
    return text_of(details, "explanation")
