"""A store that is away, as flows see it: who needs no token yet waits for it."""

from __future__ import annotations

import pytest

from accredit.core.effects import Claim
from accredit.core.flows import Obtained, Postponed, obtain
from tests.support.scripted import Process, Run, World, wanted

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
