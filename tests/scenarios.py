"""The scenarios of the matrix as data: what is asked, what the upstream answers, what must arrive.

Knows: meaning only, in nobody's wire (`Ask`, `Script`, `Expect`). Must not know: doors, providers, the gateway. Which
scenario holds where, and how, is the table in support.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from doors import Ask, Turn
from fakes.script import Call, Script, Tokens, Trouble, inside_characters

# A picture of one red dot.
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="

TOKENS = Tokens()
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def tool(name: str, **properties: str) -> dict[str, Any]:
    """A function definition; `properties` are name -> JSON type, all required."""
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": f"{name} of a place",
            "parameters": {
                "type": "object",
                "properties": {key: {"type": kind} for key, kind in properties.items()},
                "required": list(properties),
            },
        },
    }


WEATHER = tool("get_weather", city="string")
TIME = tool("get_time", city="string")
DATE = tool("get_date")


@dataclass(frozen=True)
class Expect:
    """What the client must have got. `reason` is "stop", "length" or "tool_calls" (a door that has no such word says
    "stop"). `error`: a fragment of its text; "{provider}" and "{alias}" stand for those names. `status` and
    `whole_status`: of the stream and of the whole answer; with an `error` and status 200 it comes inside the stream."""

    text: str = ""
    thinking: str = ""
    refusal: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    reason: str = "stop"
    tokens: Tokens | None = TOKENS
    logprobs: tuple[tuple[str, float, int], ...] = ()
    error: str | None = None
    status: int = 200
    whole_status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Scenario:
    """`echo`: what the built-in echo model answers instead, None where it has no such answer. `first`: what the
    upstream has answered before, where the conversation is had from its first turn on. `unstopped`: what it says when
    its wire has no stop strings."""

    name: str
    ask: Ask
    script: Script
    expect: Expect
    echo: Expect | None = None
    first: Script | None = None
    unstopped: Script | None = None


def user(text: str, **more: Any) -> Ask:
    return Ask((Turn("user", text),), **more)


def echo(text: str = "", **more: Any) -> Expect:
    """What the echo model says; its counts are its own."""
    return Expect(text, tokens=None, **more)


def refused(name: str, status: int, said: str, told: str, to: int, **more: Any) -> Scenario:
    """The provider answers `status` and says `said`; the client gets status `to` and reads `told`."""
    headers = more.pop("headers", ())
    script = Script(status=status, error=said, headers=dict(headers), **more)
    return Scenario(name, user("Hello?"), script, Expect(error=told, status=to, whole_status=to, headers=headers))


CALLS = (Call("get_weather", ('{"city":"Oslo"}',), "call_w"), Call("get_time", ('{"city":"Oslo"}',), "call_t"))
NO_IDS = (Call("get_weather", ('{"city":"Oslo"}',)), Call("get_time", ('{"city":"Oslo"}',)))
AFTERMATH = Script(text=("Noon, ", "and 3 degrees."))


def tool_turns(calls: tuple[Call, ...], told: str, order: tuple[int, ...]) -> Ask:
    """A question, two calls, and their results in `order`."""
    results = ("3 degrees", "noon")
    return Ask(
        (
            Turn("user", "Weather and time in Oslo?"),
            Turn("assistant", calls=calls),
            *(Turn("tool", results[at], answers=at, told=told) for at in order),
        ),
        tools=(WEATHER, TIME),
    )


# A question, the thought that led to a call, and the call's result.
THOUGHTFUL = Ask(
    (
        Turn("user", "Weather in Oslo?"),
        Turn("assistant", thinking="I must look.", calls=CALLS[:1]),
        Turn("tool", "3 degrees", answers=0),
    ),
    tools=(WEATHER,),
    think=True,
)

SCENARIOS = (
    Scenario(
        "text",
        user("Say hello."),
        Script(text=("Hel", "lo", " there")),
        Expect("Hello there"),
        echo=echo("Say hello."),
    ),
    Scenario(
        "system",
        Ask((Turn("system", "Answer with one word."), Turn("user", "Is it cold?"))),
        Script(text=("Yes",)),
        Expect("Yes"),
        echo=echo("Is it cold?"),
    ),
    Scenario(
        "multi-turn",
        Ask((Turn("user", "I am Ada."), Turn("assistant", "Hello Ada."), Turn("user", "Who am I?"))),
        Script(text=("Ada", ".")),
        Expect("Ada."),
        echo=echo("Who am I?"),
    ),
    Scenario(
        "emoji",
        user("Draw \u2603\u0085 and 👩‍🚀."),
        Script(text=("👩‍🚀 n", "ée", "\u0085", "<\u2028>", "☃"), cuts=inside_characters),
        Expect("👩‍🚀 née\u0085<\u2028>☃"),
        echo=echo("Draw \u2603\u0085 and 👩‍🚀."),
    ),
    Scenario(
        "image-data",
        Ask((Turn("user", "What is it?", images=(DOT,)),)),
        Script(text=("A ", "dot.")),
        Expect("A dot."),
        echo=echo("What is it? [1 image: png, 70 bytes]"),
    ),
    Scenario(
        "image-url",
        Ask((Turn("user", "And this?", image_urls=("http://127.0.0.1:9/dot.png",)),)),
        Script(text=("A ", "dot.")),
        Expect("A dot."),
    ),
    Scenario(
        "one-tool",
        user("Weather in Oslo?", tools=(WEATHER,)),
        Script(calls=(Call("get_weather", ('{"ci', 'ty":', '"Os', 'lo"}'), "call_w"),)),
        Expect(calls=(("get_weather", {"city": "Oslo"}),), reason="tool_calls"),
        echo=echo(calls=(("get_weather", {"city": "Weather in Oslo?"}),), reason="tool_calls"),
    ),
    Scenario(
        "parallel-tools",
        user("Weather and time in Oslo?", tools=(WEATHER, TIME)),
        Script(
            calls=(
                Call("get_weather", ('{"city"', ':"Oslo"}'), "call_w"),
                Call("get_time", ('{"city":"Os', 'lo"}'), "call_t"),
            )
        ),
        Expect(calls=(("get_weather", {"city": "Oslo"}), ("get_time", {"city": "Oslo"})), reason="tool_calls"),
    ),
    Scenario(
        "tool-no-arguments",
        user("What day is it?", tools=(DATE,)),
        Script(calls=(Call("get_date", (), "call_d"),)),
        Expect(calls=(("get_date", {}),), reason="tool_calls"),
        echo=echo(calls=(("get_date", {}),), reason="tool_calls"),
    ),
    Scenario(
        "result-by-id",
        tool_turns(CALLS, "id", (1, 0)),
        AFTERMATH,
        Expect("Noon, and 3 degrees."),
        echo=echo("3 degrees\nnoon"),
    ),
    Scenario(
        "result-by-name",
        tool_turns(NO_IDS, "name", (1, 0)),
        AFTERMATH,
        Expect("Noon, and 3 degrees."),
        echo=echo("3 degrees\nnoon"),
    ),
    Scenario(
        "result-by-neither",
        tool_turns(NO_IDS, "neither", (0, 1)),
        AFTERMATH,
        Expect("Noon, and 3 degrees."),
        echo=echo("3 degrees\nnoon"),
    ),
    Scenario(
        "think-off",
        user("6 times 7?", think=False),
        Script(text=("4", "2")),
        Expect("42"),
        echo=echo("6 times 7?"),
    ),
    Scenario(
        "think-on",
        user("6 times 7?", think=True),
        Script(thinking=("Six ", "sevens"), text=("4", "2")),
        Expect("42", thinking="Six sevens"),
        echo=echo("6 times 7?", thinking="The user said: 6 times 7?"),
    ),
    Scenario(
        "think-level",
        user("6 times 7?", think="high"),
        Script(thinking=("Seven", " sixes"), text=("42",)),
        Expect("42", thinking="Seven sixes"),
        echo=echo("6 times 7?", thinking="The user said: 6 times 7?"),
    ),
    Scenario(
        "thinking-with-tools",
        THOUGHTFUL,
        Script(thinking=("It is ", "cold."), text=("3 ", "degrees.")),
        Expect("3 degrees.", thinking="It is cold."),
        echo=echo("3 degrees", thinking="The tool said: 3 degrees"),
        first=Script(thinking=("I must ", "look."), calls=CALLS[:1]),
    ),
    Scenario(
        "foreign-thoughts",
        THOUGHTFUL,
        Script(thinking=("It is ", "cold."), text=("3 ", "degrees.")),
        Expect("3 degrees.", thinking="It is cold."),
        echo=echo("3 degrees", thinking="The tool said: 3 degrees"),
    ),
    Scenario(
        "json",
        user("A JSON object, please.", format="json"),
        Script(text=('{"n"', ":1}")),
        Expect('{"n":1}'),
        echo=echo('{"echo": "A JSON object, please."}'),
    ),
    Scenario(
        "schema",
        user("A number, please.", format=SCHEMA),
        Script(text=('{"n":', "1}")),
        Expect('{"n":1}'),
        echo=echo('{"n": 1}'),
    ),
    Scenario(
        "stop-text",
        user("Count to END, please.", stop=("four", "END")),
        Script(text=("one two ", "three ")),
        Expect("one two three "),
        echo=echo("Count to "),
        unstopped=Script(text=("one two ", "three E", "ND fo", "ur five")),
    ),
    Scenario(
        "length",
        user("Count from one to ten.", max_tokens=3),
        Script(text=("one two", " three"), reason="length"),
        Expect("one two three", reason="length"),
        echo=echo("Count from one", reason="length"),
    ),
    Scenario(
        "refusal",
        user("A number, please.", format=SCHEMA),
        Script(refusal=("I cannot ", "do that.")),
        Expect(refusal="I cannot do that."),
    ),
    Scenario(
        "logprobs",
        user("Hi", logprobs=True, top=2),
        Script(
            text=("Hé", "!"),
            logprobs=(
                {
                    "token": "Hé",
                    "logprob": -0.25,
                    "bytes": [72, 195, 169],
                    "top_logprobs": [
                        {"token": "Hé", "logprob": -0.25, "bytes": [72, 195, 169]},
                        {"token": "Ho", "logprob": -1.5, "bytes": [72, 111]},
                    ],
                },
                {
                    "token": "!",
                    "logprob": -0.5,
                    "bytes": [33],
                    "top_logprobs": [
                        {"token": "!", "logprob": -0.5, "bytes": [33]},
                        {"token": ".", "logprob": -2.0, "bytes": [46]},
                    ],
                },
            ),
        ),
        Expect("Hé!", logprobs=(("Hé", -0.25, 2), ("!", -0.5, 2))),
        echo=echo("Hi", logprobs=(("Hi", -0.046875, 2),)),
    ),
    Scenario(
        "cached-usage",
        user("Again."),
        Script(text=("Done",), usage=Tokens(100, 20, cached=64, reasoning=5)),
        Expect("Done", tokens=Tokens(100, 20, cached=64, reasoning=5)),
    ),
    Scenario("no-usage", user("Say hello."), Script(text=("Hel", "lo"), usage=None), Expect("Hello", tokens=None)),
    Scenario("empty", user("Say nothing."), Script(), Expect("")),
    refused("status-400", 400, "The request is odd.", "The request is odd.", 400, error_type="invalid_request_error"),
    refused("status-401", 401, "Who are you?", "{provider}", 502, error_code="invalid_api_key"),
    refused("status-403", 403, "Not for you.", "{provider}", 502),
    refused(
        "status-404",
        404,
        "The model `x` does not exist",
        "model '{alias}' not found",
        404,
        error_code="model_not_found",
    ),
    # Half a minute is too long to be waited for: the client is told.
    refused("status-429", 429, "Rate limit reached.", "Rate limit reached.", 429, headers=(("retry-after", "30"),)),
    refused("status-500", 500, "It broke.", "It broke.", 502),
    refused("status-529", 529, "Overloaded.", "Overloaded.", 503),
    Scenario(
        "error-midway",
        user("Count."),
        Script(text=("one ", "two ", "three"), trouble=Trouble.ERROR, after=2, error="The engine fell over."),
        Expect("one two ", error="The engine fell over.", whole_status=502),
    ),
    Scenario(
        "cut-midway",
        user("Count."),
        Script(text=("one ", "two ", "three"), trouble=Trouble.CUT, after=2),
        Expect("one two ", error="{provider}", whole_status=502),
    ),
    Scenario(
        "stall",
        user("Count."),
        Script(text=("one ", "two ", "three"), trouble=Trouble.STALL, after=2),
        Expect("one two ", error="{provider}", whole_status=504),
    ),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
