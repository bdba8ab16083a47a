"""A real gRPC service without generated code, in threads or on a loop, over TLS or not; and a client of each kind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from anyio.from_thread import BlockingPortal
from grpc import aio

from tests.support.certificates import Leaf

SERVICE = "shop.Orders"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
METHODS = {"unary_unary": "Get", "unary_stream": "List", "stream_unary": "Send", "stream_stream": "Chat"}
PATIENCE = 30.0
#: What a server says of a token that it does not take.
CHALLENGE = 'Bearer realm="api", error="invalid_token"'


def path(kind: str) -> str:
    return f"/{SERVICE}/{METHODS[kind]}"


# -- what the service does -------------------------------------------------------------------------------------------


def get(request: bytes, context: Any) -> bytes:
    return b"got " + request


def listing(request: bytes, context: Any) -> Iterator[bytes]:
    for number in range(3):
        yield b"%s %d" % (request, number)


def send(requests: Iterable[bytes], context: Any) -> bytes:
    return b",".join(requests)


def chat(requests: Iterable[bytes], context: Any) -> Iterator[bytes]:
    for request in requests:
        yield b"re " + request


async def aio_get(request: bytes, context: Any) -> bytes:
    return get(request, context)


async def aio_listing(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for response in listing(request, context):
        yield response


async def aio_send(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return b",".join([request async for request in requests])


async def aio_chat(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield b"re " + request


BLOCKING = {"unary_unary": get, "unary_stream": listing, "stream_unary": send, "stream_stream": chat}
ASYNC = {"unary_unary": aio_get, "unary_stream": aio_listing, "stream_unary": aio_send, "stream_stream": aio_chat}
MAKE = {
    "unary_unary": grpc.unary_unary_rpc_method_handler,
    "unary_stream": grpc.unary_stream_rpc_method_handler,
    "stream_unary": grpc.stream_unary_rpc_method_handler,
    "stream_stream": grpc.stream_stream_rpc_method_handler,
}
#: What each kind of call gives for the requests ``b"a"``, or ``b"a", b"b"``.
EXPECTED: dict[str, Any] = {
    "unary_unary": b"got a",
    "unary_stream": [b"a 0", b"a 1", b"a 2"],
    "stream_unary": b"a,b",
    "stream_stream": [b"re a", b"re b"],
}


def handlers(behaviors: dict[str, Any] = BLOCKING) -> grpc.GenericRpcHandler:
    methods: dict[str, Any] = {METHODS[kind]: MAKE[kind](behaviors[kind]) for kind in KINDS}
    return grpc.method_handlers_generic_handler(SERVICE, methods)


# -- who is let in -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """A call as it arrived."""

    method: str
    metadata: tuple[tuple[str, str | bytes], ...]

    @property
    def authorizations(self) -> list[str]:
        return [str(value) for key, value in self.metadata if key == "authorization"]

    @property
    def token(self) -> str | None:
        values = self.authorizations
        return values[0].removeprefix("Bearer ") if values else None


@dataclass
class Door(grpc.ServerInterceptor):
    """Lets calls in as a test tells it to, and remembers them."""

    refuse: Callable[[Seen], tuple[grpc.StatusCode, tuple[tuple[str, str], ...]] | None] = lambda seen: None
    seen: list[Seen] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    #: Whether a refusal waits for all requests. grpc.aio says INTERNAL when a call ends while it writes.
    listens: bool = True
    #: Nobody is refused before that many calls have arrived.
    gathers: int = 0

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        seen = Seen(details.method, tuple((key, value) for key, value in details.invocation_metadata))
        with self.changed:
            self.seen.append(seen)
            self.changed.notify_all()
        refusal = self.refuse(seen)
        if refusal is None:
            return continuation(details)
        code, trailing = refusal

        def abort(requests: Any, context: Any) -> Any:
            if self.listens:
                list(requests)
            self.wait_for(self.gathers)
            context.set_trailing_metadata(trailing)
            context.abort(code, "not with that token")

        return grpc.stream_stream_rpc_method_handler(abort)

    @property
    def count(self) -> int:
        return len(self.seen)

    @property
    def tokens(self) -> list[str | None]:
        return [seen.token for seen in self.seen]

    def wait_for(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.count >= number, PATIENCE), f"{self.count} calls, not {number}"

    def refuse_token(
        self, *tokens: str, code: Any = grpc.StatusCode.UNAUTHENTICATED, challenge: str = CHALLENGE
    ) -> None:
        trailing = (("www-authenticate", challenge),) if challenge else ()
        self.refuse = lambda seen: (code, trailing) if seen.token in tokens else None

    def refuse_all(self, challenge: str = CHALLENGE) -> None:
        trailing = (("www-authenticate", challenge),) if challenge else ()
        self.refuse = lambda seen: (grpc.StatusCode.UNAUTHENTICATED, trailing)


# -- servers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    port: int
    target: str


@contextmanager
def blocking_server(
    *generic: grpc.GenericRpcHandler,
    interceptors: Sequence[Any] = (),
    leaf: Leaf | None = None,
    workers: int = 8,
    options: Sequence[tuple[str, Any]] = (),
    extra: Callable[[Any], object] | None = None,
) -> Iterator[Running]:
    pool = ThreadPoolExecutor(workers)
    server = grpc.server(pool, interceptors=list(interceptors), options=list(options))
    server.add_generic_rpc_handlers(generic or (handlers(),))
    if extra is not None:
        extra(server)
    port = _bind(server, leaf)
    server.start()
    try:
        yield Running(port, f"localhost:{port}")
    finally:
        server.stop(0).wait(PATIENCE)
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def aio_server(
    portal: BlockingPortal,
    *generic: grpc.GenericRpcHandler,
    interceptors: Callable[[], Sequence[Any]] = list,
    leaf: Leaf | None = None,
    extra: Callable[[Any], object] | None = None,
) -> Iterator[Running]:
    async def start() -> tuple[Any, int]:
        server = aio.server(interceptors=interceptors())
        server.add_generic_rpc_handlers(generic or (handlers(ASYNC),))
        if extra is not None:
            extra(server)
        port = _bind(server, leaf)
        await server.start()
        return server, port

    server, port = portal.call(start)
    try:
        yield Running(port, f"localhost:{port}")
    finally:
        portal.call(server.stop, 0)


def _bind(server: Any, leaf: Leaf | None) -> int:
    if leaf is None:
        port: int = server.add_insecure_port("127.0.0.1:0")
    else:
        credentials = grpc.ssl_server_credentials([(leaf.private_key, leaf.certificate)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
    return port


# -- clients -----------------------------------------------------------------------------------------------------------


class BlockingClient:
    """Calls each kind of method on a channel of ``grpc``."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def stub(self, kind: str, method: str | None = None) -> Any:
        make = getattr(self.channel, kind)
        return make(method or path(kind))

    def call(self, kind: str, requests: Any = None, method: str | None = None, **how: Any) -> Any:
        how.setdefault("timeout", PATIENCE)
        given = _requests(kind) if requests is None else requests
        answer = self.stub(kind, method)(given, **how)
        return list(answer) if kind.endswith("stream") else answer

    def future(self, kind: str, **how: Any) -> Any:
        how.setdefault("timeout", PATIENCE)
        return self.stub(kind).future(_requests(kind), **how)


class AioClient:
    """The same on a channel of ``grpc.aio``, driven from the thread of the test."""

    def __init__(self, channel: Any, portal: BlockingPortal) -> None:
        self.channel = channel
        self.portal = portal

    def call(self, kind: str, requests: Any = None, method: str | None = None, **how: Any) -> Any:
        return self.portal.call(lambda: self.run(kind, requests, method, **how))

    async def run(self, kind: str, requests: Any = None, method: str | None = None, **how: Any) -> Any:
        how.setdefault("timeout", PATIENCE)
        given = _requests(kind) if requests is None else requests
        stub = getattr(self.channel, kind)(method or path(kind))
        call = stub(given, **how)
        return [response async for response in call] if kind.endswith("stream") else await call


def _requests(kind: str) -> Any:
    return b"a" if kind.startswith("unary") else iter([b"a", b"b"])


def root_credentials(pem: bytes) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(pem)


def close_aio(stack: ExitStack, portal: BlockingPortal, channel: Any) -> None:
    stack.callback(lambda: portal.call(channel.close))


async def turns(number: int = 5) -> None:
    """Let other tasks run."""
    for _ in range(number):
        await asyncio.sleep(0)
