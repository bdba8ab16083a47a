"""``ACCREDIT_`` variables over a file, and without one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from accredit import ClientRegistration, ClientSecretBasic, ClientSecretPost, ConfigurationError, TokenManager
from accredit.config import load
from accredit.core.secret import EnvironmentSecret, FileSecret
from accredit.secret_sources import SecretReader

CANARY = "canary-a92be1c4"
BASE = {
    "ACCREDIT_ISSUER": "https://idp.example",
    "ACCREDIT_CLIENT_ID": "orders",
    "ACCREDIT_CLIENT_SECRET": CANARY,
}
FILE = """
default = "api-client"
[registration.api-client]
issuer = "https://idp.example"
metadata_url = "https://idp.example/meta"
client_id = "orders"
client_secret = "in-the-file"
basic_encoding = "raw"
[registration."b.c"]
token_endpoint = "https://b.example/token"
client_id = "b"
client_secret = "b"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "accredit.toml"
    path.write_text(FILE, encoding="utf-8")
    path.chmod(0o600)
    return path


def get(environ: dict[str, str], path: Path | None = None, name: str = "default") -> ClientRegistration:
    registration = load(path, environ=environ).get(name)
    assert registration is not None
    return registration


def secret_of(registration: ClientRegistration) -> str:
    source = registration.client_auth.source
    assert source is not None
    return SecretReader().read(source).reveal()


def refused(environ: dict[str, str], path: Path | None = None) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load(path, environ=environ)
    assert caught.value.__context__ is None
    assert CANARY not in str(caught.value)
    return caught.value


def test_three_variables_make_a_registration() -> None:
    registrations = load(environ=BASE)
    assert registrations.default == "default"
    registration = registrations.get("default")
    assert registration is not None
    assert (registration.issuer, registration.client_id) == ("https://idp.example", "orders")
    assert secret_of(registration) == CANARY
    assert CANARY not in repr(registration)


def test_every_kind_of_value() -> None:
    registration = get(
        BASE
        | {
            "ACCREDIT_CLIENT_AUTH": "client_secret_post",
            "ACCREDIT_SCOPE": "b a",
            "ACCREDIT_RESOURCE": "https://x.example https://y.example",
            "ACCREDIT_API_ORIGINS": "https://x.example  https://y.example",
            "ACCREDIT_AUDIENCE": "aud",
            "ACCREDIT_DEADLINE": "2.5",
            "ACCREDIT_REQUIRE_SCOPE": "true",
            "ACCREDIT_ASSUME_BEARER": "false",
            "ACCREDIT_EXTRA_PARAMETERS": '{"tenant": "7"}',
            "ACCREDIT_AUTHORIZATION_DETAILS": '[{"type": "t"}]',
            "ACCREDIT_KEEP_MEMBERS": "instance_url id",
        }
    )
    assert isinstance(registration.client_auth, ClientSecretPost)
    assert registration.scopes == ("a", "b")
    assert registration.resources == ("https://x.example", "https://y.example")
    assert registration.origins == frozenset({"https://x.example", "https://y.example"})
    assert registration.audience == "aud"
    assert registration.deadline == 2.5
    assert registration.require_scope
    assert not registration.assume_bearer
    assert registration.extra_parameters == {"tenant": "7"}
    assert list(map(str, registration.authorization_details)) == ['{"type":"t"}']
    assert registration.keep_members == ("instance_url", "id")


def test_variables_go_over_the_file(file: Path) -> None:
    registrations = load(
        environ={
            "ACCREDIT_CONFIG": f"{file}\n",
            "ACCREDIT_SCOPE": "short",
            "ACCREDIT_REGISTRATION__API_CLIENT__SCOPE": "long",
            "ACCREDIT_AUDIENCE": "aud",
            "ACCREDIT_REGISTRATION__B_C__CLIENT_ID": "other",
            "ACCREDIT_REGISTRATION__NEW_ONE__TOKEN_ENDPOINT": "https://new.example/token",
            "ACCREDIT_REGISTRATION__NEW_ONE__CLIENT_ID": "new",
            "ACCREDIT_REGISTRATION__NEW_ONE__CLIENT_SECRET": "new-secret",
        }
    )
    assert registrations.default == "api-client"
    assert [registration.id for registration in registrations] == ["api-client", "b.c", "new-one"]
    first, second, third = registrations
    assert (first.scopes, first.audience, secret_of(first)) == (("long",), "aud", "in-the-file")
    assert (second.client_id, secret_of(second)) == ("other", "b")
    assert secret_of(third) == "new-secret"


