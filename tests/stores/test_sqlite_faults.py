"""Whatever happens to the file, no call fails: the process goes on alone, says why, and comes back."""

from __future__ import annotations

import ast
import contextlib
import logging
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accredit.core.events import StoreFailed
from accredit.errors import StoreError
from accredit.stores import database
from accredit.stores.sqlite import SqliteStore
from accredit.testing.store_contract import make_identity, make_record
from tests.stores.support import Issuer, in_child, one_call, process, raw, rows

POSIX = pytest.mark.skipif(os.name != "posix", reason="modes, owners and limits are those of POSIX")
ROOT = os.name == "posix" and os.geteuid() == 0
NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.sqlite3"


def store_at(path: Path, **changes: Any) -> SqliteStore:
    return SqliteStore(path, **({"timeout": 0.05} | changes))


# -- each fault: what the call gets, what is said -----------------------------------------------------


def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def locked_for_readers_too(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE").fetchall()
        other.execute("BEGIN EXCLUSIVE")
        yield


def another_program(path: Path) -> Iterator[None]:
    path.unlink()
    rows(path, "CREATE TABLE theirs (x)")
    rows(path, "PRAGMA application_id = 7")
    yield


def no_database(path: Path) -> Iterator[None]:
    path.write_bytes(b"my diary\n" * 1000)
    yield


def a_directory(path: Path) -> Iterator[None]:
    path.unlink()
    path.mkdir()
    yield


def a_link(path: Path) -> Iterator[None]:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))
    yield


def open_folder(path: Path) -> Iterator[None]:
    path.parent.chmod(0o777)
    try:
        yield
    finally:
        path.parent.chmod(0o700)


FAULTS: list[tuple[Callable[[Path], Iterator[None]], str, str]] = [
    (locked, "locked", "it is locked by another process"),
    (locked_for_readers_too, "locked", "it is locked by another process"),
    (another_program, "place", "an SQLite file of another program"),
    (no_database, "damaged", "no SQLite file"),
    (a_directory, "place", "not a regular file"),
    (a_link, "place", "a symbolic link"),
    (open_folder, "place", "other users can write to it"),
]


