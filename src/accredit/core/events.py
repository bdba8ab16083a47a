"""What an operator may want to know: frozen values, free of secrets and tokens.

Each names the registration and the principal; none has a scope, so that they may become metric labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from accredit.errors import AccreditError


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events.

    Attributes:
        registration: id of the registration.
        principal: whose token it is.

    """

    registration: str
    principal: str


@dataclass(frozen=True, slots=True)
class TokenObtained(Event):
    """A token came into this process.

    Attributes:
        source: ``"server"`` when this process asked for it, ``"store"`` when another had.
        lifetime: seconds of its whole life.
        seconds: how long it took.

    """

    source: Literal["server", "store"]
    lifetime: float
    seconds: float


@dataclass(frozen=True, slots=True)
class FlightFailed(Event):
    """No token could be had. While an earlier one is usable, no caller notices.

    Attributes:
        error: why.
        seconds: how long it took.

    """

    error: AccreditError
    seconds: float


@dataclass(frozen=True, slots=True)
class AttemptFailed(Event):
    """One attempt failed and another follows.

    Attributes:
        error: why.
        pause: seconds until the next attempt.

    """

    error: AccreditError
    pause: float


@dataclass(frozen=True, slots=True)
class LifetimeClamped(Event):
    """The server gave a longer life than ``max_lifetime``.

    Attributes:
        stated: seconds the server stated.
        kept: seconds kept.

    """

    stated: float
    kept: float


@dataclass(frozen=True, slots=True)
class SameTokenAgain(Event):
    """A renewal brought the very same token with the same expiry."""


@dataclass(frozen=True, slots=True)
class TokenRefused(Event):
    """An API answered 401 to a token.

    Attributes:
        origin: the origin of the API; empty when the application reported it.
        outcome: ``"renewing"``, ``"newer"`` (a newer one was already there) or ``"cooling"`` (renewed for
            this origin a short while ago, in vain).

    """

    origin: str
    outcome: Literal["renewing", "newer", "cooling"]


@dataclass(frozen=True, slots=True)
class TokenWithheld(Event):
    """A call went out without a token, since its origin is not one of ``api_origins`` or not https.

    Attributes:
        origin: the origin of the call.

    """

    origin: str


@dataclass(frozen=True, slots=True)
class RecordRefused(Event):
    """A record of the store was not used and left in place.

    Attributes:
        reason: why: ``"identity"``, ``"lifetime"``, ...

    """

    reason: str


@dataclass(frozen=True, slots=True)
class StoreFailed(Event):
    """An operation of the store failed; the process went on alone.

    Attributes:
        operation: the verb of the store contract.
        kind: the type of the failure.

    """

    operation: str
    kind: str
