"""A verifier in a world that is given: a clock that is steered, an issuer that signs and follows a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from accredit import ClientSecretBasic
from accredit.core.jose import SigningKey, import_private_pem, sign_jws
from accredit.core.messages import Failure, Request, Response
from accredit.errors import AccreditError, InvalidTokenError
from accredit.runtime.flight import Flight
from accredit.runtime.verification import VerificationEngine
from accredit.verifier import (
    Introspection,
    TokenVerifier,
    TrustedIssuer,
    VerificationEvent,
    VerifiedToken,
)
from tests.bad_inputs.world import Clock
from tests.runtime.support import PATIENCE, eventually, waiters_of

ISSUER = "https://as.example"
API = "https://api.example"
JWKS_URI = f"{ISSUER}/jwks"
INTROSPECTION_ENDPOINT = f"{ISSUER}/introspect"
CLIENT, SECRET = "the-api", "canary-secret-5e1f"
MISSING = object()
JSON = ("content-type", "application/json")
Answer = Response | Failure
Outcome = VerifiedToken | BaseException


@cache
def key_of(kid: str | None, algorithm: str = "ES256", number: int = 0) -> SigningKey:
    """Return a private key, the same for the same arguments."""
    private: Any = {
        "ES": lambda: ec.generate_private_key(
            {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[algorithm]
        ),
        "RS": lambda: rsa.generate_private_key(65537, 2048),
        "PS": lambda: rsa.generate_private_key(65537, 2048),
        "Ed": ed25519.Ed25519PrivateKey.generate,
    }[algorithm[:2]]()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = import_private_pem(pem, algorithm=algorithm, kid=kid or "dropped")
    if kid is not None:
        return made
    public = {name: value for name, value in made.public_jwk.items() if name != "kid"}
    return SigningKey(made.algorithm, None, public, made.thumbprint, _key=made._key)


def claims_of(now: float, /, **changes: object) -> dict[str, object]:
    """Return the claims of a good token of RFC 9068, changed; ``MISSING`` takes one away."""
    claims: dict[str, object] = {
        "iss": ISSUER,
        "aud": API,
        "sub": "client:orders",
        "client_id": "orders",
        "jti": "1",
        "iat": now - 10,
        "exp": now + 3600,
        "scope": "orders:read orders:write",
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not MISSING}


def sign(claims: Mapping[str, object], key: SigningKey, **header: object) -> str:
    """Return a signed token; ``typ`` is that of RFC 9068 unless it is given."""
    members = {name: value for name, value in {"typ": "at+jwt", **header}.items() if value is not MISSING}
    return sign_jws(json.dumps(claims).encode(), key, header=members)


def document(members: object, status: int = 200, *headers: tuple[str, str]) -> Response:
    """Return a JSON answer."""
    return Response(status, (JSON, *headers), json.dumps(members).encode())


class Server:
    """An authorization server as a transport: publishes keys, answers about tokens, counts, can be held or down."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.keys: list[SigningKey] = [key_of("one")]
        self.jwks: Answer | None = None
        self.jwks_headers: tuple[tuple[str, str], ...] = ()
        self.metadata: Answer | None = None
        self.about: Callable[[str], Answer] | Answer = document({"active": False})
        self.down: Answer | None = None
        self.requests: list[Request] = []
        self.open = threading.Event()
        self.open.set()
        self.latency = 0.0

    def send(self, request: Request, *, timeout: float) -> Response | Failure:
        self.requests.append(request)
        assert self.open.wait(PATIENCE)
        if self.latency:
            self.clock.advance(min(self.latency, timeout))
            if self.latency > timeout:
                return Failure("deadline", "there was no answer in time")
        if self.down is not None:
            return self.down
        path = request.url.partition("?")[0]
        if request.method == "POST":
            token = parse_qs(request.body.decode())["token"][0]
            return self.about(token) if callable(self.about) else self.about
        if path.endswith("/jwks"):
            return self.jwks if self.jwks is not None else self.published()
        return self.metadata if self.metadata is not None else self.described()

    def published(self) -> Response:
        """Return the JWKS document."""
        return document({"keys": [dict(key.public_jwk) for key in self.keys]}, 200, *self.jwks_headers)

    def described(self, **changes: object) -> Response:
        """Return the metadata document."""
        members = {
            "issuer": ISSUER,
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": JWKS_URI,
            "introspection_endpoint": INTROSPECTION_ENDPOINT,
            **changes,
        }
        return document({name: value for name, value in members.items() if value is not MISSING})

    def count(self, end: str) -> int:
        """Return how many requests went to URLs that end so."""
        return sum(request.url.endswith(end) for request in self.requests)

    def after_fork(self) -> None:
        """Have nothing open."""

    def close(self) -> None:
        """Have nothing open."""


