"""What tags, show, ps and /v1/models say: the fields clients need (clients.md 4.2, 4.7), what counts as loaded, and
real Ollamas behind the gateway, alive, dead and mute.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from conftest import Start
from doors import CHAT, V1, Ask, Turn, no_nulls
from fakes.ollama_wire import FakeOllama, tag
from fakes.openai_wire import FakeOpenAI, model_item
from fakes.script import Script
from gateway import Gateway, alias, ollama_provider, openai_provider, running
from virtual_time import run

from ollama_bridge.dialects.base import Profile
from ollama_bridge.errors import unreachable
from ollama_bridge.library.loaded import LoadedModels
from ollama_bridge.lists.discovery import EVERY, RETRY, Discovery
from ollama_bridge.policy.catalog import Catalog, Defaults
from ollama_bridge.providers.base import ListedModel

GUARD = 10.0  # seconds after which a test gives up waiting for what must come
PATIENT = 1.8  # seconds Raycast gives a listing (clients.md 4.4)
FOR_EVER = 200 * 365 * 86400.0  # seconds: further off than any real keep_alive
ASK = Ask((Turn("user", "Hi."),))
SAID = Script(text=("Hello",))
in_module = pytest.mark.asyncio(loop_scope="module")

MODELS = {
    "full": alias("lab", "meta/llama-3.3-70b-instruct", context_length=131_072, max_output=4096),
    "vectors": alias("lab", "up-vectors", capabilities=["embedding"], embedding_length=1536, context_length=8192),
    "plain": alias("lab", "up", capabilities=["completion"]),
    "tuned": alias(
        "lab", "up", system="Be brief.", temperature=0.25, max_tokens=90, options={"stop": ["END", 'a"b'], "top_k": 5}
    ),
    "mllama-90b": alias("lab", "mllama-90b"),
    "clip": alias("lab", "clip-vit"),
    "bert": alias("lab", "bert-base"),
    "GPT": alias("lab", "GPT-6-luna"),
}


async def get(gateway: Gateway, path: str) -> Any:
    async with gateway.http.get(gateway.url + path) as response:
        assert response.status == 200, await response.text()
        return json.loads(await response.read())


async def show(gateway: Gateway, name: str, agent: str | None = None, **more: Any) -> Any:
    headers = {"User-Agent": agent} if agent else {}
    async with gateway.http.post(f"{gateway.url}/api/show", json={"model": name, **more}, headers=headers) as response:
        assert response.status == 200, await response.text()
        return json.loads(await response.read())


async def loaded(gateway: Gateway) -> dict[str, Any]:
    return {entry["name"]: entry for entry in (await get(gateway, "/api/ps"))["models"]}


async def until(gateway: Gateway, path: str, reached: Callable[[Any], bool]) -> Any:
    """Asks until the answer is as it should be."""
    async with asyncio.timeout(GUARD):
        while not reached(answer := await get(gateway, path)):
            pass
    return answer


def lists(name: str) -> Callable[[Any], bool]:
    return lambda answer: name in {entry["name"] for entry in answer["models"]}


def seconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    assert moment.tzinfo is not None
    return moment.timestamp()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with FakeOpenAI(("listed-8b", "listed-embed")) as lab:
        for entry in MODELS.values():
            lab.play(entry["model"], SAID)
        lab.listing = {
            "data": [
                {**model_item("listed-8b"), "created": 1_700_000_000},
                {**model_item("newer"), "created": 1_780_000_000},
                {"id": "bare"},
            ]
        }
        config = {"providers": {"lab": openai_provider(lab.url), "echo": {"kind": "echo"}}, "models": MODELS}
        async with running(tmp_path_factory.mktemp("library"), config) as gateway:
            await until(gateway, "/api/tags", lists("lab/bare:latest"))
            yield gateway


# -- fields ----------------------------------------------------------------------------------------------------------
DETAILS = ["parent_model", "format", "family", "families", "parameter_size", "quantization_level"]
WORDS = {"completion", "tools", "insert", "vision", "embedding", "thinking", "audio"}
HIDING = {"bert", "nomic-bert", "clip", "mllama"}  # families that make clients hide a model or send it images


def check_details(details: dict[str, Any]) -> None:
    assert list(details)[:6] == DETAILS
    for name in set(DETAILS) - {"families"}:
        assert isinstance(details[name], str), name
    assert details["family"] and details["families"] == [details["family"]]
    assert not {details["family"]} & HIDING
    for name in set(details) - set(DETAILS):
        assert name in ("context_length", "embedding_length") and isinstance(details[name], int)


@in_module
async def test_tags_have_every_field_that_clients_need(world: Gateway) -> None:
    entries = (await get(world, "/api/tags"))["models"]
    assert len(entries) == len(MODELS) + 3 + 1
    for entry in entries:
        no_nulls(entry)
        assert list(entry)[:6] == ["name", "model", "modified_at", "size", "digest", "details"]
        assert entry["name"] == entry["model"] and ":" in entry["name"]
        assert re.fullmatch("[0-9a-f]{64}", entry["digest"])
        assert isinstance(entry["size"], int) and entry["size"] >= 0
        seconds(entry["modified_at"])
        check_details(entry["details"])
        assert entry["capabilities"] and set(entry["capabilities"]) <= WORDS
        assert not {"remote_model", "remote_host"} & entry.keys()
    assert len({entry["digest"] for entry in entries}) == len(entries)


@in_module
async def test_tags_are_sorted_newest_first(world: Gateway) -> None:
    """ollama-protocol.md 2.9: by whole seconds."""
    entries = (await get(world, "/api/tags"))["models"]
    dates = [int(seconds(entry["modified_at"])) for entry in entries]
    assert dates == sorted(dates, reverse=True)
    names = [entry["name"] for entry in entries]
    assert names.index("lab/newer:latest") < names.index("lab/listed-8b:latest")


@in_module
async def test_lengths_are_told_where_they_are_known(world: Gateway) -> None:
    details = {entry["name"]: entry["details"] for entry in (await get(world, "/api/tags"))["models"]}
    assert details["full:latest"]["context_length"] == 131_072 and details["full:latest"]["parameter_size"] == "70B"
    assert details["vectors:latest"]["embedding_length"] == 1536
    assert "context_length" not in details["plain:latest"] and details["plain:latest"]["parameter_size"] == ""


SHOWN = ["license", "modelfile", "parameters", "template", "system", "details", "model_info", "capabilities",
         "modified_at"]  # fmt: skip


@pytest.mark.parametrize("name", [*MODELS, "lab/listed-8b", "lab/bare", "lab/never-listed", "echo"])
@in_module
async def test_show_has_every_field_that_clients_need(world: Gateway, name: str) -> None:
    answer = await show(world, name)
    no_nulls(answer)
    assert list(answer) == [key for key in SHOWN if key in answer], "not in Ollama's order"
    assert {"modelfile", "template", "details", "model_info", "capabilities", "modified_at"} <= answer.keys()
    for key in {"license", "modelfile", "parameters", "template", "system"} & answer.keys():
        assert isinstance(answer[key], str) and answer[key], key
    assert answer["capabilities"] and set(answer["capabilities"]) <= WORDS
    check_details(answer["details"])
    assert list(answer["details"]) == DETAILS, "lengths stand in tags only"
    seconds(answer["modified_at"])
    facts = answer["model_info"]
    assert list(facts) == sorted(facts)
    architecture = facts["general.architecture"]
    assert architecture == answer["details"]["family"] and facts["general.basename"]
    assert {key for key in facts if "length" in key} <= {
        f"{architecture}.context_length",
        f"{architecture}.embedding_length",
    }
    assert all(isinstance(facts[key], int) for key in facts if key.endswith(("length", "count")))
    assert (".Tools" in answer["template"]) is ("tools" in answer["capabilities"])
    assert (".Suffix" in answer["template"]) is ("insert" in answer["capabilities"])


@in_module
async def test_show_and_tags_agree(world: Gateway) -> None:
    for entry in (await get(world, "/api/tags"))["models"]:
        answer = await show(world, entry["name"])
        assert answer["capabilities"] == entry["capabilities"] and answer["modified_at"] == entry["modified_at"]
        facts = answer["model_info"]
        for length in ("context_length", "embedding_length"):
            assert facts.get(f"{facts['general.architecture']}.{length}") == entry["details"].get(length)


@in_module
async def test_show_tells_true_lengths(world: Gateway) -> None:
    found = (await show(world, "full"))["model_info"]
    assert {name: value for name, value in found.items() if not name.startswith("bridge.")} == {
        "general.architecture": "llama",
        "general.basename": "llama-3.3-70b-instruct",
        "general.parameter_count": 70_000_000_000,
        "llama.context_length": 131_072,
    }
    assert found["bridge.sources"] == "capabilities: config, context_length: config, max_output: config"
    assert (await show(world, "vectors"))["model_info"]["up.embedding_length"] == 1536


@in_module
async def test_show_of_the_echo_says_what_it_is(world: Gateway) -> None:
    assert "echo model" in (await show(world, "echo"))["license"]
    assert "license" not in await show(world, "plain")


PARAMETERS = """\
stop                           "END"
stop                           "a\\"b"
top_k                          5
temperature                    0.25
num_predict                    90"""


@in_module
async def test_show_of_a_model_with_settings_of_its_own(world: Gateway) -> None:
    answer = await show(world, "tuned")
    assert sorted(answer["parameters"].splitlines()) == sorted(PARAMETERS.splitlines())
    assert answer["system"] == "Be brief."
    lines = answer["modelfile"].splitlines()
    assert lines[:4] == [
        '# Modelfile generated by "ollama show"',
        "# To build a new Modelfile based on this, replace FROM with:",
        "# FROM tuned:latest",
        "",
    ]
    assert {"SYSTEM Be brief.", "PARAMETER stop END", 'PARAMETER stop """a"b"""', "PARAMETER top_k 5"} <= set(lines)
    assert answer["modelfile"].endswith("\n")
    assert not {"parameters", "system"} & (await show(world, "plain")).keys()


