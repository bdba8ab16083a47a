"""What an operator may want to know: frozen values, free of secrets and tokens.

Each names the registration (its id) and the principal (whose token it is); none has a scope, so
that they may become metric labels.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from accredit.errors import AccreditError


class TokenObtained(NamedTuple):
    """A token came into this process.

    Attributes:
        source: ``"server"`` when this process asked for it, ``"store"`` when another had.
        lifetime: seconds of its whole life.
        seconds: how long it took.

    """

    registration: str
    principal: str
    source: Literal["server", "store"]
    lifetime: float
    seconds: float


class FlightFailed(NamedTuple):
    """No token could be had. While an earlier one is usable, no caller notices.

    Attributes:
        error: why.
        seconds: how long it took.

    """

    registration: str
    principal: str
    error: AccreditError
    seconds: float


class AttemptFailed(NamedTuple):
    """One attempt failed and another follows.

    Attributes:
        error: why.
        pause: seconds until the next attempt.

    """

    registration: str
    principal: str
    error: AccreditError
    pause: float


class LifetimeClamped(NamedTuple):
    """The server gave a longer life than ``max_lifetime``.

    Attributes:
        stated: seconds the server stated.
        kept: seconds kept.

    """

    registration: str
    principal: str
    stated: float
    kept: float


class SameTokenAgain(NamedTuple):
    """A renewal brought the very same token with the same expiry."""

    registration: str
    principal: str


class TokenRefused(NamedTuple):
    """An API answered 401 to a token.

    Attributes:
        origin: the origin of the API; empty when the application reported it.
        outcome: ``"renewing"``, ``"newer"`` (a newer one was already there) or ``"cooling"`` (renewed for
            this origin a short while ago, in vain).

    """

    registration: str
    principal: str
    origin: str
    outcome: Literal["renewing", "newer", "cooling"]


class TokenWithheld(NamedTuple):
    """A call went out without a token, since its origin is not one of ``api_origins`` or not https.

    Attributes:
        origin: the origin of the call.

    """

    registration: str
    principal: str
    origin: str


class RecordRefused(NamedTuple):
    """A record of the store was not used and left in place.

    Attributes:
        reason: why: ``"identity"``, ``"lifetime"``, or a reason of
            :class:`~accredit.stores.codec.UnreadableRecord`, such as ``"key"`` or ``"tampered"``.

    """

    registration: str
    principal: str
    reason: str


class StoreFailed(NamedTuple):
    """An operation of the store failed; the process went on alone.

    Attributes:
        operation: the verb of the store contract.
        kind: the type of the failure.
        reason: what the store says about it, for people; empty when it says nothing that is known to be harmless.

    """

    registration: str
    principal: str
    operation: str
    kind: str
    reason: str = ""


#: Any of them. Each names the registration and the principal it is about.
Event = (
    TokenObtained
    | FlightFailed
    | AttemptFailed
    | LifetimeClamped
    | SameTokenAgain
    | TokenRefused
    | TokenWithheld
    | RecordRefused
    | StoreFailed
)
