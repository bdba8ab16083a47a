"""The steerable clock: time passes when the test says so, and nobody hangs."""

from __future__ import annotations

import threading

import pytest

from accredit.testing import SteerableClock
from accredit.testing.clock import START, START_WALL


def closed_gate() -> threading.Lock:
    gate = threading.Lock()
    gate.acquire()
    return gate


def waiting_thread(clock: SteerableClock, gate: threading.Lock, seconds: float, log: list[object]) -> threading.Thread:
    def work() -> None:
        try:
            log.append(clock.wait(gate, seconds))
        except TimeoutError:
            log.append("timeout")

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_time_passes_only_when_told() -> None:
    clock = SteerableClock()
    assert (clock.now(), clock.wall()) == (START, START_WALL)
    clock.advance(2.5)
    assert (clock.now(), clock.wall()) == (START + 2.5, START_WALL + 2.5)


def test_the_wall_clock_jumps_and_nothing_ages() -> None:
    clock = SteerableClock(start=5.0, wall=100.0)
    clock.jump_wall(-60)
    assert (clock.now(), clock.wall()) == (5.0, 40.0)


def test_time_never_goes_back() -> None:
    clock = SteerableClock()
    with pytest.raises(ValueError, match="never goes back"):
        clock.advance(-1)
    assert clock.now() == START


def test_who_is_due_wakes_and_others_go_on_waiting() -> None:
    clock = SteerableClock()
    log: list[object] = []
    early = waiting_thread(clock, closed_gate(), 5.0, log)
    gate = closed_gate()
    late = waiting_thread(clock, gate, 10.0, log)
    clock.wait_for_waiters(2)
    assert clock.next_due == START + 5.0
    clock.advance(4.999)
    assert clock.waiting == 2
    clock.advance(0.001)
    early.join()
    assert (log, clock.waiting) == ([False], 1)
    gate.release()
    late.join()
    assert log == [False, True]
    assert clock.next_due is None
    assert clock.waiting == 0


def test_a_wait_of_no_time_only_looks_at_the_gate() -> None:
    clock = SteerableClock()
    assert clock.wait(threading.Lock(), 0.0)
    assert not clock.wait(closed_gate(), -1.0)


def test_a_test_that_forgets_the_clock_fails_and_does_not_hang() -> None:
    clock = SteerableClock(safety=0.05)
    log: list[object] = []
    thread = waiting_thread(clock, closed_gate(), 5.0, log)
    thread.join()
    assert log == ["timeout"]
    with pytest.raises(TimeoutError, match="0 threads wait"):
        clock.wait_for_waiters(1)


def test_a_thread_that_does_not_notice_fails_the_test() -> None:
    clock = SteerableClock(safety=0.05)
    clock._waiters["stuck"] = START + 1.0
    with pytest.raises(TimeoutError, match="did not wake up"):
        clock.advance(2.0)
