"""What is relayed is the upstream's own bytes: every recording of both wires, whole and streamed, wherever the reads
end and wherever the upstream breaks off.

Relays may edit four things and no more: the model's name is put back, a frame of nothing but counts is kept from a
client that has not asked for it, a missing `[DONE]` is added (docs/decisions/0004), an error ends the stream in our
words. `pieces_of` says byte by byte what is edited in a recording, and EDITED how many times each of it happens: an
edit more or less is a failure.

Taps are fed directly, where a stream is cut at every byte; the rest goes through a gateway's sockets.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio
from doors import drain
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import FakeOpenAI
from fakes.script import Cuts, Script, at_random
from gateway import LEAST, Gateway, alias, ollama_provider, openai_provider, running
from openai_chunks import cuts, relayed, single_bytes
from recordings import Recording, load, needs_recordings

from ollama_bridge.dialects.base import Dialect, Profile, Tap
from ollama_bridge.dialects.ollama import OllamaDialect
from ollama_bridge.dialects.openai import OpenAIDialect
from ollama_bridge.errors import GatewayError
from ollama_bridge.values import ChatRequest, EmbedRequest, Message, Text

# Refusals and lists are no relays: they are told in the door's own shape (test_recorded).
RELAYED = {
    name: recording
    for name, recording in load().items()
    if recording.wire in ("openai", "ollama") and recording.status < 400 and recording.kind != "list"
    and "feature-extraction" not in name  # a pipeline's answer, which is another wire
}  # fmt: skip
STREAMED = [name for name, recording in RELAYED.items() if recording.stream]
WHOLE = [name for name in RELAYED if name not in STREAMED]

# What happens to the recordings beside the model's name: where, and how many times.
EDITED = {
    "error": {"groq/stream-error-midway": 1, "openrouter/stream-error-midway": 1},
    "[DONE]": {"huggingface/stream-text": 1, "xai/chat-stream-reasoning-tool": 1},
    "usage": {
        "openai/chat-stream-json-schema": 1, "openai/chat-stream-length-no-content": 1,
        "openai/chat-stream-logprobs": 1, "openai/chat-stream-refusal": 1, "openai/chat-stream-tool": 1,
        "openai/chat-stream-tool-no-args": 1, "openai/chat-stream-usage": 1, "huggingface/stream-image": 1,
        "xai/chat-stream-reasoning-tool": 1,
    },
}  # fmt: skip
NAMES_PUT_BACK = 749
COMPARED_AT_LEAST = {"streams": 312, "cuts": 134_340, "replies": 11, "through a gateway": 127}  # when this was written

OURS = 'our/"name"'  # what the client calls the model: longer than most names, and with something to escape
OUR_NAME = json.dumps(OURS).encode()
DONE = b"data: [DONE]\n\n"
compared: Counter[str] = Counter()


# -- what may be edited, and where -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Piece:
    """A frame as it comes and as it leaves, and what was done to it: "", "name", "usage" or "error". `finish`: the
    answer is whole with it; `said`: it holds something that a client reads."""

    theirs: bytes
    ours: bytes
    edit: str
    finish: bool = False
    said: bool = True


def put_back(frame: bytes, model: Any) -> bytes:
    """The frame with the one member that names the model changed."""
    theirs = json.dumps(model, ensure_ascii=False).encode()
    (member,) = re.findall(rb'"model"\s*:\s*' + re.escape(theirs), frame)
    return frame.replace(member, member.removesuffix(theirs) + OUR_NAME)


def pieces_of(recording: Recording, tells_usage: bool) -> list[Piece]:
    """Up to the end, or to the first error."""
    if recording.vendor == "ollama":
        lines = recording.body.splitlines(keepends=True)
        return [Piece(line, put_back(line, json.loads(line)["model"]), "name") for line in lines]
    pieces: list[Piece] = []
    for frame in re.findall(rb".*?\n\n", recording.body, re.S):
        pieces.append(openai_piece(frame, tells_usage))
        if pieces[-1].edit == "error":
            return pieces
    assert b"".join(piece.theirs for piece in pieces) == recording.body
    return pieces


def openai_piece(frame: bytes, tells_usage: bool) -> Piece:
    found = re.fullmatch(rb"(?:event: (\w+)\n)?data: ?(.*)\n\n", frame)
    if found is None:  # a comment, or what SSE takes for an unknown field
        return Piece(frame, frame, "", said=False)
    if frame == DONE:
        return Piece(frame, frame, "")
    chunk = json.loads(found[2])
    choices = chunk.get("choices") or []
    finish = any(choice.get("finish_reason") for choice in choices)
    if chunk.get("error") or any(choice.get("finish_reason") == "error" for choice in choices):
        return Piece(frame, b"", "error")
    if not choices and chunk.get("usage") and not tells_usage:
        return Piece(frame, b"", "usage")
    return Piece(frame, put_back(frame, chunk["model"]), "name", finish)


def ending(pieces: Iterable[Piece]) -> bytes:
    """What is added after these."""
    added = b""
    for piece in pieces:
        added = DONE if piece.finish else added
        if piece.theirs == DONE or piece.edit == "error":
            return b""
    return added


def passed(pieces: Iterable[Piece]) -> bytes:
    return b"".join(piece.ours for piece in pieces)


def broken_off(pieces: list[Piece], at: int) -> bytes:
    """What the client gets when the upstream ends after `at` bytes: whole frames, and a last one of which only the
    line ends are missing."""
    kept: list[Piece] = []
    for piece in pieces:
        begun, at = piece.theirs[:at], at - len(piece.theirs)
        if at >= 0:
            kept.append(piece)
            continue
        if begun.rstrip() == piece.theirs.rstrip() and piece.said:
            kept.append(replace(piece, ours=piece.ours.rstrip() if piece.theirs.startswith(b"{") else piece.ours))
        break
    return passed(kept) + ending(kept)


def shortened(pieces: list[Piece]) -> list[Piece]:
    """Of frames in a row that differ in nothing but texts and numbers, the first two and the last: cutting a stream of
    hundreds of them at every byte of each would show nothing more."""
    looks = [re.sub(rb': ?(?:"(?:[^"\\]|\\.)*"|[\d.]+)', b":", piece.theirs) for piece in pieces]
    return [
        piece
        for at, piece in enumerate(pieces)
        if at < 2 or at + 1 == len(pieces) or not looks[at - 2] == looks[at - 1] == looks[at] == looks[at + 1]
    ]


# -- streams through the taps ----------------------------------------------------------------------------------------
def dialect_of(recording: Recording) -> Dialect:
    return OllamaDialect() if recording.vendor == "ollama" else OpenAIDialect()


def tap_of(recording: Recording, tells_usage: bool) -> Tap:
    request = ChatRequest(model=OURS, stream=True, include_usage=tells_usage)
    return dialect_of(recording).tap(recording.kind, request)


def reads_of(stream: bytes, name: str) -> Iterator[list[bytes]]:
    """The stream in one read, in reads of one byte, and in reads of many sizes."""
    yield [stream]
    yield single_bytes(stream)
    draw = Random(name)
    for longest in (7, 100, 1000, 10_000):
        edges = [0]
        while edges[-1] < len(stream):
            edges.append(edges[-1] + draw.randint(1, longest))
        yield [stream[start:end] for start, end in pairwise(edges)]


@needs_recordings
@pytest.mark.parametrize("tells_usage", [True, False], ids=["usage asked", "usage not asked"])
@pytest.mark.parametrize("name", STREAMED)
def test_streams_in_reads_of_any_size(name: str, tells_usage: bool) -> None:
    recording = RELAYED[name]
    pieces = pieces_of(recording, tells_usage)
    wanted = passed(pieces) + ending(pieces)
    for reads in reads_of(recording.body, name):
        tap = tap_of(recording, tells_usage)
        assert relayed(tap, reads) == wanted
        assert (tap.error is not None) is (pieces[-1].edit == "error")
        compared["streams"] += 1


@needs_recordings
@pytest.mark.parametrize("name", STREAMED)
def test_streams_cut_at_every_byte(name: str) -> None:
    """In two reads, of which the first gives at once all that is whole in it; and with an end there."""
    recording = RELAYED[name]
    pieces = shortened(pieces_of(recording, tells_usage=False))
    stream = b"".join(piece.theirs for piece in pieces)
    wanted = passed(pieces) + ending(pieces)
    whole, ends = b"", {0: b""}
    for piece in pieces:
        whole += piece.ours
        ends[max(ends) + len(piece.theirs)] = whole
    at_once = b""
    for at, (first, second) in enumerate(cuts(stream)):
        at_once = ends.get(at, at_once)
        tap = tap_of(recording, tells_usage=False)
        assert tap.feed(first) == at_once, at
        assert at_once + tap.feed(second) + tap.end() == wanted, at
        tap = tap_of(recording, tells_usage=False)
        assert tap.feed(first) + tap.end() == broken_off(pieces, at), at
        compared["cuts"] += 2


# -- whole replies ---------------------------------------------------------------------------------------------------
def request_of(recording: Recording) -> ChatRequest | EmbedRequest:
    if recording.kind == "embed":
        return EmbedRequest(model=OURS, inputs=["Hi"])
    return ChatRequest(model=OURS, messages=[Message("user", [Text("Hi")])])


@needs_recordings
@pytest.mark.parametrize("name", WHOLE)
def test_whole_replies(name: str) -> None:
    recording = RELAYED[name]
    out, usage = dialect_of(recording).relay_reply(recording.kind, recording.body, request_of(recording))
    assert out == put_back(recording.body, json.loads(recording.body)["model"])
    assert usage.prompt is not None
    compared["replies"] += 1


@needs_recordings
@pytest.mark.parametrize("name", WHOLE)
def test_replies_cut_at_every_byte_are_none(name: str) -> None:
    """An upstream that says neither a length nor chunks can end anywhere. Whoever relays a reply without counts reads
    it, to learn what is the matter (`policy/answers.py`)."""
    recording = RELAYED[name]
    dialect, request = dialect_of(recording), request_of(recording)
    for at in range(len(recording.body.rstrip())):
        cut = recording.body[:at]
        with pytest.raises(GatewayError):
            _, usage = dialect.relay_reply(recording.kind, cut, request)
            assert (usage.prompt, usage.completion) == (None, None)
            dialect.read_reply(recording.kind, cut, Profile())
        compared["cuts"] += 1


# -- through a gateway's sockets -------------------------------------------------------------------------------------
in_module = pytest.mark.asyncio(loop_scope="module")
PATHS = {
    ("chat", True): "/api/chat", ("generate", True): "/api/generate", ("embed", True): "/api/embed",
    ("chat", False): "/v1/chat/completions", ("embed", False): "/v1/embeddings",
}  # fmt: skip


@dataclass
class World:
    gateway: Gateway
    openai: FakeOpenAI
    ollama: FakeOllama

    async def relayed(self, recording: Recording, writes: Cuts | None, tells_usage: bool) -> bytes:
        """The client's bytes when the upstream sends those of the recording."""
        native = recording.vendor == "ollama"
        path = PATHS[recording.kind, native]
        body = {**LEAST[path], "model": public_name(recording), "stream": recording.stream}
        if recording.stream and tells_usage and not native:
            body["stream_options"] = {"include_usage": True}
        raw = Script(raw=recording.body, content_type=recording.facts["content_type"], cuts=writes)
        (self.ollama if native else self.openai).play(f"up-{public_name(recording)}", raw)
        async with self.gateway.http.post(self.gateway.url + path, json=body) as response:
            received, cut = await drain(response)
            assert (response.status, cut) == (200, False), received
            return received


