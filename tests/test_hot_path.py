"""What a streamed token may cost, counted in calls: no SDK and no pydantic has a part in it, each frame is decoded once
and what arrived in one read leaves in one write.

How long a token takes is measured by `make bench`. What that could miss is a path that falls back to the typed objects
of an SDK without a word, for one wire, or for the first stream alone.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from doors import CHAT, GENERATE, V1, Ask, Door, Turn
from fakes.anthropic_wire import FakeAnthropic
from fakes.gemini_wire import KEY as GEMINI_KEY
from fakes.gemini_wire import FakeGemini
from fakes.huggingface_wire import FakeHuggingFace
from fakes.openai_wire import KEY, FakeOpenAI
from fakes.script import Script, Upstream
from gateway import Gateway, running, warm

in_module = pytest.mark.asyncio(loop_scope="module")

ASK = Ask((Turn("user", "Count."),))
DOORS = (CHAT, GENERATE, V1)
FAKES: dict[str, type[FakeOpenAI] | type[FakeAnthropic] | type[FakeGemini]] = {
    "openai": FakeOpenAI, "huggingface": FakeHuggingFace, "anthropic": FakeAnthropic, "google": FakeGemini,
}  # fmt: skip
ADDRESS = {"openai": "/v1", "huggingface": "/v1", "anthropic": "", "google": "/v1beta"}
ACCOUNTS = ("few", "many", "used")  # of each kind of provider; only the last has had a stream before a test counts
GUARD = 30.0  # seconds after which a test gives up waiting for what must come
# Whose functions are no business of a stream, by their folders among the installed packages.
FOREIGN = re.compile(
    r"/site-packages/(openai|anthropic|google/genai|huggingface_hub|ollamafreeapi|httpx2?|httpcore2?|pydantic)/"
)
OWN = str(Path(__file__).resolve().parent.parent / "ollama_bridge")


class Calls:
    """What was called in this thread. `foreign`: functions of an SDK or of pydantic; `decoded`: JSON values decoded by
    the gateway; `read`: reads of an upstream that brought something; `written`: writes to a client's stream."""

    def __init__(self) -> None:
        self.foreign: Counter[str] = Counter()
        self.decoded = self.read = self.written = 0

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        code = frame.f_code
        if event == "call" and FOREIGN.search(code.co_filename):
            self.foreign[f"{code.co_filename.rpartition('site-packages/')[2]}: {code.co_qualname}"] += 1
        elif event == "return" and code.co_filename.startswith(OWN):
            self.read += code.co_qualname == "AiohttpUpstream.read" and isinstance(arg, bytes) and bool(arg)
            self.written += code.co_qualname == "HttpSink.write"
        elif event == "c_call" and code.co_filename.startswith(OWN):
            self.decoded += arg.__name__ == "decode" and isinstance(arg.__self__, msgspec.json.Decoder)


@contextmanager
def counted() -> Iterator[Calls]:
    calls, before = Calls(), sys.getprofile()
    sys.setprofile(calls)
    try:
        yield calls
    finally:
        sys.setprofile(before)


class World:
    def __init__(self, gateway: Gateway, upstreams: dict[str, Upstream]) -> None:
        self.gateway = gateway
        self.upstreams = upstreams

    async def stream(self, provider: str, account: str, door: Door, tokens: int) -> Calls:
        """One stream of so many tokens -> what was called for it."""
        model = f"count-to-{tokens}"
        words = tuple(f"number {number} " for number in range(tokens))
        self.upstreams[provider].play(model, Script(text=words))
        with counted() as calls:
            heard = await self.gateway.ask(door, ASK, f"{provider}-{account}/{model}", True)
        assert heard.finished and heard.text == "".join(words)
        return calls


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A gateway with its clients built and its catalogues read: what runs beside a stream would be counted with it."""
    async with AsyncExitStack() as stack:
        upstreams: dict[str, Upstream] = {
            name: await stack.enter_async_context(fake(("listed",))) for name, fake in FAKES.items()
        }
        providers = {
            f"{name}-{account}": {
                "kind": name,
                "base_url": upstreams[name].url + ADDRESS[name],
                "api_key": GEMINI_KEY if name == "google" else KEY,
                "list": ["listed"],
            }
            for name in FAKES
            for account in ACCOUNTS
        }
        folder = tmp_path_factory.mktemp("hot-path")
        gateway = await stack.enter_async_context(running(folder, {"providers": providers}))
        for name, upstream in upstreams.items():
            for account in ACCOUNTS:
                await warm(gateway, upstream, f"{name}-{account}")
        world = World(gateway, upstreams)
        async with asyncio.timeout(GUARD):
            while not await listed(gateway) >= {f"{account}/listed:latest" for account in providers}:
                pass
        yield world


async def listed(gateway: Gateway) -> set[str]:
    async with gateway.http.get(f"{gateway.url}/v1/models") as response:
        return {model["id"] for model in (await response.json())["data"]}


@pytest.mark.parametrize("provider", FAKES)
@in_module
async def test_the_first_stream_passes_an_sdk_by_its_head_alone(world: World, provider: str) -> None:
    """What is called of the SDK, that the head takes, does not grow with the answer."""
    few = await world.stream(provider, "few", CHAT, 5)
    many = await world.stream(provider, "many", CHAT, 105)
    assert few.foreign, "nothing was watched"
    assert many.foreign.total() < few.foreign.total() + 50, (many.foreign - few.foreign).most_common(5)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
@pytest.mark.parametrize("provider", FAKES)
@in_module
async def test_later_streams_pass_no_sdk(world: World, provider: str, door: Door) -> None:
    await world.stream(provider, "used", door, 20)
    calls = await world.stream(provider, "used", door, 20)
    assert not calls.foreign, calls.foreign.most_common(5)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
@pytest.mark.parametrize("provider", FAKES)
@in_module
async def test_a_frame_is_decoded_once_and_a_read_written_once(world: World, provider: str, door: Door) -> None:
    few = await world.stream(provider, "used", door, 10)
    many = await world.stream(provider, "used", door, 210)
    relayed = door is V1 and provider in ("openai", "huggingface")
    assert many.decoded - few.decoded <= (20 if relayed else 200)
    assert 100 < many.written <= many.read + 1
