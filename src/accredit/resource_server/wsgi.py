"""Guard a WSGI application of any framework: Flask, Django, Bottle, Pyramid.

Example::

    from accredit.resource_server import public
    from accredit.resource_server.wsgi import WsgiGuard

    app.wsgi_app = WsgiGuard(app.wsgi_app, verifier, rules=[public("/health")])

Requests without a good token never reach the application; the token of the others is ``environ["accredit.token"]``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any, Final

from accredit.core.guard_rules import GuardRule, Rules
from accredit.core.guarding import Refusal, RequiredScope, carries_token, is_form, required_scope
from accredit.core.protected_resource import ResourceMetadata
from accredit.resource_server.guard import TOKEN, AsyncVerifier, Guard, Verifier

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["WsgiGuard"]

#: Most bytes of a form that are looked at for a second token; they are handed on all the same.
MOST_OF_A_FORM: Final = 64 * 1024


class WsgiGuard(Guard):
    """A WSGI application that lets requests with a good token through to another one.

    Args:
        app: the application to guard.
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
        app: WSGIApplication,
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

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle one request."""
        method, path = environ["REQUEST_METHOD"], _text(environ.get("PATH_INFO", "")) or "/"
        head = method == "HEAD"
        if (
            self.metadata is not None
            and method in {"GET", "HEAD"}
            and self._metadata_path
            in {
                path,
                _text(environ.get("SCRIPT_NAME", "")) + path,
            }
        ):
            return _answer(start_response, 200, self.metadata.headers, b"" if head else self.metadata.document)
        needed = self._rules.find(path, method)
        if needed is None:
            return self._app(environ, start_response)
        admitted = self.admit(authorization(environ), needed)
        if not isinstance(admitted, Refusal):
            admitted = self.second_token(environ, needed) or admitted
        if isinstance(admitted, Refusal):
            return _answer(start_response, admitted.status, admitted.all_headers, b"" if head else admitted.body)
        environ[TOKEN] = admitted
        return self._app(environ, start_response)

    def second_token(self, environ: WSGIEnvironment, needed: RequiredScope) -> Refusal | None:
        """Look for another token in query and form (RFC 6750, section 2)."""
        found = carries_token(environ.get("QUERY_STRING", "").encode("latin-1", "replace"))
        if not found and is_form([environ.get("CONTENT_TYPE", "")]):
            found = carries_token(_look_ahead(environ))
        return self.refused(self.policy.several_methods(needed)) if found else None


def authorization(environ: WSGIEnvironment) -> tuple[str, ...]:
    """Return the ``Authorization`` fields; servers join several of them with commas, which no token has."""
    field = environ.get("HTTP_AUTHORIZATION")
    return () if field is None else (field,)


def _text(raw: str) -> str:
    """Return the text of what WSGI gives as bytes in the guise of Latin-1 (PEP 3333)."""
    return raw.encode("latin-1", "replace").decode("utf-8", "replace")


def _look_ahead(environ: WSGIEnvironment) -> bytes:
    """Read the beginning of the body, and put it back."""
    source: Any = environ.get("wsgi.input")
    announced = environ.get("CONTENT_LENGTH") or ""
    length = int(announced) if announced.isascii() and announced.isdigit() and len(announced) < 20 else None
    if source is None or (length is None and not environ.get("wsgi.input_terminated")):
        return b""  # Without a length, and without an end that the server sees to, there is no body (PEP 3333).
    beginning = _read(source, MOST_OF_A_FORM if length is None else min(length, MOST_OF_A_FORM))
    environ["wsgi.input"] = io.BufferedReader(
        _Again(beginning, source, None if length is None else length - len(beginning))
    )
    return beginning


def _read(source: IO[bytes], number: int) -> bytes:
    parts = bytearray()
    while len(parts) < number and (part := source.read(number - len(parts))):
        parts += part
    return bytes(parts)


class _Again(io.RawIOBase):
    """What was read already, and then the rest, but never more than was announced: the source might block."""

    def __init__(self, beginning: bytes, source: IO[bytes], rest: int | None) -> None:
        self._beginning = beginning
        self._source = source
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = len(buffer)
        if self._beginning:
            part, self._beginning = self._beginning[:size], self._beginning[size:]
        else:
            part = self._source.read(size if self._rest is None else min(size, self._rest)) if self._rest != 0 else b""
            if self._rest is not None:
                self._rest -= len(part)
        buffer[: len(part)] = part
        return len(part)


def _answer(
    start_response: StartResponse, status: int, headers: Iterable[tuple[str, str]], body: bytes
) -> Iterable[bytes]:
    # Each field name with capitals: some old servers and proxies are particular about it.
    start_response(f"{status} {HTTPStatus(status).phrase}", [(name.title(), value) for name, value in headers])
    return [body]
