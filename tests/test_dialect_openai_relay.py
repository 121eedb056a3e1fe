"""The OpenAI dialect: requests, replies and streams relayed byte by byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
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
    body = b'{"model":"fast", "messages": ' + messages + b',"privacy_mode":"strict","task":"chat","x":1.50}'
    assert DIALECT.relay(body, "up", ask()) == b'{"model":"up","messages":' + messages + b',"x":1.50}'


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
    "half a frame that looks whole": frames(chunk({"content": "x"}), done=False)[:-3] + b"\n\n",
}


@pytest.mark.parametrize("bad", TAP_FAILURES.values(), ids=TAP_FAILURES)
def test_tap_tells_a_failure_and_does_not_pass_it_on(bad: bytes) -> None:
    good = frames(chunk({"content": "a"}), chunk({"content": "b"}), done=False)
    for parts in ([good + bad + good], [good, bad, good]):
        tap = DIALECT.tap(CHAT, ask(stream=True))
        assert relayed(tap, parts) == good.replace(b'"up"', b'"m"')
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
