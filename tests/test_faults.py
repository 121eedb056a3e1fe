"""What goes wrong behind a single target, and what the client sees (product.md 5, rows 6, 8-11 and 17).

Every fault is played by a fake upstream and seen through a door; `asked` says how often that upstream was asked for it.
Limits are configured short; nothing here sleeps.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from conftest import Start
from doors import CHAT, GENERATE, V1, Ask, Door, Heard, Turn
from fakes.openai_wire import KEY
from fakes.script import Script, Trouble, Upstream
from fault_world import leave
from gateway import Gateway, alias, ollama_provider, openai_provider, warm

pytestmark = pytest.mark.usefixtures("no_pause")

ASK = Ask((Turn("user", "Count."),))
TEXT = ("one ", "two ", "three")
BRIEF = 0.25  # seconds within which an upstream must be closed (product.md 5, row 17)
GUARD = 10.0  # seconds after which a test gives up waiting for what must come

UPSTREAMS = ("openai", "ollama")
DOORS: tuple[Door, ...] = (CHAT, GENERATE, V1)


def pairs() -> Iterator[object]:
    for door in DOORS:
        for kind in UPSTREAMS:
            yield pytest.param(door, kind, id=f"{door.name}-{kind}")


every_pair = pytest.mark.parametrize(("door", "kind"), list(pairs()))


@dataclass
class Bench:
    """One gateway before one upstream, under the public name `it`."""

    gateway: Gateway
    upstream: Upstream

    @property
    def asked(self) -> int:
        return len(self.upstream.about("up-it"))

    async def ask(self, door: Door, script: Script, stream: bool = True) -> Heard:
        self.upstream.play("up-it", script)
        return await asyncio.wait_for(self.gateway.ask(door, ASK, "it", stream), GUARD)


Setup = Any  # async context manager factory, see `bench`


@pytest.fixture
def bench(gateway_of: Start, fake_openai: Upstream, fake_ollama: Upstream) -> Setup:
    @asynccontextmanager
    async def made(kind: str, limits: dict[str, str] | None = None, heartbeat: str = "20s") -> AsyncIterator[Bench]:
        upstream, provider = {
            "openai": (fake_openai, openai_provider(fake_openai.url)),
            "ollama": (fake_ollama, ollama_provider(fake_ollama.url)),
        }[kind]
        config = {
            "server": {"heartbeat": heartbeat},
            "providers": {"lab": provider},
            "models": {"it": alias("lab", "up-it", timeouts=limits or {})},
            "timeouts": {"first_byte": "8s", "first_token": "8s", "idle": "8s", "total": "9s"},
        }
        async with gateway_of(config) as gateway:
            await warm(gateway, upstream, "lab")
            yield Bench(gateway, upstream)

    return made


def seen_by(door: Door, kind: str) -> Door:
    """The door, without judging words that are a real Ollama's own."""
    return replace(door, relayed=True) if kind == "ollama" and door is not V1 else door  # type: ignore[type-var]


def ended_in_error(heard: Heard) -> None:
    """The text so far arrived, then an error in the stream; nothing looks complete."""
    assert heard.status == 200
    assert heard.text == "one two "
    assert heard.error is not None and "provider" in heard.error
    assert not heard.finished and heard.reason is None


# -- row 6: no response at all, and row 7: the first token ----------------------------------------------------------
@every_pair
async def test_silent_upstream_is_given_up(bench: Setup, door: Door, kind: str) -> None:
    async with bench(kind, {"first_byte": "100ms"}) as world:
        heard = await world.ask(door, Script(text=TEXT, hold=asyncio.Event()))
        assert heard.status == 504
        assert heard.error == "provider 'lab' sent no answer within 0.1 s"
        await asyncio.wait_for(world.upstream.client_gone.wait(), GUARD)
        assert world.asked == 1, "the silent target was asked again"


@every_pair
async def test_silent_upstream_of_a_whole_answer(bench: Setup, door: Door, kind: str) -> None:
    async with bench(kind, {"total": "100ms"}) as world:
        heard = await world.ask(door, Script(text=TEXT, hold=asyncio.Event()), stream=False)
        assert heard.status == 504
        assert heard.error is not None and "'lab'" in heard.error
        await asyncio.wait_for(world.upstream.client_gone.wait(), GUARD)
        assert world.asked == 1, "the silent target was asked again"


