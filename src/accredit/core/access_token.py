"""Validate JWT access tokens (RFC 9068, section 4; RFC 8725)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple, NoReturn

from accredit.core.jose import (
    ALGORITHMS,
    CompactJws,
    VerificationKey,
    find_key,
    parse_jws,
    unverified_payload,
)
from accredit.core.jwks import KeySet
from accredit.core.profiles import ID_TOKEN_CLAIMS, PROFILES, TokenProfile
from accredit.core.strict import StrictError, check_scope_token, parse_json_object, parse_scope_member
from accredit.errors import ConfigurationError, InvalidTokenError

#: Beyond this (seconds), a leeway must be asked for by name: it keeps expired tokens alive.
MAX_LEEWAY: Final = 300.0
DEFAULT_ALGORITHMS: Final = ("ES256", "RS256", "PS256", "EdDSA", "Ed25519")
_MAX_AUDIENCES: Final = 100
_MAX_SCOPES: Final = 1000
_MAX_KEPT_SCOPE: Final = 512
#: The last time that counts as one, in seconds since the epoch: 9999-12-31T23:59:59Z.
LAST_SECOND: Final = 253402300799
_MAX_PAYLOAD: Final = 16 * 1024
_MAX_DEPTH: Final = 16


def _deny(summary: str, reason: str) -> NoReturn:
    message = f"{summary}."
    raise InvalidTokenError(message, reason=reason)


def _misused(key: str, summary: str, advice: str) -> NoReturn:
    message = f"{summary}."
    raise ConfigurationError(message, advice=advice, key=key)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_texts(values: object) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, str) and value for value in values)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTokenPolicy:
    """What an API demands of the tokens it accepts. There is no policy without issuer or audience.

    Attributes:
        issuer: the only ``iss`` accepted, compared to the byte.
        audience: the names of this API; a token must carry at least one of them in ``aud``.
        algorithms: the signature algorithms accepted.
        leeway: seconds of clock difference allowed for ``exp``, ``nbf`` and ``iat``.
        max_token_age: longest ``exp - iat`` in seconds, or None for no limit.
        accept_typ_jwt: also accept ``typ`` ``JWT`` or none, for servers that predate RFC 9068. All other claims of
            RFC 9068 stay required, ``client_id`` among them, and what only ID tokens carry is refused.
        allow_long_leeway: allow a ``leeway`` above 300 seconds.
        profile: a name from :data:`accredit.core.profiles.PROFILES`.
        clients: the only clients accepted, or None for any.
        accept_bound_tokens: accept tokens bound to a key (``cnf``, RFC 7800), whose proof the caller then checks.

    """

    issuer: str
    audience: tuple[str, ...]
    algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS
    leeway: float = 60.0
    max_token_age: float | None = None
    accept_typ_jwt: bool = False
    allow_long_leeway: bool = False
    profile: str = "rfc9068"
    clients: tuple[str, ...] | None = None
    accept_bound_tokens: bool = False

    def __post_init__(self) -> None:
        """Refuse a policy that would accept tokens meant for others (RFC 8725, sections 3.8 and 3.9).

        Raises:
            ConfigurationError: naming the argument at fault.

        """
        profile = PROFILES.get(self.profile) if isinstance(self.profile, str) else None
        if profile is None:
            _misused("profile", "there is no such profile", f"Use one of {', '.join(PROFILES)}.")
        if not isinstance(self.issuer, str) or not self.issuer:
            _misused("issuer", "an issuer is required", "Give the exact 'iss' of your authorization server.")
        if self.clients is not None and (not self.clients or not _are_texts(self.clients)):
            _misused("clients", "it must be a tuple of client ids, or None", "Leave it out to accept any client.")
        if not _are_texts(self.audience) or (not self.audience and (profile.audience_required or self.clients is None)):
            _misused(
                "audience",
                "a tuple of at least one audience is required",
                "Give the names of this API, or with the profile 'cognito' the clients that may call it.",
            )
        if not profile.audience_required and self.clients is None:
            _misused(
                "clients",
                f"the profile {profile.name} accepts tokens without an audience, from listed clients only",
                "Give the client ids that may call this API: without them any client's token would do.",
            )
        if not _are_texts(self.algorithms) or not self.algorithms or not set(self.algorithms) <= ALGORITHMS:
            _misused("algorithms", "only known asymmetric algorithms can be accepted", "Use ES256, RS256, ...")
        if not _is_number(self.leeway) or not (
            0 <= self.leeway <= MAX_LEEWAY or (self.allow_long_leeway and self.leeway > 0)
        ):
            _misused("leeway", "it must be from 0 to 300 seconds", "Longer needs allow_long_leeway=True.")
        if self.max_token_age is not None and not (
            _is_number(self.max_token_age) and math.isfinite(self.max_token_age) and self.max_token_age > 0
        ):
            _misused("max_token_age", "it must be positive", "Give seconds, or None for no limit.")
        if self.accept_typ_jwt and self.profile != "rfc9068":
            _misused("accept_typ_jwt", "the profile says which types are accepted", "Leave it out.")


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """An access token that passed every check.

    Attributes:
        subject: ``sub``; None where the profile, or the introspection response, does without.
        client_id: ``client_id``, or what the profile has in its place; None only where introspection does not say it.
        token_id: ``jti``, or what the profile has in its place; None where there is none.
        scope: the granted scopes, in order, without duplicates; empty when the token has none.
        audience: every ``aud``.
        issued_at: ``iat``, seconds since the epoch; None where introspection does not say it.
        expires_at: ``exp``, seconds since the epoch; None where introspection does not say it.
        claims: all claims, read-only at every depth, as one token is handed to many requests: a list is a tuple, and an
            object a mapping. ``json.dumps(token.claims, default=dict)`` writes them.
        issuer: the issuer that was trusted with it, to the byte as it is configured.

    """

    subject: str | None
    client_id: str | None
    token_id: str | None
    scope: tuple[str, ...]
    audience: tuple[str, ...]
    issued_at: float | None
    expires_at: float | None
    claims: Mapping[str, object] = field(repr=False, hash=False)
    issuer: str

    def has_scope(self, *needed: str) -> bool:
        """Tell whether every one of the scopes was granted."""
        return all(scope in self.scope for scope in needed)


class PresentedToken:
    """A JWT whose form is right and whose signature has not been verified. It shows what chooses the keys, no more.

    Attributes:
        issuer: its ``iss``, from an unknown party; None when it is missing or no text.
        algorithm: its ``alg``.
        kid: its ``kid``, or None.

    """

    __slots__ = ("_claims", "_jws", "algorithm", "issuer", "kid")

    def __init__(self, jws: CompactJws, claims: Mapping[str, object]) -> None:
        """Keep the parts. One is made for every token, so it is no dataclass: that would take twice as long."""
        issuer = claims.get("iss")
        self.issuer: str | None = issuer if isinstance(issuer, str) else None
        self.algorithm: str = jws.algorithm
        self.kid: str | None = jws.kid
        self._jws = jws
        self._claims = claims


class Verification(NamedTuple):
    """A verified token, and the key that verified it."""

    token: VerifiedToken
    key: VerificationKey


def read_access_token(token: str, *, algorithms: Collection[str]) -> PresentedToken:
    """Check the form of a JWT and read what says which keys to use; nothing of it can be believed yet.

    Args:
        token: as presented by the caller, without the scheme. At most 16 KiB.
        algorithms: the algorithms that are accepted from any issuer.

    Raises:
        InvalidTokenError: reason ``too_large``, ``malformed``, ``algorithm`` or ``critical``.

    """
    jws = parse_jws(token, algorithms=algorithms)
    claims: dict[str, object] | None
    try:
        claims = parse_json_object(unverified_payload(jws), max_bytes=_MAX_PAYLOAD, max_depth=_MAX_DEPTH)
    except StrictError:
        claims = None
    if claims is None:
        _deny("the claims of the token are not a strict JSON object", "malformed")
    return PresentedToken(jws, MappingProxyType(claims))


def verify_presented(presented: PresentedToken, keys: KeySet, policy: AccessTokenPolicy, *, now: float) -> Verification:
    """Verify the signature and every claim of a token that was read.

    Args:
        presented: the token.
        keys: the keys of ``policy.issuer``, and of nobody else (RFC 8725, section 3.8).
        policy: what to demand.
        now: seconds since the epoch.

    Raises:
        InvalidTokenError: with its reason. The reason ``unknown_key`` is worth a look at a newer JWKS, and so is
            ``signature`` when the token names no key.

    """
    if presented.issuer != policy.issuer:
        _deny("the token is of another issuer", "issuer")
    if presented.algorithm not in policy.algorithms:
        _deny("the algorithm of the token is not accepted", "algorithm")
    candidates = keys.select(algorithm=presented.algorithm, kid=presented.kid)
    if not candidates:
        _deny("the key that signed the token is not known", "unknown_key")
    key = find_key(presented._jws, candidates)  # noqa: SLF001 - private so that nobody else hands out the claims
    token = validate_access_token(presented._jws.header, presented._claims, policy, now=now)  # noqa: SLF001 - as above
    return Verification(token, key)


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
    presented = read_access_token(token, algorithms=policy.algorithms)
    return verify_presented(presented, keys, policy, now=now).token


def validate_access_token(
    header: Mapping[str, object], claims: Mapping[str, object], policy: AccessTokenPolicy, *, now: float
) -> VerifiedToken:
    """Validate the header and claims of a token whose signature was verified (RFC 9068, section 4).

    A token is valid while ``now < exp + leeway``; ``nbf`` and ``iat`` may lie at most ``leeway`` ahead.

    Raises:
        InvalidTokenError: reason ``type``, ``issuer``, ``audience``, ``expired``, ``not_yet_valid``, ``too_old``,
            ``client``, ``scope``, ``tenant``, ``bound`` or ``malformed``.

    """
    profile = PROFILES[policy.profile]
    _check_type(header, policy, profile)
    if claims.get("iss") != policy.issuer:
        _deny("the token is of another issuer", "issuer")
    audience = check_audience(claims.get("aud"), policy, required=profile.audience_required)
    expires_at, issued_at = check_times(claims, policy, now=now, required=True)
    for name in profile.required:
        _text(claims, name)
    check_kind(claims, policy, profile)
    client_id = check_client(claims, policy, profile)
    if client_id is None:
        _deny(f"the claim {profile.client[0]} of the token is missing", "malformed")
    if client_id in audience and not profile.audience_of_client:
        _deny("the token is for its own client, as an ID token is", "type")
    scope = read_scope(claims, profile)
    if profile.permission_required and not scope and policy.clients is None:
        _deny("the token grants nothing, and no list of clients allows its client", "scope")
    return VerifiedToken(
        subject=optional_text(claims, "sub"),
        client_id=client_id,
        token_id=optional_text(claims, profile.token_id),
        scope=scope,
        audience=audience,
        issued_at=issued_at,
        expires_at=expires_at,
        claims=read_only(claims),
        issuer=policy.issuer,
    )


def read_only(claims: Mapping[str, object]) -> Mapping[str, object]:
    """Return the claims as they are handed out: nothing in them can be changed."""
    nested = [name for name, value in claims.items() if type(value) in _CONTAINERS]
    if nested:
        return MappingProxyType({**claims, **{name: _frozen(claims[name]) for name in nested}})
    return claims if isinstance(claims, MappingProxyType) else MappingProxyType(dict(claims))


_CONTAINERS: Final = frozenset({list, dict})


def _frozen(value: object) -> object:
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return MappingProxyType({name: _frozen(each) for name, each in value.items()})
    return value


def _check_type(header: Mapping[str, object], policy: AccessTokenPolicy, profile: TokenProfile) -> None:
    kind = header.get("typ")
    if kind == "at+jwt" and "cty" not in header and "at+jwt" in profile.types:  # the usual case, first
        return
    name = kind.lower().removeprefix("application/") if isinstance(kind, str) else None
    plain = (policy.accept_typ_jwt and name == "jwt") or (
        "typ" not in header and (policy.accept_typ_jwt or profile.untyped)
    )
    # A nested JWT (RFC 7519, section 5.2) would have to be verified a second time; none is accepted here.
    if not (name in profile.types or plain) or "cty" in header:
        _deny("the token is not a JWT access token (typ at+jwt)", "type")


def check_kind(
    claims: Mapping[str, object], policy: AccessTokenPolicy, profile: TokenProfile, *, partial: bool = False
) -> None:
    """Refuse what is no access token of this server, or one that its presenter has to prove something for.

    Args:
        claims: the claims.
        policy: what to demand.
        profile: the profile of the policy.
        partial: whether claims may be missing, as in an introspection response.

    Raises:
        InvalidTokenError: reason ``type``, ``tenant`` or ``bound``.

    """
    for name, values in profile.fixed.items():
        value = claims.get(name)
        if not (partial and name not in claims) and not any(
            type(value) is type(each) and value == each for each in values
        ):
            _deny(f"the claim {name} says that this is no access token", "type")
    for name, start in profile.prefixes.items():
        value = claims.get(name)
        if not (partial and name not in claims) and not (isinstance(value, str) and value.startswith(start)):
            _deny(f"the claim {name} says that this is no access token", "type")
    foreign = ID_TOKEN_CLAIMS if policy.accept_typ_jwt else profile.foreign
    if foreign and not foreign.isdisjoint(claims):
        _deny("the token has claims that only an ID token has", "type")
    if profile.tenant is not None and not (partial and profile.tenant not in claims):
        tenant = claims.get(profile.tenant)
        if not isinstance(tenant, str) or tenant not in policy.issuer.split("/")[3:]:
            _deny("the token is of another tenant than its issuer", "tenant")
    if "cnf" in claims and not policy.accept_bound_tokens:
        # Taken as a bearer token it would be worth as much to a thief (RFC 9449, section 7.2).
        _deny("the token is bound to a key, and this API asks for no proof", "bound")


def check_audience(value: object, policy: AccessTokenPolicy, *, required: bool) -> tuple[str, ...]:
    """Return the audience, one of which must be ours.

    Raises:
        InvalidTokenError: reason ``audience``.

    """
    if isinstance(value, str) and value in policy.audience:  # the usual case, first
        return (value,)
    if value is None and not required:
        return ()
    audience = _audience(value)
    if not any(name in policy.audience for name in audience):
        _deny("the token is not for this API", "audience")
    return audience


def _audience(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or len(value) > _MAX_AUDIENCES or not all(isinstance(name, str) for name in value):
        _deny("the audience of the token is missing or malformed", "audience")
    return tuple(value)


def check_times(
    claims: Mapping[str, object], policy: AccessTokenPolicy, *, now: float, required: bool
) -> tuple[float | None, float | None]:
    """Return ``exp`` and ``iat``, once they and ``nbf`` allow the token to be used now.

    Raises:
        InvalidTokenError: reason ``expired``, ``not_yet_valid``, ``too_old`` or ``malformed``.

    """
    expires_at = _time(claims, "exp") if required or claims.get("exp") is not None else None
    issued_at = _time(claims, "iat") if required or claims.get("iat") is not None else None
    if expires_at is not None and not now < expires_at + policy.leeway:
        _deny("the token has expired", "expired")
    not_before = _time(claims, "nbf") if "nbf" in claims and (required or claims["nbf"] is not None) else 0.0
    if max(not_before, issued_at or 0.0) > now + policy.leeway:
        _deny("the token is not valid yet", "not_yet_valid")
    if policy.max_token_age is not None:
        if expires_at is None or issued_at is None:
            _deny("the token does not say how long it lives", "too_old")
        if expires_at - issued_at > policy.max_token_age:
            _deny("the token lives longer than this API accepts", "too_old")
    return expires_at, issued_at


def check_client(claims: Mapping[str, object], policy: AccessTokenPolicy, profile: TokenProfile) -> str | None:
    """Return the client of a token, which must be on the list if there is one; None when no claim names it.

    Raises:
        InvalidTokenError: reason ``client`` or ``malformed``.

    """
    client_id: str | None = None
    for name in profile.client:
        if name in claims:
            found = _text(claims, name)
            if client_id is not None and found != client_id:
                _deny("the token names two clients", "client")
            client_id = found
    if policy.clients is not None and client_id not in policy.clients:
        _deny("the client of the token may not call this API", "client")
    return client_id


def _time(claims: Mapping[str, object], name: str) -> float:
    value = claims.get(name)
    if type(value) is int and 0 <= value <= LAST_SECOND:  # the usual case, first
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LAST_SECOND:
        _deny(f"the claim {name} of the token is missing or not a time", "malformed")
    return value


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        _deny(f"the claim {name} of the token is missing or not a string", "malformed")
    return value


def optional_text(claims: Mapping[str, object], name: str) -> str | None:
    """Return a claim that must be a text that is not empty if it is there at all.

    Raises:
        InvalidTokenError: reason ``malformed``.

    """
    return None if claims.get(name) is None else _text(claims, name)


def read_scope(claims: Mapping[str, object], profile: TokenProfile) -> tuple[str, ...]:
    """Return the scopes, from a text (RFC 8693, section 4.2) or from a list of scopes, as some servers write it.

    Raises:
        InvalidTokenError: reason ``scope``.

    """
    value = next((claims[name] for name in profile.scope if claims.get(name) is not None), None)
    if value is None:
        return ()
    try:
        if isinstance(value, list) and len(value) <= _MAX_SCOPES:
            return tuple(dict.fromkeys(check_scope_token(_scope_text(each)) for each in value))
        short = isinstance(value, str) and len(value) <= _MAX_KEPT_SCOPE
        return _kept_scope(value) if short else parse_scope_member(value)
    except StrictError:
        pass
    _deny("the scope of the token is malformed", "scope")


# The same few for all tokens of an API; longer ones are parsed each time, so that nobody can fill memory.
_kept_scope = lru_cache(maxsize=256)(parse_scope_member)


def _scope_text(value: object) -> str:
    if not isinstance(value, str):
        raise StrictError("not a string")
    return value
