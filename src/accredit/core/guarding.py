"""What a guard of an API decides: who is let in, and the exact answer to everybody else (RFC 6750, section 3).

Pure: header fields and the verdict on the token go in; the token, or a complete refusal, comes out. Every guard of
:mod:`accredit.resource_server` is a thin adapter of this, so all of them give the same answers to the byte.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from accredit.core.strict import StrictError, check_scope_token
from accredit.core.value import Value, frozen
from accredit.errors import AccreditError, AuthorizationServerError, ConfigurationError, InvalidTokenError

__all__ = ["GuardPolicy", "Refusal", "RequiredScope", "carries_token", "is_form", "required_scope"]

#: Most characters of an access token; longer ones are refused before anything looks at them.
MAX_TOKEN: Final = 16 * 1024
_MAX_RETRY_AFTER: Final = 3600

# Visible ASCII but the quotation mark, the comma and the backslash: what parse_access_token() lets a client send.
_ALLOWED: Final = bytes(sorted(set(range(0x21, 0x7F)) - set(b'",\\')))
_USUAL: Final = b"Bearer "
_BEGIN: Final = len(_USUAL)
_CREDENTIALS: Final = re.compile(r"(?ai:bearer) +([!#-+\--\[\]-~]+)")
_SCHEME: Final = re.compile(r"(?ai:bearer)(?=[ \t]|\Z)")
_SEVERAL: Final = re.compile(r"[ \t,]")
_PAIR_NAME: Final = re.compile(rb"(?:\A|&)([^&=]*)")
_TOKEN_NAME: Final = b"access_token"
_FORM: Final = "application/x-www-form-urlencoded"
_NOT_QUOTABLE: Final = re.compile(r'[^\x20-\x7e]|["\\]')

# What callers are told. One text for every fault of a token: which check refused it is nobody's business but the
# log's, since the answer would help whoever tries out forged tokens.
_NO_TOKEN: Final = "This request needs an access token."  # noqa: S105 - no token but a sentence
_SEVERAL_FIELDS: Final = "The request has more than one Authorization field."
_SEVERAL_METHODS: Final = "The request has an access token in more than one place."
_MALFORMED: Final = "The Authorization field is malformed."
_INVALID: Final = "The access token is expired, revoked, malformed or not for this API."
_SCOPE: Final = "The access token lacks a scope that this request needs."
_UNAVAILABLE: Final = "The access token cannot be checked at the moment."


@frozen()
class RequiredScope(Value):
    """The scope that a request needs (RFC 6749, section 3.3).

    Attributes:
        all_of: every one of these.
        any_of: at least one of these, if there are any.

    """

    all_of: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()

    def met_by(self, granted: Collection[str]) -> bool:
        """Tell whether the granted scopes suffice; a text is taken apart, so that no part of a scope counts as one."""
        if isinstance(granted, str):
            granted = granted.split(" ")
        for scope in self.all_of:
            if scope not in granted:
                return False
        return not self.any_of or any(scope in granted for scope in self.any_of)

    @property
    def sufficient(self) -> tuple[str, ...]:
        """Scopes that are enough, as a challenge names them: where there is a choice, the first one is named."""
        return tuple(dict.fromkeys((*self.all_of, *self.any_of[:1])))


def required_scope(scope: str | Iterable[str] = (), any_of: str | Iterable[str] = ()) -> RequiredScope:
    """Return what a request needs, from one text with spaces or from several scopes.

    Raises:
        ConfigurationError: one of them is no scope.

    """
    return RequiredScope(_scopes(scope, "scope"), _scopes(any_of, "any_of"))


def _scopes(given: str | Iterable[str], key: str) -> tuple[str, ...]:
    if not isinstance(given, str | Iterable) or isinstance(given, bytes):
        raise ConfigurationError(
            f"a {type(given).__name__} names no scope.",
            advice="Give the scopes that the route needs; without any, write requires() with its parentheses.",
            key=key,
        )
    names = tuple(filter(None, given.split(" "))) if isinstance(given, str) else tuple(given)
    fault = ""
    try:
        for name in names:
            check_scope_token(name)
    except (StrictError, TypeError) as error:
        fault = str(error) if isinstance(error, StrictError) else "not a string"
    if fault:
        raise ConfigurationError(f"{fault}.", advice="Give the scopes that the route needs.", key=key)
    return tuple(dict.fromkeys(names))


class Refusal(NamedTuple):
    """A complete answer to a request that is not let in.

    Attributes:
        status: 400, 401, 403 or 503.
        challenge: the value of ``WWW-Authenticate``; None for 503, which is no fault of the caller.
        retry_after: whole seconds for ``Retry-After``; None unless the status is 503.
        error: the error code of RFC 6750, section 3.1; None where the request simply had no token;
            ``temporarily_unavailable`` for 503.
        description: one sentence for the caller.
        reason: a short, stable word for logs and metrics; never told to the caller.

    """

    status: int
    challenge: str | None
    retry_after: int | None
    error: str | None
    description: str
    reason: str

    @property
    def members(self) -> dict[str, str]:
        """The members of the JSON body."""
        return {"error": self.error or "token_required", "error_description": self.description}

    @property
    def body(self) -> bytes:
        """The body: a JSON object with ``error`` and ``error_description``."""
        return json.dumps(self.members).encode()

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The fields that matter to the caller: ``WWW-Authenticate`` or ``Retry-After``, and ``Cache-Control``."""
        fields = [("cache-control", "no-store")]
        if self.challenge is not None:
            fields.append(("www-authenticate", self.challenge))
        if self.retry_after is not None:
            fields.append(("retry-after", str(self.retry_after)))
        return tuple(fields)

    @property
    def all_headers(self) -> tuple[tuple[str, str], ...]:
        """Every field of the answer, those of the body included."""
        return (("content-type", "application/json"), ("content-length", str(len(self.body))), *self.headers)


