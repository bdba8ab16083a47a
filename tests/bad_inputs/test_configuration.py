"""Group D: what is configured, and how requests are built from it."""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest

from accredit import ClientRegistration, ClientSecretBasic, ClientSecretPost, Secret, TokenManager
from accredit.cli.locate import config_file
from accredit.config import load
from accredit.core.registration import token_request_for
from accredit.core.token import token_request
from accredit.devserver import DevServer
from accredit.errors import ConfigurationError
from tests.bad_inputs.invariants import check_error, check_hidden
from tests.bad_inputs.model import SECRET, TOKEN, TOKEN_ENDPOINT, covers, document, issued
from tests.bad_inputs.world import World, outcome_of, registration

ODD = {
    "colon": ":", "percent": "%", "plus": "+", "space": " ", "e acute": "é", "slash": "/", "equals": "=", "and": "&",
    "quote": '"', "emoji": "\U0001f600", "percent encoded": "%41", "tilde": "-._~", "question": "?#",
}  # fmt: skip


def refused(make: Callable[[], object], *says: str) -> ConfigurationError:
    """Check that something is refused as configuration, with a key and a fix, and that nothing is shown."""
    error = outcome_of(make)  # type: ignore[arg-type]  # whatever it would return
    assert type(error) is ConfigurationError, repr(error)
    check_error(error)
    assert error.advice
    for text in says:
        assert text in str(error)
    return error


def sent_by(auth: ClientSecretBasic | ClientSecretPost, client_id: str, secret: str) -> tuple[str | None, bytes]:
    """Return the Authorization header and the body of a token request."""
    wanted = token_request_for(registration(client_id=client_id, client_auth=auth))
    request = token_request(wanted, TOKEN_ENDPOINT, Secret(secret))
    return dict(request.headers).get("authorization"), request.body


@covers("D01", outcome="OK: percent-encoded UTF-8 for Basic, a form for post")
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_odd_characters_reach_the_server(odd: str) -> None:
    client, secret = f"id{odd}x", f"se{odd}cret{odd}"
    header, body = sent_by(ClientSecretBasic(secret), client, secret)
    assert header is not None
    pair = b64decode(header.removeprefix("Basic ")).decode("ascii")
    assert [unquote(part, errors="strict") for part in pair.split(":")] == [client, secret]
    assert "+" not in pair
    assert b"secret" not in body
    header, body = sent_by(ClientSecretPost(secret), client, secret)
    assert header is None
    form = parse_qs(body.decode(), strict_parsing=True, keep_blank_values=True)
    assert (form["client_id"], form["client_secret"]) == ([client], [secret])


@covers("D01", outcome="OK: to the byte")
def test_the_encoding_of_basic() -> None:
    header, _ = sent_by(ClientSecretBasic("a b+c:d%e~-._é/="), "i d", "a b+c:d%e~-._é/=")
    assert header is not None
    assert b64decode(header[6:]) == b"i%20d:a%20b%2Bc%3Ad%25e~-._%C3%A9%2F%3D"


@covers("D03", outcome="OK by setting; CONFIGURATION for an id that could not be told from its secret")
def test_servers_that_do_not_decode() -> None:
    header, _ = sent_by(ClientSecretBasic("a b+c:d%é", basic_encoding="raw"), "id", "a b+c:d%é")
    assert header is not None
    assert b64decode(header[6:]).decode() == "id:a b+c:d%é"
    refused(lambda: registration(client_id="a:b", client_auth=ClientSecretBasic(SECRET, basic_encoding="raw")), "colon")
    assert registration(client_id="a:b", client_auth=ClientSecretBasic(SECRET)).client_id == "a:b"


CONTROLS = {"CR": "\r", "LF": "\n", "NUL": "\0", "TAB": "\t", "DEL": "\x7f", "NEL": "\x85", "surrogate": "\ud800"}


