"""The SQLite store keeps the store contract: plain and sealed, on any file system, and across processes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accredit.stores.contract import ManagedStore, ReportingStore, Store
from accredit.stores.envelope import Keyring, generate_key
from accredit.stores.sqlite import SqliteStore
from accredit.testing.clock import SteerableClock
from accredit.testing.store_contract import TimedStoreContract
from tests.stores.worker import Worker

# What threads of a busy machine may need to get their turn; the store's own limit is a matter of other tests.
PATIENT = 30.0
KEY = generate_key().reveal()
PROCESSES = 3


class TestSqlite(TimedStoreContract):
    keyring: Keyring | None = None

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "tokens.sqlite3"

    def make_store(self, clock: SteerableClock) -> Store:
        store = SqliteStore(self.path, keyring=self.keyring, clock=clock, timeout=PATIENT)
        assert isinstance(store, ReportingStore)
        assert isinstance(store, ManagedStore)
        return store


class TestSealed(TestSqlite):
    keyring = Keyring(KEY)


class TestWithARollbackJournalAndWithoutABootId(TestSqlite):
    """As on file systems that may be a network, and on platforms that do not tell one boot from another."""

    @pytest.fixture(autouse=True)
    def _nothing_is_local(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("accredit.stores.database.is_local", lambda _: False)

    def make_store(self, clock: SteerableClock) -> Store:
        return SqliteStore(self.path, clock=clock, boot="", timeout=PATIENT)


class _Elsewhere:
    """A store each verb of which runs in the next of several processes."""

    in_process = False

    def __init__(self, workers: list[Worker], clock: SteerableClock, **settings: Any) -> None:
        self._turn = itertools.cycle(workers)
        self._clock = clock
        self._settings = settings

    def __getattr__(self, verb: str) -> Any:
        def run(*values: Any, **named: Any) -> Any:
            return next(self._turn).do(
                dict(self._settings), (self._clock.now(), self._clock.wall()), verb, *values, **named
            )

        return run


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    workers = [Worker() for _ in range(PROCESSES)]
    yield workers
    for worker in workers:
        worker.close()


class TestAcrossProcesses(TestSqlite):
    @pytest.fixture(autouse=True)
    def _workers(self, workers: list[Worker]) -> None:
        self._all = workers

    def make_store(self, clock: SteerableClock) -> Store:
        return _Elsewhere(self._all, clock, path=self.path, key=KEY, timeout=PATIENT)
