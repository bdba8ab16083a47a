"""What every test can use."""

from __future__ import annotations

import os

import hypothesis
import pytest

# How long an example takes says more about the machine than about the code; what is slow has a benchmark.
hypothesis.settings.register_profile(
    "accredit", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
# A mutation run calls the same tests many times in one process, each time from new instances of their classes,
# and wants the same verdict each time, soon: a survivor is not worth more examples, nor a killed mutant the
# smallest one.
hypothesis.settings.register_profile(
    "mutation",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.differing_executors],
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    max_examples=40,
    derandomize=True,
    database=None,
)
hypothesis.settings.load_profile("mutation" if "MUTANT_UNDER_TEST" in os.environ else "accredit")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each asynchronous test (``pytest.mark.anyio``) on both event loops."""
    backend: str = request.param
    return backend
