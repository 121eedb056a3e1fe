"""The Anthropic dialect on recorded answers of the real service: each read whole, and cut at every byte.

What is expected is found by `told` below, which knows nothing of the dialect.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from openai_chunks import cuts, single_bytes
from recordings import FOLDER, needs_recordings

from ollama_bridge.dialects.anthropic import AnthropicDialect
from ollama_bridge.dialects.base import CHAT, Profile
from ollama_bridge.errors import Scope, classify
from ollama_bridge.events import Event, fold
from ollama_bridge.providers.anthropic import read_models
from ollama_bridge.values import Opaque, Reply, Text, Thinking, ToolCall

DIALECT = AnthropicDialect()
NAMES = (
    "error-401", "json-schema", "models", "plain", "stream-error-404", "stream-image", "stream-max-tokens",
    "stream-parallel-tools", "stream-redacted-thinking", "stream-text", "stream-thinking", "stream-thinking-tool",
    "stream-tool",
)  # fmt: skip
STREAMS = tuple(name for name in NAMES if name.startswith("stream-") and "error" not in name)


def load(name: str) -> dict[str, Any]:
    recording: dict[str, Any] = json.loads((FOLDER / "anthropic" / f"{name}.json").read_text("utf-8"))
    return recording


def body_of(name: str) -> bytes:
    return str(load(name)["response_text"]).encode()


@dataclass
class Told:
    """An answer as the recording tells it. `calls` are (id, name, arguments)."""

    text: str = ""
    thinking: str = ""
    signatures: str = ""
    redacted: list[str] = field(default_factory=list)
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    stop: str = ""
    prompt: int = 0
    completion: int = 0


def told(name: str) -> Told:
    """From the lines of a stream, or the one object of a reply."""
    text = str(load(name)["response_text"])
    if not name.startswith("stream-"):
        return told_whole(json.loads(text))
    values = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    deltas = [value["delta"] for value in values if value["type"] == "content_block_delta"]
    starts = [value["content_block"] for value in values if value["type"] == "content_block_start"]
    last = next(value for value in values if value["type"] == "message_delta")
    pieces: dict[int, str] = {}
    for value in values:
        if value["type"] == "content_block_delta" and "partial_json" in value["delta"]:
            pieces[value["index"]] = pieces.get(value["index"], "") + value["delta"]["partial_json"]
    indexed = [value for value in values if value["type"] == "content_block_start"]
    return Told(
        text="".join(delta.get("text", "") for delta in deltas),
        thinking="".join(delta.get("thinking", "") for delta in deltas),
        signatures="".join(delta.get("signature", "") for delta in deltas),
        redacted=[block["data"] for block in starts if block["type"] == "redacted_thinking"],
        calls=[
            (value["content_block"]["id"], value["content_block"]["name"], json.loads(pieces[value["index"]] or "{}"))
            for value in indexed
            if value["content_block"]["type"] == "tool_use"
        ],
        stop=last["delta"]["stop_reason"],
        prompt=int(re.findall(r'"input_tokens":(\d+)', text)[0]),
        completion=int(re.findall(r'"output_tokens":(\d+)', text)[-1]),
    )


def told_whole(value: dict[str, Any]) -> Told:
    text = "".join(block["text"] for block in value["content"] if block["type"] == "text")
    usage = value["usage"]
    return Told(text, stop=value["stop_reason"], prompt=usage["input_tokens"], completion=usage["output_tokens"])


STOPS = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls"}


def assert_same(reply: Reply, expected: Told) -> None:
    blocks = reply.blocks
    thoughts = [block for block in blocks if isinstance(block, Thinking)]
    assert "".join(block.text for block in blocks if isinstance(block, Text)) == expected.text
    assert "".join(block.text for block in thoughts) == expected.thinking
    assert "".join(block.vendor["anthropic"]["signature"] for block in thoughts) == expected.signatures
    assert [block.payload["data"] for block in blocks if isinstance(block, Opaque)] == expected.redacted
    calls = [(block.id, block.name, json.loads(block.arguments)) for block in blocks if isinstance(block, ToolCall)]
    assert calls == expected.calls
    assert reply.reason == STOPS[expected.stop]
    assert (reply.usage.prompt, reply.usage.completion) == (expected.prompt, expected.completion)


def read(stream: bytes, parts: Iterable[bytes] | None = None) -> list[Event]:
    reader = DIALECT.reader(CHAT, Profile())
    events = [event for part in parts or [stream] for event in reader.feed(part)]
    return events + reader.end()


@needs_recordings
def test_no_recording_is_left_out() -> None:
    assert {path.stem for path in (FOLDER / "anthropic").glob("*.json")} == set(NAMES)


@needs_recordings
@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_arrives_whole(name: str) -> None:
    expected = told(name)
    assert expected.text or expected.calls
    assert_same(fold(read(body_of(name))), expected)


@needs_recordings
@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_may_be_cut_anywhere(name: str) -> None:
    stream = body_of(name)
    events = read(stream)
    for parts in [*cuts(stream), single_bytes(stream)]:
        assert read(stream, parts) == events


@needs_recordings
@pytest.mark.parametrize("name", ["plain", "json-schema"])
def test_a_recorded_reply_arrives_whole(name: str) -> None:
    reply = DIALECT.read_reply(CHAT, body_of(name), Profile())
    assert isinstance(reply, Reply)
    assert_same(reply, told(name))


@needs_recordings
@pytest.mark.parametrize(
    ("name", "words", "kind", "status", "scope"),
    [
        ("error-401", "invalid x-api-key", "authentication_error", 502, Scope.KEY),
        ("stream-error-404", "model: this-model-does-not-exist-12345", "not_found_error", 404, Scope.MODEL),
    ],
)
def test_a_recorded_refusal(name: str, words: str, kind: str, status: int, scope: Scope) -> None:
    recording = load(name)
    wire = DIALECT.read_error(recording["status"], recording["response_headers"], body_of(name))
    assert (wire.message, wire.type) == (words, kind)
    failure = classify("claude", recording["status"], wire, "alias")
    assert (failure.status, failure.scope) == (status, scope)


@needs_recordings
def test_a_recorded_catalogue() -> None:
    models, after = read_models("claude", body_of("models"))
    entries = json.loads(body_of("models"))["data"]
    assert [model.id for model in models] == [entry["id"] for entry in entries]
    assert after is None
    assert models[0].created == 1_763_942_400  # 2025-11-24
    assert {model.capabilities for model in models} == {None}
