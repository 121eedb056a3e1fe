"""Limits: requests and tokens a minute, streams at once; of the gateway, each provider, each model (product.md 4).

Knows: numbers by name, a clock that is given, a place where several processes count together. Must not know: Redis,
requests, what a client is told beyond the 429.

The minute is a sliding window of one-second buckets: a use counts from its moment on until the end of the second that
is 60 seconds later, so that no 60 seconds ever hold more than the limit, and a limit takes a minute's worth of small
numbers to remember. All limits that concern one request are checked before any is counted.

With several processes the shared counts decide. What they grant is noted here too: when they cannot be asked, this
process goes on by its own notes, as if it were alone, and nothing fails for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from types import TracebackType
from typing import Protocol

from ..errors import GatewayError, Scope
from .catalog import key

MINUTE = 60  # seconds
_RING = MINUTE + 1  # buckets
AT_LEAST = 1.0  # seconds of a Retry-After; nobody knows when a stream ends

EVERYONE = "everyone"  # the gateway's own limits


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests and tokens in any 60 seconds, streams at once. 0 is no limit."""

    requests: int = 0
    tokens: int = 0
    streams: int = 0

    def __bool__(self) -> bool:
        return bool(self.requests or self.tokens or self.streams)


Claim = tuple[str, int, int, int]  # what is counted under which name: name, then the Rate's numbers


@dataclass(frozen=True, slots=True)
class Full:
    """A limit that is reached. `which` of the claims, `kind` "requests", "tokens" or "streams", `wait` seconds until it
    would pass; None: never, the request alone is more than the limit."""

    which: int
    kind: str
    wait: float | None


class Taken(Protocol):
    """An answer of the shared counts. `full` is None when the uses are counted; only then anything is given back."""

    @property
    def full(self) -> tuple[int, str, float | None] | None:
        """As in Full."""
        ...

    def correct(self, tokens: int) -> None:
        """So many tokens more (or fewer, below 0). Never waits, never raises."""
        ...

    def release(self) -> None:
        """The stream has ended. Never waits, never raises."""
        ...


class Shared(Protocol):
    """Where several processes count together."""

    async def take(self, claims: Sequence[Claim], tokens: int, stream: bool) -> Taken | None:
        """All claims or none, in one step. None: it cannot be told now. Raises nothing."""
        ...


class Window:
    """What was counted in the last minute."""

    __slots__ = ("_buckets", "_newest", "total")

    def __init__(self) -> None:
        self._buckets = [0] * _RING
        self._newest = 0
        self.total = 0

    def move(self, second: int) -> None:
        """`total` is the sum that counts in `second`, which is later than any before."""
        for gone in range(max(self._newest + 1, second - MINUTE), second + 1):
            self.total -= self._buckets[gone % _RING]
            self._buckets[gone % _RING] = 0
        self._newest = second

    def add(self, second: int, count: int) -> None:
        """A second that is no longer counted is left alone."""
        if second >= self._newest - MINUTE:
            self._buckets[second % _RING] += count
            self.total += count

    def wait(self, now: float, count: int, limit: int) -> float | None:
        """Seconds until `count` more are within the limit; None: never."""
        if count > limit:
            return None
        left = self.total
        for second in range(self._newest - MINUTE, self._newest + 1):
            left -= self._buckets[second % _RING]
            if left + count <= limit:
                return second + _RING - now
        return 0.0


class _Count:
    """What is counted under one name. `second`: up to which its windows have moved."""

    __slots__ = ("requests", "second", "streams", "tokens")

    def __init__(self) -> None:
        self.requests = Window()
        self.tokens = Window()
        self.streams = 0
        self.second = 0

    def move(self, second: int) -> None:
        self.requests.move(second)
        self.tokens.move(second)
        self.second = second


class Counts:
    """What one process has counted, and where it counts with others. Lives longer than the numbers that limit it.
    `clock` in seconds, never going back."""

    def __init__(self, clock: Callable[[], float], shared: Shared | None = None) -> None:
        self._clock = clock
        self._counts: dict[str, _Count] = {}
        self.shared = shared

    async def take(self, claims: Sequence[Claim], tokens: int, stream: bool) -> Permit | Full:
        """All claims or none. Waits only for the shared counts, and for those only a moment."""
        taken = await self.shared.take(claims, tokens, stream) if self.shared is not None else None
        if taken is not None and taken.full is not None:
            return Full(*taken.full)
        now = self._clock()
        second = int(now)
        counts = []
        for name, *_ in claims:
            count = self._counts.get(name) or self._new(name)
            if second > count.second:
                count.move(second)
            counts.append(count)
        if taken is None:
            full = _full(claims, counts, now, tokens, stream)
            if full is not None:
                return full
        for count in counts:
            count.requests.add(second, 1)
            if tokens:
                count.tokens.add(second, tokens)
            count.streams += stream
        return Permit(counts, second, tokens, stream, taken)

    def _new(self, name: str) -> _Count:
        count = self._counts[name] = _Count()
        return count


