"""The origin that a gRPC target stands for, so that the rules about where a token goes hold for gRPC too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

from accredit.core.calls import call_origin

__all__ = ["target_origin"]

# Name syntax of gRPC (doc/naming.md). With "dns" and "xds" an authority may come first: the resolver to ask.
_NAMES: Final = frozenset({"dns", "xds", "google-c2p"})
_ADDRESSES: Final = frozenset({"ipv4", "ipv6"})
_LOCAL: Final = frozenset({"unix", "unix-abstract"})
_PORT: Final = 443  # what gRPC takes when a target has none, with TLS and without
_OVERRIDES: Final = ("grpc.default_authority", "grpc.ssl_target_name_override")


def target_origin(target: str, *, secure: bool, options: Iterable[tuple[str, object]] | None = None) -> str:
    """Return the origin (RFC 6454) of the server that a channel talks to.

    Args:
        target: the target of the channel, such as ``"orders.example.com:443"`` or ``"dns:///orders.example.com"``.
        secure: whether the channel has credentials of its own, TLS as a rule.
        options: options of the channel. One that gives the server another name counts over TLS, which proves that name.

    Returns:
        ``https://host[:port]``, or ``http://`` without credentials. A Unix socket is ``localhost``, as its
        ``:authority`` says. A target with several addresses, of another kind, or open to two readings is the
        origin of nothing, so that it is none of the allowed ones either.

    """
    scheme = "https" if secure else "http"
    for name, value in options or ():
        if secure and name in _OVERRIDES and value:
            return _origin(scheme, _text(value))
    kind, colon, rest = target.partition(":")
    kind = kind.lower()
    if colon and kind in _LOCAL:
        return call_origin(scheme, "localhost")
    if colon and kind in _ADDRESSES:
        return _origin(scheme, rest)
    if colon and kind in _NAMES:
        return _origin(scheme, unquote(_endpoint(rest)))
    # Without a scheme that gRPC knows it is a name for the DNS.
    return _origin(scheme, unquote(target))


def _endpoint(rest: str) -> str:
    if rest.startswith("//"):
        return rest[2:].partition("/")[2]
    return rest.removeprefix("/")


def _origin(scheme: str, endpoint: str) -> str:
    if endpoint.count(":") > 1 and not endpoint.startswith("["):
        endpoint = f"[{endpoint}]"
    if ":" not in endpoint.rpartition("]")[2]:
        endpoint = f"{endpoint}:{_PORT}"
    return call_origin(scheme, endpoint)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
