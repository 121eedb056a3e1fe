"""The Gemini dialect: answers of the service read, whole and streamed, cut anywhere, broken; and the recorded traffic.

What a recorded answer must come to is written by hand and read from the recording by a walker of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import FOLDER, needs_recordings

from ollama_bridge.dialects.base import CHAT, EMBED, Profile
from ollama_bridge.dialects.gemini import GeminiDialect
from ollama_bridge.errors import CONTENT_FILTER, GatewayError, Scope, classify
from ollama_bridge.events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, Start, Unknown, fold
from ollama_bridge.providers.google import read_models
from ollama_bridge.values import EmbedReply, Opaque, Reply, Text, Thinking, ToolCall, Usage

DIALECT = GeminiDialect()
COUNTS = {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}
USAGE = Usage(9, 4)


def chunk(*parts: dict[str, Any], finish: str | None = None, counts: Any = None, **candidate: Any) -> dict[str, Any]:
    told = {} if finish is None else {"finishReason": finish}
    return {
        "candidates": [{"content": {"parts": list(parts), "role": "model"}, **told, "index": 0, **candidate}],
        "usageMetadata": COUNTS if counts is None else counts,
        "modelVersion": "m-1",
        "responseId": "r1",
    }


def say(text: str, **more: Any) -> dict[str, Any]:
    return chunk({"text": text}, **more)


def think(text: str, **more: Any) -> dict[str, Any]:
    return chunk({"text": text, "thought": True, **more})


def call(name: str = "f", signature: str | None = None, **call: Any) -> dict[str, Any]:
    part: dict[str, Any] = {"functionCall": {"name": name, **call}}
    return part | ({"thoughtSignature": signature} if signature else {})


END = say("", finish="STOP")


def frames(*chunks: Any, line: bytes = b"\r\n") -> bytes:
    return b"".join(b"data: " + json.dumps(each, ensure_ascii=False).encode() + line * 2 for each in chunks)


def read(stream: bytes, parts: Iterable[bytes] | None = None) -> list[Event]:
    reader = DIALECT.reader(CHAT, Profile())
    events = [event for part in parts or [stream] for event in reader.feed(part)]
    return events + reader.end()


def failure(events: list[Event]) -> GatewayError:
    assert isinstance(events[-1], Failed), events
    return events[-1].error


def content(reply: Reply) -> Reply:
    """Without what is the same in all of these answers."""
    assert (reply.id, reply.model) == ("r1", "m-1")
    reply.id = reply.model = None
    return reply


def signed(signature: str) -> dict[str, Any]:
    return {"gemini": {"thoughtSignature": signature}}


def token(text: str, logprob: float, **more: Any) -> dict[str, Any]:
    return {"token": text, "tokenId": 7, "logProbability": logprob, **more}


LOGPROBS = {
    "chosenCandidates": [token("Hé", -0.25), token("!", 0)],
    "topCandidates": [{"candidates": [token("Hé", -0.25), token("H", -1.5)]}],
}
HEARD = [
    {
        "token": "Hé",
        "logprob": -0.25,
        "bytes": [72, 195, 169],
        "top_logprobs": [
            {"token": "Hé", "logprob": -0.25, "bytes": [72, 195, 169]},
            {"token": "H", "logprob": -1.5, "bytes": [72]},
        ],
    },
    {"token": "!", "logprob": 0, "bytes": [33], "top_logprobs": []},
]
CODE = {"executableCode": {"language": "PYTHON", "code": "print(1)"}}
SIGNED_TEXT = {"text": "", "thoughtSignature": "s"}

# id: chunks, what they fold to (id and model left out)
ANSWERS: dict[str, tuple[list[Any], Reply]] = {
    "text": ([say("Hel"), say("lo"), END], Reply([Text("Hello")], usage=USAGE)),
    "one chunk": ([say("Hello", finish="STOP")], Reply([Text("Hello")], usage=USAGE)),
    "several parts": ([chunk({"text": "a"}, {"text": "b"}, finish="STOP")], Reply([Text("ab")], usage=USAGE)),
    "thoughts": ([think("h"), think("m"), say("4"), END], Reply([Thinking("hm"), Text("4")], usage=USAGE)),
    "thoughts again": (
        [think("a"), say("b"), think("c"), say("d"), END],
        Reply([Thinking("a"), Text("b"), Thinking("c"), Text("d")], usage=USAGE),
    ),
    "thought false is text": ([chunk({"text": "a", "thought": False}), END], Reply([Text("a")], usage=USAGE)),
    "thought and text in one chunk": (
        [chunk({"text": "hm", "thought": True}, {"text": "4"}, finish="STOP")],
        Reply([Thinking("hm"), Text("4")], usage=USAGE),
    ),
    "a signed thought": (
        [think("h"), think("m", thoughtSignature="s"), say("4"), END],
        Reply([Thinking("hm", vendor=signed("s")), Text("4")], usage=USAGE),
    ),
    "only a signature on a thought": (
        [think("", thoughtSignature="s"), say("4"), END],
        Reply([Thinking("", vendor=signed("s")), Text("4")], usage=USAGE),
    ),
    "signed text": (
        [say("a"), chunk({"text": "b", "thoughtSignature": "s"}), say("c"), END],
        Reply([Text("ab"), Opaque("gemini", SIGNED_TEXT), Text("c")], usage=USAGE),
    ),
    "a signature at the end": (
        [say("a"), chunk(SIGNED_TEXT, finish="STOP")],
        Reply([Text("a"), Opaque("gemini", SIGNED_TEXT)], usage=USAGE),
    ),
    "a call": (
        [chunk(call(id="c1", args={"b": 1, "a": "é"})), END],
        Reply([ToolCall("f", '{"b":1,"a":"é"}', "c1")], "tool_calls", USAGE),
    ),
    "a call without id or arguments": (
        [chunk(call()), END],
        Reply([ToolCall("f", "{}", "call_r1_0")], "tool_calls", USAGE),
    ),
    "calls without ids": (
        [chunk(call(), call("g")), chunk(call(id="own")), chunk(call("h"), finish="STOP")],
        Reply(
            [
                ToolCall("f", "{}", "call_r1_0"),
                ToolCall("g", "{}", "call_r1_1"),
                ToolCall("f", "{}", "own"),
                ToolCall("h", "{}", "call_r1_3"),
            ],
            "tool_calls",
            USAGE,
        ),
    ),
    "the first of two calls is signed": (
        [chunk(call(signature="s", id="a")), chunk(call(id="b")), END],
        Reply([ToolCall("f", "{}", "a", signed("s")), ToolCall("f", "{}", "b")], "tool_calls", USAGE),
    ),
    "text, then a call": (
        [say("Well. "), chunk(call(id="a"), finish="STOP")],
        Reply([Text("Well. "), ToolCall("f", "{}", "a")], "tool_calls", USAGE),
    ),
    "length": ([say("a", finish="MAX_TOKENS")], Reply([Text("a")], "length", USAGE)),
    "length within a call": (
        [chunk(call(id="a"), finish="MAX_TOKENS")],
        Reply([ToolCall("f", "{}", "a")], "length", USAGE),
    ),
    "to be continued": ([say("a", finish="CONTINUATION")], Reply([Text("a")], "length", USAGE)),
    "filtered": ([say("a"), say("", finish="SAFETY")], Reply([Text("a")], "content_filter", USAGE)),
    "filtered, with words": (
        [chunk(finish="PROHIBITED_CONTENT", finishMessage="Not this.")],
        Reply([Text("Not this.")], "content_filter", USAGE),
    ),
    "words for who has heard nothing": (
        [say("a"), chunk(finish="RECITATION", finishMessage="Not this.")],
        Reply([Text("a")], "content_filter", USAGE),
    ),
    "filtered without content": (
        [{**chunk(), "candidates": [{"content": {}, "finishReason": "SAFETY"}]}],
        Reply([], "content_filter", USAGE),
    ),
    "another reason": ([say("a", finish="OTHER")], Reply([Text("a")], "stop", USAGE)),
    "a reason of tomorrow": ([say("a", finish="TIRED")], Reply([Text("a")], "stop", USAGE)),
    "malformed, after text": (
        [say("a"), say("", finish="MALFORMED_FUNCTION_CALL")],
        Reply([Text("a")], "stop", USAGE),
    ),
    "a reason in every chunk": (
        [say("a", finish="STOP"), say("b", finish="STOP"), say("c", finish="MAX_TOKENS")],
        Reply([Text("abc")], "length", USAGE),
    ),
    "empty": ([END], Reply([], "stop", USAGE)),
    "no content at all": (
        [{**chunk(), "candidates": [{"finishReason": "STOP", "index": 0}]}],
        Reply([], "stop", USAGE),
    ),
    "a second answer is not ours": (
        [say("a"), chunk({"text": "X"}, index=1), END],
        Reply([Text("a")], usage=USAGE),
    ),
    "logprobs": (
        [say("Hé!", logprobsResult=LOGPROBS), END],
        Reply([Text("Hé!")], usage=USAGE, logprobs=HEARD),
    ),
    "logprobs alone": (
        [say("", finish="STOP", logprobsResult=LOGPROBS)],
        Reply([], usage=USAGE, logprobs=HEARD),
    ),
    "what no one else knows": (
        [say("a"), chunk(CODE), say("b"), END],
        Reply([Text("a"), Opaque("gemini", CODE), Text("b")], usage=USAGE),
    ),
    "counts": (
        [
            say("a", counts={"promptTokenCount": 9, "totalTokenCount": 9}),
            say(
                "b",
                finish="STOP",
                counts={
                    "promptTokenCount": 9,
                    "toolUsePromptTokenCount": 100,
                    "candidatesTokenCount": 4,
                    "thoughtsTokenCount": 30,
                    "cachedContentTokenCount": 8,
                    "totalTokenCount": 143,
                },
            ),
        ],
        Reply([Text("ab")], usage=Usage(109, 34, 8, 30)),
    ),
    "counts of nothing are left out": (
        [chunk(finish="SAFETY", counts={"promptTokenCount": 9, "totalTokenCount": 9})],
        Reply([], "content_filter", Usage(9, 0)),
    ),
    "counts that came earlier": (
        [say("a"), say("b", counts={}), {**END, "usageMetadata": None}],
        Reply([Text("ab")], usage=USAGE),
    ),
    "no counts": ([say("a", finish="STOP", counts={})], Reply([Text("a")])),
    "feedback without a block": (
        [{**say("a"), "promptFeedback": {"safetyRatings": []}}, END],
        Reply([Text("a")], usage=USAGE),
    ),
    "only counts first": (
        [{"usageMetadata": COUNTS, "responseId": "r1"}, say("a"), END],
        Reply([Text("a")], usage=USAGE),
    ),
    "a line break of Unicode": ([say("a\x85\u2028b\n"), END], Reply([Text("a\x85\u2028b\n")], usage=USAGE)),
}
CASES = pytest.mark.parametrize(("chunks", "wanted"), ANSWERS.values(), ids=ANSWERS)


@CASES
@pytest.mark.parametrize("line", [b"\r\n", b"\n", b"\r"], ids=["crlf", "lf", "cr"])
def test_streams(chunks: list[Any], wanted: Reply, line: bytes) -> None:
    assert content(fold(read(frames(*chunks, line=line)))) == wanted


@CASES
def test_a_stream_as_one_json_list(chunks: list[Any], wanted: Reply) -> None:
    """So the service answers without `alt=sse`."""
    assert content(fold(read(json.dumps(chunks, indent=2).encode()))) == wanted


def whole(chunks: list[Any]) -> dict[str, Any]:
    """The chunks' parts in one."""
    parts = [part for each in chunks for part in each.get("candidates", [{}])[0].get("content", {}).get("parts", [])]
    last = chunks[-1]
    counts = next((each["usageMetadata"] for each in reversed(chunks) if each.get("usageMetadata")), {})
    logprobs = [each["candidates"][0]["logprobsResult"] for each in chunks if "logprobsResult" in str(each)]
    more = {"logprobsResult": logprobs[0]} if logprobs else {}
    return {
        **last,
        "candidates": [{**last["candidates"][0], "content": {"parts": parts}, **more}],
        "usageMetadata": counts,
    }


