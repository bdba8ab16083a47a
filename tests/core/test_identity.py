"""Identities: no two token requests meet, and nothing secret is part of one."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.client_auth import ClientSecretBasic, ClientSecretPost
from accredit.core.identity import VERSION, Identity, encode, make_identity
from accredit.core.registration import ClientRegistration, TokenRequest, token_request_for

FIELDS = st.lists(st.tuples(st.text(max_size=8), st.lists(st.text(max_size=8), max_size=4)), max_size=5)


class Reader:
    """Inverts ``encode``."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self) -> int:
        end = self.data.index(b":", self.at)
        digits = self.data[self.at : end]
        assert digits == b"%d" % int(digits)
        self.at = end + 1
        return int(digits)

    def text(self) -> str:
        size = self.number()
        text = self.data[self.at : self.at + size]
        assert len(text) == size
        self.at += size
        return text.decode("utf-8", "surrogatepass")

    def fields(self) -> list[tuple[str, list[str]]]:
        fields = []
        for _ in range(self.number()):
            name = self.text()
            fields.append((name, [self.text() for _ in range(self.number())]))
        assert self.at == len(self.data)
        return fields


def decode(data: bytes) -> list[tuple[str, list[str]]]:
    return Reader(data).fields()


@given(FIELDS)
def test_the_encoding_can_be_inverted(fields: list[tuple[str, list[str]]]) -> None:
    assert decode(encode(fields)) == fields


@given(FIELDS, FIELDS)
def test_the_encoding_is_injective(one: list[tuple[str, list[str]]], other: list[tuple[str, list[str]]]) -> None:
    assert (encode(one) == encode(other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([("a", ["bc"])], [("ab", ["c"])]),
        ([("a", ["b", "c"])], [("a", ["bc"])]),
        ([("a", [""])], [("a", [])]),
        ([("a", ["1:b"])], [("a", ["b"])]),
        ([("a", ["b"]), ("c", [])], [("a", ["b", "1:c0:"])]),
        ([("a", ["é"])], [("a", ["e\u0301"])]),
    ],
)
def test_look_alikes_differ(one: list[tuple[str, list[str]]], other: list[tuple[str, list[str]]]) -> None:
    assert encode(one) != encode(other)


def test_a_lone_surrogate_is_encoded_too() -> None:
    assert decode(encode([("a", ["\ud800"])])) == [("a", ["\ud800"])]


def test_an_identity_is_its_encoding_and_a_digest_of_it() -> None:
    identity = make_identity("api-client", "alice", [("client_id", ["orders"])])
    assert decode(identity.encoded) == [
        (VERSION, []),
        ("registration", ["api-client"]),
        ("principal", ["alice"]),
        ("client_id", ["orders"]),
    ]
    assert identity.fingerprint == hashlib.sha256(identity.encoded).digest()[:16]


def test_the_store_key_has_the_documented_form() -> None:
    identity = Identity("api-client", "service-account", b"", bytes(range(16)))
    assert identity.store_key() == "oauth2:client:api-client:service-account:{000102030405060708090a0b0c0d0e0f}"
    assert identity.store_key("x").startswith("x:api-client:")


@given(st.text(min_size=1, max_size=20).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text)))
def test_a_principal_cannot_leave_its_place_in_the_key(principal: str) -> None:
    key = Identity("api", principal, b"", bytes(16)).store_key()
    parts = key.split(":")
    assert (len(parts), parts[2], parts[4]) == (5, "api", "{" + "00" * 16 + "}")
    assert key.count("{") == key.count("}") == 1
    assert key.isascii()
    assert key.isprintable()


# -- pairs of requests ------------------------------------------------------------------------------------------

ONE_OF: dict[str, list[Any]] = {
    "id": ["api", "api2"],
    "client_id": ["orders", "billing"],
    "client_auth": [
        ClientSecretPost("one"),
        ClientSecretPost("another"),
        ClientSecretBasic("one"),
        ClientSecretBasic("one", basic_encoding="raw"),
    ],
    "server": [
        {"issuer": "https://a.example"},
        {"issuer": "https://a.example/"},
        {"token_endpoint": "https://a.example"},
        {"metadata_url": "https://a.example"},
        {"issuer": "https://a.example", "metadata_url": "https://a.example"},
    ],
    "scope": ["", "a b", ["b", "a"], ["b", "a", "a"], "a", "b"],
    "resource": [(), "https://r.example", ["https://s.example", "https://r.example"], ["https://r.example"]],
    "audience": [None, "https://r.example", "a"],
    "authorization_details": [[], [{"type": "a"}], [{"type": "a", "x": 1}], [{"x": 1, "type": "a"}], [{"type": "b"}]],
    "extra_parameters": [{}, {"a": "b"}, {"a": "bc"}, {"ab": "c"}, {"a": "b", "c": "d"}, {"c": "d", "a": "b"}],
    "principal": ["service-account", "alice"],
    # What is not part of the token request is not part of its identity.
    "deadline": [10.0, 5.0],
    "leeway": [10.0, 1.0],
    "max_lifetime": [86400.0, 3600.0],
}
CHOICES = st.fixed_dictionaries({name: st.integers(0, len(values) - 1) for name, values in ONE_OF.items()})


def request_of(choice: dict[str, int]) -> TokenRequest:
    settings = {name: ONE_OF[name][index] for name, index in choice.items()}
    server = settings.pop("server")
    return token_request_for(ClientRegistration(**settings, **server))


def canonical(choice: dict[str, int]) -> object:
    value = {name: ONE_OF[name][index] for name, index in choice.items()}
    scope = value["scope"]
    resource = value["resource"]
    return (
        value["id"],
        value["client_id"],
        value["client_auth"].method,
        sorted(value["server"].items()),
        sorted(set(scope.split() if isinstance(scope, str) else scope)),
        sorted({resource} if isinstance(resource, str) else set(resource)),
        value["audience"],
        [sorted(detail.items(), key=str) for detail in value["authorization_details"]],
        sorted(value["extra_parameters"].items()),
        value["principal"],
    )


@given(CHOICES, st.sets(st.sampled_from(sorted(ONE_OF)), max_size=3), CHOICES)
def test_two_requests_share_a_key_exactly_when_they_are_the_same(
    one: dict[str, int], changed: set[str], other: dict[str, int]
) -> None:
    two = {name: other[name] if name in changed else index for name, index in one.items()}
    first, second = request_of(one), request_of(two)
    same = canonical(one) == canonical(two)
    assert (first.identity.encoded == second.identity.encoded) == same
    assert (first.identity.store_key() == second.identity.store_key()) == same


@given(CHOICES)
def test_what_a_call_says_makes_the_same_identity_as_what_a_registration_says(choice: dict[str, int]) -> None:
    request = request_of(choice)
    value = {name: ONE_OF[name][index] for name, index in choice.items()}
    plain = request_of({**choice, "scope": 0, "resource": 0, "audience": 0, "principal": 0}).registration
    varied = token_request_for(
        plain,
        scope=value["scope"],
        resource=value["resource"],
        audience=value["audience"],
        principal=value["principal"],
    )
    assert varied.identity == request.identity
    assert varied.parameters() == request.parameters()


def test_no_secret_is_part_of_an_identity() -> None:
    registration = ClientRegistration(
        id="api", client_id="orders", client_auth=ClientSecretPost("can4ry"), token_endpoint="https://a.example/t"
    )
    assert b"can4ry" not in token_request_for(registration).identity.encoded
