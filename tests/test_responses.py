"""OpenAI's Responses API behind the gateway: when it carries a request, and what a client sees of it. Two turns of
tools with thinking: test_thinking_turns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from conftest import Start
from doors import CHAT, GENERATE, V1, Ask, Turn
from fakes.openai_wire import KEY
from fakes.responses_wire import FakeResponses
from fakes.script import Call, Script, Tokens, Trouble
from gateway import Gateway
from scenarios import DOT, SCHEMA, WEATHER

ALIASES = {"sol": "gpt-6-sol", "astra": "gpt-6-astra", "four": "gpt-4o", "new": "gpt-7-nova"}
FORCED = {
    "sol-chat": {"targets": "openai/gpt-6-sol", "api": "chat"},
    "four-responses": {"targets": "openai/gpt-4o", "api": "responses"},
}
HI = Ask((Turn("user", "Hi"),))
HELLO = Script(("Hel", "lo"), ("Let me ", "see."), usage=Tokens(11, 7, 8, 4))


@pytest.fixture
async def openai() -> AsyncIterator[FakeResponses]:
    async with FakeResponses() as upstream:
        assert isinstance(upstream, FakeResponses)
        for model in ALIASES.values():
            upstream.play(model, HELLO)
        yield upstream


@pytest.fixture
async def gateway(openai: FakeResponses, gateway_of: Start) -> AsyncIterator[Gateway]:
    config = {
        "providers": {"openai": {"base_url": f"{openai.url}/v1", "api_key": KEY}},
        "models": {**{name: f"openai/{model}" for name, model in ALIASES.items()}, **FORCED},
    }
    async with gateway_of(config) as running:
        yield running


def paths(upstream: FakeResponses) -> list[str]:
    return [seen.path.removeprefix("/v1") for seen in upstream.seen if seen.method == "POST"]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("door", [CHAT, GENERATE], ids=["chat", "generate"])
async def test_thoughts(gateway: Gateway, openai: FakeResponses, door: Any, stream: bool) -> None:
    heard = await gateway.ask(door, Ask(HI.turns, think=True), "sol", stream)
    assert (heard.thinking, heard.text, heard.reason) == ("Let me see.", "Hello", "stop")
    assert (heard.prompt, heard.completion, heard.finished) == (11, 7, True)
    assert paths(openai) == ["/responses"]
    if stream:
        assert heard.pieces > 1


@pytest.mark.parametrize(
    ("model", "ask", "path"),
    [
        ("sol", HI, "/chat/completions"),
        ("sol", Ask(HI.turns, tools=(WEATHER,)), "/responses"),
        ("sol", Ask(HI.turns, tools=(WEATHER,), think=False), "/chat/completions"),
        ("astra", Ask(HI.turns, tools=(WEATHER,), think=False), "/responses"),
        ("sol-chat", Ask(HI.turns, think=True), "/chat/completions"),
        ("four-responses", HI, "/responses"),
        ("four", Ask(HI.turns, tools=(WEATHER,)), "/chat/completions"),
    ],
    ids=["plain", "tools", "tools, no thought", "tools at all", "forced one way", "forced the other", "older model"],
)
async def test_the_api_that_carries_it(
    gateway: Gateway, openai: FakeResponses, model: str, ask: Ask, path: str
) -> None:
    assert (await gateway.ask(CHAT, ask, model, False)).text == "Hello"
    assert paths(openai) == [path]


async def test_an_openai_client_gets_its_own_wire_where_that_is_possible(
    gateway: Gateway, openai: FakeResponses
) -> None:
    heard = await gateway.ask(V1, Ask(HI.turns, think="high"), "sol", True)
    assert heard.text == "Hello" and paths(openai) == ["/chat/completions"]
    openai.play("gpt-6-sol", Script(calls=(Call("get_weather", ('{"city":', '"Oslo"}'), "c1"),)))
    heard = await gateway.ask(V1, Ask(HI.turns, tools=(WEATHER,)), "sol", True)
    assert (heard.calls, heard.reason) == ([("get_weather", {"city": "Oslo"})], "tool_calls")
    assert paths(openai)[1:] == ["/responses"]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_stop_strings_are_cut_here(gateway: Gateway, openai: FakeResponses, stream: bool) -> None:
    openai.play(
        "gpt-4o",
        Script(
            (
                "One E",
                "ND two",
            )
        ),
    )
    heard = await gateway.ask(CHAT, Ask(HI.turns, stop=("END",)), "four-responses", stream)
    assert (heard.text, heard.reason, heard.finished) == ("One ", "stop", True)
    assert "stop" not in openai.seen[-1].json
    assert "x-bridge-dropped" not in heard.headers


async def test_what_the_api_lacks_is_told(gateway: Gateway, openai: FakeResponses) -> None:
    options = {"seed": 7, "presence_penalty": 0.5, "top_p": 0.9, "num_ctx": 4096}
    heard = await gateway.ask(CHAT, HI, "four-responses", False, options=options)
    assert sorted(heard.headers["x-bridge-dropped"].split(", ")) == ["presence_penalty", "seed"]
    assert openai.seen[-1].json["top_p"] == 0.9


@pytest.mark.parametrize("form", ["json", SCHEMA], ids=["json", "schema"])
async def test_forms(gateway: Gateway, openai: FakeResponses, form: Any) -> None:
    openai.play("gpt-4o", Script(('{"n":', "1}")))
    heard = await gateway.ask(CHAT, Ask(HI.turns, format=form), "four-responses", True)
    assert heard.text == '{"n":1}'
    assert openai.seen[-1].json["text"]["format"]["type"] == ("json_object" if form == "json" else "json_schema")


async def test_thoughts_that_cannot_be_switched_off_are_not_shown(gateway: Gateway, openai: FakeResponses) -> None:
    heard = await gateway.ask(CHAT, Ask(HI.turns, tools=(WEATHER,), think=False), "astra", True)
    assert (heard.thinking, heard.text, heard.headers["x-bridge-dropped"]) == ("", "Hello", "think")
    assert openai.seen[-1].json["reasoning"] == {"effort": "low"}


async def test_a_picture(gateway: Gateway, openai: FakeResponses) -> None:
    ask = Ask((Turn("user", "What?", images=(DOT,)),))
    assert (await gateway.ask(CHAT, ask, "four-responses", False)).text == "Hello"
    part = openai.seen[-1].json["input"][0]["content"][1]
    assert (part["type"], part["image_url"]) == ("input_image", f"data:image/png;base64,{DOT}")


@pytest.mark.parametrize(
    ("script", "reason"),
    [(Script(("Hel",), reason="length"), "length"), (Script(refusal=("I ", "won't.")), "stop")],
    ids=["length", "refusal"],
)
async def test_ends(gateway: Gateway, openai: FakeResponses, script: Script, reason: str) -> None:
    openai.play("gpt-4o", script)
    heard = await gateway.ask(CHAT, HI, "four-responses", True)
    assert (heard.text, heard.reason) == ("".join((*script.text, *script.refusal)), reason)


TROUBLES = {
    "error": (Trouble.ERROR, "the service broke"),
    "cut": (Trouble.CUT, "provider 'openai'"),
    "end": (Trouble.END, "broke off in the middle of its answer"),
    "malformed": (Trouble.MALFORMED, "a frame that is not JSON"),
}


@pytest.mark.parametrize(("trouble", "words"), TROUBLES.values(), ids=TROUBLES)
async def test_a_broken_stream_never_looks_complete(
    gateway: Gateway, openai: FakeResponses, trouble: Trouble, words: str
) -> None:
    openai.play("gpt-4o", Script(("Hel", "lo"), trouble=trouble, error="the service broke"))
    heard = await gateway.ask(CHAT, HI, "four-responses", True)
    assert (heard.status, heard.text, heard.finished) == (200, "Hel", False)
    assert words in (heard.error or "")


async def test_who_leaves_closes_the_upstream(gateway: Gateway, openai: FakeResponses) -> None:
    openai.play("gpt-4o", Script(("Hel", "lo"), trouble=Trouble.STALL))
    body = CHAT.body(HI, "four-responses", True)
    async with gateway.http.post(f"{gateway.url}/api/chat", json=body) as response:
        await response.content.readany()
        response.close()
    seen = await openai.request_about("gpt-4o")
    await seen.gone.wait()


# -- what refusals teach -----------------------------------------------------------------------------------------------


async def test_a_model_that_sends_us_there(gateway: Gateway, openai: FakeResponses) -> None:
    """No row knows it: the refusal is believed, for an hour."""
    openai.only_here.add("gpt-7-nova")
    for _ in range(2):
        assert (await gateway.ask(CHAT, HI, "new", False)).text == "Hello"
    assert paths(openai) == ["/chat/completions", "/responses", "/responses"]


async def test_a_service_that_does_not_have_it(gateway: Gateway, openai: FakeResponses) -> None:
    openai.absent = True
    openai.play("gpt-6-sol", Script(("Hel", "lo")))
    for _ in range(2):
        assert (await gateway.ask(CHAT, Ask(HI.turns, think=True), "sol", True)).text == "Hello"
    assert paths(openai) == ["/responses", "/chat/completions", "/chat/completions"]


async def test_a_refused_parameter_is_left_out_there_alone(gateway: Gateway, openai: FakeResponses) -> None:
    openai.play("gpt-4o", Script(("Hello",), rejects=frozenset({"top_p"})))
    for _ in range(2):
        heard = await gateway.ask(CHAT, HI, "four-responses", False, options={"top_p": 0.9})
        assert heard.text == "Hello" and heard.headers["x-bridge-dropped"] == "top_p"
    openai.play("gpt-4o", Script(("Hello",)))
    await gateway.ask(CHAT, HI, "four", False, options={"top_p": 0.9})
    assert [seen.json.get("top_p") for seen in openai.about("gpt-4o")] == [0.9, None, None, 0.9]


async def test_an_unknown_model_is_not_found(gateway: Gateway, openai: FakeResponses) -> None:
    del openai.scripts["gpt-4o"]
    heard = await gateway.ask(CHAT, HI, "four-responses", True)
    assert (heard.status, heard.error) == (404, "model 'four-responses' not found")
