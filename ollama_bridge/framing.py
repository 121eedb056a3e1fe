"""Bytes <-> frames, and the one JSON seam.

Knows: SSE and NDJSON framing, JSON as Go's encoder writes it. Must not know: what a frame means.

Frames are bounded: one longer than MAX_FRAME, or an event of more than MAX_LINES, raises FrameTooLong, so an upstream
can neither fill memory nor keep a reader busy for long.
"""

from __future__ import annotations

from typing import Any

import msgspec

MAX_FRAME = 32 * 1024 * 1024  # bytes; a base64 picture in one frame is the largest honest one
MAX_LINES = 100_000  # of data in one event; honest ones have one, or those of an indented JSON document


_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()


class BadJSON(ValueError):
    """The bytes are not one JSON value (or one nested too deeply to be honest)."""


def loads(data: bytes | str) -> Any:
    """JSON -> dict, list, str, int, float, bool or None. Raises BadJSON."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadJSON(str(error)) from None


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON."""
    return _encoder.encode(value)


def go_escape(document: bytes) -> bytes:
    """JSON text -> the same JSON with the characters escaped that Go escapes, so that it may stand inside HTML and
    JavaScript, and U+0085 besides: raw, it makes ollama-python's line reader cut a line in two (clients.md 0.4).

    None of them can occur outside a JSON string, so whole documents and whole bursts of lines are escaped at once.
    """
    # A number is found in bytes ten times as fast as bytes in bytes.
    if 0x3C in document:
        document = document.replace(b"<", b"\\u003c")
    if 0x3E in document:
        document = document.replace(b">", b"\\u003e")
    if 0x26 in document:
        document = document.replace(b"&", b"\\u0026")
    if not document.isascii():
        for raw, escaped in _LINE_ENDS:
            document = document.replace(raw, escaped)
    return document


_LINE_ENDS = tuple((char.encode(), f"\\u{ord(char):04x}".encode()) for char in "\u2028\u2029\x85")


def go_dumps(value: Any) -> bytes:
    """Compact JSON as Go's encoding/json writes it."""
    return go_escape(_encoder.encode(value))


def json_string(text: str) -> bytes:
    """A JSON string literal, not yet go_escaped: for frames put together from a prefix and a suffix."""
    return _encoder.encode(text)


class FrameTooLong(ValueError):
    """A frame, or a body in place of frames, grew beyond its limit. Its text can follow "sent"."""

    def __init__(self, limit: int, what: str = "frame", unit: str = "bytes") -> None:
        super().__init__(f"a {what} of more than {limit} {unit}")


class Lines:
    """NDJSON reader: bytes in, complete lines out (without line end, blank lines dropped)."""

    __slots__ = ("_rest", "limit")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._rest = bytearray()
        self.limit = limit

    def feed(self, data: bytes) -> list[bytes]:
        lines: list[bytes] = []
        if b"\n" in data:
            lines = (bytes(self._rest) + data if self._rest else data).split(b"\n")
            self._rest = bytearray(lines.pop())
        else:
            self._rest += data  # in place: a long line costs what it is long, however many reads it takes
        if len(self._rest) > self.limit:
            raise FrameTooLong(self.limit)
        return [line for line in lines if line and not line.isspace()]

    def end(self) -> list[bytes]:
        """What is left at the end of the stream: a last line without line end, or nothing."""
        rest, self._rest = bytes(self._rest).strip(), bytearray()
        return [rest] if rest else []


_TAIL = 8192  # bytes of an event that has not ended, up to which it waits unread for the rest of it


