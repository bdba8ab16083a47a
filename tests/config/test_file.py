"""Registrations from a TOML file."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path

import pytest

from accredit import ClientRegistration, ClientSecretBasic, ClientSecretPost, ConfigurationError
from accredit.config import load
from accredit.config.schema import KEYS
from accredit.core.secret import FileSecret, LiteralSecret
from accredit.registrations import Registrations
from accredit.secret_sources import SecretReader

CANARY = "canary-6ff1a0d3"
GOOD = """
default = "api-client"

[registration.api-client]
issuer = "https://idp.example.com"
client_id = "orders-worker"
client_secret = { file = "secret" }
client_auth = "client_secret_basic"
scope = ["orders:read"]
"""


def write(directory: Path, text: str | bytes, name: str = "accredit.toml") -> Path:
    path = directory / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(0o600)
    return path


def one(directory: Path, body: str) -> ClientRegistration:
    text = f'[registration.r]\nclient_id = "c"\nclient_secret = "s"\n{body}\n'
    if "issuer" not in body and "token_endpoint" not in body:
        text += 'issuer = "https://idp.example"\n'
    registrations = load(write(directory, text), environ={})
    return next(iter(registrations))


def refused(path: Path) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load(path, environ={})
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    return error


def secret_of(registration: ClientRegistration) -> str:
    source = registration.client_auth.source
    assert source is not None
    return SecretReader().read(source).reveal()


def test_the_file_of_the_documentation(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sësame\n", encoding="utf-8")
    registrations = load(write(tmp_path, GOOD), environ={})
    assert isinstance(registrations, Registrations)
    assert registrations.default == "api-client"
    registration = registrations.get("api-client")
    assert registration is not None
    assert registration.issuer == "https://idp.example.com"
    assert registration.scopes == ("orders:read",)
    assert registration.client_auth == ClientSecretBasic(FileSecret(tmp_path / "secret"))
    assert secret_of(registration) == "sësame"


def test_every_attribute_of_a_registration_has_a_key() -> None:
    attributes = {field.name for field in dataclasses.fields(ClientRegistration)}
    assert set(KEYS) == attributes - {"id"} | {"client_secret", "basic_encoding"}


def test_every_key(tmp_path: Path) -> None:
    registration = one(
        tmp_path,
        """
