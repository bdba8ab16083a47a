"""One SQLite file, shared by processes and threads: made whole, opened once per process, never carried over a fork.

Three facts about SQLite shape this module. Its locks belong to the process, so a connection that a fork has copied
must not be used *or closed* by the child, nor may the child open the file while it has that copy: connections are
closed before a fork, under the lock. A file that several processes create at once can be seen half made: it is made
under another name and then given its own. And a file that was deleted or replaced while it was open goes on being
written to in vain: each use first looks whether it is still the one.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar

from accredit.errors import StoreError
from accredit.stores.places import check_file, is_local, prepare_folder

T = TypeVar("T")
#: "accr": marks the files of accredit, so that those of others are left alone.
APPLICATION_ID: Final = 0x61636372
_MAGIC: Final = b"SQLite format 3\x00"
_PAGE_BYTES: Final = 4096
_STALE_SECONDS: Final = 60.0
_FORK_PATIENCE: Final = 2.0
_SLEEP: Final = (0.0005, 0.004)
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_BROKEN: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# By SQLite's result code: a word for metrics, and what it means.
_REASONS: Final = {
    sqlite3.SQLITE_BUSY: ("locked", "it is locked by another process"),
    sqlite3.SQLITE_LOCKED: ("locked", "it is locked by another process"),
    sqlite3.SQLITE_READONLY: ("read-only", "it can only be read"),
    sqlite3.SQLITE_FULL: ("full", "there is no room left"),
    sqlite3.SQLITE_IOERR: ("input or output", "reading or writing failed"),
    sqlite3.SQLITE_CANTOPEN: ("not opened", "it cannot be opened"),
    sqlite3.SQLITE_CORRUPT: ("damaged", "it is damaged"),
    sqlite3.SQLITE_NOTADB: ("damaged", "it is damaged, or no SQLite file"),
}
FileId = tuple[int, int]
Work = Callable[[sqlite3.Connection], T]


class Database:
    """Runs transactions on a file. Every failure is a :class:`StoreError` that says why and holds no content.

    Args:
        path: the file; its folder is made if need be.
        schema: the tables that there must be, and the statements that make them.
        timeout: seconds that a transaction may wait for other processes and threads.
        max_bytes: most bytes of the file.

    """

    def __init__(self, path: Callable[[], Path], *, schema: Mapping[str, str], timeout: float, max_bytes: int) -> None:
        """Open nothing yet."""
        self._path = path
        self._schema = schema
        self._timeout = timeout
        self._max_pages = max(16, max_bytes // _PAGE_BYTES)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[Path, FileId] | None = None
        self._pid = os.getpid()
        self._forking = False
        self._unusable = False
        _register(self)

    def read(self, work: Work[T]) -> T:
        """Return what ``work`` finds in one consistent state of the file.

        Raises:
            StoreError: it cannot be read, or not in time.

        """
        return self._run(work, "BEGIN")

    def write(self, work: Work[T]) -> T:
        """Run ``work`` as one transaction: all of it or nothing.

        ``work`` may be run again when another process was in the way, so it must do nothing but this.

        Raises:
            StoreError: it cannot be written, or not in time.

        """
        return self._run(work, "BEGIN IMMEDIATE")

    def tidy(self) -> None:
        """Write everything into the file itself and empty what lies beside it, as far as others let it."""
        with contextlib.suppress(sqlite3.Error, StoreError), self._held(time.monotonic() + self._timeout):
            self._open().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the file; the next transaction opens it again."""
        with contextlib.suppress(StoreError), self._held(time.monotonic() + _FORK_PATIENCE):
            self._close()

    # -- fork ----------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Close the file and keep the lock, so that the child gets neither a connection nor a transaction."""
        # In vain only where a signal handler forks in the middle of a transaction of its own thread.
        self._forking = self._lock.acquire(timeout=_FORK_PATIENCE)
        if self._forking:
            self._close()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._forking:
            self._forking = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Start anew. A connection that was open after all makes the file unusable in this process."""
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._forking = False
        if self._connection is not None:
            _INHERITED.append(self._connection)
            self._connection = None
            self._unusable = True

    def __del__(self) -> None:
        """Close the file, but not one that a fork copied."""
        if getattr(self, "_connection", None) is not None and self._pid == os.getpid():
            self._close()

    # -- transactions --------------------------------------------------------------------------------

    def _run(self, work: Work[T], begin: str) -> T:
        give_up = time.monotonic() + self._timeout
        with self._held(give_up):
            mended = False
            while True:
                code = sqlite3.SQLITE_IOERR
                try:
                    return self._transact(work, begin)
                except sqlite3.Error as error:
                    # Errors of a wrong use have no code; what they say may quote a value.
                    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
                if code in _BUSY and time.monotonic() < give_up:
                    # Shorter and less regular than SQLite's own steps, of which the last is 100 ms.
                    time.sleep(random.uniform(*_SLEEP))  # noqa: S311 - no secret
                    continue
                if code not in _BUSY:
                    self._close()
                if code in _BROKEN and not mended:
                    mended = True
                    if self._discard():
                        continue
                raise _failure(self._shown(), code)

    def _transact(self, work: Work[T], begin: str) -> T:
        connection = self._open()
        connection.execute(begin)
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise
        return result

    @contextlib.contextmanager
    def _held(self, give_up: float) -> Iterator[None]:
        lock = self._lock
        if not lock.acquire(timeout=max(0.0, give_up - time.monotonic())):
            raise StoreError(f"the store file {self._shown()} is busy in this process.", reason="locked")
        try:
            yield
        finally:
            lock.release()

    # -- the file, under the lock --------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self._unusable or (self._connection is not None and self._pid != os.getpid()):
            # A fork that Python knows nothing of: see above for what must not be done now.
            self._unusable = True
            raise StoreError(
                f"the store file {self._shown()} was open when this process was forked.",
                advice="Close the store before forking, or fork by os.fork() or multiprocessing.",
                reason="forked",
            )
        if self._connection is not None:
            if self._opened is not None and _file_id(self._opened[0]) == self._opened[1]:
                return self._connection
            self._close()
        with _OPENING:
            return self._open_file()

    def _open_file(self) -> sqlite3.Connection:
        path = self._path()
        prepare_folder(path.parent)
        if check_file(path) is None:
            self._make(path)
        opened = _file_id(path)
        connection = _connect(path)
        self._opened = None if opened is None else (path, opened)
        try:
            for statement in (
                "PRAGMA trusted_schema = OFF",
                "PRAGMA cell_size_check = ON",
                "PRAGMA secure_delete = ON",
                "PRAGMA synchronous = NORMAL",
                "PRAGMA journal_size_limit = 0",
                "PRAGMA wal_autocheckpoint = 64",
                f"PRAGMA max_page_count = {self._max_pages}",
            ):
                connection.execute(statement).fetchall()
            self._see_to_tables(connection, path)
        except BaseException:
            connection.close()
            raise
        # Should another file have come to that name meanwhile, the next transaction notices.
        self._connection = connection
        return connection

    def _see_to_tables(self, connection: sqlite3.Connection, path: Path) -> None:
        """Refuse a file of somebody else's; make tables that an earlier version of accredit did not have."""
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if owner != APPLICATION_ID and (owner != 0 or names):
            raise StoreError(
                f"{path} is an SQLite file of another program.", advice="Name another file.", reason="place"
            )
        if not self._schema.keys() <= names:
            connection.execute("BEGIN IMMEDIATE")
            for statement in (f"PRAGMA application_id = {APPLICATION_ID}", *self._schema.values()):
                connection.execute(statement)
            connection.execute("COMMIT")

    def _make(self, path: Path) -> None:
        """Make the file under another name, whole, and give it its own unless another process was faster."""
        _sweep(path)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
        problem = None
        try:
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600))
        except OSError as error:
            problem = error.strerror or type(error).__name__
        if problem is not None:
            raise StoreError(f"no store file can be made in {path.parent} ({problem}).", reason="place")
        try:
            connection = _connect(draft)
            try:
                if is_local(path.parent):
                    connection.execute("PRAGMA journal_mode = WAL").fetchall()
                self._see_to_tables(connection, draft)
            finally:
                connection.close()
            _give_name(draft, path)
        finally:
            for left in (draft, *_beside(draft)):
                with contextlib.suppress(OSError):
                    left.unlink()

    def _discard(self) -> bool:
        """Remove a damaged file if it is one of ours; tell whether a new one may be made in its place."""
        with _OPENING:
            problem = False
            try:
                path = self._path()
                if check_file(path) is None or self._opened != (path, _file_id(path)):
                    return True  # another process was faster
                with path.open("rb") as file:
                    start = file.read(100)
                if not start.startswith(_MAGIC) or int.from_bytes(start[68:72]) != APPLICATION_ID:
                    return False
                for each in (path, *_beside(path)):
                    each.unlink(missing_ok=True)
            except (OSError, StoreError):
                problem = True
            return not problem

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _shown(self) -> str:
        return "" if self._opened is None else str(self._opened[0])