@pytest.mark.parametrize("name", [name for name in ANSWERS if name != "a second answer is not ours"])
def test_whole_replies(name: str) -> None:
    chunks, wanted = ANSWERS[name]
    reply = DIALECT.read_reply(CHAT, json.dumps(whole(chunks)).encode(), Profile())
    assert isinstance(reply, Reply)
    assert content(reply) == wanted


@CASES
def test_events_are_in_order(chunks: list[Any], wanted: Reply) -> None:
    events = read(frames(*chunks))
    assert isinstance(events[0], Start) and isinstance(events[-1], Finish)
    opened: list[int] = []
    for event in events[1:-1]:
        if isinstance(event, BlockStart):
            assert not opened
            opened = [event.index]
        elif isinstance(event, BlockEnd):
            assert opened == [event.index]
            opened = []
        elif isinstance(event, Delta):
            assert opened == [event.index]
        else:
            assert isinstance(event, Unknown) and not opened
    assert not opened
    starts = [event.index for event in events if isinstance(event, BlockStart)]
    assert starts == list(range(len(starts)))


@CASES
def test_every_cut_gives_the_same_events(chunks: list[Any], wanted: Reply) -> None:
    stream = frames(*chunks)
    events = read(stream)
    for at in range(1, len(stream)):
        assert read(stream, (stream[:at], stream[at:])) == events
    assert read(stream, [stream[at : at + 1] for at in range(len(stream))]) == events


