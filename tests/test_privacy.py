"""privacy_mode: a strict request never leaves our machines (product.md 3), by whatever name, door or detour.

Seen from outside: the upstreams know what reached them.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from configs import refused
from conftest import Start
from connects import connections
from doors import CHAT, GENERATE, V1, Ask, Door, Turn
from fakes.ollama_wire import FakeOllama, tag
from fakes.openai_wire import FakeOpenAI, model_item
from fakes.script import Script, Seen
from gateway import LEAST, ask_least, ollama_provider, openai_provider

from ollama_bridge.lists import discovery

SAID = Script(text=("Hel", "lo"))
every_path = pytest.mark.parametrize("path", list(LEAST))
every_door = pytest.mark.parametrize("door", [CHAT, GENERATE, V1], ids=["chat", "generate", "v1"])


class Privacy:
    """Upstreams on our machines and one elsewhere, under names that say where each model is answered."""

    def __init__(self) -> None:
        self.far, self.near = FakeOpenAI(), FakeOpenAI()
        self.box = FakeOllama()
        everything = ("completion", "tools", "vision", "embedding")
        self.box.tags = {
            "models": [
                tag("here", everything),
                tag("named:cloud", everything),
                {**tag("stub", everything), "remote_host": "https://ollama.com:443", "remote_model": "stub"},
            ]
        }
        for upstream, models in (
            (self.far, ("up",)),
            (self.near, ("up",)),
            (self.box, ("here:latest", "named:cloud", "stub:latest", "unlisted:20b-cloud", "unlisted")),
        ):
            for model in models:
                upstream.play(model, SAID)

    def config(self, **more: Any) -> dict[str, Any]:
        def everything(targets: str | list[str]) -> dict[str, Any]:
            words = ["completion", "tools", "vision", "thinking", "embedding"]
            return {"targets": [targets] if isinstance(targets, str) else targets, "capabilities": words}

        return {
            "providers": {
                "far": openai_provider(self.far.url),
                "near": openai_provider(self.near.url, local=True),
                "box": ollama_provider(self.box.url, local=True),
                "echo": {"kind": "echo"},
            },
            "models": {
                "far": everything("far/up"),
                "near": everything("near/up"),
                "echoes": everything("echo/echo"),
                "box": everything("box/here:latest"),
                "box-stub": everything("box/stub:latest"),
                "box-named": everything("box/named:cloud"),
                "box-unlisted-cloud": everything("box/unlisted:20b-cloud"),
                "box-unlisted": everything("box/unlisted"),
                "both": everything(["far/up", "near/up"]),
                **more,
            },
        }

    @property
    def asked(self) -> list[Seen]:
        """All requests that carried a client's words."""
        seen = [*self.far.seen, *self.near.seen, *self.box.seen]
        return [one for one in seen if one.method == "POST"]


@pytest.fixture
async def privacy() -> Any:
    world = Privacy()
    async with world.far, world.near, world.box:
        yield world


LEAVING = {
    "far": "is answered by a provider that is not local",
    "far/up": "is answered by a provider that is not local",
    "box-stub": "is a cloud model of a real Ollama",
    "stub": "is a cloud model of a real Ollama",
    "box/stub": "is a cloud model of a real Ollama",
    "box-named": "is a cloud model of a real Ollama",
    "named:cloud": "is a cloud model of a real Ollama",
    "box-unlisted-cloud": "is a cloud model of a real Ollama",
    "box/unlisted:20b-cloud": "is a cloud model of a real Ollama",
    "box-unlisted": "is not known to run on this machine",
}


@every_path
async def test_a_strict_request_never_leaves_the_machine(gateway_of: Start, privacy: Privacy, path: str) -> None:
    async with gateway_of(privacy.config()) as gateway:
        for model, why in LEAVING.items():
            status, words, _ = await ask_least(gateway, path, model, privacy_mode="strict")
            assert status == 403
            assert words.startswith(f"privacy_mode is strict, and model '{model}' {why}; local models that could serve")
        assert privacy.asked == []
        status, _, _ = await ask_least(gateway, path, "far", privacy_mode="flexible")
        assert status == 200, "flexible may go anywhere"


