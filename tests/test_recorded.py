"""Real answers of real services, served by a fake and sent through every inbound door.

The recordings are other projects' data: they are read where they stand (recordings) and never copied. Each is re-sent
as it is, cut at random but seeded places, to the real SDK of its provider, configured by the provider's own name, and
what arrives is compared with what `recorded_meaning` finds in the bytes: text, thinking, calls, usage, stop reason; or
the error with its words, its status and the time to wait.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from doors import CHAT, GENERATE, V1, Ask, Door, Heard, Turn
from fakes.anthropic_wire import FakeAnthropic
from fakes.gemini_wire import KEY as GEMINI_KEY
from fakes.gemini_wire import FakeGemini, model_item
from fakes.huggingface_wire import FakeHuggingFace
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import KEY, FakeOpenAI
from fakes.responses_wire import FakeResponses
from fakes.script import Script, Upstream, at_random
from gateway import Gateway, alias, hardly_any_pause, running
from recorded_meaning import Meaning, read_recording, recorded_vector, unpacked
from recordings import Recording, load, needs_recordings

RECORDINGS = load()

# Folder -> name of the provider, where the two differ.
PROVIDER = {"gemini": "google"}

# Recordings that no door can carry -> why, and where they are used instead. There is none.
LEFT_OUT: dict[str, str] = {}

# (vendor and kind of recording, door) that cannot be -> why. Every other pair is asked for.
NO_DOOR = {
    ("ollama chat", "generate"): "a real Ollama is asked at its own /api/generate, whose answer is another one",
    ("ollama generate", "chat"): "a real Ollama is asked at its own /api/chat, whose answer is another one",
    ("ollama generate", "v1"): "chats of OpenAI's clients are asked of a real Ollama's /api/chat",
    ("ollama embed", "/api/embeddings"): "a real Ollama is asked at its own /api/embeddings, whose answer is another",
}

# Pairs of recording and door when this was written: 212 in all.
COMPARED_AT_LEAST = {
    "anthropic": 37, "deepseek": 7, "gemini": 37, "groq": 12, "huggingface": 22, "mistral": 9, "ollama": 20,
    "openai": 46, "openrouter": 16, "xai": 6,
}  # fmt: skip

in_module = pytest.mark.asyncio(loop_scope="module")


DOORS: dict[str, Door] = {door.name: door for door in (CHAT, GENERATE, V1)}
EMBEDDINGS = ("/api/embed", "/api/embeddings", "/v1/embeddings")

# Every recording at every door that can carry it.
EXCHANGES = [
    (recording.name, door)
    for recording in RECORDINGS.values()
    for door in {"embed": EMBEDDINGS, "list": ()}.get(recording.kind, tuple(DOORS))
    if recording.name not in LEFT_OUT and (f"{recording.vendor} {recording.kind}", door) not in NO_DOOR
]


def runs(doors: Iterable[str]) -> list[Any]:
    return [pytest.param(name, door, id=f"{name}-{door}") for name, door in EXCHANGES if door in doors]


# -- the gateway before them -----------------------------------------------------------------------------------------
@dataclass
class World:
    """`upstreams`: by wire, Hugging Face's router apart."""

    gateway: Gateway
    upstreams: dict[str, Upstream]

    def upstream(self, recording: Recording) -> Upstream:
        return self.upstreams[service_of(recording.vendor)]


def service_of(vendor: str) -> str:
    return vendor if vendor in ("anthropic", "gemini", "huggingface", "ollama") else "openai"


def provider_of(recording: Recording) -> str:
    return PROVIDER.get(recording.vendor, recording.vendor)


def public_name(recording: Recording, door: str) -> str:
    """Each exchange has a model of its own, so that what one teaches of its target does not touch the next."""
    return f"{recording.name}-{door.strip('/')}".replace("/", "-")


def account_of(recording: Recording, door: str) -> str:
    """The provider under its own name, but for refusals: they may shut an account, so each has its own."""
    provider = provider_of(recording)
    return provider if recording.status < 400 else f"{provider}-{recording.status}-{door}"


