"""The feature-extraction pipeline: embeddings as Hugging Face's own inference serves them (providers.md 4, 9.1).

Knows: its bodies. Must not know: paths, the router, policy. It has embeddings only: chats go by the provider's own
wire.

    -> {"inputs":["a cat","a dog"],"truncate":true}
    <- [[-0.34,0.17,…],[0.02,0.55,…]]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from ..errors import WireError, unusable
from ..framing import BadJSON, loads
from ..values import ChatRequest, EmbedReply
from .base import EMBED, Loss, Profile, Request, StreamReader
from .openai.errors import read_error
from .openai.fields import failure_of
from .outbound_only import OutboundOnly

_vectors = msgspec.json.Decoder(list[list[float]]).decode
_vector = msgspec.json.Decoder(list[float]).decode
_NOT_THESE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class FeatureExtractionDialect(OutboundOnly):
    """The outbound half of dialects.base.Dialect, for embeddings."""

    name = "feature-extraction"

    def encode(self, request: Request, model: str, profile: Profile) -> tuple[str, dict[str, Any], list[Loss]]:
        """The model stands in the path."""
        if isinstance(request, ChatRequest):
            self._no_chat()
        body: dict[str, Any] = {"inputs": request.inputs}
        if request.truncate is not None:
            body["truncate"] = request.truncate
        names = list(request.vendor.get("openai", {}))
        if request.dimensions is not None and request.dimensions > 0:
            names.append("dimensions")
        return EMBED, body, [Loss(name, "not known to the pipeline") for name in names]

    def read_reply(self, kind: str, body: bytes, profile: Profile) -> EmbedReply:
        """One vector for each input, made one long as every other wire has them. A model that is not made for sentences
        gives one for each token instead: that is an error, since nobody has said how they should be joined."""
        for read in (_vectors, _one):
            try:
                return EmbedReply([_unit(vector) for vector in read(body)])
            except _NOT_THESE:
                pass
        try:
            found = loads(body)
        except BadJSON:
            found = None
        if isinstance(found, dict) and found.get("error"):
            raise failure_of(found)
        if isinstance(found, list):
            raise unusable("sent vectors of tokens, not of texts: the model is not one for embeddings")
        raise unusable("sent a reply without embeddings")

    def reader(self, kind: str, profile: Profile) -> StreamReader:
        self._no_chat()

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> WireError:
        return read_error(headers, body)

    def _no_chat(self) -> NoReturn:
        raise TypeError(f"dialect '{self.name}' has embeddings only")


def _one(body: bytes) -> list[list[float]]:
    """A single text is answered with a single vector by some models."""
    return [_vector(body)]


def _unit(vector: list[float]) -> list[float]:
    length = math.hypot(*vector)
    return [number / length for number in vector] if length else vector
