"""How the Redis store finds its way in: URLs, clients of the application, TLS, users, forks; what it never shows."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import re
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from cryptography.x509.oid import ExtendedKeyUsageOID
from redis.sentinel import Sentinel

from accredit import Secret, TokenManager
from accredit.devserver import DevConfig, DevServer
from accredit.errors import ConfigurationError, StoreError
from accredit.stores.redis import RedisStore
from accredit.testing.store_contract import make_identity, make_record
from tests.bad_inputs.model import covers
from tests.runtime.support import CLIENTS, eventually, registration
from tests.runtime.test_fork import Child
from tests.servers.redis import (
    PATIENCE,
    ClusterServers,
    SentinelServers,
    Server,
    redis_6,
    redis_cluster,
    require,
    start_sentinels,
    valkey,
)
from tests.servers.resp import FakeRedis, Proxy, says
from tests.support.certificates import Authority

__all__ = ["redis_6", "redis_cluster", "valkey"]
pytestmark = pytest.mark.real_server
PASSWORD = "r3d1sCanary/é %41"


def works(store: RedisStore) -> bool:
    """Tell whether what is published is there."""
    identity = make_identity()
    store.publish(identity, owner="a", record=make_record(identity), remaining=60.0, credential="", based_on=None)
    found = store.read(identity)
    store.remove(identity)
    store.close()
    return found is not None


# ---- URLs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://cache.example", "redis://cache.example:6379"),
        ("redis://cache.example:7000/3", "redis://cache.example:7000/3"),
        ("redis://joe:r3d1sCanary@cache.example", "redis://cache.example:6379"),
        ("redis://:r3d1sCanary@[::1]:7000", "redis://::1:7000"),
        ("rediss://cache.example", "rediss://cache.example:6379"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock/2"),
        ("unix://joe:r3d1sCanary@/run/redis.sock", "unix:///run/redis.sock"),
        ("redis+sentinel://a,b:1,[::1]:2/tokens", "redis+sentinel://a:26379,b:1,::1:2/tokens"),
        ("rediss+sentinel://joe:r3d1sCanary@a/tokens/4", "rediss+sentinel://a:26379/tokens/4"),
        ("redis+cluster://a,b:1", "redis+cluster://a:6379,b:1"),
        ("rediss+cluster://joe:r3d1sCanary@a", "rediss+cluster://a:6379"),
    ],
)
@covers("N01", outcome="OK: making a store opens nothing and shows no password")
def test_urls(url: str, shown: str) -> None:
    store = RedisStore(url)
    assert repr(store) == f"RedisStore({shown!r}, prefix='oauth2:client')"
    login = store._settings.login
    if "@" in url:
        assert login.password is not None
        assert (login.username or "") == ("joe" if "joe" in url else "")
    assert "r3d1sCanary" not in repr(store._settings) + str(vars(store)) + str(login)


@pytest.mark.parametrize(
    "url",
    [
        "", "cache.example", "http://r3d1sCanary@x", "redis://", "redis://:r3d1sCanary@", "redis://a,b",
        "redis://x:r3d1sCanary", "redis://x:0", "redis://x:70000", "redis://x/one", "redis://x/1?db=2", "redis://x/-1",
        "redis://x/99999999", "redis://x?ssl_cert_reqs=none", "redis://x#r3d1sCanary", "redis://x?a", "redis://[x",
        "redis+sentinel://a,b", "redis+sentinel:///tokens", "redis+cluster://a/1", "redis+cluster://", "unix://x/y",
        "unix://", "redis+sentinel://a,/tokens",
    ],
)  # fmt: skip
def test_urls_that_are_none_are_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisStore(url)
    assert "r3d1sCanary" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert caught.value.key == "store.url"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"timeout": 0}, "timeout"), ({"timeout": 61}, "timeout"), ({"timeout": True}, "timeout"),
        ({"timeout": float("nan")}, "timeout"), ({"timeout": "1"}, "timeout"),
        ({"max_connections": 0}, "max_connections"), ({"max_connections": True}, "max_connections"),
        ({"max_connections": 1.5}, "max_connections"),
        ({"ca_file": "x.pem"}, "url"), ({"client_certificate": ("a", "b")}, "url"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisStore("redis://127.0.0.1", **settings)
    assert caught.value.key == f"store.{key}"


# ---- a client of the application ----------------------------------------------------------------------------


def clients(server: Server) -> dict[str, Callable[[], Any]]:
    port = server.port
    return {
        "plain": lambda: redis.Redis(port=port),
        "decoding": lambda: redis.Redis(port=port, decode_responses=True, db=3),
        "from a URL": lambda: redis.from_url(f"redis://127.0.0.1:{port}/2"),
        "of a pool": lambda: redis.Redis(connection_pool=redis.ConnectionPool(port=port, max_connections=1)),
        "asynchronous": lambda: redis.asyncio.Redis(port=port, decode_responses=True),
        "with RESP3": lambda: redis.Redis(port=port, protocol=3),
    }


@pytest.mark.parametrize("kind", ["plain", "decoding", "from a URL", "of a pool", "asynchronous", "with RESP3"])
@covers("M23", "N16", outcome="OK: of a client the settings are taken, and never a connection")
def test_a_client_that_the_application_has(valkey: Server, kind: str) -> None:
    client = clients(valkey)[kind]()
    identity = make_identity()
    store = RedisStore(client, timeout=PATIENCE)
    store.publish(identity, owner="a", record=make_record(identity), remaining=60.0, credential="", based_on=None)
    assert store.read(identity) is not None
    database = client.connection_pool.connection_kwargs.get("db", 0)
    with valkey.client(db=database) as other:
        assert other.exists(identity.store_key())
    # Nothing of the application's was used, whatever it is doing with it: here, nothing at all.
    pool = client.connection_pool
    assert not getattr(pool, "_available_connections", None)
    assert not getattr(pool, "_in_use_connections", None)
    store.remove(identity)
    store.close()


@covers("N16", outcome="OK: the application may sit in a transaction or a subscription")
def test_the_application_may_be_in_the_middle_of_something(valkey: Server) -> None:
    with valkey.client(max_connections=1) as client, client.pubsub() as subscription:
        subscription.subscribe("news")
        store = RedisStore(client, timeout=PATIENCE)
        assert works(store)
        assert subscription.get_message(timeout=PATIENCE)["type"] == "subscribe"


def test_a_client_with_tls_and_a_login_gives_both() -> None:
    client = redis.Redis(host="cache.example", ssl=True, username="joe", password=PASSWORD, ssl_ca_certs="/x/ca.pem")
    store = RedisStore(client)
    assert str(store._settings) == "rediss://cache.example:6379"
    assert store._settings.login.username == "joe"
    assert PASSWORD not in repr(store) + repr(store._settings)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        store._pools._link(store._settings.places[0])


@pytest.mark.parametrize(
    "settings", [{"ssl_cert_reqs": "none"}, {"ssl_cert_reqs": "optional"}, {"ssl_check_hostname": False}]
)
def test_a_client_that_does_not_look_at_certificates_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="certificate"):
        RedisStore(redis.Redis(ssl=True, **settings))


@pytest.mark.parametrize("what", [None, object(), 7, b"redis://x"])
def test_what_is_no_client_is_refused(what: Any) -> None:
    with pytest.raises(ConfigurationError, match="client"):
        RedisStore(what)


def test_a_client_brings_its_own_login() -> None:
    with pytest.raises(ConfigurationError, match="login"):
        RedisStore(redis.Redis(), password="x")


def test_a_cluster_client(redis_cluster: ClusterServers) -> None:
    with redis.RedisCluster(host="127.0.0.1", port=redis_cluster.servers[0].port) as client:
        store = RedisStore(client, timeout=PATIENCE)
        assert store._settings.kind == "cluster"
        assert all(works(store) for _ in range(8))


@pytest.mark.timeout(300)
def test_a_sentinel_client_and_one_dead_sentinel() -> None:
    with tempfile.TemporaryDirectory() as folder, start_sentinels(Path(folder)) as servers:
        make: Any = Sentinel  # redis-py is typed in part
        sentinel = make([("127.0.0.1", one.port) for one in servers.sentinels], socket_timeout=PATIENCE)
        store = RedisStore(sentinel.master_for(SentinelServers.SERVICE), timeout=PATIENCE)
        assert store._settings.kind == "sentinel"
        assert works(store)
        servers.sentinels[0].kill()
        assert works(RedisStore(servers.url, timeout=PATIENCE))
        wrong_name = RedisStore(servers.url.replace("/tokens", "/other"), timeout=PATIENCE)
        with pytest.raises(StoreError, match="not known"):
            works(wrong_name)


def test_a_unix_socket() -> None:
    require("valkey")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/redis.sock"
        with Server("valkey", "--unixsocket", path):
            assert works(RedisStore(f"unix://{path}", timeout=PATIENCE))
            assert works(RedisStore(redis.Redis(unix_socket_path=path), timeout=PATIENCE))


# ---- users --------------------------------------------------------------------------------------------------

#: What the documentation tells operators to grant; the tests run with exactly this.
RIGHTS = (Path(__file__).parent.parent.parent / "docs" / "redis.md").read_text(encoding="utf-8")


def rights() -> list[str]:
    found = re.search(r"ACL SETUSER accredit on (.+)$", RIGHTS, re.MULTILINE)
    assert found is not None
    return found[1].replace(">PASSWORD", f">{PASSWORD}").split(" ")


@pytest.fixture(params=["valkey", "redis"])
def guarded(request: pytest.FixtureRequest) -> Iterator[Server]:
    require(request.param)
    with Server(request.param) as server, server.client() as client:
        words = " ".join(rights()).replace(PASSWORD, "PASSWORD").split(" ")
        client.execute_command("ACL", "SETUSER", "accredit", "on", *(w.replace("PASSWORD", PASSWORD) for w in words))
        client.execute_command("ACL", "SETUSER", "default", "resetpass", ">admin")
        yield server


def test_the_documented_rights_are_enough_and_no_more(guarded: Server, server: DevServer) -> None:
    store = RedisStore(guarded.url, timeout=PATIENCE, username="accredit", password=PASSWORD)
    with TokenManager(registration(server), store=store) as manager:
        token = manager.get()
        assert manager.renew() != token
        manager.suspect(manager.get())
        manager.get()
        manager._engine.refused_again(manager._engine.slots[token.fingerprint], "https://api.example")
        manager.remove()
        identity = manager._engine.slots[token.fingerprint].request.identity
    from accredit.core.records import Hold
    from accredit.errors import ThrottledError

    store.fail(identity, owner="a", hold=Hold(1.0, ThrottledError("slow"), 1))
    store.hold_endpoint("x", Hold(1.0, ThrottledError("slow"), 1))
    assert store.endpoint_hold("x") is not None
    assert list(store.entries()) == []
    assert store.purge() == 0
    with (
        redis.Redis(port=guarded.port, username="accredit", password=PASSWORD) as client,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        client.get("somebody:elses")
    store.close()


def test_keys_outside_the_pattern_are_refused_with_a_word(guarded: Server) -> None:
    store = RedisStore(guarded.url, timeout=PATIENCE, username="accredit", password=PASSWORD, prefix="elsewhere")
    with pytest.raises(StoreError) as caught:
        works(store)
    assert caught.value.reason == "permission"


@covers("N11", outcome="OK: a password that was rotated is read again at the next log-in")
def test_a_password_that_is_rotated(guarded: Server, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n", encoding="utf-8")
    store = RedisStore(guarded.url, timeout=PATIENCE, username="accredit", password=Secret.from_file(file))
    assert works(store)
    with guarded.client(password="admin") as client:
        client.execute_command("ACL", "SETUSER", "accredit", "resetpass", ">next")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    eventually(lambda: not _works(store), "a refusal")
    with pytest.raises(StoreError) as caught:
        works(store)
    assert caught.value.reason == "authentication"
    assert PASSWORD not in str(caught.value)
    file.write_text("next\n", encoding="utf-8")
    os.utime(file, ns=(1, 1))
    assert works(store)


def _works(store: RedisStore) -> bool:
    try:
        return works(store)
    except StoreError:
        return False


def test_a_password_that_cannot_be_read_is_a_failure_of_the_store(valkey: Server, tmp_path: Path) -> None:
    store = RedisStore(valkey.url, timeout=PATIENCE, password=Secret.from_file(tmp_path / "none"))
    with pytest.raises(StoreError) as caught:
        works(store)
    assert caught.value.reason == "configuration"


@covers("T02", "T07", outcome="OK: no password in what is shown, logged, raised or pickled")
def test_the_password_is_nowhere_to_be_seen(caplog: pytest.LogCaptureFixture, server: DevServer) -> None:
    caplog.set_level(logging.DEBUG)
    with FakeRedis(says(b"-WRONGPASS invalid username-password pair " + PASSWORD.encode() + b"\r\n")) as fake:
        store = RedisStore(fake.url, timeout=PATIENCE, username="joe", password=PASSWORD)
        with pytest.raises(StoreError) as caught:
            works(store)
        texts = [str(caught.value), repr(caught.value), repr(store), str(vars(store)), str(vars(store._pools))]
        trace = caught.value.__traceback__
        while trace is not None:
            texts.append(repr(trace.tb_frame.f_locals))
            trace = trace.tb_next
        with TokenManager(registration(server), store=store) as manager:
            assert manager.get().value
        for text in [*texts, caplog.text]:
            assert "r3d1sCanary" not in text
        assert fake.commands[0] == [b"AUTH", b"joe", PASSWORD.encode()]
        with pytest.raises(TypeError):
            pickle.dumps(store)


# ---- TLS ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@covers("K01", "K03", outcome="DEGRADE: a certificate of another authority or for another name is refused")
def test_tls_checks_the_certificate_and_the_name(valkey: Server, authority: Authority, tmp_path: Path) -> None:
    ca_file = authority.write(tmp_path)
    other = Authority("another").write(tmp_path, "other.pem")
    right = authority.issue("127.0.0.1").server_context(tmp_path, "right")
    wrong = authority.issue("cache.example").server_context(tmp_path, "wrong")
    with Proxy(valkey.port, context=right) as proxy, Proxy(valkey.port, context=wrong) as impostor:
        assert works(RedisStore(proxy.url.replace("redis:", "rediss:"), ca_file=ca_file, timeout=PATIENCE))
        client = redis.Redis(port=proxy.port, ssl=True, ssl_ca_certs=str(ca_file), host="127.0.0.1")
        assert works(RedisStore(client, timeout=PATIENCE))
        for port, trusted in ((proxy.port, other), (proxy.port, None), (impostor.port, ca_file)):
            with pytest.raises(StoreError) as caught:
                works(RedisStore(f"rediss://127.0.0.1:{port}", ca_file=trusted, timeout=PATIENCE))
            assert caught.value.reason == "certificate"
        # Neither does it talk TLS to one that does not, nor the other way round.
        for url in (valkey.url.replace("redis:", "rediss:"), proxy.url):
            with pytest.raises(StoreError):
                works(RedisStore(url, ca_file=ca_file if "rediss" in url else None, timeout=PATIENCE))


def test_mutual_tls(valkey: Server, authority: Authority, tmp_path: Path) -> None:
    ca_file = authority.write(tmp_path)
    context = authority.issue("127.0.0.1").server_context(tmp_path, "server")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca_file)
    files = authority.issue("orders-worker", purpose=ExtendedKeyUsageOID.CLIENT_AUTH).write(tmp_path, "client")
    with Proxy(valkey.port, context=context) as proxy:
        url = proxy.url.replace("redis:", "rediss:")
        assert works(RedisStore(url, ca_file=ca_file, client_certificate=files, timeout=PATIENCE))
        with pytest.raises(StoreError):
            works(RedisStore(url, ca_file=ca_file, timeout=PATIENCE))


@pytest.fixture
def server() -> Iterator[DevServer]:
    with DevServer(DevConfig(clients=CLIENTS)) as running:
        yield running


# ---- forks, threads, interpreters ---------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@covers("Q01", outcome="OK: the child opens connections of its own, and the parent's stay open")
def test_a_forked_child_has_connections_of_its_own(valkey: Server) -> None:
    with Proxy(valkey.port) as proxy:
        store = RedisStore(proxy.url, timeout=PATIENCE)
        identity = make_identity()
        assert store.read(identity) is None
        assert proxy.connections == 1

        def in_the_child() -> bool:
            found = store.read(identity) is None
            gc.collect()
            return found

        assert Child(in_the_child).result() is True
        assert proxy.connections == 2
        # The child is gone and so are its sockets; ours goes on as if nothing had been.
        assert store.read(identity) is None
        assert proxy.connections == 2
        store.close()


def test_the_configuration_and_the_command_line_know_it(
    valkey: Server, server: DevServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    from accredit.cli.main import main

    config = tmp_path / "accredit.toml"
    config.write_text(
        f'[store]\nurl = "{valkey.url}"\nprefix = "by-config"\n[registration.api-client]\n'
        f'token_endpoint = "{server.token_endpoint}"\nclient_id = "api-client"\n'
        'client_secret = { env = "API_SECRET" }\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("API_SECRET", "dev-secret")
    monkeypatch.setenv("ACCREDIT_CONFIG", str(config))
    # The default is for services; a machine that runs tests may stand still for longer.
    monkeypatch.setitem(RedisStore.__init__.__kwdefaults__, "timeout", PATIENCE)
    with TokenManager.from_config() as manager:
        token = manager.get()
    entries = []
    for arguments in (["list", "--json"], ["purge"], ["list", "--json"]):
        assert main(["store", *arguments]) == 0
        entries.append("".join(capsys.readouterr()))
    assert "by-config:api-client:service-account" in entries[0]
    assert token.value not in "".join(entries)
    assert "1 token" in entries[1]
    assert "by-config" not in entries[2]


def test_a_closed_store_opens_again(valkey: Server) -> None:
    store = RedisStore(valkey.url, timeout=PATIENCE)
    store.read(make_identity())
    store.close()
    assert store.read(make_identity()) is None
    store.close()


def test_many_threads_share_few_connections(valkey: Server) -> None:
    with Proxy(valkey.port) as proxy:
        store = RedisStore(proxy.url, timeout=PATIENCE, max_connections=3)
        failed: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(20):
                    assert store.read(make_identity()) is None
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work) for _ in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert proxy.connections <= 3
        store.close()


@pytest.mark.parametrize("threads", [False, True])
def test_where_no_threads_can_run_the_caller_connects(valkey: Server, monkeypatch: Any, threads: bool) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    store = RedisStore(valkey.url, timeout=PATIENCE, connect_threads=threads)
    assert works(store)
    silent = RedisStore("redis://127.0.0.1:1", timeout=PATIENCE, connect_threads=threads)
    with pytest.raises(StoreError) as caught:
        works(silent)
    assert caught.value.reason == "unreachable"


GREENLETS = """
import sys
from gevent import monkey
if sys.argv[2] == "before":
    monkey.patch_all()
