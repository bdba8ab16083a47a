"""Guard the views of a Django application.

:mod:`accredit.resource_server.rest_framework` is for those of Django REST Framework.

Example::

    guard = DjangoGuard(verifier)


    @guard.requires("orders:read")
    def orders(request):
        return JsonResponse({"caller": verified_token(request).client_id})


    @method_decorator(guard.requires("orders:read"), name="dispatch")
    class Orders(View): ...
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

try:
    from django.http import HttpRequest, HttpResponse, RawPostDataException
    from django.urls import URLPattern, path
except ImportError as _missing:
    if _missing.name is None or _missing.name.partition(".")[0] != "django":
        raise
    raise ImportError(
        "accredit.resource_server.django needs the package django: install accredit[django]", name="django"
    ) from _missing

from accredit.core.guarding import Refusal, RequiredScope, carries_token, is_form, required_scope
from accredit.errors import ConfigurationError
from accredit.resource_server.guard import Guard
from accredit.resource_server.wsgi import MOST_OF_A_FORM, authorization

__all__ = ["DjangoGuard", "verified_token"]

F = TypeVar("F", bound=Callable[..., Any])
_NAME = "accredit_token"


def verified_token(request: HttpRequest) -> Any:
    """Return the verified token of a request.

    Raises:
        ConfigurationError: its view is not guarded.

    """
    token = getattr(request, _NAME, None)
    if token is None:
        raise ConfigurationError("there is no token: the view is not guarded.", advice="Guard it.", key="request")
    return token


class DjangoGuard(Guard):
    """Guards views, synchronous and asynchronous. Arguments as for :class:`accredit.resource_server.Guard`.

    A guarded view is exempt from Django's protection against cross-site request forgery: no browser sends an access
    token by itself.
    """

    def requires(self, scope: str | Iterable[str] = (), *, any_of: str | Iterable[str] = ()) -> Callable[[F], F]:
        """Return a decorator for views that need a token with these scopes.

        Args:
            scope: the scopes of which every one is needed; by default any valid token will do.
            any_of: scopes of which one is enough.

        Raises:
            ConfigurationError: one of them is no scope.

        """
        needed = required_scope(scope, any_of)

        def decorate(view: F) -> F:
            guarded: Any
            if inspect.iscoroutinefunction(view):

                @functools.wraps(view)
                async def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                    admitted = await self.admit_async(authorization(request.META), needed)
                    refused = self._let_in(request, admitted, needed)
                    return await view(request, *args, **kwargs) if refused is None else refused
            else:

                @functools.wraps(view)
                def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                    refused = self._let_in(request, self.admit(authorization(request.META), needed), needed)
                    return view(request, *args, **kwargs) if refused is None else refused

            guarded.csrf_exempt = True
            return guarded  # type: ignore[no-any-return]  # as callable as what it wraps

        return decorate

    def metadata_url(self) -> URLPattern:
        """Return the URL pattern of the metadata document, for the ``urlpatterns`` of the root.

        Raises:
            ConfigurationError: the guard was made without ``metadata``.

        """
        metadata = self.metadata
        if metadata is None:
            raise ConfigurationError("this guard has no metadata.", advice="Give it metadata=...", key="metadata")

        def document(request: HttpRequest) -> HttpResponse:
            return _response(request, metadata.document, 200, metadata.headers)

        return path(metadata.path.removeprefix("/"), document, name="oauth-protected-resource")

    def _let_in(self, request: HttpRequest, admitted: Any, needed: RequiredScope) -> HttpResponse | None:
        if not isinstance(admitted, Refusal) and second_token(request):
            admitted = self.refused(self.policy.several_methods(needed))
        if isinstance(admitted, Refusal):
            return _response(request, admitted.body, admitted.status, admitted.all_headers)
        setattr(request, _NAME, admitted)
        return None


def _response(request: HttpRequest, body: bytes, status: int, headers: Iterable[tuple[str, str]]) -> HttpResponse:
    # Not every server takes the body off an answer to HEAD.
    return HttpResponse(b"" if request.method == "HEAD" else body, status=status, headers=dict(headers))


def second_token(request: HttpRequest) -> bool:
    """Look for another token in the query, and in a form that is not too long to be read here (RFC 6750, section 2)."""
    if carries_token(request.META.get("QUERY_STRING", "").encode("latin-1", "replace")):
        return True
    length = str(request.META.get("CONTENT_LENGTH") or "")
    if not is_form([request.META.get("CONTENT_TYPE", "")]) or not (length.isascii() and length.isdigit()):
        return False
    if len(length) > len(str(MOST_OF_A_FORM)) or int(length) > MOST_OF_A_FORM:
        return False
    try:
        return carries_token(request.body)  # Django keeps it for whoever reads the form later.
    except RawPostDataException:
        return "access_token" in request.POST  # Something before the guard has read the body; this may be what is left.
