"""A clock that a test moves by hand."""

from __future__ import annotations

import threading
import time

from accredit.clock import Gate

START = 1_000.0
START_WALL = 1_700_000_000.0
SAFETY_SECONDS = 30.0
# A thread that waits for a gate can be woken by the gate alone, so it looks at the virtual time this often.
_SLICE = 0.005


class SteerableClock:
    """An :class:`accredit.clock.Clock` on which time passes only when the test says so.

    Give it to whatever takes a clock (``TokenManager(..., clock=clock)``, ``MemoryStore(clock=clock.now)``). Threads
    that wait on it stay where they are until :meth:`advance` takes the time to where they wanted it, or until what
    they wait for has happened. No test has to sleep::

        worker = threading.Thread(target=renew_after_an_hour)
        worker.start()
        clock.wait_for_waiters(1)  # it is waiting now
        clock.advance(3600)  # and here it has gone on

    Tasks of an event loop wait on the timers of their loop, not on this clock.
    """

    def __init__(self, *, start: float = START, wall: float = START_WALL, safety: float = SAFETY_SECONDS) -> None:
        """Start the clock.

        Args:
            start: first reading of the clock that tokens age on, in seconds.
            wall: first reading of the wall clock, in seconds since the epoch.
            safety: real seconds after which a thread that waits gives up with TimeoutError, so that a test in which
                nobody moves the clock fails rather than hangs.

        """
        self._now = start
        self._wall_offset = wall - start
        self._safety = safety
        self._condition = threading.Condition()
        self._waiters: dict[object, float] = {}

    def now(self) -> float:
        """Return the virtual time in seconds. It never jumps by itself and is not moved by :meth:`jump_wall`."""
        return self._now

    def wall(self) -> float:
        """Return the virtual seconds since the epoch."""
        return self._now + self._wall_offset

    def wait(self, gate: Gate, seconds: float) -> bool:
        """Wait until the gate opens (True) or that many virtual seconds have passed (False).

        Raises:
            TimeoutError: neither happened within the real seconds of ``safety``.

        """
        waiter = object()
        give_up = time.monotonic() + self._safety
        with self._condition:
            due = self._now + seconds
            if due <= self._now:
                return gate.acquire(blocking=False)
            self._waiters[waiter] = due
            self._condition.notify_all()
        try:
            while time.monotonic() < give_up:
                if gate.acquire(timeout=_SLICE):
                    return True
                if self._now >= due:
                    return gate.acquire(blocking=False)
        finally:
            with self._condition:
                del self._waiters[waiter]
                self._condition.notify_all()
        raise TimeoutError(f"the steerable clock was not moved to {due:g} within {self._safety:g} real seconds")

    @property
    def waiting(self) -> int:
        """How many threads wait on this clock."""
        with self._condition:
            return len(self._waiters)

    @property
    def next_due(self) -> float | None:
        """The earliest time that a thread waits for, in virtual seconds; None when no thread waits."""
        with self._condition:
            return min(self._waiters.values(), default=None)

    def advance(self, seconds: float) -> None:
        """Let that many virtual seconds pass at once; return when every thread that was due has noticed.

        Raises:
            ValueError: ``seconds`` is negative: this clock never goes back (see :meth:`jump_wall`).
            TimeoutError: a thread that was due did not notice.

        """
        if seconds < 0:
            raise ValueError("this clock never goes back; jump_wall() moves the wall clock")
        with self._condition:
            self._now += seconds
            due = {waiter for waiter, at in self._waiters.items() if at <= self._now}
            if not self._condition.wait_for(lambda: due.isdisjoint(self._waiters), self._safety):
                raise TimeoutError("a thread that waits on the steerable clock did not wake up")

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back, by that many seconds, as NTP or an operator may; nothing ages by it."""
        self._wall_offset += seconds

    def wait_for_waiters(self, count: int) -> None:
        """Block until at least that many threads wait on this clock.

        Raises:
            TimeoutError: they did not come within the real seconds of ``safety``.

        """
        with self._condition:
            if not self._condition.wait_for(lambda: len(self._waiters) >= count, self._safety):
                raise TimeoutError(f"{len(self._waiters)} threads wait on the steerable clock, not {count}")
