"""The pytest plugin of accredit: fixtures that import nothing until a test asks for them.

It lives beside the package, and not in it, because a plugin is imported by every run of pytest wherever accredit is
installed, and importing anything of the package would import all of its public face.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from accredit.devserver import DevConfig, DevServer
    from accredit.testing.clock import SteerableClock
    from accredit.testing.kit import TokenRequestCounter
    from accredit.testing.tokens import TokenMaker

__all__ = [
    "accredit_clock",
    "accredit_server",
    "accredit_server_config",
    "accredit_token_requests",
    "accredit_tokens",
]


@pytest.fixture(scope="session")
def accredit_server_config() -> DevConfig:
    """Return the configuration of the server: override this fixture to have other clients."""
    from accredit.devserver import DevConfig

    return DevConfig()


@pytest.fixture
def accredit_server(accredit_server_config: DevConfig) -> Iterator[DevServer]:
    """Give an authorization server that runs for one test; starting it takes about 30 ms."""
    from accredit.devserver import DevServer

    with DevServer(accredit_server_config) as server:
        yield server


@pytest.fixture
def accredit_tokens(accredit_server: DevServer) -> TokenMaker:
    """Return a maker of tokens of any shape, signed with the key of ``accredit_server``."""
    from accredit.testing.tokens import TokenMaker

    return TokenMaker(accredit_server)


@pytest.fixture
def accredit_token_requests(accredit_server: DevServer) -> TokenRequestCounter:
    """Return a counter of the token requests that reach ``accredit_server`` from now on."""
    from accredit.testing.kit import TokenRequestCounter

    return TokenRequestCounter(accredit_server)


@pytest.fixture
def accredit_clock() -> SteerableClock:
    """Return a clock that stands still at this moment, so that tokens of ``accredit_server`` are valid on it."""
    import time

    from accredit.testing.clock import SteerableClock

    return SteerableClock(wall=time.time())
