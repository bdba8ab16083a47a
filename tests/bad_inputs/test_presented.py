"""Group F and what of H concerns tokens: what an API may be called with, judged by a verifier as an API has it."""

from __future__ import annotations

import base64
import json
import time
import unicodedata
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from accredit.core.access_token import AccessTokenPolicy
from accredit.core.jose import import_public_jwk
from accredit.core.jwk import JwkError
from accredit.core.strict import b64url_decode, b64url_encode
from accredit.errors import ConfigurationError, InvalidTokenError
from accredit.verifier import TokenVerifier, TrustedIssuer, VerifiedToken
from tests.bad_inputs.invariants import check_error
from tests.bad_inputs.model import covers
from tests.verifier.support import API, ISSUER, MISSING, World, active, asking, claims_of, document, key_of

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
INACTIVE = document({"active": False})


def refusal(world: World, token: Any) -> str:
    """Return why a token is refused, once its error shows nothing that it must not."""
    outcome = world.verdict(token)
    assert isinstance(outcome, InvalidTokenError), repr(outcome)
    check_error(outcome)
    text = token if isinstance(token, str) else repr(token)
    for piece in filter(lambda each: len(each) > 20, text.split(".")):
        assert piece not in str(outcome) + repr(vars(outcome))
    return outcome.reason


def encoded(data: object) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def crafted(world: World, header: object, payload: object = None, *, kid: str = "one") -> str:
    """Return a token whose signature is right, over whatever header and payload."""
    claims = claims_of(world.clock.wall()) if payload is None else payload
    signed = f"{encoded(header)}.{encoded(claims)}"
    return f"{signed}.{encoded(key_of(kid).sign(signed.encode()))}"


def good_header(**changes: object) -> dict[str, object]:
    members = {"alg": "ES256", "typ": "at+jwt", "kid": "one", **changes}
    return {name: value for name, value in members.items() if value is not MISSING}


def changed(name: str, value: object) -> dict[str, Any]:
    return {name: value}


def parts(token: str) -> tuple[str, bytes]:
    signed, _, tail = token.rpartition(".")
    return signed, b64url_decode(tail)


@covers("F01", outcome="DENY401")
@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "", MISSING, None, ["ES256"], {}, 5, "HS256", "ES256 "])
@pytest.mark.parametrize("signature", [None, ""])
def test_no_algorithm(algorithm: object, signature: str | None) -> None:
    world = World()
    token = crafted(world, good_header(alg=algorithm))
    if signature is not None:
        token = token.rpartition(".")[0] + "."
    assert refusal(world, token) == ("algorithm" if signature is None else "malformed")
    assert world.server.requests == []


@covers("F05", outcome="DENY401, and nothing is fetched")
@pytest.mark.parametrize("member", ["jwk", "jku", "x5u", "x5c"])
@pytest.mark.parametrize("kid", ["one", "attacker", MISSING])
def test_a_token_that_brings_its_key(member: str, kid: object) -> None:
    world = World()
    attacker = key_of("attacker")
    value: Mapping[str, object] = {
        "jwk": dict(attacker.public_jwk),
        "jku": "https://evil.example/jwks",
        "x5u": "https://evil.example/chain",
        "x5c": ["MIIB"],
    }
    token = crafted(world, good_header(kid=kid, **{member: value[member]}), kid="attacker")
    assert refusal(world, token) in {"signature", "unknown_key"}
    assert {request.url for request in world.server.requests} == {f"{ISSUER}/jwks"}
    # Beside a signature of the true key such members say nothing, and nobody looks where they point.
    before = len(world.server.requests)
    assert isinstance(world.verdict(crafted(world, good_header(**{member: value[member]}))), VerifiedToken)
    assert len(world.server.requests) == before


