"""The plain dialect alone: bodies read, replies and errors written, and text that comes through server-sent events as
it was said.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_bridge.dialects.base import CHAT, ModelView, Moment
from ollama_bridge.dialects.plain import STREAM, PlainDialect
from ollama_bridge.errors import GatewayError, model_not_found
from ollama_bridge.events import BlockEnd, BlockStart, Delta, Event, Finish, Start
from ollama_bridge.values import (
    ChatRequest,
    EmbedReply,
    EmbedRequest,
    Media,
    Message,
    Reply,
    Sampling,
    Text,
    Thinking,
    Usage,
)

PLAIN = PlainDialect()
NOW = Moment(wall_ns=1_790_000_000_000_000_000, elapsed_ns=5_000_000)
HI = {"role": "user", "content": "Hi"}
PNG = "iVBORw0KGgo="


def decoded(body: Any, kind: str = CHAT) -> ChatRequest:
    request = PLAIN.decode(kind, json.dumps(body).encode())
    assert isinstance(request, ChatRequest)
    return request


def hi(**more: Any) -> dict[str, Any]:
    return {"messages": [HI], **more}


# -- requests --------------------------------------------------------------------------------------------------------


def test_a_body_with_everything() -> None:
    body = {
        "messages": [{"role": "system", "content": "Be short."}, HI, {"role": "assistant", "content": ""}, HI],
        "model": "fast",
        "provider": "groq",
        "task": "chat",
        "privacy_mode": "strict",
        "temperature": 0.5,
        "max_tokens": 9,
    }
    assert decoded(body) == ChatRequest(
        model="fast",
        messages=[
            Message("system", [Text("Be short.")]),
            Message("user", [Text("Hi")]),
            Message("assistant", [Text("")]),
            Message("user", [Text("Hi")]),
        ],
        sampling=Sampling(temperature=0.5, max_tokens=9),
        privacy="strict",
        task="chat",
        provider="groq",
    )


@pytest.mark.parametrize("kind", [CHAT, STREAM])
def test_the_endpoint_says_whether_it_is_a_stream(kind: str) -> None:
    assert decoded(hi(stream=kind == CHAT), kind).stream is (kind == STREAM)


@pytest.mark.parametrize("value", [None, ""], ids=["null", "empty"])
def test_what_is_not_said_is_not_set(value: Any) -> None:
    said = dict.fromkeys(("model", "provider", "task", "privacy_mode"), value)
    assert (
        decoded(hi(**said, temperature=None, max_tokens=None))
        == decoded(hi())
        == ChatRequest(model="", messages=[Message("user", [Text("Hi")])])
    )


def test_other_members_are_not_looked_at() -> None:
    odd = {**HI, "name": 7, "tool_calls": "x"}
    assert decoded({"messages": [odd], "tools": 7, "n": "x", "top_p": []}) == decoded(hi())


def test_parts() -> None:
    url = "https://example.com/a.png"
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "image_url", "image_url": url},
    ]
    [message] = decoded({"messages": [{"role": "user", "content": parts}]}).messages
    assert message.blocks == [Text("What is this?"), Media(mime="image/png", data=PNG), Media(url=url)]


def message(role: Any = "user", content: Any = "Hi") -> dict[str, Any]:
    return {"messages": [HI, {"role": role, "content": content}]}


REFUSED = {
    "no-json": (b"{", "unexpected EOF", None),
    "no-body": (b"", "the request has no body", None),
    "no-object": (b"[]", "Invalid type for 'body'", "body"),
    "no-messages": (b"{}", "'messages'", "messages"),
    "messages-null": (b'{"messages":null}', "'messages'", "messages"),
    "messages-empty": (b'{"messages":[]}', "too short", "messages"),
    "messages-text": (b'{"messages":"Hi"}', "'messages'", "messages"),
    "message-text": (b'{"messages":["Hi"]}', "'messages[0]'", "messages[0]"),
    "role-missing": (message(None), "'messages[1].role'", "messages[1].role"),
    "role-unknown": (message("tool"), "'system', 'user', 'assistant'", "messages[1].role"),
    "role-number": (message(7), "'messages[1].role'", "messages[1].role"),
    "content-missing": (message(content=None), "'messages[1].content'", "messages[1].content"),
    "content-number": (message(content=7), "'messages[1].content'", "messages[1].content"),
    "part-unknown": (message(content=[{"type": "file"}]), "'text' and 'image_url'", "messages[1].content[0].type"),
    "part-audio": (
        message(content=[{"type": "text", "text": ""}, {"type": "input_audio", "input_audio": {"data": ""}}]),
        "'text' and 'image_url'",
        "messages[1].content[1].type",
    ),
    "part-without-text": (message(content=[{"type": "text"}]), "content[0].text", "messages[1].content[0].text"),
    "image-no-address": (
        message(content=[{"type": "image_url", "image_url": "file:///etc/passwd"}]),
        "http(s) address or a data URL",
        "messages[1].content[0].image_url",
    ),
    "model-number": (hi(model=7), "'model'", "model"),
    "provider-list": (hi(provider=[]), "'provider'", "provider"),
    "task-number": (hi(task=7), "'task'", "task"),
    "privacy-unknown": (hi(privacy_mode="secret"), "'strict' and 'flexible'", "privacy_mode"),
    "temperature-text": (hi(temperature="hot"), "'temperature'", "temperature"),
    "temperature-true": (hi(temperature=True), "'temperature'", "temperature"),
    "max_tokens-zero": (hi(max_tokens=0), "1 and above", "max_tokens"),
    "max_tokens-fraction": (hi(max_tokens=1.5), "'max_tokens'", "max_tokens"),
}


@pytest.mark.parametrize(("body", "words", "param"), REFUSED.values(), ids=REFUSED)
def test_refused(body: Any, words: str, param: str | None) -> None:
    with pytest.raises(GatewayError) as caught:
        PLAIN.decode(CHAT, body if isinstance(body, bytes) else json.dumps(body).encode())
    assert (caught.value.status, caught.value.param) == (400, param)
    assert words in caught.value.message


CAPABLE = {
    "chat": (ChatRequest("m"), "completion", "embedding", '"m:latest" does not support chat'),
    "embedding": (EmbedRequest("m", ["a"]), "embedding", "completion", '"m:latest" does not support embeddings'),
}


@pytest.mark.parametrize(("request_", "can", "cannot", "words"), CAPABLE.values(), ids=CAPABLE)
def test_what_a_model_cannot_do(request_: Any, can: str, cannot: str, words: str) -> None:
    PLAIN.check(CHAT, request_, ModelView("m:latest", frozenset({can})))
    with pytest.raises(GatewayError, match=words) as caught:
        PLAIN.check(CHAT, request_, ModelView("m:latest", frozenset({cannot})))
    assert caught.value.status == 400


# -- whole answers ---------------------------------------------------------------------------------------------------


def test_a_reply_names_who_really_answered() -> None:
    reply = Reply(
        [Thinking("hm"), Text("Hello"), Text(" <there>\u2028")],
        usage=Usage(prompt=5, completion=3),
        model="llama-3.3-70b",
        provider="groq",
    )
    answer = PLAIN.write_reply(CHAT, decoded(hi(model="fast")), reply, NOW)
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert list(json.loads(answer.body).items()) == [
        ("text", "Hello <there>\u2028"),
        ("provider", "groq"),
        ("model", "llama-3.3-70b"),
        ("provider_meta", {"tokens_total": 8, "tokens_prompt": 5, "tokens_completion": 3}),
    ]


def test_tokens_that_nobody_told_are_estimated() -> None:
    answer = PLAIN.write_reply(CHAT, decoded(hi()), Reply([Text("x" * 41)], provider="p", model="m"), NOW)
    told = json.loads(answer.body)["provider_meta"]
    assert told == {"tokens_total": 12, "tokens_prompt": 1, "tokens_completion": 11}


def test_vectors_come_in_openais_shape() -> None:
    reply = EmbedReply([[0.5, 0.25]], Usage(prompt=2))
    answer = PLAIN.write_reply(CHAT, EmbedRequest("m", ["Hi"]), reply, NOW)
    assert json.loads(answer.body) == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
        "model": "m",
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }


def test_an_error() -> None:
    error = GatewayError("slow down", status=429, retry_after=1.2)
    answer = PLAIN.write_error(STREAM, error, stream=True)
    assert (answer.status, answer.content_type, answer.headers) == (429, "application/json", {"Retry-After": "2"})
    assert answer.body == b'{"error":"slow down"}'
    assert PLAIN.write_error(CHAT, model_not_found("x"), False).body == b'{"error":"model \'x\' not found"}'


# -- streams ---------------------------------------------------------------------------------------------------------


def streamed(pieces: list[str]) -> bytes:
    """Each piece in a write of its own, between thoughts that nobody is shown."""
    writer = PLAIN.writer(STREAM, decoded(hi(), STREAM))
    assert writer.content_type == "text/event-stream"
    thought: list[Event] = [BlockStart(0, "thinking"), Delta(0, "thinking", "hm"), BlockEnd(0)]
    out = writer.write([Start(), *thought, BlockStart(1, "text")], NOW)
    for piece in pieces:
        out += writer.write([Delta(1, "text", piece)], NOW)
    return out + writer.write([BlockEnd(1), Finish("stop")], NOW)


def heard(stream: bytes) -> list[tuple[str, str]]:
    """(event, data) of each event, read as the standard says (WHATWG HTML, 9.2.6)."""
    events, name, data = [], "", ""
    for line in re.split("\r\n|\r|\n", stream.decode()):
        field, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                events.append((name or "message", data.removesuffix("\n")))
            name = data = ""
        elif field == "data":
            data += value + "\n"
        elif field == "event":
            name = value
        else:
            assert not field and colon, line
    return events


def test_a_stream() -> None:
    assert streamed(["Hello,", " you.\n\n  - one\n", "\n", "bye"]) == (
        b"data: Hello,\n\ndata:  you.\ndata: \ndata:   - one\ndata: \n\ndata: \ndata: \n\ndata: bye\n\ndata: [DONE]\n\n"
    )


ODD = st.sampled_from(
    [
        "\r", "\n", "\r\n", " ", "  ", "\t", ":", "data: ", "event: error", "[DONE]", "[DON", "E]", "\n[DONE]\n",
        "\u2028", "\x85", "\x0b", "\x0c", "\x1c", "\0", "\ufeff", "😀", "é", "<&>", '"', "\\",
    ]
)  # fmt: skip
PIECES = st.lists(st.lists(ODD | st.text(max_size=3), max_size=5).map("".join), max_size=8)


@given(PIECES)
@example(["\r", "\n", "\n", "\r", "", "\nx"])
@example(["[DONE]"])
@example(["a\n[DONE]", "\n[DONE][DONE]\r\n[DONE]"])
@example([" leading", "  more", "\ufeff"])
def test_text_comes_through_as_it_was_said(pieces: list[str]) -> None:
    *said, last = heard(streamed(pieces))
    assert last == ("message", "[DONE]")
    assert ("message", "[DONE]") not in said
    assert "".join(data for _, data in said) == re.sub("\r\n?", "\n", "".join(pieces))
    assert {name for name, _ in said} <= {"message"}


@given(PIECES)
def test_the_models_words_do_not_end_the_stream_for_who_reads_lines(pieces: list[str]) -> None:
    assert streamed(pieces).split(b"\n").count(b"data: [DONE]") == 1


def test_an_error_in_a_stream() -> None:
    writer = PLAIN.writer(STREAM, decoded(hi(), STREAM))
    stream = writer.write([BlockStart(0, "text"), Delta(0, "text", "Hel")], NOW)
    stream += writer.fail(GatewayError("cut\r\nshort <\u2028>", status=502), NOW)
    assert heard(stream)[0] == ("message", "Hel")
    [(name, data)] = heard(stream)[1:]
    assert (name, json.loads(data)) == ("error", {"error": "cut\r\nshort <\u2028>"})


def test_the_heart_beat_is_no_event() -> None:
    writer = PLAIN.writer(STREAM, decoded(hi(), STREAM))
    assert heard(writer.heartbeat + streamed(["a"])) == heard(streamed(["a"]))