@every_path
async def test_a_strict_request_is_answered_here(gateway_of: Start, privacy: Privacy, path: str) -> None:
    async with gateway_of(privacy.config()) as gateway:
        for model, target in (
            ("near", "near/up"), ("near/up", "near/up"), ("echo", "echo/echo"), ("echoes", "echo/echo"),
            ("box", "box/here:latest"), ("here", "box/here:latest"), ("both", "near/up"),
        ):  # fmt: skip
            if model == "echo" and "embed" in path:
                continue  # by itself the echo is a chat model
            status, words, headers = await ask_least(gateway, path, model, privacy_mode="strict")
            assert (status, headers.get("X-Bridge-Target")) == (200, target), (model, words)
        assert privacy.far.about("up") == []


@every_path
async def test_privacy_words_never_reach_a_provider(gateway_of: Start, privacy: Privacy, path: str) -> None:
    async with gateway_of(privacy.config()) as gateway:
        for model, mode in (("near", "strict"), ("box", "strict"), ("far", "flexible"), ("box-stub", "flexible")):
            status, words, _ = await ask_least(gateway, path, model, privacy_mode=mode, task="chat")
            assert status == 200, (model, words)
        assert len(privacy.asked) == 4
        for seen in privacy.asked:
            assert b"privacy" not in seen.body and b"task" not in seen.body
            assert not any("privacy" in name for name in seen.headers)


@pytest.mark.parametrize("spelling", ["PRIVACY_MODE", "Privacy_Mode"])
@pytest.mark.parametrize("path", [path for path in LEAST if path.startswith("/api/")])
async def test_ollamas_doors_read_keys_in_any_case(
    gateway_of: Start, privacy: Privacy, path: str, spelling: str
) -> None:
    """As Go does (golden chat/body-case-keys)."""
    async with gateway_of(privacy.config()) as gateway:
        status, _, _ = await ask_least(gateway, path, "far", **{spelling: "strict"})
        assert status == 403 and privacy.asked == []
        for model in ("near", "box"):
            assert (await ask_least(gateway, path, model, **{spelling: "strict"}))[0] == 200
        assert all(b"privacy" not in seen.body.lower() for seen in privacy.asked)


@pytest.mark.parametrize("word", ["Strict", "on", "private", "", True, 5, ["strict"], {}])
@every_path
async def test_an_unknown_privacy_word_is_refused(gateway_of: Start, privacy: Privacy, path: str, word: Any) -> None:
    """Taken for flexible, it would leak."""
    async with gateway_of(privacy.config()) as gateway:
        for model in ("far", "near", "echoes", "box"):
            status, _, _ = await ask_least(gateway, path, model, privacy_mode=word)
            assert status == 400, model
        assert privacy.asked == []


async def test_a_strict_request_does_not_fall_back_to_the_cloud(gateway_of: Start, privacy: Privacy) -> None:
    words = ["completion"]
    config = privacy.config(local_first={"targets": ["near/down", "far/up"], "capabilities": words})
    privacy.near.play("down", Script(status=500, error="Down."))
    async with gateway_of(config) as gateway:
        status, _, headers = await ask_least(gateway, "/api/chat", "local_first", privacy_mode="strict")
        assert (status, headers["X-Bridge-Target"]) == (502, "near/down")
        assert privacy.far.about("up") == []
        status, _, _ = await ask_least(gateway, "/api/chat", "local_first")
        assert status == 200


@pytest.mark.parametrize("model", ["near", "echoes", "box"])
@every_door
async def test_a_strict_request_fetches_no_pictures(
    gateway_of: Start, privacy: Privacy, door: Door, model: str
) -> None:
    """Whoever fetches it, the address tells the other side of the conversation (product.md 3)."""
    ask = Ask((Turn("user", "What?", image_urls=("http://pictures.example/a.png",)),))
    async with gateway_of(privacy.config()) as gateway:
        heard = await gateway.ask(door, ask, model, False, privacy_mode="strict")
        assert heard.status == 403
        assert heard.error == (
            "privacy_mode is strict, and a picture or file is named by its address: fetching it would tell others; "
            "send what it holds"
        )
        assert privacy.asked == []


