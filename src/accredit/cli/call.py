"""``accredit call``: call an API with a token."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from accredit import __version__
from accredit.cli.arguments import Parser, add_no_store, add_request_options, add_timeout, command_parser, scopes
from accredit.cli.common import configuration, manager, open_store
from accredit.cli.exits import API_ERROR, FAILED, MALFORMED, OK, UNREACHABLE, USAGE, Stop
from accredit.core.registration import ClientRegistration
from accredit.core.strict import StrictError, origin_of
from accredit.errors import ConfigurationError
from accredit.manager import TokenManager, is_loopback_origin
from accredit.registrations import find

if TYPE_CHECKING:
    import httpx2

_TIMEOUT: Final = 30.0
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_EPILOG: Final = """\
The body of the answer goes to standard output as it comes. Where the registration has api_origins, the token goes there
and nowhere else: a call to another origin is refused, and with -L a redirect to another origin is followed without the
token (but with the headers of -H). When the API answers 401 to the token, the token is renewed and the call is made
once more.

examples:
  accredit call https://api.example.com/orders
  accredit call orders https://api.example.com/orders --json '{"item": 7}'
  accredit call -X DELETE --fail https://api.example.com/orders/7
  accredit call -d @order.json -H 'Content-Type: application/json' https://api.example.com/orders
"""


def parser() -> Parser:
    """Return the parser of the command."""
    made = command_parser("call", "Call an API with a token.", _EPILOG, usage="[ID] URL [options]")
    made.add_argument(
        "words", nargs="*", metavar="[ID] URL", help="registration (the default one when left out), and URL"
    )
    made.add_argument("-X", "--request", "--method", dest="method", metavar="METHOD", help="GET, or POST with data")
    made.add_argument("-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", help="repeatable")
    body = made.add_mutually_exclusive_group()
    body.add_argument(
        "-d",
        "--data",
        action="append",
        metavar="DATA",
        help="body, a form unless -H says otherwise; @FILE reads a file, '-' standard input; '&' joins several",
    )
    body.add_argument("--json", metavar="DATA", help="JSON body; @FILE and '-' as with --data")
    made.add_argument("-i", "--include", action="store_true", help="print status and headers of the answer first")
    made.add_argument("-o", "--output", metavar="FILE", help="write the answer to a file")
    made.add_argument("-L", "--location", action="store_true", help="follow redirects")
    made.add_argument(
        "--fail", action="store_true", help="print no body and exit with 8 when the status is 400 or above"
    )
    add_request_options(made)
    add_no_store(made)
    add_timeout(made, f"most seconds to wait for the token, and for each step of the call (default {_TIMEOUT:g})")
    return made


def run(arguments: Sequence[str], config: str | None) -> int:
    """Run the command; return the exit code."""
    made = parser()
    options = made.parse_intermixed_args(arguments)
    if not 1 <= len(options.words) <= 2:
        made.error("give a URL, or a registration and a URL")
    name, url = options.words if len(options.words) > 1 else (None, options.words[0])
    origin = _origin(url)
    headers = _headers(options.header)
    loaded, settings = configuration(config, deadline=options.timeout)
    registration = find(loaded, name, loaded.default)
    check_origin(registration, origin)
    content = _body(options, headers)
    with manager(loaded, store=open_store(settings, without=options.no_store)) as tokens:
        return _call(tokens, registration, options, url=url, origin=origin, headers=headers, content=content)


def check_origin(registration: ClientRegistration, origin: str) -> None:
    """Refuse a call that would have to go without the token.

    Raises:
        ConfigurationError: the registration does not let its token go to that origin.

    """
    origins = registration.origins
    if origins is not None and origin not in origins:
        raise ConfigurationError(
            f"the token of {registration.id!r} may not be sent to {origin}.",
            advice="Call one of its api_origins, or add this one.",
            key=f"registration.{registration.id}.api_origins",
        )
    if origin.startswith("http:") and not registration.allow_insecure_http and not is_loopback_origin(origin):
        raise ConfigurationError(
            f"a token is not sent over plain http to {origin}.",
            advice="Call it by https (allow_insecure_http is for networks that encrypt by themselves).",
            key=f"registration.{registration.id}.allow_insecure_http",
        )


def _origin(url: str) -> str:
    problem = None
    try:
        return origin_of(url)
    except StrictError as error:
        problem = str(error)
    raise Stop(USAGE, "usage", f"{problem}. Give an absolute URL, such as https://api.example.com/orders.")


def _headers(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Read ``Name: value``; what is wrong is not repeated, as it may be a secret."""
    headers = []
    for text in texts:
        name, colon, value = text.partition(":")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value.strip()):
            raise Stop(USAGE, "usage", "a header is not of the form 'Name: value' in plain ASCII.")
        headers.append((name, value.strip()))
    return headers


