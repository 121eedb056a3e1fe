"""Which models end soon, as far as this machine can tell without asking anyone: for `check`.

Knows: a Config, the lists that were kept, the table. Must not know: the network, how it is laid out (screen does that).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from ..config import Config
from ..lists.shelf import Shelf
from ..policy.facts import retires_soon
from ..policy.sources import OWN_MODELS, Sources
from ..providers.base import ListedModel


@dataclass(frozen=True, slots=True)
class Ending:
    """`target` is provider/model, `names` the models of the file that lead to it."""

    target: str
    day: date
    names: tuple[str, ...] = ()


def endings(config: Config, shelf: Shelf, today: date) -> list[Ending]:
    """The first to end first. Providers that are off are left out: nobody is answered by them."""
    on = {name: p for name, p in config.providers.items() if p.off is None and p.kind not in OWN_MODELS}
    sources = Sources(
        config.providers,
        {name: p.preset for name, p in on.items()},
        {name: p.models for name, p in on.items()},
    )
    listed: dict[tuple[str, str], ListedModel] = {}
    for name, provider in on.items():
        kept = shelf.read(provider)
        listed |= {(name, item.id): item for item in kept.models} if kept else {}
    led_to: dict[tuple[str, str], list[str]] = {}
    said: dict[tuple[str, str], date] = {}
    for model in config.models.values():
        for target in model.targets:
            place = (target.provider, target.model)
            if target.provider in on:
                led_to.setdefault(place, []).append(model.name)
                if model.retires is not None:
                    said[place] = model.retires
    days = {place: said.get(place) or _day(sources, place, listed) for place in {**led_to, **listed}}
    found = [
        Ending("/".join(place), day, tuple(led_to.get(place, ())))
        for place, day in days.items()
        if day is not None and retires_soon(day, today)
    ]
    return sorted(found, key=lambda ending: (ending.day, ending.target))


def _day(sources: Sources, place: tuple[str, str], listed: Mapping[tuple[str, str], ListedModel]) -> date | None:
    return sources.of(*place, listed.get(place))[0].retires
