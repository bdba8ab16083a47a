"""One HTTP/1.1 exchange over a stream (RFC 9112): what is sent, and how much is read at most."""

from __future__ import annotations

import contextlib
import re
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import h11

from accredit.core.messages import Response
from accredit.transport.network import Abort

if TYPE_CHECKING:
    from accredit.core.messages import Request
    from accredit.transport.network import Deadline, Stream
    from accredit.transport.proxies import Proxy

MOST_HEAD_BYTES = 64 * 1024
MOST_PIECES = 8192  # chunks or reads of one body: each costs some 10 µs, however small it is
MOST_INTERIM = 8  # interim responses (1xx) before the real one
_CLOSED = "the connection was closed before the answer was complete"
_BROKEN = "the connection broke before the answer was complete"
PROXY_CREDENTIALS = "the proxy wants credentials, or refused those it was given (407)"
_OK, _REDIRECT, PROXY_AUTHENTICATION_REQUIRED = 200, 300, 407
_NOT_HTTP = "the answer is not valid HTTP/1.1, or its head is too large"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)?")
_VISIBLE = re.compile(r"[\x21-\x7e]+")

# The transport sets these, or leaves them out, itself; what a request says about them is not sent.
_OWN = frozenset({
    "accept-encoding", "connection", "content-length", "cookie", "cookie2", "expect", "host", "keep-alive",
    "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes.

    Attributes:
        scheme: ``http`` or ``https``.
        host: name in ASCII form, or IP address without brackets.
        port: the port.
        path: path and query, as on the request line.

    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port, as for CONNECT (RFC 9110, section 9.3.6)."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def host_field(self) -> str:
        """The ``Host`` field (RFC 9110, section 7.2): without the scheme's own port."""
        if self.port == _DEFAULT_PORTS[self.scheme]:
            return f"[{self.host}]" if ":" in self.host else self.host
        return self.authority


def parse_target(url: str) -> Target:
    """Take an already validated URL apart.

    Raises:
        ValueError: it is no absolute ``http`` or ``https`` URL after all.

    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    clean = _VISIBLE.fullmatch(path) and _VISIBLE.fullmatch(host) and "\\" not in url and "@" not in parts.netloc
    if parts.scheme not in _DEFAULT_PORTS or not clean:
        msg = "the URL of a request must be an absolute http or https URL, without spaces, controls or user info"
        raise ValueError(msg)
    return Target(parts.scheme, host, parts.port or _DEFAULT_PORTS[parts.scheme], path)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as bytes. They hold credentials, so they are not in the repr."""

    data: bytes = field(repr=False)
    machine: h11.Connection = field(repr=False)


def encode(request: Request, target: Target, *, user_agent: str, proxy: Proxy | None) -> Outgoing:
    """Build the bytes of ``request``; ``proxy`` is the one that forwards it (plain ``http`` only), if any.

    Raises:
        ValueError: a header field cannot be sent; only its position is told.

    """
    good = [bool(_NAME.fullmatch(name) and _VALUE.fullmatch(value)) for name, value in request.headers]
    if not all(good):  # raised where no local variable holds the value
        msg = f"the name or the value of header field {good.index(False) + 1} of the request cannot be sent"
        raise ValueError(msg)
    fields = [("Host", target.host_field), ("Accept-Encoding", "identity"), ("Connection", "close")]
    fields += [(name, value) for name, value in request.headers if name.lower() not in _OWN]
    if "user-agent" not in {name.lower() for name, _ in fields}:
        fields.append(("User-Agent", user_agent))
    if request.body or request.method == "POST":
        fields.append(("Content-Length", str(len(request.body))))
    path = target.path
    if proxy is not None:
        path = f"{target.scheme}://{target.host_field}{target.path}"
        if proxy.authorization is not None:
            fields.append(("Proxy-Authorization", proxy.authorization))
    return _encode(request.method, path, fields, request.body)


def encode_connect(target: Target, proxy: Proxy, *, user_agent: str) -> Outgoing:
    """Build the bytes that ask ``proxy`` for a tunnel to ``target`` (RFC 9110, section 9.3.6)."""
    fields = [("Host", target.authority), ("User-Agent", user_agent)]
    if proxy.authorization is not None:
        fields.append(("Proxy-Authorization", proxy.authorization))
    return _encode("CONNECT", target.authority, fields, b"")


def _encode(method: str, path: str, fields: list[tuple[str, str]], body: bytes) -> Outgoing:
    machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD_BYTES)
    # Every part was checked above, so h11 has nothing to refuse (its errors would quote the value).
    data = machine.send(h11.Request(method=method, target=path, headers=fields)) or b""
    if body:
        data += machine.send(h11.Data(data=body)) or b""
    data += machine.send(h11.EndOfMessage()) or b""
    return Outgoing(data, machine)


def exchange(stream: Stream, outgoing: Outgoing, *, max_bytes: int, deadline: Deadline) -> Response:
    """Send the request and read the whole answer.

    Raises:
        Abort: ``too_large`` for a body over ``max_bytes`` or in any content coding, ``read`` for what is cut off or
            is not HTTP.
        TimeoutError: the deadline passed.

    """
    answer = Answer(outgoing.machine, stream, deadline, most=2 * max_bytes + 4 * MOST_HEAD_BYTES)
    answer.send(outgoing.data)
    head = answer.head()
    headers = tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in head.headers)
    _check_coding(headers)
    length = next((int(value) for name, value in headers if name == "content-length"), 0)
    if length > max_bytes:
        raise Abort("too_large", f"the answer announces more than {max_bytes} bytes")
    body = answer.body(max_bytes)
    kept = tuple((name, value) for name, value in headers if name not in {"set-cookie", "set-cookie2"})
    return Response(head.status_code, kept, body)


