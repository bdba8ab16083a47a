"""What survives a restart, and a file that is not to be trusted."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from accredit.core.secret import Secret
from accredit.devserver import DevClient, DevConfig, DevServer, DevServerProcess
from accredit.devserver.assertions import JWT_BEARER
from accredit.devserver.core import Authority
from accredit.devserver.keys import new_signing_key
from accredit.devserver.state import StateFile
from accredit.errors import ConfigurationError
from tests.bad_inputs.test_authorization_server import KEY, assertion

CONFIG = DevConfig(
    clients=(
        DevClient(client_id="api-client", client_secret=Secret("dev-secret")),
        DevClient(client_id="opaque", client_secret=Secret("opaque-secret"), token_format="opaque"),
        DevClient(client_id="signer", auth_methods=("private_key_jwt",), jwks=(dict(KEY.public_jwk),)),
    )
)


def token(server: DevServer | DevServerProcess, client_id: str = "api-client", secret: str = "dev-secret") -> str:
    answer = httpx2.post(server.token_endpoint, data={"grant_type": "client_credentials"}, auth=(client_id, secret))
    return str(answer.json()["access_token"])


def status(server: DevServer | DevServerProcess, bearer: str) -> Any:
    answer = httpx2.get(f"{server.api_url}/hello", headers={"Authorization": f"Bearer {bearer}"})
    return answer.json().get("reason", answer.status_code)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_everything_is_there_after_a_restart(tmp_path: Path, end: str) -> None:
    file = str(tmp_path / "dev.db")
    server = DevServerProcess(CONFIG, state=file).start()
    first, opaque, revoked, old = token(server), token(server, "opaque", "opaque-secret"), token(server), token(server)
    server.revoke_token_id(server.requests("/token")[2].token_id or "")
    server.rotate_key()
    staged = server.stage_key()
    newer = token(server)
    before = (server.issuer, server.api_url, server.command("signing_keys"))
    now = server.advance_clock(1000)
    signed = assertion(aud=server.issuer, iat=now, exp=now + 600)
    form = {"grant_type": "client_credentials", "client_assertion_type": JWT_BEARER, "client_assertion": signed}
    assert httpx2.post(server.token_endpoint, data=form).status_code == 200
    getattr(server, end)()  # killed at once, nothing more could be written

    with DevServerProcess(CONFIG, state=file) as server:
        assert (server.issuer, server.api_url, server.command("signing_keys")) == before
        assert [status(server, bearer) for bearer in (first, opaque, revoked, old, newer)] == [
            200,
            200,
            "revoked",
            200,
            200,
        ]
        assert httpx2.post(server.token_endpoint, data=form).status_code == 401  # still used up
        assert server.advance_clock(0) >= now
        assert server.rotate_key() == staged
        server.revoke_client("opaque")
        server.rotate_key(forget_old=True)
    with DevServerProcess(CONFIG, state=file) as server:
        assert [status(server, bearer) for bearer in (first, opaque)] == ["unknown_key", "revoked"]
        assert status(server, token(server, "opaque", "opaque-secret")) == 200
        serials = [int((entry.token_id or "0").partition(".")[0]) for entry in server.requests("/token")]
    with DevServer(CONFIG, state=file, web=True) as again:
        token(again)
        assert int((again.requests("/token")[-1].token_id or "").partition(".")[0]) > max(serials)


def test_without_a_state_file_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with DevServer(CONFIG) as server:
        token(server)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_the_file_is_for_its_owner_alone_and_holds_no_token(tmp_path: Path) -> None:
    file = tmp_path / "dev.db"
    before = os.umask(0)
    try:
        with DevServer(CONFIG, state=str(file)) as server:
            bearers = [token(server), token(server, "opaque", "opaque-secret")]
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}
    kept = file.read_bytes()
    assert b"PRIVATE KEY" in kept
    for secret in (*bearers, "dev-secret", "opaque-secret"):
        assert secret.encode() not in kept


def refused(path: Path) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        DevServer(CONFIG, state=str(path)).start()
    assert caught.value.key == "state"
    assert caught.value.advice
    return caught.value


@pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")
def test_a_file_that_others_may_have_read(tmp_path: Path) -> None:
    file = tmp_path / "dev.db"
    with DevServer(CONFIG, state=str(file)):
        pass
    (tmp_path / "link.db").symlink_to(file)
    assert "not a regular file" in str(refused(tmp_path / "link.db"))
    assert "not a regular file" in str(refused(tmp_path))
    for mode in (0o640, 0o604, 0o602):
        file.chmod(mode)
        assert "other users may have read" in str(refused(file))


def test_a_file_that_is_none_of_ours(tmp_path: Path) -> None:
    def made(name: str, content: bytes = b"") -> Path:
        path = tmp_path / name
        path.touch(0o600)
        path.write_bytes(content)
        return path

    assert "not a SQLite database" in str(refused(made("text", b"hello, world" * 100)))
    foreign = made("foreign")
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    content = foreign.read_bytes()
    assert "no state file of this version" in str(refused(foreign))
    assert foreign.read_bytes() == content
    assert "cannot be made" in str(refused(tmp_path / "nowhere" / "dev.db"))


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("key", "k", {"pem": "canary", "role": "current", "last_expiry": 0}),
        ("key", "k", {"role": "current"}),
        ("token", "t", {"token_id": "t"}),
        ("token", "t", []),
        ("denied_before", "c", "x"),
        ("used", "not json", 1),
        ("used", "[1]", 1),
    ],
)
def test_a_file_that_makes_no_sense(tmp_path: Path, kind: str, key: str, value: object) -> None:
    file = tmp_path / "dev.db"
    state = StateFile(str(file))
    state._pending[kind, key] = json.dumps(value)
    state.close()
    error = refused(file)
    assert "makes no sense" in str(error)
    assert "canary" not in repr(error)
    assert error.__cause__ is error.__context__ is None


def test_two_servers_on_one_file(tmp_path: Path) -> None:
    file = tmp_path / "dev.db"
    with DevServer(CONFIG, state=str(file)) as server:
        assert "another server uses it" in str(refused(file))
        with pytest.raises(RuntimeError, match="another server uses it"):
            DevServerProcess(CONFIG, state=str(file)).start()
        assert status(server, token(server)) == 200


def test_what_cannot_be_written_is_not_handed_out(tmp_path: Path) -> None:
    with DevServer(CONFIG, state=str(tmp_path / "dev.db")) as server:
        good = token(server)
        runtime = server._runtime
        assert runtime is not None
        state = runtime.control.state
        assert state is not None
        # As a full disk would: the next page that SQLite needs cannot be had.
        state._connection.execute("PRAGMA query_only = ON")
        refusal = httpx2.post(
            server.token_endpoint, data={"grant_type": "client_credentials"}, auth=("api-client", "dev-secret")
        )
        assert (refusal.status_code, refusal.json()["error"]) == (503, "server_error")
        with pytest.raises(ValueError, match="cannot be written"):
            server.revoke_client()
        state._connection.execute("PRAGMA query_only = OFF")
        assert status(server, token(server)) == 200
        assert status(server, good) == "revoked"  # what was asked for is done as soon as it can be kept


def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    file = str(tmp_path / "dev.db")
    with DevServer(CONFIG, state=file) as server:
        for _ in range(5):
            token(server)
        server.advance_clock(3 * 86400)
    with DevServer(CONFIG, state=file):
        pass
    state = StateFile(file)
    try:
        assert list(state._rows("token")) == []
        restored = Authority(CONFIG, [new_signing_key()])
        state.restore(restored)
        assert len(restored.keys) == 1
    finally:
        state.close()


def test_log_lines_of_a_process(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with DevServerProcess(CONFIG, log_json=str(log)) as server:
        bearer = token(server)
        status(server, bearer)
        server.inject(hang_up=True, times=1)
        with pytest.raises(httpx2.TransportError):
            token(server)
        server.clear_log()
    lines = [json.loads(line) for line in log.read_text(encoding="ascii").splitlines()]
    assert [(line["path"], line["status"], line["fault"]) for line in lines] == [
        ("/token", 200, None), ("/hello", 200, None), ("/token", None, "hang-up"),
    ]  # fmt: skip
    assert lines[0]["token_id"] == lines[1]["token_id"]
    text = log.read_text(encoding="ascii")
    assert "dev-secret" not in text
    assert bearer not in text


def test_log_lines_on_standard_output() -> None:
    command = [sys.executable, "-m", "accredit.devserver", "--log-json", "-"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    url = json.loads(child.stdout.readline())["url"]
    httpx2.get(f"{url}/jwks")
    assert json.loads(child.stdout.readline())["path"] == "/jwks"
    child.communicate()
    assert child.returncode == 0
