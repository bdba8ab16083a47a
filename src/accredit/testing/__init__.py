"""For your tests: an authorization server, tokens of any shape, a steerable clock, and the suite of the store contract.

With pytest there is nothing to set up: the fixtures ``accredit_server``, ``accredit_tokens``,
``accredit_token_requests`` and ``accredit_clock`` are there as soon as accredit is installed (where plugins are not
loaded by themselves, put ``pytest_plugins = ["accredit.testing"]`` into ``conftest.py``). Elsewhere, with ``unittest``
for example, use what they are made of::

    with running_server() as server:
        tokens = TokenMaker(server)
        requests = TokenRequestCounter(server)
        with failing(server, 503, retry_after="5"):
            ...

The server needs the extra ``accredit[devserver]``; the clock and
:class:`accredit.testing.store_contract.StoreContract`, which tests a store of your own, need none.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from accredit.testing.clock import SteerableClock

try:
    import pytest
except ImportError:  # pragma: no cover - pytest is there wherever this is tested
    pass
else:
    from _accredit_pytest import (
        accredit_clock,
        accredit_server,
        accredit_server_config,
        accredit_token_requests,
        accredit_tokens,
    )

    # So that a failing assert of the suite shows its values, as those of a test module do.
    pytest.register_assert_rewrite("accredit.testing.store_suite", "accredit.testing.store_contract")

if TYPE_CHECKING:
    # The clock and the store suite have to work where the extra of the server is not installed.
    from accredit.testing.kit import TokenRequestCounter, failing, garbage, holding, running_server, slow
    from accredit.testing.tokens import TokenMaker

__all__ = [
    "SteerableClock",
    "TokenMaker",
    "TokenRequestCounter",
    "accredit_clock",
    "accredit_server",
    "accredit_server_config",
    "accredit_token_requests",
    "accredit_tokens",
    "failing",
    "garbage",
    "holding",
    "running_server",
    "slow",
]

_WHERE = {"TokenMaker": "tokens"} | dict.fromkeys(
    ("TokenRequestCounter", "failing", "garbage", "holding", "running_server", "slow"), "kit"
)


def __getattr__(name: str) -> object:
    """Import what needs the extra of the server when it is asked for."""
    module = _WHERE.get(name)
    if module is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
