"""Read what a client sends to the authorization server: forms, and client authentication (RFC 6749, section 2.3.1)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from accredit.devserver.config import DevClient, DevConfig

MAX_BODY_BYTES: Final = 256 * 1024
_MAX_FIELDS: Final = 100
_MAX_CREDENTIAL: Final = 64 * 1024
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
#: The only parameter that may be given several times (RFC 8707, section 2).
_REPEATABLE: Final = frozenset({"resource"})


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request to the development server, fully read.

    Attributes:
        method: in capitals.
        path: without query.
        headers: name (lower case) and value pairs.
        body: its bytes, at most :data:`MAX_BODY_BYTES`.
        query: what stands behind the ``?`` of the target.

    """

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    query: str = field(default="", repr=False)

    def values(self, name: str) -> tuple[str, ...]:
        """Return the values of every field of that (lower case) name."""
        return tuple(value for key, value in self.headers if key == name)


@dataclass(frozen=True, slots=True)
class Problem:
    """An OAuth error to answer (RFC 6749, section 5.2).

    Attributes:
        error: its code.
        description: for the developer; never repeats what was sent.
        status: 400, or 401 for ``invalid_client``.

    """

    error: str
    description: str
    status: int = 400


Form = Mapping[str, tuple[str, ...]]


def invalid_client(description: str) -> Problem:
    """Return the refusal of a client's credential."""
    return Problem("invalid_client", description, 401)


def parse_form(incoming: Incoming) -> Form | Problem:
    """Parse an ``application/x-www-form-urlencoded`` body; a parameter without value counts as omitted (3.1)."""
    kinds = [value.partition(";")[0].strip().lower() for value in incoming.values("content-type")]
    if kinds != ["application/x-www-form-urlencoded"]:
        return Problem("invalid_request", "the body must be application/x-www-form-urlencoded")
    if len(incoming.body) > MAX_BODY_BYTES:
        return Problem("invalid_request", "the body is too large", 413)
    fields = [piece for piece in incoming.body.split(b"&", _MAX_FIELDS) if piece]
    if len(fields) > _MAX_FIELDS:
        return Problem("invalid_request", "the body has too many parameters")
    form: dict[str, tuple[str, ...]] = {}
    for piece in fields:
        name, _, value = piece.partition(b"=")
        pair = _decode(name), _decode(value)
        if pair[0] is None or pair[1] is None:
            return Problem("invalid_request", "the body is not properly percent-encoded UTF-8")
        if pair[0] in form and pair[0] not in _REPEATABLE:
            return Problem("invalid_request", "a parameter is given more than once")
        form[pair[0]] = (*form.get(pair[0], ()), pair[1])
    return {name: kept for name, values in form.items() if (kept := tuple(value for value in values if value))}


def one(form: Form, name: str) -> str | None:
    """Return the value of a parameter that is given at most once."""
    values = form.get(name, ())
    return values[0] if values else None


def claimed_client_id(incoming: Incoming, config: DevConfig) -> str | None:
    """Return the id of the known client that a request claims to come from; nothing of it has been verified."""
    form = parse_form(incoming)
    basic = _basic_credentials(incoming, config)
    claimed = basic[0] if isinstance(basic, tuple) else one(form, "client_id") if isinstance(form, Mapping) else None
    return claimed if claimed is not None and config.client(claimed) is not None else None


def authenticate(
    incoming: Incoming, form: Form, config: DevConfig, assertion: Callable[[Form], DevClient | Problem]
) -> DevClient | Problem:
    """Authenticate the client by exactly one method (RFC 6749, section 2.3); ``assertion`` checks a signed one."""
    basic = _basic_credentials(incoming, config)
    if isinstance(basic, Problem):
        return basic
    client_id, secret = one(form, "client_id"), one(form, "client_secret")
    if "client_assertion" in form or "client_assertion_type" in form:
        if basic is not None or secret is not None:
            return Problem("invalid_request", "the client used more than one authentication method")
        return assertion(form)
    method = "client_secret_post"
    if basic is not None:
        if secret is not None:
            return Problem("invalid_request", "the client used more than one authentication method")
        if client_id not in {None, basic[0]}:
            return Problem("invalid_request", "client_id differs from that of the Authorization header")
        client_id, secret, method = basic[0], basic[1], "client_secret_basic"
    if client_id is None or secret is None:
        return invalid_client("no client authentication")
    client = config.client(client_id)
    # An unknown client costs the same comparison as a known one.
    expected = client.client_secret.reveal() if client is not None else ""
    right = hmac.compare_digest(_digest(secret), _digest(expected))
    if client is None or not right:
        return invalid_client("unknown client or wrong secret")
    if method not in client.auth_methods:
        return invalid_client(f"this client may not use {method}")
    return client


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _basic_credentials(incoming: Incoming, config: DevConfig) -> tuple[str, str] | Problem | None:
    values = incoming.values("authorization")
    if not values:
        return None
    if len(values) > 1:
        return Problem("invalid_request", "more than one Authorization header")
    scheme, _, token = values[0].strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "basic" or len(token) > _MAX_CREDENTIAL:
        return invalid_client("the Authorization header is not Basic, or too large")
    try:
        raw = base64.b64decode(token.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return invalid_client("the Basic credential is not base64")
    user, colon, password = raw.partition(b":")
    read = _decode if config.basic_encoding == "percent" else _utf8
    client_id, secret = read(user), read(password)
    if not colon or not client_id or secret is None:
        return invalid_client("the Basic credential is not an encoded client_id:client_secret")
    return client_id, secret


def _decode(encoded: bytes) -> str | None:
    """Undo application/x-www-form-urlencoded (RFC 6749, appendix B); None when it is not that."""
    if _BROKEN_ESCAPE.search(encoded):
        return None
    return _utf8(_ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), encoded.replace(b"+", b" ")))


def _utf8(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
