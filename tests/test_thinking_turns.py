"""Two turns of tools with thinking through the official `ollama` client, which drops ids, thoughts and signatures: each
service demands back what it gave, whole and unchanged, and gets it (policy/continuity).

That the services do demand it is shown too: what the gateway sends in the second turn is sent once more with one thing
missing or wrong, and must be refused.
"""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import ollama
import pytest
from conftest import Start
from fakes.anthropic_wire import FakeAnthropic, signature_of
from fakes.gemini_wire import KEY as GEMINI_KEY
from fakes.gemini_wire import PLACEHOLDER, FakeGemini
from fakes.openai_wire import KEY, FakeOpenAI
from fakes.responses_wire import FakeResponses
from fakes.script import Call, Refusal, Script, Seen, Upstream
from gateway import CAPABLE
from scenarios import WEATHER

THOUGHT = ("Weather? ", "Look.")
ONE_CALL = (Call("get_weather", ('{"city":', '"Oslo"}')),)
TWO_CALLS = (*ONE_CALL, Call("get_weather", ('{"city":"Rome"}',)))
Body = dict[str, Any]
Spoil = Callable[[Body], object]


# -- services that demand --------------------------------------------------------------------------------------------
class DemandingDeepSeek(FakeOpenAI):
    """Refuses a turn with calls that does not bring its reasoning back (providers.md section 8)."""

    def _script(self, body: Body) -> Script:
        for message in body["messages"]:
            if message.get("tool_calls") and message.get("reasoning_content") != "".join(THOUGHT):
                raise Refusal("The reasoning_content in the thinking mode must be passed back to the API.")
        return super()._script(body)


def claude(redacts: bool = False) -> FakeAnthropic:
    upstream = FakeAnthropic()
    upstream.wants_thoughts = True
    upstream.redacts = redacts
    return upstream


def gemini() -> FakeGemini:
    """One that does not take the word that stands for a lost signature."""
    upstream = FakeGemini()
    upstream.signatures.remove(PLACEHOLDER)
    return upstream


def responses() -> FakeResponses:
    upstream = FakeResponses()
    upstream.demanding.add("gpt-6-sol")
    return upstream


@dataclass(frozen=True)
class Service:
    """`path`: what follows the fake's address in its base URL. `asked`: the last part of the paths it is asked at.
    `spoils`: what must be in the second turn, each with what takes it out or makes it wrong."""

    name: str
    provider: str
    make: Callable[[], Upstream]
    model: str
    asked: str
    key: str = KEY
    path: str = ""
    spoils: Mapping[str, Spoil] = field(default_factory=dict)


# -- what is taken out of a second turn, or made wrong ---------------------------------------------------------------
def claudes(body: Body, kind: str) -> list[Body]:
    """Blocks of the turn that made the call."""
    return [block for block in body["messages"][1]["content"] if block["type"] == kind]


def without(body: Body, kind: str) -> None:
    turn = body["messages"][1]
    turn["content"] = [block for block in turn["content"] if block["type"] != kind]


def another_thought(body: Body) -> None:
    """With a signature of its own: signed, but not what was said."""
    claudes(body, "thinking")[0].update(thinking="No.", signature=signature_of("No."))


CLAUDES: dict[str, Spoil] = {
    "no thought": lambda body: without(body, "thinking"),
    "a wrong signature": lambda body: claudes(body, "thinking")[0].update(signature=signature_of("x")),
    "no signature": lambda body: claudes(body, "thinking")[0].pop("signature"),
    "a changed thought": lambda body: claudes(body, "thinking")[0].update(thinking="No."),
    "another thought": another_thought,
    "a wrong id": lambda body: claudes(body, "tool_use")[0].update(id="toolu_other"),
}
REDACTED: dict[str, Spoil] = {
    **CLAUDES,
    "no redacted thought": lambda body: without(body, "redacted_thinking"),
    "a wrong redacted thought": lambda body: claudes(body, "redacted_thinking")[0].update(data="x"),
    "thoughts in another order": lambda body: body["messages"][1]["content"].insert(
        0, body["messages"][1]["content"].pop(1)
    ),
}


def geminis(body: Body) -> Body:
    """The part with the call."""
    return next(part for part in body["contents"][1]["parts"] if "functionCall" in part)


GEMINIS: dict[str, Spoil] = {
    "no signature": lambda body: geminis(body).pop("thoughtSignature"),
    "a wrong signature": lambda body: geminis(body).update(thoughtSignature="d3Jvbmc="),
    "a placeholder": lambda body: geminis(body).update(thoughtSignature=PLACEHOLDER),
    "a wrong id": lambda body: geminis(body)["functionCall"].update(id="other"),
}
DEEPSEEKS: dict[str, Spoil] = {
    "no reasoning": lambda body: body["messages"][1].pop("reasoning_content"),
    "a wrong reasoning": lambda body: body["messages"][1].update(reasoning_content="No."),
    "no id": lambda body: body["messages"][2].pop("tool_call_id"),
    "a wrong id": lambda body: body["messages"][2].update(tool_call_id="call_other"),
}
RESPONSES: dict[str, Spoil] = {
    "no reasoning": lambda body: body["input"].pop(1),
    "a wrong reasoning": lambda body: body["input"][1].update(encrypted_content="sealed-other"),
    "nothing sealed": lambda body: body["input"][1].pop("encrypted_content"),
    "a wrong id": lambda body: body["input"][2].update(call_id="call_other"),
}

