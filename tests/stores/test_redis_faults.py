"""Whatever happens to Redis, no call fails that could do without it, and Redis is back in use soon after."""

from __future__ import annotations

import contextlib
import itertools
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from accredit import TokenManager
from accredit.devserver import DevConfig, DevServer
from accredit.errors import StoreError
from accredit.instrumentation import StoreFailed
from accredit.runtime.guarded_store import FAILURES_UNTIL_OPEN, OPEN_SECONDS
from accredit.stores.redis import RedisStore
from accredit.testing.store_contract import make_identity
from tests.bad_inputs.model import covers
from tests.runtime.support import CLIENTS, Events, JumpClock, eventually, flying, registration
from tests.servers.redis import Server, redis_6, require, valkey
from tests.servers.resp import FakeRedis, Proxy, says

__all__ = ["redis_6", "valkey"]
pytestmark = pytest.mark.real_server
CALLS = 1000
#: Seconds; more than the default, since a machine that runs tests may stand still for a while.
OPERATION = 0.75
Fault = Callable[[Server, "World"], contextlib.AbstractContextManager[None]]


class World:
    """A manager whose store is a Redis of its own, with a proxy before it."""

    def __init__(self, redis: Server, server: DevServer, proxy: Proxy) -> None:
        self.redis = redis
        self.server = server
        self.proxy = proxy
        self.clock = JumpClock()
        self.events = Events()
        self.store = RedisStore(proxy.url, timeout=OPERATION)
        self.manager = TokenManager(
            registration(server), store=self.store, clock=self.clock, on_event=self.events, max_entries=10_000
        )

    def key(self, principal: str | None = None) -> str:
        token = self.manager.get(principal=principal)
        return self.manager._engine.slots[token.fingerprint].request.identity.store_key()

    def is_stored(self, principal: str) -> bool:
        key = self.key(principal)
        with self.redis.client() as client:
            return bool(client.exists(key))

    def in_use(self) -> None:
        """Assert that Redis is used again within five seconds of the clock that the breaker reads."""
        began = self.clock.now()
        for number in range(1000):
            principal = f"after {number} {began}"
            if self.is_stored(principal):
                break
            self.clock.shift += 0.25
        # What the calls themselves take comes on top on a slow machine; the shift is what was waited for.
        assert 0.25 * (number + 1) <= 5.0


@pytest.fixture
def world() -> Iterator[World]:
    require("valkey")
    with (
        Server("valkey", "--busy-reply-threshold", "1") as redis,
        DevServer(DevConfig(clients=CLIENTS)) as server,
        Proxy(redis.port) as proxy,
    ):
        world = World(redis, server, proxy)
        yield world
        world.manager.close()


# ---- what can happen to it ----------------------------------------------------------------------------------


@contextmanager
def refused(redis: Server, world: World) -> Iterator[None]:
    redis.kill()
    world.proxy.hang_up()
    yield
    assert redis.start()


@contextmanager
def hung(redis: Server, world: World) -> Iterator[None]:
    redis.signal(signal.SIGSTOP)
    yield
    redis.signal(signal.SIGCONT)


@contextmanager
def slow(redis: Server, world: World) -> Iterator[None]:
    world.proxy.delay = lambda: OPERATION * 1.5
    yield
    world.proxy.delay = lambda: 0.0


@contextmanager
def rather_slow(redis: Server, world: World) -> Iterator[None]:
    world.proxy.delay = lambda: 0.05
    yield
    world.proxy.delay = lambda: 0.0


@contextmanager
def restarted_empty(redis: Server, world: World) -> Iterator[None]:
    redis.kill()
    assert redis.start()
    yield


@contextmanager
def flushed(redis: Server, world: World) -> Iterator[None]:
    with redis.client() as client:
        client.flushall()
        client.script_flush()
    yield


@contextmanager
def read_only(redis: Server, world: World) -> Iterator[None]:
    with redis.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        yield
        client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def out_of_memory(redis: Server, world: World) -> Iterator[None]:
    with redis.client() as client:
        client.config_set("maxmemory", "1")
        yield
        client.config_set("maxmemory", "0")


@contextmanager
def too_few_replicas(redis: Server, world: World) -> Iterator[None]:
    with redis.client() as client:
        client.config_set("min-replicas-to-write", "1")
        yield
        client.config_set("min-replicas-to-write", "0")


@contextmanager
def busy(redis: Server, world: World) -> Iterator[None]:
    with redis.client() as client, redis.client() as other:

        def loop() -> None:
            with contextlib.suppress(Exception):
                other.eval("while true do end", 0)

        thread = threading.Thread(target=loop)
        thread.start()
        yield
        eventually(lambda: _kill_script(client), "the end of the script")
        thread.join()


def _kill_script(client: object) -> bool:
    with contextlib.suppress(Exception):
        client.script_kill()  # type: ignore[attr-defined]
        return True
    return False


