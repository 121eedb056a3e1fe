"""The OpenAI dialect: requests, replies and streams relayed byte by byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_chunks import (
    COUNTED,
    call,
    chunk,
    cuts,
    frames,
    json_frames,
    relayed,
    single_bytes,
    whole_reply,
)

from ollama_bridge.dialects.base import CHAT
from ollama_bridge.dialects.openai import OpenAIDialect
from ollama_bridge.dialects.openai import relay as openai_relay
from ollama_bridge.errors import GatewayError
from ollama_bridge.values import (
    ChatRequest,
    Message,
    Text,
    Usage,
)

DIALECT = OpenAIDialect()


def ask(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=list(messages) or [Message("user", [Text("Hi")])], **fields)


# -- relay -------------------------------------------------------------------------------------------------------------
def test_relay_changes_only_what_it_may() -> None:
    messages = b'[ {"role":"user","content":"\\u00e9  "} ]'
    own = b'"privacy_mode":"strict","task":"chat","provider":"p"'
    body = b'{"model":"fast", "messages": ' + messages + b"," + own + b',"x":1.50}'
    assert DIALECT.relay(body, "up", ask()) == b'{"model":"up","messages":' + messages + b',"x":1.50}'


def test_relay_leaves_openrouters_own_provider() -> None:
    body = b'{"model":"fast","provider":{"order":["x"]}}'
    assert DIALECT.relay(body, "up", ask()) == b'{"model":"up","provider":{"order":["x"]}}'


def test_relay_asks_for_usage() -> None:
    body = b'{"model":"fast","stream":true,"stream_options":{"include_obfuscation":false}}'
    out = DIALECT.relay(body, "up", ask(stream=True))
    assert json.loads(out or b"") == {
        "model": "up",
        "stream": True,
        "stream_options": {"include_obfuscation": False, "include_usage": True},
    }


@pytest.mark.parametrize(
    "body", [b'{"model":"m"} x', b"[]", b'{"model":"m","options":{}}', b'{"model":"m","keep_alive":5}']
)
def test_what_cannot_be_relayed(body: bytes) -> None:
    assert DIALECT.relay(body, "up", ask()) is None


def test_relay_reply_keeps_every_other_byte() -> None:
    body = (
        b'{\n  "choices": [{"message": {"content": "my \\"model\\": \\"up\\""}}],\n  "model" : "up",\n'
        b'  "usage":{"prompt_tokens":9,"completion_tokens":4}, "z": 1.0\n}'
    )
    out, usage = DIALECT.relay_reply(CHAT, body, ask())
    assert out == body.replace(b'"model" : "up"', b'"model" : "m"')
    assert usage == Usage(9, 4)


def test_relay_reply_raises_the_error_inside() -> None:
    with pytest.raises(GatewayError, match="boom"):
        DIALECT.relay_reply(CHAT, b'{"error":{"message":"boom","code":500}}', ask())
    with pytest.raises(GatewayError, match="not a JSON object"):
        DIALECT.relay_reply(CHAT, b"<html>", ask())


RELAYED = frames(
    chunk({"role": "assistant", "content": ""}),
    *(
        chunk({"content": piece}, system_fingerprint=None)
        for piece in ("He", "l", 'lo "model":"up" data: {', "\u0085é")
    ),
    call(0, "c", name="f", arguments='{"model":"up","usage":1,"error":2}'),
    chunk(finish="tool_calls"),
    COUNTED,
)
RENAMED = RELAYED.replace(b'"created":1,"model":"up"', b'"created":1,"model":"my/\xc3\xa9"')


@pytest.mark.parametrize("asked", [True, False], ids=["usage asked", "usage not asked"])
@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_tap_is_byte_exact_wherever_the_reads_end(asked: bool, ends: bytes) -> None:
    wanted = RENAMED if asked else b"\n\n".join(RENAMED.split(b"\n\n")[:-3]) + b"\n\ndata: [DONE]\n\n"
    stream, wanted = RELAYED.replace(b"\n", ends), wanted.replace(b"\n", ends)
    request = ChatRequest(model="my/é", stream=True, include_usage=asked)
    for parts in (*cuts(stream), single_bytes(stream), [stream]):
        tap = DIALECT.tap(CHAT, request)
        assert relayed(tap, parts) == wanted
        assert (tap.finished, tap.content, tap.error, tap.usage) == (True, True, None, Usage(9, 4))


# Frames that may stand anywhere before the end of a stream, plain ones and others, as they come and as they leave.
COMMON = {
    "text": frames(chunk({"content": " sky"}), done=False),
    "text to escape": frames(chunk({"content": 'a "model":"up" \n data: {}é'}), done=False),
    "thought": frames(chunk({"reasoning_content": "hm"}), done=False),
    "arguments": frames(call(0, arguments='{"usage":null}'), done=False),
    "openai": b'data: {"id":"c","model":"up","choices":[{"index":0,"delta":{"content":"x"},"logprobs":null,'
    b'"finish_reason":null}],"usage":null,"obfuscation":"wq3"}\n\n',
    "spaced": b'data:{ "choices": [{"delta": {"content": "x"}, "finish_reason": ""}], "model" : "up",'
    b' "usage":null }\n\n',
    "bare": b'data: {"choices":[{"delta":{"content":"x"}}],"model":"up"}\n\n',
    "another model": b'data: {"choices":[{"delta":{"content":"x"}}],"model":"other"}\n\n',
    "counted": frames(chunk({"content": "x"}, usage={"prompt_tokens": 3}), done=False),
    "named event": b'event: chunk\ndata: {"choices":[{"delta":{"content":"x"},"finish_reason":null}],"model":"up"}\n\n',
    "comment": b": PROCESSING\n\n",
    "no content": frames(chunk({}), done=False),
    "no model": b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n',
    "crlf": b'data: {"choices":[{"delta":{"content":"x"}}],"model":"up"}\r\n\r\n',
}
RENAMING = {
    b'"created":1,"model":"up"': b'"created":1,"model":"m"', b'"id":"c","model":"up"': b'"id":"c","model":"m"',
    b'"model" : "up"': b'"model":"m"', b'"}}],"model":"up"': b'"}}],"model":"m"',
    b'}],"model":"up"': b'}],"model":"m"', b'"model":"other"': b'"model":"m"',
}  # fmt: skip


def renamed(frame: bytes) -> bytes:
    for theirs, ours in RENAMING.items():
        frame = frame.replace(theirs, ours)
    return frame


CLOSING = frames(chunk(finish="stop"), COUNTED)


@given(
    runs=st.lists(st.tuples(st.sampled_from(sorted(COMMON)), st.integers(1, 6)), min_size=1, max_size=6),
    reads=st.lists(st.integers(1, 1500)),
)
def test_tap_tells_plain_frames_from_others_in_any_order(runs: list[tuple[str, int]], reads: list[int]) -> None:
    told = [COMMON[name] for name, times in runs for _ in range(times)]
    stream = b"".join(told) + CLOSING
    tap = DIALECT.tap(CHAT, ask(stream=True, include_usage=True))
    parts, at = [], 0
    for size in [*reads, len(stream)]:
        parts.append(stream[at : at + size])
        at += size
    assert relayed(tap, parts) == b"".join(map(renamed, told)) + renamed(CLOSING)
    assert (tap.finished, tap.error, tap.usage) == (True, None, Usage(9, 4))


@pytest.mark.parametrize("second", ["text", "openai", "bare"])
@pytest.mark.parametrize("first", ["text", "thought", "openai", "spaced", "bare"])
def test_tap_decodes_few_plain_frames(first: str, second: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes a relayed token cheap; without it everything would still be right, and five times as dear."""
    decoded = 0
    decode = openai_relay.loads

    def loads(data: bytes) -> Any:
        nonlocal decoded
        decoded += b"choices" in data
        return decode(data)

    monkeypatch.setattr(openai_relay, "loads", loads)
    tap = DIALECT.tap(CHAT, ask(stream=True, include_usage=True))
    for part in (COMMON["no content"] + 100 * COMMON[first], 100 * COMMON[first], COMMON[first], 50 * COMMON[first]):
        tap.feed(part)
    assert decoded == 2  # the one without content, and the first that has some
    for part in (100 * COMMON[second], 100 * COMMON[second] + CLOSING):
        tap.feed(part)
    assert decoded <= 2 + 1 + 5  # one that looks different, and what stands at the end of the stream
    assert (tap.finished, tap.usage) == (True, Usage(9, 4))


