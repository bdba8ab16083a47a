"""The main job against authorization servers that nobody here wrote."""

from __future__ import annotations

import dataclasses
import threading

import httpx2
import pytest

from accredit import (
    AuthorizationServerError,
    ClientRegistration,
    ClientSecretBasic,
    ClientSecretPost,
    CredentialRefusedError,
    DiscoveryError,
    RequestRefusedError,
    TokenManager,
)
from accredit.integrations.httpx2 import AccreditAuth
from tests.servers.fixtures import required_or_skipped, start_oidc_provider
from tests.servers.process import Client, RunningServer

pytestmark = pytest.mark.real_server


@pytest.fixture(params=["oidc_provider", "authlib_server"])
def server(request: pytest.FixtureRequest) -> RunningServer:
    found: RunningServer = request.getfixturevalue(request.param)
    return found


def registration(server: RunningServer, client: Client, **settings: object) -> ClientRegistration:
    methods = {"client_secret_basic": ClientSecretBasic, "client_secret_post": ClientSecretPost}
    made = ClientRegistration(
        id="api-client",
        issuer=server.issuer,
        client_id=client.client_id,
        client_auth=methods[client.method](client.client_secret),
        scope="api:read",
    )
    return dataclasses.replace(made, **settings)  # type: ignore[arg-type]  # each test names true fields


def manager(server: RunningServer, client: str = "basic", **settings: object) -> TokenManager:
    return TokenManager(registration(server, server.clients[client], **settings))


@pytest.mark.parametrize("client", ["basic", "post", "odd_basic", "odd_post", "unicode_basic", "unicode_post"])
def test_a_token_is_had_and_the_api_takes_it(server: RunningServer, client: str) -> None:
    if client not in server.clients:
        assert client.startswith("unicode")  # that server holds printable ASCII only, whoever asks
        return
    before = server.count(server.token_endpoint)
    with manager(server, client) as tokens, httpx2.Client(auth=AccreditAuth(tokens)) as http:
        answers = [http.get(server.api).status_code for _ in range(3)]
    assert answers == [200, 200, 200]
    assert server.count(server.token_endpoint) - before == 1


@pytest.mark.anyio
async def test_the_asynchronous_face_does_the_same(server: RunningServer) -> None:
    before = server.count(server.token_endpoint)
    with manager(server) as tokens:
        async with httpx2.AsyncClient(auth=AccreditAuth(tokens.asynchronous())) as http:
            answers = [(await http.get(server.api)).status_code for _ in range(3)]
    assert answers == [200, 200, 200]
    assert server.count(server.token_endpoint) - before == 1


@pytest.mark.parametrize("client", ["basic", "post"])
def test_a_wrong_secret_is_the_credential_refused_and_held(server: RunningServer, client: str) -> None:
    known = server.clients[client]
    wrong = known._replace(client_secret="not-the-secret-of-this-client")
    before = server.count(server.token_endpoint)
    with TokenManager(registration(server, wrong)) as tokens:
        with pytest.raises(CredentialRefusedError) as first:
            tokens.get()
        with pytest.raises(CredentialRefusedError) as second:
            tokens.get()
    assert first.value.error_code == "invalid_client"
    assert first.value.status in {400, 401}
    assert first.value.endpoint == server.token_endpoint
    assert second.value.retry_after is not None
    assert second.value.summary == first.value.summary
    assert "not-the-secret" not in str(first.value)
    assert server.count(server.token_endpoint) - before == 1


def test_an_unknown_scope_is_the_request_refused_or_the_scope_is_told(server: RunningServer) -> None:
    with manager(server, scope="api:read no-such-scope") as tokens:
        try:
            token = tokens.get()
        except RequestRefusedError as error:
            assert error.error_code == "invalid_scope"  # noqa: PT017 - which of two right answers depends on the server
        else:
            assert token.granted_scope == ("api:read",)


def test_an_unmet_scope_can_be_made_an_error(server: RunningServer) -> None:
    tokens = manager(server, scope="api:read no-such-scope", require_scope=True)
    with tokens, pytest.raises(RequestRefusedError) as refused:
        tokens.get()
    assert refused.value.error_code in {"invalid_scope", "insufficient_scope"}


def test_a_scope_the_client_may_not_have_is_refused(server: RunningServer) -> None:
    with manager(server, scope="api:admin") as tokens, pytest.raises(RequestRefusedError) as refused:
        tokens.get()
    assert refused.value.error_code == "invalid_scope"


def test_an_issuer_with_a_slash_too_many_is_told_the_fix(server: RunningServer) -> None:
    with manager(server, issuer=server.issuer + "/") as tokens, pytest.raises(AuthorizationServerError) as failed:
        tokens.get()
    assert isinstance(failed.value, DiscoveryError)
    assert f'"{server.issuer}"' in str(failed.value)


def test_an_explicit_token_endpoint_needs_no_discovery(server: RunningServer) -> None:
    before = server.counts()
    with manager(server, issuer=None, token_endpoint=server.token_endpoint) as tokens:
        assert tokens.get().value
    after = server.counts()
    asked = {path for path, count in after.items() if count != before.get(path, 0)}
    assert asked == {httpx2.URL(server.token_endpoint).path}


def test_sixty_four_threads_cost_one_token_request(server: RunningServer) -> None:
    before = server.count(server.token_endpoint)
    start = threading.Barrier(64)
    seen: list[str] = []

    def ask() -> None:
        start.wait()
        seen.append(tokens.get().value)

    with manager(server) as tokens:
        threads = [threading.Thread(target=ask) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seen) == 64
    assert len(set(seen)) == 1
    assert server.count(server.token_endpoint) - before == 1


def test_a_revoked_token_is_replaced_and_the_call_answered(server: RunningServer) -> None:
    if server.revocation_endpoint is None:
        pytest.fail("this server is expected to revoke")
    client = server.clients["basic"]
    before = server.count(server.token_endpoint)
    with manager(server) as tokens, httpx2.Client(auth=AccreditAuth(tokens)) as http:
        assert http.get(server.api).status_code == 200
        revoked = httpx2.post(
            server.revocation_endpoint,
            data={"token": tokens.get().value},
            auth=(client.client_id, client.client_secret),
        )
        assert revoked.status_code == 200
        assert http.get(server.api).status_code == 200
    assert server.count(server.token_endpoint) - before == 2


def test_a_server_with_the_openid_connect_document_only_is_discovered() -> None:
    with required_or_skipped(start_oidc_provider(path="/op")) as server, manager(server) as tokens:
        assert tokens.get().value
        paths = server.counts()
    assert paths["/op/.well-known/openid-configuration"] == 1
