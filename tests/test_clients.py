"""The client libraries that Ollama and OpenAI publish, against the whole gateway.

Each test runs before the echo model, before a fake OpenAI-wire provider, or both. What these libraries cannot read,
their users cannot use, so nothing is decoded by hand here.
"""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest
import pytest_asyncio
from asked import asked_openai
from fakes.openai_wire import FakeOpenAI
from fakes.script import Call, Script, Tokens, Trouble, vector
from gateway import alias, openai_provider, running
from scenarios import DOT, SCHEMA, WEATHER

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO = [{"role": "user", "content": "Say hello to Ada."}]
CALL = Script(calls=(Call("get_weather", ('{"city":', '"Oslo"}'), "call_w"),))
ANSWER = Script(text=("Hel", "lo", " Ada"))


@dataclass
class World:
    """`native` and `sdk`: the two libraries, pointed at the gateway. Model `lab` is answered by `upstream` as its
    script for "up" says, `vectors` embeds there."""

    url: str
    upstream: FakeOpenAI
    native: ollama.AsyncClient
    sdk: openai.AsyncOpenAI


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with FakeOpenAI() as upstream:
        config = {
            "backoff": {"base": 0},  # nobody rests: the tests share one gateway
            "providers": {"provider": openai_provider(upstream.url), "echo": {"kind": "echo"}},
            "models": {
                "lab": alias("provider", "up", context_length=8192),
                "plain": alias("provider", "up", capabilities=["completion"]),
                "vectors": {"provider": "provider", "model": "up", "capabilities": ["embedding"]},
            },
        }
        async with (
            running(tmp_path_factory.mktemp("clients"), config) as gateway,
            ollama.AsyncClient(gateway.url) as native,
            openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as sdk,
        ):
            yield World(gateway.url, upstream, native, sdk)


@pytest.fixture
def world(module_world: World) -> World:
    """With nothing played and nothing seen."""
    module_world.upstream.play("up", ANSWER)
    module_world.upstream.seen.clear()
    return module_world


# -- ollama: lists ---------------------------------------------------------------------------------------------------
async def test_list(world: World) -> None:
    models = {model.model: model for model in (await world.native.list()).models}
    assert {"lab:latest", "plain:latest", "vectors:latest", "echo:latest"} <= set(models)
    for model in models.values():
        assert model.modified_at is not None and model.size is not None and model.digest and model.details is not None


@pytest.mark.parametrize(
    ("name", "words"),
    [("lab", {"completion", "tools", "vision", "thinking"}), ("vectors", {"embedding"}), ("plain", {"completion"})],
    ids=["chat", "embedding", "text-only"],
)
async def test_show(world: World, name: str, words: set[str]) -> None:
    shown = await world.native.show(name)
    assert set(shown.capabilities or []) == words
    assert shown.modelinfo is not None and shown.modelinfo["general.architecture"]
    assert shown.details is not None


async def test_show_says_that_the_echo_is_the_echo(world: World) -> None:
    assert "echo" in (await world.native.show("echo")).model_dump_json().lower()


async def test_ps_after_a_chat(world: World) -> None:
    await world.native.chat("lab", HELLO, keep_alive="10m")
    running_models = {model.model: model for model in (await world.native.ps()).models}
    assert running_models["lab:latest"].expires_at is not None
    await world.native.chat("lab", keep_alive=0)  # an unload
    assert "lab:latest" not in {model.model for model in (await world.native.ps()).models}
    assert len(world.upstream.about("up")) == 1, "an unload reached the provider"


# -- ollama: chat and generate ---------------------------------------------------------------------------------------
SAID = {"lab": "Hello Ada", "echo": "Say hello to Ada."}
both_models = pytest.mark.parametrize("model", list(SAID))


@both_models
async def test_chat_whole(world: World, model: str) -> None:
    answer = await world.native.chat(model, HELLO)
    assert answer.message.role == "assistant" and answer.message.content == SAID[model]
    assert answer.done and answer.done_reason == "stop" and answer.model == model
    assert answer.prompt_eval_count and answer.eval_count
    assert answer.total_duration and answer.prompt_eval_duration and answer.eval_duration


@both_models
async def test_chat_stream(world: World, model: str) -> None:
    parts = [part async for part in await world.native.chat(model, HELLO, stream=True)]
    assert "".join(part.message.content or "" for part in parts) == SAID[model]
    assert len(parts) > 3 and [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].done_reason == "stop" and parts[-1].eval_count and parts[-1].eval_duration


