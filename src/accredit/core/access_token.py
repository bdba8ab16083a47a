"""Validate JWT access tokens (RFC 9068, section 4; RFC 8725)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NoReturn

from accredit.core.jose import ALGORITHMS, parse_jws, verify_jws
from accredit.core.jwks import KeySet
from accredit.core.strict import StrictError, parse_json_object, parse_scope_member
from accredit.errors import ConfigurationError, InvalidTokenError

#: Beyond this (seconds), a leeway must be asked for by name: it keeps expired tokens alive.
MAX_LEEWAY: Final = 300.0
_MAX_AUDIENCES: Final = 100
_LAST_SECOND: Final = 253402300799  # 9999-12-31T23:59:59Z
_MAX_PAYLOAD: Final = 16 * 1024


def _deny(summary: str, reason: str) -> NoReturn:
    message = f"{summary}."
    raise InvalidTokenError(message, reason=reason)


def _misused(key: str, summary: str, advice: str) -> NoReturn:
    message = f"{summary}."
    raise ConfigurationError(message, advice=advice, key=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTokenPolicy:
    """What an API demands of the tokens it accepts. There is no policy without issuer or audience.

    Attributes:
        issuer: the only ``iss`` accepted, compared to the byte.
        audience: the names of this API; a token must carry at least one of them in ``aud``.
        algorithms: the signature algorithms accepted.
        leeway: seconds of clock difference allowed for ``exp``, ``nbf`` and ``iat``.
        max_token_age: longest ``exp - iat`` in seconds, or None for no limit.
        accept_typ_jwt: also accept ``typ`` ``JWT`` or none, for servers that predate RFC 9068. Such a server's ID
            tokens may then pass for access tokens if they carry this audience.
        allow_long_leeway: allow a ``leeway`` above 300 seconds.

    """

    issuer: str
    audience: tuple[str, ...]
    algorithms: tuple[str, ...] = ("ES256", "RS256", "PS256", "EdDSA", "Ed25519")
    leeway: float = 60.0
    max_token_age: float | None = None
    accept_typ_jwt: bool = False
    allow_long_leeway: bool = False

    def __post_init__(self) -> None:
        """Refuse a policy that would accept tokens meant for others (RFC 8725, sections 3.8 and 3.9).

        Raises:
            ConfigurationError: naming the argument at fault.

        """
        if not isinstance(self.issuer, str) or not self.issuer:
            _misused("issuer", "an issuer is required", "Give the exact 'iss' of your authorization server.")
        if (
            isinstance(self.audience, str)
            or not self.audience
            or not all(isinstance(a, str) and a for a in self.audience)
        ):
            _misused("audience", "a tuple of at least one audience is required", "Give the names of this API.")
        if not self.algorithms or not set(self.algorithms) <= ALGORITHMS:
            _misused("algorithms", "only known asymmetric algorithms can be accepted", "Use ES256, RS256, ...")
        if not self.leeway >= 0 or (self.leeway > MAX_LEEWAY and not self.allow_long_leeway):
            _misused("leeway", "it must be from 0 to 300 seconds", "Longer needs allow_long_leeway=True.")
        if self.max_token_age is not None and not self.max_token_age > 0:
            _misused("max_token_age", "it must be positive", "Give seconds, or None for no limit.")


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """An access token that passed every check.

    Attributes:
        subject: ``sub``.
        client_id: ``client_id``.
        token_id: ``jti``.
        scope: the granted scopes, in order, without duplicates; empty when the token has none.
        audience: every ``aud``.
        issued_at: ``iat``, seconds since the epoch.
        expires_at: ``exp``, seconds since the epoch.
        claims: all claims, read-only.

    """

    subject: str
    client_id: str
    token_id: str
    scope: tuple[str, ...]
    audience: tuple[str, ...]
    issued_at: float
    expires_at: float
    claims: Mapping[str, object] = field(repr=False)

    def has_scope(self, *needed: str) -> bool:
        """Tell whether every one of the scopes was granted."""
        return set(needed) <= set(self.scope)


def verify_access_token(token: str, keys: KeySet, policy: AccessTokenPolicy, *, now: float) -> VerifiedToken:
    """Verify the signature and every claim of a JWT access token.

    Args:
        token: as presented by the caller, without the scheme.
        keys: the keys of ``policy.issuer``, and of nobody else (RFC 8725, section 3.8).
        policy: what to demand.
        now: seconds since the epoch.

    Raises:
        InvalidTokenError: with its reason. The reason ``unknown_key`` is worth a look at a newer JWKS.

    """
    jws = parse_jws(token, algorithms=policy.algorithms)
    candidates = keys.select(algorithm=jws.algorithm, kid=jws.kid)
    if not candidates:
        _deny("the key that signed the token is not known", "unknown_key")
    payload = verify_jws(jws, candidates)
    claims: dict[str, object] | None
    try:
        claims = parse_json_object(payload, max_bytes=_MAX_PAYLOAD)
    except StrictError:
        claims = None
    if claims is None:
        _deny("the claims of the token are not a strict JSON object", "malformed")
    return validate_access_token(jws.header, claims, policy, now=now)


def validate_access_token(
    header: Mapping[str, object], claims: Mapping[str, object], policy: AccessTokenPolicy, *, now: float
) -> VerifiedToken:
    """Validate the header and claims of a token whose signature was verified (RFC 9068, section 4).

    A token is valid while ``now < exp + leeway``; ``nbf`` and ``iat`` may lie at most ``leeway`` ahead.

    Raises:
        InvalidTokenError: reason ``type``, ``issuer``, ``audience``, ``expired``, ``not_yet_valid``, ``too_old``,
            ``scope`` or ``malformed``.

    """
    _check_type(header, policy)
    if claims.get("iss") != policy.issuer:
        _deny("the token is of another issuer", "issuer")
    audience = _audience(claims.get("aud"))
    if not set(audience) & set(policy.audience):
        _deny("the token is not for this API", "audience")
    expires_at, issued_at = _time(claims, "exp"), _time(claims, "iat")
    if not now < expires_at + policy.leeway:
        _deny("the token has expired", "expired")
    not_before = _time(claims, "nbf") if "nbf" in claims else issued_at
    if max(not_before, issued_at) > now + policy.leeway:
        _deny("the token is not valid yet", "not_yet_valid")
    if policy.max_token_age is not None and expires_at - issued_at > policy.max_token_age:
        _deny("the token lives longer than this API accepts", "too_old")
    return VerifiedToken(
        subject=_text(claims, "sub"),
        client_id=_text(claims, "client_id"),
        token_id=_text(claims, "jti"),
        scope=_scope(claims),
        audience=audience,
        issued_at=issued_at,
        expires_at=expires_at,
        claims=MappingProxyType(dict(claims)),
    )


def _check_type(header: Mapping[str, object], policy: AccessTokenPolicy) -> None:
    kind = header.get("typ")
    name = kind.lower().removeprefix("application/") if isinstance(kind, str) and kind.isascii() else None
    plain = policy.accept_typ_jwt and (name == "jwt" or "typ" not in header)
    # A nested JWT (RFC 7519, section 5.2) would have to be verified a second time; none is accepted here.
    if not (name == "at+jwt" or plain) or "cty" in header:
        _deny("the token is not a JWT access token (typ at+jwt)", "type")


def _audience(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or len(value) > _MAX_AUDIENCES:
        _deny("the audience of the token is missing or malformed", "audience")
    names = tuple(name for name in value if isinstance(name, str))
    if len(names) != len(value):
        _deny("the audience of the token is missing or malformed", "audience")
    return names


def _time(claims: Mapping[str, object], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST_SECOND:
        _deny(f"the claim {name} of the token is missing or not a time", "malformed")
    return value


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        _deny(f"the claim {name} of the token is missing or not a string", "malformed")
    return value


def _scope(claims: Mapping[str, object]) -> tuple[str, ...]:
    value = claims.get("scope")
    if value is None:
        return ()
    try:
        return parse_scope_member(value)
    except StrictError:
        pass
    _deny("the scope of the token is malformed", "scope")
