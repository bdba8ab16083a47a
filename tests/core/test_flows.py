"""One flow at a time: what it asks for, what it gives up on, and what it tells those who wait."""

from __future__ import annotations

import dataclasses

import pytest

from accredit.core import effects
from accredit.core.client_auth import ClientSecretPost
from accredit.core.events import LifetimeClamped, RecordRefused, TokenRefused
from accredit.core.flows import COOL_DOWN, NOTHING, PATIENCE, Failed, Obtained, Surfaced, cool_down
from accredit.core.records import Claimed, Record, Satisfied, Stored, StoreDown, Wait
from accredit.core.registration import TokenRequest
from accredit.core.secret import Secret
from accredit.errors import (
    MalformedResponseError,
    UnreachableError,
)
from tests.support.scripted import (
    ORIGIN,
    Process,
    Run,
    World,
    answer,
    events_of,
    failed,
    issued,
    obtained,
    pauses,
    registration,
    wanted,
)

REQUEST = wanted()
DEADLINE = REQUEST.registration.deadline


def record(request: TokenRequest = REQUEST, *, lifetime: float = 3600.0, expires_at: float = 1e12) -> Record:
    return Record(request.identity.encoded, "stored", lifetime, expires_at, (7 << 32) | 1)


# -- the life of a token --------------------------------------------------------------------------------------


def test_life_counts_from_when_the_request_was_sent() -> None:
    world = World()
    world.server.latency = 3.0
    result = obtained(world)
    assert (result.since, result.stored.remaining, result.source) == (1_000.0, 3600.0, "server")
    kept = world.store.read(REQUEST.identity)
    assert kept is not None
    assert kept.remaining == pytest.approx(3597.0)


def test_what_another_process_obtained_is_taken_from_the_store() -> None:
    world = World()
    first = obtained(world)
    world.now += 100
    second = obtained(world)
    assert (second.source, second.since) == ("store", world.now)
    assert second.stored.record.value == first.stored.record.value
    assert second.stored.remaining == pytest.approx(3500 - 0.0, abs=0.2)
    assert world.server.count == 1


def test_a_token_that_ends_before_it_arrives_is_refused_a22() -> None:
    world = World()
    world.server.latency = 2.0
    world.server.lifetime = 1
    result = failed(world)
    assert isinstance(result.error, MalformedResponseError)
    assert "expired on arrival" in str(result.error)
    assert world.server.count == 1
    assert world.store.read(REQUEST.identity) is None


def test_a_lifetime_beyond_the_maximum_is_clamped_and_told_a20() -> None:
    world = World()
    world.server.lifetime = 315_360_000
    process = Process("p")
    result = world.run(process, REQUEST).finish()
    assert result.stored.record.lifetime == 31 * 86400
    (event,) = events_of(process, LifetimeClamped)
    assert event == LifetimeClamped("api", "service-account", 315_360_000.0, 31 * 86400.0)


def test_zero_or_negative_lifetime_is_an_error_and_held_a14() -> None:
    for lifetime in (0, -5):
        world = World()
        world.server.lifetime = lifetime
        assert isinstance(failed(world).error, MalformedResponseError)
        held = failed(world)
        assert isinstance(held.error, MalformedResponseError)
        assert (held.counts, world.server.count) == (False, 1)


def test_the_same_token_again_is_kept_as_a_later_generation_a57() -> None:
    world = World()
    world.server.always = lambda _: issued("the-only-one")
    first = obtained(world).stored.record
    second = obtained(world, newer_than=first.generation).stored.record
    assert (first.value, second.value) == ("the-only-one", "the-only-one")
    assert second.generation >> 32 == (first.generation >> 32) + 1


def test_a_renewal_that_lives_shorter_than_the_token_before_replaces_it() -> None:
    world = World()
    world.server.lifetime = 86400
    first = obtained(world).stored.record
    world.server.lifetime = 60
    second = obtained(world, newer_than=first.generation)
    assert (second.source, second.stored.record.lifetime) == ("server", 60.0)
    kept = world.store.read(REQUEST.identity)
    assert kept is not None
    assert kept.record.value == second.stored.record.value != first.value


# -- records that are not to be used ---------------------------------------------------------------------------