@in_module
async def test_show_with_the_words_of_the_request(world: Gateway) -> None:
    """ollama-protocol.md 2.11: `system` stands in for the model's; `options` only in the modelfile; `template` is not
    looked at."""
    own = await show(world, "tuned")
    answer = await show(world, "tuned", system="Be loud.", options={"seed": 7, "stop": ["X"]}, template="{{ .Other }}")
    assert answer["system"] == "Be loud." and "SYSTEM Be loud." in answer["modelfile"]
    assert "Be brief." not in answer["modelfile"]
    assert answer["parameters"] == own["parameters"] and answer["template"] == own["template"]
    lines = [line for line in answer["modelfile"].splitlines() if line.startswith("PARAMETER")]
    assert sorted(lines) == [
        "PARAMETER num_predict 90", "PARAMETER seed 7", "PARAMETER stop X", "PARAMETER temperature 0.25",
        "PARAMETER top_k 5",
    ]  # fmt: skip


@in_module
async def test_show_takes_the_old_key_for_the_model(world: Gateway) -> None:
    body = {"name": "tuned", "verbose": True}
    async with world.http.post(f"{world.url}/api/show", json=body) as response:
        assert (await response.json())["system"] == "Be brief."


@pytest.mark.parametrize("name", ["full", "full:latest", "FULL", "lab:some/thing"])
@in_module
async def test_copilot_is_shown_the_name_it_asked_for(world: Gateway, name: str) -> None:
    """It takes general.basename for the name to display (ollama-protocol.md 2.11)."""
    for agent in ("GitHubCopilotChat/0.31", "GitHubCopilotChat/"):
        assert (await show(world, name, agent))["model_info"]["general.basename"] == name
    for agent in ("ollama-python/0.6", "Mozilla GitHubCopilotChat/0.31"):
        assert (await show(world, name, agent))["model_info"]["general.basename"] != name


