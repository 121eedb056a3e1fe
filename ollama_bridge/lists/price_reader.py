"""A program of its own: what the package genai-prices tells of a service's models (see pricebook).

Knows: that package; no other file imports it. Must not know: anything of the gateway, which it does not import.

    stdin   {"base_url": "https://api.openai.com/v1", "models": ["gpt-5", "no-such-model"]}
    stdout  {"gpt-5": {"context_length": 400000, "price": {"input": 1.25, "output": 10.0, "cached": 0.125,
             "written": null}}}

Exit code 3: the package is not installed. Nothing is fetched: prices are those the installed version was published
with.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

NOT_INSTALLED = 3


def tell(base_url: str, models: Iterable[str], now: datetime) -> dict[str, Any]:
    """Models that the package does not know are left out. Raises ImportError."""
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    told: dict[str, Any] = {}
    for model in models:
        try:
            _, entry = snapshot.find_provider_model(model, None, None, base_url)
        except LookupError:
            continue
        told[model] = {"context_length": entry.context_window, "price": _price(entry, now)}
    return told


def _price(entry: Any, now: datetime) -> dict[str, float | None] | None:
    """At this time of the day and for a short prompt, where the price depends on them."""
    if not entry.prices:
        return None
    prices = entry.get_prices(now)
    read = _dollars(prices.input_mtok)
    if read is None:
        return None
    return {
        "input": read,
        "output": _dollars(prices.output_mtok) or 0.0,
        "cached": _dollars(prices.cache_read_mtok),
        "written": _dollars(prices.cache_write_mtok),
    }


def _dollars(amount: Any) -> float | None:
    return None if amount is None else float(getattr(amount, "base", amount))


def main() -> int:
    if hasattr(os, "nice"):
        os.nice(10)  # answers go first
    asked = json.load(sys.stdin)
    try:
        told = tell(asked["base_url"], asked["models"], datetime.now(UTC))
    except ImportError:
        return NOT_INSTALLED
    json.dump(told, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
