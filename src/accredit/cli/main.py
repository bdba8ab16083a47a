"""``accredit``: reads the command line, runs one command, and says how it went."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from accredit import __version__
from accredit.cli.arguments import EXAMPLES_FIRST, Parser
from accredit.cli.exits import (
    BROKEN_PIPE,
    CONFIGURATION,
    FAILED,
    INTERRUPTED,
    OK,
    TABLE,
    USAGE,
    Stop,
    kind_of,
    report,
)
from accredit.config.files import printable
from accredit.errors import AccreditError

_COMMANDS: Final = {
    "token": ("accredit.cli.token", "run"),
    "call": ("accredit.cli.call", "run"),
    "renew": ("accredit.cli.renew", "run"),
    "store": ("accredit.cli.store", "run"),
    "verify": ("accredit.cli.verify", "run"),
    "inspect": ("accredit.cli.inspect", "run"),
    "demo": ("accredit.cli.servers", "demo"),
    "serve": ("accredit.cli.servers", "serve"),
}
_DESCRIPTION: Final = """\
OAuth 2.0 access tokens for services, by the client credentials grant.

commands:
  token [ID]                     print an access token
  call [ID] URL                  call an API with a token
  renew [ID...] --within SECONDS renew the tokens that expire soon
  store list|remove|purge|keygen look after the tokens that are kept for later runs
  verify [TOKEN]                 check a token as an API would, and say what is wrong with it
  inspect [TOKEN]                decode a token without checking it
  demo                           see it work, with a server of its own
  serve                          run an authorization server and an API for development

'accredit COMMAND --help' tells more about each.
"""
_EPILOG: Final = f"""\
The configuration is the file of --config, else of ACCREDIT_CONFIG, else ./accredit.toml if it is yours and nobody else
can write to it; ACCREDIT_ variables go over it.

examples:
  accredit token
  accredit --config accredit.toml call orders https://api.example.com/orders
  accredit demo

{TABLE}"""


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"accredit: {record.levelname.lower()}: {printable(record.getMessage())}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else OK
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _forget_output()
        return BROKEN_PIPE
    except Stop as stop:
        report(stop.kind, stop.text)
        return stop.code
    except AccreditError as error:
        kind, code = kind_of(error)
        report(kind, str(error))
        return code
    except Exception as error:
        # No traceback, and not its text: an exception of anybody may quote anything.
        report("failed", f"{_place(error)}. This is a defect of accredit; please report it.")
        return FAILED
    return code


def _run(arguments: Sequence[str]) -> int:
    parser = Parser(
        prog="accredit",
        usage="accredit [--config FILE] [--verbose] COMMAND ...",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=EXAMPLES_FIRST,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="configuration file, before the command")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="tell on standard error what happens, without secrets"
    )
    parser.add_argument("--version", action="version", version=f"accredit {__version__}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="...", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    if options.command not in _COMMANDS:
        from accredit.config.schema import nearest

        meant = nearest(options.command, _COMMANDS)
        hint = f"did you mean '{meant}'?" if meant else f"there are {', '.join(_COMMANDS)}"
        parser.error(f"there is no command '{options.command}': {hint}".rstrip("."))
    module, function = _COMMANDS[options.command]
    with _logging(verbose=options.verbose):
        try:
            return int(getattr(importlib.import_module(module), function)(options.rest, options.config))
        except ImportError as error:
            missing = str(error)
        text = f"{missing}. Install what this command needs, for example accredit[all]."
        raise Stop(CONFIGURATION, "configuration", text)


@contextlib.contextmanager
def _logging(*, verbose: bool) -> Iterator[None]:
    """Show warnings about the configuration; with ``--verbose`` all that the library logs."""
    log = logging.getLogger("accredit")
    shown = log if verbose else logging.getLogger("accredit.config")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    before = log.level, log.propagate
    log.propagate = False  # What commands have to say of failures they say themselves, once.
    if verbose:
        log.setLevel(logging.DEBUG)
    silence = logging.NullHandler()
    shown.addHandler(handler)
    log.addHandler(silence)
    try:
        yield
    finally:
        shown.removeHandler(handler)
        log.removeHandler(silence)
        log.setLevel(before[0])
        log.propagate = before[1]


def _forget_output() -> None:
    """Let the interpreter flush into nothing at its end, rather than complain about the closed pipe."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__}{where}"


if __name__ == "__main__":
    sys.exit(main())
