"""A server with a protected API, a scripted API, and every client for each test that asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from accredit import TokenManager
from accredit.devserver import DevConfig, DevServer
from tests.integrations.api import ScriptedApi
from tests.integrations.callers import CALLERS, Caller
from tests.runtime.support import CLIENTS, Events, JumpClock, registration
from tests.support.certificates import Authority

_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir", "netrc")
#: A token older than this gets no second of patience.
AGED = 6.0


class MakeCaller(Protocol):
    """Opens a client of the library under test."""

    def __call__(self, given: Any = None, /, **settings: Any) -> Caller: ...


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def server() -> Iterator[DevServer]:
    with DevServer(DevConfig(clients=CLIENTS)) as running:
        yield running


@pytest.fixture
def clock() -> JumpClock:
    return JumpClock()


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def make_manager(server: DevServer, clock: JumpClock, events: Events) -> Iterator[Callable[..., TokenManager]]:
    """Make managers of one registration, ``orders:read`` unless told otherwise."""
    with ExitStack() as stack:

        def make(**changes: Any) -> TokenManager:
            values = {"scope": "orders:read", **changes}
            manager = TokenManager(registration(server, **values), clock=clock, on_event=events)
            stack.callback(manager.close)
            return manager

        yield make


@pytest.fixture
def manager(make_manager: Callable[..., TokenManager], clock: JumpClock) -> TokenManager:
    """Give a manager whose token is there, and too old for a second of patience."""
    made = make_manager()
    made.get()
    clock.shift += AGED
    return made


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    with ScriptedApi() as running:
        yield running


@pytest.fixture
def other_api() -> Iterator[ScriptedApi]:
    with ScriptedApi() as running:
        yield running


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def ca(authority: Authority, tmp_path: Path) -> Path:
    return authority.write(tmp_path)


@pytest.fixture
def tls_api(authority: Authority, tmp_path: Path) -> Iterator[ScriptedApi]:
    leaf = authority.issue("127.0.0.1", "localhost")
    with ScriptedApi(context=leaf.server_context(tmp_path)) as running:
        yield running


@pytest.fixture(params=CALLERS)
def library(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def make_caller(library: str, manager: TokenManager) -> Iterator[MakeCaller]:
    with ExitStack() as stack:

        def make(given: Any = None, /, **settings: Any) -> Caller:
            caller = CALLERS[library](given or manager, stack=stack, **settings)
            caller.open()
            return caller

        yield make


@pytest.fixture
def caller(make_caller: MakeCaller) -> Caller:
    return make_caller()
