"""Breakers: when they open and for how long, who is let in, and what stale news may change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ollama_bridge.errors import MODEL_NOT_FOUND, Scope
from ollama_bridge.policy import breaker as module
from ollama_bridge.policy.breaker import AT_ONCE, FAILURES, LEAST_COOL, OVERLOADED, PROBED, REMEMBERED, Breakers, Pass

BASE, LONGEST = 5.0, 40.0
NAME = "lab/m"
T = TypeVar("T")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def done(asked: Coroutine[Any, Any, T]) -> T:
    """The outcome of something that must not wait."""
    try:
        asked.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    asked.close()
    raise AssertionError("it waits")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breakers(clock: Clock) -> Breakers:
    return Breakers(clock, BASE, LONGEST)


def enter(breakers: Breakers) -> Pass:
    entered = done(breakers.enter(NAME))
    assert entered is not None
    return entered


def is_shut(breakers: Breakers) -> bool:
    entered = done(breakers.enter(NAME))
    if entered is not None:
        entered.neutral()
    return entered is None


def fail(breakers: Breakers, times: int = FAILURES, reason: str = Scope.PROVIDER, cool: float | None = None) -> None:
    for _ in range(times):
        enter(breakers).bad(reason, cool)


# ---- opening ---------------------------------------------------------------------------------------------------------


def test_it_opens_after_failures_in_a_row(breakers: Breakers) -> None:
    fail(breakers, FAILURES - 1)
    assert breakers.shut_for(NAME) == 0 and not is_shut(breakers)
    fail(breakers, 1)
    assert breakers.shut_for(NAME) == BASE and is_shut(breakers)


def test_a_good_answer_between_failures_starts_the_count_anew(breakers: Breakers) -> None:
    for _ in range(5):
        fail(breakers, FAILURES - 1)
        enter(breakers).good()
    assert not is_shut(breakers)


def test_what_teaches_nothing_does_not_start_the_count_anew(breakers: Breakers) -> None:
    fail(breakers, FAILURES - 1)
    enter(breakers).neutral()
    fail(breakers, 1)
    assert is_shut(breakers)


@pytest.mark.parametrize(
    "reason, cool, shut",
    [
        pytest.param(Scope.THROTTLE, None, BASE, id="throttled"),
        pytest.param(Scope.THROTTLE, 17.0, 17.0, id="throttled-it-says-for-how-long"),
        pytest.param(Scope.THROTTLE, 3600.0, LONGEST, id="throttled-for-an-hour"),
        pytest.param(Scope.THROTTLE, 0.0, LEAST_COOL, id="throttled-for-no-time"),
    ],
)
def test_one_failure_that_speaks_for_itself_opens_it(
    breakers: Breakers, reason: str, cool: float | None, shut: float
) -> None:
    fail(breakers, 1, reason, cool)
    assert breakers.shut_for(NAME) == shut


def test_a_refused_key_is_left_alone_after_several_refusals(breakers: Breakers) -> None:
    """One may be a hiccup of the provider's, or a key that is being mended."""
    fail(breakers, FAILURES - 1, Scope.KEY)
    assert not is_shut(breakers)
    fail(breakers, 1, Scope.KEY)
    assert breakers.shut_for(NAME) == BASE


def test_names_have_breakers_of_their_own(breakers: Breakers) -> None:
    fail(breakers)
    assert done(breakers.enter("lab/other")) is not None


def test_other_periods_hold_from_the_next_opening_on(breakers: Breakers) -> None:
    fail(breakers)
    breakers.change(7.0, 9.0)
    assert breakers.shut_for(NAME) == BASE
    breakers.heard(NAME, 0.0, 0.0, "")
    fail(breakers)
    assert breakers.shut_for(NAME) == 7.0


def test_without_a_base_none_ever_opens(clock: Clock) -> None:
    breakers = Breakers(clock, 0.0, 0.0)
    fail(breakers, 10)
    fail(breakers, 10, Scope.THROTTLE, 9.0)
    breakers.heard(NAME, 5.0, 5.0, Scope.PROVIDER)
    assert not is_shut(breakers) and not breakers.states()


# ---- probes ----------------------------------------------------------------------------------------------------------


def test_one_probe_a_period_and_the_period_doubles(breakers: Breakers, clock: Clock) -> None:
    fail(breakers)
    periods = []
    for _ in range(6):
        periods.append(breakers.shut_for(NAME))
        clock.now += periods[-1]
        fail(breakers, 1)
        assert is_shut(breakers)
    assert periods == [5, 10, 20, 40, 40, 40]


