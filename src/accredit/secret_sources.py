"""Reading secrets from where they are: environment, file, callable. Runs on worker threads."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from accredit.core.client_auth import checked_secret
from accredit.core.secret import (
    CallableSecret,
    EnvironmentSecret,
    FileSecret,
    LiteralSecret,
    Secret,
    SecretSource,
)
from accredit.errors import ConfigurationError

_MAX_FILE_BYTES = 64 * 1024
Stamp = tuple[int, int, int, int]


class SecretReader:
    """Reads secrets; a file is read again only when it changed (atomic symlink swaps included)."""

    def __init__(self) -> None:
        """Start with nothing read."""
        self._files: dict[Path, tuple[Stamp, Secret]] = {}
        self._lock = threading.Lock()

    def read(self, source: SecretSource) -> Secret:
        """Return the secret of ``source`` as it is now.

        Raises:
            ConfigurationError: when there is none, or it could never be sent.

        """
        match source:
            case LiteralSecret(value):
                return value
            case EnvironmentSecret(variable):
                return _from_environment(variable)
            case FileSecret(path):
                return self._from_file(path)
            case CallableSecret(function):
                return _from_callable(function)

    def after_fork(self) -> None:
        """Replace the lock."""
        self._lock = threading.Lock()

    def _from_file(self, path: Path) -> Secret:
        problem: str | None = None
        text = ""
        stamp: Stamp = (0, 0, 0, 0)
        try:
            stamp = _stamp(path)
            with self._lock:
                known = self._files.get(path)
            if known is not None and known[0] == stamp:
                return known[1]
            with path.open("rb") as file:
                text, problem = _decoded(file.read(_MAX_FILE_BYTES + 1))
        except OSError as error:
            problem = f"cannot be read ({error.strerror or type(error).__name__})"
        if problem is not None:
            raise ConfigurationError(
                f"the secret file {path} {problem}.",
                advice="Check the path, its permissions and what is in it.",
                key="client_secret",
            )
        secret = checked_secret(Secret(_without_newline(text)), origin=f"file {path}")
        with self._lock:
            self._files[path] = (stamp, secret)
        return secret


def _stamp(path: Path) -> Stamp:
    status = path.stat()  # follows symlinks, so a swapped link shows as another inode
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


def _decoded(data: bytes) -> tuple[str, str | None]:
    if len(data) > _MAX_FILE_BYTES:
        return "", f"is larger than {_MAX_FILE_BYTES} bytes"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "", "is not UTF-8 (it starts with a UTF-16 byte order mark)"
    try:
        return data.decode("utf-8-sig"), None
    except UnicodeDecodeError:
        return "", "is not UTF-8"


def _without_newline(text: str) -> str:
    # Exactly one: what editors and "echo" add. More than one is no accident of theirs and is refused as a control.
    if text.endswith("\r\n"):
        return text[:-2]
    return text.removesuffix("\n")


def _from_environment(variable: str) -> Secret:
    text = os.environ.get(variable)
    if text is None:
        raise ConfigurationError(
            f"the environment variable {variable} is not set.",
            advice="Set it to the client secret, or change where the registration looks.",
            key="client_secret",
        )
    text = _without_newline(text)
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    if quoted or text.startswith("\ufeff"):
        what = "quotes around" if quoted else "a byte order mark before"
        raise ConfigurationError(
            f"the environment variable {variable} has {what} its value.",
            advice="Remove them where the variable is set: env files are often read without a shell."
            " (A secret that truly has them can come from a file.)",
            key="client_secret",
        )
    return checked_secret(Secret(text), origin=f"environment variable {variable}")


def _from_callable(function: object) -> Secret:
    problem = None
    value: object = None
    try:
        value = function()  # type: ignore[operator]  # a CallableSecret holds a callable
    except Exception as error:
        problem = f"raised {type(error).__name__}"
    if problem is None and not isinstance(value, str | Secret):
        problem = f"returned a {type(value).__name__}, not a text"
        if hasattr(value, "close") and type(value).__name__ == "coroutine":
            value.close()  # so that it is not reported as never awaited
            problem = "is asynchronous; secret functions are synchronous and run on a worker thread"
    if problem is not None:
        raise ConfigurationError(
            f"the function that gives the client secret {problem}.",
            advice="It must return the secret as a text or a Secret, and raise nothing.",
            key="client_secret",
        )
    secret = value if isinstance(value, Secret) else Secret(str(value))
    return checked_secret(secret, origin="the function")