def test_an_explicit_path_wins_over_the_variable(file: Path) -> None:
    assert load(file, environ={"ACCREDIT_CONFIG": "/nowhere.toml"}).default == "api-client"


def test_a_server_in_the_environment_replaces_the_one_of_the_file(file: Path) -> None:
    registration = get({"ACCREDIT_TOKEN_ENDPOINT": "https://n.example/token"}, file, "api-client")
    assert (registration.issuer, registration.metadata_url) == (None, None)
    registration = get({"ACCREDIT_ISSUER": "https://n.example"}, file, "api-client")
    assert (registration.issuer, registration.metadata_url) == ("https://n.example", None)
    registration = get({"ACCREDIT_METADATA_URL": "https://n.example"}, file, "api-client")
    assert (registration.issuer, registration.metadata_url) == ("https://idp.example", "https://n.example")
    registration = get({"ACCREDIT_REGISTRATION__B_C__ISSUER": "https://n.example"}, file, "b.c")
    assert (registration.issuer, registration.token_endpoint) == ("https://n.example", None)
    registration = get({"ACCREDIT_CLIENT_AUTH": "client_secret_post"}, file, "api-client")
    assert isinstance(registration.client_auth, ClientSecretPost)
    error = refused({"ACCREDIT_ISSUER": "https://n.example", "ACCREDIT_TOKEN_ENDPOINT": "https://n.example"}, file)
    assert error.key == "registration.api-client.token_endpoint"
    assert "ACCREDIT_TOKEN_ENDPOINT" in error.advice


def test_the_default(file: Path) -> None:
    assert load(file, environ={"ACCREDIT_DEFAULT": "b.c"}).default == "b.c"
    registration = get({"ACCREDIT_DEFAULT": "b.c", "ACCREDIT_SCOPE": "x"}, file, "b.c")
    assert registration.scopes == ("x",)
    assert load(environ=BASE | {"ACCREDIT_DEFAULT": "orders"}).default == "orders"
    assert refused({"ACCREDIT_DEFAULT": "nobody"}, file).key == "default"
    assert refused({"ACCREDIT_DEFAULT": "a b"}, file).key == "ACCREDIT_DEFAULT"
    file.write_text(FILE.replace('default = "api-client"', ""), encoding="utf-8")
    assert load(file, environ={}).default is None
    assert refused({"ACCREDIT_SCOPE": "x"}, file).key == "ACCREDIT_SCOPE"


