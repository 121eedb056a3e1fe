"""Real answers of real services, served by a fake and sent through every inbound door.

The recordings are other projects' data: they are read where they stand (`RECORDED`, else `../shared/recorded` beside
the repository) and never copied. Each is re-sent as it is, cut at random but seeded places, and what arrives is
compared with what `read_recording` below finds in it: text, thinking, calls, usage, stop reason; or the error and its
status.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from doors import CHAT, GENERATE, V1, Ask, Door, Heard, Turn
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import FakeOpenAI
from fakes.script import Script, Upstream, at_random
from gateway import Gateway, alias, ollama_provider, openai_provider, running
from recordings import FOLDER, needs_recordings

VENDORS = ("openai", "groq", "openrouter", "deepseek", "mistral", "xai", "huggingface", "ollama")

# Recordings that no inbound door can carry -> why, and where they are used instead.
LEFT_OUT = {
    "huggingface/feature-extraction": "not the OpenAI wire: a pipeline endpoint, whose answer is a bare list of floats",
}
LISTS = ("models", "tags", "tags-cloud", "ps", "show-local", "show-cloud")
COMPARED_AT_LEAST = 100  # (recording, door) pairs when this was written

in_module = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Recording:
    """One recorded exchange. `name` is "vendor/file"."""

    name: str
    facts: dict[str, Any]

    @property
    def vendor(self) -> str:
        return self.name.partition("/")[0]

    @property
    def body(self) -> bytes:
        return str(self.facts["response_text"]).encode()

    @property
    def stream(self) -> bool:
        return bool(self.facts["stream"]) and self.facts["status"] == 200

    @property
    def kind(self) -> str:
        """What sort of exchange it is: "chat", "generate", "embed" or "list"."""
        if self.name.partition("/")[2] in LISTS:
            return "list"
        if self.facts["endpoint"].endswith(("/embeddings", "/embed")):
            return "embed"
        return "generate" if self.facts["endpoint"].endswith("/generate") else "chat"


def load() -> list[Recording]:
    if not FOLDER.is_dir():
        return []
    files = [path for vendor in VENDORS for path in sorted((FOLDER / vendor).glob("*.json"))]
    return [Recording(f"{path.parent.name}/{path.stem}", json.loads(path.read_text("utf-8"))) for path in files]


RECORDINGS = {recording.name: recording for recording in load() if recording.name not in LEFT_OUT}


# -- an independent reading of a recording ---------------------------------------------------------------------------
@dataclass
class Meaning:
    text: str = ""
    refusal: str = ""
    thinking: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    reason: str | None = None
    prompt: int | None = None
    completion: int | None = None
    logprobs: int = 0
    error: str | None = None


def read_recording(recording: Recording, as_openai: bool = False) -> Meaning:
    """`as_openai`: as a client reads it to which an OpenAI-wire provider's own words are relayed: no thoughts within
    the text are set apart, and usage is what stands under `usage`."""
    meaning = Meaning()
    if recording.facts["status"] >= 400:
        meaning.error = error_text(json.loads(recording.body))
        return meaning
    if recording.vendor == "ollama":
        for line in recording.body.splitlines():
            read_ollama_object(meaning, json.loads(line))
        return meaning
    calls: dict[int, list[str]] = {}
    texts = re.findall(rb"^data: ?(\{.*\})\s*$", recording.body, re.M) if recording.stream else [recording.body]
    for text in texts:
        read_openai_object(meaning, json.loads(text), calls, as_openai)
    meaning.calls = [(name, json.loads("".join(parts) or "{}")) for name, *parts in calls.values()]
    tagged = re.match(r"\s*<think>\s*(.*?)</think>\s*(.*)", meaning.text, re.S)
    if tagged and not as_openai:
        meaning.thinking, meaning.text = tagged.groups()
    return meaning


def error_text(value: Any) -> str:
    error = value.get("error", value)
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail")
    return str(error)


def read_ollama_object(meaning: Meaning, value: dict[str, Any]) -> None:
    said = value.get("message", {"content": value.get("response", ""), "thinking": value.get("thinking", "")})
    meaning.text += said.get("content") or ""
    meaning.thinking += said.get("thinking") or ""
    meaning.calls += [(c["function"]["name"], c["function"]["arguments"]) for c in said.get("tool_calls") or []]
    if value["done"]:
        meaning.reason = value["done_reason"]
        meaning.prompt, meaning.completion = value["prompt_eval_count"], value["eval_count"]


def read_openai_object(meaning: Meaning, value: dict[str, Any], calls: dict[int, list[str]], relayed: bool) -> None:
    if value.get("error"):
        meaning.error = error_text(value)
    for choice in value.get("choices") or []:
        said = choice.get("delta") or choice.get("message") or {}
        content = said.get("content") or ""
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "thinking":
                meaning.thinking += "".join(piece["text"] for piece in part["thinking"])
            else:
                meaning.text += part["text"]
        meaning.refusal += said.get("refusal") or ""
        meaning.thinking += said.get("reasoning_content") or said.get("reasoning") or ""
        for at, call in enumerate(said.get("tool_calls") or []):
            parts = calls.setdefault(call.get("index", at), [])
            if not parts:
                parts.append(call["function"]["name"])
            parts.append(call["function"].get("arguments") or "")
        meaning.logprobs += len((choice.get("logprobs") or {}).get("content") or [])
        meaning.reason = choice.get("finish_reason") or meaning.reason
    usage = value.get("usage") or (None if relayed else (value.get("x_groq") or {}).get("usage"))
    if usage:
        meaning.prompt, meaning.completion = usage["prompt_tokens"], usage["completion_tokens"]
        if relayed:
            return
        reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
        if usage["total_tokens"] == meaning.prompt + meaning.completion + reasoning:
            meaning.completion += reasoning  # xAI tells them apart (providers.md 3.5)


# -- the gateway before them -----------------------------------------------------------------------------------------
@dataclass
class World:
    gateway: Gateway
    openai: FakeOpenAI
    ollama: FakeOllama

    def upstream(self, recording: Recording) -> Upstream:
        return self.ollama if recording.vendor == "ollama" else self.openai


def public_name(recording: Recording) -> str:
    return recording.name.replace("/", "-")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with FakeOpenAI() as openai, FakeOllama() as ollama:
        providers = {f"the-{vendor}": openai_provider(f"{openai.url}/{vendor}") for vendor in VENDORS}
        providers["the-ollama"] = ollama_provider(ollama.url)
        # Only the operator knows that a model writes its thoughts between tags into its text.
        providers["the-tagged"] = openai_provider(openai.url, quirks={"think_tags": True})
        models = {}
        for recording in RECORDINGS.values():
            provider = "the-tagged" if recording.name == "huggingface/think-tags" else f"the-{recording.vendor}"
            words = {"capabilities": ["embedding"]} if recording.kind == "embed" else {}
            models[public_name(recording)] = alias(provider, f"up-{public_name(recording)}", **words)
        config = {"providers": providers, "models": models}
        async with running(tmp_path_factory.mktemp("recorded"), config) as gateway:
            yield World(gateway, openai, ollama)


def replay(world: World, recording: Recording) -> None:
    """Has the upstream answer with the recording's own bytes; its name for the model stays in them."""
    facts = recording.facts
    script = Script(
        status=facts["status"],
        body=recording.body,
        raw=recording.body,
        content_type=facts["content_type"],
        cuts=at_random(recording.name),
        headers={k: v for k, v in facts["response_headers"].items() if k.startswith(("retry", "x-"))},
    )
    world.upstream(recording).play(f"up-{public_name(recording)}", script)


