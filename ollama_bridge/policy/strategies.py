"""How the first of several targets is chosen, and in which order the others follow. Pure: luck and health are given.

Knows: targets with weights, prices and what is under way at each. Must not know: requests, privacy, abilities: what
cannot or must not be asked is not among the targets any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .plans import Planned

Step = list[Planned]  # one target, by each account


class Health(Protocol):
    """What is known of breakers by name (plans.gates)."""

    def all_well(self) -> bool:
        """Whether nobody is to be left alone: then `shut_for` says 0 of all."""
        ...

    def shut_for(self, name: str) -> float:
        """Seconds until it makes sense to ask; 0: now."""
        ...

    def busy(self, name: str) -> int:
        """Requests under way."""
        ...


class AllWell:
    """Where nobody keeps count."""

    def all_well(self) -> bool:
        return True

    def shut_for(self, name: str) -> float:
        return 0.0

    def busy(self, name: str) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Strategy:
    """`sticks`: a conversation stays with the target that served it, for the provider's prompt cache."""

    reason: str
    rank: Callable[[list[Step], Health, Callable[[], float]], list[Step]]
    sticks: bool = False


def _as_written(steps: list[Step], health: Health, chance: Callable[[], float]) -> list[Step]:
    return steps


def _by_weight(steps: list[Step], health: Health, chance: Callable[[], float]) -> list[Step]:
    """Drawn without putting back: a target comes first as often as its weight says, and so on among the rest
    (Efraimidis and Spirakis, Weighted random sampling, 2006)."""
    draws = [(chance() ** (1 / step[0].target.weight), step) for step in steps]
    return [step for _, step in sorted(draws, key=lambda draw: -draw[0])]


def _by_load(steps: list[Step], health: Health, chance: Callable[[], float]) -> list[Step]:
    """The fewest requests under way for its weight; among equals the lot decides, so that a quiet gateway uses all."""

    def load(step: Step) -> float:
        return sum(health.busy(planned.gates[0]) for planned in step) / step[0].target.weight

    return [step for *_, step in sorted(((load(step), chance(), at, step) for at, step in enumerate(steps)))]


def _by_price(steps: list[Step], health: Health, chance: Callable[[], float]) -> list[Step]:
    return sorted(steps, key=lambda step: cost(step[0]))


def cost(planned: Planned) -> float:
    """US dollars per million tokens of a usual conversation, three parts prompt to one part answer. A local server
    costs nothing unless a price is told; elsewhere an unknown price counts as the highest."""
    price = planned.model.price
    if price is None:
        return 0.0 if planned.provider.local and not planned.target.remote else float("inf")
    return (3 * price.input + price.output) / 4


STRATEGIES = {
    "ordered": Strategy("in the order of the model map", _as_written),
    "weighted": Strategy("by weight", _by_weight, sticks=True),
    "least_busy": Strategy("least busy", _by_load, sticks=True),
    "cheapest": Strategy("cheapest first", _by_price),
}
