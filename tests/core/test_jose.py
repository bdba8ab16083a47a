"""Compact JWS: the RFC figures, what must be refused, and agreement with two other libraries."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwk as joserfc_jwk
from joserfc import jws as joserfc_jws

from accredit.core.jose import (
    ALGORITHMS,
    MAX_TOKEN_BYTES,
    SigningKey,
    VerificationKey,
    import_private_jwk,
    import_private_pem,
    import_public_jwk,
    parse_jws,
    sign_jws,
    verify_jws,
)
from accredit.core.strict import b64url_decode, b64url_encode
from accredit.errors import ConfigurationError, InvalidTokenError

# RFC 7515, appendix A.3
A3_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
}
A3_TOKEN = (
    "eyJhbGciOiJFUzI1NiJ9"
    ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
)
# RFC 8037, appendix A
ED_KEY = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
ED_TOKEN = (
    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    ".hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
RSA_KEY = rsa.generate_private_key(65537, 2048)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def pem_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    """Return the PKCS #8 form."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def new_key(algorithm: str) -> SigningKey:
    """Return a key for the algorithm (all RSA ones share their modulus)."""
    if algorithm in CURVES:
        return import_private_pem(pem_of(ec.generate_private_key(CURVES[algorithm])))
    if algorithm == "EdDSA":
        return import_private_pem(pem_of(ed25519.Ed25519PrivateKey.generate()))
    return import_private_pem(pem_of(RSA_KEY), algorithm=algorithm)


SIGNING = {
    name: new_key(name)
    for name in ("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA")
}
ES256 = SIGNING["ES256"]


def public(key: SigningKey) -> VerificationKey:
    """Return the verification key, imported from the published JWK."""
    return import_public_jwk(key.public_jwk)


def verify(token: str, *keys: VerificationKey, algorithms: frozenset[str] = ALGORITHMS) -> bytes:
    """Parse and verify."""
    return verify_jws(parse_jws(token, algorithms=algorithms), keys)


def reason_of(token: str, *keys: VerificationKey, algorithms: frozenset[str] = ALGORITHMS) -> str:
    """Return why the token is refused."""
    with pytest.raises(InvalidTokenError) as caught:
        verify(token, *keys, algorithms=algorithms)
    return caught.value.reason


def signed(header: bytes, payload: bytes = b"{}", key: SigningKey = ES256) -> str:
    """Sign a header that is given as bytes, whatever it is."""
    data = f"{b64url_encode(header)}.{b64url_encode(payload)}"
    return f"{data}.{b64url_encode(key.sign(data.encode()))}"


class TestFigures:
    """The examples of the RFCs."""

    def test_es256(self) -> None:
        """RFC 7515, appendix A.3."""
        assert json.loads(verify(A3_TOKEN, import_public_jwk(A3_KEY)))["iss"] == "joe"

    def test_es256_private_key(self) -> None:
        """The private key of appendix A.3 signs, and its published part has no private member."""
        key = import_private_jwk(A3_KEY)
        assert verify(sign_jws(b"payload", key), public(key)) == b"payload"
        assert "d" not in key.public_jwk

    def test_ed25519(self) -> None:
        """RFC 8037, appendices A.3 to A.5: thumbprint and signature."""
        key = import_public_jwk(ED_KEY)
        assert key.thumbprint == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        assert verify(ED_TOKEN, key) == b"Example of Ed25519 signing"

    def test_ed25519_signature_is_deterministic(self) -> None:
        """RFC 8037, appendix A.4: our signature is the one of the figure."""
        key = import_private_jwk(ED_KEY | {"d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"})
        assert sign_jws(b"Example of Ed25519 signing", key) == ED_TOKEN


