"""The guarded APIs of examples/, each a process of its own, called by curl and by accredit's client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from accredit import ClientRegistration, ClientSecretBasic, Secret, TokenManager
from accredit.devserver import DevServer
from accredit.integrations.httpx2 import AccreditAuth
from accredit.testing import TokenMaker, failing
from tests.resource_server.serving import bearer, curl
from tests.resource_server.support import INVALID, SCOPE

ROOT = Path(__file__).parents[2]
EXAMPLES = ("guarded_fastapi", "guarded_flask", "guarded_rest_framework")
AUDIENCE = "https://api.example"
NO_TOKEN = 'Bearer realm="api", scope="orders:read"'
NOT_THIS_TOKEN = f'Bearer realm="api", {INVALID}, scope="orders:read"'


@contextmanager
def running(name: str, issuer: str, audience: str) -> Iterator[str]:
    command = [sys.executable, str(ROOT / "tests" / "examples" / "launch.py"), str(ROOT / "examples" / f"{name}.py")]
    environment = {**os.environ, "ACCREDIT_ISSUER": issuer, "AUDIENCE": audience, "NO_PROXY": "*"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            port = process.stdout.readline().strip()
            assert port.isdigit(), f"{name} did not start"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.stdin.close()
            process.wait(30)


@pytest.fixture(scope="module")
def server() -> Iterator[DevServer]:
    with DevServer() as server:
        yield server


@pytest.fixture(scope="module")
def tokens(server: DevServer) -> TokenMaker:
    return TokenMaker(server)


@pytest.fixture(scope="module", params=EXAMPLES)
def service(request: pytest.FixtureRequest, server: DevServer) -> Iterator[str]:
    with running(request.param, server.issuer, AUDIENCE) as url:
        yield url


def test_curl_with_a_good_token(service: str, tokens: TokenMaker) -> None:
    answer = curl(f"{service}/orders", *bearer(tokens.valid()))
    assert (answer.status, answer.challenge) == (200, None)
    assert json.loads(answer.body) == {"orders": ["espresso"], "caller": "api-client"}
    answer = curl(f"{service}/orders", "-X", "POST", *bearer(tokens.valid()))
    assert (answer.status, json.loads(answer.body)["ordered"]) == (201, True)


def test_curl_without_a_token(service: str) -> None:
    answer = curl(f"{service}/orders")
    assert (answer.status, answer.challenge) == (401, NO_TOKEN)
    assert curl(f"{service}/health").status == 200


@pytest.mark.parametrize("shape", TokenMaker.SHAPES)
def test_curl_with_a_bad_token(service: str, tokens: TokenMaker, shape: str) -> None:
    answer = curl(f"{service}/orders", *bearer(tokens.of_shape(shape)))
    assert (answer.status, answer.challenge) == (401, NOT_THIS_TOKEN)


def test_curl_without_the_scope(service: str, tokens: TokenMaker) -> None:
    answer = curl(f"{service}/orders", "-X", "POST", *bearer(tokens.without_scope("orders:write")))
    assert (answer.status, answer.challenge) == (403, f'Bearer realm="api", {SCOPE}, scope="orders:write"')


def test_our_own_client(service: str, server: DevServer) -> None:
    registration = ClientRegistration(
        id="orders",
        issuer=server.issuer,
        client_id="api-client",
        client_auth=ClientSecretBasic(Secret("dev-secret")),
        scope="orders:read",
    )
    with TokenManager(registration) as manager, httpx2.Client(auth=AccreditAuth(manager), trust_env=False) as client:
        assert client.get(f"{service}/orders").json() == {"orders": ["espresso"], "caller": "api-client"}
        refused = client.post(f"{service}/orders")
        assert refused.status_code == 403
        assert refused.headers["www-authenticate"] == f'Bearer realm="api", {SCOPE}, scope="orders:write"'


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_keys_cannot_be_had(name: str, server: DevServer, tokens: TokenMaker) -> None:
    with running(name, server.issuer, AUDIENCE) as service, failing(server, 500, path="/jwks"):
        answer = curl(f"{service}/orders", *bearer(tokens.valid()))
        assert (answer.status, answer.challenge) == (503, None)
        assert 1 <= int(answer.values("retry-after")[0]) <= 3600
        assert curl(f"{service}/orders").status == 401


@pytest.mark.parametrize("name", EXAMPLES)
def test_guarding_a_route_takes_five_lines_at_most(name: str) -> None:
    """All that reading orders needs, from the verifier to the scope; imports apart."""
    lines = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8").splitlines()
    marks = ("TokenVerifier(", "Guard(", '"orders:read"', ": Reader", "(Authentication,)", "permission_classes")
    guarding = [line for line in lines if any(mark in line for mark in marks) and "import" not in line]
    assert 3 <= len(guarding) <= 5, guarding
