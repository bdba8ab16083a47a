"""Which configuration file is read, and which is not trusted."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from accredit.cli.locate import distrust
from accredit.devserver import DevServer
from tests.cli.support import CANARY, Run

posix = pytest.mark.skipif(os.name != "posix", reason="owner and mode are a POSIX matter")


@pytest.fixture
def local(server: DevServer, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ACCREDIT_ISSUER", "ACCREDIT_CLIENT_ID", "ACCREDIT_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    path = elsewhere / "accredit.toml"
    path.write_text(
        f'[registration.here]\nissuer = "{server.issuer}"\nclient_id = "api-client"\nclient_secret = "{CANARY}"\n',
        encoding="utf-8",
    )
    path.chmod(0o600)
    return path


def refused(run: Run, server: DevServer) -> str:
    ran = run("token")
    assert ran.code == 3
    assert ran.err.startswith("accredit: configuration: --config: ./accredit.toml is not read: ")
    assert "accredit --config ./accredit.toml" in ran.err
    assert server.count() == 0
    return ran.err


def test_a_file_of_the_users_own_is_read(local: Path, run_process: Run) -> None:
    assert local.exists()
    ran = run_process("token")
    assert (ran.code, ran.err) == (0, "")


def test_a_named_file_goes_before(local: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(local.read_text(encoding="utf-8").replace("registration.here", "registration.there"), "utf-8")
    other.chmod(0o600)
    assert "There are: here." in run("token", "nobody").err
    assert "There are: there." in run("--config", str(other), "token", "nobody").err
    monkeypatch.setenv("ACCREDIT_CONFIG", str(other))
    assert "There are: there." in run("token", "nobody").err
    assert "There are: here." in run("--config", str(local), "token", "nobody").err
    monkeypatch.setenv("ACCREDIT_CONFIG", "")
    assert run("token").code == 3


@posix
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(local: Path, run: Run, server: DevServer, mode: int) -> None:
    local.chmod(mode)
    assert "other users can write to it" in refused(run, server)
    assert run("--config", "accredit.toml", "token").code == 0


@posix
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_that_others_can_write_is_refused(local: Path, run: Run, server: DevServer, mode: int) -> None:
    local.parent.chmod(mode)
    assert "write to this directory" in refused(run, server)


@posix
def test_a_link_is_refused(local: Path, run: Run, server: DevServer, tmp_path: Path) -> None:
    local.rename(tmp_path / "real.toml")
    local.symlink_to(tmp_path / "real.toml")
    assert "symbolic link" in refused(run, server)
    local.unlink()
    local.symlink_to(tmp_path / "nowhere")
    assert "symbolic link" in refused(run, server)


@posix
def test_what_is_no_file_is_refused(local: Path, run: Run, server: DevServer) -> None:
    local.unlink()
    local.mkdir()
    assert "not a regular file" in refused(run, server)


def status(mode: int, owner: int) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, owner, owner, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("file", "directory", "reason"),
    [
        ((0o100600, 7), (0o40700, 7), ""),
        ((0o100644, 7), (0o40755, 7), ""),
        ((0o100600, 7), (0o40755, 0), ""),
        ((0o100600, 0), (0o40755, 0), "it belongs to another user"),
        ((0o100600, 8), (0o40700, 7), "it belongs to another user"),
        ((0o100600, 7), (0o40755, 8), "this directory belongs to another user"),
        ((0o100600, 7), (0o40777, 0), "other users can write to this directory"),
        ((0o120777, 7), (0o40700, 7), "it is a symbolic link"),
        ((0o010600, 7), (0o40700, 7), "it is not a regular file"),
    ],
)
def test_whom_a_file_and_its_directory_belong_to(
    file: tuple[int, int], directory: tuple[int, int], reason: str
) -> None:
    assert distrust(status(*file), status(*directory), 7) == reason


@posix
def test_a_file_that_cannot_be_examined_is_refused(
    local: Path, run: Run, server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_path: str) -> os.stat_result:
        raise PermissionError

    assert local.exists()
    monkeypatch.setattr(os, "lstat", denied)
    assert "cannot be examined" in refused(run, server)


@posix
def test_a_secret_that_others_can_read_is_warned_about(local: Path, run: Run) -> None:
    local.chmod(0o644)
    ran = run("token")
    assert ran.code == 0
    assert ran.err.startswith("accredit: warning: registration.here.client_secret: ")
    assert ran.err.count("\n") == 1
    assert logging.getLogger("accredit.config").handlers == []
