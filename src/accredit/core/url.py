"""One strict reading of a URL (RFC 3986), so that what was checked is what is contacted.

Everything two readers might understand differently is refused rather than repaired: user information,
fragments, control characters, white space, backslashes, percent-escapes in the host, odd spellings of an
IPv4 address, a trailing dot, and names whose international spelling depends on the edition of IDNA.
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple

from accredit.core.fault import StrictError, describe

__all__ = ["Url", "is_link_local", "origin_of", "parse_url"]

_MAX_LENGTH: Final = 4096
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}

# Patterns are compiled by the first use, and cached by re: compiling them all shows in the import time.
# ASCII matters: without it, IGNORECASE lets U+017F pass for an "s".
_START: Final = r"(?ai)(https?)://([^/?#]*)"
_UNREADABLE: Final = r"[\x00-\x20\x7f-\x9f\\\s\ud800-\udfff]"
# What RFC 3986 allows in a path and a query, and a percent sign that starts no escape.
_NOT_IN_PATH: Final = r"[^A-Za-z0-9\-._~:/?@!$&'()*+,;=%]|%(?![0-9A-Fa-f]{2})"
# Underscores are not in host names but are in names that container networks give to services.
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NUMBER: Final = r"[0-9]+|0x[0-9a-f]*"
_PORT: Final = r"[1-9][0-9]{0,4}"
_MAX_PORT: Final = 65535
_MAX_HOST: Final = 253

_UNICODE: Final = unicodedata.ucd_3_2_0  # the edition that the codec "idna" works with
_IPV4_COMPATIBLE: Final = IPv6Network("::/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")


class Url(NamedTuple):
    """An absolute ``http`` or ``https`` URL that passed :func:`parse_url`.

    Attributes:
        text: the URL as it was given, to the byte (issuers are compared so).
        scheme: ``"https"`` or ``"http"``.
        host: in lower case; an international name as punycode, an IPv6 address without brackets.
        port: as given, or the default of the scheme.
        path: as given, empty or starting with ``/``.
        query: as given, without the question mark.

    """

    text: str
    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def origin(self) -> str:
        """Return ``scheme://host[:port]``, the default port left out (RFC 6454, section 6.2)."""
        return _origin(self.scheme, self.host, self.port)

    @property
    def wire(self) -> str:
        """Return the URL to contact: all ASCII, the host as it was checked."""
        return self.origin + self.path + (f"?{self.query}" if self.query else "")

    @property
    def is_loopback(self) -> bool:
        """Tell whether the host is ``localhost``, an address in 127.0.0.0/8, or ``::1``, written plainly."""
        return _is_loopback(self.host)


def parse_url(text: str, *, allow_insecure_http: bool = False, purpose: str = "URL") -> Url:
    """Return the parts of an absolute URL of an authorization server.

    Args:
        text: the URL. At most 4096 characters.
        allow_insecure_http: whether plain ``http`` may be used for hosts other than loopback.
        purpose: what the URL is for; the message of an error begins with it.

    Raises:
        StrictError: it is not a URL that this library contacts: malformed, neither ``https`` nor permitted
            ``http``, link-local (169.254.0.0/16, fe80::/10), or open to two readings (see the module).

    """
    if not text or len(text) > _MAX_LENGTH:
        raise StrictError(f"{purpose}: {len(text)} characters, where 1 to {_MAX_LENGTH} are allowed")
    if found := re.search(_UNREADABLE, text):
        raise StrictError(f"{purpose}: control character, white space or backslash: {describe(text, found.start())}")
    if "#" in text:
        raise StrictError(f"{purpose}: a fragment, starting at position {text.index('#')}")
    scheme, host, port, end = _parse_authority(text, purpose)
    if found := re.search(_NOT_IN_PATH, text[end:]):
        position = end + found.start()
        raise StrictError(f"{purpose}: not allowed unescaped in a URL: {describe(text, position)}")
    if is_link_local(host):
        raise StrictError(f"{purpose}: a link-local address, which is never contacted")
    if scheme == "http" and not allow_insecure_http and not _is_loopback(host):
        raise StrictError(f"{purpose}: plain http, which is for localhost, 127.0.0.0/8 and [::1] only")
    path, _, query = text[end:].partition("?")
    return Url(text=text, scheme=scheme, host=host, port=port, path=path, query=query)


def origin_of(text: str) -> str:
    """Return the origin of the URL of an API, ``http`` or ``https`` alike (RFC 6454, section 4).

    Only what decides where a request goes is judged; the path and what follows may be anything.

    Raises:
        StrictError: scheme, host or port are missing, malformed or open to two readings.

    """
    scheme, host, port, _ = _parse_authority(text, "API URL")
    return _origin(scheme, host, port)