def entry(vendor: str, url: str) -> dict[str, Any]:
    """A provider at an address of ours."""
    if vendor == "ollama":
        return {"base_url": url}
    if vendor == "gemini":
        return {"base_url": f"{url}/v1beta", "api_key": GEMINI_KEY}
    if vendor == "huggingface":
        return {"base_url": f"{url}/v1", "hub_url": url, "api_key": KEY}  # the router, no dedicated endpoint
    return {"base_url": url if vendor == "anthropic" else f"{url}/v1", "api_key": KEY}


def configuration(upstreams: dict[str, Upstream]) -> dict[str, Any]:
    providers: dict[str, Any] = {}
    models: dict[str, Any] = {}
    for name, door in EXCHANGES:
        recording = RECORDINGS[name]
        account = account_of(recording, door)
        service = service_of(recording.vendor)
        providers[account] = entry(recording.vendor, upstreams[service].url)
        if account != provider_of(recording):
            providers[account]["kind"] = PROVIDER.get(service, service)
        more: dict[str, Any] = {"capabilities": ["embedding"]} if recording.kind == "embed" else {}
        if recording.wire == "responses":
            more["api"] = "responses"
        public = public_name(recording, door)
        models[public] = alias(account, f"up-{public}", **more)
    return {"providers": providers, "models": models}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    services: dict[str, type[Upstream]] = {
        "openai": FakeResponses, "ollama": FakeOllama, "anthropic": FakeAnthropic, "gemini": FakeGemini,
        "huggingface": FakeHuggingFace,
    }  # fmt: skip
    async with AsyncExitStack() as stack:
        upstreams = {name: await stack.enter_async_context(service()) for name, service in services.items()}
        stack.enter_context(hardly_any_pause())
        folder = tmp_path_factory.mktemp("recorded")
        gateway = await stack.enter_async_context(running(folder, configuration(upstreams)))
        yield World(gateway, upstreams)


def replay(world: World, recording: Recording, door: str) -> str:
    """Has the upstream answer with the recording's own bytes; its name for the model stays in them. -> the name that
    the client asks for."""
    script = Script(
        status=recording.status,
        body=recording.body,
        raw=recording.body,
        content_type=recording.facts["content_type"],
        cuts=at_random(recording.name),
        headers={k: v for k, v in recording.headers.items() if k.startswith(("retry", "x-"))},
    )
    public = public_name(recording, door)
    world.upstream(recording).play(f"up-{public}", script)
    return public


# -- chats -----------------------------------------------------------------------------------------------------------
ASK = Ask((Turn("user", "Hello?"),))
ASK_LOGPROBS = replace(ASK, logprobs=True)
compared: set[tuple[str, str]] = set()


BESIDE = ("models", "show", "tags", "ps", "version")  # what is asked in the background


def last_word(path: str) -> str:
    return re.split("[/:]", path)[-1]


@needs_recordings
@in_module
@pytest.mark.parametrize(("name", "door_name"), runs(DOORS))
async def test_exchange(world: World, name: str, door_name: str) -> None:
    recording, door = RECORDINGS[name], DOORS[door_name]
    public = replay(world, recording, door_name)
    own = {"ollama": (CHAT, GENERATE), "openai": (V1,)}.get(recording.wire, ())
    relayed = door in own
    spoken = replace(door, relayed=True) if relayed else door  # type: ignore[type-var]
    ask = ASK_LOGPROBS if "logprobs-requested" in recording.facts["tags"] else ASK
    upstream = world.upstream(recording)
    before = len(upstream.seen)
    heard = await world.gateway.ask(spoken, ask, public, recording.asked_stream)
    meaning = read_recording(recording, relayed and door is V1)
    asked = [last_word(seen.path) for seen in upstream.seen[before:] if last_word(seen.path) not in BESIDE]
    assert set(asked) == {last_word(recording.facts["endpoint"])}, "not asked where this answer belongs"
    assert len(asked) == 1 or (recording.status == 429 and meaning.wait is None), "asked again"
    if recording.status >= 400:
        check_error(heard, meaning, STATUS[name], account_of(recording, door_name), public)
    else:
        check_answer(heard, meaning, door)
    compared.add((name, door_name))


