"""The parts a manager is put together from, looked at before any is used: a slip is told where it was made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from accredit.errors import ConfigurationError

_STORE = (
    "in_process",
    "read",
    "claim",
    "publish",
    "fail",
    "suspect",
    "cool",
    "remove",
    "endpoint_hold",
    "hold_endpoint",
    "after_fork",
    "close",
)
_TRANSPORT = ("send", "after_fork", "close")


def check_parts(*, store: object, transport: object, on_event: object, max_entries: object) -> None:
    """Refuse parts of the wrong kind; None stands for one that was not given.

    Raises:
        ConfigurationError: naming the argument.

    """
    if isinstance(max_entries, bool) or not isinstance(max_entries, int) or max_entries < 1:
        raise ConfigurationError(
            "max_entries is not a whole number above 0.", advice="Give a positive number.", key="max_entries"
        )
    if not _can(store, _STORE):
        _refuse("store", store, "Give an open store, such as SqliteStore(), or leave it out for the memory.")
    if not _can(transport, _TRANSPORT):
        _refuse("transport", transport, "Give for example HttpTransport(TransportSettings(...)), or leave it out.")
    if on_event is not None and not callable(on_event):
        _refuse("on_event", on_event, "Give a function that takes an event, or leave it out.")


def _can(part: object, names: Iterable[str]) -> bool:
    return part is None or (not isinstance(part, type) and all(hasattr(part, name) for name in names))


def _refuse(name: str, part: object, advice: str) -> NoReturn:
    what = f"the class {part.__name__}" if isinstance(part, type) else f"a {type(part).__name__}"
    raise ConfigurationError(f"{name} is {what}, which cannot be used as one.", advice=advice, key=name)
