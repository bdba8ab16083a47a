"""What an operator may want to know about verifying tokens: frozen values, free of tokens, secrets and claims.

Each names the issuer as it is configured (empty where a token named none that is), so that it may become
the label of a metric.
"""

from __future__ import annotations

from typing import NamedTuple

from accredit.errors import AccreditError


class KeysFetched(NamedTuple):
    """The keys of an issuer were fetched.

    Attributes:
        keys: how many verify tokens.
        skipped: how many members were not usable.
        private: how many members carried private key material, which was not loaded: their owner should be told.
        removed: how many of the keys before are gone; tokens that they verified were dropped.
        seconds: how long it took.

    """

    issuer: str
    keys: int
    skipped: int
    private: int
    removed: int
    seconds: float


class KeysFailed(NamedTuple):
    """The keys of an issuer could not be fetched.

    Attributes:
        error: why.
        serving: whether the last good keys serve on.
        seconds: how long it took.

    """

    issuer: str
    error: AccreditError
    serving: bool
    seconds: float


class IntrospectionFailed(NamedTuple):
    """The authorization server gave no answer about a token.

    Attributes:
        error: why.
        seconds: how long it took.

    """

    issuer: str
    error: AccreditError
    seconds: float


class TokenRejected(NamedTuple):
    """A token was refused.

    Attributes:
        reason: the stable word of :class:`~accredit.errors.InvalidTokenError`.

    """

    issuer: str
    reason: str


VerificationEvent = KeysFetched | KeysFailed | IntrospectionFailed | TokenRejected
