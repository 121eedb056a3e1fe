"""Conversations that are too long lose their oldest turns, and only those (product.md 3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.policy.trim import IMAGE_TOKENS, MESSAGE_TOKENS, estimate, estimate_text, estimate_tools, trim
from ollama_bridge.values import Media, Message, Opaque, Text, Thinking, Tool, ToolCall, ToolResult

COST = 100  # tokens of every message below


def message(role: str, name: str) -> Message:
    return Message(role, [Text(name.ljust((COST - MESSAGE_TOKENS) * 4))])


def call(name: str) -> Message:
    said = message("assistant", name)
    said.blocks.append(ToolCall("", "", name))
    return said


def result(name: str) -> Message:
    text = message("tool", name).text()
    return Message("tool", [ToolResult([Text(text)], name)])


def names(messages: list[Message]) -> str:
    def name(each: Message) -> str:
        block = each.blocks[0]
        return (block.content[0] if isinstance(block, ToolResult) else block).text.strip()  # type: ignore[union-attr]

    return " ".join(map(name, messages))


def conversation(words: str) -> list[Message]:
    """`s1 u1 a1 c1 t1`: system, user, assistant, assistant with a call, tool result."""
    make = {"s": "system", "u": "user", "a": "assistant"}
    return [
        call(word) if word[0] == "c" else result(word) if word[0] == "t" else message(make[word[0]], word)
        for word in words.split()
    ]


@pytest.mark.parametrize(
    ("words", "fits", "expected"),
    [
        ("s1 u1 a1 u2", 4, "s1 u1 a1 u2"),
        ("s1 u1 a1 u2", 3, "s1 u2"),
        ("s1 u1 a1 u2 a2 u3", 4, "s1 u2 a2 u3"),
        ("s1 u1 a1 u2 a2 u3", 3, "s1 u3"),
        ("s1 u1 a1 s2 u2", 3, "s1 s2 u2"),
        ("a0 u1 a1 u2", 3, "u1 a1 u2"),
        ("u1 u2 a1 u3 u4", 3, "u3 u4"),
        ("s1 u1", 1, "s1 u1"),
        ("u1 c1 t1 a1 u2 c2 t2", 5, "u2 c2 t2"),
        ("u1 c1 t1 c2 t2 c3 t3", 5, "u1 c2 t2 c3 t3"),
        ("u1 c1 t1 c2 t2 c3 t3", 2, "u1 c3 t3"),
        ("u1 c1 t1 t1 a1", 4, "u1 a1"),
        ("u1 c1 u2 t1 u3", 4, "u3"),
        ("u1 c1 u2 t1", 3, "u1 c1 u2 t1"),
        ("s1", 0, "s1"),
        ("s1 a1", 1, "s1 a1"),
    ],
)
def test_oldest_turns_go_first(words: str, fits: int, expected: str) -> None:
    messages = conversation(words)
    kept, dropped = trim(messages, fits * COST, 0)
    assert names(kept) == expected
    assert dropped == len(messages) - len(kept)
    assert names(messages) == words


def test_the_reserve_is_kept_free_but_never_more_than_half() -> None:
    messages = conversation("u1 a1 u2 a2 u3 a3 u4 a4 u5 a5")
    assert trim(messages, 1000, 0)[1] == 0
    assert trim(messages, 1000, 100)[1] == 2
    assert trim(messages, 1000, 1_000_000)[1] == 6


def test_a_conversation_that_fits_is_returned_as_it_is() -> None:
    messages = conversation("s1 u1")
    assert trim(messages, 200, 0)[0] is messages


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("é" * 2, 1), ("漢", 1), ("😀😀", 2), ("\ud800", 1)],
)
def test_text_is_a_token_for_each_four_bytes(text: str, tokens: int) -> None:
    assert estimate_text(text) == tokens


def test_every_kind_of_block_has_a_size() -> None:
    blocks = [Text("abcd"), Thinking("abcd"), Media(data="aGk="), ToolCall("f", "abcd"), Opaque("x", "ab")]
    answer = Message("tool", [ToolResult([Text("abcd"), Media(url="http://h/")])])
    assert estimate([Message("user", blocks)]) == MESSAGE_TOKENS + 1 + 1 + IMAGE_TOKENS + 2 + 1
    assert estimate([answer]) == MESSAGE_TOKENS + 1 + IMAGE_TOKENS
    assert estimate_tools([Tool("f", "does", {"type": "object"})]) == 6


@given(st.lists(st.sampled_from(["s", "u", "a", "ct"]), max_size=12), st.integers(0, 15), st.integers(0, 5))
def test_what_must_stay_stays_and_no_call_is_torn(kinds: list[str], fits: int, reserve: int) -> None:
    letters = [letter for kind in kinds for letter in kind]
    counts = dict.fromkeys("suact", 0)
    words = []
    for letter in letters:
        counts[letter] += 1
        words.append(f"{letter}{counts[letter]}")
    messages = conversation(" ".join(words))
    kept, dropped = trim(messages, fits * COST, reserve * COST)
    left = names(kept).split()
    assert dropped == len(words) - len(left)
    assert left == [word for word in words if word in left], "the order changed"
    assert {word[1:] for word in left if word[0] == "c"} == {word[1:] for word in left if word[0] == "t"}
    assert all(word in left for word in words if word[0] == "s")
    asked = [word for word in words if word[0] == "u"]
    assert not asked or asked[-1] in left
    if estimate(messages) <= fits * COST - min(reserve * COST, fits * COST // 2):
        assert dropped == 0
