"""One flow of a process, moved on by the kernel: what the worker threads of the engine are in production."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from accredit.core import effects
from accredit.core.effects import Effect
from accredit.core.events import RecordRefused
from accredit.core.identity import Identity
from accredit.core.messages import Failure, Response
from accredit.core.records import Stored, StoreDown
from accredit.runtime.flight import Flight
from accredit.runtime.slot import Slot
from tests.simulation.shared_store import LATEST, TIME_OUT
from tests.simulation.waiting import SimulatedFlight, waited
from tests.simulation.words import describe, told

if TYPE_CHECKING:
    from tests.simulation.process import Process, SimulatedGuard


class Run:
    """One flow of a process: a flight, or something that runs beside."""

    __slots__ = (
        "_flow", "_pending", "_stack", "alone", "began", "ended", "excused", "flight", "floor", "found",
        "had_token", "identity", "issued", "led", "owner", "process", "refused", "secret", "sends", "slot",
        "suspects", "suspended_before", "trace",
    )  # fmt: skip

    def __init__(
        self,
        process: Process,
        flow: Callable[[], Generator[Effect, object, Any]],
        slot: Slot | None,
        owner: str,
        flight: Flight[Any],
    ) -> None:
        self.process = process
        self.slot = slot
        self.owner = owner
        self.flight = flight
        self._flow = flow
        self._stack: list[tuple[Generator[Effect, object, Any], tuple[str, ...] | None]] = []
        self._pending: Effect | None = None
        self.identity: Identity | None = None if slot is None else slot.request.identity
        self.began = process.kernel.now
        self.suspended_before = process.suspended
        #: Whether the process had a usable token when it began.
        self.had_token = False
        self.ended = False
        self.secret = process.secret
        self.sends = 0
        self.issued = 0
        #: Whether a store gave it the lease, and the record that was there then.
        self.led = False
        self.found: Stored | None = None
        self.floor: int | None = None
        #: Whether it may renew a token that is not due: a caller wants another one, an API refused the one there is.
        self.excused = False
        self.suspects = False
        #: Whether the store did not answer, or had a record that was of no use: then it may go on alone.
        self.alone = False
        self.refused = False
        self.trace: list[Effect] | None = [] if process.world.keep_effects else None

    def begin(self) -> None:
        """Take off."""
        process = self.process
        self.began = process.kernel.now
        self.secret = process.secret
        process.runs.add(self)
        self._stack.append((self._flow(), None))
        process.world.watch.took_off(self)
        self._advance(None)

    def abandon(self) -> None:
        """Be killed. A flow that yields while it is closed raises here."""
        self.ended = True
        for flow, _ in reversed(self._stack):
            flow.close()

    def _advance(self, answer: object) -> None:
        """Give the answer to the flow, and go on for as long as no time passes."""
        process = self.process
        while True:
            flow, key = self._stack[-1]
            try:
                effect = flow.send(answer)
            except StopIteration as end:
                self._stack.pop()
                if key is not None:
                    process.shared.pop(key).settle(end.value)
                    answer = end.value
                    continue
                self._land(end.value)
                return
            process.kernel.steps += 1
            process.effects += 1
            if self.trace is not None:
                self.trace.append(effect)
            ambush = process.ambush
            if ambush is not None and process.effects >= ambush[0]:
                process.ambush = None
                ambush[1](process)
                if not process.alive:
                    return
                # Stopped between two instructions: what comes next happens when the process goes on.
                self._pending = effect
                process.kernel.after(0.0, process, self._resume)
                return
            kind = type(effect)
            if kind in _AT_ONCE:
                if isinstance(effect, effects.Emit) and isinstance(effect.event, RecordRefused):
                    self.refused = True
                answer = process.engine._driver._perform(effect)
                continue
            answer = self._perform(effect)
            if answer is _LATER:
                return

    def _resume(self) -> None:
        effect, self._pending = self._pending, None
        assert effect is not None
        at_once = type(effect) in _AT_ONCE
        answer = self.process.engine._driver._perform(effect) if at_once else self._perform(effect)
        if answer is not _LATER:
            self._advance(answer)

    def _perform(self, effect: Effect) -> object:
        """Perform what may take time; return the answer, or that it comes later."""
        process = self.process
        world, kernel = process.world, process.kernel
        if isinstance(effect, effects.Pause):
            kernel.after(effect.seconds, process, self._advance, None)
            return _LATER
        if isinstance(effect, effects.Send):
            self._send(effect)
            return _LATER
        if isinstance(effect, effects.Share):
            flight = process.shared.get(effect.key)
            if flight is None:
                process.shared[effect.key] = SimulatedFlight()
                self._stack.append((effect.flow(), effect.key))
                return None
            process.start(waited(flight, effect.timeout), lambda caller: self._advance(caller.result))
            return _LATER
        if process.guard is None:
            answer = process.engine._driver._perform(effect)
            world.watch.performed(self, effect, None, answer)
            return answer
        return self._ask_store(effect, process.guard)

    # -- the store ---------------------------------------------------------------------------------------

    def _ask_store(self, effect: Any, guard: SimulatedGuard) -> object:
        process = self.process
        world, kernel, link = process.world, process.kernel, process.link
        if not guard.begin():
            world.watch.breaker_open(process)
            self._told(effect, StoreDown())
            return StoreDown()
        world.asks_store()
        process.asking += 1
        chance = kernel.random.random
        there = link.seconds * (0.5 + chance())
        back = link.seconds * (0.5 + chance())
        if link.down or (link.lost_before and chance() < link.lost_before):
            kernel.after(TIME_OUT, process, self._store_answered, effect, TimeoutError("no answer"))
            return _LATER
        if link.late and chance() < link.late:
            # It arrives when nobody waits any more; a process that has died meanwhile cannot take it back.
            kernel.after(TIME_OUT + (LATEST - TIME_OUT) * chance(), None, self._store_applies, effect, None)
            kernel.after(TIME_OUT, process, self._store_answered, effect, TimeoutError("no answer"))
            return _LATER
        lost = bool(link.lost_after) and chance() < link.lost_after
        kernel.after(there, None, self._store_applies, effect, None if lost else back)
        if lost:
            kernel.after(TIME_OUT, process, self._store_answered, effect, TimeoutError("no answer"))
        return _LATER

    def _store_applies(self, effect: effects.StoreEffect, back: float | None) -> None:
        process = self.process
        world = process.world
        store = world.store
        assert store is not None
        reply: object
        try:
            node, reply = store.perform(process.name, process.schema, effect, world.kernel.now)
        except ConnectionError as error:
            reply = error
        else:
            world.watch.performed(self, effect, node, reply)
        if back is not None:
            world.kernel.after(back, process, self._store_answered, effect, reply)

    def _store_answered(self, effect: effects.StoreEffect, reply: object) -> None:
        guard = self.process.guard
        assert guard is not None
        self.process.asking -= 1
        answer = guard.end(self.process.replies, effect, reply)
        self._told(effect, answer)
        self._advance(answer)

    def _told(self, effect: effects.StoreEffect, answer: object) -> None:
        lines = self.process.kernel.lines
        if lines is not None:
            self.process.kernel.note(self.process.name, f"{self.owner or '-'} {describe(effect)} -> {told(answer)}")
        if isinstance(answer, StoreDown):
            self.alone = True

    # -- the authorization server -------------------------------------------------------------------------

    def _send(self, effect: effects.Send) -> None:
        process = self.process
        world, kernel, link = process.world, process.kernel, process.server_link
        is_token = effect.request.method == "POST"
        if is_token:
            self.sends += 1
            world.asks_server()
            world.watch.sends(self, effect)
        if kernel.lines is not None:
            kernel.note(process.name, f"{self.owner} asks {effect.request.url} (at most {effect.timeout:.2f} s)")
        chance = kernel.random.random
        if link.down:
            seconds = min(0.001 if chance() < 0.5 else effect.timeout, effect.timeout)
            kernel.after(seconds, process, self._server_answered, Failure("connect", "partition"))
            return
        there = link.seconds * (0.5 + chance())
        if link.lost_before and chance() < link.lost_before:
            kernel.after(effect.timeout, process, self._server_answered, Failure("deadline", "no answer in time"))
            return
        kernel.after(there, None, self._arrives, effect, kernel.now + effect.timeout)

    def _arrives(self, effect: effects.Send, until: float) -> None:
        process = self.process
        world, kernel, link = process.world, process.kernel, process.server_link
        reply = world.server.receive(effect.request, max(until - kernel.now, 0.0))
        if reply.token is not None:
            world.watch.issued(self, reply.token)
        chance = kernel.random.random
        if link.lost_after and chance() < link.lost_after:
            # Done, and the answer is lost: a broken connection now, or silence to the end.
            outcome: Response | Failure = Failure("read", "connection lost")
            when = kernel.now + reply.seconds if chance() < 0.5 else until
            kernel.at(min(when, until), process, self._server_answered, outcome)
            return
        when = kernel.now + reply.seconds + link.seconds * (0.5 + chance())
        if when > until:
            kernel.at(until, process, self._server_answered, Failure("deadline", "no answer in time"))
        else:
            kernel.at(when, process, self._server_answered, reply.outcome)

    def _server_answered(self, outcome: Response | Failure) -> None:
        kernel = self.process.kernel
        if kernel.lines is not None:
            what = outcome.kind if isinstance(outcome, Failure) else f"HTTP {outcome.status}"
            kernel.note(self.process.name, f"{self.owner} is answered: {what}")
        self._advance(outcome)

    # -- the end ------------------------------------------------------------------------------------------

    def _land(self, result: Any) -> None:
        process = self.process
        self.ended = True
        process.runs.discard(self)
        if self.slot is None:
            self.flight.settle(None)
            return
        engine = process.engine
        process.world.watch.lands(self, result)
        engine._land(self.slot, self.flight, result, process.local(self.began))
        process.world.watch.landed(self, result)
        landing, process.landing = process.landing, None
        if landing is not None:
            landing(process)


_LATER = object()
_AT_ONCE = (
    effects.Now,
    effects.Random,
    effects.Nonce,
    effects.Emit,
    effects.ReadSecret,
    effects.LoadMetadata,
    effects.KeepMetadata,
)
