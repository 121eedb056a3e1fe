"""Whose word about a model counts: the configuration, the provider's own catalogue, the price package, the small table,
its name, in this order.

Knows: who tells what of a provider's model. Must not know: aliases, how a name is looked up, how a catalogue is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from ..dialects.base import Profile
from ..providers.base import Known, ListedModel
from .facts import CONFIG, NAME, NOTHING, PRICES, PROVIDER, TABLE, guess_capabilities, merge, told_by
from .known_models import look_up

OWN_MODELS = ("ollama", "echo")  # kinds whose models no table can know
INSERT = "insert"


class Owner(Protocol):
    """Whose model it is: a provider, or its configuration."""

    @property
    def kind(self) -> str: ...

    @property
    def profile(self) -> Profile: ...


class Sources:
    """`presets`: the row that a provider was made from, by its name. `configured`: what the configuration says of a
    provider's own models, by provider and model."""

    def __init__(
        self,
        providers: Mapping[str, Owner],
        presets: Mapping[str, str] | None = None,
        configured: Mapping[str, Mapping[str, Known]] | None = None,
    ) -> None:
        self._providers = providers
        self._presets = presets or {}
        said = configured or {}
        self._said = {(name, _key(model)): known for name in said for model, known in said[name].items()}
        self._packaged: dict[tuple[str, str], Known] = {}

    def learn(self, provider: str, told: Mapping[str, Known]) -> None:
        """What the price package tells of a provider's models."""
        self._packaged.update({(provider, model): known for model, known in told.items()})

    def packaged(self, provider: str) -> dict[str, Known]:
        """What it has told, by model."""
        return {model: known for (name, model), known in self._packaged.items() if name == provider}

    def of(self, provider: str, model: str, listed: ListedModel | None) -> tuple[Known, Mapping[str, str]]:
        """-> (what is known of a model, the source of each fact). `listed`: its entry in the provider's catalogue."""
        owner = self._providers[provider]
        inserts = owner.kind == "ollama" or bool(owner.profile.fills_by)
        guessed = guess_capabilities(model)
        own = told_by(listed) if listed else NOTHING
        if own.capabilities is not None and inserts and INSERT in guessed:
            own = replace(own, capabilities=own.capabilities | {INSERT})  # no catalogue but Mistral's tells it
        told = [(CONFIG, self._said.get((provider, _key(model)), NOTHING)), (PROVIDER, own)]
        if owner.kind not in OWN_MODELS:
            told.append((PRICES, self._packaged.get((provider, model), NOTHING)))
            told.append((TABLE, look_up(self._presets.get(provider, ""), model)))
        known, sources = merge([*told, (NAME, Known(capabilities=guessed))])
        if not inserts and known.capabilities and sources["capabilities"] != CONFIG:
            known = replace(known, capabilities=known.capabilities - {INSERT})  # nobody could ask it to
        return known, sources


def _key(model: str) -> str:
    return model.casefold().removesuffix(":latest")
