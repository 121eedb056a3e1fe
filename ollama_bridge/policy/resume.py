"""A stream that broke off, continued by the next target where that is provably the same answer (product.md 5, row 8).

Two ways: a model that takes the beginning of its own answer (a prefill) goes on where the other stopped; any other is
asked anew, and what it says must begin with just the text that the client has. Only then does the rest go out. Anything
else is the in-stream error that a cut answer always gets.

Knows: events, what a client has been given. Must not know: frames, targets, when a stream counts as broken.

On for models with `resume: true`; their streams are never relayed, since a relay does not know what it has said.
"""

from __future__ import annotations

import msgspec

from ..errors import GatewayError, Scope
from ..events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, Start
from ..values import ChatRequest, Message, Text

LONGEST = 1024 * 1024  # characters of an answer that are remembered; a longer one is not resumed


class Given:
    """What the client has been given of one answer. `possible`: nothing but text and thoughts, so that it can be
    continued."""

    def __init__(self) -> None:
        self.possible = True
        self._pieces: list[str] = []
        self._length = 0
        self._open: dict[int, str] = {}  # blocks without their end -> kind
        self._used = -1  # the highest index of a block

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def open_text(self) -> int | None:
        """The index of the text block that has no end yet."""
        return next((index for index, kind in self._open.items() if kind == "text"), None)

    @property
    def open_blocks(self) -> list[int]:
        return list(self._open)

    @property
    def next_index(self) -> int:
        return self._used + 1

    def note(self, events: list[Event]) -> None:
        """Events that go out."""
        for event in events:
            if type(event) is Delta:
                if event.kind == "text":
                    self._add(event)
            elif type(event) is BlockStart:
                self.possible = self.possible and event.kind != "tool_call"
                self._open[event.index] = event.kind
                self._used = max(self._used, event.index)
            elif type(event) is BlockEnd:
                self._open.pop(event.index, None)
            elif type(event) is not Start:
                self.possible = False  # finished, or something that only its own dialect can read

    def _add(self, event: Delta) -> None:
        self._length += len(event.text)
        if event.logprobs is not None or self._length > LONGEST:
            self.possible = False
            self._pieces.clear()
        elif self.possible:
            self._pieces.append(event.text)


def continuing(request: ChatRequest, given: Given) -> tuple[ChatRequest, str]:
    """For a model that takes the beginning of its answer -> (the request with it, what of it the model must say
    again). Claude refuses a beginning that ends with a blank (providers.md 2.4)."""
    text = given.text
    beginning = text.rstrip()
    if not beginning:
        return request, text
    messages = [*request.messages, Message("assistant", [Text(beginning)])]
    return msgspec.structs.replace(request, messages=messages), text[len(beginning) :]


class Continuation:
    """Events of another target's stream -> the part of them that the client does not have. `expected`: the text with
    which they must begin."""

    def __init__(self, given: Given, expected: str) -> None:
        self._given = given
        self._expected = expected
        self._said = 0  # characters of what is expected
        self._blocks: dict[int, int | None] = {}  # index there -> index for the client, None: not passed on
        self._out: list[Event] = []

    def feed(self, events: list[Event]) -> list[Event]:
        """A Failed at the end of what is given back: the two answers differ."""
        self._out = []
        for event in events:
            if type(event) is Failed:
                self._out.append(event)
            elif not self._take(event):
                self._out.append(Failed(_differs()))
                break
        return self._out

    def _take(self, event: Event) -> bool:
        """Whether it agrees with what the client has."""
        if type(event) is Delta:
            return self._delta(event)
        if type(event) is BlockStart:
            return self._begin(event)
        if type(event) is BlockEnd:
            index = self._blocks.get(event.index)
            if index is not None and self._agreed:
                self._pass_on(BlockEnd(index, event.vendor))
        elif type(event) is Finish:
            if not self._agreed:
                return False
            self._end_open_blocks()
            self._pass_on(event)
        return True  # of the rest nothing is passed on: the answer has begun already

    @property
    def _agreed(self) -> bool:
        return self._said == len(self._expected)

    def _pass_on(self, event: Event) -> None:
        self._given.note([event])
        self._out.append(event)

    def _begin(self, event: BlockStart) -> bool:
        if event.kind == "thinking":  # whoever reads has had thoughts, and has come to the answer
            self._blocks[event.index] = None
            return True
        index = self._given.open_text if event.kind == "text" else None
        if index is None:
            if event.kind == "tool_call" and not self._agreed:
                return False
            self._end_open_blocks()
            index = self._given.next_index
            self._pass_on(BlockStart(index, event.kind, event.id, event.name, event.vendor))
        self._blocks[event.index] = index
        return True

    def _delta(self, event: Delta) -> bool:
        index = self._blocks.get(event.index)
        if index is None:
            return True
        text = event.text
        if event.kind == "text" and not self._agreed:
            left = self._expected[self._said : self._said + len(text)]
            if not text.startswith(left):
                return False
            self._said += len(left)
            text = text[len(left) :]
            if not text:
                return True
        self._pass_on(Delta(index, event.kind, text, event.logprobs))
        return True

    def _end_open_blocks(self) -> None:
        for index in self._given.open_blocks:
            self._pass_on(BlockEnd(index))


def _differs() -> GatewayError:
    """Nobody's fault: models seldom say the same twice."""
    return GatewayError("the provider gave another answer than the one that broke off", status=502, scope=Scope.CALLER)
