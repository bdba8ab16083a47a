"""Tokens without a network: what the measurements of the client side stand on."""

import json

from accredit import ClientRegistration, ClientSecretPost, TokenManager
from accredit.core.messages import Request, Response

#: A signed access token of a real server has 800 to 1400 characters.
TOKEN = "e" * 1000
API = "https://api.example.com/orders"
TOKEN_ENDPOINT = "https://idp.example.com/token"


class FakeTransport:
    """Issues a token of the usual size to every request, each another one."""

    def __init__(self) -> None:
        self.count = 0

    def send(self, request: Request, *, timeout: float) -> Response:
        del request, timeout
        self.count += 1
        return Response(200, (("content-type", "application/json"),), token_response(self.count))

    def close(self) -> None:
        pass

    def after_fork(self) -> None:
        pass


def token_value(count: int) -> str:
    return f"{count:08d}{TOKEN[8:]}"


def token_response(count: int, expires_in: int = 3600) -> bytes:
    return json.dumps({"access_token": token_value(count), "token_type": "Bearer", "expires_in": expires_in}).encode()


def registration(token_endpoint: str = TOKEN_ENDPOINT) -> ClientRegistration:
    return ClientRegistration(
        id="api-client",
        token_endpoint=token_endpoint,
        client_id="orders-worker",
        client_auth=ClientSecretPost("a-secret-of-the-benchmark"),
    )


def fresh_manager() -> TokenManager:
    """Return a manager that holds a fresh token."""
    manager = TokenManager(registration(), transport=FakeTransport())
    manager.get()
    return manager
