"""A development server of one's own for each test, and managers that are closed afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from accredit import TokenManager
from accredit.devserver import DevConfig, DevServer
from tests.runtime.support import CLIENTS, JumpClock

_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[DevServer]:
    with DevServer(DevConfig(clients=CLIENTS)) as running:
        yield running


@pytest.fixture
def clock() -> JumpClock:
    return JumpClock()


@pytest.fixture
def make_manager() -> Iterator[Callable[..., TokenManager]]:
    made: list[TokenManager] = []

    def make(*arguments: object, **settings: object) -> TokenManager:
        manager = TokenManager(*arguments, **settings)  # type: ignore[arg-type]
        made.append(manager)
        return manager

    yield make
    for manager in made:
        manager.close()
