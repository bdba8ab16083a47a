"""The Redis store keeps the contract, on Valkey, on Redis 6.2 and on a cluster; each verb is one command."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from accredit.core.records import Hold, Lead, Record, Wait
from accredit.errors import ThrottledError
from accredit.stores._redis_scripts import CLOCK, make_scripts
from accredit.stores.contract import Store
from accredit.stores.envelope import Keyring, generate_key
from accredit.stores.redis import RedisStore
from accredit.testing.clock import START, SteerableClock
from accredit.testing.store_contract import TimedStoreContract, make_identity, make_record
from tests.bad_inputs.model import covers
from tests.servers.redis import PATIENCE, ClusterServers, Server, redis_6, redis_cluster, valkey

__all__ = ["redis_6", "redis_cluster", "valkey"]


class TimedRedisStore(RedisStore):
    """The scripts read the server's own clock; a test only adds to it."""

    def __init__(self, url: str, clock: SteerableClock, keyring: Keyring | None = None) -> None:
        super().__init__(url, timeout=PATIENCE, keyring=keyring, max_connections=16)
        self._clock = clock

    def _run(self, script: object, keys: object, *arguments: object) -> object:
        offset = int((self._clock.now() - START) * 1000)
        # Other scripts, by their texts, for another time: nothing else of them differs.
        scripts = make_scripts(f"{CLOCK}now = now + {offset}\n")
        script = scripts[self._scripts.index(script)]
        return super()._run(script, keys, *arguments)  # type: ignore[arg-type]


@pytest.mark.real_server
class TestValkey(TimedStoreContract):
    @pytest.fixture(autouse=True)
    def connect(self, valkey: Server) -> None:
        self.url = valkey.url

    def make_store(self, clock: SteerableClock) -> Store:
        return TimedRedisStore(self.url, clock)


@pytest.mark.real_server
class TestValkeyEncrypted(TimedStoreContract):
    @pytest.fixture(autouse=True)
    def connect(self, valkey: Server) -> None:
        self.url = valkey.url

    def make_store(self, clock: SteerableClock) -> Store:
        return TimedRedisStore(self.url, clock, Keyring(generate_key()))


@pytest.mark.real_server
class TestRedis6(TimedStoreContract):
    @pytest.fixture(autouse=True)
    def connect(self, redis_6: Server) -> None:
        self.url = redis_6.url

    def make_store(self, clock: SteerableClock) -> Store:
        return TimedRedisStore(self.url, clock)


@pytest.mark.real_server
class TestCluster(TimedStoreContract):
    @pytest.fixture(autouse=True)
    def connect(self, redis_cluster: ClusterServers) -> None:
        self.url = redis_cluster.url

    def make_store(self, clock: SteerableClock) -> Store:
        return TimedRedisStore(self.url, clock)


@pytest.mark.real_server
@pytest.mark.parametrize("name", ["valkey", "redis_6"])
def test_each_verb_is_one_command_of_the_client(request: pytest.FixtureRequest, name: str) -> None:
    server: Server = request.getfixturevalue(name)
    store = RedisStore(server.url, timeout=PATIENCE)
    identity = make_identity()
    error = ThrottledError("slow", status=429)
    record = make_record(identity)
    verbs: dict[str, Callable[[], object]] = {
        "read": lambda: store.read(identity),
        "claim": lambda: store.claim(identity, newer_than=None, credential="tag", owner="a", lease=10.0),
        "publish": lambda: store.publish(
            identity, owner="a", record=record, remaining=60.0, credential="tag", based_on=None
        ),
        "suspect": lambda: store.suspect(identity, generation=record.generation, origin="https://api.example"),
        "fail": lambda: store.fail(identity, owner="a", hold=Hold(1.0, error, 1)),
        "cool": lambda: store.cool(identity, origin="https://api.example", seconds=1.0),
        "endpoint_hold": lambda: store.endpoint_hold("endpoint"),
        "hold_endpoint": lambda: store.hold_endpoint("endpoint", Hold(1.0, error, 1)),
        "remove": lambda: store.remove(identity),
    }
    with server.client() as client:
        client.script_flush()  # other tests may have taught it the scripts
        seen: dict[str, list[str]] = {}
        with client.monitor() as monitor:
            store.read(make_identity())  # whatever it takes to connect comes before what is counted
            for name_of_round in ("first", "second"):
                for verb_name, verb in {"connect": client.ping, **verbs}.items():
                    verb()
                    client.echo(f"end of {verb_name}")
                    commands = seen[f"{name_of_round} {verb_name}"] = []
                    for command in monitor.listen():
                        if command["command"].startswith("ECHO end of"):
                            break
                        if command["client_type"] != "lua":
                            commands.append(command["command"].split()[0])
    # The server learns each script at its first use, and "read" was used to connect.
    learned = {name: ["EVALSHA"] if name == "read" else ["EVALSHA", "EVAL"] for name in verbs}
    assert {name: seen[f"first {name}"] for name in verbs} == learned
    assert {name: seen[f"second {name}"] for name in verbs} == {name: ["EVALSHA"] for name in verbs}
    store.close()


