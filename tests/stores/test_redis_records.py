"""What lies in Redis under a key of ours and is not what this process wrote: a miss, an event, left in place."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from accredit.core.events import RecordRefused
from accredit.core.identity import Identity
from accredit.core.records import Held, Hold, Lead, Satisfied, Wait
from accredit.errors import ConfigurationError, CredentialRefusedError, ThrottledError
from accredit.stores.envelope import Keyring, generate_key
from accredit.stores.redis import RedisStore
from accredit.testing.store_contract import make_identity, make_record
from tests.bad_inputs.model import covers
from tests.runtime.support import Events
from tests.servers.redis import PATIENCE, Server, redis_6, valkey

__all__ = ["redis_6", "valkey"]
pytestmark = pytest.mark.real_server
PLAIN = "1:plain"
OLD, NEW, UNKNOWN = (generate_key(name).reveal() for name in ("old", "new", "unknown"))


def store_on(server: Server, *keys: str, **settings: Any) -> tuple[RedisStore, Events]:
    store = RedisStore(server.url, timeout=PATIENCE, keyring=Keyring(*keys) if keys else None, **settings)
    events = Events()
    store.report_to(events)
    return store, events


@pytest.fixture(params=["valkey", "redis_6"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with server.client() as connected:
        yield connected


@pytest.fixture
def identity() -> Identity:
    return make_identity()


def publish(store: RedisStore, identity: Identity, value: str = "token", **settings: Any) -> int:
    settings = {"owner": "a", "remaining": 60.0, "credential": "", "based_on": None, **settings}
    return store.publish(identity, record=make_record(identity, value), **settings).record.generation


def claim(store: RedisStore, identity: Identity, owner: str = "b", newer_than: int | None = None) -> Any:
    return store.claim(identity, newer_than=newer_than, credential="", owner=owner, lease=30.0)


def reasons(events: Events) -> list[str]:
    return [event.reason for event in events.of(RecordRefused)]


def only_field(client: Any, identity: Identity, name: str) -> str:
    """Return the one field of the record whose name ends so."""
    (found,) = [key.decode() for key in client.hkeys(identity.store_key()) if key.decode().endswith(f":{name}")]
    return str(found)


# ---- damage -------------------------------------------------------------------------------------------------


def damages(data: bytes) -> dict[str, bytes]:
    rng = random.Random(1)
    at = rng.randrange(len(data) - 60, len(data))
    return {
        "flipped bit": data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :],
        "truncated": data[: len(data) // 2],
        "no tag": data[:-16],
        "short tag": data[:-12],
        "header only": data[:30],
        "empty": b"",
        "another algorithm": data.replace(b"A256GCM", b"A128GCM"),
        "pickle": pickle.dumps({"token": "x"}),
        "json": b'{"access_token": "x", "expires_in": 3600}',
        "nothing but zeros": bytes(2000),
    }


@pytest.mark.parametrize("damage", damages(bytes(range(256))))
@covers("M03", "M07", "M22", outcome="MISS with an event; one asks for all and publishes anew")
def test_a_record_that_was_damaged(server: Server, client: Any, identity: Identity, damage: str) -> None:
    store, events = store_on(server, NEW)
    publish(store, identity)
    field = only_field(client, identity, "data")
    data = client.hget(identity.store_key(), field)
    client.hset(identity.store_key(), field, damages(data)[damage])
    damaged = client.hgetall(identity.store_key())
    assert store.read(identity) is None
    assert claim(store, identity).directive == Lead(0)
    # As it was, and told once in a minute.
    assert client.hgetall(identity.store_key()) == damaged
    assert len(reasons(events)) == 1
    assert reasons(events)[0] in {"tampered", "foreign", "algorithm"}
    # Another one waits for whoever leads rather than asking, too.
    assert isinstance(claim(store, identity, "c").directive, Wait)
    publish(store, identity, "new", owner="b", remaining=70.0)
    answer = claim(store, identity, "c")
    assert answer.directive == Satisfied()
    assert answer.stored.record.value == "new"
    store.close()


@covers("M08", outcome="MISS: a generation before the one that was seen, and old bytes under new numbers")
def test_an_old_record_that_somebody_puts_back(server: Server, client: Any, identity: Identity) -> None:
    store, events = store_on(server, NEW)
    key = identity.store_key()
    first = publish(store, identity, "old")
    old = client.hgetall(key)
    second = publish(store, identity, "new", based_on=first)
    latest = client.hgetall(key)
    # All of it: whoever has seen the newer one is not satisfied.
    client.hset(key, mapping=old)
    answer = claim(store, identity, newer_than=second)
    assert isinstance(answer.directive, Lead)
    store.fail(identity, owner="b", hold=None)
    # The old bytes with the numbers of the new one: nobody takes them.
    data = next(name for name in old if name.endswith(b":data"))
    client.hset(key, mapping={**latest, data: old[data]})
    assert store.read(identity) is None
    assert reasons(events) == ["generation"]
    store.close()


@covers("M08", outcome="MISS: bytes of another identity, or of another key")
def test_a_record_that_was_moved_to_another_key(server: Server, client: Any, identity: Identity) -> None:
    for keys in ((), (NEW,)):
        store, events = store_on(server, *keys)
        other = make_identity()
        publish(store, other)
        client.copy(other.store_key(), identity.store_key(), replace=True)
        assert store.read(identity) is None
        assert claim(store, identity).directive == Lead(0)
        assert reasons(events) == ["tampered" if keys else "identity"]
        client.delete(identity.store_key(), identity.store_key() + ":lease")
        store.close()


# ---- keys ---------------------------------------------------------------------------------------------------


@covers("M06", outcome="MISS: the record stays for those who have the key")
def test_a_record_under_a_key_that_is_not_known(server: Server, client: Any, identity: Identity) -> None:
    theirs, _ = store_on(server, UNKNOWN)
    mine, events = store_on(server, NEW)
    publish(theirs, identity, "theirs")
    assert mine.read(identity) is None
    assert claim(mine, identity).directive == Lead(0)
    assert reasons(events) == ["key"]
    publish(mine, identity, "mine", owner="b")
    # Side by side: each reads what it can, and neither overwrites the other's.
    for store, value in ((theirs, "theirs"), (mine, "mine")):
        found = store.read(identity)
        assert found is not None
        assert found.record.value == value
        store.close()


@covers("M09", outcome="MISS: plaintext where records are encrypted, and the other way round")
def test_plaintext_is_not_read_where_there_are_keys(server: Server, client: Any, identity: Identity) -> None:
    plain, plain_events = store_on(server)
    sealed, events = store_on(server, NEW)
    publish(plain, identity, "planted")
    assert sealed.read(identity) is None
    assert reasons(events) == ["plaintext"]
    client.delete(identity.store_key())
    publish(sealed, identity, "secret value")
    assert plain.read(identity) is None
    assert reasons(plain_events) == ["encrypted"]
    assert b"secret value" not in b"".join(client.hgetall(identity.store_key()).values())
    plain.close()
    sealed.close()


def test_a_new_key_is_rolled_out_without_a_flush(server: Server, identity: Identity) -> None:
    before, _ = store_on(server, OLD)
    reads_both, _ = store_on(server, OLD, NEW)
    after, events = store_on(server, NEW, OLD)
    first = publish(before, identity, "first")
    for store in (before, reads_both, after):
        found = store.read(identity)
        assert found is not None
        assert found.record.value == "first"
        assert claim(store, identity).directive == Satisfied()
    second = publish(after, identity, "second", based_on=first)
    assert second >> 32 == (first >> 32) + 1
    for store in (reads_both, after):
        found = store.read(identity)
        assert found is not None
        assert found.record.value == "second"
        # A suspicion is of the one that counts.
        assert store.suspect(identity, generation=first, origin="") == "newer"
    third = publish(reads_both, identity, "third", based_on=second)
    found = after.read(identity)
    assert found is not None
    assert (found.record.value, found.record.generation) == ("third", third)
    assert events.seen == []
    for store in (before, reads_both, after):
        store.close()


# ---- others -------------------------------------------------------------------------------------------------


@covers("M22", outcome="MISS: values of other programs are neither read nor touched")
def test_what_others_keep_under_the_key(server: Server, client: Any, identity: Identity) -> None:
    store, events = store_on(server)
    key = identity.store_key()
    java = b"\xac\xed\x00\x05sr\x00\x3eorg.springframework.security.oauth2.client.OAuth2AuthorizedClient"
    plants: list[Callable[[], object]] = [
        lambda: client.set(key, java),
        lambda: client.hset(key, mapping={"_class": "org.springframework.OAuth2AuthorizedClient", "token": "x"}),
        lambda: client.rpush(key, "a", "b"),
    ]
    for plant in plants:
        client.delete(key)
        plant()
        before = client.dump(key)
        assert store.read(identity) is None
        assert claim(store, identity).directive == Lead(0)
        assert publish(store, identity, owner="b") > 0
        store.suspect(identity, generation=1, origin="")
        store.remove(identity)
        assert (client.dump(key), client.pttl(key)) == (before, -1)
    assert reasons(events) == ["foreign"]
    client.delete(key)
    store.close()


@pytest.mark.parametrize("part", [":hold", ":lease"])
def test_what_others_keep_beside_it_holds_nobody_up(server: Server, client: Any, identity: Identity, part: str) -> None:
    store, _ = store_on(server)
    client.set(identity.store_key() + part, "theirs")
    error = CredentialRefusedError("no")
    store.fail(identity, owner="a", hold=Hold(30.0, error, 1))
    store.cool(identity, origin="https://api.example", seconds=30.0)
    expected = Held if part == ":lease" else Lead
    assert isinstance(claim(store, identity).directive, expected)
    assert publish(store, identity, owner="b") > 0
    assert store.read(identity) is not None
    if part == ":hold":
        assert client.get(identity.store_key() + part) == b"theirs"
        client.delete(identity.store_key() + part)
    store.remove(identity)
    store.close()


def test_a_record_of_another_schema_stays_beside_ours(server: Server, client: Any, identity: Identity) -> None:
    store, events = store_on(server)
    key = identity.store_key()
    now = int(client.time()[0]) * 1000
    later = {"accredit": "2", "2:plain:ends": str(now + 500_000), "2:plain:data": "of a later version"}
    client.hset(key, mapping=later)
    client.pexpire(key, 500_000)
    assert store.read(identity) is None
    assert reasons(events) == ["schema"]
    publish(store, identity)
    assert store.read(identity) is not None
    assert client.hget(key, "2:plain:data") == b"of a later version"
    # The key goes with the one that lives longest; what has ended is swept with the next record.
    assert client.pttl(key) > 400_000
    client.hset(key, "2:plain:ends", str(now - 1))
    publish(store, identity, "next", remaining=70.0)
    assert client.hget(key, "2:plain:data") is None
    assert client.pttl(key) <= 70_000
    store.remove(identity)
    store.close()


@pytest.mark.parametrize(
    "numbers",
    [
        {"ends": "x"}, {"ends": "nan"}, {"ends": "-5"}, {"ends": "1e9"}, {"high": "x"}, {"high": ""}, {"low": "9"},
        {"data": "x" * 600_000},
    ],
    ids=repr,
)  # fmt: skip
@covers("M10", outcome="MISS: numbers that are none, or make no sense")
def test_numbers_that_are_none(server: Server, client: Any, identity: Identity, numbers: dict[str, str]) -> None:
    store, _ = store_on(server)
    publish(store, identity)
    client.hset(identity.store_key(), mapping={f"{PLAIN}:{name}": text for name, text in numbers.items()})
    assert store.read(identity) is None
    assert claim(store, identity).directive == Lead(0)
    assert publish(store, identity, "new", owner="b") > 0
    found = store.read(identity)
    assert found is not None
    assert found.record.value == "new"
    store.close()


@covers("M14", outcome="OK: whoever writes later with what lives shorter changes nothing")
def test_of_two_writers_the_longer_life_stays(server: Server, identity: Identity) -> None:
    store, _ = store_on(server)
    publish(store, identity, "long", remaining=60.0)
    publish(store, identity, "short", owner="b", remaining=30.0)
    found = store.read(identity)
    assert found is not None
    assert found.record.value == "long"
    store.close()


@covers("M16", outcome="OK: the same scopes in any form and order are one key, and others another")
def test_scopes_and_keys() -> None:
    from accredit.core.client_auth import ClientSecretPost
    from accredit.core.registration import ClientRegistration, token_request_for

    def key(scope: Any) -> str:
        registration = ClientRegistration(
            id="x", client_id="x", client_auth=ClientSecretPost("x"), token_endpoint="https://as.example/token"
        )
        return token_request_for(registration, scope=scope).identity.store_key()

    assert len({key("a b"), key(["a", "b"]), key("b a"), key(("b", "a"))}) == 1
    assert len({key("a b"), key("a,b"), key("ab"), key("a"), key(None)}) == 5


def test_holds_under_another_key_hold_nobody_who_cannot_read_them(server: Server, identity: Identity) -> None:
    theirs, _ = store_on(server, UNKNOWN)
    mine, _ = store_on(server, NEW)
    error = ThrottledError("slow", status=429, retry_after=30.0)
    theirs.fail(identity, owner="a", hold=Hold(30.0, error, 3))
    theirs.hold_endpoint("endpoint x", Hold(30.0, error, 3))
    assert isinstance(claim(theirs, identity).directive, Held)
    assert theirs.endpoint_hold("endpoint x") is not None
    assert claim(mine, identity).directive == Lead(0)
    assert mine.endpoint_hold("endpoint x") is None
    theirs.close()
    mine.close()


def test_holds_and_cool_downs_are_bounded(server: Server, client: Any, identity: Identity) -> None:
    store, _ = store_on(server)
    for number in range(300):
        store.cool(identity, origin=f"https://api-{number}.example", seconds=60.0)
    assert client.hlen(identity.store_key() + ":hold") == 256
    assert store.suspect(identity, generation=1, origin="https://api-0.example") == "cooling"
    # What has ended makes room.
    ended = dict.fromkeys(list(client.hgetall(identity.store_key() + ":hold"))[:200], "1 1")
    client.hset(identity.store_key() + ":hold", mapping=ended)
    store.cool(identity, origin="https://api-new.example", seconds=60.0)
    assert store.suspect(identity, generation=1, origin="https://api-new.example") == "cooling"
    assert client.hlen(identity.store_key() + ":hold") == 57
    store.close()


@covers("P06", outcome="OK: the clock of the server counts, and one that went back ends what it would prolong")
def test_a_replica_whose_clock_is_behind(server: Server, client: Any, identity: Identity) -> None:
    """What is left is never more than there was: an hour behind, a lease of seconds would hold for an hour."""
    store, _ = store_on(server)
    hour = 3_600_000
    key = identity.store_key()
    claim(store, identity, "a")
    ends = int(client.hget(key + ":lease", "ends") or 0)
    client.hset(key + ":lease", "ends", str(ends + hour))
    assert isinstance(claim(store, identity, "b").directive, Lead)
    store.fail(identity, owner="b", hold=Hold(10.0, CredentialRefusedError("no"), 1))
    held = (client.hget(key + ":hold", "hold:") or b"").split(b" ", 1)
    client.hset(key + ":hold", "hold:", b"%d %s" % (int(held[0]) + hour, held[1]))
    assert isinstance(claim(store, identity, "c").directive, Lead)
    store.remove(identity)
    store.close()


# ---- for operators ------------------------------------------------------------------------------------------


def test_operators_see_and_remove_what_is_ours(server: Server, client: Any) -> None:
    store, _ = store_on(server, NEW, prefix="ops")
    client.set("ops:other:thing", "theirs")
    client.set("ops:api:service-account:{nothex}", "theirs")
    identities = [
        make_identity(registration_id="api"),
        make_identity(registration_id="api", principal="joe & co"),
        make_identity(registration_id="api.b"),
    ]
    for identity in identities:
        publish(store, identity)
        store.cool(identity, origin="https://api.example", seconds=60.0)
    store.suspect(identities[2], generation=store.read(identities[2]).record.generation, origin="")  # type: ignore[union-attr]
    store.hold_endpoint("endpoint", Hold(30.0, ThrottledError("slow"), 1))
    entries = {entry.key: entry for entry in store.entries()}
    assert list(entries) == sorted(identity.store_key("ops") for identity in identities)
    for identity in identities:
        entry = entries[identity.store_key("ops")]
        assert (entry.registration, entry.principal) == (identity.registration, identity.principal)
        assert (entry.key_id, entry.schema, entry.suspect) == ("new", 1, identity is identities[2])
        assert 0 < entry.remaining <= 60
        assert entry.generation >> 32 >= 1
    assert {entry.registration for entry in store.entries(registration="api.b")} == {"api.b"}
    # A pattern is no registration.
    assert list(store.entries(registration="*")) == []
    assert store.purge(registration="a?i") == 0
    assert store.remove_key(identities[0].store_key("ops"))
    assert not store.remove_key(identities[0].store_key("ops"))
    assert not store.remove_key("ops:other:thing")
    assert not store.remove_key(identities[1].store_key("ops") + ":hold")
    assert store.purge(registration="api") == 1
    assert [entry.registration for entry in store.entries()] == ["api.b"]
    assert store.purge() == 1
    assert sorted(client.keys("ops:*")) == [b"ops:api:service-account:{nothex}", b"ops:other:thing"]
    client.delete("ops:other:thing", "ops:api:service-account:{nothex}")
    store.close()


def test_a_prefix_has_plain_characters() -> None:
    for prefix in ("", "a b", "a*", "{x}", "é"):
        with pytest.raises(ConfigurationError, match="prefix"):
            RedisStore("redis://127.0.0.1", prefix=prefix)