class Poisoned(World):
    """A world in which the store answers the first claims with something of its own making."""

    def __init__(self, *answers: object) -> None:
        super().__init__()
        self.answers = list(answers)

    def perform_store(self, effect: effects.Effect) -> object:
        if isinstance(effect, effects.Claim) and self.answers:
            return self.answers.pop(0)
        return super().perform_store(effect)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (dataclasses.replace(record(), identity=b"another"), "identity"),
        (dataclasses.replace(record(), lifetime=32 * 86400.0), "lifetime"),
        (dataclasses.replace(record(), lifetime=0.0), "lifetime"),
    ],
)
def test_a_record_that_is_not_to_be_used_is_told_and_the_process_goes_on_alone(bad: Record, reason: str) -> None:
    world = Poisoned(Claimed(Stored(bad, 3000.0), Satisfied()))
    process = Process("p")
    result = world.run(process, REQUEST).finish()
    assert (result.source, result.stored.record.value) == ("server", "token-1")
    assert events_of(process, RecordRefused) == [RecordRefused("api", "service-account", reason)]


def test_a_record_in_its_last_seconds_is_renewed_by_one_process_for_all() -> None:
    world = World()
    obtained(world)
    world.now += 3595
    processes = [Process(name) for name in "abc"]
    results = [world.run(process, REQUEST).finish() for process in processes]
    assert {result.stored.record.value for result in results} == {"token-2"}
    assert world.server.count == 2
    assert events_of(processes[0], RecordRefused) == [RecordRefused("api", "service-account", "expired")]


def test_the_clock_of_the_store_decides_and_the_embedded_expiry_only_bounds_it() -> None:
    wall = World().wall_base + 1_000.0
    early = Claimed(Stored(record(expires_at=wall + 20), 3000.0), Satisfied())
    late = Claimed(Stored(record(expires_at=wall + 9000), 3000.0), Satisfied())
    assert obtained(Poisoned(early)).stored.remaining == pytest.approx(20)
    assert obtained(Poisoned(late)).stored.remaining == pytest.approx(3000)
    over = Claimed(Stored(record(expires_at=wall + 5), 3000.0), Satisfied())
    assert obtained(Poisoned(over)).source == "server"


def test_a_store_that_calls_every_ended_record_the_answer_is_not_asked_for_ever() -> None:
    ended = Claimed(Stored(record(), 0.5), Satisfied())
    world = Poisoned(*[ended] * 10)
    process = Process("p")
    result = world.run(process, REQUEST).finish()
    assert (result.source, len(events_of(process, RecordRefused))) == ("server", 2)


def test_a_store_that_is_satisfied_with_nothing_is_gone_past() -> None:
    world = Poisoned(Claimed(None, Satisfied()))
    assert obtained(world).source == "server"


def test_a_published_record_that_another_replaced_is_used_only_if_it_is_in_order() -> None:
    foreign = Stored(dataclasses.replace(record(), identity=b"another"), 3500.0)

    class Foreign(World):
        def perform_store(self, effect: effects.Effect) -> object:
            return foreign if isinstance(effect, effects.Publish) else super().perform_store(effect)

    result = obtained(Foreign())
    assert (result.source, result.stored.record.value) == ("server", "token-1")


# -- waiting for another process -------------------------------------------------------------------------------


def test_a_waiter_polls_until_its_deadline_and_says_why() -> None:
    world = Poisoned(*[Claimed(None, Wait(60.0))] * 5000)
    run = world.run(Process("p"), REQUEST)
    result = run.finish()
    assert isinstance(result.error, UnreachableError)
    assert "another process is obtaining the token" in str(result.error)
    assert (result.hold, result.counts) == (0.0, False)
    assert 1_000.0 + DEADLINE - 0.1 <= world.now <= 1_000.0 + DEADLINE
    # Close together at first, further apart later: hundreds of processes may wait.
    assert all(0.01 <= seconds <= 0.05 for seconds in pauses(run)[:16])
    assert all(0.01 <= seconds <= 0.1 for seconds in pauses(run))
    assert max(pauses(run)[:16]) > 0.04
    assert max(pauses(run)) > 0.09
    assert world.server.count == 0


def test_a_wait_of_minutes_is_as_good_as_one_of_seconds() -> None:
    request = wanted(deadline=300.0)
    run = Poisoned(*[Claimed(None, Wait(60.0))] * 20_000).run(Process("p"), request)
    assert isinstance(run.finish().error, UnreachableError)
    assert len(pauses(run)) > 1_100


def test_a_waiter_looks_again_when_the_lease_ends() -> None:
    world = Poisoned(Claimed(None, Wait(0.004)))
    run = world.run(Process("p"), REQUEST)
    assert isinstance(run.finish(), Obtained)
    assert pauses(run) == [0.01]


# -- an API refused the token ----------------------------------------------------------------------------------


def first_token(world: World) -> int:
    return obtained(world).stored.record.generation


