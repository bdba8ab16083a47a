"""The two faces of the engine: :class:`TokenManager` for threads, :class:`AsyncTokenManager` for asyncio and trio.

Both have the same methods. Faces made of one another (:meth:`TokenManager.asynchronous`) share one engine: one cache,
one flight, whichever way a process asks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from accredit.clock import Clock
from accredit.core.events import TokenWithheld
from accredit.core.registration import ClientRegistration, kept_texts, token_request_for
from accredit.core.token import AccessToken
from accredit.engine import Engine, Renewal
from accredit.errors import ConfigurationError
from accredit.instrumentation import Hook
from accredit.registrations import RegistrationRepository, Registrations, find
from accredit.runtime.driver import Transport
from accredit.runtime.parts import check_parts
from accredit.runtime.slot import Slot
from accredit.stores.contract import Store
from accredit.stores.memory import MemoryStore

RegistrationsLike = ClientRegistration | Iterable[ClientRegistration] | RegistrationRepository
Texts = str | Iterable[str]
_FEWEST_ALIASES = 4096
# A flight ends by its own deadline; a caller that waits for as long lets it say what went wrong.
_GRACE = 0.05
# Most seconds for a store to give back what it has open; what takes longer goes on beside.
_CLOSE_SECONDS = 5.0


class FreshKeeping:
    """What :meth:`TokenManager.keep_fresh` returns: renews until it is stopped. Also a context manager."""

    def __init__(self, engine: Engine, slot: Slot) -> None:
        """Start keeping."""
        self._engine = engine
        self._slot: Slot | None = engine.keep(slot)

    def stop(self) -> None:
        """Stop renewing without traffic; the token stays."""
        slot, self._slot = self._slot, None
        if slot is not None:
            self._engine.keeper.release(slot)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()


class _Face:
    """What both faces do alike: everything but waiting."""

    def __init__(
        self,
        registrations: RegistrationsLike,
        *,
        default: str | None = None,
        store: Store | None = None,
        transport: Transport | None = None,
        renewal: Renewal = "thread",
        max_entries: int = 10_000,
        on_event: Hook | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Put the parts together. Nothing is opened, read or sent, and no thread starts.

        Args:
            registrations: one registration, several, or any object with ``get(id)``.
            default: id of the registration for calls that name none; a sole registration is the default.
            store: where tokens are kept beyond the first level; a bounded in-memory store unless given.
            transport: sends token requests; the library's own unless given.
            renewal: ``"thread"``, or ``"inline"`` where no threads can be had: then a caller's own thread
                makes the request (the asynchronous face blocks its loop meanwhile), and resolves names, which no
                deadline bounds then.
            max_entries: most identities in the first level of this process.
            on_event: told of events, see :mod:`accredit.instrumentation`.
            clock: the clocks, for tests that steer time.

        Raises:
            ConfigurationError: an argument is wrong.

        """
        if renewal not in {"thread", "inline"}:
            raise ConfigurationError(
                "renewal is neither 'thread' nor 'inline'.",
                advice="Use one of them.",
                key="renewal",
            )
        check_parts(store=store, transport=transport, on_event=on_event, max_entries=max_entries)
        if isinstance(registrations, ClientRegistration):
            registrations = (registrations,)
        repository: RegistrationRepository
        if isinstance(registrations, RegistrationRepository) and not isinstance(registrations, dict):
            repository = registrations
            if default is None:
                default = getattr(registrations, "default", None)
        elif isinstance(registrations, Iterable):
            values = registrations.values() if isinstance(registrations, dict) else registrations
            repository = Registrations(values, default=default)
            default = repository.default
        else:
            raise ConfigurationError(
                f"registrations is a {type(registrations).__name__}.",
                advice="Give a ClientRegistration, several, or an object with get(id).",
                key="registrations",
            )
        self._repository: RegistrationRepository = repository
        self._default = default
        self._fixed = isinstance(repository, Registrations)
        self._engine = Engine(
            store=store if store is not None else MemoryStore(clock=clock.now if clock is not None else None),
            transport=(lambda: _default_transport(renewal)) if transport is None else lambda: transport,
            clock=clock,
            renewal=renewal,
            max_entries=max_entries,
            hooks=() if on_event is None else (on_event,),
        )
        self._now = self._engine.now
        self._aliases: dict[object, Slot] = {}

    @classmethod
    def from_config(cls, path: str | os.PathLike[str] | None = None, **settings: object) -> Self:
        """Make a manager from a TOML file and the environment, see :func:`accredit.config.load`.

        Args:
            path: the file; when None, the one named by ``ACCREDIT_CONFIG``, if any.
            **settings: further settings of the constructor; ``store`` goes over what the file says of the store.

        Raises:
            ConfigurationError: naming the key, the reason and the fix.
            ImportError: the configured store needs an extra that is not installed.

        """
        from accredit.config import load_configuration

        configured = load_configuration(None if path is None else Path(path))
        if configured.store is not None and settings.get("store") is None:
            clock = settings.get("clock")
            settings["store"] = configured.store.open(clock=clock)  # type: ignore[arg-type]  # checked by cls
        return cls(configured.registrations, **settings)  # type: ignore[arg-type]  # checked by cls

    def share_engine(self, other: _Face) -> Self:
        """Become another face of the engine of ``other``."""
        self._repository = other._repository
        self._default = other._default
        self._fixed = other._fixed
        self._engine = other._engine
        self._now = other._now
        self._aliases = other._aliases
        return self

    def _slot(
        self,
        registration: str | None,
        scope: Texts | None,
        resource: Texts | None,
        audience: str | None,
        principal: str | None,
    ) -> Slot:
        """Return the slot of a call; identities that were used of late are found by the arguments as given."""
        if scope is not None and not isinstance(scope, str):
            scope = kept_texts(scope, key="scope")
        if resource is not None and not isinstance(resource, str):
            resource = kept_texts(resource, key="resource")
        plain = scope is None and resource is None and audience is None and principal is None
        alias: object = registration if plain else (registration, scope, resource, audience, principal)
        try:
            slot = self._aliases.get(alias)
        except TypeError:  # No text is without a hash: what was given is refused further on, by its name.
            slot = None
        if slot is not None and not slot.evicted and self._fixed:
            return slot
        found = find(self._repository, registration, self._default)
        if slot is not None and not slot.evicted and slot.request.registration is found:
            return slot
        request = token_request_for(
            found,
            scope=scope,
            resource=resource,
            audience=audience,
            principal=principal,
        )
        slot = self._engine.slot_for(request)
        # As many as there may be identities, so that those in use are all found the short way.
        if len(self._aliases) >= max(_FEWEST_ALIASES, self._engine.max_entries):
            self._aliases.clear()
        self._aliases[alias] = slot
        return slot

    def peek(
        self,
        registration: str | None = None,
        *,
        scope: Texts | None = None,
        resource: Texts | None = None,
        audience: str | None = None,
        principal: str | None = None,
    ) -> AccessToken | None:
        """Return the usable token this process holds, or None. It never fetches and does no I/O.

        Raises:
            ConfigurationError: the registration does not exist, or an argument is wrong.

        """
        return self._engine.peek(self._slot(registration, scope, resource, audience, principal))

    def suspect(self, token: AccessToken) -> None:
        """Report that an API refused ``token``; the next caller waits for a newer one, if one can be had.

        For code that handles a 401 by itself; the integrations do it on their own. A late report about a token
        that was replaced meanwhile does nothing.

        Raises:
            ConfigurationError: it is not what :meth:`get` returned.

        """
        if not isinstance(token, AccessToken):
            kind = type(token).__name__
            del token  # It may be the value of one, and is not to hang on the traceback.
            raise ConfigurationError(
                f"token is a {kind}, not an AccessToken.", advice="Report what get() returned.", key="token"
            )
        slot = self._engine.slots.get(token.fingerprint)
        if slot is not None:
            self._engine.suspect(slot, token)

    def keep_fresh(
        self,
        registration: str | None = None,
        *,
        scope: Texts | None = None,
        resource: Texts | None = None,
        audience: str | None = None,
        principal: str | None = None,
    ) -> FreshKeeping:
        """Renew on schedule, also with no traffic, until stopped; starts at once, in the background.

        Returns:
            a handle with ``stop()``, which is also a context manager.

        Raises:
            ConfigurationError: the registration does not exist, or an argument is wrong.

        """
        return FreshKeeping(self._engine, self._slot(registration, scope, resource, audience, principal))

    def _allows(self, slot: Slot, origin: str) -> bool:
        """Tell whether the token of ``slot`` may be sent to that origin; an event when it may not."""
        registration = slot.request.registration
        origins = registration.origins
        allowed = origins is None or origin in origins
        if allowed and not origin.startswith("https://"):
            allowed = registration.allow_insecure_http or is_loopback_origin(origin)
        if not allowed:
            self._engine.emit(TokenWithheld(registration.id, slot.request.principal, origin))
        return allowed


