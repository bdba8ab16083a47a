"""Guard a gRPC server, of ``grpc`` or of ``grpc.aio``.

Example::

    from accredit.resource_server import rule
    from accredit.resource_server.grpc import HEALTH, GrpcGuard, current_token

    guard = GrpcGuard(
        verifier,
        rules=[HEALTH, rule("/shop.Orders/*", "orders:read"), rule("/shop.Orders/Create", "orders:write")],
    )
    server = grpc.server(ThreadPoolExecutor(), interceptors=[guard])

Calls without a good token never reach a handler; a handler reads the token of its call with :func:`current_token`.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, ClassVar, Final

try:
    import grpc
except ModuleNotFoundError as _missing:
    if _missing.name != "grpc":
        raise
    raise ImportError(
        "accredit.resource_server.grpc needs the package grpcio: install accredit[grpc]",
        name="grpc",
    ) from _missing

from grpc import aio

from accredit.core.guard_rules import GuardRule, Rules, public
from accredit.core.guarding import Refusal, RequiredScope, required_scope
from accredit.errors import AccreditError, ConfigurationError
from accredit.resource_server._rpc_status import RpcStatus, rpc_status
from accredit.resource_server.guard import AsyncVerifier, Guard, Verifier

__all__ = ["HEALTH", "REFLECTION", "AioGrpcGuard", "GrpcGuard", "current_token"]

#: Rules that leave the health service, and the reflection services, open to everybody: for ``rules``, if so wanted.
HEALTH: Final[GuardRule] = public("/grpc.health.v1.Health/*")
REFLECTION: Final[tuple[GuardRule, ...]] = (
    public("/grpc.reflection.v1.ServerReflection/*"),
    public("/grpc.reflection.v1alpha.ServerReflection/*"),
)
_AUTHORIZATION: Final = "authorization"
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
# What a rule may be for: one method, and (with "/*" behind it) a service.
_CALLABLE: Final = {False: re.compile(r"/[^\s/]+(/[^\s/]+)+"), True: re.compile(r"(/[^\s/]+)+")}
_KINDS: Final = (
    ("unary_unary", grpc.unary_unary_rpc_method_handler),
    ("unary_stream", grpc.unary_stream_rpc_method_handler),
    ("stream_unary", grpc.stream_unary_rpc_method_handler),
    ("stream_stream", grpc.stream_stream_rpc_method_handler),
)
_log = logging.getLogger("accredit.resource_server")
_current: ContextVar[Any] = ContextVar("accredit_grpc_token", default=None)


def current_token() -> Any:
    """Return the verified token of the call that is being handled, a :class:`accredit.core.access_token.VerifiedToken`.

    It was good when the call began; a stream that outlives it is not cut off (look at ``expires_at`` if it should be).

    Raises:
        ConfigurationError: there is none: the method is public, no guard stands before the server, or this is
            another thread than that of the handler.

    """
    token = _current.get()
    if token is None:
        raise ConfigurationError(
            "no access token was verified for this call.",
            advice="Ask in the handler of a method that is not public, and put a guard among the interceptors.",
        )
    return token


class _RpcGuard(Guard):
    """What both guards decide alike: what a method needs, and how a call ends that is refused."""

    _server: ClassVar[str]
    _asynchronous: ClassVar[bool]

    def __init__(
        self,
        verifier: Verifier | AsyncVerifier,
        *,
        scope: str | Iterable[str] = (),
        any_of: str | Iterable[str] = (),
        rules: GuardRule | Iterable[GuardRule | Iterable[GuardRule]] = (),
        realm: str = "api",
        resource_metadata: str | None = None,
        retry_after: float = 10.0,
        on_refusal: Callable[[Refusal], object] | None = None,
    ) -> None:
        """Keep what calls are judged by.

        Args:
            verifier: a :class:`accredit.verifier.TokenVerifier`; either face will do.
            scope: the scopes of which every one is needed, where no rule says otherwise; by default any valid token
                will do.
            any_of: scopes of which one is enough, likewise.
            rules: what methods need: ``rule("/shop.Orders/Create", "orders:write")`` for one method,
                ``rule("/shop.Orders/*", any_of=...)`` for a service, ``public(...)``, :data:`HEALTH` and
                :data:`REFLECTION` for those that need no token. The longest name wins.
            realm: as for :class:`accredit.resource_server.Guard`.
            resource_metadata: likewise.
            retry_after: likewise, for ``RetryInfo``.
            on_refusal: likewise.

        Raises:
            ConfigurationError: naming the argument at fault.

        """
        super().__init__(
            verifier,
            realm=realm,
            resource_metadata=resource_metadata,
            retry_after=retry_after,
            on_refusal=on_refusal,
        )
        if (self._verify_async if self._asynchronous else self._verify) is None:
            raise ConfigurationError(
                f"it cannot be used in a {self._server}.",
                advice="Give an accredit.verifier.TokenVerifier, which has both faces.",
                key="verifier",
            )
        flat = _flat(rules)
        if any(each.methods for each in flat):
            raise ConfigurationError(
                "a rule is for HTTP methods, and gRPC knows only one.", advice="Leave methods out.", key="rules"
            )
        for each in flat:
            # A rule that no call could ever match would protect nothing, and nobody would notice.
            if not (each.below if each.path == "/" else _CALLABLE[each.below].fullmatch(each.path)):
                raise ConfigurationError(
                    f"the rule for {each.path!r} is for no method that a call could name.",
                    advice="Write '/package.Service/Method', '/package.Service/*' or '/*'.",
                    key="rules",
                )
        self._rules = Rules(flat, required_scope(scope, any_of))

    def _needed(self, method: str) -> RequiredScope | None:
        return self._rules.find(method, "POST")

    def _defect(self, error: Exception, needed: RequiredScope) -> Refusal:
        """Close the door after something unexpected: gRPC would tell the caller what it says."""
        _log.error("a verifier raised %s, which is no error of this library", type(error).__name__)
        return self.refused(self.policy.refuse(AccreditError("the token could not be checked."), needed))


class GrpcGuard(_RpcGuard, grpc.ServerInterceptor):
    """An interceptor of a ``grpc.server`` that lets calls with a good token through."""

    _server = "grpc.server"
    _asynchronous = False

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return the handler of a call with a guard before it."""
        needed = self._needed(handler_call_details.method)
        if needed is None:
            return continuation(handler_call_details)
        fields = _fields(handler_call_details)
        read = self.policy.read(fields, needed)
        if isinstance(read, Refusal):
            # Before a request is even received. What takes longer is not for this thread, which serves all calls.
            return _refusing(rpc_status(self.refused(read), needed))
        handler = continuation(handler_call_details) or grpc.stream_stream_rpc_method_handler(_not_found)
        return _wrapped(handler, lambda behavior: self._guarded(behavior, fields, needed))

    def _guarded(self, behavior: Any, fields: list[Any], needed: RequiredScope) -> Any:
        @functools.wraps(behavior)
        def run(request: Any, context: Any, *more: Any) -> Any:
            admitted = self._admitted(fields, needed)
            if isinstance(admitted, Refusal):
                _abort(context, rpc_status(admitted, needed))
            # gRPC runs each call in a context of its own.
            _current.set(admitted)
            return behavior(request, context, *more)

        return run

    def _admitted(self, fields: list[Any], needed: RequiredScope) -> Any | Refusal:
        try:
            return self.admit(fields, needed)
        except Exception as error:
            return self._defect(error, needed)


