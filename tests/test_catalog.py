"""Model names: what a name leads to, what is said of one that leads nowhere, what is listed and under which digest.

Seen through a whole gateway: a request's `X-Bridge-Target` names who answered, and the upstreams know what they were
asked for. Nothing here looks into the catalog itself.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from conftest import Start
from doors import CHAT, GENERATE, V1, Ask, Door, Turn
from fakes.ollama_wire import FakeOllama, tag
from fakes.openai_wire import FakeOpenAI, model_item
from fakes.script import Script
from gateway import Gateway, alias, ollama_provider, openai_provider, running

GUARD = 10.0  # seconds after which a test gives up waiting for what must come
ASK = Ask((Turn("user", "Hi."),))
SAID = Script(text=("Hello",))
in_module = pytest.mark.asyncio(loop_scope="module")


async def names(gateway: Gateway) -> list[str]:
    async with gateway.http.get(f"{gateway.url}/api/tags") as response:
        return [entry["name"] for entry in (await response.json())["models"]]


async def listing(gateway: Gateway, name: str) -> dict[str, dict[str, Any]]:
    """The entries of tags by name, once `name` is among them: providers are asked for their lists beside."""
    async with asyncio.timeout(GUARD):
        while True:
            async with gateway.http.get(f"{gateway.url}/api/tags") as response:
                models = {entry["name"]: entry for entry in (await response.json())["models"]}
            if name in models:
                return models


# -- what a name leads to --------------------------------------------------------------------------------------------
@dataclass
class World:
    gateway: Gateway
    lab: FakeOpenAI
    box: FakeOllama


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    lab = FakeOpenAI(("gpt-x", "Org/Big-Model", "lab-listed", "vectors-embed"))
    chat = ("completion", "tools")
    box = FakeOllama({"qwen2.5:7b": chat, "tiny": chat, "lab/thing": chat, "embedder": ("embedding",)})
    async with lab, box:
        config = {
            "providers": {
                "lab": openai_provider(lab.url),
                "box": ollama_provider(box.url),
                "echo": {"kind": "echo"},
                "openai": {},
            },
            "models": {
                "fast": alias("lab", "up-fast"),
                "fast:big": alias("lab", "up-fast-big"),
                "lab/gpt-x": alias("lab", "up-shadow"),
                "box:tiny": alias("lab", "up-colon"),
                "vectors": alias("lab", "up-vectors", capabilities=["embedding"]),
                "off": alias("openai", "gpt-6-luna"),
            },
        }
        async with running(tmp_path_factory.mktemp("catalog"), config) as gateway:
            await listing(gateway, "lab/lab-listed:latest")
            await listing(gateway, "tiny:latest")
            yield World(gateway, lab, box)


@pytest.fixture
def world(module_world: World) -> World:
    """Any model is answered for."""
    for target in LEADS.values():
        upstream = {"lab": module_world.lab, "box": module_world.box}.get(target.partition("/")[0])
        if upstream is not None:
            upstream.play(target.partition("/")[2], SAID)
    module_world.lab.seen.clear()
    module_world.box.seen.clear()
    return module_world


LEADS = {
    # an alias: tag, case and blanks around it do not matter
    "fast": "lab/up-fast",
    "fast:latest": "lab/up-fast",
    "FAST": "lab/up-fast",
    "Fast:LATEST": "lab/up-fast",
    "  fast ": "lab/up-fast",
    "fast:big": "lab/up-fast-big",
    # a provider's prefix, listed or not, with either mark; the provider's own spelling goes out
    "lab/lab-listed": "lab/lab-listed",
    "lab:lab-listed": "lab/lab-listed",
    "LAB/Lab-Listed:latest": "lab/lab-listed",
    "lab/org/big-model": "lab/Org/Big-Model",
    "lab/Not-Listed": "lab/Not-Listed",
    "lab:Not-Listed:7b": "lab/Not-Listed:7b",
    "lab/accounts/x/models/y": "lab/accounts/x/models/y",
    "lab:accounts/x/models/y": "lab/accounts/x/models/y",
    # a real Ollama's models, bare or with its prefix
    "tiny": "box/tiny:latest",
    "TINY:latest": "box/tiny:latest",
    "box/tiny": "box/tiny:latest",
    "qwen2.5:7b": "box/qwen2.5:7b",
    "box:qwen2.5:7b": "box/qwen2.5:7b",
    "box/Qwen2.5:7B": "box/qwen2.5:7b",
    # looked up whole before it is split
    "lab/gpt-x": "lab/up-shadow",
    "lab:gpt-x": "lab/gpt-x",
    "box:tiny": "lab/up-colon",
    "lab/thing": "box/lab/thing:latest",
    "lab:thing": "lab/thing",
    # the cloud models of a real Ollama are asked for without having been pulled
    "box/gpt-oss:120b-cloud": "box/gpt-oss:120b-cloud",
    "box:glm-5:cloud": "box/glm-5:cloud",
    # the echo
    "echo": "echo/echo",
    "Echo:latest": "echo/echo",
    "echo/echo": "echo/echo",
    "echo:echo": "echo/echo",
}


@pytest.mark.parametrize("name", list(LEADS))
@in_module
async def test_what_a_name_leads_to(world: World, name: str) -> None:
    heard = await world.gateway.ask(CHAT, ASK, name, False)
    assert heard.status == 200, heard.error
    assert heard.headers["x-bridge-target"] == LEADS[name]
    account, _, model = LEADS[name].partition("/")
    if account != "echo":
        assert len({"lab": world.lab, "box": world.box}[account].about(model)) == 1


@pytest.mark.parametrize("name", ["fast", "lab/org/big-model", "box:qwen2.5:7b", "echo:echo"])
@pytest.mark.parametrize("door", [CHAT, GENERATE, V1], ids=["chat", "generate", "v1"])
@in_module
async def test_names_mean_the_same_at_every_door(world: World, door: Door, name: str) -> None:
    heard = await world.gateway.ask(door, ASK, name, True)  # reading checks that the name comes back as it was sent
    assert heard.status == 200, heard.error
    assert heard.headers["x-bridge-target"] == LEADS[name]


# -- names that lead nowhere -----------------------------------------------------------------------------------------
ENDPOINTS: dict[str, dict[str, Any]] = {
    "/api/chat": {"messages": [{"role": "user", "content": "Hi"}]},
    "/api/generate": {"prompt": "Hi"},
    "/api/embed": {"input": "Hi"},
    "/api/embeddings": {"prompt": "Hi"},
    "/api/show": {},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/embeddings": {"input": "Hi"},
}
QUOTED = {
    "/api/embed": 'model "{}" not found, try pulling it first',
    "/api/embeddings": 'model "{}" not found, try pulling it first',
    "/api/show": "model '{}:latest' not found",
}


async def refused(gateway: Gateway, path: str, name: str) -> tuple[int, str, Mapping[str, str]]:
    """-> (status, words, headers) of a request that names `name`."""
    body = {"model": name, **ENDPOINTS[path]}
    async with gateway.http.post(gateway.url + path, json=body) as response:
        value = json.loads(await response.read())
        error = value["error"]
        assert list(value) == ["error"]
        return response.status, error["message"] if path.startswith("/v1") else error, response.headers


@pytest.mark.parametrize("path", list(ENDPOINTS))
@in_module
async def test_an_unknown_name_is_a_404_in_the_words_of_the_endpoint(world: World, path: str) -> None:
    status, words, headers = await refused(world.gateway, path, "fasd")
    assert (status, words) == (404, QUOTED.get(path, "model '{}' not found").format("fasd"))
    assert headers["X-Bridge-Near"].split(", ")[0] == "fast"
    assert world.lab.seen == [], "an unknown model reached a provider"


@pytest.mark.parametrize("path", list(ENDPOINTS))
@in_module
async def test_nothing_is_near_to_nonsense(world: World, path: str) -> None:
    status, _, headers = await refused(world.gateway, path, "zzyzx-4711")
    assert status == 404 and "X-Bridge-Near" not in headers


@in_module
async def test_names_that_are_near_are_looked_for_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over many names it takes milliseconds, in which nobody else is served."""
    looked: list[str] = []
    real = difflib.get_close_matches

    def counting(word: str, *rest: Any, **named: Any) -> list[str]:
        looked.append(word)
        return real(word, *rest, **named)

    monkeypatch.setattr(difflib, "get_close_matches", counting)
    status, _, headers = await refused(world.gateway, "/v1/chat/completions", "fasd")
    assert status == 404 and headers["X-Bridge-Near"].split(", ")[0] == "fast"
    assert looked == ["fasd"]


