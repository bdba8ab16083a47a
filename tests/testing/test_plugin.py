"""The pytest plugin: its fixtures work with nothing set up, and it costs nothing where it is not used."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

HEAVY = ("accredit", "uvicorn", "cryptography", "httpx2", "asyncio")

USED = """
from accredit import ClientRegistration, ClientSecretBasic, TokenManager
from accredit.verifier import TokenVerifier, TrustedIssuer

def test_server(accredit_server, accredit_tokens, accredit_token_requests, accredit_clock):
    registration = ClientRegistration(
        id="x", issuer=accredit_server.issuer, client_id="api-client", client_auth=ClientSecretBasic("dev-secret")
    )
    with TokenManager(registration) as tokens:
        tokens.get()
        tokens.get()
    assert accredit_token_requests.count == 1
    trusted = TrustedIssuer(accredit_server.issuer, accredit_server.config.default_audience)
    with TokenVerifier(trusted, clock=accredit_clock) as verifier:
        assert verifier.verify(accredit_tokens.valid()).client_id == "api-client"
"""
OVERRIDDEN = """
import pytest
from accredit.devserver import DevClient, DevConfig

@pytest.fixture(scope="session")
def accredit_server_config():
    return DevConfig(clients=(DevClient(client_id="mine", client_secret="s"),))

def test_client(accredit_server, accredit_tokens):
    assert accredit_server.client.client_id == accredit_tokens.client_id == "mine"
"""
UNUSED = """
import sys

def test_nothing():
    loaded = sorted(name for name in {heavy!r} if name in sys.modules)
    assert loaded == []
"""


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | variables
    return subprocess.run(
        [*command, str(folder)], capture_output=True, text=True, timeout=100, check=False, cwd=folder, env=environment
    )


def test_the_plugin_is_registered_and_lies_beside_the_package() -> None:
    found = [point for point in importlib.metadata.entry_points(group="pytest11") if point.name == "accredit"]
    assert {point.value for point in found} == {"_accredit_pytest"}


def test_fixtures_are_there_with_nothing_set_up(tmp_path: Path) -> None:
    (tmp_path / "test_used.py").write_text(USED)
    (tmp_path / "test_overridden.py").write_text(OVERRIDDEN)
    done = run(tmp_path, "--strict-config", "--strict-markers", "-W", "error")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_it_loads_nothing_where_it_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(UNUSED.format(heavy=HEAVY))
    # Other plugins of this environment would import what they like.
    done = run(tmp_path, "-p", "_accredit_pytest", "-W", "error", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_where_plugins_are_not_loaded_by_themselves(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["accredit.testing"]\n')
    (tmp_path / "test_it.py").write_text(USED)
    for variables in ({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, {}):
        done = run(tmp_path, "-W", "error", **variables)
        assert done.returncode == 0, done.stdout + done.stderr
