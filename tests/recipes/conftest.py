"""A development server for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from accredit.devserver import DevConfig, DevServer
from tests.runtime.support import CLIENTS


@pytest.fixture
def server() -> Iterator[DevServer]:
    with DevServer(DevConfig(clients=CLIENTS)) as running:
        yield running