@covers("D04", "D05", outcome="CONFIGURATION: naming the place, not the value")
@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS.keys())
@pytest.mark.parametrize("kind", [ClientSecretBasic, ClientSecretPost])
def test_controls_in_a_secret(control: str, kind: type[ClientSecretBasic | ClientSecretPost]) -> None:
    error = refused(lambda: kind(f"{SECRET}{control}x"), f"U+{ord(control):04X}")
    assert error.key == "client_secret"
    refused(lambda: kind(Secret(f"{SECRET}{control}")))


@covers("D05", outcome="CONFIGURATION")
@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS.keys())
def test_controls_in_an_id(control: str) -> None:
    error = refused(lambda: registration(client_id=f"id{control}x"))
    assert error.key == "registration.main.client_id"


@covers("D06", outcome="CONFIGURATION")
@pytest.mark.parametrize("blank", ["", " ", "\u00a0", "  \u2003"])
def test_blank_ids_and_secrets(blank: str) -> None:
    assert refused(lambda: ClientSecretBasic(blank)).key == "client_secret"
    assert refused(lambda: registration(client_id=blank)).key == "registration.main.client_id"


@covers("D04", outcome="OK: one line break at the end is not part of a secret; CONFIGURATION for more")
@pytest.mark.parametrize("source", ["file", "variable", "function"])
@pytest.mark.parametrize(
    ("tail", "good"), [("", True), ("\n", True), ("\r\n", True), ("\n\n", False), ("\nx", False), ("\0", False)]
)
def test_line_breaks_at_the_end_of_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, tail: str, good: bool
) -> None:
    if source == "variable" and "\0" in tail:
        tail = "\x01"
    (tmp_path / "secret").write_bytes(f"{SECRET}{tail}".encode())
    secrets: dict[str, Any] = {
        "file": Secret.from_file(tmp_path / "secret"),
        "variable": Secret.from_environment("ROW_SECRET"),
        "function": Secret.from_function(lambda: f"{SECRET}{tail}"),
    }
    if source == "variable":
        monkeypatch.setenv("ROW_SECRET", f"{SECRET}{tail}")
    world = World(registration(client_auth=ClientSecretPost(secrets[source])))
    world.script.answers = [issued()]
    outcome = outcome_of(world.manager.get)
    if good and not (source == "function" and tail):
        assert not isinstance(outcome, BaseException)
        assert outcome.value == TOKEN
        assert parse_qs(world.script.requests[0].body.decode())["client_secret"] == [SECRET]
    else:
        # What a function returns is taken as it is: nothing that an editor added is in it.
        assert type(outcome) is ConfigurationError
        check_error(outcome)
        assert world.script.requests == []
    world.check_whole()


@covers("D08", "A31", outcome="CONFIGURATION")
@pytest.mark.parametrize("bad", ['a"b', "a\\b", "é", "a\tb", "a\nb", "\u00a0"])
def test_a_scope_that_is_none(bad: str) -> None:
    assert refused(lambda: registration(scope=[bad])).key == "registration.main.scope"
    assert refused(lambda: registration(scope=bad)).key == "registration.main.scope"
    world = World()
    refused(lambda: world.manager.get(scope=[bad]))
    assert world.script.requests == []


@covers("D08", outcome="CONFIGURATION: an item of a list is one scope")
@pytest.mark.parametrize("bad", ["a b", "", " a"])
def test_a_scope_with_a_space_in_a_list(bad: str) -> None:
    assert refused(lambda: registration(scope=["x", bad])).key == "registration.main.scope"


@covers("D09", outcome="CONFIGURATION")
@pytest.mark.parametrize(
    "name",
    ["grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "scope", "resource",
     "audience", "assertion", "authorization_details"],
)  # fmt: skip
def test_extra_parameters_replace_nothing(name: str) -> None:
    error = refused(lambda: registration(extra_parameters={name: "x"}), name)
    assert error.key == "registration.main.extra_parameters"


