"""Measures what the bridge costs, beside the least and the usual cost of the same work in the same run.

    python bench/run.py                  all goals, 5 rounds: up to 10 minutes
    python bench/run.py --quick          all goals, 1 short round: a minute; for a first look, not for a conclusion
    python bench/run.py --gate           P2 P3 P4 P6 P9 with 30 % of slack, 3 rounds: exit code 1 when one is missed
    python bench/run.py --only P4,P6     what these goals need, nothing else
    python bench/run.py --page docs/performance.md   all goals, the tables of that page made anew

README.md explains the method and the table. Linux, loopback only.
Exit codes: 0 measured, 1 the gate is missed, 2 something did not start or the arguments are wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import gateways
import goals
import tables
from checks import CHECKS, REPEATED, RESTED, Bench, Mode
from figures import Figures
from gateways import Cores, Gateway, NotStarted
from loops import new_event_loop
from scenarios import SCENARIOS, measure
from targets import PLACES, start

FULL = Mode(rounds=5, effort=1.0, holders=500, requests=10_000, pause=30.0, limit=600.0, kept=150.0)
GATE = Mode(rounds=3, effort=0.6, holders=400, requests=0, pause=0.0, limit=150.0, kept=50.0)
QUICK = Mode(rounds=1, effort=0.2, holders=150, requests=1_000, pause=2.0, limit=60.0, kept=20.0)
STEAL = 7  # the place of stolen time among the words of /proc/stat


class Progress:
    """Lines on standard error: what is being done, after how many seconds."""

    def __init__(self, mode: Mode) -> None:
        self._began = time.monotonic()
        self._limit = mode.limit
        self._live = sys.stderr.isatty()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def say(self, what: str, *, passing: bool = False) -> None:
        """`passing`: overwritten by the next line where that can be done, left out elsewhere."""
        line = f"[{self.elapsed:4.0f} s of {self._limit:.0f} at most] {what}"
        if self._live:
            print(f"\r\033[K{line}", end="" if passing else "\n", file=sys.stderr, flush=True)
        elif not passing:
            print(line, file=sys.stderr, flush=True)

    def has_time_for(self, seconds: float) -> bool:
        return self.elapsed + seconds <= self._limit


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    mode = GATE if options.gate else QUICK if options.quick else FULL
    try:
        wanted = goals.chosen(options.only, options.gate)
        cores = Cores(*options.cores) if options.cores else Cores.of_machine()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    rounds = options.rounds or mode.rounds
    progress = Progress(mode)
    if cores.gateway == cores.tools:
        progress.say("one core only: rates and delays mean nothing, CPU and memory do")
    gateways.lift_file_limit()
    os.sched_setaffinity(0, {cores.tools})
    began, ticks = datetime.now(UTC), cpu_ticks()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        asyncio.Runner(loop_factory=new_event_loop) as runner,
    ):
        try:
            with Gateway(gateways.upstream(), {cores.tools}, Path(folder)) as upstream:
                bench = Bench(runner, cores, Path(folder), upstream, mode)
                times = 1 if options.quick else rounds
                alone(bench, wanted, RESTED, times, progress)
                done = steady(bench, wanted, rounds, progress, everything=mode is FULL and not options.only)
                alone(bench, wanted, CHECKS.keys() - RESTED, times, progress)
        except NotStarted as error:
            print(f"\n{error}. It said:\n{error.said}", file=sys.stderr)
            return 2
    bench.figures.derive()
    rows = goals.judge(wanted, bench.figures, bench.unavailable, options.gate)
    progress.say("done")
    taken = [now - before for now, before in zip(cpu_ticks(), ticks, strict=True)]
    setting = circumstances(cores, began, progress.elapsed, done, mode)
    setting["stolen"] = f"{taken[STEAL] / sum(taken):.0%} of the time of all cores, by other machines of the same host"
    print("\n".join(f"{name}: {value}" for name, value in setting.items()))
    print(f"\n{tables.goals(rows)}\n\n{tables.medians(bench.figures, PLACES)}")
    if bench.figures.faults:
        print(f"\nFaults\n{tables.faults(bench.figures)}")
    if options.page:
        tables.put_into(options.page, setting, rows, bench.figures, PLACES)
    if options.json:
        write_json(options.json, setting, rows, bench.figures)
    failing = {"MISSED", "FAULTS"} | ({"not measured"} if options.gate else set())
    missed = sum(row.verdict in failing for row in rows)
    print(f"\n{missed} of {len(rows)} missed" + (f" (limits with {goals.GATE_SLACK:.0%})" if options.gate else ""))
    return 1 if options.gate and missed else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--gate", action="store_true", help="the short check, with an exit code")
    size.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], metavar="P4,P6", help="these goals")
    parser.add_argument("--rounds", type=int, metavar="N", help="instead of 5 (gate 3, quick 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every figure of every round, and the verdicts")
    parser.add_argument("--page", type=Path, metavar="FILE", help="replaces the figures between the marks of this page")
    parser.add_argument(
        "--cores",
        type=lambda text: tuple(map(int, text.split(","))),
        metavar="GATEWAY,TOOLS",
        help="numbers of the two cores; on machines with hyper-threads take two that share nothing",
    )
    options = parser.parse_args(arguments)
    if options.cores and len(options.cores) != 2:
        parser.error("--cores takes two numbers")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds takes at least 1")
    if options.page:
        if options.gate or options.only:
            parser.error("--page takes all goals")
        try:
            tables.around_marks(options.page)
        except (OSError, ValueError) as error:
            parser.error(str(error))
    return options


def steady(bench: Bench, wanted: Sequence[goals.Goal], rounds: int, progress: Progress, *, everything: bool) -> int:
    """The scenarios on gateways that all run at once, interleaved -> rounds done.

    In every round each scenario meets its targets in shuffled order, so that a noisy neighbour hits them alike.
    `everything`: also what no goal asks for, to fill the table of medians.
    """
    limits = [limit for goal in wanted for limit in goal.limits]
    plan: dict[str, set[str]] = {name: set() for name in SCENARIOS}
    for limit in limits:
        for scenario in limit.scenarios() & plan.keys():
            plan[scenario] |= limit.targets()
    names = set().union(*plan.values())
    if everything:
        asked_always = {name for name in names if not PLACES[name].aside}
        plan = {scenario: asked_always | plan[scenario] for scenario in plan}
    if not names:
        return 0
    with ExitStack() as running:
        targets = start(bench, names, running)
        shuffled = random.Random()
        if everything:
            # What the tools can do at most; once is enough.
            for scenario in ("nonstream", "flood"):
                measure(bench.runner, targets["direct"], scenario, bench.mode.effort, bench.figures, 0)
        for turn in range(rounds):
            before = progress.elapsed
            for scenario, asked in plan.items():
                for name in shuffled.sample(sorted(asked), len(asked)):
                    place = PLACES[name]
                    if place.rounds is not None and turn >= place.rounds:
                        continue
                    progress.say(f"round {turn + 1} of {rounds}: {scenario}, {name}", passing=True)
                    effort = bench.mode.effort * place.effort
                    measure(bench.runner, targets[name], scenario, effort, bench.figures, turn)
            progress.say(f"round {turn + 1} of {rounds} done, load {os.getloadavg()[0]:.1f}")
            if turn + 1 < rounds and not progress.has_time_for(1.2 * (progress.elapsed - before) + bench.mode.kept):
                progress.say(f"stopped after {turn + 1} rounds: no time for another")
                return turn + 1
    return rounds


def alone(bench: Bench, wanted: Sequence[goals.Goal], checks: Collection[str], rounds: int, progress: Progress) -> None:
    """Those checks, each on a fresh gateway. One that breaks, or does not start, is a fault of its check."""
    limits = [limit for goal in wanted for limit in goal.limits]
    for name, check in CHECKS.items():
        if name not in checks or not any(name in limit.scenarios() for limit in limits):
            continue
        took = 5.0  # seconds, as long as nothing better is known
        for turn in range(min(rounds, REPEATED.get(name, 1))):
            if not progress.has_time_for(took):
                if turn == 0:
                    bench.unavailable[name] = "no time left"
                break
            progress.say(f"{name}, round {turn + 1}", passing=True)
            before = progress.elapsed
            try:
                check(bench, turn)
            except (OSError, NotStarted) as error:
                bench.figures.fault("bridge", name, Counter({str(error): 1}))
            took = progress.elapsed - before
            if name in bench.unavailable:
                break
        progress.say(f"{name}: {bench.unavailable.get(name, 'done')}")


def circumstances(cores: Cores, began: datetime, seconds: float, rounds: int, mode: Mode) -> dict[str, str]:
    """What a reader must know to compare this run with another."""
    packages = ("aiohttp", "uvloop", "openai", "anthropic", "google-genai", "httpx2", "msgspec")
    return {
        "date": began.isoformat(timespec="minutes"),
        "commit": commit(),
        "machine": machine(),
        "python": sys.version.split()[0] + ", " + ", ".join(f"{name} {installed(name)}" for name in packages),
        "cores": f"gateway {cores.gateway}, tools {cores.tools}; load at the end {os.getloadavg()[0]:.1f}",
        "run": f"{rounds} rounds, effort {mode.effort:g}, {mode.holders} streams held, {seconds:.0f} s",
    }


def cpu_ticks() -> list[int]:
    """Time of all cores so far, by what it went into (proc(5), /proc/stat); STEAL is the place of what this machine
    wanted and did not get. CPU clocks count it in, so a run with much of it shows everything dearer."""
    return [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]


def machine() -> str:
    """Processor, number of cores and kernel."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    kernel = f"{platform.system()} {platform.release().partition('-')[0]}"
    return f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, {kernel}"


def installed(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:
        return "absent"


def commit() -> str:
    """The commit of the checkout, with a + when files differ from it."""
    try:
        told = subprocess.run(
            ["git", "-C", str(gateways.ROOT), "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()


def write_json(path: Path, setting: dict[str, str], rows: Sequence[goals.Row], figures: Figures) -> None:
    content = {
        "setting": setting,
        "goals": [
            {
                "goal": row.goal.name,
                "figure": row.limit.figure,
                "what": row.limit.what,
                "value": row.value,
                "judged": row.judged,
                "must": row.must,
                "verdict": row.verdict,
            }
            for row in rows
        ],
        "figures": figures.everything(),
        "faults": tables.faults(figures).splitlines(),
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
