"""Guard an ASGI application of any framework.

Example::

    from accredit.resource_server import public, rule
    from accredit.resource_server.asgi import AsgiGuard

    app = AsgiGuard(
        app,
        verifier,
        rules=[public("/health"), rule("/orders/*", "orders:read", methods="GET"), rule("/orders/*", "orders:write")],
    )

Requests without a good token never reach the application; the token of the others is ``scope["accredit.token"]``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from accredit.core.guard_rules import GuardRule, Rules
from accredit.core.guarding import Refusal, carries_token, is_form, required_scope
from accredit.core.protected_resource import ResourceMetadata
from accredit.errors import ConfigurationError
from accredit.resource_server.guard import TOKEN, AsyncVerifier, Guard, Verifier

__all__ = ["AsgiGuard"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Most bytes of a form that are looked at for a second token; they are handed on all the same.
MOST_OF_A_FORM: Final = 64 * 1024
_POLICY_VIOLATION: Final = 1008  # RFC 6455, section 7.4.1
_TRY_AGAIN_LATER: Final = 1013


class AsgiGuard(Guard):
    """An ASGI application that lets requests and WebSockets with a good token through to another one.

    Args:
        app: the application to guard. Its lifespan events pass.
        verifier: a :class:`accredit.verifier.TokenVerifier` or its asynchronous face.
        scope: the scopes of which every one is needed, where no rule says otherwise; by default any valid token will
            do.
        any_of: scopes of which one is enough, likewise.
        rules: what other paths need: see :func:`accredit.resource_server.rule` and
            :func:`accredit.resource_server.public`.
        realm, metadata, resource_metadata, retry_after, on_refusal: as for
            :class:`accredit.resource_server.Guard`; the document of ``metadata`` is served at its well-known path.

    """

    def __init__(
        self,
        app: Application,
        verifier: Verifier | AsyncVerifier,
        *,
        scope: str | Iterable[str] = (),
        any_of: str | Iterable[str] = (),
        rules: Iterable[GuardRule] = (),
        realm: str = "api",
        metadata: ResourceMetadata | None = None,
        resource_metadata: str | None = None,
        retry_after: float = 10.0,
        on_refusal: Callable[[Refusal], object] | None = None,
    ) -> None:
        """Put the guard before the application."""
        super().__init__(
            verifier,
            realm=realm,
            metadata=metadata,
            resource_metadata=resource_metadata,
            retry_after=retry_after,
            on_refusal=on_refusal,
        )
        self._app = app
        self._rules = Rules(rules, required_scope(scope, any_of))
        self._metadata_path = None if metadata is None else metadata.path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection.

        Raises:
            ConfigurationError: it is of a kind that this guard does not know, and so cannot guard.

        """
        kind = scope["type"]
        if kind == "http":
            path, method = _path_within(scope), scope["method"]
        elif kind == "websocket":
            path, method = _path_within(scope), "GET"
        elif kind == "lifespan":
            await self._app(scope, receive, send)
            return
        else:
            raise ConfigurationError("connections of this kind cannot be guarded.", key="scope.type")
        if self.metadata is not None and kind == "http" and self._is_metadata(scope["path"], path, method):
            document = b"" if method == "HEAD" else self.metadata.document
            await _send(send, 200, self.metadata.headers, document)
            return
        needed = self._rules.find(path, method)
        if needed is None:
            await self._app(scope, receive, send)
            return
        fields: list[bytes] = []
        form = False
        for name, value in scope["headers"]:
            if name == b"authorization":
                fields.append(value)
            elif name == b"content-type":
                form = form or is_form((value,))
        admitted = await self.admit_async(fields, needed)
        if not isinstance(admitted, Refusal):
            again = receive
            found = carries_token(scope.get("query_string", b""))
            if form and kind == "http" and not found:
                body, again = await _look_ahead(receive)
                found = carries_token(body)
            if not found:
                # A copy: what is outside of the guard shall not see what it put in.
                await self._app({**scope, TOKEN: admitted}, again, send)
                return
            admitted = self.refused(self.policy.several_methods(needed))
        if kind == "http":
            await send_refusal(send, admitted, head=method == "HEAD")
        else:
            await deny_websocket(scope, receive, send, admitted)

    def _is_metadata(self, whole: str, path: str, method: str) -> bool:
        return self._metadata_path in {whole, path} and method in {"GET", "HEAD"}


def _path_within(scope: Scope) -> str:
    """Return the path without the part that a server or an outer application has dealt with already."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in {"", "/"}:
        return path[len(root) :] or "/"
    return path


async def _look_ahead(receive: Receive) -> tuple[bytes, Receive]:
    """Read the beginning of a body, and return it with a function that gives everything once more."""
    messages: list[Message] = []
    body = bytearray()
    while True:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        if not message.get("more_body", False) or len(body) >= MOST_OF_A_FORM:
            break
    messages.reverse()

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return bytes(body[:MOST_OF_A_FORM]), again


async def send_refusal(send: Send, refusal: Refusal, *, head: bool = False) -> None:
    """Answer a request with a refusal."""
    await _send(send, refusal.status, refusal.all_headers, b"" if head else refusal.body)


async def _send(send: Send, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
    raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def deny_websocket(scope: Scope, receive: Receive, send: Send, refusal: Refusal) -> None:
    """Refuse a WebSocket before it is open: with the whole answer where the server can send one, else with 403."""
    message = await receive()
    if message["type"] != "websocket.connect":
        return  # It has gone away.
    if "websocket.http.response" in (scope.get("extensions") or {}):
        raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in refusal.all_headers]
        await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": raw})
        await send({"type": "websocket.http.response.body", "body": refusal.body})
    else:
        code = _TRY_AGAIN_LATER if refusal.status >= 500 else _POLICY_VIOLATION
        await send({"type": "websocket.close", "code": code, "reason": refusal.error or "token_required"})
