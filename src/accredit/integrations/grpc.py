"""Tokens for gRPC calls, on channels of ``grpc`` and of ``grpc.aio``.

Example::

    auth = AccreditAuth(manager)
    with auth.secure_channel("orders.example.com:443") as channel:
        stub = OrdersStub(channel)
        stub.List(ListRequest())
        with auth.choosing(scope="orders:write"):
            stub.Create(order)

    async with auth.aio_secure_channel("orders.example.com:443") as channel:
        await OrdersStub(channel).List(ListRequest())

"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

try:
    import grpc
except ModuleNotFoundError as _missing:
    if _missing.name != "grpc":
        raise
    raise ImportError(
        "accredit.integrations.grpc needs the package grpcio: install accredit[grpc]",
        name="grpc",
    ) from _missing

from grpc import aio

from accredit.core.calls import Texts
from accredit.core.strict import StrictError, origin_of
from accredit.core.token import AccessToken
from accredit.errors import AccreditError, ConfigurationError
from accredit.integrations._grpc_aio import interceptors_for
from accredit.integrations._grpc_outcome import NoTokenError
from accredit.integrations._grpc_plan import Planner, choosing
from accredit.integrations._grpc_sync import Interceptor
from accredit.integrations._grpc_target import target_origin
from accredit.integrations._tokens import Attachment
from accredit.manager import is_loopback_origin

__all__ = ["AccreditAuth", "NoTokenError"]

_Options = Sequence[tuple[str, Any]]


class AccreditAuth(Attachment, grpc.AuthMetadataPlugin):
    """Attaches an access token to gRPC calls of every kind. Threads and tasks may share it.

    :meth:`secure_channel` and its sisters open channels whose calls carry the token; a call that is refused with
    UNAUTHENTICATED is sent once more with a newer one, if its request can be and no response has come. For channels
    that you open yourself there are :meth:`interceptor` and :meth:`aio_interceptors`; for a part of gRPC that takes
    nothing but credentials there is :meth:`call_credentials`, which attaches the token and no more.

    The token of some calls is chosen with :meth:`choosing`, that of a channel with ``using(...)``. An ``authorization``
    of the call's own metadata wins, and so do ``credentials`` of the call. The token goes to ``api_origins`` of the
    registration only, and over plaintext to loopback only, or with ``allow_insecure_http``.

    Raises:
        NoTokenError: out of the call, when no token can be had; it is never sent without.

    """

    def __repr__(self) -> str:
        """Say which library it is for."""
        return "<AccreditAuth for grpc>"

    # -- channels -----------------------------------------------------------------------------------------------

    def secure_channel(
        self,
        target: str,
        credentials: grpc.ChannelCredentials | None = None,
        options: _Options | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.Channel:
        """Return a channel over TLS whose calls carry the token.

        Args:
            target: the server, such as ``"orders.example.com:443"``.
            credentials: of the channel; TLS with the roots of gRPC when None.
            options: options of the channel.
            compression: compression of the channel.

        """
        channel = grpc.secure_channel(target, credentials or grpc.ssl_channel_credentials(), options, compression)
        return grpc.intercept_channel(channel, self._interceptor(target_origin(target, secure=True, options=options)))

    def insecure_channel(
        self, target: str, options: _Options | None = None, compression: grpc.Compression | None = None
    ) -> grpc.Channel:
        """Return a channel without TLS whose calls carry the token: on loopback, or in a mesh.

        Raises:
            ConfigurationError: the target is not this machine, and the registration does not ``allow_insecure_http``.

        """
        origin = self._plaintext(target, options)
        return grpc.intercept_channel(grpc.insecure_channel(target, options, compression), self._interceptor(origin))

    def aio_secure_channel(
        self,
        target: str,
        credentials: grpc.ChannelCredentials | None = None,
        options: _Options | None = None,
        compression: grpc.Compression | None = None,
        interceptors: Sequence[aio.ClientInterceptor] = (),
    ) -> aio.Channel:
        """Return a channel of ``grpc.aio`` over TLS whose calls carry the token.

        Args:
            target: the server, such as ``"orders.example.com:443"``.
            credentials: of the channel; TLS with the roots of gRPC when None.
            options: options of the channel.
            compression: compression of the channel.
            interceptors: further ones, which see a call before this library does, and once for both its attempts.

        """
        origin = target_origin(target, secure=True, options=options)
        return aio.secure_channel(
            target,
            credentials or grpc.ssl_channel_credentials(),
            options,
            compression,
            [*interceptors, *self._aio_interceptors(origin)],
        )

    def aio_insecure_channel(
        self,
        target: str,
        options: _Options | None = None,
        compression: grpc.Compression | None = None,
        interceptors: Sequence[aio.ClientInterceptor] = (),
    ) -> aio.Channel:
        """Return a channel of ``grpc.aio`` without TLS whose calls carry the token: on loopback, or in a mesh.

        Raises:
            ConfigurationError: the target is not this machine, and the registration does not ``allow_insecure_http``.

        """
        origin = self._plaintext(target, options)
        return aio.insecure_channel(target, options, compression, [*interceptors, *self._aio_interceptors(origin)])

    # -- the parts --------------------------------------------------------------------------------------------

    def interceptor(self, origin: str) -> Interceptor:
        """Return an interceptor for ``grpc.intercept_channel``.

        Args:
            origin: whom the channel talks to, for gRPC does not tell an interceptor: ``"https://host:port"`` for one
                with TLS, ``"http://host:port"`` for one without.

        Raises:
            ConfigurationError: that is no origin.

        """
        return self._interceptor(_checked(origin))

    def aio_interceptors(self, origin: str) -> list[aio.ClientInterceptor]:
        """Return interceptors for a channel of ``grpc.aio``, one for each kind of call; otherwise as above."""
        return self._aio_interceptors(_checked(origin))

    def call_credentials(self) -> grpc.CallCredentials:
        """Return credentials of a call, for the call itself or ``grpc.composite_channel_credentials``.

        They attach the token, over TLS only by gRPC's own rule, and learn nothing of refusals. gRPC ends a call for
        which no token can be had with UNAVAILABLE, and the text of the typed error. Not together with an interceptor
        on one channel: then a call would carry two tokens.
        """
        return grpc.metadata_call_credentials(self, "accredit")

    def choosing(
        self,
        registration: str | None = None,
        *,
        scope: Texts | None = None,
        resource: Texts | None = None,
        audience: str | None = None,
        principal: str | None = None,
    ) -> AbstractContextManager[None]:
        """Choose another token of the same manager for the calls that begin in this context.

        Arguments as for :meth:`using`. Works for every channel whose token comes from the manager, by whichever
        interceptor, and for the calls of this thread or task only. Call credentials do not see it: use
        ``using(...).call_credentials()`` there.
        """
        choice = self._choice.vary(registration, scope=scope, resource=resource, audience=audience, principal=principal)
        return choosing(self._tokens, choice)

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        """Hand the metadata of a call to gRPC, from the thread of the flight if there is one; waits for nothing."""
        withheld = False
        failure: AccreditError | None = None
        slot = None
        try:
            slot = self._tokens.slot(self._choice)
            withheld = not self._tokens.allows(slot, _checked(context.service_url))
        except AccreditError as error:
            failure = error.fresh()
        if failure is not None or slot is None:
            callback((), failure)
        elif withheld:
            callback((), None)
        else:
            self._tokens.obtain_then(slot, lambda result: _answer(callback, result))

    # -- inside -------------------------------------------------------------------------------------------------

    def _planner(self, origin: str) -> Planner:
        return Planner(self._tokens, self._choice, origin)

    def _interceptor(self, origin: str) -> Interceptor:
        return Interceptor(self._planner(origin))

    def _aio_interceptors(self, origin: str) -> list[aio.ClientInterceptor]:
        return interceptors_for(self._planner(origin))

    def _plaintext(self, target: str, options: _Options | None) -> str:
        origin = target_origin(target, secure=False, options=options)
        if not is_loopback_origin(origin):
            registration = self._tokens.slot(self._choice).request.registration
            if not registration.allow_insecure_http:
                raise ConfigurationError(
                    f"a channel without TLS to {origin}, over which anybody on the way could read the token.",
                    advice="Use secure_channel(), or set allow_insecure_http of the registration inside a mesh.",
                    key=f"registration.{registration.id}.allow_insecure_http",
                )
        return origin


def _answer(callback: grpc.AuthMetadataPluginCallback, result: AccessToken | AccreditError) -> None:
    if isinstance(result, AccessToken):
        callback((("authorization", result.authorization),), None)
    else:
        callback((), result)


def _checked(url: str) -> str:
    origin: str | None
    try:
        origin = origin_of(url)
    except StrictError:
        origin = None
    if origin is None:
        raise ConfigurationError(
            "the origin of the channel is not of the form https://host[:port], or http:// without TLS.",
            advice="Give the origin of the server that the channel talks to.",
            key="origin",
        )
    return origin
