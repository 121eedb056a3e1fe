"""A request at one target: bound, sent, and bound again where a refusal teaches what the target cannot take.

Knows: the order of binding and sending, the limits on both, what is learnt of a refusal. Must not know: which target
comes next, what becomes of the answer, wire bodies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import msgspec

from ..dialects.base import Dialect
from ..errors import CONTEXT_LENGTH, GatewayError, UpstreamRefused, classify, timed_out
from ..framing import BadJSON, loads
from ..providers.base import Call, Timeouts, Upstream
from ..values import ChatRequest, EmbedRequest
from . import trim
from .binding import Bound, Fetch, bind, in_words
from .carrier import carriage
from .continuity import Continuity
from .families import PREFILL, family_profile
from .metrics import Metrics
from .notes import upstream_request_id
from .plans import Planned
from .ports import Capture, Exchange, Log
from .repair import Learned, learn
from .resume import Given, continuing
from .streaming import Opened

ANTHROPIC = "anthropic"  # whose older models take the beginning of their own answer (providers.md 2.4)
MAX_REPAIRS = 3  # a request (providers.md 2.6)


@dataclass(frozen=True, slots=True)
class Opening:
    """One for the process. `timeouts` and `presets` (the row a provider was made from) by provider name."""

    dialects: Mapping[str, Dialect]
    timeouts: Mapping[str, Timeouts]
    presets: Mapping[str, str]
    fetch: Fetch
    learned: Learned
    continuity: Continuity
    metrics: Metrics
    log: Log
    strict_parameters: bool = False
    capture: Capture | None = None

    async def open(
        self,
        exchange: Exchange,
        request: ChatRequest | EmbedRequest,
        planned: Planned,
        number: int,
        stream: bool,
    ) -> Opened:
        """`number` of the attempt, from 1. A refusal that names a parameter is repaired and learnt, at most MAX_REPAIRS
        times. Raises GatewayError."""
        provider, model = planned.provider, planned.model
        preset = self.presets.get(provider.name, "")
        way = carriage(self.learned, exchange.dialect.name, request, model, planned, preset)
        strict = self.strict_parameters if model.strict_parameters is None else model.strict_parameters
        timeouts = self.limits(planned)
        repairs = 0
        words: list[str] = []
        while True:
            dialect = self.dialects[way.dialect]
            bound = await bind(
                exchange, request, model, planned, dialect, way.profile, self.fetch, self.continuity, strict
            )
            if self.capture is not None:
                self.capture.sent(exchange.request_id, number, provider.name, bound.kind, bound.body)
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
                    self.capture.received(exchange.request_id, number, refused.body)
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
                upstream = self.capture.watch(exchange.request_id, number, upstream)
            return Opened(upstream, bound, timeouts)

    def continued(self, planned: Planned, request: ChatRequest, given: Given) -> tuple[ChatRequest, str]:
        """What to ask a target that shall go on with an answer of which the client has `given`, and the text with which
        its own must begin then."""
        provider = planned.provider
        preset = self.presets.get(provider.name, "")
        profile = family_profile(provider.profile, preset, planned.target.model)
        if preset == ANTHROPIC and PREFILL not in profile.rejects:
            return continuing(request, given)
        return request, given.text

    def limits(self, planned: Planned) -> Timeouts:
        found = planned.target.timeouts or self.timeouts[planned.provider.name]
        patient = found.thinking if "thinking" in planned.model.capabilities else None
        return patient or found

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


def too_long_to_embed(request: ChatRequest | EmbedRequest, error: GatewayError) -> TypeGuard[EmbedRequest]:
    """Ollama cuts a text that the model cannot hold, unless the client forbids it (ollama-protocol.md 2.7)."""
    return isinstance(request, EmbedRequest) and bool(request.truncate) and error.code == CONTEXT_LENGTH


def _members(relayed: bytes) -> dict[str, Any]:
    """What a relayed body says. It went out as it came: of one that is not JSON nothing can be learnt."""
    try:
        value = loads(relayed)
    except BadJSON:
        return {}
    return value if isinstance(value, dict) else {}
