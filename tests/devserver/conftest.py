"""Running development servers."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from accredit.core.secret import Secret
from accredit.devserver import DevClient, DevConfig, DevServer, DevServerProcess
from accredit.devserver.handle import Switches

CONFIG = DevConfig(
    clients=(
        DevClient(client_id="api-client", client_secret=Secret("dev-secret")),
        DevClient(client_id="reader", client_secret=Secret("reader-secret"), scopes=("orders:read",)),
    )
)


@pytest.fixture(scope="session", params=["thread", "process"])
def running(request: pytest.FixtureRequest) -> Iterator[Switches]:
    kind = DevServer if request.param == "thread" else DevServerProcess
    with kind(CONFIG) as server:
        yield server


@pytest.fixture
def server(running: Switches) -> Iterator[Switches]:
    """A server in either form; what works with one must work with the other."""
    running.clear_log()
    yield running
    running.release()
    running.release(server="api")
    running.recover()
    running.set_token_lifetime(None)
    running.set_issuing(omit_expires_in=False, omit_scope=False, same_token=False)


@pytest.fixture(scope="session")
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=20) as client:
        yield client


@pytest.fixture
async def many() -> httpx2.AsyncClient:
    """An asynchronous client without a limit of connections; the test closes it."""
    return httpx2.AsyncClient(limits=httpx2.Limits(max_connections=None), timeout=30)
