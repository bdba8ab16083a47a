"""What the tests of the runtime share: registrations, a look inside flights, actors in threads and loops."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from accredit import AccessToken, ClientRegistration, ClientSecretBasic, Secret, TokenManager
from accredit.clock import SystemClock
from accredit.devserver import DevClient
from accredit.devserver.handle import Switches
from accredit.instrumentation import Event
from accredit.runtime.flight import Flight
from accredit.testing.clock import SteerableClock

T = TypeVar("T")
E = TypeVar("E", bound=Event)
SECRET = "dev-secret"
CLIENTS = (
    DevClient(client_id="api-client", client_secret=Secret(SECRET)),
    DevClient(client_id="other-client", client_secret=Secret("other-secret")),
)
#: Seconds; only a test that fails waits for as long.
PATIENCE = 30.0


def registration(server: Switches, secret: Any = SECRET, **changes: Any) -> ClientRegistration:
    """Return a registration of the first client, without discovery, patient enough for a slow machine."""
    values: dict[str, Any] = {
        "id": "api-client",
        "token_endpoint": server.token_endpoint,
        "client_id": "api-client",
        "client_auth": ClientSecretBasic(secret),
        "deadline": PATIENCE,
    }
    return ClientRegistration(**(values | changes))


class JumpClock(SystemClock):
    """The real clocks plus a shift; waits take the time that they take."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = 0.0
        self.wall_shift = 0.0
        real = self.now
        self.now = lambda: real() + self.shift

    def wall(self) -> float:
        return super().wall() + self.wall_shift

    def expire(self, token: AccessToken) -> None:
        """Jump to where the token is just no longer handed out."""
        self._to(token.usable_until)

    def make_renewable(self, token: AccessToken) -> None:
        """Jump to where the token's renewal is just due."""
        self._to(token.renew_at)

    def make_urgent(self, token: AccessToken) -> None:
        """Jump to where the token's renewal no longer waits for a store that is away."""
        self._to((token.renew_at + token.usable_until) / 2)

    def _to(self, instant: float) -> None:
        # The millisecond is for what adding floats loses.
        self.shift += max(instant - self.now(), 0.0) + 0.001


class Events:
    """A hook that remembers."""

    def __init__(self) -> None:
        self.seen: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.seen.append(event)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.seen if isinstance(event, kind)]


def waiters_of(flight: Flight[Any]) -> int:
    """Return how many threads and tasks wait for a flight."""
    with flight._lock:
        tasks = sum(len(futures) for futures in flight._loops.values())
        return len(flight._gates) + tasks + len(flight._trio)


def waiting(manager: TokenManager) -> int:
    """Return how many threads and tasks wait for any flight of the manager."""
    flights = [slot.flight for slot in list(manager._engine.slots.values())]
    return sum(waiters_of(flight) for flight in flights if flight is not None)


def flying(manager: TokenManager) -> int:
    """Return how many flights are up."""
    return sum(slot.flight is not None for slot in list(manager._engine.slots.values()))


def eventually(condition: Callable[[], bool], what: str = "the condition") -> None:
    """Wait until a condition holds."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"{what} did not come about"
        threading.Event().wait(0.001)


async def eventually_async(condition: Callable[[], bool], what: str = "the condition") -> None:
    """Wait in an asyncio task until a condition holds."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"{what} did not come about"
        await asyncio.sleep(0)


@dataclass
class Answers:
    """What the actors got: results and errors, in the order they came."""

    results: list[Any] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def note(self, function: Callable[[], object]) -> None:
        try:
            result = function()
        except BaseException as error:
            self.errors.append(error)
        else:
            self.results.append(result)


@contextmanager
def threads(functions: Sequence[Callable[[], object]]) -> Iterator[Answers]:
    """Run functions in threads that start together; they have all ended when the block has."""
    answers = Answers()
    barrier = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> None:
        barrier.wait(PATIENCE)
        answers.note(function)

    running = [threading.Thread(target=run, args=(function,), daemon=True) for function in functions]
    for thread in running:
        thread.start()
    yield answers
    for thread in running:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def in_loop(
    make: Callable[[], Coroutine[Any, Any, T]], number: int = 1, **settings: Any
) -> Callable[[], list[T | BaseException]]:
    """Return a function that runs so many coroutines in an asyncio loop of its own."""

    async def gather() -> list[T | BaseException]:
        return await asyncio.gather(*(make() for _ in range(number)), return_exceptions=True)

    return lambda: asyncio.run(gather(), **settings)


def in_trio(make: Callable[[], Coroutine[Any, Any, T]], number: int = 1) -> Callable[[], list[T | BaseException]]:
    """Return a function that runs so many coroutines in a trio run of its own."""
    import trio

    async def one(outcomes: list[T | BaseException]) -> None:
        try:
            outcomes.append(await make())
        except Exception as error:
            outcomes.append(error)

    async def nursery() -> list[T | BaseException]:
        outcomes: list[T | BaseException] = []
        async with trio.open_nursery() as group:
            for _ in range(number):
                group.start_soon(one, outcomes)
        return outcomes

    return lambda: trio.run(nursery)


def stack_of(error: BaseException) -> list[str]:
    """Return the names of the functions on an error's traceback."""
    names: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    return names


def settle(clock: SteerableClock, manager: TokenManager) -> None:
    """Wait until the keeper, and every worker there is, stand still on the clock."""
    keeper, workers = manager._engine.keeper, manager._engine._workers

    def still() -> bool:
        # A keeper that was poked has no gate until it has looked again.
        return keeper._gate is not None and clock.waiting >= 1 + sum(workers._busy.values())

    eventually(still, "standstill")


def run_keeper(clock: SteerableClock, manager: TokenManager, seconds: float) -> Iterator[float]:
    """Let time pass from one thing that is due to the next, with nothing but the keeper at work; give each time."""
    end = clock.now() + seconds
    while clock.now() < end:
        settle(clock, manager)
        due = clock.next_due
        assert due is not None
        clock.advance(max(min(due, end) - clock.now(), 0.0))
        settle(clock, manager)
        yield clock.now()