@every_pair
async def test_headers_without_a_first_token(bench: Setup, door: Door, kind: str) -> None:
    async with bench(kind, {"first_token": "100ms"}) as world:
        heard = await world.ask(door, Script(text=TEXT, hold_content=asyncio.Event()))
        assert heard.status == 504
        assert heard.error == "provider 'lab' sent no token within 0.1 s"
        await asyncio.wait_for(world.upstream.client_gone.wait(), GUARD)
        assert world.asked == 1, "the silent target was asked again"


# -- row 8: cut in the middle ---------------------------------------------------------------------------------------
@every_pair
@pytest.mark.parametrize("trouble", [Trouble.CUT, Trouble.END], ids=["reset", "early-end"])
async def test_cut_stream_is_no_clean_end(bench: Setup, door: Door, kind: str, trouble: Trouble) -> None:
    async with bench(kind) as world:
        ended_in_error(await world.ask(seen_by(door, kind), Script(text=TEXT, trouble=trouble, after=2)))
        assert world.asked == 1, "asked again although a part of the answer was out"


@every_pair
@pytest.mark.parametrize("trouble", [Trouble.CUT, Trouble.END], ids=["reset", "early-end"])
async def test_cut_before_any_content_is_a_status(bench: Setup, door: Door, kind: str, trouble: Trouble) -> None:
    async with bench(kind) as world:
        heard = await world.ask(door, Script(text=TEXT, trouble=trouble, after=0))
        assert heard.status == 502
        assert heard.error is not None and "provider" in heard.error
        assert world.asked == 2


@every_pair
@pytest.mark.parametrize("trouble", [Trouble.CUT, Trouble.MALFORMED], ids=["reset", "half-a-body"])
async def test_broken_whole_answer(bench: Setup, door: Door, kind: str, trouble: Trouble) -> None:
    async with bench(kind) as world:
        heard = await world.ask(door, Script(text=TEXT, trouble=trouble), stream=False)
        assert heard.status == 502
        assert heard.error is not None and "provider" in heard.error
        assert world.asked == 2


# -- row 9: a stall -------------------------------------------------------------------------------------------------
@every_pair
async def test_stall_ends_at_the_idle_limit(bench: Setup, door: Door, kind: str) -> None:
    async with bench(kind, {"idle": "100ms"}) as world:
        heard = await world.ask(seen_by(door, kind), Script(text=TEXT, trouble=Trouble.STALL, after=2))
        ended_in_error(heard)
        assert heard.error is not None and "within 0.1 s" in heard.error
        await asyncio.wait_for(world.upstream.client_gone.wait(), GUARD)
        assert world.asked == 1
        again = await world.ask(seen_by(door, kind), Script(text=TEXT))
        assert again.text == "one two three" and again.finished, "the process is not healthy after a stall"


# -- row 10: a malformed frame --------------------------------------------------------------------------------------
@every_pair
async def test_malformed_frame_ends_in_an_error(bench: Setup, door: Door, kind: str) -> None:
    async with bench(kind) as world:
        heard = await world.ask(seen_by(door, kind), Script(text=TEXT, trouble=Trouble.MALFORMED, after=2))
        ended_in_error(heard)
        assert b'"ha' not in heard.raw, "half a frame reached the client"
        assert world.asked == 1


# -- row 11: no [DONE] ----------------------------------------------------------------------------------------------
OPENAI_DOORS = pytest.mark.parametrize("door", DOORS, ids=[door.name for door in DOORS])


@OPENAI_DOORS
@pytest.mark.parametrize("linger", [False, True], ids=["closed", "left-open"])
async def test_no_done_after_a_finish_reason(bench: Setup, door: Door, linger: bool) -> None:
    """Finished at once: a connection that stays open without a word is not waited for."""
    async with bench("openai", {"idle": "0s", "total": "0s"}) as world:
        heard = await world.ask(door, Script(text=TEXT, done=False, linger=linger))
        assert (heard.text, heard.reason, heard.error) == ("one two three", "stop", None)
        assert (heard.prompt, heard.completion) == (11, 7)
        assert heard.finished and not heard.cut
        assert world.asked == 1


# -- row 17: the client leaves --------------------------------------------------------------------------------------
PHASES = {  # where the upstream is when the client leaves
    "before-headers": lambda: Script(text=TEXT, hold=asyncio.Event()),
    "before-content": lambda: Script(text=TEXT, hold_content=asyncio.Event()),
    "midway": lambda: Script(text=TEXT, trouble=Trouble.STALL, after=2),
}


