"""A world whose token endpoint is a real server on a real socket, reached through the real transport."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accredit import AccessToken
from accredit.core.messages import Failure, Request, Response
from accredit.transport import HttpTransport, TransportSettings
from tests.bad_inputs.model import ERRORS, JSON, TOKEN, Outcome, issued
from tests.bad_inputs.world import Script, World, check_errors, outcome_of, registration
from tests.runtime.support import PATIENCE
from tests.transport.hostile import Peer, Server

LIMIT = 256 * 1024


def wire(response: Response, *fields: str) -> bytes:
    """Return an answer as bytes."""
    lines = [f"HTTP/1.1 {response.status} Told", f"Content-Length: {len(response.body)}", *fields]
    lines += [f"{name}: {value}" for name, value in (response.headers or JSON)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + response.body


GOOD = wire(issued())


def loopback(host: str, port: int) -> Sequence[str]:
    """Resolve every name to this machine."""
    assert host
    assert port
    return ["127.0.0.1"]


@dataclass
class Routed:
    """Sends what is for the real server to it; the other client's requests follow their script."""

    real: HttpTransport
    script: Script
    sent: list[Request] = field(default_factory=list)

    def send(self, request: Request, *, timeout: float) -> Response | Failure:
        if "idp.example" in request.url:
            return self.script.send(request, timeout=timeout)
        self.sent.append(request)
        assert self.script.open.wait(PATIENCE)
        began = time.monotonic()
        outcome = self.real.send(request, timeout=timeout)
        self.script.clock.advance(time.monotonic() - began)
        return outcome

    def after_fork(self) -> None:
        self.real.after_fork()

    def close(self) -> None:
        self.real.close()


class WireWorld(World):
    """A world around the URL of a token endpoint (or an issuer), with the settings of its transport."""

    def __init__(self, url: str = "", *, transport: dict[str, Any] | None = None, **settings: Any) -> None:
        self.real = HttpTransport(TransportSettings(**{"resolve": loopback, **(transport or {})}))
        server = {} if "issuer" in settings else {"token_endpoint": url}
        super().__init__(registration(**{**server, **settings}))
        self.routed = Routed(self.real, self.script)
        self.manager._engine._driver._make_transport = lambda: self.routed

    def ask(self, outcome: Outcome, *, requests: int | None = None, alike: bool = True) -> list[Any]:
        """Let all callers ask, expect this outcome of each, and check what holds on every case.

        Where their deadline is that of the flight, they may say it in other words: then they are not ``alike``.
        """
        outcomes = self.callers()
        self.land()
        first = outcomes[0]
        if outcome == "OK":
            assert isinstance(first, AccessToken), repr(first)
            assert first.value == TOKEN
            assert all(other is first for other in outcomes)
        else:
            check_errors(outcomes, ERRORS[outcome], alike=alike)
            made = len(self.routed.sent)
            assert type(outcome_of(self.manager.get)) is ERRORS[outcome]
            assert len(self.routed.sent) == made  # held
        if requests is not None:
            assert len(self.routed.sent) == requests
        return outcomes


class Flow:
    """Counts how much a server could send before its peer went away."""

    def __init__(self, start: bytes, part: bytes, most: int = 256 * 1024 * 1024) -> None:
        self.start, self.part, self.most = start, part, most
        self.sent = 0

    def __call__(self, peer: Peer) -> None:
        peer.send(self.start)
        while self.sent < self.most:
            peer.send(self.part)
            self.sent += len(self.part)


def endpoint(server: Server) -> str:
    """Return the URL of the token endpoint of a server."""
    return f"{server.url}token"


def tls(server: Server, host: str = "idp.test") -> str:
    """Return the same over TLS."""
    return f"https://{host}:{server.port}/token"


def trusting(ca_file: Path, **more: Any) -> dict[str, Any]:
    """Return transport settings that trust an authority."""
    return {"ca_file": ca_file, **more}
