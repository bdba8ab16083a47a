"""Tokens as the documentation of each vendor shows them: an access token of the client credentials grant, and others.

The values are made up; names, kinds and places of the members are those of the documents that are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from accredit.verifier import TrustedIssuer

TENANT = "a1b2c3d4-0000-1111-2222-333344445555"
CLIENT_GUID = "0a1b2c3d-aaaa-bbbb-cccc-1234567890ab"
API_GUID = "9f8e7d6c-dddd-eeee-ffff-0987654321ba"
NOW = 1_700_000_000


class Shape(NamedTuple):
    """A token of one vendor: the header beside ``alg`` and ``kid``, and the claims."""

    header: Mapping[str, object]
    claims: Mapping[str, object]


class Vendor(NamedTuple):
    """How a vendor is configured, its access tokens by kind, and tokens of it that are no access tokens."""

    trusted: Mapping[str, Any]
    access: Mapping[str, Shape]
    others: Mapping[str, Shape]
    client_id: str
    scope: tuple[str, ...]

    def trust(self, **changes: Any) -> TrustedIssuer:
        return TrustedIssuer(**{**self.trusted, **changes})


_TIMES = {"iat": NOW - 60, "exp": NOW + 3600}

#: "Access Token Profiles" (both), and the ID token of "ID Token Structure".
AUTH0 = Vendor(
    {"issuer": "https://tenant.eu.auth0.com/", "audience": "https://api.example.com/orders", "profile": "auth0"},
    {
        "auth0 profile": Shape(
            {"typ": "JWT"},
            {
                "iss": "https://tenant.eu.auth0.com/",
                "sub": "ordersClientId0123456789@clients",
                "aud": "https://api.example.com/orders",
                **_TIMES,
                "azp": "ordersClientId0123456789",
                "scope": "read:orders write:orders",
                "gty": "client-credentials",
                "permissions": ["read:orders", "write:orders"],
            },
        ),
        "rfc 9068 profile": Shape(
            {"typ": "at+jwt"},
            {
                "iss": "https://tenant.eu.auth0.com/",
                "sub": "ordersClientId0123456789@clients",
                "aud": "https://api.example.com/orders",
                **_TIMES,
                "scope": "read:orders write:orders",
                "jti": "N4h5kfBpLMlSvGS8vM2z",
                "client_id": "ordersClientId0123456789",
            },
        ),
        "of a user": Shape(
            {"typ": "JWT"},
            {
                "iss": "https://tenant.eu.auth0.com/",
                "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
                "aud": ["https://api.example.com/orders", "https://tenant.eu.auth0.com/userinfo"],
                **_TIMES,
                "azp": "ordersClientId0123456789",
                "scope": "read:orders write:orders",
            },
        ),
    },
    {
        "id token": Shape(
            {"typ": "JWT"},
            {
                "iss": "https://tenant.eu.auth0.com/",
                "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
                "aud": "ordersClientId0123456789",
                **_TIMES,
                "name": "Jane Doe",
                "email": "jane@example.com",
                "sid": "0S6Zs",
                "nonce": "n-0S6_WzA2Mj",
            },
        )
    },
    "ordersClientId0123456789",
    ("read:orders", "write:orders"),
)

#: "OpenID Connect & OAuth 2.0 API": access token and ID token of a custom authorization server.
OKTA = Vendor(
    {
        "issuer": "https://example.okta.com/oauth2/aus9o8wvkhockw9TL0h7",
        "audience": "https://api.example.com",
        "profile": "okta",
    },
    {
        "client credentials": Shape(
            {},
            {
                "ver": 1,
                "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
                "iss": "https://example.okta.com/oauth2/aus9o8wvkhockw9TL0h7",
                "aud": "https://api.example.com",
                "sub": "nmdP1fcyvdVO11AL7ECm",
                **_TIMES,
                "cid": "nmdP1fcyvdVO11AL7ECm",
                "scp": ["orders:read", "orders:write"],
            },
        ),
        "of a user": Shape(
            {},
            {
                "ver": 1,
                "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RF",
                "iss": "https://example.okta.com/oauth2/aus9o8wvkhockw9TL0h7",
                "aud": "https://api.example.com",
                "sub": "jane@example.com",
                **_TIMES,
                "cid": "nmdP1fcyvdVO11AL7ECm",
                "uid": "00uid4BxXw6I6TV4m0g3",
                "scp": ["orders:read", "orders:write"],
            },
        ),
    },
    {
        "id token": Shape(
            {},
            {
                "ver": 1,
                "jti": "ID.4eAWJOCMB3SX8XewDfVR",
                "iss": "https://example.okta.com/oauth2/aus9o8wvkhockw9TL0h7",
                "aud": "nmdP1fcyvdVO11AL7ECm",
                "sub": "00uid4BxXw6I6TV4m0g3",
                **_TIMES,
                "amr": ["pwd"],
                "auth_time": NOW - 60,
                "idp": "00ok1u7AsAkrwdZL3z0g3",
                "at_hash": "cpqKfdQA5eH891Ff5oJr_Q",
                "nonce": "n",
            },
        ),
        "of the org server": Shape(
            {"typ": "application/okta-internal-at+jwt"},
            {
                "ver": 1,
                "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RG",
                "iss": "https://example.okta.com/oauth2/aus9o8wvkhockw9TL0h7",
                "aud": "https://api.example.com",
                "sub": "nmdP1fcyvdVO11AL7ECm",
                **_TIMES,
                "cid": "nmdP1fcyvdVO11AL7ECm",
                "scp": ["orders:read"],
            },
        ),
    },
    "nmdP1fcyvdVO11AL7ECm",
    ("orders:read", "orders:write"),
)

_V2 = f"https://login.microsoftonline.com/{TENANT}/v2.0"
_V1 = f"https://sts.windows.net/{TENANT}/"

#: "Access token claims reference", "ID token claims reference"; version 2.0.
ENTRA = Vendor(
    {
        "issuer": _V2,
        "audience": API_GUID,
        "profile": "entra",
    },
    {
        "application": Shape(
            {"typ": "JWT"},
            {
                "aud": API_GUID,
                "iss": _V2,
                **_TIMES,
                "nbf": NOW - 60,
                "aio": "ASQA2/8TAAAAFhzOaNQ=",
                "azp": CLIENT_GUID,
                "azpacr": "1",
                "idtyp": "app",
                "oid": "6e18a7b1-0000-0000-0000-000000000001",
                "rh": "0.AXoA",
                "roles": ["Orders.Read", "Orders.Write"],
                "sub": "6e18a7b1-0000-0000-0000-000000000001",
                "tid": TENANT,
                "uti": "Yw0Y6MZ0eU2sYDm9kOQhAA",
                "ver": "2.0",
            },
        ),
        "delegated": Shape(
            {"typ": "JWT"},
            {
                "aud": API_GUID,
                "iss": _V2,
                **_TIMES,
                "nbf": NOW - 60,
                "azp": CLIENT_GUID,
                "azpacr": "0",
                "name": "Jane Doe",
                "oid": "6e18a7b1-0000-0000-0000-000000000002",
                "preferred_username": "jane@example.com",
                "roles": ["Orders.Admin"],
                "scp": "Orders.Read Orders.Write",
                "sub": "pairwise-subject",
                "tid": TENANT,
                "uti": "Yw0Y6MZ0eU2sYDm9kOQhAB",
                "ver": "2.0",
            },
        ),
    },
    {
        "id token": Shape(
            {"typ": "JWT"},
            {
                "aud": API_GUID,
                "iss": _V2,
                **_TIMES,
                "nbf": NOW - 60,
                "name": "Jane Doe",
                "nonce": "12345",
                "oid": "6e18a7b1-0000-0000-0000-000000000002",
                "preferred_username": "jane@example.com",
                "roles": ["Orders.Read"],
                "sub": "pairwise-subject",
                "tid": TENANT,
                "ver": "2.0",
            },
        ),
        "an application without any role": Shape(
            {"typ": "JWT"},
            {
                "aud": API_GUID,
                "iss": _V2,
                **_TIMES,
                "azp": CLIENT_GUID,
                "sub": "6e18a7b1-0000-0000-0000-000000000001",
                "tid": TENANT,
                "ver": "2.0",
            },
        ),
    },
    CLIENT_GUID,
    ("Orders.Read", "Orders.Write"),
)

#: The same, version 1.0.
ENTRA_V1 = Vendor(
    {"issuer": _V1, "audience": "api://orders", "profile": "entra"},
    {
        "application": Shape(
            {"typ": "JWT", "x5t": "thumb"},
            {
                "aud": "api://orders",
                "iss": _V1,
                **_TIMES,
                "nbf": NOW - 60,
                "appid": CLIENT_GUID,
                "appidacr": "1",
                "idp": _V1,
                "oid": "6e18a7b1-0000-0000-0000-000000000001",
                "roles": ["Orders.Read", "Orders.Write"],
                "sub": "6e18a7b1-0000-0000-0000-000000000001",
                "tid": TENANT,
                "uti": "Yw0Y6MZ0eU2sYDm9kOQhAC",
                "ver": "1.0",
            },
        )
    },
    {
        "id token": Shape(
            {"typ": "JWT"},
            {
                "aud": "api://orders",
                "iss": _V1,
                **_TIMES,
                "oid": "6e18a7b1-0000-0000-0000-000000000002",
                "sub": "s",
                "tid": TENANT,
                "unique_name": "jane@example.com",
                "ver": "1.0",
            },
        )
    },
    CLIENT_GUID,
    ("Orders.Read", "Orders.Write"),
)

#: "Server Administration Guide", service accounts; the claim typ of each kind of token.
KEYCLOAK = Vendor(
    {"issuer": "https://sso.example.com/realms/main", "audience": "orders-api", "profile": "keycloak"},
    {
        "service account": Shape(
            {"typ": "JWT"},
            {
                **_TIMES,
                "jti": "trrtcc:5b1e6a52-3f3a-4f57-9a6a-8d3f1c5f7e11",
                "iss": "https://sso.example.com/realms/main",
                "aud": ["orders-api", "account"],
                "sub": "d3b07384-0000-0000-0000-000000000001",
                "typ": "Bearer",
                "azp": "orders-worker",
                "acr": "1",
                "realm_access": {"roles": ["offline_access"]},
                "resource_access": {"orders-api": {"roles": ["reader"]}},
                "scope": "orders:read orders:write",
                "clientHost": "10.0.0.1",
                "clientAddress": "10.0.0.1",
                "client_id": "orders-worker",
                "preferred_username": "service-account-orders-worker",
            },
        ),
        "lightweight": Shape(
            {"typ": "at+jwt"},
            {
                **_TIMES,
                "jti": "5b1e6a52-3f3a-4f57-9a6a-8d3f1c5f7e12",
                "iss": "https://sso.example.com/realms/main",
                "aud": "orders-api",
                "typ": "Bearer",
                "azp": "orders-worker",
                "scope": "orders:read orders:write",
            },
        ),
        "before version 24, of a user": Shape(
            {"typ": "JWT"},
            {
                **_TIMES,
                "auth_time": NOW - 60,
                "jti": "5b1e6a52-3f3a-4f57-9a6a-8d3f1c5f7e13",
                "iss": "https://sso.example.com/realms/main",
                "aud": "orders-api",
                "sub": "d3b07384-0000-0000-0000-000000000002",
                "typ": "Bearer",
                "azp": "orders-worker",
                "nonce": "8b6d",
                "session_state": "x",
                "scope": "orders:read orders:write",
            },
        ),
    },
    {
        "id token": Shape(
            {"typ": "JWT"},
            {
                **_TIMES,
                "auth_time": NOW - 60,
                "jti": "5b1e6a52-3f3a-4f57-9a6a-8d3f1c5f7e14",
                "iss": "https://sso.example.com/realms/main",
                "aud": "orders-worker",
                "sub": "d3b07384-0000-0000-0000-000000000002",
                "typ": "ID",
                "azp": "orders-worker",
                "nonce": "8b6d",
                "at_hash": "x",
            },
        ),
        "refresh token": Shape(
            {"typ": "JWT"},
            {
                **_TIMES,
                "jti": "5b1e6a52-3f3a-4f57-9a6a-8d3f1c5f7e15",
                "iss": "https://sso.example.com/realms/main",
                "aud": "orders-api",
                "sub": "d3b07384-0000-0000-0000-000000000002",
                "typ": "Refresh",
                "azp": "orders-worker",
                "scope": "orders:read",
            },
        ),
    },
    "orders-worker",
    ("orders:read", "orders:write"),
)

_POOL = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Example1"

#: "Understanding the access token", "Understanding the identity token".
COGNITO = Vendor(
    {"issuer": _POOL, "clients": ("1example23456789",), "profile": "cognito"},
    {
        "client credentials": Shape(
            {},
            {
                "sub": "1example23456789",
                "token_use": "access",
                "scope": "orders/read orders/write",
                "auth_time": NOW - 60,
                "iss": _POOL,
                **_TIMES,
                "version": 2,
                "jti": "6f6c1f0a-0000-0000-0000-000000000001",
                "client_id": "1example23456789",
            },
        ),
        "of a user": Shape(
            {},
            {
                "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
                "cognito:groups": ["testgroup"],
                "iss": _POOL,
                "version": 2,
                "client_id": "1example23456789",
                "origin_jti": "x",
                "token_use": "access",
                "scope": "orders/read orders/write",
                "auth_time": NOW - 60,
                **_TIMES,
                "jti": "6f6c1f0a-0000-0000-0000-000000000002",
                "username": "jane",
            },
        ),
    },
    {
        "id token": Shape(
            {},
            {
                "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
                "cognito:groups": ["testgroup"],
                "email_verified": True,
                "iss": _POOL,
                "cognito:username": "jane",
                "origin_jti": "x",
                "aud": "1example23456789",
                "token_use": "id",
                "auth_time": NOW - 60,
                **_TIMES,
                "jti": "6f6c1f0a-0000-0000-0000-000000000003",
                "email": "jane@example.com",
            },
        ),
        "of another client": Shape(
            {},
            {
                "sub": "2example",
                "token_use": "access",
                "scope": "orders/read",
                "iss": _POOL,
                **_TIMES,
                "version": 2,
                "jti": "6f6c1f0a-0000-0000-0000-000000000004",
                "client_id": "2example",
            },
        ),
    },
    "1example23456789",
    ("orders/read", "orders/write"),
)

#: RFC 9068, figure 3, and the ID token of OpenID Connect Core 1.0, section 2.
RFC9068 = Vendor(
    {"issuer": "https://authorization-server.example.com/", "audience": "https://rs.example.com/"},
    {
        "figure 3": Shape(
            {"typ": "at+JWT"},
            {
                "iss": "https://authorization-server.example.com/",
                "sub": "5ba552d67",
                "aud": "https://rs.example.com/",
                "exp": NOW + 3600,
                "iat": NOW - 60,
                "jti": "dbe39bf3a3ba4238a513f51d6e1691c4",
                "client_id": "s6BhdRkqt3",
                "scope": "openid profile reademail",
            },
        )
    },
    {
        "id token": Shape(
            {"typ": "JWT"},
            {
                "iss": "https://authorization-server.example.com/",
                "sub": "24400320",
                "aud": "s6BhdRkqt3",
                "nonce": "n-0S6_WzA2Mj",
                "exp": NOW + 3600,
                "iat": NOW - 60,
                "auth_time": NOW - 60,
                "acr": "urn:mace:incommon:iap:silver",
            },
        )
    },
    "s6BhdRkqt3",
    ("openid", "profile", "reademail"),
)

VENDORS: Mapping[str, Vendor] = {
    "rfc9068": RFC9068,
    "auth0": AUTH0,
    "okta": OKTA,
    "entra": ENTRA,
    "entra, version 1": ENTRA_V1,
    "keycloak": KEYCLOAK,
    "cognito": COGNITO,
}