@in_module
async def test_v1_models_agree_with_tags(world: Gateway) -> None:
    tags = (await get(world, "/api/tags"))["models"]
    answer = await get(world, "/v1/models")
    assert answer["object"] == "list"
    assert [item["id"] for item in answer["data"]] == [entry["name"] for entry in tags]
    for item, entry in zip(answer["data"], tags, strict=True):
        assert list(item) == ["id", "object", "created", "owned_by"]
        assert item["object"] == "model" and item["owned_by"] and item["created"] == int(seconds(entry["modified_at"]))


@pytest.mark.parametrize("name", ["full", "full:latest", "lab/listed-8b", "lab/accounts/x/models/y"])
@in_module
async def test_v1_models_of_one_name(world: Gateway, name: str) -> None:
    answer = await get(world, f"/v1/models/{name}")
    assert list(answer) == ["id", "object", "created", "owned_by"]
    assert answer["id"] == name and answer["object"] == "model"


# -- what counts as loaded -------------------------------------------------------------------------------------------
KEEP = {
    "unset": (None, 300.0),
    "number": (60, 60.0),
    "fraction": (90.5, 90.5),
    "text": ("10m", 600.0),
    "long-text": ("1h30m", 5400.0),
    "for-ever": (-1, FOR_EVER),
    "for-ever-text": ("-1m", FOR_EVER),
    "for-ever-float": (-1.0, FOR_EVER),
    "without-end": (1e300, FOR_EVER),
}


