"""The figures of a run: by target, name and round; medians, ratios within a round, and what follows from two of them.

Knows: arithmetic. Must not know: how a figure is measured, what it should be.

A figure's name is "scenario.what". CPU and delays are in microseconds, memory in MiB, rates per second.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence

LONG, SHORT = 512, 32  # tokens of the streams through which the line of `net` goes


class Figures:
    def __init__(self) -> None:
        self._values: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        self.faults: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def put(self, target: str, name: str, turn: int, value: float) -> None:
        """`turn`: number of the round. Only values of the same round are ever divided by each other."""
        self._values[target][name][turn] = value

    def fault(self, target: str, scenario: str, what: Counter[str]) -> None:
        """Remembers why a measurement of this scenario does not count."""
        self.faults[target, scenario].update(what)

    def of(self, target: str, name: str) -> dict[int, float]:
        """Round -> value."""
        return self._values[target][name] if name in self._values.get(target, {}) else {}

    def median(self, target: str, name: str) -> float | None:
        values = self.of(target, name)
        return statistics.median(values.values()) if values else None

    def ratios(self, target: str, name: str, base: str, base_name: str | None = None) -> list[float]:
        """`target`'s value over `base`'s, for each round that has both."""
        values, bases = self.of(target, name), self.of(base, base_name or name)
        return [value / bases[turn] for turn, value in values.items() if bases.get(turn, 0.0) > 0.0]

    def targets(self) -> list[str]:
        return list(self._values)

    def everything(self) -> dict[str, dict[str, dict[int, float]]]:
        return {target: dict(names) for target, names in self._values.items()}

    def derive(self) -> None:
        """Adds the figures that take two measurements of one round.

        net.stream, net.token   what a stream costs without its tokens, and a token without its stream: the line
                                through streams of SHORT and LONG tokens
        added.*                 delays less those of the same round without a gateway
        """
        for target in self.targets():
            short = self.of(target, "short.cpu_stream")
            for turn, long in self.of(target, "flood.cpu_stream").items():
                if turn in short:
                    token = (long - short[turn]) / (LONG - SHORT)
                    self.put(target, "net.token", turn, token)
                    self.put(target, "net.stream", turn, short[turn] - SHORT * token)
            for name in ("latency.p50", "latency.p99", "ttft.p50", "ttft.p99"):
                without = self.of("direct", name)
                for turn, value in self.of(target, name).items():
                    if target != "direct" and turn in without:
                        self.put(target, f"added.{name.replace('.', '_')}", turn, value - without[turn])


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which `part` (0 to 1) of them lie, nearest rank. `values` must not be empty."""
    return sorted(values)[max(math.ceil(part * len(values)) - 1, 0)]