def is_link_local(address: str) -> bool:
    """Tell whether a numeric address, as name resolution gives it, is link-local, also inside an IPv6 address.

    Whoever reaches 169.254.169.254 may be talking to the metadata service of a cloud, which hands out
    credentials of the machine. Something that is no address is not link-local.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if parsed.is_link_local:
        return True
    if isinstance(parsed, IPv4Address):
        return False
    inner = parsed.ipv4_mapped or parsed.sixtofour
    if inner is None and (parsed in _IPV4_COMPATIBLE or parsed in _NAT64):
        inner = IPv4Address(int(parsed) & 0xFFFF_FFFF)
    return inner is not None and inner.is_link_local


def _parse_authority(text: str, purpose: str) -> tuple[str, str, int, int]:
    """Return scheme, host, port and where the path begins."""
    start = re.match(_START, text)
    if start is None:
        raise StrictError(f"{purpose}: does not start with https:// (or http://)")
    scheme, authority = start[1].lower(), start[2]
    if "@" in authority:
        raise StrictError(f"{purpose}: user information before the host; credentials never go into a URL")
    if authority.startswith("["):
        literal, bracket, rest = authority[1:].partition("]")
        if not bracket or rest[:1] not in {"", ":"}:
            raise StrictError(f"{purpose}: malformed IPv6 address")
        host = _parse_ipv6(literal, purpose)
        colon, port_text = rest[:1], rest[1:]
    else:
        name, colon, port_text = authority.partition(":")
        host = _parse_name(name, purpose)
    port = _parse_port(port_text, purpose) if colon else _DEFAULT_PORTS[scheme]
    return scheme, host, port, start.end()


def _parse_port(text: str, purpose: str) -> int:
    if not re.fullmatch(_PORT, text) or int(text) > _MAX_PORT:
        raise StrictError(f"{purpose}: the port is not a number from 1 to {_MAX_PORT}")
    return int(text)


def _parse_ipv6(literal: str, purpose: str) -> str:
    try:
        # A zone ("%eth0") means something on one machine only.
        address = None if "%" in literal else IPv6Address(literal)
    except ValueError:
        address = None
    if address is None:
        raise StrictError(f"{purpose}: malformed IPv6 address")
    if address.ipv4_mapped is not None:
        raise StrictError(f"{purpose}: an IPv4 address written as IPv6; write it as IPv4")
    return address.compressed


def _parse_name(name: str, purpose: str) -> str:
    """Return a host name or IPv4 address in lower case and ASCII."""
    if not name or len(name) > _MAX_HOST:
        raise StrictError(f"{purpose}: the host has {len(name)} characters, where 1 to {_MAX_HOST} are allowed")
    host = name.lower()
    if not host.isascii():
        host = _punycode(host, purpose)
    labels = host.split(".")
    if len(host) > _MAX_HOST or not all(re.fullmatch(_LABEL, label) for label in labels):
        raise StrictError(
            f"{purpose}: malformed host name (a trailing dot, an empty or overlong label, or a character out of place)"
        )
    if re.fullmatch(_NUMBER, labels[-1]) and not _is_ipv4(host):
        # Some readers take 2130706433, 0x7f.1 and 127.1 for 127.0.0.1.
        raise StrictError(f"{purpose}: a numeric host that is not an IPv4 address of four decimal numbers")
    return host


def _punycode(name: str, purpose: str) -> str:
    """Return an international name (in lower case) in ASCII, provided that every edition of IDNA reads it alike.

    A name that does not survive the way there and back has characters that the encoding mapped or dropped
    (full-width digits, U+00DF, joiners): another library might contact another host. So it might with characters
    that are newer than the Unicode of the encoding, which knows no mapping for them.
    """
    encoded = b""
    same = False
    try:
        encoded = name.encode("idna")
        same = encoded.decode("idna") == name and not any(_UNICODE.category(character) == "Cn" for character in name)
    except UnicodeError:
        pass  # The error holds the name; ours is raised when it is gone.
    if not same:
        raise StrictError(
            f"{purpose}: the international host name is ambiguous or not allowed; write its punycode form (xn--...)"
        )
    return encoded.decode("ascii")


def _is_ipv4(host: str) -> bool:
    try:
        IPv4Address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    if _is_ipv4(host):
        return IPv4Address(host).is_loopback
    return host in {"localhost", "::1"}


def _origin(scheme: str, host: str, port: int) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" if port == _DEFAULT_PORTS[scheme] else f"{scheme}://{name}:{port}"
