"""The traps that official SDKs and real services lay, each with its proof: `TRAPS` names them all, with the section of
providers.md that tells of them and the one test that shows that the gateway does not fall in.

Some proofs stand with the contract of their SDK (test_sdk_*, test_sdks); the others are here: a whole gateway, the real
SDK of each provider, and a fake service on a real socket. Where an SDK's own behaviour is the trap and costs no time to
see, the test shows it first, so that it is known when a new version mends it.
"""

from __future__ import annotations

import ast
import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conftest import Start
from doors import CHAT, V1, Ask, Door, Heard, Turn
from fakes.anthropic_wire import FakeAnthropic
from fakes.gemini_wire import KEY as GEMINI_KEY
from fakes.gemini_wire import FakeGemini
from fakes.huggingface_wire import FakeHuggingFace
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import KEY, FakeOpenAI
from fakes.responses_wire import FakeResponses
from fakes.script import Script, Trouble, Upstream
from gateway import Gateway, alias

from ollama_bridge.dialects.base import CHAT as CHATS
from ollama_bridge.dialects.base import EMBED, Profile
from ollama_bridge.errors import GatewayError, UpstreamRefused
from ollama_bridge.providers import huggingface
from ollama_bridge.providers.base import Call, Timeouts
from ollama_bridge.providers.huggingface import HuggingFaceProvider
from ollama_bridge.providers.transport import open_session

# "section: trap" -> the test that proves it, as FILE::FUNCTION.
TRAPS = {
    # -- providers.md 6.4
    "6.4: a refused connection is reported as a time-out": "test_traps::test_a_refused_connection_is_no_time_out",
    "6.4: Gemini's SDK takes any status but 200 for an error": "test_sdk_google::test_anything_but_200_is_no_answer",
    "6.4: an error object under status 200": "test_traps::test_an_error_under_status_200_is_an_error",
    "6.4: a stream request answered with one JSON object": "test_traps::test_a_stream_that_is_answered_whole_is_read",
    "6.4: a stream request answered with no stream": "test_traps::test_a_stream_that_is_none_is_no_empty_answer",
    "6.4: no blank line after the last event": "test_traps::test_the_last_event_counts_without_its_blank_line",
    # -- providers.md 7.3
    "7.3: openai: closing a stream": "test_sdks::test_closing_in_mid_stream_closes_the_connection",
    "7.3: anthropic: closing a stream": "test_sdk_anthropic::test_closing_in_mid_stream_closes_the_connection",
    "7.3: openai: cancelling who waits for a chunk": "test_sdks::test_cancelling_a_read_loses_nothing",
    "7.3: anthropic: cancelling who waits for a chunk": "test_sdk_anthropic::test_cancelling_a_read_loses_nothing",
    "7.3: google: cancelling who waits for a chunk": "test_sdk_google::test_cancelling_a_read_leaves_the_answer_whole",
    "7.3: huggingface: cancelling who waits": "test_sdk_huggingface::test_who_leaves_closes_the_upstream",
    "7.3: google: a stream that stays open": "test_sdk_google::test_closing_in_mid_stream_closes_the_connection",
    "7.3: huggingface: a generator that is dropped": "test_traps::test_nothing_waits_for_a_collection_of_garbage",
    "7.3: a server that is not told when its client leaves": "test_traps::test_who_leaves_closes_every_upstream",
    "7.3: two hundred streams through one client": "test_sdks::test_two_hundred_streams_at_once",
    # -- providers.md 9.3
    "9.3: the first request asks the Hub, and blocks": "test_sdk_huggingface::test_the_hub_is_not_asked_who_is_asking",
    "9.3: every stream leaves something behind": "test_sdk_huggingface::test_streams_leave_nothing_behind",
    "9.3: looking a name up blocks": "test_sdk_huggingface::test_looking_a_name_up_does_not_block",
    "9.3: a break in mid-stream is a bare network error": "test_traps::test_a_break_in_mid_stream_is_told",
    "9.3: an error in mid-stream is an unknown one": "test_traps::test_an_error_in_mid_stream_keeps_its_words",
    "9.3: no retries": "test_traps::test_nothing_is_asked_twice_behind_our_back",
    "9.3: no time-out": "test_traps::test_our_limits_hold_at_the_router",
    "9.3: embeddings need numpy": "test_sdk_huggingface::test_numpy_is_not_needed",
    # -- told of elsewhere there
    "1.1: Gemini's SDK sleeps 1 to 10 s after a failed connection": "test_sdk_google::test_nobody_listens",
    "2.4: Anthropic's SDK refuses a long answer that is no stream": "test_traps::test_a_long_whole_answer_is_asked_for",
    "6.1: an empty data line, or an event that has only an id": "test_traps::test_an_empty_data_line_is_nothing",
}  # fmt: skip

