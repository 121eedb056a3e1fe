"""When one request asks again: the rows 1 to 7 of product.md 5, and the few attempts in any 3 s."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.errors import GatewayError, Scope, broken, refuse, timed_out, unreachable
from ollama_bridge.policy.retries import ATTEMPTS, IN_WINDOW, PATIENT, SHORT, WINDOW, Retries


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def answered(status: int, scope: Scope, retry_after: float | None = None) -> GatewayError:
    return GatewayError("no", status=status, scope=scope, retry_after=retry_after)


def throttled(retry_after: float | None = None) -> GatewayError:
    return answered(429, Scope.THROTTLE, retry_after)


def failed(status: int = 503, retry_after: float | None = None) -> GatewayError:
    return answered(status, Scope.PROVIDER, retry_after)


def pauses(error: GatewayError, last: bool, chance: float = 0.0) -> list[float]:
    """Of one target's turn, until it is over."""
    clock = Clock()
    retries = Retries(clock, lambda: chance)
    assert retries.turn() == 0
    found = []
    while (pause := retries.again(error, last)) is not None:
        found.append(round(pause, 3))
        clock.now += pause
    return found


@pytest.mark.parametrize(
    "error, others_left, last",
    [
        pytest.param(throttled(1.0), [1, 1], [1, 1], id="1-throttled-for-a-moment"),
        pytest.param(throttled(SHORT), [2, 2], [2, 2], id="1-as-long-as-is-waited-for"),
        pytest.param(throttled(6.0), [], [6, 6], id="1-longer"),
        pytest.param(throttled(PATIENT + 1), [], [], id="1-too-long-for-anyone"),
        pytest.param(failed(503, 1.0), [1, 1], [1, 1], id="1-unavailable-for-a-moment"),
        pytest.param(throttled(), [0.5], [0.5, 1], id="2-throttled-without-a-word"),
        pytest.param(answered(503, Scope.THROTTLE), [0.5], [0.5, 1], id="2-overloaded"),
        pytest.param(failed(502), [0.1], [0.1], id="3-500"),
        pytest.param(failed(503), [0.1], [0.1], id="4-503"),
        pytest.param(unreachable("lab", "connection reset"), [0.1], [0.1], id="5-reset"),
        pytest.param(broken("lab", "sent no JSON"), [0.1], [0.1], id="garbage"),
        pytest.param(timed_out("lab", "answer", 60), [], [], id="6-silent"),
        pytest.param(answered(502, Scope.KEY), [], [], id="key"),
        pytest.param(answered(500, Scope.NO_KEY), [], [], id="no-key"),
        pytest.param(answered(404, Scope.MODEL), [], [], id="no-model"),
        pytest.param(refuse("no"), [], [], id="the-request-itself"),
        pytest.param(answered(500, Scope.GATEWAY), [], [], id="our-bug"),
    ],
)
def test_the_same_target_again(error: GatewayError, others_left: list[float], last: list[float]) -> None:
    assert pauses(error, last=False) == others_left
    assert pauses(error, last=True) == last


@pytest.mark.parametrize(
    "error, shortest, longest",
    [
        pytest.param(throttled(1.0), 1.0, 1.25, id="never-sooner-than-it-said"),
        pytest.param(throttled(), 0.5, 1.0, id="throttled"),
        pytest.param(failed(), 0.1, 0.3, id="failed"),
    ],
)
def test_pauses_are_jittered(error: GatewayError, shortest: float, longest: float) -> None:
    assert pauses(error, last=True, chance=0.0)[0] == pytest.approx(shortest)
    assert pauses(error, last=True, chance=1.0)[0] == pytest.approx(longest)


def attempts(errors: list[GatewayError], targets: int) -> list[tuple[int, float]]:
    """(target, seconds since the beginning) of each attempt, the n-th answered by the n-th error, the last for ever."""
    clock = Clock()
    retries = Retries(clock, lambda: 0.0)
    found: list[tuple[int, float]] = []
    for target in range(targets):
        pause = retries.turn()
        while pause is not None:
            clock.now += pause
            found.append((target, round(clock.now - Clock.now, 3)))
            pause = retries.again(errors[min(len(found), len(errors)) - 1], last=target == targets - 1)
    return found


@pytest.mark.parametrize(
    "error, targets, expected",
    [
        pytest.param(failed(), 1, [(0, 0), (0, 0.1)], id="one-that-fails"),
        pytest.param(failed(), 2, [(0, 0), (0, 0.1), (1, 0.1), (1, 3)], id="two-that-fail"),
        pytest.param(failed(), 4, [(0, 0), (0, 0.1), (1, 0.1), (2, 3), (3, 3.1), (3, 3.2)], id="four-that-fail"),
        pytest.param(throttled(), 1, [(0, 0), (0, 0.5), (0, 1.5)], id="one-that-throttles"),
        pytest.param(throttled(), 2, [(0, 0), (0, 0.5), (1, 0.5), (1, 3), (1, 4)], id="two-that-throttle"),
        pytest.param(timed_out("lab", "answer", 9), 3, [(0, 0), (1, 0), (2, 0)], id="three-that-are-silent"),
    ],
)
def test_a_whole_request(error: GatewayError, targets: int, expected: list[tuple[int, float]]) -> None:
    assert attempts([error], targets) == expected


def test_a_request_has_its_share_and_no_more() -> None:
    assert len(attempts([timed_out("lab", "answer", 9)], 50)) == ATTEMPTS


ERRORS = st.one_of(
    st.builds(throttled, st.none() | st.floats(0, 12)),
    st.builds(failed, st.sampled_from([502, 503, 504]), st.none() | st.floats(0, 12)),
    st.just(answered(502, Scope.KEY)),
)


@given(errors=st.lists(ERRORS, min_size=1, max_size=20), targets=st.integers(1, 8), chance=st.floats(0, 1))
def test_in_any_three_seconds_only_a_few(errors: list[GatewayError], targets: int, chance: float) -> None:
    begun = [at for _, at in attempts(errors, targets)]
    assert len(begun) <= ATTEMPTS
    for first, later in zip(begun, begun[IN_WINDOW:], strict=False):
        assert later - first >= WINDOW - 0.01
