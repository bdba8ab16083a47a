"""A flight wakes everybody once, whoever they are and whatever became of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
import trio

from accredit.clock import SystemClock
from accredit.runtime.flight import Flight
from accredit.testing.clock import SteerableClock
from tests.runtime.support import PATIENCE, eventually, in_loop, in_trio, threads, waiters_of


def test_only_the_first_settling_counts() -> None:
    flight: Flight[str] = Flight()
    assert not flight.done
    flight.settle("first")
    flight.settle("second")
    assert flight.done
    assert flight.outcome == "first"


def test_those_who_come_late_do_not_wait() -> None:
    flight: Flight[str] = Flight()
    flight.settle("done")
    assert flight.wait(SystemClock(), 0)
    assert in_loop(lambda: flight.wait_async(0))() == [True]
    assert in_trio(lambda: flight.wait_async(0))() == [True]


def test_everybody_is_woken() -> None:
    flight: Flight[str] = Flight()
    clock = SystemClock()
    crowd: list[Callable[[], object]] = [
        *[lambda: flight.wait(clock, PATIENCE)] * 10,
        *[in_loop(lambda: flight.wait_async(PATIENCE), 10)] * 3,
        *[in_trio(lambda: flight.wait_async(PATIENCE), 10)] * 3,
    ]
    with threads(crowd) as answers:
        eventually(lambda: waiters_of(flight) == 70)
        flight.settle("done")
    assert answers.results.count(True) == 10
    assert answers.results.count([True] * 10) == 6
    assert waiters_of(flight) == 0


def test_time_out_of_each_kind() -> None:
    flight: Flight[str] = Flight()
    clock = SteerableClock()
    with threads([lambda: flight.wait(clock, 5)]) as answers:
        clock.wait_for_waiters(1)
        assert waiters_of(flight) == 1
        clock.advance(5)
    assert answers.results == [False]
    assert in_loop(lambda: flight.wait_async(0.001))() == [False]
    assert in_trio(lambda: flight.wait_async(0.001))() == [False]
    assert not flight.wait(clock, 0)
    assert not flight.wait(clock, -1)
    assert waiters_of(flight) == 0
    flight.settle("nobody minds")


def test_settling_races_with_time_outs() -> None:
    """Whatever comes first, a waiter is woken once and hears the truth."""
    for _ in range(200):
        flight: Flight[str] = Flight()
        calls: list[Callable[[], object]] = [
            lambda: flight.settle("done"),  # noqa: B023 - the threads end in this round
            lambda: flight.wait(SystemClock(), 0.0005),  # noqa: B023
            lambda: flight.wait(SystemClock(), PATIENCE),  # noqa: B023
        ]
        with threads(calls) as answers:
            pass
        assert not answers.errors
        assert True in answers.results
        assert waiters_of(flight) == 0


def test_a_loop_or_a_run_that_is_over_is_passed_by() -> None:
    flight: Flight[str] = Flight()
    loop = asyncio.new_event_loop()
    loop.close()
    flight._loops[loop] = {}
    flight._trio[trio.Event()] = trio.run(_token)
    with threads([lambda: flight.wait(SystemClock(), PATIENCE)]) as answers:
        eventually(lambda: len(flight._gates) == 1)
        flight.settle("done")
    assert answers.results == [True]


async def _token() -> object:
    return trio.lowlevel.current_trio_token()


def test_a_future_that_was_cancelled_in_the_same_instant() -> None:
    flight: Flight[str] = Flight()

    async def scenario() -> None:
        tasks = [asyncio.create_task(flight.wait_async(PATIENCE)) for _ in range(3)]
        await asyncio.sleep(0)
        # The wake-up is under way when the task is cancelled.
        settling = threading.Thread(target=flight.settle, args=("done",))
        settling.start()
        settling.join()
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [False, True, False]

    asyncio.run(scenario(), debug=True)


@pytest.mark.parametrize("number", [10_000])
def test_giving_up_takes_no_longer_the_more_there_are(number: int) -> None:
    """In the worst order, the last first: a list would look through all the others each time."""
    flight: Flight[str] = Flight()

    async def scenario() -> None:
        tasks = [asyncio.create_task(flight.wait_async(PATIENCE)) for _ in range(number)]
        await asyncio.sleep(0)
        assert waiters_of(flight) == number
        for task in reversed(tasks):
            task.cancel()
        await asyncio.wait(tasks)
        assert waiters_of(flight) == 0

    asyncio.run(scenario())
