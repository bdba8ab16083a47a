"""What a token is kept under: the whole token request as configured, encoded so that no two requests meet.

The encoding is injective: every text is written behind its own length, every list behind its own count.
``decode`` in the tests inverts it. No secret is part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote

VERSION = "accredit-identity-1"
DEFAULT_PREFIX = "oauth2:client"


class Identity(NamedTuple):
    """The identity of one token request.

    Attributes:
        registration: id of the registration, ``[A-Za-z0-9._-]{1,64}``.
        principal: whose token it is; ``service-account`` unless the caller says otherwise.
        encoded: the injective encoding of everything that makes the request what it is.
        fingerprint: the first 128 bits of the SHA-256 of ``encoded``.

    """

    registration: str
    principal: str
    encoded: bytes
    fingerprint: bytes

    def store_key(self, prefix: str = DEFAULT_PREFIX) -> str:
        """Return the key in a shared store; the literal braces make a Redis Cluster keep its parts in one slot."""
        principal = quote(self.principal, safe="-._~")
        return f"{prefix}:{self.registration}:{principal}:{{{self.fingerprint.hex()}}}"


def make_identity(registration: str, principal: str, fields: Sequence[tuple[str, Sequence[str]]]) -> Identity:
    """Return the identity of these ``(name, values)`` fields, in the given order."""
    encoded = encode(
        [
            (VERSION, ()),
            ("registration", (registration,)),
            ("principal", (principal,)),
            *fields,
        ]
    )
    return Identity(registration, principal, encoded, sha256(encoded).digest()[:16])


def encode(fields: Sequence[tuple[str, Sequence[str]]]) -> bytes:
    """Encode names and value lists injectively: ``count:`` before a list, ``length:`` before a text (bytes)."""
    parts = [b"%d:" % len(fields)]
    for name, values in fields:
        parts.append(_text(name))
        parts.append(b"%d:" % len(values))
        parts.extend(_text(value) for value in values)
    return b"".join(parts)


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return b"%d:%s" % (len(data), data)
