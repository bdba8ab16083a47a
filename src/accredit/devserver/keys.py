"""Fresh signing keys for the development server. They live in its memory only."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from accredit.core.jose import SigningKey, import_private_pem


def new_signing_key() -> SigningKey:
    """Return a new ES256 key; its key id is its RFC 7638 thumbprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return import_private_pem(pem)
