"""Small servers on real sockets, each doing one thing wrong. No server here sleeps: it waits for its peer to go."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

_PATIENCE = 20.0  # seconds before a server thread gives up, so that a broken test ends
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Peer:
    """The server's end of one connection, with the request that came in."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over ``sock``."""
        self.sock = sock
        self.request = b""

    def read_request(self) -> bytes:
        """Read one request, body included."""
        data = b""
        while b"\r\n\r\n" not in data and (more := self.sock.recv(65536)):
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        while length and len(body) < int(length[1]) and (more := self.sock.recv(65536)):
            body += more
        self.request = head + b"\r\n\r\n" + body
        return self.request

    def send(self, data: bytes) -> None:
        """Send ``data``."""
        self.sock.sendall(data)

    def gone(self, within: float = _PATIENCE) -> bool:
        """Wait until the other side has closed, at most ``within`` seconds."""
        self.sock.settimeout(within)
        try:
            while self.sock.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        finally:
            with contextlib.suppress(OSError):
                self.sock.settimeout(_PATIENCE)
        return True

    def drip(self, parts: Iterable[bytes], every: float) -> None:
        """Send the parts one by one, ``every`` so many seconds, until the other side has gone."""
        for part in parts:
            self.send(part)
            if self.gone(every):
                return


class Server:
    """Accepts connections (on 127.0.0.1) and runs ``behave`` on a thread for each; ``read=False``: before reading."""

    def __init__(
        self,
        behave: Callable[[Peer], object],
        *,
        context: ssl.SSLContext | None = None,
        read: bool = True,
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        """Listen at once, so that the port is known."""
        self._behave, self._context, self._read = behave, context, read
        self._listener = socket.create_server(address, backlog=512)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        self.connections = 0

    @property
    def url(self) -> str:
        """The root of the server over plain http."""
        return f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Self:
        """Start to accept."""
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and end every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(_PATIENCE)
        self._listener.close()
        with self._lock:
            threads, sockets = list(self._threads), list(self._open)
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(_PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            with self._lock:
                self.connections += 1
                self._threads.append(thread)
                self._open.add(sock)
            thread.start()

    def _serve(self, raw: socket.socket) -> None:
        sock = raw
        raw.settimeout(_PATIENCE)
        try:
            if self._context is not None:
                sock = self._context.wrap_socket(raw, server_side=True)
                with self._lock:
                    self._open.discard(raw)
                    self._open.add(sock)
            peer = Peer(sock)
            if self._read:
                request = peer.read_request()
                with self._lock:
                    self.requests.append(request)
            self._behave(peer)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(raw)
                self._open.discard(sock)
            sock.close()
            raw.close()


def answer(status: str = "200 OK", body: bytes = b"{}", *fields: str) -> bytes:
    """Return a well-formed answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def answering(data: bytes) -> Callable[[Peer], None]:
    """Return a behaviour that sends ``data`` and hangs up."""
    return lambda peer: peer.send(data)


def black_hole(peer: Peer) -> None:
    """Never answer."""
    peer.gone()


class ConnectProxy:
    """A proxy's behaviour: tunnels CONNECT to one port on 127.0.0.1, whatever the name; forwards nothing else."""

    def __init__(self, port: int, *, authorization: str | None = None) -> None:
        """Tunnel to ``port``, for those who show ``authorization``, if given."""
        self._port = port
        self._authorization = authorization

    def __call__(self, peer: Peer) -> None:
        """Serve one connection."""
        if self._authorization and f"proxy-authorization: {self._authorization}".lower() not in (
            peer.request.decode("latin-1").lower()
        ):
            peer.send(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")
            return
        if not peer.request.startswith(b"CONNECT "):
            peer.send(answer(body=b"forwarded"))
            return
        with socket.create_connection(("127.0.0.1", self._port)) as upstream:
            peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(upstream, peer.sock), daemon=True)
            back.start()
            _pump(peer.sock, upstream)
            back.join(_PATIENCE)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
