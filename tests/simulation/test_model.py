"""The parts of the simulator: time, suspension and death, the store and its fail-over, the server, the network."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from accredit.core import effects
from accredit.core.identity import Identity
from accredit.core.messages import Failure, Response
from accredit.core.records import Claimed, Lead, Record, Satisfied, Stored, Wait
from accredit.core.token import token_request
from tests.simulation.kernel import START, Finding, Kernel
from tests.simulation.process import Process
from tests.simulation.scenario import Fault, Scenario, draw
from tests.simulation.server import TOKEN_ENDPOINT, Api, AuthorizationServer, Behaviour
from tests.simulation.shared_store import SharedStore
from tests.simulation.world import World
from tests.support.scripted import wanted

REQUEST = wanted()
IDENTITY = REQUEST.identity


@dataclasses.dataclass
class Someone:
    name: str = "p"
    alive: bool = True
    resumes_at: float = 0.0


# -- time ----------------------------------------------------------------------------------------------------


def test_things_happen_in_their_order_and_equal_times_in_the_order_of_asking() -> None:
    kernel, seen = Kernel(1), list[tuple[str, float]]()
    for seconds, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "never")):
        kernel.after(seconds, None, lambda name=name: seen.append((name, kernel.now - START)))
    kernel.run(START + 5.0)
    assert seen == [("a", 1.0), ("b", 1.0), ("c", 2.0)]
    assert kernel.now == START + 5.0


def test_nothing_happens_to_the_dead_and_the_suspended_do_it_later() -> None:
    kernel, seen = Kernel(1), list[tuple[str, float]]()
    dead, stopped = Someone(alive=False), Someone(resumes_at=START + 3.0)
    kernel.after(1.0, dead, seen.append, ("dead", 0.0))
    kernel.after(1.0, stopped, lambda: seen.append(("first", kernel.now - START)))
    kernel.after(2.0, stopped, lambda: seen.append(("second", kernel.now - START)))
    kernel.run(START + 5.0)
    assert seen == [("first", 3.0), ("second", 3.0)]


def test_a_world_that_never_rests_is_a_finding() -> None:
    kernel = Kernel(1, most_steps=1_000)

    def again() -> None:
        kernel.after(0.0, None, again)

    again()
    with pytest.raises(Finding, match=r"\[work\]"):
        kernel.run(START + 1.0)


# -- the store -----------------------------------------------------------------------------------------------


def record(value: str, generation: int = 1) -> Record:
    return Record(IDENTITY.encoded, value, 300.0, 1e10, (generation << 32) | generation)


def publish(value: str, based_on: int | None = None) -> effects.Publish:
    return effects.Publish(IDENTITY, "o", record(value), 300.0, "", based_on)


def claim(owner: str, newer_than: int | None = None) -> effects.Claim:
    return effects.Claim(IDENTITY, newer_than, "", owner, 5.0)


def perform(store: SharedStore, effect: Any, at: float, process: str = "p") -> Any:
    return store.perform(process, 1, effect, at)[1]


def found(store: SharedStore, at: float, process: str = "p") -> str | None:
    there = store.node_for(process).look(IDENTITY, at)
    return None if there is None else there.record.value


def test_a_fail_over_loses_what_was_written_last_and_nothing_else() -> None:
    store = SharedStore()
    perform(store, publish("early"), 10.0)
    perform(store, publish("late", 1 << 32), 19.5)
    assert found(store, 19.6) == "late"
    store.fail_over(20.0, lag=1.0, skew=0.0)
    assert found(store, 20.0) == "early"
    store.fail_over(21.0, lag=0.0, skew=0.0)
    assert found(store, 21.0) == "early"


def test_a_lease_that_was_written_last_is_lost_too() -> None:
    store = SharedStore()
    assert isinstance(perform(store, claim("a"), 10.0).directive, Lead)
    assert isinstance(perform(store, claim("b"), 10.1).directive, Wait)
    store.fail_over(10.2, lag=1.0, skew=0.0)
    assert isinstance(perform(store, claim("b"), 10.3).directive, Lead)


def test_in_a_split_brain_both_sides_go_on_and_the_old_one_is_forgotten() -> None:
    store = SharedStore()
    perform(store, publish("common"), 10.0)
    store.split(20.0, frozenset({"old"}), lag=0.0)
    perform(store, publish("of the old", 1 << 32), 21.0, "old")
    perform(store, publish("of the new", 1 << 32), 21.0, "new")
    assert (found(store, 22.0, "old"), found(store, 22.0, "new")) == ("of the old", "of the new")
    store.heal()
    assert (found(store, 23.0, "old"), found(store, 23.0, "new")) == ("of the new", "of the new")


def test_a_store_whose_clock_is_off_takes_tokens_to_live_longer_and_the_record_still_says_when_it_ends() -> None:
    store = SharedStore()
    perform(store, publish("t"), 10.0)
    store.fail_over(110.0, lag=0.0, skew=-20.0)
    there = store.primary.look(IDENTITY, 110.0)
    assert there is not None
    assert there.remaining == pytest.approx(220.0)
    assert there.record.expires_at == 1e10


def test_a_store_can_be_down_empty_or_short_of_memory() -> None:
    store = SharedStore()
    perform(store, publish("t"), 10.0)
    store.down = True
    with pytest.raises(ConnectionError):
        perform(store, claim("a"), 11.0)
    store.down = False
    assert isinstance(perform(store, claim("a"), 12.0).directive, Satisfied)
    store.evict(IDENTITY)
    assert found(store, 13.0) is None
    perform(store, publish("u"), 14.0)
    store.fail_over(15.0, lag=0.0, skew=0.0)
    store.lose_everything()
    assert found(store, 16.0) is None


def test_schemas_have_entries_of_their_own() -> None:
    store = SharedStore()
    store.perform("p", 1, publish("one"), 10.0)
    _, answer = store.perform("q", 2, claim("a"), 10.0)
    assert isinstance(answer, Claimed)
    assert isinstance(answer.directive, Lead)


def test_the_log_is_replayed_at_the_times_at_which_it_was_written() -> None:
    store = SharedStore()
    for number in range(600):
        perform(store, claim(f"o{number}"), 10.0 + number)
    perform(store, publish("t"), 620.0)
    before = store.primary.look(IDENTITY, 630.0)
    store.fail_over(630.0, lag=0.0, skew=0.0)
    assert isinstance(before, Stored)
    assert store.primary.look(IDENTITY, 630.0) == before


# -- the server ----------------------------------------------------------------------------------------------


def server(**behaviour: Any) -> AuthorizationServer:
    return AuthorizationServer(Kernel(1), Behaviour(**behaviour), {"orders": {"s3cret"}})


def ask(server: AuthorizationServer, secret: str = "s3cret") -> Any:
    from accredit.core.secret import Secret

    return server.receive(token_request(REQUEST, TOKEN_ENDPOINT, Secret(secret)), 10.0)


def test_the_server_knows_what_it_issued_and_whom_it_refused() -> None:
    here = server(lifetime=60)
    reply = ask(here)
    assert reply.token is here.tokens[reply.token.value]
    assert (reply.token.client_id, reply.token.scope, reply.token.expires_at) == ("orders", "", START + 60.0)
    assert ask(here, "wrong").outcome.status == 401
    assert here.refusals == {"wrong": START}


def test_an_overloaded_server_queues_and_then_drops() -> None:
    here = server(capacity=8.0, longest_queue=0.5, overload="503", seconds=0.0)
    replies = [ask(here) for _ in range(8)]
    assert [reply.outcome.status for reply in replies] == [200] * 5 + [503] * 3
    assert replies[4].seconds == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("trouble", "status"), [("error", 500), ("garbage", 200), ("throttling", 429), ("down", None), ("hanging", None)]
)
def test_a_server_in_trouble(trouble: Any, status: int | None) -> None:
    outcome = ask(server(trouble=trouble, retry_after=7)).outcome
    assert (outcome.status if isinstance(outcome, Response) else None) == status
    assert isinstance(outcome, Failure) == (status is None)


def test_a_limit_by_the_minute_says_when_to_come_again() -> None:
    here = server(a_minute=2)
    replies = [ask(here) for _ in range(3)]
    assert [reply.outcome.status for reply in replies] == [200, 200, 429]
    assert replies[2].outcome.header("retry-after") == "61"


def test_an_api_takes_what_lives_and_what_it_knows() -> None:
    here = server(lifetime=60)
    kernel = here._kernel
    api = Api(here, kernel, "https://api.example")
    token = ask(here).token
    api.lag = 5.0
    assert api.status(token.value) == 401
    kernel.now += 10.0
    assert api.status(token.value) == 200
    kernel.now += 50.0
    assert api.status(token.value) == 401
    assert api.status("made up") == 401


# -- a process -----------------------------------------------------------------------------------------------


def quiet(*faults: Fault, **changes: Any) -> Scenario:
    scenario = draw(0, processes=2, profile="calm")
    settings = {
        "faults": list(faults),
        "horizon": 100.0,
        "together": True,
        "scopes": (None,),
        "kept_fresh": False,
        "discovery": False,
    }
    return dataclasses.replace(scenario, behaviour=Behaviour(lifetime=60), **{**settings, **changes})


def test_a_process_is_made_of_the_real_parts() -> None:
    world = World(quiet())
    process = world.boot()
    slot = process.slot_of(None)
    process.start(process.manager.get(), lambda caller: world.watch.handed_out(process, None, caller.result))
    world.kernel.run(world.kernel.now + 5.0)
    assert slot.token is not None
    assert slot.token.value == "t1"
    assert world.watch.hand_outs == 1
    assert world.store is not None
    assert found(world.store, world.kernel.now, process.name) is None  # another identity than that of this module
    assert isinstance(slot.request.identity, Identity)


def test_a_killed_process_leaves_its_lease_to_run_out_and_costs_one_more_request() -> None:
    world = World(quiet())
    first, second = world.boot(), world.boot()
    first.ambush = (11, Process.kill)  # behind the answer of the server, before it is published
    values: list[str] = []
    first.start(first.manager.get(), lambda caller: values.append("first"))
    world.kernel.run(world.kernel.now + 0.01)
    second.start(second.manager.get(), lambda caller: values.append(caller.result.value))
    world.kernel.run(world.kernel.now + 30.0)
    assert not first.alive
    assert values == ["t2"]
    assert world.server.counts.requests == 2


def test_a_stopped_process_goes_on_where_it_was() -> None:
    world = World(quiet())
    process = world.boot()
    process.ambush = (3, lambda victim: victim.suspend(7.0))
    ended: list[float] = []
    process.start(process.manager.get(), lambda caller: ended.append(world.kernel.now - START))
    world.kernel.run(world.kernel.now + 30.0)
    assert len(ended) == 1
    assert ended[0] >= 7.0
    assert process.suspended == 7.0


def test_a_flight_that_does_not_wake_its_waiters_is_a_finding() -> None:
    world = World(quiet())
    process = world.boot()
    process.start(process.manager.get(), lambda caller: None)
    world.kernel.run(world.kernel.now + 0.001)
    slot = process.slot_of(None)
    assert slot.flight is not None
    slot.flight._gates.clear()
    with pytest.raises(Finding, match=r"\[wake-up\]"):
        world.kernel.run(world.kernel.now + 60.0)
