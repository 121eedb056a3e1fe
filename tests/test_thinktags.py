"""Thoughts between tags: a piece that may go past the splitter is one that it would give back unchanged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.dialects.thinktags import CLOSE, OPEN, ThinkTags

PIECES = st.sampled_from((OPEN, CLOSE, "<", "th", "think>", " ", "\n", "word", "a < b", "</"))


@pytest.mark.parametrize("everywhere", [True, False], ids=["everywhere", "at the beginning"])
@given(pieces=st.lists(PIECES, max_size=20))
def test_a_piece_that_passes_is_given_back(everywhere: bool, pieces: list[str]) -> None:
    tags = ThinkTags(everywhere)
    for piece in pieces:
        passes = tags.passes(piece)
        given = tags.feed(piece)
        if passes:
            assert given == [("text", piece)]


def test_most_pieces_of_a_text_pass() -> None:
    tags = ThinkTags(everywhere=True)
    assert not tags.passes("Hel")  # a tag may begin with what comes first
    tags.feed("Hel")
    assert tags.passes("lo") and not tags.passes("<thi")
