"""The matrix again, with the authorization server and every API behind TLS: the same tests, the same counts.

Over https each client takes the short way where it has one, and redirects between origins keep their scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from accredit import TokenManager
from accredit.devserver import DevConfig, DevServer
from accredit.transport import HttpTransport, TransportSettings
from tests.integrations.api import ScriptedApi
from tests.integrations.callers import CALLERS, Caller
from tests.integrations.conftest import MakeCaller
from tests.integrations.test_matrix import (
    test_403_and_others_reach_the_caller,
    test_a_redirect_to_another_origin,
    test_always_401,
    test_api_origins,
    test_expired,
    test_ok,
    test_revoked,
    test_stream,
    test_the_callers_own_header_wins,
)
from tests.runtime.support import CLIENTS, Events, JumpClock, registration
from tests.support.certificates import Authority

__all__ = [
    "test_403_and_others_reach_the_caller",
    "test_a_redirect_to_another_origin",
    "test_always_401",
    "test_api_origins",
    "test_expired",
    "test_ok",
    "test_revoked",
    "test_stream",
    "test_the_callers_own_header_wins",
]


@pytest.fixture(scope="session")
def leaf(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return authority.issue("127.0.0.1", "localhost").write(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(leaf: tuple[Path, Path]) -> Iterator[DevServer]:
    certificate, key = leaf
    with DevServer(DevConfig(clients=CLIENTS), certfile=str(certificate), keyfile=str(key)) as running:
        assert running.url.startswith("https://")
        assert running.api_url.startswith("https://")
        yield running


@pytest.fixture
def make_manager(
    server: DevServer, clock: JumpClock, events: Events, ca: Path
) -> Iterator[Callable[..., TokenManager]]:
    with ExitStack() as stack:

        def make(**changes: Any) -> TokenManager:
            values = {"scope": "orders:read", **changes}
            transport = HttpTransport(TransportSettings(ca_file=ca))
            manager = TokenManager(registration(server, **values), clock=clock, on_event=events, transport=transport)
            stack.callback(manager.close)
            return manager

        yield make


@pytest.fixture
def make_api(authority: Authority, tmp_path: Path) -> Iterator[Callable[[], ScriptedApi]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(
            ScriptedApi(context=authority.issue("127.0.0.1").server_context(tmp_path, "api"))
        )


@pytest.fixture
def api(make_api: Callable[[], ScriptedApi]) -> ScriptedApi:
    return make_api()


@pytest.fixture
def other_api(make_api: Callable[[], ScriptedApi]) -> ScriptedApi:
    return make_api()


@pytest.fixture
def make_caller(library: str, manager: TokenManager, ca: Path) -> Iterator[MakeCaller]:
    with ExitStack() as stack:

        def make(given: Any = None, /, **settings: Any) -> Caller:
            caller = CALLERS[library](given or manager, stack=stack, **{"ca": ca, **settings})
            caller.open()
            return caller

        yield make
