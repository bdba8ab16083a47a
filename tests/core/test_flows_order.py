"""Flows of several processes in every order: how many token requests, and where they end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accredit.core import effects
from accredit.core.flows import Failed, Obtained, Surfaced
from accredit.core.messages import Failure, Response
from tests.support.scripted import Choose, Process, Run, World, answer, explore, issued, run_all, wanted

REQUEST = wanted()
LEASE = REQUEST.registration.deadline / 2.0


def two_cold(world: World) -> list[Run]:
    return [world.run(Process("a"), REQUEST), world.run(Process("b"), REQUEST)]


def two_renewing(world: World) -> list[Run]:
    old = world.run(Process("seed"), REQUEST).finish()
    world.server.requests.clear()
    world.now += 3300
    generation = old.stored.record.generation
    return [world.run(Process("a"), REQUEST, generation), world.run(Process("b"), REQUEST, generation)]


def one_refused_one_renewing(world: World) -> list[Run]:
    old = world.run(Process("seed"), REQUEST).finish()
    world.server.requests.clear()
    world.now += 3300
    generation = old.stored.record.generation
    return [world.refused(Process("a"), REQUEST, generation), world.run(Process("b"), REQUEST, generation)]


def two_refused(world: World) -> list[Run]:
    old = world.run(Process("seed"), REQUEST).finish()
    world.server.requests.clear()
    world.now += 100
    generation = old.stored.record.generation
    return [world.refused(Process("a"), REQUEST, generation), world.refused(Process("b"), REQUEST, generation)]


SCENARIOS = [two_cold, two_renewing, one_refused_one_renewing, two_refused]


@pytest.mark.parametrize("start", SCENARIOS)
@pytest.mark.parametrize("latency", [0.0, 0.08, 3.0])
def test_one_request_in_every_order_of_two_processes(start: Callable[[World], list[Run]], latency: float) -> None:
    def scenario(choose: Choose) -> None:
        world = World()
        world.server.latency = latency
        runs = start(world)
        run_all(runs, choose)
        assert world.server.count == 1
        values = {run.result.stored.record.value for run in runs}
        generations = {run.result.stored.record.generation for run in runs}
        assert (len(values), len(generations)) == (1, 1)

    assert explore(scenario, depth=14) >= 6


@pytest.mark.parametrize(
    "refusal",
    [
        answer(400, error="invalid_scope"),
        answer(401, error="invalid_client"),
        answer(429, (("content-type", "application/json"), ("retry-after", "7"))),
        answer(200, nonsense=1),
    ],
)
def test_one_request_in_every_order_when_the_server_refuses(refusal: Response) -> None:
    def scenario(choose: Choose) -> None:
        world = World()
        world.server.always = lambda _: refusal
        runs = two_cold(world)
        run_all(runs, choose)
        assert world.server.count == 1
        first, second = (run.result for run in runs)
        assert isinstance(first, Failed)
        assert isinstance(second, Failed)
        assert type(first.error) is type(second.error)
        assert sorted([first.counts, second.counts]) == [False, True]

    assert explore(scenario, depth=14) >= 6


def crash_points(start: Callable[[World], list[Run]]) -> int:
    world = World()
    run = start(world)[0]
    run.finish()
    return len(run.trace)


@pytest.mark.parametrize("start", SCENARIOS)
def test_a_crash_at_any_effect_costs_at_most_one_more_request(start: Callable[[World], list[Run]]) -> None:
    points = crash_points(start)
    assert points >= 10
    for point in range(points):
        world = World()
        victim, other = start(world)
        while len(victim.trace) <= point:
            world.now = max(world.now, victim.ready_at)
            victim.step()
        victim.crash()
        sent_by_victim = world.server.count
        crashed_at = world.now
        # The lease ends by itself, early enough for those who wait for it.
        assert isinstance(other.finish(), Obtained)
        third = world.run(Process("c"), REQUEST, _generation(start, world))
        result = third.finish()
        assert isinstance(result, Obtained)
        assert world.server.count <= sent_by_victim + 1
        assert world.now <= crashed_at + LEASE + 0.2


def _generation(start: Callable[[World], list[Run]], world: World) -> int | None:
    return None if start is two_cold else 1 << 32


@pytest.mark.parametrize("start", SCENARIOS)
def test_a_crash_while_the_request_is_under_way(start: Callable[[World], list[Run]]) -> None:
    world = World()
    victim, other = start(world)
    victim.advance_to(effects.Send)
    victim.step()
    victim.crash()
    other.finish()
    world.run(Process("c"), REQUEST).finish()
    assert world.server.count <= 2


@pytest.mark.parametrize("start", [two_cold, two_renewing])
def test_a_crash_in_every_order(start: Callable[[World], list[Run]]) -> None:
    def scenario(choose: Choose) -> None:
        world = World()
        world.server.latency = 0.0
        victim, other = start(world)
        steps = 0
        last = choose(6)
        while not victim.done and steps < last:
            victim.skip_invisible()
            other.skip_invisible()
            ready = [run for run in (victim, other) if run.ready_at <= world.now]
            if not ready:
                world.now = min(victim.ready_at, other.ready_at)
                continue
            run = ready[choose(len(ready)) if len(ready) > 1 else 0]
            run.step()
            steps += run is victim
        if not victim.done:
            victim.crash()
        if not other.done:
            other.finish()
        assert isinstance(other.result, Obtained)
        assert isinstance(world.run(Process("c"), REQUEST).finish(), Obtained)
        assert world.server.count <= 2

    assert explore(scenario, depth=9) > 50


def test_a_leader_that_sleeps_through_its_lease_costs_one_more_request_and_the_fleet_keeps_one_token() -> None:
    for point in range(crash_points(two_cold)):
        world = World()
        sleeper, other = two_cold(world)
        while len(sleeper.trace) <= point:
            world.now = max(world.now, sleeper.ready_at)
            sleeper.step()
        world.now += LEASE + 1.0  # SIGSTOP
        awake = other.finish()
        assert isinstance(awake, Obtained)
        late = sleeper.finish()
        assert isinstance(late, Obtained)
        assert world.server.count <= 2
        kept = world.store.read(REQUEST.identity)
        assert kept is not None
        # Whoever wrote last, a process that asks now gets the one that is kept.
        third = world.run(Process("c"), REQUEST).finish()
        assert third.stored.record.value == kept.record.value


def test_a_stale_writer_does_not_replace_a_token_that_lives_longer() -> None:
    world = World()
    sleeper, other = two_cold(world)
    sleeper.advance_to(effects.Publish)
    world.now += LEASE + 1.0
    newer = other.finish()
    assert isinstance(newer, Obtained)
    late = sleeper.finish()
    assert isinstance(late, Obtained)
    assert (late.source, late.stored.record.value) == ("store", newer.stored.record.value)
    assert world.server.count == 2


def test_a_stale_writer_whose_token_lives_longer_is_kept_under_a_later_generation() -> None:
    world = World()
    sleeper, other = two_cold(world)
    sleeper.advance_to(effects.Publish)
    world.now += LEASE + 1.0
    world.server.lifetime = 60
    short = other.finish()
    late = sleeper.finish()
    assert (late.source, late.stored.record.value) == ("server", "token-1")
    assert late.stored.record.generation >> 32 == (short.stored.record.generation >> 32) + 1
    kept = world.store.read(REQUEST.identity)
    assert kept is not None
    assert kept.record.generation == late.stored.record.generation


def test_a_stale_writer_that_failed_leaves_the_lease_of_the_next_alone() -> None:
    world = World()
    sleeper, other = two_cold(world)
    world.server.script = [answer(400, error="invalid_scope")]
    sleeper.advance_to(effects.Fail)
    world.now += LEASE + 1.0
    other.advance_to(effects.Send)
    sleeper.finish()
    claimed = world.store.claim(REQUEST.identity, newer_than=None, credential="x", owner="third", lease=1.0)
    assert "Lead" not in type(claimed.directive).__name__
    assert isinstance(other.finish(), Obtained)


def store_operations(start: Callable[[World], list[Run]]) -> tuple[int, int]:
    world = World()
    run = start(world)[0]
    first = world.store_operations
    run.finish()
    return first, world.store_operations


@pytest.mark.parametrize("start", SCENARIOS)
@pytest.mark.parametrize("failing", [False, True])
def test_the_store_going_down_at_any_operation_reaches_nobody(
    start: Callable[[World], list[Run]], *, failing: bool
) -> None:
    first, end = store_operations(start)
    masks = range(1 << (end - first))
    for mask in masks:
        world = World()
        runs = start(world)
        if failing:
            world.server.always = lambda _: answer(400, error="invalid_scope")
        world.down_at = {first + bit for bit in range(end - first) if mask >> bit & 1}
        for run in runs:
            result = run.finish()
            assert isinstance(result, Failed if failing else Obtained)
        assert world.server.count <= 2


def test_without_a_store_each_process_goes_on_alone() -> None:
    world = World()
    world.store_down = True
    results = [run.finish() for run in two_cold(world)]
    assert [result.source for result in results] == ["server", "server"]
    assert world.server.count == 2


OUTCOMES: dict[str, Response | Failure] = {
    "token": issued("scripted"),
    "short": issued("short", 5),
    "long": issued("long", 10**9),
    "expired": issued("expired", 0),
    "nonsense": answer(200, nonsense=True),
    "refused": answer(400, error="invalid_scope"),
    "credential": answer(401, error="invalid_client"),
    "throttled": answer(429, (("retry-after", "3"),)),
    "broken": answer(503),
    "unreachable": Failure("connect", "refused"),
    "tls": Failure("tls", "certificate"),
}


@dataclass(frozen=True)
class Plan:
    processes: int
    order: list[int]
    crashes: list[int]
    down: set[int]
    latency: float
    script: list[str]
    newer_than: bool


PLANS = st.builds(
    Plan,
    processes=st.integers(2, 5),
    order=st.lists(st.integers(0, 4), max_size=120),
    crashes=st.lists(st.integers(0, 120), max_size=2, unique=True),
    down=st.one_of(st.just(set[int]()), st.sets(st.integers(0, 60), max_size=20)),
    latency=st.sampled_from([0.0, 0.02, 0.3, 4.0, 11.0]),
    script=st.lists(st.sampled_from(sorted(OUTCOMES)), max_size=4),
    newer_than=st.booleans(),
)


def play(plan: Plan) -> tuple[World, list[Run], int]:
    world = World(seed=7)
    world.server.latency = plan.latency
    world.server.script = [OUTCOMES[name] for name in plan.script]
    world.down_at = set(plan.down)
    known = (1 << 32) | 5 if plan.newer_than else None
    runs = [world.run(Process(f"p{index}"), REQUEST, known) for index in range(plan.processes)]
    order = list(plan.order)
    crashed = steps = 0
    while True:
        for run in runs:
            run.skip_invisible()
        ready = [run for run in runs if run.ready_at <= world.now]
        if not ready:
            if all(run.done for run in runs):
                return world, runs, crashed
            world.now = min(run.ready_at for run in runs)
            continue
        run = ready[(order.pop(0) if order else 0) % len(ready)]
        if steps in plan.crashes:
            run.crash()
            crashed += 1
        else:
            run.step()
        steps += 1


@given(PLANS)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens_every_flow_ends_with_a_result_in_time(plan: Plan) -> None:
    world, runs, crashed = play(plan)
    begun = 1_000.0
    for run in runs:
        if run.result is None:
            continue  # crashed
        assert isinstance(run.result, Obtained | Failed | Surfaced)
        assert sum(isinstance(effect, effects.Send) for effect in run.trace) <= 3
        if isinstance(run.result, Obtained):
            assert 0 < run.result.stored.remaining <= run.result.stored.record.lifetime <= 31 * 86400
            assert run.result.stored.record.identity == REQUEST.identity.encoded
    assert world.now <= begun + REQUEST.registration.deadline + 0.001
    if not plan.down and not plan.script and world.server.latency < LEASE:
        assert world.server.count <= 1 + crashed


@given(PLANS)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_the_same_plan_gives_the_same_trace(plan: Plan) -> None:
    first, second = play(plan), play(plan)
    assert [run.trace for run in first[1]] == [run.trace for run in second[1]]
    assert [run.result for run in first[1]] == [run.result for run in second[1]]
