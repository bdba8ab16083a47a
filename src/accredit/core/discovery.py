"""Discovery: where the endpoints of an authorization server are (RFC 8414, OpenID Connect Discovery 1.0)."""

from __future__ import annotations

from accredit.core.effects import (
    Flow,
    ServerTrouble,
    keep_metadata,
    load_metadata,
    now,
    pause,
    random,
    send,
    share_discovery,
)
from accredit.core.identity import encode
from accredit.core.messages import Failure, Request, Response
from accredit.core.metadata import MetadataSource, ServerMetadata, metadata_urls, parse_metadata
from accredit.core.registration import optional
from accredit.core.renewal import attempt_pause
from accredit.core.strict import parse_url
from accredit.errors import (
    AuthorizationServerError,
    ConfigurationError,
    DiscoveryError,
    MalformedResponseError,
    UnreachableError,
)

ATTEMPTS = 3
METADATA_LIFETIME = 3600.0
_FATAL_FAILURES = frozenset({"tls", "blocked", "too_large"})


def metadata_of(registration: MetadataSource, deadline: float) -> Flow[ServerMetadata | ServerTrouble]:
    """Return the metadata of the server: kept in this process for an hour, else discovered once for all that ask."""
    key = metadata_key(registration)
    kept = yield from load_metadata(key)
    if kept is not None and kept[1] < METADATA_LIFETIME:
        return kept[0]
    instant = yield from now()
    rest = deadline - instant.local
    if kept is not None:
        # There is a document to fall back on, and with it the token request still has to be made in time.
        rest /= 2.0
    until = instant.local + rest
    found = yield from share_discovery(registration, key, lambda: discover(registration, until), timeout=rest)
    if isinstance(found, ServerMetadata):
        return found
    if kept is not None:
        # The document was good an hour ago: a server that cannot show it again now is no reason to stop.
        return kept[0]
    return found or UnreachableError(
        "discovery did not end in time.",
        advice="Check that the authorization server is up and reachable from here.",
        endpoint=registration.server,
    )


def metadata_key(registration: MetadataSource) -> str:
    """Return what a metadata document is kept under: all that decides whether it is accepted."""
    hosts = registration.endpoint_hosts
    fields = [
        ("issuer", optional(registration.issuer)),
        (
            "url",
            optional(registration.metadata_url),
        ),
        ("http", (str(registration.allow_insecure_http),)),
        ("lenient", (str(registration.lenient_content_type),)),
        ("token", (str(registration.needs_token_endpoint),)),
        ("hosts", ("any",) if hosts is None else ("only", *sorted(hosts))),
    ]
    return encode(fields).hex()


def discover(registration: MetadataSource, deadline: float) -> Flow[ServerMetadata | ServerTrouble]:
    """Read the metadata: RFC 8414, then the OpenID Connect document when the first gives no valid one."""
    if registration.metadata_url is not None:
        urls: tuple[str, ...] = (wire_url(registration.metadata_url, registration),)
    else:
        urls = metadata_urls(registration.issuer or "")
    errors: list[AuthorizationServerError] = []
    for url in urls:
        outcome = yield from _fetch_metadata(registration, url, deadline)
        if isinstance(outcome, ServerMetadata):
            yield from keep_metadata(metadata_key(registration), outcome)
            return outcome
        if isinstance(outcome, ConfigurationError):
            return outcome
        errors.append(outcome)
        if isinstance(outcome, UnreachableError) and outcome.status is None:
            break  # No answer at all: the other document of the same host would only cost the same time again.
    return _most_telling(errors)


def _most_telling(errors: list[AuthorizationServerError]) -> AuthorizationServerError:
    """Return the error that helps most: a document that was there and wrong, before one that was not there."""

    def weight(error: AuthorizationServerError) -> int:
        if isinstance(error, DiscoveryError):
            return 2 if error.status == 200 else 0
        return 1

    return max(errors, key=weight)


def _fetch_metadata(registration: MetadataSource, url: str, deadline: float) -> Flow[ServerMetadata | ServerTrouble]:
    request = Request("GET", url, (("accept", "application/json"),))
    outcome: ServerMetadata | AuthorizationServerError | None = None
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
        outcome = _judge_metadata(response, registration, url)
        if not isinstance(outcome, UnreachableError) or is_fatal(response):
            return outcome
    return outcome or UnreachableError(
        "there was no time left for discovery.",
        advice="Check that the authorization server is up, or give the registration a longer deadline.",
        endpoint=url,
    )


def _judge_metadata(
    response: Response | Failure, registration: MetadataSource, url: str
) -> ServerMetadata | AuthorizationServerError:
    if isinstance(response, Failure):
        error = failure_error(response, url, "the metadata document")
        return (
            DiscoveryError(error.summary, advice=error.advice, endpoint=url) if response.kind == "too_large" else error
        )
    if response.status >= 500:
        return UnreachableError(
            f"the metadata document could not be read (HTTP {response.status}).",
            advice="This is a fault of the authorization server; accredit tries again on its own.",
            endpoint=url,
            status=response.status,
        )
    outcome: ServerMetadata | DiscoveryError
    try:
        outcome = parse_metadata(
            response,
            url=url,
            issuer=registration.issuer,
            allow_insecure_http=registration.allow_insecure_http,
            allowed_endpoint_hosts=registration.endpoint_hosts,
            lenient_content_type=registration.lenient_content_type,
            needs_token_endpoint=registration.needs_token_endpoint,
        )
    except DiscoveryError as error:
        outcome = error.fresh()
    return outcome


def failure_error(failure: Failure, endpoint: str, what: str) -> UnreachableError | MalformedResponseError:
    """Return the error that a transport failure amounts to."""
    if failure.kind == "too_large":
        return MalformedResponseError(
            f"{what} gave an answer that cannot be accepted: {failure.detail}.",
            advice="Nothing of it was kept. Check that the URL is right.",
            endpoint=endpoint,
        )
    advice = {
        "deadline": "Check the network path, or give the registration a longer deadline.",
        "resolve": "Check the host name and the resolver.",
        "tls": "Check the certificate of the server and the trusted CA (SSL_CERT_FILE); verification stays on.",
        "proxy": "Check the proxy settings of the environment.",
        "blocked": "Link-local addresses are never contacted; check the host name.",
    }.get(failure.kind, "Check that the server is up and reachable from here.")
    return UnreachableError(
        f"{what} could not be reached: {failure.detail}.",
        advice=advice,
        endpoint=endpoint,
    )


def is_fatal(response: Response | Failure) -> bool:
    """Tell whether a failure is one that another attempt would only repeat."""
    return isinstance(response, Failure) and response.kind in _FATAL_FAILURES


def wire_url(url: str, registration: MetadataSource) -> str:
    """Return a configured URL as it is contacted, its host in ASCII: what was checked is what is asked."""
    return parse_url(url, allow_insecure_http=registration.allow_insecure_http).wire
