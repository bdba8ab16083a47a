"""A guarded gRPC service and its clients, over TLS, without generated code.

It runs all by itself, with a development authorization server and a certificate made on the spot::

    python examples/grpc_service.py
"""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from accredit import ClientRegistration, ClientSecretBasic, TokenManager
from accredit.devserver import DevServer
from accredit.integrations.grpc import AccreditAuth
from accredit.resource_server import rule
from accredit.resource_server.grpc import HEALTH, GrpcGuard, current_token
from accredit.verifier import TokenVerifier, TrustedIssuer

LIST, CREATE = "/shop.Orders/List", "/shop.Orders/Create"


# -- the service -------------------------------------------------------------------------------------------------


def list_orders(request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
    """Stream the orders of a table."""
    for drink in (b"espresso", b"ristretto"):
        yield request + b": " + drink


def create_order(request: bytes, _context: grpc.ServicerContext) -> bytes:
    """Take an order."""
    return f"{request.decode()} for {current_token().client_id}".encode()


@contextmanager
def service(verifier: TokenVerifier, certificate: bytes, key: bytes) -> Iterator[str]:
    """Run the service on a free port; give its target."""
    guard = GrpcGuard(verifier, rules=[HEALTH, rule(LIST, "orders:read"), rule(CREATE, "orders:write")])
    server = grpc.server(ThreadPoolExecutor(), interceptors=[guard])
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "List": grpc.unary_stream_rpc_method_handler(list_orders),
        "Create": grpc.unary_unary_rpc_method_handler(create_order),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("shop.Orders", handlers)])
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(key, certificate)]))
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(grace=1).wait()


# -- its clients ---------------------------------------------------------------------------------------------------


def call_from_threads(auth: AccreditAuth, target: str, root: bytes) -> None:
    """Call with the scope of the registration, and once with another."""
    with auth.secure_channel(target, grpc.ssl_channel_credentials(root)) as channel:
        list_stub: Any = channel.unary_stream(LIST)
        create_stub: Any = channel.unary_unary(CREATE)
        print(*list_stub(b"table 7"))
        try:
            create_stub(b"latte")
        except grpc.RpcError as error:
            print(error.code().name, error.details())
        with auth.choosing(scope="orders:write"):
            print(create_stub(b"latte"))


async def call_from_tasks(auth: AccreditAuth, target: str, root: bytes) -> None:
    """Do the same from tasks, all at once; they share the tokens with the threads."""
    async with auth.aio_secure_channel(target, grpc.ssl_channel_credentials(root)) as channel:
        stub: Any = channel.unary_stream(LIST)

        async def orders(table: bytes) -> list[bytes]:
            return [order async for order in stub(table)]

        for found in await asyncio.gather(orders(b"table 8"), orders(b"table 9")):
            print(*found)


# -- all together --------------------------------------------------------------------------------------------------


def self_signed(name: str) -> tuple[bytes, bytes]:
    """Return a certificate and its private key, for an hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def main() -> int:
    """Run the service and call it."""
    certificate, key = self_signed("localhost")
    with DevServer() as idp:
        registration = ClientRegistration(
            id="api-client",
            issuer=idp.issuer,
            client_id="api-client",
            client_auth=ClientSecretBasic("dev-secret"),
            scope="orders:read",
        )
        trusted = TrustedIssuer(idp.issuer, audience=idp.config.default_audience)
        with (
            TokenManager(registration) as manager,
            TokenVerifier(trusted) as verifier,
            service(verifier, certificate, key) as target,
        ):
            auth = AccreditAuth(manager)
            call_from_threads(auth, target, certificate)
            asyncio.run(call_from_tasks(auth, target, certificate))
            print("token requests:", idp.count("/token"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
