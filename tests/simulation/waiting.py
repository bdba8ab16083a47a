"""Callers and flights without threads: a coroutine waits for a gate, and the kernel moves it on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

from accredit.runtime.flight import Flight
from tests.simulation.kernel import Finding

if TYPE_CHECKING:
    from tests.simulation.process import Process


class Ask:
    """What a coroutine of a process waits for: a gate, for at most that many seconds (or just for time to pass)."""

    __slots__ = ("caller", "open", "seconds", "waiting", "woken_at")

    def __init__(self, seconds: float) -> None:
        self.woken_at = 0.0
        self.seconds = seconds
        self.open = False
        self.waiting = True
        self.caller: Caller | None = None

    def __await__(self) -> Generator[Ask, None, None]:
        yield self

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Exist, for the protocol of gates."""
        raise AssertionError("nobody blocks on a gate here")

    def release(self) -> None:
        """Open the gate: the real flight does it when it settles."""
        self.open = True
        if self.waiting and self.caller is not None:
            self.caller.wake(self)


class SimulatedFlight(Flight[Any]):
    """The real flight; a waiter is a gate that the kernel knows."""

    __slots__ = ()

    async def wait_async(self, seconds: float) -> bool:
        """Wait; tell whether the flight ended within that many seconds."""
        if self._done:
            return True
        ask = Ask(max(seconds, 0.0))
        with self._lock:
            self._gates[ask] = None
        await ask
        with self._lock:
            self._gates.pop(ask, None)
        if self._done and not ask.open:
            raise Finding("wake-up", "a flight ended and did not wake one of its waiters", ask.woken_at)
        return self._done


class Caller:
    """A coroutine of a process, moved on by the kernel."""

    __slots__ = ("coroutine", "done", "error", "process", "result", "started", "suspended_before", "tag")

    def __init__(self, process: Process, coroutine: Coroutine[Any, Any, Any], done: Callable[[Caller], None]) -> None:
        self.process = process
        self.coroutine = coroutine
        self.done = done
        self.started = process.kernel.now
        self.suspended_before = process.suspended
        self.result: Any = None
        self.error: Exception | None = None
        self.tag: Any = None

    def step(self, _: object) -> None:
        """Go on until the next wait, or the end."""
        process = self.process
        try:
            ask: Ask = self.coroutine.send(None)
        except StopIteration as end:
            self.result = end.value
        except Finding:
            raise
        except Exception as error:
            self.error = error
        else:
            ask.caller = self
            if ask.open:
                self.wake(ask)
            else:
                process.kernel.after(ask.seconds, process, self._time_out, ask)
            return
        process.callers.discard(self)
        self.done(self)

    def wake(self, ask: Ask) -> None:
        """Go on soon: the gate opened."""
        if ask.waiting:
            ask.waiting = False
            self.process.kernel.after(0.0, self.process, self.step, None)

    def _time_out(self, ask: Ask) -> None:
        if ask.waiting:
            ask.woken_at = self.process.kernel.now
            ask.waiting = False
            self.step(None)


def sleep(seconds: float) -> Awaitable[None]:
    """Let time pass in a caller."""
    return Ask(seconds)


async def waited(flight: Flight[Any], seconds: float) -> Any:
    return flight.outcome if await flight.wait_async(seconds) else None
