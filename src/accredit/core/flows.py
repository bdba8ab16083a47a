"""The life of a token, as flows: obtain, renew after a refusal, discover.

A flow yields effects (:mod:`accredit.core.effects`) and returns its result; errors are results too and are
raised only where a caller waits. It owns no socket, lock, clock or thread, and never yields in a ``finally``:
it can be abandoned at any effect.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

from accredit.core.discovery import ATTEMPTS, failure_error, is_fatal, metadata_of, wire_url
from accredit.core.effects import (
    Credential,
    Flow,
    ServerTrouble,
    claim,
    cool,
    emit,
    endpoint_hold,
    fail,
    hold_endpoint,
    mark_suspect,
    nonce,
    now,
    pause,
    publish,
    random,
    read_secret,
    send,
)
from accredit.core.events import (
    AttemptFailed,
    LifetimeClamped,
    RecordRefused,
    TokenRefused,
)
from accredit.core.identity import encode
from accredit.core.messages import Failure
from accredit.core.metadata import ServerMetadata
from accredit.core.records import (
    Held,
    Hold,
    Lead,
    Record,
    Satisfied,
    Stored,
    StoreDown,
    Wait,
    next_generation,
)
from accredit.core.registration import ClientRegistration, TokenRequest
from accredit.core.renewal import (
    BACK_OFF_FIRST,
    UNREACHABLE_LAST,
    attempt_pause,
    back_off,
    leeway_for,
)
from accredit.core.token import IssuedToken, parse_token_response, token_request
from accredit.errors import (
    AccreditError,
    AuthorizationServerError,
    ConfigurationError,
    CredentialRefusedError,
    DiscoveryError,
    MalformedResponseError,
    RequestRefusedError,
    ThrottledError,
    UnreachableError,
)

SHORTEST_LEASE = 1.0
LONGEST_LEASE = 15.0
YOUNG = 5.0
PATIENCE = 1.0
COOL_DOWN = 60.0
_POLL_FIRST = 0.010
_POLL_LAST = 0.050
_POLLS_CLOSE = 16
_POLL_LATER = 0.100
_STORE_AWAY = 1.0


class Obtained(NamedTuple):
    """A flight that succeeded.

    Attributes:
        stored: the record.
        since: local time from which ``stored.remaining`` counts.
        source: ``"server"`` when this flight asked for it, ``"store"`` when another had.

    """

    stored: Stored
    since: float
    source: Literal["server", "store"]


class Failed(NamedTuple):
    """A flight that failed.

    Attributes:
        error: why.
        hold: seconds during which no further request is to be made.
        credential: tag of the credential refused, ``""`` when it does not matter whose it is.
        counts: whether a request was made that failed, so that the next hold is longer.

    """

    error: AccreditError
    hold: float
    credential: str = ""
    counts: bool = True


class Past(NamedTuple):
    """What a process remembers of earlier failures for an identity.

    Attributes:
        failures: failures in a row.
        refused: the refusal of a credential that still holds; it stands as long as the secret is the same.

    """

    failures: int = 0
    refused: Failed | None = None


class Surfaced(NamedTuple):
    """The refusal of an API is to reach the caller as it is.

    Attributes:
        reason: why nothing was renewed.

    """

    reason: Literal["cooling"]


class Postponed(NamedTuple):
    """The store gave no answer, and the token that is there does for a while: no request was made.

    Attributes:
        seconds: when to try again.

    """

    seconds: float


NOTHING = Past()


class _Turn(NamedTuple):
    """This flight is to ask the server, for a token newer than this."""

    newer_than: int | None
    failures: int = 0
    refresh_token: str | None = None


class _Issued(NamedTuple):
    token: IssuedToken
    sent: float
    sent_wall: float


# -- obtain -------------------------------------------------------------------------------------------


def obtain(
    request: TokenRequest,
    *,
    newer_than: int | None,
    owner: str,
    past: Past = NOTHING,
    spare: float = 0.0,
    over: int | None = None,
) -> Flow[Obtained | Failed | Postponed]:
    """Get a token newer than ``newer_than``: another's from the store, or one from the server as the only asker.

    Args:
        request: what is wanted.
        newer_than: the generation that will not do; None when any usable one will.
        owner: a name drawn for this flight, under which it holds the lease.
        past: what this process remembers of failures; the store may know of more.
        spare: seconds for which nobody needs the token. While the store is away, a renewal waits for it that long:
            alone, each process of a fleet would ask for a token of its own.
        over: the generation whose life is over by the clock of this process, whatever others say of it. Any other
            will do, even one that counts less: a store that lost a record counts anew.

    """
    start = yield from now()
    deadline = start.local + request.registration.deadline
    credential = yield from read_secret(request.registration.client_auth.source)
    if isinstance(credential, ConfigurationError):
        return Failed(credential, 0.0, counts=False)
    if past.refused is not None and past.refused.credential == credential.tag:
        return past.refused
    turn = yield from _await_turn(request, newer_than, credential, owner, deadline, spare, over)
    if not isinstance(turn, _Turn):
        return turn
    failures = max(turn.failures, past.failures)
    return (yield from _lead(request, turn, credential, owner, deadline, failures))


def _await_turn(
    request: TokenRequest,
    newer_than: int | None,
    credential: Credential,
    owner: str,
    deadline: float,
    spare: float,
    over: int | None,
) -> Flow[_Turn | Obtained | Failed | Postponed]:
    """Claim until there is a record, the lease, a hold, or no time left."""
    identity = request.identity
    polls = 0
    expired = False
    while True:
        before = yield from now()
        answer = yield from claim(
            identity,
            newer_than=newer_than,
            credential=credential.tag,
            owner=owner,
            lease=_lease(request, deadline, before.local),
        )
        if isinstance(answer, StoreDown):
            return _Turn(newer_than) if spare <= 0 else Postponed(min(spare, _STORE_AWAY))
        match answer.directive:
            case Satisfied() if answer.stored is not None:
                is_over = answer.stored.record.generation == over
                refused = "expired" if is_over else _unusable(answer.stored, request, before.wall)
                if refused is None:
                    return Obtained(_bounded(answer.stored, before.wall), before.local, "store")
                if not is_over:
                    yield from emit(RecordRefused(identity.registration, identity.principal, refused))
                if refused == "expired" and not expired:
                    # In its last seconds it serves nobody: claim what comes after it, so that one asks for all.
                    expired = True
                    newer_than = answer.stored.record.generation
                    continue
                # Left in place for whoever can use it: go on alone rather than fight over it.
                return _Turn(newer_than)
            case Held(hold):
                return Failed(
                    hold.error.held_for(hold.seconds),
                    hold.seconds,
                    hold.credential,
                    counts=False,
                )
            case Wait(seconds):
                polls += 1
                draw = yield from random()
                rest = min(
                    seconds,
                    _POLL_FIRST + draw * (_longest_poll(polls) - _POLL_FIRST),
                )
                if before.local + rest >= deadline:
                    return Failed(
                        _deadline_error(request, "another process is obtaining the token"),
                        0.0,
                        counts=False,
                    )
                yield from pause(max(rest, _POLL_FIRST))
            case Lead(failures):
                return _Turn(newer_than, failures, _refresh_token(answer.stored, request))
            case _:
                return _Turn(newer_than)


def _longest_poll(polls: int) -> float:
    """Return the longest pause (seconds) before the next look: most servers answer soon, a slow one is given time."""
    return _POLL_LATER if polls > _POLLS_CLOSE else min(_POLL_LAST, _POLL_FIRST * 2.0**polls)


def _lease(request: TokenRequest, deadline: float, now: float) -> float:
    """Return the seconds that a lease is to run: half of a flight's time, and no longer than this flight.

    So those who wait for a holder that died, or whose record was lost on the way to the store, still have the time
    to ask the server themselves, and one does it for all. A driver may take it for less and extend it.
    """
    return min(LONGEST_LEASE, max(min(request.registration.deadline / 2.0, deadline - now), SHORTEST_LEASE))


def _refresh_token(stored: Stored | None, request: TokenRequest) -> str | None:
    """Return the refresh token of the record there is, if it is of this request and to be used."""
    if stored is None or stored.record.identity != request.identity.encoded:
        return None
    return stored.record.refresh_token if request.registration.use_refresh_token else None


def _unusable(stored: Stored, request: TokenRequest, wall: float) -> str | None:
    """Return why a found record is not to be used, or None."""
    record = stored.record
    if record.identity != request.identity.encoded:
        return "identity"
    if not 0 < record.lifetime <= request.registration.max_lifetime:
        return "lifetime"
    if min(stored.remaining, record.expires_at - wall) <= leeway_for(record.lifetime, request.registration.leeway):
        return "expired"
    return None


def _bounded(stored: Stored, wall: float) -> Stored:
    # The store's clock gives the remaining life; what the record says of itself can only shorten it.
    remaining = min(stored.remaining, stored.record.lifetime, stored.record.expires_at - wall)
    return Stored(stored.record, remaining, stored.suspect)


def _lead(
    request: TokenRequest,
    turn: _Turn,
    credential: Credential,
    owner: str,
    deadline: float,
    failures: int,
) -> Flow[Obtained | Failed]:
    """Make the one request of the fleet, and publish what comes of it."""
    identity = request.identity
    newer_than = turn.newer_than
    throttle = throttle_key(request.registration)
    held = yield from endpoint_hold(throttle)
    if isinstance(held, Hold):
        yield from fail(identity, owner=owner, hold=None)
        return Failed(held.error.held_for(held.seconds), held.seconds, counts=False)
    outcome = yield from _ask_server(request, credential, owner, turn, deadline)
    if isinstance(outcome, CredentialRefusedError):
        # The source may have been rotated while this process held the old secret: one immediate try, only if so.
        again = yield from read_secret(request.registration.client_auth.source)
        if isinstance(again, Credential) and again.tag != credential.tag:
            credential = again
            outcome = yield from _ask_server(request, credential, owner, turn, deadline, attempts=1)
    if isinstance(outcome, ConfigurationError):
        yield from fail(identity, owner=owner, hold=None)
        return Failed(outcome, 0.0, counts=False)
    if isinstance(outcome, AuthorizationServerError):
        found = yield from _look_again(request, newer_than, credential, owner, deadline)
        if found is None:
            return (yield from _give_up(request, outcome, credential, owner, failures))
        outcome = found
    if isinstance(outcome, Obtained):
        yield from fail(identity, owner=owner, hold=None)
        return outcome
    issued = outcome.token
    if issued.clamped_from is not None:
        clamped = LifetimeClamped(
            identity.registration,
            identity.principal,
            issued.clamped_from,
            issued.lifetime,
        )
        yield from emit(clamped)
    bits = yield from nonce()
    record = Record(
        identity.encoded,
        issued.value,
        issued.lifetime,
        outcome.sent_wall + issued.lifetime,
        next_generation(newer_than or 0, bits),
        issued.granted_scope,
        issued.refresh_in,
        issued.members,
        issued.refresh_token,
    )
    before = yield from now()
    # The life began when the request was sent, so the store gets what is left of it.
    rest = issued.lifetime - (before.local - outcome.sent)
    kept = yield from publish(
        identity,
        owner=owner,
        record=record,
        remaining=rest,
        credential=credential.tag,
        based_on=newer_than,
    )
    if isinstance(kept, StoreDown):
        # A store may be unable to keep a record and able to do the rest (full, read-only for a while): the lease
        # is not to make the next asker wait.
        yield from fail(identity, owner=owner, hold=None)
    if isinstance(kept, Stored) and kept.record.value != record.value and _unusable(kept, request, before.wall) is None:
        # Another process published meanwhile and its token lives longer: the fleet keeps one.
        return Obtained(_bounded(kept, before.wall), before.local, "store")
    generation = kept.record.generation if isinstance(kept, Stored) and kept.record.value == record.value else None
    final = record if generation is None else replace(record, generation=generation)
    return Obtained(Stored(final, issued.lifetime), outcome.sent, "server")


def _give_up(
    request: TokenRequest,
    error: AuthorizationServerError,
    credential: Credential,
    owner: str,
    failures: int,
) -> Flow[Failed]:
    """Turn a failure into the hold it deserves, and give the lease back."""
    draw = yield from random()
    count = failures + 1
    tag = ""
    if isinstance(error, ThrottledError):
        # "At once" would have the whole fleet ask in turn, each in vain.
        seconds = back_off(count, draw) if error.retry_after is None else max(error.retry_after, BACK_OFF_FIRST)
        yield from hold_endpoint(throttle_key(request.registration), Hold(seconds, error, count))
    elif isinstance(error, UnreachableError | DiscoveryError):
        seconds = back_off(count, draw, last=UNREACHABLE_LAST)
    else:
        seconds = back_off(count, draw)
        tag = credential.tag if isinstance(error, CredentialRefusedError) else ""
    error = error.held_for(seconds)
    yield from fail(request.identity, owner=owner, hold=Hold(seconds, error, count, tag))
    return Failed(error, seconds, tag)


def throttle_key(registration: ClientRegistration) -> str:
    """Return what a throttle is kept under: the server as configured, and the client."""
    server = registration.issuer or registration.metadata_url or registration.token_endpoint or ""
    return encode([("server", (server,)), ("client", (registration.client_id,))]).hex()


def _ask_server(
    request: TokenRequest,
    credential: Credential,
    owner: str,
    turn: _Turn,
    deadline: float,
    attempts: int = ATTEMPTS,
) -> Flow[_Issued | Obtained | ServerTrouble]:
    """Find the token endpoint and ask it, with further attempts after faults that may pass."""
    registration = request.registration
    endpoint = registration.token_endpoint
    if endpoint is None:
        metadata = yield from metadata_of(registration, deadline)
        if not isinstance(metadata, ServerMetadata):
            return metadata
        endpoint = metadata.token_endpoint
    else:
        endpoint = wire_url(endpoint, registration)
    last: AuthorizationServerError | None = None
    refresh_token = turn.refresh_token
    for attempt in range(attempts):
        if attempt:
            go_on = yield from _between_attempts(request, last, attempt, deadline)
            if not go_on:
                break
            found = yield from _look_again(request, turn.newer_than, credential, owner, deadline)
            if found is not None:
                return found
        outcome, passing = yield from _exchange(request, endpoint, credential, refresh_token, deadline)
        if refresh_token is not None and isinstance(outcome, RequestRefusedError):
            # It is over, or was never meant to be used (RFC 6749, section 5.2): the grant itself still stands.
            refresh_token = None
            outcome, passing = yield from _exchange(request, endpoint, credential, None, deadline)
        if outcome is None:
            break
        if not isinstance(outcome, AuthorizationServerError) or not passing:
            return outcome
        last = outcome
    return last or _deadline_error(request, "there was no time left to ask the token endpoint", endpoint)


def _look_again(
    request: TokenRequest, newer_than: int | None, credential: Credential, owner: str, deadline: float
) -> Flow[Obtained | None]:
    """Claim once more as the owner, which extends the lease; return the record that came meanwhile, if it will do.

    Another may have led when this lease had run out, or with another secret: what it published is no failure.
    """
    before = yield from now()
    answer = yield from claim(
        request.identity,
        newer_than=newer_than,
        credential=credential.tag,
        owner=owner,
        lease=_lease(request, deadline, before.local),
    )
    if isinstance(answer, StoreDown) or not isinstance(answer.directive, Satisfied) or answer.stored is None:
        return None
    if _unusable(answer.stored, request, before.wall) is not None:
        return None
    return Obtained(_bounded(answer.stored, before.wall), before.local, "store")


def _exchange(
    request: TokenRequest, endpoint: str, credential: Credential, refresh_token: str | None, deadline: float
) -> Flow[tuple[_Issued | ServerTrouble | None, bool]]:
    """Ask once. Return what came of it (None when no time was left), and whether it is a fault that may pass."""
    sent = yield from now()
    remaining = deadline - sent.local
    if remaining <= 0:
        return None, False
    response = yield from send(token_request(request, endpoint, credential.secret, refresh_token), timeout=remaining)
    if isinstance(response, ConfigurationError):
        return response, False
    received = yield from now()
    if isinstance(response, Failure):
        return failure_error(response, endpoint, "the token endpoint"), not is_fatal(response)
    outcome = parse_token_response(
        response, request, endpoint, credential.secret, now_wall=received.wall, refresh_token=refresh_token
    )
    if not isinstance(outcome, IssuedToken):
        return outcome, isinstance(outcome, UnreachableError)
    if outcome.lifetime - (received.local - sent.local) <= leeway_for(outcome.lifetime, request.registration.leeway):
        return _expired_on_arrival(endpoint, outcome.lifetime), False
    if outcome.refresh_token is None and refresh_token is not None:
        # A server that issues no other leaves the one there is in force (RFC 6749, section 6).
        outcome = replace(outcome, refresh_token=refresh_token)
    return _Issued(outcome, sent.local, sent.wall), False


def _between_attempts(
    request: TokenRequest,
    error: AuthorizationServerError | None,
    attempt: int,
    deadline: float,
) -> Flow[bool]:
    """Pause with full jitter before a further attempt; False when there is no time for one."""
    draw = yield from random()
    seconds = attempt_pause(attempt - 1, draw)
    instant = yield from now()
    if error is None or instant.local + seconds >= deadline:
        return False
    identity = request.identity
    yield from emit(AttemptFailed(identity.registration, identity.principal, error, seconds))
    yield from pause(seconds)
    return True


def _expired_on_arrival(endpoint: str, lifetime: float) -> MalformedResponseError:
    return MalformedResponseError(
        f"the token was expired on arrival: it lives {lifetime:g} s and the answer took as long.",
        advice="Have the server issue tokens that live longer, or find out why it answers so slowly.",
        endpoint=endpoint,
        status=200,
    )


def _deadline_error(request: TokenRequest, reason: str, endpoint: str | None = None) -> UnreachableError:
    registration = request.registration
    return UnreachableError(
        f"no token for registration {registration.id!r} within {registration.deadline:g} s: {reason}.",
        advice="Check that the authorization server is up and reachable, or give the registration a longer deadline.",
        endpoint=endpoint or registration.server,
    )


# -- an API refused the token ---------------------------------------------------------------------------


def renew_refused(
    request: TokenRequest,
    *,
    generation: int,
    age: float,
    origin: str,
    owner: str,
    past: Past = NOTHING,
) -> Flow[Obtained | Failed | Postponed | Surfaced]:
    """Replace a token that an API answered with 401: mark that generation suspect and get a newer one.

    Args:
        request: what the token was for.
        generation: the generation that was refused.
        age: seconds since the token came into this process.
        origin: origin of the API that refused it.
        owner: a name drawn for this flight.
        past: what this process remembers of failures.

    """
    identity = request.identity
    outcome = yield from mark_suspect(identity, generation=generation, origin=origin)
    if outcome == "cooling":
        yield from emit(TokenRefused(identity.registration, identity.principal, origin, "cooling"))
        return Surfaced("cooling")
    state: Literal["newer", "renewing"] = "newer" if outcome == "newer" else "renewing"
    yield from emit(TokenRefused(identity.registration, identity.principal, origin, state))
    result = yield from obtain(request, newer_than=generation, owner=owner, past=past)
    if age < YOUNG and isinstance(result, Obtained) and result.source == "server":
        # An API that refuses a token seconds old may be behind on replication; the new one gets a second to arrive.
        yield from pause(PATIENCE)
    return result


def cool_down(request: TokenRequest, *, origin: str) -> Flow[None]:
    """Remember that this API refuses even a new token, so that it does not cause renewal after renewal."""
    yield from cool(request.identity, origin=origin, seconds=COOL_DOWN)
