"""What a development server keeps over a restart, in one SQLite file: keys, tokens (never their text), revocations.

The file holds the private signing keys. It belongs to the user who runs the server and nobody else can read it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from accredit.core.jose import import_private_pem
from accredit.devserver.core import Authority
from accredit.devserver.keys import RingKey, private_pem
from accredit.devserver.ledger import IssuedToken, serial_of
from accredit.errors import ConfigurationError

_VERSION: Final = 1
#: "accd", so that the file of another program is not taken for one of these.
_APPLICATION: Final = 0x61636364
_TABLE: Final = (
    "CREATE TABLE state (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key))"
)
_BROKEN: Final = "Move the file away; the server then starts with new keys and no tokens."
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def _unusable(path: str, summary: str, advice: str) -> ConfigurationError:
    return ConfigurationError(f"the state file {path!r} cannot be used: {summary}.", advice=advice, key="state")


class StateFile:
    """An open state file. Changes are gathered by :meth:`record` and written in one transaction by :meth:`flush`.

    Args:
        path: the file; it is made, readable by its owner only, when it is not there.

    """

    def __init__(self, path: str) -> None:
        """Open it, and hold it so that no other server can.

        Raises:
            ConfigurationError: it is not ours alone, not a state file, of another version, broken, or in use.

        """
        self._path = path
        self._pending: dict[tuple[str, str], str | None] = {}
        problem = _make_private(path)
        if problem is not None:
            raise problem
        self._connection = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
        problem = self._prepare()
        if problem is not None:
            self._connection.close()
            raise problem

    def _prepare(self) -> ConfigurationError | None:
        run = self._connection.execute
        try:
            run("PRAGMA locking_mode = EXCLUSIVE")
            run("BEGIN EXCLUSIVE")
            (application,), (version,) = run("PRAGMA application_id").fetchone(), run("PRAGMA user_version").fetchone()
            if not application and not version and not run("SELECT 1 FROM sqlite_master").fetchone():
                run(_TABLE)
                run(f"PRAGMA application_id = {_APPLICATION}")
                run(f"PRAGMA user_version = {_VERSION}")
            elif (application, version) != (_APPLICATION, _VERSION):
                return _unusable(self._path, "it is no state file of this version", _BROKEN)
            run("COMMIT")
            # Only now: it would write into a file of somebody else. Nothing is lost when this process is killed; a
            # power cut may lose the last answers, which is the price of not waiting for the disk at each of them.
            run("PRAGMA journal_mode = WAL")
            run("PRAGMA synchronous = NORMAL")
            run("SELECT kind, key, value FROM state LIMIT 1").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                return _unusable(self._path, "another server uses it", "Stop that one, or name another file.")
            return _unusable(self._path, "it cannot be read or written", "Check the disk and the permissions.")
        except sqlite3.DatabaseError:
            return _unusable(self._path, "it is not a SQLite database", _BROKEN)
        return None

    # ---- reading --------------------------------------------------------------------------------------------

    def restore(self, authority: Authority) -> None:
        """Give an authority what it had before the restart.

        Raises:
            ConfigurationError: what is in the file makes no sense.

        """
        problem = None
        try:
            self._restore(authority)
        except (LookupError, TypeError, ValueError, sqlite3.DatabaseError):
            # An error of the parsers may quote what is in the file, a private key among it.
            problem = _unusable(self._path, "what is in it makes no sense", _BROKEN)
        if problem is not None:
            raise problem

    def _restore(self, authority: Authority) -> None:
        keys = [
            RingKey(import_private_pem(value["pem"].encode()), value["role"], float(value["last_expiry"]))
            for _, value in self._rows("key")
        ]
        if keys:
            roles = [key.role for key in keys]
            if not set(roles) <= {"current", "next", "retired"} or roles.count("current") != 1:
                raise ValueError
            authority.ring.restore(keys)
        else:
            self.record("key", authority.ring.current.key.thumbprint, authority.ring.current)
        tokens = [_token(value) for _, value in self._rows("token")]
        for token in sorted(tokens, key=lambda token: serial_of(token.token_id)):
            authority.ledger.add(token)
        for token_id, _ in self._rows("denied"):
            authority.ledger.deny(token_id)
        for client_id, serial in self._rows("denied_before"):
            authority.ledger.deny_before(client_id, int(serial))
            authority.ledger.issued = max(authority.ledger.issued, int(serial))
        used = {(json.loads(key)[0], json.loads(key)[1]): float(until) for key, until in self._rows("used")}
        authority.ledger.restore_used(used)
        self.flush()

    def setting(self, name: str) -> Any:
        """Return a setting that was kept, or None.

        Raises:
            ConfigurationError: it cannot be read.

        """
        try:
            return dict(self._rows("setting")).get(name)
        except (ValueError, sqlite3.DatabaseError):
            pass
        raise _unusable(self._path, "what is in it makes no sense", _BROKEN)

    def _rows(self, kind: str) -> Iterator[tuple[str, Any]]:
        rows = self._connection.execute("SELECT key, value FROM state WHERE kind = ?", (kind,)).fetchall()
        return ((key, json.loads(value)) for key, value in rows)

    # ---- writing --------------------------------------------------------------------------------------------

    def record(self, kind: str, key: str, value: object) -> None:
        """Take note of a change; None as value takes the entry away."""
        if isinstance(value, RingKey):
            value = {"pem": private_pem(value.key), "role": value.role, "last_expiry": value.last_expiry}
        self._pending[kind, key] = None if value is None else json.dumps(value)

    def flush(self) -> bool:
        """Write what was noted, all of it or nothing; return whether it is on its way to the disk."""
        if not self._pending:
            return True
        gone = [place for place, value in self._pending.items() if value is None]
        kept = [(*place, value) for place, value in self._pending.items() if value is not None]
        run = self._connection
        try:
            run.execute("BEGIN IMMEDIATE")
            run.executemany("DELETE FROM state WHERE kind = ? AND key = ?", gone)
            run.executemany("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", kept)
            run.execute("COMMIT")
        except sqlite3.Error:
            if run.in_transaction:
                run.execute("ROLLBACK")
            return False
        self._pending.clear()
        return True

    def sweep(self, now: float) -> None:
        """Forget what ended more than a day ago, so that the file does not grow for ever."""
        for token_id, value in self._rows("token"):
            if value["expires_at"] < now - 86400:
                self.record("token", token_id, None)
                self.record("denied", token_id, None)
        for key, until in self._rows("used"):
            if until < now:
                self.record("used", key, None)
        self.flush()

    def close(self) -> None:
        """Write what is left, and let go of the file."""
        self.flush()
        self._connection.close()


def _token(value: dict[str, Any]) -> IssuedToken:
    lists = {name: tuple(value[name]) for name in ("scope", "audience")}
    return IssuedToken(**{**value, **lists})


def _make_private(path: str) -> ConfigurationError | None:
    """Make the file for its owner alone, or see that an existing one is so."""
    try:
        if not os.path.lexists(path):
            # Before SQLite opens it: SQLite would make it as the umask says, and its journal like the file.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        status = os.lstat(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name cannot be one"
        return _unusable(path, f"it cannot be made or examined ({reason})", "Name a file in a folder of your own.")
    if not stat.S_ISREG(status.st_mode):
        return _unusable(path, "it is not a regular file", "Name the file itself, not a link to it.")
    # On Windows modes and owners do not tell who may read a file (access control lists do): no check.
    if os.name == "posix":
        if status.st_uid != os.geteuid():
            return _unusable(path, "it belongs to another user", "Name a file of your own.")
        if status.st_mode & _OTHERS:
            return _unusable(
                path, "other users may have read its keys", f"Make a new one, or chmod 600 {Path(path).name}."
            )
    return None
