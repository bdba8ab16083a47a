"""Requests that come as a stream: when a refused call is sent again, and what happens to what was taken."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest
from anyio.from_thread import BlockingPortal
from grpc import aio

from accredit import TokenManager
from accredit.devserver import DevServer
from accredit.integrations.grpc import AccreditAuth
from tests.rpc.conftest import AGED, Client
from tests.rpc.service import (
    EXPECTED,
    PATIENCE,
    AioClient,
    BlockingClient,
    Door,
    Running,
    blocking_server,
    handlers,
    path,
    root_credentials,
)
from tests.runtime.support import JumpClock
from tests.support.certificates import Authority, Leaf

STREAMS = pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])


@STREAMS
def test_what_can_be_iterated_again_is_sent_again(client: Client, door: Door, server: DevServer,
                                                  manager: TokenManager, kind: str) -> None:  # fmt: skip
    stale = manager.get().value
    door.refuse_token(stale)
    assert client.call(kind, [b"a", b"b"]) == EXPECTED[kind]
    assert door.tokens == [stale, manager.get().value]
    assert server.count("/token") == 2


@STREAMS
def test_a_generator_that_gave_something_is_not(client: Client, door: Door, server: DevServer, manager: TokenManager,
                                                kind: str) -> None:  # fmt: skip
    stale = manager.get().value
    door.refuse_token(stale)
    with pytest.raises(grpc.RpcError) as caught:
        client.call(kind)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert door.tokens == [stale]
    # The next call has a newer token.
    assert client.call(kind) == EXPECTED[kind]
    assert door.tokens == [stale, manager.get().value]
    assert server.count("/token") == 2


@pytest.fixture
def refused_at_once(door: Door, manager: TokenManager) -> str:
    """Refuse the token that there is, before any request was sent; return it."""
    stale = manager.get().value
    door.listens = False
    door.refuse_token(stale)
    return stale


@STREAMS
def test_a_generator_that_gave_nothing_yet_is(refused_at_once: str, make_client: Callable[..., Client], door: Door,
                                              manager: TokenManager, auth: AccreditAuth, kind: str,
                                              library: str) -> None:  # fmt: skip
    client = make_client(auth)
    go_on = threading.Event()
    if isinstance(client, BlockingClient):

        def requests() -> Iterator[bytes]:
            assert go_on.wait(PATIENCE)
            yield from [b"a", b"b"]

        given: Any = requests()
    else:

        async def later() -> AsyncIterator[bytes]:
            assert await asyncio.to_thread(go_on.wait, PATIENCE)
            for request in [b"a", b"b"]:
                yield request

        given = later()
    # Both attempts arrive before there is anything to send.
    waiter = threading.Thread(target=lambda: (door.wait_for(2), go_on.set()))
    waiter.start()
    assert client.call(kind, given) == EXPECTED[kind]
    waiter.join(PATIENCE)
    assert door.tokens == [refused_at_once, manager.get().value]


@STREAMS
def test_a_generator_that_fails_ends_the_call(refused_at_once: str, client: Client, door: Door, kind: str) -> None:
    """Also when it does so between two attempts: the call must not end well with fewer requests."""
    go_on = threading.Event()

    class TroubleError(Exception):
        pass

    def requests() -> Iterator[bytes]:
        assert go_on.wait(PATIENCE)
        raise TroubleError
        yield b""

    async def later() -> AsyncIterator[bytes]:
        assert await asyncio.to_thread(go_on.wait, PATIENCE)
        raise TroubleError
        yield b""

    waiter = threading.Thread(target=lambda: (door.wait_for(2), go_on.set()))
    waiter.start()
    if isinstance(client, BlockingClient):
        with pytest.raises(grpc.RpcError) as caught:
            client.call(kind, requests())
        assert caught.value.code() is grpc.StatusCode.UNKNOWN
    else:
        # grpc.aio cancels a call whose requests fail.
        with pytest.raises((asyncio.CancelledError, concurrent.futures.CancelledError, grpc.RpcError)):
            client.call(kind, later())
    waiter.join(PATIENCE)


@STREAMS
def test_writing_on_a_call_that_was_healed(refused_at_once: str, portal: BlockingPortal, service: Running, door: Door,
                                           authority: Authority, auth: AccreditAuth, manager: TokenManager,
                                           kind: str) -> None:  # fmt: skip
    async def scenario() -> Any:
        async with auth.aio_secure_channel(service.target, root_credentials(authority.pem)) as channel:
            call = getattr(channel, kind)(path(kind))(timeout=PATIENCE)
            await asyncio.to_thread(door.wait_for, 2)
            await call.write(b"a")
            await call.write(b"b")
            await call.done_writing()
            if kind == "stream_unary":
                return await call
            responses = []
            while (response := await call.read()) is not aio.EOF:
                responses.append(response)
            assert await call.code() is grpc.StatusCode.OK
            return responses

    assert portal.call(scenario) == EXPECTED[kind]
    assert door.tokens == [refused_at_once, manager.get().value]


def test_a_conversation(client: Client, door: Door) -> None:
    """Requests that wait for responses: nothing holds back a stream of both kinds."""
    if isinstance(client, BlockingClient):
        turn = threading.Semaphore(1)

        def talk() -> Iterator[bytes]:
            for word in (b"a", b"b"):
                assert turn.acquire(timeout=PATIENCE)
                yield word

        heard = []
        for response in client.stub("stream_stream")(talk(), timeout=PATIENCE):
            heard.append(response)
            turn.release()
        assert heard == EXPECTED["stream_stream"]
        return

    async def scenario(client: AioClient) -> list[bytes]:
        call = client.channel.stream_stream(path("stream_stream"))(timeout=PATIENCE)
        heard = []
        for word in (b"a", b"b"):
            await call.write(word)
            heard.append(await call.read())
        await call.done_writing()
        assert await call.read() is aio.EOF
        return heard

    assert client.portal.call(scenario, client) == EXPECTED["stream_stream"]


@STREAMS
@pytest.mark.parametrize("ending", ["healed", "refused"])
def test_a_server_that_does_not_wait_for_requests(
    client: Client, door: Door, server: DevServer, manager: TokenManager, clock: JumpClock, kind: str, ending: str
) -> None:
    """grpc.aio by itself says INTERNAL in about a third of these (grpc/grpc#36066), whatever the server said."""
    door.listens = False
    for number in range(15):
        clock.shift += AGED  # no second of patience
        code = grpc.StatusCode.UNAUTHENTICATED if ending == "healed" else grpc.StatusCode.PERMISSION_DENIED
        door.refuse_token(manager.get().value, code=code)
        if ending == "healed":
            assert client.call(kind, [b"a", b"b"]) == EXPECTED[kind]
            assert server.count("/token") == number + 2
        else:
            with pytest.raises(grpc.RpcError) as caught:
                client.call(kind, [b"a", b"b"])
            assert (caught.value.code(), caught.value.details()) == (code, "not with that token")
            assert dict(caught.value.trailing_metadata())  # type: ignore[arg-type]  # pairs
    assert door.count == (30 if ending == "healed" else 15)


# -- after the first response --------------------------------------------------------------------------------------


@pytest.fixture
def fickle(leaf: Leaf, door: Door) -> Iterator[Running]:
    """Give a service that ends its streams with UNAUTHENTICATED after one response."""

    def one_and_out(request: Any, context: Any) -> Iterator[bytes]:
        yield b"one"
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "in mid-stream")

    behaviors = {
        "unary_unary": lambda request, context: request,
        "unary_stream": one_and_out,
        "stream_unary": lambda requests, context: b"",
        "stream_stream": one_and_out,
    }
    with blocking_server(handlers(behaviors), interceptors=[door], leaf=leaf) as running:
        yield running


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
@pytest.mark.parametrize("reads_late", [False, True])
def test_nothing_is_repeated_after_a_response(
    make_client: Callable[..., Client],
    fickle: Running,
    auth: AccreditAuth,
    door: Door,
    server: DevServer,
    kind: str,
    reads_late: bool,
) -> None:
    client = make_client(auth, fickle.target)
    given = b"a" if kind == "unary_stream" else [b"a"]
    heard: list[bytes] = []
    if isinstance(client, BlockingClient):
        call = client.stub(kind)(given, timeout=PATIENCE)
        if reads_late:
            door.wait_for(1)
        with pytest.raises(grpc.RpcError) as caught:
            heard.extend(call)
    else:

        async def scenario(client: AioClient) -> None:
            call = getattr(client.channel, kind)(path(kind))(given, timeout=PATIENCE)
            if reads_late:
                await asyncio.to_thread(door.wait_for, 1)
            async for response in call:
                heard.append(response)  # noqa: PERF401 - what was heard before the error counts

        with pytest.raises(grpc.RpcError) as caught:
            client.portal.call(scenario, client)
    assert caught.value.details() == "in mid-stream"
    assert heard == [b"one"]
    assert (door.count, server.count("/token")) == (1, 1)