def open_tunnel(stream: Stream, outgoing: Outgoing, *, deadline: Deadline) -> None:
    """Ask the proxy for the tunnel.

    Raises:
        Abort: ``proxy``.
        TimeoutError: the deadline passed.

    """
    answer = Answer(outgoing.machine, stream, deadline, most=4 * MOST_HEAD_BYTES)
    head = None
    try:
        answer.send(outgoing.data)
        head = answer.head()
    except Abort:
        pass
    if head is None:
        raise Abort("proxy", "the proxy broke off, or did not answer in HTTP")
    if head.status_code == PROXY_AUTHENTICATION_REQUIRED:
        raise Abort("proxy", PROXY_CREDENTIALS)
    if not _OK <= head.status_code < _REDIRECT:
        raise Abort("proxy", f"the proxy refused the connection with status {head.status_code}")
    if outgoing.machine.trailing_data[0]:
        raise Abort("proxy", "the proxy sent something before the tunnel was used")


def _check_coding(headers: tuple[tuple[str, str], ...]) -> None:
    codings = ",".join(value for name, value in headers if name == "content-encoding").split(",")
    if any(coding.strip().lower() not in {"", "identity"} for coding in codings):
        raise Abort("too_large", "the answer uses a content coding that was not asked for")


class Answer:
    """Reads one answer, within a number of bytes on the wire and the deadline."""

    def __init__(self, machine: h11.Connection, stream: Stream, deadline: Deadline, *, most: int) -> None:
        """Read at most ``most`` bytes from ``stream``, whatever they turn out to be."""
        self._machine = machine
        self._stream = stream
        self._deadline = deadline
        self._left = most
        self._ended = False

    def send(self, data: bytes) -> None:
        """Send the request. If that fails an answer may still be there: servers refuse large requests early."""
        try:
            self._stream.write(data, self._deadline)
        except (TimeoutError, ssl.SSLError):
            raise
        except OSError:
            pass

    def head(self) -> h11.Response:
        """Return status and header fields, past any interim responses."""
        for _ in range(MOST_INTERIM + 1):
            event = self._next()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise Abort("read", _CLOSED)
        raise Abort("read", "too many interim responses")

    def body(self, most: int) -> bytes:
        """Return the whole body, of at most ``most`` bytes. Trailer fields are dropped."""
        body = bytearray()
        for _ in range(MOST_PIECES + 1):
            event = self._next()
            if isinstance(event, h11.EndOfMessage):
                return bytes(body)
            if not isinstance(event, h11.Data):
                raise Abort("read", _CLOSED)
            body += event.data
            if len(body) > most:
                raise Abort("too_large", f"the answer is larger than {most} bytes")
        raise Abort("too_large", "the answer comes in too many pieces")

    def _next(self) -> object:
        while True:
            if self._deadline.passed():  # many tiny chunks can come in one read
                raise TimeoutError
            event: object = None
            with contextlib.suppress(h11.ProtocolError, ValueError):
                event = self._machine.next_event()
            if event is None:
                raise Abort("read", _CLOSED if self._ended else _NOT_HTTP)
            if event is not h11.NEED_DATA:
                return event
            self._machine.receive_data(self._read())

    def _read(self) -> bytes:
        if self._left <= 0:
            raise Abort("too_large", "the answer takes too many bytes on the wire")
        broken = False
        data = b""
        try:
            data = self._stream.read(self._deadline)
        except (TimeoutError, ssl.SSLError):
            raise
        except OSError:
            broken = True
        if broken:
            raise Abort("read", _BROKEN)
        self._left -= len(data)
        self._ended = not data
        return data
