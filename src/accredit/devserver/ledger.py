"""What the development server remembers of the tokens it issued: everything but the tokens themselves. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

_MAX_TOKENS: Final = 100_000
_MAX_DENIED: Final = 100_000
_MAX_USED: Final = 100_000


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token that was issued.

    Attributes:
        token_id: its ``jti``.
        client_id: to whom.
        scope: the granted scopes.
        audience: for which APIs.
        issued_at: seconds since the epoch.
        expires_at: seconds since the epoch.
        token_format: ``"jwt"`` or ``"opaque"``.
        digest: SHA-256 of the token, in hexadecimal: it finds the token and gives nothing away.

    """

    token_id: str
    client_id: str
    scope: tuple[str, ...]
    audience: tuple[str, ...]
    issued_at: int
    expires_at: int
    token_format: str
    digest: str = field(repr=False)

    def claims(self, issuer: str) -> dict[str, object]:
        """Return its claims (RFC 9068, section 2.2)."""
        claims: dict[str, object] = {
            "iss": issuer,
            # Namespaced, so that no client can be registered under the name of a user (RFC 9068, section 5).
            "sub": f"client:{self.client_id}",
            "client_id": self.client_id,
            "aud": self.audience[0] if len(self.audience) == 1 else list(self.audience),
            "iat": self.issued_at,
            "exp": self.expires_at,
            "jti": self.token_id,
        }
        if self.scope:
            claims["scope"] = " ".join(self.scope)
        return claims


def digest_of(token: str) -> str:
    """Return what a token is found by."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(slots=True)
class Ledger:
    """Tokens by id and by digest, what was revoked, and identifiers that may be used once.

    Attributes:
        issued: how many tokens were issued; the serial number of the last one.

    """

    issued: int = 0
    _tokens: dict[str, IssuedToken] = field(default_factory=dict, repr=False)
    _by_digest: dict[str, str] = field(default_factory=dict, repr=False)
    _denied: dict[str, None] = field(default_factory=dict, repr=False)
    _denied_before: dict[str, int] = field(default_factory=dict, repr=False)
    _used: dict[tuple[str, str], float] = field(default_factory=dict, repr=False)

    def add(self, token: IssuedToken) -> tuple[str, ...]:
        """Keep a token; return the ids of those that went because there are too many."""
        self._tokens[token.token_id] = token
        self._by_digest[token.digest] = token.token_id
        self.issued = max(self.issued, serial_of(token.token_id))
        gone = []
        while len(self._tokens) > _MAX_TOKENS:
            oldest = next(iter(self._tokens.values()))
            del self._tokens[oldest.token_id]
            self._by_digest.pop(oldest.digest, None)
            gone.append(oldest.token_id)
        return tuple(gone)

    def find(self, token: str) -> IssuedToken | None:
        """Return what is known of a token that somebody presents."""
        return self._tokens.get(self._by_digest.get(digest_of(token), ""))

    def get(self, token_id: str) -> IssuedToken | None:
        """Return the token of that id."""
        return self._tokens.get(token_id)

    def newest_first(self) -> Iterator[IssuedToken]:
        """Return the tokens, the newest first."""
        return reversed(self._tokens.values())

    def deny(self, token_id: str) -> None:
        """Revoke the token of that id."""
        self._denied[token_id] = None
        while len(self._denied) > _MAX_DENIED:
            del self._denied[next(iter(self._denied))]

    def deny_before(self, client_id: str, serial: int) -> None:
        """Revoke the tokens of a client up to that serial number."""
        self._denied_before[client_id] = serial

    def is_denied(self, token_id: str, client_id: str) -> bool:
        """Tell whether the token was revoked."""
        # Every jti starts with its serial number: "all tokens so far" needs neither a list nor a clock.
        return token_id in self._denied or serial_of(token_id) <= self._denied_before.get(client_id, -1)

    def use(self, namespace: str, identifier: str, *, until: float, now: float) -> bool:
        """Use up an identifier; return False when it was used before.

        Look-up and entry are one step, and every kind of identifier has a namespace of its own.

        Args:
            namespace: what it identifies, and whose it is.
            identifier: such as a ``jti``.
            until: when it may be forgotten, seconds since the epoch.
            now: seconds since the epoch.

        """
        key = (namespace, identifier)
        if self._used.get(key, -1.0) > now:
            return False
        if len(self._used) >= _MAX_USED:
            self._used = {used: end for used, end in self._used.items() if end > now}
            # Full of live ones: to forget any would let it be replayed.
            if len(self._used) >= _MAX_USED:
                return False
        self._used[key] = until
        return True

    def restore_used(self, used: Mapping[tuple[str, str], float]) -> None:
        """Take back what was used before a restart."""
        self._used.update(used)


def serial_of(token_id: str) -> int:
    """Return the serial number in a token id, 0 when there is none."""
    serial = token_id.partition(".")[0]
    return int(serial) if serial.isascii() and serial.isdigit() and len(serial) < 20 else 0
