"""Guard the routes of a FastAPI application, with the security scheme in its OpenAPI page.

Example::

    guard = FastApiGuard(verifier)


    @app.get("/orders")
    async def orders(token: Annotated[VerifiedToken, guard.requires("orders:read")]): ...


    admin = APIRouter(dependencies=[guard.requires("orders:admin")])
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

try:
    from fastapi import HTTPException, Security, WebSocketException
    from fastapi.openapi.models import HTTPBearer, OAuth2, OAuthFlowClientCredentials, OAuthFlows
    from fastapi.openapi.models import SecurityBase as SecurityScheme
    from fastapi.security import SecurityScopes
    from fastapi.security.base import SecurityBase
except ImportError as _missing:
    if _missing.name is None or _missing.name.partition(".")[0] not in {"fastapi", "starlette", "pydantic"}:
        raise
    raise ImportError(
        "accredit.resource_server.fastapi needs the package fastapi: install accredit[fastapi]",
        name="fastapi",
    ) from _missing

from starlette.requests import HTTPConnection

from accredit.core.guarding import Refusal, RequiredScope, required_scope
from accredit.core.protected_resource import ResourceMetadata
from accredit.errors import ConfigurationError
from accredit.resource_server.guard import AsyncVerifier, Verifier
from accredit.resource_server.starlette import StarletteGuard, verified_token

__all__ = ["FastApiGuard", "verified_token"]

_POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1
_TRY_AGAIN_LATER = 1013
_DESCRIPTION = "An access token of the authorization server, in the Authorization field (RFC 6750)."


class FastApiGuard(StarletteGuard, SecurityBase):
    """A dependency that lets requests and WebSockets with a good token through, and gives the token.

    Args:
        verifier: a :class:`accredit.verifier.TokenVerifier` or its asynchronous face.
        token_url: the token endpoint, for the OpenAPI page: the security scheme is then ``oauth2`` with the client
            credentials flow, and otherwise ``http`` with the scheme ``bearer``.
        scopes: what each scope means, for the OpenAPI page with ``token_url``.
        scheme_name: the name of the security scheme in the OpenAPI page.
        realm, metadata, resource_metadata, retry_after, on_refusal: as for :class:`accredit.resource_server.Guard`.

    """

    model: SecurityScheme
    scheme_name: str

    def __init__(
        self,
        verifier: Verifier | AsyncVerifier,
        *,
        token_url: str | None = None,
        scopes: Mapping[str, str] | None = None,
        scheme_name: str = "AccessToken",
        realm: str = "api",
        metadata: ResourceMetadata | None = None,
        resource_metadata: str | None = None,
        retry_after: float = 10.0,
        on_refusal: Callable[[Refusal], object] | None = None,
    ) -> None:
        """Make the guard and its security scheme."""
        super().__init__(
            verifier,
            realm=realm,
            metadata=metadata,
            resource_metadata=resource_metadata,
            retry_after=retry_after,
            on_refusal=on_refusal,
        )
        self.scheme_name = scheme_name
        if scopes is not None and not isinstance(scopes, Mapping):
            raise ConfigurationError(
                "it says nothing about each scope.", advice="Give {'orders:read': 'Read orders'}.", key="scopes"
            )
        if token_url is None:
            self.model = HTTPBearer(description=_DESCRIPTION)
        else:
            flow = OAuthFlowClientCredentials(tokenUrl=token_url, scopes=dict(scopes or {}))
            self.model = OAuth2(flows=OAuthFlows(clientCredentials=flow), description=_DESCRIPTION)
        self._any_of: tuple[str, ...] = ()

    def requires(self, scope: str | Iterable[str] = (), *, any_of: str | Iterable[str] = ()) -> Any:
        """Return the dependency for a token with these scopes: for a parameter, a router or an application.

        ``Security(guard, scopes=["orders:read"])`` is the same as ``guard.requires("orders:read")``.

        Args:
            scope: the scopes of which every one is needed; by default any valid token will do.
            any_of: scopes of which one is enough. OpenAPI cannot say so; the page does not name them.

        Raises:
            ConfigurationError: one of them is no scope.

        """
        needed = required_scope(scope, any_of)
        dependency = self
        if needed.any_of:
            dependency = copy.copy(self)
            dependency._any_of = needed.any_of  # noqa: SLF001 - of the same class
        return Security(dependency, scopes=list(needed.all_of))

    async def __call__(self, connection: HTTPConnection, security_scopes: SecurityScopes) -> Any:
        """Return the verified token of a request or WebSocket. FastAPI calls this.

        Raises:
            HTTPException: with the exact refusal.
            WebSocketException: likewise, where the server can only close the connection.

        """
        needed = RequiredScope(tuple(dict.fromkeys(security_scopes.scopes)), self._any_of)
        refusal = await self.check(connection, needed)
        if refusal is None:
            return verified_token(connection)
        if connection.scope["type"] == "websocket" and "websocket.http.response" not in (
            connection.scope.get("extensions") or {}
        ):
            code = _TRY_AGAIN_LATER if refusal.status >= 500 else _POLICY_VIOLATION
            raise WebSocketException(code, refusal.error or "token_required")
        raise HTTPException(refusal.status, refusal.members, dict(refusal.headers))
