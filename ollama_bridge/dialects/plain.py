"""The plain doors, for scripts: /chat and /v1/chat answer whole, /stream and /v1/chat/stream as server-sent events.

Knows: product.md 1. Must not know: models, providers, how a request goes on.

    {"messages":[{"role":"user","content":"Hi"}],"model":"fast","max_tokens":9}
    {"text":"Hi","provider":"groq","model":"llama-3.3-70b",
     "provider_meta":{"tokens_total":6,"tokens_prompt":5,"tokens_completion":1}}

    data: The first line,
    data:  and, after a blank, the second.

    data: [DONE]

Whoever joins the data of all events up to `[DONE]` has the text, but for CR and CRLF: this wire cannot carry them, and
they arrive as LF. Thoughts are not shown. A failure is `{"error":"words"}`, in a stream the data of an `event: error`.

Other members of a body are not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import NO_CHAT, NO_EMBEDDING, GatewayError, refuse
from ..events import Delta, Event, Finish
from ..framing import dumps, go_escape, sse
from ..values import Block, ChatRequest, EmbedReply, EmbedRequest, Media, Message, Reply, Sampling, Text, Thinking
from .base import EMBED, Answer, ModelView, Moment, Request, StreamWriter
from .go.json import parse
from .inbound_only import InboundOnly
from .ollama.answers import prompt_size, size
from .openai import OpenAIDialect
from .openai.fields import DONE, estimated
from .openai.requests import EMPTY, Members, content_blocks, missing, unsupported

STREAM = "stream"  # the kind of the endpoints that answer with a stream; those of kind CHAT answer whole
ROLES = ("system", "user", "assistant")

_JSON = "application/json"
_DONE_TEXT = DONE.decode()
_LAST = sse(DONE)


class PlainDialect(InboundOnly):
    """See dialects.base.Dialect; only a door. Its kinds are CHAT and STREAM."""

    name = "plain"

    def decode(self, kind: str, body: bytes) -> Request:
        members = Members(parse(body, EMPTY))
        messages = members.items("messages")
        if messages is None:
            raise missing("messages")
        if not messages:
            raise refuse("[] is too short - 'messages'", param="messages")
        return ChatRequest(
            model=members.text("model") or "",
            messages=[_message(each, f"messages[{at}]") for at, each in enumerate(messages)],
            stream=kind == STREAM,
            sampling=Sampling(temperature=members.number("temperature"), max_tokens=_max_tokens(members)),
            privacy=_privacy(members),
            task=members.text("task") or None,
            provider=members.text("provider") or None,
        )

    def check(self, kind: str, request: Request, model: ModelView) -> None:
        if isinstance(request, EmbedRequest):
            if "embedding" not in model.capabilities:
                raise refuse(f'"{model.name}" does not support embeddings', code=NO_EMBEDDING, param="model")
        elif "completion" not in model.capabilities:
            raise refuse(f'"{model.name}" does not support chat', code=NO_CHAT, param="model")

    def write_reply(self, kind: str, request: Request, reply: Reply | EmbedReply, now: Moment) -> Answer:
        """Embeddings (task "embedding") come in OpenAI's shape."""
        if isinstance(request, EmbedRequest):
            return OpenAIDialect().write_reply(EMBED, request, reply, now)
        assert isinstance(reply, Reply)
        text = "".join(block.text for block in reply.blocks if isinstance(block, Text))
        thought = "".join(block.text for block in reply.blocks if isinstance(block, Thinking))
        usage = estimated(reply.usage, prompt_size(request), size(text) + size(thought))
        prompt, completion = usage.prompt or 0, usage.completion or 0
        written = {
            "text": text,
            "provider": reply.provider or "",
            "model": reply.model or request.model,
            "provider_meta": {
                "tokens_total": prompt + completion,
                "tokens_prompt": prompt,
                "tokens_completion": completion,
            },
        }
        return Answer(200, _JSON, dumps(written))

    def writer(self, kind: str, request: ChatRequest) -> StreamWriter:
        return Writer()

    def write_error(self, kind: str, error: GatewayError, stream: bool) -> Answer:
        headers = {} if error.retry_after is None else {"Retry-After": str(math.ceil(error.retry_after))}
        return Answer(error.status, _JSON, _error_object(error), headers)


def _error_object(error: GatewayError) -> bytes:
    return go_escape(dumps({"error": error.message}))


# -- requests ----------------------------------------------------------------------------------------------------------


def _message(value: Any, path: str) -> Message:
    members = Members(value, path)
    role = members.text("role")
    if not role:
        raise missing(members.path("role"))
    if role not in ROLES:
        raise unsupported(members.path("role"), role, ", ".join(map(repr, ROLES)))
    content, at = members.any("content"), members.path("content")
    if content is None:
        raise missing(at)
    blocks = content_blocks(content, at)
    for number, block in enumerate(blocks):
        if not _is_shown(block):
            raise unsupported(f"{at}[{number}].type", content[number]["type"], "'text' and 'image_url'")
    return Message(role, blocks)


def _is_shown(block: Block) -> bool:
    return isinstance(block, Text) or (isinstance(block, Media) and block.kind == "image")


def _max_tokens(members: Members) -> int | None:
    limit = members.whole("max_tokens")
    if limit is not None and limit < 1:
        raise unsupported("max_tokens", limit, "1 and above")
    return limit


def _privacy(members: Members) -> str | None:
    privacy = members.text("privacy_mode") or None
    if privacy not in (None, "strict", "flexible"):
        raise unsupported("privacy_mode", privacy, "'strict' and 'flexible'")
    return privacy


# -- streams -----------------------------------------------------------------------------------------------------------


class Writer:
    """Text as server-sent events: one for each piece that the provider sends."""

    content_type = "text/event-stream"
    headers: Mapping[str, str] = {}
    heartbeat = b": \n\n"

    def __init__(self) -> None:
        self._returned = False  # the last piece ended in CR, which may have been half of a CRLF

    def write(self, events: list[Event], now: Moment) -> bytes:
        out: list[bytes] = []
        for event in events:
            if type(event) is Delta:
                if event.kind == "text" and event.text:
                    out.append(self._text(event.text))
            elif type(event) is Finish:
                out.append(_LAST)
        return b"".join(out)

    def fail(self, error: GatewayError, now: Moment) -> bytes:
        return sse(_error_object(error), "error")

    def _text(self, text: str) -> bytes:
        if self._returned:
            self._returned = False
            text = text.removeprefix("\n")
        if "\r" in text:
            self._returned = text.endswith("\r")
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if _DONE_TEXT in text:
            return b"".join(map(_event, _apart(text)))
        return _event(text)


def _event(text: str) -> bytes:
    """Line ends are LF. An event without data would not be heard of, so none is made of no text."""
    if "\n" in text:
        text = text.replace("\n", "\ndata: ")
    return sse(text.encode()) if text else b""


def _apart(text: str) -> list[str]:
    """Pieces none of which has a line that reads `[DONE]`: the model's words must not end the stream."""
    middle = len(_DONE_TEXT) // 2
    before, *rest = text.split(_DONE_TEXT)
    pieces = [before]
    for after in rest:
        pieces[-1] += _DONE_TEXT[:middle]
        pieces.append(_DONE_TEXT[middle:] + after)
    return pieces