@both_models
async def test_generate_whole(world: World, model: str) -> None:
    answer = await world.native.generate(model, "Say hello to Ada.", system="Be kind.")
    assert answer.response == SAID[model] and answer.done_reason == "stop" and answer.context


@both_models
async def test_generate_stream(world: World, model: str) -> None:
    parts = [part async for part in await world.native.generate(model, "Say hello to Ada.", stream=True)]
    assert "".join(part.response for part in parts) == SAID[model]
    assert parts[-1].done and parts[-1].context


async def test_generate_continues_a_context(world: World) -> None:
    first = await world.native.generate("lab", "Say hello to Ada.")
    await world.native.generate("lab", "And to Bob?", context=first.context)
    turns = [(said.role, said.text) for said in asked_openai(world.upstream.seen[-1]).turns]
    assert turns == [("user", "Say hello to Ada."), ("assistant", "Hello Ada"), ("user", "And to Bob?")]


async def test_options_reach_the_provider(world: World) -> None:
    options = {
        "temperature": 0.5,
        "top_p": 0.25,
        "seed": 7,
        "num_predict": 9,
        "stop": ["END"],
        "num_ctx": 4096,
        "top_k": 5,
    }
    await world.native.chat("lab", HELLO, options=options)
    body = world.upstream.seen[-1].json
    assert (body["temperature"], body["top_p"], body["seed"], body["stop"]) == (0.5, 0.25, 7, ["END"])
    assert body.get("max_completion_tokens", body.get("max_tokens")) == 9
    assert "num_ctx" not in body and "options" not in body and "top_k" not in body


async def test_nothing_is_sent_that_nobody_set(world: World) -> None:
    await world.native.chat("lab", HELLO)
    assert set(world.upstream.seen[-1].json) <= {"model", "messages", "stream"}


async def test_load_costs_nothing(world: World) -> None:
    assert (await world.native.generate("lab")).done_reason == "load"
    assert (await world.native.chat("lab")).done_reason == "load"
    assert world.upstream.seen == []


# -- ollama: tools ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("model", ["lab", "echo"])
async def test_tools_over_two_turns(world: World, model: str, stream: bool) -> None:
    """The library's own types drop ids: the second turn comes back with neither id nor name (clients.md 4.3)."""
    world.upstream.play("up", CALL, ANSWER)
    messages: list[Any] = [{"role": "user", "content": "Oslo"}]
    message = await said(world, model, messages, stream)
    (call,) = message.tool_calls or []
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Oslo"})
    messages += [message, {"role": "tool", "content": "3 degrees"}]
    message = await said(world, model, messages, stream)
    assert message.content == {"lab": "Hello Ada", "echo": "3 degrees"}[model]
    if model == "lab":
        turns = asked_openai(world.upstream.seen[-1]).turns
        assert turns[1].calls == [("get_weather", {"city": "Oslo"})] and turns[2].answers == 0


async def said(world: World, model: str, messages: list[Any], stream: bool) -> ollama.Message:
    """The answer to one turn as one message, put together from its pieces if streamed."""
    tools: Any = [WEATHER]
    if not stream:
        return (await world.native.chat(model, messages, tools=tools)).message
    message = ollama.Message(role="assistant", content="")
    async for part in await world.native.chat(model, messages, tools=tools, stream=True):
        message.content = (message.content or "") + (part.message.content or "")
        if part.message.tool_calls:
            message.tool_calls = [*(message.tool_calls or []), *part.message.tool_calls]
    return message


async def test_a_python_function_as_a_tool(world: World) -> None:
    def get_weather(city: str) -> str:
        """The weather.

        Args:
          city: where
        """
        return city

    world.upstream.play("up", CALL)
    answer = await world.native.chat("lab", [{"role": "user", "content": "Oslo"}], tools=[get_weather])
    assert answer.message.tool_calls is not None
    assert get_weather(**answer.message.tool_calls[0].function.arguments) == "Oslo"
    assert world.upstream.seen[-1].json["tools"][0]["function"]["parameters"]["required"] == ["city"]


# -- ollama: images, format, think, logprobs --------------------------------------------------------------------------
@pytest.mark.parametrize("given", [DOT, base64.b64decode(DOT), "file"], ids=["base64", "bytes", "path"])
async def test_images(world: World, given: Any, tmp_path: Path) -> None:
    if given == "file":
        given = tmp_path / "dot.png"
        given.write_bytes(base64.b64decode(DOT))
    await world.native.chat("lab", [{"role": "user", "content": "What?", "images": [given]}])
    await world.native.generate("lab", "What?", images=[given])
    for seen in world.upstream.seen:
        assert asked_openai(seen).turns[-1].images == [DOT]
    echoed = await world.native.generate("echo", "What?", images=[given])
    assert "1 image" in echoed.response and "png" in echoed.response


