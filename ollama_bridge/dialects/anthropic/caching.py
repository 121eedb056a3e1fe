"""Marks up to which a prompt is to be kept in the service's cache.

Knows: where marks pay. Must not know: models, prices: from which length on is the profile's word (`cache_from`).

What is kept costs a quarter more to write and a tenth to read, for five minutes from its last use. The order of what is
kept is tools, system, messages, and a mark holds all before it. Two of the four marks that a request may have are
enough:

- the end of tools and system text, which are the same in each request of a client;
- the end of the conversation, once it has had an answer: then the next turn, or the next call of a tool, repeats all of
  it. The service looks for what it has kept up to twenty blocks before a mark, so the turn before is found.

A client that has put marks itself knows better. Too short a beginning is not kept, and costs nothing.
"""

from __future__ import annotations

from typing import Any

from ...framing import dumps

MARK = {"type": "ephemeral"}
_FIELD = "cache_control"
_MARKABLE = ("text", "image", "tool_use", "tool_result", "document")  # a thought cannot end with a mark

Body = dict[str, Any]


def mark(body: Body, least: int) -> None:
    """`least`: bytes from which on a beginning is marked. Replaces what it marks, and never changes it: blocks may be
    shared with other requests."""
    system, tools, messages = body.get("system"), body.get("tools"), body["messages"]
    contents = [message["content"] for message in messages]
    if _FIELD in body or any(_FIELD in block for block in _blocks(tools, system, *contents)):
        return
    beginning = len(dumps([tools, system]))
    if beginning >= least:
        if isinstance(system, str):
            body["system"] = [{"type": "text", "text": system, _FIELD: MARK}]
        elif tools:
            body["tools"] = [*tools[:-1], {**tools[-1], _FIELD: MARK}]
    answered = any(message["role"] == "assistant" for message in messages[:-1])
    if answered and beginning + _length(messages, least) >= least:
        last = messages[-1]
        content = last["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if blocks[-1].get("type") in _MARKABLE:
            body["messages"] = [*messages[:-1], {**last, "content": [*blocks[:-1], {**blocks[-1], _FIELD: MARK}]}]


def _blocks(*contents: Any) -> list[Body]:
    return [block for content in contents if isinstance(content, list) for block in content]


def _length(messages: list[Body], enough: int) -> int:
    """Bytes of words, roughly; counted no further than `enough`. Pictures count little."""
    length = 0
    for message in messages:
        content = message["content"]
        if isinstance(content, str):
            length += len(content)
        for block in _blocks(content):
            length += sum(len(value) for value in block.values() if isinstance(value, str))
            if "input" in block:
                length += len(dumps(block["input"]))
        if length >= enough:
            break
    return length
