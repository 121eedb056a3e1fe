"""The plain doors of a whole gateway, asked as a script asks them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from conftest import Start
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import FakeOpenAI
from fakes.script import Script, Tokens, Trouble
from gateway import Gateway, alias, ollama_provider, openai_provider

from ollama_bridge.framing import ServerSentEvents

WHOLE = ["/chat", "/v1/chat"]
STREAMS = ["/stream", "/v1/chat/stream"]
KEY = "s3cret-key"


@pytest.fixture
async def gateway(gateway_of: Start, fake_openai: FakeOpenAI, fake_ollama: FakeOllama) -> AsyncIterator[Gateway]:
    config = {
        "providers": {
            "lab": openai_provider(fake_openai.url),
            "real": ollama_provider(fake_ollama.url),
            "gone": openai_provider("http://127.0.0.1:9"),
            "echo": {},
        },
        "models": {
            "fast": alias("lab", "up-fast"),
            "own": alias("real", "up-own"),
            "careful": {"targets": ["gone/up", "lab/up-careful"], "capabilities": ["completion"]},
            "vectors": alias("lab", "up-vectors", capabilities=["embedding"]),
        },
    }
    async with gateway_of(config) as gateway:
        yield gateway


def body(model: str | None = "fast", text: str = "Hi", **more: Any) -> dict[str, Any]:
    named = {} if model is None else {"model": model}
    return {**named, "messages": [{"role": "user", "content": text}], **more}


async def ask(gateway: Gateway, path: str, asked: Any, **more: Any) -> tuple[int, Any, aiohttp.ClientResponse]:
    async with gateway.http.post(gateway.url + path, json=asked, **more) as response:
        return response.status, json.loads(await response.read()), response


async def stream(gateway: Gateway, path: str, asked: Any) -> list[tuple[str | None, bytes]]:
    async with gateway.http.post(gateway.url + path, json=asked) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        reader = ServerSentEvents()
        return reader.feed(await response.read()) + reader.end()


@pytest.mark.parametrize("path", WHOLE)
async def test_a_whole_answer(gateway: Gateway, fake_openai: FakeOpenAI, path: str) -> None:
    fake_openai.play("up-fast", Script(text=("Two\n", "lines"), thinking=("hm",), usage=Tokens(7, 5)))
    status, said, response = await ask(gateway, path, body(temperature=0.5, max_tokens=9))
    assert status == 200
    assert said == {
        "text": "Two\nlines",
        "provider": "lab",
        "model": "up-fast",
        "provider_meta": {"tokens_total": 12, "tokens_prompt": 7, "tokens_completion": 5},
    }
    assert response.headers["X-Bridge-Target"] == "lab/up-fast"
    sent = fake_openai.seen[-1].json
    assert (sent["temperature"], sent["max_tokens"], sent["messages"]) == (0.5, 9, body()["messages"])


@pytest.mark.parametrize("path", STREAMS)
async def test_a_streamed_answer(gateway: Gateway, fake_openai: FakeOpenAI, path: str) -> None:
    fake_openai.play("up-fast", Script(text=("Two\n", " lines", "[DONE]", "!"), thinking=("hm",)))
    events = await stream(gateway, path, body())
    assert b"".join(data for _, data in events[:-1]) == b"Two\n lines[DONE]!"
    assert events[-1] == (None, b"[DONE]")
    assert fake_openai.seen[-1].json["stream"] is True


async def test_a_real_ollama_is_named_as_well(gateway: Gateway, fake_ollama: FakeOllama) -> None:
    fake_ollama.play("up-own", Script(text=("Hello",)))
    _, said, _ = await ask(gateway, "/chat", body("own"))
    assert (said["text"], said["provider"], said["model"]) == ("Hello", "real", "up-own")


async def test_after_a_fallback_the_reply_names_who_really_answered(gateway: Gateway, fake_openai: FakeOpenAI) -> None:
    fake_openai.play("up-careful", Script(text=("Hello",)))
    _, said, response = await ask(gateway, "/chat", body("careful"))
    assert (said["text"], said["provider"], said["model"]) == ("Hello", "lab", "up-careful")
    assert response.headers["X-Bridge-Target"] == "lab/up-careful"


async def test_the_provider_may_be_named(gateway: Gateway, fake_openai: FakeOpenAI) -> None:
    fake_openai.play("up-careful", Script(text=("Hello",)))
    _, said, response = await ask(gateway, "/chat", body("careful", provider="lab"))
    assert said["provider"] == "lab" and "X-Bridge-Attempts" not in response.headers
    assert "provider" not in fake_openai.seen[-1].json
    assert (await ask(gateway, "/chat", body("careful", provider="nobody")))[0] == 400


@pytest.mark.parametrize("path", [*WHOLE, *STREAMS])
async def test_the_task_of_embedding(gateway: Gateway, fake_openai: FakeOpenAI, path: str) -> None:
    fake_openai.play("up-vectors", Script())
    status, said, _ = await ask(gateway, path, body("vectors", task="embedding"))
    assert (status, said["object"], len(said["data"])) == (200, "list", 1)
    assert fake_openai.seen[-1].json["input"] == ["Hi"]


async def test_without_a_model_the_table_names_one(gateway_of: Start, fake_openai: FakeOpenAI) -> None:
    config = {
        "providers": {"lab": openai_provider(fake_openai.url, local=True), "echo": {}},
        "models": {"fast": alias("lab", "up-fast"), "own": alias("echo", "echo")},
        "routing": {"default": "flexible", "strict": {"chat": "own"}, "flexible": {"chat": "fast"}},
    }
    fake_openai.play("up-fast", Script(text=("Hello",)))
    async with gateway_of(config) as gateway:
        _, said, _ = await ask(gateway, "/chat", body(None))
        assert (said["text"], said["provider"], said["model"]) == ("Hello", "lab", "up-fast")
        _, said, _ = await ask(gateway, "/v1/chat", body(None, privacy_mode="strict"))
        assert (said["text"], said["provider"], said["model"]) == ("Hi", "echo", "echo")


@pytest.mark.parametrize("path", [*WHOLE, *STREAMS])
async def test_errors_before_the_answer(gateway: Gateway, path: str) -> None:
    assert (await ask(gateway, path, body("nope")))[:2] == (404, {"error": "model 'nope' not found"})
    status, said, _ = await ask(gateway, path, {"model": "fast"})
    assert (status, list(said)) == (400, ["error"]) and "messages" in said["error"]
    status, said, _ = await ask(gateway, path, body("vectors"))
    assert status == 400 and "does not support chat" in said["error"]
    status, said, _ = await ask(gateway, path, body("gone/up"))
    assert status == 502 and "gone" in said["error"]


@pytest.mark.parametrize("trouble", [Trouble.CUT, Trouble.ERROR], ids=lambda trouble: trouble.name.lower())
async def test_an_error_in_mid_stream(gateway: Gateway, fake_openai: FakeOpenAI, trouble: Trouble) -> None:
    fake_openai.play("up-fast", Script(text=("One", " two", " three"), trouble=trouble, after=2))
    *said, (name, data) = await stream(gateway, "/stream", body())
    assert name == "error" and list(json.loads(data)) == ["error"]
    assert said and (None, b"[DONE]") not in said


async def test_silence_is_a_comment(gateway_of: Start, fake_openai: FakeOpenAI) -> None:
    config = {
        "server": {"heartbeat": "50ms"},
        "providers": {"lab": openai_provider(fake_openai.url)},
        "models": {"fast": alias("lab", "up-fast")},
    }
    go = asyncio.Event()
    fake_openai.play("up-fast", Script(text=("Hello",), hold_content=go))
    async with (
        gateway_of(config) as gateway,
        gateway.http.post(f"{gateway.url}/stream", json=body()) as response,
    ):
        assert await response.content.readany() == b": \n\n"
        go.set()
        rest = await response.read()
    assert rest.replace(b": \n\n", b"") == b"data: Hello\n\ndata: [DONE]\n\n"


async def test_the_key_is_asked_for(gateway_of: Start) -> None:
    async with gateway_of({"server": {"api_key": KEY}}) as gateway:
        for path in (*WHOLE, *STREAMS):
            assert (await ask(gateway, path, body("echo")))[:2] == (401, {"error": "unauthorized"})
        headers = {"Authorization": f"Bearer {KEY}"}
        assert (await ask(gateway, "/chat", body("echo"), headers=headers))[1]["text"] == "Hi"
        assert (await ask(gateway, f"/k/{KEY}/chat", body("echo")))[1]["text"] == "Hi"


async def test_a_picture(gateway: Gateway, fake_openai: FakeOpenAI) -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]
    fake_openai.play("up-fast", Script(text=("A dot.",)))
    status, _, _ = await ask(gateway, "/chat", {"model": "fast", "messages": [{"role": "user", "content": parts}]})
    assert status == 200
    assert fake_openai.seen[-1].json["messages"] == [{"role": "user", "content": parts}]
