"""Registrations: what is refused at load, with the key and the fix, and what a token request looks like."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.client_auth import ClientSecretBasic, ClientSecretPost
from accredit.core.registration import (
    DEFAULT_PRINCIPAL,
    ClientCredentials,
    ClientRegistration,
    token_request_for,
)
from accredit.core.secret import Secret
from accredit.core.token import token_request
from accredit.errors import ConfigurationError

ENDPOINT = "https://as.example/token"


def make(**settings: Any) -> ClientRegistration:
    server = {} if {"issuer", "metadata_url", "token_endpoint"} & set(settings) else {"token_endpoint": ENDPOINT}
    defaults: dict[str, Any] = {"id": "api", "client_id": "orders", "client_auth": ClientSecretPost("secret"), **server}
    return ClientRegistration(**{**defaults, **settings})


def refused(key: str | None = None, **settings: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        make(**settings)
    error = caught.value
    if key is not None:
        assert error.key == key
    assert error.advice, "it says how to mend it"
    assert error.__context__ is None or error.__suppress_context__, "nothing hangs on it"
    return error


# -- names and texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["api-client", "A.b_c-9", "x" * 64])
def test_ids_that_are_good(name: str) -> None:
    assert make(id=name).id == name


@pytest.mark.parametrize("name", ["", "a b", "a:b", "é", "a\n", "x" * 65, "a/b", "{a}", None, 7])
def test_ids_that_are_not(name: Any) -> None:
    assert "A-Za-z0-9" in str(refused("id", id=name))


@pytest.mark.parametrize("field", ["client_id", "audience", "principal"])
@pytest.mark.parametrize("text", ["", "  ", "a\r\nb", "a\x00", "\x7f", "\x85", "\ud800", "x" * 2049, 7])
def test_texts_with_controls_or_blank_are_refused_d05_d06(field: str, text: Any) -> None:
    refused(f"registration.api.{field}", **{field: text})


@pytest.mark.parametrize("text", ["a:b", "100%", "a+b", "a b", "é€", "/=", '"\\'])
def test_any_other_character_is_legal_in_a_client_id_d05(text: str) -> None:
    assert make(client_id=text).client_id == text


def test_a_principal_has_a_length() -> None:
    assert make(principal="x" * 256).principal == "x" * 256
    assert "256" in str(refused(principal="x" * 257))
    assert make().principal == DEFAULT_PRINCIPAL == "service-account"


# -- the authorization server --------------------------------------------------------------------------------


def test_some_server_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="issuer is missing") as caught:
        ClientRegistration(id="api", client_id="orders", client_auth=ClientSecretPost("x"))
    assert caught.value.key == "registration.api.issuer"


@pytest.mark.parametrize("other", ["issuer", "metadata_url"])
def test_an_explicit_endpoint_stands_alone(other: str) -> None:
    error = refused("registration.api.token_endpoint", token_endpoint=ENDPOINT, **{other: "https://as.example"})
    assert f"stands beside {other}" in str(error)


def test_issuer_and_metadata_url_may_stand_together() -> None:
    registration = make(issuer="https://as.example", metadata_url="https://as.example/doc")
    assert registration.server == "https://as.example"
    assert make(metadata_url="https://as.example/doc").server == "https://as.example/doc"
    assert make().server == ENDPOINT


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:80@attacker.test/",
        "http://127.0.0.1.attacker.test",
        "http://[::ffff:127.0.0.1]",
        "http://2130706433",
        "https://user:pw@as.example",
        "https://as.example/#a",
        "https://as.example/\n",
        "https://as.example/\t",
        "https://as.example\\@evil.example",
        "https://as.example/a b",
        "https://as.example.",
        "http://as.example",
        "https://169.254.169.254/",
        "ftp://as.example",
        "as.example",
        "",
        7,
    ],
)
@pytest.mark.parametrize("field", ["issuer", "token_endpoint", "metadata_url"])
def test_urls_that_two_readers_might_read_differently_are_refused_d21_d22(field: str, url: Any) -> None:
    refused(f"registration.api.{field}", **{field: url})


@pytest.mark.parametrize("url", ["http://localhost:8080/t", "http://127.0.0.1/t", "http://[::1]:9/t"])
def test_plain_http_works_on_loopback(url: str) -> None:
    assert make(token_endpoint=url).token_endpoint == url


def test_plain_http_elsewhere_is_opted_in() -> None:
    assert make(token_endpoint="http://as.mesh/t", allow_insecure_http=True).allow_insecure_http
    refused(token_endpoint="http://169.254.169.254/t", allow_insecure_http=True)


@pytest.mark.parametrize("issuer", ["https://as.example?tenant=a", "https://as.example?"])
def test_an_issuer_has_no_query(issuer: str) -> None:
    assert "query" in str(refused("registration.api.issuer", issuer=issuer))
    assert make(token_endpoint="https://as.example/t?tenant=a").token_endpoint == "https://as.example/t?tenant=a"


# -- numbers and switches ------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["deadline", "renew_before", "leeway", "default_lifetime", "max_lifetime"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 1e12, True, "10", None])
def test_seconds_are_seconds(field: str, value: Any) -> None:
    assert "seconds" in str(refused(f"registration.api.{field}", **{field: value}))


@pytest.mark.parametrize(
    "field", ["require_scope", "allow_insecure_http", "assume_bearer", "lenient_content_type", "use_refresh_token"]
)
def test_switches_are_true_or_false(field: str) -> None:
    refused(f"registration.api.{field}", **{field: "true"})
    assert getattr(make(**{field: True}), field) is True


def test_whole_seconds_become_floats() -> None:
    assert type(make(deadline=5).deadline) is float


# -- lists ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["b a", ["a", "b", "a"], ("b", "a"), " a  b ", {"a", "b"}])
def test_scopes_are_sorted_and_each_is_there_once(scope: Any) -> None:
    assert make(scope=scope).scopes == ("a", "b")


@pytest.mark.parametrize("scope", ['a"b', "a\\b", "é", ["a b"], [""], [7], "a\tb", 7, None])
def test_scopes_keep_their_grammar_d08(scope: Any) -> None:
    refused("registration.api.scope", scope=scope)
    if scope is not None:
        with pytest.raises(ConfigurationError) as caught:
            token_request_for(make(), scope=scope)
        assert caught.value.key == "scope"


@pytest.mark.parametrize(
    "resource", ["orders", "/orders", "https://r.example/#a", "", "https://r example", [7], 7, "//r.example", "1a:b"]
)
def test_resources_are_absolute_uris_without_fragment_d10(resource: Any) -> None:
    refused("registration.api.resource", resource=resource)


def test_several_resources_may_be_given_in_any_order_d10() -> None:
    one = make(resource=["https://b.example", "urn:example:a", "https://b.example"])
    assert one.resources == ("https://b.example", "urn:example:a")
    assert make(resource="https://b.example").resources == ("https://b.example",)


@pytest.mark.parametrize(
    ("given_origins", "origins"),
    [
        (None, None),
        ((), frozenset()),
        ("https://API.example.com:443/", {"https://api.example.com"}),
        (["https://a.example:8443", "http://localhost:80"], {"https://a.example:8443", "http://localhost"}),
    ],
)
def test_api_origins_are_origins(given_origins: Any, origins: Any) -> None:
    assert make(api_origins=given_origins).origins == origins


@pytest.mark.parametrize(
    "origins",
    ["https://a.example/path", "https://a.example?q", "https://a.example/?q=/", "a.example", "", [7], 7, "https://a@b"],
)
def test_api_origins_are_nothing_else(origins: Any) -> None:
    refused("registration.api.api_origins", api_origins=origins)


def test_endpoint_hosts() -> None:
    assert make().endpoint_hosts is None
    assert make(allowed_endpoint_hosts="AS.example").endpoint_hosts == frozenset({"as.example"})
    hosts = make(allowed_endpoint_hosts=["a.example", "bücher.example"]).endpoint_hosts
    assert hosts == frozenset({"a.example", "xn--bcher-kva.example"})


@pytest.mark.parametrize(
    "hosts",
    ["https://a.example", "a.example:8443", "a.example:443", "a.example/x", "", ["a b"], [7.5], 7, "a.example?x"],
)
def test_endpoint_hosts_are_hosts(hosts: Any) -> None:
    refused("registration.api.allowed_endpoint_hosts", allowed_endpoint_hosts=hosts)


def test_members_to_keep() -> None:
    assert make(keep_members=["instance_url", "id"]).keep_members == ("instance_url", "id")
    assert make(keep_members="instance_url").keep_members == ("instance_url",)
    for members in ([7], 7, {"a": "b"}):
        refused("registration.api.keep_members", keep_members=members)


# -- authorization details (RFC 9396) ------------------------------------------------------------------------


def test_authorization_details_are_canonical() -> None:
    one = make(authorization_details=[{"type": "b", "é": [1, None]}, {"x": 1, "type": "a"}])
    assert list(map(str, one.authorization_details)) == ['{"type":"a","x":1}', '{"type":"b","\\u00e9":[1,null]}']
    alone = make(authorization_details={"type": "a"})
    assert list(map(str, alone.authorization_details)) == ['{"type":"a"}']


@pytest.mark.parametrize(
    "details", ["junk", ["junk"], [{"no": "type"}], [{"type": 7}], 7, [7], [{"type": "a", "x": float("nan")}]]
)
def test_authorization_details_are_objects_with_a_type(details: Any) -> None:
    refused("registration.api.authorization_details", authorization_details=details)


def test_authorization_details_are_json() -> None:
    for value in (object(), {1, 2}, b"x"):
        refused("registration.api.authorization_details", authorization_details=[{"type": "a", "x": value}])


# -- extra parameters ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "grant_type",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "scope",
        "resource",
        "audience",
        "assertion",
        "authorization_details",
    ],
)
def test_what_accredit_sets_itself_cannot_be_set_d09(name: str) -> None:
    assert name in str(refused("registration.api.extra_parameters", extra_parameters={name: "x"}))


@pytest.mark.parametrize("extra", [{"a": 7}, {"a": "b\n"}, {"": "b"}, {"a\x00": "b"}, {"a": "x" * 2049}, ["a"], "a"])
def test_extra_parameters_are_texts(extra: Any) -> None:
    refused("registration.api.extra_parameters", extra_parameters=extra)


# -- methods and grants --------------------------------------------------------------------------------------


def test_the_client_authentication_is_a_method() -> None:
    assert "str" in str(refused("registration.api.client_auth", client_auth="client_secret_basic"))


def test_the_grant_is_a_grant() -> None:
    refused("registration.api.grant", grant="client_credentials")
    assert make().grant == ClientCredentials()


class JwtBearer:
    """A grant of somebody else's making."""

    grant_type = "urn:ietf:params:oauth:grant-type:jwt-bearer"

    def parameters(self) -> list[tuple[str, str]]:
        return [("hint", "a b")]


