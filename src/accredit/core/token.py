"""The token request and its answer, and the token that callers get.

:func:`token_request` builds the one request of this library that holds a credential;
:func:`parse_token_response` validates what comes back. Both are pure.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Literal, NoReturn, TypeVar
from urllib.parse import quote_plus, urlencode

from accredit.core.client_auth import percent_encode
from accredit.core.messages import Request, Response
from accredit.core.registration import ClientRegistration, TokenRequest
from accredit.core.renewal import THROTTLE_LAST
from accredit.core.secret import Secret
from accredit.core.strict import (
    StrictError,
    is_json_media_type,
    parse_access_token,
    parse_json_object,
    parse_rate_limit_reset,
    parse_retry_after,
    parse_scope_member,
    parse_seconds,
    safe_error_code,
)
from accredit.core.value import Value, frozen
from accredit.errors import (
    AuthorizationServerError,
    CredentialRefusedError,
    MalformedResponseError,
    RequestRefusedError,
    ThrottledError,
    UnreachableError,
)

_T = TypeVar("_T")
MAX_RESPONSE_BYTES = 256 * 1024
_MAX_LIFETIME_STATED = 10**12
_WINDOW = 6
_CREDENTIAL_CODES = frozenset({"invalid_client", "unauthorized_client"})
_THROTTLE_CODES = frozenset({"slow_down"})
# They say nothing about a secret, even one that happens to have a part in common with them.
_PUBLIC_CODES = frozenset(
    {
        *_CREDENTIAL_CODES,
        *_THROTTLE_CODES,
        "access_denied",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "invalid_target",
        "server_error",
        "temporarily_unavailable",
        "unknown_error",
        "unsupported_grant_type",
    }
)


@frozen()
class AccessToken(Value):
    """An access token, as callers get it. It never prints its value.

    Attributes:
        authorization: the ready value of the ``Authorization`` header (RFC 6750, section 2.1).
        expires_at: end of life in seconds since the epoch, by the wall clock of this machine when it came in.
        lifetime: seconds of the whole life.
        granted_scope: the scopes the server stated; None when it stated none.
        members: what ``keep_members`` of the registration kept of the response.
        generation: tells this token from those before and after it.
        renew_at: local clock, seconds; the renewal point.
        usable_until: local clock, seconds; not handed out from here on.
        ends_at: local clock, seconds; end of life.
        received_at: local clock, seconds; when it came into this process.

    """

    authorization: str = field(repr=False)
    expires_at: float
    lifetime: float
    granted_scope: tuple[str, ...] | None = field(repr=False)
    members: Mapping[str, str] = field(repr=False, hash=False)
    generation: int = field(repr=False)
    renew_at: float = field(repr=False)
    usable_until: float = field(repr=False)
    ends_at: float = field(repr=False)
    received_at: float = field(repr=False)
    fingerprint: bytes = field(repr=False)
    clock: Callable[[], float] = field(repr=False, compare=False)

    @property
    def value(self) -> str:
        """The access token itself, for the rare place that needs it without the scheme."""
        return self.authorization[7:]

    @property
    def token_type(self) -> Literal["Bearer"]:
        """The token type (RFC 6749, section 7.1)."""
        return "Bearer"

    def expires_within(self, seconds: float) -> bool:
        """Tell whether the token's life ends within that many seconds from now."""
        return self.clock() + seconds >= self.ends_at

    def __str__(self) -> str:
        """Return the repr: the value is not printed."""
        return repr(self)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: another process gets its own from the store."""
        del self  # not to hang on the traceback
        msg = "an AccessToken refuses to be pickled: let the other process ask its own manager"
        raise TypeError(msg)


@frozen()
class IssuedToken(Value):
    """What an accepted token response says.

    Attributes:
        value: the access token.
        lifetime: seconds, clamped to ``max_lifetime``, or ``default_lifetime`` when not stated.
        clamped_from: seconds the server stated when that was more than ``max_lifetime``, else None.
        granted_scope: the stated scopes, or None.
        refresh_in: seconds after which the server wants a renewal, or None.
        members: what ``keep_members`` keeps.
        refresh_token: the refresh token, when the registration uses one and one came.

    """

    value: str = field(repr=False)
    lifetime: float
    clamped_from: float | None = None
    granted_scope: tuple[str, ...] | None = None
    refresh_in: float | None = None
    members: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    refresh_token: str | None = field(default=None, repr=False)


def token_request(
    request: TokenRequest, endpoint: str, secret: Secret | None, refresh_token: str | None = None
) -> Request:
    """Return the HTTP request for a token, with exactly one client authentication.

    By the grant (RFC 6749, section 4.4.2), or with a refresh token when there is one (section 6).
    """
    registration = request.registration
    headers, parameters = registration.client_auth.apply(registration.client_id, secret)
    return Request(
        "POST",
        endpoint,
        (
            ("accept", "application/json"),
            ("content-type", "application/x-www-form-urlencoded"),
            *headers,
        ),
        urlencode([*request.parameters(refresh_token), *parameters]).encode(),
        MAX_RESPONSE_BYTES,
    )


def parse_token_response(
    response: Response,
    request: TokenRequest,
    endpoint: str,
    secret: Secret | None,
    *,
    now_wall: float,
    refresh_token: str | None = None,
) -> IssuedToken | AuthorizationServerError:
    """Return what the response issues, or the error it amounts to (RFC 6749, sections 5.1 and 5.2).

    ``secret`` and ``refresh_token`` are what the request carried: a refusal that repeats one is not quoted.
    Errors are values here: they are raised only where a caller waits, far from any frame that holds the secret.
    """
    if response.status == 200:
        return _success(response, request, endpoint)
    if 300 <= response.status < 400:
        return MalformedResponseError(
            f"the token endpoint answered with a redirect ({response.status}); credentials never follow one.",
            advice="Configure the token endpoint (or issuer) that it redirects to, if you trust it.",
            endpoint=endpoint,
            status=response.status,
        )
    sent = [] if secret is None else [(request.registration.client_id, secret.reveal())]
    if refresh_token is not None:
        sent.append(("", refresh_token))
    return _refusal(response, request, endpoint, sent, now_wall=now_wall)


# -- success --------------------------------------------------------------------------------------


def _success(
    response: Response, request: TokenRequest, endpoint: str
) -> IssuedToken | MalformedResponseError | RequestRefusedError:
    registration = request.registration
    problem = ""
    issued: IssuedToken | None = None
    try:
        issued = _issued(response, registration)
    except StrictError as error:
        problem = str(error)
    if issued is None:
        return MalformedResponseError(
            f"the token response is malformed: {problem}.",
            advice="Nothing of it was kept. Check that the URL is the token endpoint, not a login page or a proxy.",
            endpoint=endpoint,
            status=response.status,
        )
    if registration.require_scope and issued.granted_scope is not None:
        missing = [scope for scope in request.scopes if scope not in issued.granted_scope]
        if missing:
            return RequestRefusedError(
                f"the token was granted without the scope {' '.join(missing)}.",
                advice="Have the scope granted to this client, or do not ask for it.",
                endpoint=endpoint,
                status=response.status,
                error_code="insufficient_scope",
            )
    return issued


def _issued(response: Response, registration: ClientRegistration) -> IssuedToken:
    if not registration.lenient_content_type and not is_json_media_type(response.header("content-type")):
        msg = "its Content-Type is not JSON"
        raise StrictError(msg)
    document = parse_json_object(response.body, max_bytes=MAX_RESPONSE_BYTES)
    if document.get("error") is not None:
        msg = "it is a success that carries an 'error'"
        raise StrictError(msg)
    _check_token_type(document.get("token_type"), registration)
    value = _member("access_token", parse_access_token, document.get("access_token"))
    stated = document.get("expires_in")
    lifetime = (
        registration.default_lifetime
        if stated is None
        else float(_bounded(_member("expires_in", parse_seconds, stated)))
    )
    if lifetime <= 0:
        msg = "the token is expired on arrival (expires_in is zero or negative)"
        raise StrictError(msg)
    kept = min(lifetime, registration.max_lifetime)
    scope = document.get("scope")
    refresh_in = document.get("refresh_in")
    return IssuedToken(
        value,
        kept,
        lifetime if stated is not None and lifetime > kept else None,
        None if scope is None else _member("scope", parse_scope_member, scope),
        None if refresh_in is None else _refresh_in(refresh_in, kept),
        _members(document, registration),
        _refresh_token(document.get("refresh_token")) if registration.use_refresh_token else None,
    )


def _member(name: str, parse: Callable[[object], _T], value: object) -> _T:
    """Return a member as ``parse`` reads it; what is wrong with it is said under its name."""
    try:
        return parse(value)
    except StrictError as error:
        problem = str(error)
    msg = f"{name} is {problem}"
    raise StrictError(msg)


def _refresh_token(value: object) -> str | None:
    """Return a refresh token; one that could not be sent again is no reason to refuse the token beside it."""
    try:
        return None if value is None else parse_access_token(value)
    except StrictError:
        return None


def _bounded(seconds: int) -> int:
    # Ten thousand years: beyond it is no lifetime but an attack on somebody's arithmetic.
    if seconds > _MAX_LIFETIME_STATED:
        msg = "expires_in is beyond any lifetime"
        raise StrictError(msg)
    return seconds


def _refresh_in(value: object, lifetime: float) -> float | None:
    """Return ``refresh_in`` when it lies within the token's life: a hint is never a reason to refuse a token."""
    try:
        seconds = parse_seconds(value)
    except StrictError:
        return None
    return float(seconds) if 0 < seconds < lifetime else None


