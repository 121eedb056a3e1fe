"""Faults that somebody else thought of: the server of the `llmock` package stands for six services, and breaks as it is
told to (product.md 5, rows 1 to 13). It speaks the wires of OpenAI (both), Anthropic and Gemini, and those of
some compatible services in their own words; not Ollama's.

It runs as a program of its own and is scored from outside: by its journal, by its own verdict on its client, and by
what our client got. Pauses are real here.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from doors import CHAT, V1, Ask, Door, Heard, Turn
from evidence import outcome, record
from fakes.openai_wire import KEY
from fakes.responses_wire import FakeResponses
from fakes.script import Upstream
from fault_world import World, everywhere
from faults import ANSWER, SAID
from gateway import NO_BREAKERS, openai_provider, running, warm
from watch import watching

in_module = pytest.mark.asyncio(loop_scope="module")

DOORS: tuple[Door, ...] = (CHAT, V1)
WAYS = ("stream", "whole")
TEXT = "one two three four five six seven"
LATE = 1.0  # seconds
STALLED = 3.0  # seconds, of which llmock must not see our client sit through all
LIMIT = "400ms"

# Provider's name -> its kind, its path at llmock.
SERVICES = {
    "openai": ("openai", "/v1"),
    "responses": ("openai", "/v1"),
    "anthropic": ("anthropic", "/anthropic"),
    "gemini": ("google", "/gemini/v1beta"),
    "huggingface": ("huggingface", "/v1"),
    "mistral": ("openai", "/mistral/v1"),
    "groq": ("openai", "/groq/openai/v1"),
}


@dataclass(frozen=True)
class Fault:
    """`does`: a behaviour of llmock's. `asked`: how often the service must have been asked. Then `by` is who answers,
    "first" or "second", or the client is told `status`; with status 200 the error stands in the stream. `words`: a part
    of what the client is told."""

    row: int
    name: str
    does: dict[str, Any]
    asked: int
    by: str = ""
    status: int = 200
    words: str = ""
    ways: tuple[str, ...] = WAYS
    limits: dict[str, str] = field(default_factory=dict)
    alone: bool = False


def fail(status: int, times: int | None = None, after: float | None = None, **more: Any) -> dict[str, Any]:
    return {"type": "fail", "status": status, "times": times, "retry_after": after, **more}


def break_stream(kind: str, after: int = 4) -> dict[str, Any]:
    return {"type": "stream_fault", "kind": kind, "after_chunks": after, "stall_seconds": STALLED, "times": None}


LATE_ANSWER = {"type": "delay", "seconds": LATE, "times": None}
LATE_TOKEN = {"type": "slow_first_token", "seconds": LATE, "times": None}
FULL = {"code": "context_length_exceeded", "message": "This model's maximum context length was exceeded."}

# A failure that passes says when to come back: "Retry-After: 1", unless another time is given.
FAULTS = (
    Fault(1, "429, back in a moment", fail(429, 1, 0.05), 2, "first"),
    Fault(1, "429, back in 30 s", fail(429, after=30), 1, "second"),
    Fault(1, "429, back in 1 s, for ever", fail(429), 3, "second"),
    Fault(3, "500 once", fail(500, 1), 2, "first"),
    Fault(4, "503, back in 30 s", fail(503, after=30), 1, "second"),
    Fault(4, "503, back in 30 s, nobody else", fail(503, after=30), 1, status=503, words="unavailable", alone=True),
    Fault(4, "our key is refused", fail(401), 1, "second"),
    Fault(4, "our key is refused, nobody else", fail(401), 1, status=502, words="refused our key", alone=True),
    Fault(6, "no response", LATE_ANSWER, 1, "second", ways=("stream",), limits={"first_byte": LIMIT}),
    Fault(6, "no response", LATE_ANSWER, 1, "second", ways=("whole",), limits={"total": LIMIT}),
    Fault(7, "headers, no token", LATE_TOKEN, 1, "second", ways=("stream",), limits={"first_token": LIMIT}),
    Fault(8, "cut at the first frame", break_stream("disconnect", 0), 2, "second", ways=("stream",)),
    Fault(8, "cut after some frames", break_stream("disconnect", 6), 1, words="provider '", ways=("stream",)),
    Fault(8, "ends after some frames", break_stream("truncate", 6), 1, words="provider '", ways=("stream",)),
    Fault(9, "stalls after some frames", break_stream("stall", 6), 1, words="no further token", ways=("stream",),
          limits={"idle": LIMIT}),
    Fault(10, "a malformed first frame", break_stream("malformed", 0), 2, "second", ways=("stream",)),
    Fault(10, "a malformed frame", break_stream("malformed", 6), 1, ways=("stream",)),
    Fault(12, "too long", fail(400, **FULL), 1, status=400, words=FULL["message"]),
    Fault(13, "refused by a filter", fail(400, code="content_filter", message="Filtered."), 1, status=400,
          words="Filtered."),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    fault: Fault
    wire: str
    door: Door
    way: str

    @property
    def name(self) -> str:
        parts = (self.wire, self.door.name, self.way, self.fault.name.lower())
        return re.sub("[^a-z0-9]+", "-", "-".join(parts))


CELLS = [Cell(fault, wire, door, way) for fault in FAULTS for wire in SERVICES for door in DOORS for way in fault.ways]


@dataclass
class Mock:
    """The program."""

    url: str
    http: aiohttp.ClientSession

    async def call(self, method: str, what: str, **body: Any) -> Any:
        more = {"json": body} if body else {}
        async with self.http.request(method, f"{self.url}/_llmock/{what}", **more) as response:
            assert response.status < 300, await response.text()
            return await response.json()

    async def play(self, model: str, *behaviours: dict[str, Any]) -> None:
        reply = {"type": "reply", "text": TEXT, "times": None}
        queued = [{**each, "match": {"model": model}} for each in (*behaviours, reply)]
        await self.call("POST", "scenario", behaviors=queued)

    async def journal(self) -> dict[str, list[dict[str, Any]]]:
        """Requests by the model that they name."""
        found: dict[str, list[dict[str, Any]]] = {}
        for request in (await self.call("GET", "requests"))["requests"]:
            found.setdefault(request["model"] or "", []).append(request)
        return found


@asynccontextmanager
async def llmock() -> AsyncIterator[Mock]:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "uvicorn", "llmock.main:app", "--host", "127.0.0.1", "--port", "0",
        stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert program.stderr is not None
        screen = b""
        while not (found := re.search(rb"running on (http://\S+)", screen)):
            line = await program.stderr.readline()
            assert line, screen
            screen += line
        reading = asyncio.ensure_future(program.stderr.read())  # what it says must not fill the pipe
        async with aiohttp.ClientSession() as http:
            yield Mock(found[1].decode(), http)
    finally:
        program.kill()
        await program.wait()
    await reading


@dataclass
class Both:
    world: World
    mock: Mock
    second: Upstream


def configuration(mock: Mock, second: Upstream) -> dict[str, Any]:
    providers: dict[str, Any] = {
        name: {"kind": kind, "base_url": mock.url + path, "api_key": KEY} for name, (kind, path) in SERVICES.items()
    }
    providers |= {"second": openai_provider(second.url), "echo": {"kind": "echo"}}
    models = {}
    for cell in CELLS:
        models[cell.name] = model(cell.wire, cell.name, cell.fault.alone, timeouts=cell.fault.limits)
    return {"providers": providers, "models": models, "backoff": NO_BREAKERS}


def model(wire: str, name: str, alone: bool = False, **more: Any) -> dict[str, Any]:
    targets = [f"{wire}/up-{name}", f"second/up-{name}"][: 1 if alone else 2]
    return {"targets": targets, **({"api": "responses"} if wire == "responses" else {}), **more}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    with watching() as watch:
        async with (
            llmock() as mock,
            FakeResponses() as second,
            running(tmp_path_factory.mktemp("llmock"), configuration(mock, second)) as gateway,
        ):
            await warm(gateway, second, "second")
            world = World(gateway, {"second": second}, watch)
            for wire in SERVICES:
                await mock.play("warm")
                heard = await gateway.ask(CHAT, Ask((Turn("user", "Warm?"),)), f"{wire}/warm", False)
                assert heard.text == TEXT, heard
            yield Both(world, mock, second)
            await world.well()


def named() -> Iterator[object]:
    for fault in FAULTS:
        yield pytest.param(fault, id="-".join([str(fault.row), *fault.name.split(), *fault.ways]))


# What llmock cannot know better. It does not see that our client was told of what had broken off. It knows a second
# attempt by its body, and the first of Gemini's SDK says `generationConfig: {}` where later ones say nothing.
BLAMED = {"truncated_stream_accepted", "malformed_chunk_ignored", "gave_up"}


@pytest.mark.parametrize("fault", list(named()))
@in_module
async def test_fault(both: Both, fault: Fault) -> None:
    await both.mock.call("POST", "reset")
    cells = [cell for cell in CELLS if cell.fault == fault]
    answers: dict[str, Heard] = {}
    await everywhere((cell.name, ask(both, cell, answers)) for cell in cells)
    journal = await both.mock.journal()
    verdict = await both.mock.call("GET", "verdict")
    await everywhere((cell.name, judge(both, cell, answers[cell.name], journal)) for cell in cells)
    assert {found["code"] for found in verdict["findings"]} <= BLAMED, verdict["findings"]
    await both.world.well()


async def ask(both: Both, cell: Cell, answers: dict[str, Heard]) -> None:
    both.second.play(f"up-{cell.name}", SAID)
    await both.mock.play(f"up-{cell.name}", cell.fault.does)
    question = Ask((Turn("user", f"Count, {cell.name}."),))
    answers[cell.name] = await both.world.gateway.ask(cell.door, question, cell.name, cell.way == "stream")


async def judge(both: Both, cell: Cell, heard: Heard, journal: dict[str, list[dict[str, Any]]]) -> None:
    fault = cell.fault
    asked = journal.get(f"up-{cell.name}", [])
    record(fault.row, fault.name, cell.way, cell.door.name, cell.wire, outcome(heard, len(asked), cell.wire), "llmock")
    assert len(asked) == fault.asked
    for earlier, later in pairwise(asked):  # from when it was asked: it need not have seen that we hung up
        assert later["started_at"] - earlier["started_at"] >= (earlier["retry_after"] or 0.1) - 0.01
    if fault.by:
        target, text = ("second", ANSWER) if fault.by == "second" else (cell.wire, TEXT)
        assert (heard.status, heard.text, heard.error) == (200, text, None)
        assert heard.finished and not heard.cut
        assert heard.headers["x-bridge-target"] == f"{target}/up-{cell.name}"
        return
    assert heard.status == fault.status
    assert heard.error is not None and fault.words in heard.error, heard.error
    assert not heard.finished and heard.reason is None, "it looks complete"
    if fault.status == 200:
        assert heard.text and TEXT.startswith(heard.text) and heard.text != TEXT
    assert both.second.about(f"up-{cell.name}") == []
