"""The life of a request, top to bottom (house rules, section 3).

    decode -> find the model -> check -> plan -> attempts (bind -> open -> peek -> commit -> pump -> settle)

Knows: the order of stages, the client's side of them. Must not know: wire bodies, SDK objects, aiohttp, how targets
are asked (attempts).

Before the commit point a failure becomes a real status, after it the client dialect's in-stream error. A cut answer is
never presented as complete.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from ..errors import GatewayError
from ..providers.base import Provider
from ..values import ChatRequest, EmbedReply, EmbedRequest, Reply
from . import router
from .answers import moment
from .aside import aside
from .attempts import Attempts
from .catalog import Model
from .extent import check_extent
from .metrics import Metrics
from .notes import log_failure, note_error
from .ports import Capture, Exchange, Log, Residency, Sink
from .streaming import Delivery


class Pipeline:
    """One for the process. `find` looks a public name up; `heartbeat` in seconds, 0 is off."""

    def __init__(
        self,
        *,
        find: Callable[[str], Awaitable[Model]],
        providers: Mapping[str, Provider],
        attempts: Attempts,
        residency: Residency,
        metrics: Metrics,
        log: Log,
        heartbeat: float,
        capture: Capture | None = None,
    ) -> None:
        self._find = find
        self._providers = providers
        self._attempts = attempts
        self._residency = residency
        self._metrics = metrics
        self._log = log
        self._heartbeat = heartbeat
        self._capture = capture

    async def run(self, exchange: Exchange, sink: Sink) -> None:
        """Answers the exchange through the sink, whatever happens. Raises only ClientGone and CancelledError."""
        stream, name = False, ""
        try:
            if self._capture is not None:
                self._capture.inbound(exchange.request_id, exchange.path, exchange.body)
            request = await aside(len(exchange.body), exchange.dialect.decode, exchange.kind, exchange.body)
            check_extent(request)
            stream, name = isinstance(request, ChatRequest) and request.stream, request.model
            await self._serve(exchange, request, sink)
        except GatewayError as error:
            note_error(exchange, error)
            log_failure(self._log, exchange, error, name)
            await sink.answer(exchange.dialect.write_error(exchange.kind, error, stream))

    async def _serve(self, exchange: Exchange, request: ChatRequest | EmbedRequest, sink: Sink) -> None:
        model = await self._find(request.model)
        plan = router.plan(router.facts_of(exchange.kind, request), model, self._providers)
        # Targets that speak the client's own dialect judge the request themselves, loads and unloads included.
        native = all(planned.provider.dialect == exchange.dialect.name for planned in plan.targets)
        if not native and await self._answer_here(exchange, request, model, sink):
            return
        self._touch(request, model)
        try:
            if isinstance(request, ChatRequest) and request.stream and request.intent == "run":
                await self._deliver(exchange, request, model, plan, sink)
            else:
                await self._attempts.walk(exchange, request, model, plan, sink, None)
        finally:
            self._touch(request, model, ended=True)

    async def _deliver(
        self, exchange: Exchange, request: ChatRequest, model: Model, plan: router.Plan, sink: Sink
    ) -> None:
        """A streamed answer. Once anything of it is out (a heart-beat is enough), a failure is told inside it."""
        delivery = Delivery.begin(exchange, request, sink, self._heartbeat)
        self._metrics.active_streams.inc()
        try:
            await self._attempts.walk(exchange, request, model, plan, sink, delivery)
        except GatewayError as error:
            await delivery.silence.settled()
            if not sink.started:
                raise
            log_failure(self._log, exchange, error, request.model)
            await delivery.fail(error)
        finally:
            delivery.silence.stop()
            self._metrics.active_streams.dec()

    async def _answer_here(
        self, exchange: Exchange, request: ChatRequest | EmbedRequest, model: Model, sink: Sink
    ) -> bool:
        """Loads and unloads cost nothing: they are answered without asking anyone."""
        reason = request.intent
        if reason != "unload":
            exchange.dialect.check(exchange.kind, request, model.view)
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
