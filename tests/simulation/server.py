"""The authorization server and the API behind it: what they know is the truth that the invariants are held against."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs, unquote_plus

from accredit.core.messages import Failure, Request, Response
from tests.simulation.kernel import Kernel

ISSUER = "https://as.example"
TOKEN_ENDPOINT = f"{ISSUER}/token"
JSON = (("content-type", "application/json"),)
Trouble = Literal["down", "hanging", "error", "garbage", "throttling"]


@dataclass(slots=True)
class Truth:
    """A token as its server knows it."""

    value: str
    client_id: str
    scope: str
    issued_at: float
    expires_at: float
    lifetime: float
    revoked: bool = False


@dataclass(slots=True)
class Reply:
    """What comes back, how long the server took over it, and the token in it, if there is one."""

    outcome: Response | Failure
    seconds: float
    token: Truth | None = None


@dataclass
class Behaviour:
    """How the server is today."""

    lifetime: int | None = 300
    seconds: float = 0.05
    #: Token requests a second that it can do, and the seconds of work that may queue before it refuses more.
    capacity: float | None = None
    longest_queue: float = 5.0
    overload: Literal["drop", "503", "429"] = "503"
    #: Most token requests of one client a minute.
    a_minute: int | None = None
    refresh_in: int | None = None
    same_token: bool = False
    retry_after: int | None = None
    trouble: Trouble | None = None


@dataclass
class Counts:
    """What reached it."""

    requests: int = 0
    issued: int = 0
    metadata: int = 0
    refused: int = 0
    throttled: int = 0
    dropped: int = 0
    times: list[float] = field(default_factory=list)


class AuthorizationServer:
    """Issues tokens to clients with a valid secret."""

    def __init__(self, kernel: Kernel, behaviour: Behaviour, secrets: dict[str, set[str]]) -> None:
        self._kernel = kernel
        self.behaviour = behaviour
        self.secrets = secrets
        self.tokens: dict[str, Truth] = {}
        self.counts = Counts()
        self._last: dict[tuple[str, str], Truth] = {}
        self._busy_until = 0.0
        self._window: list[float] = []
        #: When each secret was last refused.
        self.refusals: dict[str, float] = {}

    def receive(self, request: Request, patience: float) -> Reply:
        """Answer one request that has arrived now."""
        behaviour = self.behaviour
        match behaviour.trouble:
            case "down":
                self.counts.dropped += 1
                return Reply(Failure("connect", "refused"), 0.001)
            case "hanging":
                self.counts.dropped += 1
                return Reply(Failure("deadline", "no answer in time"), patience)
            case "error":
                self.counts.requests += 1
                return Reply(_answer(500, error="server_error"), behaviour.seconds)
            case "garbage":
                self.counts.requests += 1
                return Reply(Response(200, (("content-type", "text/html"),), b"<html>"), behaviour.seconds)
            case _:
                pass
        if request.method == "GET":
            self.counts.metadata += 1
            document = {"issuer": ISSUER, "token_endpoint": TOKEN_ENDPOINT, "response_types_supported": ["code"]}
            return Reply(Response(200, JSON, json.dumps(document).encode()), behaviour.seconds)
        self.counts.requests += 1
        self.counts.times.append(self._kernel.now)
        if behaviour.trouble == "throttling":
            return self._throttle()
        return self._limited(request)

    def _limited(self, request: Request) -> Reply:
        behaviour, now = self.behaviour, self._kernel.now
        seconds = behaviour.seconds
        if behaviour.capacity is not None:
            queue = max(self._busy_until - now, 0.0)
            if queue > behaviour.longest_queue:
                self.counts.dropped += 1
                if behaviour.overload == "429":
                    return self._throttle()
                if behaviour.overload == "503":
                    return Reply(_answer(503, error="temporarily_unavailable"), 0.005)
                return Reply(Failure("connect", "refused"), 0.001)
            # The work is done even if nobody waits for the answer any more: that is what overload is.
            self._busy_until = max(self._busy_until, now) + 1.0 / behaviour.capacity
            seconds += queue
        if behaviour.a_minute is not None:
            self._window = [at for at in self._window if at > now - 60.0]
            if len(self._window) >= behaviour.a_minute:
                rest = int(self._window[0] + 60.0 - now) + 1
                return self._throttle(rest)
            self._window.append(now)
        return self._judge(request, seconds)

    def _throttle(self, rest: int | None = None) -> Reply:
        self.counts.throttled += 1
        rest = self.behaviour.retry_after if rest is None else rest
        headers = JSON if rest is None else (*JSON, ("retry-after", str(rest)))
        return Reply(Response(429, headers, b'{"error":"slow_down"}'), 0.005)

    def _judge(self, request: Request, seconds: float) -> Reply:
        client_id, secret, form = credentials_of(request)
        if secret not in self.secrets.get(client_id, ()):
            self.counts.refused += 1
            self.refusals[secret] = self._kernel.now
            return Reply(_answer(401, error="invalid_client"), seconds)
        scope = form.get("scope", [""])[0]
        token = self._issue(client_id, scope, self._kernel.now)
        members: dict[str, object] = {"access_token": token.value, "token_type": "Bearer"}
        if self.behaviour.lifetime is not None:
            members["expires_in"] = int(token.expires_at - self._kernel.now)
        if self.behaviour.refresh_in is not None:
            members["refresh_in"] = self.behaviour.refresh_in
        return Reply(_answer(200, **members), seconds, token)

    def _issue(self, client_id: str, scope: str, now: float) -> Truth:
        last = self._last.get((client_id, scope))
        if self.behaviour.same_token and last is not None and not last.revoked and last.expires_at - now > 2.0:
            return last
        lifetime = float(self.behaviour.lifetime or 300)
        self.counts.issued += 1
        value = f"t{self.counts.issued}"
        token = Truth(value, client_id, scope, now, now + lifetime, lifetime)
        self.tokens[value] = self._last[client_id, scope] = token
        return token


class Api:
    """A resource server: it takes tokens that live, or has its own opinion."""

    def __init__(self, server: AuthorizationServer, kernel: Kernel, origin: str) -> None:
        self._server = server
        self._kernel = kernel
        self.origin = origin
        #: Refuses every token: a wrong audience, a lost key.
        self.misconfigured = False
        #: Seconds until it knows a token.
        self.lag = 0.0

    def status(self, value: str) -> int:
        """Return 200 or 401."""
        now = self._kernel.now
        token = self._server.tokens.get(value)
        if token is None or self.misconfigured or token.revoked or now >= token.expires_at:
            return 401
        return 401 if now < token.issued_at + self.lag else 200


def credentials_of(request: Request) -> tuple[str, str, dict[str, list[str]]]:
    """Return client id, secret and form of a token request (RFC 6749, section 2.3.1)."""
    form = parse_qs(request.body.decode())
    for name, value in request.headers:
        if name == "authorization":
            client_id, _, secret = b64decode(value.removeprefix("Basic ")).decode().partition(":")
            return unquote_plus(client_id), unquote_plus(secret), form
    return form["client_id"][0], form["client_secret"][0], form


def _answer(status: int, **members: object) -> Response:
    return Response(status, JSON, json.dumps(members).encode())
