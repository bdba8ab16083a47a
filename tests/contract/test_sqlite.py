"""The SQLite store keeps the store contract: as it is, and with what it keeps sealed."""

from __future__ import annotations

from pathlib import Path

import pytest

from accredit.stores.contract import Store
from accredit.stores.envelope import Keyring, generate_key
from accredit.stores.sqlite import SqliteStore
from accredit.testing.clock import SteerableClock
from accredit.testing.store_contract import TimedStoreContract

# What threads of a busy machine may need to get their turn; the store's own limit is a matter of other tests.
PATIENT = 30.0


class TestSqlite(TimedStoreContract):
    keyring: Keyring | None = None

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "tokens.sqlite3"

    def make_store(self, clock: SteerableClock) -> Store:
        return SqliteStore(self.path, keyring=self.keyring, clock=clock, timeout=PATIENT)


class TestSealed(TestSqlite):
    keyring = Keyring(generate_key().reveal())


class TestWhereTheBootIsNotKnown(TestSqlite):
    def make_store(self, clock: SteerableClock) -> Store:
        return SqliteStore(self.path, clock=clock, boot="", timeout=PATIENT)


class TestWithARollbackJournal(TestSqlite):
    """As on file systems that may be a network."""

    @pytest.fixture(autouse=True)
    def _nothing_is_local(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("accredit.stores.database.is_local", lambda _: False)
