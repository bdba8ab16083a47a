"""The guards of gRPC servers: who is let in, and the exact answer to everybody else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from anyio.from_thread import BlockingPortal
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory  # type: ignore[import-untyped]  # no types
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # no types
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]  # no types

from accredit import ConfigurationError, InvalidTokenError, TokenManager
from accredit.core.guarding import Refusal
from accredit.devserver import DevServer
from accredit.resource_server import public, rule
from accredit.resource_server.grpc import HEALTH, REFLECTION, AioGrpcGuard, GrpcGuard, current_token
from accredit.testing.tokens import TokenMaker
from accredit.verifier import TokenVerifier
from tests.rpc.guarded import ANSWERS, BLOCKING, SERVERS, guarded_server, verifier_of
from tests.rpc.service import KINDS, PATIENCE, BlockingClient, Running, path

kinds = pytest.mark.parametrize("kind", KINDS)
NO_TOKEN = "This request needs an access token."
INVALID = "The access token is expired, revoked, malformed or not for this API."
DESCRIPTION = f'error="invalid_token", error_description="{INVALID.rstrip(".")}"'


@pytest.fixture(params=SERVERS)
def flavour(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def verifier(server: DevServer) -> Iterator[TokenVerifier]:
    with verifier_of(server) as made:
        yield made


@pytest.fixture
def maker(server: DevServer) -> TokenMaker:
    return TokenMaker(server)


@pytest.fixture
def guarded(flavour: str, verifier: TokenVerifier, portal: BlockingPortal) -> Iterator[Running]:
    with guarded_server(flavour, verifier, portal) as running:
        yield running


@pytest.fixture
def client(guarded: Running) -> Iterator[BlockingClient]:
    with grpc.insecure_channel(guarded.target) as channel:
        yield BlockingClient(channel)


def bearer(token: str) -> dict[str, Any]:
    return {"metadata": (("authorization", f"Bearer {token}"),)}


def refused(client: BlockingClient, kind: str = "unary_unary", **how: Any) -> tuple[grpc.StatusCode, str, Any, Any]:
    """Make a call; return the code, the text, the challenge and the decoded details of its end."""
    with pytest.raises(grpc.RpcError) as caught:
        client.call(kind, **how)
    trailing: Any = caught.value.trailing_metadata()
    metadata: dict[str, Any] = dict(trailing or ())
    details = metadata.get("grpc-status-details-bin")
    return (
        caught.value.code(),
        str(caught.value.details()),
        metadata.get("www-authenticate"),
        None if details is None else read_status(details),
    )


@kinds
def test_a_good_token(client: BlockingClient, maker: TokenMaker, kind: str) -> None:
    assert client.call(kind, **bearer(maker.valid())) == ANSWERS[kind]
    assert client.call(kind, metadata=(("authorization", f"bearer  {maker.valid()}"),)) == ANSWERS[kind]


@kinds
def test_no_token(client: BlockingClient, kind: str) -> None:
    scope = "orders:write" if kind == "stream_unary" else "orders:read"
    code, text, challenge, details = refused(client, kind)
    assert (code, text) == (grpc.StatusCode.UNAUTHENTICATED, NO_TOKEN)
    assert challenge == f'Bearer realm="api", scope="{scope}"'
    assert details == (16, NO_TOKEN, ("TOKEN_REQUIRED", "oauth2", {"scope": scope}), None)
    # The token of another scheme, or in a binary field, is none.
    for metadata in ((("authorization", "Basic eDp5"),), (("authorization-bin", b"Bearer x"),), (("token", "x"),)):
        assert refused(client, kind, metadata=metadata)[:2] == (code, text)


@pytest.mark.parametrize("shape", TokenMaker.SHAPES)
def test_a_bad_token(client: BlockingClient, maker: TokenMaker, shape: str) -> None:
    code, text, challenge, details = refused(client, **bearer(maker.of_shape(shape)))
    assert (code, text) == (grpc.StatusCode.UNAUTHENTICATED, INVALID)
    assert challenge == f'Bearer realm="api", {DESCRIPTION}, scope="orders:read"'
    assert details == (16, INVALID, ("INVALID_TOKEN", "oauth2", {"scope": "orders:read"}), None)


@kinds
def test_a_bad_token_with_each_kind_of_call(client: BlockingClient, maker: TokenMaker, kind: str) -> None:
    assert refused(client, kind, **bearer(maker.expired()))[0] is grpc.StatusCode.UNAUTHENTICATED


@kinds
def test_a_scope_that_is_missing(client: BlockingClient, maker: TokenMaker, kind: str) -> None:
    scope = "orders:write" if kind == "stream_unary" else "orders:read"
    code, text, challenge, details = refused(client, kind, **bearer(maker.without_scope(scope)))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert text == f"The access token lacks a scope that this request needs: {scope}"
    assert challenge is not None
    assert 'error="insufficient_scope"' in challenge
    assert f'scope="{scope}"' in challenge
    assert details == (7, text, ("INSUFFICIENT_SCOPE", "oauth2", {"scope": scope}), None)


def test_revoked(client: BlockingClient, manager: TokenManager, server: DevServer) -> None:
    token = manager.get().value
    assert client.call("unary_unary", **bearer(token)) == b"api-client"
    server.revoke_client()
    assert refused(client, **bearer(token))[0] is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("part", ["/jwks", "/introspect"])
def test_a_dependency_that_is_down(client: BlockingClient, maker: TokenMaker, server: DevServer, part: str) -> None:
    """It is no fault of the caller: a client that is told UNAUTHENTICATED would throw a good token away."""
    token = maker.valid()
    server.fail(503, path=part)
    code, text, challenge, details = refused(client, **bearer(token))
    assert (code, text) == (grpc.StatusCode.UNAVAILABLE, "The access token cannot be checked at the moment.")
    assert challenge is None
    assert details[2] == ("TEMPORARILY_UNAVAILABLE", "oauth2", {})
    assert details[3] >= 1


@pytest.mark.parametrize("error", [ValueError("canary"), ConfigurationError("canary.")])
def test_a_verifier_that_fails(portal: BlockingPortal, flavour: str, error: Exception,
                               caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    class Broken:
        def verify(self, token: str) -> Any:
            raise error

    class AioBroken:
        async def verify(self, token: str) -> Any:
            raise error

    caplog.set_level(logging.DEBUG)
    verifier = Broken() if flavour == "grpc" else AioBroken()
    with (
        guarded_server(flavour, verifier, portal) as running,
        grpc.insecure_channel(running.target) as channel,
    ):
        code, text, challenge, _ = refused(BlockingClient(channel), **bearer("x"))
    assert (code, challenge) == (grpc.StatusCode.UNAVAILABLE, None)
    assert "canary" not in text + caplog.text


def test_reasons_are_for_the_log_and_the_hook(portal: BlockingPortal, verifier: TokenVerifier, flavour: str,
                                              maker: TokenMaker) -> None:  # fmt: skip
    refusals: list[Refusal] = []
    with (
        guarded_server(flavour, verifier, portal, on_refusal=refusals.append, realm="shop") as running,
        grpc.insecure_channel(running.target) as channel,
    ):
        client = BlockingClient(channel)
        for how in ({}, bearer(maker.expired()), bearer(maker.without_scope())):
            refused(client, **how)
        assert str(refused(client)[2]).startswith('Bearer realm="shop"')
    assert [refusal.reason for refusal in refusals] == ["no_token", "expired", "scope", "no_token"]


# -- which methods ---------------------------------------------------------------------------------------------------


def test_a_method_that_does_not_exist(client: BlockingClient, maker: TokenMaker) -> None:
    method = "/shop.Orders/Nothing"
    assert refused(client, method=method)[0] is grpc.StatusCode.UNAUTHENTICATED
    assert refused(client, method=method, **bearer(maker.expired()))[0] is grpc.StatusCode.UNAUTHENTICATED
    assert refused(client, method=method, **bearer(maker.valid()))[0] is grpc.StatusCode.UNIMPLEMENTED


def test_defaults_and_alternatives(portal: BlockingPortal, verifier: TokenVerifier, flavour: str,
                                   maker: TokenMaker) -> None:  # fmt: skip
    rules = [
        rule("/shop.Orders/Get", any_of=("orders:read", "orders:write")),
        rule("/shop.Orders/List"),
        rule("/shop.Orders/Send", ("orders:read", "orders:write")),
    ]
    with (
        guarded_server(flavour, verifier, portal, rules=rules, scope="nobody:has") as running,
        grpc.insecure_channel(running.target) as channel,
    ):
        client = BlockingClient(channel)
        for scope in ("orders:read", "orders:write"):
            assert client.call("unary_unary", **bearer(maker.valid(scope=scope))) == b"api-client"
            denied = refused(client, "stream_unary", **bearer(maker.valid(scope=scope)))
            assert denied[0] is grpc.StatusCode.PERMISSION_DENIED
        assert refused(client, **bearer(maker.valid(scope="other")))[0] is grpc.StatusCode.PERMISSION_DENIED
        assert client.call("unary_stream", **bearer(maker.valid(scope="")))
        assert client.call("stream_unary", **bearer(maker.valid()))
        assert refused(client, "stream_stream", **bearer(maker.valid()))[0] is grpc.StatusCode.PERMISSION_DENIED


def add_health_and_reflection(blocking: bool) -> Callable[[Any], None]:
    def add(server: Any) -> None:
        servicer = health.HealthServicer() if blocking else health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        enable = reflection.enable_server_reflection
        enable(("shop.Orders", health.SERVICE_NAME, reflection.SERVICE_NAME), server)

    return add


def list_services(channel: Any, **how: Any) -> list[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (response,) = stub.ServerReflectionInfo(iter([request]), timeout=PATIENCE, **how)
    return [service.name for service in response.list_services_response.service]


def check_health(channel: Any, **how: Any) -> Any:
    request = health_pb2.HealthCheckRequest()
    return health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE, **how)


@pytest.mark.parametrize("is_open", [True, False])
def test_health_and_reflection(portal: BlockingPortal, verifier: TokenVerifier, flavour: str, maker: TokenMaker,
                               is_open: bool) -> None:  # fmt: skip
    """They are open because somebody chose so, and for no other reason."""
    settings: dict[str, Any] = {} if is_open else {"rules": [rule("/shop.Orders/*")]}
    extra = add_health_and_reflection(flavour == "grpc")
    with (
        guarded_server(flavour, verifier, portal, extra=extra, **settings) as running,
        grpc.insecure_channel(running.target) as channel,
    ):
        serving = health_pb2.HealthCheckResponse.SERVING
        if is_open:
            assert check_health(channel).status == serving
            assert "shop.Orders" in list_services(channel)
            # A token that is presented there is not looked at.
            assert check_health(channel, **bearer("x")).status == serving
        else:
            for ask in (check_health, list_services):
                with pytest.raises(grpc.RpcError) as caught:
                    ask(channel)
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert check_health(channel, **bearer(maker.valid())).status == serving
            assert "shop.Orders" in list_services(channel, **bearer(maker.valid()))
        assert refused(BlockingClient(channel))[0] is grpc.StatusCode.UNAUTHENTICATED


def test_the_token_of_a_call_is_nobody_elses(portal: BlockingPortal, verifier: TokenVerifier, flavour: str,
                                             maker: TokenMaker) -> None:  # fmt: skip
    def get(request: bytes, context: Any) -> bytes:
        try:
            return str(current_token().claims["sub"]).encode()
        except ConfigurationError as error:
            return str(error).encode()

    rules = [rule("/shop.Orders/*"), HEALTH]
    with (
        guarded_server(flavour, verifier, portal, rules=rules, behaviors={**BLOCKING, "unary_unary": get}) as running,
        grpc.insecure_channel(running.target) as channel,
    ):
        client = BlockingClient(channel)
        tokens = {f"sub-{number}".encode(): maker.valid(sub=f"sub-{number}") for number in range(8)}
        futures = {
            name: [client.future("unary_unary", **bearer(token)) for _ in range(4)] for name, token in tokens.items()
        }
        for name, several in futures.items():
            assert [future.result(PATIENCE) for future in several] == [name] * 4


def test_no_token_outside_a_guarded_call() -> None:
    with pytest.raises(ConfigurationError, match="no access token was verified"):
        current_token()
    asyncio.run(asyncio.sleep(0))


@pytest.mark.parametrize("kind", [GrpcGuard, AioGrpcGuard])
@pytest.mark.parametrize(
    "rules",
    [
        [rule("/shop.Admin", "admin")],  # a service without "/*": no call has that name
        [rule("/", "admin")],
        [rule("/shop.Admin/Drop ", "admin")],
        [rule("/shop.Admin /*", "admin")],
        [public("/shop.Orders")],
        ["/shop.Orders/*"],
        [[HEALTH, "x"]],
        [5],
        [None],
    ],
    ids=str,
)
def test_a_rule_that_would_protect_nothing(verifier: TokenVerifier, kind: Any, rules: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kind(verifier, rules=rules)
    assert caught.value.key == "rules"


def test_rules_in_every_form(verifier: TokenVerifier) -> None:
    names = ("/*", "/shop.Orders/*", "/shop.Orders/Get", "/Orders/Get", "/a/b/*", "/a/b/C")
    forms: tuple[Any, ...] = (*([rule(name, "admin")] for name in names), [HEALTH, REFLECTION], HEALTH, REFLECTION)
    for rules in forms:
        GrpcGuard(verifier, rules=rules)
        assert AioGrpcGuard(verifier, rules=rules)._needed("/shop.Orders/Get") is not None


def test_what_makes_no_guard(verifier: TokenVerifier) -> None:
    for kind in (GrpcGuard, AioGrpcGuard):
        with pytest.raises(ConfigurationError) as caught:
            kind(verifier, rules=[rule("/shop.Orders/Get", methods="GET")])
        assert caught.value.key == "rules"

    class Wrong:
        async def verify(self, token: str) -> Any:
            raise InvalidTokenError("never.")

    with pytest.raises(ConfigurationError, match=r"grpc\.server") as caught:
        GrpcGuard(Wrong())
    assert caught.value.key == "verifier"
    AioGrpcGuard(Wrong())
    # Either face of a verifier will do for either.
    GrpcGuard(verifier.asynchronous())
    AioGrpcGuard(verifier)


# -- an independent reader of the details ------------------------------------------------------------------------------


def _messages() -> dict[str, Any]:
    """Describe the messages of google.rpc anew, from their public definition, and let protobuf read them."""
    file = descriptor_pb2.FileDescriptorProto(
        name="rpc.proto",
        package="google.rpc",
        syntax="proto3",
        dependency=["google/protobuf/any.proto", "google/protobuf/duration.proto"],
    )
    kinds = descriptor_pb2.FieldDescriptorProto

    def field(
        message: Any, name: str, number: int, kind: Any, of: str | None = None, *, repeated: bool = False
    ) -> None:
        label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
        message.field.add(name=name, number=number, type=kind, type_name=of, label=label)

    status = file.message_type.add(name="Status")
    field(status, "code", 1, kinds.TYPE_INT32)
    field(status, "message", 2, kinds.TYPE_STRING)
    field(status, "details", 3, kinds.TYPE_MESSAGE, ".google.protobuf.Any", repeated=True)
    info = file.message_type.add(name="ErrorInfo")
    field(info, "reason", 1, kinds.TYPE_STRING)
    field(info, "domain", 2, kinds.TYPE_STRING)
    field(info, "metadata", 3, kinds.TYPE_MESSAGE, ".google.rpc.ErrorInfo.MetadataEntry", repeated=True)
    entry = info.nested_type.add(name="MetadataEntry")
    entry.options.map_entry = True
    field(entry, "key", 1, kinds.TYPE_STRING)
    field(entry, "value", 2, kinds.TYPE_STRING)
    retry = file.message_type.add(name="RetryInfo")
    field(retry, "retry_delay", 1, kinds.TYPE_MESSAGE, ".google.protobuf.Duration")
    pool = descriptor_pool.DescriptorPool()
    for needed in (any_pb2, duration_pb2):
        pool.AddSerializedFile(needed.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    names = ("Status", "ErrorInfo", "RetryInfo")
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"google.rpc.{name}")) for name in names}


MESSAGES = _messages()


def read_status(serialized: bytes) -> tuple[int, str, tuple[str, str, dict[str, str]] | None, int | None]:
    """Return code, text, (reason, domain, metadata) and the seconds to wait."""
    status = MESSAGES["Status"].FromString(serialized)
    info: tuple[str, str, dict[str, str]] | None = None
    seconds: int | None = None
    for detail in status.details:
        name = detail.type_url.removeprefix("type.googleapis.com/google.rpc.")
        message = MESSAGES[name].FromString(detail.value)
        if name == "ErrorInfo":
            info = (message.reason, message.domain, dict(message.metadata))
        else:
            seconds = message.retry_delay.seconds
    return status.code, status.message, info, seconds


@pytest.mark.parametrize(("scope", "seconds"), [("", 1), ("s" * 200, 127), ("a", 128), ("b" * 20_000, 3600)])
def test_details_of_every_length(scope: str, seconds: int) -> None:
    from accredit.core.guarding import required_scope
    from accredit.resource_server._rpc_status import rpc_status

    needed = required_scope(scope)
    refusal = Refusal(401, None, seconds, "invalid_token", "Why.", "reason")
    status = rpc_status(refusal, needed)
    ((_, serialized),) = status.trailing_metadata
    assert isinstance(serialized, bytes)
    expected = {"scope": scope} if scope else {}
    assert read_status(serialized) == (16, "Why.", ("INVALID_TOKEN", "oauth2", expected), seconds)


def test_a_bytes_path(guarded: Running) -> None:
    """The name of a method is what the client says; one that is no name has no handler."""
    with grpc.insecure_channel(guarded.target) as channel:
        client = BlockingClient(channel)
        for odd in ("/shop.Orders//Get", "/shop.Orders/../grpc.health.v1.Health/Check", "//shop.Orders/Get", "/x"):
            code = refused(client, method=odd)[0]
            assert code is grpc.StatusCode.UNAUTHENTICATED, odd
    assert path("unary_unary") == "/shop.Orders/Get"
