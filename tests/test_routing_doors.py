"""Privacy x task through the doors: requests without a model, `auto` and `private`, a provider named beside the model,
several targets and keys, and plans that are shown. With bare requests and with the official clients.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import ollama
import openai
import pytest
from conftest import Start
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import FakeOpenAI
from fakes.script import Script
from gateway import Gateway, ask_least, ollama_provider, openai_provider

PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CHAT, VISION, VECTORS = ["completion", "tools"], ["completion", "vision"], ["embedding"]


class World:
    """A service elsewhere and one at home, with a model for each task, and a table of them."""

    def __init__(self) -> None:
        self.far, self.near = FakeOpenAI(), FakeOpenAI()
        for upstream in (self.far, self.near):
            for model in ("chat", "see", "read", "vectors", "second"):
                upstream.play(model, Script(text=("Hel", "lo")))

    def config(self, **more: Any) -> dict[str, Any]:
        def own(words: list[str]) -> dict[str, Any]:
            return {"capabilities": words}

        def facts() -> dict[str, Any]:
            return {"chat": own(CHAT), "see": own(VISION), "read": own(VISION), "vectors": own(VECTORS)}

        return {
            "providers": {
                "far": openai_provider(self.far.url, models=facts()),
                "near": openai_provider(self.near.url, local=True, models=facts()),
            },
            "models": {"quick": "far/chat", "home": "near/chat"},
            "routing": {
                "strict": {"chat": "home", "vision": "near/see", "ocr": "near/read", "embedding": "near/vectors"},
                "flexible": {
                    "chat": ["quick", "home"],
                    "vision": "far/see",
                    "ocr": "far/read",
                    "embedding": "far/vectors",
                },
            },
            **more,
        }

    @property
    def asked(self) -> list[str]:
        """Who was asked for which model, in order."""
        seen = [(name, one) for name, up in (("far", self.far), ("near", self.near)) for one in up.seen]
        return [f"{name}/{one.json['model']}" for name, one in seen if one.method == "POST"]

    def forget(self) -> None:
        self.far.seen.clear()
        self.near.seen.clear()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    async with made.far, made.near:
        yield made


def text(words: str = "Hi") -> list[dict[str, Any]]:
    return [{"role": "user", "content": words}]


def seen() -> list[dict[str, Any]]:
    url = {"url": f"data:image/png;base64,{PICTURE}"}
    return [{"role": "user", "content": [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": url}]}]


async def post(gateway: Gateway, path: str, body: dict[str, Any], **headers: str) -> tuple[int, Any, dict[str, str]]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with gateway.http.post(gateway.url + path, json=body, headers=sent) as response:
        raw = await response.text()
        return response.status, raw if raw.startswith("data:") else json.loads(raw), dict(response.headers)


# -- no model ----------------------------------------------------------------------------------------------------------
ROUTED: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "chat": ({"messages": text()}, {}, "far/chat"),
    "chat-strict": ({"messages": text(), "privacy_mode": "strict"}, {}, "near/chat"),
    "chat-strict-by-header": ({"messages": text()}, {"X_Bridge_Privacy": "strict"}, "near/chat"),
    "vision": ({"messages": seen()}, {}, "far/see"),
    "vision-strict": ({"messages": seen(), "privacy_mode": "strict"}, {}, "near/see"),
    "ocr": ({"messages": seen(), "task": "ocr"}, {}, "far/read"),
    "ocr-by-header": ({"messages": seen()}, {"X_Bridge_Task": "ocr"}, "far/read"),
    "ocr-strict": ({"messages": seen(), "task": "ocr", "privacy_mode": "strict"}, {}, "near/read"),
    "the-body-names-the-task": ({"messages": seen(), "task": "vision"}, {"X_Bridge_Task": "ocr"}, "far/see"),
    "provider": ({"messages": text(), "provider": "near"}, {}, "near/chat"),
}
WHOLE = ["/v1/chat/completions", "/chat", "/v1/chat"]


@pytest.mark.parametrize(("body", "headers", "target"), ROUTED.values(), ids=ROUTED)
@pytest.mark.parametrize("path", WHOLE)
async def test_a_request_without_a_model(
    gateway_of: Start, world: World, path: str, body: dict[str, Any], headers: dict[str, str], target: str
) -> None:
    async with gateway_of(world.config()) as gateway:
        status, answer, told = await post(gateway, path, body, **headers)
    assert status == 200, answer
    assert world.asked == [target] and told["X-Bridge-Target"] == target
    provider, _, model = target.partition("/")
    if path == "/v1/chat/completions":
        assert answer["model"] == target and answer["choices"][0]["message"]["content"] == "Hello"
    else:
        assert (answer["text"], answer["provider"], answer["model"]) == ("Hello", provider, model)
    [sent] = [one.json for up in (world.far, world.near) for one in up.seen if one.method == "POST"]
    assert not {"privacy_mode", "task", "provider"} & set(sent)


@pytest.mark.parametrize(("body", "headers", "target"), ROUTED.values(), ids=ROUTED)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/stream", "/v1/chat/stream"])
async def test_a_stream_without_a_model(
    gateway_of: Start, world: World, path: str, body: dict[str, Any], headers: dict[str, str], target: str
) -> None:
    async with gateway_of(world.config()) as gateway:
        status, answer, told = await post(gateway, path, {**body, "stream": True}, **headers)
    assert status == 200, answer
    assert world.asked == [target] and told["X-Bridge-Target"] == target
    assert answer.rstrip().endswith("data: [DONE]")
    if path == "/v1/chat/completions":
        chunks = [json.loads(line) for line in re.findall(r"^data: (\{.*)$", answer, re.M)]
        assert {chunk["model"] for chunk in chunks} == {target}


@pytest.mark.parametrize("path", WHOLE)
@pytest.mark.parametrize(("privacy", "target"), [("flexible", "far/vectors"), ("strict", "near/vectors")])
@pytest.mark.parametrize("by_header", [False, True], ids=["body", "header"])
async def test_the_task_embedding_on_a_chat_endpoint(
    gateway_of: Start, world: World, path: str, privacy: str, target: str, by_header: bool
) -> None:
    messages = [{"role": "system", "content": "S"}, *text("one"), {"role": "assistant", "content": "x"}, *text("two")]
    body = {"messages": messages, "privacy_mode": privacy, **({} if by_header else {"task": "embedding"})}
    headers = {"X_Bridge_Task": "embedding"} if by_header else {}
    async with gateway_of(world.config()) as gateway:
        status, answer, told = await post(gateway, path, body, **headers)
        assert status == 200, answer
        assert (answer["object"], answer["model"]) == ("list", target) and told["X-Bridge-Target"] == target
        assert [item["index"] for item in answer["data"]] == [0, 1] and answer["data"][0]["embedding"]
        upstream = world.near if privacy == "strict" else world.far
        assert upstream.about("vectors")[0].json["input"] == ["one", "two"]
        assert upstream.about("vectors")[0].path == "/v1/embeddings"
        status, answer, _ = await post(gateway, path, {**body, "messages": seen()[:1], "task": "embedding"})
        assert status == 200 and upstream.about("vectors")[-1].json["input"] == ["What?"]


async def test_the_task_embedding_at_a_named_model(gateway_of: Start, world: World) -> None:
    async with gateway_of(world.config()) as gateway:
        body = {"model": "near/vectors", "messages": text(), "task": "embedding"}
        status, answer, _ = await post(gateway, "/v1/chat/completions", body)
        assert (status, answer["model"]) == (200, "near/vectors")


async def test_without_a_table_a_model_is_required(gateway_of: Start, world: World) -> None:
    async with gateway_of(world.config(routing={})) as gateway:
        for path in (*WHOLE, "/stream"):
            for extra in ({}, {"model": ""}, {"privacy_mode": "strict"}):
                status, answer, _ = await post(gateway, path, {"messages": text(), **extra})
                assert status == 400 and "model is required" in json.dumps(answer)
        assert await names(gateway) == {"quick:latest", "home:latest", "echo:latest"} | await listed(gateway)
        for name in ("auto", "private"):
            assert (await ask_least(gateway, "/api/chat", name))[0] == 404


async def names(gateway: Gateway) -> set[str]:
    async with gateway.http.get(f"{gateway.url}/api/tags") as response:
        return {entry["name"] for entry in (await response.json())["models"]}


async def listed(gateway: Gateway) -> set[str]:
    """What providers list themselves."""
    return {name for name in await names(gateway) if name.startswith(("far/", "near/"))}


MISSING = {
    "flexible": ({"strict": {"chat": "home"}}, {"task": "embedding"}, 400),
    "strict": (
        {"flexible": {"chat": "home", "embedding": "near/vectors"}},
        {"task": "embedding", "privacy_mode": "strict"},
        403,
    ),
    "strict-chat": ({"flexible": {"chat": "home"}}, {"privacy_mode": "strict"}, 403),
    "vision-is-no-chat": ({"flexible": {"chat": "quick"}}, {"messages": seen()}, 400),
}


@pytest.mark.parametrize(("table", "body", "status"), MISSING.values(), ids=MISSING)
async def test_a_task_without_a_model(
    gateway_of: Start, world: World, table: dict[str, Any], body: dict[str, Any], status: int
) -> None:
    """What is strict is not answered by a model of `flexible`, not even by one that is local."""
    async with gateway_of(world.config(routing=table)) as gateway:
        found, answer, _ = await post(gateway, "/v1/chat/completions", {"messages": text(), **body})
    assert found == status and world.asked == []
    assert "(routing." in answer["error"]["message"]


async def test_a_flexible_task_may_be_answered_at_home(gateway_of: Start, world: World) -> None:
    table = {"strict": {"vision": "near/see"}, "flexible": {"chat": "quick"}}
    async with gateway_of(world.config(routing=table)) as gateway:
        for task in ("vision", "ocr"):
            _, _, told = await post(gateway, "/v1/chat/completions", {"messages": seen(), "task": task})
            assert told["X-Bridge-Target"] == "near/see"


async def test_a_list_is_asked_in_order(gateway_of: Start, world: World) -> None:
    world.far.play("chat", Script(status=404, error="The model `chat` does not exist."))
    async with gateway_of(world.config()) as gateway:
        status, answer, told = await post(gateway, "/v1/chat/completions", {"messages": text()})
    assert (status, answer["model"], told["X-Bridge-Target"]) == (200, "near/chat", "near/chat")
    assert world.asked == ["far/chat", "near/chat"]


BAD = {
    "privacy": {"privacy_mode": "secret"}, "task": {"task": "code"}, "provider": {"provider": "nowhere"},
    "provider-without-a-model-here": {"provider": "echo"},
}  # fmt: skip


@pytest.mark.parametrize("extra", BAD.values(), ids=BAD)
@pytest.mark.parametrize("path", [*WHOLE, "/api/chat"])
async def test_unknown_words_are_refused(gateway_of: Start, world: World, path: str, extra: dict[str, str]) -> None:
    async with gateway_of(world.config()) as gateway:
        model = {"model": "auto"} if path.startswith("/api") else {}
        status, _, _ = await post(gateway, path, {"messages": text(), **model, **extra})
    assert status == 400 and world.asked == []


@pytest.mark.parametrize("header", ["X_Bridge_Privacy", "X_Bridge_Task"])
async def test_unknown_words_in_headers_are_refused(gateway_of: Start, world: World, header: str) -> None:
    async with gateway_of(world.config()) as gateway:
        status, _, _ = await post(gateway, "/v1/chat/completions", {"messages": text()}, **{header: "any"})
    assert status == 400 and world.asked == []


# -- auto and private --------------------------------------------------------------------------------------------------
async def test_ollamas_clients_find_the_table_as_two_models(gateway_of: Start, world: World) -> None:
    async with gateway_of(world.config()) as gateway:
        client = ollama.AsyncClient(host=gateway.url)
        found = [model.model for model in (await client.list()).models]
        assert found[:2] == ["auto:latest", "private:latest"]
        shown = await client.show("auto")
        assert {"completion", "tools", "vision"} <= set(shown.capabilities or ())
        assert {"completion", "vision"} <= set((await client.show("private")).capabilities or ())
        for model, there in (("auto", "far"), ("private", "near"), ("AUTO:latest", "far")):
            world.forget()
            whole = await client.chat(model, text())
            assert (whole.model, whole.message.content) == (f"{there}/chat", "Hello")
            parts = [part async for part in await client.chat(model, text(), stream=True)]
            assert {part.model for part in parts} == {f"{there}/chat"}
            said = await client.generate(model, "What?", images=[PICTURE])
            assert said.model == f"{there}/see"
            vectors = await client.embed(model, ["a", "b"])
            assert vectors.model == f"{there}/vectors" and len(vectors.embeddings) == 2
            assert world.asked == [f"{there}/chat", f"{there}/chat", f"{there}/see", f"{there}/vectors"]


async def test_openais_client_is_routed_too(gateway_of: Start, world: World) -> None:
    async with gateway_of(world.config()) as gateway:
        client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0)
        ids = [model.id async for model in client.models.list()]
        assert {"auto:latest", "private:latest"} <= set(ids)
        messages: Any = text()
        answer = await client.chat.completions.create(
            model="auto", messages=messages, extra_body={"privacy_mode": "strict"}
        )
        assert (answer.model, answer.choices[0].message.content) == ("near/chat", "Hello")
        answer = await client.chat.completions.create(
            model="", messages=messages, extra_headers={"X-Bridge-Privacy": "strict"}
        )
        assert answer.model == "near/chat"
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await client.chat.completions.create(
                model="quick", messages=messages, extra_body={"privacy_mode": "strict"}
            )
        assert "local models that could serve it: " in refused.value.message and "home" in refused.value.message
        assert "far/chat" not in world.asked


async def test_ollamas_client_is_refused_clearly(gateway_of: Start, world: World) -> None:
    async with gateway_of(world.config()) as gateway:
        client = ollama.AsyncClient(host=gateway.url, headers={"X-Bridge-Privacy": "strict"})
        with pytest.raises(ollama.ResponseError) as refused:
            await client.chat("quick", text())
        assert refused.value.status_code == 403 and "home" in refused.value.error
        assert (await client.chat("auto", text())).model == "near/chat"


@pytest.mark.parametrize("extra", [{}, {"privacy_mode": "flexible"}])
async def test_private_stays_private(gateway_of: Start, world: World, extra: dict[str, str]) -> None:
    async with gateway_of(world.config()) as gateway:
        _, _, told = await ask_least(gateway, "/api/chat", "private", **extra)
        assert told["X-Bridge-Target"] == "near/chat"


async def test_a_load_of_a_routed_model_asks_nobody(gateway_of: Start, world: World) -> None:
    async with gateway_of(world.config()) as gateway:
        status, answer, _ = await post(gateway, "/api/chat", {"model": "auto", "stream": False})
    assert (status, answer["done_reason"]) == (200, "load") and world.asked == []


async def test_a_real_ollama_behind_the_table_is_relayed_to(gateway_of: Start, world: World) -> None:
    async with FakeOllama({"tiny": ("completion",)}) as box:
        box.play("tiny:latest", Script(text=("Hello",)))
        providers = {**world.config()["providers"], "box": ollama_provider(box.url, local=True)}
        config = world.config(providers=providers, routing={"strict": {"chat": "box/tiny"}})
        async with gateway_of(config) as gateway:
            client = ollama.AsyncClient(host=gateway.url)
            for stream in (False, True):
                answer: Any = await client.chat("private", text(), stream=stream, options={"seed": 1})
                parts = [part async for part in answer] if stream else [answer]
                assert {part.model for part in parts} == {"box/tiny:latest"}
            assert [one.json["model"] for one in box.about("tiny:latest")] == ["tiny:latest", "tiny:latest"]


# -- a provider beside the model ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat", "/api/chat"])
async def test_a_provider_beside_the_model(gateway_of: Start, world: World, path: str) -> None:
    config = world.config()
    config["models"]["both"] = {"targets": ["far/chat", "near/chat"]}
    async with gateway_of(config) as gateway:
        for model, provider, target in (
            ("both", "near", "near/chat"),
            ("both", "FAR", "far/chat"),
            ("second", "near", "near/second"),
            ("near/second", "near", "near/second"),
        ):
            body = {"model": model, "provider": provider, "messages": text(), "stream": False}
            status, answer, told = await post(gateway, path, body)
            assert (status, told["X-Bridge-Target"]) == (200, target), answer
        body = {"model": "quick", "provider": "near", "messages": text(), "stream": False}
        assert (await post(gateway, path, body))[0] == 400, "an alias leads where it leads"
        body = {"model": "both", "provider": "far", "messages": text(), "privacy_mode": "strict"}
        assert (await post(gateway, path, body))[0] == 403
    assert all("provider" not in one.json for up in (world.far, world.near) for one in up.seen if one.method == "POST")


async def test_openrouters_own_provider_is_passed_on(gateway_of: Start, world: World) -> None:
    async with gateway_of(world.config()) as gateway:
        body = {"model": "quick", "provider": {"order": ["x"]}, "messages": text(), "privacy_mode": "flexible"}
        await post(gateway, "/v1/chat/completions", body)
    assert world.far.about("chat")[0].json["provider"] == {"order": ["x"]}


# -- targets and keys --------------------------------------------------------------------------------------------------
async def test_who_lacks_what_is_needed_is_passed_over(gateway_of: Start, world: World) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    config = world.config()
    config["models"]["both"] = {"targets": ["far/see", "near/chat"]}
    async with gateway_of(config) as gateway:
        body = {"model": "both", "messages": text(), "stream": False}
        for path in ("/api/chat", "/v1/chat/completions"):
            assert (await post(gateway, path, body))[2]["X-Bridge-Target"] == "far/see"
            assert (await post(gateway, path, {**body, "tools": tools}))[2]["X-Bridge-Target"] == "near/chat"
        world.near.play("chat", Script(status=404, error="The model `chat` does not exist."))
        world.forget()
        assert (await post(gateway, "/api/chat", {**body, "tools": tools}))[0] == 404
        assert world.asked == ["near/chat"], "a fallback that lacks tools is never tried"
        status, answer, _ = await post(gateway, "/api/chat", {**body, "model": "far/see", "tools": tools})
        assert (status, answer["error"]) == (
            400, "registry.ollama.ai/far/see:latest does not support tools",
        )  # fmt: skip


def keys_of(upstream: FakeOpenAI) -> list[str]:
    return [one.headers["authorization"].removeprefix("Bearer ") for one in upstream.seen if one.method == "POST"]


async def test_several_keys_share_and_a_conversation_stays_with_one(gateway_of: Start, world: World) -> None:
    keys = [f"sk-test-{n}" for n in range(3)]
    world.far.keys = frozenset(keys)
    config = world.config()
    del config["providers"]["far"]["api_key"]
    config["providers"]["far"]["api_keys"] = keys
    async with gateway_of(config) as gateway:
        for number in range(40):
            assert (await ask_least(gateway, "/api/chat", "quick", messages=text(f"Question {number}")))[0] == 200
        assert set(keys_of(world.far)) == set(keys)
        for number in range(5):
            world.far.seen.clear()
            turns = text(f"Question {number}")
            for _ in range(4):
                assert (await ask_least(gateway, "/api/chat", "quick", messages=turns))[0] == 200
                turns += [{"role": "assistant", "content": "Hello"}, *text("And then?")]
            assert len(set(keys_of(world.far))) == 1, "for the prompts that the provider keeps"


async def test_a_key_that_is_refused_is_followed_by_the_next(gateway_of: Start, world: World) -> None:
    world.far.keys = frozenset({"sk-test-good"})
    config = world.config()
    del config["providers"]["far"]["api_key"]
    config["providers"]["far"]["api_keys"] = ["sk-test-bad", "sk-test-good"]
    async with gateway_of(config) as gateway:
        for number in range(8):
            assert (await ask_least(gateway, "/api/chat", "quick", messages=text(f"Question {number}")))[0] == 200


async def test_too_long_for_one_is_asked_of_a_larger(gateway_of: Start, world: World) -> None:
    too_long = Script(status=400, error="maximum context length is 10 tokens", error_code="context_length_exceeded")
    world.far.play("chat", too_long)
    config = world.config()
    for name, size in (("far", 10), ("near", 100_000)):
        for model in ("chat", "second"):
            config["providers"][name]["models"][model] = {"capabilities": CHAT, "context_length": size}
    config["models"]["grows"] = {"targets": ["far/chat", "far/second", "near/chat"]}
    config["models"]["stays"] = {"targets": ["far/chat", "far/second"]}
    async with gateway_of(config) as gateway:
        body = {"model": "grows", "messages": text(), "stream": False, "truncate": False}
        status, answer, _ = await post(gateway, "/api/chat", body)
        assert (status, answer["model"]) == (200, "near/chat")
        assert world.asked == ["far/chat", "near/chat"], "one that holds no more is not asked"
        world.forget()
        status, answer, _ = await post(gateway, "/api/chat", {**body, "model": "stays"})
        assert (status, answer["error"]) == (400, "maximum context length is 10 tokens")
        assert world.asked == ["far/chat"]


# -- limits of the table's own names -----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["auto", "private"])
async def test_the_names_of_the_table_have_limits_of_their_own(gateway_of: Start, world: World, name: str) -> None:
    config = world.config(limits={"models": {name: {"requests_per_minute": 1}}})
    async with gateway_of(config) as gateway:
        for spelling, expected in ((name, 200), (f"{name.upper()}:latest", 429), (name, 429)):
            status, answer, _ = await post(gateway, "/v1/chat/completions", {"model": spelling, "messages": text()})
            assert status == expected
        words = f"the gateway's limit of 1 requests per minute for model '{name}' is reached; try again in "
        assert answer["error"]["message"].startswith(words)
        for body in ({"model": "quick"}, {"model": "home"}, {}):
            status, _, _ = await post(gateway, "/v1/chat/completions", {**body, "messages": text()})
            assert status == 200


# -- plans that are shown ----------------------------------------------------------------------------------------------
async def test_a_plan_is_shown_to_who_asks(gateway_of: Start, world: World, capfd: pytest.CaptureFixture[str]) -> None:
    config = world.config()
    config["models"]["both"] = {"targets": ["far/chat", "near/chat"]}
    async with gateway_of(config) as gateway:
        body = {"model": "both", "messages": text()}
        for path in ("/v1/chat/completions", "/api/chat"):
            _, _, told = await post(gateway, path, {**body, "stream": False}, X_Bridge_Explain="1")
            assert told["X-Bridge-Plan"] == (
                "flexible (routing.default), chat: far/chat (in the order of the model map), near/chat (in the order "
                "of the model map)"
            )
        _, _, told = await post(gateway, "/chat", {**body, "privacy_mode": "strict"}, X_Bridge_Explain="1")
        assert told["X-Bridge-Plan"] == (
            "strict (the request), chat: near/chat (the only one); left out: far/chat (is answered by a provider that "
            "is not local)"
        )
        for headers in ({}, {"X_Bridge_Explain": "0"}):
            assert "X-Bridge-Plan" not in (await post(gateway, "/chat", body, **headers))[2]
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["plan"] for line in lines if line["message"] == "attempt"][:3] == [
        ["far/chat", "near/chat"], ["far/chat", "near/chat"], ["near/chat"],
    ]  # fmt: skip
