"""``accredit verify``: check a token as an API would, and name every check."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from accredit.cli.arguments import Parser, add_timeout, command_parser, number, scopes
from accredit.cli.common import registrations
from accredit.cli.exits import NOT_ACCEPTED, OK, USAGE, Stop
from accredit.cli.locate import config_file
from accredit.cli.presented import add_token, presented_token
from accredit.config.environment import CONFIG
from accredit.config.files import printable
from accredit.core.jose import is_compact_jws
from accredit.core.jwks import MAX_JWKS_BYTES, KeySet
from accredit.core.profiles import PROFILES
from accredit.core.registration import ClientRegistration
from accredit.core.strict import StrictError, origin_of, parse_json_object
from accredit.core.trust import TrustedIssuer
from accredit.errors import AccreditError, ConfigurationError, InvalidTokenError
from accredit.registrations import Registrations, find

_EPILOG = f"""\
Every check is named: ok, FAIL with the reason, or - where another failure stands before it. Exit code 0: the token is
acceptable; 9: it is not; 6 or 7: the keys cannot be had, which says nothing about the token.

Issuer and audience are those of the options, or else of a registration of the configuration (--registration, or the
default one). Keys are found by the metadata of the issuer unless --jwks says where they are.

profiles: {", ".join(PROFILES)}

examples:
  accredit token | accredit verify --issuer https://idp.example.com --audience https://api.example.com
  accredit verify --issuer https://idp.example.com --audience api --scope orders:read < token.txt
  accredit verify --issuer https://idp.example.com --audience api --jwks keys.json --json < token.txt
