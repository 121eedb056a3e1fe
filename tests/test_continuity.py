"""What stateless clients drop is put back: by fingerprint, bounded, never over what a client did send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.events import unfold
from ollama_bridge.policy.continuity import Continuity, Keeper, last_asked
from ollama_bridge.values import Block, Message, Opaque, Reply, Text, Thinking, ToolCall, ToolResult

SIGNED = Thinking("hm", vendor={"anthropic": {"signature": "s1"}})
CALL = ToolCall("get_weather", '{"city": "Oslo", "unit": "C"}', "toolu_1")
ANSWER: list[Block] = [SIGNED, Opaque("anthropic", {"type": "redacted_thinking"}), Text("Let me look."), CALL]
ASKED = "Weather in Oslo?"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def said(*blocks: Block, asked: str = ASKED) -> list[Message]:
    return [Message("user", [Text(asked)]), Message("assistant", list(blocks)), Message("tool", [ToolResult([])])]


def memory(clock: Clock | None = None, **limits: int) -> Continuity:
    continuity = Continuity(clock or Clock(), **limits)
    continuity.keep("claude", ASKED, ANSWER)
    return continuity


BARE = {  # how clients send the turn back
    "without id and thought": (Text("Let me look."), ToolCall("get_weather", '{"city":"Oslo","unit":"C"}')),
    "arguments in another order": (Text("Let me look."), ToolCall("get_weather", '{"unit":"C","city":"Oslo"}')),
    "other white space": (Text("  Let me look.\n"), ToolCall("get_weather", '{"city":"Oslo","unit":"C"}')),
    "with a thought but no signature": (Thinking("hm"), Text("Let me look."), ToolCall("get_weather", CALL.arguments)),
}


@pytest.mark.parametrize("blocks", BARE.values(), ids=BARE)
def test_a_turn_gets_back_what_it_lost(blocks: tuple[Block, ...]) -> None:
    restored = memory().restore("claude", said(*blocks))[1].blocks
    assert restored[:3] == ANSWER[:3]
    assert isinstance(restored[3], ToolCall)
    assert restored[3].id == "toolu_1"


def test_ids_of_the_client_win() -> None:
    mine = ToolCall("get_weather", CALL.arguments, "mine")
    restored = memory().restore("claude", said(Text("Let me look."), mine))[1].blocks
    assert restored[3] == mine


@pytest.mark.parametrize(
    ("account", "messages"),
    [
        ("other", said(Text("Let me look."), CALL)),
        ("claude", said(Text("Something else."), CALL)),
        ("claude", said(Text("Let me look."), ToolCall("get_weather", '{"city":"Rome"}'))),
        ("claude", said(Text("Let me look."))),
        ("claude", [Message("user", [Text(ASKED)])]),
    ],
    ids=["another account", "other text", "other arguments", "no call", "no answer yet"],
)
def test_another_turn_is_left_alone(account: str, messages: list[Message]) -> None:
    assert memory().restore(account, messages) is messages


def test_the_same_call_asked_for_twice_keeps_both_signatures() -> None:
    continuity = memory()
    other: list[Block] = [Thinking("well", vendor={"anthropic": {"signature": "s2"}}), *ANSWER[2:]]
    continuity.keep("claude", "And in Oslo today?", other)
    bare = (Text("Let me look."), CALL)
    assert continuity.restore("claude", said(*bare))[1].blocks[0] == SIGNED
    assert continuity.restore("claude", said(*bare, asked="And in Oslo today?"))[1].blocks[0] == other[0]
    assert continuity.restore("claude", said(*bare, asked="rewritten"))[1].blocks[0] == other[0]  # the latest


def test_it_forgets_after_its_time() -> None:
    clock = Clock()
    continuity = memory(clock, seconds=60)
    messages = said(Text("Let me look."), CALL)
    clock.now = 59
    assert continuity.restore("claude", messages) is not messages
    clock.now = 61
    assert continuity.restore("claude", messages) is messages


@pytest.mark.parametrize("limits", [{"turns": 20}, {"size": 8000}], ids=["by number", "by size"])
def test_the_oldest_goes_first(limits: dict[str, int]) -> None:
    continuity = memory(**limits)
    for number in range(40):
        continuity.keep("claude", str(number), [Thinking("x" * 50), Text(str(number)), CALL])
    messages = said(Text("Let me look."), CALL)
    assert continuity.restore("claude", messages) is messages
    last = said(Text("39"), CALL, asked="39")
    assert continuity.restore("claude", last) is not last


def test_a_plain_answer_is_not_kept() -> None:
    continuity = Continuity(Clock())
    continuity.keep("claude", ASKED, [Text("Hi")])
    messages = said(Text("Hi"))
    assert continuity.restore("claude", messages) is messages


def test_a_streamed_answer_is_kept_when_it_is_complete() -> None:
    continuity = Continuity(Clock())
    keeper = Keeper(continuity, "claude", ASKED)
    events = unfold(Reply(ANSWER, "tool_calls"))
    messages = said(Text("Let me look."), CALL)
    for event in events[:-1]:
        keeper.feed([event])
    assert continuity.restore("claude", messages) is messages
    keeper.feed(events[-1:])
    assert continuity.restore("claude", messages)[1].blocks == ANSWER


def test_last_asked() -> None:
    assert last_asked([*said(Text("x")), Message("user", [Text("b")])]) == "b"
    assert last_asked([]) == ""


@given(st.lists(st.sampled_from([*ANSWER, Text(""), ToolCall("f", "not json"), Thinking("x")]), max_size=6))
def test_what_a_client_sent_is_never_lost(blocks: list[Block]) -> None:
    continuity = memory()
    restored = continuity.restore("claude", said(*blocks))[1].blocks
    texts = "".join(block.text for block in blocks if isinstance(block, Text)).strip()
    assert "".join(block.text for block in restored if isinstance(block, Text)).strip() == texts
    names = [block.name for block in blocks if isinstance(block, ToolCall)]
    assert [block.name for block in restored if isinstance(block, ToolCall)] == names
