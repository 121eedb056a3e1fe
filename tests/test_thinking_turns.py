"""Two turns of tools with thinking through the official `ollama` client, which drops ids, thoughts and signatures: each
service demands back what it gave, and gets it (policy/continuity). OpenAI's Responses API: test_responses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ollama
import pytest
from conftest import Start
from fakes.anthropic_wire import FakeAnthropic
from fakes.gemini_wire import KEY as GEMINI_KEY
from fakes.gemini_wire import FakeGemini
from fakes.openai_wire import KEY, FakeOpenAI
from fakes.script import Call, Refusal, Script, Upstream
from gateway import CAPABLE

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class DemandingDeepSeek(FakeOpenAI):
    """Refuses a turn with calls that does not bring its reasoning back (providers.md section 8)."""

    def _script(self, body: dict[str, Any]) -> Script:
        for message in body["messages"]:
            if message.get("tool_calls") and message.get("reasoning_content") != "Weather? Look.":
                raise Refusal("The reasoning_content in the thinking mode must be passed back to the API.")
        return super()._script(body)


def demanding_claude() -> FakeAnthropic:
    upstream = FakeAnthropic()
    upstream.wants_thoughts = True
    return upstream


@dataclass(frozen=True)
class Service:
    """`path`: what follows the fake's address in its base URL."""

    provider: str
    make: Callable[[], Upstream]
    model: str
    key: str
    path: str = ""


SERVICES = [
    Service("anthropic", demanding_claude, "claude-sonnet-5", KEY),
    Service("google", FakeGemini, "gemini-3.8-flash", GEMINI_KEY, "/v1beta"),
    Service("deepseek", DemandingDeepSeek, "deepseek-v4-flash", KEY, "/v1"),
]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("service", SERVICES, ids=[service.provider for service in SERVICES])
async def test_a_service_gets_back_what_the_client_drops(gateway_of: Start, service: Service, stream: bool) -> None:
    async with service.make() as upstream:
        upstream.play(
            service.model,
            Script((), ("Weather? ", "Look."), (Call("get_weather", ('{"city":"Oslo"}',)),)),
            Script(("3 degrees.",), ("Cold.",)),
        )
        config = {
            "providers": {service.provider: {"base_url": upstream.url + service.path, "api_key": service.key}},
            "models": {"it": {"provider": service.provider, "model": service.model, "capabilities": CAPABLE}},
        }
        async with gateway_of(config) as gateway:
            client = ollama.AsyncClient(host=gateway.url)
            messages: list[Any] = [{"role": "user", "content": "Weather in Oslo?"}]
            said, thought, calls = await ask(client, messages, stream)
            assert (said, thought) == ("", "Weather? Look.")
            assert [(call.function.name, call.function.arguments) for call in calls] == [
                ("get_weather", {"city": "Oslo"})
            ]
            messages += [
                {"role": "assistant", "content": said, "tool_calls": calls},
                {"role": "tool", "tool_name": "get_weather", "content": "3 degrees"},
            ]
            said, thought, calls = await ask(client, messages, stream)
            assert (said, thought, calls) == ("3 degrees.", "Cold.", [])
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
