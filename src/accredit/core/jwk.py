"""Keys for signatures: JWK import (RFC 7517, 7518, 8037) and thumbprints (RFC 7638), narrow and strict.

What is accepted is an allow-list: EC, RSA and Ed25519, one algorithm per key. The mathematics is pyca/cryptography's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NoReturn

from accredit.core.strict import StrictError, b64url_decode, b64url_encode
from accredit.errors import ConfigurationError

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
except ImportError as _missing:  # pragma: no cover - the extra is installed wherever this is tested
    _text = "keys and signatures need the package cryptography: install accredit[crypto]"
    raise ImportError(_text, name="cryptography") from _missing

MAX_KID_LENGTH: Final = 256
_MAX_JWK_MEMBER: Final = 4096
_HASHES: Final[Mapping[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = MappingProxyType(
    {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
)
_PKCS1V15: Final = padding.PKCS1v15()
# Curve name -> (the curve, bytes of a coordinate, the one algorithm a key on it can have)
_CURVES: Final[Mapping[str, tuple[ec.EllipticCurve, int, str]]] = MappingProxyType(
    {
        "P-256": (ec.SECP256R1(), 32, "ES256"),
        "P-384": (ec.SECP384R1(), 48, "ES384"),
        "P-521": (ec.SECP521R1(), 66, "ES512"),
    }
)
_RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
#: Every algorithm known here. ``Ed25519`` (RFC 9864) and ``EdDSA`` (RFC 8037) name one and the same.
ALGORITHMS: Final = frozenset({"ES256", "ES384", "ES512", "EdDSA", "Ed25519"}) | _RSA_ALGORITHMS
_RSA_BITS: Final = range(2048, 8193)
_RSA_EXPONENTS: Final = range(3, 1 << 32, 2)
# Small-order points have these y coordinates: a signature by such a key says nothing (RFC 7748, section 7).
_ED25519_P: Final = 2**255 - 19
_ED25519_Y8: Final = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
_ED25519_WEAK: Final = frozenset({0, 1, _ED25519_P - 1, _ED25519_Y8, _ED25519_P - _ED25519_Y8})

KeyId = tuple[str | None, str, str]
_PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
_PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


class JwkError(ValueError):
    """A key cannot be used; the message never repeats a value of it."""


def _misused(message: str, advice: str) -> NoReturn:
    summary = f"the private key cannot be used: {message}."
    raise ConfigurationError(summary, advice=advice)


def _refuse(message: str) -> NoReturn:
    raise JwkError(message)


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key that verifies signatures of one algorithm.

    Attributes:
        algorithm: the only algorithm this key verifies (``EdDSA`` stands for ``Ed25519`` too).
        kid: the key id it was published under, or None.
        thumbprint: RFC 7638, SHA-256, base64url.
        had_private_part: whether the JWK carried private members (which were not loaded).

    """

    algorithm: str
    kid: str | None
    thumbprint: str
    had_private_part: bool = False
    _key: _PublicKey = field(repr=False, compare=False, kw_only=True)

    @property
    def id(self) -> KeyId:
        """What tells this key from any other: the name it is published under, its algorithm and its thumbprint."""
        return (self.kid, self.algorithm, self.thumbprint)

    def verifies(self, data: bytes, signature: bytes) -> bool:
        """Tell whether ``signature`` is that of ``data``; its length must be exact (RFC 7518, section 3.4)."""
        public = self._key
        try:
            if isinstance(public, ec.EllipticCurvePublicKey):
                size = (public.key_size + 7) // 8
                r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
                if len(signature) != 2 * size or r == 0 or s == 0:
                    return False
                public.verify(encode_dss_signature(r, s), data, ec.ECDSA(_hash_of(self.algorithm)))
            elif isinstance(public, rsa.RSAPublicKey):
                if len(signature) != (public.key_size + 7) // 8:
                    return False
                public.verify(signature, data, _padding_of(self.algorithm), _hash_of(self.algorithm))
            else:
                public.verify(signature, data)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key that signs with one algorithm; its private part is in no repr and no comparison.

    Attributes:
        algorithm: the only algorithm this key signs with.
        kid: the key id put into headers, or None.
        public_jwk: the public part, ready to be published (RFC 7517), with ``alg``, ``use`` and ``kid``.
        thumbprint: RFC 7638, SHA-256, base64url.

    """

    algorithm: str
    kid: str | None
    public_jwk: Mapping[str, str]
    thumbprint: str
    _key: _PrivateKey = field(repr=False, compare=False, kw_only=True)

    def sign(self, data: bytes) -> bytes:
        """Return the JWS signature of ``data``: raw r and s for EC keys (RFC 7518, section 3.4)."""
        private = self._key
        if isinstance(private, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(private.sign(data, ec.ECDSA(_hash_of(self.algorithm))))
            size = (private.key_size + 7) // 8
            return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        if isinstance(private, rsa.RSAPrivateKey):
            return private.sign(data, _padding_of(self.algorithm), _hash_of(self.algorithm))
        return private.sign(data)


def import_public_jwk(members: Mapping[str, object], *, algorithm: str | None = None) -> VerificationKey:
    """Import the public part of a JWK (RFC 7517, section 4; RFC 7518, section 6; RFC 8037, section 2).

    Args:
        members: the parsed JSON object. Private members are not loaded.
        algorithm: the algorithm for a key that names none. EC and Ed25519 keys have only one; an RSA key without
            ``alg`` is held to RS256, which RFC 9068, section 4 makes everyone support.

    Raises:
        JwkError: a type, curve, size, algorithm, ``use`` or ``key_ops`` that does not serve verification.

    """
    key = _public_key(members)
    bound = _bind_algorithm(members, key, algorithm)
    if _text_or_none(members, "use") not in {None, "sig"}:
        _refuse("'use' is not 'sig'")
    private = "d" in members
    operations = members.get("key_ops")
    if operations is not None and not (
        isinstance(operations, list) and ("verify" in operations or (private and "sign" in operations))
    ):
        _refuse("'key_ops' does not allow 'verify'")
    return VerificationKey(bound, _kid_of(members), _thumbprint(_public_members(key)), private, _key=key)


def import_private_jwk(members: Mapping[str, object], *, algorithm: str | None = None) -> SigningKey:
    """Import a private JWK for signing: our own key, so its faults are configuration faults.

    Raises:
        ConfigurationError: it cannot be used, or its private part does not belong to its public part.

    """
    try:
        public = _public_key(members)
        bound = _bind_algorithm(members, public, algorithm)
        private = _private_key(members, public)
        kid = _kid_of(members)
    except JwkError as fault:
        message = str(fault)
    else:
        return _signing_key(private, bound, kid)
    _misused(message, "Give a valid private JWK.")


def import_private_pem(
    pem: bytes, *, algorithm: str | None = None, kid: str | None = None, password: bytes | None = None
) -> SigningKey:
    """Import a private key in PEM form (PKCS #8, SEC 1 or PKCS #1).

    Args:
        pem: the PEM text.
        algorithm: needed for RSA only (default RS256); EC and Ed25519 keys have one algorithm each.
        kid: the key id for headers; the RFC 7638 thumbprint when None.
        password: the passphrase of an encrypted PEM.

    Raises:
        ConfigurationError: no private key of a kind that signs, a wrong passphrase, or an algorithm that does not fit.

    """
    message = "it is not a private key in PEM form, or the passphrase is wrong or missing"
    try:
        loaded = serialization.load_pem_private_key(pem, password)
        if isinstance(loaded, _PrivateKey):
            public = _public_key(_public_members(loaded.public_key()))
            bound = _bind_algorithm({}, public, algorithm)
            return _signing_key(loaded, bound, kid or _thumbprint(_public_members(public)))
        message = "only EC, RSA and Ed25519 keys sign tokens here"
    except JwkError as fault:
        message = str(fault)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The error of the library may quote the input, so it is not chained (see the raise below).
        pass
    _misused(message, "Check the key file.")


def plain_name(algorithm: str) -> str:
    """Return the name that a key has for its algorithm: ``EdDSA`` for ``Ed25519``, and the same for all others."""
    return "EdDSA" if algorithm == "Ed25519" else algorithm


def _hash_of(algorithm: str) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512:
    return _HASHES[algorithm[-3:]]


def _padding_of(algorithm: str) -> padding.AsymmetricPadding:
    if algorithm.startswith("RS"):
        return _PKCS1V15
    digest = _hash_of(algorithm)
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)


def _text_or_none(members: Mapping[str, object], name: str) -> str | None:
    value = members.get(name)
    if value is not None and not isinstance(value, str):
        _refuse(f"{name!r} is not a string")
    return value


def _kid_of(members: Mapping[str, object]) -> str | None:
    kid = _text_or_none(members, "kid")
    if kid is not None and len(kid) > MAX_KID_LENGTH:
        _refuse("'kid' is too long")
    return kid


def _octets(members: Mapping[str, object], name: str, *, length: int | None = None) -> bytes:
    """Read a base64url member: of exactly ``length`` bytes, or a number without leading zero (RFC 7518, section 2)."""
    text = members.get(name)
    if not isinstance(text, str) or not text or len(text) > _MAX_JWK_MEMBER:
        _refuse(f"{name!r} is missing or not a base64url string of sensible size")
    try:
        octets = b64url_decode(text)
    except StrictError:
        octets = b""
    if not octets:
        _refuse(f"{name!r} is not canonical base64url")
    if length is not None and len(octets) != length:
        _refuse(f"{name!r} is not {length} bytes long")
    if length is None and octets[0] == 0:
        _refuse(f"{name!r} has a leading zero byte")
    return octets


def _number(members: Mapping[str, object], name: str, *, length: int | None = None) -> int:
    return int.from_bytes(_octets(members, name, length=length), "big")


def _public_key(members: Mapping[str, object]) -> _PublicKey:
    kind, curve_name = members.get("kty"), members.get("crv")
    if kind == "EC" and isinstance(curve_name, str) and curve_name in _CURVES:
        curve, size, _ = _CURVES[curve_name]
        x, y = _number(members, "x", length=size), _number(members, "y", length=size)
        try:
            return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
        except ValueError:
            pass
        _refuse("the point is not on the curve")
    if kind == "RSA":
        return _rsa_public_key(_number(members, "n"), _number(members, "e"))
    if kind == "OKP" and curve_name == "Ed25519":
        raw = _octets(members, "x", length=32)
        y = int.from_bytes(raw, "little") & ((1 << 255) - 1)
        if y >= _ED25519_P or y in _ED25519_WEAK:
            _refuse("the point is not canonical or of small order")
        return ed25519.Ed25519PublicKey.from_public_bytes(raw)
    _refuse("only EC (P-256, P-384, P-521), RSA and Ed25519 keys verify tokens here")


def _rsa_public_key(n: int, e: int) -> rsa.RSAPublicKey:
    if n.bit_length() not in _RSA_BITS:
        _refuse("the RSA modulus is not of 2048 to 8192 bits")
    if n % 2 == 0 or e not in _RSA_EXPONENTS:
        _refuse("the RSA modulus is even, or the exponent is not an odd number from 3 to 2^32")
    if _is_roca(n):
        _refuse("the RSA key was made by a generator known to be broken (CVE-2017-15361)")
    return rsa.RSAPublicNumbers(e, n).public_key()


@lru_cache(maxsize=1)
def _roca_residues() -> tuple[tuple[int, frozenset[int]], ...]:
    primes = [p for p in range(3, 168) if all(p % q for q in range(2, p))]
    return tuple((p, frozenset(pow(65537, k, p) for k in range(p))) for p in primes)


def _is_roca(n: int) -> bool:
    """Tell whether every small residue of ``n`` is a power of 65537: the fingerprint of CVE-2017-15361."""
    return all(n % p in powers for p, powers in _roca_residues())


def _private_key(members: Mapping[str, object], public: _PublicKey) -> _PrivateKey:
    private: _PrivateKey | None = None
    try:
        if isinstance(public, ec.EllipticCurvePublicKey):
            size = (public.key_size + 7) // 8
            private = ec.derive_private_key(_number(members, "d", length=size), public.curve)
        elif isinstance(public, rsa.RSAPublicKey):
            p, q, d, dp, dq, qi = (_number(members, name) for name in ("p", "q", "d", "dp", "dq", "qi"))
            private = rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, public.public_numbers()).private_key()
        else:
            private = ed25519.Ed25519PrivateKey.from_private_bytes(_octets(members, "d", length=32))
    except JwkError:
        raise
    except ValueError:
        pass
    if private is None or _public_members(private.public_key()) != _public_members(public):
        _refuse("the private part does not belong to the public part")
    return private


def _bind_algorithm(members: Mapping[str, object], key: _PublicKey, fallback: str | None) -> str:
    named = _text_or_none(members, "alg")
    if isinstance(key, rsa.RSAPublicKey):
        algorithm = named or fallback or "RS256"
        possible: Collection[str] = _RSA_ALGORITHMS
    else:
        only = (
            next(name for _, size, name in _CURVES.values() if size == (key.key_size + 7) // 8)
            if isinstance(key, ec.EllipticCurvePublicKey)
            else "EdDSA"
        )
        algorithm, possible = plain_name(named or fallback or only), {only}
    if algorithm not in possible:
        _refuse("the algorithm does not fit the key")
    return algorithm


def _public_members(key: _PublicKey) -> dict[str, str]:
    """Return the members that RFC 7638, section 3.2 (and RFC 8037, section 2) calls required, in its order."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        size = (key.key_size + 7) // 8
        name = next((name for name, entry in _CURVES.items() if entry[0].name == key.curve.name), None)
        if name is None:
            _refuse("the curve is not P-256, P-384 or P-521")
        numbers = key.public_numbers()
        x, y = (b64url_encode(number.to_bytes(size, "big")) for number in (numbers.x, numbers.y))
        return {"crv": name, "kty": "EC", "x": x, "y": y}
    if isinstance(key, rsa.RSAPublicKey):
        rsa_numbers = key.public_numbers()
        e, n = (b64url_encode(v.to_bytes((v.bit_length() + 7) // 8, "big")) for v in (rsa_numbers.e, rsa_numbers.n))
        return {"e": e, "kty": "RSA", "n": n}
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {"crv": "Ed25519", "kty": "OKP", "x": b64url_encode(raw)}


def _thumbprint(members: Mapping[str, str]) -> str:
    return b64url_encode(hashlib.sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).digest())


def _signing_key(private: _PrivateKey, algorithm: str, kid: str | None) -> SigningKey:
    members: dict[str, Any] = _public_members(private.public_key())
    thumbprint = _thumbprint(members)
    members.update({"alg": algorithm, "use": "sig"})
    if kid is not None:
        members["kid"] = kid
    return SigningKey(algorithm, kid, MappingProxyType(members), thumbprint, _key=private)
