"""The in-memory store: bounded, thread-safe, compact."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from itertools import islice
from typing import Final, Generic, TypeVar

from accredit.clock import SystemClock
from accredit.core.effects import SuspectOutcome
from accredit.core.identity import Identity
from accredit.core.records import (
    Claimed,
    Held,
    Hold,
    Lead,
    Record,
    Satisfied,
    Stored,
    Wait,
    is_newer,
    next_generation,
)
from accredit.errors import ConfigurationError

V = TypeVar("V")
_FAILURES_REMEMBERED: Final = 120.0
_MOST_LIFETIMES: Final = 1024
_BATCHES: Final = 64
_Rare = tuple[tuple[str, ...] | None, float | None, tuple[tuple[str, str], ...], str | None]
_NOTHING_RARE: Final[_Rare] = (None, None, (), None)


class _Kept:
    """A record at its smallest (no identity: the key is a digest of it), since 100,000 of them may be kept."""

    __slots__ = ("ends_at", "extra", "generation", "lifetime", "value")

    def __init__(self, ends_at: float, generation: int, lifetime: float, record: Record) -> None:
        self.ends_at = ends_at
        self.generation = generation
        self.lifetime = lifetime
        self.value = record.value
        rare = (record.granted_scope, record.refresh_in, record.members, record.refresh_token)
        self.extra = None if rare == _NOTHING_RARE else rare

    def record(self, identity: Identity) -> Record:
        granted_scope, refresh_in, members, refresh_token = self.extra or _NOTHING_RARE
        # The clock of this store is the one tokens age on here, so there is no other expiry to bound it.
        return Record(
            identity.encoded,
            self.value,
            self.lifetime,
            math.inf,
            self.generation,
            granted_scope,
            refresh_in,
            members,
            refresh_token,
        )


class MemoryStore:
    """Tokens of this process. Share one between several managers of a process if you have several.

    Args:
        max_entries: most records kept; the one not used for longest goes first.

    """

    def __init__(self, *, max_entries: int = 100_000, clock: Callable[[], float] | None = None) -> None:
        """Make an empty store."""
        if max_entries < 1:
            raise ConfigurationError(
                "max_entries is below 1.",
                advice="Give the number of tokens to keep.",
                key="max_entries",
            )
        self._now = clock or SystemClock().now
        self._lock = threading.Lock()
        self._max = max_entries
        self._records: dict[bytes, _Kept] = {}
        self._lifetimes: dict[float, float] = {}
        # Everything below is transient: it exists for identities in flight or in trouble, and ends by itself.
        self._suspects = _Ending[bytes, int](max_entries)
        self._leases = _Ending[bytes, str](max_entries)
        self._holds = _Ending[tuple[bytes, str], Hold](max_entries)
        self._cooling = _Ending[tuple[bytes, str], bool](max_entries)
        self._throttles = _Ending[str, Hold](max_entries)

    @property
    def in_process(self) -> bool:
        """True: verbs only touch memory."""
        return True

    def __len__(self) -> int:
        """Return how many records are kept, expired ones that were not yet dropped included."""
        return len(self._records)

    def read(self, identity: Identity) -> Stored | None:
        """Return the record if it has life left."""
        with self._lock:
            return self._stored(identity, self._now())

    def claim(
        self,
        identity: Identity,
        *,
        newer_than: int | None,
        credential: str,
        owner: str,
        lease: float,
    ) -> Claimed:
        """See :meth:`accredit.stores.contract.Store.claim`."""
        key = identity.fingerprint
        with self._lock:
            now = self._now()
            stored = self._stored(identity, now)
            if stored is not None and not stored.suspect and is_newer(stored.record.generation, newer_than):
                return Claimed(stored, Satisfied())
            failures = 0
            for tag in ("", credential):
                remembered = self._holds.get((key, tag), now)
                if remembered is not None:
                    failures = max(failures, remembered[0].failures)
                    rest = remembered[1] - _FAILURES_REMEMBERED - now
                    if rest > 0:
                        return Claimed(stored, Held(remembered[0]._replace(seconds=rest)))
            leased = self._leases.get(key, now)
            if leased is not None and leased[0] != owner:
                return Claimed(stored, Wait(leased[1] - now))
            self._leases.put(key, owner, now + lease, now)
            return Claimed(stored, Lead(failures))

    def publish(
        self,
        identity: Identity,
        *,
        owner: str,
        record: Record,
        remaining: float,
        credential: str,
        based_on: int | None,
    ) -> Stored:
        """See :meth:`accredit.stores.contract.Store.publish`."""
        key = identity.fingerprint
        with self._lock:
            now = self._now()
            self._end_lease(key, owner, now)
            there = self._stored(identity, now)
            if (
                there is not None
                and not there.suspect
                and is_newer(there.record.generation, based_on or 0)
                and there.remaining >= remaining
            ):
                return there
            previous = max(based_on or 0, there.record.generation if there is not None else 0)
            # Most lifetimes are alike, so one float serves them all.
            lifetime = self._lifetimes.setdefault(record.lifetime, record.lifetime)
            if len(self._lifetimes) > _MOST_LIFETIMES:
                self._lifetimes.clear()
            kept = _Kept(now + remaining, next_generation(previous, record.generation), lifetime, record)
            self._records.pop(key, None)
            self._make_room()
            self._records[key] = kept
            self._suspects.drop(key)
            self._holds.drop((key, ""))
            self._holds.drop((key, credential))
            return self._to_stored(identity, kept, now)

    def fail(self, identity: Identity, *, owner: str, hold: Hold | None) -> None:
        """See :meth:`accredit.stores.contract.Store.fail`."""
        key = identity.fingerprint
        with self._lock:
            now = self._now()
            self._end_lease(key, owner, now)
            if hold is not None:
                # Kept beyond its end, so that the next failure in a row knows how many there were.
                self._holds.put(
                    (key, hold.credential),
                    hold,
                    now + hold.seconds + _FAILURES_REMEMBERED,
                    now,
                )

    def suspect(self, identity: Identity, *, generation: int, origin: str) -> SuspectOutcome:
        """See :meth:`accredit.stores.contract.Store.suspect`."""
        key = identity.fingerprint
        with self._lock:
            now = self._now()
            if self._cooling.get((key, origin), now) is not None:
                return "cooling"
            kept = self._records.get(key)
            if kept is not None and kept.ends_at > now and kept.generation != generation:
                return "newer"
            if kept is not None:
                self._suspects.put(key, generation, kept.ends_at, now)
            return "suspect"

    def cool(self, identity: Identity, *, origin: str, seconds: float) -> None:
        """See :meth:`accredit.stores.contract.Store.cool`."""
        with self._lock:
            now = self._now()
            self._cooling.put((identity.fingerprint, origin), True, now + seconds, now)

    def remove(self, identity: Identity) -> None:
        """See :meth:`accredit.stores.contract.Store.remove`."""
        key = identity.fingerprint
        with self._lock:
            self._records.pop(key, None)
            self._suspects.drop(key)
            self._holds.drop_where(lambda entry: entry[0] == key)
            self._cooling.drop_where(lambda entry: entry[0] == key)

    def endpoint_hold(self, key: str) -> Hold | None:
        """See :meth:`accredit.stores.contract.Store.endpoint_hold`."""
        with self._lock:
            now = self._now()
            held = self._throttles.get(key, now)
            return None if held is None else held[0]._replace(seconds=held[1] - now)

    def hold_endpoint(self, key: str, hold: Hold) -> None:
        """See :meth:`accredit.stores.contract.Store.hold_endpoint`."""
        with self._lock:
            now = self._now()
            there = self._throttles.get(key, now)
            if there is None or there[1] < now + hold.seconds:
                self._throttles.put(key, hold, now + hold.seconds, now)

    def after_fork(self) -> None:
        """Replace the lock; leases belonged to threads that the child does not have."""
        self._lock = threading.Lock()
        self._leases = _Ending[bytes, str](self._max)

    def close(self) -> None:
        """Do nothing: there is nothing to give back, and others may share the store."""

    # -- under the lock ------------------------------------------------------------------------------

    def _stored(self, identity: Identity, now: float) -> Stored | None:
        key = identity.fingerprint
        kept = self._records.get(key)
        if kept is None:
            return None
        if kept.ends_at <= now:
            del self._records[key]
            self._suspects.drop(key)
            return None
        # A dict keeps its order of insertion, so putting an entry back makes it the most recent one.
        del self._records[key]
        self._records[key] = kept
        return self._to_stored(identity, kept, now)

    def _to_stored(self, identity: Identity, kept: _Kept, now: float) -> Stored:
        suspect = self._suspects.get(identity.fingerprint, now)
        return Stored(
            kept.record(identity),
            kept.ends_at - now,
            suspect is not None and suspect[0] == kept.generation,
        )

    def _end_lease(self, key: bytes, owner: str, now: float) -> None:
        leased = self._leases.get(key, now)
        if leased is not None and leased[0] == owner:
            self._leases.drop(key)

    def _make_room(self) -> None:
        if len(self._records) < self._max:
            return
        # A batch at a time: taking the first entry of a dict over and over would scan the gaps it leaves.
        for oldest in list(islice(self._records, 1 + self._max // _BATCHES)):
            del self._records[oldest]
            self._suspects.drop(oldest)


K = TypeVar("K")


class _Ending(Generic[K, V]):
    """A bounded dict whose entries end by themselves."""

    __slots__ = ("_entries", "_max")

    def __init__(self, max_entries: int) -> None:
        self._max = max_entries
        self._entries: dict[K, tuple[V, float]] = {}

    def get(self, key: K, now: float) -> tuple[V, float] | None:
        entry = self._entries.get(key)
        if entry is not None and entry[1] <= now:
            del self._entries[key]
            return None
        return entry

    def put(self, key: K, value: V, until: float, now: float) -> None:
        self._entries.pop(key, None)
        if len(self._entries) >= self._max:
            self._sweep(now)
        self._entries[key] = (value, until)

    def drop(self, key: K) -> None:
        self._entries.pop(key, None)

    def drop_where(self, matches: Callable[[K], bool]) -> None:
        for key in [key for key in self._entries if matches(key)]:
            del self._entries[key]

    def _sweep(self, now: float) -> None:
        for key in [key for key, (_, until) in self._entries.items() if until <= now]:
            del self._entries[key]
        # A batch at a time, so that a table full of what has not ended is not gone through for every entry.
        if len(self._entries) >= self._max:
            for oldest in list(islice(self._entries, 1 + self._max // _BATCHES)):
                del self._entries[oldest]
