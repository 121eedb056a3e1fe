"""The plan, as tables: who is in it, in which order, who is left out and why; and what is remembered of conversations.

Pure: accounts are stand-ins, health and luck are given.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ollama_bridge.dialects.base import CHAT, EMBED, Facts, Profile
from ollama_bridge.errors import GatewayError, Scope
from ollama_bridge.policy import sticky
from ollama_bridge.policy.catalog import Model, Target, as_asked
from ollama_bridge.policy.plans import Plan
from ollama_bridge.policy.router import facts_of, is_here, larger, plan
from ollama_bridge.policy.sticky import SERVED_SECONDS, STRICT_SECONDS, Sticky
from ollama_bridge.policy.strategies import AllWell
from ollama_bridge.policy.tasks import (
    FLEXIBLE,
    STRICT,
    Said,
    Table,
    as_embedding,
    privacy_of,
    privacy_word,
    task_of,
    task_word,
)
from ollama_bridge.providers.base import Known, Price
from ollama_bridge.values import (
    ChatRequest,
    EmbedRequest,
    Media,
    Message,
    Opaque,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)

ALL = frozenset({"completion", "tools", "vision", "thinking", "insert", "audio"})


@dataclass
class Account:
    """As much of a provider as a plan looks at."""

    name: str
    local: bool = False
    off: str | None = None
    kind: str = "openai"
    dialect: str = "openai"
    base_url: str = ""
    profile: Profile = field(default_factory=Profile)


@dataclass
class Health:
    """`shut`: seconds by gate; `under_way`: requests by gate."""

    shut: Mapping[str, float] = field(default_factory=dict)
    under_way: Mapping[str, int] = field(default_factory=dict)

    def all_well(self) -> bool:
        return not any(self.shut.values())

    def shut_for(self, name: str) -> float:
        return self.shut.get(name, 0.0)

    def busy(self, name: str) -> int:
        return self.under_way.get(name, 0)


def accounts(*providers: Account, keys: Mapping[str, int] | None = None) -> dict[str, Any]:
    return {p.name: tuple(replace(p) for _ in range((keys or {}).get(p.name, 1))) for p in providers}


LOCAL = (Account("near", local=True), Account("box", local=True, kind="ollama"))
WORLD = accounts(Account("far"), Account("away"), *LOCAL)


def known(*words: str, **more: Any) -> Known:
    return Known(capabilities=frozenset(words), **more)


def target(text: str, what: Known | None = None, **more: Any) -> Target:
    provider, _, model = text.partition("/")
    return Target(provider, model, known=what or Known(capabilities=ALL), **more)


def model(*targets: str | Target, **more: Any) -> Model:
    found = tuple(target(each) if isinstance(each, str) else each for each in targets)
    first = found[0].known.capabilities if found[0].known else ALL
    made = Model(more.pop("name", "it"), found, more.pop("capabilities", first or ALL), **more)
    return made if len(found) == 1 else replace(made, asked=tuple(as_asked(made, each) for each in found))


def chat(**more: Any) -> Facts:
    return Facts("it", CHAT, stream=False, **more)


def planned(facts: Facts, of: Model, world: Any = None, health: Any = None, seed: int = 1, **more: Any) -> Plan:
    luck = random.Random(seed)
    return plan(facts, of, WORLD if world is None else world, health or AllWell(), luck.random, **more)


def order(made: Plan) -> list[str]:
    return made.names()


def refused(facts: Facts, of: Model, world: Any = None, **more: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        planned(facts, of, world, **more)
    return caught.value


# -- privacy -----------------------------------------------------------------------------------------------------------
LEAVING: dict[str, tuple[Target, str]] = {
    "not local": (target("far/up"), "is answered by a provider that is not local"),
    "cloud model": (target("box/up", remote=True), "is a cloud model of a real Ollama"),
    "unknown": (target("box/up", remote=None), "is not known to run on this machine"),
}


@pytest.mark.parametrize(("leaving", "why"), LEAVING.values(), ids=LEAVING)
def test_a_strict_plan_holds_nothing_that_leaves(leaving: Target, why: str) -> None:
    strict = chat(privacy="strict")
    made = planned(strict, model(leaving, "near/up"))
    assert order(made) == ["near/up"] and made.left_out == ((leaving, why),)
    error = refused(strict, model(leaving), here=lambda: ["a", "b"])
    assert (error.status, error.scope, error.near) == (403, Scope.CALLER, ("a", "b"))
    assert error.message == f"privacy_mode is strict, and model 'it' {why}; local models that could serve it: a, b"
    assert not is_here(model(leaving), WORLD) and is_here(model(leaving, "near/up"), WORLD)
    assert order(planned(chat(privacy="flexible"), model(leaving))) == [str(leaving)]


def test_a_strict_refusal_says_when_nothing_local_is_there() -> None:
    error = refused(chat(privacy="strict"), model("far/up"))
    assert error.message.endswith("; no local model could serve it") and error.near == ()
    many = [f"m{n}" for n in range(9)]
    assert refused(chat(privacy="strict"), model("far/up"), here=lambda: many).near == tuple(many[:5])


def test_a_local_provider_that_is_off_fails_closed() -> None:
    world = {**WORLD, **accounts(Account("near", local=True, off="provider 'near' has no address: set it"))}
    error = refused(chat(privacy="strict"), model("far/up", "near/up"), world)
    assert (error.status, error.message.split(";")[0]) == (
        403,
        "privacy_mode is strict, and provider 'near' has no address: set it",
    )
    assert order(planned(chat(), model("near/up", "far/up"), world)) == ["far/up"]
    error = refused(chat(), model("near/up"), world)
    assert (error.status, error.scope) == (500, Scope.NO_KEY)


def test_a_strict_request_fetches_no_picture() -> None:
    error = refused(chat(privacy="strict", images=True, image_urls=True), model("near/up"))
    assert (error.status, error.param) == (403, "privacy_mode")
    assert planned(chat(privacy="strict", images=True), model("near/up"))


# -- abilities ---------------------------------------------------------------------------------------------------------
NEEDS: dict[str, tuple[dict[str, Any], Known, str]] = {
    "tools": ({"tools": True}, known("completion"), "takes no tools"),
    "images": ({"images": True}, known("completion", "tools"), "sees no pictures"),
    "audio": ({"audio": True}, known("completion", "vision"), "hears nothing"),
    "insert": ({"suffix": True}, known("completion"), "fills in no text"),
    "chat": ({}, known("embedding"), "is no chat model"),
}


@pytest.mark.parametrize(("wanted", "weak", "why"), NEEDS.values(), ids=NEEDS)
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_who_lacks_what_is_needed_is_never_tried(wanted: Any, weak: Known, why: str, first: bool) -> None:
    poor, able = target("far/weak", weak), target("away/able")
    of = model(*((poor, able) if first else (able, poor)))
    made = planned(chat(**wanted), of)
    assert order(made) == ["away/able"] and made.left_out == ((poor, why),)


def test_when_all_lack_it_the_first_alone_is_asked() -> None:
    """Its dialect, or the provider, says so in words of its own."""
    weak = known("completion")
    made = planned(chat(tools=True), model(target("far/a", weak), target("away/b", weak)))
    assert order(made) == ["far/a"] and [str(t) for t, _ in made.left_out] == ["away/b"]
    assert order(planned(chat(tools=True), model(target("far/a", weak)))) == ["far/a"]


def test_tools_that_may_be_dropped_are_not_needed() -> None:
    of = model(target("far/a", known("completion")), "away/b", drop_tools=True)
    assert order(planned(chat(tools=True), of)) == ["far/a", "away/b"]


def test_embeddings_need_an_embedding_model() -> None:
    of = model("far/chat", target("away/vectors", known("embedding")))
    assert order(planned(Facts("it", EMBED, stream=False), of)) == ["away/vectors"]


def test_an_answer_that_was_begun_goes_to_who_goes_on_with_it() -> None:
    world = accounts(Account("anthropic", dialect="anthropic"), Account("away"))
    of = model("anthropic/claude-opus-5-5", "away/other")
    begun = chat(prefill=True)
    assert order(planned(begun, of, world, presets={"anthropic": "anthropic"})) == ["away/other"]
    assert order(planned(chat(), of, world, presets={"anthropic": "anthropic"}))[0] == "anthropic/claude-opus-5-5"


def test_thinking_ranks_and_does_not_filter() -> None:
    of = model(target("far/a", known("completion")), target("away/b", known("completion", "thinking")))
    assert order(planned(chat(thinking=True), of)) == ["away/b", "far/a"]
    assert order(planned(chat(), of)) == ["far/a", "away/b"]


def test_each_target_is_asked_as_what_it_is() -> None:
    small = known("completion", context_length=8, max_output=2)
    of = model(target("far/a", small), target("away/b", known("completion", "tools", context_length=64)))
    first, second = planned(chat(), replace(of, context_length=8, max_output=2)).targets
    assert (first.model.context_length, first.model.capabilities) == (8, {"completion"})
    assert (second.model.context_length, second.model.capabilities) == (64, {"completion", "tools"})
    assert planned(chat(), of).view(of).capabilities == {"completion", "tools"}


# -- one provider ------------------------------------------------------------------------------------------------------
def test_a_named_provider_is_asked_alone() -> None:
    of = model("far/a", "away/b", "far/c")
    assert order(planned(chat(provider="far"), of)) == ["far/a", "far/c"]
    error = refused(chat(provider="near"), of)
    assert (error.status, error.param) == (400, "provider")
    assert refused(chat(provider="far", privacy="strict"), of).status == 403


# -- strategies --------------------------------------------------------------------------------------------------------
def test_ordered_is_as_written() -> None:
    assert order(planned(chat(), model("far/a", "near/b", "away/c"))) == ["far/a", "near/b", "away/c"]


def test_weights_are_kept_over_many_requests() -> None:
    of = model(target("far/a", weight=1), target("away/b", weight=3), strategy="weighted")
    firsts = Counter(order(planned(chat(), of, seed=seed))[0] for seed in range(4000))
    assert 0.22 < firsts["far/a"] / 4000 < 0.28
    assert all(len(order(planned(chat(), of, seed=seed))) == 2 for seed in range(20)), "the other follows"


def test_least_busy_counts_what_is_under_way_for_the_weight() -> None:
    of = model(target("far/a", weight=4), "away/b", "near/c", strategy="least_busy")
    health = Health(under_way={"far/a": 4, "away/b": 2, "near/c": 3})
    assert order(planned(chat(), of, health=health)) == ["far/a", "away/b", "near/c"]
    idle = {order(planned(chat(), of, seed=seed))[0] for seed in range(50)}
    assert idle == {"far/a", "away/b", "near/c"}, "a quiet gateway uses all"


def test_cheapest_goes_by_price() -> None:
    def at(text: str, *price: float, **more: Any) -> Target:
        return target(text, Known(capabilities=ALL, price=Price(*price) if price else None), **more)

    of = model(at("far/dear", 10, 30), at("away/unknown"), at("away/cheap", 1, 2), at("near/own"), strategy="cheapest")
    assert order(planned(chat(), of)) == ["near/own", "away/cheap", "far/dear", "away/unknown"]
    cloud = model(at("box/cloud", remote=True), at("far/dear", 10, 30), strategy="cheapest")
    assert order(planned(chat(), cloud)) == ["far/dear", "box/cloud"], "a cloud model of a local server is not free"


def test_models_of_a_table_are_asked_one_after_the_other() -> None:
    then = model("near/c", "far/d", name="then")
    of = replace(model(target("far/a", weight=1), target("away/b", weight=9), strategy="weighted"), then=(then,))
    made = planned(chat(), of)
    assert set(order(made)[:2]) == {"far/a", "away/b"} and order(made)[2:] == ["near/c", "far/d"]
    assert [step.model.name for step in made.targets] == ["it", "it", "then", "then"]
    assert order(planned(chat(privacy="strict"), of)) == ["near/c"]


# -- accounts and conversations ----------------------------------------------------------------------------------------
TWO_KEYS = accounts(Account("far"), Account("away"), keys={"far": 3})


def test_accounts_of_a_target_stand_next_to_each_other() -> None:
    made = planned(chat(), model("far/a", "away/b"), TWO_KEYS)
    assert sorted(order(made)[:3]) == ["far/a", "far/a#1", "far/a#2"] and order(made)[3] == "away/b"
    firsts = {planned(chat(), model("far/a"), TWO_KEYS, seed=seed).targets[0].account for seed in range(60)}
    assert firsts == {0, 1, 2}
    busy = Health(under_way={"far#0": 2, "far#1": 1, "far#2": 3})
    assert order(planned(chat(), model("far/a"), TWO_KEYS, busy)) == ["far/a#1", "far/a", "far/a#2"]


def test_every_account_is_the_one_it_names() -> None:
    for step in planned(chat(), model("far/a"), TWO_KEYS).targets:
        assert step.provider is TWO_KEYS["far"][step.account]
        suffix = f"#{step.account}" if step.account else ""
        assert step.gates == (f"far/a{suffix}", f"far#{step.account}")


@pytest.mark.parametrize("strategy", ["weighted", "least_busy"])
def test_a_conversation_stays_where_it_was(strategy: str) -> None:
    of = model("far/a", "away/b", strategy=strategy)
    for seed in range(20):
        made = planned(chat(), of, TWO_KEYS, seed=seed, prefer=("far/a", 2))
        assert (str(made.targets[0].target), made.targets[0].account) == ("far/a", 2)
        assert made.targets[0].reason == "served this conversation before"


@pytest.mark.parametrize("strategy", ["ordered", "cheapest"])
def test_a_conversation_returns_to_the_first_of_an_order(strategy: str) -> None:
    """A fallback served it while the first was away; its accounts are another matter."""
    made = planned(chat(), model("far/a", "away/b", strategy=strategy), prefer=("away/b", 0))
    assert order(made) == ["far/a", "away/b"]
    assert planned(chat(), model("far/a"), TWO_KEYS, prefer=("far/a", 1)).targets[0].account == 1


def test_a_conversation_that_turned_strict_does_not_stay_outside() -> None:
    of = model("far/a", "near/b", strategy="weighted")
    assert order(planned(chat(privacy="strict"), of, prefer=("far/a", 0))) == ["near/b"]


# -- health ------------------------------------------------------------------------------------------------------------
def test_who_rests_goes_behind_and_stays_in_the_plan() -> None:
    of = model("far/a", "away/b", "near/c")
    made = planned(chat(), of, health=Health(shut={"far/a": 9.6, "near#0": 3}))
    assert order(made) == ["away/b", "far/a", "near/c"]
    assert made.targets[1].reason == "in the order of the model map; has failed, rests for 10 s"
    assert str(made.first) == "far/a" and made.tells(made.targets[0]) and not made.tells(made.targets[1])
    shut = Health(shut={"far/a": 1, "away/b": 1, "near/c": 1})
    assert order(planned(chat(), of, health=shut)) == ["far/a", "away/b", "near/c"]


def test_a_key_that_rests_leaves_the_others_of_its_provider() -> None:
    made = planned(chat(), model("far/a", "away/b"), TWO_KEYS, Health(shut={"far#1": 5}))
    assert sorted(order(made)[:2]) == ["far/a", "far/a#2"] and order(made)[2:] == ["away/b", "far/a#1"]


# -- a larger window ---------------------------------------------------------------------------------------------------
def windows(*sizes: int | None) -> Plan:
    names = ["far/a", "away/b", "near/c", "box/d"]
    found = [target(n, known("completion", context_length=s)) for n, s in zip(names, sizes, strict=False)]
    return planned(chat(), replace(model(*found), context_length=sizes[0]))


@pytest.mark.parametrize(
    ("sizes", "failed", "expected"),
    [
        ((8, 16, 4, 32), 0, ["away/b", "box/d"]),
        ((8, 16, 4, 32), 3, []),
        ((8, 8), 0, []),
        ((8, None), 0, []),
        ((None, 8), 0, ["away/b"]),
        ((None, None), 0, []),
    ],
)
def test_a_larger_window(sizes: tuple[int | None, ...], failed: int, expected: list[str]) -> None:
    made = windows(*sizes)
    assert [str(step.target) for step in larger(made, made.targets[failed])] == expected


# -- what is known of a request ----------------------------------------------------------------------------------------
def user(*blocks: Any) -> Message:
    return Message("user", list(blocks))


REQUESTS: dict[str, tuple[ChatRequest | EmbedRequest, dict[str, Any]]] = {
    "text": (ChatRequest("it", [user(Text("Hi"))]), {}),
    "picture": (ChatRequest("it", [user(Text("Hi"), Media(data="AA=="))]), {"images": True}),
    "address": (ChatRequest("it", [user(Media(url="http://x/a.png"))]), {"images": True, "image_urls": True}),
    "in a result": (
        ChatRequest("it", [Message("tool", [ToolResult([Media(url="http://x/a.png")])])]),
        {"images": True, "image_urls": True},
    ),
    "sound": (ChatRequest("it", [user(Media("audio", data="AA=="))]), {"audio": True}),
    "tools": (ChatRequest("it", [user(Text("Hi"))], tools=[Tool("t")]), {"tools": True}),
    "begun": (ChatRequest("it", [user(Text("Hi")), Message("assistant", [Text("Hel")])]), {"prefill": True}),
    "called": (ChatRequest("it", [user(Text("Hi")), Message("assistant", [ToolCall("t")])]), {}),
    "provider": (ChatRequest("it", provider="far"), {"provider": "far"}),
    "vectors": (EmbedRequest("it", ["a"], provider="far"), {"provider": "far"}),
}


@pytest.mark.parametrize(("request_", "expected"), REQUESTS.values(), ids=REQUESTS)
def test_facts(request_: ChatRequest | EmbedRequest, expected: dict[str, Any]) -> None:
    found = facts_of(EMBED if isinstance(request_, EmbedRequest) else CHAT, request_)
    names = ("images", "image_urls", "audio", "tools", "prefill", "provider")
    assert {name: value for name in names if (value := getattr(found, name))} == expected


# -- tasks and privacy -------------------------------------------------------------------------------------------------
TABLE = Table(
    FLEXIBLE,
    {"chat": ("s",), "vision": ("sv",), "embedding": ("se",)},
    {"chat": ("f", "g"), "ocr": ("fo",)},
)


@pytest.mark.parametrize(
    ("privacy", "task", "names"),
    [
        ("strict", "chat", ("s",)),
        ("strict", "ocr", ("sv",)),
        ("flexible", "chat", ("f", "g")),
        ("flexible", "ocr", ("fo",)),
        ("flexible", "vision", ("sv",)),
        ("flexible", "embedding", ("se",)),
    ],
)
def test_the_table(privacy: str, task: str, names: tuple[str, ...]) -> None:
    assert TABLE.names(privacy, task) == names
    assert Table(FLEXIBLE, {}, TABLE.flexible).names(STRICT, task) == (), "strict is never answered by what is flexible"


def test_names_of_the_table() -> None:
    found = {name: TABLE.stands_for(name) for name in ("auto", " AUTO:latest", "private", "Private", "s", "")}
    assert found == {"auto": "flexible", " AUTO:latest": "flexible", "private": "strict", "Private": "strict",
                     "s": None, "": None}  # fmt: skip
    assert Table(FLEXIBLE, TABLE.strict, {}).stands_for("auto") is None
    assert Table(FLEXIBLE, {}, TABLE.flexible).stands_for("private") is None


WORDS = (None, STRICT, FLEXIBLE)


@pytest.mark.parametrize("default", [STRICT, FLEXIBLE])
@pytest.mark.parametrize(("body", "header", "rule"), list(itertools.product(WORDS, WORDS, (None, STRICT))))
def test_strict_wins(default: str, body: str | None, header: str | None, rule: str | None) -> None:
    found = privacy_of((Said(body, "body"), Said(header, "header")), (Said(rule, "rule"),), default).word
    said = {body, header, rule}
    expected = STRICT if STRICT in said else FLEXIBLE if FLEXIBLE in said else default
    assert found == expected


@pytest.mark.parametrize("word", ["Strict", "on", "", "private", "strict,x", "flexible; strict"])
def test_an_unknown_privacy_word_is_refused(word: str) -> None:
    with pytest.raises(GatewayError) as caught:
        privacy_word(word, "X-Bridge-Privacy")
    assert caught.value.status == 400


def test_a_header_that_came_twice_is_strict_if_one_is() -> None:
    assert privacy_word("flexible, strict", "X-Bridge-Privacy") == STRICT
    assert privacy_word("flexible, flexible", "X-Bridge-Privacy") == FLEXIBLE


@pytest.mark.parametrize(
    ("facts", "asked", "task"),
    [
        (chat(), None, "chat"),
        (chat(images=True), None, "vision"),
        (chat(images=True), "ocr", "ocr"),
        (chat(images=True), "chat", "chat"),
        (chat(), "ocr", "ocr"),
        (Facts("it", EMBED, stream=False), "chat", "embedding"),
        (Facts("it", EMBED, stream=False), None, "embedding"),
    ],
)
def test_the_task(facts: Facts, asked: str | None, task: str) -> None:
    assert task_of(facts, asked) == task


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(GatewayError) as caught:
        task_word("code", "task")
    assert (caught.value.status, caught.value.param) == (400, "task")


def test_a_chat_as_an_embedding() -> None:
    system, answer = Message("system", [Text("S")]), Message("assistant", [Text("x")])
    messages = [system, user(Text("a"), Text("b")), answer, user(Text("c"))]
    request = ChatRequest("it", messages, privacy="strict", provider="far")
    made = as_embedding(request)
    assert (made.model, made.inputs, made.privacy, made.provider) == ("it", ["ab", "c"], "strict", "far")
    with pytest.raises(GatewayError) as caught:
        as_embedding(ChatRequest("it", [user(Media(data="AA=="))]))
    assert caught.value.status == 400


# -- memory ------------------------------------------------------------------------------------------------------------
class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def said(*texts: str, system: str = "") -> ChatRequest:
    roles = itertools.cycle(("user", "assistant"))
    first = [Message("system", [Text(system)])] if system else []
    return ChatRequest("it", [*first, *(Message(role, [Text(text)]) for role, text in zip(roles, texts, strict=False))])


def test_an_account_is_remembered_for_an_hour() -> None:
    clock = Clock()
    memory = Sticky(clock)
    memory.keep(b"a", "far/x", 2)
    clock.now = SERVED_SECONDS - 1
    assert memory.served(b"a") == ("far/x", 2) and memory.served(b"b") is None
    memory.keep(b"a", "away/y", 0)
    clock.now += SERVED_SECONDS - 1
    assert memory.served(b"a") == ("away/y", 0)
    clock.now += 1
    assert memory.served(b"a") is None


def test_a_strict_conversation_is_remembered_for_a_day() -> None:
    clock = Clock()
    memory = Sticky(clock)
    a, b = (sticky.opening("c", said(words)) or b"" for words in ("a", "b"))
    assert not memory.knows_strict
    memory.mark_strict(a)
    clock.now = STRICT_SECONDS - 1
    assert memory.knows_strict and memory.was_strict(a) and not memory.was_strict(b)
    memory.mark_strict(a)
    clock.now += STRICT_SECONDS - 1
    assert memory.was_strict(a)
    clock.now += 1
    assert not memory.was_strict(a)


def test_the_memory_is_bounded_and_the_oldest_goes_first() -> None:
    memory = Sticky(Clock(), at_most=3)
    for name in (b"a", b"b", b"c", b"a", b"d"):
        memory.keep(name, "far/x", 0)
    assert [name for name in (b"a", b"b", b"c", b"d") if memory.served(name)] == [b"a", b"c", b"d"]


def fingerprints(requests: Iterable[tuple[str, ChatRequest]]) -> int:
    return len({sticky.opening(caller, request) for caller, request in requests})


def test_an_opening_is_the_callers_first_words() -> None:
    """Neither another model nor another system text makes another conversation of it."""
    same = [("c", said("Hi")), ("c", said("Hi", "Hello", "More")), ("c", said("Hi", system="S")),
            ("c", ChatRequest("other", said("Hi").messages))]  # fmt: skip
    assert fingerprints(same) == 1
    assert fingerprints([*same, ("d", said("Hi")), ("c", said("Ho")), ("", said("cHi"))]) == 4
    assert sticky.opening("c", EmbedRequest("it", ["a"])) is None
    assert sticky.opening("c", ChatRequest("it")) is None


def test_an_opening_without_words_is_its_picture() -> None:
    def shown(*blocks: Media | Opaque) -> ChatRequest:
        return ChatRequest("it", [Message("user", list(blocks)), Message("assistant", [Text("Hello")])])

    one, other = Media(mime="image/png", data="AAAA"), Media(mime="image/png", data="BBBB")
    there = Media(url="http://pictures.example/a.png")
    film = Opaque("openai", {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}})
    assert all(sticky.opening("c", shown(block)) is not None for block in (one, other, there, film))
    assert fingerprints([("c", shown(*each)) for each in ((one,), (other,), (one, other), (there,), (film,))]) == 5
    assert sticky.opening("c", shown(one)) == sticky.opening("c", shown(one))
    assert sticky.opening("c", ChatRequest("it", [Message("user", [])])) is None


def test_a_conversation_with_a_model_is_what_its_prompt_cache_knows() -> None:
    base = sticky.conversation("c", "it", said("Hi", "Hello", "More", system="S"))
    assert base == sticky.conversation("c", "it", said("Hi", system="S"))
    others = [
        sticky.conversation("c", "it", said("Hi")),
        sticky.conversation("c", "other", said("Hi", system="S")),
        sticky.conversation("d", "it", said("Hi", system="S")),
    ]
    assert len({base, *others}) == 4
    assert sticky.conversation("c", "it", EmbedRequest("it", ["a"])) is None


def test_a_request_goes_on_when_somebody_has_answered() -> None:
    assert not sticky.goes_on(said("Hi")) and sticky.goes_on(said("Hi", "Hello"))
    assert not sticky.goes_on(EmbedRequest("it", ["a"]))


def test_a_strict_model_of_a_flexible_table_keeps_its_own_rule() -> None:
    own = replace(model(target("box/up", remote=True), "near/b"), name="own", strict=True)
    of = replace(model("far/a"), then=(own,))
    made = planned(chat(), of)
    assert order(made) == ["far/a", "near/b"] and [why for _, why in made.left_out] == [
        "is a cloud model of a real Ollama"
    ]
    assert order(planned(chat(images=True, image_urls=True), of)) == ["far/a"]
    assert refused(chat(), replace(own, targets=own.targets[:1])).status == 403
