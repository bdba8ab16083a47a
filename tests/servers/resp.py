"""A server that speaks enough of the Redis protocol to misbehave, and a proxy that delays what a real one says."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Self

Reply = Callable[[list[bytes], socket.socket], None]


class _Listener:
    """Accepts connections on a free port, each served by a thread of its own."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._socket.getsockname()[1]
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._socket.close()
        self.hang_up()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def hang_up(self) -> None:
        """Break every connection."""
        with self._lock:
            sockets = list(self._open)
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            with self._lock:
                self._open.add(connection)
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._serve(connection)
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._open.discard(connection)

    def _serve(self, connection: socket.socket) -> None:
        raise NotImplementedError


class FakeRedis(_Listener):
    """Answers each command with what ``reply`` sends."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply
        self.commands: list[list[bytes]] = []

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            while True:
                start = lines.readline()
                if not start:
                    return
                command = []
                for _ in range(int(start[1:])):
                    size = int(lines.readline()[1:])
                    command.append(lines.read(size + 2)[:-2])
                self.commands.append(command)
                self.reply(command, connection)


def says(*data: bytes) -> Reply:
    """Return a reply that is always the same."""
    return lambda _, connection: connection.sendall(b"".join(data))


class Proxy(_Listener):
    """Passes bytes on between clients and a server, late if it is told to.

    Attributes:
        delay: returns the seconds by which the next answer is late.

    """

    def __init__(
        self, port: int, delay: Callable[[], float] = lambda: 0.0, *, context: ssl.SSLContext | None = None
    ) -> None:
        super().__init__()
        self._port = port
        self.delay = delay
        self._context = context

    def _serve(self, connection: socket.socket) -> None:
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True)
        with connection, socket.create_connection(("127.0.0.1", self._port)) as behind:
            up = threading.Thread(target=self._pass_on, args=(connection, behind, False), daemon=True)
            up.start()
            self._pass_on(behind, connection, True)
            up.join()

    def _pass_on(self, source: socket.socket, sink: socket.socket, late: bool) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := source.recv(65536):
                seconds = self.delay() if late else 0.0
                if seconds > 0:
                    self.over.wait(seconds)
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def up_to(seconds: float, seed: int = 1) -> Callable[[], float]:
    """Return delays drawn between nothing and so many seconds."""
    draw = random.Random(seed)
    return lambda: draw.random() * seconds
