"""What happens in a seed: the fleet, its settings, its traffic, and what goes wrong when. The seed decides it all."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.simulation.server import Behaviour

Profile = Literal[
    "calm", "alone", "server", "store", "network", "processes", "clocks", "secrets", "refusals", "deploy", "overload",
    "everything",
]  # fmt: skip
WEIGHTS: dict[Profile, int] = {
    "calm": 8, "alone": 8, "server": 10, "store": 14, "network": 10, "processes": 14, "clocks": 8, "secrets": 10,
    "refusals": 10, "deploy": 8, "overload": 5, "everything": 20,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, when (seconds from the beginning), for how long, and what else there is to say."""

    at: float
    seconds: float
    kind: str
    values: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        more = ", ".join(f"{name}={_short(value)}" for name, value in self.values.items())
        return f"{self.at:9.3f} s  {self.kind}" + (f" for {self.seconds:.2f} s" if self.seconds else "") + f"  {more}"


@dataclass
class Scenario:
    """A seed, spelled out."""

    seed: int
    profile: Profile
    processes: int
    shared: bool
    shared_tags: bool
    horizon: float
    scopes: tuple[str | None, ...]
    settings: dict[str, Any]
    behaviour: Behaviour
    #: Mean seconds between two visits of callers to one process, and most callers at once.
    pace: float
    crowd: int
    api_share: float
    kept_fresh: bool
    together: bool
    discovery: bool
    faults: list[Fault]

    def lines(self) -> list[str]:
        """Return it for people."""
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        store = "a shared store" if self.shared else "no shared store"
        head = [
            f"seed {self.seed}: {self.profile}; {self.processes} processes, {store}, {self.horizon:.0f} s",
            f"  identities: {', '.join(scope or '(no scope)' for scope in self.scopes)}; {settings}",
            f"  server: {self.behaviour}",
            f"  traffic: a visit every {self.pace:.2f} s, up to {self.crowd} callers, {self.api_share:.0%} call an API",
        ]
        return [*head, *(f"  {fault}" for fault in self.faults)]


def draw(seed: int, *, processes: int | None = None, profile: Profile | None = None) -> Scenario:
    """Draw the scenario of a seed."""
    chance = random.Random(f"scenario {seed}")
    if profile is None:
        profile = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    lifetime = chance.choice([5, 20, 60, 60, 300, 300, 1800])
    number = processes or chance.choices([2, 3, 4, 6, 8, 12, 40], [20, 20, 20, 15, 10, 5, 1])[0]
    shared = profile != "alone" and (profile != "everything" or chance.random() < 0.85)
    if profile == "refusals":
        lifetime = max(lifetime, 20)
    behaviour = Behaviour(
        lifetime=None if lifetime == 300 and chance.random() < 0.2 else lifetime,
        seconds=chance.choice([0.002, 0.05, 0.3, 1.5]),
        refresh_in=lifetime // 2 if chance.random() < 0.1 else None,
    )
    # Nobody can know the end of a token that is handed out again and again without a word about its life.
    behaviour.same_token = behaviour.lifetime is not None and chance.random() < 0.1
    if profile in {"calm", "alone"}:
        behaviour.same_token = False
        behaviour.seconds = min(behaviour.seconds, 0.3)
    settings: dict[str, Any] = {
        "deadline": chance.choice([2.0, 10.0, 10.0, 30.0, 60.0]),
        "renew_before": chance.choice([300.0, 300.0, 5.0]),
        "leeway": chance.choice([10.0, 10.0, 1.0]),
    }
    if settings["deadline"] < 10.0:
        # A server that takes longer than a lease lasts (half the deadline) is asked by more than one.
        slow = profile not in {"calm", "alone"} and chance.random() < 0.3
        behaviour.seconds = 1.2 if slow else min(behaviour.seconds, 0.3)
    scenario = Scenario(
        seed,
        profile,
        number,
        shared,
        shared_tags=chance.random() < 0.5,
        horizon=lifetime * chance.uniform(2.2, 3.5),
        scopes=chance.choice([(None,), (None, "read"), ("read", "write"), (None, "read", "write")]),
        settings=settings,
        behaviour=behaviour,
        pace=max(lifetime / chance.choice([8.0, 15.0, 30.0]), 0.2),
        crowd=chance.choice([1, 2, 4]),
        api_share=0.6 if profile == "refusals" else chance.choice([0.0, 0.3]),
        kept_fresh=chance.random() < 0.3,
        together=profile == "alone" or chance.random() < 0.5,
        discovery=chance.random() < 0.2,
        faults=[],
    )
    if profile == "alone":
        scenario.processes = processes or 24
        scenario.scopes = (None,)
        scenario.pace = lifetime / 8.0
        scenario.kept_fresh = True
        behaviour.refresh_in = None
        settings["renew_before"] = 300.0
    _Faults(scenario, chance).draw()
    scenario.faults.sort(key=lambda fault: fault.at)
    return scenario


