"""The SQLite store: tokens shared by the processes of one machine, without any server.

One file of this user's (:mod:`accredit.stores.places`), each verb one transaction (:mod:`accredit.stores.database`),
times that hold across processes and boots (:mod:`accredit.stores.machine`). What cannot be used, for whatever reason,
raises StoreError from a verb; the engine goes on without the store, and looks again every two seconds.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from accredit.clock import Clock, SystemClock
from accredit.core.effects import SuspectOutcome
from accredit.core.events import Event, RecordRefused
from accredit.core.identity import DEFAULT_PREFIX, Identity
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
from accredit.errors import ConfigurationError, StoreError
from accredit.stores.codec import RecordCodec, UnreadableRecord
from accredit.stores.contract import Entry
from accredit.stores.database import Database
from accredit.stores.envelope import Keyring
from accredit.stores.machine import SET_BACK, SKEW, Moment, Span, current_boot
from accredit.stores.places import default_path
from accredit.stores.reports import Reports

TIMEOUT: Final = 0.25
_FAILURES_REMEMBERED: Final = 120.0
_REMEMBERED: Final = 86400.0
_MARKS_FOR_EACH: Final = 4
_LONGEST_MARK: Final = 3600.0
_SHIFT: Final = 32
_LOW: Final = 0xFFFFFFFF
_MOST_HIGH: Final = 2**62

# The number is that of the layout: another one gets tables of its own beside these, and both are used side by side.
# Every layout has ``key`` and ``registration`` in its records and ``key`` in its marks, so that any version can purge.
_SCHEMA: Final = {
    "record_1": """
        CREATE TABLE IF NOT EXISTS record_1 (
            key TEXT NOT NULL, form TEXT NOT NULL, registration TEXT NOT NULL, principal TEXT NOT NULL,
            high INTEGER NOT NULL, low INTEGER NOT NULL, suspect INTEGER NOT NULL,
            boot TEXT NOT NULL, began REAL NOT NULL, ends REAL NOT NULL, wall REAL NOT NULL,
            data BLOB NOT NULL, PRIMARY KEY (key, form))""",
    "mark_1": """
        CREATE TABLE IF NOT EXISTS mark_1 (
            key TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
            boot TEXT NOT NULL, began REAL NOT NULL, ends REAL NOT NULL, wall REAL NOT NULL,
            data BLOB NOT NULL, PRIMARY KEY (key, kind, name)) WITHOUT ROWID""",
}
# Cast, since a damaged file, or somebody's hand, may have put anything into any column.
_SPAN: Final = "CAST(boot AS TEXT), CAST(began AS REAL), CAST(ends AS REAL), CAST(wall AS REAL)"
_FIND: Final = (
    f"SELECT CAST(high AS INTEGER), CAST(low AS INTEGER), suspect, CAST(data AS BLOB), {_SPAN}"  # noqa: S608 - constants
    " FROM record_1 WHERE key = ? ORDER BY high DESC, low DESC"
)
_KEEP: Final = "INSERT OR REPLACE INTO record_1 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_MARK: Final = "INSERT OR REPLACE INTO mark_1 VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_MARKED: Final = f"SELECT CAST(data AS BLOB), {_SPAN} FROM mark_1 WHERE key = ? AND kind = ? AND name = ?"  # noqa: S608
_UNMARK: Final = "DELETE FROM mark_1 WHERE key = ? AND kind = ? AND name = ?"
# What has ended, as Span.left and Span.left_in_boot tell it: now, boot and wall stand for the moment.
_ENDED: Final = f"""
    CASE WHEN boot = :boot AND boot != '' AND began <= :now + {SKEW} THEN ends <= :now
        ELSE wall + ends - began <= :wall OR wall > :wall + {SET_BACK} END"""
# The token goes at once. The generation is remembered for a day: a process that still has the token of before takes
# only a newer one, and would not know one that began to count anew.
_WIPE: Final = f"UPDATE record_1 SET data = x'' WHERE data != x'' AND {_ENDED}"  # noqa: S608 - constants
_SWEEP_RECORDS: Final = (
    f"DELETE FROM record_1 WHERE data = x'' AND (wall < :wall - {_REMEMBERED} OR wall > :wall + {_REMEMBERED})"  # noqa: S608
)
_SWEEP_MARKS: Final = f"DELETE FROM mark_1 WHERE boot != :boot OR began > :now + {SKEW} OR ends + :more <= :now"  # noqa: S608 - constants


# What processes with other keys, or of other versions, keep beside what this one reads.
_OF_OTHERS: Final = frozenset({"encrypted", "key", "plaintext", "schema"})


class _Found(NamedTuple):
    stored: Stored | None
    newest: int
    refused: str | None


class SqliteStore:
    """Tokens in one SQLite file, for all processes of this user on this machine.

    Args:
        path: the file; by default ``accredit/tokens.sqlite3`` in the user's state directory. It gets mode 0600, its
            folder must belong to the user and be writable for nobody else.
        prefix: what keys begin with, for several fleets in one file.
        keyring: seals what is kept; without it tokens lie in the file as they are.
        timeout: seconds that a verb may wait for other processes.
        max_entries: most records kept; the ones written longest ago go first.
        max_bytes: most bytes of the file.
        clock: the clocks, for tests that steer time.
        boot: what tells this boot of the machine from others, for tests.

    Raises:
        ConfigurationError: an argument is wrong. Nothing is opened or made before the first verb.

    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        prefix: str = DEFAULT_PREFIX,
        keyring: Keyring | None = None,
        timeout: float = TIMEOUT,
        max_entries: int = 10_000,
        max_bytes: int = 64 * 1024 * 1024,
        clock: Clock | None = None,
        boot: str | None = None,
    ) -> None:
        """Take the settings; nothing is opened yet."""
        _check(prefix, timeout, max_entries, max_bytes)
        # Made absolute now: the process may change its directory before the store is used.
        self._path: Path | None = None if path is None else Path(os.path.abspath(path))  # noqa: PTH100 - links stay
        self._prefix = prefix
        self._codec = RecordCodec(keyring)
        self._clock: Clock = clock or SystemClock()
        self._boot = boot
        self._max = max_entries
        self._reports = Reports(self._clock.now)
        self._database = Database(
            lambda: self._path or default_path(), schema=_SCHEMA, timeout=timeout, max_bytes=max_bytes
        )

    @property
    def in_process(self) -> bool:
        """False: verbs read and write a file."""
        return False

    @property
    def path(self) -> Path:
        """The file.

        Raises:
            StoreError: none is named, and this user has no directory for state.

        """
        return self._path or default_path()

    @property
    def tag_key(self) -> bytes | None:
        """See :attr:`accredit.stores.codec.RecordCodec.tag_key`."""
        return self._codec.tag_key

    def report_to(self, report: Callable[[Event], None]) -> None:
        """See :meth:`accredit.stores.contract.ReportingStore.report_to`."""
        self._reports.add(report)

    # -- the store contract --------------------------------------------------------------------------

    def read(self, identity: Identity) -> Stored | None:
        """Return the record if it has life left."""
        key, moment = self._key(identity), self._moment()
        found = self._database.read(lambda connection: self._find(connection, key, identity, moment))
        self._tell(identity, found)
        return found.stored

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
        key = self._key(identity)

        def look(connection: sqlite3.Connection) -> tuple[_Found, Claimed]:
            moment = self._moment()
            found = self._find(connection, key, identity, moment)
            return found, self._directive(connection, key, found.stored, newer_than, credential, owner, moment)

        def lead(connection: sqlite3.Connection) -> tuple[_Found, Claimed]:
            found, answer = look(connection)
            if isinstance(answer.directive, Lead):
                _put_mark(connection, key, "lease", "", Span.of(self._moment(), lease), owner.encode())
            return found, answer

        # Those who wait look again and again, and looking keeps nobody from writing.
        found, answer = self._database.read(look)
        if isinstance(answer.directive, Lead):
            found, answer = self._database.write(lead)
        self._tell(identity, found)
        return answer

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
        key = self._key(identity)
        remaining = min(remaining, record.lifetime)

        def keep(connection: sqlite3.Connection) -> Stored:
            moment = self._moment()
            _end_lease(connection, key, owner)
            there, newest, _ = self._find(connection, key, identity, moment)
            if (
                there is not None
                and not there.suspect
                and is_newer(there.record.generation, based_on or 0)
                and there.remaining >= remaining
            ):
                return there
            kept = replace(record, generation=next_generation(max(based_on or 0, newest), record.generation))
            if remaining > 0:
                data = self._codec.encode(kept, store_key=key)
                high, low = kept.generation >> _SHIFT, kept.generation & _LOW
                self._make_room(connection, moment)
                connection.execute(
                    _KEEP,
                    (
                        *(key, self._codec.form, identity.registration, identity.principal, high, low, 0),
                        *(*Span.of(moment, remaining), data),
                    ),
                )
            for name in {"", credential}:
                connection.execute(_UNMARK, (key, "hold", name))
            return Stored(kept, remaining)

        problem = None
        try:
            return self._database.write(keep)
        except StoreError as error:
            problem = error
        if problem.reason != "full":
            raise problem.fresh()
        # The file has the size that it may have: half of what is in it makes room, those written longest ago.
        self._database.write(_halve)
        return self._database.write(keep)

    def fail(self, identity: Identity, *, owner: str, hold: Hold | None) -> None:
        """See :meth:`accredit.stores.contract.Store.fail`."""
        key = self._key(identity)
        data = None if hold is None else self._codec.encode_hold(hold)

        def end(connection: sqlite3.Connection) -> None:
            _end_lease(connection, key, owner)
            if hold is not None and data is not None:
                moment = self._moment()
                self._make_room(connection, moment)
                _put_mark(connection, key, "hold", hold.credential, Span.of(moment, hold.seconds), data)

        self._database.write(end)

    def suspect(self, identity: Identity, *, generation: int, origin: str) -> SuspectOutcome:
        """See :meth:`accredit.stores.contract.Store.suspect`."""
        key = self._key(identity)

        def mark(connection: sqlite3.Connection) -> SuspectOutcome:
            moment = self._moment()
            if _mark(connection, key, "cool", origin, moment) is not None:
                return "cooling"
            stored = self._find(connection, key, identity, moment).stored
            if stored is not None and stored.record.generation != generation:
                return "newer"
            connection.execute(
                "UPDATE record_1 SET suspect = 1 WHERE key = ? AND high = ? AND low = ?",
                (key, *_split(generation)),
            )
            return "suspect"

        return self._database.write(mark)

    def cool(self, identity: Identity, *, origin: str, seconds: float) -> None:
        """See :meth:`accredit.stores.contract.Store.cool`."""
        key = self._key(identity)

        def mark(connection: sqlite3.Connection) -> None:
            moment = self._moment()
            self._make_room(connection, moment)
            _put_mark(connection, key, "cool", origin, Span.of(moment, seconds), b"")

        self._database.write(mark)

    def remove(self, identity: Identity) -> None:
        """See :meth:`accredit.stores.contract.Store.remove`."""
        self.remove_key(self._key(identity))

    def endpoint_hold(self, key: str) -> Hold | None:
        """See :meth:`accredit.stores.contract.Store.endpoint_hold`."""
        name = f"{self._prefix}:endpoint:{key}"
        found = self._database.read(lambda connection: _mark(connection, name, "hold", "", self._moment()))
        return None if found is None else self._hold(*found)

    def hold_endpoint(self, key: str, hold: Hold) -> None:
        """See :meth:`accredit.stores.contract.Store.hold_endpoint`."""
        name = f"{self._prefix}:endpoint:{key}"
        data = self._codec.encode_hold(hold)

        def mark(connection: sqlite3.Connection) -> None:
            moment = self._moment()
            there = _mark(connection, name, "hold", "", moment)
            if there is None or there[1] < hold.seconds:
                self._make_room(connection, moment)
                _put_mark(connection, name, "hold", "", Span.of(moment, hold.seconds), data)

        self._database.write(mark)

    def after_fork(self) -> None:
        """Do nothing: the file is closed before a fork and opened again by whoever uses it."""

    def close(self) -> None:
        """Close the file; a later verb would open it again."""
        self._database.close()

    # -- for operators -------------------------------------------------------------------------------

    def entries(self, *, registration: str | None = None) -> Iterable[Entry]:
        """See :meth:`accredit.stores.contract.ManagedStore.entries`."""

        def collect(connection: sqlite3.Connection) -> list[Entry]:
            moment = self._moment()
            rows = connection.execute(
                "SELECT key, form, registration, principal, CAST(high AS INTEGER), CAST(low AS INTEGER), suspect,"  # noqa: S608
                f" {_SPAN} FROM record_1"
                " WHERE substr(key, 1, ?) = ? AND registration = coalesce(?, registration) ORDER BY key, form",
                (len(self._prefix) + 1, f"{self._prefix}:", registration),
            )
            entries = []
            for key, form, name, principal, high, low, suspect, *times in rows:
                left = Span(*times).left(moment)
                schema, _, rest = form.partition(":")
                key_id = rest.partition(":")[2]
                if left > 0:
                    generation = (high << _SHIFT) | low
                    entries.append(
                        Entry(key, name, principal, left, generation, key_id, int(schema), suspect=bool(suspect))
                    )
            return entries

        return self._database.read(collect)

    def remove_key(self, key: str) -> bool:
        """See :meth:`accredit.stores.contract.ManagedStore.remove_key`."""

        def forget(connection: sqlite3.Connection) -> bool:
            (count,) = connection.execute(
                "SELECT count(*) FROM record_1 WHERE key = ? AND data != x''", (key,)
            ).fetchone()
            connection.execute("DELETE FROM record_1 WHERE key = ?", (key,))
            connection.execute("DELETE FROM mark_1 WHERE key = ? AND kind != 'lease'", (key,))
            return bool(count)

        return self._database.write(forget)

    def purge(self, *, registration: str | None = None) -> int:
        """See :meth:`accredit.stores.contract.ManagedStore.purge`. The layouts of other versions are purged too."""
        length, start = len(self._prefix) + 1, f"{self._prefix}:"

        def forget(connection: sqlite3.Connection) -> int:
            count = 0
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for name in names:
                kind, _, number = name.partition("_")
                if kind not in {"record", "mark"} or not number.isdigit():
                    continue
                condition, values = "substr(key, 1, ?) = ?", [length, start]
                if registration is not None:
                    within = f"{self._prefix}:{registration}:"
                    condition, values = "substr(key, 1, ?) = ?", [len(within), within]
                # The name is one of those above and a number.
                if kind == "record":
                    there = f"SELECT count(*) FROM {name} WHERE {condition}"  # noqa: S608
                    there += " AND data != x''" if name in _SCHEMA else ""
                    count += connection.execute(there, values).fetchone()[0]
                connection.execute(f"DELETE FROM {name} WHERE {condition}", values)  # noqa: S608
            return count

        count = self._database.write(forget)
        self._database.tidy()
        return count

    # -- within a transaction ------------------------------------------------------------------------

    def _moment(self) -> Moment:
        if self._boot is None:
            self._boot = current_boot()
        return Moment(self._boot, self._clock.now(), self._clock.wall())

    def _key(self, identity: Identity) -> str:
        return identity.store_key(self._prefix)

    def _find(self, connection: sqlite3.Connection, key: str, identity: Identity, moment: Moment) -> _Found:
        """Return the newest record that can be used, the newest generation there was, and why others were refused."""
        refused: str | None = None
        newest = 0
        for high, low, suspect, data, *times in connection.execute(_FIND, (key,)).fetchall():
            if not 0 <= high < _MOST_HIGH:
                continue
            generation = (high << _SHIFT) | low
            newest = max(newest, generation)
            left = Span(*times).left(moment)
            if left <= 0:
                continue
            try:
                record = self._codec.decode(data, store_key=key, identity=identity)
                reason = "" if record.generation == generation else "generation"
            except UnreadableRecord as error:
                reason = error.reason
            else:
                if not reason:
                    refused = None if refused in _OF_OTHERS else refused
                    return _Found(Stored(record, min(left, record.lifetime), bool(suspect)), newest, refused)
            refused = refused or reason
        return _Found(None, newest, refused)

    def _directive(
        self,
        connection: sqlite3.Connection,
        key: str,
        stored: Stored | None,
        newer_than: int | None,
        credential: str,
        owner: str,
        moment: Moment,
    ) -> Claimed:
        if stored is not None and not stored.suspect and is_newer(stored.record.generation, newer_than):
            return Claimed(stored, Satisfied())
        failures = 0
        for name in ("", credential):
            remembered = _mark(connection, key, "hold", name, moment, more=_FAILURES_REMEMBERED)
            hold = None if remembered is None else self._hold(*remembered)
            if hold is not None:
                failures = max(failures, hold.failures)
                if hold.seconds > 0:
                    return Claimed(stored, Held(hold))
        leased = _mark(connection, key, "lease", "", moment)
        if leased is not None and leased[0] != owner.encode():
            return Claimed(stored, Wait(leased[1]))
        return Claimed(stored, Lead(failures))

    def _hold(self, data: bytes, seconds: float) -> Hold | None:
        try:
            return self._codec.decode_hold(data, seconds)
        except UnreadableRecord:
            return None  # it holds nobody

    def _make_room(self, connection: sqlite3.Connection, moment: Moment) -> None:
        """Delete what has ended, and what is too many."""
        connection.execute(_WIPE, moment._asdict())
        connection.execute(_SWEEP_RECORDS, moment._asdict())
        connection.execute(_SWEEP_MARKS, {**moment._asdict(), "more": _FAILURES_REMEMBERED})
        (records,) = connection.execute("SELECT count(*) FROM record_1").fetchone()
        if records >= self._max:
            connection.execute(
                "DELETE FROM record_1 WHERE rowid IN (SELECT rowid FROM record_1 ORDER BY data != x'', rowid LIMIT ?)",
                (records - self._max + 1 + self._max // 64,),
            )
        (marks,) = connection.execute("SELECT count(*) FROM mark_1").fetchone()
        if marks >= self._max * _MARKS_FOR_EACH:
            connection.execute(
                "DELETE FROM mark_1 WHERE (key, kind, name) IN"
                " (SELECT key, kind, name FROM mark_1 ORDER BY began LIMIT ?)",
                (marks - self._max * _MARKS_FOR_EACH + 1 + self._max // 64,),
            )

    def _tell(self, identity: Identity, found: _Found) -> None:
        if found.refused is not None:
            self._reports.tell(RecordRefused(identity.registration, identity.principal, found.refused))


def _halve(connection: sqlite3.Connection) -> None:
    connection.execute(
        "DELETE FROM record_1 WHERE rowid IN"
        " (SELECT rowid FROM record_1 ORDER BY rowid LIMIT (SELECT (count(*) + 1) / 2 FROM record_1))"
    )


def _put_mark(connection: sqlite3.Connection, key: str, kind: str, name: str, span: Span, data: bytes) -> None:
    connection.execute(_MARK, (key, kind, name, *span, data))


def _mark(
    connection: sqlite3.Connection, key: str, kind: str, name: str, moment: Moment, *, more: float = 0.0
) -> tuple[bytes, float] | None:
    """Return the data of a mark and what is left of it, unless it ended ``more`` seconds ago or earlier.

    One that would run for longer than ours do is a broken or foreign entry, and counts as ended.
    """
    row = connection.execute(_MARKED, (key, kind, name)).fetchone()
    if row is None:
        return None
    data, *times = row
    span = Span(*times)
    left = span.left_in_boot(moment)
    return (data, left) if left + more > 0 and span.ends - span.began <= _LONGEST_MARK else None


def _end_lease(connection: sqlite3.Connection, key: str, owner: str) -> None:
    connection.execute(
        "DELETE FROM mark_1 WHERE key = ? AND kind = 'lease' AND name = '' AND data = ?", (key, owner.encode())
    )


def _split(generation: int) -> tuple[int, int]:
    return min(generation >> _SHIFT, _MOST_HIGH), generation & _LOW


def _check(prefix: str, timeout: float, max_entries: int, max_bytes: int) -> None:
    problem = None
    if not prefix or not prefix.isprintable() or len(prefix) > 200:
        problem = ("prefix", "is empty, too long or holds control characters", "Give a short text.")
    elif not 0 < timeout <= 60:
        problem = ("timeout", "is not between 0 and 60 seconds", "Give seconds, such as 0.25.")
    elif max_entries < 1:
        problem = ("max_entries", "is below 1", "Give the number of tokens to keep.")
    elif max_bytes < 256 * 1024:
        problem = ("max_bytes", "is below 256 KiB", "Give the number of bytes that the file may have.")
    if problem is not None:
        key, what, advice = problem
        raise ConfigurationError(f"{key} {what}.", advice=advice, key=key)
