"""Transports for these tests: one that no environment variable of the developer reaches, and one authority."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from accredit.transport import HttpTransport, TransportSettings
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir", "request_method")


def loopback(host: str, port: int) -> Sequence[str]:
    """Resolve every name to this machine."""
    assert host, port
    return ["127.0.0.1"]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def transport() -> Iterator[HttpTransport]:
    """Return a transport that resolves every name to 127.0.0.1."""
    transport = HttpTransport(TransportSettings(resolve=loopback))
    yield transport
    transport.close()


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Return the authority that the test servers' certificates come from."""
    return Authority()
