"""Verify the access tokens that an API is called with: :class:`TokenVerifier` and :class:`AsyncTokenVerifier`.

JWTs by RFC 9068 and RFC 8725, opaque tokens by introspection (RFC 7662, RFC 9701). Both faces have the same methods and
share one engine: verdicts, keys and flights.

A token that is not acceptable raises :class:`~accredit.errors.InvalidTokenError` (answer 401, ``invalid_token``). When
this API cannot decide, since the authorization server is down or refuses this API, an
:class:`~accredit.errors.AuthorizationServerError` or :class:`~accredit.errors.ConfigurationError` is raised instead
(answer 503, never 401).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from types import TracebackType
from typing import Self

from accredit.clock import Clock
from accredit.core.access_token import VerifiedToken
from accredit.core.introspection import Introspection
from accredit.core.jose import MAX_TOKEN_BYTES
from accredit.core.jwks import JwksPolicy
from accredit.core.trust import TrustedIssuer
from accredit.core.verification_events import (
    IntrospectionFailed,
    KeysFailed,
    KeysFetched,
    TokenRejected,
    VerificationEvent,
)
from accredit.engine import Renewal
from accredit.errors import AccreditError, ConfigurationError, InvalidTokenError
from accredit.runtime.desk import VerificationHook
from accredit.runtime.driver import Transport
from accredit.runtime.flight import Flight
from accredit.runtime.questions import TokenLanded
from accredit.runtime.trusted import KeysLanded
from accredit.runtime.verification import VerificationEngine

__all__ = [
    "AsyncTokenVerifier",
    "Introspection",
    "IntrospectionFailed",
    "JwksPolicy",
    "KeysFailed",
    "KeysFetched",
    "TokenRejected",
    "TokenVerifier",
    "TrustedIssuer",
    "VerificationEvent",
    "VerificationHook",
    "VerifiedToken",
]

# A flight ends by its own deadline; a caller that waits for as long lets it say what went wrong.
_GRACE = 0.05
# Keys, and then a question to the authorization server: a token waits for no more than these.
_MOST_FLIGHTS = 3


class _Face:
    """What both faces do alike: everything but waiting."""

    def __init__(
        self,
        trusted: TrustedIssuer | Iterable[TrustedIssuer],
        *,
        transport: Transport | None = None,
        clock: Clock | None = None,
        on_event: VerificationHook | None = None,
        max_entries: int = 10_000,
        renewal: Renewal = "thread",
    ) -> None:
        """Put the parts together. Nothing is opened, read or sent, and no thread starts.

        Args:
            trusted: the issuer whose tokens are accepted, or several.
            transport: fetches keys and asks about tokens; the library's own unless given.
            clock: the clocks, for tests that steer time.
            on_event: told of every :data:`VerificationEvent`; what it raises is logged by type and otherwise ignored.
            max_entries: most verified tokens that are remembered, and most inactive ones.
            renewal: ``"thread"``, or ``"inline"`` where no threads can be had: then a caller's own thread fetches.

        Raises:
            ConfigurationError: an argument is wrong.

        """
        if renewal not in ("thread", "inline"):  # a tuple: what is given may have no hash
            raise ConfigurationError(
                "renewal is neither 'thread' nor 'inline'.", advice="Use one of them.", key="renewal"
            )
        if isinstance(max_entries, bool) or not isinstance(max_entries, int) or max_entries < 1:
            raise ConfigurationError("max_entries is below 1.", advice="Give a positive number.", key="max_entries")
        if not isinstance(trusted, TrustedIssuer | Iterable):
            raise ConfigurationError(
                f"trusted is a {type(trusted).__name__}.", advice="Give a TrustedIssuer, or several.", key="trusted"
            )
        self._engine = VerificationEngine(
            (trusted,) if isinstance(trusted, TrustedIssuer) else trusted,
            transport=_default_transport if transport is None else lambda: transport,
            clock=clock,
            inline=renewal == "inline",
            max_entries=max_entries,
            hooks=() if on_event is None else (on_event,),
        )
        self._bind()

    def _bind(self) -> None:
        # What a look-up needs, without a way through the engine.
        self._known = self._engine.known
        self._now = self._engine.clock.now
        self._wall = self._engine.clock.wall

    def share_engine(self, other: _Face) -> Self:
        """Become another face of the engine of ``other``."""
        self._engine = other._engine
        self._bind()
        return self


class TokenVerifier(_Face):
    """Verifies tokens for threads. Safe to share between threads; make one per process and keep it.

    Example::

        verifier = TokenVerifier(TrustedIssuer("https://idp.example.com", audience="https://api.example.com"))
        token = verifier.verify(presented)
        if token.has_scope("orders:read"): ...

    """

    def verify(self, token: str) -> VerifiedToken:
        """Return the token once it has passed every check; at once if it did so before and still lives.

        Args:
            token: the access token as it was presented, without the scheme.

        Raises:
            InvalidTokenError: it is not acceptable, with its reason (RFC 6750, section 3.1: ``invalid_token``).
            AuthorizationServerError: the keys, or the word of the authorization server, cannot be had.
            ConfigurationError: the verifier is closed, or a secret cannot be read.

        """
        outcome: VerifiedToken | AccreditError
        if not isinstance(token, str) or len(token) > MAX_TOKEN_BYTES or not token.isascii():
            outcome = _unreadable(token)
            self._engine.rejected(outcome)
        else:
            digest = sha256(token.encode()).digest()
            known = self._known.get(digest)
            if known is not None and self._now() < known.until and self._wall() < known.ends:
                return known.token
            outcome = self._decide(token, digest)
        # No frame of an error's traceback may hold the token: crash reports show local variables.
        del token
        if isinstance(outcome, AccreditError):
            raise outcome
        return outcome

    def asynchronous(self) -> AsyncTokenVerifier:
        """Return the asynchronous face of the same engine."""
        return AsyncTokenVerifier.__new__(AsyncTokenVerifier).share_engine(self)

    def close(self) -> None:
        """Forget every verdict and close what is open. Later calls raise ConfigurationError."""
        self._engine.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _decide(self, token: str, digest: bytes) -> VerifiedToken | AccreditError:
        engine = self._engine
        landed: KeysLanded | None = None
        for _ in range(_MOST_FLIGHTS):
            got = engine.check(token, digest, landed)
            if not isinstance(got, Flight):
                return got
            if not got.wait(engine.clock, engine.patience + _GRACE):
                return engine.late()
            landing = got.outcome
            if isinstance(landing, TokenLanded):
                return _own(landing.outcome)
            landed = landing
        return engine.late()


class AsyncTokenVerifier(_Face):
    """Verifies tokens for tasks of asyncio and trio. One verifier serves several loops; make one per process."""

    async def verify(self, token: str) -> VerifiedToken:
        """Return the token once it has passed every check; at once if it did so before and still lives.

        A caller that is cancelled hurts no other. Arguments and errors as for :meth:`TokenVerifier.verify`.
        """
        outcome: VerifiedToken | AccreditError
        if not isinstance(token, str) or len(token) > MAX_TOKEN_BYTES or not token.isascii():
            outcome = _unreadable(token)
            self._engine.rejected(outcome)
        else:
            digest = sha256(token.encode()).digest()
            known = self._known.get(digest)
            if known is not None and self._now() < known.until and self._wall() < known.ends:
                return known.token
            outcome = await self._decide(token, digest)
        del token  # as in TokenVerifier.verify
        if isinstance(outcome, AccreditError):
            raise outcome
        return outcome

    def synchronous(self) -> TokenVerifier:
        """Return the synchronous face of the same engine."""
        return TokenVerifier.__new__(TokenVerifier).share_engine(self)

    async def close(self) -> None:
        """Forget every verdict and close what is open. Later calls raise ConfigurationError."""
        self._engine.close()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    async def _decide(self, token: str, digest: bytes) -> VerifiedToken | AccreditError:
        engine = self._engine
        landed: KeysLanded | None = None
        for _ in range(_MOST_FLIGHTS):
            got = engine.check(token, digest, landed)
            if not isinstance(got, Flight):
                return got
            if not await got.wait_async(engine.patience + _GRACE):
                return engine.late()
            landing = got.outcome
            if isinstance(landing, TokenLanded):
                return _own(landing.outcome)
            landed = landing
        return engine.late()


def _own(outcome: VerifiedToken | AccreditError) -> VerifiedToken | AccreditError:
    """Return what a flight brought, an error as one of this waiter's own."""
    return outcome.fresh() if isinstance(outcome, AccreditError) else outcome


def _unreadable(token: object) -> InvalidTokenError:
    if isinstance(token, str) and len(token) > MAX_TOKEN_BYTES:
        return InvalidTokenError("the token is too large.", reason="too_large")
    return InvalidTokenError("the token has characters that no token has.", reason="malformed")


def _default_transport() -> Transport:
    from accredit.transport import HttpTransport

    return HttpTransport()
