"""The faults of product.md 5 as data: what the first target's upstream does, what must come of it.

Knows: meaning only, in nobody's wire. Must not know: doors, the gateway, how a case is run (test_fault_matrix).

Each fault has two targets, of which the second answers, unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fakes.script import Script, Trouble

WIRES = ("openai", "responses", "anthropic", "gemini", "huggingface", "ollama")
TEXT = ("one ", "two ", "three")
ANSWER = "one two three"
SAID = Script(text=TEXT)
WORDS = "It broke."  # the provider's own

# Limits are short where one is waited for.
FIRST_BYTE = {"first_byte": "2s"}
FIRST_TOKEN = {"first_token": "2s"}
IDLE = {"idle": "2s"}
TOTAL = {"total": "2s"}


@dataclass(frozen=True)
class Outcome:
    """`asked`: how often each target must have been asked. `by`: 0 or 1, who answers whole; None, nobody does.
    `status` and `words` (a part of them) of an error; status 200 is one inside the stream, after a part of the
    answer, `text`. `words` may be a wire's own."""

    asked: tuple[int, int]
    by: int | None = None
    status: int = 200
    words: str | Mapping[str, str] = ""
    text: str = TEXT[0]
    reason: str = "stop"

    def words_of(self, wire: str) -> str:
        return self.words if isinstance(self.words, str) else self.words[wire]


def answered(first: int) -> Outcome:
    """By the first target, at the last of so many attempts."""
    return Outcome((first, 0), by=0)


def taken_over(first: int) -> Outcome:
    """By the second target, after so many attempts at the first."""
    return Outcome((first, 1), by=1)


def told(status: int, *asked: int, words: str | Mapping[str, str] = WORDS) -> Outcome:
    """A status and the provider's words."""
    first, second = (*asked, 0)[:2]
    return Outcome((first, second), status=status, words=words)


def broken_off(words: str = "provider '", text: str = TEXT[0]) -> Outcome:
    """A part of the answer, then an error in the stream. Nobody else is asked: the client has got something."""
    return Outcome((1, 0), words=words, text=text)


@dataclass(frozen=True)
class Fault:
    """`first` and `second`: what the upstreams answer, in turn, the last for ever; `first` may differ by wire.
    `ways`: "stream", "whole" or both; `limits`: time-outs; `alone`: there is no second target. `known`: what is known
    of the two targets, `ask`: which of test_fault_matrix.ASKS."""

    row: int
    name: str
    first: tuple[Script, ...] | Callable[[str], tuple[Script, ...]]
    outcome: Outcome | Callable[[str], Outcome]
    ways: tuple[str, ...] = ("stream", "whole")
    second: tuple[Script, ...] = (SAID,)
    limits: Mapping[str, str] = field(default_factory=dict)
    alone: bool = False
    known: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None
    ask: str = "count"

    def first_of(self, wire: str) -> tuple[Script, ...]:
        return self.first(wire) if callable(self.first) else self.first

    def outcome_of(self, wire: str) -> Outcome:
        return self.outcome(wire) if callable(self.outcome) else self.outcome


STREAM, WHOLE = ("stream",), ("whole",)


def failed(status: int, after: str | None = None, words: str = WORDS, **more: Any) -> Script:
    """`after`: its Retry-After."""
    return Script(status=status, error=words, headers={"Retry-After": after} if after else {}, **more)


def trouble(kind: Trouble, after: int = 1) -> Script:
    return Script(text=TEXT, trouble=kind, after=after, error=WORDS)


