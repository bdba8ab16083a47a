"""Drive one connection of an ASGI application by hand."""

from __future__ import annotations

from typing import Any

import anyio


def auth(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def drive(app: Any, scope: dict[str, Any], *incoming: dict[str, Any]) -> list[dict[str, Any]]:
    """Run one connection of an ASGI application and return what it sent."""
    sent: list[dict[str, Any]] = []
    messages = list(incoming)

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    anyio.run(app, scope, receive, send)
    return sent


def socket_scope(token: str | None = None, **more: Any) -> dict[str, Any]:
    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    return {"type": "websocket", "path": "/me", "headers": headers, "query_string": b"", **more}


CONNECT = {"type": "websocket.connect"}
