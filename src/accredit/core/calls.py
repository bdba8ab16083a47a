"""Decisions about one call of an API: whose token it carries, where it goes, and what a 401 means for it.

The integrations ask these questions of every HTTP library alike, and differ only in how they read its objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Literal

from accredit.core.challenge import concerns_token, parse_challenges
from accredit.core.registration import kept_texts
from accredit.core.strict import StrictError, origin_of
from accredit.errors import ConfigurationError

Texts = str | Iterable[str]
#: What a 401 leads to: it reaches the caller as it is; it does, but the token is replaced for the next call; the call
#: is sent once more with a newer token; or the API refused a new token too.
Verdict = Literal["surface", "report", "retry", "final"]

_LONGEST_ORIGIN = 300
_WEB_SOCKETS = {"wss": "https", "ws": "http"}  # They begin as such a call.


@dataclass(frozen=True, slots=True)
class Choice:
    """Which token a call is to carry; None means what the registration says.

    Attributes:
        registration: id of the registration; the default one when None.
        scope: scopes.
        resource: resource indicators (RFC 8707).
        audience: the audience.
        principal: the principal.

    """

    registration: str | None = None
    scope: str | tuple[str, ...] | None = None
    resource: str | tuple[str, ...] | None = None
    audience: str | None = None
    principal: str | None = None

    def vary(
        self,
        registration: str | None = None,
        *,
        scope: Texts | None = None,
        resource: Texts | None = None,
        audience: str | None = None,
        principal: str | None = None,
    ) -> Choice:
        """Return another choice. One that names a registration starts from that; else the rest stays as it is."""
        start = self if registration is None else Choice(registration)
        return Choice(
            start.registration,
            start.scope if scope is None else kept_texts(scope, key="scope"),
            start.resource if resource is None else kept_texts(resource, key="resource"),
            start.audience if audience is None else audience,
            start.principal if principal is None else principal,
        )

    def vary_by(self, option: object) -> Choice:
        """Return the choice that an option of one call makes: an id, or a mapping of the names of the attributes.

        Raises:
            ConfigurationError: the option is neither, or has a name that does not exist.

        """
        if isinstance(option, str):
            return self.vary(option)
        if not isinstance(option, Mapping) or not set(option) <= _NAMES:
            raise ConfigurationError(
                "the option 'accredit' of the call is neither a registration id nor a mapping of what to choose.",
                advice=f"Give an id, or some of {', '.join(sorted(_NAMES))}.",
                key="accredit",
            )
        return self.vary(**option)


_NAMES = frozenset(field.name for field in fields(Choice))


@lru_cache(maxsize=256)
def call_origin(scheme: str, authority: str) -> str:
    """Return the origin of a call from what its library says of the URL (RFC 6454, section 4).

    Args:
        scheme: the scheme.
        authority: host and port, without user information.

    Returns:
        the origin; for a host that is open to two readings a text that is the origin of nothing, so that it is
        none of the allowed ones either.

    """
    text = f"{_WEB_SOCKETS.get(scheme, scheme)}://{authority}"
    try:
        return origin_of(text)
    except StrictError:
        return f"{text[:_LONGEST_ORIGIN].lower()}?"


def judge_refusal(challenges: Sequence[str], *, carried: bool, replayable: bool, retried: bool) -> Verdict:
    """Say what a 401 leads to.

    Args:
        challenges: every ``WWW-Authenticate`` field of the answer.
        carried: the refused request carried our token: it was not lost on a redirect, nor replaced.
        replayable: the body of the request can be sent again.
        retried: the call was already sent once more.

    """
    if not carried or not concerns_token(parse_challenges(challenges)):
        return "surface"
    if retried:
        return "final"
    return "retry" if replayable else "report"


def second_report(before: tuple[int, float] | None, generation: int, now: float, *, within: float) -> bool:
    """Tell whether an API refused two generations of a token in a row, where the call could not be sent again.

    Args:
        before: generation and time of the report before, or None.
        generation: the generation that was refused now.
        now: local time.
        within: seconds for which the report before counts.

    """
    return before is not None and before[0] != generation and now - before[1] < within