def _body(options: argparse.Namespace, headers: list[tuple[str, str]]) -> bytes | None:
    """Return the body, and put what goes with it into ``headers``. It is read whole, so that it can be sent twice."""
    given = {name.lower() for name, _ in headers}
    defaults = {"accept": "*/*", "accept-encoding": "identity", "user-agent": f"accredit/{__version__}"}
    content = None
    if options.json is not None:
        content = _data(options.json)
        defaults |= {"content-type": "application/json", "accept": "application/json"}
    elif options.data is not None:
        content = b"&".join(map(_data, options.data))
        defaults["content-type"] = "application/x-www-form-urlencoded"
    headers += [(name, value) for name, value in defaults.items() if name not in given]
    return content


def _data(text: str) -> bytes:
    if text in {"-", "@-"}:
        return sys.stdin.buffer.read()
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    problem = None
    try:
        return Path(text[1:]).read_bytes()
    except (OSError, ValueError) as error:
        problem = _reason(error)
    raise Stop(USAGE, "usage", f"the data file {text[1:]} cannot be read ({problem}).")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _call(
    tokens: TokenManager,
    registration: ClientRegistration,
    options: argparse.Namespace,
    *,
    url: str,
    origin: str,
    headers: list[tuple[str, str]],
    content: bytes | None,
) -> int:
    import httpx2

    from accredit.integrations.httpx2 import AccreditAuth

    auth = AccreditAuth(
        tokens,
        registration.id,
        scope=scopes(options),
        resource=options.resource,
        audience=options.audience,
        principal=options.principal,
    )
    method = options.method or ("GET" if content is None else "POST")
    if not _TOKEN.fullmatch(method):
        raise Stop(USAGE, "usage", "the method is not a plain word.")
    stop = None
    try:
        with (
            httpx2.Client(timeout=options.timeout or _TIMEOUT, follow_redirects=options.location) as client,
            client.stream(method, url, headers=headers, content=content, auth=auth) as response,
        ):
            return _show(response, options, origin)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        stop = _trouble(error, origin)
    raise stop


def _trouble(error: Exception, origin: str) -> Stop:
    """Return how a call that failed ends. Only what was said before anything was sent is repeated."""
    import httpx2

    match error:
        case httpx2.TimeoutException():
            return Stop(UNREACHABLE, "unreachable", f"{origin} did not answer in time. Allow more with --timeout.")
        case httpx2.ConnectError():
            return Stop(UNREACHABLE, "unreachable", f"{origin} could not be reached: {error}.")
        case httpx2.InvalidURL() | httpx2.UnsupportedProtocol() | httpx2.LocalProtocolError():
            return Stop(USAGE, "usage", "the URL, the method or a header cannot be sent. Check them.")
        case httpx2.RemoteProtocolError() | httpx2.DecodingError() | httpx2.TooManyRedirects():
            return Stop(MALFORMED, "malformed", f"{origin} did not answer properly ({type(error).__name__}).")
    return Stop(UNREACHABLE, "unreachable", f"the connection to {origin} failed ({type(error).__name__}). Try again.")


def _show(response: httpx2.Response, options: argparse.Namespace, origin: str) -> int:
    """Write the answer as it comes."""
    failed = options.fail and response.status_code >= 400
    sys.stdout.flush()
    if options.output is None or options.output == "-":
        _write(response, options, sys.stdout.buffer, body=not failed)
    else:
        problem = None
        try:
            with Path(options.output).open("wb") as file:
                _write(response, options, file, body=not failed)
        except (OSError, ValueError) as error:
            problem = _reason(error)
        if problem is not None:
            raise Stop(FAILED, "failed", f"the file {options.output} cannot be written ({problem}).")
    if failed:
        raise Stop(API_ERROR, "api", f"{origin} answered with HTTP {response.status_code}.")
    return OK


def _write(response: httpx2.Response, options: argparse.Namespace, file: BinaryIO, *, body: bool) -> None:
    if options.include:
        lines = [f"{response.http_version} {response.status_code} {response.reason_phrase}".encode()]
        lines += [name + b": " + value for name, value in response.headers.raw]
        file.write(b"\r\n".join(lines) + b"\r\n\r\n")
    if body:
        for chunk in response.iter_bytes():
            file.write(chunk)
            file.flush()
    file.flush()