def test_what_arrives_together_leaves_together_and_at_once() -> None:
    reader = DIALECT.reader(CHAT, Profile())
    assert [type(event) for event in reader.feed(frames(say("a")))] == [Start, BlockStart, Delta]
    assert reader.feed(frames(say("b"), say("c"))) == [Delta(0, "text", "b"), Delta(0, "text", "c")]
    assert not reader.ending
    reader.feed(frames(END))
    assert reader.ending
    assert reader.end() == [BlockEnd(0), Finish("stop", USAGE)]
    assert reader.end() == reader.feed(frames(say("d"))) == []


def test_calls_of_two_answers_have_different_ids() -> None:
    ids = set()
    for answer in ("CrFaqLbNpfYkdUP-bmpoAw", "CrFaqLbNpfYkdUP-bmpoAx", "x" * 200):
        events = read(frames({**chunk(call(), finish="STOP"), "responseId": answer}))
        ids |= {event.id for event in events if isinstance(event, BlockStart)}
    assert len(ids) == 3
    assert all(each and len(each) <= 40 for each in ids)  # the shortest limit another wire has


# -- failures ----------------------------------------------------------------------------------------------------------

OVERLOADED = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
BROKEN: dict[str, tuple[bytes, str, int, Scope]] = {
    "nothing": (b"", "sent no answer", 502, Scope.PROVIDER),
    "blank": (b"\r\n\r\n", "sent no answer", 502, Scope.PROVIDER),
    "no finish reason": (frames(say("a")), "broke off in the middle", 502, Scope.PROVIDER),
    "garbage": (frames(say("a")) + b"data: {\r\n\r\n" + frames(END), "not JSON", 502, Scope.PROVIDER),
    "garbage first": (b"data: hello\r\n\r\n", "not JSON", 502, Scope.PROVIDER),
    "a number": (frames(1), "not JSON", 502, Scope.PROVIDER),
    "a page": (b"<html></html>", "sent no answer", 502, Scope.PROVIDER),
    "half a body": (b'{"candidates": [', "not JSON", 502, Scope.PROVIDER),
    "an object without an answer": (b'{"ok": true}', "without an answer", 502, Scope.PROVIDER),
    "an empty list": (b"[]", "without an answer", 502, Scope.PROVIDER),
    "an error": (frames(OVERLOADED), "The model is overloaded.", 502, Scope.PROVIDER),
    "an error in the middle": (frames(say("a"), OVERLOADED), "The model is overloaded.", 502, Scope.PROVIDER),
    "an error as a body": (json.dumps(OVERLOADED, indent=2).encode(), "overloaded", 502, Scope.PROVIDER),
    "an error in a list": (json.dumps([OVERLOADED]).encode(), "overloaded", 502, Scope.PROVIDER),
    "an error in a list in a frame": (frames([OVERLOADED]), "overloaded", 502, Scope.PROVIDER),
    "an error after the end": (frames(END, OVERLOADED), "overloaded", 502, Scope.PROVIDER),
    "an error that is text": (frames({"error": "no"}), "no", 502, Scope.PROVIDER),
    "an error of odd parts": (frames({"error": {"code": [1], "message": 5}}), "without any words", 502, Scope.PROVIDER),
    "our key": (frames({"error": {"code": 403, "message": "no"}}), "no", 502, Scope.KEY),
    "a bad key as 400": (
        frames({"error": {"code": 400, "message": "API key not valid."}}), "API key not valid.", 502, Scope.KEY,
    ),
    "a rate": (frames({"error": {"code": 429, "message": "slow down"}}), "slow down", 429, Scope.THROTTLE),
    "a bad request": (frames({"error": {"code": 400, "message": "odd"}}), "odd", 400, Scope.CALLER),
    "a blocked prompt": (
        frames({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": COUNTS}),
        "the provider blocked the prompt: PROHIBITED_CONTENT", 400, Scope.CALLER,
    ),
    "a malformed call": (
        frames(chunk(finish="MALFORMED_FUNCTION_CALL", finishMessage="Malformed: f(")),
        "ended its answer with MALFORMED_FUNCTION_CALL: Malformed: f(", 502, Scope.PROVIDER,
    ),
    "a malformed call after a thought": (
        frames(think("hm"), chunk(finish="MALFORMED_RESPONSE")), "MALFORMED_RESPONSE", 502, Scope.PROVIDER,
    ),
    "a call that was not offered": (frames(chunk(finish="UNEXPECTED_TOOL_CALL")), "UNEXPECTED", 502, Scope.PROVIDER),
    "no signature": (frames(chunk(finish="MISSING_THOUGHT_SIGNATURE")), "MISSING_THOUGHT", 502, Scope.PROVIDER),
}  # fmt: skip


@pytest.mark.parametrize(("stream", "words", "status", "scope"), BROKEN.values(), ids=BROKEN)
def test_broken_streams(stream: bytes, words: str, status: int, scope: Scope) -> None:
    events = read(stream)
    error = failure(events)
    assert (words in error.message, error.status, error.scope) == (True, status, scope), error.message
    assert sum(isinstance(event, Failed | Finish) for event in events) == 1
    for at in range(1, len(stream)):
        assert failure(read(stream, (stream[:at], stream[at:]))).message == error.message


def test_a_blocked_prompt_is_told_as_one() -> None:
    stream = frames({"promptFeedback": {"blockReason": "SAFETY"}})
    assert failure(read(stream)).code == CONTENT_FILTER


def test_after_the_finish_reason_garbage_takes_nothing_away() -> None:
    assert isinstance(read(frames(END) + b"data: {\r\n\r\n")[-1], Finish)


@pytest.mark.parametrize(
    ("body", "words", "status"),
    [
        (b"", "not JSON", 502),
        (b"<html>", "not JSON", 502),
        (b"[" * 100_000, "not JSON", 502),
        (b"null", "not JSON", 502),
        (b"{}", "without an answer", 502),
        (b'{"candidates": [1]}', "without an answer", 502),
        (json.dumps(OVERLOADED).encode(), "overloaded", 502),
        (json.dumps([OVERLOADED]).encode(), "overloaded", 502),
        (b'{"promptFeedback": {"blockReason": "SAFETY"}}', "blocked the prompt: SAFETY", 400),
    ],
)
def test_what_is_no_reply(body: bytes, words: str, status: int) -> None:
    with pytest.raises(GatewayError, match=words) as caught:
        DIALECT.read_reply(CHAT, body, Profile())
    assert (caught.value.status, caught.value.provider) == (status, None)


NAMES = [
    "candidates", "content", "parts", "text", "thought", "functionCall", "name", "args", "id", "error", "code",
    "finishReason", "usageMetadata", "promptTokenCount", "promptFeedback", "blockReason", "logprobsResult", "token",
    "chosenCandidates", "logProbability", "thoughtSignature", "index", "message", "details", "status",
]  # fmt: skip
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JUNK, max_size=4), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_no_answer_breaks_the_reader(chunks: list[Any], good: int) -> None:
    """Whatever it says: events that fold, or one failure."""
    for stream in (frames(*[say("a")] * good, *chunks), json.dumps(chunks).encode()):
        events = read(stream)
        assert sum(isinstance(event, Failed | Finish) for event in events) == 1
        try:
            fold(events)
        except GatewayError as error:
            assert isinstance(events[-1], Failed) and error is events[-1].error
        try:
            DIALECT.read_reply(CHAT, stream, Profile())
        except GatewayError:
            pass


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    assert isinstance(read(data)[-1], Failed)
    assert DIALECT.read_error(500, {}, data).message is not None


# -- embeddings --------------------------------------------------------------------------------------------------------


def test_embeddings() -> None:
    body = b'{"embeddings": [{"values": [0.5, -1]}, {"values": [1e-3]}], "usageMetadata": {"promptTokenCount": 4}}'
    assert DIALECT.read_reply(EMBED, body, Profile()) == EmbedReply([[0.5, -1], [1e-3]], Usage(4, 0))
    assert DIALECT.read_reply(EMBED, b'{"embeddings": []}', Profile()) == EmbedReply([])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{}", "without embeddings"),
        (b"[]", "without embeddings"),
        (b"no", "not JSON"),
        (b'{"embeddings": [{}]}', "no list of numbers"),
        (b'{"embeddings": [{"values": [true]}]}', "no list of numbers"),
        (json.dumps(OVERLOADED).encode(), "overloaded"),
    ],
)
def test_what_is_no_embedding(body: bytes, words: str) -> None:
    with pytest.raises(GatewayError, match=words):
        DIALECT.read_reply(EMBED, body, Profile())


