"""The Responses stream and the whole response -> events.

Knows: the events of providers.md 2.3; of the other fifty none says anything that a client of ours could be shown. Must
not know: requests, sockets, which provider sends.

    event: response.created
    data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1","status":"in_progress",…}}

    event: response.output_item.added
    data: {"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning","id":"rs_1","summary":[]}}

    event: response.reasoning_summary_text.delta
    data: {"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":"Let me see."}

    event: response.output_item.done
    data: {"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning",…,"encrypted_content":"gA…"}}

    event: response.output_text.delta
    data: {"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"Hello","logprobs":[]}

    event: response.completed
    data: {"type":"response.completed","response":{"id":"resp_1","status":"completed","output":[…],"usage":{…}}}

A whole response is what the last event holds, so both are read by the same code.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ...errors import GatewayError, unusable
from ...events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, Start, Unknown, fold
from ...framing import BadJSON, EventsOrBody, FrameTooLong, loads
from ...values import Reply, Vendor
from ..openai.fields import DONE, arguments_text
from .items import (
    CALL,
    MESSAGE,
    NAME,
    PARAGRAPH,
    REASONING,
    failure,
    logprobs,
    logprobs_in,
    reason_of,
    reasoning_vendor,
    refuses,
    said_in,
    string,
    thought_in,
    usage_of,
)

_TEXT = "response.output_text.delta"


class _PlainDelta(msgspec.Struct, gc=False):
    """A piece of text and nothing else. What carries more does not decode as one, and is read whole."""

    type: Literal["response.output_text.delta"]
    delta: str
    output_index: int
    logprobs: tuple[()] | None = None


_plain = msgspec.json.Decoder(_PlainDelta).decode
_NOT_PLAIN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_reply(body: bytes) -> Reply:
    """A whole response. Raises GatewayError (provider) when it is none, or when it tells of a failure."""
    try:
        found = loads(body)
    except BadJSON:
        raise unusable("sent a reply that is not JSON") from None
    if not isinstance(found, dict):
        raise unusable("sent a reply that is not a JSON object")
    events: list[Event] = []
    _Output().whole(found, events)
    return fold(events)


class _Call:
    """A call while its pieces arrive. `index` is None until its name is known, so that it can be shown."""

    __slots__ = ("held", "index", "spoken")

    def __init__(self) -> None:
        self.index: int | None = None
        self.held = ""  # arguments that came before the name
        self.spoken = False


class _Output:
    """The output of one response as blocks. Text and thoughts come one after the other, calls may be open side by
    side. `place` is an item's output_index."""

    __slots__ = ("_calls", "_index", "_next", "_open", "_part", "_said", "_started", "called", "done", "refused")

    def __init__(self) -> None:
        self.done = False
        self.called = False  # any call has been seen
        self.refused = False  # any of the text is a refusal
        self._started = False
        self._next = 0
        self._open: tuple[str, int] | None = None  # kind and place of the open block of text or thought
        self._index = 0  # of that block
        self._part: object = None  # of the thought: which part of the summary is being told
        self._said: set[int] = set()  # places of which something was told in pieces
        self._calls: dict[int, _Call] = {}

    def start(self, response: dict[str, Any], events: list[Event]) -> None:
        if self._started:
            return
        self._started = True
        created = response.get("created_at")
        whole = int(created) if isinstance(created, int | float) and not isinstance(created, bool) else None
        events.append(Start(string(response, "id") or None, string(response, "model") or None, whole))

    # -- pieces ------------------------------------------------------------------------------------------------------
    def text(self, place: int, text: str, items: list[dict[str, Any]] | None, events: list[Event]) -> None:
        if text or items:
            self._said.add(place)
            self._begin("text", place, events)
            events.append(Delta(self._index, "text", text, items))

    def thought(self, place: int, part: object, text: str, events: list[Event]) -> None:
        if not text:
            return
        self._said.add(place)
        if self._open != ("thinking", place):
            self._begin("thinking", place, events)
        elif part != self._part:
            text = PARAGRAPH + text
        self._part = part
        events.append(Delta(self._index, "thinking", text))

    def call(self, place: int, item: dict[str, Any], events: list[Event]) -> None:
        """A call becomes known: its block begins, as soon as it has a name."""
        self.called = True
        call = self._calls.setdefault(place, _Call())
        name = string(item, "name")
        if call.index is not None or not name:
            return
        self.shut(events)
        call.index = self._new_index()
        events.append(BlockStart(call.index, "tool_call", string(item, "call_id") or string(item, "id") or None, name))
        held, call.held = call.held, ""
        self.arguments(place, held, events)

    def arguments(self, place: int, text: str, events: list[Event]) -> None:
        call = self._calls.setdefault(place, _Call())
        if call.index is None:
            call.held += text
        elif text:
            call.spoken = True
            events.append(Delta(call.index, "tool_call", text))

    def item(self, place: int, item: dict[str, Any], events: list[Event]) -> None:
        """A whole item: what of it was not told in pieces, and the end of its block."""
        kind = item.get("type")
        if kind == CALL:
            self.call(place, item, events)
            self._end_call(self._calls.pop(place), arguments_text(item.get("arguments")), events)
        elif kind == REASONING:
            vendor = reasoning_vendor(item)
            if place not in self._said:
                self.thought(place, None, thought_in(item), events)
            if vendor and self._open != ("thinking", place):
                self._begin("thinking", place, events)
            self.shut(events, vendor)
        elif kind == MESSAGE:
            self.refused = self.refused or refuses(item)
            if place not in self._said:
                self.text(place, said_in(item), logprobs_in(item) or None, events)
            self.shut(events)
        else:
            self.shut(events)
            events.append(Unknown(NAME, item))

    # -- blocks ------------------------------------------------------------------------------------------------------
    def plain_at(self, place: int) -> int | None:
        """The index of the open block of text, if it belongs to this item."""
        return self._index if self._open == ("text", place) else None

    def _begin(self, kind: Literal["text", "thinking"], place: int, events: list[Event]) -> None:
        if self._open != (kind, place):
            self.shut(events)
            self._open, self._index = (kind, place), self._new_index()
            events.append(BlockStart(self._index, kind))

    def shut(self, events: list[Event], vendor: Vendor | None = None) -> None:
        """Ends the open block of text or thought."""
        if self._open is not None:
            events.append(BlockEnd(self._index, vendor or {}))
            self._open = None

    def _new_index(self) -> int:
        self._next += 1
        return self._next - 1

    def _end_call(self, call: _Call, arguments: str, events: list[Event]) -> None:
        if call.index is None:
            return  # without a name no one could make the call
        if not call.spoken:
            events.append(Delta(call.index, "tool_call", arguments or "{}"))
        events.append(BlockEnd(call.index))

    # -- the end -----------------------------------------------------------------------------------------------------
    def whole(self, response: dict[str, Any], events: list[Event]) -> None:
        """The response as the last event has it, or as the whole answer is."""
        status = response.get("status") or ("completed" if "output" in response else None)
        if response.get("error") or status == "failed":
            self.fail(events, failure(response.get("error")))
            return
        if status not in ("completed", "incomplete"):
            self.fail(events, unusable("sent no finished response"))
            return
        self.start(response, events)
        output = response.get("output")
        if not self._next and isinstance(output, list):  # nothing was told before
            for place, item in enumerate(output):
                if isinstance(item, dict):
                    self.item(place, item, events)
        self.shut(events)
        for call in self._calls.values():
            self._end_call(call, "", events)
        self._calls = {}
        events.append(Finish(reason_of(response, self.called, self.refused), usage_of(response)))
        self.done = True

    def fail(self, events: list[Event], error: GatewayError) -> None:
        events.append(Failed(error))
        self.done = True