def public_name(recording: Recording) -> str:
    return recording.name.replace("/", "-")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with FakeOpenAI() as openai, FakeOllama() as ollama:
        providers = {"wire": openai_provider(openai.url), "real": ollama_provider(ollama.url)}
        models = {}
        for recording in RELAYED.values():
            words = {"capabilities": ["embedding"]} if recording.kind == "embed" else {}
            account = "real" if recording.vendor == "ollama" else "wire"
            models[public_name(recording)] = alias(account, f"up-{public_name(recording)}", **words)
        config = {"providers": providers, "models": models}
        async with running(tmp_path_factory.mktemp("relay"), config) as gateway:
            yield World(gateway, openai, ollama)


def writes_of(recording: Recording) -> Iterator[Cuts | None]:
    """All at once, in pieces, and the shorter ones byte by byte."""
    yield None
    if recording.stream:
        yield at_random(recording.name)
        if len(recording.body) < 2000:
            yield lambda data: range(len(data))


@needs_recordings
@in_module
@pytest.mark.parametrize("name", RELAYED)
async def test_through_a_gateway(world: World, name: str) -> None:
    recording = RELAYED[name]
    for tells_usage in (True, False) if recording.stream else (False,):
        pieces = pieces_of(recording, tells_usage) if recording.stream else [whole_piece(recording)]
        pieces = [renamed(piece, public_name(recording)) for piece in pieces]
        for writes in writes_of(recording):
            received = await world.relayed(recording, writes, tells_usage)
            wanted = passed(pieces) + ending(pieces)
            if pieces[-1].edit == "error":
                assert received.startswith(wanted)
                check_error(received.removeprefix(wanted), pieces[-1])
            else:
                assert received == wanted
            compared["through a gateway"] += 1


