"""``accredit renew``: renew what expires soon."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from accredit.cli.arguments import Parser, command_parser, number
from accredit.cli.common import manager, registrations
from accredit.cli.exits import OK, SEVERITY, kind_of
from accredit.config.files import printable
from accredit.core.events import Event, TokenObtained
from accredit.core.token import AccessToken
from accredit.errors import AccreditError
from accredit.manager import TokenManager
from accredit.registrations import find

_EPILOG = """\
One line for each registration goes to standard error; the exit code is that of the worst failure.

A word about what it is good for: tokens are kept in the memory of a process unless a shared store is configured, and a
new process starts without any. So without a shared store this always obtains new tokens, and only shows that they can
be had. A service renews its own tokens, and keep_fresh() does so without traffic; no cron job is needed for that.

examples:
  accredit renew --within 900
  accredit renew orders billing --within 900
"""


def parser() -> Parser:
    """Return the parser of the command."""
    made = command_parser("renew", "Renew the tokens that expire soon.", _EPILOG)
    made.add_argument("ids", nargs="*", metavar="ID", help="registrations; all when none is named")
    made.add_argument(
        "--within", type=number, required=True, metavar="SECONDS", help="renew what expires within that many seconds"
    )
    return made


def run(arguments: Sequence[str], config: str | None) -> int:
    """Run the command; return the exit code of the worst failure."""
    options = parser().parse_intermixed_args(arguments)
    loaded = registrations(config)
    # A wrong id is told before anything is renewed.
    chosen = [find(loaded, name, None).id for name in options.ids] or [registration.id for registration in loaded]
    asked: set[str] = set()

    def note(event: Event) -> None:
        if isinstance(event, TokenObtained) and event.source == "server":
            asked.add(event.registration)

    worst = OK
    with manager(loaded, on_event=note) as tokens:
        for name in dict.fromkeys(chosen):
            line, code = _renew(tokens, name, options.within, asked)
            sys.stderr.write(f"{name}: {printable(line)}\n")
            worst = max(worst, code, key=SEVERITY.index)
    return worst


def _renew(tokens: TokenManager, name: str, within: float, asked: set[str]) -> tuple[str, int]:
    """Renew one; return what to say of it and its exit code."""
    try:
        token = tokens.get(name)
        what = "obtained" if name in asked else "kept"
        if name not in asked and token.expires_within(within):
            token, what = tokens.renew(name), "renewed"
    except AccreditError as error:
        kind, code = kind_of(error)
        return f"{kind}: {error}", code
    return f"{what}, expires in {_left(token)} s{_short(token, within)}", OK


def _left(token: AccessToken) -> int:
    return max(0, int(token.ends_at - token.clock()))


def _short(token: AccessToken, within: float) -> str:
    return " (its whole life is shorter than --within)" if token.lifetime <= within else ""
