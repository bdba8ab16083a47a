"""Event loops: uvloop beside asyncio, trio and threads; nothing that blocks them; nothing for debug mode to say."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest

from accredit import AsyncTokenManager, TokenManager
from accredit.devserver import DevServer
from accredit.errors import AccreditError
from accredit.integrations import httpx as for_httpx
from accredit.integrations import httpx2 as for_httpx2
from accredit.integrations.aiohttp import AccreditMiddleware
from tests.runtime.support import PATIENCE, JumpClock, eventually, in_loop, in_trio, registration, threads, waiting

TASKS = 200
Call = Callable[[], Awaitable[int]]


@pytest.fixture
def manager(server: DevServer, clock: JumpClock) -> Iterator[TokenManager]:
    with TokenManager(registration(server, scope="orders:read"), clock=clock) as made:
        yield made


def in_uvloop(make: Callable[[], Coroutine[Any, Any, Any]], number: int) -> Callable[[], list[Any]]:
    uvloop = pytest.importorskip("uvloop")

    async def gather() -> list[Any]:
        return await asyncio.gather(*(make() for _ in range(number)))

    def run() -> list[Any]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found: list[Any] = runner.run(gather())
            return found

    return run


def test_uvloop_asyncio_trio_and_threads_at_once(server: DevServer, manager: TokenManager) -> None:
    face = manager.asynchronous()
    server.hold()
    actors: list[Callable[[], object]] = [
        in_uvloop(face.get, TASKS),
        in_uvloop(face.get, TASKS),
        in_loop(face.get, TASKS),
        in_trio(face.get, TASKS),
        *[manager.get] * 16,
    ]
    with threads(actors) as answers:
        eventually(lambda: waiting(manager) == 4 * TASKS + 16)
        server.release()
    assert answers.errors == []
    tokens = [token for result in answers.results for token in (result if isinstance(result, list) else [result])]
    assert len(tokens) == 4 * TASKS + 16
    assert len({token.value for token in tokens}) == 1
    assert server.count("/token") == 1


async def calls_of(stack: AsyncExitStack, manager: TokenManager, url: str) -> dict[str, Call]:
    """Return a call by each asynchronous client; what they open is closed by the stack."""
    found: dict[str, Call] = {}
    limits = {"max_connections": TASKS}
    clients: dict[str, Any] = {
        "httpx2": httpx2.AsyncClient(
            auth=for_httpx2.AccreditAuth(manager), limits=httpx2.Limits(**limits), timeout=PATIENCE, trust_env=False
        ),
        "httpx": httpx.AsyncClient(
            auth=for_httpx.AccreditAuth(manager), limits=httpx.Limits(**limits), timeout=PATIENCE, trust_env=False
        ),
    }
    for name, client in clients.items():
        await stack.enter_async_context(client)

        async def call(client: Any = client) -> int:
            return int((await client.get(url)).status_code)

        found[name] = call
    session = await stack.enter_async_context(
        aiohttp.ClientSession(middlewares=(AccreditMiddleware(manager),), connector=aiohttp.TCPConnector(limit=0))
    )

    async def call_aiohttp() -> int:
        async with session.get(url) as answer:
            await answer.read()
            return answer.status

    found["aiohttp"] = call_aiohttp
    return found


@pytest.mark.parametrize("library", ["httpx2", "httpx", "aiohttp"])
def test_a_herd_with_a_revoked_token_in_uvloop(
    server: DevServer, manager: TokenManager, clock: JumpClock, library: str
) -> None:
    uvloop = pytest.importorskip("uvloop")
    manager.get()
    clock.shift += 6
    server.revoke_client()
    server.hold(server="api")
    url = f"{server.api_url}/orders"

    async def scenario() -> list[int]:
        async with AsyncExitStack() as stack:
            call = (await calls_of(stack, manager, url))[library]
            tasks = [asyncio.ensure_future(call()) for _ in range(TASKS)]
            held = await asyncio.to_thread(server.wait_for_waiting, TASKS, timeout=PATIENCE, server="api")
            assert held == TASKS
            await asyncio.to_thread(server.release, server="api")
            return await asyncio.gather(*tasks)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(scenario()) == [200] * TASKS
    assert server.count("/token") == 2
    assert server.count(server="api") == 2 * TASKS


# -- what the loop must never be kept from -----------------------------------------------------------------------


class Everything:
    """Each thing that an asynchronous program may do, once, against a server that is steered from another thread."""

    def __init__(self, server: DevServer, manager: TokenManager, clock: JumpClock) -> None:
        self.server = server
        self.manager = manager
        self.face: AsyncTokenManager = manager.asynchronous()
        self.clock = clock
        self.done: list[str] = []

    async def steer(self, function: Callable[..., object], *arguments: object, **settings: object) -> None:
        await asyncio.to_thread(function, *arguments, **settings)

    async def __call__(self, calls: dict[str, Call]) -> None:
        tokens = self.face
        first = await tokens.get()
        assert (await tokens.headers())["Authorization"] == first.authorization
        assert tokens.peek() == first
        self.done.append("cold")
        self.clock.make_renewable(first)
        assert await tokens.get() == first
        await self.steer(eventually, lambda: tokens.peek() != first)
        self.done.append("renewed beside the caller")
        second = await tokens.renew()
        tokens.suspect(second)
        assert await tokens.get() != second
        await tokens.remove()
        self.clock.expire(await tokens.get())
        await tokens.get()
        self.done.append("suspect, removed, expired")
        for name, call in calls.items():
            assert await call() == 200
            assert await call() == 200
            self.clock.shift += 6
            await self.steer(self.server.revoke_client)
            assert await call() == 200
            self.done.append(f"healed by {name}")
        self.clock.shift += 6
        await self.steer(self.server.fail, 401, error="invalid_client")
        for _ in range(2):
            with pytest.raises(AccreditError):
                await tokens.get(scope="orders:write")
        await self.steer(self.server.recover)
        self.done.append("refused, and held")
        await self.steer(self.server.hold)
        task = asyncio.ensure_future(tokens.get(principal="cancelled"))
        await self.steer(self.server.wait_for_waiting, 1, timeout=PATIENCE)
        task.cancel()
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
        with pytest.raises(AccreditError):
            await tokens.get(principal="cancelled", timeout=0)
        await self.steer(self.server.release)
        self.done.append("cancelled, and too late")
        with tokens.keep_fresh(principal="kept"):
            await self.steer(eventually, lambda: tokens.peek(principal="kept") is not None)
        self.done.append("kept fresh")
        await tokens.close()
        self.done.append("closed")


def play(everything: Everything, around: Callable[[], Any], **settings: Any) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            # What clients do when they are made (they read certificates) is not ours.
            calls = await calls_of(stack, everything.manager, f"{everything.server.api_url}/orders")
            with around():
                await everything(calls)

    with asyncio.Runner(**settings) as runner:
        runner.run(scenario())
    assert everything.done[-1] == "closed"
    assert len(everything.done) == 10


@contextmanager
def blocking_is_an_error() -> Iterator[None]:
    """Raise in whatever blocks an event loop. It detects nothing on trio."""
    blockbuster = pytest.importorskip("blockbuster")
    with blockbuster.blockbuster_ctx(scanned_modules=None):
        yield


def test_nothing_blocks_the_loop(server: DevServer, manager: TokenManager, clock: JumpClock) -> None:
    play(Everything(server, manager, clock), blocking_is_an_error)


def test_what_blocks_the_loop_is_found(server: DevServer) -> None:
    """The same check on what does block: a manager whose callers make the request themselves."""

    async def blocking(face: AsyncTokenManager) -> None:
        with blocking_is_an_error():
            await face.get(timeout=1)

    with TokenManager(registration(server), renewal="inline") as manager, pytest.raises(AccreditError) as caught:
        asyncio.run(blocking(manager.asynchronous()))
    assert "BlockingError" in str(caught.value)


class Complaints(logging.Handler):
    """What asyncio has to say."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


