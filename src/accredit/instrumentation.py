"""Watching accredit: the events, the hook protocol, and the log that is one of the hooks.

A hook is any callable that takes an event. It runs on the thread that caused the event, so it should be quick;
what it raises is logged by type and otherwise ignored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from accredit.core.events import (
    AttemptFailed,
    Event,
    FlightFailed,
    LifetimeClamped,
    RecordRefused,
    SameTokenAgain,
    StoreFailed,
    TokenObtained,
    TokenRefused,
    TokenWithheld,
)

__all__ = [
    "AttemptFailed",
    "Event",
    "EventLog",
    "FlightFailed",
    "Hook",
    "LifetimeClamped",
    "RecordRefused",
    "SameTokenAgain",
    "StoreFailed",
    "TokenObtained",
    "TokenRefused",
    "TokenWithheld",
]

_LOG = logging.getLogger("accredit")
# An application that set up no logging has nothing printed on its behalf; what matters to callers they get raised.
_LOG.addHandler(logging.NullHandler())
_REPEAT_SECONDS = 60.0
_MOST_REMEMBERED = 1024


class Hook(Protocol):
    """What is told of events."""

    def __call__(self, event: Event, /) -> None:
        """Take note of ``event``."""


class EventLog:
    """The hook that logs under ``accredit``: trouble as a warning, the rest for debugging. No token, no secret.

    Trouble that repeats with every call (a store that is down, an origin that gets no token) is a warning once a
    minute and for debugging in between.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        """Start with nothing logged; ``now`` reads a clock in seconds."""
        self._now = now
        self._last: dict[tuple[str, ...], float] = {}

    def __call__(self, event: Event, /) -> None:
        """Log ``event``."""
        match event:
            case FlightFailed(registration, principal, error, seconds):
                _LOG.warning("no token for %s (%s) after %.3f s: %s", registration, principal, seconds, error)
            case StoreFailed(_, _, operation, kind, reason) if self._is_due("store", operation, kind):
                _LOG.warning("the token store failed at %s (%s); going on without it", operation, reason or kind)
            case TokenWithheld(registration, principal, origin) if self._is_due("withheld", registration, origin):
                _LOG.warning("no token of %s (%s) is sent to %s", registration, principal, origin)
            case RecordRefused(registration, principal, reason) if self._is_due("record", registration, reason):
                _LOG.warning("a stored record of %s (%s) is not used: %s", registration, principal, reason)
            case _:
                if _LOG.isEnabledFor(logging.DEBUG):
                    _LOG.debug("%r", event)

    def _is_due(self, *what: str) -> bool:
        now = self._now()
        last = self._last.get(what)
        if last is not None and now < last + _REPEAT_SECONDS:
            return False
        if len(self._last) >= _MOST_REMEMBERED:
            self._last.clear()
        self._last[what] = now
        return True
