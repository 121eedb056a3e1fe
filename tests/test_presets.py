"""Services of the preset rows, through the whole gateway: what of a request reaches each, and how it is spelled there.

One row a quirk. What a row of presets.py or a rule of policy/families says of a service is worth nothing until it
is seen in the request that goes out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest
from aiohttp import web
from conftest import Start
from doors import CHAT, Ask, Turn
from fakes.openai_wire import KEY, FakeOpenAI, chat_frames, chat_whole, content_type
from fakes.script import Call, Refusal, Script, dumps
from gateway import CAPABLE
from scenarios import DOT, WEATHER

from ollama_bridge.config.fields import Kind
from ollama_bridge.engine import PROVIDERS
from ollama_bridge.providers.presets import PRESETS

# What every request says beside its quirks.
ALWAYS = frozenset({"model", "messages", "stream"})
HI = Turn("user", "Hi")


class Service(FakeOpenAI):
    """Takes parameters of any name: each service has its own."""

    async def chat(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        try:
            body = self._judged(seen)
            script = self._script(body)
        except Refusal as refusal:
            return self.refused(refusal)
        frames = list(chat_frames(script, body)) if body.get("stream") else None
        return await self.perform(request, seen, script, frames, dumps(chat_whole(script, body)), content_type(body))


@dataclass(frozen=True)
class Quirk:
    """`options` are Ollama's. `sent`: what the request says beside ALWAYS. `dropped`: X-Bridge-Dropped."""

    preset: str
    model: str
    ask: Ask = field(default_factory=lambda: Ask((HI,)))
    options: dict[str, Any] = field(default_factory=dict)
    sent: dict[str, Any] = field(default_factory=dict)
    dropped: str = ""
    script: Script = field(default_factory=lambda: Script(("Hel", "lo")))
    thinking: str = ""

    @property
    def id(self) -> str:
        what = [*self.options, *self.sent, *self.dropped.split(", ")]
        return "-".join((self.preset, self.model.rpartition("/")[2], *dict.fromkeys(filter(None, what))))


QUIRKS = [
    Quirk("groq", "llama-3.3-70b-versatile", options={"num_predict": 9}, sent={"max_completion_tokens": 9}),
    Quirk("groq", "llama-3.3-70b-versatile", Ask((HI,), logprobs=True), dropped="logprobs"),
    Quirk("openrouter", "z-ai/glm-5", Ask((HI,), think="high"), sent={"reasoning": {"effort": "high"}}),
    Quirk("openrouter", "z-ai/glm-5", options={"repeat_penalty": 1.2}, sent={"repetition_penalty": 1.2}),
    Quirk("deepseek", "deepseek-v4-flash", Ask((HI,), think=False), sent={"thinking": {"type": "disabled"}}),
    Quirk("mistral", "mistral-large-latest", options={"seed": 7, "top_k": 5}, sent={"random_seed": 7}, dropped="top_k"),
    Quirk("xai", "grok-4.7", options={"presence_penalty": 0.5}, dropped="presence_penalty"),
    Quirk("together", "Qwen/Qwen3-32B", options={"top_k": 5, "min_p": 0.1}, sent={"top_k": 5, "min_p": 0.1}),
    Quirk("fireworks", "accounts/fireworks/models/glm-5", options={"min_p": 0.1}, sent={"min_p": 0.1}),
    Quirk("cerebras", "zai-glm-5.3", Ask((HI,), think="medium"), sent={"reasoning_effort": "high"}),
    Quirk("perplexity", "sonar-pro", options={"seed": 7}, dropped="seed"),
    Quirk(
        "perplexity", "sonar-reasoning-pro", script=Script(("<think>Hm.</think>", "Hello")), thinking="Hm."
    ),
    Quirk("sambanova", "gpt-oss-120b", Ask((HI,), think="high"), sent={"reasoning_effort": "high"}),
    Quirk("sambanova", "gpt-oss-120b", options={"top_k": 5, "seed": 7}, sent={"top_k": 5}, dropped="seed"),
    Quirk("sambanova", "gpt-oss-120b", Ask((HI,), logprobs=True, top=2), dropped="logprobs"),
    Quirk(
        "sambanova", "gpt-oss-120b", script=Script(("Hello",), ("Hm.",), thinking_field="reasoning"), thinking="Hm."
    ),
    Quirk(
        "sambanova", "DeepSeek-V3.1", Ask((HI,), think=True), sent={"chat_template_kwargs": {"enable_thinking": True}}
    ),
    Quirk("sambanova", "Meta-Llama-3.3-70B-Instruct", Ask((HI,), think="high"), dropped="think"),
    Quirk("vllm", "Qwen3-32B", Ask((HI,), think=False), sent={"chat_template_kwargs": {"enable_thinking": False}}),
    Quirk("llamacpp", "any", options={"typical_p": 0.5}, sent={"typical_p": 0.5}),
    Quirk("lmstudio", "any", options={"top_k": 5, "min_p": 0.1}, sent={"top_k": 5}, dropped="min_p"),
]  # fmt: skip


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with Service() as upstream:
        assert isinstance(upstream, Service)
        yield upstream


