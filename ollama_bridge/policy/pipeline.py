"""The life of a request, top to bottom (house rules, section 3).

    decode -> select the model -> plan -> check -> attempts (bind -> open -> peek -> commit -> pump -> settle)

Knows: the order of stages, the client's side of them. Must not know: wire bodies, SDK objects, aiohttp, how targets
are asked (attempts).

Before the commit point a failure becomes a real status, after it the client dialect's in-stream error. A cut answer is
never presented as complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import GatewayError, shutting_down
from ..values import ChatRequest, EmbedReply, EmbedRequest, Reply
from .answers import moment
from .aside import aside
from .attempts import Attempts
from .catalog import Model
from .extent import check_extent
from .metrics import Metrics
from .notes import log_bug, log_failure, note_error
from .planning import Planner
from .plans import Plan
from .ports import Capture, ClientGone, Exchange, Log, Residency, Sink
from .resume import Given
from .selection import Selection
from .streaming import Delivery


class Pipeline:
    """One for a configuration. `heartbeat` in seconds, 0 is off."""

    def __init__(
        self,
        *,
        selection: Selection,
        planner: Planner,
        attempts: Attempts,
        residency: Residency,
        metrics: Metrics,
        log: Log,
        heartbeat: float,
        capture: Capture | None = None,
    ) -> None:
        self._selection = selection
        self._planner = planner
        self._attempts = attempts
        self._residency = residency
        self._metrics = metrics
        self._log = log
        self._heartbeat = heartbeat
        self._capture = capture
        self._under_way: set[asyncio.Task[Any]] = set()
        self._told: set[asyncio.Task[Any]] = set()  # to end
        self._ended = False

    async def run(self, exchange: Exchange, sink: Sink) -> None:
        """Answers the exchange through the sink, whatever happens. Raises only ClientGone and CancelledError."""
        stream, name = False, ""
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            with self._endable(task):
                if self._ended:
                    raise shutting_down()
                if self._capture is not None:
                    self._capture.inbound(exchange.request_id, exchange.path, exchange.body)
                request = await aside(len(exchange.body), exchange.dialect.decode, exchange.kind, exchange.body)
                check_extent(request)
                stream, name = isinstance(request, ChatRequest) and request.stream, request.model
                await self._serve(exchange, request, sink)
        except GatewayError as error:
            note_error(exchange, error)
            log_failure(self._log, exchange, error, name)
            if sink.started:
                sink.abort()  # in the middle of a whole answer: there is no way to say it
            else:
                await sink.answer(exchange.dialect.write_error(exchange.kind, error, stream))
        finally:
            self._under_way.discard(task)
            self._told.discard(task)

    def end(self) -> None:
        """Requests under way end, and say so: a stream in its last frame, a whole answer with a 503. So do those that
        come later."""
        self._ended = True
        for task in self._under_way - self._told:
            self._told.add(task)
            task.cancel()

    @contextmanager
    def _endable(self, task: asyncio.Task[Any]) -> Iterator[None]:
        """What `end` cancels inside becomes an error that a client can be told. A client that leaves cancels too, and
        nobody needs to be told anything then."""
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._told or task.uncancel() > 0:
                raise
            raise shutting_down() from None

    async def _serve(self, exchange: Exchange, request: ChatRequest | EmbedRequest, sink: Sink) -> None:
        selected = await self._selection.select(exchange, request)
        request, model = selected.request, selected.model
        plan = self._planner.plan(exchange, selected)
        # Targets that speak the client's own dialect judge the request themselves, loads and unloads included.
        native = all(planned.provider.dialect == exchange.dialect.name for planned in plan.targets)
        if not native and await self._answer_here(exchange, request, model, plan, sink):
            return
        self._touch(request, model)
        try:
            if isinstance(request, ChatRequest) and request.stream and request.intent == "run":
                await self._deliver(exchange, request, plan, sink)
            else:
                self._planner.served(plan, await self._attempts.walk(exchange, request, plan, sink, None))
        finally:
            self._touch(request, model, ended=True)

    async def _deliver(self, exchange: Exchange, request: ChatRequest, plan: Plan, sink: Sink) -> None:
        """A streamed answer. Once anything of it is out (a heart-beat is enough), a failure is told inside it."""
        delivery = Delivery.begin(exchange, request, sink, self._heartbeat, alone=len(plan.targets) == 1)
        if len(plan.targets) > 1 and plan.targets[0].model.resume:
            delivery.given = Given()
        self._metrics.active_streams.inc()
        task = asyncio.current_task()
        assert task is not None
        try:
            with self._endable(task):
                self._planner.served(plan, await self._attempts.walk(exchange, request, plan, sink, delivery))
        except GatewayError as error:
            await delivery.silence.settled()
            if not sink.started:
                raise
            log_failure(self._log, exchange, error, request.model)
            await delivery.fail(error)
        except ClientGone:
            raise
        except Exception as error:  # a bug of ours must not leave a client without a word
            await delivery.silence.settled()
            if not sink.started:
                raise
            log_bug(self._log, exchange, error)
            await delivery.fail(GatewayError(f"internal error (request {exchange.request_id})"))
        finally:
            delivery.silence.stop()
            self._metrics.active_streams.dec()

    async def _answer_here(
        self, exchange: Exchange, request: ChatRequest | EmbedRequest, model: Model, plan: Plan, sink: Sink
    ) -> bool:
        """Loads and unloads cost nothing: they are answered without asking anyone."""
        reason = request.intent
        if reason != "unload":
            exchange.dialect.check(exchange.kind, request, plan.view(model))
        if reason == "run":
            return False
        self._touch(request, model, ended=True)
        reply: Reply | EmbedReply = Reply(reason=reason) if isinstance(request, ChatRequest) else EmbedReply([])
        await sink.answer(exchange.dialect.write_reply(exchange.kind, request, reply, moment(exchange)))
        return True

    def _touch(self, request: ChatRequest | EmbedRequest, model: Model, ended: bool = False) -> None:
        """Loaded from the beginning of a request on, and kept from its end on (ollama-protocol.md 2.1)."""
        keep_alive, default = request.keep_alive, model.defaults.keep_alive
        wanted = default if keep_alive is None else keep_alive
        if request.intent == "unload" or (ended and wanted == 0):
            self._residency.unload(model.shown)
        else:
            num_ctx = request.sampling.num_ctx if isinstance(request, ChatRequest) else None
            self._residency.touch(model.shown, keep_alive or None, num_ctx, default or None)
