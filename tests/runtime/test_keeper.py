"""keep_fresh(): on schedule with no traffic, through outages, until stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from accredit import AccessToken, ConfigurationError, TokenManager, UnreachableError
from accredit.devserver import DevServer
from accredit.testing.clock import SteerableClock
from tests.runtime.support import eventually, flying, registration, run_keeper, settle

HOUR = 3600.0
Make = Callable[..., TokenManager]


def usable(manager: TokenManager) -> AccessToken:
    token = manager.peek()
    assert token is not None
    return token


def keeper_thread(manager: TokenManager) -> threading.Thread | None:
    return manager._engine.keeper._thread


def first_token(manager: TokenManager) -> AccessToken:
    eventually(lambda: manager.peek() is not None)
    return usable(manager)


def test_eight_hours_without_traffic(server: DevServer, make_manager: Make) -> None:
    clock = SteerableClock()
    manager = make_manager(registration(server), clock=clock)
    with manager.keep_fresh():
        generations = {first_token(manager).generation}
        for _ in run_keeper(clock, manager, 8 * HOUR):
            generations.add(usable(manager).generation)  # never a gap
    # An hour's token is renewed after 50 to 55 minutes: 8 or 9 times in eight hours, beside the first.
    assert server.count("/token") in {9, 10}
    assert len(generations) == server.count("/token")


def test_an_outage_in_the_middle_is_bridged(server: DevServer, make_manager: Make) -> None:
    clock = SteerableClock()
    manager = make_manager(registration(server), clock=clock)
    with manager.keep_fresh():
        token = first_token(manager)
        server.fail(500)
        for _ in run_keeper(clock, manager, token.renew_at + 60 - clock.now()):
            assert usable(manager) == token
        failed = server.count("/token") - 1
        # Flights of three requests each, held for one to two, two to four, then up to five seconds.
        assert 3 * 60 / 8 <= failed <= 3 * 60 / 2
        server.recover()
        for _ in run_keeper(clock, manager, 10):
            usable(manager)
        assert usable(manager).generation != token.generation
        assert server.count("/token") == failed + 2


def test_an_outage_beyond_expiry_ends_in_a_typed_error_and_in_recovery(server: DevServer, make_manager: Make) -> None:
    clock = SteerableClock()
    manager = make_manager(registration(server), clock=clock)
    server.set_token_lifetime(60)
    with manager.keep_fresh():
        token = first_token(manager)
        server.garbage("html")
        for now in run_keeper(clock, manager, 90):
            assert (manager.peek() is None) == (now >= token.usable_until)
        attempts = server.count("/token")
        server.recover()
        for _ in run_keeper(clock, manager, 61):
            pass
        # The hold ended within a minute, and one request was enough.
        assert usable(manager).generation != token.generation
        assert server.requests("/token")[attempts].status == 200


def test_stop_ends_the_renewals_and_the_thread(server: DevServer, make_manager: Make) -> None:
    clock = SteerableClock()
    manager = make_manager(registration(server), clock=clock)
    keeping = manager.keep_fresh()
    token = first_token(manager)
    keeping.stop()
    keeping.stop()
    eventually(lambda: keeper_thread(manager) is None)
    clock.advance(token.usable_until - clock.now())
    assert manager.peek() is None
    assert server.count("/token") == 1
    # Without the keeper it is renewed by traffic, as ever; and it can be kept again.
    assert manager.get().generation != token.generation
    with manager.keep_fresh():
        settle(clock, manager)
        assert keeper_thread(manager) is not None
    eventually(lambda: keeper_thread(manager) is None)


def test_of_two_handles_each_counts(server: DevServer, make_manager: Make) -> None:
    clock = SteerableClock()
    manager = make_manager(registration(server), clock=clock)
    first, second = manager.keep_fresh(), manager.asynchronous().keep_fresh()
    token = first_token(manager)
    first.stop()
    first.stop()
    for _ in run_keeper(clock, manager, token.usable_until - clock.now()):
        usable(manager)
    assert server.count("/token") == 2
    assert keeper_thread(manager) is not None
    second.stop()
    eventually(lambda: keeper_thread(manager) is None)


def test_several_identities_are_kept_by_one_thread(server: DevServer, make_manager: Make) -> None:
    clock = SteerableClock()
    manager = make_manager(registration(server), clock=clock)
    names = [f"user-{number}" for number in range(5)]
    before = threading.active_count()
    keepings = [manager.keep_fresh(principal=name) for name in names]
    eventually(lambda: all(manager.peek(principal=name) for name in names))
    eventually(lambda: flying(manager) == 0)
    eventually(lambda: threading.active_count() == before + 1)
    for _ in run_keeper(clock, manager, HOUR):
        assert all(manager.peek(principal=name) for name in names)
    assert server.count("/token") == 2 * len(names)
    for keeping in keepings:
        keeping.stop()


def test_a_token_that_is_removed_is_fetched_anew_at_once(server: DevServer, make_manager: Make) -> None:
    clock = SteerableClock()
    manager = make_manager(registration(server), clock=clock)
    with manager.keep_fresh():
        token = first_token(manager)
        manager.remove()
        assert first_token(manager).generation != token.generation
    assert server.count("/token") == 2


def test_a_kept_identity_is_never_evicted(server: DevServer, make_manager: Make) -> None:
    clock = SteerableClock()
    manager = make_manager(registration(server), clock=clock, max_entries=2)
    with manager.keep_fresh():
        token = first_token(manager)
        for number in range(10):
            manager.get(principal=f"user-{number}")
        assert manager._engine.slots[token.fingerprint].token == token


def test_where_no_thread_is_to_be_started_it_is_refused(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server), renewal="inline")
    with pytest.raises(ConfigurationError, match="inline"):
        manager.keep_fresh()


def test_when_no_thread_can_be_had_a_later_use_starts_it(
    server: DevServer, make_manager: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    manager = make_manager(registration(server))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        keeping = manager.keep_fresh()
        assert keeper_thread(manager) is None
        token = manager.get()  # on the caller's own thread
    assert server.count("/token") == 1
    manager._engine.acquire(manager._engine.slots[token.fingerprint])
    assert keeper_thread(manager) is not None
    keeping.stop()


def test_a_dead_server_at_the_start_is_waited_for(server: DevServer, make_manager: Make) -> None:
    clock = SteerableClock()
    manager = make_manager(registration(server), clock=clock)
    server.fail(500)
    with manager.keep_fresh():
        for _ in run_keeper(clock, manager, 30):
            assert manager.peek() is None
        with pytest.raises(UnreachableError):
            manager.get(timeout=0)
        server.recover()
        for _ in run_keeper(clock, manager, 10):
            pass
        usable(manager)


def test_a_slot_that_had_to_make_room_meanwhile_is_kept_in_its_place(server: DevServer) -> None:
    with TokenManager(registration(server), max_entries=1) as tokens:
        slot = tokens._slot(None, "orders:read", None, None, None)
        tokens._slot(None, "orders:write", None, None, None)
        assert slot.evicted
        kept = tokens._engine.keep(slot)
        try:
            assert not kept.evicted
            assert tokens._engine.slots[kept.request.identity.fingerprint] is kept
            assert tokens._slot(None, "orders:read", None, None, None) is kept
        finally:
            tokens._engine.keeper.release(kept)
