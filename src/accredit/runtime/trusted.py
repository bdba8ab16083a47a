"""What a process knows of one trusted issuer: its keys and their age, failures, and what holds."""

from __future__ import annotations

import math
from typing import NamedTuple

from accredit.core.jose import KeyId
from accredit.core.jwks import KeySet
from accredit.core.renewal import BACK_OFF_LAST, UNREACHABLE_LAST, back_off
from accredit.core.strict import StrictError, origin_of
from accredit.core.trust import TrustedIssuer
from accredit.core.verification import FetchedKeys, Refused
from accredit.errors import AccreditError, AuthorizationServerError, CredentialRefusedError, UnreachableError
from accredit.runtime.flight import Flight

SECRET_LOOK_INTERVAL = 1.0
_SPREAD = 0.1


class KeysLanded(NamedTuple):
    """A fetch of keys has ended.

    Attributes:
        error: why it failed, or None.

    """

    error: AccreditError | None


class Trusted:
    """The state of one issuer. All times are of the local clock; changed under the lock of the engine."""

    __slots__ = (
        "error", "failures", "flight", "held", "held_failures", "held_until", "key_ids", "keys", "looked_at",
        "origin", "renew_at", "retry_at", "searched_at", "trust", "unusable_at",
    )  # fmt: skip

    def __init__(self, trust: TrustedIssuer) -> None:
        """Start with the keys that were given, or with none."""
        self.trust: TrustedIssuer = trust
        self.origin: str = _origin(trust)
        self.keys: KeySet | None = trust.pinned_keys
        self.key_ids: frozenset[KeyId] = _ids(self.keys)
        self.renew_at: float = math.inf if self.keys is not None else -math.inf
        self.unusable_at: float = self.renew_at
        self.flight: Flight[KeysLanded] | None = None
        self.searched_at: float | None = None
        self.failures: int = 0
        self.error: AccreditError | None = None
        self.retry_at: float = -math.inf
        self.held: Refused | None = None
        self.held_until: float = -math.inf
        self.held_failures: int = 0
        self.looked_at: float = -math.inf

    def adopt(self, fetched: FetchedKeys, jitter: float) -> frozenset[KeyId]:
        """Take a key set in; return what is gone from the one before."""
        policy = self.trust.jwks_policy
        lifetime = policy.lifetime(fetched.max_age)
        new = _ids(fetched.keys)
        gone = self.key_ids - new
        self.keys, self.key_ids = fetched.keys, new
        # Spread, so that a fleet that started together does not fetch together.
        self.renew_at = fetched.since + min(lifetime * (1.0 + _SPREAD * jitter), policy.max_age)
        self.unusable_at = fetched.since + policy.max_age + policy.max_stale
        self.failures = 0
        self.error = None
        self.retry_at = -math.inf
        return gone

    def fail(self, error: AccreditError, now: float, jitter: float) -> None:
        """Remember a fetch that failed; the keys there are serve on."""
        self.failures += 1
        asked = error.retry_after if isinstance(error, AuthorizationServerError) else None
        # Without keys callers wait for every look; with them nobody does, and the server is left in peace for longer.
        last = UNREACHABLE_LAST if not self.serves(now) else BACK_OFF_LAST
        self.retry_at = now + (asked if asked is not None else back_off(self.failures, jitter, last=last))
        self.error = error
        self.renew_at = min(self.retry_at, self.unusable_at)

    def serves(self, now: float) -> bool:
        """Tell whether there are keys, renewed or not, that may still verify."""
        return self.keys is not None and now <= self.unusable_at

    def search_rest(self, now: float) -> float:
        """Return for how many seconds a key that is not known causes no fetch; 0 when it may cause one now."""
        policy = self.trust.jwks_policy
        if self.searched_at is None or policy.may_fetch_for_unknown_key(last_attempt=self.searched_at, now=now):
            return 0.0
        return self.searched_at + policy.cool_down - now

    def after_fork(self, now: float) -> None:
        """Forget the flight of the parent, in a forked child."""
        if self.flight is not None:
            self.flight = None
            self.renew_at = min(self.renew_at, now)

    def hold(self, refused: Refused, now: float, jitter: float) -> None:
        """Hold introspection back, after a failure that would be the same for any token."""
        error = refused.error
        asked = error.retry_after if isinstance(error, AuthorizationServerError) else None
        if isinstance(error, CredentialRefusedError):
            if error.status != 401 and error.error_code is None:
                return  # A bare 403 may be about this one token.
        elif asked is None and not (isinstance(error, UnreachableError) and error.status is None):
            return  # An answer to this one request: a token that a server stumbles over must not stop the others.
        self.held_failures += 1
        last = BACK_OFF_LAST if isinstance(error, CredentialRefusedError) else UNREACHABLE_LAST
        seconds = asked if asked is not None else back_off(self.held_failures, jitter, last=last)
        self.held, self.held_until, self.looked_at = refused, now + seconds, now

    def release(self) -> None:
        """Forget what held introspection back."""
        self.held, self.held_until, self.held_failures = None, -math.inf, 0


def _ids(keys: KeySet | None) -> frozenset[KeyId]:
    return frozenset() if keys is None else frozenset(key.id for key in keys.keys)


def _origin(trust: TrustedIssuer) -> str:
    for url in (trust.jwks_uri, trust.metadata_url, trust.issuer):
        if url is not None:
            try:
                return origin_of(url)
            except StrictError:
                continue
    return trust.issuer


def held_back(error: AccreditError | None, seconds: float) -> AccreditError:
    """Return an error of the caller's own that says for how many seconds nothing is asked."""
    if isinstance(error, AuthorizationServerError):
        return error.held_for(max(seconds, 0.0))
    if error is not None:
        return error.fresh()
    return UnreachableError("the keys of the issuer are not known.", advice="Try again.")