class TestAgreement:
    """What we sign, others verify; what they sign, we verify."""

    @pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")
    @pytest.mark.parametrize("algorithm", sorted(SIGNING))
    def test_joserfc(self, algorithm: str) -> None:
        """Both ways with joserfc."""
        key = SIGNING[algorithm]
        token = sign_jws(b"payload", key, header={"typ": "at+jwt"})
        theirs = joserfc_jwk.import_key(json.loads(json.dumps(dict(key.public_jwk))))
        got = joserfc_jws.deserialize_compact(token, theirs, algorithms=[algorithm])
        assert (got.payload, got.headers()["typ"]) == (b"payload", "at+jwt")
        private = joserfc_jwk.import_key(json.loads(json.dumps(private_members(key))))
        back = joserfc_jws.serialize_compact({"alg": algorithm}, b"payload", private, algorithms=[algorithm])
        assert verify(back, public(key)) == b"payload"
        assert theirs.thumbprint() == key.thumbprint

    @pytest.mark.parametrize("algorithm", sorted(SIGNING))
    def test_pyjwt(self, algorithm: str) -> None:
        """Both ways with PyJWT."""
        key = SIGNING[algorithm]
        theirs = pyjwt.PyJWK.from_dict(dict(key.public_jwk))
        token = sign_jws(b"payload", key)
        assert pyjwt.PyJWS().decode(token, theirs, algorithms=[algorithm]) == b"payload"
        private = pyjwt.PyJWK.from_dict(private_members(key))
        back = pyjwt.PyJWS().encode(b"payload", private.key, algorithm)
        assert verify(back, public(key)) == b"payload"

    @pytest.mark.parametrize("algorithm", sorted(SIGNING))
    def test_private_jwk(self, algorithm: str) -> None:
        """A private JWK comes back as the key it was."""
        key = import_private_jwk(private_members(SIGNING[algorithm]))
        assert (key.thumbprint, key.algorithm) == (SIGNING[algorithm].thumbprint, algorithm)
        assert verify(sign_jws(b"x", key), public(SIGNING[algorithm])) == b"x"


def private_members(key: SigningKey) -> dict[str, str]:
    """Return the private JWK, made by another library from the key object."""
    native = key._key
    if isinstance(native, ec.EllipticCurvePrivateKey):
        text = pyjwt.algorithms.ECAlgorithm.to_jwk(native)
    elif isinstance(native, rsa.RSAPrivateKey):
        text = pyjwt.algorithms.RSAAlgorithm.to_jwk(native)
    else:
        text = pyjwt.algorithms.OKPAlgorithm.to_jwk(native)
    members: dict[str, str] = json.loads(text)
    members.pop("key_ops", None)
    return members | {"alg": key.algorithm}


class TestForm:
    """What is not a compact JWS."""

    @pytest.mark.parametrize(
        "token",
        ["", ".", "..", "a.b", "a.b.c.d", "a.b.c.d.e.f", ".e30.AA", "e30..AA", "e30.e30.", "é.e30.AA", '{"payload":1}'],
    )
    def test_segments(self, token: str) -> None:
        """Exactly three segments, none of them empty, ASCII."""
        assert reason_of(token, public(ES256)) == "malformed"

    @pytest.mark.parametrize("junk", ["=", "+", "/", " ", "\n", "!", "%"])
    @pytest.mark.parametrize("segment", [0, 1, 2])
    def test_base64url(self, junk: str, segment: int) -> None:
        """Strict base64url everywhere."""
        parts = A3_TOKEN.split(".")
        parts[segment] += junk
        assert reason_of(".".join(parts), import_public_jwk(A3_KEY)) == "malformed"

    def test_second_spelling_of_a_signature(self) -> None:
        """Bits left over must be zero: a token has one spelling only."""
        assert A3_TOKEN.endswith("1Q")
        assert reason_of(A3_TOKEN[:-1] + "R", import_public_jwk(A3_KEY)) == "malformed"

    def test_size_is_checked_first(self) -> None:
        """A million dots are not split."""
        assert reason_of("." * 1_000_000, public(ES256)) == "too_large"
        assert reason_of("a" * (MAX_TOKEN_BYTES + 1), public(ES256)) == "too_large"

    def test_largest_token(self) -> None:
        """A token of just under the limit is accepted."""
        token = sign_jws(b"a" * 12000, ES256)
        assert len(token) <= MAX_TOKEN_BYTES
        assert verify(token, public(ES256)) == b"a" * 12000

    @pytest.mark.parametrize(
        "header",
        [
            b'{"alg":"ES256","alg":"ES256"}',
            b'{"alg":"ES256","\\u0061lg":"none"}',
            b'{"alg":"ES256","x":NaN}',
            b'{"alg":"ES256","x":' + b"[" * 5000 + b"]" * 5000 + b"}",
            b'["ES256"]',
            b'"ES256"',
            b'\xef\xbb\xbf{"alg":"ES256"}',
            '{"alg":"ES256"}'.encode("utf-16"),
            b'{"alg":"ES256"}x',
            b'{"alg":"ES256","kid":1}',
            b'{"alg":"ES256","kid":null}',
            b'{"alg":"ES256","kid":"' + b"k" * 257 + b'"}',
        ],
    )
    def test_header(self, header: bytes) -> None:
        """The header is one strict JSON object; the signature over all of these is right."""
        assert reason_of(signed(header), public(ES256)) == "malformed"

    @pytest.mark.parametrize("kid", ["", "../../etc/passwd", "' OR 1=1", "k" * 256])
    def test_kid_is_opaque(self, kid: str) -> None:
        """Any text is a key id."""
        jws = parse_jws(signed(json.dumps({"alg": "ES256", "kid": kid}).encode()), algorithms=["ES256"])
        assert jws.kid == kid