def config(service: Service, preset: str, model: str) -> dict[str, Any]:
    return {
        "providers": {preset: {"base_url": f"{service.url}/v1", "api_key": KEY}},
        "models": {"it": {"provider": preset, "model": model, "capabilities": CAPABLE}},
    }


@pytest.mark.parametrize("quirk", QUIRKS, ids=[quirk.id for quirk in QUIRKS])
async def test_a_quirk(service: Service, gateway_of: Start, quirk: Quirk) -> None:
    service.play(quirk.model, quirk.script)
    async with gateway_of(config(service, quirk.preset, quirk.model)) as gateway:
        more = {"options": quirk.options} if quirk.options else {}
        heard = await gateway.ask(CHAT, quirk.ask, "it", False, **more)
    assert (heard.status, heard.text, heard.thinking) == (200, "Hello", quirk.thinking), heard.error
    [asked] = service.about(quirk.model)
    assert {name: value for name, value in asked.json.items() if name not in ALWAYS} == quirk.sent
    assert heard.headers.get("x-bridge-dropped", "") == quirk.dropped


async def test_sambanova_gets_back_what_a_model_thought(service: Service, gateway_of: Start) -> None:
    call = Call("get_weather", ('{"city":"Oslo"}',), "c1")
    turns = (HI, Turn("assistant", thinking="Look.", calls=(call,)), Turn("tool", "3 degrees", answers=0))
    service.play("gpt-oss-120b", Script(("Cold.",)))
    async with gateway_of(config(service, "sambanova", "gpt-oss-120b")) as gateway:
        heard = await gateway.ask(CHAT, Ask(turns, tools=(WEATHER,)), "it", True)
    assert heard.text == "Cold."
    assert service.about("gpt-oss-120b")[0].json["messages"][1]["reasoning"] == "Look."


async def test_sambanova_is_never_sent_an_address_of_a_picture(service: Service, gateway_of: Start) -> None:
    service.play("gpt-oss-120b", Script(("A dot.",)))
    async with gateway_of(config(service, "sambanova", "gpt-oss-120b")) as gateway:
        shown = await gateway.ask(CHAT, Ask((Turn("user", "What?", images=(DOT,)),)), "it", False)
        named = await gateway.ask(CHAT, Ask((Turn("user", "What?", image_urls=(f"{service.url}/dot",)),)), "it", False)
    assert (shown.status, named.status) == (200, 400)
    assert len(service.about("gpt-oss-120b")) == 1


WIRE = [name for name, preset in PRESETS.items() if preset.kind == "openai" and not preset.profile.responses]


def test_every_service_of_the_wire_has_a_row() -> None:
    assert {quirk.preset for quirk in QUIRKS} == set(WIRE)


def test_every_kind_has_its_line() -> None:
    assert set(PROVIDERS) == set(get_args(Kind))