import gevent
from accredit.stores.redis import RedisStore
store = RedisStore(sys.argv[1], timeout=30.0, max_connections=2)
if sys.argv[2] == "after":
    monkey.patch_all()
from accredit.testing.store_contract import make_identity, make_record
identities = [make_identity() for _ in range(40)]
for number, identity in enumerate(identities):
    record = make_record(identity, f"token-{number}")
    store.publish(identity, owner="a", record=record, remaining=60.0, credential="", based_on=None)
def read(number):
    return store.read(identities[number]).record.value
greenlets = [gevent.spawn(read, number % 40) for number in range(400)]
gevent.sleep(0.01)
killed = [greenlet for greenlet in greenlets[::3] if not greenlet.dead]
gevent.killall(killed)
gevent.joinall(greenlets)
wrong = [n for n, g in enumerate(greenlets) if isinstance(g.value, str) and g.value != f"token-{n % 40}"]
right = sum(isinstance(greenlet.value, str) for greenlet in greenlets)
print(len(killed) > 0, right >= 200, wrong, [read(number) for number in range(40)] == [f"token-{n}" for n in range(40)])
"""


@pytest.mark.parametrize("patched", ["before", "after"])
@covers("N15", outcome="OK: a greenlet that is killed in the middle takes its connection along")
def test_greenlets_that_are_killed_in_the_middle(valkey: Server, patched: str) -> None:
    pytest.importorskip("gevent")
    with Proxy(valkey.port, lambda: 0.002) as proxy:
        command = [sys.executable, "-W", "ignore", "-c", GREENLETS, proxy.url, patched]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout.split() == ["True", "True", "[]", "True"], done.stderr


@covers("T11", outcome="OK: importing the module says which extra to install, and importing accredit does without")
def test_without_redis_py_the_extra_is_named() -> None:
    code = (
        "import sys\nsys.modules['redis'] = None\nimport accredit, accredit.stores\n"
        "try:\n    import accredit.stores.redis\nexcept ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert "accredit[redis]" in done.stdout