@POSIX
@pytest.mark.parametrize(("fault", "reason", "says"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_no_call_fails_and_the_reason_is_told(
    path: Path,
    fault: Callable[[Path], Iterator[None]],
    reason: str,
    says: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = store_at(path)
    with pytest.raises(StoreError) as raised, contextlib.contextmanager(fault)(_made(path)):
        store.claim(make_identity(), newer_than=None, credential="", owner="a", lease=1.0)
    assert raised.value.reason == reason
    assert raised.value.__context__ is None
    path.unlink() if not path.is_dir() else path.rmdir()
    caplog.set_level(logging.WARNING, "accredit")
    with contextlib.contextmanager(fault)(_made(path)):
        before = _content(path)
        issuer = Issuer()
        with process(store, issuer) as (manager, events):
            tokens = {manager.get().value for _ in range(5)}
        assert issuer.count == len(tokens) == 1
        failures = events.of(StoreFailed)
        assert {failure.kind for failure in failures} <= {"StoreError", reason}
        assert all(says in failure.reason for failure in failures)
        assert "canary" not in caplog.text
        assert caplog.text.count(says) == len({failure.operation for failure in failures})
        assert _content(path) == before  # what is not ours is not touched
    store.close()


def _made(path: Path) -> Path:
    """Return the path of a store file that there is, and that nobody has open."""
    store = store_at(path)
    store.read(make_identity())
    store.close()
    return path


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


@POSIX
def test_a_home_of_another_user_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sudo keeps HOME: root must leave no file there."""
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    there = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: there + 1)
    issuer = Issuer()
    token, events = one_call(SqliteStore(), issuer)
    assert token.value.startswith("canary")
    assert {failure.reason.partition(":")[2].split(".")[0] for failure in events.of(StoreFailed)} == {
        " it belongs to another user"
    }
    assert list(tmp_path.iterdir()) == []


def test_without_a_home_tokens_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(os.path, "expanduser", lambda text: text)
    _, events = one_call(SqliteStore(), Issuer())
    assert "no directory for state" in events.of(StoreFailed)[0].reason


def test_back_in_use_when_the_lock_is_gone(path: Path) -> None:
    issuer = Issuer()
    with contextlib.contextmanager(locked)(_made(path)):
        first, _ = one_call(store_at(path), issuer)
    second, events = one_call(store_at(path), issuer)
    third, _ = one_call(store_at(path), issuer)
    assert (issuer.count, events.of(StoreFailed)) == (2, [])
    assert first.value != second.value == third.value


def test_who_only_looks_is_not_kept_waiting_by_who_writes(path: Path) -> None:
    store = store_at(path)
    issuer = Issuer()
    one_call(store, issuer)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        _, events = one_call(store, issuer)
    assert (issuer.count, events.of(StoreFailed)) == (1, [])


# -- deleted, replaced --------------------------------------------------------------------------------


def delete_the_file(path: Path) -> None:
    path.unlink()


def delete_everything(path: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()


def delete_the_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def replace_it(path: Path) -> None:
    other = path.with_name("other")
    store = store_at(other)
    store.read(make_identity())
    store.close()
    other.replace(path)


def move_it(path: Path) -> None:
    path.rename(path.with_name("moved"))


@POSIX
@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize(
    "delete", [delete_the_file, delete_everything, delete_the_folder, replace_it, move_it], ids=lambda f: f.__name__
)
def test_deleted_while_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delete: Callable[[Path], None], local: bool
) -> None:
    monkeypatch.setattr(database, "is_local", lambda _: local)
    path = tmp_path / "accredit" / "tokens.sqlite3"
    issuer = Issuer()
    stores = [store_at(path, timeout=10.0) for _ in range(2)]
    for store in stores:
        one = make_identity()
        store.publish(one, owner="a", record=make_record(one), remaining=60.0, credential="", based_on=None)
    delete(path)
    for _ in range(2):
        for store in stores:
            identity = make_identity()
            assert store.read(identity) is None
            store.publish(
                identity, owner="a", record=make_record(identity), remaining=60.0, credential="", based_on=None
            )
            for reader in stores:
                assert reader.read(identity) is not None
    for store in stores:
        store.close()
    _, events = one_call(store_at(path), issuer)
    assert events.of(StoreFailed) == []
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


# -- damaged ------------------------------------------------------------------------------------------


def _filled(path: Path) -> bytes:
    store = store_at(path)
    for number in range(30):
        identity = make_identity(registration_id=f"r{number}")
        record = make_record(identity, "x" * 400)
        store.publish(identity, owner="a", record=record, remaining=3600.0, credential="", based_on=None)
    store.close()
    return path.read_bytes()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=300)), min_size=1, max_size=4), st.floats(0, 1)
)
def test_a_damaged_file_fails_no_call(damages: list[tuple[float, bytes]], keep: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.sqlite3"
        data = bytearray(_damage_base())
        for place, garbage in damages:
            start = int(place * (len(data) - len(garbage)))
            data[start : start + len(garbage)] = garbage
        cut = len(data) if keep > 0.3 else int(keep / 0.3 * len(data))
        path.touch(mode=0o600)
        path.write_bytes(data[:cut])
        issuer = Issuer()
        store = store_at(path, timeout=5.0)
        for _ in range(3):
            token, events = one_call(store, issuer, registration_id="r7")
            assert token.value.startswith(("canary", "x"))
            kinds = {failure.kind for failure in events.of(StoreFailed)}
            assert kinds <= {"StoreError", "damaged", "place"}
        store.close()


_BASE: list[bytes] = []


def _damage_base() -> bytes:
    if not _BASE:
        with tempfile.TemporaryDirectory() as folder:
            _BASE.append(_filled(Path(folder) / "tokens.sqlite3"))
    return _BASE[0]


def test_a_file_of_ours_that_is_damaged_is_made_anew(path: Path) -> None:
    data = bytearray(_filled(path))
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    issuer = Issuer()
    _, events = one_call(store_at(path), issuer)
    assert events.of(StoreFailed) == []
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    one_call(store_at(path), issuer)
    assert issuer.count == 1


def test_two_stores_that_find_the_damage_at_once_make_one_new_file(path: Path) -> None:
    data = bytearray(_filled(path))
    stores = [store_at(path) for _ in range(2)]
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    for store in stores:
        store.read(make_identity())
    one_call(stores[0], issuer := Issuer())
    one_call(stores[1], issuer)
    assert issuer.count == 1


def test_a_store_that_notices_after_another_one_mended_it_keeps_the_new_file(path: Path) -> None:
    first, second = store_at(path), store_at(path)
    data = bytearray(_filled(path))
    second.read(make_identity())  # has the file open that gets damaged
    path.write_bytes(bytes(data[:4096]) + b"\xff" * (len(data) - 4096))
    one_call(first, issuer := Issuer())
    inode = path.stat().st_ino
    one_call(second, issuer)
    assert path.stat().st_ino == inode
    assert issuer.count == 1


def test_who_finds_the_damage_late_does_not_remove_what_another_one_made_meanwhile(path: Path) -> None:
    store = store_at(path)
    store.read(make_identity())
    replace_it(path)  # between the moment the damage was found and the moment the file would be removed
    inode = path.stat().st_ino
    assert store._database._discard()
    assert path.stat().st_ino == inode
    store.close()


# -- full, read-only ----------------------------------------------------------------------------------


@POSIX
def test_a_limit_on_file_sizes(path: Path) -> None:
    """The nearest thing to a full disk that needs no privileges: no write beyond 28 KB succeeds."""
    import resource

    def child() -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (28_000, 28_000))
        issuer = Issuer()
        store = store_at(path)
        reasons: set[str] = set()
        for number in range(40):
            token, events = one_call(store, issuer, registration_id=f"r{number}", keep_members=())
            assert token.value
            reasons |= {failure.reason.partition(": ")[2].split(".")[0] for failure in events.of(StoreFailed)}
        store.close()
        return issuer.count, sorted(reasons)

    count, reasons = ast.literal_eval(in_child(child))
    assert count == 40
    assert reasons == ["reading or writing failed"]
    # And when there is room again, all is well.
    _, events = one_call(store_at(path), Issuer(), registration_id="later")
    assert events.of(StoreFailed) == []
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.skipif(not ROOT, reason="mounting a small file system needs root")
def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k,mode=0700", "none", disk], check=False)
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        path = disk / "tokens.sqlite3"
        issuer = Issuer()
        store = store_at(path)
        one_call(store, issuer)
        _fill(disk / "filler")
        reasons = set()
        for number in range(20):
            token, events = one_call(store, issuer, registration_id=f"r{number}")
            assert token.value
            reasons |= {failure.reason.partition(": ")[2].split(".")[0] for failure in events.of(StoreFailed)}
        assert reasons <= {"there is no room left", "reading or writing failed"}
        assert reasons
        (disk / "filler").unlink()
        _, events = one_call(store, issuer, registration_id="later")
        assert events.of(StoreFailed) == []
        assert rows(path, "PRAGMA integrity_check") == [("ok",)]
        store.close()
    finally:
        subprocess.run(["umount", disk], check=True)


def _fill(file: Path) -> None:
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as filler:
        while filler.write(b"x" * 512):
            pass


@POSIX
@pytest.mark.parametrize("what", ["file", "folder"])
def test_read_only(what: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="accredit-read-only-"))
    try:
        path = folder / "tokens.sqlite3"
        issuer = Issuer()
        kept, _ = one_call(store_at(path), issuer)
        if ROOT:
            for each in (folder, path):
                os.chown(each, NOBODY, NOBODY)
        (path if what == "file" else folder).chmod(0o400 if what == "file" else 0o500)

        def child() -> object:
            store = store_at(path)
            known, _ = one_call(store, issuer)
            other, events = one_call(store, issuer, registration_id="other")
            store.close()
            return known.value, other.value, sorted({failure.operation for failure in events.of(StoreFailed)})

        known, other, failed = ast.literal_eval(in_child(child, user=NOBODY if ROOT else None))
        assert other.startswith("canary")
        assert failed
        if what == "file":
            assert known == kept.value  # what can be read is still used
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


def test_nothing_of_a_token_is_in_what_a_failure_leaves_behind(path: Path) -> None:
    """The error that a verb raises has no frame that holds the token."""
    identity = make_identity()
    with contextlib.contextmanager(locked)(_made(path)), pytest.raises(StoreError) as raised:
        store_at(path).publish(
            identity, owner="a", record=make_record(identity, "canary"), remaining=60.0, credential="", based_on=None
        )
    assert raised.value.__context__ is None
    assert raised.value.__cause__ is None
    assert "canary" not in str(raised.value)
    assert b"canary" not in raw(path)
