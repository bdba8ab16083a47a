"""Any number of callers, one token request: counted at the server, with everybody asserted to wait at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import chain

import pytest

from accredit import AccessToken, AccreditError, CredentialRefusedError, TokenManager, UnreachableError
from accredit.devserver import DevConfig, DevServer
from tests.runtime.support import (
    CLIENTS,
    PATIENCE,
    JumpClock,
    eventually,
    eventually_async,
    in_loop,
    in_trio,
    registration,
    stack_of,
    threads,
    waiters_of,
    waiting,
)

MANY_TASKS = 10_000
MANY_THREADS = 64
LATENCY = 0.05

Make = Callable[..., TokenManager]


@pytest.fixture(params=["cold", "expired"])
def manager(request: pytest.FixtureRequest, server: DevServer, make_manager: Make, clock: JumpClock) -> TokenManager:
    """Return a manager without a token or with one that has just expired, its server holding token requests."""
    manager = make_manager(registration(server), clock=clock)
    if request.param == "expired":
        token = manager.get()
        clock.expire(token)
        assert manager.peek() is None
    server.clear_log()
    server.set_latency(LATENCY)
    server.hold()
    return manager


def one_request(server: DevServer, tokens: list[AccessToken]) -> None:
    assert all(isinstance(token, AccessToken) for token in tokens)
    assert len({token.authorization for token in tokens}) == 1
    assert server.count("/token") == 1


def test_ten_thousand_tasks(server: DevServer, manager: TokenManager) -> None:
    face = manager.asynchronous()

    async def scenario() -> list[AccessToken]:
        tasks = [asyncio.create_task(face.get()) for _ in range(MANY_TASKS)]
        await eventually_async(lambda: waiting(manager) == MANY_TASKS)
        assert await asyncio.to_thread(server.wait_for_waiting, 1) == 1
        server.release()
        return await asyncio.gather(*tasks)

    tokens = asyncio.run(scenario())
    assert len(tokens) == MANY_TASKS
    one_request(server, tokens)


def test_sixty_four_threads(server: DevServer, manager: TokenManager) -> None:
    with threads([manager.get] * MANY_THREADS) as answers:
        eventually(lambda: waiting(manager) == MANY_THREADS)
        server.release()
    assert len(answers.results) == MANY_THREADS
    one_request(server, answers.results)


def test_ten_thousand_trio_tasks(server: DevServer, manager: TokenManager) -> None:
    with threads([in_trio(manager.asynchronous().get, MANY_TASKS)]) as answers:
        eventually(lambda: waiting(manager) == MANY_TASKS)
        server.release()
    assert len(answers.results[0]) == MANY_TASKS
    one_request(server, answers.results[0])


def test_both_faces_two_asyncio_loops_and_trio_at_once(server: DevServer, manager: TokenManager) -> None:
    face = manager.asynchronous()
    other_thread_face = face.synchronous()
    crowd: list[Callable[[], object]] = [
        *[manager.get] * 16,
        *[other_thread_face.get] * 16,
        in_loop(face.get, 500),
        in_loop(face.get, 500, debug=True),
        in_trio(face.get, 500),
    ]
    with threads(crowd) as answers:
        eventually(lambda: waiting(manager) == 32 + 1500)
        server.release()
    assert not answers.errors
    tokens = list(chain.from_iterable(one if isinstance(one, list) else [one] for one in answers.results))
    assert len(tokens) == 32 + 1500
    one_request(server, tokens)


def test_the_first_caller_is_cancelled(server: DevServer, manager: TokenManager) -> None:
    face = manager.asynchronous()

    async def scenario() -> list[AccessToken]:
        first = asyncio.create_task(face.get())
        await eventually_async(lambda: waiting(manager) == 1)
        others = [asyncio.create_task(face.get()) for _ in range(MANY_TASKS)]
        await eventually_async(lambda: waiting(manager) == 1 + MANY_TASKS)
        first.cancel()
        await asyncio.wait({first})
        assert first.cancelled()
        assert waiting(manager) == MANY_TASKS
        server.release()
        return await asyncio.gather(*others)

    one_request(server, asyncio.run(scenario()))


@pytest.mark.parametrize("status", [400, 401])
def test_a_refusal_answers_every_caller_with_an_error_of_its_own(
    server: DevServer, manager: TokenManager, status: int
) -> None:
    server.fail(status, error="invalid_client")
    number = 1000
    face = manager.asynchronous()

    async def scenario() -> list[AccessToken | BaseException]:
        tasks = [asyncio.create_task(face.get()) for _ in range(number)]
        await eventually_async(lambda: waiting(manager) == number + MANY_THREADS)
        server.release()
        return await asyncio.gather(*tasks, return_exceptions=True)

    with threads([*[manager.get] * MANY_THREADS, lambda: asyncio.run(scenario())]) as answers:
        pass
    errors = [*answers.errors, *answers.results[0]]
    assert len(errors) == number + MANY_THREADS
    assert {type(error) for error in errors} == {CredentialRefusedError}
    assert all(error == errors[0] for error in errors)
    assert len({id(error) for error in errors}) == len(errors)
    assert len({id(error.__traceback__) for error in errors}) == len(errors)
    for error in errors:
        assert error.__cause__ is None
        assert error.__context__ is None
        # Raised once where this caller waited: nothing of the flight, nothing of the other callers.
        assert stack_of(error)[-3:] == ["get", "_obtain", "landed"]
        assert len(stack_of(error)) <= 4
    assert server.count("/token") == 1


def test_a_failing_server_costs_one_flight_of_three_requests(server: DevServer, manager: TokenManager) -> None:
    server.fail(500)
    with threads([manager.get] * MANY_THREADS) as answers:
        eventually(lambda: waiting(manager) == MANY_THREADS)
        server.release()
    assert len(answers.errors) == MANY_THREADS
    assert {type(error) for error in answers.errors} == {UnreachableError}
    assert all(error == answers.errors[0] for error in answers.errors)
    assert server.count("/token") == 3


def test_a_refused_herd_is_answered_by_one_flight(server: DevServer, manager: TokenManager) -> None:
    """Nobody's answer waits for a second exchange with the server: the very flight that failed woke them all."""
    server.fail(401, error="invalid_client")
    with threads([manager.get] * MANY_THREADS) as answers:
        eventually(lambda: waiting(manager) == MANY_THREADS)
        flight = next(iter(manager._engine.slots.values())).flight
        assert flight is not None
        assert waiters_of(flight) == MANY_THREADS
        server.release()
    assert flight.done
    assert isinstance(flight.outcome, AccreditError)
    assert len(answers.errors) == MANY_THREADS
    assert all(error == flight.outcome for error in answers.errors)
    assert all(error is not flight.outcome for error in answers.errors)


