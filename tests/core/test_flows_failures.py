"""Flows that fail: what is tried again, what is held, for how long and for whom."""

from __future__ import annotations

import pytest

from accredit.core import effects
from accredit.core.events import AttemptFailed
from accredit.core.flows import Failed, Obtained, Past, throttle_key
from accredit.core.messages import Failure, Response
from accredit.core.records import Hold, Lead
from accredit.errors import (
    AuthorizationServerError,
    ConfigurationError,
    CredentialRefusedError,
    MalformedResponseError,
    RequestRefusedError,
    ThrottledError,
    UnreachableError,
)
from tests.support.scripted import (
    Process,
    Run,
    World,
    answer,
    events_of,
    failed,
    obtained,
    pauses,
    sends,
    wanted,
)

REQUEST = wanted()
DEADLINE = REQUEST.registration.deadline


# -- refusals and holds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (answer(400, error="invalid_scope"), RequestRefusedError),
        (answer(401, error="invalid_client"), CredentialRefusedError),
        (answer(200, nonsense=1), MalformedResponseError),
    ],
)
def test_a_refusal_is_not_repeated_and_held(response: Response, kind: type) -> None:
    world = World()
    world.server.always = lambda _: response
    first = failed(world)
    assert isinstance(first.error, kind)
    assert first.counts
    assert 1.0 <= first.hold < 2.0
    assert isinstance(first.error, AuthorizationServerError)
    assert first.error.retry_after == first.hold
    second = failed(world)
    assert isinstance(second.error, kind)
    assert (world.server.count, second.counts) == (1, False)
    assert second.hold == pytest.approx(first.hold - 0.0, abs=0.3)


def test_holds_grow_from_one_second_to_sixty_while_failures_go_on() -> None:
    world = World()
    world.server.always = lambda _: answer(401, error="invalid_client")
    holds = []
    for _ in range(9):
        holds.append(failed(world).hold)
        world.now += holds[-1] + 0.001
    for index, hold in enumerate(holds):
        full = min(60.0, 2.0 ** (index + 1))
        assert full / 2 <= hold < full
    assert world.server.count == 9


def test_what_the_process_remembers_counts_when_the_store_knows_less() -> None:
    world = World()
    world.server.always = lambda _: answer(400, error="invalid_scope")
    result = world.run(Process("p"), REQUEST, past=Past(failures=4)).finish()
    assert 16.0 <= result.hold < 32.0


def test_a_success_ends_the_count_of_failures() -> None:
    world = World()
    world.server.script = [answer(400, error="invalid_scope")] * 2
    for _ in range(2):
        world.now += failed(world).hold + 0.2
    generation = obtained(world).stored.record.generation
    world.server.script = [answer(400, error="invalid_scope")]
    result = world.run(Process("p"), REQUEST, generation).finish()
    assert 1.0 <= result.hold < 2.0


def test_a_process_with_the_new_secret_is_not_held_by_one_with_the_old() -> None:
    world = World()
    world.server.script = [answer(401, error="invalid_client")]
    old, new = Process("old", "old"), Process("new", "new")
    assert failed(world, process=old).credential == "tag of old"
    assert isinstance(world.run(new, REQUEST).finish(), Obtained)
    assert world.server.count == 2
    world.store.remove(REQUEST.identity)


def test_a_credential_stays_held_while_another_one_works() -> None:
    world = World()
    world.server.script = [answer(401, error="invalid_client")]
    old = Process("old", "old")
    failed(world, process=old)
    held = failed(world, process=old)
    assert (held.credential, held.counts, world.server.count) == ("tag of old", False, 1)


def test_a_refused_credential_is_remembered_in_the_process_until_the_source_gives_another() -> None:
    world = World()
    past = Past(3, Failed(CredentialRefusedError("no"), 8.0, "tag of old", counts=False))
    process = Process("p", "old")
    assert world.run(process, REQUEST, past=past).finish() is past.refused
    assert (world.server.count, world.store_operations) == (0, 0)
    process.secret = "new"
    assert isinstance(world.run(process, REQUEST, past=past).finish(), Obtained)


