"""A streamed answer as a sequence of events, and the way between that and a whole reply.

Knows: order and meaning of events. Must not know: frames, bytes, any wire.

Order: Start, then for each block BlockStart, Delta*, BlockEnd (blocks may be open side by side: parallel tool calls),
then Finish once. `Failed` may come at any point and ends the stream; one that ends without Finish or Failed was cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from .errors import GatewayError
from .values import Block, Opaque, Reason, Reply, Text, Thinking, ToolCall, Usage, Vendor

Kind = Literal["text", "thinking", "tool_call"]


class Start(msgspec.Struct, gc=False):
    """The provider accepted the request. `created` is unix seconds."""

    id: str | None = None
    model: str | None = None
    created: int | None = None


class BlockStart(msgspec.Struct):
    """`index` names the block until its BlockEnd. `id` and `name` only for tool calls."""

    index: int
    kind: Kind
    id: str | None = None
    name: str | None = None
    vendor: Vendor = {}


class Delta(msgspec.Struct):
    """A piece of the block: text, thought, or JSON text of arguments. May be empty when it only carries logprobs."""

    index: int
    kind: Kind
    text: str
    logprobs: list[dict[str, Any]] | None = None


class BlockEnd(msgspec.Struct):
    """`vendor` may hold what belongs to the whole block, e.g. a thinking signature under its dialect's name."""

    index: int
    vendor: Vendor = {}


class Finish(msgspec.Struct):
    """The answer is complete. `usage` is what the provider reported."""

    reason: Reason
    usage: Usage = msgspec.field(default_factory=Usage)
    vendor: Vendor = {}


class Unknown(msgspec.Struct):
    """A frame with no meaning for others; only its own dialect may write it again."""

    dialect: str
    payload: Any


class Failed:
    """The provider reported an error inside the stream, or the stream cannot be read further."""

    __slots__ = ("error",)

    def __init__(self, error: GatewayError) -> None:
        self.error = error


Event = Start | BlockStart | Delta | BlockEnd | Finish | Unknown | Failed


def is_content(event: Event) -> bool:
    """Whether the event commits the answer: something of it can be shown. Empty pieces do not count."""
    if isinstance(event, Delta):
        return bool(event.text) or event.logprobs is not None
    return isinstance(event, Finish) or (isinstance(event, BlockStart) and event.kind == "tool_call")


def fold(events: Iterable[Event]) -> Reply:
    """Stream -> whole reply. Raises the GatewayError of a `Failed` event. A stream without Finish keeps reason ""."""
    reply = Reply(reason="")
    parts: dict[int, list[str]] = {}
    order: list[BlockStart | Opaque] = []
    ends: dict[int, BlockEnd] = {}
    logprobs: list[dict[str, Any]] = []
    for event in events:
        if isinstance(event, Delta):
            parts[event.index].append(event.text)
            if event.logprobs:
                logprobs.extend(event.logprobs)
        elif isinstance(event, BlockStart):
            order.append(event)
            parts[event.index] = []
        elif isinstance(event, BlockEnd):
            ends[event.index] = event
        elif isinstance(event, Start):
            reply.id, reply.model, reply.created = event.id, event.model, event.created
        elif isinstance(event, Finish):
            reply.reason, reply.usage, reply.vendor = event.reason, event.usage, event.vendor
        elif isinstance(event, Failed):
            raise event.error
        else:
            order.append(Opaque(event.dialect, event.payload))
    blocks: list[Block] = []
    for start in order:
        if isinstance(start, Opaque):
            blocks.append(start)
            continue
        text = "".join(parts[start.index])
        vendor = {**start.vendor, **(ends[start.index].vendor if start.index in ends else {})}
        if start.kind == "tool_call":
            blocks.append(ToolCall(start.name or "", text, start.id, vendor))
        elif start.kind == "thinking":
            if text or vendor:
                blocks.append(Thinking(text, vendor=vendor))
        elif text:
            blocks.append(Text(text))
    reply.blocks = blocks
    reply.logprobs = logprobs or None
    return reply


def unfold(reply: Reply) -> list[Event]:
    """Whole reply -> the shortest stream that says the same: one delta a block, logprobs with the first text."""
    events: list[Event] = [Start(reply.id, reply.model, reply.created)]
    logprobs = reply.logprobs
    for index, block in enumerate(reply.blocks):
        if isinstance(block, Text):
            events += [BlockStart(index, "text"), Delta(index, "text", block.text, logprobs), BlockEnd(index)]
            logprobs = None
        elif isinstance(block, Thinking):
            events += [
                BlockStart(index, "thinking"),
                Delta(index, "thinking", block.text),
                BlockEnd(index, block.vendor),
            ]
        elif isinstance(block, ToolCall):
            events += [
                BlockStart(index, "tool_call", block.id, block.name, block.vendor),
                Delta(index, "tool_call", block.arguments),
                BlockEnd(index),
            ]
        elif isinstance(block, Opaque):
            events.append(Unknown(block.dialect, block.payload))
    if logprobs is not None:
        index = len(reply.blocks)
        events += [BlockStart(index, "text"), Delta(index, "text", "", logprobs), BlockEnd(index)]
    if reply.reason:
        events.append(Finish(reply.reason, reply.usage, reply.vendor))
    return events
