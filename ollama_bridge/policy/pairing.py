"""Tool calls and their results brought together, however little the client sent back.

Knows: the pairing rule of clients.md 4.3. Must not know: wires, profiles, models.

Half of all clients return neither the id of a call nor the name of its tool, some return a name, some an id that the
call itself has lost. Strict providers refuse a conversation in which a call has no result, a result has no call, or
something stands between the two.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections import Counter, defaultdict, deque
from dataclasses import dataclass

import msgspec

from ..values import Media, Message, Text, ToolCall, ToolResult

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})

_NINE = re.compile(r"[a-zA-Z0-9]{9}")
_ALPHABET = string.digits + string.ascii_letters


@dataclass(slots=True)
class _Slot:
    """A call that waits for its result. `own` is the id the client gave it, `id` the one it goes out with."""

    call: ToolCall
    own: str | None
    id: str
    answer: Message | None = None


def pair(messages: list[Message], style: str = "any") -> list[Message]:
    """The same conversation with every call answered exactly once, right after its turn and in call order.

    style: "any" keeps the ids that clients gave and invents `call_<turn>_<index>` where there is none; "nine" makes
    every id nine letters or digits (Mistral, providers.md 3.4), the same for the call and its result.

    A result belongs to the call with its id, else to the first unanswered call of its name, else to the first
    unanswered call, looking at the latest turn first. Results left over become user text; calls left unanswered get
    an empty result. A role that no provider knows speaks as the user (Ollama takes any word, providers refuse it).
    The input is not changed; where nothing is to be done it is returned as it is.
    """
    if not all(message.role in ROLES for message in messages):
        messages = [m if m.role in ROLES else msgspec.structs.replace(m, role="user") for m in messages]
    if not any(_is_tooling(message) for message in messages):
        return messages
    pairing = _Pairing(messages, style)
    for message in messages:
        pairing.take(message)
    return pairing.finished()


def _is_tooling(message: Message) -> bool:
    return message.role == "tool" or any(isinstance(block, ToolCall | ToolResult) for block in message.blocks)


def _results(message: Message) -> list[ToolResult]:
    """A tool message may carry its content without saying that it is a result."""
    found = [block for block in message.blocks if isinstance(block, ToolResult)]
    if found or message.role != "tool":
        return found
    return [ToolResult([block for block in message.blocks if isinstance(block, Text | Media)])]


class _Waiting:
    """Calls without a result: the latest turn first, within a turn in call order. Looking for the first costs the same
    however many there are: a conversation is the client's, and may be built to be slow."""

    def __init__(self) -> None:
        self._turns: list[deque[_Slot]] = []
        self._latest = -1

    def add(self, turn: int, slot: _Slot) -> None:
        if turn != self._latest or not self._turns:
            self._turns.append(deque())
            self._latest = turn
        self._turns[-1].append(slot)

    def first(self) -> _Slot | None:
        while self._turns:
            slots = self._turns[-1]
            while slots and slots[0].answer is not None:
                slots.popleft()
            if slots:
                return slots[0]
            self._turns.pop()
        return None


class _Pairing:
    """One pass over a conversation."""

    def __init__(self, messages: list[Message], style: str) -> None:
        self._nine = style == "nine"
        self._turns = 0
        self._by_id: defaultdict[str, _Waiting] = defaultdict(_Waiting)
        self._by_name: defaultdict[str, _Waiting] = defaultdict(_Waiting)
        self._free = _Waiting()
        self._out: list[Message | list[_Slot]] = []
        calls = [block for message in messages for block in message.blocks if isinstance(block, ToolCall)]
        # An invented id must not be one that the client uses, neither before nor later.
        self._theirs = {call.id for call in calls if call.id}
        self._used: set[str] = set()
        # A call is kept for the result that names its id, if that result is still to come.
        self._claims = Counter(result.call_id for message in messages for result in _results(message))

    def take(self, message: Message) -> None:
        results = _results(message)
        for result in results:
            self._place(result, message)
        if results:
            explicit = any(isinstance(block, ToolResult) for block in message.blocks)
            rest = [block for block in message.blocks if explicit and not isinstance(block, ToolResult)]
            if not rest:
                return
            role = "user" if message.role == "tool" else message.role
            message = msgspec.structs.replace(message, role=role, blocks=rest)
        if any(isinstance(block, ToolCall) for block in message.blocks):
            self._open_turn(message)
        else:
            self._out.append(message)

    def _open_turn(self, message: Message) -> None:
        turn = self._turns
        self._turns += 1
        slots: list[_Slot] = []
        blocks = []
        for block in message.blocks:
            if isinstance(block, ToolCall):
                wanted = self._id_for(block, f"call_{turn}_{len(slots)}")
                slots.append(_Slot(block, block.id or None, wanted))
                block = block if block.id == wanted else msgspec.structs.replace(block, id=wanted)
            blocks.append(block)
        if any(new is not old for new, old in zip(blocks, message.blocks, strict=True)):
            message = msgspec.structs.replace(message, blocks=blocks)
        for slot in slots:
            self._wait(turn, slot)
        self._out += [message, slots]

    def _wait(self, turn: int, slot: _Slot) -> None:
        if slot.own is not None:
            self._by_id[slot.own].add(turn, slot)
            if self._claims[slot.own] > 0:
                return
        self._by_name[slot.call.name].add(turn, slot)
        self._free.add(turn, slot)

    def _id_for(self, call: ToolCall, invented: str) -> str:
        """The client's own id unless it is missing or stands for an earlier call already."""
        wanted = self._styled(call.id) if call.id else ""
        while not wanted or wanted in self._used:
            wanted = self._styled(invented) if invented not in self._theirs else ""
            invented += "_"
        self._used.add(wanted)
        return wanted

    def _styled(self, call_id: str) -> str:
        return nine(call_id) if self._nine else call_id

    def _place(self, result: ToolResult, message: Message) -> None:
        self._claims[result.call_id] -= 1
        slot = self._match(result)
        if slot is None:
            self._out.append(_as_text(result))
        elif message.role == "tool" and message.blocks == [result] and result.call_id == slot.id:
            slot.answer = message
        else:
            slot.answer = Message("tool", [msgspec.structs.replace(result, call_id=slot.id)])

    def _match(self, result: ToolResult) -> _Slot | None:
        if result.call_id and (slot := self._by_id[result.call_id].first()):
            return slot
        if result.name and (slot := self._by_name[result.name].first()):
            return slot
        return self._free.first()

    def finished(self) -> list[Message]:
        out: list[Message] = []
        for item in self._out:
            if isinstance(item, Message):
                out.append(item)
            else:
                out += [slot.answer or _unanswered(slot) for slot in item]
        return out


def _as_text(result: ToolResult) -> Message:
    """A result without a call: its call was trimmed away, or was answered already."""
    heading = f"Result of the tool {result.name}:\n" if result.name else "Result of a tool:\n"
    return Message("user", [Text(heading), *result.content])


def _unanswered(slot: _Slot) -> Message:
    return Message("tool", [ToolResult([Text("")], call_id=slot.id, name=slot.call.name)])


def nine(call_id: str) -> str:
    """Nine letters or digits that stand for the id, always the same; an id of that shape is left as it is."""
    if _NINE.fullmatch(call_id):
        return call_id
    number = int.from_bytes(hashlib.sha256(call_id.encode()).digest()[:8])
    digits = []
    for _ in range(9):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(digits)
