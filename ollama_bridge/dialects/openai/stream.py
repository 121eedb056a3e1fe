"""The OpenAI stream: frames -> events, events -> frames.

Knows: chunks of /v1/chat/completions and /v1/completions as every compatible service sends them (providers.md 2.2, 3.5,
section 8). Must not know: requests beyond what a stream echoes, sockets, which provider sends.

    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1790000000,"model":"m",
           "choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}

    data: {"id":"chatcmpl-1",…,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

    data: {"id":"chatcmpl-1",…,"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}

    data: [DONE]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from ...errors import GatewayError, unusable
from ...events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, Start, unfold
from ...framing import BadJSON, EventsOrBody, FrameTooLong, dumps, go_escape, json_string, loads, sse
from ...values import ChatRequest, Reply, Usage
from ..base import GENERATE, Moment
from ..ollama.answers import prompt_size, size
from ..thinktags import ThinkTags
from .fields import (
    DONE,
    arguments_text,
    call_vendor,
    estimated,
    failure_of,
    finish_word,
    logprobs_of,
    reason_of,
    spoken,
    usage_object,
    usage_of,
)

CALLS_AT_MOST = 1000  # tool calls of one answer that may be open at once

# -- the plain chunk ---------------------------------------------------------------------------------------------------
# These types are the test as well: a chunk that carries anything but a piece of text or thought does not decode as
# one, and is then read whole. So the usual chunk costs one decode and no look at its flags.


class _PlainDelta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[()] | None = None
    refusal: None = None
    reasoning_details: tuple[()] | None = None
    thinking: None = None
    function_call: None = None


class _PlainChoice(msgspec.Struct, gc=False):
    delta: _PlainDelta
    index: Literal[0] = 0
    logprobs: None = None
    finish_reason: Literal[""] | None = None


class _PlainChunk(msgspec.Struct, gc=False):
    choices: tuple[_PlainChoice]
    usage: None = None
    error: None = None
    x_groq: None = None
    timings: None = None
    time_info: None = None


_plain = msgspec.json.Decoder(_PlainChunk).decode
_NOT_PLAIN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Call:
    """A tool call while its pieces arrive. `index` is None until it has a name and so can be shown."""

    __slots__ = ("held", "id", "index", "name", "spoken", "vendor")

    def __init__(self) -> None:
        self.id: str | None = None
        self.name = ""
        self.index: int | None = None
        self.held: list[str] = []  # arguments that came before the name
        self.spoken = False
        self.vendor: dict[str, dict[str, Any]] = {}


class Reader:
    """A provider's stream as events. `whole` reads the body of a provider that answers a stream request with one JSON
    object. `think_tags`: tags may stand anywhere in the text, not only at its beginning.

    The answer is complete at `[DONE]`, or at the end of the connection once a finish reason was seen; what comes after
    a finish reason can only be counts.
    """

    __slots__ = (
        "_calls", "_done", "_frames", "_index", "_next", "_open", "_reason", "_start", "_tags", "_usage", "_whole",
    )  # fmt: skip

    def __init__(self, whole: Callable[[bytes], Reply], think_tags: bool = False) -> None:
        self._frames = EventsOrBody()
        self._whole = whole
        self._tags: ThinkTags | None = ThinkTags(think_tags)
        self._start: Start | None = None
        self._next = 0
        self._open: Literal["text", "thinking"] | None = None
        self._index = 0  # of the open block
        self._calls: dict[int, _Call] = {}
        self._reason = ""
        self._usage = Usage()
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
        for name, frame in frames:
            if self._start is not None and name is None and not self._calls:
                try:
                    delta = _plain(frame).choices[0].delta
                except _NOT_PLAIN:
                    pass
                else:
                    thought = delta.reasoning_content or delta.reasoning
                    if thought:
                        self._think(thought, events)
                    text = delta.content
                    if text:
                        if self._open == "text" and (self._tags is None or self._tags.passes(text)):
                            events.append(Delta(self._index, "text", text))
                        else:
                            self._say(text, events)
                    continue
            self._frame(name, frame, events)
            if self._done:
                break
        return events

    def end(self) -> list[Event]:
        if self._done:
            return []
        events: list[Event] = []
        if self._frames.body is not None:
            self._read_whole(bytes(self._frames.body), events)
            return events
        for name, frame in self._frames.end():
            self._frame(name, frame, events)
            if self._done:
                return events
        if self._reason:
            self._finish(events)
        else:
            cut = self._start is not None
            self._fail(events, unusable("broke off in the middle of its answer" if cut else "sent no answer"))
        return events

    def _read_whole(self, body: bytes, events: list[Event]) -> None:
        """One JSON object instead of a stream (providers.md 6.4): a reply, or an error."""
        if not body.strip():
            self._fail(events, unusable("sent no answer"))
            return
        try:
            events += unfold(self._whole(body))
        except GatewayError as error:
            self._fail(events, error)
        self._done = True

    # -- one frame ---------------------------------------------------------------------------------------------------
    def _frame(self, name: str | None, data: bytes, events: list[Event]) -> None:
        if data.strip() == DONE:
            if self._start is None:
                self._fail(events, unusable("sent an empty answer"))
            else:
                self._finish(events)
            return
        try:
            frame = loads(data)
        except BadJSON:
            frame = None
        if name == "error":
            self._fail(events, failure_of(data.decode("utf-8", "replace") if frame is None else frame))
        elif not isinstance(frame, dict):
            if not self._reason:  # after the finish reason nothing of the answer can be lost any more
                self._fail(events, unusable("sent a frame that is not JSON"))
        elif frame.get("error"):
            self._fail(events, failure_of(frame))
        else:
            self._chunk(frame, events)

    def _chunk(self, frame: dict[str, Any], events: list[Event]) -> None:
        self._usage = usage_of(frame, self._usage)
        choices = frame.get("choices")
        if not isinstance(choices, list) or not choices:
            return
        if self._start is None:
            self._start = Start(_string(frame, "id"), _string(frame, "model"), _whole_number(frame, "created"))
            events.append(self._start)
        for choice in choices:
            if isinstance(choice, dict) and choice.get("index") in (0, None) and not self._done:
                self._choice(choice, events)

    def _choice(self, choice: dict[str, Any], events: list[Event]) -> None:
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            delta = {"content": choice.get("text")}
        logprobs = logprobs_of(choice)
        for kind, piece in spoken(delta):
            if kind == "thinking":
                self._think(piece, events)
            else:
                self._say(piece, events, logprobs)
                logprobs = None
        if logprobs:
            self._piece("text", "", events, logprobs)
        calls = delta.get("tool_calls")
        for piece in calls if isinstance(calls, list) else ():
            if isinstance(piece, dict) and not self._done:
                self._call(piece, events)
        if self._done:
            return
        if isinstance(delta.get("function_call"), dict):  # the form before tool_calls
            self._call({"index": 0, "function": delta["function_call"]}, events)
        finish = choice.get("finish_reason")
        if finish == "error":
            self._fail(events, failure_of(choice))
        elif isinstance(finish, str) and finish and not self._reason:
            self._reason = reason_of(finish)
            self._close(events)

    # -- blocks ------------------------------------------------------------------------------------------------------
    def _think(self, thought: str, events: list[Event]) -> None:
        if self._tags is not None and not self._next:
            self._release(events)  # a service with a field for thoughts writes no tags
        self._piece("thinking", thought, events)

    def _say(self, text: str, events: list[Event], logprobs: list[dict[str, Any]] | None = None) -> None:
        if self._tags is None:
            self._piece("text", text, events, logprobs)
            return
        for kind, piece in self._tags.feed(text):
            self._piece(kind, piece, events, logprobs)
            logprobs = None
        if logprobs:
            self._piece("text", "", events, logprobs)
        if self._tags.settled:
            self._tags = None

    def _release(self, events: list[Event]) -> None:
        """No tag can follow: what was held back for one is shown."""
        tags, self._tags = self._tags, None
        for kind, piece in tags.end() if tags is not None else ():
            self._piece(kind, piece, events)

    def _piece(
        self,
        kind: Literal["text", "thinking"],
        text: str,
        events: list[Event],
        logprobs: list[dict[str, Any]] | None = None,
    ) -> None:
        if self._open != kind:
            self._shut(events)
            self._open, self._index = kind, self._new_index()
            events.append(BlockStart(self._index, kind))
        events.append(Delta(self._index, kind, text, logprobs))

    def _shut(self, events: list[Event]) -> None:
        """Ends the open block of text or thought."""
        if self._open is not None:
            events.append(BlockEnd(self._index))
            self._open = None

    def _new_index(self) -> int:
        self._next += 1
        return self._next - 1

    def _call(self, piece: dict[str, Any], events: list[Event]) -> None:
        """A piece of a tool call (providers.md 2.2): found by its index; a new id under an old index is a new call; a
        piece without index belongs to the call with its id, or is a new one if it has a name, or continues the last."""
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        call_id, name = _string(piece, "id"), _string(function, "name")
        slot = piece.get("index")
        if isinstance(slot, bool) or not isinstance(slot, int):
            slot = self._slot(call_id, name)
        call = self._calls.get(slot)
        if call is not None and call_id and call.id and call_id != call.id:
            self._end_call(self._calls.pop(slot), events)
            call = None
        if call is None:
            if len(self._calls) >= CALLS_AT_MOST:
                self._fail(events, unusable(f"made more than {CALLS_AT_MOST} tool calls at once"))
                return
            self._shut(events)
            call = self._calls[slot] = _Call()
        call.id, call.name = call.id or call_id, call.name or name or ""
        call.vendor = call.vendor or call_vendor(piece)
        arguments = arguments_text(function.get("arguments"))
        if call.index is None and call.name:
            arguments = self._show(call, events) + arguments
        if call.index is None:
            call.held.append(arguments)
        elif arguments:
            call.spoken = True
            events.append(Delta(call.index, "tool_call", arguments))

    def _slot(self, call_id: str | None, name: str | None) -> int:
        if call_id:
            for slot, call in self._calls.items():
                if call.id == call_id:
                    return slot
        if self._calls and not (call_id or name):
            return next(reversed(self._calls))
        return max(self._calls, default=-1) + 1

    def _show(self, call: _Call, events: list[Event]) -> str:
        """Starts the call's block; gives back the arguments that waited for it."""
        call.index = self._new_index()
        events.append(BlockStart(call.index, "tool_call", call.id, call.name, call.vendor))
        held, call.held = "".join(call.held), []
        return held

    def _end_call(self, call: _Call, events: list[Event]) -> None:
        held = self._show(call, events) if call.index is None else ""
        assert call.index is not None
        if held or not call.spoken:
            events.append(Delta(call.index, "tool_call", held or "{}"))
        events.append(BlockEnd(call.index))

    # -- the end -----------------------------------------------------------------------------------------------------
    def _close(self, events: list[Event]) -> None:
        """Ends every open block."""
        self._release(events)
        self._shut(events)
        if self._calls and self._reason == "stop":
            self._reason = "tool_calls"  # several services say "stop" after calls
        for call in self._calls.values():
            self._end_call(call, events)
        self._calls = {}

    def _finish(self, events: list[Event]) -> None:
        self._reason = self._reason or "stop"
        self._close(events)
        events.append(Finish(self._reason, self._usage))
        self._done = True

    def _fail(self, events: list[Event], error: GatewayError) -> None:
        events.append(Failed(error))
        self._done = True


