"""Marks that processes share: how long they hold, and what a full set forgets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.policy.marks import _WAYS, Marks


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def name(number: int, row: int = 7) -> bytes:
    """Names of one row fall into one set."""
    return row.to_bytes(4) + number.to_bytes(12)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def marks(clock: Clock) -> Marks:
    return Marks(clock)


def test_a_mark_holds_for_its_time(marks: Marks, clock: Clock) -> None:
    assert not marks and name(1) not in marks
    marks.put(name(1), 10)
    clock.now += 9
    assert marks and name(1) in marks and name(2) not in marks
    marks.put(name(1), 10)
    clock.now += 9
    assert name(1) in marks
    clock.now += 1
    assert name(1) not in marks


def test_a_full_set_forgets_what_ends_first(marks: Marks) -> None:
    for number in range(_WAYS):
        marks.put(name(number), 100 - number)
    marks.put(name(_WAYS), 50)
    marks.put(name(0, row=8), 1)
    assert [number for number in range(_WAYS + 1) if name(number) not in marks] == [_WAYS - 1]


def test_fifty_thousand_are_kept(marks: Marks) -> None:
    names = [hashlib.blake2b(str(number).encode(), digest_size=16).digest() for number in range(50_000)]
    for each in names:
        marks.put(each, 60)
    assert sum(each not in marks for each in names) <= 10


@given(st.lists(st.tuples(st.integers(0, _WAYS - 1), st.integers(0, 9), st.integers(0, 5)), max_size=40))
def test_as_a_table_would_keep_them(steps: list[tuple[int, int, int]]) -> None:
    clock = Clock()
    marks, ends = Marks(clock), dict[int, float]()
    for number, seconds, later in steps:
        marks.put(name(number), seconds)
        ends[number] = clock.now + seconds
        clock.now += later
        assert [each for each in range(_WAYS) if name(each) in marks] == sorted(
            each for each, end in ends.items() if end > clock.now
        )