# -- recorded answers --------------------------------------------------------------------------------------------------


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "gemini" / f"{name}.json").read_text(encoding="utf-8"))
    return found


GREYS = (
    "The image shows a simple, blurry checkerboard pattern made of two colors: white and a medium gray.\n\n"
    "Specifically, it's a 2x2 grid where:\n*   The top-left square is gray.\n*   The top-right square is white.\n"
    "*   The bottom-left square is white.\n*   The bottom-right square is gray.\n\n"
    "The entire image is significantly out of focus, causing the edges of the squares to be soft and indistinct, "
    "rather than sharp lines. It's an abstract pattern, devoid of specific objects or discernible details beyond the "
    "color blocks."
)
SUM = '{\n  "integer_a": 2,\n  "integer_b": 2,\n  "answer": 4\n}'

# name: text, length of the thoughts, calls (name, arguments, id), reason, usage, signatures by where they stand
SAID: dict[str, tuple[str, int, list[tuple[str, str, str]], str, Usage, dict[str, int]]] = {
    "plain": ("2 + 2 = **4**", 0, [], "stop", Usage(10, 31, None, 23), {}),
    "safety": ("", 0, [], "content_filter", Usage(14, 0), {}),
    "stream-text": ("2", 0, [], "stop", Usage(25, 67, None, 66), {}),
    "stream-max-tokens": ("Here are all 50 U.S.", 0, [], "length", Usage(9, 48, None, 38), {}),
    "stream-image": (GREYS, 0, [], "stop", Usage(277, 694, None, 570), {}),
    "stream-json-schema": (SUM, 736, [], "stop", Usage(13, 338, None, 308), {"text": 1}),
    "stream-thinking": ("", 630, [], "stop", Usage(11, 1416, None, 713), {"text": 1}),
    "stream-tool": (
        "", 0, [("get_country", "{}", "call_QUVVadTSNJ6_qtsPvN7J8Q0_0")], "tool_calls", Usage(29, 212, None, 202),
        {"call": 1},
    ),
    "stream-parallel-tools": (
        "", 0,
        [("favorite_color", '{"_person":"Joe"}', "0b3pdf3o"), ("favorite_color", '{"_person":"Hadley"}', "brynwdxm")],
        "tool_calls", Usage(85, 162, None, 127), {"call": 1},
    ),
}  # fmt: skip


