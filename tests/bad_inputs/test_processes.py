"""Group Q: processes that fork, die and exit; threads; event loops; hooks and handlers that raise."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from accredit import AccessToken
from accredit.core.events import Event
from accredit.core.flows import Failed, Obtained
from accredit.errors import AccreditError, UnreachableError
from tests.bad_inputs.invariants import check_error, check_hidden
from tests.bad_inputs.model import ERRORS, OTHER_TOKEN, SECRET, TOKEN, Case, covers, document, issued
from tests.bad_inputs.rows import CASES
from tests.bad_inputs.test_wire import CHUNKED
from tests.bad_inputs.wire import Flow, WireWorld, endpoint
from tests.bad_inputs.world import World, check_errors, outcome_of, registration, running
from tests.runtime.support import PATIENCE, eventually, in_trio, waiting
from tests.runtime.test_fork import Child
from tests.support import scripted
from tests.transport.hostile import Server

PREAMBLE = """
import asyncio, os, signal, sys, threading
from accredit import ClientRegistration, ClientSecretPost, Secret, TokenManager
from accredit.core.messages import Failure, Response

class Stuck:
    entered = threading.Event()
    leave = threading.Event()
    def send(self, request, *, timeout):
        self.entered.set()
        self.leave.wait(60)
        return Failure("connect", "stuck")
    def after_fork(self): pass
    def close(self): pass

manager = TokenManager(
    ClientRegistration(
        id="main", token_endpoint="https://idp.example/token", client_id="orders-worker",
        client_auth=ClientSecretPost(Secret.from_environment("ROW_SECRET")), deadline=60,
    ),
    transport=Stuck(),
)
"""


def run(code: str, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program that has a manager whose server never answers; nothing it prints may hold a canary."""
    environ = {**os.environ, "ROW_SECRET": SECRET, "PYTHONIOENCODING": "utf-8", **environment}
    done = subprocess.run(
        [sys.executable, "-W", "error", *flags, "-c", PREAMBLE + code],
        capture_output=True, text=True, timeout=PATIENCE, env=environ, check=False, encoding="utf-8",
    )  # fmt: skip
    check_hidden(done.stdout + done.stderr, "what a program printed")
    return done


@covers("Q01", "Q02", outcome="OK: the child keeps tokens and waits for nothing of the parent")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_fork_with_a_flight_and_locks_in_the_air() -> None:
    world = World()
    world.script.answers = [issued(access_token=f"{TOKEN}.{n}") for n in range(9)]
    kept = world.manager.get(scope="kept")
    world.script.open.clear()
    outcomes: list[Any] = []

    def in_the_child() -> list[str]:
        world.script.open = threading.Event()
        world.script.open.set()
        world.clock._condition = threading.Condition()
        world.clock._waiters = {}
        cached = world.manager.get(scope="kept", timeout=0)
        return [cached.value, world.manager.get().value, world.manager.get("other").value]

    with running([lambda: outcomes.append(outcome_of(world.manager.get))]):
        eventually(lambda: waiting(world.manager) == 1, "the wait of the parent")
        with world.manager._engine._lock:
            child = Child(in_the_child)
        told = child.result()
        world.script.open.set()
    assert told[0] == kept.value
    assert told[1].startswith(f"{TOKEN}.")
    assert told[2] == OTHER_TOKEN
    assert isinstance(outcomes[0], AccessToken)
    world.check_whole()


@covers("Q04", outcome="OK for others, wherever a process dies; one more request at most")
def test_death_at_each_step() -> None:
    steps = 0
    while True:
        world = scripted.World()
        dying = world.run(scripted.Process("dies"), scripted.wanted())
        for _ in range(steps):
            if not dying.done:
                world.now = max(world.now, dying.ready_at)
                dying.step()
        if dying.done:
            break
        dying.crash()
        after = world.run(scripted.Process("lives"), scripted.wanted()).finish()
        assert isinstance(after, Obtained)
        assert world.server.count <= 2
        steps += 1
    assert steps > 5


@covers("Q04", outcome="a hold, and no lease that outlives it, wherever a process dies while it is refused")
def test_death_at_each_step_of_a_refusal() -> None:
    for steps in range(40):
        world = scripted.World()
        world.server.always = lambda _: scripted.answer(400, error="invalid_client")
        dying = world.run(scripted.Process("dies"), scripted.wanted())
        for _ in range(steps):
            if not dying.done:
                world.now = max(world.now, dying.ready_at)
                dying.step()
        if not dying.done:
            dying.crash()
        after = world.run(scripted.Process("lives"), scripted.wanted()).finish()
        assert isinstance(after, Failed)
        assert type(after.error) is ERRORS["CREDENTIAL"]
        assert world.server.count <= 2


@covers("Q05", outcome="the program ends at once, and quietly")
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_sigterm_during_a_renewal() -> None:
    done = run(
        """
async def main():
    task = asyncio.create_task(manager.asynchronous().get())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    await loop.run_in_executor(None, Stuck.entered.wait)
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        await task
    except asyncio.CancelledError:
        manager.close()
        print("cancelled")
asyncio.run(main(), debug=True)
"""
    )
    assert (done.stdout, done.stderr, done.returncode) == ("cancelled\n", "", 0)


@covers("Q06", outcome="no wait and no noise at the end of the interpreter")
@pytest.mark.parametrize("end", ["", "sys.exit(0)", "manager.close()", "del manager"])
def test_interpreter_shutdown_with_threads_at_work(end: str) -> None:
    done = run(f"keeping = manager.keep_fresh()\nStuck.entered.wait()\nprint('up')\n{end}")
    assert (done.stdout, done.stderr, done.returncode) == ("up\n", "", 0)