def test_while_a_probe_is_on_its_way_nobody_else_is_let_in(breakers: Breakers, clock: Clock) -> None:
    fail(breakers)
    clock.now += BASE
    assert breakers.shut_for(NAME) == 0
    probe = enter(breakers)
    assert is_shut(breakers) and breakers.shut_for(NAME) == PROBED
    probe.good()
    assert not is_shut(breakers) and breakers.shut_for(NAME) == 0


def test_a_good_probe_closes_it_and_the_next_opening_is_short(breakers: Breakers, clock: Clock) -> None:
    fail(breakers)
    for _ in range(3):
        clock.now += breakers.shut_for(NAME)
        fail(breakers, 1)
    clock.now += breakers.shut_for(NAME)
    enter(breakers).good()
    fail(breakers)
    assert breakers.shut_for(NAME) == BASE


def test_a_probe_that_taught_nothing_leaves_its_place_to_another(breakers: Breakers, clock: Clock) -> None:
    fail(breakers)
    clock.now += BASE
    enter(breakers).neutral()
    assert breakers.shut_for(NAME) == 0
    enter(breakers).bad(Scope.PROVIDER)
    assert breakers.shut_for(NAME) == 2 * BASE


def test_a_throttled_probe_is_heeded(breakers: Breakers, clock: Clock) -> None:
    fail(breakers)
    clock.now += BASE
    fail(breakers, 1, Scope.THROTTLE, 7.0)
    assert breakers.shut_for(NAME) == 7.0
    clock.now += 7.0
    fail(breakers, 1)
    assert breakers.shut_for(NAME) == 4 * BASE


def test_a_probe_knows_that_it_is_one(breakers: Breakers, clock: Clock) -> None:
    before = enter(breakers)
    fail(breakers)
    clock.now += BASE
    probe = enter(breakers)
    assert (before.probing, probe.probing) == (False, True)
    probe.good()
    assert not probe.probing and not enter(breakers).probing


def test_a_holder_that_is_cancelled_gives_its_probe_back(breakers: Breakers, clock: Clock) -> None:
    fail(breakers)
    clock.now += BASE
    with pytest.raises(asyncio.CancelledError), enter(breakers):
        raise asyncio.CancelledError
    assert breakers.busy(NAME) == 0 and not is_shut(breakers)


# ---- passes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [Pass.good, Pass.neutral], ids=["good", "neutral"])
def test_the_first_settlement_counts_alone(breakers: Breakers, first: Callable[[Pass], None]) -> None:
    fail(breakers, FAILURES - 1)
    with enter(breakers) as entered:
        first(entered)
        entered.bad(Scope.PROVIDER)
        entered.bad(Scope.THROTTLE, 9.0)
    assert not is_shut(breakers) and breakers.busy(NAME) == 0


def test_busy_counts_the_passes_that_are_out(breakers: Breakers) -> None:
    out = [enter(breakers) for _ in range(3)]
    assert breakers.busy(NAME) == 3
    out[0].good()
    out[1].bad(Scope.PROVIDER)
    assert breakers.busy(NAME) == 1 and breakers.busy("nobody") == 0


def test_what_began_before_it_opened_neither_closes_it_nor_prolongs_it(breakers: Breakers) -> None:
    early = [enter(breakers) for _ in range(4)]
    fail(breakers)
    early[0].good()
    early[1].bad(Scope.PROVIDER)
    assert breakers.shut_for(NAME) == BASE
    early[2].bad(Scope.THROTTLE, 12.0)  # of now, whenever the request began
    assert breakers.shut_for(NAME) == 12.0


def test_what_began_before_it_closed_is_no_failure_of_now(breakers: Breakers, clock: Clock) -> None:
    early = [enter(breakers) for _ in range(FAILURES)]
    fail(breakers)
    clock.now += BASE
    enter(breakers).good()
    for each in early:
        each.bad(Scope.PROVIDER)
    assert not is_shut(breakers)


# ---- what is seen of it ----------------------------------------------------------------------------------------------


def test_transitions_are_told_once_each(clock: Clock) -> None:
    told: list[tuple[str, str, str]] = []
    breakers = Breakers(clock, BASE, LONGEST, changed=lambda *change: told.append(change))
    fail(breakers)
    clock.now += BASE
    enter(breakers).good()
    enter(breakers).good()
    assert told == [(NAME, "open", "provider"), (NAME, "half-open", "provider"), (NAME, "closed", "")]


