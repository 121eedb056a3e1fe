"""The Gemini dialect: :generateContent, :streamGenerateContent and :batchEmbedContents, as spoken to providers.

Knows: which module writes and reads what. Must not know: policy, sockets, SDKs, models.

    data: {"candidates": [{"content": {"parts": [{"text": "Hm.","thought": true}],"role": "model"},"index": 0}],
           "usageMetadata": {"promptTokenCount": 5,"totalTokenCount": 5},"modelVersion": "m","responseId": "r1"}

    data: {"candidates": [{"content": {"parts": [{"text": "Hi"}],"role": "model"},"finishReason": "STOP","index": 0}],
           "usageMetadata": {"promptTokenCount": 5,"candidatesTokenCount": 1,"thoughtsTokenCount": 9,…},…}

Lines end in CRLF, each blank one ends an event, the end of the body ends the stream. The model's name stands in the
path, not in the body.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import WireError
from ...values import EmbedReply, EmbedRequest, Reply
from ..base import CHAT, EMBED, Loss, Profile, Request, StreamReader
from ..outbound_only import OutboundOnly
from .errors import read_error
from .fields import NAME
from .replies import read_chat, read_embeddings
from .requests import encode_chat, encode_embedding
from .stream import Reader


class GeminiDialect(OutboundOnly):
    """Implements dialects.base.Dialect. A prompt to be completed (GENERATE) is sent as a chat."""

    name = NAME

    def encode(self, request: Request, model: str, profile: Profile) -> tuple[str, dict[str, Any], list[Loss]]:
        if isinstance(request, EmbedRequest):
            return EMBED, *encode_embedding(request, model, profile)
        return CHAT, *encode_chat(request, profile)

    def read_reply(self, kind: str, body: bytes, profile: Profile) -> Reply | EmbedReply:
        return read_embeddings(body) if kind == EMBED else read_chat(body)

    def reader(self, kind: str, profile: Profile) -> StreamReader:
        return Reader()

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> WireError:
        return read_error(headers, body)


__all__ = ["GeminiDialect"]
