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

from ..errors import GatewayError
from ..framing import MAX_FRAME, BadJSON, dumps, json_string, loads
from ..values import ChatRequest, EmbedRequest, Usage
from .base import Moment
from .openai_fields import DONE, failure_of, spoken, unusable, usage_of
from .openai_stream import error_frame

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


_BOUNDARY = re.compile(rb"(?:\r\n|\n|\r(?!\n|\Z)){2}")  # a CR at the very end may be half of a CRLF
_MODEL = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')
_NO_REASON = re.compile(rb'"finish_reason"\s*:\s*null')
_NO_USAGE = re.compile(rb'"usage"\s*:\s*null')


class _Shape:
    """How this stream's plain frames look: what each of them holds exactly once, and what none of them holds.

    Inside a JSON string quotes are escaped, so what is looked for can only be a member. A frame that breaks off in the
    middle, or a text that looks like the beginning of a frame, spoils the counts; frames are then read one by one.
    """

    __slots__ = ("absent", "model", "once")

    def __init__(self, frame: bytes, model: bytes) -> None:
        self.model = model
        self.once = [frame[: frame.index(b"{") + 1], b"}\n\n", model]
        self.absent = [b'"error"']
        for nothing, member in ((_NO_REASON, b'"finish_reason"'), (_NO_USAGE, b'"usage"')):
            found = nothing.search(frame)
            if found is None:
                self.absent.append(member)
            else:
                self.once.append(found[0])

    def fits(self, frames: bytes) -> bool:
        """Whether all of these frames are plain. Comments among them do not matter."""
        count = frames.count(self.once[0])
        if not count:
            return False
        for part in self.once:
            if frames.count(part) != count:
                return False
        return not any(part in frames for part in self.absent)


class Tap:
    """A stream relayed: whole frames as they came, the model's name put back, usage and errors seen on the way.

    Plain frames are never decoded. Once the first content has shown what they look like, all frames of a read are
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
        self._shape: _Shape | None = None
        self._seen = False
        self._done = False
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        if self.error is not None:
            return b""
        if self._rest:
            data = self._rest + data
        if self._shape is not None and b"\r" not in data:
            cut = data.rfind(b"\n\n") + 2
            frames = data[:cut]
            if cut > 1 and self._shape.fits(frames):
                self._rest = data[cut:]
                return frames.replace(self._shape.model, self._ours)
        return self._one_by_one(data)

    def end(self) -> bytes:
        """A last frame without its blank line is passed on with one; half a frame is not. A `[DONE]` that a service
        leaves out after a finish reason is given: many clients wait for it."""
        rest, self._rest = self._rest, b""
        frame = rest.strip()
        if self.error is not None:
            return b""
        if frame.startswith(b"{"):
            self._whole(frame)
            return b""
        out = self._look(rest if rest.endswith(b"\r\r") else frame + b"\n\n") if frame else b""
        if self.finished and not self._done and self.error is None:
            self._done = True
            out += b"data: " + DONE + b"\n\n"
        return out

    def fail(self, error: GatewayError, now: Moment) -> bytes:
        return error_frame(error)

    def _one_by_one(self, data: bytes) -> bytes:
        out: list[bytes] = []
        start = 0
        for found in _BOUNDARY.finditer(data):
            out.append(self._look(data[start : found.end()]))
            start = found.end()
            if self.error is not None:
                break
        self._rest = data[start:]
        if len(self._rest) > MAX_FRAME:
            self.error = unusable(f"sent a frame of more than {MAX_FRAME} bytes")
        return b"".join(out)

    def _look(self, frame: bytes) -> bytes:
        """A frame read whole. Gives back what is to be passed on."""
        name, data = _payload(frame)
        if not data:
            return frame  # a comment, or a keep-alive
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
        for found in _MODEL.finditer(frame):
            member = found[0]
            if loads(b"{" + member + b"}")["model"] == chunk.get("model"):
                plain = self.content and not (self.finished or chunk.get("usage"))
                if plain and self._alone and frame.startswith(b"data"):
                    self._shape = _Shape(frame, member)
                return frame.replace(member, self._ours, 1)
        return frame

    def _whole(self, body: bytes) -> None:
        """A stream request answered with one JSON object: an error in most cases; a reply cannot be passed on here."""
        try:
            relay_reply(body, "")
        except GatewayError as error:
            self.error = error
        else:
            self.error = unusable("answered a stream request with a whole reply")


def _payload(frame: bytes) -> tuple[bytes, bytes]:
    """The event's name and its data."""
    name, data = b"", []
    for line in frame.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        if line.startswith(b"data:"):
            data.append(line[5:].strip())
        elif line.startswith(b"event:"):
            name = line[6:].strip()
    return name, b"\n".join(data)
