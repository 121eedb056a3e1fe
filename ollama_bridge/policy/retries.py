"""How often and how soon one request asks again (product.md 5, rows 1 to 7). One Retries for each request.

Knows: a failure's scope, status and Retry-After; a clock and chance that are given. Must not know: targets, breakers,
requests; it never waits itself.

    rows  failure                          the same target again                     else
    1     429, 503 with a short            after that time, at most twice            the next target
          Retry-After
    2     429 without one                  after 0.5 to 1 s, then 1 to 2 s; once     the next target
                                           while another target is left
    3-5   5xx, refused, reset, garbage     once, after 0.1 to 0.3 s                  the next target
    6, 7  silent: a time-out               never                                     the next target
          our key, our account, no model   never                                     the next target
          the request itself, our bug      never                                     nobody

Whatever fails: in any 3 s at most 3 attempts begin, over all targets together, and a request has 8 at most.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from ..errors import GatewayError, Scope

WINDOW, IN_WINDOW = 3.0, 3  # seconds, attempts
ATTEMPTS = 8  # of one request
SHORT = 2.0  # seconds: a Retry-After that is waited for while another target is left
PATIENT = 10.0  # and while none is
WAITS = 2  # times that the same target is waited for
THROTTLE_PAUSE = 1.0  # seconds, doubled each time
FAILURE_PAUSE = 0.3
_TIMED_OUT = 504


class Retries:
    """`clock` in seconds, never going back; `chance` gives numbers from 0 to 1, as random.random does.

    `turn` and `again` answer with the seconds to wait before the attempt that they allow, which counts from then on.
    """

    __slots__ = ("_attempts", "_begun", "_chance", "_clock", "_failures", "_waits")

    def __init__(self, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        self._clock = clock
        self._chance = chance
        self._begun: list[float] = []  # when the latest attempts began, or will
        self._attempts = 0
        self._waits = 0  # of this target's turn
        self._failures = 0  # retries after failures, of the request while other targets are left

    def turn(self) -> float | None:
        """Another target's turn begins: seconds until it may be asked, or None when the request has had its share."""
        self._waits = 0
        return self._allow(0.0, inf)

    def again(self, error: GatewayError, last: bool) -> float | None:
        """The target failed: seconds until it may be asked again, or None when its turn is over. `last`: no other
        target is left."""
        pause = self._pause(error, last)
        return None if pause is None else self._allow(pause, PATIENT if last else SHORT)

    def _pause(self, error: GatewayError, last: bool) -> float | None:
        if error.scope not in (Scope.THROTTLE, Scope.PROVIDER) or error.status == _TIMED_OUT:
            return None
        if error.retry_after is not None:
            if self._waits >= WAITS or error.retry_after > (PATIENT if last else SHORT):
                return None
            self._waits += 1
            return error.retry_after + 0.25 * self._chance()
        if error.scope is Scope.THROTTLE:
            if self._waits >= (WAITS if last else 1):
                return None
            self._waits += 1
            return self._jittered(THROTTLE_PAUSE * 2 ** (self._waits - 1), 0.5)
        return self._after_failure(last)

    def _after_failure(self, last: bool) -> float | None:
        """One retry for the whole request, and one more for the last target: dead ones must not use the time up."""
        if self._waits or self._failures > (1 if last else 0):
            return None
        self._waits += 1
        self._failures += 1
        return self._jittered(FAILURE_PAUSE, 1 / 3)

    def _jittered(self, longest: float, least: float) -> float:
        return longest * (least + (1 - least) * self._chance())

    def _allow(self, pause: float, longest: float) -> float | None:
        """Books the attempt in `pause` seconds, or later where the window is full. None: not at all, or not within
        `longest` seconds."""
        if self._attempts >= ATTEMPTS:
            return None
        now = self._clock()
        at = now + pause
        if len(self._begun) == IN_WINDOW:
            at = max(at, self._begun[0] + WINDOW)
        if at - now > max(pause, longest):
            return None
        self._attempts += 1
        self._begun = [*self._begun[1 - IN_WINDOW :], at]
        return at - now
