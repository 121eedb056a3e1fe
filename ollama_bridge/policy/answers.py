"""A provider's whole reply made into the client's answer.

Knows: relayed and translated replies, embeddings in several parts, stop strings of ours. Must not know: sockets, which
target comes next, wire bodies.
"""

from __future__ import annotations

import time

from ..dialects.base import Answer, Moment
from ..events import fold, unfold
from ..values import ChatRequest, EmbedReply, EmbedRequest, Reply, Usage
from .batches import joined
from .binding import Bound
from .ports import Exchange
from .stops import StopCutter
from .streaming import Opened


def finished(
    exchange: Exchange, request: ChatRequest | EmbedRequest, parts: list[tuple[Opened, bytes]]
) -> tuple[Answer, Usage]:
    """`parts`: who answered, and the body. Only embeddings come in several. Raises GatewayError (provider) for a body
    that is no reply, or holds an error."""
    opened, data = parts[0]
    bound = opened.bound
    if bound.relay:
        body, usage = exchange.dialect.relay_reply(exchange.kind, data, request)
        if usage.prompt is None and usage.completion is None:
            # Some services answer 200 with an error inside; reading it as a reply raises that error.
            _read(bound, data)
        return Answer(200, opened.upstream.headers.get("content-type", "application/json"), body), usage
    replies = [_read(part.bound, body) for part, body in parts]
    reply = replies[0] if len(replies) == 1 else joined([each for each in replies if isinstance(each, EmbedReply)])
    if bound.keeper is not None and isinstance(reply, Reply):
        bound.keeper.feed(unfold(reply))
    if bound.cut_stops and isinstance(reply, Reply):
        reply = _cut(reply, bound.cut_stops)
    if isinstance(reply, Reply):
        reply.provider, reply.model = bound.planned.provider.name, bound.planned.target.model
    now = moment(exchange)
    now.first_ns = now.elapsed_ns
    return exchange.dialect.write_reply(exchange.kind, request, reply, now), reply.usage


def moment(exchange: Exchange) -> Moment:
    return Moment(time.time_ns(), time.perf_counter_ns() - exchange.started_ns)


def _read(bound: Bound, body: bytes) -> Reply | EmbedReply:
    return bound.dialect.read_reply(bound.kind, body, bound.profile)


def _cut(reply: Reply, stops: list[str]) -> Reply:
    """A whole reply cut at the first stop string."""
    cutter = StopCutter(stops)
    events, _ = cutter.feed(unfold(reply))
    cut = fold(events)
    cut.usage, cut.vendor = reply.usage, reply.vendor
    return cut