class AioGrpcGuard(_RpcGuard, aio.ServerInterceptor):
    """An interceptor of a ``grpc.aio.server`` that lets calls with a good token through."""

    _server = "grpc.aio.server"
    _asynchronous = True

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return the handler of a call that is let in, or one that ends it."""
        needed = self._needed(handler_call_details.method)
        if needed is None:
            return await continuation(handler_call_details)
        try:
            admitted = await self.admit_async(_fields(handler_call_details), needed)
        except Exception as error:
            admitted = self._defect(error, needed)
        if isinstance(admitted, Refusal):
            return _aio_refusing(rpc_status(admitted, needed))
        # The handler runs in this very context, if it is asynchronous.
        _current.set(admitted)
        handler = await continuation(handler_call_details)
        return None if handler is None else _wrapped(handler, _in_thread)


# -- handlers ---------------------------------------------------------------------------------------------------------


def _wrapped(handler: Any, wrap: Callable[[Any], Any]) -> Any:
    """Return a handler whose function was wrapped; the same handler if the function is still the same."""
    name, make = _KINDS[2 * bool(handler.request_streaming) + bool(handler.response_streaming)]
    behavior = getattr(handler, name)
    wrapped = wrap(behavior)
    if wrapped is behavior:
        return handler
    return make(wrapped, handler.request_deserializer, handler.response_serializer)


def _in_thread(behavior: Any) -> Any:
    """Return a function that finds the token although grpc.aio runs it in other threads; None of them if it does not.

    A generator goes on in whichever thread is free, so every step of it runs in the context of the call.
    """
    if inspect.isawaitable(behavior) or inspect.iscoroutinefunction(behavior) or inspect.isasyncgenfunction(behavior):
        return behavior
    context = contextvars.copy_context()

    @functools.wraps(behavior)
    def run(request: Any, rpc_context: Any) -> Any:
        result = context.run(behavior, request, rpc_context)
        return _steps(context, result) if isinstance(result, Iterator) else result

    return run


def _steps(context: contextvars.Context, iterator: Iterator[Any]) -> Iterator[Any]:
    end = object()
    while (step := context.run(next, iterator, end)) is not end:
        yield step


def _refusing(status: RpcStatus) -> Any:
    # As a stream of both kinds it is called at once, whatever kind of call it ends.
    return grpc.stream_stream_rpc_method_handler(lambda _requests, context: _abort(context, status))


def _abort(context: Any, status: RpcStatus) -> Any:
    context.set_trailing_metadata(status.trailing_metadata)
    context.abort(_CODES[status.code], status.details)


def _not_found(_requests: Any, context: Any) -> Any:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


def _aio_refusing(status: RpcStatus) -> Any:
    async def refuse(_requests: Any, context: Any) -> None:
        await context.abort(_CODES[status.code], status.details, status.trailing_metadata)

    return grpc.stream_stream_rpc_method_handler(refuse)


def _flat(rules: GuardRule | Iterable[GuardRule | Iterable[GuardRule]]) -> list[GuardRule]:
    """Return the rules one by one; those of a constant such as :data:`REFLECTION` are several."""
    flat: list[Any] = []
    for given in (rules,) if isinstance(rules, GuardRule) else rules:
        flat += [given] if isinstance(given, GuardRule | str) or not isinstance(given, Iterable) else given
    if not all(isinstance(each, GuardRule) for each in flat):
        raise ConfigurationError(
            "one of them is no rule.", advice="Make each with rule(...) or public(...), or give HEALTH.", key="rules"
        )
    return flat


def _fields(details: Any) -> list[str | bytes]:
    return [value for key, value in details.invocation_metadata or () if key == _AUTHORIZATION]
