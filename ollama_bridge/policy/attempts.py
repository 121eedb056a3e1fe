"""The attempt loop: the plan's targets, asked one after the other until one answers (house rules, section 3).

    for each target: gate -> open -> peek -> commit -> pump -> settle

Knows: when the same target is asked again and when the next one, what is settled after each attempt. Must not know:
wire bodies, SDK objects, aiohttp, why the plan is as it is, how a gate decides.

Until the first content reaches us a failure may become a real status, or another target's turn; after it, never.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import CONTEXT_LENGTH, GatewayError, Scope, timed_out
from ..values import ChatRequest, EmbedRequest, Usage
from .answers import finished
from .batches import in_batches
from .gates import Gates, Turn
from .metrics import Metrics
from .notes import OF_TARGET, name_provider, take_back
from .opening import Opening
from .plans import Plan, Planned
from .ports import ClientGone, Exchange, Log, Sink
from .retries import Retries
from .router import larger
from .streaming import Delivery, Opened

_HOPELESS = frozenset({Scope.CALLER, Scope.GATEWAY})  # nobody else would do better
_OF_TARGET = frozenset({Scope.MODEL, Scope.PROVIDER, Scope.NO_KEY})  # another key of the same provider does not help


@dataclass(slots=True)
class Attempt:
    """What is settled in the end: one request at one target."""

    number: int
    planned: Planned
    started: float
    first_token: float | None = None
    usage: Usage = field(default_factory=Usage)
    outcome: str = "failed"  # "ok", "cancelled", or the failure's scope


@dataclass(slots=True)
class Walk:
    """One request on its way through its plan. `delivery`: of a streamed answer. `tokens`: what it may cost, and in the
    end what it has."""

    exchange: Exchange
    request: ChatRequest | EmbedRequest
    plan: Plan
    sink: Sink
    delivery: Delivery | None
    retries: Retries
    tokens: int
    attempts: int = 0

    @contextmanager
    def naming(self, planned: Planned) -> Iterator[str]:
        """What is written inside names the model that answers: as the client did, or by its target where the client
        left the choice to us or another target had to take over."""
        asked = self.request.model
        if self.plan.tells(planned):
            self.request.model = str(planned.target)
        try:
            yield self.request.model
        finally:
            self.request.model = asked

    @property
    def committed(self) -> bool:
        return self.delivery is not None and self.delivery.committed

    def resumable(self, error: GatewayError) -> bool:
        """Whether another target may continue a stream that has broken off."""
        given = self.delivery.given if self.delivery is not None else None
        return given is not None and given.possible and error.scope is not Scope.GATEWAY


class Attempts:
    """One for the process. `hide` takes our keys out of a provider's words; `max_reply`: bytes of a whole answer;
    `retries` makes one for a request."""

    def __init__(
        self,
        opening: Opening,
        *,
        gates: Gates,
        retries: Callable[[], Retries],
        metrics: Metrics,
        log: Log,
        hide: Callable[[str], str],
        max_reply: int,
    ) -> None:
        self._opening = opening
        self._gates = gates
        self._retries = retries
        self._metrics = metrics
        self._log = log
        self._hide = hide
        self._max_reply = max_reply

    async def walk(
        self,
        exchange: Exchange,
        request: ChatRequest | EmbedRequest,
        plan: Plan,
        sink: Sink,
        delivery: Delivery | None,
    ) -> Planned:
        """Asks the plan's targets in order. -> who answered. Raises GatewayError when none does: the last that a target
        itself gave rise to, else why none was asked."""
        tokens = self._gates.guess(request)
        walk = Walk(exchange, request, plan, sink, delivery, self._retries(), tokens)
        left = list(plan.targets)
        cut: GatewayError | None = None  # what ended a stream of which the client has got something
        failure: GatewayError | None = None
        shut: GatewayError | None = None
        with await self._gates.admit(plan, tokens, delivery is not None) as permit:
            while left:
                planned = left.pop(0)
                turn = Turn()
                try:
                    refusal = await self._gates.enter(planned, request.model, exchange.caller, turn)
                    if refusal is not None:
                        shut = shut or refusal
                        continue
                    pause = walk.retries.turn()
                    if pause is None:
                        break
                    error = await self._ask(walk, planned, turn, pause, last=not left)
                finally:
                    turn.leave()
                if error is None:
                    permit.correct(walk.tokens)
                    return planned
                failure = error
                if walk.committed:
                    cut = cut or error
                    left = [other for other in left if other.target != planned.target] if walk.resumable(error) else []
                else:
                    left = _still_worth(plan, left, planned, error)
                if left:
                    self._metrics.fallbacks.labels(planned.provider.name).inc()
            permit.correct(walk.tokens if walk.committed else 0)
        raise cut or failure or shut or GatewayError("no target is left to be asked")

    async def _ask(self, walk: Walk, planned: Planned, turn: Turn, pause: float, last: bool) -> GatewayError | None:
        """One target's turn, retries included. -> why it failed."""
        stream = walk.delivery is not None
        if walk.delivery is not None:
            # Whoever waits for a probe shall not wait for its last word.
            walk.delivery.on_commit = turn.good if turn.probing else None
        again: float | None = pause
        error: GatewayError | None = None
        while True:
            if again:
                await asyncio.sleep(again)
            try:
                permit = await self._gates.attempt(planned, walk.tokens, stream)
            except GatewayError as full:
                if error is None:
                    return full
                turn.bad(error)
                return error
            with permit:
                error = await self._attempt(walk, planned)
                permit.correct(walk.tokens if error is None or walk.committed else 0)
            if error is None:
                turn.good()
                return None
            again = None if walk.committed or turn.probing else walk.retries.again(error, last)
            if again is None:
                turn.bad(error)
                return error

    async def _attempt(self, walk: Walk, planned: Planned) -> GatewayError | None:
        exchange, delivery = walk.exchange, walk.delivery
        walk.attempts += 1
        attempt = Attempt(walk.attempts, planned, time.monotonic())
        take_back(exchange, OF_TARGET)
        exchange.notes["X-Bridge-Target"] = str(planned.target)
        if attempt.number > 1:
            exchange.notes["X-Bridge-Attempts"] = str(attempt.number)
        try:
            if delivery is not None and isinstance(walk.request, ChatRequest):
                await self._stream(walk, walk.request, attempt, delivery)
            else:
                await self._whole(walk, attempt)
            attempt.outcome = "ok"
            walk.tokens = (attempt.usage.prompt or 0) + (attempt.usage.completion or 0) or walk.tokens
            return None
        except GatewayError as error:
            attempt.outcome = error.scope.value
            name_provider(error, planned.provider.name)
            error.message = self._hide(error.message)
            error.reason = error.reason and self._hide(error.reason)
            return error
        except (asyncio.CancelledError, ClientGone):
            attempt.outcome = "cancelled"
            raise
        finally:
            self._settle(exchange, walk.plan, attempt)

    def _settle(self, exchange: Exchange, plan: Plan, attempt: Attempt) -> None:
        name = attempt.planned.provider.name
        self._metrics.observe_attempt(name, attempt.outcome, attempt.first_token, attempt.usage)
        self._log.info(
            "attempt",
            request_id=exchange.request_id, path=exchange.path, provider=name,
            model=attempt.planned.model.name, plan=plan.names(), target=str(attempt.planned.target),
            attempt=attempt.number, outcome=attempt.outcome,
            seconds=round(time.monotonic() - attempt.started, 4),
            prompt_tokens=attempt.usage.prompt, completion_tokens=attempt.usage.completion,
            cached_tokens=attempt.usage.cached,
            **({"why": plan.in_words()} if attempt.number > 1 or attempt.outcome != "ok" else {}),
        )  # fmt: skip

    async def _stream(self, walk: Walk, request: ChatRequest, attempt: Attempt, delivery: Delivery) -> None:
        planned = attempt.planned
        await planned.provider.ready()
        limit = self._opening.limits(planned).total
        first_before, delivery.usage = delivery.first_ns, Usage()
        if delivery.committed and delivery.given is not None:
            request, delivery.expected = self._opening.continued(planned, request, delivery.given)
        try:
            async with asyncio.timeout(limit or None):
                opened = await self._opening.open(walk.exchange, request, planned, attempt.number, stream=True)
                with walk.naming(planned) as name:
                    delivery.name(name)
                    await delivery.attempt(opened)
        except TimeoutError:
            error = timed_out(planned.provider.name, "end of the answer", limit)
            if delivery.committed:
                error.scope = Scope.CALLER  # a long answer, or a client that reads slowly: the provider has not failed
            raise error from None
        finally:
            attempt.usage = delivery.usage
            if delivery.first_ns is not None and first_before is None:
                attempt.first_token = delivery.first_ns / 1e9

    async def _whole(self, walk: Walk, attempt: Attempt) -> None:
        planned, exchange = attempt.planned, walk.exchange
        await planned.provider.ready()
        limit = self._opening.limits(planned).total
        parts: list[tuple[Opened, bytes]] = []
        try:
            async with asyncio.timeout(limit or None):
                for part in in_batches(walk.request, planned.provider.profile.max_inputs):
                    opened = await self._opening.open(exchange, part, planned, attempt.number, stream=False)
                    try:
                        parts.append((opened, await opened.upstream.body(self._max_reply)))
                    finally:
                        opened.upstream.close()
        except TimeoutError:
            raise timed_out(planned.provider.name, "answer", limit) from None
        with walk.naming(planned):
            answer, attempt.usage = finished(exchange, walk.request, parts)
        await walk.sink.answer(answer)


def _still_worth(plan: Plan, left: list[Planned], failed: Planned, error: GatewayError) -> list[Planned]:
    """The targets that may yet do better."""
    if error.code == CONTEXT_LENGTH:
        holds_more = larger(plan, failed)
        return [planned for planned in left if planned in holds_more]
    if error.scope in _HOPELESS:
        return []
    if error.scope in _OF_TARGET:
        return [planned for planned in left if planned.target != failed.target]
    return left
