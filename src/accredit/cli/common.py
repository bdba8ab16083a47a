"""From options to a token manager."""

from __future__ import annotations

import dataclasses

from accredit.cli.exits import note
from accredit.cli.locate import config_file
from accredit.config import Configuration, load, load_configuration
from accredit.config.store import StoreSettings
from accredit.core.events import Event, StoreFailed
from accredit.instrumentation import Hook
from accredit.manager import TokenManager
from accredit.registrations import Registrations
from accredit.stores.contract import Store

# Processes that start at once stand in line for the file; a person or a cron job rather waits than asks twice.
_PATIENCE = 1.0


def registrations(config: str | None, *, deadline: float | None = None) -> Registrations:
    """Return the configured registrations, with another deadline (seconds) for their requests if there is one.

    Raises:
        ConfigurationError: naming the key, the reason and the fix.

    """
    return _with_deadline(load(config_file(config)), deadline)


def configuration(config: str | None, *, deadline: float | None = None) -> tuple[Registrations, StoreSettings | None]:
    """Return the same, and what is configured of the store.

    Raises:
        ConfigurationError: naming the key, the reason and the fix.

    """
    loaded: Configuration = load_configuration(config_file(config))
    return _with_deadline(loaded.registrations or Registrations(()), deadline), loaded.store


def _with_deadline(loaded: Registrations, deadline: float | None) -> Registrations:
    if deadline is None:
        return loaded
    return Registrations(
        (dataclasses.replace(registration, deadline=deadline) for registration in loaded), default=loaded.default
    )


def open_store(settings: StoreSettings | None, *, without: bool = False) -> Store | None:
    """Return the configured store; where nothing is configured, the file in the user's state directory.

    Args:
        settings: what is configured, or None.
        without: keep nothing beyond this process, whatever is configured.

    Returns:
        the store; None for the memory of this process.

    Raises:
        ConfigurationError: the encryption keys cannot be read, or the store refuses a setting.
        ImportError: a package that the configured store needs is not installed.

    """
    if without or (settings is not None and settings.url == "memory:"):
        return None
    if settings is not None and not settings.url.startswith("sqlite:"):
        return settings.open()
    try:
        from accredit.stores.sqlite import SqliteStore
    except ImportError:  # a Python that was built without SQLite
        note("this Python has no SQLite; tokens are kept in memory only.")
        return None
    if settings is None:
        return SqliteStore(timeout=_PATIENCE)
    return settings.open(timeout=_PATIENCE)


def manager(loaded: Registrations, *, store: Store | None = None, on_event: Hook | None = None) -> TokenManager:
    """Return a manager that works on the thread of the command: no renewal is left behind when the process ends."""
    return TokenManager(loaded, store=store, renewal="inline", on_event=_Notices(on_event))


class _Notices:
    """Says once on standard error that the store cannot be used; the command goes on without."""

    def __init__(self, other: Hook | None) -> None:
        self._other = other
        self._said = False

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, StoreFailed) and not self._said:
            self._said = True
            note(f"{event.reason or f'the token store failed ({event.kind}).'} This command goes on without it.")
        if self._other is not None:
            self._other(event)