FETCHED = {
    "video": {"type": "video_url", "video_url": {"url": "https://films.example/a.mp4"}},
    "audio": {"type": "audio_url", "audio_url": {"url": "http://sounds.example/a.wav"}},
    "picture": {"type": "input_image", "image_url": "https://pictures.example/a.png"},
    "file": {"type": "file", "file": {"file_data": "https://files.example/a.pdf"}},
    "elsewhere": {"type": "of_a_later_day", "from": ["s3://bucket/a"]},
}


@pytest.mark.parametrize("part", FETCHED.values(), ids=FETCHED)
async def test_a_strict_request_has_nothing_fetched_by_parts_that_are_passed_on(
    gateway_of: Start, privacy: Privacy, part: dict[str, Any]
) -> None:
    """The body is relayed as it came, and the local server would fetch what it names."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "What?"}, part]}]
    async with gateway_of(privacy.config()) as gateway:
        path = "/v1/chat/completions"
        status, words, _ = await ask_least(gateway, path, "near", messages=messages, privacy_mode="strict")
        assert status == 403 and "privacy_mode is strict" in words and privacy.asked == []
        await ask_least(gateway, path, "near", messages=messages)
        assert [one.json["messages"] for one in privacy.asked] == [messages], "flexible may fetch"


async def test_a_strict_request_may_carry_files_of_its_own(gateway_of: Start, privacy: Privacy) -> None:
    part = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,//8="}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "See http://here.example"}, part]}]
    async with gateway_of(privacy.config()) as gateway:
        path = "/v1/chat/completions"
        assert (await ask_least(gateway, path, "near", messages=messages, privacy_mode="strict"))[0] == 200


async def test_a_real_ollama_by_its_usual_name_is_local(gateway_of: Start) -> None:
    async with FakeOllama({"tiny": ("completion",)}) as box:
        box.play("tiny:latest", SAID)
        async with gateway_of({"providers": {"ollama": {"base_url": box.url}}}) as gateway:
            status, words, _ = await ask_least(gateway, "/api/chat", "tiny", privacy_mode="strict")
            assert status == 200, words


async def test_a_cloud_model_is_known_before_the_first_list_has_come(gateway_of: Start) -> None:
    """The first request of all may be strict, and for a model whose name does not tell."""
    async with FakeOllama() as box:
        box.tags = {"models": [{**tag("stub", ("completion",)), "remote_host": "https://ollama.com:443"}]}
        for model in ("stub", "stub:latest"):
            box.play(model, SAID)
        async with gateway_of({"providers": {"box": ollama_provider(box.url, local=True)}}) as gateway:
            status, words, _ = await ask_least(gateway, "/api/chat", "box/stub", privacy_mode="strict")
            assert (status, words) == (
                403,
                "privacy_mode is strict, and model 'box/stub' is a cloud model of a real Ollama; local models that "
                "could serve it: echo",
            )


@pytest.mark.parametrize("listed", [True, False])
async def test_a_cloud_model_of_an_ollama_that_is_asked_by_another_wire(
    gateway_of: Start, privacy: Privacy, listed: bool
) -> None:
    """A real Ollama answers at /v1 as well, and sends the same names to its cloud."""
    models = ("gpt-oss:120b-cloud", "kimi:cloud")
    for model in (*models, "here:7b"):
        privacy.near.play(model, SAID)
    if listed:
        privacy.near.listing = {"data": [model_item(model) for model in (*models, "here:7b")]}
    async with gateway_of(privacy.config(sky={"targets": [f"near/{models[0]}"]})) as gateway:
        path = "/v1/chat/completions"
        async with asyncio.timeout(10):
            while listed and b"kimi" not in await (await gateway.http.get(f"{gateway.url}/api/tags")).read():
                pass
        for name in (*(f"near/{model}" for model in models), "sky"):
            status, words, _ = await ask_least(gateway, path, name, privacy_mode="strict")
            assert status == 403 and f"'{name}' is a cloud model of a real Ollama" in words
        assert privacy.asked == []
        assert (await ask_least(gateway, path, "near/here:7b", privacy_mode="strict"))[0] == 200
        assert (await ask_least(gateway, path, f"near/{models[0]}"))[0] == 200


def test_a_cloud_model_of_a_local_provider_of_any_kind_is_refused_in_the_table(tmp_path: Path) -> None:
    lab = "providers: {lab: {kind: openai, base_url: 'http://127.0.0.1:11434/v1', local: true}}\n"
    [line] = refused(tmp_path, f"{lab}routing: {{strict: {{chat: 'lab/gpt-oss:120b-cloud'}}}}")
    assert "strict requests would leave your machines: 'gpt-oss:120b-cloud' is a cloud model of Ollama" in line


# -- not local, though it looks so (product.md 3) ----------------------------------------------------------------------
async def test_a_model_that_has_come_to_be_answered_in_the_cloud(gateway_of: Start) -> None:
    """The list of a real Ollama that was read a moment ago says otherwise."""
    async with FakeOllama({"tiny": ("completion",)}) as box:
        box.play("tiny:latest", SAID)
        async with gateway_of({"providers": {"box": ollama_provider(box.url, local=True)}}) as gateway:
            assert (await ask_least(gateway, "/api/chat", "tiny", privacy_mode="strict"))[0] == 200
            box.tags = {"models": [{**tag("tiny", ("completion",)), "remote_host": "https://ollama.com:443"}]}
            with passing_time(discovery.FRESH):
                status, words, _ = await ask_least(gateway, "/api/chat", "tiny", privacy_mode="strict")
            assert status == 403 and "'tiny' is a cloud model of a real Ollama" in words
            assert len(box.about("tiny:latest")) == 1


async def test_a_real_ollama_that_does_not_say_what_it_has(gateway_of: Start) -> None:
    async with FakeOllama({"tiny": ("completion",)}) as box:
        box.play("tiny:latest", SAID)
        async with gateway_of({"providers": {"box": ollama_provider(box.url, local=True)}}) as gateway:
            assert (await ask_least(gateway, "/api/chat", "tiny", privacy_mode="strict"))[0] == 200
            box.tags = {"error": "out of order"}
            with passing_time(discovery.FRESH):
                status, _, _ = await ask_least(gateway, "/api/chat", "box/tiny", privacy_mode="strict")
            assert status == 403 and len(box.about("tiny:latest")) == 1


@contextmanager
def passing_time(seconds: float) -> Iterator[None]:
    """The loop's clock, as discovery reads it, is that much later inside."""
    loop = asyncio.get_running_loop()
    real = loop.time
    loop.time = lambda: real() + seconds  # type: ignore[method-assign]
    try:
        yield
    finally:
        loop.time = real  # type: ignore[method-assign]


