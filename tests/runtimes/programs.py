"""Programs of their own, run against a server of the test: what they print is what they found out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from accredit.devserver import DevServer
from tests.runtime.support import PATIENCE

ROOT = Path(__file__).parents[2]
PREAMBLE = """
import sys
from accredit import AccreditError, ClientRegistration, ClientSecretBasic, TokenManager

def registration(id="api-client", **changes):
    # A name, so that it has to be resolved.
    values = {"token_endpoint": sys.argv[1].replace("127.0.0.1", "localhost"), "client_id": "api-client",
              "scope": "orders:read", "client_auth": ClientSecretBasic("dev-secret"), "deadline": 30.0} | changes
    return ClientRegistration(id=id, **values)

def tell(what):
    import json
    print(json.dumps(what), flush=True)
"""


class Program:
    """A running program: its arguments are the token endpoint and the API; ``tell()`` there is :meth:`told` here.

    Args:
        script: what it runs.
        server: the server.
        flags: of the interpreter.
        environment: more variables.

    """

    def __init__(
        self,
        script: str,
        server: DevServer,
        *,
        flags: tuple[str, ...] = ("-X", "dev", "-W", "error"),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *flags, "-c", script, server.token_endpoint, server.api_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
            cwd=ROOT,
        )
        self._watchdog = threading.Timer(2 * PATIENCE, self.process.kill)
        self._watchdog.start()

    def told(self) -> Any:
        """Return what it tells next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            raise AssertionError(f"it ended early: {self.process.stderr.read()}")
        return json.loads(line)

    def go(self) -> None:
        """Let it go on from where it reads a line."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self, code: int = 0) -> list[Any]:
        """Return the rest of what it tells. It must say nothing else, and end by itself with that code."""
        out, err = self.process.communicate()
        assert err == "", err
        assert self.process.returncode == code, self.process.returncode
        return [json.loads(line) for line in out.splitlines()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchdog.cancel()
        self.process.kill()
        self.process.communicate()


def run(script: str, server: DevServer, **settings: Any) -> list[Any]:
    """Run a program to its end and return what it told."""
    with Program(script, server, **settings) as program:
        return program.end()