@pytest.mark.parametrize(("keep_alive", "expected"), list(KEEP.values()), ids=list(KEEP))
@pytest.mark.parametrize("use", ["chat", "generate", "load", "embed"])
@in_module
async def test_ps_lists_what_was_used_for_as_long_as_asked(
    world: Gateway, use: str, keep_alive: Any, expected: float
) -> None:
    path, body = {
        "chat": ("chat", {"model": "full", "messages": [{"role": "user", "content": "Hi"}], "stream": False}),
        "generate": ("generate", {"model": "full", "prompt": "Hi"}),
        "load": ("generate", {"model": "full"}),
        "embed": ("embed", {"model": "vectors", "input": "Hi"}),
    }[use]
    name = f"{body['model']}:latest"
    await unload(world, str(body["model"]))
    assert name not in await loaded(world)
    more = {} if keep_alive is None else {"keep_alive": keep_alive}
    before = time.time()
    async with world.http.post(f"{world.url}/api/{path}", json={**body, **more}) as response:
        assert response.status == 200, await response.text()
        await response.read()
    entry = (await loaded(world))[name]
    check_running(entry)
    left = seconds(entry["expires_at"]) - before
    if expected == FOR_EVER:
        assert left > FOR_EVER
    else:
        assert expected <= left <= expected + GUARD


def check_running(entry: dict[str, Any]) -> None:
    no_nulls(entry)
    assert list(entry) == [
        "name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length",
    ]  # fmt: skip
    assert re.fullmatch("[0-9a-f]{64}", entry["digest"]) and list(entry["details"]) == DETAILS
    assert isinstance(entry["context_length"], int) and entry["context_length"] > 0
    assert entry["size"] == entry["size_vram"] == 0


async def unload(gateway: Gateway, name: str) -> None:
    path = "embed" if name == "vectors" else "generate"
    async with gateway.http.post(f"{gateway.url}/api/{path}", json={"model": name, "keep_alive": 0}) as response:
        assert response.status == 200, await response.text()
        await response.read()


async def chat(gateway: Gateway, name: str, **more: Any) -> None:
    heard = await gateway.ask(CHAT, ASK, name, False, **more)
    assert heard.status == 200, heard.error


@in_module
async def test_what_is_used_over_v1_is_loaded_as_well(world: Gateway) -> None:
    await unload(world, "plain")
    assert (await world.ask(V1, ASK, "plain", True)).status == 200
    assert "plain:latest" in await loaded(world)


@in_module
async def test_the_current_keep_alive_stays_when_nothing_is_said(world: Gateway) -> None:
    await chat(world, "full", keep_alive="2h")
    await chat(world, "full")
    assert seconds((await loaded(world))["full:latest"]["expires_at"]) > time.time() + 7000


