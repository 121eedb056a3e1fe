"""Every door x every provider x every scenario x {stream, whole}, against the table in support.py.

A case asks the whole gateway and checks three things: what the client got, what the upstream was asked, and, where the
table says relay, that both passed byte for byte but for the model's name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import pytest
import pytest_asyncio
from asked import (
    FEWEST,
    Asked,
    asked_anthropic,
    asked_gemini,
    asked_ollama,
    asked_openai,
    asked_responses,
    intended,
)
from doors import CHAT, GENERATE, V1, Ask, Door, Heard
from fakes.anthropic_wire import FakeAnthropic
from fakes.gemini_wire import KEY as GEMINI_KEY
from fakes.gemini_wire import FakeGemini
from fakes.huggingface_wire import FakeHuggingFace
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import KEY, FakeOpenAI
from fakes.responses_wire import FakeResponses
from fakes.script import Script, Seen, Tokens, Upstream
from gateway import (
    NO_BREAKERS,
    Gateway,
    aliases,
    hardly_any_pause,
    ollama_provider,
    openai_provider,
    running,
    warm,
)
from scenarios import BY_NAME, SCENARIOS, Expect, Scenario
from support import DOORS, NOTES, PROVIDERS, SUPPORT, TABLES, Cell, read_table
from support import SCENARIOS as MEANINGS

from docs.support_tables import columns_of
from ollama_bridge.policy.retries import IN_WINDOW
from ollama_bridge.providers.presets import PRESETS, Preset

in_module = pytest.mark.asyncio(loop_scope="module")

DOOR: dict[str, Door] = {"chat": CHAT, "generate": GENERATE, "v1": V1}

# Names of the configured providers. Those that are no preset's are known by nothing but their wire.
ACCOUNTS = {
    "openai": "lab",
    "responses": "lab-responses",
    "huggingface": "huggingface",
    "anthropic": "anthropic",
    "gemini": "google",
    "ollama": "box",
}
ASKED = {
    "openai": asked_openai,
    "responses": asked_responses,
    "huggingface": asked_openai,
    "anthropic": asked_anthropic,
    "gemini": asked_gemini,
    "ollama": asked_ollama,
}
STOPLESS = {"responses"}  # wires without stop strings: the gateway finds them (providers.md 3.3)

# What a provider's limits are where a scenario waits for them.
SHORT = {"idle": "100ms", "total": "400ms"}

# What may be said to an upstream for each `think` of the request (providers.md 3.1): what nobody knows of the model may
# go without saying.
THINK_WORDS: dict[object, tuple[object, ...]] = {
    None: (None,),
    False: (False, None),
    True: (True, None, "medium"),
    "high": ("high",),
}


@dataclass
class World:
    gateway: Gateway
    upstreams: dict[str, Upstream]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    fakes = {
        "openai": FakeOpenAI(),
        "responses": FakeResponses(),
        "huggingface": FakeHuggingFace(),
        "anthropic": FakeAnthropic(),
        "gemini": FakeGemini(),
        "ollama": FakeOllama(),
    }
    async with AsyncExitStack() as stack:
        stack.enter_context(hardly_any_pause())
        upstreams = {name: await stack.enter_async_context(fake) for name, fake in fakes.items()}
        gateway = await stack.enter_async_context(running(tmp_path_factory.mktemp("matrix"), configuration(upstreams)))
        for provider, upstream in upstreams.items():
            account = ACCOUNTS[provider]
            await warm(gateway, upstream, account)
            await warm(gateway, upstream, f"{account}-hasty")
        responses = fakes["responses"]
        assert isinstance(responses, FakeResponses)
        responses.demanding.add("up-thinking-with-tools")
        yield World(gateway, upstreams)


def configuration(upstreams: dict[str, Upstream]) -> dict[str, Any]:
    urls = {provider: upstream.url for provider, upstream in upstreams.items()}
    entries: dict[str, dict[str, Any]] = {
        "openai": openai_provider(urls["openai"]),
        "responses": openai_provider(urls["responses"]),
        "huggingface": {"kind": "huggingface", "base_url": f"{urls['huggingface']}/v1", "api_key": KEY},
        "anthropic": {"kind": "anthropic", "base_url": urls["anthropic"], "api_key": KEY},
        "gemini": {"kind": "google", "base_url": f"{urls['gemini']}/v1beta", "api_key": GEMINI_KEY},
        "ollama": ollama_provider(urls["ollama"]),
    }
    names = [scenario.name for scenario in SCENARIOS]
    providers: dict[str, Any] = {"echo": {"kind": "echo"}}
    models: dict[str, Any] = {}
    for provider, entry in entries.items():
        account = ACCOUNTS[provider]
        more = {"api": "responses"} if provider == "responses" else {}
        providers |= {account: entry, f"{account}-hasty": {**entry, "timeouts": SHORT}}
        models |= {**aliases(account, names, **more), **aliases(f"{account}-hasty", ["stall"], **more)}
    # No failure may shut its provider off for the cells that follow.
    return {"providers": providers, "models": models, "backoff": NO_BREAKERS}


def cases() -> Iterator[object]:
    for (door, provider, scenario), cell in SUPPORT.items():
        if cell.word == "absent":
            continue
        for stream in (True, False):
            how = "stream" if stream else "whole"
            yield pytest.param(door, provider, scenario, cell, stream, id=f"{door}-{provider}-{scenario}-{how}")


@pytest.mark.parametrize(("door", "provider", "name", "cell", "stream"), list(cases()))
@in_module
async def test_cell(world: World, door: str, provider: str, name: str, cell: Cell, stream: bool) -> None:
    scenario = BY_NAME[name]
    if provider == "echo":
        heard = await world.gateway.ask(DOOR[door], scenario.ask, "echo", stream)
        if cell.word == "refuse":
            check_refused(heard, cell)
        else:
            assert scenario.echo is not None, "the table says the echo answers this, the scenario does not say what"
            check_heard(heard, scenario, scenario.echo, door, cell, stream, "echo", "echo")
        return
    await at_upstream(world, door, provider, scenario, cell, stream)


async def at_upstream(world: World, door: str, provider: str, scenario: Scenario, cell: Cell, stream: bool) -> None:
    upstream = world.upstreams[provider]
    account = ACCOUNTS[provider] + ("-hasty" if scenario.name == "stall" else "")
    alias, target = f"{account}-{scenario.name}", f"up-{scenario.name}"
    spoken = DOOR[door]
    relayed = cell.word == "relay"
    cuts = provider in STOPLESS and scenario.unstopped is not None
    expect = replace(scenario.expect, tokens=None) if cuts and stream else scenario.expect
    if provider == "ollama" and door != "v1":
        spoken = replace(spoken, relayed=True)  # type: ignore[type-var]
    more = {}
    if door == "generate" and scenario.name == "multi-turn":
        more["context"] = await earlier_turns(world.gateway, upstream, scenario, alias, target)
    if scenario.first is not None:
        await first_turn(world.gateway, upstream, spoken, scenario, alias, target, stream)
    upstream.play(target, scenario.unstopped if cuts else scenario.script)
    before = len(upstream.about(target))
    body = {**spoken.body(scenario.ask, alias, stream), **more}
    heard = await world.gateway.ask(spoken, scenario.ask, alias, stream, **more)
    asked = upstream.about(target)[before:]
    if cell.word == "refuse":
        check_refused(heard, cell)
        return
    # What failed may have been tried again.
    assert 1 <= len(asked) <= (1 if scenario.expect.error is None else IN_WINDOW), f"{len(asked)} requests came"
    check_heard(heard, scenario, expect, door, cell, stream, account, alias)
    if relayed:
        check_relay(body, heard, asked[0], alias, target)
    else:
        check_asked(scenario.ask, asked[0], provider, cell)
    dropped = cell.note.dropped if cell.word == "lossy" else ""
    assert heard.headers.get("x-bridge-dropped", "") == dropped


async def earlier_turns(gateway: Gateway, upstream: Upstream, scenario: Scenario, alias: str, target: str) -> list[int]:
    """Has the first turn of a conversation with generate; returns the context that stands for it."""
    question, answer = scenario.ask.turns[:2]
    upstream.play(target, Script(text=(answer.text,)))
    heard = await gateway.ask(GENERATE, Ask((question,)), alias, False)
    assert heard.text == answer.text and heard.context
    return heard.context


async def first_turn(
    gateway: Gateway, upstream: Upstream, door: Door, scenario: Scenario, alias: str, target: str, stream: bool
) -> None:
    """Has the answer that the rest of the conversation goes on from."""
    assert scenario.first is not None
    upstream.play(target, scenario.first)
    heard = await gateway.ask(door, replace(scenario.ask, turns=scenario.ask.turns[:1]), alias, stream)
    assert heard.thinking == "".join(scenario.first.thinking)
    assert heard.calls == [(call.name, call.arguments) for call in scenario.first.calls]


# -- what the client got ---------------------------------------------------------------------------------------------
def check_refused(heard: Heard, cell: Cell) -> None:
    assert cell.note is not None
    assert heard.status == 400, heard
    assert heard.error is not None and cell.note.what in heard.error, heard.error


def check_heard(
    heard: Heard, scenario: Scenario, expect: Expect, door: str, cell: Cell, stream: bool, provider: str, alias: str
) -> None:
    status = expect.status if stream or expect.whole_status is None else expect.whole_status
    assert heard.status == status, (heard.status, heard.error)
    if status >= 400:
        check_error_text(heard, expect, provider, alias)
        for header, value in expect.headers:
            assert heard.headers.get(header) == value
        return
    assert not heard.cut
    if provider == "echo" and scenario.name.startswith("result-"):
        heard.text = "\n".join(sorted(heard.text.splitlines()))  # it repeats the results in either order
    plain = cell.lacks("refusal")  # the text of a refusal comes as text, the reason tells
    if door == "v1" and not plain:
        assert (heard.text, heard.refusal) == (expect.text, expect.refusal)
    else:
        assert heard.text == expect.text + expect.refusal
    assert heard.thinking == expect.thinking
    assert tuple(heard.calls) == expect.calls
    assert tuple(heard.logprobs) == (() if cell.lacks("logprobs") else expect.logprobs)
    if expect.error is not None:
        check_error_text(heard, expect, provider, alias)
        assert not heard.finished, "an answer that failed looks complete"
        return
    assert heard.finished and heard.error is None
    reason = "content_filter" if plain and door == "v1" else expect.reason
    assert heard.reason == (reason if door == "v1" or reason != "tool_calls" else "stop")
    check_usage(heard, expect.tokens, cell)
    if stream and len(scenario.script.text) > 1 and provider != "echo":
        assert heard.pieces > 1, "a stream that came in one piece"


def check_error_text(heard: Heard, expect: Expect, provider: str, alias: str) -> None:
    assert expect.error is not None
    wanted = expect.error.format(provider=provider, alias=alias)
    assert heard.error is not None and wanted in heard.error, heard.error


def check_usage(heard: Heard, tokens: Tokens | None, cell: Cell) -> None:
    if tokens is not None:
        assert (heard.prompt, heard.completion) == (tokens.prompt, tokens.completion)
        if tokens.cached is not None and not cell.lacks("cached"):
            assert heard.cached == tokens.cached
    elif cell.word == "relay":
        assert heard.prompt is None and heard.completion is None
    else:
        # Nothing was reported: estimated, never left out (providers.md 3.3).
        assert heard.prompt and heard.completion


# -- what the upstream was asked -------------------------------------------------------------------------------------
def check_asked(ask: Ask, seen: Seen, provider: str, cell: Cell) -> None:
    asked: Asked = ASKED[provider](seen)
    wanted = intended(ask)
    assert asked.think in (True, False, None) if cell.lacks("think") else asked.think in THINK_WORDS[ask.think]
    wanted.think = asked.think
    if provider in STOPLESS:
        wanted.stop = []
    if cell.lacks("max_tokens"):
        wanted.max_tokens = FEWEST
    if cell.lacks("logprobs"):
        wanted.logprobs = (False, 0)
    if cell.lacks("format"):  # asked for in words
        wanted.format = None
        assert "JSON" in asked.turns.pop(0).text
    elif provider == "responses" and ask.format == "json":  # the wire wants the word in the input (providers.md 2.2)
        assert any("json" in said.text.lower() for said in asked.turns)
    if not cell.lacks("thinking"):
        for said, turn in zip(wanted.turns, ask.turns, strict=True):
            said.thinking = turn.thinking
    asked, wanted = in_order(asked), in_order(wanted)
    unsealed(asked, wanted)
    assert asked == wanted


def unsealed(asked: Asked, wanted: Asked) -> None:
    """Thoughts in the service's own form: whether their text stands beside it is the wire's affair."""
    for said, meant in zip(asked.turns, wanted.turns, strict=True):
        if said.sealed:
            assert meant.thinking and said.thinking in ("", meant.thinking)
            said.thinking, said.sealed = meant.thinking, False


def in_order(asked: Asked) -> Asked:
    """Results that stand side by side in the order of their calls: which answers which is what matters."""
    turns = []
    for role, group in groupby(asked.turns, key=lambda said: said.role):
        said = list(group)
        turns += sorted(said, key=lambda result: result.answers or 0) if role == "tool" else said
    return replace(asked, turns=turns)


def check_relay(body: dict[str, object], heard: Heard, seen: Seen, alias: str, target: str) -> None:
    assert seen.json == {**body, "model": target}
    assert list(seen.json) == list(body), "the order of keys"
    named = bytes(seen.sent).replace(f'"model":"{target}"'.encode(), f'"model":"{alias}"'.encode())
    assert heard.raw == named


# -- the table itself ------------------------------------------------------------------------------------------------
def test_table_is_complete() -> None:
    wanted = {(door, provider, s.name) for door in DOORS for provider in PROVIDERS for s in SCENARIOS}
    assert set(SUPPORT) == wanted
    assert list(MEANINGS) == [scenario.name for scenario in SCENARIOS]
    assert {cell.number for cell in SUPPORT.values() if cell.number is not None} == set(NOTES)


HEAD = "| openai gemini ollama"


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("text | relay relay lossy", "without a reason"),
        ("text | relay relay refuse 999", "without a reason"),
        ("text | relay relay lossy 2", "without a reason"),
        ("text | relay relay sometimes", "unknown word"),
        ("text | relay relay", "zip"),
        ("text | relay relay relay\ntext | relay relay relay", "twice"),
    ],
    ids=["no-note", "unknown-note", "nothing-lost", "unknown-word", "two-cells", "two-rows"],
)
def test_table_refuses(row: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read_table("chat", f"{HEAD}\n{row}")


@pytest.mark.parametrize("door", DOORS)
def test_columns_stand_in_one_order(door: str) -> None:
    assert TABLES[door].split("\n")[1].partition("|")[2].split() == list(PROVIDERS)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_service_has_its_column(preset: Preset) -> None:
    assert columns_of(preset) <= set(PROVIDERS), f"kind {preset.kind!r} stands in no table of support.py"