def walked(text: str) -> tuple[str, str, list[str]]:
    """(text, thought, signatures) of a recorded answer, by walking its JSON."""
    bodies = [each.removeprefix("data: ") for each in text.split("\r\n\r\n") if each.strip()]
    parts = [
        part
        for body in bodies
        for candidate in json.loads(body)["candidates"]
        for part in candidate["content"].get("parts", [])
    ]
    said = "".join(part.get("text", "") for part in parts if not part.get("thought"))
    thought = "".join(part["text"] for part in parts if part.get("thought"))
    return said, thought, [part["thoughtSignature"] for part in parts if "thoughtSignature" in part]


@needs_recordings
@pytest.mark.parametrize("name", SAID)
def test_a_recorded_answer_arrives_whole(name: str) -> None:
    text, thoughts, calls, reason, usage, signatures = SAID[name]
    found = recorded(name)
    body = found["response_text"].encode()
    if found["stream"]:
        events = read(body)
        reply = fold(events)
        for at in range(1, len(body)):
            assert read(body, (body[:at], body[at:])) == events
    else:
        answer = DIALECT.read_reply(CHAT, body, Profile())
        assert isinstance(answer, Reply)
        reply = answer
    said = "".join(block.text for block in reply.blocks if isinstance(block, Text))
    thought = "".join(block.text for block in reply.blocks if isinstance(block, Thinking))
    own_text, own_thought, own_signatures = walked(found["response_text"])
    assert (said, thought) == (own_text, own_thought)
    if name == "stream-thinking":
        assert (len(said), said[:22], said[-12:]) == (2680, "Here is a cozy, calmin", "Sleep tight.")
    else:
        assert said == text
    assert len(thought) == thoughts
    assert [(b.name, b.arguments, b.id) for b in reply.blocks if isinstance(b, ToolCall)] == calls
    assert (reply.reason, reply.usage) == (reason, usage)
    assert reply.model == found["model"]
    assert reply.id and reply.id in found["response_text"]
    on_calls = [b.vendor["gemini"]["thoughtSignature"] for b in reply.blocks if isinstance(b, ToolCall) and b.vendor]
    on_text = [b.payload["thoughtSignature"] for b in reply.blocks if isinstance(b, Opaque)]
    assert on_calls + on_text == own_signatures
    assert (len(on_calls), len(on_text)) == (signatures.get("call", 0), signatures.get("text", 0))


