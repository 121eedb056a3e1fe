"""The Anthropic dialect: replies, streams and errors of providers read, whole, cut anywhere, and broken."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from anthropic_frames import (
    END,
    PING,
    STOP,
    called,
    closed,
    delta,
    ended,
    error,
    frame,
    message,
    opened,
    said,
    start,
    thought,
)
from hypothesis import given
from hypothesis import strategies as st
from openai_chunks import cuts, single_bytes

from ollama_bridge.dialects.anthropic import AnthropicDialect
from ollama_bridge.dialects.base import CHAT, Profile
from ollama_bridge.errors import GatewayError, Scope, classify
from ollama_bridge.events import BlockEnd, Delta, Event, Failed, Finish, Start, fold
from ollama_bridge.values import EmbedRequest, Opaque, Reply, Text, Thinking, ToolCall, Usage

DIALECT = AnthropicDialect()
REDACTED = {"type": "redacted_thinking", "data": "EqkE"}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
RESULT = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"type": "web_search_result"}]}
NO_WORDS = {"type": "refusal", "explanation": "I may not."}


def read(stream: bytes, parts: Iterable[bytes] | None = None) -> list[Event]:
    reader = DIALECT.reader(CHAT, Profile())
    events = [event for part in parts or [stream] for event in reader.feed(part)]
    return events + reader.end()


def whole(body: bytes) -> Reply:
    reply = DIALECT.read_reply(CHAT, body, Profile())
    assert isinstance(reply, Reply)
    return reply


def failure(events: list[Event]) -> GatewayError:
    assert isinstance(events[-1], Failed), events
    return events[-1].error


def signed(text: str, signature: str = "sig") -> Thinking:
    return Thinking(text, vendor={"anthropic": {"signature": signature}})


# id: stream, the same as a whole reply, what both say (id and model left out)
ANSWERS: dict[str, tuple[bytes, bytes, Reply]] = {
    "text": (
        start() + said("Hel", "lo") + END,
        message({"type": "text", "text": "Hello"}),
        Reply([Text("Hello")], "stop"),
    ),
    "empty": (start() + said("") + END, message({"type": "text", "text": ""}), Reply([], "stop")),
    "two texts": (
        start() + said("a") + said("b", index=1) + END,
        message({"type": "text", "text": "a"}, {"type": "text", "text": "b", "citations": None}),
        Reply([Text("a"), Text("b")], "stop"),
    ),
    "thought": (
        start() + PING + thought("h", "m") + said("4", index=1) + END,
        message({"type": "thinking", "thinking": "hm", "signature": "sig"}, {"type": "text", "text": "4"}),
        Reply([signed("hm"), Text("4")], "stop"),
    ),
    "thought that is not shown": (
        start() + thought() + said("4", index=1) + END,
        message({"type": "thinking", "thinking": "", "signature": "sig"}, {"type": "text", "text": "4"}),
        Reply([signed(""), Text("4")], "stop"),
    ),
    "unsigned thought of another maker's server": (
        start() + thought("hm", signature="") + said("4", index=1) + END,
        message({"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "4"}),
        Reply([Thinking("hm"), Text("4")], "stop"),
    ),
    "redacted thought": (
        start() + opened(0, **REDACTED) + PING + closed(0) + said("4", index=1) + END,
        message(REDACTED, {"type": "text", "text": "4"}),
        Reply([Opaque("anthropic", REDACTED), Text("4")], "stop"),
    ),
    "call": (
        start() + called("f", "", '{"ci', 'ty":"Oslo"}') + ended("tool_use") + STOP,
        message({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"city": "Oslo"}}, reason="tool_use"),
        Reply([ToolCall("f", '{"city":"Oslo"}', "toolu_1")], "tool_calls"),
    ),
    "call without arguments": (
        start() + called("f", "") + ended("tool_use") + STOP,
        message({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}, reason="tool_use"),
        Reply([ToolCall("f", "{}", "toolu_1")], "tool_calls"),
    ),
    "call that comes whole": (
        start() + called("f", input={"n": 1}) + ended("tool_use") + STOP,
        message({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"n": 1}}, reason="tool_use"),
        Reply([ToolCall("f", '{"n":1}', "toolu_1")], "tool_calls"),
    ),
    "call with fields of its own": (
        start() + called("f", "{}", caller={"type": "direct"}) + ended("tool_use") + STOP,
        message({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}, "caller": {"type": "direct"}},
                reason="tool_use"),
        Reply([ToolCall("f", "{}", "toolu_1", {"anthropic": {"caller": {"type": "direct"}}})], "tool_calls"),
    ),
    "calls side by side": (
        start()
        + opened(0, type="tool_use", id="a", name="f", input={})
        + opened(1, type="tool_use", id="b", name="g", input={})
        + delta(1, type="input_json_delta", partial_json='{"x":')
        + delta(0, type="input_json_delta", partial_json='{"y":2}')
        + delta(1, type="input_json_delta", partial_json="1}")
        + closed(1) + closed(0) + ended("tool_use") + STOP,
        message({"type": "tool_use", "id": "a", "name": "f", "input": {"y": 2}},
                {"type": "tool_use", "id": "b", "name": "g", "input": {"x": 1}}, reason="tool_use"),
        Reply([ToolCall("f", '{"y":2}', "a"), ToolCall("g", '{"x":1}', "b")], "tool_calls"),
    ),
    "calls at the end of a turn that says so": (
        start() + called("f", "{}") + END,
        message({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}),
        Reply([ToolCall("f", "{}", "toolu_1")], "tool_calls"),
    ),
    "blocks that only this wire has": (
        start() + opened(0, **SEARCH) + delta(0, type="input_json_delta", partial_json='{"query":') + delta(
            0, type="input_json_delta", partial_json='"x"}') + closed(0) + opened(1, **RESULT) + closed(1)
        + said("So.", index=2) + END,
        message({**SEARCH, "input": {"query": "x"}}, RESULT, {"type": "text", "text": "So."}),
        Reply([Opaque("anthropic", {**SEARCH, "input": {"query": "x"}}), Opaque("anthropic", RESULT), Text("So.")],
              "stop"),
    ),
    "refusal in words": (
        start() + ended("refusal", stop_details=NO_WORDS) + STOP,
        message(reason="refusal", stop_details=NO_WORDS),
        Reply([Text("I may not.")], "content_filter"),
    ),
    "refusal after all": (
        start() + said("Well, ") + ended("refusal", stop_details=NO_WORDS) + STOP,
        message({"type": "text", "text": "Well, "}, reason="refusal", stop_details=NO_WORDS),
        Reply([Text("Well, ")], "content_filter"),
    ),
    "refusal without a word": (
        start() + ended("refusal", stop_details=None) + STOP,
        message(reason="refusal", stop_details=None),
        Reply([], "content_filter"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ANSWERS))
def test_stream_and_whole_say_the_same(name: str) -> None:
    stream, body, expected = ANSWERS[name]
    expected.id, expected.model, expected.usage = "msg_1", "up", Usage(prompt=9, completion=4)
    assert fold(read(stream)) == expected
    assert whole(body) == expected


@pytest.mark.parametrize("name", list(ANSWERS))
def test_a_stream_may_be_cut_anywhere(name: str) -> None:
    """In two reads at every byte, and into single bytes."""
    stream = ANSWERS[name][0]
    events = read(stream)
    for parts in [*cuts(stream), single_bytes(stream)]:
        assert read(stream, parts) == events


@pytest.mark.parametrize("name", list(ANSWERS))
def test_line_ends_and_names_may_differ(name: str) -> None:
    stream = ANSWERS[name][0]
    events = read(stream)
    assert read(stream.replace(b"\n", b"\r\n")) == events
    assert read(b": hello\n\n" + stream.replace(b"data: ", b"data:")) == events
    unnamed = b"".join(line + b"\n" for line in stream.split(b"\n") if not line.startswith(b"event:"))
    assert read(unnamed) == events


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("tool_use", "tool_calls"),
        ("a_new_word", "stop"),
    ],
)
def test_stop_reasons(word: str, reason: str) -> None:
    assert fold(read(start() + said("a") + ended(word) + STOP)).reason == reason
    assert whole(message({"type": "text", "text": "a"}, reason=word)).reason == reason


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ({}, {"output_tokens": 4}, Usage(9, 4)),
        ({}, {"input_tokens": 9, "output_tokens": 4}, Usage(9, 4)),
        (
            {"cache_read_input_tokens": 64, "cache_creation_input_tokens": 27},
            {"output_tokens": 20, "output_tokens_details": {"thinking_tokens": 5}},
            Usage(100, 20, cached=64, reasoning=5),
        ),
        ({"input_tokens": 0}, {"input_tokens": 12, "output_tokens": 4}, Usage(12, 4)),  # told late
        ({}, {"input_tokens": 0, "output_tokens": 4}, Usage(9, 4)),  # told once
        ({"input_tokens": None, "output_tokens": True}, {}, Usage()),
    ],
)
def test_counts_are_told_in_two_places(first: dict[str, Any], last: dict[str, Any], expected: Usage) -> None:
    events = read(start(**first) + said("a") + ended(usage=last) + STOP)
    assert isinstance(events[-1], Finish) and events[-1].usage == expected


def test_counts_of_a_whole_reply_include_the_cache() -> None:
    counts = {"input_tokens": 9, "cache_creation_input_tokens": 1, "cache_read_input_tokens": 90, "output_tokens": 4}
    assert whole(message({"type": "text", "text": "a"}, usage=counts)).usage == Usage(100, 4, cached=90)
    assert whole(message({"type": "text", "text": "a"}, usage=None)).usage == Usage()


def test_the_beginning_and_the_signature_are_events_of_their_own() -> None:
    events = read(start() + thought("hm") + said("4", index=1) + END)
    assert events[0] == Start("msg_1", "up")
    assert BlockEnd(0, {"anthropic": {"signature": "sig"}}) in events


def test_each_piece_is_passed_on_at_once() -> None:
    reader = DIALECT.reader(CHAT, Profile())
    reader.feed(start() + opened(0, type="text", text=""))
    for piece in ("Hel", "lo", "\u0085\u2028", "👩‍🚀"):
        assert reader.feed(delta(0, type="text_delta", text=piece)) == [Delta(0, "text", piece)]
    assert reader.feed(PING) == []
    assert not reader.ending
    reader.feed(closed(0) + ended())
    assert reader.ending


def test_pieces_without_a_beginning_are_shown_all_the_same() -> None:
    stream = (
        start() + delta(3, type="text_delta", text="a") + delta(4, type="input_json_delta", partial_json="{}") + END
    )
    assert fold(read(stream)).blocks == [Text("a")]


def test_a_beginning_may_hold_the_first_words() -> None:
    stream = start() + opened(0, type="thinking", thinking="h", signature="s") + closed(0)
    stream += opened(1, type="text", text="He") + delta(1, type="text_delta", text="y") + closed(1) + END
    assert fold(read(stream)).blocks == [signed("h", "s"), Text("Hey")]


def test_what_is_yet_to_come_is_passed_over() -> None:
    stream = start() + frame("content_block_wink", index=0) + opened(0, type="text", text="", citations=[])
    stream += delta(0, type="citations_delta", citation={"cited_text": "x"}) + delta(0, type="wink_delta", wink=1)
    stream += delta(0, type="text_delta", text="a", extra=1) + closed(0) + closed(7) + END
    assert fold(read(stream)).blocks == [Text("a")]


# -- the end -----------------------------------------------------------------------------------------------------------
def test_the_last_word_may_be_missing() -> None:
    """A stop reason says that nothing is missing."""
    assert fold(read(start() + said("a") + ended())).reason == "stop"
    assert fold(read((start() + said("a") + END).rstrip(b"\n"))).blocks == [Text("a")]


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (start() + said("a"), "the provider broke off in the middle of its answer"),
        (start() + opened(0, type="text", text="") + delta(0, type="text_delta", text="a"), "broke off in the middle"),
        (start(), "broke off in the middle"),
        (b"", "the provider sent no answer"),
        (b": hello\n\n", "the provider sent no answer"),
        (STOP, "the provider sent an empty answer"),
        (start() + b"data: {no json\n\n", "sent a frame that is not JSON"),
        (start() + b"data: [1]\n\n", "sent a frame that is not JSON"),
    ],
)
def test_what_is_cut_or_garbage_fails(stream: bytes, words: str) -> None:
    failed = failure(read(stream))
    assert words in failed.message
    assert (failed.status, failed.scope) == (502, Scope.PROVIDER)


def test_every_cut_of_an_answer_is_seen() -> None:
    """However little is missing before the stop reason, the answer is not taken for whole."""
    stream = start() + thought("hm") + said("4", index=1) + ended()
    for at in range(stream.index(b"event: message_delta")):
        assert isinstance(read(stream[:at])[-1], Failed)


def test_garbage_after_the_stop_reason_harms_nothing() -> None:
    assert fold(read(start() + said("a") + ended() + b"data: {no\n\n")).reason == "stop"


def test_nothing_follows_the_end() -> None:
    reader = DIALECT.reader(CHAT, Profile())
    reader.feed(start() + said("a") + END)
    assert reader.feed(said("b")) == [] and reader.end() == []


# -- errors in the stream ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "status", "scope"),
    [
        ("overloaded_error", 503, Scope.THROTTLE),
        ("rate_limit_error", 429, Scope.THROTTLE),
        ("invalid_request_error", 400, Scope.CALLER),
        ("request_too_large", 413, Scope.CALLER),
        ("api_error", 502, Scope.PROVIDER),
        ("timeout_error", 504, Scope.PROVIDER),
        ("authentication_error", 502, Scope.KEY),
        ("billing_error", 502, Scope.KEY),
        ("permission_error", 502, Scope.KEY),
        ("not_found_error", 502, Scope.PROVIDER),
        ("a_new_error", 502, Scope.PROVIDER),
    ],
)
def test_an_error_in_the_stream(kind: str, status: int, scope: Scope) -> None:
    failed = failure(read(start() + said("a") + error(kind, "It broke.")))
    assert (failed.status, failed.scope, failed.message, failed.provider) == (status, scope, "It broke.", None)
    body = json.dumps({"type": "error", "error": {"type": kind, "message": "It broke."}}).encode()
    with pytest.raises(GatewayError, match="It broke") as caught:
        whole(body)
    assert (caught.value.status, caught.value.scope) == (status, scope)


def test_an_error_may_come_first_or_in_one_object() -> None:
    assert failure(read(error("overloaded_error", "Busy."))).message == "Busy."
    assert failure(read(b'{"type":"error","error":{"type":"api_error","message":"Busy."}}')).message == "Busy."
    assert failure(read(b'data: {"error":"Busy."}\n\n')).message == "Busy."
    assert failure(read(error("api_error", ""))).message == "the provider reported an error without any words"


def test_a_whole_reply_to_a_stream_request_is_an_answer() -> None:
    body = message({"type": "text", "text": "Hello"})
    for parts in ([body], single_bytes(body), [b"\xef\xbb\xbf" + body]):
        assert fold(read(body, parts)).blocks == [Text("Hello")]


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b"{}", b'{"content":7}', b'{"content":null}'])
def test_a_reply_that_is_none(body: bytes) -> None:
    with pytest.raises(GatewayError, match=r"^the provider") as caught:
        whole(body)
    assert (caught.value.status, caught.value.scope) == (502, Scope.PROVIDER)


def test_a_reply_of_bare_text() -> None:
    assert whole(b'{"content":"Hi","stop_reason":"end_turn"}').blocks == [Text("Hi")]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
KINDS = st.sampled_from(
    ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "error"]
)
FIELDS = st.sampled_from(["index", "delta", "content_block", "message", "usage", "error", "type"])


@given(st.lists(st.tuples(KINDS, st.dictionaries(FIELDS, JUNK, max_size=3)), max_size=4))
def test_nonsense_never_raises(frames: list[tuple[str, dict[str, Any]]]) -> None:
    stream = b"".join(b"data: " + json.dumps({"type": kind, **fields}).encode() + b"\n\n" for kind, fields in frames)
    events = read(start() + stream)
    assert isinstance(events[-1], Failed | Finish)


@given(JUNK)
def test_a_nonsense_reply_raises_one_error(value: Any) -> None:
    for body in (json.dumps(value).encode(), json.dumps({"content": [value], "usage": value}).encode()):
        try:
            whole(body)
        except GatewayError as caught:
            assert caught.status in (400, 429, 502, 503, 504)


# -- refusals ----------------------------------------------------------------------------------------------------------
def test_an_error_body() -> None:
    body = (
        b'{"type":"error","error":{"type":"invalid_request_error","message":"temperature: Extra inputs are not '
        b'permitted","details":{"error_code":"extra_input"}},"request_id":"req_1"}'
    )
    wire = DIALECT.read_error(400, {"retry-after": "7"}, body)
    assert wire.message == "temperature: Extra inputs are not permitted"
    assert (wire.type, wire.code, wire.param) == ("invalid_request_error", "extra_input", "temperature")
    assert wire.retry_after == 7


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("max_tokens: 128000 > 64000, which is too many", "max_tokens"),
        ("output_config.effort: 'max' is not supported.", "output_config.effort"),
        ("messages.0.content.1: no", "messages.0.content.1"),
        ("prompt is too long: 250000 tokens > 200000 maximum", None),
        ("Overloaded", None),
    ],
)
def test_the_parameter_an_error_is_about(message: str, param: str | None) -> None:
    body = json.dumps({"error": {"type": "invalid_request_error", "message": message}}).encode()
    assert DIALECT.read_error(400, {}, body).param == param


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"busy", "text/plain", "busy"),
        (b"<html>busy</html>", "text/html", ""),
        (b"", "application/json", ""),
        (b'{"error":"no such model"}', "application/json", "no such model"),
        (b'{"detail":"x"}', "application/json", ""),
        (b"[1]", "application/json", ""),
        (b'{"type":"error","error":{"type":"api_error"}}', "application/json", ""),
    ],
)
def test_odd_error_bodies(body: bytes, content_type: str, message: str) -> None:
    wire = DIALECT.read_error(500, {"content-type": content_type, "retry-after": "soon"}, body)
    assert (wire.message, wire.retry_after) == (message, None)


@pytest.mark.parametrize(
    ("status", "kind", "words", "to", "scope"),
    [
        (400, "invalid_request_error", "prompt is too long: 9 > 8", 400, Scope.CALLER),
        (400, "invalid_request_error", "Your credit balance is too low to access the API.", 502, Scope.KEY),
        (401, "authentication_error", "invalid x-api-key", 502, Scope.KEY),
        (402, "billing_error", "pay", 502, Scope.KEY),
        (403, "permission_error", "no", 502, Scope.KEY),
        (404, "not_found_error", "model: claude-x", 404, Scope.MODEL),
        (413, "request_too_large", "big", 413, Scope.CALLER),
        (429, "rate_limit_error", "slow", 429, Scope.THROTTLE),
        (500, "api_error", "oops", 502, Scope.PROVIDER),
        (529, "overloaded_error", "busy", 503, Scope.THROTTLE),
    ],
)
def test_what_refusals_become(status: int, kind: str, words: str, to: int, scope: Scope) -> None:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": words}}).encode()
    refused = classify("claude", status, DIALECT.read_error(status, {}, body), "alias")
    assert (refused.status, refused.scope) == (to, scope)


# -- the other half ----------------------------------------------------------------------------------------------------
def test_embeddings_are_refused() -> None:
    with pytest.raises(GatewayError, match='"m" does not support embeddings') as caught:
        DIALECT.encode(EmbedRequest("m", ["a"]), "claude-x", Profile())
    assert (caught.value.status, caught.value.scope) == (400, Scope.CALLER)