class TestAlgorithm:
    """The algorithm is the caller's and the key's choice, never the token's."""

    @pytest.mark.parametrize(
        "algorithm",
        ['"none"', '"None"', '"nOnE"', '""', "null", '["ES256"]', "1", '"HS256"', '"HS512"', '"es256"', '"ES256K"'],
    )
    def test_never_accepted(self, algorithm: str) -> None:
        """No ``none``, nothing symmetric, nothing unknown, even when the caller lists it."""
        token = signed(f'{{"alg":{algorithm}}}'.encode())
        listed = ALGORITHMS | {"none", "None", "nOnE", "", "HS256", "HS512", "es256", "ES256K"}
        assert reason_of(token, public(ES256), algorithms=listed) == "algorithm"

    def test_missing(self) -> None:
        """No ``alg`` at all."""
        assert reason_of(signed(b"{}"), public(ES256)) == "algorithm"

    def test_unsigned_token(self) -> None:
        """The classic: alg none and an empty signature."""
        head = b64url_encode(b'{"alg":"none"}')
        assert reason_of(f"{head}.e30.", public(ES256)) == "malformed"

    def test_a_list_that_names_none(self) -> None:
        """What is not known here is not accepted, whatever the caller's list says."""
        for algorithm in ("none", "HS256"):
            token = f"{b64url_encode(json.dumps({'alg': algorithm}).encode())}.e30.AAAA"
            with pytest.raises(InvalidTokenError) as caught:
                parse_jws(token, algorithms=("none", "HS256", "ES256"))
            assert caught.value.reason == "algorithm"

    def test_not_listed(self) -> None:
        """A good signature of an algorithm that the caller does not list."""
        assert reason_of(sign_jws(b"{}", ES256), public(ES256), algorithms=frozenset({"RS256"})) == "algorithm"

    @pytest.mark.parametrize("claimed", ["PS256", "RS384", "RS512", "ES256", "EdDSA"])
    def test_key_has_one_algorithm(self, claimed: str) -> None:
        """A token that names another algorithm than its key has is refused before any verification."""
        token = signed(json.dumps({"alg": claimed}).encode(), key=SIGNING["RS256"])
        assert reason_of(token, public(SIGNING["RS256"])) == "key"

    def test_no_keys(self) -> None:
        """Without keys nothing verifies."""
        assert reason_of(sign_jws(b"{}", ES256)) == "key"

    @pytest.mark.parametrize("name", ["EdDSA", "Ed25519"])
    def test_both_names_of_ed25519(self, name: str) -> None:
        """RFC 9864 gave EdDSA with that curve a name of its own; each must be listed to be accepted."""
        key = SIGNING["EdDSA"]
        token = signed(json.dumps({"alg": name}).encode(), key=key)
        assert verify(token, public(key), algorithms=frozenset({name})) == b"{}"
        assert reason_of(token, public(key), algorithms=frozenset({"EdDSA", "Ed25519"} - {name})) == "algorithm"

    @pytest.mark.parametrize("extra", ['"crit":["exp"]', '"crit":[]', '"b64":false', '"crit":["b64"],"b64":true'])
    def test_extensions(self, extra: str) -> None:
        """No extension is understood (RFC 7515, section 4.1.11; RFC 7797)."""
        assert reason_of(signed(f'{{"alg":"ES256",{extra}}}'.encode()), public(ES256)) == "critical"

    def test_keys_in_the_header_are_ignored(self) -> None:
        """A token cannot bring its own key."""
        attacker = new_key("ES256")
        header = {
            "alg": "ES256",
            "jwk": dict(attacker.public_jwk),
            "jku": "https://evil.example",
            "x5u": "x",
            "x5c": [],
        }
        token = signed(json.dumps(header).encode(), key=attacker)
        assert reason_of(token, public(ES256)) == "signature"
        assert verify(signed(json.dumps(header).encode()), public(ES256)) == b"{}"