def test_another_grant_is_sent_and_has_an_identity_of_its_own() -> None:
    registration = make(grant=JwtBearer())
    request = token_request_for(registration)
    assert request.parameters()[:2] == [("grant_type", JwtBearer.grant_type), ("hint", "a b")]
    assert request.identity != token_request_for(make()).identity


# -- values --------------------------------------------------------------------------------------------------


def test_a_registration_survives_being_replaced() -> None:
    registration = make(
        scope="b a",
        resource="https://r.example",
        audience="x",
        authorization_details=[{"type": "a"}],
        extra_parameters={"b": "c"},
        api_origins="https://api.example",
        allowed_endpoint_hosts=["as.example"],
        keep_members=["id"],
    )
    again = dataclasses.replace(registration)
    assert again == registration
    assert hash(again) == hash(registration)
    assert token_request_for(again).identity == token_request_for(registration).identity


def test_registrations_are_values() -> None:
    assert make() == make()
    assert make() != make(scope="a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().id = "x"  # type: ignore[misc]


def test_no_secret_in_the_repr() -> None:
    for auth in (ClientSecretPost("can4ry"), ClientSecretBasic(Secret("can4ry"))):
        assert "can4ry" not in repr(make(client_auth=auth))


# -- the form ------------------------------------------------------------------------------------------------


def test_the_form_of_a_request_with_everything() -> None:
    request = token_request_for(
        make(
            scope="b a",
            resource=["https://s.example", "https://r.example"],
            audience="x&y",
            authorization_details=[{"type": "t"}, {"type": "s"}],
            extra_parameters={"é": "a+b c"},
        )
    )
    body = token_request(request, ENDPOINT, Secret("s&1")).body
    assert parse_qsl(body.decode(), strict_parsing=True) == [
        ("grant_type", "client_credentials"),
        ("scope", "a b"),
        ("resource", "https://r.example"),
        ("resource", "https://s.example"),
        ("audience", "x&y"),
        ("authorization_details", '[{"type":"s"},{"type":"t"}]'),
        ("é", "a+b c"),
        ("client_id", "orders"),
        ("client_secret", "s&1"),
    ]


def test_a_bare_request_says_no_more_than_it_must() -> None:
    assert token_request_for(make()).parameters() == [("grant_type", "client_credentials")]


def test_a_call_may_vary_scope_resource_audience_and_principal() -> None:
    registration = make(scope="a", resource="https://r.example", audience="x", principal="p")
    request = token_request_for(
        registration, scope=["b"], resource="https://s.example", audience="y", principal="alice"
    )
    assert request[1:5] == (("b",), ("https://s.example",), "y", "alice")
    plain = token_request_for(registration)
    assert plain[1:5] == (("a",), ("https://r.example",), "x", "p")
    assert token_request_for(registration, scope=()).scopes == ()


@pytest.mark.parametrize(
    ("argument", "value"), [("resource", "x"), ("audience", ""), ("principal", "\n"), ("scope", "é")]
)
def test_what_a_call_varies_is_checked_too(argument: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        token_request_for(make(), **{argument: value})
    assert caught.value.key == argument


@given(
    st.dictionaries(
        st.sampled_from([field.name for field in dataclasses.fields(ClientRegistration)]),
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.text(max_size=5)),
            st.dictionaries(st.text(max_size=3), st.text(max_size=3)), st.binary(max_size=3), st.lists(st.integers()),
        ),
        max_size=3,
    )
)  # fmt: skip
def test_whatever_is_configured_is_taken_or_refused_with_a_configuration_error(settings: Mapping[str, Any]) -> None:
    key: str | None = None
    try:
        registration = make(**settings)
    except ConfigurationError as error:
        key = error.key
    else:
        assert token_request_for(dataclasses.replace(registration)) == token_request_for(registration)
        return
    assert key


def test_extra_parameters_may_hold_what_is_not_to_be_seen() -> None:
    registration = make(extra_parameters={"api_key": "canary"})
    assert registration.extra_parameters == {"api_key": "canary"}
    assert "canary" not in repr(registration)
