"""What a flow may ask of the world it runs in, and typed helpers to ask it.

A flow is a generator: it yields an effect and is sent back the answer. Every effect has one helper here, so that
``response = yield from send(request, timeout=3.0)`` is typed. Nothing here does anything; drivers do.

Effects are named tuples: there are many, and making that many dataclasses would show in the import time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Literal, NamedTuple, TypeVar, cast

from accredit.core.events import Event
from accredit.core.identity import Identity
from accredit.core.messages import Failure, Request, Response
from accredit.core.metadata import MetadataSource, ServerMetadata
from accredit.core.records import Claimed, Hold, Record, Stored, StoreDown
from accredit.core.secret import Secret, SecretSource
from accredit.errors import AuthorizationServerError, ConfigurationError

T = TypeVar("T")
ServerTrouble = AuthorizationServerError | ConfigurationError
SuspectOutcome = Literal["suspect", "newer", "cooling"]


class Instant(NamedTuple):
    """One reading of both clocks, in seconds.

    Attributes:
        local: the clock that tokens age on; it runs through suspend and never jumps.
        wall: seconds since the epoch.

    """

    local: float
    wall: float


class Credential(NamedTuple):
    """A secret that was read.

    Attributes:
        secret: the secret; None for a method without one.
        tag: a keyed tag that tells secrets apart and says nothing about them.

    """

    secret: Secret | None
    tag: str


class Now(NamedTuple):
    """Read the clocks. Answer: :class:`Instant`."""


class Random(NamedTuple):
    """Draw a number in ``[0, 1)``. Answer: float."""


class Nonce(NamedTuple):
    """Draw 32 random bits. Answer: int."""


class Pause(NamedTuple):
    """Let that many seconds pass. Answer: None."""

    seconds: float


class Emit(NamedTuple):
    """Tell the operator. Answer: None."""

    event: Event


class ReadSecret(NamedTuple):
    """Read a secret from its source. Answer: :class:`Credential` or ConfigurationError, as a value."""

    source: SecretSource | None


class Send(NamedTuple):
    """Send a request within ``timeout`` seconds. Answer: Response or Failure, or ConfigurationError as a value."""

    request: Request
    timeout: float


class LoadMetadata(NamedTuple):
    """Look for a metadata document kept in this process. Answer: ``(document, age in seconds)`` or None."""

    key: str


class KeepMetadata(NamedTuple):
    """Keep a metadata document in this process. Answer: None."""

    key: str
    metadata: ServerMetadata


class Share(NamedTuple):
    """Run ``flow`` unless one of the same key runs already; answer with the result of the one that ran.

    Answer: what the flow returns, or None when ``timeout`` seconds passed first.
    """

    key: tuple[str, ...]
    flow: Callable[[], Flow[object]]
    timeout: float


class Claim(NamedTuple):
    """Store: claim the right to renew. Answer: Claimed or StoreDown."""

    identity: Identity
    newer_than: int | None
    credential: str
    owner: str
    lease: float


class Publish(NamedTuple):
    """Store: publish a record and give the lease back. Answer: Stored (what is kept now) or StoreDown."""

    identity: Identity
    owner: str
    record: Record
    remaining: float
    credential: str
    based_on: int | None


class Fail(NamedTuple):
    """Store: give the lease back without a record, and hold. Answer: None or StoreDown."""

    identity: Identity
    owner: str
    hold: Hold | None


class Suspect(NamedTuple):
    """Store: mark a generation as refused by an API. Answer: SuspectOutcome or StoreDown."""

    identity: Identity
    generation: int
    origin: str


class Cool(NamedTuple):
    """Store: do not renew for a 401 of that origin for a while. Answer: None or StoreDown."""

    identity: Identity
    origin: str
    seconds: float


class Remove(NamedTuple):
    """Store: forget the record. Answer: None or StoreDown."""

    identity: Identity


class EndpointHold(NamedTuple):
    """Store: is that token endpoint and client throttled? Answer: Hold, None, or StoreDown."""

    key: str


class HoldEndpoint(NamedTuple):
    """Store: throttle that token endpoint and client for the whole fleet. Answer: None or StoreDown."""

    key: str
    hold: Hold


StoreEffect = Claim | Publish | Fail | Suspect | Cool | Remove | EndpointHold | HoldEndpoint
Effect = Now | Random | Nonce | Pause | Emit | ReadSecret | Send | LoadMetadata | KeepMetadata | Share | StoreEffect
Flow = Generator[Effect, object, T]


def now() -> Flow[Instant]:
    """Read the clocks."""
    return cast("Instant", (yield Now()))


def random() -> Flow[float]:
    """Draw a number in ``[0, 1)``."""
    return cast("float", (yield Random()))


def nonce() -> Flow[int]:
    """Draw 32 random bits."""
    return cast("int", (yield Nonce()))


def pause(seconds: float) -> Flow[None]:
    """Let time pass."""
    yield Pause(seconds)


def emit(event: Event) -> Flow[None]:
    """Tell the operator."""
    yield Emit(event)


def read_secret(source: SecretSource | None) -> Flow[Credential | ConfigurationError]:
    """Read a secret."""
    return cast("Credential | ConfigurationError", (yield ReadSecret(source)))


def send(request: Request, *, timeout: float) -> Flow[Response | Failure | ConfigurationError]:
    """Send a request."""
    return cast("Response | Failure | ConfigurationError", (yield Send(request, timeout)))


def load_metadata(key: str) -> Flow[tuple[ServerMetadata, float] | None]:
    """Look for a kept metadata document."""
    return cast("tuple[ServerMetadata, float] | None", (yield LoadMetadata(key)))


def keep_metadata(key: str, metadata: ServerMetadata) -> Flow[None]:
    """Keep a metadata document."""
    yield KeepMetadata(key, metadata)


def share_discovery(
    registration: MetadataSource,
    key: str,
    flow: Callable[[], Flow[ServerMetadata | ServerTrouble]],
    *,
    timeout: float,
) -> Flow[ServerMetadata | ServerTrouble | None]:
    """Run a discovery once for all that need it now."""
    effect = Share(("metadata", key, str(registration.allow_insecure_http)), flow, timeout)
    return cast("ServerMetadata | ServerTrouble | None", (yield effect))


def claim(
    identity: Identity,
    *,
    newer_than: int | None,
    credential: str,
    owner: str,
    lease: float,
) -> Flow[Claimed | StoreDown]:
    """Claim the right to renew."""
    return cast(
        "Claimed | StoreDown",
        (yield Claim(identity, newer_than, credential, owner, lease)),
    )


def publish(
    identity: Identity,
    *,
    owner: str,
    record: Record,
    remaining: float,
    credential: str,
    based_on: int | None,
) -> Flow[Stored | StoreDown]:
    """Publish a record."""
    effect = Publish(identity, owner, record, remaining, credential, based_on)
    return cast("Stored | StoreDown", (yield effect))


def fail(identity: Identity, *, owner: str, hold: Hold | None) -> Flow[None]:
    """Give the lease back, and hold."""
    yield Fail(identity, owner, hold)


def mark_suspect(identity: Identity, *, generation: int, origin: str) -> Flow[SuspectOutcome | StoreDown]:
    """Mark a generation as refused."""
    return cast("SuspectOutcome | StoreDown", (yield Suspect(identity, generation, origin)))


def cool(identity: Identity, *, origin: str, seconds: float) -> Flow[None]:
    """Start a cool-down."""
    yield Cool(identity, origin, seconds)


def remove(identity: Identity) -> Flow[None]:
    """Forget the record."""
    yield Remove(identity)


def endpoint_hold(key: str) -> Flow[Hold | StoreDown | None]:
    """Look for a throttle."""
    return cast("Hold | StoreDown | None", (yield EndpointHold(key)))


def hold_endpoint(key: str, hold: Hold) -> Flow[None]:
    """Throttle."""
    yield HoldEndpoint(key, hold)