async def test_a_default_keep_alive_holds_for_a_new_load_only(gateway_of: Start) -> None:
    config = {
        "defaults": {"keep_alive": "1h"},
        "providers": {"echo": {"kind": "echo"}},
        "models": {"own": {"targets": ["echo/echo"], "keep_alive": "3h"}},
    }
    async with gateway_of(config) as gateway:
        for name, default in (("echo", 3600), ("own", 3 * 3600)):
            await chat(gateway, name)
            left = seconds((await loaded(gateway))[f"{name}:latest"]["expires_at"]) - time.time()
            assert default - GUARD < left <= default
            await chat(gateway, name, keep_alive="9h")
            await chat(gateway, name)
            left = seconds((await loaded(gateway))[f"{name}:latest"]["expires_at"]) - time.time()
            assert left > 8 * 3600


@in_module
async def test_zero_with_content_runs_and_unloads(world: Gateway) -> None:
    await chat(world, "full", keep_alive="1h")
    await chat(world, "full", keep_alive=0)
    assert "full:latest" not in await loaded(world)


@in_module
async def test_ps_shows_the_window_that_was_asked_for(world: Gateway) -> None:
    await unload(world, "full")
    await chat(world, "full")
    assert (await loaded(world))["full:latest"]["context_length"] == 131_072
    await chat(world, "full", options={"num_ctx": 4096})
    assert (await loaded(world))["full:latest"]["context_length"] == 4096
    await chat(world, "full")
    assert (await loaded(world))["full:latest"]["context_length"] == 4096, "only another num_ctx changes it"


@in_module
async def test_ps_is_sorted_by_expiry(world: Gateway) -> None:
    for name, keep_alive in (("plain", "1h"), ("full", "3h"), ("tuned", "2h")):
        await chat(world, name, keep_alive=keep_alive)
    entries = (await get(world, "/api/ps"))["models"]
    ends = [int(seconds(entry["expires_at"])) for entry in entries]
    assert ends == sorted(ends, reverse=True) and len(ends) >= 3


@in_module
async def test_what_has_expired_is_no_longer_listed(world: Gateway) -> None:
    await chat(world, "plain", keep_alive=0.001)
    await until(world, "/api/ps", lambda answer: not lists("plain:latest")(answer))


async def test_a_model_is_loaded_while_it_answers(gateway_of: Start, fake_openai: FakeOpenAI) -> None:
    release = asyncio.Event()
    fake_openai.play("up", Script(text=("Hello",), hold_content=release))
    config = {"providers": {"lab": openai_provider(fake_openai.url)}, "models": {"it": alias("lab", "up")}}
    async with gateway_of(config) as gateway:
        asking = asyncio.ensure_future(gateway.ask(CHAT, ASK, "it", True, keep_alive=0))
        await asyncio.wait_for(fake_openai.request_about("up"), GUARD)
        running_now = await loaded(gateway)
        release.set()
        await asking
        assert "it:latest" in running_now
        assert "it:latest" not in await loaded(gateway), "keep_alive 0 unloads at the end"


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_loaded_models_expire_by_the_clock() -> None:
    clock = Clock()
    models = LoadedModels(clock=clock)
    models.touch("short", 10.0, None)
    models.touch("default", None, None)
    models.touch("ever", -1.0, 2048)
    assert [(model.name, model.expires - clock.now) for model in models.current()][1:] == [
        ("default", 300.0),
        ("short", 10.0),
    ]
    clock.now += 9.5
    assert len(models.current()) == 3
    models.touch("short", None, None)  # renewed by each use
    clock.now += 9.5
    assert [model.name for model in models.current()] == ["ever", "default", "short"]
    clock.now += 1
    assert [model.name for model in models.current()] == ["ever", "default"]
    clock.now += 3e9
    assert [(model.name, model.num_ctx) for model in models.current()] == [("ever", 2048)]
    models.unload("ever")
    models.unload("never there")
    assert models.current() == []


def test_what_expired_does_not_keep_its_settings() -> None:
    clock = Clock()
    models = LoadedModels(clock=clock)
    models.touch("it", 10.0, 4096)
    clock.now += 11
    models.touch("it", None, None)
    (model,) = models.current()
    assert (model.expires - clock.now, model.num_ctx) == (300.0, None)


