"""Deadlines, and byte streams that keep them: TCP to a vetted address, and TLS over any stream."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Protocol, TypeVar, final

from accredit.core.messages import Failure, FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_T = TypeVar("_T")

READ_SIZE = 16 * 1024  # bytes
MOST_ADDRESSES = 16
_LONGEST_WAIT = 3600.0  # seconds; the operating system refuses far larger time-outs

_EMBEDDING_V4 = (
    ipaddress.IPv6Network("::ffff:0:0/96"),  # IPv4-mapped (RFC 4291)
    ipaddress.IPv6Network("::/96"),  # IPv4-compatible, deprecated but still parsed
    ipaddress.IPv6Network("64:ff9b::/96"),  # NAT64 (RFC 6052)
)

_CERTIFICATE_PHRASES = {
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    18: "the certificate is self-signed and not trusted",
    19: "the certificate chain ends in an authority that is not trusted",
    20: "the certificate is signed by an authority that is not trusted",
    21: "the certificate is signed by an authority that is not trusted",
    62: "the certificate is for another host name",
    64: "the certificate is for another IP address",
}


class Abort(Exception):  # noqa: N818 (control flow inside this package; it never leaves it)
    """The request cannot go on; carries the outcome as a value."""

    def __init__(self, kind: FailureKind, detail: str) -> None:
        """Keep the outcome."""
        super().__init__(kind)
        self.failure: Failure = Failure(kind, detail)


@final
class Deadline:
    """A point in time that every step of one request shares."""

    __slots__ = ("_at",)

    def __init__(self, seconds: float, *, since: float | None = None) -> None:
        """Set the deadline ``seconds`` from now, or from a reading of ``time.monotonic()``."""
        self._at = (time.monotonic() if since is None else since) + seconds

    def left(self) -> float:
        """Return the seconds that are left.

        Raises:
            TimeoutError: there are none.

        """
        seconds = self._at - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return min(seconds, _LONGEST_WAIT)

    def passed(self) -> bool:
        """Tell whether no time is left."""
        return time.monotonic() >= self._at

    def within(self, seconds: float) -> Deadline:
        """Return a deadline that is at most ``seconds`` away, and never later than this one."""
        sooner = Deadline(seconds)
        sooner._at = min(sooner._at, self._at)
        return sooner


class Stream(Protocol):
    """Bytes in both directions."""

    def read(self, deadline: Deadline) -> bytes:
        """Return some bytes, or none at the end. Raises ``OSError``, and ``TimeoutError`` at the deadline."""

    def write(self, data: bytes, deadline: Deadline) -> None:
        """Send all of ``data``. Raises ``OSError``, and ``TimeoutError`` at the deadline."""


@final
class OpenSockets:
    """The sockets of the requests under way, so that closing the transport can interrupt them."""

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the transport was closed."""
        return self._closed

    def add(self, sock: socket.socket) -> None:
        """Remember ``sock``; when the transport is closed already, refuse it."""
        with self._lock:
            if not self._closed:
                self._sockets.add(sock)
                return
        raise ConnectionAbortedError

    def close(self, sock: socket.socket) -> None:
        """Close ``sock`` and forget it. Under the lock, so that its number cannot be another's by then."""
        with self._lock:
            self._sockets.discard(sock)
            sock.close()

    def interrupt(self) -> None:
        """Shut every socket down; the request that owns it ends with a broken connection."""
        with self._lock:
            self._closed = True
            for sock in self._sockets:
                with contextlib.suppress(OSError):  # not connected yet, or gone already
                    sock.shutdown(socket.SHUT_RDWR)


@final
class TcpStream:
    """A connected socket."""

    def __init__(self, sock: socket.socket) -> None:
        """Use ``sock``, which the caller closes."""
        self._sock = sock

    def read(self, deadline: Deadline) -> bytes:
        """See :class:`Stream`."""
        self._sock.settimeout(deadline.left())
        return self._sock.recv(READ_SIZE)

    def write(self, data: bytes, deadline: Deadline) -> None:
        """See :class:`Stream`."""
        view = memoryview(data)
        while view:
            self._sock.settimeout(deadline.left())
            view = view[self._sock.send(view) :]


