"""``accredit inspect``: decode a token without checking it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from accredit.cli.arguments import Parser, command_parser
from accredit.cli.exits import NOT_ACCEPTED, OK, Stop
from accredit.cli.presented import add_token, presented_token
from accredit.core.jose import MAX_TOKEN_BYTES
from accredit.core.strict import StrictError, b64url_decode, parse_json_object

_EPILOG = """\
Nothing is checked and nothing is asked of anybody: whoever made this token may have written anything into it. Whether
it is good is what 'accredit verify' tells. A token is a secret as long as it lives: mind where the output goes.

examples:
  accredit token | accredit inspect
  accredit inspect --json < token.txt
"""
_MAX_DEPTH: Final = 16
_SEGMENTS: Final = 3
_ENCRYPTED: Final = 5
_TIMES: Final = ("iat", "nbf", "exp", "auth_time")
_LAST_SECOND: Final = 253402300799


def parser() -> Parser:
    """Return the parser of the command."""
    made = command_parser("inspect", "Decode a token WITHOUT checking it.", _EPILOG, usage="[TOKEN] [--json]")
    add_token(made)
    made.add_argument("--json", action="store_true", help="print one JSON object, in one line")
    return made


def run(arguments: Sequence[str], _config: str | None) -> int:
    """Run the command; return the exit code."""
    options = parser().parse_args(arguments)
    token = presented_token(options.token)
    if len(token) > MAX_TOKEN_BYTES:
        raise Stop(NOT_ACCEPTED, "token", f"a token of {len(token)} characters is longer than any that is accepted.")
    segments = token.split(".") if token.isascii() else []
    if len(segments) not in {_SEGMENTS, _ENCRYPTED}:
        text = "this is no JWT: an opaque token, which only its authorization server can read (introspection)."
        raise Stop(NOT_ACCEPTED, "token", text)
    header = _decoded(segments[0], "header")
    claims = None if len(segments) == _ENCRYPTED else _decoded(segments[1], "payload")
    sys.stderr.write("accredit: NOT VERIFIED: anybody may have written what follows; believe nothing of it.\n")
    if claims is None:
        sys.stderr.write("accredit: note: the token is encrypted (JWE); only its header can be read.\n")
    sys.stderr.flush()
    # JSON in ASCII has everything escaped that a terminal would act on, or that looks like something else.
    if options.json:
        members: dict[str, object] = {"verified": False, "header": header}
        if claims is not None:
            members |= {"claims": claims, "times": _times(claims), "signature_present": bool(segments[-1])}
        sys.stdout.write(json.dumps(members) + "\n")
        return OK
    sys.stdout.write(f"header {json.dumps(header, indent=2)}\n")
    if claims is not None:
        sys.stdout.write(f"claims {json.dumps(claims, indent=2)}\n")
        for name, text in _times(claims).items():
            sys.stdout.write(f"{name} {text}\n")
        sys.stdout.write("signature " + ("present, not checked\n" if segments[-1] else "NONE\n"))
    return OK


def _decoded(segment: str, what: str) -> dict[str, object]:
    fault = ""
    try:
        return parse_json_object(b64url_decode(segment), max_bytes=MAX_TOKEN_BYTES, max_depth=_MAX_DEPTH)
    except StrictError as error:
        fault = str(error)
    raise Stop(NOT_ACCEPTED, "token", f"its {what} cannot be decoded: {fault}.")


def _times(claims: dict[str, object]) -> dict[str, str]:
    found = {}
    for name in _TIMES:
        value = claims.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LAST_SECOND:
            found[name] = datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return found
