"""What the command line says when it ends: one line on standard error, and an exit code for scripts."""

from __future__ import annotations

import sys
from typing import Final

from accredit.config.files import printable
from accredit.errors import (
    AccreditError,
    ConfigurationError,
    DiscoveryError,
    MalformedResponseError,
    RefusedError,
    ThrottledError,
    UnreachableError,
)

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
CONFIGURATION: Final = 3
REFUSED: Final = 4
THROTTLED: Final = 5
UNREACHABLE: Final = 6
MALFORMED: Final = 7
API_ERROR: Final = 8
NOT_ACCEPTED: Final = 9
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

TABLE: Final = """\
exit codes:
    0   done
    1   something else failed: a file could not be written, a defect of accredit
    2   the command line is wrong
    3   the configuration is wrong, or forbids what was asked (api_origins)
    4   the authorization server refused the credential or the request
    5   the authorization server asked to come back later
    6   the authorization server or the API could not be reached in time
    7   the authorization server or the API answered nonsense, or its metadata is wrong
    8   the API answered with a status of 400 or above (call --fail)
    9   the token is not acceptable (verify), or cannot be decoded (inspect)
  130   interrupted
  141   whoever read the output closed it
"""

# What ``renew`` ends with when several registrations fail: what needs a person comes before what may pass by itself.
SEVERITY: Final = (OK, THROTTLED, UNREACHABLE, MALFORMED, REFUSED, CONFIGURATION, FAILED)

_KINDS: Final[tuple[tuple[type[AccreditError], str, int], ...]] = (
    (ConfigurationError, "configuration", CONFIGURATION),
    (ThrottledError, "throttled", THROTTLED),
    (RefusedError, "refused", REFUSED),
    (UnreachableError, "unreachable", UNREACHABLE),
    (MalformedResponseError, "malformed", MALFORMED),
    (DiscoveryError, "discovery", MALFORMED),
)
_ARGUMENTS: Final = frozenset({"audience", "principal", "resource", "scope", "timeout"})


class Stop(Exception):  # noqa: N818 - not an error of the library but the end of a command
    """Ends the command with that exit code, after one line about why.

    Attributes:
        code: the exit code.
        kind: one word for the line.
        text: what happened and what to do; free of secrets.

    """

    def __init__(self, code: int, kind: str, text: str) -> None:
        """Keep what to say."""
        super().__init__(text)
        self.code = code
        self.kind = kind
        self.text = text


def kind_of(error: AccreditError) -> tuple[str, int]:
    """Return the word and the exit code for an error of the library."""
    if isinstance(error, ConfigurationError) and error.key in _ARGUMENTS:
        return "usage", USAGE
    for kind, word, code in _KINDS:
        if isinstance(error, kind):
            return word, code
    return "failed", FAILED


def report(kind: str, text: str) -> None:
    """Write ``accredit: <kind>: <text>`` to standard error, with nothing in it that a terminal would act on."""
    sys.stderr.write(f"accredit: {kind}: {printable(text)}\n")
    sys.stderr.flush()


def note(text: str) -> None:
    """Write ``accredit: notice: <text>`` to standard error: something that the command gets by without."""
    report("notice", text)