@final
class TlsStream:
    """TLS over another stream, which may be TLS itself (a tunnel through an ``https`` proxy)."""

    def __init__(self, below: Stream, context: ssl.SSLContext, host: str) -> None:
        """Prepare a handshake with ``host``: its name goes into SNI and must be in the certificate."""
        self._below = below
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    def handshake(self, deadline: Deadline) -> None:
        """Shake hands and verify the certificate. Raises ``ssl.SSLError`` and what :class:`Stream` does."""
        self._step(self._tls.do_handshake, deadline)

    def read(self, deadline: Deadline) -> bytes:
        """See :class:`Stream`.

        A connection that ends without ``close_notify`` counts as ended: many servers do that, and everything that is
        read here (JSON, a signed JWT) shows by itself that it was cut off.
        """
        try:
            return self._step(lambda: self._tls.read(READ_SIZE), deadline)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def write(self, data: bytes, deadline: Deadline) -> None:
        """See :class:`Stream`."""
        view = memoryview(data)
        while view:
            rest = view
            sent = self._step(lambda: self._tls.write(rest), deadline)  # noqa: B023 (called before the loop goes on)
            view = view[sent:]

    def _step(self, act: Callable[[], _T], deadline: Deadline) -> _T:
        """Repeat ``act`` until it needs no more bytes from the other side."""
        ended = False
        while True:
            try:
                result = act()
            except ssl.SSLWantReadError:
                self._flush(deadline)
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush(deadline)  # the alert that tells the other side what was wrong
                raise
            else:
                self._flush(deadline)
                return result
            if ended:
                raise ConnectionResetError
            data = self._below.read(deadline)
            ended = not data
            if ended:
                self._incoming.write_eof()
            else:
                self._incoming.write(data)

    def _flush(self, deadline: Deadline) -> None:
        if self._outgoing.pending:
            self._below.write(self._outgoing.read(), deadline)


def is_blocked(address: str) -> bool:
    """Tell whether ``address`` (an IP address) is link-local, also when written inside an IPv6 address.

    Cloud platforms serve the credentials of the machine there, so nothing that a document names may lead to it.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.sixtofour
        if embedded is None and any(ip in network for network in _EMBEDDING_V4):
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if embedded is not None and embedded.is_link_local:
            return True
    return ip.is_link_local


def literal_address(host: str) -> str | None:
    """Return ``host`` if it is an IP address, else None."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def connect(
    sockets: OpenSockets, addresses: Sequence[str], port: int, *, per_address: float, deadline: Deadline
) -> socket.socket:
    """Connect to the first of ``addresses`` that answers; the others are not contacted.

    No address gets more than ``per_address`` seconds, nor more than its share of what is left, so that one black hole
    in front does not eat the deadline.

    Raises:
        Abort: ``blocked`` when every address is link-local, ``connect`` when none could be reached.
        TimeoutError: the deadline passed.

    """
    vetted = [address for address in addresses if not is_blocked(address)][:MOST_ADDRESSES]
    if not vetted:
        raise Abort("blocked", "the address is link-local, and those are never contacted")
    detail = "nothing answered at the address in time"
    for position, address in enumerate(vetted):
        share = min(per_address, deadline.left() / (len(vetted) - position))
        try:
            return _connect_one(sockets, address, port, share)
        except TimeoutError:
            continue
        except ConnectionRefusedError:
            detail = "the connection was refused"
        except OSError:
            detail = "no connection could be made"
    if deadline.passed():
        raise TimeoutError
    raise Abort("connect", detail)


def _connect_one(sockets: OpenSockets, address: str, port: int, seconds: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    connected = False
    try:
        sockets.add(sock)
        sock.settimeout(seconds)
        sock.connect((address, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected = True
    finally:
        if not connected:
            sockets.close(sock)
    return sock


def start_tls(below: Stream, context: ssl.SSLContext, host: str, *, at_most: float, deadline: Deadline) -> TlsStream:
    """Shake hands over ``below`` with ``host``, in at most ``at_most`` seconds.

    Raises:
        Abort: ``tls`` when the handshake or the certificate failed, ``connect`` when it stalled or broke.
        TimeoutError: the deadline passed.

    """
    kind: FailureKind = "tls"
    try:
        stream = TlsStream(below, context, host)
        stream.handshake(deadline.within(at_most))
    except TimeoutError:
        if deadline.passed():
            raise
        kind, detail = "connect", "the TLS handshake was not finished in time"
    except ssl.SSLCertVerificationError as error:
        detail = _CERTIFICATE_PHRASES.get(error.verify_code, "the certificate could not be verified")
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        kind, detail = "connect", "the connection was closed during the TLS handshake"
    except ssl.SSLError:
        detail = "the TLS handshake failed"
    except OSError:
        kind, detail = "connect", "the connection broke during the TLS handshake"
    except ValueError:
        detail = "the host name cannot be in a certificate"
    else:
        return stream
    raise Abort(kind, detail)
