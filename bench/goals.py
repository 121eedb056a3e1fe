"""The goals P1 to P18 of performance.md 10, without those against rivals, and P19: which figure, against what.

Knows: limits. Must not know: how a figure is measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from figures import Figures

GATE_SLACK = 1.3  # what a noisy machine may add to a limit of the gate
Verdict = Literal["ok", "stretch", "MISSED", "FAULTS", "not measured", "-"]


@dataclass(frozen=True)
class Limit:
    """One number that must hold: `subject`'s `figure`, or its ratio to that of `base`, is at most `must`.

    With `least` it is at least `must`. Without `must` the figure is only shown. `gate`: part of the short check.
    `best`: judged by the best round, not by the median: for seconds that no reference divides, as neighbours only add.
    """

    figure: str
    what: str
    must: float | None = None
    stretch: float | None = None
    base: str | None = None
    base_figure: str | None = None
    subject: str = "bridge"
    least: bool = False
    gate: bool = False
    best: bool = False
    unit: str = ""

    def scenarios(self) -> set[str]:
        """Names of what has to be measured for it."""
        figures = [self.figure, self.base_figure or self.figure]
        return {scenario for figure in figures for scenario in _scenarios_of(figure)}

    def targets(self) -> set[str]:
        derived = {"direct"} if self.figure.startswith("added.") else set()
        return {self.subject} | derived | ({self.base} if self.base else set())


@dataclass(frozen=True)
class Goal:
    name: str
    title: str
    limits: tuple[Limit, ...]


@dataclass(frozen=True)
class Row:
    """A limit with what was measured: `value` is the subject's own figure, `judged` what the limit is about."""

    goal: Goal
    limit: Limit
    value: float | None
    judged: float | None
    spread: tuple[float, float] | None
    must: float | None
    verdict: Verdict
    why: str = ""


def _scenarios_of(figure: str) -> tuple[str, ...]:
    scenario, _, what = figure.partition(".")
    match scenario:
        case "net":
            return ("flood", "short")
        case "added":
            return (what.partition("_")[0],)
        case "hold_large":
            return ("hold",)
        case _:
            return (scenario,)


WIRES = ("anthropic", "gemini", "huggingface")


def _limits_of(wire: str) -> tuple[Limit, ...]:
    """P14: against a floor that copies the same wire's bytes."""
    floor = f"{wire} floor"
    return (
        Limit("net.token", f"{wire}, flood, x its floor", 4.5, 2.5, base=floor, subject=wire, unit="us"),
        Limit("paced.cpu", f"{wire}, alone, x its floor", 2.2, base=floor, subject=wire, unit="us"),
    )