@covers("F06", outcome="DENY401: one key, one algorithm")
@pytest.mark.parametrize("algorithm", ["PS256", "RS384", "RS512", "ES256", "EdDSA"])
def test_an_algorithm_that_is_not_that_of_the_key(algorithm: str) -> None:
    world = World(algorithms=("RS256", "PS256", "RS384", "RS512", "ES256", "EdDSA"))
    key = key_of("rsa", "RS256")
    world.server.keys = [key]
    assert world.accepts(world.token(key))
    for kid in ("rsa", MISSING):
        signed = f"{encoded(good_header(alg=algorithm, kid=kid))}.{encoded(claims_of(world.clock.wall()))}"
        raw: Any = key._key
        signature = raw.sign(signed.encode(), padding.PKCS1v15(), _hash(algorithm))
        assert refusal(world, f"{signed}.{encoded(signature)}") == "unknown_key"


def _hash(algorithm: str) -> Any:
    from cryptography.hazmat.primitives import hashes

    return {"384": hashes.SHA384, "512": hashes.SHA512}.get(algorithm[-3:], hashes.SHA256)()


@covers("F08", outcome="DENY401")
@pytest.mark.parametrize(
    "name", ["zero", "zero r", "zero s", "order", "above the order", "DER", "63 bytes", "65 bytes", "doubled", "empty"]
)
def test_odd_ecdsa_signatures(name: str) -> None:
    world = World()
    signed, raw = parts(world.token())
    r, s = raw[:32], raw[32:]
    odd = {
        "zero": bytes(64),
        "zero r": bytes(32) + s,
        "zero s": r + bytes(32),
        "order": P256_ORDER.to_bytes(32, "big") + s,
        "above the order": r + b"\xff" * 32,
        "DER": encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big")),
        "63 bytes": raw[:63],
        "65 bytes": raw + b"\0",
        "doubled": bytes(32) + r + bytes(32) + s,
        "empty": b"",
    }[name]
    assert refusal(world, f"{signed}.{encoded(odd)}") in {"signature", "malformed"}


@covers("F08", outcome="OK for the other signature of the pair, with a verdict of its own")
def test_the_other_ecdsa_signature() -> None:
    world = World()
    token = world.token()
    signed, raw = parts(token)
    twin = f"{signed}.{encoded(raw[:32] + (P256_ORDER - int.from_bytes(raw[32:], 'big')).to_bytes(32, 'big'))}"
    assert world.accepts(token)
    assert world.accepts(twin)
    assert len(world.engine.known) == 2


@covers("F09", outcome="DENY401")
@pytest.mark.parametrize("name", ["short", "long", "zero", "one", "modulus", "garbage after the hash", "no padding"])
def test_odd_rsa_signatures(name: str) -> None:
    world = World()
    key = key_of("one", "RS256")
    world.server.keys = [key]
    signed, raw = parts(world.token(key))
    private: Any = key._key
    numbers = private.private_numbers()
    n, d = numbers.public_numbers.n, numbers.d
    # What a reader that looks for the hash somewhere in the block would accept (Bleichenbacher, 2006).
    info = bytes.fromhex("3031300d060960864801650304020105000420")
    import hashlib

    digest = hashlib.sha256(signed.encode()).digest()
    forged = b"\x00\x01" + b"\xff" * 8 + b"\x00" + info + digest
    early = forged + b"\x5a" * (256 - len(forged))
    bare = (info + digest).rjust(256, b"\0")
    odd = {
        "short": raw[:-1],
        "long": raw + b"\0",
        "zero": bytes(256),
        "one": (1).to_bytes(256, "big"),
        "modulus": (n - 1).to_bytes(256, "big"),
        "garbage after the hash": pow(int.from_bytes(early, "big"), d, n).to_bytes(256, "big"),
        "no padding": pow(int.from_bytes(bare, "big"), d, n).to_bytes(256, "big"),
    }[name]
    assert refusal(world, f"{signed}.{encoded(odd)}") == "signature"


@covers("F10", outcome="OK under both names if both are allowed; DENY401 otherwise")
def test_two_names_for_ed25519() -> None:
    key = key_of("one", "EdDSA")
    for allowed, name, good in [
        (("EdDSA", "Ed25519"), "EdDSA", True),
        (("EdDSA", "Ed25519"), "Ed25519", True),
        (("EdDSA",), "Ed25519", False),
        (("Ed25519",), "EdDSA", False),
        (("Ed25519",), "Ed25519", True),
    ]:
        world = World(algorithms=allowed)
        world.server.keys = [key]
        signed = f"{encoded(good_header(alg=name))}.{encoded(claims_of(world.clock.wall()))}"
        token = f"{signed}.{encoded(key.sign(signed.encode()))}"
        assert world.accepts(token) == good
        if not good:
            assert refusal(world, token) == "algorithm"


