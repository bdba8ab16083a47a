"""Compact JWS (RFC 7515): narrow and strict.

The compact form only, asymmetric algorithms only, from a list that the caller must give. A key never comes from the
token: ``jwk``, ``jku``, ``x5u`` and ``x5c`` of a header are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NoReturn

from accredit.core.jwk import (
    ALGORITHMS,
    MAX_KID_LENGTH,
    JwkError,
    SigningKey,
    VerificationKey,
    import_private_jwk,
    import_private_pem,
    import_public_jwk,
    same_algorithm,
)
from accredit.core.strict import StrictError, b64url_decode, b64url_encode, parse_json_object
from accredit.errors import ConfigurationError, InvalidTokenError

__all__ = [
    "ALGORITHMS",
    "MAX_TOKEN_BYTES",
    "CompactJws",
    "JwkError",
    "SigningKey",
    "VerificationKey",
    "import_private_jwk",
    "import_private_pem",
    "import_public_jwk",
    "parse_jws",
    "same_algorithm",
    "sign_jws",
    "verify_jws",
]

MAX_TOKEN_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class CompactJws:
    """A compact JWS whose form is right and whose signature has not been verified: it shows its header only.

    Attributes:
        header: the parsed header; every member of it comes from an unknown party.
        algorithm: its ``alg``, one of those the caller allowed.
        kid: its ``kid`` (opaque text), or None.

    """

    header: Mapping[str, object]
    algorithm: str
    kid: str | None
    _payload: bytes = field(repr=False, kw_only=True)
    _signed: bytes = field(repr=False, kw_only=True)
    _signature: bytes = field(repr=False, kw_only=True)


def sign_jws(payload: bytes, key: SigningKey, *, header: Mapping[str, object] | None = None) -> str:
    """Sign ``payload`` and return the compact form (RFC 7515, section 7.1); ``alg`` and ``kid`` come from the key.

    Raises:
        ConfigurationError: ``header`` tries to set ``alg``, ``crit`` or ``b64``.

    """
    extra = dict(header or {})
    if extra.keys() & {"alg", "crit", "b64"}:
        msg = "the JWS header members alg, crit and b64 are not for callers to set."
        raise ConfigurationError(msg, key="header")
    full: dict[str, object] = {"alg": key.algorithm}
    if key.kid is not None:
        full["kid"] = key.kid
    full.update(extra)
    signed = f"{b64url_encode(json.dumps(full, separators=(',', ':')).encode())}.{b64url_encode(payload)}"
    return f"{signed}.{b64url_encode(key.sign(signed.encode('ascii')))}"


def parse_jws(token: str, *, algorithms: Collection[str], max_bytes: int = MAX_TOKEN_BYTES) -> CompactJws:
    """Check the form of a compact JWS and read its header (RFC 7515, section 5.2; RFC 8725, section 3).

    Args:
        token: the text as it was presented. Its size is checked before anything is split or decoded.
        algorithms: the algorithms to accept; never taken from the token.
        max_bytes: most characters of ``token``.

    Raises:
        InvalidTokenError: reason ``too_large``, ``malformed``, ``algorithm`` or ``critical``.

    """
    if len(token) > max_bytes:
        _deny("the token is too large", "too_large")
    if not token.isascii() or token.count(".") != 2:
        _deny("the token is not a compact JWS", "malformed")
    head, body, tail = token.split(".")
    if not (head and body and tail):
        _deny("the token is not a compact JWS", "malformed")
    header: dict[str, object] = {}
    payload = signature = b""
    try:
        raw = b64url_decode(head)
        # A byte order mark is tolerated in other documents; here it would be a second spelling of one header.
        fault = raw.startswith(b"\xef\xbb\xbf")
        header = parse_json_object(raw, max_bytes=max_bytes, max_depth=8)
        payload, signature = b64url_decode(body), b64url_decode(tail)
    except StrictError:
        fault = True
    if fault:
        _deny("a segment of the token is not canonical base64url, or its header is not strict JSON", "malformed")
    return CompactJws(
        MappingProxyType(header),
        _header_algorithm(header, algorithms),
        _header_kid(header),
        _payload=payload,
        _signed=token[: len(head) + 1 + len(body)].encode("ascii"),
        _signature=signature,
    )


def verify_jws(jws: CompactJws, keys: Sequence[VerificationKey]) -> bytes:
    """Return the payload if one of the keys verifies the signature; each key is tried with its own algorithm only.

    Raises:
        InvalidTokenError: reason ``key`` (no key of that algorithm) or ``signature``.

    """
    candidates = [key for key in keys if same_algorithm(key.algorithm, jws.algorithm)]
    if not candidates:
        _deny("no key for the algorithm of the token", "key")
    # No early exit on the kind of failure: what is wrong with a signature is nobody's business.
    if not any(key.verifies(jws._signed, jws._signature) for key in candidates):  # noqa: SLF001
        _deny("the signature of the token is wrong", "signature")
    return jws._payload  # noqa: SLF001 - the payload is private so that only this function hands it out


def _deny(summary: str, reason: str) -> NoReturn:
    message = f"{summary}."
    raise InvalidTokenError(message, reason=reason)


def _header_algorithm(header: Mapping[str, object], algorithms: Collection[str]) -> str:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS or algorithm not in algorithms:
        _deny("the algorithm of the token is not accepted", "algorithm")
    if "crit" in header or header.get("b64", True) is not True:
        _deny("the token demands an extension that is not understood", "critical")
    return algorithm


def _header_kid(header: Mapping[str, object]) -> str | None:
    if "kid" not in header:
        return None
    kid = header["kid"]
    if not isinstance(kid, str) or len(kid) > MAX_KID_LENGTH:
        _deny("the key id of the token is malformed", "malformed")
    return kid