@pytest.mark.parametrize(("form", "sent"), [("json", "json"), (SCHEMA, SCHEMA)], ids=["json", "schema"])
async def test_format(world: World, form: Any, sent: Any) -> None:
    world.upstream.play("up", Script(text=('{"n":', "1}")))
    answer = await world.native.chat("lab", [{"role": "user", "content": "JSON, please."}], format=form)
    assert answer.message.content == '{"n":1}'
    assert asked_openai(world.upstream.seen[-1]).format == sent


async def test_format_of_the_echo_fits_the_schema(world: World) -> None:
    answer = await world.native.generate("echo", "Hi", format=SCHEMA)
    assert answer.response.replace(" ", "") == '{"n":1}'


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_think(world: World, field: str, stream: bool) -> None:
    world.upstream.play("up", Script(thinking=("Hm", "m."), text=("4", "2"), thinking_field=field))
    if stream:
        parts = [part.message async for part in await world.native.chat("lab", HELLO, think="high", stream=True)]
    else:
        parts = [(await world.native.chat("lab", HELLO, think="high")).message]
    assert "".join(part.thinking or "" for part in parts) == "Hmm."
    assert "".join(part.content or "" for part in parts) == "42"
    assert world.upstream.seen[-1].json["reasoning_effort"] == "high"


@pytest.mark.parametrize("think", [True, False], ids=["on", "off"])
async def test_think_of_the_echo(world: World, think: bool) -> None:
    answer = await world.native.generate("echo", "Hi", think=think)
    assert answer.response == "Hi" and bool(answer.thinking) is think


async def test_logprobs(world: World) -> None:
    answer = await world.native.chat("echo", HELLO, logprobs=True, top_logprobs=2)
    assert answer.logprobs is not None
    assert "".join(item.token for item in answer.logprobs) == answer.message.content
    assert all(len(item.top_logprobs or []) == 2 for item in answer.logprobs)


# -- ollama: embeddings ------------------------------------------------------------------------------------------------
async def test_embed(world: World) -> None:
    answer = await world.native.embed("vectors", ["one two", "three"])
    assert answer.model == "vectors" and answer.prompt_eval_count == 3 and answer.total_duration
    assert [list(v) for v in answer.embeddings] == [unit(vector("one two")), unit(vector("three"))]


def unit(numbers: list[float]) -> Any:
    """What /api/embed makes of a vector (ollama-protocol.md 2.7)."""
    length = math.hypot(*numbers)
    return pytest.approx([number / length for number in numbers])


async def test_embed_one_text_and_dimensions(world: World) -> None:
    answer = await world.native.embed("vectors", "one", dimensions=2)
    assert len(answer.embeddings) == 1
    assert world.upstream.seen[-1].json["dimensions"] == 2


async def test_embeddings(world: World) -> None:
    answer = await world.native.embeddings("vectors", "one two")
    assert list(answer.embedding) == pytest.approx(vector("one two"))


# -- ollama: errors ----------------------------------------------------------------------------------------------------
NO_THINKING = '"plain" does not support thinking'
NO_TOOLS = "registry.ollama.ai/library/plain:latest does not support tools"


