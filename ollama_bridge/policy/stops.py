"""Stop strings that the gateway finds itself, for targets that take none or too few.

Knows: events. Must not know: why they are cut here (a profile says so), frames, how an upstream is closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from ..events import BlockEnd, BlockStart, Delta, Event, Failed, Finish


class StopCutter:
    """Ends a stream at the first stop string in its text. One for each stream.

    Text that may be the beginning of a stop string is held back until it is clear, at most the longest string less
    one character. Thoughts and tool calls pass as they are. Of several strings the one that is complete first counts,
    so that the answer does not depend on how the text came in pieces; of two complete at once, the longer.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = sorted((stop for stop in stops if stop), key=len, reverse=True)
        self._longest = len(self._stops[0]) if self._stops else 0
        self._open: list[int] = []  # blocks without their end, in the order they began
        self._tail = _Tail()
        self._hit = False

    def feed(self, events: list[Event]) -> tuple[list[Event], bool]:
        """-> (what may be passed on, whether a stop string was found). After a hit the upstream can be closed: the
        events end with a Finish, and every further call gives nothing. Its usage is the provider's if that came in
        the same events, else empty (to be estimated, providers.md 3.3)."""
        if self._hit:
            return [], True
        out: list[Event] = []
        for position, event in enumerate(events):
            if type(event) is Delta and event.kind == "text":
                if self._text(event, out):
                    self._finish(events[position:], out)
                    return out, True
                continue
            if type(event) is BlockStart:
                self._open.append(event.index)
            elif type(event) is BlockEnd:
                if event.index in self._open:
                    self._open.remove(event.index)
                if event.index == self._tail.index:
                    self._release(out)
            elif type(event) is Finish or type(event) is Failed:
                self._release(out)
            out.append(event)
        return out, False

    def _text(self, event: Delta, out: list[Event]) -> bool:
        tail = self._tail
        if event.index != tail.index:
            self._release(out)
            self._tail = tail = _Tail(event.index)
        tail.add(event)
        found = min(
            ((at + len(stop), at) for stop in self._stops if (at := tail.text.find(stop)) >= 0),
            default=None,
        )
        safe = len(tail.text) - self._unclear(tail.text) if found is None else found[1]
        tail.pass_on(safe, out)
        return found is not None

    def _unclear(self, text: str) -> int:
        """Length of the longest end of the text that some stop string begins with."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            end = text[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0

    def _release(self, out: list[Event]) -> None:
        """No stop string reaches over the end of a block: what was held back goes out."""
        self._tail.pass_on(len(self._tail.text), out)

    def _finish(self, rest: list[Event], out: list[Event]) -> None:
        self._hit = True
        out += [BlockEnd(index) for index in self._open]
        finish = next((event for event in rest if type(event) is Finish), None)
        out.append(Finish("stop", finish.usage, finish.vendor) if finish else Finish("stop"))


class _Tail:
    """Text of one block that has not gone out, with the logprobs that belong to it."""

    def __init__(self, index: int = -1) -> None:
        self.index = index
        self.text = ""
        self._logprobs: deque[tuple[int, dict[str, Any]]] = deque()  # (where in the text the token ends, item)

    def add(self, event: Delta) -> None:
        """Tokens of half a character have no length of their own in the text: the last item of a piece ends where
        the piece ends."""
        end = len(self.text)
        self.text += event.text
        items = event.logprobs or []
        for position, item in enumerate(items):
            last = position == len(items) - 1
            end = len(self.text) if last else min(len(self.text), end + len(item.get("token", "")))
            self._logprobs.append((end, item))

    def pass_on(self, length: int, out: list[Event]) -> None:
        """The first `length` characters, with the logprobs of tokens that lie in them whole."""
        ready: list[dict[str, Any]] = []
        while self._logprobs and self._logprobs[0][0] <= length:
            ready.append(self._logprobs.popleft()[1])
        if not length and not ready:
            return
        out.append(Delta(self.index, "text", self.text[:length], ready or None))
        self.text = self.text[length:]
        self._logprobs = deque((end - length, item) for end, item in self._logprobs)