HI = Ask((Turn("user", "Hi"),))
GUARD = 10.0  # seconds after which a test gives up waiting for what must come
BRIEF = 0.25  # seconds within which an upstream must be closed (providers.md 11.3)


def test_every_trap_has_its_proof() -> None:
    """Each proof exists and proves one trap, and no test of this file is missing in the table."""
    tests = Path(__file__).parent
    proofs = list(TRAPS.values())
    assert len(set(proofs)) == len(proofs)
    for proof in proofs:
        file, _, function = proof.partition("::")
        assert function in functions(tests / f"{file}.py"), proof
    here = {f"test_traps::{name}" for name in functions(Path(__file__)) if name.startswith("test_")}
    assert here - set(proofs) == {"test_traps::test_every_trap_has_its_proof"}


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


# -- a gateway before each service -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Service:
    """`provider`: a preset's name. `path`: what follows the fake's address in its base URL. `own`: the door whose
    client gets its bytes as they are."""

    name: str
    provider: str
    make: Callable[[], Upstream]
    key: str | None = KEY
    path: str = "/v1"
    api: str = "auto"
    own: Door | None = None

    def door(self, door: Door) -> Door:
        return replace(door, relayed=True) if door is self.own else door  # type: ignore[type-var]

    def config(self, url: str) -> dict[str, Any]:
        key = {} if self.key is None else {"api_key": self.key}
        more = {} if self.api == "auto" else {"api": self.api}
        return {
            "providers": {self.provider: {"base_url": url + self.path, **key}},
            "models": {"it": alias(self.provider, "up", **more)},
        }


SERVICES = {
    service.name: service
    for service in (
        Service("openai", "openai", FakeOpenAI, own=V1),
        Service("responses", "openai", FakeResponses, api="responses"),
        Service("anthropic", "anthropic", FakeAnthropic, path=""),
        Service("google", "google", FakeGemini, GEMINI_KEY, "/v1beta"),
        Service("huggingface", "huggingface", FakeHuggingFace, own=V1),
        Service("ollama", "ollama", FakeOllama, None, "", own=CHAT),
    )
}
every_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
every_stream_of_events = pytest.mark.parametrize(
    "service", [service for name, service in SERVICES.items() if name != "ollama"], ids=lambda service: service.name
)
both_doors = pytest.mark.parametrize("door", [CHAT, V1], ids=["chat", "v1"])
STREAM = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@dataclass
class Behind:
    gateway: Gateway
    upstream: Upstream
    service: Service

    async def ask(self, door: Door, script: Script, stream: bool = True, **more: Any) -> Heard:
        self.upstream.play("up", script)
        asking = self.gateway.ask(self.service.door(door), HI, "it", stream, **more)
        return await asyncio.wait_for(asking, GUARD)


Setup = Any  # async context manager factory, see `behind`


pytestmark = pytest.mark.usefixtures("no_pause")


@pytest.fixture
def behind(gateway_of: Start) -> Setup:
    @asynccontextmanager
    async def made(service: Service) -> AsyncIterator[Behind]:
        async with service.make() as upstream, gateway_of(service.config(upstream.url)) as gateway:
            yield Behind(gateway, upstream, service)

    return made


