"""What the parts of the verification engine share: clocks, chance, one lock, worker threads, hooks."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from accredit.clock import Clock
from accredit.core.effects import Flow
from accredit.core.verification_events import VerificationEvent
from accredit.errors import AccreditError
from accredit.runtime.driver import Driver, NoStore, Transport
from accredit.runtime.faults import defect, interruption, say
from accredit.runtime.workers import Workers

VerificationHook = Callable[[VerificationEvent], object]


class Desk:
    """Runs flows on worker threads and tells the hooks. The lock is held for moments, never while anything waits."""

    def __init__(
        self,
        *,
        clock: Clock,
        transport: Callable[[], Transport],
        inline: bool,
        hooks: tuple[VerificationHook, ...],
    ) -> None:
        """Open nothing and start no thread."""
        self.now: Callable[[], float] = clock.now
        self.wall: Callable[[], float] = clock.wall
        self.lock: threading.Lock = threading.Lock()
        self.closed: bool = False
        self._inline = inline
        self._hooks = hooks
        self._workers = Workers()
        self._random = random.Random()  # noqa: S311 - jitter, no secret
        self._driver = Driver(
            clock=clock, store=NoStore(), transport=transport, chance=self._random, emit=lambda _: None
        )

    def jitter(self) -> float:
        """Draw a number in ``[0, 1)``."""
        return self._random.random()

    def emit(self, event: VerificationEvent) -> None:
        """Tell the hooks; one that raises hurts nobody."""
        for hook in self._hooks:
            try:
                hook(event)
            except Exception as error:
                say(logging.WARNING, "an event hook raised %s", type(error).__name__)

    def run(self, origin: str, flow: Callable[[], Flow[object]], land: Callable[[object, float], None]) -> None:
        """Run a flow on a worker and give its result, and for how many seconds it ran, to ``land``, come what may."""

        def fly() -> None:
            began = self.now()
            result: object
            try:
                result = self._driver.run(flow())
            except Exception as error:
                result = defect(error)
            except BaseException as error:
                # An exit or an interrupt must leave no flight behind that never lands.
                stopped: AccreditError = interruption(error)
                land(stopped, self.now() - began)
                raise
            land(result, self.now() - began)

        if self._inline:
            fly()
        else:
            self._workers.submit(origin, fly)

    def close(self) -> None:
        """Close what is open."""
        self._driver.close()

    def after_fork(self) -> None:
        """Replace the lock and the threads in a forked child."""
        self.lock = threading.Lock()
        self._workers = Workers()
        self._random.seed()
        self._driver.after_fork()
