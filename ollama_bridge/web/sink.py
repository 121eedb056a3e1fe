"""Where an answer goes: bytes of HTTP/1.1 on the client's connection.

Knows: status lines, headers, chunks, slow and vanished clients. Must not know: what the bytes mean.

The sink writes on the connection itself instead of through aiohttp's response classes: they add a `Server` header and
a charset, and cannot send a heart-beat without waiting. aiohttp gets KEPT or CLOSED back, answers that are written.

    HTTP/1.1 200 OK
    Content-Type: application/x-ndjson          what the handler set, in alphabetical order,
    X-Request-ID: 5f0c…                         then these, as Ollama has them (ollama-protocol.md 0.1):
    Date: Sat, 21 Nov 2026 11:34:17 GMT
    Transfer-Encoding: chunked                  or Content-Length, up to 2048 bytes of a whole answer
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from operator import itemgetter

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from ..dialects.base import Answer
from ..policy.ports import ClientGone

WHOLE_LIMIT = 2048  # bytes: a longer whole answer is sent chunked, as Go's server does
_SLICE = 256 * 1024  # bytes handed to the connection at once; the write deadline holds for each
_NOTE_LIMIT = 2000  # characters of one X-Bridge-* header; clients' parsers take 8 KB a line
_NO_BODY = (204, 304)

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_HTTP_10 = (1, 0)


class Written(web.StreamResponse):
    """Tells aiohttp only whether the connection may serve a further request."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self._keep = keep

    @property
    def keep_alive(self) -> bool:
        return self._keep

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


KEPT = Written(True)
CLOSED = Written(False)


class HttpSink:
    """The policy.ports.Sink of one request.

    notes: X-Bridge-* headers, shared with the Exchange. extra: headers that every answer to this request carries.
    closing: the connection ends after this answer. started, status: what has gone out (status 0: nothing).
    """

    def __init__(self, request: web.BaseRequest, request_id: str, write_deadline: float) -> None:
        self.notes: dict[str, str] = {}
        self.extra: Iterable[tuple[str, str]] = ()
        self.closing = not request.keep_alive or request.version <= _HTTP_10
        self.started = False
        self.status = 0
        self.request_id = request_id
        self._request = request
        self._transport = request.transport
        self._protocol = request.protocol
        self._deadline = write_deadline
        self._chunked = False
        self._ended = False
        self._slicing = False  # a chunk is half written

    async def answer(self, answer: Answer) -> None:
        body = answer.body
        head_only = self._request.method == "HEAD"
        chunked = (answer.chunked or len(body) > WHOLE_LIMIT) and self._request.version > _HTTP_10
        bodiless = answer.status in _NO_BODY or (head_only and not body)
        length = None if chunked or bodiless else len(body)
        head = self._head(answer.status, answer.content_type, answer.headers, length, chunked and not head_only)
        self._begin(answer.status)
        if head_only or bodiless:
            await self._send(head)
        elif chunked:
            await self._send(b"%b%x\r\n%b\r\n0\r\n\r\n" % (head, len(body), body))
        else:
            await self._send(head + body)
        self._ended = True

    async def start(self, content_type: str, headers: Mapping[str, str]) -> None:
        self._chunked = self._request.version > _HTTP_10
        head = self._head(200, content_type, headers, None, self._chunked)
        self._begin(200)
        await self._send(head)

    async def write(self, data: bytes) -> None:
        if not data:
            return  # an empty chunk would end the stream
        if len(data) > _SLICE:
            await self._send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
            return
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ClientGone
        transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        if self._protocol.writing_paused:
            await self._drained(transport)

    def beat(self, data: bytes) -> None:
        transport = self._transport
        if not self.started or self._ended or self._slicing or transport is None or transport.is_closing():
            return
        if data and not self._protocol.writing_paused:
            transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def finish(self) -> None:
        self._ended = True
        if self._chunked:
            await self._send(b"0\r\n\r\n")

    def abort(self) -> None:
        """The connection closes, without the last chunk, once the handler has returned: closing it here would cancel
        the pipeline before it has settled."""
        self.closing = True
        self._ended = True

    def result(self) -> Written:
        """For aiohttp, after the handler's last word. Whatever was not ended properly must not look complete."""
        if self._ended and not self.closing:
            return KEPT
        transport = self._transport
        if transport is not None and transport.get_write_buffer_size():
            # A closing connection waits for its last bytes to go out: a client that does not read would hold it open.
            paused = self._protocol.writing_paused
            asyncio.get_running_loop().call_later(0 if paused else self._deadline, transport.abort)
        return CLOSED

    def _begin(self, status: int) -> None:
        self.started = True
        self.status = status

    def _head(
        self, status: int, content_type: str, headers: Mapping[str, str], length: int | None, chunked: bool
    ) -> bytes:
        lines = [*self.extra, *headers.items(), ("X-Request-ID", self.request_id)]
        lines += [(name, value[:_NOTE_LIMIT]) for name, value in self.notes.items()]
        if content_type:
            lines.append(("Content-Type", content_type))
        lines.sort(key=itemgetter(0))
        lines.append(("Date", _date()))
        if length is not None:
            lines.append(("Content-Length", str(length)))
        if self.closing:
            lines.append(("Connection", "close"))
        if chunked:
            lines.append(("Transfer-Encoding", "chunked"))
        version = "1.0" if self._request.version <= _HTTP_10 else "1.1"
        text = "".join([f"{name}: {_printable(value)}\r\n" for name, value in lines])
        return f"HTTP/{version} {status} {_PHRASES.get(status, '')}\r\n{text}\r\n".encode()

    async def _send(self, data: bytes) -> None:
        """Raises ClientGone, also when the client takes nothing for the length of the write deadline."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ClientGone
        if len(data) <= _SLICE:
            transport.write(data)
            if self._protocol.writing_paused:
                await self._drained(transport)
            return
        view = memoryview(data)
        self._slicing = True
        try:
            for at in range(0, len(data), _SLICE):
                if transport.is_closing():
                    raise ClientGone
                transport.write(view[at : at + _SLICE])
                if self._protocol.writing_paused:
                    await self._drained(transport)
        finally:
            self._slicing = False

    async def _drained(self, transport: asyncio.Transport) -> None:
        try:
            async with asyncio.timeout(self._deadline):
                await self._request.writer.drain()
        except TimeoutError:
            transport.abort()
            raise ClientGone from None
        except ConnectionError:
            raise ClientGone from None
        if transport.is_closing():
            raise ClientGone


def _printable(value: str) -> str:
    """Header values may quote a provider's words: ASCII only, no control characters."""
    if value.isascii() and value.isprintable():
        return value
    return "".join(char if " " <= char <= "~" else "?" for char in value)


_dated: tuple[int, str] = (0, "")


def _date() -> str:
    """The Date header, made once a second."""
    global _dated
    now = int(time.time())
    if _dated[0] != now:
        _dated = (now, formatdate(now, usegmt=True))
    return _dated[1]
