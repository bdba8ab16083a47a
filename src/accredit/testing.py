"""A pytest plugin: a real authorization server and a protected API on free loopback ports.

Put this into your ``conftest.py``; it needs the extra ``accredit[devserver]``::

    pytest_plugins = ["accredit.testing"]

Then a test that asks for ``accredit_server`` gets a running :class:`accredit.devserver.DevServer` with an empty log,
no failures, no latency and nothing held.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from accredit.devserver import DevConfig, DevServer


@pytest.fixture(scope="session")
def accredit_server_config() -> DevConfig:
    """Return the configuration of the server: override this fixture to have other clients."""
    return DevConfig()


@pytest.fixture
def accredit_server(accredit_server_config: DevConfig) -> Iterator[DevServer]:
    """Give a development server that runs for one test; starting it takes about 30 ms."""
    with DevServer(accredit_server_config) as server:
        yield server
