"""The store behind a guard: a failure is an answer, and a store that keeps failing is left alone for a while."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from typing import TypeVar, get_args

from accredit.core import effects
from accredit.core.effects import SuspectOutcome
from accredit.core.events import StoreFailed
from accredit.core.identity import Identity
from accredit.core.records import Claimed, Directive, Hold, Record, Stored, StoreDown
from accredit.errors import AccreditError, StoreError
from accredit.stores.contract import Store

T = TypeVar("T")
FAILURES_UNTIL_OPEN = 3
OPEN_SECONDS = 2.0
#: Seconds within which a store that lets nobody in is an event once: it takes a person to mend that.
ALERT_SECONDS = 60.0
_FOR_PEOPLE = frozenset({"authentication", "permission", "certificate"})
_OUTCOMES = get_args(SuspectOutcome)


class GuardedStore:
    """Performs store effects. After three failures in a row the store is not asked for about two seconds.

    Then one operation at a time probes it, so that it is back in use within seconds of its return.
    """

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], float],
        random: Callable[[], float],
        on_failure: Callable[[StoreFailed], None],
        on_return: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Guard ``store``.

        Args:
            store: the store.
            now: reads the clock, in seconds.
            random: draws from ``[0, 1)``.
            on_failure: told of each failure; of those that only a person can mend, once a minute.
            on_return: called when the store answers after it did not, with the local time since when what it
                holds may be less than what this process knows; minus infinity after the store was left alone.

        """
        self._store = store
        self._now = now
        self._random = random
        self._on_failure = on_failure
        self._on_return = on_return
        self._trouble_since = 0.0
        self._alerted: dict[str, float] = {}
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_at = 0.0

    @property
    def in_process(self) -> bool:
        """Whether verbs only touch memory."""
        return self._store.in_process

    @property
    def tag_key(self) -> bytes | None:
        """The key of credential tags that the whole fleet shares, if the store has one."""
        key: object = None
        with contextlib.suppress(Exception):  # the keys of an encrypted store may be unreadable just now
            key = getattr(self._store, "tag_key", None)
        return key if isinstance(key, bytes) else None

    def read(self, identity: Identity) -> Stored | StoreDown | None:
        """Read a record. A failure is no event: this runs under a lock of the caller, and hooks are others' code."""
        return self._attempt("read", identity, lambda: self._store.read(identity), _is_record, quiet=True)

    def perform(self, effect: effects.StoreEffect) -> object:
        """Perform a store effect; the answer is a :class:`StoreDown` when the store gave none."""
        store = self._store
        match effect:
            case effects.Claim(identity, newer_than, credential, owner, lease):
                return self._attempt(
                    "claim",
                    identity,
                    lambda: store.claim(
                        identity,
                        newer_than=newer_than,
                        credential=credential,
                        owner=owner,
                        lease=lease,
                    ),
                    _is_claimed,
                )
            case effects.Publish(identity, owner, record, remaining, credential, based_on):
                return self._attempt(
                    "publish",
                    identity,
                    lambda: store.publish(
                        identity,
                        owner=owner,
                        record=record,
                        remaining=remaining,
                        credential=credential,
                        based_on=based_on,
                    ),
                    _is_stored,
                )
            case effects.Fail(identity, owner, hold):
                return self._attempt(
                    "fail",
                    identity,
                    lambda: store.fail(identity, owner=owner, hold=hold),
                )
            case effects.Suspect(identity, generation, origin):
                return self._attempt(
                    "suspect",
                    identity,
                    lambda: store.suspect(identity, generation=generation, origin=origin),
                    _is_suspect_outcome,
                )
            case effects.Cool(identity, origin, seconds):
                return self._attempt(
                    "cool",
                    identity,
                    lambda: store.cool(identity, origin=origin, seconds=seconds),
                )
            case effects.Remove(identity):
                return self._attempt("remove", identity, lambda: store.remove(identity))
            case effects.EndpointHold(key):
                return self._attempt("endpoint_hold", None, lambda: store.endpoint_hold(key), _is_hold)
            case effects.HoldEndpoint(key, hold):
                return self._attempt("hold_endpoint", None, lambda: store.hold_endpoint(key, hold))

    def after_fork(self) -> None:
        """Replace the lock, and what the store holds open."""
        self._lock = threading.Lock()
        self._store.after_fork()

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _attempt(
        self,
        verb: str,
        identity: Identity | None,
        operation: Callable[[], T],
        is_sound: Callable[[object], bool] = lambda _: True,
        *,
        quiet: bool = False,
    ) -> T | StoreDown:
        if not self._may_ask():
            return StoreDown()
        reason = ""
        try:
            answer = operation()
        except Exception as error:
            kind = type(error).__name__
            if isinstance(error, StoreError) and error.reason != "failed":
                kind = error.reason
            # Errors of this library hold nothing that must not be seen; those of others may quote anything.
            reason = str(error) if isinstance(error, AccreditError) else ""
        else:
            if is_sound(answer):
                if self._failures:
                    self._note_return()
                return answer
            kind = f"answer of type {type(answer).__name__}"
        self._note_failure()
        if not quiet and self._is_news(kind):
            registration, principal = (identity.registration, identity.principal) if identity else ("", "")
            self._on_failure(StoreFailed(registration, principal, verb, kind, reason))
        return StoreDown()

    def _may_ask(self) -> bool:
        if self._failures < FAILURES_UNTIL_OPEN:
            return True
        with self._lock:
            now = self._now()
            if now < self._closed_at:
                return False
            # This one probes; the others stay away until it has an answer or as long again has passed.
            self._closed_at = now + OPEN_SECONDS * (0.75 + 0.5 * self._random())
            return True

    def _is_news(self, kind: str) -> bool:
        if kind not in _FOR_PEOPLE:
            return True
        with self._lock:
            now = self._now()
            if now < self._alerted.get(kind, -ALERT_SECONDS) + ALERT_SECONDS:
                return False
            self._alerted[kind] = now
            return True

    def _note_return(self) -> None:
        with self._lock:
            failures, self._failures = self._failures, 0
            since = self._trouble_since
        if failures:
            self._on_return(-math.inf if failures >= FAILURES_UNTIL_OPEN else since)

    def _note_failure(self) -> None:
        with self._lock:
            if not self._failures:
                self._trouble_since = self._now()
            self._failures += 1
            if self._failures >= FAILURES_UNTIL_OPEN:
                self._closed_at = self._now() + OPEN_SECONDS * (0.75 + 0.5 * self._random())


# A store may be anybody's code, so an answer of the wrong kind counts as none.


def _is_stored(answer: object) -> bool:
    return isinstance(answer, Stored) and isinstance(answer.record, Record)


def _is_record(answer: object) -> bool:
    return answer is None or _is_stored(answer)


def _is_claimed(answer: object) -> bool:
    return isinstance(answer, Claimed) and isinstance(answer.directive, Directive) and _is_record(answer.stored)


def _is_hold(answer: object) -> bool:
    return answer is None or isinstance(answer, Hold)


def _is_suspect_outcome(answer: object) -> bool:
    return answer in _OUTCOMES
