"""A store that fails, at any verb and in any way, is left alone: calls go on, operators are told."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from accredit import MemoryStore, TokenManager
from accredit.core import effects
from accredit.core.metadata import ServerMetadata
from accredit.core.records import Claimed, Lead, Satisfied, StoreDown
from accredit.core.registration import token_request_for
from accredit.devserver import DevServer
from accredit.instrumentation import StoreFailed
from accredit.integrations.httpx2 import AccreditAuth
from accredit.runtime.guarded_store import FAILURES_UNTIL_OPEN, OPEN_SECONDS, GuardedStore
from accredit.testing.clock import SteerableClock
from tests.runtime.support import Events, JumpClock, eventually, flying, registration

Make = Callable[..., TokenManager]
VERBS = ("read", "claim", "publish", "fail", "suspect", "cool", "remove", "endpoint_hold", "hold_endpoint")


class Faulty:
    """A memory store of which some verbs do something else."""

    def __init__(self, faults: dict[str, Callable[[], object]], *, in_process: bool = True) -> None:
        self._store = MemoryStore()
        self.faults = faults
        self.in_process = in_process
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name not in VERBS:
            return getattr(self._store, name)

        def verb(*arguments: Any, **named: Any) -> object:
            self.asked.append(name)
            if name in self.faults:
                return self.faults[name]()
            return getattr(self._store, name)(*arguments, **named)

        return verb

    def after_fork(self) -> None:
        self._store.after_fork()

    def close(self) -> None:
        self._store.close()


def boom() -> object:
    raise OSError("redis://:hunter2@10.0.0.1 is gone")


def use_everything(server: DevServer, manager: TokenManager, clock: JumpClock) -> None:
    """Go through all that a caller can do; nothing of it may fail."""
    token = manager.get()
    assert manager.get() == token
    assert manager.renew() != token
    token = manager.get()
    manager.suspect(token)
    assert manager.get() != token
    manager.peek(principal="nobody")
    slot = manager._engine.slots[token.fingerprint]
    manager._engine.refused_again(slot, server.api_url)
    token = manager.get()
    clock.make_urgent(token)
    assert manager.get().value
    eventually(lambda: flying(manager) == 0)
    assert manager.get() != token
    clock.expire(manager.get())
    assert manager.get().value
    manager.remove()
    assert manager.get().value


@pytest.mark.parametrize("in_process", [True, False])
@pytest.mark.parametrize("verb", [*VERBS, "all"])
def test_a_store_that_raises(
    server: DevServer, make_manager: Make, clock: JumpClock, verb: str, in_process: bool
) -> None:
    faults = dict.fromkeys(VERBS if verb == "all" else [verb], boom)
    events = Events()
    store = Faulty(faults, in_process=in_process)
    manager = make_manager(registration(server), store=store, clock=clock, on_event=events)
    use_everything(server, manager, clock)
    if verb != "all":
        manager.renew()
    told = {event.operation for event in events.of(StoreFailed)}
    assert told <= set(faults)
    if verb in {"claim", "publish", "endpoint_hold", "all"}:
        assert told
    for event in events.of(StoreFailed):
        assert event.kind == "OSError"
        assert "hunter2" not in repr(event)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "claimed",
        (None, None),
        Lead(),
        Claimed(None, "lead"),  # type: ignore[arg-type]
        Claimed("token", Satisfied()),  # type: ignore[arg-type]
    ],
    ids=repr,
)
@pytest.mark.parametrize("verb", VERBS)
def test_a_store_that_answers_nonsense(
    server: DevServer, make_manager: Make, clock: JumpClock, verb: str, answer: object
) -> None:
    manager = make_manager(registration(server), store=Faulty({verb: lambda: answer}), clock=clock)
    use_everything(server, manager, clock)
    assert manager.get().value


def test_a_claim_that_is_satisfied_by_nothing_is_a_lead(server: DevServer, make_manager: Make) -> None:
    store = Faulty({"claim": lambda: Claimed(None, Satisfied())})
    assert make_manager(registration(server), store=store).get().value


def test_a_hook_may_use_the_manager_while_the_store_fails(server: DevServer, make_manager: Make) -> None:
    """No hook runs under a lock of the engine: one that asks the manager does not wait for itself."""
    managers: list[TokenManager] = []
    done = threading.Event()

    def hook(event: object) -> None:
        if managers:
            managers[0].peek()
            done.set()

    managers.append(make_manager(registration(server), store=Faulty(dict.fromkeys(VERBS, boom)), on_event=hook))
    assert managers[0].get().value
    assert done.is_set()


def guarded(faulty: Faulty, clock: SteerableClock, events: Events) -> GuardedStore:
    return GuardedStore(faulty, now=clock.now, random=random.Random(1).random, on_failure=events)


def test_after_three_failures_the_store_is_left_alone_and_then_probed(server: DevServer) -> None:
    clock, events = SteerableClock(), Events()
    store = Faulty({"claim": boom})
    guard = guarded(store, clock, events)
    claim = effects.Claim(token_request_for(registration(server)).identity, None, "", "owner", 5.0)

    def ask() -> bool:
        """Tell whether the store itself was asked."""
        before = len(store.asked)
        guard.perform(claim)
        return len(store.asked) > before

    assert [ask() for _ in range(10)] == [True] * FAILURES_UNTIL_OPEN + [False] * (10 - FAILURES_UNTIL_OPEN)
    assert len(events.of(StoreFailed)) == FAILURES_UNTIL_OPEN
    assert guard.perform(claim) == StoreDown()
    clock.advance(OPEN_SECONDS * 0.75 - 0.01)
    assert not ask()
    clock.advance(OPEN_SECONDS * 0.5 + 0.02)
    # One probe, and again nobody for a while.
    assert [ask() for _ in range(5)] == [True, False, False, False, False]
    store.faults.clear()
    clock.advance(OPEN_SECONDS * 1.25)
    # The first that gets an answer opens it for all: back within five seconds of its return.
    assert all(ask() for _ in range(5))
    assert guard.perform(claim) == Claimed(None, Lead())


def test_while_one_probes_the_others_stay_away(server: DevServer) -> None:
    clock, events = SteerableClock(), Events()
    probing, answer = threading.Event(), threading.Event()
    store = Faulty({"claim": boom})
    guard = guarded(store, clock, events)
    claim = effects.Claim(token_request_for(registration(server)).identity, None, "", "owner", 5.0)
    for _ in range(FAILURES_UNTIL_OPEN):
        guard.perform(claim)

    def slow() -> object:
        probing.set()
        answer.wait(10)
        return Claimed(None, Lead())

    store.faults["claim"] = slow
    clock.advance(OPEN_SECONDS * 1.25)
    prober = threading.Thread(target=guard.perform, args=(claim,))
    prober.start()
    assert probing.wait(10)
    assert guard.perform(claim) == StoreDown()
    answer.set()
    prober.join(10)
    assert guard.perform(claim) == Claimed(None, Lead())
    assert len(events.of(StoreFailed)) == FAILURES_UNTIL_OPEN


def test_failures_in_between_do_not_add_up(server: DevServer) -> None:
    clock, events = SteerableClock(), Events()
    store = Faulty({})
    guard = guarded(store, clock, events)
    identity = token_request_for(registration(server)).identity
    for _ in range(10):
        store.faults["remove"] = boom
        guard.perform(effects.Remove(identity))
        guard.perform(effects.Remove(identity))
        store.faults.clear()
        guard.perform(effects.Remove(identity))
    assert len(store.asked) == 30


def test_a_broken_store_costs_a_herd_one_request(server: DevServer, make_manager: Make) -> None:
    """What the process can do alone, it still does: one flight, and the first level keeps the token."""
    store = Faulty(dict.fromkeys(VERBS, boom), in_process=False)
    manager = make_manager(registration(server), store=store)
    assert {manager.get().value for _ in range(100)} == {manager.get().value}
    assert server.count("/token") == 1


def test_a_cool_down_holds_in_this_process_though_the_store_keeps_none(server: DevServer, make_manager: Make) -> None:
    clock = JumpClock()
    manager = make_manager(registration(server), store=Faulty({"suspect": boom, "cool": boom}), clock=clock)
    server.fail(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}, path="*", server="api")
    auth = AccreditAuth(manager)
    manager.get()
    clock.shift += 10  # too old for a second of patience
    with httpx2.Client(auth=auth) as client:
        for calls in (2, 3, 4):
            assert client.get(f"{server.api_url}/orders").status_code == 401
            assert (server.count("/token"), server.count("/orders", server="api")) == (2, calls)
            clock.shift += 10


def test_a_late_refusal_of_an_old_token_costs_no_request_though_the_store_is_away(
    server: DevServer, make_manager: Make
) -> None:
    store = Faulty({})
    manager = make_manager(registration(server), store=store, clock=JumpClock())
    old = manager.get()
    newer = manager.renew()
    store.faults = dict.fromkeys(VERBS, boom)
    slot = manager._slot(None, None, None, None, None)
    assert manager._replacement(slot, old, "https://api.example.com") is newer
    assert manager.get() is newer
    assert server.count("/token") == 2


def test_a_refusal_right_after_a_failed_renewal_waits_though_the_store_is_away(
    server: DevServer, make_manager: Make
) -> None:
    manager = make_manager(registration(server), store=Faulty(dict.fromkeys(VERBS, boom)), clock=JumpClock())
    token = manager.get()
    server.fail(400, error="invalid_scope")
    slot = manager._slot(None, None, None, None, None)
    for _ in range(3):
        assert manager._replacement(slot, token, "https://api.example.com") is None
        assert manager.get() is token
    assert server.count("/token") == 2


def test_what_is_remembered_per_api_and_per_server_is_bounded(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server))
    token = manager.get()
    slot = manager._slot(None, None, None, None, None)
    tokens = AccreditAuth(manager)._tokens
    for number in range(600):
        origin = f"https://api{number}.example.com"
        manager._engine.refused_again(slot, origin)
        assert slot.is_cooling(origin, manager._now())
        tokens._report(slot, token, origin)
        assert len(slot.cooling or {}) <= 64
        assert len(tokens._reports) <= 256
    driver = manager._engine._driver
    metadata = ServerMetadata(server.issuer, server.token_endpoint)
    for number in range(1030):
        driver._keep_metadata(str(number), metadata)
    assert 0 < len(driver._metadata) <= 1024