class TokenManager(_Face):
    """Tokens for threads. Safe to share between threads; make one per process and keep it.

    Example::

        manager = TokenManager(ClientRegistration(
            id="api-client", issuer="https://idp.example.com",
            client_id="orders-worker", client_auth=ClientSecretBasic(Secret.from_file("/run/secrets/orders")),
        ))
        token = manager.get()

    """

    def get(
        self,
        registration: str | None = None,
        *,
        scope: Texts | None = None,
        resource: Texts | None = None,
        audience: str | None = None,
        principal: str | None = None,
        timeout: float | None = None,
    ) -> AccessToken:
        """Return a token: at once while one is usable, else after the one flight that all callers share.

        Args:
            registration: id of the registration; the default one when None.
            scope: scopes instead of the registration's, a space-separated text or an iterable (RFC 6749, section 3.3).
            resource: resource indicators instead of the registration's (RFC 8707).
            audience: audience instead of the registration's.
            principal: principal instead of the registration's.
            timeout: most seconds to wait; the registration's ``deadline`` when None.

        Raises:
            ConfigurationError: the configuration or an argument is wrong.
            CredentialRefusedError: the authorization server does not accept the client's credential.
            RequestRefusedError: it does not grant what was asked.
            ThrottledError: it asked to come back later.
            MalformedResponseError: it answered nonsense.
            UnreachableError: it could not be reached in time.
            DiscoveryError: its metadata is missing or wrong.

        """
        if scope is None and resource is None and audience is None and principal is None and self._fixed:
            try:
                slot = self._aliases.get(registration)
            except TypeError:
                slot = None
            if slot is not None:
                token = slot.fresh
                if token is not None and self._now() < token.renew_at:
                    return token
                del token  # one that is over is not to hang on the traceback of what follows
        slot = self._slot(registration, scope, resource, audience, principal)
        return self._obtain(slot, None, timeout)

    def renew(
        self,
        registration: str | None = None,
        *,
        scope: Texts | None = None,
        resource: Texts | None = None,
        audience: str | None = None,
        principal: str | None = None,
        timeout: float | None = None,
    ) -> AccessToken:
        """Return a token newer than the one there is, renewing it now. Arguments and errors as for :meth:`get`."""
        slot = self._slot(registration, scope, resource, audience, principal)
        return self._obtain(slot, slot.generation(), timeout)

    def headers(
        self,
        registration: str | None = None,
        *,
        scope: Texts | None = None,
        resource: Texts | None = None,
        audience: str | None = None,
        principal: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, str]:
        """Return ``{"Authorization": "Bearer ..."}``. Arguments and errors as for :meth:`get`."""
        token = self.get(
            registration,
            scope=scope,
            resource=resource,
            audience=audience,
            principal=principal,
            timeout=timeout,
        )
        return {"Authorization": token.authorization}

    def remove(
        self,
        registration: str | None = None,
        *,
        scope: Texts | None = None,
        resource: Texts | None = None,
        audience: str | None = None,
        principal: str | None = None,
    ) -> None:
        """Forget the token, here and in the store. It is not revoked at the server."""
        slot = self._slot(registration, scope, resource, audience, principal)
        self._engine.remove(slot).wait(self._engine.clock, slot.request.registration.deadline)

    def asynchronous(self) -> AsyncTokenManager:
        """Return the asynchronous face of the same engine."""
        return AsyncTokenManager.__new__(AsyncTokenManager).share_engine(self)

    def close(self) -> None:
        """Stop renewing and close what is open. Calls that wait are answered; later ones raise ConfigurationError."""
        self._engine.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _obtain(self, slot: Slot, newer_than: int | None, timeout: float | None) -> AccessToken:
        engine = self._engine
        seconds, until = _patience(slot, timeout, self._now())
        while True:
            got = engine.acquire(slot, newer_than)
            if isinstance(got, AccessToken):
                return got
            if not got.wait(engine.clock, until - self._now()):
                return engine.late(slot, seconds, newer_than)
            token = engine.landed(slot, got, newer_than)
            if token is not None:
                return token

    def _replacement(
        self,
        slot: Slot,
        token: AccessToken,
        origin: str,
        timeout: float | None = None,
    ) -> AccessToken | None:
        """Return a newer token for a call that was answered 401, or None when the 401 is to reach the caller."""
        engine = self._engine
        _, until = _patience(slot, timeout, self._now())
        got = engine.refused(slot, token, origin)
        if got is None or isinstance(got, AccessToken):
            return got
        got.wait(engine.clock, until - self._now())
        return newer_token(got.outcome if got.done else None, token)


