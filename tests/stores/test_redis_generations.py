"""Generations count on in Redis where nothing is left of what was there: nobody asks again for a token that is new."""

from __future__ import annotations

import secrets

import pytest

from accredit.core.records import Satisfied
from accredit.devserver import DevConfig, DevServer
from accredit.stores.redis import RedisStore
from accredit.testing.store_contract import make_identity, make_record
from tests.bad_inputs.model import covers
from tests.runtime.support import CLIENTS, JumpClock, registration
from tests.servers.redis import PATIENCE, Server, redis_6, valkey

__all__ = ["redis_6", "valkey"]
pytestmark = pytest.mark.real_server


@pytest.mark.parametrize("name", ["valkey", "redis_6"])
def test_a_count_that_begins_anew_begins_beyond_what_was_there(request: pytest.FixtureRequest, name: str) -> None:
    server: Server = request.getfixturevalue(name)
    store = RedisStore(server.url, timeout=PATIENCE)
    identity = make_identity()

    def publish(based_on: int | None) -> int:
        record = make_record(identity)
        kept = store.publish(identity, owner="a", record=record, remaining=60.0, credential="", based_on=based_on)
        return kept.record.generation

    seen = publish(None)
    for _ in range(5):
        seen = publish(seen)
    with server.client() as client:
        # As when the token has ended, was evicted, or all was flushed.
        client.delete(identity.store_key())
        while int(client.time()[0]) * 1000 <= seen >> 32:
            pass
    publish(None)
    claimed = store.claim(identity, newer_than=seen, credential="", owner="b", lease=10.0)
    assert claimed.directive == Satisfied()
    store.close()


@covers("M20", outcome="OK: exactly one refetch for the fleet, whoever is first, also by who has never seen a token")
@pytest.mark.parametrize("how", ["expired", "flushed"])
def test_a_newcomer_asks_for_all_and_the_others_take_it(valkey: Server, how: str) -> None:
    from accredit import TokenManager

    prefix = f"fleet-{secrets.token_hex(4)}"
    with DevServer(DevConfig(clients=CLIENTS)) as server, valkey.client() as client:
        clock = JumpClock()

        def process() -> TokenManager:
            store = RedisStore(valkey.url, timeout=PATIENCE, prefix=prefix)
            return TokenManager(registration(server), store=store, clock=clock, renewal="inline")

        fleet = [process() for _ in range(4)]
        first = {manager.get().authorization for manager in fleet}
        # Renewed a few times by a refusal, so that they remember a count that is further on.
        for manager in fleet[:3]:
            manager.suspect(manager.get())
            manager.get()
        fleet[3].suspect(fleet[3].get())
        last = {manager.get().authorization for manager in fleet}
        requests = server.count("/token")
        if how == "expired":
            clock.shift += 100_000.0  # over for all of them
            client.delete(*client.keys(f"{prefix}:*"))
        else:
            # They could go on with what they have, and are to renew it.
            clock.shift += 3500.0
            client.flushall()
        newcomer = process()
        answers = {manager.get().authorization for manager in (newcomer, *fleet)}
        assert len(answers) == 1
        assert not answers & (first | last)
        assert server.count("/token") == requests + 1
        for manager in (newcomer, *fleet):
            manager.close()
