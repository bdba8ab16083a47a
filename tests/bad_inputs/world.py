"""A manager in a world that is given: a clock that is steered, servers that follow a script, callers of both kinds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from accredit import AccessToken, ClientRegistration, ClientSecretPost, TokenManager
from accredit.clock import Gate
from accredit.core.events import Event
from accredit.core.messages import Failure, Request, Response
from accredit.runtime.driver import Transport
from accredit.runtime.slot import Slot
from accredit.testing.clock import SteerableClock
from tests.bad_inputs.invariants import check_error, check_events, check_nothing_left, check_public, check_request
from tests.bad_inputs.model import CLIENT, ISSUER, OTHER_TOKEN, SECRET, TOKEN_ENDPOINT, Answer, issued
from tests.runtime.support import PATIENCE, eventually, waiting

OTHER_CLIENT = "other-worker"
CALLERS = 4


class Clock(SteerableClock):
    """A clock on which time passes where a flight pauses; callers wait for what really happens.

    ``inline`` says that flights are on the threads of callers, where nobody waits for a flight.
    """

    inline = False

    def wait(self, gate: Gate, seconds: float) -> bool:
        if self.inline or threading.current_thread().name == "accredit-flight":
            # Nobody opens the gate of a pause.
            self.advance(seconds)
            return gate.acquire(blocking=False)
        return super().wait(gate, seconds)


class Script:
    """A transport to servers that follow a script; looks at every request as an auditor would."""

    def __init__(self, clock: Clock, hosts: Iterable[str] = ("idp.example",)) -> None:
        self.clock = clock
        self.hosts = frozenset(hosts)
        self.answers: list[Answer] = []
        self.documents: list[Answer] = []
        self.answer: Callable[[Request], Answer] | None = None
        self.latency = 0.1
        self.requests: list[Request] = []
        self.fetches: list[Request] = []
        self.others = 0
        self.problems: list[AssertionError] = []
        self.open = threading.Event()
        self.open.set()

    def send(self, request: Request, *, timeout: float) -> Response | Failure:
        try:
            check_request(request, self.hosts)
        except AssertionError as error:
            self.problems.append(error)
        if client_of(request) == OTHER_CLIENT:
            self.others += 1
            return issued(access_token=OTHER_TOKEN)
        seen, script = (self.fetches, self.documents) if request.method == "GET" else (self.requests, self.answers)
        seen.append(request)
        assert self.open.wait(PATIENCE)
        if self.latency > timeout:
            self.clock.advance(timeout)
            return Failure("deadline", "there was no answer in time")
        self.clock.advance(self.latency)
        if self.answer is not None:
            return self.answer(request)
        return script.pop(0) if len(script) > 1 else script[0]

    def after_fork(self) -> None:
        """Have nothing open."""

    def close(self) -> None:
        """Have nothing open."""


def client_of(request: Request) -> str | None:
    """Return the client of a request that authenticates by ``client_secret_post``."""
    return parse_qs(request.body.decode()).get("client_id", [None])[0]


def registration(**settings: Any) -> ClientRegistration:
    """Return the registration under test: with the canary secret, and without discovery unless said otherwise."""
    server = {} if {"issuer", "metadata_url", "token_endpoint"} & set(settings) else {"token_endpoint": TOKEN_ENDPOINT}
    usual: dict[str, Any] = {"id": "main", "client_id": CLIENT, "client_auth": ClientSecretPost(SECRET), **server}
    return ClientRegistration(**{**usual, **settings})


OTHER = registration(id="other", client_id=OTHER_CLIENT)


class World:
    """One manager with two registrations, of which the second one has a server that always answers well."""

    def __init__(
        self, main: ClientRegistration | None = None, *, transport: Transport | None = None, hosts: Iterable[str] = ()
    ) -> None:
        self.clock = Clock()
        self.script = Script(self.clock, hosts or ("idp.example",))
        self.events: list[Event] = []
        self.manager = TokenManager(
            [main or registration(), OTHER],
            default="main",
            transport=transport or self.script,
            clock=self.clock,
            on_event=self.events.append,
        )
        self.manager._engine._random.seed(1)

    @property
    def slot(self) -> Slot:
        return self.manager._slot("main", None, None, None, None)

    def callers(self) -> list[AccessToken | BaseException]:
        """Let two threads and two tasks ask for the token; nothing is answered until all wait for one flight."""
        self.script.open.clear()
        manager, tasks = self.manager, self.manager.asynchronous()

        async def ask() -> list[AccessToken | BaseException]:
            return await asyncio.gather(*(tasks.get() for _ in range(CALLERS // 2)), return_exceptions=True)

        threads: list[Callable[[], list[AccessToken | BaseException]]] = [lambda: asyncio.run(ask())]
        threads += [lambda: [outcome_of(manager.get)]] * (CALLERS // 2)
        outcomes: list[AccessToken | BaseException] = []
        with running([lambda ask=ask: outcomes.extend(ask()) for ask in threads]):  # type: ignore[misc]
            eventually(lambda: waiting(manager) == CALLERS, "the wait of all callers")
            self.script.open.set()
        assert len(outcomes) == CALLERS
        return outcomes

    def go_to(self, instant: float) -> None:
        """Let time pass until just after an instant of the local clock; the millisecond is for lost digits."""
        self.clock.advance(max(instant - self.clock.now(), 0.0) + 0.001)

    def land(self) -> None:
        """Wait until no flight is up."""
        eventually(lambda: all(slot.flight is None for slot in list(self.manager._engine.slots.values())), "landing")

    def check_whole(self) -> None:
        """Check what holds at the end of every case: the other identity is well, and nothing is left or shown."""
        other = self.manager.get("other")
        assert other.value == OTHER_TOKEN
        assert self.manager.get("other", timeout=0) is other
        check_events(self.events)
        check_public(self.manager, self.manager._engine.slots.values())
        check_nothing_left(self.manager)
        assert not self.script.problems, self.script.problems[0]
        assert all(ISSUER in url or "127.0.0.1" in url for url in (r.url for r in self.script.requests))
        self.manager.close()


def outcome_of(ask: Callable[[], AccessToken]) -> AccessToken | BaseException:
    """Return what a caller gets, or the error as it was caught."""
    try:
        return ask()
    except BaseException as error:
        return error


@contextmanager
def running(functions: Sequence[Callable[[], object]]) -> Iterator[None]:
    """Run functions in threads of their own; they have ended when the block has."""
    threads = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def check_errors(outcomes: Iterable[object], kind: type[BaseException], *, alike: bool = True) -> list[Any]:
    """Check that each caller got an error of that kind, its own, and equal if ``alike``; return them."""
    errors = list(outcomes)
    for error in errors:
        assert type(error) is kind, repr(error)
        assert isinstance(error, BaseException)
        check_error(error)
        assert not alike or error == errors[0]
    assert len({id(error) for error in errors}) == len(errors)
    return errors
