"""A plan: which accounts at which targets are asked, in which order, and why.

Knows: how a plan is told, the names of breakers. Must not know: how it comes about (policy/router), how targets are
asked.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dialects.base import ModelView
from ..providers.base import Provider
from .catalog import Model, Target


@dataclass(frozen=True, slots=True)
class Planned:
    """One account at one target. `model`: as which it is asked, with what is known of this target. `account` counts the
    keys of a provider, from 0."""

    target: Target
    provider: Provider
    reason: str
    model: Model
    account: int = 0

    @property
    def gates(self) -> tuple[str, str]:
        """The names of its breakers: of the target (as this account reaches it), and of the account."""
        return gates(self.target, self.account)


def gates(target: Target, account: int) -> tuple[str, str]:
    suffix = f"#{account}" if account else ""
    return f"{target}{suffix}", f"{target.provider}#{account}"


def gates_of(provider: str) -> tuple[str, str]:
    """How the names of all its breakers begin."""
    return f"{provider}/", f"{provider}#"


@dataclass(frozen=True, slots=True)
class Plan:
    """Targets in the order to be asked, those of one target next to each other unless one of them rests; `left_out`
    says why others are not in it. `first`: who would be asked first if nobody rested. `routed`: the client left the
    choice to us, and is told who answered. `conversation`: what to remember that by, where it matters.
    `name`: of the model; `asked`: the table's own name for the choice ("auto"), where it was asked by that."""

    targets: tuple[Planned, ...]
    first: Target
    name: str
    left_out: tuple[tuple[Target, str], ...] = ()
    routed: bool = False
    conversation: bytes | None = None
    asked: str = ""

    def names(self) -> list[str]:
        return list(map(_called, self.targets))

    def tells(self, planned: Planned) -> bool:
        """Whether the answer names this target in place of the model that was asked for."""
        return self.routed or planned.target != self.first

    def view(self, model: Model) -> ModelView:
        """What the model that was asked for can do, as far as this request is concerned."""
        words = frozenset[str]().union(*(planned.model.capabilities for planned in self.targets))
        return ModelView(model.shown, words, any(planned.model.drop_tools for planned in self.targets))

    def in_words(self) -> str:
        """For X-Bridge-Plan and the log."""
        steps = [f"{_called(planned)} ({planned.reason})" for planned in self.targets]
        out = [f"{target} ({why})" for target, why in self.left_out]
        return ", ".join(steps) + (f"; left out: {', '.join(out)}" if out else "")


def _called(planned: Planned) -> str:
    return f"{planned.target}#{planned.account}" if planned.account else str(planned.target)
