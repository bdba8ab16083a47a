"""From a file and the environment to registrations.

Whatever is wrong is raised at the very end, as a fresh error in a frame that knows no secret: the frames in which the
file was open are gone by then.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from accredit.config.environment import CONFIG, Draft, cleaned, default_of, overlay, secret_source
from accredit.config.files import Document, printable, read_document
from accredit.config.schema import KEYS, checked_value, nearest, plain, type_name, unknown_key
from accredit.config.store import StoreSettings, read_settings
from accredit.core.client_auth import ClientAuthentication, ClientSecretBasic, ClientSecretPost, as_secret_source
from accredit.core.registration import ID_PATTERN, ClientRegistration
from accredit.core.secret import (
    CallableSecret,
    EnvironmentSecret,
    FileSecret,
    LiteralSecret,
    Secret,
    SecretSource,
)
from accredit.errors import ConfigurationError
from accredit.registrations import Registrations

_LOG: Final = logging.getLogger("accredit.config")
_METHODS: Final = ("client_secret_basic", "client_secret_post")
_TOP: Final = ("default", "registration", "store")
_SOURCES: Final = (LiteralSecret, EnvironmentSecret, FileSecret, CallableSecret)


class Configuration(NamedTuple):
    """All that a configuration says.

    Attributes:
        registrations: the registrations; None where there need be none and there is none.
        store: where tokens are kept; None when nothing is said about it.

    """

    registrations: Registrations | None
    store: StoreSettings | None


def load(path: Path | None = None, *, environ: Mapping[str, str] | None = None) -> Registrations:
    """Return the registrations of a TOML file, and of the environment over it.

    The file looks like this; its keys are the attributes of :class:`~accredit.ClientRegistration`, and
    ``client_secret``, ``client_auth`` (the IANA name, ``client_secret_basic`` unless given) and ``basic_encoding``::

        default = "api-client"

        [registration.api-client]
        issuer = "https://idp.example.com"
        client_id = "orders-worker"
        client_secret = { file = "/run/secrets/orders" }
        scope = ["orders:read"]

    A secret is ``{ file = "PATH" }`` (relative to the configuration file), ``{ env = "NAME" }``, or the text itself. In
    a ``pyproject.toml`` the table is ``[tool.accredit]``, and a secret there is refused. The variables are described in
    :mod:`accredit.config.environment`.

    Args:
        path: the file; when None, the one that ``ACCREDIT_CONFIG`` names, if any. No other place is looked at.
        environ: what to read instead of the environment of the process.

    Raises:
        ConfigurationError: naming the key, the reason and the fix; never what a value is.

    """
    outcome = _outcome(path, os.environ if environ is None else environ, needs_registration=True)
    # A variable of this frame would hang on the traceback.
    del environ
    if isinstance(outcome, ConfigurationError):
        raise outcome
    return outcome.registrations or Registrations(())


def load_configuration(
    path: Path | None = None, *, environ: Mapping[str, str] | None = None, needs_registration: bool = True
) -> Configuration:
    """Return the registrations as :func:`load` does, and the settings of the store (:mod:`accredit.config.store`).

    Args:
        path: as there.
        environ: as there.
        needs_registration: whether it is an error that there is no registration.

    Raises:
        ConfigurationError: naming the key, the reason and the fix; never what a value is.

    """
    outcome = _outcome(path, os.environ if environ is None else environ, needs_registration=needs_registration)
    del environ
    if isinstance(outcome, ConfigurationError):
        raise outcome
    return outcome


def _outcome(
    path: Path | None, environ: Mapping[str, str], *, needs_registration: bool
) -> Configuration | ConfigurationError:
    try:
        return _load(path, environ, needs_registration=needs_registration)
    except ConfigurationError as error:
        return error.fresh()


def _load(path: Path | None, environ: Mapping[str, str], *, needs_registration: bool) -> Configuration:
    if path is None and CONFIG in environ:
        path = Path(cleaned(CONFIG, environ[CONFIG]))
    document = None if path is None else read_document(path)
    drafts: dict[str, Draft] = {}
    default = None
    if document is not None:
        default = _read_top(document, drafts)
    store = read_settings(document, environ)
    default = overlay(drafts, default_of(environ) or default, environ)
    if not drafts:
        if not needs_registration:
            return Configuration(None, store)
        where = f"{document.shown} has no [registration.ID] table" if document else "there is no configuration"
        raise ConfigurationError(
            f"{where}.",
            advice=f"Name a file (or set {CONFIG}) that has one, or set ACCREDIT_ISSUER, ACCREDIT_CLIENT_ID"
            " and ACCREDIT_CLIENT_SECRET_FILE.",
            key="registration",
        )
    registrations = [_build(name, draft, document, environ) for name, draft in drafts.items()]
    _warn_of_open_file(document, registrations, drafts)
    return Configuration(Registrations(registrations, default=default), store)


def _read_top(document: Document, drafts: dict[str, Draft]) -> str | None:
    """Take the tables of the file into ``drafts`` and return its default."""
    for name in document.table:
        if name not in _TOP:
            if name in KEYS:
                raise ConfigurationError(
                    f"{name} stands outside a registration.",
                    advice=f"Move it into a table [registration.ID] of {document.shown}.",
                    key=name,
                )
            raise unknown_key(name, _TOP, key=plain(name))
    default = document.table.get("default")
    if default is not None and not isinstance(default, str):
        raise ConfigurationError(
            f"default is {type_name(default)}, not a text.", advice='Write default = "ID".', key="default"
        )
    tables = document.table.get("registration", {})
    if not isinstance(tables, dict):
        raise ConfigurationError(
            f"registration is {type_name(tables)}, not a table.",
            advice="Write a table [registration.ID] for each registration.",
            key="registration",
        )
    for name, table in tables.items():
        if not ID_PATTERN.fullmatch(name):
            raise ConfigurationError(
                "the id of a registration is not of the form [A-Za-z0-9._-]{1,64}.",
                advice="Rename the table, for example to [registration.api-client].",
                key="registration",
            )
        if not isinstance(table, dict):
            raise ConfigurationError(
                f"registration.{name} is {type_name(table)}, not a table."
                + (" Keys of a registration stand in a table that is named by its id." if name in KEYS else ""),
                advice="Write a table [registration.ID].",
                key=f"registration.{name}",
            )
        drafts[name] = Draft(dict(table))
    if default is not None and not ID_PATTERN.fullmatch(default):
        raise ConfigurationError("default is not the id of a registration.", advice="Name one.", key="default")
    return default


def _build(
    registration_id: str, draft: Draft, document: Document | None, environ: Mapping[str, str]
) -> ClientRegistration:
    """Make a registration, and let every error name the full key and, if there is one, the variable."""
    problem = None
    try:
        return _registration(registration_id, draft, document, environ)
    except ConfigurationError as error:
        problem = error
    prefix = f"registration.{registration_id}"
    key = problem.key or ""
    # Values judge themselves under their bare name.
    if not key.startswith(prefix):
        key = f"{prefix}.{key}" if key else prefix
    variable = draft.variables.get(key.removeprefix(f"{prefix}."))
    advice = f"{problem.advice} It is set by {variable}." if variable else problem.advice
    raise ConfigurationError(problem.summary, advice=advice, key=key)


def _registration(
    registration_id: str, draft: Draft, document: Document | None, environ: Mapping[str, str]
) -> ClientRegistration:
    prefix = f"registration.{registration_id}"
    settings: dict[str, object] = {}
    for name, value in draft.values.items():
        key = f"{prefix}.{plain(name)}"
        if name == "id":
            raise ConfigurationError("the id is given twice.", advice="The name of the table is the id.", key=key)
        if name not in KEYS:
            raise unknown_key(name, KEYS, key=key)
        if name != "client_secret":
            settings[name] = value if name in draft.variables else checked_value(name, value, key=key)
    for name, fix in (
        ("client_id", "Set it to the client id that the authorization server knows."),
        ("client_secret", 'Write client_secret = { file = "PATH" } or { env = "NAME" }.'),
    ):
        if name not in draft.values:
            raise ConfigurationError(f"{name} is missing.", advice=fix, key=f"{prefix}.{name}")
    grant = settings.pop("grant", "client_credentials")
    if grant != "client_credentials":
        raise ConfigurationError(
            "the grant is not one that this version knows.",
            advice='Leave it out, or write grant = "client_credentials".',
            key=f"{prefix}.grant",
        )
    secret = _secret(draft.values["client_secret"], document, environ, key=f"{prefix}.client_secret")
    method = settings.pop("client_auth", _METHODS[0])
    encoding = settings.pop("basic_encoding", None)
    return ClientRegistration(
        id=registration_id,
        client_auth=_client_auth(method, encoding, secret, prefix=prefix),
        **settings,  # type: ignore[arg-type]  # each was checked against KEYS
    )


def _client_auth(method: object, encoding: object, secret: SecretSource, *, prefix: str) -> ClientAuthentication:
    match method, encoding:
        case "client_secret_basic", None:
            return ClientSecretBasic(secret)
        case "client_secret_basic", _:
            return ClientSecretBasic(secret, basic_encoding=encoding)  # type: ignore[arg-type]  # checked there
        case "client_secret_post", None:
            return ClientSecretPost(secret)
        case "client_secret_post", _:
            raise ConfigurationError(
                "basic_encoding has no meaning with client_secret_post.",
                advice="Remove it, or use client_secret_basic.",
                key=f"{prefix}.basic_encoding",
            )
    meant = nearest(str(method), _METHODS)
    raise ConfigurationError(
        "client_auth is not a method that this version knows.",
        advice=f"Did you mean {meant}?" if meant else f"Known: {', '.join(_METHODS)}.",
        key=f"{prefix}.client_auth",
    )


def _secret(value: object, document: Document | None, environ: Mapping[str, str], *, key: str) -> SecretSource:
    """Return the source of a secret. None of them is a URL: a text that looks like one is the secret itself."""
    if isinstance(value, _SOURCES):
        return value
    fix = 'Write client_secret = { file = "PATH" } or { env = "NAME" }.'
    match value:
        case str() if document is not None and document.in_project:
            raise ConfigurationError(
                f"{document.shown} may hold no secret: it is meant to be shared.", advice=fix, key=key
            )
        case str():
            return as_secret_source(Secret(value))
        case {"env": str(name), **others} if not others:
            return secret_source(name, environ)
        case {"file": str(name), **others} if not others:
            return FileSecret(_secret_path(name, document, key=key))
        case dict() if len(value) == 1:
            meant = nearest(next(iter(value)), ("env", "file"), cutoff=0.6)
            # The name is not repeated: who puts a secret in the wrong place may put it anywhere.
            raise ConfigurationError(
                "client_secret comes from somewhere that is not known; never from a URL.",
                advice=f"Did you mean {meant}? {fix}" if meant else fix,
                key=key,
            )
        case dict():
            raise ConfigurationError("client_secret must have one source, as a text.", advice=fix, key=key)
    raise ConfigurationError(f"client_secret is {type_name(value)}.", advice=fix, key=key)


def _secret_path(name: str, document: Document | None, *, key: str) -> Path:
    if not name.strip() or "\x00" in name or name.startswith("~"):
        raise ConfigurationError(
            "the path of the secret file is empty, or starts with '~', or has a null byte.",
            advice="Write an absolute path, or one relative to the configuration file.",
            key=key,
        )
    return Path(name) if document is None else document.directory / name


def _warn_of_open_file(
    document: Document | None, registrations: list[ClientRegistration], drafts: Mapping[str, Draft]
) -> None:
    if document is None or not document.open_to_others:
        return
    for registration in registrations:
        draft = drafts[registration.id]
        if isinstance(draft.values.get("client_secret"), str):
            _LOG.warning(
                "registration.%s.client_secret: %s holds a secret and can be read by other users;"
                " make it private (chmod 600), or move the secret to a file of its own",
                registration.id,
                printable(document.shown),
            )
