"""Guard the views of a Django REST Framework application.

Example::

    guard = Guard(verifier)


    class Orders(APIView):
        authentication_classes = (token_authentication(guard),)
        permission_classes = (requires("orders:read"),)

        def get(self, request):
            return Response({"caller": request.auth.client_id})

``request.auth`` is the verified token, and ``request.user`` the :class:`Caller`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    # The framework carries no types: this is what it has, as far as it matters here.
    Request = Any

    class APIException(Exception):  # noqa: N818 - its name in the framework
        """An error that becomes a response."""

        def __init__(self, detail: object = None, code: str | None = None) -> None:
            """Keep what the response says."""

    class BaseAuthentication:
        """An authentication class."""

    class BasePermission:
        """A permission class."""

else:
    try:
        from rest_framework.authentication import BaseAuthentication
        from rest_framework.exceptions import APIException
        from rest_framework.permissions import BasePermission
        from rest_framework.request import Request
    except ImportError as _missing:
        if _missing.name is None or _missing.name.partition(".")[0] not in {"django", "rest_framework"}:
            raise
        raise ImportError(
            "accredit.resource_server.rest_framework needs the package djangorestframework: install"
            " accredit[djangorestframework]",
            name="rest_framework",
        ) from _missing

from accredit.core.guarding import Refusal, RequiredScope, required_scope
from accredit.errors import ConfigurationError
from accredit.resource_server.django import second_token
from accredit.resource_server.guard import Guard
from accredit.resource_server.wsgi import authorization

__all__ = [
    "Caller",
    "RequiresScope",
    "TokenAuthentication",
    "TokenRefused",
    "requires",
    "requires_by_method",
    "token_authentication",
]


class Caller:
    """The service that called: what ``request.user`` is.

    Attributes:
        token: the verified token.
        is_authenticated: True.
        is_anonymous: False.
        is_active: True.
        pk: the subject of the token (its client where it names none), which is what throttling counts by.
        username: the client id (the subject where it names none).

    """

    is_authenticated: ClassVar[bool] = True
    is_anonymous: ClassVar[bool] = False
    is_active: ClassVar[bool] = True

    def __init__(self, token: Any) -> None:
        """Keep the token."""
        self.token = token
        self.pk: str = token.subject or token.client_id or ""
        self.username: str = token.client_id or token.subject or ""

    def __str__(self) -> str:
        """Return the client id."""
        return self.username

    def __repr__(self) -> str:
        """Show the client id."""
        return f"<Caller {self.username!r}>"

    def get_username(self) -> str:
        """Return the client id, as Django's users do."""
        return self.username


class TokenRefused(APIException):
    """A request that is not let in; the framework makes the response of it."""

    def __init__(self, refusal: Refusal) -> None:
        """Take status, challenge and body from the refusal."""
        super().__init__(refusal.members, refusal.error)
        self.status_code: int = refusal.status
        # What the exception handler of the framework makes WWW-Authenticate and Retry-After of.
        self.auth_header: str | None = refusal.challenge
        self.wait: int | None = refusal.retry_after