SERVICES = {
    service.name: service
    for service in (
        Service("claude", "anthropic", claude, "claude-sonnet-5", "messages", spoils=CLAUDES),
        Service("claude-redacted", "anthropic", lambda: claude(True), "claude-sonnet-5", "messages", spoils=REDACTED),
        Service("gemini", "google", gemini, "gemini-3.8-flash", "GenerateContent", GEMINI_KEY, "/v1beta", GEMINIS),
        Service("deepseek", "deepseek", DemandingDeepSeek, "deepseek-v4-flash", "completions", KEY, "/v1", DEEPSEEKS),
        Service("responses", "openai", responses, "gpt-6-sol", "responses", KEY, "/v1", RESPONSES),
    )
}


# -- two turns -------------------------------------------------------------------------------------------------------
@dataclass
class Two:
    """`upstream` before it is asked; `seen` after both turns: what it was asked."""

    upstream: Upstream
    client: ollama.AsyncClient
    service: Service

    @property
    def seen(self) -> list[Seen]:
        asked = self.service.asked.lower()
        return [seen for seen in self.upstream.seen if seen.path.lower().endswith(asked)]


@asynccontextmanager
async def asked_through(gateway_of: Start, service: Service) -> AsyncIterator[Two]:
    async with service.make() as upstream:
        config = {
            "providers": {service.provider: {"base_url": upstream.url + service.path, "api_key": service.key}},
            "models": {"it": {"provider": service.provider, "model": service.model, "capabilities": CAPABLE}},
        }
        async with gateway_of(config) as gateway:
            client = ollama.AsyncClient(host=gateway.url)
            yield Two(upstream, client, service)
            await client._client.aclose()


async def ask(client: ollama.AsyncClient, messages: list[Any], stream: bool) -> tuple[str, str, list[Any]]:
    """-> (text, thought, calls)."""
    if not stream:
        message = (await client.chat("it", messages, tools=[WEATHER], think=True)).message
        return message.content or "", message.thinking or "", list(message.tool_calls or [])
    said, thought, calls = "", "", []
    async for part in await client.chat("it", messages, tools=[WEATHER], think=True, stream=True):
        said += part.message.content or ""
        thought += part.message.thinking or ""
        calls += part.message.tool_calls or []
    return said, thought, calls


async def two_turns(two: Two, calls: tuple[Call, ...], stream: bool) -> None:
    two.upstream.play(two.service.model, Script((), THOUGHT, calls), Script(("3 degrees.",), ("Cold.",)))
    messages: list[Any] = [{"role": "user", "content": "Weather in Oslo?"}]
    said, thought, made = await ask(two.client, messages, stream)
    assert (said, thought) == ("", "Weather? Look.")
    assert [(call.function.name, call.function.arguments) for call in made] == [
        (call.name, call.arguments) for call in calls
    ]
    messages.append({"role": "assistant", "content": said, "tool_calls": made})
    messages += [{"role": "tool", "tool_name": "get_weather", "content": "3 degrees"} for _ in made]
    assert await ask(two.client, messages, stream) == ("3 degrees.", "Cold.", [])


@pytest.mark.parametrize("calls", [ONE_CALL, TWO_CALLS], ids=["one call", "two calls"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
async def test_a_service_gets_back_what_the_client_drops(
    gateway_of: Start, service: Service, stream: bool, calls: tuple[Call, ...]
) -> None:
    async with asked_through(gateway_of, service) as two:
        await two_turns(two, calls, stream)
        assert len(two.seen) == 2, "a turn was refused, and mended by asking again"


def spoiled() -> list[Any]:
    return [
        pytest.param(service, spoil, id=f"{service.name}-{what}")
        for service in SERVICES.values()
        for what, spoil in service.spoils.items()
    ]


@pytest.mark.parametrize(("service", "spoil"), spoiled())
async def test_a_service_refuses_what_is_missing_or_wrong(gateway_of: Start, service: Service, spoil: Spoil) -> None:
    """Whether the turns above could have gone through without it."""
    async with asked_through(gateway_of, service) as two:
        await two_turns(two, ONE_CALL, stream=False)
        second = two.seen[-1]
        body = copy.deepcopy(second.json)
        assert await status_of(two.upstream, second, body) == 200
        spoil(body)
        assert body != second.json
        assert await status_of(two.upstream, second, body) in (400, 404)


async def status_of(upstream: Upstream, seen: Seen, body: Body) -> int:
    """Of the same request with another body."""
    kept = {name: seen.headers[name] for name in seen.headers if name not in ("host", "content-length")}
    async with (
        aiohttp.ClientSession() as session,
        session.post(upstream.url + seen.path, data=json.dumps(body), headers=kept) as answer,
    ):
        await answer.read()
        return answer.status
