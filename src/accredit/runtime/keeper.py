"""The keeper: renews chosen identities on schedule, with no traffic. The only thread that lives on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from accredit.clock import Clock, Gate
from accredit.runtime.slot import Slot

_LONGEST_WAIT = 60.0


class Keeper:
    """Looks at each kept slot when its renewal is due. Starts its thread with the first slot, ends with the last."""

    def __init__(self, clock: Clock, renew_if_due: Callable[[Slot], float]) -> None:
        """Start without a thread."""
        self._clock = clock
        self._renew_if_due = renew_if_due
        self._lock = threading.Lock()
        self._slots: dict[Slot, int] = {}
        self._gate: Gate | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def keep(self, slot: Slot) -> None:
        """Keep a slot fresh; as often as it is kept it has to be released."""
        with self._lock:
            self._slots[slot] = self._slots.get(slot, 0) + 1
            slot.kept = True
        self.wake()

    def release(self, slot: Slot) -> None:
        """Undo one :meth:`keep`."""
        with self._lock:
            count = self._slots.get(slot, 0) - 1
            if count > 0:
                self._slots[slot] = count
            else:
                self._slots.pop(slot, None)
                slot.kept = False
        self.poke()

    def wake(self) -> None:
        """See to it that the thread runs (a forked child starts it at its first use), and that it looks."""
        thread: threading.Thread | None = None
        with self._lock:
            if self._slots and self._thread is None and not self._stopped:
                thread = self._thread = threading.Thread(target=self._watch, name="accredit-keeper", daemon=True)
        if thread is None:
            self.poke()
            return
        # Not under the lock: where gevent came late, the starting greenlet would hold what the started one waits for.
        try:
            thread.start()
        except RuntimeError:
            # No thread can be had now (limits, interpreter shutdown): the next use tries again.
            with self._lock:
                self._thread = None

    def poke(self) -> None:
        """Make the thread look again."""
        with self._lock:
            gate, self._gate = self._gate, None
        if gate is not None:
            gate.release()

    @property
    def needs_wake(self) -> bool:
        """Whether slots are kept and no thread watches them: so it is in a forked child."""
        return self._thread is None and bool(self._slots)

    def stop(self) -> None:
        """Tell the thread to end; :meth:`join` waits for that."""
        with self._lock:
            self._stopped = True
            self._slots.clear()
        self.poke()

    def join(self) -> None:
        """Wait for the thread to end once it was told to (it never does I/O itself)."""
        thread = self._thread
        # One that is being started at this moment finds nothing to do.
        if thread is not None and thread.ident is not None and thread is not threading.current_thread():
            thread.join(timeout=1.0)

    def after_fork(self) -> None:
        """Forget the parent's thread and locks."""
        self._lock = threading.Lock()
        self._gate = None
        self._thread = None

    def _watch(self) -> None:
        while True:
            gate = threading.Lock()
            gate.acquire()
            with self._lock:
                slots = list(self._slots)
                if not slots:
                    self._thread = None
                    return
                # Set before looking: whatever lands from here on pokes.
                self._gate = gate
            due = min(self._renew_if_due(slot) for slot in slots)
            self._clock.wait(gate, min(max(due - self._clock.now(), 0.0), _LONGEST_WAIT))
