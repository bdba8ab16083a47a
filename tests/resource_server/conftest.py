"""A server that issues tokens, and the same API guarded in every way, each on a socket of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from accredit.core.secret import Secret
from accredit.devserver import DevClient, DevConfig, DevServer
from accredit.testing import TokenMaker
from accredit.verifier import TokenVerifier, TrustedIssuer
from tests.resource_server.apps import ASGI, EVERY
from tests.resource_server.serving import serve_asgi, serve_wsgi

SCOPES = ("orders:base", "orders:read", "orders:write")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def server() -> Iterator[DevServer]:
    client = DevClient(client_id="orders-worker", client_secret=Secret("orders-secret"), scopes=SCOPES)
    with DevServer(DevConfig(clients=(client,))) as running:
        yield running


@pytest.fixture(scope="session")
def tokens(server: DevServer) -> TokenMaker:
    return TokenMaker(server)


@pytest.fixture
def verifier(server: DevServer) -> Iterator[TokenVerifier]:
    with TokenVerifier(TrustedIssuer(server.issuer, server.config.default_audience)) as made:
        yield made


@pytest.fixture(scope="session")
def services(server: DevServer) -> Iterator[dict[str, str]]:
    """Give the URL of each service."""
    with TokenVerifier(TrustedIssuer(server.issuer, server.config.default_audience)) as verifier, ExitStack() as stack:
        yield {
            name: stack.enter_context((serve_asgi if name in ASGI else serve_wsgi)(make(verifier)))
            for name, make in EVERY.items()
        }


@pytest.fixture(params=EVERY)
def service(request: pytest.FixtureRequest, services: dict[str, str]) -> str:
    url: str = services[request.param]
    return url


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serve one of the applications with options of its own."""
    with ExitStack() as stack:

        def start(name: str, verifier: Any, **options: Any) -> str:
            return stack.enter_context((serve_asgi if name in ASGI else serve_wsgi)(EVERY[name](verifier, **options)))

        yield start
