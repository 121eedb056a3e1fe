"""The catalog with the names by which clients that must name a model call the table of privacy and task.

Knows: what `auto` and `private` look like in a list. Must not know: which task a request has (policy/tasks), wires.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from .catalog import Catalog, Model, Target, key
from .tasks import AUTO, FLEXIBLE, PRIVATE, STRICT, TASK_WORDS, Table


class RoutedCatalog(Catalog):
    """`table` is to be set before anything is looked up; without one it is a Catalog like any other."""

    table = Table()

    def listed(self) -> list[Model]:
        routed = [self._routed(name, word) for name, word in ((AUTO, FLEXIBLE), (PRIVATE, STRICT))]
        return [*(model for model in routed if model is not None), *super().listed()]

    def find(self, name: str) -> Model:
        word = self.table.stands_for(name) if self.table else None
        routed = self._routed(name.strip().casefold().removesuffix(":latest"), word) if word is not None else None
        return routed or super().find(name)

    def _routed(self, name: str, word: str) -> Model | None:
        """As the model that answers a chat, which can do besides what those of the other tasks can. None when the table
        has nothing for it."""
        if self.table.stands_for(name) != word:
            return None
        cells = {task: self._leads_to(self.table.names(word, task)) for task in TASK_WORDS}
        first = next((models for models in cells.values() if models), None)
        if first is None:
            return None
        words = set(first[0].capabilities)
        words |= {"vision"} if cells["vision"] else set()
        return replace(
            first[0],
            name=name,
            targets=tuple(target for model in first for target in model.targets),
            capabilities=frozenset(words),
            origin="alias",
            modified=max(model.modified for model in first),
            raw={},
            strict=word == STRICT,
        )

    def _leads_to(self, names: Iterable[str]) -> list[Model]:
        """The models of a cell, whether their providers have been heard of or not."""
        found = []
        for name in names:
            model = self._aliases.get(key(name)) or self._at_provider(name)
            if model is not None:
                found.append(model)
        return found

    def _at_provider(self, name: str) -> Model | None:
        split = _SPLIT.fullmatch(name)
        if split is None or split[1].casefold() not in self._providers:
            return None
        target = Target(split[1].casefold(), split[2])
        return self._told(target) or self._model(name, replace(target, remote=self._remote(target)), None)


_SPLIT = re.compile(r"([^/:]+)[/:](.+)")
