"""Every door x every provider x every scenario x {stream, whole}, against the table in support.py.

A case asks the whole gateway and checks three things: what the client got, what the upstream was asked, and, where the
table says relay, that both passed byte for byte but for the model's name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import pytest
import pytest_asyncio
from asked import Asked, asked_anthropic, asked_gemini, asked_ollama, asked_openai, intended
from doors import CHAT, GENERATE, V1, Ask, Door, Heard
from fakes.anthropic_wire import FakeAnthropic
from fakes.gemini_wire import KEY as GEMINI_KEY
from fakes.gemini_wire import FakeGemini
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import KEY, FakeOpenAI
from fakes.script import Script, Seen, Tokens, Upstream
from gateway import Gateway, aliases, ollama_provider, openai_provider, running, warm
from scenarios import BY_NAME, SCENARIOS, Expect, Scenario
from support import DOORS, PROVIDERS, SUPPORT, TABLE, Cell, read_table

in_module = pytest.mark.asyncio(loop_scope="module")

DOOR: dict[str, Door] = {"chat": CHAT, "generate": GENERATE, "v1": V1}

# Names of the configured providers. The first two are no preset's, so nothing but the wire is known of them.
ACCOUNTS = {"openai": "lab", "ollama": "box", "anthropic": "anthropic", "gemini": "google"}
ASKED = {"openai": asked_openai, "ollama": asked_ollama, "anthropic": asked_anthropic, "gemini": asked_gemini}

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
    names = [scenario.name for scenario in SCENARIOS]
    async with FakeOpenAI() as openai, FakeOllama() as ollama, FakeAnthropic() as anthropic, FakeGemini() as gemini:
        claude = {"kind": "anthropic", "base_url": anthropic.url, "api_key": KEY}
        google = {"kind": "google", "base_url": f"{gemini.url}/v1beta", "api_key": GEMINI_KEY}
        config = {
            "providers": {
                "anthropic": claude,
                "google": google,
                "anthropic-hasty": {**claude, "timeouts": SHORT},
                "google-hasty": {**google, "timeouts": SHORT},
                "lab": openai_provider(openai.url),
                "box": ollama_provider(ollama.url),
                "lab-hasty": openai_provider(openai.url, timeouts=SHORT),
                "box-hasty": ollama_provider(ollama.url, timeouts=SHORT),
                "echo": {"kind": "echo"},
            },
            "models": {
                **aliases("lab", names),
                **aliases("box", names),
                **aliases("anthropic", names),
                **aliases("google", names),
                **aliases("anthropic-hasty", ["stall"]),
                **aliases("google-hasty", ["stall"]),
                **aliases("lab-hasty", ["stall"]),
                **aliases("box-hasty", ["stall"]),
            },
        }
        async with running(tmp_path_factory.mktemp("matrix"), config) as gateway:
            upstreams = {"openai": openai, "ollama": ollama, "anthropic": anthropic, "gemini": gemini}
            for provider, upstream in upstreams.items():
                account = ACCOUNTS[provider]
                await warm(gateway, upstream, account)
                await warm(gateway, upstream, f"{account}-hasty")
            yield World(gateway, upstreams)


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
    if provider == "ollama" and door != "v1":
        spoken = replace(spoken, relayed=True)  # type: ignore[type-var]
    more = {}
    if door == "generate" and scenario.name == "multi-turn":
        more["context"] = await earlier_turns(world.gateway, upstream, scenario, alias, target)
    upstream.play(target, scenario.script)
    before = len(upstream.about(target))
    body = {**spoken.body(scenario.ask, alias, stream), **more}
    heard = await world.gateway.ask(spoken, scenario.ask, alias, stream, **more)
    asked = upstream.about(target)[before:]
    if cell.word == "refuse":
        check_refused(heard, cell)
        return
    assert len(asked) == 1, f"{len(asked)} requests reached the upstream"
    check_heard(heard, scenario, scenario.expect, door, cell, stream, account, alias)
    if relayed:
        check_relay(body, heard, asked[0], alias, target)
    else:
        check_asked(scenario.ask, asked[0], provider, cell)


async def earlier_turns(gateway: Gateway, upstream: Upstream, scenario: Scenario, alias: str, target: str) -> list[int]:
    """Has the first turn of a conversation with generate; returns the context that stands for it."""
    question, answer = scenario.ask.turns[:2]
    upstream.play(target, Script(text=(answer.text,)))
    heard = await gateway.ask(GENERATE, Ask((question,)), alias, False)
    assert heard.text == answer.text and heard.context
    return heard.context


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
    plain = scenario.name == "refusal" and cell.word == "lossy"  # the text of a refusal comes as text, the reason tells
    if door == "v1" and not plain:
        assert (heard.text, heard.refusal) == (expect.text, expect.refusal)
    else:
        assert heard.text == expect.text + expect.refusal
    assert heard.thinking == expect.thinking
    assert tuple(heard.calls) == expect.calls
    assert tuple(heard.logprobs) == (() if cell.word == "lossy" else expect.logprobs)
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
        if tokens.cached is not None and cell.word != "lossy":
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
    assert asked.think in THINK_WORDS[ask.think], asked.think
    wanted.think = asked.think
    if cell.word == "lossy":
        wanted.logprobs = asked.logprobs
        if ask.format == "json" and asked.format is None:  # asked for in words
            assert "JSON" in asked.turns.pop(0).text
            wanted.format = None
    else:
        for said, turn in zip(wanted.turns, ask.turns, strict=True):
            said.thinking = turn.thinking
    assert in_order(asked) == in_order(wanted)


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


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("text | relay relay lossy | relay relay relay | relay relay relay", "without a reason"),
        ("text | relay relay refuse 999 | relay relay relay | relay relay relay", "without a reason"),
        ("text | relay relay sometimes | relay relay relay | relay relay relay", "unknown word"),
        ("text | relay relay relay | relay relay relay", "doors"),
        ("text | relay relay | relay relay relay | relay relay relay", "zip"),
    ],
    ids=["no-note", "unknown-note", "unknown-word", "two-doors", "two-cells"],
)
def test_table_refuses(row: str, fault: str) -> None:
    head = "\n".join(TABLE.strip().splitlines()[:2])
    with pytest.raises(ValueError, match=fault):
        read_table(f"{head}\n{row}")
