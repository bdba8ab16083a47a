"""The table ``[store]`` and the ``ACCREDIT_STORE_`` variables: where tokens are kept, and under which keys.

====================================  =============================================================================
key, variable                         meaning
====================================  =============================================================================
``url``, ``_URL``                     ``memory:``, ``sqlite:``, ``sqlite:PATH``, or the URL of a Redis server
``prefix``, ``_PREFIX``               what keys begin with; ``oauth2:client`` unless given
``encryption``, ``_ENCRYPTION``       sources of the encryption keys, the writing one first; in the variable the keys
``_ENCRYPTION_FILE``                  path of a file with the keys
``username``, ``_USERNAME``           user of the Redis server
``password``, ``_PASSWORD``           source of the user's password; in the variable the password itself
``_PASSWORD_FILE``                    path of a file with the password
``ca_file``, ``_CA_FILE``             certificates to trust instead of the system's (PEM), for TLS to the Redis server
====================================  =============================================================================

A source is ``{ file = "PATH" }`` or ``{ env = "NAME" }``, and ``encryption`` may be a list of them. Keys and passwords
stand in no configuration file, and in no URL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from accredit.clock import Clock
from accredit.config.environment import PREFIX, cleaned, secret_source
from accredit.config.files import Document
from accredit.config.schema import nearest, plain, type_name, unknown_key
from accredit.core.identity import DEFAULT_PREFIX
from accredit.core.secret import FileSecret, SecretSource
from accredit.errors import ConfigurationError

if TYPE_CHECKING:
    from accredit.stores.contract import Store
    from accredit.stores.envelope import Keyring

KEYS: Final = ("url", "prefix", "encryption", "username", "password", "ca_file")
VARIABLE: Final = f"{PREFIX}STORE_"
_SECRETS: Final = ("encryption", "password")
NAMES: Final = frozenset(
    {*(VARIABLE + key.upper() for key in KEYS), *(f"{VARIABLE}{key.upper()}_FILE" for key in _SECRETS)}
)
_REDIS: Final = re.compile(r"(rediss?(\+(sentinel|cluster))?|unix)://", re.ASCII)
_SCHEMES: Final = ("memory", "sqlite", "redis", "rediss", "redis+sentinel", "redis+cluster", "unix")
_FIX_URL: Final = 'Write url = "memory:", "sqlite:", "sqlite:/path/to/file" or "redis://host:6379/0".'
_FIX_SOURCE: Final = 'Write {key} = {{ file = "PATH" }} or {{ env = "NAME" }}.'


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where tokens are kept.

    Attributes:
        url: ``memory:``, ``sqlite:`` with a path or without, or the URL of a Redis server, without a password.
        prefix: what keys begin with; None for the default.
        encryption: sources of the encryption keys, the writing one first; empty for none.
        username: user of the Redis server, or None.
        password: source of its password, or None.
        directory: where relative paths start; None for the current directory.
        ca_file: certificates to trust instead of the system's, for TLS to the Redis server; None for the system's.

    """

    url: str
    prefix: str | None = None
    encryption: tuple[SecretSource, ...] = field(default=(), repr=False)
    username: str | None = None
    password: SecretSource | None = field(default=None, repr=False)
    directory: Path | None = None
    ca_file: Path | None = None

    def open(self, *, clock: Clock | None = None, timeout: float | None = None) -> Store:
        """Return the store. The encryption keys are read now, so that a wrong one is told at once; nothing else is.

        Args:
            clock: the clocks, for tests that steer time.
            timeout: seconds that an operation on an SQLite file may wait for other processes; None for the default.

        Raises:
            ConfigurationError: the keys cannot be read, or the store refuses a setting.
            ImportError: a package that the store needs is not installed; says which extra to install.

        """
        if self.url == "memory:":
            from accredit.stores.memory import MemoryStore

            return MemoryStore(clock=None if clock is None else clock.now)
        keyring = self._keyring()
        if self.url.startswith("sqlite:"):
            from accredit.stores.sqlite import TIMEOUT, SqliteStore

            return SqliteStore(
                self.path,
                keyring=keyring,
                clock=clock,
                prefix=DEFAULT_PREFIX if self.prefix is None else self.prefix,
                timeout=TIMEOUT if timeout is None else timeout,
            )
        return _redis_store(
            self.url,
            prefix=self.prefix,
            keyring=keyring,
            username=self.username,
            password=self.password,
            ca_file=self.ca_file,
        )

    @property
    def path(self) -> Path | None:
        """The file of a ``sqlite:`` URL; None for the one in the user's state directory, and for other URLs."""
        name = self.url.removeprefix("sqlite:") if self.url.startswith("sqlite:") else ""
        # "sqlite:///var/lib/x" has an empty host, as in other URLs.
        name = name.removeprefix("//")
        if not name:
            return None
        return Path(name) if self.directory is None else self.directory / name

    def _keyring(self) -> Keyring | None:
        if not self.encryption:
            return None
        from accredit.stores.envelope import Keyring

        keyring = Keyring(*self.encryption)
        problem = None
        try:
            keyring.load()
        except ConfigurationError as error:
            problem = error
        if problem is not None:
            raise ConfigurationError(problem.summary, advice=problem.advice, key="store.encryption")
        return keyring


