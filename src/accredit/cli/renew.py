"""``accredit renew``: renew what expires soon."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from accredit.cli.arguments import Parser, add_no_store, command_parser, number
from accredit.cli.common import configuration, manager, open_store
from accredit.cli.exits import OK, SEVERITY, kind_of
from accredit.config.files import printable
from accredit.core.events import Event, TokenObtained
from accredit.core.token import AccessToken
from accredit.errors import AccreditError
from accredit.manager import TokenManager
from accredit.registrations import find

_EPILOG = """\
One line for each registration goes to standard error; the exit code is that of the worst failure.

What is not about to expire is kept, so this can run as often as you like; other runs, and services that use the same
store, find the renewed token there. A service renews its own tokens, and keep_fresh() does so without traffic.

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
    add_no_store(made)
    return made


def run(arguments: Sequence[str], config: str | None) -> int:
    """Run the command; return the exit code of the worst failure."""
    options = parser().parse_intermixed_args(arguments)
    loaded, settings = configuration(config)
    # A wrong id is told before anything is renewed.
    chosen = [find(loaded, name, None).id for name in options.ids] or [registration.id for registration in loaded]
    asked: set[str] = set()

    def note(event: Event) -> None:
        if isinstance(event, TokenObtained) and event.source == "server":
            asked.add(event.registration)

    worst = OK
    with manager(loaded, store=open_store(settings, without=options.no_store), on_event=note) as tokens:
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
