"""The ways in which an authorization server goes out of reach, and comes back."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Literal, Self
from urllib.parse import urlsplit

from accredit.devserver import DevServerProcess

_RESET = struct.pack("ii", 1, 0)


class Relay:
    """Passes connections on to a server; or takes them and says nothing, or takes them and breaks them off.

    One thread for each direction of each connection.
    """

    def __init__(self, target: str) -> None:
        where = urlsplit(target)
        self._target = (where.hostname or "", where.port or 0)
        self.mode: Literal["pass", "swallow", "drop"] = "pass"
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        #: Connections that were taken, by mode.
        self.taken = {"pass": 0, "swallow": 0, "drop": 0}

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.break_off()
        for thread in self._threads:
            thread.join(10.0)

    def break_off(self) -> None:
        """End every connection there is."""
        with self._lock:
            ending = list(self._open)
        for each in ending:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.taken[self.mode] += 1
            if self.mode == "drop":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
            elif self.mode == "swallow":
                self._start(self._swallow, client)
            else:
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        done = threading.Barrier(2, action=lambda: self._close(client, server))
        with self._lock:
            self._open |= {client, server}
        self._start(self._pump, client, server, done)
        self._start(self._pump, server, client, done)

    def _start(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, done: threading.Barrier) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                sink.sendall(part)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        done.wait()

    def _swallow(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)
        with contextlib.suppress(OSError):
            while client.recv(65536):
                pass
        self._close(client)

    def _close(self, *sockets: socket.socket) -> None:
        with self._lock:
            self._open -= set(sockets)
        for each in sockets:
            each.close()


class Outage(ABC):
    """One way. ``begin()`` and ``end()`` return when it is so.

    Attributes:
        token_endpoint: where clients are to ask for tokens.

    """

    name: ClassVar[str]

    def __init__(self, server: DevServerProcess, relay: Relay) -> None:
        self.server = server
        self.relay = relay
        self.token_endpoint = server.token_endpoint

    @abstractmethod
    def begin(self) -> None:
        """Take the server out of reach."""

    @abstractmethod
    def end(self) -> None:
        """Bring it back."""

    @property
    def reachable_by_admin(self) -> bool:
        """Whether the server's switches work during the outage."""
        return True


class Killed(Outage):
    """Its process is killed: connections are refused. A new one comes up at the same address, with another key."""

    name = "killed"
    reachable_by_admin = False

    def begin(self) -> None:
        self.server.kill()

    def end(self) -> None:
        self.server.start()


class Stopped(Outage):
    """Its process stands still: the system takes connections for it, and nobody answers."""

    name = "stopped"
    reachable_by_admin = False

    def begin(self) -> None:
        assert self.server.pid is not None
        os.kill(self.server.pid, signal.SIGSTOP)

    def end(self) -> None:
        assert self.server.pid is not None
        os.kill(self.server.pid, signal.SIGCONT)


class _Relayed(Outage):
    mode: ClassVar[Literal["swallow", "drop"]]

    def __init__(self, server: DevServerProcess, relay: Relay) -> None:
        super().__init__(server, relay)
        self.token_endpoint = f"{relay.url}/token"

    def begin(self) -> None:
        self.relay.mode = self.mode
        self.relay.break_off()

    def end(self) -> None:
        self.relay.mode = "pass"
        self.relay.break_off()


class Swallowed(_Relayed):
    """A black hole: what is in front of it takes connections and never answers."""

    name = "black-holed"
    mode = "swallow"


class Dropped(_Relayed):
    """What is in front of it takes connections and resets them."""

    name = "dropped"
    mode = "drop"


class Failing(Outage):
    """It answers 500 to everything."""

    name = "failing"

    def begin(self) -> None:
        self.server.fail(500, path="*")

    def end(self) -> None:
        self.server.recover()


KINDS: dict[str, type[Outage]] = {kind.name: kind for kind in (Killed, Stopped, Swallowed, Dropped, Failing)}


def can_be_played(kind: str) -> bool:
    """Tell whether this platform can do that to a process."""
    return kind != Stopped.name or hasattr(signal, "SIGSTOP")
