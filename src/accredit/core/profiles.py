"""Profiles of access tokens: what RFC 9068 demands, and what servers in use put into their tokens instead.

A profile is data. Where the tokens of a server lack a mark that RFC 9068 demands (above all ``typ: at+jwt``, which
tells an access token from an ID token), the profile names the checks that take its place; ``instead`` says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

#: Claims that OpenID Connect gives to ID tokens alone (Core 1.0, sections 2 and 3.3.2.11).
ID_TOKEN_CLAIMS: Final = frozenset({"nonce", "at_hash", "c_hash", "s_hash"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenProfile:
    """What access tokens of one kind of server look like.

    Attributes:
        name: the name to configure.
        instead: which checks make up for what the tokens lack against RFC 9068.
        types: values of the header ``typ`` that are accepted, in lower case, without ``application/``.
        untyped: whether ``typ`` may be absent.
        client: claims that name the client; those that are there must agree, and one must be there.
        required: claims that must be texts that are not empty.
        token_id: the claim that identifies the token.
        scope: claims that list scopes; the first one that is there counts, and the others do not.
        fixed: claims that must be there with one of these values.
        foreign: claims that an access token of this server never has, and an ID token may have.
        prefixes: claims that must be texts that start so.
        audience_required: whether a token without ``aud`` is refused whatever else it says.
        audience_of_client: whether the client itself may be the audience, as it is in an ID token.
        tenant: the claim whose value must be one of the segments of the issuer's path, or None.
        permission_required: whether a token without any scope needs a list of allowed clients.

    """

    name: str
    instead: str
    types: frozenset[str] = frozenset({"at+jwt"})
    untyped: bool = False
    client: tuple[str, ...] = ("client_id",)
    required: tuple[str, ...] = ("sub", "client_id", "jti")
    token_id: str = "jti"  # noqa: S105 - the name of a claim
    scope: tuple[str, ...] = ("scope",)
    fixed: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    foreign: frozenset[str] = ID_TOKEN_CLAIMS
    prefixes: Mapping[str, str] = field(default_factory=dict)
    audience_required: bool = True
    audience_of_client: bool = True
    tenant: str | None = None
    permission_required: bool = False


_ALL: Final = (
    TokenProfile(
        name="rfc9068",
        instead="Nothing is missing: typ at+jwt, iss, aud, exp, iat, sub, client_id and jti are all demanded.",
        foreign=frozenset(),
    ),
    TokenProfile(
        name="auth0",
        instead=(
            "For typ at+jwt: typ JWT, azp (or client_id) must be there and must not be an audience, and no nonce, "
            "at_hash, c_hash or sid, which ID tokens have. For client_id: azp. jti may be missing."
        ),
        types=frozenset({"at+jwt", "jwt"}),
        client=("client_id", "azp"),
        required=("sub",),
        foreign=ID_TOKEN_CLAIMS | {"sid"},
        audience_of_client=False,
    ),
    TokenProfile(
        name="okta",
        instead=(
            "For typ at+jwt: no typ, ver 1, a jti that starts with AT. (ID tokens have ID.), cid must be there and "
            "must not be an audience, and no nonce, at_hash or c_hash. For client_id: cid. For scope: scp. Tokens of "
            "the org authorization server, which only Okta may read, have a typ of their own and are refused."
        ),
        untyped=True,
        client=("cid",),
        required=("sub", "jti"),
        scope=("scp",),
        fixed=MappingProxyType({"ver": (1,)}),
        prefixes=MappingProxyType({"jti": "AT."}),
        audience_of_client=False,
    ),
    TokenProfile(
        name="entra",
        instead=(
            "For typ at+jwt: typ JWT, ver 1.0 or 2.0, azp (or appid) must be there, which ID tokens lack, and no "
            "nonce, at_hash or c_hash; tid must be the tenant of the issuer. A token needs scp or roles, or its client "
            "must be on the list of allowed clients: any application of the tenant can have a token without roles. "
            "For client_id: azp or appid. For jti: uti. For scope: scp, and roles when there is no scp."
        ),
        types=frozenset({"jwt"}),
        client=("azp", "appid"),
        required=("sub", "tid"),
        token_id="uti",  # noqa: S106 - the name of a claim
        scope=("scp", "roles"),
        fixed=MappingProxyType({"ver": ("1.0", "2.0")}),
        tenant="tid",
        permission_required=True,
    ),
    TokenProfile(
        name="keycloak",
        instead=(
            "For typ at+jwt: the claim typ must be Bearer (ID tokens have ID, refresh tokens Refresh), azp must be "
            "there, and no at_hash or c_hash. For client_id: azp. aud stays required: give the client an audience "
            "mapper. sub may be missing (lightweight tokens)."
        ),
        types=frozenset({"at+jwt", "jwt"}),
        client=("azp", "client_id"),
        required=("azp", "jti"),
        fixed=MappingProxyType({"typ": ("Bearer",)}),
        # Keycloak before 24 repeats the nonce of the login in the access token.
        foreign=ID_TOKEN_CLAIMS - {"nonce"},
    ),
    TokenProfile(
        name="cognito",
        instead=(
            "For typ at+jwt: no typ, and token_use must be access. For aud, which only tokens bound to a resource "
            "have: a list of allowed clients is demanded, and client_id must be on it; an aud that is there must be "
            "ours."
        ),
        types=frozenset(),
        untyped=True,
        required=("sub", "client_id"),
        fixed=MappingProxyType({"token_use": ("access",)}),
        audience_required=False,
    ),
)

#: Every profile under its name.
PROFILES: Final[Mapping[str, TokenProfile]] = MappingProxyType({profile.name: profile for profile in _ALL})
