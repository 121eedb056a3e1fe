"""The plain doors, described.

Knows: what dialects.plain reads and writes, as types. Must not know: how.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Struct

from .describe import JSON, SSE, Content, Event, Maybe, Name, Operation, Reply, failures, said
from .native import Bridged, Count
from .v1 import Embeddings, ImagePart, TextPart


class PlainError(Struct):
    error: Annotated[str, said("What is wrong, in words.", min_length=1)]


class PlainMessage(Struct, kw_only=True):
    role: Literal["system", "user", "assistant"]
    content: str | list[TextPart | ImagePart]


class PlainRequest(Bridged, kw_only=True):
    """Members beside these are not looked at."""

    messages: Annotated[list[PlainMessage], said("The conversation so far.", min_length=1)]
    model: Maybe[Annotated[str, said("Without it `privacy_mode` and `task` choose one, where `routing` says so.")]] = (
        UNSET
    )
    temperature: Maybe[float] = UNSET
    max_tokens: Maybe[Annotated[int, said("The most tokens of the answer.", ge=1)]] = UNSET


class PlainUsage(Struct, kw_only=True):
    """Estimated where the provider does not tell."""

    tokens_total: Count
    tokens_prompt: Count
    tokens_completion: Count


class PlainAnswer(Struct, kw_only=True):
    text: str
    provider: Annotated[str, said("Who really answered,")]
    model: Annotated[str, said("and with which model.")]
    provider_meta: PlainUsage


_EVENTS = (Event(str), Event(PlainError, name="error"), Event(str, only="[DONE]"))
_TOLD = "The text, and who said it. With `task: embedding` what `/v1/embeddings` answers."
_FAILURES = failures(PlainError, body=True, model=True, asks=True)
_WHOLE = {200: Reply(_TOLD, (Content(JSON, (PlainAnswer, Embeddings)),)), **_FAILURES}
_STREAM = {
    200: Reply(
        "The data of all events up to `[DONE]`, joined, is the text. With `task: embedding` what `/v1/embeddings` "
        "answers.",
        (Content(SSE, _EVENTS), Content(JSON, (Embeddings,))),
    ),
    **_FAILURES,
}
_EXAMPLE = {"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}


_FOR = "For scripts, which want a text and no frames around it. Thoughts are not shown."


def _door(summary: str, replies: dict[int, Reply]) -> Operation:
    return Operation(summary, replies, _FOR, body=PlainRequest, example=_EXAMPLE, asks=True)


OPERATIONS: dict[Name, Operation] = {
    ("POST", "/chat"): _door("A conversation, answered whole", _WHOLE),
    ("POST", "/v1/chat"): _door("A conversation, answered whole", _WHOLE),
    ("POST", "/stream"): _door("A conversation, answered as a stream of text", _STREAM),
    ("POST", "/v1/chat/stream"): _door("A conversation, answered as a stream of text", _STREAM),
}
