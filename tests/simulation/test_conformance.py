"""One script, four drivers: the scripted one, the simulator, the engine on the caller's thread and on worker threads.

What the simulator proves, it proves of the flows as it drives them. So the effects that a flow asks for, and the
answers that it gets, have to be the same wherever it runs: the same effects in the same order, with the same numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from accredit import TokenManager
from accredit.clock import Gate
from accredit.core import effects
from accredit.core.client_auth import ClientSecretBasic
from accredit.core.flows import Failed, Obtained
from accredit.core.messages import Failure, Request, Response
from accredit.core.records import Hold
from accredit.core.registration import TokenRequest
from accredit.errors import AccreditError, UnreachableError
from accredit.stores.memory import MemoryStore
from tests.simulation.kernel import START, START_WALL
from tests.simulation.process import Process as SimulatedProcess
from tests.simulation.run import Run as SimulatedRun
from tests.simulation.scenario import draw
from tests.simulation.server import Behaviour, Reply
from tests.simulation.world import World as SimulatedWorld
from tests.support.scripted import JSON, TOKEN_ENDPOINT, Process, World, answer, issued, wanted

LATENCY = 0.125
SEED = 20
SECRET = "s3cret"
Step = Response | Failure


@dataclasses.dataclass(frozen=True)
class Script:
    """What the server answers, in turn, and what is in the store when the flow begins."""

    name: str
    answers: tuple[Step, ...]
    prepare: Callable[[MemoryStore, TokenRequest], None] = lambda store, request: None
    down: bool = False
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


def _a_record(store: MemoryStore, request: TokenRequest) -> None:
    from accredit.core.records import Record

    record = Record(request.identity.encoded, "found", 3600.0, 4e9, 1 << 32)
    store.publish(request.identity, owner="x", record=record, remaining=3000.0, credential="", based_on=None)


def _a_record_in_its_last_seconds(store: MemoryStore, request: TokenRequest) -> None:
    from accredit.core.records import Record

    record = Record(request.identity.encoded, "found", 3600.0, 4e9, 1 << 32)
    store.publish(request.identity, owner="x", record=record, remaining=5.0, credential="", based_on=None)


def _a_lease(store: MemoryStore, request: TokenRequest) -> None:
    store.claim(request.identity, newer_than=None, credential="", owner="another", lease=1.0)


def _a_hold(store: MemoryStore, request: TokenRequest) -> None:
    error = UnreachableError("down.", advice="Wait.")
    store.fail(request.identity, owner="another", hold=Hold(5.0, error, 2))


def _a_throttle(store: MemoryStore, request: TokenRequest) -> None:
    from accredit.core.flows import throttle_key

    error = UnreachableError("busy.", advice="Wait.")
    store.hold_endpoint(throttle_key(request.registration), Hold(7.0, error, 1))


DOWN = Failure("connect", "refused")
BROKEN = answer(500, error="server_error")
SCRIPTS = [
    Script("success", (issued("t1"),)),
    Script("a second attempt", (BROKEN, issued("t1"))),
    Script("a third attempt", (DOWN, BROKEN, issued("t1"))),
    Script("unreachable", (DOWN, DOWN, DOWN)),
    Script("refused credential", (answer(401, error="invalid_client"),)),
    Script("refused request", (answer(400, error="invalid_scope"),)),
    Script("throttled", (answer(429, (*JSON, ("retry-after", "9")), error="slow_down"),)),
    Script("garbage", (Response(200, (("content-type", "text/html"),), b"<html>"),)),
    Script("clamped", (issued("t1", 10**9),)),
    Script("short life", (issued("t1", 1),)),
    Script("a record in the store", (), _a_record),
    Script("a record in its last seconds", (issued("t1"),), _a_record_in_its_last_seconds),
    Script("another leads and vanishes", (issued("t1"),), _a_lease),
    Script("held in the store", (), _a_hold),
    Script("throttled in the store", (), _a_throttle),
    Script("the store is down", (issued("t1"),), down=True),
    Script("discovery", (answer(200, issuer="https://as.example", token_endpoint=TOKEN_ENDPOINT), issued("t1")),
           settings={"issuer": "https://as.example"}),
    Script("discovery fails", (answer(404), answer(404)), settings={"issuer": "https://as.example"}),
]  # fmt: skip


class Broken(MemoryStore):
    """A store that does not answer."""

    def claim(self, *_: Any, **__: Any) -> Any:
        raise ConnectionError("down")

    publish = fail = suspect = cool = remove = endpoint_hold = hold_endpoint = claim

    @property
    def in_process(self) -> bool:
        """False: only then is it not read under a lock."""
        return False


class Shared(MemoryStore):
    """A store that is taken for one over a network."""

    @property
    def in_process(self) -> bool:
        """False, as in the simulator."""
        return False


# -- what is compared ----------------------------------------------------------------------------------------


def plain(effect: object) -> tuple[Any, ...]:
    """Return an effect without what is drawn or named anew in each run."""
    name = type(effect).__name__
    match effect:
        case effects.Pause(seconds):
            return name, round(seconds, 6)
        case effects.Emit(event):
            return name, type(event).__name__
        case effects.Send(request, timeout):
            return name, request.method, request.url, round(timeout, 6)
        case effects.Claim(identity, newer_than, _, _, lease):
            return name, identity.encoded, newer_than, round(lease, 6)
        case effects.Publish(identity, _, record, remaining, _, based_on):
            return (
                name,
                identity.encoded,
                record.value,
                record.generation,
                record.lifetime,
                round(remaining, 6),
                based_on,
            )
        case effects.Fail(identity, _, hold):
            return name, identity.encoded, *(() if hold is None else (round(hold.seconds, 6), hold.failures))
        case effects.HoldEndpoint(key, hold):
            return name, key, round(hold.seconds, 6)
        case effects.EndpointHold(key):
            return name, key
        case effects.ReadSecret() | effects.LoadMetadata() | effects.KeepMetadata() | effects.Share():
            return (name,)
        case _:
            return (name,)


def ending(result: object) -> tuple[Any, ...]:
    """Return what came of it."""
    if isinstance(result, Obtained):
        return "obtained", result.source, result.stored.record.value, round(result.stored.remaining, 6)
    assert isinstance(result, Failed)
    return "failed", type(result.error).__name__, round(result.hold, 6), bool(result.credential), result.counts


Trace = tuple[list[tuple[Any, ...]], tuple[Any, ...]]


# -- the drivers ---------------------------------------------------------------------------------------------


def in_the_scripted_driver(script: Script) -> Trace:
    world = World(seed=SEED)
    world.server.latency = LATENCY
    world.server.script = list(script.answers)
    world.store_down = script.down
    request = wanted(client_auth=ClientSecretBasic(SECRET), **script.settings)
    script.prepare(world.store, request)
    run = world.run(Process("p", SECRET), request)
    world.random.seed(SEED)
    result = run.finish()
    assert world.server.script == []
    return [plain(effect) for effect in run.trace], ending(result)


def in_the_simulator(script: Script) -> Trace:
    scenario = dataclasses.replace(draw(0, processes=1, profile="calm"), faults=[], discovery=bool(script.settings))
    scenario.settings.clear()
    scenario.behaviour = Behaviour(seconds=LATENCY)
    world = SimulatedWorld(scenario, keep_effects=True)
    answers = list(script.answers)
    world.server.receive = lambda request, patience: Reply(answers.pop(0), LATENCY)  # type: ignore[method-assign]
    # The network of a script takes no time, so that all the numbers can be compared.
    world.kernel.random = Still()
    world.server.counts.issued = 0
    process = SimulatedProcess(world, "p", {**_server(script), "secret": "secret-1"})
    process.secret = SECRET
    process.link.seconds = process.server_link.seconds = 0.0
    request = process.slot_of(None).request
    assert world.store is not None
    node = world.store.primary
    node._time = world.kernel.now
    script.prepare(node._store(1), request)
    world.store.down = script.down
    process.engine._random.seed(SEED)
    runs: list[SimulatedRun] = []
    results: list[object] = []
    world.watch.took_off = lambda run: runs.append(run)  # type: ignore[method-assign]  # noqa: PLW0108
    world.watch.lands = lambda run, result: results.append(result)  # type: ignore[method-assign]
    world.watch.landed = lambda run, result: None  # type: ignore[method-assign]
    process.start(process.manager.get(), lambda caller: None)
    world.kernel.run(world.kernel.now + 60.0)
    assert answers == []
    assert len(runs) == len(results) == 1
    assert runs[0].trace is not None
    return [plain(effect) for effect in runs[0].trace], ending(results[0])


class Still(random.Random):
    """Chance that a network has none of: every message takes its mean time."""

    def random(self) -> float:
        """Return one half."""
        return 0.5


def _server(script: Script) -> dict[str, Any]:
    return script.settings or {"token_endpoint": TOKEN_ENDPOINT}


class StepClock:
    """Virtual time for one flight: a pause, and an answer of the server, take the time forward at once."""

    def __init__(self) -> None:
        self.time = START
        self.now = lambda: self.time
        self.flier: threading.Thread | None = None

    def wall(self) -> float:
        return self.time + START_WALL

    def wait(self, gate: Gate, seconds: float) -> bool:
        if self.flier is not None and threading.current_thread() is not self.flier:
            return gate.acquire(timeout=60.0)  # the caller; only a test that fails waits for as long
        self.time += seconds
        return False


class ScriptedTransport:
    """Gives the answers of a script."""

    def __init__(self, clock: StepClock, answers: tuple[Step, ...]) -> None:
        self._clock = clock
        self.answers = list(answers)

    def send(self, request: Request, *, timeout: float) -> Response | Failure:
        self._clock.time += LATENCY
        return self.answers.pop(0)

    def after_fork(self) -> None:
        raise AssertionError

    def close(self) -> None:
        pass


def in_the_engine(script: Script, renewal: Any) -> Trace:
    clock = StepClock()
    transport = ScriptedTransport(clock, script.answers)
    store = (Broken if script.down else Shared)(clock=clock.now)
    request = wanted(client_auth=ClientSecretBasic(SECRET), **script.settings)
    script.prepare(store, request)
    manager = TokenManager(request.registration, store=store, transport=transport, renewal=renewal, clock=clock)
    engine = manager._engine
    driver = engine._driver
    trace: list[effects.Effect] = []
    results: list[object] = []
    perform, run, land = driver._perform, driver.run, engine._land

    def recorded(effect: effects.Effect) -> object:
        trace.append(effect)
        return perform(effect)

    def started(flow: Any) -> Any:
        clock.flier = clock.flier or threading.current_thread()
        if not trace:
            engine._random.seed(SEED)
        return run(flow)

    def landing(slot: Any, flight: Any, result: Any, began: float) -> None:
        results.append(result)
        land(slot, flight, result, began)

    driver._perform = recorded  # type: ignore[method-assign]
    driver.run = started  # type: ignore[method-assign]
    engine._land = landing  # type: ignore[method-assign]
    with contextlib.suppress(AccreditError):
        manager.get()
    assert transport.answers == []
    manager.close()
    return [plain(effect) for effect in trace], ending(results[0])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name.replace(" ", "-"))
def test_every_driver_runs_a_flow_alike(script: Script) -> None:
    scripted = in_the_scripted_driver(script)
    assert in_the_simulator(script) == scripted
    assert in_the_engine(script, "inline") == scripted
    assert in_the_engine(script, "thread") == scripted
    if script.answers:
        assert any(step[0] == "Send" for step in scripted[0])


def test_a_driver_that_does_otherwise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: a driver that pauses for longer, or loses an effect, is seen."""
    script = SCRIPTS[1]
    scripted = in_the_scripted_driver(script)
    monkeypatch.setattr(random.Random, "random", lambda self: 0.25)
    assert in_the_engine(script, "inline") != scripted
