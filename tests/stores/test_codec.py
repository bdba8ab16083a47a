"""Records and holds as they lie in a store: what goes in comes out, and nothing else is ever taken for it."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit import errors
from accredit.core.identity import Identity
from accredit.core.records import Hold, Record
from accredit.errors import AuthorizationServerError, StoreError
from accredit.stores.codec import MAX_BYTES, MAX_LIFETIME, RecordCodec, UnreadableRecord, read_header
from accredit.stores.envelope import Keyring, generate_key
from accredit.testing.store_contract import make_identity, make_record

KEYRING = Keyring(generate_key("k1"))
PLAIN = RecordCodec()
SEALED = RecordCodec(KEYRING)
CODECS = pytest.mark.parametrize("codec", [PLAIN, SEALED], ids=["plain", "sealed"])
IDENTITY = make_identity()
KEY = IDENTITY.store_key()

_TOKENS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='",\\'), min_size=1)
_SCOPES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_LIFETIMES = st.floats(min_value=0.001, max_value=MAX_LIFETIME)
RECORDS = st.builds(
    Record,
    st.just(IDENTITY.encoded),
    _TOKENS,
    _LIFETIMES,
    st.floats(min_value=1.0, max_value=2.0**52),
    st.integers(min_value=0, max_value=(1 << 95)),
    st.none() | st.lists(_SCOPES, max_size=4).map(tuple),
    st.none() | _LIFETIMES,
    st.lists(st.tuples(_TEXTS, _TEXTS), max_size=3).map(tuple),
    st.none() | st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=30),
)
_MESSAGES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=60)
_KINDS = (
    errors.CredentialRefusedError,
    errors.RequestRefusedError,
    errors.ThrottledError,
    errors.MalformedResponseError,
    errors.UnreachableError,
    errors.DiscoveryError,
)
ERRORS = st.builds(
    lambda kind, summary, advice, endpoint, status, code, after: kind(
        summary, advice=advice, endpoint=endpoint, status=status, error_code=code, retry_after=after
    ),
    st.sampled_from(_KINDS),
    _MESSAGES,
    _MESSAGES,
    st.none() | st.sampled_from(["https://as.example/token", "http://localhost:8080/t"]),
    st.none() | st.integers(min_value=100, max_value=599),
    st.none() | st.from_regex(r"[A-Za-z0-9_.:-]{1,64}", fullmatch=True),
    st.none() | st.floats(min_value=0.0, max_value=1e6),
)
HOLDS = st.builds(
    Hold,
    st.floats(min_value=0.0, max_value=300.0),
    ERRORS,
    st.integers(min_value=0, max_value=1000),
    st.text("0123456789abcdef", max_size=32),
)


def refused(codec: RecordCodec, data: bytes, *, key: str = KEY, identity: Identity = IDENTITY) -> str:
    with pytest.raises(UnreadableRecord) as raised:
        codec.decode(data, store_key=key, identity=identity)
    assert raised.value.__context__ is None
    assert isinstance(raised.value, StoreError)
    return raised.value.reason


def altered(**members: Any) -> bytes:
    """Return a plaintext record with other members; None leaves one out."""
    content = json.loads(PLAIN.encode(make_record(IDENTITY), store_key=KEY).partition(b"plain:")[2])
    content = {name: value for name, value in {**content, **members}.items() if value is not None}
    return b"accredit:1:plain:" + json.dumps(content).encode()


def sealed(content: bytes) -> bytes:
    """Return a value that is authentic and says what it likes."""
    return SEALED._seal(content, b"record", KEY, IDENTITY.encoded)


# -- records ------------------------------------------------------------------------------------------


@CODECS
@given(record=RECORDS)
def test_a_record_comes_back_as_it_was(codec: RecordCodec, record: Record) -> None:
    data = codec.encode(record, store_key=KEY)
    assert codec.decode(data, store_key=KEY, identity=IDENTITY) == record


@CODECS
@given(one=RECORDS, other=RECORDS)
def test_different_records_differ_in_the_store(codec: RecordCodec, one: Record, other: Record) -> None:
    datas = [codec.encode(record, store_key=KEY) for record in (one, other)]
    decoded = [codec.decode(data, store_key=KEY, identity=IDENTITY) for data in datas]
    assert (decoded[0] == decoded[1]) == (one == other)
    if codec is PLAIN:
        assert (datas[0] == datas[1]) == (one == other)


FIELDS: list[tuple[str, tuple[object, ...]]] = [
    ("value", ("a", "b", "a.b", "A")),
    ("lifetime", (1.0, 1.5, 3600.0)),
    ("expires_at", (1.0, 4e9, 4e9 + 0.5)),
    ("generation", (0, 1, 1 << 32, (1 << 32) | 1)),
    ("granted_scope", (None, (), ("a",), ("a", "b"), ("b", "a"), ("a,b",), ("ab",))),
    ("refresh_in", (None, 1.0, 2.0)),
    ("members", ((), (("a", ""),), (("", "a"),), (("a", "b"),), (("a", "b"), ("c", "d")), (("a", "b,c"),))),
    ("refresh_token", (None, "a", "b", "a b")),
]


def test_every_field_of_a_record_is_looked_at() -> None:
    assert {field.name for field in dataclasses.fields(Record)} == {"identity", *(name for name, _ in FIELDS)}


@CODECS
@pytest.mark.parametrize(("field", "values"), FIELDS)
def test_each_field_is_told_apart(codec: RecordCodec, field: str, values: tuple[object, ...]) -> None:
    decoded = []
    for value in values:
        record = dataclasses.replace(make_record(IDENTITY, bits=1), **{field: value})  # type: ignore[arg-type]  # of the field
        found = codec.decode(codec.encode(record, store_key=KEY), store_key=KEY, identity=IDENTITY)
        assert getattr(found, field) == value
        decoded.append(found)
    assert len(set(decoded)) == len(values)


@CODECS
def test_a_record_of_another_identity_is_none(codec: RecordCodec) -> None:
    other = make_identity(registration_id=IDENTITY.registration, scope="orders:write")
    data = codec.encode(make_record(other), store_key=KEY)
    assert refused(codec, data) == ("identity" if codec is PLAIN else "tampered")
    own = codec.encode(make_record(IDENTITY), store_key=KEY)
    assert refused(codec, own, identity=other) == ("identity" if codec is PLAIN else "tampered")


def test_a_sealed_record_is_bound_to_its_key_in_the_store() -> None:
    data = SEALED.encode(make_record(IDENTITY), store_key=KEY)
    assert refused(SEALED, data, key=f"{KEY}x") == "tampered"
    assert refused(SEALED, data, key=make_identity().store_key()) == "tampered"


def test_every_bit_of_a_sealed_record_counts() -> None:
    data = SEALED.encode(make_record(IDENTITY), store_key=KEY)
    reasons = set()
    for place in range(len(data)):
        touched = bytearray(data)
        touched[place] ^= 1 << (place % 8)
        reasons.add(refused(SEALED, bytes(touched)))
        reasons.add(refused(SEALED, data[:place]))
    assert reasons == {"foreign", "schema", "algorithm", "key", "tampered"}
    assert refused(SEALED, data + b"\x00") == "tampered"


@CODECS
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "foreign"),
        (b"\xac\xed\x00\x05t\x00\x05hello", "foreign"),
        (pickle.dumps({"access_token": "x"}), "foreign"),
        (b'{"access_token":"x"}', "foreign"),
        (b"x" * 100_000, "foreign"),
        (b"accredit:1:", "foreign"),
        (b"accredit:0:plain:{}", "foreign"),
        (b"accredit:01:plain:{}", "foreign"),
        (b"ACCREDIT:1:plain:{}", "foreign"),
        (b"accredit:2:plain:{}", "schema"),
        (b"accredit:2:A512GCM:k1:xyz", "schema"),
        (b"accredit:9999:plain:{}", "schema"),
        (b"accredit:1:plain:" + b" " * MAX_BYTES, "size"),
    ],
)
def test_what_is_not_of_this_version_or_not_ours(codec: RecordCodec, data: bytes, reason: str) -> None:
    assert refused(codec, data) == reason


def test_plaintext_is_not_read_where_there_is_a_keyring_and_the_other_way_round() -> None:
    record = make_record(IDENTITY)
    assert refused(SEALED, PLAIN.encode(record, store_key=KEY)) == "plaintext"
    assert refused(PLAIN, SEALED.encode(record, store_key=KEY)) == "encrypted"


def test_the_key_is_chosen_by_its_id_alone() -> None:
    record = make_record(IDENTITY)
    old, new = generate_key("old"), generate_key("new")
    data = RecordCodec(Keyring(old)).encode(record, store_key=KEY)
    assert RecordCodec(Keyring(new, old)).decode(data, store_key=KEY, identity=IDENTITY) == record
    assert refused(RecordCodec(Keyring(new)), data) == "key"
    # Another key under the id that the value names: nothing is tried but that one.
    assert refused(RecordCodec(Keyring(generate_key("old"), new)), data) == "tampered"
    assert refused(RecordCodec(Keyring(new, old)), data.replace(b":old:", b":new:")) == "tampered"
    for weaker in (b"A128GCM", b"none", b"dir", b"A256CBC"):
        assert refused(RecordCodec(Keyring(new, old)), data.replace(b"A256GCM", weaker)) == "algorithm"


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"token": ""}, "format"),
        ({"token": "a b"}, "format"),
        ({"token": "a\r\nX: y"}, "format"),
        ({"token": 7}, "format"),
        ({"token": None}, "format"),
        ({"token": "x" * (64 * 1024 + 1)}, "format"),
        ({"lifetime": 0}, "lifetime"),
        ({"lifetime": -1.0}, "lifetime"),
        ({"lifetime": MAX_LIFETIME + 1}, "lifetime"),
        ({"lifetime": True}, "format"),
        ({"lifetime": "3600"}, "format"),
        ({"lifetime": float("nan")}, "format"),
        ({"lifetime": float("inf")}, "format"),
        ({"lifetime": 10**400}, "format"),
        ({"expires_at": 0}, "lifetime"),
        ({"expires_at": -4e9}, "lifetime"),
        ({"expires_at": float("nan")}, "format"),
        ({"expires_at": 1e300}, "format"),
        ({"generation": -1}, "format"),
        ({"generation": 1.5}, "format"),
        ({"generation": 1 << 96}, "format"),
        ({"generation": False}, "format"),
        ({"scope": "orders:read"}, "format"),
        ({"scope": ["a b"]}, "format"),
        ({"scope": [7]}, "format"),
        ({"refresh_in": 0}, "lifetime"),
        ({"refresh_in": MAX_LIFETIME + 1}, "lifetime"),
        ({"refresh_in": "1"}, "format"),
        ({"members": {"a": "b"}}, "format"),
        ({"members": [["a"]]}, "format"),
        ({"members": [["a", 7]]}, "format"),
        ({"members": [["a", "\ud800"]]}, "format"),
        ({"refresh_token": ""}, "format"),
        ({"refresh_token": "a\nb"}, "format"),
        ({"refresh_token": 7}, "format"),
        ({"identity": 7}, "format"),
        ({"identity": None}, "format"),
        ({"identity": "=="}, "format"),
        ({"more": 1}, "format"),
    ],
)
def test_a_record_that_makes_no_sense(members: dict[str, Any], reason: str) -> None:
    data = altered(**members)
    assert refused(PLAIN, data) == reason
    # The same, authentic: who has the key is not trusted with nonsense either.
    assert refused(SEALED, sealed(data.partition(b"plain:")[2])) == reason


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"7", b"{", b'{"token":"a","token":"b"}', b"\xff", b"[" * 50 + b"]" * 50]
)
def test_content_that_is_no_object(content: bytes) -> None:
    assert refused(PLAIN, b"accredit:1:plain:" + content) == "format"
    assert refused(SEALED, sealed(content)) == "format"


@CODECS
@given(data=st.binary(max_size=200) | st.binary(max_size=60).map(lambda rest: b"accredit:1:A256GCM:k1:" + rest))
def test_whatever_lies_there_is_read_or_refused(codec: RecordCodec, data: bytes) -> None:
    assert refused(codec, data) in {"foreign", "schema", "plaintext", "encrypted", "key", "tampered", "format"}
    with pytest.raises(UnreadableRecord):
        codec.decode_hold(data, 1.0)


@CODECS
@pytest.mark.parametrize(
    "changes", [{"expires_at": float("inf")}, {"lifetime": float("nan")}, {"members": (("a", "x" * MAX_BYTES),)}]
)
def test_what_no_record_can_hold_is_not_written(codec: RecordCodec, changes: dict[str, Any]) -> None:
    record = dataclasses.replace(make_record(IDENTITY, "canary-token"), **changes)
    with pytest.raises(StoreError) as raised:
        codec.encode(record, store_key=KEY)
    assert "canary" not in str(raised.value)


def test_forms_tell_versions_and_keys_apart() -> None:
    assert PLAIN.form == "1:plain"
    assert SEALED.form == "1:A256GCM:k1"
    for codec in (PLAIN, SEALED):
        header = read_header(codec.encode(make_record(IDENTITY), store_key=KEY))
        assert header is not None
        assert header.form == codec.form
    assert read_header(b"nothing") is None


def test_the_token_does_not_show_in_what_is_sealed() -> None:
    record = make_record(IDENTITY, "canary-token", granted_scope=("canary-scope",))
    data = SEALED.encode(record, store_key=KEY)
    assert b"canary" not in data
    assert b"canary-token" in PLAIN.encode(record, store_key=KEY)


def test_credentials_are_tagged_with_a_key_of_the_fleet() -> None:
    assert PLAIN.tag_key is None
    first, second = generate_key("a"), generate_key("b")
    one, other = RecordCodec(Keyring(first)), RecordCodec(Keyring(second))
    assert one.tag_key == RecordCodec(Keyring(first, second)).tag_key != other.tag_key
    assert one.tag_key is not None
    assert len(one.tag_key) == 32


# -- holds --------------------------------------------------------------------------------------------


@CODECS
@given(hold=HOLDS)
def test_a_hold_comes_back_as_it_was(codec: RecordCodec, hold: Hold) -> None:
    assert codec.decode_hold(codec.encode_hold(hold), hold.seconds) == hold


@CODECS
def test_a_hold_is_no_record_and_a_record_no_hold(codec: RecordCodec) -> None:
    hold = codec.encode_hold(Hold(1.0, errors.UnreachableError("gone"), 1))
    record = codec.encode(make_record(IDENTITY), store_key=KEY)
    assert refused(codec, hold) == ("format" if codec is PLAIN else "tampered")
    with pytest.raises(UnreadableRecord):
        codec.decode_hold(record, 1.0)


def test_no_hold_is_taken_from_who_has_no_key() -> None:
    hold = Hold(1.0, errors.UnreachableError("gone"), 1)
    with pytest.raises(UnreadableRecord, match="plaintext"):
        SEALED.decode_hold(PLAIN.encode_hold(hold), 1.0)
    with pytest.raises(UnreadableRecord, match="encrypted"):
        PLAIN.decode_hold(SEALED.encode_hold(hold), 1.0)


def test_what_a_message_must_not_hold_is_replaced_on_the_way_in() -> None:
    error = errors.UnreachableError("line\r\nbreak \x1b[31m \u2028 \ud800" + "x" * 5000, advice="\x00")
    found = PLAIN.decode_hold(PLAIN.encode_hold(Hold(1.0, error, 1)), 1.0).error
    assert found.summary.startswith("line??break ?[31m ? ?xxx")
    assert (len(found.summary), found.advice) == (2000, "?")


def test_a_kind_of_error_that_others_made_comes_back_as_unreachable() -> None:
    class OddError(AuthorizationServerError):
        pass

    found = PLAIN.decode_hold(PLAIN.encode_hold(Hold(1.0, OddError("odd"), 10**9)), 1.0)
    assert type(found.error) is errors.UnreachableError
    assert found.failures == 1_000_000


_Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda hold: hold.update(error="exception"),
        lambda hold: hold.update(error=["throttled"]),
        lambda hold: hold.pop("summary"),
        lambda hold: hold.update(summary="a\nb"),
        lambda hold: hold.update(summary="x" * 2001),
        lambda hold: hold.update(advice=7),
        lambda hold: hold.update(failures=-1),
        lambda hold: hold.update(failures=True),
        lambda hold: hold.update(failures=10**9),
        lambda hold: hold.update(credential="a b"),
        lambda hold: hold.update(credential="x" * 129),
        lambda hold: hold.update(endpoint="javascript:alert(1)"),
        lambda hold: hold.update(endpoint="https://as.example/\x1b"),
        lambda hold: hold.update(status="429"),
        lambda hold: hold.update(status=1000),
        lambda hold: hold.update(code="a b"),
        lambda hold: hold.update(retry_after="soon"),
        lambda hold: hold.update(more=1),
    ],
)
def test_a_hold_that_somebody_wrote_to_reach_people(change: _Change) -> None:
    good = PLAIN.encode_hold(
        Hold(1.0, errors.ThrottledError("slow", status=429, error_code="slow_down", endpoint="https://as.example/t"), 1)
    )
    assert PLAIN.decode_hold(good, 1.0).failures == 1
    members = json.loads(good.partition(b"plain:")[2])
    change(members)
    with pytest.raises(UnreadableRecord, match="format"):
        PLAIN.decode_hold(b"accredit:1:plain:" + json.dumps(members).encode(), 1.0)
    assert PLAIN.decode_hold(good, 7.0).seconds == 7.0
    with pytest.raises(UnreadableRecord):
        PLAIN.decode_hold(good, float("nan"))


def test_an_unreadable_record_can_be_made_anew_and_says_no_more_than_why() -> None:
    error = UnreadableRecord("tampered")
    assert error.fresh() == error
    assert str(error) == "a stored value is not used: tampered. Another process may be able to."
