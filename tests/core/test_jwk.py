"""JWK import and thumbprints, and JWK sets: what is a key for signatures, and what is not."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.jose import JwkError, import_private_jwk, import_private_pem, import_public_jwk
from accredit.core.jwks import MAX_JWKS_BYTES, JwksPolicy, KeySet, parse_jwks
from accredit.core.strict import b64url_decode, b64url_encode
from accredit.errors import ConfigurationError, MalformedResponseError

# RFC 7638, section 3.1
RSA_JWK = {
    "kty": "RSA",
    "n": (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3"
        "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdA"
        "ZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-"
        "kEgU8awapJzKnqDKgw"
    ),
    "e": "AQAB",
    "alg": "RS256",
    "kid": "2011-04-29",
}
EC_JWK = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
EC_D = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"
ED_JWK = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
ED_P = 2**255 - 19


def number(value: int) -> str:
    """Return the Base64urlUInt of a number (RFC 7518, section 2)."""
    return b64url_encode(value.to_bytes((value.bit_length() + 7) // 8 or 1, "big"))


def ed_point(y: int, *, sign: bool = False) -> str:
    """Return the encoding of an Ed25519 point with that y."""
    return b64url_encode((y | sign << 255).to_bytes(32, "little"))


def order_eight_y() -> list[int]:
    """Compute the y of the points of order 8 from the curve equation: doubling gives (±sqrt(-1), 0), so y² = -x²."""
    d = -121665 * pow(121666, -1, ED_P) % ED_P
    # -x² + y² = 1 + d x² y² with x² = -y²:  2 y² = 1 - d y⁴;  z = y²:  d z² + 2 z - 1 = 0
    root = square_root((1 + d) % ED_P)
    found = []
    for z in ((-1 + root) * pow(d, -1, ED_P) % ED_P, (-1 - root) * pow(d, -1, ED_P) % ED_P):
        y = square_root(z)
        if y * y % ED_P == z:
            found += [y, ED_P - y]
    return found


def square_root(value: int) -> int:
    """Return a candidate for the square root modulo 2**255 - 19."""
    root = pow(value, (ED_P + 3) // 8, ED_P)
    return root if root * root % ED_P == value else root * pow(2, (ED_P - 1) // 4, ED_P) % ED_P


class TestThumbprint:
    """RFC 7638."""

    def test_figure(self) -> None:
        """Section 3.1."""
        assert import_public_jwk(RSA_JWK).thumbprint == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"

    def test_required_members_only(self) -> None:
        """Order and other members make no difference."""
        shuffled = dict(reversed(RSA_JWK.items())) | {"use": "sig", "x": "whatever", "alg": "PS256", "kid": "other"}
        assert import_public_jwk(shuffled).thumbprint == import_public_jwk(RSA_JWK).thumbprint
        assert import_public_jwk(EC_JWK | {"d": EC_D}).thumbprint == import_public_jwk(EC_JWK).thumbprint


REFUSED: Mapping[str, dict[str, object]] = {
    "no kty": {},
    "kty list": {"kty": ["EC"]},
    "symmetric": {"kty": "oct", "k": "c2VjcmV0"},
    "alg none": {**EC_JWK, "alg": "none"},
    "alg HS256 on an RSA key": {**RSA_JWK, "alg": "HS256"},
    "alg of another curve": {**EC_JWK, "alg": "ES384"},
    "alg number": {**EC_JWK, "alg": 7},
    "alg EdDSA on EC": {**EC_JWK, "alg": "EdDSA"},
    "for encryption": {**EC_JWK, "use": "enc"},
    "use number": {**EC_JWK, "use": 1},
    "key_ops without verify": {**EC_JWK, "key_ops": ["encrypt"]},
    "key_ops sign of a public key": {**EC_JWK, "key_ops": ["sign"]},
    "key_ops text": {**EC_JWK, "key_ops": "verify"},
    "kid number": {**EC_JWK, "kid": 1},
    "kid long": {**EC_JWK, "kid": "k" * 257},
    "EC unknown curve": {**EC_JWK, "crv": "secp256k1"},
    "EC no curve": {"kty": "EC", "x": EC_JWK["x"], "y": EC_JWK["y"]},
    "EC curve list": {**EC_JWK, "crv": ["P-256"]},
    "EC no y": {"kty": "EC", "crv": "P-256", "x": EC_JWK["x"]},
    "EC off the curve": {**EC_JWK, "y": EC_JWK["x"]},
    "EC infinity": {**EC_JWK, "x": b64url_encode(bytes(32)), "y": b64url_encode(bytes(32))},
    "EC short coordinate": {**EC_JWK, "x": b64url_encode(b64url_decode(EC_JWK["x"])[1:])},
    "EC long coordinate": {**EC_JWK, "x": b64url_encode(b"\0" + b64url_decode(EC_JWK["x"]))},
    "EC x above the prime": {**EC_JWK, "x": b64url_encode(b"\xff" * 32)},
    "EC padding": {**EC_JWK, "x": EC_JWK["x"] + "="},
    "EC x number": {**EC_JWK, "x": 5},
    "EC x empty": {**EC_JWK, "x": ""},
    "EC x huge": {**EC_JWK, "x": "A" * 5000},
    "EC P-521 with P-256 coordinates": {**EC_JWK, "crv": "P-521"},
    "RSA 1023 bits": {**RSA_JWK, "n": number((1 << 1023) - 1)},
    "RSA 2047 bits": {**RSA_JWK, "n": number((1 << 2047) - 1)},
    "RSA 8193 bits": {**RSA_JWK, "n": number((1 << 8193) - 1)},
    "RSA 16384 bits": {**RSA_JWK, "n": number((1 << 16384) - 1)},
    "RSA even modulus": {**RSA_JWK, "n": number(1 << 2047)},
    "RSA leading zero": {**RSA_JWK, "n": b64url_encode(b"\0" + b64url_decode(RSA_JWK["n"]))},
    "RSA e=1": {**RSA_JWK, "e": number(1)},
    "RSA e=2": {**RSA_JWK, "e": number(2)},
    "RSA e=0": {**RSA_JWK, "e": "AA"},
    "RSA e even": {**RSA_JWK, "e": number(65536)},
    "RSA e huge": {**RSA_JWK, "e": number((1 << 64) + 1)},
    "RSA no e": {"kty": "RSA", "n": RSA_JWK["n"]},
    "OKP X25519": {**ED_JWK, "crv": "X25519"},
    "OKP Ed448": {**ED_JWK, "crv": "Ed448"},
    "OKP short": {**ED_JWK, "x": b64url_encode(bytes(31))},
    "OKP order 4": {**ED_JWK, "x": ed_point(0)},
    "OKP order 1": {**ED_JWK, "x": ed_point(1)},
    "OKP order 1, sign bit": {**ED_JWK, "x": ed_point(1, sign=True)},
    "OKP order 2": {**ED_JWK, "x": ed_point(ED_P - 1)},
    "OKP zero again, not canonical": {**ED_JWK, "x": ed_point(ED_P)},
    "OKP one again, not canonical": {**ED_JWK, "x": ed_point(ED_P + 1)},
    **{f"OKP order 8, {index}": {**ED_JWK, "x": ed_point(y)} for index, y in enumerate(order_eight_y())},
}


class TestPublicKeys:
    """Keys of others."""

    def test_order_eight_points_were_computed(self) -> None:
        """The rows of order 8 are there: two values of y."""
        assert len(set(order_eight_y())) == 2

    @pytest.mark.parametrize("name", REFUSED)
    def test_refused(self, name: str) -> None:
        """Each is refused, with a message that repeats no value."""
        with pytest.raises(JwkError) as caught:
            import_public_jwk(REFUSED[name])
        assert str(REFUSED[name].get("x") or "?") not in str(caught.value)

    def test_weak_generator(self) -> None:
        """A modulus with the fingerprint of CVE-2017-15361: a power of 65537 modulo each small prime."""
        product = 1
        for prime in (p for p in range(3, 168) if all(p % q for q in range(2, p))):
            product *= prime
        modulus = pow(65537, 123456789, product)
        modulus += product * ((1 << 2047) // product + 1)
        modulus += product * (modulus % 2 == 0)
        with pytest.raises(JwkError, match="CVE-2017-15361"):
            import_public_jwk({**RSA_JWK, "n": number(modulus)})

    def test_algorithms(self) -> None:
        """Each key has one: its own, the given one, or that of its curve; RS256 for RSA when nobody says."""
        plain = {name: RSA_JWK[name] for name in ("kty", "n", "e")}
        assert import_public_jwk(plain).algorithm == "RS256"
        assert import_public_jwk(plain, algorithm="PS384").algorithm == "PS384"
        assert import_public_jwk(RSA_JWK, algorithm="PS384").algorithm == "RS256"
        assert import_public_jwk(EC_JWK).algorithm == "ES256"
        assert import_public_jwk(ED_JWK).algorithm == "EdDSA"
        assert import_public_jwk({**ED_JWK, "alg": "Ed25519"}).algorithm == "EdDSA"

    def test_uses(self) -> None:
        """What may verify."""
        assert import_public_jwk({**EC_JWK, "use": "sig", "key_ops": ["verify"], "kid": ""}).kid == ""
        both = import_public_jwk({**EC_JWK, "d": EC_D, "key_ops": ["sign"]})
        assert both.had_private_part

    def test_private_part_is_not_loaded(self) -> None:
        """The private part of a published key is not even looked at."""
        key = import_public_jwk({**EC_JWK, "d": 5})
        assert key.had_private_part
        assert not hasattr(key._key, "private_numbers")


def pem_of(key: object, password: bytes | None = None) -> bytes:
    """Return the PKCS #8 form."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, encryption)  # type: ignore[attr-defined, no-any-return]