class _Faults:
    """Draws what goes wrong."""

    def __init__(self, scenario: Scenario, chance: random.Random) -> None:
        self._scenario = scenario
        self._chance = chance

    def draw(self) -> None:
        profile = self._scenario.profile
        if profile in {"calm", "alone"}:
            return
        kinds = (
            ["server", "store", "network", "processes", "clocks", "secrets", "refusals", "deploy", "overload"]
            if profile == "everything"
            else [profile]
        )
        for kind in self._chance.sample(kinds, self._chance.randint(min(2, len(kinds)), len(kinds))):
            for _ in range(self._chance.choice([1, 1, 2, 3])):
                getattr(self, f"_{kind}")()

    def _add(self, kind: str, seconds: float = 0.0, at: float | None = None, **values: Any) -> None:
        when = self._chance.uniform(0.0, self._scenario.horizon) if at is None else at
        self._scenario.faults.append(Fault(when, seconds, kind, values))

    def _length(self) -> float:
        lifetime = float(self._scenario.behaviour.lifetime or 300)
        longest = min(lifetime, 600.0)
        return self._chance.choice([1.0, 10.0, longest / 4, longest, 1.5 * longest]) * self._chance.uniform(0.5, 1.0)

    def _server(self) -> None:
        trouble = self._chance.choice(["down", "hanging", "error", "garbage", "throttling"])
        values = {"retry_after": self._chance.choice([None, 0, 1, 7, 60])} if trouble == "throttling" else {}
        self._add("server", self._length(), trouble=trouble, **values)

    def _store(self) -> None:
        chance = self._chance
        match chance.choice(["outage", "fail-over", "fail-over", "split", "empty", "evict"]):
            case "outage":
                self._add("store down", self._length())
            case "fail-over":
                skew = chance.choice([0.0, -20.0, 20.0, -3.0])
                self._add("fail-over", chance.uniform(0.2, 3.0), lag=chance.uniform(0.0, 4.0), skew=skew)
            case "split":
                self._add("split brain", self._length(), lag=chance.uniform(0.0, 2.0), share=chance.uniform(0.2, 0.8))
            case "empty":
                self._add("store empty")
            case _:
                self._add("evict")

    def _network(self) -> None:
        chance = self._chance
        what = chance.choice(["store", "store", "server"])
        match chance.choice(["partition", "lossy", "late", "slow"]):
            case "partition":
                self._add("partition", self._length(), peer=what, share=chance.uniform(0.2, 1.0))
            case "lossy":
                before, after = chance.uniform(0.0, 0.4), chance.uniform(0.0, 0.4)
                self._add(
                    "lossy", self._length(), peer=what, share=chance.uniform(0.2, 1.0), before=before, after=after
                )
            case "late":
                self._add("late", self._length(), peer="store", share=1.0, late=chance.uniform(0.05, 0.4))
            case _:
                self._add("slow", self._length(), peer=what, share=1.0, mean=chance.choice([0.05, 0.1, 0.16]))

    def _processes(self) -> None:
        chance = self._chance
        lifetime = float(self._scenario.behaviour.lifetime or 300)
        effect = chance.randint(1, 60)
        seconds = chance.choice([0.3, 2.0, 12.0, lifetime / 3, lifetime, 2 * lifetime]) * chance.uniform(0.5, 1.0)
        match chance.choice(["crash", "crash at an effect", "suspend", "suspend at an effect", "suspend on landing"]):
            case "crash":
                self._add("crash", chance.uniform(0.0, 5.0))
            case "crash at an effect":
                self._add("crash", chance.uniform(0.0, 5.0), effect=effect)
            case "suspend":
                self._add("suspend", seconds)
            case "suspend on landing":
                self._add("suspend", seconds, landing=True)
            case _:
                # A third of them at the beginning, when all want a token and one asks for it.
                at = 0.0 if chance.random() < 0.35 else None
                self._add("suspend", seconds, at=at, effect=effect if at is None else chance.randint(5, 12))

    def _clocks(self) -> None:
        by = self._chance.choice([-7200.0, -60.0, -5.0, 5.0, 60.0, 7200.0])
        self._add("wall jump", self._length(), by=by, share=self._chance.uniform(0.1, 1.0))

    def _secrets(self) -> None:
        overlap = self._length()
        late = self._chance.choice([0.0, 0.5, 2.0])
        at = self._chance.uniform(0.0, self._scenario.horizon)
        self._add("rotation", overlap, at=at, late=late)
        if late and self._chance.random() < 0.5:
            # Nobody has a token while some processes have a secret that is over, and others have the new one.
            self._add("store empty", at=at + overlap * 1.1)
            self._add("restart", at=at + overlap * 1.2)

    def _refusals(self) -> None:
        match self._chance.choice(["revoke", "revoke", "misconfigured", "lag"]):
            case "revoke":
                self._add("revoke")
            case "misconfigured":
                self._add("misconfigured", max(self._length(), 30.0))
            case _:
                self._add("lag", self._length(), lag=self._chance.choice([0.2, 0.9, 3.0]))

    def _deploy(self) -> None:
        chance = self._chance
        changes: dict[str, Any] = {}
        if chance.random() < 0.7:
            changes["renew_before"] = chance.choice([5.0, 60.0, 300.0])
        if chance.random() < 0.5:
            changes["leeway"] = chance.choice([1.0, 5.0, 10.0])
        if chance.random() < 0.5:
            changes["deadline"] = chance.choice([3.0, 10.0] if self._scenario.behaviour.seconds < 1.0 else [10.0])
        self._add("deploy", self._length(), schema=chance.choice([1, 2]), **changes)

    def _overload(self) -> None:
        chance = self._chance
        capacity = chance.choice([0.5, 2.0, 20.0])
        self._add(
            "overload",
            self._length(),
            capacity=capacity,
            queue=chance.choice([0.5, 3.0, 20.0]),
            how=chance.choice(["drop", "503", "429"]),
            retry_after=chance.choice([None, 1, 5]),
            a_minute=chance.choice([None, None, 3]),
        )


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
