"""A process of the fleet: the real manager, engine, guard and driver on virtual time.

Only four things are not real here: the clock, the threads (a flight is a generator that the kernel moves on), the
network, and where random bits come from. Callers are the real asynchronous face, its coroutines moved on by hand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from accredit.core import effects
from accredit.core.client_auth import ClientSecretBasic
from accredit.core.effects import Effect, Flow
from accredit.core.events import RecordRefused
from accredit.core.flows import Failed, Obtained, Surfaced
from accredit.core.identity import Identity
from accredit.core.messages import Failure, Response
from accredit.core.records import Record, Stored, StoreDown
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
from tests.simulation.shared_store import TIME_OUT

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


class Ask:
    """What a coroutine of a process waits for: a gate, for at most that many seconds (or just for time to pass)."""

    __slots__ = ("caller", "open", "seconds", "waiting")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.open = False
        self.waiting = True
        self.caller: Caller | None = None

    def __await__(self) -> Generator[Ask, None, None]:
        yield self

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Exist, for the protocol of gates."""
        raise AssertionError("nobody blocks on a gate here")

    def release(self) -> None:
        """Open the gate: the real flight does it when it settles."""
        self.open = True
        if self.waiting and self.caller is not None:
            self.caller.wake(self)


class SimulatedFlight(Flight[Any]):
    """The real flight; a waiter is a gate that the kernel knows."""

    __slots__ = ("waiters_at_most",)

    async def wait_async(self, seconds: float) -> bool:
        """Wait; tell whether the flight ended within that many seconds."""
        if self._done:
            return True
        ask = Ask(max(seconds, 0.0))
        with self._lock:
            self._gates[ask] = None
        await ask
        with self._lock:
            self._gates.pop(ask, None)
        return self._done


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
        flow: Callable[[], Flow[Obtained | Failed] | Flow[Obtained | Failed | Surfaced]],
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


class Caller:
    """A coroutine of a process, moved on by the kernel."""

    __slots__ = ("coroutine", "done", "error", "process", "result", "started", "suspended_before", "tag")

    def __init__(self, process: Process, coroutine: Coroutine[Any, Any, Any], done: Callable[[Caller], None]) -> None:
        self.process = process
        self.coroutine = coroutine
        self.done = done
        self.started = process.kernel.now
        self.suspended_before = process.suspended
        self.result: Any = None
        self.error: Exception | None = None
        self.tag: Any = None

    def step(self, _: object) -> None:
        """Go on until the next wait, or the end."""
        process = self.process
        try:
            ask: Ask = self.coroutine.send(None)
        except StopIteration as end:
            self.result = end.value
        except Exception as error:
            self.error = error
        else:
            ask.caller = self
            if ask.open:
                self.wake(ask)
            else:
                process.kernel.after(ask.seconds, process, self._time_out, ask)
            return
        process.callers.discard(self)
        self.done(self)

    def wake(self, ask: Ask) -> None:
        """Go on soon: the gate opened."""
        if ask.waiting:
            ask.waiting = False
            self.process.kernel.after(0.0, self.process, self.step, None)

    def _time_out(self, ask: Ask) -> None:
        if ask.waiting:
            ask.waiting = False
            self.step(None)


def sleep(seconds: float) -> Awaitable[None]:
    """Let time pass in a caller."""
    return Ask(seconds)


