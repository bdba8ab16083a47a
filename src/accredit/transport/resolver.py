"""Name resolution that can be given up on: the system's call cannot be interrupted, so it runs on a helper thread."""

from __future__ import annotations

import socket
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

from accredit.transport.network import Abort, Deadline, literal_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from accredit.transport.settings import ResolveName

MOST_THREADS = 16


def system_addresses(host: str, port: int) -> Sequence[str]:
    """Ask the operating system, which answers in the order of RFC 6724."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(slots=True, eq=False)
class _Lookup:
    """One question under way, and who waits for its answer."""

    host: str
    port: int
    addresses: tuple[str, ...] | None = None
    # One lock a waiter, taken from the start and released at the answer: unlike an event it also works
    # where real threads and greenlets meet.
    waiters: list[threading.Lock] = field(default_factory=list)


@final
class Resolver:
    """Resolves names on at most ``MOST_THREADS`` threads; callers that ask the same share one question.

    Threads live only while there are questions. A question that is stuck holds one thread, and its later askers join
    it, so a dead name server costs a bounded number of threads however often one asks. Nothing is cached.
    """

    def __init__(self, resolve: ResolveName | None = None, *, threads: bool = True) -> None:
        """Ask ``resolve``, or the operating system; without ``threads`` on the caller's, whatever time it takes."""
        self._threaded = threads
        self._resolve: ResolveName = resolve or system_addresses
        self._lock = threading.Lock()
        self._lookups: dict[tuple[str, int], _Lookup] = {}
        self._queue: deque[_Lookup] = deque()
        self._threads = 0

    def addresses(self, host: str, port: int, deadline: Deadline) -> tuple[str, ...]:
        """Return the IP addresses of ``host``, the best first; an address stands for itself.

        Raises:
            Abort: ``resolve`` when there are none.
            TimeoutError: the deadline passed.

        """
        literal = literal_address(host)
        if literal is not None:
            return (literal,)
        if not self._threaded:
            lookup = _Lookup(host, port)
            lookup.addresses = self._answer(lookup)
            deadline.left()
            return _found(lookup)
        answered = threading.Lock()
        answered.acquire()
        lookup = self._ask(host, port, answered)
        if not answered.acquire(timeout=deadline.left()):
            self._leave(lookup, answered)
            raise TimeoutError
        return _found(lookup)

    def _ask(self, host: str, port: int, waiter: threading.Lock) -> _Lookup:
        starts = False
        with self._lock:
            lookup = self._lookups.get((host, port))
            if lookup is None:
                lookup = self._lookups[host, port] = _Lookup(host, port)
                self._queue.append(lookup)
                if self._threads < MOST_THREADS:
                    self._threads += 1
                    starts = True
            lookup.waiters.append(waiter)
        if starts:
            # Not under the lock: where gevent came late, the starting greenlet would hold what the started one
            # waits for.
            self._start()
        return lookup

    def _start(self) -> None:
        try:
            threading.Thread(target=self._work, name="accredit-resolver", daemon=True).start()
        except RuntimeError:
            # No thread can be had (limits, interpreter shutdown): the caller's own one answers.
            self._work()

    def _leave(self, lookup: _Lookup, waiter: threading.Lock) -> None:
        """Stop waiting; a question that nobody waits for and nobody asked yet is dropped."""
        with self._lock:
            if waiter in lookup.waiters:
                lookup.waiters.remove(waiter)
            if not lookup.waiters and lookup in self._queue:
                self._queue.remove(lookup)
                del self._lookups[lookup.host, lookup.port]

    def _work(self) -> None:
        """Answer questions until there are none."""
        while True:
            with self._lock:
                if not self._queue:
                    self._threads -= 1
                    return
                lookup = self._queue.popleft()
            addresses = self._answer(lookup)
            with self._lock:
                lookup.addresses = addresses
                del self._lookups[lookup.host, lookup.port]
                waiters, lookup.waiters = lookup.waiters, []
            for waiter in waiters:
                waiter.release()

    def _answer(self, lookup: _Lookup) -> tuple[str, ...]:
        try:
            found = self._resolve(lookup.host, lookup.port)
            return tuple(address for address in found if literal_address(address) is not None)
        except Exception:
            return ()


def _found(lookup: _Lookup) -> tuple[str, ...]:
    if not lookup.addresses:
        raise Abort("resolve", "the host name could not be resolved")
    return lookup.addresses