def test_loaded_models_are_bounded() -> None:
    models = LoadedModels()
    for n in range(5000):
        models.touch(f"m{n}", None, None)
    assert len(models.current()) == 1000


# -- a real Ollama behind it -----------------------------------------------------------------------------------------
RUNNING = {
    "name": "tiny:latest",
    "model": "tiny:latest",
    "size": 6_654_289_920,
    "digest": "5" * 64,
    "details": {"parent_model": "", "format": "gguf", "family": "fake", "families": None, "parameter_size": "8.2B",
                "quantization_level": "Q4_K_M"},
    "expires_at": "2318-11-21T08:05:00.123456789+01:00",
    "size_vram": 6_654_289_920,
    "context_length": 40_960,
    "something_new": [1, 2],
}  # fmt: skip
EARLY = {**RUNNING, "name": "old:latest", "model": "old:latest", "expires_at": "2020-01-01T00:00:00Z"}


def boxed(url: str, **more: Any) -> dict[str, Any]:
    return {"providers": {"box": ollama_provider(url), "echo": {"kind": "echo"}}, **more}


async def test_a_real_ollamas_models_stand_in_its_own_words(gateway_of: Start, fake_ollama: FakeOllama) -> None:
    words = ("completion", "tools")
    odd = {**tag("odd", ()), "something_new": {"a": None}, "remote_host": "https://ollama.com:443", "size": 312}
    fake_ollama.tags = {"models": [tag("tiny", words), odd]}
    async with gateway_of(boxed(fake_ollama.url)) as gateway:
        answer = await until(gateway, "/api/tags", lists("tiny:latest"))
        entries = {entry["name"]: entry for entry in answer["models"]}
        assert entries["tiny:latest"] == tag("tiny", words) and entries["odd:latest"] == odd
        assert list(entries["odd:latest"]) == list(odd)
        assert {"tiny:latest", "odd:latest"} <= {item["id"] for item in (await get(gateway, "/v1/models"))["data"]}


