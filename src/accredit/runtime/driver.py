"""The production driver: answers each effect of a flow with a blocking call on this thread."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import Callable, Generator
from typing import Protocol, TypeVar

from accredit.clock import Clock
from accredit.core import effects
from accredit.core.effects import Credential, Effect, Instant
from accredit.core.events import Event
from accredit.core.messages import Failure, Request, Response
from accredit.core.metadata import ServerMetadata
from accredit.core.records import Claimed, Lead, StoreDown
from accredit.core.secret import Secret, SecretSource
from accredit.errors import ConfigurationError
from accredit.runtime.flight import Flight
from accredit.runtime.leases import LEASE_SECONDS, Leases
from accredit.secret_sources import SecretReader

T = TypeVar("T")
_MOST_METADATA = 1024


class Transport(Protocol):
    """Sends one request to an authorization server; what goes wrong on the way is an answer, not an exception."""

    def send(self, request: Request, *, timeout: float) -> Response | Failure:
        """Send and receive within ``timeout`` seconds in total."""

    def after_fork(self) -> None:
        """Forget what is open, in a forked child."""

    def close(self) -> None:
        """Close what is open."""


class StorePort(Protocol):
    """What performs the effects that concern a store."""

    @property
    def in_process(self) -> bool:
        """Whether what is kept is seen by this process alone."""

    @property
    def tag_key(self) -> bytes | None:
        """The key for tags of credentials that others can compare; None when there is none."""

    def perform(self, effect: effects.StoreEffect) -> object:
        """Perform the effect; what goes wrong is an answer."""


class NoStore:
    """For flows that keep nothing."""

    @property
    def in_process(self) -> bool:
        """True: nobody else sees what is not kept."""
        return True

    @property
    def tag_key(self) -> bytes | None:
        """None: nobody compares."""
        return None

    def perform(self, effect: effects.StoreEffect) -> object:
        """Answer that there is no store."""
        del effect
        return StoreDown()


class Driver:
    """Runs flows to their end. Holds what they need of the world: clocks, chance, secrets, transport, store."""

    def __init__(
        self,
        *,
        clock: Clock,
        store: StorePort,
        transport: Callable[[], Transport],
        chance: random.Random,
        emit: Callable[[Event], None],
        threads: bool = True,
    ) -> None:
        """Open nothing yet; the transport is made with the first request.

        Args:
            clock: the clocks.
            store: the store.
            transport: makes the transport.
            chance: what is drawn from.
            emit: told of events.
            threads: whether a thread may extend leases.

        """
        self._clock = clock
        self._store = store
        self._make_transport = transport
        self._transport: Transport | None = None
        self._random = chance
        self._emit = emit
        self._tag_key = os.urandom(32)
        self._secrets = SecretReader()
        # What nobody else sees ends by itself soon enough.
        self._leases = Leases(clock, store.perform) if threads and not store.in_process else None
        self._lock = threading.Lock()
        self._metadata: dict[str, tuple[ServerMetadata, float]] = {}
        self._shared: dict[tuple[str, ...], Flight[object]] = {}

    def run(self, flow: Generator[Effect, object, T]) -> T:
        """Run a flow to its end on this thread."""
        answer: object = None
        owner: str | None = None
        try:
            while True:
                try:
                    effect = flow.send(answer)
                except StopIteration as end:
                    result: T = end.value
                    return result
                if isinstance(effect, effects.Claim):
                    owner = effect.owner
                answer = self._perform(effect)
        finally:
            if owner is not None and self._leases is not None:
                self._leases.let_go(owner)

    def close(self) -> None:
        """Close the transport."""
        transport = self._transport
        if transport is not None:
            transport.close()

    def after_fork(self) -> None:
        """Replace locks; what the parent shared is not ours."""
        self._lock = threading.Lock()
        self._shared = {}
        self._secrets.after_fork()
        if self._leases is not None:
            self._leases.after_fork()
        if self._transport is not None:
            self._transport.after_fork()

    def _perform(self, effect: Effect) -> object:  # noqa: PLR0911 - one answer per effect
        match effect:
            case effects.Now():
                return Instant(self._clock.now(), self._clock.wall())
            case effects.Random():
                return self._random.random()
            case effects.Nonce():
                return self._random.getrandbits(32)
            case effects.Pause(seconds):
                self._pause(seconds)
                return None
            case effects.Emit(event):
                self._emit(event)
                return None
            case effects.ReadSecret(source):
                return self._read_secret(source)
            case effects.Send(request, timeout):
                return self._send(request, timeout)
            case effects.LoadMetadata(key):
                kept = self._metadata.get(key)
                return None if kept is None else (kept[0], self._clock.now() - kept[1])
            case effects.KeepMetadata(key, metadata):
                self._keep_metadata(key, metadata)
                return None
            case effects.Share():
                return self._share(effect)
            case effects.Claim() if self._leases is not None:
                return self._claim(effect, self._leases)
            case effects.Publish() | effects.Fail() if self._leases is not None:
                self._leases.let_go(effect.owner)
                return self._store.perform(effect)
            case _:
                return self._store.perform(effect)

    def _claim(self, effect: effects.Claim, leases: Leases) -> object:
        # In short pieces, since this process extends it for as long as it lives.
        effect = effect._replace(lease=min(effect.lease, LEASE_SECONDS))
        answer = self._store.perform(effect)
        if isinstance(answer, Claimed) and isinstance(answer.directive, Lead):
            leases.keep(effect)
        return answer

    def _send(self, request: Request, timeout: float) -> Response | Failure | ConfigurationError:
        outcome: Response | Failure | ConfigurationError
        try:
            outcome = self._open_transport().send(request, timeout=timeout)
        except ConfigurationError as error:  # a CA file, a client certificate or a proxy variable that cannot be used
            outcome = error.fresh()
        return outcome

    def _pause(self, seconds: float) -> None:
        gate = threading.Lock()
        gate.acquire()
        self._clock.wait(gate, seconds)

    def _keep_metadata(self, key: str, metadata: ServerMetadata) -> None:
        if len(self._metadata) >= _MOST_METADATA:
            self._metadata.clear()
        self._metadata[key] = (metadata, self._clock.now())

    def _read_secret(self, source: SecretSource | None) -> Credential | ConfigurationError:
        if source is None:
            return Credential(None, "")
        secret: Secret | ConfigurationError
        try:
            secret = self._secrets.read(source)
        except ConfigurationError as error:
            secret = error.fresh()
        if isinstance(secret, ConfigurationError):
            return secret
        # Keyed, so that nobody can guess secrets from it: by the fleet's key where there is one, so that pods with the
        # same secret know it of each other, else by this process alone, so that elsewhere it means nothing.
        key = self._store.tag_key or self._tag_key
        tag = hashlib.blake2b(secret.reveal().encode(), key=key, digest_size=16).hexdigest()
        return Credential(secret, tag)

    def _open_transport(self) -> Transport:
        with self._lock:
            if self._transport is None:
                self._transport = self._make_transport()
            return self._transport

    def _share(self, effect: effects.Share) -> object:
        with self._lock:
            flight = self._shared.get(effect.key)
            mine = flight is None
            if flight is None:
                flight = self._shared[effect.key] = Flight()
        if not mine:
            return flight.outcome if flight.wait(self._clock, effect.timeout) else None
        result: object = None
        try:
            result = self.run(effect.flow())
        finally:
            with self._lock:
                self._shared.pop(effect.key, None)
            flight.settle(result)
        return result
