"""A refusal as gRPC has it: a status code, a text, and trailing metadata that programs can read.

``grpc-status-details-bin`` holds a ``google.rpc.Status`` with an ``ErrorInfo`` and, when the caller is to come back
later, a ``RetryInfo``: what the client libraries of other languages look for. The messages are so small that they are
written by hand, without the packages of the generated ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from accredit.core.guarding import Refusal, RequiredScope

__all__ = ["RpcStatus", "rpc_status"]

_UNAUTHENTICATED: Final = 16
_PERMISSION_DENIED: Final = 7
_UNAVAILABLE: Final = 14
_CODES: Final = {400: _UNAUTHENTICATED, 401: _UNAUTHENTICATED, 403: _PERMISSION_DENIED, 503: _UNAVAILABLE}
_DOMAIN: Final = "oauth2"  # whose error codes the reasons are, in capitals as google.rpc.ErrorInfo wants them
_TYPES: Final = "type.googleapis.com/google.rpc."


class RpcStatus(NamedTuple):
    """How a call that is not let in ends.

    Attributes:
        code: the number of the status code.
        details: the text beside it, for people.
        trailing_metadata: ``www-authenticate`` (RFC 6750, section 3) and ``grpc-status-details-bin``.

    """

    code: int
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def rpc_status(refusal: Refusal, needed: RequiredScope) -> RpcStatus:
    """Return how a call ends that a guard refuses.

    A malformed request (400) is UNAUTHENTICATED as well: whoever sent it has not shown who it is.
    """
    code = _CODES[refusal.status]
    scope = " ".join(needed.sufficient)
    details = refusal.description
    if code == _PERMISSION_DENIED and scope:
        details = f"{details.rstrip('.')}: {scope}"
    info = {"scope": scope} if scope and code != _UNAVAILABLE else {}
    parts = [("ErrorInfo", _error_info((refusal.error or "token_required").upper(), info))]
    if refusal.retry_after is not None:
        parts.append(("RetryInfo", _nested(1, _number(1, refusal.retry_after))))
    status = _number(1, code) + _text(2, details)
    for name, message in parts:
        status += _nested(3, _text(1, _TYPES + name) + _nested(2, message))
    challenge = () if refusal.challenge is None else (("www-authenticate", refusal.challenge),)
    return RpcStatus(code, details, (*challenge, ("grpc-status-details-bin", status)))


def _error_info(reason: str, members: Mapping[str, str]) -> bytes:
    entries = b"".join(_nested(3, _text(1, name) + _text(2, value)) for name, value in members.items())
    return _text(1, reason) + _text(2, _DOMAIN) + entries


# -- the wire format of protocol buffers ---------------------------------------------------------------------------


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _nested(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _nested(field, value.encode())
