"""A gateway before one upstream of every wire, each with another target behind it that takes over.

Knows: how the two targets are configured, how one looks after the gateway from outside, how a client leaves. Must not
know: which fault is played, what must come of it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from doors import CHAT, V1, Ask, Door, Turn
from fakes.anthropic_wire import FakeAnthropic
from fakes.gemini_wire import KEY as GEMINI_KEY
from fakes.gemini_wire import FakeGemini
from fakes.huggingface_wire import FakeHuggingFace
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import KEY, FakeOpenAI
from fakes.responses_wire import FakeResponses
from fakes.script import Upstream
from faults import WIRES
from gateway import CAPABLE, Gateway, ollama_provider, openai_provider, warm
from watch import Watch

DOORS: tuple[Door, ...] = (CHAT, V1)
GUARD = 20.0  # seconds after which a test gives up waiting for what must come
COUNT = Ask((Turn("user", "Count."),))

FAKES: dict[str, Callable[[], Upstream]] = {
    "openai": FakeOpenAI, "responses": FakeResponses, "anthropic": FakeAnthropic, "gemini": FakeGemini,
    "huggingface": FakeHuggingFace, "ollama": FakeOllama,
}  # fmt: skip
# Names of the configured providers. The second target speaks another wire than the first.
ACCOUNTS = {"anthropic": "anthropic", "gemini": "google", "huggingface": "huggingface"}
SECOND = {wire: "spare" if wire in ("openai", "responses", "huggingface") else "second" for wire in WIRES}


@dataclass
class World:
    """Upstreams by wire, and `second` and `spare`, who take over."""

    gateway: Gateway
    upstreams: dict[str, Upstream]
    watch: Watch

    async def well(self) -> None:
        """Alive, nothing under way, no bug logged."""
        gateway = self.gateway
        async with gateway.http.get(f"{gateway.url}/health") as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})
        heard = await gateway.ask(CHAT, COUNT, "echo", False)
        assert (heard.status, heard.text) == (200, "Count.")
        assert await self.gauge("active_streams") == 0
        self.watch.assert_quiet()

    async def gauge(self, name: str) -> float:
        async with self.gateway.http.get(f"{self.gateway.url}/metrics") as response:
            found = re.search(rf"^{re.escape(name)} (\S+)$", await response.text(), re.M)
        return float(found[1]) if found else 0.0


def account(wire: str) -> str:
    return ACCOUNTS.get(wire, f"the-{wire}")


def entries(upstreams: dict[str, Upstream]) -> dict[str, dict[str, Any]]:
    urls = {name: upstream.url for name, upstream in upstreams.items()}
    return {
        account("openai"): openai_provider(urls["openai"]),
        account("responses"): openai_provider(urls["responses"]),
        account("anthropic"): {"kind": "anthropic", "base_url": urls["anthropic"], "api_key": KEY},
        account("gemini"): {"kind": "google", "base_url": f"{urls['gemini']}/v1beta", "api_key": GEMINI_KEY},
        account("huggingface"): {"kind": "huggingface", "base_url": f"{urls['huggingface']}/v1", "api_key": KEY},
        account("ollama"): ollama_provider(urls["ollama"]),
        "second": openai_provider(urls["second"]),
        "spare": ollama_provider(urls["spare"]),
        "echo": {"kind": "echo"},
    }


def model(wire: str, name: str, alone: bool = False, **more: Any) -> dict[str, Any]:
    """The public model: the wire's target, and the second. Upstream it is called otherwise, so that one name showing up
    in place of the other is seen."""
    targets = [f"{account(wire)}/up-{name}", f"{SECOND[wire]}/up-{name}"][: 1 if alone else 2]
    api = {"api": "responses"} if wire == "responses" else {}
    return {"targets": targets, "capabilities": CAPABLE, **api, **more}


@asynccontextmanager
async def fakes() -> AsyncIterator[dict[str, Upstream]]:
    async with AsyncExitStack() as stack:
        made = {wire: await stack.enter_async_context(fake()) for wire, fake in FAKES.items()}
        made["second"] = await stack.enter_async_context(FakeOpenAI())
        made["spare"] = await stack.enter_async_context(FakeOllama())
        yield made


async def warmed(gateway: Gateway, upstreams: dict[str, Upstream]) -> None:
    for wire in WIRES:
        await warm(gateway, upstreams[wire], account(wire))
    for name in ("second", "spare"):
        await warm(gateway, upstreams[name], name)


def spoken(door: Door, wire: str) -> Door:
    """The door, without judging words that are a real Ollama's own."""
    return replace(door, relayed=True) if (wire, door) == ("ollama", CHAT) else door  # type: ignore[type-var]


async def everywhere(cases: Iterable[tuple[str, Awaitable[None]]]) -> None:
    """All at once; every case that fails is told, by its name."""
    names, running = zip(*cases, strict=True)
    results = await asyncio.wait_for(asyncio.gather(*running, return_exceptions=True), GUARD)
    failures = []
    for name, result in zip(names, results, strict=True):
        if isinstance(result, BaseException):
            result.add_note(f"at {name}")
            failures.append(result)
    if failures:
        raise BaseExceptionGroup(f"{len(failures)} of {len(names)}", failures) if len(failures) > 1 else failures[0]


async def leave(
    gateway: Gateway, upstream: Upstream, door: Door, names: tuple[str, str], stream: bool = True, after: bytes = b""
) -> float:
    """Asks for a model over a bare connection and closes it once the upstream is at work and `after` has come.
    `names`: the public one and the upstream's, which nobody has asked for before. -> seconds until the upstream
    knows."""
    public, upstreams = names
    body = json.dumps(door.body(COUNT, public, stream)).encode()
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST {door.path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    seen = await asyncio.wait_for(upstream.request_about(upstreams), GUARD)
    if after:
        await asyncio.wait_for(reader.readuntil(after), GUARD)
    left = asyncio.get_running_loop().time()
    writer.transport.abort()
    await asyncio.wait_for(seen.gone.wait(), GUARD)
    assert seen.gone_at is not None
    return seen.gone_at - left
