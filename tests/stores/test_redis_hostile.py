"""What a broken or hostile hand can write under our keys costs at most a token request, and never the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from accredit import Secret
from accredit.core.events import RecordRefused
from accredit.core.identity import Identity
from accredit.core.records import Held, Hold, Lead, Satisfied, Wait
from accredit.errors import CredentialRefusedError
from accredit.stores import envelope
from accredit.stores._redis_settings import place_of
from accredit.stores.codec import MAX_LIFETIME
from accredit.stores.envelope import Keyring, generate_key
from accredit.stores.redis import RedisStore
from accredit.testing.store_contract import make_identity, make_record
from tests.bad_inputs.model import covers
from tests.runtime.support import Events
from tests.servers.redis import PATIENCE, Server, redis_6, valkey

__all__ = ["redis_6", "valkey"]
pytestmark = pytest.mark.real_server
FORM = "1:plain"
#: Texts that Lua, C or Python would take for a number, and that this library never writes.
NO_NUMBERS = (
    "", "x", "nan", "inf", "-inf", "-5", "+5", "1e3", "1e400", "0x10", "1.5", " 7", "7 ", "7\n", "1_0", "９",
    "9" * 16, "9" * 400,
)  # fmt: skip


@pytest.fixture(params=["valkey", "redis_6"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with server.client() as connected:
        yield connected


@pytest.fixture
def store(server: Server) -> Iterator[RedisStore]:
    made = RedisStore(server.url, timeout=PATIENCE)
    yield made
    made.close()


@pytest.fixture
def identity() -> Identity:
    return make_identity()


def publish(
    store: RedisStore, identity: Identity, value: str = "token", *, owner: str = "a", based_on: int | None = None
) -> int:
    record = make_record(identity, value)
    kept = store.publish(identity, owner=owner, record=record, remaining=60.0, credential="", based_on=based_on)
    return kept.record.generation


def claim(store: RedisStore, identity: Identity, owner: str = "b", newer_than: int | None = None) -> Any:
    return store.claim(identity, newer_than=newer_than, credential="", owner=owner, lease=30.0)


def value_of(store: RedisStore, identity: Identity) -> str | None:
    found = store.read(identity)
    return None if found is None else found.record.value


def now_of(client: Any) -> int:
    seconds, microseconds = client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


# ---- records ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["ends", "high", "low"])
@covers("M10", outcome="MISS: whatever stands where a number should; the store goes on, and the next record heals it")
def test_no_text_in_place_of_a_number_fails_a_verb(
    server: Server, client: Any, store: RedisStore, identity: Identity, field: str
) -> None:
    events = Events()
    store.report_to(events)
    for number, text in enumerate(NO_NUMBERS):
        key = identity.store_key()
        client.delete(key, f"{key}:lease")
        publish(store, identity)
        client.hset(key, f"{FORM}:{field}", text.encode())
        assert store.read(identity) is None, text
        assert claim(store, identity).directive == Lead(0), text
        assert isinstance(claim(store, identity, "c").directive, Wait), text
        assert store.suspect(identity, generation=1, origin="") == "suspect", text
        assert [entry for entry in store.entries(registration=identity.registration) if entry.key == key] == [], text
        publish(store, identity, f"new-{number}", owner="b")
        assert claim(store, identity, "c").directive == Satisfied(), text
        assert value_of(store, identity) == f"new-{number}"
        assert 0 < client.pttl(key) <= 60_000, text
    assert {event.reason for event in events.of(RecordRefused)} == {"format"}


@covers("M10", outcome="MISS: a record that would live longer than any token can")
def test_a_record_without_an_end_in_sight(client: Any, store: RedisStore, identity: Identity) -> None:
    publish(store, identity)
    client.hset(identity.store_key(), f"{FORM}:ends", str(now_of(client) + int(MAX_LIFETIME * 1000) + 60_000))
    assert store.read(identity) is None
    assert claim(store, identity).directive == Lead(0)
    publish(store, identity, "new", owner="b")
    assert value_of(store, identity) == "new"


@pytest.mark.parametrize("ends", ["9" * 15, "9" * 400, "inf", "x"])
def test_a_record_of_another_form_never_keeps_the_key_for_ever(
    client: Any, store: RedisStore, identity: Identity, ends: str
) -> None:
    key = identity.store_key()
    client.hset(key, mapping={"accredit": "1", "2:plain:ends": ends, "2:plain:data": "of a later version"})
    publish(store, identity)
    assert value_of(store, identity) == "token"
    assert 0 < client.pttl(key) <= 60_000


def test_the_largest_generation_there_can_be_is_not_the_last_one(
    client: Any, store: RedisStore, identity: Identity
) -> None:
    publish(store, identity)
    client.hset(identity.store_key(), f"{FORM}:high", "9" * 15)
    seen = claim(store, identity).stored.record.generation
    assert seen >> 32 == int("9" * 15)
    # Who has seen it asks, and what is published then is a generation that all can read and that counts on.
    assert claim(store, identity, newer_than=seen).directive == Lead(0)
    second = publish(store, identity, "second", owner="b", based_on=seen)
    assert value_of(store, identity) == "second"
    assert claim(store, identity, "c", newer_than=second).directive == Lead(0)
    publish(store, identity, "third", owner="c", based_on=second)
    assert claim(store, identity, "d", newer_than=second).directive == Satisfied()


# ---- holds and leases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sealed", [False, True])
@covers("M03", outcome="MISS: a damaged hold holds nobody, and is no failure of the store")
def test_a_hold_that_was_damaged_holds_nobody(server: Server, client: Any, identity: Identity, *, sealed: bool) -> None:
    store = RedisStore(server.url, timeout=PATIENCE, keyring=Keyring(generate_key()) if sealed else None)
    store.fail(identity, owner="a", hold=Hold(30.0, CredentialRefusedError("no"), 1))
    assert isinstance(claim(store, identity).directive, Held)
    key = f"{identity.store_key()}:hold"
    whole = client.hget(key, "hold:")
    client.hset(key, "hold:", whole[:-4] + b"zzzz")
    assert isinstance(claim(store, identity).directive, Lead)
    # The others wait for the one that leads.
    assert isinstance(claim(store, identity, "c").directive, Wait)
    store.fail(identity, owner="b", hold=Hold(30.0, CredentialRefusedError("no"), 2))
    held = claim(store, identity, "c").directive
    assert isinstance(held, Held)
    assert held.hold.failures == 2
    store.close()


@covers("O06", outcome="OK: holds, leases, cool-downs and throttles that would run for ever count as none")
def test_nothing_holds_for_ever(client: Any, store: RedisStore, identity: Identity) -> None:
    key, origin = identity.store_key(), "https://api.example"
    year = 365 * 86_400_000
    end = now_of(client) + year
    store.fail(identity, owner="a", hold=Hold(30.0, CredentialRefusedError("no"), 1))
    _, _, rest = client.hget(f"{key}:hold", "hold:").split(b" ", 2)
    for ends, length in ((end, year), ("9" * 400, "9" * 400)):
        client.hset(f"{key}:hold", "hold:", f"{ends} {length} ".encode() + rest)
        client.hset(f"{key}:hold", f"cool:{origin}", f"{ends} {length}")
        client.hset(f"{key}:lease", mapping={"owner": "dead", "ends": ends, "length": length})
        assert isinstance(claim(store, identity).directive, Lead)
        assert store.suspect(identity, generation=1, origin=origin) == "suspect"
        assert isinstance(claim(store, identity, "c").directive, Wait)
        store.fail(identity, owner="b", hold=None)
        store.hold_endpoint("endpoint", Hold(30.0, CredentialRefusedError("no"), 1))
        (throttle,) = [each for each in client.keys("*:throttle:*") if client.type(each) == b"hash"]
        client.hset(throttle, mapping={"ends": ends, "length": length})
        assert store.endpoint_hold("endpoint") is None
        client.delete(throttle)


@covers("M03", outcome="MISS: a count of failures that is none")
def test_a_count_of_failures_that_makes_no_sense(client: Any, store: RedisStore, identity: Identity) -> None:
    key = f"{identity.store_key()}:hold"
    for count in ("9" * 400, "0"):
        ended = now_of(client) - 1000
        client.hset(key, "hold:", f"{ended} 1000 {count} accredit:1:plain:x")
        directive = claim(store, identity).directive
        assert isinstance(directive, Lead)
        assert 0 <= directive.failures <= 1_000_000
        store.fail(identity, owner="b", hold=None)


# ---- what is no answer --------------------------------------------------------------------------------------


def test_a_name_from_the_network_is_not_believed_whatever_it_is() -> None:
    assert str(place_of("node-1.example", 6379)) == "node-1.example:6379"
    assert place_of("fe80::1%eth0", 6379).port == 6379
    for host in ("", "a b", "a\nb", "\x1b[2J", "a/b", "a@b", "x" * 256, "é"):
        with pytest.raises(ValueError, match="no host"):
            place_of(host, 6379)
    for port in (0, -1, 65536):
        with pytest.raises(ValueError, match="no host"):
            place_of("a", port)


@covers("M06", outcome="OK: a key that was just given is used at once, without a token request of its own")
def test_a_key_that_was_just_given_opens_the_record_in_the_same_claim(
    server: Server, client: Any, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envelope, "_LOOK_AGAIN_FOR_UNKNOWN", 0.0)
    old, new = generate_key("old").reveal(), generate_key("new").reveal()
    given = [old]
    behind = RedisStore(server.url, timeout=PATIENCE, keyring=Keyring(Secret.from_function(lambda: "\n".join(given))))
    events = Events()
    behind.report_to(events)
    assert behind.read(identity) is None  # it has read its keys
    ahead = RedisStore(server.url, timeout=PATIENCE, keyring=Keyring(new, old))
    publish(ahead, identity)
    given.append(new)
    assert claim(behind, identity).directive == Satisfied()
    assert events.seen == []
    # The lease that it had for a moment keeps nobody waiting.
    assert client.exists(f"{identity.store_key()}:lease") == 0
    ahead.close()
    behind.close()
