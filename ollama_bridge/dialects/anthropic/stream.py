"""The stream of the Messages wire read: frames -> events.

Knows: every event of providers.md 2.4. Must not know: requests, sockets, which provider sends.

    event: message_start
    data: {"type":"message_start","message":{"id":"msg_1","model":"m","content":[],"usage":{"input_tokens":5,…}}}

    event: content_block_start
    data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

    event: content_block_delta
    data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}

    event: content_block_stop
    data: {"type":"content_block_stop","index":0}

    event: message_delta
    data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":1}}

    event: message_stop
    data: {"type":"message_stop"}
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...errors import GatewayError, unusable
from ...events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, Kind, Start, Unknown, unfold
from ...framing import BadJSON, EventsOrBody, FrameTooLong, dumps, loads
from ..arguments import as_object
from .errors import failure_of
from .fields import NAME, Counts, reason_of, text_of, vendor_of
from .replies import read_reply, refusal_words, signed

# -- the plain delta ---------------------------------------------------------------------------------------------------
# These types are the test as well: a frame that is no piece of text, thought or arguments does not decode as one, and
# is then read whole.


class _Text(msgspec.Struct, tag_field="type", tag="text_delta", gc=False):
    text: str


class _Thought(msgspec.Struct, tag_field="type", tag="thinking_delta", gc=False):
    thinking: str


class _Arguments(msgspec.Struct, tag_field="type", tag="input_json_delta", gc=False):
    partial_json: str


class _Plain(msgspec.Struct, tag_field="type", tag="content_block_delta", gc=False):
    index: int
    delta: _Text | _Thought | _Arguments


_plain = msgspec.json.Decoder(_Plain).decode
_NOT_PLAIN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_KINDS: dict[str, Kind] = {"text": "text", "thinking": "thinking", "tool_use": "tool_call"}


class _Open:
    """A block while its pieces arrive. `kind` None: one that only this wire has, passed on whole at its end."""

    __slots__ = ("given", "kind", "signature", "spoken", "written")

    def __init__(self, kind: Kind | None, given: dict[str, Any]) -> None:
        self.kind = kind
        self.given = given
        self.signature = ""
        self.written = ""  # arguments of a block without a kind
        self.spoken = False


class Reader:
    """A provider's stream as events. A body that is one JSON object instead is read as a whole reply.

    The answer is complete at `message_stop`, or at the end of the connection once a stop reason was seen.
    """

    __slots__ = ("_called", "_counts", "_done", "_frames", "_last", "_open", "_reason", "_said", "_started")

    def __init__(self) -> None:
        self._frames = EventsOrBody()
        self._open: dict[int, _Open] = {}
        self._last = -1  # the highest index used
        self._counts = Counts()
        self._reason = ""
        self._started = False
        self._said = False
        self._called = False
        self._done = False

    @property
    def ending(self) -> bool:
        return bool(self._reason)

    def feed(self, data: bytes) -> list[Event]:
        if self._done:
            return []
        events: list[Event] = []
        try:
            frames = self._frames.feed(data)
        except FrameTooLong as error:
            self._fail(events, unusable(f"sent {error}"))
            return events
        for _, frame in frames:
            try:
                plain = _plain(frame)
            except _NOT_PLAIN:
                self._frame(frame, events)
                if self._done:
                    break
                continue
            delta = plain.delta
            if type(delta) is _Text:
                self._piece(plain.index, "text", delta.text, events)
            elif type(delta) is _Thought:
                self._piece(plain.index, "thinking", delta.thinking, events)
            elif type(delta) is _Arguments:
                self._piece(plain.index, "tool_call", delta.partial_json, events)
        return events

    def end(self) -> list[Event]:
        if self._done:
            return []
        events: list[Event] = []
        if self._frames.body is not None:
            self._whole(bytes(self._frames.body), events)
            return events
        for _, frame in self._frames.end():
            self._frame(frame, events)
            if self._done:
                return events
        if self._reason:
            self._finish(events)
        else:
            cut = self._started
            self._fail(events, unusable("broke off in the middle of its answer" if cut else "sent no answer"))
        return events

    def _whole(self, body: bytes, events: list[Event]) -> None:
        """One JSON object instead of a stream: a reply, or an error."""
        self._done = True
        if not body.strip():
            events.append(Failed(unusable("sent no answer")))
            return
        try:
            events += unfold(read_reply(body))
        except GatewayError as error:
            events.append(Failed(error))

    # -- one frame ---------------------------------------------------------------------------------------------------
    def _frame(self, data: bytes, events: list[Event]) -> None:
        try:
            frame = loads(data)
        except BadJSON:
            frame = None
        if not isinstance(frame, dict):
            if not self._reason:  # after the stop reason nothing of the answer can be lost any more
                self._fail(events, unusable("sent a frame that is not JSON"))
            return
        match frame.get("type"):
            case "message_start":
                self._start(frame, events)
            case "content_block_start":
                self._block_start(frame, events)
            case "content_block_delta":
                self._block_delta(frame, events)
            case "content_block_stop":
                self._block_stop(_index(frame), events)
            case "message_delta":
                self._message_delta(frame, events)
            case "message_stop":
                self._finish(events)
            case "error":
                self._fail(events, failure_of(frame))
            case _:
                if frame.get("error"):
                    self._fail(events, failure_of(frame))

    def _start(self, frame: dict[str, Any], events: list[Event]) -> None:
        message = frame.get("message")
        message = message if isinstance(message, dict) else {}
        self._counts.add(message.get("usage"))
        if not self._started:
            self._started = True
            events.append(Start(text_of(message, "id") or None, text_of(message, "model") or None))

    def _block_start(self, frame: dict[str, Any], events: list[Event]) -> None:
        given = frame.get("content_block")
        given = given if isinstance(given, dict) else {}
        index = _index(frame)
        self._block_stop(index, events)
        kind = _KINDS.get(text_of(given, "type"))
        block = self._begin_block(index, kind, given, events)
        if kind == "text" and text_of(given, "text"):
            self._piece(index, "text", text_of(given, "text"), events)
        elif kind == "thinking":
            block.signature = text_of(given, "signature")
            if text_of(given, "thinking"):
                self._piece(index, "thinking", text_of(given, "thinking"), events)

    def _begin_block(self, index: int, kind: Kind | None, given: dict[str, Any], events: list[Event]) -> _Open:
        block = self._open[index] = _Open(kind, given)
        self._last = max(self._last, index)
        self._started = True
        if kind == "tool_call":
            self._said = self._called = True
            vendor = vendor_of(given, "type", "id", "name", "input")
            events.append(BlockStart(index, kind, text_of(given, "id") or None, text_of(given, "name"), vendor))
        elif kind is not None:
            events.append(BlockStart(index, kind))
        return block

    def _piece(self, index: int, kind: Kind, text: str, events: list[Event]) -> None:
        block = self._open.get(index)
        if block is None:
            if kind == "tool_call":
                return  # arguments of a call that was never named
            block = self._begin_block(index, kind, {}, events)
        if block.kind == kind:
            if text:
                block.spoken = True
                self._said = self._said or kind == "text"
                events.append(Delta(index, kind, text))
        elif block.kind is None and kind == "tool_call":
            block.written += text

    def _block_delta(self, frame: dict[str, Any], events: list[Event]) -> None:
        """Citations, and what is yet to come, are left out."""
        index, delta = _index(frame), frame.get("delta")
        if not isinstance(delta, dict):
            return
        match delta.get("type"):
            case "text_delta":
                self._piece(index, "text", text_of(delta, "text"), events)
            case "thinking_delta":
                self._piece(index, "thinking", text_of(delta, "thinking"), events)
            case "input_json_delta":
                self._piece(index, "tool_call", text_of(delta, "partial_json"), events)
            case "signature_delta" if index in self._open:
                self._open[index].signature += text_of(delta, "signature")

    def _block_stop(self, index: int, events: list[Event]) -> None:
        block = self._open.pop(index, None)
        if block is None:
            return
        if block.kind is None:
            written = {"input": as_object(block.written)} if block.written else {}
            events.append(Unknown(NAME, {**block.given, **written}))
            return
        if block.kind == "tool_call" and not block.spoken:
            # No piece, or nothing but empty ones: a call without arguments, or one whose arguments came at its start.
            given = block.given.get("input")
            events.append(Delta(index, "tool_call", dumps(given).decode() if isinstance(given, dict) else "{}"))
        events.append(BlockEnd(index, signed(block.signature)))

    def _message_delta(self, frame: dict[str, Any], events: list[Event]) -> None:
        self._counts.add(frame.get("usage"))
        delta = frame.get("delta")
        if not isinstance(delta, dict) or not delta.get("stop_reason") or self._reason:
            return
        self._reason = reason_of(delta["stop_reason"], self._called)
        self._close(events)
        why = refusal_words(delta)
        if why and not self._said:
            self._piece(self._last + 1, "text", why, events)
            self._close(events)

    # -- the end -----------------------------------------------------------------------------------------------------
    def _close(self, events: list[Event]) -> None:
        for index in list(self._open):
            self._block_stop(index, events)

    def _finish(self, events: list[Event]) -> None:
        if not self._started:
            self._fail(events, unusable("sent an empty answer"))
            return
        self._close(events)
        events.append(Finish(self._reason or reason_of(None, self._called), self._counts.usage()))
        self._done = True

    def _fail(self, events: list[Event], error: GatewayError) -> None:
        events.append(Failed(error))
        self._done = True


def _index(frame: dict[str, Any]) -> int:
    index = frame.get("index")
    return index if type(index) is int else 0
