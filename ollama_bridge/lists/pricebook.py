"""Prices and windows from the package genai-prices, which knows the models of some fifty services.

Knows: how its data are asked for (price_reader). Must not know: the package itself, whose word counts more.

The data take 15 MiB, and importing them stops every stream of a process for a third of a second where no bytecode is
kept: so another process reads them, behind all others in the queue for the processor, and ends.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Collection
from pathlib import Path

import msgspec

from ..providers.base import Known
from .price_reader import NOT_INSTALLED

PATIENCE = 60.0  # seconds
_READER = Path(__file__).with_name("price_reader.py")
_decode = msgspec.json.Decoder(dict[str, Known]).decode


class PriceBook:
    """One for the process. What it was asked once it remembers; two questions at a time go one after the other."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Known | None] = {}
        self._reading = asyncio.Lock()

    async def look_up(self, base_url: str, models: Collection[str]) -> dict[str, Known]:
        """What the package tells of a service's models; those that it does not know are left out. Raises OSError where
        it cannot be asked."""
        if not base_url.startswith("https://"):
            return {}  # a server of one's own: the package knows services only
        async with self._reading:
            new = [model for model in models if (base_url, model) not in self._known]
            if new:
                told = await _ask(base_url, new)
                self._known.update({(base_url, model): told.get(model) for model in new})
        return {model: known for model in models if (known := self._known[base_url, model]) is not None}


async def _ask(base_url: str, models: Collection[str]) -> dict[str, Known]:
    """`-P`: nothing beside the program is importable to it, so that no module of ours stands for another of that
    name."""
    reader = await asyncio.create_subprocess_exec(
        sys.executable, "-P", str(_READER), stdin=PIPE, stdout=PIPE, stderr=DEVNULL
    )
    try:
        async with asyncio.timeout(PATIENCE):
            answer, _ = await reader.communicate(msgspec.json.encode({"base_url": base_url, "models": list(models)}))
    except TimeoutError:
        raise OSError("reading the package genai-prices takes too long") from None
    finally:
        if reader.returncode is None:
            reader.kill()
            await reader.wait()
    if reader.returncode == NOT_INSTALLED:
        raise OSError("the package genai-prices is not installed")
    try:
        return _decode(answer)
    except msgspec.DecodeError:
        raise OSError(f"the package genai-prices cannot be read (exit code {reader.returncode})") from None
