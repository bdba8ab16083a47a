"""A development server, a service behind a door, over TLS, and clients of both kinds that carry tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from accredit import TokenManager
from accredit.devserver import DevConfig, DevServer
from accredit.integrations.grpc import AccreditAuth
from tests.rpc.service import AioClient, BlockingClient, Door, Running, blocking_server, close_aio, root_credentials
from tests.runtime.support import CLIENTS, Events, JumpClock, registration
from tests.support.certificates import Authority, Leaf

#: A token older than this (seconds) gets no second of patience.
AGED = 6.0
Client = BlockingClient | AioClient


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[DevServer]:
    with DevServer(DevConfig(clients=CLIENTS)) as running:
        yield running


@pytest.fixture
def clock() -> JumpClock:
    return JumpClock()


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def make_manager(server: DevServer, clock: JumpClock, events: Events) -> Iterator[Callable[..., TokenManager]]:
    with ExitStack() as stack:

        def make(**changes: Any) -> TokenManager:
            settings = {"renewal": changes.pop("renewal", "thread")}
            manager = TokenManager(
                registration(server, **{"scope": "orders:read", **changes}), clock=clock, on_event=events, **settings
            )
            stack.callback(manager.close)
            return manager

        yield make


@pytest.fixture
def manager(make_manager: Callable[..., TokenManager], clock: JumpClock) -> TokenManager:
    """Give a manager whose token is there, and too old for a second of patience."""
    made = make_manager()
    made.get()
    clock.shift += AGED
    return made


@pytest.fixture
def auth(manager: TokenManager) -> AccreditAuth:
    return AccreditAuth(manager)


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def leaf(authority: Authority) -> Leaf:
    return authority.issue("localhost", "127.0.0.1")


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal("asyncio") as running:
        yield running


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def service(door: Door, leaf: Leaf) -> Iterator[Running]:
    """Give the service, over TLS."""
    with blocking_server(interceptors=[door], leaf=leaf) as running:
        yield running


@pytest.fixture(params=["grpc", "grpc.aio"])
def library(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def make_client(
    library: str, service: Running, authority: Authority, portal: BlockingPortal
) -> Iterator[Callable[..., Client]]:
    """Make clients of the library under test, whose calls carry the tokens of an auth object."""
    with ExitStack() as stack:

        def make(auth: AccreditAuth, target: str | None = None, **how: Any) -> Client:
            credentials = root_credentials(authority.pem)
            target = target or service.target
            if library == "grpc":
                return BlockingClient(stack.enter_context(auth.secure_channel(target, credentials, **how)))

            async def open_channel() -> Any:
                return auth.aio_secure_channel(target, credentials, **how)

            channel = portal.call(open_channel)
            close_aio(stack, portal, channel)
            return AioClient(channel, portal)

        yield make


@pytest.fixture
def client(make_client: Callable[..., Client], auth: AccreditAuth) -> Client:
    return make_client(auth)
