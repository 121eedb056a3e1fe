"""The Anthropic dialect: /v1/messages, as a provider's wire.

Knows: which module does what: bodies for providers (encode, schemas), whole replies (replies), streams (stream), errors
(errors). Must not know: policy, sockets, SDKs, which provider answers.

    event: message_start
    data: {"type":"message_start","message":{"id":"msg_1","model":"m","content":[],"usage":{"input_tokens":5,…}}}

    event: content_block_start
    data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

    event: content_block_delta
    data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}

    event: content_block_stop
    data: {"type":"content_block_stop","index":0}

    event: message_delta
    data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}

    event: message_stop
    data: {"type":"message_stop"}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import NO_EMBEDDING, WireError, refuse
from ...values import EmbedReply, EmbedRequest, Reply
from ..base import CHAT, Loss, Profile, Request, StreamReader
from ..outbound_only import OutboundOnly
from .encode import encode_chat
from .errors import read_error
from .fields import NAME
from .replies import read_reply
from .stream import Reader

__all__ = ["AnthropicDialect"]


class AnthropicDialect(OutboundOnly):
    """Implements dialects.base.Dialect for providers. Every request goes out as a chat: the wire has one endpoint."""

    name = NAME

    def encode(self, request: Request, model: str, profile: Profile) -> tuple[str, dict[str, Any], list[Loss]]:
        """Raises GatewayError (caller) for embeddings, which this wire does not have (providers.md 4)."""
        if isinstance(request, EmbedRequest):
            raise refuse(f'"{request.model}" does not support embeddings', code=NO_EMBEDDING, param="model")
        return CHAT, *encode_chat(request, model, profile)

    def read_reply(self, kind: str, body: bytes, profile: Profile) -> Reply | EmbedReply:
        return read_reply(body)

    def reader(self, kind: str, profile: Profile) -> StreamReader:
        return Reader()

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> WireError:
        return read_error(headers, body)