@covers("D10", outcome="CONFIGURATION for a relative one or one with a fragment; else OK, in any order")
def test_resources() -> None:
    for bad in ("/api", "api.example", "https://api.example/#x", "https://api.example/ x", "", "//api.example/", "#"):
        assert refused(lambda bad=bad: registration(resource=bad)).key == "registration.main.resource"  # type: ignore[misc]
    one, two = "https://a.example/x?y=1", "urn:example:b"
    first, second = (token_request_for(registration(resource=order)) for order in ((one, two), (two, one)))
    assert first.identity == second.identity
    assert first.identity != token_request_for(registration(resource=one)).identity
    assert [value for name, value in first.parameters() if name == "resource"] == sorted([one, two])


@covers("D11", outcome="OK: exactly one; and the development server refuses two")
def test_one_authentication_in_a_request() -> None:
    header, body = sent_by(ClientSecretBasic(SECRET), "id", SECRET)
    assert header is not None
    assert b"client_secret" not in body
    assert b"client_id" not in body
    header, body = sent_by(ClientSecretPost(SECRET), "id", SECRET)
    assert header is None
    assert body.count(b"client_secret=") == 1
    refused(lambda: registration(extra_parameters={"client_secret": "another"}))
    with DevServer() as server:
        import httpx2

        answer = httpx2.post(
            server.token_endpoint,
            data={"grant_type": "client_credentials", "client_id": "api-client", "client_secret": "dev-secret"},
            auth=("api-client", "dev-secret"),
        )
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


NOT_LOOPBACK = (
    "http://localhost:80@attacker.test/", "http://127.0.0.1.attacker.test/", "http://[::ffff:127.0.0.1]/",
    "http://2130706433/", "http://0x7f.1/", "http://127.1/", "http://localhost.attacker.test/", "http://0.0.0.0/",
    "http://localhost\\@attacker.test/", "http://[::]/", "http://127.0.0.1%2f@attacker.test/", "http://LOCALHOST./",
    "http://\uff11\uff12\uff17.0.0.1/", "http://idp.example/",
)  # fmt: skip
UNREADABLE = (
    "https://user@idp.example/", "https://u:p@idp.example/", "https://idp.example/#x", "https://idp.example/\t",
    "https://idp.example/\nx", "https://idp\\.example/", "https://idp.example/a b", " https://idp.example/",
    "https://idp.example./", "https:///token", "https://idp.example:0/", "https://idp.example:99999/", "ftp://idp.example/",
    "file:///etc/passwd", "//idp.example/", "idp.example", "", "https://idp.exam\u200bple/", "https://idp%2eexample/",
    "https://169.254.169.254/", "https://[fe80::1]/", "https://[::ffff:169.254.169.254]/",
)  # fmt: skip


@covers("D21", "D22", outcome="CONFIGURATION")
@pytest.mark.parametrize("url", [*NOT_LOOPBACK, *UNREADABLE])
@pytest.mark.parametrize("key", ["issuer", "token_endpoint", "metadata_url"])
def test_urls_that_are_refused(url: str, key: str) -> None:
    settings: dict[str, Any] = {key: url}
    error = refused(lambda: registration(**settings))
    assert error.key == f"registration.main.{key}"


@covers("D21", outcome="OK")
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "LocalHost:8080"])
def test_plain_http_to_this_machine(host: str) -> None:
    url = f"http://{host}/token"
    assert registration(token_endpoint=url).token_endpoint == url


@covers("D22", outcome="OK: contacted, and shown, in punycode")
def test_an_international_name() -> None:
    world = World(registration(token_endpoint="https://idp-éxample.test/token"), hosts=["xn--idp-xample-e7a.test"])
    world.script.hosts |= {"idp.example"}
    world.script.answers = [document(400, error="invalid_scope")]
    (error, *_) = world.callers()
    assert "xn--" in world.script.requests[0].url
    assert world.script.requests[0].url.isascii()
    check_error(error) if isinstance(error, BaseException) else pytest.fail("a token")
    assert str(error).isascii()


@covers("D24", outcome="REQUEST: neither names nor values of parameters in the log")
def test_no_parameter_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    value = "tenant-0451-value"
    world = World(registration(extra_parameters={"tenant": value}, audience="urn:0451-audience"))
    world.script.answers = [document(400, error="invalid_request")]
    (error, *_) = world.callers()
    assert value.encode() in world.script.requests[0].body
    text = caplog.text + repr(world.events) + repr(error)
    assert value not in text
    assert "0451" not in text
    world.check_whole()


