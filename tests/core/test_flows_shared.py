"""What flows make of others that share the store: one that is away is waited for, what another published is used."""

from __future__ import annotations

import pytest

from accredit.core import effects
from accredit.core.effects import Claim
from accredit.core.flows import Failed, Obtained, Postponed, obtain
from accredit.core.records import Record
from tests.support.scripted import Process, Run, World, answer, wanted

REQUEST = wanted()


def renewal(world: World, *, spare: float) -> Run:
    process = Process("p")
    return Run(world, process, obtain(REQUEST, newer_than=1 << 32, owner=world.owner(process), spare=spare))


@pytest.mark.parametrize(("spare", "seconds"), [(60.0, 1.0), (1.0, 1.0), (0.25, 0.25)])
def test_while_the_store_is_away_a_renewal_with_time_to_spare_is_put_off(spare: float, seconds: float) -> None:
    world = World()
    world.store_down = True
    assert renewal(world, spare=spare).finish() == Postponed(seconds)
    assert world.server.count == 0


@pytest.mark.parametrize("spare", [0.0, -5.0])
def test_a_renewal_without_time_to_spare_goes_on_alone(spare: float) -> None:
    world = World()
    world.store_down = True
    result = renewal(world, spare=spare).finish()
    assert isinstance(result, Obtained)
    assert result.source == "server"
    assert world.server.count == 1


def test_with_the_store_there_nothing_is_put_off() -> None:
    world = World()
    assert isinstance(renewal(world, spare=60.0).finish(), Obtained)
    assert world.server.count == 1


def test_who_waits_for_another_process_when_the_store_goes_away_is_put_off_too() -> None:
    world = World()
    leader, waiter = renewal(world, spare=0.0), renewal(world, spare=60.0)
    while not isinstance(leader.effect, Claim):
        leader.step()
    leader.step()
    while not any(isinstance(effect, Claim) for effect in waiter.trace):
        waiter.step()
    world.store_down = True
    assert waiter.finish() == Postponed(1.0)
    assert isinstance(leader.finish(), Obtained)
    assert world.server.count == 1


@pytest.mark.parametrize("status", [500, 400, 401, 429])
def test_a_record_that_another_published_meanwhile_is_no_failure(status: int) -> None:
    """The lease had run out during a slow request, or another process has a secret that is not refused."""
    world = World()
    world.server.script = [answer(status, error="invalid_scope" if status == 400 else "x")]
    slow = world.run(Process("slow"), REQUEST)
    slow.advance_to(effects.Send)
    slow.step()
    world.now += 6.0  # beyond the lease, within the deadline
    other = world.run(Process("other"), REQUEST).finish()
    assert isinstance(other, Obtained)
    result = slow.finish()
    assert isinstance(result, Obtained)
    assert (result.source, result.stored.record.value) == ("store", other.stored.record.value)
    assert world.server.count == 2
    # No hold and no lease is left behind.
    assert isinstance(world.run(Process("p"), REQUEST, other.stored.record.generation).finish(), Obtained)


def test_a_record_that_will_not_do_does_not_hide_a_failure() -> None:
    world = World()
    world.server.always = lambda _: answer(400, error="invalid_scope")
    late = world.run(Process("late"), REQUEST)
    late.advance_to(effects.Send)
    late.step()
    short = Record(REQUEST.identity.encoded, "short", 60.0, 1_700_000_000.0 + world.now + 60.0, (1 << 32) | 7)
    world.store.publish(REQUEST.identity, owner="x", record=short, remaining=1.0, credential="", based_on=None)
    result = late.finish()
    assert isinstance(result, Failed)
    assert result.hold > 0
