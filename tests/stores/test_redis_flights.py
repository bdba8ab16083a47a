"""Rows of the corpus about one flight in a fleet, with managers that share a Redis instead of processes."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from accredit import AccessToken, TokenManager
from accredit.core.records import Hold, Lead, Wait
from accredit.devserver import DevConfig, DevServer
from accredit.errors import AccreditError, UnreachableError
from accredit.stores.redis import RedisStore
from accredit.testing.store_contract import make_identity, make_record
from tests.bad_inputs.model import covers
from tests.runtime.support import (
    CLIENTS,
    PATIENCE,
    JumpClock,
    eventually,
    eventually_async,
    in_loop,
    registration,
    threads,
)
from tests.servers.redis import Server, valkey
from tests.servers.resp import Proxy, up_to
from tests.stores import cancellations

__all__ = ["valkey"]
pytestmark = pytest.mark.real_server
Make = Callable[..., TokenManager]


@pytest.fixture
def server() -> Iterator[DevServer]:
    with DevServer(DevConfig(clients=CLIENTS)) as running:
        yield running


@pytest.fixture
def make(valkey: Server, server: DevServer) -> Iterator[Make]:
    made: list[TokenManager] = []

    def make_one(**settings: Any) -> TokenManager:
        store = RedisStore(settings.pop("url", valkey.url), timeout=PATIENCE)
        clock = settings.pop("clock", None)
        manager = TokenManager(registration(server, **settings), store=store, clock=clock)
        made.append(manager)
        return manager

    yield make_one
    for manager in made:
        manager.close()


@covers("O07", "N05", outcome="OK: hundreds of waiters are let in by one request, and look at a bounded rate")
def test_hundreds_wait_for_one(make: Make, server: DevServer) -> None:
    managers = [make() for _ in range(40)]
    server.hold()
    with threads([*[manager.get for manager in managers] * 5]) as answers:
        server.wait_for_waiting(1, timeout=PATIENCE)
        server.release()
    assert answers.errors == []
    assert len({token.value for token in answers.results}) == 1
    assert server.count("/token") == 1


@covers("O03", outcome="OK: the lease is extended for as long as the holder lives")
def test_a_server_slower_than_the_lease_is_asked_once(make: Make, server: DevServer) -> None:
    """The lease is for one second here, and the answer takes longer: it ends if it is not kept up."""
    leader, waiter = make(deadline=2.0), make()
    identity = None
    server.hold()
    with threads([lambda: leader.get(timeout=PATIENCE)]) as answers:
        server.wait_for_waiting(1, timeout=PATIENCE)
        (slot,) = leader._engine.slots.values()
        identity = slot.request.identity
        store = leader._engine.store._store
        left: list[float] = []

        def extended() -> bool:
            answer = store.claim(identity, newer_than=None, credential="", owner="another", lease=1.0).directive
            assert isinstance(answer, Wait), answer
            left.append(answer.seconds)
            # More is left than a moment ago: somebody extended it.
            return sum(later > earlier for earlier, later in itertools.pairwise(left)) >= 3

        eventually(extended, "three extensions")
        server.release()
    del waiter
    assert answers.errors == []
    assert server.count("/token") == 1


@covers("O09", outcome="OK: a failure is held for all, so the fleet makes one request and not each its own")
def test_a_leader_that_fails_holds_all(make: Make, server: DevServer) -> None:
    managers = [make() for _ in range(5)]
    server.fail(status=400, error="invalid_scope")
    errors = []
    for manager in managers:
        with pytest.raises(AccreditError) as caught:
            manager.get()
        errors.append(caught.value)
    assert server.count("/token") == 1
    assert len({error.summary for error in errors}) == 1


@covers("O10", outcome="OK: a slow identity holds up no other")
def test_each_identity_has_a_lease_of_its_own(valkey: Server) -> None:
    store = RedisStore(valkey.url, timeout=PATIENCE)
    for identity in [make_identity() for _ in range(3)]:
        directive = store.claim(identity, newer_than=None, credential="", owner="a", lease=30.0).directive
        assert directive == Lead(0)
    store.close()


@covers("O12", "O13", outcome="OK: the flight goes on, and each gets an error of its own")
def test_the_first_caller_gives_up_and_the_others_go_on(make: Make, server: DevServer) -> None:
    manager = make()
    face = manager.asynchronous()
    server.hold()

    async def scenario() -> list[Any]:
        first = asyncio.ensure_future(face.get())
        others = [asyncio.ensure_future(face.get()) for _ in range(5)]
        await eventually_async(lambda: server.waiting() == 1, "the request")
        first.cancel()
        server.release()
        return await asyncio.gather(first, *others, return_exceptions=True)

    first, *others = asyncio.run(scenario())
    assert isinstance(first, asyncio.CancelledError)
    assert len({token.value for token in others}) == 1
    server.fail(status=400, error="invalid_scope")
    failures = in_loop(lambda: face.get(principal="other"), 5)()
    assert len({id(failure) for failure in failures}) == 5
    assert all(isinstance(failure, AccreditError) for failure in failures)


@covers("O16", outcome="OK: not offered; the lease saves requests and guards nothing")
def test_a_lock_over_several_servers_is_not_offered(valkey: Server) -> None:
    from pathlib import Path

    assert not hasattr(RedisStore, "lock")
    text = (Path(__file__).parent.parent.parent / "docs" / "redis.md").read_text(encoding="utf-8")
    assert "Redlock" in text


@covers("N08", outcome="OK: two primaries cost two requests, and what lives longer stays when they are one again")
def test_two_primaries(valkey: Server, server: DevServer, make: Make) -> None:
    with Server("valkey") as other:
        first, second = make(), make(url=other.url)
        one, two = first.get(), second.get()
        assert server.count("/token") == 2
        (slot,) = second._engine.slots.values()
        identity = slot.request.identity
        there = first._engine.store._store.read(identity)
        assert there is not None
        # The side that lost writes what it has, as it does when its store is back.
        kept = RedisStore(valkey.url, timeout=PATIENCE).publish(
            identity, owner="x", record=make_record(identity, two.value), remaining=10.0, credential="", based_on=None
        )
        assert kept.record.value == one.value == there.record.value


@covers("N07", "N09", outcome="OK: a lost write, or a look at a server that is behind, costs at most one more request")
def test_a_write_that_is_lost(valkey: Server, server: DevServer, make: Make) -> None:
    clock = JumpClock()
    managers = [make(clock=clock) for _ in range(4)]
    tokens = {manager.get().value for manager in managers}
    assert len(tokens) == 1
    with valkey.client() as client:
        (slot,) = managers[0]._engine.slots.values()
        client.delete(slot.request.identity.store_key())
    # Who has it goes on with it; who has not costs one request, and not one each.
    assert {manager.get().value for manager in managers} == tokens
    newcomers = [make() for _ in range(4)]
    assert len({manager.get().value for manager in newcomers}) == 1
    assert server.count("/token") == 2


@covers("N17", outcome="OK: connections belong to no event loop")
def test_event_loops_that_come_and_go(make: Make, server: DevServer) -> None:
    face = make().asynchronous()
    values = [in_loop(face.get, 3)()[0] for _ in range(5)]
    assert {value.value for value in values if isinstance(value, AccessToken)} != set()
    assert server.count("/token") == 1


@covers("N19", outcome="OK: every verb may be done twice")
def test_verbs_that_are_done_twice(valkey: Server) -> None:
    store = RedisStore(valkey.url, timeout=PATIENCE)
    identity = make_identity()

    def twice(function: Callable[[], Any]) -> tuple[Any, Any]:
        return function(), function()

    def claim() -> Any:
        return store.claim(identity, newer_than=None, credential="", owner="a", lease=30.0).directive

    assert twice(claim) == (Lead(0), Lead(0))
    record = make_record(identity)
    first, second = twice(
        lambda: store.publish(identity, owner="a", record=record, remaining=60.0, credential="", based_on=None)
    )
    assert first.record == second.record
    generation = first.record.generation
    assert twice(lambda: store.suspect(identity, generation=generation, origin="")) == ("suspect", "suspect")
    hold = Hold(30.0, UnreachableError("gone"), 2)
    twice(lambda: store.fail(identity, owner="a", hold=hold))
    answer = store.claim(identity, newer_than=generation, credential="", owner="b", lease=30.0).directive
    assert answer.hold.failures == 2  # type: ignore[union-attr]
    twice(lambda: store.remove(identity))
    assert store.read(identity) is None
    store.close()


@covers("N15", outcome="OK: whoever is interrupted in the middle takes the connection along")
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_in_the_middle(valkey: Server, interrupt: type[BaseException]) -> None:
    mine, other = make_identity(), make_identity()
    store = RedisStore(valkey.url, timeout=PATIENCE, max_connections=1)
    store.claim(mine, newer_than=None, credential="", owner="a", lease=30.0)
    pool = store._pools.pool(store._settings.places[0])
    (link,) = pool._idle

    def interrupted(**_: object) -> object:
        raise interrupt

    link.read_response = interrupted  # type: ignore[method-assign, assignment]
    with pytest.raises(interrupt):
        store.claim(mine, newer_than=None, credential="", owner="b", lease=30.0)
    assert link._sock is None
    assert pool._open == 0
    # Had it been kept, this would read the answer to the claim.
    assert store.read(other) is None
    store.close()


@covers("N21", outcome="OK: the whole contract on Valkey, Redis 6.2 and a cluster")
def test_the_contract_is_run_on_each_kind_of_server() -> None:
    from accredit.testing.store_contract import TimedStoreContract
    from tests.contract import test_redis

    suites = {name for name, suite in vars(test_redis).items() if isinstance(suite, type) and name.startswith("Test")}
    assert suites == {"TestValkey", "TestValkeyEncrypted", "TestRedis6", "TestCluster"}
    assert all(issubclass(getattr(test_redis, name), TimedStoreContract) for name in suites)


@pytest.mark.timeout(300)
@covers("N13", "N14", outcome="OK: of thousands of callers that give up none gets the answer of another")
def test_callers_that_give_up_get_nobody_elses_answer(valkey: Server) -> None:
    """``python -m tests.stores.cancellations 1000000`` does the same a million times."""
    with DevServer(cancellations.config()) as server, Proxy(valkey.port, up_to(0.02)) as proxy:
        result = cancellations.run(proxy.url, server, number=5_000, timeout=0.015, seed=random.randrange(1 << 32))
    assert result.wrong == 0
    assert result.given_up >= 5_000
    assert result.answered > 0
    # Some operations ended in the middle, so that there were answers that could have gone astray.
    assert result.store_timeouts > 0


def test_no_thread_is_left_behind(make: Make) -> None:
    manager = make()
    manager.get()
    manager.close()
    ours = {"accredit-flight", "accredit-leases", "accredit-redis-connect", "accredit-keeper"}
    eventually(lambda: not [one for one in threading.enumerate() if one.name in ours], "the end of all threads")
