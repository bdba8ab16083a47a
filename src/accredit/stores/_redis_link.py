"""Connections to Redis on redis-py, each operation of which ends by its deadline, and a pool of them.

redis-py speaks the protocol and logs in. Its time-outs count from byte to byte and its retries add up to a minute, so
here a deadline counts for the whole operation, nothing is retried, and connecting goes on beside an operation that
cannot wait for it: the next one finds the connection.
"""

from __future__ import annotations

import inspect
import os
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import redis
from redis.credentials import CredentialProvider

from accredit.errors import ConfigurationError, StoreError
from accredit.secret_sources import SecretReader
from accredit.stores._redis_faults import reason_of, store_error
from accredit.stores._redis_settings import Login, Place

#: Seconds after which an idle connection is not trusted any more: firewalls forget connections without a word.
IDLE_SECONDS: Final = 60.0
#: Seconds that connecting may take beside operations that have given up on it.
CONNECT_SECONDS: Final = 5.0
# No CLIENT SETINFO: two round trips, and a right that users of an ACL often lack.
_QUIET: Final[dict[str, Any]] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(redis.connection.AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)


class _Credentials(CredentialProvider):
    """Reads the password when a connection logs in, so that one that was rotated is found."""

    def __init__(self, login: Login, reader: SecretReader) -> None:
        self._login = login
        self._reader = reader

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return what ``AUTH`` takes."""
        username, source, provider = self._login
        if provider is not None:
            return provider()  # type: ignore[return-value]  # redis-py wants a tuple of one or two
        password = "" if source is None else self._reader.read(source).reveal()
        return (username, password) if username is not None else (password,)


class _TimedSocket:
    """A socket of which everything ends by the deadline of its link, however slowly bytes drip."""

    def __init__(self, sock: socket.socket, link: Link) -> None:
        self._sock = sock
        self._link = link
        self._at_once = False

    def settimeout(self, seconds: float | None) -> None:
        """Note whether redis-py only wants to look; how long it may wait is not its to say."""
        self._at_once = seconds == 0

    def recv(self, size: int) -> bytes:
        self._arm()
        return self._sock.recv(size)

    def recv_into(self, *arguments: Any) -> int:
        self._arm()
        return self._sock.recv_into(*arguments)

    def sendall(self, data: bytes) -> None:
        self._arm()
        self._sock.sendall(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def _arm(self) -> None:
        self._sock.settimeout(0.0 if self._at_once else self._link.rest())


class Link(redis.Connection):
    """One connection.

    Attributes:
        place: where to.
        deadline: ``time.monotonic()`` by which the operation under way has to end.
        used_at: when it was given back.

    """

    def __init__(
        self,
        place: Place,
        *,
        database: int,
        login: Login,
        reader: SecretReader,
        context: ssl.SSLContext | None,
    ) -> None:
        """Connect to nothing yet."""
        self.place = place
        self.deadline = 0.0
        self.used_at = 0.0
        self._context = context
        credentials = None if login == Login() else _Credentials(login, reader)
        super().__init__(  # type: ignore[no-untyped-call]  # redis-py is typed in part
            host=place.host,
            port=place.port,
            db=database,
            socket_timeout=CONNECT_SECONDS,
            socket_connect_timeout=CONNECT_SECONDS,
            protocol=2,
            decode_responses=False,
            health_check_interval=0,
            credential_provider=credentials,
            **_QUIET,
        )

    def rest(self) -> float:
        """Return the seconds that are left.

        Raises:
            TimeoutError: none are.

        """
        rest = self.deadline - time.monotonic()
        if rest <= 0:
            raise TimeoutError
        return rest

    def ask(self, *command: bytes | str | int) -> Any:
        """Send a command and return the answer as bytes, whatever the application's clients do."""
        self.send_command(*command, check_health=False)  # type: ignore[no-untyped-call]  # redis-py is typed in part
        return self.read_response(disable_decoding=True)

    def is_clean(self) -> bool:
        """Tell whether it is open and nothing waits to be read: an answer that nobody took makes it unusable."""
        try:
            return self._sock is not None and not self.can_read(timeout=0)
        except Exception:
            return False

    def _connect(self) -> Any:
        # What redis-py calls to get a socket.
        sock = self._open_socket()
        try:
            if self._context is not None:
                sock.settimeout(self.rest())
                sock = self._context.wrap_socket(sock, server_hostname=self.place.host)
        except BaseException:
            sock.close()
            raise
        return _TimedSocket(sock, self)

    def _open_socket(self) -> socket.socket:
        if not self.place.port:
            return self._open(socket.AF_UNIX, self.place.host)
        last: OSError | None = None
        for family, _, _, _, address in socket.getaddrinfo(self.place.host, self.place.port, 0, socket.SOCK_STREAM):
            try:
                return self._open(family, address)
            except OSError as error:
                last = error
        raise last or OSError("no address")

    def _open(self, family: int, address: Any) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if family != getattr(socket, "AF_UNIX", None):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.settimeout(self.rest())
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock


