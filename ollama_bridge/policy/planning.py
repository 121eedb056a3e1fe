"""The plan of one request, with all that the pure router is to be given: accounts, health, luck, memory.

Knows: where each of these comes from, how a plan is shown. Must not know: how targets are chosen (policy/router), how
they are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from . import router, sticky
from .catalog import Model, key
from .notes import header_text
from .plans import Plan, Planned
from .ports import Exchange
from .router import Accounts
from .selection import Selected, Selection
from .sticky import Sticky
from .strategies import STRATEGIES, Health
from .tasks import EXPLAIN_HEADER

PLAN_AT_MOST = 2000  # characters of a header
_EXPLAIN = EXPLAIN_HEADER.lower()


class Planner:
    """One for a configuration. `presets`: the row that a provider was made from, by its name. `chance` gives numbers
    from 0 to below 1."""

    def __init__(
        self,
        selection: Selection,
        accounts: Accounts,
        presets: Mapping[str, str],
        health: Health,
        memory: Sticky,
        chance: Callable[[], float],
    ) -> None:
        self._selection = selection
        self._accounts = accounts
        self._several = any(len(each) > 1 for each in accounts.values())  # accounts, at one of the providers at least
        self._presets = presets
        self._health = health
        self._memory = memory
        self._chance = chance

    def plan(self, exchange: Exchange, selected: Selected) -> Plan:
        """Notes the plan for the client where it asks to see it. Raises as router.plan."""
        request, model, facts = selected.request, selected.model, selected.facts
        conversation = None
        if self._sticks(model):
            conversation = sticky.conversation(exchange.caller, model.name, request)
        plan = router.plan(
            facts,
            model,
            self._accounts,
            self._health,
            self._chance,
            prefer=self._memory.served(conversation) if conversation is not None else None,
            here=lambda: self._selection.here(facts),
            presets=self._presets,
        )
        if conversation is not None or selected.routed:
            name = key(request.model.strip()) if selected.routed else ""  # of the table: it may have limits of its own
            plan = replace(plan, conversation=conversation, routed=selected.routed, asked=name)
        if exchange.headers.get(_EXPLAIN, "0") not in ("", "0"):
            words = f"{facts.privacy} ({selected.privacy_by}), {facts.task}: {plan.in_words()}"
            exchange.notes["X-Bridge-Plan"] = header_text(words, PLAN_AT_MOST)
        return plan

    def served(self, plan: Plan, planned: Planned) -> None:
        """The next turn of the conversation goes to the same account, for the prompts that its provider keeps."""
        if plan.conversation is not None:
            self._memory.keep(plan.conversation, str(planned.target), planned.account)

    def _sticks(self, model: Model) -> bool:
        """Whether it matters who served a conversation before."""
        for each in (model, *model.then):
            if len(each.targets) > 1 and STRATEGIES[each.strategy].sticks:
                return True
            if self._several and any(len(self._accounts[target.provider]) > 1 for target in each.targets):
                return True
        return False
