"""The checks of a token, one by one: they say what the verifier says, for any token."""

from __future__ import annotations

import dataclasses
import json
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.access_token import verify_access_token
from accredit.core.jose import MAX_TOKEN_BYTES, sign_jws
from accredit.core.secret import Secret
from accredit.core.strict import b64url_encode
from accredit.devserver.checks import Verdict, clock_time, distance, examine
from accredit.devserver.config import DevClient, DevConfig
from accredit.devserver.core import Authority
from accredit.devserver.forms import Incoming
from accredit.devserver.keys import new_signing_key
from accredit.errors import InvalidTokenError

NOW = 1_800_000_000.0
ISSUER, API, REPORTS = "https://as.example", "https://api.example", "https://reports.example"
CONFIG = DevConfig(
    issuer=ISSUER,
    clients=(
        DevClient(client_id="c", client_secret=Secret("s"), audiences=(REPORTS,)),
        DevClient(client_id="o", client_secret=Secret("s"), token_format="opaque"),
    ),
)
KEY, STRANGER = new_signing_key(), new_signing_key()
SERVER = Authority(CONFIG, [KEY])


def issue(server: Authority, client: str = "c", **form: str) -> str:
    body = urlencode({"grant_type": "client_credentials", "client_id": client, "client_secret": "s", **form}).encode()
    incoming = Incoming("POST", "/token", (("content-type", "application/x-www-form-urlencoded"),), body)
    random = f"{server.ledger.issued}" + "r" * 30
    answer = server.handle(incoming, now=NOW, random_id=random, random_value=f"opaque-{random}").response
    return str(json.loads(answer.body)["access_token"])


def good_claims(**changes: Any) -> dict[str, Any]:
    good = {
        "iss": ISSUER, "aud": API, "sub": "client:c", "client_id": "c", "jti": "1.x", "iat": NOW, "exp": NOW + 60,
        "scope": "orders:read",
    }  # fmt: skip
    return {name: value for name, value in {**good, **changes}.items() if value != "absent"}


def made(header: dict[str, Any] | None = None, key: Any = KEY, **changes: Any) -> str:
    return sign_jws(json.dumps(good_claims(**changes)).encode(), key, header=header or {"typ": "at+jwt"})


def bare(header: dict[str, Any], payload: bytes | None = None) -> str:
    body = json.dumps(good_claims()).encode() if payload is None else payload
    return f"{b64url_encode(json.dumps(header).encode())}.{b64url_encode(body)}.AAAA"


def results(verdict: Verdict) -> dict[str, str]:
    return {check.name: check.result for check in verdict.checks}


def test_a_good_token_passes_every_check() -> None:
    server = Authority(CONFIG, [KEY])
    verdict = examine(issue(server), server, now=NOW, scope=("orders:read",))
    assert (verdict.accepted, verdict.reason) == (True, None)
    assert set(results(verdict).values()) == {"passed"}
    assert list(results(verdict)) == [
        "Form", "Algorithm", "Extensions", "Type", "Key", "Signature", "Claims", "Issuer", "Audience", "Expiry",
        "Not before", "Subject, client and id", "Scope", "Binding", "Revocation", "Demanded scope",
    ]  # fmt: skip
    assert verdict.issued is not None
    assert verdict.issued.client_id == "c"
    assert json.loads(verdict.claims or "")["iss"] == ISSUER


@pytest.mark.parametrize(
    ("token", "reason", "failed"),
    [
        (made(iss="https://other.example"), "issuer", "Issuer"),
        (made(iss="absent"), "issuer", "Issuer"),
        (made(aud="https://other.example"), "audience", "Audience"),
        (made(aud=[]), "audience", "Audience"),
        (made(exp=NOW), "expired", "Expiry"),
        (made(exp="soon"), "malformed", "Expiry"),
        (made(exp="absent"), "malformed", "Expiry"),
        (made(iat=NOW + 5), "not_yet_valid", "Not before"),
        (made(nbf=NOW + 5), "not_yet_valid", "Not before"),
        (made(sub=""), "malformed", "Subject, client and id"),
        (made(jti=7), "malformed", "Subject, client and id"),
        (made(scope='a"b'), "scope", "Scope"),
        (made(cnf={"jkt": "x"}), "bound", "Binding"),
        (made(x=json.loads("[" * 17 + "]" * 17)), "malformed", "Claims"),
        (made(x="x" * 12_000), "too_large", "Form"),
        (made(header={"typ": "JWT"}), "type", "Type"),
        (made(header={"typ": "at+jwt", "cty": "JWT"}), "type", "Type"),
        (made(key=STRANGER), "unknown_key", "Key"),
        (made()[:-4] + "AAAA", "signature", "Signature"),
        (bare({"alg": "none", "typ": "at+jwt"}), "algorithm", "Algorithm"),
        (bare({"alg": "HS256", "typ": "at+jwt"}), "algorithm", "Algorithm"),
        (bare({"typ": "at+jwt"}), "algorithm", "Algorithm"),
        (bare({"alg": "ES256", "typ": "at+jwt", "crit": ["x"]}), "critical", "Extensions"),
        (bare({"alg": "ES256", "typ": "at+jwt", "kid": 7}), "malformed", "Key"),
        ("nonsense", "malformed", "Form"),
        ("a.b.c", "malformed", "Form"),
        ("", "malformed", "Form"),
        ("a" * (MAX_TOKEN_BYTES + 1), "too_large", "Form"),
    ],
)
def test_what_is_wrong_is_what_fails(token: str, reason: str, failed: str) -> None:
    verdict = examine(token, SERVER, now=NOW)
    assert (verdict.accepted, verdict.reason) == (False, reason)
    assert [name for name, result in results(verdict).items() if result == "failed"] == [failed]
    detail = next(check.detail for check in verdict.checks if check.name == failed)
    assert detail.strip()
    assert len(detail) < 1000


