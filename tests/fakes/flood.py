"""An upstream that never stops: raw bytes, as many as are taken.

Knows: sockets, chunked encoding. Must not know: wires (a test gives the bytes), the gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable


class Flood:
    """Answers every request with `head`, then with `pieces` until they end or the other side has had enough.
    `pieces` is asked for anew by each request. `sent`: bytes of pieces that were taken. `cut`: set when the other side
    closed first. `live`: requests that are being answered."""

    def __init__(self, head: bytes, pieces: Callable[[], Iterable[bytes]], chunked: bool = True) -> None:
        self.head = head
        self.pieces = pieces
        self.chunked = chunked
        self.sent = 0
        self.live = 0
        self.cut = asyncio.Event()
        self.url = ""
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Flood:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.live += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET"):  # a list of models: none
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            writer.write(self.head)
            for piece in filter(None, self.pieces()):  # an empty chunk would be the last one
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self.chunked else piece)
                await writer.drain()
                self.sent += len(piece)
            if self.chunked:
                writer.write(b"0\r\n\r\n")
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.cut.set()
        finally:
            self.live -= 1
            writer.close()


def head(content_type: str, *more: str, chunked: bool = True, status: str = "200 OK") -> bytes:
    framing = ["Transfer-Encoding: chunked"] if chunked else []
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Type: {content_type}", *framing, *more, "", ""]).encode()
