"""A development server of one's own for each test, and no proxies of the environment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
