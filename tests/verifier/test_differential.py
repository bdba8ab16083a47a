"""Beside joserfc and PyJWT on tokens that were changed at random: what we accept, both accept, and it says the same."""

from __future__ import annotations

import base64
import json
import warnings
from typing import Any

import jwt as pyjwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwk as joserfc_jwk
from joserfc import jws as joserfc_jws
from joserfc.errors import JoseError

from accredit.core.access_token import AccessTokenPolicy, verify_access_token
from accredit.core.jose import SigningKey, import_public_jwk, sign_jws
from accredit.core.jwks import KeySet
from accredit.errors import InvalidTokenError
from tests.verifier.support import API, ISSUER, claims_of, key_of

NOW = 1_700_000_000
ALGORITHMS = ("ES256", "RS256", "PS256", "EdDSA")
POLICY = AccessTokenPolicy(issuer=ISSUER, audience=(API,), algorithms=ALGORITHMS)
KEYS = {algorithm: key_of(algorithm, algorithm) for algorithm in ALGORITHMS}
ALPHABET = "ABCXYZabcxyz019-_=+/. \n!é"


def ours(key: SigningKey, token: str) -> dict[str, Any] | None:
    try:
        verified = verify_access_token(token, KeySet((import_public_jwk(key.public_jwk),)), POLICY, now=NOW)
    except InvalidTokenError:
        return None
    plain: dict[str, Any] = json.loads(json.dumps(verified.claims, default=dict))
    return plain


def of_joserfc(key: SigningKey, token: str) -> dict[str, Any] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # It warns of EdDSA, which RFC 9864 gave another name.
            imported = joserfc_jwk.import_key(dict(key.public_jwk))
            found = joserfc_jws.deserialize_compact(token, imported, algorithms=[key.algorithm]).payload
        return dict(json.loads(found))
    except (JoseError, ValueError, TypeError):
        return None


def of_pyjwt(key: SigningKey, token: str) -> dict[str, Any] | None:
    names = ("signature", "exp", "nbf", "iat", "aud", "iss")
    options: Any = {f"verify_{name}": name == "signature" for name in names}
    try:
        imported = pyjwt.PyJWK.from_dict(dict(key.public_jwk))
        return dict(pyjwt.decode(token, imported, algorithms=[key.algorithm], options=options))
    except (pyjwt.PyJWTError, ValueError, TypeError):
        return None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_good_is_good_for_all(algorithm: str) -> None:
    key = KEYS[algorithm]
    claims = claims_of(NOW)
    token = sign_jws(json.dumps(claims).encode(), key, header={"typ": "at+jwt"})
    assert ours(key, token) == of_joserfc(key, token) == of_pyjwt(key, token) == claims


@st.composite
def changed(draw: st.DrawFn) -> tuple[str, str, bool]:
    """Draw an algorithm, and a good token of it in which some characters were cut out, put in or replaced."""
    algorithm = draw(st.sampled_from(ALGORITHMS))
    token = sign_jws(json.dumps(claims_of(NOW)).encode(), KEYS[algorithm], header={"typ": "at+jwt"})
    text = token
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.integers(0, 3))
        text = text[:at] + draw(st.text(ALPHABET, max_size=3)) + text[at + cut :]
    return algorithm, text, text == token


@given(changed())
@settings(max_examples=400)
def test_a_token_that_was_changed(drawn: tuple[str, str, bool]) -> None:
    algorithm, token, same = drawn
    key = KEYS[algorithm]
    found = ours(key, token)
    assert (
        found is not None
    ) == same  # No second text of a token is accepted; ECDSA twins need more than three letters.
    if found is not None:
        assert found == of_joserfc(key, token) == of_pyjwt(key, token)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from([NOW, NOW + 50, ISSUER, API, "at+jwt", "JWT", "a b"]),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)


@given(
    st.sampled_from(ALGORITHMS),
    st.dictionaries(st.sampled_from(["typ", "cty"]), VALUES, max_size=2),
    st.dictionaries(st.sampled_from([*claims_of(0), "nbf", "cnf", "azp"]), VALUES, max_size=3),
)
@settings(max_examples=300)
def test_a_token_that_says_something_else(algorithm: str, header: dict[str, Any], changes: dict[str, Any]) -> None:
    """They verify signatures alone here; so what we accept must be a part of what they accept."""
    key = KEYS[algorithm]
    claims = {**claims_of(NOW), **changes}
    token = sign_jws(json.dumps(claims).encode(), key, header={"typ": "at+jwt", **header})
    found = ours(key, token)
    if found is not None:
        assert found == claims == of_joserfc(key, token) == of_pyjwt(key, token)
        assert found["iss"] == ISSUER
        assert API in ([found["aud"]] if isinstance(found["aud"], str) else found["aud"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_where_we_are_stricter_on_purpose(algorithm: str) -> None:
    """Tokens with a good signature that at least one of the others takes as it is configured by default."""
    key = KEYS[algorithm]

    def signed(header: bytes, payload: bytes) -> str:
        parts = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (header, payload)]
        text = ".".join(parts)
        return f"{text}.{base64.urlsafe_b64encode(key.sign(text.encode())).rstrip(b'=').decode()}"

    name = algorithm.encode()
    good = json.dumps(claims_of(NOW)).encode()
    head = b'{"alg":"' + name + b'","typ":"at+jwt"}'
    cases = {
        "a claim twice": (head, good[:-1] + b',"iss":"https://evil.example"}'),
        "exp as a text": (head, json.dumps(claims_of(NOW, exp=str(NOW + 60))).encode()),
        "another typ": (b'{"alg":"' + name + b'","typ":"logout+jwt"}', good),
        "alg twice": (b'{"alg":"none","alg":"' + name + b'","typ":"at+jwt"}', good),
    }
    lax = 0
    for header, payload in cases.values():
        token = signed(header, payload)
        assert ours(key, token) is None
        lax += of_pyjwt(key, token) is not None or of_joserfc(key, token) is not None
    assert lax >= 3
    assert ours(key, signed(head, good)) == json.loads(good)
