"""Token introspection: the request, and what the response amounts to (RFC 7662; signed responses, RFC 9701)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, NoReturn
from urllib.parse import urlencode

from accredit.core.access_token import (
    LAST_SECOND,
    AccessTokenPolicy,
    VerifiedToken,
    check_audience,
    check_client,
    check_kind,
    check_times,
    optional_text,
    read_only,
    read_scope,
)
from accredit.core.client_auth import ClientAuthentication, first_control
from accredit.core.jose import parse_jws, verify_jws
from accredit.core.jwks import KeySet
from accredit.core.messages import Request, Response
from accredit.core.profiles import PROFILES
from accredit.core.renewal import THROTTLE_LAST
from accredit.core.secret import Secret
from accredit.core.strict import (
    StrictError,
    is_json_media_type,
    parse_json_object,
    parse_retry_after,
    parse_url,
    safe_error_code,
)
from accredit.errors import (
    AuthorizationServerError,
    ConfigurationError,
    CredentialRefusedError,
    InvalidTokenError,
    MalformedResponseError,
    RequestRefusedError,
    ThrottledError,
    UnreachableError,
)

MAX_RESPONSE_BYTES: Final = 256 * 1024
SIGNED_MEDIA_TYPE: Final = "application/token-introspection+jwt"
_SIGNED_TYPE: Final = "token-introspection+jwt"
_NAME: Final = "the introspection endpoint"
_UNKNOWN_KEY: Final = "the key that signed it is not known"
#: Seconds for which an active token may be kept at most, and an inactive one.
MAX_KEPT: Final = 300.0
MAX_INACTIVE_KEPT: Final = 5.0
_ACCESS_TOKEN_USES: Final = frozenset({"access", "access_token"})

Which = Literal["opaque", "all", "only"]


class UnknownKey(NamedTuple):
    """A signed response by a key that is not among those known; a newer set may have it.

    Attributes:
        error: what it amounts to when there is no newer set.

    """

    error: MalformedResponseError


@dataclass(frozen=True, slots=True, kw_only=True)
class Introspection:
    """How to ask an authorization server about a token, and about which ones (RFC 7662).

    Attributes:
        client_id: the client id of this API at the authorization server.
        client_auth: how this API authenticates, such as ``ClientSecretBasic(secret)`` (RFC 7662, section 2.1).
        endpoint: the introspection endpoint; None for the one that the metadata names.
        tokens: which tokens are asked about: ``"opaque"`` (those that are no JWT), ``"all"`` (JWTs too, after they were
            verified here, so that revocation is noticed), or ``"only"`` (nothing is verified here; no keys needed).
        signed: demand a signed response (RFC 9701); a plain one is then refused.
        require_audience: refuse an active token whose response states no ``aud``. One that is stated must be ours
            either way.
        keep_active: seconds for which an active token is not asked about again, at most 300. It may have been revoked
            for as long.
        keep_inactive: seconds for which an inactive token is not asked about again, at most 5.
        keep_through_outage: seconds since its last good answer for which an active token is still accepted while the
            endpoint cannot be reached; 0 accepts none.

    Raises:
        ConfigurationError: naming the argument at fault.

    """

    client_id: str
    client_auth: ClientAuthentication
    endpoint: str | None = None
    tokens: Which = "opaque"
    signed: bool = False
    require_audience: bool = False
    keep_active: float = 30.0
    keep_inactive: float = 5.0
    keep_through_outage: float = 0.0

    def __post_init__(self) -> None:
        """Check what can be checked before anything is sent."""
        if not isinstance(self.client_id, str) or not self.client_id.strip() or first_control(self.client_id):
            _misused("client_id", "it is empty or has control characters", "Give the client id of this API.")
        if not isinstance(self.client_auth, ClientAuthentication):
            _misused("client_auth", "it is no client authentication method", "Give ClientSecretBasic(secret).")
        self.client_auth.check(self.client_id)
        if self.tokens not in ("opaque", "all", "only"):  # a tuple: what is given may have no hash
            _misused("tokens", "it is neither 'opaque' nor 'all' nor 'only'", "Use one of them.")
        for name in ("signed", "require_audience"):
            if not isinstance(getattr(self, name), bool):
                _misused(name, "it is neither true nor false", "Give True or False.")
        for name, most in (
            ("keep_active", MAX_KEPT),
            ("keep_inactive", MAX_INACTIVE_KEPT),
            ("keep_through_outage", 86400.0),
        ):
            value = getattr(self, name)
            good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not good or not 0 <= value <= most:
                _misused(name, f"it must be from 0 to {most:g} seconds", "Give seconds.")

    def check_endpoint(self, *, allow_insecure_http: bool) -> None:
        """Refuse an endpoint that is no usable URL.

        Raises:
            ConfigurationError: saying what is wrong with it.

        """
        problem = ""
        if self.endpoint is not None:
            try:
                parse_url(self.endpoint, allow_insecure_http=allow_insecure_http, purpose="endpoint")
            except StrictError as error:
                problem = str(error)
        if problem:
            _misused("introspection.endpoint", f"it is not a usable URL: {problem}", "Give an absolute https URL.")


def _misused(key: str, summary: str, advice: str) -> NoReturn:
    raise ConfigurationError(f"{summary}.", advice=advice, key=key)


def introspection_request(token: str, settings: Introspection, endpoint: str, secret: Secret | None) -> Request:
    """Return the request that asks about ``token`` (RFC 7662, section 2.1; RFC 9701, section 4)."""
    headers, parameters = settings.client_auth.apply(settings.client_id, secret)
    accept = SIGNED_MEDIA_TYPE if settings.signed else "application/json"
    form = [("token", token), ("token_type_hint", "access_token"), *parameters]
    return Request(
        "POST",
        endpoint,
        (("accept", accept), ("content-type", "application/x-www-form-urlencoded"), *headers),
        urlencode(form).encode(),
        MAX_RESPONSE_BYTES,
    )


def parse_introspection(
    response: Response,
    policy: AccessTokenPolicy,
    settings: Introspection,
    *,
    keys: KeySet | None,
    endpoint: str,
    now_wall: float,
    lenient_content_type: bool = False,
) -> VerifiedToken | InvalidTokenError | AuthorizationServerError | UnknownKey:
    """Return the active token, why it is refused, or the error that the response amounts to.

    Args:
        response: the answer of the introspection endpoint.
        policy: what to demand of the token.
        settings: how it was asked.
        keys: the keys of the issuer, for a signed response.
        endpoint: the URL that was asked.
        now_wall: seconds since the epoch.
        lenient_content_type: read a JSON answer whose ``Content-Type`` is not JSON.

    """
    if response.status != 200:
        return _refusal(response, endpoint, now_wall)
    problem = ""
    claims: dict[str, object] = {}
    try:
        if settings.signed:
            claims = _signed_claims(response, policy, settings, keys, now_wall)
        else:
            claims = _plain_claims(response, lenient_content_type=lenient_content_type)
    except StrictError as error:
        problem = str(error)
    if not problem and not isinstance(claims.get("active"), bool):
        problem = "it does not say whether the token is active"
    if problem:
        malformed = MalformedResponseError(
            f"the introspection response is malformed: {problem}.",
            advice="Nothing of it was kept. Check that the URL is the introspection endpoint (RFC 7662).",
            endpoint=endpoint,
            status=response.status,
        )
        return UnknownKey(malformed) if problem == _UNKNOWN_KEY else malformed
    outcome: VerifiedToken | InvalidTokenError
    try:
        outcome = _judge(claims, policy, settings, now_wall)
    except InvalidTokenError as error:
        outcome = error.fresh()
    return outcome


def _plain_claims(response: Response, *, lenient_content_type: bool) -> dict[str, object]:
    if not lenient_content_type and not is_json_media_type(response.header("content-type")):
        raise StrictError("its Content-Type is not JSON")
    return parse_json_object(response.body, max_bytes=MAX_RESPONSE_BYTES)


def _signed_claims(
    response: Response, policy: AccessTokenPolicy, settings: Introspection, keys: KeySet | None, now_wall: float
) -> dict[str, object]:
    """Return the member ``token_introspection`` of a signed response (RFC 9701, section 5)."""
    essence = (response.header("content-type") or "").partition(";")[0].strip(" \t").lower()
    if essence != SIGNED_MEDIA_TYPE:
        raise StrictError(f"a signed response was demanded, and its Content-Type is not {SIGNED_MEDIA_TYPE}")
    payload = b""
    kind: object = None
    reason = ""
    try:
        jws = parse_jws(
            response.body.decode("ascii", "replace").strip("\r\n"),
            algorithms=policy.algorithms,
            max_bytes=MAX_RESPONSE_BYTES,
        )
        kind = jws.header.get("typ")
        candidates = () if keys is None else keys.select(algorithm=jws.algorithm, kid=jws.kid)
        payload = verify_jws(jws, candidates)
    except InvalidTokenError as error:
        reason = error.reason
    if reason == "key":
        raise StrictError(_UNKNOWN_KEY)
    if reason:
        raise StrictError(f"its signature cannot be verified ({reason})")
    # Anything else that the server signs, such as an access token, must not pass for a statement about one.
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") != _SIGNED_TYPE:
        raise StrictError(f"its typ is not {_SIGNED_TYPE}")
    claims = parse_json_object(payload, max_bytes=MAX_RESPONSE_BYTES)
    _check_statement(claims, policy, settings, now_wall)
    inner = claims.get("token_introspection")
    if not isinstance(inner, dict):
        raise StrictError("it has no object token_introspection")
    return inner


def _check_statement(
    claims: Mapping[str, object], policy: AccessTokenPolicy, settings: Introspection, now_wall: float
) -> None:
    """Check who made a signed statement, for whom, and when (RFC 9701, section 5)."""
    if claims.get("iss") != policy.issuer:
        raise StrictError("it is of another issuer")
    audience = claims.get("aud")
    ours = audience if isinstance(audience, list) else [audience]
    if settings.client_id not in ours:
        raise StrictError("it is for another resource server")
    issued_at = _moment(claims.get("iat"))
    if issued_at is None:
        raise StrictError("it does not say when it was made")
    # It is the answer to a question of a moment ago; an older one is a replay.
    if not abs(now_wall - issued_at) <= policy.leeway + MAX_KEPT_STATEMENT:
        raise StrictError("it was not made now")
    if claims.get("exp") is not None:
        expiry = _moment(claims["exp"])
        if expiry is None or not now_wall < expiry + policy.leeway:
            raise StrictError("it has expired")


def _moment(value: object) -> float | None:
    """Return a time in seconds since the epoch; None when it is no time, or none that can be reckoned with."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LAST_SECOND:
        return None
    return value


