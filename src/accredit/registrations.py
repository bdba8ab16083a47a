"""Where a manager finds registrations: given in code, or by any object with ``get(id)``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

from accredit.core.registration import ClientRegistration
from accredit.errors import ConfigurationError


@runtime_checkable
class RegistrationRepository(Protocol):
    """Finds registrations by id. It may change at run time; it is asked at every call, so it should be quick."""

    def get(self, registration_id: str, /) -> ClientRegistration | None:
        """Return the registration, or None when there is none of that id."""


class Registrations:
    """A fixed set of registrations, with at most one default.

    Args:
        registrations: the registrations; ids must differ.
        default: id of the default; when there is only one registration, it is the default.

    """

    def __init__(self, registrations: Iterable[ClientRegistration], *, default: str | None = None) -> None:
        """Check ids and default."""
        self._by_id: dict[str, ClientRegistration] = {}
        for registration in registrations:
            if not isinstance(registration, ClientRegistration):
                raise ConfigurationError(
                    f"a {type(registration).__name__} is not a ClientRegistration.",
                    advice="Give ClientRegistration values, or an object with get(id).",
                    key="registrations",
                )
            if registration.id in self._by_id:
                raise ConfigurationError(
                    f"two registrations have the id {registration.id!r}.",
                    advice="Give each an id of its own.",
                    key=f"registration.{registration.id}",
                )
            self._by_id[registration.id] = registration
        if default is not None and default not in self._by_id:
            raise ConfigurationError(
                f"the default registration {default!r} does not exist.{self._there_are()}",
                advice="Name an existing one.",
                key="default",
            )
        if default is None and len(self._by_id) == 1:
            default = next(iter(self._by_id))
        self.default = default

    def get(self, registration_id: str, /) -> ClientRegistration | None:
        """Return the registration, or None when there is none of that id."""
        return self._by_id.get(registration_id)

    def __iter__(self) -> Iterator[ClientRegistration]:
        """Go through the registrations in the order given."""
        return iter(self._by_id.values())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._by_id)

    def _there_are(self) -> str:
        return f" There are: {', '.join(sorted(self._by_id))}." if self._by_id else " There are none."


def find(repository: RegistrationRepository, registration_id: str | None, default: str | None) -> ClientRegistration:
    """Return the registration of that id, or the default one.

    Raises:
        ConfigurationError: when there is none.

    """
    wanted = registration_id if registration_id is not None else default
    if wanted is None:
        raise ConfigurationError(
            "no registration was named and there is no default.",
            advice="Name one in the call, or set default.",
            key="default",
        )
    if not isinstance(wanted, str):
        raise ConfigurationError(
            f"registration is a {type(wanted).__name__}, not the id of one.",
            advice="Give the id as a text; what to ask for is given as scope, resource or audience, by name.",
            key="registration",
        )
    registration = repository.get(wanted)
    if registration is None:
        known = repository._there_are() if isinstance(repository, Registrations) else ""  # noqa: SLF001 - own class
        raise ConfigurationError(
            f"there is no registration {wanted!r}.{known}",
            advice="Check the id, or add the registration.",
            key=f"registration.{wanted}",
        )
    if not isinstance(registration, ClientRegistration):
        raise ConfigurationError(
            f"the repository returned a {type(registration).__name__} for {wanted!r}.",
            advice="get(id) must return a ClientRegistration or None.",
            key=f"registration.{wanted}",
        )
    return registration
