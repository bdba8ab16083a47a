"""The server, the clients and the counts that the steps work with; planted failures are wired in here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

import httpx2

from accredit.clock import SystemClock
from accredit.core.client_auth import ClientSecretBasic
from accredit.core.messages import Failure, Request, Response
from accredit.core.registration import ClientRegistration
from accredit.core.secret import Secret
from accredit.core.strict import StrictError, b64url_decode, parse_json_object
from accredit.core.token import AccessToken
from accredit.demo.report import Report
from accredit.devserver.config import DevClient, DevConfig
from accredit.devserver.log import LogEntry
from accredit.devserver.process import DevServerProcess
from accredit.instrumentation import Event, TokenObtained
from accredit.integrations.httpx2 import AccreditAuth
from accredit.manager import TokenManager
from accredit.transport import HttpTransport, TransportSettings

CLIENT_ID: Final = "api-client"
SCOPES: Final = ("orders:read", "orders:write")
OTHER_AUDIENCE: Final = "https://reports.example"
_MAX_ANSWER: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the API, as its caller saw it.

    Attributes:
        status: the status that reached the caller.
        token_id: the ``jti`` of the token it was answered for, None without.
        reason: why the API refused the token, None when it did not.

    """

    status: int
    token_id: str | None = None
    reason: str | None = None


@dataclass(slots=True)
class Counts:
    """What the server's own log says of a step.

    Attributes:
        token_requests: the entries of the token endpoint.
        api: the entries of the protected API.

    """

    token_requests: list[LogEntry]
    api: list[LogEntry]

    def statuses(self) -> list[int | None]:
        """Return the statuses that the API answered, in order of arrival."""
        return [entry.status for entry in self.api]


@dataclass(slots=True)
class Stage:
    """What every step has at hand.

    Attributes:
        server: the running server.
        sabotage: the name of the planted failure, or None.
        fast: shorter lifetimes and pauses.
        calls: the calls of this step that were answered.
        obtained: the tokens that the managers of this step say they got from the server.

    """

    server: DevServerProcess
    sabotage: str | None = None
    fast: bool = False
    calls: list[Call] = field(default_factory=list)
    obtained: list[TokenObtained] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Clear the stage for the next step."""
        self.server.recover()
        self.server.release()
        self.server.set_token_lifetime(None)
        self.server.clear_log()
        self.calls, self.obtained = [], []

    # ---- clients --------------------------------------------------------------------------------------------

    def registration(self, **settings: Any) -> ClientRegistration:
        """Return the registration of the demo's client, with ``settings`` of :class:`ClientRegistration`."""
        if self.sabotage == "wrong-audience":
            settings["audience"] = OTHER_AUDIENCE
        if self.sabotage == "missing-scope":
            settings["scope"] = "orders:write"
        return ClientRegistration(
            id=CLIENT_ID,
            issuer=self.server.issuer,
            client_id=CLIENT_ID,
            client_auth=ClientSecretBasic(self.server.client.client_secret),
            **{"scope": SCOPES, "api_origins": self.server.api_url, **settings},
        )

    @contextmanager
    def manager(self, **settings: Any) -> Iterator[TokenManager]:
        """Yield a token manager that knows no token yet."""
        transport = _Transport(self.server, self.sabotage)
        with TokenManager(self.registration(**settings), transport=transport, on_event=self._on_event) as manager:
            yield manager

    @contextmanager
    def client(self, manager: TokenManager) -> Iterator[httpx2.Client]:
        """Yield an HTTP client whose calls carry a token of ``manager``."""
        with httpx2.Client(
            auth=self.auth(manager), base_url=self.server.api_url, trust_env=False, timeout=30
        ) as client:
            yield client

    def auth(self, manager: TokenManager) -> httpx2.Auth:
        """Return what puts the tokens of ``manager`` on calls."""
        return _WithoutRetry(manager) if self.sabotage == "no-retry" else AccreditAuth(manager)

    def saw(self, response: httpx2.Response) -> Call:
        """Take note of an answer of the API."""
        members: dict[str, object] = {}
        try:
            members = parse_json_object(response.content, max_bytes=_MAX_ANSWER)
        except StrictError:
            members = {}
        call = Call(
            response.status_code,
            cast("str | None", members.get("token_id")),
            cast("str | None", members.get("reason") or members.get("error")),
        )
        with self._lock:
            self.calls.append(call)
        return call

    def _on_event(self, event: Event) -> None:
        if isinstance(event, TokenObtained) and event.source == "server":
            with self._lock:
                self.obtained.append(event)

    # ---- the server -----------------------------------------------------------------------------------------

    def settle_clock(self, token: AccessToken) -> None:
        """Move the server's clock so that ``token`` ends there in the moment in which it ends here.

        A JWT's ``exp`` is in whole seconds, so a token lives up to a second less than its lifetime. With lifetimes of
        hours nobody notices; with the few seconds of this demo it would be a good part of them.
        """
        claims = parse_json_object(b64url_decode(token.value.split(".")[1]), max_bytes=_MAX_ANSWER)
        expiry = cast("int", claims["exp"])
        now = SystemClock().now()
        self.server.advance_clock(expiry - (self.server.advance_clock(0) + token.ends_at - now))

    def counts(self) -> Counts:
        """Read the log of the server."""
        if self.sabotage == "blind-log":
            self.server.clear_log()
        entries = self.server.requests()
        if self.sabotage == "lying-log":
            entries = [entry for number, entry in enumerate(entries) if number % 10 != 9]
        return Counts(
            [entry for entry in entries if entry.server == "as" and entry.path == "/token"],
            [entry for entry in entries if entry.server == "api"],
        )

    def cross_check(self, counts: Counts, report: Report) -> None:
        """Claim that the log and the callers tell the same story: a log that lies is no witness."""
        served = sorted(call.token_id or "" for call in self.calls if call.status == 200)
        logged = sorted(entry.token_id or "" for entry in counts.api if entry.status == 200)
        issued = [entry.token_id for entry in counts.token_requests if entry.status == 200]
        agrees = served == logged and set(served) <= set(issued) and len(issued) == len(self.obtained)
        report.equal("yes" if agrees else "no", "yes", "the server's log agrees with what the callers saw")