ASK = Ask((Turn("user", "Hello?"),))
ASK_LOGPROBS = replace(ASK, logprobs=True)
compared: set[tuple[str, str]] = set()


def runs() -> Iterator[object]:
    """Every chat or generate recording at every door that can carry it."""
    for recording in RECORDINGS.values():
        doors = {"chat": (CHAT, V1), "generate": (GENERATE,)}.get(recording.kind, ())
        for door in doors:
            yield pytest.param(recording.name, door, id=f"{recording.name}-{door.name}")


@needs_recordings
@in_module
@pytest.mark.parametrize(("name", "door"), list(runs()))
async def test_exchange(world: World, name: str, door: Door) -> None:
    recording = RECORDINGS[name]
    replay(world, recording)
    relayed = (recording.vendor == "ollama") is not (door is V1)
    spoken = replace(door, relayed=True) if relayed else door  # type: ignore[type-var]
    stream = bool(recording.facts["stream"])
    ask = ASK_LOGPROBS if "logprobs-requested" in recording.facts["tags"] else ASK
    heard = await world.gateway.ask(spoken, ask, public_name(recording), stream)
    meaning = read_recording(recording, as_openai=relayed and door is V1)
    if recording.facts["status"] >= 400:
        check_error(recording, heard, meaning)
    else:
        check_answer(recording, heard, meaning, door)
    compared.add((name, door.name))


