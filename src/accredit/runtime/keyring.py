"""The keys of trusted issuers: fetched once for all that wait, renewed beside the traffic, kept through outages."""

from __future__ import annotations

from collections.abc import Callable

from accredit.core.jose import KeyId
from accredit.core.jwks import KeySet
from accredit.core.verification import FetchedKeys, fetch_keys
from accredit.core.verification_events import KeysFailed, KeysFetched, VerificationEvent
from accredit.errors import AccreditError, InvalidTokenError
from accredit.runtime.desk import Desk
from accredit.runtime.flight import Flight
from accredit.runtime.trusted import KeysLanded, Trusted, held_back


class Keyring:
    """Decides, for one verifier, when keys are fetched and which ones may verify."""

    def __init__(self, desk: Desk, withdraw: Callable[[Trusted, frozenset[KeyId]], None]) -> None:
        """Start without keys; ``withdraw`` is called, under the lock, with keys that are gone."""
        self._desk = desk
        self._withdraw = withdraw

    def keys(self, trusted: Trusted, landed: KeysLanded | None) -> KeySet | AccreditError | Flight[KeysLanded]:
        """Return the keys that may verify now; starts the renewal that is due, without waiting while they serve.

        Args:
            trusted: the issuer.
            landed: the fetch that this caller has waited for; it causes no other.

        """
        desk = self._desk
        keys = trusted.keys
        if keys is not None and desk.now() < trusted.renew_at:
            return keys
        boarded = False
        with desk.lock:
            now = desk.now()
            serves = trusted.serves(now)
            if trusted.flight is None and now >= max(trusted.retry_at, trusted.renew_at) and landed is None:
                self._board(trusted, now)
                boarded = True
            flight, error, rest = trusted.flight, trusted.error, trusted.retry_at - now
        if boarded and flight is not None:
            self._take_off(trusted, flight)
        keys = trusted.keys
        if keys is not None and (serves or (landed is not None and landed.error is None)):
            return keys
        if landed is not None and landed.error is not None:
            return landed.error.fresh()
        return flight if flight is not None else held_back(error, rest)

    def search(
        self, trusted: Trusted, keys: KeySet, landed: KeysLanded | None, denied: InvalidTokenError
    ) -> AccreditError | Flight[KeysLanded] | None:
        """Say what becomes of a token whose key is not among ``keys``; None when there are other keys by now."""
        if landed is not None:
            return denied if landed.error is None else landed.error.fresh()
        if trusted.trust.pinned_keys is not None:
            return denied
        with self._desk.lock:
            if trusted.keys is not keys:
                return None
            if trusted.flight is not None:
                return trusted.flight
            now = self._desk.now()
            rest = trusted.search_rest(now)
            if rest > 0:
                # If the last look failed, nobody knows whether the key is good: our trouble, not that of the token.
                return denied if trusted.error is None else held_back(trusted.error, rest)
            trusted.searched_at = now
            flight = self._board(trusted, now)
        self._take_off(trusted, flight)
        return flight

    def _board(self, trusted: Trusted, now: float) -> Flight[KeysLanded]:
        """Make the flight that is about to start. Called under the lock."""
        trusted.flight = Flight()
        # Others go on with the keys there are, past the lock, while it is up.
        trusted.renew_at = min(now + trusted.trust.deadline, trusted.unusable_at)
        return trusted.flight

    def _take_off(self, trusted: Trusted, flight: Flight[KeysLanded]) -> None:
        self._desk.run(
            trusted.origin,
            lambda: fetch_keys(trusted.trust),
            lambda result, seconds: self._land(trusted, flight, result, seconds),
        )

    def _land(self, trusted: Trusted, flight: Flight[KeysLanded], result: object, seconds: float) -> None:
        issuer = trusted.trust.issuer
        desk = self._desk
        event: VerificationEvent
        with desk.lock:
            now = desk.now()
            if trusted.flight is flight:
                trusted.flight = None
            if isinstance(result, FetchedKeys):
                gone = trusted.adopt(result, desk.jitter())
                if gone:
                    self._withdraw(trusted, gone)
                keys = result.keys
                event = KeysFetched(issuer, len(keys.keys), keys.skipped, keys.private, len(gone), seconds)
                landing = KeysLanded(None)
            else:
                assert isinstance(result, AccreditError)
                trusted.fail(result, now, desk.jitter())
                event = KeysFailed(issuer, result, trusted.serves(now), seconds)
                landing = KeysLanded(result)
        try:
            desk.emit(event)
        finally:
            flight.settle(landing)