@pytest.fixture
def nothing_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real Ollama is asked for its list each time, not once in two seconds."""
    monkeypatch.setattr("ollama_bridge.lists.discovery.FRESH", 0.0)


@pytest.mark.usefixtures("nothing_is_fresh")
async def test_a_model_that_a_real_ollama_has_got_a_moment_ago_is_found(
    gateway_of: Start, fake_ollama: FakeOllama
) -> None:
    fake_ollama.models["first"] = ("completion",)
    async with gateway_of(boxed(fake_ollama.url)) as gateway:
        await until(gateway, "/api/tags", lists("first:latest"))
        fake_ollama.models["pulled"] = ("completion",)
        fake_ollama.play("pulled:latest", SAID)
        heard = await gateway.ask(CHAT, ASK, "pulled", False)
        assert heard.status == 200 and heard.headers["x-bridge-target"] == "box/pulled:latest"


async def test_show_of_a_real_ollamas_model_is_its_own(gateway_of: Start, fake_ollama: FakeOllama) -> None:
    fake_ollama.models["tiny"] = ("completion",)
    kept = {"license": "L", "model_info": {"general.architecture": "fake", "a.b": None}, "tensors": [], "new": [1.50]}
    fake_ollama.shows["tiny:latest"] = kept
    async with gateway_of(boxed(fake_ollama.url)) as gateway:
        await until(gateway, "/api/tags", lists("tiny:latest"))
        for name in ("tiny", "box/tiny", "box:tiny:latest", "TINY"):
            assert await show(gateway, name, system="S", verbose=True) == kept
            asked = fake_ollama.about("tiny:latest")[-1].json
            assert asked == {"model": "tiny:latest", "name": "", "system": "S", "verbose": True}


async def test_copilot_is_shown_the_name_of_a_real_ollamas_model(gateway_of: Start, fake_ollama: FakeOllama) -> None:
    fake_ollama.models["tiny"] = ("completion",)
    async with gateway_of(boxed(fake_ollama.url)) as gateway:
        await until(gateway, "/api/tags", lists("tiny:latest"))
        plain = await show(gateway, "box/tiny")
        shown = await show(gateway, "box/tiny", "GitHubCopilotChat/0.31")
        assert shown["model_info"].pop("general.basename") == "box/tiny"
        assert shown == plain


async def test_ps_holds_ours_and_a_real_ollamas(gateway_of: Start, fake_ollama: FakeOllama) -> None:
    fake_ollama.models["tiny"] = ("completion",)
    fake_ollama.loaded = {"models": [RUNNING, EARLY]}
    async with gateway_of(boxed(fake_ollama.url)) as gateway:
        await chat(gateway, "echo")
        entries = (await get(gateway, "/api/ps"))["models"]
        assert [entry["name"] for entry in entries] == ["tiny:latest", "echo:latest", "old:latest"], "by expiry"
        assert entries[0] == RUNNING and entries[2] == EARLY


async def test_a_real_ollamas_model_is_running_once(gateway_of: Start, fake_ollama: FakeOllama) -> None:
    """Whichever door it was used through, and under whichever name: it tells itself what it has loaded."""
    fake_ollama.models["tiny"] = ("completion",)
    fake_ollama.loaded = {"models": [RUNNING]}
    fake_ollama.play("tiny:latest", SAID)
    async with gateway_of(boxed(fake_ollama.url, models={"mine": "box/tiny:latest"})) as gateway:
        await until(gateway, "/api/tags", lists("tiny:latest"))
        for door in (CHAT, V1):
            for name in ("tiny", "mine"):
                assert (await gateway.ask(door, ASK, name, False)).status == 200
        assert (await get(gateway, "/api/ps"))["models"] == [RUNNING]


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b'{"models":null}', b'{"models":[1,{"name":5},{"expires_at":7}]}', b'{"models":{}}', b"<html>"],
    ids=["nothing", "list", "null", "odd-entries", "object", "page"],
)
async def test_a_real_ollama_that_talks_nonsense_is_no_error(gateway_of: Start, answer: bytes) -> None:
    async with Babbling(answer) as box, FakeOllama({"tiny": ("completion",)}) as other:
        config = boxed(box.url)
        config["providers"]["other"] = ollama_provider(other.url)
        async with gateway_of(config) as gateway:
            await chat(gateway, "echo")
            assert "echo:latest" in await loaded_names(gateway)
            await until(gateway, "/api/tags", lists("tiny:latest"))


async def loaded_names(gateway: Gateway) -> set[Any]:
    return {entry.get("name") for entry in (await get(gateway, "/api/ps"))["models"]}


class Babbling(FakeOllama):
    """Answers every listing with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self.answer, content_type="application/json")

    ps = list_models


class Mute(FakeOllama):
    """Takes connections and never answers, until `speaks` is set."""

    def __init__(self, models: dict[str, tuple[str, ...]] | None = None) -> None:
        super().__init__(models)
        self.speaks = asyncio.Event()

    async def note(self, request: web.Request) -> Any:
        seen = await super().note(request)
        await self.speaks.wait()
        return seen


@pytest.mark.parametrize("path", ["/api/tags", "/v1/models", "/api/ps", "/v1/models/echo"])
async def test_a_mute_ollama_is_no_error_and_not_slow(gateway_of: Start, path: str) -> None:
    async with Mute() as one, Mute() as two:
        config = boxed(one.url)
        config["providers"]["two"] = ollama_provider(two.url)
        took = []
        while not took or (min(took) >= PATIENT and len(took) < 3):  # a busy machine may be slow, but not each time
            async with gateway_of(config) as gateway:
                began = asyncio.get_running_loop().time()
                await get(gateway, path)
                took.append(asyncio.get_running_loop().time() - began)
        assert min(took) < PATIENT


