"""A caller that goes away at any moment hurts nobody, not even itself when it comes back."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
import trio

from accredit import AccessToken, AsyncTokenManager, TokenManager
from accredit.devserver import DevServer
from tests.runtime.support import (
    PATIENCE,
    JumpClock,
    eventually,
    eventually_async,
    flying,
    in_loop,
    registration,
    threads,
    waiting,
)

Make = Callable[..., TokenManager]
MOST_STEPS = 200


@pytest.fixture
def manager(server: DevServer, make_manager: Make, clock: JumpClock) -> TokenManager:
    return make_manager(registration(server, issuer=server.issuer, token_endpoint=None), clock=clock)


OPERATIONS: dict[str, Callable[[AsyncTokenManager], Coroutine[Any, Any, object]]] = {
    "get": lambda face: face.get(),
    "renew": lambda face: face.renew(),
    "headers": lambda face: face.headers(),
    "remove": lambda face: face.remove(),
}


async def cancelled_at(step: int, operation: Coroutine[Any, Any, object]) -> bool:
    """Cancel a task after so many steps of the loop; tell whether it had ended before."""
    task = asyncio.ensure_future(operation)
    for _ in range(step):
        await asyncio.sleep(0)
        if task.done():
            return True
    task.cancel()
    await asyncio.wait({task})
    return False


@pytest.mark.parametrize("name", OPERATIONS)
def test_task_cancelled_at_every_step(
    server: DevServer, manager: TokenManager, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    face = manager.asynchronous()
    operation = OPERATIONS[name]

    async def scenario() -> None:
        for step in range(MOST_STEPS):
            if await cancelled_at(step, operation(face)):
                break
            # Whoever comes next is served, and by the flight that is up.
            assert isinstance(await face.get(), AccessToken)
            if name != "remove":
                await face.remove()
        await eventually_async(lambda: flying(manager) == 0)
        assert waiting(manager) == 0

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scenario(), debug=True)
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio" and record.levelno >= logging.WARNING]
    assert manager.get().value


def test_cancelled_before_it_began_costs_nothing(server: DevServer, manager: TokenManager) -> None:
    async def scenario() -> None:
        task = asyncio.ensure_future(manager.asynchronous().get())
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    asyncio.run(scenario())
    assert server.count() == 0


def test_all_callers_cancelled_the_flight_lands_and_its_token_is_kept(server: DevServer, manager: TokenManager) -> None:
    server.hold()
    face = manager.asynchronous()

    async def scenario() -> None:
        tasks = [asyncio.create_task(face.get()) for _ in range(10_000)]
        await eventually_async(lambda: waiting(manager) == len(tasks))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        assert waiting(manager) == 0
        assert flying(manager) == 1

    asyncio.run(scenario())
    assert server.wait_for_waiting(1) == 1
    server.release()
    eventually(lambda: manager.peek() is not None)
    assert manager.get() == manager.peek()
    assert server.count("/token") == 1


def test_asyncio_timeout_around_a_call(server: DevServer, manager: TokenManager) -> None:
    server.hold()
    face = manager.asynchronous()

    async def impatient() -> None:
        async with asyncio.timeout(0.01):
            await face.get()

    async def scenario() -> list[BaseException | None]:
        patient = asyncio.create_task(face.get())
        errors = await asyncio.gather(*(impatient() for _ in range(100)), return_exceptions=True)
        assert waiting(manager) == 1
        server.release()
        assert isinstance(await patient, AccessToken)
        return errors

    assert {type(error) for error in asyncio.run(scenario())} == {TimeoutError}
    assert server.count("/token") == 1


def test_wait_for_and_task_group(server: DevServer, manager: TokenManager) -> None:
    face = manager.asynchronous()
    server.hold()

    async def fail_when_waiting() -> None:
        await eventually_async(lambda: waiting(manager) == 3)
        raise LookupError

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(face.get())
            tasks.create_task(fail_when_waiting())

    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(face.get(), 0.01)
        with pytest.raises(ExceptionGroup) as caught:
            await group()
        assert caught.group_contains(LookupError)
        assert waiting(manager) == 0
        server.release()
        assert isinstance(await face.get(), AccessToken)

    asyncio.run(scenario(), debug=True)
    assert server.count("/token") == 1


@pytest.mark.parametrize("name", OPERATIONS)
def test_trio_cancelled_at_every_checkpoint(server: DevServer, manager: TokenManager, name: str) -> None:
    face = manager.asynchronous()
    operation = OPERATIONS[name]

    async def at(step: int) -> bool:
        with trio.CancelScope() as scope:

            async def cancel() -> None:
                for _ in range(step):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel)
                await operation(face)
                nursery.cancel_scope.cancel()
        return not scope.cancelled_caught

    async def scenario() -> None:
        for step in range(MOST_STEPS):
            if await at(step) and step > 10:
                break
            assert isinstance(await face.get(), AccessToken)
            if name != "remove":
                await face.remove()

    trio.run(scenario)
    eventually(lambda: flying(manager) == 0)
    assert waiting(manager) == 0


def test_trio_callers_that_time_out_leave_the_others(server: DevServer, manager: TokenManager) -> None:
    server.hold()
    face = manager.asynchronous()
    got: list[AccessToken] = []

    async def patient() -> None:
        got.append(await face.get())

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(patient)
            with trio.move_on_after(0.01) as scope:
                async with trio.open_nursery() as impatient:
                    for _ in range(100):
                        impatient.start_soon(face.get)
            assert scope.cancelled_caught
            assert waiting(manager) == 1
            server.release()

    trio.run(scenario)
    assert len(got) == 1
    assert server.count("/token") == 1


def test_a_loop_that_closes_while_it_waits_kills_nobodys_flight(server: DevServer, manager: TokenManager) -> None:
    server.hold()
    face = manager.asynchronous()

    loop = asyncio.new_event_loop()
    task = loop.create_task(face.get())
    loop.run_until_complete(eventually_async(lambda: waiting(manager) == 1))
    with threads([manager.get, in_loop(face.get)]) as answers:
        eventually(lambda: waiting(manager) == 3)
        loop.close()  # harsher than asyncio.run: the task is not even cancelled
        server.release()
    assert not answers.errors
    assert manager.get() == answers.results[0] or [manager.get()] == answers.results[0]
    assert server.count("/token") == 1
    # Not the library's doing: the loop was closed under a pending task, which would otherwise be reported as such.
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_trio_run_that_ends_while_the_flight_is_up(server: DevServer, manager: TokenManager) -> None:
    server.hold()
    face = manager.asynchronous()

    async def leave() -> None:
        with trio.move_on_after(0.01):
            await face.get()

    trio.run(leave)
    with threads([manager.get]) as answers:
        eventually(lambda: waiting(manager) == 1)
        server.release()
    assert len(answers.results) == 1
    assert server.count("/token") == 1


def test_a_hundred_loops_one_after_the_other(server: DevServer, manager: TokenManager, clock: JumpClock) -> None:
    """What the tests of an application do: a loop each, and a manager that outlives them all."""
    face = manager.asynchronous()
    for number in range(100):
        if number % 2:
            clock.expire(manager.get())
        (token,) = in_loop(face.get, debug=True)()
        assert isinstance(token, AccessToken)
    assert server.count("/token") == 51
    assert waiting(manager) == 0


def test_loops_that_leave_a_flight_behind(server: DevServer, manager: TokenManager) -> None:
    server.hold()
    face = manager.asynchronous()
    for _ in range(100):
        in_loop(partial(face.get, timeout=0), debug=True)()
    assert waiting(manager) == 0
    flight = next(iter(manager._engine.slots.values())).flight
    assert flight is not None
    # A loop that is gone is not kept alive by a flight that is still up.
    assert not flight._loops
    server.release()
    assert manager.get(timeout=PATIENCE).value
    assert server.count("/token") == 1


def test_without_an_event_loop_it_says_so(manager: TokenManager, server: DevServer) -> None:
    call = manager.asynchronous().get()
    with pytest.raises(RuntimeError, match="asyncio or trio"):
        call.send(None)


def test_keyboard_interrupt_in_a_loop(server: DevServer, manager: TokenManager) -> None:
    server.hold()
    face = manager.asynchronous()

    async def interrupted() -> None:
        asyncio.get_running_loop().call_soon(_interrupt)
        await face.get()

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(interrupted())
    assert waiting(manager) == 0
    server.release()
    assert manager.get().value
    assert server.count("/token") == 1


def _interrupt() -> None:
    raise KeyboardInterrupt
