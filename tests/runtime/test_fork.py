"""A forked child goes on with what the parent had: its tokens, none of its locks, threads or flights."""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

import pytest

from accredit import TokenManager
from accredit.devserver import DevServer
from tests.runtime.support import PATIENCE, JumpClock, eventually, in_loop, registration, threads, waiting

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
Make = Callable[..., TokenManager]


@contextmanager
def forking_with_threads() -> Iterator[None]:
    with warnings.catch_warnings():
        # Python 3.12 warns of exactly what these tests are about: a fork while other threads live.
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork.*", category=DeprecationWarning)
        yield


class Child:
    """A forked child that runs a function and tells its result as JSON."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._reader, writer = os.pipe()
        with forking_with_threads():
            self._pid = os.fork()
        if self._pid == 0:
            status = 1
            try:
                os.close(self._reader)
                os.write(writer, json.dumps({"result": function()}).encode())
                status = 0
            except BaseException:
                os.write(writer, json.dumps({"failed": traceback.format_exc()}).encode())
            finally:
                os._exit(status)  # neither the tests nor the cleanup of the parent run on in here
        os.close(writer)

    def result(self) -> Any:
        """Wait for the child to end and return its result; one that hangs is killed."""
        ready, _, _ = select.select([self._reader], [], [], PATIENCE)
        if not ready:
            os.kill(self._pid, signal.SIGKILL)
        answer = os.read(self._reader, 65536)
        os.close(self._reader)
        os.waitpid(self._pid, 0)
        assert answer, "the child hung or died"
        told = json.loads(answer)
        assert "result" in told, told["failed"]
        return told["result"]


def test_a_cached_token_costs_the_child_no_request(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server))
    token = manager.get()
    child = Child(lambda: [manager.get().value, in_loop(manager.asynchronous().get)()[0].value])  # type: ignore[union-attr]
    assert child.result() == [token.value, token.value]
    assert server.count("/token") == 1


def test_a_child_gets_its_first_token_by_itself(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server))
    child = Child(lambda: manager.get().value)
    mine = manager.get().value
    assert child.result() != mine
    assert server.count("/token") == 2


def test_the_parents_flight_is_not_the_childs(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server))
    server.hold()
    with threads([manager.get]) as answers:
        assert server.wait_for_waiting(1) == 1
        child = Child(lambda: [manager.peek() is None, manager.get().value])
        # The child did not join the flight that was up when it was born: it asks for itself.
        assert server.wait_for_waiting(2, timeout=PATIENCE) == 2
        assert waiting(manager) == 1
        server.release()
        nothing_there, value = child.result()
    assert nothing_there
    assert value != answers.results[0].value
    assert manager.get() == answers.results[0]
    assert server.count("/token") == 2


def test_no_lock_of_the_parent_is_waited_for(server: DevServer, make_manager: Make) -> None:
    """Every lock there is, held by another thread at the moment of the fork."""
    manager = make_manager(registration(server, issuer=server.issuer, token_endpoint=None))
    token = manager.get()
    manager.remove()
    engine = manager._engine
    transport: Any = engine._driver._transport
    locks = [
        engine._lock,
        engine._workers._lock,
        engine.keeper._lock,
        engine.store._lock,
        engine.store._store._lock,  # type: ignore[attr-defined]
        engine._driver._lock,
        engine._driver._secrets._lock,
        transport._lock,
    ]
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            held.set()
            let_go.wait(PATIENCE)

    with threads([hold]):
        assert held.wait(PATIENCE)

        def use() -> str:
            with manager.keep_fresh():
                value = manager.get().value
            manager.renew()
            manager.remove()
            manager.close()
            return value

        value = Child(use).result()
        let_go.set()
    assert value != token.value
    assert manager.get().value


def test_the_keeper_starts_again_at_the_childs_first_use(
    server: DevServer, make_manager: Make, clock: JumpClock
) -> None:
    manager = make_manager(registration(server), clock=clock)
    keeper = manager._engine.keeper
    with manager.keep_fresh():
        token = manager.get()

        def use() -> list[object]:
            idle = keeper._thread is None  # no thread starts before the first use
            same = manager.get() == token  # from the cache, by the way that is not the fastest one
            running = keeper._thread is not None and keeper._thread.is_alive()
            fast_again = next(iter(manager._engine.slots.values())).fresh == token
            clock.make_renewable(token)
            keeper.poke()
            eventually(lambda: manager.peek() not in {None, token})  # with no traffic
            return [idle, same, running, fast_again]

        assert Child(use).result() == [True, True, True, True]
        assert server.count("/token") == 2
        # The parent's own keeper is as it was.
        clock.make_renewable(token)
        keeper.poke()
        eventually(lambda: manager.peek() not in {None, token})
    assert server.count("/token") == 3


def test_fork_with_everything_in_the_air(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server))
    manager.get(principal="ready")
    server.hold()
    with manager.keep_fresh(principal="kept"), threads([manager.get] * 8) as answers:
        eventually(lambda: waiting(manager) == 8)
        assert server.wait_for_waiting(2) == 2
        children = [
            Child(lambda: [manager.get(principal="ready").value, manager.get(principal="of-a-child").value])
            for _ in range(3)
        ]
        assert server.wait_for_waiting(5, timeout=PATIENCE) >= 5
        server.release()
        values = [child.result() for child in children]
    assert len({value[0] for value in values}) == 1
    assert len({value[1] for value in values}) == 3
    assert len({token.value for token in answers.results}) == 1
    assert len(answers.results) == 8


def test_fork_while_an_event_loop_waits(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server))
    server.hold()
    face = manager.asynchronous()
    with threads([in_loop(face.get, 100)]) as answers:
        eventually(lambda: waiting(manager) == 100)
        child = Child(lambda: in_loop(face.get)()[0].value)  # type: ignore[union-attr]
        assert server.wait_for_waiting(2, timeout=PATIENCE) == 2
        server.release()
        value = child.result()
    assert {token.value for token in answers.results[0]} == {manager.get().value}
    assert value != manager.get().value


def _tell(connection: Connection, manager: TokenManager) -> None:
    connection.send([manager.get().value, manager.get(principal="of-the-child").value])
    connection.close()


def test_multiprocessing_with_fork(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server))
    token = manager.get()
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    with forking_with_threads():
        process = context.Process(target=_tell, args=(there, manager))
        process.start()
    assert here.poll(PATIENCE)
    cached, own = here.recv()
    process.join(PATIENCE)
    assert process.exitcode == 0
    assert cached == token.value
    assert own != token.value
    assert server.count("/token") == 2


def test_a_grandchild_too(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server))
    manager.get()
    child = Child(lambda: [manager.renew().value, Child(lambda: manager.renew().value).result()])
    values = {manager.get().value, *child.result()}
    assert len(values) == 3
    assert server.count("/token") == 3
