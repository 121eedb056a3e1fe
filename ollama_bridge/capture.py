"""`--capture DIR`: what came in, what was sent upstream and what came back, per request id.

Knows: files. Must not know: wires. Only bodies are kept, so keys do not reach it, and a body
that repeats one of our keys is redacted all the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from .providers.base import Upstream


class DirectoryCapture:
    """Writes `<request id>.in`, `.<attempt>.sent` and `.<attempt>.received` below `directory` (mode 0700), for nobody
    else to read. `secrets`: what is redacted, longest first."""

    def __init__(self, directory: Path, secrets: Iterable[str]) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory = directory
        self._secrets = [secret.encode() for secret in secrets]

    def _add(self, name: str, data: bytes) -> None:
        for secret in self._secrets:
            data = data.replace(secret, b"[redacted]")
        with open(self.directory / name, "ab", opener=_private) as file:
            file.write(data)

    def inbound(self, request_id: str, path: str, body: bytes) -> None:
        self._add(f"{request_id}.in", f"{path}\n".encode() + body)

    def sent(self, request_id: str, attempt: int, provider: str, kind: str, body: bytes) -> None:
        self._add(f"{request_id}.{attempt}.sent", f"{provider} {kind}\n".encode() + body)

    def received(self, request_id: str, attempt: int, data: bytes) -> None:
        self._add(f"{request_id}.{attempt}.received", data)

    def watch(self, request_id: str, attempt: int, upstream: Upstream) -> Upstream:
        return _Watched(upstream, self, request_id, attempt)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class _Watched:
    """An Upstream that keeps what is read from it."""

    def __init__(self, upstream: Upstream, capture: DirectoryCapture, request_id: str, attempt: int) -> None:
        self._upstream = upstream
        self._capture = capture
        self._request_id = request_id
        self._attempt = attempt
        self.status = upstream.status
        self.headers: Mapping[str, str] = upstream.headers

    async def read(self) -> bytes:
        data = await self._upstream.read()
        self._capture.received(self._request_id, self._attempt, data)
        return data

    async def body(self, limit: int) -> bytes:
        data = await self._upstream.body(limit)
        self._capture.received(self._request_id, self._attempt, data)
        return data

    def close(self) -> None:
        self._upstream.close()
