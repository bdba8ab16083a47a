"""The shared store, as a model: the real in-memory store on every node, with replication, fail-over and split brain.

What is written is logged and reaches the follower some time later, applied at the time at which it was written; a
fail-over loses what the follower has not got. In a split brain some processes go on with the old node; when it heals,
what they wrote there is lost. Processes of another schema have entries of their own on the same node.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from accredit.core import effects
from accredit.core.effects import StoreEffect
from accredit.core.identity import Identity
from accredit.core.records import Claimed, Stored
from accredit.stores.memory import MemoryStore

#: Seconds after which a client of the store gives up waiting for an answer.
TIME_OUT = 0.25
#: The latest that an operation may arrive for which nobody waits any more, in seconds.
LATEST = 3.25
#: The longest replication lag in seconds.
LONGEST_LAG = 5.0
_COMPACT = 256
_ENDING = ("_suspects", "_leases", "_holds", "_cooling", "_throttles")


class Written(NamedTuple):
    """One entry of the log."""

    at: float
    schema: int
    effect: StoreEffect


class Node:
    """One server of the store. A verb is performed at the time that is given, so that a log can be replayed."""

    def __init__(self, name: str, *, skew: float = 0.0) -> None:
        self.name = name
        #: How far its clock is off, in seconds.
        self.skew = skew
        self._time = 0.0
        self.stores: dict[int, MemoryStore] = {}
        # What a record says of its own end: the in-memory store has no need to keep it, a shared one has.
        self._ends: dict[tuple[int, bytes], float] = {}

    def _clock(self) -> float:
        return self._time + self.skew

    def _store(self, schema: int) -> MemoryStore:
        store = self.stores.get(schema)
        if store is None:
            store = self.stores[schema] = MemoryStore(clock=self._clock)
        return store

    def perform(self, effect: StoreEffect, at: float, schema: int = 1) -> object:
        """Perform a verb."""
        self._time = at
        store = self._store(schema)
        match effect:
            case effects.Claim(identity, newer_than, credential, owner, lease):
                claimed = store.claim(identity, newer_than=newer_than, credential=credential, owner=owner, lease=lease)
                return Claimed(self._whole(claimed.stored, schema), claimed.directive)
            case effects.Publish(identity, owner, record, remaining, credential, based_on):
                stored = store.publish(
                    identity, owner=owner, record=record, remaining=remaining, credential=credential, based_on=based_on
                )
                if (stored.record.generation ^ record.generation) & 0xFFFFFFFF == 0:
                    self._ends[schema, identity.encoded] = record.expires_at
                return self._whole(stored, schema)
            case effects.Fail(identity, owner, hold):
                return store.fail(identity, owner=owner, hold=hold)
            case effects.Suspect(identity, generation, origin):
                return store.suspect(identity, generation=generation, origin=origin)
            case effects.Cool(identity, origin, seconds):
                return store.cool(identity, origin=origin, seconds=seconds)
            case effects.Remove(identity):
                return store.remove(identity)
            case effects.EndpointHold(key):
                return store.endpoint_hold(key)
            case effects.HoldEndpoint(key, hold):
                return store.hold_endpoint(key, hold)

    def look(self, identity: Identity, at: float, schema: int = 1) -> Stored | None:
        """Return the record there is: for those who watch, not for those who are watched."""
        self._time = at
        return self._whole(self._store(schema).read(identity), schema)

    def evict(self, identity: Identity) -> None:
        """Forget everything about an identity, as a store that is short of memory may."""
        key = identity.fingerprint
        for store in self.stores.values():
            store.remove(identity)
            store._leases.drop(key)

    def copy(self, name: str, *, skew: float) -> Node:
        """Return another node with the same entries. Their ends are times of day: a clock that is off moves them."""
        other = Node(name, skew=skew)
        other._ends = dict(self._ends)
        for schema, store in self.stores.items():
            twin = other._store(schema)
            twin._records.update(store._records)
            for table in _ENDING:
                getattr(twin, table)._entries.update(getattr(store, table)._entries)
        return other

    def entries(self, table: str, at: float) -> int:
        """Return how many entries of a table have not ended."""
        stores = self.stores.values()
        return sum(end > at + self.skew for each in stores for _, end in getattr(each, table)._entries.values())

    def _whole(self, stored: Stored | None, schema: int) -> Stored | None:
        if stored is None:
            return None
        record = stored.record
        ends = self._ends.get((schema, record.identity), record.expires_at)
        return Stored(replace(record, expires_at=ends), stored.remaining, stored.suspect)


class SharedStore:
    """What the address of the store leads to."""

    def __init__(self) -> None:
        self._count = 1
        self.primary = Node("node1")
        self._follower = Node("node1'")
        self._log: list[Written] = []
        #: Nobody can reach it.
        self.down = False
        #: A split brain: the node that was the primary, and the processes that still believe it is.
        self.stale: Node | None = None
        self.minority: frozenset[str] = frozenset()
        #: How often a primary was replaced, by any way: what was claimed before counts for nothing after.
        self.epoch = 0

    def node_for(self, process: str) -> Node:
        """Return the node that a process reaches."""
        return self.stale if self.stale is not None and process in self.minority else self.primary

    def perform(self, process: str, schema: int, effect: StoreEffect, at: float) -> tuple[Node, object]:
        """Perform a verb of a process.

        Raises:
            ConnectionError: the store is down.

        """
        if self.down:
            raise ConnectionError("connection refused")
        node = self.node_for(process)
        answer = node.perform(effect, at, schema)
        if node is self.primary and not isinstance(effect, effects.EndpointHold):
            self._log.append(Written(at, schema, effect))
            if len(self._log) > _COMPACT:
                self._replicate(at - LONGEST_LAG)
        return node, answer

    def fail_over(self, at: float, *, lag: float, skew: float) -> None:
        """Make the follower the primary; the writes of the last ``lag`` seconds are lost."""
        self._replicate(at - lag)
        self._promote(self._follower, skew)

    def split(self, at: float, minority: frozenset[str], *, lag: float) -> None:
        """Make the follower the primary, for all but a minority that goes on with the old one."""
        old = self.primary
        self.fail_over(at, lag=lag, skew=0.0)
        self.stale, self.minority = old, minority

    def heal(self) -> None:
        """End a split brain; what was written to the old node is lost."""
        self.stale, self.minority = None, frozenset()
        self.epoch += 1

    def lose_everything(self) -> None:
        """Start anew without any entry, as a store without persistence does."""
        self._promote(Node(""), 0.0)

    def evict(self, identity: Identity) -> None:
        """Forget an identity."""
        self.primary.evict(identity)
        self._follower.evict(identity)
        self._log = [each for each in self._log if getattr(each.effect, "identity", None) != identity]
        self.epoch += 1

    def _promote(self, node: Node, skew: float) -> None:
        self._count += 1
        self.epoch += 1
        self._log.clear()
        self.primary = node.copy(f"node{self._count}", skew=skew)
        self._follower = self.primary.copy(f"node{self._count}'", skew=skew)

    def _replicate(self, until: float) -> None:
        done = 0
        for at, schema, effect in self._log:
            if at > until:
                break
            self._follower.perform(effect, at, schema)
            done += 1
        del self._log[:done]