def test_claims_are_looked_at_though_the_signature_is_wrong() -> None:
    verdict = examine(made(exp=NOW - 1, key=STRANGER), SERVER, now=NOW)
    assert results(verdict) | {"Key": "failed", "Signature": "skipped", "Expiry": "failed"} == results(verdict)


def test_revocation_audience_and_scope() -> None:
    server = Authority(CONFIG, [KEY])
    token, other = issue(server, scope="orders:read"), issue(server, resource=REPORTS)
    server.revoke_token_id(examine(token, server, now=NOW).issued.token_id)  # type: ignore[union-attr]  # it was issued
    assert examine(token, server, now=NOW).reason == "revoked"
    assert results(examine(token, server, now=NOW))["Revocation"] == "failed"
    assert examine(other, server, now=NOW, audience=API).reason == "audience"
    assert examine(other, server, now=NOW, audience=REPORTS).accepted
    lacking = examine(other, server, now=NOW, scope=("orders:read", "admin"))
    assert (lacking.reason, results(lacking)["Demanded scope"]) == ("insufficient_scope", "failed")
    server.revoke_client("c")
    assert examine(other, server, now=NOW).reason == "revoked"


def test_opaque_tokens() -> None:
    server = Authority(CONFIG, [KEY])
    token = issue(server, "o")
    assert examine(token, server, now=NOW).accepted
    assert examine(token, server, now=NOW + 3600).reason == "expired"
    assert results(examine(token, server, now=NOW + 3600))["Expiry"] == "failed"
    assert examine(token, server, now=NOW, audience=REPORTS).reason == "audience"
    server.revoke_client("o")
    assert examine(token, server, now=NOW).reason == "revoked"
    unknown = examine("opaque-unknown", server, now=NOW)
    assert results(unknown) == {"Form": "failed", "Revocation": "skipped"}


def test_retired_and_forgotten_keys() -> None:
    server = Authority(CONFIG, [new_signing_key()])
    token = issue(server)
    server.rotate(new_signing_key())
    assert "retired" in next(check.detail for check in examine(token, server, now=NOW).checks if check.name == "Key")
    server.rotate(new_signing_key(), forget_old=True)
    assert examine(token, server, now=NOW).reason == "unknown_key"


VALUES: Any = (
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5) | st.just("absent")
    | st.sampled_from([NOW, NOW + 60, NOW - 60, ISSUER, API, REPORTS, "orders:read", [API], [REPORTS, 7]])
)  # fmt: skip
CLAIMS = st.dictionaries(
    st.sampled_from(["iss", "aud", "exp", "iat", "nbf", "sub", "client_id", "jti", "scope", "cnf", "nonce"]),
    VALUES,
    max_size=3,
)
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "typ", "cty", "kid", "crit", "b64", "x"]),
    st.sampled_from(["ES256", "at+jwt", "JWT", "none", KEY.kid, STRANGER.kid, "", 7, None, ["exp"], True]),
    max_size=4,
)


def signed(header: dict[str, Any], claims: dict[str, Any], tamper: int) -> str:
    full = {
        name: value
        for name, value in {"alg": "ES256", "kid": KEY.kid, "typ": "at+jwt", **header}.items()
        if value != ""
    }
    text = f"{b64url_encode(json.dumps(full).encode())}.{b64url_encode(json.dumps(good_claims(**claims)).encode())}"
    token = f"{text}.{b64url_encode(KEY.sign(text.encode()))}"
    if tamper:
        place = tamper % len(token)
        token = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
    return token


@given(HEADERS, CLAIMS, st.just(0) | st.integers(1, 500), st.floats(-1e3, 4e9) | st.just(NOW))
def test_the_checks_say_what_the_verifier_says(
    header: dict[str, Any], claims: dict[str, Any], tamper: int, now: float
) -> None:
    """All pass exactly when the token is accepted; otherwise the first that fails is what the verifier names."""
    token = signed(header, claims, tamper)
    reason = None
    try:
        verify_access_token(token, SERVER.key_set(), SERVER.policy(), now=now)
    except InvalidTokenError as error:
        reason = error.reason
    verdict = examine(token, SERVER, now=now)
    assert verdict.reason == reason
    assert verdict.accepted == (set(results(verdict).values()) == {"passed"})
    if reason is not None:
        assert "failed" in results(verdict).values()


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: urlsafe_b64encode(raw).decode() + ".e30.AA"))
def test_any_text_is_examined(text: str) -> None:
    verdict = examine(text, SERVER, now=NOW, audience=text or None, scope=(text,))
    assert not verdict.accepted
    assert "failed" in results(verdict).values()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "in 0 s"),
        (59.6, "in 1 min"),
        (3599, "in 59 min 59 s"),
        (-7200, "2 h ago"),
        (90061, "in 1 d 1 h"),
        (-1, "1 s ago"),
    ],
)
def test_how_far_away(seconds: float, text: str) -> None:
    assert distance(seconds) == text


def test_times_at_the_edge() -> None:
    assert clock_time(0) == "1970-01-01 00:00:00 UTC"
    assert clock_time(-5) == clock_time(0)
    assert clock_time(1e18) == "9999-12-31 23:59:59 UTC"
    assert dataclasses.is_dataclass(Verdict)