def test_states_show_those_that_are_not_closed(breakers: Breakers, clock: Clock) -> None:
    enter(breakers).good()
    assert breakers.states() == {}
    fail(breakers)
    assert breakers.states() == {NAME: module.Shown("open", BASE, BASE, "provider")}
    clock.now += BASE
    assert breakers.states()[NAME].state == "half-open"


@pytest.mark.parametrize(
    "reason, status, words",
    [
        (Scope.PROVIDER, 503, "provider 'lab' has failed several times in a row; it is asked again in 5 s"),
        (Scope.THROTTLE, 429, "provider 'lab' has had too many requests; it is asked again in 5 s"),
        (OVERLOADED, 503, "provider 'lab' is overloaded; it is asked again in 5 s"),
        (Scope.KEY, 502, "provider 'lab' has refused our key or account; it is asked again in 5 s"),
    ],
)
def test_a_refusal_says_why_and_until_when(breakers: Breakers, reason: str, status: int, words: str) -> None:
    fail(breakers, 1 if reason in AT_ONCE else FAILURES, reason)
    refusal = breakers.refusal(NAME, "provider 'lab'", "it")
    scope = Scope.THROTTLE if reason == OVERLOADED else reason
    assert (refusal.message, refusal.status, refusal.scope, refusal.retry_after) == (words, status, scope, BASE)


def test_a_model_that_is_not_there_is_refused_in_the_words_of_any_unknown_name(breakers: Breakers) -> None:
    fail(breakers, FAILURES, Scope.MODEL)
    refusal = breakers.refusal(NAME, f"'{NAME}'", "it")
    assert (refusal.message, refusal.status, refusal.code, refusal.model) == (
        "model 'it' not found", 404, MODEL_NOT_FOUND, "it",
    )  # fmt: skip
    assert refusal.reason == (
        "'lab/m' is no model of its provider, as was said several times; it is asked again in 5 s"
    )


def test_who_has_changed_is_asked_at_once(breakers: Breakers, clock: Clock) -> None:
    early = enter(breakers)
    fail(breakers)
    breakers.forget("other/", "lab#")
    assert is_shut(breakers)
    breakers.forget("lab/", "lab#")
    assert not is_shut(breakers) and breakers.states() == {}
    fail(breakers, FAILURES - 1)
    breakers.forget("lab/", "lab#")
    early.bad(Scope.PROVIDER)  # of who was there before
    fail(breakers, FAILURES - 1)
    assert not is_shut(breakers)


def test_a_late_throttle_of_who_was_there_before_shuts_nobody_out(breakers: Breakers) -> None:
    early = [enter(breakers) for _ in range(FAILURES)]
    breakers.forget("lab/", "lab#")
    for each in early:
        each.bad(Scope.THROTTLE, 60.0)
    assert not is_shut(breakers) and breakers.states() == {}
    fail(breakers, 1, Scope.THROTTLE)
    assert is_shut(breakers)


def test_memory_is_bounded_and_the_open_ones_are_kept(breakers: Breakers) -> None:
    fail(breakers)
    for number in range(3 * REMEMBERED):
        with done(breakers.enter(f"lab/{number}")) or pytest.fail("shut"):
            pass
    assert len(breakers._all) <= REMEMBERED and is_shut(breakers)


# ---- several processes -----------------------------------------------------------------------------------------------


class FakeBoard:
    """Grants `grants` probes; None: asking never ends."""

    def __init__(self, grants: bool | None = True) -> None:
        self.grants = grants
        self.told: list[tuple[str, float, float, str]] = []
        self.freed: list[str] = []

    def tell(self, name: str, seconds: float, period: float, reason: str) -> None:
        self.told.append((name, seconds, period, reason))

    async def claim(self, name: str) -> bool:
        if self.grants is None:
            await asyncio.Future()
        return bool(self.grants)

    def free(self, name: str) -> None:
        self.freed.append(name)


def shared(clock: Clock, board: FakeBoard) -> Breakers:
    return Breakers(clock, BASE, LONGEST, board=board)


def test_that_one_is_forgotten_is_told(clock: Clock) -> None:
    board = FakeBoard()
    breakers = shared(clock, board)
    fail(breakers)
    breakers.forget("lab/")
    breakers.forget("lab/")
    assert board.told == [(NAME, 5.0, 5.0, "provider"), (NAME, 0.0, 0.0, "")]


