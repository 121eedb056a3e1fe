"""The tables of support.md: what holds where, for users.

Knows: the SUPPORT table of the tests, the preset rows. Must not know: how the gateway works, where a table stands.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ollama_bridge.providers.presets import PRESETS, Preset

Rows = Iterator[tuple[str, ...]]

SHOWN = {"relay": "as it is", "translate": "whole", "lossy": "lossy", "refuse": "refused", "absent": "-"}
KINDS = {"ollamafree": "ollama", "google": "gemini"}  # the column of a kind that is not called like one


def _load() -> ModuleType:
    """tests/support.py, which is no part of a package."""
    path = Path(__file__).resolve().parent.parent / "tests" / "support.py"
    spec = importlib.util.spec_from_file_location("support_of_the_tests", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the module they stand in
    spec.loader.exec_module(module)
    return module


support = _load()


def columns() -> Rows:
    for column, meaning in support.PROVIDERS.items():
        services = [preset for preset in PRESETS.values() if column in columns_of(preset)]
        yield f"`{column}`", meaning, ", ".join(f"`{preset.name}`" for preset in services)


def columns_of(preset: Preset) -> set[str]:
    """Where in the tables a service stands."""
    own = KINDS.get(preset.kind, preset.kind)
    return {own, "responses"} if preset.profile.responses else {own}


def door(name: str) -> Rows:
    """What can be asked there at all; the rest is `elsewhere`."""
    for scenario in support.SCENARIOS:
        cells = [support.SUPPORT[name, provider, scenario] for provider in support.PROVIDERS]
        if not _nowhere(cells):
            yield scenario, *(_shown(cell) for cell in cells)


def elsewhere() -> Rows:
    """What no provider can be asked through a door, for one reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, path in support.DOORS.items():
        for scenario in support.SCENARIOS:
            cells = [support.SUPPORT[name, provider, scenario] for provider in support.PROVIDERS]
            if _nowhere(cells):
                found.setdefault((path, cells[0].note.what), []).append(scenario)
    for (path, why), names in found.items():
        yield f"`{path}`", ", ".join(names), why


def _nowhere(cells: list[Any]) -> bool:
    return {cell.word for cell in cells} == {"absent"} and len({cell.number for cell in cells}) == 1


def _shown(cell: Any) -> str:
    note = f" [{cell.number}](#notes)" if cell.number is not None else ""
    return SHOWN[cell.word] + note


def notes() -> Rows:
    for number, note in support.NOTES.items():
        what = note.words or note.what
        yield str(number), f"lost: {what}" if note.lost else what, note.source


def scenarios() -> Rows:
    yield from support.SCENARIOS.items()


def services() -> Rows:
    """Services that cannot be told something whatever the model."""
    for preset in PRESETS.values():
        profile = preset.profile
        never = ", ".join(f"`{name}`" for name in sorted(profile.rejects))
        thinking = ", ".join(f"`{name}`" for name in sorted(profile.drop_while_reasoning - profile.rejects))
        form = "" if "schema" in profile.formats else "a schema is asked for in words"
        if never or thinking or form:
            yield f"`{preset.name}`", never, thinking, form
