"""The section `routing:` and the targets of an alias: what may stand there.

Knows: the table of privacy and task, a target and what may be said of it. Must not know: providers, which target leaves
our machines (config/aliases), requests.

    routing:
      default: flexible
      strict: {chat: ollama/qwen3, embedding: ollama/nomic-embed-text}
      flexible: {chat: [fast, google/gemini-3.8-flash]}
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BeforeValidator

from .fields import Section, Weight, Words, word_list

TASKS = ("chat", "vision", "ocr", "embedding")
ROUTED_NAMES = ("auto", "private")  # what Ollama's clients call the table by


class TargetEntry(Section):
    """One target of an alias. The text `provider/model` is short for it."""

    target: str
    weight: Weight = 1.0


def _targets(value: object) -> object:
    items = word_list(value)
    if not isinstance(items, list):
        return items
    return [{"target": item} if isinstance(item, str) else item for item in items]


Targets = Annotated[tuple[TargetEntry, ...], BeforeValidator(_targets)]


class Cells(Section):
    """The models of one privacy word, by task: a name, or several in the order in which they are asked."""

    chat: Words = ()
    vision: Words = ()
    ocr: Words = ()
    embedding: Words = ()


class RoutingEntry(Section):
    """The table. `default`: what holds for a request that says nothing of privacy."""

    default: Literal["strict", "flexible"] = "flexible"
    strict: Cells = Cells()
    flexible: Cells = Cells()

    def names(self) -> Iterable[str]:
        """Every name in the table."""
        for cells in (self.strict, self.flexible):
            for task in TASKS:
                yield from getattr(cells, task)


def split_target(target: str) -> tuple[str, str] | None:
    """`groq/llama` or `ollama:qwen2.5:7b` -> (provider, model), at the first / or :."""
    match = re.fullmatch(r"([^/:\s]+)[/:](\S+)", target)
    return (match[1].lower(), match[2]) if match else None