class _Ticket:
    """One operation that waits for a connection."""

    __slots__ = ("abandoned", "gate", "link", "reason")

    def __init__(self) -> None:
        # One lock per waiter: the primitive that also works when real threads and greenlets meet under gevent.
        self.gate = threading.Lock()
        self.gate.acquire()
        self.link: Link | None = None
        self.reason: str | None = None
        self.abandoned = False


class Pool:
    """The connections to one server: at most so many, the one used last first."""

    def __init__(self, make: Callable[[], Link], place: Place, most: int, *, threads: bool = True) -> None:
        """Open nothing yet."""
        self.place = place
        self._threads = threads
        self._make = make
        self._most = most
        self._lock = threading.Lock()
        self._idle: list[Link] = []
        self._waiting: deque[_Ticket] = deque()
        self._open = 0
        self._age = 0

    def borrow(self, deadline: float) -> Link:
        """Return a connection that is open, by ``deadline`` (``time.monotonic()``).

        Raises:
            StoreError: none could be had by then.

        """
        ticket = _Ticket()
        start = False
        with self._lock:
            link = self._take_idle()
            if link is None:
                start = self._open < self._most
                self._open += start
                if not start:
                    self._waiting.append(ticket)
        if link is None:
            if start:
                self._start(ticket, deadline)
            link = self._wait(ticket, deadline, "timeout" if start else "exhausted")
        link.deadline = deadline
        return link

    def give_back(self, link: Link) -> None:
        """Take back a connection whose answer was read to the end."""
        link.used_at = time.monotonic()
        with self._lock:
            if self._waiting:
                ticket = self._waiting.popleft()
                ticket.link = link
                ticket.gate.release()
                return
            self._idle.append(link)

    def drop(self, link: Link) -> None:
        """Close a connection: nobody knows what else will come out of it."""
        _disconnect(link)
        self._closed(1)

    def clear(self) -> None:
        """Close the connections that are idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for link in idle:
            self.drop(link)

    # -- inside --------------------------------------------------------------------------------------

    def _take_idle(self) -> Link | None:
        while self._idle:
            link = self._idle.pop()
            if time.monotonic() - link.used_at < IDLE_SECONDS and link.is_clean():
                return link
            self._open -= 1
            _disconnect(link)
        return None

    def _wait(self, ticket: _Ticket, deadline: float, late: str) -> Link:
        try:
            if not ticket.gate.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
                self._abandon(ticket, late)
        except BaseException:
            # Interrupted, or a greenlet that was killed: nobody is there to take the connection.
            self._abandon(ticket, late)
            if ticket.link is not None:
                self.give_back(ticket.link)
            raise
        if ticket.link is not None:
            return ticket.link
        raise store_error(ticket.reason or late, str(self.place))

    def _abandon(self, ticket: _Ticket, late: str) -> None:
        """Give up waiting, unless there is a connection by now."""
        with self._lock:
            if ticket.link is None and ticket.reason is None:
                ticket.abandoned = True
                ticket.reason = late
                if ticket in self._waiting:
                    self._waiting.remove(ticket)

    def _start(self, ticket: _Ticket, deadline: float) -> None:
        def connect() -> None:
            self._connect(ticket, time.monotonic() + CONNECT_SECONDS)

        if self._threads:
            try:
                threading.Thread(target=connect, name="accredit-redis-connect", daemon=True).start()
            except RuntimeError:  # limits, interpreter shutdown
                pass
            else:
                return
        # No thread can be had: on the caller's own, then, where nothing but the look-up of a name goes on for longer.
        self._connect(ticket, deadline)

    def _connect(self, ticket: _Ticket, deadline: float) -> None:
        link: Link | None = None
        reason: str | None = None
        try:
            link = self._make()
            link.deadline = deadline
            link.connect()  # type: ignore[no-untyped-call]  # redis-py is typed in part
        except ConfigurationError:
            reason = "configuration"
        except BaseException as error:
            reason = reason_of(error)
            # Nothing was sent yet, so another server may be tried.
            reason = "unreachable" if reason == "connection" else reason
        if link is not None and reason is not None:
            _disconnect(link)
        with self._lock:
            abandoned = ticket.abandoned
            if not abandoned:
                ticket.link, ticket.reason = (link, None) if reason is None else (None, reason)
                ticket.gate.release()
        if reason is not None:
            self._closed(1)
        elif abandoned and link is not None:
            self.give_back(link)

    def _closed(self, number: int) -> None:
        """Let those who wait for a place have those that became free."""
        with self._lock:
            self._open -= number
            tickets = []
            while self._waiting and self._open < self._most:
                self._open += 1
                tickets.append(self._waiting.popleft())
        for ticket in tickets:
            self._start(ticket, time.monotonic() + CONNECT_SECONDS)


def _disconnect(link: Link) -> None:
    try:
        link.disconnect()  # type: ignore[no-untyped-call]  # redis-py is typed in part
    except Exception:
        return


class Pools:
    """The pools of the servers that an operation may be sent to. They are forgotten, not closed, in a forked child."""

    def __init__(
        self,
        *,
        database: int,
        login: Login,
        context: Callable[[], ssl.SSLContext] | None,
        most: int,
        threads: bool = True,
    ) -> None:
        """Open nothing yet."""
        self._threads = threads
        self._database = database
        self._login = login
        self._make_context = context
        self._context: ssl.SSLContext | None = None
        self._most = most
        self._reader = SecretReader()
        self._lock = threading.Lock()
        self._pools: dict[Place, Pool] = {}
        self._pid = os.getpid()
        self._lost: list[dict[Place, Pool]] = []

    def pool(self, place: Place) -> Pool:
        """Return the pool of that server."""
        if self._pid != os.getpid():
            self.after_fork()
        with self._lock:
            pool = self._pools.get(place)
            if pool is None:
                pool = self._pools[place] = Pool(lambda: self._link(place), place, self._most, threads=self._threads)
            return pool

    def keep_only(self, places: set[Place]) -> None:
        """Close what is idle to servers that are none any more."""
        with self._lock:
            gone = [self._pools.pop(place) for place in list(self._pools) if place not in places]
        for pool in gone:
            pool.clear()

    def clear(self) -> None:
        """Close what is idle."""
        with self._lock:
            pools = list(self._pools.values())
        for pool in pools:
            pool.clear()

    def after_fork(self) -> None:
        """Forget what the parent has open; closing it would say goodbye on its behalf."""
        self._lock = threading.Lock()
        self._lost.append(self._pools)
        self._pools = {}
        self._pid = os.getpid()
        self._reader.after_fork()

    def _link(self, place: Place) -> Link:
        if self._context is None and self._make_context is not None:
            self._context = self._make_context()
        return Link(place, database=self._database, login=self._login, reader=self._reader, context=self._context)


def perform(pool: Pool, deadline: float, operation: Callable[[Link], Any]) -> Any:
    """Run an operation on a connection of the pool; redis-py's exceptions that are answers come through.

    Raises:
        StoreError: no connection could be had, or it broke.
        redis.ResponseError: Redis answered an error.

    """
    link = pool.borrow(deadline)
    whole = False
    reason: str | None = None
    answer: Any = None
    refused: redis.ResponseError | None = None
    try:
        answer = operation(link)
        whole = True
    except redis.ResponseError as error:
        # An error is an answer that was read to the end, so the connection is as good as before.
        whole, refused = True, error
    except Exception as error:
        reason = reason_of(error)
    finally:
        # Also when this thread is interrupted: what was sent will be answered to somebody else otherwise.
        (pool.give_back if whole else pool.drop)(link)
    if refused is not None:
        raise refused.with_traceback(None)
    if reason is not None:
        raise store_error(reason, str(pool.place))
    return answer


__all__ = ["CONNECT_SECONDS", "IDLE_SECONDS", "Link", "Pool", "Pools", "StoreError", "perform"]
