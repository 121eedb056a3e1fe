"""The whole gateway in front of llama.cpp's own server, through the libraries that Ollama and OpenAI publish.

What came out of the real model is free; what the server said of it (tokens, times, logprobs, words of errors) must
arrive as it was said.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import ollama
import openai
import programs
import pytest
from programs import PATIENCE, Gateway, Passed
from tee import Tee, teed
from transcript import Transcript

TITLE = "The gateway in front of llama.cpp's server"
EVIDENCE = "real-llama-cpp.md"

WINDOW = 2048  # tokens; what the server was started with
FEW = 12  # tokens, where any answer will do
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "big": {"type": "boolean"}},
    "required": ["city", "big"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
        },
    },
}
HELLO = [{"role": "user", "content": "one two three"}]


def call(city: str) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": city}}}]}


# Two rounds that show the model how: results without ids, as Ollama's clients send them.
ROUNDS = [
    {"role": "user", "content": "Weather in Rome?"},
    call("Rome"),
    {"role": "tool", "content": "sunny"},
    {"role": "user", "content": "Weather in Oslo?"},
    call("Oslo"),
    {"role": "tool", "content": "rain"},
    {"role": "user", "content": "Weather in Paris?"},
]


@pytest.fixture(scope="module")
def gateway(llama_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = {
        "providers": {
            "lab": {"kind": "openai", "base_url": f"{llama_server}/v1", "local": True},
            # Every answer computed anew: what is reused of an earlier prompt may change the last digits.
            "llamacpp": {"base_url": f"{llama_server}/v1", "quirks": {"extra_body": {"cache_prompt": False}}},
        },
        "models": {
            "gemma": {
                "provider": "llamacpp", "model": "gemma",
                "capabilities": ["completion", "tools"], "temperature": 0, "context_length": WINDOW,
            },
            "caller": {
                "provider": "llamacpp", "model": "gemma", "capabilities": ["completion", "tools"],
                "options": {"temperature": 0, "stop": ["</tool_call>"], "num_predict": 60},
            },
        },
    }  # fmt: skip
    with programs.gateway(tmp_path_factory.mktemp("gateway"), config) as running:
        wait_listed(running, "lab/gemma:latest", "llamacpp/gemma:latest")
        yield running


def wait_listed(gateway: Gateway, *names: str) -> None:
    """Until the gateway has asked the server which models it has."""
    until = time.monotonic() + PATIENCE
    with ollama.Client(gateway.url, timeout=PATIENCE) as client:
        while missing := set(names) - {model.model for model in client.list().models}:
            assert time.monotonic() < until, f"never listed: {missing}"


@pytest.fixture(scope="module")
def tee(gateway: Gateway, document: Transcript) -> Iterator[Tee]:
    """Between the clients and the gateway."""
    with teed(gateway.url) as between:
        yield between


@pytest.fixture
def native(tee: Tee) -> Iterator[ollama.Client]:
    with ollama.Client(tee.url, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def sdk(tee: Tee) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{tee.url}/v1", api_key="any", max_retries=0, timeout=PATIENCE) as client:
        yield client


class Log:
    """What passes through the gateway while a test runs, to look at and to be written down."""

    def __init__(self, gateway: Gateway, tee: Tee) -> None:
        self._gateway = gateway
        self._tee = tee
        self._passed: list[Passed] = []
        gateway.passed()
        tee.exchanges.clear()

    def last(self) -> Passed:
        """The newest request that got through to the server."""
        self._passed += self._gateway.passed()
        return self._passed[-1]

    def write(self, transcript: Transcript) -> None:
        self._passed += self._gateway.passed()
        told = list(self._tee.exchanges)
        for passed in self._passed:
            transcript.block(f"POST {passed.path}\n{passed.asked.decode()}")
            if passed.sent:
                transcript.block(f"to the server:\n{passed.sent.decode()}")
                transcript.block(f"from the server:\n{passed.received.decode()}")
            while told and told[0].body != passed.asked:
                told.pop(0)
            if told:
                status, answer = told.pop(0).answer()
                transcript.block(f"to the client: {status}\n{answer.decode()}")


@pytest.fixture(autouse=True)
def log(gateway: Gateway, tee: Tee, transcript: Transcript) -> Iterator[Log]:
    found = Log(gateway, tee)
    yield found
    found.write(transcript)


def said(passed: Passed) -> dict[str, Any]:
    """The server's whole answer; of a stream, the frame with the counts."""
    if not passed.received.startswith(b"data:"):
        return json.loads(passed.received)
    frames = [json.loads(line[6:]) for line in passed.received.splitlines() if line.startswith(b"data: {")]
    return next(frame for frame in frames if frame.get("timings"))


