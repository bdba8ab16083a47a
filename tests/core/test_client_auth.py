"""How a client proves who it is: what goes over the wire, to the byte."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.client_auth import (
    ClientAuthentication,
    ClientSecretBasic,
    ClientSecretPost,
    as_secret_source,
    checked_secret,
    percent_encode,
)
from accredit.core.registration import ClientRegistration, token_request_for
from accredit.core.secret import CallableSecret, LiteralSecret, Secret, SecretSource
from accredit.core.token import token_request
from accredit.errors import ConfigurationError

CONTROLS = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
TEXTS = st.text(st.characters(exclude_characters=CONTROLS, exclude_categories=["Cs"]), min_size=1).filter(str.strip)
ODD = [":", "%", "+", "a b", "é", "/", "=", "a:b%20+c d/é=", "100%25", "€", "-._~", "&", "\u3000x", "😀"]


def sent(method: ClientAuthentication, client_id: str, secret: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    registration = ClientRegistration(
        id="api", client_id=client_id, client_auth=method, token_endpoint="https://as.example/token"
    )
    request = token_request(token_request_for(registration), "https://as.example/token", Secret(secret))
    return dict(request.headers), parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True)


def basic(headers: dict[str, str]) -> str:
    scheme, _, credentials = headers["authorization"].partition(" ")
    assert scheme == "Basic"
    return b64decode(credentials, validate=True).decode()


# -- client_secret_basic ---------------------------------------------------------------------------------------


def test_the_example_of_rfc_6749() -> None:
    headers, form = sent(ClientSecretBasic("7Fjfp0ZBr1KtDRbnfVdmIw"), "s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw")
    assert headers["authorization"] == "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3"
    assert form == [("grant_type", "client_credentials")]


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        (" %&+£€", "%20%25%26%2B%C2%A3%E2%82%AC"),  # RFC 6749, appendix B, but "%20" for the space
        ("a:b", "a%3Ab"),
        ("-._~", "-._~"),
        ("é/=", "%C3%A9%2F%3D"),
        ("AZaz09", "AZaz09"),
    ],
)
def test_percent_encoding_is_of_utf_8_with_capital_digits_d01(text: str, encoded: str) -> None:
    assert percent_encode(text) == encoded


@pytest.mark.parametrize("client_id", ODD)
@pytest.mark.parametrize("secret", ODD)
def test_a_server_that_decodes_gets_id_and_secret_back_d01(client_id: str, secret: str) -> None:
    headers, form = sent(ClientSecretBasic(secret), client_id, secret)
    user, _, password = basic(headers).partition(":")
    assert (unquote(user, errors="strict"), unquote(password, errors="strict")) == (client_id, secret)
    assert all(name not in {"client_id", "client_secret"} for name, _ in form), "one method at a time (d11)"


@given(TEXTS, TEXTS)
def test_any_id_and_secret_come_back(client_id: str, secret: str) -> None:
    ((name, value),), form = ClientSecretBasic(secret).apply(client_id, Secret(secret))
    assert (name, form) == ("authorization", ())
    user, _, password = basic({"authorization": value}).partition(":")
    assert (unquote(user), unquote(password)) == (client_id, secret)
    assert value.isascii()
    assert value.isprintable()


@pytest.mark.parametrize("secret", ODD)
def test_raw_sends_them_as_they_are_d03(secret: str) -> None:
    headers, _ = sent(ClientSecretBasic(secret, basic_encoding="raw"), "id%20+é", secret)
    assert basic(headers) == f"id%20+é:{secret}"


def test_raw_refuses_a_client_id_with_a_colon_d03() -> None:
    with pytest.raises(ConfigurationError, match="colon") as caught:
        sent(ClientSecretBasic("x", basic_encoding="raw"), "a:b", "x")
    assert caught.value.key == "client_id"
    sent(ClientSecretBasic("x"), "a:b", "x")


def test_the_encoding_is_one_of_two() -> None:
    with pytest.raises(ConfigurationError, match="percent"):
        ClientSecretBasic("x", basic_encoding="latin-1")  # type: ignore[arg-type]


def test_the_methods_have_their_iana_names_and_raw_an_identity_of_its_own() -> None:
    assert ClientSecretBasic("x").method == "client_secret_basic"
    assert ClientSecretPost("x").method == "client_secret_post"
    assert ClientSecretBasic("x", basic_encoding="raw").method not in {"client_secret_basic", "client_secret_post"}


# -- client_secret_post ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_id", ODD)
@pytest.mark.parametrize("secret", ODD)
def test_the_form_carries_id_and_secret_d01_d11(client_id: str, secret: str) -> None:
    headers, form = sent(ClientSecretPost(secret), client_id, secret)
    assert "authorization" not in headers
    assert form[-2:] == [("client_id", client_id), ("client_secret", secret)]
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert headers["accept"] == "application/json"


def test_without_a_secret_an_empty_one_is_sent() -> None:
    assert ClientSecretPost("x").apply("id", None) == ((), (("client_id", "id"), ("client_secret", "")))
    ((_, value),), _ = ClientSecretBasic("x").apply("id", None)
    assert basic({"authorization": value}) == "id:"


# -- secrets as they are given ---------------------------------------------------------------------------------


def test_a_secret_may_be_given_in_many_ways() -> None:
    def function() -> str:
        return "x"

    sources: list[SecretSource] = [Secret.from_file("x"), Secret.from_environment("X"), Secret.from_function(function)]
    for source in sources:
        assert as_secret_source(source) is source
    assert as_secret_source("x") == LiteralSecret(Secret("x"))
    assert as_secret_source(Secret("x")) == LiteralSecret(Secret("x"))
    assert as_secret_source(function) == CallableSecret(function)


@pytest.mark.parametrize("given_secret", [7, None, b"x", ["x"], Path("x")])
def test_a_secret_is_nothing_else(given_secret: Any) -> None:
    for method in (ClientSecretBasic, ClientSecretPost, as_secret_source):
        with pytest.raises(ConfigurationError, match="client secret must be") as caught:
            method(given_secret)
        assert caught.value.key == "client_secret"


@pytest.mark.parametrize("text", ["", " ", "\u3000", "a\n", "a\r\nb", "\x00", "a\x7f", "a\x85", "\ud800"])
def test_blank_secrets_and_controls_are_refused_without_showing_them_d04_d06(text: str) -> None:
    for given_secret in (text, Secret(text)):
        with pytest.raises(ConfigurationError) as caught:
            ClientSecretPost(f"{text}" if isinstance(given_secret, str) else given_secret)
        assert caught.value.key == "client_secret"
    with pytest.raises(ConfigurationError) as caught:
        checked_secret(Secret(f"can4ry{text}x" if text.strip() else text), origin="file x")
    assert "file x" in str(caught.value)
    assert "can4ry" not in str(caught.value)


def test_a_good_secret_is_given_back() -> None:
    secret = Secret("s3cret")
    assert checked_secret(secret, origin="file x") is secret


def test_the_place_of_a_bad_character_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"U\+000A at position 6"):
        ClientSecretPost("secret\n")


@pytest.mark.parametrize("method", [ClientSecretBasic("can4ry"), ClientSecretPost("can4ry")])
def test_methods_hide_their_secret(method: Any) -> None:
    assert "can4ry" not in repr(method)
    assert "can4ry" not in str(method)
    assert isinstance(method, ClientAuthentication)
    assert method.source == LiteralSecret(Secret("can4ry"))
    assert method in {ClientSecretBasic("can4ry"), ClientSecretPost("can4ry")}
