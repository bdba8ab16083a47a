"""Guard the routes of a Starlette application.

Example::

    guard = StarletteGuard(verifier)


    @guard.requires("orders:read")
    async def orders(request):
        return JSONResponse({"caller": verified_token(request).client_id})

A whole application is guarded by ``Middleware(AsgiGuard, verifier=verifier)`` of :mod:`accredit.resource_server.asgi`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

try:
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.websockets import WebSocket
except ImportError as _missing:
    if _missing.name is None or _missing.name.partition(".")[0] != "starlette":
        raise
    raise ImportError(
        "accredit.resource_server.starlette needs the package starlette: install accredit[starlette]",
        name="starlette",
    ) from _missing

from accredit.core.guarding import Refusal, RequiredScope, carries_token, is_form, required_scope
from accredit.errors import ConfigurationError
from accredit.resource_server.asgi import MOST_OF_A_FORM, deny_websocket
from accredit.resource_server.guard import TOKEN, Guard

__all__ = ["StarletteGuard", "verified_token"]

F = TypeVar("F", bound=Callable[..., Any])
_LENGTH_DIGITS: Final = 10


def verified_token(connection: HTTPConnection) -> Any:
    """Return the verified token of a guarded request or WebSocket.

    Raises:
        ConfigurationError: its route is not guarded.

    """
    try:
        return connection.scope[TOKEN]
    except KeyError:
        pass
    raise ConfigurationError("there is no token: the route is not guarded.", advice="Guard it.", key="request")


class StarletteGuard(Guard):
    """Guards routes: functions, methods of ``HTTPEndpoint``, and WebSockets. Arguments as for :class:`Guard`."""

    def requires(self, scope: str | Iterable[str] = (), *, any_of: str | Iterable[str] = ()) -> Callable[[F], F]:
        """Return a decorator for endpoints that need a token with these scopes.

        Args:
            scope: the scopes of which every one is needed; by default any valid token will do.
            any_of: scopes of which one is enough.

        Raises:
            ConfigurationError: one of them is no scope.

        """
        needed = required_scope(scope, any_of)

        def decorate(endpoint: F) -> F:
            @functools.wraps(endpoint)
            async def guarded(*args: Any, **kwargs: Any) -> Any:
                connection = next((arg for arg in (*args, *kwargs.values()) if isinstance(arg, HTTPConnection)), None)
                if connection is None:
                    raise ConfigurationError(
                        "the endpoint was called without a request.",
                        advice="Decorate what takes a Request or a WebSocket; with FastAPI, depend on the guard.",
                        key="endpoint",
                    )
                refusal = await self.check(connection, needed)
                if refusal is None:
                    if inspect.iscoroutinefunction(endpoint):
                        return await endpoint(*args, **kwargs)
                    return await run_in_threadpool(endpoint, *args, **kwargs)
                if isinstance(connection, WebSocket):
                    await deny_websocket(connection.scope, connection.receive, connection.send, refusal)
                    return None
                return Response(refusal.body, refusal.status, dict(refusal.all_headers))

            return guarded  # type: ignore[return-value]  # as callable as what it wraps

        return decorate

    async def check(self, connection: HTTPConnection, needed: RequiredScope) -> Refusal | None:
        """Put the verified token into the scope of the connection, or return why it is refused."""
        admitted = await self.admit_async(
            [value for name, value in connection.scope["headers"] if name == b"authorization"], needed
        )
        if isinstance(admitted, Refusal):
            return admitted
        if await _second_token(connection):
            return self.refused(self.policy.several_methods(needed))
        connection.scope[TOKEN] = admitted
        return None

    def metadata_route(self) -> Route:
        """Return the route of the metadata document: ``Starlette(routes=[guard.metadata_route(), ...])``.

        Raises:
            ConfigurationError: the guard was made without ``metadata``.

        """
        metadata = self.metadata
        if metadata is None:
            raise ConfigurationError("this guard has no metadata.", advice="Give it metadata=...", key="metadata")

        async def document(_request: Request) -> Response:
            return Response(metadata.document, headers=dict(metadata.headers))

        return Route(metadata.path, document, name="oauth-protected-resource", include_in_schema=False)


async def _second_token(connection: HTTPConnection) -> bool:
    """Look for another token in the query, and in a form that is not too long to be read here (RFC 6750, section 2)."""
    if carries_token(connection.scope.get("query_string", b"")):
        return True
    if not isinstance(connection, Request) or not is_form(connection.headers.getlist("content-type")):
        return False
    form = getattr(connection, "_form", None)  # FastAPI has read it already where the route declares one.
    if form is not None:
        return "access_token" in form
    length = connection.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit() and len(length) < _LENGTH_DIGITS and int(length) <= MOST_OF_A_FORM):
        return False
    return carries_token(await connection.body())  # Starlette keeps it for whoever reads the form later.
