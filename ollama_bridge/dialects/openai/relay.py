"""Relay between an OpenAI client and an OpenAI provider: bytes as they are, with only the permitted edits.

Knows: the model's name, the request for usage, and where a frame ends. Must not know: values, translation.

    {"model":"fast","messages":[…],"stream":true}  ->  {"model":"llama-3.3-70b","messages":[…],"stream":true,
                                                        "stream_options":{"include_usage":true}}
    data: {…,"model":"llama-3.3-70b",…}            ->  data: {…,"model":"fast",…}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ...errors import GatewayError, unusable
from ...framing import MAX_FRAME, BadJSON, dumps, json_string, loads
from ...values import ChatRequest, EmbedRequest, Usage
from ..base import Moment
from .fields import DONE, failure_of, spoken, usage_of
from .stream import error_frame

# For this gateway alone; no provider may see them.
_OURS = ("privacy_mode", "task")
# Ollama's own words, which some clients send here as well (clients.md 2, Goose); strict services refuse them, so a body
# that holds one is translated.
_OLLAMAS = ("options", "keep_alive", "think")

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def relay_request(body: bytes, model: str, request: ChatRequest | EmbedRequest) -> bytes | None:
    """The client's own body for the provider: every other value keeps its bytes. None when that is not possible."""
    try:
        members = _members(body)
        given = loads(bytes(members.get("stream_options", b"null")))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, BadJSON):
        return None
    if any(name in members for name in _OLLAMAS):
        return None
    for name in _OURS:
        members.pop(name, None)
    if bytes(members.get("provider", b"")).startswith(b'"'):  # an object is OpenRouter's own
        del members["provider"]
    members["model"] = msgspec.Raw(json_string(model))
    if isinstance(request, ChatRequest) and request.stream:
        options = given if isinstance(given, dict) else {}
        if options.get("include_usage") is not True:
            members["stream_options"] = msgspec.Raw(dumps({**options, "include_usage": True}))
    return dumps(members)


class _Envelope(msgspec.Struct):
    """What of a whole reply concerns the relay."""

    model: msgspec.Raw = msgspec.Raw(b"null")
    error: Any = None
    usage: Any = None
    x_groq: Any = None
    time_info: Any = None
    timings: Any = None


_envelope = msgspec.json.Decoder(_Envelope).decode


