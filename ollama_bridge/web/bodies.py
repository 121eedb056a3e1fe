"""Request bodies: read once, whatever their Content-Type says, within a size and a pace.

Knows: aiohttp's request stream, zstd. Must not know: what a body means.
"""

from __future__ import annotations

import asyncio

import zstandard
from aiohttp import web

from ..errors import GatewayError, Scope
from ..policy.ports import ClientGone

MAX_INFLATED = 20 * 1024 * 1024  # bytes of a zstd body once decompressed (ollama-protocol.md 0.1)

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPED = tuple(bytes([low]) + b"\x2a\x4d\x18" for low in range(0x50, 0x60))  # frames without content
_STEP = 1024  # bytes given to the decompressor at once: at most 32 MiB come out of them


class Unreadable(GatewayError):
    """The body was not read to its end: the connection is of no further use after the answer."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, status=status, scope=Scope.CALLER, early=True)


class NotInflated(GatewayError):
    """Told in Ollama's native shape at every door: a real Ollama inflates before its /v1 layer comes
    (ollama-protocol.md 0.1)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=400, scope=Scope.CALLER, early=True)


async def read(request: web.BaseRequest, limit: int, idle: float, rate: float) -> bytes:
    """The whole body. `limit` in bytes, `idle` in seconds without any byte, `rate` in bytes a second: how fast it must
    come on the whole, once `idle` has passed.

    Raises Unreadable (413 too long, 408 too slow, 400 broken framing) and ClientGone.
    """
    if (request.content_length or 0) > limit:
        raise _too_long(limit)
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    clock = asyncio.get_running_loop().time
    began = clock()
    silent = late = began
    pieces: list[bytes] = []
    size = 0
    try:
        while True:
            if request.content.is_eof():  # the rest is here, as with most bodies all of it is
                piece = request.content.read_nowait()
            else:
                silent, late = clock() + idle, began + idle + size / rate
                async with asyncio.timeout_at(min(silent, late)):
                    piece = await request.content.readany()
            if not piece:
                return b"".join(pieces)
            size += len(piece)
            if size > limit:
                raise _too_long(limit)
            pieces.append(piece)
    except TimeoutError:
        if silent <= late:
            raise Unreadable(f"no byte of the request body came for {idle:g} s", 408) from None
        raise Unreadable(f"the request body came slower than {rate:g} bytes a second", 408) from None
    except web.RequestPayloadError:
        raise Unreadable("the request body is not framed as its headers say", 400) from None
    except ConnectionError:
        raise ClientGone from None


def _too_long(limit: int) -> Unreadable:
    return Unreadable(f"the request body is longer than {limit} bytes", 413)


def inflate(body: bytes, limit: int = MAX_INFLATED) -> bytes:
    """A zstd body, decompressed; b"" stays b"". Frames may follow each other. Raises NotInflated, in the words
    that a real Ollama uses where it has any."""
    engine = zstandard.ZstdDecompressor()
    pieces: list[bytes] = []
    size = at = 0
    while at < len(body):
        magic = body[at : at + 4]
        if len(magic) < 4:
            raise NotInflated("unexpected EOF")
        if magic != _ZSTD_MAGIC and magic not in _SKIPPED:
            raise NotInflated("invalid input: magic number mismatch")
        frame = engine.decompressobj()
        while not frame.eof:
            if at >= len(body):
                raise NotInflated("unexpected EOF")
            try:
                piece = frame.decompress(body[at : at + _STEP])
            except zstandard.ZstdError:
                raise NotInflated("invalid input: the zstd frame is corrupt") from None
            at += _STEP
            size += len(piece)
            if size > limit:
                raise NotInflated("http: request body too large")
            pieces.append(piece)
        at = min(at, len(body)) - len(frame.unused_data)
    return b"".join(pieces)