@covers("D28", outcome="CONFIGURATION with a hint")
@pytest.mark.parametrize("spoiled", [f'"{SECRET}"', f"'{SECRET}'", f"\ufeff{SECRET}"])
def test_variables_that_were_spoiled(monkeypatch: pytest.MonkeyPatch, spoiled: str) -> None:
    monkeypatch.setenv("ROW_SECRET", spoiled)
    world = World(registration(client_auth=ClientSecretPost(Secret.from_environment("ROW_SECRET"))))
    error = refused(world.manager.get, "ROW_SECRET", "Remove them")
    assert error.key == "client_secret"
    environ = {"ACCREDIT_ISSUER": "https://idp.example", "ACCREDIT_CLIENT_ID": "x", "ACCREDIT_CLIENT_SECRET": spoiled}
    loaded = outcome_of(lambda: TokenManager(load(environ=environ), transport=world.script).get())
    assert type(loaded) is ConfigurationError
    check_error(loaded)


@covers("D28", outcome="CONFIGURATION: of any variable")
@pytest.mark.parametrize("name", ["ACCREDIT_ISSUER", "ACCREDIT_CLIENT_ID", "ACCREDIT_SCOPE"])
def test_other_variables_with_quotes(name: str) -> None:
    environ = {
        "ACCREDIT_ISSUER": "https://idp.example", "ACCREDIT_CLIENT_ID": "x", "ACCREDIT_CLIENT_SECRET_FILE": "/x",
        "ACCREDIT_SCOPE": "a", name: '"value"',
    }  # fmt: skip
    error = outcome_of(lambda: load(environ=environ))  # type: ignore[arg-type, return-value]
    assert type(error) is ConfigurationError, repr(error)
    assert name in str(error)
    check_error(error)


@covers("T14", outcome="OK: nothing is read that was not named")
def test_no_configuration_is_found_by_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[registration.evil]\nissuer = "https://evil.example"\nclient_id = "x"\nclient_secret = { env = "HOME" }\n'
    for name in ("accredit.toml", ".accredit.toml", "pyproject.toml"):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in list(os.environ):
        if name.startswith("ACCREDIT_"):
            monkeypatch.delenv(name)
    error = outcome_of(TokenManager.from_config)  # type: ignore[arg-type]
    assert type(error) is ConfigurationError
    assert "no configuration" in str(error)
    check_error(error)


@covers("T14", outcome="CONFIGURATION: the command line trusts no file that others can write")
@pytest.mark.skipif(os.name != "posix", reason="file modes tell who may write on POSIX only")
@pytest.mark.parametrize("mode", [0o602, 0o620, 0o666])
def test_a_local_file_that_others_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    (tmp_path / "accredit.toml").write_text("")
    (tmp_path / "accredit.toml").chmod(mode)
    monkeypatch.chdir(tmp_path)
    error = refused(lambda: config_file(None), "other users can write")
    assert error.key == "--config"
    (tmp_path / "accredit.toml").chmod(0o600)
    assert config_file(None) == Path("accredit.toml")


@covers("Q03", outcome="CONFIGURATION for others: a registration with a literal secret is not pickled")
def test_pickled_configuration() -> None:
    import copy
    import pickle

    live = registration()
    with pytest.raises(TypeError, match="refuses to be pickled"):
        pickle.dumps(live)
    from_variable = registration(client_auth=ClientSecretBasic(Secret.from_environment("NAME")))
    data = pickle.dumps(from_variable)
    check_hidden(data.decode("latin-1"), "a pickle")
    assert pickle.loads(data) == from_variable
    assert copy.copy(live) == live
    world = World()
    world.script.answers = [issued()]
    token = world.manager.get()
    with pytest.raises(TypeError, match="refuses to be pickled"):
        pickle.dumps(token)
    with pytest.raises(TypeError):
        pickle.dumps(world.manager)
    assert isinstance(from_variable, ClientRegistration)
