"""The fuzz targets: pure functions of bytes that raise only when something is wrong with the library.

Whatever the bytes are, a parser may answer or raise the one kind of error that it documents. Anything else leaves the
target as it is, and so does a :class:`FindingError`: an error that repeats what it must not, or an answer that breaks
its own rules. Inputs are lines of text as far as possible, so that a person can read and write them.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final

from accredit.config import load
from accredit.core.access_token import AccessTokenPolicy, verify_access_token
from accredit.core.challenge import concerns_token, nonce_demanded, parse_challenges
from accredit.core.client_auth import ClientSecretPost
from accredit.core.jose import (
    ALGORITHMS,
    JwkError,
    SigningKey,
    import_private_jwk,
    import_private_pem,
    import_public_jwk,
    parse_jws,
    verify_jws,
)
from accredit.core.jwks import parse_jwks
from accredit.core.metadata import metadata_urls, parse_metadata
from accredit.core.registration import ClientRegistration, token_request_for
from accredit.core.secret import Secret
from accredit.core.strict import (
    StrictError,
    is_link_local,
    origin_of,
    parse_header_date,
    parse_json_object,
    parse_rate_limit_reset,
    parse_retry_after,
    parse_url,
)
from accredit.core.token import IssuedToken, parse_token_response
from accredit.errors import (
    AuthorizationServerError,
    ConfigurationError,
    DiscoveryError,
    InvalidTokenError,
    MalformedResponseError,
)
from accredit.registrations import Registrations
from tests.fuzz import verification
from tests.fuzz.checks import (
    CLIENT_ID,
    MAX_INPUT,
    SECRET,
    TOKEN,
    check,
    check_printable,
    check_silent,
    check_text,
    filled,
    text_of,
)
from tests.fuzz.guards import guard, resource_metadata
from tests.fuzz.inputs import WALL, key_set, response_of, signed

ENDPOINT: Final = "https://idp.example.com/oauth2/token"


# -- answers of an authorization server ----------------------------------------------------------------------------


@cache
def registration_of(options: frozenset[str]) -> ClientRegistration:
    """Return the registration that the first line of an input asks for."""
    return ClientRegistration(
        id="orders",
        client_id=CLIENT_ID,
        client_auth=ClientSecretPost(Secret(SECRET)),
        token_endpoint=ENDPOINT,
        scope="orders:read",
        require_scope="scope" in options,
        assume_bearer="assume" in options,
        lenient_content_type="lenient" in options,
        keep_members=("instance_url", "access_token") if "keep" in options else (),
    )


KNOWN_OPTIONS: Final = frozenset({"scope", "assume", "lenient", "keep"})


def token_response(data: bytes) -> None:
    """A token response is a token that obeys every bound, or an error as a value; nothing is raised."""
    response, options = response_of(data)
    registration = registration_of(options & KNOWN_OPTIONS)
    request = token_request_for(registration)
    outcome = parse_token_response(response, request, ENDPOINT, Secret(SECRET), now_wall=WALL)
    if isinstance(outcome, IssuedToken):
        check(response.status == 200, "a token from an answer that is no success")
        check(0 < outcome.lifetime <= registration.max_lifetime, "a lifetime out of bounds")
        check(outcome.value.isascii() and outcome.value.isprintable(), "a token that is no header value")
        check(not set(outcome.value) & set(' ",\\'), "a token that is no header value")
        check(outcome.refresh_in is None or 0 < outcome.refresh_in < outcome.lifetime, "refresh_in out of bounds")
        check("access_token" not in dict(outcome.members), "a token among the members")
        check(TOKEN not in repr(outcome) or TOKEN in str(outcome.granted_scope), "a token in a repr")
        return
    check(isinstance(outcome, AuthorizationServerError), "an outcome of an unknown kind")
    check(outcome.status == response.status and outcome.endpoint == ENDPOINT, "an error that says not what happened")
    check(outcome.retry_after is None or 0 <= outcome.retry_after <= 300, "retry_after out of bounds")
    check_printable(str(outcome))
    check(len(str(outcome)) < 1000, "a message without end")
    # A description is the server's to choose; of a success nothing is repeated.
    check_silent(outcome, *([TOKEN] if response.status == 200 else []))


def discovery(data: bytes) -> None:
    """A metadata document is read, or refused with a DiscoveryError; what is read can be contacted."""
    response, options = response_of(data)
    issuer = None if "any" in options else "https://idp.example.com/t"
    hosts = frozenset({"idp.example.com"}) if "hosts" in options else None
    url = "https://idp.example.com/t/.well-known/openid-configuration"
    try:
        found = parse_metadata(
            response,
            url=url,
            issuer=issuer,
            allow_insecure_http="http" in options,
            allowed_endpoint_hosts=hosts,
            lenient_content_type="lenient" in options,
        )
    except DiscoveryError as error:
        # It may name what the document has for an issuer: nothing secret was ever sent there.
        check_printable(str(error))
        check(len(str(error)) < 4096, "a message without end")
        check(error.status == response.status, "an error that says not what happened")
        return
    check(response.status == 200, "metadata from an answer that is no success")
    check(issuer is None or found.issuer == issuer, "the metadata of another issuer")
    for endpoint in filter(None, (found.token_endpoint, found.jwks_uri)):
        parsed = parse_url(endpoint, allow_insecure_http="http" in options)
        check(endpoint.isascii() and parsed.wire == endpoint, "an endpoint that has two readings")
        check(not is_link_local(parsed.host), "a link-local endpoint")
        check(hosts is None or parsed.host in hosts, "an endpoint on another host")
        check("http" in options or parsed.scheme == "https", "an endpoint without TLS")
    with suppress(StrictError):
        metadata_urls(found.issuer)


# -- header fields -------------------------------------------------------------------------------------------------


def challenge(data: bytes) -> None:
    """Challenges are read or passed over; nothing is ever raised."""
    values = filled(data).decode("latin-1").split("\n")
    found = parse_challenges(values)
    check(len(found) <= 64, "more challenges than are read")
    for each in found:
        check(each.scheme == each.scheme.lower() and each.scheme, "a scheme that is not in lower case")
        check(all(name == name.lower() for name in each.params), "a parameter that is not in lower case")
    concerned = concerns_token(found)
    if any(each.params.get("error", "").lower() == "invalid_token" for each in found):
        check(concerned, "invalid_token is always about the token")
    check(isinstance(nonce_demanded(found), bool), "neither true nor false")


def retry_after(data: bytes) -> None:
    """The first line is the time now, the others are fields; each is from 0 to the cap, or nothing."""
    first, *values = filled(data).decode("latin-1").split("\n")
    wall = float(first) if first.isascii() and first.isdigit() and len(first) <= 11 else WALL
    for cap in (0.0, 1.5, 300.0):
        seconds = parse_retry_after(values, now_wall=wall, cap=cap)
        check(seconds is None or 0 <= seconds <= cap, "a time to wait out of bounds")
        reset = parse_rate_limit_reset(values[0] if values else None, now_wall=wall, cap=cap)
        check(reset is None or 0 <= reset <= cap, "a time to wait out of bounds")
    for value in values:
        date = parse_header_date(value, now_wall=wall)
        check(date is None or math.isfinite(date), "a date that is no time")


# -- URLs ----------------------------------------------------------------------------------------------------------


def url(data: bytes) -> None:
    """A URL has one reading, which survives being written and read again, or is refused."""
    text = text_of(filled(data))
    for insecure in (False, True):
        try:
            found = parse_url(text, allow_insecure_http=insecure, purpose="issuer")
        except StrictError as error:
            check_silent(error, TOKEN)
            continue
        check(found.text == text and 1 <= found.port <= 65535, "parts that are not those of the text")
        check(found.wire.isascii() and found.wire.isprintable() and " " not in found.wire, "a URL that is not ASCII")
        again = parse_url(found.wire, allow_insecure_http=insecure)
        check(again[1:] == found[1:] and again.wire == found.wire, "a URL that has two readings")
        check(not is_link_local(found.host), "a link-local URL")
        check(found.scheme == "https" or insecure or found.is_loopback, "plain http beyond loopback")
        check(origin_of(text) == found.origin, "an origin that is another's")
    with suppress(StrictError):
        origin = origin_of(text)
        check(origin_of(origin) == origin, "an origin that changes")
    with suppress(StrictError):
        check({origin_of(each) for each in metadata_urls(text)} == {origin_of(text)}, "metadata from elsewhere")
    is_link_local(text)


# -- keys and signatures -------------------------------------------------------------------------------------------


POLICY: Final = AccessTokenPolicy(issuer="https://idp.example.com", audience=("https://api.example.com",))


def jws(data: bytes) -> None:
    """A signed token is accepted only if we signed it: two lines are header and claims to sign, one is a token."""
    head, newline, claims = filled(data).partition(b"\n")
    token = signed(head, claims) if newline else text_of(head)
    try:
        read = parse_jws(token, algorithms=ALGORITHMS)
        payload = verify_jws(read, key_set().keys)
    except InvalidTokenError as error:
        check_silent(error, TOKEN)
        payload = None
    if payload is not None:
        check(bool(newline) and payload == claims, "a token that we did not sign")
    try:
        verified = verify_access_token(token, key_set(), POLICY, now=WALL)
    except InvalidTokenError as error:
        check_silent(error, TOKEN)
        return
    check(payload is not None, "a token that we did not sign")
    check(verified.expires_at is not None and verified.expires_at > WALL - POLICY.leeway, "a token that has expired")
    check(set(verified.audience) & set(POLICY.audience), "a token for another API")


def jwk(data: bytes) -> None:
    """A key, public or private, as JWK, in a set or as PEM: it is imported or refused, and its parts stay unseen."""
    body = filled(data)
    try:
        members = parse_json_object(body, max_bytes=MAX_INPUT)
    except StrictError as error:
        check_silent(error, TOKEN)
        members = {}
    if members:
        try:
            public = import_public_jwk(members)
        except JwkError as error:
            check_silent(error, TOKEN)
        else:
            check(public.algorithm in ALGORITHMS, "a key of an algorithm that is not known")
            check(not public.verifies(b"data", b"signature"), "a signature that is none")
        check_private(lambda: import_private_jwk(members), members)
    for document in (body, b'{"keys":[' + body + b"]}"):
        try:
            keys = parse_jwks(document, endpoint=ENDPOINT)
        except MalformedResponseError as error:
            check_silent(error, TOKEN)
        else:
            check(0 < len(keys.keys) <= 100, "a number of keys out of bounds")
    if body.startswith(b"-----BEGIN"):
        check_private(lambda: import_private_pem(body), {})


def check_private(read: Callable[[], SigningKey], members: Mapping[str, object]) -> None:
    """Import a private key; what is private about it is in no error and no repr."""
    hidden = [str(members[name]) for name in ("d", "p", "q") if len(str(members.get(name, ""))) > 12]
    try:
        key = read()
    except ConfigurationError as error:
        check_silent(error, TOKEN, *hidden)
        return
    check_text(repr(key), *hidden)
    check(not {"d", "p", "q", "dp", "dq", "qi"} & key.public_jwk.keys(), "private members among the public ones")
    check(import_public_jwk(dict(key.public_jwk)).verifies(b"x", key.sign(b"x")), "a key that does not fit itself")


# -- configuration -------------------------------------------------------------------------------------------------


class _Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def log_of(name: str) -> Iterator[list[str]]:
    """Keep what is logged under a name, and send it nowhere else."""
    logger, handler = logging.getLogger(name), _Kept()
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def configuration(data: bytes) -> None:
    """A TOML file and, after a line ``%%``, variables: registrations, or an error that repeats no value."""
    toml, mark, lines = filled(data).partition(b"\n%%\n")
    environ = {}
    for line in text_of(lines).split("\n") if mark else ():
        name, equals, value = line.partition("=")
        # No system lets a null byte into its environment, nor a name be empty.
        if equals and name and "\x00" not in line:
            environ[name] = value.replace("\\n", "\n")
    with tempfile.TemporaryDirectory() as folder, log_of("accredit.config") as logged:
        path = Path(folder, "pyproject.toml" if toml.startswith(b"# pyproject\n") else "accredit.toml")
        path.write_bytes(toml)
        path.chmod(0o600)
        if environ.get("ACCREDIT_CONFIG"):
            environ["ACCREDIT_CONFIG"] = str(path)
        try:
            registrations = load(None if "ACCREDIT_CONFIG" in environ else path, environ=environ)
        except ConfigurationError as error:
            check_silent(error, plain=True)
            return
        finally:
            check_text("\n".join(logged), plain=True)
    check(isinstance(registrations, Registrations), "what is loaded is not registrations")
    check_text(repr(list(registrations)), plain=True)


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    "token_response": token_response,
    "discovery": discovery,
    "challenge": challenge,
    "guard": guard,
    "resource_metadata": resource_metadata,
    "retry_after": retry_after,
    "url": url,
    "jws": jws,
    "jwk": jwk,
    "token": verification.token,
    "jwks": verification.jwks,
    "introspection": verification.introspection,
    "configuration": configuration,
}