def _redis_store(url: str, **settings: object) -> Store:
    from importlib import import_module

    # By name: the module needs the extra "redis", and says so when it is missing.
    make: Callable[..., Store] = import_module("accredit.stores.redis").RedisStore
    return make(url, **{name: value for name, value in settings.items() if value is not None})


def read_settings(document: Document | None, environ: Mapping[str, str]) -> StoreSettings | None:
    """Return what the file and the environment over it say of the store; None when they say nothing.

    Raises:
        ConfigurationError: naming the key or the variable, the reason and the fix; never what a value is.

    """
    values = _table(document)
    variables = _variables(environ)
    found: dict[str, object] = {}
    for key in KEYS:
        if key in variables:
            found[key] = _from_variable(key, variables[key], environ)
        elif key in values:
            found[key] = _from_file(key, values[key], document, environ)
    if not found:
        return None
    relative = document if "url" not in variables else None
    settings = StoreSettings(
        url=_url(found.get("url"), variables.get("url")),
        prefix=found.get("prefix"),  # type: ignore[arg-type]  # checked above, as are the next ones
        encryption=found.get("encryption", ()),  # type: ignore[arg-type]
        username=found.get("username"),  # type: ignore[arg-type]
        password=found.get("password"),  # type: ignore[arg-type]
        directory=None if relative is None else relative.directory,
        ca_file=_ca_file(found.get("ca_file"), None if "ca_file" in variables else document),
    )
    for key in ("username", "password", "ca_file"):
        if key in found and not _REDIS.match(settings.url) and key not in variables:
            raise ConfigurationError(f"{key} has no meaning for this store.", advice="Remove it.", key=f"store.{key}")
    return settings


def _ca_file(name: object, document: Document | None) -> Path | None:
    if not isinstance(name, str):
        return None
    # Made absolute now: the process may change its directory before it connects.
    return Path(os.path.abspath(name if document is None else document.directory / name))  # noqa: PTH100 - links stay


