"""The garbage collector, kept away from what lives as long as the program: modules, tables, clients of SDKs.

Looking through them again and again while they are made costs a third of the start, and a full collection with one SDK
loaded stops every stream for 0.1 s and more (performance.md 1.6). Knows: the collector. Must not know: what is made.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Allocations until the young are looked through, and how often the older are. What one request leaves is freed by
# counting references; cycles are rare.
THRESHOLDS = (50_000, 20, 100)


@contextmanager
def paused() -> Iterator[None]:
    """A program is being made, until it calls `settle`, or gives up."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def settle() -> None:
    """What there is now lives for ever; from now on the collector works, seldom."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.enable()


@contextmanager
def lasting() -> Iterator[None]:
    """What is made within it lives for ever, beside a program that runs. May overlap with others in other threads."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if running:
            gc.enable()
