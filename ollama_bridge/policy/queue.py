"""A queue in front of a provider that can only do so much at once, such as a model on one's own machine.

Knows: clients by some name (a key or an address), a clock that is given. Must not know: requests, providers.

Bounded: `at_once` work, `waiting` wait, each for `wait` seconds at most. Fair: clients are served in turns, however
much each has asked for; and when the queue is full, the newest of whoever has the most in it makes room for one who has
less.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from types import TracebackType

from ..errors import GatewayError, Scope

_LONGEST_ADVICE = 60.0  # seconds of a Retry-After
_OLD = 0.8  # weight of what was known of the time that a turn takes


@dataclass(frozen=True, slots=True)
class Size:
    """`wait` in seconds."""

    at_once: int
    waiting: int
    wait: float


class Queue:
    """Of one provider; `name` is for the words of errors."""

    def __init__(self, name: str, size: Size, clock: Callable[[], float]) -> None:
        self._name = name
        self._clock = clock
        self._working = 0
        self._count = 0  # of those who wait
        self._waiting: dict[
            str, deque[asyncio.Future[None]]
        ] = {}  # client -> oldest first; the client next in turn first
        self._turn = 1.0  # seconds that a turn takes, about
        self._size = size

    async def enter(self, client: str) -> Place:
        """A place among those who work; give it back with `leave`. Raises GatewayError (503, with Retry-After): the
        queue is full, or it took too long."""
        if self._working < self._size.at_once and not self._count:
            self._working += 1
        else:
            await self._wait(client)
        return Place(self, self._clock())

    async def _wait(self, client: str) -> None:
        if self._count >= self._size.waiting and not self._make_room(client):
            raise self._full()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        self._count += 1
        try:
            async with asyncio.timeout(self._size.wait or None):
                await turn
        except TimeoutError:
            self._give_up(client, turn)
            raise self._refusal(f"has not come to this request within {self._size.wait:g} s") from None
        except asyncio.CancelledError:
            self._give_up(client, turn)
            raise

    def _give_up(self, client: str, turn: asyncio.Future[None]) -> None:
        if turn.cancelled():  # its turn had not come; it may have been passed over already
            if turn in self._waiting.get(client, ()):
                self._remove(client, turn)
        elif turn.exception() is None:  # it had, in this very moment
            self._left()

    def _remove(self, client: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting[client]
        turns.remove(turn)
        self._count -= 1
        if not turns:
            del self._waiting[client]

    def _make_room(self, client: str) -> bool:
        """Whether another's newest was sent away for `client`, who has less in the queue."""
        if not self._waiting:
            return False
        greedy = max(self._waiting, key=lambda name: len(self._waiting[name]))
        if len(self._waiting[greedy]) <= len(self._waiting.get(client, ())) + 1:
            return False
        turn = self._waiting[greedy][-1]
        if not turn.cancelled():  # else it is about to go by itself
            turn.set_exception(self._full())
        self._remove(greedy, turn)
        return True

    def leave(self, since: float) -> None:
        self._turn = _OLD * self._turn + (1 - _OLD) * (self._clock() - since)
        self._left()

    def _left(self) -> None:
        self._working -= 1
        self._wake()

    def change(self, size: Size) -> None:
        """From now on it holds; for who waits already, `wait` stays as it was."""
        self._size = size
        self._wake()

    def _wake(self) -> None:
        """Lets in whoever waits, for as long as there is room."""
        while self._count and self._working < self._size.at_once:
            client, turns = next(iter(self._waiting.items()))
            turn = turns[0]
            self._remove(client, turn)
            if turn.cancelled():  # its task has not heard of it yet
                continue
            if client in self._waiting:
                self._waiting[client] = self._waiting.pop(client)  # to the end of the row
            self._working += 1
            turn.set_result(None)

    def _full(self) -> GatewayError:
        return self._refusal(f"is full, {self._count} requests are waiting")

    def _refusal(self, words: str) -> GatewayError:
        wait = min(max(self._turn * (self._count + 1) / max(self._size.at_once, 1), 1.0), _LONGEST_ADVICE)
        return GatewayError(
            f"the queue of provider '{self._name}' {words}; try again in {ceil(wait)} s",
            status=503, scope=Scope.THROTTLE, provider=self._name, retry_after=wait,
        )  # fmt: skip


class Place:
    """Leave it once the work is done; a `with` block does it. A second time does nothing."""

    __slots__ = ("_queue", "_since")

    def __init__(self, queue: Queue | None, since: float) -> None:
        self._queue = queue
        self._since = since

    def leave(self) -> None:
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.leave(self._since)

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


class Queues:
    """One for each provider that has a size. Outlives a configuration: what waits goes on waiting."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._queues: dict[str, Queue] = {}

    def change(self, sizes: Mapping[str, Size]) -> None:
        """A provider without a size has no queue from now on."""
        before = self._queues
        self._queues = {name: before.get(name) or Queue(name, size, self._clock) for name, size in sizes.items()}
        for name, queue in self._queues.items():
            queue.change(sizes[name])

    async def enter(self, provider: str, client: str) -> Place:
        """As Queue.enter; at once for a provider without a queue."""
        queue = self._queues.get(provider)
        return await queue.enter(client) if queue is not None else _FREE


_FREE = Place(None, 0.0)
