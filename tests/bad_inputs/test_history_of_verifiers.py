"""What went wrong in libraries that verify tokens, each as a test that would have found it here."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from accredit.core.access_token import AccessTokenPolicy
from accredit.core.jose import ALGORITHMS, import_public_jwk, parse_jws, verify_jws
from accredit.core.jwk import JwkError
from accredit.core.jwks import KeySet, parse_jwks
from accredit.core.messages import Failure, Response
from accredit.errors import AccreditError, ConfigurationError, InvalidTokenError, MalformedResponseError
from accredit.verifier import JwksPolicy, TrustedIssuer
from tests.bad_inputs.test_presented import changed, crafted, encoded, good_header, refusal
from tests.verifier.support import API, ISSUER, JSON, World, active, asking, claims_of, document, key_of

REFUSED = Failure("connect", "refused")


def encodings(algorithm: str) -> list[bytes]:
    """Return a public key in every form in which one has passed for a secret of HMAC."""
    key = key_of("one", algorithm)
    private: Any = key._key
    public = private.public_key()
    encoding, form = serialization.Encoding, serialization.PublicFormat
    pem = public.public_bytes(encoding.PEM, form.SubjectPublicKeyInfo)
    der = public.public_bytes(encoding.DER, form.SubjectPublicKeyInfo)
    jwk = json.dumps(dict(key.public_jwk)).encode()
    found = [
        pem, pem.strip(), pem + b"\n", b"\xef\xbb\xbf" + pem, b" " + pem, der, base64.b64encode(der),
        der.hex().encode(),
        public.public_bytes(encoding.OpenSSH, form.OpenSSH), jwk, b'{"keys":[' + jwk + b"]}", b"[" + jwk + b"]",
        b"\xef\xbb\xbf" + jwk, pem.replace(b"\n", b"\r\n"), b"", b"\0",
    ]  # fmt: skip
    if algorithm.startswith("RS"):
        found.append(public.public_bytes(encoding.PEM, form.PKCS1))
    return found


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("mac", ["HS256", "HS384", "HS512"])
def test_a_public_key_as_the_secret_of_hmac_cve_2022_29217_cve_2026_48526_cve_2024_37568_cve_2024_33663(
    algorithm: str, mac: str
) -> None:
    """And GHSA-r6x4, GHSA-ffc3, GHSA-p4g4, GHSA-w2cx: every encoding, since a list of forbidden ones fell six times."""
    world = World(algorithms=("RS256", "ES256", "EdDSA"))
    world.server.keys = [key_of("one", algorithm)]
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[mac]
    signed = f"{encoded(good_header(alg=mac))}.{encoded(claims_of(world.clock.wall()))}"
    for secret in encodings(algorithm):
        token = f"{signed}.{encoded(hmac.new(secret, signed.encode(), digest).digest())}"
        assert refusal(world, token) == "algorithm"
    with pytest.raises(ConfigurationError):
        TrustedIssuer(ISSUER, API, algorithms=("RS256", mac))


@pytest.mark.parametrize("secret", ["", "AA"])
def test_an_empty_or_absent_key_cve_2026_49852_cve_2026_44699_cve_2026_45363_pyjwt_2_13(secret: str) -> None:
    with pytest.raises(JwkError):
        import_public_jwk({"kty": "oct", "k": secret})
    rsa = {name: value for name, value in key_of("one", "RS256").public_jwk.items() if name != "alg"}
    assert import_public_jwk(rsa).algorithm == "RS256"
    jws = parse_jws(World().token(), algorithms=ALGORITHMS)
    with pytest.raises(InvalidTokenError):
        verify_jws(jws, [])


@pytest.mark.parametrize("issuer", ["https://as.exampl", "https://as.example.evil", "https", "as.example", "e", ""])
def test_an_issuer_that_is_a_part_of_ours_cve_2024_53861(issuer: str) -> None:
    world = World()
    assert refusal(world, world.token(iss=issuer)) == "issuer"


@pytest.mark.parametrize("extension", ["b64", "exp", "x", "http://example.com/UNDEFINED"])
def test_an_unknown_critical_extension_cve_2026_32597_cve_2025_59420(extension: str) -> None:
    world = World()
    for header in (good_header(crit=[extension], **{extension: True}), good_header(crit=[extension])):
        assert refusal(world, crafted(world, header)) == "critical"


def test_the_algorithm_of_the_key_is_not_that_of_the_header_cve_2026_48523() -> None:
    world = World(algorithms=("RS256", "PS256"))
    key = key_of("one", "RS256")
    world.server.keys = [key]
    token = world.token(key)
    head, rest = token.split(".", 1)
    assert head
    assert refusal(world, f"{encoded(good_header(alg='PS256'))}.{rest}") == "unknown_key"


@pytest.mark.parametrize("url", ["file:///etc/jwks", "ftp://as.example/jwks", "data:application/json,{}", "//as/jwks"])
def test_keys_from_a_url_that_is_none_of_the_web_cve_2026_48522(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TrustedIssuer(ISSUER, API, jwks_uri=url)
    assert caught.value.key == "jwks_uri"
    world = World(jwks_uri=None)
    world.server.metadata = world.server.described(jwks_uri=url)
    assert isinstance(world.error(world.token()), AccreditError)
    assert world.fetches() == 0


@pytest.mark.parametrize("answer", [REFUSED, document({}, 500), document({"keys": []}), Response(200, (JSON,), b"<")])
def test_an_error_of_the_fetch_clears_the_keys_cve_2026_48524(answer: Any) -> None:
    world = World()
    assert world.accepts(world.token())
    world.server.jwks = answer
    for _ in range(5):
        world.clock.advance(400)
        assert world.accepts(world.token())
        world.settle()


def test_work_is_done_before_sizes_are_known_cve_2026_48525_cve_2026_48990_cve_2025_61920_cve_2025_22868() -> None:
    world = World()
    for token in ("." * 10**6, "a" * 10**7, f"{encoded(good_header(b64=False, crit=['b64']))}.{'x' * 10**6}.AAAA"):
        assert refusal(world, token) == "too_large"
    assert world.server.requests == []


def test_a_redirect_of_the_keys_is_followed_ghsa_9v7f() -> None:
    world = World()
    world.server.jwks = Response(302, (("location", "http://169.254.169.254/"),))
    assert isinstance(world.error(world.token()), MalformedResponseError)
    assert world.fetches() == 1


def test_every_unknown_key_fetches_ghsa_2gx3() -> None:
    world = World(jwks_policy=JwksPolicy(min_age=86400))
    assert world.accepts(world.token())
    for number in range(100):
        assert world.reason(world.token(header={"kid": f"unknown-{number}"})) == "unknown_key"
    assert world.fetches() == 2


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", ["1", [1], {}, True, None, "NaN"])
def test_odd_times_and_depths_that_raise_ghsa_8wjv_w6j9_joserfc_1_7_6(claim: str, value: object) -> None:
    world = World()
    assert refusal(world, world.token(**changed(claim, value))) == "malformed"
    deep = crafted(world, good_header(), b'{"a":' + b"[" * 8000 + b"]" * 8000 + b"}")
    assert refusal(world, deep) in {"malformed", "too_large"}


def test_one_bad_key_spoils_the_set_ghsa_w6j9() -> None:
    good = dict(key_of("one").public_jwk)
    for bad in ({"kty": "EC"}, {**good, "x": "!"}, {"kty": "new"}, 5, None, {"kty": "RSA", "n": "", "e": ""}):
        assert len(parse_jwks(json.dumps({"keys": [bad, good]}).encode()).keys) == 1


def test_base64url_that_is_not_strict_ghsa_hxm8() -> None:
    world = World()
    token = world.token()
    for twin in (token + "=", token + "==", token.replace(".", "=.", 1), token + "\n", " " + token, token + "!!!!"):
        assert refusal(world, twin) == "malformed"


@pytest.mark.parametrize("header", [{"zip": "DEF"}, {"zip": "DEF", "alg": "dir", "enc": "A128GCM"}])
def test_compression_and_key_derivation_cve_2025_62706_cve_2024_33664_cve_2024_28102_cve_2026_28490(
    header: dict[str, object],
) -> None:
    """And CVE-2023-6681, CVE-2026-27932, CVE-2023-49290, -50966, -50967, -52428: iterations without measure."""
    world = World()
    bomb = f"{encoded(good_header(**header, p2c=2**31))}.AA.AA.AA.AA"
    assert refusal(world, bomb) == "malformed"
    for algorithm in ("PBES2-HS256+A128KW", "RSA1_5", "dir"):
        assert refusal(world, crafted(world, good_header(alg=algorithm))) == "algorithm"


@pytest.mark.parametrize("tail", ["", "AA"])
def test_none_with_an_empty_signature_cve_2026_28802_cve_2020_26244(tail: str) -> None:
    world = World()
    for name in ("none", "None", "NONE", "nonE"):
        token = f"{encoded(good_header(alg=name))}.{encoded(claims_of(world.clock.wall()))}.{tail}"
        assert refusal(world, token) == ("algorithm" if tail else "malformed")
    for allowed in (("none",), ("ES256", "none"), ()):
        with pytest.raises(ConfigurationError):
            AccessTokenPolicy(issuer=ISSUER, audience=(API,), algorithms=allowed)


def test_a_key_from_the_token_when_none_is_given_cve_2026_27962() -> None:
    attacker = key_of("attacker")
    world = World()
    token = crafted(world, good_header(kid="attacker", jwk=dict(attacker.public_jwk)), kid="attacker")
    assert refusal(world, token) == "unknown_key"
    with pytest.raises(InvalidTokenError):
        verify_jws(parse_jws(token, algorithms=ALGORITHMS), KeySet(()).keys)


def test_a_huge_token_in_the_log_cve_2025_65015(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    world = World()
    for token in ("Q" * 10**6, encoded(good_header(x="Q" * 8000)) + ".e30.AAAA"):
        outcome = world.verdict(token)
        assert isinstance(outcome, InvalidTokenError)
        assert len(str(outcome)) < 200
    assert len(caplog.text) < 5000
    assert "QQQQ" not in caplog.text


@pytest.mark.parametrize("value", [["1"], {"a": 1}, 5, None, ""])
def test_a_token_id_that_is_no_text_joserfc_1_7_6(value: object) -> None:
    world = World()
    assert refusal(world, world.token(jti=value)) == "malformed"


def test_a_form_that_two_readers_read_differently_cve_2022_39227_cve_2022_3102() -> None:
    world = World()
    head, body, tail = world.token().split(".")
    evil = encoded(claims_of(world.clock.wall(), client_id="admin"))
    mixed = f'{{"{head}":"{evil}","payload":"{body}","protected":"{head}","signature":"{tail}","x":".'
    for token in (mixed + f'{evil}.{tail}"}}', f"{head}.{evil}.{tail}", f"{head}.{body}.{tail}.{evil}.{tail}"):
        assert isinstance(world.verdict(token), InvalidTokenError)


@pytest.mark.parametrize(("algorithm", "size"), [("ES256", 64), ("ES384", 96), ("ES512", 132)])
def test_a_signature_of_zeros_cve_2022_21449(algorithm: str, size: int) -> None:
    world = World(algorithms=(algorithm,))
    world.server.keys = [key_of("one", algorithm)]
    token = world.token()
    assert world.accepts(token)
    assert refusal(world, f"{token.rpartition('.')[0]}.{encoded(bytes(size))}") == "signature"


def test_no_library_with_timing_faults_is_used_cve_2024_23342() -> None:
    private: Any = key_of("one")._key
    assert type(private).__module__.partition(".")[0] == "cryptography"
    source = "".join(path.read_text(encoding="utf-8") for path in _sources())
    assert "import ecdsa" not in source
    assert "from ecdsa" not in source


def _sources() -> list[Any]:
    from pathlib import Path

    import accredit

    return list(Path(accredit.__file__).parent.rglob("*.py"))


def test_a_bound_token_taken_for_a_bearer_token_cve_2024_49755_spring_462e38c0e3_791feee355() -> None:
    world = World()
    for cnf in ({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}, {"x5t#S256": "x"}, {"jkt": "HEX"}, {}):
        assert refusal(world, world.token(cnf=cnf)) == "bound"


def test_a_verifier_without_an_issuer_by_default_cve_2026_22748() -> None:
    with pytest.raises(TypeError):
        AccessTokenPolicy(audience=(API,))  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        AccessTokenPolicy(issuer=ISSUER)  # type: ignore[call-arg]
    for missing in ({"issuer": "", "audience": (API,)}, {"issuer": ISSUER, "audience": ()}):
        with pytest.raises(ConfigurationError):
            AccessTokenPolicy(**missing)  # type: ignore[arg-type]


def test_introspection_that_leaves_out_the_audience_cve_2026_37979_cve_2026_18208() -> None:
    world = World(introspection=asking(), jwks_uri=f"{ISSUER}/jwks")
    world.server.about = active(aud="https://another.example", jwt="eyJhbGciOiJub25lIn0..")
    assert world.reason("opaque") == "audience"


def test_a_revoked_token_of_a_client_cve_2023_0091() -> None:
    world = World(introspection=asking(tokens="all"), jwks_uri=f"{ISSUER}/jwks")
    world.server.about = document({"active": False})
    assert world.reason(world.token()) == "inactive"


def test_points_of_a_small_subgroup_cve_2026_26007() -> None:
    for member in ({"crv": "sect233k1"}, {"crv": "K-163"}, {"crv": "P-256", "y": "AA"}):
        with pytest.raises(JwkError):
            import_public_jwk({**key_of("one").public_jwk, **member})