@contextmanager
def complaints() -> Iterator[list[str]]:
    handler = Complaints()
    log = logging.getLogger("asyncio")
    log.addHandler(handler)
    try:
        yield handler.heard
    finally:
        log.removeHandler(handler)


def test_debug_mode_has_nothing_to_say(server: DevServer, manager: TokenManager, clock: JumpClock) -> None:
    """No task or exception that nobody fetches, nothing called from a wrong thread, and no callback that blocks."""

    @contextmanager
    def patient() -> Iterator[None]:
        # A machine with other work to do may take a moment for anything; a second is what blocking would take.
        asyncio.get_running_loop().slow_callback_duration = 1.0
        yield

    with complaints() as heard, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        play(Everything(server, manager, clock), patient, debug=True)
        gc.collect()
    assert heard == []
    assert [str(warning.message) for warning in caught] == []


def test_debug_mode_says_what_there_is_to_say() -> None:
    """The check of above, on what it is to find."""

    async def forgetful() -> None:
        async def fails() -> None:
            raise ZeroDivisionError

        task = asyncio.ensure_future(fails())
        await asyncio.sleep(0)
        del task
        gc.collect()
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 0.0
        await asyncio.sleep(0)

    with complaints() as heard:
        asyncio.run(forgetful(), debug=True)
    assert [text for text in heard if "never retrieved" in text]
    assert [text for text in heard if "took" in text]


def test_a_loop_runs_on_while_a_flight_is_up(server: DevServer, manager: TokenManager) -> None:
    """A thousand turns of the loop between the request and its answer, and a wait that ends with it."""
    face = manager.asynchronous()
    server.hold()

    async def scenario() -> int:
        task = asyncio.ensure_future(face.get())
        await asyncio.to_thread(server.wait_for_waiting, 1, timeout=PATIENCE)
        turns = 0
        while turns < 1000:
            await asyncio.sleep(0)
            turns += 1
        assert not task.done()
        releasing = threading.Thread(target=server.release)
        releasing.start()
        assert (await task).value
        await asyncio.to_thread(releasing.join)
        return turns

    assert asyncio.run(scenario()) == 1000
    assert server.count("/token") == 1
