"""The Responses dialect: /v1/responses as we ask it of providers (providers.md 2.1, 2.3).

Knows: which module does what. Must not know: policy, sockets, SDKs, when this wire is chosen (policy/carrier).

    encode.py   values -> bodies        items.py   output items, usage and errors, in replies and streams alike
    stream.py   events of the wire -> events of ours

    -> {"model":"gpt-6-sol","instructions":"Be brief.","input":[{"role":"user","content":"Hi"}],"stream":true,
        "store":false,"reasoning":{"effort":"high","summary":"auto"},"include":["reasoning.encrypted_content"]}
    <- event: response.output_text.delta
       data: {"type":"response.output_text.delta","item_id":"msg_1","output_index":1,"content_index":0,"delta":"Hello"}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import WireError
from ...values import ChatRequest, EmbedReply, Reply
from ..base import CHAT, Loss, Profile, Request, StreamReader
from ..openai.errors import read_error
from ..outbound_only import OutboundOnly
from .encode import encode_chat
from .items import NAME
from .stream import Reader, read_reply


class ResponsesDialect(OutboundOnly):
    """The outbound half of dialects.base.Dialect. It has no embeddings: those go by the provider's own wire."""

    name = NAME

    def encode(self, request: Request, model: str, profile: Profile) -> tuple[str, dict[str, Any], list[Loss]]:
        assert isinstance(request, ChatRequest)
        return CHAT, *encode_chat(request, model, profile)

    def read_reply(self, kind: str, body: bytes, profile: Profile) -> Reply | EmbedReply:
        return read_reply(body)

    def reader(self, kind: str, profile: Profile) -> StreamReader:
        return Reader()

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> WireError:
        return read_error(headers, body)