GOALS: tuple[Goal, ...] = (
    Goal(
        "P1",
        "whole answers a second",
        (
            Limit("nonstream.rate", "x typed", 2.5, base="typed", least=True, unit="/s"),
            Limit("added.latency_p50", "added delay p50, x floor", base="floor", unit="us"),
        ),
    ),
    Goal(
        "P2",
        "CPU of a whole answer",
        (
            Limit("nonstream.cpu", "x floor", 5.0, 1.5, base="floor", gate=True, unit="us"),
            Limit("nonstream.cpu", "x translate", 4.5, base="translate", unit="us"),
        ),
    ),
    Goal(
        "P3",
        "CPU to start a stream, net",
        (Limit("net.stream", "x floor", 4.5, 1.5, base="floor", gate=True, unit="us"),),
    ),
    Goal(
        "P4",
        "CPU of a token in a flood, net",
        (
            Limit("net.token", "x floor", 3.0, 1.2, base="floor", gate=True, unit="us"),
            Limit("net.token", "x typed", 0.04, base="typed", gate=True, unit="us"),
        ),
    ),
    Goal(
        "P5",
        "tokens a second in a flood",
        (
            Limit("flood.rate", "x floor", 0.33, 0.7, base="floor", least=True, unit="/s"),
            Limit("flood.rate", "x typed", 20.0, base="typed", least=True, unit="/s"),
        ),
    ),
    Goal(
        "P6",
        "CPU of a token that comes alone",
        (
            Limit("paced.cpu", "x floor", 1.6, 1.1, base="floor", gate=True, unit="us"),
            Limit("paced.cpu", "x typed", 0.45, base="typed", gate=True, unit="us"),
        ),
    ),
    Goal(
        "P7",
        "a token's way through",
        (
            Limit("paced.transit_p50", "p50, x floor", 1.5, base="floor", unit="us"),
            Limit("paced.transit_p99", "p99, x floor", None, 2.0, base="floor", unit="us"),
        ),
    ),
    Goal(
        "P8",
        "delay added to the first token",
        (
            Limit("added.ttft_p50", "p50, x floor", 3.5, 2.0, base="floor", unit="us"),
            Limit("added.ttft_p99", "p99, x floor", base="floor", unit="us"),
        ),
    ),
    Goal(
        "P9",
        "memory of 1,000 open streams",
        (
            Limit("hold.mib", "x floor", 1.5, 0.8, base="floor", gate=True, unit="MiB"),
            Limit("hold.mib", "MiB", 42.0, gate=True, unit="MiB"),
            Limit(
                "hold_large.mib",
                "50 KB prompts, x small",
                1.2,
                base="bridge",
                base_figure="hold.mib",
                gate=True,
                unit="MiB",
            ),
        ),
    ),
    Goal(
        "P10",
        "memory with nothing to do",
        (Limit("idle.mib", "MiB", 70.0, unit="MiB"), Limit("idle.sdks", "SDKs loaded", 0.0)),
    ),
    Goal(
        "P11",
        "1,000 slow streams at once",
        (
            Limit("crowd.first", "with a first token", 1000.0, least=True),
            Limit("crowd.faults", "faults", 0.0),
            Limit("crowd.off", "upstream connections more or less", 0.0),
        ),
    ),
    Goal(
        "P12",
        "upstream connections kept",
        (
            Limit("reuse.opened", "for 16 clients", 16.0),
            Limit("reuse.again", "new after a pause", 0.0),
        ),
    ),
    Goal(
        "P13",
        "/v1 relayed, CPU of a token",
        (
            Limit("net.token", "flood, x floor", 1.5, 1.1, base="floor", subject="relay", unit="us"),
            Limit("paced.cpu", "alone, x floor", 1.5, 1.1, base="floor", subject="relay", unit="us"),
        ),
    ),
    Goal("P14", "other wires, CPU of a token", tuple(limit for wire in WIRES for limit in _limits_of(wire))),
    Goal(
        "P15",
        "two workers on two cores",
        (
            Limit("workers.requests", "requests, x one", 1.5, 1.8, least=True),
            Limit("workers.tokens", "tokens, x one", 1.5, 1.8, least=True),
        ),
    ),
    Goal(
        "P16",
        "a full garbage collection",
        (Limit("collector.started", "ms after the first chat", 10.0, unit="ms"),),
    ),
    Goal(
        "P17",
        "client leaves mid-stream",
        (
            Limit("leavers.ms", "ms until upstream closes, worst", 100.0, unit="ms"),
            Limit("leavers.left", "not noticed", 0.0),
            Limit("leavers.tracebacks", "tracebacks", 0.0),
        ),
    ),
    Goal(
        "P18",
        "start to first answer",
        (
            Limit("start.cpu", "s of CPU, best round", 1.5, 1.0, best=True, unit="s"),
            Limit("start.cpu", "x typed", base="typed", unit="s"),
            Limit("start.wall", "s", unit="s"),
            Limit("start.mib", "MiB then", unit="MiB"),
        ),
    ),
    Goal(
        "P19",
        "what routing, limits and breakers add",
        (
            Limit("nonstream.cpu", "whole answer, x without", 1.1, base="plain", subject="guarded", unit="us"),
            Limit("short.cpu_stream", "32 tokens, x without", 1.1, base="plain", subject="guarded", unit="us"),
        ),
    ),
)


def chosen(names: Iterable[str], gate: bool) -> list[Goal]:
    """The goals of these names (all, for none of them); of the gate only what it checks. Raises ValueError."""
    wanted = list(names)
    known = {goal.name for goal in GOALS}
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"no such goal: {', '.join(unknown)}")
    goals = [goal for goal in GOALS if not wanted or goal.name in wanted]
    if not gate:
        return goals
    cut = [Goal(goal.name, goal.title, tuple(limit for limit in goal.limits if limit.gate)) for goal in goals]
    return [goal for goal in cut if goal.limits]


def judge(goals: Iterable[Goal], figures: Figures, unavailable: dict[str, str], gate: bool) -> list[Row]:
    """`unavailable`: scenario -> why it could not be measured."""
    return [_judged(goal, limit, figures, unavailable, gate) for goal in goals for limit in goal.limits]


def _judged(goal: Goal, limit: Limit, figures: Figures, unavailable: dict[str, str], gate: bool) -> Row:
    must = limit.must
    if must is not None and gate:
        must = must / GATE_SLACK if limit.least else must * GATE_SLACK
    value = figures.median(limit.subject, limit.figure)
    if limit.base:
        judged = figures.ratios(limit.subject, limit.figure, limit.base, limit.base_figure)
    else:
        judged = list(figures.of(limit.subject, limit.figure).values())
    scenarios = limit.scenarios() | {limit.figure.partition(".")[0]}  # hold_large has faults of its own
    if any((limit.subject, scenario) in figures.faults for scenario in scenarios):
        return Row(goal, limit, value, None, None, must, "FAULTS", "see below")
    if not judged:
        why = next((unavailable[name] for name in scenarios if name in unavailable), "no figure")
        return Row(goal, limit, value, None, None, must, "not measured", why)
    middle = statistics.median(judged)
    if limit.best:
        middle = value = max(judged) if limit.least else min(judged)
    spread = (min(judged), max(judged))
    verdict: Verdict = "-"
    if must is not None:
        verdict = "ok" if _holds(middle, must, limit.least) else "MISSED"
    if limit.stretch is not None and verdict != "MISSED" and _holds(middle, limit.stretch, limit.least):
        verdict = "stretch"
    return Row(goal, limit, value, middle, spread, must, verdict)


def _holds(value: float, bound: float, least: bool) -> bool:
    return value >= bound if least else value <= bound
