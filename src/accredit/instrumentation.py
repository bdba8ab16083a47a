"""Watching accredit: the events, the hook protocol, and the log that is one of the hooks.

A hook is any callable that takes an event. It runs on the thread that caused the event, so it should be quick;
what it raises is logged by type and otherwise ignored.
"""

from __future__ import annotations

import logging
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
    "FlightFailed",
    "Hook",
    "LifetimeClamped",
    "RecordRefused",
    "SameTokenAgain",
    "StoreFailed",
    "TokenObtained",
    "TokenRefused",
    "TokenWithheld",
    "log_event",
]

_LOG = logging.getLogger("accredit")


class Hook(Protocol):
    """What is told of events."""

    def __call__(self, event: Event, /) -> None:
        """Take note of ``event``."""


def log_event(event: Event) -> None:
    """Log an event under ``accredit``: trouble as a warning, the rest for debugging. No token, no secret."""
    match event:
        case FlightFailed(registration, principal, error, seconds):
            _LOG.warning(
                "no token for %s (%s) after %.3f s: %s",
                registration,
                principal,
                seconds,
                error,
            )
        case StoreFailed(_, _, operation, kind):
            _LOG.warning(
                "the token store failed at %s (%s); going on without it",
                operation,
                kind,
            )
        case TokenWithheld(registration, principal, origin):
            _LOG.warning("no token of %s (%s) is sent to %s", registration, principal, origin)
        case RecordRefused(registration, principal, reason):
            _LOG.warning(
                "a stored record of %s (%s) is not used: %s",
                registration,
                principal,
                reason,
            )
        case _:
            if _LOG.isEnabledFor(logging.DEBUG):
                _LOG.debug("%r", event)