@needs_recordings
def test_a_recorded_bad_key_is_ours() -> None:
    found = recorded("error-400-key")
    error = DIALECT.read_error(400, {}, found["response_text"].encode())
    assert (error.code, error.type) == ("API_KEY_INVALID", "INVALID_ARGUMENT")
    failed = classify("up", 400, error, "mine")
    assert (failed.status, failed.scope) == (502, Scope.KEY)
    assert "API key not valid. Please pass a valid API key." in failed.message


@needs_recordings
def test_a_recorded_quota_comes_back() -> None:
    """Its words speak of plan and billing; it says all the same when to come again."""
    found = recorded("error-429")
    error = DIALECT.read_error(429, {"retry-after": "7"}, found["response_text"].encode())
    assert (error.retry_after, error.type) == (48.0, "RESOURCE_EXHAUSTED")
    failed = classify("up", 429, error, "mine")
    assert (failed.status, failed.scope, failed.retry_after) == (429, Scope.THROTTLE, 48.0)
    assert failed.message.startswith("You exceeded your current quota")


@needs_recordings
def test_recorded_embeddings() -> None:
    reply = DIALECT.read_reply(EMBED, recorded("embeddings")["response_text"].encode(), Profile())
    assert isinstance(reply, EmbedReply)
    (vector,) = reply.vectors
    assert (len(vector), vector[:2], vector[-1]) == (768, [-0.039718185, 0.0070917504], 0.017630955)
    assert reply.usage == Usage()


@needs_recordings
def test_recorded_models() -> None:
    """The last page: none of them answers by the calls that the gateway makes."""
    models, token = read_models("lab", recorded("models")["response_text"].encode())
    assert token == ""
    assert [(model.id, model.context_length, model.max_output, model.capabilities) for model in models] == [
        ("veo-3.1-fast-generate-preview", 480, 8192, frozenset()),
        ("gemini-2.5-flash-native-audio-latest", 131_072, 8192, frozenset()),
        ("gemini-2.5-flash-native-audio-preview-09-2025", 131_072, 8192, frozenset()),
        ("gemini-2.5-flash-native-audio-preview-12-2025", 131_072, 8192, frozenset()),
    ]


@needs_recordings
def test_no_recording_is_left_out() -> None:
    others = {"error-400-key", "error-429", "embeddings", "models"}
    assert {path.stem for path in (FOLDER / "gemini").glob("*.json")} == SAID.keys() | others
