"""Guarded APIs accept the tokens of servers nobody here wrote, and of the development server, all at once."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx2
import pytest

from accredit import ClientRegistration, ClientSecretBasic, Secret, TokenManager
from accredit.devserver import DevServer
from accredit.integrations.httpx2 import AccreditAuth
from accredit.verifier import Introspection, TokenVerifier, TrustedIssuer
from tests.resource_server.apps import ASGI, EVERY
from tests.resource_server.serving import bearer, curl, serve_asgi, serve_wsgi
from tests.resource_server.support import INVALID, SCOPE
from tests.servers.process import RunningServer

pytestmark = [pytest.mark.real_server]
ASKING = ClientSecretBasic(Secret("basic-secret-0123456789"))


@pytest.fixture(scope="module")
def embedded() -> Iterator[DevServer]:
    with DevServer() as server:
        yield server


@pytest.fixture(scope="module")
def verifier(
    oidc_provider: RunningServer, authlib_server: RunningServer, embedded: DevServer
) -> Iterator[TokenVerifier]:
    """Trust three issuers: JWTs of two, and opaque tokens of Authlib's, which is asked about them."""
    trusted = (
        TrustedIssuer(oidc_provider.issuer, oidc_provider.resources[0]),
        TrustedIssuer(
            authlib_server.issuer,
            "any",
            introspection=Introspection(client_id="basic-client", client_auth=ASKING, keep_active=0.0),
        ),
        TrustedIssuer(embedded.issuer, embedded.config.default_audience),
    )
    with TokenVerifier(trusted) as made:
        yield made


@pytest.fixture(scope="module", params=["fastapi", "flask", "rest_framework"])
def service(request: pytest.FixtureRequest, verifier: TokenVerifier) -> Iterator[str]:
    name = request.param
    with (serve_asgi if name in ASGI else serve_wsgi)(EVERY[name](verifier)) as url:
        yield url


@pytest.fixture(params=["oidc_provider", "authlib_server", "embedded"])
def caller(request: pytest.FixtureRequest) -> Iterator[tuple[TokenManager, str]]:
    server = request.getfixturevalue(request.param)
    known = isinstance(server, RunningServer)
    registration = ClientRegistration(
        id="caller",
        issuer=server.issuer,
        client_id="basic-client" if known else "api-client",
        client_auth=ASKING if known else ClientSecretBasic(Secret("dev-secret")),
        scope="api:read" if known else "orders:write",
        resource=server.resources[:1] if known else (),
    )
    with TokenManager(registration) as made:
        yield made, registration.client_id


def test_tokens_of_each_server(service: str, caller: tuple[TokenManager, str]) -> None:
    manager, client_id = caller
    with httpx2.Client(auth=AccreditAuth(manager), trust_env=False) as client:
        answer = client.get(f"{service}/me")
        assert (answer.status_code, answer.json()) == (200, {"caller": client_id})
        refused = client.get(f"{service}/orders")
    assert refused.status_code == 403
    assert refused.headers["www-authenticate"] == f'Bearer realm="api", {SCOPE}, scope="orders:read"'
    answered = curl(f"{service}/me", *bearer(manager.get().value))
    assert (answered.status, json.loads(answered.body)) == (200, {"caller": client_id})


def test_a_revoked_token_of_authlib(service: str, authlib_server: RunningServer) -> None:
    client = authlib_server.clients["basic"]
    registration = ClientRegistration(
        id="caller", issuer=authlib_server.issuer, client_id=client.client_id, client_auth=ASKING, scope="api:read"
    )
    with TokenManager(registration) as tokens:
        token = tokens.get().value
        assert curl(f"{service}/me", *bearer(token)).status == 200
        httpx2.post(
            authlib_server.revocation_endpoint or "",
            data={"token": token},
            auth=(client.client_id, client.client_secret),
        ).raise_for_status()
        answer = curl(f"{service}/me", *bearer(token))
    assert (answer.status, answer.challenge) == (401, f'Bearer realm="api", {INVALID}')
