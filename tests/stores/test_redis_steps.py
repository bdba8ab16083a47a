"""The process that leads is killed, or stopped and woken up again, at every step of its flight."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from accredit import TokenManager
from accredit.core.messages import Failure, Request, Response
from accredit.core.records import Satisfied
from accredit.devserver import DevConfig, DevServer
from accredit.stores.redis import RedisStore
from accredit.transport import HttpTransport
from tests.bad_inputs.model import covers
from tests.runtime.support import CLIENTS, PATIENCE, registration
from tests.runtime.test_fork import forking_with_threads
from tests.servers.redis import Server, valkey

__all__ = ["valkey"]
pytestmark = [pytest.mark.real_server, pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")]
#: Seconds of the deadline of the process that dies: its lease is for half of it.
DEADLINE = 2.0
STEPS = ("claim", "endpoint_hold", "send", "publish")
POINTS = [(step, when) for step in STEPS for when in ("before", "after")]


class Deadly:
    """Does what another does, and sends this process a signal before or after one step, the first time it comes."""

    def __init__(self, inner: Any, step: str, when: str, number: int) -> None:
        self._inner = inner
        self._step = step
        self._when = when
        self._number = number
        self._hit = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name != self._step:
            return found

        def step(*arguments: Any, **named: Any) -> Any:
            # Once: a lease is extended by further claims, on a thread of its own.
            first, self._hit = not self._hit, True
            if first and self._when == "before":
                os.kill(os.getpid(), self._number)
            answer = found(*arguments, **named)
            if first and self._when == "after":
                os.kill(os.getpid(), self._number)
            return answer

        return step


class DeadlyTransport(Deadly):
    """The same for requests."""

    def send(self, request: Request, *, timeout: float) -> Response | Failure:
        sent: Callable[..., Response | Failure] = self.__getattr__("send")
        return sent(request, timeout=timeout)


class Victim:
    """A forked child that gets a token and is hit at one point of its flight."""

    left: ClassVar[list[int]] = []

    def __init__(self, url: str, server: DevServer, point: tuple[str, str], number: int) -> None:
        self._reader, writer = os.pipe()
        with forking_with_threads():
            self.pid = os.fork()
        if self.pid:
            self.left.append(self.pid)
            os.close(writer)
            return
        status = 1
        try:
            store: Any = Deadly(RedisStore(url, timeout=PATIENCE), *point, number)
            transport: Any = DeadlyTransport(HttpTransport(), *point, number)
            manager = TokenManager(registration(server, deadline=DEADLINE), store=store, transport=transport)
            token = manager.get(timeout=PATIENCE)
            os.write(writer, json.dumps([token.value, token.generation]).encode())
            status = 0
        finally:
            os._exit(status)

    def hit(self) -> None:
        """Wait until it was hit."""
        pid, status = os.waitpid(self.pid, os.WUNTRACED)
        assert pid == self.pid
        assert os.WIFSTOPPED(status) or os.WTERMSIG(status) == signal.SIGKILL

    def wake(self) -> tuple[str, int]:
        """Wake it up again and return the token that it gets in the end."""
        os.kill(self.pid, signal.SIGCONT)
        ready, _, _ = select.select([self._reader], [], [], PATIENCE)
        assert ready
        value, generation = json.loads(os.read(self._reader, 65536))
        _, status = os.waitpid(self.pid, 0)
        assert status == 0
        return value, generation


@pytest.fixture(autouse=True)
def _no_victim_is_left() -> Iterator[None]:
    """A stopped process would stay for ever, and hold what it has open."""
    yield
    for victim in Victim.left:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
    Victim.left.clear()


@pytest.fixture
def server() -> Iterator[DevServer]:
    with DevServer(DevConfig(clients=CLIENTS)) as running:
        yield running


@pytest.fixture
def bystander(valkey: Server, server: DevServer) -> Iterator[TokenManager]:
    # Not opened before the fork, so the child has nothing of it.
    with TokenManager(registration(server), store=RedisStore(valkey.url, timeout=PATIENCE)) as manager:
        yield manager


@pytest.mark.parametrize("point", POINTS, ids=" ".join)
@covers("O01", "Q04", outcome="OK: others go on when the lease has ended, with at most one more request")
def test_a_leader_is_killed(valkey: Server, server: DevServer, bystander: TokenManager, point: tuple[str, str]) -> None:
    victim = Victim(valkey.url, server, point, signal.SIGKILL)
    victim.hit()
    token = bystander.get()
    asked_already = point in POINTS[POINTS.index(("send", "after")) :]
    published = point == ("publish", "after")
    assert server.count("/token") == 1 + (asked_already and not published)
    check(valkey, bystander, token.value)


@pytest.mark.parametrize("point", POINTS, ids=" ".join)
@covers("O02", "O04", outcome="OK: its late writing is compared, and the lease of the next is not its to end")
def test_a_leader_is_stopped_and_woken_up(
    valkey: Server, server: DevServer, bystander: TokenManager, point: tuple[str, str]
) -> None:
    victim = Victim(valkey.url, server, point, signal.SIGSTOP)
    victim.hit()
    token = bystander.get()
    value, generation = victim.wake()
    assert server.count("/token") <= 2
    # Both have a token that works, and the fleet keeps one.
    assert (generation >> 32) - (token.generation >> 32) in {0, 1}
    for each in (token.value, value):
        assert call(server, each) == 200
    kept = bystander.renew()
    check(valkey, bystander, kept.value)


def check(valkey: Server, manager: TokenManager, value: str) -> None:
    """Assert that the store has that record, whole, and that nobody is held up."""
    store = RedisStore(valkey.url, timeout=PATIENCE)
    identity = next(iter(manager._engine.slots.values())).request.identity
    answer = store.claim(identity, newer_than=None, credential="", owner="third", lease=1.0)
    assert isinstance(answer.directive, Satisfied)
    assert answer.stored is not None
    assert answer.stored.record.value == value
    store.remove(identity)
    with valkey.client() as client:
        assert client.keys(f"{identity.store_key()}*") == []
    store.close()


def call(server: DevServer, token: str) -> int:
    import httpx2

    status: int = httpx2.get(f"{server.api_url}/orders", headers={"Authorization": f"Bearer {token}"}).status_code
    return status
