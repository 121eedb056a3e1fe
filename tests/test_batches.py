"""Texts to embed in batches: nothing lost, nothing twice, in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.policy.batches import in_batches, joined
from ollama_bridge.values import ChatRequest, EmbedReply, EmbedRequest, Usage


@given(st.lists(st.text(max_size=3), max_size=20), st.integers(0, 7))
def test_batches_hold_all_texts_in_order(texts: list[str], most: int) -> None:
    parts = in_batches(EmbedRequest("m", texts, dimensions=8), most)
    embeds = [part for part in parts if isinstance(part, EmbedRequest)]
    assert [text for part in embeds for text in part.inputs] == texts
    assert {part.dimensions for part in embeds} == {8}
    assert not most or all(len(part.inputs) <= most for part in embeds)
    assert len(parts) == max(1, -(-len(texts) // most) if most else 1)


def test_what_fits_is_left_as_it_is() -> None:
    request, chat = EmbedRequest("m", ["a", "b"]), ChatRequest("m")
    assert in_batches(request, 2)[0] is request
    assert in_batches(chat, 1)[0] is chat


@pytest.mark.parametrize(
    ("counts", "total"), [([3], 3), ([3, 4], 7), ([3, None], None), ([None, None], None), ([0, 0], 0)]
)
def test_replies_are_joined(counts: list[int | None], total: int | None) -> None:
    replies = [EmbedReply([[float(n)], [n + 0.5]], Usage(count), "up") for n, count in enumerate(counts)]
    whole = joined(replies)
    assert whole.vectors == [[n / 2] for n in range(2 * len(counts))]
    assert (whole.usage, whole.model) == (Usage(total), "up")
