"""Every kind of call on both kinds of channel: what the caller gets, and what arrived where."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest

from accredit import CredentialRefusedError, TokenManager
from accredit.core.flows import COOL_DOWN
from accredit.devserver import DevServer
from accredit.instrumentation import TokenRefused, TokenWithheld
from accredit.integrations.grpc import AccreditAuth, NoTokenError
from tests.rpc.conftest import AGED, Client
from tests.rpc.service import EXPECTED, KINDS, AioClient, BlockingClient, Door
from tests.runtime.support import Events, JumpClock

kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
def test_ok(client: Client, door: Door, server: DevServer, manager: TokenManager, kind: str) -> None:
    assert client.call(kind) == EXPECTED[kind]
    assert door.tokens == [manager.get().value]
    assert [len(seen.authorizations) for seen in door.seen] == [1]
    assert server.count("/token") == 1


@kinds
def test_expired(client: Client, door: Door, server: DevServer, manager: TokenManager, clock: JumpClock,
                 kind: str) -> None:  # fmt: skip
    old = manager.get()
    clock.expire(old)
    assert client.call(kind) == EXPECTED[kind]
    assert door.tokens == [manager.get().value] != [old.value]
    assert server.count("/token") == 2


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
def test_revoked(client: Client, door: Door, server: DevServer, manager: TokenManager, events: Events,
                 kind: str) -> None:  # fmt: skip
    stale = manager.get().value
    door.refuse_token(stale)
    assert client.call(kind) == EXPECTED[kind]
    new = manager.get().value
    assert door.tokens == [stale, new]
    assert [event.outcome for event in events.of(TokenRefused)] == ["renewing"]
    # Healed for good.
    assert client.call(kind) == EXPECTED[kind]
    assert door.tokens == [stale, new, new]
    assert server.count("/token") == 2


@kinds
def test_always_refused(client: Client, door: Door, server: DevServer, clock: JumpClock, kind: str) -> None:
    door.refuse_all()
    streams = kind.startswith("stream")
    with pytest.raises(grpc.RpcError) as caught:
        client.call(kind)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.details() == "not with that token"
    if streams:
        # What was sent cannot be sent again; the next call, with the new token, is the second refusal.
        with pytest.raises(grpc.RpcError):
            client.call(kind)
    assert (server.count("/token"), door.count) == (2, 2)
    for number in (3, 4, 5):
        clock.shift += 10
        with pytest.raises(grpc.RpcError):
            client.call(kind)
        assert (server.count("/token"), door.count) == (2, number)
    clock.shift += COOL_DOWN
    with pytest.raises(grpc.RpcError):
        client.call(kind)
    # Where nothing is sent again nobody waits for the renewal.
    assert server.wait_for_requests(3) == 3


@kinds
def test_other_errors_reach_the_caller(client: Client, door: Door, server: DevServer, manager: TokenManager,
                                       kind: str) -> None:  # fmt: skip
    for code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL):
        door.refuse_token(manager.get().value, code=code)
        with pytest.raises(grpc.RpcError) as caught:
            client.call(kind)
        assert caught.value.code() is code
    assert (server.count("/token"), door.count) == (1, 3)


@pytest.mark.parametrize(
    ("challenge", "renewals"),
    [
        ("", 1),
        ("Bearer", 1),
        ("Unknown", 1),
        ('Basic realm="x", Bearer error="invalid_token"', 1),
        ('Basic realm="x"', 0),
        ('Bearer error="insufficient_scope"', 0),
        ('Bearer error="invalid_request"', 0),
    ],
)
def test_what_a_refusal_says(
    client: Client, door: Door, server: DevServer, manager: TokenManager, challenge: str, renewals: int
) -> None:
    door.refuse_token(manager.get().value, challenge=challenge)
    if renewals:
        assert client.call("unary_unary") == b"got a"
    else:
        with pytest.raises(grpc.RpcError):
            client.call("unary_unary")
    assert (server.count("/token"), door.count) == (1 + renewals, 1 + renewals)


@kinds
def test_no_token_to_be_had(make_client: Callable[..., Client], make_manager: Callable[..., TokenManager], door: Door,
                            server: DevServer, kind: str) -> None:  # fmt: skip
    server.fail(401, error="invalid_client")
    client = make_client(AccreditAuth(make_manager()))
    with pytest.raises(NoTokenError) as caught:
        client.call(kind)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert isinstance(caught.value.error, CredentialRefusedError)
    assert caught.value.details() == str(caught.value.error)
    assert door.count == 0


def test_an_authorization_server_that_is_down(make_client: Callable[..., Client],
                                              make_manager: Callable[..., TokenManager], server: DevServer,
                                              door: Door) -> None:  # fmt: skip
    server.fail(503)
    client = make_client(AccreditAuth(make_manager()))
    with pytest.raises(NoTokenError) as caught:
        client.call("unary_unary")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert door.count == 0


def test_an_unknown_registration(make_client: Callable[..., Client], manager: TokenManager, door: Door) -> None:
    client = make_client(AccreditAuth(manager, "nobody"))
    with pytest.raises(NoTokenError, match="nobody") as caught:
        client.call("unary_unary")
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert door.count == 0


def test_no_newer_token_to_be_had(client: Client, door: Door, server: DevServer, manager: TokenManager) -> None:
    before = manager.get()
    door.refuse_token(before.value)
    server.fail(400, error="invalid_client")
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as caught:
            client.call("unary_unary")
        assert caught.value.details() == "not with that token"
    # Other APIs may still take it.
    assert manager.get().generation == before.generation
    assert (server.count("/token"), door.count) == (2, 2)


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
def test_without_threads(make_client: Callable[..., Client], make_manager: Callable[..., TokenManager], door: Door,
                         server: DevServer, clock: JumpClock, kind: str) -> None:  # fmt: skip
    """With renewal="inline" the thread that asks, or brings the news, makes the token request."""
    manager = make_manager(renewal="inline")
    client = make_client(AccreditAuth(manager))
    assert client.call(kind) == EXPECTED[kind]
    clock.shift += AGED
    stale = manager.get().value
    door.refuse_token(stale)
    assert client.call(kind) == EXPECTED[kind]
    assert door.tokens == [stale, stale, manager.get().value]
    assert server.count("/token") == 2


# -- whose token, and where to ----------------------------------------------------------------------------------------


@kinds
def test_the_callers_own_authorization_wins(client: Client, door: Door, server: DevServer, kind: str) -> None:
    door.refuse_all()
    with pytest.raises(grpc.RpcError):
        client.call(kind, metadata=(("authorization", "Bearer mine"), ("x", "y")))
    assert [seen.authorizations for seen in door.seen] == [["Bearer mine"]]
    assert server.count("/token") == 1


def test_metadata_of_the_call_is_kept(client: Client, door: Door) -> None:
    client.call("unary_unary", metadata=(("x-request-id", "7"), ("data-bin", b"\x00\xff")))
    assert {("x-request-id", "7"), ("data-bin", b"\x00\xff")} <= set(door.seen[0].metadata)


def test_credentials_of_the_call_win(client: Client, door: Door) -> None:
    client.call("unary_unary", credentials=grpc.access_token_call_credentials("mine"))
    assert [seen.authorizations for seen in door.seen] == [["Bearer mine"]]


def test_a_choice_for_some_calls(client: Client, door: Door, auth: AccreditAuth, manager: TokenManager) -> None:
    if not hasattr(client, "run"):
        with auth.choosing(scope="orders:write"):
            client.call("unary_unary")
    else:

        async def choose() -> None:
            with auth.choosing(scope="orders:write"):
                await client.run("unary_unary")

        client.portal.call(choose)  # type: ignore[union-attr]  # the asynchronous one has it
    client.call("unary_unary")
    assert door.tokens == [manager.get(scope="orders:write").value, manager.get().value]


def test_a_choice_is_for_one_manager(make_client: Callable[..., Client], make_manager: Callable[..., TokenManager],
                                     door: Door, auth: AccreditAuth) -> None:  # fmt: skip
    """Whoever has another manager is not made to ask it for what was chosen elsewhere."""
    other = make_manager(client_id="other-client", secret="other-secret")
    client = make_client(AccreditAuth(other))
    if isinstance(client, BlockingClient):
        with auth.choosing(scope="orders:write"):
            client.call("unary_unary")
    else:

        async def choose(client: AioClient) -> None:
            with auth.choosing(scope="orders:write"):
                await client.run("unary_unary")

        client.portal.call(choose, client)
    assert door.tokens == [other.get().value]


def test_a_choice_for_a_channel(make_client: Callable[..., Client], door: Door, auth: AccreditAuth,
                                manager: TokenManager) -> None:  # fmt: skip
    make_client(auth.using(scope="orders:write")).call("unary_unary")
    assert door.tokens == [manager.get(scope="orders:write").value]


def test_api_origins(make_client: Callable[..., Client], make_manager: Callable[..., TokenManager], door: Door,
                     service: object, events: Events) -> None:  # fmt: skip
    port = service.port  # type: ignore[attr-defined]
    here = make_manager(api_origins=[f"https://localhost:{port}"])
    make_client(AccreditAuth(here)).call("unary_unary")
    elsewhere = make_manager(api_origins=["https://orders.example.com"])
    make_client(AccreditAuth(elsewhere)).call("unary_unary")
    assert [len(seen.authorizations) for seen in door.seen] == [1, 0]
    assert [event.origin for event in events.of(TokenWithheld)] == [f"https://localhost:{port}"]
