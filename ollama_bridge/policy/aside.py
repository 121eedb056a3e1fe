"""Work on long bodies, done aside of the event loop, so that nobody else waits for it.

Knows: that a body of some MiB may take seconds to read, most of all one that was made to. Must not know: what is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

LONG = 256 * 1024  # bytes; what is shorter is done at once: that takes milliseconds, or tenths of a second at the worst
_THREADS = 2  # they share the interpreter with the loop: more would only slow it

P = ParamSpec("P")
T = TypeVar("T")

_pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="aside")  # a thread begins with the first work


async def aside(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` gives back; it must be pure. `size` in bytes: how long what it works on is."""
    if size <= LONG:
        return work(*args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_pool, lambda: work(*args, **kwargs))
