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
from accredit.errors import ConfigurationError


@final
class Secret:
    """A text that must not be seen: it prints as ``***`` everywhere and refuses to be pickled.

    Best effort, as Python has it: the text stays in memory until it is collected.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Wrap ``text``.

        Raises:
            ConfigurationError: it is not a text, such as the None of a variable that is not set.

        """
        if not isinstance(text, str):
            kind = type(text).__name__
            del text  # not to hang on the traceback: bytes are a secret too
            raise ConfigurationError(
                f"a secret is a text, not {kind}.",
                advice="Decode bytes first; variables and files have Secret.from_environment() and from_file().",
                key="secret",
            )
        self._text = text

    @staticmethod
    def from_file(path: str | Path) -> FileSecret:
        """Return the source that reads the secret from a file, again whenever it changes."""
        return FileSecret(Path(path))

    @staticmethod
    def from_environment(variable: str) -> EnvironmentSecret:
        """Return the source that reads the secret from an environment variable.

        Raises:
            ConfigurationError: no variable can have that name.

        """
        if not isinstance(variable, str) or not variable or "=" in variable or "\0" in variable:
            raise ConfigurationError(
                "this is not the name of an environment variable.",
                advice="Give the name of the variable that holds the secret, not its value.",
                key="client_secret",
            )
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
