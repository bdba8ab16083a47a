"""Secrets: a value that prints as ``***``, and where a value comes from.

The sources here are plain data. Reading one (environment, file, callable) is I/O and happens in
:mod:`accredit.secret_sources`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import NamedTuple, NoReturn, final

from accredit.core.value import Value, frozen


@final
class Secret:
    """A text that must not be seen: it prints as ``***`` everywhere and refuses to be pickled.

    Best effort, as Python has it: the text stays in memory until it is collected.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Wrap ``text``."""
        self._text = text

    @staticmethod
    def from_file(path: str | Path) -> FileSecret:
        """Return the source that reads the secret from a file, again whenever it changes."""
        return FileSecret(Path(path))

    @staticmethod
    def from_environment(variable: str) -> EnvironmentSecret:
        """Return the source that reads the secret from an environment variable."""
        return EnvironmentSecret(variable)

    @staticmethod
    def from_function(function: Callable[[], str | Secret]) -> CallableSecret:
        """Return the source that calls a synchronous function for the secret, on a worker thread."""
        return CallableSecret(function)

    def reveal(self) -> str:
        """Return the text itself, for the one place that sends it."""
        return self._text

    def __repr__(self) -> str:
        """Return ``Secret('***')``."""
        return "Secret('***')"

    def __str__(self) -> str:
        """Return ``***``."""
        return "***"

    def __format__(self, format_spec: str) -> str:
        """Return ``***``, whatever the format."""
        return "***"

    def __eq__(self, other: object) -> bool:
        """Tell whether both wrap the same text."""
        return self._text == other._text if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        """Hash by the text."""
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        del self  # not to hang on the traceback
        msg = "a Secret refuses to be pickled: give the other process its own source (file, environment, callable)"
        raise TypeError(msg)


class LiteralSecret(NamedTuple):
    """The secret itself, given in code or configuration."""

    value: Secret


class EnvironmentSecret(NamedTuple):
    """An environment variable, read at every use."""

    variable: str


class FileSecret(NamedTuple):
    """A file (UTF-8), read again when it changes; one trailing newline is not part of the secret."""

    path: Path


@frozen()
class CallableSecret(Value):
    """A synchronous callable that returns the secret; it runs on a worker thread, never on an event loop."""

    function: Callable[[], str | Secret] = field(repr=False)


SecretSource = LiteralSecret | EnvironmentSecret | FileSecret | CallableSecret
