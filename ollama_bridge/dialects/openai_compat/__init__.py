"""Ollama's own /v1 layer: the OpenAI endpoints exactly as Ollama 0.33 answers them.

Knows: ollama-protocol.md 4.1 to 4.4, and which module does what. Must not know: providers, policy. Nothing is relayed
and nothing is asked of a provider in this dialect: see openai/ for that.

    types.py   request types as tables      requests.py  bodies -> values, as the layer maps and refuses them
    stream.py  streams                      answers.py   whole answers

    {"model":"m","messages":[{"role":"user","content":"Hi"}],"max_tokens":9,"reasoning_effort":"minimal"}
    {"id":"chatcmpl-417","object":"chat.completion","created":1790000000,"model":"m","system_fingerprint":"fp_ollama",
     "choices":[{"index":0,"message":{"role":"assistant","content":"Hi","reasoning":"hm"},"finish_reason":"stop"}],
     "usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}
    {"error":{"message":"model 'x' not found","type":"not_found_error","param":null,"code":null}}

A request passes two stages there: the layer translates it, then the native handler serves it. Each has its own form of
error (4.1), and what the layer finds wrong comes before the model is looked for.
"""

from __future__ import annotations

import math

from ...errors import NO_EMBEDDING, GatewayError, refuse
from ...framing import go_dumps, loads
from ...values import ChatRequest, EmbedReply, EmbedRequest, Reply
from ..base import CHAT, GENERATE, Answer, ModelView, Moment, Request, StreamWriter
from ..inbound_only import InboundOnly
from ..ollama import answers as ollama_answers
from ..ollama import errors as ollama_errors
from ..ollama import requests as ollama_requests
from .answers import chat_object, completion_object, embeddings
from .requests import decode_chat, decode_completion, decode_embedding
from .stream import EVENT_STREAM, Writer
from .types import LayerError

JSON = "application/json"
JSON_UTF8 = "application/json; charset=utf-8"


class OpenAICompatDialect(InboundOnly):
    """See dialects.base.Dialect; only a door."""

    name = "openai-compat"

    def decode(self, kind: str, body: bytes) -> Request:
        if kind == CHAT:
            return decode_chat(body)
        return decode_completion(body) if kind == GENERATE else decode_embedding(body)

    def check(self, kind: str, request: Request, model: ModelView) -> None:
        ollama_requests.check(kind, request, model)
        if isinstance(request, EmbedRequest) and "embedding" not in model.capabilities:
            raise refuse("This server does not support embeddings. Start it with `--embeddings`", code=NO_EMBEDDING)

    def write_reply(self, kind: str, request: Request, reply: Reply | EmbedReply, now: Moment) -> Answer:
        if isinstance(request, EmbedRequest):
            assert isinstance(reply, EmbedReply)
            return embeddings(request, reply, now)
        assert isinstance(reply, Reply)
        if request.stream:  # a load: the frames of a stream, but at once
            writer = Writer(kind, request)
            return Answer(200, EVENT_STREAM, writer.whole(reply, now))
        native = loads(ollama_answers.write_reply(kind, request, reply, now).body)
        written = chat_object(native, now) if kind == CHAT else completion_object(native, now)
        return Answer(200, JSON, go_dumps(written) + b"\n")

    def writer(self, kind: str, request: ChatRequest) -> StreamWriter:
        return Writer(kind, request)

    def write_error(self, kind: str, error: GatewayError, stream: bool) -> Answer:
        types = {400: "invalid_request_error", 404: "not_found_error"}
        words = ollama_errors.words(kind, error)
        written = {"message": words, "type": types.get(error.status, "api_error"), "param": None, "code": None}
        body = go_dumps({"error": written})
        headers = {} if error.retry_after is None else {"Retry-After": str(math.ceil(error.retry_after))}
        if isinstance(error, LayerError):
            return Answer(error.status, JSON_UTF8, body, headers)
        return Answer(error.status, JSON, body + b"\n", headers)