class AsyncTokenManager(_Face):
    """Tokens for tasks of asyncio and trio. One manager serves several loops; make one per process and keep it."""

    async def get(
        self,
        registration: str | None = None,
        *,
        scope: Texts | None = None,
        resource: Texts | None = None,
        audience: str | None = None,
        principal: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - a time-out object costs more than the whole call
    ) -> AccessToken:
        """Return a token: at once while one is usable, else after the one flight that all callers share.

        A caller that is cancelled hurts no other. Arguments and errors as for :meth:`TokenManager.get`.
        """
        if scope is None and resource is None and audience is None and principal is None and self._fixed:
            try:
                slot = self._aliases.get(registration)
            except TypeError:
                slot = None
            if slot is not None:
                token = slot.fresh
                if token is not None and self._now() < token.renew_at:
                    return token
                del token  # as in TokenManager.get
        slot = self._slot(registration, scope, resource, audience, principal)
        return await self._obtain(slot, None, timeout)

    async def renew(
        self,
        registration: str | None = None,
        *,
        scope: Texts | None = None,
        resource: Texts | None = None,
        audience: str | None = None,
        principal: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as for get
    ) -> AccessToken:
        """Return a token newer than the one there is, renewing it now. Arguments and errors as for :meth:`get`."""
        slot = self._slot(registration, scope, resource, audience, principal)
        return await self._obtain(slot, slot.generation(), timeout)

    async def headers(
        self,
        registration: str | None = None,
        *,
        scope: Texts | None = None,
        resource: Texts | None = None,
        audience: str | None = None,
        principal: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as for get
    ) -> dict[str, str]:
        """Return ``{"Authorization": "Bearer ..."}``. Arguments and errors as for :meth:`get`."""
        token = await self.get(
            registration,
            scope=scope,
            resource=resource,
            audience=audience,
            principal=principal,
            timeout=timeout,
        )
        return {"Authorization": token.authorization}

    async def remove(
        self,
        registration: str | None = None,
        *,
        scope: Texts | None = None,
        resource: Texts | None = None,
        audience: str | None = None,
        principal: str | None = None,
    ) -> None:
        """Forget the token, here and in the store. It is not revoked at the server."""
        slot = self._slot(registration, scope, resource, audience, principal)
        await self._engine.remove(slot).wait_async(slot.request.registration.deadline)

    def synchronous(self) -> TokenManager:
        """Return the synchronous face of the same engine."""
        return TokenManager.__new__(TokenManager).share_engine(self)

    async def close(self) -> None:
        """Stop renewing and close what is open. Calls that wait are answered; later ones raise ConfigurationError."""
        await self._engine.close_beside().wait_async(_CLOSE_SECONDS)

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        await self.close()

    async def _obtain(self, slot: Slot, newer_than: int | None, timeout: float | None) -> AccessToken:  # noqa: ASYNC109
        engine = self._engine
        seconds, until = _patience(slot, timeout, self._now())
        while True:
            got = engine.acquire(slot, newer_than)
            if isinstance(got, AccessToken):
                return got
            if not await got.wait_async(until - self._now()):
                return engine.late(slot, seconds, newer_than)
            token = engine.landed(slot, got, newer_than)
            if token is not None:
                return token

    async def _replacement(
        self,
        slot: Slot,
        token: AccessToken,
        origin: str,
        timeout: float | None = None,  # noqa: ASYNC109 - as for get
    ) -> AccessToken | None:
        """Return a newer token for a call that was answered 401, or None when the 401 is to reach the caller."""
        engine = self._engine
        _, until = _patience(slot, timeout, self._now())
        got = engine.refused(slot, token, origin)
        if got is None or isinstance(got, AccessToken):
            return got
        await got.wait_async(until - self._now())
        return newer_token(got.outcome if got.done else None, token)


