"""What can be chosen about the transport. Nothing here reads a file, the environment or the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from accredit.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from accredit.core.secret import Secret

ResolveName = Callable[[str, int], Sequence[str]]
"""Turns a host name and a port into IP addresses (as text), the best first; raises ``OSError`` when there are none."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate that this client shows in the TLS handshake (RFC 8705, section 2).

    Attributes:
        cert_file: PEM file with the certificate and its chain.
        key_file: PEM file with the private key; None when it is in ``cert_file``.
        password: of the private key, or None when the key is not encrypted.

    """

    cert_file: str | Path
    key_file: str | Path | None = None
    password: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    """How the transport connects.

    Attributes:
        connect_timeout: most seconds for connecting to one address, and again for one TLS handshake; the deadline of
            the request bounds both.
        ca_file: PEM file of the certificate authorities to trust, instead of the system's.
        ca_path: directory of such files in OpenSSL's hashed form, instead of the system's.
        ssl_context: a ready context instead of all that; it must verify certificates and host names, from TLS 1.2 on.
        proxy: URL of the proxy to use; ``""`` for none; None for what ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``
            and ``NO_PROXY`` say. May hold credentials, so it is not in the repr.
        trust_env: whether the environment is asked for proxies and for ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``.
        user_agent: the ``User-Agent`` field; None for ``accredit/<version>``.
        cert: the client certificate, if the server wants one.
        resolve: a replacement for the system's name resolution.
        resolver_threads: whether names are resolved on threads of their own, so that the deadline bounds that too.
            Without, it is done on the caller's thread, and takes as long as the system lets it.

    Raises:
        ConfigurationError: a value makes no sense, or two exclude each other.

    """

    connect_timeout: float = 3.0
    ca_file: str | Path | None = None
    ca_path: str | Path | None = None
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    trust_env: bool = True
    user_agent: str | None = None
    cert: ClientCertificate | None = None
    resolve: ResolveName | None = field(default=None, repr=False)
    resolver_threads: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is sent."""
        limit: object = self.connect_timeout
        if not isinstance(limit, int | float) or not math.isfinite(limit) or limit <= 0:
            raise ConfigurationError(
                "The time limit for connecting must be a positive number of seconds.",
                advice="Leave it out for 3 seconds.",
                key="connect_timeout",
            )
        if self.user_agent is not None and not (self.user_agent.isascii() and self.user_agent.isprintable()):
            raise ConfigurationError(
                "The user agent must be printable ASCII.", advice="Remove the other characters.", key="user_agent"
            )
        if self.ssl_context is not None and (self.ca_file or self.ca_path or self.cert):
            raise ConfigurationError(
                "A ready TLS context excludes ca_file, ca_path and cert.",
                advice="Load them into the context, or leave the context out.",
                key="ssl_context",
            )
        if self.proxy:
            from accredit.transport.proxies import ADVICE, parse_proxy

            if parse_proxy(self.proxy) is None:
                raise ConfigurationError("This is not the URL of an HTTP proxy.", advice=ADVICE, key="proxy")
