"""renewal="inline": a caller's own thread flies, and no thread is ever started."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from accredit import ConfigurationError, CredentialRefusedError, TokenManager
from accredit.devserver import DevServer, DevServerProcess
from accredit.testing.clock import SteerableClock
from tests.runtime.support import PATIENCE, JumpClock, eventually, flying, in_loop, in_trio, registration, threads

Make = Callable[..., TokenManager]


@pytest.fixture(scope="module")
def server() -> Iterator[DevServerProcess]:
    """Give a server in a process of its own, so that no thread of it is in the way of counting threads."""
    with DevServerProcess() as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_planned(server: DevServerProcess) -> None:
    server.recover()
    server.clear_log()


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    started: list[str] = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread.name))
    return started


def test_no_thread_is_started(server: DevServer, make_manager: Make, clock: JumpClock, no_threads: list[str]) -> None:
    manager = make_manager(registration(server), renewal="inline", clock=clock)
    face = manager.asynchronous()
    token = manager.get()
    assert in_loop(face.get)() == [token]
    assert in_trio(face.get)() == [token]
    renewed = manager.renew()
    assert renewed != token
    manager.suspect(renewed)
    assert manager.get() not in {token, renewed}
    manager.remove()
    clock.expire(manager.get())
    assert manager.get().value
    assert server.count("/token") == 5
    assert no_threads == []


def test_a_renewal_that_is_due_is_done_by_the_caller_who_finds_it_due(
    server: DevServer, make_manager: Make, clock: JumpClock, no_threads: list[str]
) -> None:
    manager = make_manager(registration(server), renewal="inline", clock=clock)
    token = manager.get()
    clock.make_renewable(token)
    assert manager.get() != token
    assert server.count("/token") == 2
    assert no_threads == []


def test_a_renewal_that_fails_costs_the_caller_time_and_nothing_else(
    server: DevServer, make_manager: Make, clock: JumpClock
) -> None:
    manager = make_manager(registration(server), renewal="inline", clock=clock)
    token = manager.get()
    clock.make_renewable(token)
    server.fail(401, error="invalid_client")
    for _ in range(10):
        assert manager.get() == token
    assert server.count("/token") == 2
    clock.expire(token)
    clock.shift += 60
    with pytest.raises(CredentialRefusedError):
        manager.get()
    assert flying(manager) == 0


def test_threads_share_the_flight_of_the_first(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server), renewal="inline")
    server.hold()
    with threads([manager.get] * 16) as answers:
        assert server.wait_for_waiting(1) == 1
        slot = next(iter(manager._engine.slots.values()))
        eventually(lambda: slot.flight is not None and len(slot.flight._gates) == 15)
        server.release()
    assert len({token.value for token in answers.results}) == 1
    assert len(answers.results) == 16
    assert server.count("/token") == 1


def test_an_interrupt_of_the_request_leaves_no_lease_behind(
    server: DevServer, make_manager: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make_manager(registration(server), renewal="inline", clock=SteerableClock())
    transport = manager._engine._driver._open_transport()

    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(transport), "send", interrupted)
        with pytest.raises(KeyboardInterrupt):
            manager.get()
    # The clock stands still, so nobody's lease can have run out.
    assert manager.get(timeout=PATIENCE).value
    assert server.count("/token") == 1


def test_an_interrupt_of_the_secret_leaves_nothing_behind(server: DevServer, make_manager: Make) -> None:
    answers: list[str] = []

    def secret() -> str:
        if not answers:
            answers.append("dev-secret")
            raise KeyboardInterrupt
        return answers[0]

    manager = make_manager(registration(server, secret), renewal="inline")
    with pytest.raises(KeyboardInterrupt):
        manager.get()
    assert flying(manager) == 0
    assert manager.get(timeout=PATIENCE).value


def test_anything_else_is_refused(server: DevServer) -> None:
    with pytest.raises(ConfigurationError, match="renewal"):
        TokenManager(registration(server), renewal="later")  # type: ignore[arg-type]
