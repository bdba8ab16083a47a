"""Signing keys of the development server: fresh ones, and those that are published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from accredit.core.jose import SigningKey, import_private_pem

Role = Literal["next", "current", "retired"]
_MAX_RETIRED: Final = 19
_PKCS8: Final = serialization.PrivateFormat.PKCS8


def new_signing_key() -> SigningKey:
    """Return a new ES256 key; its key id is its RFC 7638 thumbprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, _PKCS8, serialization.NoEncryption())
    return import_private_pem(pem)


def private_pem(key: SigningKey) -> str:
    """Return the private key in PEM form: for the state file, and nothing else."""
    secret = key._key  # noqa: SLF001 - the one place that may take a key of this server out of memory
    return secret.private_bytes(serialization.Encoding.PEM, _PKCS8, serialization.NoEncryption()).decode()


@dataclass(slots=True)
class RingKey:
    """A published key.

    Attributes:
        key: the key.
        role: ``"next"`` (published ahead, does not sign yet), ``"current"`` (signs) or ``"retired"``.
        last_expiry: when the last token it signed expires, seconds since the epoch; 0 when it signed none.

    """

    key: SigningKey = field(repr=False)
    role: Role
    last_expiry: float = 0.0


class KeyRing:
    """The published keys: at most one to come, one that signs, and those whose tokens may still be alive.

    Args:
        keys: the current key first, then retired ones, which stay until they are forgotten.
        changed: called with each key whose entry changed, and whether it is still there.

    """

    def __init__(self, keys: Sequence[SigningKey], changed: Callable[[RingKey, bool], None]) -> None:
        """Put the keys on the ring."""
        self._entries: list[RingKey] = [
            RingKey(key, "retired" if number else "current", float("inf") if number else 0.0)
            for number, key in enumerate(keys)
        ]
        self._changed = changed
        #: How often keys were forgotten before their time: whoever keeps a copy has to look again.
        self.forgotten: int = 0

    def restore(self, entries: Sequence[RingKey]) -> None:
        """Replace the ring by what was kept; there is exactly one current key among it."""
        order: dict[Role, int] = {"current": 0, "next": 1, "retired": 2}
        self._entries = sorted(entries, key=lambda entry: order[entry.role])

    @property
    def entries(self) -> tuple[RingKey, ...]:
        """Every published key: the current one first, then the next, then retired ones, youngest first."""
        return tuple(self._entries)

    @property
    def current(self) -> RingKey:
        """The key that signs."""
        return self._entries[0]

    def signed(self, expires_at: float) -> None:
        """Take note that the current key signed a token that lives until ``expires_at``."""
        if expires_at > self.current.last_expiry:
            self.current.last_expiry = expires_at
            self._changed(self.current, True)

    def stage(self, key: SigningKey) -> None:
        """Publish a key ahead of its use, so that verifiers know it when it begins to sign; once is enough."""
        if not any(entry.role == "next" for entry in self._entries):
            entry = RingKey(key, "next")
            self._entries.insert(1, entry)
            self._changed(entry, True)

    def rotate(self, key: SigningKey, *, forget_old: bool) -> SigningKey:
        """Sign with the staged key, or with ``key`` when none is; return the one that signs now.

        The old one stays published until the last token it signed has expired, unless ``forget_old``.
        """
        old = self.current
        staged = next((entry for entry in self._entries if entry.role == "next"), None)
        new = staged or RingKey(key, "current")
        new.role, old.role = "current", "retired"
        rest = [entry for entry in self._entries[1:] if entry is not staged]
        kept = [] if forget_old else [old, *rest][:_MAX_RETIRED]
        self._entries = [new, *kept]
        self.forgotten += forget_old
        for entry in (old, *rest):
            self._changed(entry, entry in kept)
        self._changed(new, True)
        return new.key

    def prune(self, now: float) -> None:
        """Forget retired keys whose last token has expired."""
        for entry in self._entries[1:]:
            if entry.role == "retired" and entry.last_expiry <= now:
                self._entries.remove(entry)
                self._changed(entry, False)