def server_text(passed: Passed) -> str:
    if not passed.received.startswith(b"data:"):
        return str(json.loads(passed.received)["choices"][0]["message"]["content"])
    frames = [json.loads(line[6:]) for line in passed.received.splitlines() if line.startswith(b"data: {")]
    return "".join(choice["delta"].get("content") or "" for frame in frames for choice in frame["choices"])


def assert_measured(answer: ollama.ChatResponse | ollama.GenerateResponse, passed: Passed) -> None:
    """Tokens and times are the server's own."""
    usage, timings = said(passed)["usage"], said(passed)["timings"]
    assert answer.prompt_eval_count == usage["prompt_tokens"] > 0
    assert answer.eval_count == usage["completion_tokens"] == timings["predicted_n"]
    assert answer.prompt_eval_duration == pytest.approx(timings["prompt_ms"] * 1e6, abs=1)
    assert answer.eval_duration == pytest.approx(timings["predicted_ms"] * 1e6, abs=1)
    assert answer.total_duration is not None
    assert answer.total_duration >= answer.prompt_eval_duration + answer.eval_duration


# -- models ----------------------------------------------------------------------------------------------------------


def test_the_model_of_the_server_is_listed(native: ollama.Client, transcript: Transcript) -> None:
    models = {model.model: model for model in native.list().models}
    assert {"gemma:latest", "lab/gemma:latest", "llamacpp/gemma:latest"} <= set(models)
    shown = native.show("lab/gemma")
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["gemma.context_length"] == WINDOW  # as it runs, not as it was trained
    assert shown.modelinfo["gemma.embedding_length"] == 640
    transcript.block("list:\n" + "\n".join(sorted(map(str, models))))
    transcript.block(f"show lab/gemma:\n{json.dumps(shown.modelinfo, indent=1)}")


# -- chat and generate -------------------------------------------------------------------------------------------------


def test_chat_whole(native: ollama.Client, log: Log) -> None:
    answer = native.chat("gemma", HELLO, options={"num_predict": FEW})
    passed = log.last()
    assert answer.message.content == server_text(passed) != ""
    assert (answer.model, answer.done, answer.done_reason) == ("gemma", True, "length")
    assert answer.eval_count == FEW
    assert_measured(answer, passed)


def test_chat_streamed(native: ollama.Client, log: Log) -> None:
    *pieces, end = native.chat("gemma", HELLO, options={"num_predict": FEW}, stream=True)
    passed = log.last()
    text = "".join(piece.message.content or "" for piece in pieces)
    assert text + (end.message.content or "") == server_text(passed) != ""
    assert len(pieces) > FEW / 2  # token by token
    assert (end.done, end.done_reason) == (True, "length")
    assert_measured(end, passed)
    whole = native.chat("gemma", HELLO, options={"num_predict": FEW})
    assert whole.message.content == text


def test_generate_whole_and_continued(native: ollama.Client, log: Log) -> None:
    first = native.generate("gemma", "My name is Ada. What is my name?", options={"num_predict": FEW})
    passed = log.last()
    assert first.response == server_text(passed) != ""
    assert_measured(first, passed)
    second = native.generate("gemma", "And again?", context=first.context, options={"num_predict": FEW})
    messages = json.loads(log.last().sent)["messages"]
    assert [message["content"] for message in messages] == [
        "My name is Ada. What is my name?", first.response, "And again?",
    ]  # fmt: skip
    assert (second.prompt_eval_count or 0) > (first.prompt_eval_count or 0)


def test_generate_streamed(native: ollama.Client, log: Log) -> None:
    *pieces, end = native.generate("gemma", "one two three", system="Count.", options={"num_predict": FEW}, stream=True)
    passed = log.last()
    assert "".join(piece.response for piece in [*pieces, end]) == server_text(passed) != ""
    assert_measured(end, passed)
    assert end.context


