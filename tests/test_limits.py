"""Limits in memory: exact over any 60 seconds, all or nothing, given back; and what happens around shared counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.errors import GatewayError, Scope
from ollama_bridge.policy.limits import MINUTE, UNLIMITED, Claim, Counts, Limits, Permit, Rate


class Clock:
    now = 1000.25

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limits(clock: Clock, everyone: Rate | None = None, **more: dict[str, Rate]) -> Limits:
    return Limits(Counts(clock), everyone or Rate(), **more)  # type: ignore[arg-type]


async def refused(limited: Limits, model: str = "m", tokens: int = 0, stream: bool = False) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await limited.admit_request(model, tokens, stream)
    assert (caught.value.status, caught.value.scope) == (429, Scope.THROTTLE)
    return caught.value


# ---- requests and tokens ---------------------------------------------------------------------------------------------


async def test_requests_of_a_minute(clock: Clock) -> None:
    limited = limits(clock, Rate(requests=3))
    for _ in range(3):
        await limited.admit_request("m", 0, False)
        clock.now += 10
    error = await refused(limited)
    assert error.message == "the gateway's limit of 3 requests per minute is reached; try again in 31 s"
    assert error.retry_after == pytest.approx(30.75)  # the first came at 1000.25 and counts until the end of its second
    clock.now += error.retry_after or 0
    await limited.admit_request("m", 0, False)
    await refused(limited)


async def test_tokens_of_a_minute(clock: Clock) -> None:
    limited = limits(clock, Rate(tokens=100))
    await limited.admit_request("m", 60, False)
    await limited.admit_request("m", 40, False)
    error = await refused(limited, tokens=1)
    assert error.message == "the gateway's limit of 100 tokens per minute is reached; try again in 61 s"
    await limited.admit_request("m", 0, False)


async def test_more_tokens_than_a_minute_has_are_never_let_through(clock: Clock) -> None:
    error = await refused(limits(clock, Rate(tokens=100)), tokens=101)
    assert error.retry_after is None
    assert error.message == (
        "the request needs about 101 tokens, which is more than the gateway's limit of 100 tokens per minute"
    )


@pytest.mark.parametrize(
    "cost, left",
    [pytest.param(90, 10, id="dearer"), pytest.param(5, 95, id="cheaper"), pytest.param(40, 60, id="as-guessed")],
)
async def test_what_it_really_cost_counts(clock: Clock, cost: int, left: int) -> None:
    limited = limits(clock, Rate(tokens=100))
    permit = await limited.admit_request("m", 40, False)
    clock.now += 20
    permit.correct(cost)
    await refused(limited, tokens=left + 1)
    await limited.admit_request("m", left, False)


async def test_a_late_correction_changes_nothing_of_now(clock: Clock) -> None:
    limited = limits(clock, Rate(tokens=100))
    permit = await limited.admit_request("m", 40, False)
    clock.now += MINUTE + 5
    await limited.admit_request("m", 1, False)
    permit.correct(90)
    await limited.admit_request("m", 99, False)


USES = st.lists(st.tuples(st.floats(0, 40), st.integers(1, 4)), max_size=60)


@given(uses=USES, limit=st.integers(1, 12))
def test_no_sixty_seconds_hold_more_than_the_limit(uses: list[tuple[float, int]], limit: int) -> None:
    """Against a list of all uses: nothing too much is let through, nothing is refused that was free for a second."""
    clock = Clock()
    limited = limits(clock, Rate(tokens=limit))
    passed: list[tuple[float, int]] = []

    def used(since: float) -> int:
        return sum(count for at, count in passed if at > clock.now - since)

    async def go() -> None:
        for pause, count in uses:
            clock.now += pause
            try:
                await limited.admit_request("m", count, False)
            except GatewayError as error:
                assert used(MINUTE + 1) + count > limit
                if error.retry_after is not None:
                    assert 0 < error.retry_after <= MINUTE + 1
            else:
                passed.append((clock.now, count))
            assert used(MINUTE) <= limit

    asyncio.run(go())


@given(uses=USES)
def test_what_is_told_to_wait_passes_then(uses: list[tuple[float, int]]) -> None:
    clock = Clock()
    limited = limits(clock, Rate(tokens=6))

    async def go() -> None:
        for pause, count in uses:
            clock.now += pause / 10
            try:
                await limited.admit_request("m", count, False)
            except GatewayError as error:
                clock.now += (error.retry_after or 0) + 1e-6
                await limited.admit_request("m", count, False)

    asyncio.run(go())


# ---- streams ---------------------------------------------------------------------------------------------------------


async def test_streams_at_once(clock: Clock) -> None:
    limited = limits(clock, Rate(streams=2))
    first, _ = [await limited.admit_request("m", 0, True) for _ in range(2)]
    error = await refused(limited, stream=True)
    assert error.message == "the gateway's limit of 2 concurrent streams is reached; try again in 1 s"
    await limited.admit_request("m", 0, False)
    first.release()
    first.release()
    with await limited.admit_request("m", 0, True):
        await refused(limited, stream=True)
    await limited.admit_request("m", 0, True)


async def test_a_holder_that_is_cancelled_gives_its_stream_back(clock: Clock) -> None:
    limited = limits(clock, Rate(streams=1))
    with pytest.raises(asyncio.CancelledError), await limited.admit_request("m", 0, True):
        raise asyncio.CancelledError
    await limited.admit_request("m", 0, True)


# ---- whose limit -----------------------------------------------------------------------------------------------------


async def test_all_or_nothing(clock: Clock) -> None:
    limited = limits(clock, Rate(requests=10), models={"fast": Rate(requests=1, streams=1)})
    await limited.admit_request("fast", 0, True)
    for _ in range(20):
        await refused(limited, "fast")
    for _ in range(9):
        await limited.admit_request("other", 0, False)
    await refused(limited, "other")


@pytest.mark.parametrize("name", ["fast", "FAST", "fast:latest"])
async def test_a_model_is_limited_by_whatever_spelling(clock: Clock, name: str) -> None:
    limited = limits(clock, models={"Fast": Rate(requests=1)})
    await limited.admit_request("fast", 0, False)
    error = await refused(limited, name)
    assert error.message.startswith("the gateway's limit of 1 requests per minute for model 'fast' is reached")


async def test_a_provider_s_limit_is_its_own(clock: Clock) -> None:
    limited = limits(clock, Rate(requests=2), providers={"groq": Rate(requests=1)})
    await limited.admit_attempt("groq", 0, False)
    with pytest.raises(GatewayError) as caught:
        await limited.admit_attempt("groq", 0, False)
    error = caught.value
    assert (error.status, error.scope, error.provider) == (429, Scope.THROTTLE, "groq")
    assert error.message == (
        "the gateway's limit of 1 requests per minute for provider 'groq' is reached; try again in 61 s"
    )
    await limited.admit_attempt("openai", 0, False)
    for _ in range(2):
        await limited.admit_request("m", 0, False)


async def test_what_is_reached_is_told(clock: Clock) -> None:
    told: list[tuple[str, str]] = []
    one = Rate(1, 0, 1)
    limited = Limits(Counts(clock), Rate(streams=1), {"groq": one}, hit=lambda *hit: told.append(hit))
    await limited.admit_request("m", 0, True)
    await refused(limited, stream=True)
    await limited.admit_attempt("groq", 0, False)
    with pytest.raises(GatewayError):
        await limited.admit_attempt("groq", 0, False)
    assert told == [("everyone", "streams"), ("provider:groq", "requests")]


async def test_counts_outlive_a_configuration(clock: Clock) -> None:
    counts = Counts(clock)
    for _ in range(5):
        await Limits(counts, Rate(requests=5)).admit_request("m", 0, False)
    await refused(Limits(counts, Rate(requests=3)))
    await Limits(counts, Rate(requests=6)).admit_request("m", 0, False)


# ---- cost ------------------------------------------------------------------------------------------------------------


async def test_without_limits_nothing_is_counted(clock: Clock) -> None:
    counts = Counts(clock)
    free = Limits(counts, Rate(), {"groq": Rate()}, {"fast": Rate()})
    assert await free.admit_request("fast", 9, True) is UNLIMITED
    assert await free.admit_attempt("groq", 9, True) is UNLIMITED
    UNLIMITED.correct(5)
    UNLIMITED.release()
    assert counts._counts == {}


async def test_it_costs_little() -> None:
    """The goal is 10 µs with three limits; ten times as much would be a mistake on any machine."""
    rate = Rate(10**9, 10**12, 10**6)
    limited = Limits(Counts(time.monotonic), rate, {"groq": rate}, {"fast": rate})
    best = 1.0
    for _ in range(20):
        begun = time.perf_counter()
        for _ in range(100):
            permit = await limited.admit_request("fast", 100, True)
            permit.correct(90)
            permit.release()
        best = min(best, (time.perf_counter() - begun) / 100)
    assert best < 100e-6


# ---- shared counts ---------------------------------------------------------------------------------------------------


class Handle:
    def __init__(self, full: tuple[int, str, float | None] | None = None) -> None:
        self.full = full
        self.corrected: list[int] = []
        self.released = 0

    def correct(self, tokens: int) -> None:
        self.corrected.append(tokens)

    def release(self) -> None:
        self.released += 1


class FakeShared:
    """Answers with `answers`, one after the other; None: it cannot be told."""

    def __init__(self, *answers: Handle | None) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[list[Claim], int, bool]] = []

    async def take(self, claims: Sequence[Claim], tokens: int, stream: bool) -> Handle | None:
        self.asked.append((list(claims), tokens, stream))
        return self.answers.pop(0)


async def test_shared_counts_decide(clock: Clock) -> None:
    shared = FakeShared(Handle(), Handle(), Handle((0, "requests", 7.0)))
    limited = Limits(Counts(clock, shared), Rate(requests=1))
    for _ in range(2):  # more than this process would let through by itself
        await limited.admit_request("m", 5, False)
    assert (await refused(limited)).retry_after == 7.0
    assert shared.asked[0] == ([("everyone", 1, 0, 0)], 5, False)


async def test_a_permit_is_settled_where_it_was_taken(clock: Clock) -> None:
    handle = Handle()
    counts = Counts(clock, FakeShared(handle, None))
    limited = Limits(counts, Rate(tokens=1000, streams=9))
    shared, alone = [await limited.admit_request("m", 5, True) for _ in range(2)]
    counts.shared = FakeShared()
    for permit in (shared, alone):
        permit.correct(8)
        permit.correct(8)
        permit.release()
        permit.release()
    assert (handle.corrected, handle.released) == ([3], 1)
    assert counts._counts["everyone"].streams == 0


async def test_alone_it_goes_on_by_its_own_notes(clock: Clock) -> None:
    """What the shared counts granted is not granted once more when they are lost."""
    shared = FakeShared(*[Handle() for _ in range(3)], *[None] * 9)
    limited = Limits(Counts(clock, shared), Rate(requests=5))
    for _ in range(5):
        await limited.admit_request("m", 0, False)
    await refused(limited)


def test_permits_are_small() -> None:
    assert not hasattr(Permit((), 0, 0, False), "__dict__")