@covers("F10", outcome="DENY401: no key of that curve, or of small order, is known")
@pytest.mark.parametrize("member", [{"crv": "Ed448", "x": "A" * 76}, {"crv": "Ed25519", "x": "AQ" + "A" * 41}])
def test_odd_edwards_keys(member: dict[str, str]) -> None:
    with pytest.raises(JwkError) as caught:
        import_public_jwk({"kty": "OKP", **member})
    assert member["x"] not in str(caught.value)


@covers("F12", outcome="DENY401")
@pytest.mark.parametrize("member", [{"b64": False}, {"b64": False, "crit": ["b64"]}, {"crit": ["exp"]}, {"crit": []}])
def test_a_payload_that_is_not_encoded(member: dict[str, object]) -> None:
    world = World()
    assert refusal(world, crafted(world, good_header(**member))) == "critical"


@covers("F13", outcome="DENY401")
def test_a_jws_that_is_not_compact() -> None:
    world = World()
    head, body, tail = world.token().split(".")
    one = {"payload": body, "protected": head, "signature": tail}
    for form in (one, {"payload": body, "signatures": [one]}, [head, body, tail]):
        assert refusal(world, json.dumps(form)) == "malformed"
    assert refusal(world, f'{{"payload":"{body}","protected":"{head}","x":".","signature":"."}}') == "malformed"


@covers("F14", outcome="DENY401")
def test_segments() -> None:
    world = World()
    head, body, tail = world.token().split(".")
    for token in (
        f"{head}.{body}", f"{head}.{body}.{tail}.{tail}", f"{head}.{body}.{tail}.a.b.c", f".{body}.{tail}",
        f"{head}..{tail}", f"{head}.{body}.", f".{head}.{body}.{tail}", "..", "", "." * 1000, f"{head}.{body}.{tail}.",
    ):  # fmt: skip
        assert refusal(world, token) == "malformed"


@covers("F15", outcome="DENY401: each sequence of bytes has one text")
@pytest.mark.parametrize("junk", ["=", "+", "/", " ", "\n", "!", "\0", "\t", "%"])
def test_characters_that_are_not_base64url(junk: str) -> None:
    world = World()
    segments = world.token().split(".")
    for place in range(3):
        plain = segments[place]
        for text in (plain + junk, junk + plain, plain[:5] + junk + plain[6:], plain[:4] + junk * 4 + plain[4:]):
            token = ".".join(text if number == place else each for number, each in enumerate(segments))
            assert refusal(world, token) == "malformed"


@covers("F15", outcome="DENY401: no bits are left over, no length is impossible")
def test_bits_that_are_left_over() -> None:
    world = World()
    token = world.token()
    assert len(parts(token)[1]) == 64  # 86 letters, of which the last has four bits to spare
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twins = [token[:-1] + letter for letter in letters if letter != token[-1]]
    assert {refusal(world, twin) for twin in twins} <= {"malformed", "signature"}
    assert sum(refusal(world, twin) == "malformed" for twin in twins) == 60
    assert refusal(world, token + "AAA") == "malformed"


@covers("F17", outcome="DENY401")
@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"ES256","alg":"ES256","typ":"at+jwt","kid":"one"}',
        b'{"alg":"none","\\u0061lg":"ES256","typ":"at+jwt","kid":"one"}',
        b'{"alg":"ES256","typ":"at+jwt","kid":"one","x":NaN}',
        b'{"alg":"ES256","typ":"at+jwt","kid":"one","x":1e999}',
        b'{"alg":"ES256","typ":"at+jwt","kid":"one","x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"alg":"ES256","typ":"at+jwt","kid":"one","x":' + b"[" * 9 + b"]" * 9 + b"}",
        b'["ES256"]',
        b'"ES256"',
        b"null",
        b"",
        b"\xef\xbb\xbf" + b'{"alg":"ES256","typ":"at+jwt","kid":"one"}',
        '{"alg":"ES256","typ":"at+jwt","kid":"one"}'.encode("utf-16"),
        b'{"alg":"ES256","typ":"at+jwt","kid":"one"} x',
        b'{"alg":"ES256","typ":"at+jwt","kid":"one","x":"\\ud800"}',
        b"\xff\xfe",
    ],
)
def test_a_header_that_is_not_strict_json(header: bytes) -> None:
    world = World()
    assert refusal(world, crafted(world, header)) == "malformed"