class TestPrivateKeys:
    """Keys of our own: their faults are configuration faults."""

    @pytest.mark.parametrize(
        "members",
        [
            EC_JWK,
            {**EC_JWK, "d": number(1)},
            {**EC_JWK, "d": b64url_encode(bytes(32))},
            {**EC_JWK, "d": b64url_encode(bytes(31) + b"\x05")},
            {**ED_JWK, "d": b64url_encode(bytes(32))},
            {**ED_JWK, "d": b64url_encode(bytes(31))},
            {**RSA_JWK, "d": "AQAB"},
            {**RSA_JWK, **dict.fromkeys(("p", "q", "d", "dp", "dq", "qi"), "AQAB")},
            {**EC_JWK, "d": EC_D, "alg": "RS256"},
            {**EC_JWK, "d": EC_D, "kid": 7},
            {"kty": "oct", "k": "c2VjcmV0"},
        ],
    )
    def test_refused_jwk(self, members: dict[str, object]) -> None:
        """Missing, foreign and malformed private parts."""
        with pytest.raises(ConfigurationError) as caught:
            import_private_jwk(members)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None

    def test_pem(self) -> None:
        """PEM, with and without passphrase; the key id is the thumbprint unless given."""
        key = ec.generate_private_key(ec.SECP384R1())
        loaded = import_private_pem(pem_of(key))
        assert (loaded.algorithm, loaded.kid) == ("ES384", loaded.thumbprint)
        assert import_private_pem(pem_of(key, b"pass"), password=b"pass", kid="mine").kid == "mine"

    @pytest.mark.parametrize(
        ("pem", "password", "algorithm"),
        [
            (b"", None, None),
            (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", None, None),
            (pem_of(ed25519.Ed25519PrivateKey.generate(), b"pass"), None, None),
            (pem_of(ed25519.Ed25519PrivateKey.generate(), b"pass"), b"wrong", None),
            (pem_of(ed25519.Ed25519PrivateKey.generate()), b"needless", None),
            (pem_of(ed448.Ed448PrivateKey.generate()), None, None),
            (pem_of(ec.generate_private_key(ec.SECP256K1())), None, None),
            (pem_of(rsa.generate_private_key(65537, 1024)), None, None),
            (pem_of(ec.generate_private_key(ec.SECP256R1())), None, "RS256"),
        ],
    )
    def test_refused_pem(self, pem: bytes, password: bytes | None, algorithm: str | None) -> None:
        """No key, a wrong passphrase, a kind or size that does not sign tokens."""
        with pytest.raises(ConfigurationError) as caught:
            import_private_pem(pem, password=password, algorithm=algorithm)
        assert caught.value.__context__ is None


def jwks(*members: object) -> bytes:
    """Return a JWKS document."""
    return json.dumps({"keys": members}).encode()


class TestKeySets:
    """RFC 7517, section 5."""

    def test_bad_members_are_skipped(self) -> None:
        """One bad key does not take the good ones away."""
        found = parse_jwks(jwks({"kty": "oct", "k": "AA"}, EC_JWK, "text", None, {**EC_JWK, "y": "AA"}, RSA_JWK))
        assert [key.algorithm for key in found.keys] == ["ES256", "RS256"]
        assert (found.skipped, found.private) == (4, 0)

    def test_private_material(self) -> None:
        """It is counted, and only the public part is loaded."""
        found = parse_jwks(jwks({**EC_JWK, "d": EC_D}))
        assert (len(found.keys), found.private) == (1, 1)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b"[]",
            b"{}",
            b'{"keys":{}}',
            b'{"keys":[]}',
            b'{"keys":null}',
            jwks("text", {}),
            jwks(*[EC_JWK] * 101),
            jwks(EC_JWK) + b" " * MAX_JWKS_BYTES,
            b'{"keys":[],"keys":[]}',
            b"[" * 100_000,
        ],
    )
    def test_refused_documents(self, body: bytes) -> None:
        """No document, too large, or nothing usable in it."""
        with pytest.raises(MalformedResponseError) as caught:
            parse_jwks(body, endpoint="https://as.example/jwks")
        assert caught.value.endpoint == "https://as.example/jwks"

    def test_select(self) -> None:
        """By key id and algorithm; without key id the keys of that algorithm, at most four."""
        found = parse_jwks(jwks({**EC_JWK, "kid": "same"}, {**RSA_JWK, "kid": "same"}, {**RSA_JWK, "alg": "PS256"}))
        assert [key.algorithm for key in found.select(algorithm="RS256", kid="same")] == ["RS256"]
        assert found.select(algorithm="RS256", kid="Same") == ()
        assert found.select(algorithm="EdDSA", kid=None) == ()
        assert len(found.select(algorithm="PS256", kid=None)) == 1
        many = KeySet(tuple(import_public_jwk({**EC_JWK, "kid": str(index)}) for index in range(9)))
        assert [key.kid for key in many.select(algorithm="ES256", kid=None)] == ["0", "1", "2", "3"]

    def test_both_names_of_ed25519(self) -> None:
        """The token may use the other name."""
        assert len(parse_jwks(jwks(ED_JWK)).select(algorithm="Ed25519", kid=None)) == 1

    def test_ages(self) -> None:
        """When to fetch again: the limits hold, whatever the server says."""
        policy = JwksPolicy(cool_down=30, min_age=300, max_age=1000, max_stale=500)
        assert not policy.renewal_due(fetched_at=0, now=299, server_max_age=0)
        assert policy.renewal_due(fetched_at=0, now=300, server_max_age=0)
        assert policy.renewal_due(fetched_at=0, now=300)
        assert not policy.renewal_due(fetched_at=0, now=999, server_max_age=31_536_000)
        assert policy.renewal_due(fetched_at=0, now=1000, server_max_age=31_536_000)
        assert policy.usable(fetched_at=0, now=1500)
        assert not policy.usable(fetched_at=0, now=1501)
        assert policy.may_fetch_for_unknown_key(last_attempt=None, now=0)
        assert not policy.may_fetch_for_unknown_key(last_attempt=0, now=29)
        assert policy.may_fetch_for_unknown_key(last_attempt=0, now=30)


VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=60) | st.lists(st.text(), max_size=3)
NAMES = st.sampled_from(["kty", "crv", "x", "y", "n", "e", "d", "alg", "use", "key_ops", "kid", "x5c"])


@given(st.sampled_from([EC_JWK, RSA_JWK, ED_JWK]), st.dictionaries(NAMES, VALUES, max_size=4))
def test_any_member_is_decided(base: dict[str, str], changes: dict[str, object]) -> None:
    """Any members give a key with an algorithm or a JwkError."""
    try:
        key = import_public_jwk({**base, **changes})
    except JwkError:
        return
    assert key.algorithm in {"ES256", "ES384", "ES512", "EdDSA"} or key.algorithm[:2] in {"RS", "PS"}
