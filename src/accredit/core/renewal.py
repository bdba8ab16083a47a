"""When a token is renewed and when it is no longer handed out: pure arithmetic over seconds."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["fresh", "renewable", "expired"]

BACK_OFF_FIRST = 1.0
BACK_OFF_LAST = 60.0
UNREACHABLE_LAST = 5.0
THROTTLE_LAST = 300.0
NO_PROGRESS_LEAST = 5.0


class Schedule(NamedTuple):
    """The life of one token on the local clock (seconds, same clock as ``now``).

    Attributes:
        renew_at: the renewal point; before it the token is fresh.
        usable_until: from here on the token is not handed out.
        expires_at: the end of the token's life.

    """

    renew_at: float
    usable_until: float
    expires_at: float

    def state(self, now: float) -> State:
        """Return the state at ``now``."""
        if now < self.renew_at:
            return "fresh"
        return "renewable" if now < self.usable_until else "expired"


def leeway_for(lifetime: float, leeway: float) -> float:
    """Return the leeway in seconds: at most a tenth of the lifetime."""
    return min(leeway, lifetime / 10.0)


def renewal_lead(lifetime: float, renew_before: float, leeway: float, jitter: float) -> float:
    """Return how long before expiry (seconds) a token becomes renewable.

    With ``late = min(2 * renew_before, lifetime / 4)`` the lead is uniform in ``[late / 2, late]`` as ``jitter``
    goes through ``[0, 1)``, and never below the leeway.
    """
    late = min(2.0 * renew_before, lifetime / 4.0)
    return max(late / 2.0 * (1.0 + jitter), leeway_for(lifetime, leeway))


def schedule(
    *,
    since: float,
    remaining: float,
    lifetime: float,
    renew_before: float,
    leeway: float,
    jitter: float,
    refresh_in: float | None = None,
) -> Schedule:
    """Return the schedule of a token that has ``remaining`` seconds to live at the local time ``since``.

    Args:
        since: local time from which ``remaining`` counts (when the request was sent).
        remaining: seconds of life left then.
        lifetime: seconds of the whole life; leeway and lead are taken of it.
        renew_before: seconds, see :func:`renewal_lead`.
        leeway: seconds, see :func:`leeway_for`.
        jitter: a number in ``[0, 1)``.
        refresh_in: seconds after issue at which the server wants the renewal, if it said so.

    """
    expires_at = since + remaining
    usable_until = expires_at - leeway_for(lifetime, leeway)
    if refresh_in is not None:
        renew_at = expires_at - lifetime + refresh_in
    else:
        renew_at = expires_at - renewal_lead(lifetime, renew_before, leeway, jitter)
    return Schedule(min(renew_at, usable_until), usable_until, expires_at)


def no_progress_until(now: float, usable_until: float) -> float:
    """Return when to try again after the server handed out the very same token: half the rest, at least 5 s."""
    return now + max(NO_PROGRESS_LEAST, (usable_until - now) / 2.0)


def back_off(failures: int, jitter: float, *, last: float = BACK_OFF_LAST) -> float:
    """Return the seconds to hold after failures in a row: 1 to 2, then 2 to 4, and so on up to ``last``.

    Args:
        failures: failures in a row, this one included; at least 1.
        jitter: a number in ``[0, 1)``; it spreads a fleet over the upper half of the hold.
        last: the longest hold in seconds.

    """
    # The exponent is bounded so that a long outage builds no huge number; 2 ** 16 s is far beyond any cap.
    full = min(last, BACK_OFF_FIRST * 2.0 ** min(failures, 16))
    return full * (1.0 + jitter) / 2.0


def attempt_pause(attempt: int, jitter: float) -> float:
    """Return the seconds before the next attempt of a flight: full jitter up to 0.25 s, 0.5 s, 1 s, ..."""
    return jitter * 0.25 * 2.0**attempt
