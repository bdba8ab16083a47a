"""The engine: runs flows in production, once for however many callers wait.

It answers each effect of a flow with a blocking call on a worker thread. Callers get the token at once, or only
wait (:mod:`accredit.runtime.flight`). Both faces of :mod:`accredit.manager` stand on one engine.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
import threading
from collections.abc import Callable
from itertools import islice
from typing import Literal

from accredit.clock import Clock, SystemClock
from accredit.core import effects
from accredit.core.effects import Flow
from accredit.core.events import (
    Event,
    FlightFailed,
    SameTokenAgain,
    TokenObtained,
    TokenRefused,
)
from accredit.core.flows import (
    COOL_DOWN,
    Failed,
    Obtained,
    Past,
    Postponed,
    Surfaced,
    cool_down,
    obtain,
    renew_refused,
)
from accredit.core.records import Stored, is_newer
from accredit.core.registration import TokenRequest
from accredit.core.strict import origin_of
from accredit.core.token import AccessToken
from accredit.errors import (
    AccreditError,
    AuthorizationServerError,
    ConfigurationError,
    UnreachableError,
)
from accredit.instrumentation import EventLog, Hook
from accredit.runtime import forks
from accredit.runtime.driver import Driver, Transport
from accredit.runtime.faults import defect, interruption, say
from accredit.runtime.flight import Flight
from accredit.runtime.guarded_store import GuardedStore
from accredit.runtime.keeper import Keeper
from accredit.runtime.republish import Republisher
from accredit.runtime.slot import Landing, Slot, make_token
from accredit.runtime.workers import Workers
from accredit.stores.contract import ReportingStore, Store

Renewal = Literal["thread", "inline"]
_SECRET_LOOK_INTERVAL = 1.0
_MOST_COOLING = 64
_BATCHES = 64


class Engine:
    """One cache and one flight per identity, for threads and for tasks of any event loop."""

    def __init__(
        self,
        *,
        store: Store,
        transport: Callable[[], Transport],
        clock: Clock | None = None,
        renewal: Renewal = "thread",
        max_entries: int = 10_000,
        hooks: tuple[Hook, ...] = (),
    ) -> None:
        """Put the parts together; nothing is opened and no thread starts."""
        self.clock: Clock = clock or SystemClock()
        self.now: Callable[[], float] = self.clock.now
        self.slots: dict[bytes, Slot] = {}
        self._hooks: tuple[Hook, ...] = (EventLog(self.now), *hooks)
        self._inline = renewal == "inline"
        self.max_entries: int = max_entries
        self._lock = threading.Lock()
        self._workers = Workers()
        self._random = random.Random()  # noqa: S311 - jitter and generation bits, no secret
        self._closed = False
        self.store: GuardedStore = GuardedStore(
            store,
            now=self.now,
            random=self._random.random,
            on_failure=self.emit,
            on_return=self._store_returned,
        )
        if isinstance(store, ReportingStore):
            store.report_to(self.emit)
        self._driver = Driver(
            clock=self.clock,
            store=self.store,
            transport=transport,
            chance=self._random,
            emit=self.emit,
            threads=not self._inline,
        )
        self._republisher = Republisher(
            self._all_slots,
            self.store,
            self.clock,
            submit=lambda job: self._workers.submit("store", job),
            random=self._random.random,
        )
        self.keeper: Keeper = Keeper(self.clock, self.renew_if_due)
        forks.register(self)

    # -- slots ---------------------------------------------------------------------------------------

    def slot_for(self, request: TokenRequest) -> Slot:
        """Return the slot of that identity; its registration is from now on the one of ``request``."""
        key = request.identity.fingerprint
        with self._lock:
            slot = self.slots.get(key)
            if slot is None:
                self._make_room()
                slot = self.slots[key] = Slot(request, _origin(request))
            elif slot.request is not request and slot.request.registration is not request.registration:
                # A repository may change at run time (another secret, other time-outs) under the same identity.
                slot.request = request
            return slot

    def _make_room(self) -> None:
        if len(self.slots) < self.max_entries:
            return
        # A batch at a time, those looked up first; what is in flight or kept fresh stays, even if that is too many.
        idle = (item for item in self.slots.items() if item[1].flight is None and not item[1].kept)
        for key, slot in list(islice(idle, 1 + self.max_entries // _BATCHES)):
            slot.evicted = True
            # Whoever still holds on to the slot holds no token with it; the store has that.
            slot.fresh = slot.token = None
            del self.slots[key]

    # -- callers -------------------------------------------------------------------------------------

    def acquire(self, slot: Slot, newer_than: int | None = None) -> AccessToken | Flight[Landing]:
        """Return the token at once, or the flight to wait for. Starts the renewal that is due.

        Raises:
            AuthorizationServerError: no token is usable and no request may be made yet.
            ConfigurationError: the manager is closed.

        """
        if self.keeper.needs_wake:
            self.keeper.wake()
        with self._lock:
            self._check_open()
            now = self.now()
            token = self._candidate(slot, newer_than, now)
            # A suspect token is worth waiting for a better one, unless trying for one has just failed.
            waits = token is None or (slot.suspect and (slot.flight is not None or now >= slot.retry_at))
            if token is not None and not waits:
                if slot.flight is not None or now < max(token.renew_at, slot.retry_at):
                    if not slot.suspect:
                        slot.hand_out(token)
                    return token
            elif slot.flight is not None:
                return slot.flight
            if token is None:
                self._check_hold(slot, now)
            flight = self._board(slot)
            over = slot.generation() if slot.usable(now) is None else None
            floor = newer_than if over is not None else _newest(slot.generation(), newer_than)
            past = _past(slot, now)
        # Half of the time between the renewal point and the end is for a store that is away to come back.
        spare = 0.0 if token is None or waits or self.store.in_process else _halfway(token) - now
        owner = self._owner()
        self._take_off(
            slot,
            flight,
            owner,
            lambda: obtain(slot.request, newer_than=floor, owner=owner, past=past, spare=spare, over=over),
        )
        if token is None or waits:
            return flight
        # Inline, the flight has landed by now.
        return (slot.usable(self.now()) if flight.done else None) or token

    def _candidate(self, slot: Slot, newer_than: int | None, now: float) -> AccessToken | None:
        """Return the token that would do if nothing is to be renewed. Called under the lock."""
        token = slot.usable(now)
        if token is None and slot.flight is None and newer_than is None:
            return self._from_memory(slot)
        return token if token is not None and is_newer(token.generation, newer_than) else None

    def refused(self, slot: Slot, token: AccessToken, origin: str) -> AccessToken | Flight[Landing] | None:
        """Deal with a 401 that an API at ``origin`` gave to ``token``.

        Returns:
            a newer token, the flight that will bring one, or None when the 401 is to reach the caller.

        """
        with self._lock:
            self._check_open()
            now = self.now()
            held = slot.usable(now)
            if held is not None and is_newer(held.generation, token.generation):
                return slot.flight if slot.suspect and slot.flight is not None else held
            flight = None
            if not slot.is_cooling(origin, now):
                slot.mark_suspect(token.generation)
                if slot.flight is not None:
                    return slot.flight
                if now < slot.retry_at:
                    return None
                flight = self._board(slot)
        if flight is None:
            self.emit(
                TokenRefused(
                    slot.request.registration.id,
                    slot.request.principal,
                    origin,
                    "cooling",
                )
            )
            return None
        owner = self._owner()
        age = now - token.received_at
        past = _past(slot, now)
        self._take_off(
            slot,
            flight,
            owner,
            lambda: renew_refused(
                slot.request,
                generation=token.generation,
                age=age,
                origin=origin,
                owner=owner,
                past=past,
            ),
        )
        return flight

    def refused_again(self, slot: Slot, origin: str) -> None:
        """Remember that an API refused a new token too: no renewal for its 401 until a cool-down has passed."""
        with self._lock:
            if slot.cooling is None or len(slot.cooling) >= _MOST_COOLING:
                slot.cooling = {}
            slot.cooling[origin] = self.now() + COOL_DOWN
        self._beside(slot.origin, lambda: cool_down(slot.request, origin=origin))

    def suspect(self, slot: Slot, token: AccessToken) -> None:
        """Mark a token as refused; the next caller waits for a newer one, if one can be had."""
        with self._lock:
            if not slot.mark_suspect(token.generation):
                return
            slot.retry_at = 0.0
        identity = slot.request.identity
        self._beside(
            slot.origin,
            lambda: _drop(effects.mark_suspect(identity, generation=token.generation, origin="")),
        )

    def remove(self, slot: Slot) -> Flight[None]:
        """Forget a token here and in the store."""
        with self._lock:
            slot.forget()
        if slot.kept:
            self.keeper.poke()
        identity = slot.request.identity
        return self._beside(slot.origin, lambda: effects.remove(identity))

    def peek(self, slot: Slot) -> AccessToken | None:
        """Return the usable token of this process, if there is one; no I/O."""
        with self._lock:
            self._check_open()
            return slot.usable(self.now()) or self._from_memory(slot)

    def keep(self, slot: Slot) -> Slot:
        """Renew a slot on schedule until the keeper releases it; return the slot that is kept.

        Raises:
            ConfigurationError: the manager is closed, or must not start threads.

        """
        if self._inline:
            raise ConfigurationError(
                "keep_fresh() needs a thread, and renewal is 'inline'.",
                advice="Call get() where a token is needed, or use renewal='thread'.",
                key="renewal",
            )
        with self._lock:
            self._check_open()
            if slot.evicted:
                # It had to make room since it was looked up; the one in the table is the one that callers use.
                slot = self.slots.setdefault(slot.request.identity.fingerprint, slot)
                slot.evicted = False
            slot.kept = True
        self.keeper.keep(slot)
        return slot

    def renew_if_due(self, slot: Slot) -> float:
        """Start the renewal that is due, without waiting; return the local time of the next look."""
        with contextlib.suppress(AccreditError):  # Held: the next look is when the hold ends.
            self.acquire(slot)
        with self._lock:
            if slot.flight is not None:
                return self.now() + slot.request.registration.deadline
            token = slot.usable(self.now())
            due = slot.retry_at if token is None or slot.suspect else max(token.renew_at, slot.retry_at)
            return max(due, self.now() + 0.01)

    def landed(self, slot: Slot, flight: Flight[Landing], newer_than: int | None) -> AccessToken | None:
        """Return what a flight brought to one waiter; None to look again.

        Raises:
            AccreditError: a fresh one for each waiter, when the flight failed and no token is usable.

        """
        outcome = flight.outcome
        if isinstance(outcome, AccessToken):
            # A process that was stopped after the flight landed may come by when the token is over.
            fit = is_newer(outcome.generation, newer_than) and self.now() < outcome.usable_until
            return outcome if fit else None
        if newer_than is None:
            with self._lock:
                token = slot.usable(self.now())
            if token is not None:
                return token
        if isinstance(outcome, AccreditError):
            raise outcome.fresh()
        return None

    def late(self, slot: Slot, seconds: float, newer_than: int | None) -> AccessToken:
        """Return what a caller gets whose time is up: a suspect token, if there is one; else raise UnreachableError."""
        with self._lock:
            token = slot.usable(self.now())
        if token is not None and is_newer(token.generation, newer_than):
            return token
        registration = slot.request.registration
        raise UnreachableError(
            f"no token for registration {registration.id!r} within {seconds:g} s.",
            advice="Check that the authorization server is up and reachable, or allow more time.",
            endpoint=registration.token_endpoint or registration.server,
        )

    def emit(self, event: Event) -> None:
        """Tell the hooks; one that raises hurts nobody."""
        for hook in self._hooks:
            try:
                hook(event)
            except Exception as error:
                say(logging.WARNING, "an event hook raised %s", type(error).__name__)

    def close(self) -> None:
        """Stop renewing and give back what is open. Flights that are up end by themselves, within their deadline."""
        if self._shut():
            self._give_everything_back()

    def close_beside(self) -> Flight[None]:
        """Do the same without waiting for anything on this thread; the flight ends when it is done."""
        flight: Flight[None] = Flight()

        def fly() -> None:
            try:
                self._give_everything_back()
            finally:
                flight.settle(None)

        if not self._shut():
            flight.settle(None)
        elif self._inline:
            fly()
        else:
            self._workers.submit("", fly)
        return flight

    def _shut(self) -> bool:
        """Let nobody in any more and interrupt what is under way; False when that was done before."""
        with self._lock:
            if self._closed:
                return False
            self._closed = True
            for slot in self.slots.values():
                slot.fresh = None  # the way past this lock
        self.keeper.stop()
        self._driver.close()
        return True

    def _give_everything_back(self) -> None:
        self.keeper.join()
        self.store.close()

    def after_fork(self) -> None:
        """Replace, in a forked child, every lock and thread; tokens stay, flights of the parent do not."""
        self._lock = threading.Lock()
        self._workers = Workers()
        self._random.seed()
        for slot in self.slots.values():
            slot.flight = None
            if slot.kept:
                # The parent's keeper is not here: the next use has to come by and start one.
                slot.fresh = None
        self._driver.after_fork()
        self.store.after_fork()
        self._republisher.after_fork()
        self.keeper.after_fork()

    # -- flights -------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigurationError(
                "the token manager is closed.",
                advice="Keep it open for as long as calls are made.",
            )

    def _check_hold(self, slot: Slot, now: float) -> None:
        held = slot.held
        if held is None or now >= slot.retry_at:
            return
        if held.credential and now - slot.looked_at >= _SECRET_LOOK_INTERVAL:
            # The source may give another secret by now: one flight looks, and makes no request if it does not.
            slot.looked_at = now
            return
        error = held.error
        raise (error.held_for(slot.retry_at - now) if isinstance(error, AuthorizationServerError) else error.fresh())

    def _from_memory(self, slot: Slot) -> AccessToken | None:
        """Take a token in from a store that answers from memory. Called under the lock."""
        if not self.store.in_process:
            return None
        now = self.now()
        found = self.store.read(slot.request.identity)
        if not isinstance(found, Stored) or found.suspect:
            return None
        token, _ = make_token(
            Obtained(found, now, "store"),
            slot,
            jitter=self._random.random(),
            clock=self.now,
            wall=self.clock.wall(),
        )
        if now >= token.usable_until:
            return None
        slot.adopt(token)
        return token

    def _board(self, slot: Slot) -> Flight[Landing]:
        slot.flight = Flight()
        return slot.flight

    def _owner(self) -> str:
        # Drawn per flight, so that a forked child can never be taken for its parent.
        return os.urandom(12).hex()

    def _take_off(
        self,
        slot: Slot,
        flight: Flight[Landing],
        owner: str,
        flow: Callable[[], Flow[Obtained | Failed | Postponed] | Flow[Obtained | Failed | Postponed | Surfaced]],
    ) -> None:
        def fly() -> None:
            began = self.now()
            try:
                result: Obtained | Failed | Postponed | Surfaced = self._driver.run(flow())
            except Exception as error:
                result = Failed(defect(error), 1.0)
                self._give_back(slot, owner)
            except BaseException as error:
                # An exit or an interrupt (of a secret function, of a caller whose own thread flies) must leave no
                # flight behind that never lands, and no lease that others wait for.
                self._give_back(slot, owner)
                self._land(slot, flight, Failed(interruption(error), 0.0), began)
                raise
            self._land(slot, flight, result, began)

        if self._inline:
            fly()
        else:
            self._workers.submit(slot.origin, fly)

    def _give_back(self, slot: Slot, owner: str) -> None:
        self.store.perform(effects.Fail(slot.request.identity, owner, None))

    def _land(
        self,
        slot: Slot,
        flight: Flight[Landing],
        result: Obtained | Failed | Postponed | Surfaced,
        began: float,
    ) -> None:
        event: Event
        registration, principal = slot.request.registration.id, slot.request.principal
        events: list[Event] = []
        with self._lock:
            now = self.now()
            mine = slot.flight is flight
            landing: Landing
            if isinstance(result, Obtained):
                token, progress = make_token(
                    result,
                    slot,
                    jitter=self._random.random(),
                    clock=self.now,
                    wall=self.clock.wall(),
                )
                landing = token
                slot.adopt(token)
                if self._closed:
                    slot.fresh = None
                events.append(
                    TokenObtained(
                        registration,
                        principal,
                        result.source,
                        token.lifetime,
                        seconds=now - began,
                    )
                )
                if not progress:
                    events.append(SameTokenAgain(registration, principal))
            elif isinstance(result, Failed):
                landing = result.error
                slot.fail(result, now)
                events.append(FlightFailed(registration, principal, result.error, seconds=now - began))
            elif isinstance(result, Postponed):
                landing = result
                slot.retry_at = now + result.seconds
            else:
                landing = result
                slot.clear_suspicion()
            if mine:
                slot.flight = None
        try:
            for event in events:
                self.emit(event)
        finally:
            flight.settle(landing)
            if slot.kept:
                self.keeper.poke()

    def _store_returned(self, since: float) -> None:
        if not self._inline and not self.store.in_process and not self._closed:
            self._republisher.note_return(since)

    def _all_slots(self) -> list[Slot]:
        with self._lock:
            return list(self.slots.values())

    def _beside(self, origin: str, flow: Callable[[], Flow[None]]) -> Flight[None]:
        """Run a flow that nobody has to wait for; at once when it needs no I/O."""
        flight: Flight[None] = Flight()

        def fly() -> None:
            try:
                self._driver.run(flow())
            except Exception as error:
                defect(error)
            finally:
                flight.settle(None)

        if self._inline or self.store.in_process:
            fly()
        else:
            self._workers.submit(origin, fly)
        return flight


def _past(slot: Slot, now: float) -> Past:
    held = slot.held
    rest = slot.retry_at - now
    if held is None or not held.credential or rest <= 0:
        return Past(slot.failures)
    return Past(slot.failures, Failed(held.error, rest, held.credential, counts=False))


def _halfway(token: AccessToken) -> float:
    return (token.renew_at + token.usable_until) / 2.0


def _newest(generation: int | None, other: int | None) -> int | None:
    if generation is None or other is None:
        return other if generation is None else generation
    return other if is_newer(other, generation) else generation


def _drop(flow: Flow[object]) -> Flow[None]:
    yield from flow


def _origin(request: TokenRequest) -> str:
    registration = request.registration
    # One text for all identities of a server.
    return sys.intern(origin_of(registration.token_endpoint or registration.server))
