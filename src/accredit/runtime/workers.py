"""Short-lived worker threads: capped in all, with a share per origin, gone when there is nothing to do."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable

Job = Callable[[], None]
MOST_WORKERS = 64
MOST_PER_ORIGIN = 16


class Workers:
    """Runs jobs on daemon threads. A job deals with its own errors; an exit or an interrupt ends that job alone.

    A slow authorization server can occupy its share of the threads and no more, so it cannot starve the rest.
    """

    def __init__(self, *, most: int = MOST_WORKERS, most_per_origin: int = MOST_PER_ORIGIN) -> None:
        """Start without any thread."""
        self._lock = threading.Lock()
        self._most = most
        self._most_per_origin = most_per_origin
        self._busy: dict[str, int] = {}
        self._waiting: dict[str, deque[Job]] = {}

    def submit(self, origin: str, job: Job) -> None:
        """Run ``job`` on a worker as soon as the share of ``origin`` allows."""
        with self._lock:
            if not self._has_room(origin):
                self._waiting.setdefault(origin, deque()).append(job)
                return
            self._busy[origin] = self._busy.get(origin, 0) + 1
        try:
            # Daemon threads: an interpreter that exits does not wait for an authorization server.
            threading.Thread(
                target=self._serve,
                args=(origin, job),
                name="accredit-flight",
                daemon=True,
            ).start()
        except RuntimeError:
            # No thread can be had (limits, interpreter shutdown): the caller's own thread does it.
            self._work(origin, job)

    def _has_room(self, origin: str) -> bool:
        return sum(self._busy.values()) < self._most and self._busy.get(origin, 0) < self._most_per_origin

    def _serve(self, origin: str, job: Job) -> None:
        with contextlib.suppress(BaseException):
            self._work(origin, job)

    def _work(self, origin: str, job: Job) -> None:
        current: tuple[str, Job] | None = (origin, job)
        interruption: BaseException | None = None
        while current is not None:
            try:
                current[1]()
            except BaseException as error:
                interruption = error
            current = self._next(current[0])
        if interruption is not None:
            raise interruption

    def _next(self, origin: str) -> tuple[str, Job] | None:
        """Give up a place for ``origin`` and take the next job that has room, if any."""
        with self._lock:
            left = self._busy[origin] - 1
            if left:
                self._busy[origin] = left
            else:
                del self._busy[origin]
            for candidate, jobs in self._waiting.items():
                if self._has_room(candidate):
                    job = jobs.popleft()
                    # Behind the others, so that origins take turns.
                    del self._waiting[candidate]
                    if jobs:
                        self._waiting[candidate] = jobs
                    self._busy[candidate] = self._busy.get(candidate, 0) + 1
                    return candidate, job
        return None