def _table(document: Document | None) -> Mapping[str, object]:
    table = {} if document is None else document.table.get("store", {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"store is {type_name(table)}, not a table.", advice="Write [store].", key="store")
    for name in table:
        if name not in KEYS:
            raise unknown_key(name, KEYS, key=f"store.{plain(name)}")
    return table


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return, by key, the name of the variable that is set."""
    found: dict[str, str] = {}
    for name in sorted(environ):
        if not name.startswith(VARIABLE):
            continue
        if name not in NAMES:
            # A slip here may be the difference between sealed and plain: it is never ignored.
            meant = nearest(name, NAMES, cutoff=0.8)
            shown = name if re.fullmatch(r"[A-Z0-9_]{1,80}", name) else f"{VARIABLE}..."
            raise ConfigurationError(
                f"the environment variable {shown} is not known.",
                advice=f"Did you mean {meant}?" if meant else f"Known: {', '.join(sorted(NAMES))}.",
                key=shown,
            )
        stem = name.removeprefix(VARIABLE).lower()
        key = stem if stem in KEYS else stem.removesuffix("_file")
        if key in found:
            raise ConfigurationError(
                f"both {found[key]} and {name} are set.", advice="Unset one of them.", key=f"store.{key}"
            )
        found[key] = name
    return found


def _from_variable(key: str, name: str, environ: Mapping[str, str]) -> object:
    source: SecretSource
    if key in _SECRETS and name.endswith("_FILE"):
        # Made absolute now: the process may change its directory before the secret is read.
        source = FileSecret(Path(os.path.abspath(cleaned(name, environ[name]))))  # noqa: PTH100 - links stay links
    elif key in _SECRETS:
        source = _variable(name, environ, key=f"store.{key}")
    else:
        return cleaned(name, environ[name])
    return (source,) if key == "encryption" else source


def _from_file(key: str, value: object, document: Document | None, environ: Mapping[str, str]) -> object:
    full = f"store.{key}"
    if key == "encryption":
        items = value if isinstance(value, list) else [value]
        if not items:
            raise ConfigurationError("encryption names no key.", advice=_FIX_SOURCE.format(key=key), key=full)
        return tuple(_source(item, document, environ, key=full) for item in items)
    if key == "password":
        return _source(value, document, environ, key=full)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(
            f"{key} is {'empty' if value == '' else type_name(value) + ', not a text'}.",
            advice=f'Write a text in quotes: {key} = "...".',
            key=full,
        )
    return value


def _source(value: object, document: Document | None, environ: Mapping[str, str], *, key: str) -> SecretSource:
    name = key.rpartition(".")[2]
    fix = _FIX_SOURCE.format(key=name)
    match value:
        case {"env": str(variable), **others} if not others:
            return _variable(variable, environ, key=key)
        case {"file": str(path), **others} if not others and path.strip() and "\x00" not in path and path[0] != "~":
            return FileSecret(Path(path) if document is None else document.directory / path)
        case str():
            raise ConfigurationError(
                f"{name} stands in the configuration file itself.",
                advice=f"Keep it apart from what it protects. {fix}",
                key=key,
            )
    raise ConfigurationError(f"{name} is not a source of a secret.", advice=fix, key=key)


def _variable(name: str, environ: Mapping[str, str], *, key: str) -> SecretSource:
    problem = None
    try:
        return secret_source(name, environ)
    except ConfigurationError as error:
        problem = error
    raise ConfigurationError(problem.summary, advice=problem.advice, key=key)


def _url(value: object, variable: str | None) -> str:
    key = variable or "store.url"
    if not isinstance(value, str):
        raise ConfigurationError("url is missing.", advice=_FIX_URL, key=key)
    problem, fix = None, _FIX_URL
    if not value.isprintable() or len(value) > 2000:
        problem = "url is too long, or holds control characters."
    elif _REDIS.match(value):
        if _has_password(value):
            problem, fix = (
                "url holds a password.",
                'Write password = { file = "PATH" }, or set ACCREDIT_STORE_PASSWORD.',
            )
    elif value != "memory:" and not value.startswith("sqlite:"):
        scheme = value.partition(":")[0]
        meant = nearest(scheme, _SCHEMES) if ":" in value else None
        problem = "url is not that of a store that this version knows."
        fix = f"Did you mean {meant}:? {_FIX_URL}" if meant else _FIX_URL
    if problem is not None:
        raise ConfigurationError(problem, advice=fix, key=key)
    return value


def _has_password(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "@" in url
    userinfo = parts.netloc.rpartition("@")[0]
    return ":" in userinfo or "password=" in parts.query.lower()