class Run:
    """One flow of a process: a flight, or something that runs beside."""

    __slots__ = (
        "_flow", "_pending", "_stack", "alone", "began", "ended", "excused", "flight", "floor", "found", "identity", "issued", "led",
        "owner", "process", "refused", "sends", "slot", "suspended_before", "suspects", "trace",
    )  # fmt: skip

    def __init__(
        self,
        process: Process,
        flow: Callable[[], Generator[Effect, object, Any]],
        slot: Slot | None,
        owner: str,
        flight: Flight[Any],
    ) -> None:
        self.process = process
        self.slot = slot
        self.owner = owner
        self.flight = flight
        self._flow = flow
        self._stack: list[tuple[Generator[Effect, object, Any], tuple[str, ...] | None]] = []
        self._pending: Effect | None = None
        self.identity: Identity | None = None if slot is None else slot.request.identity
        self.began = process.kernel.now
        self.suspended_before = process.suspended
        self.ended = False
        self.sends = 0
        self.issued = 0
        #: Whether a store gave it the lease, and the record that was there then.
        self.led = False
        self.found: Stored | None = None
        self.floor: int | None = None
        #: Whether it may renew a token that is not due: a caller wants another one, an API refused the one there is.
        self.excused = False
        self.suspects = False
        #: Whether the store did not answer, or had a record that was of no use: then it may go on alone.
        self.alone = False
        self.refused = False
        self.trace: list[Effect] | None = [] if process.world.keep_effects else None

    def begin(self) -> None:
        """Take off."""
        process = self.process
        self.began = process.kernel.now
        process.runs.add(self)
        self._stack.append((self._flow(), None))
        process.world.watch.took_off(self)
        self._advance(None)

    def abandon(self) -> None:
        """Be killed. A flow that yields while it is closed raises here."""
        self.ended = True
        for flow, _ in reversed(self._stack):
            flow.close()

    def _advance(self, answer: object) -> None:
        """Give the answer to the flow, and go on for as long as no time passes."""
        process = self.process
        while True:
            flow, key = self._stack[-1]
            try:
                effect = flow.send(answer)
            except StopIteration as end:
                self._stack.pop()
                if key is not None:
                    process.shared.pop(key).settle(end.value)
                    answer = end.value
                    continue
                self._land(end.value)
                return
            process.kernel.steps += 1
            process.effects += 1
            if self.trace is not None:
                self.trace.append(effect)
            ambush = process.ambush
            if ambush is not None and process.effects >= ambush[0]:
                process.ambush = None
                ambush[1](process)
                if not process.alive:
                    return
                # Stopped between two instructions: what comes next happens when the process goes on.
                self._pending = effect
                process.kernel.after(0.0, process, self._resume)
                return
            kind = type(effect)
            if kind in _AT_ONCE:
                if isinstance(effect, effects.Emit) and isinstance(effect.event, RecordRefused):
                    self.refused = True
                answer = process.engine._driver._perform(effect)
                continue
            answer = self._perform(effect)
            if answer is _LATER:
                return

    def _resume(self) -> None:
        effect, self._pending = self._pending, None
        assert effect is not None
        at_once = type(effect) in _AT_ONCE
        answer = self.process.engine._driver._perform(effect) if at_once else self._perform(effect)
        if answer is not _LATER:
            self._advance(answer)

    def _perform(self, effect: Effect) -> object:
        """Perform what may take time; return the answer, or that it comes later."""
        process = self.process
        world, kernel = process.world, process.kernel
        if isinstance(effect, effects.Pause):
            kernel.after(effect.seconds, process, self._advance, None)
            return _LATER
        if isinstance(effect, effects.Send):
            self._send(effect)
            return _LATER
        if isinstance(effect, effects.Share):
            flight = process.shared.get(effect.key)
            if flight is None:
                process.shared[effect.key] = SimulatedFlight()
                self._stack.append((effect.flow(), effect.key))
                return None
            process.start(_waited(flight, effect.timeout), lambda caller: self._advance(caller.result))
            return _LATER
        if process.guard is None:
            answer = process.engine._driver._perform(effect)
            world.watch.performed(self, effect, None, answer)
            return answer
        return self._ask_store(effect, process.guard)

    # -- the store ---------------------------------------------------------------------------------------

    def _ask_store(self, effect: effects.StoreEffect, guard: SimulatedGuard) -> object:
        process = self.process
        world, kernel, link = process.world, process.kernel, process.link
        if not guard.begin():
            world.watch.breaker_open(process)
            self._told(effect, StoreDown())
            return StoreDown()
        world.store_trips += 1
        process.asking += 1
        chance = kernel.random.random
        there = link.seconds * (0.5 + chance())
        back = link.seconds * (0.5 + chance())
        if link.down or (link.lost_before and chance() < link.lost_before):
            kernel.after(TIME_OUT, process, self._store_answered, effect, TimeoutError("no answer"))
            return _LATER
        if link.late and chance() < link.late:
            # It arrives when nobody waits any more; a process that has died meanwhile cannot take it back.
            kernel.after(TIME_OUT + 3.0 * chance(), None, self._store_applies, effect, None)
            kernel.after(TIME_OUT, process, self._store_answered, effect, TimeoutError("no answer"))
            return _LATER
        lost = bool(link.lost_after) and chance() < link.lost_after
        kernel.after(there, None, self._store_applies, effect, None if lost else back)
        if lost:
            kernel.after(TIME_OUT, process, self._store_answered, effect, TimeoutError("no answer"))
        return _LATER

    def _store_applies(self, effect: effects.StoreEffect, back: float | None) -> None:
        process = self.process
        world = process.world
        store = world.store
        assert store is not None
        reply: object
        try:
            node, reply = store.perform(process.name, process.schema, effect, world.kernel.now)
        except ConnectionError as error:
            reply = error
        else:
            world.watch.performed(self, effect, node, reply)
        if back is not None:
            world.kernel.after(back, process, self._store_answered, effect, reply)

    def _store_answered(self, effect: effects.StoreEffect, reply: object) -> None:
        guard = self.process.guard
        assert guard is not None
        self.process.asking -= 1
        answer = guard.end(self.process.replies, effect, reply)
        self._told(effect, answer)
        self._advance(answer)

    def _told(self, effect: effects.StoreEffect, answer: object) -> None:
        lines = self.process.kernel.lines
        if lines is not None:
            self.process.kernel.note(self.process.name, f"{self.owner or '-'} {describe(effect)} -> {told(answer)}")
        if isinstance(answer, StoreDown):
            self.alone = True

    # -- the authorization server -------------------------------------------------------------------------

    def _send(self, effect: effects.Send) -> None:
        process = self.process
        world, kernel, link = process.world, process.kernel, process.server_link
        is_token = effect.request.method == "POST"
        if is_token:
            self.sends += 1
            world.watch.sends(self, effect)
        if kernel.lines is not None:
            kernel.note(process.name, f"{self.owner} asks {effect.request.url} (at most {effect.timeout:.2f} s)")
        chance = kernel.random.random
        if link.down:
            seconds = min(0.001 if chance() < 0.5 else effect.timeout, effect.timeout)
            kernel.after(seconds, process, self._server_answered, Failure("connect", "partition"))
            return
        there = link.seconds * (0.5 + chance())
        if link.lost_before and chance() < link.lost_before:
            kernel.after(effect.timeout, process, self._server_answered, Failure("deadline", "no answer in time"))
            return
        kernel.after(there, None, self._arrives, effect, kernel.now + effect.timeout)

    def _arrives(self, effect: effects.Send, until: float) -> None:
        process = self.process
        world, kernel, link = process.world, process.kernel, process.server_link
        reply = world.server.receive(effect.request, max(until - kernel.now, 0.0))
        if reply.token is not None:
            world.watch.issued(self, reply.token)
        chance = kernel.random.random
        if link.lost_after and chance() < link.lost_after:
            # Done, and the answer is lost: a broken connection now, or silence to the end.
            outcome: Response | Failure = Failure("read", "connection lost")
            when = kernel.now + reply.seconds if chance() < 0.5 else until
            kernel.at(min(when, until), process, self._server_answered, outcome)
            return
        when = kernel.now + reply.seconds + link.seconds * (0.5 + chance())
        if when > until:
            kernel.at(until, process, self._server_answered, Failure("deadline", "no answer in time"))
        else:
            kernel.at(when, process, self._server_answered, reply.outcome)

    def _server_answered(self, outcome: Response | Failure) -> None:
        kernel = self.process.kernel
        if kernel.lines is not None:
            what = outcome.kind if isinstance(outcome, Failure) else f"HTTP {outcome.status}"
            kernel.note(self.process.name, f"{self.owner} is answered: {what}")
        self._advance(outcome)

    # -- the end ------------------------------------------------------------------------------------------

    def _land(self, result: Any) -> None:
        process = self.process
        self.ended = True
        process.runs.discard(self)
        if self.slot is None:
            self.flight.settle(None)
            return
        engine = process.engine
        process.world.watch.lands(self, result)
        engine._land(self.slot, self.flight, result, process.local(self.began))
        process.world.watch.landed(self, result)