class TokenAuthentication(BaseAuthentication):
    """Authenticates by access token. A class of your own sets ``guard``, or :func:`token_authentication` makes one.

    A request without a token is left to the other authentication classes and to the permissions, as the framework has
    it; a request with a bad one is refused.
    """

    guard: ClassVar[Guard | None] = None

    def authenticate(self, request: Request) -> tuple[Caller, Any] | None:
        """Return the caller and the verified token; None when there is no token.

        Raises:
            TokenRefused: the token is not acceptable, or cannot be checked.

        """
        guard, needed = self._guard(), needed_scope(request)
        fields = authorization(request.META)
        read = guard.policy.read(fields, needed)
        if isinstance(read, Refusal) and read.error is None:
            return None
        admitted = guard.authenticate(fields, needed)  # Whether its scope suffices is for the permissions to say.
        if isinstance(admitted, Refusal):
            raise TokenRefused(admitted)
        if second_token(request):
            raise TokenRefused(guard.refused(guard.policy.several_methods(needed)))
        return Caller(admitted), admitted

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge to a request without a token."""
        refusal = self._guard().policy.read((), needed_scope(request))
        return (refusal.challenge or "") if isinstance(refusal, Refusal) else ""

    def judge(self, token: Any, needed: RequiredScope) -> Refusal | None:
        """Return why the scope of a verified token does not suffice; None if it does."""
        judged = self._guard().judge(token, needed)
        return judged if isinstance(judged, Refusal) else None

    def _guard(self) -> Guard:
        if self.guard is None:
            raise ConfigurationError(
                f"{type(self).__name__} has no guard.", advice="Set guard = Guard(verifier) in it.", key="guard"
            )
        return self.guard


def token_authentication(of: Guard) -> type[TokenAuthentication]:
    """Return an authentication class for this guard."""

    class GuardedAuthentication(TokenAuthentication):
        guard = of

    return GuardedAuthentication


class RequiresScope(BasePermission):
    """Permits requests whose token has the scope; :func:`requires` makes one."""

    needed: ClassVar[RequiredScope] = RequiredScope()
    by_method: ClassVar[Mapping[str, RequiredScope]] = MappingProxyType({})

    @classmethod
    def needed_for(cls, method: str) -> RequiredScope:
        """Return the scope that requests with this HTTP method need."""
        return cls.by_method.get("GET" if method == "HEAD" else method, cls.needed)

    def has_permission(self, request: Request, view: object) -> bool:
        """Tell whether the request has a token; the framework answers 401 when it has none.

        Raises:
            TokenRefused: it has one, but without the scope.

        """
        del view
        authenticator = request.successful_authenticator
        if not isinstance(authenticator, TokenAuthentication):
            return False
        judged = authenticator.judge(request.auth, self.needed_for(request.method))
        if judged is not None:
            raise TokenRefused(judged)
        return True


def requires(scope: str | Iterable[str] = (), *, any_of: str | Iterable[str] = ()) -> type[RequiresScope]:
    """Return a permission class for requests whose token has these scopes.

    Combined with others by ``|`` it has to be the last one, as it refuses by itself, with the exact challenge.

    Args:
        scope: the scopes of which every one is needed; by default any valid token will do.
        any_of: scopes of which one is enough.

    Raises:
        ConfigurationError: one of them is no scope.

    """
    demanded = required_scope(scope, any_of)

    class RequiresThisScope(RequiresScope):
        needed = demanded

    return RequiresThisScope


def requires_by_method(scopes: Mapping[str, str | Iterable[str]]) -> type[RequiresScope]:
    """Return a permission class: ``requires_by_method({"GET": "orders:read", "POST": "orders:write"})``.

    ``GET`` is for ``HEAD`` as well. A method that is not named needs every scope of all the others.

    Args:
        scopes: the scopes that a request needs, by HTTP method.

    Raises:
        ConfigurationError: one of them is no scope, or no method.

    """
    if not all(isinstance(name, str) and name.isascii() and name.isupper() for name in scopes):
        raise ConfigurationError("it is no HTTP method.", advice="Write 'GET'.", key="scopes")
    demanded = {name: required_scope(scope) for name, scope in scopes.items()}

    class RequiresScopeByMethod(RequiresScope):
        needed = RequiredScope(tuple(dict.fromkeys(scope for each in demanded.values() for scope in each.all_of)))
        by_method = MappingProxyType(demanded)

    return RequiresScopeByMethod


def needed_scope(request: Request) -> RequiredScope:
    """Return the scope that the permission classes of the view demand, to name it in challenges."""
    view = (getattr(request, "parser_context", None) or {}).get("view")
    demanded = [
        each.needed_for(request.method)
        for each in getattr(view, "permission_classes", ())
        if isinstance(each, type) and issubclass(each, RequiresScope)
    ]
    if len(demanded) == 1:
        return demanded[0]
    return RequiredScope(tuple(dict.fromkeys(scope for each in demanded for scope in each.sufficient)))
