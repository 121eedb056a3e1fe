"""The OpenAI dialect: /v1/chat/completions, /v1/completions, /v1/embeddings, on both sides.

Knows: which module does what. Must not know: policy, sockets, SDKs, which provider answers.

    requests.py   bodies of clients -> values      encode.py   values -> bodies for providers
    replies.py    whole replies, both ways         stream.py   streams, both ways
    relay.py      bytes that only pass through     errors.py   error bodies of providers       fields.py  shared parts

    -> {"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true}
    <- data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hi"}}],…}
    <- data: [DONE]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import NO_CHAT, NO_EMBEDDING, NO_INSERT, NO_TOOLS, GatewayError, WireError, refuse
from ...framing import dumps
from ...values import ChatRequest, EmbedReply, EmbedRequest, Reply, Usage
from ..base import (
    CHAT,
    EMBED,
    GENERATE,
    Answer,
    Loss,
    ModelView,
    Moment,
    Profile,
    Request,
    StreamReader,
    StreamWriter,
    Tap,
)
from .encode import encode_chat, encode_embedding
from .errors import read_error
from .fields import NAME
from .relay import Tap as OpenAITap
from .relay import relay_reply, relay_request
from .replies import embedding_object, read_chat, read_embedding, reply_object, reply_written
from .requests import decode_chat, decode_completion, decode_embedding
from .stream import Reader, Writer, error_object

JSON = "application/json"
_DECODERS: dict[str, Callable[[bytes], Request]] = {
    CHAT: decode_chat,
    GENERATE: decode_completion,
    EMBED: decode_embedding,
}


class OpenAIDialect:
    """Implements dialects.base.Dialect. As a provider's dialect it sends GENERATE as a chat: completion endpoints are
    reached by relay only."""

    name = NAME

    # -- requests ----------------------------------------------------------------------------------------------------
    def decode(self, kind: str, body: bytes) -> Request:
        return _DECODERS[kind](body)

    def check(self, kind: str, request: Request, model: ModelView) -> None:
        """An effort for a model that cannot think is not refused here: it becomes a loss."""
        can = model.capabilities
        if isinstance(request, EmbedRequest):
            if "embedding" not in can:
                raise refuse(f'"{request.model}" does not support embeddings', code=NO_EMBEDDING, param="model")
            return
        if "completion" not in can:
            what = "generate" if kind == GENERATE else "chat"
            raise refuse(f'"{request.model}" does not support {what}', code=NO_CHAT, param="model")
        if request.tools and "tools" not in can:
            if not model.drop_tools:
                raise refuse(f'"{request.model}" does not support tools', code=NO_TOOLS, param="tools")
            request.tools = []
            request.losses = [*request.losses, "tools"]
        if request.suffix and "insert" not in can:
            raise refuse(f'"{request.model}" does not support insert', code=NO_INSERT, param="suffix")

    def encode(self, request: Request, model: str, profile: Profile) -> tuple[str, dict[str, Any], list[Loss]]:
        if isinstance(request, EmbedRequest):
            return EMBED, *encode_embedding(request, model, profile)
        return CHAT, *encode_chat(request, model, profile)

    def relay(self, body: bytes, model: str, request: Request) -> bytes | None:
        return relay_request(body, model, request)

    # -- whole replies -----------------------------------------------------------------------------------------------
    def read_reply(self, kind: str, body: bytes, profile: Profile) -> Reply | EmbedReply:
        found = reply_object(body)
        return read_embedding(found) if kind == EMBED else read_chat(found, profile.think_tags)

    def write_reply(self, kind: str, request: Request, reply: Reply | EmbedReply, now: Moment) -> Answer:
        if isinstance(request, EmbedRequest):
            assert isinstance(reply, EmbedReply)
            return Answer(200, JSON, dumps(embedding_object(request, reply)))
        assert isinstance(reply, Reply)
        return Answer(200, JSON, dumps(reply_written(kind, request, reply, now)))

    def relay_reply(self, kind: str, body: bytes, request: Request) -> tuple[bytes, Usage]:
        return relay_reply(body, request.model)

    # -- streams -----------------------------------------------------------------------------------------------------
    def reader(self, kind: str, profile: Profile) -> StreamReader:
        think_tags = profile.think_tags
        return Reader(lambda body: read_chat(reply_object(body), think_tags), think_tags)

    def writer(self, kind: str, request: ChatRequest) -> StreamWriter:
        return Writer(kind, request)

    def tap(self, kind: str, request: ChatRequest) -> Tap:
        return OpenAITap(request)

    # -- errors ------------------------------------------------------------------------------------------------------
    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> WireError:
        return read_error(headers, body)

    def write_error(self, kind: str, error: GatewayError, stream: bool) -> Answer:
        headers = {} if error.retry_after is None else {"Retry-After": str(math.ceil(error.retry_after))}
        return Answer(error.status, JSON, dumps(error_object(error)), headers)
