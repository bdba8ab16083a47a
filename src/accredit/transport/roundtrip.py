"""From a request to its outcome: choose the proxy, connect, tunnel, TLS, exchange."""

from __future__ import annotations

import os
import ssl
import threading
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, final

from accredit.core.messages import Failure, Response
from accredit.errors import ConfigurationError
from accredit.transport.exchange import (
    PROXY_AUTHENTICATION_REQUIRED,
    PROXY_CREDENTIALS,
    Outgoing,
    Target,
    encode,
    encode_connect,
    exchange,
    open_tunnel,
    parse_target,
)
from accredit.transport.network import (
    Abort,
    Deadline,
    OpenSockets,
    Stream,
    TcpStream,
    connect,
    is_blocked,
    literal_address,
    start_tls,
)
from accredit.transport.proxies import ADVICE, Proxy, parse_proxy, proxy_variable
from accredit.transport.resolver import Resolver
from accredit.transport.tls import build_context

if TYPE_CHECKING:
    import socket

    from accredit.core.messages import Request
    from accredit.transport.settings import TransportSettings


@dataclass(frozen=True, slots=True)
class Plan:
    """What one request needs, settled before anything is opened."""

    target: Target
    proxy: Proxy | None
    context: ssl.SSLContext | None  # not None when either end of the path speaks TLS
    outgoing: Outgoing
    max_bytes: int


@final
class RoundTrips:
    """The working part of one transport in one process: its resolver threads, its open sockets, its TLS context."""

    def __init__(self, settings: TransportSettings, context: ssl.SSLContext | None = None) -> None:
        """Start with nothing open; ``context`` is one that was built before (it outlives a fork)."""
        self._settings = settings
        self._context = context
        self._context_lock = threading.Lock()
        self._resolver = Resolver(settings.resolve, threads=settings.resolver_threads)
        self._sockets = OpenSockets()
        self._user_agent = settings.user_agent or _default_user_agent()

    def renewed(self) -> RoundTrips:
        """Return the same for a forked child: only the finished TLS context is shared with the parent."""
        return RoundTrips(self._settings, self._context)

    def close(self) -> None:
        """Interrupt the requests under way and refuse later ones."""
        self._sockets.interrupt()

    def send(self, request: Request, timeout: float, started: float) -> Response | Failure:
        """See :meth:`accredit.transport.HttpTransport.send`; ``started`` is its ``time.monotonic()``."""
        deadline = Deadline(timeout, since=started)
        target = parse_target(request.url)
        proxy = self._proxy_for(target)
        tls = target.scheme == "https"
        context = self._tls_context() if tls or (proxy is not None and proxy.tls) else None
        outgoing = encode(request, target, user_agent=self._user_agent, proxy=None if tls else proxy)
        try:
            return self._trip(Plan(target, proxy, context, outgoing, request.max_bytes), deadline)
        except Abort as abort:
            failure = abort.failure
        except TimeoutError:
            failure = Failure("deadline", f"there was no complete answer within {timeout:.3g} seconds")
        except ssl.SSLError:
            failure = Failure("tls", "the TLS connection failed")
        except OSError:
            failure = Failure("read", "the connection broke")
        return Failure("connect", "the transport was closed") if self._sockets.closed else failure

    def _trip(self, plan: Plan, deadline: Deadline) -> Response:
        target, proxy, context = plan.target, plan.proxy, plan.context
        if proxy is not None and literal_address(target.host) is not None and is_blocked(target.host):
            raise Abort("blocked", "the address is link-local, and those are never contacted")
        sock = self._connect(target, proxy, deadline)
        try:
            stream: Stream = TcpStream(sock)
            limit = self._settings.connect_timeout
            if proxy is not None and proxy.tls and context is not None:
                stream = start_tls(stream, context, proxy.host, at_most=limit, deadline=deadline)
            if target.scheme == "https" and context is not None:
                if proxy is not None:
                    tunnel = encode_connect(target, proxy, user_agent=self._user_agent)
                    open_tunnel(stream, tunnel, deadline=deadline)
                stream = start_tls(stream, context, target.host, at_most=limit, deadline=deadline)
            response = exchange(stream, plan.outgoing, max_bytes=plan.max_bytes, deadline=deadline)
        finally:
            self._sockets.close(sock)
        if response.status == PROXY_AUTHENTICATION_REQUIRED and proxy is not None and target.scheme == "http":
            raise Abort("proxy", PROXY_CREDENTIALS)
        return response

    def _connect(self, target: Target, proxy: Proxy | None, deadline: Deadline) -> socket.socket:
        host, port = (target.host, target.port) if proxy is None else (proxy.host, proxy.port)
        limit = self._settings.connect_timeout
        try:
            addresses = self._resolver.addresses(host, port, deadline)
            return connect(self._sockets, addresses, port, per_address=limit, deadline=deadline)
        except Abort as abort:
            failure = abort.failure
        if proxy is not None and failure.kind in {"resolve", "connect"}:
            raise Abort("proxy", "the proxy could not be reached")
        raise Abort(failure.kind, failure.detail)

    def _proxy_for(self, target: Target) -> Proxy | None:
        """Return the proxy for ``target``. No local variable here holds its URL, for the sake of tracebacks."""
        if self._settings.proxy is not None:
            return parse_proxy(self._settings.proxy) if self._settings.proxy else None
        if not self._settings.trust_env:
            return None
        variable = proxy_variable(target.scheme, target.host, target.port, os.environ)
        if variable is None:
            return None
        proxy = parse_proxy(os.environ.get(variable, ""))
        if proxy is None:
            raise ConfigurationError(
                "The variable does not hold the URL of an HTTP proxy.", advice=ADVICE, key=variable
            )
        return proxy

    def _tls_context(self) -> ssl.SSLContext:
        if self._context is None:
            with self._context_lock:
                if self._context is None:
                    self._context = build_context(self._settings)
        return self._context


def _default_user_agent() -> str:
    try:
        return f"accredit/{metadata.version('accredit')}"
    except metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return "accredit"
