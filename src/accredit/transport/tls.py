"""The TLS context: verification always on, TLS 1.2 at least, and a clear word when the trust store is missing."""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from accredit.errors import ConfigurationError

if TYPE_CHECKING:
    from accredit.transport.settings import ClientCertificate, TransportSettings

_HASHED_NAME = re.compile(r"[0-9a-f]{8}\.\d+", re.IGNORECASE)


def build_context(settings: TransportSettings) -> ssl.SSLContext:
    """Return the context for every connection of one transport.

    The certificate authorities are those of ``ssl_context``, else of ``ca_file`` and ``ca_path``, else of
    ``SSL_CERT_FILE``, else of ``SSL_CERT_DIR``, else those of the system as httpx2 finds them.

    Raises:
        ConfigurationError: a file is missing, empty or unreadable, or a ready context does not verify.

    """
    if settings.ssl_context is not None:
        return _checked(settings.ssl_context)
    if settings.ca_file or settings.ca_path:
        context = _trusting(settings.ca_file, settings.ca_path, "ca_file", "ca_path")
    elif settings.trust_env and (file := os.environ.get("SSL_CERT_FILE")):
        context = _trusting(file, None, "SSL_CERT_FILE", "")
    elif settings.trust_env and (path := os.environ.get("SSL_CERT_DIR")):
        context = _trusting(None, path, "", "SSL_CERT_DIR")
    else:
        context = _system()
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    context.hostname_checks_common_name = False
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    if settings.cert is not None:
        _load_certificate(context, settings.cert)
    return context


def _system() -> ssl.SSLContext:
    import httpx2

    return httpx2.create_ssl_context(trust_env=False)


def _checked(context: ssl.SSLContext) -> ssl.SSLContext:
    if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        raise ConfigurationError(
            "The TLS context does not verify certificates or host names; tokens are never asked for over such a one.",
            advice="Trust your own certificate authority with ca_file instead.",
            key="ssl_context",
        )
    if context.minimum_version < ssl.TLSVersion.TLSv1_2:
        raise ConfigurationError(
            "The TLS context allows versions before TLS 1.2.",
            advice="Set its minimum_version to ssl.TLSVersion.TLSv1_2.",
            key="ssl_context",
        )
    return context


def _trusting(file: str | Path | None, path: str | Path | None, file_key: str, path_key: str) -> ssl.SSLContext:
    if file is not None:
        _check_file(Path(file), file_key)
    if path is not None and not any(_has_authorities(Path(entry)) for entry in str(path).split(os.pathsep)):
        raise ConfigurationError(
            "The directory of certificate authorities is missing or holds none in OpenSSL's hashed form.",
            advice="Run `openssl rehash` on it, or name a PEM file.",
            key=path_key,
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    readable = True
    try:
        context.load_verify_locations(file, path)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        readable = False
    if not readable:
        raise ConfigurationError(
            "The file of certificate authorities holds no certificate in PEM form.",
            advice="Name a PEM bundle that begins with -----BEGIN CERTIFICATE-----.",
            key=file_key or path_key,
        )
    return context


def _check_file(file: Path, key: str) -> None:
    mode = 0
    with contextlib.suppress(OSError, ValueError):
        mode = file.stat().st_mode
    if not stat.S_ISREG(mode) or not os.access(file, os.R_OK):
        raise ConfigurationError(
            "The file of certificate authorities is missing or cannot be read.",
            advice="Name an existing PEM file that this process may read.",
            key=key,
        )
    if os.name == "posix" and mode & stat.S_IWOTH:
        warnings.warn(f"{key}: anyone on this machine can change the certificate authorities", stacklevel=2)


def _has_authorities(directory: Path) -> bool:
    try:
        return any(_HASHED_NAME.fullmatch(entry.name) for entry in directory.iterdir())
    except OSError:
        return False


def _load_certificate(context: ssl.SSLContext, cert: ClientCertificate) -> None:
    loaded = False
    try:
        # Always a password, if only an empty one: without one OpenSSL would ask at the terminal.
        context.load_cert_chain(cert.cert_file, cert.key_file, lambda: cert.password.reveal() if cert.password else "")
        loaded = True
    except (OSError, ValueError):
        pass
    if not loaded:
        raise ConfigurationError(
            "The client certificate or its private key cannot be loaded.",
            advice="Check that both are PEM files that belong together, and the password.",
            key="cert",
        )
