"""Native Ollama streams: read, written, and relayed.

Knows: NDJSON lines of chat and generate (ollama-protocol.md 2.3 to 2.6). Must not know: requests, providers, clocks.

    {"model":"m","created_at":"…Z","message":{"role":"assistant","content":"","thinking":"hm"},"done":false}
    {"model":"m","created_at":"…Z","message":{"role":"assistant","content":"Hi"},"done":false}
    {"model":"m","created_at":"…Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_k3v9x0ab",
     "function":{"index":0,"name":"f","arguments":{"a":1}}}]},"done":false}
    {"model":"m","created_at":"…Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",…}

A generate line has `"response":"Hi"` in place of the message. A failure is `{"error":"words"}`, and nothing follows.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ...errors import GatewayError, Scope
from ...events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, Start
from ...framing import MAX_FRAME, BadJSON, FrameTooLong, Lines, go_dumps, go_escape, json_string, loads
from ...values import ChatRequest, Reason, Usage
from ..arguments import Room
from ..base import CHAT, Moment
from . import context as conversation
from .answers import Fields, last_object, metrics, native_call, native_logprobs, packed_turns, prompt_size, size, stamp
from .errors import error_object, failure

NDJSON = "application/x-ndjson"

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


# -- lines as they come ------------------------------------------------------------------------------------------------


class _Function(msgspec.Struct, gc=False):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class Line(msgspec.Struct):
    """A line of a stream, or a whole answer; only what is needed of it."""

    model: str | None = None
    created_at: str | None = None
    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None
    done: bool = False
    done_reason: str | None = None
    logprobs: list[dict[str, Any]] | None = None
    error: Any = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    debug: Any = msgspec.field(default=None, name="_debug_info")

    def text(self) -> str:
        return (self.message.content if self.message is not None else self.response) or ""

    def thought(self) -> str:
        return (self.message.thinking if self.message is not None else self.thinking) or ""

    def calls(self) -> list[_Call]:
        return (self.message.tool_calls if self.message is not None else self.tool_calls) or []

    def usage(self) -> Usage:
        return Usage(
            prompt=self.prompt_eval_count,
            completion=self.eval_count,
            total_ns=self.total_duration,
            load_ns=self.load_duration,
            prompt_ns=self.prompt_eval_duration,
            completion_ns=self.eval_duration,
        )


read_line = msgspec.json.Decoder(Line).decode


def unreadable(why: str) -> GatewayError:
    return GatewayError(f"the provider's answer {why}", status=502, scope=Scope.PROVIDER)


class Reader:
    """A provider's stream -> events."""

    ending = False  # the last line tells reason and counts at once

    def __init__(self) -> None:
        self._lines = Lines()
        self._started = False
        self._over = False
        self._index = -1  # of the last block
        self._open: Literal["text", "thinking"] | None = None
        self._called = False

    def feed(self, data: bytes) -> list[Event]:
        try:
            lines = self._lines.feed(data)
        except FrameTooLong:
            return self._fail(unreadable("has a line that is too long"))
        return self._read(lines)

    def end(self) -> list[Event]:
        events = self._read(self._lines.end())
        return events if self._over else [*events, *self._fail(unreadable("was cut off"))]

    def _read(self, lines: list[bytes]) -> list[Event]:
        events: list[Event] = []
        for raw in lines:
            if self._over:
                break
            try:
                line = read_line(raw)
            except UNREADABLE:
                events += self._fail(unreadable("has a line that is no JSON of Ollama's"))
                break
            message = line.message
            if (
                self._open == "text"
                and message is not None
                and message.content
                and not (message.thinking or message.tool_calls or line.logprobs or line.done or line.error)
            ):
                events.append(Delta(self._index, "text", message.content))  # nearly every line of a long answer
            else:
                self.line(line, events)
        return events

    def _fail(self, error: GatewayError) -> list[Event]:
        if self._over:
            return []
        self._over = True
        return [Failed(error)]

    def line(self, line: Line, events: list[Event]) -> None:
        """Appends what one line says."""
        if line.error:
            events += self._fail(failure(line.error))
            return
        if not self._started:
            self._started = True
            events.append(Start(model=line.model, created=_unix(line.created_at)))
        logprobs = line.logprobs or None
        thought, text = line.thought(), line.text()
        if thought:
            self._switch("thinking", events)
            events.append(Delta(self._index, "thinking", thought, logprobs))
            logprobs = None
        if text or logprobs:
            self._switch("text", events)
            events.append(Delta(self._index, "text", text, logprobs))
        for call in line.calls():
            self._switch(None, events)
            self._called = True
            self._index += 1
            arguments = _arguments(call.function.arguments)
            events.append(BlockStart(self._index, "tool_call", call.id or None, call.function.name))
            events.append(Delta(self._index, "tool_call", arguments))
            events.append(BlockEnd(self._index))
        if line.done:
            self._switch(None, events)
            self._over = True
            events.append(Finish(self._reason(line.done_reason), line.usage()))

    def _switch(self, kind: Literal["text", "thinking"] | None, events: list[Event]) -> None:
        if kind == self._open:
            return
        if self._open is not None:
            events.append(BlockEnd(self._index))
        self._open = kind
        if kind is not None:
            self._index += 1
            events.append(BlockStart(self._index, kind))

    def _reason(self, word: str | None) -> Reason:
        """Natively an answer with calls ends with "stop"."""
        if word in (None, "", "stop"):
            return "tool_calls" if self._called else "stop"
        return str(word)