@in_module
async def test_an_unknown_name_of_the_models_endpoint(world: World) -> None:
    async with world.gateway.http.get(f"{world.gateway.url}/v1/models/fasd") as response:
        assert response.status == 404
        assert (await response.json())["error"]["message"] == "model 'fasd:latest' not found"
        assert "fast" in response.headers["X-Bridge-Near"]


UNGRAMMATICAL = {
    "blank": "a b",
    "letters": "modèle",
    "colon": ":",
    "empty-tag": "x:",
    "path": "../x",
    "five-parts": "a/b/c/d/e",
    "digest": "x@sha256:00",
    "address": "http://x/y",
    "too-long": "x" * 400,
    "prefix-and-blank": "lab/a b",
    "prefix-and-path": "lab/../../etc",
    "prefix-alone": "lab/",
    "prefix-and-line": "lab/a\nb: c",
}


@pytest.mark.parametrize("name", list(UNGRAMMATICAL.values()), ids=list(UNGRAMMATICAL))
@pytest.mark.parametrize("path", list(ENDPOINTS))
@in_module
async def test_an_ungrammatical_name_is_a_400(world: World, path: str, name: str) -> None:
    status, words, _ = await refused(world.gateway, path, name)
    assert (status, words) == (400, "invalid model name")
    assert world.lab.seen == []