@pytest.mark.parametrize(
    ("model", "more", "status", "text"),
    [
        ("nope", {}, 404, "model 'nope' not found"),
        ("plain", {"think": True}, 400, NO_THINKING),
        ("plain", {"tools": [WEATHER]}, 400, NO_TOOLS),
        ("vectors", {}, 400, '"vectors" does not support chat'),
        ("lab", {"format": "xml"}, 400, 'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object'),
        ("lab", {"options": {"temperature": "hot"}}, 400, 'option "temperature" must be of type float32'),
    ],
    ids=["unknown-model", "no-thinking", "no-tools", "no-chat", "bad-format", "bad-option"],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_errors(world: World, model: str, more: dict[str, Any], status: int, text: str, stream: bool) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        # Past the library's own types: what it would refuse itself must reach the gateway.
        body = {"model": model, "messages": HELLO, "stream": stream, **more}
        answer = await world.native._request(ollama.ChatResponse, "POST", "/api/chat", json=body, stream=stream)
        _ = [part async for part in answer]
    assert (caught.value.status_code, caught.value.error) == (status, text)
    assert world.upstream.seen == []


async def test_error_of_the_provider(world: World) -> None:
    world.upstream.play("up", Script(status=429, error="Slow down.", headers={"retry-after": "120"}))
    with pytest.raises(ollama.ResponseError) as caught:
        await world.native.chat("lab", HELLO)
    assert (caught.value.status_code, caught.value.error) == (429, "Slow down.")


async def test_error_inside_a_stream(world: World) -> None:
    world.upstream.play("up", Script(text=("Hel", "lo"), trouble=Trouble.ERROR, error="It fell over.", after=1))
    got = []
    with pytest.raises(ollama.ResponseError, match="It fell over"):
        async for part in await world.native.chat("lab", HELLO, stream=True):
            got.append(part.message.content)
    assert got == ["Hel"]


# -- openai: chat ------------------------------------------------------------------------------------------------------
@both_models
async def test_sdk_chat_whole(world: World, model: str) -> None:
    answer = await world.sdk.chat.completions.create(model=model, messages=HELLO)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == SAID[model] and answer.choices[0].finish_reason == "stop"
    assert answer.model == model and answer.usage is not None and answer.usage.total_tokens > 1


@both_models
async def test_sdk_chat_stream(world: World, model: str) -> None:
    stream = await world.sdk.chat.completions.create(
        model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}  # type: ignore[arg-type]
    )  # fmt: skip
    chunks = [chunk async for chunk in stream]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == SAID[model] and {chunk.model for chunk in chunks} == {model}
    assert chunks[-1].choices == [] and chunks[-1].usage is not None and chunks[-1].usage.total_tokens > 1


@both_models
async def test_sdk_stream_has_no_usage_unless_asked_for(world: World, model: str) -> None:
    """The gateway asks the provider for usage, for itself: a frame without choices breaks clients that did not."""
    stream = await world.sdk.chat.completions.create(model=model, messages=HELLO, stream=True)  # type: ignore[arg-type]
    async for chunk in stream:
        assert chunk.choices and chunk.usage is None


async def test_sdk_usage_with_cached_tokens(world: World) -> None:
    world.upstream.play("up", Script(text=("Done",), usage=Tokens(100, 20, cached=64, reasoning=5)))
    usage = (await world.sdk.chat.completions.create(model="lab", messages=HELLO)).usage  # type: ignore[arg-type]
    assert usage is not None and usage.prompt_tokens_details is not None and usage.completion_tokens_details is not None
    assert (usage.prompt_tokens_details.cached_tokens, usage.completion_tokens_details.reasoning_tokens) == (64, 5)


async def test_sdk_parameters_are_the_clients_own(world: World) -> None:
    more: dict[str, Any] = {
        "n": 1,
        "logit_bias": {"5": 1},
        "user": "me",
        "max_completion_tokens": 9,
        "temperature": 0.5,
    }
    await world.sdk.chat.completions.create(model="lab", messages=HELLO, **more)  # type: ignore[call-overload]
    assert world.upstream.seen[-1].json == {"model": "up", "messages": HELLO, **more}


@pytest.mark.parametrize("model", ["lab", "echo"])
async def test_sdk_tools_over_two_turns(world: World, model: str) -> None:
    world.upstream.play("up", CALL, ANSWER)
    messages: list[Any] = [{"role": "user", "content": "Oslo"}]
    create: Any = world.sdk.chat.completions.create
    first = (await create(model=model, messages=messages, tools=[WEATHER], tool_choice="auto")).choices[0]
    assert first.finish_reason == "tool_calls"
    (call,) = first.message.tool_calls
    assert (call.function.name, call.function.arguments.replace(" ", "")) == ("get_weather", '{"city":"Oslo"}')
    messages += [first.message, {"role": "tool", "tool_call_id": call.id, "content": "3 degrees"}]
    second = (await create(model=model, messages=messages, tools=[WEATHER])).choices[0]
    assert second.message.content == {"lab": "Hello Ada", "echo": "3 degrees"}[model]


async def test_sdk_tools_streamed(world: World) -> None:
    world.upstream.play("up", CALL)
    create: Any = world.sdk.chat.completions.create
    arguments, names, reasons = "", [], []
    async for chunk in await create(model="lab", messages=HELLO, tools=[WEATHER], stream=True):
        for choice in chunk.choices:
            reasons.append(choice.finish_reason)
            for call in choice.delta.tool_calls or []:
                arguments += call.function.arguments or ""
                names += [call.function.name] if call.function.name else []
    assert (names, arguments, reasons[-1]) == (["get_weather"], '{"city":"Oslo"}', "tool_calls")


