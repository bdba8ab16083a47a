"""Group M at rest, and what else there is to say of a file with tokens: whatever lies there, no wrong token."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from accredit.core.events import Event, RecordRefused, StoreFailed
from accredit.core.identity import Identity
from accredit.core.registration import token_request_for
from accredit.stores.codec import RecordCodec
from accredit.stores.envelope import Keyring, generate_key
from accredit.stores.sqlite import SqliteStore
from accredit.testing.clock import SteerableClock
from accredit.testing.store_contract import make_record
from tests.bad_inputs.invariants import check_events
from tests.bad_inputs.model import OLD_TOKEN, OTHER_TOKEN, TOKEN, covers
from tests.stores.support import Issuer, in_child, one_call, process, registration, rows

OLD, NEW = generate_key("old").reveal(), generate_key("new").reveal()
IDENTITY = token_request_for(registration()).identity


class Place:
    """A file that holds one record, and processes that come to it cold."""

    def __init__(self, path: Path, *keys: str) -> None:
        self.path = path
        self.issuer = Issuer()
        self.clock = SteerableClock()
        self.keyring = Keyring(*keys) if keys else None
        self.put(self.store(), TOKEN)

    def store(self, *keys: str) -> SqliteStore:
        return SqliteStore(self.path, keyring=Keyring(*keys) if keys else self.keyring, clock=self.clock)

    def put(self, store: SqliteStore, value: str, identity: Identity = IDENTITY, lifetime: float = 3600.0) -> None:
        record = make_record(identity, value, lifetime=lifetime)
        record = type(record)(record.identity, value, lifetime, self.clock.wall() + lifetime, record.generation)
        store.publish(identity, owner="a", record=record, remaining=lifetime, credential="", based_on=None)

    def data(self) -> bytes:
        ((data,),) = rows(self.path, "SELECT data FROM record_1")
        assert isinstance(data, bytes)
        return data

    def overwrite(self, data: bytes) -> None:
        rows(self.path, "UPDATE record_1 SET data = ?", data)

    def call(self, *keys: str, **changes: Any) -> tuple[str, list[str]]:
        """Return the token that a cold process gets, and why records were refused."""
        token, events = one_call(self.store(*keys), self.issuer, clock=self.clock, **changes)
        check_events(events.seen)
        return token.value, [event.reason for event in events.of(RecordRefused)]

    def miss(self, *keys: str) -> str:
        """See that a cold process asks the server, once, and leaves what is there where it is; return why."""
        before = set(rows(self.path, "SELECT * FROM record_1"))
        value, reasons = self.call(*keys)
        assert value.startswith("canary-")
        assert self.issuer.count == 1
        assert before <= set(rows(self.path, "SELECT * FROM record_1"))
        # What it obtained is there for the next one.
        assert self.call(*keys)[0] == value
        assert self.issuer.count == 1
        (reason,) = reasons
        return reason


@pytest.fixture
def plain(tmp_path: Path) -> Place:
    return Place(tmp_path / "plain")


@pytest.fixture
def sealed(tmp_path: Path) -> Place:
    return Place(tmp_path / "sealed", OLD)


def test_a_record_that_is_sound_is_used(plain: Place, sealed: Place) -> None:
    """So that what follows is a miss for its reason alone."""
    for place in (plain, sealed):
        assert place.call() == (TOKEN, [])
        assert place.issuer.count == 0


@pytest.mark.parametrize("cut", ["cut", "flipped", "stripped", "short tag"])
@covers("M03", outcome="a miss, and an event that says tampered")
def test_a_sealed_record_that_was_cut_or_touched(tmp_path: Path, cut: str) -> None:
    # The key that writes is another one, so that what was touched is left where it is.
    place = Place(tmp_path / "tokens", OLD)
    data = place.data()
    altered = {
        "cut": data[: len(data) // 2],
        "flipped": data[:60] + bytes([data[60] ^ 4]) + data[61:],
        "stripped": data[:-16],
        "short tag": data[:-12],
    }
    place.overwrite(altered[cut])
    assert place.miss(NEW, OLD) == "tampered"


@covers("M04", outcome="a miss, never the token of another")
def test_a_record_of_another_registration_under_this_key(plain: Place) -> None:
    other = token_request_for(registration("payments")).identity
    plain.overwrite(RecordCodec().encode(make_record(other, OTHER_TOKEN, bits=7), store_key=IDENTITY.store_key()))
    value, reasons = plain.call()
    assert (reasons, plain.issuer.count) == (["identity"], 1)
    assert value not in {OTHER_TOKEN, TOKEN}


@covers("M05", outcome="a miss: a sealed record opens at its own key only")
def test_a_record_that_was_moved_to_another_key(sealed: Place) -> None:
    other = token_request_for(registration("payments")).identity
    sealed.put(sealed.store(), OTHER_TOKEN, other)
    rows(sealed.path, "DELETE FROM record_1 WHERE key = ?", IDENTITY.store_key())
    rows(sealed.path, "UPDATE record_1 SET key = ?", IDENTITY.store_key())
    value, reasons = sealed.call()
    assert (reasons, sealed.issuer.count) == (["tampered"], 1)
    assert value != OTHER_TOKEN


@covers("M06", outcome="a miss and an event; the record is kept, and those who have the key go on using it")
def test_an_unknown_key(sealed: Place) -> None:
    assert sealed.miss(NEW) == "key"
    assert sealed.call(OLD) == (TOKEN, [])
    assert sealed.issuer.count == 1


@pytest.mark.parametrize("algorithm", [b"A128GCM", b"none", b"A256CBC"])
@covers("M07", outcome="refused: the key id stands for the algorithm")
def test_a_weaker_algorithm(sealed: Place, algorithm: bytes) -> None:
    sealed.overwrite(sealed.data().replace(b"A256GCM", algorithm))
    assert sealed.miss(NEW, OLD) == "algorithm"


@covers("M08", outcome="an expired one is a miss, and one of before is none to who has seen a newer one")
def test_an_old_record_that_was_put_back(sealed: Place) -> None:
    ((*_, old),) = rows(sealed.path, "SELECT high, low, data FROM record_1")
    before = rows(sealed.path, "SELECT * FROM record_1")
    with process(sealed.store(), sealed.issuer, clock=sealed.clock) as (manager, events):
        first = manager.get()
        assert first.value == TOKEN
        second = manager.renew()
        assert second.value != TOKEN
        # Everything as it was, authentic to the last bit.
        rows(sealed.path, "DELETE FROM record_1")
        rows(sealed.path, f"INSERT INTO record_1 VALUES ({', '.join('?' * 12)})", *before[0])
        assert sealed.data() == old
        third = manager.renew()
        assert third.value not in {first.value, second.value}
        assert sealed.issuer.count == 2
        check_events(events.seen)
    # And one that is over, with the times in the file set anew, is over by what is sealed in it.
    rows(sealed.path, "DELETE FROM record_1")
    rows(sealed.path, f"INSERT INTO record_1 VALUES ({', '.join('?' * 12)})", *before[0])
    sealed.clock.advance(3601.0)
    now = sealed.clock.now()
    rows(sealed.path, "UPDATE record_1 SET began = ?, ends = ?, wall = ?", now, now + 3600.0, sealed.clock.wall())
    value, reasons = sealed.call()
    assert reasons == ["expired"]
    assert value.startswith("canary-")


@covers("M09", outcome="a miss: what lies there in plain was not written by who has the key")
def test_plaintext_where_encryption_is_required(plain: Place) -> None:
    assert plain.miss(NEW) == "plaintext"


@pytest.mark.parametrize("lifetime", ["NaN", "-3600", "0", "31622401", "Infinity", '"3600"', "1e999"])
@covers("M10", outcome="a miss")
def test_a_life_that_makes_no_sense(plain: Place, lifetime: str) -> None:
    content = plain.data().partition(b"plain:")[2]
    members = json.loads(content)
    altered = content.replace(f'"lifetime":{members["lifetime"]}'.encode(), f'"lifetime":{lifetime}'.encode())
    assert altered != content
    plain.overwrite(b"accredit:1:plain:" + altered)
    value, reasons = plain.call()
    assert value.startswith("canary-")
    assert reasons in (["lifetime"], ["format"])


@covers("M10", outcome="a life beyond what the registration allows is a miss too")
def test_a_life_longer_than_the_registration_allows(plain: Place) -> None:
    value, _ = plain.call(max_lifetime=60.0)
    assert value.startswith("canary-")
    assert plain.issuer.count == 1


class _Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("echo unpickled > pwned",))


@covers("M22", outcome="never unpickled: a miss")
def test_a_pickle(plain: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain.overwrite(pickle.dumps(_Trap()))
    value, reasons = plain.call()
    assert value.startswith("canary-")
    assert reasons == ["foreign"]
    assert not (tmp_path / "pwned").exists()


@covers("J15", outcome="a kept token serves a cold process while discovery is down; no metadata lies on the disk")
def test_discovery_is_down_at_the_start(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"token_endpoint": None, "issuer": "https://as.example"}
    place = Place(tmp_path / "tokens")
    place.put(place.store(), OLD_TOKEN, token_request_for(registration(**changes)).identity)
    place.issuer.send = lambda request, *, timeout: pytest.fail("a request was made")  # type: ignore[method-assign]
    assert place.call(**changes) == (OLD_TOKEN, [])
    assert b"token_endpoint" not in place.path.read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="limits are those of POSIX")
@covers("Q20", outcome="the process goes on with what it has in memory, and says so")
def test_a_disk_that_takes_nothing_more(tmp_path: Path) -> None:
    import resource

    def child() -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        issuer = Issuer()
        with process(SqliteStore(tmp_path / "tokens"), issuer) as (manager, events):
            tokens = {manager.get().value for _ in range(5)}
        kinds: list[Event] = [event for event in events.seen if isinstance(event, StoreFailed)]
        return len(tokens), issuer.count, bool(kinds)

    assert in_child(child) == "(1, 1, True)"
