"""The transport itself: its life, in one process and across a fork. The work is done in ``roundtrip``."""

from __future__ import annotations

import math
import os
import threading
import time
from typing import TYPE_CHECKING, final

from accredit.core.messages import Failure
from accredit.transport.settings import TransportSettings

if TYPE_CHECKING:
    from accredit.core.messages import Request, Response
    from accredit.transport.roundtrip import RoundTrips


@final
class HttpTransport:
    """Sends requests to authorization servers. Thread-safe, and usable on both sides of a fork.

    Every request has its own connection: token requests are rare, and so there are no races with idle connections, no
    answers that belong to another request, and nothing to share across a fork. A redirect is returned like any other
    answer and never followed.
    """

    def __init__(self, settings: TransportSettings | None = None) -> None:
        """Prepare; nothing is opened, read or imported before the first request."""
        self._settings = settings or TransportSettings()
        self._closed = False
        self._trips: RoundTrips | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def send(self, request: Request, *, timeout: float) -> Response | Failure:
        """Send ``request`` and return the complete answer, or why there is none.

        Args:
            request: what to send. Fields that the transport sets itself (``Host``, ``Content-Length``, ``Cookie``, ...)
                are left out.
            timeout: seconds for everything: name resolution, connecting, TLS, sending, reading to the end.

        Returns:
            The response, whatever its status (except a proxy's 407), without ``Set-Cookie`` fields; or a failure whose
            text is free of credentials. It holds no exception and no reference to one.

        Raises:
            ConfigurationError: the trust store or a proxy variable is wrong. Nothing was sent.
            ValueError: the request cannot be sent as it is (a programming error). Nothing was sent.

        """
        if not math.isfinite(timeout):
            msg = "the timeout must be a finite number of seconds"
            raise ValueError(msg)
        started = time.monotonic()  # before the imports, which the first request pays for
        trips = self._ready()
        if trips is None:
            return Failure("connect", "the transport was closed")
        return trips.send(request, timeout, started)

    def after_fork(self) -> None:
        """In the child: abandon the parent's locks, threads and sockets, without touching them.

        Called or not, the first request in a child does the same.
        """
        self._lock = threading.Lock()
        if self._trips is not None:
            self._trips = self._trips.renewed()
        self._pid = os.getpid()  # last: another thread of the child must not find the parent's lock behind it

    def close(self) -> None:
        """Interrupt the requests under way, and answer every later one with a failure. May be called again."""
        if self._pid != os.getpid():
            self.after_fork()
        with self._lock:
            self._closed = True
            trips = self._trips
        if trips is not None:
            trips.close()

    def _ready(self) -> RoundTrips | None:
        if self._pid != os.getpid():
            self.after_fork()
        with self._lock:
            if self._closed:
                return None
            if self._trips is None:
                from accredit.transport.roundtrip import RoundTrips

                self._trips = RoundTrips(self._settings)
            return self._trips