def test_a_rotated_secret_is_tried_at_once_and_once() -> None:
    world = World()
    world.server.script = [answer(401, error="invalid_client")]
    process = Process("p", "old", later_secrets=["new"])
    run = world.run(process, REQUEST)
    assert isinstance(run.finish(), Obtained)
    first, second = (effect.request.body for effect in sends(run))
    assert (b"client_secret=old" in first, b"client_secret=new" in second) == (True, True)
    assert pauses(run) == []


def test_a_rotated_secret_that_is_refused_too_is_held_under_its_own_tag() -> None:
    world = World()
    world.server.always = lambda _: answer(401, error="invalid_client")
    process = Process("p", "old", later_secrets=["new", "newest"])
    result = failed(world, process=process)
    assert (result.credential, world.server.count) == ("tag of new", 2)


def test_a_rotated_secret_gets_one_try_even_when_it_cannot_be_reached() -> None:
    world = World()
    world.server.script = [answer(401, error="invalid_client"), Failure("connect", "x"), Failure("connect", "x")]
    result = failed(world, process=Process("p", "old", later_secrets=["new"]))
    assert isinstance(result.error, UnreachableError)
    assert world.server.count == 2


def test_a_source_that_fails_after_a_refusal_leaves_the_refusal() -> None:
    world = World()
    world.server.always = lambda _: answer(401, error="invalid_client")

    class Flaky(Process):
        reads = 0

        def read_secret(self) -> effects.Credential | ConfigurationError:
            self.reads += 1
            return super().read_secret() if self.reads == 1 else ConfigurationError("gone")

    assert isinstance(failed(world, process=Flaky("p")).error, CredentialRefusedError)


def test_a_secret_that_cannot_be_read_is_the_result_and_nothing_is_asked() -> None:
    world = World()
    error = ConfigurationError("the file is gone", key="client_secret")
    assert failed(world, process=Process("p", error)) == Failed(error, 0.0, counts=False)
    assert (world.server.count, world.store_operations) == (0, 0)


def test_a_transport_that_cannot_be_configured_is_the_result_and_the_lease_is_given_back() -> None:
    world = World()
    error = ConfigurationError("the CA file is gone", key="SSL_CERT_FILE")
    world.server.always = lambda _: error
    assert failed(world) == Failed(error, 0.0, counts=False)
    claimed = world.store.claim(REQUEST.identity, newer_than=None, credential="", owner="x", lease=1.0)
    assert isinstance(claimed.directive, Lead)


# -- throttling ------------------------------------------------------------------------------------------------


def throttled(after: str | None, **members: object) -> Response:
    return answer(429, () if after is None else (("retry-after", after),), **members)


@pytest.mark.parametrize(("after", "hold"), [("7", 7.0), ("86400", 300.0), ("0", 1.0), ("300", 300.0)])
def test_retry_after_is_honoured_and_capped_b09_b10(after: str, hold: float) -> None:
    world = World()
    world.server.always = lambda _: throttled(after)
    result = failed(world)
    assert isinstance(result.error, ThrottledError)
    assert result.hold == hold
    assert world.server.count == 1
    world.now += hold - 0.2
    assert failed(world).hold == pytest.approx(0.2 - 0.1, abs=0.11)
    world.now += 0.3
    failed(world)
    assert world.server.count == 2


def test_throttling_without_a_time_backs_off() -> None:
    world = World()
    world.server.always = lambda _: answer(400, error="slow_down")
    assert 1.0 <= failed(world).hold < 2.0


def test_a_throttle_holds_every_identity_of_that_endpoint_and_client_and_no_other() -> None:
    world = World()
    world.server.script = [throttled("60")]
    failed(world)
    same = failed(world, wanted(scope="another"))
    assert isinstance(same.error, ThrottledError)
    assert same.hold == pytest.approx(60, abs=0.5)
    assert (same.counts, world.server.count) == (False, 1)
    other = wanted(client_id="billing")
    assert throttle_key(other.registration) != throttle_key(REQUEST.registration)
    assert isinstance(world.run(Process("p"), other).finish(), Obtained)


def test_a_throttled_process_gives_the_lease_back() -> None:
    world = World()
    world.store.hold_endpoint(throttle_key(REQUEST.registration), Hold(30.0, ThrottledError("slow."), 1))
    failed(world)
    claimed = world.store.claim(REQUEST.identity, newer_than=None, credential="", owner="x", lease=1.0)
    assert isinstance(claimed.directive, Lead)