def test_a_stop_text_ends_the_answer(native: ollama.Client, log: Log) -> None:
    for stream in (False, True):
        free = native.chat("gemma", HELLO, options={"num_predict": FEW})
        word = (free.message.content or "").split()[1]
        options = {"num_predict": FEW, "stop": [word]}
        *_, end = (
            native.chat("gemma", HELLO, options=options, stream=True)
            if stream
            else [native.chat("gemma", HELLO, options=options)]
        )
        passed = log.last()
        assert word not in server_text(passed)
        assert end.done_reason == "stop"


def test_the_same_seed_gives_the_same_answer(native: ollama.Client) -> None:
    def drawn(seed: int) -> str | None:
        options = {"num_predict": 16, "temperature": 1.5, "top_k": 1000, "seed": seed}
        return native.chat("gemma", HELLO, options=options).message.content

    assert drawn(7) == drawn(7)
    assert len({drawn(7), drawn(8), drawn(9)}) > 1


def test_sampling_beyond_openai_reaches_the_server(native: ollama.Client, log: Log) -> None:
    options = {"num_predict": 4, "top_k": 5, "min_p": 0.1, "repeat_penalty": 1.2, "repeat_last_n": 32, "seed": 3}
    native.chat("gemma", HELLO, options=options)
    sent = json.loads(log.last().sent)
    expected = {**options, "max_tokens": 4, "temperature": 0}
    del expected["num_predict"]
    assert {name: sent.get(name) for name in expected} == expected


# -- structured output, logprobs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_schema_is_kept_to(native: ollama.Client, stream: bool) -> None:
    asked = [{"role": "user", "content": "Name a city."}]
    answer = native.chat("gemma", asked, format=CITY, options={"num_predict": 100}, stream=stream)
    pieces = list(answer) if stream else [answer]
    value = json.loads("".join(piece.message.content or "" for piece in pieces))
    assert isinstance(value.pop("city"), str) and isinstance(value.pop("big"), bool) and not value
    assert pieces[-1].done_reason == "stop"


def test_json_is_kept_to(native: ollama.Client) -> None:
    examples = [
        {"role": "user", "content": "Paris as JSON"}, {"role": "assistant", "content": '{"city": "Paris"}'},
        {"role": "user", "content": "Rome as JSON"}, {"role": "assistant", "content": '{"city": "Rome"}'},
        {"role": "user", "content": "Oslo as JSON"},
    ]  # fmt: skip
    answer = native.chat("gemma", examples, format="json", options={"num_predict": 200})
    assert isinstance(json.loads(answer.message.content or ""), dict)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_logprobs_are_the_servers(native: ollama.Client, log: Log, stream: bool) -> None:
    answer = native.chat("gemma", HELLO, logprobs=True, top_logprobs=2, options={"num_predict": 4}, stream=stream)
    pieces = list(answer) if stream else [answer]
    got = [item for piece in pieces for item in piece.logprobs or []]
    lines = log.last().received.removeprefix(b"data: ").split(b"\n\ndata: ")
    choices = [choice for line in lines if line[:1] == b"{" for choice in json.loads(line)["choices"]]
    server = [item for choice in choices for item in (choice.get("logprobs") or {}).get("content") or []]
    assert len(server) == 4
    assert [(item.token, item.logprob) for item in got] == [(item["token"], item["logprob"]) for item in server]
    for ours, theirs in zip(got, server, strict=True):
        assert [(top.token, top.logprob) for top in ours.top_logprobs or []] == [
            (top["token"], top["logprob"]) for top in theirs["top_logprobs"]
        ]
        assert len(ours.top_logprobs or []) == 2


# -- tools -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_tool_is_called(native: ollama.Client, log: Log, stream: bool) -> None:
    answer = native.chat("caller", ROUNDS, tools=[WEATHER], stream=stream)
    pieces = list(answer) if stream else [answer]
    calls = [call.function for piece in pieces for call in piece.message.tool_calls or []]
    assert [(call.name, call.arguments) for call in calls] == [("get_weather", {"city": "Paris"})]
    assert pieces[-1].done_reason == "stop"
    assert not "".join(piece.message.content or "" for piece in pieces)
    messages = json.loads(log.last().sent)["messages"]
    made = [call["id"] for message in messages for call in message.get("tool_calls", [])]
    answered = [message["tool_call_id"] for message in messages if message["role"] == "tool"]
    assert made == answered and len(set(made)) == 2  # the ids that the client left out


