"""The store contract, written as behaviour.

A store keeps, per identity, at most one record, one lease, holds, and cool-downs; and throttles per token endpoint.
It has a clock of its own, by which all of them end. **Each verb is one atomic step** in its backend: a dict operation
under a lock, one transaction, one script in one round trip. Verbs are synchronous and run on worker threads.

A verb that fails raises any exception; the engine turns that into "the store is down" and goes on alone. Every
verb is safe to be repeated by the same owner, since a client library may send it twice.

``accredit.testing.store_contract`` has the test suite of this contract, for stores that others write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol, runtime_checkable

from accredit.core.effects import SuspectOutcome
from accredit.core.events import Event
from accredit.core.identity import Identity
from accredit.core.records import Claimed, Hold, Record, Stored


class Store(Protocol):
    """Where tokens are kept and shared."""

    @property
    def in_process(self) -> bool:
        """Whether verbs only touch memory, so that they may run on a caller's own thread."""

    def read(self, identity: Identity) -> Stored | None:
        """Return the record of ``identity`` if it has life left, suspect or not."""

    def claim(
        self,
        identity: Identity,
        *,
        newer_than: int | None,
        credential: str,
        owner: str,
        lease: float,
    ) -> Claimed:
        """Claim the right to make the token request.

        The first of these that applies is the directive:

        1. there is a record with life left that is newer than ``newer_than`` and not suspect: ``Satisfied``;
        2. a hold runs, for this credential or for all: ``Held`` with what is left of it;
        3. another owner's lease runs: ``Wait`` with what is left of it;
        4. otherwise the caller gets the lease for ``lease`` seconds, or has its own extended: ``Lead``, with
           the failures in a row that are remembered for this credential.

        A lease that does not end by itself (a foreign or broken entry) is replaced.
        The record there is comes with the answer in any case.
        """

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
        """Keep ``record`` for ``remaining`` seconds and return what is kept.

        The owner's lease and the holds of the credential end.

        When a record newer than ``based_on`` came meanwhile (the owner's lease had run out), is not suspect and
        lives at least as long, that one stays. Otherwise the record is kept under the generation after the
        larger of ``based_on`` and the one that was there, with the random bits of ``record.generation``.
        A store that is shared begins, where there is neither, beyond all that it has ever given: processes remember
        the generations of tokens that have ended, and would ask again for one that counts anew.
        A lease of another owner is left alone.
        """

    def fail(self, identity: Identity, *, owner: str, hold: Hold | None) -> None:
        """End the owner's lease, and hold. A lease of another owner is left alone."""

    def suspect(self, identity: Identity, *, generation: int, origin: str) -> SuspectOutcome:
        """Mark a generation as refused by the API at ``origin`` (empty: no particular one).

        Return ``"cooling"`` (and do nothing) while a cool-down runs for that origin, ``"newer"`` (and do nothing)
        when the record is another generation, else ``"suspect"``.
        """

    def cool(self, identity: Identity, *, origin: str, seconds: float) -> None:
        """Start a cool-down for that origin."""

    def remove(self, identity: Identity) -> None:
        """Forget the record, its holds and its cool-downs. A lease that runs is left alone."""

    def endpoint_hold(self, key: str) -> Hold | None:
        """Return what is left of the throttle of that token endpoint and client."""

    def hold_endpoint(self, key: str, hold: Hold) -> None:
        """Throttle that token endpoint and client for ``hold.seconds``; a longer throttle that runs stays."""

    def after_fork(self) -> None:
        """Replace locks and connections in a forked child, without acquiring or closing the old ones."""

    def close(self) -> None:
        """Give back what the store holds open."""


@runtime_checkable
class ReportingStore(Protocol):
    """A store that has something to tell of: records that it does not use, or that it cannot be used itself.

    What a verb raises is reported by the engine; this is for what goes on without a failure.
    """

    def report_to(self, report: Callable[[Event], None]) -> None:
        """Tell ``report`` too from now on; each engine that uses the store calls this once.

        A bound method is not to be kept alive by it. The store calls outside its locks and transactions.
        """


class Entry(NamedTuple):
    """A record as an operator may see it: never the token.

    Attributes:
        key: the key in the store.
        registration: id of the registration.
        principal: whose token it is.
        remaining: seconds of life left.
        generation: see :func:`accredit.core.records.next_generation`.
        key_id: id of the encryption key; empty for plaintext.
        schema: version of the schema of the record.
        suspect: an API refused it.

    """

    key: str
    registration: str
    principal: str
    remaining: float
    generation: int
    key_id: str
    schema: int
    suspect: bool


@runtime_checkable
class ManagedStore(Protocol):
    """A store whose content an operator can look at, as ``accredit store`` does; no key is needed for it."""

    def entries(self, *, registration: str | None = None) -> Iterable[Entry]:
        """Return the records with life left, of one registration or of all, in the order of their keys."""

    def remove_key(self, key: str) -> bool:
        """Forget what is kept under that key (record, holds and cool-downs); tell whether there was a record."""

    def purge(self, *, registration: str | None = None) -> int:
        """Forget all that accredit keeps here, or all of one registration; return how many records there were."""
