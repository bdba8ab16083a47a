"""Our clients against our guards, over TLS, with an authorization server that counts: every kind of everything."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from anyio.from_thread import BlockingPortal

from accredit import TokenManager
from accredit.devserver import DevServer
from accredit.instrumentation import TokenRefused
from accredit.integrations.grpc import AccreditAuth
from accredit.resource_server.grpc import current_token
from tests.rpc.conftest import Client
from tests.rpc.guarded import ANSWERS, SERVERS, guarded_server, verifier_of
from tests.rpc.service import KINDS, PATIENCE, AioClient, BlockingClient, Running, close_aio, path, root_credentials
from tests.runtime.support import Events, JumpClock
from tests.support.certificates import Authority, Leaf


@pytest.fixture(params=SERVERS)
def flavour(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def service(flavour: str, server: DevServer, portal: BlockingPortal, leaf: Leaf, clock: JumpClock) -> Iterator[Running]:
    with verifier_of(server, clock=clock) as verifier, guarded_server(flavour, verifier, portal, leaf=leaf) as running:
        yield running


@pytest.fixture
def manager(make_manager: Callable[..., TokenManager], clock: JumpClock) -> TokenManager:
    made = make_manager(scope="orders:read orders:write")
    made.get()
    clock.shift += 6.0
    return made


kinds = pytest.mark.parametrize("kind", KINDS)
#: Requests that can be sent again.
AGAIN: dict[str, Any] = {"stream_unary": [b"a", b"b"], "stream_stream": [b"a", b"b"]}


@kinds
def test_ok(client: Client, server: DevServer, kind: str) -> None:
    assert client.call(kind) == ANSWERS[kind]
    assert server.count("/token") == 1


@kinds
def test_revoked(client: Client, server: DevServer, events: Events, kind: str) -> None:
    server.revoke_client()
    assert client.call(kind, AGAIN.get(kind)) == ANSWERS[kind]
    assert client.call(kind, AGAIN.get(kind)) == ANSWERS[kind]
    assert server.count("/token") == 2
    assert [event.outcome for event in events.of(TokenRefused)] == ["renewing"]


@kinds
def test_expired(client: Client, server: DevServer, manager: TokenManager, clock: JumpClock, kind: str) -> None:
    """A token whose life is over is not sent: there is one call, and one renewal."""
    token = manager.get()
    clock.expire(token)
    assert client.call(kind) == ANSWERS[kind]
    assert server.count("/token") == 2


@kinds
def test_wrong_scope(make_client: Callable[..., Client], auth: AccreditAuth, server: DevServer, kind: str) -> None:
    scope = "orders:read" if kind == "stream_unary" else "orders:write"
    client = make_client(auth.using(scope=scope))
    with pytest.raises(grpc.RpcError) as caught:
        client.call(kind, None if kind.startswith("unary") else iter(()))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    # A newer token would not help, and none is asked for.
    assert server.count("/token") == 2


@kinds
def test_no_token(library: str, service: Running, authority: Authority, portal: BlockingPortal, kind: str) -> None:
    with ExitStack() as stack:
        root = root_credentials(authority.pem)
        client: Client
        if library == "grpc":
            client = BlockingClient(stack.enter_context(grpc.secure_channel(service.target, root)))
        else:

            async def open_channel() -> Any:
                return grpc.aio.secure_channel(service.target, root)

            channel = portal.call(open_channel)
            close_aio(stack, portal, channel)
            client = AioClient(channel, portal)
        with pytest.raises(grpc.RpcError) as caught:
            client.call(kind, b"a" if kind.startswith("unary") else iter(()))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_dependency_of_the_service_is_down(client: Client, server: DevServer) -> None:
    server.fail(503, path="/introspect")
    with pytest.raises(grpc.RpcError) as caught:
        client.call("unary_unary")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    # It says nothing about the token: nothing is renewed.
    assert server.count("/token") == 1


def test_a_token_that_expires_in_mid_stream(client: Client, server: DevServer, manager: TokenManager,
                                            clock: JumpClock) -> None:  # fmt: skip
    """A token is checked when the call begins: the stream goes on, and the next call has another token."""
    token = manager.get()

    def expire() -> None:
        server.advance_clock(token.lifetime)
        clock.expire(token)
        clock.wall_shift += token.lifetime

    if isinstance(client, BlockingClient):
        turn = threading.Semaphore(1)

        def talk() -> Iterator[bytes]:
            for word in (b"a", b"b"):
                assert turn.acquire(timeout=PATIENCE)
                yield word

        heard: list[bytes] = []
        for response in client.stub("stream_stream")(talk(), timeout=PATIENCE):
            if not heard:
                expire()
            heard.append(response)
            turn.release()
    else:

        async def scenario(client: AioClient) -> list[bytes]:
            call = client.channel.stream_stream(path("stream_stream"))(timeout=PATIENCE)
            await call.write(b"a")
            heard = [await call.read()]
            await asyncio.to_thread(expire)
            await call.write(b"b")
            heard.append(await call.read())
            await call.done_writing()
            assert await call.code() is grpc.StatusCode.OK
            return heard

        heard = client.portal.call(scenario, client)
    assert heard == ANSWERS["stream_stream"]
    assert server.count("/token") == 1
    assert client.call("unary_unary") == b"api-client"
    assert server.count("/token") == 2


def test_a_handler_may_end_what_outlives_its_token(
    portal: BlockingPortal, server: DevServer, authority: Authority, leaf: Leaf, auth: AccreditAuth,
    manager: TokenManager,
) -> None:  # fmt: skip
    """Who wants another policy has all it takes."""

    async def chat(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            if current_token().expires_at < float(request):
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token has expired")
            yield request

    async def nothing(request: Any, context: Any) -> bytes:
        return b""

    async def none(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield b""

    behaviors = {"unary_unary": nothing, "unary_stream": none, "stream_unary": nothing, "stream_stream": chat}
    with (
        verifier_of(server) as verifier,
        guarded_server("grpc.aio", verifier, portal, leaf=leaf, behaviors=behaviors) as running,
        auth.secure_channel(running.target, root_credentials(authority.pem)) as channel,
    ):
        ends = manager.get().expires_at
        before, after = b"%d" % (ends - 60), b"%d" % (ends + 60)
        heard: list[bytes] = []
        with pytest.raises(grpc.RpcError, match="the token has expired"):
            heard.extend(BlockingClient(channel).stub("stream_stream")(iter([before, after]), timeout=PATIENCE))
    assert heard == [before]
    assert server.count("/token") == 1
