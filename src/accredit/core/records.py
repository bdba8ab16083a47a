"""What a store keeps and what it answers: plain values, shared by the flows and every store."""

from __future__ import annotations

from dataclasses import field
from typing import NamedTuple

from accredit.core.value import Value, frozen
from accredit.errors import AuthorizationServerError

_NUMBER_SHIFT = 32


@frozen()
class Record(Value):
    """A token as a store keeps it.

    Attributes:
        identity: the encoded identity it was obtained for; a record of another identity is a miss.
        value: the access token.
        lifetime: seconds of the whole life, counted from when the token request was sent.
        expires_at: end of life in seconds since the epoch, by the clock of the process that obtained it.
        generation: see :func:`next_generation`.
        granted_scope: the scopes the server stated, None when it stated none (RFC 6749, section 5.1).
        refresh_in: seconds after issue at which the server wants a renewal, or None.
        members: further members of the response that the registration keeps.
        refresh_token: the refresh token, if the registration uses one and one came (RFC 6749, section 6).

    """

    identity: bytes = field(repr=False)
    value: str = field(repr=False)
    lifetime: float
    expires_at: float
    generation: int
    granted_scope: tuple[str, ...] | None = None
    refresh_in: float | None = None
    members: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    refresh_token: str | None = field(default=None, repr=False)


def next_generation(previous: int, nonce: int) -> int:
    """Return the generation after ``previous``: a number that counts up, and 32 random bits behind it.

    The number orders; the bits tell apart two tokens that processes obtained without seeing each other.
    """
    return (((previous >> _NUMBER_SHIFT) + 1) << _NUMBER_SHIFT) | (nonce & 0xFFFFFFFF)


def is_newer(generation: int, than: int | None) -> bool:
    """Tell whether ``generation`` is another token than ``than``, and not an earlier one."""
    return than is None or (generation != than and generation >> _NUMBER_SHIFT >= than >> _NUMBER_SHIFT)


class Stored(NamedTuple):
    """A record found in a store.

    Attributes:
        record: the record.
        remaining: seconds of life left by the clock of the store.
        suspect: an API refused this generation.

    """

    record: Record
    remaining: float
    suspect: bool = False


class Hold(NamedTuple):
    """No request is made for this long, and why.

    Attributes:
        seconds: how long, from when it is given to the store, or what is left of it when the store gives it.
        error: what callers without a token get meanwhile.
        failures: failures in a row, this one included.
        credential: tag of the credential that was refused; ``""`` when it does not matter whose.

    """

    seconds: float
    error: AuthorizationServerError
    failures: int
    credential: str = ""


class Satisfied(NamedTuple):
    """There is nothing to do: the record is what was asked for."""


class Lead(NamedTuple):
    """The claimer has the lease and makes the request.

    Attributes:
        failures: failures in a row so far for this identity and credential.

    """

    failures: int = 0


class Wait(NamedTuple):
    """Another one has the lease.

    Attributes:
        seconds: how long its lease still runs, at most.

    """

    seconds: float


class Held(NamedTuple):
    """Nobody may make the request yet.

    Attributes:
        hold: what is left of the hold.

    """

    hold: Hold


Directive = Satisfied | Lead | Wait | Held


class Claimed(NamedTuple):
    """The answer to a claim.

    Attributes:
        stored: the record there is, if any, whether it satisfies the claim or not.
        directive: what the claimer is to do.

    """

    stored: Stored | None
    directive: Directive


class StoreDown(NamedTuple):
    """The store gave no answer; the driver found so. The flow goes on alone."""
