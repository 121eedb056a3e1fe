"""The attempt loop: the plan's targets, asked one after the other until one answers (house rules, section 3).

    for each target: open -> peek -> commit -> pump -> settle

Knows: when the next target may be asked, what is settled after each attempt. Must not know: wire bodies, SDK objects,
aiohttp, why the plan is as it is.

Until the first content reaches us a failure may become a real status, or another target's turn; after it, never.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import GatewayError, Scope, timed_out
from ..providers.base import Provider
from ..values import ChatRequest, EmbedRequest, Usage
from . import router
from .answers import finished
from .batches import in_batches
from .catalog import Model
from .metrics import Metrics
from .notes import name_provider
from .opening import Opening
from .ports import ClientGone, Exchange, Log, Sink
from .streaming import Delivery, Opened

OF_ATTEMPT = ("X-Bridge-Dropped", "X-Bridge-Trimmed", "X-Bridge-Upstream-Id")  # said of who answered, of no one before


@dataclass(slots=True)
class Attempt:
    """What is settled in the end: one request at one target."""

    number: int
    provider: Provider
    target: str
    started: float
    first_token: float | None = None
    usage: Usage = field(default_factory=Usage)
    outcome: str = "failed"  # "ok", "cancelled", or the failure's scope


class Attempts:
    """One for the process. `hide` takes our keys out of a provider's words; `max_reply`: bytes of a whole answer."""

    def __init__(
        self, opening: Opening, *, metrics: Metrics, log: Log, hide: Callable[[str], str], max_reply: int
    ) -> None:
        self._opening = opening
        self._metrics = metrics
        self._log = log
        self._hide = hide
        self._max_reply = max_reply

    async def walk(
        self,
        exchange: Exchange,
        request: ChatRequest | EmbedRequest,
        model: Model,
        plan: router.Plan,
        sink: Sink,
        delivery: Delivery | None,
    ) -> None:
        """Asks the plan's targets in order. `delivery`: of a streamed answer. Raises GatewayError, the last one's, when
        none answers."""
        for number, planned in enumerate(plan.targets, 1):
            attempt = Attempt(number, planned.provider, str(planned.target), time.monotonic())
            for name in OF_ATTEMPT:
                exchange.notes.pop(name, None)
            exchange.notes["X-Bridge-Target"] = attempt.target
            if number > 1:
                exchange.notes["X-Bridge-Attempts"] = str(number)
            try:
                if delivery is not None and isinstance(request, ChatRequest):
                    await self._stream(request, model, planned, attempt, delivery)
                else:
                    await self._whole(exchange, request, model, planned, attempt, sink)
                attempt.outcome = "ok"
                return
            except GatewayError as error:
                attempt.outcome = error.scope.value
                last = number == len(plan.targets)
                name_provider(error, planned.provider.name)
                error.message = self._hide(error.message)
                error.reason = error.reason and self._hide(error.reason)
                committed = delivery is not None and delivery.committed
                if last or committed or error.scope in (Scope.CALLER, Scope.GATEWAY):
                    raise
                self._metrics.fallbacks.labels(planned.provider.name).inc()
            except (asyncio.CancelledError, ClientGone):
                attempt.outcome = "cancelled"
                raise
            finally:
                self._settle(exchange, model, attempt)

    def _settle(self, exchange: Exchange, model: Model, attempt: Attempt) -> None:
        name = attempt.provider.name
        self._metrics.observe_attempt(name, attempt.outcome, attempt.first_token, attempt.usage)
        self._log.info(
            "attempt",
            request_id=exchange.request_id, path=exchange.path, provider=name, model=model.name, target=attempt.target,
            attempt=attempt.number, outcome=attempt.outcome, seconds=round(time.monotonic() - attempt.started, 4),
            prompt_tokens=attempt.usage.prompt, completion_tokens=attempt.usage.completion,
        )  # fmt: skip

    async def _stream(
        self, request: ChatRequest, model: Model, planned: router.Planned, attempt: Attempt, delivery: Delivery
    ) -> None:
        await planned.provider.ready()
        limit = self._opening.limits(planned).total
        try:
            async with asyncio.timeout(limit or None):
                opened = await self._opening.open(
                    delivery.exchange, request, model, planned, attempt.number, stream=True
                )
                await delivery.attempt(opened)
        except TimeoutError:
            raise timed_out(planned.provider.name, "end of the answer", limit) from None
        finally:
            attempt.usage = delivery.usage
            if delivery.first_ns is not None:
                attempt.first_token = delivery.first_ns / 1e9

    async def _whole(
        self,
        exchange: Exchange,
        request: ChatRequest | EmbedRequest,
        model: Model,
        planned: router.Planned,
        attempt: Attempt,
        sink: Sink,
    ) -> None:
        await planned.provider.ready()
        limit = self._opening.limits(planned).total
        parts: list[tuple[Opened, bytes]] = []
        try:
            async with asyncio.timeout(limit or None):
                for part in in_batches(request, planned.provider.profile.max_inputs):
                    opened = await self._opening.open(exchange, part, model, planned, attempt.number, stream=False)
                    try:
                        parts.append((opened, await opened.upstream.body(self._max_reply)))
                    finally:
                        opened.upstream.close()
        except TimeoutError:
            raise timed_out(planned.provider.name, "answer", limit) from None
        answer, attempt.usage = finished(exchange, request, parts)
        await sink.answer(answer)