@covers("F17", outcome="DENY401 before anything is decoded")
def test_a_header_of_a_megabyte() -> None:
    world = World()
    assert refusal(world, crafted(world, good_header(x="y" * 2**20))) == "too_large"


@covers("F18", outcome="DENY401 but for the at+jwt family; JWT by setting")
def test_a_jwt_of_another_kind() -> None:
    world = World()
    for typ in ("at+jwt", "application/at+jwt", "AT+JWT"):
        assert world.accepts(crafted(world, good_header(typ=typ)))
    for other in (
        MISSING, "JWT", "dpop+jwt", "client-authentication+jwt", "logout+jwt", "token-introspection+jwt", "", None, 5,
        "at+jwt;x", " at+jwt", "aT+jwt\n",
    ):  # fmt: skip
        assert refusal(world, crafted(world, good_header(typ=other))) == "type"
    older = World(accept_typ_jwt=True)
    for accepted in ("JWT", MISSING, "at+jwt"):
        assert older.accepts(crafted(older, good_header(typ=accepted)))
    assert refusal(older, crafted(older, good_header(typ="dpop+jwt"))) == "type"
    assert refusal(older, crafted(older, good_header(typ="JWT"), claims_of(older.clock.wall(), nonce="x"))) == "type"


@covers("F20", outcome="DENY401: exact text")
@pytest.mark.parametrize(
    "issuer",
    [
        ISSUER + "/", ISSUER.upper(), ISSUER[:-1], ISSUER + ".evil.example", "x" + ISSUER, f"{ISSUER} {ISSUER}", "",
        [ISSUER], {"iss": ISSUER}, 5, None, MISSING, "https://as%2Eexample", "https://as.example:443", "http://as.example",
    ],
)  # fmt: skip
def test_an_issuer_that_is_almost_ours(issuer: object) -> None:
    world = World()
    assert refusal(world, world.token(iss=issuer)) == "issuer"
    assert world.server.requests == []


@covers("F21", outcome="DENY401: each issuer is bound to its own keys")
def test_the_key_of_another_issuer() -> None:
    key = key_of("other")
    world = World(TrustedIssuer("https://other.example", API, jwks={"keys": [dict(key.public_jwk)]}))
    assert world.accepts(world.token(key, iss="https://other.example"))
    assert refusal(world, world.token(key)) == "unknown_key"
    assert refusal(world, world.token(iss="https://other.example")) == "unknown_key"
    assert refusal(world, world.token(key, header={"kid": "one"})) == "signature"


@covers("F22", outcome="OK for a list with ours; DENY401 for the rest")
def test_audiences() -> None:
    world = World()
    for audience in (API, [API], ["other", API]):
        assert world.accepts(world.token(aud=audience))
    for wrong in (
        MISSING, None, "", "other", [], ["other"], [API] * 101, [f"a{n}" for n in range(800)], {API: API}, 5,
        API + "/", API[:-1], API.upper(), f"{API} other", [[API]], [API, 5], True,
    ):  # fmt: skip
        assert refusal(world, world.token(aud=wrong)) == "audience"


@covers("F23", outcome="DENY401 unless now < exp + leeway")
def test_the_end_of_life() -> None:
    world = World(leeway=30)
    now = world.clock.wall()
    for expiry in (now + 1, now, now - 29, now - 29.5, now + 0.25):
        assert world.accepts(world.token(exp=expiry))
    for expiry in (now - 30, now - 31, 0):
        assert refusal(world, world.token(exp=expiry)) == "expired"
    for odd in (MISSING, None, str(now), True, False, [now], {}, -1, 1e300, 253402300800):
        assert refusal(world, world.token(exp=odd)) == "malformed"
    for literal in (b"NaN", b"1e400", b"Infinity", b"1" + b"0" * 5000):
        payload = json.dumps(claims_of(now, exp=0)).encode().replace(b'"exp": 0', b'"exp": ' + literal)
        assert refusal(world, crafted(world, good_header(), payload)) == "malformed"


