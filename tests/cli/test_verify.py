"""``accredit verify`` and ``accredit inspect``: what they say of a token, and what they are safe against."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from accredit.core.strict import b64url_encode
from accredit.devserver import DevServer
from accredit.testing import TokenMaker, failing, running_server
from tests.cli.support import Ran, Run

Pipe = Callable[..., Ran]


@pytest.fixture
def tokens(server: DevServer) -> TokenMaker:
    return TokenMaker(server)


@pytest.fixture
def pipe(run: Run, monkeypatch: pytest.MonkeyPatch) -> Pipe:
    """Run the command line with this on its standard input."""

    def runs(text: str | bytes, *arguments: str) -> Ran:
        raw = text if isinstance(text, bytes) else text.encode()
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(raw), isatty=lambda: False))
        return run(*arguments)

    return runs


def demands(server: DevServer, *more: str) -> tuple[str, ...]:
    return ("verify", "--issuer", server.issuer, "--audience", server.config.default_audience, *more)


def test_a_good_token_of_standard_input(server: DevServer, tokens: TokenMaker, pipe: Pipe) -> None:
    token = tokens.valid()
    ran = pipe(token + "\n", *demands(server, "--scope", "orders:read"))
    assert (ran.code, ran.err) == (0, "")
    lines = ran.text.splitlines()
    assert lines[-1] == "accepted"
    assert len(lines) == 18
    assert all(line.startswith("ok ") for line in lines[:-1])
    assert token not in ran.text


def test_every_check_by_name(server: DevServer, tokens: TokenMaker, pipe: Pipe) -> None:
    ran = pipe(tokens.expired(), *demands(server, "--scope", "orders:admin"))
    assert ran.code == 9
    lines = ran.text.splitlines()
    assert lines[-1] == "NOT ACCEPTED"
    assert [line.split()[1] for line in lines if line.startswith("FAIL")] == ["expiry", "needed_scope"]
    assert any("the token has expired" in line for line in lines)
    assert any("it lacks orders:admin" in line for line in lines)


@pytest.mark.parametrize(
    ("shape", "check"),
    [
        ("expired", "expiry"),
        ("not_yet_valid", "not_before"),
        ("wrong_audience", "audience"),
        ("no_audience", "audience"),
        ("wrong_issuer", "issuer"),
        ("wrong_key", "signature"),
        ("unknown_key", "key"),
        ("tampered", "signature"),
        ("unsigned", "form"),
        ("wrong_type", "type"),
        ("no_client_id", "claims"),
        ("not_a_token", "form"),
    ],
)
def test_each_shape_fails_one_check(server: DevServer, tokens: TokenMaker, pipe: Pipe, shape: str, check: str) -> None:
    ran = pipe(tokens.of_shape(shape), *demands(server, "--json"))
    assert ran.code == 9
    said = json.loads(ran.out)
    assert said["accepted"] is False
    assert "claims" not in said
    assert [each["name"] for each in said["checks"] if each["passed"] is False] == [check]


def test_json_has_the_claims_of_a_good_token(server: DevServer, tokens: TokenMaker, pipe: Pipe) -> None:
    said = json.loads(pipe(tokens.valid(), *demands(server, "--json")).out)
    assert said["accepted"] is True
    assert said["claims"]["client_id"] == "api-client"


def test_a_token_of_the_command_line_is_warned_of(server: DevServer, tokens: TokenMaker, run: Run) -> None:
    ran = run(*demands(server), tokens.valid())
    assert ran.code == 0
    assert "visible to others" in ran.err


def test_a_whole_header_will_do(server: DevServer, tokens: TokenMaker, pipe: Pipe) -> None:
    for start in ("Authorization: Bearer ", "authorization:bearer ", "Bearer  "):
        assert pipe(start + tokens.valid(), *demands(server)).code == 0


def test_the_registration_says_what_the_options_do_not(
    server: DevServer, tokens: TokenMaker, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pipe(tokens.valid(), "verify").code == 2
    monkeypatch.setenv("ACCREDIT_AUDIENCE", server.config.default_audience)
    assert pipe(tokens.valid(), "verify").code == 0
    assert pipe(tokens.valid(), "verify", "--audience", "other").code == 9


def test_keys_of_a_file_or_a_url(server: DevServer, tokens: TokenMaker, pipe: Pipe, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": server.command("signing_keys")}))
    before = server.count(server="as")
    assert pipe(tokens.valid(), *demands(server, "--jwks", str(file))).code == 0
    assert server.count(server="as") == before
    assert pipe(tokens.valid(), *demands(server, "--jwks", f"{server.issuer}/jwks")).code == 0
    assert server.count("/jwks") == 1
    for wrong in (tmp_path / "none.json", tmp_path):
        ran = pipe(tokens.valid(), *demands(server, "--jwks", str(wrong)))
        assert (ran.code, ran.out) == (2, b"")
    file.write_text('{"keys": 7}')
    assert pipe(tokens.valid(), *demands(server, "--jwks", str(file))).code == 3
    file.write_text("{")
    assert pipe(tokens.valid(), *demands(server, "--jwks", str(file))).code == 2


def test_keys_that_cannot_be_had_say_nothing_about_the_token(server: DevServer, tokens: TokenMaker, pipe: Pipe) -> None:
    with failing(server, 500, path="/jwks"):
        ran = pipe(tokens.valid(), *demands(server))
    assert (ran.code, ran.out) == (6, b"")
    with failing(server, 200, path="/jwks", body="<html>", headers={"content-type": "text/html"}):
        ran = pipe(tokens.valid(), *demands(server))
    assert (ran.code, ran.out) == (7, b"")


def test_what_is_demanded_can_be_said(server: DevServer, tokens: TokenMaker, pipe: Pipe) -> None:
    token = tokens.valid()
    assert pipe(token, *demands(server, "--client", "other")).code == 9
    assert pipe(token, *demands(server, "--client", "api-client", "--max-age", "3600")).code == 0
    assert pipe(token, *demands(server, "--max-age", "60")).code == 9
    assert pipe(token, *demands(server, "--algorithm", "RS256")).code == 9
    assert pipe(token, *demands(server, "--profile", "keycloak")).code == 9
    assert pipe(token, *demands(server, "--algorithm", "none")).code == 3
    assert pipe(token, *demands(server, "--leeway", "9999")).code == 3


def test_asking_the_authorization_server(
    server: DevServer, tokens: TokenMaker, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCREDIT_AUDIENCE", server.config.default_audience)
    token = tokens.valid()
    ran = pipe(token, "verify", "--introspect", "--scope", "orders:read")
    assert (ran.code, ran.text.splitlines()[-1]) == (0, "accepted")
    assert pipe(token, "verify", "--introspect", "--scope", "no:scope").code == 9
    server.revoke_client()
    revoked = tokens.valid(jti="0.x")
    assert pipe(revoked, "verify").code == 0
    ran = pipe(revoked, "verify", "--introspect")
    assert ran.code == 9
    assert "FAIL introspection" in ran.text
    ran = pipe("opaque", "verify")
    assert ran.code == 9
    assert server.count("/introspect") == 4


def test_a_credential_goes_to_its_own_server_only(
    server: DevServer, tokens: TokenMaker, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tokens.valid()
    with running_server() as other:
        ran = pipe(token, "verify", "--issuer", other.issuer, "--audience", "x", "--introspect")
        assert (ran.code, "not of that issuer" in ran.err) == (2, True)
        assert other.count("/introspect") == 0
    monkeypatch.delenv("ACCREDIT_ISSUER")
    monkeypatch.setenv("ACCREDIT_TOKEN_ENDPOINT", f"{server.issuer}/token")
    assert pipe(token, *demands(server, "--introspect")).code == 0
    assert pipe(token, "verify", "--issuer", "https://idp.example", "--audience", "x", "--introspect").code == 2


def test_what_is_demanded_has_to_be_said_where_nothing_is_configured(
    tokens: TokenMaker, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ISSUER", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.delenv(f"ACCREDIT_{name}")
    for options, missing in (("--audience", "--issuer"), ("--issuer", "--audience")):
        ran = pipe(tokens.valid(), "verify", options, "https://idp.example")
        assert (ran.code, f"{missing} is needed" in ran.err) == (2, True)
    assert pipe(tokens.valid(), "verify", "--audience", "x", "--introspect").code == 3
    assert pipe(tokens.valid(), "verify", "--registration", "one").code == 3


def test_too_much_or_nothing(server: DevServer, pipe: Pipe) -> None:
    for command in (demands(server), ("inspect",)):
        assert pipe("a" * 70_000, *command).code == 2
        assert pipe("  \n", *command).code == 2
    assert pipe(b"\xff\xfe", *demands(server)).code == 9


def test_in_a_process_of_its_own(server: DevServer, tokens: TokenMaker, run_process: Run) -> None:
    ran = run_process(*demands(server), stdin=tokens.valid().encode())
    assert (ran.code, ran.err) == (0, "")
    ran = run_process("inspect", stdin=tokens.valid().encode())
    assert ran.code == 0
    assert "NOT VERIFIED" in ran.err


# ---------------------------------------------------------------------------------------------------------- inspect


def segment(text: str) -> str:
    return b64url_encode(text.encode())


def test_inspect_decodes_and_says_that_nothing_is_checked(tokens: TokenMaker, pipe: Pipe) -> None:
    ran = pipe(tokens.tampered(), "inspect")
    assert ran.code == 0
    assert ran.err == "accredit: NOT VERIFIED: anybody may have written what follows; believe nothing of it.\n"
    assert '"alg": "ES256"' in ran.text
    assert '"scope": "orders:read orders:write admin"' in ran.text
    assert "signature present, not checked\n" in ran.text
    assert "\nexp 20" in ran.text


def test_inspect_as_json(tokens: TokenMaker, pipe: Pipe) -> None:
    said = json.loads(pipe(tokens.unsigned(), "inspect", "--json").out)
    assert said["verified"] is False
    assert said["signature_present"] is False
    assert said["header"]["alg"] == "none"
    assert set(said["times"]) == {"iat", "exp"}


def test_inspect_shows_nothing_that_a_terminal_would_act_on(pipe: Pipe) -> None:
    hostile = json.dumps({"\x1b]0;x\x07": "\x1b[2J\u202e\u2066\r\n\x9b31m", "exp": 1e300}, ensure_ascii=False)
    token = ".".join((segment('{"alg":"x","kid":"\\u001b[31m"}'), segment(hostile), "AA"))
    for arguments in ((), ("--json",)):
        ran = pipe(token, "inspect", *arguments)
        assert ran.code == 0
        assert ran.out.isascii()
        assert all(byte >= 0x20 or byte == 0x0A for byte in ran.out)


@pytest.mark.parametrize(
    "token",
    [
        "opaque",
        "a.b",
        "a.b.c.d",
        "!.e30.AA",
        segment("[]") + ".e30.AA",
        segment('{"a":1,"a":2}') + ".e30.AA",
        segment("{}") + "." + segment("[" * 5000) + ".AA",
        segment('{"a":NaN}') + ".e30.AA",
        "é.e30.AA",
        "a" * 16_385,
    ],
)
def test_inspect_refuses_what_it_cannot_decode(pipe: Pipe, token: str) -> None:
    ran = pipe(token, "inspect")
    assert (ran.code, ran.out) == (9, b"")
    assert ran.err.startswith("accredit: token: ")


def test_inspect_of_an_encrypted_token(pipe: Pipe) -> None:
    ran = pipe(segment('{"alg":"RSA-OAEP","enc":"A128GCM"}') + ".a.b.c.d", "inspect")
    assert ran.code == 0
    assert "encrypted" in ran.err
    assert "claims" not in ran.text


def test_a_terminal_is_told_what_to_do(tokens: TokenMaker, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = SimpleNamespace(buffer=io.BytesIO(tokens.valid().encode()), isatty=lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert "paste the token" in run("inspect", "-").err
    assert os.environ["ACCREDIT_ISSUER"]