def _string(holder: Mapping[str, Any], name: str) -> str | None:
    value = holder.get(name)
    return value if isinstance(value, str) and value else None


def _whole_number(holder: Mapping[str, Any], name: str) -> int | None:
    value = holder.get(name)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


# -- writing -----------------------------------------------------------------------------------------------------------


def error_object(error: GatewayError) -> dict[str, Any]:
    """`{"error": {...}}`: the type follows the status (providers.md 6.3); code and param travel as they came."""
    return {
        "error": {
            "message": error.message,
            "type": _ERROR_TYPES.get(error.status, "api_error"),
            "param": error.param,
            "code": error.code,
        }
    }


_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
}


def error_frame(error: GatewayError) -> bytes:
    """The in-stream error. No `[DONE]` follows it, so no client takes the answer for whole."""
    return sse(go_escape(dumps(error_object(error))))


def answer_id(kind: str, given: str | None, now: Moment) -> str:
    """The id of an answer: the provider's own where it has OpenAI's form, else made of it or of the time."""
    prefix = "cmpl-" if kind == GENERATE else "chatcmpl-"
    given = given or f"{now.wall_ns:x}"
    return given if given.startswith(prefix) else prefix + given


class Writer:
    """Events as OpenAI's chunks: the role first, pieces of tool calls as they arrive, the finish reason with an empty
    delta, usage in a chunk of its own when it was asked for. Thoughts go into `reasoning`.

    Everything of a text chunk but the text is made once.
    """

    content_type = "text/event-stream"
    headers: Mapping[str, str] = {}
    heartbeat = b": \n\n"

    __slots__ = (
        "_calls", "_head", "_kind", "_model", "_prefix", "_prompt_bytes", "_said", "_suffix", "_tail", "_usage",
    )  # fmt: skip

    def __init__(self, kind: str, request: ChatRequest) -> None:
        self._kind = kind
        self._model = json_string(request.model)
        self._usage = request.include_usage
        self._tail = b',"usage":null}\n\n' if self._usage else b"}\n\n"
        self._head = b""
        self._prefix = b""
        self._suffix = b',"logprobs":null,"finish_reason":null}]' + self._tail
        if kind != GENERATE:
            self._suffix = b"}" + self._suffix
        self._prompt_bytes = prompt_size(request)
        self._said = 0  # bytes of the answer so far
        self._calls: dict[int, int] = {}  # block -> number of the call

    def write(self, events: list[Event], now: Moment) -> bytes:
        out: list[bytes] = []
        if not self._head and events:
            self._begin(events[0], now, out)
        for event in events:
            if type(event) is Delta and event.kind == "text" and event.logprobs is None:
                if event.text:
                    text = json_string(event.text)
                    self._said += len(text) - 2
                    out += (self._prefix, text, self._suffix)
            else:
                self._event(event, out)
        return go_escape(b"".join(out))

    def fail(self, error: GatewayError, now: Moment) -> bytes:
        return error_frame(error)

    def _begin(self, event: Event, now: Moment, out: list[bytes]) -> None:
        start = event if isinstance(event, Start) else Start()
        head = {
            "id": answer_id(self._kind, start.id, now),
            "object": "text_completion" if self._kind == GENERATE else "chat.completion.chunk",
            "created": start.created or now.wall_ns // 1_000_000_000,
        }
        self._head = b"data: " + dumps(head)[:-1] + b',"model":' + self._model + b',"choices":['
        if self._kind == GENERATE:
            self._prefix = self._head + b'{"index":0,"text":'
        else:
            self._prefix = self._head + b'{"index":0,"delta":{"content":'
            out.append(self._chunk({"role": "assistant", "content": ""}))

    def _event(self, event: Event, out: list[bytes]) -> None:
        if isinstance(event, Finish):
            self._end(event, out)
        elif isinstance(event, Failed):
            out.append(error_frame(event.error))
        elif self._kind == GENERATE:
            if isinstance(event, Delta) and event.kind == "text":
                out.append(self._chunk(event.text, event.logprobs))
        elif isinstance(event, BlockStart):
            if event.kind == "tool_call":
                number = self._calls[event.index] = len(self._calls)
                function = {"name": event.name or "", "arguments": ""}
                call = {"index": number, "id": event.id or f"call_{number}", "type": "function", "function": function}
                extra = event.vendor.get("openai", {})
                out.append(self._chunk({"tool_calls": [{**extra, **call}]}))
        elif isinstance(event, Delta):
            self._said += size(event.text)
            if event.kind == "tool_call":
                piece = {"index": self._calls[event.index], "function": {"arguments": event.text}}
                out.append(self._chunk({"tool_calls": [piece]}))
            else:
                field = "reasoning" if event.kind == "thinking" else "content"
                out.append(self._chunk({field: event.text}, event.logprobs))

    def _chunk(self, said: Any, logprobs: list[dict[str, Any]] | None = None, finish: str | None = None) -> bytes:
        choice = {
            "index": 0,
            "text" if self._kind == GENERATE else "delta": said,
            "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
            "finish_reason": finish,
        }
        return self._head + dumps(choice) + b"]" + self._tail

    def _end(self, finish: Finish, out: list[bytes]) -> None:
        said = "" if self._kind == GENERATE else {}
        out.append(self._chunk(said, finish=finish_word(finish.reason, bool(self._calls))))
        if self._usage:
            usage = usage_object(estimated(finish.usage, self._prompt_bytes, self._said))
            out.append(self._head + b'],"usage":' + dumps(usage) + b"}\n\n")
        out.append(b"data: " + DONE + b"\n\n")
