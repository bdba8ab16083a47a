"""The engine of verification: verdicts kept by digest, keys kept through outages, one flight for each question.

A verdict is looked up on the caller's own thread. What needs the network runs on a worker thread, once for all that
wait for it. Both faces of :mod:`accredit.verifier` stand on one engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from accredit.clock import Clock, SystemClock
from accredit.core.access_token import (
    PresentedToken,
    Verification,
    VerifiedToken,
    read_access_token,
    verify_presented,
)
from accredit.core.jose import MAX_TOKEN_BYTES, is_compact_jws
from accredit.core.jwks import KeySet
from accredit.core.strict import StrictError, parse_access_token
from accredit.core.trust import TrustedIssuer
from accredit.core.verification_events import TokenRejected
from accredit.errors import AccreditError, ConfigurationError, InvalidTokenError, UnreachableError
from accredit.runtime import forks
from accredit.runtime.desk import Desk, VerificationHook
from accredit.runtime.driver import Transport
from accredit.runtime.flight import Flight
from accredit.runtime.keyring import Keyring
from accredit.runtime.questions import Questions, TokenLanded
from accredit.runtime.trusted import KeysLanded, Trusted
from accredit.runtime.verdicts import Verdict, Verdicts
from accredit.runtime.verification_log import VerificationLog

Outcome = VerifiedToken | AccreditError | Flight[KeysLanded] | Flight[TokenLanded]


class VerificationEngine:
    """Verdicts, keys and questions of one verifier."""

    def __init__(
        self,
        trusted: Iterable[TrustedIssuer],
        *,
        transport: Callable[[], Transport],
        clock: Clock | None = None,
        inline: bool = False,
        max_entries: int = 10_000,
        hooks: tuple[VerificationHook, ...] = (),
    ) -> None:
        """Put the parts together; nothing is opened and no thread starts.

        Raises:
            ConfigurationError: no issuer, one issuer twice, or several that would be asked about opaque tokens.

        """
        self.clock: Clock = clock or SystemClock()
        self._issuers = _by_issuer(trusted)
        self._opaque = _for_opaque(self._issuers.values())
        self._algorithms = frozenset(name for each in self._issuers.values() for name in each.trust.policy.algorithms)
        self._desk = Desk(
            clock=self.clock, transport=transport, inline=inline, hooks=(VerificationLog(self.clock.now), *hooks)
        )
        self._verdicts = Verdicts(max_entries)
        self._keyring = Keyring(self._desk, self._verdicts.withdraw)
        self._questions = Questions(self._desk, self._verdicts, max_entries)
        self.patience: float = max(each.trust.deadline for each in self._issuers.values())
        forks.register(self)

    @property
    def known(self) -> dict[bytes, Verdict]:
        """Every verdict under the SHA-256 of its token, for look-ups past everything else."""
        return self._verdicts.known

    def check(self, token: str, digest: bytes, landed: KeysLanded | None) -> Outcome:
        """Return the verdict on a token, or the flight to wait for before asking again.

        Args:
            token: as presented.
            digest: its SHA-256.
            landed: the fetch of keys that this caller has waited for; it causes no other.

        """
        if self._desk.closed:
            return ConfigurationError(
                "the token verifier is closed.", advice="Keep it open for as long as tokens are verified."
            )
        trusted: Trusted | None = None
        outcome: Outcome
        try:
            presented = self._read(token)
            trusted = self._trusted(presented)
            outcome = self._decide(trusted, presented, token, digest, landed)
        except InvalidTokenError as error:
            outcome = error.fresh()
        if isinstance(outcome, InvalidTokenError):
            self.rejected(outcome, trusted)
        return outcome

    def rejected(self, error: InvalidTokenError, trusted: Trusted | None = None) -> None:
        """Tell the hooks of a token that was refused."""
        self._desk.emit(TokenRejected("" if trusted is None else trusted.trust.issuer, error.reason))

    def late(self) -> UnreachableError:
        """Return the error of a caller whose time is up."""
        return UnreachableError(
            f"no verdict on the token within {self.patience:g} s.",
            advice="Check that the authorization server is up and reachable from here.",
        )

    def close(self) -> None:
        """Forget every verdict and close what is open. Flights that are up end by themselves."""
        with self._desk.lock:
            self._desk.closed = True
            self._verdicts.known.clear()
            self._questions.clear()
        self._desk.close()

    def after_fork(self) -> None:
        """Replace, in a forked child, every lock and thread; keys and verdicts stay, flights of the parent do not."""
        self._desk.after_fork()
        self._questions.after_fork()
        for each in self._issuers.values():
            each.after_fork(self._desk.now())

    def _read(self, token: str) -> PresentedToken | None:
        """Return the token as a JWT; None when the authorization server is to say what it is."""
        opaque = self._opaque
        if opaque is not None:
            asks_only = len(self._issuers) == 1 and not opaque.trust.verifies_here
            if asks_only or not is_compact_jws(token):
                _check_opaque(token)
                return None
        return read_access_token(token, algorithms=self._algorithms)

    def _trusted(self, presented: PresentedToken | None) -> Trusted:
        found = self._opaque if presented is None else self._issuers.get(presented.issuer or "")
        if found is None:
            raise InvalidTokenError("the token is of another issuer.", reason="issuer")
        return found

    def _decide(
        self,
        trusted: Trusted,
        presented: PresentedToken | None,
        token: str,
        digest: bytes,
        landed: KeysLanded | None,
    ) -> Outcome:
        settings = trusted.trust.introspection
        verified: Verification | None = None
        if presented is not None and trusted.trust.verifies_here:
            found = self._verify(trusted, presented, landed)
            if not isinstance(found, Verification):
                return found
            verified = found
        if verified is not None and (settings is None or settings.tokens != "all"):
            self._keep(digest, trusted, verified)
            return verified.token
        assert settings is not None  # Without it every token is verified here.
        keys: KeySet | None = None
        if settings.signed:
            available = self._keyring.keys(trusted, landed)
            if not isinstance(available, KeySet):
                return available
            keys = available
        return self._questions.ask(trusted, settings, token, digest, verified=verified, keys=keys)

    def _verify(
        self, trusted: Trusted, presented: PresentedToken, landed: KeysLanded | None
    ) -> Verification | AccreditError | Flight[KeysLanded]:
        while True:
            keys = self._keyring.keys(trusted, landed)
            if not isinstance(keys, KeySet):
                return keys
            denied: InvalidTokenError
            try:
                return verify_presented(presented, keys, trusted.trust.policy, now=self._desk.wall())
            except InvalidTokenError as error:
                denied = error.fresh()
            # Without a key id, a new key shows itself by a signature that none of the known ones made.
            if denied.reason != "unknown_key" and not (denied.reason == "signature" and presented.kid is None):
                return denied
            found = self._keyring.search(trusted, keys, landed, denied)
            if found is not None:
                return found

    def _keep(self, digest: bytes, trusted: Trusted, verified: Verification) -> None:
        # Looked at again when the keys are: a token is not to outlive the key that vouches for it.
        verdict = Verdict(
            verified.token,
            trusted,
            verified.key.id,
            until=trusted.renew_at,
            expires_at=verified.token.expires_at,
        )
        with self._desk.lock:
            if not self._desk.closed:
                self._verdicts.keep(digest, verdict)


def _by_issuer(trusted: Iterable[TrustedIssuer]) -> dict[str, Trusted]:
    found: dict[str, Trusted] = {}
    for each in trusted:
        if not isinstance(each, TrustedIssuer):
            raise ConfigurationError(
                f"a trusted issuer is a {type(each).__name__}.", advice="Give TrustedIssuer values.", key="trusted"
            )
        if each.issuer in found:
            raise ConfigurationError(
                "one issuer is trusted twice.", advice="Give one TrustedIssuer with every audience.", key="issuer"
            )
        found[each.issuer] = Trusted(each)
    if not found:
        raise ConfigurationError("no issuer is trusted.", advice="Give at least one TrustedIssuer.", key="trusted")
    return found


def _for_opaque(trusted: Iterable[Trusted]) -> Trusted | None:
    asked = [each for each in trusted if each.trust.introspection is not None]
    if len(asked) > 1:
        raise ConfigurationError(
            "more than one issuer would be asked about opaque tokens.",
            advice="An opaque token does not say whose it is, and no server is to see another's tokens: give"
            " introspection to one issuer, or make a verifier for each.",
            key="introspection",
        )
    return asked[0] if asked else None


def _check_opaque(token: str) -> None:
    """Refuse, before anyone is asked, what no server can have issued (RFC 6749, appendix A.12)."""
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidTokenError("the token is too large.", reason="too_large")
    good = True
    try:
        parse_access_token(token)
    except StrictError:
        good = False
    if not good:
        raise InvalidTokenError("the token has characters that no token has.", reason="malformed")
