"""Filling in the middle of a text at endpoints of OpenAI's line: Mistral's /v1/fim/completions, DeepSeek's
/beta/completions (providers.md 3.1, section 8).

Knows: their bodies. Must not know: paths, which provider it is, policy. Answers are those of chats or of completions:
OpenAI's reader takes both. Nothing but a text is filled in: no conversation, no pictures, no tools.

    -> {"model":"codestral-latest","stream":true,"temperature":0.2,"prompt":"def add(","suffix":"    return c"}
    <- data: {"id":"c1","model":"codestral-latest","choices":[{"index":0,"delta":{"content":"a, b"}}]}
    <- data: {"id":"c1","choices":[{"index":0,"text":"a, b","finish_reason":null}]}        DeepSeek's
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..errors import WireError
from ..values import ChatRequest, EmbedReply, Media, Message, Reply
from .base import GENERATE, Loss, Profile, Request, StreamReader
from .openai import OpenAIDialect
from .openai.encode import encode_chat
from .openai.fields import NAME as OPENAI
from .outbound_only import OutboundOnly

NAME = "fim"


class FimDialect(OutboundOnly):
    """The outbound half of dialects.base.Dialect, for requests with a suffix."""

    name = NAME
    _answers = OpenAIDialect()

    def encode(self, request: Request, model: str, profile: Profile) -> tuple[str, dict[str, Any], list[Loss]]:
        asked, before, losses = gap(request)
        body, more = sampled(asked, model, profile)
        return GENERATE, {**body, "prompt": before, "suffix": asked.suffix}, losses + more

    def read_reply(self, kind: str, body: bytes, profile: Profile) -> Reply | EmbedReply:
        return self._answers.read_reply(kind, body, profile)

    def reader(self, kind: str, profile: Profile) -> StreamReader:
        return self._answers.reader(kind, profile)

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> WireError:
        return self._answers.read_error(status, headers, body)


def gap(request: Request) -> tuple[ChatRequest, str, list[Loss]]:
    """-> (the request, the text before the gap, what of the request has no place beside it). `raw` is no loss: nothing
    is put around the text. Raises TypeError for embeddings."""
    if not isinstance(request, ChatRequest):
        raise TypeError("only a text has a middle")
    prompt = next((message for message in reversed(request.messages) if message.role == "user"), Message("user", []))
    lost = [name for name in ("template", "tools", "format", "think") if getattr(request, name)]
    lost += ["system" if message.role == "system" else "context" for message in request.messages if message != prompt]
    if any(isinstance(block, Media) for block in prompt.blocks):
        lost.append("images")
    lost += sorted(request.vendor.get(OPENAI, {}))
    return request, prompt.text(), [Loss(name, "not taken where a gap is filled in") for name in dict.fromkeys(lost)]


def sampled(request: ChatRequest, model: str, profile: Profile) -> tuple[dict[str, Any], list[Loss]]:
    """Model, stream and sampling as a chat's body has them, without a conversation."""
    bare = msgspec.structs.replace(
        request, messages=[], tools=[], tool_choice=None, format=None, think=None, raw=False, template=None,
        suffix=None, vendor={},
    )  # fmt: skip
    body, losses = encode_chat(bare, model, profile)
    del body["messages"]
    return body, losses
