"""``python -m accredit.devserver``: one line of JSON when ready, then it serves until its standard input closes."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from accredit.core.strict import StrictError, parse_json_object
from accredit.devserver.config import DevConfig, Place, config_from_mapping
from accredit.devserver.server import Runtime
from accredit.errors import ConfigurationError

_MAX_CONFIG: Final = 1024 * 1024


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m accredit.devserver",
        description="An authorization server and a protected API for development and tests; never for production.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="loopback address (default %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="of the authorization server; 0 for a free one")
    parser.add_argument("--api-port", type=int, default=0, help="of the protected API; 0 for a free one")
    parser.add_argument("--config-json", metavar="JSON|@FILE|-", help="'-' reads one line of standard input")
    parser.add_argument("--certfile", help="PEM certificate chain, for https")
    parser.add_argument("--keyfile", help="PEM private key")
    parser.add_argument("--web", action="store_true", help="serve the page")
    parser.add_argument("--state", metavar="FILE", help="keeps keys, tokens and ports over a restart")
    parser.add_argument("--log-json", metavar="FILE", help="gets each request as a line of JSON")
    parser.add_argument("--ignore-stdin", action="store_true", help="go on when standard input closes")
    parser.add_argument("--i-know-this-is-for-tests", action="store_true", dest="for_tests")
    return parser.parse_args(arguments)


def read_config(option: str | None) -> DevConfig:
    """Read the configuration that ``--config-json`` points to.

    Raises:
        ConfigurationError: it is wrong.
        OSError: its file cannot be read.

    """
    if option is None:
        return DevConfig()
    if option == "-":
        raw = sys.stdin.buffer.readline()
    elif option.startswith("@"):
        raw = Path(option[1:]).read_bytes()
    else:
        raw = option.encode()
    fault = ""
    members: dict[str, object] = {}
    try:
        members = parse_json_object(raw, max_bytes=_MAX_CONFIG)
    except StrictError as error:
        fault = str(error)
    if fault:
        msg = f"the configuration is not a strict JSON object: {fault}."
        raise ConfigurationError(msg, key="--config-json")
    return config_from_mapping(members)


def _watch_stdin(runtime: Runtime) -> None:
    """Stop the server when whoever started it closes the pipe, or is gone."""
    while sys.stdin.buffer.read(4096):
        pass
    if runtime.loop is not None:
        runtime.loop.call_soon_threadsafe(runtime.stop)


def _say(**members: object) -> None:
    sys.stdout.write(json.dumps(members) + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; return the exit status."""
    options = parse_arguments(arguments)
    try:
        place = Place(
            host=options.host,
            port=options.port,
            api_port=options.api_port,
            certfile=options.certfile,
            keyfile=options.keyfile,
            for_tests=options.for_tests,
            web=options.web,
            state=options.state,
            log_json=options.log_json,
            environment=dict(os.environ),
        )
        runtime = Runtime(read_config(options.config_json), place)
    except (ConfigurationError, OSError) as error:
        _say(error=str(error))
        return 2

    def ready() -> None:
        if not options.ignore_stdin:
            threading.Thread(target=_watch_stdin, args=(runtime,), name="accredit-stdin", daemon=True).start()
        _say(
            url=runtime.url,
            issuer=runtime.config.issuer,
            api_url=runtime.api_url,
            admin_token=runtime.control.admin_token,
            page_link=runtime.page_link,
            pid=os.getpid(),
        )

    try:
        asyncio.run(runtime.serve(ready))
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        _say(error=str(error))
        return 2
    return 0


if __name__ == "__main__":
    # A daemon thread may sit in a read of standard input: leave without waiting for its lock.
    status: int = main()
    sys.stdout.flush()
    os._exit(status)
