"""JWT access tokens: every rule of RFC 9068, section 4, at its edges."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.access_token import (
    AccessTokenPolicy,
    VerifiedToken,
    validate_access_token,
    verify_access_token,
)
from accredit.core.jose import SigningKey, import_private_pem, import_public_jwk, sign_jws
from accredit.core.jwks import KeySet
from accredit.errors import ConfigurationError, InvalidTokenError

NOW = 1_800_000_000
ISSUER, API = "https://as.example", "https://api.example"
POLICY = AccessTokenPolicy(issuer=ISSUER, audience=(API, "second-name"), leeway=60)
HEADER = {"alg": "ES256", "typ": "at+jwt"}
CLAIMS: dict[str, object] = {
    "iss": ISSUER,
    "aud": API,
    "sub": "client:a",
    "client_id": "a",
    "jti": "1",
    "iat": NOW - 10,
    "exp": NOW + 100,
    "scope": "orders:read orders:write",
}
MISSING = object()


def new_key() -> SigningKey:
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    return import_private_pem(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


KEY = new_key()
KEYS = KeySet((import_public_jwk(KEY.public_jwk),))


def validate(policy: AccessTokenPolicy = POLICY, /, **changes: object) -> VerifiedToken:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not MISSING}
    return validate_access_token(HEADER, claims, policy, now=NOW)


def reason(policy: AccessTokenPolicy = POLICY, /, **changes: object) -> str:
    with pytest.raises(InvalidTokenError) as caught:
        validate(policy, **changes)
    return caught.value.reason


def test_good_token() -> None:
    token = validate()
    assert (token.subject, token.client_id, token.token_id) == ("client:a", "a", "1")
    assert token.scope == ("orders:read", "orders:write")
    assert (token.audience, token.issued_at, token.expires_at) == ((API,), NOW - 10, NOW + 100)
    assert token.has_scope("orders:read")
    assert not token.has_scope("orders:read", "admin")
    assert token.claims["iss"] == ISSUER
    assert token.issuer == ISSUER
    assert "claims" not in repr(token)


def test_no_request_can_change_the_claims_that_the_next_one_is_given() -> None:
    token = validate(roles=["reader"], realm={"groups": [{"name": "a"}]}, flat="x")
    claims: Any = token.claims
    changes: tuple[Callable[[], object], ...] = (
        lambda: claims.update(flat="y"),
        lambda: claims["roles"].append("admin"),
        lambda: claims["realm"].update(groups=[]),
        lambda: claims["realm"]["groups"][0].update(name="b"),
    )
    for change in changes:
        with pytest.raises(AttributeError):
            change()
    assert json.loads(json.dumps(claims, default=dict))["realm"] == {"groups": [{"name": "a"}]}
    assert "reader" in claims["roles"]
    assert len({token, validate(roles=["reader"], realm={"groups": [{"name": "a"}]}, flat="x")}) == 1


class TestType:
    @pytest.mark.parametrize("typ", ["at+jwt", "application/at+jwt", "AT+JWT", "Application/At+Jwt"])
    def test_accepted(self, typ: str) -> None:
        assert validate_access_token({"typ": typ}, CLAIMS, POLICY, now=NOW).client_id == "a"

    @pytest.mark.parametrize(
        "typ",
        [
            MISSING,
            None,
            "",
            7,
            ["at+jwt"],
            "JWT",
            "dpop+jwt",
            "client-authentication+jwt",
            "logout+jwt",
            "token-introspection+jwt",
            "application/application/at+jwt",
            "at+jwt ",
            "\uff41t+jwt",
            "at+jwt;charset=utf-8",
        ],
    )
    def test_refused(self, typ: object) -> None:
        header = {} if typ is MISSING else {"typ": typ}
        with pytest.raises(InvalidTokenError) as caught:
            validate_access_token(header, CLAIMS, POLICY, now=NOW)
        assert caught.value.reason == "type"

    def test_plain_jwt_is_opt_in(self) -> None:
        policy = AccessTokenPolicy(issuer=ISSUER, audience=(API,), accept_typ_jwt=True)
        for header in ({"typ": "JWT"}, {"typ": "jwt"}, {}, HEADER):
            assert validate_access_token(header, CLAIMS, policy, now=NOW).client_id == "a"
        for wrong in ({"typ": "dpop+jwt"}, {"typ": None}, {"typ": "logout+jwt"}):
            with pytest.raises(InvalidTokenError):
                validate_access_token(wrong, CLAIMS, policy, now=NOW)

    def test_letters_that_fold(self) -> None:
        """The Kelvin sign is a k in lower case: no letter but those of ASCII may pass for one."""
        policy = AccessTokenPolicy(issuer=ISSUER, audience=(API,), accept_typ_jwt=True)
        for typ in ("at+jw\u0442", "\uff21t+jwt", "\u212at+jwt"):
            with pytest.raises(InvalidTokenError):
                validate_access_token({"typ": typ}, CLAIMS, policy, now=NOW)

    @pytest.mark.parametrize("cty", ["JWT", "", None])
    def test_nested(self, cty: object) -> None:
        with pytest.raises(InvalidTokenError):
            validate_access_token({**HEADER, "cty": cty}, CLAIMS, POLICY, now=NOW)


@pytest.mark.parametrize(
    "issuer",
    [
        MISSING,
        None,
        "",
        ISSUER + "/",
        ISSUER.upper(),
        ISSUER[:-1],
        ISSUER + "evil",
        "x" + ISSUER,
        [ISSUER],
        5,
        "https://as%2Eexample",
        "https://as.example\u200b",
        "https://\uff41s.example",
    ],
)
def test_other_issuer(issuer: object) -> None:
    assert reason(iss=issuer) == "issuer"


def test_issuer_is_compared_to_the_byte() -> None:
    composed, decomposed = (unicodedata.normalize(form, "https://é.example") for form in ("NFC", "NFD"))
    policy = AccessTokenPolicy(issuer=composed, audience=(API,))
    assert validate(policy, iss=composed).client_id == "a"
    assert reason(policy, iss=decomposed) == "issuer"


class TestAudience:
    @pytest.mark.parametrize("audience", [API, [API], ["other", API], ["second-name"]])
    def test_accepted(self, audience: object) -> None:
        assert validate(aud=audience).audience

    @pytest.mark.parametrize(
        "audience",
        [
            MISSING,
            None,
            "",
            "other",
            API + "/",
            API[:-1],
            API.upper(),
            [],
            ["other"],
            [[API]],
            [API, 5],
            [API, None],
            {API: 1},
            5,
            [API] * 10_000,
            f"other {API}",
        ],
    )
    def test_refused(self, audience: object) -> None:
        assert reason(aud=audience) == "audience"


class TestTimes:
    @pytest.mark.parametrize("expiry", [NOW - 59, NOW - 59.5, NOW, NOW + 0.5, 253402300799])
    def test_alive(self, expiry: float) -> None:
        assert validate(exp=expiry).expires_at == expiry

    @pytest.mark.parametrize("expiry", [NOW - 60, NOW - 61, 0, 1.5])
    def test_expired(self, expiry: float) -> None:
        assert reason(exp=expiry) == "expired"

    def test_no_leeway(self) -> None:
        policy = AccessTokenPolicy(issuer=ISSUER, audience=(API,), leeway=0)
        assert validate(policy, exp=NOW + 1).expires_at == NOW + 1
        assert reason(policy, exp=NOW) == "expired"

    @pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
    @pytest.mark.parametrize(
        "value",
        [
            None,
            str(NOW),
            True,
            False,
            [NOW],
            {},
            -1,
            10**400,
            -(10**400),
            1e300,
            float("nan"),
            float("inf"),
            253402300800,
        ],
    )
    def test_not_a_time(self, name: str, value: object) -> None:
        assert reason(**{name: value}) == "malformed"

    @pytest.mark.parametrize("name", ["exp", "iat"])
    def test_required(self, name: str) -> None:
        assert reason(**{name: MISSING}) == "malformed"

    @pytest.mark.parametrize("name", ["iat", "nbf"])
    def test_ahead(self, name: str) -> None:
        assert validate(**{name: NOW + 60, "exp": NOW + 3600}).client_id == "a"
        assert reason(**{name: NOW + 61, "exp": NOW + 3600}) == "not_yet_valid"

    def test_longest_age(self) -> None:
        policy = AccessTokenPolicy(issuer=ISSUER, audience=(API,), max_token_age=3600)
        assert validate(policy, iat=NOW, exp=NOW + 3600).client_id == "a"
        assert reason(policy, iat=NOW, exp=NOW + 3601) == "too_old"
        assert validate(iat=NOW, exp=NOW + 10 * 365 * 86400).client_id == "a"


@pytest.mark.parametrize("name", ["sub", "client_id", "jti"])
@pytest.mark.parametrize("value", [MISSING, None, "", 5, ["a"], {"a": 1}, True])
def test_required_texts(name: str, value: object) -> None:
    assert reason(**{name: value}) == "malformed"


class TestScope:
    @pytest.mark.parametrize("scope", [MISSING, None, ""])
    def test_none(self, scope: object) -> None:
        assert validate(scope=scope).scope == ()

    def test_duplicates(self) -> None:
        assert validate(scope="b a  b").scope == ("b", "a")

    def test_list(self) -> None:
        assert validate(scope=["b", "a", "b"]).scope == ("b", "a")
        assert validate(scope=[]).scope == ()

    @pytest.mark.parametrize(
        "scope", [["a b"], ["a", 5], [""], [["a"]], ["a"] * 1001, {"a": 1}, 5, True, 'a"b', "a\\b", "a\tb", "é"]
    )
    def test_malformed(self, scope: object) -> None:
        assert reason(scope=scope) == "scope"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"issuer": ""}, "issuer"),
        ({"issuer": None}, "issuer"),
        ({"audience": ()}, "audience"),
        ({"audience": API}, "audience"),
        ({"audience": ("",)}, "audience"),
        ({"audience": (API, 5)}, "audience"),
        ({"audience": None}, "audience"),
        ({"algorithms": ()}, "algorithms"),
        ({"algorithms": ("none",)}, "algorithms"),
        ({"algorithms": ("ES256", "HS256")}, "algorithms"),
        ({"leeway": -1}, "leeway"),
        ({"leeway": 301}, "leeway"),
        ({"leeway": float("nan")}, "leeway"),
        ({"max_token_age": 0}, "max_token_age"),
        ({"max_token_age": float("nan")}, "max_token_age"),
    ],
)
def test_policy_without_a_needed_check(settings: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AccessTokenPolicy(**{"issuer": ISSUER, "audience": (API,), **settings})  # type: ignore[arg-type]
    assert caught.value.key == key


def test_long_leeway_by_name() -> None:
    policy = AccessTokenPolicy(issuer=ISSUER, audience=(API,), leeway=1e9, allow_long_leeway=True)
    assert validate(policy, exp=NOW - 1e9 + 1).client_id == "a"


def test_claims_too_deep() -> None:
    for depth, good in ((15, True), (16, False)):
        payload = json.dumps(CLAIMS)[:-1] + ',"x":' + "[" * depth + "]" * depth + "}"
        token = sign_jws(payload.encode(), KEY, header={"typ": "at+jwt"})
        if good:
            assert verify_access_token(token, KEYS, POLICY, now=NOW).client_id == "a"
        else:
            with pytest.raises(InvalidTokenError) as caught:
                verify_access_token(token, KEYS, POLICY, now=NOW)
            assert caught.value.reason == "malformed"


def test_whose_token_it_is_comes_before_its_key() -> None:
    token = sign_jws(json.dumps({**CLAIMS, "iss": "https://else.example"}).encode(), KEY, header={"typ": "at+jwt"})
    with pytest.raises(InvalidTokenError) as caught:
        verify_access_token(token, KeySet(()), POLICY, now=NOW)
    assert caught.value.reason == "issuer"


class TestWholeTokens:
    def token(self, payload: bytes | None = None, **header: object) -> str:
        return sign_jws(payload or json.dumps(CLAIMS).encode(), KEY, header={"typ": "at+jwt", **header})

    def verify(self, token: str, keys: KeySet = KEYS) -> VerifiedToken:
        return verify_access_token(token, keys, POLICY, now=NOW)

    def refused(self, token: str, keys: KeySet = KEYS) -> str:
        with pytest.raises(InvalidTokenError) as caught:
            self.verify(token, keys)
        return caught.value.reason

    def test_good(self) -> None:
        assert self.verify(self.token()).client_id == "a"

    def test_unknown_key(self) -> None:
        assert self.refused(self.token(kid="other")) == "unknown_key"
        assert self.refused(self.token(), KeySet(())) == "unknown_key"

    def test_key_of_another(self) -> None:
        other = import_public_jwk({**new_key().public_jwk, "kid": KEY.kid or ""})
        assert self.refused(self.token(), KeySet((other,))) == "signature"

    @pytest.mark.parametrize(
        "payload",
        [
            b"[]",
            b'"x"',
            b"1",
            b"null",
            b"not json",
            b'{"iss":"a","iss":"b"}',
            b'{"exp":NaN}',
            b'{"exp":1e999}',
            b'{"exp":1' + b"0" * 5000 + b"}",
            b"\xff\xfe",
            b"[" * 5000,
            b'{"iss":"\\ud800"}',
        ],
    )
    def test_payload(self, payload: bytes) -> None:
        assert self.refused(self.token(payload)) == "malformed"

    def test_error_shows_nothing_of_the_token(self) -> None:
        token = self.token(kid="other")
        with pytest.raises(InvalidTokenError) as caught:
            self.verify(token)
        assert token[-20:] not in repr(caught.value.__dict__) + str(caught.value)
        assert caught.value.__context__ is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(["typ", "cty", "alg"]), VALUES),
    st.dictionaries(st.sampled_from(sorted(CLAIMS)), VALUES),
)
def test_any_claims_are_decided(header: dict[str, object], changes: dict[str, object]) -> None:
    try:
        token = validate_access_token({**HEADER, **header}, {**CLAIMS, **changes}, POLICY, now=NOW)
    except InvalidTokenError:
        return
    assert token.claims["iss"] == ISSUER
    assert set(token.audience) & {API, "second-name"}
    assert (token.expires_at or 0.0) > NOW - 60
