"""A process that does to stores what it is told: ``python -m tests.stores.worker``; see :class:`Worker`."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from accredit.clock import SystemClock
from accredit.errors import AccreditError
from accredit.stores.envelope import Keyring
from accredit.stores.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]


class ToldClock(SystemClock):
    """Shows the times that it was told last."""

    def __init__(self) -> None:
        super().__init__()
        self.told = (0.0, 0.0)
        self.now = lambda: self.told[0]

    def wall(self) -> float:
        return self.told[1]


class Worker:
    """Another process, seen from the one that tells it what to do."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stores.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        self._lock = threading.Lock()

    def do(self, settings: dict[str, Any], times: tuple[float, float], verb: str, *values: Any, **named: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            pickle.dump((settings, times, verb, values, named), self._process.stdin)
            self._process.stdin.flush()
            outcome = pickle.load(self._process.stdout)
        if isinstance(outcome, AccreditError):
            raise outcome
        return outcome

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def main() -> None:
    """Do what comes on standard input until it ends."""
    clock = ToldClock()
    stores: dict[str, SqliteStore] = {}
    # Whatever else is printed must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            settings, clock.told, verb, values, named = pickle.load(sys.stdin.buffer)
        except EOFError:
            break
        name = repr(settings)
        if name not in stores:
            key = settings.pop("key", None)
            stores[name] = SqliteStore(clock=clock, keyring=None if key is None else Keyring(key), **settings)
        outcome: object
        try:
            outcome = getattr(stores[name], verb)(*values, **named)
        except AccreditError as error:
            outcome = error.fresh()
        pickle.dump(outcome, answers)
        answers.flush()
    for store in stores.values():
        store.close()


if __name__ == "__main__":
    main()