@contextmanager
def replaced(redis: Server, world: World) -> Iterator[None]:
    """Another server, which wants a password, answers under the name."""
    redis.kill()
    options, redis._options = redis._options, ("--requirepass", "other")
    assert redis.start()
    yield
    redis.kill()
    redis._options = options
    assert redis.start()


@contextmanager
def nobody_let_in(redis: Server, world: World) -> Iterator[None]:
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-evalsha", "-eval")
        yield
        client.execute_command("ACL", "SETUSER", "default", "+@all")


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        refused, hung, slow, rather_slow, restarted_empty, flushed, read_only, out_of_memory, too_few_replicas, busy,
        replaced, nobody_let_in,
    )
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@covers("M20", "M21", "N02", "N03", "N04", "N06", outcome="OK: no call fails, and Redis is in use again within 5 s")
def test_no_call_fails_while_a_token_is_usable(world: World, fault: Fault) -> None:
    token = world.manager.get()
    numbers = itertools.count()
    eventually(lambda: world.is_stored(f"before {next(numbers)}"), "the first record")
    requests = world.server.count("/token")
    with fault(world.redis, world):
        # Fresh: nothing but the first level is looked at.
        began = world.store._pools._pools.copy()
        assert {world.manager.get() for _ in range(CALLS)} == {token}
        assert world.store._pools._pools == began
        # Renewable: one flight beside the calls.
        world.clock.make_renewable(token)
        for _ in range(20):
            assert world.manager.get().value
        eventually(lambda: flying(world.manager) == 0, "the end of the flights")
        for _ in range(CALLS):
            assert world.manager.get().value
        # Nobody has one yet: the authorization server is there.
        for number in range(5):
            assert world.manager.get(principal=f"cold {number}").value
        # Over: a new one is had.
        world.clock.expire(world.manager.get())
        assert world.manager.get().value
    assert world.server.count("/token") <= requests + 1 + 5 + 2
    world.in_use()


@covers("N01", outcome="OK: a store that is down when the process starts is no reason not to start")
def test_redis_may_be_down_when_the_process_starts(world: World) -> None:
    world.redis.kill()
    assert world.manager.get().value
    assert world.redis.start()
    world.in_use()


@covers("M13", outcome="OK: a token in hand is used; its own expiry decides")
def test_a_key_that_goes_while_its_token_is_in_hand(world: World) -> None:
    token = world.manager.get()
    with world.redis.client() as client:
        client.delete(world.key())
    assert world.manager.get() == token
    assert world.server.count("/token") == 1


@covers("N02", outcome="OK: three operations wait, later calls skip Redis")
def test_a_hung_redis_is_asked_three_times_and_then_left_alone(server: DevServer) -> None:
    with FakeRedis(lambda *_: None) as silent:
        clock, events = JumpClock(), Events()
        manager = TokenManager(
            registration(server), store=RedisStore(silent.url, timeout=0.05), clock=clock, on_event=events
        )
        for number in range(20):
            assert manager.get(principal=f"p{number}").value
        assert silent.connections == FAILURES_UNTIL_OPEN
        assert [event.kind for event in events.of(StoreFailed)] == ["timeout"] * FAILURES_UNTIL_OPEN
        clock.shift += OPEN_SECONDS * 1.3
        for number in range(20, 40):
            assert manager.get(principal=f"p{number}").value
        assert silent.connections == FAILURES_UNTIL_OPEN + 1
        manager.close()


@pytest.fixture
def server() -> Iterator[DevServer]:
    with DevServer(DevConfig(clients=CLIENTS)) as running:
        yield running


# ---- what it can answer -------------------------------------------------------------------------------------

ANSWERS = {
    "OOM command not allowed when used memory > 'maxmemory'.": "out of memory",
    "READONLY You can't write against a read only replica.": "read-only",
    "NOREPLICAS Not enough good replicas to write.": "read-only",
    "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.": "misconfigured",
    "LOADING Redis is loading the dataset in memory": "loading",
    "BUSY Redis is busy running a script.": "busy",
    "NOSCRIPT No matching script.": "scripts flushed",
    "NOPERM this user has no permissions to run the 'evalsha' command": "permission",
    "NOAUTH Authentication required.": "authentication",
    "WRONGPASS invalid username-password pair or user is disabled.": "authentication",
    "CLUSTERDOWN The cluster is down": "cluster down",
    "MASTERDOWN Link with MASTER is down": "cluster down",
    "TRYAGAIN Multiple keys request during rehashing of slot": "cluster moving",
    "CROSSSLOT Keys in request don't hash to the same slot": "cross slot",
    "WRONGTYPE Operation against a key holding the wrong kind of value": "wrong type",
    "ERR Error running script (call to f_0): @user_script:3: -OOM command not allowed": "out of memory",
    "ERR The user executing the script can't run this command or subcommand": "permission",
    "ERR unknown command 'EVALSHA'": "refused",
    "ERR max number of clients reached": "connection",
}


