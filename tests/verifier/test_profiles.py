"""Each profile accepts the tokens of its server, and nothing that is no access token, whatever server it is of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from accredit.core.access_token import validate_access_token
from accredit.core.profiles import ID_TOKEN_CLAIMS, PROFILES
from accredit.errors import ConfigurationError, InvalidTokenError
from accredit.verifier import TrustedIssuer, VerifiedToken
from tests.verifier.shapes import COGNITO, ENTRA, KEYCLOAK, NOW, OKTA, VENDORS, Shape, Vendor

ACCESS = [(vendor, kind) for vendor, each in VENDORS.items() for kind in each.access]
OTHERS = [(vendor, kind) for vendor, each in VENDORS.items() for kind in each.others]
OTHER_TYPES = ["dpop+jwt", "logout+jwt", "client-authentication+jwt", "token-introspection+jwt", "", 5, None]
ID_TOKENS = [(vendor, kind) for vendor, kind in OTHERS if kind == "id token"]


def check(
    vendor: Vendor,
    shape: Shape,
    /,
    header: dict[str, object] | None = None,
    trust: TrustedIssuer | None = None,
    **claims: object,
) -> VerifiedToken:
    changed = {name: value for name, value in {**shape.claims, **claims}.items() if value is not None}
    return validate_access_token({**shape.header, **(header or {})}, changed, (trust or vendor.trust()).policy, now=NOW)


def reason(vendor: Vendor, shape: Shape, /, **more: Any) -> str:
    with pytest.raises(InvalidTokenError) as caught:
        check(vendor, shape, **more)
    return caught.value.reason


@pytest.mark.parametrize(("name", "kind"), ACCESS)
def test_an_access_token_of_the_vendor(name: str, kind: str) -> None:
    vendor = VENDORS[name]
    token = check(vendor, vendor.access[kind])
    assert (token.client_id, token.scope) == (vendor.client_id, vendor.scope)
    assert token.issuer == vendor.trusted["issuer"]


@pytest.mark.parametrize(("name", "kind"), OTHERS)
def test_what_is_no_access_token_of_the_vendor(name: str, kind: str) -> None:
    vendor = VENDORS[name]
    assert reason(vendor, vendor.others[kind]) in {"type", "audience", "client", "malformed", "scope"}


@pytest.mark.parametrize(("name", "kind"), OTHERS)
def test_nor_if_it_is_for_this_api(name: str, kind: str) -> None:
    """The worst case: an application that gave its API the name of its client."""
    vendor = VENDORS[name]
    shape = vendor.others[kind]
    audience = shape.claims.get("aud")
    trust = vendor.trust() if audience is None else vendor.trust(audience=audience)
    assert reason(vendor, shape, trust=trust) in {"type", "client", "malformed", "scope"}


def every_profile(shape: Shape) -> Iterator[TrustedIssuer]:
    for profile in PROFILES:
        for clients in (None, (str(shape.claims.get("azp") or shape.claims.get("aud")),)):
            if profile != "cognito" or clients is not None:
                yield TrustedIssuer(
                    str(shape.claims["iss"]), str(shape.claims["aud"]), profile=profile, clients=clients
                )
    yield TrustedIssuer(str(shape.claims["iss"]), str(shape.claims["aud"]), accept_typ_jwt=True)


@pytest.mark.parametrize(("name", "kind"), ID_TOKENS)
def test_an_id_token_is_refused_under_every_profile(name: str, kind: str) -> None:
    shape = VENDORS[name].others[kind]
    for trust in every_profile(shape):
        assert reason(VENDORS[name], shape, trust=trust), trust.profile


@pytest.mark.parametrize("typ", OTHER_TYPES)
@pytest.mark.parametrize("name", VENDORS)
def test_a_jwt_of_another_kind_is_refused_under_every_profile(name: str, typ: object) -> None:
    vendor = VENDORS[name]
    shape = next(iter(vendor.access.values()))
    assert reason(vendor, shape, header={"typ": typ}) == "type"
    assert reason(vendor, shape, header={"cty": "JWT"}) == "type"


@pytest.mark.parametrize("name", [name for name in VENDORS if name not in {"rfc9068", "keycloak"}])
@pytest.mark.parametrize("claim", sorted(ID_TOKEN_CLAIMS))
def test_what_only_id_tokens_carry(name: str, claim: str) -> None:
    vendor = VENDORS[name]
    for shape in vendor.access.values():
        assert reason(vendor, shape, **{claim: "x"}) == "type"


@pytest.mark.parametrize("name", VENDORS)
def test_the_rules_that_all_have(name: str) -> None:
    vendor = VENDORS[name]
    for shape in vendor.access.values():
        assert reason(vendor, shape, iss=f"{vendor.trusted['issuer']}x") == "issuer"
        assert reason(vendor, shape, exp=NOW - 61) == "expired"
        assert reason(vendor, shape, iat=NOW + 61) == "not_yet_valid"
        for missing in ("exp", "iat"):
            assert reason(vendor, shape, **{missing: None}) == "malformed"
        assert reason(vendor, shape, aud="https://else.example") == "audience"
        if "aud" in shape.claims:
            assert reason(vendor, shape, aud=None) == "audience"
        assert reason(vendor, shape, cnf={"jkt": "x"}) == "bound"
        assert reason(vendor, shape, trust=vendor.trust(clients=("nobody",))) == "client"


# The marks that stand in for those of RFC 9068, one by one.


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("rfc9068", {"client_id": None}, "malformed"),
        ("rfc9068", {"jti": None}, "malformed"),
        ("rfc9068", {"sub": None}, "malformed"),
        ("auth0", {"azp": None}, "malformed"),
        ("auth0", {"azp": ""}, "malformed"),
        ("auth0", {"sid": "x"}, "type"),
        ("auth0", {"azp": "https://api.example.com/orders"}, "type"),
        ("auth0", {"client_id": "another"}, "client"),
        ("auth0", {"sub": None}, "malformed"),
        ("okta", {"ver": None}, "type"),
        ("okta", {"ver": 2}, "type"),
        ("okta", {"ver": True}, "type"),
        ("okta", {"ver": "1"}, "type"),
        ("okta", {"jti": "ID.x"}, "type"),
        ("okta", {"jti": None}, "malformed"),
        ("okta", {"cid": None}, "malformed"),
        ("okta", {"cid": "https://api.example.com"}, "type"),
        ("okta", {"scp": "a\tb"}, "scope"),
        ("okta", {"scp": ["a b"]}, "scope"),
        ("entra", {"ver": "3.0"}, "type"),
        ("entra", {"ver": 2.0}, "type"),
        ("entra", {"azp": None}, "malformed"),
        ("entra", {"tid": None}, "malformed"),
        ("entra", {"tid": "9188040d-6c67-4c5b-b112-36a304b66dad"}, "tenant"),
        ("entra", {"tid": "https:"}, "tenant"),
        ("entra", {"roles": None, "scp": None}, "scope"),
        ("entra", {"roles": []}, "scope"),
        ("entra", {"appid": "another"}, "client"),
        ("keycloak", {"typ": None}, "type"),
        ("keycloak", {"typ": "ID"}, "type"),
        ("keycloak", {"typ": "Refresh"}, "type"),
        ("keycloak", {"typ": "Offline"}, "type"),
        ("keycloak", {"typ": "bearer"}, "type"),
        ("keycloak", {"typ": "DPoP"}, "type"),
        ("keycloak", {"azp": None}, "malformed"),
        ("keycloak", {"client_id": "another"}, "client"),
        ("keycloak", {"jti": None}, "malformed"),
        ("keycloak", {"at_hash": "x"}, "type"),
        ("cognito", {"token_use": None}, "type"),
        ("cognito", {"token_use": "id"}, "type"),
        ("cognito", {"client_id": None}, "malformed"),
        ("cognito", {"client_id": "another"}, "client"),
        ("cognito", {"aud": "https://api.example.com"}, "audience"),
        ("cognito", {"aud": []}, "audience"),
    ],
)  # fmt: skip
def test_one_mark_at_a_time(name: str, changes: dict[str, Any], expected: str) -> None:
    vendor = VENDORS[name]
    shape = next(iter(vendor.access.values()))
    if "scp" in changes and name == "entra":
        changes = {"scp": None, **changes}
    assert reason(vendor, shape, **changes) == expected


def test_a_jwt_of_rfc_9068_where_none_is_issued() -> None:
    for vendor in (ENTRA, COGNITO):
        assert reason(vendor, next(iter(vendor.access.values())), header={"typ": "at+jwt"}) == "type"


def test_delegated_permissions_and_roles_are_not_mixed() -> None:
    """A role of the user must not pass for a permission of the application."""
    token = check(ENTRA, ENTRA.access["delegated"])
    assert not token.has_scope("Orders.Admin")
    assert check(ENTRA, ENTRA.access["application"]).has_scope("Orders.Read")


def test_an_application_without_roles_is_accepted_from_a_list() -> None:
    shape = ENTRA.others["an application without any role"]
    assert check(ENTRA, shape, trust=ENTRA.trust(clients=(ENTRA.client_id,))).scope == ()


def test_a_bound_audience_of_cognito() -> None:
    trust = COGNITO.trust(audience="https://api.example.com")
    shape = COGNITO.access["client credentials"]
    assert check(COGNITO, shape, trust=trust).audience == ()
    assert check(COGNITO, shape, trust=trust, aud="https://api.example.com").audience == ("https://api.example.com",)
    assert reason(COGNITO, shape, trust=trust, aud="https://else.example") == "audience"


def test_the_identity_of_a_token_by_profile() -> None:
    assert check(ENTRA, ENTRA.access["application"]).token_id == "Yw0Y6MZ0eU2sYDm9kOQhAA"
    assert check(OKTA, OKTA.access["client credentials"]).token_id == OKTA.access["client credentials"].claims["jti"]
    assert check(KEYCLOAK, KEYCLOAK.access["lightweight"]).subject is None


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_a_profile_says_what_makes_up_for_what_is_missing(profile: Any) -> None:
    assert len(profile.instead.split()) >= 10
    if profile.types != {"at+jwt"}:
        assert "For typ at+jwt:" in profile.instead


class TestConstruction:
    @pytest.mark.parametrize("profile", [name for name in PROFILES if name != "cognito"])
    @pytest.mark.parametrize("audience", [(), [], ""])
    def test_no_audience(self, profile: str, audience: Any) -> None:
        with pytest.raises(ConfigurationError) as caught:
            TrustedIssuer("https://as.example", audience, profile=profile, clients=("a",))
        assert caught.value.key == "audience"

    def test_cognito_needs_clients_in_place_of_an_audience(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            TrustedIssuer("https://as.example", profile="cognito")
        assert caught.value.key == "audience"
        # Most of its tokens have no aud: an audience alone would let in every client of the pool.
        with pytest.raises(ConfigurationError) as caught:
            TrustedIssuer("https://as.example", "https://api.example", profile="cognito")
        assert caught.value.key == "clients"

    @pytest.mark.parametrize(
        ("settings", "key"),
        [
            ({"issuer": ""}, "issuer"),
            ({"issuer": None}, "issuer"),
            ({"issuer": "as.example"}, "issuer"),
            ({"issuer": "http://as.example"}, "issuer"),
            ({"issuer": "https://as.example?x=y"}, "issuer"),
            ({"issuer": "https://as.example#x"}, "issuer"),
            ({"audience": 5}, "audience"),
            ({"audience": ["a", 5]}, "audience"),
            ({"audience": {"a": "b"}}, "audience"),
            ({"profile": "google"}, "profile"),
            ({"profile": None}, "profile"),
            ({"algorithms": ("HS256",)}, "algorithms"),
            ({"algorithms": ("none",)}, "algorithms"),
            ({"algorithms": ()}, "algorithms"),
            ({"algorithms": "RS256 ES256"}, "algorithms"),
            ({"allow_insecure_http": "false"}, "allow_insecure_http"),
            ({"lenient_content_type": 1}, "lenient_content_type"),
            ({"accept_typ_jwt": "no"}, "accept_typ_jwt"),
            ({"accept_bound_tokens": None}, "accept_bound_tokens"),
            ({"allow_long_leeway": "no"}, "allow_long_leeway"),
            ({"leeway": -1}, "leeway"),
            ({"leeway": 301}, "leeway"),
            ({"leeway": 1e9}, "leeway"),
            ({"leeway": "60"}, "leeway"),
            ({"leeway": True}, "leeway"),
            ({"max_token_age": 0}, "max_token_age"),
            ({"max_token_age": float("inf")}, "max_token_age"),
            ({"clients": ()}, "clients"),
            ({"clients": ("",)}, "clients"),
            ({"jwks_uri": "http://as.example/jwks"}, "jwks_uri"),
            ({"jwks_uri": "file:///etc/keys"}, "jwks_uri"),
            ({"jwks_uri": "ftp://as.example/jwks"}, "jwks_uri"),
            ({"jwks_uri": "data:application/json,{}"}, "jwks_uri"),
            ({"jwks_uri": "https://169.254.169.254/jwks"}, "jwks_uri"),
            ({"jwks_uri": "https://user:pass@as.example/jwks"}, "jwks_uri"),
            ({"jwks_uri": 5}, "jwks_uri"),
            ({"metadata_url": "nonsense"}, "metadata_url"),
            ({"jwks_uri": "https://a.example", "metadata_url": "https://a.example"}, "metadata_url"),
            ({"jwks_uri": "https://a.example", "jwks": {"keys": []}}, "jwks_uri"),
            ({"jwks": {"keys": []}}, "jwks"),
            ({"jwks": {"keys": [{"kty": "oct", "k": "AAAA"}]}}, "jwks"),
            ({"jwks": []}, "jwks"),
            ({"jwks": {"keys": {}}}, "jwks"),
            ({"jwks_policy": 5}, "jwks_policy"),
            ({"introspection": "x"}, "introspection"),
            ({"deadline": 0}, "deadline"),
            ({"deadline": 301}, "deadline"),
            ({"deadline": "1"}, "deadline"),
            ({"deadline": float("nan")}, "deadline"),
            ({"allowed_endpoint_hosts": ["https://a.example"]}, "allowed_endpoint_hosts"),
            ({"allowed_endpoint_hosts": ["a.example/x"]}, "allowed_endpoint_hosts"),
            ({"accept_typ_jwt": True, "profile": "auth0"}, "accept_typ_jwt"),
        ],
    )  # fmt: skip
    def test_what_makes_no_sense(self, settings: dict[str, Any], key: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            TrustedIssuer(**{"issuer": "https://as.example", "audience": "https://api.example", **settings})
        assert caught.value.key == key
        assert caught.value.advice

    def test_introspection_needs_a_place(self) -> None:
        from tests.verifier.support import asking

        for settings in ({"jwks_uri": "https://as.example/jwks"}, {"jwks": ID_KEYS}):
            with pytest.raises(ConfigurationError) as caught:
                TrustedIssuer("https://as.example", "a", introspection=asking(endpoint=None), **settings)
            assert caught.value.key == "introspection"
        with pytest.raises(ConfigurationError) as caught:
            TrustedIssuer("https://as.example", "a", introspection=asking(endpoint="http://as.example/i"))
        assert caught.value.key == "introspection.endpoint"

    def test_an_issuer_that_is_no_url_needs_its_keys(self) -> None:
        issuer = "kubernetes/serviceaccount"
        assert TrustedIssuer(issuer, "api", jwks_uri="https://kubernetes.default.svc/openid/v1/jwks").issuer == issuer
        with pytest.raises(ConfigurationError):
            TrustedIssuer(issuer, "api")

    def test_values(self) -> None:
        trust = TrustedIssuer("https://as.example", "a", clients="one", allowed_endpoint_hosts=["AS.example"])
        assert (trust.audience, trust.clients, trust.endpoint_hosts) == (("a",), ("one",), frozenset({"as.example"}))
        assert trust == TrustedIssuer(
            "https://as.example", ["a"], clients=["one"], allowed_endpoint_hosts=["as.example"]
        )
        assert TrustedIssuer("http://127.0.0.1:8000", "a").issuer == "http://127.0.0.1:8000"
        assert TrustedIssuer("http://mesh.example", "a", allow_insecure_http=True).policy.leeway == 60


ID_KEYS = {
    "keys": [
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        }
    ]
}