class ServerSentEvents:
    """SSE reader: bytes in, `(event name or None, data)` out.

    Accepts LF, CRLF and CR line ends, comments, `data:` with or without a blank, several data lines an event, a byte
    order mark, and a last event without its blank line (`end`). An event without data is dropped, as the standard says;
    so is an empty `data:` line, which some servers send as a keep-alive.

    Nearly all events of a stream are one line of data after the same few bytes, with or without a name. A row of them
    is cut apart at once, and only what is different is read line by line.
    """

    __slots__ = ("_data", "_first", "_held", "_lead", "_name", "_rest", "_usual", "limit")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._rest = bytearray()
        self._name: str | None = None
        self._data: list[bytes] = []
        self._held = 0  # bytes read since the open event began
        self._first = True
        self._usual: str | None = None  # the name of the last event that was read by lines,
        self._lead = b"data: "  # and what stands before its data
        self.limit = limit

    def feed(self, data: bytes) -> list[tuple[str | None, bytes]]:
        if self._first:
            data = bytes(self._rest) + data
            self._rest.clear()
            if len(data) < 3 and b"\xef\xbb\xbf".startswith(data):
                self._rest += data
                return []
            self._first = False
            data = data.removeprefix(b"\xef\xbb\xbf")
        elif self._rest:
            if b"\n" not in data and b"\r" not in data and not self._rest.endswith(b"\r"):
                self._rest += data  # in place: a long line costs what it is long, however many reads it takes
                if len(self._rest) > self.limit:
                    raise FrameTooLong(self.limit)
                return []
            data = bytes(self._rest) + data
            self._rest.clear()
        elif data.endswith(b"\n\n") and data.startswith(self._lead) and not self._data and self._name is None:
            # One event alone, as most come: its first line end is the last but one byte.
            begin, end = len(self._lead), len(data) - 2
            if end > begin and data.find(b"\n", begin) == end and b"\r" not in data:
                return [(self._usual, data[begin:end])]
        frames: list[tuple[str | None, bytes]] = []
        if not self._data and self._name is None:
            data = self._events(data, frames)
        if data:
            self._lines(data, frames)
        return frames

    def _events(self, data: bytes, frames: list[tuple[str | None, bytes]]) -> bytes:
        """Reads the events that are whole -> what is left to be read by lines."""
        line_end, lead = b"\n", self._lead
        if b"\r" in data:
            line_end, lead = b"\r\n", lead.replace(b"\n", b"\r\n")
        gap = line_end + line_end
        end = data.rfind(gap)
        if end < 0:
            return data
        at = 0
        while not data.startswith(lead, at):
            after = data.find(gap, at) + len(gap)
            self._lines(data[at:after], frames)
            if after > end:
                break
            at, lead = after, self._lead.replace(b"\n", line_end)
        else:
            self._row(data[at + len(lead) : end], lead, gap, frames)
        if end + len(gap) == len(data):
            return b""
        rest = data[end + len(gap) :]
        if len(rest) > _TAIL or (line_end != b"\n" and (b"\n" in rest or b"\r" in rest)):
            return rest  # it is long, or may hold an event that ends in another way
        self._rest += rest
        return b""

    def _row(self, data: bytes, lead: bytes, gap: bytes, frames: list[tuple[str | None, bytes]]) -> None:
        """Whole events, without the first one's `lead` and the last one's `gap`."""
        name = self._usual
        if b"\n" not in data and b"\r" not in data:  # one event alone, as most come
            if data:
                frames.append((name, data))
            return
        row = data.split(gap + lead)
        ends = (len(row) - 1) * (gap + lead).count(b"\n")  # of lines, if there are none but in leads and gaps
        if data.count(b"\n") == ends and data.count(b"\r") in (0, ends):
            frames += [(name, piece) for piece in row if piece]
            return
        for piece in row:
            if b"\n" in piece or b"\r" in piece:
                self._lines(lead + piece + gap, frames)
            elif piece:
                frames.append((name, piece))

    def _lines(self, data: bytes, frames: list[tuple[str | None, bytes]]) -> None:
        if b"\r" in data:
            # A CR at the very end may be half of a CRLF: keep it back.
            if data.endswith(b"\r"):
                data = data[:-1]
                self._rest += b"\r"
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = data.split(b"\n")
        self._rest[:0] = lines.pop()
        if len(self._rest) > self.limit:
            raise FrameTooLong(self.limit)
        for line in lines:
            if line:
                if line.startswith(b"data:"):
                    self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
                elif line.startswith(b"event:"):
                    self._name = line[6:].strip().decode("utf-8", "replace")
                elif line == b"data":
                    self._data.append(b"")
            elif self._data or self._name is not None:
                self._close(frames)
        if len(self._data) > MAX_LINES:
            raise FrameTooLong(MAX_LINES, unit="lines")
        self._held = self._held + len(data) if self._data else 0
        if self._held > self.limit:
            raise FrameTooLong(self.limit)

    def _close(self, frames: list[tuple[str | None, bytes]]) -> None:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        if data:
            frames.append((self._name, data))
        if self._name != self._usual:
            self._usual = self._name
            self._lead = b"data: " if self._name is None else b"event: " + self._name.encode() + b"\ndata: "
        self._data = []
        self._name = None

    def end(self) -> list[tuple[str | None, bytes]]:
        """The last event, if the stream ended without the blank line after it."""
        frames: list[tuple[str | None, bytes]] = []
        if self._rest:
            rest = bytes(self._rest)
            self._rest.clear()
            self._lines(rest + b"\n", frames)
        self._close(frames)
        return frames


class EventsOrBody:
    """The answer to a request for a stream: server-sent events, or the one JSON value that some services send in their
    place (providers.md 6.4). `body` holds such a value, whole once the connection has ended; None: events have come."""

    __slots__ = ("_sse", "body")

    def __init__(self) -> None:
        self._sse = ServerSentEvents()
        self.body: bytearray | None = bytearray()

    def feed(self, data: bytes) -> list[tuple[str | None, bytes]]:
        """Raises FrameTooLong."""
        return self._sse.feed(data if self.body is None else self._begin(self.body, data))

    def _begin(self, body: bytearray, data: bytes) -> bytes:
        """Keeps what belongs to one JSON value; gives back what belongs to events."""
        if not body:
            data = data.lstrip(b"\xef\xbb\xbf \t\r\n")
            if data and not data.startswith((b"{", b"[")):
                self.body = None
                return data
        body += data
        if len(body) > MAX_FRAME:
            raise FrameTooLong(MAX_FRAME, "body")
        return b""

    def end(self) -> list[tuple[str | None, bytes]]:
        """As ServerSentEvents.end."""
        return self._sse.end()


def sse(data: bytes, event: str | None = None) -> bytes:
    """One SSE event. `data` must hold no line end (JSON never does)."""
    if event is None:
        return b"data: " + data + b"\n\n"
    return b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"
