"""Times that several processes of one machine agree on, also across boots and jumps of the wall clock.

While the machine runs, its suspend-proof clock (:class:`accredit.clock.SystemClock`) is one clock for all processes.
It starts anew with each boot, so a time is kept together with the boot it belongs to, and with the wall clock, which
is all there is to go by after a boot.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final, NamedTuple

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_TIME_NAMESPACE: Final = Path("/proc/self/ns/time")
# A wall clock that is behind the time of writing by more than this (seconds) was set back: it measures nothing.
SET_BACK: Final = 2.0
# One clock for all processes it is, but some virtual machines have processors that are not quite agreed on it.
SKEW: Final = 1.0


def current_boot() -> str:
    """Return what tells this boot from others: empty where the operating system does not say.

    On Linux, the boot id of the kernel and the time namespace, since the clock may differ between namespaces.
    """
    if sys.platform != "linux":
        return ""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
        namespace = os.stat(_TIME_NAMESPACE).st_ino if _TIME_NAMESPACE.exists() else 0  # noqa: PTH116 - of the link's target
    except (OSError, ValueError):
        return ""
    return f"{boot}/{namespace}" if re.fullmatch(r"[0-9a-f-]{8,64}", boot) else ""


class Moment(NamedTuple):
    """One reading of the clocks of the machine.

    Attributes:
        boot: see :func:`current_boot`.
        now: seconds on the suspend-proof clock.
        wall: seconds since the epoch.

    """

    boot: str
    now: float
    wall: float


class Span(NamedTuple):
    """A time that ends by itself, as it lies in the store.

    Attributes:
        boot: the boot in which it began.
        began: seconds on the suspend-proof clock of that boot.
        ends: seconds on the same clock.
        wall: seconds since the epoch when it began.

    """

    boot: str
    began: float
    ends: float
    wall: float

    @classmethod
    def of(cls, moment: Moment, seconds: float) -> Span:
        """Return the span of that many seconds from ``moment`` on."""
        return cls(moment.boot, moment.now, moment.now + seconds, moment.wall)

    def left(self, moment: Moment) -> float:
        """Return the seconds that are left, at most its whole length; zero or less when it is over.

        In the same boot the suspend-proof clock alone decides, whatever happened to the wall clock. After a boot the
        wall clock does, unless it was set back behind the beginning, when nothing is known and it counts as over.
        Where the boot is not known, both decide: the shorter one.
        """
        length = self.ends - self.began
        if not 0 < length < float("inf"):
            return 0.0
        if self.same_boot(moment):
            return min(length, self.ends - moment.now)
        if not moment.wall >= self.wall - SET_BACK:
            return 0.0
        by_wall = min(length, self.wall + length - moment.wall)
        may_be_same_boot = not (self.boot or moment.boot) and moment.now >= self.began - SKEW
        return min(by_wall, self.ends - moment.now) if may_be_same_boot else by_wall

    def left_in_boot(self, moment: Moment) -> float:
        """Return the seconds that are left of something that does not outlive a boot: a lease, a hold.

        Below zero it has been over for as long; what never began in this boot has been over for ever.
        """
        length = self.ends - self.began
        if self.boot != moment.boot or not self.began <= moment.now + SKEW or not 0 < length < float("inf"):
            return float("-inf")
        return min(length, self.ends - moment.now)

    def same_boot(self, moment: Moment) -> bool:
        """Tell whether it began in the boot of ``moment`` for certain."""
        return bool(self.boot) and self.boot == moment.boot and self.began <= moment.now + SKEW
