"""What the file may say of a model itself: its limits, what it can do, what it costs, when it ends.

Knows: those keys and what is made of them. Must not know: whose word about a model counts more (policy/facts).

    providers:
      groq:
        models:
          llama-3.3-70b-versatile: {context_length: 131072, price: {input: 0.59, output: 0.79}, retires: 2026-12-31}
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated

from pydantic import PlainValidator

from ..providers.base import Known, Price
from .fields import Capabilities, Count, Heat, Section


def _day(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("expected a day such as 2026-12-31") from None


Day = Annotated[date, PlainValidator(_day)]


class PriceEntry(Section):
    """US dollars per million tokens. `cached`: of a prompt's tokens found in the provider's cache, `written`: put
    there."""

    input: Heat
    output: Heat
    cached: Heat | None = None
    written: Heat | None = None


class FactsEntry(Section):
    """A model of a provider, under the provider's own name for it. None leaves what others tell."""

    capabilities: Capabilities | None = None
    context_length: Count | None = None
    max_output: Count | None = None
    embedding_length: Count | None = None
    price: PriceEntry | None = None
    retires: Day | None = None


def price_of(entry: PriceEntry | None) -> Price | None:
    return None if entry is None else Price(entry.input, entry.output, entry.cached, entry.written)


def known(entries: Mapping[str, FactsEntry]) -> dict[str, Known]:
    """By the provider's own names."""
    return {
        name: Known(
            context_length=entry.context_length,
            embedding_length=entry.embedding_length,
            max_output=entry.max_output,
            capabilities=entry.capabilities,
            price=price_of(entry.price),
            retires=entry.retires,
        )
        for name, entry in entries.items()
    }
