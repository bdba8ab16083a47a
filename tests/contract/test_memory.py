"""The in-memory store: the contract, its bounds, and a fork in the middle of anything."""

from __future__ import annotations

import os
import threading

import pytest

from accredit.core.records import Held, Hold, Lead, Wait
from accredit.errors import ConfigurationError, ThrottledError, UnreachableError
from accredit.stores.contract import Store
from accredit.stores.memory import MemoryStore
from accredit.testing.clock import SteerableClock
from accredit.testing.store_contract import TimedStoreContract, make_identity, make_record


class TestMemoryStore(TimedStoreContract):
    def make_store(self, clock: SteerableClock) -> Store:
        return MemoryStore(clock=clock.now)


def publish(store: MemoryStore, name: str, remaining: float = 3600.0) -> None:
    identity = make_identity(registration_id=name)
    store.publish(
        identity, owner="a", record=make_record(identity, name), remaining=remaining, credential="", based_on=None
    )


def kept(store: MemoryStore, names: list[str]) -> list[str]:
    return [name for name in names if store.read(make_identity(registration_id=name)) is not None]


def test_the_number_of_records_is_bounded_and_the_least_used_go_first() -> None:
    store = MemoryStore(max_entries=3)
    names = ["a", "b", "c", "d"]
    for name in names[:3]:
        publish(store, name)
    store.read(make_identity(registration_id="a"))
    publish(store, "d")
    assert kept(store, names) == ["a", "c", "d"]
    assert len(store) == 3


def test_a_record_that_is_replaced_takes_no_further_room() -> None:
    store = MemoryStore(max_entries=2)
    for name in ("a", "b", "a", "b"):
        publish(store, name)
    assert kept(store, ["a", "b"]) == ["a", "b"]


def test_a_store_for_one_token_works() -> None:
    store = MemoryStore(max_entries=1)
    publish(store, "a")
    publish(store, "b")
    assert kept(store, ["a", "b"]) == ["b"]


def test_a_store_for_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_entries is below 1"):
        MemoryStore(max_entries=0)


def test_everything_transient_is_bounded_too() -> None:
    clock = SteerableClock()
    store = MemoryStore(max_entries=100, clock=clock.now)
    for number in range(1000):
        identity = make_identity(registration_id=f"r{number}")
        store.claim(identity, newer_than=None, credential="", owner="a", lease=10.0)
        store.fail(identity, owner="b", hold=Hold(10.0, UnreachableError("gone"), 1))
        store.cool(identity, origin="https://api.example", seconds=10.0)
        store.hold_endpoint(f"endpoint {number}", Hold(10.0, ThrottledError("slow"), 1))
    tables = (store._leases, store._holds, store._cooling, store._throttles)
    assert [len(table._entries) <= 100 for table in tables] == [True] * 4
    # What came last is what is kept.
    assert store.endpoint_hold("endpoint 999") is not None
    newest = store.claim(make_identity(registration_id="r999"), newer_than=None, credential="", owner="b", lease=1.0)
    assert isinstance(newest.directive, Held)


def test_what_has_ended_makes_room_before_anything_else() -> None:
    clock = SteerableClock()
    store = MemoryStore(max_entries=64, clock=clock.now)
    store.hold_endpoint("stays", Hold(1000.0, ThrottledError("slow"), 1))
    for number in range(63):
        store.hold_endpoint(f"ends {number}", Hold(10.0, ThrottledError("slow"), 1))
    clock.advance(11.0)
    store.hold_endpoint("new", Hold(10.0, ThrottledError("slow"), 1))
    assert store.endpoint_hold("stays") is not None
    assert len(store._throttles._entries) == 2


def test_suspicion_goes_with_the_record() -> None:
    store = MemoryStore(max_entries=1)
    identity = make_identity(registration_id="a")
    publish(store, "a")
    found = store.read(identity)
    assert found is not None
    store.suspect(identity, generation=found.record.generation, origin="")
    publish(store, "b")
    assert len(store._suspects._entries) == 0


def test_suspicion_goes_with_what_replaces_the_record() -> None:
    store = MemoryStore()
    identity = make_identity(registration_id="a")
    publish(store, "a")
    found = store.read(identity)
    assert found is not None
    store.suspect(identity, generation=found.record.generation, origin="")
    publish(store, "a")
    assert len(store._suspects._entries) == 0


def test_lifetimes_that_differ_each_time_do_not_pile_up() -> None:
    store = MemoryStore()
    identity = make_identity()
    for number in range(3000):
        record = make_record(identity, lifetime=1000.0 + number)
        store.publish(identity, owner="a", record=record, remaining=900.0 + number, credential="", based_on=None)
    assert len(store._lifetimes) <= 1025


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_while_another_thread_is_in_the_store_can_use_it() -> None:
    clock = SteerableClock()
    store = MemoryStore(clock=clock.now)
    publish(store, "a")
    identity = make_identity(registration_id="a")
    store.claim(make_identity(registration_id="b"), newer_than=None, credential="", owner="parent", lease=60.0)
    inside, leave = threading.Event(), threading.Event()

    def hold_the_lock() -> None:
        with store._lock:
            inside.set()
            leave.wait(30)

    holder = threading.Thread(target=hold_the_lock)
    holder.start()
    assert inside.wait(30)
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        status = 1
        try:
            store.after_fork()
            leads = store.claim(
                make_identity(registration_id="b"), newer_than=None, credential="", owner="child", lease=1.0
            )
            if store.read(identity) is not None and isinstance(leads.directive, Lead):
                status = 0
        finally:
            os._exit(status)
    leave.set()
    holder.join()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    # The parent's lease is as it was.
    waits = store.claim(make_identity(registration_id="b"), newer_than=None, credential="", owner="c", lease=1.0)
    assert isinstance(waits.directive, Wait)
