"""Tokens of authorization servers that nobody here wrote, and of the one that comes along, over real HTTP."""

from __future__ import annotations

import asyncio

import pytest

from accredit import ClientRegistration, ClientSecretBasic, CredentialRefusedError, TokenManager
from accredit.devserver import DevServer
from accredit.errors import InvalidTokenError, UnreachableError
from accredit.verifier import Introspection, TokenVerifier, TrustedIssuer
from tests.servers.process import RunningServer

API = "https://api.example.com"


def token_of(server: RunningServer, **request: str) -> str:
    client = server.clients["basic"]
    registration = ClientRegistration(
        id="api-client",
        issuer=server.issuer,
        client_id=client.client_id,
        client_auth=ClientSecretBasic(client.client_secret),
        scope="api:read",
    )
    with TokenManager(registration) as tokens:
        return tokens.get(resource=request.get("resource")).value


def asking(server: RunningServer, secret: str | None = None) -> Introspection:
    client = server.clients["basic"]
    return Introspection(client_id=client.client_id, client_auth=ClientSecretBasic(secret or client.client_secret))


def refusal(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(InvalidTokenError) as caught:
        verifier.verify(token)
    return caught.value.reason


@pytest.mark.real_server
def test_jwts_of_oidc_provider(oidc_provider: RunningServer) -> None:
    resource, other = oidc_provider.resources
    token = token_of(oidc_provider, resource=resource)
    with TokenVerifier(TrustedIssuer(oidc_provider.issuer, resource)) as verifier:
        verified = verifier.verify(token)
        assert (verified.client_id, verified.scope) == (oidc_provider.clients["basic"].client_id, ("api:read",))
        assert asyncio.run(verifier.asynchronous().verify(token)) is verified
        head, body, tail = token.split(".")
        assert refusal(verifier, f"{head}.{body}.{tail[:-8]}AAAAAAAA") == "signature"
    with TokenVerifier(TrustedIssuer(oidc_provider.issuer, other)) as verifier:
        assert refusal(verifier, token) == "audience"


@pytest.mark.real_server
@pytest.mark.parametrize("name", ["oidc_provider", "authlib_server"])
def test_opaque_tokens_by_introspection(name: str, request: pytest.FixtureRequest) -> None:
    server: RunningServer = request.getfixturevalue(name)
    token = token_of(server)
    with TokenVerifier(TrustedIssuer(server.issuer, API, introspection=asking(server))) as verifier:
        verified = verifier.verify(token)
        assert (verified.client_id, verified.scope) == (server.clients["basic"].client_id, ("api:read",))
        assert verifier.verify(token) is verified
        assert refusal(verifier, token + "x") == "inactive"
    wrong = asking(server, "not-the-secret")
    with (
        TokenVerifier(TrustedIssuer(server.issuer, API, introspection=wrong)) as verifier,
        pytest.raises(CredentialRefusedError),
    ):
        verifier.verify(token)


def test_jwts_of_the_development_server_through_rotation_and_outage() -> None:
    with DevServer() as server:
        client = server.client
        registration = ClientRegistration(
            id="api-client",
            issuer=server.issuer,
            client_id=client.client_id,
            client_auth=ClientSecretBasic(client.client_secret),
        )
        audience = server.config.default_audience
        with TokenManager(registration) as tokens, TokenVerifier(TrustedIssuer(server.issuer, audience)) as verifier:
            first = tokens.get().value
            assert verifier.verify(first).client_id == client.client_id
            server.rotate_key()
            second = tokens.renew().value
            assert verifier.verify(second).client_id == client.client_id
            assert verifier.verify(first).client_id == client.client_id
            assert server.count("/jwks") == 2
            server.fail(503, path="/jwks")
            third = tokens.renew().value
            assert verifier.verify(third).client_id == client.client_id
        with TokenVerifier(TrustedIssuer(server.issuer, audience)) as verifier, pytest.raises(UnreachableError):
            verifier.verify(third)


def test_revocation_is_noticed_where_the_server_is_asked() -> None:
    with DevServer() as server:
        client = server.client
        auth = ClientSecretBasic(client.client_secret)
        registration = ClientRegistration(
            id="api-client", issuer=server.issuer, client_id=client.client_id, client_auth=auth
        )
        asks = Introspection(client_id=client.client_id, client_auth=auth, tokens="all", keep_active=0)
        trusted = TrustedIssuer(server.issuer, server.config.default_audience, introspection=asks)
        with TokenManager(registration) as tokens, TokenVerifier(trusted) as verifier:
            token = tokens.get().value
            assert verifier.verify(token).client_id == client.client_id
            server.revoke_client()
            assert refusal(verifier, token) == "inactive"