async def test_sdk_images(world: World) -> None:
    url = f"data:image/png;base64,{DOT}"
    content: Any = [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
    ]
    create: Any = world.sdk.chat.completions.create
    await create(model="lab", messages=[{"role": "user", "content": content}])
    assert world.upstream.seen[-1].json["messages"][0]["content"] == content
    echoed = await create(model="echo", messages=[{"role": "user", "content": content}])
    assert "1 image: png" in echoed.choices[0].message.content


async def test_sdk_response_format(world: World) -> None:
    world.upstream.play("up", Script(text=('{"n":1}',)))
    form: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
    create: Any = world.sdk.chat.completions.create
    answer = await create(model="lab", messages=HELLO, response_format=form)
    assert answer.choices[0].message.content == '{"n":1}'
    assert world.upstream.seen[-1].json["response_format"] == form
    echoed = await create(model="echo", messages=HELLO, response_format=form)
    assert echoed.choices[0].message.content.replace(" ", "") == '{"n":1}'


@both_models
async def test_sdk_completions(world: World, model: str) -> None:
    answer = await world.sdk.completions.create(model=model, prompt="Say hello to Ada.")
    assert answer.choices[0].text == SAID[model] and answer.object == "text_completion"
    stream = await world.sdk.completions.create(model=model, prompt="Say hello to Ada.", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == SAID[model]


# -- openai: embeddings, models, errors --------------------------------------------------------------------------------
@pytest.mark.parametrize("form", [None, "float", "base64"])
async def test_sdk_embeddings(world: World, form: Any) -> None:
    more = {"encoding_format": form} if form else {}
    answer = await world.sdk.embeddings.create(model="vectors", input=["one two", "three"], **more)
    assert [item.index for item in answer.data] == [0, 1] and answer.usage.prompt_tokens == 3
    if form != "base64":  # the SDK hands this one through as text
        assert [item.embedding for item in answer.data] == [vector("one two"), vector("three")]
    assert answer.model == "vectors"


async def test_sdk_models(world: World) -> None:
    names = {model.id.removesuffix(":latest") async for model in world.sdk.models.list()}
    assert {"lab", "plain", "vectors", "echo"} <= names
    one = await world.sdk.models.retrieve("lab")
    assert one.id == "lab" and one.object == "model" and one.created and one.owned_by
    with pytest.raises(openai.NotFoundError):
        await world.sdk.models.retrieve("nope")


@pytest.mark.parametrize(
    ("script", "raised", "status", "text"),
    [
        (Script(status=400, error="Odd.", error_code="odd", error_param="seed"), openai.BadRequestError, 400, "Odd."),
        (Script(status=401, error="Who?"), openai.InternalServerError, 502, "provider 'provider' refused our key"),
        (Script(status=404, error="The model `up` does not exist"), openai.NotFoundError, 404, "model 'lab' not found"),
        (Script(status=429, error="Slow down."), openai.RateLimitError, 429, "Slow down."),
        (Script(status=500, error="It broke."), openai.InternalServerError, 502, "It broke."),
    ],
    ids=["400", "401", "404", "429", "500"],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_sdk_errors(
    world: World, script: Script, raised: type[Any], status: int, text: str, stream: bool
) -> None:
    world.upstream.play("up", script)
    with pytest.raises(raised, match=text) as caught:
        await world.sdk.chat.completions.create(model="lab", messages=HELLO, stream=stream)  # type: ignore[call-overload]
    assert caught.value.status_code == status
    if script.error_code:
        assert (caught.value.code, caught.value.param) == ("odd", "seed")


async def test_sdk_unknown_model(world: World) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
        await world.sdk.chat.completions.create(model="nope", messages=HELLO)  # type: ignore[arg-type]


async def test_sdk_error_inside_a_stream(world: World) -> None:
    world.upstream.play("up", Script(text=("Hel", "lo"), trouble=Trouble.ERROR, error="It fell over.", after=1))
    got = ""
    stream = await world.sdk.chat.completions.create(model="lab", messages=HELLO, stream=True)  # type: ignore[arg-type]
    with pytest.raises(openai.APIError, match="It fell over"):
        async for chunk in stream:
            got += chunk.choices[0].delta.content or ""
    assert got == "Hel"


async def test_leaving_a_stream_early_stops_the_provider(world: World) -> None:
    world.upstream.play("up", Script(text=("Hel", "lo"), trouble=Trouble.STALL, after=1))
    async with await world.sdk.chat.completions.create(model="lab", messages=HELLO, stream=True) as stream:  # type: ignore[arg-type]
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    await asyncio.wait_for(world.upstream.seen[-1].gone.wait(), 10)
