"""The protocol of the development server: pure, the clock, the randomness and the keys are given to it.

Metadata (RFC 8414, OpenID Connect Discovery), JWKS (RFC 7517), token endpoint for client credentials (RFC 6749,
section 4.4; RFC 8707; RFC 9068), revocation (RFC 7009), introspection (RFC 7662).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from accredit.core.access_token import AccessTokenPolicy, VerifiedToken, validate_access_token, verify_access_token
from accredit.core.jose import ALGORITHMS, SigningKey, import_public_jwk, sign_jws
from accredit.core.jwks import KeySet
from accredit.core.messages import Response
from accredit.core.strict import StrictError, check_scope_token
from accredit.devserver.assertions import check_assertion
from accredit.devserver.config import AUTH_METHODS, SECRET_METHODS, DevClient, DevConfig, is_absolute_uri
from accredit.devserver.forms import Form, Incoming, Problem, authenticate, invalid_client, one, parse_form
from accredit.devserver.keys import KeyRing, RingKey
from accredit.devserver.ledger import IssuedToken, Ledger, digest_of
from accredit.errors import InvalidTokenError

_NO_STORE: Final = (("cache-control", "no-store"), ("pragma", "no-cache"))
_MAX_REMEMBERED: Final = 1000
_NO_TWIST: Final[frozenset[str]] = frozenset()
#: What can be wrong with a token or a document on demand.
TWISTS: Final = ("expired_key", "wrong_issuer")

#: (kind, key, value): what a state file keeps of a change; the value None takes the entry away.
Record = Callable[[str, str, object], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A response, and what the request log may know about it.

    Attributes:
        response: what to send.
        client_id: the authenticated client, or None.
        token_id: the ``jti`` of the token that was issued, or None.
        error: the error code that was answered, or None.

    """

    response: Response
    client_id: str | None = None
    token_id: str | None = None
    error: str | None = None


def _forget(_kind: str, _key: str, _value: object) -> None:
    """Keep nothing: there is no state file."""


