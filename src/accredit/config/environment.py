"""``ACCREDIT_`` variables: what goes over the configuration file, or replaces it.

=============================================  ====================================================================
variable                                       meaning
=============================================  ====================================================================
``ACCREDIT_CONFIG``                            path of the configuration file, unless one is named in code
``ACCREDIT_DEFAULT``                           id of the default registration
``ACCREDIT_<KEY>``                             a key of the default registration, such as ``ACCREDIT_SCOPE``
``ACCREDIT_CLIENT_SECRET_FILE``                path of a file with the secret of the default registration
``ACCREDIT_REGISTRATION__<ID>__<KEY>``         a key of the registration ``<ID>``
``ACCREDIT_REGISTRATION__<ID>__CLIENT_SECRET_FILE``  the same for its secret
``ACCREDIT_STORE_<KEY>``                       a key of the store, see :mod:`accredit.config.store`
=============================================  ====================================================================

``<KEY>`` is any key of :data:`accredit.config.schema.KEYS` in capitals. Lists are separated by spaces; numbers are
seconds; ``true`` and ``false``; ``EXTRA_PARAMETERS`` and ``AUTHORIZATION_DETAILS`` are JSON.

- The default registration is the one that ``ACCREDIT_DEFAULT`` names, else the file's default, else the file's only
  one, else a new one named ``default``.
- ``<ID>`` is compared with the ids of the file without regard to case, ``-`` and ``.`` written as ``_``. One that is
  not there makes a new registration, named in lower case with ``-`` for ``_``.
- A variable wins over the file; the long name of a key wins over the short one. ``TOKEN_ENDPOINT``, ``ISSUER`` and
  ``METADATA_URL`` name the server together: setting one drops what the file says of the others that it excludes. In the
  same way ``CLIENT_SECRET`` and ``CLIENT_SECRET_FILE`` replace the file's secret, and ``CLIENT_AUTH`` its
  ``basic_encoding``.
- One newline at the end of a value is dropped. An empty variable is an error, as are quotes around a value and a byte
  order mark: both come from a file of variables that was read without a shell.
- An unknown name that starts with ``ACCREDIT_REGISTRATION`` is an error. Others are not ours to judge; one that looks
  like a slip of a known name is logged as a warning.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from accredit.config.schema import KEYS, nearest, unknown_key, value_of_variable
from accredit.core.client_auth import checked_secret
from accredit.core.registration import ID_PATTERN
from accredit.core.secret import CallableSecret, EnvironmentSecret, FileSecret, Secret, SecretSource
from accredit.errors import ConfigurationError

PREFIX: Final = "ACCREDIT_"
NAMED: Final = "ACCREDIT_REGISTRATION__"
CONFIG: Final = "ACCREDIT_CONFIG"
DEFAULT: Final = "ACCREDIT_DEFAULT"
SECRET_FILE: Final = "client_secret_file"  # noqa: S105 - the name of a variable
_NAMES: Final = frozenset({*KEYS, SECRET_FILE})
# Keys that exclude each other: what the environment says of one drops what the file says of the others.
_DROPS: Final[Mapping[str, tuple[str, ...]]] = {
    "token_endpoint": ("issuer", "metadata_url"),
    "issuer": ("token_endpoint", "metadata_url"),
    "metadata_url": ("token_endpoint",),
    "client_auth": ("basic_encoding",),
}
_LOG: Final = logging.getLogger("accredit.config")
_SOURCE_NAME: Final = re.compile(r"[^\x00-\x20=\x7f]{1,256}")


@dataclass(slots=True)
class Draft:
    """A registration in the making.

    Attributes:
        values: key to value: what the file says, as it is, then what the environment says, converted.
        variables: key to the name of the environment variable that its value comes from.

    """

    values: dict[str, object] = field(default_factory=dict, repr=False)
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Lookup:
    """Reads a variable from a mapping that stands for the environment."""

    environ: Mapping[str, str] = field(repr=False)
    name: str

    def __call__(self) -> Secret:
        text = cleaned(self.name, self.environ.get(self.name, ""), key="client_secret")
        return checked_secret(Secret(text), origin=f"environment variable {self.name}")


def cleaned(name: str, text: str, *, key: str = "") -> str:
    """Return the value of a variable without one trailing newline.

    Raises:
        ConfigurationError: it is empty, in quotes, or starts with a byte order mark. It is not repeated.

    """
    text = text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
    problem, fix = None, ""
    if not text.strip():
        problem, fix = "is empty", "Give it a value, or unset it: an empty variable does not mean that it is unset."
    elif text.startswith("\ufeff"):
        problem, fix = "starts with a byte order mark", "Save the file that sets it as UTF-8 without one."
    elif len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        problem = "has quotes around its value"
        fix = "Remove them where it is set: files of variables are often read without a shell."
    if problem is not None:
        raise ConfigurationError(f"the environment variable {name} {problem}.", advice=fix, key=key or name)
    return text


def secret_source(name: str, environ: Mapping[str, str]) -> SecretSource:
    """Return the source that reads a secret from a variable each time it is needed.

    A variable that is set must hold a usable secret already now; one that is not set is an error when it is needed, so
    that a file can be shared by services that use different registrations of it.

    Raises:
        ConfigurationError: the name cannot be that of a variable, or its value could never be sent.

    """
    if not _SOURCE_NAME.fullmatch(name):
        raise ConfigurationError(
            "env is not the name of an environment variable.",
            advice='Write { env = "NAME" } with the name of the variable, not its value.',
            key="client_secret",
        )
    lookup = _Lookup(environ, name)
    if name in environ:
        lookup()
    return EnvironmentSecret(name) if environ is os.environ else CallableSecret(lookup)


def default_of(environ: Mapping[str, str]) -> str | None:
    """Return what ``ACCREDIT_DEFAULT`` says."""
    text = environ.get(DEFAULT)
    if text is None:
        return None
    text = cleaned(DEFAULT, text)
    if not ID_PATTERN.fullmatch(text):
        raise ConfigurationError(
            f"{DEFAULT} is not of the form [A-Za-z0-9._-]{{1,64}}.",
            advice="Give the id of a registration.",
            key=DEFAULT,
        )
    return text


def overlay(drafts: dict[str, Draft], default: str | None, environ: Mapping[str, str]) -> str | None:
    """Put what the environment says over the registrations of the file.

    Args:
        drafts: the registrations of the file by id; changed in place.
        default: id of the default registration as far as it is known.
        environ: the environment.

    Returns:
        the id of the default registration; None when there is none.

    Raises:
        ConfigurationError: naming the variable.

    """
    short = {key: name for key in _NAMES if (name := PREFIX + key.upper()) in environ}
    named = _named(environ, drafts)
    if default is None and len(drafts) == 1:
        default = next(iter(drafts))
    if short:
        if default is None and len(drafts) > 1:
            name = min(short.values())
            raise ConfigurationError(
                f"{name} speaks of the default registration, but there are several and none is the default.",
                advice=f"Set {DEFAULT}, or use the long form {NAMED}<ID>__{name.removeprefix(PREFIX)}.",
                key=name,
            )
        default = default or "default"
        _apply(drafts.setdefault(default, Draft()), default, short, environ)
    for registration_id, variables in named.items():
        _apply(drafts.setdefault(registration_id, Draft()), registration_id, variables, environ)
    _warn_of_slips(environ)
    return default


def _named(environ: Mapping[str, str], drafts: Mapping[str, Draft]) -> dict[str, dict[str, str]]:
    """Return, by registration id and key, the names of the long variables that are set."""
    written: dict[str, list[str]] = {}
    for existing in drafts:
        written.setdefault(_as_variable(existing), []).append(existing)
    found: dict[str, dict[str, str]] = {}
    for name in sorted(environ):
        if not name.startswith(NAMED.rstrip("_")):
            continue
        label, _, key = name.removeprefix(NAMED).rpartition("__")
        if not name.startswith(NAMED) or not label:
            raise ConfigurationError(
                f"the environment variable {_shown(name)} is not understood.",
                advice=f"Write {NAMED}<ID>__<KEY>, with two underscores on both sides of the id.",
                key=_shown(name),
            )
        if key.lower() not in _NAMES or key != key.upper():
            raise unknown_key(key.lower(), _NAMES, key=_shown(name), what="registration key")
        ids = written.get(label.upper(), [label.lower().replace("_", "-")])
        if len(ids) > 1:
            raise ConfigurationError(
                f"{_shown(name)} fits several registrations: {', '.join(sorted(ids))}.",
                advice="Rename one of them: '-', '.' and '_' are the same in the name of a variable.",
                key=_shown(name),
            )
        if not ID_PATTERN.fullmatch(ids[0]):
            raise ConfigurationError(
                f"{_shown(name)} names a registration that is not of the form [A-Za-z0-9._-]{{1,64}}.",
                advice="Rename it.",
                key=_shown(name),
            )
        found.setdefault(ids[0], {})[key.lower()] = name
    return found


def _as_variable(registration_id: str) -> str:
    return registration_id.upper().replace("-", "_").replace(".", "_")


def _apply(draft: Draft, registration_id: str, variables: Mapping[str, str], environ: Mapping[str, str]) -> None:
    if "client_secret" in variables and SECRET_FILE in variables:
        raise ConfigurationError(
            f"both {variables['client_secret']} and {variables[SECRET_FILE]} are set.",
            advice="Unset one of them.",
            key=f"registration.{registration_id}.client_secret",
        )
    for dropping in variables:
        for dropped in _DROPS.get(dropping, ()):
            if dropped not in variables:
                draft.values.pop(dropped, None)
    for key, name in sorted(variables.items()):
        target = "client_secret" if key == SECRET_FILE else key
        problem = None
        try:
            draft.values[target] = _read(key, name, environ)
        except ConfigurationError as error:
            problem = error
        if problem is not None:
            summary, advice = problem.summary, problem.advice
            if name not in summary:
                advice += f" It is set by {name}."
            raise ConfigurationError(summary, advice=advice, key=f"registration.{registration_id}.{target}")
        draft.variables[target] = name


def _read(key: str, name: str, environ: Mapping[str, str]) -> object:
    match key:
        case "client_secret":
            return secret_source(name, environ)
        case "client_secret_file":
            # Made absolute now: the process may change its directory before the secret is read.
            return FileSecret(Path(os.path.abspath(cleaned(name, environ[name]))))  # noqa: PTH100 - links stay links
    return value_of_variable(key, cleaned(name, environ[name]))


def _warn_of_slips(environ: Mapping[str, str]) -> None:
    known = {PREFIX + key.upper() for key in _NAMES} | {CONFIG, DEFAULT}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known and not name.startswith(NAMED):
            meant = nearest(name, known, cutoff=0.9)
            if meant is not None:
                _LOG.warning("the environment variable %s is not used; did you mean %s?", _shown(name), meant)


def _shown(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_.-]{1,160}", name) else f"{PREFIX}..."
