"""Worker threads: capped, shared out fairly, gone when idle, and never lost to a job that goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise

import pytest

from accredit import AccreditError, Secret, TokenManager
from accredit.devserver import DevServer
from accredit.runtime.workers import MOST_PER_ORIGIN, MOST_WORKERS, Workers
from tests.runtime.support import PATIENCE, eventually, registration, threads, waiting

Make = Callable[..., TokenManager]


class Jobs:
    """Jobs that stand still until they are let go, and tell how many run at once."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.lock = threading.Lock()
        self.running: dict[str, int] = {}
        self.begun: list[str] = []
        self.done = 0

    def job(self, origin: str) -> Callable[[], None]:
        def run() -> None:
            with self.lock:
                self.running[origin] = self.running.get(origin, 0) + 1
                self.begun.append(origin)
            assert self.let_go.wait(PATIENCE)
            with self.lock:
                self.running[origin] -= 1
                self.done += 1

        return run

    @property
    def at_once(self) -> int:
        with self.lock:
            return sum(self.running.values())


def idle(workers: Workers) -> bool:
    return not workers._busy and not workers._waiting


def test_an_origin_gets_its_share_and_no_more() -> None:
    workers, jobs = Workers(), Jobs()
    for _ in range(100):
        workers.submit("slow", jobs.job("slow"))
    eventually(lambda: jobs.at_once == MOST_PER_ORIGIN)
    workers.submit("quick", jobs.job("quick"))
    eventually(lambda: jobs.running.get("quick") == 1)
    assert jobs.running["slow"] == MOST_PER_ORIGIN
    jobs.let_go.set()
    eventually(lambda: jobs.done == 101)
    eventually(lambda: idle(workers))


def test_all_together_are_capped_and_origins_take_turns() -> None:
    workers, jobs = Workers(most=2, most_per_origin=2), Jobs()
    for origin in "aaaaabbbbbccccc":
        workers.submit(origin, jobs.job(origin))
    eventually(lambda: jobs.at_once == 2)
    jobs.let_go.set()
    eventually(lambda: idle(workers))
    assert jobs.done == 15
    # While there is a choice, nobody is served again before the others.
    assert all(one != other for one, other in pairwise(jobs.begun[3:9]) if {one, other} != {"b", "c"})
    assert set(jobs.begun[2:8]) == {"a", "b", "c"}


def test_the_cap_is_what_it_is() -> None:
    workers, jobs = Workers(), Jobs()
    for number in range(200):
        workers.submit(f"origin-{number}", jobs.job("any"))
    eventually(lambda: jobs.at_once == MOST_WORKERS)
    assert jobs.at_once == MOST_WORKERS
    jobs.let_go.set()
    eventually(lambda: jobs.done == 200)


def test_threads_end_when_there_is_nothing_to_do() -> None:
    before = set(threading.enumerate())
    workers, jobs = Workers(), Jobs()
    jobs.let_go.set()
    for _ in range(5):
        workers.submit("origin", jobs.job("origin"))
    eventually(lambda: jobs.done == 5)
    eventually(lambda: set(threading.enumerate()) <= before)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), LookupError()], ids=repr)
def test_a_job_that_ends_badly_takes_nobody_with_it(error: BaseException) -> None:
    def bad() -> None:
        raise error

    workers, jobs = Workers(most=1), Jobs()
    jobs.let_go.set()
    for job in (bad, jobs.job("origin"), bad, jobs.job("origin")):
        workers.submit("origin", job)
    eventually(lambda: jobs.done == 2)
    eventually(lambda: idle(workers))


def test_without_threads_the_job_runs_on_the_callers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    workers = Workers()
    ran_on: list[threading.Thread] = []
    workers.submit("origin", lambda: ran_on.append(threading.current_thread()))
    assert ran_on == [threading.current_thread()]
    assert idle(workers)


def test_an_interrupt_reaches_the_caller_whose_thread_flies(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", refuse)
    workers = Workers()
    with pytest.raises(KeyboardInterrupt):
        workers.submit("origin", interrupted)
    assert idle(workers)


def test_a_manager_without_threads_still_serves(
    server: DevServer, make_manager: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    manager = make_manager(registration(server))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        token = manager.get()
        assert manager.renew() != token
    assert server.count("/token") == 2


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_secret_function_that_exits_fails_the_flight_and_only_that(
    server: DevServer, make_manager: Make, kind: type[BaseException]
) -> None:
    answers: list[str] = []

    def secret() -> str:
        if not answers:
            raise kind
        return answers[0]

    manager = make_manager(registration(server, Secret.from_function(secret)))
    with threads([manager.get] * 5) as got:
        pass
    assert len(got.errors) == 5
    assert all(isinstance(error, AccreditError) and kind.__name__ in str(error) for error in got.errors)
    answers.append("dev-secret")
    assert manager.get().value
    assert waiting(manager) == 0
    assert server.count("/token") == 1
