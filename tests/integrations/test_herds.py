"""Many callers whose token was revoked: all are answered, and one token request is made."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import aiohttp
import anyio
import pytest
import requests
from requests.adapters import HTTPAdapter

from accredit import TokenManager
from accredit.devserver import DevServer
from accredit.integrations.aiohttp import AccreditMiddleware
from accredit.integrations.requests import AccreditAuth
from tests.runtime.support import PATIENCE, waiting

TASKS = 200
THREADS = 64


@pytest.fixture
def young(make_manager: Callable[..., TokenManager]) -> TokenManager:
    """Give a manager whose token came this moment: its renewal includes the second of patience."""
    manager = make_manager()
    manager.get()
    return manager


@pytest.fixture
def url(server: DevServer, young: TokenManager) -> Iterator[str]:
    """Give the URL of an API that keeps every caller waiting, and does not take the token any more."""
    server.revoke_client()
    server.hold(server="api")
    yield f"{server.api_url}/orders"
    server.release(server="api")


def let_go(server: DevServer, number: int) -> None:
    assert server.wait_for_waiting(number, timeout=PATIENCE, server="api") == number
    server.release(server="api")


def check(server: DevServer, statuses: list[int], number: int) -> None:
    assert statuses == [200] * number
    assert server.count("/token") == 2
    assert server.count(server="api") == 2 * number


@pytest.mark.parametrize("library", ["httpx2", "httpx"])
@pytest.mark.anyio
async def test_tasks(server: DevServer, young: TokenManager, url: str, library: str) -> None:
    lib: Any = import_module(library)
    auth = import_module(f"accredit.integrations.{library}").AccreditAuth(young)
    statuses: list[int] = []
    limits = lib.Limits(max_connections=TASKS)

    async def call(client: Any) -> None:
        statuses.append((await client.get(url)).status_code)

    async with (
        lib.AsyncClient(auth=auth, limits=limits, timeout=PATIENCE) as client,
        anyio.create_task_group() as group,
    ):
        for _ in range(TASKS):
            group.start_soon(call, client)
        await anyio.to_thread.run_sync(let_go, server, TASKS)
    check(server, statuses, TASKS)


@pytest.mark.parametrize("library", ["httpx2", "httpx"])
@pytest.mark.anyio
async def test_more_tasks_than_connections(server: DevServer, young: TokenManager, url: str, library: str) -> None:
    """A refused call gives its connection back before it waits for the token: nobody starves."""
    lib: Any = import_module(library)
    auth = import_module(f"accredit.integrations.{library}").AccreditAuth(young)
    statuses: list[int] = []

    async def call(client: Any) -> None:
        statuses.append((await client.get(url)).status_code)

    server.hold()
    limits = lib.Limits(max_connections=10)
    async with (
        lib.AsyncClient(auth=auth, limits=limits, timeout=PATIENCE) as client,
        anyio.create_task_group() as group,
    ):
        for _ in range(50):
            group.start_soon(call, client)
        await anyio.to_thread.run_sync(let_go, server, 10)
        # All fifty got their 401 over ten connections while the token is still being fetched.
        await anyio.to_thread.run_sync(lambda: server.wait_for_requests(50, "/orders", server="api", timeout=PATIENCE))
        await anyio.to_thread.run_sync(server.release)
    check(server, statuses, 50)


def test_tasks_of_aiohttp(server: DevServer, young: TokenManager, url: str) -> None:
    async def scenario() -> list[int]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(middlewares=(AccreditMiddleware(young),), connector=connector) as session:

            async def call() -> int:
                async with session.get(url) as response:
                    await response.read()
                    return response.status

            tasks = [asyncio.create_task(call()) for _ in range(TASKS)]
            await asyncio.to_thread(let_go, server, TASKS)
            return await asyncio.gather(*tasks)

    check(server, asyncio.run(scenario()), TASKS)


def in_threads(number: int, call: Callable[[], int], meanwhile: Callable[[], object]) -> list[int]:
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(call())) for _ in range(number)]
    for thread in threads:
        thread.start()
    meanwhile()
    for thread in threads:
        thread.join(PATIENCE)
    return statuses


@pytest.mark.parametrize("library", ["httpx2", "httpx"])
def test_threads(server: DevServer, young: TokenManager, url: str, library: str) -> None:
    lib: Any = import_module(library)
    auth = import_module(f"accredit.integrations.{library}").AccreditAuth(young)
    with lib.Client(auth=auth, timeout=PATIENCE) as client:
        statuses = in_threads(THREADS, lambda: client.get(url).status_code, lambda: let_go(server, THREADS))
    check(server, statuses, THREADS)


def test_threads_of_requests(server: DevServer, young: TokenManager, url: str) -> None:
    with requests.Session() as session:
        session.auth = AccreditAuth(young)
        session.mount("http://", HTTPAdapter(pool_maxsize=THREADS))
        statuses = in_threads(
            THREADS, lambda: session.get(url, timeout=PATIENCE).status_code, lambda: let_go(server, THREADS)
        )
    check(server, statuses, THREADS)


# -- cancellation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["httpx2", "httpx"])
@pytest.mark.anyio
async def test_a_cancelled_retry_hurts_no_other(server: DevServer, young: TokenManager, url: str, library: str) -> None:
    lib: Any = import_module(library)
    auth = import_module(f"accredit.integrations.{library}").AccreditAuth(young)
    statuses: list[int] = []
    server.hold()
    async with lib.AsyncClient(auth=auth, limits=lib.Limits(max_connections=3), timeout=PATIENCE) as client:
        scope = anyio.CancelScope()

        async def call() -> None:
            statuses.append((await client.get(url)).status_code)

        async def cancelled() -> None:
            with scope:
                await client.get(url)
                statuses.append(0)

        async with anyio.create_task_group() as group:
            group.start_soon(cancelled)
            group.start_soon(call)
            group.start_soon(call)
            await anyio.to_thread.run_sync(let_go, server, 3)
            await anyio.to_thread.run_sync(lambda: until_waiting(young, 3))
            scope.cancel()
            await anyio.to_thread.run_sync(lambda: until_waiting(young, 2))
            await anyio.to_thread.run_sync(server.release)
        assert statuses == [200, 200]
        # The pool has lost nothing.
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(call)
    assert statuses == [200] * 5
    assert server.count("/token") == 2


def test_a_cancelled_retry_of_aiohttp(server: DevServer, young: TokenManager, url: str) -> None:
    server.hold()

    async def scenario() -> list[int]:
        connector = aiohttp.TCPConnector(limit=3)
        async with aiohttp.ClientSession(middlewares=(AccreditMiddleware(young),), connector=connector) as session:

            async def call() -> int:
                async with session.get(url) as response:
                    return response.status

            tasks = [asyncio.create_task(call()) for _ in range(3)]
            await asyncio.to_thread(let_go, server, 3)
            await asyncio.to_thread(until_waiting, young, 3)
            tasks[0].cancel()
            await asyncio.to_thread(until_waiting, young, 2)
            await asyncio.to_thread(server.release)
            assert isinstance((await asyncio.gather(*tasks, return_exceptions=True))[0], asyncio.CancelledError)
            return [*await asyncio.gather(*tasks[1:]), *await asyncio.gather(call(), call(), call())]

    assert asyncio.run(scenario()) == [200] * 5
    assert server.count("/token") == 2


def until_waiting(manager: TokenManager, number: int) -> None:
    ticks = threading.Event()
    for _ in range(int(PATIENCE * 1000)):
        if waiting(manager) == number:
            return
        ticks.wait(0.001)
    raise AssertionError(f"{waiting(manager)} wait, not {number}")
