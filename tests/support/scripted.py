"""The scripted driver: flows of several processes, one effect at a time, over virtual time.

A :class:`World` has a clock, a real :class:`~accredit.stores.memory.MemoryStore` on it, a scripted server and any
number of processes. A :class:`Run` is one flow of one process; each of its effects is performed by one
:meth:`Run.step`, so that a test decides who goes next (:func:`explore` tries every order), where one crashes, and when
the store is down.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

from accredit.core import effects
from accredit.core.client_auth import ClientSecretPost
from accredit.core.effects import Credential, Effect, Instant
from accredit.core.events import Event
from accredit.core.flows import NOTHING, Failed, Obtained, Past, Surfaced, obtain, renew_refused
from accredit.core.messages import Failure, Request, Response
from accredit.core.metadata import ServerMetadata
from accredit.core.records import StoreDown
from accredit.core.registration import ClientRegistration, TokenRequest, token_request_for
from accredit.core.secret import Secret
from accredit.errors import ConfigurationError
from accredit.stores.memory import MemoryStore

TOKEN_ENDPOINT = "https://as.example/token"
ISSUER = "https://as.example"
ORIGIN = "https://api.example"
JSON = (("content-type", "application/json"),)
Result = Obtained | Failed | Surfaced
Outcome = Response | Failure | ConfigurationError
STORE_EFFECTS = (
    effects.Claim,
    effects.Publish,
    effects.Fail,
    effects.Suspect,
    effects.Cool,
    effects.Remove,
    effects.EndpointHold,
    effects.HoldEndpoint,
)
# What another process can see, or what takes time. All other effects commute with those of other processes.
VISIBLE = (*STORE_EFFECTS, effects.Send, effects.Pause)


def answer(status: int = 200, headers: Iterable[tuple[str, str]] = JSON, **members: Any) -> Response:
    """Return a JSON answer."""
    return Response(status, tuple(headers), json.dumps(members).encode())


def issued(value: str, expires_in: object = 3600, **members: Any) -> Response:
    """Return a token response."""
    return answer(access_token=value, token_type="Bearer", expires_in=expires_in, **members)


def registration(**settings: Any) -> ClientRegistration:
    """Return a registration, by default without discovery."""
    server = {} if {"issuer", "metadata_url", "token_endpoint"} & set(settings) else {"token_endpoint": TOKEN_ENDPOINT}
    defaults: dict[str, Any] = {"id": "api", "client_id": "orders", "client_auth": ClientSecretPost("s3cret"), **server}
    return ClientRegistration(**{**defaults, **settings})


def wanted(**settings: Any) -> TokenRequest:
    """Return a token request of such a registration."""
    return token_request_for(registration(**settings))


class Server:
    """An authorization server that follows a script and counts; its answers take ``latency`` seconds."""

    def __init__(self) -> None:
        self.requests: list[tuple[float, Request]] = []
        self.latency = 0.1
        self.lifetime: object = 3600
        self.script: list[Outcome] = []
        self.always: Callable[[Request], Outcome] | None = None
        self.tokens = 0

    @property
    def count(self) -> int:
        """How many requests came."""
        return len(self.requests)

    def receive(self, request: Request, at: float) -> Outcome:
        self.requests.append((at, request))
        if self.script:
            return self.script.pop(0)
        if self.always is not None:
            return self.always(request)
        self.tokens += 1
        return issued(f"token-{self.tokens}", self.lifetime)


@dataclass
class _Shared:
    """A flow that runs once for all flows of a process that want it."""

    done: bool = False
    result: Any = None


@dataclass
class Process:
    """A process of the fleet: its secret, its memory of metadata, what its flows told the operator."""

    name: str
    secret: str | ConfigurationError = "s3cret"
    metadata: dict[str, tuple[ServerMetadata, float]] = field(default_factory=dict)
    shared: dict[tuple[str, ...], _Shared] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    wall_offset: float = 0.0
    later_secrets: list[str] = field(default_factory=list)

    def read_secret(self) -> Credential | ConfigurationError:
        secret = self.secret
        if self.later_secrets:
            self.secret = self.later_secrets.pop(0)
        return secret if isinstance(secret, ConfigurationError) else Credential(Secret(secret), f"tag of {secret}")


class World:
    """Virtual time, one store, one server, and faults of the store at chosen operations."""

    def __init__(self, *, seed: int = 0) -> None:
        self.now = 1_000.0
        self.wall_base = 1_700_000_000.0
        self.store = MemoryStore(clock=lambda: self.now)
        self.server = Server()
        self.random = random.Random(seed)
        self.store_down = False
        self.down_at: set[int] = set()
        self.store_operations = 0

    def run(
        self, process: Process, request: TokenRequest, newer_than: int | None = None, *, past: Past = NOTHING
    ) -> Run:
        """Start to obtain a token; nothing is performed yet."""
        return Run(self, process, obtain(request, newer_than=newer_than, owner=self.owner(process), past=past))

    def refused(self, process: Process, request: TokenRequest, generation: int, *, age: float = 60.0) -> Run:
        """Start to replace a token that an API refused."""
        flow = renew_refused(request, generation=generation, age=age, origin=ORIGIN, owner=self.owner(process))
        return Run(self, process, flow)

    def owner(self, process: Process) -> str:
        return f"{process.name}-{self.random.getrandbits(64):016x}"

    def perform_store(self, effect: Effect) -> object:
        """Perform a store effect, or find the store down."""
        index = self.store_operations
        self.store_operations += 1
        if self.store_down or index in self.down_at:
            return StoreDown()
        store = self.store
        match effect:
            case effects.Claim(identity, newer_than, credential, owner, lease):
                return store.claim(identity, newer_than=newer_than, credential=credential, owner=owner, lease=lease)
            case effects.Publish(identity, owner, record, remaining, credential, based_on):
                return store.publish(
                    identity, owner=owner, record=record, remaining=remaining, credential=credential, based_on=based_on
                )
            case effects.Fail(identity, owner, hold):
                return store.fail(identity, owner=owner, hold=hold)
            case effects.Suspect(identity, generation, origin):
                return store.suspect(identity, generation=generation, origin=origin)
            case effects.Cool(identity, origin, seconds):
                return store.cool(identity, origin=origin, seconds=seconds)
            case effects.Remove(identity):
                return store.remove(identity)
            case effects.EndpointHold(key):
                return store.endpoint_hold(key)
            case effects.HoldEndpoint(key, hold):
                return store.hold_endpoint(key, hold)
        raise AssertionError(effect)


class Run:
    """One flow, standing before its next effect."""

    def __init__(self, world: World, process: Process, flow: Generator[Effect, object, Any]) -> None:
        self.world = world
        self.process = process
        self._stack: list[tuple[Generator[Effect, object, Any], tuple[str, ...] | None]] = [(flow, None)]
        self._answer: object = None
        self._reply_at: float | None = None
        self._waits_for: tuple[_Shared, float] | None = None
        self.trace: list[Effect] = []
        self.result: Any = None
        self.done = False
        self.effect: Effect | None = None
        self._advance(None)

    @property
    def ready_at(self) -> float:
        """When this run can go on; now or earlier if at once, infinity when it is over."""
        if self.done:
            return math.inf
        if self._waits_for is not None:
            other, until = self._waits_for
            return self.world.now if other.done else until
        return self.world.now if self._reply_at is None else self._reply_at

    def step(self) -> None:
        """Perform the pending effect; what takes time needs a second step, once that time has come."""
        assert not self.done
        if self._waits_for is not None:
            other, _ = self._waits_for
            self._waits_for = None
            self._advance(other.result if other.done else None)
            return
        if self._reply_at is not None:
            assert self.world.now >= self._reply_at
            self._reply_at = None
            self._advance(self._answer)
            return
        self._perform(self._pending())

    def _pending(self) -> Effect:
        assert self.effect is not None
        return self.effect

    def _perform(self, effect: Effect) -> None:
        world, process = self.world, self.process
        match effect:
            case effects.Now():
                self._advance(Instant(world.now, world.wall_base + world.now + process.wall_offset))
            case effects.Random():
                self._advance(world.random.random())
            case effects.Nonce():
                self._advance(world.random.getrandbits(32))
            case effects.Emit(event):
                process.events.append(event)
                self._advance(None)
            case effects.ReadSecret():
                self._advance(process.read_secret())
            case effects.LoadMetadata(key):
                kept = process.metadata.get(key)
                self._advance(None if kept is None else (kept[0], world.now - kept[1]))
            case effects.KeepMetadata(key, metadata):
                process.metadata[key] = (metadata, world.now)
                self._advance(None)
            case effects.Share(key, flow, timeout):
                running = process.shared.get(key)
                if running is not None and not running.done:
                    self._waits_for = (running, world.now + timeout)
                else:
                    process.shared[key] = _Shared()
                    self._stack.append((flow(), key))
                    self._advance(None)
            case effects.Pause(seconds):
                self._reply_at, self._answer = world.now + seconds, None
            case effects.Send(request, timeout):
                outcome = world.server.receive(request, world.now)
                late = world.server.latency > timeout
                self._answer = Failure("deadline", "no answer in time") if late else outcome
                self._reply_at = world.now + min(world.server.latency, timeout)
            case _:
                self._advance(world.perform_store(effect))

    def _advance(self, reply: object) -> None:
        """Send the reply in, up to the next effect or the end."""
        flow, shared = self._stack[-1]
        try:
            self.effect = flow.send(reply)
        except StopIteration as end:
            self._stack.pop()
            if shared is not None:
                marker = self.process.shared[shared]
                marker.done, marker.result = True, end.value
                self._advance(end.value)
                return
            self.done, self.result, self.effect = True, end.value, None
            return
        self.trace.append(self.effect)

    def skip_invisible(self) -> None:
        """Perform effects up to the next one that another process could notice."""
        while not self.done and self._reply_at is None and self._waits_for is None and not self.before(*VISIBLE):
            self.step()

    def before(self, *kinds: type) -> bool:
        """Tell whether the pending effect is of one of these kinds and not yet performed."""
        return isinstance(self.effect, kinds) and self._reply_at is None

    def crash(self) -> None:
        """Abandon the flow, as SIGKILL would. A flow that yields while it is closed raises RuntimeError here."""
        for flow, _ in reversed(self._stack):
            flow.close()
        self.done, self.result, self.effect = True, None, None

    def finish(self) -> Any:
        """Run to the end, letting the time pass that it takes."""
        while not self.done:
            self.world.now = max(self.world.now, self.ready_at)
            self.step()
        return self.result

    def advance_to(self, *kinds: type) -> None:
        """Run until the pending effect is of one of these kinds."""
        while not self.before(*kinds):
            self.world.now = max(self.world.now, self.ready_at)
            self.step()


def events_of(process: Process, kind: type) -> list[Event]:
    """Return what a process told the operator, of that kind."""
    return [event for event in process.events if isinstance(event, kind)]


def sends(run: Run) -> list[effects.Send]:
    """Return the requests of a run."""
    return [effect for effect in run.trace if isinstance(effect, effects.Send)]


def pauses(run: Run) -> list[float]:
    """Return how long a run paused each time, in seconds."""
    return [effect.seconds for effect in run.trace if isinstance(effect, effects.Pause)]


def obtained(world: World, request: TokenRequest | None = None, newer_than: int | None = None) -> Obtained:
    """Obtain a token in a process of its own."""
    result = world.run(Process("p"), request or wanted(), newer_than).finish()
    assert isinstance(result, Obtained)
    return result


def failed(world: World, request: TokenRequest | None = None, process: Process | None = None) -> Failed:
    """Fail to obtain a token."""
    result = world.run(process or Process("p"), request or wanted()).finish()
    assert isinstance(result, Failed)
    return result


Choose = Callable[[int], int]


def run_all(runs: list[Run], choose: Choose) -> None:
    """Run all to their ends: whoever is ready may go next, as ``choose`` says; time passes when nobody is ready."""
    world = runs[0].world
    while True:
        for run in runs:
            run.skip_invisible()
        open_runs = [run for run in runs if not run.done]
        if not open_runs:
            return
        ready = [run for run in open_runs if run.ready_at <= world.now]
        if not ready:
            world.now = min(run.ready_at for run in open_runs)
            continue
        ready[choose(len(ready)) if len(ready) > 1 else 0].step()


class _Path:
    """The choices of one execution: a prefix that is given, the first option behind it."""

    def __init__(self, prefix: list[int], depth: int) -> None:
        self.taken: list[tuple[int, int]] = []
        self._prefix = prefix
        self._depth = depth

    def choose(self, options: int) -> int:
        index = len(self.taken)
        if index >= self._depth:
            return 0
        choice = self._prefix[index] if index < len(self._prefix) else 0
        self.taken.append((choice, options))
        return choice


def explore(scenario: Callable[[Choose], None], *, depth: int = 64) -> int:
    """Run a scenario once for every sequence of choices (of the first ``depth`` ones); return how many there were."""
    prefix: list[int] = []
    count = 0
    while True:
        path = _Path(prefix, depth)
        scenario(path.choose)
        count += 1
        taken = path.taken
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        if not taken:
            return count
        prefix = [choice for choice, _ in taken]
        prefix[-1] += 1
