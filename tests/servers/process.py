"""Start a server as a process, know where it listens, and be sure that it ends."""

from __future__ import annotations

import http.client
import json
import queue
import subprocess
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO

START_SECONDS = 60.0
STOP_SECONDS = 10.0


class ServerUnavailableError(Exception):
    """The server cannot be started on this machine; the message says what it needs."""


class Client(NamedTuple):
    """A client as it is registered at a server.

    Attributes:
        client_id: the id, before any encoding.
        client_secret: the secret, before any encoding.
        method: how the client authenticates, by its IANA name.
        lifetime: seconds that its access tokens live; None for the server's own setting.

    """

    client_id: str
    client_secret: str
    method: Literal["client_secret_basic", "client_secret_post"]
    lifetime: int | None = None


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that accepts connections.

    Attributes:
        issuer: the issuer identifier, as its metadata has it.
        token_endpoint: URL.
        introspection_endpoint: URL (RFC 7662).
        revocation_endpoint: URL (RFC 7009).
        api: URL of a resource that answers GET with a valid access token, and 401 without. With ``?scope=NAME`` it
            also demands that scope, and answers 403 to a token without it.
        resources: the resource indicators (RFC 8707) that the server knows; empty when it knows none of that.
        lifetime: seconds that access tokens live, unless the client says otherwise.
        clients: the registered clients by a name for the tests.
        pid: the process.

    """

    issuer: str
    token_endpoint: str
    introspection_endpoint: str
    revocation_endpoint: str
    api: str
    resources: tuple[str, ...]
    lifetime: int
    clients: Mapping[str, Client]
    pid: int

    def counts(self) -> dict[str, int]:
        """Return how many requests have arrived at the server since it started, by path."""
        # Not through a client library under test, and through no proxy of the environment.
        connection = http.client.HTTPConnection(urlsplit(self.issuer).netloc, timeout=STOP_SECONDS)
        try:
            connection.request("GET", "/__requests")
            return {str(path): int(count) for path, count in json.load(connection.getresponse()).items()}
        finally:
            connection.close()

    def count(self, url: str) -> int:
        """Return how many requests have arrived for that path, or for the path of that URL."""
        return self.counts().get(urlsplit(url).path, 0)


@contextmanager
def running_server(
    command: Sequence[str],
    *,
    clients: Mapping[str, Client],
    lifetime: int,
    path: str = "",
    resources: Sequence[str] = (),
) -> Iterator[RunningServer]:
    """Run that command with these settings while the context lasts.

    Raises:
        RuntimeError: it did not get as far as listening; the message ends with what it wrote to stderr.

    """
    settings = {
        "clients": [client._asdict() for client in clients.values()],
        "lifetime": lifetime,
        "path": path,
        "resources": list(resources),
    }
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8"
        )
        try:
            ready = _handshake(process, json.dumps(settings), errors)
            yield RunningServer(
                issuer=ready["issuer"],
                token_endpoint=ready["token_endpoint"],
                introspection_endpoint=ready["introspection_endpoint"],
                revocation_endpoint=ready["revocation_endpoint"],
                api=ready["api"],
                resources=tuple(resources),
                lifetime=lifetime,
                clients=clients,
                pid=process.pid,
            )
        finally:
            _stop(process)


def _handshake(process: subprocess.Popen[str], settings: str, errors: IO[bytes]) -> dict[str, str]:
    """Send the settings and return the line that says where the server listens."""
    assert process.stdin is not None
    assert process.stdout is not None
    # A pipe has no read with a time limit: a thread reads the line, and is over when the process is.
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    stdout = process.stdout
    threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
    try:
        process.stdin.write(settings + "\n")
        process.stdin.flush()
        line = lines.get(timeout=START_SECONDS)
    except (OSError, queue.Empty):
        line = ""
    if not line:
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip()
        message = f"the server did not start ({process.args!r}):\n{said[-4000:]}"
        raise RuntimeError(message)
    ready: dict[str, str] = json.loads(line)
    return ready


def _stop(process: subprocess.Popen[str]) -> None:
    # The end of stdin ends a server when the tests are killed. Here a child that a test forked may still hold the
    # other end, so the server is also told by a signal.
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):  # it may be gone already
        process.stdin.close()
    process.terminate()
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
