"""Threads, tasks of two kinds of loops, forked children, callers that are cancelled; and nothing that shows a token."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from typing import Any

import anyio
import pytest

from accredit.core.messages import Failure
from accredit.errors import AccreditError, ConfigurationError, InvalidTokenError, UnreachableError
from accredit.runtime.flight import Flight
from accredit.verifier import AsyncTokenVerifier, TokenVerifier, VerifiedToken
from tests.runtime.support import eventually, eventually_async, in_loop, in_trio, threads
from tests.verifier.support import SECRET, World, active, asking, document, key_of

REFUSED = Failure("connect", "refused")


@pytest.mark.anyio
async def test_the_asynchronous_face() -> None:
    world = World()
    token = world.token()
    async with world.verifier.asynchronous() as verifier:
        first = await verifier.verify(token)
        assert first.client_id == "orders"
        assert await verifier.verify(token) is first
        assert verifier.synchronous().verify(token) is first
        for wrong, reason in ((world.token(aud="x"), "audience"), ("é", "malformed"), ("x" * 20000, "too_large")):
            with pytest.raises(InvalidTokenError) as caught:
                await verifier.verify(wrong)
            assert caught.value.reason == reason
    with pytest.raises(ConfigurationError):
        await verifier.verify(token)


@pytest.mark.anyio
async def test_the_asynchronous_face_waits_for_keys_and_answers() -> None:
    world = World(introspection=asking(), jwks_uri=f"{'https://as.example'}/jwks")
    world.server.about = active(client_id="orders")
    verifier = world.verifier.asynchronous()
    assert (await verifier.verify("opaque")).client_id == "orders"
    assert (await verifier.verify(world.token())).client_id == "orders"
    world.server.about = document({"active": False})
    with pytest.raises(InvalidTokenError):
        await verifier.verify("another")
    world.server.down = REFUSED
    with pytest.raises(UnreachableError):
        await verifier.verify("third")


@pytest.mark.anyio
async def test_a_hit_and_a_known_key_do_not_switch_tasks() -> None:
    world = World()
    token = world.token()
    verifier = world.verifier.asynchronous()
    await verifier.verify(token)
    for each in (token, world.token(jti="2")):
        step = verifier.verify(each)
        with pytest.raises(StopIteration) as end:
            step.send(None)
        assert isinstance(end.value.value, VerifiedToken)


def test_threads_two_loops_and_trio_share_one_fetch() -> None:
    world = World()
    token = world.token()
    tasks = world.verifier.asynchronous()
    world.server.open.clear()
    actors: list[Any] = [lambda: world.verifier.verify(token)] * 16
    actors += [in_loop(lambda: tasks.verify(token), 10), in_loop(lambda: tasks.verify(token), 10)]
    actors += [in_trio(lambda: tasks.verify(token), 10)]
    with threads(actors) as answers:
        eventually(lambda: world.waiting() == 46, "the wait of all")
        world.server.open.set()
    flat = [each for result in answers.results for each in (result if isinstance(result, list) else [result])]
    assert len(flat) == 46
    assert {each.client_id for each in flat} == {"orders"}
    assert world.fetches() == 1


def test_a_failed_fetch_answers_all_at_once_each_with_its_own_error() -> None:
    world = World()
    world.server.jwks = document({}, 404)
    token = world.token()
    tasks = world.verifier.asynchronous()
    world.server.open.clear()
    with threads([*[lambda: world.verdict(token)] * 8, in_loop(lambda: tasks.verify(token), 8)]) as answers:
        eventually(lambda: world.waiting() == 16, "the wait of all")
        world.server.open.set()
    flat = [each for result in answers.results for each in (result if isinstance(result, list) else [result])]
    assert len({id(error) for error in flat}) == len(flat) == 16
    assert all(error == flat[0] for error in flat)
    assert world.fetches() == 1


@pytest.mark.anyio
async def test_a_cancelled_caller_hurts_nobody() -> None:
    world = World()
    token = world.token()
    verifier = world.verifier.asynchronous()
    world.server.open.clear()
    got: list[VerifiedToken] = []

    async def ask() -> None:
        got.append(await verifier.verify(token))

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as inner:
                inner.start_soon(ask)
                while world.waiting() < 1:
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
        assert got == []
        group.start_soon(ask)
        while world.waiting() < 1:
            await anyio.lowlevel.checkpoint()
        world.server.open.set()
    assert [each.client_id for each in got] == ["orders"]
    assert world.fetches() == 1


def test_a_caller_whose_time_is_up() -> None:
    world = World(deadline=0.05)
    world.server.open.clear()
    waited: list[float] = []

    def wait(self: Flight[Any], clock: object, seconds: float) -> bool:
        waited.append(seconds)
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Flight, "wait", wait)
        assert isinstance(world.error(world.token()), UnreachableError)
    assert waited == [pytest.approx(0.1)]
    world.server.open.set()
    eventually(lambda: not world.flights(), "landing")


def test_without_threads() -> None:
    world = World(inline=True, introspection=asking(), jwks_uri="https://as.example/jwks")
    world.server.about = active()
    assert world.verifier.verify(world.token()).client_id == "orders"
    assert world.verifier.verify("opaque").issuer
    world.clock.advance(400)
    assert world.accepts(world.token(jti="2"))
    assert world.fetches() == 2
    world.server.down = REFUSED
    world.clock.advance(400)
    assert world.accepts(world.token(jti="3"))
    assert isinstance(world.error("another"), UnreachableError)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_keys_and_verdicts_and_no_flight_of_the_parent() -> None:
    world = World(introspection=asking(), jwks_uri="https://as.example/jwks")
    token = world.token()
    world.verifier.verify(token)
    world.server.open.clear()
    world.clock.advance(400)
    token = world.token(jti="2")
    first = world.verifier.verify(token)  # a renewal is up, and hangs
    with threads([lambda: world.verdict("opaque")]):
        eventually(lambda: len(world.flights()) == 2 and world.waiting() == 1, "both flights")
        lock = world.engine._desk.lock
        lock.acquire()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                world.server.open.set()
                world.server.about = active()
                assert world.verifier.verify(token) is first
                assert world.verifier.verify(world.token(jti="3")).token_id == "3"
                assert world.verifier.verify("opaque").issuer
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        lock.release()
        _, status = os.waitpid(child, 0)
        world.server.open.set()
    assert os.waitstatus_to_exitcode(status) == 0


def test_hooks_that_raise_hurt_nobody() -> None:
    world = World()

    def hook(_: object) -> None:
        raise ValueError("no")

    world.engine._desk._hooks = (*world.engine._desk._hooks, hook)
    assert world.accepts(world.token())
    assert world.reason("nonsense") == "malformed"


def test_a_defect_of_ours_lands_and_shows_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world = World()

    def send(*_: object, **__: object) -> None:
        raise RuntimeError("canary-of-the-text")

    world.server.send = send  # type: ignore[assignment]
    error = world.verdict(world.token())
    assert type(error) is AccreditError
    assert "RuntimeError" in str(error)
    assert "canary-of-the-text" not in caplog.text + str(error)
    assert not world.flights()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_a_flight_leaves_nobody_waiting(kind: type[BaseException]) -> None:
    world = World()

    def send(*_: object, **__: object) -> None:
        raise kind

    world.server.send = send  # type: ignore[assignment]
    assert isinstance(world.verdict(world.token()), AccreditError)
    eventually(lambda: not world.flights(), "landing")


def leaks_of(error: BaseException, hidden: list[str]) -> list[str]:
    """Return where a hidden text shows: texts of the error, and variables of our frames on its traceback."""
    found = []
    for text in (str(error), repr(error), repr(vars(error)), repr(error.args)):
        found += ["text" for each in hidden if each in text]
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__", "")).startswith("accredit"):
            for name, value in frame.f_locals.items():
                found += [f"{frame.f_code.co_name}.{name}" for each in hidden if each in repr(value)]
    return found


@pytest.mark.parametrize(
    "answer", [active(), document({"active": False}), document({}, 401), document({}, 500), REFUSED]
)
def test_neither_token_nor_secret_shows(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    world = World(introspection=asking(tokens="all"), jwks_uri="https://as.example/jwks")
    world.server.about = answer
    tokens = [world.token(), world.token(aud="x"), world.token(key_of("two")), "opaque-canary-token", "opaque canary"]
    for token in tokens:
        signature = token.rpartition(".")[2]
        for face in (world.verifier.verify, lambda each: asyncio.run(world.verifier.asynchronous().verify(each))):
            error: BaseException | None = None
            try:
                face(token)
            except AccreditError as caught:
                error = caught
            if error is not None:
                assert leaks_of(error, [signature, SECRET]) == []
                assert error.__context__ is None
                assert error.__cause__ is None
        assert signature not in caplog.text + repr(world.events)
    assert SECRET not in caplog.text + repr(world.events) + repr(world.verifier) + repr(world.engine)


def test_the_faces_are_two_of_one_kind() -> None:
    world = World()
    assert isinstance(world.verifier.asynchronous(), AsyncTokenVerifier)
    assert isinstance(world.verifier.asynchronous().synchronous(), TokenVerifier)
    names = [{name for name in dir(kind) if not name.startswith("_")} for kind in (TokenVerifier, AsyncTokenVerifier)]
    assert names[0] ^ names[1] == {"asynchronous", "synchronous"}


@pytest.mark.anyio
async def test_nothing_blocks_a_loop(anyio_backend: str) -> None:
    if anyio_backend != "asyncio":
        return  # the watchman knows this loop only
    from blockbuster import blockbuster_ctx

    world = World()
    verifier = world.verifier.asynchronous()
    with blockbuster_ctx():
        token = world.token()
        await verifier.verify(token)
        await verifier.verify(token)
        await verifier.verify(world.token(jti="2"))
    await eventually_async(lambda: not world.flights())
