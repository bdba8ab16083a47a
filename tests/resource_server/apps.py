"""The same small API, guarded in every way there is.

``GET /orders`` needs ``orders:read``, ``POST /orders`` ``orders:write`` and echoes its form, ``GET /either`` one of
``orders:read`` and ``orders:admin`` beside ``orders:base``, ``GET /me`` any valid token, ``GET /health`` none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http import HttpRequest, JsonResponse
from django.urls import path
from fastapi import FastAPI
from flask import Flask, request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from accredit.resource_server import Guard, public, rule
from accredit.resource_server.asgi import AsgiGuard
from accredit.resource_server.django import DjangoGuard
from accredit.resource_server.django import verified_token as django_token
from accredit.resource_server.fastapi import FastApiGuard
from accredit.resource_server.flask import FlaskGuard
from accredit.resource_server.flask import verified_token as flask_token
from accredit.resource_server.starlette import StarletteGuard
from accredit.resource_server.starlette import verified_token as starlette_token
from accredit.resource_server.wsgi import WsgiGuard

RULES = (
    public("/health"),
    rule("/orders", "orders:read", methods="GET"),
    rule("/orders", "orders:write", methods="POST"),
    rule("/either", "orders:base", any_of=("orders:read", "orders:admin")),
)
EITHER: dict[str, Any] = {"scope": "orders:base", "any_of": ("orders:read", "orders:admin")}


def shown(token: Any, **more: object) -> dict[str, object]:
    return {"caller": token.client_id, **more}


# ------------------------------------------------------------------------------------------------------------- ASGI


def asgi(verifier: Any, **options: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": scope["accredit.token"].client_id})
            await send({"type": "websocket.close"})
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        answer = {"status": "up"}
        if scope["path"] != "/health":
            answer = shown(scope["accredit.token"])  # type: ignore[assignment]  # JSON all the same
        if scope["method"] == "POST":
            answer["form"] = dict(parse_qsl(body.decode()))  # type: ignore[assignment]
            answer["length"] = len(body)  # type: ignore[assignment]
        raw = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": raw})

    return AsgiGuard(app, verifier, rules=RULES, **options)


def starlette(verifier: Any, **options: Any) -> Any:
    guard = StarletteGuard(verifier, **options)

    @guard.requires("orders:read")
    async def orders(request: Request) -> JSONResponse:
        return JSONResponse(shown(starlette_token(request)))

    @guard.requires("orders:write")
    async def order(request: Request) -> JSONResponse:
        body = await request.body()
        form = dict(parse_qsl(body.decode()))
        return JSONResponse(shown(starlette_token(request), form=form, length=len(body)))

    @guard.requires(**EITHER)
    def either(request: Request) -> JSONResponse:
        return JSONResponse(shown(starlette_token(request)))

    @guard.requires()
    def me(request: Request) -> JSONResponse:
        return JSONResponse(shown(starlette_token(request)))

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "up"})

    routes = [
        Route("/orders", orders),
        Route("/orders", order, methods=["POST"]),
        Route("/either", either),
        Route("/me", me),
        Route("/health", health),
    ]
    if guard.metadata is not None:
        routes.append(guard.metadata_route())
    return Starlette(routes=routes)


def fastapi(verifier: Any, **options: Any) -> Any:
    guard = FastApiGuard(verifier, **options)
    reads, writes, alternative, anybody = (
        guard.requires("orders:read"),
        guard.requires("orders:write"),
        guard.requires(**EITHER),
        guard.requires(),
    )
    app = FastAPI(routes=[] if guard.metadata is None else [guard.metadata_route()])

    @app.get("/orders")
    async def orders(token: Any = reads) -> dict[str, object]:
        return shown(token)

    @app.post("/orders")
    async def order(request: Request, token: Any = writes) -> dict[str, object]:
        body = await request.body()
        return shown(token, form=dict(parse_qsl(body.decode())), length=len(body))

    @app.get("/either")
    def either(token: Any = alternative) -> dict[str, object]:
        return shown(token)

    @app.get("/me")
    def me(token: Any = anybody) -> dict[str, object]:
        return shown(token)

    @app.get("/health")
    def health() -> dict[str, object]:
        return {"status": "up"}

    return app


# ------------------------------------------------------------------------------------------------------------- WSGI


def wsgi(verifier: Any, **options: Any) -> Any:
    def app(environ: Any, start_response: Callable[..., Any]) -> list[bytes]:
        answer: dict[str, object] = {"status": "up"}
        if environ["PATH_INFO"] != "/health":
            answer = shown(environ["accredit.token"])
        if environ["REQUEST_METHOD"] == "POST":
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            answer |= {"form": dict(parse_qsl(body.decode())), "length": len(body)}
        raw = json.dumps(answer).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(raw)))])
        return [raw]

    return WsgiGuard(app, verifier, rules=RULES, **options)


def flask(verifier: Any, **options: Any) -> Any:
    guard = FlaskGuard(verifier, **options)
    app = Flask("guarded")
    if guard.metadata is not None:
        guard.init_app(app)

    @app.get("/orders")
    @guard.requires("orders:read")
    def orders() -> dict[str, object]:
        return shown(flask_token())

    @app.post("/orders")
    @guard.requires("orders:write")
    def order() -> dict[str, object]:
        return shown(flask_token(), form=request.form.to_dict(), length=request.content_length)

    @app.get("/either")
    @guard.requires(**EITHER)
    def either() -> dict[str, object]:
        return shown(flask_token())

    @app.get("/me")
    @guard.requires()
    def me() -> dict[str, object]:
        return shown(flask_token())

    @app.get("/health")
    def health() -> dict[str, object]:
        return {"status": "up"}

    return app


class _Site(WSGIHandler):  # type: ignore[misc]  # Django is untyped
    """A Django application with URL patterns of its own: the settings of a process are made once."""

    def __init__(self, patterns: tuple[Any, ...]) -> None:
        ready()
        super().__init__()
        self._patterns = patterns

    def request_class(self, environ: Any) -> Any:
        request = WSGIRequest(environ)
        request.urlconf = self._patterns
        return request


def ready() -> None:
    """Configure Django, once for the process."""
    if not settings.configured:
        import django

        settings.configure(
            ALLOWED_HOSTS=["*"],
            SECRET_KEY="not-a-secret",
            MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
            ROOT_URLCONF=(),
            REST_FRAMEWORK={"UNAUTHENTICATED_USER": None},
            LOGGING_CONFIG=None,
        )
        django.setup()


def django(verifier: Any, **options: Any) -> Any:
    guard = DjangoGuard(verifier, **options)

    @guard.requires("orders:read")
    def read(request: HttpRequest) -> JsonResponse:
        return JsonResponse(shown(django_token(request)))

    @guard.requires("orders:write")
    def write(request: HttpRequest) -> JsonResponse:
        body = request.body
        return JsonResponse(shown(django_token(request), form=request.POST.dict(), length=len(body)))

    def orders(request: HttpRequest) -> JsonResponse:
        return write(request) if request.method == "POST" else read(request)

    orders.csrf_exempt = True  # type: ignore[attr-defined]  # it only chooses between two that are

    @guard.requires(**EITHER)
    async def either(request: HttpRequest) -> JsonResponse:
        return JsonResponse(shown(django_token(request)))

    @guard.requires()
    def me(request: HttpRequest) -> JsonResponse:
        return JsonResponse(shown(django_token(request)))

    patterns = [
        path("orders", orders),
        path("either", either),
        path("me", me),
        path("health", lambda request: JsonResponse({"status": "up"})),
    ]
    if guard.metadata is not None:
        patterns.append(guard.metadata_url())
    return _Site(tuple(patterns))


def rest_framework(verifier: Any, **options: Any) -> Any:
    ready()
    from rest_framework.response import Response
    from rest_framework.views import APIView

    from accredit.resource_server.rest_framework import requires, token_authentication

    guard = Guard(verifier, **options)
    authentication = (token_authentication(guard),)

    class Read(APIView):  # type: ignore[misc]  # the framework is untyped
        authentication_classes = authentication
        permission_classes = (requires("orders:read"),)

        def get(self, request: Any) -> Any:
            return Response(shown(request.auth))

    class Write(APIView):  # type: ignore[misc]
        authentication_classes = authentication
        permission_classes = (requires("orders:write"),)

        def post(self, request: Any) -> Any:
            return Response(shown(request.auth, form=request.data.dict(), length=int(request.META["CONTENT_LENGTH"])))

    class Either(APIView):  # type: ignore[misc]
        authentication_classes = authentication
        permission_classes = (requires(**EITHER),)

        def get(self, request: Any) -> Any:
            return Response(shown(request.auth))

    class Me(APIView):  # type: ignore[misc]
        authentication_classes = authentication
        permission_classes = (requires(),)

        def get(self, request: Any) -> Any:
            return Response(shown(request.auth))

    class Health(APIView):  # type: ignore[misc]
        authentication_classes = ()
        permission_classes = ()

        def get(self, request: Any) -> Any:
            return Response({"status": "up"})

    read, write = Read.as_view(), Write.as_view()

    def orders(request: HttpRequest) -> Any:
        return write(request) if request.method == "POST" else read(request)

    orders.csrf_exempt = True  # type: ignore[attr-defined]
    patterns = [
        path("orders", orders),
        path("either", Either.as_view()),
        path("me", Me.as_view()),
        path("health", Health.as_view()),
    ]
    if guard.metadata is not None:
        patterns.append(DjangoGuard(verifier, **options).metadata_url())
    return _Site(tuple(patterns))


ASGI: dict[str, Callable[..., Any]] = {"asgi": asgi, "starlette": starlette, "fastapi": fastapi}
WSGI: dict[str, Callable[..., Any]] = {
    "wsgi": wsgi,
    "flask": flask,
    "django": django,
    "rest_framework": rest_framework,
}
EVERY = {**ASGI, **WSGI}
