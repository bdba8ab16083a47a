"""Clients of a development server from the registrations of an application that is to use it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from accredit.core.registration import ClientRegistration
from accredit.devserver.config import SECRET_METHODS, DevClient, DevConfig, is_loopback
from accredit.errors import ConfigurationError
from accredit.secret_sources import SecretReader

_PORTS: Final = {"http": 80, "https": 443}


class Address(NamedTuple):
    """Where a server is to listen.

    Attributes:
        host: a loopback address, or None for the default one.
        port: a port, or 0 for a free one.
        https: whether it has a certificate.

    """

    host: str | None
    port: int
    https: bool


def with_registrations(
    config: DevConfig,
    registrations: Iterable[ClientRegistration],
    address: Address,
    *,
    default_clients: bool,
    must: bool,
) -> tuple[DevConfig, Address]:
    """Return the configuration with a client for each registration whose issuer this server is to be, and its address.

    Such a registration has an issuer on loopback, http or https as the server has it, and of the given port if one is
    given. The client gets its id, secret, method, scopes and resources, and the server its host, port and path.

    Args:
        config: what else is configured.
        registrations: of the application.
        address: as it was asked for; what is open there, the registrations decide.
        default_clients: whether the clients of ``config`` are only the default ones, and give way.
        must: whether at least one registration has to fit.

    Raises:
        ConfigurationError: none fits though one must, two want different servers, or a client cannot be made.

    """
    ours = [registration for registration in registrations if _is_ours(registration, address)]
    if not ours:
        if must:
            raise ConfigurationError(
                "no registration has an issuer that this server could be.",
                advice='Write issuer = "http://127.0.0.1:8080" in one of them (https with --certfile).',
                key="issuer",
            )
        return config, address
    places = {(_host(registration), _port(registration), _path(registration)) for registration in ours}
    if len(places) > 1:
        raise ConfigurationError(
            "registrations name several issuers on loopback.",
            advice="Choose one with --port; issuers of one server have the same host and path too.",
            key="issuer",
        )
    host, port, path = places.pop()
    if path == "/":
        raise ConfigurationError(
            "the issuer ends with a slash, which the issuer of this server does not.",
            advice="Remove the slash: issuers are compared to the byte.",
            key="issuer",
        )
    if config.issuer:
        raise ConfigurationError(
            "the issuer is configured twice.", advice="Take it out of --config-json.", key="issuer"
        )
    reader = SecretReader()
    made: dict[str, DevClient] = {}
    for registration in ours:
        client = _client(registration, reader)
        made[client.client_id] = _both(made[client.client_id], client) if client.client_id in made else client
    clients = (*(() if default_clients else config.clients), *made.values())
    raw = any(registration.client_auth.method.endswith(";raw") for registration in ours)
    changed = dataclasses.replace(
        config,
        clients=clients,
        issuer=ours[0].issuer or "",
        issuer_path=path,
        basic_encoding="raw" if raw else config.basic_encoding,
    )
    # The name "localhost" may stand for several addresses; the default one is always among them.
    return changed, Address(address.host or (None if host == "localhost" else host), port, address.https)


def _is_ours(registration: ClientRegistration, address: Address) -> bool:
    scheme = urlsplit(registration.issuer or "").scheme
    return (
        is_loopback(_host(registration))
        and scheme == ("https" if address.https else "http")
        and address.port in {0, _port(registration)}
    )


def _host(registration: ClientRegistration) -> str:
    return urlsplit(registration.issuer or "").hostname or ""


def _path(registration: ClientRegistration) -> str:
    return urlsplit(registration.issuer or "").path


def _port(registration: ClientRegistration) -> int:
    parts = urlsplit(registration.issuer or "")
    return parts.port or _PORTS.get(parts.scheme, 0)


def _client(registration: ClientRegistration, reader: SecretReader) -> DevClient:
    method = registration.client_auth.method.partition(";")[0]
    source = registration.client_auth.source
    if method not in SECRET_METHODS or source is None:
        raise ConfigurationError(
            f"the client authentication {method} cannot be taken from a registration.",
            advice="Give the client to the server with --config-json, public keys and all.",
            key=f"registration.{registration.id}.client_auth",
        )
    audience = (registration.audience,) if registration.audience else ()
    return DevClient(
        client_id=registration.client_id,
        client_secret=reader.read(source),
        scopes=tuple(registration.scopes),
        audiences=(*registration.resources, *audience),
        auth_methods=(method,),
    )


def _both(one: DevClient, other: DevClient) -> DevClient:
    """Return the client that two registrations of one client need."""
    if one.client_secret != other.client_secret:
        raise ConfigurationError(
            "two registrations of one client have different secrets.",
            advice="A client has one secret; give the second client another id.",
            key="client_secret",
        )

    def merged(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*getattr(one, name), *getattr(other, name))))

    return dataclasses.replace(
        one, scopes=merged("scopes"), audiences=merged("audiences"), auth_methods=merged("auth_methods")
    )