# -- attempts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [answer(500), answer(503), Failure("read", "truncated"), Failure("resolve", "x")])
def test_a_fault_that_may_pass_is_tried_three_times_within_the_deadline(fault: Response | Failure) -> None:
    world = World()
    world.server.always = lambda _: fault
    process = Process("p")
    run = world.run(process, REQUEST)
    result = run.finish()
    assert isinstance(result.error, UnreachableError)
    assert len(sends(run)) == 3
    assert len(events_of(process, AttemptFailed)) == 2
    assert all(seconds <= bound for seconds, bound in zip(pauses(run), (0.25, 0.5), strict=True))
    requests = [effect.request for effect in sends(run)]
    assert len({id(request) for request in requests}) == 3
    assert 1.0 <= result.hold < 2.0


@pytest.mark.parametrize("good", [1, 2])
def test_a_further_attempt_may_succeed(good: int) -> None:
    world = World()
    world.server.script = [Failure("connect", "refused")] * good
    assert obtained(world).stored.record.value == "token-1"
    assert world.server.count == good + 1


@pytest.mark.parametrize("kind", ["tls", "blocked", "too_large"])
def test_a_fault_that_will_not_pass_is_not_tried_again(kind: str) -> None:
    world = World()
    world.server.always = lambda _: Failure(kind, "no")  # type: ignore[arg-type]
    failed(world)
    assert world.server.count == 1


def test_holds_for_an_unreachable_server_stay_short() -> None:
    world = World()
    world.server.always = lambda _: Failure("tls", "no")
    holds = []
    for _ in range(5):
        holds.append(failed(world).hold)
        world.now += holds[-1] + 0.001
    assert max(holds) <= 5.0


@pytest.mark.parametrize("latency", [30.0, 4.0, 9.9])
def test_the_deadline_bounds_all_attempts_together(latency: float) -> None:
    world = World()
    world.server.latency = latency
    world.server.always = lambda _: answer(500)
    run = world.run(Process("p"), REQUEST)
    result = run.finish()
    assert isinstance(result.error, UnreachableError)
    assert world.now <= 1_000.0 + DEADLINE
    assert all(effect.timeout <= DEADLINE for effect in sends(run))


def test_no_further_attempt_when_there_is_no_time_for_its_pause() -> None:
    world = World()
    world.server.latency = 9.99
    world.server.script = [answer(500)]
    world.random.random = lambda: 0.9  # type: ignore[method-assign]
    failed(world)
    assert world.server.count == 1


class Frozen(World):
    """A world that sleeps for a long time before a chosen kind of effect."""

    def __init__(self, kind: type, nth: int, seconds: float) -> None:
        super().__init__()
        self.kind, self.nth, self.seconds = kind, nth, seconds

    def play(self, run: Run) -> object:
        seen = 0
        while not run.done:
            self.now = max(self.now, run.ready_at)
            if run.before(self.kind):
                seen += 1
                self.now += self.seconds * (seen == self.nth)
            run.step()
        return run.result


def test_a_process_that_slept_past_its_deadline_before_asking_does_not_ask() -> None:
    world = Frozen(effects.EndpointHold, 1, 60.0)
    result = world.play(world.run(Process("p"), REQUEST))
    assert isinstance(result, Failed)
    assert "no time left" in str(result.error)
    assert world.server.count == 0


def test_a_process_that_slept_past_its_deadline_between_attempts_gives_the_last_error() -> None:
    world = Frozen(effects.Claim, 2, 60.0)
    world.server.always = lambda _: answer(500)
    result = world.play(world.run(Process("p"), REQUEST))
    assert isinstance(result, Failed)
    assert "HTTP 500" in str(result.error)
    assert world.server.count == 1


def test_a_process_that_slept_through_the_life_of_its_token_does_not_keep_it() -> None:
    world = World()
    run = world.run(Process("p"), REQUEST)
    run.advance_to(effects.Send)
    run.step()
    world.now += 7200
    result = run.finish()
    assert isinstance(result.error, MalformedResponseError)
    assert world.store.read(REQUEST.identity) is None
