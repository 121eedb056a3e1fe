"""One streamed answer: from a provider's bytes to the client's bytes, with the commit point in between.

Knows: flows (relayed or translated), held frames, the limits on silence. Must not know: which target comes next, wires.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ..dialects.base import Moment, StreamReader, StreamWriter, Tap
from ..errors import GatewayError, broken, timed_out
from ..events import Event, Failed, Finish, is_content
from ..framing import MAX_FRAME
from ..providers.base import Timeouts, Upstream
from ..values import ChatRequest, Usage
from .binding import Bound
from .continuity import Keeper
from .notes import OF_ATTEMPT, take_back
from .ports import Exchange, Sink
from .resume import Continuation, Given
from .silence import Silence
from .stops import StopCutter

ENDING_SECONDS = 1.0  # how long counts may follow a finish reason, where the end of the stream is left out
HELD_AT_MOST = 1024 * 1024  # bytes for the client that may come before the first content: comments, empty frames
SILENT_AT_MOST = 2 * MAX_FRAME  # bytes in a row that give the client nothing: more than the longest honest frame
DRAIN_SECONDS = 0.1  # how long a finished stream may take to end, so that its connection can be used again


@dataclass(slots=True)
class Opened:
    """A target that answered with a status below 400."""

    upstream: Upstream
    bound: Bound
    timeouts: Timeouts


class Flow(Protocol):
    """Bytes of the provider in, bytes for the client out. `content`: something can be shown. `ending`: a finish reason
    has passed, only counts can follow. `finished`: nothing more is to come. `failed`: the provider reported an error,
    or cannot be read further."""

    content: bool
    finished: bool
    cut: bool  # at a stop string of ours: the provider still speaks, and must be stopped
    failed: GatewayError | None

    @property
    def usage(self) -> Usage: ...

    @property
    def ending(self) -> bool: ...

    def feed(self, data: bytes, now: Moment) -> bytes: ...

    def end(self, now: Moment) -> bytes: ...


class Translated:
    """Another dialect: read events, write frames."""

    def __init__(
        self,
        reader: StreamReader,
        writer: StreamWriter,
        cutter: StopCutter | None,
        keeper: Keeper | None,
        given: Given | None = None,
        continuation: Continuation | None = None,
    ) -> None:
        """`given` takes note of what goes out; `continuation` leaves out what the client has already."""
        self._reader = reader
        self._writer = writer
        self._cutter = cutter
        self._keeper = keeper
        self._given = given
        self._continuation = continuation
        self.content = False
        self.finished = False
        self.cut = False
        self.failed: GatewayError | None = None
        self.usage = Usage()

    @property
    def ending(self) -> bool:
        return self._reader.ending

    def feed(self, data: bytes, now: Moment) -> bytes:
        return self._pass_on(self._reader.feed(data), now)

    def end(self, now: Moment) -> bytes:
        return b"" if self.finished else self._pass_on(self._reader.end(), now)

    def _pass_on(self, events: list[Event], now: Moment) -> bytes:
        if self._keeper is not None:
            self._keeper.feed(events)
        if self._cutter is not None:
            events, self.cut = self._cutter.feed(events)
        if self._continuation is not None:
            events = self._continuation.feed(events)
        if not events:
            return b""
        last = events[-1]
        if type(last) is Finish:
            self.finished = True
            self.usage = last.usage
        elif type(last) is Failed:
            self.failed = last.error
            events = events[:-1]
        if not self.content and any(map(is_content, events)):
            self.content = True
            now.first_ns = now.elapsed_ns
        if self._given is not None and self._continuation is None:
            self._given.note(events)
        return self._writer.write(events, now)


class Relayed:
    """The client's own dialect: frames pass as they are, metered beside."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self.content = False
        self.finished = False
        self.cut = False
        self.failed: GatewayError | None = None

    @property
    def ending(self) -> bool:
        return self._tap.finished

    @property
    def usage(self) -> Usage:
        return self._tap.usage

    def feed(self, data: bytes, now: Moment) -> bytes:
        out = self._tap.feed(data)
        self.failed = self._tap.error
        if not self.content and self._tap.content:
            self.content = True
            now.first_ns = now.elapsed_ns
        return out

    def end(self, now: Moment) -> bytes:
        out = self._tap.end()
        self.failed = self._tap.error
        self.finished = self._tap.finished
        self.content = self.content or self._tap.content or self.finished
        return out


