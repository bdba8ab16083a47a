"""``accredit demo`` and ``accredit serve``: what runs the development server."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from accredit.cli.arguments import Parser, command_parser, port
from accredit.cli.exits import FAILED, OK, Stop
from accredit.registrations import Registrations

if TYPE_CHECKING:
    from accredit.devserver import DevServer

_EPILOG = """\
It serves until it is interrupted, and has a page for people: open the link that it
prints. With --json its addresses come as one line of JSON, with the token of its admin
API. Registrations of the configuration whose issuer is on loopback become its clients,
and their port its port: "accredit token" then works against it as it is.

examples:
  accredit serve --port 8080 --api-port 8081
  accredit --config accredit.toml serve --state dev.db --log-json -
"""


def demo(arguments: Sequence[str], _config: str | None) -> int:
    """Run the demo with its own arguments; return its exit code."""
    return int(importlib.import_module("accredit.demo").run(list(arguments)))


def serve_parser() -> Parser:
    """Return the parser of ``serve``."""
    made = command_parser("serve", "Run an authorization server and an API for development, on loopback.", _EPILOG)
    made.add_argument("--host", help="loopback address (default 127.0.0.1)")
    made.add_argument("--port", type=port, default=0, help="of the authorization server; 0 for a free one")
    made.add_argument("--api-port", type=port, default=0, help="of the protected API; 0 for a free one")
    made.add_argument(
        "--config-json", metavar="JSON|@FILE|-", help="clients and lifetimes; '-' reads one line of stdin"
    )
    made.add_argument("--certfile", help="PEM certificate chain, for https")
    made.add_argument("--keyfile", help="PEM private key")
    made.add_argument("--token-format", choices=("jwt", "opaque"), help="what access tokens are (default jwt)")
    made.add_argument("--token-lifetime", type=_lifetime, metavar="SECONDS", help="of tokens (default 3600)")
    made.add_argument("--faults-by-request", action="store_true", help="let requests ask for faults of their own")
    made.add_argument("--state", metavar="FILE", help="keep keys, tokens and ports over a restart, in this file")
    made.add_argument("--log-json", metavar="FILE", help="write each request as a line of JSON; '-' is stdout")
    made.add_argument("--no-web", action="store_true", help="without the page")
    made.add_argument("--json", action="store_true", help="print one line of JSON when ready")
    made.add_argument(
        "--i-know-this-is-for-tests",
        action="store_true",
        dest="for_tests",
        help="run beyond loopback, or where the environment says production",
    )
    return made


def serve(arguments: Sequence[str], config: str | None, *, wait: Callable[[], None] | None = None) -> int:
    """Run the development server until interrupted; return the exit code."""
    options = serve_parser().parse_args(arguments)
    from accredit.cli.locate import config_file
    from accredit.config.environment import CONFIG
    from accredit.devserver import DevServer
    from accredit.devserver.__main__ import read_config
    from accredit.devserver.from_registrations import Address, with_registrations

    named = config is not None or CONFIG in os.environ
    file = config_file(config)
    problem = ""
    server = None
    try:
        settings = read_config(options.config_json)
        address = Address(options.host, options.port, options.certfile is not None)
        if named or file is not None:
            settings, address = with_registrations(
                settings, _load(file), address, default_clients=options.config_json is None, must=named
            )
        changed: dict[str, Any] = {"faults_by_request": True} if options.faults_by_request else {}
        for name in ("token_format", "token_lifetime"):
            if getattr(options, name) is not None:
                changed[name] = getattr(options, name)
        server = DevServer(
            dataclasses.replace(settings, **changed),
            host=address.host or "127.0.0.1",
            port=address.port,
            api_port=options.api_port,
            certfile=options.certfile,
            keyfile=options.keyfile,
            for_tests=options.for_tests,
            web=not options.no_web,
            state=options.state,
            log_json=options.log_json,
        ).start()
    except (OSError, RuntimeError) as error:
        problem = str(error)
        if isinstance(error, OSError):
            problem = ": ".join(filter(None, (error.filename, error.strerror or type(error).__name__)))
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


def _load(file: Path | None) -> Registrations:
    from accredit.config import load

    return load(file)


def _lifetime(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text)):
        msg = "a whole number of seconds is needed, at least 1"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _announce(server: DevServer, *, as_json: bool) -> None:
    if as_json:
        members = {
            "url": server.url,
            "issuer": server.issuer,
            "api_url": server.api_url,
            "admin_token": server.admin_token,
            "page_link": server.page_link,
            "pid": os.getpid(),
        }
        sys.stdout.write(json.dumps(members) + "\n")
    else:
        sys.stdout.write(f"issuer         {server.issuer}\nprotected API  {server.api_url}\n")
        if server.page_link:
            sys.stdout.write(f"page           {server.page_link}\n")
        for client in server.config.clients:
            scopes = " ".join(client.scopes)
            sys.stdout.write(f"client         {client.client_id}, scopes: {scopes or 'none'}\n")
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
