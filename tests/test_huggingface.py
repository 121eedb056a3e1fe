"""Hugging Face behind the gateway: chats by the router, embeddings by a pipeline or an endpoint, and what it lists."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from conftest import Start
from doors import CHAT, V1, Ask, Turn
from fakes.huggingface_wire import FakeHuggingFace
from fakes.openai_wire import KEY
from fakes.script import Call, Script, vector
from gateway import Gateway
from scenarios import WEATHER

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
BGE = "BAAI/bge-m3"
HI = Ask((Turn("user", "Hi"),))


@pytest.fixture
async def upstream() -> AsyncIterator[FakeHuggingFace]:
    async with FakeHuggingFace((LLAMA, BGE)) as fake:
        assert isinstance(fake, FakeHuggingFace)
        yield fake


@pytest.fixture
async def gateway(upstream: FakeHuggingFace, gateway_of: Start) -> AsyncIterator[Gateway]:
    """An address of one's own is that of a dedicated endpoint."""
    endpoint = {"base_url": f"{upstream.url}/v1", "api_key": KEY, "headers": {"X-HF-Bill-To": "acme"}}
    async with gateway_of({"providers": {"huggingface": endpoint}}) as running:
        yield running


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("model", [LLAMA, f"{LLAMA}:together"])
async def test_a_chat(gateway: Gateway, upstream: FakeHuggingFace, model: str, stream: bool) -> None:
    upstream.play(model, Script(text=("<think>Hm.</think>", "Hel", "lo")))
    heard = await gateway.ask(CHAT, HI, f"huggingface/{model}", stream)
    assert (heard.thinking, heard.text, heard.reason) == ("Hm.", "Hello", "stop")
    seen = upstream.about(model)[0]
    assert (seen.path, seen.headers["x-hf-bill-to"]) == ("/v1/chat/completions", "acme")


async def test_an_openai_client_is_relayed(gateway: Gateway, upstream: FakeHuggingFace) -> None:
    upstream.play(LLAMA, Script(calls=(Call("get_weather", ('{"city":"Oslo"}',), "c1"),)))
    heard = await gateway.ask(V1, Ask(HI.turns, tools=(WEATHER,)), f"huggingface/{LLAMA}", True)
    assert heard.calls == [("get_weather", {"city": "Oslo"})]
    named = bytes(upstream.about(LLAMA)[0].sent).replace(
        f'"model":"{LLAMA}"'.encode(), f'"model":"huggingface/{LLAMA}"'.encode()
    )
    assert heard.raw == named


async def embedded(gateway: Gateway, path: str, body: dict[str, Any]) -> Any:
    async with gateway.http.post(f"{gateway.url}{path}", json=body) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def test_embeddings_of_an_endpoint(gateway: Gateway, upstream: FakeHuggingFace) -> None:
    upstream.play(BGE, Script())
    answer = await embedded(gateway, "/api/embed", {"model": f"huggingface/{BGE}", "input": ["a", "b"]})
    assert len(answer["embeddings"]) == 2
    answer = await embedded(gateway, "/v1/embeddings", {"model": f"huggingface/{BGE}", "input": "a"})
    assert answer["data"][0]["embedding"] == vector("a")
    assert [seen.path for seen in upstream.seen if seen.method == "POST"] == ["/v1/embeddings"] * 2


async def test_the_routers_models_are_listed(gateway: Gateway, upstream: FakeHuggingFace) -> None:
    names: set[str] = set()
    async with asyncio.timeout(20):  # it is asked in the background, once its SDK is there
        while f"huggingface/{LLAMA}:latest" not in names:
            async with gateway.http.get(f"{gateway.url}/api/tags") as response:
                names = {model["name"] for model in (await response.json())["models"]}
    async with gateway.http.post(f"{gateway.url}/api/show", json={"model": f"huggingface/{LLAMA}"}) as response:
        shown = await response.json()
    assert "tools" in shown["capabilities"]
    assert 32768 in shown["model_info"].values()


async def test_a_refusal_keeps_its_words(gateway: Gateway, upstream: FakeHuggingFace) -> None:
    upstream.play(LLAMA, Script(status=422, error="the provider behind does not take this"))
    heard = await gateway.ask(CHAT, HI, f"huggingface/{LLAMA}", True)
    assert (heard.status, heard.error) == (422, "the provider behind does not take this")
