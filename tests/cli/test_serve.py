"""``accredit serve``: clients of the application's own configuration, and the switches of its command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from accredit.cli.main import main
from accredit.cli.servers import serve
from accredit.config import load
from accredit.devserver import DevConfig, DevServer
from accredit.devserver.from_registrations import Address, with_registrations
from accredit.errors import ConfigurationError
from accredit.manager import TokenManager
from tests.cli.support import CANARY, Run

PORT = 18081
TOML = f"""
default = "orders"

[registration.orders]
issuer = "http://127.0.0.1:{PORT}/tenant"
client_id = "orders-worker"
client_secret = {{ file = "secret" }}
client_auth = "client_secret_post"
scope = ["orders:read"]

[registration.reports]
issuer = "http://127.0.0.1:{PORT}/tenant"
client_id = "orders-worker"
client_secret = {{ file = "secret" }}
scope = ["orders:write"]
resource = ["https://reports.example"]

[registration.elsewhere]
issuer = "https://idp.example.com"
client_id = "other"
client_secret = "x"
"""


@pytest.fixture
def config(elsewhere: Path) -> Path:
    (elsewhere / "secret").write_text(f"{CANARY}\n", encoding="utf-8")
    file = elsewhere / "accredit.toml"
    file.write_text(TOML, encoding="utf-8")
    file.chmod(0o600)
    return file


def while_it_runs(
    capsys: pytest.CaptureFixture[str], do: Callable[[dict[str, Any]], None], *arguments: str, config: str | None = None
) -> str:
    """Run the command with ``--json``, do something while it runs, and return what else it wrote."""

    def wait() -> None:
        do(json.loads(capsys.readouterr().out))
        raise KeyboardInterrupt

    assert serve(["--json", *arguments], config, wait=wait) == 0
    return capsys.readouterr().out


def free_port() -> str:
    with DevServer() as server:
        return server.url.rpartition(":")[2]


def test_registrations_on_loopback_are_its_clients(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The very file of the application works against the server as it is."""
    text = config.read_text(encoding="utf-8").replace(str(PORT), free_port())
    config.write_text(text, encoding="utf-8")

    def use(said: dict[str, Any]) -> None:
        assert said["issuer"].endswith("/tenant")
        with TokenManager.from_config(config) as manager:
            assert manager.get().granted_scope == ("orders:read",)
            token = manager.get("reports")
            assert token.granted_scope == ("orders:write",)
            answer = httpx2.post(f"{said['api_url']}/orders", headers={"Authorization": f"Bearer {token.value}"})
            assert answer.status_code == 200

    while_it_runs(capsys, use)
    while_it_runs(capsys, use, config=str(config))


def test_what_a_registration_becomes(config: Path) -> None:
    made, address = with_registrations(
        DevConfig(), load(config), Address(None, 0, https=False), default_clients=True, must=True
    )
    (client,) = made.clients
    assert (client.client_id, client.client_secret.reveal()) == ("orders-worker", CANARY)
    assert client.scopes == ("orders:read", "orders:write")
    assert client.audiences == ("https://reports.example",)
    assert client.auth_methods == ("client_secret_post", "client_secret_basic")
    assert (made.issuer, made.issuer_path) == (f"http://127.0.0.1:{PORT}/tenant", "/tenant")
    assert address == Address("127.0.0.1", PORT, https=False)
    both, _ = with_registrations(
        DevConfig(), load(config), Address(None, 0, https=False), default_clients=False, must=True
    )
    assert [client.client_id for client in both.clients] == ["api-client", "orders-worker"]


@pytest.mark.parametrize(
    ("change", "address", "fault"),
    [
        (("127.0.0.1", "10.0.0.1"), Address(None, 0, https=False), "no registration has an issuer"),
        (("x", "x"), Address(None, 8080, https=False), "no registration has an issuer"),
        (("x", "x"), Address(None, 0, https=True), "no registration has an issuer"),
        (("/tenant", "/"), Address(None, 0, https=False), "ends with a slash"),
    ],
)
def test_registrations_that_do_not_fit(config: Path, change: tuple[str, str], address: Address, fault: str) -> None:
    text = config.read_text(encoding="utf-8").replace(*change).replace("http://10", "https://10")
    config.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=fault) as caught:
        with_registrations(DevConfig(), load(config), address, default_clients=True, must=True)
    assert caught.value.advice
    assert CANARY not in repr(caught.value)