def local_providers(url: str) -> dict[str, Any]:
    """One of each wire, at one address."""
    return {
        "openai-wire": {"kind": "openai", "base_url": f"{url}/v1", "local": True},
        "ollama-wire": {"kind": "ollama", "base_url": url, "local": True},
        "anthropic-wire": {"kind": "anthropic", "base_url": url, "api_key": "k", "local": True},
        "google-wire": {"kind": "google", "base_url": f"{url}/v1beta", "api_key": "k", "local": True},
        "huggingface-wire": {"kind": "huggingface", "base_url": f"{url}/v1", "api_key": "k", "local": True},
    }


WIRES = ["openai-wire", "ollama-wire", "anthropic-wire", "google-wire", "huggingface-wire"]


@pytest.mark.parametrize("wire", WIRES)
async def test_a_proxy_of_the_environment_is_not_used(
    gateway_of: Start, privacy: Privacy, wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stranger() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        providers = local_providers(privacy.near.url)
        async with gateway_of({"providers": {wire: providers[wire]}}) as gateway:
            await ask_least(gateway, "/v1/chat/completions", f"{wire}/up", privacy_mode="strict")
        assert proxy.visits == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("wire", WIRES)
async def test_a_redirect_is_not_followed(gateway_of: Start, privacy: Privacy, wire: str, status: int) -> None:
    async with Stranger() as elsewhere, Stranger(status, {"Location": f"{elsewhere.url}/there"}) as here:
        providers = local_providers(here.url)
        config = {
            "providers": {wire: providers[wire]},
            "models": {"it": {"targets": [f"{wire}/up"], "capabilities": ["completion"]}},
        }
        async with gateway_of(config) as gateway:
            answered, _, _ = await ask_least(gateway, "/api/chat", "it", privacy_mode="strict")
        assert answered in (403, 502) and elsewhere.visits == 0
        assert here.visits > 0


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:db8::7"])
@pytest.mark.parametrize("wire", WIRES)
async def test_a_host_name_that_stops_resolving_to_a_private_address(
    gateway_of: Start, wire: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stranger(404, {"Connection": "close"}) as here:
        names = {"llm.test": "127.0.0.1"}
        monkeypatch.setattr(socket, "getaddrinfo", resolving(names, socket.getaddrinfo))
        config = {
            "providers": {wire: local_providers(here.url.replace("127.0.0.1", "llm.test"))[wire]},
            "models": {"it": {"targets": [f"{wire}/up"], "capabilities": ["completion"]}},
        }
        async with gateway_of(config) as gateway:
            await ask_least(gateway, "/api/chat", "it", privacy_mode="strict")
            visits = here.visits
            assert visits > 0
            names["llm.test"] = address
            with connections() as opened:
                status, words, _ = await ask_least(gateway, "/api/chat", "it", privacy_mode="strict")
            assert {host for host, _ in opened} <= {"127.0.0.1", "::1"} and here.visits == visits
            if wire == "ollama-wire":  # its list cannot be had, so nobody knows where it answers
                assert status == 403
            else:
                why = "it is said to be local, and its address is not a private one"
                assert (status, words) == (502, f"cannot reach provider '{wire}': {why}")


def resolving(names: dict[str, str], real: Any) -> Any:
    """socket.getaddrinfo with names of a test's own."""

    def resolve(host: str, port: Any, *more: Any, **named: Any) -> Any:
        return real(names.get(host, host), port, *more, **named)

    return resolve


class Stranger:
    """A server that answers everything in one way, and counts how often it was visited."""

    def __init__(self, status: int = 500, headers: dict[str, str] | None = None) -> None:
        self.visits = 0
        self._status, self._headers = status, headers or {}

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        self.visits += 1
        return web.Response(status=self._status, headers=self._headers, text="{}", content_type="application/json")

    async def __aenter__(self) -> Stranger:
        self._runner = web.ServerRunner(web.Server(self._answer))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


async def test_free_servers_of_strangers_are_not_local(gateway_of: Start) -> None:
    config = {"providers": {"free": {"kind": "ollamafree"}}, "models": {"it": "free/llama3.2"}}
    async with gateway_of(config) as gateway:
        status, words, _ = await ask_least(gateway, "/api/chat", "it", privacy_mode="strict")
        assert status == 403 and "is answered by a provider that is not local" in words


def test_free_servers_of_strangers_cannot_be_said_to_be_local(tmp_path: Path) -> None:
    [line] = refused(tmp_path, "providers: {free: {kind: ollamafree, local: true}}")
    assert "a provider of kind ollamafree takes no 'local'" in line


def test_traces_are_not_exported(tmp_path: Path) -> None:
    [line] = refused(tmp_path, "tracing: {endpoint: 'https://traces.example.com'}")
    assert "section 'tracing' is not supported" in line


# -- who says strict, and for how long ---------------------------------------------------------------------------------
@every_path
@pytest.mark.parametrize("body", [{}, {"privacy_mode": "flexible"}], ids=["silent", "flexible"])
async def test_a_header_cannot_be_undone(gateway_of: Start, privacy: Privacy, path: str, body: dict[str, str]) -> None:
    async with gateway_of(privacy.config()) as gateway:
        gateway.http.headers["X-Bridge-Privacy"] = "strict"
        assert (await ask_least(gateway, path, "far", **body))[0] == 403
        status, _, headers = await ask_least(gateway, path, "both", **body)
        assert (status, headers["X-Bridge-Target"]) == (200, "near/up")
        assert privacy.far.about("up") == []


async def test_a_header_that_comes_twice_is_strict_if_one_is(gateway_of: Start, privacy: Privacy) -> None:
    """Whoever stands in front of the gateway may add one."""
    async with gateway_of(privacy.config()) as gateway:
        for words in (("strict", "flexible"), ("flexible", "strict")):
            headers = [("X-Bridge-Privacy", word) for word in words]
            body = {"model": "far", **LEAST["/api/chat"]}
            async with gateway.http.post(f"{gateway.url}/api/chat", json=body, headers=headers) as response:
                assert response.status == 403
        for word in ("Strict", "no", ""):
            headers = [("X-Bridge-Privacy", word)]
            async with gateway.http.post(f"{gateway.url}/api/chat", json=body, headers=headers) as response:
                assert response.status == 400
        assert privacy.asked == []


@every_path
async def test_a_model_can_be_strict_for_everybody(gateway_of: Start, privacy: Privacy, path: str) -> None:
    words = ["completion", "embedding"]
    config = privacy.config(ours={"targets": ["near/down", "near/up"], "capabilities": words, "privacy": "strict"})
    privacy.near.play("down", Script(status=404, error="The model `down` does not exist."))
    async with gateway_of(config) as gateway:
        status, _, headers = await ask_least(gateway, path, "ours", privacy_mode="flexible")
        assert (status, headers["X-Bridge-Target"]) == (200, "near/up")
        assert privacy.far.about("up") == []


@every_path
async def test_strict_may_be_the_default(gateway_of: Start, privacy: Privacy, path: str) -> None:
    async with gateway_of({**privacy.config(), "routing": {"default": "strict"}}) as gateway:
        assert (await ask_least(gateway, path, "far"))[0] == 403
        assert (await ask_least(gateway, path, "far", privacy_mode="flexible"))[0] == 200


def turns(*texts: str) -> list[dict[str, str]]:
    roles = itertools.cycle(("user", "assistant"))
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_a_conversation_that_was_strict_once_stays_so(gateway_of: Start, privacy: Privacy, path: str) -> None:
    async with gateway_of(privacy.config()) as gateway:
        secret = turns("My secret.", "Hello", "More of it.")
        assert (await ask_least(gateway, path, "near", messages=secret[:1], privacy_mode="strict"))[0] == 200
        for more in ({}, {"privacy_mode": "flexible"}):
            status, words, _ = await ask_least(gateway, path, "far", messages=secret, **more)
            assert status == 403 and "privacy_mode is strict" in words
            status, _, headers = await ask_least(gateway, path, "both", messages=secret, **more)
            assert (status, headers["X-Bridge-Target"]) == (200, "near/up")
        system = {"role": "system", "content": "Today is Monday."}
        assert (await ask_least(gateway, path, "far", messages=[system, *secret]))[0] == 403
        assert privacy.far.about("up") == []
        others = turns("Another matter.", "Hello", "More of it.")
        assert (await ask_least(gateway, path, "far", messages=others))[0] == 200
        assert (await ask_least(gateway, path, "far", messages=secret[:1]))[0] == 200, "a new one begins"


@pytest.mark.parametrize("first, later", [("chat", "embedding"), ("embedding", "chat"), ("embedding", "embedding")])
async def test_a_strict_conversation_stays_so_whatever_its_task(
    gateway_of: Start, privacy: Privacy, first: str, later: str
) -> None:
    async with gateway_of(privacy.config()) as gateway:
        secret = turns("My secret.", "Hello", "More of it.")
        told = {"messages": secret[:1], "task": first, "privacy_mode": "strict"}
        assert (await ask_least(gateway, "/api/chat", "near", **told))[0] == 200
        for more in ({}, {"privacy_mode": "flexible"}):
            status, words, _ = await ask_least(gateway, "/api/chat", "far", messages=secret, task=later, **more)
            assert status == 403 and "privacy_mode is strict" in words
        assert privacy.far.about("up") == []


async def test_a_strict_conversation_that_began_with_a_picture_stays_so(gateway_of: Start, privacy: Privacy) -> None:
    def shown(picture: str) -> list[dict[str, Any]]:
        return [{"role": "user", "content": "", "images": [picture]}, *turns("", "A cat.", "Whose?")[1:]]

    picture = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    other = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    async with gateway_of(privacy.config()) as gateway:
        first = shown(picture)[:1]
        assert (await ask_least(gateway, "/api/chat", "near", messages=first, privacy_mode="strict"))[0] == 200
        status, words, _ = await ask_least(gateway, "/api/chat", "far", messages=shown(picture))
        assert status == 403 and "privacy_mode is strict" in words and privacy.far.about("up") == []
        assert (await ask_least(gateway, "/api/chat", "far", messages=shown(other)))[0] == 200
