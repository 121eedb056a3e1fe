"""What a run prints: the table of goals, and the medians behind it. Both are Markdown.

Knows: layout. Must not know: how anything is measured or judged.
"""

from __future__ import annotations

from collections.abc import Iterable

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
ORDER = ("direct", "floor", "translate", "typed", "bridge", "relay")


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
        if limit is None:
            lines.append(f"| {name} | {title} | | | | | | {row.verdict}: {row.why} | |")
            continue
        value = f"{number(row.value)} {limit.unit}".strip() if row.value is not None else ""
        ratio = number(row.judged) if limit.base else ""
        rounds = "-".join(map(number, row.spread)) if row.spread and row.spread[0] != row.spread[1] else ""
        verdict = f"**{row.verdict}**" if row.verdict.isupper() else row.verdict
        lines.append(
            f"| {name} | {title} | {value} | {ratio} | {limit.what} | {bound(row.must, limit.least)} "
            f"| {bound(limit.stretch, limit.least)} | {verdict}{': ' + row.why if row.why else ''} | {rounds} |"
        )
    return "\n".join(lines)


def medians(figures: Figures) -> str:
    """One line a target, with the columns that somebody has a figure for; empty when there is none."""
    targets = [target for target in ORDER if target in figures.targets()]
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
