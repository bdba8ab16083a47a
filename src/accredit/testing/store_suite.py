"""What the tests of the store contract stand on: fixtures, shorthands, made-up identities and records."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from accredit.core.client_auth import ClientSecretPost
from accredit.core.identity import Identity
from accredit.core.records import Claimed, Record, Stored
from accredit.core.registration import ClientRegistration, token_request_for
from accredit.stores.contract import Store
from accredit.testing.clock import SteerableClock

T = TypeVar("T")
THREADS = 64


def make_identity(
    *, scope: str = "orders:read", principal: str | None = None, registration_id: str | None = None
) -> Identity:
    """Return an identity; without ``registration_id`` one that no other call returned."""
    registration = ClientRegistration(
        id=registration_id or f"contract-{secrets.token_hex(8)}",
        client_id="contract",
        client_auth=ClientSecretPost("contract"),
        token_endpoint="https://as.example/token",  # noqa: S106 - no password
    )
    return token_request_for(registration, scope=scope, principal=principal).identity


def make_record(
    identity: Identity, value: str = "token", *, lifetime: float = 3600.0, bits: int | None = None, **rest: object
) -> Record:
    """Return a record as a flow offers it to :meth:`~accredit.stores.contract.Store.publish`."""
    nonce = secrets.randbits(32) if bits is None else bits
    return Record(identity.encoded, value, lifetime, 4e9, (1 << 32) | nonce, **rest)  # type: ignore[arg-type]


class StoreSuite:
    """Fixtures and shorthands; the tests are in :mod:`accredit.testing.store_contract`."""

    def make_store(self, clock: SteerableClock) -> Store:
        """Return the store to test; it reads ``clock`` if its clock can be steered at all."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> SteerableClock:
        """Give the clock of the store."""
        return SteerableClock()

    @pytest.fixture
    def store(self, clock: SteerableClock) -> Iterator[Store]:
        """Give the store, and close it in the end."""
        store = self.make_store(clock)
        yield store
        store.close()

    @pytest.fixture
    def identity(self) -> Identity:
        """Give an identity of which the store has nothing."""
        return make_identity()

    # -- shorthands --------------------------------------------------------------------------------

    @staticmethod
    def claim(
        store: Store,
        identity: Identity,
        owner: str = "a",
        *,
        newer_than: int | None = None,
        credential: str = "tag",
        lease: float = 30.0,
    ) -> Claimed:
        """Claim with the usual arguments."""
        return store.claim(identity, newer_than=newer_than, credential=credential, owner=owner, lease=lease)

    @staticmethod
    def publish(
        store: Store,
        identity: Identity,
        record: Record | None = None,
        *,
        owner: str = "a",
        remaining: float = 3600.0,
        credential: str = "tag",
        based_on: int | None = None,
    ) -> Stored:
        """Publish with the usual arguments."""
        return store.publish(
            identity,
            owner=owner,
            record=record or make_record(identity),
            remaining=remaining,
            credential=credential,
            based_on=based_on,
        )


def at_once(work: Callable[[int], T]) -> list[T]:
    """Do something on many threads that a barrier starts together; return what each returned."""
    barrier = threading.Barrier(THREADS)
    results: dict[int, T] = {}

    def run(number: int) -> None:
        barrier.wait()
        results[number] = work(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == THREADS, "a thread raised"
    return [results[number] for number in range(THREADS)]
