"""The SQLite store beyond the contract: its file, its bounds, boots, forks, and what operators see."""

from __future__ import annotations

import itertools
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from accredit.core.identity import Identity
from accredit.core.records import Hold, Lead, Satisfied, Stored, Wait
from accredit.errors import ConfigurationError, StoreError, ThrottledError, UnreachableError
from accredit.stores import database
from accredit.stores.envelope import Keyring, generate_key
from accredit.stores.sqlite import SqliteStore
from accredit.testing.clock import SteerableClock
from accredit.testing.store_contract import make_identity, make_record
from tests.stores.support import in_child, raw, rows

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
POSIX = pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
IDENTITY = make_identity(registration_id="api-client")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "accredit" / "tokens.sqlite3"


@pytest.fixture
def clock() -> SteerableClock:
    return SteerableClock()


def open_store(path: Path, **settings: Any) -> SqliteStore:
    return SqliteStore(path, **({"timeout": 10.0} | settings))


def publish(
    store: SqliteStore, identity: Identity = IDENTITY, value: str = "canary-token", remaining: float = 3600.0
) -> Stored:
    record = make_record(identity, value)
    return store.publish(identity, owner="a", record=record, remaining=remaining, credential="t", based_on=None)


def claim(store: SqliteStore, identity: Identity = IDENTITY, owner: str = "a") -> Any:
    return store.claim(identity, newer_than=None, credential="t", owner=owner, lease=30.0).directive


# -- the file -----------------------------------------------------------------------------------------


def test_nothing_is_opened_or_made_before_the_first_verb(path: Path) -> None:
    store = open_store(path)
    store.close()
    assert not path.parent.exists()
    assert claim(store) == Lead(0)
    assert path.exists()
    store.close()


