"""Stop strings found by the gateway: the same answer however the text comes in pieces (providers.md 3.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.errors import broken
from ollama_bridge.events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, Start, fold, unfold
from ollama_bridge.policy.stops import StopCutter
from ollama_bridge.values import Reply, Text, Thinking, ToolCall, Usage


def stream(*pieces: str) -> list[Event]:
    return [
        Start(),
        BlockStart(0, "text"),
        *(Delta(0, "text", piece) for piece in pieces),
        BlockEnd(0),
        Finish("length", Usage(3, 4)),
    ]


def one_by_one(events: list[Event], stops: list[str]) -> list[list[Event]]:
    cutter = StopCutter(stops)
    return [cutter.feed([event])[0] for event in events]


def flat(events: list[list[Event]]) -> list[Event]:
    return [event for some in events for event in some]


def reference(text: str, stops: list[str]) -> str:
    """Character by character: whichever string is complete first ends it."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


@pytest.mark.parametrize(
    ("stops", "pieces", "expected"),
    [
        (["END"], ["one EN", "D two"], "one "),
        (["END"], ["one EN", "TER"], "one ENTER"),
        (["END"], ["one EN"], "one EN"),
        (["END"], ["END"], ""),
        (["\n\n", "User:"], ["a\n", "b Us", "er: c"], "a\nb "),
        (["abcdef", "cd"], ["abcdef"], "ab"),
        (["abcdef", "cd"], ["a", "b", "c", "d", "e", "f"], "ab"),
        (["bc", "abc"], ["xabc"], "x"),
        (["aab"], ["a", "a", "a", "b", "c"], "a"),
        (["", "x"], ["axb"], "a"),
        (["😀"], ["a😀b"], "a"),
        ([], ["all"], "all"),
    ],
)
def test_cuts(stops: list[str], pieces: list[str], expected: str) -> None:
    reply = fold(flat(one_by_one(stream(*pieces), stops)))
    assert "".join(block.text for block in reply.blocks if isinstance(block, Text)) == expected
    assert reply.reason == ("stop" if expected != "".join(pieces) else "length")


@given(
    st.lists(st.text(alphabet="ab", max_size=5), max_size=8),
    st.lists(st.text(alphabet="ab", max_size=4), max_size=3),
)
def test_pieces_do_not_matter(pieces: list[str], stops: list[str]) -> None:
    whole = "".join(pieces)
    cut = reference(whole, stops)
    assert fold(flat(one_by_one(stream(*pieces), stops))).blocks == ([Text(cut)] if cut else [])


@given(
    st.lists(st.text(alphabet="ab", max_size=5), max_size=8),
    st.lists(st.text(alphabet="ab", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_no_more_is_held_back_than_could_become_a_stop_string(pieces: list[str], stops: list[str]) -> None:
    cutter = StopCutter(stops)
    given_in = said = ""
    for piece in pieces:
        events, hit = cutter.feed([Delta(0, "text", piece)])
        given_in += piece
        said += "".join(event.text for event in events if isinstance(event, Delta))
        if hit:
            return
        held = given_in[len(said) :]
        assert held == "" or any(stop.startswith(held) and stop != held for stop in stops)


def test_a_hit_closes_what_is_open_and_nothing_follows() -> None:
    cutter = StopCutter(["!"])
    assert cutter.feed([Start(), BlockStart(0, "text"), Delta(0, "text", "hi")]) == (
        [Start(), BlockStart(0, "text"), Delta(0, "text", "hi")], False,
    )  # fmt: skip
    assert cutter.feed([Delta(0, "text", " you! and")]) == (
        [Delta(0, "text", " you"), BlockEnd(0), Finish("stop")], True,
    )  # fmt: skip
    assert cutter.feed([Delta(0, "text", "more"), Finish("stop")]) == ([], True)


def test_usage_that_came_with_the_hit_is_kept() -> None:
    events, hit = StopCutter(["!"]).feed(stream("a!b"))
    assert hit and events[-1] == Finish("stop", Usage(3, 4))


def test_what_is_held_back_comes_out_before_the_end_and_before_a_failure() -> None:
    cutter = StopCutter(["STOP"])
    assert cutter.feed([BlockStart(0, "text"), Delta(0, "text", "aST")])[0][-1] == Delta(0, "text", "a")
    assert cutter.feed([BlockEnd(0)])[0] == [Delta(0, "text", "ST"), BlockEnd(0)]
    cutter = StopCutter(["STOP"])
    failure = Failed(broken("p", "cut the stream"))
    assert cutter.feed([BlockStart(0, "text"), Delta(0, "text", "ST"), failure])[0][1:] == [
        Delta(0, "text", "ST"),
        failure,
    ]


def test_thoughts_and_arguments_are_not_cut() -> None:
    reply = Reply([Thinking("why STOP"), ToolCall("f", '{"a":"STOP"}', "x"), Text("ok STOP not")], usage=Usage(1, 2))
    events, hit = StopCutter(["STOP"]).feed(unfold(reply))
    assert hit
    assert fold(events).blocks == [Thinking("why STOP"), ToolCall("f", '{"a":"STOP"}', "x"), Text("ok ")]


def test_a_string_does_not_reach_over_two_blocks() -> None:
    events: list[Event] = [
        BlockStart(0, "text"), Delta(0, "text", "ST"),
        BlockStart(1, "text"), Delta(1, "text", "OP"), BlockEnd(0), BlockEnd(1),
    ]  # fmt: skip
    out, hit = StopCutter(["STOP"]).feed(events)
    assert not hit and [event.text for event in out if isinstance(event, Delta)] == ["ST", "OP"]


def token(text: str) -> dict[str, object]:
    return {"token": text, "logprob": -0.5}


def test_logprobs_go_out_with_their_tokens() -> None:
    cutter = StopCutter(["END"])
    events: list[Event] = [Delta(0, "text", piece, [token(piece)]) for piece in ("one ", "E", "N", "x", "EN", "D!")]
    outputs = [cutter.feed([event])[0] for event in events]
    assert outputs[:4] == [
        [Delta(0, "text", "one ", [token("one ")])],
        [],
        [],
        [Delta(0, "text", "ENx", [token("E"), token("N"), token("x")])],
    ]
    assert outputs[4:] == [[], [Finish("stop")]]


def test_logprobs_of_half_a_character_are_not_lost() -> None:
    cutter = StopCutter(["END"])
    events: list[Event] = [Delta(0, "text", "", [token("\\xf0\\x9f")]), Delta(0, "text", "😀", [token("\\x98\\x80")])]
    assert [cutter.feed([event])[0] for event in events] == [[event] for event in events]
