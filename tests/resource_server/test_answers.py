"""Every guard gives the same answers to the byte, over real sockets."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx2
import pytest

from accredit import ClientRegistration, ClientSecretBasic, Secret, TokenManager
from accredit.devserver import DevServer
from accredit.errors import AccreditError, ConfigurationError, CredentialRefusedError, UnreachableError
from accredit.integrations.httpx2 import AccreditAuth
from accredit.resource_server import ResourceMetadata
from accredit.testing import TokenMaker
from tests.resource_server.apps import EVERY
from tests.resource_server.serving import raw
from tests.resource_server.support import FIELDS, INVALID, MALFORMED, SCOPE, SEVERAL, Failing

FORM = b"Content-Type: application/x-www-form-urlencoded"


def auth(token: str) -> bytes:
    return f"Authorization: Bearer {token}".encode()


def test_a_good_token(service: str, tokens: TokenMaker) -> None:
    for path in ("/orders", "/me", "/either"):
        answer = raw(service, path, auth(tokens.valid()))
        assert (answer.status, json.loads(answer.body)) == (200, {"caller": "orders-worker"})


def test_the_scheme_in_any_case(service: str, tokens: TokenMaker) -> None:
    for scheme in (b"bearer", b"BEARER", b"bEaReR"):
        assert raw(service, "/orders", b"Authorization: " + scheme + b" " + tokens.valid().encode()).status == 200


def test_no_token(service: str) -> None:
    answer = raw(service)
    assert (answer.status, answer.challenge) == (401, 'Bearer realm="api", scope="orders:read"')
    assert raw(service, "/me").challenge == 'Bearer realm="api"'
    assert raw(service, "/either").challenge == 'Bearer realm="api", scope="orders:base orders:read"'


def test_a_public_route(service: str, tokens: TokenMaker) -> None:
    for fields in ((), (auth(tokens.expired()),), (b"Authorization: Basic Og==",)):
        answer = raw(service, "/health", *fields)
        assert (answer.status, json.loads(answer.body)) == (200, {"status": "up"})


@pytest.mark.parametrize("shape", TokenMaker.SHAPES)
def test_a_bad_token(service: str, tokens: TokenMaker, shape: str) -> None:
    answer = raw(service, "/orders", auth(tokens.of_shape(shape)))
    assert (answer.status, answer.challenge) == (401, f'Bearer realm="api", {INVALID}, scope="orders:read"')
    assert answer.values("cache-control") == ["no-store"] or "cache-control" not in dict(answer.headers)


def test_without_the_scope(service: str, tokens: TokenMaker) -> None:
    answer = raw(service, "/orders", auth(tokens.without_scope("orders:read")))
    assert (answer.status, answer.challenge) == (403, f'Bearer realm="api", {SCOPE}, scope="orders:read"')
    assert raw(service, "/me", auth(tokens.without_scope())).status == 200


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ("orders:base orders:read", 200),
        ("orders:admin orders:base", 200),
        ("orders:base", 403),
        ("orders:read orders:admin", 403),
        ("", 403),
    ],
)
def test_one_of_several_scopes(service: str, tokens: TokenMaker, scope: str, status: int) -> None:
    answer = raw(service, "/either", auth(tokens.valid(scope=scope)))
    assert answer.status == status
    if status == 403:
        assert answer.challenge == f'Bearer realm="api", {SCOPE}, scope="orders:base orders:read"'


@pytest.mark.parametrize(
    "field",
    [b"Basic dXNlcjpwYXNz", b"DPoP abc", b"Bearerx y", b"Token abc"],
)
def test_another_scheme_is_no_token(service: str, field: bytes) -> None:
    answer = raw(service, "/orders", b"Authorization: " + field)
    assert (answer.status, answer.challenge) == (401, 'Bearer realm="api", scope="orders:read"')


@pytest.mark.parametrize("field", [b"Bearer", b"Bearer a b", b"Bearer a,b", b"Bearer a, Bearer b"])
def test_a_malformed_field(service: str, field: bytes) -> None:
    answer = raw(service, "/orders", b"Authorization: " + field)
    assert (answer.status, answer.challenge) == (400, f'Bearer realm="api", {MALFORMED}')


def test_two_fields(service: str, tokens: TokenMaker) -> None:
    answer = raw(service, "/orders", auth(tokens.valid()), auth(tokens.valid()))
    assert answer.status == 400
    # A gateway interface has one value for a name: the server joined the two.
    assert answer.challenge in {f'Bearer realm="api", {FIELDS}', f'Bearer realm="api", {MALFORMED}'}


def test_a_token_in_the_query_too(service: str, tokens: TokenMaker) -> None:
    for name in ("access_token", "%61ccess_token"):
        answer = raw(service, f"/orders?{name}={tokens.valid()}", auth(tokens.valid()))
        assert (answer.status, answer.challenge) == (400, f'Bearer realm="api", {SEVERAL}')


def test_a_token_in_the_query_only_is_no_token(service: str, tokens: TokenMaker) -> None:
    answer = raw(service, f"/orders?access_token={tokens.valid()}")
    assert (answer.status, answer.challenge) == (401, 'Bearer realm="api", scope="orders:read"')


def test_a_token_in_the_form_too(service: str, tokens: TokenMaker) -> None:
    body = f"item=1&access_token={tokens.valid()}".encode()
    answer = raw(service, "/orders", FORM, auth(tokens.valid()), method="POST", body=body)
    assert (answer.status, answer.challenge) == (400, f'Bearer realm="api", {SEVERAL}')


def test_a_token_in_the_form_only_is_no_token(service: str, tokens: TokenMaker) -> None:
    body = f"item=1&access_token={tokens.valid()}".encode()
    answer = raw(service, "/orders", FORM, method="POST", body=body)
    assert (answer.status, answer.challenge) == (401, 'Bearer realm="api", scope="orders:write"')


@pytest.mark.parametrize("size", [0, 100, 70_000, 300_000])
def test_a_form_reaches_the_application_whole(service: str, tokens: TokenMaker, size: int) -> None:
    body = b"item=1&more=" + b"x" * size
    answer = raw(service, "/orders", FORM, auth(tokens.valid()), method="POST", body=body)
    assert answer.status == 200
    found = json.loads(answer.body)
    assert found["length"] == len(body)
    assert found["form"]["item"] == "1"
    assert len(found["form"].get("more", "")) == size


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (UnreachableError("the keys cannot be had.", retry_after=6.5), "7"),
        (CredentialRefusedError("it does not accept us.", status=401, error_code="invalid_client"), "10"),
        (ConfigurationError("wrong.", key="issuer"), "10"),
    ],
)
def test_our_own_dependency_is_down(
    serve: Callable[..., str], name: str, tokens: TokenMaker, error: AccreditError, seconds: str
) -> None:
    url = serve(name, Failing(error))
    answer = raw(url, "/orders", auth(tokens.valid()))
    assert (answer.status, answer.challenge, answer.values("retry-after")) == (503, None, [seconds])
    assert raw(url, "/orders").status == 401  # which needs nobody else


@pytest.mark.parametrize("name", EVERY)
def test_the_metadata_document(serve: Callable[..., str], name: str, verifier: object, server: DevServer) -> None:
    metadata = ResourceMetadata(
        resource="https://api.example/v1", authorization_servers=(server.issuer,), scopes_supported=("orders:read",)
    )
    url = serve(name, verifier, metadata=metadata, realm="Orders")
    named = "https://api.example/.well-known/oauth-protected-resource/v1"
    assert raw(url).challenge == f'Bearer realm="Orders", scope="orders:read", resource_metadata="{named}"'
    answer = raw(url, "/.well-known/oauth-protected-resource/v1")
    assert (answer.status, answer.values("content-type")) == (200, ["application/json"])
    assert json.loads(answer.body) == {
        "resource": "https://api.example/v1",
        "authorization_servers": [server.issuer],
        "scopes_supported": ["orders:read"],
        "bearer_methods_supported": ["header"],
    }
    head = raw(url, "/.well-known/oauth-protected-resource/v1", method="HEAD")
    assert (head.status, head.body) == (200, b"")


def test_our_own_client(service: str, server: DevServer) -> None:
    registration = ClientRegistration(
        id="orders",
        issuer=server.issuer,
        client_id="orders-worker",
        client_auth=ClientSecretBasic(Secret("orders-secret")),
        scope="orders:read",
    )
    with TokenManager(registration) as manager, httpx2.Client(auth=AccreditAuth(manager)) as client:
        assert client.get(f"{service}/orders").json() == {"caller": "orders-worker"}
        refused = client.post(f"{service}/orders")
        assert refused.status_code == 403
        assert refused.headers["www-authenticate"] == f'Bearer realm="api", {SCOPE}, scope="orders:write"'


@pytest.mark.parametrize("name", ["asgi", "starlette", "wsgi", "flask", "django"])
def test_head_has_no_body(services: dict[str, str], name: str) -> None:
    """The others leave it to their framework."""
    answer = raw(services[name], method="HEAD")
    assert (answer.status, answer.body) == (401, b"")
    assert answer.challenge == 'Bearer realm="api", scope="orders:read"'