@covers("F24", outcome="OK within the leeway; DENY401 beyond it, and without iat")
def test_the_beginning_of_life() -> None:
    world = World()
    now = world.clock.wall()
    for name in ("iat", "nbf"):
        assert world.accepts(world.token(**changed(name, now + 5)))
        assert world.accepts(world.token(**changed(name, now + 60)))
        for later in (now + 61, now + 3600):
            assert refusal(world, world.token(**changed(name, later))) == "not_yet_valid"
        assert refusal(world, world.token(**changed(name, "now"))) == "malformed"
    assert refusal(world, world.token(iat=MISSING)) == "malformed"


@covers("F25", outcome="DENY401 if max_token_age is set; OK otherwise")
def test_a_token_for_ten_years() -> None:
    ten_years = 10 * 365 * 86400
    world = World()
    assert world.accepts(world.token(exp=world.clock.wall() + ten_years))
    world = World(max_token_age=86400)
    assert refusal(world, world.token(exp=world.clock.wall() + ten_years)) == "too_old"
    assert world.accepts(world.token())


@covers("F26", outcome="DENY401")
@pytest.mark.parametrize("name", ["sub", "client_id", "jti"])
@pytest.mark.parametrize("value", [MISSING, None, "", 5, ["a"], {"a": 1}, True])
def test_claims_that_have_to_be_there(name: str, value: object) -> None:
    world = World()
    assert refusal(world, world.token(**changed(name, value))) == "malformed"


@covers("F28", outcome="DENY401")
@pytest.mark.parametrize(
    "payload",
    [
        b"[]", b'"x"', b"1", b"null", b"true", b"", b"x", b'{"iss":"a","iss":"b"}', b"\xff", b"[" * 9999,
        b'{"a":"\\ud800"}',
    ],
)  # fmt: skip
def test_claims_that_are_no_object(payload: bytes) -> None:
    world = World()
    assert refusal(world, crafted(world, good_header(), payload)) == "malformed"


@covers("F29", outcome="DENY401: texts are equal when their characters are")
def test_texts_that_only_look_alike() -> None:
    composed, decomposed = (unicodedata.normalize(form, "https://é.example") for form in ("NFC", "NFD"))
    key = key_of("one")
    keys = {"keys": [dict(key.public_jwk)]}
    verifier = TokenVerifier(TrustedIssuer(composed, API, jwks=keys, clients=("Orders",)))
    world = World()
    world.verifier = verifier
    world.clock.jump_wall(time.time() - world.clock.wall())
    assert world.accepts(world.token(iss=composed, client_id="Orders"))
    assert refusal(world, world.token(iss=decomposed, client_id="Orders")) == "issuer"
    for client in ("orders", "Orders\u200b", "\uff2frders", "Оrders"):
        assert refusal(world, world.token(iss=composed, client_id=client)) == "client"


@covers("F30", outcome="DENY401: none is accepted in another")
def test_a_jwt_in_a_jwt() -> None:
    world = World()
    inner = world.token()
    assert refusal(world, crafted(world, good_header(cty="JWT"), inner.encode())) == "malformed"
    assert refusal(world, crafted(world, good_header(cty="JWT"))) == "type"
    assert refusal(world, crafted(world, good_header(), inner.encode())) == "malformed"


@covers("F31", outcome="DENY401 where the server is asked as well")
def test_a_token_that_was_revoked() -> None:
    world = World(introspection=asking(tokens="all"), jwks_uri=f"{ISSUER}/jwks")
    world.server.about = active()
    token = world.token()
    assert world.accepts(token)
    world.server.about = INACTIVE
    world.clock.advance(30)
    assert refusal(world, token) == "inactive"


