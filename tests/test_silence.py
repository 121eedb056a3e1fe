"""Heart-beats and the idle limit, on a clock that jumps."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from virtual_time import run

from ollama_bridge.dialects.base import Answer
from ollama_bridge.policy.ports import ClientGone
from ollama_bridge.policy.silence import Silence


class RecordingSink:
    """Keeps what happened and when. `gone`: the client left before the headers went out."""

    def __init__(self, gone: bool = False) -> None:
        self.started = False
        self.gone = gone
        self.seen: list[tuple[float, str]] = []

    def _note(self, what: str) -> None:
        self.seen.append((asyncio.get_running_loop().time(), what))

    async def answer(self, answer: Answer) -> None:
        raise AssertionError("a stream has no whole answer")

    async def start(self, content_type: str, headers: Mapping[str, str]) -> None:
        if self.gone:
            raise ClientGone
        self._note(f"start {content_type}")
        self.started = True

    async def write(self, data: bytes) -> None:
        self._note(f"write {data!r}")

    def beat(self, data: bytes) -> None:
        self._note(f"beat {data!r}")

    async def finish(self) -> None:
        self._note("finish")

    def abort(self) -> None:
        self._note("abort")


def silence(sink: RecordingSink, beat_every: float) -> Silence:
    return Silence(sink, beat_every, b" ", "application/x-ndjson", {})


async def at(*moments: float) -> None:
    for moment in moments:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(moment - loop.time())


def test_headers_and_beats_follow_silence() -> None:
    sink = RecordingSink()

    async def main() -> None:
        watch = silence(sink, 20)
        await at(65)
        watch.stop()
        await at(200)

    run(main())
    assert sink.seen == [(20, "start application/x-ndjson"), (20, "beat b' '"), (40, "beat b' '"), (60, "beat b' '")]


def test_content_puts_the_beat_off() -> None:
    sink = RecordingSink()

    async def main() -> None:
        watch = silence(sink, 20)
        for moment in (15, 30, 45):
            await at(moment)
            watch.heard()
        await at(70)
        watch.stop()

    run(main())
    assert sink.seen == [(65, "start application/x-ndjson"), (65, "beat b' '")]


def test_zero_switches_the_beat_off() -> None:
    sink = RecordingSink()

    async def main() -> None:
        watch = silence(sink, 0)
        await at(1000)
        watch.stop()

    run(main())
    assert sink.seen == []


@pytest.mark.parametrize(("beat_every", "bytes_at", "stalls_at"), [(20, (), 50), (0, (40,), 90), (20, (49,), 99)])
def test_the_idle_limit_runs_from_the_last_byte(
    beat_every: float, bytes_at: tuple[float, ...], stalls_at: float
) -> None:
    stalled: list[float] = []

    async def main() -> None:
        watch = silence(RecordingSink(), beat_every)
        watch.arm_idle(50, lambda: stalled.append(asyncio.get_running_loop().time()))
        for moment in bytes_at:
            await at(moment)
            watch.heard_only()
        await at(300)
        assert watch.stalled
        watch.stop()

    run(main())
    assert stalled == [stalls_at]


def test_bytes_without_content_do_not_put_the_beat_off() -> None:
    sink = RecordingSink()

    async def main() -> None:
        watch = silence(sink, 20)
        for moment in (15, 30):
            await at(moment)
            watch.heard_only()
        await at(35)
        watch.stop()

    run(main())
    assert [when for when, _ in sink.seen] == [20, 20]


def test_a_client_that_left_is_no_error_of_the_beat() -> None:
    sink = RecordingSink(gone=True)

    async def main() -> None:
        watch = silence(sink, 20)
        await at(30)
        await watch.settled()
        watch.stop()

    run(main())
    assert sink.seen == []