class Reader:
    """A provider's stream as events. A service may answer a stream request with one JSON object: a response, or an
    error. There is no finish reason before the last event, so nothing can follow one."""

    __slots__ = ("_frames", "_output", "_started")

    def __init__(self) -> None:
        self._frames = EventsOrBody()
        self._output = _Output()
        self._started = False  # any frame was read

    @property
    def ending(self) -> bool:
        return False

    def feed(self, data: bytes) -> list[Event]:
        output = self._output
        if output.done:
            return []
        events: list[Event] = []
        try:
            frames = self._frames.feed(data)
        except FrameTooLong as error:
            output.fail(events, unusable(f"sent {error}"))
            return events
        for name, frame in frames:
            if name == _TEXT:
                try:
                    plain = _plain(frame)
                except _NOT_PLAIN:
                    pass
                else:
                    index = output.plain_at(plain.output_index)
                    if index is None:
                        output.start({}, events)
                        output.text(plain.output_index, plain.delta, None, events)
                    elif plain.delta:
                        events.append(Delta(index, "text", plain.delta))
                    continue
            self._frame(name, frame, events)
            if output.done:
                break
        return events

    def end(self) -> list[Event]:
        output = self._output
        if output.done:
            return []
        events: list[Event] = []
        if self._frames.body is not None:
            self._whole(bytes(self._frames.body), events)
            return events
        for name, frame in self._frames.end():
            self._frame(name, frame, events)
            if output.done:
                return events
        self._cut(events)
        return events

    def _whole(self, body: bytes, events: list[Event]) -> None:
        if not body.strip():
            self._cut(events)
            return
        try:
            found = loads(body)
        except BadJSON:
            found = None
        if isinstance(found, dict):
            self._output.whole(found, events)
        else:
            self._output.fail(events, unusable("sent a reply that is not JSON"))

    def _cut(self, events: list[Event]) -> None:
        self._output.fail(
            events, unusable("broke off in the middle of its answer" if self._started else "sent no answer")
        )

    # -- one frame ---------------------------------------------------------------------------------------------------
    def _frame(self, name: str | None, data: bytes, events: list[Event]) -> None:
        if data.strip() == DONE:  # some services of other wires say it here too
            self._cut(events)
            return
        try:
            frame = loads(data)
        except BadJSON:
            frame = None
        if not isinstance(frame, dict):
            self._output.fail(events, unusable("sent a frame that is not JSON"))
            return
        self._started = True
        self._event(string(frame, "type") or name or "", frame, events)

    def _event(self, kind: str, frame: dict[str, Any], events: list[Event]) -> None:
        output = self._output
        response = frame.get("response")
        if kind == "error" or (frame.get("error") and not isinstance(response, dict)):
            output.fail(events, failure(frame))
        elif isinstance(response, dict):
            if kind in ("response.completed", "response.incomplete", "response.failed", "response.cancelled"):
                # Services that leave the status out have said it in the event's name.
                output.whole({"status": kind.removeprefix("response."), **response}, events)
            else:
                output.start(response, events)
        else:
            self._told(kind, frame, events)

    def _told(self, kind: str, frame: dict[str, Any], events: list[Event]) -> None:
        """A piece of the output, or an item that begins or ends."""
        output = self._output
        number = frame.get("output_index")
        place = number if isinstance(number, int) else 0
        piece = string(frame, "delta")
        item = frame.get("item")
        output.start({}, events)
        if kind == _TEXT:
            output.text(place, piece, logprobs(frame), events)
        elif kind == "response.refusal.delta":
            output.refused = True
            output.text(place, piece, None, events)
        elif kind == "response.reasoning_summary_text.delta":
            output.thought(place, ("summary", frame.get("summary_index")), piece, events)
        elif kind == "response.reasoning_text.delta":
            output.thought(place, ("content", frame.get("content_index")), piece, events)
        elif kind == "response.function_call_arguments.delta":
            output.arguments(place, piece, events)
        elif kind == "response.output_item.added" and isinstance(item, dict) and item.get("type") == CALL:
            output.call(place, item, events)
        elif kind == "response.output_item.done" and isinstance(item, dict):
            output.item(place, item, events)
