"""Leases of flights that are up, extended for as long as their process lives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from accredit.clock import Clock, Gate
from accredit.core import effects
from accredit.core.records import Claimed, Lead, StoreDown

#: Most seconds for which a lease is taken at once: so long others wait for a process that died or sleeps.
LEASE_SECONDS: Final = 5.0
#: A lease is extended when this part of it has passed, so that one extension may fail.
EXTEND_AFTER: Final = 1 / 3


class _Lease:
    __slots__ = ("claim", "due", "lock", "over")

    def __init__(self, claim: effects.Claim, due: float) -> None:
        self.claim = claim
        self.due = due
        self.lock = threading.Lock()
        self.over = False


class Leases:
    """Claims again, as the owner, what a flight leads: also while its own thread waits for a slow server.

    One thread while there is a lease, none otherwise. A process that is killed or stopped extends nothing.
    """

    def __init__(self, clock: Clock, claim: Callable[[effects.Claim], object]) -> None:
        """Start without a thread. ``claim`` performs a claim and returns its answer."""
        self._clock = clock
        self._claim = claim
        self._lock = threading.Lock()
        self._kept: dict[str, _Lease] = {}
        self._thread: threading.Thread | None = None
        self._gate: Gate | None = None

    def keep(self, claim: effects.Claim) -> None:
        """Extend this lease from now on."""
        thread: threading.Thread | None = None
        with self._lock:
            self._kept[claim.owner] = _Lease(claim, self._clock.now() + claim.lease * EXTEND_AFTER)
            if self._thread is None:
                thread = self._thread = threading.Thread(target=self._watch, name="accredit-leases", daemon=True)
        if thread is None:
            self._poke()
            return
        # Not under the lock, see decision 0056.
        try:
            thread.start()
        except RuntimeError:
            # No thread can be had now: the lease runs as long as it was taken for.
            with self._lock:
                self._thread = None

    def let_go(self, owner: str) -> None:
        """Stop extending; an extension that is on its way has its answer when this returns."""
        with self._lock:
            lease = self._kept.pop(owner, None)
        if lease is None:
            return
        with lease.lock:
            # An extension that came after the lease was given back would take it again, for nobody.
            lease.over = True
        self._poke()

    def after_fork(self) -> None:
        """Forget the parent's: its flights are not here."""
        self._lock = threading.Lock()
        self._kept = {}
        self._thread = None
        self._gate = None

    def _poke(self) -> None:
        with self._lock:
            gate, self._gate = self._gate, None
        if gate is not None:
            gate.release()

    def _watch(self) -> None:
        while True:
            gate = threading.Lock()
            gate.acquire()
            with self._lock:
                leases = list(self._kept.values())
                if not leases:
                    self._thread = None
                    return
                # Set before looking: whatever is kept or let go from here on pokes.
                self._gate = gate
            due = [lease for lease in leases if lease.due <= self._clock.now()]
            for lease in due:
                self._extend(lease)
            if not due:
                self._clock.wait(gate, min(lease.due for lease in leases) - self._clock.now())

    def _extend(self, lease: _Lease) -> None:
        with lease.lock:
            if lease.over:
                return
            answer = self._claim(lease.claim)
            lease.due = self._clock.now() + lease.claim.lease * EXTEND_AFTER
            if isinstance(answer, StoreDown) or (isinstance(answer, Claimed) and isinstance(answer.directive, Lead)):
                return
            # Another one leads by now, or a token is there: what this flight brings is compared when it is published.
            lease.over = True
        with self._lock:
            self._kept.pop(lease.claim.owner, None)