def credulous(algorithm: str) -> VerificationKey:
    """Return a key that takes every signature for good which it is asked about."""
    real = ec.generate_private_key(ec.SECP256R1()).public_key() if algorithm == "ES256" else RSA_KEY.public_key()
    kind: Any = ec.EllipticCurvePublicKey if algorithm == "ES256" else rsa.RSAPublicKey

    class Credulous(kind):  # type: ignore[misc]  # the kind is known at run time only
        key_size = real.key_size

        def verify(self, *_: object) -> None:
            """Accept."""

        def _nothing(self, *_: object) -> None:
            raise NotImplementedError

    Credulous.__abstractmethods__ = frozenset()
    return VerificationKey(algorithm, None, "thumb", _key=Credulous())


class TestSignature:
    """Signatures that are nearly right."""

    @pytest.mark.parametrize("algorithm", sorted(SIGNING))
    def test_flipped_bit(self, algorithm: str) -> None:
        """One bit of signature, payload or header."""
        key = SIGNING[algorithm]
        head, body, tail = sign_jws(b'{"a":1}', key).split(".")
        raw = bytearray(b64url_decode(tail))
        raw[len(raw) // 2] ^= 1
        assert reason_of(f"{head}.{body}.{b64url_encode(bytes(raw))}", public(key)) == "signature"
        other = b64url_encode(b'{"a":2}')
        assert reason_of(f"{head}.{other}.{tail}", public(key)) == "signature"

    @pytest.mark.parametrize("algorithm", sorted(SIGNING))
    @pytest.mark.parametrize("change", ["shorter", "longer", "leading zero", "empty-ish"])
    def test_length(self, algorithm: str, change: str) -> None:
        """The length is exact."""
        key = SIGNING[algorithm]
        head, body, tail = sign_jws(b"{}", key).split(".")
        raw = b64url_decode(tail)
        wrong = {"shorter": raw[:-1], "longer": raw + b"\0", "leading zero": b"\0" + raw, "empty-ish": b"\0"}[change]
        assert reason_of(f"{head}.{body}.{b64url_encode(wrong)}", public(key)) == "signature"

    @pytest.mark.parametrize(
        ("r", "s"),
        [(0, 0), (0, 1), (1, 0), (P256_ORDER, P256_ORDER), (P256_ORDER, 1), (2**256 - 1, 2**256 - 1), (1, 1)],
    )
    def test_degenerate_ecdsa(self, r: int, s: int) -> None:
        """Zero and the order of the group (CVE-2022-21449)."""
        head, body, _ = sign_jws(b"{}", ES256).split(".")
        raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        assert reason_of(f"{head}.{body}.{b64url_encode(raw)}", public(ES256)) == "signature"

    def test_der_encoded_ecdsa(self) -> None:
        """JWS has raw signatures, not DER."""
        native = ES256._key
        assert isinstance(native, ec.EllipticCurvePrivateKey)
        head, body, _ = sign_jws(b"{}", ES256).split(".")
        der = native.sign(f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
        assert reason_of(f"{head}.{body}.{b64url_encode(der)}", public(ES256)) == "signature"

    def test_lengths_by_ourselves(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Even if the library below accepted anything at all."""
        for algorithm, good in (("ES256", 64), ("RS256", 256)):
            key = credulous(algorithm)
            assert key.verifies(b"x", b"\1" * good)
            for wrong in (good - 1, good + 1, good - 2, good + 2, 2 * good, 0):
                assert not key.verifies(b"x", b"\1" * wrong)

    def test_zeros_by_ourselves(self) -> None:
        key = credulous("ES256")
        for signature in (bytes(64), bytes(32) + b"\1" * 32, b"\1" * 32 + bytes(32)):
            assert not key.verifies(b"x", signature)

    def test_one_of_several_keys(self) -> None:
        """With several candidates one is enough, and each failure alone is none."""
        others = [public(new_key("ES256")) for _ in range(2)]
        token = sign_jws(b"{}", ES256)
        assert verify(token, *others, public(ES256)) == b"{}"
        assert reason_of(token, *others) == "signature"

    def test_message_is_the_same_for_every_fault_of_a_signature(self) -> None:
        """No oracle."""
        head, body, tail = sign_jws(b"{}", ES256).split(".")
        messages = set()
        for wrong in (b64url_encode(bytes(64)), b64url_encode(bytes(63)), tail[:-4] + "AAAA"):
            with pytest.raises(InvalidTokenError) as caught:
                verify(f"{head}.{body}.{wrong}", public(ES256))
            messages.add(str(caught.value))
        assert len(messages) == 1


class TestSigning:
    """Our own keys."""

    @pytest.mark.parametrize("name", ["alg", "crit", "b64"])
    def test_reserved_header_members(self, name: str) -> None:
        """The caller does not choose the algorithm by the header."""
        with pytest.raises(ConfigurationError):
            sign_jws(b"{}", ES256, header={name: "x"})

    def test_header(self) -> None:
        """The key id is that of the key unless the caller says otherwise."""
        assert parse_jws(sign_jws(b"{}", ES256), algorithms=["ES256"]).kid == ES256.thumbprint
        assert parse_jws(sign_jws(b"{}", ES256, header={"kid": "k"}), algorithms=["ES256"]).kid == "k"
        bare = import_private_jwk(A3_KEY)
        assert parse_jws(sign_jws(b"{}", bare), algorithms=["ES256"]).header == {"alg": "ES256"}

    def test_nothing_private_is_shown(self) -> None:
        """The repr of keys and of parsed tokens shows no private part, payload or signature."""
        assert A3_KEY["d"] not in repr(import_private_jwk(A3_KEY))
        assert "PrivateKey" not in repr(ES256)
        assert A3_TOKEN.split(".")[2] not in repr(parse_jws(A3_TOKEN, algorithms=["ES256"]))


@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_are_refused(header: bytes, payload: bytes, signature: bytes) -> None:
    """Whatever the segments hold, the answer is an InvalidTokenError."""
    token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (header, payload, signature))
    with pytest.raises(InvalidTokenError):
        verify(token, public(ES256))


@given(st.text(max_size=300))
def test_any_text_is_refused(token: str) -> None:
    """The same for texts that are not even encoded."""
    with pytest.raises(InvalidTokenError):
        verify(token, public(ES256))


@given(
    st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x5c", "zip", "cty"]),
        st.none() | st.text() | st.lists(st.text()) | st.booleans() | st.integers(),
    )
)
def test_any_header_is_decided(header: dict[str, object]) -> None:
    """A header of any members either verifies (it was signed with the key) or is refused."""
    token = signed(json.dumps(header).encode())
    try:
        verify(token, public(ES256))
    except InvalidTokenError:
        return
    assert header["alg"] == "ES256"
