"""Breakers: who fails is left alone for a while, then asked once before everybody may come back (product.md 5, row 15).

    closed ── 3 failures in a row, or one that speaks for itself ──> open for a period
    open ── the period is over ──> half-open: one probe is let in
    half-open ── the probe fails ──> open, for twice as long (at most `longest`)
    half-open ── the probe succeeds ──> closed

Knows: failures by name, a clock that is given. Must not know: what a name stands for (the pipeline has one for each
target, "openai/gpt-6", and one for each key, "openai#0"), requests, Redis.

A pass is for one turn at a target, its retries included: what a retry mended is no failure; a probe is one request.
Several processes may share what they learn through a Board; each decides by its own memory, so that nothing waits but
a probe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from types import TracebackType
from typing import Literal, Protocol

from ..errors import MODEL_NOT_FOUND, GatewayError, Scope

FAILURES = 3  # in a row
OVERLOADED = "overloaded"  # a reason beside those of Scope: a THROTTLE that has nothing to do with our own requests
AT_ONCE = frozenset({Scope.THROTTLE.value, OVERLOADED})  # one says that the next request will fare no better
LEAST_COOL = 1.0  # seconds: "Retry-After: 0" is no invitation to a tight loop
PROBED = 1.0  # seconds: when to look again while somebody else's probe is on its way
REMEMBERED = 4096  # names; clients can invent any number of them

State = Literal["closed", "half-open", "open"]

_FAILED = (503, Scope.PROVIDER, "has failed several times in a row")
_REFUSALS: Mapping[str, tuple[int, Scope, str]] = {
    Scope.THROTTLE: (429, Scope.THROTTLE, "has had too many requests"),
    OVERLOADED: (503, Scope.THROTTLE, "is overloaded"),
    Scope.KEY: (502, Scope.KEY, "has refused our key or account"),
    Scope.MODEL: (404, Scope.MODEL, "is no model of its provider, as was said several times"),
}


class Board(Protocol):
    """Where processes tell each other. Nothing here raises; `tell` and `free` never wait. What others tell comes in by
    Breakers.heard."""

    def tell(self, name: str, seconds: float, period: float, reason: str) -> None:
        """The breaker has opened for `seconds`; 0: it has closed."""
        ...

    async def claim(self, name: str) -> bool:
        """Whether the probe is ours: nobody else has one on its way, as far as can be told."""
        ...

    def free(self, name: str) -> None:
        """Our probe is over."""
        ...


@dataclass(frozen=True, slots=True)
class Shown:
    """A breaker that is not closed, for people. `seconds` until a probe may be let in, `period` of this opening."""

    state: State
    seconds: float
    period: float
    reason: str


@dataclass(slots=True, eq=False)
class _Breaker:
    name: str
    failures: int = 0  # in a row
    period: float = 0.0  # seconds; 0 is closed
    until: float = 0.0
    reason: str = ""
    turn: int = 0  # counts openings and closings: what began in an earlier one says little of now
    busy: int = 0
    probe: Pass | None = None


class Pass:
    """The leave to ask one target. Exactly one settlement counts, the first; leaving the `with` block without one is
    neutral, so a cancelled holder leaves nothing behind."""

    __slots__ = ("_breaker", "_breakers", "_turn")

    def __init__(self, breakers: Breakers, breaker: _Breaker) -> None:
        self._breakers: Breakers | None = breakers
        self._breaker = breaker
        self._turn = breaker.turn
        breaker.busy += 1

    @property
    def probing(self) -> bool:
        """Whether this is the one that is let in to see how things are."""
        return self._breaker.probe is self

    def good(self) -> None:
        """It answered."""
        if breakers := self._settle():
            breakers._good(self._breaker, self._turn, self._was_probe(breakers))

    def bad(self, reason: str, cool: float | None = None) -> None:
        """It failed. `reason`: a Scope's word, or OVERLOADED; `cool`: the seconds that it asked for itself."""
        if breakers := self._settle():
            breakers._bad(self._breaker, self._turn, self._was_probe(breakers), reason, cool)

    def neutral(self) -> None:
        """Nothing was learnt: the request was at fault, or the client has left."""
        if breakers := self._settle():
            self._was_probe(breakers)

    def __enter__(self) -> Pass:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.neutral()

    def _settle(self) -> Breakers | None:
        breakers, self._breakers = self._breakers, None
        if breakers is not None:
            self._breaker.busy -= 1
        return breakers

    def _was_probe(self, breakers: Breakers) -> bool:
        if self._breaker.probe is not self:
            return False
        self._breaker.probe = None
        if breakers.board is not None:
            breakers.board.free(self._breaker.name)
        return True


