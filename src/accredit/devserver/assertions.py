"""Client authentication by a signed assertion: ``private_key_jwt`` (RFC 7523, OpenID Connect Core, section 9). Pure.

Every fault is ``invalid_client``, and an assertion serves once. The audience is the issuer and nothing else, so that an
assertion for one server is worth nothing at another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from accredit.core.jose import ALGORITHMS, import_public_jwk, parse_jws, verify_jws
from accredit.core.jwks import KeySet
from accredit.core.strict import StrictError, b64url_decode, parse_json_object
from accredit.devserver.config import DevClient, DevConfig
from accredit.devserver.forms import Form, Problem, invalid_client, one
from accredit.errors import InvalidTokenError

JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
#: The longest life of an assertion, and the difference of clocks that is allowed, in seconds.
MAX_LIFE: Final = 3600.0
LEEWAY: Final = 10.0
_MAX_CLAIMS: Final = 8 * 1024
_MAX_JTI: Final = 256
_TYPES: Final = frozenset({None, "jwt", "client-authentication+jwt"})

Use = Callable[[str, str, float], bool]


def check_assertion(form: Form, config: DevConfig, *, now: float, use: Use) -> DevClient | Problem:
    """Authenticate the client by its assertion.

    Args:
        form: the parameters of the request.
        config: the clients and the issuer.
        now: seconds since the epoch.
        use: uses up an identifier: (namespace, identifier, until when it must be remembered); False when it was used.

    """
    assertion = one(form, "client_assertion")
    if one(form, "client_assertion_type") != JWT_BEARER or assertion is None:
        return invalid_client("client_assertion_type and client_assertion of RFC 7523 are needed together")
    client = config.client(_issuer_of(assertion) or "")
    # One that may not use this method has no keys.
    if client is None or not client.jwks:
        return invalid_client("the assertion is of no client that may use private_key_jwt")
    if one(form, "client_id") not in {None, client.client_id}:
        return invalid_client("client_id differs from the subject of the assertion")
    claims = _verified_claims(assertion, client)
    if claims is None:
        return invalid_client(
            "the signature of the assertion is wrong, or its key or algorithm is not that of the client"
        )
    fault = _fault_of(claims, client, _audiences(config), now)
    if fault is not None:
        return invalid_client(fault)
    # Last of all: an assertion that is refused for something else is not used up by it.
    jti, expires_at = str(claims["jti"]), claims["exp"]
    until = float(expires_at) if isinstance(expires_at, int | float) else now
    if not use(f"client_assertion:{client.client_id}", jti, until + LEEWAY):
        return invalid_client("the assertion was used before")
    return client


def _audiences(config: DevConfig) -> tuple[str, ...]:
    return (config.issuer, f"{config.issuer}/token") if config.accept_endpoint_audience else (config.issuer,)


def _issuer_of(assertion: str) -> str | None:
    """Return who the assertion says it is from; nothing of it has been verified."""
    try:
        claims = parse_json_object(b64url_decode(assertion.split(".")[1]), max_bytes=_MAX_CLAIMS)
    except (IndexError, StrictError):
        return None
    issuer = claims.get("iss")
    return issuer if isinstance(issuer, str) else None


def _verified_claims(assertion: str, client: DevClient) -> Mapping[str, object] | None:
    keys = KeySet(tuple(import_public_jwk(key) for key in client.jwks))
    try:
        jws = parse_jws(assertion, algorithms=ALGORITHMS)
        kind = jws.header.get("typ")
        if kind is not None and (not isinstance(kind, str) or kind.lower() not in _TYPES):
            return None
        payload = verify_jws(jws, keys.select(algorithm=jws.algorithm, kid=jws.kid))
        return parse_json_object(payload, max_bytes=_MAX_CLAIMS)
    except (InvalidTokenError, StrictError):
        return None


def _fault_of(claims: Mapping[str, object], client: DevClient, audiences: tuple[str, ...], now: float) -> str | None:
    if claims.get("iss") != client.client_id or claims.get("sub") != client.client_id:
        return "iss and sub of the assertion are not both the client_id"
    if claims.get("aud") not in audiences:
        return "aud of the assertion is not the issuer of this server, as a text"
    expires_at = claims.get("exp")
    if not _is_time(expires_at):
        return "exp of the assertion is missing or not a time"
    for name, earliest, latest in (
        ("exp", now - LEEWAY, now + MAX_LIFE + LEEWAY),
        ("iat", now - MAX_LIFE - LEEWAY, now + LEEWAY),
        ("nbf", 0.0, now + LEEWAY),
    ):
        value = claims.get(name, earliest if name != "exp" else None)
        # "On or after" exp it is not accepted (RFC 7519, section 4.1.4): that is also when its jti may be forgotten.
        over = name == "exp" and isinstance(value, int | float) and value + LEEWAY <= now
        if over or not isinstance(value, int | float) or not _is_time(value) or not earliest <= value <= latest:
            return f"{name} of the assertion is out of bounds: it has expired, lives too long, or is not valid yet"
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= _MAX_JTI:
        return "jti of the assertion is missing or not a short text"
    return None


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12
