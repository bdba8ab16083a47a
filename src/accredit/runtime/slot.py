"""One identity in this process: its token, its flight, and what is remembered of its troubles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from accredit.core.flows import Failed, Obtained, Postponed, Surfaced
from accredit.core.registration import TokenRequest
from accredit.core.renewal import no_progress_until, schedule
from accredit.core.token import AccessToken
from accredit.errors import AccreditError
from accredit.runtime.flight import Flight

LEAST_RETRY = 1.0
_SAME_EXPIRY = 1.0
_NO_MEMBERS: Mapping[str, str] = MappingProxyType({})
Landing = AccessToken | AccreditError | Postponed | Surfaced


class Slot:
    """The first level: one identity, as this process knows it. Guarded by the engine's lock, except ``fresh``.

    Attributes:
        request: the token request.
        origin: the authorization server's, for its share of the workers.
        fresh: the token if it may be handed out after a look at nothing but the clock; read without a lock. None while
            evicted, so that whoever holds on to a slot looks it up again.
        token: the token there is, fresh or not.
        suspect: an API refused ``token``.
        flight: the flight that is up for this identity.
        retry_at: local time before which no renewal is tried again after a failure.
        held: what callers without a token get until ``retry_at``.
        failures: failures in a row.
        cooling: per API origin, local time until which its 401 causes no renewal.
        looked_at: local time at which a held credential was last compared with its source.
        kept: the keeper renews it without traffic.
        evicted: no longer in the table; look it up again.

    """

    __slots__ = (
        "cooling",
        "evicted",
        "failures",
        "flight",
        "fresh",
        "held",
        "kept",
        "looked_at",
        "origin",
        "request",
        "retry_at",
        "suspect",
        "token",
    )

    def __init__(self, request: TokenRequest, origin: str) -> None:
        """Start without a token."""
        self.request: TokenRequest = request
        self.origin: str = origin
        self.fresh: AccessToken | None = None
        self.token: AccessToken | None = None
        self.suspect: bool = False
        self.flight: Flight[Landing] | None = None
        self.retry_at: float = 0.0
        self.held: Failed | None = None
        self.failures: int = 0
        self.cooling: dict[str, float] | None = None
        self.kept: bool = False
        self.looked_at: float = 0.0
        self.evicted: bool = False

    def usable(self, now: float) -> AccessToken | None:
        """Return the token if it may still be sent: fresh, renewable or suspect."""
        token = self.token
        return token if token is not None and now < token.usable_until else None

    def generation(self) -> int | None:
        """Return the generation of the token there is."""
        return None if self.token is None else self.token.generation

    def adopt(self, token: AccessToken) -> None:
        """Take a token in."""
        self.token = token
        self.suspect = False
        self.failures = 0
        self.held = None
        self.retry_at = 0.0
        self.hand_out(token)

    def hand_out(self, token: AccessToken | None) -> None:
        """Let callers have a token after a look at nothing but the clock."""
        self.fresh = None if self.evicted else token

    def fail(self, failed: Failed, now: float) -> None:
        """Remember a failure. A token that is still usable stays, suspect or not."""
        self.failures += failed.counts
        self.retry_at = now + max(failed.hold, LEAST_RETRY)
        self.held = failed if failed.hold > 0 else None

    def mark_suspect(self, generation: int) -> bool:
        """Mark the token as refused if it is still that generation; tell whether it was."""
        if self.token is None or self.token.generation != generation:
            return False
        self.suspect = True
        self.fresh = None
        return True

    def clear_suspicion(self) -> None:
        """Hand the token out again as before."""
        self.suspect = False
        self.hand_out(self.token)

    def is_cooling(self, origin: str, now: float) -> bool:
        """Tell whether a 401 of that origin causes no renewal for now."""
        return self.cooling is not None and now < self.cooling.get(origin, 0.0)

    def forget(self) -> None:
        """Drop the token and every memory of troubles."""
        self.fresh = None
        self.token = None
        self.suspect = False
        self.retry_at = 0.0
        self.held = None
        self.failures = 0
        self.cooling = None


def make_token(
    obtained: Obtained,
    slot: Slot,
    *,
    jitter: float,
    clock: Callable[[], float],
    wall: float,
) -> tuple[AccessToken, bool]:
    """Return the token that callers get, scheduled on the local clock, and whether it is another than before."""
    record = obtained.stored.record
    registration = slot.request.registration
    plan = schedule(
        since=obtained.since,
        remaining=obtained.stored.remaining,
        lifetime=record.lifetime,
        renew_before=registration.renew_before,
        leeway=registration.leeway,
        jitter=jitter,
        refresh_in=record.refresh_in,
    )
    authorization = "Bearer " + record.value
    now = clock()
    before = slot.token
    progress = (
        before is None or before.authorization != authorization or abs(before.ends_at - plan.expires_at) > _SAME_EXPIRY
    )
    token = AccessToken(
        authorization=authorization,
        expires_at=wall + (plan.expires_at - now),
        lifetime=record.lifetime,
        granted_scope=record.granted_scope,
        members=MappingProxyType(dict(record.members)) if record.members else _NO_MEMBERS,
        generation=record.generation,
        # Never beyond what is usable: up to its renewal point a token is handed out without another look.
        renew_at=plan.renew_at if progress else min(no_progress_until(now, plan.usable_until), plan.usable_until),
        usable_until=plan.usable_until,
        ends_at=plan.expires_at,
        received_at=now,
        fingerprint=slot.request.identity.fingerprint,
        clock=clock,
    )
    return token, progress