@pytest.mark.parametrize("answer", ANSWERS)
@covers("M21", outcome="DEGRADE with a reason in a word")
def test_an_error_of_redis_is_a_word(answer: str) -> None:
    with FakeRedis(says(f"-{answer}\r\n".encode())) as fake:
        store = RedisStore(fake.url, timeout=10.0)
        with pytest.raises(StoreError) as caught:
            store.read(make_identity())
        assert caught.value.reason == ANSWERS[answer]
        # Nothing of what it said is told on, and nothing of redis-py hangs on it.
        assert "script" not in caught.value.summary or "scripts flushed" in caught.value.summary
        assert caught.value.__cause__ is caught.value.__context__ is None
        # One command, and the whole script once where it is not known: nothing is retried.
        assert len(fake.commands) == (2 if answer.startswith("NOSCRIPT") else 1)


def drip(_: list[bytes], connection: socket.socket) -> None:
    for byte in b"*2\r\n*-1\r\n*0\r\n" * 100:
        connection.sendall(bytes([byte]))
        threading.Event().wait(0.1)


def cut_off(_: list[bytes], connection: socket.socket) -> None:
    connection.sendall(b"*2\r\n*5\r\n:1")
    connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "not Redis"),
        (says(b"*x\r\n"), "not Redis"),
        (says(b"$-1\r\n"), "not Redis"),
        (says(b"*3\r\n:1\r\n:2\r\n:3\r\n"), "not Redis"),
        (says(b"*2\r\n*5\r\n:1\r\n:2\r\n$1\r\nx\r\n:0\r\n$3\r\nabc\r\n*0\r\n"), "not Redis"),
        (says(b":5\r\n"), "not Redis"),
        (drip, "timeout"),
        (cut_off, "connection"),
        (lambda *_: None, "timeout"),
    ],
    ids=["http", "bad number", "nothing", "numbers", "wrong kinds", "a number", "drip", "cut off", "silence"],
)
@covers("N02", "N06", outcome="DEGRADE within the time-out, on a connection that is not used again")
def test_an_answer_that_is_none(reply: Callable[..., None], reason: str) -> None:
    with FakeRedis(reply) as fake:
        store = RedisStore(fake.url, timeout=0.25)
        began = time.monotonic()
        with pytest.raises(StoreError) as caught:
            store.read(make_identity())
        # A safety time-out far above 250 ms: a drip that was waited for to its end takes two minutes.
        assert time.monotonic() - began < 10.0
        assert caught.value.reason == reason


@covers("N12", outcome="DEGRADE: who finds no connection free waits within the time-out only")
def test_a_pool_that_is_exhausted(valkey: Server) -> None:
    release = threading.Event()
    with Proxy(valkey.port) as proxy:
        store = RedisStore(proxy.url, timeout=0.3, max_connections=1)
        store.read(make_identity())
        pool = store._pools.pool(store._settings.places[0])
        link = pool.borrow(time.monotonic() + 10)
        with pytest.raises(StoreError) as caught:
            store.read(make_identity())
        assert caught.value.reason == "exhausted"
        # And whoever waits when it is given back has it at once.
        patient = RedisStore(proxy.url, timeout=30.0, max_connections=1)
        patient._pools = store._pools
        patient._router._pools = store._pools
        done: list[object] = []
        waiter = threading.Thread(target=lambda: (done.append(patient.read(make_identity())), release.set()))
        waiter.start()
        eventually(lambda: len(pool._waiting) == 1, "a waiter")
        pool.give_back(link)
        assert release.wait(30)
        waiter.join()
        assert done == [None]
        assert proxy.connections == 1
        store.close()


@covers("N06", "N13", outcome="OK: a connection with an answer that nobody took is never used again")
def test_an_answer_that_comes_late_reaches_nobody(valkey: Server) -> None:
    mine, other = make_identity(), make_identity()
    with Proxy(valkey.port) as proxy:
        store = RedisStore(proxy.url, timeout=0.2, max_connections=1)
        owner = {"newer_than": None, "credential": "", "lease": 30.0}
        store.claim(mine, owner="mine", **owner)  # type: ignore[arg-type]
        proxy.delay = lambda: 0.4
        with pytest.raises(StoreError, match="timeout"):
            store.claim(mine, owner="another", **owner)  # type: ignore[arg-type]
        proxy.delay = lambda: 0.0
        eventually(lambda: _answer(store, other) is None, "an answer")
        assert _answer(store, other) is None
        # Also one that came whole, but twice.
        pool = store._pools.pool(store._settings.places[0])
        (link,) = pool._idle
        link.send_command("ECHO", "too much")  # type: ignore[no-untyped-call]
        eventually(lambda: not link.is_clean(), "the answer")
        assert store.read(other) is None
        assert link not in pool._idle
        store.close()


def _answer(store: RedisStore, identity: object) -> object:
    with contextlib.suppress(StoreError):
        return store.read(identity)  # type: ignore[arg-type]
    return "none yet"
