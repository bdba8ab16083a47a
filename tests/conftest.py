"""What every test can use."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each asynchronous test (``pytest.mark.anyio``) on both event loops."""
    backend: str = request.param
    return backend
