"""What names lead to: the aliases of the file, and its table of privacy and task.

Knows: what a target means, which targets leave our machines as far as a file can tell. Must not know: where a key comes
from, the network: nothing is asked or resolved here.

A configuration by which a strict request could leave is an error, whatever the router would make of it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..names import BothSources, split_source
from ..providers.base import Timeouts
from ..providers.presets import PRESETS
from .facts import price_of
from .problems import Marks, Place, Problem, nearest
from .routing import ROUTED_NAMES, TASKS, Cells, TargetEntry, split_target
from .schema import File, ModelEntry, TimeoutsEntry
from .settings import ModelConfig, ProviderConfig, RoutingConfig, Target

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_ALIAS = re.compile(rf"{_PART}(?:/{_PART}){{0,3}}(?::[A-Za-z0-9_.-]+)?")


def named_providers(file: File) -> set[str]:
    """Those that a target or the table names."""
    targets = [target.target for entry in file.models.values() for target in _targets(entry)]
    return {split[0] for split in map(split_target, [*targets, *file.routing.names()]) if split}


def over(general: Timeouts, entry: TimeoutsEntry) -> Timeouts:
    """`general` but for what the entry says, for models that think as well."""
    said = entry.model_dump(exclude_none=True, exclude={"thinking"})
    patient = general.thinking and dataclasses.replace(general.thinking, **said)
    return dataclasses.replace(general, **said, thinking=patient)


@dataclass(slots=True)
class Names:
    """One go at it. What is wrong is in `problems` afterwards."""

    file: File
    providers: Mapping[str, ProviderConfig]
    marks: Marks
    problems: list[Problem] = field(default_factory=list)

    def _wrong(self, place: Place, message: str) -> None:
        self.problems.append(self.marks.problem(place, message))

    # -- aliases ---------------------------------------------------------------------------------------------------
    def models(self) -> dict[str, ModelConfig]:
        models: dict[str, ModelConfig] = {}
        seen: dict[str, str] = {}
        for name, entry in self.file.models.items():
            place = ("models", name)
            if not _ALIAS.fullmatch(name):
                self._wrong(place, "a model's name is made of letters, digits and . _ - with / and one : between")
                continue
            same = seen.setdefault(_key(name), name)
            if same != name:
                self._wrong(place, f"is the same name as '{same}' to Ollama's clients")
                continue
            models[name] = self._model(name, entry, place)
        return models

    def _model(self, name: str, entry: ModelEntry, place: Place) -> ModelConfig:
        targets = [self._target(place, index, target, entry) for index, target in enumerate(_targets(entry))]
        found = tuple(target for target in targets if target is not None)
        if entry.api != "auto" and found and not any(target.api == entry.api for target in found):
            self._wrong((*place, "api"), "only providers of kind openai have two APIs; remove it")
        return ModelConfig(
            name=name,
            targets=found,
            strategy=entry.strategy,
            strict=entry.privacy == "strict",
            system=entry.system,
            temperature=entry.temperature,
            max_tokens=entry.max_tokens,
            think=entry.think,
            keep_alive=entry.keep_alive,
            options=_options(entry),
            capabilities=entry.capabilities,
            context_length=entry.context_length,
            max_output=entry.max_output,
            embedding_length=entry.embedding_length,
            price=price_of(entry.price),
            retires=entry.retires,
            drop_tools=_first(entry.drop_tools, any(self.providers[t.provider].drop_tools for t in found)),
            strict_parameters=_first(entry.strict_parameters, self.file.strict_parameters),
            resume=entry.resume,
        )

    def _target(self, alias: Place, index: int, said: TargetEntry, entry: ModelEntry) -> Target | None:
        place = (*alias, "provider") if entry.provider else self.marks.written((*alias, "targets", index, "target"))
        split = split_target(said.target)
        if split is None:
            self._wrong(place, f"expected provider/model{self.marks.shown(place, said.target)}")
            return None
        name, model = split
        provider = self.providers.get(name)
        if provider is None:
            if name in self.file.providers:
                return None  # reported at the provider itself
            if place in self.marks.variables:
                self._wrong(place, f"no such provider{self.marks.origin(place)}")
            else:
                self._wrong(place, f"no provider '{name}'{nearest(name, {*self.providers, *PRESETS})}")
            return None
        why = leaves(provider, model) if entry.privacy == "strict" else None
        if why is not None:
            self._wrong(place, f"the alias has privacy: strict, and {why}")
        return Target(
            provider=name,
            model=model,
            timeouts=over(provider.timeouts, entry.timeouts),
            api=entry.api if provider.kind == "openai" else "auto",
            weight=said.weight,
        )

    # -- the table -------------------------------------------------------------------------------------------------
    def routing(self, models: Mapping[str, ModelConfig]) -> RoutingConfig:
        entry = self.file.routing
        strict = self._cells("strict", entry.strict, models)
        flexible = self._cells("flexible", entry.flexible, models)
        for name in models if strict or flexible else ():
            if _key(name) in ROUTED_NAMES:
                self._wrong(("models", name), "this name stands for the table of `routing`; take another")
        return RoutingConfig(entry.default, strict, flexible)

    def _cells(self, word: str, cells: Cells, models: Mapping[str, ModelConfig]) -> dict[str, tuple[str, ...]]:
        found = {}
        for task in TASKS:
            names: tuple[str, ...] = getattr(cells, task)
            for index, name in enumerate(names):
                place = self.marks.written(("routing", word, task, index))
                targets = self._leads_to(place, name, models)
                if word == "strict":
                    self._keep(place, name, targets)
            if names:
                found[task] = names
        return found

    def _leads_to(self, place: Place, name: str, models: Mapping[str, ModelConfig]) -> list[tuple[ProviderConfig, str]]:
        """The targets of a name in the table: an alias's, or provider/model."""
        alias = next((model for model in models.values() if _key(model.name) == _key(name)), None)
        if alias is not None:
            return [(self.providers[target.provider], target.model) for target in alias.targets]
        split = split_target(name)
        provider = self.providers.get(split[0]) if split else None
        if split is not None and provider is not None:
            return [(provider, split[1])]
        if split is None or split[0] not in self.file.providers:  # else it is reported at the provider itself
            hint = self.marks.origin(place) or nearest(name, self.file.models)
            self._wrong(place, f"expected a name that stands under models, or provider/model{hint}")
        return []

    def _keep(self, place: Place, name: str, targets: Iterable[tuple[ProviderConfig, str]]) -> None:
        """Whoever asks strictly must be answered here, by each target that a name leads to."""
        for provider, model in targets:
            why = leaves(provider, model)
            if why is not None:
                own = name.casefold() in (f"{provider.name}/{model}".casefold(), f"{provider.name}:{model}".casefold())
                way = "" if own else f"'{name}' leads to {provider.name}/{model}, and "
                self._wrong(place, f"strict requests would leave your machines: {way}{why}")


def leaves(provider: ProviderConfig, model: str) -> str | None:
    """Why what is sent to this model leaves our machines, as far as a file can tell; None when it stays."""
    if not provider.local:
        return f"provider '{provider.name}' is not local"
    if _in_cloud(model):  # whatever its kind: a real Ollama answers at /v1 as well
        return f"'{model}' is a cloud model of Ollama"
    return None


def _in_cloud(model: str) -> bool:
    try:
        return split_source(model)[1] == "cloud"
    except BothSources:
        return True


def _key(name: str) -> str:
    """What two spellings of one name have in common."""
    return name.casefold().removesuffix(":latest")


def _targets(entry: ModelEntry) -> tuple[TargetEntry, ...]:
    if entry.targets is not None:
        return entry.targets
    return (TargetEntry(target=f"{entry.provider}/{entry.model}"),)


def _first(own: bool | None, general: bool) -> bool:
    return general if own is None else own


def _options(entry: ModelEntry) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in entry.options.model_dump(exclude_none=True).items()
    }