@POSIX
def test_only_the_user_can_open_it(path: Path) -> None:
    before = os.umask(0)
    try:
        store = open_store(path)
        publish(store)
        files = list(path.parent.iterdir())
    finally:
        os.umask(before)
    assert {file.name for file in files} == {path.name, f"{path.name}-wal", f"{path.name}-shm"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store.close()


@pytest.mark.parametrize(("local", "mode"), [(True, "wal"), (False, "delete")])
def test_the_journal_is_one_that_works_on_that_file_system(
    path: Path, monkeypatch: pytest.MonkeyPatch, local: bool, mode: str
) -> None:
    monkeypatch.setattr(database, "is_local", lambda _: local)
    store = open_store(path)
    publish(store)
    assert rows(path, "PRAGMA journal_mode") == [(mode,)]
    store.close()


def test_it_is_the_file_in_the_state_directory_unless_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    store = SqliteStore()
    assert store.path.parent.name == "accredit"
    assert store.path.is_relative_to(tmp_path)
    publish(store)
    assert store.path.exists()
    store.close()


def test_a_path_is_that_of_the_directory_it_was_named_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqliteStore("tokens.sqlite3")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    publish(store)
    assert (tmp_path / "tokens.sqlite3").exists()
    store.close()


@pytest.mark.parametrize("name", ["a b", "a?mode=memory", "a#b", "a%20b", "é"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    store = open_store(tmp_path / name)
    publish(store)
    store.close()
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_an_empty_file_is_taken_over(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.touch(mode=0o600)
    store = open_store(file)
    publish(store)
    assert store.read(IDENTITY) is not None
    store.close()


def test_drafts_of_processes_that_died_are_removed(path: Path) -> None:
    path.parent.mkdir(parents=True, mode=0o700)
    path.parent.parent.chmod(0o700)
    old, new = (path.with_name(f".{path.name}.{name}.new") for name in ("old", "new"))
    for draft in (old, new):
        draft.write_text("canary")
    os.utime(old, (1.0, 1.0))
    store = open_store(path)
    claim(store)
    assert not old.exists()
    assert new.exists()
    store.close()


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"prefix": ""}, "prefix"),
        ({"prefix": "a\nb"}, "prefix"),
        ({"prefix": "x" * 201}, "prefix"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": 61}, "timeout"),
        ({"max_entries": 0}, "max_entries"),
        ({"max_bytes": 1000}, "max_bytes"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        SqliteStore("x", **settings)
    assert raised.value.key == key


# -- what lies in it ----------------------------------------------------------------------------------


def test_a_token_lies_there_as_it_is_and_with_a_keyring_it_does_not(path: Path) -> None:
    for keyring, there in ((None, True), (Keyring(generate_key()), False)):
        file = path.with_name(f"{there}.sqlite3")
        store = open_store(file, keyring=keyring)
        publish(store)
        store.fail(IDENTITY, owner="a", hold=Hold(30.0, UnreachableError("canary-message"), 1))
        assert (b"canary-token" in raw(file)) is there
        assert (b"canary-message" in raw(file)) is there
        store.close()
        assert (b"canary-token" in raw(file)) is there


@pytest.mark.parametrize("how", ["remove", "purge", "replace", "expire"])
def test_what_is_gone_is_overwritten(path: Path, clock: SteerableClock, how: str) -> None:
    store = open_store(path, clock=clock)
    first = publish(store)
    match how:
        case "remove":
            store.remove(IDENTITY)
        case "purge":
            assert store.purge() == 1
        case "replace":
            store.suspect(IDENTITY, generation=first.record.generation, origin="")
            publish(store, value="another")
        case _:
            clock.advance(3601)
            publish(store, make_identity(), "another")
    store.close()
    assert b"canary-token" not in raw(path)


def test_what_has_ended_makes_room_before_what_has_not(path: Path, clock: SteerableClock) -> None:
    store = open_store(path, clock=clock, max_entries=4)
    first, *others = [make_identity() for _ in range(4)]
    publish(store, first)
    for identity in others:
        publish(store, identity, remaining=60.0)
    clock.advance(61.0)
    publish(store)
    assert store.read(first) is not None
    store.close()


def test_it_never_holds_more_than_it_may(path: Path, clock: SteerableClock) -> None:
    store = open_store(path, clock=clock, max_entries=10)
    identities = [make_identity() for _ in range(30)]
    for identity in identities:
        publish(store, identity)
        store.cool(identity, origin="https://a.example", seconds=60.0)
        store.cool(identity, origin="https://b.example", seconds=60.0)
        assert rows(path, "SELECT count(*) <= 10 FROM record_1") == [(1,)]
        assert rows(path, "SELECT count(*) <= 40 FROM mark_1") == [(1,)]
    assert store.read(identities[-1]) is not None
    assert store.read(identities[0]) is None
    store.close()


def test_what_has_ended_is_swept(path: Path, clock: SteerableClock) -> None:
    store = open_store(path, clock=clock)
    for number in range(5):
        publish(store, make_identity(), remaining=60.0 + number)
    store.fail(IDENTITY, owner="a", hold=Hold(30.0, UnreachableError("gone"), 1))
    clock.advance(200.0)
    publish(store, value="another")
    store.close()
    assert b"canary-token" not in raw(path)
    assert rows(path, "SELECT count(*) FROM mark_1") == [(0,)]
    clock.advance(86400.0)
    publish(store)
    assert rows(path, "SELECT count(*) FROM record_1") == [(1,)]
    store.close()


def test_generations_count_on_after_a_token_has_ended(path: Path, clock: SteerableClock) -> None:
    """A process that still knows the old token takes a newer one only, whoever obtained it."""
    store = open_store(path, clock=clock)
    old = publish(store).record.generation
    clock.advance(3601.0)
    publish(store, make_identity())  # sweeps
    assert publish(store, value="new").record.generation >> 32 == 2  # by one that knew nothing of the old one
    answer = store.claim(IDENTITY, newer_than=old, credential="t", owner="knows", lease=1.0)
    assert isinstance(answer.directive, Satisfied)
    store.close()


def test_a_full_file_makes_room_for_what_is_new(path: Path) -> None:
    store = open_store(path, max_bytes=256 * 1024)
    identities = [make_identity() for _ in range(12)]
    for identity in identities:
        publish(store, identity, "x" * 60_000)
        assert store.read(identity) is not None
    assert path.stat().st_size <= 256 * 1024
    assert store.read(identities[0]) is None
    store.close()


@pytest.mark.parametrize("remaining", [0.0, -1.0, float("nan")])
def test_what_is_over_is_not_kept(path: Path, remaining: float) -> None:
    store = open_store(path)
    publish(store, remaining=remaining)
    assert store.read(IDENTITY) is None
    assert rows(path, "SELECT count(*) FROM record_1") == [(0,)]
    store.close()


# -- boots and clocks ---------------------------------------------------------------------------------


def test_a_token_outlives_a_boot_and_ages_through_it(path: Path, clock: SteerableClock) -> None:
    store = open_store(path, clock=clock, boot="first")
    publish(store)
    claim(store, make_identity())
    store.close()
    # The clock of the machine starts anew; half an hour has passed by the wall clock.
    after = SteerableClock(start=5.0, wall=clock.wall() + 1800.0)
    store = open_store(path, clock=after, boot="second")
    found = store.read(IDENTITY)
    assert found is not None
    assert found.remaining == pytest.approx(1800.0)
    after.advance(1801.0)
    assert store.read(IDENTITY) is None
    store.close()


def test_a_wall_clock_set_back_over_a_boot_revives_nothing(path: Path, clock: SteerableClock) -> None:
    store = open_store(path, clock=clock, boot="first")
    publish(store)
    store.close()
    store = open_store(path, clock=SteerableClock(start=5.0, wall=clock.wall() - 86400.0), boot="second")
    assert store.read(IDENTITY) is None
    store.close()


def test_leases_holds_and_cool_downs_end_with_the_boot(path: Path, clock: SteerableClock) -> None:
    store = open_store(path, clock=clock, boot="first")
    claim(store, owner="dead")
    store.fail(IDENTITY, owner="b", hold=Hold(300.0, UnreachableError("gone"), 3))
    store.cool(IDENTITY, origin="o", seconds=60.0)
    store.hold_endpoint("e", Hold(300.0, ThrottledError("slow"), 1))
    store.close()
    store = open_store(path, clock=SteerableClock(start=5.0), boot="second")
    assert claim(store) == Lead(0)
    assert store.suspect(IDENTITY, generation=1, origin="o") == "suspect"
    assert store.endpoint_hold("e") is None
    store.close()


def test_a_jump_of_the_wall_clock_does_nothing(path: Path, clock: SteerableClock) -> None:
    store = open_store(path, clock=clock, boot="first")
    publish(store)
    claim(store, make_identity(registration_id="x"), owner="dead")
    for jump in (86400.0, -2 * 86400.0):
        clock.jump_wall(jump)
        found = store.read(IDENTITY)
        assert found is not None
        assert found.remaining == pytest.approx(3600.0)
        assert isinstance(claim(store, make_identity(registration_id="x")), Wait)
    store.close()


# -- fork and threads ---------------------------------------------------------------------------------


@FORKS
def test_no_connection_crosses_a_fork_and_both_sides_go_on(path: Path) -> None:
    store = open_store(path)
    publish(store, value="parent")

    def child() -> object:
        assert store._database._connection is None
        assert database._INHERITED == []
        found = store.read(IDENTITY)
        publish(store, make_identity(registration_id="child"), "child")
        store.close()
        return None if found is None else found.record.value

    for _ in range(3):
        assert in_child(child) == "'parent'"
        found = store.read(make_identity(registration_id="child"))
        assert found is not None
        assert found.record.value == "child"
    store.close()


@FORKS
def test_a_fork_waits_for_the_transaction_of_another_thread(path: Path) -> None:
    store = open_store(path)
    claim(store)
    inside, leave = threading.Event(), threading.Event()

    def work(_: object) -> None:
        inside.set()
        leave.wait(10)

    thread = threading.Thread(target=store._database.write, args=(work,))
    thread.start()
    inside.wait(10)
    original = store._database.before_fork

    def before_fork() -> None:
        leave.set()  # the fork is under way, and the other thread still in its transaction
        original()

    store._database.before_fork = before_fork  # type: ignore[method-assign]
    assert in_child(lambda: (leave.is_set(), type(claim(store, owner="b")).__name__)) == "(True, 'Wait')"
    thread.join()
    store.close()


@FORKS
def test_a_connection_that_a_fork_copied_after_all_is_neither_used_nor_closed(path: Path) -> None:
    """As where a server forks without Python's knowledge."""
    store = open_store(path)
    publish(store)

    def child() -> object:
        with pytest.raises(StoreError, match="forked") as raised:
            store.read(IDENTITY)
        return raised.value.reason

    connection = store._database._connection
    original = store._database.before_fork
    store._database.before_fork = lambda: None  # type: ignore[method-assign]
    try:
        assert in_child(child) == "'forked'"
    finally:
        store._database.before_fork = original  # type: ignore[method-assign]
    assert store._database._connection is connection
    assert store.read(IDENTITY) is not None
    store.close()


def test_many_threads_share_one_store(path: Path) -> None:
    store = open_store(path, timeout=30.0)
    identities = [make_identity() for _ in range(8)]
    problems: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for identity in itertools.islice(itertools.cycle(identities), number, number + 16):
                if isinstance(claim(store, identity, f"owner-{number}"), Lead):
                    publish(store, identity, f"token-{number}")
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert all(store.read(identity) is not None for identity in identities)
    store.close()


# -- for operators ------------------------------------------------------------------------------------


def test_entries_show_everything_but_the_token(path: Path, clock: SteerableClock) -> None:
    plain, sealed = open_store(path, clock=clock), open_store(path, clock=clock, keyring=Keyring(generate_key("old")))
    other = make_identity(registration_id="payments", principal="tenant:7")
    first = publish(plain)
    publish(sealed, other, remaining=60.0)
    plain.suspect(IDENTITY, generation=first.record.generation, origin="")
    clock.advance(30.0)
    entries = list(plain.entries())
    assert [(entry.registration, entry.principal, entry.key_id, entry.suspect) for entry in entries] == [
        ("api-client", "service-account", "", True),
        ("payments", "tenant:7", "old", False),
    ]
    assert [round(entry.remaining) for entry in entries] == [3570, 30]
    assert entries[0].generation == first.record.generation
    assert {entry.schema for entry in entries} == {1}
    assert entries[0].key == IDENTITY.store_key()
    assert "canary" not in repr(entries)
    assert [entry.registration for entry in plain.entries(registration="payments")] == ["payments"]
    assert list(plain.entries(registration="pay")) == []
    clock.advance(31.0)
    assert [entry.registration for entry in plain.entries()] == ["api-client"]
    plain.close()
    sealed.close()


def test_removing_by_key_and_purging(path: Path) -> None:
    store = open_store(path)
    other, third = make_identity(registration_id="payments"), make_identity(registration_id="pay")
    for identity in (IDENTITY, other, third):
        publish(store, identity)
        store.cool(identity, origin="o", seconds=60.0)
    assert store.remove_key(IDENTITY.store_key())
    assert not store.remove_key(IDENTITY.store_key())
    assert store.purge(registration="pay") == 1
    assert store.read(other) is not None
    assert store.purge() == 1
    assert store.purge() == 0
    assert rows(path, "SELECT count(*) FROM mark_1") == [(0,)]
    store.close()


def test_fleets_with_different_prefixes_do_not_meet(path: Path) -> None:
    one, other = open_store(path, prefix="one"), open_store(path, prefix="one:more")
    publish(one)
    assert other.read(IDENTITY) is None
    assert claim(other) == Lead(0)
    publish(other, value="other")
    assert other.purge() == 1
    assert one.read(IDENTITY) is not None
    assert [entry.key for entry in one.entries()] == [IDENTITY.store_key("one")]
    one.close()
    other.close()
