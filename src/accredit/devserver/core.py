"""The protocol of the development server: pure, the clock, the randomness and the keys are given to it.

Metadata (RFC 8414, OpenID Connect Discovery), JWKS (RFC 7517), token endpoint for client credentials (RFC 6749,
section 4.4; RFC 8707; RFC 9068), revocation (RFC 7009), introspection (RFC 7662).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from accredit.core.access_token import AccessTokenPolicy, VerifiedToken, verify_access_token
from accredit.core.jose import SigningKey, import_public_jwk, sign_jws
from accredit.core.jwks import KeySet
from accredit.core.messages import Response
from accredit.core.strict import StrictError, check_scope_token
from accredit.devserver.config import DevClient, DevConfig, is_absolute_uri
from accredit.devserver.forms import Form, Incoming, Problem, authenticate, invalid_client, one, parse_form
from accredit.errors import InvalidTokenError

_NO_STORE: Final = (("cache-control", "no-store"), ("pragma", "no-cache"))
_MAX_KEYS: Final = 20
_MAX_DENIED: Final = 100_000
_MAX_REMEMBERED: Final = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """A response, and what the request log may know about it.

    Attributes:
        response: what to send.
        client_id: the authenticated client, or None.
        token_id: the ``jti`` of the token that was issued, or None.

    """

    response: Response
    client_id: str | None = None
    token_id: str | None = None


@dataclass(slots=True)
class Authority:
    """An authorization server without I/O: requests go in, responses come out.

    Attributes:
        config: its configuration; ``issuer`` must be set.
        keys: its signing keys, the current one first; older ones stay published.
        token_lifetime: seconds, instead of the configured one; or None.
        omit_expires_in: leave ``expires_in`` out of the answers.
        omit_scope: leave ``scope`` out of the answers.
        same_token: hand out the previous token for the same request while it lives.

    """

    config: DevConfig
    keys: list[SigningKey] = field(repr=False)
    token_lifetime: int | None = None
    omit_expires_in: bool = False
    omit_scope: bool = False
    same_token: bool = False
    _issued: int = 0
    _denied: dict[str, None] = field(default_factory=dict, repr=False)
    _denied_before: dict[str, int] = field(default_factory=dict, repr=False)
    _remembered: dict[tuple[object, ...], tuple[str, int, str]] = field(default_factory=dict, repr=False)

    # ---- switches -------------------------------------------------------------------------------------------

    def rotate(self, key: SigningKey, *, forget_old: bool = False) -> None:
        """Sign with ``key`` from now on; old keys stay in the JWKS unless ``forget_old``."""
        self.keys = [key] if forget_old else [key, *self.keys][:_MAX_KEYS]
        self._remembered.clear()

    def revoke_client(self, client_id: str) -> None:
        """Revoke every token that was issued to the client so far."""
        self._denied_before[client_id] = self._issued

    def revoke_token_id(self, token_id: str) -> None:
        """Revoke the token with that ``jti``."""
        self._denied[token_id] = None
        while len(self._denied) > _MAX_DENIED:
            del self._denied[next(iter(self._denied))]

    def is_revoked(self, token: VerifiedToken) -> bool:
        """Tell whether the (verified) token was revoked."""
        # Every jti starts with its serial number: "all tokens so far" needs neither a list nor a clock.
        serial = (token.token_id or "").partition(".")[0]
        number = int(serial) if serial.isascii() and serial.isdigit() and len(serial) < 20 else 0
        return token.token_id in self._denied or number <= self._denied_before.get(token.client_id or "", -1)

    def key_set(self) -> KeySet:
        """Return the published keys, as a verifier would import them."""
        return KeySet(tuple(import_public_jwk(key.public_jwk) for key in self.keys))

    # ---- requests -------------------------------------------------------------------------------------------

    def handle(self, incoming: Incoming, *, now: float, random_id: str) -> Outcome:
        """Answer a request; never raises, whatever was sent.

        Args:
            incoming: the request.
            now: seconds since the epoch.
            random_id: fresh randomness of at least 128 bits, URL-safe: it becomes part of a token id.

        """
        base = self.config.issuer_path
        routes: dict[str, tuple[str, Callable[[Incoming, float, str], Outcome]]] = {
            f"/.well-known/oauth-authorization-server{base}": ("GET", self._metadata),
            f"{base}/.well-known/openid-configuration": ("GET", self._openid_metadata),
            f"{base}/jwks": ("GET", self._jwks),
            f"{base}/token": ("POST", self._token),
            f"{base}/revoke": ("POST", self._revoke),
            f"{base}/introspect": ("POST", self._introspect),
        }
        route = routes.get(incoming.path)
        if route is None:
            return Outcome(json_response(404, {"error": "not_found"}))
        method, answer = route
        if incoming.method != method and not (method == "GET" and incoming.method == "HEAD"):
            return Outcome(json_response(405, {"error": "method_not_allowed"}, ("allow", method)))
        return answer(incoming, now, random_id)

    def _document(self) -> dict[str, object]:
        issuer, methods = (self.config.issuer, ["client_secret_basic", "client_secret_post"])
        return {
            "issuer": issuer,
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/jwks",
            "revocation_endpoint": f"{issuer}/revoke",
            "introspection_endpoint": f"{issuer}/introspect",
            "response_types_supported": [],
            "grant_types_supported": ["client_credentials"],
            "scopes_supported": list(self.config.scopes()),
            "token_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_methods_supported": methods,
            "introspection_endpoint_auth_methods_supported": methods,
        }

    def _metadata(self, _incoming: Incoming, _now: float, _random_id: str) -> Outcome:
        return Outcome(json_response(200, self._document()))

    def _openid_metadata(self, _incoming: Incoming, _now: float, _random_id: str) -> Outcome:
        algorithm = self.keys[0].algorithm
        extra = {"subject_types_supported": ["public"], "id_token_signing_alg_values_supported": [algorithm]}
        return Outcome(json_response(200, {**self._document(), **extra}))

    def _jwks(self, _incoming: Incoming, _now: float, _random_id: str) -> Outcome:
        return Outcome(json_response(200, {"keys": [dict(key.public_jwk) for key in self.keys]}))

    def _token(self, incoming: Incoming, now: float, random_id: str) -> Outcome:
        form, client = self._who(incoming)
        if isinstance(client, Problem):
            return refusal(client)
        grant = one(form, "grant_type")
        if grant is None:
            return refusal(Problem("invalid_request", "grant_type is missing"), client.client_id)
        if grant != "client_credentials":
            return refusal(Problem("unsupported_grant_type", "only client_credentials is supported"), client.client_id)
        scope = _granted_scope(client, one(form, "scope"))
        if isinstance(scope, Problem):
            return refusal(scope, client.client_id)
        audience = self._granted_audience(client, form)
        if isinstance(audience, Problem):
            return refusal(audience, client.client_id)
        return self._issue(client, scope, audience, int(now), random_id)

    def _issue(
        self, client: DevClient, scope: tuple[str, ...], audience: tuple[str, ...], now: int, random_id: str
    ) -> Outcome:
        wish = (client.client_id, frozenset(scope), frozenset(audience))
        known = self._remembered.get(wish) if self.same_token else None
        if known is not None and known[1] > now:
            token, expires_at, token_id = known
        else:
            self._issued += 1
            token_id = f"{self._issued}.{random_id}"
            expires_at = now + (self.token_lifetime or client.token_lifetime or self.config.token_lifetime)
            claims: dict[str, object] = {
                "iss": self.config.issuer,
                # Namespaced, so that no client can be registered under the name of a user (RFC 9068, section 5).
                "sub": f"client:{client.client_id}",
                "client_id": client.client_id,
                "aud": audience[0] if len(audience) == 1 else list(audience),
                "iat": now,
                "exp": expires_at,
                "jti": token_id,
                "scope": " ".join(scope),
            }
            if not scope:
                del claims["scope"]
            token = sign_jws(json.dumps(claims).encode(), self.keys[0], header={"typ": "at+jwt"})
            self._remembered[wish] = (token, expires_at, token_id)
            while len(self._remembered) > _MAX_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
        answer: dict[str, object] = {"access_token": token, "token_type": "Bearer"}
        if not self.omit_expires_in:
            answer["expires_in"] = expires_at - now
        if scope and not self.omit_scope:
            answer["scope"] = " ".join(scope)
        return Outcome(json_response(200, answer, *_NO_STORE), client.client_id, token_id)

    def _revoke(self, incoming: Incoming, _now: float, _random_id: str) -> Outcome:
        form, client = self._who(incoming)
        if isinstance(client, Problem):
            return refusal(client)
        text = one(form, "token")
        if text is None:
            return refusal(Problem("invalid_request", "token is missing"), client.client_id)
        # Expired tokens may be revoked as well: they are verified as of the epoch, with nothing "not valid yet".
        token = self._verified(text, None)
        if token is not None:
            if token.client_id != client.client_id:
                return refusal(Problem("unauthorized_client", "the token belongs to another client"), client.client_id)
            self.revoke_token_id(token.token_id or "")
        return Outcome(Response(200, (*_NO_STORE, ("content-length", "0"))), client.client_id)

    def _introspect(self, incoming: Incoming, now: float, _random_id: str) -> Outcome:
        form, client = self._who(incoming)
        if isinstance(client, Problem):
            return refusal(client)
        text = one(form, "token")
        if text is None:
            return refusal(Problem("invalid_request", "token is missing"), client.client_id)
        token = self._verified(text, now)
        answer: dict[str, object] = {"active": False}
        if token is not None and not self.is_revoked(token):
            answer = {"active": True, "token_type": "Bearer", **token.claims}
        return Outcome(json_response(200, answer, *_NO_STORE), client.client_id)

    # ---- helpers --------------------------------------------------------------------------------------------

    def _who(self, incoming: Incoming) -> tuple[Form, DevClient | Problem]:
        form = parse_form(incoming)
        if isinstance(form, Problem):
            return {}, form
        return form, authenticate(incoming, form, self.config)

    def _granted_audience(self, client: DevClient, form: Form) -> tuple[str, ...] | Problem:
        resources, audience = form.get("resource", ()), form.get("audience", ())
        asked = tuple(dict.fromkeys((*resources, *audience)))
        known = {self.config.default_audience, *client.audiences}
        if not all(map(is_absolute_uri, resources)) or not set(asked) <= known:
            return Problem("invalid_target", "a resource is malformed, unknown, or not for this client")
        return asked or (self.config.default_audience,)

    def _verified(self, text: str, now: float | None) -> VerifiedToken | None:
        known = {audience for client in self.config.clients for audience in client.audiences}
        policy = AccessTokenPolicy(
            issuer=self.config.issuer,
            audience=(self.config.default_audience, *sorted(known)),
            leeway=0 if now is not None else float("inf"),
            allow_long_leeway=True,
        )
        try:
            return verify_access_token(text, self.key_set(), policy, now=now or 0)
        except InvalidTokenError:
            return None


def _granted_scope(client: DevClient, asked: str | None) -> tuple[str, ...] | Problem:
    if asked is None:
        return client.scopes
    scopes = tuple(dict.fromkeys(asked.split(" ")))
    try:
        for scope in scopes:
            check_scope_token(scope)
    except StrictError:
        return Problem("invalid_scope", "the scope is malformed")
    if not set(scopes) <= set(client.scopes):
        return Problem("invalid_scope", "a scope is unknown or not for this client")
    return scopes


def json_response(status: int, members: Mapping[str, object], *headers: tuple[str, str]) -> Response:
    """Return a JSON response."""
    body = json.dumps(members).encode()
    fields = (("content-type", "application/json"), ("content-length", str(len(body))), *headers)
    return Response(status, fields, body)


def refusal(problem: Problem, client_id: str | None = None) -> Outcome:
    """Return an error response of the token endpoint (RFC 6749, section 5.2)."""
    members = {"error": problem.error, "error_description": problem.description}
    extra = (("www-authenticate", 'Basic realm="token", charset="UTF-8"'),) if problem.status == 401 else ()
    return Outcome(json_response(problem.status, members, *_NO_STORE, *extra), client_id)


__all__ = ["Authority", "Outcome", "invalid_client", "json_response", "refusal"]