"""
_MARKS: Final = {True: "ok  ", False: "FAIL", None: "-   "}


def parser() -> Parser:
    """Return the parser of the command."""
    made = command_parser("verify", "Check an access token as an API would.", _EPILOG, usage="[TOKEN] [options]")
    add_token(made)
    trust = made.add_argument_group("what to demand")
    trust.add_argument("--issuer", metavar="URL", help="the only issuer that is trusted, to the byte")
    trust.add_argument("--audience", action="append", metavar="TEXT", help="a name of the API; repeatable")
    trust.add_argument("--profile", choices=tuple(PROFILES), default="rfc9068", help="how the issuer's tokens look")
    trust.add_argument("--algorithm", action="append", metavar="ALG", help="signature algorithm accepted; repeatable")
    trust.add_argument("--client", action="append", metavar="ID", help="client that may call; repeatable")
    trust.add_argument("--scope", action="append", metavar="SCOPE", help="scope that is needed; repeatable")
    trust.add_argument(
        "--leeway", type=number, default=60.0, metavar="SECONDS", help="difference of clocks (%(default)g)"
    )
    trust.add_argument("--max-age", type=number, metavar="SECONDS", help="longest life of a token")
    trust.add_argument("--registration", metavar="ID", help="registration to take issuer and audience from")
    keys = made.add_argument_group("where the keys, or the answer, are")
    keys.add_argument("--jwks", metavar="FILE|URL", help="a JWKS document, instead of discovery")
    keys.add_argument("--metadata-url", metavar="URL", help="the metadata document, instead of where the issuer has it")
    keys.add_argument(
        "--introspect",
        action="store_true",
        help="ask the authorization server, with the credential of the registration; always done for opaque tokens",
    )
    keys.add_argument("--allow-insecure-http", action="store_true", help="plain http beyond loopback")
    made.add_argument("--json", action="store_true", help="print one JSON object, in one line")
    add_timeout(made, "most seconds for fetching keys or asking (default 10)")
    return made


def run(arguments: Sequence[str], config: str | None) -> int:
    """Run the command; return the exit code."""
    options = parser().parse_args(arguments)
    token = presented_token(options.token)
    opaque = options.introspect or not is_compact_jws(token)
    registration = _registration(options, config, credential=options.introspect)
    if opaque and registration is None:
        # A text that is no JWT is refused by its form, unless somebody can be asked about it.
        opaque = False
    trust = _trust(options, registration)
    checks, claims = (
        _asked(trust, registration, token, options) if opaque and registration else _checked(trust, token, options)
    )
    accepted = all(passed for _, passed, _ in checks)
    if options.json:
        members: dict[str, object] = {
            "accepted": accepted,
            "checks": [{"name": name, "passed": passed, "detail": text} for name, passed, text in checks],
        }
        if accepted:
            members["claims"] = claims
        sys.stdout.write(json.dumps(members, default=dict) + "\n")
    else:
        width = max(len(name) for name, _, _ in checks)
        for name, passed, text in checks:
            sys.stdout.write(f"{_MARKS[passed]} {name:<{width}}  {printable(text)}\n")
        sys.stdout.write(f"{'accepted' if accepted else 'NOT ACCEPTED'}\n")
    return OK if accepted else NOT_ACCEPTED


Checks = list[tuple[str, bool | None, str]]


def _registration(options: argparse.Namespace, config: str | None, *, credential: bool) -> ClientRegistration | None:
    """Return the registration that says what the options do not; None when there is none and none is needed."""
    complete = options.issuer is not None and (options.audience or options.client)
    if complete and options.registration is None and not credential and config is None:
        return None
    loaded: Registrations | None = None
    try:
        loaded = registrations(config, deadline=options.timeout)
    except ConfigurationError as error:
        # Nothing is configured, and nobody said that something is: then it is the options that are wrong.
        named = config is not None or CONFIG in os.environ or options.registration is not None or credential
        if named or error.key != "registration" or config_file(None) is not None:
            raise
    if loaded is None:
        _need_options(options.issuer, options.audience or options.client)
        return None
    return find(loaded, options.registration, loaded.default)


def _need_options(issuer: object, audience: object) -> None:
    """Refuse what would accept any token of anybody."""
    if issuer is None or not audience:
        option = "--issuer" if issuer is None else "--audience"
        raise Stop(USAGE, "usage", f"{option} is needed: without it any token of anybody would do.")


def _trust(options: argparse.Namespace, registration: ClientRegistration | None) -> TrustedIssuer:
    issuer, audience = options.issuer, tuple(options.audience or ())
    settings: dict[str, Any] = {"allow_insecure_http": options.allow_insecure_http}
    if registration is not None:
        issuer = issuer or registration.issuer
        audience = audience or tuple(filter(None, (*registration.resource, registration.audience)))
        settings["allow_insecure_http"] = options.allow_insecure_http or registration.allow_insecure_http
    _need_options(issuer, audience or options.client)
    if options.algorithm:
        settings["algorithms"] = options.algorithm
    if options.timeout is not None:
        settings["deadline"] = options.timeout
    if options.jwks is not None and "://" in options.jwks:
        settings["jwks_uri"] = options.jwks
    elif options.jwks is not None:
        settings["jwks"] = _document(options.jwks)
    return TrustedIssuer(
        issuer,
        audience,
        profile=options.profile,
        clients=options.client,
        leeway=options.leeway,
        max_token_age=options.max_age,
        metadata_url=options.metadata_url,
        **settings,
    )


def _document(name: str) -> dict[str, object]:
    problem = ""
    try:
        with Path(name).open("rb") as file:
            return parse_json_object(file.read(MAX_JWKS_BYTES + 1), max_bytes=MAX_JWKS_BYTES)
    except StrictError as error:
        problem = f"is no JWKS document: {error}"
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        problem = f"cannot be read ({reason})"
    raise Stop(USAGE, "usage", f"the file {name} {problem}.")


def _checked(trust: TrustedIssuer, token: str, options: argparse.Namespace) -> tuple[Checks, dict[str, object]]:
    """Make every check here, with the keys of the issuer."""
    from accredit.clock import SystemClock
    from accredit.core.explaining import explain_access_token

    keys = trust.pinned_keys or _fetched(trust)
    explained = explain_access_token(token, keys, trust.policy, now=SystemClock().wall(), needed=scopes(options) or ())
    claims = {} if explained.token is None else dict(explained.token.claims)
    return [(check.name, check.passed, check.detail) for check in explained.checks], claims


def _fetched(trust: TrustedIssuer) -> KeySet:
    from accredit.clock import SystemClock
    from accredit.core.verification import FetchedKeys, fetch_keys
    from accredit.runtime.driver import Driver, NoStore
    from accredit.transport import HttpTransport

    driver = Driver(
        clock=SystemClock(),
        store=NoStore(),
        transport=HttpTransport,
        chance=random.Random(),  # noqa: S311 - spreads attempts, guards no secret
        emit=lambda _: None,
    )
    try:
        outcome = driver.run(fetch_keys(trust))
    finally:
        driver.close()
    if isinstance(outcome, FetchedKeys):
        return outcome.keys
    raise outcome


def _of_one_origin(*urls: str) -> bool:
    try:
        return len({origin_of(url) for url in urls}) == 1
    except StrictError:
        return False


def _asked(
    trust: TrustedIssuer, registration: ClientRegistration, token: str, options: argparse.Namespace
) -> tuple[Checks, dict[str, object]]:
    """Ask the authorization server (RFC 7662)."""
    from accredit.verifier import Introspection, TokenVerifier

    if registration.issuer != trust.issuer and (
        registration.issuer is not None or not _of_one_origin(registration.server, trust.issuer)
    ):
        text = f"registration {registration.id} is not of that issuer, and its credential goes to its own server only."
        raise Stop(USAGE, "usage", text)
    asking = Introspection(client_id=registration.client_id, client_auth=registration.client_auth, tokens="only")
    asked = dataclasses.replace(trust, introspection=asking)
    failure: AccreditError | None = None
    verified = None
    with TokenVerifier(asked, renewal="inline") as verifier:
        try:
            verified = verifier.verify(token)
        except InvalidTokenError as error:
            failure = error.fresh()
    if verified is None:
        return [("introspection", False, failure.summary if failure else ""), ("needed_scope", None, "unknown.")], {}
    missing = [scope for scope in scopes(options) or () if scope not in verified.scope]
    found: Checks = [("introspection", True, "the authorization server says that it is active, and for this API.")]
    found.append(("needed_scope", not missing, f"it lacks {' '.join(missing)}." if missing else "granted."))
    return found, dict(verified.claims)