def relay_reply(body: bytes, model: str) -> tuple[bytes, Usage]:
    """A whole reply with the model's name put back. Raises GatewayError when it is no JSON object or holds an error."""
    try:
        envelope = _envelope(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise unusable("sent a reply that is not a JSON object") from None
    if envelope.error:
        raise failure_of({"error": envelope.error})
    usage = usage_of(msgspec.structs.asdict(envelope), Usage())
    return _renamed(body, bytes(envelope.model), json_string(model)), usage


def _renamed(body: bytes, theirs: bytes, ours: bytes) -> bytes:
    """The first `"model": THEIRS` with our name. In JSON text an unescaped quote never stands inside a string, so what
    matches is a member."""
    if not theirs.startswith(b'"') or theirs == ours:
        return body
    found = re.search(rb'"model"\s*:\s*(?=' + re.escape(theirs) + rb")", body)
    return body if found is None else body[: found.end()] + ours + body[found.end() + len(theirs) :]


_BOUNDARY = re.compile(rb"(?:\r\n|\n|\r(?!\n|\Z)){2,}")  # a CR at the very end may be half of a CRLF
_LINE_ENDS = re.compile(rb"\n+")
_FIELD = re.compile(rb"(?:\A|[\r\n])(?:data|event|id|retry)[:\r\n]")  # what is one to every reader of events
_LONG = 64 * 1024  # bytes of a frame that has not ended, beyond which only its end is looked for
_MODEL = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')
# Members that say nothing yet, with the brackets that may stand between and after them.
_NOTHING = re.compile(rb'(?:"(?:finish_reason|usage)"\s*:\s*(?:null|"")[\s\]},]*)+')
_LAST = DONE + b"\n\n"
_END = b"}\n\n"
_BEGIN = len('data: {"id":')  # bytes by which the next frame is known; a longer text is found faster
_CLOSING = 4  # frames a stream may end with that are not plain: the finish reason, usage, [DONE], and one to spare


class _Shape:
    """How this stream's plain frames look: what each of them holds exactly once, and what none of them holds.

    Inside a JSON string quotes and line ends are escaped, so what is looked for can only be a member, or the end of a
    frame. A frame that breaks off in the middle, or another one between them, spoils the counts.
    """

    __slots__ = ("_absent", "_begin", "_lines", "_model", "_once", "_ours")

    def __init__(self, frame: bytes, model: bytes, ours: bytes) -> None:
        """`frame` ends in "}" and a blank line. `model`: the member that names it, `ours`: what is put in its place."""
        self._begin = frame[:_BEGIN]
        self._model = model
        self._ours = ours
        self._lines = frame.count(b"\n")
        self._once = _NOTHING.findall(frame)
        absent = [member for member in (b'"finish_reason"', b'"usage"') if member not in b"".join(self._once)]
        self._absent = [*absent, b'"error"']

    def named(self, frames: bytes) -> bytes:
        """The frames with our name for the model if all of them are plain, else nothing."""
        if not (frames.startswith(self._begin) and frames.endswith(_END)):
            return b""
        count = frames.count(_END + self._begin) + 1
        if frames.count(b"\n") != count * self._lines:
            return b""
        for part in self._once:
            if frames.count(part) != count:
                return b""
        for part in self._absent:
            if part in frames:
                return b""
        between = frames.split(self._model)
        return self._ours.join(between) if len(between) == count + 1 else b""

    def run(self, data: bytes, start: int) -> tuple[bytes, int]:
        """The plain frames from `start` on, with our name, as far as that is easily seen, and where they end: all that
        are whole, or all but the last few, as at the end of a stream; else none. All line ends are LF."""
        end = data.rfind(b"\n\n", start) + 2
        if not data.endswith(_LAST) and (named := self.named(data[start:end])):
            return named, end
        for _ in range(_CLOSING):
            end = data.rfind(b"\n\n", start, max(end - 2, start)) + 2
        named = self.named(data[start:end])
        return named, end if named else start


class Tap:
    """A stream relayed: whole frames as they came, the model's name put back, usage and errors seen on the way.

    Plain frames are not decoded. Once the first content has shown what they look like, all frames of a read are
    counted over at once: without a finish reason, usage or an error among them, only the name has to be replaced.
    A frame with an error is not passed on but told by `error`: whoever pumps ends the stream with `fail`. A frame with
    nothing but usage is swallowed when the client has not asked for it.
    """

    content_type = "text/event-stream"
    headers: Mapping[str, str] = {}
    heartbeat = b": \n\n"

    def __init__(self, request: ChatRequest) -> None:
        self.usage = Usage()
        self.finished = False
        self.content = False
        self.error: GatewayError | None = None
        self._ours = b'"model":' + json_string(request.model)
        self._tells_usage = request.include_usage
        self._alone = request.n in (None, 1)  # several answers side by side have several finish reasons
        self._name: Any = None  # the provider's for the model,
        self._theirs = b""  # and the member that holds it, as the provider spells it
        self._shape: _Shape | None = None
        self._seen = False
        self._done = False
        self._rest = bytearray()

    def feed(self, data: bytes) -> bytes:
        if self.error is not None:
            return b""
        if len(self._rest) > _LONG and not _has_boundary(bytes(self._rest[-3:]) + data):
            self._rest += data  # in place: a long frame costs what it is long, however many reads it takes
            self._bound()
            return b""
        if self._rest:
            data = bytes(self._rest) + data
        lf_only = b"\r" not in data
        if self._shape is not None and lf_only and not self._rest and (named := self._shape.named(data)):
            return named  # as most reads are
        out: list[bytes] = []
        at = 0
        shape: _Shape | None = None
        tries = 2  # a read: with the shape known before, and with one that its own frames have shown
        while self.error is None:
            if self._shape is not None and self._shape is not shape and tries and lf_only:
                shape, tries = self._shape, tries - 1
                named, at = shape.run(data, at)
                out.append(named)
            end = _frame_end(data, at, lf_only)
            if not end:
                break
            out.append(self._look(data[at:end]))
            at = end
        self._rest = bytearray(data[at:])
        self._bound()
        return b"".join(out)

    def _bound(self) -> None:
        if len(self._rest) > MAX_FRAME:
            self.error = unusable(f"sent a frame of more than {MAX_FRAME} bytes")

    def end(self) -> bytes:
        """A last frame with data is passed on with the blank line it lacks; half a frame is not, nor what may be half
        of one. A `[DONE]` that a service leaves out after a finish reason is given: many clients wait for it."""
        rest, self._rest = bytes(self._rest), bytearray()
        if self.error is not None:
            return b""
        if (body := rest.strip()).startswith(b"{"):
            self._whole(body)
            return b""
        out = b""
        if rest.endswith(b"\r\r"):
            out = self._look(rest)
        elif _payload(rest)[1]:
            out = self._look(rest.rstrip() + b"\n\n")
        if self.finished and not self._done and self.error is None:
            self._done = True
            out += b"data: " + DONE + b"\n\n"
        return out

    def fail(self, error: GatewayError, now: Moment) -> bytes:
        return error_frame(error)

    def _look(self, frame: bytes) -> bytes:
        """A frame read whole. Gives back what is to be passed on."""
        if frame.isspace():
            return frame
        name, data = _payload(frame)
        if not data:  # a comment, or a keep-alive: an event without data, which OpenAI's SDK takes for broken JSON
            return self.heartbeat if _FIELD.search(frame) else frame
        if data == DONE:
            self.finished = self.finished or self._seen
            self._done = True
            return frame
        try:
            chunk = loads(data)
        except BadJSON:
            chunk = None
        if name == b"error":
            self.error = failure_of(data.decode("utf-8", "replace") if chunk is None else chunk)
        elif not isinstance(chunk, dict):
            if not self.finished:  # after the finish reason nothing of the answer can be lost any more
                self.error = unusable("sent a frame that is not JSON")
        elif chunk.get("error"):
            self.error = failure_of(chunk)
        elif self._meter(chunk):
            return self._named(frame, chunk)
        return b""

    def _meter(self, chunk: dict[str, Any]) -> bool:
        """Whether the frame is for the client."""
        self.usage = usage_of(chunk, self.usage)
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices:
            return self._tells_usage or not chunk.get("usage")
        self._seen = True
        for choice in choices:
            if not isinstance(choice, dict):
                continue
            delta = choice.get("delta")
            said = delta if isinstance(delta, dict) else {"content": choice.get("text")}
            if spoken(said) or said.get("tool_calls") or said.get("function_call"):
                self.content = True
            finish = choice.get("finish_reason")
            if finish == "error":
                self.error = failure_of(choice)
                return False
            self.finished = self.finished or bool(finish)
        return True

    def _named(self, frame: bytes, chunk: dict[str, Any]) -> bytes:
        name = chunk.get("model")
        if name != self._name or self._theirs not in frame:
            self._name, self._theirs = name, _member(frame, name)
        if not self._theirs:
            return frame
        plain = self.content and self._alone and not (self.finished or chunk.get("usage"))
        usual = plain and frame.startswith(b"data") and frame.endswith(_END)
        if usual and not (self._shape is not None and self._shape.named(frame)):
            self._shape = _Shape(frame, self._theirs, self._ours)
        return frame if self._theirs == self._ours else frame.replace(self._theirs, self._ours, 1)

    def _whole(self, body: bytes) -> None:
        """A stream request answered with one JSON object: an error in most cases; a reply cannot be passed on here."""
        try:
            relay_reply(body, "")
        except GatewayError as error:
            self.error = error
        else:
            self.error = unusable("answered a stream request with a whole reply")


def _has_boundary(data: bytes) -> bool:
    return (b"\n" in data or b"\r" in data) and _BOUNDARY.search(data) is not None


def _frame_end(data: bytes, start: int, lf_only: bool) -> int:
    """Where the frame that begins at `start` ends; 0 when not all of it is there. `lf_only`: no line ends in CR."""
    if lf_only:
        found = data.find(b"\n\n", start)
        if found < 0:
            return 0
        more = _LINE_ENDS.match(data, found + 2)  # blank lines after it are no frames of their own
        return more.end() if more else found + 2
    boundary = _BOUNDARY.search(data, start)
    return boundary.end() if boundary else 0


def _member(frame: bytes, model: Any) -> bytes:
    """The member that names the model, as it is spelled in this frame; b"" when there is none."""
    for found in _MODEL.finditer(frame):
        if loads(b"{" + found[0] + b"}")["model"] == model:
            return found[0]
    return b""


def _payload(frame: bytes) -> tuple[bytes, bytes]:
    """The event's name and its data."""
    name, data = b"", []
    for line in frame.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        if line.startswith(b"data:"):
            data.append(line[5:].strip())
        elif line.startswith(b"event:"):
            name = line[6:].strip()
    return name, b"\n".join(data)