def _check_token_type(token_type: object, registration: ClientRegistration) -> None:
    if token_type is None:
        if registration.assume_bearer:
            return
        msg = "token_type is missing"
        raise StrictError(msg)
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        msg = "token_type is not Bearer"
        raise StrictError(msg)


def _members(document: Mapping[str, object], registration: ClientRegistration) -> tuple[tuple[str, str], ...]:
    kept = []
    for name in registration.keep_members:
        member = document.get(name)
        if isinstance(member, str) and name not in {
            "access_token",
            "refresh_token",
            "id_token",
        }:
            kept.append((name, member))
    return tuple(kept)


# -- refusals ---------------------------------------------------------------------------------------


def _refusal(
    response: Response,
    request: TokenRequest,
    endpoint: str,
    sent: Sequence[tuple[str, str]],
    *,
    now_wall: float,
) -> AuthorizationServerError:
    status = response.status
    code, description = _error_members(response)
    code = _safe_code(code, sent)
    said = _said(code, _safe_description(description, sent))
    retry_after = _retry_after(response, now_wall)
    name = request.registration.id
    if status == 429 or code in _THROTTLE_CODES or (status == 503 and retry_after is not None):
        return ThrottledError(
            f"the token endpoint is throttling this client (HTTP {status}){said}.",
            advice="accredit holds back on its own; share tokens between processes to need fewer of them.",
            endpoint=endpoint,
            status=status,
            error_code=code,
            retry_after=retry_after,
        )
    # 408 says that our request was slow in coming (RFC 9110, section 15.5.9): a fault of the way, not of the request.
    if status >= 500 or status == 408:
        return UnreachableError(
            f"the token endpoint failed (HTTP {status}){said}.",
            advice="This is a fault of the authorization server; accredit tries again on its own.",
            endpoint=endpoint,
            status=status,
            error_code=code,
        )
    if status == 407:
        return UnreachableError(
            "the proxy demands authentication (HTTP 407).",
            advice="Check the proxy settings of the environment.",
            endpoint=endpoint,
            status=status,
        )
    # A 401 is about the credential whatever its code (Auth0 says access_denied), unless the code is about the request.
    about_credential = code in _CREDENTIAL_CODES or (status == 401 and code not in _REQUEST_ADVICE)
    if about_credential or (code is None and status == 403):
        return CredentialRefusedError(
            f"the authorization server refuses the credential of registration {name!r} (HTTP {status}){said}.",
            advice="Check client_id, the client secret and client_auth"
            " (some servers want client_secret_post, or basic_encoding = 'raw').",
            endpoint=endpoint,
            status=status,
            error_code=code,
        )
    if status < 400:
        return MalformedResponseError(
            f"the token endpoint answered HTTP {status}, which is no token response.",
            advice="Check that the URL is the token endpoint.",
            endpoint=endpoint,
            status=status,
        )
    return RequestRefusedError(
        f"the authorization server refuses the token request of registration {name!r} (HTTP {status}){said}.",
        advice=_REQUEST_ADVICE.get(
            code or "",
            "Check the token endpoint, and the scope, resource and audience asked for.",
        ),
        endpoint=endpoint,
        status=status,
        error_code=code,
    )


