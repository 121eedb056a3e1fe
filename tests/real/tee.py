"""Stands between a client and a server, passes all bytes on, and keeps the exchanges it saw.

Knows: where one HTTP/1.1 request ends and the next begins (each says its length). Must not know: what requests and
answers mean.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Exchange:
    """A request, and the bytes that came back before the next one on its connection."""

    method: str
    path: str
    body: bytes
    raw: bytearray = field(default_factory=bytearray)

    @property
    def json(self) -> Any:
        """The request's body; None when there is none."""
        return json.loads(self.body) if self.body else None

    def answer(self) -> tuple[int, bytes]:
        """Status and body, as far as they came; 0 when nothing came."""
        if not self.raw:
            return 0, b""
        response = http.client.HTTPResponse(_Received(self.raw), method=self.method)  # type: ignore[arg-type]
        response.begin()
        try:
            return response.status, response.read()
        except http.client.IncompleteRead as cut:
            return response.status, cut.partial


class _Received:
    """As much of a socket as an answer is read from."""

    def __init__(self, raw: bytearray) -> None:
        self._raw = bytes(raw)

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._raw)


class Tee(socketserver.ThreadingTCPServer):
    """`url` is where a client asks; `exchanges` stand in the order in which they began."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        split = urlsplit(target)
        self.target = (split.hostname, split.port)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.exchanges: list[Exchange] = []


class _Passing(socketserver.StreamRequestHandler):
    server: Tee

    def handle(self) -> None:
        with socket.create_connection(self.server.target) as upstream:
            back = threading.Thread(target=self._pass_back, args=(upstream,), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while head := self._head():
                    upstream.sendall(self._keep(head))
            with contextlib.suppress(OSError):
                upstream.shutdown(socket.SHUT_WR)
            back.join()

    def _pass_back(self, upstream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := upstream.recv(65536):
                self._current.raw += data
                self.connection.sendall(data)
            self.connection.shutdown(socket.SHUT_RDWR)

    def _head(self) -> list[bytes]:
        """The lines of a request's head; none when the program is done."""
        lines: list[bytes] = []
        for line in self.rfile:
            lines.append(line)
            if line == b"\r\n":
                return lines
        return []

    def _keep(self, head: list[bytes]) -> bytes:
        sizes = [int(line.partition(b":")[2]) for line in head if line.lower().startswith(b"content-length:")]
        body = self.rfile.read(sizes[0]) if sizes else b""
        method, path, _ = head[0].decode().split(" ", 2)
        self._current = Exchange(method, path, body)
        self.server.exchanges.append(self._current)
        return b"".join(head) + body


@contextlib.contextmanager
def teed(target: str) -> Iterator[Tee]:
    """Between whoever asks `Tee.url` and the server at `target`, an http URL."""
    with Tee(target) as tee:
        thread = threading.Thread(target=tee.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield tee
        finally:
            tee.shutdown()
            thread.join()