@in_module
async def test_a_name_without_end_reaches_no_provider(world: World) -> None:
    status, words, _ = await refused(world.gateway, "/api/chat", "lab/" + "x" * 2000)
    assert (status, words) == (400, "invalid model name")
    assert world.lab.seen == []


@in_module
async def test_a_real_ollama_has_no_more_than_it_lists(world: World) -> None:
    status, words, _ = await refused(world.gateway, "/api/chat", "box/other")
    assert (status, words) == (404, "model 'box/other' not found")
    assert not world.box.about("other")


@pytest.mark.parametrize("name", ["off", "openai/gpt-6-luna", "openai:anything"])
@pytest.mark.parametrize("path", [path for path in ENDPOINTS if path != "/api/show"])
@in_module
async def test_a_provider_that_is_off_says_which_variable_to_set(world: World, path: str, name: str) -> None:
    status, words, _ = await refused(world.gateway, path, name)
    assert (status, words) == (500, "provider 'openai' has no key: set OPENAI_API_KEY")


# -- what is listed --------------------------------------------------------------------------------------------------
@in_module
async def test_everything_is_listed_under_a_name_with_a_tag(world: World) -> None:
    found = await names(world.gateway)
    assert set(found) == {
        "fast:latest", "fast:big", "lab/gpt-x:latest", "box:tiny", "vectors:latest", "off:latest",
        "lab/Org/Big-Model:latest", "lab/lab-listed:latest", "lab/vectors-embed:latest",
        "qwen2.5:7b", "tiny:latest", "lab/thing:latest", "embedder:latest",
        "echo:latest",
    }  # fmt: skip
    assert len(found) == len(set(found)), "a name is listed twice"


@in_module
async def test_an_alias_stands_in_place_of_what_it_shadows(world: World) -> None:
    shadow = (await listing(world.gateway, "lab/gpt-x:latest"))["lab/gpt-x:latest"]
    assert set(shadow["capabilities"]) == {"completion", "tools", "vision", "thinking"}, "the provider's own is listed"


MANY = [f"llama-{n:02}" for n in range(40)] + [f"other-{n:02}" for n in range(25)]


@pytest.mark.parametrize(
    ("models", "patterns", "expected"),
    [
        (MANY[:60], None, MANY[:60]),
        (MANY[:60], ["llama-0*"], MANY[:60]),
        (MANY, None, []),
        (MANY, ["llama-0*", "other-24"], [*MANY[:10], "other-24"]),
    ],
    ids=["sixty", "sixty-with-patterns", "more", "more-with-patterns"],
)
async def test_a_long_catalogue_lists_what_its_patterns_name(
    gateway_of: Start, models: list[str], patterns: list[str] | None, expected: list[str]
) -> None:
    """product.md 2: all of a provider's models unless there are more than 60."""
    more = {"list": patterns} if patterns else {}
    async with FakeOpenAI(tuple(models)) as lab, FakeOpenAI(("mark",)) as other:
        config = {"providers": {"lab": openai_provider(lab.url, **more), "other": openai_provider(other.url)}}
        async with gateway_of(config) as gateway:
            lab.play("llama-39", SAID)
            await listing(gateway, "other/mark:latest")
            if expected:
                await listing(gateway, f"lab/{expected[0]}:latest")
            found = [name for name in await names(gateway) if name.startswith("lab/")]
            assert sorted(found) == [f"lab/{name}:latest" for name in sorted(expected)]
            if len(models) > 60:
                heard = await gateway.ask(CHAT, ASK, "lab/llama-39", False)
                assert heard.text == "Hello", "what is not listed can be called all the same"


async def test_a_real_ollama_lists_all_it_has(gateway_of: Start) -> None:
    async with FakeOllama(dict.fromkeys(MANY, ("completion",))) as box:
        config = {"providers": {"box": ollama_provider(box.url)}}
        async with gateway_of(config) as gateway:
            await listing(gateway, "llama-00:latest")
            assert {f"{name}:latest" for name in MANY} <= set(await names(gateway))


