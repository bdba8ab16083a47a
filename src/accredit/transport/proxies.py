"""Which proxy a request goes through: the setting, or the environment as curl and httpx2 read it."""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

from accredit.transport.network import literal_address

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULT_PORTS = {"http": 80, "https": 443}
ADVICE = "Give it as http://host:port or https://host:port, with user:password@ in front of the host if needed."


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        tls: whether the proxy itself is spoken to over TLS.
        host: its name or address.
        port: its port.
        authorization: the ``Proxy-Authorization`` value (RFC 7617), or None. A secret, so it is not in the repr.

    """

    tls: bool
    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)


def parse_proxy(url: str) -> Proxy | None:
    """Read a proxy's URL; None when it names no HTTP proxy. The scheme may be left out and is ``http`` then.

    It raises nothing, because the URL may hold a password and a traceback would keep it.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    usable = url.isascii() and url.isprintable() and " " not in url
    if not host or not usable or parts.scheme not in _DEFAULT_PORTS or parts.path not in {"", "/"}:
        return None
    authorization = None
    if parts.username is not None:
        userinfo = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
        authorization = "Basic " + base64.b64encode(userinfo).decode("ascii")
    return Proxy(parts.scheme == "https", host, port or _DEFAULT_PORTS[parts.scheme], authorization)


def proxy_variable(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> str | None:
    """Return the name of the variable in ``environ`` that holds the proxy for a request to ``host``, or None.

    Lower-case names go first. Requests to this machine never take a proxy of the environment: plain ``http`` is allowed
    to loopback because it does not leave the machine. ``HTTP_PROXY`` in upper case is ignored where it may have come
    from a request header (CGI, CVE-2016-5385).
    """
    if is_loopback(host) or is_exempt(host, port, environ.get("no_proxy") or environ.get("NO_PROXY", "")):
        return None
    for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
        if environ.get(name) and not (name == "HTTP_PROXY" and "REQUEST_METHOD" in environ):
            return name
    return None


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` names this machine: ``localhost``, 127.0.0.0/8 or ::1."""
    literal = literal_address(host)
    return ipaddress.ip_address(literal).is_loopback if literal else host.lower() == "localhost"


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Tell whether a ``NO_PROXY`` value exempts ``host`` at ``port``.

    Entries are separated by commas or spaces: ``*``; a name (itself and everything below it); ``.name`` or ``*.name``
    (only what is below it); an address; a network such as ``10.0.0.0/8``; any of them with ``:port``. What cannot be
    read is skipped.
    """
    host = host.lower().rstrip(".")
    return any(_matches(host, port, entry.lower()) for entry in no_proxy.replace(",", " ").split())


def _matches(host: str, port: int, entry: str) -> bool:
    literal = literal_address(host)
    if entry == "*":
        return True
    if "/" in entry:
        return literal is not None and _in_network(literal, entry)
    name, entry_port = _split_port(entry)
    if not name or entry_port not in {None, str(port)}:
        return False
    if literal is not None:
        return literal_address(name) == literal
    name = name.rstrip(".")
    below_only = name.startswith((".", "*."))
    name = name.removeprefix("*").removeprefix(".")
    return bool(name) and (host.endswith("." + name) or (host == name and not below_only))


def _in_network(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, str | None]:
    if literal_address(entry) is not None:
        return entry, None
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest[1:] if rest.startswith(":") else None
    name, colon, port = entry.rpartition(":")
    return (name, port) if colon else (entry, None)
