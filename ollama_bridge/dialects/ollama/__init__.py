"""The native Ollama dialect: /api/chat, /api/generate, /api/embed, /api/embeddings, on both sides.

Knows: which part of the codec does what. Must not know: policy, providers, who asks. The parts:

    types.py     request types as tables        requests.py  bodies <-> values, checks
    answers.py   whole answers, metrics         stream.py    lines read, written, relayed
    errors.py    error texts                    context.py   the conversation in `context`

    -> {"model":"m","messages":[{"role":"user","content":"Hi"}]}
    <- {"model":"m","created_at":"2026-11-21T07:00:00.12Z","message":{"role":"assistant","content":"Hi"},"done":false}
    <- {"model":"m","created_at":"…Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",…}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ...errors import GatewayError, WireError
from ...events import Event, fold
from ...framing import BadJSON, go_escape, json_string, loads
from ...values import ChatRequest, EmbedReply, EmbedRequest, Reply, Usage
from ..base import EMBED, EMBED_ONE, Answer, Loss, ModelView, Moment, Profile, Request
from . import answers, errors, requests
from .stream import UNREADABLE, Reader, Tap, Writer, read_line, renamed, unreadable

_OURS = frozenset({"privacy_mode", "task", "provider"})  # members that only this gateway knows


class _Vectors(msgspec.Struct):
    """A whole answer of /api/embed or /api/embeddings."""

    embeddings: list[list[float]] | None = None
    embedding: list[float] | None = None
    model: str | None = None
    error: Any = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None

    def usage(self) -> Usage:
        return Usage(prompt=self.prompt_eval_count, total_ns=self.total_duration, load_ns=self.load_duration)


_read_vectors = msgspec.json.Decoder(_Vectors).decode


class OllamaDialect:
    """See dialects.base.Dialect."""

    name = requests.NAME

    # -- requests ------------------------------------------------------------------------------------------------------
    def decode(self, kind: str, body: bytes) -> Request:
        return requests.decode(kind, body)

    def check(self, kind: str, request: Request, model: ModelView) -> None:
        requests.check(kind, request, model)

    def encode(self, request: Request, model: str, profile: Profile) -> tuple[str, dict[str, Any], list[Loss]]:
        return requests.encode(request, model, profile)

    def relay(self, body: bytes, model: str, request: Request) -> bytes | None:
        """None when the body holds what a real Ollama would refuse (a data URL, a schema as text) or misread (a context
        of ours), when something of it was left out on the way, or when only Go's lenient reader understood it."""
        if not request.vendor.get(self.name, {}).get("relay", True):
            return None
        if isinstance(request, ChatRequest) and "tools" in request.losses:
            return None
        try:
            members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        except UNREADABLE:
            return None
        out: dict[str, msgspec.Raw] = {}
        for key, value in members.items():
            if key.lower() == "model":
                out[key] = msgspec.Raw(json_string(model))
            elif key.lower() not in _OURS:
                out[key] = value
        return msgspec.json.encode(out)

    # -- whole replies -------------------------------------------------------------------------------------------------
    def read_reply(self, kind: str, body: bytes, profile: Profile) -> Reply | EmbedReply:
        if kind in (EMBED, EMBED_ONE):
            return _read_embeddings(body)
        try:
            line = read_line(body)
        except UNREADABLE:
            raise unreadable("is no JSON of Ollama's") from None
        events: list[Event] = []
        Reader().line(line, events)
        reply = fold(events)
        if not reply.reason and line.debug is None:
            raise unreadable("ended before it was complete")
        return reply

    def write_reply(self, kind: str, request: Request, reply: Reply | EmbedReply, now: Moment) -> Answer:
        if isinstance(request, EmbedRequest):
            vectors = reply if isinstance(reply, EmbedReply) else EmbedReply([])
            return answers.write_embeddings(kind, request, vectors, now)
        return answers.write_reply(kind, request, reply if isinstance(reply, Reply) else Reply(), now)

    def relay_reply(self, kind: str, body: bytes, request: Request) -> tuple[bytes, Usage]:
        usage = Usage()
        try:
            usage = _read_vectors(body).usage() if kind in (EMBED, EMBED_ONE) else read_line(body).usage()
        except UNREADABLE:
            pass  # whoever asked finds no usage, and reads it as a reply to learn why
        return renamed(body, go_escape(json_string(request.model))), usage

    # -- streams -------------------------------------------------------------------------------------------------------
    def reader(self, kind: str, profile: Profile) -> Reader:
        return Reader()

    def writer(self, kind: str, request: ChatRequest) -> Writer:
        return Writer(kind, request)

    def tap(self, kind: str, request: ChatRequest) -> Tap:
        return Tap(kind, request)

    # -- errors --------------------------------------------------------------------------------------------------------
    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> WireError:
        return errors.read_error(status, headers, body)

    def write_error(self, kind: str, error: GatewayError, stream: bool) -> Answer:
        return errors.write_error(kind, error, stream)


def _read_embeddings(body: bytes) -> EmbedReply:
    try:
        read = _read_vectors(body)
    except UNREADABLE:
        raise _no_vectors(body) from None
    if read.error:
        raise errors.failure(read.error)
    if read.embeddings is not None:
        return EmbedReply(read.embeddings, read.usage(), read.model)
    if read.embedding is not None:
        return EmbedReply([read.embedding] if read.embedding else [], read.usage(), read.model)
    raise unreadable("holds no vectors")


def _no_vectors(body: bytes) -> GatewayError:
    try:
        value = loads(body)
    except BadJSON:
        value = None
    return unreadable("is no JSON" if value is None else "holds no vectors")