def _arguments(raw: msgspec.Raw) -> str:
    """An object, byte for byte. Some servers send its text instead, or null."""
    text = bytes(raw)
    if text.startswith(b'"'):
        try:
            return str(loads(text))
        except BadJSON:
            return "{}"
    return "{}" if text == b"null" else text.decode("utf-8", "replace")


_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?Z")


def _unix(text: str | None) -> int | None:
    found = _TIME.fullmatch(text or "")
    return calendar.timegm(tuple(map(int, found.groups()))) if found else None


# -- lines as they go --------------------------------------------------------------------------------------------------

_PLAIN_END = {True: b'},"done":false}\n', False: b',"done":false}\n'}
_encode = msgspec.json.Encoder().encode


class Writer:
    """Events -> a client's stream. A tool call is held until it is complete; it is never split. `write` raises
    GatewayError (provider) when the calls of one answer grow too large to be held."""

    content_type = NDJSON
    headers: Mapping[str, str] = {}
    heartbeat = b" "  # white space between two JSON values

    def __init__(self, kind: str, request: ChatRequest) -> None:
        self._kind = kind
        self._chat = kind == CHAT
        self._model = request.model
        self._head = b'{"model":' + json_string(request.model) + b',"created_at":"'
        self._middle = b'Z","message":{"role":"assistant","content":' if self._chat else b'Z","response":'
        self._end = _PLAIN_END[self._chat]
        self._show_thinking = request.think is not False
        self._logprobs = request.logprobs
        self._top = request.top_logprobs or 0
        self._prompt_bytes = prompt_size(request)
        self._packed = packed_turns(kind, request)
        self._answer: list[str] = []  # kept for the context only
        self._answer_bytes = 0
        self._open: dict[int, tuple[BlockStart, list[str]]] = {}
        self._room = Room()
        self._calls: list[Fields] = []  # of a generate, which has them on its last line
        self._count = 0

    def write(self, events: list[Event], now: Moment) -> bytes:
        start = self._head + stamp(now.wall_ns)[:-1].encode() + self._middle
        end = self._end
        parts: list[bytes] = []
        for event in events:
            if type(event) is Delta:
                if event.kind == "text" and event.logprobs is None:
                    text = event.text
                    if text:
                        parts += (start, _encode(text), end)
                        self._answer_bytes += size(text)
                        if self._packed is not None:
                            self._keep(text)
                else:
                    self._delta(event, now, parts)
            elif type(event) is BlockStart:
                if event.kind == "tool_call":
                    self._open[event.index] = (event, [])
            elif type(event) is BlockEnd:
                self._close(event.index, now, parts)
            elif type(event) is Finish:
                self._finish(event, now, parts)
        return go_escape(b"".join(parts))

    def fail(self, error: GatewayError, now: Moment) -> bytes:
        return error_object(self._kind, error) + b"\n"

    def _keep(self, text: str) -> None:
        """For the context, which has no room for an answer of any length."""
        self._answer.append(text)
        if self._answer_bytes > conversation.MAX_TEXT:
            self._packed, self._answer = None, []

    def _delta(self, event: Delta, now: Moment, parts: list[bytes]) -> None:
        if event.kind == "tool_call":
            if event.index in self._open:
                self._room.take(event.text)
                self._open[event.index][1].append(event.text)
            return
        self._answer_bytes += size(event.text)
        logprobs = native_logprobs(event.logprobs, self._top) if self._logprobs and event.logprobs else None
        thinking = event.kind == "thinking"
        if thinking and not self._show_thinking:
            return
        if not thinking and self._packed is not None:
            self._keep(event.text)
        if event.text or logprobs:
            self._line(now, parts, "" if thinking else event.text, event.text if thinking else "", None, logprobs)

    def _line(
        self,
        now: Moment,
        parts: list[bytes],
        text: str,
        thinking: str = "",
        calls: list[Fields] | None = None,
        logprobs: list[Fields] | None = None,
    ) -> None:
        said: Fields = {"role": "assistant", "content": text} if self._chat else {"response": text}
        if thinking:
            said["thinking"] = thinking
        if calls:
            said["tool_calls"] = calls
        line: Fields = {"model": self._model, "created_at": stamp(now.wall_ns)}
        line.update({"message": said} if self._chat else said)
        line["done"] = False
        if logprobs:
            line["logprobs"] = logprobs
        parts += (_encode(line), b"\n")

    def _close(self, index: int, now: Moment, parts: list[bytes]) -> None:
        held = self._open.pop(index, None)
        if held is None:
            return
        start, pieces = held
        arguments = "".join(pieces)
        self._answer_bytes += size(arguments)
        call = native_call(self._count, start.id, start.name or "", arguments, now)
        self._count += 1
        if self._chat:
            self._line(now, parts, "", calls=[call])
        else:
            self._calls.append(call)

    def _finish(self, event: Finish, now: Moment, parts: list[bytes]) -> None:
        for index in list(self._open):
            self._close(index, now, parts)
        context = conversation.encode(self._packed, "".join(self._answer)) if self._packed is not None else None
        figures = metrics(event.usage, now, self._prompt_bytes, self._answer_bytes)
        last = last_object(
            self._kind, self._model, now, event.reason, calls=self._calls, context=context, figures=figures
        )
        parts += (go_dumps(last), b"\n")


