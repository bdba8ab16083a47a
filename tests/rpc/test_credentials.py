"""Call credentials: the token without the rules about refusals, wherever gRPC takes nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from anyio.from_thread import BlockingPortal
from grpc import aio

from accredit import AccreditError, ConfigurationError, CredentialRefusedError, TokenManager
from accredit.devserver import DevServer
from accredit.instrumentation import TokenWithheld
from accredit.integrations.grpc import AccreditAuth
from tests.rpc.service import PATIENCE, Door, Running, blocking_server, path, root_credentials
from tests.runtime.support import Events, waiting
from tests.support.certificates import Authority


class Context(grpc.AuthMetadataContext):
    method_name = "Get"

    def __init__(self, service_url: str) -> None:
        self.service_url = service_url


class Answers(grpc.AuthMetadataPluginCallback):
    """A callback that remembers what it was told, and on which thread."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, Any]] = []
        self.thread = ""
        self.called = threading.Event()

    def __call__(self, metadata: Any, error: Any) -> None:
        self.told.append((metadata, error))
        self.thread = threading.current_thread().name
        self.called.set()


@pytest.fixture
def call(service: Running, authority: Authority, portal: BlockingPortal, library: str) -> Callable[..., Any]:
    """Make one call on a channel that has call credentials."""
    root = root_credentials(authority.pem)

    def run(auth: AccreditAuth, per_call: AccreditAuth | None = None) -> Any:
        credentials = grpc.composite_channel_credentials(root, auth.call_credentials()) if per_call is None else root
        how = {} if per_call is None else {"credentials": per_call.call_credentials()}
        if library == "grpc":
            with grpc.secure_channel(service.target, credentials) as channel:
                stub: Any = channel.unary_unary(path("unary_unary"))
                return stub(b"a", timeout=PATIENCE, **how)

        async def scenario() -> Any:
            async with aio.secure_channel(service.target, credentials) as channel:
                stub: Any = channel.unary_unary(path("unary_unary"))
                return await stub(b"a", timeout=PATIENCE, **how)

        return portal.call(scenario)

    return run


def test_of_a_channel(call: Callable[..., Any], auth: AccreditAuth, door: Door, manager: TokenManager) -> None:
    assert call(auth) == b"got a"
    assert [seen.authorizations for seen in door.seen] == [[manager.get().authorization]]


def test_of_a_call(call: Callable[..., Any], auth: AccreditAuth, door: Door, manager: TokenManager) -> None:
    assert call(auth, auth.using(scope="orders:write")) == b"got a"
    assert door.tokens == [manager.get(scope="orders:write").value]


def test_a_first_token_is_waited_for(call: Callable[..., Any], make_manager: Callable[..., TokenManager],
                                     door: Door, server: DevServer) -> None:  # fmt: skip
    manager = make_manager()
    assert call(AccreditAuth(manager)) == b"got a"
    assert door.tokens == [manager.get().value]
    assert server.count("/token") == 1


def test_no_token_to_be_had(call: Callable[..., Any], make_manager: Callable[..., TokenManager], door: Door,
                            server: DevServer) -> None:  # fmt: skip
    server.fail(401, error="invalid_client")
    with pytest.raises(grpc.RpcError) as caught:
        call(AccreditAuth(make_manager()))
    # gRPC gives a plugin no choice of the code, but the text is ours.
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "refuses the credential" in str(caught.value.details())
    assert door.count == 0


def test_nothing_goes_over_plaintext(auth: AccreditAuth, door: Door) -> None:
    """The rule is gRPC's own, also on loopback."""
    with blocking_server(interceptors=[door]) as running, grpc.insecure_channel(running.target) as channel:
        stub: Any = channel.unary_unary(path("unary_unary"))
        with pytest.raises(grpc.RpcError) as caught:
            stub(b"a", timeout=PATIENCE, credentials=auth.call_credentials())
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert door.count == 0


def test_api_origins(call: Callable[..., Any], make_manager: Callable[..., TokenManager], door: Door,
                     events: Events) -> None:  # fmt: skip
    assert call(AccreditAuth(make_manager(api_origins=["https://orders.example.com"]))) == b"got a"
    assert [seen.authorizations for seen in door.seen] == [[]]
    assert len(events.of(TokenWithheld)) == 1


def test_the_callback_comes_from_the_flight(make_manager: Callable[..., TokenManager], server: DevServer) -> None:
    """The thread of gRPC waits for nothing."""
    manager = make_manager()
    server.hold()
    answers = Answers()
    AccreditAuth(manager)(Context("https://localhost/shop.Orders"), answers)
    assert not answers.called.is_set()
    assert waiting(manager) == 0
    server.wait_for_waiting(1)
    server.release()
    assert answers.called.wait(PATIENCE)
    assert answers.thread == "accredit-flight"
    assert answers.told == [((("authorization", manager.get().authorization),), None)]
    # A fresh token is handed over at once.
    again = Answers()
    AccreditAuth(manager)(Context("https://localhost/shop.Orders"), again)
    assert again.told == answers.told


def test_a_callback_that_raises_hurts_no_other(make_manager: Callable[..., TokenManager], server: DevServer) -> None:
    manager = make_manager()
    server.hold()
    auth, answers = AccreditAuth(manager), Answers()

    def broken(metadata: Any, error: Any) -> None:
        raise ValueError

    auth(Context("https://localhost/shop.Orders"), broken)  # type: ignore[arg-type]  # gRPC's own is a class
    auth(Context("https://localhost/shop.Orders"), answers)
    server.release()
    assert answers.called.wait(PATIENCE)
    assert answers.told[0][1] is None


def test_errors_are_handed_over(make_manager: Callable[..., TokenManager], server: DevServer) -> None:
    server.fail(401, error="invalid_client")
    manager = make_manager()
    for auth, url, kind in (
        (AccreditAuth(manager), "https://localhost/shop.Orders", CredentialRefusedError),
        (AccreditAuth(manager, "nobody"), "https://localhost/shop.Orders", ConfigurationError),
        (AccreditAuth(manager), "nonsense", ConfigurationError),
    ):
        answers = Answers()
        auth(Context(url), answers)
        assert answers.called.wait(PATIENCE)
        ((metadata, error),) = answers.told
        assert metadata == ()
        assert isinstance(error, AccreditError)
        assert isinstance(error, kind)