#: Seconds beyond the leeway that a signed response may have been under way.
MAX_KEPT_STATEMENT: Final = 10.0


def _judge(
    claims: Mapping[str, object], policy: AccessTokenPolicy, settings: Introspection, now_wall: float
) -> VerifiedToken:
    """Return the token of a response that is well-formed (RFC 7662, section 2.2).

    Raises:
        InvalidTokenError: it is inactive, or not for this API.

    """
    if claims.get("active") is not True:
        raise InvalidTokenError("the token is not active.", reason="inactive")
    profile = PROFILES[policy.profile]
    if claims.get("iss", policy.issuer) != policy.issuer:
        raise InvalidTokenError("the token is of another issuer.", reason="issuer")
    kind, use = claims.get("token_type"), claims.get("token_use")
    if (kind is not None and not (isinstance(kind, str) and kind.lower() in {"bearer", "access_token", "dpop"})) or (
        use is not None and use not in _ACCESS_TOKEN_USES
    ):
        # A refresh token is active too.
        raise InvalidTokenError("the token is active, but no access token.", reason="type")
    if isinstance(kind, str) and kind.lower() == "dpop" and not policy.accept_bound_tokens:
        # Bound by its type even where the response leaves out to which key (RFC 9449, section 6.2).
        raise InvalidTokenError("the token is bound to a key, and this API asks for no proof.", reason="bound")
    audience = check_audience(claims.get("aud"), policy, required=settings.require_audience)
    expires_at, issued_at = check_times(claims, policy, now=now_wall, required=False)
    check_kind(claims, policy, profile, partial=True)
    # Introspection has a name of its own for the client, whatever the tokens of the server call it.
    client_id = check_client(claims, policy, PROFILES["rfc9068"])
    return VerifiedToken(
        subject=optional_text(claims, "sub"),
        client_id=client_id,
        token_id=optional_text(claims, profile.token_id),
        scope=read_scope(claims, PROFILES["rfc9068"]) or read_scope(claims, profile),
        audience=audience,
        issued_at=issued_at,
        expires_at=expires_at,
        claims=read_only(claims),
        issuer=policy.issuer,
    )


