"""What is particular to Flask, Django and its REST framework, and what all guards have in common."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import Any

import anyio
import pytest
from flask import Blueprint, Flask

from accredit.core.guarding import RequiredScope
from accredit.errors import ConfigurationError
from accredit.resource_server import AsyncVerifier, Guard, ResourceMetadata, Verifier, rule
from accredit.resource_server.django import DjangoGuard
from accredit.resource_server.fastapi import FastApiGuard
from accredit.resource_server.flask import FlaskGuard
from accredit.resource_server.flask import verified_token as flask_token
from accredit.resource_server.starlette import StarletteGuard
from accredit.resource_server.wsgi import WsgiGuard, _Again
from accredit.testing import TokenMaker
from tests.resource_server.apps import ready, rest_framework
from tests.resource_server.driving import auth
from tests.resource_server.support import INVALID, SCOPE

# ---------------------------------------------------------------------------------------------------- Flask, Django


def test_a_blueprint_is_guarded_whole(verifier: Any, tokens: TokenMaker) -> None:
    guard = FlaskGuard(verifier, metadata=ResourceMetadata(resource="https://api.example"))
    app, admin = Flask("guarded"), Blueprint("admin", "admin", url_prefix="/admin")

    @admin.get("/all")
    @guard.requires("orders:read")
    def everything() -> dict[str, str]:
        return {"caller": flask_token().client_id}

    @app.get("/unguarded")
    def unguarded() -> str:
        return str(flask_token())

    guard.protect(admin, any_of=("orders:admin", "orders:write"))
    app.register_blueprint(admin)
    client = app.test_client()
    assert client.get("/admin/all").status_code == 401
    assert client.get("/admin/all", headers=auth(tokens.valid())).json == {"caller": "orders-worker"}
    refused = client.get("/admin/all", headers=auth(tokens.without_scope("orders:write")))
    assert refused.status_code == 403
    assert refused.headers["WWW-Authenticate"].startswith(f'Bearer realm="api", {SCOPE}, scope="orders:admin"')
    app.testing = True
    with pytest.raises(ConfigurationError, match="not guarded"):
        client.get("/unguarded")


def test_an_application_is_guarded_whole_but_for_its_metadata(verifier: Any, tokens: TokenMaker) -> None:
    guard = FlaskGuard(verifier, metadata=ResourceMetadata(resource="https://api.example"))
    app = Flask("guarded")
    guard.init_app(app)
    guard.protect(app)
    client = app.test_client()
    assert client.get("/.well-known/oauth-protected-resource").status_code == 200
    assert client.get("/nowhere").status_code == 401
    assert client.get("/nowhere", headers=auth(tokens.valid())).status_code == 404


@pytest.mark.parametrize(("body", "status"), [("item=1", 200), ("item=1&access_token=x", 400)])
def test_a_form_that_was_read_before_the_guard(verifier: Any, tokens: TokenMaker, body: str, status: int) -> None:
    app = Flask("guarded")

    @app.before_request
    def read_it() -> None:
        from flask import request

        request.form.to_dict()

    app.add_url_rule("/", view_func=FlaskGuard(verifier).requires()(lambda: "in"), methods=["POST"])
    kind = "application/x-www-form-urlencoded"
    answer = app.test_client().post("/", data=body, content_type=kind, headers=auth(tokens.valid()))
    assert answer.status_code == status

    ready()
    from django.http import HttpResponse
    from django.test import RequestFactory

    view: Any = DjangoGuard(verifier).requires()(lambda request: HttpResponse("in"))
    for read in ("POST", "read"):
        request = RequestFactory().post("/", body, content_type=kind, HTTP_AUTHORIZATION=f"Bearer {tokens.valid()}")
        _ = request.POST if read == "POST" else request.read(3)
        # Of a body that was read in pieces nothing is left to look at, nor to fail on.
        assert view(request).status_code == (status if read == "POST" else 200)


def test_an_unsafe_method_needs_no_csrf_token(verifier: Any, tokens: TokenMaker) -> None:
    ready()
    from django.test import RequestFactory

    guard = DjangoGuard(verifier)

    @guard.requires()
    def view(request: Any) -> Any:
        from django.http import HttpResponse

        return HttpResponse("done")

    assert view.csrf_exempt  # type: ignore[attr-defined]  # what Django looks for
    request = RequestFactory().post("/", HTTP_AUTHORIZATION=f"Bearer {tokens.valid()}")
    assert view(request).content == b"done"


# --------------------------------------------------------------------------------------- Django REST Framework


def test_scopes_by_method(verifier: Any, tokens: TokenMaker) -> None:
    ready()
    from rest_framework.response import Response
    from rest_framework.test import APIRequestFactory
    from rest_framework.views import APIView

    from accredit.resource_server.rest_framework import requires_by_method, token_authentication

    class Orders(APIView):  # type: ignore[misc]  # the framework is untyped
        authentication_classes = (token_authentication(Guard(verifier)),)
        permission_classes = (requires_by_method({"GET": "orders:read", "POST": "orders:write"}),)

        def get(self, request: Any) -> Any:
            user = request.user
            assert (user.is_authenticated, user.is_anonymous, user.is_active) == (True, False, True)
            return Response({"user": str(user), "pk": user.pk, "name": user.get_username(), "repr": repr(user)})

        post = put = get

    view, factory = Orders.as_view(), APIRequestFactory()

    def answer(method: str, scope: str) -> Any:
        token = tokens.valid(scope=scope)
        return view(getattr(factory, method)("/", HTTP_AUTHORIZATION=f"Bearer {token}"))

    assert answer("get", "orders:read").data == {
        "user": "orders-worker",
        "pk": "client:orders-worker",
        "name": "orders-worker",
        "repr": "<Caller 'orders-worker'>",
    }
    assert answer("post", "orders:write").status_code == 200
    refused = answer("post", "orders:read")
    assert refused.status_code == 403
    assert refused.headers["WWW-Authenticate"] == f'Bearer realm="api", {SCOPE}, scope="orders:write"'
    assert answer("put", "orders:read").headers["WWW-Authenticate"].endswith('scope="orders:read orders:write"')
    assert answer("put", "orders:read orders:write").status_code == 200
    with pytest.raises(ConfigurationError):
        requires_by_method({"get": "orders:read"})


def test_an_authentication_class_without_a_guard(tokens: TokenMaker) -> None:
    ready()
    from rest_framework.test import APIRequestFactory

    from accredit.resource_server.rest_framework import TokenAuthentication

    request = APIRequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {tokens.valid()}")
    with pytest.raises(ConfigurationError, match="has no guard"):
        TokenAuthentication().authenticate(request)


def test_another_authentication_does_not_pass_for_a_token(verifier: Any) -> None:
    ready()
    from rest_framework.authentication import BaseAuthentication
    from rest_framework.permissions import AllowAny
    from rest_framework.response import Response
    from rest_framework.test import APIRequestFactory
    from rest_framework.views import APIView

    from accredit.resource_server.rest_framework import requires, token_authentication

    class Cookie(BaseAuthentication):  # type: ignore[misc]  # the framework is untyped
        def authenticate(self, request: Any) -> Any:
            return ("somebody", None)

    class View(APIView):  # type: ignore[misc]
        authentication_classes = (token_authentication(Guard(verifier)), Cookie)
        permission_classes: Any = (AllowAny, requires("orders:read"), requires("orders:write"))

        def get(self, request: Any) -> Any:
            return Response("in")

    answer = View.as_view()(APIRequestFactory().get("/"))
    assert answer.status_code == 403
    bad = View.as_view()(APIRequestFactory().get("/", HTTP_AUTHORIZATION="Bearer bad"))
    assert bad.headers["WWW-Authenticate"] == f'Bearer realm="api", {INVALID}, scope="orders:read orders:write"'
    assert rest_framework is not None


# ------------------------------------------------------------------------------------------------------------- all


def test_what_a_guard_is_made_of(verifier: Any) -> None:
    for wrong in (object(), None, 7):
        with pytest.raises(ConfigurationError) as error:
            Guard(wrong)  # type: ignore[arg-type]
        assert error.value.key == "verifier"
    with pytest.raises(ConfigurationError) as error:
        Guard(verifier, metadata=ResourceMetadata(resource="https://api.example"), resource_metadata="https://x")
    assert error.value.key == "resource_metadata"
    assert repr(Guard(verifier, realm="Orders")) == "<Guard of the realm 'Orders'>"
    assert isinstance(verifier.asynchronous(), AsyncVerifier)
    assert isinstance(verifier, Verifier)


def test_either_face_of_a_verifier_will_do(verifier: Any, tokens: TokenMaker) -> None:
    for face in (verifier, verifier.asynchronous()):
        guard: Any = Guard(face)
        fields = [f"Bearer {tokens.valid()}"]
        assert guard.admit(fields, RequiredScope()).client_id == "orders-worker"
        assert anyio.run(guard.admit_async, fields, RequiredScope()).client_id == "orders-worker"


def test_a_verifier_of_the_wrong_kind_is_refused_and_not_run(tokens: TokenMaker) -> None:
    class Blocking:
        def verify(self, token: str) -> Any:
            raise AssertionError("it was asked")

    class Waiting:
        async def verify(self, token: str) -> Any:
            raise AssertionError("it was asked")

    with pytest.raises(ConfigurationError, match="asynchronous code"):
        anyio.run(Guard(Blocking()).admit_async, ["Bearer a"], RequiredScope())
    with pytest.raises(ConfigurationError, match="synchronous code"):
        Guard(Waiting()).admit(["Bearer a"], RequiredScope())


def _init(guard: Any) -> Any:
    return lambda: guard.init_app(Flask("guarded"))


@pytest.mark.parametrize("kind", [StarletteGuard, FastApiGuard, FlaskGuard, DjangoGuard])
def test_there_is_no_document_without_metadata(kind: Any, verifier: Any) -> None:
    guard = kind(verifier)
    serve: Any = _init(guard)
    if kind is not FlaskGuard:
        serve = guard.metadata_url if kind is DjangoGuard else guard.metadata_route
    with pytest.raises(ConfigurationError) as error:
        serve()
    assert error.value.key == "metadata"


@pytest.mark.parametrize("kind", [StarletteGuard, FastApiGuard, FlaskGuard, DjangoGuard])
def test_a_scope_that_is_none(kind: Any, verifier: Any) -> None:
    with pytest.raises(ConfigurationError):
        kind(verifier).requires('"')


def test_default_scope_of_a_whole_application(verifier: Any, tokens: TokenMaker) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["accredit.token"].client_id.encode()]

    guarded: Any = WsgiGuard(app, verifier, scope="orders:read", rules=[rule("/free")])

    def call(path: str, token: str | None) -> tuple[str, bytes]:
        said: list[str] = []
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "SCRIPT_NAME": "", "QUERY_STRING": ""}
        if token is not None:
            environ["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        body = b"".join(guarded(environ, lambda status, headers: said.append(status)))
        return said[0][:3], body

    assert call("/any", tokens.valid()) == ("200", b"orders-worker")
    assert call("/any", tokens.without_scope("orders:read"))[0] == "403"
    assert call("/free", tokens.without_scope("orders:read"))[0] == "200"
    assert call("", None)[0] == "401"
    assert json.loads(call("/any", None)[1])["error"] == "token_required"


def test_what_was_read_of_a_body_is_given_back_and_no_more_than_was_announced() -> None:
    again = io.BufferedReader(_Again(b"begin", io.BytesIO(b"ning and more"), 4))
    assert again.read() == b"beginning"
    endless = io.BufferedReader(_Again(b"a\nb", io.BytesIO(b"c\nd"), None))
    assert list(endless) == [b"a\n", b"bc\n", b"d"]


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("starlette", "starlette", "starlette"),
        ("fastapi", "fastapi", "fastapi"),
        ("flask", "flask", "flask"),
        ("django", "django", "django"),
        ("rest_framework", "rest_framework", "djangorestframework"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(module: str, package: str, extra: str) -> None:
    code = f"import sys\nsys.modules[{package!r}] = None\nimport accredit.resource_server.{module}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ.copy()
    )
    assert f"install accredit[{extra}]" in done.stderr.replace("\n", " ")
    assert "ImportError" in done.stderr


def test_the_guards_load_no_framework_but_their_own() -> None:
    code = (
        "import sys, accredit.resource_server, accredit.resource_server.asgi, accredit.resource_server.wsgi\n"
        "heavy = {'starlette', 'fastapi', 'flask', 'django', 'rest_framework', 'cryptography'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