@pytest.mark.real_server
def test_the_keys_of_an_identity_are_the_documented_ones_in_one_slot(valkey: Server) -> None:
    store = RedisStore(valkey.url, timeout=PATIENCE, prefix="team-a:oauth2")
    identity = make_identity(registration_id="api-client", principal="joe & co")
    store.claim(identity, newer_than=None, credential="", owner="a", lease=10.0)
    store.publish(identity, owner="b", record=make_record(identity), remaining=60.0, credential="", based_on=None)
    store.cool(identity, origin="https://api.example", seconds=5.0)
    key = f"team-a:oauth2:api-client:joe%20%26%20co:{{{identity.fingerprint.hex()}}}"
    with valkey.client() as client:
        kept = sorted(name.decode() for name in client.scan_iter("team-a:*"))
        assert kept == [key, f"{key}:hold", f"{key}:lease"]
        assert len({redis.crc.key_slot(name.encode()) for name in kept}) == 1
        client.delete(*kept)
    assert make_identity(registration_id="x").store_key().startswith("oauth2:client:x:service-account:{")
    store.close()


@pytest.mark.real_server
@pytest.mark.parametrize("name", ["valkey", "redis_6"])
@covers("O06", outcome="OK: a lease that does not end by itself, or is none, is replaced by one that ends")
def test_a_lease_without_an_end_is_replaced(request: pytest.FixtureRequest, name: str) -> None:
    server: Server = request.getfixturevalue(name)
    store, identity = RedisStore(server.url, timeout=PATIENCE), make_identity()
    key = identity.store_key() + ":lease"
    with server.client() as client:
        for broken in (
            {"owner": "gone"},
            {"owner": "gone", "ends": "9" * 15, "length": "9"},
            {"owner": "gone", "ends": "x"},
        ):
            client.hset(key, mapping=broken)
            answer = store.claim(identity, newer_than=None, credential="", owner="a", lease=10.0)
            assert answer.directive == Lead(0)
            assert 0 < client.pttl(key) <= 10_000
            store.fail(identity, owner="a", hold=None)
        client.set(key, "not a lease")
        assert store.claim(identity, newer_than=None, credential="", owner="a", lease=10.0).directive == Lead(0)
    store.close()


@pytest.mark.real_server
def test_what_another_owner_does_late_changes_nothing(valkey: Server) -> None:
    store, identity = RedisStore(valkey.url, timeout=PATIENCE), make_identity()
    store.claim(identity, newer_than=None, credential="", owner="a", lease=10.0)
    store.fail(identity, owner="somebody else", hold=None)
    answer = store.claim(identity, newer_than=None, credential="", owner="b", lease=10.0)
    assert isinstance(answer.directive, Wait)
    store.close()


@pytest.mark.real_server
@pytest.mark.parametrize("remaining", [0.0, -1.0, -1e9, float("nan"), float("inf"), 0.0004])
def test_what_has_no_life_left_or_no_end_is_never_stored(valkey: Server, remaining: float) -> None:
    store, identity = RedisStore(valkey.url, timeout=PATIENCE), make_identity()
    record: Record = make_record(identity)
    store.claim(identity, newer_than=None, credential="", owner="a", lease=10.0)
    store.publish(identity, owner="a", record=record, remaining=remaining, credential="", based_on=None)
    with valkey.client() as client:
        assert list(client.scan_iter(f"*{identity.fingerprint.hex()}*")) == []
    store.close()


@pytest.mark.real_server
@pytest.mark.parametrize("name", ["valkey", "redis_6"])
def test_no_key_outlives_its_token(request: pytest.FixtureRequest, name: str) -> None:
    server: Server = request.getfixturevalue(name)
    store, identity = RedisStore(server.url, timeout=PATIENCE), make_identity()
    record = make_record(identity, lifetime=100.0)
    for remaining, most in ((60.0, 60_000), (3600.0, 100_000)):
        store.publish(identity, owner="a", record=record, remaining=remaining, credential="", based_on=None)
        with server.client() as client:
            assert most - PATIENCE * 1000 < client.pttl(identity.store_key()) <= most
    store.close()