_REQUEST_ADVICE = {
    "invalid_scope": "Check the scope: the client must be allowed each one.",
    "invalid_target": "Check resource and audience: the server does not know one of them (RFC 8707).",
    "unsupported_grant_type": "Have the client credentials grant enabled at the server.",
}


def _error_members(response: Response) -> tuple[str | None, str | None]:
    try:
        document = parse_json_object(response.body, max_bytes=MAX_RESPONSE_BYTES)
    except StrictError:
        return None, None
    description = document.get("error_description")
    return safe_error_code(document.get("error")), description if isinstance(description, str) else None


def _said(code: str | None, description: str | None) -> str:
    text = f": {code}" if code else ""
    return f'{text} "{description}"' if description else text


def _safe_code(code: str | None, sent: Sequence[tuple[str, str]]) -> str | None:
    """Return the error code; ``unknown_error`` for one of the server's own making that repeats the credential."""
    if code is None or code in _PUBLIC_CODES or not any(_repeats(code, *pair) for pair in sent):
        return code
    return "unknown_error"


_UNPRINTABLE = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


def _safe_description(description: str | None, sent: Sequence[tuple[str, str]]) -> str | None:
    """Return the description in printable ASCII, at most 200 characters; None if any part repeats the credential."""
    if description is None or any(_repeats(description, *pair) for pair in sent):
        return None
    return _UNPRINTABLE.sub("?", description[:200])


def _repeats(text: str, client_id: str, secret: str) -> bool:
    pair = f"{client_id}:{secret}"
    encoded_pair = f"{percent_encode(client_id)}:{percent_encode(secret)}"
    forms = {
        secret,
        percent_encode(secret),
        quote_plus(secret),
        secret.encode("unicode_escape").decode(),
        b64encode(secret.encode()).decode(),
        b64encode(pair.encode()).decode(),
        b64encode(encoded_pair.encode()).decode(),
    }
    folded = text.casefold()
    for form in forms:
        lowered = form.casefold()
        size = min(_WINDOW, len(lowered))
        if any(lowered[start : start + size] in folded for start in range(len(lowered) - size + 1)):
            return True
    return False


def _retry_after(response: Response, now_wall: float) -> float | None:
    seconds = parse_retry_after(response.header_values("retry-after"), now_wall=now_wall, cap=THROTTLE_LAST)
    if seconds is not None:
        return seconds
    reset = response.header("x-rate-limit-reset")
    return None if reset is None else parse_rate_limit_reset(reset, now_wall=now_wall, cap=THROTTLE_LAST)
