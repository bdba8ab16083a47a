"""Where Redis is and how to get in: read from a URL, or from a client that the application has."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from accredit.core.secret import LiteralSecret, Secret, SecretSource
from accredit.errors import ConfigurationError

#: A name or an address as servers tell them to each other, IPv6 with a zone included.
_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]{1,255}")
Kind = Literal["single", "sentinel", "cluster"]
PORT: Final = 6379
SENTINEL_PORT: Final = 26379
_SCHEMES: Final[dict[str, tuple[Kind, bool]]] = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("single", False),
    "redis+unix": ("single", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_FORMS: Final = (
    "Use redis://HOST, rediss://HOST (TLS), unix:///PATH, redis+sentinel://HOST,HOST,HOST/SERVICE or"
    " redis+cluster://HOST,HOST."
)


class Place(NamedTuple):
    """A host and port; or the path of a Unix socket, with port 0."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return ``host:port``, or the path."""
        return f"{self.host}:{self.port}" if self.port else self.host


def place_of(host: str, port: int) -> Place:
    """Return where a server says that another one is.

    Raises:
        ValueError: that is no host and port, and would stand in messages as it is.

    """
    if not _HOST.fullmatch(host) or not 0 < port < 65536:
        msg = "no host and port"
        raise ValueError(msg)
    return Place(host, port)


class Login(NamedTuple):
    """A user name and where the password comes from; both may be absent.

    Attributes:
        username: None for the default user.
        password: where it comes from.
        provider: gives both instead: the credential provider of the application's client.

    """

    username: str | None = None
    password: SecretSource | None = None
    provider: Callable[[], tuple[str, ...]] | None = None


NOBODY: Final = Login()


