"""The queue in front of a provider: bounded, fair, and never a place lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from virtual_time import run

from ollama_bridge.errors import GatewayError, Scope
from ollama_bridge.policy.queue import Place, Queue, Queues, Size


def queue(at_once: int = 1, waiting: int = 4, wait: float = 30.0) -> Queue:
    return Queue("ollama", Size(at_once, waiting, wait), lambda: asyncio.get_running_loop().time())


async def settle() -> None:
    """Everything that can happen now has happened."""
    for _ in range(5):
        await asyncio.sleep(0)


def waiting(asked: Queue, *clients: str) -> list[asyncio.Task[Place]]:
    return [asyncio.ensure_future(asked.enter(client)) for client in clients]


async def left(task: asyncio.Task[Place]) -> None:
    (await task).leave()


def test_as_many_at_once_as_may() -> None:
    async def go() -> None:
        asked = queue(at_once=2)
        places = [await asked.enter("a") for _ in range(2)]
        third, fourth = waiting(asked, "a", "a")
        await settle()
        assert not third.done()
        places[0].leave()
        places[0].leave()
        await settle()
        assert third.done() and not fourth.done()
        third.result().leave()
        places[1].leave()
        await fourth

    run(go())


def test_clients_take_turns() -> None:
    async def go() -> list[str]:
        asked = queue(waiting=9)
        place = await asked.enter("x")
        served: list[str] = []

        async def work(client: str) -> None:
            with await asked.enter(client):
                served.append(client)
                await asyncio.sleep(1)

        tasks = [asyncio.ensure_future(work(client)) for client in "aaaabbc"]
        await settle()
        place.leave()
        await asyncio.gather(*tasks)
        return served

    assert "".join(run(go())) == "abcabaa"


@pytest.mark.parametrize(
    "inside, newcomer, is_let_in",
    [
        pytest.param("aaaa", "b", True, id="one-has-it-all"),
        pytest.param("aaab", "b", True, id="one-has-most"),
        pytest.param("aabb", "b", False, id="shared-evenly"),
        pytest.param("aaab", "a", False, id="the-greedy-one-itself"),
        pytest.param("abcd", "e", False, id="everybody-has-one"),
    ],
)
def test_a_full_queue_makes_room_for_who_has_less(inside: str, newcomer: str, is_let_in: bool) -> None:
    async def go() -> None:
        asked = queue()
        place = await asked.enter("x")
        tasks = waiting(asked, *inside)
        await settle()
        [late] = waiting(asked, newcomer)
        await settle()
        sent_away = [task for task in tasks if task.done()]
        assert len(sent_away) == is_let_in and late.done() != is_let_in
        for task in (*sent_away, *([] if is_let_in else [late])):
            error = task.exception()
            assert isinstance(error, GatewayError)
            assert (error.status, error.scope, error.retry_after) == (503, Scope.THROTTLE, 5.0)
            assert error.message.startswith("the queue of provider 'ollama' is full, ")
        served = [task for task in (*tasks, late) if not task.done()]
        assert len(served) == 4
        place.leave()
        await asyncio.gather(*map(left, served))

    run(go())


def test_nobody_waits_longer_than_allowed() -> None:
    async def go() -> None:
        asked = queue(wait=30)
        place = await asked.enter("a")
        with pytest.raises(GatewayError, match=r"has not come to this request within 30 s; try again in \d+ s"):
            await asked.enter("b")
        assert asyncio.get_running_loop().time() == 30
        place.leave()
        (await asked.enter("c")).leave()

    run(go())


def test_without_a_limit_it_waits_as_long_as_it_takes() -> None:
    async def go() -> None:
        asked = queue(wait=0)
        place = await asked.enter("a")
        [late] = waiting(asked, "b")
        await asyncio.sleep(3600)
        place.leave()
        (await late).leave()

    run(go())


@pytest.mark.parametrize("turn_has_come", [False, True])
def test_who_leaves_while_waiting_blocks_nobody(turn_has_come: bool) -> None:
    async def go() -> None:
        asked = queue()
        place = await asked.enter("a")
        gone, late = waiting(asked, "b", "c")
        await settle()
        if turn_has_come:
            place.leave()  # and it does not know yet
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert gone.cancelled()
        place.leave()
        (await late).leave()

    run(go())


def test_who_is_cancelled_in_the_moment_of_its_turn_takes_no_place() -> None:
    """Its future is cancelled at once, its task hears of it later."""

    async def go() -> None:
        asked = queue()
        place = await asked.enter("a")
        gone, next_in_row, late = waiting(asked, "b", "b", "c")
        await settle()
        gone.cancel()
        place.leave()
        await settle()
        assert gone.cancelled() and next_in_row.done() and not late.done()
        next_in_row.result().leave()
        await left(late)
        with await asked.enter("d"):
            pass

    run(go())


def test_who_is_cancelled_in_the_moment_of_making_room_is_no_trouble_to_the_newcomer() -> None:
    async def go() -> None:
        asked = queue()
        place = await asked.enter("x")
        tasks = waiting(asked, *"aaaa")
        await settle()
        [late] = waiting(asked, "b")
        tasks[-1].cancel()
        await settle()
        assert tasks[-1].cancelled() and not late.done()
        place.leave()
        await asyncio.gather(*map(left, (*tasks[:-1], late)))

    run(go())


def test_more_at_once_lets_those_in_who_wait() -> None:
    async def go() -> None:
        queues = Queues(lambda: 0.0)
        queues.change({"ollama": Size(1, 4, 0.0)})
        place = await queues.enter("ollama", "a")
        tasks = [asyncio.ensure_future(queues.enter("ollama", "a")) for _ in range(3)]
        await settle()
        queues.change({"ollama": Size(3, 4, 0.0)})
        await settle()
        assert [task.done() for task in tasks] == [True, True, False]
        place.leave()
        await left(tasks[2])

    run(go())


def test_the_advice_follows_how_long_a_turn_takes() -> None:
    async def go() -> float:
        asked = queue(waiting=0)
        for _ in range(30):
            with await asked.enter("a"):
                await asyncio.sleep(20)
        with await asked.enter("a"), pytest.raises(GatewayError) as caught:
            await asked.enter("b")
        return caught.value.retry_after or 0

    assert 19 < run(go()) < 20


def test_queues_of_a_configuration() -> None:
    async def go() -> None:
        queues = Queues(lambda: 0.0)
        (await queues.enter("ollama", "a")).leave()
        queues.change({"ollama": Size(1, 0, 1.0)})
        place = await queues.enter("ollama", "a")
        with pytest.raises(GatewayError):
            await queues.enter("ollama", "a")
        await queues.enter("openai", "a")
        queues.change({"ollama": Size(2, 0, 1.0)})
        second = await queues.enter("ollama", "a")
        queues.change({})
        place.leave()
        second.leave()
        await queues.enter("ollama", "a")

    run(go())


class Whatever(RuleBasedStateMachine):
    """Any order of coming, cancelling, leaving and waiting: no place is lost, none is given twice."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.tasks: list[asyncio.Task[Place]] = []

        async def make() -> Queue:
            return Queue("ollama", Size(2, 3, 0.0), lambda: 0.0)

        self.queue = self.runner.run(make())

    @property
    def placed(self) -> list[asyncio.Task[Place]]:
        return [task for task in self.tasks if task.done() and not task.cancelled() and task.exception() is None]

    @rule(client=st.sampled_from("abc"), at_once=st.booleans())
    def come(self, client: str, at_once: bool) -> None:
        async def go() -> None:
            self.tasks += waiting(self.queue, client)
            if at_once:
                await settle()

        self.runner.run(go())

    @rule(which=st.integers(0, 50), cancel_next=st.booleans())
    def leave(self, which: int, cancel_next: bool) -> None:
        if not self.placed:
            return
        task = self.placed[which % len(self.placed)]

        async def go() -> None:
            task.result().leave()
            if cancel_next:  # in the moment in which its turn may have come
                for other in self.tasks:
                    if not other.done():
                        other.cancel()
                        break
            await settle()

        self.tasks.remove(task)
        self.runner.run(go())

    @rule(which=st.integers(0, 50), client=st.sampled_from("abc"), leaves=st.booleans())
    def cancel_first(self, which: int, client: str, leaves: bool) -> None:
        """Somebody leaves or comes before the task that was cancelled has heard of it."""
        waiting_now = [task for task in self.tasks if not task.done()]
        leaver = self.placed[which % len(self.placed)] if self.placed and leaves else None

        async def go() -> None:
            if leaver is None:
                self.tasks += waiting(self.queue, client)
            if waiting_now:
                waiting_now[which % len(waiting_now)].cancel()
            if leaver is not None:
                leaver.result().leave()
            await settle()

        if leaver is not None:
            self.tasks.remove(leaver)
        self.runner.run(go())

    @rule(which=st.integers(0, 50))
    def cancel(self, which: int) -> None:
        async def go() -> None:
            if self.tasks:
                self.tasks[which % len(self.tasks)].cancel()
            await settle()

        self.runner.run(go())

    @invariant()
    def everything_adds_up(self) -> None:
        self.runner.run(settle())
        waiting_now = [task for task in self.tasks if not task.done()]
        assert self.queue._working == len(self.placed) <= 2
        assert self.queue._count == len(waiting_now) <= 3
        assert not waiting_now or len(self.placed) == 2

    def teardown(self) -> None:
        for task in self.tasks:
            if task.done() and not task.cancelled():
                task.exception()
        for task in self.placed:
            task.result().leave()
        self.runner.run(settle())
        self.runner.close()


TestWhatever = Whatever.TestCase
TestWhatever.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
