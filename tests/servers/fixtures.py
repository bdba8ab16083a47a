"""The real authorization servers as fixtures: one process of each per session (per worker of pytest-xdist)."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.servers.nodejs import ensure_installed, node_executable
from tests.servers.process import Client, RunningServer, ServerUnavailableError, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from typing import TypeAlias

    StartingServer: TypeAlias = AbstractContextManager[RunningServer]

REQUIRE_VARIABLE = "ACCREDIT_REQUIRE_REAL_SERVERS"
LIFETIME = 600
BRIEF_LIFETIME = 5
RESOURCES = ("https://api.example.com/orders", "https://api.example.com/stock")

_FOLDER = Path(__file__).parent

# The secrets hold what a form or a percent encoding changes: a server that gets one step wrong refuses them.
# "%41" is the touchstone: whoever decodes once too often, or sends it without encoding, makes an "A" of it.
ASCII_CLIENTS = {
    "basic": Client("basic-client", "basic-secret-0123456789", "client_secret_basic"),
    "post": Client("post-client", "post-secret-0123456789", "client_secret_post"),
    "brief": Client("brief-client", "brief-secret-0123456789", "client_secret_basic", BRIEF_LIFETIME),
    "odd_basic": Client("odd:100%25 +basic", "s:e%41c+r t/=&~!", "client_secret_basic"),
    "odd_post": Client("odd:100%25 +post", "s:e%41c+r t/=&~!", "client_secret_post"),
}
UNICODE_CLIENTS = {
    "unicode_basic": Client("odd:100%25 +é basic", "sé:c%41r+e t€", "client_secret_basic"),
    "unicode_post": Client("odd:100%25 +é post", "sé:c%41r+e t€", "client_secret_post"),
}


@contextmanager
def start_oidc_provider(*, lifetime: int = LIFETIME, path: str = "") -> Iterator[RunningServer]:
    """Run oidc-provider; it allows printable ASCII only in ids and secrets, so it has no ``unicode`` clients.

    With a path such as ``/op`` the issuer has that path, and then only the OpenID Connect document is served
    (``/op/.well-known/openid-configuration``), not the one that RFC 8414 puts before the path.

    Raises:
        ServerUnavailableError: Node.js or the npm packages cannot be had.
        RuntimeError: it did not start.

    """
    folder = _FOLDER / "oidc_provider"
    ensure_installed(folder)
    command = [str(node_executable()), str(folder / "index.mjs")]
    with running_server(command, clients=ASCII_CLIENTS, lifetime=lifetime, path=path, resources=RESOURCES) as server:
        yield server


@contextmanager
def start_authlib_server(*, lifetime: int = LIFETIME, path: str = "/tenant") -> Iterator[RunningServer]:
    """Run Authlib's server; it serves the RFC 8414 document only, before the path of the issuer.

    Raises:
        ServerUnavailableError: Authlib or Flask is not installed.
        RuntimeError: it did not start.

    """
    for module in ("authlib", "flask"):
        if importlib.util.find_spec(module) is None:
            message = f"needs {module}: install the development dependencies"
            raise ServerUnavailableError(message)
    command = [sys.executable, str(_FOLDER / "authlib_server.py")]
    with running_server(command, clients=ASCII_CLIENTS | UNICODE_CLIENTS, lifetime=lifetime, path=path) as server:
        yield server


@pytest.fixture(scope="session")
def oidc_provider() -> Iterator[RunningServer]:
    """Give a running oidc-provider, with an issuer without a path."""
    with required_or_skipped(start_oidc_provider()) as server:
        yield server


@pytest.fixture(scope="session")
def authlib_server() -> Iterator[RunningServer]:
    """Give a running server of Authlib's, with an issuer that has a path."""
    with required_or_skipped(start_authlib_server()) as server:
        yield server


@contextmanager
def required_or_skipped(start: StartingServer) -> Iterator[RunningServer]:
    """Enter that context; where the server cannot be had at all, skip, or fail if the run must have it."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(start)
        except ServerUnavailableError as error:
            if os.environ.get(REQUIRE_VARIABLE) == "1":
                pytest.fail(f"{REQUIRE_VARIABLE}=1, and a server is missing: {error}")
            pytest.skip(str(error))
        yield server
