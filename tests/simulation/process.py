"""A process of the fleet: the real manager, engine, guard and driver on virtual time.

Only four things are not real here: the clock, the threads (a flight is a generator that the kernel moves on), the
network, and where random bits come from. Callers are the real asynchronous face, its coroutines moved on by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from accredit.core import effects
from accredit.core.client_auth import ClientSecretBasic
from accredit.core.effects import Flow
from accredit.core.flows import Failed, Obtained, Postponed, Surfaced
from accredit.core.registration import ClientRegistration
from accredit.core.secret import CallableSecret
from accredit.engine import Engine
from accredit.integrations._tokens import Tokens
from accredit.manager import AsyncTokenManager
from accredit.runtime.flight import Flight
from accredit.runtime.guarded_store import GuardedStore
from accredit.runtime.keeper import Keeper
from accredit.runtime.slot import Landing, Slot
from accredit.stores.contract import Store
from accredit.stores.memory import MemoryStore
from tests.simulation.kernel import START_WALL, Kernel
from tests.simulation.run import Run
from tests.simulation.waiting import Caller, SimulatedFlight

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")
_LONGEST_KEEPER_WAIT = 60.0
CHALLENGE = ('Bearer error="invalid_token"',)


class SimulatedClock:
    """The clocks of one process: what it ages on starts anywhere and never jumps, the wall clock may be anything."""

    def __init__(self, kernel: Kernel, offset: float) -> None:
        self._kernel = kernel
        self.offset = offset
        self.wall_offset = 0.0
        self.now: Callable[[], float] = lambda: kernel.now + offset

    def wall(self) -> float:
        """Return what this process takes for the time of day."""
        return self._kernel.now + START_WALL + self.wall_offset

    def wait(self, gate: object, seconds: float) -> bool:
        """Never be called: nothing blocks in a simulation."""
        raise AssertionError("something blocks on the clock")


class Replies:
    """The store of a process as its guard sees it: each verb gives the answer that came over the network, or fails."""

    in_process = False
    reply: object = None

    def _give(self, *_: object, **__: object) -> Any:
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    read = claim = publish = fail = suspect = cool = remove = endpoint_hold = hold_endpoint = _give

    def after_fork(self) -> None:
        """Do nothing."""

    close = after_fork


class SimulatedGuard(GuardedStore):
    """The real guard, asked in two halves: before an operation sets out, and when it has come back or has not."""

    def begin(self) -> bool:
        """Tell whether the store is to be asked."""
        return super()._may_ask()

    def end(self, replies: Replies, effect: effects.StoreEffect, reply: object) -> object:
        """Return what the flow is told."""
        replies.reply = reply
        return self.perform(effect)

    def _may_ask(self) -> bool:
        return True


class SimulatedKeeper(Keeper):
    """The real keeper's loop, without its thread."""

    process: Process

    def wake(self) -> None:
        """Look now."""
        self.poke()

    def poke(self) -> None:
        """Look again."""
        self._looks += 1
        self.process.kernel.after(0.0, self.process, self._look, self._looks)

    _looks = 0

    def _look(self, number: int) -> None:
        if number != self._looks or self._stopped or not self._slots:
            return
        due = min(self._renew_if_due(slot) for slot in list(self._slots))
        if number != self._looks:
            return
        wait = min(max(due - self._clock.now(), 0.0), _LONGEST_KEEPER_WAIT)
        self.process.kernel.after(wait, self.process, self._look, number)

    @property
    def needs_wake(self) -> bool:
        """Never: there is no thread to be missed."""
        return False


class SimulatedEngine(Engine):
    """The real engine; its flights are run by the kernel instead of by threads."""

    process: Process

    def _board(self, slot: Slot) -> Flight[Landing]:
        slot.flight = SimulatedFlight()
        return slot.flight

    def _owner(self) -> str:
        return self.process.draw_owner()

    def _take_off(
        self,
        slot: Slot,
        flight: Flight[Landing],
        owner: str,
        flow: Callable[[], Flow[Obtained | Failed | Postponed] | Flow[Obtained | Failed | Postponed | Surfaced]],
    ) -> None:
        run = Run(self.process, flow, slot, owner, flight)
        self.process.kernel.after(0.0, self.process, run.begin)

    def _beside(self, origin: str, flow: Callable[[], Flow[None]]) -> Flight[None]:
        flight: Flight[None] = SimulatedFlight()
        run = Run(self.process, flow, None, "", flight)
        self.process.kernel.after(0.0, self.process, run.begin)
        return flight