@pytest.mark.parametrize("name", ["text", "openai", "spaced", "bare"])
def test_tap_sees_the_end_among_plain_frames(name: str) -> None:
    plain = COMMON[name]
    ends = (
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"model":"up"}\n\n'
        b'data: {"choices":[],"model":"up","usage":{"prompt_tokens":9,"completion_tokens":4}}\n\n'
    )
    for parts in ([20 * plain + ends + 20 * plain], [plain, 20 * plain + ends + 20 * plain], [plain, ends]):
        tap = DIALECT.tap(CHAT, ask(stream=True, include_usage=True))
        assert relayed(tap, parts).endswith(b"data: [DONE]\n\n")
        assert (tap.finished, tap.error, tap.usage) == (True, None, Usage(9, 4))


@pytest.mark.parametrize("name", ["text", "openai", "spaced", "bare"])
def test_tap_sees_a_done_among_plain_frames(name: str) -> None:
    """Some services give no finish reason."""
    tap = DIALECT.tap(CHAT, ask(stream=True))
    stream = 20 * COMMON[name] + b"data: [DONE]\n\n"
    assert relayed(tap, [COMMON[name], stream + COMMON[name]]) == renamed(COMMON[name] + stream + COMMON[name])
    assert tap.finished and tap.error is None


def test_tap_leaves_a_stream_alone_whose_model_has_the_clients_name() -> None:
    tap = DIALECT.tap(CHAT, ChatRequest(model="up", stream=True, include_usage=True))
    stream = (
        b"".join(COMMON.values()).replace(b'"other"', b'"up"').replace(b'"model" : "up"', b'"model":"up"') + CLOSING
    )
    assert relayed(tap, [stream]) == stream