# -- rows 12 and 13: the services' own words ---------------------------------------------------------------------------
TOO_LONG = {
    "openai": ("This model's maximum context length is 10 tokens.", "context_length_exceeded"),
    "responses": ("Your input exceeds the context window of this model.", "context_length_exceeded"),
    "anthropic": ("prompt is too long: 12 tokens > 10 maximum", None),
    "gemini": ("The input token count (12) exceeds the maximum number of tokens allowed (10).", None),
    "huggingface": ("This model's maximum prompt length is 10 but the request contains 12 tokens.", None),
    "ollama": ("the request exceeds the available context size, try increasing it", None),
}
FILTERED = {
    "openai": ("The response was filtered.", "content_filter"),
    "responses": ("The response was filtered.", "content_filter"),
    "anthropic": ("Output blocked by content filtering policy", None),
    "gemini": ("The prompt was blocked by our safety system.", None),
    "huggingface": ("Blocked by the content_filter of the provider.", None),
    "ollama": ("Blocked by the safety system.", None),
}


def refusal(table: Mapping[str, tuple[str, str | None]]) -> Callable[[str], tuple[Script, ...]]:
    def first(wire: str) -> tuple[Script, ...]:
        words, code = table[wire]
        return (failed(400, words=words, error_code=code),)

    return first


def words(table: Mapping[str, tuple[str, str | None]]) -> Mapping[str, str]:
    return {wire: said for wire, (said, _) in table.items()}


# -- rows 12 and 14: what is known of the targets ----------------------------------------------------------------------
EVERYTHING = ["completion", "tools", "vision"]
SMALL, LARGE = {"context_length": 1000}, {"context_length": 100_000}
ABLE = {"capabilities": EVERYTHING}
NO_TOOLS, NO_PICTURES = {"capabilities": ["completion", "vision"]}, {"capabilities": ["completion", "tools"]}

# A finish reason says that the answer is whole. Where it comes with the wire's last word, nothing is left without that.
ENDS_WITH_REASON = {"openai", "huggingface", "anthropic"}


def unfinished(wire: str) -> Outcome:
    return answered(1) if wire in ENDS_WITH_REASON else broken_off(text=ANSWER)


