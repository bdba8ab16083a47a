"""``accredit token`` and ``accredit renew`` against a real server, and what they say when it does not work."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from accredit.devserver import DevServer
from tests.cli.support import CANARY, Run


def test_the_token_alone(server: DevServer, run_process: Run) -> None:
    ran = run_process("token")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith(b"\n")
    assert ran.text.count("\n") == 1
    assert ran.text.count(".") == 2
    assert [entry.status for entry in server.requests("/token")] == [200]


def test_the_header(server: DevServer, run: Run) -> None:
    scheme, _, token = run("token", "--header").text.partition(" Bearer ")
    assert scheme == "Authorization:"
    assert token.count(".") == 2
    assert server.count("/token") == 1


def test_json(server: DevServer, run: Run) -> None:
    ran = run("token", "default", "--json", "--scope", "orders:read", "--principal", "tenant-7")
    members = json.loads(ran.out)
    assert members.pop("access_token").count(".") == 2
    assert 3590 <= members.pop("expires_in") <= 3600
    assert members.pop("expires_at") > 1_700_000_000
    assert members == {
        "token_type": "Bearer",
        "registration": "default",
        "principal": "tenant-7",
        "scope": "orders:read",
    }
    assert server.count("/token") == 1


def test_scopes_and_resources_repeat(server: DevServer, run: Run) -> None:
    ran = run(
        *("token", "--json", "--scope", "orders:write", "--scope", "orders:read"),
        *("--resource", "https://api.example/a", "--timeout", "5"),
    )
    assert json.loads(ran.out)["scope"].split() == ["orders:read", "orders:write"]
    assert server.count("/token") == 1


@pytest.mark.parametrize("option", ["--scope", "--resource", "--audience", "--principal"])
def test_a_wrong_option_is_a_matter_of_usage(server: DevServer, run: Run, option: str) -> None:
    ran = run("token", option, "\\\x07")
    assert ran.code == 2
    assert ran.err.startswith("accredit: usage: ")
    assert server.count("/token") == 0


def test_verbose_tells_more_and_nothing_secret(server: DevServer, run: Run) -> None:
    before = logging.getLogger("accredit").handlers[:]
    ran = run("-v", "token")
    assert ran.code == 0
    assert "TokenObtained" in ran.err
    assert ran.text.strip() not in ran.err
    assert server.count("/token") == 1
    assert logging.getLogger("accredit").handlers == before
    assert logging.getLogger("accredit").propagate


Trouble = Callable[[DevServer], None]


@pytest.mark.parametrize(
    ("trouble", "code", "kind"),
    [
        (lambda server: server.fail(401, error="invalid_client"), 4, "refused"),
        (lambda server: server.fail(400, error="invalid_scope"), 4, "refused"),
        (lambda server: server.fail(429, retry_after="7"), 5, "throttled"),
        (lambda server: server.fail(503), 6, "unreachable"),
        (lambda server: server.garbage("html"), 7, "malformed"),
        (lambda server: server.fail(302, headers={"location": "https://evil.example/"}), 7, "malformed"),
        (lambda server: server.fail(404, path="*"), 7, "discovery"),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(
    server: DevServer, run: Run, trouble: Trouble, code: int, kind: str
) -> None:
    trouble(server)
    ran = run("token")
    assert ran.code == code
    assert ran.err.startswith(f"accredit: {kind}: ")
    assert ran.err.count("\n") == 1
    assert not ran.out


def test_a_server_that_is_not_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCREDIT_TOKEN_ENDPOINT", "http://127.0.0.1:1/token")
    monkeypatch.setenv("ACCREDIT_CLIENT_ID", "c")
    monkeypatch.setenv("ACCREDIT_CLIENT_SECRET", CANARY)
    ran = run("-v", "token", "--timeout", "2")
    assert ran.code == 6
    assert "accredit: unreachable: " in ran.err


def test_a_wrong_secret(server: DevServer, run_process: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCREDIT_CLIENT_SECRET", "wrong-" + CANARY)
    ran = run_process("token")
    assert ran.code == 4
    assert ran.err.startswith("accredit: refused: ")
    assert server.count("/token") == 1


def test_a_time_out(server: DevServer, run: Run) -> None:
    server.hold()
    ran = run("token", "--timeout", "0.3")
    server.release()
    assert ran.code == 6


@pytest.mark.parametrize("name", ["ACCREDIT_CLIENT_SECRET", "ACCREDIT_SCOPE", "ACCREDIT_DEADLINE"])
def test_a_wrong_configuration(server: DevServer, run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, f'"{CANARY}"')
    ran = run("token")
    assert ran.code == 3
    assert ran.err.startswith("accredit: configuration: registration.default.")
    assert name in ran.err
    assert server.count() == 0


def test_an_unknown_registration(server: DevServer, run: Run) -> None:
    ran = run("token", "nobody")
    assert ran.code == 3
    assert "There are: default." in ran.err
    assert server.count() == 0


@pytest.mark.skipif(os.name != "posix", reason="signals are a POSIX matter")
def test_an_interrupt_ends_quietly(server: DevServer) -> None:
    server.hold()
    child = subprocess.Popen(
        [sys.executable, "-m", "accredit.cli", "token"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    server.wait_for_waiting(1, timeout=30)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    server.release()
    assert (child.returncode, out, err) == (130, b"", b"")


@pytest.mark.skipif(os.name != "posix", reason="closed pipes show in another way elsewhere")
def test_a_closed_pipe_ends_quietly(server: DevServer) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "accredit.cli", "token"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (141, b"")
    assert server.count("/token") == 1


# -- renew -------------------------------------------------------------------------------------------------


def test_renew_obtains_what_no_store_has(server: DevServer, run: Run) -> None:
    ran = run("renew", "--within", "900")
    assert (ran.code, ran.out) == (0, b"")
    assert ran.err.startswith("default: obtained, expires in 3")
    assert server.count("/token") == 1


def test_renew_does_not_ask_twice_for_a_token_that_lives_shorter(server: DevServer, run: Run) -> None:
    server.set_token_lifetime(60)
    ran = run("renew", "default", "--within", "900", "default")
    assert ran.code == 0
    assert "whole life is shorter" in ran.err
    assert server.count("/token") == 1


def test_renew_reports_each_and_ends_with_the_worst(
    server: DevServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = "ACCREDIT_REGISTRATION__"
    for name, issuer, secret in (("B", "http://127.0.0.1:1", "x"), ("C", server.issuer, "wrong"), ("D", "", "")):
        monkeypatch.setenv(f"{prefix}{name}__ISSUER", issuer or server.issuer)
        monkeypatch.setenv(f"{prefix}{name}__CLIENT_ID", "api-client")
        monkeypatch.setenv(f"{prefix}{name}__CLIENT_SECRET", secret or CANARY)
        monkeypatch.setenv(f"{prefix}{name}__DEADLINE", "2")
    ran = run("renew", "--within", "5")
    assert ran.err.startswith("default: obtained, ")
    assert "\nb: unreachable: " in ran.err
    assert "\nc: refused: " in ran.err
    assert "\nd: obtained, " in ran.err
    assert ran.code == 4
    assert run("renew", "b", "--within", "5").code == 6


def test_renew_tells_of_a_wrong_id_before_it_begins(server: DevServer, run: Run) -> None:
    assert run("renew", "default", "nobody", "--within", "5").code == 3
    assert server.count() == 0


# -- serve -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="signals are a POSIX matter")
def test_serve(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "accredit.cli", "serve", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    members = json.loads(child.stdout.readline())
    monkeypatch.setenv("ACCREDIT_ISSUER", members["issuer"])
    monkeypatch.setenv("ACCREDIT_CLIENT_ID", "api-client")
    monkeypatch.setenv("ACCREDIT_CLIENT_SECRET", "dev-secret")
    ran = run("call", f"{members['api_url']}/hello")
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert ran.code == 0
    assert b"hello, api-client" in ran.out
    assert (child.returncode, err) == (0, b"")


def test_serve_tells_a_person_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    from accredit.cli.servers import serve

    assert serve([], None, wait=lambda: None) == 0
    text = capsys.readouterr().out
    assert "export ACCREDIT_ISSUER=http://127.0.0.1:" in text
    assert "accredit call http://127.0.0.1:" in text


def test_serve_on_a_port_that_is_taken(server: DevServer, run: Run) -> None:
    ran = run("serve", "--port", server.url.rpartition(":")[2])
    assert ran.code == 1
    place = server.url.removeprefix("http://")
    assert ran.err.startswith(f"accredit: failed: the development server did not start: {place}: ")
    assert run("serve", "--host", "192.0.2.1").code == 3
    assert run("serve", "--config-json", "{").code == 3
    assert run("serve", "--port", "99999999").code == 2