token_endpoint = "https://idp.example/token"
client_auth = "client_secret_basic"
basic_encoding = "raw"
scope = "b a"
resource = "https://api.example/a"
audience = "https://api.example"
authorization_details = [{ type = "payment", limit = { amount = 3 } }]
principal = "tenant-7"
grant = "client_credentials"
api_origins = ["https://api.example", "https://b.example:8443"]
deadline = 5
renew_before = 60.5
leeway = 1
default_lifetime = 120
max_lifetime = 3600
require_scope = true
allow_insecure_http = true
allowed_endpoint_hosts = "IDP.example"
assume_bearer = true
lenient_content_type = true
keep_members = "instance_url"
[registration.r.extra_parameters]
tenant = "7"
""",
    )
    assert registration.client_auth == ClientSecretBasic("s", basic_encoding="raw")
    assert registration.scopes == ("a", "b")
    assert registration.resources == ("https://api.example/a",)
    assert registration.audience == "https://api.example"
    assert list(map(str, registration.authorization_details)) == ['{"limit":{"amount":3},"type":"payment"}']
    assert registration.principal == "tenant-7"
    assert registration.origins == frozenset({"https://api.example", "https://b.example:8443"})
    assert (registration.deadline, registration.renew_before, registration.leeway) == (5.0, 60.5, 1.0)
    assert (registration.default_lifetime, registration.max_lifetime) == (120.0, 3600.0)
    assert registration.require_scope
    assert registration.allow_insecure_http
    assert registration.assume_bearer
    assert registration.lenient_content_type
    assert registration.endpoint_hosts == frozenset({"idp.example"})
    assert registration.keep_members == ("instance_url",)
    assert registration.extra_parameters == {"tenant": "7"}


def test_client_secret_post(tmp_path: Path) -> None:
    registration = one(tmp_path, 'client_auth = "client_secret_post"')
    assert registration.client_auth == ClientSecretPost("s")


@pytest.mark.parametrize(
    "secret", [":", "%", "+", "a b", "é/=", "https://secrets.example/x", "file:///etc/passwd", "$X"]
)
def test_a_literal_secret_is_itself_whatever_it_looks_like(tmp_path: Path, secret: str) -> None:
    path = write(
        tmp_path,
        f"[registration.r]\nissuer = 'https://idp.example'\nclient_id = '{secret}'\nclient_secret = '{secret}'\n",
    )
    registration = load(path, environ={}).get("r")
    assert registration is not None
    assert isinstance(registration.client_auth.source, LiteralSecret)
    assert secret_of(registration) == secret
    assert registration.client_id == secret


@pytest.mark.parametrize(
    ("body", "key", "says"),
    [
        ("scopes = 'a'", "scopes", "Did you mean scope?"),
        ("id = 'x'", "id", "The name of the table"),
        ("scope = 3", "scope", "a number"),
        ("scope = ['a', 3]", "scope", "something else than texts"),
        ("scope = ['a b']", "scope", "scope"),
        ("scope = ['a\"b']", "scope", "scope"),
        ("scope = ['a\\\\b']", "scope", "scope"),
        ('scope = ["caf\\u00e9"]', "scope", "scope"),
        ("resource = '/relative'", "resource", "absolute URI"),
        ("resource = 'https://api.example/#x'", "resource", "fragment"),
        ("issuer = 1979-05-27", "issuer", "a date or time"),
        ("issuer = 'http://idp.example'", "issuer", "plain http"),
        ("issuer = 'http://localhost:80@attacker.test/'", "issuer", "user information"),
        ("issuer = 'http://127.0.0.1.attacker.test'", "issuer", "plain http"),
        ("issuer = 'http://[::ffff:127.0.0.1]'", "issuer", "IPv6"),
        ("issuer = 'http://2130706433'", "issuer", "numeric host"),
        ("issuer = 'https://user@idp.example'", "issuer", "user information"),
        ("issuer = 'https://idp.example/#f'", "issuer", "fragment"),
        ('issuer = "https://idp.example/\\t"', "issuer", "control"),
        ("issuer = 'https://idp.example\\@evil.example'", "issuer", "backslash"),
        ("issuer = 'https://idp.example./'", "issuer", "trailing dot"),
        ("issuer = 'https://a'\ntoken_endpoint = 'https://a'", "token_endpoint", "stands beside"),
        ("deadline = '5'", "deadline", "a text, not a number"),
        ("deadline = true", "deadline", "true or false, not a number"),
        ("deadline = nan", "deadline", "number"),
        ("deadline = inf", "deadline", "number of seconds"),
        ("deadline = 1" + "0" * 400, "deadline", "too large"),
        ("require_scope = 1", "require_scope", "true or false"),
        ("client_auth = 'client_secret_bsic'", "client_auth", "Did you mean client_secret_basic?"),
        ("client_auth = 'none'", "client_auth", "Known:"),
        ("basic_encoding = 'percnt'", "basic_encoding", "percent"),
        ("client_auth = 'client_secret_post'\nbasic_encoding = 'raw'", "basic_encoding", "no meaning"),
        ("grant = 'password'", "grant", "client_credentials"),
        ("extra_parameters = { grant_type = 'x' }", "extra_parameters", "grant_type"),
        ("extra_parameters = { client_id = 'x' }", "extra_parameters", "client_id"),
        ("extra_parameters = { client_assertion = 'x' }", "extra_parameters", "client_assertion"),
        ("extra_parameters = { scope = 'x' }", "extra_parameters", "scope"),
        ("extra_parameters = { a = 1 }", "extra_parameters", "texts"),
        ("extra_parameters = 'a'", "extra_parameters", "a table"),
        ("authorization_details = { type = 'x' }", "authorization_details", "list of tables"),
        ("authorization_details = [{ typ = 'x' }]", "authorization_details", "type"),
        ("authorization_details = [{ type = 'x', at = 1979-05-27 }]", "authorization_details", "JSON"),
        ("api_origins = 'https://api.example/path'", "api_origins", "origin"),
        ("keep_members = { a = 'b' }", "keep_members", "a table"),
        ("principal = ''", "principal", "empty"),
    ],
)
def test_what_is_wrong_is_refused_by_key_reason_and_fix(tmp_path: Path, body: str, key: str, says: str) -> None:
    issuer = "" if "issuer" in body else "issuer = 'https://idp.example'\n"
    text = f"[registration.r]\nclient_id = 'c'\nclient_secret = '{CANARY}'\n{issuer}{body}\n"
    error = refused(write(tmp_path, text))
    assert error.key == f"registration.r.{key}"
    assert says in str(error)
    assert error.advice
    assert CANARY not in str(error)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "missing"),
        ("client_secret = ''", "empty"),
        ("client_secret = '  '", "empty"),
        ('client_secret = "a\\nb"', "U+000A"),
        ('client_secret = "a\\r\\n"', "U+000D"),
        ('client_secret = "a\\u0000"', "U+0000"),
        ("client_secret = 3", "a number"),
        ("client_secret = ['a']", "a list"),
        ("client_secret = {}", "one source"),
        ("client_secret = { env = 'A', file = 'b' }", "one source"),
        ("client_secret = { evn = 'A' }", "Did you mean env?"),
        ("client_secret = { url = 'https://x.example' }", "never from a URL"),
        ("client_secret = { env = '' }", "environment variable"),
        ("client_secret = { env = 'a b' }", "environment variable"),
        ("client_secret = { file = '' }", "path"),
        ("client_secret = { file = '~/x' }", "path"),
        ('client_secret = { file = "a\\u0000" }', "path"),
    ],
)
def test_a_secret_that_could_never_be_sent_is_refused(tmp_path: Path, line: str, says: str) -> None:
    error = refused(write(tmp_path, f"[registration.r]\nissuer = 'https://i.example'\nclient_id = 'c'\n{line}\n"))
    assert error.key == "registration.r.client_secret"
    assert says in str(error)


@pytest.mark.parametrize("client_id", ['""', '" "', '"a\\nb"', '"a\\u0000"', '"a\\u007f"'])
def test_a_client_id_that_is_blank_or_has_controls_is_refused(tmp_path: Path, client_id: str) -> None:
    text = f"[registration.r]\nissuer = 'https://i.example'\nclient_id = {client_id}\nclient_secret = 's'\n"
    assert refused(write(tmp_path, text)).key == "registration.r.client_id"


def test_a_raw_client_id_with_a_colon_is_refused(tmp_path: Path) -> None:
    text = (
        "[registration.r]\nissuer = 'https://i.example'\nclient_id = 'a:b'\nclient_secret = 's'\n"
        "basic_encoding = 'raw'\n"
    )
    assert refused(write(tmp_path, text)).key == "registration.r.client_id"


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("", "registration", "no [registration.ID] table"),
        ("defualt = 'a'", "defualt", "Did you mean default?"),
        ("scope = 'a'", "scope", "outside a registration"),
        ("default = 3", "default", "a number"),
        ("default = 'nobody'\n" + GOOD.replace('default = "api-client"', ""), "default", "nobody"),
        ("default = 'a b'\n" + GOOD.replace('default = "api-client"', ""), "default", "not the id"),
        ("registration = 3", "registration", "a number"),
        ("[registration]\nclient_id = 'x'", "registration.client_id", "a text, not a table"),
        ("[registration.'a b']", "registration", "id of a registration"),
        ("[registration.r]", "registration.r.client_id", "missing"),
        ("'odd key' = 1", "(odd name)", "odd characters"),
    ],
)
def test_the_top_of_the_file(tmp_path: Path, text: str, key: str, says: str) -> None:
    error = refused(write(tmp_path, text))
    assert error.key == key
    assert says in str(error)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (f'a = "x"\nsecret = "{CANARY}'.encode(), "is not TOML at line 2, column "),
        (f'secret = "{CANARY}\n'.encode(), "is not TOML at line 1, column "),
        (f"{CANARY} = 1\n{CANARY} = 2".encode(), "is not TOML at line 2, column "),
        (b"a = " + b"[" * 50_000, "is not TOML"),
        (b"a = " + b"9" * 5_000, "is not TOML"),
        (b"a = '" + b"x" * (1024 * 1024) + b"'", "is larger than 1048576 bytes"),
        (b"\xef\xbb\xbf" + GOOD.encode(), "byte order mark"),
        (GOOD.encode("utf-16"), "UTF-16"),
        (GOOD.encode("utf-16-be"), "UTF-16"),
        (b"a = '\xff'", "is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_understood_is_named_and_not_quoted(tmp_path: Path, data: bytes, says: str) -> None:
    path = write(tmp_path, data)
    error = refused(path)
    assert str(path) in str(error)
    assert says in str(error)
    assert CANARY not in str(error)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert str(missing) in str(refused(missing))
    assert f"{tmp_path} cannot be read (it is a directory)" in str(refused(tmp_path))
    assert "\\x1b" in str(refused(tmp_path / "a\x1b[31m"))
    assert "\\x00" in str(refused(tmp_path / "a\x00b"))


def test_a_relative_path_of_a_secret_starts_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("inside", encoding="utf-8")
    write(tmp_path, GOOD)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    registrations = load(Path("accredit.toml"), environ={})
    monkeypatch.chdir(elsewhere)
    assert secret_of(next(iter(registrations))) == "inside"


def test_a_secret_file_is_not_read_before_it_is_needed(tmp_path: Path) -> None:
    registration = next(iter(load(write(tmp_path, GOOD), environ={})))
    with pytest.raises(ConfigurationError, match="secret"):
        secret_of(registration)


def test_pyproject_has_a_table_of_its_own_and_no_secret(tmp_path: Path) -> None:
    table = GOOD.replace('default = "api-client"', '[tool.accredit]\ndefault = "api-client"').replace(
        "[registration.", "[tool.accredit.registration."
    )
    path = write(tmp_path, "[project]\nname = 'x'\n" + table, "pyproject.toml")
    assert load(path, environ={}).default == "api-client"
    error = refused(write(tmp_path, table.replace('{ file = "secret" }', f'"{CANARY}"'), "pyproject.toml"))
    assert error.key == "registration.api-client.client_secret"
    assert CANARY not in str(error)
    assert refused(write(tmp_path, "[project]\n", "pyproject.toml")).key == "tool.accredit"
    assert refused(write(tmp_path, "[tool]\naccredit = 3\n", "pyproject.toml")).key == "tool.accredit"


def test_nothing_is_read_that_was_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="there is no configuration"):
        load(environ={})


@pytest.mark.skipif(os.name != "posix", reason="file modes are a POSIX matter")
def test_a_secret_in_a_file_that_others_can_read_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"[registration.r]\nissuer = 'https://i.example'\nclient_id = 'c'\nclient_secret = '{CANARY}'\n"
    path = write(tmp_path, text)
    with caplog.at_level(logging.DEBUG, "accredit"):
        load(path, environ={})
        assert not caplog.records
        path.chmod(0o640)
        load(path, environ={"ACCREDIT_CLIENT_SECRET": "another"})
        assert not caplog.records
        load(path, environ={})
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "registration.r.client_secret" in caplog.text
    assert CANARY not in caplog.text
