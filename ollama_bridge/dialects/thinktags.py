"""Thoughts that a model writes into its text, between <think> and </think>.

Knows: the tags, and how Ollama's own parser treats the white space around them (ollama-protocol.md 2.6). Must not know:
wires, events.

    "<think>\\nhm, 4\\n</think>\\n\\nFour."   ->   ("thinking", "hm, 4\\n"), ("text", "Four.")
"""

from __future__ import annotations

from typing import Literal

OPEN = "<think>"
CLOSE = "</think>"
LONGEST_LEAD = 256  # characters of white space that may stand before the first tag

Kind = Literal["thinking", "text"]
Piece = tuple[Kind, str]


class ThinkTags:
    """Splits a text that comes in pieces. A tag counts where it is the first thing said; with `everywhere` also later.

    What is held back is bounded: the white space before the first word, and the beginning of what may become a tag.
    `settled`: nothing is held back and no tag can follow, so the rest need not pass through here.
    """

    __slots__ = ("_everywhere", "_held", "_place", "_trim", "settled")

    def __init__(self, everywhere: bool = False) -> None:
        self._everywhere = everywhere
        self._held = ""
        self._place: Literal["start", "inside", "outside"] = "start"
        self._trim = False  # white space right after a tag is not shown
        self.settled = False

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain."""
        self._held += text
        pieces: list[Piece] = []
        while self._held and self._step(pieces):
            pass
        self.settled = self._place == "outside" and not (self._everywhere or self._held or self._trim)
        return pieces

    def passes(self, text: str) -> bool:
        """Whether `feed` would give back nothing but this piece, as text."""
        return self._place == "outside" and not (self._held or self._trim or "<" in text)

    def end(self) -> list[Piece]:
        """What was held back when the text ended: half a tag is text after all."""
        held, self._held = self._held, ""
        if self._trim:
            held = held.lstrip()
        return [("thinking" if self._place == "inside" else "text", held)] if held else []

    def _step(self, pieces: list[Piece]) -> bool:
        """One decision; False when it needs more text."""
        if self._trim:
            self._held = self._held.lstrip()
            self._trim = not self._held
            return not self._trim
        if self._place == "start":
            return self._first()
        if self._place == "inside":
            return self._until(CLOSE, "thinking", pieces)
        if self._everywhere:
            return self._until(OPEN, "text", pieces)
        self._say("text", len(self._held), pieces)
        return False

    def _first(self) -> bool:
        """Is the first thing said a tag? White space before a tag is dropped, before anything else it is text."""
        word = self._held.lstrip()
        if word.startswith(OPEN):
            self._held = word[len(OPEN) :]
            self._place, self._trim = "inside", True
            return True
        if OPEN.startswith(word) and len(self._held) <= LONGEST_LEAD:
            return False
        self._place = "outside"
        return True

    def _until(self, tag: str, kind: Kind, pieces: list[Piece]) -> bool:
        at = self._held.find(tag)
        if at < 0:
            self._say(kind, len(self._held) - _overlap(self._held, tag), pieces)
            return False
        self._say(kind, at, pieces)
        self._held = self._held[len(tag) :]
        self._place = "outside" if self._place == "inside" else "inside"
        self._trim = True
        return True

    def _say(self, kind: Kind, length: int, pieces: list[Piece]) -> None:
        if length:
            pieces.append((kind, self._held[:length]))
            self._held = self._held[length:]


def split(text: str, everywhere: bool = False) -> list[Piece]:
    """A whole text at once."""
    tags = ThinkTags(everywhere)
    return tags.feed(text) + tags.end()


def _overlap(text: str, tag: str) -> int:
    """How much of the end of `text` may be the beginning of `tag`."""
    for length in range(min(len(tag) - 1, len(text)), 0, -1):
        if text.endswith(tag[:length]):
            return length
    return 0
