"""Our contract with Hugging Face over real sockets: the openai SDK for chats, the router's pipelines, and the one
question to the Hub that huggingface_hub asks for us. The traps of providers.md 9.3 have a test each."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fakes.huggingface_wire import FakeHuggingFace
from fakes.openai_wire import KEY
from fakes.script import Script, vector
from recordings import FOLDER, needs_recordings

from ollama_bridge.dialects.base import CHAT, EMBED, Profile
from ollama_bridge.dialects.feature_extraction import FeatureExtractionDialect
from ollama_bridge.dialects.openai import OpenAIDialect
from ollama_bridge.errors import GatewayError, Scope, UpstreamRefused
from ollama_bridge.policy.carrier import carrier
from ollama_bridge.policy.families import family_profile
from ollama_bridge.providers.base import Call, Timeouts
from ollama_bridge.providers.huggingface import HuggingFaceProvider
from ollama_bridge.providers.transport import open_session
from ollama_bridge.values import EmbedReply, EmbedRequest

RECORDED = FOLDER / "huggingface"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
BGE = "BAAI/bge-m3"
E5 = "intfloat/multilingual-e5-large-instruct"
ROUTER = Profile(embeds_by="feature-extraction")
PIPELINE = FeatureExtractionDialect()


@pytest.fixture
async def router() -> AsyncIterator[FakeHuggingFace]:
    async with FakeHuggingFace((LLAMA, BGE)) as upstream:
        assert isinstance(upstream, FakeHuggingFace)
        upstream.offers = {E5: {"together": "e5-at-together", "deepinfra": "e5-at-deepinfra", "scaleway": "e5"}}
        yield upstream


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    opened = await open_session()
    yield opened
    await opened.close()


def provider_at(url: str, session: aiohttp.ClientSession, **changes: Any) -> HuggingFaceProvider:
    settings: dict[str, Any] = {
        "base_url": f"{url}/v1",
        "api_key": KEY,
        "session": session,
        "profile": ROUTER,
        "local": False,
        "off": None,
        "timeouts": Timeouts(),
        "hub": url,
    }
    return HuggingFaceProvider("hf", **settings | changes)


@pytest.fixture
async def provider(router: FakeHuggingFace, session: aiohttp.ClientSession) -> AsyncIterator[HuggingFaceProvider]:
    made = provider_at(router.url, session)
    yield made
    await made.close()


def chat(model: str, stream: bool = True) -> Call:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    return Call(CHAT, body, stream, Timeouts(), model=model, dialect="openai")


async def embedded(provider: HuggingFaceProvider, model: str, *inputs: str) -> EmbedReply:
    """As the pipeline does it: the carrier, the body, the answer."""
    request = EmbedRequest(model, list(inputs))
    profile = family_profile(provider.profile, "huggingface", model)
    dialect = {"openai": OpenAIDialect(), PIPELINE.name: PIPELINE}[carrier("ollama", "openai", request, profile)]
    kind, body, _ = dialect.encode(request, model, profile)
    upstream = await provider.open(Call(kind, body, False, Timeouts(), model=model, dialect=dialect.name))
    reply = dialect.read_reply(EMBED, await upstream.body(1 << 20), profile)
    assert isinstance(reply, EmbedReply)
    return reply


def unit(numbers: list[float]) -> list[float]:
    length = sum(n * n for n in numbers) ** 0.5
    return [n / length for n in numbers]


# -- chats -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [LLAMA, f"{LLAMA}:together", f"{LLAMA}:fastest"])
async def test_a_chat_goes_to_the_router(router: FakeHuggingFace, provider: HuggingFaceProvider, model: str) -> None:
    """Whom the router asks is in the name; nothing is looked up before (providers.md 9.1)."""
    router.play(model, Script(text=("Hel", "lo")))
    upstream = await provider.open(chat(model))
    assert b'"content":"lo"' in await upstream.body(1 << 20)
    assert [(seen.method, seen.path) for seen in router.seen] == [("POST", "/v1/chat/completions")]
    assert router.seen[0].json["model"] == model
    assert router.seen[0].headers["authorization"] == f"Bearer {KEY}"


async def test_the_organization_that_pays(router: FakeHuggingFace, session: aiohttp.ClientSession) -> None:
    provider = provider_at(router.url, session, headers={"X-HF-Bill-To": "acme"})
    router.play(LLAMA, Script(text=("Hi",)))
    await (await provider.open(chat(LLAMA))).body(1 << 20)
    await embedded(provider, BGE, "a")
    assert [seen.headers["x-hf-bill-to"] for seen in router.seen] == ["acme", "acme"]


async def test_a_dedicated_endpoint_speaks_one_wire(router: FakeHuggingFace, session: aiohttp.ClientSession) -> None:
    provider = provider_at(router.url, session, hub=None)
    router.play(BGE, Script())
    assert (await embedded(provider, BGE, "a", "b")).vectors == [vector("a"), vector("b")]
    assert [seen.path for seen in router.seen] == ["/v1/embeddings"]


# -- embeddings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [BGE, f"{BGE}:hf-inference", f"{BGE}:cheapest"])
async def test_embeddings_go_to_the_pipeline(
    router: FakeHuggingFace, provider: HuggingFaceProvider, model: str
) -> None:
    reply = await embedded(provider, model, "a", "b")
    assert reply.vectors == [pytest.approx(unit(vector(text))) for text in ("a", "b")]
    assert [(seen.path, seen.json) for seen in router.seen] == [
        (f"/hf-inference/models/{BGE}/pipeline/feature-extraction", {"inputs": ["a", "b"]})
    ]
    assert router.seen[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("behind", "path", "name"),
    [
        ("together", "/together/v1/embeddings", "e5-at-together"),
        ("deepinfra", "/deepinfra/v1/openai/embeddings", "e5-at-deepinfra"),
        ("scaleway", "/scaleway/v1/embeddings", "e5"),
    ],
)
async def test_embeddings_of_a_named_provider(
    router: FakeHuggingFace, provider: HuggingFaceProvider, behind: str, path: str, name: str
) -> None:
    router.play(name, Script())
    for _ in range(2):
        assert (await embedded(provider, f"{E5}:{behind}", "a")).vectors == [vector("a")]
    assert [(seen.method, seen.path) for seen in router.seen] == [
        ("GET", f"/api/models/{E5}"),  # asked once
        ("POST", path),
        ("POST", path),
    ]
    assert router.seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert router.seen[1].json["model"] == name


async def test_a_provider_without_the_model(router: FakeHuggingFace, provider: HuggingFaceProvider) -> None:
    router.offers[BGE] = {"hf-inference": BGE}
    with pytest.raises(UpstreamRefused) as caught:
        await embedded(provider, f"{BGE}:together", "a")
    assert caught.value.status == 404
    error = OpenAIDialect().read_error(404, {}, caught.value.body)
    assert error.message == f"model '{BGE}' not found at 'together': the Hub lists no embeddings of it there"


async def test_a_provider_without_embeddings(router: FakeHuggingFace, provider: HuggingFaceProvider) -> None:
    with pytest.raises(UpstreamRefused) as caught:
        await embedded(provider, f"{BGE}:groq", "a")
    assert caught.value.status == 404 and b"which has no embeddings" in caught.value.body
    assert router.seen == []


async def test_a_model_that_the_hub_does_not_know(provider: HuggingFaceProvider) -> None:
    with pytest.raises(UpstreamRefused) as caught:
        await embedded(provider, "no/such:together", "a")
    assert (caught.value.status, caught.value.body) == (404, b'{"error": "Repository not found"}')


async def test_a_hub_that_is_not_there(router: FakeHuggingFace, session: aiohttp.ClientSession) -> None:
    provider = provider_at(router.url, session, hub="http://127.0.0.1:9")
    with pytest.raises(GatewayError) as caught:
        await embedded(provider, f"{E5}:together", "a")
    assert (caught.value.status, caught.value.scope) == (502, Scope.PROVIDER)
    assert caught.value.message == "cannot reach provider 'hf': the Hub does not say who has the model"


async def test_vectors_of_tokens_are_refused(router: FakeHuggingFace, provider: HuggingFaceProvider) -> None:
    router.token_level.add(BGE)
    with pytest.raises(GatewayError, match="vectors of tokens, not of texts"):
        await embedded(provider, BGE, "a")


async def test_a_refusal_of_the_pipeline_keeps_its_words(provider: HuggingFaceProvider) -> None:
    with pytest.raises(UpstreamRefused) as caught:
        await embedded(provider, "no/such", "a")
    error = PIPELINE.read_error(caught.value.status, caught.value.headers, caught.value.body)
    assert (caught.value.status, error.message) == (404, "Model no/such does not exist")


@needs_recordings
def test_a_recorded_vector() -> None:
    recorded = json.loads((RECORDED / "feature-extraction.json").read_text())
    told = json.loads(recorded["response_text"])
    reply = PIPELINE.read_reply(EMBED, recorded["response_text"].encode(), ROUTER)
    assert reply.vectors == [pytest.approx(unit(told))]


BODIES: dict[str, tuple[bytes, Any]] = {
    "two texts": (b"[[3.0,4.0],[1,0]]", [[0.6, 0.8], [1.0, 0.0]]),
    "one text": (b"[3,4]", [[0.6, 0.8]]),
    "zeros": (b"[[0,0]]", [[0, 0]]),
    "tokens": (b"[[[1.0]]]", "vectors of tokens"),
    "an error": (b'{"error":"busy"}', "busy"),
    "an object": (b"{}", "without embeddings"),
    "no JSON": (b"<html>", "without embeddings"),
}


@pytest.mark.parametrize(("body", "wanted"), BODIES.values(), ids=BODIES)
def test_answers_of_the_pipeline(body: bytes, wanted: Any) -> None:
    if isinstance(wanted, str):
        with pytest.raises(GatewayError, match=wanted):
            PIPELINE.read_reply(EMBED, body, ROUTER)
    else:
        assert PIPELINE.read_reply(EMBED, body, ROUTER).vectors == wanted


def test_what_the_pipeline_is_not_told() -> None:
    request = EmbedRequest("m", ["a"], dimensions=8, truncate=False, vendor={"openai": {"user": "u"}})
    kind, body, losses = PIPELINE.encode(request, "m", ROUTER)
    assert (kind, body) == (EMBED, {"inputs": ["a"], "truncate": False})
    assert sorted(loss.name for loss in losses) == ["dimensions", "user"]


# -- the catalogue -----------------------------------------------------------------------------------------------------


@needs_recordings
async def test_the_recorded_catalogue(router: FakeHuggingFace, provider: HuggingFaceProvider) -> None:
    recorded = json.loads((RECORDED / "models.json").read_text())
    router.listing = json.loads(recorded["response_text"])
    listed = {model.id: model for model in await provider.models()}
    assert len(listed) == 25
    glm = listed["zai-org/GLM-4.7"]
    assert (glm.context_length, glm.capabilities) == (204800, {"completion", "tools"})
    flash = listed["XiaomiMiMo/MiMo-V2-Flash"]
    assert (flash.context_length, flash.capabilities) == (262144, {"completion"})
    assert sum(model.context_length is not None for model in listed.values()) >= 20


async def test_the_smallest_window_counts(router: FakeHuggingFace, provider: HuggingFaceProvider) -> None:
    router.windows = {LLAMA: {"novita": 131072, "nebius": 8192}, BGE: {}}
    llama, bge = await provider.models()
    assert (llama.context_length, llama.capabilities) == (8192, {"completion", "tools"})
    assert (bge.context_length, bge.capabilities) == (None, {"completion"})  # no more than its architecture says


# -- the traps of providers.md 9.3 -------------------------------------------------------------------------------------


async def test_streams_leave_nothing_behind(router: FakeHuggingFace, provider: HuggingFaceProvider) -> None:
    """Trap 2: huggingface_hub's own client keeps one entry for each stream it has opened, for ever."""
    router.play(LLAMA, Script(text=("Hel", "lo")))

    async def round_() -> None:
        for number in range(100):
            upstream = await provider.open(chat(LLAMA))
            if number % 4:
                await upstream.body(1 << 20)
            else:
                await upstream.read()
            upstream.close()

    async def counted() -> tuple[int, int, int]:
        await round_()
        router.seen.clear()
        await asyncio.sleep(0)
        gc.collect()
        return len(asyncio.all_tasks()), router.open_connections, len(gc.get_objects())

    await counted()
    tasks, connections, objects = await counted()
    after = await counted()
    assert after[0] <= tasks and after[1] <= connections
    assert after[2] < objects + 100, "something of each of 100 streams is kept"


