"""What the fuzz targets share: how an input becomes a response, and a key that is the same at every run."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from functools import cache
from typing import Final

from accredit.core.jose import SigningKey, import_private_jwk, sign_jws
from accredit.core.jwks import KeySet, parse_jwks
from accredit.core.messages import Response
from accredit.core.strict import StrictError, parse_json_object
from tests.fuzz.checks import MAX_INPUT, filled

WALL: Final = 1_750_000_000.0


def response_of(data: bytes) -> tuple[Response, frozenset[str]]:
    """Read ``STATUS option option``, header lines, an empty line, and the body."""
    head, _, body = filled(data).partition(b"\n\n")
    first, *lines = head.decode("latin-1").split("\n")
    status, *options = first.split(" ")
    headers = []
    for line in lines:
        name, _, value = line.partition(":")
        headers.append((name.lower(), value.strip(" \t")))
    # What a transport lets through: a final status of three digits.
    number = int(status) if status.isascii() and status.isdigit() and len(status) == 3 and status[0] > "1" else 200
    return Response(number, tuple(headers), body), frozenset(options)


@cache
def signing_key() -> SigningKey:
    """Return a key that is the same at every run (the private number is 7)."""
    from cryptography.hazmat.primitives.asymmetric import ec

    numbers = ec.derive_private_key(7, ec.SECP256R1()).private_numbers()
    names = {"x": numbers.public_numbers.x, "y": numbers.public_numbers.y, "d": numbers.private_value}
    members = {name: base64.urlsafe_b64encode(n.to_bytes(32)).rstrip(b"=").decode() for name, n in names.items()}
    return import_private_jwk({"kty": "EC", "crv": "P-256", "kid": "seven", **members})


@cache
def key_set() -> KeySet:
    """Return the set with that key."""
    return parse_jwks(json.dumps({"keys": [dict(signing_key().public_jwk)]}).encode())


def signed(header: bytes, claims: bytes) -> str:
    """Return a token with our signature and whatever header and claims."""
    members: dict[str, object] = {}
    with suppress(StrictError, UnicodeError):
        members = parse_json_object(header, max_bytes=MAX_INPUT)
    if members.keys() & {"alg", "crit", "b64"} or not members:
        # What our own signing function refuses to write is written by hand.
        parts = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (header, claims)]
        text = ".".join(parts)
        return f"{text}.{base64.urlsafe_b64encode(signing_key().sign(text.encode())).rstrip(b'=').decode()}"
    return sign_jws(claims, signing_key(), header=members)