# What the client must see for each recorded status, by the one table of house.md 3.
STATUS = {
    "openai/chat-error-400": (400, "Unsupported parameter: 'max_tokens'"),
    "openai/chat-error-401": (502, "provider 'the-openai'"),
    "openai/chat-stream-error-404": (404, "model 'openai-chat-stream-error-404' not found"),
    "groq/error-400-tool-use-failed": (400, "Tool call validation failed"),
    "openrouter/error-429": (429, "Provider returned error"),
    "mistral/error-401": (502, "provider 'the-mistral'"),
    "xai/error-400-key": (502, "provider 'the-xai'"),
    "ollama/chat-error-404": (404, "model 'ollama-chat-error-404' not found"),
}


def check_error(recording: Recording, heard: Heard, meaning: Meaning) -> None:
    status, told = STATUS[recording.name]
    assert (heard.status, told in (heard.error or "")) == (status, True), heard.error
    if status != 404:  # there the client reads Ollama's words; the provider's own are in a header
        assert meaning.error is not None and meaning.error in (heard.error or "")
    else:
        assert heard.headers["x-bridge-reason"]


def check_answer(recording: Recording, heard: Heard, meaning: Meaning, door: Door) -> None:
    assert heard.status == 200, heard.error
    if door is V1:
        assert (heard.text, heard.refusal) == (meaning.text, meaning.refusal)
    else:
        assert heard.text == meaning.text + meaning.refusal
    assert heard.thinking == meaning.thinking
    assert heard.calls == meaning.calls
    if meaning.error is not None:
        assert heard.error is not None and meaning.error in heard.error
        assert not heard.finished
        return
    assert heard.error is None and heard.finished and not heard.cut
    reason = meaning.reason
    if door is not V1:
        reason = "length" if reason == "length" else "stop"
    elif recording.vendor == "ollama" and meaning.calls:
        reason = "tool_calls"
    assert heard.reason == reason
    assert len(heard.logprobs) == meaning.logprobs
    if meaning.prompt is not None:
        assert (heard.prompt, heard.completion) == (meaning.prompt, meaning.completion)


# -- embeddings ------------------------------------------------------------------------------------------------------
def recorded_vectors(recording: Recording) -> list[list[float]]:
    value = json.loads(recording.body)
    if "embeddings" in value:
        return list(value["embeddings"])
    return [unpacked(item["embedding"]) for item in value["data"]]


def unpacked(vector: list[float] | str) -> list[float]:
    if isinstance(vector, list):
        return vector
    raw = base64.b64decode(vector)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


def embeddings() -> Iterator[object]:
    for recording in RECORDINGS.values():
        if recording.kind == "embed":
            # A real Ollama is asked at its own /api/embeddings, whose answer a recorded /api/embed is not.
            paths = ("/api/embed", "/v1/embeddings") + (("/api/embeddings",) if recording.vendor != "ollama" else ())
            for path in paths:
                yield pytest.param(recording.name, path, id=f"{recording.name}-{path}")


