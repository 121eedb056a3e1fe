"""The life of a request, top to bottom (house rules, section 3).

    decode -> find the model -> check -> plan -> for each target: bind -> open -> peek -> commit -> pump -> settle

Knows: the order of stages, the attempt loop, the commit point. Must not know: wire bodies, SDK objects, aiohttp.

Until the first content reaches us a failure may become a real status, or another target's turn; after it, never: it
becomes the client dialect's in-stream error. A cut answer is never presented as complete.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import msgspec

from ..dialects.base import Answer, Dialect, Moment
from ..errors import CONTEXT_LENGTH, GatewayError, Scope, UpstreamRefused, classify, timed_out
from ..events import fold, unfold
from ..framing import BadJSON, loads
from ..providers.base import Call, Provider, Timeouts, Upstream
from ..values import ChatRequest, EmbedReply, EmbedRequest, Reply, Usage
from . import router, trim
from .aside import aside
from .batches import in_batches, joined
from .binding import Bound, Fetch, bind, in_words
from .carrier import carriage
from .catalog import Model
from .continuity import Continuity
from .extent import check_extent
from .metrics import Metrics
from .notes import log_failure, name_provider, note_error, upstream_request_id
from .ports import Capture, ClientGone, Exchange, Log, Residency, Sink
from .repair import Learned, learn
from .stops import StopCutter
from .streaming import Delivery, Opened

MAX_REPAIRS = 3  # a request (providers.md 2.6)
OF_ATTEMPT = ("X-Bridge-Dropped", "X-Bridge-Trimmed", "X-Bridge-Upstream-Id")  # said of who answered, of no one before


@dataclass(frozen=True, slots=True)
class Settings:
    """`heartbeat` in seconds, 0 is off. `max_reply` bytes of a whole answer."""

    heartbeat: float = 20.0
    max_reply: int = 64 * 1024 * 1024
    strict_parameters: bool = False


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


class Pipeline:
    """One for the process. `timeouts` and `presets` (the row a provider was made from) by provider name; `find` looks a
    public name up; `hide` takes our keys out of a provider's words."""

    def __init__(
        self,
        *,
        find: Callable[[str], Awaitable[Model]],
        providers: Mapping[str, Provider],
        presets: Mapping[str, str],
        timeouts: Mapping[str, Timeouts],
        dialects: Mapping[str, Dialect],
        residency: Residency,
        fetch: Fetch,
        learned: Learned,
        continuity: Continuity,
        metrics: Metrics,
        log: Log,
        settings: Settings,
        hide: Callable[[str], str],
        capture: Capture | None = None,
    ) -> None:
        self.find = find
        self.providers = providers
        self.presets = presets
        self.timeouts = timeouts
        self.dialects = dialects
        self.residency = residency
        self.fetch = fetch
        self.learned = learned
        self.continuity = continuity
        self.metrics = metrics
        self.log = log
        self.settings = settings
        self.hide = hide
        self.capture = capture

    # -- the door side -----------------------------------------------------------------------------------------------
    async def run(self, exchange: Exchange, sink: Sink) -> None:
        """Answers the exchange through the sink, whatever happens. Raises only ClientGone and CancelledError."""
        stream, name = False, ""
        try:
            if self.capture is not None:
                self.capture.inbound(exchange.request_id, exchange.path, exchange.body)
            request = await aside(len(exchange.body), exchange.dialect.decode, exchange.kind, exchange.body)
            check_extent(request)
            stream, name = isinstance(request, ChatRequest) and request.stream, request.model
            await self._serve(exchange, request, sink)
        except GatewayError as error:
            note_error(exchange, error)
            log_failure(self.log, exchange, error, name)
            await sink.answer(exchange.dialect.write_error(exchange.kind, error, stream))

    async def _serve(self, exchange: Exchange, request: ChatRequest | EmbedRequest, sink: Sink) -> None:
        model = await self.find(request.model)
        plan = router.plan(router.facts_of(exchange.kind, request), model, self.providers)
        # Targets that speak the client's own dialect judge the request themselves, loads and unloads included.
        native = all(planned.provider.dialect == exchange.dialect.name for planned in plan.targets)
        if not native and await self._answer_here(exchange, request, model, sink):
            return
        self._touch(request, model)
        try:
            if isinstance(request, ChatRequest) and request.stream and request.intent == "run":
                await self._deliver(exchange, request, model, plan, sink)
            else:
                await self._walk(exchange, request, model, plan, sink, None)
        finally:
            self._touch(request, model, ended=True)

    async def _deliver(
        self, exchange: Exchange, request: ChatRequest, model: Model, plan: router.Plan, sink: Sink
    ) -> None:
        """A streamed answer. Once anything of it is out (a heart-beat is enough), a failure is told inside it."""
        delivery = Delivery.begin(exchange, request, sink, self.settings.heartbeat)
        self.metrics.active_streams.inc()
        try:
            await self._walk(exchange, request, model, plan, sink, delivery)
        except GatewayError as error:
            await delivery.silence.settled()
            if not sink.started:
                raise
            log_failure(self.log, exchange, error, request.model)
            await delivery.fail(error)
        finally:
            delivery.silence.stop()
            self.metrics.active_streams.dec()

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
        await sink.answer(exchange.dialect.write_reply(exchange.kind, request, reply, self._now(exchange)))
        return True

    def _touch(self, request: ChatRequest | EmbedRequest, model: Model, ended: bool = False) -> None:
        """Loaded from the beginning of a request on, and kept from its end on (ollama-protocol.md 2.1)."""
        keep_alive, default = request.keep_alive, model.defaults.keep_alive
        wanted = default if keep_alive is None else keep_alive
        if request.intent == "unload" or (ended and wanted == 0):
            self.residency.unload(model.shown)
        else:
            num_ctx = request.sampling.num_ctx if isinstance(request, ChatRequest) else None
            self.residency.touch(model.shown, keep_alive or None, num_ctx, default or None)

    # -- the attempt loop --------------------------------------------------------------------------------------------
    async def _walk(
        self,
        exchange: Exchange,
        request: ChatRequest | EmbedRequest,
        model: Model,
        plan: router.Plan,
        sink: Sink,
        delivery: Delivery | None,
    ) -> None:
        """Asks the plan's targets in order. The last error stands when none answers."""
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
                error.message = self.hide(error.message)
                error.reason = error.reason and self.hide(error.reason)
                committed = delivery is not None and delivery.committed
                if last or committed or error.scope in (Scope.CALLER, Scope.GATEWAY):
                    raise
                self.metrics.fallbacks.labels(planned.provider.name).inc()
            except (asyncio.CancelledError, ClientGone):
                attempt.outcome = "cancelled"
                raise
            finally:
                self._settle(exchange, model, attempt)

    def _settle(self, exchange: Exchange, model: Model, attempt: Attempt) -> None:
        name = attempt.provider.name
        self.metrics.observe_attempt(name, attempt.outcome, attempt.first_token, attempt.usage)
        self.log.info(
            "attempt",
            request_id=exchange.request_id, path=exchange.path, provider=name, model=model.name, target=attempt.target,
            attempt=attempt.number, outcome=attempt.outcome, seconds=round(time.monotonic() - attempt.started, 4),
            prompt_tokens=attempt.usage.prompt, completion_tokens=attempt.usage.completion,
        )  # fmt: skip

    async def _open(
        self,
        exchange: Exchange,
        request: ChatRequest | EmbedRequest,
        model: Model,
        planned: router.Planned,
        attempt: Attempt,
        stream: bool,
    ) -> Opened:
        """Binds and opens; a refusal that names a parameter is repaired and learnt, at most MAX_REPAIRS times."""
        provider = planned.provider
        preset = self.presets.get(provider.name, "")
        way = carriage(self.learned, exchange.dialect.name, request, model, planned, preset)
        strict = self.settings.strict_parameters if model.strict_parameters is None else model.strict_parameters
        timeouts = self._timeouts(planned)
        await provider.ready()
        repairs = 0
        words: list[str] = []
        while True:
            dialect = self.dialects[way.dialect]
            bound = await bind(
                exchange, request, model, planned, dialect, way.profile, self.fetch, self.continuity, strict
            )
            if self.capture is not None:
                self.capture.sent(exchange.request_id, attempt.number, provider.name, bound.kind, bound.body)
            call = Call(
                bound.kind, bound.body, stream, timeouts, exchange.request_id, planned.target.model, way.dialect
            )
            try:
                # A whole answer has one limit, which runs already.
                async with asyncio.timeout(timeouts.first_byte if stream and timeouts.first_byte else None):
                    upstream = await provider.open(call)
            except TimeoutError:
                raise timed_out(provider.name, "answer", timeouts.first_byte) from None
            except UpstreamRefused as refused:
                wire = dialect.read_error(refused.status, refused.headers, refused.body)
                if self.capture is not None:
                    self.capture.received(exchange.request_id, attempt.number, refused.body)
                sent = bound.sent or _members(bound.body)
                repair = learn(way.profile, wire, refused.status, sent) if repairs < MAX_REPAIRS else None
                repairs += 1
                if repair is None:
                    upstream_id = upstream_request_id(refused.headers)
                    error = classify(provider.name, refused.status, wire, request.model, upstream_id)
                    if not too_long_to_embed(request, error) or repairs > MAX_REPAIRS:
                        raise error from None
                    request = msgspec.structs.replace(request, inputs=trim.shorter(request.inputs))
                    exchange.notes["X-Bridge-Trimmed"] = str(repairs)
                    continue
                way.repaired(repair.profile)
                words.append(repair.words)
                self.metrics.observe_repair(provider.name, repair.name)
                continue
            # Only what led to an answer is remembered: a wrong guess must not hold for an hour.
            if words and way.remember():
                self.log.warning(
                    "parameters refused, learnt",
                    request_id=exchange.request_id, provider=provider.name, model=planned.target.model, changes=words,
                )  # fmt: skip
            self._note(exchange, bound, upstream)
            if self.capture is not None:
                upstream = self.capture.watch(exchange.request_id, attempt.number, upstream)
            return Opened(upstream, bound, timeouts)

    def _timeouts(self, planned: router.Planned) -> Timeouts:
        return planned.target.timeouts or self.timeouts[planned.provider.name]

    def _note(self, exchange: Exchange, bound: Bound, upstream: Upstream) -> None:
        if bound.losses:
            exchange.notes["X-Bridge-Dropped"] = in_words(bound.losses)
            for loss in bound.losses:
                self.metrics.observe_loss(bound.planned.provider.name, loss.name)
        if bound.trimmed:
            exchange.notes["X-Bridge-Trimmed"] = str(bound.trimmed)
        upstream_id = upstream_request_id(upstream.headers)
        if upstream_id:
            exchange.notes["X-Bridge-Upstream-Id"] = upstream_id

    # -- answers -----------------------------------------------------------------------------------------------------
    async def _stream(
        self, request: ChatRequest, model: Model, planned: router.Planned, attempt: Attempt, delivery: Delivery
    ) -> None:
        limit = self._timeouts(planned).total
        try:
            async with asyncio.timeout(limit or None):
                opened = await self._open(delivery.exchange, request, model, planned, attempt, stream=True)
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
        limit = self._timeouts(planned).total
        parts: list[tuple[Opened, bytes]] = []
        try:
            async with asyncio.timeout(limit or None):
                for part in in_batches(request, planned.provider.profile.max_inputs):
                    opened = await self._open(exchange, part, model, planned, attempt, stream=False)
                    try:
                        parts.append((opened, await opened.upstream.body(self.settings.max_reply)))
                    finally:
                        opened.upstream.close()
        except TimeoutError:
            raise timed_out(planned.provider.name, "answer", limit) from None
        answer, attempt.usage = self._finished(exchange, request, parts)
        await sink.answer(answer)

    def _finished(
        self, exchange: Exchange, request: ChatRequest | EmbedRequest, parts: list[tuple[Opened, bytes]]
    ) -> tuple[Answer, Usage]:
        """A provider's whole reply -> the client's answer. Only embeddings come in several parts."""
        opened, data = parts[0]
        bound = opened.bound
        if bound.relay:
            body, usage = exchange.dialect.relay_reply(exchange.kind, data, request)
            if usage.prompt is None and usage.completion is None:
                # Some services answer 200 with an error inside; reading it as a reply raises that error.
                read_reply(bound, data)
            return Answer(200, opened.upstream.headers.get("content-type", "application/json"), body), usage
        replies = [read_reply(part.bound, body) for part, body in parts]
        reply = replies[0] if len(replies) == 1 else joined([each for each in replies if isinstance(each, EmbedReply)])
        if bound.keeper is not None and isinstance(reply, Reply):
            bound.keeper.feed(unfold(reply))
        if bound.cut_stops and isinstance(reply, Reply):
            reply = cut_reply(reply, bound.cut_stops)
        now = self._now(exchange)
        now.first_ns = now.elapsed_ns
        return exchange.dialect.write_reply(exchange.kind, request, reply, now), reply.usage

    def _now(self, exchange: Exchange) -> Moment:
        return Moment(time.time_ns(), time.perf_counter_ns() - exchange.started_ns)


def too_long_to_embed(request: ChatRequest | EmbedRequest, error: GatewayError) -> TypeGuard[EmbedRequest]:
    """Ollama cuts a text that the model cannot hold, unless the client forbids it (ollama-protocol.md 2.7)."""
    return isinstance(request, EmbedRequest) and bool(request.truncate) and error.code == CONTEXT_LENGTH


def read_reply(bound: Bound, body: bytes) -> Reply | EmbedReply:
    return bound.dialect.read_reply(bound.kind, body, bound.profile)


def _members(relayed: bytes) -> dict[str, Any]:
    """What a relayed body says. It went out as it came: of one that is not JSON nothing can be learnt."""
    try:
        value = loads(relayed)
    except BadJSON:
        return {}
    return value if isinstance(value, dict) else {}


def cut_reply(reply: Reply, stops: list[str]) -> Reply:
    """A whole reply cut at the first stop string."""
    cutter = StopCutter(stops)
    events, _ = cutter.feed(unfold(reply))
    cut = fold(events)
    cut.usage, cut.vendor = reply.usage, reply.vendor
    return cut
