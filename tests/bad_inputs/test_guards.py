"""What an API answers through a guard: rows of the groups F, I and J that are seen from outside."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient
from werkzeug.test import Client

from accredit import ClientRegistration, ClientSecretBasic, Secret, TokenManager
from accredit.core.challenge import parse_challenges
from accredit.core.messages import Request, Response
from accredit.core.protected_resource import ProtectedResource, parse_resource_metadata, resource_metadata_url
from accredit.devserver import DevServer
from accredit.errors import DiscoveryError
from accredit.integrations.httpx2 import AccreditAuth
from accredit.resource_server import ResourceMetadata
from accredit.testing import TokenMaker, failing, garbage
from accredit.transport import HttpTransport
from accredit.verifier import Introspection, TokenVerifier, TrustedIssuer
from tests.bad_inputs.model import covers
from tests.resource_server.apps import ASGI, EVERY
from tests.resource_server.serving import serve_asgi

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def server() -> Iterator[DevServer]:
    with DevServer() as server:
        yield server


@pytest.fixture(scope="module")
def tokens(server: DevServer) -> TokenMaker:
    return TokenMaker(server)


@pytest.fixture
def verifier(server: DevServer) -> Iterator[TokenVerifier]:
    with TokenVerifier(TrustedIssuer(server.issuer, server.config.default_audience)) as verifier:
        yield verifier


def ask(
    name: str, verifier: Any, path: str, method: str = "GET", token: str | None = None, body: bytes = b""
) -> tuple[int, Any, bytes]:
    """Call one of the guarded applications in memory."""
    headers = dict(FORM) if body else {}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    app = EVERY[name](verifier)
    if name in ASGI:
        answer = TestClient(app).request(method, path, headers=headers, content=body)
        return answer.status_code, answer.headers, answer.content
    said = Client(app).open(path, method=method, headers=headers, data=body)
    return said.status_code, said.headers, said.get_data()


@covers(
    "F37", outcome="400 invalid_request for two methods at once; a token in the query alone is as good as none: 401"
)
@pytest.mark.parametrize("name", EVERY)
def test_a_token_in_more_than_one_place(name: str, verifier: TokenVerifier, tokens: TokenMaker) -> None:
    token = tokens.valid()
    body = f"a=1&access_token={token}".encode()
    for path, sent in (("/orders", body), (f"/orders?access_token={token}", b"a=1")):
        status, headers, _ = ask(name, verifier, path, "POST", token, sent)
        assert status == 400
        assert 'error="invalid_request"' in headers["www-authenticate"]
    for path, sent in (("/orders", body), (f"/orders?access_token={token}", b"a=1")):
        status, headers, _ = ask(name, verifier, path, "POST", None, sent)
        assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="api", scope="orders:write"')


@covers("F40", outcome="whatever is wrong with a token, status, challenge and body are the same to the byte")
@pytest.mark.parametrize("name", EVERY)
def test_one_answer_for_every_fault_of_a_token(name: str, verifier: TokenVerifier, tokens: TokenMaker) -> None:
    wrong = [tokens.of_shape(shape) for shape in TokenMaker.SHAPES]
    # A right signature under a wrong claim, and a wrong signature under right ones, among them.
    answers = {
        (status, headers["www-authenticate"], body)
        for status, headers, body in (ask(name, verifier, "/orders", token=token) for token in wrong)
    }
    assert len(wrong) > 10
    assert len(answers) == 1
    assert answers.pop()[0] == 401


def introspecting(server: DevServer, secret: str) -> TokenVerifier:
    asking = Introspection(
        client_id="api-client", client_auth=ClientSecretBasic(Secret(secret)), tokens="only", keep_active=0.0
    )
    return TokenVerifier(TrustedIssuer(server.issuer, server.config.default_audience, introspection=asking))


@covers("I06", outcome="503 and a warning in the log when the authorization server refuses this API; never 401")
@pytest.mark.parametrize("name", EVERY)
def test_introspection_refuses_us(
    name: str, server: DevServer, tokens: TokenMaker, caplog: pytest.LogCaptureFixture
) -> None:
    with introspecting(server, "not-the-secret") as verifier:
        status, headers, body = ask(name, verifier, "/orders", token=tokens.valid())
    assert status == 503
    assert "www-authenticate" not in headers
    assert int(headers["retry-after"]) >= 1
    assert b"invalid_client" not in body
    warned = [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.levelno >= logging.WARNING and record.name == "accredit.resource_server"
    ]
    assert warned == ["refused a request: 503 temporarily_unavailable (authorization_server)"]


@covers("I07", outcome="503 with Retry-After while introspection is down, also when it answers nonsense; never 401")
@pytest.mark.parametrize("name", EVERY)
def test_introspection_is_down(name: str, server: DevServer, tokens: TokenMaker) -> None:
    for trouble in (failing(server, 500, path="/introspect"), garbage(server, "html", path="/introspect")):
        with trouble, introspecting(server, "dev-secret") as verifier:
            status, headers, _ = ask(name, verifier, "/orders", token=tokens.valid())
            assert status == 503
            assert "www-authenticate" not in headers
            assert 1 <= int(headers["retry-after"]) <= 3600
    with failing(server, 503, retry_after="77", path="/introspect"), introspecting(server, "dev-secret") as verifier:
        status, headers, _ = ask(name, verifier, "/orders", token=tokens.valid())
    assert status == 503
    assert 1 <= int(headers["retry-after"]) <= 77
    with introspecting(server, "dev-secret") as verifier:
        assert ask(name, verifier, "/orders", token=tokens.valid())[0] == 200


def fetched(url: str) -> Response:
    transport = HttpTransport()
    try:
        answer = transport.send(Request("GET", url), timeout=30)
    finally:
        transport.close()
    assert isinstance(answer, Response)
    return answer


@covers("J18", outcome="metadata that names another resource than the one that was called is not used")
def test_metadata_of_another_resource(verifier: TokenVerifier) -> None:
    from accredit.resource_server.asgi import AsgiGuard

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the application was reached")

    guarded = AsgiGuard(app, verifier, resource_metadata="set below")
    with serve_asgi(guarded) as url:
        own = ResourceMetadata(resource=f"{url}/v1", authorization_servers=("https://idp.example",))
        honest = AsgiGuard(app, verifier, metadata=own)
        lying = AsgiGuard(
            app,
            verifier,
            metadata=ResourceMetadata(resource=f"{url}/v2", authorization_servers=("https://evil.example",)),
        )
        guarded.policy, guarded.metadata, guarded._metadata_path = honest.policy, honest.metadata, honest._metadata_path
        refused = httpx2.get(f"{url}/v1", trust_env=False)
        (challenge,) = parse_challenges([refused.headers["www-authenticate"]])
        where = challenge.params["resource_metadata"]
        assert where == resource_metadata_url(f"{url}/v1")
        found = parse_resource_metadata(fetched(where), url=where, resource=f"{url}/v1")
        assert found.authorization_servers == ("https://idp.example",)
        # The same place, but what is there speaks for somebody else.
        guarded.metadata = lying.metadata
        with pytest.raises(DiscoveryError, match="another resource"):
            parse_resource_metadata(fetched(where), url=where, resource=f"{url}/v1")


@covers("J19", outcome="an authorization server that an API names is asked for nothing unless it is configured")
def test_an_unknown_server_that_an_api_names(server: DevServer, tokens: TokenMaker) -> None:
    from accredit.resource_server.asgi import AsgiGuard

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the application was reached")

    with DevServer() as unknown, TokenVerifier(TrustedIssuer(unknown.issuer, "https://api.example")) as theirs:
        named = ResourceMetadata(resource="http://127.0.0.1:1", authorization_servers=(unknown.issuer,))
        registration = ClientRegistration(
            id="caller",
            issuer=server.issuer,
            client_id="api-client",
            client_auth=ClientSecretBasic(Secret("dev-secret")),
        )
        before = server.count("/token")
        with (
            serve_asgi(AsgiGuard(app, theirs, metadata=named)) as url,
            TokenManager(registration) as manager,
            httpx2.Client(auth=AccreditAuth(manager), trust_env=False) as client,
        ):
            refused = client.get(f"{url}/orders")
            document = client.get(f"{url}/.well-known/oauth-protected-resource").json()
        assert refused.status_code == 401
        assert "resource_metadata" in refused.headers["www-authenticate"]
        assert document["authorization_servers"] == [unknown.issuer]
        assert unknown.count("/token") == 0
        assert 1 <= server.count("/token") - before <= 2
        with pytest.raises(DiscoveryError, match="no authorization server"):
            ProtectedResource("http://127.0.0.1:1", (unknown.issuer,)).issuer_among({server.issuer})
