"""What it costs to verify a token: one that was seen before, and one that was not; beside other libraries."""

import hashlib
import importlib
import json
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from accredit.core.access_token import AccessTokenPolicy, verify_access_token
from accredit.core.jose import ALGORITHMS, SigningKey, import_private_pem, import_public_jwk, parse_jws, sign_jws
from accredit.core.jwks import KeySet
from accredit.verifier import TokenVerifier, TrustedIssuer
from benchmarks.measure import Timed, interleaved, over, repeated, scaled
from benchmarks.model import Aim, Effort, Row, Section

ISSUER, API = "https://idp.example.com", "https://api.example.com"
_AIMS = {"RS256": 2.0, "ES256": 2.0}


def _signer(algorithm: str) -> tuple[SigningKey, Any]:
    private: Any = (
        rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())
    )
    form = serialization.PrivateFormat.PKCS8
    pem = private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return import_private_pem(pem, algorithm=algorithm, kid="k1"), private


def _token(key: SigningKey) -> str:
    now = int(time.time())
    claims = {
        "iss": ISSUER, "aud": API, "sub": "client:orders-worker", "client_id": "orders-worker",
        "jti": "0123456789abcdef", "iat": now, "exp": now + 36_000, "scope": "orders:read orders:write",
    }  # fmt: skip
    return sign_jws(json.dumps(claims).encode(), key, header={"typ": "at+jwt"})


def _raw(algorithm: str, private: Any, token: str) -> Callable[[], object]:
    """Return the signature check alone, on parts that were decoded before."""
    jws = parse_jws(token, algorithms=ALGORITHMS)
    signed, signature, public = jws._signed, jws._signature, private.public_key()
    if algorithm == "RS256":
        scheme, digest = padding.PKCS1v15(), hashes.SHA256()
        return lambda: public.verify(signature, signed, scheme, digest)
    der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    ecdsa = ec.ECDSA(hashes.SHA256())
    return lambda: public.verify(der, signed, ecdsa)


def _others(algorithm: str, public_jwk: dict[str, Any], token: str) -> dict[str, Callable[[], object]]:
    found: dict[str, Callable[[], object]] = {}
    makers: dict[str, Callable[[], Callable[[], object]]] = {
        "PyJWT": lambda: _pyjwt(algorithm, public_jwk, token),
        "joserfc": lambda: _joserfc(algorithm, public_jwk, token),
        "Authlib": lambda: _authlib(algorithm, public_jwk, token),
        "python-jose": lambda: _python_jose(algorithm, public_jwk, token),
    }
    for name, make in makers.items():
        try:
            found[name] = make()
        except ImportError:
            continue
    return found


def _pyjwt(algorithm: str, public_jwk: dict[str, Any], token: str) -> Callable[[], object]:
    jwt = importlib.import_module("jwt")
    key = jwt.PyJWK.from_dict(public_jwk)
    return lambda: jwt.decode(token, key, algorithms=[algorithm], audience=API, issuer=ISSUER)


def _joserfc(algorithm: str, public_jwk: dict[str, Any], token: str) -> Callable[[], object]:
    jwk, jwt = importlib.import_module("joserfc.jwk"), importlib.import_module("joserfc.jwt")
    key = jwk.import_key(public_jwk)
    registry = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": ISSUER}, aud={"essential": True, "value": API}, exp={"essential": True}
    )
    return lambda: registry.validate(jwt.decode(token, key, algorithms=[algorithm]).claims)


def _authlib(algorithm: str, public_jwk: dict[str, Any], token: str) -> Callable[[], object]:
    jose = importlib.import_module("authlib.jose")
    key = jose.JsonWebKey.import_key(public_jwk)
    reader = jose.JsonWebToken([algorithm])
    options = {"iss": {"essential": True, "value": ISSUER}, "aud": {"essential": True, "value": API}}
    return lambda: reader.decode(token, key, claims_options=options).validate()


def _python_jose(algorithm: str, public_jwk: dict[str, Any], token: str) -> Callable[[], object]:
    jwt = importlib.import_module("jose.jwt")
    return lambda: jwt.decode(token, public_jwk, algorithms=[algorithm], audience=API, issuer=ISSUER)


def run(effort: Effort) -> list[Section]:
    return [_hits(effort), *(_full(effort, algorithm) for algorithm in ("RS256", "ES256"))]


def _hits(effort: Effort) -> Section:
    key, _ = _signer("RS256")
    token = _token(key)
    verifier = TokenVerifier(TrustedIssuer(ISSUER, API, jwks={"keys": [dict(key.public_jwk)]}))
    verifier.verify(token)
    kept = {hashlib.sha256(token.encode()).digest(): (time.time() + 36_000, object())}

    def floor() -> object:
        entry = kept.get(hashlib.sha256(token.encode()).digest())
        return entry[1] if entry is not None and time.time() < entry[0] else None

    subjects: dict[str, Timed] = {"floor": repeated(floor), "accredit": repeated(lambda: verifier.verify(token))}
    samples = interleaved(subjects, rounds=effort.of(60, 10), number=effort.of(20_000, 4_000))
    ratio = scaled(over(samples["accredit"], samples["floor"]), 1)
    section = Section(
        "verify_hit",
        "A token that was verified before",
        "CPU time of `verifier.verify(token)` for a token whose verdict is kept. The floor is a function that takes the"
        " SHA-256 of the token, looks it up in a dict and compares one clock.",
        {"one call": "ns", "to the floor": "ratio"},
        aims=[Aim("a kept verdict to its floor", 1.5, ratio.median, "ratio")],
    )
    for name in subjects:
        against = scaled(over(samples[name], samples["floor"]), 1)
        section.rows.append(Row(name, {"one call": scaled(samples[name], 1e9), "to the floor": against}))
    verifier.close()
    return section


def _full(effort: Effort, algorithm: str) -> Section:
    key, private = _signer(algorithm)
    token, jwk = _token(key), dict(key.public_jwk)
    keys = KeySet((import_public_jwk(jwk),))
    policy = AccessTokenPolicy(issuer=ISSUER, audience=(API,))
    verifier = TokenVerifier(TrustedIssuer(ISSUER, API, jwks={"keys": [jwk]}))

    def unseen() -> object:
        verifier._known.clear()
        return verifier.verify(token)

    subjects: dict[str, Timed] = {
        "the signature alone": repeated(_raw(algorithm, private, token)),
        "accredit, every check": repeated(lambda: verify_access_token(token, keys, policy, now=time.time())),
        "accredit, a verifier that has not seen it": repeated(unseen),
        **{name: repeated(function) for name, function in _others(algorithm, jwk, token).items()},
    }
    samples = interleaved(subjects, rounds=effort.of(40, 8), number=effort.of(1_000, 150))
    base = samples["the signature alone"]
    measured = scaled(over(samples["accredit, every check"], base), 1).median
    section = Section(
        f"verify_{algorithm.lower()}",
        f"Full verification of an {algorithm} token",
        "CPU time to verify signature and claims of a token of about 500 bytes with a key that was imported before. For"
        " the others: signature, issuer, audience and expiry, which is what they check when they are told to; none of"
        " them checks `typ`, duplicate members or the claims of RFC 9068.",
        {"one call": "us", "to the signature": "ratio"},
        aims=[Aim(f"{algorithm}: full verification to the signature alone", _AIMS[algorithm], measured, "ratio")],
    )
    for name in subjects:
        ratio = scaled(over(samples[name], base), 1)
        section.rows.append(Row(name, {"one call": scaled(samples[name], 1e6), "to the signature": ratio}))
    verifier.close()
    return section
