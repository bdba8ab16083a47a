"""The invariants, held against everything that happens, as it happens. Each has a name; a breach is a Finding.

They know the fleet from outside: what its server issued, which leases its store gave, what its callers got.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from accredit.core import effects
from accredit.core.flows import Failed, Obtained
from accredit.core.identity import Identity
from accredit.core.records import Claimed, Held, Lead, Stored, is_newer
from accredit.core.renewal import leeway_for
from accredit.core.token import AccessToken
from accredit.errors import (
    ConfigurationError,
    CredentialRefusedError,
    DiscoveryError,
    ThrottledError,
    UnreachableError,
)
from tests.simulation.kernel import Finding
from tests.simulation.server import Truth
from tests.simulation.shared_store import Node

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.run import Run
    from tests.simulation.waiting import Caller
    from tests.simulation.world import World

#: Every invariant: its name, and what it says.
INVARIANTS = {
    "identity": "a caller gets a token that was issued for what it asked, and for nothing else",
    "usable": "no token is handed out at or after the end of its usable life, by the clock of its server",
    "static stability": "no caller gets an error while its process holds a usable token",
    "shared": "no flight fails while a usable record is in a store that answers",
    "one flight": "a process has at most one flight for an identity",
    "one leader": "a store never gives a lease while another flight's runs",
    "asked with the lease": "a token request is made under a lease, or after the store failed that flight",
    "due": "a renewal that leads is due: no usable record beyond its renewal window is there",
    "attempts": "a flight makes at most three token requests, and one more with another secret",
    "hold": "after a failed flight a process makes no request for that identity until its hold has ended",
    "throttle": "a throttle that the store holds is kept by every flight that began after it",
    "deadline": "a flight and a caller end within their deadline, suspension aside",
    "wake-up": "every waiter of a flight that ended is woken at once",
    "generation": "generations count up, and no record replaces a newer one that lives longer",
    "suspect": "only a generation that an API refused becomes suspect",
    "cool-down": "an API that refuses every token does not cause renewal after renewal",
    "credential": "a credential that was never refused is not answered with somebody else's refusal",
    "breaker": "a store that answers again is used again within seconds",
    "memory": "leases, holds, cool-downs, flights and waiters do not pile up",
    "recovery": "once everything works again, so does every process",
    "spread": "processes that share nothing and began together do not renew together",
    "work": "the work of a fleet is bounded",
    "requests": "with nothing wrong, a fleet makes one token request for each renewal",
}
_SLACK = 1e-6
_MOST_SENDS = 4
# What a flight may take beyond its deadline: store operations that time out, and patience with a young token.
_OVERTIME = 3.0
_BREAKER_OPEN = 5.0
_CREDENTIAL_HOLD = 65.0
_COOL_DOWN = 60.0


class Watch:
    """Told of everything; raises a Finding."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._kernel = world.kernel
        self._leaders: dict[tuple[str, int, bytes], tuple[Run, float]] = {}
        self._kept: dict[tuple[str, int, bytes], tuple[int, float]] = {}
        self._kept_at: dict[tuple[str, int, bytes], float] = {}
        self._suspected: set[tuple[bytes, int]] = set()
        self._highest: dict[bytes, int] = {}
        self._restarted: set[bytes] = set()
        self._astray: set[tuple[str, bytes]] = set()
        self._throttled: dict[str, tuple[float, float]] = {}
        self._held: dict[tuple[str, bytes], tuple[float, str]] = {}
        self._failures: Counter[tuple[str, bytes]] = Counter()
        self._best: dict[tuple[str, bytes], AccessToken] = {}
        self._for_a_refusal: dict[bytes, list[float]] = {}
        self.kept = 0
        #: Token requests beyond one for each record that was kept, by what excuses them.
        self.extra: Counter[str] = Counter()
        self.hand_outs = 0
        self.errors: Counter[str] = Counter()
        self.waits: list[float] = []
        self.flights = 0

    def _break(self, invariant: str, text: str) -> None:
        assert invariant in INVARIANTS
        raise Finding(invariant, text, self._kernel.now)

    # -- flights -----------------------------------------------------------------------------------------

    def took_off(self, run: Run) -> None:
        """A flight begins."""
        if run.slot is not None:
            self.flights += 1
            slot, process = run.slot, run.process
            others = [other.owner for other in process.runs if other.slot is slot and other is not run]
            if others:
                self._break("one flight", f"{run.owner} takes off while {others[0]} flies")
            run.had_token = slot.usable(process.local(self._kernel.now)) is not None
            run.excused = slot.suspect or process.name in self._world.eager
            if slot.suspect and slot.token is not None:
                self._check_suspect(slot.request.identity.encoded, slot.token.generation)

    def refused(self, token: AccessToken, encoded: bytes) -> None:
        """An API refused a token, or a caller reports so."""
        self._suspected.add((encoded, token.generation))

    def _check_suspect(self, encoded: bytes, generation: int) -> None:
        if (encoded, generation) not in self._suspected:
            self._break("suspect", f"generation {generation >> 32} is suspect, and no API refused it")

    def sends(self, run: Run, effect: effects.Send) -> None:
        """A flight makes a token request."""
        process, now, identity = run.process, self._kernel.now, run.identity
        assert identity is not None
        if run.sends > _MOST_SENDS:
            self._break("attempts", f"{run.owner} makes token request number {run.sends}")
        key = (process.name, identity.encoded)
        held = self._held.get(key)
        if held is not None and now < held[0] - _SLACK and held[1] in {"", process.secret}:
            self._break("hold", f"{run.owner} asks {held[0] - now:.3f} s before its hold ends")
        if run.alone or run.refused:
            return
        if not run.led:
            self._break("asked with the lease", f"{run.owner} asks without one, and the store never failed it")
        throttled = self._throttled.get(_place(run, None if process.guard is None else self._node(run)))
        if throttled is not None and throttled[0] < run.began and now < throttled[1] - _SLACK and run.sends == 1:
            self._break("throttle", f"{run.owner} asks {throttled[1] - now:.3f} s before the throttle ends")
        found = run.found
        if found is None or found.suspect or run.excused or run.suspects or run.sends > 1:
            return
        known = run.floor or 0
        if identity.encoded in self._restarted and found.record.generation >> 32 < known >> 32:
            # The store forgot the record and began to count anew; a process that remembers more has it renewed once.
            self.extra["the count of generations began anew"] += 1
            return
        registration = process.registration
        # A server that hands out the same token again states a shorter life each time.
        lifetime = max(found.record.lifetime, float(self._world.server.behaviour.lifetime or 0.0))
        late = min(2.0 * registration.renew_before, lifetime / 4.0)
        window = max(late, leeway_for(lifetime, registration.leeway)) + 1.0
        refresh_in = found.record.refresh_in
        if refresh_in is not None:
            window = max(window, found.record.lifetime - refresh_in + 1.0)
        if self._world.server.behaviour.same_token:
            # Without progress the next try is at half the rest of the life.
            window = max(window, lifetime / 2.0 + 1.0)
        # A wall clock that is ahead makes the ends of others' records come earlier, and so does standing still on the
        # way to the store and back.
        if (process.name, identity.encoded) in self._astray and found.record.generation >> 32 <= known >> 32:
            # It went on alone for a while, and counts further than the store does.
            self.extra["a process came back to the store"] += 1
            return
        if found.remaining > window + self._world.walls + self._world.drift:
            text = f"{run.owner} renews a token that lives {found.remaining:.1f} s more; the window is {window:.1f} s"
            self._break("due", text)

    def _node(self, run: Run) -> Node | None:
        store = self._world.store
        return None if store is None else store.node_for(run.process.name)

    def issued(self, run: Run, token: Truth) -> None:
        """The server issued a token for a request of this flight."""
        run.issued += 1
        assert run.identity is not None
        if run.suspects:
            times = self._for_a_refusal.setdefault(run.identity.encoded, [])
            times.append(self._kernel.now)
            recent = [at for at in times if at > self._kernel.now - _COOL_DOWN]
            self._for_a_refusal[run.identity.encoded] = recent
            most = 2 + 2 * self._world.started + self._world.excused_refusals
            if len(recent) > most:
                self._break("cool-down", f"{len(recent)} renewals within a minute because an API refused tokens")

    def performed(self, run: Run, effect: object, node: Node | None, answer: Any) -> None:
        """A store performed a verb."""
        now = self._kernel.now
        match effect:
            case effects.Claim() if isinstance(answer, Claimed) and isinstance(answer.directive, Lead):
                place = self._key(run, node, effect.identity.encoded)
                other = self._leaders.get(place)
                if other is not None and other[0].owner != effect.owner and other[1] > now + _SLACK:
                    rest = other[1] - now
                    self._break("one leader", f"{effect.owner} leads while {other[0].owner} does for {rest:.2f} s more")
                self._leaders[place] = (run, now + effect.lease)
                run.led, run.found, run.floor = True, answer.stored, effect.newer_than
            case effects.Claim() if isinstance(answer, Claimed):
                run.floor = effect.newer_than
                directive = answer.directive
                if isinstance(directive, Held) and isinstance(directive.hold.error, CredentialRefusedError):
                    self._explained(run.process, [run.secret])
            case effects.Publish():
                self._release(run, node, effect.identity.encoded, effect.owner)
                self._published(run, effect, node, answer)
            case effects.Fail():
                self._release(run, node, effect.identity.encoded, effect.owner)
            case effects.Suspect():
                run.suspects = run.suspects or answer == "suspect"
                there = self._look(run, node, effect.identity)
                if there is not None and there.suspect:
                    self._check_suspect(effect.identity.encoded, there.record.generation)
            case effects.Remove():
                self._kept.pop(self._key(run, node, effect.identity.encoded), None)
            case effects.HoldEndpoint():
                place_name = _place(run, node)
                until = max(self._throttled.get(place_name, (0.0, 0.0))[1], now + effect.hold.seconds)
                self._throttled[place_name] = (now, until)
            case _:
                pass

    def _published(self, run: Run, effect: effects.Publish, node: Node | None, answer: object) -> None:
        if not isinstance(answer, Stored) or not same_bits(answer.record.generation, effect.record.generation):
            self.extra["another token was kept"] += 1
            return
        now = self._kernel.now
        place = self._key(run, node, effect.identity.encoded)
        generation = answer.record.generation
        before = self._kept.get(place)
        if before is not None and before[1] > now:
            if generation >> 32 <= before[0] >> 32:
                self._break("generation", f"generation {generation >> 32} follows {before[0] >> 32}")
            refused = (effect.identity.encoded, before[0]) in self._suspected
            if not refused and before[1] > now + effect.remaining + 1.0 and is_newer(before[0], effect.based_on or 0):
                self._break("generation", f"{effect.record.value} replaces a newer token that lives longer")
        self._kept[place] = (generation, now + answer.remaining)
        self._kept_at[place] = now
        highest = self._highest.get(effect.identity.encoded, 0)
        if generation >> 32 <= highest:
            self._restarted.add(effect.identity.encoded)
        self._highest[effect.identity.encoded] = max(highest, generation >> 32)
        self.kept += 1

    def _release(self, run: Run, node: Node | None, encoded: bytes, owner: str) -> None:
        place = self._key(run, node, encoded)
        leader = self._leaders.get(place)
        if leader is not None and leader[0].owner == owner:
            del self._leaders[place]

    def _look(self, run: Run, node: Node | None, identity: Identity) -> Stored | None:
        if node is not None:
            return node.look(identity, self._kernel.now, run.process.schema)
        found = run.process.engine.store.read(identity)
        return found if isinstance(found, Stored) else None

    def _key(self, run: Run, node: Node | None, encoded: bytes) -> tuple[str, int, bytes]:
        return _place(run, node), run.process.schema, encoded

    def store_changed(self) -> None:
        """Another node is the primary now, or entries are gone: what was claimed and kept there counts no more."""
        self._leaders.clear()
        self._kept.clear()
        self._kept_at.clear()
        self._throttled.clear()

    def lands(self, run: Run, result: object) -> None:
        """A flight is about to land."""
        process, now = run.process, self._kernel.now
        assert run.slot is not None
        took = now - run.began - (process.suspended - run.suspended_before)
        limit = run.slot.request.registration.deadline + _OVERTIME
        if took > limit:
            self._break("deadline", f"{run.owner} took {took:.2f} s; its deadline is {limit - _OVERTIME:.2f} s")
        if run.issued > 1:
            self.extra["an answer was lost"] += run.issued - 1
        if run.issued and isinstance(result, Failed):
            self.extra["an answer was lost"] += 1
        elif run.issued and run.alone:
            self.extra["the store failed a flight"] += 1

    def landed(self, run: Run, result: object) -> None:
        """A flight has landed."""
        process, slot, now = run.process, run.slot, self._kernel.now
        assert slot is not None
        key = (process.name, slot.request.identity.encoded)
        if run.flight._gates or not run.flight.done:
            self._break("wake-up", f"{run.owner} has landed, and {len(run.flight._gates)} waiters do not know")
        if slot.flight is run.flight:
            self._break("wake-up", f"{run.owner} has landed, and callers go on waiting for it")
        if isinstance(result, Obtained):
            self._failures.pop(key, None)
            self._held.pop(key, None)
            (self._astray.add if run.alone else self._astray.discard)(key)
            if slot.token is not None:
                self._best[key] = slot.token
        elif isinstance(result, Failed):
            self._check_found(run, result)
        if isinstance(result, Failed) and result.counts:
            self._failures[key] += 1
            self._held[key] = (now + self._least_hold(result, self._failures[key]), _whose(result, process))

    def _check_found(self, run: Run, failed: Failed) -> None:
        """A flight has failed: nothing that it could have used may have been in the store when it began."""
        store, process, slot, now = self._world.store, run.process, run.slot, self._kernel.now
        assert slot is not None
        if store is None or store.down or run.alone or run.refused or run.excused or run.suspects:
            return
        if run.had_token or slot.usable(process.local(now)) is not None or (failed.credential and not failed.counts):
            return  # It wanted a newer one than it has; or its own secret was refused, and it does not look for now.
        node = store.node_for(process.name)
        published = self._kept_at.get(self._key(run, node, slot.request.identity.encoded), now)
        there = node.look(slot.request.identity, now, process.schema)
        if there is None or there.suspect or not published < run.began > self._world.store_well_since(process):
            return
        if there.remaining > leeway_for(there.record.lifetime, process.registration.leeway) + 1.0 + self._world.walls:
            text = f"{run.owner} fails, and {there.record.value} has been in the store all the time"
            self._break("shared", text)

    @staticmethod
    def _least_hold(failed: Failed, failures: int) -> float:
        """Return the seconds that a hold after such a failure has to last at least."""
        error = failed.error
        full = 2.0 ** min(failures, 16)
        if isinstance(error, ThrottledError) and error.retry_after is not None:
            return 1.0
        if isinstance(error, ConfigurationError):
            return 0.0
        return min(5.0 if isinstance(error, UnreachableError | DiscoveryError) else 60.0, full) / 2.0

    # -- callers -----------------------------------------------------------------------------------------

    def handed_out(self, process: Process, scope: str | None, token: AccessToken, *, forced: bool = False) -> None:
        """A caller got a token."""
        self.hand_outs += 1
        now = self._kernel.now
        truth = self._world.server.tokens.get(token.value)
        if truth is None:
            self._break("identity", f"{process.name} hands out {token.value!r}, which was never issued")
            return
        if truth.scope != (scope or "") or truth.client_id != process.registration.client_id:
            asked = scope or "nothing"
            self._break("identity", f"{process.name} hands out a token for {truth.scope or 'nothing'!r}, not {asked!r}")
        local = process.local(now)
        if local >= token.usable_until:
            late = local - token.usable_until
            self._break(
                "usable", f"{process.name} hands out {token.value} {late:.3f} s after the end of its usable life"
            )
        end = truth.expires_at - leeway_for(token.lifetime, process.registration.leeway)
        if now >= end + _SLACK + self._world.tolerance:
            self._break("usable", f"{process.name} hands out {token.value} {now - end:.3f} s too late for its server")

    def failed(self, process: Process, scope: str | None, caller: Caller, *, forced: bool) -> None:
        """A caller got an error."""
        error, now = caller.error, self._kernel.now
        self.errors[type(error).__name__] += 1
        slot = process.slot_of(scope)
        best = self._best.get((process.name, slot.request.identity.encoded))
        if best is not None and not forced and process.local(now) < best.usable_until:
            rest = best.usable_until - process.local(now)
            text = f"{process.name} raises {type(error).__name__} while {best.value} is usable for {rest:.3f} s more"
            self._break("static stability", text)
        if isinstance(error, CredentialRefusedError):
            self._explained(process, process.secrets_had)

    def _explained(self, process: Process, secrets: list[str]) -> None:
        """A refusal has to be one of a secret that this process had."""
        refusals, now = self._world.server.refusals, self._kernel.now
        slack = _CREDENTIAL_HOLD + process.registration.deadline + process.suspended
        if not any(now - refusals.get(secret, -1e9) < slack for secret in secrets):
            self._break("credential", f"{process.name} is told that its secret was refused, and it never was")

    def returned(self, caller: Caller, limit: float) -> None:
        """A caller is done."""
        process = caller.process
        took = self._kernel.now - caller.started - (process.suspended - caller.suspended_before)
        self.waits.append(took)
        if took > limit + 0.05 + _SLACK:
            self._break("deadline", f"a caller of {process.name} waited {took:.3f} s, and was to wait {limit:.3f} s")

    def forget(self, process: Process, scope: str | None) -> None:
        """A caller removed the token, or reported it: what follows is no error of the library."""
        key = (process.name, process.slot_of(scope).request.identity.encoded)
        self._best.pop(key, None)
        self._held.pop(key, None)
        self._failures.pop(key, None)

    def unhold(self, process: Process, encoded: bytes) -> None:
        """A report of a refusal lifts the hold."""
        self._held.pop((process.name, encoded), None)

    # -- peers -------------------------------------------------------------------------------------------

    def breaker_open(self, process: Process) -> None:
        """A process does without its store."""
        well = self._kernel.now - self._world.store_well_since(process)
        # One operation at a time probes; the others of that moment do without.
        if well > _BREAKER_OPEN and not process.asking:
            self._break("breaker", f"{process.name} does not ask a store that has been well for {well:.1f} s")

    # -- the end -----------------------------------------------------------------------------------------

    def at_rest(self) -> None:
        """Everything has ended that was going on: nothing may be left of it."""
        world, now = self._world, self._kernel.now
        store = world.store
        if store is not None:
            leases = store.primary.entries("_leases", now)
            if leases:
                self._break("memory", f"{leases} leases are left in the store")
            identities = len(world.scenario.scopes) * 2
            tags = 1 + len(world.secrets_ever) * (1 if world.shared_tags else world.started)
            for table, most in (("_holds", identities * tags), ("_cooling", identities * 2), ("_throttles", 1)):
                count = store.primary.entries(table, now)
                if count > most:
                    self._break("memory", f"{count} entries of {table} are left in the store, at most {most} can be")
        for process in world.processes:
            if not process.alive:
                continue
            flying = sum(slot.flight is not None for slot in process.engine.slots.values())
            if flying or process.runs or process.callers or process.shared:
                left = f"{flying} flights, {len(process.runs)} flows, {len(process.callers)} callers"
                self._break("memory", f"{process.name} still has {left}")
            if len(process.engine.slots) > len(world.scenario.scopes):
                self._break("memory", f"{process.name} keeps {len(process.engine.slots)} slots")


def _place(run: Run, node: Node | None) -> str:
    return run.process.name if node is None else f"{node.name} schema {run.process.schema}"


def same_bits(one: int, other: int) -> bool:
    """Tell whether two generations are of one record: a server may hand out one value twice."""
    return (one ^ other) & 0xFFFFFFFF == 0


def _whose(failed: Failed, process: Process) -> str:
    """Return the secret that a hold is about; empty when any would fare alike."""
    if isinstance(failed.error, CredentialRefusedError):
        return str(process.secret)
    return ""
