"""Guard the views of a Flask application.

Example::

    guard = FlaskGuard(verifier)


    @app.get("/orders")
    @guard.requires("orders:read")
    def orders():
        return {"caller": verified_token().client_id}


    guard.protect(blueprint, "orders:admin")
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

try:
    from flask import Flask, Response, current_app, g, request
    from flask.sansio.scaffold import Scaffold
except ImportError as _missing:
    if _missing.name is None or _missing.name.partition(".")[0] not in {"flask", "werkzeug"}:
        raise
    raise ImportError(
        "accredit.resource_server.flask needs the package flask: install accredit[flask]", name="flask"
    ) from _missing

from accredit.core.guarding import Refusal, RequiredScope, carries_token, is_form, required_scope
from accredit.errors import ConfigurationError
from accredit.resource_server.guard import Guard
from accredit.resource_server.wsgi import MOST_OF_A_FORM, authorization

__all__ = ["FlaskGuard", "verified_token"]

F = TypeVar("F", bound=Callable[..., Any])
_NAME = "accredit_token"


def verified_token() -> Any:
    """Return the verified token of the current request.

    Raises:
        ConfigurationError: its view is not guarded.

    """
    token = g.get(_NAME)
    if token is None:
        raise ConfigurationError("there is no token: the view is not guarded.", advice="Guard it.", key="request")
    return token


class FlaskGuard(Guard):
    """Guards views, blueprints and applications. Arguments as for :class:`accredit.resource_server.Guard`."""

    def requires(self, scope: str | Iterable[str] = (), *, any_of: str | Iterable[str] = ()) -> Callable[[F], F]:
        """Return a decorator for views that need a token with these scopes; it goes below ``@app.route``.

        Args:
            scope: the scopes of which every one is needed; by default any valid token will do.
            any_of: scopes of which one is enough.

        Raises:
            ConfigurationError: one of them is no scope.

        """
        needed = required_scope(scope, any_of)

        def decorate(view: F) -> F:
            @functools.wraps(view)
            def guarded(*args: Any, **kwargs: Any) -> Any:
                refused = self._check(needed)
                return current_app.ensure_sync(view)(*args, **kwargs) if refused is None else refused

            return guarded  # type: ignore[return-value]  # as callable as what it wraps

        return decorate

    def protect(self, target: Scaffold, scope: str | Iterable[str] = (), *, any_of: str | Iterable[str] = ()) -> None:
        """Guard every view of an application or a blueprint, beside what its views ask for themselves.

        Raises:
            ConfigurationError: one of them is no scope.

        """
        needed = required_scope(scope, any_of)

        @target.before_request
        def check() -> Response | None:
            return None if request.endpoint == _ENDPOINT else self._check(needed)

    def init_app(self, app: Flask) -> None:
        """Serve the metadata document at its well-known path.

        Raises:
            ConfigurationError: the guard was made without ``metadata``.

        """
        metadata = self.metadata
        if metadata is None:
            raise ConfigurationError("this guard has no metadata.", advice="Give it metadata=...", key="metadata")
        app.add_url_rule(metadata.path, _ENDPOINT, lambda: Response(metadata.document, headers=list(metadata.headers)))

    def _check(self, needed: RequiredScope) -> Response | None:
        admitted = self.admit(authorization(request.environ), needed)
        if not isinstance(admitted, Refusal) and _second_token():
            admitted = self.refused(self.policy.several_methods(needed))
        if isinstance(admitted, Refusal):
            return Response(admitted.body, admitted.status, list(admitted.all_headers))
        setattr(g, _NAME, admitted)
        return None


_ENDPOINT = "oauth-protected-resource"


def _second_token() -> bool:
    """Look for another token in the query, and in a form that is not too long to be read here (RFC 6750, section 2)."""
    if carries_token(request.query_string):
        return True
    length = request.content_length
    if not is_form([request.headers.get("Content-Type", "")]) or length is None or length > MOST_OF_A_FORM:
        return False
    if "form" in vars(request):
        return "access_token" in request.form  # Something before the guard has read it.
    return carries_token(request.get_data(cache=True))  # Kept for whoever reads the form later.
