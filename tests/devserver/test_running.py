"""The development server over real sockets, in a thread and in a process."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx2
import pytest

from accredit.devserver import DevClient, DevConfig, DevServer, DevServerProcess, LogEntry
from accredit.devserver.control import GARBAGE
from accredit.devserver.handle import Switches
from accredit.errors import ConfigurationError
from tests.support.certificates import Authority

CREDENTIALS = ("api-client", "dev-secret")
FORM = {"grant_type": "client_credentials"}


def ask(http: httpx2.Client, server: Switches, **form: str) -> httpx2.Response:
    return http.post(server.token_endpoint, data={**FORM, **form}, auth=CREDENTIALS)


def token(http: httpx2.Client, server: Switches, **form: str) -> str:
    response = ask(http, server, **form)
    assert response.status_code == 200, response.text
    value = response.json()["access_token"]
    assert isinstance(value, str)
    return value


def call(http: httpx2.Client, server: Switches, bearer: str, path: str = "/hello") -> httpx2.Response:
    return http.get(server.api_url + path, headers={"Authorization": f"Bearer {bearer}"})


class TestApi:
    def test_valid_token(self, server: Switches, http: httpx2.Client) -> None:
        bearer = token(http, server)
        answer = call(http, server, bearer)
        assert (answer.status_code, answer.json()["client_id"]) == (200, "api-client")
        order = http.post(server.api_url + "/orders", content=b"12345", headers={"Authorization": f"bearer {bearer}"})
        assert order.json()["length"] == 5
        assert call(http, server, bearer, "/calls").json()["calls"] >= 2
        assert call(http, server, bearer, "/nothing").status_code == 404

    @pytest.mark.parametrize("header", [None, "Basic eDp5", "Bearer", "DPoP abc"])
    def test_no_token(self, server: Switches, http: httpx2.Client, header: str | None) -> None:
        answer = http.get(server.api_url + "/hello", headers={} if header is None else {"Authorization": header})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="api"')

    def test_token_in_the_query_counts_for_nothing(self, server: Switches, http: httpx2.Client) -> None:
        answer = http.get(server.api_url + "/hello", params={"access_token": token(http, server)})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="api"')

    def test_token_twice(self, server: Switches, http: httpx2.Client) -> None:
        bearer = token(http, server)
        headers = {"Authorization": f"Bearer {bearer}"}
        answer = http.post(server.api_url + "/hello", data={"access_token": bearer}, headers=headers)
        assert answer.status_code == 400
        assert 'error="invalid_request"' in answer.headers["www-authenticate"]

    def test_scope(self, server: Switches, http: httpx2.Client) -> None:
        bearer = token(http, server, scope="orders:write")
        answer = call(http, server, bearer, "/orders")
        assert answer.status_code == 403
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
        assert 'scope="orders:read"' in answer.headers["www-authenticate"]

    @pytest.mark.parametrize("damage", ["cut", "flipped", "text", "other issuer"])
    def test_damaged_token(self, server: Switches, http: httpx2.Client, damage: str) -> None:
        bearer = token(http, server)
        if damage == "other issuer":
            with DevServer() as other:
                wrong = token(http, other)
        else:
            flipped = bearer[:-20] + ("A" if bearer[-20] != "A" else "B") + bearer[-19:]
            wrong = {"cut": bearer[:-1], "flipped": flipped, "text": "abc"}[damage]
        answer = call(http, server, wrong)
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]

    def test_expired_token(self, http: httpx2.Client) -> None:
        with DevServer() as server:
            server.set_token_lifetime(60)
            bearer = token(http, server)
            server.advance_clock(58)
            assert call(http, server, bearer).status_code == 200
            server.advance_clock(3)
            refused = call(http, server, bearer)
            assert (refused.status_code, refused.json()["reason"]) == (401, "expired")
            assert call(http, server, token(http, server)).status_code == 200

    def test_revoked_tokens(self, server: Switches, http: httpx2.Client) -> None:
        first, second = token(http, server), token(http, server)
        server.revoke_token_id(call(http, server, first).json()["token_id"])
        assert [call(http, server, bearer).status_code for bearer in (first, second)] == [401, 200]
        server.revoke_client()
        assert call(http, server, second).json()["reason"] == "revoked"
        third = token(http, server)
        assert call(http, server, third).status_code == 200
        http.post(f"{server.issuer}/revoke", data={"token": third}, auth=CREDENTIALS)
        assert call(http, server, third).status_code == 401

    def test_rotated_keys(self, server: Switches, http: httpx2.Client) -> None:
        old = token(http, server)
        assert call(http, server, old).status_code == 200
        kid = server.rotate_key()
        new = token(http, server)
        assert [call(http, server, bearer).status_code for bearer in (old, new)] == [200, 200]
        assert kid in {key["kid"] for key in http.get(f"{server.issuer}/jwks").json()["keys"]}
        server.rotate_key(forget_old=True)
        newest = token(http, server)
        assert [call(http, server, bearer).status_code for bearer in (newest, new)] == [200, 401]


class TestTrouble:
    def test_failures_for_some_requests(self, server: Switches, http: httpx2.Client) -> None:
        server.fail(503, retry_after="7", times=2)
        answers = [ask(http, server) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [503, 503, 200]
        assert answers[0].headers["retry-after"] == "7"

    def test_failures_until_recovery(self, server: Switches, http: httpx2.Client) -> None:
        server.fail(400, error="invalid_scope")
        for _ in range(3):
            answer = ask(http, server)
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")
        server.recover()
        assert ask(http, server).status_code == 200
        server.fail(500)
        server.fail(500, times=0)
        assert ask(http, server).status_code == 200

    def test_failure_of_everything(self, server: Switches, http: httpx2.Client) -> None:
        bearer = token(http, server)
        assert call(http, server, bearer).status_code == 200
        server.fail(503, path="*")
        assert http.get(f"{server.issuer}/jwks").status_code == 503
        assert call(http, server, bearer).status_code == 200

    def test_failure_of_the_api(self, server: Switches, http: httpx2.Client) -> None:
        challenge = {"WWW-Authenticate": "Negotiate, Bearer"}
        server.fail(401, server="api", path="/hello", headers=challenge, body="", times=1)
        bearer = token(http, server)
        refused = call(http, server, bearer)
        assert (refused.status_code, refused.headers["www-authenticate"], refused.content) == (
            401, "Negotiate, Bearer", b""
        )  # fmt: skip
        assert call(http, server, bearer).status_code == 200

    def test_redirect(self, server: Switches, http: httpx2.Client) -> None:
        server.fail(307, headers=[("location", "https://evil.example/")], times=1)
        answer = ask(http, server)
        assert (answer.status_code, answer.headers["location"], answer.content) == (307, "https://evil.example/", b"")

    def test_truncated_answer(self, server: Switches, http: httpx2.Client) -> None:
        server.fail(200, body='{"access_token":"abc","token_type":"Bearer"}', truncate=True, times=1)
        with pytest.raises(httpx2.RemoteProtocolError):
            ask(http, server)
        assert ask(http, server).status_code == 200

    @pytest.mark.parametrize("kind", GARBAGE)
    def test_garbage(self, server: Switches, http: httpx2.Client, kind: str) -> None:
        server.garbage(kind, times=1)
        answer = ask(http, server)
        assert (answer.status_code, answer.content) == (200, GARBAGE[kind][1])
        assert ask(http, server).json()["token_type"] == "Bearer"

    def test_issuing(self, server: Switches, http: httpx2.Client) -> None:
        server.set_issuing(omit_expires_in=True, omit_scope=True, same_token=True)
        first, second = ask(http, server).json(), ask(http, server).json()
        assert first == second
        assert set(first) == {"access_token", "token_type"}

    def test_latency_of_one_client_delays_no_other(self, server: Switches, http: httpx2.Client) -> None:
        """The slow request is still unanswered when the other client has its token; nothing here is timed."""
        server.set_latency(30, client_id="reader")
        slow = threading.Thread(target=self.give_up, args=(server,))
        slow.start()
        server.wait_for_requests(1)
        assert ask(http, server).status_code == 200
        statuses = {entry.client_id: entry.status for entry in server.requests("/token")}
        assert statuses == {"reader": None, "api-client": 200}
        slow.join()

    @staticmethod
    def give_up(server: Switches) -> None:
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(server.token_endpoint, data=FORM, auth=("reader", "reader-secret"), timeout=0.5)

    def test_latency(self, server: Switches, http: httpx2.Client) -> None:
        server.set_latency(0.2)
        begin = time.monotonic()
        assert ask(http, server).status_code == 200
        assert time.monotonic() - begin >= 0.2


class TestGate:
    @pytest.mark.anyio
    async def test_300_requests_at_once(self, server: Switches, many: httpx2.AsyncClient) -> None:
        answers: list[int] = []

        async def one() -> None:
            answer = await many.post(server.token_endpoint, data=FORM, auth=CREDENTIALS)
            answers.append(answer.status_code)

        server.hold()
        async with many, anyio.create_task_group() as group:
            for _ in range(300):
                group.start_soon(one)
            held = await anyio.to_thread.run_sync(lambda: server.wait_for_waiting(300, timeout=30))
            assert (held, answers) == (300, [])
            server.release()
        assert answers == [200] * 300
        assert server.waiting() == 0
        assert server.count("/token") == 300

    def test_a_client_that_leaves_waits_no_more(self, server: Switches) -> None:
        server.hold()
        where = urlsplit(server.url)
        with socket.create_connection((where.hostname, where.port)) as connection:
            connection.sendall(b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            assert server.wait_for_waiting(1) == 1
        server.release()
        server.hold()
        assert server.waiting() == 0

    def test_gate_of_the_api(self, server: Switches, http: httpx2.Client) -> None:
        bearer = token(http, server)
        server.hold(server="api")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(call, http, server, bearer)
            server.wait_for_waiting(1, server="api")
            assert not answer.done()
            server.release(server="api")
            assert answer.result().status_code == 200

    def test_waiting_for_what_does_not_come(self, server: Switches) -> None:
        with pytest.raises(TimeoutError):
            server.wait_for_waiting(1, timeout=0.01)
        with pytest.raises(TimeoutError):
            server.wait_for_requests(1, timeout=0.01)

    def test_stopping_lets_everybody_go(self, http: httpx2.Client) -> None:
        with ThreadPoolExecutor(1) as pool:
            with DevServer() as server:
                server.hold()
                answer = pool.submit(ask, http, server)
                server.wait_for_waiting(1)
            assert answer.result().status_code == 200


class TestLog:
    def test_entries(self, server: Switches, http: httpx2.Client) -> None:
        bearer = token(http, server, scope="orders:read", tenant="x", unheard_of="canary-name")
        call(http, server, bearer)
        http.post(server.token_endpoint, data={**FORM, "client_id": "canary-id", "client_secret": "canary-secret"})
        http.get(f"{server.issuer}/jwks?canary=query")
        issued, called, refused, jwks = server.requests()
        assert isinstance(issued, LogEntry)
        assert (issued.server, issued.method, issued.path, issued.status) == ("as", "POST", "/token", 200)
        assert (issued.client_id, issued.grant) == ("api-client", "client_credentials")
        assert issued.parameters == ("grant_type", "scope", "tenant", "other")
        assert (called.server, called.path, called.token_id) == ("api", "/hello", issued.token_id)
        assert (refused.client_id, refused.status) == (None, 401)
        assert jwks.path == "/jwks"
        text = repr(server.requests())
        assert not [word for word in ("canary", "dev-secret", bearer) if word in text]

    def test_counts(self, server: Switches, http: httpx2.Client) -> None:
        bearer = token(http, server)
        token(http, server)
        call(http, server, bearer)
        assert server.count("/token") == server.wait_for_requests(2) == 2
        assert server.count() == 3
        assert server.count("/hello", server="api") == 1
        assert server.count(client_id="api-client") == 3
        assert len(server.requests("/token", client_id="reader")) == 0
        server.clear_log()
        assert server.count() == 0


class TestAdmin:
    def test_token_is_needed(self, server: Switches, http: httpx2.Client) -> None:
        url = f"{server.url}/_admin/count"
        body = {"path": None, "server": None, "client_id": None}
        good = {"X-Admin-Token": server.admin_token}
        assert http.post(url, json=body, headers=good).json() == {"result": 0}
        for wrong in ({}, {"X-Admin-Token": "x"}, {"X-Admin-Token": server.admin_token + "x"}):
            assert http.post(url, json=body, headers=wrong).status_code == 403
        assert http.post(url, json=body, headers=[*good.items(), ("X-Admin-Token", "x")]).status_code == 403
        assert http.post(url, json=body, headers={**good, "Origin": "null"}).status_code == 405
        assert http.get(url, headers=good).status_code == 405

    @pytest.mark.parametrize(
        ("command", "body"),
        [
            ("nothing", b"{}"),
            ("count", b"{}"),
            ("count", b"[]"),
            ("count", b"not json"),
            ("count", b'{"self":1}'),
            ("garbage", b'{"kind":"x","path":"x","times":1}'),
            ("set_latency", b'{"seconds":"x","client_id":null,"server":"as"}'),
            ("__init__", b"{}"),
            ("set_token_lifetime", b'{"seconds":"x"}'),
            ("set_token_lifetime", b'{"seconds":0}'),
            ("set_token_lifetime", b'{"seconds":1.5}'),
            ("set_token_lifetime", b'{"seconds":true}'),
            ("set_token_lifetime", b'{"seconds":1' + b"0" * 30 + b"}"),
            ("set_latency", b'{"seconds":"nan","client_id":null,"server":"as"}'),
            ("set_latency", b'{"seconds":-1,"client_id":null,"server":"as"}'),
            ("set_latency", b'{"seconds":1' + b"0" * 400 + b',"client_id":null,"server":"as"}'),
            ("set_latency", b'{"seconds":1,"client_id":null,"server":"nowhere"}'),
            ("advance_clock", b'{"seconds":1' + b"0" * 400 + b"}"),
            ("advance_clock", b'{"seconds":"12"}'),
            ("advance_clock", b'{"seconds":true}'),
            ("rotate_key", b'{"forget_old":"no"}'),
            ("hold", b'{"server":"nowhere"}'),
            ("inject", b'{"server":"nowhere","path":"*"}'),
            ("inject", b'{"server":"as","path":"*","status":503.5}'),
            ("inject", b'{"server":"as","path":"*","times":1.5}'),
            ("inject", b'{"server":"as","path":"*","error":5}'),
            ("inject", b'{"server":"as","path":"*","body":5}'),
            ("inject", b'{"server":"as","path":"*","headers":[["a b","c"]]}'),
            ("inject", b'{"server":"as","path":"*","headers":[["","c"]]}'),
            ("inject", '{"server":"as","path":"*","headers":[["x","\u20ac"]]}'.encode()),
            ("inject", '{"server":"as","path":"*","retry_after":"\u20ac"}'.encode()),
        ],
    )
    def test_wrong_commands(self, server: Switches, http: httpx2.Client, command: str, body: bytes) -> None:
        headers = {"X-Admin-Token": server.admin_token}
        key = server.command("signing_keys")
        answer = http.post(f"{server.url}/_admin/{command}", content=body, headers=headers)
        assert answer.status_code == 400
        # Nothing was changed by half, and nobody else is hurt by it.
        assert server.command("signing_keys") == key
        assert ask(http, server).json()["expires_in"] == server.config.token_lifetime

    def test_wrong_command_of_a_handle(self, server: Switches) -> None:
        with pytest.raises((RuntimeError, LookupError)):
            server.command("nothing")


class TestStrangers:
    @pytest.mark.parametrize(
        "raw",
        [
            b"POST /token HTTP/1.1\r\nHost: x\r\nAuthorization: Basic \xff\xfe\r\nContent-Length: 0\r\n\r\n",
            b"POST /token HTTP/1.1\r\nHost: x\r\nAuthorization: Basic JXp6Og==\r\nContent-Length: 3\r\n\r\n%zz",
            b"POST /token HTTP/1.1\r\nHost: x\r\nAuthorization: " + b"a" * 1_000_000 + b"\r\n\r\n",
            b"POST /%ff%fe HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n",
        ],
        ids=["bytes", "escape", "huge", "path", "tls"],
    )
    def test_garbage_is_answered_with_4xx(self, server: Switches, raw: bytes) -> None:
        where = urlsplit(server.url)
        with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
            connection.sendall(raw)
            assert connection.recv(100).split(b" ", 2)[1][:1] == b"4"

    def test_large_bodies(self, server: Switches, http: httpx2.Client) -> None:
        kind = {"content-type": "application/x-www-form-urlencoded"}
        assert http.post(server.token_endpoint, content=b"a" * 1_000_000, headers=kind).status_code == 413
        bearer = {"Authorization": f"Bearer {token(http, server)}"}
        answer = http.post(server.api_url + "/orders", content=b"a" * 1_000_000, headers=bearer)
        assert answer.json()["length"] == 1_000_000


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Path, Path, Path]:
    authority = Authority()
    certificate, key = authority.issue("127.0.0.1").write(tmp_path)
    return certificate, key, authority.write(tmp_path)


class TestRunning:
    @pytest.mark.parametrize("kind", [DevServer, DevServerProcess])
    def test_https(self, kind: type[DevServer | DevServerProcess], tls: tuple[Path, Path, Path]) -> None:
        certificate, key, trusted = tls
        context = ssl.create_default_context(cafile=str(trusted))
        with (
            kind(certfile=str(certificate), keyfile=str(key)) as server,
            httpx2.Client(verify=context) as http,
        ):
            assert server.issuer.startswith("https://127.0.0.1:")
            assert call(http, server, token(http, server)).status_code == 200
            assert server.count("/token") == 1

    @pytest.mark.parametrize("kind", [DevServer, DevServerProcess])
    def test_again(self, kind: type[DevServer | DevServerProcess], http: httpx2.Client) -> None:
        server = kind(DevConfig(issuer_path="/tenant"))
        for _ in range(2):
            server.start()
            with pytest.raises(RuntimeError, match="runs already"):
                server.start()
            assert server.issuer == f"{server.url}/tenant"
            assert ask(http, server).status_code == 200
            assert server.count("/token") == 1
            server.stop()
            server.stop()
        with pytest.raises(RuntimeError, match="does not run"):
            server.count()

    def test_port_that_is_taken(self) -> None:
        with DevServer() as first:
            port = urlsplit(first.api_url).port or 0
            with pytest.raises(OSError, match=f"in use.*127.0.0.1:{port}"):
                DevServer(port=port).start()
            with pytest.raises(OSError, match="in use"):
                DevServer(api_port=port).start()
            with pytest.raises(RuntimeError, match="in use"):
                DevServerProcess(port=port).start()

    def test_bad_certificate(self, tmp_path: Path) -> None:
        bad = tmp_path / "bad.pem"
        bad.write_text("nothing")
        for file in (bad, tmp_path / "nowhere.pem"):
            with pytest.raises(ConfigurationError, match="certificate and its key cannot be used") as caught:
                DevServer(certfile=str(file), keyfile=str(file)).start()
            assert caught.value.key == "certfile"
            with pytest.raises(RuntimeError, match="did not start: certfile: the certificate"):
                DevServerProcess(certfile=str(file), keyfile=str(file)).start()

    def test_refused_places(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigurationError, match="loopback"):
            DevServer(host="0.0.0.0").start()
        with pytest.raises(RuntimeError, match="loopback"):
            DevServerProcess(host="0.0.0.0").start()
        monkeypatch.setenv("ENVIRONMENT", "production")
        with pytest.raises(ConfigurationError, match="production"):
            DevServer().start()
        with DevServerProcess(for_tests=True) as server:
            assert server.count() == 0

    def test_killed_process_is_gone(self, http: httpx2.Client) -> None:
        server = DevServerProcess().start()
        assert server.pid
        server.kill()
        assert server.pid is None
        with pytest.raises(httpx2.ConnectError):
            ask(http, server)

    def test_secret_is_not_among_the_arguments(self) -> None:
        config = DevConfig(clients=(DevClient(client_id="a", client_secret="canary-secret"),))  # type: ignore[arg-type]
        with DevServerProcess(config) as server:
            child = server._child
            assert child is not None
            assert "canary" not in repr(child.args)

    @pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
    def test_terminate(self) -> None:
        child = self.spawn(stdin=subprocess.PIPE)
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait(20) in {0, -signal.SIGTERM}
        child.communicate()

    def test_closed_stdin(self) -> None:
        child = self.spawn(stdin=subprocess.PIPE)
        child.communicate()
        assert child.wait(20) == 0

    def spawn(self, *options: str, stdin: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "accredit.devserver", *options]
        child = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE)
        assert child.stdout is not None
        report = json.loads(child.stdout.readline())
        assert report["pid"] == child.pid
        return child

    @pytest.mark.parametrize("config", ["[]", "{", '{"unknown":1}', '{"a":1,"a":2}', "@/nowhere/at/all"])
    def test_wrong_configuration(self, config: str) -> None:
        command = [sys.executable, "-m", "accredit.devserver", "--config-json", config]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        assert done.returncode == 2
        assert set(json.loads(done.stdout)) == {"error"}
        assert b"Traceback" not in done.stderr

    def test_configuration_from_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "dev.json"
        file.write_text(json.dumps({"clients": [{"client_id": "a", "client_secret": "b"}]}))
        child = self.spawn("--config-json", f"@{file}", stdin=subprocess.PIPE)
        child.communicate()
        assert child.returncode == 0


def test_missing_extra_is_named(tmp_path: Path) -> None:
    """Without uvicorn the error says which extra to install, and the configuration can still be imported."""
    code = """
import sys
sys.modules["MISSING"] = None
from accredit.devserver import DevConfig
try:
    from accredit.devserver import DevServer
except ImportError as error:
    print(error)
"""
    for missing in ("uvicorn", "cryptography"):
        command = [sys.executable, "-c", code.replace("MISSING", missing)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert f"needs the package {missing}" in done.stdout
        assert "accredit[devserver]" in done.stdout


def test_plugin(tmp_path: Path) -> None:
    """The pytest plugin gives a running server to tests of others."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["accredit.testing"]\n')
    (tmp_path / "test_it.py").write_text(
        "import httpx2\n"
        "def test_it(accredit_server):\n"
        "    form = {'grant_type': 'client_credentials'}\n"
        "    answer = httpx2.post(accredit_server.token_endpoint, data=form, auth=('api-client', 'dev-secret'))\n"
        "    assert answer.status_code == 200\n"
        "    assert accredit_server.count('/token') == 1\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert "1 passed" in done.stdout, done.stdout