async def test_looking_a_name_up_does_not_block(router: FakeHuggingFace, provider: HuggingFaceProvider) -> None:
    """Trap 3. The Hub lives in this very loop: had the question been asked in it, there would never be an answer."""
    router.play("e5-at-together", Script())
    await asyncio.wait_for(embedded(provider, f"{E5}:together", "a"), 5)


@pytest.mark.parametrize(
    ("program", "asked"),
    [
        (
            "from ollama_bridge.providers.huggingface import names_of; names_of({hub!r}, {model!r}, None)",
            [f"/api/models/{E5}"],
        ),
        # The trap is still there: without our precaution the Hub is asked first.
        (
            "from huggingface_hub import HfApi; HfApi(endpoint={hub!r}, token=False).model_info({model!r})",
            ["/api/agent-harnesses", f"/api/models/{E5}"],
        ),
    ],
    ids=["ours", "the SDK's own"],
)
async def test_the_hub_is_not_asked_who_is_asking(
    router: FakeHuggingFace, tmp_path: Path, program: str, asked: list[str]
) -> None:
    """Trap 1: before its first request the SDK fetches a list of agents, and keeps it on disk for a day."""
    environment = {"HF_ENDPOINT": router.url, "HF_HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program.format(hub=router.url, model=E5), env=environment, cwd=Path(__file__).parents[1]
    )
    assert await asyncio.wait_for(done.wait(), 30) == 0
    assert [seen.path for seen in router.seen] == asked