@covers("F33", outcome="DENY401: a text of at most 256 characters, which is only compared")
def test_key_ids_that_are_more_than_ids() -> None:
    world = World()
    for kid in ("../../etc/passwd", "' OR 1=1 --", "file:///dev/zero", "x" * 256, "", "\0", "\n", "one\0", "${jndi:x}"):
        assert refusal(world, crafted(world, good_header(kid=kid))) == "unknown_key"
    for odd in ("x" * 257, None, 5, ["one"], {"one": 1}, True):
        assert refusal(world, crafted(world, good_header(kid=odd))) == "malformed"
    assert world.fetches() <= 2
    assert {request.url for request in world.server.requests} == {f"{ISSUER}/jwks"}


@covers("F34", outcome="OK for one key, and for one of at most four of its algorithm")
def test_no_key_id() -> None:
    world = World()
    assert world.accepts(crafted(world, good_header(kid=MISSING)))
    world = World()
    world.server.keys = [key_of(f"k{number}", number=number) for number in range(6)]
    verdicts = [world.accepts(crafted_by(world, key_of(f"k{number}", number=number))) for number in range(6)]
    assert verdicts == [True] * 4 + [False] * 2


def crafted_by(world: World, key: Any) -> str:
    signed = f"{encoded(good_header(kid=MISSING))}.{encoded(claims_of(world.clock.wall()))}"
    return f"{signed}.{encoded(key.sign(signed.encode()))}"


@covers("F39", outcome="CONFIGURATION at construction")
def test_a_verifier_that_would_accept_anything() -> None:
    with pytest.raises(TypeError):
        TrustedIssuer()  # type: ignore[call-arg]
    for issuer, audience, key in ((ISSUER, (), "audience"), ("", API, "issuer"), (None, API, "issuer")):
        with pytest.raises(ConfigurationError) as caught:
            TrustedIssuer(issuer, audience)  # type: ignore[arg-type]
        assert caught.value.key == key
    with pytest.raises(ConfigurationError):
        TokenVerifier(())
    with pytest.raises(ConfigurationError):
        AccessTokenPolicy(issuer=ISSUER, audience=())


@covers("H04", "H05", "H06", "H07", "H08", "H09", outcome="DENY401: no encrypted token is accepted")
@pytest.mark.parametrize("algorithm", ["dir", "RSA-OAEP", "RSA1_5", "ECDH-ES", "PBES2-HS256+A128KW", "A128KW"])
def test_an_encrypted_token(algorithm: str) -> None:
    world = World()
    header = {
        "alg": algorithm, "enc": "A128GCM", "zip": "DEF", "p2c": 10**9, "typ": "at+jwt", "cty": "JWT", "kid": "one",
        "epk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    }  # fmt: skip
    token = f"{encoded(header)}.AAAA.{encoded(b'x' * 12)}.{encoded(b'y' * 64)}.{encoded(b'z' * 16)}"
    assert refusal(world, token) == "malformed"
    assert refusal(world, f"{encoded(header)}.AAAA.{encoded(b'x' * 12)}") == "algorithm"
    assert refusal(world, json.dumps({"recipients": [{}] * 1000, "ciphertext": "AA"})) in {"malformed", "too_large"}
    assert world.server.requests == []


@covers("P13", outcome="OK from 0 to 300 seconds, more by name; CONFIGURATION otherwise")
def test_tolerances() -> None:
    for leeway in (0, 0.0, 60, 300):
        assert TrustedIssuer(ISSUER, API, leeway=leeway).policy.leeway == leeway
    for wrong in (-1, -0.001, 300.001, 1e9, float("nan"), float("inf"), True, "60", None):
        with pytest.raises(ConfigurationError) as caught:
            TrustedIssuer(ISSUER, API, leeway=wrong)  # type: ignore[arg-type]
        assert caught.value.key == "leeway"
    assert TrustedIssuer(ISSUER, API, leeway=1e9, allow_long_leeway=True).policy.leeway == 1e9
    with pytest.raises(ConfigurationError):
        TrustedIssuer(ISSUER, API, leeway=-1, allow_long_leeway=True)


def test_what_is_crafted_here_is_good_but_for_what_is_wrong_with_it() -> None:
    world = World()
    assert world.accepts(crafted(world, good_header()))
    r, s = decode_dss_signature(encode_dss_signature(1, 2))
    assert (r, s) == (1, 2)
    assert b64url_encode(b"x") == encoded(b"x")
