"""Questions to authorization servers about tokens: one at a time for each token, few at once, held back in trouble."""

from __future__ import annotations

from typing import NamedTuple

from accredit.core.access_token import Verification, VerifiedToken
from accredit.core.introspection import Introspection
from accredit.core.jwks import KeySet
from accredit.core.verification import Answer, FetchedKeys, Refused, introspect
from accredit.core.verification_events import IntrospectionFailed, TokenRejected, VerificationEvent
from accredit.errors import AccreditError, InvalidTokenError, ThrottledError, UnreachableError
from accredit.runtime.desk import Desk
from accredit.runtime.flight import Flight
from accredit.runtime.trusted import SECRET_LOOK_INTERVAL, Trusted, held_back
from accredit.runtime.verdicts import Verdict, Verdicts, make_room

#: Most tokens that are asked about at once; beyond it callers are told that this API cannot decide now.
MOST_ASKED = 1024
_BUSY_SECONDS = 1.0


class TokenLanded(NamedTuple):
    """Introspection of one token has ended.

    Attributes:
        outcome: the token, why it is refused, or why nothing is known.

    """

    outcome: VerifiedToken | AccreditError


class _Question(NamedTuple):
    """One token that is asked about."""

    trusted: Trusted
    settings: Introspection
    digest: bytes
    verified: Verification | None
    flight: Flight[TokenLanded]


class Questions:
    """The questions of one verifier, and the tokens that were found to be inactive."""

    def __init__(self, desk: Desk, verdicts: Verdicts, most: int) -> None:
        """Start with nothing asked; remember at most so many inactive tokens."""
        self._desk = desk
        self._verdicts = verdicts
        self._most = most
        self.inactive: dict[bytes, tuple[float, InvalidTokenError]] = {}
        self.asked: dict[bytes, Flight[TokenLanded]] = {}

    def ask(
        self,
        trusted: Trusted,
        settings: Introspection,
        token: str,
        digest: bytes,
        *,
        verified: Verification | None,
        keys: KeySet | None,
    ) -> VerifiedToken | AccreditError | Flight[TokenLanded]:
        """Return what is known of a token, or the flight that will tell.

        Args:
            trusted: whose it is.
            settings: how to ask.
            token: the token.
            digest: its SHA-256.
            verified: what was verified here before, if anything was.
            keys: the keys of the issuer, for signed responses.

        """
        desk = self._desk
        known = self.inactive.get(digest)
        if known is not None and desk.now() < known[0]:
            return known[1].fresh()
        with desk.lock:
            now = desk.now()
            flying = self.asked.get(digest)
            if flying is not None:
                return flying
            held = self._standing_refusal(trusted, now)
            if held is not None:
                return self._through_outage(settings, digest, held, now) or held
            if len(self.asked) >= MOST_ASKED:
                return ThrottledError(
                    "too many tokens wait for the word of the authorization server.",
                    advice="Try again shortly; a flood of made-up tokens looks like this.",
                    retry_after=_BUSY_SECONDS,
                )
            flight = self.asked[digest] = Flight()
            refused = trusted.held if now < trusted.held_until else None
        question = _Question(trusted, settings, digest, verified, flight)
        desk.run(
            trusted.origin,
            lambda: introspect(
                trusted.trust,
                settings,
                token,
                keys=keys,
                may_fetch=lambda: self._begin_search(trusted),
                refused=refused,
            ),
            lambda result, seconds: self._land(question, result, seconds),
        )
        return flight

    def clear(self) -> None:
        """Forget what is known. Called under the lock."""
        self.inactive.clear()

    def after_fork(self) -> None:
        """Forget the questions of the parent."""
        self.asked = {}

    def _begin_search(self, trusted: Trusted) -> bool:
        """Tell whether a question may look for a new key now; if so, no other may until the cool-down is over."""
        with self._desk.lock:
            now = self._desk.now()
            if trusted.trust.pinned_keys is not None or trusted.search_rest(now) > 0:
                return False
            trusted.searched_at = now
            return True

    def _standing_refusal(self, trusted: Trusted, now: float) -> AccreditError | None:
        """Return why nothing is asked now. Called under the lock."""
        held = trusted.held
        if held is None or now >= trusted.held_until:
            return None
        if held.credential and now - trusted.looked_at >= SECRET_LOOK_INTERVAL:
            # The source may give another secret by now: one flight looks, and sends nothing if it does not.
            trusted.looked_at = now
            return None
        return held_back(held.error, trusted.held_until - now)

    def _through_outage(
        self, settings: Introspection, digest: bytes, error: AccreditError, now: float
    ) -> VerifiedToken | None:
        """Return a token that was active a short while ago, if that may count during an outage."""
        known = self._verdicts.known.get(digest)
        if known is None or known.asked_at is None or not isinstance(error, UnreachableError | ThrottledError):
            return None
        counts = now - known.asked_at <= settings.keep_through_outage and self._desk.wall() < known.ends
        return known.token if counts else None

    def _land(self, question: _Question, result: object, seconds: float) -> None:
        trusted = question.trusted
        issuer = trusted.trust.issuer
        desk = self._desk
        event: VerificationEvent | None = None
        outcome: VerifiedToken | AccreditError
        fetched = result.fetched if isinstance(result, Answer) else None
        if isinstance(result, Answer):
            result = result.outcome
        with desk.lock:
            now = desk.now()
            if isinstance(fetched, FetchedKeys):
                self._verdicts.withdraw(trusted, trusted.adopt(fetched, desk.jitter()))
            elif fetched is not None:
                trusted.fail(fetched, now, desk.jitter())
            self.asked.pop(question.digest, None)
            if isinstance(result, VerifiedToken):
                trusted.release()
                outcome = self._adopt(question, result, now)
            elif isinstance(result, InvalidTokenError):
                trusted.release()
                outcome = result
                self._verdicts.forget(question.digest)
                make_room(self.inactive, self._most)
                self.inactive[question.digest] = (now + question.settings.keep_inactive, result)
                event = TokenRejected(issuer, result.reason)
            else:
                assert isinstance(result, Refused | AccreditError)
                error = result.error if isinstance(result, Refused) else result
                if isinstance(result, Refused) and result is not trusted.held:
                    trusted.hold(result, now, desk.jitter())
                outcome = self._through_outage(question.settings, question.digest, error, now) or error
                event = IntrospectionFailed(issuer, error, seconds)
        try:
            if event is not None:
                desk.emit(event)
        finally:
            question.flight.settle(TokenLanded(outcome))

    def _adopt(self, question: _Question, said: VerifiedToken, now: float) -> VerifiedToken:
        """Keep an active token, and return it. Called under the lock."""
        verified, trusted = question.verified, question.trusted
        # Where both spoke, the claims are those that were signed.
        token = said if verified is None else verified.token
        expiries = [each for each in (token.expires_at, said.expires_at) if each is not None]
        verdict = Verdict(
            token,
            trusted,
            None if verified is None else verified.key.id,
            until=min(now + question.settings.keep_active, trusted.renew_at if verified is not None else now + 300.0),
            expires_at=min(expiries, default=None),
            asked_at=now,
        )
        if not self._desk.closed:
            self._verdicts.keep(question.digest, verdict)
        return token