async def test_the_environment_does_not_speak(
    router: FakeHuggingFace, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "HF_TOKEN": "hf_stray",
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    router.play("e5-at-together", Script())
    await embedded(provider_at(router.url, session), f"{E5}:together", "a")
    assert {seen.headers["authorization"] for seen in router.seen} == {f"Bearer {KEY}"}


async def test_without_a_key_no_other_is_looked_for(router: FakeHuggingFace, session: aiohttp.ClientSession) -> None:
    provider = provider_at(router.url, session, api_key=None)
    with pytest.raises(UpstreamRefused):
        await embedded(provider, f"{E5}:together", "a")
    assert "authorization" not in router.seen[0].headers


async def test_numpy_is_not_needed(router: FakeHuggingFace, provider: HuggingFaceProvider) -> None:
    """Trap 6."""
    await embedded(provider, BGE, "a")
    assert "numpy" not in sys.modules


async def test_without_the_sdk_chats_go_on(
    router: FakeHuggingFace, provider: HuggingFaceProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    router.play(LLAMA, Script(text=("Hi",)))
    await (await provider.open(chat(LLAMA))).body(1 << 20)
    await embedded(provider, BGE, "a")
    with pytest.raises(GatewayError, match="pip install huggingface-hub") as caught:
        await embedded(provider, f"{E5}:together", "a")
    assert (caught.value.status, caught.value.scope) == (500, Scope.NO_KEY)


async def test_a_provider_that_is_off_says_so(router: FakeHuggingFace, session: aiohttp.ClientSession) -> None:
    provider = provider_at(router.url, session, off="provider 'hf' has no key: set HF_TOKEN")
    for model in (BGE, f"{E5}:together"):
        with pytest.raises(GatewayError, match="set HF_TOKEN"):
            await embedded(provider, model, "a")
    assert router.seen == []


@pytest.mark.parametrize("model", [LLAMA, BGE])
async def test_who_leaves_closes_the_upstream(
    router: FakeHuggingFace, provider: HuggingFaceProvider, model: str
) -> None:
    gate = asyncio.Event()
    router.play(model, Script(text=("Hi",), hold=gate))
    task = asyncio.create_task(provider.open(chat(model)))
    await router.request_about(model)
    task.cancel()
    await asyncio.wait_for(router.client_gone.wait(), 5)


def test_no_sdk_is_imported_with_the_module() -> None:
    program = (
        "import sys, ollama_bridge.providers.huggingface, ollama_bridge.dialects.feature_extraction\n"
        "print([name for name in ('huggingface_hub', 'openai', 'httpx2', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