def test_registrations_that_contradict_each_other(config: Path) -> None:
    text = config.read_text(encoding="utf-8")
    for wrong, fault in (
        (text.replace(f"{PORT}/tenant", f"{PORT}/other", 1), "several issuers"),
        (text.replace('{ file = "secret" }', '"another"', 1), "different secrets"),
    ):
        config.write_text(wrong, encoding="utf-8")
        with pytest.raises(ConfigurationError, match=fault):
            with_registrations(
                DevConfig(), load(config), Address(None, 0, https=False), default_clients=True, must=True
            )


def test_a_file_that_only_lies_there_need_not_fit(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(TOML.replace("http://127.0.0.1", "https://idp.example"), encoding="utf-8")

    def use(said: dict[str, Any]) -> None:
        assert said["page_link"].startswith(said["url"])

    while_it_runs(capsys, use)
    assert main(["--config", str(config), "serve"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "no registration has an issuer that this server could be" in err


def test_switches(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def use(said: dict[str, Any]) -> None:
        assert said["page_link"] == ""
        assert httpx2.get(f"{said['url']}/_ui/").status_code == 404
        form = {"grant_type": "client_credentials"}
        answer = httpx2.post(f"{said['issuer']}/token", data=form, auth=("api-client", "dev-secret")).json()
        assert "." not in answer["access_token"]
        assert answer["expires_in"] == 7
        refused = httpx2.get(f"{said['issuer']}/jwks", headers={"X-Accredit-Fault": "status=418"})
        assert refused.status_code == 418

    more = while_it_runs(
        capsys, use, "--no-web", "--token-format", "opaque", "--token-lifetime", "7", "--faults-by-request",
        "--state", "dev.db", "--log-json", "-",
    )  # fmt: skip
    lines = [json.loads(line) for line in more.splitlines()]
    assert [(line["path"], line["status"], line["fault"]) for line in lines] == [
        ("/_ui/", 404, None), ("/token", 200, None), ("/jwks", 418, "status 418"),
    ]  # fmt: skip
    assert (elsewhere / "dev.db").is_file()


@pytest.mark.parametrize(
    ("arguments", "environment", "fault"),
    [
        (["--host", "0.0.0.0"], {}, "it is not a loopback address"),
        ([], {"PROD": "1"}, "this environment is production"),
        (["--state", "nowhere/dev.db"], {}, "the state file"),
        (["--log-json", "nowhere/log"], {}, "did not start: nowhere/log: No such file"),
        (["--certfile", "x", "--keyfile", "y"], {}, "certfile: the certificate and its key cannot be used"),
        (["--config-json", '{"token_format":"x"}'], {}, "token_format"),
        (["--certfile", "x"], {}, "go together"),
    ],
)
def test_what_keeps_it_from_starting(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: dict[str, str], fault: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ran = run("serve", *arguments)
    assert ran.code in {1, 3}
    assert fault in ran.err
    assert len(ran.err.splitlines()) == 1


def test_wrong_values(run: Run) -> None:
    for arguments in (["--token-lifetime", "0"], ["--token-lifetime", "x"], ["--token-format", "x"], ["--port", "x"]):
        assert run("serve", *arguments).code == 2


def test_the_switch_that_overrides_the_refusals(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_ENV", "production")

    def use(said: dict[str, Any]) -> None:
        assert httpx2.get(f"{said['issuer']}/jwks").status_code == 200

    while_it_runs(capsys, use, "--i-know-this-is-for-tests")


def test_as_a_process(config: Path) -> None:
    """What a person sees: addresses, the link of the page, the clients, and never a secret."""
    command = [sys.executable, "-m", "accredit.cli.main", "serve", "--port", "0"]
    config.write_text(TOML.replace(str(PORT), free_port()), encoding="utf-8")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(4)]
    try:
        assert [line.split()[0] for line in lines] == ["issuer", "protected", "page", "client"]
        link = lines[2].split()[1]
        assert httpx2.get(link).status_code == 303
        assert "orders-worker" in lines[3]
    finally:
        child.terminate()
        out, err = child.communicate(timeout=30)
    assert CANARY not in "".join(lines) + out + err
