"""An authorization server for your tests, what it was asked, and trouble with it, as plain context managers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from accredit.devserver import DevConfig, DevServer
from accredit.devserver.handle import Side, Switches

__all__ = ["TokenRequestCounter", "failing", "garbage", "holding", "running_server", "slow"]


@contextmanager
def running_server(config: DevConfig | None = None, *, port: int = 0) -> Iterator[DevServer]:
    """Give a running authorization server on loopback, in a thread of this process.

    Args:
        config: its clients and lifetimes; by default one client ``api-client`` with the secret ``dev-secret``.
        port: 0 for a free one.

    Raises:
        OSError: the port is taken.
        ConfigurationError: this environment says that it is production.

    """
    with DevServer(config, port=port) as server:
        yield server


class TokenRequestCounter:
    """Counts the token requests that reach a server from now on."""

    def __init__(self, server: Switches) -> None:
        """Start at zero."""
        self._server = server
        self._before = 0
        self.reset()

    def __repr__(self) -> str:
        """Show the count."""
        return f"<TokenRequestCounter: {self.count}>"

    @property
    def count(self) -> int:
        """How many there were so far."""
        return self._server.count("/token") - self._before

    def reset(self) -> None:
        """Start at zero again."""
        self._before = self._server.count("/token")

    def wait_for(self, number: int, *, timeout: float = 10.0) -> int:
        """Wait until there were that many; return how many there were.

        Raises:
            TimeoutError: there were not, within ``timeout`` seconds.

        """
        return self._server.wait_for_requests(number + self._before, timeout=timeout) - self._before


@contextmanager
def failing(
    server: Switches,
    status: int = 503,
    *,
    error: str | None = None,
    retry_after: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: str | None = None,
    truncate: bool = False,
    times: int | None = None,
    path: str = "/token",
    side: Side = "as",
) -> Iterator[None]:
    """Let requests fail inside the ``with`` block, as :meth:`accredit.devserver.handle.Switches.fail` has it.

    Args:
        server: the server.
        status: the HTTP status of the answers.
        error: the ``error`` member of a JSON body.
        retry_after: the ``Retry-After`` field, verbatim.
        headers: more fields.
        body: the body, verbatim.
        truncate: break the connection in the middle of the body.
        times: for how many requests; None for all.
        path: the path concerned: ``"/token"``, ``"/jwks"``, ``"/introspect"``, ..., or ``"*"`` for all.
        side: ``"as"`` for the authorization server, ``"api"`` for its protected API.

    """
    server.fail(
        status,
        error=error,
        retry_after=retry_after,
        headers=headers or {},
        body=body,
        truncate=truncate,
        times=times,
        path=path,
        server=side,
    )
    try:
        yield
    finally:
        server.fail(status, times=0, path=path, server=side)


@contextmanager
def garbage(server: Switches, kind: str, *, path: str = "/token") -> Iterator[None]:
    """Let answers be nonsense inside the ``with`` block: a key of :data:`accredit.devserver.control.GARBAGE`."""
    server.garbage(kind, path=path)
    try:
        yield
    finally:
        server.garbage(kind, times=0, path=path)


@contextmanager
def slow(server: Switches, seconds: float, *, side: Side = "as") -> Iterator[None]:
    """Delay token requests (or calls of the API) by that many seconds inside the ``with`` block."""
    server.set_latency(seconds, server=side)
    try:
        yield
    finally:
        server.set_latency(0.0, server=side)


@contextmanager
def holding(server: Switches, *, side: Side = "as") -> Iterator[None]:
    """Hold the token requests (or calls of the API) that arrive inside the ``with`` block until it ends."""
    server.hold(server=side)
    try:
        yield
    finally:
        server.release(server=side)