def _full(claims: Sequence[Claim], counts: Sequence[_Count], now: float, tokens: int, stream: bool) -> Full | None:
    for which, (_, requests_limit, tokens_limit, streams_limit) in enumerate(claims):
        count = counts[which]
        if requests_limit and count.requests.total >= requests_limit:
            return Full(which, "requests", count.requests.wait(now, 1, requests_limit))
        if tokens_limit and count.tokens.total + tokens > tokens_limit:
            return Full(which, "tokens", count.tokens.wait(now, tokens, tokens_limit))
        if stream and streams_limit and count.streams >= streams_limit:
            return Full(which, "streams", AT_LEAST)
    return None


class Permit:
    """What one request, or one attempt of it, has taken. Its stream is given back where it was taken: a `with`
    block does it."""

    __slots__ = ("_counts", "_second", "_streams", "_taken", "_tokens")

    def __init__(
        self, counts: Sequence[_Count], second: int, tokens: int, stream: bool, taken: Taken | None = None
    ) -> None:
        self._counts = counts
        self._second = second
        self._tokens = tokens
        self._streams = stream
        self._taken = taken

    def correct(self, tokens: int) -> None:
        """The tokens it has really cost, once they are known, in place of those that were guessed."""
        more, self._tokens = tokens - self._tokens, tokens
        if not more:
            return
        for count in self._counts:
            count.tokens.add(self._second, more)
        if self._taken is not None:
            self._taken.correct(more)

    def release(self) -> None:
        """Its stream has ended; a second call does nothing."""
        if self._streams:
            self._streams = False
            for count in self._counts:
                count.streams -= 1
            if self._taken is not None:
                self._taken.release()

    def __enter__(self) -> Permit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Limits:
    """The numbers of one configuration over Counts that last. `everyone` limits all requests together; `providers` by
    name, what a provider leaves open already filled in; `models` by public name. `hit(limit, kind)` is called when a
    limit is reached, `limit` as in "everyone", "provider:groq", "model:fast". `counts_tokens`: whether it is worth
    while to guess those of a request."""

    def __init__(
        self,
        counts: Counts,
        everyone: Rate = Rate(),
        providers: Mapping[str, Rate] | None = None,
        models: Mapping[str, Rate] | None = None,
        hit: Callable[[str, str], None] = lambda limit, kind: None,
    ) -> None:
        self._counts = counts
        self._hit = hit
        rates = (everyone, *(providers or {}).values(), *(models or {}).values())
        self.counts_tokens = any(rate.tokens for rate in rates)
        self._everyone = (_claim(EVERYONE, everyone),) if everyone else ()
        self._models = {
            key(name): (_claim(f"model:{key(name)}", rate),) for name, rate in (models or {}).items() if rate
        }
        self._providers = {
            name: (_claim(f"provider:{name}", rate),) for name, rate in (providers or {}).items() if rate
        }

    async def admit_request(self, model: str, tokens: int, stream: bool, asked: str = "") -> Permit:
        """Once a request, before its first attempt: the gateway's own limits and those of the public model, and of
        `asked`, the name by which the table was asked for it. `tokens` as far as they can be guessed. Raises
        GatewayError (429): the client must wait."""
        claims = self._everyone
        if self._models:
            claims = (*claims, *self._models.get(key(model), ()), *(self._models.get(key(asked), ()) if asked else ()))
        return await self._admit(claims, tokens, stream, None) if claims else UNLIMITED

    async def admit_attempt(self, provider: str, tokens: int, stream: bool) -> Permit:
        """Before each attempt: the limits of its provider. Raises GatewayError (429): the next target's turn, where
        there is one."""
        claims = self._providers.get(provider)
        return await self._admit(claims, tokens, stream, provider) if claims else UNLIMITED

    async def _admit(self, claims: Sequence[Claim], tokens: int, stream: bool, provider: str | None) -> Permit:
        taken = await self._counts.take(claims, tokens, stream)
        if isinstance(taken, Permit):
            return taken
        self._hit(claims[taken.which][0], taken.kind)
        raise _refusal(claims[taken.which], taken, tokens, provider)


UNLIMITED = Permit((), 0, 0, False)


def _claim(name: str, rate: Rate) -> Claim:
    return name, rate.requests, rate.tokens, rate.streams


def _refusal(claim: Claim, full: Full, tokens: int, provider: str | None) -> GatewayError:
    whose, _, name = claim[0].partition(":")
    of = f" for {whose} '{name}'" if name else ""
    if full.kind == "streams":
        limit = f"the gateway's limit of {claim[3]} concurrent streams{of}"
    else:
        limit = f"the gateway's limit of {claim[1] if full.kind == 'requests' else claim[2]} {full.kind} per minute{of}"
    if full.wait is None:
        words, wait = f"the request needs about {tokens} tokens, which is more than {limit}", None
    else:
        wait = max(full.wait, AT_LEAST)
        words = f"{limit} is reached; try again in {ceil(wait)} s"
    return GatewayError(words, status=429, scope=Scope.THROTTLE, provider=provider, retry_after=wait)
