"""The Gemini stream: frames -> events.

Knows: chunks of :streamGenerateContent, which are those of :generateContent too (providers.md 2.5, 3.5). Must not know:
requests, sockets.

    data: {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f","args": {}},"thoughtSignature": "Ep…"}],
           "role": "model"},"index": 0}],"usageMetadata": {…},"modelVersion": "m","responseId": "r1"}

    data: {"candidates": [{"content": {"parts": [{"text": ""}],"role": "model"},"finishReason": "STOP","index": 0}],…}

A signature belongs to the part it came with: that of a call or a thought goes into the block's vendor bag, that of a
text becomes a part of its own, as the service itself sends most of them. Parts that no other dialect knows (code that
was run, pictures) pass as they are.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ...errors import GatewayError, unusable
from ...events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, Start, Unknown
from ...framing import BadJSON, EventsOrBody, FrameTooLong, dumps, loads
from ...values import Vendor
from .errors import blocked, failure_of, is_error
from .fields import BREAKDOWNS, NAME, list_at, logprobs_of, object_at, reason_of, text_at, usage_of

# -- the plain chunk ---------------------------------------------------------------------------------------------------
# These types are the test as well: a chunk that carries anything but one piece of text or thought does not decode as
# one, and is then read whole. Counts stay unread until the last of them is known.


class _PlainPart(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    text: str
    thought: bool = False


class _PlainContent(msgspec.Struct, gc=False):
    parts: tuple[_PlainPart]


class _PlainCandidate(msgspec.Struct, gc=False):
    content: _PlainContent
    index: Literal[0] = 0
    finishReason: None = None
    logprobsResult: None = None


class _PlainChunk(msgspec.Struct, gc=False):
    candidates: tuple[_PlainCandidate]
    usageMetadata: msgspec.Raw = msgspec.Raw()
    promptFeedback: None = None
    error: None = None


_plain = msgspec.json.Decoder(_PlainChunk).decode
_NOT_PLAIN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ID_LENGTH = 24  # characters of an answer's id in the ids of its calls: other wires limit theirs


class Reader:
    """A provider's stream as events. The answer is complete at the end of the connection, once a finish reason was
    seen: older models name one in every chunk. A provider that answers a stream request with one JSON value is read
    too."""

    __slots__ = (
        "_called", "_calls", "_counts", "_done", "_finish_message", "_finish_reason", "_frames", "_index", "_next",
        "_open", "_said", "_signature", "_start",
    )  # fmt: skip

    def __init__(self) -> None:
        self._frames = EventsOrBody()
        self._start: Start | None = None
        self._next = 0
        self._open: Literal["text", "thinking"] | None = None
        self._index = 0  # of the open block
        self._signature: str | None = None  # of the open thought
        self._calls = 0
        self._said = False  # text or a call has passed
        self._called = False
        self._counts: dict[str, Any] | msgspec.Raw = {}
        self._finish_reason = ""
        self._finish_message = ""
        self._done = False

    @property
    def ending(self) -> bool:
        return bool(self._finish_reason)

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
            if self._start is not None:
                try:
                    chunk = _plain(frame)
                except _NOT_PLAIN:
                    pass
                else:
                    if len(chunk.usageMetadata) > 4:  # more than `null` or `{}`
                        self._counts = chunk.usageMetadata
                    part = chunk.candidates[0].content.parts[0]
                    kind: Literal["text", "thinking"] = "thinking" if part.thought else "text"
                    if self._open == kind and part.text:
                        events.append(Delta(self._index, kind, part.text))
                    else:
                        self._piece(kind, part.text, events)
                    continue
            self._frame(frame, events)
            if self._done:
                break
        return events

    def end(self) -> list[Event]:
        if self._done:
            return []
        events: list[Event] = []
        if self._frames.body is not None:
            self._read_body(bytes(self._frames.body), events)
            return events
        for _, frame in self._frames.end():
            self._frame(frame, events)
            if self._done:
                return events
        if self._finish_reason:
            self._finish(events)
        else:
            cut = self._start is not None
            self._fail(events, unusable("broke off in the middle of its answer" if cut else "sent no answer"))
        return events

    def whole(self, value: Any) -> list[Event]:
        """All events of an answer that came as one JSON value: a chunk, a list of chunks, or an error."""
        events: list[Event] = []
        for chunk in value if isinstance(value, list) else [value]:
            if not self._done:
                self._value(chunk, events)
        if self._done:
            return events
        if self._start is None:
            self._fail(events, unusable("sent a reply without an answer"))
        else:
            self._finish(events)
        return events

    def _read_body(self, body: bytes, events: list[Event]) -> None:
        if not body:
            self._fail(events, unusable("sent no answer"))
            return
        try:
            value = loads(body)
        except BadJSON:
            self._fail(events, unusable("sent an answer that is not JSON"))
        else:
            events += self.whole(value)

    # -- one chunk ---------------------------------------------------------------------------------------------------
    def _frame(self, data: bytes, events: list[Event]) -> None:
        try:
            value = loads(data)
        except BadJSON:
            value = None
        self._value(value, events)

    def _value(self, value: Any, events: list[Event]) -> None:
        if is_error(value):
            self._fail(events, failure_of(value))
        elif isinstance(value, dict):
            self._chunk(value, events)
        elif not self._finish_reason:  # after the finish reason nothing of the answer can be lost any more
            self._fail(events, unusable("sent a frame that is not JSON"))

    def _chunk(self, chunk: dict[str, Any], events: list[Event]) -> None:
        self._counts = object_at(chunk, "usageMetadata") or self._counts
        candidates = [each for each in list_at(chunk, "candidates") if isinstance(each, dict)]
        feedback = object_at(chunk, "promptFeedback")
        if not candidates:
            if text_at(feedback, "blockReason"):
                self._fail(events, blocked(feedback))
            return
        if self._start is None:
            self._start = Start(text_at(chunk, "responseId") or None, text_at(chunk, "modelVersion") or None)
            events.append(self._start)
        for candidate in candidates:
            if candidate.get("index") in (0, None):
                self._candidate(candidate, events)

    def _candidate(self, candidate: dict[str, Any], events: list[Event]) -> None:
        logprobs = logprobs_of(candidate)
        for part in list_at(object_at(candidate, "content"), "parts"):
            if isinstance(part, dict):
                logprobs = self._part(part, logprobs, events)
        if logprobs:
            self._piece("text", "", events, logprobs)
        self._finish_reason = text_at(candidate, "finishReason") or self._finish_reason
        self._finish_message = text_at(candidate, "finishMessage") or self._finish_message

    def _part(
        self, part: dict[str, Any], logprobs: list[dict[str, Any]] | None, events: list[Event]
    ) -> list[dict[str, Any]] | None:
        """-> the logprobs that no piece of text has taken yet."""
        signature = text_at(part, "thoughtSignature")
        if isinstance(part.get("functionCall"), dict):
            self._call(part["functionCall"], signature, events)
        elif not isinstance(part.get("text"), str):
            self._pass_on(part, events)
        elif part.get("thought") is True:
            if signature:
                self._begin("thinking", events)
                self._signature = signature
            self._piece("thinking", part["text"], events)
        else:
            self._piece("text", part["text"], events, logprobs)
            logprobs = None
            if signature:
                self._pass_on({"text": "", "thoughtSignature": signature}, events)
        return logprobs

    # -- blocks ------------------------------------------------------------------------------------------------------
    def _piece(
        self,
        kind: Literal["text", "thinking"],
        text: str,
        events: list[Event],
        logprobs: list[dict[str, Any]] | None = None,
    ) -> None:
        if not text and not logprobs:
            return
        if self._open != kind:
            self._begin(kind, events)
        events.append(Delta(self._index, kind, text, logprobs))

    def _begin(self, kind: Literal["text", "thinking"], events: list[Event]) -> None:
        """Opens a block, unless one of its kind is open."""
        if self._open == kind:
            return
        self._shut(events)
        self._open, self._index = kind, self._new_index()
        self._said = self._said or kind == "text"
        events.append(BlockStart(self._index, kind))

    def _shut(self, events: list[Event]) -> None:
        """Ends the open block."""
        if self._open is not None:
            events.append(BlockEnd(self._index, _signed(self._signature)))
            self._open = self._signature = None

    def _new_index(self) -> int:
        self._next += 1
        return self._next - 1

    def _call(self, call: dict[str, Any], signature: str, events: list[Event]) -> None:
        """A call comes whole. Where it has no id, the answer's own makes one that no other answer has."""
        self._shut(events)
        self._said = self._called = True
        index = self._new_index()
        answer = self._start.id if self._start is not None and self._start.id else ""
        invented = "_".join(filter(None, ("call", answer[:_ID_LENGTH], str(self._calls))))
        self._calls += 1
        events += [
            BlockStart(index, "tool_call", text_at(call, "id") or invented, text_at(call, "name"), _signed(signature)),
            Delta(index, "tool_call", dumps(object_at(call, "args")).decode()),
            BlockEnd(index),
        ]

    def _pass_on(self, part: dict[str, Any], events: list[Event]) -> None:
        self._shut(events)
        events.append(Unknown(NAME, part))

    # -- the end -----------------------------------------------------------------------------------------------------
    def _finish(self, events: list[Event]) -> None:
        finish = self._finish_reason
        if finish in BREAKDOWNS and not self._said:
            words = f"ended its answer with {finish}"
            self._fail(events, unusable(f"{words}: {self._finish_message}" if self._finish_message else words))
            return
        reason = reason_of(finish, self._called)
        if reason != "length" and not self._said and self._finish_message:
            self._piece("text", self._finish_message, events)  # why nothing was said (providers.md 3.5)
        self._shut(events)
        counts = loads(bytes(self._counts)) if isinstance(self._counts, msgspec.Raw) else self._counts
        events.append(Finish(reason, usage_of(counts if isinstance(counts, dict) else {})))
        self._done = True

    def _fail(self, events: list[Event], error: GatewayError) -> None:
        events.append(Failed(error))
        self._done = True


def _signed(signature: str | None) -> Vendor:
    return {NAME: {"thoughtSignature": signature}} if signature else {}
