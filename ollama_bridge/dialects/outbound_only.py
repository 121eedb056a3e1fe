"""Dialects that only providers speak.

Knows: the inbound half of dialects.base.Dialect. Must not know: any wire.
"""

from __future__ import annotations

from typing import NoReturn

from ..errors import GatewayError
from ..values import ChatRequest, EmbedReply, Reply, Usage
from .base import Answer, ModelView, Moment, Request, StreamWriter, Tap


class OutboundOnly:
    """The inbound half: every method raises TypeError. No route may lead to such a dialect."""

    name: str

    def decode(self, kind: str, body: bytes) -> Request:
        self._refuse()

    def check(self, kind: str, request: Request, model: ModelView) -> None:
        self._refuse()

    def relay(self, body: bytes, model: str, request: Request) -> bytes | None:
        self._refuse()

    def write_reply(self, kind: str, request: Request, reply: Reply | EmbedReply, now: Moment) -> Answer:
        self._refuse()

    def relay_reply(self, kind: str, body: bytes, request: Request) -> tuple[bytes, Usage]:
        self._refuse()

    def writer(self, kind: str, request: ChatRequest) -> StreamWriter:
        self._refuse()

    def tap(self, kind: str, request: ChatRequest) -> Tap:
        self._refuse()

    def write_error(self, kind: str, error: GatewayError, stream: bool) -> Answer:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TypeError(f"dialect '{self.name}' is spoken by providers only")
