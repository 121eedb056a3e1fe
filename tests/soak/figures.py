"""What a long run concludes, and how its page looks.

Knows: regression lines, Markdown. Must not know: what was asked.
"""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from soak.world import ROOT, Sample

SLOPE_AT_MOST = 1.0  # MB for 10,000 requests
BLOCKS_AT_MOST = 1_000  # blocks of Python's for 10,000 requests: what stays of every request is 10,000 or more
ARENA = 1.05  # MB that Python takes at a time: one such step in a short run is no slope
PER = 10_000


@dataclass(frozen=True)
class Figure:
    """One line of the table. `good` None: told, not judged."""

    name: str
    value: str
    must: str = ""
    good: bool | None = None


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the line through (requests, MB) that has the least squares: MB for PER requests."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return PER * sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def bugs(log: str) -> list[str]:
    """Lines that tell of one."""
    return [line for line in log.splitlines() if re.search(r'Traceback|"level":"error"|never retrieved|Unclosed', line)]


def left_over(idle: Sample, after: Sample) -> list[Figure]:
    """What the process holds once clients and upstreams have gone, beside what it held before they came."""
    return [
        Figure(
            f"{name} before, and when all is closed", f"{before}, then {now}", "no more than before", now <= before
        )
        for name, before, now in (("sockets", idle.sockets, after.sockets), ("tasks", idle.tasks, after.tasks))
    ]  # fmt: skip


def percentile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def table(figures: Iterable[Figure]) -> str:
    marks = {True: "yes", False: "**no**", None: ""}
    rows = "".join(f"| {f.name} | {f.value} | {f.must} | {marks[f.good]} |\n" for f in figures)
    return "| figure | measured | must be | good |\n| --- | ---: | ---: | --- |\n" + rows


def page(title: str, command: str, parts: Iterable[str]) -> str:
    """The document, with who wrote it and when."""
    head = f"# {title}\n\nWritten by `{command}` on {datetime.now(UTC):%Y-%m-%d}, {_commit()}; "
    head += f"{platform.system()} {platform.machine()}, Python {platform.python_version()}.\n"
    return head + "".join(f"\n{part}" for part in parts)


def publish(text: str, path: str | None) -> None:
    print(text)
    if path is not None:
        Path(ROOT, path).write_text(text, encoding="utf-8")


def _commit() -> str:
    """The commit whose package ran, and whether it was changed since."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=ROOT).stdout.strip()

    changed = git("status", "--porcelain", "--", "ollama_bridge")
    return f"commit {git('rev-parse', '--short', 'HEAD') or 'unknown'}{' with changes' if changed else ''}"
