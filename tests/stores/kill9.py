"""Kill processes at random points of what they write, over and over: ``python -m tests.stores.kill9 --times 1000``.

Each round, two processes do all verbs on one file as fast as they can. After a random number of verbs one of them is
killed (SIGKILL), wherever it is by then; the other one must not have failed, the file must be whole by SQLite's own
account, and a new process must be able to use it. Then the other one is killed too. ``--sabotage`` runs the same
without a journal, to see that damage is found; ``--sealed`` and ``--rollback`` choose encryption and the journal mode.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import select
import signal
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from accredit.core.records import Hold, Lead
from accredit.errors import UnreachableError
from accredit.stores import database
from accredit.stores.envelope import Keyring, generate_key
from accredit.stores.sqlite import SqliteStore
from accredit.testing.store_contract import make_identity, make_record

_IDENTITIES = [make_identity(registration_id=f"r{number}") for number in range(6)]
_PATIENCE = 60.0
# A process on a busy machine may not get its turn for long; that is not what is looked at here.
_TIMEOUT = 30.0


def work(path: Path, keyring: Keyring | None, report: int) -> None:
    """Do verbs for ever and report each, and whatever is raised."""
    chance = random.Random(secrets.randbits(64))
    store = SqliteStore(path, keyring=keyring, timeout=_TIMEOUT, max_entries=20)
    try:
        while True:
            identity = chance.choice(
                [*_IDENTITIES, make_identity(registration_id="many", principal=chance.choice("abcdefgh") * 3)]
            )
            owner = secrets.token_hex(4)
            answer = store.claim(
                identity, newer_than=chance.choice([None, 1 << 40]), credential="t", owner=owner, lease=0.001
            )
            match chance.randrange(12) if isinstance(answer.directive, Lead) else 3:
                case 0:
                    store.fail(identity, owner=owner, hold=Hold(0.02, UnreachableError("gone"), 1))
                case 1:
                    store.remove(identity)
                case 2:
                    store.cool(identity, origin="https://a.example", seconds=0.01)
                case 3:
                    store.suspect(
                        identity, generation=answer.stored.record.generation if answer.stored else 1, origin=""
                    )
                case _:
                    record = make_record(identity, "x" * chance.choice([40, 60_000, 60_000]), lifetime=0.2)
                    store.publish(identity, owner=owner, record=record, remaining=0.2, credential="t", based_on=None)
            os.write(report, b".")
    except BaseException as error:
        os.write(report, b"E" + f"{type(error).__name__}: {error}".encode())
        raise


class Victim:
    """A process that works until it is killed."""

    def __init__(self, path: Path, keyring: Keyring | None) -> None:
        self.report, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.report)
            try:
                work(path, keyring, writer)
            finally:
                os._exit(1)
        os.close(writer)

    def wait_for(self, verbs: int) -> None:
        """Return after that many more verbs; raise what the process says of a failure."""
        while verbs > 0:
            ready, _, _ = select.select([self.report], [], [], _PATIENCE)
            data = os.read(self.report, 4096) if ready else b""
            if not data or b"E" in data:
                raise AssertionError(f"a process failed: {data.partition(b'E')[2].decode() or 'it did not go on'}")
            verbs -= len(data)

    def kill(self, chance: random.Random) -> None:
        # A word from the process wakes this one, which would always find it at the same point: go on for a moment.
        for _ in range(chance.randrange(100_000)):
            pass
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.report)


def check(path: Path, keyring: Keyring | None) -> None:
    """See that the file is whole, and that a new process can use it."""
    with closing(sqlite3.connect(path, timeout=_TIMEOUT)) as connection:
        found = [line for (line,) in connection.execute("PRAGMA integrity_check")]
        assert found == ["ok"], found
    store = SqliteStore(path, keyring=keyring, timeout=_TIMEOUT)
    identity = make_identity()
    store.claim(identity, newer_than=None, credential="t", owner="a", lease=1.0)
    record = make_record(identity, "whole")
    store.publish(identity, owner="a", record=record, remaining=60.0, credential="t", based_on=None)
    kept = store.read(identity)
    assert kept is not None
    assert kept.record.value == "whole"
    store.remove(identity)
    store.close()


def run(times: int, *, seed: int, sealed: bool = False, rollback: bool = False, sabotage: bool = False) -> None:
    """Kill that many processes.

    Raises:
        AssertionError: a file was damaged, or a process failed that was not killed.

    """
    chance = random.Random(seed)
    keyring = Keyring(generate_key()) if sealed else None
    if rollback or sabotage:
        setattr(database, "is_local", lambda _: False)  # noqa: B010 - as on a file system that may be a network
    if sabotage:
        _without_journal()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.sqlite3"
        inode = None
        for _ in range(times // 2):
            victims = [Victim(path, keyring) for _ in range(2)]
            first, second = victims
            first.wait_for(chance.randrange(1, 40))
            first.kill(chance)
            second.wait_for(1)
            check(path, keyring)
            second.wait_for(chance.randrange(1, 10))
            second.kill(chance)
            check(path, keyring)
            # Never given up and made anew either.
            assert inode in {None, path.stat().st_ino}, "the file was damaged, and replaced"
            inode = path.stat().st_ino


def _without_journal() -> None:
    original = database._connect

    class Careless(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            # Whatever is asked for: no journal, and no waiting for the disk, in which most of the time would go.
            if statement.startswith(("PRAGMA journal_mode", "PRAGMA synchronous")):
                super().execute("PRAGMA journal_mode = OFF").fetchall()
                statement = "PRAGMA synchronous = OFF"
            return super().execute(statement, *values)

    def connect(path: Path) -> sqlite3.Connection:
        original(path).close()
        return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False, factory=Careless)

    database._connect = connect


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.stores.kill9", description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=1000, help="processes to kill (default %(default)s)")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    for name in ("sealed", "rollback", "sabotage"):
        parser.add_argument(f"--{name}", action="store_true")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)  # noqa: T201 - what it is for
    try:
        run(
            options.times,
            seed=options.seed,
            sealed=options.sealed,
            rollback=options.rollback,
            sabotage=options.sabotage,
        )
    except AssertionError as error:
        print(f"failed: {error}")  # noqa: T201
        return 1
    print(f"{options.times} processes killed, no file damaged, no call failed")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
