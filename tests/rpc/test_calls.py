"""The objects that callers get: futures, streams and calls look like gRPC's own, also across two attempts."""

from __future__ import annotations

import asyncio
import functools
import gc
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from anyio.from_thread import BlockingPortal
from grpc import aio

from accredit import ConfigurationError, TokenManager, UnreachableError
from accredit.devserver import DevServer
from accredit.integrations import _grpc_sync
from accredit.integrations._grpc_outcome import deadline_exceeded, locally_cancelled
from accredit.integrations.grpc import AccreditAuth, NoTokenError
from tests.rpc.service import (
    BLOCKING,
    EXPECTED,
    PATIENCE,
    BlockingClient,
    Door,
    Running,
    blocking_server,
    handlers,
    path,
    root_credentials,
)
from tests.runtime.support import eventually, eventually_async, waiting
from tests.support.certificates import Authority, Leaf


@pytest.fixture
def blocking(service: Running, authority: Authority, auth: AccreditAuth) -> Iterator[BlockingClient]:
    with auth.secure_channel(service.target, root_credentials(authority.pem)) as channel:
        yield BlockingClient(channel)


@pytest.fixture
def in_loop(
    portal: BlockingPortal, service: Running, authority: Authority, auth: AccreditAuth
) -> Callable[[Callable[[Any], Any]], Any]:
    """Run an asynchronous function with an open channel."""

    def run(function: Callable[[Any], Any]) -> Any:
        async def scenario() -> Any:
            async with auth.aio_secure_channel(service.target, root_credentials(authority.pem)) as channel:
                return await function(channel)

        return portal.call(scenario)

    return run


@pytest.fixture
def stale(door: Door, manager: TokenManager) -> str:
    """Refuse the token that there is; return it."""
    value = manager.get().value
    door.refuse_token(value)
    return value


# -- grpc ----------------------------------------------------------------------------------------------------------


def test_a_future(blocking: BlockingClient, door: Door, stale: str, server: DevServer) -> None:
    server.hold()  # or it may be over before it is asked for a callback
    future = blocking.future("unary_unary")
    told: list[Any] = []
    called = threading.Event()
    future.add_done_callback(told.append)
    assert future.add_callback(called.set)
    server.release()
    assert future.result(PATIENCE) == EXPECTED["unary_unary"]
    assert called.wait(PATIENCE)
    assert told == [future]
    assert (future.code(), future.details(), future.exception(), future.traceback()) == (
        grpc.StatusCode.OK,
        "",
        None,
        None,
    )
    assert (future.done(), future.running(), future.cancelled(), future.is_active()) == (True, False, False, False)
    assert not future.cancel()
    assert not future.add_callback(called.set)
    future.add_done_callback(told.append)
    assert told == [future, future]
    assert 0 < future.time_remaining() <= PATIENCE
    assert len(door.seen) == 2


def test_a_future_that_nobody_asks_is_healed_all_the_same(blocking: BlockingClient, door: Door, stale: str) -> None:
    """Nothing waits: what is to be done is done where the news comes in."""
    done = threading.Event()
    blocking.stub("unary_unary").future(b"a", timeout=PATIENCE).add_done_callback(lambda future: done.set())
    gc.collect()
    assert done.wait(PATIENCE)
    assert door.count == 2


def test_a_future_that_is_dropped_is_cancelled(blocking: BlockingClient, door: Door, stale: str,
                                               server: DevServer, manager: TokenManager) -> None:  # fmt: skip
    server.hold()
    future = blocking.future("unary_unary")
    server.wait_for_waiting(1)
    del future
    gc.collect()
    server.release()
    assert manager.get().value != stale
    assert door.count == 1