def _connect(path: Path) -> sqlite3.Connection:
    # Never to make a file: one that SQLite makes has the mode of the umask.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None, check_same_thread=False
    )


def _file_id(path: Path) -> FileId | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def _beside(path: Path) -> tuple[Path, ...]:
    return tuple(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal"))


def _give_name(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError:  # no hard links here
        with contextlib.suppress(FileExistsError):
            if not path.exists():
                draft.rename(path)


def _sweep(path: Path) -> None:
    """Remove drafts of processes that died while they made them."""
    for draft in path.parent.glob(f".{path.name}.*.new*"):
        with contextlib.suppress(OSError):
            if draft.lstat().st_mtime < time.time() - _STALE_SECONDS:
                draft.unlink()


def _failure(path: str, code: int) -> StoreError:
    reason, meaning = _REASONS.get(code, ("failed", f"SQLite error {code}"))
    return StoreError(
        f"the store file {path} cannot be used: {meaning}.",
        advice="Tokens are kept in memory meanwhile.",
        reason=reason,
    )


# -- fork ---------------------------------------------------------------------------------------------

_OPENING = threading.Lock()
_DATABASES: weakref.WeakSet[Database] = weakref.WeakSet()
# Copies of connections that a fork made: never used, never closed.
_INHERITED: list[sqlite3.Connection] = []
_fork_hooks_set = False


def _register(database: Database) -> None:
    global _fork_hooks_set  # noqa: PLW0603 - os.register_at_fork can only be called once and never undone
    if not _fork_hooks_set and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
        _fork_hooks_set = True
    _DATABASES.add(database)


def _before_fork() -> None:
    for database in list(_DATABASES):
        database.before_fork()


def _after_in_parent() -> None:
    for database in list(_DATABASES):
        database.after_fork_in_parent()


def _after_in_child() -> None:
    global _OPENING  # noqa: PLW0603 - a lock cannot be made free otherwise
    _OPENING = threading.Lock()
    for database in list(_DATABASES):
        database.after_fork_in_child()