async def test_only_models_that_talk_or_embed_are_listed(gateway_of: Start) -> None:
    """product.md 2: chat and embedding models. A catalogue that does not tell has names that do."""
    silent = ["whisper-1", "tts-1-hd", "dall-e-3", "gpt-image-2", "omni-moderation-latest", "sora-2",
              "gpt-4o-transcribe", "gpt-realtime"]  # fmt: skip
    async with FakeOpenAI() as lab:
        told = {**model_item("flux"), "type": "image"}
        lab.listing = {"data": [told, *map(model_item, [*silent, "gpt-6-luna", "text-embedding-3-small"])]}
        async with gateway_of({"providers": {"lab": openai_provider(lab.url)}}) as gateway:
            await listing(gateway, "lab/gpt-6-luna:latest")
            found = {name for name in await names(gateway) if name.startswith("lab/")}
    assert found == {"lab/gpt-6-luna:latest", "lab/text-embedding-3-small:latest"}


async def test_of_two_ollamas_with_one_model_the_first_of_the_file_answers(gateway_of: Start) -> None:
    """Whichever answered first when it was asked for its list."""
    ready = asyncio.Event()
    async with SlowTags({"tiny": ("completion",)}, ready) as first, FakeOllama({"tiny": ("completion",)}) as second:
        config = {"providers": {"one": ollama_provider(first.url), "two": ollama_provider(second.url)}}
        async with gateway_of(config) as gateway:
            await listing(gateway, "tiny:latest")
            ready.set()
            first.play("tiny:latest", SAID)
            await listing(gateway, "only-there:latest")
            heard = await gateway.ask(CHAT, ASK, "tiny", False)
            assert heard.headers["x-bridge-target"] == "one/tiny:latest"
            found = await names(gateway)
            assert found.count("tiny:latest") == 1


class SlowTags(FakeOllama):
    """Gives no list before `ready` is set."""

    def __init__(self, models: dict[str, tuple[str, ...]], ready: asyncio.Event) -> None:
        super().__init__({**models, "only-there": ("completion",)})
        self.ready = ready

    async def list_models(self, request: Any) -> Any:
        await self.ready.wait()
        return await super().list_models(request)


# -- facts of aliases, and digests -----------------------------------------------------------------------------------
async def test_an_alias_knows_what_its_target_tells(gateway_of: Start) -> None:
    """The file says capabilities and lengths only where discovery is wrong or absent (product.md 3)."""
    async with FakeOpenAI() as lab:
        lab.listing = {
            "data": [{**model_item("seer"), "context_length": 70_000, "architecture": {"input_modalities": ["image"]}}]
        }
        config = {
            "providers": {"lab": openai_provider(lab.url)},
            "models": {
                "mine": "lab/seer",
                "stated": {"targets": ["lab/seer"], "capabilities": ["completion"], "context_length": 1000},
                "absent": "lab/qwen3-vl",
            },
        }
        async with gateway_of(config) as gateway:
            models = await listing(gateway, "lab/seer:latest")
    facts = {name: (set(m["capabilities"]), m["details"].get("context_length")) for name, m in models.items()}
    assert facts["mine:latest"] == facts["lab/seer:latest"] == ({"completion", "vision"}, 70_000)
    assert facts["stated:latest"] == ({"completion"}, 1000)
    assert facts["absent:latest"] == ({"completion", "tools", "vision", "thinking"}, None)


def config_of(capabilities: list[str], port: str = "1") -> dict[str, Any]:
    return {
        "providers": {"lab": {"kind": "openai", "base_url": f"http://127.0.0.1:{port}/v1"}},
        "models": {
            "one": alias("lab", "up", capabilities=capabilities),
            "two": alias("lab", "up", capabilities=capabilities),
        },
    }


async def digests(gateway_of: Start, config: dict[str, Any]) -> dict[str, str]:
    async with gateway_of(config) as gateway:
        return {name: entry["digest"] for name, entry in (await listing(gateway, "one:latest")).items()}


async def test_digests_are_unique_stable_and_follow_capabilities(gateway_of: Start) -> None:
    """clients.md 0.10: one that merges models of one digest, and caches capabilities by it for ever."""
    first = await digests(gateway_of, config_of(["completion", "tools"]))
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in first.values())
    assert len(set(first.values())) == len(first)
    assert await digests(gateway_of, config_of(["tools", "completion"])) == first
    changed = await digests(gateway_of, config_of(["completion"]))
    assert changed["one:latest"] != first["one:latest"] and changed["two:latest"] != first["two:latest"]
    assert changed["echo:latest"] == first["echo:latest"]


async def test_a_real_ollamas_digest_is_its_own(gateway_of: Start) -> None:
    words = ("completion",)
    async with (
        FakeOllama({"tiny": words}) as box,
        gateway_of({"providers": {"box": ollama_provider(box.url)}}) as gateway,
    ):
        assert (await listing(gateway, "tiny:latest"))["tiny:latest"] == tag("tiny", words)
