"""``accredit token``: print a token."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from accredit.cli.arguments import Parser, add_no_store, add_request_options, add_timeout, command_parser, scopes
from accredit.cli.common import configuration, manager, open_store
from accredit.cli.exits import OK
from accredit.registrations import find

_EPILOG = """\
The token stands alone on standard output, followed by one newline. It is a secret: mind where it goes. Unless a store
is configured, it is also kept in a file that only you can read, for the next runs ('accredit store list' says where);
--no-store leaves it out.

examples:
  accredit token
  accredit token orders --scope orders:read --scope orders:write
  accredit token --json | jq .expires_in
  curl -H "$(accredit token --header)" https://api.example.com/orders
"""


def parser() -> Parser:
    """Return the parser of the command."""
    made = command_parser("token", "Print an access token.", _EPILOG)
    made.add_argument("id", nargs="?", metavar="ID", help="registration; the default one when left out")
    form = made.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="print a JSON object: access_token, token_type, expires_in, ..."
    )
    form.add_argument("--header", action="store_true", help="print the whole header: 'Authorization: Bearer ...'")
    add_request_options(made)
    add_no_store(made)
    add_timeout(made, "most seconds to wait (default: the registration's deadline)")
    return made


def run(arguments: Sequence[str], config: str | None) -> int:
    """Run the command; return the exit code."""
    options = parser().parse_args(arguments)
    loaded, settings = configuration(config, deadline=options.timeout)
    registration = find(loaded, options.id, loaded.default)
    with manager(loaded, store=open_store(settings, without=options.no_store)) as tokens:
        token = tokens.get(
            registration.id,
            scope=scopes(options),
            resource=options.resource,
            audience=options.audience,
            principal=options.principal,
        )
        if options.json:
            members: dict[str, object] = {
                "access_token": token.value,
                "token_type": token.token_type,
                "expires_in": max(0, int(token.ends_at - token.clock())),
                "expires_at": int(token.expires_at),
                "registration": registration.id,
                "principal": options.principal or registration.principal,
            }
            if token.granted_scope is not None:
                members["scope"] = " ".join(token.granted_scope)
            if token.members:
                members["members"] = dict(token.members)
            text = json.dumps(members)
        elif options.header:
            text = f"Authorization: {token.authorization}"
        else:
            text = token.value
    sys.stdout.write(f"{text}\n")
    return OK
