"""The OpenAI dialect: streams of providers read, whole, cut anywhere, and broken."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_chunks import (
    CALLED,
    COUNTED,
    END,
    USAGE,
    call,
    chunk,
    cuts,
    frames,
    say,
    single_bytes,
    text,
    whole_reply,
)

from ollama_bridge.dialects.base import CHAT, Profile
from ollama_bridge.dialects.openai import OpenAIDialect
from ollama_bridge.dialects.thinktags import split
from ollama_bridge.errors import GatewayError, Scope
from ollama_bridge.events import BlockStart, Delta, Event, Failed, Finish, Start, fold
from ollama_bridge.values import (
    ChatRequest,
    Message,
    Reply,
    Text,
    Thinking,
    ToolCall,
    Usage,
)

DIALECT = OpenAIDialect()


def ask(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=list(messages) or [Message("user", [Text("Hi")])], **fields)


def read(stream: bytes, parts: Iterable[bytes] | None = None, **profile: Any) -> list[Event]:
    reader = DIALECT.reader(CHAT, Profile(**profile))
    events = [event for part in parts or [stream] for event in reader.feed(part)]
    return events + reader.end()


def failure(events: list[Event]) -> GatewayError:
    assert isinstance(events[-1], Failed), events
    return events[-1].error


def shown(reply: Reply) -> str:
    return "".join(block.text for block in reply.blocks if isinstance(block, Text))


def thought(reply: Reply) -> str:
    return "".join(block.text for block in reply.blocks if isinstance(block, Thinking))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


# -- reading streams ---------------------------------------------------------------------------------------------------
def calling(*pieces: dict[str, Any]) -> bytes:
    return frames(*pieces, CALLED)


def thoughts(*chunks: dict[str, Any]) -> bytes:
    return frames(*chunks, say("4"), END)


def called(*blocks: Any) -> Reply:
    return Reply(list(blocks), "tool_calls")


HM = Reply([Thinking("hm"), Text("4")])
MISTRAL = [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]}]
APART = {**USAGE, "total_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 7}}
DETAILED = {
    **USAGE,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
GROQ = {"usage": {**USAGE, "prompt_time": 0.5, "completion_time": 0.25, "queue_time": 9}}
LLAMA_CPP = {"prompt_n": 7, "cache_n": 2, "prompt_ms": 1.5, "predicted_n": 4, "predicted_ms": 2}
SECOND = {**chunk(), "choices": [{"index": 1, "delta": {"content": "X"}, "finish_reason": "length"}]}
NO_CHOICES = {**chunk(), "choices": [], "prompt_filter_results": []}

# id: stream, profile, what it folds to (id, model and time left out)
STREAMS: dict[str, tuple[bytes, dict[str, Any], Reply]] = {
    "text": (text("Hel", "lo"), {}, Reply([Text("Hello")])),
    "role first": (frames(chunk({"role": "assistant", "content": ""}), say("a"), END), {}, Reply([Text("a")])),
    "empty answer": (text(""), {}, Reply([])),
    "refusal": (
        frames(chunk({"content": None, "refusal": "No"}), chunk({"refusal": "."}), END), {}, Reply([Text("No.")]),
    ),
    "reasoning_content": (thoughts(chunk({"reasoning_content": "h"}), chunk({"reasoning_content": "m"})), {}, HM),
    "reasoning": (thoughts(chunk({"reasoning": "hm", "content": ""})), {}, HM),
    "thinking": (thoughts(chunk({"thinking": "hm"})), {}, HM),
    "details count once": (thoughts(chunk({"reasoning": "hm", "reasoning_details": [{"text": "hm"}]})), {}, HM),
    "details alone": (thoughts(chunk({"reasoning_details": [{"text": "h"}, {"summary": "m"}, {"data": "x"}]})), {}, HM),
    "thought and text in one chunk": (frames(chunk({"reasoning": "hm", "content": "4"}), END), {}, HM),
    "Mistral's parts": (
        frames(say(MISTRAL), say([*MISTRAL, {"type": "text", "text": "4"}]), END), {},
        Reply([Thinking("hmhm"), Text("4")]),
    ),
    "tags": (text("<thi", "nk>\n hm", "</th", "ink>\n\n4"), {}, HM),
    "tags later are text": (text("a <think>b", "</think>"), {}, Reply([Text("a <think>b</think>")])),
    "tags anywhere": (
        text("a <think>b", "</think>c"), {"think_tags": True}, Reply([Text("a "), Thinking("b"), Text("c")]),
    ),
    "half a tag": (text("<thin"), {}, Reply([Text("<thin")])),
    "tag never closed": (text("<think>hm"), {}, Reply([Thinking("hm")])),
    "a field for thoughts, then a tag": (
        frames(chunk({"reasoning": "hm"}), say("<think>"), END), {}, Reply([Thinking("hm"), Text("<think>")]),
    ),
    "call in pieces": (
        calling(call(0, "c1", name="f", arguments=""), call(arguments='{"a"'), call(arguments=":1}")), {},
        called(ToolCall("f", '{"a":1}', "c1")),
    ),
    "parallel calls side by side": (
        calling(
            call(0, "c1", name="f", arguments="{"), call(1, "c2", name="g", arguments="["), call(0, arguments="}"),
            call(1, arguments="]"),
        ), {}, called(ToolCall("f", "{}", "c1"), ToolCall("g", "[]", "c2")),
    ),
    "same index, new id": (
        calling(call(0, "c1", name="f", arguments="{}"), call(0, "c2", name="g", arguments="{}")), {},
        called(ToolCall("f", "{}", "c1"), ToolCall("g", "{}", "c2")),
    ),
    "same id repeated": (
        calling(call(0, "c1", name="f", arguments="{"), call(0, "c1", name="f", arguments="}")), {},
        called(ToolCall("f", "{}", "c1")),
    ),
    "no index": (
        calling(
            call(None, "c1", name="f", arguments="{"), call(None, arguments="}"),
            call(None, "c2", name="g", arguments="{}"), call(None, name="h"),
        ), {}, called(ToolCall("f", "{}", "c1"), ToolCall("g", "{}", "c2"), ToolCall("h", "{}")),
    ),
    "no index, pieces by id": (
        calling(
            call(None, "c1", name="f", arguments="{"), call(None, "c2", name="g", arguments="{"),
            call(None, "c1", arguments="}"), call(None, "c2", arguments="}"),
        ), {}, called(ToolCall("f", "{}", "c1"), ToolCall("g", "{}", "c2")),
    ),
    "no arguments": (calling(call(0, "c1", name="f")), {}, called(ToolCall("f", "{}", "c1"))),
    "null arguments": (calling(call(0, "c1", name="f", arguments=None)), {}, called(ToolCall("f", "{}", "c1"))),
    "object arguments": (
        calling(call(0, "c1", name="f", arguments={"a": 1})), {}, called(ToolCall("f", '{"a":1}', "c1")),
    ),
    "name after the arguments": (
        calling(call(0, "c1", arguments='{"a":'), call(0, name="f", arguments="1}")), {},
        called(ToolCall("f", '{"a":1}', "c1")),
    ),
    "never named": (calling(call(0, "c1", arguments="{}")), {}, called(ToolCall("", "{}", "c1"))),
    "signature on a call": (
        calling(call(0, "c1", name="f", arguments="{}", extra_content={"s": 1})), {},
        called(ToolCall("f", "{}", "c1", {"openai": {"extra_content": {"s": 1}}})),
    ),
    "function_call": (
        frames(
            chunk({"function_call": {"name": "f", "arguments": ""}}), chunk({"function_call": {"arguments": "{}"}}),
            chunk(finish="function_call"),
        ), {}, called(ToolCall("f", "{}")),
    ),
    "calls that end with stop": (frames(call(0, "c1", name="f"), END), {}, called(ToolCall("f", "{}", "c1"))),
    "text, then a call": (calling(say("a"), call(0, "c1", name="f")), {}, called(Text("a"), ToolCall("f", "{}", "c1"))),
    "length": (frames(say("a"), chunk(finish="length")), {}, Reply([Text("a")], "length")),
    "filter": (frames(say("a"), chunk(finish="content_filter")), {}, Reply([Text("a")], "content_filter")),
    "an unknown reason": (frames(say("a"), chunk(finish="eos")), {}, Reply([Text("a")], "stop")),
    "reason twice": (frames(say("a", "length"), say("", "stop")), {}, Reply([Text("a")], "length")),
    "empty reason is none": (
        frames(say("a", ""), say("b", ""), chunk(finish="length")), {}, Reply([Text("ab")], "length"),
    ),
    "no reason, but done": (frames(say("a")), {}, Reply([Text("a")])),
    "done missing": (frames(say("a"), END, done=False), {}, Reply([Text("a")])),
    "a second answer is not ours": (frames(say("a"), SECOND, END), {}, Reply([Text("a")])),
    "usage in its own chunk": (frames(say("a"), END, COUNTED), {}, Reply([Text("a")], usage=Usage(9, 4))),
    "usage with details": (text("a", usage=DETAILED), {}, Reply([Text("a")], usage=Usage(9, 4, 8, 3))),
    "usage in every chunk": (
        frames(say("a", usage={"prompt_tokens": 9, "completion_tokens": 1}), say("b", usage=USAGE), END), {},
        Reply([Text("ab")], usage=Usage(9, 4)),
    ),
    "xAI counts reasoning apart": (text("a", usage=APART), {}, Reply([Text("a")], usage=Usage(9, 11, None, 7))),
    "Groq": (
        text("a", x_groq=GROQ), {},
        Reply([Text("a")], usage=Usage(9, 4, prompt_ns=500_000_000, completion_ns=250_000_000)),
    ),
    "llama.cpp": (
        text("a", timings=LLAMA_CPP), {},
        Reply([Text("a")], usage=Usage(9, 4, 2, prompt_ns=1_500_000, completion_ns=2_000_000)),
    ),
    "counts of junk": (
        text("a", usage={"prompt_tokens": "x", "completion_tokens": -1, "total_tokens": True}), {}, Reply([Text("a")]),
    ),
    "comments": (b": PROCESSING\n\n" + text("a") + b": bye\n\n", {}, Reply([Text("a")])),
    "line ends": (text("a").replace(b"\n", b"\r\n"), {}, Reply([Text("a")])),
    "no blank after data": (text("a", "b").replace(b"data: ", b"data:"), {}, Reply([Text("ab")])),
    "no last blank line": (frames(say("a"), END, done=False).rstrip(), {}, Reply([Text("a")])),
    "byte order mark": (b"\xef\xbb\xbf" + text("a"), {}, Reply([Text("a")])),
    "blank lines first": (b"\n" * 200 + text("a"), {}, Reply([Text("a")])),
    "emoji and U+0085": (text("\U0001f600", "\u0085\u2028é"), {}, Reply([Text("\U0001f600\u0085\u2028é")])),
    "chunks without choices": (frames({"object": "ping"}, NO_CHOICES, say("a"), END), {}, Reply([Text("a")])),
    "garbage after the reason": (frames(say("a"), END, done=False) + b"data: bye\n\n", {}, Reply([Text("a")])),
    "events after done": (text("a") + text("b"), {}, Reply([Text("a")])),
    "whole reply instead": (
        whole_reply({"content": "<think>hm</think>4"}, usage=USAGE), {},
        Reply([Thinking("hm"), Text("4")], usage=Usage(9, 4)),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("stream", "profile", "wanted"), STREAMS.values(), ids=STREAMS)
def test_read_stream(stream: bytes, profile: dict[str, Any], wanted: Reply) -> None:
    events = read(stream, **profile)
    wanted.id, wanted.model, wanted.created = "chatcmpl-1", "up", 1
    assert fold(events) == wanted
    assert [type(event) for event in events].count(Finish) == 1
    assert isinstance(events[-1], Finish)
    assert isinstance(events[0], Start)


@pytest.mark.parametrize(("stream", "profile", "wanted"), STREAMS.values(), ids=STREAMS)
def test_read_stream_cut_anywhere_into_reads(stream: bytes, profile: dict[str, Any], wanted: Reply) -> None:
    whole = read(stream, **profile)
    for parts in cuts(stream):
        assert read(stream, parts, **profile) == whole


def test_read_stream_byte_by_byte() -> None:
    for stream, profile, _ in STREAMS.values():
        assert read(stream, single_bytes(stream), **profile) == read(stream, **profile)


def test_plain_pieces_are_events_of_their_own() -> None:
    assert [event.text for event in read(text("a", "b", "c")) if isinstance(event, Delta)] == ["a", "b", "c"]


def test_ending_is_known_from_the_finish_reason_on() -> None:
    reader = DIALECT.reader(CHAT, Profile())
    reader.feed(frames(say("a"), done=False))
    assert not reader.ending
    events = reader.feed(frames(END, done=False))
    assert reader.ending and not any(isinstance(event, Finish) for event in events)  # counts may still come
    assert reader.feed(frames(COUNTED)) == [Finish("stop", Usage(9, 4))]


def test_the_first_read_commits_at_the_first_piece() -> None:
    reader = DIALECT.reader(CHAT, Profile())
    events = reader.feed(frames(chunk({"content": "a"}), done=False))
    assert Delta(0, "text", "a") in events
    assert reader.feed(frames(call(0, "c", name="f"), done=False))[-1] == BlockStart(1, "tool_call", "c", "f")


LOGPROB = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1, "bytes": [98]}]}


def test_read_logprobs() -> None:
    def with_logprobs(piece: str, items: list[Any]) -> dict[str, Any]:
        choice = {"index": 0, "delta": {"content": piece}, "logprobs": {"content": items}, "finish_reason": None}
        return {**chunk(), "choices": [choice]}

    events = read(
        frames(
            with_logprobs("a", [LOGPROB]), with_logprobs("", [LOGPROB]), with_logprobs("b", []), chunk(finish="stop")
        )
    )
    assert [event for event in events if isinstance(event, Delta)] == [
        Delta(0, "text", "a", [LOGPROB]),
        Delta(0, "text", "", [LOGPROB]),
        Delta(0, "text", "b"),
    ]


def error(**members: Any) -> dict[str, Any]:
    return {"error": members}


BOOM = (502, Scope.PROVIDER, "boom")
SAID = frames(say("a"), done=False)
NOT_JSON = (502, Scope.PROVIDER, "the provider sent a frame that is not JSON")
NO_ANSWER = (502, Scope.PROVIDER, "the provider sent no answer")

FAILURES: dict[str, tuple[bytes, tuple[int, Scope, str]]] = {
    "error object": (frames(say("a"), error(message="boom", type="server_error", code=None)), BOOM),
    "error text": (frames({"error": "boom"}), BOOM),
    "error with a status": (frames(error(message="slow down", code=429)), (429, Scope.THROTTLE, "slow down")),
    "overloaded": (frames(error(message="busy", code=529)), (503, Scope.THROTTLE, "busy")),
    "no credit": (frames(error(message="pay", code=402)), (502, Scope.KEY, "pay")),
    "the caller's fault": (frames(error(message="too long", status_code=400)), (400, Scope.CALLER, "too long")),
    "error beside choices": (frames(say("a", **error(message="boom", code=500))), BOOM),
    "error after a reason": (frames(say("a", "length"), error(message="boom")), BOOM),
    "event named error": (SAID + b'event: error\ndata: {"message":"boom"}\n\n', BOOM),
    "event named error, text": (b"event: error\ndata: boom\n\n", BOOM),
    "finish reason error": (
        frames(say("a", "error")), (502, Scope.PROVIDER, "the provider reported an error without any words"),
    ),
    "garbage frame": (SAID + b'data: {"choices":[{"del\n\n', NOT_JSON),
    "a list for a frame": (b"data: [1]\n\n", NOT_JSON),
    "cut": (SAID, (502, Scope.PROVIDER, "the provider broke off in the middle of its answer")),
    "nothing": (b"", NO_ANSWER),
    "white space": (b"\n\n", NO_ANSWER),
    "comments only": (b": ping\n\n", NO_ANSWER),
    "done at once": (b"data: [DONE]\n\n", (502, Scope.PROVIDER, "the provider sent an empty answer")),
    "a page": (b"<html><body>Bad Gateway</body></html>", NO_ANSWER),
    "whole error instead": (b'{"error":{"message":"boom","code":"x"}}', BOOM),
    "whole nonsense instead": (b'{"hello":1}', (502, Scope.PROVIDER, "the provider sent a reply without an answer")),
    "half an object instead": (b'{"hello":', (502, Scope.PROVIDER, "the provider sent a reply that is not JSON")),
}  # fmt: skip


@pytest.mark.parametrize(("stream", "wanted"), FAILURES.values(), ids=FAILURES)
def test_read_failure(stream: bytes, wanted: tuple[int, Scope, str]) -> None:
    events = read(stream)
    found = failure(events)
    assert (found.status, found.scope, found.message) == wanted
    assert found.provider is None  # the pipeline knows it
    assert not any(isinstance(event, Finish) for event in events)
    for parts in cuts(stream):
        assert failure(read(stream, parts)).message == wanted[2]


def test_read_a_frame_without_end() -> None:
    reader = DIALECT.reader(CHAT, Profile())
    reader.feed(b"data: ")
    events: list[Event] = []
    for _ in range(40):
        events += reader.feed(b"x" * 1024 * 1024)
    assert "more than" in failure(events).message


@settings(deadline=None)
@given(pieces=st.lists(st.text(max_size=6), max_size=6), parts=st.integers(1, 7), tags=st.booleans())
def test_any_text_arrives(pieces: list[str], parts: int, tags: bool) -> None:
    stream = text(*pieces)
    fed = [stream[at : at + parts] for at in range(0, len(stream), parts)]
    reply = fold(read(stream, fed, think_tags=tags))
    assert shown(reply) == "".join(pieces)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<", "th", "ink>", " ", "\n", "a", "</"]), max_size=10),
    st.booleans(),
    st.integers(1, 5),
)
def test_tags_do_not_depend_on_the_cut(words: list[str], everywhere: bool, size: int) -> None:
    whole = "".join(words)
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    in_pieces = fold(read(text(*pieces), think_tags=everywhere))
    assert in_pieces.blocks == fold(read(text(whole), think_tags=everywhere)).blocks
    wanted: dict[str, str] = {"thinking": "", "text": ""}
    for kind, piece in split(whole, everywhere):
        wanted[kind] += piece
    assert (thought(in_pieces), shown(in_pieces)) == (wanted["thinking"], wanted["text"])


@settings(max_examples=300, deadline=None)
@given(
    delta=st.dictionaries(
        st.sampled_from(["content", "tool_calls", "reasoning", "reasoning_details", "refusal", "function_call"]), JUNK
    ),
    choice=JUNK,
    usage=JUNK,
)
def test_junk_frames_never_raise(delta: dict[str, Any], choice: Any, usage: Any) -> None:
    for junk in (chunk(delta, usage=usage), {**chunk(), "choices": choice}, {**chunk(), "choices": [choice]}):
        events = read(frames(chunk({"content": "a"}), junk, chunk(finish="stop")))
        assert isinstance(events[-1], Finish | Failed)
        tap = DIALECT.tap(CHAT, ask())
        tap.feed(frames(chunk({"content": "a"}), junk))
