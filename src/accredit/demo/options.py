"""The command line of the demo."""

from __future__ import annotations

import argparse
from typing import Final

from accredit.demo.sabotage import SABOTAGES, listing

STEP_NAMES: Final = ("first", "herd", "renewal", "refusal", "outage")


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    made = argparse.ArgumentParser(
        prog="accredit demo",
        description=(
            "Show the main job over real HTTP: the first call, a herd, a renewal, a 401, an\n"
            "outage. It starts an authorization server and a protected API in a process of\n"
            "their own, on loopback, and checks every claim against that server's log."
        ),
        epilog=(
            f"planted failures, each with the step that is to notice it:\n{listing()}\n"
            "exit codes:\n"
            "    0   all as claimed\n"
            "    1   something was not\n"
            "    2   the command line is wrong\n"
            "    3   a package is missing\n"
            "  130   interrupted"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "--only",
        action="append",
        choices=STEP_NAMES,
        metavar="STEP",
        help=f"run only {', '.join(STEP_NAMES)}; repeatable",
    )
    made.add_argument(
        "--sabotage", choices=[*SABOTAGES, "list"], metavar="NAME", help="plant a failure; 'list' tells which"
    )
    made.add_argument("--plain", action="store_true", help="plain text without colours and moving pictures")
    made.add_argument("--json", action="store_true", help="one JSON object with every step, claim and count")
    made.add_argument("--web", action="store_true", help="show it on a page too, live, which stays until interrupted")
    made.add_argument("--fast", action="store_true", help="shorter lifetimes of tokens")
    return made
