"""The Responses dialect, outbound: streams and whole answers -> events."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from fakes.responses_wire import FakeResponses, event_frames, frame
from fakes.script import Call, Script, Tokens
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.dialects.base import CHAT, Profile
from ollama_bridge.dialects.responses import ResponsesDialect
from ollama_bridge.dialects.responses.stream import Reader, read_reply
from ollama_bridge.errors import GatewayError, Scope
from ollama_bridge.events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, Start, Unknown, fold
from ollama_bridge.values import Opaque, Reply, Text, Thinking, ToolCall, Usage

ASKED = {
    "model": "m",
    "stream": True,
    "reasoning": {"summary": "auto"},
    "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
}
USAGE = {
    "input_tokens": 11,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 18,
}


def told(kind: str, **fields: Any) -> bytes:
    return frame({"type": kind, **fields})


def created(**fields: Any) -> bytes:
    return told("response.created", response={"id": "resp_1", "model": "m", "created_at": 9, **fields})


def completed(*output: dict[str, Any], status: str = "completed", **fields: Any) -> bytes:
    response = {"id": "resp_1", "status": status, "output": list(output), "usage": USAGE, **fields}
    return told(f"response.{status}", response=response)


def text(delta: str, place: int = 0, **fields: Any) -> bytes:
    return told("response.output_text.delta", output_index=place, content_index=0, item_id="x", delta=delta, **fields)


def read(*pieces: bytes) -> list[Event]:
    reader = Reader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    return events + reader.end()


def plain(event: Event) -> Any:
    return event.error.message if isinstance(event, Failed) else event


def play(script: Script) -> tuple[bytes, bytes]:
    """What the fake sends -> (the stream, the whole answer to the same)."""
    response = FakeResponses().response(script, ASKED)
    frames = event_frames(script, ASKED, response)
    return b"".join(each.data for each in frames), json.dumps(response).encode()


# -- scripts -----------------------------------------------------------------------------------------------------------

LOGPROB = {"token": "Hé", "logprob": -0.5, "top_logprobs": [{"token": "Ha", "logprob": -1.5}]}
ITEM = {**LOGPROB, "bytes": [72, 195, 169], "top_logprobs": [{"token": "Ha", "logprob": -1.5, "bytes": [72, 97]}]}
SEALED = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "Let me see."}],
    "encrypted_content": "sealed-m-1",
}
THOUGHT = Thinking("Let me see.", vendor={"responses": SEALED})

SCRIPTS: dict[str, tuple[Script, Reply]] = {
    "text": (Script(("Hel", "lo"), usage=Tokens(11, 7, 8, 4)), Reply([Text("Hello")])),
    "emoji and U+0085": (Script(("🙂\x85", "é"), usage=Tokens(11, 7, 8, 4)), Reply([Text("🙂\x85é")])),
    "thinking": (
        Script(("Hello",), ("Let me ", "see."), usage=Tokens(11, 7, 8, 4)),
        Reply([THOUGHT, Text("Hello")]),
    ),
    "refusal": (
        Script(refusal=("I ", "won't."), usage=Tokens(11, 7, 8, 4)),
        Reply([Text("I won't.")], reason="content_filter"),
    ),
    "logprobs": (
        Script(("Hé",), logprobs=(LOGPROB,), usage=Tokens(11, 7, 8, 4)),
        Reply([Text("Hé")], logprobs=[ITEM]),
    ),
    "calls": (
        Script(
            ("Let me look.",),
            ("Let me ", "see."),
            (Call("look", ('{"at"', ":1}"), "c1"), Call("now", ("{}",), "c2")),
            usage=Tokens(11, 7, 8, 4),
        ),
        Reply(
            [THOUGHT, Text("Let me look."), ToolCall("look", '{"at":1}', "c1"), ToolCall("now", "{}", "c2")],
            "tool_calls",
        ),
    ),
    "a call without arguments": (
        Script(calls=(Call("now", (), "c1"),), usage=Tokens(11, 7, 8, 4)),
        Reply([ToolCall("now", "{}", "c1")], "tool_calls"),
    ),
    "length": (Script(("Hel",), reason="length", usage=Tokens(11, 7, 8, 4)), Reply([Text("Hel")], "length")),
    "content filter": (
        Script(("Hel",), reason="content_filter", usage=Tokens(11, 7, 8, 4)),
        Reply([Text("Hel")], "content_filter"),
    ),
    "nothing": (Script(usage=Tokens(11, 7, 8, 4)), Reply()),
}


def finished(reply: Reply) -> Reply:
    return Reply(reply.blocks, reply.reason, Usage(11, 7, 8, 4), "resp_1", "m", 1_790_000_000, reply.logprobs)


@pytest.mark.parametrize(("script", "reply"), SCRIPTS.values(), ids=SCRIPTS)
def test_stream_and_whole_answer_say_the_same(script: Script, reply: Reply) -> None:
    stream, whole = play(script)
    assert fold(read(stream)) == finished(reply)
    assert read_reply(whole) == finished(reply)
    assert ResponsesDialect().read_reply(CHAT, whole, Profile()) == finished(reply)


@pytest.mark.parametrize("script", [script for script, _ in SCRIPTS.values()], ids=SCRIPTS)
def test_cut_at_every_byte_a_stream_says_the_same(script: Script) -> None:
    stream, _ = play(script)
    wanted = list(map(plain, read(stream)))
    for at in range(1, len(stream)):
        assert list(map(plain, read(stream[:at], stream[at:]))) == wanted


@pytest.mark.parametrize("script", [script for script, _ in SCRIPTS.values()], ids=SCRIPTS)
def test_a_stream_that_is_cut_short_never_looks_complete(script: Script) -> None:
    stream, _ = play(script)
    last = stream.rindex(b"event: ")
    for at in range(0, last, 7):
        events = read(stream[:at])
        assert isinstance(events[-1], Failed)
        assert not any(isinstance(event, Finish) for event in events)
        assert events[-1].error.scope is Scope.PROVIDER


@pytest.mark.parametrize("script", [script for script, _ in SCRIPTS.values()], ids=SCRIPTS)
def test_without_names_of_events(script: Script) -> None:
    stream, _ = play(script)
    bare = b"\n".join(line for line in stream.split(b"\n") if not line.startswith(b"event:"))
    assert read(bare) == read(stream)


_pieces = st.lists(st.text("ab \n🙂\x85é", min_size=1, max_size=8), max_size=3).map(tuple)


@given(_pieces, _pieces, st.lists(st.builds(Call, st.just("f"), st.just(("{}",))), max_size=2).map(tuple), st.data())
def test_any_script_cut_anywhere(
    said: tuple[str, ...], thoughts: tuple[str, ...], calls: tuple[Call, ...], data: st.DataObject
) -> None:
    stream, whole = play(Script(said, thoughts, calls))
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
    assert fold(read(*pieces)) == read_reply(whole)


# -- events one by one -------------------------------------------------------------------------------------------------

MESSAGE = {"type": "message", "id": "m1", "content": [{"type": "output_text", "text": "Hello", "logprobs": []}]}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look", "arguments": '{"at":1}'}
FINISH = Finish("stop", Usage(11, 7, 8, 4))
CALLED = Finish("tool_calls", Usage(11, 7, 8, 4))
START = Start("resp_1", "m", 9)


def block(kind: Any, *pieces: str, index: int = 0) -> list[Event]:
    return [BlockStart(index, kind), *(Delta(index, kind, piece) for piece in pieces), BlockEnd(index)]


def summary(delta: str, part: int, place: int = 0) -> bytes:
    return told("response.reasoning_summary_text.delta", output_index=place, summary_index=part, delta=delta)


def raw(delta: str, part: int = 0, place: int = 0) -> bytes:
    return told("response.reasoning_text.delta", output_index=place, content_index=part, delta=delta)


def added(item: dict[str, Any], place: int = 0) -> bytes:
    return told("response.output_item.added", output_index=place, item=item)


def done(item: dict[str, Any], place: int = 0) -> bytes:
    return told("response.output_item.done", output_index=place, item=item)


def arguments(delta: str, place: int = 0) -> bytes:
    return told("response.function_call_arguments.delta", output_index=place, item_id="fc", delta=delta)


OPEN = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm. So."}]}
BARE = {"type": "reasoning", "id": "rs_1", "summary": []}
CALL_STARTS = BlockStart(0, "tool_call", "c1", "look")

STREAMS: dict[str, tuple[tuple[bytes, ...], list[Event]]] = {
    "a blank line between the parts of a summary": (
        (created(), summary("One,", 0), summary(" two.", 0), summary("Three.", 1), done(BARE), completed()),
        [START, *block("thinking", "One,", " two.", "\n\nThree."), FINISH],
    ),
    "raw reasoning of an open model goes back as it came": (
        (created(), raw("Hm. "), raw("So."), done(OPEN), completed()),
        [
            START,
            BlockStart(0, "thinking"),
            Delta(0, "thinking", "Hm. "),
            Delta(0, "thinking", "So."),
            BlockEnd(0, {"responses": OPEN}),
            FINISH,
        ],
    ),
    "sealed reasoning that says nothing is kept": (
        (created(), done({**SEALED, "summary": [], "status": None}), text("Hi", 1), done(MESSAGE, 1), completed()),
        [
            START,
            BlockStart(0, "thinking"),
            BlockEnd(0, {"responses": {**SEALED, "summary": []}}),
            *block("text", "Hi", index=1),
            FINISH,
        ],
    ),
    "reasoning of which only a name is told is not": (
        (created(), done(BARE), completed()),
        [START, FINISH],
    ),
    "a message that was not told in pieces": (
        (created(), added(MESSAGE), done(MESSAGE), completed()),
        [START, *block("text", "Hello"), FINISH],
    ),
    "a summary that was not told in pieces": (
        (created(), done(SEALED), completed()),
        [
            START,
            BlockStart(0, "thinking"),
            Delta(0, "thinking", "Let me see."),
            BlockEnd(0, {"responses": SEALED}),
            FINISH,
        ],
    ),
    "an output that comes with the end": (
        (created(), completed(MESSAGE, CALL)),
        [
            START,
            *block("text", "Hello"),
            BlockStart(1, "tool_call", "c1", "look"),
            Delta(1, "tool_call", '{"at":1}'),
            BlockEnd(1),
            CALLED,
        ],
    ),
    "calls side by side": (
        (
            created(),
            added({**CALL, "arguments": ""}),
            added({**CALL, "call_id": "c2", "name": "now"}, 1),
            arguments("{}", 1),
            arguments('{"at":1}'),
            done({**CALL, "call_id": "c2", "name": "now", "arguments": "{}"}, 1),
            done(CALL),
            completed(),
        ),
        [
            START,
            CALL_STARTS,
            BlockStart(1, "tool_call", "c2", "now"),
            Delta(1, "tool_call", "{}"),
            Delta(0, "tool_call", '{"at":1}'),
            BlockEnd(1),
            BlockEnd(0),
            CALLED,
        ],
    ),
    "a call that was not told in pieces": (
        (created(), done(CALL), completed()),
        [START, CALL_STARTS, Delta(0, "tool_call", '{"at":1}'), BlockEnd(0), CALLED],
    ),
    "arguments before their call": (
        (created(), arguments('{"at"'), added(CALL), arguments(":1}"), done(CALL), completed()),
        [START, CALL_STARTS, Delta(0, "tool_call", '{"at"'), Delta(0, "tool_call", ":1}"), BlockEnd(0), CALLED],
    ),
    "a call without its end": (
        (created(), added({**CALL, "arguments": ""}), completed()),
        [START, CALL_STARTS, Delta(0, "tool_call", "{}"), BlockEnd(0), CALLED],
    ),
    "two messages": (
        (created(), text("One"), text("Two", 1), text("."  , 1), completed()),
        [START, *block("text", "One"), *block("text", "Two", ".", index=1), FINISH],
    ),
    "an item that only this wire has": (
        (created(), done({"type": "compaction", "id": "x"}), completed()),
        [START, Unknown("responses", {"type": "compaction", "id": "x"}), FINISH],
    ),
    "text without a beginning": (
        (text("Hi"), completed()),
        [Start(), *block("text", "Hi"), FINISH],
    ),
    "empty pieces": (
        (created(), text(""), text("Hi"), text(""), summary("", 0, 1), completed()),
        [START, *block("text", "Hi"), FINISH],
    ),
    "events of no meaning here": (
        (created(), told("response.audio.delta", delta="AAAA"), told("keepalive"), text("Hi"), completed()),
        [START, *block("text", "Hi"), FINISH],
    ),
    "incomplete without a reason": (
        (created(), text("Hi"), completed(status="incomplete")),
        [START, *block("text", "Hi"), Finish("length", Usage(11, 7, 8, 4))],
    ),
    "usage that is not told": (
        (created(), text("Hi"), completed(usage=None)),
        [START, *block("text", "Hi"), Finish("stop", Usage())],
    ),
    "obfuscation": (
        (created(), text("Hi", obfuscation="xxxx", logprobs=[]), completed()),
        [START, *block("text", "Hi"), FINISH],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("pieces", "wanted"), STREAMS.values(), ids=STREAMS)
def test_stream(pieces: tuple[bytes, ...], wanted: list[Event]) -> None:
    assert read(*pieces) == wanted


def test_an_item_of_this_wire_alone_is_kept_in_a_whole_answer() -> None:
    item = {"type": "compaction", "id": "x"}
    body = json.dumps({"id": "r", "status": "completed", "output": [item, MESSAGE]}).encode()
    assert read_reply(body).blocks == [Opaque("responses", item), Text("Hello")]


def test_what_follows_the_end_is_not_read() -> None:
    reader = Reader()
    assert isinstance(reader.feed(created() + completed())[-1], Finish)
    assert reader.feed(text("more")) == [] and reader.end() == []
    assert not reader.ending


# -- failures ----------------------------------------------------------------------------------------------------------

SERVER = {"code": "server_error", "message": "The model broke."}
RATE = {"code": "rate_limit_exceeded", "message": "Slow down."}
FAILURES: dict[str, tuple[tuple[bytes, ...], str, int, Scope]] = {
    "failed": ((created(), completed(status="failed", error=SERVER)), "The model broke.", 502, Scope.PROVIDER),
    "throttled": ((created(), completed(status="failed", error=RATE)), "Slow down.", 429, Scope.THROTTLE),
    "out of credit": (
        (completed(status="failed", error={"code": "insufficient_quota", "message": "Pay."}),),
        "Pay.", 502, Scope.KEY,
    ),
    "the caller's picture": (
        (completed(status="failed", error={"code": "image_too_large", "message": "Too large."}),),
        "Too large.", 400, Scope.CALLER,
    ),
    "too long": (
        (told("error", code="context_length_exceeded", message="Too long.", param="input"),),
        "Too long.", 400, Scope.CALLER,
    ),
    "error event": ((created(), told("error", **SERVER, param=None)), "The model broke.", 502, Scope.PROVIDER),
    "error inside the event": ((told("error", error=SERVER),), "The model broke.", 502, Scope.PROVIDER),
    "error without a type": ((b'data: {"error":{"message":"No."}}\n\n',), "No.", 502, Scope.PROVIDER),
    "an error that says nothing": (
        (completed(status="failed", error=None),),
        "the provider reported an error without any words", 502, Scope.PROVIDER,
    ),
    "cancelled": (
        (told("response.cancelled", response={"status": "cancelled"}),),
        "the provider sent no finished response", 502, Scope.PROVIDER,
    ),
    "not JSON": ((created(), b"data: {x\n\n"), "the provider sent a frame that is not JSON", 502, Scope.PROVIDER),
    "ends": ((created(), text("Hi")), "the provider broke off in the middle of its answer", 502, Scope.PROVIDER),
    "the other wire's end": (
        (created(), text("Hi"), b"data: [DONE]\n\n"),
        "the provider broke off in the middle of its answer", 502, Scope.PROVIDER,
    ),
    "nothing": ((), "the provider sent no answer", 502, Scope.PROVIDER),
    "a whole error": ((b'{"error":{"message":"No."}}',), "No.", 502, Scope.PROVIDER),
    "a page": ((b"<html>",), "the provider sent no answer", 502, Scope.PROVIDER),
    "half an object": ((b'{"id":',), "the provider sent a reply that is not JSON", 502, Scope.PROVIDER),
}  # fmt: skip


@pytest.mark.parametrize(("pieces", "words", "status", "scope"), FAILURES.values(), ids=FAILURES)
def test_failure(pieces: Iterable[bytes], words: str, status: int, scope: Scope) -> None:
    last = read(*pieces)[-1]
    assert isinstance(last, Failed)
    assert (last.error.message, last.error.status, last.error.scope) == (words, status, scope)


def test_a_whole_answer_to_a_stream_request() -> None:
    _, whole = play(SCRIPTS["calls"][0])
    assert fold(read(whole[:20], whole[20:])) == finished(SCRIPTS["calls"][1])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"status":"in_progress"}', "no finished response"),
        (b'{"error":{"message":"No."}}', "No."),
        (b'{"id":"r","status":"failed","error":{"code":"server_error","message":"Broken."},"output":[]}', "Broken."),
    ],
    ids=["page", "list", "unfinished", "error", "failed"],
)
def test_what_is_no_whole_answer(body: bytes, words: str) -> None:
    with pytest.raises(GatewayError, match=words):
        read_reply(body)


@given(st.binary(max_size=60))
def test_garbage_never_raises(data: bytes) -> None:
    assert isinstance(read(created(), data)[-1], Failed)
