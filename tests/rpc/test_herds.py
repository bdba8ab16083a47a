"""Many callers whose token was revoked: all are answered, and one token request is made."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from accredit import TokenManager
from accredit.devserver import DevServer
from accredit.integrations.grpc import AccreditAuth
from tests.rpc.service import EXPECTED, PATIENCE, BlockingClient, Door, Running, blocking_server, path, root_credentials
from tests.support.certificates import Authority, Leaf

THREADS = 64
TASKS = 200


@pytest.fixture
def young(make_manager: Callable[..., TokenManager], door: Door) -> TokenManager:
    """Give a manager whose token came this moment and is refused: its renewal includes the second of patience."""
    manager = make_manager()
    door.refuse_token(manager.get().value)
    return manager


@pytest.fixture
def crowded(door: Door, leaf: Leaf) -> Iterator[Running]:
    """Give the service with room for all of them at once: nobody is refused before everybody is there."""
    with blocking_server(interceptors=[door], leaf=leaf, workers=TASKS) as running:
        yield running


@pytest.mark.parametrize("how", ["calls", "futures", "streams"])
def test_threads(server: DevServer, young: TokenManager, door: Door, crowded: Running, authority: Authority,
                 how: str) -> None:  # fmt: skip
    answers: list[Any] = []
    door.gathers = THREADS
    with AccreditAuth(young).secure_channel(crowded.target, root_credentials(authority.pem)) as channel:
        client = BlockingClient(channel)

        def call() -> None:
            if how == "futures":
                answers.append(client.future("unary_unary").result(PATIENCE))
            else:
                answers.append(client.call("unary_unary" if how == "calls" else "unary_stream"))

        threads = [threading.Thread(target=call) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert answers == [EXPECTED["unary_stream" if how == "streams" else "unary_unary"]] * THREADS
    assert (server.count("/token"), door.count) == (2, 2 * THREADS)


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
def test_tasks(server: DevServer, young: TokenManager, door: Door, crowded: Running, authority: Authority,
               portal: BlockingPortal, kind: str) -> None:  # fmt: skip
    door.gathers = TASKS

    async def scenario() -> list[Any]:
        auth = AccreditAuth(young)
        async with auth.aio_secure_channel(crowded.target, root_credentials(authority.pem)) as channel:
            stub: Any = getattr(channel, kind)(path(kind))

            async def call() -> Any:
                answer = stub(b"a", timeout=PATIENCE)
                return [each async for each in answer] if kind.endswith("stream") else await answer

            return await asyncio.gather(*(call() for _ in range(TASKS)))

    assert portal.call(scenario) == [EXPECTED[kind]] * TASKS
    assert (server.count("/token"), door.count) == (2, 2 * TASKS)


def test_a_cold_herd_makes_one_token_request(
    server: DevServer, make_manager: Callable[..., TokenManager], door: Door, service: Running, authority: Authority
) -> None:
    answers: list[Any] = []
    with AccreditAuth(make_manager()).secure_channel(service.target, root_credentials(authority.pem)) as channel:
        client = BlockingClient(channel)
        threads = [threading.Thread(target=lambda: answers.append(client.call("unary_unary"))) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert answers == [b"got a"] * THREADS
    assert (server.count("/token"), door.count) == (1, THREADS)