def whole_piece(recording: Recording) -> Piece:
    return Piece(recording.body, put_back(recording.body, json.loads(recording.body)["model"]), "name")


def renamed(piece: Piece, name: str) -> Piece:
    """As `pieces_of` would have it for a client that calls the model `name`."""
    return replace(piece, ours=piece.ours.replace(OUR_NAME, json.dumps(name).encode()))


def check_error(frame: bytes, piece: Piece) -> None:
    """One frame, in the wire's shape, with the upstream's words."""
    (text,) = re.findall(rb"\Adata: (\{.*\})\n\n\Z", frame)
    (theirs,) = re.findall(rb"data: (\{.*\})", piece.theirs)
    assert json.loads(theirs)["error"]["message"] in json.loads(text)["error"]["message"]


# -- how many --------------------------------------------------------------------------------------------------------
@needs_recordings
def test_edits_are_those_of_the_table() -> None:
    edits: dict[str, Counter[str]] = {"name": Counter(), **{edit: Counter() for edit in EDITED}}
    for name in STREAMED:
        pieces = pieces_of(RELAYED[name], tells_usage=False)
        for piece in pieces:
            if piece.edit:
                edits[piece.edit][name] += 1
        if ending(pieces) and RELAYED[name].vendor != "ollama":
            edits["[DONE]"][name] += 1
    assert edits.pop("name").total() == NAMES_PUT_BACK
    assert edits == EDITED


@needs_recordings
def test_all_were_compared(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> None:
    """Last in the file."""
    if len([item for item in request.session.items if item.path == Path(__file__)]) < 3 * len(STREAMED):
        pytest.skip("only some of the cases were asked for")
    with capsys.disabled():
        print(f"\nrelayed bytes compared: {dict(compared)}")
    assert {kind for kind, least in COMPARED_AT_LEAST.items() if compared[kind] < least} == set()
