"""One seed, run: the fleet, its callers, what goes wrong, and the invariants over all of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from accredit.core.registration import TokenRequest
from accredit.core.token import AccessToken
from tests.simulation.kernel import START, Finding, Kernel
from tests.simulation.process import CHALLENGE, Link, Process
from tests.simulation.scenario import Scenario
from tests.simulation.server import ISSUER, TOKEN_ENDPOINT, Api, AuthorizationServer
from tests.simulation.shared_store import SharedStore
from tests.simulation.trouble import Trouble
from tests.simulation.waiting import Caller, sleep
from tests.simulation.watch import Watch
from tests.simulation.words import SCOPES

#: Seconds of quiet after the last fault, in which holds, leases and cool-downs end.
QUIET = 400.0
_AIM = 0.25
# Some processes see a caller so seldom that their tokens are over each time.
_IDLE = 15.0
_IDLE_SHARE = 0.15
_SLOW_CALLS = 0.1


class Result(NamedTuple):
    """What a seed came to."""

    seed: int
    steps: int
    issued: int
    kept: int
    hand_outs: int
    errors: int
    digest: tuple[int, float, int]


class World(Trouble):
    """A fleet in virtual time."""

    def __init__(self, scenario: Scenario, *, trace: list[str] | None = None, keep_effects: bool = False) -> None:
        self.scenario = scenario
        self.kernel = Kernel(scenario.seed, trace=trace)
        self.keep_effects = keep_effects
        self.shared_tags = scenario.shared_tags
        self.tag_key = b"k" * 32
        self.secrets_ever = ["secret-1"]
        self.server = AuthorizationServer(self.kernel, scenario.behaviour, {"orders": {"secret-1"}})
        self.apis = [Api(self.server, self.kernel, f"https://api{number}.example") for number in (1, 2)]
        self.store: SharedStore | None = SharedStore() if scenario.shared else None
        self.store_trips = 0
        self.watch = Watch(self)
        self.processes: list[Process] = []
        #: How many processes there were, all in all.
        self.started = 0
        #: Processes that renew a token that is not due, since a caller asked for that.
        self.eager: set[str] = set()
        #: Renewals for a refusal that have a reason: tokens that were revoked, or that the API did not know yet.
        self.excused_refusals = 0
        #: By how many seconds the clocks of the fleet may mislead it about the life of a token.
        self.tolerance = 0.0
        #: By how many seconds a store may take a token to live longer: its clock is off, or a record came late.
        self.drift = 0.0
        #: By how many seconds the wall clocks of the fleet were off, all in all.
        self.walls = 0.0
        self._misled = False
        self._settings = dict(scenario.settings)
        self._schema = 1
        self._newest_secret = "secret-1"
        self._store_well_since = 0.0
        self._links_well_since: dict[str, float] = {}
        self._over = False

    # -- the course of events ----------------------------------------------------------------------------

    def run(self) -> Result:
        """Run the seed to its end.

        Raises:
            Finding: an invariant does not hold.

        """
        scenario, kernel = self.scenario, self.kernel
        for line in scenario.lines() if kernel.lines is not None else ():
            assert kernel.lines is not None
            kernel.lines.append(line)
        for _ in range(scenario.processes):
            kernel.after(
                0.0 if scenario.together else kernel.random.uniform(0.0, scenario.horizon / 3), None, self._boot
            )
        for fault in scenario.faults:
            kernel.at(START + fault.at, None, self._strike, fault)
        kernel.run(START + scenario.horizon)
        self._over = True
        self._heal()
        kernel.run(max([kernel.now, *(process.resumes_at for process in self._living())]) + QUIET)
        self._recover()
        self.watch.at_rest()
        self._check_requests()
        counts, watch = self.server.counts, self.watch
        errors = sum(watch.errors.values())
        return Result(scenario.seed, kernel.steps, counts.issued, watch.kept, watch.hand_outs, errors, kernel.digest())

    def boot(self, **changes: Any) -> Process:
        """Start a process."""
        self.started += 1
        server = {"issuer": ISSUER} if self.scenario.discovery else {"token_endpoint": TOKEN_ENDPOINT}
        settings = {**self._settings, **server, "secret": self._newest_secret, **changes}
        process = Process(self, f"p{self.started}", settings, schema=self._schema)
        self.processes.append(process)
        self.kernel.note(process.name, "starts")
        if self.kernel.lines is not None:
            for scope in self.scenario.scopes:
                SCOPES[process.slot_of(scope).request.identity.encoded] = scope or "(no scope)"
        return process

    def _boot(self, **changes: Any) -> None:
        process = self.boot(**changes)
        process.pace = self.scenario.pace * (_IDLE if self.kernel.random.random() < _IDLE_SHARE else 1.0)
        if self.scenario.kept_fresh and not self._over:
            for scope in self.scenario.scopes:
                process.manager.keep_fresh(scope=scope)
        self._visit(process)

    def hear(self, process: Process, event: object) -> None:
        """Take note of an event of a process."""
        if self.kernel.lines is not None:
            error = getattr(event, "error", None)
            more = getattr(event, "reason", None) or getattr(event, "outcome", None) or getattr(event, "source", "")
            text = f"{type(error).__name__}: {str(error).splitlines()[0]}" if error is not None else more
            self.kernel.note(process.name, f"event {type(event).__name__} {text}")

    def asks_store(self) -> None:
        """Count a round trip to the store."""
        self.store_trips += 1

    def asks_server(self) -> None:
        """Take note of a token request that sets out."""

    # -- callers -----------------------------------------------------------------------------------------

    def _visit(self, process: Process) -> None:
        """Let some callers come, and come again later."""
        if self._over:
            return
        chance = self.kernel.random
        for _ in range(chance.randint(1, self.scenario.crowd)):
            self.call(process, chance.choice(self.scenario.scopes), chance.random())
        self.kernel.after(chance.expovariate(1.0 / process.pace), process, self._visit, process)

    def _visit_at(self, process: Process, scope: str | None) -> None:
        if not self._over:
            self.call(process, scope, 0.5)

    def call(self, process: Process, scope: str | None, kind: float) -> None:
        """Start one caller: most get a token, some call an API, a few renew, report or remove."""
        chance, manager = self.kernel.random, process.manager
        unusual = self.scenario.profile not in {"calm", "alone"}
        if unusual and kind < 0.01:
            self._start(process, scope, manager.renew(scope=scope), None, forced=True)
        elif unusual and kind < 0.015:
            token = manager.peek(scope=scope)
            if token is not None:
                # A report may come late, when another token is there.
                late = chance.choice([0.0, 0.0, self.scenario.pace * 4.0])
                self.kernel.after(late, process, self._report, process, scope, token)
        elif unusual and kind < 0.02:
            self.eager.add(process.name)
            self.watch.forget(process, scope)
            self._start(process, scope, manager.remove(scope=scope), None, forced=True)
        elif kind > 1.0 - self.scenario.api_share:
            process.start(self._call_api(process, scope, chance.choice(self.apis)), self._called)
        else:
            timeout = chance.choice([None, None, None, 0.0, 0.5, 3.0]) if unusual else None
            self._start(process, scope, manager.get(scope=scope, timeout=timeout), timeout)

    def _report(self, process: Process, scope: str | None, token: AccessToken) -> None:
        encoded = process.slot_of(scope).request.identity.encoded
        self.watch.refused(token, encoded)
        self.excused_refusals += 1
        process.manager.suspect(token)
        self.watch.unhold(process, encoded)

    def _start(
        self, process: Process, scope: str | None, coroutine: Any, timeout: float | None, *, forced: bool = False
    ) -> None:
        limit = process.registration.deadline if timeout is None else timeout
        if forced:
            self.eager.add(process.name)
        process.start(coroutine, lambda caller: self._returned(caller, scope, limit, forced=forced))

    def _returned(self, caller: Caller, scope: str | None, limit: float, *, forced: bool) -> None:
        process, token = caller.process, caller.result
        self.watch.returned(caller, limit)
        if caller.error is not None:
            if self.kernel.lines is not None:
                self.kernel.note(process.name, f"a caller gets {type(caller.error).__name__}")
            self.watch.failed(process, scope, caller, forced=forced)
        elif isinstance(token, AccessToken):
            if self.kernel.lines is not None:
                self.kernel.note(process.name, f"a caller gets {token.value}")
            self.watch.handed_out(process, scope, token)
            self._aim(process, scope, token)

    def _aim(self, process: Process, scope: str | None, token: AccessToken) -> None:
        """Come back where it hurts: just before and after a token becomes renewable, or unusable."""
        chance = self.kernel.random
        if chance.random() < _AIM and not self._over:
            when = chance.choice([token.renew_at, token.usable_until, token.usable_until, token.ends_at])
            when += chance.choice([-1e-3, 1e-9, 1e-3, 0.5]) - process.clock.offset
            if when > self.kernel.now:
                self.kernel.at(when, process, self._visit_at, process, scope)

    async def _call_api(self, process: Process, scope: str | None, api: Api) -> None:
        """Call an API as the integrations do, with their own decisions."""
        tokens = process.tokens
        slot = process.slot_of(scope)
        token = await tokens.obtain_async(slot)
        self.watch.handed_out(process, scope, token)
        slow = self.kernel.random.random() < _SLOW_CALLS
        await sleep(min(self.scenario.pace * 4.0, 60.0) if slow else 0.01)
        status = api.status(token.value)
        await sleep(min(self.scenario.pace * 4.0, 60.0) if slow else 0.01)
        if status != 401:
            return
        self.watch.refused(token, slot.request.identity.encoded)
        if self.kernel.lines is not None:
            self.kernel.note(process.name, f"{api.origin} refuses {token.value}")
        again = tokens.worth_a_retry(
            slot, token, CHALLENGE, origin=api.origin, carried=True, replayable=True, retried=False
        )
        if not again:
            return
        other = await tokens.replacement_async(slot, token, api.origin)
        if other is None:
            return
        self.watch.handed_out(process, scope, other)
        await sleep(0.02)
        if api.status(other.value) == 401:
            self.watch.refused(other, slot.request.identity.encoded)
            tokens.worth_a_retry(slot, other, CHALLENGE, origin=api.origin, carried=True, replayable=True, retried=True)

    def _called(self, caller: Caller) -> None:
        self.watch.returned(
            caller, 2 * caller.process.registration.deadline + 1.0 + min(8.0 * self.scenario.pace, 120.0)
        )
        if caller.error is not None:
            if isinstance(caller.error, AssertionError):
                raise caller.error
            self.watch.errors[type(caller.error).__name__] += 1

    # -- the end -----------------------------------------------------------------------------------------

    def _heal(self) -> None:
        self.kernel.note("WORLD", "everything works again, and no caller comes")
        self.server.behaviour.trouble = None
        self._end_overload()
        if self.store is not None:
            self.store.down = False
            self.store.heal()
        for process in self._living():
            process.link, process.server_link = Link(), Link()
            process.clock.wall_offset = 0.0
            process.ambush = process.landing = None
            process.give_secret(self._newest_secret)
            for slot in process.engine.slots.values():
                process.engine.keeper.release(slot)
        for api in self.apis:
            api.misconfigured, api.lag = False, 0.0
        self._store_well_since = self.kernel.now

    def _recover(self) -> None:
        """Ask every process for every token."""
        self.kernel.note("WORLD", "every process is asked once more")
        for process in self._living():
            for scope in self.scenario.scopes:
                self._start(process, scope, process.manager.get(scope=scope), None)
        before = sum(self.watch.errors.values())
        self.kernel.run(self.kernel.now + 60.0)
        # Where an answer takes longer than a lease lasts, the next in turn has less time than the server needs.
        too_slow = self.scenario.behaviour.seconds > self.scenario.settings["deadline"] / 2.0
        if sum(self.watch.errors.values()) != before and not too_slow:
            raise Finding("recovery", f"callers still get errors: {dict(self.watch.errors)}", self.kernel.now)

    def _check_requests(self) -> None:
        """With nothing wrong, count: one request for each renewal, and renewals that do not coincide."""
        scenario, kernel = self.scenario, self.kernel
        requests, kept = self.server.counts.requests, self.watch.kept
        if scenario.profile == "calm" and requests != kept:
            raise Finding("requests", f"{requests} token requests for {kept} records", kernel.now)
        if scenario.profile == "alone":
            self._check_spread()

    def _check_spread(self) -> None:
        lifetime = float(self.scenario.behaviour.lifetime or 300)
        late = min(2.0 * self.scenario.settings["renew_before"], lifetime / 4.0)
        renewals = [at for at in self.server.counts.times if START + lifetime / 2 < at < START + lifetime * 1.2]
        width = late / 2.0 / 8.0
        most = max((sum(at <= other < at + width for other in renewals) for at in renewals), default=0)
        if most > 0.65 * len(self.processes):
            text = f"{most} of {len(self.processes)} processes renew within {width:.2f} s"
            raise Finding("spread", text, self.kernel.now)


def request_of(process: Process, scope: str | None) -> TokenRequest:
    """Return the token request of an identity."""
    return process.slot_of(scope).request
