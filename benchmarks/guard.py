"""What a guard adds to a request: the same application bare and guarded, without a server around it."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.measure import Timed, interleaved, minus, over, repeated, scaled
from benchmarks.model import Effort, Row, Section

_ISSUER, _AUDIENCE = "https://idp.example", "https://api.example"
_SERVED = "ASGI application behind uvicorn"
_START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
_BODY = {"type": "http.response.body", "body": b"{}"}
_EMPTY = {"type": "http.request", "body": b"", "more_body": False}
#: As many fields as a service that calls another usually sends.
_FIELDS = [
    (b"host", b"api.example"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"user-agent", b"benchmark/1"),
]


def run(effort: Effort) -> list[Section]:
    token, verifier = _issued()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/orders",
        "raw_path": b"/orders",
        "root_path": "",
        "query_string": b"",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "headers": [*_FIELDS, (b"authorization", b"Bearer " + token.encode())],
    }
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/orders",
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "HTTP_AUTHORIZATION": f"Bearer {token}",
    }
    pairs = _asgi_pairs(verifier)
    subjects: dict[str, Timed] = {}
    for name, (bare, guarded) in pairs.items():
        _check(guarded, scope)
        subjects[f"{name}, bare"] = _asked(bare, scope)
        subjects[f"{name}, guarded"] = _asked(guarded, scope)
    bare, guarded = _wsgi_pair(verifier)
    subjects["WSGI application, bare"] = repeated(lambda: bare(dict(environ), _ignore))
    subjects["WSGI application, guarded"] = repeated(lambda: guarded(dict(environ), _ignore))
    samples = interleaved(subjects, rounds=effort.of(40, 8), number=effort.of(4_000, 500))
    with _served(*pairs["ASGI application"]) as (bare_url, guarded_url):
        asked = {
            f"{_SERVED}, bare": _called(bare_url, token),
            f"{_SERVED}, guarded": _called(guarded_url, token),
        }
        samples |= interleaved(asked, rounds=effort.of(40, 8), number=effort.of(400, 100))
    section = Section(
        "guard",
        "A guarded request",
        "CPU time of one request with a token that was verified before: the application alone, and behind the guard,"
        " which checks the header, the cached verdict and one scope. The bare ASGI and WSGI applications do nothing but"
        " answer, and all but the last are called in memory, without a server: their ratios are the worst there are."
        " The last is the same ASGI application behind uvicorn, called over a kept connection; client and server are"
        " counted together.",
        {"one request": "µs", "to bare": "ratio", "added": "µs"},
    )
    for name in (*pairs, "WSGI application", _SERVED):
        bare_samples, guarded_samples = samples[f"{name}, bare"], samples[f"{name}, guarded"]
        section.rows.append(Row(f"{name}, bare", {"one request": scaled(bare_samples, 1e6)}))
        section.rows.append(
            Row(
                f"{name}, guarded",
                {
                    "one request": scaled(guarded_samples, 1e6),
                    "to bare": scaled(over(guarded_samples, bare_samples), 1),
                    "added": scaled(minus(guarded_samples, bare_samples), 1e6),
                },
            )
        )
    verifier.close()
    return [section]


@contextmanager
def _served(*apps: Any) -> Iterator[list[tuple[str, int]]]:
    """Serve applications with uvicorn, each in a thread; give host and port of each."""
    import uvicorn

    servers = []
    places = []
    for app in apps:
        sock = socket.create_server(("127.0.0.1", 0))
        settings: Any = {"log_config": None, "log_level": "critical", "ws": "none", "http": "h11", "lifespan": "off"}
        server = uvicorn.Server(uvicorn.Config(app, **settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        servers.append((server, thread))
        places.append(sock.getsockname()[:2])
    try:
        yield places
    finally:
        for server, thread in servers:
            server.should_exit = True
            thread.join(30)


def _called(place: tuple[str, int], token: str) -> Timed:
    connection = http.client.HTTPConnection(*place, timeout=60)
    headers = {"Authorization": f"Bearer {token}"}

    def call() -> None:
        connection.request("GET", "/orders", headers=headers)
        response = connection.getresponse()
        response.read()
        assert response.status == 200

    return repeated(call)


def _issued() -> tuple[str, Any]:
    from accredit.core.jose import sign_jws
    from accredit.devserver.keys import new_signing_key
    from accredit.verifier import TokenVerifier, TrustedIssuer

    key, now = new_signing_key(), int(time.time())
    claims = {
        "iss": _ISSUER,
        "aud": _AUDIENCE,
        "sub": "client:orders-worker",
        "client_id": "orders-worker",
        "jti": "1",
        "iat": now,
        "exp": now + 36_000,
        "scope": "orders:read orders:write",
    }
    token = sign_jws(json.dumps(claims).encode(), key, header={"typ": "at+jwt"})
    verifier = TokenVerifier(TrustedIssuer(_ISSUER, _AUDIENCE, jwks={"keys": [dict(key.public_jwk)]}))
    verifier.verify(token)
    return token, verifier


def _asgi_pairs(verifier: Any) -> dict[str, tuple[Any, Any]]:
    from accredit.resource_server import rule
    from accredit.resource_server.asgi import AsgiGuard

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(_START)
        await send(_BODY)

    rules = [rule("/orders", "orders:read", methods="GET"), rule("/orders/*", "orders:write")]
    pairs: dict[str, tuple[Any, Any]] = {
        "ASGI application": (app, AsgiGuard(app, verifier, scope="orders:read")),
        "ASGI application, rules by path": (app, AsgiGuard(app, verifier, rules=rules)),
    }
    return pairs | _starlette_pair(verifier) | _fastapi_pair(verifier)


def _starlette_pair(verifier: Any) -> dict[str, tuple[Any, Any]]:
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from accredit.resource_server.starlette import StarletteGuard

    async def orders(_request: Any) -> JSONResponse:
        return JSONResponse({})

    guarded = StarletteGuard(verifier).requires("orders:read")(orders)
    return {"Starlette": (Starlette(routes=[Route("/orders", orders)]), Starlette(routes=[Route("/orders", guarded)]))}


def _fastapi_pair(verifier: Any) -> dict[str, tuple[Any, Any]]:
    from fastapi import FastAPI

    from accredit.resource_server.fastapi import FastApiGuard

    bare, guarded = FastAPI(), FastAPI()
    needed = FastApiGuard(verifier).requires("orders:read")

    @bare.get("/orders")
    async def orders() -> dict[str, str]:
        return {}

    @guarded.get("/orders")
    async def guarded_orders(token: Any = needed) -> dict[str, str]:
        assert token.client_id
        return {}

    return {"FastAPI": (bare, guarded)}


def _wsgi_pair(verifier: Any) -> tuple[Any, Any]:
    from accredit.resource_server.wsgi import WsgiGuard

    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        return [b"{}"]

    return app, WsgiGuard(app, verifier, scope="orders:read")


def _ignore(*_: object) -> None:
    return None


async def _receive() -> dict[str, Any]:
    return dict(_EMPTY)


async def _send(_message: Any) -> None:
    return None


def _check(app: Callable[..., Awaitable[None]], scope: dict[str, Any]) -> None:
    """See that the guarded application answers, so that no refusal is measured."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def once() -> None:
        await app(dict(scope), _receive, send)

    asyncio.run(once())
    assert sent[0]["status"] == 200, sent


def _asked(app: Callable[..., Awaitable[None]], scope: dict[str, Any]) -> Timed:
    async def laps(number: int) -> float:
        rounds = [None] * number
        start = time.process_time_ns()
        for _ in rounds:
            # A server makes one for each request, and frameworks write into it.
            await app(dict(scope), _receive, _send)
        return (time.process_time_ns() - start) / number / 1e9

    return lambda number: asyncio.run(laps(number))
