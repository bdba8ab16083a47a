"""The only HTTP the core knows: one request, one response, one failure to get a response."""

from __future__ import annotations

from dataclasses import field
from typing import Literal, NamedTuple

from accredit.core.value import Value, frozen


@frozen()
class Request(Value):
    """A request to an authorization server, ready to be sent.

    Attributes:
        method: ``"GET"`` or ``"POST"``.
        url: absolute ``https`` URL (or ``http`` where the registration allows it), already validated.
        headers: name and value pairs, in order. May hold credentials, so they are not in the repr.
        body: the encoded form, or empty. May hold credentials, so it is not in the repr.
        max_bytes: most bytes of body that may be read from the answer, after content decoding.

    """

    method: Literal["GET", "POST"]
    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    max_bytes: int = 256 * 1024


@frozen()
class Response(Value):
    """A complete response: the whole body was read, within the limit of the request.

    Attributes:
        status: the HTTP status code.
        headers: name (lower case) and value pairs, in order, repeated fields kept apart.
        body: the bytes of the body. May hold a token, so it is not in the repr.

    """

    status: int
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        """Return the value of the only field of that (lower case) name; None when absent or repeated."""
        values = self.header_values(name)
        return values[0] if len(values) == 1 else None

    def header_values(self, name: str) -> tuple[str, ...]:
        """Return the values of every field of that (lower case) name, in order."""
        return tuple(value for key, value in self.headers if key == name)


FailureKind = Literal[
    "deadline",  # the total deadline passed
    "resolve",  # the host name could not be resolved
    "connect",  # refused, reset or timed out while connecting
    "tls",  # the TLS handshake or the certificate failed: not worth another attempt
    "proxy",  # the proxy refused or failed
    "read",  # the connection broke, or the answer was truncated or not HTTP
    "too_large",  # the answer passed max_bytes, or used a content coding that was not asked for
    "blocked",  # the address is one that is never contacted (link-local)
]


class Failure(NamedTuple):
    """No response could be had.

    Attributes:
        kind: what failed.
        detail: one short phrase for people, free of credentials; never a copy of what the peer sent.

    """

    kind: FailureKind
    detail: str