def config() -> DevConfig:
    """Return the configuration of the demo's server, with a secret that is drawn anew."""
    import secrets

    secret = Secret(secrets.token_urlsafe(16))
    return DevConfig(clients=(DevClient(client_id=CLIENT_ID, client_secret=secret, scopes=SCOPES),))


class _WithoutRetry(httpx2.Auth):
    """The planted failure: what many write by hand."""

    def __init__(self, manager: TokenManager) -> None:
        self._manager = manager

    def sync_auth_flow(self, request: httpx2.Request) -> Any:
        request.headers.update(self._manager.headers())
        yield request

    async def async_auth_flow(self, request: httpx2.Request) -> Any:
        request.headers.update(await self._manager.asynchronous().headers())
        yield request


class _Transport:
    """The library's own transport, and what some planted failures do to its requests and answers."""

    def __init__(self, server: DevServerProcess, sabotage: str | None) -> None:
        # The demo's server is on this machine; the proxies of the environment are none of its business.
        self._inner = HttpTransport(TransportSettings(trust_env=False))
        self._server = server
        self._sabotage = sabotage

    def send(self, request: Request, *, timeout: float) -> Response | Failure:
        if request.method != "POST" or self._sabotage not in {"expired-token", "forged-signature"}:
            return self._inner.send(request, timeout=timeout)
        if self._sabotage == "forged-signature":
            answer = self._inner.send(request, timeout=timeout)
            if isinstance(answer, Failure):
                return answer
            token = str(parse_json_object(answer.body, max_bytes=_MAX_ANSWER)["access_token"])
            return Response(answer.status, answer.headers, answer.body.replace(token.encode(), forged(token).encode()))
        self._server.advance_clock(-7200)
        try:
            return self._inner.send(request, timeout=timeout)
        finally:
            self._server.advance_clock(7200)

    def after_fork(self) -> None:
        self._inner.after_fork()

    def close(self) -> None:
        self._inner.close()


def forged(token: str) -> str:
    """Return a JWT with one letter in the middle of its signature changed."""
    head, _, signature = token.rpartition(".")
    middle = len(signature) // 2
    letter = "A" if signature[middle] != "A" else "B"
    return f"{head}.{signature[:middle]}{letter}{signature[middle + 1 :]}"
