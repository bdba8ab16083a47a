"""One outage from beginning to end, and what is demanded of it.

While the server is out of reach and the token is usable, no call fails. Beyond that every call fails with a typed error
within the deadline, and none goes out without a token. When the server is back, one token request serves everybody.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from accredit import AccessToken, TokenManager
from accredit.core.renewal import UNREACHABLE_LAST
from accredit.devserver import DevConfig, DevServerProcess
from accredit.instrumentation import AttemptFailed, FlightFailed, TokenObtained
from tests.drills.api import ApiProcess
from tests.drills.load import PATIENCE, Call, Load
from tests.drills.outages import KINDS, Outage, Relay
from tests.runtime.support import CLIENTS, Events, JumpClock, eventually, flying, registration

#: What callers get when a server cannot be reached, whichever way.
TYPED = "UnreachableError"
#: Seconds of its life that a token has left for the last calls that are to be answered.
_LEFT = 12.0


@dataclass
class Report:
    """What came of a drill.

    Attributes:
        kind: the outage.
        calls: every call of the load.
        cut: when the server went out of reach, on the clock of the manager.
        usable_until: until when the token of that time was usable.
        back: when it was back and the hold was over.
        attempts: renewals that failed while the token was usable.
        token_requests: what the server was asked from its return until everybody had a token.
        obtained: tokens that this process got from the server from then on.
        slowest: seconds that the slowest of the failed calls took.
        api: how the calls ended at the API.

    """

    kind: str
    deadline: float
    calls: list[Call] = field(default_factory=list)
    cut: float = 0.0
    usable_until: float = 0.0
    back: float = 0.0
    attempts: int = 0
    token_requests: int = 0
    obtained: int = 0
    slowest: float = 0.0
    api: Counter[str] = field(default_factory=Counter)

    @property
    def ridden_through(self) -> list[Call]:
        """The calls that ended while the server was out of reach and the token usable."""
        return [call for call in self.calls if self.cut <= call.ended < self.usable_until]

    @property
    def too_late(self) -> list[Call]:
        """The calls that began when the token was over and the server not back."""
        return [call for call in self.calls if self.usable_until <= call.began < self.back]

    @property
    def recovered(self) -> list[Call]:
        """The calls that began when the server was back."""
        return [call for call in self.calls if call.began >= self.back]

    def faults(self, *, margin: float) -> list[str]:
        """Return what went against what is demanded.

        Args:
            margin: seconds beyond the deadline that a call may take on a machine that has other things to do.

        """
        found = [f"failed before {call}" for call in self.calls if call.ended < self.cut and call.outcome != "200"]
        found += [f"failed with a usable token: {call}" for call in self.ridden_through if call.outcome != "200"]
        found += [f"not the typed error: {call}" for call in self.too_late if call.outcome != TYPED]
        found += [f"failed after recovery: {call}" for call in self.recovered if call.outcome != "200"]
        late = self.deadline + margin
        found += [f"took too long: {call}" for call in self.too_late if call.ended - call.began > late]
        if not (self.ridden_through and self.too_late and self.recovered and self.attempts):
            found.append("a part of the drill is missing")
        if (self.token_requests, self.obtained) != (1, 1):
            found.append(f"recovery took {self.token_requests} requests and brought {self.obtained} tokens")
        if set(self.api) != {"served"}:
            found.append(f"the API saw {self.api}")
        return found


@dataclass
class Stage:
    """Everything that a drill needs, up and running."""

    server: DevServerProcess
    api: ApiProcess
    outage: Outage
    manager: TokenManager
    clock: JumpClock
    events: Events
    load: Load
    report: Report

    def advance(self, seconds: float, *, server: bool) -> None:
        """Let time pass for everybody; not for a server that is out of reach."""
        self.clock.shift += seconds
        self.api.advance_clock(seconds)
        if server:
            self.server.advance_clock(seconds)


@contextmanager
def stage(kind: str, *, lifetime: int, deadline: float, pace: float = 0.0) -> Iterator[Stage]:
    """Start the processes and the load, which waits."""
    clock, events = JumpClock(), Events()
    with ExitStack() as stack:
        first = stack.enter_context(DevServerProcess(DevConfig(clients=CLIENTS, token_lifetime=lifetime)))
        port = int(first.url.rpartition(":")[2])
        issuer = first.issuer
        first.stop()
        # Known by now: a port that one can come back to.
        config = DevConfig(clients=CLIENTS, token_lifetime=lifetime, issuer=issuer)
        server = stack.enter_context(DevServerProcess(config, port=port))
        relay = stack.enter_context(Relay(server.url))
        api = stack.enter_context(ApiProcess(issuer, config.default_audience))
        outage = KINDS[kind](server, relay)
        manager = stack.enter_context(
            TokenManager(
                registration(server, token_endpoint=outage.token_endpoint, scope="orders:read", deadline=deadline),
                clock=clock,
                on_event=events,
            )
        )
        load = stack.enter_context(Load(manager, f"{api.url}/orders", pace=pace))
        yield Stage(server, api, outage, manager, clock, events, load, Report(kind, deadline, load.calls))


def steered(kind: str, *, lifetime: int = 300, deadline: float = 1.5, steps: int = 5, each: int = 5) -> Report:
    """Play an outage as quickly as calls can be made: time passes by leaps, while no call is under way.

    Args:
        kind: the outage.
        lifetime: seconds that a token lives.
        deadline: seconds that a caller waits for one at most.
        steps: leaps from the renewal point to the end of the token's usable life.
        each: calls of each worker after each leap.

    """
    with stage(kind, lifetime=lifetime, deadline=deadline) as on:
        load, report, now = on.load, on.report, on.manager._now
        load.until_each_has(each)
        token = on.manager.get()
        report.cut, report.usable_until = now(), token.usable_until
        on.outage.begin()
        out = on.outage.reachable_by_admin
        # Calls take real time, seconds of it on a loaded machine: each leap leads to a time, and the last leaves some.
        last = token.usable_until - _LEFT
        passed = 0.0
        for step in range(steps + 1):
            seconds = max(0.0, token.renew_at + (last - token.renew_at) * step / steps - now())
            on.advance(seconds, server=out)
            passed += seconds
            load.until_each_has(each)
        assert now() < token.usable_until
        eventually(lambda: flying(on.manager) == 0, "the end of the renewals")
        report.attempts = len(on.events.of(FlightFailed)) + len(on.events.of(AttemptFailed))
        seconds = token.usable_until - now() + 0.001
        on.advance(seconds, server=out)
        passed += seconds
        load.until_each_has(2, lambda outcome: outcome != "200")
        _bring_back(on, 0.0 if out else passed)
        # The last failure may hold for a few seconds more.
        on.advance(UNREACHABLE_LAST, server=True)
        report.back = now()
        load.until_each_has(each)
        _count(on, report)
        return report


def _bring_back(on: Stage, seconds: float) -> None:
    eventually(lambda: flying(on.manager) == 0, "the end of the flights")
    on.outage.end()
    _drain(on.server)
    if seconds:
        on.server.advance_clock(seconds)
    on.server.clear_log()
    on.events.seen.clear()


def _drain(server: DevServerProcess) -> None:
    """Wait until a server that stood still has seen what was sent to it meanwhile, by callers who are long gone."""
    counts: list[int] = []

    def steady() -> bool:
        counts.append(server.count())
        return len(counts) > 10 and len(set(counts[-10:])) == 1

    eventually(steady, "a server that has caught up")


def _count(on: Stage, report: Report) -> None:
    report.token_requests = on.server.count("/token")
    report.obtained = len([event for event in on.events.of(TokenObtained) if event.source == "server"])
    report.api = on.api.counts()
    report.slowest = max((call.ended - call.began for call in report.too_late), default=0.0)


def real_time(
    kind: str,
    *,
    lifetime: int = 30,
    deadline: float = 2.0,
    rate: float = 100.0,
    beyond: float = 8.0,
) -> Report:
    """Play an outage as it would go by: nothing is steered.

    Args:
        kind: the outage.
        lifetime: seconds that a token lives.
        deadline: seconds that a caller waits for one at most.
        rate: calls per second that the load aims at.
        beyond: seconds for which the server stays away when the token is over.

    """
    with stage(kind, lifetime=lifetime, deadline=deadline) as on:
        load, report, now = on.load, on.report, on.manager._now
        wait = threading.Event().wait
        load.pace = load.workers / rate
        load.go()
        token = _token(on)
        wait(2.0)
        report.cut, report.usable_until = now(), token.usable_until
        on.outage.begin()
        wait(token.usable_until - now() + beyond)
        report.attempts = len(on.events.of(FlightFailed)) + len(on.events.of(AttemptFailed))
        load.halt()
        _bring_back(on, 0.0)
        wait(UNREACHABLE_LAST)
        report.back = now()
        load.until_each_has(5)
        _count(on, report)
        return report


def _token(on: Stage) -> AccessToken:
    eventually(lambda: on.manager.peek() is not None, f"a token within {PATIENCE} s")
    token = on.manager.peek()
    assert token is not None
    return token
