"""What every test can use."""

from __future__ import annotations

import hypothesis
import pytest

# How long an example takes says more about the machine than about the code; what is slow has a benchmark.
hypothesis.settings.register_profile(
    "accredit", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("accredit")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each asynchronous test (``pytest.mark.anyio``) on both event loops."""
    backend: str = request.param
    return backend