async def test_a_mute_ollama_is_waited_for_once(gateway_of: Start) -> None:
    """Not by each listing, and not by each name that nobody knows."""
    async with Mute({"tiny": ("completion",)}) as box, gateway_of(boxed(box.url)) as gateway:
        await get(gateway, "/api/tags")
        began = asyncio.get_running_loop().time()
        for _ in range(5):
            await get(gateway, "/api/tags")
            assert (await gateway.ask(CHAT, ASK, "unknown", False)).status == 404
        assert asyncio.get_running_loop().time() - began < 5.0  # ten times a wait would be more
        box.speaks.set()
        await until(gateway, "/api/tags", lists("tiny:latest"))


async def test_a_refused_connection_is_no_error(gateway_of: Start) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with gateway_of(boxed(f"http://127.0.0.1:{closed.getsockname()[1]}")) as gateway:
            await chat(gateway, "echo")
            for path in ("/api/tags", "/api/ps"):
                assert [entry["name"] for entry in (await get(gateway, path))["models"]] == ["echo:latest"]


@pytest.mark.usefixtures("nothing_is_fresh")
async def test_an_ollama_that_comes_and_goes_is_listed_while_it_is_there(gateway_of: Start) -> None:
    box = FakeOllama({"tiny": ("completion",)})
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        box.port = held.getsockname()[1]
    async with gateway_of(boxed(f"http://127.0.0.1:{box.port}")) as gateway:
        assert not lists("tiny:latest")(await get(gateway, "/api/tags"))
        async with box:
            assert lists("tiny:latest")(await get(gateway, "/api/tags"))
        assert not lists("tiny:latest")(await get(gateway, "/api/tags"))


async def test_a_gateway_that_points_at_itself_leaves_that_provider_off(gateway_of: Start) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    config = boxed(f"http://localhost:{port}", server={"listen": f"127.0.0.1:{port}"})
    async with gateway_of(config) as gateway:
        names = {entry["name"] for entry in (await get(gateway, "/api/tags"))["models"]}
        assert names == {"echo:latest"}
        assert (await get(gateway, "/api/ps"))["models"] == []
        heard = await gateway.ask(CHAT, ASK, "box/tiny", False)
        assert heard.status == 500
        assert heard.error is not None and "points at this gateway itself" in heard.error


# -- when catalogues are asked for -----------------------------------------------------------------------------------
class Account:
    """A provider whose catalogue is `models`, or that cannot be reached. `asked`: when, in seconds of the loop."""

    kind = "openai"
    local = False
    off: str | None = None
    profile = Profile()

    def __init__(self, name: str) -> None:
        self.name = name
        self.there: tuple[str, ...] | None = None
        self.asked: list[float] = []

    async def models(self) -> list[ListedModel]:
        self.asked.append(asyncio.get_running_loop().time())
        if self.there is None:
            raise unreachable(self.name, "connection refused")
        return [ListedModel(model) for model in self.there]


class Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, event: str, **values: object) -> None:
        self.lines.append(event)

    warning = error = info


def test_catalogues_are_asked_for_now_and_then_and_sooner_after_a_failure() -> None:
    async def main() -> None:
        up, down, lines = Account("up"), Account("down"), Lines()
        up.there = ("a",)
        providers: Any = {"up": up, "down": down}
        catalog = Catalog(providers, [], Defaults(), {})
        discovery = Discovery(catalog, providers.values(), lines)
        discovery.start()
        await asyncio.sleep(3 * RETRY + 1)
        assert up.asked == [0.0] and down.asked == [0.0, RETRY, 3 * RETRY]
        assert lines.lines == ["models not listed"], "said once, not with each look"
        assert [model.name for model in catalog.listed()] == ["up/a"]
        down.there = ("b",)
        await asyncio.sleep(4 * RETRY)
        assert {model.name for model in catalog.listed()} == {"up/a", "down/b"}
        await asyncio.sleep(EVERY)
        assert up.asked == [0.0, EVERY] and down.asked[3:] == [7 * RETRY, 7 * RETRY + EVERY]
        down.there = None
        await asyncio.sleep(EVERY)
        assert {model.name for model in catalog.listed()} == {"up/a", "down/b"}, "what was listed once stays"
        assert lines.lines == ["models not listed"] * 2
        await discovery.stop()

    run(main())
