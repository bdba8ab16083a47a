"""What a development server is configured with: plain data, checked when it is made."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn
from urllib.parse import urlsplit

from accredit.core.secret import Secret
from accredit.core.strict import StrictError, check_scope_token
from accredit.errors import ConfigurationError

SECRET_METHODS: Final = ("client_secret_basic", "client_secret_post")
#: The client authentication methods (IANA names) that the development server knows.
AUTH_METHODS: Final = (*SECRET_METHODS, "private_key_jwt")
#: What an access token is: a JWT (RFC 9068), or a random text that says nothing (for introspection, RFC 7662).
TOKEN_FORMATS: Final = ("jwt", "opaque")
_CONTROLS: Final = frozenset(map(chr, [*range(0x20), 0x7F]))


def _misused(key: str, summary: str, advice: str) -> NoReturn:
    message = f"{summary}."
    raise ConfigurationError(message, advice=advice, key=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevClient:
    """A client of the development server.

    Attributes:
        client_id: any characters but controls.
        client_secret: its secret; a plain text is wrapped. Empty only for a client that uses ``private_key_jwt`` alone.
        scopes: the scopes it may ask for, and gets when it asks for none.
        audiences: the resources (RFC 8707) or audiences it may ask for, beside the default of the server.
        auth_methods: the authentication methods it may use.
        token_lifetime: seconds, or None for that of the server.
        token_format: ``"jwt"`` or ``"opaque"``, or None for that of the server.
        jwks: public keys (JWK members) for ``private_key_jwt`` (RFC 7523).

    """

    client_id: str
    client_secret: Secret = field(default_factory=lambda: Secret(""))
    scopes: tuple[str, ...] = ("orders:read", "orders:write")
    audiences: tuple[str, ...] = ()
    auth_methods: tuple[str, ...] = SECRET_METHODS
    token_lifetime: int | None = None
    token_format: str | None = None
    jwks: tuple[Mapping[str, object], ...] = field(default=(), hash=False)

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigurationError: naming the field at fault.

        """
        if isinstance(self.client_secret, str):
            object.__setattr__(self, "client_secret", Secret(self.client_secret))
        if not self.auth_methods or not set(self.auth_methods) <= set(AUTH_METHODS):
            _misused("clients.auth_methods", "unknown method", f"Use some of {', '.join(AUTH_METHODS)}.")
        secret = self.client_secret.reveal()
        needs_secret = bool(set(self.auth_methods) & set(SECRET_METHODS))
        for name, text, needed in (("client_id", self.client_id, True), ("client_secret", secret, needs_secret)):
            if (needed and not text) or _CONTROLS & set(text):
                _misused(f"clients.{name}", "it is empty or holds control characters", "Give a plain text.")
        for name in ("scopes", "audiences"):
            if isinstance(getattr(self, name), str):
                _misused(f"clients.{name}", "it is a text, which would be a list of its letters", "Give a tuple.")
        for scope in self.scopes:
            _check_scope(scope)
        if ("private_key_jwt" in self.auth_methods) != bool(self.jwks):
            _misused("clients.jwks", "private_key_jwt and public keys go together", "Give both or none.")
        if self.jwks:
            _check_jwks(self.jwks)
        if self.token_format not in {None, *TOKEN_FORMATS}:
            _misused("clients.token_format", "unknown value", f"Use one of {', '.join(TOKEN_FORMATS)}.")
        _check_lifetime("clients.token_lifetime", self.token_lifetime)