@dataclass(frozen=True, slots=True)
class Settings:
    """Where Redis is and how to get in.

    Attributes:
        kind: one server, servers behind sentinels, or a cluster.
        places: the server; the sentinels; nodes of the cluster.
        service: what the sentinels call the server.
        database: number, 0 in a cluster.
        login: for the servers.
        sentinel_login: for the sentinels.
        context: makes the TLS context; None for plain TCP.

    """

    kind: Kind
    places: tuple[Place, ...]
    service: str = ""
    database: int = 0
    login: Login = field(default=NOBODY, repr=False)
    sentinel_login: Login = field(default=NOBODY, repr=False)
    context: Callable[[], ssl.SSLContext] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return where it is, without user name and password."""
        hosts = ",".join(str(place) for place in self.places)
        scheme = ("rediss" if self.context is not None else "redis") + (
            "" if self.kind == "single" else f"+{self.kind}"
        )
        if self.kind == "single" and not self.places[0].port:
            scheme = "unix"
        tail = f"/{self.service}" if self.service else ""
        return f"{scheme}://{hosts}{tail}" + (f"/{self.database}" if self.database else "")


def wrong(summary: str, advice: str, key: str = "url") -> ConfigurationError:
    """Return the error of a setting that is wrong; it never quotes a URL, which may hold a password."""
    return ConfigurationError(summary, advice=advice, key=f"store.{key}")


def from_url(
    url: str,
    *,
    username: str | None = None,
    password: SecretSource | None = None,
    sentinel_login: Login = NOBODY,
    ca_file: Path | None = None,
    client_certificate: tuple[Path, Path] | None = None,
) -> Settings:
    """Read a URL.

    Raises:
        ConfigurationError: it is none of the forms that are known.

    """
    parts, query = SplitResult("", "", "", "", ""), [("", "")]
    readable = True
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        readable = False
    if not readable:
        raise wrong("the Redis URL cannot be read.", _FORMS)
    if parts.scheme not in _SCHEMES:
        raise wrong("the URL is of a scheme that is not known.", _FORMS)
    kind, secure = _SCHEMES[parts.scheme]
    if parts.fragment or any(name != "db" for name, _ in query):
        raise wrong("the URL has a fragment, or a parameter other than db.", "Give settings as arguments instead.")
    user, at, hosts = parts.netloc.rpartition("@")
    path = parts.path
    places: tuple[Place, ...]
    service = ""
    if "unix" in parts.scheme:
        if hosts or not path:
            raise wrong("the URL of a Unix socket names a host, or no path.", _FORMS)
        places, path = (Place(unquote(path), 0),), ""
    else:
        default = SENTINEL_PORT if kind == "sentinel" else PORT
        places = tuple(_place(host, default) for host in hosts.split(","))
        if kind == "single" and len(places) > 1:
            raise wrong("the URL names several hosts.", "Say redis+sentinel:// or redis+cluster://.")
    if kind == "sentinel":
        service, _, path = path.removeprefix("/").partition("/")
        service = unquote(service)
        if not service:
            raise wrong("the URL names no service.", _FORMS)
        if "@" in parts.path:
            # The end of a password with a slash in it, which must not stand anywhere.
            raise wrong("the URL has an @ behind the hosts.", "Write / in a password as %2F, or give it apart.")
        path = f"/{path}" if path else ""
    database = _database(path, [value for _, value in query])
    if kind == "cluster" and database:
        raise wrong("a cluster has no databases.", "Leave the number away.")
    if at:
        name, _, secret = user.partition(":")
        username = username or unquote(name) or None
        if password is None and secret:
            password = LiteralSecret(Secret(unquote(secret)))
    if (ca_file or client_certificate) and not secure:
        raise wrong("ca_file and client_certificate are for TLS.", "Say rediss:// in the URL.")
    context = (lambda: make_context(ca_file=ca_file, client_certificate=client_certificate)) if secure else None
    login = Login(username, password)
    return Settings(kind, places, service, database, login, sentinel_login, context)


def _place(text: str, default: int) -> Place:
    problem = None
    host, port = "", 0
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", default if parts.port is None else parts.port
    except ValueError:
        problem = "a host of the URL cannot be read."
    if problem is not None or not host or not port:
        raise wrong(problem or "the URL names no host.", _FORMS)
    return Place(host, port)


def _database(path: str, queries: list[str]) -> int:
    text = path.removeprefix("/")
    numbers = [*([text] if text else []), *queries]
    if len(numbers) > 1 or not all(number.isascii() and number.isdigit() and len(number) < 6 for number in numbers):
        raise wrong("the database in the URL is no number, or is given twice.", "Write redis://HOST/0.")
    return int(numbers[0]) if numbers else 0


def make_context(
    *,
    ca_file: Path | None = None,
    client_certificate: tuple[Path, Path] | None = None,
    other: dict[str, Any] | None = None,
) -> ssl.SSLContext:
    """Return a TLS context that checks the certificate and the name, TLS 1.2 or newer.

    Args:
        ca_file: certificates to trust instead of the system's (PEM).
        client_certificate: files of a certificate and its key (PEM).
        other: ``ssl_`` settings of a client of redis-py.

    Raises:
        ConfigurationError: a file cannot be used.

    """
    given = other or {}
    problem = None
    try:
        context = ssl.create_default_context(
            cafile=ca_file or given.get("ssl_ca_certs"),
            capath=given.get("ssl_ca_path"),
            cadata=given.get("ssl_ca_data"),
        )
        context.minimum_version = given.get("ssl_min_version") or ssl.TLSVersion.TLSv1_2
        if given.get("ssl_ciphers"):
            context.set_ciphers(given["ssl_ciphers"])
        certificate, key = client_certificate or (given.get("ssl_certfile"), given.get("ssl_keyfile"))
        if certificate or key:
            context.load_cert_chain(str(certificate or key), key, given.get("ssl_password"))
    except (OSError, ValueError) as error:
        problem = f"a file for TLS to Redis cannot be used ({type(error).__name__})."
    else:
        return context
    raise wrong(problem, "Check the certificate and key files.", "ca_file")


# ---- a client that the application has ---------------------------------------------------------------------

_REFUSED: Final = ("ssl_validate_ocsp", "ssl_validate_ocsp_stapled")


def from_client(client: Any) -> Settings:
    """Read the settings of a client of redis-py, synchronous or not. Nothing of it is used but these.

    Raises:
        ConfigurationError: it is none, or does what this store does not.

    """
    nodes = getattr(client, "nodes_manager", None)
    if nodes is not None and hasattr(nodes, "startup_nodes"):
        given = dict(getattr(nodes, "connection_kwargs", {}))
        startup = nodes.startup_nodes.values()
        places = tuple(Place(str(node.host), int(node.port)) for node in startup)
        secure = "SSL" in getattr(given.get("connection_class"), "__name__", "") or bool(given.get("ssl"))
        return Settings("cluster", places, login=_login(given), context=_context(given, secure=secure))
    pool = getattr(client, "connection_pool", None)
    if pool is None or not hasattr(pool, "connection_kwargs"):
        raise wrong(f"the client is a {type(client).__name__}.", f"Give a client of redis-py, or a URL. {_FORMS}")
    given = dict(pool.connection_kwargs)
    secure = "SSL" in pool.connection_class.__name__
    database = int(given.get("db") or 0)
    manager = getattr(pool, "sentinel_manager", None)
    if manager is not None:
        kwargs = [dict(sentinel.connection_pool.connection_kwargs) for sentinel in manager.sentinels]
        places = tuple(Place(str(one["host"]), int(one["port"])) for one in kwargs)
        return Settings(
            "sentinel",
            places,
            str(pool.service_name),
            database,
            _login(given),
            _login(kwargs[0]),
            _context(given, secure=secure),
        )
    if "path" in given:
        place = Place(str(given["path"]), 0)
    else:
        place = Place(str(given.get("host") or "localhost"), int(given.get("port") or PORT))
    return Settings("single", (place,), database=database, login=_login(given), context=_context(given, secure=secure))


def _login(given: dict[str, Any]) -> Login:
    provider = given.get("credential_provider")
    if provider is not None:
        return Login(provider=lambda: tuple(str(part) for part in provider.get_credentials()))
    password = given.get("password")
    username = given.get("username")
    return Login(username or None, LiteralSecret(Secret(str(password))) if password else None)


def _context(given: dict[str, Any], *, secure: bool) -> Callable[[], ssl.SSLContext] | None:
    if not secure:
        return None
    required = given.get("ssl_cert_reqs", "required")
    if required not in {"required", ssl.CERT_REQUIRED} or given.get("ssl_check_hostname") is False:
        raise wrong(
            "the client does not check the certificate of Redis.",
            "Tokens only go to a Redis that proves its name: give it the CA with ssl_ca_certs instead.",
            "client",
        )
    if any(given.get(name) for name in _REFUSED):
        raise wrong("the client uses OCSP.", "This store does not: give it a URL.", "client")
    settings = {name: value for name, value in given.items() if name.startswith("ssl_")}
    return lambda: make_context(other=settings)
