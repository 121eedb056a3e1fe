"""The native Ollama dialect: whole answers, streams written and read, relay, and recorded exchanges."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import FOLDER, needs_recordings

from ollama_bridge.dialects.base import CHAT, EMBED, EMBED_ONE, GENERATE, Moment, Profile
from ollama_bridge.dialects.ollama import OllamaDialect, context
from ollama_bridge.errors import (
    GatewayError,
    Scope,
)
from ollama_bridge.events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, Start, fold, unfold
from ollama_bridge.values import (
    ChatRequest,
    EmbedReply,
    EmbedRequest,
    Message,
    Reply,
    Text,
    Thinking,
    ToolCall,
    Usage,
)

KINDS = {"/api/chat": CHAT, "/api/generate": GENERATE, "/api/embed": EMBED, "/api/embeddings": EMBED_ONE}
NOW = Moment(wall_ns=1_795_261_023_120_000_000, elapsed_ns=900, first_ns=300)

dialect = OllamaDialect()
profile = Profile()


# -- whole answers -----------------------------------------------------------------------------------------------------


def whole(kind: str, request: ChatRequest, reply: Reply, now: Moment = NOW) -> str:
    return dialect.write_reply(kind, request, reply, now).body.decode()


def test_chat_reply_byte_for_byte() -> None:
    request = ChatRequest("m", [Message("user", [Text("12345")])], logprobs=True)
    reply = Reply(
        [Thinking("hm"), Text("<b>é\x85"), ToolCall("f", '{"b":1,"a":2}', "c1")],
        "tool_calls",
        Usage(prompt=7, completion=3),
        logprobs=[
            {"token": "é", "logprob": 0.0, "bytes": [195, 169], "top_logprobs": [{"token": "x", "logprob": -1.0}]}
        ],
    )
    assert whole(CHAT, request, reply) == (
        '{"model":"m","created_at":"2026-11-21T11:37:03.12Z","message":{"role":"assistant",'
        '"content":"\\u003cb\\u003eé\\u0085","thinking":"hm","tool_calls":[{"id":"c1","function":{"index":0,"name":"f",'
        '"arguments":{"b":1,"a":2}}}]},"done":true,"done_reason":"stop",'
        '"logprobs":[{"token":"é","logprob":0,"bytes":[195,169]}],"total_duration":900,"load_duration":1,'
        '"prompt_eval_count":7,"prompt_eval_duration":300,"eval_count":3,"eval_duration":600}'
    )


def test_generate_reply_byte_for_byte() -> None:
    request = ChatRequest("m", [Message("user", [Text("12345")])])
    numbers = context.encode(context.pack([("user", "12345")]), "Hi")
    usage = Usage(total_ns=10, load_ns=2, prompt_ns=3, completion_ns=4)
    assert whole(GENERATE, request, Reply([Text("Hi")], "length", usage)) == (
        '{"model":"m","created_at":"2026-11-21T11:37:03.12Z","response":"Hi","done":true,"done_reason":"length",'
        f'"context":{json.dumps(numbers, separators=(",", ":"))},"total_duration":10,"load_duration":2,'
        '"prompt_eval_count":2,"prompt_eval_duration":3,"eval_count":1,"eval_duration":4}'
    )


@pytest.mark.parametrize(("reason", "word"), [("load", "load"), ("unload", "unload")])
def test_load_answers_have_no_metrics(reason: str, word: str) -> None:
    chat = json.loads(whole(CHAT, ChatRequest("m", intent="load"), Reply(reason=reason)))
    assert list(chat) == ["model", "created_at", "message", "done", "done_reason"]
    assert chat["done_reason"] == word
    generate = json.loads(whole(GENERATE, ChatRequest("m", intent="load"), Reply(reason=reason)))
    assert list(generate) == ["model", "created_at", "response", "done", "done_reason"]


def test_durations_are_never_zero() -> None:
    for now in (Moment(0, 0, None), Moment(0, 0, 0), Moment(0, 50, 50), Moment(0, 3, 1)):
        line = json.loads(whole(CHAT, ChatRequest("m"), Reply([Text("x")], "stop"), now))
        assert all(line[f"{name}_duration"] >= 1 for name in ("total", "load", "prompt_eval", "eval"))
        assert line["created_at"] == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(("think", "shown"), [(None, True), (True, True), ("low", True), (False, False)])
def test_thinking_is_dropped_only_where_it_was_switched_off(think: Any, shown: bool) -> None:
    request, reply = ChatRequest("m", think=think), Reply([Thinking("hm"), Text("x")], "stop")
    assert ("thinking" in json.loads(whole(CHAT, request, reply))["message"]) is shown
    assert (b"hm" in dialect.writer(CHAT, request).write(unfold(reply), NOW)) is shown


def test_embed_reply() -> None:
    request = EmbedRequest("m", ["a", "bcdef"], dimensions=2)
    answer = dialect.write_reply(EMBED, request, EmbedReply([[3.0, 4.0, 12.0], [0.6, 0.8]]), NOW)
    assert answer.body == (
        b'{"model":"m","embeddings":[[0.6,0.8],[0.6,0.8]],"total_duration":900,"load_duration":1,"prompt_eval_count":2}'
    )
    empty = dialect.write_reply(EMBED, EmbedRequest("m", []), EmbedReply([]), NOW)
    assert empty.body == b'{"model":"m","embeddings":[]}'


def test_old_embeddings_reply_is_widened_and_not_normalised() -> None:
    answer = dialect.write_reply(EMBED_ONE, EmbedRequest("m", ["a"]), EmbedReply([[0.1, 3.0, -0.0]]), NOW)
    assert answer.body == b'{"embedding":[0.10000000149011612,3,-0]}'
    empty = dialect.write_reply(EMBED_ONE, EmbedRequest("m", []), EmbedReply([]), NOW)
    assert empty.body == b'{"embedding":[]}'


def test_vector_that_is_not_finite_is_refused_in_ollamas_words() -> None:
    with pytest.raises(GatewayError, match="embedding contains NaN or Inf values"):
        dialect.write_reply(EMBED, EmbedRequest("m", ["a"]), EmbedReply([[1e300, 1e300]]), NOW)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CHAT, b""), (CHAT, b"[1]"), (CHAT, b'{"done":"x"}'), (CHAT, b'{"message":{"content":"x"},"done":false}'),
        (CHAT, b'{"error":"boom"}'), (EMBED, b"{}"), (EMBED, b"x"), (EMBED_ONE, b'{"embedding":["x"]}'),
        (EMBED, b'{"error":"boom"}'),
    ],
)  # fmt: skip
def test_what_is_no_reply_is_a_providers_failure(kind: str, body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        dialect.read_reply(kind, body, profile)
    assert (caught.value.scope, caught.value.status) == (Scope.PROVIDER, 502)


# -- streams -----------------------------------------------------------------------------------------------------------


def read_stream(kind: str, data: bytes, cuts: tuple[int, ...] = ()) -> list[Event]:
    reader = dialect.reader(kind, profile)
    events: list[Event] = []
    at = 0
    for cut in (*cuts, len(data)):
        events += reader.feed(data[at:cut])
        at = cut
    return events + reader.end()


def without_error_objects(events: list[Event]) -> list[Any]:
    return [str(event.error) if isinstance(event, Failed) else event for event in events]


EVENTS: list[Event] = [
    Start(model="up"),
    BlockStart(0, "thinking"),
    Delta(0, "thinking", "hm"),
    Delta(0, "thinking", " ok"),
    BlockEnd(0),
    BlockStart(1, "text"),
    Delta(1, "text", "Hé\u2028"),
    Delta(1, "text", ""),
    Delta(1, "text", "", [{"token": "x", "logprob": -0.5, "bytes": [120]}]),
    BlockEnd(1),
    BlockStart(2, "tool_call", "c1", "f"),
    BlockStart(3, "tool_call", None, "g"),
    Delta(2, "tool_call", '{"a"'),
    Delta(3, "tool_call", ""),
    Delta(2, "tool_call", ": [1,2]}"),
    BlockEnd(2),
    BlockEnd(3),
    Finish("tool_calls", Usage(prompt=5, completion=2)),
]


def test_chat_stream_line_by_line() -> None:
    writer = dialect.writer(CHAT, ChatRequest("m<", stream=True, logprobs=True))
    lines = writer.write(EVENTS, NOW).decode().splitlines(keepends=False)
    head = '{"model":"m\\u003c","created_at":"2026-11-21T11:37:03.12Z","message":{"role":"assistant","content":'
    made = json.loads(lines[5])["message"]["tool_calls"][0]["id"]
    assert re.fullmatch("call_[a-z0-9]{8}", made)
    assert lines == [
        head + '"","thinking":"hm"},"done":false}',
        head + '"","thinking":" ok"},"done":false}',
        head + '"Hé\\u2028"},"done":false}',
        head + '""},"done":false,"logprobs":[{"token":"x","logprob":-0.5,"bytes":[120]}]}',
        head + '"","tool_calls":[{"id":"c1","function":{"index":0,"name":"f","arguments":{"a":[1,2]}}}]},"done":false}',
        head
        + f'"","tool_calls":[{{"id":"{made}","function":{{"index":1,"name":"g","arguments":{{}}}}}}]}},"done":false}}',
        head + '""},"done":true,"done_reason":"stop","total_duration":900,"load_duration":1,"prompt_eval_count":5,'
        '"prompt_eval_duration":300,"eval_count":2,"eval_duration":600}',
    ]


def test_each_event_written_alone_gives_the_same_lines() -> None:
    request = ChatRequest("m", stream=True, logprobs=True)
    alone = dialect.writer(CHAT, request)
    assert b"".join(alone.write([e], NOW) for e in EVENTS) == dialect.writer(CHAT, request).write(EVENTS, NOW)


def test_generate_stream_keeps_calls_and_context_for_the_last_line() -> None:
    lines = dialect.writer(GENERATE, ChatRequest("m", stream=True)).write(EVENTS, NOW).decode().splitlines()
    assert [json.loads(line).get("response") for line in lines] == ["", "", "Hé\u2028", ""]
    assert list(json.loads(lines[-1]))[4:7] == ["done_reason", "context", "total_duration"]
    assert [call["function"]["name"] for call in json.loads(lines[-1])["tool_calls"]] == ["f", "g"]


def test_failure_is_a_line_and_never_a_clean_end() -> None:
    writer = dialect.writer(CHAT, ChatRequest("m"))
    assert writer.fail(GatewayError("<boom>"), NOW) == b'{"error":"\\u003cboom\\u003e"}\n'
    assert (writer.content_type, writer.heartbeat, dict(writer.headers)) == ("application/x-ndjson", b" ", {})
    assert dialect.tap(CHAT, ChatRequest("m")).fail(GatewayError("x"), NOW) == b'{"error":"x"}\n'


def test_a_stream_that_was_written_reads_as_it_was() -> None:
    written = dialect.writer(CHAT, ChatRequest("up", stream=True, logprobs=True)).write(EVENTS, NOW)
    reply = fold(read_stream(CHAT, written))
    assert [type(block).__name__ for block in reply.blocks] == ["Thinking", "Text", "ToolCall", "ToolCall"]
    assert (reply.model, reply.reason, reply.created) == ("up", "tool_calls", 1_795_261_023)
    assert (reply.usage.prompt, reply.usage.completion, reply.usage.total_ns) == (5, 2, 900)
    assert isinstance(reply.blocks[2], ToolCall) and reply.blocks[2].arguments == '{"a":[1,2]}'
    assert reply.logprobs == [{"token": "x", "logprob": -0.5, "bytes": [120]}]


LAST_LINE_WITH_ALL = (
    b'{"model":"m","created_at":"2026-11-21T07:00:00Z","message":{"role":"assistant","content":"","tool_calls":'
    b'[{"function":{"name":"f","arguments":{"done":false}}},{"function":{"name":"g","arguments":"{\\"a\\":1}"}}]},'
    b'"done":true,"done_reason":"stop","eval_count":3}'
)


def test_calls_on_the_last_line_without_line_end() -> None:
    reply = fold(read_stream(CHAT, LAST_LINE_WITH_ALL))
    assert reply.blocks == [ToolCall("f", '{"done":false}'), ToolCall("g", '{"a":1}')]
    assert (reply.reason, reply.usage.completion) == ("tool_calls", 3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"response":"x","done":false}\n', "the provider's answer was cut off"),
        (b'{"response":"x","done":false}\n{"resp', "the provider's answer has a line that is no JSON of Ollama's"),
        (b'{"error":"out of memory"}\n{"done":true}\n', "out of memory"),
        (b"<html>", "the provider's answer has a line that is no JSON of Ollama's"),
        (b"", "the provider's answer was cut off"),
    ],
)
def test_broken_streams_fail(data: bytes, words: str) -> None:
    events = read_stream(GENERATE, data)
    assert isinstance(events[-1], Failed) and events[-1].error.message == words
    assert sum(isinstance(event, Failed) for event in events) == 1


@given(st.binary(max_size=300), st.integers(0, 300))
def test_a_reader_never_raises(data: bytes, cut: int) -> None:
    assert isinstance(read_stream(CHAT, data, (min(cut, len(data)),))[-1], Failed)


# -- relay -------------------------------------------------------------------------------------------------------------


def test_relay_changes_the_model_only() -> None:
    body = b'{"model":"mine","messages":[{"content":"\\u0041"}],"options":{"temperature":1.50},"x":1e2,"task":"t"}'
    request = dialect.decode(CHAT, body)
    assert dialect.relay(body, "up:1b", request) == body.replace(b'"mine"', b'"up:1b"').replace(b',"task":"t"', b"")


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[{"images":["data:image/png;base64,aGVsbG8="]}]}',
        b'{"model":"m","messages":[{"images":["https://example.com/a.png"]}]}',
        b'{"model":"m","messages":[],"format":"{\\"type\\":\\"object\\"}"}',
        b'{"model":"m","messages":[]} tail',
    ],
    ids=["data URL", "address", "schema as text", "tail"],
)
def test_what_a_real_ollama_would_refuse_is_not_relayed(body: bytes) -> None:
    assert dialect.relay(body, "up", dialect.decode(CHAT, body)) is None


@pytest.mark.parametrize(
    ("body", "renamed"),
    [
        (
            b'{"model":"up","a":1.0,"done":true,"eval_count":3}',
            b'{"model":"mine\\u003c","a":1.0,"done":true,"eval_count":3}',
        ),
        (b'{"a":[1, 2],"model":"up","eval_count":3}\n', b'{"a":[1, 2],"model":"mine\\u003c","eval_count":3}\n'),
        (b'{"model":"u\\"p","eval_count":3}', b'{"model":"mine\\u003c","eval_count":3}'),
    ],
)
def test_relayed_reply(body: bytes, renamed: bytes) -> None:
    assert dialect.relay_reply(CHAT, body, ChatRequest("mine<")) == (renamed, Usage(completion=3))


def test_relayed_reply_that_is_none_passes() -> None:
    assert dialect.relay_reply(EMBED, b"<html>", EmbedRequest("m", [])) == (b"<html>", Usage())


def stream_of(model: str, remote: str = "") -> bytes:
    return (
        dialect.writer(CHAT, ChatRequest(model, stream=True, logprobs=True))
        .write(EVENTS, NOW)
        .replace(b'","created_at', f'",{remote}"created_at'.encode())
    )


@pytest.mark.parametrize("model", ["up", "mine", 'u"p,x', "a,b"])
@pytest.mark.parametrize("step", [1, 7, 100, 10_000])
def test_tap_puts_the_name_back_however_the_bytes_come(model: str, step: int) -> None:
    theirs, ours = stream_of(model, '"remote_host":"h",'), stream_of("mine", '"remote_host":"h",')
    tap = dialect.tap(CHAT, ChatRequest("mine"))
    out = b"".join(tap.feed(theirs[at : at + step]) for at in range(0, len(theirs), step)) + tap.end()
    assert out == ours
    assert (tap.finished, tap.content, tap.error) == (True, True, None)
    assert (tap.usage.prompt, tap.usage.completion) == (5, 2)


def test_tap_passes_many_plain_lines_at_once() -> None:
    request = ChatRequest("up", stream=True)
    text = [Delta(0, "text", f"piece {i}") for i in range(9)]
    first = dialect.writer(CHAT, request).write([BlockStart(0, "text"), *text], NOW)
    last = dialect.writer(CHAT, request).write([Finish("stop", Usage(completion=9))], NOW)
    tap = dialect.tap(CHAT, ChatRequest("mine"))
    cut = first.index(b"\n") + 1
    out = tap.feed(first[:cut]) + tap.feed(first[cut:]) + tap.feed(last)
    assert out == (first + last).replace(b'"up"', b'"mine"')
    assert (tap.finished, tap.usage.completion) == (True, 9)


def test_tap_sees_errors_and_cuts() -> None:
    tap = dialect.tap(CHAT, ChatRequest("mine"))
    line = b'{"model":"up","message":{"content":"x"},"done":false}\n'
    assert tap.feed(line + b'{"model":"up","mess') == line.replace(b"up", b"mine")
    assert (tap.end(), tap.finished, tap.content) == (b"", False, True)
    failing = dialect.tap(CHAT, ChatRequest("mine"))
    assert failing.feed(b'{"error":"boom"}\n') == b""  # told by `error`, so that it is written once
    assert failing.error is not None and failing.error.message == "boom"
    assert (failing.finished, failing.content) == (False, False)


@pytest.mark.parametrize(
    ("status", "words", "to"),
    [
        (500, 'option "temperature" must be of type float32', 400),
        (500, 'invalid format: "xml"; expected "json" or a valid JSON Schema object', 400),
        (501, "This server does not support embeddings. Start it with `--embeddings`", 400),
        (500, "model runner has unexpectedly stopped", None),
        (404, "model 'x' not found", None),
    ],
)
def test_a_clients_mistake_that_ollama_finds_late(status: int, words: str, to: int | None) -> None:
    error = dialect.read_error(status, {}, json.dumps({"error": words}).encode())
    assert (error.message, error.status) == (words, to)


def test_tap_takes_a_last_line_without_line_end() -> None:
    tap = dialect.tap(CHAT, ChatRequest("mine"))
    assert tap.feed(LAST_LINE_WITH_ALL) == b""
    assert tap.end() == LAST_LINE_WITH_ALL.replace(b'"model":"m"', b'"model":"mine"')
    assert (tap.finished, tap.usage.completion) == (True, 3)


# -- recorded ----------------------------------------------------------------------------------------------------------


def recorded(endpoints: set[str]) -> list[Any]:
    found = []
    for file in sorted((FOLDER / "ollama").glob("*.json")):
        case = json.loads(file.read_text())
        if case["endpoint"] in endpoints:
            found.append(pytest.param(case, id=file.stem))
    return found


@needs_recordings
def test_recordings_are_all_read() -> None:
    assert len(recorded(set(KINDS))) >= 8


@needs_recordings
@pytest.mark.parametrize("case", recorded(set(KINDS)))
def test_recorded_exchange(case: dict[str, Any]) -> None:
    kind, data = KINDS[case["endpoint"]], case["response_text"].encode()
    if case["request"] is not None:
        assert dialect.decode(kind, json.dumps(case["request"]).encode()).model == case["model"]
    if case["status"] >= 400:
        assert dialect.read_error(case["status"], {}, data).message == json.loads(data)["error"]
        return
    if not case["stream"]:
        reply = dialect.read_reply(kind, data, profile)
        if isinstance(reply, Reply):
            message = json.loads(data)["message"]
            assert "".join(b.text for b in reply.blocks if isinstance(b, Text)) == message["content"]
            assert reply.reason == ("tool_calls" if message.get("tool_calls") else "stop")
        return
    lines = [json.loads(line) for line in data.splitlines()]
    events = read_stream(kind, data)
    said = [line.get("message", line) for line in lines]
    reply = fold(events)
    text = "".join(block.text for block in reply.blocks if isinstance(block, Text))
    assert text == "".join(message.get("content", message.get("response", "")) for message in said)
    thought = "".join(block.text for block in reply.blocks if isinstance(block, Thinking))
    assert thought == "".join(message.get("thinking", "") for message in said)
    calls = [block for block in reply.blocks if isinstance(block, ToolCall)]
    sent = [call["function"] for message in said for call in message.get("tool_calls", ())]
    assert [(c.name, json.loads(c.arguments)) for c in calls] == [(f["name"], f["arguments"]) for f in sent]
    assert reply.usage.completion == lines[-1]["eval_count"]
    whole_events = without_error_objects(events)
    for cut in range(len(data)):
        assert without_error_objects(read_stream(kind, data, (cut,))) == whole_events
