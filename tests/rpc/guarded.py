"""A guarded gRPC service in each kind of server, whose handlers say whose token they were called with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from anyio.from_thread import BlockingPortal

from accredit import ClientSecretBasic, Secret
from accredit.devserver import DevServer
from accredit.resource_server import rule
from accredit.resource_server.grpc import HEALTH, REFLECTION, AioGrpcGuard, GrpcGuard, current_token
from accredit.verifier import Introspection, TokenVerifier, TrustedIssuer
from tests.rpc.service import Running, aio_server, blocking_server, handlers
from tests.runtime.support import SECRET
from tests.support.certificates import Leaf

#: The kinds of server; the last one runs blocking handlers on an asyncio server, in threads.
SERVERS = ("grpc", "grpc.aio", "grpc.aio with threads")
RULES = (HEALTH, REFLECTION, rule("/shop.Orders/*", "orders:read"), rule("/shop.Orders/Send", "orders:write"))


def who() -> bytes:
    return str(current_token().client_id).encode()


def get(request: bytes, context: Any) -> bytes:
    return who()


def listing(request: bytes, context: Any) -> Iterator[bytes]:
    for _ in range(2):
        yield who()


def send(requests: Iterable[bytes], context: Any) -> bytes:
    return b"%s %d" % (who(), len(list(requests)))


def chat(requests: Iterable[bytes], context: Any) -> Iterator[bytes]:
    for request in requests:
        yield who() + b" " + request


async def aio_get(request: bytes, context: Any) -> bytes:
    return who()


async def aio_listing(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for _ in range(2):
        yield who()


async def aio_send(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return b"%s %d" % (who(), len([request async for request in requests]))


async def aio_chat(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield who() + b" " + request


BLOCKING = {"unary_unary": get, "unary_stream": listing, "stream_unary": send, "stream_stream": chat}
ASYNC = {"unary_unary": aio_get, "unary_stream": aio_listing, "stream_unary": aio_send, "stream_stream": aio_chat}
#: What each kind of call gives for the requests of the clients of these tests.
ANSWERS: dict[str, Any] = {
    "unary_unary": b"api-client",
    "unary_stream": [b"api-client"] * 2,
    "stream_unary": b"api-client 2",
    "stream_stream": [b"api-client a", b"api-client b"],
}


def verifier_of(server: DevServer, **settings: Any) -> TokenVerifier:
    """Return a verifier that notices at once when a token was revoked."""
    introspection = Introspection(
        client_id="api-client", client_auth=ClientSecretBasic(Secret(SECRET)), tokens="all", keep_active=0
    )
    trusted = TrustedIssuer(server.issuer, audience=server.config.default_audience, introspection=introspection)
    return TokenVerifier(trusted, **settings)


def guarded_server(
    kind: str,
    verifier: Any,
    portal: BlockingPortal,
    *,
    leaf: Leaf | None = None,
    behaviors: dict[str, Any] | None = None,
    extra: Callable[[Any], object] | None = None,
    **settings: Any,
) -> AbstractContextManager[Running]:
    settings.setdefault("rules", RULES)
    if kind == "grpc":
        guard = GrpcGuard(verifier, **settings)
        return blocking_server(handlers(behaviors or BLOCKING), interceptors=[guard], leaf=leaf, extra=extra)
    behaviors = behaviors or (ASYNC if kind == "grpc.aio" else BLOCKING)
    return aio_server(
        portal,
        handlers(behaviors),
        interceptors=lambda: [AioGrpcGuard(verifier, **settings)],
        leaf=leaf,
        extra=extra,
    )
