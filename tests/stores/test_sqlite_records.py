"""What lies in the SQLite store and was not written by this process: other keys, versions, hands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from accredit.core.events import RecordRefused
from accredit.core.records import Held, Hold, Lead, Satisfied, Wait
from accredit.errors import ThrottledError, UnreachableError
from accredit.stores.envelope import Keyring, generate_key
from accredit.testing.store_contract import make_identity, make_record
from tests.stores.support import Events, rows
from tests.stores.test_sqlite import IDENTITY, claim, open_store, publish


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.sqlite3"


NEW, OLD = generate_key("new").reveal(), generate_key("old").reveal()


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (flipped, "tampered"),
        (lambda data: data[:-1], "tampered"),
        (lambda data: data[:-12], "tampered"),
        (lambda _: b"\xac\xed\x00\x05t\x00\x05token", "foreign"),
        (lambda _: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtin", "foreign"),
        (lambda data: data.replace(b"accredit:1:", b"accredit:2:"), "schema"),
        (lambda data: data.replace(b":A256GCM:", b":A128GCM:"), "algorithm"),
        (lambda data: data.replace(b":old:", b":new:"), "tampered"),
        (lambda data: data.replace(b":old:", b":oldest:"), "key"),
        (lambda _: b'accredit:1:plain:{"token":"x"}', "plaintext"),
    ],
)
def test_what_cannot_be_read_is_a_miss_an_event_and_left_in_place(
    path: Path, alter: Callable[[bytes], bytes], reason: str
) -> None:
    writer = open_store(path, keyring=Keyring(OLD))
    publish(writer)
    writer.close()
    ((data,),) = rows(path, "SELECT data FROM record_1")
    rows(path, "UPDATE record_1 SET data = ?", alter(data))
    before = rows(path, "SELECT * FROM record_1")
    events = Events()
    store = open_store(path, keyring=Keyring(NEW, OLD))
    store.report_to(events)
    assert store.read(IDENTITY) is None
    assert claim(store) == Lead(0)
    assert events.seen == [RecordRefused("api-client", "service-account", reason)]  # once, however often it is met
    assert rows(path, "SELECT * FROM record_1") == before
    # The new one is kept beside it, under a generation after it, and is found from then on.
    published = publish(store, value="fresh")
    found = store.read(IDENTITY)
    assert found is not None
    assert found.record.value == "fresh"
    assert published.record.generation >> 32 == 2
    assert set(before) <= set(rows(path, "SELECT * FROM record_1"))
    assert isinstance(claim(store, owner="b"), Satisfied)
    store.close()


def test_a_record_under_the_key_of_another_registration_is_never_an_answer(path: Path) -> None:
    for keyring, reason in ((None, "identity"), (Keyring(NEW), "tampered")):
        store = open_store(path.with_name(reason), keyring=keyring)
        events = Events()
        store.report_to(events)
        other = make_identity(registration_id="payments")
        publish(store, other)
        rows(store.path, "UPDATE record_1 SET key = ?", IDENTITY.store_key())
        assert store.read(IDENTITY) is None
        assert claim(store) == Lead(0)
        assert [event.reason for event in events.of(RecordRefused)] == [reason]
        store.close()


@pytest.mark.parametrize("column", ["high", "low"])
def test_a_record_under_another_generation_is_refused(path: Path, column: str) -> None:
    store = open_store(path, keyring=Keyring(NEW))
    publish(store)
    rows(path, f"UPDATE record_1 SET {column} = {column} + 1")
    assert store.read(IDENTITY) is None
    store.close()


@pytest.mark.parametrize(
    "change",
    [
        "ends = 9e999",
        "ends = began - 1",
        "began = -1e300",
        "high = -5",
        "high = 9223372036854775807",
        "boot = 'x', wall = 9e999",
    ],
)
def test_times_and_numbers_that_make_no_sense_are_a_miss_or_bounded(path: Path, change: str) -> None:
    store = open_store(path)
    publish(store)
    rows(path, f"UPDATE record_1 SET {change}")
    found = store.read(IDENTITY)
    assert found is None or found.remaining <= 3600.0
    assert isinstance(claim(store), Lead | Satisfied)
    publish(store, value="fresh")
    store.close()


def test_holds_and_leases_that_make_no_sense_hold_nobody(path: Path) -> None:
    store = open_store(path)
    claim(store, owner="stuck")
    store.fail(IDENTITY, owner="b", hold=Hold(30.0, UnreachableError("gone"), 1))
    store.hold_endpoint("endpoint", Hold(30.0, ThrottledError("slow"), 1))
    assert isinstance(claim(store), Held)
    rows(path, "UPDATE mark_1 SET data = 'nonsense' WHERE kind = 'hold'")
    assert isinstance(claim(store), Wait)
    assert store.endpoint_hold("endpoint") is None
    for ends in ("9e999", "began + 86400"):
        rows(path, f"UPDATE mark_1 SET ends = {ends} WHERE kind = 'lease'")
        assert isinstance(claim(store, owner=ends), Lead)
    store.close()


def test_keys_are_rotated_without_a_flush(path: Path) -> None:
    """One process after the other: the new key is read everywhere, then written, then the old one is dropped."""
    steps = [(OLD,), (OLD, NEW), (NEW, OLD), (NEW,)]
    stores = [open_store(path, keyring=Keyring(*keys)) for keys in steps]
    publish(stores[0], value="written-with-old")
    for store in stores[:3]:
        found = store.read(IDENTITY)
        assert found is not None
        assert found.record.value == "written-with-old"
    assert [entry.key_id for entry in stores[3].entries()] == ["old"]
    generation = stores[2].read(IDENTITY).record.generation  # type: ignore[union-attr]  # seen above
    record = make_record(IDENTITY, "written-with-new")
    stores[2].publish(IDENTITY, owner="a", record=record, remaining=3600.0, credential="", based_on=generation)
    for store in stores[1:]:
        found = store.read(IDENTITY)
        assert found is not None
        assert found.record.value == "written-with-new"
    # Who does not know the new key yet goes on with what it can read.
    found = stores[0].read(IDENTITY)
    assert found is not None
    assert found.record.value == "written-with-old"
    for store in stores:
        store.close()


def test_processes_with_different_keys_share_among_themselves(path: Path) -> None:
    ours = [open_store(path, keyring=Keyring(generate_key("a").reveal())) for _ in range(1)] * 2
    theirs = [open_store(path, keyring=Keyring(generate_key("b").reveal()))] * 2
    for stores, value in ((ours, "ours"), (theirs, "theirs"), (ours, "ours")):
        if stores[0].read(IDENTITY) is None:
            publish(stores[0], value=value)
        found = stores[1].read(IDENTITY)
        assert found is not None
        assert found.record.value == value
    assert rows(path, "SELECT count(*) FROM record_1") == [(2,)]
    ours[0].close()
    theirs[0].close()


def test_a_layout_of_another_version_lives_beside_this_one(path: Path) -> None:
    store = open_store(path)
    publish(store)
    store.close()
    rows(path, "CREATE TABLE record_2 (key TEXT, registration TEXT, more TEXT)")
    rows(path, "INSERT INTO record_2 VALUES ('oauth2:client:api-client:x', 'api-client', 'canary-of-version-2')")
    rows(path, "DROP TABLE record_1")  # as a version would leave it that does not know this one
    store = open_store(path)
    assert store.read(IDENTITY) is None
    publish(store)
    assert rows(path, "SELECT count(*) FROM record_2") == [(1,)]
    assert store.purge() == 2
    assert rows(path, "SELECT count(*) FROM record_2") == [(0,)]
    store.close()
