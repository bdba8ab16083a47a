"""For your tests: an authorization server, a steerable clock, and the suite of the store contract.

Put this into your ``conftest.py``; the server needs the extra ``accredit[devserver]``::

    pytest_plugins = ["accredit.testing"]

Then a test that asks for ``accredit_server`` gets a running :class:`accredit.devserver.DevServer` with an empty log,
no failures, no latency and nothing held. Time is steered with :class:`accredit.testing.clock.SteerableClock`, and
:class:`accredit.testing.store_contract.StoreContract` tests a store of your own; neither needs an extra.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from accredit.testing.clock import SteerableClock

if TYPE_CHECKING:
    # The clock and the store suite have to work where the extra of the server is not installed.
    from accredit.devserver import DevConfig, DevServer

# So that a failing assert of the suite shows its values, as those of a test module do.
pytest.register_assert_rewrite("accredit.testing.store_suite", "accredit.testing.store_contract")

__all__ = ["SteerableClock", "accredit_server", "accredit_server_config"]


@pytest.fixture(scope="session")
def accredit_server_config() -> DevConfig:
    """Return the configuration of the server: override this fixture to have other clients."""
    from accredit.devserver import DevConfig

    return DevConfig()


@pytest.fixture
def accredit_server(accredit_server_config: DevConfig) -> Iterator[DevServer]:
    """Give a development server that runs for one test; starting it takes about 30 ms."""
    from accredit.devserver import DevServer

    with DevServer(accredit_server_config) as server:
        yield server