def test_a_held_server_delays_no_other_registration(server: DevServer, make_manager: Make) -> None:
    with DevServer(DevConfig(clients=CLIENTS)) as slow:
        manager = make_manager(
            [registration(slow, id="slow"), registration(server, id="quick")],
            default="slow",
        )
        slow.hold()
        # More identities than the workers' share of one origin, so that the slow server has taken all it can get.
        calls = [partial(manager.get, principal=f"user-{number}") for number in range(40)]
        with threads(calls) as answers:
            eventually(lambda: waiting(manager) == len(calls))
            assert slow.wait_for_waiting(16) == 16
            # While 40 callers wait for the slow server, a cold call elsewhere is served.
            assert manager.get("quick").value
            assert slow.waiting() == 16
            assert waiting(manager) == len(calls)
            slow.release()
        assert len(answers.results) == len(calls)
        assert slow.count("/token") == len(calls)
    assert server.count("/token") == 1


def test_different_identities_fly_side_by_side(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server))
    server.hold()
    scopes = ["orders:read", "orders:write", ["orders:read", "orders:write"], "orders:write orders:read"]
    with threads([partial(manager.get, scope=scope) for scope in scopes]) as answers:
        # The last two are one identity: order and form of a scope do not matter.
        assert server.wait_for_waiting(3, timeout=PATIENCE) == 3
        eventually(lambda: waiting(manager) == 4)
        server.release()
    assert len(answers.results) == 4
    assert server.count("/token") == 3
