"""A stream that breaks off and is continued elsewhere (product.md 5, row 8): only where it is provably the same answer,
and only where the operator wants it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from doors import CHAT, GENERATE, V1, Ask, Door, Heard, Turn
from fakes.anthropic_wire import FakeAnthropic
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import KEY, FakeOpenAI
from fakes.script import Call, Script, Trouble
from gateway import Gateway, alias, ollama_provider, openai_provider, running, warm

from ollama_bridge.events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, Start, fold
from ollama_bridge.policy.resume import Continuation, Given, continuing
from ollama_bridge.values import ChatRequest, Message, Text

DOORS = (CHAT, GENERATE, V1)
every_door = pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
ASK = Ask((Turn("user", "Count."),))
WHOLE = ("One, ", "two, ", "three, ", "four.")
BROKEN = {
    "cut": Script(text=WHOLE, trouble=Trouble.CUT, after=2),
    "error": Script(text=WHOLE, trouble=Trouble.ERROR, after=2, error="It fell over."),
    "end": Script(text=WHOLE, trouble=Trouble.END, after=2),
    "stall": Script(text=WHOLE, trouble=Trouble.STALL, after=2),
}
FOUR = "claude-sonnet-4"  # takes the beginning of its answer
FIVE = "claude-sonnet-5"  # does not


class World:
    def __init__(self) -> None:
        self.a, self.b, self.claude, self.box = FakeOpenAI(), FakeOpenAI(), FakeAnthropic(), FakeOllama()

    async def ask(
        self, folder: Path, door: Door, targets: list[str], ask: Ask = ASK, resume: bool = True, stream: bool = True
    ) -> Heard:
        config = {
            "providers": {
                "a": openai_provider(self.a.url, timeouts={"idle": "1s"}),
                "b": openai_provider(self.b.url),
                "anthropic": {"base_url": self.claude.url, "api_key": KEY},
                "box": ollama_provider(self.box.url),
            },
            "models": {"it": {"targets": targets, "resume": resume, "capabilities": alias("a", "m")["capabilities"]}},
        }
        async with running(folder, config) as gateway:
            for name, upstream in (("a", self.a), ("b", self.b)):
                await warm(gateway, upstream, name)
            heard = await gateway.ask(door, ask, "it", stream)
            await quiet(gateway)
            return heard


async def quiet(gateway: Gateway) -> None:
    async with gateway.http.get(f"{gateway.url}/metrics") as response:
        assert "active_streams 0.0" in await response.text()


@pytest.fixture
async def world() -> object:
    made = World()
    async with made.a, made.b, made.claude, made.box:
        yield made


def whole(heard: Heard) -> None:
    assert (heard.status, heard.text, heard.error) == (200, "".join(WHOLE), None)
    assert heard.finished
    assert heard.reason == "stop"


@every_door
@pytest.mark.parametrize("how", list(BROKEN))
async def test_the_same_answer_goes_on(tmp_path: Path, world: World, door: Door, how: str) -> None:
    world.a.play("m", BROKEN[how])
    world.b.play("m", Script(text=("One, two", ", three, fo", "ur.")))
    whole(await world.ask(tmp_path, door, ["a/m", "b/m"]))
    assert len(world.b.about("m")) == 1


@every_door
async def test_on_another_wire(tmp_path: Path, world: World, door: Door) -> None:
    world.a.play("m", BROKEN["cut"])
    world.box.play("m", Script(text=("One, two, three, four.",)))
    whole(await world.ask(tmp_path, door, ["a/m", "box/m"]))


@every_door
@pytest.mark.parametrize(
    "other",
    [
        Script(text=("One, two and three.",)),
        Script(text=("One", ", t")),
        Script(text=("Well. One, two, three, four.",)),
        Script(calls=(Call("count"),)),
        Script(status=500, error="It broke."),
        Script(text=WHOLE, trouble=Trouble.CUT, after=1),
    ],
    ids=["differs", "shorter", "longer before", "a call", "fails", "breaks earlier"],
)
async def test_another_answer_does_not(tmp_path: Path, world: World, door: Door, other: Script) -> None:
    """The client gets the error of the stream that it was reading, and nothing of the other."""
    world.a.play("m", BROKEN["error"])
    world.b.play("m", other)
    heard = await world.ask(tmp_path, door, ["a/m", "b/m"])
    assert heard.text == "One, two, "
    assert heard.error and "It fell over." in heard.error
    assert not heard.finished


async def test_a_third_may_do_it(tmp_path: Path, world: World) -> None:
    world.a.play("m", BROKEN["cut"])
    world.b.play("m", Script(text=("One, two, three, ", "four."), trouble=Trouble.CUT, after=1))
    world.box.play("m", Script(text=WHOLE))
    whole(await world.ask(tmp_path, CHAT, ["a/m", "b/m", "box/m"]))


@every_door
async def test_thoughts_are_not_said_twice(tmp_path: Path, world: World, door: Door) -> None:
    world.a.play("m", Script(thinking=("Hm. ",), text=WHOLE, trouble=Trouble.CUT, after=3))
    world.b.play("m", Script(thinking=("Quite another thought.",), text=WHOLE))
    heard = await world.ask(tmp_path, door, ["a/m", "b/m"], Ask(ASK.turns, think=True))
    whole(heard)
    assert heard.thinking == "Hm. "


async def test_a_model_that_takes_its_beginning_goes_on_from_there(tmp_path: Path, world: World) -> None:
    world.a.play("m", BROKEN["cut"])
    world.claude.play(FOUR, Script(text=(" th", "ree, four.")))  # it begins with the blank that was not sent
    whole(await world.ask(tmp_path, CHAT, ["a/m", f"anthropic/{FOUR}"]))
    [seen] = world.claude.about(FOUR)
    assert seen.json["messages"][-1]["role"] == "assistant"
    assert "One, two," in str(seen.json["messages"][-1])


async def test_one_that_does_not_is_asked_anew(tmp_path: Path, world: World) -> None:
    world.a.play("m", BROKEN["cut"])
    world.claude.play(FIVE, Script(text=WHOLE))
    whole(await world.ask(tmp_path, CHAT, ["a/m", f"anthropic/{FIVE}"]))
    [seen] = world.claude.about(FIVE)
    assert [message["role"] for message in seen.json["messages"]] == ["user"]


@every_door
async def test_nobody_is_asked_unless_the_operator_wants_it(tmp_path: Path, world: World, door: Door) -> None:
    world.a.play("m", BROKEN["error"])
    world.b.play("m", Script(text=WHOLE))
    heard = await world.ask(tmp_path, door, ["a/m", "b/m"], resume=False)
    assert heard.text == "One, two, " and heard.error and not heard.finished
    assert world.b.about("m") == []


async def test_a_call_that_has_begun_is_not_continued(tmp_path: Path, world: World) -> None:
    world.a.play("m", Script(text=("Look: ",), calls=(Call("count"),), trouble=Trouble.CUT, after=2))
    world.b.play("m", Script(text=WHOLE))
    heard = await world.ask(tmp_path, V1, ["a/m", "b/m"])
    assert heard.error and not heard.finished
    assert world.b.about("m") == []


@every_door
async def test_what_does_not_break_is_as_ever(tmp_path: Path, world: World, door: Door) -> None:
    world.a.play("m", Script(text=WHOLE))
    for stream in (True, False):
        whole(await world.ask(tmp_path, door, ["a/m", "b/m"], stream=stream))


# -- the codec alone ---------------------------------------------------------------------------------------------------
def said(*pieces: str, index: int = 0, ended: bool = False) -> list[Event]:
    events: list[Event] = [Start(), BlockStart(index, "text"), *(Delta(index, "text", piece) for piece in pieces)]
    return [*events, BlockEnd(index), Finish("stop")] if ended else events


def given(*pieces: str) -> Given:
    noted = Given()
    noted.note(said(*pieces))
    return noted


@pytest.mark.parametrize("at", range(len("One, two, three") + 1))
def test_wherever_it_broke_off(at: int) -> None:
    whole_text = "One, two, three"
    before = given(*whole_text[:at])
    continuation = Continuation(before, before.text)
    after = continuation.feed(said(*whole_text, index=3, ended=True))
    assert fold([*said(*whole_text[:at]), *after]).blocks == [Text(whole_text)]
    assert isinstance(after[-1], Finish)


def test_what_differs_gives_nothing_more() -> None:
    before = given("One, ")
    out = Continuation(before, before.text).feed(said("One; two", ended=True))
    assert [type(event) for event in out] == [Failed]


def test_a_beginning_without_its_last_blank() -> None:
    request = ChatRequest("m", [Message("user", [Text("Count.")])])
    asked, expected = continuing(request, given("One, \n"))
    assert (asked.messages[-1].role, asked.messages[-1].text(), expected) == ("assistant", "One,", " \n")
    assert continuing(request, given(" ")) == (request, " ")


def test_a_very_long_answer_is_not_kept() -> None:
    noted = given(*["x" * 100_000] * 11)
    assert not noted.possible
    assert noted.text == ""


async def test_a_relayed_answer_is_not_taken_for_another(tmp_path: Path, world: World) -> None:
    """A table's second model is relayed: nobody knows what it said, so nobody may go on with it."""
    world.a.play("m", Script(status=429, error="Slow.", headers={"Retry-After": "60"}))
    world.b.play("relayed", Script(text=("The answer", " is 4"), trouble=Trouble.CUT, after=2))
    world.b.play("other", Script(text=("No idea, sorry.",)))
    config = {
        "providers": {"a": openai_provider(world.a.url), "b": openai_provider(world.b.url)},
        "models": {
            "first": {"targets": ["a/m", "a/n"], "resume": True},
            "second": "b/relayed",
            "third": "b/other",
        },
        "routing": {"flexible": {"chat": ["first", "second", "third"]}},
    }
    world.a.play("n", Script(status=429, error="Slow.", headers={"Retry-After": "60"}))
    async with running(tmp_path, config) as gateway:
        for name, upstream in (("a", world.a), ("b", world.b)):
            await warm(gateway, upstream, name)
        heard = await gateway.ask(V1, ASK, "auto", True)
    assert heard.text == "The answer is 4"
    assert heard.error and not heard.finished
