"""Tool results find their calls, however clients send them back (clients.md 4.3)."""

from __future__ import annotations

import copy
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.policy.pairing import nine, pair
from ollama_bridge.values import Media, Message, Text, ToolCall, ToolResult


def user(text: str) -> Message:
    return Message("user", [Text(text)])


def calls(*pairs: tuple[str, str | None], text: str = "") -> Message:
    said = [Text(text)] if text else []
    return Message("assistant", [*said, *(ToolCall(name, "{}", call_id) for name, call_id in pairs)])


def result(text: str, call_id: str | None = None, name: str | None = None) -> Message:
    return Message("tool", [ToolResult([Text(text)], call_id, name)])


def spelled(messages: list[Message]) -> list[str]:
    """A conversation in short: `user:hi`, `a:f#id`, `tool:text#id`."""
    lines = []
    for message in messages:
        for block in message.blocks:
            if isinstance(block, ToolCall):
                lines.append(f"a:{block.name}#{block.id}")
            elif isinstance(block, ToolResult):
                text = "".join(part.text for part in block.content if isinstance(part, Text))
                lines.append(f"{message.role}:{text}#{block.call_id}")
            elif isinstance(block, Text):
                lines.append(f"{message.role}:{block.text}")
    return lines


CASES = {
    "neither id nor name (LangChain, Home Assistant)": (
        [user("q"), calls(("f", None), ("g", None)), result("1"), result("2")],
        ["user:q", "a:f#call_0_0", "a:g#call_0_1", "tool:1#call_0_0", "tool:2#call_0_1"],
    ),
    "only the call has an id (Spring AI)": (
        [calls(("f", "x")), result("1")],
        ["a:f#x", "tool:1#x"],
    ),
    "only a name, in another order (Zed)": (
        [calls(("f", None), ("g", None)), result("of g", name="g"), result("of f", name="f")],
        ["a:f#call_0_0", "a:g#call_0_1", "tool:of f#call_0_0", "tool:of g#call_0_1"],
    ),
    "one name twice": (
        [calls(("f", None), ("f", None)), result("1", name="f"), result("2", name="f")],
        ["a:f#call_0_0", "a:f#call_0_1", "tool:1#call_0_0", "tool:2#call_0_1"],
    ),
    "ids, in another order (Open WebUI)": (
        [calls(("f", "x"), ("g", "y")), result("of y", "y"), result("of x", "x")],
        ["a:f#x", "a:g#y", "tool:of x#x", "tool:of y#y"],
    ),
    "the id wins over the name": (
        [calls(("f", "x"), ("g", "y")), result("1", "y", "f"), result("2", "x", "g")],
        ["a:f#x", "a:g#y", "tool:2#x", "tool:1#y"],
    ),
    "the result kept an id that its call lost": (
        [calls(("f", None)), result("1", "lost")],
        ["a:f#call_0_0", "tool:1#call_0_0"],
    ),
    "an unknown name takes the first open call": (
        [calls(("f", None), ("g", None)), result("1", name="zzz"), result("2", name="g")],
        ["a:f#call_0_0", "a:g#call_0_1", "tool:1#call_0_0", "tool:2#call_0_1"],
    ),
    "the call was trimmed away": (
        [result("old", "gone", "f"), user("q"), calls(("f", "x")), result("new", "x")],
        ["user:Result of the tool f:\n", "user:old", "user:q", "a:f#x", "tool:new#x"],
    ),
    "a call is kept for the result that names it": (
        [calls(("f", "x"), ("g", None)), result("stray"), result("of x", "x")],
        ["a:f#x", "a:g#call_0_1", "tool:of x#x", "tool:stray#call_0_1"],
    ),
    "a second result for one call": (
        [calls(("f", "x")), result("1", "x"), result("2", "x")],
        ["a:f#x", "tool:1#x", "user:Result of a tool:\n", "user:2"],
    ),
    "a call that nobody answered": (
        [calls(("f", "x"), ("g", "y")), result("1", "x"), user("and?")],
        ["a:f#x", "a:g#y", "tool:1#x", "tool:#y", "user:and?"],
    ),
    "a user spoke in between": (
        [calls(("f", "x")), user("hurry"), result("1", "x"), user("well?")],
        ["a:f#x", "tool:1#x", "user:hurry", "user:well?"],
    ),
    "the latest turn is asked first": (
        [calls(("f", None)), user("never mind"), calls(("f", None)), result("1")],
        ["a:f#call_0_0", "tool:#call_0_0", "user:never mind", "a:f#call_1_0", "tool:1#call_1_0"],
    ),
    "the same id in every turn": (
        [calls(("f", "x")), result("1", "x"), calls(("f", "x")), result("2", "x")],
        ["a:f#x", "tool:1#x", "a:f#call_1_0", "tool:2#call_1_0"],
    ),
    "the same id twice in a turn": (
        [calls(("f", "x"), ("g", "x")), result("1", "x"), result("2", "x")],
        ["a:f#x", "a:g#call_0_1", "tool:1#x", "tool:2#call_0_1"],
    ),
    "an id that looks like ours comes later": (
        [calls(("f", None)), result("1"), calls(("g", "call_0_0")), result("2", "call_0_0")],
        ["a:f#call_0_0_", "tool:1#call_0_0_", "a:g#call_0_0", "tool:2#call_0_0"],
    ),
    "an empty id is none": (
        [calls(("f", "")), result("1", "")],
        ["a:f#call_0_0", "tool:1#call_0_0"],
    ),
    "a tool message that is plain text": (
        [calls(("f", None)), Message("tool", [Text("1")])],
        ["a:f#call_0_0", "tool:1#call_0_0"],
    ),
    "several results in one user message, with words after them": (
        [
            calls(("f", "x"), ("g", "y")),
            Message("user", [ToolResult([Text("2")], "y"), ToolResult([Text("1")], "x"), Text("go on")]),
        ],
        ["a:f#x", "a:g#y", "tool:1#x", "tool:2#y", "user:go on"],
    ),
    "a system message after the tool": (
        [calls(("f", "x")), result("1", "x"), Message("system", [Text("be brief")])],
        ["a:f#x", "tool:1#x", "system:be brief"],
    ),
}


