"""The clocks of the process, and how a thread waits on them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol


class Gate(Protocol):
    """A lock that is held until somebody opens the gate by releasing it."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - threading's own signature
        """Wait for the gate to open, at most ``timeout`` seconds."""

    def release(self) -> None:
        """Open the gate."""


class Clock(Protocol):
    """Two clocks and a way to wait; a test steers them through one that it moves by hand."""

    @property
    def now(self) -> Callable[[], float]:
        """A function that reads, in seconds, a clock that never jumps and runs through suspend."""

    def wall(self) -> float:
        """Return seconds since the epoch."""

    def wait(self, gate: Gate, seconds: float) -> bool:
        """Wait until the gate opens (True) or that many seconds have passed (False)."""


def _suspend_proof_clock() -> Callable[[], float]:
    # A token goes on ageing while a laptop sleeps, so the clock has to run through suspend.
    if sys.platform == "linux" and hasattr(time, "CLOCK_BOOTTIME"):
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if sys.platform == "darwin" and hasattr(time, "CLOCK_MONOTONIC_RAW"):
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC_RAW)
    return time.monotonic


class SystemClock:
    """The clocks of the operating system."""

    # Threads wait on a clock that stands still during suspend, so long waits look at the time again now and then.
    LONGEST_WAIT = 15.0

    def __init__(self) -> None:
        """Pick the clock that runs through suspend on this platform."""
        self.now: Callable[[], float] = _suspend_proof_clock()

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def wait(self, gate: Gate, seconds: float) -> bool:
        """Wait until the gate opens (True) or that many seconds have passed (False)."""
        until = self.now() + seconds
        while True:
            rest = until - self.now()
            if rest <= 0:
                return gate.acquire(blocking=False)
            if gate.acquire(timeout=min(rest, self.LONGEST_WAIT)):
                return True
