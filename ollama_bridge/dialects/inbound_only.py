"""Dialects that only clients speak to us.

Knows: the outbound half of dialects.base.Dialect. Must not know: any wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from ..errors import WireError
from ..values import ChatRequest, EmbedReply, Reply, Usage
from .base import Loss, Profile, Request, StreamReader, Tap


class InboundOnly:
    """The outbound half: every method raises TypeError. No provider's `dialect` may name such a dialect."""

    name: str

    def encode(self, request: Request, model: str, profile: Profile) -> tuple[str, dict[str, Any], list[Loss]]:
        self._refuse()

    def relay(self, body: bytes, model: str, request: Request) -> bytes | None:
        self._refuse()

    def read_reply(self, kind: str, body: bytes, profile: Profile) -> Reply | EmbedReply:
        self._refuse()

    def relay_reply(self, kind: str, body: bytes, request: Request) -> tuple[bytes, Usage]:
        self._refuse()

    def reader(self, kind: str, profile: Profile) -> StreamReader:
        self._refuse()

    def tap(self, kind: str, request: ChatRequest) -> Tap:
        self._refuse()

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> WireError:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TypeError(f"dialect '{self.name}' is spoken by clients only")