def _refusal(response: Response, endpoint: str, now_wall: float) -> AuthorizationServerError:
    status = response.status
    code = _error_code(response)
    said = f": {code}" if code else ""
    retry_after = parse_retry_after(response.header_values("retry-after"), now_wall=now_wall, cap=THROTTLE_LAST)
    if status == 429 or (status == 503 and retry_after is not None):
        return ThrottledError(
            f"{_NAME} is throttling this API (HTTP {status}){said}.",
            advice="accredit holds back on its own; keep_active decides how often it asks.",
            endpoint=endpoint,
            status=status,
            error_code=code,
            retry_after=retry_after,
        )
    if status >= 500:
        return UnreachableError(
            f"{_NAME} failed (HTTP {status}){said}.",
            advice="This is a fault of the authorization server; accredit tries again on its own.",
            endpoint=endpoint,
            status=status,
            error_code=code,
        )
    if status in {401, 403} or code in {"invalid_client", "unauthorized_client"}:
        return CredentialRefusedError(
            f"{_NAME} refuses the credential of this API (HTTP {status}){said}.",
            advice="Check client_id and client_auth of the introspection settings, and that it may introspect.",
            endpoint=endpoint,
            status=status,
            error_code=code,
        )
    if status < 400:
        return MalformedResponseError(
            f"{_NAME} answered HTTP {status}, which is no introspection response; credentials never follow a redirect.",
            advice="Check that the URL is the introspection endpoint.",
            endpoint=endpoint,
            status=status,
        )
    return RequestRefusedError(
        f"{_NAME} refuses the request (HTTP {status}){said}.",
        advice="Check that the URL is the introspection endpoint, and that this API may use it.",
        endpoint=endpoint,
        status=status,
        error_code=code,
    )


def _error_code(response: Response) -> str | None:
    try:
        document = parse_json_object(response.body, max_bytes=MAX_RESPONSE_BYTES)
    except StrictError:
        return None
    code = safe_error_code(document.get("error"))
    # A code of the server's own making could repeat the token or the secret that it was asked with.
    return code if code is None or code in _KNOWN_CODES else "unknown_error"


_KNOWN_CODES: Final = frozenset(
    {
        "access_denied",
        "invalid_client",
        "invalid_request",
        "invalid_token",
        "insufficient_scope",
        "server_error",
        "slow_down",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_token_type",
    }
)
