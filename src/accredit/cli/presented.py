"""How ``verify`` and ``inspect`` are given a token."""

from __future__ import annotations

import re
import sys
from typing import Final

from accredit.cli.arguments import Parser
from accredit.cli.exits import USAGE, Stop

#: Most characters that are read; the limit for tokens is lower.
_MOST: Final = 64 * 1024
# What "accredit token --header" prints, and what is copied out of a request.
_SCHEME: Final = re.compile(r"(?ai:(?:authorization:[ \t]*)?bearer[ \t]+)")
NOTE: Final = "a token on the command line is visible to others on this machine; better pipe it in"


def add_token(made: Parser) -> None:
    """Add the token as an argument that may be left out."""
    made.add_argument(
        "token",
        nargs="?",
        metavar="TOKEN",
        help="the token; '-' or nothing for standard input, which keeps it out of the list of processes",
    )


def presented_token(argument: str | None) -> str:
    """Return the token of the command line, or of standard input; a scheme before it is taken off.

    Raises:
        Stop: there is none, or more than 64 KiB.

    """
    if argument is not None and argument != "-":
        sys.stderr.write(f"accredit: note: {NOTE}.\n")
        return _plain(argument)
    if sys.stdin.isatty():
        sys.stderr.write("accredit: note: paste the token, then end the input.\n")
    raw = sys.stdin.buffer.read(_MOST + 1)
    if len(raw) > _MOST:
        raise Stop(USAGE, "usage", f"more than {_MOST} bytes are no token.")
    return _plain(raw.decode("utf-8", "replace"))


def _plain(text: str) -> str:
    token = _SCHEME.sub("", text.strip(), count=1) if _SCHEME.match(text.strip()) else text.strip()
    if not token:
        raise Stop(USAGE, "usage", "there is no token. Give one as an argument or on standard input.")
    return token