def test_a_refused_generation_is_replaced_for_the_fleet_by_one_request() -> None:
    world = World()
    generation = first_token(world)
    world.now += 60
    processes = [Process("a"), Process("b")]
    results = [world.refused(process, REQUEST, generation).finish() for process in processes]
    assert [result.stored.record.value for result in results] == ["token-2", "token-2"]
    assert [result.source for result in results] == ["server", "store"]
    assert world.server.count == 2
    assert events_of(processes[0], TokenRefused) == [TokenRefused("api", "service-account", ORIGIN, "renewing")]
    assert events_of(processes[1], TokenRefused) == [TokenRefused("api", "service-account", ORIGIN, "newer")]


def test_a_suspect_token_is_not_given_to_who_asks_for_any() -> None:
    world = World()
    generation = first_token(world)
    world.store.suspect(REQUEST.identity, generation=generation, origin="")
    assert obtained(world).stored.record.value == "token-2"


def test_a_late_refusal_of_an_old_token_causes_no_request() -> None:
    world = World()
    old = first_token(world)
    world.refused(Process("a"), REQUEST, old).finish()
    result = world.refused(Process("b"), REQUEST, old).finish()
    assert (result.source, world.server.count) == ("store", 2)


@pytest.mark.parametrize(("age", "patience"), [(4.9, [PATIENCE]), (5.0, [])])
def test_a_young_token_gets_a_second_of_patience(age: float, patience: list[float]) -> None:
    world = World()
    run = world.refused(Process("a"), REQUEST, first_token(world), age=age)
    run.finish()
    assert pauses(run) == patience


def test_there_is_no_patience_for_a_failure_or_what_another_obtained() -> None:
    world = World()
    generation = first_token(world)
    world.server.script = [answer(400, error="invalid_scope")]
    run = world.refused(Process("a"), REQUEST, generation, age=1.0)
    assert isinstance(run.finish(), Failed)
    world.now += 3
    world.refused(Process("a"), REQUEST, generation, age=100.0).finish()
    other = world.refused(Process("b"), REQUEST, generation, age=1.0)
    assert other.finish().source == "store"
    assert pauses(run) + pauses(other) == []


def test_a_cool_down_surfaces_the_refusal_until_it_has_passed() -> None:
    world = World()
    generation = first_token(world)
    Run(world, Process("a"), cool_down(REQUEST, origin=ORIGIN)).finish()
    process = Process("b")
    assert world.refused(process, REQUEST, generation).finish() == Surfaced("cooling")
    assert events_of(process, TokenRefused) == [TokenRefused("api", "service-account", ORIGIN, "cooling")]
    world.now += COOL_DOWN
    assert isinstance(world.refused(process, REQUEST, generation).finish(), Obtained)


def test_without_a_store_a_refused_token_is_replaced_all_the_same() -> None:
    world = World()
    generation = first_token(world)
    world.store_down = True
    assert isinstance(world.refused(Process("a"), REQUEST, generation).finish(), Obtained)


def test_a_suspect_token_whose_renewal_fails_leaves_an_error_and_the_record_in_place() -> None:
    world = World()
    generation = first_token(world)
    world.server.always = lambda _: answer(503)
    result = world.refused(Process("a"), REQUEST, generation).finish()
    assert isinstance(result.error, UnreachableError)
    kept = world.store.read(REQUEST.identity)
    assert kept is not None
    assert kept.suspect


# -- the shape of effects --------------------------------------------------------------------------------------


def test_effects_and_results_show_no_secret() -> None:
    request = wanted(client_auth=ClientSecretPost("can4ry-secret"))
    world = World()

    class Tagged(Process):
        def read_secret(self) -> effects.Credential:
            return effects.Credential(Secret("can4ry-secret"), "tag")

    run = world.run(Tagged("p"), request)
    result = run.finish()
    shown = repr((run.trace, result, NOTHING, StoreDown(), request))
    assert "can4ry" not in shown
    assert "token-1" not in shown


def test_removing_is_one_effect() -> None:
    world = World()
    first_token(world)
    run = Run(world, Process("p"), effects.remove(REQUEST.identity))
    run.finish()
    assert world.store.read(REQUEST.identity) is None
    assert len(run.trace) == 1


def test_the_registration_decides_the_deadline() -> None:
    world = World()
    world.server.latency = 5.0
    result = failed(world, wanted(deadline=1))
    assert isinstance(result.error, UnreachableError)
    assert world.now == pytest.approx(1_001.0)
    assert registration(deadline=1).deadline == 1.0
