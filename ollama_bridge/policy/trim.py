"""A conversation cut to what a model can hold: the oldest turns go first.

Knows: turns, and a rough size in tokens. Must not know: tokenizers, models, wires.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..framing import dumps
from ..values import Block, Media, Message, Opaque, Text, Thinking, Tool, ToolCall, ToolResult

BYTES_PER_TOKEN = 4  # providers.md 3.3
IMAGE_TOKENS = 1000  # what a picture of usual size costs at the large providers, give or take half
MESSAGE_TOKENS = 4  # role and separators


def trim(messages: list[Message], window_tokens: int, reserve: int) -> tuple[list[Message], int]:
    """-> (the messages that stay, how many were dropped). The input is not changed.

    window_tokens: what the model holds, prompt and answer together. reserve: tokens kept free for the answer and the
    tool descriptions; a reserve above half of the window counts as half of it.

    First whole turns go, oldest first: a user's messages with all that follows until the user speaks again. If the
    last turn alone is too long, its oldest rounds of tool use go. System messages, what the user said last and the
    newest round stay, even when they do not fit: then the provider's own error comes through (product.md 3).
    """
    budget = window_tokens - min(reserve, window_tokens // 2)
    sizes = [estimate_message(message) for message in messages]
    excess = sum(sizes) - budget
    if excess <= 0:
        return messages, 0
    dropped: set[int] = set()
    for unit in _droppable(messages):
        if excess <= 0:
            break
        dropped.update(unit)
        excess -= sum(sizes[index] for index in unit)
    return [message for index, message in enumerate(messages) if index not in dropped], len(dropped)


def shorter(inputs: list[str]) -> list[str]:
    """Texts to be embedded, none longer than half of what the longest was."""
    limit = max(map(len, inputs), default=0) // 2
    return [text[:limit] for text in inputs]


def _droppable(messages: list[Message]) -> list[list[int]]:
    """Positions of messages that go together, in the order in which they go."""
    turns = _turns(messages)
    if not turns:
        return []
    *earlier, last = turns
    rounds: list[list[int]] = []
    for index in last:
        if _asks(messages[index]):
            continue
        if messages[index].role == "assistant" or not rounds:
            rounds.append([])
        rounds[-1].append(index)
    return earlier + rounds[:-1]


def _turns(messages: list[Message]) -> list[list[int]]:
    """System messages belong to no turn. Results that come after the user spoke again still belong to their calls."""
    turns: list[list[int]] = []
    asking = called = False
    for index, message in enumerate(messages):
        if message.role in ("system", "developer"):
            continue
        asks = _asks(message)
        if (asks and not asking) or not turns:
            turns.append([])
            called = False
        if _answers(message) and not called and len(turns) > 1:
            late = turns.pop()
            turns[-1] += late
            called = True
        turns[-1].append(index)
        asking = asks
        called = called or any(isinstance(block, ToolCall) for block in message.blocks)
    return turns


def _answers(message: Message) -> bool:
    return message.role == "tool" or any(isinstance(block, ToolResult) for block in message.blocks)


def _asks(message: Message) -> bool:
    """A user's own words: some wires send tool results as user messages."""
    return message.role == "user" and not _answers(message)


def estimate(messages: Iterable[Message]) -> int:
    """Roughly how many tokens a conversation has: its bytes by four, and a flat price for each picture."""
    return sum(map(estimate_message, messages))


def estimate_message(message: Message) -> int:
    return MESSAGE_TOKENS + sum(map(_estimate_block, message.blocks))


def estimate_tools(tools: Iterable[Tool]) -> int:
    """Roughly how many tokens the descriptions of the tools take in a prompt."""
    return sum(estimate_text(f"{tool.name}{tool.description or ''}{dumps(tool.parameters).decode()}") for tool in tools)


def estimate_text(text: str) -> int:
    """ceil(UTF-8 bytes / 4)."""
    size = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
    return -(-size // BYTES_PER_TOKEN)


def _estimate_block(block: Block) -> int:
    if isinstance(block, Text | Thinking):
        return estimate_text(block.text)
    if isinstance(block, Media):
        return IMAGE_TOKENS
    if isinstance(block, ToolCall):
        return estimate_text(block.name) + estimate_text(block.arguments)
    if isinstance(block, ToolResult):
        return sum(map(_estimate_block, block.content))
    assert isinstance(block, Opaque)
    return estimate_text(dumps(block.payload).decode())