class Authority:
    """An authorization server without I/O: requests go in, responses come out.

    Args:
        config: its configuration; ``issuer`` must be set.
        keys: its signing keys, the current one first; older ones stay published.
        unpublished: a key that is on no list, for tokens of an expired key; or None.
        record: is told each change that has to survive a restart.

    Attributes:
        config: its configuration.
        ring: its signing keys.
        ledger: what it remembers of the tokens it issued.
        token_lifetime: seconds, instead of the configured one; or None.
        omit_expires_in: leave ``expires_in`` out of the answers.
        omit_scope: leave ``scope`` out of the answers.
        same_token: hand out the previous token for the same request while it lives.

    """

    def __init__(
        self,
        config: DevConfig,
        keys: Sequence[SigningKey],
        *,
        unpublished: SigningKey | None = None,
        record: Record = _forget,
    ) -> None:
        """Start with nothing issued."""
        self.config: DevConfig = config
        self.ring: KeyRing = KeyRing(keys, self._key_changed)
        self.ledger: Ledger = Ledger()
        self.token_lifetime: int | None = None
        self.omit_expires_in: bool = False
        self.omit_scope: bool = False
        self.same_token: bool = False
        self.record: Record = record
        self._unpublished = unpublished
        self._remembered: dict[tuple[object, ...], tuple[str, IssuedToken]] = {}

    # ---- switches -------------------------------------------------------------------------------------------

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """The published keys, the current one first."""
        return tuple(entry.key for entry in self.ring.entries)

    def rotate(self, key: SigningKey, *, forget_old: bool = False) -> SigningKey:
        """Sign with the staged key, else with ``key``, from now on; return the one that signs.

        The old one stays in the JWKS until the last token it signed has expired, unless ``forget_old``.
        """
        self._remembered.clear()
        return self.ring.rotate(key, forget_old=forget_old)

    def revoke_client(self, client_id: str) -> None:
        """Revoke every token that was issued to the client so far."""
        self.ledger.deny_before(client_id, self.ledger.issued)
        self.record("denied_before", client_id, self.ledger.issued)

    def revoke_token_id(self, token_id: str) -> None:
        """Revoke the token with that ``jti``."""
        self.ledger.deny(token_id)
        self.record("denied", token_id, True)

    def is_revoked(self, token: VerifiedToken) -> bool:
        """Tell whether the (verified) token was revoked."""
        return self.ledger.is_denied(token.token_id or "", token.client_id or "")

    def key_set(self) -> KeySet:
        """Return the published keys, as a verifier would import them."""
        return KeySet(tuple(import_public_jwk(key.public_jwk) for key in self.keys))

    def policy(self, *, forever: bool = False) -> AccessTokenPolicy:
        """Return what the protected API demands; ``forever``: of tokens that may have expired."""
        return AccessTokenPolicy(
            issuer=self.config.issuer,
            audience=self.config.audiences(),
            algorithms=("ES256",),
            # Server and API have one clock: a token is refused in the very second it expires.
            leeway=float("inf") if forever else 0,
            allow_long_leeway=forever,
        )

    def opaque_token(self, token: str, *, now: float, forever: bool = False) -> VerifiedToken | None:
        """Return what an opaque token of this server stands for, None when it is none.

        Raises:
            InvalidTokenError: it has expired.

        """
        issued = self.ledger.find(token)
        if issued is None or issued.token_format == "jwt":  # noqa: S105 - the name of a format
            return None
        claims = issued.claims(self.config.issuer)
        return validate_access_token({"typ": "at+jwt"}, claims, self.policy(forever=forever), now=now)

    # ---- requests -------------------------------------------------------------------------------------------

    def handle(
        self,
        incoming: Incoming,
        *,
        now: float,
        random_id: str,
        random_value: str = "",
        twist: Collection[str] = _NO_TWIST,
    ) -> Outcome:
        """Answer a request; never raises, whatever was sent.

        Args:
            incoming: the request.
            now: seconds since the epoch.
            random_id: fresh randomness of at least 128 bits, URL-safe: it becomes part of a token id.
            random_value: as much again: it becomes an opaque token. Without it, none is issued.
            twist: what shall be wrong with the answer, of :data:`TWISTS`.

        """
        base = self.config.issuer_path
        routes: dict[str, tuple[str, Callable[[_Request], Outcome]]] = {
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
        self.ring.prune(now)
        return answer(_Request(incoming, now, random_id, random_value, frozenset(twist)))

    def _document(self, request: _Request) -> dict[str, object]:
        issuer = self.config.issuer
        signing = any(client.jwks for client in self.config.clients)
        methods = list(AUTH_METHODS if signing else SECRET_METHODS)
        document: dict[str, object] = {
            "issuer": f"{issuer}/other" if "wrong_issuer" in request.twist else issuer,
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/jwks",
            "revocation_endpoint": f"{issuer}/revoke",
            "introspection_endpoint": f"{issuer}/introspect",
            "response_types_supported": [],
            "grant_types_supported": ["client_credentials"],
            "scopes_supported": list(self.config.scopes()),
        }
        for endpoint in ("token", "revocation", "introspection"):
            document[f"{endpoint}_endpoint_auth_methods_supported"] = methods
            if signing:
                document[f"{endpoint}_endpoint_auth_signing_alg_values_supported"] = sorted(ALGORITHMS)
        return document

    def _metadata(self, request: _Request) -> Outcome:
        return Outcome(json_response(200, self._document(request)))

    def _openid_metadata(self, request: _Request) -> Outcome:
        algorithm = self.ring.current.key.algorithm
        extra = {"subject_types_supported": ["public"], "id_token_signing_alg_values_supported": [algorithm]}
        return Outcome(json_response(200, {**self._document(request), **extra}))

    def _jwks(self, _request: _Request) -> Outcome:
        return Outcome(json_response(200, {"keys": [dict(key.public_jwk) for key in self.keys]}))

    def _token(self, request: _Request) -> Outcome:
        form, client = self._who(request)
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
        return self._issue(client, scope, audience, request)

    def _issue(
        self, client: DevClient, scope: tuple[str, ...], audience: tuple[str, ...], request: _Request
    ) -> Outcome:
        now = int(request.now)
        wish = (client.client_id, frozenset(scope), frozenset(audience))
        known = self._remembered.get(wish) if self.same_token and not request.twist else None
        if known is not None and known[1].expires_at > now:
            token, issued = known
        else:
            token, issued = self._make(client, scope, audience, request)
            self._remembered[wish] = (token, issued)
            while len(self._remembered) > _MAX_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
        answer: dict[str, object] = {"access_token": token, "token_type": "Bearer"}
        if not self.omit_expires_in:
            answer["expires_in"] = issued.expires_at - now
        if scope and not self.omit_scope:
            answer["scope"] = " ".join(scope)
        return Outcome(json_response(200, answer, *_NO_STORE), client.client_id, issued.token_id)

    def _make(
        self, client: DevClient, scope: tuple[str, ...], audience: tuple[str, ...], request: _Request
    ) -> tuple[str, IssuedToken]:
        now = int(request.now)
        expires_at = now + (self.token_lifetime or client.token_lifetime or self.config.token_lifetime)
        token_id = f"{self.ledger.issued + 1}.{request.random_id}"
        kind = client.token_format or self.config.token_format
        issued = IssuedToken(token_id, client.client_id, scope, audience, now, expires_at, kind, "")
        if kind == "opaque":
            assert request.random_value, "an opaque token needs randomness of its own"
            token = request.random_value
        else:
            issuer = self.config.issuer
            claims = issued.claims(f"{issuer}/other" if "wrong_issuer" in request.twist else issuer)
            stray = self._unpublished if "expired_key" in request.twist else None
            token = sign_jws(json.dumps(claims).encode(), stray or self.ring.current.key, header={"typ": "at+jwt"})
            if stray is None:
                self.ring.signed(expires_at)
        issued = dataclasses.replace(issued, digest=digest_of(token))
        for gone in self.ledger.add(issued):
            self.record("token", gone, None)
        self.record("token", token_id, {name: getattr(issued, name) for name in IssuedToken.__slots__})
        return token, issued

    def _revoke(self, request: _Request) -> Outcome:
        form, client = self._who(request)
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

    def _introspect(self, request: _Request) -> Outcome:
        form, client = self._who(request)
        if isinstance(client, Problem):
            return refusal(client)
        text = one(form, "token")
        if text is None:
            return refusal(Problem("invalid_request", "token is missing"), client.client_id)
        token = self._verified(text, request.now)
        answer: dict[str, object] = {"active": False}
        if token is not None and not self.is_revoked(token):
            answer = {"active": True, "token_type": "Bearer", **token.claims}
        return Outcome(json_response(200, answer, *_NO_STORE), client.client_id)

    # ---- helpers --------------------------------------------------------------------------------------------

    def _who(self, request: _Request) -> tuple[Form, DevClient | Problem]:
        form = parse_form(request.incoming)
        if isinstance(form, Problem):
            return {}, form

        def use(namespace: str, identifier: str, until: float) -> bool:
            fresh = self.ledger.use(namespace, identifier, until=until, now=request.now)
            if fresh:
                self.record("used", json.dumps([namespace, identifier]), until)
            return fresh

        def assertion(form: Form) -> DevClient | Problem:
            return check_assertion(form, self.config, now=request.now, use=use)

        return form, authenticate(request.incoming, form, self.config, assertion)

    def _granted_audience(self, client: DevClient, form: Form) -> tuple[str, ...] | Problem:
        resources, audience = form.get("resource", ()), form.get("audience", ())
        asked = tuple(dict.fromkeys((*resources, *audience)))
        known = {self.config.default_audience, *client.audiences}
        if not all(map(is_absolute_uri, resources)) or not set(asked) <= known:
            return Problem("invalid_target", "a resource is malformed, unknown, or not for this client")
        return asked or (self.config.default_audience,)

    def _verified(self, text: str, now: float | None) -> VerifiedToken | None:
        forever = now is None
        try:
            opaque = self.opaque_token(text, now=now or 0, forever=forever)
            return opaque or verify_access_token(text, self.key_set(), self.policy(forever=forever), now=now or 0)
        except InvalidTokenError:
            return None

    def _key_changed(self, entry: RingKey, present: bool) -> None:  # noqa: FBT001 - the shape of a callback
        self.record("key", entry.key.thumbprint, entry if present else None)


@dataclass(frozen=True, slots=True)
class _Request:
    """A request and what comes with it; see :meth:`Authority.handle`."""

    incoming: Incoming
    now: float
    random_id: str
    random_value: str
    twist: frozenset[str]


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
    return Outcome(json_response(problem.status, members, *_NO_STORE, *extra), client_id, error=problem.error)


__all__ = ["TWISTS", "Authority", "Outcome", "Record", "invalid_client", "json_response", "refusal"]
