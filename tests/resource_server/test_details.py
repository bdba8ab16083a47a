"""What is particular to ASGI, Starlette and FastAPI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from fastapi import APIRouter, FastAPI, Security, WebSocket
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from accredit.core.guarding import RequiredScope
from accredit.errors import ConfigurationError, UnreachableError
from accredit.resource_server import public
from accredit.resource_server.asgi import AsgiGuard
from accredit.resource_server.fastapi import FastApiGuard
from accredit.resource_server.fastapi import verified_token as fastapi_token
from accredit.resource_server.flask import FlaskGuard
from accredit.resource_server.starlette import StarletteGuard
from accredit.resource_server.starlette import verified_token as starlette_token
from accredit.testing import TokenMaker
from accredit.verifier import TokenVerifier
from tests.resource_server.apps import asgi
from tests.resource_server.driving import CONNECT, auth, drive, socket_scope
from tests.resource_server.support import INVALID, SCOPE, Failing

# ------------------------------------------------------------------------------------------------------------- ASGI


def test_lifespan_events_pass(verifier: Any) -> None:
    with TestClient(asgi(verifier)) as client:
        assert client.get("/health").json() == {"status": "up"}


def test_a_websocket_with_a_token(verifier: Any, tokens: TokenMaker) -> None:
    client = TestClient(asgi(verifier))
    with client.websocket_connect("/me", headers=auth(tokens.valid())) as socket:
        assert socket.receive_text() == "orders-worker"


def test_a_websocket_without_one_gets_the_whole_answer_where_the_server_can_send_it(
    verifier: Any, tokens: TokenMaker
) -> None:
    client = TestClient(asgi(verifier))
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/me"):
        pass
    assert refused.value.status_code == 401
    assert refused.value.headers["www-authenticate"] == 'Bearer realm="api"'
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect("/orders", headers=auth(tokens.without_scope())),
    ):
        pass
    assert refused.value.status_code == 403


@pytest.mark.parametrize(
    ("token", "error", "code", "reason"),
    [
        (None, None, 1008, "token_required"),
        ("bad", None, 1008, "invalid_token"),
        ("bad", UnreachableError("down."), 1013, "temporarily_unavailable"),
    ],
)
def test_a_websocket_is_closed_before_it_is_open_where_the_server_cannot(
    verifier: Any, token: str | None, error: UnreachableError | None, code: int, reason: str
) -> None:
    guarded = asgi(verifier if error is None else Failing(error))
    sent = drive(guarded, socket_scope(token), CONNECT)
    assert sent == [{"type": "websocket.close", "code": code, "reason": reason}]
    assert drive(guarded, socket_scope(token, extensions=None), {"type": "websocket.disconnect"}) == []


def test_a_websocket_with_a_second_token_in_its_query(verifier: Any, tokens: TokenMaker) -> None:
    sent = drive(asgi(verifier), socket_scope(tokens.valid(), query_string=b"access_token=x"), CONNECT)
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "invalid_request"}]


def test_the_path_is_the_one_within_the_application(verifier: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    guarded = AsgiGuard(app, verifier, rules=[public("/health")])
    base = {"type": "http", "method": "GET", "headers": [], "query_string": b""}
    for path, root, status in [
        ("/api/health", "/api", 204),
        ("/health", "", 204),
        ("/health", "/api", 204),
        ("/apihealth", "/api", 401),
        ("/api", "/api", 401),
        ("/api/health", "", 401),
    ]:
        sent = drive(guarded, {**base, "path": path, "root_path": root})
        assert sent[0]["status"] == status, (path, root)


def test_what_is_outside_of_the_guard_does_not_see_the_token(verifier: Any, tokens: TokenMaker) -> None:
    scope = socket_scope(tokens.valid())
    drive(asgi(verifier), scope, CONNECT)
    assert "accredit.token" not in scope


def test_a_body_that_ends_early_reaches_the_application(verifier: Any, tokens: TokenMaker) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([await receive(), await receive(), await receive()])

    headers = [
        (b"authorization", f"Bearer {tokens.valid()}".encode()),
        (b"content-type", b"application/x-www-form-urlencoded"),
    ]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"a=1&", "more_body": True},
        {"type": "http.disconnect"},
        {"type": "http.disconnect", "again": True},
    ]
    drive(AsgiGuard(app, verifier), scope, *messages)
    assert seen == messages


# ------------------------------------------------------------------------------------------------ Starlette, FastAPI


@pytest.fixture
def starlette(verifier: Any) -> Iterator[TestClient]:
    guard = StarletteGuard(verifier)

    class Orders(HTTPEndpoint):
        @guard.requires("orders:read")
        async def get(self, request: Request) -> JSONResponse:
            return JSONResponse({"caller": starlette_token(request).client_id})

        @guard.requires(any_of=("orders:write", "orders:admin"))
        def post(self, request: Request) -> JSONResponse:
            return JSONResponse({"caller": starlette_token(request).client_id})

    @guard.requires("orders:read")
    async def socket(websocket: Any) -> None:
        await websocket.accept()
        await websocket.send_text(starlette_token(websocket).client_id)
        await websocket.close()

    async def unguarded(request: Request) -> JSONResponse:
        return JSONResponse(str(starlette_token(request)))

    routes = [Route("/orders", Orders), WebSocketRoute("/socket", socket), Route("/unguarded", unguarded)]
    with TestClient(Starlette(routes=routes)) as client:
        yield client


def test_methods_of_an_endpoint(starlette: TestClient, tokens: TokenMaker) -> None:
    assert starlette.get("/orders", headers=auth(tokens.valid())).json() == {"caller": "orders-worker"}
    assert starlette.post("/orders", headers=auth(tokens.valid())).json() == {"caller": "orders-worker"}
    refused = starlette.post("/orders", headers=auth(tokens.without_scope("orders:write")))
    assert refused.headers["www-authenticate"] == f'Bearer realm="api", {SCOPE}, scope="orders:write"'


def test_a_websocket_of_starlette(starlette: TestClient, tokens: TokenMaker) -> None:
    with starlette.websocket_connect("/socket", headers=auth(tokens.valid())) as socket:
        assert socket.receive_text() == "orders-worker"
    with pytest.raises(WebSocketDenialResponse) as refused, starlette.websocket_connect("/socket"):
        pass
    assert refused.value.headers["www-authenticate"] == 'Bearer realm="api", scope="orders:read"'


def test_a_form_that_the_framework_has_read_already(verifier: Any, tokens: TokenMaker) -> None:
    """FastAPI reads the form before its dependencies run, where the route declares one."""
    guard = StarletteGuard(verifier)

    def check(form: dict[str, str]) -> Any:
        headers = [
            (b"authorization", f"Bearer {tokens.valid()}".encode()),
            (b"content-type", b"application/x-www-form-urlencoded"),
            (b"content-length", b"30"),
        ]
        request: Any = Request({"type": "http", "method": "POST", "path": "/", "headers": headers})
        request._form = form
        return anyio.run(guard.check, request, RequiredScope())

    assert check({"item": "1"}) is None
    assert check({"access_token": "x"}).status == 400


def test_an_endpoint_without_a_request_is_not_run(verifier: Any) -> None:
    @StarletteGuard(verifier).requires()
    async def endpoint(item: int) -> None:
        raise AssertionError("it was run")

    with pytest.raises(ConfigurationError, match="without a request"):
        anyio.run(endpoint, 7)


def test_a_route_that_is_not_guarded_has_no_token(starlette: TestClient) -> None:
    with pytest.raises(ConfigurationError, match="not guarded"):
        starlette.get("/unguarded")


@pytest.fixture
def fastapi(verifier: Any) -> FastAPI:
    guard = FastApiGuard(
        verifier,
        token_url="https://idp.example/token",
        scopes={"orders:read": "Read orders", "orders:write": "Place orders"},
    )
    app = FastAPI()
    admin = APIRouter(prefix="/admin", dependencies=[guard.requires("orders:admin")])
    native = Security(guard, scopes=["orders:read"])
    alternative = guard.requires(any_of="orders:write orders:read")

    @app.get("/orders")
    async def orders(token: Any = native) -> Any:
        return {"caller": token.client_id}

    @app.get("/either")
    async def either(request: Request, token: Any = alternative) -> Any:
        return {"caller": fastapi_token(request).client_id}

    @admin.get("/all")
    async def everything(token: Any = native) -> Any:
        return {"caller": token.client_id}

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, token: Any = alternative) -> None:
        await websocket.accept()
        await websocket.send_text(token.client_id)
        await websocket.close()

    @app.get("/health")
    async def health() -> Any:
        return {"status": "up"}

    app.include_router(admin)
    return app


def test_the_openapi_page_has_the_security_scheme(fastapi: FastAPI) -> None:
    page = TestClient(fastapi).get("/openapi.json").json()
    (scheme,) = page["components"]["securitySchemes"].values()
    assert scheme["type"] == "oauth2"
    assert scheme["flows"] == {
        "clientCredentials": {
            "tokenUrl": "https://idp.example/token",
            "scopes": {"orders:read": "Read orders", "orders:write": "Place orders"},
        }
    }
    paths = page["paths"]
    assert paths["/orders"]["get"]["security"] == [{"AccessToken": ["orders:read"]}]
    assert paths["/either"]["get"]["security"] == [{"AccessToken": []}]
    assert {scope for scopes in paths["/admin/all"]["get"]["security"] for scope in scopes["AccessToken"]} == {
        "orders:admin",
        "orders:read",
    }
    assert "security" not in paths["/health"]["get"]


def test_without_a_token_url_the_scheme_is_bearer(verifier: Any) -> None:
    guard = FastApiGuard(verifier, scheme_name="Orders")
    app = FastAPI(dependencies=[guard.requires()])

    @app.get("/x")
    async def x() -> None:
        return None

    page = TestClient(app).get("/openapi.json").json()
    assert page["components"]["securitySchemes"]["Orders"]["type"] == "http"
    assert page["components"]["securitySchemes"]["Orders"]["scheme"] == "bearer"
    assert page["paths"]["/x"]["get"]["security"] == [{"Orders": []}]
    assert TestClient(app).get("/x").status_code == 401


def test_scopes_of_router_and_route_add_up(fastapi: FastAPI, tokens: TokenMaker) -> None:
    client = TestClient(fastapi)
    assert client.get("/admin/all", headers=auth(tokens.valid())).status_code == 403
    only_admin = client.get("/admin/all", headers=auth(tokens.valid(scope="orders:admin")))
    assert only_admin.headers["www-authenticate"].endswith('scope="orders:read"')
    both = client.get("/admin/all", headers=auth(tokens.valid(scope="orders:admin orders:read")))
    assert both.json() == {"caller": "orders-worker"}


def test_the_body_of_a_refusal_of_fastapi(fastapi: FastAPI, tokens: TokenMaker) -> None:
    answer = TestClient(fastapi).get("/orders", headers=auth(tokens.expired()))
    assert answer.json()["detail"]["error"] == "invalid_token"
    assert answer.headers["www-authenticate"] == f'Bearer realm="api", {INVALID}, scope="orders:read"'
    assert answer.headers["cache-control"] == "no-store"


def test_a_websocket_of_fastapi(fastapi: FastAPI, tokens: TokenMaker) -> None:
    client = TestClient(fastapi)
    with client.websocket_connect("/socket", headers=auth(tokens.valid())) as socket:
        assert socket.receive_text() == "orders-worker"
    with pytest.raises((WebSocketDenialResponse, WebSocketDisconnect)) as refused, client.websocket_connect("/socket"):
        pass
    assert getattr(refused.value, "status_code", None) == 401
    scope = socket_scope(raw_path=b"/socket", root_path="", scheme="ws", subprotocols=[])
    for token, code in ((None, 1008), ("bad", 1008)):
        headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
        sent = drive(fastapi, {**scope, "path": "/socket", "headers": headers}, CONNECT)
        assert [message["code"] for message in sent] == [code]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"verifier": None}, "verifier"),
        ({"verifier": TokenVerifier}, "verifier"),
        ({"metadata": "https://api.example"}, "metadata"),
        ({"on_refusal": 5}, "on_refusal"),
        ({"scopes": ["orders:read"], "token_url": "https://idp.example/token"}, "scopes"),
    ],
)
def test_a_slip_in_an_argument_is_told_when_the_guard_is_made(
    verifier: TokenVerifier, changes: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigurationError) as error:
        FastApiGuard(**{"verifier": verifier, **changes})
    assert error.value.key == key


def test_a_decorator_without_its_parentheses(verifier: TokenVerifier) -> None:
    def view() -> None: ...

    for guard in (FlaskGuard(verifier), StarletteGuard(verifier)):
        requires: Any = guard.requires
        with pytest.raises(ConfigurationError, match="parentheses"):
            requires(view)


@pytest.mark.parametrize("length", [b"65537", b"9999999999", b"12345678901", b"x", b"\xb2"])
def test_a_form_that_is_long_is_not_read_by_a_decorator(verifier: Any, tokens: TokenMaker, length: bytes) -> None:
    async def endpoint(_request: Request) -> JSONResponse:
        return JSONResponse({})

    app = Starlette(routes=[Route("/", StarletteGuard(verifier).requires()(endpoint), methods=["POST"])])
    headers = [
        (b"authorization", f"Bearer {tokens.valid()}".encode()),
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"content-length", length),
    ]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "query_string": b""}
    # There is nothing to receive: a guard that reads the body fails.
    assert drive(app, scope)[0]["status"] == 200
