"""What no honest client sends: it is refused as any other, and never ends as a fault of the service."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator

import grpc
import pytest
from anyio.from_thread import BlockingPortal

from accredit.devserver import DevServer
from accredit.testing.tokens import TokenMaker
from tests.rpc import raw
from tests.rpc.guarded import SERVERS, guarded_server, verifier_of
from tests.rpc.service import BlockingClient, Running

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED.value[0]
RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
GET = b"/shop.Orders/Get"


@pytest.fixture(scope="module")
def idp() -> Iterator[DevServer]:
    with DevServer() as running:
        yield running


@pytest.fixture
def token(idp: DevServer) -> bytes:
    return TokenMaker(idp).valid().encode()


@pytest.fixture(params=SERVERS)
def guarded(request: pytest.FixtureRequest, idp: DevServer, portal: BlockingPortal) -> Iterator[Running]:
    with verifier_of(idp) as verifier, guarded_server(request.param, verifier, portal) as running:
        yield running


def test_by_hand_as_by_library(guarded: Running, token: bytes) -> None:
    """The hand-written client is let in with a good token, so that its refusals mean something."""
    assert raw.call(guarded.port, GET, [(b"authorization", b"Bearer " + token)]).status == 0
    end = raw.call(guarded.port, GET, [])
    assert end.status == UNAUTHENTICATED
    assert b"www-authenticate" in end.message


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"Bearer",
        b"Bearer ",
        b"Bearer \xc3\xa9t\xc3\xa9",
        b"Bearer \xff\xfe\xfd",
        b"B\xc3\xa9arer x",
        b"Bearer a b",
        b"Bearer a,Bearer b",
        b"Bearer a\tb",
        b"Bearer a\x7fb",
        b"Bearer " + b"a" * 6000,
        b"Bearer " + b"." * 6000,
        b"Bearer " + b"eyJ" * 1000 + b".." ,
        b"\xef\xbb\xbfBearer x",
        b"Basic " + b"QQ==" * 500,
        b"Bearer \x22quoted\x22",
    ],
)  # fmt: skip
def test_odd_values(guarded: Running, value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "accredit")
    end = raw.call(guarded.port, GET, [(b"authorization", value)])
    assert end.status == UNAUTHENTICATED
    assert [record for record in caplog.records if record.name.startswith("accredit")] == []


@pytest.mark.parametrize("value", [b"Bearer a\x00b", b"Bearer a\r\nx-evil: 1", b"\x00"])
def test_values_that_http2_does_not_allow(guarded: Running, value: bytes) -> None:
    """gRPC itself may cut them off (RFC 9113, section 8.2.1)."""
    end = raw.call(guarded.port, GET, [(b"authorization", value)])
    assert end.was_cut_off or end.status == UNAUTHENTICATED


def test_two_tokens(guarded: Running, token: bytes) -> None:
    """Even the same one twice: which of two counts is read differently by different readers."""
    good = (b"authorization", b"Bearer " + token)
    for fields in ([good, good], [good, (b"authorization", b"Bearer x")], [(b"authorization", b"Basic eDp5"), good]):
        end = raw.call(guarded.port, GET, fields)
        assert end.status == UNAUTHENTICATED
        assert b'error="invalid_request"' in end.message


def test_nobody_waits_for_the_request_of_a_caller_without_a_token(guarded: Running) -> None:
    """It would be received and decoded for nothing, and a caller that sends none would hold its place."""
    for fields in ([], [(b"authorization", b"Basic eDp5")], [(b"authorization", b"Bearer a b")]):
        assert raw.call(guarded.port, GET, fields, body=None).status == UNAUTHENTICATED


def test_other_places_for_a_token(guarded: Running, token: bytes) -> None:
    binary = base64.b64encode(b"Bearer " + token).rstrip(b"=")
    assert raw.call(guarded.port, GET, [(b"authorization-bin", binary)]).status == UNAUTHENTICATED
    for name in (b"access_token", b"proxy-authorization", b"x-authorization"):
        end = raw.call(guarded.port, GET, [(name, b"Bearer " + token)])
        assert end.status == UNAUTHENTICATED, name
    # gRPC itself refuses a name in capitals (RFC 9113, section 8.2.1).
    assert raw.call(guarded.port, GET, [(b"Authorization", b"Bearer " + token)]).status != 0
    end = raw.call(guarded.port, GET + b"?access_token=" + token, [])
    assert end.status == UNAUTHENTICATED


def test_huge_metadata(guarded: Running, token: bytes) -> None:
    """gRPC has a limit of its own; whatever it lets pass, the guard answers."""
    for size in (7_000, 15_000, 60_000, 1_000_000):
        end = raw.call(guarded.port, GET, [(b"authorization", b"Bearer " + b"a" * size)])
        assert end.was_cut_off or end.status in {UNAUTHENTICATED, RESOURCE_EXHAUSTED}, size
    many = [(b"x-%d" % number, b"y" * 40) for number in range(2000)]
    end = raw.call(guarded.port, GET, [*many, (b"authorization", b"Bearer x")])
    assert end.was_cut_off or end.status in {UNAUTHENTICATED, RESOURCE_EXHAUSTED}
    # The service is none the worse for it.
    assert raw.call(guarded.port, GET, [(b"authorization", b"Bearer " + token)]).status == 0


def test_odd_paths(guarded: Running, token: bytes) -> None:
    """No other way to write a method leads past its rule."""
    assert raw.call(guarded.port, b"", []).status != 0  # gRPC itself does not take it
    for odd in (b"/", b"/shop.Orders", b"/shop.Orders/Get/", b"/shop.Orders//Get",
                b"/grpc.health.v1.Health/../../shop.Orders/Get", b"shop.Orders/Get", b"/SHOP.ORDERS/GET",
                b"/shop.Orders/Get%2F", b"/grpc.health.v1.Health/%2e%2e/shop.Orders/Get"):  # fmt: skip
        end = raw.call(guarded.port, odd, [])
        assert end.status == UNAUTHENTICATED, odd


def test_a_token_that_expired_says_no_more_than_any_other(guarded: Running, idp: DevServer) -> None:
    """Which check refused it is for the log: the answer would help whoever tries out tokens."""
    maker = TokenMaker(idp)
    texts = set()
    with grpc.insecure_channel(guarded.target) as channel:
        for shape in maker.SHAPES:
            metadata = (("authorization", f"Bearer {maker.of_shape(shape)}"),)
            with pytest.raises(grpc.RpcError) as caught:
                BlockingClient(channel).call("unary_unary", metadata=metadata)
            texts.add((caught.value.code(), caught.value.details(), str(caught.value.trailing_metadata())))
    assert len(texts) == 1
