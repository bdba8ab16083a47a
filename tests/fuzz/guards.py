"""Fuzz targets of what a guard reads of a request, and of what a client reads of an API."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from accredit.core.challenge import parse_challenges
from accredit.core.guard_rules import PUBLIC, Rules, public, rule
from accredit.core.guarding import GuardPolicy, Refusal, carries_token, is_form, required_scope
from accredit.core.messages import Response
from accredit.core.protected_resource import parse_resource_metadata
from accredit.core.strict import StrictError, parse_access_token
from accredit.errors import DiscoveryError
from tests.fuzz.checks import check, check_silent, filled

_POLICY: Final = GuardPolicy()
_NEEDED: Final = required_scope("orders:read")
_RULES: Final = Rules(
    [public("/health"), public("/static/*"), rule("/orders/*", "orders:read", methods="GET"), rule("/orders/*", "w")],
    required_scope("other"),
)
_OPEN: Final = ("/health", "/static")
_RESOURCE: Final = "https://api.example/orders"
_URL: Final = "https://api.example/.well-known/oauth-protected-resource/orders"


def guard(data: bytes) -> None:
    """Three lines are path, query and media type, the others Authorization fields: a token to look at, or an answer."""
    path, query, media_type, *fields = [*filled(data).split(b"\n"), b"", b"", b""]
    found = _POLICY.read(fields[: fields.index(b"")], _NEEDED)
    if isinstance(found, Refusal):
        check(found.status in {400, 401}, "a request without a token is let in")
        check(found.challenge is not None and len(parse_challenges([found.challenge])) == 1, "not one challenge")
        for name, value in found.all_headers:
            check(name.isascii() and value.isascii() and value.isprintable(), "a field that breaks the answer")
    else:
        check(len(found) <= _POLICY.max_token, "a token that is too long")
        check(parse_access_token(found) == found, "a token that no client may send")
    check(isinstance(carries_token(query), bool), "neither true nor false")
    check(isinstance(is_form([media_type]), bool), "neither true nor false")
    text = path.decode("utf-8", "replace")
    if _RULES.find(text, "GET") is PUBLIC:
        check(text == _OPEN[0] or text == _OPEN[1] or text.startswith(f"{_OPEN[1]}/"), "a path that nobody opened")
        check(not {"", ".", ".."} & set(text.split("/")[1:]), "a path with two readings is open")


def resource_metadata(data: bytes) -> None:
    """A document is read, or refused with a DiscoveryError that repeats nothing of it; never that of another API."""
    body = filled(data)
    response = Response(200, (("content-type", "application/json"),), body)
    found = None
    try:
        found = parse_resource_metadata(response, url=_URL, resource=_RESOURCE)
    except DiscoveryError as error:
        check_silent(error)
    if found is not None:
        check(found.resource == _RESOURCE, "the metadata of another resource")
        with suppress(DiscoveryError):
            check(found.issuer_among({"https://idp.example"}) == "https://idp.example", "a server nobody trusts")
    with suppress(StrictError):
        check(isinstance(carries_token(body), bool), "neither true nor false")
