"""Whom a store tells, and how often."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import MethodType

from accredit.clock import SystemClock
from accredit.core.events import Event

_REPEAT_SECONDS = 60.0
_MOST_REMEMBERED = 1024


class Reports:
    """The listeners of a store. Trouble that comes up at every look is told once a minute."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        """Start without listeners; ``now`` reads a clock in seconds."""
        self._now = now or SystemClock().now
        self._listeners: tuple[Callable[[], Callable[[Event], None] | None], ...] = ()
        self._told: dict[Event, float] = {}

    def add(self, report: Callable[[Event], None]) -> None:
        """Tell ``report`` too; a bound method for as long as its object lives."""
        reference: Callable[[], Callable[[Event], None] | None]
        reference = weakref.WeakMethod(report) if isinstance(report, MethodType) else lambda: report
        # Assigned whole: a thread that tells meanwhile goes through the listeners there were.
        self._listeners = (*(known for known in self._listeners if known() is not None), reference)

    def tell(self, event: Event) -> None:
        """Tell every listener, unless the same was told within the last minute."""
        now = self._now()
        last = self._told.get(event)
        if last is not None and now < last + _REPEAT_SECONDS:
            return
        if len(self._told) >= _MOST_REMEMBERED:
            self._told.clear()
        self._told[event] = now
        for reference in self._listeners:
            report = reference()
            if report is not None:
                report(event)