_LATER = object()
_AT_ONCE = (
    effects.Now,
    effects.Random,
    effects.Nonce,
    effects.Emit,
    effects.ReadSecret,
    effects.LoadMetadata,
    effects.KeepMetadata,
)


def _age(secret: str) -> int:
    return int(secret.rpartition("-")[2])


async def _waited(flight: Flight[Any], seconds: float) -> Any:
    return flight.outcome if await flight.wait_async(seconds) else None


def _no_transport() -> Any:
    raise AssertionError("a simulated process has no transport")


def describe(effect: object) -> str:
    """Return a readable line for a store effect."""
    match effect:
        case effects.Claim(identity, newer_than, _, _, lease):
            newer = "" if newer_than is None else f", newer than {newer_than >> 32}"
            return f"claims {_scope(identity)}{newer} for {lease:.2f} s"
        case effects.Publish(identity, _, record, remaining, _, _):
            return f"publishes {record.value} of {_scope(identity)}, {remaining:.1f} s left"
        case effects.Fail(identity, _, hold):
            return f"fails {_scope(identity)}" + ("" if hold is None else f" and holds {hold.seconds:.2f} s")
        case effects.Suspect(identity, generation, origin):
            return f"suspects generation {generation >> 32} of {_scope(identity)} ({origin or 'reported'})"
        case effects.Cool(identity, origin, seconds):
            return f"cools {_scope(identity)} for {origin}, {seconds:.0f} s"
        case effects.Remove(identity):
            return f"removes {_scope(identity)}"
        case effects.EndpointHold():
            return "looks for a throttle"
        case effects.HoldEndpoint(_, hold):
            return f"throttles for {hold.seconds:.2f} s"
        case _:
            return type(effect).__name__


def told(answer: object) -> str:
    """Return a readable answer of the store."""
    if isinstance(answer, StoreDown):
        return "no answer"
    directive = getattr(answer, "directive", None)
    if directive is not None:
        stored = getattr(answer, "stored", None)
        there = "" if stored is None else f", there is {_record(stored.record)} ({stored.remaining:.1f} s left)"
        return f"{type(directive).__name__}{there}"
    record = getattr(answer, "record", None)
    return f"{_record(record)} is kept" if isinstance(record, Record) else str(answer) if answer is not None else "done"


def _record(record: Record) -> str:
    return f"{record.value} of generation {record.generation >> 32}"


def _scope(identity: Identity) -> str:
    return SCOPES.get(identity.encoded, identity.fingerprint.hex()[:6])


#: For the trace alone: what scope an identity stands for.
SCOPES: dict[bytes, str] = {}
