"""What providers want back and stateless clients drop: signatures of thoughts, encrypted reasoning, ids of tool calls.

Knows: how to recognise a turn that comes back, and how long to remember it. Must not know: what a signature is (it
stands in a block's vendor bag, or is an Opaque block of the provider's dialect), wires, which client asks.

Most Ollama clients send back a tool turn as its text and its calls, without ids, thoughts or signatures (clients.md
4.3). Claude and Gemini refuse such a turn while they think, DeepSeek wants its reasoning text, OpenAI its encrypted
items. So each answer is kept under a fingerprint of what every client does send back, and its blocks are put back
where the same turn stands in a later request.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from ..events import Delta, Event, Finish, fold
from ..framing import BadJSON, dumps, loads
from ..values import Block, Message, Opaque, Text, Thinking, ToolCall

REMEMBERED_SECONDS = 24 * 3600.0
TURNS_AT_MOST = 20_000
BYTES_AT_MOST = 64 * 1024 * 1024


@dataclass(slots=True)
class _Kept:
    blocks: list[Block]
    size: int
    until: float


class Continuity:
    """A bounded memory of answers. `clock` gives seconds and never goes back. The oldest turns go first."""

    def __init__(
        self,
        clock: Callable[[], float],
        seconds: float = REMEMBERED_SECONDS,
        turns: int = TURNS_AT_MOST,
        size: int = BYTES_AT_MOST,
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._turns = turns
        self._limit = size
        self._size = 0
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()

    def keep(self, account: str, asked: str, blocks: list[Block]) -> None:
        """Remembers an answer of `account` (provider and model: what one signed, another refuses) to `asked`, the
        user's words before it. Answers without anything to be put back are not kept."""
        if not any(_worth_keeping(block) for block in blocks):
            return
        size = sum(map(_size, blocks))
        if size > self._limit // 16:
            return
        kept = _Kept(blocks, size, self._clock() + self._seconds)
        for key in _keys(account, asked, blocks):
            before = self._kept.pop(key, None)
            if before is not None:
                self._size -= before.size
            self._kept[key] = kept
            self._size += size
        while self._kept and (len(self._kept) > self._turns or self._size > self._limit):
            _, gone = self._kept.popitem(last=False)
            self._size -= gone.size

    def restore(self, account: str, messages: list[Message]) -> list[Message]:
        """The conversation with what its assistant turns have lost. What a client did send is never replaced. The
        input is not changed; it is returned as it is when nothing is known of it."""
        restored: list[Message] = []
        asked = ""
        changed = False
        for message in messages:
            if message.role == "user":
                asked = message.text()
            elif message.role == "assistant":
                kept = self._find(account, asked, message.blocks)
                if kept is not None:
                    message = msgspec.structs.replace(message, blocks=_merged(message.blocks, kept))
                    changed = True
            restored.append(message)
        return restored if changed else messages

    def _find(self, account: str, asked: str, blocks: list[Block]) -> list[Block] | None:
        now = self._clock()
        for key in _keys(account, asked, blocks):
            kept = self._kept.get(key)
            if kept is not None and kept.until > now:
                return kept.blocks
        return None


class Keeper:
    """Collects one streamed answer, to be kept once it is complete."""

    def __init__(self, continuity: Continuity, account: str, asked: str) -> None:
        self._continuity = continuity
        self._account = account
        self._asked = asked
        self._events: list[Event] = []
        self._room = BYTES_AT_MOST // 16  # of a larger answer nothing is kept

    def feed(self, events: list[Event]) -> None:
        if self._room < 0:
            return
        self._events += events
        for event in events:
            if type(event) is Delta:
                self._room -= len(event.text)
        if self._room < 0:
            self._events = []
        elif events and type(events[-1]) is Finish:
            self._continuity.keep(self._account, self._asked, fold(self._events).blocks)
            self._events = []


def last_asked(messages: Iterable[Message]) -> str:
    """The user's words that an answer to these messages would follow."""
    asked = ""
    for message in messages:
        if message.role == "user":
            asked = message.text()
    return asked


def _worth_keeping(block: Block) -> bool:
    return isinstance(block, Thinking | Opaque) or (isinstance(block, ToolCall) and bool(block.vendor or block.id))


def _keys(account: str, asked: str, blocks: list[Block]) -> list[bytes]:
    """Fingerprints of an answer, the surest first: with the user's words before it, then without. Text counts without
    the white space around it, arguments by their meaning: clients change both."""
    text = "".join(block.text for block in blocks if isinstance(block, Text)).strip()
    calls = [[block.name, _meaning(block.arguments)] for block in blocks if isinstance(block, ToolCall)]
    if not (text or calls):
        return []
    said = dumps([account, text, calls])
    return [
        hashlib.blake2b(said + asked.strip().encode("utf-8", "replace"), digest_size=16, person=b"asked").digest(),
        hashlib.blake2b(said, digest_size=16, person=b"alone").digest(),
    ]


def _meaning(arguments: str) -> str:
    try:
        return msgspec.json.encode(loads(arguments or "{}"), order="deterministic").decode()
    except BadJSON:
        return arguments.strip()


def _size(block: Block) -> int:
    try:
        return len(msgspec.json.encode(block))
    except (TypeError, ValueError):
        return 1024  # an opaque payload that is no JSON value


def _merged(sent: list[Block], kept: list[Block]) -> list[Block]:
    """The kept answer in its own order, with what the client sent where it sent it: its thoughts and ids win."""
    if any(isinstance(block, Thinking) and block.vendor for block in sent):
        return sent
    calls = [block for block in sent if isinstance(block, ToolCall)]
    others = [block for block in sent if not isinstance(block, ToolCall | Thinking | Text)]
    merged: list[Block] = []
    for block in kept:
        if isinstance(block, ToolCall) and calls:
            mine = calls.pop(0)
            merged.append(msgspec.structs.replace(mine, id=mine.id or block.id, vendor={**block.vendor, **mine.vendor}))
        else:
            merged.append(block)
    return merged + others
