"""More texts to embed than a provider takes at once: several requests, one reply.

Knows: order and counts. Must not know: wires, how a request is sent.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..values import ChatRequest, EmbedReply, EmbedRequest, Usage


def in_batches(request: ChatRequest | EmbedRequest, most: int) -> Sequence[ChatRequest | EmbedRequest]:
    """The request itself, or several with at most `most` texts each (0: any number), in order."""
    if not isinstance(request, EmbedRequest) or not most or len(request.inputs) <= most:
        return [request]
    inputs = request.inputs
    return [
        msgspec.structs.replace(request, inputs=inputs[begin : begin + most]) for begin in range(0, len(inputs), most)
    ]


def joined(replies: Sequence[EmbedReply]) -> EmbedReply:
    """Vectors in order, counts added up; unknown as soon as one of them is."""
    vectors = [vector for reply in replies for vector in reply.vectors]
    counts = [reply.usage.prompt for reply in replies]
    known = [count for count in counts if count is not None]
    prompt = sum(known) if len(known) == len(counts) else None
    return EmbedReply(vectors, Usage(prompt=prompt), replies[0].model)
