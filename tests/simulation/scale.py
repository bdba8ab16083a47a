"""Large fleets, measured: what they ask of the authorization server and of the store, and what callers wait.

The same world as in the seeds, the same flows, engines and invariants, with plainer traffic: every process keeps one
token fresh, and a caller comes every two minutes. Up to 100,000 processes in one run.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal
from unittest import mock

from accredit.core import renewal
from accredit.core.renewal import leeway_for
from tests.simulation.kernel import START
from tests.simulation.process import Process
from tests.simulation.scenario import Fault, Scenario
from tests.simulation.server import Behaviour
from tests.simulation.waiting import Caller
from tests.simulation.world import World

LIFETIME = 300
HORIZON = 600.0
LATENCY = 0.05
#: Seconds between two callers of one process, on average.
PACE = 120.0
#: Seconds in which the processes of a fleet start.
START_WITHIN = 5.0
_STARTED = 60
Trouble = Literal["none", "server", "store", "overload"]


@dataclass(frozen=True, slots=True)
class Case:
    """One run."""

    processes: int
    shared: bool
    jitter: bool = True
    trouble: Trouble = "none"
    #: For how many virtual seconds it is looked at.
    horizon: float = HORIZON


@dataclass(slots=True)
class Measured:
    """What came of it. Times are virtual seconds; series count by the second."""

    case: Case
    token_requests: int
    issued: int
    store_trips: int
    peak_requests: int
    #: The same once every process has started.
    peak_renewals: int
    peak_trips: int
    callers: int
    waited: int
    wait_p99: float
    wait_most: float
    errors: int
    requests_by_second: list[int]
    trips_by_second: list[int]
    errors_by_second: list[int]
    steps: int
    seconds: float


def faults_of(trouble: Trouble, processes: int) -> list[Fault]:
    """Return what goes wrong. Renewals are due from 225 s on; tokens of the beginning are usable until 290 s."""
    match trouble:
        case "server":
            return [Fault(200.0, 150.0, "server", {"trouble": "down"})]
        case "store":
            return [Fault(200.0, 60.0, "store down", {})]
        case "overload":
            values = {
                "capacity": processes / 100.0,
                "queue": 5.0,
                "how": "503",
                "retry_after": None,
                "a_minute": None,
            }
            return [Fault(0.0, HORIZON, "overload", values)]
        case _:
            return []


class Fleet(World):
    """A large fleet."""

    def __init__(self, case: Case) -> None:
        scenario = Scenario(
            seed=case.processes,
            profile="everything",
            processes=case.processes,
            shared=case.shared,
            shared_tags=False,
            horizon=case.horizon,
            scopes=(None,),
            settings={},
            behaviour=Behaviour(lifetime=LIFETIME, seconds=LATENCY),
            pace=PACE,
            crowd=1,
            api_share=0.0,
            kept_fresh=True,
            together=True,
            discovery=False,
            faults=faults_of(case.trouble, case.processes),
        )
        super().__init__(scenario)
        self.case = case
        self.kernel.most_steps = 10**9
        self.errors: Counter[int] = Counter()
        self.trips: Counter[int] = Counter()
        self.requests: Counter[int] = Counter()

    def asks_store(self) -> None:
        """Count a round trip."""
        super().asks_store()
        self.trips[self._second()] += 1

    def asks_server(self) -> None:
        """Count a token request, whether it arrives or not."""
        self.requests[self._second()] += 1

    def _second(self) -> int:
        return int(self.kernel.now - START)

    def measure(self) -> Measured:
        """Run it."""
        began = time.perf_counter()
        kernel = self.kernel
        for number in range(self.case.processes):
            kernel.at(START + START_WITHIN * number / self.case.processes, None, self._boot)
        for fault in self.scenario.faults:
            kernel.at(START + fault.at, None, self._strike, fault)
        kernel.run(START + self.case.horizon)
        waits = sorted(self.watch.waits)
        span = range(int(self.case.horizon))
        requests = [self.requests[second] for second in span]
        trips = [self.trips[second] for second in span]
        return Measured(
            self.case,
            sum(requests),
            self.server.counts.issued,
            self.store_trips,
            max(requests),
            max(requests[_STARTED:]),
            max(trips),
            len(waits),
            sum(wait > 0.0 for wait in waits),
            waits[int(0.99 * len(waits))],
            waits[-1],
            sum(self.errors.values()),
            requests,
            trips,
            [self.errors[second] for second in span],
            kernel.steps,
            time.perf_counter() - began,
        )

    def _visit(self, process: Process) -> None:
        chance = self.kernel.random
        self._start(process, None, process.manager.get(), None)
        self.kernel.after(chance.expovariate(1.0 / PACE), process, self._visit, process)

    def _aim(self, process: Process, scope: str | None, token: object) -> None:
        """Aim at nothing."""

    def _returned(self, caller: Caller, scope: str | None, limit: float, *, forced: bool) -> None:
        if caller.error is not None:
            self.errors[self._second()] += 1
        super()._returned(caller, scope, limit, forced=forced)


@contextmanager
def _no_jitter() -> Iterator[None]:
    def lead(lifetime: float, renew_before: float, leeway: float, jitter: float) -> float:
        del jitter
        late = min(2.0 * renew_before, lifetime / 4.0)
        return max(late * 0.75, leeway_for(lifetime, leeway))

    with mock.patch.object(renewal, "renewal_lead", lead):
        yield


def measure(case: Case) -> Measured:
    """Run one case."""
    # What a fleet is made of lives to its end, so looking for garbage in it is lost time.
    gc.collect()
    gc.disable()
    try:
        if case.jitter:
            return Fleet(case).measure()
        with _no_jitter():
            return Fleet(case).measure()
    finally:
        gc.enable()
