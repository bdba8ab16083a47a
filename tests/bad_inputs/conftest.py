"""No variable of the developer reaches these tests, everything is logged, and there is one certificate authority."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.bad_inputs.invariants import check_log
from tests.support.certificates import Authority

_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir", "accredit_config")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def _no_canary_in_the_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    check_log(caplog.get_records("call"))


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()
