"""Serve an application on a real socket, and call it with raw bytes or with curl."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import uvicorn
from werkzeug.serving import WSGIRequestHandler, make_server


class Answer(NamedTuple):
    """A response as it came over the wire: field names in lower case, in order, repeated ones kept apart."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def challenge(self) -> str | None:
        found = self.values("www-authenticate")
        assert len(found) <= 1
        return found[0] if found else None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()


@contextmanager
def serve_asgi(app: Any, **settings: Any) -> Iterator[str]:
    """Serve an ASGI application with uvicorn in a thread; give its URL."""
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, log_level="critical", **{"ws": "none", "http": "h11", **settings})
    ready = threading.Event()
    server = _Server(config, ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


@contextmanager
def serve_wsgi(app: Any) -> Iterator[str]:
    """Serve a WSGI application with Werkzeug in threads; give its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


def raw(url: str, path: str = "/orders", *fields: bytes, method: str = "GET", body: bytes = b"") -> Answer:
    """Send these very header fields over a socket of its own."""
    where = urlsplit(url)
    lines = [f"{method} {path} HTTP/1.1".encode("latin-1"), b"Host: " + where.netloc.encode(), *fields]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    lines.append(b"Connection: close")
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=30) as sock:
        with contextlib.suppress(ConnectionError):  # refused before all of it was sent: the answer is there to be read
            sock.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        received = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while part := sock.recv(65536):
                received += part
    return _parsed(bytes(received), chunked=True)


def curl(url: str, *arguments: str) -> Answer:
    """Call with the curl of the system."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed, and this shows what curl gets")
    command = [program, "--silent", "--show-error", "--include", "--max-time", "60", "--noproxy", "*", *arguments, url]
    done = subprocess.run(command, capture_output=True, check=False, timeout=90)
    assert done.returncode == 0, done.stderr
    return _parsed(done.stdout, chunked=False)


def bearer(token: str) -> tuple[str, str]:
    """Return the arguments that let curl send a token."""
    return ("-H", f"Authorization: Bearer {token}")


def _parsed(received: bytes, *, chunked: bool) -> Answer:
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = tuple((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
    if ("transfer-encoding", "chunked") in headers and chunked:
        body = _joined(body)
    return Answer(int(first.split(" ")[1]), headers, body)


def _joined(chunks: bytes) -> bytes:
    body = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        body, chunks = body + chunks[: int(size, 16)], chunks[int(size, 16) + 2 :]
    return body