# -- relay -------------------------------------------------------------------------------------------------------------


def renamed(document: bytes, model: bytes) -> bytes:
    """An object with its `model` replaced by the JSON string `model`; everything else byte for byte where the provider
    writes compact JSON, as Ollama does. What is no object is returned as it is."""
    if document.startswith(b'{"model":"'):
        end = document.find(b'"', 10)
        if end > 0 and b"\\" not in document[10:end]:
            return b'{"model":' + model + document[end + 1 :]
    if b'"model"' not in document:
        return document
    try:
        members = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
    except UNREADABLE:
        return document
    if "model" in members:
        members["model"] = msgspec.Raw(model)
    return _encode(members) + document[len(document.rstrip()) :]


_NOT_LAST = b'"done":false}\n'


class Tap:
    """A stream of the client's own dialect, passed on line by line."""

    content_type = NDJSON
    headers: Mapping[str, str] = {}
    heartbeat = b" "

    def __init__(self, kind: str, request: ChatRequest) -> None:
        self._kind = kind
        self._name = go_escape(json_string(request.model))
        self._head = b'{"model":' + self._name + b","
        self._theirs = b"{}"  # how their lines begin, once one has been seen
        self._rest = bytearray()
        self.usage = Usage()
        self.finished = False
        self.content = False
        self.error: GatewayError | None = None

    def feed(self, data: bytes) -> bytes:
        cut = data.rfind(b"\n") + 1
        lines = bytes(self._rest) + data[:cut] if cut and self._rest else data[:cut]
        if cut:
            self._rest.clear()
        self._rest += data[cut:]  # in place: a long line costs what it is long, however many reads it takes
        if len(self._rest) > MAX_FRAME:
            self.error = unreadable("has a line that is too long")
            self._rest.clear()
        if self._all_plain(lines):
            return self._head + lines[len(self._theirs) :].replace(b"\n" + self._theirs, b"\n" + self._head)
        return b"".join([line if line.isspace() else self._pass(line) for line in lines.splitlines(keepends=True)])

    def end(self) -> bytes:
        """A last line without line end passes; half a line does not."""
        rest, self._rest = bytes(self._rest), bytearray()
        if not rest or rest.isspace():
            return b""
        try:
            read_line(rest)
        except UNREADABLE:
            return b""
        return self._pass(rest)

    def fail(self, error: GatewayError, now: Moment) -> bytes:
        return error_object(self._kind, error) + b"\n"

    def _all_plain(self, lines: bytes) -> bool:
        """Whether the lines begin as theirs do and none of them tells the meter anything. Within a text every quote and
        line end is escaped, so what is counted here can only be at the end or the beginning of a line."""
        if not (self.content and lines.startswith(self._theirs)):
            return False
        count = lines.count(b"\n")
        return lines.count(_NOT_LAST) == count and lines.count(b"\n" + self._theirs) == count - 1

    def _pass(self, line: bytes) -> bytes:
        if self.error is not None:
            return b""
        if not (self.content and line.endswith(_NOT_LAST)):
            self._meter(line)
            if self.error is not None:
                return b""
        if line.startswith(self._theirs):
            return self._head + line[len(self._theirs) :]
        out = renamed(line, self._name)
        same = len(out) - len(self._head)
        if out.startswith(self._head) and line.endswith(out[len(self._head) :]):
            self._theirs = line[: len(line) - same]
        return out

    def _meter(self, line: bytes) -> None:
        try:
            read = read_line(line)
        except UNREADABLE:
            self.error = unreadable("has a line that is no JSON of Ollama's")
            return
        if read.error:
            self.error = failure(read.error)
        elif read.done:
            self.finished = True
            self.content = True
            self.usage = read.usage()
        elif read.text() or read.thought() or read.calls() or read.logprobs:
            self.content = True
