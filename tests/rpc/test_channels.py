"""Where a token may go: targets and their origins, plaintext, and the parts for channels of one's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import grpc
import pytest
from anyio.from_thread import BlockingPortal
from grpc import aio

from accredit import ConfigurationError, TokenManager
from accredit.integrations._grpc_target import target_origin
from accredit.integrations.grpc import AccreditAuth
from tests.rpc.service import PATIENCE, BlockingClient, Door, Running, blocking_server, path, root_credentials
from tests.support.certificates import Authority


@pytest.mark.parametrize(
    ("target", "secure", "origin"),
    [
        ("orders.example.com", True, "https://orders.example.com"),
        ("orders.example.com:443", True, "https://orders.example.com"),
        ("Orders.Example.com:8443", True, "https://orders.example.com:8443"),
        ("orders.example.com", False, "http://orders.example.com:443"),
        ("orders.example.com:80", False, "http://orders.example.com"),
        ("dns:orders.example.com:8443", True, "https://orders.example.com:8443"),
        ("dns:///orders.example.com:8443", True, "https://orders.example.com:8443"),
        ("DNS:///orders.example.com%3A8443", True, "https://orders.example.com:8443"),
        ("dns://8.8.8.8/orders.example.com", True, "https://orders.example.com"),
        ("xds:///orders.example.com", True, "https://orders.example.com"),
        ("ipv4:127.0.0.1:50051", False, "http://127.0.0.1:50051"),
        ("ipv4:127.0.0.1", False, "http://127.0.0.1:443"),
        ("ipv6:[::1]:50051", False, "http://[::1]:50051"),
        ("[2001:db8::1]:50051", True, "https://[2001:db8::1]:50051"),
        ("::1", True, "https://[::1]"),
        ("unix:/run/orders.sock", False, "http://localhost"),
        ("unix:///run/orders.sock", False, "http://localhost"),
        ("unix-abstract:orders", False, "http://localhost"),
    ],
)
def test_the_origin_of_a_target(target: str, secure: bool, origin: str) -> None:
    assert target_origin(target, secure=secure) == origin


@pytest.mark.parametrize(
    "target",
    [
        "ipv4:127.0.0.1:50051,10.0.0.1:50051",
        "vsock:3:50051",
        "dns:///user@orders.example.com",
        "dns:///127.0.0.1%5C.example.com",
        "2130706433:50051",
        "localhost:50051@evil.example.com",
        "dns:////localhost:50051",
        "",
        "dns:",
        "localhost:0",
        "l\u00f6calhost\u00df:1",
    ],
)
def test_what_is_open_to_two_readings_is_the_origin_of_nothing(target: str) -> None:
    for secure in (True, False):
        origin = target_origin(target, secure=secure)
        assert origin.endswith("?"), origin


@pytest.mark.parametrize("name", ["grpc.default_authority", "grpc.ssl_target_name_override"])
def test_another_name_for_the_server_counts(name: str) -> None:
    options = [("grpc.max_receive_message_length", 7), (name, "orders.example.com")]
    assert target_origin("10.0.0.1:50051", secure=True, options=options) == "https://orders.example.com"
    # Nothing proves it without TLS.
    assert target_origin("10.0.0.1:50051", secure=False, options=options) == "http://10.0.0.1:50051"


@pytest.mark.parametrize(
    "target", ["orders.example.com:50051", "10.0.0.1:50051", "ipv4:127.0.0.1:1,10.0.0.1:1", "localhost.example.com:1"]
)
def test_plaintext_beyond_loopback(auth: AccreditAuth, make_manager: Callable[..., TokenManager], target: str) -> None:
    for refused in (auth.insecure_channel, auth.aio_insecure_channel):
        with pytest.raises(ConfigurationError, match="without TLS") as caught:
            refused(target)
        assert caught.value.key == "registration.api-client.allow_insecure_http"
    AccreditAuth(make_manager(allow_insecure_http=True)).insecure_channel(target).close()


def test_a_name_that_only_the_option_makes_local(auth: AccreditAuth) -> None:
    """An option of the channel may change the name of the server, not where plaintext goes."""
    with pytest.raises(ConfigurationError):
        auth.insecure_channel("10.0.0.1:50051", options=[("grpc.default_authority", "localhost")])


def test_plaintext_on_loopback(auth: AccreditAuth, door: Door, manager: TokenManager, portal: BlockingPortal) -> None:
    with blocking_server(interceptors=[door]) as running:
        with auth.insecure_channel(running.target) as channel:
            assert BlockingClient(channel).call("unary_unary") == b"got a"

        async def scenario() -> Any:
            async with auth.aio_insecure_channel(f"127.0.0.1:{running.port}") as channel:
                stub: Any = channel.unary_unary(path("unary_unary"))
                return await stub(b"a", timeout=PATIENCE)

        assert portal.call(scenario) == b"got a"
    assert door.tokens == [manager.get().value] * 2


def test_the_interceptor_alone(auth: AccreditAuth, door: Door, manager: TokenManager, service: Running,
                               authority: Authority, portal: BlockingPortal) -> None:  # fmt: skip
    origin = f"https://localhost:{service.port}"
    root = root_credentials(authority.pem)
    with grpc.secure_channel(service.target, root) as channel:
        carrying = grpc.intercept_channel(channel, auth.interceptor(origin))
        assert BlockingClient(carrying).call("unary_unary") == b"got a"

    async def scenario() -> Any:
        async with aio.secure_channel(service.target, root, interceptors=auth.aio_interceptors(origin)) as channel:
            stub: Any = channel.unary_unary(path("unary_unary"))
            return await stub(b"a", timeout=PATIENCE)

    assert portal.call(scenario) == b"got a"
    assert door.tokens == [manager.get().value] * 2
    for wrong in ("localhost:50051", "ftp://x", ""):
        with pytest.raises(ConfigurationError) as caught:
            auth.interceptor(wrong)
        assert caught.value.key == "origin"


def test_other_interceptors_see_each_call(auth: AccreditAuth, door: Door, service: Running, authority: Authority,
                                          manager: TokenManager, portal: BlockingPortal) -> None:  # fmt: skip
    """One before ours sees the call once and no token; one after it sees both attempts."""
    seen: list[tuple[str, int]] = []
    trace: ContextVar[str] = ContextVar("trace", default="lost")
    traces: set[str] = set()

    class Spy(grpc.UnaryUnaryClientInterceptor):
        def __init__(self, name: str) -> None:
            self.name = name

        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            seen.append((self.name, len(details.metadata or ())))
            traces.add(trace.get())
            return continuation(details, request)

    door.refuse_token(manager.get().value)
    trace.set("of the caller")
    with grpc.secure_channel(service.target, root_credentials(authority.pem)) as channel:
        ours = auth.interceptor(f"https://localhost:{service.port}")
        spied = grpc.intercept_channel(channel, Spy("before"), ours, Spy("after"))
        stub: Any = spied.unary_unary(path("unary_unary"))
        assert stub.future(b"a", timeout=PATIENCE).result(PATIENCE) == b"got a"
        assert stub(b"a", timeout=PATIENCE) == b"got a"
    assert seen == [("before", 0), ("after", 1), ("after", 1), ("before", 0), ("after", 1)]
    # The second attempt of a future begins on another thread, in the context of the caller all the same.
    assert traces == {"of the caller"}

    class AioSpy(aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            seen.append(("aio", len(details.metadata or ())))
            return await continuation(details, request)

    async def scenario() -> Any:
        root = root_credentials(authority.pem)
        async with auth.aio_secure_channel(service.target, root, interceptors=[AioSpy()]) as channel:
            stub: Any = channel.unary_unary(path("unary_unary"))
            return await stub(b"a", timeout=PATIENCE)

    assert portal.call(scenario) == b"got a"
    assert seen[-1] == ("aio", 0)


def test_details_of_a_call_do_not_print_the_token(auth: AccreditAuth, door: Door, manager: TokenManager,
                                                  service: Running, authority: Authority,
                                                  portal: BlockingPortal) -> None:  # fmt: skip
    printed: list[str] = []

    class Logger(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            printed.extend([repr(details), str(details)])
            return continuation(details, request)

    with grpc.secure_channel(service.target, root_credentials(authority.pem)) as channel:
        carrying = grpc.intercept_channel(channel, auth.interceptor(f"https://localhost:{service.port}"), Logger())
        assert BlockingClient(carrying).call("unary_unary") == b"got a"

    class AioLogger(aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            printed.extend([repr(details), str(details.metadata)])
            return await continuation(details, request)

    async def scenario() -> Any:
        interceptors = [*auth.aio_interceptors(f"https://localhost:{service.port}"), AioLogger()]
        root = root_credentials(authority.pem)
        async with aio.secure_channel(service.target, root, interceptors=interceptors) as channel:
            stub: Any = channel.unary_unary(path("unary_unary"))
            return await stub(b"a", timeout=PATIENCE)

    assert portal.call(scenario) == b"got a"
    assert door.tokens == [manager.get().value] * 2
    assert all("***" in text for text in printed)
    assert not any(manager.get().value in text for text in printed)


def test_either_face_of_a_manager_will_do(door: Door, service: Running, authority: Authority,
                                          manager: TokenManager) -> None:  # fmt: skip
    auth = AccreditAuth(manager.asynchronous())
    with auth.secure_channel(service.target, root_credentials(authority.pem)) as channel:
        assert BlockingClient(channel).call("unary_unary") == b"got a"
    assert door.tokens == [manager.get().value]
    assert repr(auth) == "<AccreditAuth for grpc>"


@pytest.mark.parametrize("module", ["accredit.integrations.grpc", "accredit.resource_server.grpc"])
def test_without_the_package_it_says_which_extra_to_install(module: str) -> None:
    code = f"import sys; sys.modules['grpc'] = None\nimport {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "install accredit[grpc]" in done.stderr
