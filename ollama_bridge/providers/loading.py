"""SDKs are imported, and their clients made, with the first call that needs them.

Knows: that this takes half a second, and stays. Must not know: any SDK.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from .. import collector
from .sdks import hush

T = TypeVar("T")


async def load(make: Callable[[], T]) -> T:
    """What `make` gives back. It runs in a thread, so that other streams do not feel it. Raises what it raises, an
    ImportError where the SDK is not installed."""
    return await asyncio.to_thread(_lastingly, make)


def _lastingly(make: Callable[[], T]) -> T:
    with collector.lasting():
        made = make()
    hush()
    return made
