"""A flight: one run of a flow that any number of threads and tasks wait for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from accredit.clock import Clock, Gate

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class Flight(Generic[T]):
    """Waiters come as threads or as tasks of any event loop; :meth:`settle` wakes each in its own way, once.

    A waiter that gives up (cancelled, timed out) just stops waiting: the flight does not notice.
    """

    __slots__ = ("_callbacks", "_done", "_gates", "_lock", "_loops", "_outcome", "_trio")

    def __init__(self) -> None:
        """Start with nobody waiting."""
        self._lock = threading.Lock()
        self._done = False
        self._outcome: T | None = None
        # Dicts rather than lists: thousands of waiters may give up, in any order.
        self._gates: dict[Gate, None] = {}
        self._loops: dict[asyncio.AbstractEventLoop, dict[asyncio.Future[None], None]] = {}
        self._trio: dict[Any, Any] = {}
        self._callbacks: list[Callable[[], None]] = []

    @property
    def done(self) -> bool:
        """Whether the flight has ended."""
        return self._done

    @property
    def outcome(self) -> T:
        """What the flight ended with; only to be read once it is done."""
        return cast("T", self._outcome)

    def settle(self, outcome: T) -> None:
        """End the flight and wake everyone. Only the first call counts."""
        with self._lock:
            if self._done:
                return
            self._outcome = outcome
            self._done = True
            gates, loops, trios = self._gates, self._loops, self._trio
            callbacks = self._callbacks
            self._gates, self._loops, self._trio, self._callbacks = {}, {}, {}, []
        for gate in gates:
            gate.release()
        for loop, futures in loops.items():
            # One wake-up for all tasks of a loop. A loop that closed meanwhile has nobody left to wake.
            _ignoring(RuntimeError, loop.call_soon_threadsafe, _wake, futures)
        for event, token in trios.items():
            trio = sys.modules["trio"]
            _ignoring(trio.RunFinishedError, token.run_sync_soon, event.set)
        # Last, for they are more than a wake-up; what one of them raises is nobody else's trouble.
        for callback in callbacks:
            _ignoring(Exception, callback)

    def notify(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the flight has ended, on the thread that ends it; at once when it is over already."""
        with self._lock:
            if not self._done:
                self._callbacks.append(callback)
                return
        callback()

    def wait(self, clock: Clock, seconds: float) -> bool:
        """Wait on this thread; tell whether the flight ended within that many seconds."""
        # One lock per waiter rather than a shared condition: it is the one primitive that also works when real
        # threads and greenlets meet under gevent.
        gate = threading.Lock()
        gate.acquire()
        with self._lock:
            if self._done:
                return True
            self._gates[gate] = None
        if clock.wait(gate, max(seconds, 0.0)):
            return True
        with self._lock:
            self._gates.pop(gate, None)
        return self._done

    async def wait_async(self, seconds: float) -> bool:
        """Wait in this task (asyncio or trio); tell whether the flight ended within that many seconds."""
        if self._done:
            return True
        loop = running_asyncio_loop()
        if loop is not None:
            return await self._wait_asyncio(loop, seconds)
        return await self._wait_trio(seconds)

    async def _wait_asyncio(self, loop: asyncio.AbstractEventLoop, seconds: float) -> bool:
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._done:
                return True
            self._loops.setdefault(loop, {})[future] = None
        timer = loop.call_later(max(seconds, 0.0), _wake, (future,))
        try:
            await future
        finally:
            timer.cancel()
            self._forget(loop, future)
        return self._done

    def _forget(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
        # A flight that many waiters gave up on must not keep them; once it is done the list is gone anyway.
        if self._done:
            return
        with self._lock:
            futures = self._loops.get(loop)
            if futures is not None:
                futures.pop(future, None)
                if not futures:
                    del self._loops[loop]  # it may be over before the flight is

    async def _wait_trio(self, seconds: float) -> bool:
        trio = sys.modules.get("trio")
        if trio is None or not trio.lowlevel.in_trio_run():
            msg = "the asynchronous face needs a running asyncio or trio event loop"
            raise RuntimeError(msg)
        event = trio.Event()
        with self._lock:
            if self._done:
                return True
            self._trio[event] = trio.lowlevel.current_trio_token()
        try:
            with trio.move_on_after(max(seconds, 0.0)):
                await event.wait()
        finally:
            if not self._done:
                with self._lock:
                    self._trio.pop(event, None)
        return self._done


def running_asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """Return the asyncio loop that runs in this thread, without importing asyncio for it."""
    module = sys.modules.get("asyncio")
    if module is None:
        return None
    loop: asyncio.AbstractEventLoop | None = module._get_running_loop()  # noqa: SLF001 - documented for frameworks
    return loop


def _wake(futures: Any) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _ignoring(kind: type[BaseException], function: Callable[..., object], *arguments: object) -> None:
    try:
        function(*arguments)
    except kind:
        return
