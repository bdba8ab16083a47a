"""Connections that can be closed in mid-request: ASGI has no way to, so the HTTP protocol keeps its transports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

try:
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as _missing:  # pragma: no cover - the extra is installed wherever this is tested
    _text = "the development server needs the package uvicorn: install accredit[devserver]"
    raise ImportError(_text, name="uvicorn") from _missing

#: Under which key of an ASGI scope's ``state`` the transport is found.
_KEY: Final = "accredit.transport"


class Protocol(H11Protocol):
    """uvicorn's protocol on h11; the state of each of its connections names the transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Keep the transport where the application finds it."""
        super().connection_made(transport)
        self.app_state: dict[str, Any] = {**self.app_state, _KEY: transport}


def hang_up_of(
    scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[MutableMapping[str, Any]]]
) -> Callable[[], Awaitable[None]]:
    """Return a function that closes the connection of a request at once."""

    async def hang_up() -> None:
        transport: asyncio.Transport = scope["state"][_KEY]
        transport.abort()
        # Until the server knows that the client is gone, it would answer for an application that returns.
        while (await receive())["type"] != "http.disconnect":
            pass

    return hang_up