class Process:
    """One process."""

    def __init__(self, world: World, name: str, settings: dict[str, Any], *, schema: int = 1) -> None:
        self.world = world
        self.kernel: Kernel = world.kernel
        self.name = name
        self.alive = True
        self.resumes_at = 0.0
        #: Seconds that it has been suspended, all in all.
        self.suspended = 0.0
        self.schema = schema
        #: Mean seconds between two visits of callers.
        self.pace = 1.0
        self.secret: str = settings.pop("secret")
        self.secrets_had = [self.secret]
        #: When it last went on after a suspension.
        self.resumed_at = 0.0
        chance = self.kernel.random
        self.clock = SimulatedClock(self.kernel, chance.uniform(-500.0, 500.0))
        self.registration = ClientRegistration(
            id="api", client_id="orders", client_auth=ClientSecretBasic(CallableSecret(self._read_secret)), **settings
        )
        shared = world.store is not None
        self.replies = Replies()
        store: Store = self.replies if shared else MemoryStore(clock=self.clock.now)
        self.manager = AsyncTokenManager(self.registration, store=store, clock=self.clock)
        engine = self.engine = SimulatedEngine(store=store, transport=_no_transport, clock=self.clock)
        engine.process = self
        engine._hooks = (self._hear,)
        engine._random.seed(chance.getrandbits(64))
        self.guard: SimulatedGuard | None = None
        if shared:
            self.guard = SimulatedGuard(
                self.replies, now=engine.now, random=engine._random.random, on_failure=engine.emit
            )
            engine.store = engine._driver._store = self.guard
        keeper = engine.keeper = SimulatedKeeper(self.clock, engine.renew_if_due)
        keeper.process = self
        engine._driver._tag_key = world.tag_key if world.shared_tags else chance.randbytes(32)
        self.manager._engine = engine
        self.manager._now = engine.now
        self.tokens = Tokens(self.manager)
        self.shared: dict[tuple[str, ...], Flight[Any]] = {}
        self.link = Link()
        self.server_link = Link()
        self.runs: set[Run] = set()
        self.callers: set[Caller] = set()
        self._owners = 0
        #: Effects performed so far, and what is to happen before which of them.
        self.effects = 0
        #: What is to happen when the next flight has landed, before its waiters go on.
        self.landing: Callable[[Process], None] | None = None
        #: Store operations that are on their way.
        self.asking = 0
        self.ambush: tuple[int, Callable[[Process], None]] | None = None

    def __repr__(self) -> str:
        return self.name

    def local(self, at: float) -> float:
        """Return a time of the kernel on the clock of this process."""
        return at + self.clock.offset

    def _read_secret(self) -> str:
        return self.secret

    def _hear(self, event: object) -> None:
        self.world.hear(self, event)

    def draw_owner(self) -> str:
        """Return a name for a flight, easy to read in a trace."""
        self._owners += 1
        return f"{self.name}.{self._owners}"

    def slot_of(self, scope: str | None) -> Slot:
        """Return the slot of an identity."""
        return self.manager._slot(None, scope, None, None, None)

    def give_secret(self, secret: str) -> None:
        """Mount another secret, unless it is older than the one there is."""
        if _age(secret) > _age(self.secret):
            self.secret = secret
            self.secrets_had.append(secret)

    def start(self, coroutine: Coroutine[Any, Any, T], done: Callable[[Caller], None]) -> Caller:
        """Start a task."""
        caller = Caller(self, coroutine, done)
        self.callers.add(caller)
        caller.step(None)
        return caller

    def kill(self) -> None:
        """End at once, whatever it was about to do."""
        self.alive = False
        for run in list(self.runs):
            run.abandon()
        for caller in list(self.callers):
            caller.coroutine.close()
        self.runs.clear()
        self.callers.clear()

    def suspend(self, seconds: float) -> None:
        """Stand still for a while."""
        until = self.kernel.now + seconds
        self.suspended += max(until - max(self.resumes_at, self.kernel.now), 0.0)
        self.resumes_at = max(self.resumes_at, until)
        self.resumed_at = self.resumes_at


class Link:
    """The way to a peer: how long it takes, and how much gets lost."""

    __slots__ = ("down", "late", "lost_after", "lost_before", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0005
        self.down = False
        #: How often a message never arrives, arrives and its answer does not, arrives much later than anybody waits.
        self.lost_before = 0.0
        self.lost_after = 0.0
        self.late = 0.0


def _age(secret: str) -> int:
    return int(secret.rpartition("-")[2])


def _no_transport() -> Any:
    raise AssertionError("a simulated process has no transport")