@dataclass(slots=True)
class Delivery:
    """The client's side of one streamed request, over all its attempts. `given`: where a broken answer may be
    continued, what the client has of it; `expected`: with what the next attempt must begin then."""

    exchange: Exchange
    request: ChatRequest
    sink: Sink
    writer: StreamWriter
    silence: Silence
    named: str
    committed: bool = False
    first_ns: int | None = None
    usage: Usage = field(default_factory=Usage)
    attempts: int = 0
    given: Given | None = None
    expected: str = ""
    on_commit: Callable[[], None] | None = None  # called as soon as an attempt has brought content

    @classmethod
    def begin(cls, exchange: Exchange, request: ChatRequest, sink: Sink, heartbeat: float, alone: bool) -> Delivery:
        """`alone`: nobody else but the one target can answer; else headers that go out early cannot say who will."""
        writer = exchange.dialect.writer(exchange.kind, request)

        def early() -> None:
            if not alone:
                take_back(exchange, OF_ATTEMPT)

        silence = Silence(sink, heartbeat, writer.heartbeat, writer.content_type, writer.headers, early)
        return cls(exchange, request, sink, writer, silence, request.model)

    def name(self, model: str) -> None:
        """What the answer is to call the model; the request says so already."""
        if model != self.named and not self.committed:
            self.named = model
            self.writer = self.exchange.dialect.writer(self.exchange.kind, self.request)

    def now(self) -> Moment:
        return Moment(time.time_ns(), time.perf_counter_ns() - self.exchange.started_ns, self.first_ns)

    def flow(self, bound: Bound) -> Flow:
        dialect, kind = self.exchange.dialect, self.exchange.kind
        self.attempts += 1
        if bound.relay:
            self.given = None  # a relay does not know what it has said
            return Relayed(dialect.tap(kind, self.request))
        continuation = None
        if self.committed and self.given is not None:
            continuation = Continuation(self.given, self.expected)
        elif self.attempts > 1:
            self.writer = dialect.writer(kind, self.request)  # an earlier attempt may have used the last
            self.given = Given() if self.given is not None else None
        cutter = StopCutter(bound.cut_stops) if bound.cut_stops else None
        reader = bound.dialect.reader(bound.kind, bound.profile)
        return Translated(reader, self.writer, cutter, bound.keeper, self.given, continuation)

    async def attempt(self, opened: Opened) -> None:
        """From the open answer to the end of the stream. Raises GatewayError; before `committed` nothing of this
        attempt has reached the client."""
        upstream, bound = opened.upstream, opened.bound
        flow = self.flow(bound)
        self.silence.disarm_idle()
        try:
            held = await self._peek(opened, flow)
            self.committed = True
            if self.on_commit is not None:
                self.on_commit()
            await self.silence.settled()
            if not self.sink.started:
                await self.sink.start(self.writer.content_type, self.writer.headers)
            self._let_go(bound)
            if held:
                await self.sink.write(held)
            await self._pump(opened, flow)
            await self.sink.finish()
            if not flow.cut:
                await _drain(upstream)
        finally:
            self.usage = flow.usage
            upstream.close()

    async def _peek(self, opened: Opened, flow: Flow) -> bytes:
        """Reads until there is content; what the client will get of it is held back."""
        held = bytearray()
        read = 0
        limit = opened.timeouts.first_token
        provider = opened.bound.planned.provider.name
        try:
            async with asyncio.timeout(limit or None):
                while not (flow.content or flow.finished):
                    data = await opened.upstream.read()
                    now = self.now()
                    held += flow.feed(data, now) if data else flow.end(now)
                    self.first_ns = now.first_ns
                    if flow.failed is not None and not flow.content:
                        raise flow.failed
                    if not data and not flow.content:
                        raise broken(provider, "ended the stream before any content")
                    read += len(data)
                    if (len(held) > HELD_AT_MOST or read > SILENT_AT_MOST) and not flow.content:
                        raise broken(provider, f"sent {read} bytes without any content")
        except TimeoutError:
            raise timed_out(provider, "token", limit) from None
        return bytes(held)

    async def _pump(self, opened: Opened, flow: Flow) -> None:
        upstream, silence, sink = opened.upstream, self.silence, self.sink
        provider = opened.bound.planned.provider.name
        if not flow.finished:
            silence.heard()
            silence.arm_idle(opened.timeouts.idle, upstream.close)
        cut: GatewayError | None = None
        ending = False
        silent = 0  # bytes in a row without anything for the client
        while not flow.finished and flow.failed is None:
            try:
                data = await upstream.read()
            except GatewayError as error:
                cut, data = error, b""
            now = self.now()
            if data:
                if out := flow.feed(data, now):
                    silence.writing = True
                    await sink.write(out)
                    silence.heard()
                    silent = 0
                else:
                    silence.heard_only()
                    silent += len(data)
                    if silent > SILENT_AT_MOST:
                        raise broken(provider, f"sent {silent} bytes without any content")
                if flow.ending and not ending:
                    ending = True
                    silence.arm_idle(ENDING_SECONDS, upstream.close)
                continue
            # The end, clean or not: a finish reason that was seen makes the answer whole all the same.
            out = flow.end(now)
            if flow.finished:
                cut = None
            if out:
                await sink.write(out)
            if flow.failed is None and not flow.finished:
                cut = cut or broken(provider, "cut the stream")
            break
        if silence.stalled and not flow.finished:
            raise timed_out(provider, "further token", opened.timeouts.idle)
        if cut is not None:
            raise cut
        if flow.failed is not None:
            raise flow.failed

    def _let_go(self, bound: Bound) -> None:
        """Nothing of the request may live while its answer streams: 1,000 streams of 50 KB prompts are 200 MB. But for
        those that may have to be asked for again."""
        self.exchange.body = b""
        if self.given is not None:
            return
        self.request.messages = []
        self.request.tools = []
        bound.body = b""
        bound.sent = {}

    async def fail(self, error: GatewayError) -> None:
        """The dialect's in-stream error, and the end of the stream."""
        await self.silence.settled()
        await self.sink.write(self.writer.fail(error, self.now()))
        await self.sink.finish()


async def _drain(upstream: Upstream) -> None:
    """Reads what follows the end of the answer, shortly, so that the connection returns to the pool. The client has all
    of it by now: that it leaves, or that we are told to end, is nothing to be settled any more."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while await upstream.read():
                pass
    except (TimeoutError, GatewayError, asyncio.CancelledError):
        return