# What the client must see for each recorded status, by the one table of house.md 3.
STATUS = {
    "anthropic/error-401": (502, "provider '{account}' refused our key or account (401)"),
    "anthropic/stream-error-404": (404, "model '{model}' not found"),
    "gemini/error-400-key": (502, "provider '{account}' refused our key or account (400)"),
    "gemini/error-429": (429, "You exceeded your current quota"),
    "groq/error-400-tool-use-failed": (400, "Tool call validation failed"),
    "mistral/error-401": (502, "provider '{account}' refused our key or account (401)"),
    "ollama/chat-error-404": (404, "model '{model}' not found"),
    "openai/chat-error-400": (400, "Unsupported parameter: 'max_tokens'"),
    "openai/chat-error-401": (502, "provider '{account}' refused our key or account (401)"),
    "openai/chat-stream-error-404": (404, "model '{model}' not found"),
    "openrouter/error-429": (429, "Provider returned error"),
    "xai/error-400-key": (502, "provider '{account}' refused our key or account (400)"),
}


@needs_recordings
def test_every_recorded_refusal_has_its_status() -> None:
    assert {recording.name for recording in RECORDINGS.values() if recording.status >= 400} == set(STATUS)


def check_error(heard: Heard, meaning: Meaning, wanted: tuple[int, str], account: str, model: str) -> None:
    status, told = wanted[0], wanted[1].format(account=account, model=model)
    assert (heard.status, told in (heard.error or "")) == (status, True), heard.error
    # For a model that is not there the client reads Ollama's words; the provider's own are in a header.
    said = heard.headers["x-bridge-reason"] if status == 404 else heard.error or ""
    assert meaning.error and [words for words in meaning.error if words not in said] == [], said
    if meaning.wait is not None:
        assert heard.headers["retry-after"] == str(math.ceil(meaning.wait))


def check_answer(heard: Heard, meaning: Meaning, door: Door) -> None:
    assert heard.status == 200, heard.error
    if door is V1:
        assert (heard.text, heard.refusal) == (meaning.text, meaning.refusal)
    else:
        assert heard.text == meaning.text + meaning.refusal
    assert heard.thinking == meaning.thinking
    assert heard.calls == meaning.calls
    if meaning.error:
        assert [words for words in meaning.error if words not in (heard.error or "")] == [], heard.error
        assert not heard.finished
        return
    assert heard.error is None and heard.finished and not heard.cut
    assert heard.reason == (meaning.reason if door is V1 else "length" if meaning.reason == "length" else "stop")
    assert len(heard.logprobs) == meaning.logprobs
    if meaning.prompt is not None:
        # Ollama leaves a count of 0 out.
        assert (heard.prompt, heard.completion or 0) == (meaning.prompt, meaning.completion)
        if door is V1:
            assert heard.cached == meaning.cached


# -- embeddings ------------------------------------------------------------------------------------------------------
@needs_recordings
@in_module
@pytest.mark.parametrize(("name", "path"), runs(EMBEDDINGS))
async def test_embedding(world: World, name: str, path: str) -> None:
    recording = RECORDINGS[name]
    public = replay(world, recording, path)
    field_name = "prompt" if path == "/api/embeddings" else "input"
    answer = await get(world.gateway, path, {"model": public, field_name: "This is a test."})
    if path == "/v1/embeddings":
        got = unpacked(answer["data"][0]["embedding"])
    else:
        got = answer["embedding"] if path == "/api/embeddings" else answer["embeddings"][0]
    assert got == pytest.approx(recorded_vector(recording), rel=1e-6, abs=1e-9)
    compared.add((name, path))


# -- lists -----------------------------------------------------------------------------------------------------------
# Models that draw, listen, speak or judge: they neither chat nor embed, so no Ollama client could use them.
SPEECHLESS = re.compile(r"dall-e|image|tts|whisper|transcribe|moderation|sora|realtime", re.I)