def test_a_result_without_an_id_is_understood(native: ollama.Client, log: Log) -> None:
    turns = [*ROUNDS, call("Paris"), {"role": "tool", "tool_name": "get_weather", "content": "snow"}]
    answer = native.chat("gemma", turns, tools=[WEATHER], options={"num_predict": FEW})
    assert answer.message.content
    sent = json.loads(log.last().sent)["messages"]
    assert sent[-1]["content"] == "snow"
    assert sent[-1]["tool_call_id"] == sent[-2]["tool_calls"][0]["id"]


def openai_rounds() -> list[Any]:
    """ROUNDS as OpenAI's clients say it."""
    turns: list[Any] = []
    for turn in ROUNDS:
        made = [
            {"id": f"call_{len(turns)}", "type": "function", "function": {
                "name": call["function"]["name"], "arguments": json.dumps(call["function"]["arguments"]),
            }}
            for call in turn.get("tool_calls", [])
        ]  # fmt: skip
        of = {"tool_call_id": f"call_{len(turns) - 1}"} if turn["role"] == "tool" else {}
        turns.append({**turn, **of, **({"tool_calls": made} if made else {})})
    return turns


DEMAND: dict[str, Any] = {
    "model": "lab/gemma", "temperature": 0, "max_tokens": 100, "tools": [WEATHER],
    "tool_choice": "required", "parallel_tool_calls": False, "stop": ["</tool_call>"],
}  # fmt: skip


def test_v1_a_demanded_call_and_its_result(sdk: openai.OpenAI) -> None:
    turns = openai_rounds()
    first = sdk.chat.completions.create(messages=turns, **DEMAND).choices[0]
    assert first.finish_reason == "tool_calls"
    (made,) = first.message.tool_calls or []
    assert made.type == "function" and made.id
    assert (made.function.name, json.loads(made.function.arguments)) == ("get_weather", {"city": "Paris"})
    turns += [first.message, {"role": "tool", "tool_call_id": made.id, "content": "snow"}]
    second = sdk.chat.completions.create(
        model="lab/gemma", messages=turns, tools=DEMAND["tools"], tool_choice="none", max_tokens=FEW, temperature=0
    ).choices[0]
    assert second.message.content and not second.message.tool_calls


