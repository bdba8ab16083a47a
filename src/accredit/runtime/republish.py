"""Tokens of this process brought back into a store that was away, once, so that the fleet need not ask for them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable

from accredit.clock import Clock
from accredit.core import effects
from accredit.core.records import Record, Stored, StoreDown
from accredit.core.token import AccessToken
from accredit.runtime.guarded_store import GuardedStore
from accredit.runtime.slot import Slot

#: Seconds over which the processes of a fleet spread what they bring back.
REPUBLISH_WITHIN = 1.0
_NUMBER = 1 << 32


class Republisher:
    """Publishes usable tokens that a store lacks when it is back, under the generation they have."""

    def __init__(
        self,
        all_slots: Callable[[], Iterable[Slot]],
        store: GuardedStore,
        clock: Clock,
        *,
        submit: Callable[[Callable[[], None]], None],
        random: Callable[[], float],
    ) -> None:
        """Do nothing yet.

        Args:
            all_slots: returns those of the process.
            store: the store.
            clock: the one that tokens age on.
            submit: runs a function on a worker.
            random: draws from ``[0, 1)``.

        """
        self._all_slots = all_slots
        self._store = store
        self._clock = clock
        self._submit = submit
        self._random = random
        self._lock = threading.Lock()
        self._since: float | None = None

    def note_return(self, since: float) -> None:
        """Look, once and soon, for what the store lacks of the tokens that came at ``since`` (local time) or later."""
        with self._lock:
            due = self._since is None
            self._since = since if self._since is None else min(since, self._since)
        if due:
            self._submit(self._run)

    def after_fork(self) -> None:
        """Replace the lock; what the parent was about to do, it does."""
        self._lock = threading.Lock()
        self._since = None

    def _run(self) -> None:
        gate = threading.Lock()
        gate.acquire()
        # Each process of a fleet at a moment of its own. A flight that is about to land has landed by then.
        self._clock.wait(gate, self._random() * REPUBLISH_WITHIN)
        with self._lock:
            since, self._since = self._since, None
        for slot in self._all_slots():
            token = slot.usable(self._clock.now())
            if token is None or slot.suspect or since is None or token.received_at < since:
                continue
            if not self._bring_back(slot, token):
                return

    def _bring_back(self, slot: Slot, token: AccessToken) -> bool:
        """Publish a token unless the store has it, or a newer one; tell whether the store answered."""
        identity = slot.request.identity
        found = self._store.read(identity)
        if isinstance(found, StoreDown):
            return False
        if isinstance(found, Stored) and found.record.generation // _NUMBER >= token.generation // _NUMBER:
            # It never was away, or another process was first. A mark of suspicion stays, too.
            return True
        record = Record(
            identity.encoded,
            token.value,
            token.lifetime,
            token.expires_at,
            token.generation,
            token.granted_scope,
            None,  # the wish of the server to renew early has shaped the schedule and is not kept
            tuple(token.members.items()),
        )
        kept = self._store.perform(
            effects.Publish(
                identity,
                os.urandom(12).hex(),
                record,
                token.ends_at - self._clock.now(),
                credential="",
                based_on=token.generation - _NUMBER,
            )
        )
        return not isinstance(kept, StoreDown)