@pytest.fixture
def unused_url() -> Iterator[str]:
    """An address where nobody listens, and nobody can begin to."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


# -- connections that fail -------------------------------------------------------------------------------------------
@every_service
@STREAM
async def test_a_refused_connection_is_no_time_out(
    gateway_of: Start, unused_url: str, service: Service, stream: bool
) -> None:
    async with gateway_of(service.config(unused_url)) as gateway:
        heard = await gateway.ask(CHAT, HI, "it", stream)
    assert (heard.status, heard.error) == (502, f"cannot reach provider '{service.provider}': connection refused")


# -- answers that are none -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("error", "status"),
    [({"code": 429}, 429), ({"code": 402}, 502), ({"code": 400}, 400), ({"code": 502}, 502), ({}, 502)],
    ids=["429", "402", "400", "502", "no code"],
)
@both_doors
@STREAM
async def test_an_error_under_status_200_is_an_error(
    behind: Setup, error: dict[str, Any], status: int, door: Door, stream: bool
) -> None:
    """As OpenRouter sends it: the openai SDK makes a completion of it whose choices are None."""
    body = json.dumps({"error": {"message": "It went wrong.", **error}, "user_id": "u"}).encode()
    async with behind(SERVICES["openai"]) as world:
        heard = await world.ask(door, Script(raw=body, content_type="application/json"), stream)
    assert heard.status == status
    assert "It went wrong." in (heard.error or "")


WHOLE = {
    "openai": b'{"id":"c","object":"chat.completion","created":1,"model":"up","choices":[{"index":0,"message":{"role":'
    b'"assistant","content":"Hello"},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":2,'
    b'"total_tokens":5}}',
    "responses": b'{"id":"r","object":"response","model":"up","status":"incomplete","incomplete_details":{"reason":'
    b'"max_output_tokens"},"output":[{"type":"message","id":"m","role":"assistant","content":[{"type":"output_text",'
    b'"text":"Hello"}]}],"usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5}}',
    "anthropic": b'{"id":"m","type":"message","role":"assistant","model":"up","content":[{"type":"text","text":"Hello"}'
    b'],"stop_reason":"max_tokens","usage":{"input_tokens":3,"output_tokens":2}}',
    "google": b'{"candidates":[{"content":{"parts":[{"text":"Hello"}],"role":"model"},"finishReason":"MAX_TOKENS",'
    b'"index":0}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"totalTokenCount":5}}',
    "ollama": b'{"model":"up","created_at":"2026-11-21T10:00:00Z","message":{"role":"assistant","content":"Hello"},'
    b'"done":true,"done_reason":"length","total_duration":9,"prompt_eval_count":3,"prompt_eval_duration":4,'
    b'"eval_count":2,"eval_duration":5}',
}
WHOLE["huggingface"] = WHOLE["openai"]


def check_hello(heard: Heard) -> None:
    assert (heard.status, heard.error, heard.cut, heard.finished) == (200, None, False, True)
    assert (heard.text, heard.reason, heard.prompt, heard.completion) == ("Hello", "length", 3, 2)


@every_service
@both_doors
async def test_a_stream_that_is_answered_whole_is_read(behind: Setup, service: Service, door: Door) -> None:
    """The openai SDK gives no chunk at all, and no error. Where a client gets a provider's own frames there are none to
    be given: it is told so."""
    script = Script(raw=WHOLE[service.name] + b"\n", content_type="application/json")
    async with behind(service) as world:
        if service.name == "openai":
            assert await chunks_of_openai(world.upstream, script) == []
        heard = await world.ask(door, script)
    if door is V1 and service.own is V1:
        words = f"provider '{service.provider}' answered a stream request with a whole reply"
        assert (heard.status, heard.error) == (502, words)
    else:
        check_hello(heard)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"a":1}\n{"b":2}\n', "application/x-ndjson"),
        (b"<html>Sign in</html>", "text/html"),
        (b"", "text/event-stream"),
        (b": hello\n\n", "text/event-stream"),
        (b"data: [DONE]\n\n", "text/event-stream"),
    ],
    ids=["other lines", "a page", "nothing", "a comment", "only an end"],
)
@every_service
@both_doors
async def test_a_stream_that_is_none_is_no_empty_answer(
    behind: Setup, service: Service, door: Door, body: bytes, kind: str
) -> None:
    async with behind(service) as world:
        if service.name == "openai":
            assert await chunks_of_openai(world.upstream, Script(raw=body, content_type=kind)) == []
        heard = await world.ask(door, Script(raw=body, content_type=kind))
    assert heard.status == 502
    assert f"provider '{service.provider}'" in (heard.error or ""), heard.error


async def chunks_of_openai(upstream: Upstream, script: Script) -> list[Any]:
    """What the SDK's own reading gives."""
    import openai

    upstream.play("up", script)
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{upstream.url}/v1", max_retries=0) as client:
        asked: Any = {"model": "up", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        return [chunk async for chunk in await client.chat.completions.create(**asked)]


# -- events ----------------------------------------------------------------------------------------------------------
def sse(*values: dict[str, Any], end: bytes = b"\n\n") -> bytes:
    events = []
    for value in values:
        name = f"event: {value['type']}\n" if "type" in value else ""
        events.append(f"{name}data: {json.dumps(value)}".encode() + end)
    return b"".join(events)


def openai_chunk(text: str | None, **more: Any) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": None if text else "length"}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [choice], **more}


# Streams whose last event holds the reason and the counts.
EVENTS = {
    "openai": sse(
        openai_chunk("Hel"),
        openai_chunk("lo"),
        openai_chunk(None, usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}),
    ),
    "responses": sse(
        {"type": "response.created", "response": {"id": "r", "model": "up", "status": "in_progress", "output": []}},
        *(
            {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": text}
            for text in ("Hel", "lo")
        ),
        {"type": "response.incomplete", "response": json.loads(WHOLE["responses"])},
    ),
    "anthropic": sse(
        {"type": "message_start", "message": {"id": "m", "model": "up", "content": [], "usage": {"input_tokens": 3}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
            for text in ("Hel", "lo")
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 2}},
    ),
    "google": sse(
        {"candidates": [{"content": {"parts": [{"text": "Hel"}], "role": "model"}, "index": 0}], "responseId": "r"},
        {
            "candidates": [
                {"content": {"parts": [{"text": "lo"}], "role": "model"}, "index": 0, "finishReason": "MAX_TOKENS"}
            ],
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
        },
        end=b"\r\n\r\n",
    ),
}
EVENTS["huggingface"] = EVENTS["openai"]


@every_stream_of_events
@both_doors
async def test_the_last_event_counts_without_its_blank_line(behind: Setup, service: Service, door: Door) -> None:
    body = EVENTS[service.name].rstrip()
    async with behind(service) as world:
        if service.name == "openai":
            chunks = await chunks_of_openai(world.upstream, Script(raw=body))
            assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None]
        check_hello(await world.ask(door, Script(raw=body)))