def test_v1_a_demanded_call_streamed(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.stream(messages=openai_rounds(), **DEMAND) as stream:
        choice = stream.get_final_completion().choices[0]
    (made,) = choice.message.tool_calls or []
    assert (made.function.name, json.loads(made.function.arguments)) == ("get_weather", {"city": "Paris"})


# -- thinking ----------------------------------------------------------------------------------------------------------


def test_thoughts_stand_in_their_own_field(weights: Path, tmp_path: Path, transcript: Transcript) -> None:
    with ExitStack() as stack:
        address = stack.enter_context(programs.llama_server(weights, tmp_path, thinks=True))
        quirks = {"reasoning": "template", "extra_body": {"thinking_budget_tokens": 4}}
        thinker = {"kind": "openai", "base_url": f"{address}/v1", "local": True, "quirks": quirks}
        alias = {
            "provider": "thinker", "model": "gemma",
            "capabilities": ["completion", "thinking"], "temperature": 0, "max_tokens": FEW,
        }  # fmt: skip
        config = {"providers": {"thinker": thinker}, "models": {"thinker": alias}}
        gateway = stack.enter_context(programs.gateway(tmp_path, config))
        native = stack.enter_context(ollama.Client(gateway.url, timeout=PATIENCE))
        asked = [{"role": "user", "content": "What is 5+5?"}]
        whole = native.chat("thinker", asked, think=True).message
        pieces = [piece.message for piece in native.chat("thinker", asked, think=True, stream=True)]
        without = native.chat("thinker", asked, think=False).message
        for passed in gateway.passed():
            transcript.block(f"POST {passed.path}\n{passed.asked.decode()}")
            transcript.block(f"from the server:\n{passed.received.decode()}")
    transcript.block("\n".join(answer.model_dump_json(exclude_none=True) for answer in (whole, *pieces, without)))
    assert whole.thinking and whole.content
    first_word = next(at for at, piece in enumerate(pieces) if piece.content)
    assert any(piece.thinking for piece in pieces[:first_word])
    assert not any(piece.thinking for piece in pieces[first_word:])
    assert without.content and without.thinking is None


# -- errors, limits ----------------------------------------------------------------------------------------------------

LONG = "word " * 600  # about 600 tokens
TALK = [
    {"role": "system", "content": "You are brief."},
    *({"role": role, "content": LONG} for _ in range(3) for role in ("user", "assistant")),
    {"role": "user", "content": "one two three"},
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_too_long_is_said_in_the_words_of_the_server(tee: Tee, log: Log, stream: bool) -> None:
    body = {"model": "gemma", "stream": stream, "truncate": False, "messages": TALK}
    status, _, answer = post(tee, "/api/chat", body)
    words = json.loads(log.last().received)["error"]["message"]
    assert re.fullmatch(r"request \(\d+ tokens\) exceeds the available context size \(2048 tokens\), .*", words)
    assert (status, json.loads(answer)) == (400, {"error": words})


@pytest.mark.parametrize("model", ["gemma", "lab/gemma"], ids=["window configured", "window found out"])
def test_a_long_conversation_loses_its_oldest_turns(tee: Tee, log: Log, model: str) -> None:
    body = {"model": model, "stream": False, "messages": TALK, "options": {"num_predict": 4}}
    status, headers, answer = post(tee, "/api/chat", body)
    assert status == 200, answer
    sent = json.loads(log.last().sent)["messages"]
    assert int(headers["X-Bridge-Trimmed"]) == len(TALK) - len(sent) > 0
    assert [sent[0], sent[-1]] == [TALK[0], TALK[-1]]
    assert 600 < json.loads(answer)["prompt_eval_count"] < WINDOW  # no more is lost than must be


def test_v1_too_long_is_an_error_the_sdk_knows(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"exceeds the available context size \(2048 tokens\)") as caught:
        sdk.chat.completions.create(model="lab/gemma", messages=[{"role": "user", "content": LONG * 4}])
    assert caught.value.code == "context_length_exceeded"


def test_a_bad_schema_is_the_clients_mistake(native: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="nonsense") as caught:
        native.chat("gemma", HELLO, format={"type": "nonsense"})
    assert caught.value.status_code == 400


def test_embeddings_that_the_server_does_not_give(native: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="This server does not support embeddings") as caught:
        native.embed("lab/gemma", "hello")
    assert caught.value.status_code == 502


# -- /v1 ---------------------------------------------------------------------------------------------------------------


def test_v1_whole_as_the_server_sent_it(tee: Tee, log: Log) -> None:
    body = {"model": "lab/gemma", "messages": HELLO, "max_tokens": FEW, "temperature": 0}
    status, _, answer = post(tee, "/v1/chat/completions", body)
    passed = log.last()
    assert status == 200
    assert json.loads(passed.sent) == {**body, "model": "gemma"}
    assert answer == passed.received.replace(b'"model":"gemma"', b'"model":"lab/gemma"')


def test_v1_streamed_as_the_server_sent_it(tee: Tee, log: Log) -> None:
    options = {"include_usage": True}
    body = {"model": "lab/gemma", "messages": HELLO, "max_tokens": 4, "stream": True, "stream_options": options}
    status, headers, answer = post(tee, "/v1/chat/completions", body)
    passed = log.last()
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")
    assert answer == passed.received.replace(b'"model":"gemma"', b'"model":"lab/gemma"')
    assert answer.endswith(b"data: [DONE]\n\n")


def test_v1_a_schema_logprobs_and_counts(sdk: openai.OpenAI, log: Log) -> None:
    schema: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    answer = sdk.chat.completions.create(
        model="lab/gemma", messages=[{"role": "user", "content": "Name a city."}],
        response_format=schema, logprobs=True, top_logprobs=1, max_tokens=100, temperature=0,
    )  # fmt: skip
    assert set(json.loads(answer.choices[0].message.content or "")) == {"city", "big"}
    usage = said(log.last())["usage"]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        usage["prompt_tokens"], usage["completion_tokens"],
    )  # fmt: skip
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content and logprobs.content[0].top_logprobs


def test_v1_completions(sdk: openai.OpenAI) -> None:
    whole = sdk.completions.create(model="lab/gemma", prompt="one two three", max_tokens=8, temperature=0)
    assert re.match(r",? four,? five", whole.choices[0].text)  # no template: the model goes on
    pieces = list(sdk.completions.create(model="lab/gemma", prompt="one two three", max_tokens=8, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices)


# -- clients and servers that leave ------------------------------------------------------------------------------------


def slot(server: str) -> dict[str, Any]:
    """What the server is doing: it does one thing at a time."""
    with urlopen(f"{server}/slots", timeout=PATIENCE) as answer:
        (only,) = json.load(answer)
    return only


def wait_for(server: str, busy: bool) -> None:
    until = time.monotonic() + PATIENCE
    while slot(server)["is_processing"] is not busy:
        assert time.monotonic() < until, f"the server is still {'idle' if busy else 'busy'}"


def metric(address: str, name: str) -> float:
    """A number from /metrics, 0 when it is not there yet."""
    with urlopen(f"{address}/metrics", timeout=PATIENCE) as answer:
        found = re.search(rf"^{re.escape(name)} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def ask_and_stay(gateway: Gateway, path: str, **more: Any) -> socket.socket:
    """A request whose connection is still open."""
    body = json.dumps({"model": "lab/gemma", "messages": HELLO, **more}).encode()
    split = urlsplit(gateway.url)
    client = socket.create_connection((split.hostname, split.port), timeout=PATIENCE)
    client.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return client


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_a_client_that_leaves_a_stream_stops_the_server(
    llama_server: str, gateway: Gateway, transcript: Transcript, path: str
) -> None:
    wait_for(llama_server, busy=False)
    before = metric(llama_server, "llamacpp:tokens_predicted_total")
    with ask_and_stay(gateway, path, stream=True) as client:
        assert b"200" in client.recv(1000)
    left = time.monotonic()
    wait_for(llama_server, busy=False)
    seconds = time.monotonic() - left
    spoken = metric(llama_server, "llamacpp:tokens_predicted_total") - before
    assert spoken < WINDOW / 2  # left alone it speaks until its window is full
    transcript.block(f"{path}: {seconds:.2f} s after the client had left, the server was idle")


CANCELLED = 'provider_failures_total{provider="lab",reason="cancelled"}'


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_a_client_that_leaves_a_whole_answer_is_given_up(
    llama_server: str, gateway: Gateway, transcript: Transcript, path: str
) -> None:
    """This server itself does not notice that nobody waits for a whole answer; a limit keeps it short."""
    wait_for(llama_server, busy=False)
    before = metric(gateway.url, CANCELLED)
    limit = {"options": {"num_predict": 64}} if path.startswith("/api/") else {"max_tokens": 64}
    with ask_and_stay(gateway, path, stream=False, **limit):
        wait_for(llama_server, busy=True)
    until = time.monotonic() + PATIENCE
    while metric(gateway.url, CANCELLED) == before:
        assert time.monotonic() < until, "the gateway still waits for the answer"
    transcript.block(f"{path}: the gateway let go of the server's answer")


def test_a_server_that_dies_is_no_clean_end(weights: Path, tmp_path: Path, transcript: Transcript) -> None:
    with ExitStack() as stack:
        dying = stack.enter_context(ExitStack())
        address = dying.enter_context(programs.llama_server(weights, tmp_path))
        lab = {"kind": "openai", "base_url": f"{address}/v1", "local": True}
        gateway = stack.enter_context(programs.gateway(tmp_path, {"providers": {"lab": lab}}))
        native = stack.enter_context(ollama.Client(gateway.url, timeout=PATIENCE))
        stream = native.chat("lab/gemma", HELLO, stream=True)
        assert next(stream).message.content
        dying.close()
        with pytest.raises(ollama.ResponseError, match="provider 'lab'") as cut:
            list(stream)
        with pytest.raises(ollama.ResponseError, match="provider 'lab'") as refused:
            native.chat("lab/gemma", HELLO)
        assert refused.value.status_code == 502
        transcript.block(f"in mid-stream: {cut.value}\nafterwards: {refused.value}")


def post(tee: Tee, path: str, body: Any) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and the very bytes of an answer."""
    split = urlsplit(tee.url)
    connection = http.client.HTTPConnection(split.hostname or "", split.port, timeout=PATIENCE)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()