@frozen(kw_only=True)
class GuardPolicy(Value):
    """How a guard speaks to its callers.

    Attributes:
        realm: names the protected space in challenges (RFC 9110, section 11.5).
        resource_metadata: the URL of the metadata document to name in challenges (RFC 9728, section 5.1), or None.
        retry_after: seconds after which to try again when a token cannot be checked and nothing better is known.
        max_token: most characters of a token.

    """

    realm: str = "api"
    resource_metadata: str | None = None
    retry_after: float = 10.0
    max_token: int = MAX_TOKEN

    def __post_init__(self) -> None:
        """Check what goes into header fields.

        Raises:
            ConfigurationError: naming the argument at fault.

        """
        for key, text in (("realm", self.realm), ("resource_metadata", self.resource_metadata)):
            good = isinstance(text, str) and text and not _NOT_QUOTABLE.search(text)
            if not good and (text is not None or key == "realm"):
                raise ConfigurationError(
                    "it is no text, empty, or holds a character that cannot be in a challenge.",
                    advice="Use printable ASCII without quotation marks and backslashes.",
                    key=key,
                )
        seconds = self.retry_after
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 1 <= seconds <= _MAX_RETRY_AFTER:
            raise ConfigurationError(
                f"it must be from 1 to {_MAX_RETRY_AFTER} seconds.", advice="Give seconds.", key="retry_after"
            )
        if self.max_token < 1:
            raise ConfigurationError("it must be positive.", advice="Give a number of characters.", key="max_token")

    def read(self, fields: Sequence[str | bytes], needed: RequiredScope) -> str | Refusal:
        """Return the token of a request, or why there is none to look at (RFC 6750, section 2.1).

        Args:
            fields: the value of every ``Authorization`` field of the request, in order.
            needed: the scope to name in the challenge.

        """
        if len(fields) != 1:
            if fields:
                return self._refuse(400, "invalid_request", _SEVERAL_FIELDS, "several_fields", needed)
            return self._refuse(401, None, _NO_TOKEN, "no_token", needed)
        (field,) = fields
        # The usual spelling first: no pattern goes over the characters of the token.
        usual = field if isinstance(field, bytes) else field.encode() if field.isascii() else b""
        if usual.startswith(_USUAL) and _BEGIN < len(usual) <= self.max_token + _BEGIN:
            credentials = usual[_BEGIN:]
            if not credentials.translate(None, _ALLOWED):
                return credentials.decode("ascii")
        text = field.decode("latin-1") if isinstance(field, bytes) else field
        found = _CREDENTIALS.fullmatch(text)
        if found is not None and len(found[1]) <= self.max_token:
            return found[1]
        if not _SCHEME.match(text):
            return self._refuse(401, None, _NO_TOKEN, "other_scheme", needed)
        rest = text[len("bearer") :].strip(" ")
        if len(rest) > self.max_token:
            return self._refuse(401, "invalid_token", _INVALID, "too_large", needed)
        if not rest or _SEVERAL.search(rest):
            # Also two fields that something on the way joined with a comma.
            return self._refuse(400, "invalid_request", _MALFORMED, "malformed_field", needed)
        return self._refuse(401, "invalid_token", _INVALID, "malformed", needed)

    def judge(self, granted: Collection[str], needed: RequiredScope) -> Refusal | None:
        """Return why a verified token with these scopes is not enough; None if it is."""
        if needed.met_by(granted):
            return None
        return self._refuse(403, "insufficient_scope", _SCOPE, "scope", needed)

    def refuse(self, error: AccreditError, needed: RequiredScope) -> Refusal:
        """Return the answer when the token did not verify: 401 if the token is at fault, 503 if anything else is.

        A dependency of ours that is down, or that refuses *us*, says nothing about the caller's token (RFC 9110,
        section 15.6.4): a 401 would make every caller throw away a good one.
        """
        if isinstance(error, InvalidTokenError):
            return self._refuse(401, "invalid_token", _INVALID, error.reason, needed)
        seconds = error.retry_after if isinstance(error, AuthorizationServerError) else None
        wait = self.retry_after if seconds is None else seconds
        # Also against a wait that is no number: the comparison is false then.
        retry_after = math.ceil(min(max(wait, 1), _MAX_RETRY_AFTER)) if wait > 0 else 1
        reason = error.fault.replace(" ", "_")
        return Refusal(503, None, retry_after, "temporarily_unavailable", _UNAVAILABLE, reason)

    def several_methods(self, needed: RequiredScope) -> Refusal:
        """Return the answer to a request that has a token in its header and elsewhere too (RFC 6750, section 2)."""
        return self._refuse(400, "invalid_request", _SEVERAL_METHODS, "several_methods", needed)

    def _refuse(self, status: int, error: str | None, text: str, reason: str, needed: RequiredScope) -> Refusal:
        parameters = [("realm", self.realm)]
        if error is not None:
            # Descriptions hold no quotation mark; the full stop reads oddly in a parameter.
            parameters += [("error", error), ("error_description", text.rstrip("."))]
        # The request is at fault, not the token, where it is malformed: no scope would mend it.
        if status != 400 and (scope := " ".join(needed.sufficient)):
            parameters.append(("scope", scope))
        if self.resource_metadata is not None:
            parameters.append(("resource_metadata", self.resource_metadata))
        challenge = "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parameters)
        return Refusal(status, challenge, None, error, text, reason)


def carries_token(form: bytes) -> bool:
    """Tell whether a query or a form has a parameter ``access_token``, percent-encoded or not, in linear time."""
    if b"access" not in form and b"%" not in form:
        return False
    return any(_unquote(name[1]) == _TOKEN_NAME for name in _PAIR_NAME.finditer(form))


def is_form(content_types: Sequence[str | bytes]) -> bool:
    """Tell whether the body is a form, by the ``Content-Type`` fields of a request; any of them counts."""
    for field in content_types:
        text = field.decode("latin-1") if isinstance(field, bytes) else field
        if text.partition(";")[0].strip(" \t").lower() == _FORM:
            return True
    return False


def _unquote(name: bytes) -> bytes:
    # Three bytes for each character at most: what is longer cannot be the name.
    if len(name) > 3 * len(_TOKEN_NAME):
        return b""
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), name)
