"""From options to a token manager."""

from __future__ import annotations

import dataclasses

from accredit.cli.locate import config_file
from accredit.config import load
from accredit.instrumentation import Hook
from accredit.manager import TokenManager
from accredit.registrations import Registrations


def registrations(config: str | None, *, deadline: float | None = None) -> Registrations:
    """Return the configured registrations, with another deadline (seconds) for their requests if there is one.

    Raises:
        ConfigurationError: naming the key, the reason and the fix.

    """
    loaded = load(config_file(config))
    if deadline is None:
        return loaded
    return Registrations(
        (dataclasses.replace(registration, deadline=deadline) for registration in loaded), default=loaded.default
    )


def manager(loaded: Registrations, *, on_event: Hook | None = None) -> TokenManager:
    """Return a manager that works on the thread of the command: no renewal is left behind when the process ends."""
    return TokenManager(loaded, renewal="inline", on_event=on_event)
