"""``accredit call`` against a real API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accredit.devserver import DevServer
from tests.cli.support import CANARY, Run


def test_a_call(server: DevServer, run_process: Run) -> None:
    ran = run_process("call", f"{server.api_url}/hello")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out)["message"] == "hello, api-client"
    assert server.count("/token") == 1


def test_registration_and_options_in_any_order(server: DevServer, run: Run) -> None:
    assert run("call", "default", "-X", "GET", f"{server.api_url}/hello", "--scope", "orders:read").code == 0
    assert run("call", "-i", f"{server.api_url}/hello", "--timeout", "5").code == 0
    assert run("call", "nobody", f"{server.api_url}/hello").code == 3


@pytest.mark.parametrize(
    ("options", "stdin", "sent"),
    [
        (["-d", "a=1", "-d", "b=2"], b"", b"a=1&b=2"),
        (["--data", "@body"], b"", b"from\na file"),
        (["-d", "-"], b"from stdin", b"from stdin"),
        (["--json", '{"a": "é"}'], b"", '{"a": "é"}'.encode()),
        (["--json", "@-"], b"[1]", b"[1]"),
        (["--request", "POST"], b"", b""),
    ],
)
def test_a_body(
    server: DevServer, run_process: Run, elsewhere: Path, options: list[str], stdin: bytes, sent: bytes
) -> None:
    (elsewhere / "body").write_bytes(b"from\na file")
    ran = run_process("call", *options, f"{server.api_url}/orders", stdin=stdin)
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out)["length"] == len(sent)
    assert [entry.method for entry in server.requests("/orders")] == ["POST"]


def test_a_body_that_cannot_be_read(server: DevServer, run: Run) -> None:
    ran = run("call", f"{server.api_url}/orders", "-d", "@missing")
    assert ran.code == 2
    assert "missing cannot be read" in ran.err
    assert server.count() == 0


def test_headers_of_the_answer(server: DevServer, run: Run) -> None:
    head, _, body = run("call", "-i", f"{server.api_url}/hello").out.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\ncache-control: no-store" in head
    assert json.loads(body)["client_id"] == "api-client"


def test_an_output_file(server: DevServer, run: Run, elsewhere: Path) -> None:
    ran = run("call", "-o", "answer", f"{server.api_url}/hello")
    assert (ran.code, ran.out) == (0, b"")
    assert json.loads((elsewhere / "answer").read_bytes())["client_id"] == "api-client"
    ran = run("call", "-o", "no/such/place", f"{server.api_url}/hello")
    assert ran.code == 1
    assert "no/such/place cannot be written" in ran.err


def test_a_status_of_400_or_above(server: DevServer, run: Run) -> None:
    url = f"{server.api_url}/nowhere"
    ran = run("call", url)
    assert ran.code == 0
    assert json.loads(ran.out) == {"error": "not_found"}
    ran = run("call", "--fail", url)
    assert (ran.code, ran.out) == (8, b"")
    assert ran.err == f"accredit: api: {server.api_url} answered with HTTP 404.\n"


def test_a_refused_token_is_renewed_and_the_call_made_once_more(server: DevServer, run: Run) -> None:
    challenge = {"www-authenticate": 'Bearer error="invalid_token"'}
    server.fail(401, path="/orders", server="api", times=1, headers=challenge)
    ran = run("call", "--json", "{}", f"{server.api_url}/orders")
    assert ran.code == 0
    assert json.loads(ran.out)["length"] == 2
    assert server.count("/token") == 2
    assert server.count("/orders") == 2


def test_an_api_that_refuses_every_token(server: DevServer, run: Run) -> None:
    server.fail(401, path="/hello", server="api", headers={"www-authenticate": 'Bearer error="invalid_token"'})
    ran = run("call", "--fail", f"{server.api_url}/hello")
    assert ran.code == 8
    assert server.count("/hello") == 2


@pytest.mark.parametrize("url", ["https://elsewhere.example/orders", "http://127.0.0.1:1/", "https://api.example:444/"])
def test_a_forbidden_origin_is_an_error_and_nothing_is_sent(
    server: DevServer, run: Run, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("ACCREDIT_API_ORIGINS", f"https://api.example {server.api_url}")
    ran = run("call", url)
    assert ran.code == 3
    assert ran.err.startswith("accredit: configuration: registration.default.api_origins: ")
    assert not ran.out
    assert server.count() == 0
    assert run("call", f"{server.api_url}/hello").code == 0


def test_no_token_goes_over_plain_http(server: DevServer, run: Run) -> None:
    ran = run("call", "http://api.example/orders")
    assert ran.code == 3
    assert "plain http" in ran.err
    assert server.count() == 0


def test_redirects(server: DevServer, run: Run) -> None:
    with DevServer() as other:
        server.fail(302, path="/hello", server="api", headers={"location": f"{other.api_url}/hello"})
        ran = run("call", "-i", f"{server.api_url}/hello")
        assert ran.code == 0
        assert ran.out.startswith(b"HTTP/1.1 302 ")
        assert other.count() == 0
        ran = run("call", "-L", f"{server.api_url}/hello")
        # What arrived there carried no token.
        assert json.loads(ran.out)["error"] == "token_required"
        assert other.count("/hello") == 1
        assert server.count("/token") == 1  # the second run has the token of the first


def test_an_api_that_is_not_there_or_answers_nonsense(server: DevServer, run: Run) -> None:
    ran = run("call", "http://127.0.0.1:1/")
    assert ran.code == 6
    assert ran.err.startswith("accredit: unreachable: http://127.0.0.1:1 could not be reached")
    server.fail(200, path="/hello", server="api", body="x" * 100, truncate=True)
    assert run("call", f"{server.api_url}/hello").code == 7
    server.fail(302, path="/hello", server="api", headers={"location": f"{server.api_url}/hello"})
    assert run("call", "-L", f"{server.api_url}/hello").code == 7
    server.recover()
    server.hold(server="api")
    ran = run("call", "--timeout", "0.5", f"{server.api_url}/hello")
    server.release(server="api")
    assert ran.code == 6
    assert "in time" in ran.err


def test_no_token_no_call(server: DevServer, run: Run) -> None:
    server.fail(400, error="invalid_scope")
    ran = run("call", f"{server.api_url}/hello")
    assert ran.code == 4
    assert server.count("/hello") == 0


def test_verbose_shows_no_token(server: DevServer, run: Run) -> None:
    ran = run("-v", "call", "-H", f"X-Key: {CANARY.encode().hex()}", f"{server.api_url}/hello")
    assert ran.code == 0
    assert "eyJ" not in ran.err