@needs_recordings
@pytest.mark.parametrize("name", [recording.name for recording in RECORDINGS.values() if recording.kind == "list"])
async def test_list(name: str, tmp_path: Path) -> None:
    """What a provider lists is what the gateway lists: the names of what chats or embeds, every field for a real
    Ollama."""
    recording = RECORDINGS[name]
    facts = json.loads(recording.body)
    if recording.vendor == "ollama":
        await list_of_ollama(recording, facts, tmp_path)
    elif recording.vendor == "gemini":
        async with LaterPage(recording) as upstream:
            got = await listed_by(upstream, recording, tmp_path)
        assert got == {"google/gemini-first"} | {f"google/{model}" for model in chatting(facts)}
    else:
        fakes = {"anthropic": FakeAnthropic, "huggingface": FakeHuggingFace}
        async with fakes.get(recording.vendor, FakeOpenAI)() as upstream:
            upstream.listing = facts
            got = await listed_by(upstream, recording, tmp_path)
        assert got == {
            f"{recording.vendor}/{item['id']}" for item in facts["data"] if not SPEECHLESS.search(item["id"])
        }
    compared.add((name, "list"))


def chatting(facts: dict[str, Any]) -> set[str]:
    """Google's models that can be asked in one of the ways of this gateway."""
    ways = {"generateContent", "embedContent", "batchEmbedContents"}
    models = [model for model in facts["models"] if ways & set(model["supportedGenerationMethods"])]
    return {model["name"].removeprefix("models/") for model in models}


class LaterPage(FakeGemini):
    """Its second page is the recording, which was a later page; its first has one model and the token."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self.recording = recording

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        token = self.recording.facts["query"].removeprefix("pageToken=")
        if request.query.get("pageToken") == token:
            return web.Response(body=self.recording.body, content_type="application/json")
        return web.json_response({"models": [model_item("gemini-first")], "nextPageToken": token})


async def listed_by(upstream: Upstream, recording: Recording, folder: Path) -> set[str]:
    """Names in /v1/models once the provider's catalogue, which is asked for in the background, has been read."""
    provider = provider_of(recording)
    config = {"providers": {provider: {**entry(recording.vendor, upstream.url), "list": ["*"]}}}
    names: set[str] = set()
    async with running(folder, config) as gateway:
        for _ in range(2000):  # each a round trip: far more turns of the loop than importing an SDK and a list take
            names = {item["id"] for item in (await get(gateway, "/v1/models"))["data"] or []}
            if any(name.startswith(f"{provider}/") for name in names):
                break
    return {name.removesuffix(":latest") for name in names if name.startswith(f"{provider}/")}


async def list_of_ollama(recording: Recording, facts: Any, tmp_path: Path) -> None:
    kind = recording.name.partition("/")[2].partition("-")[0]
    async with FakeOllama({"shown": ("completion",)}) as upstream:
        if kind == "tags":
            upstream.tags = facts
        elif kind == "ps":
            upstream.loaded = facts
        else:
            upstream.shows = {"shown": facts, "shown:latest": facts}
        config = {"providers": {"ollama": entry("ollama", upstream.url)}}
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
    """Last in the file: no file was left out that the table does not name, and of no provider fewer pairs were
    compared than once were."""
    selected = {item.name for item in request.session.items if item.path == Path(__file__)}
    if len(selected) < sum(COMPARED_AT_LEAST.values()):
        pytest.skip("only some of the cases were asked for")
    counts = Counter(name.partition("/")[0] for name, _ in compared)
    with capsys.disabled():
        told = ", ".join(f"{vendor} {count}" for vendor, count in sorted(counts.items()))
        print(f"\n{len(compared)} recorded exchanges compared ({told}) of {len(RECORDINGS)} files,", end=" ")
        print(f"{len(LEFT_OUT)} left out by the table")
    assert {name for name, _ in compared} == RECORDINGS.keys() - LEFT_OUT.keys()
    fewer = {vendor: counts[vendor] for vendor, floor in COMPARED_AT_LEAST.items() if counts[vendor] < floor}
    assert not fewer
    assert counts.keys() == COMPARED_AT_LEAST.keys()