def test_tap_holds_half_a_frame_back() -> None:
    tap = DIALECT.tap(CHAT, ask(stream=True))
    stream = frames(chunk({"content": "a"}), chunk({"content": "b"}), done=False)
    assert tap.feed(stream[:-5]) == stream.split(b"\n\n")[0].replace(b'"up"', b'"m"') + b"\n\n"
    assert tap.feed(b"") == b""
    assert json_frames(tap.end()) == [] and tap.error is not None
    assert not tap.finished


def test_tap_gives_a_last_frame_its_blank_line() -> None:
    tap = DIALECT.tap(CHAT, ask(stream=True))
    stream = frames(chunk({"content": "a"}), chunk(finish="stop"), done=False)
    assert relayed(tap, [stream.rstrip()]) == stream.replace(b'"up"', b'"m"') + b"data: [DONE]\n\n"
    assert tap.finished


def test_tap_content_begins_with_something_to_show() -> None:
    tap = DIALECT.tap(CHAT, ask(stream=True))
    tap.feed(b": PROCESSING\n\n" + frames(chunk({"role": "assistant", "content": ""}), done=False))
    assert not tap.content
    tap.feed(frames(chunk({"reasoning": "hm"}), done=False))
    assert tap.content


TAP_FAILURES = {
    "error frame": frames({"error": {"message": "boom", "code": 500}}),
    "error event": b'event: error\ndata: {"error":{"message":"boom"}}\n\n',
    "error beside choices": frames(chunk({"content": "x"}, error={"message": "boom"})),
    "reason error": frames(chunk({}, "error")),
    "garbage": b'data: {"choices":[{"index":0,"delta":{"content":"ha\n\n',
    "half a frame that looks whole": COMMON["text"][:-3] + b"\n\n",
    "half of another": COMMON["openai"][:-3] + b"\n\n",
    "error at the end of a plain frame": COMMON["openai"].replace(b'"wq3"', b'"wq3","error":{"message":"boom"}'),
}


@pytest.mark.parametrize("bad", TAP_FAILURES.values(), ids=TAP_FAILURES)
@pytest.mark.parametrize("name", ["text", "openai", "spaced", "bare"])
def test_tap_tells_a_failure_and_does_not_pass_it_on(name: str, bad: bytes) -> None:
    good = 3 * COMMON[name]
    for parts in ([good + bad + good], [good, bad, good], [good, good + bad + good]):
        tap = DIALECT.tap(CHAT, ask(stream=True))
        assert relayed(tap, parts) == renamed(b"".join(parts).partition(bad)[0])
        assert tap.error is not None and not tap.finished


@pytest.mark.parametrize(
    ("body", "words"),
    [(b'{"error":{"message":"boom"}}', "boom"), (whole_reply({"content": "a"}), "a whole reply")],
    ids=["error", "reply"],
)
def test_tap_cannot_relay_a_whole_body(body: bytes, words: str) -> None:
    tap = DIALECT.tap(CHAT, ask(stream=True))
    assert relayed(tap, [body]) == b""
    assert tap.error is not None and words in tap.error.message
