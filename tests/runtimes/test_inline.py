"""renewal="inline" where things get tight: many threads, callers inside of callers, and no thread to be had at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from accredit import AccreditError, TokenManager, UnreachableError
from accredit.devserver import DevServer
from accredit.engine import Renewal
from tests.runtime.support import JumpClock, eventually, registration, threads, waiting
from tests.runtimes.programs import PREAMBLE, run

BOTH = pytest.mark.parametrize("renewal", ["inline", "thread"])
THREADS = 64


def test_many_threads(server: DevServer) -> None:
    with TokenManager(registration(server), renewal="inline") as manager:
        server.hold()
        with threads([manager.get] * THREADS) as answers:
            eventually(lambda: waiting(manager) == THREADS - 1)
            server.release()
        assert answers.errors == []
        assert len({token.value for token in answers.results}) == 1
        assert server.count("/token") == 1


def test_many_threads_with_identities_of_their_own(server: DevServer) -> None:
    """Whoever flies waits for nobody else."""
    with TokenManager(registration(server), renewal="inline") as manager:
        server.hold()
        calls: list[Callable[[], Any]] = [lambda n=n: manager.get(principal=f"p{n}") for n in range(16)]  # type: ignore[misc]
        with threads(calls * 2) as answers:
            eventually(lambda: waiting(manager) == 16)
            assert server.wait_for_waiting(16, timeout=30) == 16
            server.release()
        assert answers.errors == []
        assert server.count("/token") == 16


@BOTH
def test_a_secret_that_needs_a_token_of_another_registration(server: DevServer, renewal: Renewal) -> None:
    """A vault that is itself called with a token: a flight inside of a flight, on one thread when inline."""
    names: list[str] = []

    def from_the_vault() -> str:
        assert manager.get("vault").value
        names.append(threading.current_thread().name)
        return "dev-secret"

    registrations = [registration(server, from_the_vault), registration(server, id="vault", scope="orders:read")]
    with TokenManager(registrations, default="api-client", renewal=renewal) as manager:
        assert manager.get().value
        assert server.count("/token") == 2
        assert names == ["accredit-flight" if renewal == "thread" else threading.current_thread().name]


@BOTH
def test_a_secret_that_needs_its_own_token(server: DevServer, renewal: Renewal) -> None:
    """What can never work ends with the deadline, for everybody, and leaves nothing behind."""
    inner: list[AccreditError] = []

    def from_itself() -> str:
        try:
            manager.get(timeout=0.05)
        except AccreditError as error:
            inner.append(error)
        return "dev-secret"

    with TokenManager(registration(server, from_itself), renewal=renewal) as manager:
        assert manager.get().value
        assert [type(error) for error in inner] == [UnreachableError]
        assert waiting(manager) == 0
        assert server.count("/token") == 1


@BOTH
def test_a_hook_that_asks_for_a_token(server: DevServer, renewal: Renewal, clock: JumpClock) -> None:
    seen: list[str] = []

    def hook(event: object) -> None:
        if len(seen) < 10:
            seen.append(type(event).__name__)
            assert manager.get(timeout=5).value

    with TokenManager(registration(server), renewal=renewal, clock=clock, on_event=hook) as manager:
        token = manager.get()
        assert seen == ["TokenObtained"]
        clock.expire(token)
        assert manager.get() != token
        assert seen == ["TokenObtained"] * 2


def test_where_no_thread_can_be_had_at_all(server: DevServer) -> None:
    """Names are resolved too, by the caller's own thread."""
    script = f"""{PREAMBLE}
import asyncio, threading
def refuse(*_):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
for renewal in ("inline", "thread"):
    with TokenManager(registration(), renewal=renewal) as manager:
        token = manager.get()
        assert asyncio.run(manager.asynchronous().get()) == token
        assert manager.renew() != token
        asyncio.run(manager.asynchronous().close())
tell("all of it")
"""
    assert run(script, server) == ["all of it"]
    assert server.count("/token") == 4


def test_inline_starts_no_thread_for_names_either(server: DevServer) -> None:
    script = f"""{PREAMBLE}
import threading
started = []
real = threading.Thread.start
threading.Thread.start = lambda thread: (started.append(thread.name), real(thread))
with TokenManager(registration(), renewal="inline") as manager:
    manager.get()
tell(started)
with TokenManager(registration()) as manager:
    manager.get()
tell(sorted(started))
"""
    assert run(script, server) == [[], ["accredit-flight", "accredit-resolver"]]