FAULTS = (
    Fault(1, "429, back in a moment", (failed(429, "0.05"), SAID), answered(2)),
    Fault(1, "503, back in a moment", (failed(503, "0.05"), SAID), answered(2)),
    Fault(1, "429, back in 30 s", (failed(429, "30"),), taken_over(1)),
    Fault(2, "429 for ever", (failed(429),), taken_over(2)),
    Fault(2, "429 for ever, nobody else", (failed(429),), told(429, 3), alone=True),
    Fault(3, "500 once", (failed(500), SAID), answered(2)),
    Fault(4, "500 for ever", (failed(500),), taken_over(2)),
    Fault(4, "503 for ever", (failed(503),), taken_over(2)),
    Fault(4, "503 for ever, nobody else", (failed(503),), told(503, 2), alone=True),
    Fault(4, "a page of HTML", (Script(status=502, body=b"<p>Bad</p>", content_type="text/html"),), taken_over(2)),
    Fault(4, "our key is refused", (failed(401),), taken_over(1)),
    Fault(4, "no such model", (failed(404, words="model 'x' not found"),), taken_over(1)),
    Fault(5, "reset before headers", (trouble(Trouble.RESET),), taken_over(2)),
    Fault(5, "reset before headers, once", (trouble(Trouble.RESET), SAID), answered(2)),
    Fault(5, "reset before headers, nobody else", (trouble(Trouble.RESET),), told(502, 2, words="cannot reach"),
          alone=True),
    Fault(5, "reset after headers", (trouble(Trouble.CUT, 0),), taken_over(2)),
    Fault(6, "no response", (trouble(Trouble.SILENT),), taken_over(1), STREAM, limits=FIRST_BYTE),
    Fault(6, "no response", (trouble(Trouble.SILENT),), taken_over(1), WHOLE, limits=TOTAL),
    Fault(6, "no response, nobody else", (trouble(Trouble.SILENT),), told(504, 1, words="sent no answer within 2 s"),
          STREAM, limits=FIRST_BYTE, alone=True),
    Fault(7, "headers, no token", (trouble(Trouble.STALL, 0),), taken_over(1), STREAM, limits=FIRST_TOKEN),
    Fault(7, "headers, no token, nobody else", (trouble(Trouble.STALL, 0),),
          told(504, 1, words="sent no token within 2 s"), STREAM, limits=FIRST_TOKEN, alone=True),
    Fault(8, "cut after a token", (trouble(Trouble.CUT),), broken_off(), STREAM),
    Fault(8, "cut inside", (trouble(Trouble.CUT),), taken_over(2), WHOLE),
    Fault(8, "ends early", (trouble(Trouble.END),), broken_off(), STREAM),
    Fault(8, "ends before a token", (trouble(Trouble.END, 0),), taken_over(2), STREAM),
    Fault(8, "ends early", (trouble(Trouble.END),), taken_over(2), WHOLE),
    Fault(8, "an error after a token", (trouble(Trouble.ERROR),), broken_off(WORDS), STREAM),
    Fault(8, "an error before a token", (trouble(Trouble.ERROR, 0),), taken_over(2), STREAM),
    Fault(9, "stalls after a token", (trouble(Trouble.STALL),), broken_off("no further token within 2 s"), STREAM,
          limits=IDLE),
    Fault(9, "stalls inside", (trouble(Trouble.STALL),), taken_over(1), WHOLE, limits=TOTAL),
    Fault(9, "never comes to its end", (trouble(Trouble.STALL),), broken_off("no end of the answer within 2 s"),
          STREAM, limits=TOTAL),
    Fault(10, "a malformed frame", (trouble(Trouble.MALFORMED),), broken_off(), STREAM),
    Fault(10, "a malformed first frame", (trouble(Trouble.MALFORMED, 0),), taken_over(2), STREAM),
    Fault(10, "half a body", (trouble(Trouble.MALFORMED),), taken_over(2), WHOLE),
    Fault(10, "garbage", (Script(raw=b"\x00\x01garbage\n\n"),), taken_over(2)),
    Fault(11, "no last word", (Script(text=TEXT, done=False),), unfinished, STREAM),
    Fault(12, "too long", refusal(TOO_LONG), told(400, 1, words=words(TOO_LONG))),
    Fault(12, "too long, the next holds more", refusal(TOO_LONG), taken_over(1), known=(SMALL, LARGE)),
    Fault(12, "too long, the next holds no more", refusal(TOO_LONG), told(400, 1, words=words(TOO_LONG)),
          known=(LARGE, SMALL)),
    Fault(13, "refused by a filter", refusal(FILTERED), told(400, 1, words=words(FILTERED))),
    Fault(13, "ended by a filter", (Script(text=TEXT, reason="content_filter"),),
          Outcome((1, 0), by=0, reason="content_filter")),
    Fault(14, "the next takes no tools", (failed(503),), told(503, 2), known=(ABLE, NO_TOOLS), ask="tools"),
    Fault(14, "the next sees no pictures", (failed(503),), told(503, 2), known=(ABLE, NO_PICTURES), ask="picture"),
)  # fmt: skip

# These wait: three attempts in any 3 s are all that a request has.
PATIENT = (
    Fault(1, "429, back in 1 s", (failed(429, "1"), SAID), answered(2)),
    Fault(1, "429, back in a moment, for ever", (failed(429, "0.05"),), taken_over(3)),
    Fault(2, "429 for ever, everywhere", (failed(429),), told(429, 2, 3), second=(failed(429),)),
    Fault(4, "503 for ever, everywhere", (failed(503),), told(503, 2, 2), second=(failed(503),)),
    Fault(11, "no last word, the connection stays open", (Script(text=TEXT, done=False, linger=True),), unfinished,
          STREAM, limits={"idle": "4s"}),
)  # fmt: skip


def runs(faults: tuple[Fault, ...]) -> Iterator[tuple[Fault, str]]:
    for fault in faults:
        for way in fault.ways:
            yield fault, way
