"""The typed client of examples/, run as its readers would."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from accredit import ClientRegistration, ClientSecretBasic, TokenManager
from accredit.devserver import DevServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "secure_api_client.py"


@pytest.fixture(scope="module")
def server() -> Iterator[DevServer]:
    with DevServer() as server:
        yield server


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("secure_api_client", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def manager(server: DevServer) -> Iterator[TokenManager]:
    registration = ClientRegistration(
        id="api-client",
        issuer=server.issuer,
        client_id="api-client",
        client_auth=ClientSecretBasic("dev-secret"),
        scope="orders:read orders:write",
    )
    with TokenManager(registration) as manager:
        yield manager


def test_threads_call_the_protected_api(server: DevServer, example: ModuleType, manager: TokenManager) -> None:
    before = server.count("/token")
    with example.SecureAPIClient(server.api_url, manager) as client:
        answers = [client.call_protected_api("/hello") for _ in range(3)]
        created = client.call_protected_api("/orders", method="POST", json={"item": 1})
        missing = client.call_protected_api("/no-such-thing")
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert created.ok
    assert not missing.ok
    assert server.count("/token") - before == 1


@pytest.mark.anyio
async def test_tasks_call_the_protected_api(server: DevServer, example: ModuleType, manager: TokenManager) -> None:
    async with example.AsyncSecureAPIClient(server.api_url, manager.asynchronous()) as client:
        answer = await client.call_protected_api("/hello")
    assert answer.ok


def run(server: DevServer, secret: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCREDIT_")} | {
        "ACCREDIT_ISSUER": server.issuer,
        "ACCREDIT_CLIENT_ID": "api-client",
        "ACCREDIT_CLIENT_SECRET": secret,
        "ACCREDIT_SCOPE": "orders:read",
    }
    command = [sys.executable, str(EXAMPLE), server.api_url, "/hello"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_it_runs_from_the_environment(server: DevServer) -> None:
    before = server.count("/token")
    done = run(server, "dev-secret")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("status=200") == 3
    assert server.count("/token") - before == 1


def test_it_says_what_is_wrong_with_the_secret(server: DevServer) -> None:
    done = run(server, "wrong-secret")
    assert done.returncode == 1
    assert "refuses the credential" in done.stderr
    assert "wrong-secret" not in done.stdout + done.stderr