@pytest.mark.parametrize("empty", [b"data:", b"data: ", b"id: 7"], ids=["no data", "a blank", "an id"])
@every_stream_of_events
@both_doors
async def test_an_empty_data_line_is_nothing(behind: Setup, service: Service, door: Door, empty: bytes) -> None:
    """Some servers keep a connection awake with one; to the SDKs it is JSON that they cannot read."""
    ends = b"\r\n\r\n" if service.name == "google" else b"\n\n"
    body = empty + ends + EVENTS[service.name].replace(ends, ends + empty + ends)
    async with behind(service) as world:
        if service.name == "openai":
            with pytest.raises(json.JSONDecodeError):
                await chunks_of_openai(world.upstream, Script(raw=body))
        heard = await world.ask(door, Script(raw=body))
    check_hello(heard)
    if door is V1:  # no client of ours falls in either
        events = [event for event in heard.raw.split(b"\n\n") if event.strip() and not event.startswith(b":")]
        assert all(event.startswith(b"data: {") or event == b"data: [DONE]" for event in events), events


# -- clients that leave ----------------------------------------------------------------------------------------------
async def leave(world: Behind) -> None:
    """A client that has read something and goes, while the gateway waits for more."""
    world.upstream.play("up", Script(text=("Hel", "lo"), trouble=Trouble.STALL))
    body = CHAT.body(HI, "it", True)
    async with world.gateway.http.post(f"{world.gateway.url}{CHAT.path}", json=body) as response:
        await response.content.readany()
        response.close()


@every_service
async def test_who_leaves_closes_every_upstream(behind: Setup, service: Service) -> None:
    async with behind(service) as world:
        await asyncio.wait_for(leave(world), GUARD)
        async with asyncio.timeout(BRIEF):
            await world.upstream.client_gone.wait()


async def test_nothing_waits_for_a_collection_of_garbage(behind: Setup) -> None:
    """huggingface_hub's own stream ends when its generator is collected; ours when its client leaves."""
    import gc

    async with behind(SERVICES["huggingface"]) as world:
        gc.disable()
        try:
            for _ in range(5):
                world.upstream.client_gone.clear()
                await asyncio.wait_for(leave(world), GUARD)
                await asyncio.wait_for(world.upstream.client_gone.wait(), BRIEF)
        finally:
            gc.enable()