class Ended(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Hands the first call on once it has ended: a service may be that quick."""

    first = True

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        call = continuation(client_call_details, request)
        if self.first:
            self.first = False
            ended = threading.Event()
            assert not call.add_callback(ended.set) or ended.wait(PATIENCE)
        return call

    intercept_unary_stream = intercept_unary_unary


@pytest.fixture
def quick(service: Running, authority: Authority, auth: AccreditAuth) -> Iterator[BlockingClient]:
    """Give a client whose first attempt has ended by the time the library looks."""
    with grpc.secure_channel(service.target, root_credentials(authority.pem)) as channel:
        yield BlockingClient(grpc.intercept_channel(channel, auth.interceptor(f"https://{service.target}"), Ended()))


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
def test_what_ends_at_once_keeps_nobody_waiting(quick: BlockingClient, door: Door, stale: str, server: DevServer,
                                                kind: str) -> None:  # fmt: skip
    server.hold()
    call = quick.future(kind) if kind == "unary_unary" else quick.stub(kind)(b"a", timeout=PATIENCE)
    server.wait_for_waiting(1)
    assert call.running()
    server.release()
    assert (call.result(PATIENCE) if kind == "unary_unary" else list(call)) == EXPECTED[kind]
    assert door.count == 2


def test_what_ends_at_once_and_well(quick: BlockingClient, door: Door) -> None:
    future = quick.future("unary_unary")
    assert future.done()
    assert (future.result(), future.code()) == (b"got a", grpc.StatusCode.OK)
    told: list[Any] = []
    future.add_done_callback(told.append)
    assert told == [future]
    assert door.count == 1


def test_a_blocking_call_is_sent_again_on_the_thread_of_its_caller(service: Running, authority: Authority,
                                                                   auth: AccreditAuth, stale: str) -> None:  # fmt: skip
    threads: list[int] = []

    class Notes(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            threads.append(threading.get_ident())
            return continuation(client_call_details, request)

    with grpc.secure_channel(service.target, root_credentials(authority.pem)) as channel:
        noting = grpc.intercept_channel(channel, auth.interceptor(f"https://{service.target}"), Notes())
        assert BlockingClient(noting).call("unary_unary") == b"got a"
    assert threads == [threading.get_ident()] * 2


def test_a_future_that_is_asked_for_a_callback_between_two_attempts_and_dropped(
    blocking: BlockingClient, door: Door, stale: str, server: DevServer
) -> None:
    server.hold()
    future = blocking.future("unary_unary")
    server.wait_for_waiting(1)
    between = functools.partial(getattr, future, "_between")
    eventually(between)
    del between
    done = threading.Event()
    assert future.add_callback(done.set)
    del future
    gc.collect()
    server.release()
    assert done.wait(PATIENCE)
    assert door.count == 2


def test_a_future_that_is_asked_for_a_callback_while_the_news_of_its_end_is_on_its_way(
    blocking: BlockingClient, door: Door, stale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived, go_on, done = threading.Event(), threading.Event(), threading.Event()
    weakly = _grpc_sync._weakly

    def late(method: Any, owner: Any) -> Any:
        call = weakly(method, owner)

        def arrive(*arguments: Any) -> None:
            # The first news alone is held up: what follows from it may come on the thread of this test.
            if not arrived.is_set():
                arrived.set()
                assert go_on.wait(PATIENCE)
            call(*arguments)

        return arrive

    monkeypatch.setattr(_grpc_sync, "_weakly", late)
    future = blocking.future("unary_unary")
    assert arrived.wait(PATIENCE)
    future.add_done_callback(lambda future: done.set())
    del future
    gc.collect()
    go_on.set()
    assert done.wait(PATIENCE)
    assert door.count == 2


def test_cancelling_a_call_that_was_refused_already(blocking: BlockingClient, door: Door, stale: str,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    arrived, go_on = threading.Event(), threading.Event()
    judge = _grpc_sync._Attempts.is_worth_another

    def slowly(attempts: Any, call: Any) -> bool:
        worth = judge(attempts, call)
        arrived.set()
        assert go_on.wait(PATIENCE)
        return worth

    monkeypatch.setattr(_grpc_sync._Attempts, "is_worth_another", slowly)
    future = blocking.future("unary_unary")
    assert arrived.wait(PATIENCE)
    assert not future.cancel()
    go_on.set()
    assert future.exception(PATIENCE).code() is grpc.StatusCode.UNAUTHENTICATED
    assert door.count == 1


def test_a_future_whose_refusal_stays(blocking: BlockingClient, door: Door) -> None:
    door.refuse_all()
    future = blocking.future("unary_unary")
    error = future.exception(PATIENCE)
    assert isinstance(error, grpc.RpcError)
    assert future.code() is grpc.StatusCode.UNAUTHENTICATED
    assert dict(future.trailing_metadata())["www-authenticate"].startswith("Bearer")
    assert future.traceback() is not None
    assert "UNAUTHENTICATED" in future.debug_error_string() or future.debug_error_string()
    with pytest.raises(grpc.RpcError):
        future.result()
    assert door.count == 2


def test_a_stream_that_is_asked_before_it_is_read(blocking: BlockingClient, door: Door, stale: str) -> None:
    call = blocking.stub("unary_stream")(b"a", timeout=PATIENCE)
    assert call.initial_metadata() is not None
    assert list(call) == EXPECTED["unary_stream"]
    assert call.code() is grpc.StatusCode.OK
    assert call.trailing_metadata() == ()
    with pytest.raises(StopIteration):
        call.next()
    assert door.count == 2


def test_a_stream_whose_status_is_asked_for_first(blocking: BlockingClient, door: Door) -> None:
    door.refuse_all()
    call = blocking.stub("unary_stream")(b"a", timeout=PATIENCE)
    assert call.code() is grpc.StatusCode.UNAUTHENTICATED
    assert call.details() == "not with that token"
    with pytest.raises(grpc.RpcError):
        next(call)
    assert door.count == 2


def test_cancelling_between_two_attempts(blocking: BlockingClient, door: Door, stale: str, server: DevServer) -> None:
    server.hold()
    door.gathers = 2  # or the stream may begin when the token is suspect, and wait for another one before it is sent
    future = blocking.future("unary_unary")
    stream = blocking.stub("unary_stream")(b"a", timeout=PATIENCE)
    heard: list[Any] = []

    def read() -> None:
        try:
            heard.extend(stream)
        except grpc.RpcError as error:
            heard.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    door.wait_for(2)
    server.wait_for_waiting(1)
    eventually(lambda: future._between and stream._between)
    assert future.cancel()
    assert stream.cancel()
    reader.join(PATIENCE)
    assert (future.cancelled(), stream.cancelled()) == (True, True)
    with pytest.raises(grpc.FutureCancelledError):
        future.result(PATIENCE)
    assert [error.code() for error in heard] == [grpc.StatusCode.CANCELLED]
    server.release()
    assert blocking.call("unary_unary") == b"got a"
    assert door.count == 3


def test_cancelling_a_call_in_the_air(blocking: BlockingClient, door: Door, service: Running) -> None:
    go_on = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"a"
        go_on.wait(PATIENCE)

    call = blocking.stub("stream_stream")(requests(), timeout=PATIENCE)
    assert next(call) == b"re a"
    assert call.is_active()
    assert call.running()
    assert call.cancel()
    assert call.code() is grpc.StatusCode.CANCELLED
    assert call.cancelled()
    go_on.set()


def test_a_result_that_takes_too_long(blocking: BlockingClient, stale: str, server: DevServer) -> None:
    server.hold()
    future = blocking.future("unary_unary")
    with pytest.raises(grpc.FutureTimeoutError):
        future.result(0.01)
    server.release()
    assert future.result(PATIENCE) == b"got a"


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
def test_the_deadline_of_a_call_that_waits_for_its_first_token(
    make_manager: Callable[..., TokenManager], server: DevServer, service: Running, authority: Authority, door: Door,
    kind: str,
) -> None:  # fmt: skip
    manager = make_manager()
    server.hold()
    with AccreditAuth(manager).secure_channel(service.target, root_credentials(authority.pem)) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            BlockingClient(channel).call(kind, timeout=0.1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "access token" in str(caught.value.details())
        server.release()
        assert BlockingClient(channel).call(kind) == EXPECTED[kind]
    assert door.count == 1
    assert server.count("/token") == 1


@pytest.mark.parametrize("how", ["call", "future", "stream"])
def test_the_deadline_of_a_call_between_two_attempts(blocking: BlockingClient, stale: str, server: DevServer,
                                                     door: Door, how: str) -> None:  # fmt: skip
    server.hold()
    grpc.channel_ready_future(blocking.channel).result(PATIENCE)  # the handshake is no part of the deadline
    if how == "future":
        error = blocking.future("unary_unary", timeout=1.0).exception(PATIENCE)
    else:
        with pytest.raises(grpc.RpcError) as caught:
            blocking.call("unary_unary" if how == "call" else "unary_stream", timeout=1.0)
        error = caught.value
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    server.release()
    assert door.count == 1


def test_a_channel_that_is_closed_between_two_attempts(service: Running, authority: Authority, auth: AccreditAuth,
                                                       stale: str, server: DevServer) -> None:  # fmt: skip
    channel = auth.secure_channel(service.target, root_credentials(authority.pem))
    server.hold()
    future = BlockingClient(channel).future("unary_unary")
    server.wait_for_waiting(1)
    channel.close()
    server.release()
    error = future.exception(PATIENCE)
    assert error.code() in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.CANCELLED}


# -- grpc.aio ----------------------------------------------------------------------------------------------------------


def test_a_stream_of_grpc_aio(in_loop: Any, door: Door, stale: str) -> None:
    async def scenario(channel: Any) -> None:
        call = channel.unary_stream(path("unary_stream"))(b"a", timeout=PATIENCE)
        done: list[Any] = []
        call.add_done_callback(done.append)
        assert not call.done()
        assert await call.initial_metadata() is not None
        assert [response async for response in call] == EXPECTED["unary_stream"]
        assert await call.code() is grpc.StatusCode.OK
        assert await call.details() == ""
        assert list(await call.trailing_metadata()) == []
        await call.wait_for_connection()
        await eventually_async(lambda: done == [call])
        assert call.done()
        assert not call.cancelled()
        assert not call.cancel()

    in_loop(scenario)
    assert door.count == 2


def test_a_refusal_that_stays_with_grpc_aio(in_loop: Any, door: Door) -> None:
    async def scenario(channel: Any) -> None:
        door.refuse_all()
        call = channel.unary_stream(path("unary_stream"))(b"a", timeout=PATIENCE)
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
        assert await call.details() == "not with that token"
        assert "www-authenticate" in await call.trailing_metadata()
        with pytest.raises(aio.AioRpcError):
            await call.read()

    in_loop(scenario)
    assert door.count == 2


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary"])
@pytest.mark.parametrize("how", ["call", "task"])
def test_cancelling_between_two_attempts_of_grpc_aio(
    in_loop: Any, door: Door, stale: str, server: DevServer, manager: TokenManager, kind: str, how: str
) -> None:
    server.hold()

    async def scenario(channel: Any) -> None:
        given = b"a" if kind.startswith("unary") else [b"a", b"b"]
        call = getattr(channel, kind)(path(kind))(given, timeout=PATIENCE)

        async def use() -> Any:
            return [each async for each in call] if kind.endswith("stream") else await call

        task = asyncio.create_task(use())
        await eventually_async(lambda: waiting(manager) == 1)
        (call if how == "call" else task).cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await call.code() is grpc.StatusCode.CANCELLED
        assert call.cancelled()
        assert call.done()
        await eventually_async(lambda: waiting(manager) == 0)
        server.release()
        # It hurt nobody.
        assert await channel.unary_unary(path("unary_unary"))(b"a", timeout=PATIENCE) == b"got a"

    in_loop(scenario)
    assert door.count == 2
    assert server.count("/token") == 2


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary"])
def test_cancelling_a_call_of_grpc_aio_that_waits_for_its_first_token(
    make_manager: Callable[..., TokenManager], portal: BlockingPortal, service: Running, authority: Authority,
    server: DevServer, door: Door, kind: str,
) -> None:  # fmt: skip
    manager = make_manager()
    server.hold()

    async def scenario() -> None:
        auth = AccreditAuth(manager)
        async with auth.aio_secure_channel(service.target, root_credentials(authority.pem)) as channel:
            given = b"a" if kind.startswith("unary") else [b"a", b"b"]
            stub = getattr(channel, kind)(path(kind))
            first, second = stub(given, timeout=PATIENCE), stub(given, timeout=PATIENCE)
            await eventually_async(lambda: waiting(manager) == 2)
            assert first.cancel()
            assert await first.code() is grpc.StatusCode.CANCELLED
            server.release()
            answer = [each async for each in second] if kind.endswith("stream") else await second
            assert answer == EXPECTED[kind]

    portal.call(scenario)
    assert door.count == 1
    assert server.count("/token") == 1


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary"])
@pytest.mark.parametrize("first", [True, False])
def test_the_deadline_of_a_call_of_grpc_aio(
    make_manager: Callable[..., TokenManager], portal: BlockingPortal, service: Running, authority: Authority,
    server: DevServer, door: Door, manager: TokenManager, kind: str, first: bool,
) -> None:  # fmt: skip
    using = make_manager(scope="orders:write") if first else manager
    if not first:
        door.refuse_token(manager.get().value)
    server.hold()

    async def scenario() -> None:
        async with AccreditAuth(using).aio_secure_channel(service.target, root_credentials(authority.pem)) as channel:
            given = b"a" if kind.startswith("unary") else [b"a", b"b"]
            await channel.channel_ready()  # the handshake is no part of the deadline
            call = getattr(channel, kind)(path(kind))(given, timeout=0.1 if first else 1.0)
            with pytest.raises(aio.AioRpcError) as caught:
                assert await call if not kind.endswith("stream") else [each async for each in call]
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    portal.call(scenario)
    server.release()
    assert door.count == (0 if first else 1)


@pytest.fixture
def endless(leaf: Leaf) -> Iterator[tuple[Running, threading.Event]]:
    """Give a service whose stream has no end, and an event that says that its caller has gone."""
    gone = threading.Event()

    def forever(request: bytes, context: Any) -> Iterator[bytes]:
        context.add_callback(gone.set)
        yield request
        gone.wait(PATIENCE)

    with blocking_server(handlers({**BLOCKING, "unary_stream": forever}), leaf=leaf) as running:
        yield running, gone


def test_a_stream_that_is_dropped_is_cancelled(endless: tuple[Running, threading.Event], authority: Authority,
                                               auth: AccreditAuth) -> None:  # fmt: skip
    running, gone = endless
    with auth.secure_channel(running.target, root_credentials(authority.pem)) as channel:
        call = BlockingClient(channel).stub("unary_stream")(b"a", timeout=PATIENCE)
        assert next(call) == b"a"
        del call
        gc.collect()
        assert gone.wait(PATIENCE)


def test_a_stream_of_grpc_aio_that_is_dropped_is_cancelled(
    endless: tuple[Running, threading.Event], authority: Authority, auth: AccreditAuth, portal: BlockingPortal
) -> None:
    running, gone = endless

    async def scenario() -> None:
        async with auth.aio_secure_channel(running.target, root_credentials(authority.pem)) as channel:
            stub: Any = channel.unary_stream(path("unary_stream"))
            call = stub(b"a", timeout=PATIENCE)
            assert await call.read() == b"a"
            del call
            gc.collect()
            assert await asyncio.to_thread(gone.wait, PATIENCE)

    portal.call(scenario)


# -- ends without a server ---------------------------------------------------------------------------------------------


def test_an_end_without_a_token_is_an_error_of_both_libraries() -> None:
    error: Any = NoTokenError(UnreachableError("no answer.", advice="Wait."))
    assert isinstance(error, grpc.RpcError) is isinstance(error, aio.AioRpcError) is True
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "no answer. Wait.")
    assert NoTokenError(ConfigurationError("wrong.")).code() is grpc.StatusCode.UNAUTHENTICATED
    assert (error.done(), error.running(), error.cancelled(), error.is_active()) == (True, False, False, False)
    assert (error.cancel(), error.add_callback(print), error.time_remaining()) == (False, False, None)
    assert error.exception() is error
    assert error.traceback() is None
    told: list[object] = []
    error.add_done_callback(told.append)
    assert told == [error]
    for raising in (error.result, lambda: next(iter(error))):
        with pytest.raises(NoTokenError):
            raising()
    again = pickle.loads(pickle.dumps(error))
    assert (again.error, again.code()) == (error.error, error.code())
    assert "no answer" in repr(error)


def test_ends_of_the_callers_own() -> None:
    cancelled: Any = locally_cancelled()
    late: Any = deadline_exceeded()
    assert cancelled.cancelled()
    for raising in (cancelled.result, cancelled.exception):
        with pytest.raises(grpc.FutureCancelledError):
            raising()
    assert pickle.loads(pickle.dumps(late)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
