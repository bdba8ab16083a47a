"""Where the store file lies on each platform, and what is no place for tokens."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from accredit.errors import StoreError
from accredit.stores import places
from accredit.stores.places import check_file, default_path, file_system_of, is_local, prepare_folder

POSIX = pytest.mark.skipif(os.name != "posix", reason="modes and owners are those of POSIX")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@POSIX
@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {"XDG_STATE_HOME": "/state"}, "/state/accredit/tokens.sqlite3"),
        ("linux", {"HOME": "{home}"}, "{home}/.local/state/accredit/tokens.sqlite3"),
        ("linux", {"XDG_STATE_HOME": "", "HOME": "{home}"}, "{home}/.local/state/accredit/tokens.sqlite3"),
        ("linux", {"XDG_STATE_HOME": "relative", "HOME": "{home}"}, "{home}/.local/state/accredit/tokens.sqlite3"),
        ("freebsd14", {"HOME": "{home}"}, "{home}/.local/state/accredit/tokens.sqlite3"),
        ("darwin", {"HOME": "{home}"}, "{home}/Library/Application Support/accredit/tokens.sqlite3"),
        (
            "darwin",
            {"HOME": "{home}", "XDG_STATE_HOME": "/state"},
            "{home}/Library/Application Support/accredit/tokens.sqlite3",
        ),
        ("win32", {"LOCALAPPDATA": "/C/Users/x/AppData/Local"}, "/C/Users/x/AppData/Local/accredit/tokens.sqlite3"),
    ],
)
def test_the_state_directory_of_each_platform(
    tmp_path: Path, platform: str, environ: dict[str, str], expected: str
) -> None:
    environ = {name: value.format(home=tmp_path) for name, value in environ.items()}
    assert str(default_path(environ, platform)) == expected.format(home=tmp_path)


@POSIX
@pytest.mark.parametrize(
    ("platform", "environ"),
    [
        ("linux", {}),
        ("linux", {"HOME": ""}),
        ("linux", {"HOME": "/"}),
        ("linux", {"HOME": "//"}),
        ("linux", {"HOME": "/nonexistent"}),
        ("linux", {"HOME": "relative"}),
        ("darwin", {"HOME": "/var/empty/none"}),
        ("win32", {"HOME": "/home/x"}),
    ],
)
def test_who_has_no_home_has_no_place(platform: str, environ: dict[str, str]) -> None:
    with pytest.raises(StoreError, match="no directory for state"):
        default_path(environ, platform)


@POSIX
def test_folders_that_are_missing_are_made_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        prepare_folder(tmp_path / "a" / "b" / "accredit")
    finally:
        os.umask(before)
    for folder in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "accredit"):
        assert mode_of(folder) == 0o700


@POSIX
def test_a_folder_of_ours_is_closed_to_others_and_one_that_was_named_is_left_alone(tmp_path: Path) -> None:
    for name, after in (("accredit", 0o700), ("named", 0o755)):
        folder = tmp_path / name
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
        prepare_folder(folder)
        assert mode_of(folder) == after


def others_can_write(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def sticky(path: Path) -> None:
    path.mkdir()
    path.chmod(0o1777)


def group_can_write(path: Path) -> None:
    path.mkdir()
    path.chmod(0o770)


def link(path: Path) -> None:
    real = path.with_name("real")
    real.mkdir(mode=0o700)
    path.symlink_to(real)


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def a_file(path: Path) -> None:
    path.write_text("x")


@POSIX
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (others_can_write, "other users can write to it"),
        (sticky, "other users can write to it"),
        (group_can_write, "other users can write to it"),
        (link, "symbolic link"),
        (dangling, "symbolic link"),
        (a_file, "not a directory"),
    ],
)
def test_a_folder_that_is_no_place(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    folder = tmp_path / "accredit"
    make(folder)
    with pytest.raises(StoreError, match=says) as raised:
        prepare_folder(folder)
    assert str(folder) in str(raised.value)
    assert raised.value.reason == "place"


@POSIX
def test_nothing_is_made_in_the_folder_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with sudo, which keeps HOME: root must leave nothing there that the user cannot read any more."""
    there = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: there + 1)
    for folder in (tmp_path / "state" / "accredit", tmp_path):
        with pytest.raises(StoreError, match="belongs to another user"):
            prepare_folder(folder)
    assert list(tmp_path.iterdir()) == []


@POSIX
def test_nothing_is_made_where_others_can_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(StoreError, match="other users can write"):
        prepare_folder(tmp_path / "accredit")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match="cannot be made \\(Read-only file system\\)"):
        prepare_folder(tmp_path / "accredit")


@POSIX
def test_a_file_is_closed_to_others(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    assert check_file(file) is None
    file.write_text("x")
    file.chmod(0o644)
    assert check_file(file) is not None
    assert mode_of(file) == 0o600


@POSIX
@pytest.mark.parametrize(("make", "says"), [(link, "symbolic link"), (dangling, "symbolic link"), (sticky, "regular")])
def test_a_file_that_is_none(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    make(tmp_path / "tokens")
    with pytest.raises(StoreError, match=says):
        check_file(tmp_path / "tokens")


@POSIX
def test_a_file_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tokens"
    file.write_text("x")
    there = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: there + 1)
    with pytest.raises(StoreError, match="belongs to another user"):
        check_file(file)


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw shared:2 - proc proc rw
40 22 0:50 / /home rw,relatime - nfs4 server:/home rw
41 40 0:51 / /home/local rw master:1 shared:7 - xfs /dev/sdb rw
42 22 0:52 / /mnt/with\\040blank rw - cifs //server/share rw
43 22 0:53 / /over rw - ext4 /dev/sdc rw
44 22 0:54 / /over rw - fuse.sshfs host:/ rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/tmp/x", "ext4"),
        ("/home", "nfs4"),
        ("/home/user/.local", "nfs4"),
        ("/home/local/x", "xfs"),
        ("/homely", "ext4"),
        ("/mnt/with blank/x", "cifs"),
        ("/over/x", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert file_system_of(path, MOUNTS) == kind


def test_only_what_is_known_to_be_local_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr(places, "_MOUNTS", mounts)
    assert not is_local(tmp_path)
    for kind, expected in (
        ("ext4", True),
        ("tmpfs", True),
        ("nfs4", False),
        ("9p", False),
        ("fuse.sshfs", False),
        ("newfs", False),
    ):
        mounts.write_text(f"22 1 8:1 / / rw - {kind} dev rw\n")
        assert is_local(tmp_path) is expected


def test_a_share_is_no_local_drive() -> None:
    assert not places._is_local_drive(r"\\server\share\folder")
    assert not places._is_local_drive("/unix/path")
