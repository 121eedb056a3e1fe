"""Whole replies of the Gemini wire.

Knows: that a whole answer is a stream of one chunk, and the shape of embeddings. Must not know: streams' frames, which
model answered.

    {"candidates": [{"content": {"parts": [{"text": "Hi"}],"role": "model"},"finishReason": "STOP","index": 0}],
     "usageMetadata": {…},"modelVersion": "m","responseId": "r1"}

    {"embeddings": [{"values": [0.1, -0.2]}],"usageMetadata": {"promptTokenCount": 4}}
"""

from __future__ import annotations

from typing import Any

from ...errors import unusable
from ...events import fold
from ...framing import BadJSON, loads
from ...values import EmbedReply, Reply
from .errors import failure_of, is_error
from .fields import object_at, usage_of
from .stream import Reader


def read_chat(body: bytes) -> Reply:
    """Raises GatewayError: for what is no reply, for an error in its place, for a prompt that was blocked."""
    return fold(Reader().whole(_value(body)))


def read_embeddings(body: bytes) -> EmbedReply:
    """Vectors as they came: those that a model has shortened are not of unit length (providers.md 4)."""
    value = _value(body)
    if is_error(value):
        raise failure_of(value)
    found = value.get("embeddings") if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise unusable("sent a reply without embeddings")
    return EmbedReply([_vector(each) for each in found], usage_of(object_at(value, "usageMetadata")))


def _value(body: bytes) -> Any:
    try:
        return loads(body)
    except BadJSON:
        raise unusable("sent a reply that is not JSON") from None


def _vector(embedding: Any) -> list[float]:
    values = embedding.get("values") if isinstance(embedding, dict) else None
    if isinstance(values, list) and all(type(each) in (float, int) for each in values):
        return values
    raise unusable("sent an embedding that is no list of numbers")
