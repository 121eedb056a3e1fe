"""What was asked of real programs and what they said, kept as Markdown in docs/evidence.

Knows: what must not stand in a document: paths and ports of this machine, colours and cursor movements. Must not know:
which program speaks.
"""

from __future__ import annotations

import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LONGEST = 1500  # characters of one block
_QUESTION = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_LOOK = re.compile(r"\x1b\[[0-9;?]*[A-CE-JL-Za-z]")  # colours, modes, moves: all but the two below
_TAKEN_BACK = re.compile(r"\x1b\[(\d+)D\x1b\[K")  # so many columns to the left, and what stood there erased
_LEFT = re.compile(r"\x1b\[[0-9;?]*[DK]")
_SPINNER = re.compile(r"[⠀-⣿] ")


def plain(text: str) -> str:
    """What a person reads of a terminal's output in the end: no escapes, no spinners, nothing that was taken back."""
    shown, *rest = _TAKEN_BACK.split(_LOOK.sub("", _QUESTION.sub("", text)))
    for columns, more in zip(rest[::2], rest[1::2], strict=True):
        shown = shown[: -int(columns)] + more
    return _SPINNER.sub("", _LEFT.sub("", shown)).replace("\r\n", "\n").replace("\r", "")


class Transcript:
    """One document. `about`: a line for each program."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.about: list[str] = []
        self._hidden: dict[str, str] = {}
        self._parts: list[str] = []

    def hide(self, text: str, words: str) -> None:
        self._hidden[text] = words

    def heading(self, text: str) -> None:
        self._parts.append(f"\n## {text[:1].upper()}{text[1:]}\n")

    def block(self, text: str) -> None:
        shown = self._cleaned(text).rstrip()
        if len(shown) > LONGEST:
            half = LONGEST // 2
            shown = f"{shown[:half]}\n… {len(shown) - 2 * half} characters …\n{shown[-half:]}"
        self._parts.append(f"\n```\n{shown}\n```\n")

    def save(self, path: Path) -> None:
        head = f"# {self.title}\n\nWritten by `make test-real` on {datetime.now(UTC):%Y-%m-%d}, {_commit()}; "
        head += f"{platform.system()} {platform.machine()}, Python {platform.python_version()}.\n\n"
        head += "".join(f"- {line}\n" for line in self.about)
        path.parent.mkdir(exist_ok=True)
        path.write_text(head + "".join(self._parts), encoding="utf-8")

    def _cleaned(self, text: str) -> str:
        text = plain(text)
        for hidden in sorted(self._hidden, key=len, reverse=True):
            text = text.replace(hidden, self._hidden[hidden])
        return "\n".join(line.rstrip() for line in text.splitlines())


def _commit() -> str:
    """The commit whose package ran, and whether it was changed since."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=ROOT).stdout.strip()

    changed = git("status", "--porcelain", "--", "ollama_bridge")
    return f"commit {git('rev-parse', '--short', 'HEAD') or 'unknown'}{' with changes' if changed else ''}"
