"""Every check of a token by name: one fault is one line, several faults are several."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accredit.core.access_token import AccessTokenPolicy, read_access_token, verify_access_token
from accredit.core.explaining import CHECKS, Explanation, _Mended, explain_access_token
from accredit.core.jose import SigningKey, import_public_jwk, sign_jws
from accredit.core.jwks import KeySet
from accredit.core.profiles import PROFILES
from accredit.core.strict import b64url_encode
from accredit.devserver.keys import new_signing_key
from accredit.errors import InvalidTokenError

NOW = 1_700_000_000
ISSUER, API = "https://idp.example/tenant-7", "https://api.example"
KEY, OTHER = new_signing_key(), new_signing_key()
KEYS = KeySet((import_public_jwk(KEY.public_jwk),))
POLICY = AccessTokenPolicy(issuer=ISSUER, audience=(API,))
CLAIMS: dict[str, object] = {
    "iss": ISSUER,
    "aud": API,
    "sub": "client:x",
    "client_id": "x",
    "jti": "1",
    "iat": NOW - 10,
    "exp": NOW + 600,
    "scope": "a b",
}


def token(key: SigningKey = KEY, header: dict[str, object] | None = None, **claims: object) -> str:
    members = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    return sign_jws(json.dumps(members).encode(), key, header={"typ": "at+jwt"} if header is None else header)


def explain(text: str, policy: AccessTokenPolicy = POLICY, needed: tuple[str, ...] = ()) -> Explanation:
    return explain_access_token(text, KEYS, policy, now=NOW, needed=needed)


def failed(explanation: Explanation) -> list[str]:
    return [check.name for check in explanation.checks if check.passed is False]


def unknown(explanation: Explanation) -> set[str]:
    return {check.name for check in explanation.checks if check.passed is None}


def policy(**changes: Any) -> AccessTokenPolicy:
    return AccessTokenPolicy(**{"issuer": ISSUER, "audience": (API,), **changes})


def test_a_good_token_passes_every_check() -> None:
    found = explain(token(), needed=("a",))
    assert found.accepted
    assert found.token is not None
    assert found.token.client_id == "x"
    assert [check.name for check in found.checks] == list(CHECKS)
    assert {check.passed for check in found.checks} == {True}


ONE_FAULT: dict[str, tuple[str, dict[str, Any]]] = {
    "algorithm": (token(), {"algorithms": ("RS256",)}),
    "issuer": (token(iss="https://idp.example/tenant-8"), {}),
    "key": (token(OTHER), {}),
    "type": (token(header={"typ": "JWT"}), {}),
    "audience": (token(aud="https://other.example"), {}),
    "expiry": (token(iat=NOW - 7200, exp=NOW - 3600), {}),
    "not_before": (token(nbf=NOW + 3600), {}),
    "age": (token(exp=NOW + 90_000), {"max_token_age": 3600.0}),
    "claims": (token(client_id=None), {}),
    "bound": (token(cnf={"jkt": "x"}), {}),
    "client": (token(), {"clients": ("y",)}),
    "scope": (token(scope="a\\"), {}),
}


@pytest.mark.parametrize("name", ONE_FAULT)
def test_one_fault_is_one_line(name: str) -> None:
    text, changes = ONE_FAULT[name]
    found = explain(text, policy(**changes))
    assert failed(found) == [name]
    assert not found.accepted
    assert found.token is None
    assert unknown(found) == {"key": {"signature"}, "scope": {"needed_scope"}}.get(name, set())


def test_a_signature_that_is_wrong() -> None:
    head, body, _ = token().split(".")
    found = explain(f"{head}.{body}.{token(exp=NOW + 601).rpartition('.')[2]}")
    assert failed(found) == ["signature"]
    assert unknown(found) == set()


def test_many_faults_are_many_lines() -> None:
    text = token(
        OTHER,
        {"typ": "JWT"},
        iss="https://evil.example",
        aud=["z"],
        iat=NOW - 7200,
        exp=NOW - 3600,
        nbf=NOW + 9999,
        client_id=7,
        jti=None,
        cnf={},
        scope="a\\",
    )
    found = explain(text, policy(algorithms=("RS256",), clients=("y",), max_token_age=60.0))
    assert set(failed(found)) == {
        "algorithm", "issuer", "key", "type", "audience", "expiry", "not_before", "age", "claims", "bound", "scope",
    }  # fmt: skip
    (detail,) = [check.detail for check in found.checks if check.name == "claims"]
    assert "client_id" in detail
    assert "jti" in detail


@pytest.mark.parametrize(
    ("text", "name", "passed"),
    [
        ("", "form", set()),
        ("abc", "form", set()),
        ("a.b.c", "form", set()),
        ("x" * 20_000, "form", set()),
        (token(header={"typ": "at+jwt", "kid": "k" * 300}), "form", set()),
        (b64url_encode(b'{"alg":"none"}') + ".e30.AA", "algorithm", {"form"}),
        (b64url_encode(b'{"alg":"ES256","crit":["x"]}') + ".e30.AA", "extensions", {"form", "algorithm"}),
    ],
)
def test_what_cannot_be_read(text: str, name: str, passed: set[str]) -> None:
    found = explain(text)
    assert failed(found) == [name]
    assert {check.name for check in found.checks if check.passed} == passed
    assert unknown(found) == set(CHECKS) - passed - {name}


def test_the_scope_that_is_needed() -> None:
    found = explain(token(), needed=("b", "c", "d"))
    assert failed(found) == ["needed_scope"]
    assert found.checks[-1].detail == "it lacks c d."
    assert found.token is not None
    assert not found.accepted


PROFILE_TOKENS: dict[str, tuple[dict[str, object], dict[str, Any], dict[str, Any]]] = {
    "auth0": ({"typ": "JWT"}, {"azp": "x", "client_id": None}, {}),
    "okta": ({}, {"ver": 1, "jti": "AT.1", "cid": "x", "scp": ["a"]}, {}),
    "entra": ({"typ": "JWT"}, {"ver": "2.0", "azp": "x", "tid": "tenant-7", "uti": "1", "roles": ["a"]}, {}),
    "keycloak": ({"typ": "JWT"}, {"typ": "Bearer", "azp": "x"}, {}),
    "cognito": ({}, {"token_use": "access", "aud": None}, {"audience": (), "clients": ("x",)}),
}
WRONG: dict[str, dict[str, Any]] = {
    "auth0": {"azp": API, "nonce": "n"},
    "okta": {"ver": 2, "jti": "ID.1", "cid": None},
    "entra": {"ver": "3", "tid": "tenant-8", "roles": None},
    "keycloak": {"typ": "ID", "azp": None},
    "cognito": {"token_use": "id", "client_id": "z", "aud": "other"},
}


@pytest.mark.parametrize("name", PROFILE_TOKENS)
def test_profiles(name: str) -> None:
    header, claims, changes = PROFILE_TOKENS[name]
    demanded = policy(profile=name, **changes)
    assert failed(explain(token(header=header, **claims), demanded)) == []
    wrong = explain(token(header=header, **{**claims, **WRONG[name]}), demanded)
    assert (
        set(failed(wrong))
        == {
            "auth0": {"type"},
            "okta": {"type", "claims"},
            "entra": {"type", "tenant", "scope"},
            "keycloak": {"type", "claims"},
            "cognito": {"type", "client", "audience"},
        }[name]
    )
    missing = explain(token(header={"typ": "x"}, sub=7, jti=7, tid=7, cid=7, azp=7, client_id=7, token_use=7), demanded)
    assert {"type", "claims"} <= set(failed(missing))


def test_a_client_that_is_its_own_audience_whatever_clients_are_allowed() -> None:
    demanded = policy(profile="auth0", clients=(API,))
    found = explain(token(header={"typ": "JWT"}, azp=API, client_id=None), demanded)
    assert "type" in failed(found)


values = st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5) | st.lists(st.integers())
names = st.sampled_from(
    [*CLAIMS, "nbf", "cnf", "nonce", "azp", "cid", "scp", "tid", "ver", "typ", "roles", "token_use"]
)


@settings(max_examples=100)
@given(
    st.dictionaries(names, values | st.just(NOW - 5) | st.just(NOW + 50), max_size=6),
    st.sampled_from(list(PROFILES)),
    st.sampled_from(["at+jwt", "JWT", "x"]),
)
def test_it_says_what_verifying_says(claims: dict[str, object], profile: str, kind: str) -> None:
    demanded = policy(profile=profile, clients=("x",), max_token_age=3600.0)
    members = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    text = sign_jws(json.dumps(members).encode(), KEY, header={"typ": kind})
    try:
        verify_access_token(text, KEYS, demanded, now=NOW)
        good = True
    except InvalidTokenError:
        good = False
    found = explain(text, demanded)
    assert (found.token is not None) is good
    assert found.accepted is good
    assert bool(failed(found)) is not good
    assert "NaN" not in str(found.checks)


def test_details_hold_nothing_of_the_token() -> None:
    text = token(aud="canary-aud", iss="canary-iss", sub=["canary-sub"], client_id="canary", jti={"canary": 1})
    assert "canary" not in str(explain(text).checks)


def test_it_gives_up_rather_than_go_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accredit.core.explaining._MOST_FAULTS", 1)
    found = explain(token(header={"typ": "JWT"}, aud="z"))
    assert "type" in failed(found)
    assert "expiry" in unknown(found)
    presented = read_access_token(token(), algorithms=("ES256",))
    assert not _Mended(presented, POLICY, NOW).mend("claims", "a fault that names nothing")