class World:
    """A verifier, its server, its clock, and what its hooks were told."""

    def __init__(
        self, *more: TrustedIssuer, introspection: Introspection | None = None, inline: bool = False, **settings: Any
    ) -> None:
        self.clock = Clock()
        self.clock.inline = inline
        self.server = Server(self.clock)
        self.events: list[VerificationEvent] = []
        entries = settings.pop("max_entries", 10_000)
        usual: dict[str, Any] = {"jwks_uri": JWKS_URI, "introspection": introspection}
        if {"jwks", "metadata_url", "jwks_uri"} & set(settings) or introspection is not None:
            del usual["jwks_uri"]
        trusted = TrustedIssuer(ISSUER, **{"audience": API, **usual, **settings})
        self.verifier = TokenVerifier(
            [trusted, *more],
            transport=self.server,
            clock=self.clock,
            on_event=self.events.append,
            max_entries=entries,
            renewal="inline" if inline else "thread",
        )

    @property
    def engine(self) -> VerificationEngine:
        return self.verifier._engine

    def token(
        self, key: SigningKey | None = None, /, *, header: Mapping[str, object] | None = None, **changes: Any
    ) -> str:
        """Return a token that is good now, but for the changes of its claims and header."""
        return sign(claims_of(self.clock.wall(), **changes), key or self.server.keys[0], **(header or {}))

    def verdict(self, token: str) -> Outcome:
        """Return the verified token, or the error as it was caught."""
        try:
            return self.verifier.verify(token)
        except BaseException as error:
            return error

    def accepts(self, token: str) -> bool:
        """Tell whether a token is accepted."""
        return isinstance(self.verdict(token), VerifiedToken)

    def reason(self, token: str) -> str:
        """Return why a token is refused; it must be."""
        outcome = self.verdict(token)
        assert isinstance(outcome, InvalidTokenError), repr(outcome)
        return outcome.reason

    def error(self, token: str) -> AccreditError:
        """Return the error of a caller when it is nobody's fault who presented a token."""
        outcome = self.verdict(token)
        assert isinstance(outcome, AccreditError), repr(outcome)
        assert not isinstance(outcome, InvalidTokenError), outcome.reason
        return outcome

    def fetches(self) -> int:
        """Return how often keys were fetched."""
        return self.server.count("/jwks")

    def asked(self) -> int:
        """Return how often the server was asked about a token."""
        return self.server.count("/introspect")

    def flights(self) -> list[Flight[Any]]:
        """Return the flights that are up."""
        keys = [each.flight for each in self.engine._issuers.values() if each.flight is not None]
        return [*keys, *self.engine._questions.asked.values()]

    def settle(self) -> None:
        """Wait until no flight is up, and no worker is at work."""
        eventually(lambda: not self.flights() and not self.engine._desk._workers._busy, "standstill")

    def waiting(self) -> int:
        """Return how many threads and tasks wait for any flight."""
        return sum(map(waiters_of, self.flights()))


def asking(**settings: Any) -> Introspection:
    """Return settings of introspection, with the canary for a secret."""
    usual: dict[str, Any] = {"client_id": CLIENT, "client_auth": ClientSecretBasic(SECRET)}
    return Introspection(**{**usual, "endpoint": INTROSPECTION_ENDPOINT, **settings})


def active(**members: object) -> Response:
    """Return the answer about an active token."""
    return document({"active": True, **members})
