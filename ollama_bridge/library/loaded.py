"""Which models count as loaded. A cloud model is never loaded; its clients still expect /api/ps to list what they
use and `expires_at` to be true to their keep_alive (ollama-protocol.md 2.1, 2.10).

Knows: names and clocks. Must not know: models' facts, wires.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

KEEP_ALIVE = 300.0  # seconds; Ollama's default
FOR_EVER = (2**63 - 1) / 1e9  # seconds; what Ollama makes of a negative keep_alive
AT_MOST = 1000  # names; the oldest goes first


@dataclass(slots=True)
class Loaded:
    """`expires` in unix seconds."""

    name: str
    expires: float
    keep_alive: float
    num_ctx: int | None


class LoadedModels:
    def __init__(self, default: float = KEEP_ALIVE, clock: Callable[[], float] = time.time) -> None:
        self._default = default
        self._clock = clock
        self._models: dict[str, Loaded] = {}

    def touch(self, name: str, keep_alive: float | None, num_ctx: int | None, default: float | None = None) -> None:
        """`keep_alive` in seconds, negative for ever; None leaves the current one of a loaded model, and is `default`
        for a new load (policy.ports.Residency)."""
        before = self._models.pop(name, None)
        if before is not None and before.expires <= self._clock():
            before = None
        if keep_alive is None:
            keep_alive = before.keep_alive if before else self._default if default is None else default
        if num_ctx is None and before is not None:
            num_ctx = before.num_ctx
        length = FOR_EVER if keep_alive < 0 else min(keep_alive, FOR_EVER)
        self._models[name] = Loaded(name, self._clock() + length, keep_alive, num_ctx)
        if len(self._models) > AT_MOST:
            del self._models[next(iter(self._models))]

    def unload(self, name: str) -> None:
        self._models.pop(name, None)

    def current(self) -> list[Loaded]:
        """Those not expired, latest expiry first by whole seconds, as /api/ps sorts."""
        now = self._clock()
        self._models = {name: model for name, model in self._models.items() if model.expires > now}
        return sorted(self._models.values(), key=lambda model: -int(model.expires))