# -- troubles in mid-stream ------------------------------------------------------------------------------------------
@every_service
@both_doors
async def test_a_break_in_mid_stream_is_told(behind: Setup, service: Service, door: Door) -> None:
    async with behind(service) as world:
        heard = await world.ask(door, Script(text=("Hel", "lo"), trouble=Trouble.CUT))
    assert (heard.status, heard.text, heard.finished) == (200, "Hel", False)
    assert f"provider '{service.provider}' broke off" in (heard.error or ""), heard.error


@every_service
@both_doors
async def test_an_error_in_mid_stream_keeps_its_words(behind: Setup, service: Service, door: Door) -> None:
    async with behind(service) as world:
        heard = await world.ask(door, Script(text=("Hel", "lo"), trouble=Trouble.ERROR, error="The lights went out."))
    assert (heard.status, heard.text, heard.finished) == (200, "Hel", False)
    assert "The lights went out." in (heard.error or ""), heard.error


# -- what huggingface_hub would leave out ----------------------------------------------------------------------------
MODEL = "acme/bge"
QUICK = Timeouts(connect=5, first_byte=0.05, first_token=0.05, idle=0.05, total=0.05)
CALLS = {
    "a chat": Call(CHATS, {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}, False, QUICK, model=MODEL),
    "a pipeline": Call(EMBED, {"inputs": ["a"]}, False, QUICK, model=MODEL),
    "the Hub": Call(EMBED, {"model": MODEL, "input": ["a"]}, False, QUICK, model=f"{MODEL}:together"),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


class SlowHub(FakeHuggingFace):
    """`held`: it never says who has a model."""

    held = False

    async def hub(self, request: Any) -> Any:
        if self.held:
            await self.note(request)
            await asyncio.Event().wait()
        return await super().hub(request)


@pytest.fixture
async def router() -> AsyncIterator[SlowHub]:
    async with SlowHub() as fake:
        assert isinstance(fake, SlowHub)
        fake.offers = {MODEL: {"together": "bge-there"}}
        yield fake


@pytest.fixture
async def provider(router: SlowHub) -> AsyncIterator[HuggingFaceProvider]:
    session: aiohttp.ClientSession = await open_session()
    made = HuggingFaceProvider(
        "hf", base_url=f"{router.url}/v1", api_key=KEY, session=session, profile=Profile(), local=False, off=None,
        timeouts=QUICK, hub=router.url,
    )  # fmt: skip
    await made.ready()
    yield made
    await made.close()
    await session.close()


@every_call
async def test_our_limits_hold_at_the_router(
    router: SlowHub, provider: HuggingFaceProvider, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface, "LOOKUP_SECONDS", 0.05)
    router.held = True
    router.play(MODEL, Script(hold=asyncio.Event()))
    with pytest.raises(GatewayError) as caught:
        await asyncio.wait_for(provider.open(call), GUARD)
    assert caught.value.status == (502 if call.model.endswith(":together") else 504)


@every_call
async def test_nothing_is_asked_twice_behind_our_back(
    router: SlowHub, provider: HuggingFaceProvider, call: Call
) -> None:
    for model in (MODEL, "bge-there"):
        router.play(model, Script(status=503, error="busy"))
    with pytest.raises(UpstreamRefused) as caught:
        await provider.open(call)
    assert caught.value.status == 503
    assert len([seen for seen in router.seen if seen.method == "POST"]) == 1


# -- Anthropic's guard -----------------------------------------------------------------------------------------------
async def test_a_long_whole_answer_is_asked_for(behind: Setup) -> None:
    import anthropic

    async with behind(SERVICES["anthropic"]) as world:
        async with anthropic.AsyncAnthropic(api_key=KEY, base_url=world.upstream.url, max_retries=0) as client:
            with pytest.raises(ValueError, match="Streaming is required"):
                await client.messages.create(
                    model="up", max_tokens=64_000, messages=[{"role": "user", "content": "Hi"}]
                )
        assert not world.upstream.seen
        heard = await world.ask(CHAT, Script(("Hel", "lo")), False, options={"num_predict": 64_000})
        assert (heard.status, heard.text) == (200, "Hello")
        (seen,) = world.upstream.about("up")
        assert seen.json["max_tokens"] == 64_000
