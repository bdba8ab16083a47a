"""A small protected API that truly verifies the tokens it is called with (RFC 6750, RFC 9068).

Routes: ``GET /hello`` (any valid token), ``POST /orders`` (scope ``orders:write``; tells the length of the body),
``GET /orders`` (scope ``orders:read``), ``GET /calls`` (how many calls were served).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from accredit.core.access_token import AccessTokenPolicy, VerifiedToken, verify_access_token
from accredit.core.jwks import JwksPolicy, KeySet
from accredit.core.messages import Response
from accredit.devserver.app import (
    Application,
    ClientGoneError,
    Receive,
    Scope,
    Send,
    answer_faulty,
    departure,
    read_incoming,
    send_response,
    wished_fault,
)
from accredit.devserver.connections import hang_up_of
from accredit.devserver.control import Control
from accredit.devserver.core import json_response
from accredit.devserver.forms import Incoming, parse_form
from accredit.devserver.log import LogEntry
from accredit.errors import InvalidTokenError

MAX_API_BODY: Final = 8 * 1024 * 1024
#: (method, path) -> scopes needed
ROUTES: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("GET", "/hello"): (),
    ("POST", "/hello"): (),
    ("GET", "/orders"): ("orders:read",),
    ("POST", "/orders"): ("orders:write",),
    ("GET", "/calls"): (),
}


@dataclass(slots=True)
class Guard:
    """Decides about the token of a request; the keys are kept, and asked for again when a key id is unknown.

    Attributes:
        policy: what to demand of tokens.
        fetch_keys: returns the published keys of the authorization server.
        is_revoked: asks the authorization server about a verified token.
        opaque: asks it what an opaque token stands for, as introspection (RFC 7662) would; None when it is none.
        forgotten: returns how often keys were forgotten before their time. An API elsewhere would go on with its copy
            for a while; this one is to show at once what a forgotten key means.
        fetches: how often the keys were fetched.

    """

    policy: AccessTokenPolicy
    fetch_keys: Callable[[], KeySet]
    is_revoked: Callable[[VerifiedToken], bool]
    opaque: Callable[[str, float], VerifiedToken | None] = lambda _token, _now: None
    forgotten: Callable[[], int] = lambda: 0
    fetches: int = 0
    _forgotten: int = 0
    _keys: KeySet | None = None
    _fetched_at: float = 0.0
    # No cool-down: this authorization server is in the same process, and tests rotate keys in quick succession.
    _jwks_policy: JwksPolicy = field(default_factory=lambda: JwksPolicy(cool_down=0.0))

    def check(self, token: str, *, now: float) -> VerifiedToken:
        """Return the verified token.

        Raises:
            InvalidTokenError: with its reason; ``revoked`` among them.

        """
        opaque = self.opaque(token, now)
        if opaque is not None:
            return self._unless_revoked(opaque)
        stale = self._jwks_policy.renewal_due(fetched_at=self._fetched_at, now=now)
        stale = stale or self._forgotten != self.forgotten()
        keys = self._fetch(now) if self._keys is None or stale else self._keys
        try:
            verified = verify_access_token(token, keys, self.policy, now=now)
        except InvalidTokenError as error:
            if error.reason != "unknown_key" or not self._jwks_policy.may_fetch_for_unknown_key(
                last_attempt=self._fetched_at, now=now
            ):
                raise
            verified = verify_access_token(token, self._fetch(now), self.policy, now=now)
        return self._unless_revoked(verified)

    def _unless_revoked(self, verified: VerifiedToken) -> VerifiedToken:
        if self.is_revoked(verified):
            message = "the token was revoked."
            raise InvalidTokenError(message, reason="revoked")
        return verified

    def _fetch(self, now: float) -> KeySet:
        self.fetches += 1
        self._keys, self._fetched_at, self._forgotten = self.fetch_keys(), now, self.forgotten()
        return self._keys


def bearer_token(incoming: Incoming) -> str | None:
    """Return the token of the only Authorization header when its scheme is Bearer (RFC 6750, section 2.1)."""
    values = incoming.values("authorization")
    if len(values) != 1:
        return None
    scheme, _, token = values[0].strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def protected_api(control: Control, guard: Guard) -> Application:
    """Return the ASGI application of the protected API."""
    served = 0

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal served
        if scope["type"] != "http":
            return
        try:
            incoming = await read_incoming(scope, receive, limit=MAX_API_BODY)
        except ClientGoneError:
            return
        entry = control.log.add(LogEntry(control.now(), "api", incoming.method, incoming.path))
        await control.arrived()
        try:
            served += await _respond(control, guard, incoming, entry, served, (scope, receive, send))
        finally:
            control.log.end(entry)
            await control.arrived()

    return application


async def _respond(
    control: Control,
    guard: Guard,
    incoming: Incoming,
    entry: LogEntry,
    served: int,
    wire: tuple[Scope, Receive, Send],
) -> bool:
    """Answer a call; return whether it was served."""
    scope, receive, send = wire
    gone = departure(receive)
    if not await control.detain("api", None, gone):
        return False
    fault = control.fault("api", incoming.path)
    problem = ""
    try:
        fault = wished_fault(control, incoming) or fault
    except ValueError as error:
        problem = str(error)
    if problem:
        entry.status, entry.error = 400, "invalid_request"
        await send_response(send, json_response(400, {"error": "invalid_request", "error_description": problem}))
        return False
    if fault is not None:
        entry.fault = fault.label()
        if not await control.delay(fault.latency, gone):
            return False
    if fault is not None and (fault.hang_up or fault.response is not None):
        entry.status = None if fault.response is None else fault.response.status
        await answer_faulty(control, fault, Response(200), receive, send, hang_up_of(scope, receive))
        return False
    response = _answer(control, guard, incoming, entry, served)
    entry.status = response.status
    if fault is None:
        await send_response(send, response)
    else:
        await answer_faulty(control, fault, response, receive, send, hang_up_of(scope, receive))
    return response.status == 200


def _answer(control: Control, guard: Guard, incoming: Incoming, entry: LogEntry, served: int) -> Response:
    needed = ROUTES.get((incoming.method, incoming.path))
    token = bearer_token(incoming)
    if token is None:
        # No token, so nothing is wrong with it: a challenge without error code (RFC 6750, section 3.1).
        return _challenge(401, None, "a Bearer token is needed")
    form = parse_form(incoming)
    if isinstance(form, Mapping) and "access_token" in form:
        # Two tokens in one request: RFC 6750, section 2 allows one method only.
        return _challenge(400, "invalid_request", "the token is given in two ways")
    try:
        verified = guard.check(token, now=control.now())
    except InvalidTokenError as error:
        entry.error = "invalid_token"
        return _challenge(401, "invalid_token", error.summary, reason=error.reason)
    entry.client_id, entry.token_id = verified.client_id, verified.token_id
    if needed is None:
        return json_response(404, {"error": "not_found"})
    if not verified.has_scope(*needed):
        entry.error = "insufficient_scope"
        return _challenge(403, "insufficient_scope", "the token lacks a scope", scope=" ".join(needed))
    members: dict[str, object] = {"client_id": verified.client_id, "token_id": verified.token_id}
    if incoming.path == "/hello":
        members["message"] = f"hello, {verified.client_id}"
    elif incoming.path == "/calls":
        members["calls"] = served
    else:
        members["orders"] = ["espresso", "ristretto"]
        members["length"] = len(incoming.body)
    return json_response(200, members, ("cache-control", "no-store"))


def _challenge(status: int, error: str | None, description: str, **extra: str) -> Response:
    parameters = {"realm": "api"}
    if error is not None:
        parameters |= {"error": error, "error_description": description.rstrip(".").replace('"', "'")}
        if "scope" in extra:
            parameters["scope"] = extra["scope"]
    value = "Bearer " + ", ".join(f'{name}="{text}"' for name, text in parameters.items())
    members = {"error": error or "token_required", "error_description": description, **extra}
    return json_response(status, members, ("www-authenticate", value), ("cache-control", "no-store"))