class Breakers:
    """All of one process. `clock` in seconds, never going back. `base`, `longest`: the shortest and the longest period,
    seconds; without a base no breaker ever opens. `changed(name, state, reason)` is called at each transition."""

    def __init__(
        self,
        clock: Callable[[], float],
        base: float = 5.0,
        longest: float = 300.0,
        *,
        board: Board | None = None,
        changed: Callable[[str, State, str], None] = lambda name, state, reason: None,
    ) -> None:
        self._clock = clock
        self._changed = changed
        self._all: dict[str, _Breaker] = {}
        self._shut: set[str] = set()  # the names of those that are not closed
        self.board = board
        self.change(base, longest)

    def change(self, base: float, longest: float) -> None:
        """Other periods, from the next opening on."""
        self._base, self._longest = base, max(base, longest)

    def forget(self, *prefixes: str) -> None:
        """What is known of names that begin so: whoever they stand for is another now. Passes that are out count no
        more as failures."""
        for name, breaker in self._all.items():
            if name.startswith(prefixes):
                if breaker.period:
                    self._close(breaker)
                    self._tell(breaker, 0.0)
                breaker.failures = 0
                breaker.turn += 1

    # -- asking ------------------------------------------------------------------------------------------------------
    def all_well(self) -> bool:
        """Whether all are closed."""
        return not self._shut

    def shut_for(self, name: str) -> float:
        """Seconds until it makes sense to ask; 0: now."""
        breaker = self._all.get(name)
        if breaker is None or not breaker.period:
            return 0.0
        left = breaker.until - self._clock()
        return max(left, PROBED) if breaker.probe is not None else max(left, 0.0)

    def busy(self, name: str) -> int:
        """Passes that are out."""
        breaker = self._all.get(name)
        return breaker.busy if breaker is not None else 0

    async def enter(self, name: str) -> Pass | None:
        """A pass, or None while the breaker is shut. Waits only for a probe that other processes must agree to."""
        breaker = self._all.get(name) or self._new(name)
        if not breaker.period:
            return Pass(self, breaker)
        if breaker.probe is not None or self._clock() < breaker.until:
            return None
        probe = breaker.probe = Pass(self, breaker)  # before anything is waited for: one alone
        if self.board is not None and not await self._claim(self.board, probe, breaker):
            return None
        if breaker.period:
            self._changed(name, "half-open", breaker.reason)
        return probe

    async def _claim(self, board: Board, probe: Pass, breaker: _Breaker) -> bool:
        ours = asked = False
        try:
            ours = await board.claim(breaker.name)
            asked = True
            return ours
        finally:
            if not ours:
                probe._settle()
                breaker.probe = None
                if asked:
                    breaker.until = max(breaker.until, self._clock() + PROBED)
                else:
                    board.free(breaker.name)  # cancelled: it may have been granted

    def refusal(self, name: str, who: str, model: str) -> GatewayError:
        """What a client is told when nobody but `name` could have answered. `who`: its name for clients; `model`: the
        public name that was asked for."""
        breaker, seconds = self._all.get(name), max(self.shut_for(name), LEAST_COOL)
        status, scope, why = _REFUSALS.get(breaker.reason if breaker else "", _FAILED)
        words = f"{who} {why}; it is asked again in {ceil(seconds)} s"
        if scope is Scope.MODEL:
            return GatewayError(
                f"model '{model}' not found",
                status=status, scope=scope, code=MODEL_NOT_FOUND, model=model, reason=words,
            )  # fmt: skip
        return GatewayError(words, status=status, scope=scope, retry_after=seconds)

    def states(self) -> Mapping[str, Shown]:
        """Those that are not closed."""
        found = {}
        for name, breaker in self._all.items():
            if breaker.period:
                left = max(breaker.until - self._clock(), 0.0)
                state: State = "half-open" if breaker.probe is not None or not left else "open"
                found[name] = Shown(state, left, breaker.period, breaker.reason)
        return found

    # -- what other processes told -----------------------------------------------------------------------------------
    def heard(self, name: str, seconds: float, period: float, reason: str) -> None:
        """Another process's breaker has opened for `seconds`; 0: it has closed."""
        if not seconds:
            if name in self._all:
                self._close(self._all[name])
        elif self._base:
            breaker = self._all.get(name) or self._new(name)
            period = min(max(period, self._base), self._longest)
            self._open(breaker, min(seconds, self._longest), period, reason)

    # -- what passes told --------------------------------------------------------------------------------------------
    def _good(self, breaker: _Breaker, turn: int, probe: bool) -> None:
        # Of an answer that began before the breaker opened one cannot tell whether it would be given now.
        if probe or turn == breaker.turn:
            breaker.failures = 0
            if breaker.period:
                self._close(breaker)
                self._tell(breaker, 0.0)

    def _bad(self, breaker: _Breaker, turn: int, probe: bool, reason: str, cool: float | None) -> None:
        if cool is not None:
            cool = min(max(cool, min(LEAST_COOL, self._base)), self._longest)
        if breaker.period:
            if probe:
                period = min(2 * breaker.period, self._longest)
                self._open(breaker, cool or period, period, reason)
                self._tell(breaker, cool or period)
            elif cool is not None:
                breaker.until = max(breaker.until, self._clock() + cool)
            return
        if turn != breaker.turn:
            return
        breaker.failures = FAILURES if reason in AT_ONCE else breaker.failures + 1
        if breaker.failures >= FAILURES and self._base:
            self._open(breaker, cool or self._base, self._base, reason)
            self._tell(breaker, cool or self._base)

    def _tell(self, breaker: _Breaker, seconds: float) -> None:
        if self.board is not None:
            self.board.tell(breaker.name, seconds, breaker.period, breaker.reason)

    def _open(self, breaker: _Breaker, seconds: float, period: float, reason: str) -> None:
        breaker.until, breaker.period, breaker.reason = self._clock() + seconds, period, reason
        breaker.turn += 1
        breaker.failures = 0
        self._shut.add(breaker.name)
        self._changed(breaker.name, "open", reason)

    def _close(self, breaker: _Breaker) -> None:
        if breaker.period:
            breaker.period, breaker.until, breaker.reason, breaker.failures = 0.0, 0.0, "", 0
            breaker.turn += 1
            self._shut.discard(breaker.name)
            self._changed(breaker.name, "closed", "")

    # -- memory ------------------------------------------------------------------------------------------------------
    def _new(self, name: str) -> _Breaker:
        if len(self._all) >= REMEMBERED:
            # Forgotten first is who has been quiet for longest, or was never shut.
            idle = sorted((b.until, b.name) for b in self._all.values() if not b.busy)
            for _, forgotten in idle[: REMEMBERED // 2]:
                self._close(self._all.pop(forgotten))
        breaker = self._all[name] = _Breaker(name)
        return breaker