def test_openings_and_closings_are_told(clock: Clock) -> None:
    board = FakeBoard()
    breakers = shared(clock, board)
    fail(breakers)
    clock.now += BASE
    fail(breakers, 1)
    clock.now += 2 * BASE
    enter(breakers).good()
    assert board.told == [(NAME, 5.0, 5.0, "provider"), (NAME, 10.0, 10.0, "provider"), (NAME, 0.0, 0.0, "")]
    assert board.freed == [NAME, NAME]


def test_a_probe_that_is_anothers_is_left_to_it(clock: Clock) -> None:
    board = FakeBoard(grants=False)
    breakers = shared(clock, board)
    fail(breakers)
    clock.now += BASE
    assert is_shut(breakers) and breakers.shut_for(NAME) == PROBED and breakers.busy(NAME) == 0
    clock.now += PROBED
    board.grants = True
    enter(breakers).good()
    assert not is_shut(breakers)


async def test_a_claim_that_is_cancelled_leaves_nothing_behind(clock: Clock) -> None:
    board = FakeBoard(grants=None)
    breakers = shared(clock, board)
    fail(breakers)
    clock.now += BASE
    asking = asyncio.create_task(breakers.enter(NAME))
    await asyncio.sleep(0)
    assert await breakers.enter(NAME) is None  # one claim at a time
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert board.freed == [NAME] and breakers.busy(NAME) == 0 and breakers.shut_for(NAME) == 0


def test_what_others_tell_holds_here(breakers: Breakers, clock: Clock) -> None:
    breakers.heard(NAME, 8.0, 10.0, "throttle")
    assert breakers.shut_for(NAME) == 8.0 and is_shut(breakers)
    clock.now += 8.0
    fail(breakers, 1)
    assert breakers.shut_for(NAME) == 20.0
    breakers.heard(NAME, 0.0, 0.0, "")
    assert not is_shut(breakers) and breakers.states() == {}


# ---- whatever happens ------------------------------------------------------------------------------------------------


class Whatever(RuleBasedStateMachine):
    """Any order of entering, settling (once, twice, by leaving), waiting and hearing."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breakers = Breakers(self.clock, BASE, LONGEST)
        self.out: list[Pass] = []

    @property
    def breaker(self) -> Any:
        return self.breakers._all.get(NAME)

    @rule()
    def come_in(self) -> None:
        shut = self.breakers.shut_for(NAME)
        was_open = NAME in self.breakers.states()
        probing = was_open and self.breaker.probe is not None
        entered = done(self.breakers.enter(NAME))
        assert (entered is None) == (shut > 0)
        if entered is not None:
            assert not probing
            assert (self.breaker.probe is entered) == was_open
            self.out.append(entered)

    @rule(
        which=st.integers(0, 50), how=st.sampled_from(["good", "bad", "throttle", "cool", "neutral", "leave", "twice"])
    )
    def settle(self, which: int, how: str) -> None:
        if not self.out:
            return
        one = self.out.pop(which % len(self.out))
        {
            "good": one.good,
            "bad": lambda: one.bad(Scope.PROVIDER),
            "throttle": lambda: one.bad(Scope.THROTTLE),
            "cool": lambda: one.bad(Scope.THROTTLE, float(which)),
            "neutral": one.neutral,
            "leave": lambda: one.__exit__(None, None, None),
            "twice": lambda: (one.bad(Scope.PROVIDER), one.good(), one.neutral()),
        }[how]()

    @rule(seconds=st.sampled_from([0.125, 1.0, 4.75, 5.0, 10.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(seconds=st.sampled_from([0.0, 3.0, 99.0]), period=st.sampled_from([0.0, 10.0, 999.0]))
    def hear(self, seconds: float, period: float) -> None:
        self.breakers.heard(NAME, seconds, period, "provider")

    @invariant()
    def everything_adds_up(self) -> None:
        assert self.breakers.busy(NAME) == len(self.out)
        assert self.breakers.all_well() == (not self.breakers.states())
        for shown in self.breakers.states().values():
            assert BASE <= shown.period <= LONGEST and shown.seconds <= LONGEST
        if self.breaker is not None and self.breaker.probe is not None:
            assert self.breaker.probe in self.out

    def teardown(self) -> None:
        """From wherever it stands it comes back."""
        while self.out:
            self.out.pop().neutral()
        self.clock.now += LONGEST
        enter(self.breakers).good()
        assert self.breakers.shut_for(NAME) == 0


TestWhatever = Whatever.TestCase
TestWhatever.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
