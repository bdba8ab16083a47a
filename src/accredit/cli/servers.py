"""``accredit demo`` and ``accredit serve``: what runs the development server."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from accredit.cli.arguments import Parser, command_parser, port
from accredit.cli.exits import FAILED, OK, Stop

if TYPE_CHECKING:
    from accredit.devserver import DevServer

_EPILOG = """\
It serves until it is interrupted. With --json its addresses come as one line of JSON, with the token of its admin API.

example:
  accredit serve --port 8080 --api-port 8081
"""


def demo(arguments: Sequence[str], _config: str | None) -> int:
    """Run the demo with its own arguments; return its exit code."""
    return int(importlib.import_module("accredit.demo").run(list(arguments)))


def serve_parser() -> Parser:
    """Return the parser of ``serve``."""
    made = command_parser("serve", "Run an authorization server and an API for development, on loopback.", _EPILOG)
    made.add_argument("--host", default="127.0.0.1", help="loopback address (default %(default)s)")
    made.add_argument("--port", type=port, default=0, help="of the authorization server; 0 for a free one")
    made.add_argument("--api-port", type=port, default=0, help="of the protected API; 0 for a free one")
    made.add_argument(
        "--config-json", metavar="JSON|@FILE|-", help="clients and lifetimes; '-' reads one line of stdin"
    )
    made.add_argument("--certfile", help="PEM certificate chain, for https")
    made.add_argument("--keyfile", help="PEM private key")
    made.add_argument("--json", action="store_true", help="print one line of JSON when ready")
    return made


def serve(arguments: Sequence[str], _config: str | None, *, wait: Callable[[], None] | None = None) -> int:
    """Run the development server until interrupted; return the exit code."""
    options = serve_parser().parse_args(arguments)
    from accredit.devserver import DevServer
    from accredit.devserver.__main__ import read_config

    problem = ""
    server = None
    try:
        server = DevServer(
            read_config(options.config_json),
            host=options.host,
            port=options.port,
            api_port=options.api_port,
            certfile=options.certfile,
            keyfile=options.keyfile,
        ).start()
    except (OSError, RuntimeError) as error:
        problem = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
    if server is None:
        raise Stop(FAILED, "failed", f"the development server did not start: {problem}.")
    try:
        _announce(server, as_json=options.json)
        (wait or _wait)()
    except KeyboardInterrupt:
        return OK
    finally:
        server.stop()
    return OK


def _announce(server: DevServer, *, as_json: bool) -> None:
    if as_json:
        members = {
            "url": server.url,
            "issuer": server.issuer,
            "api_url": server.api_url,
            "admin_token": server.admin_token,
            "pid": os.getpid(),
        }
        sys.stdout.write(json.dumps(members) + "\n")
    else:
        sys.stdout.write(f"issuer         {server.issuer}\nprotected API  {server.api_url}\n")
        for client in server.config.clients:
            scopes = " ".join(client.scopes)
            sys.stdout.write(f"client         {client.client_id}, scopes: {scopes}\n")
        if server.config.clients and server.config.clients[0].client_secret.reveal() == "dev-secret":
            sys.stdout.write(
                f"\nIn another shell:\n  export ACCREDIT_ISSUER={server.issuer} ACCREDIT_CLIENT_ID=api-client"
                f" ACCREDIT_CLIENT_SECRET=dev-secret\n  accredit call {server.api_url}/orders\n"
            )
    sys.stdout.flush()


def _wait() -> NoReturn:
    forever = threading.Event()
    while True:
        # On Windows a wait without limit cannot be interrupted.
        forever.wait(1.0)
