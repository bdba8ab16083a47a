"""A server, an environment that names it, and two ways to run the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from accredit.cli.main import main
from accredit.core.secret import Secret
from accredit.devserver import DevClient, DevConfig, DevServer
from tests.cli.support import CANARY, Ran, Run


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a private directory, with nothing configured."""
    for name in list(os.environ):
        if name.startswith("ACCREDIT_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    # What runs keep for later ones lies here, whatever the platform.
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    for name in ("HOME", "XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home))
    place = tmp_path / "work"
    place.mkdir(mode=0o700)
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[DevServer]:
    client = DevClient(client_id="api-client", client_secret=Secret(CANARY), audiences=("https://api.example/a",))
    with DevServer(DevConfig(clients=(client,))) as running:
        monkeypatch.setenv("ACCREDIT_ISSUER", running.issuer)
        monkeypatch.setenv("ACCREDIT_CLIENT_ID", "api-client")
        monkeypatch.setenv("ACCREDIT_CLIENT_SECRET", CANARY)
        yield running


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run the command line in this process, and see that its secret is nowhere."""

    def runs(*arguments: str) -> Ran:
        capsysbinary.readouterr()
        code = main(arguments)
        out, err = capsysbinary.readouterr()
        assert CANARY not in err.decode()
        assert CANARY.encode() not in out
        assert "Traceback" not in err.decode()
        return Ran(code, out, err.decode())

    return runs


@pytest.fixture
def run_process() -> Run:
    """Run the command line as a process of its own."""

    def runs(*arguments: str, stdin: bytes = b"") -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "accredit.cli", *arguments],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert CANARY not in done.stderr.decode()
        assert "Traceback" not in done.stderr.decode()
        return Ran(done.returncode, done.stdout, done.stderr.decode())

    return runs