def newer_token(outcome: object, token: AccessToken) -> AccessToken | None:
    """Return what a flight ended with if it is another token than the one that was refused, and not over; else None."""
    if not isinstance(outcome, AccessToken) or outcome.generation == token.generation:
        return None
    # A process that was stopped after the flight landed may come by when the token is over.
    if outcome.clock() < outcome.usable_until:
        return outcome
    return None


def _patience(slot: Slot, timeout: float | None, now: float) -> tuple[float, float]:
    """Return for how long (seconds) a caller waits, and until when on the local clock."""
    if timeout is None:
        deadline = slot.request.registration.deadline
        return deadline, now + deadline + _GRACE
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
        raise ConfigurationError("timeout is not a number of seconds.", advice="Give seconds.", key="timeout")
    return timeout, now + timeout


def is_loopback_origin(origin: str) -> bool:
    """Tell whether an origin (``http://host[:port]``) is this machine itself."""
    host = origin.partition("://")[2]
    host = host[1 : host.index("]")] if host.startswith("[") else host.partition(":")[0]
    return host in {"localhost", "::1"} or (host.startswith("127.") and host.replace(".", "").isdigit())


def _default_transport(renewal: Renewal) -> Transport:
    from accredit.transport import HttpTransport, TransportSettings

    return HttpTransport(TransportSettings(resolver_threads=renewal == "thread"))
