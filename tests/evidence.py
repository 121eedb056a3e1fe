"""What came of each fault, as a page for docs/evidence.

Knows: an answer as its client heard it, and how often the first target was asked. Must not know: what ought to come of
a fault; that is judged elsewhere, and what is written here is what was seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from doors import Heard
from faults import WIRES
from soak.figures import page

PAGE = Path(__file__).resolve().parent.parent / "docs" / "evidence" / "faults.md"
FILES = "tests/test_fault_matrix.py tests/test_fault_life.py tests/test_fault_llmock.py"
COMMAND = f"pytest {FILES} --write-evidence"
ABOUT = """\
Every request has two targets (`nobody else`: one), and the first does what the row says. What is told here was seen
from outside: by the fake upstreams, which counted, and by a client that judged every frame. After each fault the
gateway was asked whether it is well, nothing was under way in it any more, and it had logged no bug. No request was
sent on more than three times in any three seconds.

- `answer`: whole, by the first target; `at attempt 2`: which had been asked before
- `fallback after 2`: whole, by the second target, which it names, after two attempts at the first
- `502 after 2`: that status, after two attempts, in the provider's own words where it had any
- `in-stream error`: a part of the answer had reached the client; an error follows it in the stream, and no end

1 too many requests, with a time to wait · 2 the same, without one · 3 one failure · 4 failures for ever · 5 a reset ·
6 silence · 7 a late first token · 8 a cut stream · 9 a stall · 10 a malformed frame · 11 no last word · 12 too long a
conversation · 13 a content filter · 14 a fallback that lacks something · 15 down, then well · 16 who is named and
billed · 17 the client leaves · 19 the end of the process · 20 a reload · 21 junk. Row 18, a shared Redis, is the
matter of `make chaos`.
"""


@dataclass(frozen=True)
class Seen:
    """`door`, `way` and `wire` may be "both"."""

    row: int
    fault: str
    way: str
    door: str
    wire: str
    outcome: str
    source: str


_seen: dict[Seen, None] = {}  # in the order in which they came


def record(row: int, fault: str, way: str, door: str, wire: str, outcome: str, source: str = "fakes") -> None:
    _seen[Seen(row, fault, way, door, wire, outcome, source)] = None


def outcome(heard: Heard, asked: int, first: str) -> str:
    """In a few words. `asked`: how often the first target was; `first`: its provider."""
    if heard.status >= 400:
        return f"{heard.status} after {asked}"
    if heard.error is not None:
        return "in-stream error"
    if not heard.finished or heard.cut:
        return "**ended silently**"
    if not heard.headers.get("x-bridge-target", "").startswith(f"{first}/"):
        return f"fallback after {asked}"
    trimmed = ", trimmed" if "x-bridge-trimmed" in heard.headers else ""
    return ("answer" if asked <= 1 else f"answer at attempt {asked}") + trimmed


def write() -> None:
    """Raises ValueError when a part was not run."""
    parts = [ABOUT]
    theirs = f"The server of llmock {version('llmock')}, by others"
    for source, title in (("fakes", "Our own fakes, which refuse what the services refuse"), ("llmock", theirs)):
        seen = [each for each in _seen if each.source == source]
        if not seen:
            raise ValueError(f"nothing was seen of {source}: run {COMMAND}")
        parts.append(f"## {title}\n\n{_table(seen)}")
    PAGE.write_text(page("What comes of faults", COMMAND, parts), encoding="utf-8")


def _table(seen: list[Seen]) -> str:
    wires = sorted(dict.fromkeys(each.wire for each in seen), key=lambda wire: (*WIRES, wire).index(wire))
    rows: dict[tuple[int, str, str, str], dict[str, str]] = {}
    for each in seen:
        rows.setdefault((each.row, each.fault, each.way, each.door), {})[each.wire] = each.outcome
    names = ["fault", "stream or whole", "door", *wires]
    lines = [f"| row | {' | '.join(names)} |", "| ---: " + "| --- " * len(names) + "|"]
    done = set()
    for key in sorted(rows, key=lambda key: key[0]):
        if key in done:
            continue
        row, fault, *_ = key
        like = [other for other in rows if other[:2] == key[:2] and rows[other] == rows[key]]
        done.update(like)
        way, door = (_together([other[place] for other in like]) for place in (2, 3))
        cells = " | ".join(rows[key].get(wire, "") for wire in wires)
        lines.append(f"| {row} | {fault} | {way} | {door} | {cells} |")
    return "\n".join(lines) + "\n"


def _together(words: list[str]) -> str:
    found = list(dict.fromkeys(words))
    return found[0] if len(found) == 1 else "both"
