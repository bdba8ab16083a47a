"""What verifying tokens needs of the authorization server, as flows: its keys, and its word on a token.

As in :mod:`accredit.core.flows`, errors are results: they are raised only where a caller waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from accredit.core.access_token import VerifiedToken
from accredit.core.discovery import ATTEMPTS, failure_error, is_fatal, metadata_of
from accredit.core.effects import Credential, Flow, ServerTrouble, now, pause, random, read_secret, send
from accredit.core.introspection import Introspection, UnknownKey, introspection_request, parse_introspection
from accredit.core.jwks import MAX_JWKS_BYTES, KeySet, freshness, parse_jwks
from accredit.core.messages import Failure, Request, Response
from accredit.core.metadata import ServerMetadata
from accredit.core.renewal import THROTTLE_LAST, attempt_pause
from accredit.core.strict import is_json_media_type, parse_retry_after, parse_url
from accredit.core.trust import TrustedIssuer
from accredit.errors import (
    AuthorizationServerError,
    ConfigurationError,
    CredentialRefusedError,
    DiscoveryError,
    InvalidTokenError,
    MalformedResponseError,
    ThrottledError,
    UnreachableError,
)

T = TypeVar("T")
_KEYS = "the JWKS document"
_INTROSPECTION = "the introspection endpoint"


class FetchedKeys(NamedTuple):
    """A key set that was fetched.

    Attributes:
        keys: the keys.
        max_age: seconds for which the server wants them kept; None when it does not say.
        since: local time at which the request was sent, from which they age.

    """

    keys: KeySet
    max_age: float | None
    since: float


class Answer(NamedTuple):
    """What came of a question about a token.

    Attributes:
        outcome: the token, why it is refused, or why nothing is known.
        fetched: keys that had to be fetched to verify the answer, or why they could not be; None if there was no need.

    """

    outcome: VerifiedToken | InvalidTokenError | Refused
    fetched: FetchedKeys | ServerTrouble | None = None


class Refused(NamedTuple):
    """Introspection that could not be had.

    Attributes:
        error: why.
        credential: tag of the credential that was refused; ``""`` when it does not matter whose it was.

    """

    error: AuthorizationServerError | ConfigurationError
    credential: str = ""


def fetch_keys(trust: TrustedIssuer) -> Flow[FetchedKeys | ServerTrouble]:
    """Fetch the keys of an issuer: from where it is configured, or from where its metadata says (RFC 8414)."""
    start = yield from now()
    deadline = start.local + trust.deadline
    url = yield from _place(trust, deadline, trust.jwks_uri, "jwks_uri")
    if not isinstance(url, str):
        return url
    accept = "application/jwk-set+json, application/json"
    request = Request("GET", url, (("accept", accept),), max_bytes=MAX_JWKS_BYTES)

    def judge(response: Response, wall: float, sent: float) -> FetchedKeys | AuthorizationServerError:
        return _judge_keys(response, trust, url, wall, sent)

    return (yield from _ask(request, _KEYS, deadline, judge))


def introspect(
    trust: TrustedIssuer,
    settings: Introspection,
    token: str,
    *,
    keys: KeySet | None,
    may_fetch: Callable[[], bool],
    refused: Refused | None,
) -> Flow[Answer]:
    """Ask the authorization server about a token (RFC 7662).

    Args:
        trust: the issuer.
        settings: how to ask.
        token: the token.
        keys: the keys of the issuer, for a signed response (RFC 9701).
        may_fetch: asked, at the moment of need, whether keys may be fetched anew for a response by a key that is not
            known; of many questions under way only one may.
        refused: the refusal of a credential that still holds; nothing is sent while the credential is the same.

    """
    start = yield from now()
    deadline = start.local + trust.deadline
    credential = yield from read_secret(settings.client_auth.source)
    if isinstance(credential, ConfigurationError):
        return Answer(Refused(credential))
    if refused is not None and refused.credential == credential.tag:
        return Answer(refused)
    url = yield from _place(trust, deadline, settings.endpoint, "introspection_endpoint")
    if not isinstance(url, str):
        return Answer(Refused(url))
    asking = _Asking(trust, settings, token, url, deadline)
    outcome, fetched = yield from _introspect_once(asking, keys, credential, may_fetch=may_fetch)
    if isinstance(outcome, CredentialRefusedError):
        # The source may have been rotated while this process held the old secret: one immediate try, only if so.
        again = yield from read_secret(settings.client_auth.source)
        if isinstance(again, Credential) and again.tag != credential.tag:
            credential = again
            outcome, fetched = yield from _introspect_once(asking, keys, credential, may_fetch=may_fetch)
    if isinstance(outcome, VerifiedToken | InvalidTokenError):
        return Answer(outcome, fetched)
    tag = credential.tag if isinstance(outcome, CredentialRefusedError) else ""
    return Answer(Refused(outcome, tag), fetched)


class _Asking(NamedTuple):
    trust: TrustedIssuer
    settings: Introspection
    token: str
    url: str
    deadline: float


def _introspect_once(
    asking: _Asking, keys: KeySet | None, credential: Credential, *, may_fetch: Callable[[], bool]
) -> Flow[tuple[VerifiedToken | InvalidTokenError | ServerTrouble, FetchedKeys | ServerTrouble | None]]:
    trust, settings, token, url, deadline = asking
    request = introspection_request(token, settings, url, credential.secret)
    answered: list[tuple[Response, float]] = []

    def parse(
        response: Response, wall: float, known: KeySet | None
    ) -> VerifiedToken | InvalidTokenError | AuthorizationServerError | UnknownKey:
        return parse_introspection(
            response,
            trust.policy,
            settings,
            keys=known,
            endpoint=url,
            now_wall=wall,
            lenient_content_type=trust.lenient_content_type,
        )

    def judge(
        response: Response, wall: float, _: float
    ) -> VerifiedToken | InvalidTokenError | AuthorizationServerError | UnknownKey:
        answered.append((response, wall))
        return parse(response, wall, keys)

    outcome = yield from _ask(request, _INTROSPECTION, deadline, judge)
    fetched: FetchedKeys | ServerTrouble | None = None
    if isinstance(outcome, UnknownKey) and may_fetch():
        # The server signs with a new key: the answer that is there already is read again with newer ones.
        fetched = yield from fetch_keys(trust)
        if isinstance(fetched, FetchedKeys):
            outcome = parse(*answered[-1], fetched.keys)
    return (outcome.error if isinstance(outcome, UnknownKey) else outcome), fetched


def _place(trust: TrustedIssuer, deadline: float, configured: str | None, member: str) -> Flow[str | ServerTrouble]:
    """Return the URL of an endpoint, as it is contacted."""
    if configured is not None:
        return parse_url(configured, allow_insecure_http=trust.allow_insecure_http).wire
    metadata = yield from metadata_of(trust, deadline)
    if not isinstance(metadata, ServerMetadata):
        return metadata
    found: str | None = getattr(metadata, member)
    return found or DiscoveryError(
        f"the metadata of the issuer names no {member}.",
        advice="Configure it, if the server has one.",
        endpoint=trust.server,
        status=200,
    )


def _ask(
    request: Request,
    what: str,
    deadline: float,
    judge: Callable[[Response, float, float], T],
) -> Flow[T | ServerTrouble]:
    """Send a request, with further attempts after faults that may pass; ``judge`` gets the answer and both times."""
    last: AuthorizationServerError | None = None
    for attempt in range(ATTEMPTS):
        instant = yield from now()
        if attempt:
            draw = yield from random()
            seconds = attempt_pause(attempt - 1, draw)
            if instant.local + seconds >= deadline:
                break
            yield from pause(seconds)
            instant = yield from now()
        remaining = deadline - instant.local
        if remaining <= 0:
            break
        response = yield from send(request, timeout=remaining)
        if isinstance(response, ConfigurationError):
            return response
        if isinstance(response, Failure):
            last = failure_error(response, request.url, what)
            if is_fatal(response):
                return last
            continue
        received = yield from now()
        outcome = judge(response, received.wall, instant.local)
        if not isinstance(outcome, UnreachableError):
            return outcome
        last = outcome
    return last or UnreachableError(
        f"there was no time left to ask {what}.",
        advice="Check that the authorization server is up and reachable, or allow a longer deadline.",
        endpoint=request.url,
    )


def _judge_keys(
    response: Response, trust: TrustedIssuer, url: str, wall: float, sent: float
) -> FetchedKeys | AuthorizationServerError:
    status = response.status
    retry_after = parse_retry_after(response.header_values("retry-after"), now_wall=wall, cap=THROTTLE_LAST)
    if status == 429 or (status == 503 and retry_after is not None):
        return ThrottledError(
            f"{_KEYS} is throttled (HTTP {status}).",
            advice="accredit holds back on its own; the last good keys serve meanwhile.",
            endpoint=url,
            status=status,
            retry_after=retry_after,
        )
    if status >= 500:
        return UnreachableError(
            f"{_KEYS} could not be read (HTTP {status}).",
            advice="This is a fault of the authorization server; accredit tries again on its own.",
            endpoint=url,
            status=status,
        )
    if status != 200:
        redirect = ", a redirect, which is never followed" if 300 <= status < 400 else ""
        return MalformedResponseError(
            f"{_KEYS} could not be had (HTTP {status}{redirect}).",
            advice="Check jwks_uri, or the jwks_uri that the metadata of the issuer names.",
            endpoint=url,
            status=status,
        )
    if not trust.lenient_content_type and not is_json_media_type(response.header("content-type")):
        return MalformedResponseError(
            f"{_KEYS} is not said to be JSON by its Content-Type.",
            advice="If it is the right document, set lenient_content_type for this issuer.",
            endpoint=url,
            status=status,
        )
    outcome: FetchedKeys | MalformedResponseError
    try:
        outcome = FetchedKeys(parse_jwks(response.body, endpoint=url), freshness(response), sent)
    except MalformedResponseError as error:
        outcome = error.fresh()
    return outcome
