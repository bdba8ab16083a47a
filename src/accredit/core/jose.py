"""Compact JWS (RFC 7515): narrow and strict.

The compact form only, asymmetric algorithms only, from a list that the caller must give. A key never comes from the
token: ``jwk``, ``jku``, ``x5u`` and ``x5c`` of a header are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NoReturn

from accredit.core.jwk import (
    ALGORITHMS,
    MAX_KID_LENGTH,
    JwkError,
    KeyId,
    SigningKey,
    VerificationKey,
    import_private_jwk,
    import_private_pem,
    import_public_jwk,
    plain_name,
)
from accredit.core.strict import StrictError, b64url_decode, b64url_encode, parse_json_object
from accredit.errors import ConfigurationError, InvalidTokenError

__all__ = [
    "ALGORITHMS",
    "MAX_TOKEN_BYTES",
    "CompactJws",
    "JwkError",
    "KeyId",
    "SigningKey",
    "VerificationKey",
    "find_key",
    "import_private_jwk",
    "import_private_pem",
    "import_public_jwk",
    "is_compact_jws",
    "parse_jws",
    "plain_name",
    "sign_jws",
    "unverified_payload",
    "verify_jws",
]

MAX_TOKEN_BYTES: Final = 16 * 1024
_MAX_HEADER_DEPTH: Final = 8
# Most headers are the same for every token of a key. Longer ones are parsed each time, so that nobody can fill memory.
_MAX_KEPT_HEADER: Final = 512


class CompactJws:
    """A compact JWS whose form is right and whose signature has not been verified: it shows its header only.

    Attributes:
        header: the parsed header; every member of it comes from an unknown party.
        algorithm: its ``alg``, one of those the caller allowed.
        kid: its ``kid`` (opaque text), or None.

    """

    __slots__ = ("_payload", "_signature", "_signed", "algorithm", "header", "kid")

    def __init__(
        self,
        header: Mapping[str, object],
        algorithm: str,
        kid: str | None,
        *,
        payload: bytes,
        signed: bytes,
        signature: bytes,
    ) -> None:
        """Keep the parts. One is made for every token, so it is no dataclass: that would take twice as long."""
        self.header: Mapping[str, object] = header
        self.algorithm: str = algorithm
        self.kid: str | None = kid
        self._payload: bytes = payload
        self._signed: bytes = signed
        self._signature: bytes = signature


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
    header: Mapping[str, object] = {}
    payload = signature = b""
    fault = False
    try:
        header = _kept_header(head) if len(head) <= _MAX_KEPT_HEADER else _parse_header(head)
        payload, signature = b64url_decode(body), b64url_decode(tail)
    except StrictError:
        fault = True
    if fault:
        _deny("a segment of the token is not canonical base64url, or its header is not strict JSON", "malformed")
    return CompactJws(
        header,
        _header_algorithm(header, algorithms),
        _header_kid(header),
        payload=payload,
        signed=token[: len(head) + 1 + len(body)].encode("ascii"),
        signature=signature,
    )


def is_compact_jws(token: str) -> bool:
    """Tell whether a text means to be a compact JWS: three segments, the first of which is a header with ``alg``.

    What is not may be a token of another kind, for an authorization server to judge.
    """
    if len(token) > MAX_TOKEN_BYTES or not token.isascii() or token.count(".") != 2:
        return False
    head = token.partition(".")[0]
    try:
        return "alg" in (_kept_header(head) if len(head) <= _MAX_KEPT_HEADER else _parse_header(head))
    except StrictError:
        return False


def find_key(jws: CompactJws, keys: Sequence[VerificationKey]) -> VerificationKey:
    """Return the first of the keys that verifies the signature; each is tried with its own algorithm only.

    Raises:
        InvalidTokenError: reason ``key`` (no key of that algorithm) or ``signature``.

    """
    plain = plain_name(jws.algorithm)
    candidates = [key for key in keys if key.algorithm == plain]
    if not candidates:
        _deny("no key for the algorithm of the token", "key")
    for key in candidates:
        if key.verifies(jws._signed, jws._signature):  # noqa: SLF001 - nobody else has a use for them
            return key
    # Nothing about the kind of failure: what is wrong with a signature is nobody's business.
    return _deny("the signature of the token is wrong", "signature")


def verify_jws(jws: CompactJws, keys: Sequence[VerificationKey]) -> bytes:
    """Return the payload if one of the keys verifies the signature; each key is tried with its own algorithm only.

    Raises:
        InvalidTokenError: reason ``key`` (no key of that algorithm) or ``signature``.

    """
    find_key(jws, keys)
    return unverified_payload(jws)


def unverified_payload(jws: CompactJws) -> bytes:
    """Return the payload without verifying anything, for whoever has to find the key by it."""
    return jws._payload  # noqa: SLF001 - private so that getting at it takes a name that says what it is


def _deny(summary: str, reason: str) -> NoReturn:
    message = f"{summary}."
    raise InvalidTokenError(message, reason=reason)


def _parse_header(head: str) -> Mapping[str, object]:
    raw = b64url_decode(head)
    if raw.startswith(b"\xef\xbb\xbf"):
        # It is tolerated in other documents; here it would be a second spelling of one header.
        raise StrictError("a byte order mark before a JOSE header")
    return MappingProxyType(parse_json_object(raw, max_bytes=MAX_TOKEN_BYTES, max_depth=_MAX_HEADER_DEPTH))


_kept_header = lru_cache(maxsize=256)(_parse_header)


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