@covers("Q08", outcome="OK in each loop")
def test_a_hundred_event_loops() -> None:
    world = World()
    world.script.answers = [issued(access_token=f"{TOKEN}.{n}") for n in range(101)]
    tasks = world.manager.asynchronous()
    for number in range(100):
        token = asyncio.run(tasks.renew(), debug=number % 10 == 0)
        assert token.value == f"{TOKEN}.{number}"
    assert len(world.script.requests) == 100
    world.check_whole()


def in_uvloop(make: Callable[[], Any]) -> Callable[[], list[Any]]:
    """Return a function that runs a coroutine in uvloop."""
    uvloop = pytest.importorskip("uvloop")

    async def one() -> list[Any]:
        return list(await asyncio.gather(make(), return_exceptions=True))

    return lambda: uvloop.run(one())


@covers("Q09", outcome="the same as in asyncio, case by case")
@pytest.mark.parametrize("loop", ["trio", "uvloop"])
@pytest.mark.parametrize("case", CASES[::12], ids=lambda case: case.name)
def test_other_event_loops(case: Case, loop: str) -> None:
    world = World(registration(**case.settings))
    world.script.answers, world.script.documents = list(case.answers), list(case.documents)
    world.script.latency = case.latency
    make = world.manager.asynchronous().get
    (outcome,) = (in_trio(make) if loop == "trio" else in_uvloop(make))()
    if case.expect.outcome == "OK":
        assert isinstance(outcome, AccessToken)
        assert outcome.value == case.expect.value
    else:
        check_errors([outcome], ERRORS[case.expect.outcome])
    world.script.latency = 0.0
    world.check_whole()


@covers("Q10", outcome="OK: it blocks its loop, and never itself")
def test_the_synchronous_face_inside_an_event_loop() -> None:
    world = World()
    world.script.answers = [issued()]

    async def inside() -> AccessToken:
        return world.manager.get()

    assert asyncio.run(inside()).value == TOKEN
    (outcome,) = in_trio(inside)()
    assert isinstance(outcome, AccessToken)
    world.check_whole()


@covers("Q11", outcome="OK: no other identity's token, no error")
def test_many_threads_at_once() -> None:
    world = World()
    lock = threading.Lock()
    count = [0]

    def answer(request: Any) -> Any:
        scope = request.body.decode().partition("scope=")[2].partition("&")[0]
        with lock:
            count[0] += 1
            return issued(access_token=f"{TOKEN}.{scope}.{count[0]}", expires_in=60)

    world.script.answer = answer
    world.script.latency = 0.001  # every answer moves the clock of all who wait
    problems: list[object] = []
    barrier = threading.Barrier(64)

    def work(number: int) -> None:
        chance = random.Random(number)
        barrier.wait(PATIENCE)
        for _ in range(60):
            scope = f"s{chance.randrange(8)}"
            verb = chance.randrange(10)
            try:
                if verb == 0:
                    world.manager.remove(scope=scope)
                    continue
                token = world.manager.renew(scope=scope) if verb == 1 else world.manager.get(scope=scope)
                if verb == 2:
                    world.manager.suspect(token)
                if not token.value.startswith(f"{TOKEN}.{scope}."):
                    problems.append(token.value)
            except Exception as error:
                problems.append(error)

    with running([lambda number=number: work(number) for number in range(64)]):  # type: ignore[misc]
        pass
    assert problems == []
    world.land()
    assert count[0] < 64 * 60
    assert all(slot.flight is None for slot in world.manager._engine.slots.values())


@covers("Q13", outcome="OK: the package can be imported and used for what needs no I/O")
def test_sub_interpreters() -> None:
    try:
        import _interpreters as interpreters  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        import _xxsubinterpreters as interpreters  # type: ignore[import-not-found, unused-ignore]
    code = "import accredit; accredit.ClientSecretBasic('x'); assert accredit.TokenManager.__doc__"
    interpreter = interpreters.create()
    assert interpreters.run_string(interpreter, code) is None
    interpreters.destroy(interpreter)


class Raising(logging.Handler):
    """A log handler that raises, as one does whose disk is full."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError(28, f"no space left for {record.name}")


@covers("Q18", outcome="as without the hook")
@pytest.mark.parametrize("answers", [(issued(),), (document(500), issued()), (document(500),), (document(400),)])
@pytest.mark.parametrize("broken", ["hook", "handler", "both"])
def test_hooks_and_handlers_that_raise(answers: tuple[Any, ...], broken: str) -> None:
    world = World()
    world.script.answers = list(answers)

    def hook(_: Event) -> None:
        raise ZeroDivisionError(SECRET)

    if broken != "handler":
        world.manager._engine._hooks += (hook,)
    handler = Raising()
    log = logging.getLogger("accredit")
    if broken != "hook":
        log.addHandler(handler)
    try:
        outcome = outcome_of(lambda: world.manager.get(timeout=5))
        world.land()
    finally:
        log.removeHandler(handler)
    if answers[-1].status == 200:
        assert isinstance(outcome, AccessToken), repr(outcome)
    else:
        assert type(outcome) in {UnreachableError, ERRORS["REQUEST"]}, repr(outcome)
        assert "internal error" not in str(outcome)
        assert "within" not in str(outcome)
        assert isinstance(outcome, AccreditError)
        check_error(outcome)
    world.check_whole()


@covers("Q21", outcome="MALFORMED: what is kept of an answer is bounded, whatever is sent")
def test_answers_that_would_exhaust_the_memory() -> None:
    with Server(Flow(CHUNKED, b"1000\r\n" + b" " * 4096 + b"\r\n")) as server:
        world = WireWorld(endpoint(server))
        tracemalloc.start()
        try:
            error = outcome_of(world.manager.get)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert type(error) is ERRORS["MALFORMED"]
        assert peak < 8 * 1024 * 1024
        world.check_whole()