@every_pair
@pytest.mark.parametrize("phase", list(PHASES))
async def test_client_leaves(bench: Setup, door: Door, kind: str, phase: str) -> None:
    async with bench(kind) as world:
        world.upstream.play("up-it", PHASES[phase]())
        after = b"two " if phase == "midway" else b""
        assert await leave(world.gateway, world.upstream, door, ("it", "up-it"), after=after) < BRIEF


@every_pair
async def test_client_of_a_whole_answer_leaves(bench: Setup, door: Door, kind: str) -> None:
    async with bench(kind) as world:
        world.upstream.play("up-it", Script(text=TEXT, hold=asyncio.Event()))
        asking = asyncio.ensure_future(world.gateway.ask(door, ASK, "it", False))
        seen = await asyncio.wait_for(world.upstream.request_about("up-it"), GUARD)
        left = asyncio.get_running_loop().time()
        asking.cancel()
        await asyncio.wait_for(seen.gone.wait(), GUARD)
        assert seen.gone_at is not None and seen.gone_at - left < BRIEF
        with pytest.raises(asyncio.CancelledError):
            await asking


@every_pair
async def test_connections_are_used_again(bench: Setup, door: Door, kind: str) -> None:
    """A stream read to its end gives its connection back; one more may be open for the provider's list of models."""
    async with bench(kind) as world:
        for _ in range(5):
            heard = await world.ask(seen_by(door, kind), Script(text=TEXT))
            assert heard.finished
        assert world.upstream.open_connections <= 2


# -- nothing there, no key ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@every_pair
async def test_refused_connection_names_the_provider(gateway_of: Start, door: Door, kind: str, stream: bool) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and never listening: nobody else can take the port
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        provider = openai_provider(url) if kind == "openai" else ollama_provider(url)
        async with gateway_of({"providers": {"lab": provider}, "models": {"it": alias("lab", "up-it")}}) as gateway:
            heard = await gateway.ask(door, ASK, "it", stream)
    assert heard.status == 502
    assert heard.error is not None and heard.error.startswith("cannot reach provider 'lab'")
    assert "127.0.0.1" not in heard.error and KEY not in heard.error


@pytest.mark.parametrize("door", DOORS, ids=[door.name for door in DOORS])
async def test_missing_key_names_the_variable(gateway_of: Start, door: Door) -> None:
    config = {"providers": {"openai": {}}, "models": {"it": alias("openai", "gpt-6-luna")}}
    async with gateway_of(config) as gateway:
        heard = await gateway.ask(door, ASK, "it", True)
    assert heard.status == 500
    assert heard.error == "provider 'openai' has no key: set OPENAI_API_KEY"


# -- silence ---------------------------------------------------------------------------------------------------------
async def beats_then(world: Bench, door: Door, script: Script, release: asyncio.Event) -> tuple[bytes, Heard]:
    """Reads until two heart-beats have come, then lets the upstream go on -> (the beats, the whole answer)."""
    world.upstream.play("up-it", script)
    url, body = world.gateway.url + door.path, door.body(ASK, "it", True)
    async with world.gateway.http.post(url, json=body) as response:
        beats = b""
        while beats.count(b" ") + beats.count(b":") < 2:
            beats += await asyncio.wait_for(response.content.readany(), GUARD)
        release.set()
        heard = Heard(response.status, {k.lower(): v for k, v in response.headers.items()})
        heard.raw = beats + await asyncio.wait_for(response.content.read(), GUARD)
    return beats, door.read(heard, "it", True)


def is_heartbeat(door: Door, beats: bytes) -> bool:
    """Blanks in NDJSON (clients.md 4.1), comments in SSE."""
    if door is V1:
        return all(line == b"" or line.startswith(b":") for line in beats.splitlines())
    return beats.strip(b" ") == b""


@every_pair
async def test_heartbeat_before_the_first_content(bench: Setup, door: Door, kind: str) -> None:
    async with bench(kind, heartbeat="50ms") as world:
        release = asyncio.Event()
        beats, heard = await beats_then(world, seen_by(door, kind), Script(text=TEXT, hold=release), release)
        assert is_heartbeat(door, beats), beats
        assert (heard.text, heard.error, heard.finished) == ("one two three", None, True)


@every_pair
async def test_failure_after_a_heartbeat_is_in_the_stream(bench: Setup, door: Door, kind: str) -> None:
    async with bench(kind, heartbeat="50ms") as world:
        release = asyncio.Event()
        script = Script(status=500, error="It broke.", hold=release)
        _, heard = await beats_then(world, seen_by(door, kind), script, release)
        assert heard.status == 200
        assert heard.error is not None and "It broke." in heard.error
        assert not heard.finished
        assert world.asked == 2
