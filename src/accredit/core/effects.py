"""What a flow may ask of the world it runs in, and typed helpers to ask it.

A flow is a generator: it yields an effect and is sent back the answer. Every effect has one helper here, so that
``response = yield from send(request, timeout=3.0)`` is typed. Nothing here does anything; drivers do.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Literal, TypeVar, cast

from accredit.core.events import Event
from accredit.core.identity import Identity
from accredit.core.messages import Failure, Request, Response
from accredit.core.metadata import ServerMetadata
from accredit.core.records import Claimed, Hold, Record, Stored, StoreDown
from accredit.core.registration import ClientRegistration
from accredit.core.secret import Secret, SecretSource
from accredit.errors import AuthorizationServerError, ConfigurationError

T = TypeVar("T")
SuspectOutcome = Literal["suspect", "newer", "cooling"]


@dataclass(frozen=True, slots=True)
class Instant:
    """One reading of both clocks, in seconds.

    Attributes:
        local: the clock that tokens age on; it runs through suspend and never jumps.
        wall: seconds since the epoch.

    """

    local: float
    wall: float


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret that was read.

    Attributes:
        secret: the secret; None for a method without one.
        tag: a keyed tag that tells secrets apart and says nothing about them.

    """

    secret: Secret | None = field(repr=False)
    tag: str


@dataclass(frozen=True, slots=True)
class Now:
    """Read the clocks. Answer: :class:`Instant`."""


@dataclass(frozen=True, slots=True)
class Random:
    """Draw a number in ``[0, 1)``. Answer: float."""


@dataclass(frozen=True, slots=True)
class Nonce:
    """Draw 32 random bits. Answer: int."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Let that many seconds pass. Answer: None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell the operator. Answer: None."""

    event: Event


@dataclass(frozen=True, slots=True)
class ReadSecret:
    """Read a secret from its source. Answer: :class:`Credential` or ConfigurationError, as a value."""

    source: SecretSource | None


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request within ``timeout`` seconds. Answer: Response or Failure."""

    request: Request
    timeout: float


@dataclass(frozen=True, slots=True)
class LoadMetadata:
    """Look for a metadata document kept in this process. Answer: ``(document, age in seconds)`` or None."""

    key: str


@dataclass(frozen=True, slots=True)
class KeepMetadata:
    """Keep a metadata document in this process. Answer: None."""

    key: str
    metadata: ServerMetadata


@dataclass(frozen=True, slots=True)
class Share:
    """Run ``flow`` unless one of the same key runs already; answer with the result of the one that ran.

    Answer: what the flow returns, or None when ``timeout`` seconds passed first.
    """

    key: tuple[str, ...]
    flow: Callable[[], Flow[object]] = field(repr=False)
    timeout: float


@dataclass(frozen=True, slots=True)
class Claim:
    """Store: claim the right to renew. Answer: Claimed or StoreDown."""

    identity: Identity
    newer_than: int | None
    credential: str
    owner: str
    lease: float


@dataclass(frozen=True, slots=True)
class Publish:
    """Store: publish a record and give the lease back. Answer: Stored (what is kept now) or StoreDown."""

    identity: Identity
    owner: str
    record: Record
    remaining: float
    credential: str
    based_on: int | None


@dataclass(frozen=True, slots=True)
class Fail:
    """Store: give the lease back without a record, and hold. Answer: None or StoreDown."""

    identity: Identity
    owner: str
    hold: Hold | None


@dataclass(frozen=True, slots=True)
class Suspect:
    """Store: mark a generation as refused by an API. Answer: SuspectOutcome or StoreDown."""

    identity: Identity
    generation: int
    origin: str


@dataclass(frozen=True, slots=True)
class Cool:
    """Store: do not renew for a 401 of that origin for a while. Answer: None or StoreDown."""

    identity: Identity
    origin: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Remove:
    """Store: forget the record. Answer: None or StoreDown."""

    identity: Identity


@dataclass(frozen=True, slots=True)
class EndpointHold:
    """Store: is that token endpoint and client throttled? Answer: Hold, None, or StoreDown."""

    key: str


@dataclass(frozen=True, slots=True)
class HoldEndpoint:
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


def send(request: Request, *, timeout: float) -> Flow[Response | Failure]:
    """Send a request."""
    return cast("Response | Failure", (yield Send(request, timeout)))


def load_metadata(key: str) -> Flow[tuple[ServerMetadata, float] | None]:
    """Look for a kept metadata document."""
    return cast("tuple[ServerMetadata, float] | None", (yield LoadMetadata(key)))


def keep_metadata(key: str, metadata: ServerMetadata) -> Flow[None]:
    """Keep a metadata document."""
    yield KeepMetadata(key, metadata)


def share_discovery(
    registration: ClientRegistration,
    key: str,
    flow: Callable[[], Flow[ServerMetadata | AuthorizationServerError]],
    *,
    timeout: float,
) -> Flow[ServerMetadata | AuthorizationServerError | None]:
    """Run a discovery once for all that need it now."""
    effect = Share(("metadata", key, str(registration.allow_insecure_http)), flow, timeout)
    return cast("ServerMetadata | AuthorizationServerError | None", (yield effect))


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
