"""What goes wrong in a world: one method for each kind of fault, and one that mends it."""

from __future__ import annotations

from typing import Any

from tests.simulation.kernel import Kernel
from tests.simulation.process import Link, Process
from tests.simulation.scenario import Fault, Scenario
from tests.simulation.server import Api, AuthorizationServer
from tests.simulation.server import Trouble as Kind
from tests.simulation.shared_store import LATEST, SharedStore
from tests.simulation.watch import Watch


class Trouble:
    """The half of a world that breaks things."""

    scenario: Scenario
    kernel: Kernel
    server: AuthorizationServer
    apis: list[Api]
    store: SharedStore | None
    watch: Watch
    processes: list[Process]
    started: int
    secrets_ever: list[str]
    excused_refusals: int
    tolerance: float
    drift: float
    walls: float
    _misled: bool
    _over: bool
    _schema: int
    _settings: dict[str, Any]
    _newest_secret: str
    _store_well_since: float
    _links_well_since: dict[str, float]

    def _boot(self, **changes: Any) -> None:
        raise NotImplementedError

    def _living(self) -> list[Process]:
        return [process for process in self.processes if process.alive]

    def _strike(self, fault: Fault) -> None:
        self.kernel.note("WORLD", str(fault).strip())
        name = "_on_" + fault.kind.replace(" ", "_").replace("-", "_")
        getattr(self, name)(fault, **fault.values)

    def _some(self, share: float) -> list[Process]:
        living = self._living()
        count = max(1, round(share * len(living)))
        return self.kernel.random.sample(living, min(count, len(living)))

    def _on_server(self, fault: Fault, trouble: Kind, retry_after: int | None = None) -> None:
        self.server.behaviour.trouble = trouble
        self.server.behaviour.retry_after = retry_after
        self.kernel.after(fault.seconds, None, self._end_trouble)

    def _end_trouble(self) -> None:
        self.server.behaviour.trouble = None
        self.kernel.note("WORLD", "the authorization server is well again")

    def _on_overload(
        self, fault: Fault, capacity: float, queue: float, how: Any, retry_after: int | None, a_minute: int | None
    ) -> None:
        behaviour = self.server.behaviour
        behaviour.capacity, behaviour.longest_queue, behaviour.overload = capacity, queue, how
        behaviour.retry_after, behaviour.a_minute = retry_after, a_minute
        self.kernel.after(fault.seconds, None, self._end_overload)

    def _end_overload(self) -> None:
        self.server.behaviour.capacity = self.server.behaviour.a_minute = None

    def _on_store_down(self, fault: Fault) -> None:
        if self.store is not None:
            self.store.down = True
            self.kernel.after(fault.seconds, None, self._store_up)

    def _on_fail_over(self, fault: Fault, lag: float, skew: float) -> None:
        if self.store is not None:
            self.store.down = True
            self.store.heal()
            self._mislead(skew != 0.0)
            self.drift += abs(skew)
            self.store.fail_over(self.kernel.now, lag=lag, skew=skew)
            self.watch.store_changed()
            self.kernel.after(fault.seconds, None, self._store_up)

    def _store_up(self) -> None:
        if self.store is not None:
            self.store.down = False
            self._store_well_since = self.kernel.now
            self.kernel.note("WORLD", "the store answers again")

    def _on_split_brain(self, fault: Fault, lag: float, share: float) -> None:
        if self.store is not None and self.store.stale is None:
            minority = frozenset(process.name for process in self._some(share))
            self.store.split(self.kernel.now, minority, lag=lag)
            self.watch.store_changed()
            self.kernel.after(fault.seconds, None, self._mend_split)

    def _mend_split(self) -> None:
        if self.store is not None:
            self.store.heal()

    def _on_store_empty(self, fault: Fault) -> None:
        if self.store is not None:
            self.store.lose_everything()
            self.watch.store_changed()

    def _on_evict(self, fault: Fault) -> None:
        living = self._living()
        if self.store is not None and living:
            scope = self.kernel.random.choice(self.scenario.scopes)
            self.store.evict(living[0].slot_of(scope).request.identity)
            self.watch.store_changed()

    def _on_partition(self, fault: Fault, peer: str, share: float) -> None:
        for process in self._some(share):
            link = self._link(process, peer)
            link.down = True
            self.kernel.after(fault.seconds, None, self._mend_link, process, peer)

    def _on_lossy(self, fault: Fault, peer: str, share: float, before: float, after: float) -> None:
        for process in self._some(share):
            link = self._link(process, peer)
            link.lost_before, link.lost_after = before, after
            self.kernel.after(fault.seconds, None, self._mend_link, process, peer)

    def _on_late(self, fault: Fault, peer: str, share: float, late: float) -> None:
        self._mislead(True)
        self.drift += LATEST
        for process in self._some(share):
            self._link(process, peer).late = late
            self.kernel.after(fault.seconds, None, self._mend_link, process, peer)

    def _on_slow(self, fault: Fault, peer: str, share: float, mean: float) -> None:
        for process in self._some(share):
            self._link(process, peer).seconds = mean
            self.kernel.after(fault.seconds, None, self._mend_link, process, peer)

    @staticmethod
    def _link(process: Process, peer: str) -> Link:
        return process.link if peer == "store" else process.server_link

    def _mend_link(self, process: Process, peer: str) -> None:
        if peer == "store":
            process.link = Link()
            self._links_well_since[process.name] = self.kernel.now
        else:
            process.server_link = Link()

    def store_well_since(self, process: Process) -> float:
        """Return since when a process could have used the store without any trouble."""
        link = process.link
        if (
            link.down
            or link.lost_before
            or link.lost_after
            or link.late
            or (self.store is not None and self.store.down)
        ):
            return self.kernel.now
        # An operation that was lost may be noticed a time-out later.
        return max(self._store_well_since, self._links_well_since.get(process.name, 0.0), process.resumed_at) + 0.25

    def _on_crash(self, fault: Fault, effect: int | None = None) -> None:
        for process in self._some(0.0):
            if effect is None:
                self._crash(process, fault.seconds)
            else:
                process.ambush = (process.effects + effect, lambda victim: self._crash(victim, fault.seconds))

    def _crash(self, process: Process, pause: float) -> None:
        if process.alive:
            process.kill()
            self.kernel.note(process.name, "is killed")
            self.kernel.after(pause, None, self._boot)

    def _on_restart(self, fault: Fault) -> None:
        """Restart all processes at once; each comes back with the secret that it had."""
        for process in self._living():
            process.kill()
            self.kernel.note(process.name, "is restarted")
            self._boot(secret=process.secret)

    def _on_suspend(self, fault: Fault, effect: int | None = None, *, landing: bool = False) -> None:
        self._mislead(True)
        for process in self._some(0.0):
            if landing:
                process.landing = lambda victim: self._suspend(victim, fault.seconds)
            elif effect is None:
                self._suspend(process, fault.seconds)
            else:
                process.ambush = (process.effects + effect, lambda victim: self._suspend(victim, fault.seconds))

    def _suspend(self, process: Process, seconds: float) -> None:
        self.drift += seconds
        process.suspend(seconds)
        self.kernel.note(process.name, f"is stopped for {seconds:.2f} s")

    def _on_wall_jump(self, fault: Fault, by: float, share: float) -> None:
        self.walls += abs(by)
        self._mislead(False)
        for process in self._some(share):
            process.clock.wall_offset += by
            self.kernel.after(fault.seconds, None, self._set_wall, process)

    def _set_wall(self, process: Process) -> None:
        process.clock.wall_offset = 0.0

    def _mislead(self, more: bool) -> None:
        # What a store says of a token's life is bounded by what the record says; when the clock of the store is wrong
        # (or a process stood still while it published) and the wall clocks are as well, nothing is left to go by.
        self._misled = self._misled or more
        self.tolerance = self.walls if self._misled else 0.0

    def _on_rotation(self, fault: Fault, late: float) -> None:
        kernel = self.kernel
        old = self._newest_secret
        new = self._newest_secret = f"secret-{len(self.secrets_ever) + 1}"
        self.secrets_ever.append(new)
        self.server.secrets["orders"].add(new)
        for process in self._living():
            kernel.after(kernel.random.uniform(0.0, fault.seconds * (1.0 + late)), process, process.give_secret, new)
        kernel.after(fault.seconds, None, self.server.secrets["orders"].discard, old)

    def _on_revoke(self, fault: Fault) -> None:
        self.excused_refusals += self.started + 1
        for token in self.server.tokens.values():
            token.revoked = True

    def _on_misconfigured(self, fault: Fault) -> None:
        self.apis[1].misconfigured = True
        self.kernel.after(fault.seconds, None, self._end_misconfigured)

    def _end_misconfigured(self) -> None:
        self.apis[1].misconfigured = False

    def _on_lag(self, fault: Fault, lag: float) -> None:
        self.excused_refusals += 4 * self.started
        self.apis[0].lag = lag
        self.kernel.after(fault.seconds, None, self._end_lag)

    def _end_lag(self) -> None:
        self.apis[0].lag = 0.0

    def _on_deploy(self, fault: Fault, schema: int, **changes: Any) -> None:
        self._schema = schema
        self._settings.update(changes)
        old = self._living()
        for number, process in enumerate(old):
            self.kernel.after(fault.seconds * number / len(old), None, self._replace, process)

    def _replace(self, process: Process) -> None:
        if process.alive and not self._over:
            self._boot()
            process.kill()
            self.kernel.note(process.name, "is replaced")
