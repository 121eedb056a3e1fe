"""privacy_mode: a strict request never leaves our machines (product.md 3), by whatever name, door or detour.

Seen from outside: the upstreams know what reached them.
"""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Start
from doors import CHAT, GENERATE, V1, Ask, Door, Turn
from fakes.ollama_wire import FakeOllama, tag
from fakes.openai_wire import FakeOpenAI
from fakes.script import Script, Seen
from gateway import LEAST, ask_least, ollama_provider, openai_provider

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
            assert (status, words) == (400, f"privacy_mode is strict, and model '{model}' {why}")
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
        assert status == 400 and privacy.asked == []
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
        assert heard.status == 400
        assert heard.error == (
            "privacy_mode is strict, and a picture is named by its address: fetching it would tell others; send the "
            "picture itself"
        )
        assert privacy.asked == []


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
                400,
                "privacy_mode is strict, and model 'box/stub' is a cloud model of a real Ollama",
            )