@pytest.mark.parametrize(("messages", "expected"), CASES.values(), ids=CASES.keys())
def test_pairs(messages: list[Message], expected: list[str]) -> None:
    before = copy.deepcopy(messages)
    assert spelled(pair(messages)) == expected
    assert messages == before


def test_a_conversation_without_tools_is_returned_as_it_is() -> None:
    messages = [user("a"), user("b")]
    assert pair(messages, "nine") is messages


def test_a_paired_conversation_keeps_its_very_messages() -> None:
    messages = [user("a"), calls(("f", "x"), text="hm"), result("1", "x"), user("b")]
    assert all(new is old for new, old in zip(pair(messages), messages, strict=True))


def test_vendor_fields_and_pictures_survive() -> None:
    picture = Media(mime="image/png", data="aGk=")
    call = ToolCall("f", '{"a":1}', None, {"gemini": {"signature": "s"}})
    messages = [Message("assistant", [call]), Message("tool", [ToolResult([picture], is_error=True)])]
    paired = pair(messages)
    assert paired[0].blocks == [ToolCall("f", '{"a":1}', "call_0_0", {"gemini": {"signature": "s"}})]
    assert paired[1].blocks == [ToolResult([picture], "call_0_0", None, True)]


def test_nine_gives_call_and_result_the_same_short_id() -> None:
    paired = pair(
        [calls(("f", "call_a-very_long.id"), ("g", "abcDEF123"), ("h", None)), result("1", "call_a-very_long.id")],
        "nine",
    )
    ids = [block.id for block in paired[0].blocks if isinstance(block, ToolCall)]
    assert all(re.fullmatch(r"[a-zA-Z0-9]{9}", each or "") for each in ids)
    assert ids[1] == "abcDEF123"
    assert [block.call_id for message in paired[1:] for block in message.blocks if isinstance(block, ToolResult)] == ids
    assert nine("call_a-very_long.id") == ids[0]


def test_thousands_of_open_calls_do_not_occupy_the_worker() -> None:
    """Processor seconds: about one; a search through all open calls for each result takes a minute."""
    count = 20_000
    asked = [message for _ in range(count) for message in (calls(("f", None)), user("x"))]
    asked.append(calls(*[(f"g{number}", None) for number in range(count)]))
    asked += [result("r", name=f"g{number}") for number in reversed(range(count))]
    asked += [result("s") for _ in range(count)]
    start = time.process_time()
    paired = pair(asked)
    assert time.process_time() - start < 15
    assert len(paired) == 4 * count + 1


NAMES = st.sampled_from(["f", "g", "h"])
IDS = st.sampled_from([None, "", "x", "y", "call_0_0", "call_1_0", "abcDEF123"])
MESSAGES = st.lists(
    st.one_of(
        st.builds(user, st.text(max_size=3)),
        st.builds(lambda pairs: calls(*pairs, text="t"), st.lists(st.tuples(NAMES, IDS), min_size=1, max_size=3)),
        st.builds(result, st.uuids().map(str), IDS, st.one_of(st.none(), NAMES)),
        st.builds(
            lambda texts: Message("user", [*(ToolResult([Text(t)]) for t in texts), Text("so")]),
            st.lists(st.uuids().map(str), min_size=1, max_size=2),
        ),
    ),
    max_size=8,
)


@given(MESSAGES, st.sampled_from(["any", "nine"]))
def test_every_call_is_answered_once_and_nothing_is_lost(messages: list[Message], style: str) -> None:
    paired = pair(messages, style)
    seen: set[str | None] = set()
    position = 0
    while position < len(paired):
        message = paired[position]
        position += 1
        assert not any(isinstance(block, ToolResult) for block in message.blocks), "a result without its call"
        ids = [block.id for block in message.blocks if isinstance(block, ToolCall)]
        assert all(ids) and len(set(ids)) == len(ids) and not seen & set(ids)
        seen |= set(ids)
        answers = paired[position : position + len(ids)]
        assert [(m.role, [b.call_id for b in m.blocks if isinstance(b, ToolResult)]) for m in answers] == [
            ("tool", [each]) for each in ids
        ]
        position += len(ids)
    said = "".join(
        part.text
        for message in paired
        for block in message.blocks
        for part in (block.content if isinstance(block, ToolResult) else [block])
        if isinstance(part, Text)
    )
    for message in messages:
        for block in message.blocks:
            if isinstance(block, ToolResult):
                assert said.count(block.content[0].text) == 1  # type: ignore[union-attr]
    assert pair(paired, style) == paired
