"""What a run prints: the table of goals, and the medians behind it. Both are Markdown.

Knows: layout. Must not know: how anything is measured or judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from figures import Figures
from goals import Row

# Heading -> figure and how it is written.
COLUMNS: dict[str, tuple[str, str]] = {
    "answers/s": ("nonstream.rate", ",.0f"),
    "core busy": ("nonstream.busy", ".0%"),
    "CPU us": ("nonstream.cpu", ",.0f"),
    "delay p50 us": ("latency.p50", ",.0f"),
    "p99": ("latency.p99", ",.0f"),
    "stream start CPU us": ("net.stream", ",.0f"),
    "tokens/s": ("flood.rate", ",.0f"),
    "core busy ": ("flood.busy", ".0%"),
    "token CPU us, flood": ("net.token", ",.2f"),
    "token CPU us, alone": ("paced.cpu", ",.1f"),
    "token on its way p50 us": ("paced.transit_p50", ",.0f"),
    "p99 ": ("paced.transit_p99", ",.0f"),
    "first token p50 us": ("ttft.p50", ",.0f"),
    "p99  ": ("ttft.p99", ",.0f"),
    "MiB/1,000 streams": ("hold.mib", ",.1f"),
}
# What a page has around the figures of the last run written into it.
BEGIN, END = "<!-- figures of the bench -->", "<!-- end of the figures -->"


def goals(rows: Iterable[Row]) -> str:
    lines = [
        "| # | goal | measured | ratio | of what | must | stretch | | rounds |",
        "|---|---|---:|---:|---|---:|---:|---|---|",
    ]
    before = ""
    for row in rows:
        name, title = (row.goal.name, row.goal.title) if row.goal.name != before else ("", "")
        before = row.goal.name
        limit = row.limit
        value = f"{number(row.value)} {limit.unit}".strip() if row.value is not None else ""
        ratio = number(row.judged) if limit.base else ""
        rounds = "-".join(map(number, row.spread)) if row.spread and row.spread[0] != row.spread[1] else ""
        verdict = f"**{row.verdict}**" if row.verdict.isupper() else row.verdict
        lines.append(
            f"| {name} | {title} | {value} | {ratio} | {limit.what} | {bound(row.must, limit.least)} "
            f"| {bound(limit.stretch, limit.least)} | {verdict}{': ' + row.why if row.why else ''} | {rounds} |"
        )
    return "\n".join(lines)


def medians(figures: Figures, order: Iterable[str]) -> str:
    """One line a target, with the columns that somebody has a figure for; empty when there is none."""
    targets = [target for target in order if target in figures.targets()]
    columns = {
        heading: (figure, form)
        for heading, (figure, form) in COLUMNS.items()
        if any(figures.of(target, figure) for target in targets)
    }
    if not columns:
        return ""
    lines = ["| | " + " | ".join(heading.strip() for heading in columns) + " |", "|---|" + "---:|" * len(columns)]
    for target in targets:
        cells = []
        for figure, form in columns.values():
            value = figures.median(target, figure)
            cells.append("" if value is None else format(value, form))
        lines.append(f"| {target} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def put_into(
    page: Path, setting: Mapping[str, str], rows: Iterable[Row], figures: Figures, order: Iterable[str]
) -> None:
    """Replaces what stands between the page's marks; the rest stays. Raises ValueError without them."""
    before, after = around_marks(page)
    parts = ["\n".join(f"- {name}: {value}" for name, value in setting.items()), goals(rows), medians(figures, order)]
    if figures.faults:
        parts.append("\n".join(f"- {line}" for line in faults(figures).splitlines()))
    page.write_text(f"{before}{BEGIN}\n" + "\n\n".join(parts) + f"\n{END}{after}", encoding="utf-8")


def around_marks(page: Path) -> tuple[str, str]:
    """The text before and after the marks. Raises OSError, and ValueError when they are not there."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{page} lacks the lines {BEGIN} and {END}")
    return before, after


def faults(figures: Figures) -> str:
    return "\n".join(
        f"{target}, {scenario}: " + "; ".join(f"{what} ({count} times)" for what, count in found.most_common(5))
        for (target, scenario), found in figures.faults.items()
    )


def bound(value: float | None, least: bool) -> str:
    return "" if value is None else f"{'>=' if least else '<='} {number(value)}"


def number(value: float | None) -> str:
    if value is None:
        return ""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"