@needs_recordings
@in_module
@pytest.mark.parametrize(("name", "path"), list(embeddings()))
async def test_embedding(world: World, name: str, path: str) -> None:
    recording = RECORDINGS[name]
    replay(world, recording)
    field_name = "prompt" if path == "/api/embeddings" else "input"
    body = {"model": public_name(recording), field_name: "This is a test."}
    async with world.gateway.http.post(world.gateway.url + path, json=body) as response:
        assert response.status == 200, await response.text()
        answer = await response.json()
    (wanted,) = recorded_vectors(recording)
    if path == "/v1/embeddings":
        got = unpacked(answer["data"][0]["embedding"])
    else:
        got = answer["embedding"] if path == "/api/embeddings" else answer["embeddings"][0]
    assert got == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    compared.add((name, path))


# Models that draw, listen, speak or judge: they neither chat nor embed, so no Ollama client could use them.
SPEECHLESS = re.compile(r"dall-e|image|tts|whisper|transcribe|moderation|sora|realtime", re.I)


# -- lists -----------------------------------------------------------------------------------------------------------
@needs_recordings
@pytest.mark.parametrize("name", [recording.name for recording in RECORDINGS.values() if recording.kind == "list"])
async def test_list(name: str, tmp_path: Path) -> None:
    """What a provider lists is what the gateway lists: the names of what chats or embeds, every field for a real
    Ollama."""
    recording = RECORDINGS[name]
    facts = json.loads(recording.body)
    if recording.vendor != "ollama":
        async with FakeOpenAI() as upstream:
            upstream.listing = facts
            config = {"providers": {"the": openai_provider(upstream.url, list=["*"])}}
            async with running(tmp_path, config) as gateway:
                got = await listed(gateway)
        assert {f"the/{item['id']}" for item in facts["data"] if not SPEECHLESS.search(item["id"])} == got - {"echo"}
    else:
        await list_of_ollama(recording, facts, tmp_path)
    compared.add((name, "list"))


async def listed(gateway: Gateway) -> set[str]:
    """Names in /v1/models once the provider's catalogue, which is asked for in the background, has been read."""
    names: set[str] = set()
    for _ in range(200):  # each a round trip: far more turns of the loop than reading one list takes
        names = {item["id"] for item in (await get(gateway, "/v1/models"))["data"] or []}
        if any(name.startswith("the/") for name in names):
            break
    return {name.removesuffix(":latest") for name in names}


async def list_of_ollama(recording: Recording, facts: Any, tmp_path: Path) -> None:
    kind = recording.name.partition("/")[2].partition("-")[0]
    async with FakeOllama({"shown": ("completion",)}) as upstream:
        if kind == "tags":
            upstream.tags = facts
        elif kind == "ps":
            upstream.loaded = facts
        else:
            upstream.shows = {"shown": facts, "shown:latest": facts}
        config = {"providers": {"box": ollama_provider(upstream.url)}}
        async with running(tmp_path, config) as gateway:
            if kind == "show":
                assert await get(gateway, "/api/show", {"model": "shown"}) == facts
                return
            got = await get(gateway, f"/api/{kind}")
    by_name = {item["name"]: item for item in got["models"]}
    for item in facts["models"]:
        assert {key: by_name[item["name"]][key] for key in item} == item


async def get(gateway: Gateway, path: str, body: Any = None) -> Any:
    async with gateway.http.request("GET" if body is None else "POST", gateway.url + path, json=body) as response:
        assert response.status == 200, await response.text()
        return await response.json()


# -- how many --------------------------------------------------------------------------------------------------------
@needs_recordings
def test_all_were_compared(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> None:
    """Last in the file: nothing was left out that the table does not name, and not fewer than once were."""
    selected = {item.name for item in request.session.items if item.path == Path(__file__)}
    if len(selected) < COMPARED_AT_LEAST:
        pytest.skip("only some of the cases were asked for")
    with capsys.disabled():
        print(f"\n{len(compared)} recorded exchanges compared, {len(LEFT_OUT)} left out by the table")
    assert {name for name, _ in compared} == set(RECORDINGS)
    assert len(compared) >= COMPARED_AT_LEAST
