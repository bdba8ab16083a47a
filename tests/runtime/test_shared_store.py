"""What a store that other processes share asks of the engine: leases that are kept up, trouble that is sat out."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from accredit import MemoryStore, TokenManager
from accredit.core import effects
from accredit.core.records import Claimed, Lead, Satisfied, Stored, StoreDown, Wait
from accredit.core.registration import token_request_for
from accredit.devserver import DevServer
from accredit.errors import StoreError
from accredit.instrumentation import FlightFailed, StoreFailed, TokenObtained
from accredit.runtime.guarded_store import ALERT_SECONDS, FAILURES_UNTIL_OPEN, OPEN_SECONDS, GuardedStore
from accredit.runtime.leases import EXTEND_AFTER, LEASE_SECONDS, Leases
from accredit.testing.clock import SteerableClock
from tests.runtime.support import Events, JumpClock, eventually, flying, registration
from tests.runtime.test_guarded_store import Faulty, boom

Make = Callable[..., TokenManager]


def shared(faults: dict[str, Callable[[], object]] | None = None) -> Faulty:
    return Faulty({} if faults is None else faults, in_process=False)


# ---- leases -------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> SteerableClock:
    return SteerableClock()


class Claims:
    """Answers claims, and remembers them."""

    def __init__(self, answer: object = None) -> None:
        self.answer = answer or Claimed(None, Lead())
        self.seen: list[effects.Claim] = []
        self.entered = threading.Semaphore(0)
        self.hold: threading.Event | None = None

    def __call__(self, claim: effects.Claim) -> object:
        self.seen.append(claim)
        self.entered.release()
        if self.hold is not None:
            assert self.hold.wait(30)
        return self.answer


def claim_of(owner: str, lease: float = 6.0) -> effects.Claim:
    from accredit.testing.store_contract import make_identity

    return effects.Claim(make_identity(), None, "tag", owner, lease)


def test_a_lease_is_extended_for_as_long_as_it_is_kept(clock: SteerableClock) -> None:
    claims = Claims()
    leases = Leases(clock, claims)
    claim = claim_of("a")
    leases.keep(claim)
    for number in range(1, 6):
        clock.wait_for_waiters(1)
        clock.advance(6.0 * EXTEND_AFTER)
        assert claims.entered.acquire(timeout=30)
        assert claims.seen == [claim] * number
    leases.let_go("a")
    eventually(lambda: leases._thread is None, "the end of the thread")
    assert len(claims.seen) == 5


@pytest.mark.parametrize("answer", [Claimed(None, Wait(3.0)), Claimed(None, Satisfied())], ids=["lost", "satisfied"])
def test_a_lease_that_is_lost_is_not_fought_for(clock: SteerableClock, answer: Claimed) -> None:
    claims = Claims(answer)
    leases = Leases(clock, claims)
    leases.keep(claim_of("a"))
    clock.wait_for_waiters(1)
    clock.advance(2.0)
    eventually(lambda: leases._thread is None, "the end of the thread")
    assert len(claims.seen) == 1


def test_an_extension_that_fails_is_tried_again(clock: SteerableClock) -> None:
    claims = Claims(StoreDown())
    leases = Leases(clock, claims)
    leases.keep(claim_of("a"))
    for _ in range(3):
        clock.wait_for_waiters(1)
        clock.advance(2.0)
        assert claims.entered.acquire(timeout=30)
    leases.let_go("a")
    eventually(lambda: leases._thread is None, "the end of the thread")


def test_nothing_is_extended_after_it_was_let_go(clock: SteerableClock) -> None:
    """Letting go waits for the extension on its way: one that came later would take the lease for nobody."""
    claims = Claims()
    claims.hold = threading.Event()
    leases = Leases(clock, claims)
    leases.keep(claim_of("a"))
    clock.wait_for_waiters(1)
    clock.advance(2.0)
    assert claims.entered.acquire(timeout=30)
    gone = threading.Event()
    letting_go = threading.Thread(target=lambda: (leases.let_go("a"), gone.set()))
    letting_go.start()
    assert not gone.wait(0.05)
    claims.hold.set()
    assert gone.wait(30)
    letting_go.join()
    eventually(lambda: leases._thread is None, "the end of the thread")
    assert len(claims.seen) == 1


def test_one_thread_extends_many_and_a_new_one_is_not_late(clock: SteerableClock) -> None:
    claims = Claims()
    leases = Leases(clock, claims)
    leases.keep(claim_of("long", 300.0))
    clock.wait_for_waiters(1)
    leases.keep(claim_of("short", 3.0))
    eventually(lambda: clock.next_due is not None and clock.next_due <= clock.now() + 1.0, "the shorter wait")
    clock.advance(1.0)
    assert claims.entered.acquire(timeout=30)
    assert [claim.owner for claim in claims.seen] == ["short"]
    for owner in ("long", "short", "never kept"):
        leases.let_go(owner)
    eventually(lambda: leases._thread is None, "the end of the thread")


def test_a_forked_child_extends_nothing_of_its_parent(clock: SteerableClock) -> None:
    leases = Leases(clock, Claims())
    leases.keep(claim_of("a"))
    clock.wait_for_waiters(1)
    thread = leases._thread
    leases.after_fork()
    assert (leases._kept, leases._thread) == ({}, None)
    clock.advance(2.0)
    assert thread is not None
    thread.join(30)
    assert not thread.is_alive()


def test_where_no_thread_can_be_had_the_lease_just_runs(clock: SteerableClock, monkeypatch: Any) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    leases = Leases(clock, Claims())
    leases.keep(claim_of("a"))
    leases.let_go("a")
    assert leases._kept == {}


def test_a_flight_keeps_its_lease_while_the_server_takes_its_time(server: DevServer, make_manager: Make) -> None:
    """Longer than the lease: without extension a second process would ask, too."""
    clock = SteerableClock()
    store = shared()
    store._store = MemoryStore(clock=clock.now)
    manager = make_manager(registration(server, deadline=300.0), store=store, clock=clock)
    server.hold()
    taken = threading.Thread(target=manager.get)
    taken.start()
    server.wait_for_waiting(1)
    for _ in range(9):
        clock.wait_for_waiters(2)  # the caller, and the one that extends
        before = len(store.asked)
        clock.advance(LEASE_SECONDS * EXTEND_AFTER)
        eventually(lambda before=before: len(store.asked) > before, "an extension")  # type: ignore[misc]
    identity = token_request_for(registration(server, deadline=300.0)).identity
    other = store._store.claim(identity, newer_than=None, credential="", owner="another", lease=5.0)
    assert isinstance(other.directive, Wait)
    server.release()
    taken.join(30)
    assert store.asked.count("claim") == 10
    assert server.count("/token") == 1
    assert manager._engine._driver._leases is not None
    assert manager._engine._driver._leases._kept == {}


def test_a_flight_that_a_defect_ends_lets_go(server: DevServer, make_manager: Make, monkeypatch: Any) -> None:
    manager = make_manager(registration(server), store=shared())
    monkeypatch.setattr(type(manager._engine._driver), "_send", lambda *_: 1 / 0)
    with pytest.raises(Exception, match="internal error"):
        manager.get()
    assert manager._engine._driver._leases is not None
    assert manager._engine._driver._leases._kept == {}


def test_inline_and_in_process_there_is_no_extra_thread(server: DevServer, make_manager: Make) -> None:
    assert make_manager(registration(server), store=shared(), renewal="inline")._engine._driver._leases is None
    assert make_manager(registration(server))._engine._driver._leases is None


# ---- a store that is away -----------------------------------------------------------------------------------


def test_while_the_store_is_away_a_renewal_waits_for_it_and_then_goes_alone(
    server: DevServer, make_manager: Make
) -> None:
    clock, events = JumpClock(), Events()
    store = shared()
    manager = make_manager(registration(server), store=store, clock=clock, on_event=events)
    token = manager.get()
    store.faults = dict.fromkeys(("claim", "publish", "fail", "endpoint_hold", "read"), boom)
    clock.make_renewable(token)
    for _ in range(5):
        assert manager.get() == token
        eventually(lambda: flying(manager) == 0, "the end of the flight")
        clock.shift += 1.1
    assert server.count("/token") == 1
    assert events.of(FlightFailed) == []
    clock.make_urgent(token)
    assert manager.get() == token
    eventually(lambda: manager.get() != token, "a new token")
    assert server.count("/token") == 2


def test_who_asks_for_a_new_token_is_not_put_off(server: DevServer, make_manager: Make) -> None:
    clock = JumpClock()
    manager = make_manager(registration(server), store=shared(dict.fromkeys(("claim", "publish"), boom)), clock=clock)
    token = manager.get()
    clock.make_renewable(token)
    assert manager.renew() != token


def test_an_api_that_refuses_the_token_is_reason_enough_to_go_alone(server: DevServer, make_manager: Make) -> None:
    clock = JumpClock()
    manager = make_manager(registration(server), store=shared(dict.fromkeys(("claim", "publish"), boom)), clock=clock)
    token = manager.get()
    clock.make_renewable(token)
    manager.suspect(token)
    assert manager.get() != token


# ---- a store that comes back --------------------------------------------------------------------------------


@pytest.fixture
def away(server: DevServer, make_manager: Make) -> tuple[TokenManager, Faulty, JumpClock]:
    """Give a manager with three tokens whose store is away, and left alone."""
    clock, store = JumpClock(), shared()
    manager = make_manager(registration(server), store=store, clock=clock)
    for principal in ("alice", "bob"):
        manager.get(principal=principal)
    store.faults = dict.fromkeys(("claim", "publish", "fail", "read", "remove"), boom)
    manager.get()
    for _ in range(FAILURES_UNTIL_OPEN):
        manager.remove(principal="nobody")
    return manager, store, clock


def return_of(store: Faulty, clock: JumpClock, manager: TokenManager) -> None:
    store.faults = {}
    clock.shift += OPEN_SECONDS * 1.3
    manager.remove(principal="nobody")
    eventually(lambda: manager._engine._workers._busy == {}, "the end of what is brought back")


def test_tokens_are_brought_back_once_under_their_generation(away: tuple[TokenManager, Faulty, JumpClock]) -> None:
    manager, store, clock = away
    store._store = MemoryStore()  # it comes back empty
    store.asked.clear()
    return_of(store, clock, manager)
    slots = [slot for slot in manager._engine.slots.values() if slot.token is not None]
    assert len(slots) == 3
    for slot in slots:
        token, found = slot.token, store._store.read(slot.request.identity)
        assert token is not None
        assert found is not None
        assert (found.record.value, found.record.generation) == (token.value, token.generation)
        assert found.remaining <= token.ends_at - clock.now() + 1
    assert store.asked.count("publish") == 3
    return_of(store, clock, manager)
    assert store.asked.count("publish") == 3


def test_what_the_store_still_has_is_left_as_it_is(away: tuple[TokenManager, Faulty, JumpClock]) -> None:
    manager, store, clock = away
    slot = next(slot for slot in manager._engine.slots.values() if slot.request.principal == "alice")
    assert slot.token is not None
    store._store.suspect(slot.request.identity, generation=slot.token.generation, origin="")
    store.asked.clear()
    return_of(store, clock, manager)
    # Only what was obtained while it was away is missing there; a mark of suspicion stays.
    assert store.asked.count("publish") == 1
    found = store._store.read(slot.request.identity)
    assert found is not None
    assert found.suspect


def test_a_token_that_an_api_refused_is_not_brought_back(away: tuple[TokenManager, Faulty, JumpClock]) -> None:
    manager, store, clock = away
    for slot in manager._engine.slots.values():
        if slot.token is not None:
            slot.mark_suspect(slot.token.generation)
    store._store = MemoryStore()
    store.asked.clear()
    return_of(store, clock, manager)
    assert "publish" not in store.asked


@pytest.mark.parametrize("verb", ["read", "publish"])
def test_bringing_back_stops_when_the_store_fails_again(
    away: tuple[TokenManager, Faulty, JumpClock], verb: str
) -> None:
    manager, store, clock = away
    store._store = MemoryStore()
    store.faults = {verb: boom}
    store.asked.clear()
    clock.shift += OPEN_SECONDS * 1.3
    manager.remove(principal="nobody")
    eventually(lambda: manager._engine._workers._busy == {}, "the end of what is brought back")
    assert store.asked.count(verb) == 1


def test_after_a_single_failure_only_what_came_meanwhile_is_brought_back(server: DevServer, make_manager: Make) -> None:
    clock, store = JumpClock(), shared()
    manager = make_manager(registration(server), store=store, clock=clock)
    manager.get(principal="alice")
    clock.shift += 1
    store.faults = {"publish": boom}
    token = manager.get()
    # The lease was given back with success, so the store is there.
    store.faults = {}
    eventually(lambda: manager._engine._workers._busy == {}, "the end of what is brought back")
    identity = manager._engine.slots[token.fingerprint].request.identity
    found = store._store.read(identity)
    assert isinstance(found, Stored)
    assert found.record.value == token.value
    assert store.asked.count("publish") == 3


# ---- what is told -------------------------------------------------------------------------------------------


def refuse(reason: str) -> Callable[[], object]:
    def fail() -> object:
        raise StoreError("no", reason=reason)

    return fail


@pytest.mark.parametrize("reason", ["authentication", "permission", "certificate"])
def test_what_only_a_person_can_mend_is_told_once_a_minute(server: DevServer, reason: str) -> None:
    clock, events = SteerableClock(), Events()
    store = Faulty(dict.fromkeys(("claim", "remove"), refuse(reason)))
    guard = GuardedStore(store, now=clock.now, random=random.Random(1).random, on_failure=events)
    identity = token_request_for(registration(server)).identity
    asked = 0
    while clock.now() < 1_000.0 + ALERT_SECONDS * 1.5:
        guard.perform(effects.Remove(identity))
        guard.perform(effects.Claim(identity, None, "", "owner", 5.0))
        clock.advance(OPEN_SECONDS)
        asked = len(store.asked)
    assert asked > 20
    assert [event.kind for event in events.of(StoreFailed)] == [reason] * 2


def test_an_error_of_the_store_is_told_by_its_reason(server: DevServer) -> None:
    events = Events()
    store = Faulty({"remove": refuse("timeout")})
    guard = GuardedStore(store, now=SteerableClock().now, random=random.Random(1).random, on_failure=events)
    guard.perform(effects.Remove(token_request_for(registration(server)).identity))
    assert [event.kind for event in events.of(StoreFailed)] == ["timeout"]


# ---- tags of credentials ------------------------------------------------------------------------------------


def test_credentials_are_tagged_with_the_key_of_the_fleet_if_there_is_one(
    server: DevServer, make_manager: Make
) -> None:
    def tag(key: object) -> str:
        store = shared()
        if key is not None:
            store.tag_key = key  # type: ignore[attr-defined]
        driver = make_manager(registration(server), store=store)._engine._driver
        credential = driver._read_secret(registration(server).client_auth.source)
        assert not isinstance(credential, Exception)
        return credential.tag

    fleet = tag(b"k" * 32)
    assert fleet == tag(b"k" * 32)
    assert len({fleet, tag(b"other" * 4), tag(None), tag(None), tag("no key")}) == 5


def test_events_of_a_renewal_beside_a_store_that_is_back(away: tuple[TokenManager, Faulty, JumpClock]) -> None:
    manager, store, clock = away
    return_of(store, clock, manager)
    events = Events()
    manager._engine._hooks = (events,)
    assert manager.renew().value
    assert [event.source for event in events.of(TokenObtained)] == ["server"]