def _default_clients() -> tuple[DevClient, ...]:
    return (DevClient(client_id="api-client", client_secret=Secret("dev-secret")),)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevConfig:
    """The configuration of a development server.

    Attributes:
        clients: its clients.
        issuer: its issuer; empty for ``http(s)://127.0.0.1:PORT`` plus ``issuer_path``, known once it listens.
        issuer_path: a path behind the host, such as ``"/tenant"``, to be like servers with several issuers.
        default_audience: the ``aud`` of a token for which no resource was asked.
        token_lifetime: seconds.
        basic_encoding: ``"percent"`` (RFC 6749, section 2.3.1), or ``"raw"`` to be like servers that do not decode.
        token_format: ``"jwt"`` (RFC 9068) or ``"opaque"``.
        accept_endpoint_audience: also accept client assertions whose audience is the token endpoint, as older clients
            send it; otherwise the issuer alone is accepted.
        faults_by_request: let a request ask for a fault of its own, by ``X-Accredit-Fault`` or ``accredit_fault``.

    """

    clients: tuple[DevClient, ...] = field(default_factory=_default_clients)
    issuer: str = ""
    issuer_path: str = ""
    default_audience: str = "https://api.example"
    token_lifetime: int = 3600
    basic_encoding: str = "percent"
    token_format: str = "jwt"  # noqa: S105 - the name of a format
    accept_endpoint_audience: bool = False
    faults_by_request: bool = False

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigurationError: naming the field at fault.

        """
        if len({client.client_id for client in self.clients}) != len(self.clients):
            _misused("clients", "two clients have the same client_id", "Give each its own.")
        for name in ("issuer", "issuer_path", "default_audience", "basic_encoding", "token_format"):
            if not isinstance(getattr(self, name), str):
                _misused(name, "it must be a text", "Put it in quotes.")
        if self.issuer_path and (not self.issuer_path.startswith("/") or self.issuer_path.endswith("/")):
            _misused("issuer_path", "it must start with a slash and not end with one", "Write '/tenant'.")
        if not self.default_audience:
            _misused("default_audience", "it is empty", "Give the name of the protected API.")
        if self.basic_encoding not in {"percent", "raw"}:
            _misused("basic_encoding", "unknown value", "Use 'percent' or 'raw'.")
        if self.token_format not in TOKEN_FORMATS:
            _misused("token_format", "unknown value", f"Use one of {', '.join(TOKEN_FORMATS)}.")
        for name in ("accept_endpoint_audience", "faults_by_request"):
            if not isinstance(getattr(self, name), bool):
                _misused(name, "it must be true or false", "Give one of them.")
        _check_lifetime("token_lifetime", self.token_lifetime)

    def client(self, client_id: str) -> DevClient | None:
        """Return the client of that id, or None."""
        return next((client for client in self.clients if client.client_id == client_id), None)

    def audiences(self) -> tuple[str, ...]:
        """Return every audience that some token may have, the default first."""
        return tuple(dict.fromkeys((self.default_audience, *(name for c in self.clients for name in c.audiences))))

    def scopes(self) -> tuple[str, ...]:
        """Return every scope that some client may have, in order."""
        return tuple(dict.fromkeys(scope for client in self.clients for scope in client.scopes))


def config_from_mapping(members: Mapping[str, object]) -> DevConfig:
    """Make a configuration from parsed JSON: the field names are those of :class:`DevConfig` and :class:`DevClient`.

    Raises:
        ConfigurationError: naming the key at fault; an unknown key is one.

    """
    values = dict(members)
    clients = values.pop("clients", None)
    if clients is not None:
        if not isinstance(clients, list) or not all(isinstance(client, dict) for client in clients):
            _misused("clients", "it must be a list of objects", "Give client_id and client_secret for each.")
        values["clients"] = tuple(_client_from_mapping(client) for client in clients)
    try:
        return DevConfig(**values)  # type: ignore[arg-type]
    except TypeError:
        pass
    _misused("config", "unknown key or wrong type", f"Known keys: {', '.join(DevConfig.__slots__)}.")


def config_to_mapping(config: DevConfig) -> dict[str, object]:
    """Return the JSON form of a configuration, secrets included: for the pipe to a child process, and nothing else."""
    clients = [
        {name: getattr(client, name) for name in DevClient.__slots__} | {"client_secret": client.client_secret.reveal()}
        for client in config.clients
    ]
    return {name: getattr(config, name) for name in DevConfig.__slots__} | {"clients": clients}


def _client_from_mapping(members: Mapping[str, object]) -> DevClient:
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in members.items()}
    keys_only = values.get("auth_methods") == ("private_key_jwt",)
    secret = values.get("client_secret", "" if keys_only else None)
    if not isinstance(secret, str) or not isinstance(values.get("client_id"), str):
        _misused("clients", "client_id and client_secret must be texts", "Give both for each client.")
    for name in ("scopes", "audiences", "auth_methods"):
        # A text would be taken for the list of its letters.
        if not _is_texts(values.get(name, ())):
            _misused(f"clients.{name}", "it must be a list of texts", "Write [...], also for a single one.")
    jwks = values.get("jwks", ())
    if not isinstance(jwks, tuple) or not all(isinstance(key, Mapping) for key in jwks):
        _misused("clients.jwks", "it must be a list of objects", "Give the members of each public key.")
    values["client_secret"] = Secret(secret)
    try:
        return DevClient(**values)  # type: ignore[arg-type]
    except TypeError:
        pass
    _misused("clients", "unknown key or wrong type", f"Known keys: {', '.join(DevClient.__slots__)}.")


def _is_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, str) for item in value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a development server runs.

    Attributes:
        host: a loopback address.
        port: the port of the authorization server; 0 for a free one.
        api_port: the port of the protected API; 0 for a free one.
        certfile: PEM certificate (chain) for https, or None for http.
        keyfile: PEM private key of the certificate.
        for_tests: the user knows that this server is for tests, and overrides the two refusals below.
        web: serve the page, for people on this machine only.
        state: file that keeps keys and tokens over a restart, or None to forget them.
        log_json: file that gets each request as a line of JSON, ``"-"`` for standard output, or None.
        environment: the environment variables of the process.

    """

    host: str = "127.0.0.1"
    port: int = 0
    api_port: int = 0
    certfile: str | None = None
    keyfile: str | None = None
    for_tests: bool = False
    web: bool = False
    state: str | None = None
    log_json: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def check(self) -> None:
        """Refuse to be reachable by others, or to run in production.

        Raises:
            ConfigurationError: with the switch that overrides it.

        """
        advice = "A development server is no authorization server; --i-know-this-is-for-tests overrides this."
        if not self.for_tests:
            if not is_loopback(self.host):
                _misused("host", "it is not a loopback address", advice)
            variables = {name: value.strip().lower() for name, value in self.environment.items()}
            for name in ("PROD", "PRODUCTION"):
                if variables.get(name, "") not in {"", "0", "false", "no", "off"}:
                    _misused(name, "this environment is production", advice)
            for name in ("ENVIRONMENT", "ENV", "APP_ENV", "DEPLOY_ENV", "NODE_ENV", "DJANGO_ENV", "FLASK_ENV"):
                if variables.get(name) in {"production", "prod"}:
                    _misused(name, "this environment is production", advice)
        if (self.certfile is None) != (self.keyfile is None):
            _misused("certfile", "certfile and keyfile go together", "Give both or none.")


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_absolute_uri(text: str) -> bool:
    """Tell whether ``text`` can be a resource indicator: absolute, without fragment (RFC 8707, section 2)."""
    if not text.isascii() or not text.isprintable() or " " in text or "#" in text:
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme) and bool(parts.netloc or parts.path)


def _check_scope(scope: str) -> None:
    try:
        check_scope_token(scope)
    except StrictError:
        pass
    else:
        return
    _misused("clients.scopes", "a scope holds a character that RFC 6749, appendix A.4 does not allow", "Rename it.")


def _check_jwks(keys: tuple[Mapping[str, object], ...]) -> None:
    # Here and not above: a configuration without keys can be written where pyca/cryptography is missing.
    from accredit.core.jose import JwkError, import_public_jwk

    fault = ""
    for key in keys:
        try:
            if import_public_jwk(key).had_private_part:
                fault = "a key has a private part"
        except JwkError as error:
            fault = str(error)
    if fault:
        _misused("clients.jwks", f"a key cannot be used: {fault}", "Give public keys that verify signatures.")


def _check_lifetime(key: str, seconds: int | None) -> None:
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 1):
        _misused(key, "it must be a whole number of seconds, at least 1", "Give seconds.")