def test_a_sole_registration_is_the_default_one(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text(
        "[registration.only]\nissuer='https://i.example'\nclient_id='c'\nclient_secret='s'", encoding="utf-8"
    )
    path.chmod(0o600)
    registrations = load(path, environ={"ACCREDIT_SCOPE": "x"})
    assert registrations.default == "only"
    assert [registration.scopes for registration in registrations] == [("x",)]


@pytest.mark.parametrize("tail", ["\n", "\r\n", ""])
def test_one_trailing_newline_is_dropped(tail: str) -> None:
    assert secret_of(get(BASE | {"ACCREDIT_CLIENT_SECRET": f"{CANARY}{tail}"})) == CANARY
    assert get(BASE | {"ACCREDIT_SCOPE": f"x{tail}"}).scopes == ("x",)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("  ", "is empty"),
        (f'"{CANARY}"', "quotes"),
        (f"'{CANARY}'\n", "quotes"),
        (f"\ufeff{CANARY}", "byte order mark"),
        (f"{CANARY}\n\n", "U+000A"),
        (f"{CANARY}\r", "U+000D"),
        (f"a\x00{CANARY}", "U+0000"),
        (f"{CANARY}\udc80", "U+DC80"),
    ],
)
def test_a_secret_that_was_mangled_on_its_way_is_refused(value: str, says: str) -> None:
    error = refused(BASE | {"ACCREDIT_CLIENT_SECRET": value})
    assert "ACCREDIT_CLIENT_SECRET" in str(error)
    assert says in str(error)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACCREDIT_CONFIG", ""),
        ("ACCREDIT_DEFAULT", ""),
        ("ACCREDIT_SCOPE", ""),
        ("ACCREDIT_SCOPE", '"a"'),
        ("ACCREDIT_ISSUER", "\ufeffhttps://idp.example"),
        ("ACCREDIT_AUDIENCE", "   "),
        ("ACCREDIT_DEADLINE", "five"),
        ("ACCREDIT_DEADLINE", "1e3"),
        ("ACCREDIT_DEADLINE", "-1"),
        ("ACCREDIT_DEADLINE", "９"),
        ("ACCREDIT_DEADLINE", "100000"),
        ("ACCREDIT_REQUIRE_SCOPE", "yes"),
        ("ACCREDIT_EXTRA_PARAMETERS", "a=b"),
        ("ACCREDIT_EXTRA_PARAMETERS", '{"a": 1}'),
        ("ACCREDIT_EXTRA_PARAMETERS", '{"a": "1", "a": "2"}'),
        ("ACCREDIT_EXTRA_PARAMETERS", "\udc80"),
        ("ACCREDIT_AUTHORIZATION_DETAILS", "{}"),
        ("ACCREDIT_CLIENT_AUTH", "basic"),
        ("ACCREDIT_CLIENT_SECRET_FILE", "/run/secret"),
        ("ACCREDIT_REGISTRATION__DEFAULT__DEADLINE", "x"),
    ],
)
def test_a_wrong_value_is_refused_and_its_variable_named(name: str, value: str) -> None:
    assert name in str(refused(BASE | {name: value}))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ACCREDIT_REGISTRATION__R__SCOPES", "Did you mean scope?"),
        ("ACCREDIT_REGISTRATION__R__scope", "not known"),
        ("ACCREDIT_REGISTRATION__SCOPE", "two underscores"),
        ("ACCREDIT_REGISTRATION_R__SCOPE", "two underscores"),
        ("ACCREDIT_REGISTRATION", "two underscores"),
        ("ACCREDIT_REGISTRATION__A/B__SCOPE", "of the form"),
    ],
)
def test_an_unknown_long_name_is_refused(name: str, says: str) -> None:
    assert says in str(refused(BASE | {name: "x"}))


def test_a_long_name_that_fits_two_registrations_is_refused(file: Path) -> None:
    file.write_text(FILE.replace('"b.c"', "api_client"), encoding="utf-8")
    assert "several" in str(refused({"ACCREDIT_REGISTRATION__API_CLIENT__SCOPE": "x"}, file))


def test_a_slip_in_a_short_name_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "accredit"):
        load(environ=BASE | {"ACCREDIT_REQUIRE_REAL_SERVERS": "1", "ACCREDIT_SCOPES": CANARY})
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "did you mean ACCREDIT_SCOPE?" in caplog.text
    assert CANARY not in caplog.text


def test_a_secret_file_named_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("from-file\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    environ = {key: value for key, value in BASE.items() if key != "ACCREDIT_CLIENT_SECRET"}
    registration = get(environ | {"ACCREDIT_CLIENT_SECRET_FILE": "secret"})
    assert registration.client_auth == ClientSecretBasic(FileSecret(tmp_path / "secret"))
    assert secret_of(registration) == "from-file"


def test_a_variable_of_the_file_is_read_when_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "accredit.toml"
    path.write_text(
        "[registration.r]\nissuer='https://i.example'\nclient_id='c'\nclient_secret={ env = 'ORDERS' }",
        encoding="utf-8",
    )
    environ: dict[str, str] = {}
    registration = get(environ, path, "r")
    with pytest.raises(ConfigurationError):
        secret_of(registration)
    environ["ORDERS"] = "now"
    assert secret_of(registration) == "now"
    environ["ORDERS"] = "rotated"
    assert secret_of(registration) == "rotated"
    assert refused({"ORDERS": '"quoted"'}, path).key == "registration.r.client_secret"


def test_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BASE.items():
        monkeypatch.setenv(name, value)
    registration = load().get("default")
    assert registration is not None
    assert registration.client_auth == ClientSecretBasic(EnvironmentSecret("ACCREDIT_CLIENT_SECRET"))
    with TokenManager.from_config() as manager:
        assert manager.peek() is None
