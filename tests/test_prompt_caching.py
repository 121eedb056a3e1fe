"""Marks for Claude's prompt cache: where they stand, that they pay, that what was cached shows (providers.md 2.4)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Start
from doors import CHAT, V1, Ask, Turn
from fakes.anthropic_wire import FakeAnthropic
from fakes.openai_wire import KEY
from fakes.script import Script, Tokens

from ollama_bridge.dialects.anthropic.encode import encode_chat
from ollama_bridge.dialects.base import Profile
from ollama_bridge.policy.families import family_profile
from ollama_bridge.providers.presets import PRESETS
from ollama_bridge.values import ChatRequest, Media, Message, Text, Thinking, Tool, ToolCall, ToolResult

PROFILE = Profile(cache_from=400, reasoning="adaptive", keeps=True)
MARK = {"type": "ephemeral"}
LONG = "word " * 100
WEATHER = Tool("weather", LONG, {"type": "object", "properties": {}})


def user(text: str) -> Message:
    return Message("user", [Text(text)])


def assistant(text: str) -> Message:
    return Message("assistant", [Text(text)])


def called(number: int) -> list[Message]:
    """A call and its result."""
    call = Message("assistant", [ToolCall("weather", '{"city":"Rome"}', f"toolu_{number}")])
    return [call, Message("tool", [ToolResult([Text(f"{number} degrees")], f"toolu_{number}")])]


def body_of(*messages: Message, tools: list[Tool] | None = None, **more: Any) -> dict[str, Any]:
    request = ChatRequest("m", list(messages), tools=tools or [], **more)
    body, losses = encode_chat(request, "m", PROFILE)
    assert not losses
    return body


def flat(body: dict[str, Any]) -> list[tuple[str, bool]]:
    """What the service reads, block by block in the order of its cache -> (block, whether it is marked)."""
    blocks: list[Any] = list(body.get("tools", ()))
    contents = [body.get("system", [])] + [message["content"] for message in body["messages"]]
    for content in contents:
        blocks += [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [
        (json.dumps({k: v for k, v in block.items() if k != "cache_control"}), "cache_control" in block)
        for block in blocks
    ]


def marked(body: dict[str, Any]) -> list[str]:
    found = [name for name in ("system", "tools") if any("cache_control" in part for part in body.get(name, ()))]
    for message in body["messages"]:
        if isinstance(message["content"], list):
            found += [block["type"] for block in message["content"] if block.get("cache_control") == MARK]
    return found


SYSTEM = Message("system", [Text(LONG)])
TURNS = [user("Hi"), assistant(LONG), user("And?")]

PLACES: dict[str, tuple[list[Message], list[Tool], list[str]]] = {
    "short": ([user("Hi")], [], []),
    "short-conversation": ([user("Hi"), assistant("Ho"), user("And?")], [], []),
    "one-question": ([user(LONG * 9)], [], []),
    "system": ([SYSTEM, user("Hi")], [], ["system"]),
    "tools": ([user("Hi")], [WEATHER], ["tools"]),
    "both": ([SYSTEM, user("Hi")], [WEATHER], ["system"]),
    "conversation": (TURNS, [], ["text"]),
    "all": ([SYSTEM, *TURNS], [WEATHER], ["system", "text"]),
    "result-of-a-tool": ([user("Hi"), *called(1)], [WEATHER], ["tools", "tool_result"]),
    "picture": ([*TURNS[:2], Message("user", [Text("See"), Media(data="AA==", mime="image/png")])], [], ["image"]),
    "begun-answer": ([*TURNS, assistant("It is")], [], ["text"]),
}


@pytest.mark.parametrize(("messages", "tools", "places"), list(PLACES.values()), ids=list(PLACES))
def test_where_the_marks_stand(messages: list[Message], tools: list[Tool], places: list[str]) -> None:
    body = body_of(*messages, tools=tools)
    assert marked(body) == places
    assert json.dumps(body).count("cache_control") == len(places) <= 4


def test_a_thought_is_never_marked() -> None:
    thought = Thinking("Hm", vendor={"anthropic": {"signature": "s"}})
    body = body_of(*TURNS, Message("assistant", [thought]))
    assert body["messages"][-1]["content"][-1]["type"] == "thinking" and marked(body) == []


def test_nothing_but_the_marks_differs_from_a_body_without() -> None:
    request = ChatRequest("m", [SYSTEM, *TURNS, *called(1)], tools=[WEATHER])
    bare, _ = encode_chat(request, "m", PROFILE.with_(cache_from=0))
    assert [block for block, _ in flat(encode_chat(request, "m", PROFILE)[0])] == [block for block, _ in flat(bare)]
    assert "cache_control" not in json.dumps(bare)


@pytest.mark.parametrize("vendor", [{"cache_control": MARK}, {"tool": MARK}], ids=["of-the-request", "of-a-tool"])
def test_a_client_with_marks_of_its_own_knows_better(vendor: dict[str, Any]) -> None:
    if "tool" in vendor:
        own = Tool("f", LONG, vendor={"anthropic": {"cache_control": MARK}})
        body = body_of(SYSTEM, *TURNS, tools=[own])
    else:
        body = body_of(SYSTEM, *TURNS, vendor={"anthropic": vendor})
    assert json.dumps(body).count("cache_control") == 1


# -- a cache as the service has it -------------------------------------------------------------------------------------
LOOKS_BACK = 20  # blocks before a mark
WRITTEN, READ = 1.25, 0.1  # the price of a token of the prompt, against one that is neither


class Cache:
    def __init__(self) -> None:
        self.kept: set[tuple[str, ...]] = set()

    def cost(self, body: dict[str, Any]) -> tuple[float, int]:
        """-> (what the prompt costs, in characters at full price, and how many were read from the cache)."""
        blocks = flat(body)
        texts = [text for text, _ in blocks]
        marks = [at + 1 for at, (_, is_marked) in enumerate(blocks) if is_marked]
        assert len(marks) <= 4
        found = {at for mark in marks for at in range(max(1, mark - LOOKS_BACK), mark + 1)}
        read = max((at for at in found if tuple(texts[:at]) in self.kept), default=0)
        write = max([*marks, read])
        self.kept |= {tuple(texts[:at]) for at in marks}
        sizes = [len(text) for text in texts]
        full = sum(sizes[write:])
        return sum(sizes[:read]) * READ + sum(sizes[read:write]) * WRITTEN + full, sum(sizes[:read])


def conversation(turns: int) -> list[list[Message]]:
    """Each request of a conversation, one longer than the other."""
    said: list[Message] = [SYSTEM]
    requests = []
    for number in range(turns):
        said = [*said, user(f"Question {number}: {LONG}")]
        requests.append(said)
        said = [*said, assistant(f"Answer {number}: {LONG}")]
    return requests


def test_a_conversation_that_grows_is_read_from_the_cache() -> None:
    cache = Cache()
    read = [cache.cost(body_of(*messages))[1] for messages in conversation(6)]
    assert read[0] == 0 and read == sorted(read)
    for number in range(2, 6):
        before = sum(len(text) for text, _ in flat(body_of(*conversation(6)[number - 1])))
        assert read[number] == before, "all that the turn before had sent"


@pytest.mark.parametrize("turns", [3, 5, 10])
def test_the_marks_pay(turns: int) -> None:
    cache = Cache()
    paid = sum(cache.cost(body_of(*messages))[0] for messages in conversation(turns))
    full = sum(len(text) for messages in conversation(turns) for text, _ in flat(body_of(*messages)))
    assert paid < full


def test_the_calls_of_an_agent_pay_as_well() -> None:
    cache, said, paid, full = Cache(), [SYSTEM, user(LONG)], 0.0, 0
    for number in range(8):
        body = body_of(*said, tools=[WEATHER])
        paid += cache.cost(body)[0]
        full += sum(len(text) for text, _ in flat(body))
        said = [*said, *called(number)]
    assert paid < full / 2


def test_one_question_with_a_long_picture_of_words_costs_no_more() -> None:
    body = body_of(user(LONG * 50))
    assert Cache().cost(body)[0] == sum(len(text) for text, _ in flat(body))


# -- from which length on ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("model", "least"),
    [
        ("claude-opus-5-5", 4096),
        ("claude-fable-5", 4096),
        ("claude-new-9", 4096),
        ("claude-haiku-4-5", 16_384),
        ("claude-opus-4-6", 16_384),
    ],
)
def test_the_least_length_is_the_models(model: str, least: int) -> None:
    assert family_profile(PRESETS["anthropic"].profile, "anthropic", model).cache_from == least


def test_other_services_get_no_marks() -> None:
    assert [name for name, row in PRESETS.items() if row.profile.cache_from] == ["anthropic"]


# -- what the client and the operator see ------------------------------------------------------------------------------
USAGE: dict[bool, dict[str, Any]] = {False: {}, True: {"stream_options": {"include_usage": True}}}


async def test_what_was_cached_shows(gateway_of: Start) -> None:
    async with FakeAnthropic(("claude-opus-5-5",)) as upstream:
        upstream.play("claude-opus-5-5", Script(text=("Hello",), usage=Tokens(5000, 20, cached=4000)))
        config = {"providers": {"anthropic": {"base_url": upstream.url, "api_key": KEY}}}
        ask = Ask((Turn("system", LONG * 20), Turn("user", "Hi"), Turn("assistant", "Ho"), Turn("user", "And?")))
        async with gateway_of(config) as gateway:
            for stream in (False, True):
                heard = await gateway.ask(V1, ask, "anthropic/claude-opus-5-5", stream, **USAGE[stream])
                assert (heard.prompt, heard.completion, heard.cached) == (5000, 20, 4000)
                heard = await gateway.ask(CHAT, ask, "anthropic/claude-opus-5-5", stream)
                assert (heard.prompt, heard.completion) == (5000, 20), "Ollama's count has what was cached"
            async with gateway.http.get(f"{gateway.url}/metrics") as response:
                lines = (await response.text()).splitlines()
        for seen in upstream.seen:
            if seen.method == "POST":
                assert marked(seen.json) == ["system", "text"]
    (cached,) = [line for line in lines if "tokens_total" in line and 'kind="cached"' in line]
    assert float(cached.rpartition(" ")[2]) == 16_000
