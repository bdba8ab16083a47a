"""What the commands' parsers have in common."""

from __future__ import annotations

import argparse
import math
from typing import Final, NoReturn

from accredit.cli.exits import USAGE, report

EXAMPLES_FIRST: Final = argparse.RawDescriptionHelpFormatter


class Parser(argparse.ArgumentParser):
    """An argument parser that reports what is wrong in one line, as everything else is reported."""

    def error(self, message: str) -> NoReturn:
        """Report and leave."""
        report("usage", f"{message}. See '{self.prog} --help'.")
        raise SystemExit(USAGE)


def command_parser(name: str, description: str, epilog: str, usage: str | None = None) -> Parser:
    """Return the parser of the command ``name``."""
    return Parser(
        prog=f"accredit {name}",
        usage=usage and f"accredit {name} {usage}",
        description=description,
        epilog=epilog,
        formatter_class=EXAMPLES_FIRST,
        allow_abbrev=False,
    )


def add_request_options(parser: argparse.ArgumentParser) -> None:
    """Add what a call may vary of the registration's token request."""
    group = parser.add_argument_group("instead of what the registration says")
    group.add_argument("--scope", action="append", metavar="SCOPE", help="scope to ask for; repeatable")
    group.add_argument("--resource", action="append", metavar="URI", help="resource indicator (RFC 8707); repeatable")
    group.add_argument("--audience", metavar="TEXT", help="audience to ask for")
    group.add_argument("--principal", metavar="TEXT", help="whose token it is")


def add_no_store(parser: argparse.ArgumentParser) -> None:
    """Add ``--no-store``."""
    parser.add_argument(
        "--no-store", action="store_true", help="neither use a token that was kept nor keep this one for other runs"
    )


def add_timeout(parser: argparse.ArgumentParser, text: str) -> None:
    """Add ``--timeout``."""
    parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help=text)


def scopes(options: argparse.Namespace) -> list[str] | None:
    """Return the scopes of ``--scope``, each of which may hold several separated by spaces."""
    if options.scope is None:
        return None
    return [item for text in options.scope for item in text.split(" ") if item]


def seconds(text: str) -> float:
    """Read a time limit: the bounds are those of a registration's deadline."""
    value = number(text)
    if not 0.05 <= value <= 300:
        msg = "between 0.05 and 300 seconds"
        raise argparse.ArgumentTypeError(msg)
    return value


def number(text: str) -> float:
    """Read a number of seconds, at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        msg = "a number of seconds is needed"
        raise argparse.ArgumentTypeError(msg)
    return value


def port(text: str) -> int:
    """Read a port number; 0 is for a free one."""
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65536):
        msg = "a port is a number from 0 to 65535"
        raise argparse.ArgumentTypeError(msg)
    return int(text)
